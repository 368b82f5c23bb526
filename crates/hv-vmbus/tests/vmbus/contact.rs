//! The beginning and end of a connection, rule by rule.

use crate::common::Server;
use crate::common::{TestPort, contact, contact_with, header, send, teardown};
use hv_tlfs::time::ReferenceTime;
use hv_vmbus::protocol::{
    ConnectionState, FeatureFlags, Guid, InitiateContactClient, MessageType, TargetInfo, Version,
    VersionResponse, VersionResponseFeatures,
};
use hv_vmbus::{
    Backend, BusPort, Config, DeviceId, Event, Never, Pages, Posted, Reason, Refused, Started, Token,
};
use zerocopy::IntoBytes;

fn server() -> Server {
    Server::new(Config::DEFAULT.with_max_version(Version::V5_3))
}

#[test]
fn linux_6_12_gets_5_3_at_its_first_contact() {
    let (mut server, mut port) = (server(), TestPort::new());
    let mut message = contact(Version::V5_3);
    message.target_vp = 1;
    send(&mut server, &mut port, &message);
    let answer = port.one();
    assert_eq!((answer.vp, answer.sint, answer.kind()), (1, 2, MessageType::VERSION_RESPONSE));
    let answer: VersionResponse = answer.message();
    assert_eq!(answer.supported, 1);
    assert_eq!(answer.connection_state, ConnectionState::SUCCESSFUL);
    assert_eq!(answer.message_connection, 4, "the connection for all that follows");
    assert_eq!(server.version(), Some(Version::V5_3));
}

#[test]
fn an_unsupported_version_is_answered_and_the_next_one_tried() {
    let (mut server, mut port) = (server(), TestPort::new());
    send(&mut server, &mut port, &contact(Version::V6_0));
    let answer: VersionResponse = port.one().message();
    assert_eq!(answer.supported, 0);
    assert_eq!(answer.message_connection, 0);
    assert_eq!(server.version(), None);
    send(&mut server, &mut port, &contact(Version::V5_3));
    assert_eq!(port.one().message::<VersionResponse>().supported, 1);
}

#[test]
fn every_version_from_the_oldest_to_the_newest_configured_is_spoken_and_no_other() {
    let config = Config::DEFAULT.with_min_version(Version::V4_1).with_max_version(Version::V5_2);
    for version in
        Version::ALL.into_iter().chain([Version(0), Version::new(3, 0), Version::new(5, 9), Version(!0)])
    {
        let (mut server, mut port) = (Server::<8, 16, 64>::new(config), TestPort::new());
        send(&mut server, &mut port, &contact(version));
        let expected = (Version::V4_1..=Version::V5_2).contains(&version);
        assert_eq!(port.take()[0].payload[8], u8::from(expected), "{version}");
        assert_eq!(server.version().is_some(), expected, "{version}");
    }
}

#[test]
fn before_5_0_the_answer_repeats_the_version() {
    let (mut server, mut port) = (server(), TestPort::new());
    // The field is an address there, not a SINT and a VTL.
    let mut message = contact(Version::V4_1);
    message.target_info = TargetInfo(0x1234_5678_9000);
    server.message(1, message.as_bytes(), &mut port).unwrap();
    let answer: VersionResponse = port.one().message();
    assert_eq!((answer.supported, answer.message_connection), (1, Version::V4_1.0));
}

#[test]
fn version_6_0_answers_with_the_features_that_both_have() {
    let mut server: Server = Server::new(Config::DEFAULT.with_max_version(Version::V6_0));
    let mut port = TestPort::new();
    let asked =
        FeatureFlags(0).with_guest_specified_signal(true).with_pause_resume(true).with_gpa_pinning(true);
    send(&mut server, &mut port, &contact_with(asked));
    let answer: VersionResponseFeatures = port.one().message();
    assert_eq!(answer.response.supported, 1);
    assert_eq!(answer.features, FeatureFlags(0).with_guest_specified_signal(true));
}

#[test]
fn a_client_id_that_is_announced_must_be_there() {
    let mut server: Server = Server::new(Config::DEFAULT.with_max_version(Version::V6_0));
    let mut port = TestPort::new();
    let contact = contact_with(FeatureFlags(0).with_client_id(true));
    send(&mut server, &mut port, &contact);
    let answer: VersionResponseFeatures = port.one().message();
    assert_eq!(answer.response.connection_state, ConnectionState::UNKNOWN_FAILURE);
    assert_eq!(port.rejection(), Some(Reason::TooShort));
    assert_eq!(server.version(), None);

    send(&mut server, &mut port, &InitiateContactClient { contact, client_id: Guid::ZERO });
    let answer: VersionResponseFeatures = port.one().message();
    assert_eq!(answer.response.connection_state, ConnectionState::SUCCESSFUL);
    assert_eq!(answer.features, FeatureFlags(0).with_client_id(true));
}

