//! A virtio device that judges every address that it is given: all must lie in the memory that was shared with it. A
//! console moves data once its port 1 is open, and a network card at once.
#![expect(unsafe_code, reason = "the driver and the device share memory")]

use hv_virtio::{DeviceMemory, NET_HEADER, Registers, device, register, status};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

const MAGIC: u32 = u32::from_le_bytes(*b"virt");
const WRITE: u16 = 2;

/// Lie of a hostile device, in place of the number of buffers that it used.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Lie {
    /// Number of buffers used since the last look.
    Index(u16),
    /// This one was used.
    Buffer(u32),
    /// Number of bytes written.
    Length(u32),
}

#[derive(Debug, Default)]
struct QueueState {
    size: u32,
    ready: bool,
    descriptors: u64,
    available: u64,
    used: u64,
    next: u16,
    done: u16,
}

#[derive(Debug)]
struct State {
    kind: u32,
    /// The device's view of the memory.
    memory: DeviceMemory,
    base: u64,
    selectors: HashMap<u32, u32>,
    status: u32,
    interrupt: u32,
    features: [u32; 2],
    queues: [QueueState; 6],
    /// What it receives and what it sends.
    data: [usize; 2],
    /// Control messages from the driver.
    controls: Vec<Vec<u8>>,
    queue_max: u32,
    /// What was sent.
    sent: Vec<u8>,
    notified: [usize; 6],
    lie: Option<Lie>,
}

/// The device's registers; copies are the same device.
#[derive(Clone, Debug)]
pub(crate) struct VirtioDevice(Rc<RefCell<State>>);

impl VirtioDevice {
    /// Makes a console and the memory that it shares with a driver.
    pub(crate) fn console(bytes: usize) -> (Self, DeviceMemory) {
        Self::new(device::CONSOLE, bytes)
    }

    /// Makes a network card and the memory that it shares with a driver.
    pub(crate) fn net(bytes: usize) -> (Self, DeviceMemory) {
        Self::new(device::NET, bytes)
    }

    fn new(kind: u32, bytes: usize) -> (Self, DeviceMemory) {
        let words = Box::leak(vec![0_u128; bytes.div_ceil(16)].into_boxed_slice());
        let base = words.as_mut_ptr().cast::<u8>();
        // SAFETY: leaked, so valid forever, aligned to 16, and accessed only by driver and device, which are on one
        // thread.
        let theirs = unsafe { DeviceMemory::new(base, bytes) };
        // SAFETY: leaked, so valid forever, aligned to 16, and accessed only by driver and device, which are on one
        // thread.
        let ours = unsafe { DeviceMemory::new(base, bytes) };
        let state = State {
            kind,
            memory: ours,
            base: base as u64,
            selectors: HashMap::new(),
            status: 0,
            interrupt: 0,
            features: if kind == device::CONSOLE { [2, 1] } else { [0, 1] },
            queues: Default::default(),
            data: if kind == device::CONSOLE { [4, 5] } else { [0, 1] },
            controls: Vec::new(),
            queue_max: 1024,
            sent: Vec::new(),
            notified: [0; 6],
            lie: None,
        };
        (Self(Rc::new(RefCell::new(state))), theirs)
    }

    /// Puts bytes into buffers of the driver's, and interrupts. Returns how many had room.
    pub(crate) fn receive(&self, bytes: &[u8]) -> usize {
        self.0.borrow_mut().receive(bytes)
    }

    /// Takes the buffers that the driver has sent, and interrupts.
    pub(crate) fn send(&self) -> Vec<u8> {
        self.0.borrow_mut().send()
    }

    /// Puts bytes into one buffer of the driver's, as a network card does with a frame. Returns false if there is none.
    /// The frame itself begins with a word, so that it can be copied by words.
    pub(crate) fn put(&self, bytes: &[u8]) -> bool {
        let mut state = self.0.borrow_mut();
        let [receive, _] = state.data;
        let Some((id, at, len)) = state.next(receive, true) else { return false };
        assert!(bytes.len() <= len, "a frame longer than its buffer");
        assert!((at + NET_HEADER).is_multiple_of(8), "a frame at {at:#x} + {NET_HEADER}");
        state.memory.write(at, bytes);
        state.done(receive, id, bytes.len() as u32);
        true
    }

    /// Takes the oldest buffer that the driver has sent.
    pub(crate) fn take(&self) -> Option<Vec<u8>> {
        let mut state = self.0.borrow_mut();
        let [_, send] = state.data;
        state.take(send)
    }

