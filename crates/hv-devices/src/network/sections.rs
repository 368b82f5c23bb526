//! The sections of the guest's receive buffer: who has which.

use hv_memory::save::{Reader, RestoreError, Writer};
use hv_tlfs::vmbus::GpadlId;

/// Maximum number of sections that are used, whatever the buffer's length.
pub const MAX_SECTIONS: usize = 1024;
/// Sections kept for answers: frames do not get them.
pub(super) const CONTROL_SECTIONS: usize = 16;

/// A section, and the length of the message in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Filled {
    pub(super) section: u16,
    pub(super) len: u32,
    pub(super) control: bool,
}

/// A first-in first-out queue of sections that are filled and not sent: the ring has no room. Answers only.
#[derive(Clone, Copy, Debug)]
struct Queue {
    entries: [Filled; CONTROL_SECTIONS],
    first: u16,
    count: u16,
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
    /// For each section, 0 if the host has it, else what its transaction id begins with.
    stamps: [u32; MAX_SECTIONS],
    /// Sections that the host has, of which the first `free_count` count.
    free: [u16; MAX_SECTIONS],
    free_count: u16,
    /// The last stamp.
    stamp: u32,
    queue: Queue,
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
            free: [0; MAX_SECTIONS],
            free_count: 0,
            stamp: 0,
            queue: Queue {
                entries: [Filled { section: 0, len: 0, control: false }; CONTROL_SECTIONS],
                first: 0,
                count: 0,
            },
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

    /// Puts a section back that was taken and not sent.
    pub(super) fn put_back(&mut self, section: u16) {
        if let Some(place) = self.free.get_mut(usize::from(self.free_count)) {
            *place = section;
            self.free_count += 1;
        }
    }

    /// Returns the transaction id with which a section that was taken is sent.
    pub(super) fn next_id(&self, section: u16) -> u64 {
        let stamp = self.stamp.checked_add(1).unwrap_or(1);
        u64::from(stamp) << 32 | (u64::from(section) + 1)
    }

    /// Returns true if the host has every section.
    pub(super) fn is_home(&self) -> bool {
        u32::from(self.free_count) == self.count
    }

    /// Records that it was sent: the guest has it.
    pub(super) fn sent(&mut self, section: u16) {
        self.stamp = self.stamp.checked_add(1).unwrap_or(1);
        self.stamps[usize::from(section)] = self.stamp;
    }

    /// Takes a section back that the guest has completed. Returns false if it has none with this id.
    pub(super) fn returned(&mut self, id: u64) -> bool {
        let (stamp, low) = ((id >> 32) as u32, id as u32);
        let Some(at) = (low as usize).checked_sub(1).filter(|at| *at < self.count as usize) else {
            return false;
        };
        if stamp == 0 || self.stamps[at] != stamp {
            return false;
        }
        self.stamps[at] = 0;
        self.put_back(at as u16);
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
        self.stamps.iter().take(self.count as usize).for_each(|stamp| w.u32(*stamp));
        w.count(self.queue.count.into());
        for at in 0..self.queue.count {
            let filled = self.queue.entries[usize::from(self.queue.first + at) % CONTROL_SECTIONS];
            w.u32(filled.section.into());
            w.u32(filled.len);
            w.flag(filled.control);
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
        }
        let queued = r.count()?;
        if queued > CONTROL_SECTIONS {
            return Err(PART);
        }
        for _ in 0..queued {
            let section = u16::try_from(r.u32()?).map_err(|_| PART)?;
            let filled = Filled { section, len: r.u32()?, control: r.flag("receive buffer")? };
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

    /// Returns true if each section is in one place: with the guest, in the queue, or free.
    fn is_whole(&self) -> bool {
        let mut placed = [false; MAX_SECTIONS];
        let known = self.stamps.iter().zip(&mut placed).take(self.count as usize);
        known.for_each(|(stamp, placed)| *placed = *stamp != 0);
        let queued = self.queue.entries.iter().take(self.queue.count.into()).map(|filled| filled.section);
        for section in queued.chain(self.free.iter().take(self.free_count.into()).copied()) {
            match placed.get_mut(usize::from(section)) {
                Some(placed) if u32::from(section) < self.count && !*placed => *placed = true,
                _ => return false,
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
            sections.sent(section);
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

    proptest! {
        #[test]
        fn every_section_is_the_hosts_or_the_guests(
            count in 17_u32..40,
            steps in proptest::collection::vec((0_u8..5, any::<u16>()), 0..200),
        ) {
            let mut sections = Sections::new();
            sections.begin(GpadlId(1), 1, 1808, count);
            let mut given: BTreeMap<u64, u16> = BTreeMap::new();
            for (step, pick) in steps {
                match step {
                    0..=2 => {
                        if let Some(section) = sections.take(step == 0) {
                            prop_assert!(!given.values().any(|other| *other == section));
                            if step == 2 {
                                sections.put_back(section);
                                continue;
                            }
                            let id = sections.next_id(section);
                            sections.sent(section);
                            prop_assert!(given.insert(id, section).is_none());
                        } else {
                            let kept = if step == 0 { 0 } else { CONTROL_SECTIONS };
                            prop_assert!(count as usize - given.len() <= kept);
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
                let free = |of: &Sections| of.free[..usize::from(of.free_count)].to_vec();
                prop_assert_eq!(free(&restored), free(&sections));
                prop_assert_eq!(restored.stamps, sections.stamps);
                sections = restored;
            }
        }
    }
}
