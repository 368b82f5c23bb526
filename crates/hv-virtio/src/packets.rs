//! A split queue of packets that the device reads: each lies in memory where the one before it ends.
//!
//! So there are many short packets or a few long ones in the same memory.

use crate::memory::DeviceMemory;
use crate::queue::{Broken, Rings};

/// A packet lies as far from a word's beginning as the bytes that it is copied from, which is how they are copied by
/// words.
const WORD: usize = 8;

/// Such a queue, of up to `N` packets, a power of two. Descriptor n is for packet n, n + `N`, n + 2 `N`...
#[derive(Debug)]
pub(crate) struct Packets<const N: usize> {
    rings: Rings<N>,
    memory: DeviceMemory,
    /// Where each packet begins, by descriptor.
    begins: [u32; N],
    /// Where the youngest packet ends.
    end: usize,
    /// Descriptor of the oldest packet that the device has, if it has any.
    oldest: usize,
}

impl<const N: usize> Packets<N> {
    /// Returns the size of the memory needed with `bytes` for packets.
    pub(crate) const fn memory(bytes: usize) -> usize {
        Rings::<N>::MEMORY + bytes.next_multiple_of(16)
    }

    /// Creates a queue in this memory, with `bytes` of it for packets. Returns `None` if there is too little of it.
    pub(crate) fn new(memory: &mut DeviceMemory, bytes: usize) -> Option<Self> {
        let rings = Rings::new(memory, false)?;
        Some(Self { rings, memory: memory.split(bytes)?, begins: [0; N], end: 0, oldest: 0 })
    }

    /// Returns the rings.
    pub(crate) const fn rings(&self) -> &Rings<N> {
        &self.rings
    }

    /// Returns the descriptor of the next packet.
    fn next(&self) -> usize {
        usize::from(self.rings.passed()) % N
    }

    /// Returns where a packet of `len` bytes can lie now, `skew` bytes from a word's beginning.
    fn place(&self, len: usize, skew: usize) -> Option<usize> {
        if self.rings.count() == 0 {
            return (skew + len <= self.memory.len()).then_some(skew);
        }
        self.rings.is_lent(self.next()).filter(|lent| !lent)?;
        let oldest = self.begins[self.oldest] as usize;
        let next = self.end + (skew.wrapping_sub(self.end) % WORD);
        let behind = if self.end > oldest { self.memory.len() } else { oldest };
        if next + len <= behind {
            Some(next)
        } else {
            // From the beginning again, if the packets do not go round already.
            (self.end > oldest && skew + len <= oldest).then_some(skew)
        }
    }

    /// Returns true if a packet of `len` bytes can be sent now, wherever it is copied from.
    pub(crate) fn has_room(&self, len: usize) -> bool {
        self.place(len + WORD - 1, 0).is_some()
    }

    /// Passes a packet to the device. Returns false if there is no room for it, or it has no bytes.
    pub(crate) fn send(&mut self, packet: &[u8]) -> bool {
        let skew = packet.as_ptr().addr() % WORD;
        let Some(place) = self.place(packet.len(), skew).filter(|_| !packet.is_empty()) else { return false };
        let descriptor = self.next();
        if self.rings.count() == 0 {
            self.oldest = descriptor;
        }
        self.memory.write(place, packet);
        self.begins[descriptor] = place as u32;
        self.end = place + packet.len();
        let address = self.memory.address(place, packet.len());
        self.rings.describe(descriptor, address, packet.len() as u32);
        self.rings.lend(descriptor);
        true
    }

    /// Takes back the memory of all packets that the device is done with.
    ///
    /// # Errors
    /// [`Broken`]; the device must be given up.
    pub(crate) fn reclaim(&mut self) -> Result<(), Broken> {
        while self.rings.used()?.is_some() {}
        // A device may be done in any order; memory is free up to the oldest packet that it has.
        while self.rings.count() > 0 && self.rings.is_lent(self.oldest) == Some(false) {
            self.oldest = (self.oldest + 1) % N;
        }
        Ok(())
    }

    /// Tells the device whether it is to interrupt when it is done with packets.
    pub(crate) fn set_interrupts(&mut self, on: bool) {
        self.rings.set_interrupts(on);
    }

    /// Returns true if the device must be notified of packets that it was passed.
    pub(crate) fn wants_notice(&self) -> bool {
        self.rings.wants_notice()
    }
}
