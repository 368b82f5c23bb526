//! Counts what a request takes in the guest: `hv-drivers`, `hv-vmbus-client`, and an OS that waits by interrupt.
//!
//! It counts the instructions at EL1 by the PMU (Arm ARM, "PMEVTYPER\<n\>_EL0": EL2 is left out unless NSH is set),
//! which QEMU has where `-icount` is on. For each figure it prints `bench: NAME VALUE`, and at the end `bench: done`.
#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "registers of the PMU")]

use bus::{Boot, Os, Pool};
use hv_drivers::hv_vmbus_client::{Buffer, Client, Open, PageRun, Slots};
use hv_drivers::network::{self, Frames as _, Sizes};
use hv_drivers::storage::{Controller, Disk};
use hv_guest::arch::Either;
use hv_tlfs::vmbus::guid;
use rt::{arch, mrs, msr};

/// Requests that a figure is the mean of.
const REPETITIONS: u64 = 64;
/// Bytes of a read, and of frames: `cost-init` counts the same for Linux.
const PAGE: u32 = 4096;
const FRAME: usize = 60;
const LONG: usize = 1514;

static SLOTS: Slots<64, 72> = Slots::new();

rt::entry!(main);
fn main(hardware: &'static rt::Hardware) {
    let boot = Boot::new(hardware);
    let synic = boot.synic();
    let os = Os::new(&synic);
    start();
    let lent = SLOTS.lend().expect("they are free");
    // SAFETY: this is the only call.
    let mut client = unsafe { bus::connect(&boot, &os, lent) }.expect("the host takes the contact");
    disk(&mut client, &os);
    card(&mut client, &os);
    client.disconnect(&mut &os).expect("the host ends the connection");
    boot.end(synic);
    rt::println!("bench: done");
}

/// Has counter 0 of the PMU count instructions at EL1.
fn start() {
    /// INST_RETIRED, and U: not those at EL0.
    const EVENT: u64 = 8 | 1 << 30;
    // SAFETY: counters of the PMU change nothing but themselves.
    unsafe { msr!("pmevtyper0_el0", EVENT) };
    // SAFETY: enables a counter.
    unsafe { msr!("pmcntenset_el0", 1) };
    let control = mrs!("pmcr_el0") | 1;
    // SAFETY: enables the PMU.
    unsafe { msr!("pmcr_el0", control) };
    arch::isb();
}

/// Returns the instructions so far, modulo 2^32.
#[inline(always)]
fn counted() -> u32 {
    arch::isb();
    mrs!("pmevcntr0_el0") as u32
}

/// Prints the mean of what `round` counts.
fn figure(name: &str, mut round: impl FnMut() -> u32) {
    for _ in 0..8 {
        round();
    }
    // What two looks at the counter take.
    let start = counted();
    let empty = u64::from(counted().wrapping_sub(start));
    let sum: u64 = (0..REPETITIONS).map(|_| u64::from(round()) - empty).sum();
    rt::println!("bench: {name} {}", (sum + REPETITIONS / 2) / REPETITIONS);
}

/// Reads of a page: from the request to the data, with the interrupt.
fn disk(client: &mut Client<'static, Either>, os: &Os<'_, '_>) {
    let offer = client.find(guid::SCSI).expect("there is a disk");
    let channel = os.open(client, &offer, 16).expect("the channel opens");
    let mut scsi: Controller<'static, Pool, Either, (), 8> = Controller::new(channel, Pool);
    scsi.wait_ready(&mut os.waiter()).expect("the controller initializes");
    let mut first: Option<Disk> = None;
    scsi.disks(&mut os.waiter(), |disk| first = first.or(Some(disk))).expect("the disks are found");
    let disk = first.expect("there is a disk");
    let mut memory = Some(PageRun::of_bytes(&Pool, PAGE as usize).expect("there is memory"));
    figure("driver-read", || {
        let pages = memory.take().expect("it came back");
        let start = counted();
        scsi.submit_read((), &disk, 8, Buffer { pages, offset: 0, len: PAGE }).expect("there is room");
        let done = loop {
            os.wait().expect("there is no limit");
            if let Some(done) = scsi.poll().expect("the controller works") {
                break done;
            }
        };
        let end = counted();
        done.outcome.expect("the disk reads");
        memory = done.data.map(|data| data.pages);
        end.wrapping_sub(start)
    });
    let closing = scsi.close(client).expect("the host takes the message");
    client.block_on(closing, &mut &*os).expect("the host gives the rings back");
}

/// Measures frames to the network, some of which it answers.
fn card(client: &mut Client<'static, Either>, os: &Os<'_, '_>) {
    let offer = client.find(guid::NETWORK).expect("there is a card");
    let (place, size) = ((&offer, Open::on(os.vp())), (1500, Sizes::default()));
    let card = network::open(client, place, size, &Pool, &mut &*os);
    let mut card = card.expect("the card is initialized");
    let mac = card.mac();
    let mut frame = [0; LONG];
    // To everyone, of a type that nothing takes (IEEE 802, "Local experimental Ethertypes").
    let mut nothing = [0; LONG];
    nothing[..6].fill(0xff);
    nothing[6..12].copy_from_slice(&mac);
    nothing[12..14].copy_from_slice(&[0x88, 0xb5]);
    let pause = || rt::time::delay(core::time::Duration::from_micros(20));
    for (name, len) in [("driver-send", FRAME), ("driver-send-1514", LONG)] {
        figure(name, || {
            pause();
            let start = counted();
            card.send(&nothing[..len]).expect("there is a section");
            os.wait().expect("there is no limit");
            // The frame's completion; the network may have something to say of its own.
            while card.receive(&mut frame).expect("the card works").is_some() {}
            counted().wrapping_sub(start)
        });
    }
    let mut request = nothing;
    request[12..22].copy_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    request[22..28].copy_from_slice(&mac);
    request[28..32].copy_from_slice(&[10, 0, 2, 15]);
    request[38..42].copy_from_slice(&[10, 0, 2, 2]);
    figure("driver-receive", || {
        loop {
            card.send(&request[..FRAME]).expect("there is a section");
            os.wait().expect("there is no limit");
            if !takes_answer(&mut card, &mut frame) {
                // The frame's completion alone: what comes next is the answer.
                let start = counted();
                loop {
                    os.wait().expect("there is no limit");
                    if takes_answer(&mut card, &mut frame) {
                        return counted().wrapping_sub(start);
                    }
                }
            }
            // The answer was as fast: its interrupt was not counted, so this round is not.
        }
    });
    let closing = card.close(client).expect("the host takes the message");
    client.block_on(closing, &mut &*os).expect("the host gives the memory back");
}

/// Takes all frames that have come, and returns true if the answer to an ARP request was one of them.
fn takes_answer(card: &mut network::Card<'static, Pool, Either>, frame: &mut [u8; LONG]) -> bool {
    let mut answered = false;
    while card.receive(frame).expect("the card works").is_some() {
        answered |= frame[12..14] == [8, 6];
    }
    answered
}
