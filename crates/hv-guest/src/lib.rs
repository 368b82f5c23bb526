//! The guest side of Hyper-V on ARM64, for any kernel, unikernel or firmware.
//!
//! `no_std`, no allocation, and no global state: the OS owns all state and passes it in. Everything is generic over how
//! a hypercall is issued (a [`Conduit`](conduit::Conduit)), so the code that runs on a machine also runs in a unit test
//! against a model of the hypervisor.
//!
//! # Overview
//!
//! | when | what | where |
//! |---|---|---|
//! | boot | is this Hyper-V? | [`detect`] |
//! | | identify the guest | [`Detected::identify`](detect::Detected::identify): a [`Partition`](partition::Partition) |
//! | | start the reference clock | [`Partition::start_clock`](partition::Partition::start_clock) |
//! | each CPU, as it comes up | get its VP | [`Partition::vp`](partition::Partition::vp) returns a [`Vp`](partition::Vp), and records it in the [`VpMap`](vp_map::VpMap) |
//! | | messages and events | [`Vp::enable_synic`](partition::Vp::enable_synic) returns a [`Synic`](synic::Synic) |
//! | | timers | [`Timer`](timer::Timer) |
//! | each CPU, as it goes down | | [`Synic::disable`](synic::Synic::disable), [`Vp::offline`](partition::Vp::offline) |
//! | shutdown, kexec | | [`Partition::leave`](partition::Partition::leave); after a crash [`teardown`] |
//! | panic | | [`CrashReporter`](crash::CrashReporter) |
//!
//! ```
//! use hv_guest::{conduit::{Conduit, Counter}, detect, page::{Memory, Page}, tlfs::guest_id::GuestOsId};
//!
//! /// Seconds since the partition was created, on Hyper-V. On a machine the conduit is `hv_guest::arch::Smccc`.
//! fn uptime(conduit: impl Conduit + Counter, page: &'static Page, memory: &impl Memory) -> Option<u64> {
//!     let hv = detect::vendor_uid(conduit)?.identify(GuestOsId::linux(0x06_0c_00)).ok()?;
//!     let clock = hv.start_clock(page, memory).ok()?;
//!     Some(clock.now().ok()?.ticks() / 10_000_000)
//! }
//! # use hv_testbed::{Config, Convention, Testbed};
//! # let bed = Testbed::new(Config::new(24_000_000), 1);
//! # bed.advance(hv_tlfs::time::ReferenceTime(25_000_000));
//! # assert_eq!(uptime(bed.wire(0, Convention::Smccc), bed.page(), bed.memory()), Some(2));
//! ```
//!
//! The [`guide`] walks through all of this with code, and has a table from each C name to its Rust counterpart.
//!
//! The OS implements two traits: [`Memory`](page::Memory) returns the guest physical address of a page, and
//! [`Interrupts`](interrupts::Interrupts) enables and disables an interrupt on the calling CPU.
//!
//! Every C name of the interface, from any version of the headers, is a search alias here.

#![no_std]
#![warn(missing_debug_implementations)]

#[cfg(test)]
extern crate std;

pub mod arch;
#[expect(unsafe_code, reason = "lends a page to the hypervisor")]
pub mod clock;
#[expect(unsafe_code, reason = "passes hypercalls on")]
pub mod conduit;
#[expect(unsafe_code, reason = "issues hypercalls")]
pub mod connection;
#[expect(unsafe_code, reason = "issues hypercalls")]
pub mod crash;
#[expect(unsafe_code, reason = "issues an SMCCC call")]
pub mod detect;
mod failed;
mod flags;
#[expect(unsafe_code, reason = "issues hypercalls")]
pub mod flush;
#[expect(unsafe_code, reason = "issues hypercalls")]
pub mod hypercall;
mod index;
pub mod interrupts;
pub mod message;
#[expect(unsafe_code, reason = "one page is seen as slots, flags, or the reference TSC page")]
pub mod page;
#[expect(unsafe_code, reason = "passes hypercalls on")]
pub mod partition;
#[expect(unsafe_code, reason = "a value in a static is lent to one caller at a time")]
pub mod per_cpu;
#[expect(unsafe_code, reason = "issues hypercalls")]
pub mod processors;
#[expect(unsafe_code, reason = "issues hypercalls")]
pub mod registers;
pub mod sets;
mod sync;
#[expect(unsafe_code, reason = "lends pages to the hypervisor")]
pub mod synic;
pub mod teardown;
pub mod timer;
mod tsc;
pub mod vmbus;
pub mod vp_map;

#[cfg(test)]
mod tests;

#[doc = include_str!("../guide.md")]
pub mod guide {}

pub use failed::Failed;
pub use hv_tlfs as tlfs;
/// Re-exported for the bytes of a message: `contact.as_bytes()`, with `zerocopy::IntoBytes` in scope.
pub use zerocopy;
