//! The control port: requests of the tool's to the guest's integration services, and what became of them.
//!
//! A call handles a few frames. A device that has an outcome for the tool says so with locks held, and has no lock that
//! it could take for the port: the embedder calls the port for it.
//!
//! Lock order: the port, then what the partition takes.

use hv_partition::RawMutex;
use hv_wire::control::{CONTROL_VERSION, FromHypervisor, MAX_FRAME, Refusal, Service, ToHypervisor};

use crate::link::{Link, Lost};
use crate::machine::{Machine, Serves};
use crate::pipe::{Pipe, Port};
use crate::services::Asked;

/// Frames that one call handles.
const FRAMES: usize = 4;

/// The control port.
#[derive(Debug)]
pub struct ControlPort<P> {
    link: Link<P>,
    /// Name of the request to each service whose outcome is pending.
    pending: [Option<u32>; Service::ALL.len()],
}

impl<P: Pipe> ControlPort<P> {
    /// Creates the port at the hypervisor's end of a stream.
    pub const fn new(pipe: P) -> Self {
        Self { link: Link::new(pipe), pending: [None; Service::ALL.len()] }
    }

    /// Has an outcome of a service answer this request.
    #[cfg(test)]
    pub(crate) const fn expect(&mut self, service: Service, id: u32) {
        self.pending[service as usize] = Some(id);
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
            if !self.link.has_room(MAX_FRAME) {
                state.note_outcome();
                return;
            }
            if machine.take(service, &mut |message| self.link.send(|into| message.encode(id, into))) {
                self.pending[service as usize] = None;
            }
        }
    }

    /// Has the tool discard pages that the guest has given up. Returns false if there is no room for the message.
    fn discard<R: RawMutex, H: Serves, const REQUESTS: usize>(
        &mut self,
        machine: &Machine<'_, R, H, REQUESTS>,
    ) -> bool {
        let link = &mut self.link;
        if !link.is_lost() && !link.has_room(MAX_FRAME) {
            return false;
        }
        if link.is_lost() || !machine.tell_discard(&mut |message| link.send(|into| message.encode(0, into))) {
            machine.discarded();
        }
        true
    }

    /// Handles frames of the tool's. Returns true if there may be more.
    fn hear<R: RawMutex, H: Serves, const REQUESTS: usize>(
        &mut self,
        machine: &Machine<'_, R, H, REQUESTS>,
    ) -> Result<bool, Lost<P::Broken>> {
        for _ in 0..FRAMES {
            let Some((head, body)) = self.link.next()? else { return Ok(false) };
            let answer = answer(machine, ToHypervisor::decode(&head, body), head.id, &mut self.pending);
            if let Some(answer) = answer {
                self.link.send(|into| answer.encode(head.id, into));
            }
        }
        Ok(true)
    }
}

impl<P: Pipe> Port for ControlPort<P> {
    type Pipe = P;

    fn link(&mut self) -> &mut Link<P> {
        &mut self.link
    }

    fn serve<R, H, const REQUESTS: usize>(&mut self, machine: &Machine<'_, R, H, REQUESTS>) -> bool
    where
        R: RawMutex,
        H: Serves,
    {
        self.link.begin();
        self.tell(machine);
        if self.link.is_lost() {
            return false;
        }
        let more = self.hear(machine).unwrap_or_else(|lost| {
            self.link.lose();
            machine.outside.log(format_args!("the control port is lost: {lost}"));
            // Memory that the tool was to discard is not waited for: the guest could never close its channel.
            machine.discarded();
            false
        });
        self.link.end(more)
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
