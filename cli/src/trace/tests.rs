//! Tests of a trace from records to a file and back.

use hv_tlfs::status::HvStatus;
use hv_tlfs::synic::MessageType;
use hv_trace::{BODY, Cause, Kind, Payload, Raw, Record, SmcccConduit, Trap, What};

use super::args::{Filter, Form};
use super::file::{Packets, Reader, Writer};
use super::perfetto::{NamedPlace, Run, TracePacket};
use super::samples::*;
use super::{LEAST, check, convert};

const fn smccc(function: u32) -> What {
    What::Smccc { conduit: SmcccConduit::Hvc, function, arguments: [0; 3], result: 0 }
}

/// Returns records of a message that VP 0 posts and VP 1 gets; a VP that goes offline; an exit that never ends.
fn story() -> Vec<Record> {
    let mut contact = [0; 40];
    (contact[0], contact[8], contact[10]) = (0x0e, 3, 5);
    let posted = What::MessagePosted {
        connection: 4,
        message_type: MessageType(1),
        status: HvStatus::SUCCESS,
        payload: Payload::new(&contact),
    };
    vec![
        record(0, 1000, What::Reset {}),
        exit(0, 2000, Trap::Hvc),
        record(0, 2010, message(1, 2, &[0x0f, 0, 0, 0, 0, 0, 0, 0])),
        record(0, 2020, What::Interrupt { target: 1, intid: 18, cause: Cause::Message(2) }),
        record(0, 2030, posted),
        exit(1, 2035, Trap::Interrupt),
        record(1, 2036, What::OwnInterrupt { intid: 0 }),
        record(1, 2037, What::Injected { intid: 18, list_register: 1 << 62 }),
        enter(1, 2039),
        hypercall(0, 2040, 0x5c),
        enter(0, 2050),
        exit(1, 3000, Trap::Smccc),
        record(1, 3001, What::VpOffline { target: 1 }),
        exit(0, 4000, Trap::Smccc),
        record(0, 4001, smccc(0x8400_0008)),
    ]
}

fn written(records: &[Record]) -> Vec<u8> {
    let of = |vp| records.iter().filter(|record| record.vp == vp).count() as u64;
    let run = Run { recorded: vec![of(0), of(1)], ..run() };
    let mut bytes = Vec::new();
    convert::write(&mut bytes, run, u64::MAX, records.iter().copied().map(Ok)).unwrap();
    bytes
}

fn printed(bytes: &[u8], filter: &Filter, json: bool) -> String {
    let mut out = Vec::new();
    let form = if json { Form::Json } else { Form::Records };
    filter.print(Reader::new(Packets::new(bytes)).unwrap(), &mut out, form).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn a_trace_is_good_and_has_what_happened() {
    let bytes = written(&story());
    let found = check::check(Packets::new(&*bytes)).unwrap();
    assert_eq!((found.slices, found.instants, found.hypercalls), (4, 9, 1));
    // From the exit to the message, its interrupt and the list register.
    assert_eq!(found.flows, 1);
}

/// Checks that records of every kind can be written and read, including ones that are not of this version.
#[test]
fn every_kind_of_record_can_be_written_and_read() {
    let mut records = Vec::new();
    for &kind in Kind::ALL {
        // 0 is not a valid value of some enumerations; 1 is valid for each.
        let mut small = [0; BODY];
        small[0] = 1;
        for body in [[0; BODY], small, [1; BODY], [u8::MAX; BODY]] {
            let time = 2000 + records.len() as u64;
            records.push(Record::decode(&Raw { time, kind: kind as u32, vp: 0, body }));
        }
    }
    let bytes = written(&records);
    let text = printed(&bytes, &Filter::default(), false);
    assert_eq!(text.lines().count(), records.len());
    for kind in Kind::ALL {
        let mut kinds = text.lines().filter_map(|line| line.split_whitespace().nth(2));
        assert!(kinds.any(|label| label == kind.label()), "{kind:?}");
    }
    assert_eq!(printed(&bytes, &Filter::default(), true).lines().count(), records.len());
}

#[test]
fn records_come_back_as_they_were() {
    let records: Vec<_> = (0..3000).map(|n| record(n % 2, 1000 + u64::from(n), call(n.into()))).collect();
    let bytes = written(&records);
    let back: Vec<_> = Reader::new(Packets::new(&*bytes)).unwrap().map(Result::unwrap).collect();
    assert_eq!(back.len(), records.len());
    assert_eq!(back, records);
}

#[test]
fn the_text_has_names_from_the_abi() {
    let text = printed(&written(&story()), &Filter::default(), false);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "  0.000000000 0 reset");
    assert_eq!(lines[1], "  0.000001000 0 exit                hvc #1 esr=0x56000001 pc=0xffff800000001234");
    assert_eq!(
        lines[2],
        "  0.000001010 0 message-delivered   CHANNELMSG_VERSION_RESPONSE to-vp=1 sint=2 pending=0 bytes=8 \
         payload=0f00000000000000"
    );
    let rest = "00".repeat(24);
    assert_eq!(
        lines[4],
        format!(
            "  0.000001030 0 message-posted      CHANNELMSG_INITIATE_CONTACT connection=0x4 status=HV_STATUS_SUCCESS \
         bytes=40 payload=0e0000000000000003000500{rest}.."
        )
    );
    assert_eq!(
        lines[9],
        "  0.000001040 0 hypercall           HVCALL_POST_MESSAGE hvc=1 input=0x1000 output=0x2000 \
         status=HV_STATUS_SUCCESS"
    );
    assert!(lines[14].contains("smccc               SYSTEM_OFF by=hvc"), "{}", lines[14]);
}