#[test]
fn one_monitor_page_without_the_other_is_a_failed_connection() {
    let (mut server, mut port) = (server(), TestPort::new());
    let mut message = contact(Version::V5_3);
    message.monitor_page_out = 0;
    send(&mut server, &mut port, &message);
    let answer: VersionResponse = port.one().message();
    assert_eq!((answer.supported, answer.connection_state), (1, ConnectionState::UNKNOWN_FAILURE));
    assert_eq!(port.rejection(), Some(Reason::OneMonitorPage));
    assert_eq!(server.version(), None);
}

#[test]
fn another_sint_is_refused_with_an_answer_on_that_sint() {
    for (sint, answered) in [(5, 5), (15, 15), (16, 2), (255, 2)] {
        let (mut server, mut port) = (server(), TestPort::new());
        let mut message = contact(Version::V5_3);
        message.target_info = TargetInfo(0).with_sint(sint);
        send(&mut server, &mut port, &message);
        let answer = port.one();
        assert_eq!(answer.sint, answered, "{sint}");
        assert_eq!(answer.message::<VersionResponse>().supported, 0);
        assert_eq!(port.rejection(), Some(Reason::WrongSint));
    }
}

#[test]
fn another_vtl_is_refused_from_5_1_on() {
    for (version, supported) in [(Version::V5_0, 1), (Version::V5_1, 0), (Version::V5_3, 0)] {
        let (mut server, mut port) = (server(), TestPort::new());
        let mut message = contact(version);
        message.target_info = message.target_info.with_vtl(2);
        send(&mut server, &mut port, &message);
        assert_eq!(port.one().message::<VersionResponse>().supported, supported, "{version}");
    }
}

#[test]
fn a_contact_for_a_vp_that_does_not_exist_is_refused_at_vp_0() {
    let (mut server, mut port) = (server(), TestPort::new());
    let mut message = contact(Version::V5_3);
    message.target_vp = 4;
    send(&mut server, &mut port, &message);
    let answer = port.one();
    assert_eq!(answer.vp, 0);
    assert_eq!(answer.message::<VersionResponse>().supported, 0);
    assert_eq!(port.rejection(), Some(Reason::UnknownVp));
}

#[test]
fn a_contact_that_is_too_short_is_counted_and_not_answered() {
    let (mut server, mut port) = (server(), TestPort::new());
    let message = contact(Version::V5_3);
    for len in 0..message.as_bytes().len() {
        server.message(4, &message.as_bytes()[..len], &mut port).unwrap();
        assert_eq!(port.take(), []);
        assert_eq!(port.rejection(), Some(Reason::TooShort));
        assert_eq!(server.rejected(), len as u64 + 1);
    }
}

#[test]
fn a_message_may_be_longer_than_its_kind() {
    let (mut server, mut port) = (server(), TestPort::new());
    let mut bytes = [0xff; 240];
    bytes[..40].copy_from_slice(contact(Version::V5_3).as_bytes());
    server.message(4, &bytes, &mut port).unwrap();
    assert_eq!(port.one().message::<VersionResponse>().supported, 1);
}

#[test]
fn only_the_connections_of_vmbus_are_taken() {
    let (mut server, mut port) = (server(), TestPort::new());
    for connection in [0, 2, 3, 5, 0x80_0074, u32::MAX] {
        let message = contact(Version::V5_3);
        assert_eq!(server.message(connection, message.as_bytes(), &mut port), Err(Refused::NoConnection));
    }
    assert_eq!(port.take(), []);
}

#[test]
fn unload_is_answered_and_ends_the_connection() {
    let (mut server, mut port) = (server(), TestPort::new());
    let mut message = contact(Version::V5_3);
    message.target_vp = 3;
    send(&mut server, &mut port, &message);
    port.take();
    send(&mut server, &mut port, &header(MessageType::UNLOAD));
    let answer = port.one();
    assert_eq!((answer.vp, answer.kind(), answer.payload.len()), (3, MessageType::UNLOAD_RESPONSE, 8));
    assert_eq!(server.version(), None);
}

#[test]
fn unload_without_a_connection_is_answered() {
    let (mut server, mut port) = (server(), TestPort::new());
    send(&mut server, &mut port, &header(MessageType::UNLOAD));
    assert_eq!(port.one().kind(), MessageType::UNLOAD_RESPONSE);
}

#[test]
fn without_a_connection_nothing_else_is_served() {
    let (mut server, mut port) = (server(), TestPort::new());
    for kind in 0..40 {
        let kind = MessageType(kind);
        if matches!(kind, MessageType::INITIATE_CONTACT | MessageType::UNLOAD) {
            continue;
        }
        let mut bytes = [0; 240];
        bytes[..8].copy_from_slice(header(kind).as_bytes());
        server.message(4, &bytes, &mut port).unwrap();
        assert_eq!(port.take(), []);
        assert_eq!(port.rejection(), Some(Reason::NotConnected), "{kind:?}");
    }
}

