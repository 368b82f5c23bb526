//! The book's example: from boot to the first sector of the first disk.

// ANCHOR: example
use hv_drivers::Wait as Pause;
use hv_drivers::hv_vmbus_client::{Client, Contact, Dma, Error, Open, Slots, Wait};
use hv_drivers::storage::{Controller, Error as StorageError};
use hv_guest::interrupts::{Interrupts, Intid};
use hv_guest::page::{CallPage, Memory, Page};
use hv_guest::synic::{SintIndex, Synic};
use hv_guest::{conduit::Conduit, partition::Partition, vp_map::VpMap};
use hv_tlfs::{vmbus::guid, vp::VpIndex};

static VPS: VpMap<4> = VpMap::new();
static SLOTS: Slots<64, 72> = Slots::new();

/// Enables the VP's SynIC, at boot, on the CPU that is to get VMBus's messages, with the source of VMBus unmasked.
fn synic<'p, C: Conduit>(
    partition: &'p Partition<C>,
    pages: [&'static Page; 2],
    memory: &impl Memory,
    interrupt: Intid,
    interrupts: &impl Interrupts,
) -> Option<Synic<'p, C>> {
    let mut synic = partition.vp(&VPS, 0).ok()?.enable_synic(pages[0], pages[1], memory).ok()?;
    synic.unmask(SintIndex::VMBUS, interrupt, interrupts).ok()?;
    Some(synic)
}

/// Connects to the bus: contact, and all offers.
fn bus<C: Conduit>(
    conduit: C,
    vp: VpIndex,
    page: CallPage<'static>,
    os: &mut impl Wait<C, ()>,
) -> Result<Client<'static, C>, Error> {
    // SAFETY: `os` gives it this partition's messages; all memory is this partition's, and no other client exists.
    let mut client = unsafe { Client::new(conduit, page, SLOTS.lend().ok_or(Error::NoSlot)?) };
    let version = client.connect(Contact::new(vp), os)?;
    println!("VMBus {version}, {} channels", client.offers().count());
    Ok(client)
}

/// Reads the first sector of the first controller's first disk. A kernel's `pause` sleeps until the channel's event
/// flag is set; firmware's looks again, until it has waited long enough.
fn first_sector<C: Conduit + Copy, D: Dma>(
    client: &mut Client<'static, C>,
    vp: VpIndex,
    dma: D,
    os: &mut impl Wait<C, ()>,
    pause: &mut impl Pause,
) -> Result<[u8; 512], StorageError> {
    let offer = client.find(guid::SCSI).ok_or(Error::NoSlot)?;
    let channel = client.open_channel(&offer, 16, Open::on(vp), &dma, os)?;
    let mut controller: Controller<'_, _, _, (), 32> = Controller::new(channel, dma);
    controller.wait_ready(pause)?;
    let mut first = None;
    controller.disks(pause, |disk| first = first.or(Some(disk)))?;
    let mut sector = [0; 512];
    controller.read(&first.ok_or(Error::NoSlot)?, 0, &mut sector, pause)?;
    let closing = controller.close(client).map_err(|returned| returned.error)?;
    client.block_on(closing, os).map_err(|returned| returned.error)?;
    Ok(sector)
}
// ANCHOR_END: example

use hv_testbed::Convention;

use crate::foreign::{BedDma, INTID, Machine, Os};

#[test]
fn the_example_boots_and_reads() {
    let machine = Machine::new(Convention::Smccc, 1, 512, 1);
    let (bed, pages) = (machine.bed, [machine.bed.page(), machine.bed.page()]);
    let synic = synic(machine.partition, pages, bed.ram(), INTID, &bed.interrupts(0)).unwrap();
    let mut os = Os { synic: &synic, bed };
    let vp = synic.vp().index();
    let mut client = bus(machine.cpu, vp, bed.call_page(), &mut os).unwrap();
    let mut pause = || Os { synic: &synic, bed }.pause();
    let sector = first_sector(&mut client, vp, BedDma::<1>(bed), &mut os, &mut pause).unwrap();
    assert!(sector == machine.content[..512]);
}
