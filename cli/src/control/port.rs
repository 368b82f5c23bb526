//! The tool's end of the control port: requests out, answers in, in any order.

use std::collections::HashMap;
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hv_tlfs::vmbus::video::ScreenArea;
use hv_wire::control::{Assembler, FromHypervisor, MAX_FRAME, Refusal, Service, ServiceState, ToHypervisor};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::RecvFlags;

use super::memory::Memory;
use super::screen::Picture;
use crate::process;

/// How long the hypervisor may take to show that it has read everything, before it is asked again.
const ROUND: Duration = Duration::from_secs(2);

/// An answer of the hypervisor's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Status([ServiceState; Service::ALL.len()]),
    Refused(Refusal),
    Outcome {
        outcome: u64,
        flags: u32,
    },
    Pair {
        value_type: u32,
        key: Vec<u8>,
        value: Vec<u8>,
    },
    Addresses(Vec<u8>),
    /// Pages that the guest has given up, and if it has reported them, those that are available and those that it
    /// needs.
    Memory {
        taken: u64,
        pressure: Option<(u64, u64)>,
    },
    Screen(Picture),
}

/// Reason why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoAnswer {
    /// Not in time.
    Late,
    /// The machine has ended.
    Ended,
    /// The request is longer than a message may be.
    TooLong,
}

/// Requests that wait for their answers, by name; `None` once the machine has ended.
type Waiting = Option<HashMap<u32, Sender<Answer>>>;

/// The tool's end of the control port.
#[derive(Debug)]
pub(super) struct ControlPort {
    stream: Arc<Mutex<UnixStream>>,
    state: Arc<Mutex<State>>,
    /// Taken while a file is copied; true if the guest has a copy that was begun and not ended.
    pub(super) copying: Mutex<bool>,
    /// The guest's memory.
    pub(super) memory: Arc<Memory>,
    traffic: Arc<Traffic>,
}

#[derive(Debug)]
struct State {
    waiting: Waiting,
    next: u32,
}

/// What is on its way to or from the hypervisor.
#[derive(Debug, Default)]
struct Traffic {
    /// Requests that were sent and are waited for.
    asked: AtomicUsize,
    /// Ranges that the guest has given up, for which the hypervisor waits.
    discards: AtomicUsize,
    /// What has come of a message. Held while bytes are read and used, and not while none come.
    assembler: Mutex<Assembler>,
}

/// The port while no request is on its way. Others wait.
#[derive(Debug)]
pub(super) struct Still<'p> {
    port: &'p ControlPort,
    stream: MutexGuard<'p, UnixStream>,
    _copying: MutexGuard<'p, bool>,
}

impl Still<'_> {
    /// Returns the name of the next request if nothing comes of the hypervisor either: the machine is stopped.
    pub(super) fn next_request(&self) -> Option<u32> {
        let traffic = &self.port.traffic;
        let assembler = traffic.assembler.try_lock().ok()?;
        let is_still = assembler.is_empty()
            && rustix::io::ioctl_fionread(&*self.stream).is_ok_and(|bytes| bytes == 0)
            && traffic.discards.load(Ordering::SeqCst) == 0;
        is_still.then(|| lock(&self.port.state).next)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ControlPort {
    /// Takes the stream whose other end QEMU has, and reads it in a thread of its own. Another one discards what the
    /// guest gives up of its memory, so that the first always reads. `next`: the name of the first request.
    pub(super) fn new(stream: UnixStream, memory: Arc<Memory>, next: u32) -> anyhow::Result<Self> {
        let state = Arc::new(Mutex::new(State { waiting: Some(HashMap::new()), next: next.max(1) }));
        let traffic = Arc::new(Traffic::default());
        let (reader, shared) = (stream.try_clone()?, Arc::clone(&state));
        let stream = Arc::new(Mutex::new(stream));
        let (discards, given_up) = mpsc::channel();
        let coming = Arc::clone(&traffic);
        std::thread::spawn(move || {
            read(reader, &shared, &coming, &discards);
            // Who waits hears that there will be nothing.
            lock(&shared).waiting = None;
        });
        let (writer, discarding, going) = (Arc::clone(&stream), Arc::clone(&memory), Arc::clone(&traffic));
        std::thread::spawn(move || discard(&given_up, &discarding, &writer, &going));
        Ok(Self { stream, state, copying: Mutex::new(false), memory, traffic })
    }

    /// Sends a request, and waits for its answer.
    pub(super) fn ask(&self, request: &ToHypervisor<'_>, timeout: Duration) -> Result<Answer, NoAnswer> {
        self.ask_through(None, request, timeout)
    }

    /// Asks like [`ask`](ControlPort::ask), with the lock of the stream, if the caller has it.
    fn ask_through(
        &self,
        stream: Option<&mut UnixStream>,
        request: &ToHypervisor<'_>,
        timeout: Duration,
    ) -> Result<Answer, NoAnswer> {
        let (sender, receiver) = mpsc::channel();
        let id = {
            let mut state = lock(&self.state);
            let id = state.next;
            // 0 is what has no request.
            state.next = state.next.checked_add(1).unwrap_or(1);
            state.waiting.as_mut().ok_or(NoAnswer::Ended)?.insert(id, sender);
            id
        };
        let mut buffer = vec![0; MAX_FRAME];
        let send = |bytes: &[u8], stream: &mut UnixStream| {
            self.traffic.asked.fetch_add(1, Ordering::SeqCst);
            stream.write_all(bytes)
        };
        let sent = request.encode(id, &mut buffer).map(|len| match stream {
            Some(stream) => send(&buffer[..len], stream),
            None => send(&buffer[..len], &mut lock(&self.stream)),
        });
        let answer = match &sent {
            None => Err(NoAnswer::TooLong),
            Some(Err(_)) => Err(NoAnswer::Ended),
            Some(Ok(())) => receiver.recv_timeout(timeout).map_err(|error| match error {
                RecvTimeoutError::Timeout => NoAnswer::Late,
                RecvTimeoutError::Disconnected => NoAnswer::Ended,
            }),
        };
        if sent.is_some() {
            self.traffic.asked.fetch_sub(1, Ordering::SeqCst);
        }
        if let Some(waiting) = &mut lock(&self.state).waiting {
            waiting.remove(&id);
        }
        answer
    }

    /// Waits until every request has its answer and the hypervisor has read everything, and holds the port up. `go_on`
    /// returns false once it is no longer awaited.
    pub(super) fn still(&self, timeout: Duration, go_on: impl Fn() -> bool) -> Result<Still<'_>, NoAnswer> {
        let end = Instant::now().checked_add(timeout);
        while go_on() {
            let left = end.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()));
            let (copying, mut stream) = (self.copying.try_lock(), lock(&self.stream));
            if let Ok(copying) = copying
                && self.traffic.asked.load(Ordering::SeqCst) == 0
            {
                // It answers in order, so it has read all that was sent before. One that starts may lose a request.
                match self.ask_through(Some(&mut stream), &ToHypervisor::Status {}, left.min(ROUND)) {
                    Ok(_) => return Ok(Still { port: self, stream, _copying: copying }),
                    Err(NoAnswer::Late) => {}
                    Err(why) => return Err(why),
                }
            }
            drop(stream);
            if left.is_zero() {
                return Err(NoAnswer::Late);
            }
            std::thread::sleep(process::POLL);
        }
        Err(NoAnswer::Late)
    }
}

