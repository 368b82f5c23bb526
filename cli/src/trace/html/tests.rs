//! Tests of the page's structure, without a browser. The scenario `trace/html` tests it in one.

use base64::Engine as _;
use hv_trace::{Cause, Payload, Trap};
use serde_json::Value as Json;

use super::*;
use crate::trace::convert;
use crate::trace::file::Packets;
use crate::trace::samples::*;

fn page(records: &[Record]) -> String {
    let mut bytes = Vec::new();
    convert::write(&mut bytes, run(), u64::MAX, records.iter().copied().map(Ok)).unwrap();
    let mut out = Vec::new();
    let reader = Reader::new(Packets::new(&*bytes)).unwrap();
    write(reader, &Filter::default(), "boot.pftrace", &|_, _| None, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn section(page: &str, id: &str) -> Vec<u8> {
    let start = format!("<script type=\"text/plain\" id=\"{id}\">");
    let (_, rest) = page.split_once(&start).unwrap();
    STANDARD.decode(rest.split_once("</script>").unwrap().0).unwrap()
}

fn meta(page: &str) -> Json {
    serde_json::from_slice(&section(page, "meta")).unwrap()
}

/// Returns all numbers of a section that consists only of numbers.
fn numbers(bytes: &[u8]) -> Vec<u64> {
    let mut numbers = vec![0];
    let mut shift = 0;
    for &byte in bytes {
        *numbers.last_mut().unwrap() |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            numbers.push(0);
            shift = 0;
        }
    }
    numbers.pop();
    numbers
}

fn console(time: u64, text: &[u8], more: bool) -> Record {
    record(NO_VP, time, What::Console { more, text: Payload::new(text) })
}

#[test]
fn exits_arrows_and_records_are_in_their_sections() {
    let story = [
        exit(0, 2000, Trap::Hvc),
        record(0, 2010, message(1, 2, &[0x0f, 0, 0, 0])),
        record(0, 2020, What::Interrupt { target: 1, intid: 18, cause: Cause::Message(2) }),
        record(1, 2037, What::Injected { intid: 18, list_register: 0 }),
        hypercall(0, 2040, 0x5c),
        enter(0, 2300),
    ];
    let page = page(&story);
    let meta = meta(&page);
    assert_eq!((&meta["records"], &meta["exits"], &meta["arrows"]), (&5.into(), &1.into(), &3.into()));
    // Record 0, 300 ns, by the call's name.
    let exits = numbers(&section(&page, "exits"));
    assert_eq!(exits[..2], [0, 300]);
    assert_eq!(meta["strings"][exits[2] as usize], "HVCALL_POST_MESSAGE");
    // From the exit to the message, to its interrupt, to the other VP.
    assert_eq!(numbers(&section(&page, "arrows")), [1, 1, 1, 1, 1, 1]);
    let records = section(&page, "records");
    // 1 µs after the guest's counter began, on VP 0.
    assert_eq!(numbers(&records)[..2], [1000, 1]);
}

/// Checks that guest output is data: no byte of it is markup, a script or the end of one.
#[test]
fn a_guests_text_is_never_part_of_the_page() {
    let plain = page(&[]);
    let hostile = "</script><script>alert(1)</script><!--";
    let tail = "\u{2028}\u{2029}<img src=x onerror=alert(2)>";
    let page = page(&[
        console(2000, hostile.as_bytes(), true),
        console(2000, tail.as_bytes(), false),
        enter(0, 2001),
    ]);
    for part in ["alert", "onerror", "\u{2028}", "\u{2029}"] {
        assert_eq!(page.matches(part).count(), plain.matches(part).count(), "{part:?}");
    }
    assert_eq!(page.matches("<script").count(), plain.matches("<script").count());
    // Nothing is lost either: both parts form one line.
    let shown = section(&page, "records");
    let shown = String::from_utf8_lossy(&shown);
    assert!(shown.contains(&format!("{hostile}{tail}")), "{shown}");
    assert_eq!(meta(&page)["records"], 1);
}

#[test]
fn the_page_asks_for_nothing() {
    let page = page(&[enter(0, 2000)]);
    assert!(page.contains("default-src 'none'"));
    for part in
        ["http:", "https:", "//cdn", "@import", "url(", "fetch(", "XMLHttpRequest", "innerHTML", "eval("]
    {
        assert!(!page.contains(part), "{part}");
    }
    assert!(page.trim_end().ends_with("</html>"));
}
