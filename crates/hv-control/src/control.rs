//! The control port: requests of the tool's to the guest's integration services, and what became of them.
//!
//! A call handles a few frames. A device that has an outcome for the tool says so with locks held, and has no lock that
//! it could take for the port: the embedder calls the port for it.
//!
//! Lock order: the port, then what the partition takes.

use core::fmt::Display;

use hv_partition::RawMutex;
use hv_wire::control::{
    Assembler, CONTROL_VERSION, FromHypervisor, MAX_FRAME, Refusal, Service, ToHypervisor,
};

use crate::machine::{Machine, Serves};
use crate::pipe::Pipe;
use crate::services::{Asked, Taken};

/// Frames that one call handles.
const FRAMES: usize = 4;

/// The control port.
#[derive(Debug)]
pub struct ControlPort<P> {
    pipe: P,
    incoming: Assembler,
    outgoing: [u8; MAX_FRAME],
    /// Name of the request to each service whose outcome is pending.
    pending: [Option<u32>; Service::ALL.len()],
    /// The tool sent what is not a frame, or the stream is broken: the port is unusable.
    lost: bool,
}

impl<P: Pipe> ControlPort<P> {
    /// Creates the port at the hypervisor's end of a stream.
    pub const fn new(pipe: P) -> Self {
        Self {
            pipe,
            incoming: Assembler::new(),
            outgoing: [0; MAX_FRAME],
            pending: [None; Service::ALL.len()],
            lost: false,
        }
    }

    /// Returns the stream.
    pub const fn pipe(&mut self) -> &mut P {
        &mut self.pipe
    }

    /// Returns true if the port is unusable.
    pub const fn is_lost(&self) -> bool {
        self.lost
    }

    /// Handles what the tool has sent, and sends what there is for it. Returns true if there may be more: call it
    /// again.
    pub fn serve<R, H, const REQUESTS: usize>(&mut self, machine: &Machine<'_, R, H, REQUESTS>) -> bool
    where
        R: RawMutex,
        H: Serves,
    {
        self.tell(machine);
        let more = self.hear(machine);
        self.pipe.flush();
        more
    }

    /// Sends the tool the outcomes that devices have.
    fn tell<R: RawMutex, H: Serves, const REQUESTS: usize>(&mut self, machine: &Machine<'_, R, H, REQUESTS>) {
        let state = machine.state;
        if !state.take_outcome() {
            return;
        }
        if state.has_discard() && !self.discard(machine) {
            state.note_outcome();
            return;
        }
        for service in Service::ALL {
            let Some(id) = self.pending[service as usize] else { continue };
            // The largest message has room, or the next call, which comes when there is some, comes here again.
            if !self.has_room() {
                state.note_outcome();
                return;
            }
            let Self { pipe, outgoing, .. } = self;
            let taken = machine.take(service, &mut |message| send(pipe, outgoing, id, message));
            if taken == Taken::Told {
                self.pending[service as usize] = None;
            }
        }
    }

    /// Has the tool discard pages that the guest has given up. Returns false if there is no room for the message.
    fn discard<R: RawMutex, H: Serves, const REQUESTS: usize>(
        &mut self,
        machine: &Machine<'_, R, H, REQUESTS>,
    ) -> bool {
        if !self.lost && !self.has_room() {
            return false;
        }
        let Self { pipe, outgoing, lost, .. } = self;
        if *lost || !machine.tell_discard(&mut |message| send(pipe, outgoing, 0, message)) {
            machine.discarded();
        }
        true
    }

    /// Gives the port up. Memory that the tool was to discard is not waited for: the guest could never close its
    /// channel.
    fn lose<R: RawMutex, H: Serves, const REQUESTS: usize>(
        &mut self,
        machine: &Machine<'_, R, H, REQUESTS>,
        why: &dyn Display,
    ) {
        self.lost = true;
        machine.outside.log(format_args!("the control port is lost: {why}"));
        machine.discarded();
    }

    fn has_room(&mut self) -> bool {
        self.pipe.room().is_ok_and(|room| room >= MAX_FRAME)
    }

    /// Handles frames of the tool's. Returns true if there may be more.
    fn hear<R: RawMutex, H: Serves, const REQUESTS: usize>(
        &mut self,
        machine: &Machine<'_, R, H, REQUESTS>,
    ) -> bool {
        for _ in 0..FRAMES {
            if self.lost || !self.has_room() {
                return false;
            }
            let Ok(space) = self.incoming.space() else {
                self.lose(machine, &"invalid frame from the tool");
                return false;
            };
            if !space.is_empty() {
                match self.pipe.read(space) {
                    Ok(0) => return false,
                    Ok(bytes) => self.incoming.advance(bytes),
                    Err(broken) => {
                        self.lose(machine, &broken);
                        return false;
                    }
                }
            }
            let Self { pipe, incoming, outgoing, pending, .. } = self;
            let Some((head, body)) = incoming.frame() else { continue };
            let answer = answer(machine, ToHypervisor::decode(&head, body), head.id, pending);
            if let Some(answer) = answer {
                send(pipe, outgoing, head.id, &answer);
            }
            incoming.done();
        }
        true
    }
}

/// Carries a request out. Returns its answer, unless the guest has to give that.
fn answer<R: RawMutex, H: Serves, const REQUESTS: usize>(
    machine: &Machine<'_, R, H, REQUESTS>,
    message: Option<ToHypervisor<'_>>,
    id: u32,
    pending: &mut [Option<u32>; Service::ALL.len()],
) -> Option<FromHypervisor<'static>> {
    let refused = |why| Some(FromHypervisor::Refused { why });
    match message {
        None => refused(Refusal::Unknown),
        Some(ToHypervisor::Hello { .. }) => Some(FromHypervisor::Hello { version: CONTROL_VERSION }),
        Some(ToHypervisor::Memory {}) if !machine.has(Service::Balloon) => refused(Refusal::Absent),
        Some(ToHypervisor::Memory {}) => Some(machine.memory()),
        Some(ToHypervisor::Screen {}) => Some(machine.screen()),
        Some(ToHypervisor::Discarded {}) => {
            machine.discarded();
            None
        }
        Some(ToHypervisor::Status {}) => Some(FromHypervisor::Status { services: machine.states() }),
        Some(
            request @ (ToHypervisor::DiskAdd { .. }
            | ToHypervisor::DiskRemove { .. }
            | ToHypervisor::DiskResize { .. }
            | ToHypervisor::Rescind { .. }
            | ToHypervisor::Link { .. }),
        ) => Some(match machine.change(&request) {
            Ok(()) => FromHypervisor::Outcome { outcome: 0, flags: 0 },
            Err(why) => FromHypervisor::Refused { why },
        }),
        Some(request) => match machine.ask(&request) {
            Asked::Done => Some(FromHypervisor::Outcome { outcome: 0, flags: 0 }),
            Asked::Pending(service) => {
                pending[service as usize] = Some(id);
                None
            }
            Asked::Refused(why) => refused(why),
        },
    }
}

/// Sends a message to the tool. There is room, which was asked for before.
fn send(pipe: &mut impl Pipe, buffer: &mut [u8; MAX_FRAME], id: u32, message: &FromHypervisor<'_>) {
    if let Some(len) = message.encode(id, buffer) {
        let _ = pipe.write(&buffer[..len]);
    }
}
