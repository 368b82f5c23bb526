//! The conversation with the agent in the guest.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hv_share::Access;
use hv_wire::control::{
    AGENT_ENTROPY, Assembler, CONTROL_VERSION, FromAgent, MAX_AGENT_DATA, MAX_FRAME, ToAgent,
};

use super::input::{self, Credit};
use super::junit::Transcript;
use super::terminal::Terminal;
use super::{FAILED, NO_PROGRAM, NOT_FOUND};
use crate::interrupt::{self, Undo};
use crate::random;
use crate::terminal::{LineEnds, Raw};
use crate::ui::{self, Screen, Stream};

/// How long the end of the machine waits until what the guest has sent before is read: the readers of stdout and stderr
/// may be slow.
const REST: Duration = Duration::from_secs(2);

/// What to run.
#[derive(Debug)]
pub(super) struct Command {
    /// The command's words.
    pub(super) words: Vec<Vec<u8>>,
    /// The guest expands patterns among them.
    pub(super) glob: bool,
    /// The terminal that it gets, like the user's.
    pub(super) terminal: Option<Terminal>,
    /// Where its outputs are kept too.
    pub(super) transcript: Option<Transcript>,
    /// The guest gets the time and entropy before.
    pub(super) renew: bool,
    /// Where the guest has folders of the host's.
    pub(super) shares: Vec<(Access, PathBuf)>,
}

/// Outcome of the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It exited with this status.
    Exited(u8),
    /// This signal ended it.
    Killed(u8),
    /// The guest could not start it: Linux's error.
    NotStarted(i32),
    /// The guest could not mount a folder of the host's, so it did not start it: which one, the step of
    /// [`share_step`](hv_wire::control::share_step), and Linux's error.
    NotShared(u32, u8, i32),
}

impl Outcome {
    /// Returns a shell's exit code for it.
    pub(super) fn code(self) -> u8 {
        match self {
            Self::Exited(status) => status,
            Self::Killed(signal) => signal.saturating_add(128),
            Self::NotStarted(error) if error == rustix::io::Errno::NOENT.raw_os_error() => NOT_FOUND,
            Self::NotStarted(_) => NO_PROGRAM,
            Self::NotShared(..) => FAILED,
        }
    }
}

/// Progress of the agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Progress {
    /// It had not connected, or not said that it is ready.
    #[default]
    None,
    /// It was ready.
    Ready,
    /// It had sent bytes that are not a message, or a message out of turn: nothing more was read.
    Invalid,
}

/// What is known of the command.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) progress: Progress,
    /// Set once the agent is ready: a silent console then needs no explanation.
    speaks: Arc<AtomicBool>,
    pub(super) outcome: Option<Outcome>,
    /// When the command was started, and how long it took.
    began: Option<Instant>,
    took: Option<Duration>,
    /// The user's terminal, while keys go to the guest as they are.
    raw: Option<Raw>,
    /// A thread speaks with the agent.
    speaking: bool,
    /// The machine has ended: the terminal stays as it is.
    over: bool,
}

