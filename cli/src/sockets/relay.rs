//! The thread that passes bytes on.

use std::collections::{BTreeMap, VecDeque};
use std::io::{ErrorKind, Read as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hv_wire::control::{Assembler, FromSockets, ToSockets};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use zerocopy::IntoBytes as _;

use super::folder::{Connected, Folder};
use super::greeting::{Greeting, Said};
use super::outlet::Outlet;
use super::stream::{Stream, say};
use super::{Beginning, First};

/// Bytes to the hypervisor above which no more are read from programs.
const FULL: usize = 256 << 10;
/// Messages read from a program in one turn.
const TURN: usize = 8;
/// Programs that have not said what they want, or wait for the guest.
const WAITING: usize = 320;
/// Streams that have ended and whose programs have not read everything.
const LINGERING: usize = 64;
/// How long a program has to say what it wants.
const GREETING: Duration = Duration::from_secs(10);
/// How long a program has to accept the guest's connection: Linux's connect fails after two seconds.
const ACCEPTING: Duration = Duration::from_millis(1500);
/// How often that is tried.
const RETRY: Duration = Duration::from_millis(20);
/// How long programs have to read the rest when the machine has ended, after the last that was read.
const REST: Duration = Duration::from_secs(2);

/// The guest's connection that a program has not accepted.
#[derive(Debug)]
struct Pending {
    stream: u32,
    port: u32,
    since: Instant,
}

/// Everything between the programs and the hypervisor.
#[derive(Debug)]
pub(super) struct Relay {
    folder: Arc<Folder>,
    listener: UnixListener,
    /// The tool's end of the sockets' port; `None` once the machine has ended.
    port: Option<UnixStream>,
    /// To the hypervisor.
    outlet: Outlet,
    assembler: Box<Assembler>,
    /// Bytes of the hypervisor's that were read before.
    sent: VecDeque<u8>,
    /// What to do before the first message is answered.
    first: Option<First>,
    greetings: Vec<Greeting>,
    /// Programs whose connection the guest has not taken, by their names.
    requests: BTreeMap<u32, UnixStream>,
    next_request: u32,
    pending: Vec<Pending>,
    streams: BTreeMap<u32, Stream>,
    /// Streams that have ended, oldest first.
    lingering: VecDeque<Stream>,
    /// No program is accepted before this: there were no descriptors.
    pause: Option<Instant>,
    /// When programs last read something.
    progress: Instant,
}

/// What a descriptor of a poll belongs to.
#[derive(Clone, Copy, Debug)]
enum Who {
    Port,
    Listener,
    Greeting(usize),
    Stream(u32),
    Lingering(usize),
}

impl Relay {
    pub(super) fn new(
        folder: Arc<Folder>,
        listener: UnixListener,
        port: UnixStream,
        beginning: Beginning,
    ) -> anyhow::Result<Self> {
        listener.set_nonblocking(true)?;
        port.set_nonblocking(true)?;
        Ok(Self {
            folder,
            listener,
            port: Some(port),
            outlet: Outlet::default(),
            assembler: Box::new(Assembler::new()),
            sent: beginning.sent.into(),
            first: beginning.first,
            greetings: Vec::new(),
            requests: BTreeMap::new(),
            next_request: 0,
            pending: Vec::new(),
            streams: BTreeMap::new(),
            lingering: VecDeque::new(),
            pause: None,
            progress: Instant::now(),
        })
    }

    /// Passes bytes on until the machine has ended, and the programs have read the rest, or do not read it.
    pub(super) fn run(&mut self) {
        if !self.sent.is_empty() {
            self.hear();
            self.flush();
        }
        while self.port.is_some() || self.has_rest() {
            let ready = self.wait();
            for (who, events) in ready {
                self.serve(who, events);
            }
            self.lingering.retain(Stream::has_bytes);
            self.expire();
            self.flush();
        }
    }

    /// Returns true if programs still read what an ended machine has sent.
    fn has_rest(&mut self) -> bool {
        let streams = std::mem::take(&mut self.streams);
        self.lingering.extend(streams.into_values().filter(Stream::has_bytes));
        !self.lingering.is_empty() && self.progress.elapsed() < REST
    }

    /// Waits for something to do.
    fn wait(&mut self) -> Vec<(Who, PollFlags)> {
        let now = Instant::now();
        let port_events = if self.outlet.is_empty() { PollFlags::IN } else { PollFlags::IN | PollFlags::OUT };
        let mut set: Vec<(Who, PollFd<'_>)> = Vec::new();
        if let Some(port) = &self.port {
            set.push((Who::Port, PollFd::new(port, port_events)));
            let waiting = self.greetings.len() + self.requests.len();
            if waiting < WAITING && self.pause.is_none_or(|pause| pause <= now) {
                set.push((Who::Listener, PollFd::new(&self.listener, PollFlags::IN)));
            }
            for (at, greeting) in self.greetings.iter().enumerate() {
                if let Some(socket) = greeting.socket() {
                    set.push((Who::Greeting(at), PollFd::new(socket, PollFlags::IN)));
                }
            }
        }
        let room = self.outlet.len() < FULL;
        for (id, stream) in &self.streams {
            let mut events = PollFlags::empty();
            events.set(PollFlags::IN, room && stream.wants_bytes());
            events.set(PollFlags::OUT, stream.has_bytes());
            // One that nothing is wanted of would be reported forever once its program has gone.
            if !events.is_empty() {
                set.push((Who::Stream(*id), PollFd::new(stream.socket(), events)));
            }
        }
        for (at, stream) in self.lingering.iter().enumerate() {
            set.push((Who::Lingering(at), PollFd::new(stream.socket(), PollFlags::OUT)));
        }
        let timeout = self.timeout(now);
        let (who, mut polls): (Vec<Who>, Vec<PollFd<'_>>) = set.into_iter().unzip();
        if poll(&mut polls, timeout.as_ref()).is_err() {
            // Interrupted by a signal.
            return Vec::new();
        }
        let found = who.into_iter().zip(&polls).map(|(who, poll)| (who, poll.revents()));
        found.filter(|(_, events)| !events.is_empty()).collect()
    }

    /// Returns when to look again though nothing has happened.
    fn timeout(&self, now: Instant) -> Option<Timespec> {
        let greeting = self.greetings.iter().map(|greeting| greeting.since + GREETING).min();
        let retry = (!self.pending.is_empty()).then(|| now + RETRY);
        let rest = self.port.is_none().then(|| self.progress + REST);
        let due = [greeting, retry, rest, self.pause].into_iter().flatten().min()?;
        Timespec::try_from(due.saturating_duration_since(now)).ok()
    }

    fn serve(&mut self, who: Who, events: PollFlags) {
        match who {
            Who::Port => self.hear(),
            Who::Listener => self.accept(),
            Who::Greeting(at) => self.greet(at),
            Who::Stream(id) => self.pass(id, events),
            Who::Lingering(at) => {
                if let Some(stream) = self.lingering.get_mut(at) {
                    // Nothing more is said of a stream that has ended.
                    match stream.write(0, &mut Outlet::default()) {
                        Ok(()) => self.progress = Instant::now(),
                        Err(_) => stream.give_up(),
                    }
                }
            }
        }
    }

    /// Takes new programs.
    fn accept(&mut self) {
        while self.greetings.len() + self.requests.len() < WAITING {
            match self.listener.accept() {
                Ok((socket, _)) => {
                    if socket.set_nonblocking(true).is_ok() {
                        self.greetings.push(Greeting::new(socket, Instant::now()));
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => {
                    self.pause = Some(Instant::now() + RETRY);
                    return;
                }
            }
        }
    }

    /// Reads what a program wants. Those that are through are removed in [`expire`](Self::expire).
    fn greet(&mut self, at: usize) {
        let Some(greeting) = self.greetings.get_mut(at) else { return };
        match greeting.read() {
            Said::Part => {}
            Said::Nothing => drop(greeting.take()),
            Said::Port(port) => {
                let Some(socket) = greeting.take() else { return };
                self.next_request = self.next_request.wrapping_add(1);
                self.requests.insert(self.next_request, socket);
                say(&mut self.outlet, &ToSockets::Connect { request: self.next_request, port });
            }
        }
    }

    /// Passes the bytes of a stream on.
    fn pass(&mut self, id: u32, events: PollFlags) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let mut outcome = Ok(());
        if stream.has_bytes() {
            outcome = stream.write(id, &mut self.outlet);
        }
        if outcome.is_ok() && events.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            outcome = stream.read(id, TURN, &mut self.outlet);
        }
        if outcome.is_err() {
            // The program has gone.
            self.streams.remove(&id);
            say(&mut self.outlet, &ToSockets::Reset { stream: id });
        }
    }

    /// Reads from the port.
    fn hear(&mut self) {
        // As many bytes as the console has room for: then the others have their turn.
        let mut budget: usize = 64 << 10;
        while budget > 0 {
            let (Some(port), Ok(space)) = (&mut self.port, self.assembler.space()) else {
                self.port = None;
                break;
            };
            if !space.is_empty() {
                let read = match self.sent.len() {
                    0 => port.read(space),
                    _ => self.sent.read(space),
                };
                match read {
                    Ok(0) => self.port = None,
                    Ok(bytes) => {
                        self.assembler.advance(bytes);
                        budget = budget.saturating_sub(bytes);
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                    Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                    Err(_) => self.port = None,
                }
            }
            if self.port.is_none() {
                break;
            }
            let Some((head, body)) = self.assembler.frame() else { continue };
            // What is done before the first message is done before no other.
            let first = self.first.take();
            if let Some(message) = FromSockets::decode(&head, body) {
                let is_awaited = |first: &First| {
                    matches!(message, FromSockets::Connect { port, .. } if port == first.port)
                        && self.greetings.is_empty()
                        && self.requests.is_empty()
                };
                if let (Some(first), Some(port)) = (first.filter(is_awaited), &self.port) {
                    (first.action)(&[head.as_bytes(), body].concat(), port);
                }
                // The assembler is lent to the message.
                let Self { streams, outlet, requests, pending, lingering, folder, .. } = self;
                let mut parts = Parts { streams, outlet, requests, pending, lingering, folder };
                parts.obey(&message);
            }
            self.assembler.done();
        }
        self.progress = Instant::now();
    }

    /// Does what is due by the clock, and tries again to connect.
    fn expire(&mut self) {
        let now = Instant::now();
        self.greetings.retain(|greeting| greeting.socket().is_some() && now < greeting.since + GREETING);
        self.pause = self.pause.filter(|pause| *pause > now);
        let pending = std::mem::take(&mut self.pending);
        let Self { streams, outlet, requests, pending: left, lingering, folder, .. } = self;
        let mut parts = Parts { streams, outlet, requests, pending: left, lingering, folder };
        for Pending { stream, port, since } in pending {
            parts.connect(stream, port, since);
        }
    }

    /// Writes to the port.
    fn flush(&mut self) {
        let Some(port) = &mut self.port else { return };
        if self.outlet.write(port).is_err() {
            // The machine has ended, and what it has sent before can still be read.
            self.outlet = Outlet::default();
        }
    }
}

/// What the hypervisor's messages are about.
struct Parts<'r> {
    streams: &'r mut BTreeMap<u32, Stream>,
    outlet: &'r mut Outlet,
    requests: &'r mut BTreeMap<u32, UnixStream>,
    pending: &'r mut Vec<Pending>,
    lingering: &'r mut VecDeque<Stream>,
    folder: &'r Folder,
}

impl Parts<'_> {
    fn obey(&mut self, message: &FromSockets<'_>) {
        match *message {
            FromSockets::Connect { stream, port } => self.connect(stream, port, Instant::now()),
            FromSockets::Opened { request, stream, own } => match self.requests.remove(&request) {
                Some(socket) => {
                    self.streams.insert(stream, Stream::new(socket, format!("OK {own}\n").as_bytes()));
                    self.write(stream);
                }
                None => say(self.outlet, &ToSockets::Reset { stream }),
            },
            // The program finds its socket closed.
            FromSockets::Refused { request } => drop(self.requests.remove(&request)),
            FromSockets::Credit { stream, bytes } => {
                if let Some(stream) = self.streams.get_mut(&stream) {
                    stream.add_credit(bytes);
                }
            }
            FromSockets::Data { stream: id, bytes } => {
                let Some(stream) = self.streams.get_mut(&id) else { return };
                if stream.guest_sent(id, bytes, self.outlet).is_err() {
                    self.lose(id);
                }
            }
            FromSockets::Finished { stream } => {
                if let Some(stream) = self.streams.get_mut(&stream) {
                    stream.finish();
                }
            }
            FromSockets::Ended { stream } => {
                self.pending.retain(|pending| pending.stream != stream);
                let Some(mut stream) = self.streams.remove(&stream) else { return };
                stream.finish();
                if stream.has_bytes() {
                    self.lingering.push_back(stream);
                    // A guest must not make the tool hold ever more.
                    if self.lingering.len() > LINGERING {
                        self.lingering.pop_front();
                    }
                }
            }
        }
    }

    fn write(&mut self, id: u32) {
        let gone = self.streams.get_mut(&id).is_some_and(|stream| stream.write(id, self.outlet).is_err());
        if gone {
            self.lose(id);
        }
    }

    fn lose(&mut self, id: u32) {
        if self.streams.remove(&id).is_some() {
            say(self.outlet, &ToSockets::Reset { stream: id });
        }
    }

    /// Connects the guest to a program.
    fn connect(&mut self, stream: u32, port: u32, since: Instant) {
        match self.folder.connect(port) {
            Connected::Yes(socket) => {
                self.streams.insert(stream, Stream::new(socket, &[]));
                say(self.outlet, &ToSockets::Accept { stream });
            }
            Connected::Later if since.elapsed() < ACCEPTING => {
                self.pending.push(Pending { stream, port, since });
            }
            Connected::Later | Connected::No => say(self.outlet, &ToSockets::Refuse { stream }),
        }
    }
}
