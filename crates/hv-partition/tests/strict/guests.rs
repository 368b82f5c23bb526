//! What the guests of the rules are made of.

pub(crate) use std::sync::{Arc, Mutex};

pub(crate) use crate::channel;
pub(crate) use hv_devices::any::Offer;
use hv_partition::record::{self, Replay};
pub(crate) use hv_partition::strict::{Finding, Judge, RULES, Rule, rules};
pub(crate) use hv_partition::testing::{
    LINUX_ID, Observed, RAM, RAM_SIZE, TestMachine, rep, run_bare, simple,
};
pub(crate) use hv_partition::{
    BusEvent, BusObserver, Config, Event, GuestMemory, Host, Port, PortTarget, hv_host::psci,
};
pub(crate) use hv_tlfs::hypercall::{HypercallCode as Code, HypercallInput};
pub(crate) use hv_tlfs::register::RegisterName as Name;
pub(crate) use hv_tlfs::synic::MessageType;
use hv_tlfs::time::ReferenceTime;
pub(crate) use hv_tlfs::vp::{PARTITION_ID_SELF, VP_INDEX_SELF};
use hv_trace::Record;
pub(crate) use hv_vmbus::protocol as bus;
pub(crate) use hv_vmbus::{Contents, Listed, PagesError, Seen};
pub(crate) use zerocopy::{FromZeros, IntoBytes};

pub(crate) const VPS: usize = 3;
pub(crate) const SINT: u8 = 2;
pub(crate) const PAGE: u64 = RAM + 0x8_0000;

pub(crate) fn ports() -> [Port; 2] {
    [
        Port::new(0x100, 1, PortTarget::Message { vp: Some(1), sint: SINT }),
        Port::new(0x101, 2, PortTarget::Event { vp: Some(1), sint: SINT, base: 0, count: 4 }),
    ]
}

/// Returns the VP that does what an event reports, where it reports one.
fn actor(event: &Event<'_>) -> usize {
    match *event {
        Event::Hypercall { vp, .. }
        | Event::RegisterGet { vp, .. }
        | Event::RegisterSet { vp, .. }
        | Event::Smccc { vp, .. }
        | Event::UnknownImmediate { vp, .. }
        | Event::MessagePosted { vp, .. }
        | Event::EndOfMessage { vp, .. }
        | Event::EventSignalled { vp, .. }
        | Event::Crash { vp, .. } => vp,
        _ => 0,
    }
}

/// Judges what is observed as a trace of the run would be: by its records' bytes.
fn replayed(replay: &mut Replay<VPS>, observed: &Observed<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut judge = |vp: usize, what| {
        let raw = Record { time: 0, vp: vp as u32, what }.encode();
        replay.record(&Record::decode(&raw), &mut |finding| found.push(finding));
    };
    match observed {
        Observed::Hypervisor(event) => record::records(event, |what| judge(actor(event), what)),
        Observed::Bus(event) => record::bus_records(event, |what| judge(0, what)),
    }
    found
}

/// Runs a guest on a fresh machine and gives what was found, by rule. A judge of the run's records finds the same.
pub(crate) fn judge(guest: &dyn Fn(&TestMachine<'_>)) -> Vec<Finding> {
    run_bare(Config::new(62_500_000), VPS, &ports(), |m| {
        let found = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&found);
        let mut judge = Judge::<VPS>::new(RAM, RAM_SIZE);
        let mut replay = Replay::<VPS>::new(RAM, RAM_SIZE);
        m.host.set_observer(move |observed| {
            let mut now = Vec::new();
            match observed {
                Observed::Hypervisor(event) => judge.event(event, &mut |finding| now.push(finding)),
                Observed::Bus(event) => judge.bus_event(event, &mut |finding| now.push(finding)),
            }
            assert_eq!(replayed(&mut replay, observed), now, "{observed:?}");
            sink.lock().unwrap().extend(now);
        });
        for vp in 0..VPS {
            m.online(vp);
        }
        guest(m);
        std::mem::take(&mut *found.lock().unwrap())
    })
}

/// Returns the findings without those on how the guests of these tests make their calls.
pub(crate) fn of_vmbus(found: &[Finding]) -> Vec<&Finding> {
    found.iter().filter(|f| *f.rule != rules::CALL_OUTPUT).collect()
}

/// Runs a guest that sets its id.
pub(crate) fn identified(m: &TestMachine<'_>) {
    m.set(0, Name::GUEST_OS_ID, LINUX_ID).unwrap();
}

/// Runs a guest whose SynICs are set up on all VPs.
pub(crate) fn ready(m: &TestMachine<'_>) {
    identified(m);
    for vp in 0..VPS {
        m.enable_synic(vp, SINT, 18);
    }
    m.set_time(ReferenceTime(1000));
}

pub(crate) fn call(m: &TestMachine<'_>, control: HypercallInput, words: &[u64]) {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    m.host.memory().write(PAGE, &bytes).unwrap();
    m.call_at(0, control, PAGE, 0);
}

