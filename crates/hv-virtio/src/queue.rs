//! A split queue of buffers that never move: descriptor n is buffer n.

use crate::memory::{DeviceMemory, barrier};
use core::fmt;

/// A protocol violation by the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Broken {
    /// It claims to have used more buffers than it has.
    Index {
        /// Claimed number.
        claimed: u16,
        /// Actual number.
        lent: u16,
    },
    /// It returned a buffer that does not exist, or that it does not have.
    Buffer(u32),
    /// It claims to have written more bytes than the buffer has.
    Length {
        /// Claimed number.
        claimed: u32,
        /// Size of the buffer.
        size: u32,
    },
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index { claimed, lent } => write!(f, "the device used {claimed} buffers and had {lent}"),
            Self::Buffer(id) => write!(f, "the device named buffer {id}, which it did not have"),
            Self::Length { claimed, size } => {
                write!(f, "the device wrote {claimed} bytes to a buffer of {size}")
            }
        }
    }
}

impl core::error::Error for Broken {}

/// Size of a descriptor in bytes (VIRTIO 1.2, "The Virtqueue Descriptor Table"): address, length, flags, next.
const DESCRIPTOR: usize = 16;
/// The device writes to the buffer.
const WRITE: u16 = 2;
/// Offset of the flags in either ring.
const FLAGS: usize = 0;
/// In the available ring: the driver needs no interrupt (VIRTIO 1.2, "The Virtqueue Available Ring").
const NO_INTERRUPT: u16 = 1;
/// In the used ring: the device needs no notification (VIRTIO 1.2, "The Virtqueue Used Ring").
const NO_NOTIFY: u16 = 1;
/// Offset of the index in either ring; the entries follow (VIRTIO 1.2, "The Virtqueue Available Ring").
const INDEX: usize = 2;
const ENTRIES: usize = 4;
/// Size of an entry of the used ring in bytes: id of the first descriptor, and the number of bytes written (VIRTIO 1.2,
/// "The Virtqueue Used Ring").
const USED: usize = 8;

/// The descriptors and both rings of a split queue of `N` descriptors, a power of two, each of which is a buffer of its
/// own.
#[derive(Debug)]
pub(crate) struct Rings<const N: usize> {
    descriptors: DeviceMemory,
    available: DeviceMemory,
    used: DeviceMemory,
    /// The device has the buffer.
    lent: [bool; N],
    /// Number of buffers that the device has.
    count: u16,
    next_available: u16,
    next_used: u16,
}

impl<const N: usize> Rings<N> {
    const VALID: () =
        assert!(N.is_power_of_two() && N <= 1 << 15, "a queue's size is a power of two, 32768 at most");

    /// Size of the memory needed, in bytes.
    pub(crate) const MEMORY: usize = {
        let rings = [N * DESCRIPTOR, ENTRIES + N * 2 + 2, ENTRIES + N * USED + 2];
        let (mut all, mut at) = (0, 0);
        while at < rings.len() {
            all += rings[at].next_multiple_of(16);
            at += 1;
        }
        all
    };

    /// Creates the rings in this memory; `inward`: the device writes to the buffers. Returns `None` if there is too
    /// little of it.
    pub(crate) fn new(memory: &mut DeviceMemory, inward: bool) -> Option<Self> {
        const { Self::VALID };
        let mut rings = Self {
            descriptors: memory.split(N * DESCRIPTOR)?,
            available: memory.split(ENTRIES + N * 2 + 2)?,
            used: memory.split(ENTRIES + N * USED + 2)?,
            lent: [false; N],
            count: 0,
            next_available: 0,
            next_used: 0,
        };
        rings.available.write(0, &[0; ENTRIES]);
        rings.used.write(0, &[0; ENTRIES]);
        for buffer in 0..N {
            let at = buffer * DESCRIPTOR;
            rings.descriptors.store(at + 12, if inward { WRITE } else { 0 });
            rings.descriptors.store(at + 14, 0_u16);
        }
        Some(rings)
    }

    /// Returns the addresses of descriptors, available ring and used ring.
    pub(crate) fn addresses(&self) -> [u64; 3] {
        [&self.descriptors, &self.available, &self.used].map(|part| part.address(0, part.len()))
    }