fn joined(records: &[Record], filter: &Filter) -> Vec<String> {
    let mut out = Vec::new();
    filter.print(Reader::new(Packets::new(&*written(records))).unwrap(), &mut out, Form::Joined).unwrap();
    String::from_utf8(out).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn an_exit_its_call_and_the_return_are_one_line() {
    let lines = joined(&story(), &Filter::default());
    assert_eq!(
        lines[1],
        "  0.000001000 0 hypercall           HVCALL_POST_MESSAGE hvc=1 input=0x1000 output=0x2000 \
         status=HV_STATUS_SUCCESS exit=\"hvc #1\" pc=0xffff800000001234 took=0.0us"
    );
    // What the call led to follows it, and the other VP's exit comes in its turn.
    let kinds: Vec<&str> = lines.iter().map(|line| line.split_whitespace().nth(2).unwrap()).collect();
    assert_eq!(
        kinds,
        [
            "reset",
            "hypercall",
            "message-delivered",
            "interrupt-asserted",
            "message-posted",
            "interrupt-own",
            "interrupt-injected",
            "exit",
            "vp-offline",
            "smccc"
        ]
    );
    // An exit that never ends has no duration.
    assert!(lines[9].contains("SYSTEM_OFF by=hvc") && !lines[9].contains("took="), "{}", lines[9]);
    assert_eq!(joined(&story(), &Filter::named("post_message")).len(), 1);
}

#[test]
fn an_exit_without_end_holds_back_no_more_than_it_may() {
    let mut records = vec![exit(1, 1000, Trap::Other)];
    records.extend((0..40_000).map(|n| hypercall(0, 2000 + n, 0x5c)));
    assert_eq!(joined(&records, &Filter::default()).len(), records.len());
}

#[test]
fn a_name_finds_the_record() {
    let bytes = written(&story());
    let filter = Filter::named("version_response");
    assert_eq!(printed(&bytes, &filter, false).lines().count(), 1);
    let json: serde_json::Value = serde_json::from_str(&printed(&bytes, &filter, true)).unwrap();
    assert_eq!(json["kind"], "message-delivered");
    assert_eq!(json["time_ns"], 1010);
    assert_eq!(json["values"]["to-vp"], 1);
}

#[test]
fn drops_are_said() {
    let mut bytes = Vec::new();
    convert::write(&mut bytes, Run { dropped: vec![0, 5], ..run() }, u64::MAX, std::iter::empty()).unwrap();
    assert_eq!(
        printed(&bytes, &Filter::default(), false),
        "5 records were dropped: the trace is incomplete\n"
    );
}

#[test]
fn what_is_no_trace_is_refused() {
    let refused = |bytes: &[u8]| Reader::new(Packets::new(bytes)).err().expect("it was accepted").to_string();
    assert!(refused(b"").ends_with("it is empty"), "{}", refused(b""));
    assert!(
        refused(b"\x7fELF").starts_with("it is not a trace of `hv boot --trace`"),
        "{}",
        refused(b"\x7fELF")
    );
    // A packet of Perfetto's own.
    assert!(refused(&[0x0a, 2, 0x40, 1]).contains("no description of a run"));
    assert!(refused(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f]).contains("a packet of"));
    let mut other = Writer::new(Vec::new());
    other.packet(&TracePacket { run: Some(Run { version: 99, ..run() }), ..TracePacket::default() }).unwrap();
    assert!(refused(&other.finish().unwrap()).contains("version 99"));
}

#[test]
fn a_damaged_trace_is_an_error_and_no_panic() {
    let bytes = written(&story());
    for end in 0..bytes.len() {
        if let Ok(reader) = Reader::new(Packets::new(&bytes[..end])) {
            let _ = reader.collect::<Vec<_>>();
        }
        assert!(check::check(Packets::new(&bytes[..end])).is_err(), "cut off at {end}");
    }
    for place in 0..bytes.len() {
        let mut bytes = bytes.clone();
        bytes[place] ^= 0x55;
        if let Ok(reader) = Reader::new(Packets::new(&*bytes)) {
            let _ = Filter::default().print(reader, std::io::sink(), Form::Joined);
        }
        let _ = check::check(Packets::new(&*bytes));
    }
}

