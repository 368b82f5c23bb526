//! Channels: packets both ways, GPADLs, rescind, close.

use hv_guest::synic::SintIndex;
use hv_testbed::Convention;
use hv_tlfs::vmbus::{PacketType, Version};
use hv_tlfs::vp::VpIndex;
use hv_vmbus_client::ring::{Outgoing, SendError};
use hv_vmbus_client::{Buffer, Contact, Error, Event, Open, PageRun, Queue};

use crate::guest::{BOTH, Guest, config};

const ECHO: hv_tlfs::vmbus::Guid = hv_devices::echo::INTERFACE;

/// Returns bytes that differ from packet to packet.
fn bytes(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|n| (n * 7 + seed * 13) as u8).collect()
}

/// Exchanges packets of all lengths through rings that wrap many times.
fn exchange<const GRANULE: usize>(convention: Convention, flaky: usize) {
    let guest = Guest::<GRANULE>::new(config(), convention, 1).flaky(flaky);
    let mut client = guest.connected();
    let echo = client.find(ECHO).unwrap();
    for _ in 0..2 {
        let open = Open::on(VpIndex(0));
        let mut channel = client.open_channel(&echo, 3, open, &guest.dma, &mut guest.os()).unwrap();
        // Enough for the rings to wrap; Miri takes its time.
        for n in 0..if cfg!(miri) { 12 } else { 500 } {
            let data = bytes(n, n * 17 % 1500);
            let packet = Outgoing::in_band(n as u64, &data);
            channel.send(&if n % 2 == 0 { packet } else { packet.with_completion() }).unwrap();
            let mut flag = false;
            guest.synic.take_events(SintIndex::VMBUS, |number| flag |= u32::from(number) == echo.channel().0);
            assert!(flag, "the host signals for a packet in an empty ring");
            let mut packet = channel.receive().unwrap().expect("the echo");
            let kind = if n % 2 == 0 { PacketType::DATA_IN_BAND } else { PacketType::COMPLETION };
            assert_eq!((packet.kind(), packet.transaction()), (kind, n as u64));
            assert_eq!(packet.left(), data.len().next_multiple_of(8));
            let mut back = vec![0; packet.left()];
            let (first, second) = back.split_at_mut(data.len() / 3);
            assert_eq!(packet.read(first), first.len());
            assert_eq!(packet.read(second), second.len());
            assert_eq!(packet.read(&mut [0]), 0);
            assert_eq!(back[..data.len()], data);
            assert!(channel.receive().unwrap().is_none());
            channel.commit().unwrap();
        }
        let rings = client.close_channel(channel, &mut guest.os()).unwrap();
        assert_eq!(rings.pages().len(), 2 * 3_usize.next_multiple_of(GRANULE));
    }
    assert_eq!(guest.dma.0.live(), 0);
}

#[test]
fn packets_come_back_with_pages_of_4_16_and_64_kib() {
    for convention in BOTH {
        exchange::<1>(convention, 0);
        // A page of 64 KiB is more memory than the testbed has under Miri.
        if !cfg!(miri) {
            exchange::<4>(convention, 2);
            exchange::<16>(convention, 0);
        }
    }
}

#[test]
fn a_batch_is_read_at_once_and_masked_rings_stay_silent() {
    let guest = Guest::<1>::new(config(), Convention::Smccc, 1);
    let mut client = guest.connected();
    let echo = client.find(ECHO).unwrap();
    let mut channel =
        client.open_channel(&echo, 4, Open::on(VpIndex(0)), &guest.dma, &mut guest.os()).unwrap();
    let (mut to_host, mut from_host) = channel.halves();
    from_host.mask();
    for n in 0..50 {
        to_host.send(&Outgoing::in_band(n, &[1; 40])).unwrap();
    }
    guest.synic.take_events(SintIndex::VMBUS, |number| panic!("event {number} while masked"));
    assert!(from_host.unmask().unwrap(), "there are packets already");
    for n in 0..50 {
        assert_eq!(from_host.receive().unwrap().unwrap().transaction(), n);
    }
    assert!(from_host.receive().unwrap().is_none());
    from_host.commit().unwrap();
    assert!(!from_host.unmask().unwrap());
    to_host.send(&Outgoing::in_band(99, &[])).unwrap();
    let mut events = 0;
    guest.synic.take_events(SintIndex::VMBUS, |_| events += 1);
    assert_eq!(events, 1);
}

