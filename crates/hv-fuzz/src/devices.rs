//! Each device behind VMBus against a driver that does anything: packets of its protocol, right and wrong, on rings and in data that
//! change between two looks of the host, and a back end that completes in any order.

use std::cell::{Cell, RefCell};

use hv_devices::scsi::Disk;
use hv_devices::storage::{self, CONTROLLERS, Failure, Request, SEGMENTS};
use hv_devices::{
    Fcopy, Heartbeat, Keyboard, Kvp, Mouse, Shutdown, Storage, TimeSync, Vss, fcopy, heartbeat, keyboard,
    kvp, mouse, shutdown, time_sync, vss,
};
use hv_partition::strict::Judge;
use hv_partition::{BusEvent, GuestMemory as _};
use hv_tlfs::time::ReferenceTime;
use hv_vmbus::protocol::ic::{Header, MessageType, PipeHeader};
use hv_vmbus::protocol::storage::{Operation, Packet, ScsiRequest};
use hv_vmbus::protocol::{Guid, PacketType, vss::Operation as VssOperation};
use hv_vmbus::ring::{Consumer, Outgoing, Producer, Ring};
use hv_vmbus::{
    Backend, Bus, BusPort, Config, DeviceId, Event, Moment, Never, Pages, Posted, Seen, Slot, Start, Started,
    Token,
};
use zerocopy::{FromZeros, IntoBytes};

use crate::input::{Input, SPLIT};
use crate::memory::{Memory, RAM, RAM_SIZE};
use crate::messages;

/// Maximum number of steps in a run.
const STEPS: usize = 256;
const VPS: u32 = 4;
/// Bytes of the disk.
const DISK: u64 = 1 << 20;
/// Channels: three of the disks' controller, then one for each service, and for each input device.
const CHANNELS: [u32; 11] = [1, 2, 3, 4, 5, 6, 7, 8, KEYBOARD, MOUSE, FCOPY];
const KEYBOARD: u32 = 9;
const MOUSE: u32 = 10;
const FCOPY: u32 = 11;

type Lock = spin::Mutex<()>;

hv_vmbus::devices! {
    struct Set {
        disks: Slot<Lock, Storage<2>, 3, 4, SEGMENTS>,
        shutdown: Slot<Lock, Shutdown>,
        time: Slot<Lock, TimeSync>,
        heartbeat: Slot<Lock, Heartbeat>,
        kvp: Slot<Lock, Kvp>,
        vss: Slot<Lock, Vss>,
        keyboard: Slot<Lock, Keyboard>,
        mouse: Slot<Lock, Mouse>,
        fcopy: Slot<Lock, Fcopy>,
    }
}

type TestBus = Bus<Lock, Set, 12, 256>;

/// The partition, the back end, and the strict mode's judge.
struct Partition {
    memory: Memory,
    time: u64,
    received: RefCell<Vec<u8>>,
    /// What the back end does with requests: completes, fails, keeps, or has no room for them.
    mode: Cell<u8>,
    held: RefCell<Vec<Token>>,
    judge: RefCell<Judge<4>>,
    /// What faults on purpose do next.
    mishap: Cell<u8>,
}

impl Partition {
    fn judge(&self, event: &BusEvent<'_>) {
        self.judge.borrow_mut().bus_event(event, &mut |finding| assert!(!finding.rule.id.is_empty()));
    }

    /// Takes the next mishap, if it is this one.
    fn meets(&self, which: u8) -> bool {
        let meets = self.mishap.get() == which;
        if meets {
            self.mishap.set(0);
        }
        meets
    }
}

impl BusPort for Partition {
    type Memory = Memory;

    fn memory(&self) -> &Memory {
        &self.memory
    }

    fn reference_time(&self) -> ReferenceTime {
        ReferenceTime(self.time)
    }

    fn has_vp(&self, vp: u32) -> bool {
        vp < VPS
    }

    fn post(&self, _: u32, _: u8, payload: &[u8]) -> Posted {
        self.received.borrow_mut().push(payload[0]);
        Posted::Queued
    }

    fn interrupt(&self, vp: u32, sint: u8, flag: u16) {
        assert!(vp < VPS && sint == 2 && flag < 2048);
    }

    fn observe(&self, event: Event) {
        self.judge(&BusEvent::Server(event));
    }

    fn sees_packets(&self) -> bool {
        true
    }

