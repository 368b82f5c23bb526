//! KVM, as the partition needs it: traits that [`KvmVm`](crate::KvmVm) implements over its ioctls, and tests by a
//! model.

use std::io;
use std::time::Duration;

use hv_memory::GuestMemory;

use crate::register::Register;

/// A virtual machine.
pub trait Vm: Sync {
    /// Guest memory.
    type Memory: GuestMemory + Sync;
    /// A virtual CPU.
    type Vcpu: Vcpu;
    /// What reaches the thread of a virtual CPU from other threads.
    type Waker: Waker;
    /// Reference that keeps a thread reachable. It stays in the thread.
    type Thread;

    /// Returns the guest's memory.
    fn memory(&self) -> &Self::Memory;

    /// Returns the guest's counter, CNTVCT_EL0.
    fn counter(&self) -> u64;

    /// Returns the counter's frequency in Hz.
    fn counter_frequency(&self) -> u64;

    /// Sets the level of an SPI.
    ///
    /// # Errors
    /// That of the ioctl.
    fn set_spi(&self, intid: u32, level: bool) -> io::Result<()>;

    /// Makes the calling thread the one that runs this virtual CPU: from now on the waker reaches it.
    ///
    /// # Errors
    /// That of the system.
    fn attach(&self, vcpu: &Self::Vcpu) -> io::Result<(Self::Thread, Self::Waker)>;
}

/// A virtual CPU. One thread runs it; it may be created in another.
pub trait Vcpu: Send {
    /// Reads a register.
    ///
    /// # Errors
    /// That of the ioctl: the register does not exist, for example.
    fn get(&self, register: Register) -> io::Result<u64>;

    /// Writes a register.
    ///
    /// # Errors
    /// That of the ioctl: the register does not exist, for example.
    fn set(&self, register: Register, value: u64) -> io::Result<()>;

    /// Resets the registers: KVM_ARM_VCPU_INIT.
    ///
    /// # Errors
    /// That of the ioctl.
    fn reset(&self) -> io::Result<()>;

    /// Runs until the next exit: KVM_RUN.
    ///
    /// # Errors
    /// That of the ioctl, but for an interruption, which is [`Exit::Interrupted`].
    fn run(&mut self) -> io::Result<Exit>;

    /// Ends an interruption: another one since then makes the next [`run`](Self::run) return at once.
    fn clear_interruption(&mut self);

    /// Gives the value for the load that [`Exit::Read`] was about, in the low bytes.
    fn complete_read(&mut self, value: u64);

    /// Makes the access of the last exit, [`Exit::Read`], [`Exit::Write`] or [`Exit::NoSyndrome`], a synchronous
    /// external abort.
    ///
    /// # Errors
    /// That of the ioctl.
    fn inject_external_abort(&self) -> io::Result<()>;

    /// Has the next [`run`](Self::run) wait until an interrupt is pending ([`Exit::Wakeup`]), or no longer.
    ///
    /// # Errors
    /// That of the ioctl.
    fn set_suspended(&self, suspended: bool) -> io::Result<()>;
}

/// What reaches the thread of a virtual CPU from other threads.
pub trait Waker: Send + Sync {
    /// Makes [`Vcpu::run`] return [`Exit::Interrupted`]: now, or the next time that it is called.
    fn interrupt(&self);

    /// Does the same after this time. Replaces the time that was set before; `None` cancels it.
    fn interrupt_after(&self, time: Option<Duration>);
}

/// Reason why a virtual CPU stopped running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Exit {
    /// An `hvc`, or an `smc`, whose function id is in a forwarded range. PC is after the instruction.
    Call {
        /// The low half of X0.
        function: u32,
        /// It was an `smc`.
        smc: bool,
    },
    /// A load from an address without memory. [`Vcpu::complete_read`] gives the value.
    Read {
        /// Guest physical address.
        address: u64,
        /// Number of bytes, up to 8.
        size: usize,
    },
    /// A store to an address without memory.
    Write {
        /// Guest physical address.
        address: u64,
        /// Number of bytes, up to 8.
        size: usize,
        /// The value, in the low bytes.
        value: u64,
    },
    /// An access to an address without memory, by an instruction that the CPU does not describe.
    NoSyndrome,
    /// Another thread interrupted it.
    Interrupted,
    /// An interrupt is pending for a suspended virtual CPU.
    Wakeup,
    /// Anything else: KVM's number of the reason (KVM_EXIT_*).
    Other(u32),
}

/// What a [`Machine`](crate::Machine) is made of.
///
/// Exhaustive on purpose: whoever implements [`Vm`] has to provide every part.
#[derive(Debug)]
pub struct Parts<V: Vm> {
    /// The virtual machine.
    pub vm: V,
    /// The virtual CPUs of the VPs, in their order.
    pub vps: Vec<V::Vcpu>,
    /// One more for each VP, and [`Layout::OTHERS`](crate::Layout::OTHERS) for all other threads, with
    /// [`Vcpu::reset`] done.
    pub helpers: Vec<V::Vcpu>,
    /// Where the devices are.
    pub layout: crate::Layout,
}