#[test]
fn the_check_finds_what_is_wrong() {
    let said = |records: &[Record]| {
        let mut bytes = Vec::new();
        convert::write(
            &mut bytes,
            Run { recorded: vec![9, 0], ..run() },
            u64::MAX,
            records.iter().copied().map(Ok),
        )
        .unwrap();
        format!("{:#}", check::check(Packets::new(&*bytes)).unwrap_err())
    };
    assert!(said(&story()[..1]).contains("1 records, 9 said"));
    let back = [enter(0, 2000), enter(0, 1999)];
    assert!(said(&back).contains("out of order"));
    let unknown = record(0, 2000, What::Unknown { kind: 0, body: [0; BODY] });
    assert!(said(&[unknown]).contains("kind 0"));
}

/// Checks that a file's description of its run is validated before it sizes anything, and that sums of its numbers do
/// not overflow.
#[test]
fn a_run_that_cannot_be_is_refused() {
    let with = |run: Run| {
        let mut writer = Writer::new(Vec::new());
        writer.packet(&TracePacket { run: Some(run), ..TracePacket::default() }).unwrap();
        writer.finish().unwrap()
    };
    let most = hv_wire::platform::MAX_VPS;
    for bad in [
        Run { vps: u32::MAX, ..run() },
        Run { vps: most as u32 + 1, ..run() },
        Run { recorded: vec![0; most + 1], ..run() },
        Run { dropped: vec![0; most + 1], ..run() },
        Run { version: 0, ..run() },
    ] {
        let bytes = with(bad.clone());
        assert!(Reader::new(Packets::new(&*bytes)).is_err(), "{bad:?}");
        assert!(check::check(Packets::new(&*bytes)).is_err(), "{bad:?}");
    }
    let full = Run { recorded: vec![u64::MAX; 2], dropped: vec![u64::MAX; 2], ..run() };
    let bytes = with(full.clone());
    assert_eq!((full.all_recorded(), full.all_dropped()), (u64::MAX, u64::MAX));
    assert!(printed(&bytes, &Filter::default(), false).contains("records were dropped"));
    assert!(check::check(Packets::new(&*bytes)).is_err());
}

/// Checks that a record belongs to a VP of the run: nothing is allocated by numbers that a file invents.
#[test]
fn a_record_of_no_vp_is_an_error() {
    let mut writer = Writer::new(Vec::new());
    writer.packet(&TracePacket { run: Some(run()), ..TracePacket::default() }).unwrap();
    writer.record(&enter(1, 2000)).unwrap();
    writer.record(&enter(2, 3000)).unwrap();
    let bytes = writer.finish().unwrap();
    let read: Vec<_> = Reader::new(Packets::new(&*bytes)).unwrap().collect();
    assert!(read[0].is_ok());
    let error = read[1].as_ref().unwrap_err().to_string();
    assert!(error.contains("VP 2") && error.contains("2 VPs"), "{error}");
    assert!(check::check(Packets::new(&*bytes)).is_err());
}

/// Checks that the claimed length of a packet is not trusted.
#[test]
fn a_long_packet_is_an_error() {
    let mut bytes = written(&story());
    bytes.extend_from_slice(&[super::perfetto::PACKET, 0xff, 0xff, 0x7f]);
    let last = Reader::new(Packets::new(&*bytes)).unwrap().last().unwrap();
    assert!(last.unwrap_err().to_string().contains("2097151 bytes"));
}

#[test]
fn the_shortest_trace_has_records_whatever_there_is_to_name() {
    let (count, name) = (20_000, "a_function_of_the_guest_with_a_name_of_its_own+0x10/0x100");
    let places = (0..65_536).map(|pc| NamedPlace { pc, name: name.into() }).collect();
    let records = (0..count).map(|n| Ok(record(0, 2000 + n, smccc(0x8600_0000 + n as u32))));
    let mut bytes = Vec::new();
    let run = Run { recorded: vec![count, 0], places, ..run() };
    let written = convert::write(&mut bytes, run, LEAST, records).unwrap();
    assert!(written.records > 1000 && bytes.len() as u64 <= LEAST, "{written:?}, {}", bytes.len());
    assert_eq!(written.records + written.left_out, count);
    let read = Reader::new(Packets::new(&*bytes)).unwrap();
    assert!((1000..65_536).contains(&read.run().places.len()));
}

#[test]
fn a_trace_has_a_longest_length_whatever_the_guest_does() {
    // Calls that all differ: each record has its own name.
    const LIMIT: u64 = 4 << 20;
    let count = 60_000;
    let records = (0..count).map(|n| Ok(record(0, 2000 + n, smccc(0x8600_0000 + n as u32))));
    let mut bytes = Vec::new();
    let run = Run { recorded: vec![count, 0], ..run() };
    let left_out = convert::write(&mut bytes, run, LIMIT, records).unwrap().left_out;
    assert!((1..count).contains(&left_out) && bytes.len() as u64 <= LIMIT, "{left_out}, {}", bytes.len());
    let found = check::check(Packets::new(&*bytes)).unwrap();
    assert_eq!(found.run.all_left_out(), left_out);
    let text = printed(&bytes, &Filter::named("no such name"), false);
    assert_eq!(
        text,
        format!("{left_out} records at the end were dropped: the trace has reached its maximum size\n")
    );
}
