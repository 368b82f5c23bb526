//! Tests of what the codec of saved state rejects.

use hv_memory::save::{Reader, RestoreError, Writer, fingerprint};

const MAGIC: [u8; 8] = *b"testing\0";

fn image() -> Vec<u8> {
    let mut image = Vec::new();
    let mut sink = |bytes: &[u8]| image.extend_from_slice(bytes);
    let mut w = Writer::begin(&mut sink, MAGIC, 3);
    w.u8(1);
    w.flag(true);
    w.u64(u64::MAX - 1);
    w.count(5);
    w.value(&[1u16, 2, 3]);
    w.finish();
    image
}

#[test]
fn what_was_written_comes_back() {
    let image = image();
    let mut r = Reader::open(&image, MAGIC, 3).unwrap();
    assert_eq!(r.u8(), Ok(1));
    assert_eq!(r.flag("flag"), Ok(true));
    assert_eq!(r.u64(), Ok(u64::MAX - 1));
    assert_eq!(r.count(), Ok(5));
    assert_eq!(r.value(), Ok([1u16, 2, 3]));
    assert_eq!(r.end(), Ok(()));
    assert_eq!(r.u8(), Err(RestoreError::Truncated));
}

#[test]
fn any_change_and_any_cut_is_found() {
    let image = image();
    for at in 0..image.len() {
        let mut changed = image.clone();
        changed[at] ^= 0x40;
        let error = Reader::open(&changed, MAGIC, 3).expect_err("a changed image");
        match at {
            0..8 => assert_eq!(error, RestoreError::NotAnImage),
            8..12 => assert!(matches!(error, RestoreError::Version(_))),
            _ => assert_eq!(error, RestoreError::Damaged, "{at}"),
        }
        let error = Reader::open(&image[..at], MAGIC, 3).expect_err("a short image");
        assert!(matches!(error, RestoreError::NotAnImage | RestoreError::Damaged), "{at}: {error}");
    }
}

#[test]
fn a_flag_is_0_or_1_and_nothing_may_follow() {
    let mut r = Reader::new(&[2, 9]);
    assert_eq!(r.flag("the flag"), Err(RestoreError::Invalid("the flag")));
    assert_eq!(r.end(), Err(RestoreError::Invalid("length")));
    assert_eq!(r.left(), 1);
    assert_eq!(RestoreError::Invalid("timer").to_string(), "invalid timer in the saved state");
}

#[test]
fn a_fingerprint_depends_on_every_word_and_their_order() {
    assert_ne!(fingerprint(&[1, 2]), fingerprint(&[2, 1]));
    assert_ne!(fingerprint(&[1, 2]), fingerprint(&[1, 3]));
}
