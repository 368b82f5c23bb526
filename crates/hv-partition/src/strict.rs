//! The strict mode: the hypervisor's judge ([`hv_host::strict`]) with VMBus's rules.

use hv_host::{Event, strict};
use hv_tlfs::vmbus::MessageType;
use hv_tlfs::vmbus::connection::MESSAGE_SINT;
use hv_vmbus::Reason;

use crate::event::BusEvent;

pub use hv_host::strict::{Finding, RULES, Rule, Severity, rules};

/// Checks a guest by the partition's events. It supports `VPS` VPs; events of others are ignored.
#[derive(Clone, Debug)]
pub struct Judge<const VPS: usize> {
    hypervisor: strict::Judge<VPS>,
}

impl<const VPS: usize> Judge<VPS> {
    /// Creates a judge for a guest whose memory is one range.
    #[must_use]
    pub const fn new(ram_base: u64, ram_size: u64) -> Self {
        Self { hypervisor: strict::Judge::new(ram_base, ram_size) }
    }

    /// Checks an event of the hypervisor.
    pub fn event(&mut self, event: &Event<'_>, found: &mut dyn FnMut(Finding)) {
        self.hypervisor.event(event, found);
    }

    /// Checks an event of VMBus.
    pub fn bus_event(&mut self, event: &BusEvent<'_>, found: &mut dyn FnMut(Finding)) {
        let BusEvent::Server(event) = *event else { return };
        let broken = match event {
            hv_vmbus::Event::RingCorrupt { channel, .. } => {
                return found(Finding { rule: &rules::VMBUS_RING_DATA, vp: 0, value: u64::from(channel.0) });
            }
            hv_vmbus::Event::Fault { channel } => {
                return found(Finding { rule: &rules::VMBUS_DEVICE, vp: 0, value: u64::from(channel.0) });
            }
            // The answer to a contact is pending until SINT 2 is unmasked; a dropped one has an event of its own.
            hv_vmbus::Event::Contact { vp, .. } => self
                .hypervisor
                .is_masked(vp as usize, MESSAGE_SINT as usize)
                .then_some((&rules::VMBUS_SYNIC, MessageType::VERSION_RESPONSE)),
            hv_vmbus::Event::Undeliverable { message, .. } => Some((&rules::VMBUS_SYNIC, message)),
            hv_vmbus::Event::Rejected { message, reason } => rule_of(reason).map(|rule| (rule, message)),
            _ => None,
        };
        if let Some((rule, message)) = broken {
            found(Finding { rule, vp: 0, value: u64::from(message.0) });
        }
    }
}

/// Returns the rule that a rejected message breaks.
fn rule_of(reason: Reason) -> Option<&'static Rule> {
    Some(match reason {
        Reason::TooShort | Reason::Unknown => &rules::VMBUS_MESSAGE,
        Reason::NotConnected | Reason::OffersAlreadySent => &rules::VMBUS_ORDER,
        Reason::WrongSint | Reason::WrongVtl | Reason::OneMonitorPage => &rules::VMBUS_CONTACT,
        Reason::UnknownChannel | Reason::AlreadyOpen | Reason::NotOpen | Reason::Rescinded => {
            &rules::VMBUS_CHANNEL
        }
        Reason::UnknownGpadl | Reason::DuplicateGpadl | Reason::GpadlBusy | Reason::BadRange => {
            &rules::VMBUS_GPADL
        }
        Reason::BadRing => &rules::VMBUS_RING,
        Reason::UnknownVp | Reason::BadFlag | Reason::BadConnection | Reason::NoInterrupt => {
            &rules::VMBUS_TARGET
        }
        // The host's limits are not the guest's fault, nor is a missing service or device, or one that accepts no
        // channel.
        Reason::NoRoom | Reason::Unsupported | Reason::DeviceRefused => return None,
        // A reason from a newer server.
        _ => return None,
    })
}
