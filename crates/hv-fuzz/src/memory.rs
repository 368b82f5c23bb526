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
    bytes: hv_memory::testing::Memory,
    races: RefCell<VecDeque<Race>>,
    waited: Cell<u8>,
}

impl Memory {
    pub(crate) fn new() -> Self {
        Self {
            bytes: hv_memory::testing::Memory::new(RAM, RAM_SIZE),
            races: RefCell::default(),
            waited: Cell::new(0),
        }
    }

    /// Creates memory for a host that never asks for bytes beyond a page.
    pub(crate) fn by_pages() -> Self {
        let Self { bytes, races, waited } = Self::new();
        Self { bytes: bytes.by_pages(), races, waited }
    }

    /// Creates such memory with another size in bytes.
    pub(crate) fn of(size: u64) -> Self {
        let bytes = hv_memory::testing::Memory::new(RAM, size).by_pages();
        Self { bytes, ..Self::new() }
    }

    /// Adds a write of the hostile VP, after the others and `after` accesses of the host.
    pub(crate) fn race(&self, input: &mut Input<'_>) {
        let race = Race { after: input.byte() % 8, gpa: input.address() & !3, value: input.value() as u32 };
        self.races.borrow_mut().push_back(race);
    }

    /// Stops the hostile VP.
    pub(crate) fn calm(&self) {
        self.races.borrow_mut().clear();
    }

    fn raced(&self) {
        let mut races = self.races.borrow_mut();
        let Some(race) = races.front() else { return };
        self.waited.set(self.waited.get() + 1);
        if self.waited.get() > race.after {
            self.waited.set(0);
            let _ = self.bytes.store_release(race.gpa, race.value);
            races.pop_front();
        }
    }
}

impl GuestMemory for Memory {
    fn read(&self, gpa: u64, buf: &mut [u8]) -> Result<(), BadAddress> {
        self.raced();
        self.bytes.read(gpa, buf)
    }

    fn write(&self, gpa: u64, data: &[u8]) -> Result<(), BadAddress> {
        self.raced();
        self.bytes.write(gpa, data)
    }

    fn load_acquire(&self, gpa: u64) -> Result<u32, BadAddress> {
        self.raced();
        self.bytes.load_acquire(gpa)
    }

    fn store_release(&self, gpa: u64, value: u32) -> Result<(), BadAddress> {
        self.raced();
        self.bytes.store_release(gpa, value)
    }

    fn fetch_or(&self, gpa: u64, bits: u32) -> Result<u32, BadAddress> {
        self.raced();
        self.bytes.fetch_or(gpa, bits)
    }

    fn swap(&self, gpa: u64, value: u32) -> Result<u32, BadAddress> {
        self.raced();
        self.bytes.swap(gpa, value)
    }

    fn contains(&self, gpa: u64, len: u64) -> bool {
        self.bytes.contains(gpa, len)
    }
}