    fn packet(&self, packet: &Seen<'_>) {
        assert!(packet.payload.len() == hv_vmbus::SEEN_BYTES.min(packet.len as usize));
        self.judge(&BusEvent::Packet(*packet));
    }

    fn starts(&self, _: DeviceId) -> Start {
        match () {
            () if self.meets(1) => Start::Late(ReferenceTime(1000)),
            () if self.meets(2) => Start::After,
            () if self.meets(3) => Start::Never,
            () => Start::Now,
        }
    }

    fn is_mute(&self) -> bool {
        self.meets(4)
    }

    fn rescinds(&self, _: &Guid, moment: Moment) -> bool {
        self.meets(if moment == Moment::Open { 5 } else { 6 })
    }

    fn refuses(&self, _: &Guid, _: u32) -> bool {
        self.meets(7)
    }
}

impl Backend<Never> for Partition {
    fn start(&self, _: DeviceId, _: Token, request: &Never, _: Pages<'_>) -> Started<Never> {
        match *request {}
    }
}

impl Backend<Request> for Partition {
    /// Whatever the guest does, a request lies on the disk, and its data in the guest's memory.
    fn start(
        &self,
        _: DeviceId,
        token: Token,
        request: &Request,
        data: Pages<'_>,
    ) -> Started<Result<(), Failure>> {
        if let Some((first, end)) = request.piece.extent() {
            assert!(first <= end && end <= DISK, "{request:?}");
        }
        for part in data.segments() {
            assert!(part.gpa() >= RAM && part.gpa() + part.len() <= RAM + RAM_SIZE, "{part:?}");
        }
        match self.mode.get() & 3 {
            0 => Started::Done(Ok(())),
            1 => Started::Done(Err(Failure::Medium)),
            2 => {
                self.held.borrow_mut().push(token);
                Started::Pending
            }
            _ => Started::Full,
        }
    }
}

fn fresh() -> TestBus {
    let mut controller = Storage::new();
    controller.attach(0, 0, 0, Disk::new(DISK, [7; 16], storage::MAX_TRANSFER)).expect("there is room");
    controller.attach(0, 3, 1, Disk::dvd(DISK, [8; 16], storage::MAX_TRANSFER)).expect("there is room");
    TestBus::new(
        Config::DEFAULT,
        Set {
            disks: Slot::offering(controller, storage::offer_of(CONTROLLERS[0])),
            shutdown: Slot::offering(Shutdown::new(), shutdown::OFFER),
            time: Slot::offering(TimeSync::new(1 << 50), time_sync::OFFER),
            heartbeat: Slot::offering(Heartbeat::new(), heartbeat::OFFER),
            kvp: Slot::offering(Kvp::new(), kvp::OFFER),
            vss: Slot::offering(Vss::new(), vss::OFFER),
            keyboard: Slot::offering(Keyboard::new(), keyboard::OFFER),
            mouse: Slot::offering(Mouse::new(), mouse::OFFER),
            fcopy: Slot::offering(Fcopy::new(), fcopy::OFFER),
        },
    )
}

/// Drivers of every device.
pub fn devices(data: &[u8]) {
    let mut input = Input::new(data);
    let bus = fresh();
    let mut port = Partition {
        memory: Memory::by_pages(),
        time: 0,
        received: RefCell::default(),
        mode: Cell::new(0),
        held: RefCell::default(),
        judge: RefCell::new(Judge::new(RAM, RAM_SIZE)),
        mishap: Cell::new(0),
    };
    let _ = bus.message(4, &messages::contact(0x5_0003, 1), &port);
    let _ = bus.message(4, &messages::request_offers(), &port);
    let channel = input.of(&[1, 1, 1, 1, 4, 5, 6, 7, 8, KEYBOARD, KEYBOARD, MOUSE, MOUSE, FCOPY]);
    open(&bus, &port, channel);
    if channel == 1 && input.below(4) > 0 {
        initialize(&bus, &port);
    }
    let mut steps = 0;
    while !input.is_empty() && steps < STEPS {
        step(&bus, &mut port, channel, &mut input);
        steps += 1;
    }
    ends(&bus, &mut port);
}

fn open(bus: &TestBus, port: &Partition, channel: u32) {
    let _ = bus.message(4, &messages::gpadl(channel, channel + 100, &messages::ring_pages()), port);
    let _ = bus.message(4, &messages::open(channel, channel + 100, 0, SPLIT), port);
}

