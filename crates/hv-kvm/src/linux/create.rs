//! The creation of a virtual machine: memory, virtual CPUs, the interrupt controller, the filter.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use kvm_bindings::{
    KVM_ARM_VCPU_PSCI_0_2, KVM_ARM_VM_SMCCC_CTRL, KVM_ARM_VM_SMCCC_FILTER, KVM_CAP_ARM_NISV_TO_USER,
    KVM_DEV_ARM_VGIC_CTRL_INIT, KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_DEV_ARM_VGIC_GRP_CTRL,
    KVM_DEV_ARM_VGIC_GRP_NR_IRQS, KVM_VGIC_V3_ADDR_TYPE_DIST, KVM_VGIC_V3_ADDR_TYPE_REDIST_REGION,
    kvm_create_device, kvm_device_attr, kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V3, kvm_enable_cap,
    kvm_smccc_filter, kvm_smccc_filter_action_KVM_SMCCC_FILTER_FWD_TO_USER, kvm_vcpu_init,
};
use kvm_ioctls::{DeviceFd, Kvm, VmFd};
use vm_memory::{Bytes as _, GuestAddress, GuestMemoryBackend as _, GuestMemoryMmap, GuestMemoryRegion as _};

use super::board::Board;
use super::counter;
use super::error::{Error, ioctl};
use super::gic::Gic;
use super::vcpu::KvmVcpu;
use super::vm::KvmVm;
use crate::helper::PROGRAM;
use crate::kvm::Parts;
use crate::layout::Layout;

/// The functions that KVM forwards: first, and number. It keeps 0x8000_0000 to 0x8000_ffff and 0xc000_0000 to
/// 0xc000_ffff, Arm's own, to itself (Linux, arch/arm64/kvm/hypercalls.c, `init_smccc_filter`).
const FORWARDED: [(u32, u32); 3] = [(0, 0x8000_0000), (0x8001_0000, 0x3fff_0000), (0xc001_0000, 0x3fff_0000)];

impl KvmVm {
    /// Checks that this machine can run a partition: creates a virtual machine with one VP, and drops it.
    ///
    /// # Errors
    /// [`Error`], with what is missing and what to do.
    pub fn probe() -> Result<(), Error> {
        const MEMORY: (GuestAddress, usize) = (GuestAddress(0x4000_0000), 2 << 20);
        let memory = GuestMemoryMmap::from_ranges(&[MEMORY]).map_err(Error::Page)?;
        Self::create(memory, 1, Layout::VIRT).map(drop)
    }

    /// Creates a virtual machine of guest memory, with this many VPs, a helper for each of them, and
    /// [`Layout::OTHERS`] for all other threads. The guest's counter starts at 0.
    ///
    /// # Errors
    /// [`Error`], with what is missing and what to do.
    pub fn create(memory: GuestMemoryMmap, vps: usize, layout: Layout) -> Result<Parts<Self>, Error> {
        Self::create_with(memory, None, vps, layout)
    }

    /// Does the same as [`Self::create`] with memory besides that the guest can access, and that is no RAM: a page of
    /// the interface cannot be there. A screen's, for example.
    ///
    /// # Errors
    /// [`Error`], with what is missing and what to do.
    pub fn create_with(
        memory: GuestMemoryMmap,
        also: Option<GuestMemoryMmap>,
        vps: usize,
        layout: Layout,
    ) -> Result<Parts<Self>, Error> {
        if !(1..=Layout::MAX_VPS).contains(&vps) {
            return Err(Error::Vps { vps, max: Layout::MAX_VPS });
        }
        let helpers = vps + Layout::OTHERS;
        let also = also.unwrap_or_default();
        check(&memory, &layout, vps)?;
        check(&also, &layout, vps)?;
        let kvm = Kvm::new().map_err(|error| Error::Open(error.into()))?;
        let fd = kvm.create_vm().map_err(ioctl("a virtual machine"))?;
        if fd.has_device_attr(&filter_attribute(0)).is_err() {
            return Err(Error::NoFilter);
        }
        // First: with an older one a machine has fewer virtual CPUs, and KVM would not say why it refuses them.
        let gic = create_gic(&fd)?;
        // An access that the CPU does not describe is the guest's error, not the host's.
        let capability = kvm_enable_cap { cap: KVM_CAP_ARM_NISV_TO_USER, ..kvm_enable_cap::default() };
        fd.enable_cap(&capability).map_err(ioctl("exits for accesses without a syndrome"))?;
        let mut init = kvm_vcpu_init::default();
        fd.get_preferred_target(&mut init).map_err(ioctl("a CPU of this machine"))?;
        init.features[0] |= 1 << KVM_ARM_VCPU_PSCI_0_2;

        let board = Board::new(fd, memory, also, page(&layout)?).map_err(ioctl("guest memory"))?;
        let counter_offset = counter::now();
        board.set_counter_offset(counter_offset).map_err(ioctl("the counter's offset"))?;
        let board = Arc::new(board);
        let mut vcpus = (0..vps + helpers)
            .map(|n| KvmVcpu::new(&board, n as u64, init))
            .collect::<Result<Vec<_>, _>>()
            .map_err(ioctl("a virtual CPU"))?;
        set_up_gic(&gic, &layout, vps, helpers)?;
        for (base, nr_functions) in FORWARDED {
            set_filter(&board.fd, base, nr_functions).map_err(ioctl("the SMCCC filter"))?;
        }
        let helpers = vcpus.split_off(vps);
        let counter_offset = Arc::new(AtomicU64::new(counter_offset));
        let vm = Self { board, gic: Gic(gic), counter_offset, frequency: counter::frequency() };
        Ok(Parts { vm, vps: vcpus, helpers, layout })
    }
}

