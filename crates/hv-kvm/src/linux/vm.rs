//! A virtual machine of KVM's.

use std::io;
use std::sync::Arc;

use hv_memory::VmMemory;
use kvm_bindings::{KVM_ARM_IRQ_TYPE_SHIFT, KVM_ARM_IRQ_TYPE_SPI};
use vm_memory::GuestMemoryMmap;

use super::board::Board;
use super::counter;
use super::thread::{KvmThread, KvmWaker};
use super::vcpu::KvmVcpu;
use crate::kvm::Vm;

/// A virtual machine of KVM's, with guest memory.
#[derive(Debug)]
pub struct KvmVm {
    pub(super) board: Arc<Board>,
    /// What the counter showed when the machine was created: the guest's starts at 0.
    pub(super) counter_offset: u64,
    pub(super) frequency: u64,
}

impl KvmVm {
    /// Returns what reads the guest's counter, [`Vm::counter`], for as long as it likes.
    pub fn clock(&self) -> impl Fn() -> u64 + Send + Sync + 'static + use<> {
        let offset = self.counter_offset;
        move || counter::now().wrapping_sub(offset)
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
        counter::now().wrapping_sub(self.counter_offset)
    }

    fn counter_frequency(&self) -> u64 {
        self.frequency
    }

    fn set_spi(&self, intid: u32, level: bool) -> io::Result<()> {
        Ok(self.board.fd.set_irq_line(KVM_ARM_IRQ_TYPE_SPI << KVM_ARM_IRQ_TYPE_SHIFT | intid, level)?)
    }

    fn attach(&self, vcpu: &KvmVcpu) -> io::Result<(KvmThread, KvmWaker)> {
        vcpu.attach()
    }
}