#[test]
fn a_ring_that_the_guest_does_not_empty_fills_and_goes_on_when_it_does() {
    let guest = Guest::<1>::new(config(), Convention::Smccc, 1);
    let mut client = guest.connected();
    let echo = client.find(ECHO).unwrap();
    let mut channel =
        client.open_channel(&echo, 2, Open::on(VpIndex(0)), &guest.dma, &mut guest.os()).unwrap();
    let data = [5; 1000];
    let mut sent = 0_u64;
    let full = loop {
        match channel.send(&Outgoing::in_band(sent, &data)) {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
    };
    // Three of 1,024 bytes and the free 8 in each ring of 4,096.
    assert_eq!((full, sent), (Error::Send(SendError::Full(1024)), 6));
    assert!(!channel.halves().0.wait_for(1024).unwrap());
    for n in 0..sent + 6 {
        let packet = channel.receive().unwrap().expect("the host goes on as the ring is emptied");
        assert_eq!(packet.transaction(), n);
        channel.commit().unwrap();
        if n < 6 {
            // What was taken made room.
            channel.send(&Outgoing::in_band(sent + n, &data)).unwrap();
        }
    }
    assert!(channel.receive().unwrap().is_none());
    assert_eq!(channel.send(&Outgoing::in_band(0, &[0; 5000])), Err(Error::Send(SendError::TooLong)));
}

#[test]
fn memory_goes_with_a_request_and_comes_back_with_its_completion() {
    let guest = Guest::<1>::new(config(), Convention::Hvc1, 1);
    let mut client = guest.connected();
    let echo = client.find(ECHO).unwrap();
    let channel = client.open_channel(&echo, 4, Open::on(VpIndex(0)), &guest.dma, &mut guest.os()).unwrap();
    let mut queue: Queue<'_, _, _, u32, 4> = Queue::new(channel);
    for round in 0..3 {
        for tag in 0..4 {
            let pages = PageRun::of_bytes(&guest.dma, 9000).unwrap();
            pages.write(4090, &[tag as u8; 20]);
            let buffer = Buffer { pages, offset: 100 * tag as usize, len: 8192 };
            queue.submit(tag, &[round; 24], Some(buffer)).unwrap();
        }
        let refused = queue.submit(4, &[], None).unwrap_err();
        assert_eq!((refused.value.0, refused.error), (4, Error::InUse));
        assert_eq!(queue.in_flight(), 4);
        for expected in 0..4 {
            match queue.next(&mut [0; 64]).unwrap() {
                Some(Event::Completed { tag, data: Some(data), .. }) => {
                    let mut bytes = [0; 20];
                    data.pages.read(4090, &mut bytes);
                    assert_eq!((tag, bytes), (expected, [expected as u8; 20]));
                    assert_eq!((data.offset, data.len), (100 * tag as usize, 8192));
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(queue.next(&mut [0; 64]).unwrap().is_none());
    }
    let bad = Buffer { pages: PageRun::new(&guest.dma, 1).unwrap(), offset: 1, len: 4096 };
    let refused = queue.submit(9, &[], Some(bad)).unwrap_err();
    assert_eq!(refused.error, Error::Send(SendError::Data), "a byte beyond the last page");
    drop(refused);
    assert_eq!(queue.strays(), 0);
    let closing = queue.close(&mut client).unwrap();
    let (rings, flights) = client.block_on(closing, &mut guest.os()).unwrap();
    assert!(flights.iter().all(Option::is_none));
    drop(rings);
    assert_eq!(guest.dma.0.live(), 0);
}

#[test]
fn gpadls_of_all_sizes_are_created_and_torn_down() {
    let guest = Guest::<1>::new(config(), Convention::Smccc, 1).flaky(2);
    let mut client = guest.connected();
    let echo = client.find(ECHO).unwrap();
    for pages in [1, 2, 25, 26, 27, 53, 54, 55] {
        let run = PageRun::new(&guest.dma, pages).unwrap();
        let gpadl = client.share_pages(&echo, run, &mut guest.os()).unwrap();
        assert_eq!(gpadl.pages().len(), pages);
        assert!(guest.dma.0.live() == pages);
        let run = client.unshare_pages(gpadl, &mut guest.os()).unwrap();
        assert_eq!(run.pages().len(), pages);
    }
    assert_eq!(guest.dma.0.live(), 0);
}

#[test]
fn what_the_host_may_still_write_is_leaked_and_never_freed() {
    let guest = Guest::<1>::new(config(), Convention::Smccc, 1);
    let mut client = guest.connected();
    let echo = client.find(ECHO).unwrap();
    let request = client.create_gpadl(echo.channel(), PageRun::new(&guest.dma, 1).unwrap()).unwrap();
    drop(request);
    let gpadl = client.share_pages(&echo, PageRun::new(&guest.dma, 2).unwrap(), &mut guest.os()).unwrap();
    drop(gpadl);
    let gpadl = client.share_pages(&echo, PageRun::new(&guest.dma, 4).unwrap(), &mut guest.os()).unwrap();
    drop(gpadl.teardown(&mut client).unwrap());
    drop(PageRun::new(&guest.dma, 8).unwrap().share().unwrap());
    drop(PageRun::new(&guest.dma, 16).unwrap());
    assert_eq!(guest.dma.0.live(), 1 + 2 + 4 + 8);
}

#[test]
fn a_gpadl_needs_pages_and_a_channel() {
    let guest = Guest::<1>::new(config(), Convention::Smccc, 1);
    let mut client = guest.connected();
    let echo = client.find(ECHO).unwrap();
    assert_eq!(PageRun::new(&guest.dma, 0).unwrap_err(), Error::Memory);
    // A ring of one page has no data.
    let run = PageRun::new(&guest.dma, 3).unwrap();
    let gpadl = client.share_pages(&echo, run, &mut guest.os()).unwrap();
    let refused = client.open(gpadl, &Open::polled()).unwrap_err();
    assert_eq!(refused.error, Error::Pages(3));
    let refused = client.open(refused.value, &Open::polled().with_pages_to_host(4)).unwrap_err();
    assert_eq!(refused.error, Error::Pages(3));
    // The slots are 16.
    let mut gpadls = vec![refused.value];
    let error = loop {
        match client.share_pages(&echo, PageRun::new(&guest.dma, 1).unwrap(), &mut guest.os()) {
            Ok(gpadl) => gpadls.push(gpadl),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::NoSlot | Error::Refused(_)), "{error}");
    for gpadl in gpadls {
        client.unshare_pages(gpadl, &mut guest.os()).unwrap();
    }
    assert_eq!(guest.dma.0.live(), 0);
}

#[test]
fn a_channel_is_open_once() {
    let guest = Guest::<1>::new(config(), Convention::Smccc, 1);
    let mut client = guest.connected();
    let echo = client.find(ECHO).unwrap();
    let open = Open::on(VpIndex(0));
    let channel = client.open_channel(&echo, 2, open, &guest.dma, &mut guest.os()).unwrap();
    assert_eq!(client.open_channel(&echo, 2, open, &guest.dma, &mut guest.os()).unwrap_err(), Error::InUse);
    assert_eq!(client.release(echo.channel()), Err(Error::InUse));
    client.close_channel(channel, &mut guest.os()).unwrap();
    // A VP that does not exist: the host refuses, and the rings come back.
    let refused = client.open_channel(&echo, 2, Open::on(VpIndex(9)), &guest.dma, &mut guest.os());
    assert!(matches!(refused.unwrap_err(), Error::Refused(_)));
    assert_eq!(guest.dma.0.live(), 0);
    let channel = client.open_channel(&echo, 2, open, &guest.dma, &mut guest.os()).unwrap();
    client.close_channel(channel, &mut guest.os()).unwrap();
}

#[test]
fn interrupts_move_to_another_vp() {
    for version in [Version::V4_0, Version::V4_1, Version::V5_2, Version::V5_3, Version::V6_0] {
        let guest = Guest::<1>::new(config(), Convention::Smccc, 2);
        let mut client = guest.client();
        let contact = Contact::new(VpIndex(0)).with_versions(version, version);
        client.connect(contact, &mut guest.os()).unwrap();
        let echo = client.find(ECHO).unwrap();
        let open = Open::on(VpIndex(1));
        let mut channel = client.open_channel(&echo, 2, open, &guest.dma, &mut guest.os()).unwrap();
        channel.send(&Outgoing::in_band(1, &[1])).unwrap();
        guest.synic.take_events(SintIndex::VMBUS, |number| panic!("event {number} on VP 0"));
        let moved = channel.set_target(&mut client, VpIndex(0));
        if version < Version::V4_1 {
            assert_eq!(moved, Err(Error::Version));
            continue;
        }
        moved.unwrap();
        if version >= Version::V5_3 {
            hv_vmbus_client::deliver(guest.synic, SintIndex::VMBUS, &mut client);
            assert_eq!(channel.poll_target(), core::task::Poll::Ready(Ok(())));
            channel.set_target(&mut client, VpIndex(7)).unwrap();
            hv_vmbus_client::deliver(guest.synic, SintIndex::VMBUS, &mut client);
            let refused = channel.poll_target();
            assert!(matches!(refused, core::task::Poll::Ready(Err(Error::Refused(_)))), "{refused:?}");
        }
        while channel.receive().unwrap().is_some() {}
        channel.commit().unwrap();
        channel.send(&Outgoing::in_band(2, &[2])).unwrap();
        assert!(guest.synic.take_event(SintIndex::VMBUS, echo.channel().0 as u16));
    }
}

#[test]
fn memory_of_a_rescinded_channel_comes_back_without_an_answer() {
    for unload in [false, true] {
        let guest = Guest::<1>::new(config(), Convention::Smccc, 1);
        let mut client = guest.connected();
        let echo = client.find(ECHO).unwrap();
        let open = Open::on(VpIndex(0));
        let channel = client.open_channel(&echo, 2, open, &guest.dma, &mut guest.os()).unwrap();
        let more = PageRun::new(&guest.dma, 3).unwrap();
        let more = client.share_pages(&echo, more, &mut guest.os()).unwrap();
        let mut channel = channel;
        if unload {
            client.disconnect(&mut guest.os()).unwrap();
        } else {
            guest.bed.rescind(echo.channel().0);
            hv_vmbus_client::deliver(guest.synic, SintIndex::VMBUS, &mut client);
            assert_eq!(client.release(echo.channel()), Err(Error::InUse));
        }
        assert!(channel.is_over());
        assert_eq!(channel.send(&Outgoing::in_band(1, &[])), Err(Error::Rescinded));
        client.close_channel(channel, &mut guest.os()).unwrap();
        client.unshare_pages(more, &mut guest.os()).unwrap();
        assert_eq!(guest.dma.0.live(), 0);
        if !unload {
            client.release(echo.channel()).unwrap();
        }
        // The slots are free again.
        client.disconnect(&mut guest.os()).unwrap();
        client.connect(Contact::new(VpIndex(0)), &mut guest.os()).unwrap();
        assert_eq!(client.offers().count(), if unload { 2 } else { 1 });
    }
}
