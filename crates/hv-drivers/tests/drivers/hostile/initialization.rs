//! Answers to the initialization.

use hv_drivers::hv_vmbus_client;
use hv_drivers::network::{Error, Frames as _};
use hv_testbed::scripted_card::words;
use hv_tlfs::vmbus::nvsp::{Status, Version};
use hv_tlfs::vmbus::rndis;

use super::{World, answered, control_answered};

#[test]
fn older_hosts_have_older_versions() {
    for (newest, version) in [
        (0x6_0001, Version::V61),
        (0x6_0000, Version::V6),
        (0x5_0000, Version::V5),
        (0x4_0000, Version::V4),
        (0x3_0002, Version::V2),
        (2, Version::V1),
    ] {
        let mut world = World::new();
        world.end.newest = newest;
        world.initialize().unwrap();
        assert_eq!(world.card.version(), version);
    }
    let mut world = World::new();
    world.end.newest = 1;
    assert_eq!(world.initialize(), Err(Error::NoVersion));
    assert_eq!(world.card.send(&[0; 60]), Err(Error::NoVersion));
}

#[test]
fn answers_that_no_card_gives_fail_the_initialization() {
    let refused = Err(Error::Refused(Status::FAIL));
    for (kind, answer, error) in [
        (1, &[][..], Err(Error::Malformed)),
        (1, &[2][..], Err(Error::Malformed)),
        (1, &[102, 2, 0x22, 1, 0, 0, 0][..], Err(Error::Malformed)),
        (101, &[102, 2, 1, 0, 2048, 16, 32768][..], refused),
        (101, &[102, 1, 2, 0, 2048, 16, 32768][..], Err(Error::Malformed)),
        (101, &[102, 1, 1, 8, 2048, 16, 32768][..], Err(Error::Malformed)),
        (101, &[102, 1, 1, 0][..], Err(Error::Malformed)),
        (101, &[105, 1, 1, 0, 2048, 16, 32768][..], Err(Error::Malformed)),
        (104, &[105, 2, 2048][..], refused),
        (104, &[105, 1, 0][..], Err(Error::Section(0))),
        (104, &[105, 1, 1561][..], Err(Error::Section(1561))),
        (104, &[105, 1, u32::MAX][..], Err(Error::Section(u32::MAX))),
        (104, &[105, 1][..], Err(Error::Malformed)),
        (107, &[108, 2][..], refused),
        (107, &[102, 1][..], Err(Error::Malformed)),
    ] {
        assert_eq!(answered(kind, answer), error, "{kind} {answer:?}");
    }
    // A section that holds the longest frame to the byte.
    assert_eq!(answered(104, &[105, 1, 1562]), Ok(()));
}

#[test]
fn objects_are_judged() {
    let failure = rndis::Status::FAILURE;
    let failed = Err(Error::Rndis(failure));
    let waits = Err(Error::Client(hv_vmbus_client::Error::TimedOut));
    let query = |id, status, len, offset, value: &[u32]| {
        let head = [0x8000_0004, 24 + value.len() as u32 * 4, id, status, len, offset];
        words(&[&head[..], value].concat())
    };
    // INITIALIZE, the longest frame, the address, the link, the filter.
    assert_eq!(
        control_answered(0, |id| words(&[0x8000_0002, 52, id, failure.0, 1, 0, 1, 0, 8, 0, 0, 0, 0])),
        failed
    );
    assert_eq!(control_answered(0, |id| words(&[0x8000_0002, 16, id, 0])), waits);
    assert_eq!(control_answered(0, |id| words(&[0x8000_0005, 52, id, 0, 1, 0, 1, 0, 8, 0, 0, 0, 0])), waits);
    assert_eq!(control_answered(1, |id| query(id, 0, 4, 16, &[0])), Ok(()));
    assert_eq!(control_answered(1, |id| query(id, failure.0, 0, 0, &[])), Ok(()));
    assert_eq!(control_answered(2, |id| query(id, failure.0, 6, 16, &[0, 0])), failed);
    assert_eq!(control_answered(2, |id| query(id, 0, 5, 16, &[0, 0])), Err(Error::Malformed));
    assert_eq!(control_answered(2, |id| query(id, 0, 6, 20, &[0, 0])), Err(Error::Malformed));
    assert_eq!(control_answered(2, |id| query(id, 0, 6, u32::MAX, &[0, 0])), Err(Error::Malformed));
    assert_eq!(control_answered(2, |id| query(id + 1, 0, 6, 16, &[0, 0])), waits);
    assert_eq!(control_answered(3, |id| query(id, failure.0, 0, 0, &[])), Ok(()));
    assert_eq!(control_answered(4, |id| words(&[0x8000_0005, 16, id, failure.0])), failed);
}

#[test]
fn an_address_is_that_of_one_station() {
    for (mac, taken) in [
        ([0, 0x15, 0x5d, 1, 2, 3], true),
        ([2, 0, 0, 0, 0, 0], true),
        ([0xfe, 0xff, 0xff, 0xff, 0xff, 0xff], true),
        ([0; 6], false),
        ([1, 0, 0x5e, 0, 0, 1], false),
        ([3, 0, 0, 0, 0, 7], false),
        ([0xff; 6], false),
    ] {
        let mut world = World::new();
        world.end.mac = mac;
        let error = Err(Error::Address(mac));
        assert_eq!(world.initialize(), if taken { Ok(()) } else { error }, "{mac:02x?}");
        assert_eq!(world.card.send(&[0; 60]), if taken { Ok(()) } else { error }, "{mac:02x?}");
    }
}

#[test]
fn the_mtu_is_the_lower_one_and_nonsense_is_none() {
    for (told, mtu) in
        [(1500, 1500), (9000, 1500), (1400, 1400), (68, 68), (67, 1500), (0, 1500), (u32::MAX, 1500)]
    {
        let mut world = World::new();
        world.end.mtu = told;
        world.initialize().unwrap();
        assert_eq!(world.card.mtu(), mtu, "{told}");
    }
}
