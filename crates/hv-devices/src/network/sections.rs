//! The sections of the guest's receive buffer: who has which.

use hv_memory::save::{Reader, RestoreError, Writer};
use hv_tlfs::vmbus::{GpadlId, TransferPageRange};
use hv_vmbus::Channel;

/// Maximum number of sections that are used, whatever the buffer's length.
pub const MAX_SECTIONS: usize = 1024;
/// Sections kept for answers: frames do not get them.
pub(super) const CONTROL_SECTIONS: usize = 16;

/// A section, and the length of the answer in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Filled {
    pub(super) section: u16,
    pub(super) len: u32,
}

/// A first-in first-out queue of sections that are filled and not sent: the ring has no room. Answers only.
#[derive(Clone, Copy, Debug)]
struct Queue {
    entries: [Filled; CONTROL_SECTIONS],
    first: u16,
    count: u16,
}

/// Frames that share a packet at most.
pub(super) const FRAMES: usize = 16;
/// Stamp of a section behind the first one of its packet: it is returned with that one.
const FOLLOWS: u32 = u32::MAX;

/// Frames for one channel that share a packet. There are none between two calls of the card.
#[derive(Clone, Copy, Debug)]
pub(super) struct Batch {
    /// Index of the channel.
    channel: u16,
    count: u16,
    sections: [u16; FRAMES],
    ranges: [TransferPageRange; FRAMES],
    /// Bytes of the frames as they came.
    bytes: u64,
}

impl Batch {
    const EMPTY: Self = Self {
        channel: 0,
        count: 0,
        sections: [0; FRAMES],
        ranges: [TransferPageRange { byte_count: 0, byte_offset: 0 }; FRAMES],
        bytes: 0,
    };

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Returns true if a frame for this channel can be added: all are for one, and there is room.
    #[inline]
    pub(super) fn takes(&self, channel: Channel) -> bool {
        self.channel == channel.index() as u16 && usize::from(self.count) < FRAMES
    }

    pub(super) fn channel(&self) -> Channel {
        Channel::new(self.channel)
    }

    pub(super) fn sections(&self) -> &[u16] {
        self.sections.get(..self.count.into()).unwrap_or_default()
    }

    pub(super) fn ranges(&self) -> &[TransferPageRange] {
        self.ranges.get(..self.count.into()).unwrap_or_default()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// The receive buffer. A new one is all zeros.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sections {
    present: bool,
    gpadl: u32,
    /// The guest's number for the buffer.
    id: u16,
    /// Bytes of a section.
    size: u32,
    count: u32,
    /// For each section, 0 if the host has it, else what its transaction id begins with, or [`FOLLOWS`].
    stamps: [u32; MAX_SECTIONS],
    /// For each section that the guest has, the next one of its packet, plus 1; 0 if it is the last one.
    next: [u16; MAX_SECTIONS],
    /// Sections that the host has, of which the first `free_count` count.
    free: [u16; MAX_SECTIONS],
    free_count: u16,
    /// The last stamp.
    stamp: u32,
    queue: Queue,
    pub(super) batch: Batch,
}

impl Sections {
    pub(super) const fn new() -> Self {
        Self {
            present: false,
            gpadl: 0,
            id: 0,
            size: 0,
            count: 0,
            stamps: [0; MAX_SECTIONS],
            next: [0; MAX_SECTIONS],
            free: [0; MAX_SECTIONS],
            free_count: 0,
            stamp: 0,
            queue: Queue { entries: [Filled { section: 0, len: 0 }; CONTROL_SECTIONS], first: 0, count: 0 },
            batch: Batch::EMPTY,
        }
    }

    /// Takes a buffer over. `count` is at most [`MAX_SECTIONS`].
    pub(super) fn begin(&mut self, gpadl: GpadlId, id: u16, size: u32, count: u32) {
        let stamp = self.stamp;
        *self = Self { present: true, gpadl: gpadl.0, id, size, count, stamp, ..Self::new() };
        // The first one on top.
        (0..count as u16).rev().for_each(|section| self.put_back(section));
    }

    /// Gives the buffer back: the guest's completions for it no longer mean anything.
    pub(super) fn end(&mut self) {
        // Stamps continue, so no id is used twice.
        *self = Self { stamp: self.stamp, ..Self::new() };
    }

    pub(super) const fn is_none(&self) -> bool {
        !self.present
    }

    pub(super) const fn gpadl(&self) -> GpadlId {
        GpadlId(self.gpadl)
    }

    /// Returns the guest's number for the buffer.
    pub(super) const fn id(&self) -> u16 {
        self.id
    }

    /// Returns the size of a section.
    pub(super) const fn size(&self) -> u32 {
        self.size
    }

    /// Returns the number of bytes in all sections.
    pub(super) const fn bytes(&self) -> u32 {
        self.size * self.count
    }

