//! Rules on the packets of the driver of dynamic memory.

use hv_tlfs::vmbus::PacketType;
use hv_tlfs::vmbus::balloon::{
    BalloonHeader, BalloonResponse, CapabilitiesReport, HotAddResponse, MessageType, PageRange, StatusReport,
    UnballoonResponse, VersionRequest,
};
use hv_vmbus::Seen;
use zerocopy::FromBytes;

use super::packets::word;
use super::{Found, rules};

/// Progress of a driver. All zeros at first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Driver {
    /// The host has accepted a version.
    accepted: bool,
    /// The guest has said what it can do.
    capable: bool,
    /// The guest has been asked for pages, and has not said that it has no more.
    asked: bool,
    /// The guest was given pages back, and has not answered.
    given: bool,
    /// Pages that it was asked for and has not given up, as far as its messages show.
    pages: u64,
}

impl Driver {
    pub(super) const NEW: Self =
        Self { accepted: false, capable: false, asked: false, given: false, pages: 0 };

    /// Follows a packet of the host.
    pub(super) fn request(&mut self, packet: &Seen<'_>) {
        let Some(header) = header(packet) else { return };
        match header.message_type {
            MessageType::VERSION_RESPONSE => self.accepted = word(packet.payload, BODY) != 0,
            MessageType::CAPABILITIES_RESPONSE => self.capable = true,
            MessageType::BALLOON_REQUEST => {
                (self.asked, self.pages) = (true, word(packet.payload, BODY).into());
            }
            MessageType::UNBALLOON_REQUEST => self.given = true,
            _ => {}
        }
    }

    /// Checks a packet of the guest.
    pub(super) fn message(&mut self, packet: &Seen<'_>, found: &mut Found<'_>) {
        let Some(header) = header(packet).filter(|_| packet.flags == 0) else {
            return found.add(&rules::BALLOON_FORM, packet.len);
        };
        let kind = header.message_type;
        let ranges = word(packet.payload, COUNT) >> 1;
        let size = match kind {
            MessageType::VERSION_REQUEST => size_of::<VersionRequest>(),
            MessageType::CAPABILITIES_REPORT => size_of::<CapabilitiesReport>(),
            MessageType::STATUS_REPORT => size_of::<StatusReport>(),
            MessageType::BALLOON_RESPONSE => RANGES.saturating_add(ranges as usize * size_of::<PageRange>()),
            MessageType::UNBALLOON_RESPONSE => size_of::<UnballoonResponse>(),
            MessageType::HOT_ADD_RESPONSE => size_of::<HotAddResponse>(),
            _ => return found.add(&rules::BALLOON_MESSAGE, kind.0),
        };
        let fits = usize::from(header.size) == size && size <= packet.len as usize;
        found.add_if(!fits, &rules::BALLOON_FORM, header.size);
        let in_order = match kind {
            MessageType::VERSION_REQUEST => !self.accepted,
            MessageType::CAPABILITIES_REPORT => self.accepted && !self.capable,
            _ => self.capable,
        };
        if !in_order {
            return found.add(&rules::BALLOON_ORDER, kind.0);
        }
        let asked = match kind {
            MessageType::BALLOON_RESPONSE => self.asked,
            // Memory is never added.
            MessageType::HOT_ADD_RESPONSE => false,
            MessageType::UNBALLOON_RESPONSE => core::mem::take(&mut self.given),
            _ => true,
        };
        if !asked {
            return found.add(&rules::BALLOON_UNASKED, kind.0);
        }
        if kind == MessageType::BALLOON_RESPONSE {
            self.asked = word(packet.payload, COUNT) & 1 != 0;
            self.give_up(packet, ranges as usize, found);
        }
    }

    /// Checks the first ranges of pages that a guest gives up: those that are known.
    fn give_up(&mut self, packet: &Seen<'_>, ranges: usize, found: &mut Found<'_>) {
        let known = packet.payload.get(RANGES..).unwrap_or_default();
        for bits in known.as_chunks().0.iter().take(ranges) {
            let range = PageRange(u64::from_le_bytes(*bits));
            let count = u64::from(range.count());
            found.add_if(count == 0, &rules::BALLOON_RANGE, range.bits());
            found.add_if(count > self.pages, &rules::BALLOON_PAGES, count);
            self.pages = self.pages.saturating_sub(count);
        }
    }
}

/// Offset of what follows a message's header.
const BODY: usize = size_of::<BalloonHeader>();
/// Offset of the number of ranges, and of the ranges.
const COUNT: usize = BODY + 4;
const RANGES: usize = size_of::<BalloonResponse>();

/// Reads the header of a message, which is an in-band packet.
fn header(packet: &Seen<'_>) -> Option<BalloonHeader> {
    let in_band = packet.kind == PacketType::DATA_IN_BAND;
    BalloonHeader::read_from_prefix(packet.payload).ok().filter(|_| in_band).map(|(header, _)| header)
}
