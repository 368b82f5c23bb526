//! Hypercalls about processors: send IPIs, start VPs, notify of long spin waits; and retargeting of device interrupts.
//!
//! Source: TLFS, `HvCallSendSyntheticClusterIpi`, `HvCallSendSyntheticClusterIpiEx`, `HvCallNotifyLongSpinWait`,
//! `HvCallStartVirtualProcessor`, `HvCallRetargetDeviceInterrupt`; "Virtual Processors", "Guest Spinlocks".

use hv_tlfs::hypercall::{HypercallCode, HypercallInput};
use hv_tlfs::interrupt::{
    InterruptEntry, InterruptSource, InterruptTarget, InterruptTargetFlags, MsiEntry, RetargetInterruptInput,
    SendIpi, SendIpiEx,
};
use hv_tlfs::start_vp::{InitialVpContext, StartVpInput};
use hv_tlfs::status::HvError;
use hv_tlfs::vp::{InputVtl, PartitionId, VpIndex};

use crate::conduit::Conduit;
use crate::hypercall::{self, Rep, RepError};
use crate::interrupts::Intid;
use crate::page::CallPage;
use crate::sets::VpSet;

/// Sends an interrupt to VPs below 64: bit n of the mask selects VP n.
///
/// # Errors
///
/// The hypervisor's status.
#[doc(alias = "HVCALL_SEND_IPI")]
pub fn send_ipi(conduit: &(impl Conduit + ?Sized), intid: Intid, mask: u64) -> Result<(), HvError> {
    let input = SendIpi {
        vector: u32::from(intid.number()),
        target_vtl: InputVtl::CURRENT,
        reserved: [0; 3],
        cpu_mask: mask,
    };
    // SAFETY: the call raises an interrupt of at least 16, which the OS's handlers must expect at any time; it writes
    // no memory.
    unsafe { hypercall::fast(conduit, HypercallInput::from_code(HypercallCode::SEND_IPI), &input) }
}

/// Sends an interrupt to a set of VPs.
///
/// # Errors
///
/// [`RepError::Status`] with the hypervisor's status.
#[doc(alias = "HVCALL_SEND_IPI_EX")]
pub fn send_ipi_ex<const BANKS: usize>(
    conduit: &(impl Conduit + ?Sized),
    page: &mut CallPage<'_>,
    intid: Intid,
    set: &VpSet<BANKS>,
) -> Result<(), RepError> {
    let (vp_set, banks, count) = set.to_parameters();
    let header = SendIpiEx {
        vector: u32::from(intid.number()),
        target_vtl: InputVtl::CURRENT,
        reserved: [0; 3],
        vp_set,
    };
    let (input, output): (&[u64], &mut [u64]) = (&[], &mut []);
    let variable = banks.get(..count).unwrap_or(&banks);
    let call = Rep { code: HypercallCode::SEND_IPI_EX, header: &header, variable, input, output };
    // SAFETY: the call raises an interrupt of at least 16 (hypervisors reject lower ones), which the OS's handlers must
    // expect at any time. It writes no guest memory: its input is in the call page, and it has no output.
    unsafe { call.call(conduit, page) }
}

/// Notifies the hypervisor that this VP has spun `spins` times on a lock whose holder may not be running. Call it at
/// every multiple of [`long_spin_wait_count`](hv_tlfs::features::Enlightenments::long_spin_wait_count), unless that is
/// 0xffff_ffff or 0.
///
/// # Errors
///
/// The hypervisor's status; the TLFS defines only success.
#[doc(alias = "HVCALL_NOTIFY_LONG_SPIN_WAIT")]
pub fn notify_long_spin_wait(conduit: &(impl Conduit + ?Sized), spins: u32) -> Result<(), HvError> {
    let control = HypercallInput::from_code(HypercallCode::NOTIFY_LONG_SPIN_WAIT);
    // SAFETY: the call is a hint to the scheduler; it writes no memory.
    unsafe { hypercall::fast(conduit, control, &u64::from(spins)) }
}

