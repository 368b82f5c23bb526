//! Uses VMBus's devices through `hv-drivers`. A check that fails panics.
//!
//! VP 0 makes contact and opens the channels. The last VP gets the interrupts of the disks' channel, and does the
//! requests; VP 0 sends a frame through the network card, if there is one, and receives the answer. With
//! `drivers.screen=1` it draws on the screen, and a square more for each key, until the host asks for the end.
//!
//! | argument | |
//! |---|---|
//! | `bus.hvc=1` | calls by `hvc #1`; without it by what the host answers |
//! | `drivers.screen=1` | uses screen and keyboard until the host asks for the end |
//! | `drivers.services=1` | serves key-value pairs, takes the host's time, and sees disks come, until the host asks for the end |
//! | `drivers.socket=PORT` | connects to this port of the host, which has to listen: `hv boot --vsock` |
//! | `rt.granule=` | `4k`, `16k` or `64k`: the guest's page size |
//! | `drivers.limit=MS` | use each device with a limit for every wait, and print the outcome: for a host with faults |
//! | `drivers.again=` | `contact` or `unload`: leave a read in flight, and start again, as a kernel does after a crash; the next one makes contact at once, or unloads first |
//! | `drivers.answers=N` | with `drivers.limit`: frames that the network answers with, however long they take |
#![no_std]
#![no_main]

mod again;
mod faults;
mod network;
mod screen;
mod services;
mod socket;
mod storage;

use core::time::Duration;

use bus::{Boot, Os, Pool};
use hv_drivers::hv_vmbus_client::{Contact, Slots};

static SLOTS: Slots<64, 72> = Slots::new();

rt::entry!(main);
fn main(hardware: &'static rt::Hardware) {
    rt::vps::start_all();
    let boot = Boot::new(hardware);
    let synic = boot.synic();
    if let Some(limit) = hardware.number("drivers.limit") {
        let answers = hardware.number("drivers.answers").map(|answers| answers as usize);
        let expected = faults::Expected { limit: Duration::from_millis(limit), answers };
        faults::run(&boot, &synic, &SLOTS, &expected);
        boot.end(synic);
        rt::println!("faults: done");
        return;
    }
    let os = Os::new(&synic);
    let slots = SLOTS.lend().expect("nothing else has taken the slots");
    let again = hardware.argument("drivers.again");
    let generation = rt::restart::generation();
    // SAFETY: this is the only call on this path, which is taken once; all that gives messages to the client is `os`.
    #[expect(unsafe_code, reason = "vouches that there is one client")]
    let mut client = unsafe { bus::client(&boot, slots) };
    if generation > 0 && again == Some("unload") {
        client.disconnect(&mut &os).expect("the host ends the connection of the kernel before");
        rt::println!("drivers: kernel {generation} unloads");
    }
    client.connect(Contact::new(os.vp()), &mut &os).expect("the host takes the contact");
    rt::println!("drivers: VMBus {:?}, {} offers", client.version(), client.offers().count());
    if again.is_some() && generation == 0 {
        again::leave(hardware, &mut client, &os);
    }
    let unharmed = again.map(|_| again::watch());
    storage::run(hardware, &boot, &mut client, &os);
    network::run(&mut client, &os);
    if let Some(port) = hardware.number("drivers.socket") {
        socket::run(&mut client, &os, port as u32);
    }
    if hardware.argument("drivers.screen") == Some("1") {
        screen::run(hardware, &mut client, &os);
    }
    if hardware.argument("drivers.services") == Some("1") {
        services::run(&mut client, &os);
    }
    client.disconnect(&mut &os).expect("the host ends the connection");
    if let Some(unharmed) = unharmed {
        unharmed();
        rt::println!("drivers: kernel {generation} has its memory to itself");
    }
    boot.end(synic);
    assert_eq!(Pool.allocated(), 0, "all memory comes back");
    rt::println!("drivers: all good on {} VPs", hardware.vps());
}
