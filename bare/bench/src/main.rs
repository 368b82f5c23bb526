//! Measures what an operation costs a guest, in instructions.
//!
//! It is meant for `hv bench`, which runs it where one instruction takes one nanosecond of the guest's time (QEMU's
//! `-icount shift=0`, as with `hv boot --deterministic`). Then the counter counts instructions of the guest, of the
//! hypervisor and of all VPs together, and the same program gives the same numbers.
//!
//! On one VP it measures the operations of one VP, on more those between VPs. `bench.only=NAME` measures only the
//! operations whose names contain NAME, `bench.exact=1` only the one that is called so, and `bench.rounds=N` repeats
//! each N times as often; `bench.slower=N` divides what it waits for devices by N; `bench.after=N` has it begin N
//! milliseconds after the machine: what the host does at first would be counted. For each operation it prints
//! `bench: NAME VALUE REPETITIONS`, and at the end `bench: done`.
#![no_std]
#![no_main]

mod calls;
mod clock;
mod disk;
mod gic;
mod interrupts;
mod measure;
mod messages;
mod network;
mod others;
mod vmbus;

use hv_guest::arch::Smccc;
use hv_guest::detect;
use hv_guest::page::{IdentityMapped, Page};
use hv_guest::partition::Partition;
use hv_guest::vp_map::VpMap;
use hv_tlfs::guest_id::GuestOsId;

use measure::Bench;

// SAFETY: the runtime maps RAM to itself.
#[expect(unsafe_code, reason = "only this program knows how its memory is mapped")]
const MEMORY: IdentityMapped = unsafe { IdentityMapped::new() };

/// Pages for calls, for the clock and for the SynIC.
static PAGES: [Page; 5] = [const { Page::new() }; 5];

fn identify() -> Partition<Smccc> {
    let hv = detect::vendor_uid(Smccc).expect("this is Hyper-V");
    hv.identify(GuestOsId::linux(0x01_00_00).with_os_id(0x42)).expect("it takes our id")
}

rt::entry!(main);
fn main(hardware: &'static rt::Hardware) {
    let bench = Bench::new(
        hardware.argument("bench.only").unwrap_or(""),
        hardware.number("bench.exact") == Some(1),
        hardware.number("bench.rounds").unwrap_or(1),
        hardware.number("bench.slower").unwrap_or(1),
    );
    let begin = hardware.number("bench.after").unwrap_or(0) * (rt::time::frequency() / 1000);
    while measure::counter() < begin {}
    let hv = identify();
    if hardware.vps() == 1 {
        calls::run(&bench);
        clock::run(&bench, &hv);
        gic::run(&bench, hardware);
        let map = VpMap::<1>::new();
        let vp = hv.vp(&map, 0).expect("it tells the VP's index");
        interrupts::run(&bench, hardware, &vp);
        messages::run(&bench, hardware, vp);
    } else {
        others::run(&bench, hardware);
    }
    rt::println!("bench: done");
}