    /// Takes a section: for a frame, only if there are more than those kept for answers.
    pub(super) fn take(&mut self, control: bool) -> Option<u16> {
        let kept = if control { 0 } else { CONTROL_SECTIONS };
        let top = usize::from(self.free_count).checked_sub(1).filter(|top| *top >= kept)?;
        self.free_count -= 1;
        Some(self.free[top])
    }

    /// Puts a section back: it is the host's.
    pub(super) fn put_back(&mut self, section: u16) {
        if let Some(place) = self.free.get_mut(usize::from(self.free_count)) {
            *place = section;
            self.free_count += 1;
        }
    }

    /// Returns the transaction id of a packet that begins with a section that was taken.
    pub(super) fn next_id(&self, section: u16) -> u64 {
        u64::from(self.next_stamp()) << 32 | (u64::from(section) + 1)
    }

    fn next_stamp(&self) -> u32 {
        self.stamp.checked_add(1).filter(|stamp| *stamp != FOLLOWS).unwrap_or(1)
    }

    /// Returns the range of a section with a message of this length.
    pub(super) fn range(&self, section: u16, len: u32) -> TransferPageRange {
        TransferPageRange { byte_count: len, byte_offset: u32::from(section) * self.size }
    }

    /// Adds a section with a frame to the batch, which [takes](Batch::takes) it or is empty. `len`: length of
    /// the message, `bytes`: of the frame as it came.
    #[inline]
    pub(super) fn add(&mut self, channel: Channel, section: u16, len: u32, bytes: usize) {
        let range = self.range(section, len);
        let batch = &mut self.batch;
        let at = usize::from(batch.count);
        if let Some((place, listed)) = batch.sections.get_mut(at).zip(batch.ranges.get_mut(at)) {
            (*place, *listed) = (section, range);
            batch.channel = channel.index() as u16;
            batch.count += 1;
            batch.bytes += bytes as u64;
        }
    }

    /// Returns the id of the packet that the batch becomes, if there is one.
    #[inline]
    pub(super) fn batch_id(&self) -> Option<u64> {
        self.batch.sections().first().map(|first| self.next_id(*first))
    }

    /// Empties the batch. The packet with its frames was sent, or else the host has its sections again.
    #[inline]
    pub(super) fn end_batch(&mut self, sent: bool) {
        // The ranges stay: they are long.
        let (sections, count) = (self.batch.sections, core::mem::take(&mut self.batch.count));
        self.batch.bytes = 0;
        let sections = sections.get(..count.into()).unwrap_or_default();
        if sent {
            self.sent(sections);
        } else {
            sections.iter().for_each(|section| self.put_back(*section));
        }
    }

    /// Returns true if the host has every section.
    pub(super) fn is_home(&self) -> bool {
        u32::from(self.free_count) == self.count
    }

    /// Records that a packet with these sections was sent: the guest has them.
    pub(super) fn sent(&mut self, sections: &[u16]) {
        let mut stamp = self.next_stamp();
        self.stamp = stamp;
        let mut rest = sections.iter();
        while let Some(section) = rest.next() {
            let at = usize::from(*section);
            self.stamps[at] = core::mem::replace(&mut stamp, FOLLOWS);
            self.next[at] = rest.as_slice().first().map_or(0, |next| next + 1);
        }
    }

    /// Takes the sections of a packet back that the guest has completed. Returns false if it has none with this id.
    pub(super) fn returned(&mut self, id: u64) -> bool {
        let (stamp, low) = ((id >> 32) as u32, id as u32);
        let Some(at) = (low as usize).checked_sub(1).filter(|at| *at < self.count as usize) else {
            return false;
        };
        if stamp == 0 || stamp == FOLLOWS || self.stamps[at] != stamp {
            return false;
        }
        let mut section = low as u16;
        // A list has an end, and each section is in one.
        while let Some(at) = section.checked_sub(1) {
            self.stamps[usize::from(at)] = 0;
            section = core::mem::take(&mut self.next[usize::from(at)]);
            self.put_back(at);
        }
        true
    }

    /// Appends a filled section to the queue. Returns false if it is full.
    pub(super) fn enqueue(&mut self, filled: Filled) -> bool {
        let queue = &mut self.queue;
        if usize::from(queue.count) == CONTROL_SECTIONS {
            return false;
        }
        queue.entries[usize::from(queue.first + queue.count) % CONTROL_SECTIONS] = filled;
        queue.count += 1;
        true
    }

    /// Returns the oldest section of the queue.
    pub(super) fn front(&self) -> Option<Filled> {
        (self.queue.count > 0).then(|| self.queue.entries[usize::from(self.queue.first) % CONTROL_SECTIONS])
    }