/// Brings the controller to where commands are taken.
fn initialize(bus: &TestBus, port: &Partition) {
    for (operation, word) in [(7_u32, 0_u16), (9, 0x0602), (10, 0), (8, 0)] {
        let mut packet = Packet::new_zeroed();
        packet.header.operation = Operation(operation);
        packet.body[..2].copy_from_slice(&word.to_le_bytes());
        put(&port.memory, PacketType::DATA_IN_BAND, 1, operation.into(), &[], packet.as_bytes());
        let _ = bus.signal(0x2001, port);
    }
}

/// Puts a packet into the ring to the host, behind ranges. The guest's position is in the ring, which may be corrupt.
fn put(memory: &Memory, kind: PacketType, flags: u16, id: u64, ranges: &[u8], payload: &[u8]) {
    let pages = messages::ring_pages();
    let Ok(ring) = Ring::new(memory, &pages[..SPLIT as usize]) else { return };
    let Ok(mut producer) = Producer::attach(&ring) else { return };
    let packet = Outgoing { packet_type: kind, flags, transaction_id: id, len: payload.len() as u32 };
    let all = [ranges, payload].concat();
    let _ = producer.push_behind(&ring, &packet, ranges.len() as u32, |at, into| {
        into.copy_from_slice(&all[at as usize..][..into.len()]);
        Ok(())
    });
}

/// Takes everything out of the ring from the host.
fn take(bus: &TestBus, port: &Partition, channel: u32) {
    let pages = messages::ring_pages();
    let Ok(ring) = Ring::new(&port.memory, &pages[SPLIT as usize..]) else { return };
    let Ok(mut consumer) = Consumer::attach(&ring) else { return };
    for _ in 0..64 {
        let Ok(Some(_)) = consumer.next(&ring) else { break };
    }
    if consumer.commit(&ring).is_ok_and(|committed| committed.signal) {
        let _ = bus.signal(0x2000 | channel, port);
    }
}

fn step(bus: &TestBus, port: &mut Partition, channel: u32, input: &mut Input<'_>) {
    match input.below(16) {
        0..=3 => {
            srb(port, input);
            let _ = bus.signal(0x2000 | channel, port);
        }
        4..=6 => {
            match channel {
                KEYBOARD | MOUSE => say(port, channel == MOUSE, input),
                _ => message(port, input),
            }
            let _ = bus.signal(0x2000 | channel, port);
        }
        7 => {
            let page = input.of(&messages::ring_pages());
            let at = u64::from(input.half()) & 0xffc;
            let _ = port.memory.store_release(page * 4096 + at, input.value() as u32);
        }
        8 => port.memory.race(input),
        9 => {
            port.mode.set(input.byte());
            bus.resume(DeviceId(0), port);
        }
        10 => complete(bus, port, input),
        11 => {
            port.time += u64::from(input.half()) << (input.byte() % 16);
            bus.flush(port);
        }
        12 => ask(bus, port, input),
        13 => match input.below(4) {
            0 => open(bus, port, input.of(&CHANNELS)),
            1 => {
                let _ = bus.message(4, &input.vmbus_message(), port);
            }
            2 => {
                bus.rescind(hv_vmbus::protocol::ChannelId(input.of(&CHANNELS)), port);
            }
            _ => bus.resume_all(port),
        },
        14 => port.mishap.set(input.byte() & 7),
        _ => take(bus, port, channel),
    }
}

/// A packet of a storage driver.
fn srb(port: &Partition, input: &mut Input<'_>) {
    let mut packet = Packet::new_zeroed();
    let any = input.byte().into();
    packet.header.operation = Operation(input.of(&[3, 3, 3, 3, 3, 3, 4, 5, 6, 7, 8, 9, 10, 13, 12, any]));
    let mut request = ScsiRequest::new_zeroed();
    let cdb = input.bytes(16);
    request.cdb_or_sense[..cdb.len()].copy_from_slice(cdb);
    request.cdb_or_sense[0] = input.of(&[0, 3, 0x12, 0x28, 0x2a, 0x35, 0x42, 0x88, 0x8a, 0x93, 0x9e, 0xa0]);
    if input.below(4) > 0 {
        // A few blocks near the beginning, in each form of command.
        let (first, count) = (input.byte(), input.byte() % 40);
        request.cdb_or_sense[1..16].fill(0);
        let [lba, blocks] = if request.cdb_or_sense[0] < 0x80 { [5, 8] } else { [9, 13] };
        (request.cdb_or_sense[lba], request.cdb_or_sense[blocks]) = (first, count);
    }
    (request.length, request.cdb_length, request.sense_length) = (52, 10, 20);
    (request.lun, request.direction) = (input.of(&[0, 0, 3, 1]), input.byte() % 3);
    let (ranges, bytes) = ranges(input);
    request.transfer_length = if input.below(8) == 0 { input.word() } else { bytes };
    packet.body.copy_from_slice(request.as_bytes());
    let kind = if ranges.is_empty() { PacketType::DATA_IN_BAND } else { PacketType::DATA_USING_GPA_DIRECT };
    let len = input.of(&[64, 64, 64, 64, 48, 8, 16, 60]);
    let flags = input.of(&[1, 1, 1, 0, 3]);
    put(&port.memory, kind, flags, input.byte().into(), &ranges, &packet.as_bytes()[..len]);
}

