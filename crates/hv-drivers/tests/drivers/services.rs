//! Integration services, and the keyboard.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::Ordering;

use hv_devices::ic::Outcome;
use hv_devices::kvp::{Answer, Ask};
use hv_devices::shutdown::Action;
use hv_devices::storage::Storage;
use hv_drivers::hv_vmbus_client::Open;
use hv_drivers::hv_vmbus_client::ring::{Outgoing, Sender};
use hv_drivers::ic::{Given, Heartbeat, Kvp, Order, Pairs, Room, Service, Shutdown, Stop, Text, TimeSync};
use hv_drivers::keyboard::{Key, Keyboard};
use hv_tlfs::vmbus::guid;
use hv_tlfs::vmbus::ic::{Status, Version};
use hv_tlfs::vmbus::kvp::{Pool, VALUE_TEXT};
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
                let all = |order: &Order| (order.stop, order.by_force, order.timeout, order.reason);
                let asked = service.poll(|asked| {
                    assert_eq!(all(asked), (stop, by_force, 0, 0));
                    accepts
                });
                assert_eq!(asked.unwrap().as_ref().map(all), accepts.then_some((stop, by_force, 0, 0)));
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

/// Pairs of the pool of the guest; the host may write to all other pools.
#[derive(Default)]
struct Book {
    pairs: BTreeMap<String, String>,
    given: Vec<(u8, String, String)>,
}

impl Pairs for Book {
    fn get(&mut self, pool: Pool, key: Text<'_>, value: &mut Room<'_>) -> bool {
        let found = self.pairs.get(&key.to_string()).filter(|_| pool == Pool::GUEST);
        found.is_some_and(|found| value.write_str(found).is_ok())
    }

    fn nth(&mut self, pool: Pool, index: u32, key: &mut Room<'_>, value: &mut Room<'_>) -> bool {
        let Some((name, text)) = self.pairs.iter().nth(index as usize).filter(|_| pool == Pool::GUEST) else {
            return false;
        };
        key.write_str(name).is_ok() && value.write_str(text).is_ok()
    }

    fn set(&mut self, pool: Pool, key: Text<'_>, value: Given<'_>) -> bool {
        let Given::Text(value) = value else { return false };
        self.given.push((pool.0, key.to_string(), value.to_string()));
        pool != Pool::GUEST
    }

    fn remove(&mut self, pool: Pool, key: Text<'_>) -> bool {
        pool == Pool::GUEST && self.pairs.remove(&key.to_string()).is_some()
    }
}

#[test]
fn host_and_guest_exchange_pairs() {
    let world = World::new(Storage::new(), &[]);
    let mut client = world.client();
    let offer = client.find(guid::KVP).unwrap();
    let open = Open::on(VpIndex(0));
    let channel = client.open_channel(&offer, 8, open, &TestDma(world), &mut world.os()).unwrap();
    let mut service = Kvp::new(channel);
    let mut book = Book::default();
    let long = "v".repeat(1023);
    for (key, value) in
        [("name", "hv"), ("größe", "\u{1f600}"), ("long", &long), ("longer", &format!("{long}v"))]
    {
        book.pairs.insert(key.to_owned(), value.to_owned());
    }
    world.bus.flush(&world.host);
    assert_eq!(service.poll(&mut book), Ok(0));
    assert_eq!(service.version(), Some(Version { major: 4, minor: 0 }));
    let wide = |text: &str| text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let text = |bytes: &[u8]| {
        String::from_utf16(
            &bytes.chunks(2).map(|unit| u16::from_le_bytes([unit[0], unit[1]])).collect::<Vec<_>>(),
        )
        .unwrap()
    };
    let slot = &world.bus.devices().kvp;
    let mut ask = |ask: &Ask<'_>| {
        world.bus.with(slot, &world.host, |device, io| device.ask(io, ask)).unwrap().unwrap();
        assert_eq!(service.poll(&mut book), Ok(1));
        let answer = world.bus.with(slot, &world.host, |device, _| {
            let (outcome, answer) = device.outcome().unwrap();
            let pair = match answer {
                Answer::Pair { key, value_type: VALUE_TEXT, value } => Some((text(key), text(value))),
                _ => None,
            };
            device.done();
            (outcome, pair)
        });
        answer.unwrap()
    };
    let (good, bad) = (Outcome::Answered(Status::SUCCESS), Outcome::Answered(Status::FAIL));
    let pair = |key: &str, value: &str| Some((key.to_owned(), value.to_owned()));
    let pool = Pool::GUEST;
    for (key, value) in [("name", "hv"), ("größe", "\u{1f600}"), ("long", &*long)] {
        assert_eq!(ask(&Ask::Get { pool, key: &wide(key) }), (good, pair(key, value)));
    }
    // No such key, another pool, a value that is too long.
    assert_eq!(ask(&Ask::Get { pool, key: &wide("nam") }), (bad, None));
    assert_eq!(ask(&Ask::Get { pool: Pool::AUTO, key: &wide("name") }), (bad, None));
    assert_eq!(ask(&Ask::Get { pool, key: &wide("longer") }), (bad, None));
    assert_eq!(ask(&Ask::Enumerate { pool, index: 0 }), (good, pair("größe", "\u{1f600}")));
    assert_eq!(ask(&Ask::Enumerate { pool, index: 4 }), (Outcome::Answered(Status::CONTINUE), None));
    assert_eq!(ask(&Ask::Set { pool: Pool::EXTERNAL, key: &wide("a"), value: &wide("b") }), (good, None));
    assert_eq!(ask(&Ask::Set { pool, key: &wide("a"), value: &wide("") }), (bad, None));
    assert_eq!(ask(&Ask::Delete { pool, key: &wide("name") }), (good, None));
    assert_eq!(ask(&Ask::Delete { pool, key: &wide("name") }), (bad, None));
    // Addresses are refused, not left without an answer.
    assert_eq!(ask(&Ask::Addresses { adapter: &wide("{}") }), (bad, None));
    let given = [(0, "a".to_owned(), "b".to_owned()), (1, "a".to_owned(), String::new())];
    assert!(book.given == given && book.pairs.len() == 3);
    client.close_channel(service.into_service().into_channel(), &mut world.os()).unwrap();
    assert_eq!(world.host.ram.live(), 0);
}
