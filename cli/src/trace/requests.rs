//! Requests to devices and their drivers: from the packet that asks to the one that answers.

use std::collections::HashMap;

use hv_tlfs::vmbus::{PACKET_FLAG_COMPLETION_REQUESTED, PacketType};
use hv_trace::{Record, What};

use super::{exchanges, network, packets};

/// Maximum number of requests without an answer that are remembered, whatever the file.
pub(super) const MOST_OPEN: usize = 1 << 16;

/// Which kind of request it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Asks {
    /// A packet of the guest's.
    Guest,
    /// A packet of the host's.
    Host,
    /// A message of a device's or of its driver's, which has an answer of its own besides the completion of its packet.
    Message,
    /// Such a message of the guest's to a network card, in a packet's data.
    Rndis,
}

impl Asks {
    const fn packet(from_guest: bool) -> Self {
        if from_guest { Self::Guest } else { Self::Host }
    }
}

/// Identity of a request: channel, kind, and id. That of a message is its type: a channel has one of each at a time.
pub(super) type Key = (u32, Asks, u64);

/// Returns the request of a packet or of a message in its data, and whether it asks or answers; `None` for one without
/// an answer.
pub(super) fn side(what: &What) -> Option<(Key, bool)> {
    if let Some((channel, id, asks)) = network::exchange(what) {
        return Some(((channel.0, Asks::Rndis, id.into()), asks));
    }
    if let Some((channel, kind, asks)) = exchanges::exchange(what) {
        return Some(((channel.0, Asks::Message, kind.into()), asks));
    }
    let What::Packet { channel, from_guest, packet_type, flags, transaction, .. } = *what else {
        return None;
    };
    if packet_type == PacketType::COMPLETION {
        return Some(((channel.0, Asks::packet(!from_guest), transaction), false));
    }
    let asks = flags == PACKET_FLAG_COMPLETION_REQUESTED;
    asks.then_some(((channel.0, Asks::packet(from_guest), transaction), true))
}

/// A request that was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answered {
    /// Its device.
    pub(super) device: String,
    /// What was asked.
    pub(super) command: String,
    /// Times of the request and of the answer.
    pub(super) from: u64,
    pub(super) to: u64,
}

/// The requests without an answer.
#[derive(Debug, Default)]
pub(super) struct Requests {
    open: HashMap<Key, (u64, String, String)>,
    /// By VP: the request whose name is in the next record.
    unnamed: HashMap<u32, Key>,
}

impl Requests {
    /// Takes the next record, and returns the request that it answers.
    pub(super) fn feed(&mut self, record: &Record) -> Option<Answered> {
        let unnamed = self.unnamed.remove(&record.vp);
        if let What::PacketData { ref bytes, .. } = record.what {
            let (_, _, command) = self.open.get_mut(&unnamed?)?;
            *command = packets::scsi_name(bytes)?;
            return None;
        }
        let (What::Packet { class, .. } | What::Contents { class, .. }) = record.what else { return None };
        let (key, asks) = side(&record.what)?;
        if !asks {
            let (from, device, command) = self.open.remove(&key)?;
            return Some(Answered { device, command, from, to: record.time });
        }
        if self.open.len() < MOST_OPEN {
            let command = packets::operation(&record.what);
            self.open.insert(key, (record.time, packets::class_name(class), command));
            if packets::is_command(&record.what) && self.unnamed.len() < MOST_OPEN {
                self.unnamed.insert(record.vp, key);
            }
        }
        None
    }
}