/// Ranges of a packet, and the bytes that they should have.
fn ranges(input: &mut Input<'_>) -> (Vec<u8>, u32) {
    let count = input.of(&[0_u32, 1, 1, 1, 2, 0xffff]);
    if count == 0 {
        return (Vec::new(), 0);
    }
    let (mut bytes, mut words) = (0_u32, Vec::new());
    words.extend([0_u32, count].iter().flat_map(|word| word.to_le_bytes()));
    for _ in 0..count.min(2) {
        let pages = input.below(9) as u32 + 1;
        let offset = input.of(&[0, 0, 512, 4095, 4096]);
        let len = if input.below(8) == 0 { input.word() } else { pages * 4096 - offset.min(4095) };
        words.extend([len, offset].iter().flat_map(|word| word.to_le_bytes()));
        for _ in 0..pages {
            let page = RAM / 4096 + input.below(34) as u64;
            words.extend(if input.below(32) == 0 { input.long() } else { page }.to_le_bytes());
        }
        bytes = bytes.wrapping_add(len);
    }
    (words, bytes)
}

/// A message of a service's driver.
fn message(port: &Partition, input: &mut Input<'_>) {
    let body = input.bytes(48);
    let mut header = Header::new_zeroed();
    header.message_type = MessageType(input.of(&[0, 0, 1, 2, 3, 4, 5, 7]));
    (header.flags, header.transaction_id) = (input.of(&[5, 5, 5, 1, 3]), input.byte() & 1);
    header.message_size = if input.below(8) == 0 { input.half() } else { body.len() as u16 };
    header.status.0 = input.of(&[0, 0, 0x8000_4005, 0x8007_0103]);
    (header.framework_version.major, header.message_version.major) = (3, input.of(&[3, 4, 5]));
    let long = input.of(&[0, 0, 0, 2600, 7500]);
    let mut rest = body.to_vec();
    if header.message_type == MessageType::NEGOTIATE && input.flag() {
        // One version of each, of those that are offered somewhere.
        let version = input.of(&[[3_u16, 0], [4, 0], [5, 0], [3, 2], [1, 1], [9, 9]]);
        rest = [1, 1, 0, 0, 3, 0, version[0], version[1]].map(u16::to_le_bytes).concat();
    }
    rest.resize(rest.len().max(long), 0);
    let size = if input.below(8) == 0 { input.word() } else { (size_of::<Header>() + rest.len()) as u32 };
    let pipe = PipeHeader { packet_type: input.of(&[1, 1, 1, 1, 0]), message_size: size };
    let all = [pipe.as_bytes(), header.as_bytes(), &rest].concat();
    put(&port.memory, PacketType::DATA_IN_BAND, 0, 0, &[], &all);
}

/// A message of an input device's driver.
fn say(port: &Partition, pipe: bool, input: &mut Input<'_>) {
    let kind = if pipe { input.of(&[0_u32, 0, 3, 3, 1, 4]) } else { input.of(&[1_u32, 1, 1, 4, 0, 2, 3, 9]) };
    let version = input.of(&[0x1_0000_u32, 0x1_0000, 0x2_0000, 0x2_0000, 0]);
    let words =
        if pipe { [1, input.of(&[12, 12, 9, 0]), kind, 4, version] } else { [kind, version, 0, 0, 0] };
    let message = words.map(u32::to_le_bytes).concat();
    let len = input.of(&[20, 20, 8, 8, 4, 0, 16]);
    put(&port.memory, PacketType::DATA_IN_BAND, input.of(&[1, 1, 0]), input.long(), &[], &message[..len]);
}