    /// Returns the number of buffers that the device has.
    pub(crate) const fn count(&self) -> u16 {
        self.count
    }

    /// Returns the number of buffers that were passed to the device so far, modulo 65,536.
    pub(crate) const fn passed(&self) -> u16 {
        self.next_available
    }

    /// Returns whether the device has a buffer; `None`: there is no such buffer.
    pub(crate) fn is_lent(&self, buffer: usize) -> Option<bool> {
        self.lent.get(buffer).copied()
    }

    /// Returns a buffer that the device does not have.
    fn vacant(&self) -> Option<usize> {
        self.lent.iter().position(|lent| !lent)
    }

    /// Says where a buffer that the device does not have is, and how long.
    pub(crate) fn describe(&mut self, buffer: usize, address: u64, len: u32) {
        let at = buffer * DESCRIPTOR;
        self.descriptors.store(at, address);
        self.descriptors.store(at + 8, len);
    }

    /// Passes a buffer that the device does not have to the device.
    pub(crate) fn lend(&mut self, buffer: usize) {
        let entry = usize::from(self.next_available) % N;
        self.available.store(ENTRIES + entry * 2, buffer as u16);
        self.lent[buffer] = true;
        self.count += 1;
        self.next_available = self.next_available.wrapping_add(1);
        // The device must see descriptor and entry before the index.
        barrier();
        self.available.store(INDEX, self.next_available);
        barrier();
    }

    /// Reclaims the next buffer that the device is done with, and returns the number of bytes that the device claims to
    /// have written to it.
    ///
    /// # Errors
    /// [`Broken`]; the device must be given up.
    pub(crate) fn used(&mut self) -> Result<Option<(usize, u32)>, Broken> {
        let index: u16 = self.used.load(INDEX);
        let claimed = index.wrapping_sub(self.next_used);
        if claimed == 0 {
            return Ok(None);
        }
        if claimed > self.count {
            return Err(Broken::Index { claimed, lent: self.count });
        }
        // The entry is read after the index that announces it.
        barrier();
        let entry = ENTRIES + usize::from(self.next_used) % N * USED;
        let (id, len): (u32, u32) = (self.used.load(entry), self.used.load(entry + 4));
        let buffer = id as usize;
        if self.lent.get(buffer) != Some(&true) {
            return Err(Broken::Buffer(id));
        }
        self.lent[buffer] = false;
        self.count -= 1;
        self.next_used = self.next_used.wrapping_add(1);
        Ok(Some((buffer, len)))
    }

    /// Tells the device whether it is to interrupt when it is done with buffers. It may do so anyway. Afterwards take
    /// what it is done with ([`used`](Self::used)): it may have been done before it saw this.
    pub(crate) fn set_interrupts(&mut self, on: bool) {
        self.available.store(FLAGS, if on { 0 } else { NO_INTERRUPT });
        barrier();
    }

    /// Returns true if the device must be notified of buffers that it was passed.
    pub(crate) fn wants_notice(&self) -> bool {
        self.used.load::<u16>(FLAGS) & NO_NOTIFY == 0
    }
}

/// A split queue with `N` buffers of one size, all written by the device or all read by it. A power of two.
#[derive(Debug)]
pub struct Queue<const N: usize> {
    rings: Rings<N>,
    buffers: DeviceMemory,
    /// Bytes of memory before each buffer.
    lead: u32,
    /// Size of each buffer in bytes.
    size: u32,
    /// The device writes.
    inward: bool,
}

impl<const N: usize> Queue<N> {
    /// Returns the size of the memory needed with buffers of this size, in bytes.
    #[must_use]
    pub const fn memory(size: u32) -> usize {
        Rings::<N>::MEMORY + (N * size as usize).next_multiple_of(16)
    }

    /// Creates a queue in this memory; `inward`: the device writes to its buffers. Returns `None` if there is too
    /// little of it.
    pub fn new(memory: &mut DeviceMemory, size: u32, inward: bool) -> Option<Self> {
        Self::behind(memory, 0, size, inward)
    }

