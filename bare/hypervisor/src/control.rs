//! The control port: requests of the tool's to the guest's integration services, and what became of them.
//!
//! It is a console of QEMU's, whose other end is a socket of the tool's. The guest never sees it: its transport is
//! absent from stage 2, and its interrupt comes here. An interrupt handles a few frames; if there are more, it raises
//! itself again. A device that has an outcome for the tool raises it too, since it has no lock that it could take for
//! that.
//!
//! Lock order: the port, then what the partition takes.

use core::fmt::{Display, Write};

use hv_virtio::Console;
use hv_wire::BootFlags;
use hv_wire::control::{
    Assembler, CONTROL_VERSION, FromHypervisor, MAX_FRAME, Refusal, Service, ToHypervisor,
};
use spin::Once;

use crate::consoles;
use crate::devices::{BUS, Services};
use crate::host::FaultyEmbedder;
use crate::lock::Mutex;
use crate::log::Log;
use crate::services::{self, Asked, Taken};
use crate::virtio::Mmio;
use crate::{balloon, gic, hotplug, outcomes};

/// Frames that one interrupt handles.
const FRAMES: usize = 4;

static PORT: Once<Mutex<State>> = Once::new();

/// The port.
struct State {
    console: Console<Mmio>,
    incoming: Assembler,
    outgoing: [u8; MAX_FRAME],
    /// Name of the request to each service whose outcome is pending.
    pending: [Option<u32>; Service::ALL.len()],
    /// The tool sent what is not a frame, or the console is broken: the port is unusable.
    lost: bool,
}

/// Takes the port into use, if the tool wants one. CPU 0 calls it once, before the guest starts.
pub(crate) fn begin(flags: u64) {
    if flags & BootFlags::CONTROL == 0 {
        return;
    }
    let (intid, console) = match consoles::take(consoles::CONTROL, flags) {
        Ok(taken) => taken,
        Err(why) => {
            let _ = writeln!(Log, "the control port is not used: {why}");
            return;
        }
    };
    PORT.call_once(|| {
        Mutex::new(State {
            console,
            incoming: Assembler::new(),
            outgoing: [0; MAX_FRAME],
            pending: [None; Service::ALL.len()],
            lost: false,
        })
    });
    outcomes::CONTROL.begin(intid);
    gic::take(intid, outcomes::CPU);
}

fn services() -> &'static Services {
    &BUS.devices().services
}

/// Handles the port's interrupt.
#[cold]
pub(crate) fn interrupt(host: &FaultyEmbedder<'_>) {
    let Some(port) = PORT.get() else { return };
    let mut state = port.lock();
    state.console.acknowledge();
    state.tell(host);
    let more = state.hear(host);
    state.console.flush();
    if more {
        outcomes::CONTROL.raise();
    }
}

impl State {
    /// Sends the tool the outcomes that devices have.
    fn tell(&mut self, host: &FaultyEmbedder<'_>) {
        if !outcomes::take() {
            return;
        }
        if balloon::has_news() && !self.discard(host) {
            outcomes::put_back();
            return;
        }
        for service in Service::ALL {
            let Some(id) = self.pending[service as usize] else { continue };
            // The largest message has room, or the next interrupt, which says that there is some, comes here again.
            if !self.has_room() {
                outcomes::put_back();
                return;
            }
            let Self { console, outgoing, .. } = self;
            let taken = services::take(host, services(), service, &mut |message| {
                send(console, outgoing, id, message);
            });
            if taken == Taken::Told {
                self.pending[service as usize] = None;
            }
        }
    }

    /// Has the tool discard pages that the guest has given up. Returns false if there is no room for the message.
    fn discard(&mut self, host: &FaultyEmbedder<'_>) -> bool {
        if !self.lost && !self.has_room() {
            return false;
        }
        let Self { console, outgoing, lost, .. } = self;
        if *lost || !balloon::tell(host, &mut |message| send(console, outgoing, 0, message)) {
            balloon::done(host);
        }
        true
    }

    /// Gives the port up. Memory that the tool was to discard is not waited for: the guest could never close its
    /// channel.
    fn lose(&mut self, host: &FaultyEmbedder<'_>, why: &dyn Display) {
        self.lost = true;
        let _ = writeln!(Log, "the control port is lost: {why}");
        balloon::done(host);
    }

    fn has_room(&mut self) -> bool {
        self.console.room().is_ok_and(|room| room >= MAX_FRAME)
    }

    /// Handles frames of the tool's. Returns true if there may be more.
    fn hear(&mut self, host: &FaultyEmbedder<'_>) -> bool {
        for _ in 0..FRAMES {
            if self.lost || !self.has_room() {
                return false;
            }
            let Ok(space) = self.incoming.space() else {
                self.lose(host, &"invalid frame from the tool");
                return false;
            };
            if !space.is_empty() {
                match self.console.read(space) {
                    Ok(0) => return false,
                    Ok(bytes) => self.incoming.advance(bytes),
                    Err(broken) => {
                        self.lose(host, &broken);
                        return false;
                    }
                }
            }
            let Self { console, incoming, outgoing, pending, .. } = self;
            let Some((head, body)) = incoming.frame() else { continue };
            let answer = answer(host, ToHypervisor::decode(&head, body), head.id, pending);
            if let Some(answer) = answer {
                send(console, outgoing, head.id, &answer);
            }
            incoming.done();
        }
        true
    }
}

/// Carries a request out. Returns its answer, unless the guest has to give that.
fn answer(
    host: &FaultyEmbedder<'_>,
    message: Option<ToHypervisor<'_>>,
    id: u32,
    pending: &mut [Option<u32>; Service::ALL.len()],
) -> Option<FromHypervisor<'static>> {
    let refused = |why| Some(FromHypervisor::Refused { why });
    match message {
        None => refused(Refusal::Unknown),
        Some(ToHypervisor::Hello { .. }) => Some(FromHypervisor::Hello { version: CONTROL_VERSION }),
        Some(ToHypervisor::Memory {}) if !services::is_there(host, Service::Balloon) => {
            refused(Refusal::Absent)
        }
        Some(ToHypervisor::Memory {}) => Some(balloon::state(host)),
        Some(ToHypervisor::Screen {}) => Some(services::screen(host, services())),
        Some(ToHypervisor::Discarded {}) => {
            balloon::done(host);
            None
        }
        Some(ToHypervisor::Status {}) => {
            Some(FromHypervisor::Status { services: services::states(host, services()) })
        }
        Some(
            request @ (ToHypervisor::DiskAdd { .. }
            | ToHypervisor::DiskRemove { .. }
            | ToHypervisor::DiskResize { .. }
            | ToHypervisor::Rescind { .. }
            | ToHypervisor::Link { .. }),
        ) => Some(match hotplug::change(host, &request) {
            Ok(()) => FromHypervisor::Outcome { outcome: 0, flags: 0 },
            Err(why) => FromHypervisor::Refused { why },
        }),
        Some(request) => match services::ask(host, services(), &request) {
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
fn send(console: &mut Console<Mmio>, buffer: &mut [u8; MAX_FRAME], id: u32, message: &FromHypervisor<'_>) {
    if let Some(len) = message.encode(id, buffer) {
        let _ = console.write(&buffer[..len]);
    }
}