/// Refuses memory where a device is.
fn check(memory: &GuestMemoryMmap, layout: &Layout, vps: usize) -> Result<(), Error> {
    for region in memory.iter() {
        let (start, end) = (region.start_addr().0, region.last_addr().0);
        if layout.windows(vps).iter().any(|window| start < window.end && window.start <= end) {
            return Err(Error::Memory { start, end });
        }
    }
    Ok(())
}

/// Makes the page with the helpers' program.
fn page(layout: &Layout) -> Result<GuestMemoryMmap, Error> {
    let at = GuestAddress(layout.helper_page);
    let page =
        GuestMemoryMmap::from_ranges(&[(at, Layout::HELPER_PAGE_SIZE as usize)]).map_err(Error::Page)?;
    let program: Vec<u8> = PROGRAM.iter().flat_map(|word| word.to_le_bytes()).collect();
    page.write_slice(&program, at).expect("a program shorter than its page");
    Ok(page)
}

/// Creates a GICv3.
fn create_gic(fd: &VmFd) -> Result<DeviceFd, Error> {
    let mut device = kvm_create_device { type_: kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V3, fd: 0, flags: 0 };
    fd.create_device(&mut device).map_err(|error| Error::NoGic(error.into()))
}

/// Gives it redistributors: those of the VPs, and after them, elsewhere, those of the helpers.
fn set_up_gic(gic: &DeviceFd, layout: &Layout, vps: usize, helpers: usize) -> Result<(), Error> {
    let address = KVM_DEV_ARM_VGIC_GRP_ADDR;
    set(gic, address, KVM_VGIC_V3_ADDR_TYPE_DIST, &layout.distributor).map_err(ioctl("the distributor"))?;
    // Linux assigns them to the virtual CPUs in the order of their numbers.
    for (index, (base, count)) in
        [(layout.redistributors, vps), (layout.helper_redistributors, helpers)].into_iter().enumerate()
    {
        let region = (count as u64) << 52 | base | index as u64;
        set(gic, address, KVM_VGIC_V3_ADDR_TYPE_REDIST_REGION, &region).map_err(ioctl("redistributors"))?;
    }
    set(gic, KVM_DEV_ARM_VGIC_GRP_NR_IRQS, 0, &Layout::INTIDS.into())
        .map_err(ioctl("the number of interrupts"))?;
    let init = kvm_device_attr {
        group: KVM_DEV_ARM_VGIC_GRP_CTRL,
        attr: KVM_DEV_ARM_VGIC_CTRL_INIT.into(),
        ..kvm_device_attr::default()
    };
    gic.set_device_attr(&init).map_err(ioctl("the interrupt controller"))
}

/// Sets an attribute of a device of which KVM reads 64 bits, or the first 32 of them.
fn set(device: &DeviceFd, group: u32, attribute: u32, value: &u64) -> Result<(), kvm_ioctls::Error> {
    let addr = std::ptr::from_ref(value) as u64;
    device.set_device_attr(&kvm_device_attr { flags: 0, group, attr: attribute.into(), addr })
}

fn filter_attribute(addr: u64) -> kvm_device_attr {
    let (group, attr) = (KVM_ARM_VM_SMCCC_CTRL, KVM_ARM_VM_SMCCC_FILTER.into());
    kvm_device_attr { flags: 0, group, attr, addr }
}

/// Has KVM forward a range of functions.
fn set_filter(fd: &VmFd, base: u32, nr_functions: u32) -> Result<(), kvm_ioctls::Error> {
    let action = kvm_smccc_filter_action_KVM_SMCCC_FILTER_FWD_TO_USER as u8;
    let filter = kvm_smccc_filter { base, nr_functions, action, pad: [0; 15] };
    fd.set_device_attr(&filter_attribute(std::ptr::from_ref(&filter) as u64))
}
