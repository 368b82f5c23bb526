//! The guest's memory, and a hostile VP that writes to it between two looks of the host.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use hv_memory::{BadAddress, GuestMemory};

use crate::input::Input;

/// First guest physical address.
pub(crate) const RAM: u64 = 0x4000_0000;
/// Bytes: 32 pages.
pub(crate) const RAM_SIZE: u64 = 0x2_0000;

/// A write that happens behind the host's back.
#[derive(Clone, Copy, Debug)]
struct Race {
    /// Accesses of the host before it.
    after: u8,
    gpa: u64,
    value: u32,
}

pub(crate) struct Memory {
    bytes: RefCell<Box<[u8]>>,
    races: RefCell<VecDeque<Race>>,
    waited: Cell<u8>,
    /// No access may cross a page.
    by_pages: bool,
}

impl Memory {
    pub(crate) fn new() -> Self {
        let bytes = vec![0; RAM_SIZE as usize].into_boxed_slice();
        Self { bytes: RefCell::new(bytes), races: RefCell::default(), waited: Cell::new(0), by_pages: false }
    }

    /// Memory for a host that never asks for bytes beyond a page.
    pub(crate) fn by_pages() -> Self {
        Self { by_pages: true, ..Self::new() }
    }

    fn check_pages(&self, gpa: u64, len: usize) {
        assert!(!self.by_pages || gpa % 4096 + len as u64 <= 4096, "an access crosses a page");
    }

    /// One more write of the hostile VP, after the others and `after` accesses of the host.
    pub(crate) fn race(&self, input: &mut Input<'_>) {
        let race = Race { after: input.byte() % 8, gpa: input.address() & !3, value: input.value() as u32 };
        self.races.borrow_mut().push_back(race);
    }

    /// The hostile VP stops.
    pub(crate) fn calm(&self) {
        self.races.borrow_mut().clear();
    }

    fn raced(&self) {
        let mut races = self.races.borrow_mut();
        let Some(race) = races.front() else { return };
        self.waited.set(self.waited.get() + 1);
        if self.waited.get() > race.after {
            self.waited.set(0);
            if let Ok(range) = range(race.gpa, 4) {
                self.bytes.borrow_mut()[range].copy_from_slice(&race.value.to_le_bytes());
            }
            races.pop_front();
        }
    }

    fn word(&self, gpa: u64, change: impl FnOnce(u32) -> u32) -> Result<u32, BadAddress> {
        if !gpa.is_multiple_of(4) {
            return Err(BadAddress);
        }
        self.raced();
        let range = range(gpa, 4)?;
        let mut bytes = self.bytes.borrow_mut();
        let word: &mut [u8] = &mut bytes[range];
        let old = u32::from_le_bytes(word.try_into().unwrap_or_default());
        word.copy_from_slice(&change(old).to_le_bytes());
        Ok(old)
    }
}

fn range(gpa: u64, len: u64) -> Result<std::ops::Range<usize>, BadAddress> {
    let start = gpa.checked_sub(RAM).ok_or(BadAddress)?;
    let end = start.checked_add(len).filter(|end| *end <= RAM_SIZE).ok_or(BadAddress)?;
    Ok(start as usize..end as usize)
}

impl GuestMemory for Memory {
    fn read(&self, gpa: u64, buf: &mut [u8]) -> Result<(), BadAddress> {
        self.check_pages(gpa, buf.len());
        self.raced();
        let range = range(gpa, buf.len() as u64)?;
        buf.copy_from_slice(&self.bytes.borrow()[range]);
        Ok(())
    }

    fn write(&self, gpa: u64, data: &[u8]) -> Result<(), BadAddress> {
        self.check_pages(gpa, data.len());
        self.raced();
        let range = range(gpa, data.len() as u64)?;
        self.bytes.borrow_mut()[range].copy_from_slice(data);
        Ok(())
    }

    fn load_acquire(&self, gpa: u64) -> Result<u32, BadAddress> {
        self.word(gpa, |word| word)
    }

    fn store_release(&self, gpa: u64, value: u32) -> Result<(), BadAddress> {
        self.word(gpa, |_| value).map(|_| ())
    }

    fn fetch_or(&self, gpa: u64, bits: u32) -> Result<u32, BadAddress> {
        self.word(gpa, |word| word | bits)
    }

    fn swap(&self, gpa: u64, value: u32) -> Result<u32, BadAddress> {
        self.word(gpa, |_| value)
    }

    fn contains(&self, gpa: u64, len: u64) -> bool {
        range(gpa, len).is_ok()
    }
}
