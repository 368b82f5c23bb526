//! The choice of versions, which all services share.

use crate::guest::{Guest, version};
use hv_devices::ic::{IGNORED, Refused, State};
use hv_devices::shutdown::{self, Action, Shutdown};
use hv_devices::{Fcopy, Kvp, TimeSync, Vss, fcopy, kvp, time_sync, vss};
use hv_tlfs::time::FileTime;
use hv_tlfs::vmbus::ic::{Negotiate, Version};
use zerocopy::{FromBytes, IntoBytes};

/// Returns the versions in an offer: of the framework, and of the service.
fn offered<D: hv_vmbus::Device<Request = hv_vmbus::Never>>(guest: &Guest<D>) -> (Vec<Version>, Vec<Version>) {
    let request = guest.receive().unwrap();
    let (counts, rest) = Negotiate::read_from_prefix(request.body()).unwrap();
    let versions = <[Version]>::ref_from_bytes(rest).unwrap();
    let (frameworks, services) = versions.split_at(counts.framework_versions.into());
    assert_eq!(services.len(), usize::from(counts.message_versions));
    (frameworks.to_vec(), services.to_vec())
}

#[test]
fn each_service_offers_what_stock_guests_take() {
    let both = vec![version(3, 0), version(1, 0)];
    let guest = Guest::opened(Shutdown::new(), shutdown::OFFER);
    let versions = vec![version(3, 2), version(3, 1), version(3, 0), version(1, 0)];
    assert_eq!(offered(&guest), (both.clone(), versions));
    let guest = Guest::opened(TimeSync::new(FileTime(0)), time_sync::OFFER);
    let versions = vec![version(4, 0), version(3, 0), version(1, 0)];
    assert_eq!(offered(&guest), (both.clone(), versions.clone()));
    let guest = Guest::opened(Kvp::new(), kvp::OFFER);
    assert_eq!(offered(&guest), (both, versions));
    // Linux takes no other framework for it.
    let guest = Guest::opened(Vss::new(), vss::OFFER);
    assert_eq!(offered(&guest), (vec![version(3, 0)], vec![version(5, 0)]));
    let guest = Guest::opened(Fcopy::new(), fcopy::OFFER);
    assert_eq!(offered(&guest), (vec![version(3, 0)], vec![version(1, 1)]));
}

#[test]
fn a_request_before_the_guest_knows_that_the_channel_is_open_costs_it_no_offer() {
    let guest = Guest::before_opening(Shutdown::new(), shutdown::OFFER);
    guest.host.room.set(0);
    guest.open();
    let asked = guest.with(|device, io| (device.state(), device.ask(io, Action::PowerOff, false)));
    assert_eq!(asked, (State::Closed, Err(Refused::Closed)));
    guest.at(1);
    assert!(guest.receive().is_none());
    guest.host.room.set(usize::MAX);
    guest.at(2);
    assert_eq!(offered(&guest).1.len(), 4);
    assert_eq!(guest.with(|device, _| device.state()), State::Negotiating);
}

#[test]
fn a_guest_that_chooses_nothing_sensible_gets_no_requests() {
    let cases: &[(&[Version], &[Version])] = &[
        (&[], &[]),
        (&[version(3, 0)], &[]),
        (&[version(3, 0), version(1, 0)], &[version(3, 2)]),
        (&[version(3, 0)], &[version(3, 3)]),
        (&[version(2, 0)], &[version(3, 2)]),
        (&[version(0xffff, 0)], &[version(0, 0xffff)]),
    ];
    for (frameworks, versions) in cases {
        let guest = Guest::opened(Shutdown::new(), shutdown::OFFER);
        guest.choose(frameworks, versions);
        let refused = guest.with(|device, io| {
            assert_eq!(device.state(), State::Incompatible);
            device.ask(io, Action::PowerOff, false)
        });
        assert_eq!(refused, Err(Refused::Incompatible));
        assert!(guest.receive().is_none());
    }
}

#[test]
fn a_guest_that_says_nothing_is_told_from_one_without_a_driver() {
    let ask = |guest: &Guest<Shutdown>| guest.with(|device, io| device.ask(io, Action::PowerOff, false));
    let guest = Guest::before_opening(Shutdown::new(), shutdown::OFFER);
    assert_eq!(ask(&guest), Err(Refused::Closed));
    guest.open();
    assert_eq!(ask(&guest), Err(Refused::Negotiating));
    guest.choose(&[version(3, 0)], &[version(3, 2)]);
    assert_eq!(ask(&guest), Ok(()));
    guest.close();
    guest.with(|device, _| device.take());
    assert_eq!(ask(&guest), Err(Refused::Closed));
    // A second life: the versions are offered again.
    guest.open();
    while guest.receive().is_some_and(|request| request.header.message_type.0 != 0) {}
    assert_eq!(ask(&guest), Err(Refused::Negotiating));
}

#[test]
fn nonsense_in_place_of_versions_is_ignored() {
    let guest = Guest::opened(Shutdown::new(), shutdown::OFFER);
    let request = guest.receive().unwrap();
    for len in [0, 1, 19, 20, 27] {
        let bytes = [0xff; 64];
        guest.send_raw(&bytes[..len], len);
        // A pipe header that claims more than the packet has.
        guest.send_raw(&bytes[..len], 0xffff_ffff);
    }
    // No response: the host's own flags.
    guest.send(&request.header, request.body());
    guest.with(|device, _| assert_eq!(device.state(), State::Negotiating));
    let notes = guest.host.notes.take();
    assert_eq!(notes.len(), 11, "each is counted: {notes:?}");
    assert!(notes.iter().all(|(note, _)| *note == IGNORED), "{notes:?}");
    // Counts without the versions.
    let mut header = request.header;
    header.flags = 5;
    let counts = Negotiate { framework_versions: 1, message_versions: 1, reserved: 0 };
    guest.send(&header, counts.as_bytes());
    guest.with(|device, _| assert_eq!(device.state(), State::Incompatible));
}
