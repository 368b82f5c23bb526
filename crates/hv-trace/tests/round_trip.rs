//! Tests that records survive encoding and decoding, and that bytes that are not records survive it too.

use hv_trace::{BODY, Kind, NO_VP, Payload, Raw, Record, TimerChange, Trap, What};
use proptest::prelude::*;

/// Generates bytes, many of them with small numbers, which are valid for enumerations.
fn body() -> impl Strategy<Value = [u8; BODY]> {
    prop_oneof![
        prop::array::uniform32(0u8..4).prop_flat_map(|head| {
            prop::collection::vec(0u8..2, BODY - 32).prop_map(move |tail| {
                let mut body = [0; BODY];
                body[..32].copy_from_slice(&head);
                body[32..].copy_from_slice(&tail);
                body
            })
        }),
        (prop::collection::vec(any::<u8>(), BODY), 0..=BODY).prop_map(|(bytes, end)| {
            let mut body = [0; BODY];
            body[..end].copy_from_slice(&bytes[..end]);
            body
        }),
    ]
}

/// Generates a raw record, mostly of a known kind.
fn raw() -> impl Strategy<Value = Raw> {
    let kinds: Vec<u32> = Kind::ALL.iter().map(|kind| *kind as u32).collect();
    let kind = prop_oneof![9 => prop::sample::select(kinds), 1 => any::<u32>()];
    (any::<u64>(), kind, any::<u32>(), body()).prop_map(|(time, kind, vp, body)| Raw { time, kind, vp, body })
}

proptest! {
    /// Checks that no byte is lost, and that a decoded record encodes to the same bytes.
    #[test]
    fn bytes_and_records_are_one_to_one(raw in raw()) {
        let record = Record::decode(&raw);
        prop_assert_eq!(record.encode(), raw);
        prop_assert_eq!(Record::decode(&record.encode()), record);
    }
}

/// Checks that each kind can be decoded, so that the property above does not hold for `Unknown` alone.
#[test]
fn every_kind_can_be_read() {
    for &kind in Kind::ALL {
        // 1 is valid for every enumeration.
        let mut body = [0; BODY];
        body[0] = 1;
        let of = |body| What::decode(kind as u32, body);
        let known = [of(&body), of(&[0; BODY])].into_iter().any(|what| !matches!(what, What::Unknown { .. }));
        assert!(known, "{kind:?}");
    }
}

#[test]
fn what_lies_behind_the_last_field_is_kept() {
    let mut raw = Record { time: 1, vp: 0, what: What::Enter {} }.encode();
    raw.body[BODY - 1] = 1;
    let record = Record::decode(&raw);
    assert!(matches!(record.what, What::Unknown { .. }), "{record:?}");
    assert_eq!(record.what.kind(), Some(Kind::Enter));
    assert_eq!(record.encode(), raw);
}

#[test]
fn fields_lie_one_behind_the_other() {
    let exit =
        What::Exit { trap: Trap::Abort, syndrome: 0x0807_0605_0403_0201, pc: 9, address: 0, vectors: 0 };
    let raw = Record { time: 7, vp: NO_VP, what: exit }.encode();
    assert_eq!((raw.time, raw.kind, raw.vp), (7, 1, NO_VP));
    assert_eq!(raw.body[..10], [5, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    let timer = What::Timer { target: 1, timer: 3, change: TimerChange::Expired(5, 6) };
    assert_eq!(timer.encode().1[..7], [1, 0, 0, 0, 3, 2, 5]);
}

#[test]
fn a_long_payload_is_cut_and_says_so() {
    let payload = Payload::new(&[0xee; 240]);
    let what = What::VmbusMessage { target: 0, from_guest: true, payload };
    let (kind, body) = what.encode();
    let What::VmbusMessage { payload, .. } = What::decode(kind, &body) else { panic!("{body:?}") };
    assert_eq!((payload.length(), payload.kept().len(), payload.is_cut()), (240, 41, true));
}
