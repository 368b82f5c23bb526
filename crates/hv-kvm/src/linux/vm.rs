//! A virtual machine of KVM's.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hv_memory::VmMemory;
use kvm_bindings::{KVM_ARM_IRQ_TYPE_SHIFT, KVM_ARM_IRQ_TYPE_SPI};
use vm_memory::GuestMemoryMmap;

use super::board::Board;
use super::counter;
use super::gic::Gic;
use super::thread::{KvmThread, KvmWaker};
use super::vcpu::KvmVcpu;
use crate::gic::GicRegister;
use crate::kvm::Vm;

/// A virtual machine of KVM's, with guest memory.
#[derive(Debug)]
pub struct KvmVm {
    pub(super) board: Arc<Board>,
    pub(super) gic: Gic,
    /// What the counter shows when the guest's is 0: when the machine is created, unless it is restored.
    pub(super) counter_offset: Arc<AtomicU64>,
    pub(super) frequency: u64,
}

impl KvmVm {
    /// Returns what reads the guest's counter, [`Vm::counter`], for as long as it likes.
    pub fn clock(&self) -> impl Fn() -> u64 + Send + Sync + 'static + use<> {
        let offset = Arc::clone(&self.counter_offset);
        move || counter::now().wrapping_sub(offset.load(Ordering::Relaxed))
    }
}

impl Vm for KvmVm {
    type Memory = VmMemory<GuestMemoryMmap>;
    type Vcpu = KvmVcpu;
    type Waker = KvmWaker;
    type Thread = KvmThread;

    fn memory(&self) -> &Self::Memory {
        &self.board.memory
    }

    fn counter(&self) -> u64 {
        counter::now().wrapping_sub(self.counter_offset.load(Ordering::Relaxed))
    }

    fn counter_frequency(&self) -> u64 {
        self.frequency
    }

    fn set_counter(&self, counter: u64) -> io::Result<()> {
        let offset = counter::now().wrapping_sub(counter);
        self.board.set_counter_offset(offset)?;
        self.counter_offset.store(offset, Ordering::Relaxed);
        Ok(())
    }

    fn gic(&self, register: GicRegister) -> io::Result<u64> {
        Ok(self.gic.get(register)?)
    }

    fn set_gic(&self, register: GicRegister, value: u64) -> io::Result<()> {
        Ok(self.gic.set(register, value)?)
    }

    fn set_spi(&self, intid: u32, level: bool) -> io::Result<()> {
        Ok(self.board.fd.set_irq_line(KVM_ARM_IRQ_TYPE_SPI << KVM_ARM_IRQ_TYPE_SHIFT | intid, level)?)
    }

    fn attach(&self, vcpu: &KvmVcpu) -> io::Result<(KvmThread, KvmWaker)> {
        vcpu.attach()
    }
}
