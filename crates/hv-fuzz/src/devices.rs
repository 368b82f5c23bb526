//! Each device behind VMBus against a driver that does anything: packets of its protocol, right and wrong, on rings and
//! in data that change between two looks of the host, and a back end that completes in any order.

mod drivers;

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicU64, Ordering};

use hv_devices::balloon::Discard;
use hv_devices::scsi::Disk;
use hv_devices::storage::{self, CONTROLLERS, Failure, Request, SEGMENTS};
use hv_devices::{
    Balloon, Fcopy, Heartbeat, Keyboard, Kvp, Mouse, Shutdown, Storage, TimeSync, Video, Vss, balloon, fcopy,
    heartbeat, keyboard, kvp, mouse, shutdown, time_sync, video, vss,
};
use hv_partition::strict::Judge;
use hv_partition::{BusEvent, GuestMemory as _};
use hv_tlfs::time::{FileTime, ReferenceTime};
use hv_vmbus::protocol::storage::{Operation, Packet};
use hv_vmbus::protocol::{Guid, MessageType, PacketType, vss::Operation as VssOperation};
use hv_vmbus::ring::{Consumer, Outgoing, Producer, Ring};
use hv_vmbus::testing::{Extra, Partition, Serve};
use hv_vmbus::{Bus, BusFaults, Config, DeviceId, Event, Moment, Pages, Seen, Slot, Start, Started, Token};
use zerocopy::{FromZeros, IntoBytes};

use crate::input::{Input, SPLIT};
use crate::memory::{Memory, RAM, RAM_SIZE};
use crate::messages;

/// Maximum number of steps in a run.
const STEPS: usize = 256;
const VPS: u32 = 4;
/// Pages that dynamic memory has a record of: more than there is memory, since nothing touches them.
const PAGES: u64 = 2048;
const FIRST: u64 = RAM / 4096;
/// Bytes of the disk.
const DISK: u64 = 1 << 20;
/// Channels: three of the disks' controller, then one for each service, and for each input device.
const CHANNELS: [u32; 13] = [1, 2, 3, 4, 5, 6, 7, 8, KEYBOARD, MOUSE, FCOPY, BALLOON, VIDEO];
const KEYBOARD: u32 = 9;
const MOUSE: u32 = 10;
const FCOPY: u32 = 11;
const BALLOON: u32 = 12;
const VIDEO: u32 = 13;
/// The window in which video memory lies: more than that needs.
const WINDOW: (u64, u64) = (1 << 40, 16 << 20);

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
        balloon: Slot<Lock, Balloon, 1, 1>,
        video: Slot<Lock, Video>,
    }
}

type TestBus = Bus<Lock, Set, 13, 256>;

type DevicePort = Partition<Watch, Memory>;

/// The back end, and the strict mode's judge.
struct Watch {
    /// What the back end does with requests: completes, fails, keeps, or has no room for them.
    mode: Cell<u8>,
    held: RefCell<Vec<Token>>,
    /// Requests of dynamic memory that the back end keeps.
    discards: RefCell<Vec<Token>>,
    judge: RefCell<Judge<4>>,
    /// What injected faults do next.
    mishap: Cell<u8>,
}

