//! Rules on the answers of integration services' drivers.

use hv_tlfs::vmbus::PacketType;
use hv_tlfs::vmbus::ic::{
    FLAG_RESPONSE, FLAG_TRANSACTION, Header, MessageType, Negotiate, PipeHeader, Status, Version,
};
use hv_tlfs::vmbus::kvp::{MAX_KEY_SIZE, MAX_VALUE_SIZE, Operation};
use hv_vmbus::Seen;
use zerocopy::FromBytes;

use super::packets::word;
use super::{Found, rules};

/// Offset of the service's header in a packet, and of what follows it.
const HEADER: usize = size_of::<PipeHeader>();
const BODY: usize = HEADER + size_of::<Header>();
/// Offset of the versions of a negotiation.
const VERSIONS: usize = BODY + size_of::<Negotiate>();
/// Versions that are followed: as many as an observer is shown.
const SHOWN: usize = (hv_vmbus::SEEN_BYTES - VERSIONS) / size_of::<Version>();
/// Bytes of the two headers of a KVP message, or of the pipe's header and the two bytes of an IP message.
const KVP_HEADER: usize = 4;

/// What the host asked last. All zeros at first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exchange {
    /// Requests without an answer.
    pending: u8,
    kind: u16,
    transaction: u8,
    /// Bytes of its body.
    size: u16,
    /// Versions of framework and service in its header.
    versions: [u32; 2],
    /// Number of a heartbeat, or in its low half the operation of a file copy.
    number: u64,
    /// Versions that were offered, and the numbers of those of framework and service.
    offered: [u32; SHOWN],
    counts: [u8; 2],
}

/// Reads the header of a service's message.
fn header(packet: &Seen<'_>) -> Option<Header> {
    Some(Header::read_from_prefix(packet.payload.get(HEADER..)?).ok()?.0)
}

fn version(version: Version) -> u32 {
    u32::from(version.major) << 16 | u32::from(version.minor)
}

fn version_at(packet: &Seen<'_>, at: usize) -> u32 {
    // In memory the major number comes first.
    word(packet.payload, at).rotate_left(16)
}

fn number(packet: &Seen<'_>) -> u64 {
    u64::from(word(packet.payload, BODY + 4)) << 32 | u64::from(word(packet.payload, BODY))
}

impl Exchange {
    pub(super) const NEW: Self = Self {
        pending: 0,
        kind: 0,
        transaction: 0,
        size: 0,
        versions: [0; 2],
        number: 0,
        offered: [0; SHOWN],
        counts: [0; 2],
    };

    /// Follows a request of the host.
    pub(super) fn request(&mut self, packet: &Seen<'_>) {
        let Some(header) = header(packet) else { return };
        self.pending = self.pending.saturating_add(1);
        self.kind = header.message_type.0;
        self.transaction = header.transaction_id;
        self.size = header.message_size;
        self.versions = [version(header.framework_version), version(header.message_version)];
        self.number = number(packet);
        if header.message_type == MessageType::NEGOTIATE {
            let counts = word(packet.payload, BODY);
            self.counts = [counts as u8, (counts >> 16) as u8];
            for (n, place) in self.offered.iter_mut().enumerate() {
                *place = version_at(packet, VERSIONS + n * 4);
            }
        }
    }

    /// Checks a packet of the guest.
    pub(super) fn response(&mut self, packet: &Seen<'_>, found: &mut Found<'_>) {
        let in_band = packet.kind == PacketType::DATA_IN_BAND && packet.flags == 0;
        found.add_if(!in_band, &rules::IC_PACKET, packet.kind.0);
        let size = word(packet.payload, 4);
        let Some(header) = header(packet).filter(|header| {
            size.checked_sub(size_of::<Header>() as u32)
                .is_some_and(|rest| u32::from(header.message_size) <= rest)
        }) else {
            return found.add(&rules::IC_FORM, size);
        };
        let expected = FLAG_TRANSACTION | FLAG_RESPONSE;
        found.add_if(header.flags != expected, &rules::IC_FLAGS, header.flags);
        let kind = header.message_type;
        if self.pending == 0 {
            return found.add(&rules::IC_UNASKED, kind.0);
        }
        // With several under way it is not known which one is answered.
        self.pending -= 1;
        if self.pending > 0 {
            return;
        }
        let versions = [version(header.framework_version), version(header.message_version)];
        let same = (kind.0, header.transaction_id, versions) == (self.kind, self.transaction, self.versions);
        found.add_if(!same, &rules::IC_ECHO, kind.0);
        match kind {
            MessageType::NEGOTIATE => return self.selection(packet, found),
            MessageType::HEARTBEAT => {
                let answer = number(packet);
                found.add_if(answer != self.number.wrapping_add(1), &rules::HEARTBEAT_NUMBER, answer);
            }
            MessageType::FILE_COPY => {
                let operation = word(packet.payload, BODY);
                found.add_if(operation != self.number as u32, &rules::FCOPY_OPERATION, operation);
            }
            MessageType::KVP_EXCHANGE if header.status == Status::SUCCESS => pair(packet, found),
            _ => {}
        }
        found.add_if(header.message_size != self.size, &rules::IC_SIZE, header.message_size);
    }

    /// Checks which versions a guest has selected.
    fn selection(&self, packet: &Seen<'_>, found: &mut Found<'_>) {
        let counts = word(packet.payload, BODY);
        let counts = [counts & 0xffff, counts >> 16];
        let split = usize::from(self.counts[0]);
        let all = split + usize::from(self.counts[1]);
        let offered = |at: usize, range: core::ops::Range<usize>| {
            let list = self.offered.get(range);
            // A longer list is not known.
            list.is_none_or(|list| list.contains(&version_at(packet, at)))
        };
        let valid = match counts {
            [0, 0] => true,
            [1, 1] => offered(VERSIONS, 0..split) && offered(VERSIONS + 4, split..all),
            _ => false,
        };
        found.add_if(!valid, &rules::IC_VERSION, counts[0] << 16 | counts[1]);
    }
}

/// Checks the sizes of a key-value pair in an answer.
fn pair(packet: &Seen<'_>, found: &mut Found<'_>) {
    let operation = Operation(packet.payload.get(BODY).copied().unwrap_or_default());
    let sizes = BODY
        + match operation {
            Operation::GET => KVP_HEADER + 4,
            Operation::ENUMERATE => KVP_HEADER + 8,
            _ => return,
        };
    let (key, value) = (word(packet.payload, sizes), word(packet.payload, sizes + 4));
    let fits = key as usize <= MAX_KEY_SIZE && value as usize <= MAX_VALUE_SIZE;
    found.add_if(!fits, &rules::KVP_SIZES, u64::from(key) << 32 | u64::from(value));
}