    /// Takes the oldest buffer that the driver has sent, and keeps it. Returns its name.
    pub(crate) fn hold(&self) -> Option<u16> {
        let mut state = self.0.borrow_mut();
        let [_, send] = state.data;
        state.next(send, false).map(|(id, ..)| id)
    }

    /// Gives back a buffer that it keeps.
    pub(crate) fn end(&self, id: u16) {
        let mut state = self.0.borrow_mut();
        let [_, send] = state.data;
        state.done(send, id, 0);
    }

    /// Sets whether the device asks to be notified of buffers in a queue.
    pub(crate) fn wants_notice(&self, queue: usize, wants: bool) {
        let mut state = self.0.borrow_mut();
        let at = state.offset(state.queues[state.data[queue]].used, 2);
        state.memory.store(at, u16::from(!wants));
    }

    /// Returns true if the driver asks to be interrupted when a queue's buffers are used.
    pub(crate) fn may_interrupt(&self, queue: usize) -> bool {
        let state = self.0.borrow();
        state.may_interrupt(state.data[queue])
    }

    /// Misreports the next used buffer like this.
    pub(crate) fn lie(&self, lie: Lie) {
        self.0.borrow_mut().lie = Some(lie);
    }

    pub(crate) fn with_features(self, features: [u32; 2]) -> Self {
        self.0.borrow_mut().features = features;
        self
    }

    pub(crate) fn with_queue_max(self, max: u32) -> Self {
        self.0.borrow_mut().queue_max = max;
        self
    }

    pub(crate) fn status(&self) -> u32 {
        self.0.borrow().status
    }

    pub(crate) fn notified(&self, queue: usize) -> usize {
        let state = self.0.borrow();
        state.notified[state.data[queue]]
    }

    pub(crate) fn controls(&self) -> Vec<Vec<u8>> {
        self.0.borrow().controls.clone()
    }
}

impl State {
    /// Returns the offset of a range that the driver named: all of it must be shared.
    fn offset(&self, address: u64, len: usize) -> usize {
        let offset = address.checked_sub(self.base).expect("an address before the shared memory") as usize;
        assert!(offset + len <= self.memory.len(), "{address:#x} with {len} bytes leaves the shared memory");
        offset
    }

    /// Returns the next buffer of a queue: name, address, length.
    fn next(&mut self, queue: usize, inward: bool) -> Option<(u16, usize, usize)> {
        let is_console = self.kind == device::CONSOLE;
        let closed = is_console && queue >= 4 && self.controls.len() < 3;
        assert!(!closed, "the port is used before it is open");
        let q = &self.queues[queue];
        assert!(
            q.ready && self.status & status::DRIVER_OK != 0,
            "a queue is used before the driver is ready"
        );
        let (available, descriptors, next, size) = (q.available, q.descriptors, q.next, q.size);
        let index: u16 = self.memory.load(self.offset(available + 2, 2));
        let waiting = index.wrapping_sub(next);
        assert!(u32::from(waiting) <= size, "more buffers than the queue has");
        if waiting == 0 {
            return None;
        }
        let slot = u64::from(u32::from(next) % size);
        let id: u16 = self.memory.load(self.offset(available + 4 + slot * 2, 2));
        assert!(u32::from(id) < size, "a descriptor that the queue does not have");
        let at = self.offset(descriptors + u64::from(id) * 16, 16);
        let address: u64 = self.memory.load(at);
        let len: u32 = self.memory.load(at + 8);
        let flags: u16 = self.memory.load(at + 12);
        assert_eq!(flags & WRITE != 0, inward, "direction of a buffer");
        assert_eq!(flags & !WRITE, 0, "a chain or an indirect table");
        self.queues[queue].next = next.wrapping_add(1);
        Some((id, self.offset(address, len as usize), len as usize))
    }

    fn done(&mut self, queue: usize, id: u16, len: u32) {
        let (mut id, mut len, mut count) = (u32::from(id), len, 1);
        match self.lie.take() {
            Some(Lie::Index(more)) => count += more,
            Some(Lie::Buffer(other)) => id = other,
            Some(Lie::Length(other)) => len = other,
            None => {}
        }
        let q = &self.queues[queue];
        let (used, done, size) = (q.used, q.done, q.size);
        let at = self.offset(used + 4 + u64::from(u32::from(done) % size) * 8, 8);
        self.memory.store(at, id);
        self.memory.store(at + 4, len);
        let index = self.offset(used + 2, 2);
        self.memory.store(index, done.wrapping_add(count));
        self.queues[queue].done = done.wrapping_add(1);
        self.interrupt |= u32::from(self.may_interrupt(queue));
    }

