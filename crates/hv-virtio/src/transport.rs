//! The MMIO transport of version 2: detection of a device, feature negotiation, and setup of its queues.

use crate::queue::{Queue, Rings};
use core::fmt;

/// Registers, as offsets (VIRTIO 1.2, "MMIO Device Register Layout").
pub mod register {
    /// "virt".
    pub const MAGIC_VALUE: u32 = 0x000;
    /// Version of the transport: 2; 1 is the one before VIRTIO 1.0.
    pub const VERSION: u32 = 0x004;
    /// Kind of device, 0 for none.
    pub const DEVICE_ID: u32 = 0x008;
    /// 32 of the features that the device offers.
    pub const DEVICE_FEATURES: u32 = 0x010;
    /// Selects which 32.
    pub const DEVICE_FEATURES_SEL: u32 = 0x014;
    /// 32 of the features that the driver accepts.
    pub const DRIVER_FEATURES: u32 = 0x020;
    /// Selects which 32.
    pub const DRIVER_FEATURES_SEL: u32 = 0x024;
    /// Selects the queue of the following registers.
    pub const QUEUE_SEL: u32 = 0x030;
    /// Largest size of the queue.
    pub const QUEUE_SIZE_MAX: u32 = 0x034;
    /// Size of the queue.
    pub const QUEUE_SIZE: u32 = 0x038;
    /// 1: the queue is in use.
    pub const QUEUE_READY: u32 = 0x044;
    /// Notifies the device of buffers in a queue.
    pub const QUEUE_NOTIFY: u32 = 0x050;
    /// Why the device interrupted.
    pub const INTERRUPT_STATUS: u32 = 0x060;
    /// Acknowledges the interrupt.
    pub const INTERRUPT_ACK: u32 = 0x064;
    /// See [`status`](super::status).
    pub const STATUS: u32 = 0x070;
    /// Address of the descriptors, low half; the high half follows.
    pub const QUEUE_DESC_LOW: u32 = 0x080;
    /// Address of the available ring, low half; the high half follows.
    pub const QUEUE_DRIVER_LOW: u32 = 0x090;
    /// Address of the used ring, low half; the high half follows.
    pub const QUEUE_DEVICE_LOW: u32 = 0x0a0;
}

/// Bits of the device's status (VIRTIO 1.2, "Device Status Field").
pub mod status {
    /// The device was found.
    pub const ACKNOWLEDGE: u32 = 1;
    /// There is a driver for it.
    pub const DRIVER: u32 = 2;
    /// The driver is ready.
    pub const DRIVER_OK: u32 = 4;
    /// The features are negotiated.
    pub const FEATURES_OK: u32 = 8;
    /// The driver gave up.
    pub const FAILED: u32 = 128;
}

/// Kinds of devices (VIRTIO 1.2, "Device Types").
pub mod device {
    /// Network card.
    pub const NET: u32 = 1;
    /// Console.
    pub const CONSOLE: u32 = 3;
}

/// "virt".
const MAGIC: u32 = 0x7472_6976;
/// Feature: the device is one of VIRTIO 1.0 or later (VIRTIO 1.2, "Reserved Feature Bits").
const VERSION_1: u64 = 1 << 32;

/// Access to the registers of a transport.
pub trait Registers {
    /// Reads the register at `offset`.
    fn read(&self, offset: u32) -> u32;
    /// Writes the register at `offset`.
    fn write(&self, offset: u32, value: u32);
}

/// Reason why a device cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refused {
    /// There is no transport, or one of another version than 2.
    Transport,
    /// Another kind of device, or none.
    Device(u32),
    /// It is older than VIRTIO 1.0, or lacks a feature that the driver needs.
    Features,
    /// The queue with this number is in use, or shorter than required.
    Queue(u32),
    /// The memory is too small.
    Memory,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Transport => f.write_str("no virtio-mmio transport of version 2"),
            Self::Device(id) => write!(f, "virtio device {id} is not of the expected type"),
            Self::Features => {
                f.write_str("the virtio device lacks VIRTIO 1.0 or a feature that its driver needs")
            }
            Self::Queue(queue) => write!(f, "queue {queue} of the virtio device is in use or too short"),
            Self::Memory => f.write_str("too little memory for the queues of the virtio device"),
        }
    }
}

impl core::error::Error for Refused {}

