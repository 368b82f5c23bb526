//! Structures of the header. Their layouts are those of hv-tlfs; C wants them under its own names.

use core::ffi::c_void;

/// What the library needs of the kernel. It stays where it is, and as it is, once given to `hv_guest_init`.
#[repr(C)]
#[derive(Debug)]
pub struct hv_guest_os {
    /// Guest physical address of what is at `address`.
    pub virt_to_phys: Option<unsafe extern "C" fn(address: *const c_void) -> u64>,
    /// Number of the CPU that calls, from 0 on.
    pub cpu_number: Option<unsafe extern "C" fn() -> u32>,
    /// Makes an interrupt edge-triggered and lets `handler` run when it arrives; on all CPUs, not enabled yet.
    pub setup_irq: Option<unsafe extern "C" fn(intid: u32, handler: Option<unsafe extern "C" fn()>)>,
    /// Undoes `setup_irq`.
    pub remove_irq: Option<unsafe extern "C" fn(intid: u32)>,
    /// Enables an interrupt on the CPU that calls.
    pub enable_irq: Option<unsafe extern "C" fn(intid: u32)>,
    /// Disables an interrupt on the CPU that calls.
    pub disable_irq: Option<unsafe extern "C" fn(intid: u32)>,
    /// INTID of VMBus, from ACPI or the device tree.
    pub vmbus_intid: u32,
    /// INTID for synthetic timer 0 in direct mode.
    pub stimer0_intid: u32,
    /// The map from CPU to VP: `cpus` entries.
    pub vp_index: *mut u32,
    /// Number of CPUs.
    pub cpus: u32,
    /// 0: ask the hypervisor; 1: `hvc #0`; 2: `hvc #1`.
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

/// The head of a message.
#[cfg(not(hv_abi_header))]
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct hv_message_header {
    /// What it is; HVMSG_NONE in an empty slot.
    pub message_type: u32,
    /// Bytes of the payload.
    pub payload_size: u8,
    /// Bit 0: more messages wait.
    pub message_flags: u8,
    /// Zero.
    pub reserved: [u8; 2],
    /// The port of a posted message.
    pub sender: u64,
}

/// A message, and a slot of the message page.
#[cfg(not(hv_abi_header))]
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct hv_message {
    /// The head.
    pub header: hv_message_header,
    /// The payload.
    pub payload: [u64; 30],
}

/// The reference TSC page.
#[cfg(not(hv_abi_header))]
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ms_hyperv_tsc_page {
    /// Changes with the other two; 0 while the page is not valid.
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

/// What `hyperv_report_panic` takes of a CPU's registers.
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
