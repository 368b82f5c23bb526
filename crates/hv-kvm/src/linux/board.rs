//! A virtual machine's descriptor with the memory that KVM maps.
#![expect(unsafe_code, reason = "memory that KVM maps, an ioctl that kvm-ioctls lacks")]

use std::fmt;

use hv_memory::VmMemory;
use kvm_bindings::{KVM_MEM_READONLY, KVMIO, kvm_arm_counter_offset, kvm_userspace_memory_region};
use kvm_ioctls::VmFd;
use vm_memory::{GuestMemoryBackend as _, GuestMemoryMmap, GuestMemoryRegion as _};
use vmm_sys_util::ioctl::ioctl_with_ref;
use vmm_sys_util::ioctl_iow_nr;

ioctl_iow_nr!(KVM_ARM_SET_COUNTER_OFFSET, KVMIO, 0xb5, kvm_arm_counter_offset);

/// The virtual machine and the memory that KVM has mapped. Each virtual CPU holds it, so the memory is mapped as long
/// as any of them exists.
pub(super) struct Board {
    // Closed first.
    pub(super) fd: VmFd,
    pub(super) memory: VmMemory<GuestMemoryMmap>,
    _also: GuestMemoryMmap,
    _helper_page: GuestMemoryMmap,
}

impl fmt::Debug for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Board").field("fd", &self.fd).finish_non_exhaustive()
    }
}

impl Board {
    /// Gives guest memory, memory that is no RAM, and memory that the guest can only read, to a virtual machine that
    /// has none.
    pub(super) fn new(
        fd: VmFd,
        memory: GuestMemoryMmap,
        also: GuestMemoryMmap,
        page: GuestMemoryMmap,
    ) -> Result<Self, kvm_ioctls::Error> {
        let regions = memory.iter().chain(also.iter()).map(|region| (region, 0));
        for (slot, (region, flags)) in
            regions.chain(page.iter().map(|page| (page, KVM_MEM_READONLY))).enumerate()
        {
            let region = kvm_userspace_memory_region {
                slot: slot as u32,
                flags,
                guest_phys_addr: region.start_addr().0,
                memory_size: region.len(),
                userspace_addr: region.as_ptr() as u64,
            };
            // SAFETY: the range is a mapping that a region of `memory`, `also` or `page` owns, with exactly this
            // length. Guest memory is accessed by no reference, since vm-memory's accesses are volatile. The mapping
            // lives as long as KVM can access it: KVM does so for virtual CPUs alone, each `KvmVcpu` holds the board
            // behind its own descriptor, and the board owns all three collections. If this function fails, the
            // descriptor is closed with no virtual CPU created.
            unsafe { fd.set_user_memory_region(region) }?;
        }
        Ok(Self { fd, memory: VmMemory(memory), _also: also, _helper_page: page })
    }

    /// Sets what KVM subtracts from the machine's counter for the guest: for CNTVCT_EL0 and CNTPCT_EL0 alike.
    pub(super) fn set_counter_offset(&self, counter_offset: u64) -> Result<(), kvm_ioctls::Error> {
        let offset = kvm_arm_counter_offset { counter_offset, reserved: 0 };
        // SAFETY: the descriptor is a virtual machine's, and the ioctl reads one `kvm_arm_counter_offset`, as the
        // request number says, and the reference outlives the call.
        let result = unsafe { ioctl_with_ref(&self.fd, KVM_ARM_SET_COUNTER_OFFSET(), &offset) };
        if result == 0 { Ok(()) } else { Err(kvm_ioctls::Error::last()) }
    }
}