impl Drop for ControlPort {
    fn drop(&mut self) {
        let _ = lock(&self.stream).shutdown(std::net::Shutdown::Both);
    }
}

/// Discards what the guest gives up of its memory, and tells the hypervisor.
fn discard(given_up: &Receiver<Vec<u8>>, memory: &Memory, stream: &Mutex<UnixStream>, traffic: &Traffic) {
    let mut buffer = vec![0; MAX_FRAME];
    for ranges in given_up {
        memory.discard(&ranges);
        let Some(len) = (ToHypervisor::Discarded {}).encode(0, &mut buffer) else { continue };
        if lock(stream).write_all(&buffer[..len]).is_err() {
            return;
        }
        traffic.discards.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Reads answers until the stream ends, or has what is none.
fn read(stream: UnixStream, state: &Mutex<State>, traffic: &Traffic, discards: &Sender<Vec<u8>>) {
    loop {
        // Not under the lock, which is free while nothing comes.
        let waited = poll(&mut [PollFd::new(&stream, PollFlags::IN)], None);
        if waited.is_err_and(|error| error != Errno::INTR) {
            return;
        }
        let mut assembler = lock(&traffic.assembler);
        let Ok(space) = assembler.space() else { return };
        if !space.is_empty() {
            match rustix::net::recv(&stream, space, RecvFlags::DONTWAIT) {
                Ok((_, 0)) => return,
                Ok((_, bytes)) => assembler.advance(bytes),
                Err(Errno::INTR | Errno::AGAIN) => continue,
                Err(_) => return,
            }
        }
        let Some((head, body)) = assembler.frame() else { continue };
        let message = FromHypervisor::decode(&head, body);
        if let Some(FromHypervisor::Discard { ranges }) = message {
            // Nothing was asked: it is not an answer, whatever its id.
            traffic.discards.fetch_add(1, Ordering::SeqCst);
            let _ = discards.send(ranges.to_vec());
            assembler.done();
            continue;
        }
        let answer = match message {
            Some(FromHypervisor::Status { services }) => Some(Answer::Status(services)),
            Some(FromHypervisor::Refused { why }) => Some(Answer::Refused(why)),
            Some(FromHypervisor::Outcome { outcome, flags }) => Some(Answer::Outcome { outcome, flags }),
            Some(FromHypervisor::Pair { value_type, key, value }) => {
                Some(Answer::Pair { value_type, key: key.to_vec(), value: value.to_vec() })
            }
            Some(FromHypervisor::Addresses { bytes }) => Some(Answer::Addresses(bytes.to_vec())),
            Some(FromHypervisor::Memory { taken, reported, available, committed }) => {
                Some(Answer::Memory { taken, pressure: reported.then_some((available, committed)) })
            }
            Some(FromHypervisor::Screen {
                offset,
                depth,
                width,
                height,
                pitch,
                left,
                top,
                right,
                bottom,
            }) => {
                let changed = ScreenArea { left, top, right, bottom };
                Some(Answer::Screen(Picture { offset, depth, width, height, pitch, changed }))
            }
            Some(FromHypervisor::Discard { .. } | FromHypervisor::Hello { .. }) | None => None,
        };
        let sender = lock(state).waiting.as_mut().and_then(|waiting| waiting.remove(&head.id));
        if let (Some(answer), Some(sender)) = (answer, sender) {
            let _ = sender.send(answer);
        }
        assembler.done();
    }
}
