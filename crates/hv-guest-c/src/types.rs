//! Structures of the header. Their layouts are those of hv-tlfs, under the names that C uses.

use core::ffi::c_void;

/// What the kernel provides to the library. Must stay valid and unchanged once passed to `hv_guest_init`.
#[repr(C)]
#[derive(Debug)]
pub struct hv_guest_os {
    /// Returns the guest physical address of `address`.
    pub virt_to_phys: Option<unsafe extern "C" fn(address: *const c_void) -> u64>,
    /// Returns the number of the calling CPU, starting at 0.
    pub cpu_number: Option<unsafe extern "C" fn() -> u32>,
    /// Configures an interrupt as edge-triggered and registers `handler` for it, on all CPUs, without enabling it.
    pub setup_irq: Option<unsafe extern "C" fn(intid: u32, handler: Option<unsafe extern "C" fn()>)>,
    /// Reverts `setup_irq`.
    pub remove_irq: Option<unsafe extern "C" fn(intid: u32)>,
    /// Enables an interrupt on the calling CPU.
    pub enable_irq: Option<unsafe extern "C" fn(intid: u32)>,
    /// Disables an interrupt on the calling CPU.
    pub disable_irq: Option<unsafe extern "C" fn(intid: u32)>,
    /// INTID of VMBus, from ACPI or the device tree.
    pub vmbus_intid: u32,
    /// INTID for synthetic timer 0 in direct mode.
    pub stimer0_intid: u32,
    /// The map from CPU to VP: `cpus` entries.
    pub vp_index: *mut u32,
    /// Number of CPUs.
    pub cpus: u32,
    /// 0: detect; 1: `hvc #0`; 2: `hvc #1`.
    pub convention: u32,
}

/// Output of a Get of one register.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct hv_get_vp_register_output {
    /// Bits 63:0.
    pub registervaluelow: u64,
    /// Bits 127:64.
    pub registervaluehigh: u64,
}

/// The header of a message.
#[cfg(not(hv_abi_header))]
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct hv_message_header {
    /// Type of the message; HVMSG_NONE in an empty slot.
    pub message_type: u32,
    /// Size of the payload in bytes.
    pub payload_size: u8,
    /// Bit 0: more messages are pending.
    pub message_flags: u8,
    /// Zero.
    pub reserved: [u8; 2],
    /// The port of a posted message.
    pub sender: u64,
}

/// A message, or a slot of the message page.
#[cfg(not(hv_abi_header))]
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct hv_message {
    /// The header.
    pub header: hv_message_header,
    /// The payload.
    pub payload: [u64; 30],
}

/// The reference TSC page.
#[cfg(not(hv_abi_header))]
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ms_hyperv_tsc_page {
    /// Changes with scale and offset; 0 while the page is invalid.
    pub tsc_sequence: u32,
    /// Zero.
    pub reserved1: u32,
    /// Units of 100 ns per tick, in 1/2^64.
    pub tsc_scale: u64,
    /// Units of 100 ns to add.
    pub tsc_offset: i64,
    /// Zero.
    pub reserved2: [u64; 509],
}

/// The registers of a CPU that `hyperv_report_panic` uses.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct pt_regs {
    /// X0 to X30.
    pub regs: [u64; 31],
    /// Stack pointer.
    pub sp: u64,
    /// Program counter.
    pub pc: u64,
    /// Processor state.
    pub pstate: u64,
}

const _: () = {
    use hv_tlfs::{register::RegisterValue, synic, time::ReferenceTscPage};
    assert!(size_of::<hv_get_vp_register_output>() == size_of::<RegisterValue>());
    assert!(size_of::<hv_message_header>() == size_of::<synic::MessageHeader>());
    assert!(size_of::<hv_message>() == size_of::<synic::Message>());
    assert!(size_of::<ms_hyperv_tsc_page>() == size_of::<ReferenceTscPage>());
};