/// Completes a request that is in flight, any of them.
fn complete(bus: &TestBus, port: &Partition, input: &mut Input<'_>) {
    let count = port.held.borrow().len();
    if count == 0 {
        return;
    }
    let at = input.below(count);
    let token = port.held.borrow_mut().swap_remove(at);
    let outcome = match input.below(4) {
        0 | 1 => Ok(()),
        2 => Err(Failure::Target),
        _ => Err(Failure::Exactly { srb: input.byte(), scsi: input.byte(), sense: Some([3, 0x11, 0]) }),
    };
    assert_eq!(bus.completed(&bus.devices().disks, token, outcome, port), Ok(()), "it was in flight");
    assert!(bus.completed(&bus.devices().disks, token, outcome, port).is_err(), "it ends once");
}

/// The embedder asks a service for something, or takes what has come of it.
fn ask(bus: &TestBus, port: &Partition, input: &mut Input<'_>) {
    let devices = bus.devices();
    let key: &[u8] = b"k\0e\0y\0\0\0";
    let _ = match input.below(14) {
        0 => bus.with(&devices.shutdown, port, |d, io| d.ask(io, shutdown::Action::PowerOff, false).is_ok()),
        1 => bus.with(&devices.shutdown, port, |d, _| d.take().is_some()),
        2 => bus.with(&devices.kvp, port, |d, io| {
            d.ask(io, &kvp::Ask::Get { pool: hv_vmbus::protocol::kvp::Pool(input.byte() % 5), key }).is_ok()
        }),
        3 => bus.with(&devices.kvp, port, |d, io| {
            let pool = hv_vmbus::protocol::kvp::Pool(1);
            d.ask(io, &kvp::Ask::Enumerate { pool, index: input.byte().into() }).is_ok()
        }),
        4 => bus.with(&devices.kvp, port, |d, _| {
            d.done();
            true
        }),
        5 => bus.with(&devices.vss, port, |d, io| d.ask(io, VssOperation(input.byte() % 8)).is_ok()),
        6 => bus.with(&devices.vss, port, |d, _| d.take().is_some()),
        7 => bus.with(&devices.keyboard, port, |d, io| {
            let keys = [keyboard::Key { code: input.byte(), flags: input.byte() & 15 }; 60];
            d.press(io, &keys[..input.below(61)]).is_ok()
        }),
        8 => bus.with(&devices.keyboard, port, |d, _| d.take().is_some()),
        9 => bus.with(&devices.mouse, port, |d, io| {
            let state = mouse::Pointer { buttons: input.byte() & 15, ..mouse::Pointer::at(input.half(), 9) };
            d.point(io, &[state; 60][..input.below(61)]).is_ok()
        }),
        10 => bus.with(&devices.mouse, port, |d, _| d.take().is_some()),
        11 => bus.with(&devices.fcopy, port, |d, io| {
            let ask = match input.below(3) {
                0 => fcopy::Ask::Start {
                    file: key,
                    folder: key,
                    overwrite: input.flag(),
                    create_path: input.flag(),
                    size: input.long(),
                },
                1 => fcopy::Ask::Write { offset: input.long(), data: &[7; 6144][..input.below(6145)] },
                _ => fcopy::Ask::Complete,
            };
            d.ask(io, &ask).is_ok()
        }),
        12 => bus.with(&devices.fcopy, port, |d, _| d.take().is_some()),
        _ => bus.with(&devices.time, port, |d, io| d.sync(io).is_ok()),
    };
}

/// Whatever a guest does, it is left alone when it unloads, and everything that it lent comes back.
fn ends(bus: &TestBus, port: &mut Partition) {
    port.memory.calm();
    port.mode.set(0);
    port.mishap.set(0);
    port.received.borrow_mut().clear();
    let _ = bus.message(4, &messages::unload(), port);
    for token in port.held.take() {
        assert_eq!(bus.completed(&bus.devices().disks, token, Ok(()), port), Ok(()), "it is in flight");
    }
    assert_eq!(port.received.borrow().last(), Some(&17), "UNLOAD is answered");
    assert!(bus.is_idle() && !bus.has_pending());
    let mut ticks = 0;
    while bus.deadline().is_some_and(|deadline| deadline.ticks() <= port.time) {
        bus.flush(port);
        ticks += 1;
        assert!(ticks < 64, "a device never comes to an end");
    }
}