/// Starts a VP with these registers, at EL1. PSCI CPU_ON does the same, and is what most guests use.
///
/// The registers are not enough for compiled code: the VP's first instructions must at least set up CPACR_EL1.
///
/// # Safety
///
/// The code that the VP runs, with these registers, is sound to run; and no other code writes to the call page during
/// the call.
///
/// # Errors
///
/// The hypervisor's status.
#[doc(alias = "HVCALL_START_VIRTUAL_PROCESSOR")]
#[doc(alias = "HVCALL_START_VP")]
pub unsafe fn start_vp(
    conduit: &(impl Conduit + ?Sized),
    page: &mut CallPage<'_>,
    vp: VpIndex,
    context: &InitialVpContext,
) -> Result<(), HvError> {
    let input = StartVpInput {
        partition_id: PartitionId::SELF,
        vp_index: vp,
        target_vtl: 0,
        reserved: [0; 3],
        context: *context,
    };
    // SAFETY: the caller vouches for the code that the VP runs; the call writes no guest memory.
    unsafe { hypercall::memory(conduit, page, HypercallInput::from_code(HypercallCode::START_VP), &input) }
}

/// A device interrupt, for [`retarget_interrupt`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeviceInterrupt {
    /// The logical id of the device, assigned by the host.
    pub device: u64,
    /// The address that the device's MSI writes.
    pub msi_address: u64,
    /// The data that the MSI writes there.
    pub msi_data: u32,
    /// The interrupt to raise.
    pub vector: u32,
}

impl DeviceInterrupt {
    /// Returns the interrupt `vector` of a device, whose MSI writes `msi_data` to `msi_address`.
    #[must_use]
    pub const fn new(device: u64, msi_address: u64, msi_data: u32, vector: u32) -> Self {
        Self { device, msi_address, msi_data, vector }
    }
}

/// Retargets a device interrupt to one VP of a set, or with `multicast` to all of them.
///
/// # Errors
///
/// [`RepError::Status`] with the hypervisor's status.
#[doc(alias = "HVCALL_RETARGET_INTERRUPT")]
pub fn retarget_interrupt<const BANKS: usize>(
    conduit: &(impl Conduit + ?Sized),
    page: &mut CallPage<'_>,
    interrupt: &DeviceInterrupt,
    set: &VpSet<BANKS>,
    multicast: bool,
) -> Result<(), RepError> {
    let (vp_set, banks, count) = set.to_parameters();
    let header = RetargetInterruptInput {
        partition_id: PartitionId::SELF,
        device_id: interrupt.device,
        entry: InterruptEntry {
            source: InterruptSource::MSI,
            reserved: 0,
            msi: MsiEntry { address: interrupt.msi_address, data: interrupt.msi_data, reserved: 0 },
        },
        reserved: 0,
        target: InterruptTarget {
            vector: interrupt.vector,
            flags: InterruptTargetFlags(0).with_processor_set(true).with_multicast(multicast),
            mask_or_format: vp_set.format,
        },
    };
    // The set's bank mask and banks lie beyond the fixed header: Linux, drivers/pci/controller/pci-hyperv.c, counts 1 +
    // banks as the variable header.
    let mut variable = [0; hv_tlfs::sets::MAX_SPARSE_BANKS + 1];
    for (to, from) in variable.iter_mut().zip([vp_set.valid_bank_mask].iter().chain(&banks)) {
        *to = *from;
    }
    let variable = variable.get(..=count).unwrap_or(&variable);
    let (input, output): (&[u64], &mut [u64]) = (&[], &mut []);
    let call = Rep { code: HypercallCode::RETARGET_INTERRUPT, header: &header, variable, input, output };
    // SAFETY: the call changes the target of an interrupt that the device already raises; it writes no guest memory.
    unsafe { call.call(conduit, page) }
}
