//! The integration services, and a disk that comes while the machine runs.

use core::fmt::Write as _;

use bus::{Os, Pool as Memory};
use hv_drivers::ic::{Given, Kvp, Pairs, Room, Shutdown, Text, TimeSync};
use hv_drivers::storage::Controller;
use hv_guest::arch::Either;
use hv_tlfs::vmbus::kvp::Pool;
use hv_tlfs::vmbus::{Guid, guid};

type Client = hv_drivers::hv_vmbus_client::Client<'static, Either>;
type Channel = hv_drivers::hv_vmbus_client::Channel<'static, Memory, Either>;

/// Requests in flight, and pages of each ring.
const DEPTH: usize = 8;
const RING: usize = 16;

/// One pair of the guest's, and one number of the host's.
struct Own {
    number: u32,
}

impl Pairs for Own {
    fn nth(&mut self, pool: Pool, index: u32, key: &mut Room<'_>, value: &mut Room<'_>) -> bool {
        match (pool, index) {
            (Pool::AUTO, 0) => key.write_str("OSName").and_then(|()| value.write_str("drivers")).is_ok(),
            (Pool::GUEST, 0) => {
                key.write_str("number").and_then(|()| write!(value, "{}", self.number)).is_ok()
            }
            _ => false,
        }
    }

    fn set(&mut self, pool: Pool, key: Text<'_>, value: Given<'_>) -> bool {
        let Given::Text(text) = value else { return false };
        let mut digits = text.chars().map(|digit| digit.to_digit(10));
        let number = digits.try_fold(0_u32, |sum, digit| sum.checked_mul(10)?.checked_add(digit?));
        let (true, Some(number)) = (pool == Pool::EXTERNAL && key == "number", number) else { return false };
        self.number = number;
        rt::println!("drivers: the host's number is {number}");
        true
    }
}

/// Serves the host until it asks for the end.
pub(crate) fn run(client: &mut Client, os: &Os<'_, '_>) {
    let mut scsi: Controller<'_, _, _, (), DEPTH> = Controller::new(open(client, os, guid::SCSI), Memory);
    scsi.wait_ready(&mut os.waiter()).expect("the controller initializes");
    let mut kvp = Kvp::new(open(client, os, guid::KVP));
    let mut time = TimeSync::new(open(client, os, guid::TIME_SYNC));
    let mut shutdown = Shutdown::new(open(client, os, guid::SHUTDOWN));
    let (mut own, mut clock) = (Own { number: 0 }, None);
    rt::println!("drivers: serving");
    let stop = loop {
        while kvp.poll(&mut own).expect("the service works") != 0 {}
        while let Some(sample) = time.poll().expect("the service works") {
            if sample.sets_clock && clock.is_none() {
                let seconds = sample.unix_nanos().expect("a time after 1970") / 1_000_000_000;
                rt::println!("drivers: the host's clock says {seconds}");
                clock = Some(seconds);
            }
        }
        while scsi.poll().expect("the controller works").is_some() {}
        if scsi.take_changed() {
            let mut count = 0;
            scsi.disks(&mut os.waiter(), |_| count += 1).expect("the disks are found");
            rt::println!("drivers: {count} disks now");
        }
        if let Some(order) = shutdown.poll(|_| true).expect("the service works") {
            break order.stop;
        }
        os.wait().expect("there is no limit");
    };
    rt::println!("drivers: {stop:?}");
    let closing = scsi.close(client).expect("the host takes the message");
    client.block_on(closing, &mut &*os).expect("the host gives the rings back");
    let services = [kvp.into_service().into_channel(), time.into_service().into_channel()];
    for channel in services.into_iter().chain([shutdown.into_service().into_channel()]) {
        client.close_channel(channel, &mut &*os).expect("the host gives the rings back");
    }
}

fn open(client: &mut Client, os: &Os<'_, '_>, device: Guid) -> Channel {
    let offer = client.find(device).expect("the device is offered");
    os.open(client, &offer, RING).expect("the channel opens")
}
