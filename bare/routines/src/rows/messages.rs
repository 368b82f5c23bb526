//! Messages and events over connections, and the end of a message.
//!
//! The connections lead back to the guest: `hv boot --loopback` offers them; the table is in `hv-conformance`.

use hv_guest::connection::{self, PostError};
use hv_guest::message::Message;
use hv_guest::synic::{End, SintIndex, Synic};
use hv_guest::tlfs::status::HvStatus;
use hv_guest::tlfs::synic::{ConnectionId, MessageType};

use super::{Cx, Os};

/// Messages to VP 0 and to VP 1, events to VP 0 (eight, from flag 40 on) and to VP 1 (all), and no connection at all.
pub(crate) const MESSAGES: [u32; 2] = [0x7e_0001, 0x7e_0002];
pub(crate) const EVENTS: [u32; 2] = [0x7e_0011, 0x7e_0012];
const NOTHING: ConnectionId = ConnectionId(0x7e_00ff);
/// Their targets, and the message types and origin that messages carry.
pub(crate) const MESSAGE_SINT: u8 = 5;
pub(crate) const EVENT_SINT: u8 = 6;
pub(crate) const PORTS: [u32; 2] = [0x5a_0001, 0x5a_0002];
/// First flag and number of flags of the event connections.
pub(crate) const FLAGS: [(u16, u16); 2] = [(40, 8), (0, 2048)];
const TYPE: MessageType = MessageType(1);

fn sint(number: u8) -> SintIndex {
    SintIndex::new(number).expect("there are 16")
}

/// Checks what comes to VPs 0 and 1, from every VP.
pub(crate) fn messages<O: Os>(cx: &Cx<'_, O>) {
    let received = cx.os.vps().min(2);
    for n in 0..received {
        cx.os.on(n, &|| receive(cx, n));
    }
    // What comes from other VPs: VP 0 keeps its SynIC while the others send.
    let mut synic = cx.synic(0, sint(MESSAGE_SINT));
    synic.unmask(sint(EVENT_SINT), cx.os.intids()[0], cx.os).expect("a source");
    cx.on_each(|n| {
        let mut page = cx.call_page(n);
        let payload = [n as u8; 240];
        connection::post_message(cx.hv, &mut page, ConnectionId(MESSAGES[0]), TYPE, &payload[..n * 8])
            .expect("a message is posted");
        connection::signal_event(cx.hv, ConnectionId(EVENTS[0]), n as u16).expect("an event is signalled");
    });
    for n in 0..cx.os.vps() {
        let (message, end) = take(cx, &synic);
        assert_eq!(message.payload(), &[n as u8; 240][..n * 8]);
        assert_eq!(end, if n + 1 < cx.os.vps() { End::MoreFollow } else { End::Quiet });
        let flag = FLAGS[0].0 + n as u16;
        assert!(synic.take_event(sint(EVENT_SINT), flag) && !synic.take_event(sint(EVENT_SINT), flag));
    }
    cx.down(synic);
}

/// Waits for a message, copies it, and ends it.
fn take<O: Os>(cx: &Cx<'_, O>, synic: &Synic<'_, O::Conduit>) -> (Message, End) {
    let sint = sint(MESSAGE_SINT);
    cx.until("a message", || synic.pending(sint).is_some());
    let pending = synic.pending(sint).expect("it is there");
    let message = pending.read().expect("its size can be");
    (message, synic.end(pending).expect("it takes the end of a message"))
}

/// Sends from VP `n`, which calls, to itself.
fn receive<O: Os>(cx: &Cx<'_, O>, n: usize) {
    let (os, intid) = (cx.os, cx.os.intids()[0]);
    let mut page = cx.call_page(n);
    let mut synic = cx.synic(n, sint(MESSAGE_SINT));
    synic.unmask(sint(EVENT_SINT), intid, os).expect("a source");
    let to = ConnectionId(MESSAGES[n]);
    let bytes: [u8; 240] = core::array::from_fn(|i| i as u8);
    for length in [0, 1, 8, 239, 240] {
        let before = os.taken(n, intid);
        connection::post_message(&synic, &mut page, to, TYPE, &bytes[..length]).expect("it is posted");
        cx.until("the message's interrupt", || os.taken(n, intid) > before);
        let (message, end) = take(cx, &synic);
        assert_eq!((message.message_type(), message.sender()), (TYPE, u64::from(PORTS[n])));
        assert_eq!((message.payload(), end), (&bytes[..length], End::Quiet));
    }

    // As many as the port takes, and then received one by one, in order.
    let mut posted = 0;
    let error = loop {
        match connection::post_message(&synic, &mut page, to, TYPE, &[posted]) {
            Ok(()) => posted += 1,
            Err(error) => break error,
        }
    };
    assert!(error.may_retry(), "{error}");
    for number in 0..posted {
        let (message, end) = take(cx, &synic);
        assert_eq!(message.payload(), &[number]);
        assert_eq!(end, if number + 1 < posted { End::MoreFollow } else { End::Quiet });
    }
    let mut refused = |to, message_type, payload: &[u8]| {
        connection::post_message(&synic, &mut page, to, message_type, payload).expect_err("it is refused")
    };
    assert_eq!(refused(to, TYPE, &[0; 241]), PostError::TooLong);
    let status = |error| match error {
        PostError::Hypervisor(error) => error.status(),
        other => panic!("{other}"),
    };
    assert_eq!(status(refused(NOTHING, TYPE, &[])), HvStatus::INVALID_CONNECTION_ID);
    assert_eq!(status(refused(to, MessageType::NONE, &[])), HvStatus::INVALID_PARAMETER);

    events(cx, n, &synic);
    cx.down(synic);
}

fn events<O: Os>(cx: &Cx<'_, O>, n: usize, synic: &Synic<'_, O::Conduit>) {
    let (os, intid, to) = (cx.os, cx.os.intids()[0], ConnectionId(EVENTS[n]));
    let (first, count) = FLAGS[n];
    let before = os.taken(n, intid);
    connection::signal_event(synic, to, count - 1).expect("it is signalled");
    cx.until("the event's interrupt", || os.taken(n, intid) > before);
    connection::signal_event(synic, to, 0).expect("it is signalled");
    let mut seen = [0; 3];
    let mut flags = 0;
    synic.take_events(sint(EVENT_SINT), |flag| {
        seen[flags.min(2)] = flag;
        flags += 1;
    });
    assert_eq!((flags, seen), (2, [first, first + count - 1, 0]));
    assert!(!synic.take_event(sint(EVENT_SINT), first));
    let error = connection::signal_event(synic, to, count).expect_err("there is no such flag");
    assert_eq!(error.status(), HvStatus::INVALID_PARAMETER);
}
