//! The conversation with the agent in the guest.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hv_wire::control::{Assembler, CONTROL_VERSION, FromAgent, MAX_AGENT_DATA, MAX_FRAME, ToAgent};

use super::input::{self, Credit};
use super::terminal::{Raw, Terminal};
use super::{NO_PROGRAM, NOT_FOUND};
use crate::ui::{self, Screen, Stream};

/// What to run.
#[derive(Debug)]
pub(super) struct Command {
    /// The command's words.
    pub(super) words: Vec<Vec<u8>>,
    /// The terminal that it gets, like the user's.
    pub(super) terminal: Option<Terminal>,
}

/// How the command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It exited with this status.
    Exited(u8),
    /// This signal ended it.
    Killed(u8),
    /// The guest could not start it: Linux's error.
    NotStarted(i32),
}

impl Outcome {
    /// The exit code of a shell for it.
    pub(super) fn code(self) -> u8 {
        match self {
            Self::Exited(status) => status,
            Self::Killed(signal) => signal.saturating_add(128),
            Self::NotStarted(error) if error == rustix::io::Errno::NOENT.raw_os_error() => NOT_FOUND,
            Self::NotStarted(_) => NO_PROGRAM,
        }
    }
}

/// What is known of the command.
#[derive(Debug, Default)]
struct State {
    ready: bool,
    outcome: Option<Outcome>,
    /// The user's terminal, while keys go to the guest as they are.
    raw: Option<Raw>,
}

/// A conversation, from the start of the guest on.
#[derive(Debug, Default)]
pub(super) struct Session {
    state: Arc<Mutex<State>>,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Session {
    /// Waits for the agent in a thread, and has it run the command.
    pub(super) fn start(&self, listener: UnixListener, command: Command) {
        let state = Arc::clone(&self.state);
        // The end of the run does not wait for it: a machine that ends early closes the connection, or there never is one.
        std::thread::spawn(move || {
            // Without an outcome, the end of the machine tells more than this error.
            let _ = serve(&listener, &command, &state);
            lock(&state).raw = None;
        });
    }

    /// Returns how the command ended, if it did, once the machine has; the user's terminal is as before.
    pub(super) fn end(&self) -> Option<Outcome> {
        let mut state = lock(&self.state);
        state.raw = None;
        state.outcome
    }

    /// Returns true if the agent was there.
    pub(super) fn was_ready(&self) -> bool {
        lock(&self.state).ready
    }
}

/// The way to the agent, for several threads.
pub(super) type Mouth = Arc<Mutex<UnixStream>>;

/// Sends a message.
pub(super) fn say(mouth: &Mouth, message: &ToAgent<'_>) -> io::Result<()> {
    let mut frame = vec![0; MAX_FRAME];
    let length = message.encode(0, &mut frame).ok_or(ErrorKind::InvalidInput)?;
    mouth.lock().unwrap_or_else(PoisonError::into_inner).write_all(&frame[..length])
}

/// Speaks with the agent until the command has ended.
fn serve(listener: &UnixListener, command: &Command, state: &Mutex<State>) -> io::Result<()> {
    let (socket, _) = listener.accept()?;
    let mouth = Arc::new(Mutex::new(socket.try_clone()?));
    let credit = Credit::default();
    let mut outputs = [Output::new(Stream::Stdout), Output::new(Stream::Stderr)];
    let mut ear = Ear { socket, assembler: Box::new(Assembler::new()) };
    let outcome = loop {
        let outcome = ear.next(|message| match message {
            FromAgent::Ready { version } if version == CONTROL_VERSION => {
                lock(state).ready = true;
                begin(&mouth, command, state, &credit).map(|()| None)
            }
            FromAgent::Ready { .. } => Err(ErrorKind::Unsupported.into()),
            FromAgent::Output { stream, bytes } => {
                let output = usize::from(stream).checked_sub(1).and_then(|which| outputs.get_mut(which));
                if output.is_some_and(|output| !output.write(bytes)) {
                    say(&mouth, &ToAgent::OutputEnd { stream })?;
                }
                Ok(None)
            }
            FromAgent::Credit { bytes } => {
                credit.add(bytes);
                Ok(None)
            }
            FromAgent::Exited { status } => Ok(Some(Outcome::Exited(status))),
            FromAgent::Killed { signal } => Ok(Some(Outcome::Killed(signal))),
            FromAgent::NotStarted { error } => Ok(Some(Outcome::NotStarted(error as i32))),
        })?;
        if let Some(outcome) = outcome {
            break outcome;
        }
    };
    outputs.iter_mut().for_each(Output::end);
    let mut ended = lock(state);
    ended.outcome = Some(outcome);
    ended.raw = None;
    drop(ended);
    say(&mouth, &ToAgent::Bye {})
}

/// Names the command, and has it started.
fn begin(mouth: &Mouth, command: &Command, state: &Mutex<State>, credit: &Credit) -> io::Result<()> {
    for word in &command.words {
        let mut parts = word.chunks(MAX_AGENT_DATA).peekable();
        if parts.peek().is_none() {
            say(mouth, &ToAgent::Word { last: true, bytes: &[] })?;
        }
        while let Some(bytes) = parts.next() {
            say(mouth, &ToAgent::Word { last: parts.peek().is_none(), bytes })?;
        }
    }
    let terminal = command.terminal.as_ref();
    let (rows, columns) = terminal.map_or((0, 0), |terminal| terminal.size);
    let kind = terminal.map_or(&[][..], |terminal| terminal.kind.as_bytes());
    say(mouth, &ToAgent::Start { terminal: terminal.is_some(), rows, columns, kind })?;
    if let Some(terminal) = terminal {
        lock(state).raw = Raw::enter();
        terminal.watch(mouth);
    }
    input::forward(mouth, credit, terminal.is_some());
    Ok(())
}

/// The way from the agent.
struct Ear {
    socket: UnixStream,
    assembler: Box<Assembler>,
}

impl Ear {
    /// Waits for the next message.
    fn next<T>(&mut self, take: impl FnOnce(FromAgent<'_>) -> io::Result<T>) -> io::Result<T> {
        let invalid = || io::Error::from(ErrorKind::InvalidData);
        loop {
            let space = self.assembler.space().map_err(|_| invalid())?;
            if !space.is_empty() {
                match self.socket.read(space) {
                    Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                    Ok(bytes) => self.assembler.advance(bytes),
                    Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                    Err(error) => return Err(error),
                }
            }
            if let Some((head, body)) = self.assembler.frame() {
                let result = take(FromAgent::decode(&head, body).ok_or_else(invalid)?);
                self.assembler.done();
                return result;
            }
        }
    }
}

/// One of our outputs, for the command's.
struct Output {
    stream: Stream,
    /// The filter of a terminal; a file or a pipe gets the bytes as they are.
    screen: Option<Screen>,
    /// Something reads it.
    open: bool,
}

impl Output {
    fn new(stream: Stream) -> Self {
        Self { stream, screen: stream.is_terminal().then(Screen::default), open: true }
    }

    /// Writes, and waits as long as the reader takes; returns false the first time that nothing reads it any more.
    fn write(&mut self, bytes: &[u8]) -> bool {
        let passed = self.screen.as_mut().map(|screen| screen.pass(bytes));
        let was = self.open;
        self.open &= ui::command(self.stream, passed.as_deref().unwrap_or(bytes));
        self.open || !was
    }

    /// Waits until everything is written.
    fn end(&mut self) {
        if let Some(screen) = &mut self.screen {
            ui::restore(self.stream, screen);
        }
        ui::settle(self.stream);
    }
}