/// A conversation, from the start of the guest on.
#[derive(Debug, Default)]
pub(super) struct Session {
    shared: Arc<(Mutex<State>, Condvar)>,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Session {
    /// Waits for the agent in a thread, and has it run the command.
    pub(super) fn start(&self, listener: UnixListener, command: Command) {
        let shared = Arc::clone(&self.shared);
        // It waits forever if the agent never connects.
        std::thread::spawn(move || {
            let (state, changed) = &*shared;
            while let Ok((socket, _)) = listener.accept() {
                lock(state).speaking = true;
                let result = serve(socket, &command, state);
                let mut state = lock(state);
                state.raw = None;
                state.speaking = false;
                // Of another error, the end of the machine tells more.
                if result.is_err_and(|error| error.kind() == ErrorKind::InvalidData) {
                    state.progress = Progress::Invalid;
                }
                changed.notify_all();
                // A guest that has to wait too long gives a connection up, and tries again.
                if state.progress != Progress::None {
                    return;
                }
            }
        });
    }

    /// Returns what is set once the agent is ready.
    pub(super) fn speaks(&self) -> Arc<AtomicBool> {
        Arc::clone(&lock(&self.shared.0).speaks)
    }

    /// Returns how long the command took, if it ended, or until now.
    pub(super) fn took(&self) -> Duration {
        let state = lock(&self.shared.0);
        state.took.or(state.began.map(|began| began.elapsed())).unwrap_or_default()
    }

    /// Returns how far the agent was and how the command ended, if it did, once the machine has: what the guest sent
    /// before is written, as far as it is read, and the user's terminal is as before.
    pub(super) fn end(&self) -> (Progress, Option<Outcome>) {
        let (state, changed) = &*self.shared;
        let mut state = lock(state);
        state.over = true;
        let rest = changed.wait_timeout_while(state, REST, |state| state.speaking);
        (state, _) = rest.unwrap_or_else(PoisonError::into_inner);
        state.raw = None;
        (state.progress, state.outcome)
    }
}

impl Drop for Session {
    /// Gives the terminal back, also where the run failed.
    fn drop(&mut self) {
        let mut state = lock(&self.shared.0);
        state.over = true;
        state.raw = None;
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

/// Speaks with the agent until the command has ended, and its output is written.
pub(super) fn serve(socket: UnixStream, command: &Command, state: &Mutex<State>) -> io::Result<()> {
    let mouth = Arc::new(Mutex::new(socket.try_clone()?));
    let output =
        |stream, which| Output::new(stream, command.transcript.clone().map(|transcript| (transcript, which)));
    let mut outputs = [output(Stream::Stdout, 0), output(Stream::Stderr, 1)];
    let ear = Ear { socket, assembler: Box::new(Assembler::new()) };
    let result = listen(ear, &mouth, command, state, &mut outputs);
    // Also if there is no outcome: the command may have changed the terminal.
    outputs.iter_mut().for_each(Output::end);
    let outcome = result?;
    let mut ended = lock(state);
    ended.outcome = Some(outcome);
    ended.took = ended.began.map(|began| began.elapsed());
    ended.raw = None;
    drop(ended);
    say(&mouth, &ToAgent::Bye {})
}

/// Does what the agent says until the command has ended.
fn listen(
    mut ear: Ear,
    mouth: &Mouth,
    command: &Command,
    state: &Mutex<State>,
    outputs: &mut [Output; 2],
) -> io::Result<Outcome> {
    let credit = Credit::default();
    let mut ready = false;
    loop {
        let outcome = ear.next(|message| {
            // It is ready once, before all else.
            if matches!(message, FromAgent::Ready { .. }) == ready {
                return Err(ErrorKind::InvalidData.into());
            }
            match message {
                FromAgent::Ready { version } => {
                    if version != CONTROL_VERSION {
                        return Err(ErrorKind::InvalidData.into());
                    }
                    ready = true;
                    begin(mouth, command, state, &credit)?;
                }
                FromAgent::Output { stream, bytes } => {
                    let output = usize::from(stream).checked_sub(1).and_then(|which| outputs.get_mut(which));
                    if !output.ok_or(ErrorKind::InvalidData)?.write(bytes) {
                        say(mouth, &ToAgent::OutputEnd { stream })?;
                    }
                }
                FromAgent::Credit { bytes } => credit.add(bytes),
                FromAgent::Exited { status } => return Ok(Some(Outcome::Exited(status))),
                FromAgent::Killed { signal } => return Ok(Some(Outcome::Killed(signal))),
                FromAgent::NotStarted { error } => return Ok(Some(Outcome::NotStarted(error as i32))),
                FromAgent::NotShared { index, step, error } => {
                    return Ok(Some(Outcome::NotShared(index, step, error as i32)));
                }
            }
            Ok(None)
        })?;
        if let Some(outcome) = outcome {
            return Ok(outcome);
        }
    }
}

/// Names the command, and has it started.
fn begin(mouth: &Mouth, command: &Command, state: &Mutex<State>, credit: &Credit) -> io::Result<()> {
    let mut known = lock(state);
    known.progress = Progress::Ready;
    known.speaks.store(true, Ordering::Relaxed);
    known.began = Some(Instant::now());
    drop(known);
    if command.renew {
        renew(mouth)?;
    }
    for (index, (access, path)) in (0..).zip(&command.shares) {
        let writable = *access == Access::ReadWrite;
        say(mouth, &ToAgent::Share { index, writable, path: path.as_os_str().as_bytes() })?;
    }
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
    say(mouth, &ToAgent::Start { terminal: terminal.is_some(), rows, columns, glob: command.glob, kind })?;
    if let Some(terminal) = terminal {
        let mut state = lock(state);
        if !state.over {
            state.raw = Raw::enter(LineEnds::Guest);
        }
        drop(state);
        terminal.watch(mouth);
    }
    input::forward(mouth, credit, terminal.is_some());
    Ok(())
}

/// Gives the guest the time, and entropy that no other guest has.
fn renew(mouth: &Mouth) -> io::Result<()> {
    let entropy = random::bytes::<AGENT_ENTROPY>().map_err(io::Error::other)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    say(mouth, &ToAgent::Renew { seconds: now.as_secs(), nanoseconds: now.subsec_nanos(), entropy: &entropy })
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
    screen: Option<(Arc<Mutex<Screen>>, Undo)>,
    /// Something reads it.
    open: bool,
    /// Where it is kept too, as which output.
    kept: Option<(Transcript, usize)>,
}

impl Output {
    fn new(stream: Stream, kept: Option<(Transcript, usize)>) -> Self {
        let screen = stream.is_terminal().then(|| {
            let screen = Arc::<Mutex<Screen>>::default();
            let shared = Arc::clone(&screen);
            let undo = interrupt::on_second_signal(move || {
                let mut screen = shared.lock().unwrap_or_else(PoisonError::into_inner);
                ui::restore_at_once(stream, &mut screen);
            });
            (screen, undo)
        });
        Self { stream, screen, open: true, kept }
    }

    /// Writes, and waits as long as the reader takes; returns false the first time that it is no longer read.
    fn write(&mut self, bytes: &[u8]) -> bool {
        if let Some((transcript, which)) = &self.kept {
            transcript.add(*which, bytes);
        }
        let filter =
            |screen: &Mutex<Screen>| screen.lock().unwrap_or_else(PoisonError::into_inner).pass(bytes);
        let passed = self.screen.as_ref().map(|(screen, _)| filter(screen));
        let was = self.open;
        self.open &= ui::command(self.stream, passed.as_deref().unwrap_or(bytes));
        self.open || !was
    }

    /// Waits until everything is written.
    fn end(&mut self) {
        if let Some((screen, _)) = &self.screen {
            ui::restore(self.stream, &mut screen.lock().unwrap_or_else(PoisonError::into_inner));
        }
        ui::settle(self.stream);
    }
}
