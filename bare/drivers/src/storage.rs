//! The disks.

use bus::{Boot, Os, Pool};
use hv_drivers::Wait;
use hv_drivers::hv_vmbus_client::{Client, Open};
use hv_drivers::storage::{Controller, Disk};
use hv_guest::arch::Either;
use hv_guest::per_cpu::PerCpu;
use hv_guest::synic::Synic;
use hv_tlfs::vmbus::guid;
use hv_tlfs::vp::VpIndex;
use rt::{Hardware, MAX_CPUS, vps};
use spin::Mutex;

/// Requests in flight, and pages of each ring.
const DEPTH: usize = 8;
const RING: usize = 16;

type Scsi = Controller<'static, Pool, Either, (), DEPTH>;

/// Uses the disks on the last VP, whose interrupts the channel has; the first VP opens and closes the channel.
pub(crate) fn run(hardware: &Hardware, boot: &Boot, client: &mut Client<'static, Either>, os: &Os<'_, '_>) {
    let offer = client.find(guid::SCSI).expect("there is a disk");
    let (last, mut os) = (hardware.vps() - 1, os);
    // The host interrupts a VP whose SynIC is on.
    let synics = PerCpu::<Synic<'_, Either>, MAX_CPUS>::new();
    if last != 0 {
        vps::run_on(last, &|| drop(synics.put(last, boot.synic())));
    }
    let open = Open::on(VpIndex(last as u32));
    let channel = client.open_channel(&offer, RING, open, &Pool, &mut os).expect("the channel opens");
    let scsi: Mutex<Scsi> = Mutex::new(Controller::new(channel, Pool));
    if last == 0 {
        use_disks(&mut scsi.lock(), &mut os.waiter());
    } else {
        vps::run_on(last, &|| {
            let used = synics.with(last, |synic| use_disks(&mut scsi.lock(), &mut Os::new(synic).waiter()));
            used.expect("the VP has its SynIC");
        });
    }
    let closing = scsi.into_inner().close(client).expect("the host takes the message");
    let left = client.block_on(closing, &mut os).expect("the host gives the rings back");
    assert!(left.iter().all(Option::is_none), "nothing was in flight");
    if last != 0 {
        vps::run_on(last, &|| boot.end(synics.take(last).expect("the VP has its SynIC")));
    }
}

fn use_disks(scsi: &mut Scsi, wait: &mut impl Wait) {
    scsi.wait_ready(wait).expect("the controller initializes");
    let (mut disks, mut count) = ([const { None }; 4], 0);
    scsi.disks(wait, |disk| {
        if let Some(free) = disks.get_mut(count) {
            *free = Some(disk);
        }
        count += 1;
    })
    .expect("the disks are found");
    rt::println!("drivers: storage {:#x}, {count} disks", scsi.version());
    for disk in disks.iter().flatten() {
        look(scsi, disk, wait);
    }
}

/// Reads the disk's first sector and a longer piece across pages, and writes its last sector, unless it is read only.
fn look(scsi: &mut Scsi, disk: &Disk, wait: &mut impl Wait) {
    let lun = disk.address.lun;
    let mut sector = [0; 512];
    scsi.read(disk, 0, &mut sector, wait).expect("the first sector is read");
    let mut piece = [0; 20 * 512];
    scsi.read(disk, 1, &mut piece, wait).expect("20 sectors are read");
    let sum = |bytes: &[u8]| bytes.iter().fold(0_u32, |sum, byte| sum.rotate_left(5) ^ u32::from(*byte));
    rt::println!(
        "drivers: disk {lun} has {} blocks, read-only {}, sector 0 {:#010x}, sectors 1 to 20 {:#010x}",
        disk.blocks,
        disk.read_only,
        sum(&sector),
        sum(&piece)
    );
    if disk.read_only {
        assert!(scsi.write(disk, 0, &sector, wait).is_err(), "a disk that is read only refuses");
        return;
    }
    let mut last = [0; 512];
    for (place, byte) in last.iter_mut().zip(b"written by bare/drivers".iter().cycle()) {
        *place = *byte;
    }
    scsi.write(disk, disk.blocks - 1, &last, wait).expect("the last sector is written");
    scsi.flush(disk, wait).expect("the disk is flushed");
    let mut back = [0; 512];
    scsi.read(disk, disk.blocks - 1, &mut back, wait).expect("the last sector is read");
    assert_eq!(back, last, "what was written is read");
}