    /// Removes the oldest section of the queue.
    pub(super) fn dequeue(&mut self) {
        let queue = &mut self.queue;
        if queue.count > 0 {
            queue.first = (queue.first + 1) % CONTROL_SECTIONS as u16;
            queue.count -= 1;
        }
    }

    pub(super) fn save(&self, w: &mut Writer<'_>) {
        w.flag(self.present);
        w.u32(self.gpadl);
        w.u32(self.id.into());
        w.u32(self.size);
        w.u32(self.count);
        w.u32(self.stamp);
        for at in 0..self.count as usize {
            w.u32(self.stamps[at]);
            w.u32(self.next[at].into());
        }
        w.count(self.queue.count.into());
        for at in 0..self.queue.count {
            let filled = self.queue.entries[usize::from(self.queue.first + at) % CONTROL_SECTIONS];
            w.u32(filled.section.into());
            w.u32(filled.len);
        }
        // In their order, so that a restored card takes the same one next.
        w.count(self.free_count.into());
        self.free.iter().take(self.free_count.into()).for_each(|section| w.u32((*section).into()));
    }

    pub(super) fn load(r: &mut Reader<'_>) -> Result<Self, RestoreError> {
        const PART: RestoreError = RestoreError::Invalid("receive buffer of a network card");
        let mut this = Self { present: r.flag("receive buffer")?, gpadl: r.u32()?, ..Self::new() };
        this.id = u16::try_from(r.u32()?).map_err(|_| PART)?;
        (this.size, this.count, this.stamp) = (r.u32()?, r.u32()?, r.u32()?);
        let bytes = this.size.checked_mul(this.count);
        let valid = this.count as usize <= MAX_SECTIONS && bytes.is_some();
        let whole = super::receive::MIN_SECTION <= this.size && this.count as usize > CONTROL_SECTIONS;
        if !valid || this.present != whole || (!this.present && this.count > 0) {
            return Err(PART);
        }
        for at in 0..this.count as usize {
            this.stamps[at] = r.u32()?;
            this.next[at] = u16::try_from(r.u32()?).map_err(|_| PART)?;
        }
        let queued = r.count()?;
        if queued > CONTROL_SECTIONS {
            return Err(PART);
        }
        for _ in 0..queued {
            let section = u16::try_from(r.u32()?).map_err(|_| PART)?;
            let filled = Filled { section, len: r.u32()? };
            if filled.len > this.size {
                return Err(PART);
            }
            this.enqueue(filled);
        }
        let free = r.count()?;
        if free > this.count as usize {
            return Err(PART);
        }
        for _ in 0..free {
            this.put_back(u16::try_from(r.u32()?).map_err(|_| PART)?);
        }
        if this.is_whole() { Ok(this) } else { Err(PART) }
    }