    /// Creates a queue as [`new`](Self::new) does, with `lead` unused bytes before each buffer: what follows a header
    /// is then aligned.
    pub(crate) fn behind(memory: &mut DeviceMemory, lead: u32, size: u32, inward: bool) -> Option<Self> {
        let rings = Rings::new(memory, inward)?;
        let buffers = memory.split(N * (lead + size) as usize)?;
        let mut queue = Self { rings, buffers, lead, size, inward };
        for buffer in 0..N {
            let address = queue.buffers.address(queue.place(buffer), size as usize);
            queue.rings.describe(buffer, address, size);
        }
        Some(queue)
    }

    /// Returns where a buffer is in the memory.
    fn place(&self, buffer: usize) -> usize {
        buffer * (self.lead + self.size) as usize + self.lead as usize
    }

    /// Returns the rings.
    pub(crate) const fn rings(&self) -> &Rings<N> {
        &self.rings
    }

    /// Returns the size of each buffer in bytes.
    #[must_use]
    pub const fn size(&self) -> u32 {
        self.size
    }

    /// Returns the number of buffers that the device has.
    #[must_use]
    pub const fn count(&self) -> u16 {
        self.rings.count()
    }

    /// Returns a buffer that the device does not have.
    #[must_use]
    pub fn vacant(&self) -> Option<usize> {
        self.rings.vacant()
    }

    /// Copies bytes into a buffer that the device does not have and passes it to the device. Returns how many fitted; 0
    /// if the device has the buffer. Notify the device with [`notify`](crate::Transport::notify).
    pub fn fill(&mut self, buffer: usize, bytes: &[u8]) -> usize {
        let len = self.put(buffer, 0, bytes);
        self.pass(buffer, len);
        len
    }

    /// Copies bytes into a buffer that the device does not have, from byte `at` on, and returns how many fitted.
    /// [`pass`](Self::pass) the buffer when no more bytes go into it.
    pub fn put(&mut self, buffer: usize, at: usize, bytes: &[u8]) -> usize {
        if self.inward || self.rings.is_lent(buffer) != Some(false) {
            return 0;
        }
        let len = bytes.len().min((self.size as usize).saturating_sub(at));
        if len > 0 {
            self.buffers.write(self.place(buffer) + at, &bytes[..len]);
        }
        len
    }

    /// Passes a buffer with `len` bytes to the device, which reads them. Does nothing if the device has it, or for no
    /// bytes.
    pub fn pass(&mut self, buffer: usize, len: usize) {
        let size = self.size as usize;
        if !self.inward && self.rings.is_lent(buffer) == Some(false) && (1..=size).contains(&len) {
            let address = self.buffers.address(self.place(buffer), size);
            self.rings.describe(buffer, address, len as u32);
            self.rings.lend(buffer);
        }
    }

    /// Passes a buffer to the device to write to. Does nothing if the device has it.
    pub fn offer(&mut self, buffer: usize) {
        if self.inward && self.rings.is_lent(buffer) == Some(false) {
            self.rings.lend(buffer);
        }
    }

    /// Tells the device whether it is to interrupt when it is done with buffers. It may do so anyway. Afterwards take
    /// what it is done with ([`used`](Self::used)): it may have been done before it saw this.
    pub fn set_interrupts(&mut self, on: bool) {
        self.rings.set_interrupts(on);
    }

    /// Returns true if the device must be notified of buffers that it was passed.
    #[must_use]
    pub fn wants_notice(&self) -> bool {
        self.rings.wants_notice()
    }

    /// Reclaims the next buffer that the device is done with, and returns the number of bytes written to it.
    ///
    /// # Errors
    /// [`Broken`]; the device must be given up.
    pub fn used(&mut self) -> Result<Option<(usize, u32)>, Broken> {
        let Some((buffer, len)) = self.rings.used()? else { return Ok(None) };
        if self.inward && len > self.size {
            return Err(Broken::Length { claimed: len, size: self.size });
        }
        Ok(Some((buffer, if self.inward { len } else { 0 })))
    }

    /// Copies bytes out of a buffer that the device does not have, from byte `from` on. Returns false if the device has
    /// it, or it is shorter.
    #[must_use]
    pub fn read(&self, buffer: usize, from: usize, into: &mut [u8]) -> bool {
        let size = self.size as usize;
        let fits = from.checked_add(into.len()).is_some_and(|end| end <= size);
        if !fits || self.rings.is_lent(buffer) != Some(false) {
            return false;
        }
        self.buffers.read(self.place(buffer) + from, into);
        true
    }
}
