//! The Hyper-V guest interface on ARM64 as types: registers, hypercalls, SynIC, timers, VMBus.
//!
//! Data only: no code here makes a hypercall, allocates or is unsafe. Guests and hosts share these bytes and nothing
//! else.
//!
//! # The interface in a page
//!
//! **Finding it.** A guest learns from ACPI or from an SMCCC call that it runs on Hyper-V ([`smccc`]). It then reads
//! *VP registers* ([`register`]): numbered words kept by the hypervisor, where x64 has CPUID leaves and MSRs. Registers
//! 0x100 to 0x209 hold version, privileges, features, hints and limits ([`features`]).
//!
//! **Hypercalls.** A *hypercall* is `hvc #0` with a function id, an input value that selects the call, and parameters
//! in memory or in registers ([`hypercall`]). The result is a [`status`](status::HvStatus) and, for a rep call, the
//! number of elements completed. Reading and writing VP registers are hypercalls too. Before almost anything else the
//! guest identifies itself ([`guest_id`]).
//!
//! **Messages and events.** Each VP has a *synthetic interrupt controller* ([`synic`]) with 16 sources. The hypervisor
//! puts a message into a source's slot of the message page, or sets a flag in the event flags page, and raises the
//! interrupt that the guest assigned to the source. On *end of message* it fills the emptied slot again.
//!
//! **Time.** One tick is 100 ns, counted from the partition's creation ([`time`]): read from a register, or without an
//! exit from the reference TSC page. Four synthetic timers per VP are optional on ARM64 ([`timer`]).
//!
//! **VPs.** They have indices ([`vp`]), are addressed in sets ([`sets`]), are started by hypercall ([`start_vp`]), and
//! send each other interrupts and TLB flushes ([`interrupt`], [`flush`]). Trust levels protect parts of a guest from
//! the rest ([`vsm`], [`intercept`]); isolation protects it from the host ([`isolation`]).
//!
//! **Devices.** [`vmbus`] is built on all of these: messages to offer and open channels, rings in guest memory to
//! transfer data.
//!
//! **Crash.** [`crash`]: five parameters, or a message, and a write to the control register.
//!
//! # Rules of this crate
//!
//! * **Everything is little-endian**, and a page is 4096 bytes whatever the guest's page size ([`page`]). 32-bit guests
//!   do not exist on ARM64.
//! * A value that may come from the other side is an open newtype with constants, never an `enum`; matching is up to
//!   the user.
//! * Structures are `#[repr(C)]` without padding, usable in place (they derive zerocopy's traits); each offset and size
//!   is asserted at compile time. Bit fields are methods on a word, not C bit fields.
//! * Every item has its C names as search aliases: those of the 2018 patch, of Linux 6.12 and 7.x, and of the TLFS. The
//!   [`abi`] table finds them at run time. An item without a name in either has one in their style.
//! * x64 is left out: MSRs, APIC, IO ports, CPUID, nested VMX and SVM, `HvX64` registers and messages. Where the 2018
//!   patch used an x64 number, [`patch2018`] keeps it and says so.
//! * Where sources disagree, the documentation of the item says which says what. The stock Linux kernel must work.
//!
//! ```
//! use hv_tlfs::hypercall::{HypercallCode, HypercallInput};
//! use hv_tlfs::register::{GetVpRegistersInput, RegisterName};
//! use hv_tlfs::vp::{InputVtl, PartitionId, VpIndex};
//! use zerocopy::IntoBytes;
//!
//! // "Read my SCONTROL": the input value, and 20 bytes of parameters.
//! let control = HypercallInput::from_code(HypercallCode::GET_VP_REGISTERS).with_rep_count(1);
//! let header = GetVpRegistersInput {
//!     partition_id: PartitionId::SELF,
//!     vp_index: VpIndex::SELF,
//!     input_vtl: InputVtl::CURRENT,
//!     reserved: [0; 3],
//! };
//! let mut parameters = [0u8; 20];
//! parameters[..16].copy_from_slice(header.as_bytes());
//! parameters[16..].copy_from_slice(RegisterName::SCONTROL.as_bytes());
//! assert_eq!(control.bits(), 0x1_0000_0050);
//! assert_eq!(parameters[16..], [0x10, 0x00, 0x0a, 0x00]);
//! ```
//!
//! # The review, settled
//!
//! In December 2018 the patch *arm64: hyperv: Add core Hyper-V include files* was reviewed on the kernel's lists. Each
//! point of that review, the author's answer, and what this crate does:
//!
//! | The reviewer | The author | Here |
//! |---|---|---|
//! | A file of magic numbers, hard to maintain: when is the specification published? | No date to give; fair point | Published in December 2025 for ARM64. Each item says what it means and names its sources; the numbers are checked against C headers and a second crate |
//! | Link to the specification is a mail filter's wrapper; use a better one | Agreed | Documents and sections by title, no links that rot |
//! | Drop the licence text below the SPDX line | Agreed | MIT OR Apache-2.0, said in `Cargo.toml` once |
//! | Header guard should be `__ASM_HYPER_V_H` | Agreed | No guards in Rust; the generated C header has `HV_ARM64_ABI_H` |
//! | Link on the guest id is dead | The text moved into the TLFS | [`guest_id`] has both layouts with all known types and vendors |
//! | "Linux is 0x100" and the rest of that comment appear twice | One copy goes | Stated once. And Linux is 1: 0x100 does not fit into seven bits |
//! | Is the plan for guest ids published? | Planned | It is, and [`OpenSourceOs`](guest_id::OpenSourceOs) and [`Vendor`](guest_id::Vendor) are its lists |
//! | `HVCALL_GET_VP_INDEX_FROM_APICID` and its neighbours sound like x86 | Delete it | Kept, with its history: the TLFS of 2025 gives it MPIDR values on ARM64 ([`GET_VP_ID_FROM_APIC_ID`](hypercall::HypercallCode::GET_VP_ID_FROM_APIC_ID)) |
//! | Bit fields: is their layout not up to the compiler? | Keep them, add `__packed` | No bit fields: methods with the bit numbers of the TLFS ([`MessageFlags`](synic::MessageFlags), [`PortId`](synic::PortId), ...), tested |
//! | Structures lack packing | Add `__packed` | `#[repr(C)]` without padding, which zerocopy's `IntoBytes` proves; sizes and offsets asserted |
//! | Make the TSC page a union with the page size | Declined: it is as in the TLFS | As in the TLFS, 4096 bytes with the reserved words; the size is asserted ([`ReferenceTscPage`](time::ReferenceTscPage)) |
//! | What is the alignment of the TSC page? | 4 KiB, by how it is allocated | 4 KiB, by type: [`PageAligned`](page::PageAligned) |
//! | Will 32-bit guests use it? | No | No: every structure is for 64-bit guests |
//! | Guests with other page sizes | Work to come | 4096 is the hypervisor's page in every structure and number ([`page`]); 16K and 64K guests count in it |
//! | What is the endianness of shared memory? | Little; will be stated | Stated above, and building for a big-endian target is an error |
//! | Define the page size by the shift | Good idea | [`page::SIZE`] is `1 << SHIFT` |
//! | `hv_read_hwclock`: use the `arch_timer` helpers | Declined: Hyper-V's clock is not the arch timer's | The counter is CNTVCT_EL0, as both said. Barriers are up to the guest routine, and current Linux uses the architectural timer |
//! | `mb()` after a successful `cmpxchg` is not needed | OK | True of Linux's `cmpxchg`, which is a full barrier. The required order is documented at [`MessageHeader::message_type`](synic::MessageHeader), for systems without such a `cmpxchg` |
//! | Would `cmpxchg_acquire` do? | Will look | No: the store that empties the slot must be visible before the load of the flag, and acquire does not order a store before a later load |
//! | What does the writer of the TSC page do? Why not the lowest bit of the sequence? | Hyper-V is the writer, by the TLFS | Written down for both sides at [`ReferenceTscPage`](time::ReferenceTscPage): 0 while it changes, then a new number |
//! | (Another reviewer:) the test for sequence 0 was lost | Will be restored | 0 is named and documented: read the register instead |
//!
//! Three problems escaped the review: the feature bits of the third dword were x64's ([`features`]), the INTIDs 16 and
//! 17 were hard-coded ([`patch2018`]), and one C name has since come to mean two registers
//! ([`PRIVILEGES_AND_FEATURES_INFO`](register::RegisterName::PRIVILEGES_AND_FEATURES_INFO)).
#![no_std]
#![forbid(unsafe_code)]

#[cfg(target_endian = "big")]
compile_error!(
    "everything that Hyper-V shares with a guest is little-endian; this crate maps it without conversion"
);

#[macro_use]
mod macros;

pub mod abi;
pub mod crash;
pub mod extended;
pub mod features;
pub mod flush;
pub mod guest_id;
pub mod hypercall;
pub mod intercept;
pub mod interrupt;
pub mod isolation;
pub mod memory;
pub mod page;
pub mod patch2018;
pub mod port;
pub mod psci;
pub mod register;
pub mod rules;
pub mod sets;
pub mod smccc;
pub mod start_vp;
pub mod status;
pub mod synic;
pub mod time;
pub mod timer;
pub mod vmbus;
pub mod vp;
pub mod vsm;
