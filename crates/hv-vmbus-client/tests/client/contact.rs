//! Contact, versions, offers, and the end of a connection.

use std::task::Poll;

use hv_guest::synic::SintIndex;
use hv_tlfs::vmbus::{ChannelId, FeatureFlags, Guid, Version, guid};
use hv_tlfs::vp::VpIndex;
use hv_vmbus_client::ring::Outgoing;
use hv_vmbus_client::{Contact, Error, Notice, Open, PageRun};

use crate::guest::{BOTH, Guest, INTID, config};

/// Configures a host that speaks nothing newer.
fn host_up_to(version: Version) -> hv_testbed::Config {
    let vmbus = Some(hv_vmbus::Config::DEFAULT.with_max_version(version));
    config().with_vmbus(vmbus)
}

#[test]
fn guest_and_host_agree_on_the_newest_version_that_both_speak() {
    for convention in BOTH {
        for vps in [1, 2, 4] {
            for host in Version::ALL {
                for oldest in Version::ALL {
                    let guest = Guest::<1>::new(host_up_to(host), convention, vps);
                    let mut client = guest.client();
                    let vp = VpIndex(0);
                    let contact = Contact::new(vp).with_versions(oldest, Version::V6_0);
                    let agreed = client.connect(contact, &mut guest.os());
                    assert_eq!(agreed, if oldest <= host { Ok(host) } else { Err(Error::NoVersion) });
                    assert_eq!(client.version(), agreed.ok());
                    assert_eq!(guest.bed.vmbus_version(), agreed.ok());
                }
            }
        }
    }
}

#[test]
fn a_guest_may_speak_an_old_version_alone() {
    for version in Version::ALL {
        let guest = Guest::<1>::new(config(), BOTH[0], 1);
        let mut client = guest.client();
        let contact = Contact::new(VpIndex(0))
            .with_versions(version, version)
            .with_interrupt_page(guest.bed.page(), guest.bed.memory());
        assert_eq!(client.connect(contact, &mut guest.os()), Ok(version));
        assert_eq!(client.offers().count(), 2);
    }
}

#[test]
fn contact_survives_ports_without_a_buffer() {
    let guest = Guest::<1>::new(host_up_to(Version::V4_1), BOTH[0], 1).flaky(3);
    let client = guest.connected();
    assert_eq!(client.version(), Some(Version::V4_1));
}

#[test]
fn features_are_those_that_both_want() {
    let guest = Guest::<1>::new(config(), BOTH[1], 1);
    let all = FeatureFlags(u32::MAX);
    let id = Guid::new(1, 2, 3, [4; 8]);
    for (contact, features) in [
        (Contact::new(VpIndex(0)), FeatureFlags(0)),
        (Contact::new(VpIndex(0)).with_features(all), FeatureFlags(0).with_guest_specified_signal(true)),
        (Contact::new(VpIndex(0)).with_client_id(id), FeatureFlags(0).with_client_id(true)),
    ] {
        let mut client = guest.client();
        client.connect(contact, &mut guest.os()).unwrap();
        assert_eq!(client.features(), features);
        // Channels work whatever was agreed on.
        let echo = client.find(hv_devices::echo::INTERFACE).unwrap();
        let open = Open::on(VpIndex(0));
        let channel = client.open_channel(&echo, 2, open, &guest.dma, &mut guest.os()).unwrap();
        client.close_channel(channel, &mut guest.os()).unwrap();
        client.disconnect(&mut guest.os()).unwrap();
    }
    assert_eq!(guest.dma.0.live(), 0);
}

#[test]
fn the_host_speaks_to_the_vp_that_contact_names() {
    for convention in BOTH {
        for (vps, vp) in [(2, 1), (4, 3)] {
            let guest = Guest::<1>::hearing(config(), convention, vps, (vp, SintIndex::VMBUS));
            let mut client = guest.client();
            let index = VpIndex(vp as u32);
            assert_eq!(client.connect(Contact::new(index), &mut guest.os()), Ok(Version::V6_0));
            assert_eq!(client.offers().count(), 2);
            let echo = client.find(hv_devices::echo::INTERFACE).unwrap();
            let open = Open::on(index);
            let mut channel = client.open_channel(&echo, 2, open, &guest.dma, &mut guest.os()).unwrap();
            while guest.bed.take_interrupt(vp).is_some() {}
            channel.send(&Outgoing::in_band(1, b"hello")).unwrap();
            let mut flags = Vec::new();
            guest.synic.take_events(SintIndex::VMBUS, |flag| flags.push(u32::from(flag)));
            assert_eq!((guest.bed.take_interrupt(vp), flags), (Some(INTID), vec![echo.channel().0]));
            client.close_channel(channel, &mut guest.os()).unwrap();
            client.disconnect(&mut guest.os()).unwrap();
            assert_eq!(guest.dma.0.live(), 0);
        }
    }
}

#[test]
fn a_host_that_refuses_a_source_says_so_by_that_source() {
    for (vps, vp) in [(1, 0), (2, 1)] {
        let five = SintIndex::new(5).unwrap();
        let guest = Guest::<1>::hearing(config(), BOTH[0], vps, (vp, five));
        let mut client = guest.client();
        let contact = Contact::new(VpIndex(vp as u32)).with_sint(five);
        // Not TimedOut: the guest has heard of each version.
        assert_eq!(client.connect(contact, &mut guest.os()), Err(Error::NoVersion));
        assert_eq!(guest.bed.vmbus_version(), None);
    }
}

