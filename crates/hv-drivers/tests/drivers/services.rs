//! Heartbeat and shutdown.

use std::sync::atomic::Ordering;

use hv_devices::ic::Outcome;
use hv_devices::shutdown::Action;
use hv_devices::storage::Storage;
use hv_drivers::hv_vmbus_client::Open;
use hv_drivers::hv_vmbus_client::ring::{Outgoing, Sender};
use hv_drivers::ic::{Heartbeat, Order, Service, Shutdown, Stop, TimeSync};
use hv_drivers::keyboard::{Key, Keyboard};
use hv_tlfs::vmbus::guid;
use hv_tlfs::vmbus::ic::{Status, Version};
use hv_tlfs::vp::VpIndex;

use crate::host::{TestDma, World};

#[test]
fn the_guest_answers_every_beat() {
    let world = World::new(Storage::new(), &[]);
    let mut client = world.client();
    let offer = client.find(guid::HEARTBEAT).unwrap();
    let open = Open::on(VpIndex(0));
    let channel = client.open_channel(&offer, 2, open, &TestDma(world), &mut world.os()).unwrap();
    let mut heartbeat = Heartbeat::new(channel);
    assert_eq!(heartbeat.version(), None);
    // The versions, then the first beat.
    let mut last = None;
    for _ in 0..20 {
        world.host.now.fetch_add(hv_devices::heartbeat::INTERVAL.ticks(), Ordering::Relaxed);
        world.bus.flush(&world.host);
        if let Some(beat) = heartbeat.poll().unwrap() {
            assert!(last.is_none_or(|last| beat > last), "{last:?} {beat}");
            last = Some(beat);
        }
    }
    assert_eq!(heartbeat.version(), Some(Version { major: 3, minor: 0 }));
    assert!(last.is_some_and(|last| last >= 18), "{last:?}");
    let service = heartbeat.into_service();
    assert_eq!(service.ignored(), 0);
    client.close_channel(service.into_channel(), &mut world.os()).unwrap();
    assert_eq!(world.host.ram.live(), 0);
}

#[test]
fn the_host_is_told_whether_the_guest_stops() {
    let world = World::new(Storage::new(), &[]);
    let mut client = world.client();
    let offer = client.find(guid::SHUTDOWN).unwrap();
    let open = Open::on(VpIndex(0));
    let channel = client.open_channel(&offer, 2, open, &TestDma(world), &mut world.os()).unwrap();
    let mut service = Shutdown::new(channel);
    world.bus.flush(&world.host);
    assert_eq!(service.poll(|_| true), Ok(None));
    assert_eq!(service.version(), Some(Version { major: 3, minor: 2 }));
    let slot = &world.bus.devices().shutdown;
    for (action, stop) in [
        (Action::PowerOff, Stop::PowerOff),
        (Action::Restart, Stop::Restart),
        (Action::Hibernate, Stop::Hibernate),
    ] {
        for by_force in [false, true] {
            for accepts in [false, true] {
                world
                    .bus
                    .with(slot, &world.host, |device, io| device.ask(io, action, by_force))
                    .unwrap()
                    .unwrap();
                let order = Order { stop, by_force, timeout: 0, reason: 0 };
                let asked = service.poll(|asked| {
                    assert_eq!(*asked, order);
                    accepts
                });
                assert_eq!(asked, Ok(accepts.then_some(order)));
                let outcome = world.bus.with(slot, &world.host, |device, _| device.take()).unwrap();
                let status = if accepts { Status::SUCCESS } else { Status::FAIL };
                assert_eq!(outcome, Some(Outcome::Answered(status)));
            }
        }
    }
    client.close_channel(service.into_service().into_channel(), &mut world.os()).unwrap();
    assert_eq!(world.host.ram.live(), 0);
}

