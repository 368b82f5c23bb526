//! The tool's end of the control port: requests out, answers in, in any order.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hv_wire::control::{Assembler, FromHypervisor, MAX_FRAME, Refusal, Service, ServiceState, ToHypervisor};

use super::memory::Memory;
use super::screen::{Area, Picture};

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

/// Why there is no answer.
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
}

#[derive(Debug)]
struct State {
    waiting: Waiting,
    next: u32,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ControlPort {
    /// Takes the stream whose other end QEMU has, and reads it in a thread of its own. Another one discards what the
    /// guest gives up of its memory, so that the first always reads.
    pub(super) fn new(stream: UnixStream, memory: Arc<Memory>) -> anyhow::Result<Self> {
        let state = Arc::new(Mutex::new(State { waiting: Some(HashMap::new()), next: 1 }));
        let (reader, shared) = (stream.try_clone()?, Arc::clone(&state));
        let stream = Arc::new(Mutex::new(stream));
        let (discards, given_up) = mpsc::channel();
        std::thread::spawn(move || {
            read(reader, &shared, &discards);
            // Who waits hears that there will be nothing.
            lock(&shared).waiting = None;
        });
        let (writer, discarding) = (Arc::clone(&stream), Arc::clone(&memory));
        std::thread::spawn(move || discard(&given_up, &discarding, &writer));
        Ok(Self { stream, state, copying: Mutex::new(false), memory })
    }

    /// Sends a request, and waits for its answer.
    pub(super) fn ask(&self, request: &ToHypervisor<'_>, timeout: Duration) -> Result<Answer, NoAnswer> {
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
        let answer = match request.encode(id, &mut buffer) {
            None => Err(NoAnswer::TooLong),
            Some(len) if lock(&self.stream).write_all(&buffer[..len]).is_err() => Err(NoAnswer::Ended),
            Some(_) => receiver.recv_timeout(timeout).map_err(|error| match error {
                RecvTimeoutError::Timeout => NoAnswer::Late,
                RecvTimeoutError::Disconnected => NoAnswer::Ended,
            }),
        };
        if let Some(waiting) = &mut lock(&self.state).waiting {
            waiting.remove(&id);
        }
        answer
    }
}

impl Drop for ControlPort {
    fn drop(&mut self) {
        let _ = lock(&self.stream).shutdown(std::net::Shutdown::Both);
    }
}

/// Discards what the guest gives up of its memory, and tells the hypervisor.
fn discard(given_up: &Receiver<Vec<u8>>, memory: &Memory, stream: &Mutex<UnixStream>) {
    let mut buffer = vec![0; MAX_FRAME];
    for ranges in given_up {
        memory.discard(&ranges);
        let Some(len) = (ToHypervisor::Discarded {}).encode(0, &mut buffer) else { continue };
        if lock(stream).write_all(&buffer[..len]).is_err() {
            return;
        }
    }
}

/// Reads answers until the stream ends, or has what is none.
fn read(mut stream: UnixStream, state: &Mutex<State>, discards: &Sender<Vec<u8>>) {
    let mut assembler = Box::new(Assembler::new());
    loop {
        let Ok(space) = assembler.space() else { return };
        if !space.is_empty() {
            match stream.read(space) {
                Ok(0) => return,
                Ok(bytes) => assembler.advance(bytes),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
        let Some((head, body)) = assembler.frame() else { continue };
        let message = FromHypervisor::decode(&head, body);
        if let Some(FromHypervisor::Discard { ranges }) = message {
            // Nothing was asked: it is no answer, whatever its id.
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
                let changed = Area { left, top, right, bottom };
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