impl Watch {
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

impl Extra for Watch {
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
}

impl BusFaults for Watch {
    fn is_planned(&self) -> bool {
        self.mishap.get() != 0
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

impl Serve<Discard, Memory> for Watch {
    fn start(&self, _: &Memory, token: Token, _: &Discard, data: Pages<'_>) -> Started<()> {
        assert!(data.is_empty());
        match self.mode.get() & 3 {
            2 => {
                self.discards.borrow_mut().push(token);
                Started::Pending
            }
            3 => Started::Full,
            _ => Started::Done(()),
        }
    }
}

impl Serve<Request, Memory> for Watch {
    /// Checks that a request lies on the disk, and its data in the guest's memory, whatever the guest does.
    fn start(
        &self,
        _: &Memory,
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

/// Allocates the words of the record of dynamic memory, without any pages. Each thread has one, which outlives every
/// bus.
fn record() -> &'static [AtomicU64] {
    thread_local! {
        static WORDS: &'static [AtomicU64] =
            Vec::leak((0..PAGES / 64).map(|_| AtomicU64::new(0)).collect());
    }
    WORDS.with(|words| {
        words.iter().for_each(|word| word.store(0, Ordering::Relaxed));
        *words
    })
}

fn fresh() -> TestBus {
    let mut controller = Storage::new();
    controller.attach(0, 0, 0, Disk::new(DISK, [7; 16], storage::MAX_TRANSFER)).expect("there is room");
    controller.attach(0, 3, 1, Disk::dvd(DISK, [8; 16], storage::MAX_TRANSFER)).expect("there is room");
    let mut memory = Balloon::new();
    memory.set_record(record(), FIRST, PAGES);
    let mut screen = Video::new();
    screen.set_window(WINDOW.0, WINDOW.1);
    TestBus::new(
        Config::DEFAULT,
        Set {
            disks: Slot::offering(controller, storage::offer_of(CONTROLLERS[0])),
            shutdown: Slot::offering(Shutdown::new(), shutdown::OFFER),
            time: Slot::offering(TimeSync::new(FileTime(1 << 50)), time_sync::OFFER),
            heartbeat: Slot::offering(Heartbeat::new(), heartbeat::OFFER),
            kvp: Slot::offering(Kvp::new(), kvp::OFFER),
            vss: Slot::offering(Vss::new(), vss::OFFER),
            keyboard: Slot::offering(Keyboard::new(), keyboard::OFFER),
            mouse: Slot::offering(Mouse::new(), mouse::OFFER),
            fcopy: Slot::offering(Fcopy::new(), fcopy::OFFER),
            balloon: Slot::offering(memory, balloon::OFFER),
            video: Slot::offering(screen, video::OFFER),
        },
    )
}

/// Fuzzes every device by its driver.
pub fn devices(data: &[u8]) {
    let mut input = Input::new(data);
    let bus = fresh();
    let watch = Watch {
        mode: Cell::new(0),
        held: RefCell::default(),
        discards: RefCell::default(),
        judge: RefCell::new(Judge::new(RAM, RAM_SIZE)),
        mishap: Cell::new(0),
    };
    let mut port = Partition::new(Memory::by_pages(), VPS, watch);
    let _ = bus.message(4, &messages::contact(0x5_0003, 1), &port);
    let _ = bus.message(4, &messages::request_offers(), &port);
    let channel = input
        .of(&[1, 1, 1, 1, 4, 5, 6, 7, 8, KEYBOARD, KEYBOARD, MOUSE, MOUSE, FCOPY, BALLOON, BALLOON, VIDEO]);
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

fn open(bus: &TestBus, port: &DevicePort, channel: u32) {
    let _ = bus.message(4, &messages::gpadl(channel, channel + 100, &messages::ring_pages()), port);
    let _ = bus.message(4, &messages::open(channel, channel + 100, 0, SPLIT), port);
}

/// Brings the controller to where commands are taken.
fn initialize(bus: &TestBus, port: &DevicePort) {
    for (operation, word) in [(7_u32, 0_u16), (9, 0x0602), (10, 0), (8, 0)] {
        let mut packet = Packet::new_zeroed();
        packet.header.operation = Operation(operation);
        packet.body[..2].copy_from_slice(&word.to_le_bytes());
        put(&port.memory, PacketType::DATA_IN_BAND, 1, operation.into(), &[], packet.as_bytes());
        let _ = bus.signal(0x2001, port);
    }
}

/// Puts a packet into the ring to the host, after ranges. The guest's position is in the ring, which may be corrupt.
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
fn take(bus: &TestBus, port: &DevicePort, channel: u32) {
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

fn step(bus: &TestBus, port: &mut DevicePort, channel: u32, input: &mut Input<'_>) {
    match input.below(16) {
        0..=3 => {
            drivers::srb(port, input);
            let _ = bus.signal(0x2000 | channel, port);
        }
        4..=6 => {
            match channel {
                KEYBOARD | MOUSE => drivers::say(port, channel == MOUSE, input),
                BALLOON => drivers::give_up(port, input),
                VIDEO => drivers::draw(port, input),
                _ => drivers::message(port, input),
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
            let ticks = u64::from(input.half()) << (input.byte() % 16);
            port.now.set(ReferenceTime(port.now.get().0 + ticks));
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

/// Completes a request that is in flight, any of them.
fn complete(bus: &TestBus, port: &DevicePort, input: &mut Input<'_>) {
    let discard = port.discards.borrow_mut().pop();
    if let Some(token) = discard {
        assert_eq!(bus.completed(&bus.devices().balloon, token, (), port), Ok(()), "it was in flight");
        assert!(bus.completed(&bus.devices().balloon, token, (), port).is_err(), "it ends once");
        return;
    }
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

/// Makes a request of the embedder to a service, or takes an outcome.
fn ask(bus: &TestBus, port: &DevicePort, input: &mut Input<'_>) {
    let devices = bus.devices();
    let key: &[u8] = b"k\0e\0y\0\0\0";
    let _ = match input.below(18) {
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
        13 | 14 => bus.with(&devices.balloon, port, |d, io| {
            let asked = d.resize(io, input.below(PAGES as usize + 2) as u64) == Ok(true);
            for range in d.discarding() {
                assert!(FIRST <= range.start(), "{range:?}");
                assert!(range.start() + u64::from(range.count()) <= FIRST + PAGES, "{range:?}");
            }
            asked
        }),
        15 => bus.with(&devices.balloon, port, |d, _| d.take().is_some()),
        16 => bus.with(&devices.video, port, |d, _| {
            let picture = d.picture();
            look(picture, d.take_changed());
            picture.is_some()
        }),
        _ => bus.with(&devices.time, port, |d, io| d.sync(io).is_ok()),
    };
}

/// Checks that a picture lies in the window, and what has changed on the screen, whatever a guest says.
fn look(picture: Option<video::Picture>, changed: video::ScreenArea) {
    let Some(video::Picture { offset, depth, width, height, pitch }) = picture else { return };
    let row = u64::from(width) * u64::from(depth / 8);
    let end = u128::from(offset) + u128::from(height - 1) * u128::from(pitch) + u128::from(row);
    assert!(row > 0 && row <= pitch.into() && end <= WINDOW.1.into(), "{picture:?}");
    assert!(changed.is_empty() || changed.right <= width && changed.bottom <= height, "{changed:?}");
}

/// Checks that a guest is left alone when it unloads, and everything that it lent comes back, whatever it does.
fn ends(bus: &TestBus, port: &mut DevicePort) {
    port.memory.calm();
    port.mode.set(0);
    port.mishap.set(0);
    port.posted.take();
    let _ = bus.message(4, &messages::unload(), port);
    for token in port.held.take() {
        assert_eq!(bus.completed(&bus.devices().disks, token, Ok(()), port), Ok(()), "it is in flight");
    }
    for token in port.discards.take() {
        assert_eq!(bus.completed(&bus.devices().balloon, token, (), port), Ok(()), "it is in flight");
    }
    assert_eq!(port.mail().last(), Some(&MessageType::UNLOAD_RESPONSE), "UNLOAD is answered");
    assert!(bus.is_idle() && !bus.has_pending());
    let mut ticks = 0;
    while bus.deadline().is_some_and(|deadline| deadline.ticks() <= port.now.get().0) {
        bus.flush(port);
        ticks += 1;
        assert!(ticks < 64, "a device never comes to an end");
    }
}