    fn may_interrupt(&self, queue: usize) -> bool {
        let flags: u16 = self.memory.load(self.offset(self.queues[queue].available, 2));
        flags & 1 == 0
    }

    /// Takes the oldest buffer of a queue that the driver fills.
    fn take(&mut self, queue: usize) -> Option<Vec<u8>> {
        let (id, at, len) = self.next(queue, false)?;
        let mut bytes = vec![0; len];
        self.memory.read(at, &mut bytes);
        self.done(queue, id, 0);
        Some(bytes)
    }

    fn notify(&mut self, queue: usize) {
        self.notified[queue] += 1;
        if self.kind == device::CONSOLE && queue == 3 {
            while let Some(message) = self.take(3) {
                self.controls.push(message);
            }
        }
    }

    fn receive(&mut self, bytes: &[u8]) -> usize {
        let mut put = 0;
        while put < bytes.len() {
            let [receive, _] = self.data;
            let Some((id, at, len)) = self.next(receive, true) else { break };
            let len = len.min(bytes.len() - put);
            self.memory.write(at, &bytes[put..put + len]);
            self.done(receive, id, len as u32);
            put += len;
        }
        put
    }

    fn send(&mut self) -> Vec<u8> {
        let [_, send] = self.data;
        while let Some(bytes) = self.take(send) {
            self.sent.extend(bytes);
        }
        std::mem::take(&mut self.sent)
    }

    fn selected(&mut self) -> &mut QueueState {
        let selected = self.selectors.get(&register::QUEUE_SEL).copied().unwrap_or(0);
        &mut self.queues[selected as usize]
    }
}

fn half(value: u64, high: bool, new: u32) -> u64 {
    if high { value & 0xffff_ffff | u64::from(new) << 32 } else { value >> 32 << 32 | u64::from(new) }
}

impl Registers for VirtioDevice {
    fn read(&self, offset: u32) -> u32 {
        let mut state = self.0.borrow_mut();
        match offset {
            register::MAGIC_VALUE => MAGIC,
            register::VERSION => 2,
            register::DEVICE_ID => state.kind,
            register::DEVICE_FEATURES => {
                let half = state.selectors.get(&register::DEVICE_FEATURES_SEL).copied().unwrap_or(0);
                state.features[half as usize]
            }
            register::QUEUE_SIZE_MAX => state.queue_max,
            register::QUEUE_READY => u32::from(state.selected().ready),
            register::STATUS => state.status,
            register::INTERRUPT_STATUS => state.interrupt,
            _ => panic!("read of register {offset:#x}"),
        }
    }

    fn write(&self, offset: u32, value: u32) {
        let mut state = self.0.borrow_mut();
        match offset {
            register::STATUS if value == 0 => {
                state.status = 0;
                state.queues = Default::default();
            }
            register::STATUS => state.status = value,
            register::DRIVER_FEATURES => {
                let half = state.selectors.get(&register::DRIVER_FEATURES_SEL).copied().unwrap_or(0);
                assert_eq!(value & !state.features[half as usize], 0, "a feature that was not offered");
            }
            register::QUEUE_SIZE => state.selected().size = value,
            register::QUEUE_READY => {
                state.selected().ready = value == 1;
                let q = state.selected();
                let (size, parts) = (q.size as usize, [q.descriptors, q.available, q.used]);
                assert!(size.is_power_of_two());
                for (address, (len, align)) in
                    parts.into_iter().zip([(16 * size, 16), (6 + 2 * size, 2), (6 + 8 * size, 4)])
                {
                    state.offset(address, len);
                    assert_eq!(address % align, 0, "alignment of a queue");
                }
            }
            register::QUEUE_NOTIFY => state.notify(value as usize),
            register::INTERRUPT_ACK => state.interrupt &= !value,
            register::QUEUE_SEL | register::DEVICE_FEATURES_SEL | register::DRIVER_FEATURES_SEL => {
                state.selectors.insert(offset, value);
            }
            _ => {
                let (low, high) = (offset & !4, offset & 4 != 0);
                let q = state.selected();
                let place = match low {
                    register::QUEUE_DESC_LOW => &mut q.descriptors,
                    register::QUEUE_DRIVER_LOW => &mut q.available,
                    register::QUEUE_DEVICE_LOW => &mut q.used,
                    _ => panic!("write of register {offset:#x}"),
                };
                *place = half(*place, high, value);
            }
        }
    }
}