    /// Returns true if each section is in one place: in a packet that the guest has, in the queue, or free.
    fn is_whole(&self) -> bool {
        let mut placed = [false; MAX_SECTIONS];
        let mut place = |section: u16| match placed.get_mut(usize::from(section)) {
            Some(placed) if u32::from(section) < self.count => !core::mem::replace(placed, true),
            _ => false,
        };
        for first in 0..self.count as u16 {
            let stamp = self.stamps[usize::from(first)];
            if stamp == 0 || stamp == FOLLOWS {
                continue;
            }
            // A section that is in a list twice ends this.
            let mut section = Some(first);
            while let Some(at) = section {
                let listed = place(at) && (at == first || self.stamps[usize::from(at)] == FOLLOWS);
                if !listed {
                    return false;
                }
                section = self.next[usize::from(at)].checked_sub(1);
            }
        }
        let queued = self.queue.entries.iter().take(self.queue.count.into()).map(|filled| filled.section);
        let own = queued.chain(self.free.iter().take(self.free_count.into()).copied());
        for section in own {
            let of_host = self.stamps.get(usize::from(section)) == Some(&0);
            if !of_host || self.next[usize::from(section)] != 0 || !place(section) {
                return false;
            }
        }
        placed.iter().take(self.count as usize).all(|placed| *placed)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::vec::Vec;

    #[test]
    fn a_section_is_returned_once_and_by_its_own_id() {
        let mut sections = Sections::new();
        sections.begin(GpadlId(7), 0xcafe, 1808, 20);
        let mut ids = Vec::new();
        while let Some(section) = sections.take(false) {
            let id = sections.next_id(section);
            sections.sent(&[section]);
            assert!(id != 0 && !ids.contains(&id));
            ids.push(id);
        }
        assert_eq!(ids.len(), 20 - CONTROL_SECTIONS);
        for wrong in [0, 1, 21, ids[0] & 0xffff_ffff, ids[0] ^ 1 << 40, ids[0] + 20, u64::MAX] {
            assert!(!sections.returned(wrong), "{wrong:#x}");
        }
        assert!(sections.returned(ids[0]));
        assert!(!sections.returned(ids[0]), "twice");
        sections.end();
        sections.begin(GpadlId(7), 0xcafe, 1808, 20);
        assert!(!sections.returned(ids[1]), "an id of a buffer that was given back");
    }

    #[test]
    fn the_sections_of_a_packet_are_returned_together_by_the_first_ones_id() {
        let mut sections = Sections::new();
        sections.begin(GpadlId(7), 0xcafe, 1808, 20);
        sections.stamp = FOLLOWS - 2;
        let taken: Vec<u16> = (0..3).map(|_| sections.take(false).unwrap()).collect();
        let id = sections.next_id(taken[0]);
        assert_eq!(id >> 32, u64::from(FOLLOWS) - 1);
        sections.sent(&taken);
        for follows in &taken[1..] {
            assert!(!sections.returned(u64::from(FOLLOWS) << 32 | u64::from(follows + 1)));
            assert!(!sections.returned(id >> 32 << 32 | u64::from(follows + 1)));
        }
        assert_eq!(sections.free_count, 17);
        assert_eq!(sections.next_id(3) >> 32, 1, "the stamp of those that follow is not used");
        assert!(sections.returned(id) && !sections.returned(id));
        assert_eq!((sections.free_count, sections.is_home()), (20, true));
    }

    #[test]
    fn lists_of_sections_that_have_no_end_or_meet_are_refused() {
        let mut sections = Sections::new();
        sections.begin(GpadlId(7), 0xcafe, 1808, 24);
        for _ in 0..2 {
            let taken: Vec<u16> = (0..3).map(|_| sections.take(false).unwrap()).collect();
            sections.sent(&taken);
        }
        assert!(sections.is_whole());
        let broken = |change: &dyn Fn(&mut Sections)| {
            let mut other = sections;
            change(&mut other);
            assert!(!other.is_whole());
        };
        broken(&|it| it.next[2] = 1);
        broken(&|it| it.next[2] = 2);
        broken(&|it| it.next[2] = 4);
        broken(&|it| it.next[2] = 5);
        broken(&|it| it.next[2] = 7);
        broken(&|it| it.next[2] = 25);
        broken(&|it| it.next[1] = 0);
        broken(&|it| it.stamps[1] = 0);
        broken(&|it| it.stamps[1] = 9);
        broken(&|it| it.next[9] = 10);
    }

    proptest! {
        #[test]
        fn every_section_is_the_hosts_or_the_guests(
            count in 17_u32..40,
            steps in proptest::collection::vec((0_u8..5, any::<u16>()), 0..200),
        ) {
            let mut sections = Sections::new();
            sections.begin(GpadlId(1), 1, 1808, count);
            let mut given: BTreeMap<u64, Vec<u16>> = BTreeMap::new();
            for (step, pick) in steps {
                match step {
                    0..=2 => {
                        let mut taken = Vec::new();
                        let wanted = usize::from(pick % 5) + 1;
                        taken.extend(core::iter::from_fn(|| sections.take(step == 0)).take(wanted));
                        prop_assert!(taken.iter().all(|one| !given.values().flatten().any(|other| other == one)));
                        if taken.len() < wanted {
                            let kept = if step == 0 { 0 } else { CONTROL_SECTIONS };
                            let out = given.values().flatten().count() + taken.len();
                            prop_assert!(count as usize - out <= kept);
                        }
                        if step == 2 {
                            taken.iter().for_each(|section| sections.put_back(*section));
                        } else if let Some(first) = taken.first() {
                            let id = sections.next_id(*first);
                            sections.sent(&taken);
                            prop_assert!(given.insert(id, taken).is_none());
                        }
                    }
                    3 => {
                        let id = given.keys().nth(usize::from(pick) % given.len().max(1)).copied();
                        if let Some(id) = id {
                            prop_assert!(sections.returned(id));
                            given.remove(&id);
                        }
                    }
                    _ => {
                        let id = u64::from(pick) << 32 | u64::from(pick % 50);
                        prop_assert_eq!(sections.returned(id), given.remove(&id).is_some());
                    }
                }
                let mut image = Vec::new();
                sections.save(&mut Writer::new(&mut |bytes| image.extend_from_slice(bytes)));
                let restored = Sections::load(&mut Reader::new(&image)).unwrap();
                prop_assert_eq!(restored.free_count, sections.free_count);
                let out = given.values().flatten().count();
                prop_assert_eq!(usize::from(restored.free_count), count as usize - out);
                let free = |of: &Sections| of.free[..usize::from(of.free_count)].to_vec();
                prop_assert_eq!(free(&restored), free(&sections));
                prop_assert_eq!((restored.stamps, restored.next), (sections.stamps, sections.next));
                sections = restored;
            }
        }
    }
}