#[test]
fn messages_that_only_a_host_sends_and_unknown_ones_are_counted() {
    let (mut server, mut port) = (server(), TestPort::new());
    crate::common::connect(&mut server, &mut port, Version::V5_3);
    for kind in [0, 1, 2, 4, 6, 10, 12, 15, 17, 20, 23, 24, 25, 26, 27, 28, 29, 30, u32::MAX] {
        send(&mut server, &mut port, &header(MessageType(kind)));
        assert_eq!(port.take(), []);
        assert_eq!(port.rejection(), Some(Reason::Unknown), "{kind}");
    }
}

#[test]
fn a_full_queue_keeps_the_answer_until_the_flush() {
    let (mut server, mut port) = (server(), TestPort::new());
    port.room = 0;
    send(&mut server, &mut port, &contact(Version::V5_3));
    assert_eq!(port.take(), []);
    assert!(server.has_pending());
    port.room = 1;
    server.flush(&mut port);
    assert_eq!(port.one().kind(), MessageType::VERSION_RESPONSE);
    assert!(!server.has_pending());
}

#[test]
fn a_guest_that_takes_no_answers_is_told_to_wait_and_nothing_is_lost() {
    let (mut server, mut port) = (server(), TestPort::new());
    crate::common::connect(&mut server, &mut port, Version::V5_3);
    port.room = 0;
    let mut accepted = 0;
    let refused = loop {
        match server.message(4, teardown(1, 99).as_bytes(), &mut port) {
            Ok(()) => accepted += 1,
            Err(refused) => break refused,
        }
        assert!(accepted < 1000);
    };
    assert_eq!(refused, Refused::Busy);
    port.room = usize::MAX;
    server.flush(&mut port);
    assert_eq!(port.take().len(), accepted);
}

#[test]
fn unload_and_contact_are_taken_from_a_guest_that_takes_no_answers() {
    let (mut server, mut port) = (server(), TestPort::new());
    crate::common::connect(&mut server, &mut port, Version::V5_3);
    port.room = 0;
    while server.message(4, teardown(1, 99).as_bytes(), &mut port).is_ok() {}
    send(&mut server, &mut port, &header(MessageType::UNLOAD));
    port.room = usize::MAX;
    server.flush(&mut port);
    assert_eq!(port.one().kind(), MessageType::UNLOAD_RESPONSE, "answers of the old connection are gone");
}

#[test]
fn a_second_contact_replaces_the_first() {
    let (mut server, mut port) = (server(), TestPort::new());
    crate::common::connect(&mut server, &mut port, Version::V5_3);
    let mut message = contact(Version::V5_2);
    message.target_vp = 2;
    send(&mut server, &mut port, &message);
    assert_eq!(port.one().vp, 2);
    assert_eq!(server.version(), Some(Version::V5_2));
    assert_eq!(*port.events.get_mut(), [Event::Contact { version: Version::V5_2, accepted: true, vp: 2 }]);
}

#[test]
fn a_message_for_a_vp_that_has_gone_is_dropped_and_observed() {
    struct Gone(TestPort);
    impl BusPort for Gone {
        type Memory = crate::common::Memory;
        fn memory(&self) -> &Self::Memory {
            self.0.memory()
        }
        fn reference_time(&self) -> ReferenceTime {
            ReferenceTime(0)
        }
        fn post(&self, _: u32, _: u8, _: &[u8]) -> Posted {
            Posted::Undeliverable
        }
        fn interrupt(&self, _: u32, _: u8, _: u16) {}
        fn has_vp(&self, _: u32) -> bool {
            true
        }
        fn observe(&self, event: Event) {
            self.0.observe(event);
        }
    }
    impl Backend<Never> for Gone {
        fn start(&self, _: DeviceId, _: Token, request: &Never, _: Pages<'_>) -> Started<Never> {
            match *request {}
        }
    }
    let (mut server, mut port) = (server(), Gone(TestPort::new()));
    server.message(4, contact(Version::V5_3).as_bytes(), &mut port).unwrap();
    assert!(!server.has_pending());
    assert!(
        port.0
            .events
            .borrow()
            .contains(&Event::Undeliverable { message: MessageType::VERSION_RESPONSE, vp: 0 })
    );
}

#[test]
fn reset_is_the_state_after_new() {
    let (mut server, mut port) = (server(), TestPort::new());
    let fresh = format!("{server:?}");
    crate::common::connect(&mut server, &mut port, Version::V5_3);
    send(&mut server, &mut port, &header(MessageType(99)));
    server.reset();
    assert_eq!(format!("{server:?}"), fresh);
}