#[test]
fn the_guest_is_told_the_hosts_time() {
    let world = World::new(Storage::new(), &[]);
    let mut client = world.client();
    let offer = client.find(guid::TIME_SYNC).unwrap();
    let open = Open::on(VpIndex(0));
    let channel = client.open_channel(&offer, 2, open, &TestDma(world), &mut world.os()).unwrap();
    let mut time = TimeSync::new(channel);
    let mut samples = Vec::new();
    for _ in 0..4 {
        world.host.now.fetch_add(60_000_000, Ordering::Relaxed);
        world.bus.flush(&world.host);
        samples.extend(std::iter::from_fn(|| time.poll().unwrap()));
    }
    assert_eq!(time.version(), Some(Version { major: 4, minor: 0 }));
    // The first one sets the clock, and each is the host's time at the reference time with it.
    assert!(samples.len() >= 2 && samples[0].sets_clock && !samples[1].sets_clock, "{samples:?}");
    for sample in samples {
        let reference = sample.reference_time.unwrap().ticks();
        assert_eq!(sample.unix_nanos(), Some(u128::from(1_000_000 + reference) * 100));
    }
    client.close_channel(time.into_service().into_channel(), &mut world.os()).unwrap();
    assert_eq!(world.host.ram.live(), 0);
}

#[test]
fn keys_arrive_in_their_order() {
    use hv_devices::keyboard::Key as HostKey;
    let world = World::new(Storage::new(), &[]);
    let mut client = world.client();
    let offer = client.find(guid::KEYBOARD).unwrap();
    let open = Open::on(VpIndex(0));
    let channel = client.open_channel(&offer, 4, open, &TestDma(world), &mut world.os()).unwrap();
    let mut keyboard = Keyboard::new(channel);
    assert_eq!((keyboard.poll(), keyboard.poll()), (Ok(None), Ok(None)));
    assert!(keyboard.is_ready());
    let slot = &world.bus.devices().keyboard;
    let keys: Vec<_> = (1..=20).flat_map(|code| [HostKey::press(code), HostKey::release(code)]).collect();
    world.bus.with(slot, &world.host, |device, io| device.press(io, &keys)).unwrap().unwrap();
    let heard: Vec<_> = std::iter::from_fn(|| keyboard.poll().unwrap()).collect();
    let expected = (1..=20)
        .flat_map(|code| [false, true].map(|released| Key { code, released, prefix: 0, is_unicode: false }));
    assert_eq!(heard, expected.collect::<Vec<_>>());
    assert_eq!(keyboard.ignored(), 0);
    client.close_channel(keyboard.into_channel(), &mut world.os()).unwrap();
    assert_eq!(world.host.ram.live(), 0);
}

#[test]
fn requests_without_an_end_are_read_to_the_end_of_the_ring() {
    let world = World::new(Storage::new(), &[]);
    let mut client = world.client();
    let offer = client.find(guid::HEARTBEAT).unwrap();
    let open = Open::on(VpIndex(0));
    let channel = client.open_channel(&offer, 2, open, &TestDma(world), &mut world.os()).unwrap();
    // From here on the host is the test: a ring of two pages, and a beat of 64 bytes in it.
    let ring = world.host.ram.last(2);
    let mut host = Sender::new(ring).unwrap();
    let mut beat = [0; 28 + 8];
    (beat[12], beat[18]) = (1, 8);
    host.send(ring, &Outgoing::in_band(0, &beat)).unwrap();
    let mut service = Service::<_, _, 64>::new(channel, &[]);
    let mut asked = 0;
    let served = service.poll(|_| {
        asked += 1;
        // As soon as there is room; a test without an end would tell less than one that fails.
        if asked < 10_000 {
            let _ = host.send(ring, &Outgoing::in_band(0, &beat));
        }
        None::<()>
    });
    assert_eq!((served, asked), (Ok(None), 4096 / 64 - 1));
    assert_eq!(service.ignored(), asked);
    // Then the host has room again.
    host.send(ring, &Outgoing::in_band(0, &beat)).unwrap();
    assert_eq!(service.poll(|_| Some(())), Ok(Some(())));
}
