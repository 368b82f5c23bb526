//! A kernel that ends as in a crash, or by kexec, and the one that starts in its place.
//!
//! The first leaves a channel open and a read in flight. The host may write to the rings and to the read's page until
//! the next kernel's contact, or its unload, is answered: so that one has no memory for the host before.

use core::mem;

use bus::{Os, Pool};
use hv_drivers::hv_vmbus_client::{Buffer, Client, PageRun};
use hv_drivers::storage::Controller;
use hv_guest::arch::Either;
use hv_tlfs::vmbus::guid;
use rt::{Hardware, vps};

/// Requests in flight at most, and pages of each ring.
const DEPTH: usize = 8;
const RING: usize = 16;
/// Pages that the next kernel looks at, far more than the first has: the pool gives both its first ones.
const PAGES: usize = 512;
const FILL: u8 = 0xa5;

/// Starts this program again with a read in flight.
pub(crate) fn leave(hardware: &Hardware, client: &mut Client<'static, Either>, os: &Os<'_, '_>) -> ! {
    let offer = client.find(guid::SCSI).expect("there is a disk");
    let channel = os.open(client, &offer, RING).expect("the channel opens");
    let mut scsi: Controller<'_, _, _, (), DEPTH> = Controller::new(channel, Pool);
    scsi.wait_ready(&mut os.waiter()).expect("the controller initializes");
    let mut first = None;
    scsi.disks(&mut os.waiter(), |disk| first = first.take().or(Some(disk))).expect("the disks are found");
    let pages = PageRun::new(&Pool, 1).expect("there is memory");
    let data = Buffer { pages, offset: 0, len: 512 };
    assert!(scsi.submit_read((), &first.expect("there is a disk"), 0, data).is_ok(), "the read is sent");
    rt::println!("drivers: kernel 0 leaves a read in flight, {} pages", Pool.allocated());
    (1..hardware.vps()).for_each(|vp| assert!(vps::stop(vp), "VP {vp} goes off"));
    mem::forget(scsi);
    rt::restart::restart();
}

/// Takes memory once the connection of the kernel before has ended, where that had its own, and returns what shows
/// later that the host has written nothing there.
pub(crate) fn watch() -> impl FnOnce() {
    let run = PageRun::new(&Pool, PAGES).expect("there is memory");
    for page in 0..PAGES {
        run.write(page * 4096, &[FILL; 4096]);
    }
    move || {
        let mut bytes = [0; 4096];
        for page in 0..PAGES {
            run.read(page * 4096, &mut bytes);
            assert!(bytes == [FILL; 4096], "the host has written to page {page} of another kernel");
        }
    }
}
