//! The strict mode: the hypervisor's judge ([`hv_host::strict`]) with the rules of VMBus and its devices.
//!
//! `bus` has the rules on messages, page lists, channels and rings; `packets` those on packets of any device, and it
//! passes each packet on to the rules of its device: `storage`, `services`, `keyboard`, `mouse`, `video`, `balloon`,
//! `network` with `rndis`, `sockets`. Another device gets a file of its own, a variant of `Class`, and state in
//! `Channel`.

mod balloon;
mod bus;
mod keyboard;
mod mouse;
mod network;
mod packets;
mod rndis;
mod services;
mod sockets;
mod storage;
mod video;

use hv_host::{Event, psci, strict};
use hv_tlfs::vmbus::MessageType;
use hv_vmbus::{Contents, Seen};

use crate::event::BusEvent;

pub use hv_host::strict::{Finding, RULES, Rule, Severity, rules};

/// Number of bytes of a message that the judge looks at: as many as a trace has.
pub(crate) const MESSAGE_BYTES: usize = 41;

/// Judge of a guest by the partition's events. It supports `VPS` VPs; events of others are ignored.
///
/// It has a fixed size, allocates nothing, and looks at each event for a bounded time. Of VMBus it follows the channels
/// up to number 127, and 256 packets whose completion is pending; it says nothing about others.
#[derive(Clone, Debug)]
pub struct Judge<const VPS: usize> {
    hypervisor: strict::Judge<VPS>,
    bus: bus::State,
}

/// Receiver of findings about VMBus.
struct Found<'f> {
    sink: &'f mut dyn FnMut(Finding),
}

impl Found<'_> {
    fn add(&mut self, rule: &'static Rule, value: impl Into<u64>) {
        (self.sink)(Finding::new(rule, 0, value.into()));
    }

    fn add_if(&mut self, broken: bool, rule: &'static Rule, value: impl Into<u64>) {
        if broken {
            self.add(rule, value);
        }
    }
}

impl<const VPS: usize> Judge<VPS> {
    /// Creates a judge for a guest whose memory is one range.
    #[must_use]
    pub const fn new(ram_base: u64, ram_size: u64) -> Self {
        Self { hypervisor: strict::Judge::new(ram_base, ram_size), bus: bus::State::NEW }
    }

    /// Sets the range of the guest's memory, for a judge in a static. Call it before the first event.
    pub const fn set_memory(&mut self, ram_base: u64, ram_size: u64) {
        self.hypervisor.set_memory(ram_base, ram_size);
    }

    /// Checks an event of the hypervisor.
    pub fn event(&mut self, event: &Event<'_>, found: &mut dyn FnMut(Finding)) {
        self.hypervisor.event(event, found);
        let found = &mut Found { sink: found };
        match *event {
            Event::Smccc { vp, function, .. } if function & !psci::SMC64 == psci::CPU_OFF => {
                self.bus.offline(vp, found);
            }
            Event::Reset => self.bus.reset(),
            Event::Restored => self.bus.restored = true,
            _ => {}
        }
    }

    /// Checks an event of VMBus.
    pub fn bus_event(&mut self, event: &BusEvent<'_>, found: &mut dyn FnMut(Finding)) {
        match event {
            BusEvent::Message { from_guest: true, payload, .. } => {
                let kept = &payload[..payload.len().min(MESSAGE_BYTES)];
                self.message(kept, payload.len(), found);
            }
            BusEvent::Message { .. } => {}
            BusEvent::Server(event) => self.server(event, &mut Found { sink: found }),
            BusEvent::Packet(packet) => self.packet(packet, found),
            BusEvent::Contents(contents) => self.contents(contents, found),
        }
    }

    /// Checks a message of `length` bytes, of which the first [`MESSAGE_BYTES`] are given.
    pub(crate) fn message(&mut self, kept: &[u8], length: usize, found: &mut dyn FnMut(Finding)) {
        let restored = self.bus.restored;
        let takes = |vp: u32| restored || self.hypervisor.takes_events(vp as usize, bus::SINT);
        self.bus.message(kept, length, &takes, &mut Found { sink: found });
    }

    pub(crate) fn packet(&mut self, packet: &Seen<'_>, found: &mut dyn FnMut(Finding)) {
        self.bus.packet(packet, &mut Found { sink: found });
    }

    pub(crate) fn contents(&mut self, contents: &Contents<'_>, found: &mut dyn FnMut(Finding)) {
        self.bus.contents(contents, &mut Found { sink: found });
    }

    fn server(&mut self, event: &hv_vmbus::Event, found: &mut Found<'_>) {
        // The answer to a contact is pending until SINT 2 is unmasked; a dropped one has an event of its own.
        let undelivered = match *event {
            hv_vmbus::Event::Contact { vp, .. } if self.hypervisor.is_masked(vp as usize, bus::SINT) => {
                Some(MessageType::VERSION_RESPONSE)
            }
            hv_vmbus::Event::Undeliverable { message, .. } => Some(message),
            _ => None,
        };
        if let Some(message) = undelivered {
            found.add(&rules::VMBUS_SYNIC, message.0);
        }
        let restored = self.bus.restored;
        let takes = |vp: u32| restored || self.hypervisor.takes_events(vp as usize, bus::SINT);
        self.bus.event(event, &takes, found);
    }
}