pub(crate) fn fast(m: &TestMachine<'_>, control: HypercallInput, words: &[u64]) {
    m.fast(0, control, words);
}

pub(crate) const SPIN: HypercallInput = simple(Code::NOTIFY_LONG_SPIN_WAIT);

pub(crate) fn set(m: &TestMachine<'_>, name: Name, value: u64) {
    let _ = m.set(0, name, value);
}

pub(crate) fn post(m: &TestMachine<'_>, connection: u32, message_type: u32, payload: &[u8]) {
    let words = [connection, 0, message_type, payload.len() as u32].map(u32::to_le_bytes).concat();
    let mut input = words;
    input.extend(payload);
    input.resize(256, 0);
    m.host.memory().write(PAGE, &input).unwrap();
    m.call_at(0, simple(Code::POST_MESSAGE), PAGE, 0);
}

pub(crate) fn crash(m: &TestMachine<'_>, control: u64, address: u64, length: u64) {
    set(m, Name::GUEST_CRASH_P3, address);
    set(m, Name::GUEST_CRASH_P4, length);
    set(m, Name::GUEST_CRASH_CTL, control);
}

pub(crate) fn contact(sint: u8) -> bus::InitiateContact {
    let mut contact = bus::InitiateContact::new_zeroed();
    contact.header = bus::MessageHeader::new(bus::MessageType::INITIATE_CONTACT);
    contact.version = bus::Version::V5_3;
    contact.target_info = bus::TargetInfo(0).with_sint(sint);
    contact
}

pub(crate) fn connected(m: &TestMachine<'_>) {
    ready(m);
    post(m, 4, 1, contact(SINT).as_bytes());
    m.take_message(0, SINT).unwrap();
}

pub(crate) fn bus_message(m: &TestMachine<'_>, kind: bus::MessageType, rest: &[u32]) {
    let mut payload = bus::MessageHeader::new(kind).as_bytes().to_vec();
    payload.extend(rest.iter().flat_map(|word| word.to_le_bytes()));
    post(m, 4, 1, &payload);
}

/// Runs a guest with the echo device, whose channel it opens; the channel's and the GPADL's number is 1.
pub(crate) fn opened(m: &TestMachine<'_>) {
    ready(m);
    m.partition.with_vmbus(&m.host, |bus| bus.offer(Offer::ECHO)).unwrap();
    channel::connect(m, 0);
    channel::open(m, 0, 1, 0);
    channel::take_kinds(m, 0);
}

/// Establishes a page list.
pub(crate) fn list(m: &TestMachine<'_>, gpadl: u32, bytes: u64, pages: &[u64]) {
    let words = pages.len() as u32 + 1;
    let mut payload = bus::MessageHeader::new(bus::MessageType::GPADL_HEADER).as_bytes().to_vec();
    payload.extend([1, gpadl, words * 8 + (1 << 16)].iter().flat_map(|word| word.to_le_bytes()));
    payload.extend([bytes].iter().chain(pages).flat_map(|word| word.to_le_bytes()));
    post(m, 4, 1, &payload);
}

/// Posts OPENCHANNEL of channel 1.
pub(crate) fn open(m: &TestMachine<'_>, gpadl: u32, vp: u32, split: u32) {
    let mut words = [0; 35];
    words[..5].copy_from_slice(&[1, 1, gpadl, vp, split]);
    bus_message(m, bus::MessageType::OPEN_CHANNEL, &words);
}

/// Passes on an event of the server.
pub(crate) fn server(m: &TestMachine<'_>, event: hv_vmbus::Event) {
    m.host.observe_bus(&BusEvent::Server(event));
}

/// Offers and opens a device's channel.
pub(crate) fn device(m: &TestMachine<'_>, channel: u32, interface: bus::Guid, first: u32) {
    let plain = [bus::guid::SCSI, bus::guid::KEYBOARD, bus::guid::NETWORK, bus::guid::DYNAMIC_MEMORY];
    let plain = plain.contains(&interface);
    let flags = bus::OfferFlags(0).with_named_pipe(!plain);
    let (instance, index) = (bus::Guid::ZERO, (channel - first) as u16);
    let (channel, first) = (bus::ChannelId(channel), bus::ChannelId(first));
    server(m, hv_vmbus::Event::Offered { channel, first, index, flags, interface, instance });
    server(m, hv_vmbus::Event::Opened { channel, vp: 0 });
}

/// Builds an in-band packet of the guest on channel 1.
pub(crate) fn in_band(payload: &[u8]) -> Seen<'_> {
    Seen::new(bus::ChannelId(1), bus::Guid::ZERO, bus::PacketType::DATA_IN_BAND, payload).with_transaction(7)
}

/// Shows a packet.
pub(crate) fn show(m: &TestMachine<'_>, packet: &Seen<'_>) {
    m.host.observe_bus(&BusEvent::Packet(*packet));
}

pub(crate) type Guest = fn(&TestMachine<'_>);

/// Rule, a guest that breaks it, and one that comes near and keeps it.
pub(crate) type Case = (&'static Rule, Guest, Guest);
