//! KVM, as the partition needs it: traits that [`KvmVm`](crate::KvmVm) implements over its ioctls, and tests by a
//! model.

use std::io;
use std::time::Duration;

use hv_memory::GuestMemory;

use crate::gic::GicRegister;
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

    /// Has the guest's counter go on from this value.
    ///
    /// # Errors
    /// That of the ioctl: a virtual CPU runs, for example.
    fn set_counter(&self, counter: u64) -> io::Result<()>;

    /// Reads a register of the interrupt controller, as its state is saved. No virtual CPU may be in
    /// [`run`](Vcpu::run).
    ///
    /// # Errors
    /// That of the ioctl.
    fn gic(&self, register: GicRegister) -> io::Result<u64>;

    /// Writes a register of the interrupt controller, as its state is restored. No virtual CPU may be in
    /// [`run`](Vcpu::run).
    ///
    /// # Errors
    /// That of the ioctl: it does not take this value, for example.
    fn set_gic(&self, register: GicRegister, value: u64) -> io::Result<()>;

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
    /// Returns all registers: KVM_GET_REG_LIST.
    ///
    /// # Errors
    /// That of the ioctl.
    fn registers(&self) -> io::Result<Vec<Register>>;

    /// Reads a register into the first bytes of `value`, which has at least [its size](Register::size).
    ///
    /// # Errors
    /// That of the ioctl: the register does not exist, for example.
    fn read(&self, register: Register, value: &mut [u8]) -> io::Result<()>;

    /// Writes a register from the first bytes of `value`, which has at least [its size](Register::size).
    ///
    /// # Errors
    /// That of the ioctl: the register does not exist, for example.
    fn write(&self, register: Register, value: &[u8]) -> io::Result<()>;

    /// Reads a register of up to 64 bits.
    ///
    /// # Errors
    /// The same as for [`read`](Self::read).
    fn get(&self, register: Register) -> io::Result<u64> {
        let mut value = [0; 8];
        self.read(register, &mut value)?;
        Ok(u64::from_le_bytes(value))
    }

    /// Writes a register of up to 64 bits.
    ///
    /// # Errors
    /// The same as for [`write`](Self::write).
    fn set(&self, register: Register, value: u64) -> io::Result<()> {
        self.write(register, &value.to_le_bytes())
    }

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

    /// Returns true if the next [`run`](Self::run) waits until an interrupt is pending.
    ///
    /// # Errors
    /// That of the ioctl.
    fn is_suspended(&self) -> io::Result<bool>;

    /// Returns the SError interrupt that is pending, if one is.
    ///
    /// # Errors
    /// That of the ioctl.
    fn serror(&self) -> io::Result<Option<SError>>;

    /// Makes an SError interrupt pending.
    ///
    /// # Errors
    /// That of the ioctl: the CPU has no syndrome to give, for example.
    fn set_serror(&self, serror: SError) -> io::Result<()>;
}

/// A pending SError interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SError {
    /// The syndrome that the guest is to find in ESR_EL1, of a CPU that can set it.
    pub syndrome: Option<u64>,
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