/// A device behind its registers.
#[derive(Debug)]
pub struct Transport<R> {
    registers: R,
}

impl<R: Registers> Transport<R> {
    /// Returns the type of the device behind the registers, or `None` if there is none.
    #[must_use]
    pub fn probe(registers: &R) -> Option<u32> {
        let found = registers.read(register::MAGIC_VALUE) == MAGIC && registers.read(register::VERSION) == 2;
        found.then(|| registers.read(register::DEVICE_ID)).filter(|id| *id != 0)
    }

    /// Resets the device and negotiates features (VIRTIO 1.2, "Driver Requirements: Device Initialization"): all of
    /// `features`, and VERSION_1.
    ///
    /// # Errors
    /// See [`Refused`]; the device is then reset.
    pub fn begin(registers: R, device: u32, features: u64) -> Result<Self, Refused> {
        match Self::probe(&registers) {
            None => return Err(Refused::Transport),
            Some(id) if id != device => return Err(Refused::Device(id)),
            Some(_) => {}
        }
        registers.write(register::STATUS, 0);
        registers.write(register::STATUS, status::ACKNOWLEDGE);
        registers.write(register::STATUS, status::ACKNOWLEDGE | status::DRIVER);
        let mut offered = 0;
        for half in 0..2 {
            registers.write(register::DEVICE_FEATURES_SEL, half);
            offered |= u64::from(registers.read(register::DEVICE_FEATURES)) << (32 * half);
        }
        let wanted = features | VERSION_1;
        let taken = offered & wanted;
        for half in 0..2 {
            registers.write(register::DRIVER_FEATURES_SEL, half);
            registers.write(register::DRIVER_FEATURES, (taken >> (32 * half)) as u32);
        }
        registers.write(register::STATUS, status::ACKNOWLEDGE | status::DRIVER | status::FEATURES_OK);
        let agreed = registers.read(register::STATUS) & status::FEATURES_OK != 0;
        if taken != wanted || !agreed {
            registers.write(register::STATUS, 0);
            return Err(Refused::Features);
        }
        Ok(Self { registers })
    }

    /// Returns a second handle of a device that was initialized.
    pub(crate) const fn of(registers: R) -> Self {
        Self { registers }
    }

    /// Sets up a queue of the device.
    ///
    /// # Errors
    /// [`Refused::Queue`].
    pub fn queue<const N: usize>(&self, number: u32, queue: &Queue<N>) -> Result<(), Refused> {
        self.rings(number, queue.rings())
    }

    /// Sets up a queue of the device, like [`queue`](Self::queue).
    pub(crate) fn rings<const N: usize>(&self, number: u32, rings: &Rings<N>) -> Result<(), Refused> {
        let r = &self.registers;
        r.write(register::QUEUE_SEL, number);
        if r.read(register::QUEUE_READY) != 0 || r.read(register::QUEUE_SIZE_MAX) < N as u32 {
            return Err(Refused::Queue(number));
        }
        r.write(register::QUEUE_SIZE, N as u32);
        let at = rings.addresses();
        let places = [register::QUEUE_DESC_LOW, register::QUEUE_DRIVER_LOW, register::QUEUE_DEVICE_LOW];
        for (register, address) in places.into_iter().zip(at) {
            r.write(register, address as u32);
            r.write(register + 4, (address >> 32) as u32);
        }
        r.write(register::QUEUE_READY, 1);
        Ok(())
    }

    /// Announces that the driver is ready.
    pub fn ready(&self) {
        let all = status::ACKNOWLEDGE | status::DRIVER | status::FEATURES_OK | status::DRIVER_OK;
        self.registers.write(register::STATUS, all);
    }

    /// Gives the device up: resets it, so that it no longer writes to memory.
    pub fn give_up(&self) {
        self.registers.write(register::STATUS, status::FAILED);
        self.registers.write(register::STATUS, 0);
    }

    /// Notifies the device of new buffers in a queue.
    pub fn notify(&self, queue: u32) {
        self.registers.write(register::QUEUE_NOTIFY, queue);
    }

    /// Acknowledges an interrupt. Returns false if the device did not raise one.
    pub fn acknowledge(&self) -> bool {
        let why = self.registers.read(register::INTERRUPT_STATUS);
        self.registers.write(register::INTERRUPT_ACK, why);
        why != 0
    }
}