#[test]
fn a_sint_that_the_host_does_not_serve_is_an_answer_too() {
    let guest = Guest::<1>::new(config(), BOTH[0], 1);
    let mut client = guest.client();
    // The host answers on the SINT that was named, which is masked: the guest hears nothing, and gives up.
    let contact = Contact::new(VpIndex(0)).with_sint(SintIndex::new(5).unwrap());
    assert_eq!(client.connect(contact, &mut guest.os()), Err(Error::TimedOut));
    assert_eq!(client.contact(Contact::new(VpIndex(0))), Err(Error::InUse));
    client.disconnect(&mut guest.os()).unwrap();
    assert_eq!(client.connect(Contact::new(VpIndex(0)), &mut guest.os()), Ok(Version::V6_0));
}

#[test]
fn offers_say_what_the_host_has() {
    let guest = Guest::<1>::new(config(), BOTH[0], 1);
    let client = guest.connected();
    let heartbeat = client.find(guid::HEARTBEAT).unwrap();
    assert!(heartbeat.device().flags.named_pipe() && !heartbeat.is_subchannel());
    let echo = client.find(hv_devices::echo::INTERFACE).unwrap();
    assert_eq!(echo.device().instance, hv_devices::echo::OFFER.instance);
    assert!(!echo.is_of_same_device(&heartbeat));
    assert!((1..2048).contains(&echo.channel().0) && echo.channel() != heartbeat.channel());
    assert!(client.find(guid::NETWORK).is_none());
}

#[test]
fn a_channel_that_is_gone_can_be_released_and_is_forgotten() {
    let guest = Guest::<1>::new(config(), BOTH[0], 1);
    let mut client = guest.connected();
    let echo = client.find(hv_devices::echo::INTERFACE).unwrap();
    assert!(guest.bed.rescind(echo.channel().0));
    let message = guest.synic.pending(SintIndex::VMBUS).unwrap();
    let notice = client.take_message(&message.read().unwrap());
    assert_eq!(notice, Notice::Rescinded(echo.channel()));
    guest.synic.end(message).unwrap();
    assert!(client.find(hv_devices::echo::INTERFACE).is_none());
    let pages = PageRun::new(&guest.dma, 2).unwrap();
    let refused = client.create_gpadl(echo.channel(), pages).unwrap_err();
    assert_eq!(refused.error, Error::UnknownChannel(echo.channel()));
    assert_eq!(client.release(echo.channel()), Ok(()));
    assert_eq!(client.release(echo.channel()), Err(Error::UnknownChannel(echo.channel())));
    assert_eq!(client.release(ChannelId(77)), Err(Error::UnknownChannel(ChannelId(77))));
}

#[test]
fn an_unload_ends_the_connection_and_a_new_contact_begins_another() {
    for convention in BOTH {
        let guest = Guest::<1>::new(config(), convention, 2);
        let mut client = guest.connected();
        for _ in 0..3 {
            client.disconnect(&mut guest.os()).unwrap();
            assert_eq!((client.version(), guest.bed.vmbus_version()), (None, None));
            assert_eq!(client.offers().count(), 0);
            assert_eq!(client.request_offers(), Err(Error::NotConnected));
            assert_eq!(client.poll_contact(), Poll::Ready(Err(Error::NotConnected)));
            client.connect(Contact::new(VpIndex(0)), &mut guest.os()).unwrap();
            assert_eq!(client.offers().count(), 2);
        }
    }
}

#[test]
fn a_kernel_that_starts_after_a_crash_has_the_bus_to_itself() {
    for unload_first in [false, true] {
        let guest = Guest::<1>::new(config(), BOTH[0], 1);
        let mut crashed = guest.connected();
        let echo = crashed.find(hv_devices::echo::INTERFACE).unwrap();
        let open = Open::on(VpIndex(0));
        let channel = crashed.open_channel(&echo, 2, open, &guest.dma, &mut guest.os()).unwrap();
        let mut next = guest.client();
        if unload_first {
            next.disconnect(&mut guest.os()).unwrap();
        }
        next.connect(Contact::new(VpIndex(0)), &mut guest.os()).unwrap();
        let channel_2 = next.open_channel(&echo, 2, open, &guest.dma, &mut guest.os()).unwrap();
        next.close_channel(channel_2, &mut guest.os()).unwrap();
        drop(channel);
        assert_eq!(guest.dma.0.live(), 4, "the rings of the crashed kernel, which were never given back");
    }
}

#[test]
fn no_socket_of_a_host_without_sockets() {
    let guest = Guest::<1>::new(config(), BOTH[0], 1);
    let mut client = guest.connected();
    let (endpoint, service) = (Guid::new(1, 1, 1, [1; 8]), Guid::new(2, 2, 2, [2; 8]));
    client.connect_socket(endpoint, service).unwrap();
    let message = guest.synic.pending(SintIndex::VMBUS).unwrap();
    let notice = client.take_message(&message.read().unwrap());
    assert!(
        matches!(notice, Notice::SocketRefused { endpoint: e, service: s, .. } if (e, s) == (endpoint, service))
    );
}
