//! A unikernel that lives on VMBus: it asks DHCP for an address, serves the files of a disk over HTTP, answers on a
//! Hyper-V socket, and shuts down when the host asks for it. A panic is reported to the host.
//!
//! `cargo hv boot --firmware dt --kernel $(cargo hv build serve) --disk www.img --net user,forward=tcp:8080:80`
//!
//! The disk has a partition with a FAT (MBR), whose root directory has the files. `serve.panic=1` has it panic.
#![no_std]
#![no_main]

mod disk;
mod talk;
mod web;

use bus::{Boot, MEMORY, Os, Pool};
use hv_drivers::Wait;
use hv_drivers::hv_vmbus_client::{Channel, Client, Open, Slots};
use hv_drivers::ic::{Heartbeat, Shutdown, Stop};
use hv_drivers::network::{self, Frames as _, Sizes, SmoltcpDevice};
use hv_guest::arch::Either;
use hv_guest::crash::CrashReporter;
use hv_guest::page::Page;
use hv_tlfs::vmbus::{Guid, guid};

static SLOTS: Slots<64, 72> = Slots::new();
static CRASH: CrashReporter = CrashReporter::new();
static CRASH_PAGE: Page = Page::new();

rt::entry!(main);
fn main(hardware: &'static rt::Hardware) {
    rt::console::on_panic(|info| {
        let text = info.message().as_str().unwrap_or("(formatted)").as_bytes();
        let _ = CRASH.report_text(&Either::probe(), [0; 3], text, &CRASH_PAGE, &MEMORY);
    });
    let boot = Boot::new(hardware);
    let synic = boot.synic();
    let os = Os::new(&synic);
    // SAFETY: this is the only call.
    #[expect(unsafe_code, reason = "vouches that there is one client")]
    let client = unsafe { bus::connect(&boot, &os, SLOTS.lend().expect("they are free")) };
    let mut client = client.expect("the host takes the contact");
    let files = disk::open(&mut client, &os);
    assert!(hardware.argument("serve.panic").is_none(), "deliberate");
    let order = serve(&mut client, &os, files);
    client.disconnect(&mut &os).expect("the host ends the connection");
    boot.end(synic);
    rt::println!("serve: {order:?}");
    if order == Stop::Restart {
        rt::power::reset();
    }
}

/// Serves until the host asks for the end.
fn serve(client: &mut Client<'static, Either>, os: &Os<'_, '_>, files: disk::Files<impl Wait>) -> Stop {
    let offer = client.find(guid::NETWORK).expect("there is a card: boot with --net user");
    let (place, size) = ((&offer, Open::on(os.vp())), (1500, Sizes::default()));
    let card = network::open(client, place, size, &Pool, &mut &*os).expect("a card");
    let mac = card.mac();
    let mut device = SmoltcpDevice::new(card);
    let mut web = web::Web::new(&mut device, mac);
    let mut shutdown = service(client, os, guid::SHUTDOWN).map(Shutdown::new);
    let mut heartbeat = service(client, os, guid::HEARTBEAT).map(Heartbeat::new);
    loop {
        os.deliver(client);
        let next = web.poll(&mut device, &files);
        assert_eq!(device.error(), None, "the card has failed");
        talk::poll(client, os, web.answered);
        if let Some(heartbeat) = &mut heartbeat {
            heartbeat.poll().expect("the service works");
        }
        let order = shutdown.as_mut().map(|service| service.poll(|order| order.stop != Stop::Hibernate));
        if let Some(order) = order.and_then(|order| order.expect("the service works")) {
            return order.stop;
        }
        os.idle(next);
    }
}

/// Opens the channel of a service, if the host has it.
fn service(
    client: &mut Client<'static, Either>,
    os: &Os<'_, '_>,
    interface: Guid,
) -> Option<Channel<'static, Pool, Either>> {
    let offer = client.find(interface)?;
    os.open(client, &offer, 4).ok()
}
