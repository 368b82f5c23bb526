//! Injected faults against the drivers of sockets, keyboard, screen and integration services: each form of a rule that
//! such a device can have, for each of them. A driver ends with an error or continues, each wait ends, and all memory
//! comes back.

use std::num::NonZeroU16;

use hv_devices::ic::Outcome;
use hv_devices::keyboard::Key as HostKey;
use hv_devices::kvp::{Answer, Ask};
use hv_devices::shutdown::Action;
use hv_devices::storage::Storage;
use hv_drivers::hv_vmbus_client::hv_guest::connection::PostError;
use hv_drivers::hv_vmbus_client::{Channel, Contact, Error as Dead, Offer, Open};
use hv_drivers::ic::{Kvp, Pairs, Room, Shutdown, Stop, Text, TimeSync};
use hv_drivers::keyboard::{self, Keyboard};
use hv_drivers::socket::{self, Stream};
use hv_drivers::synthvid::{self, Screen, ScreenArea};
use hv_host::faults::{FORMS, Name, Plan};
use hv_tlfs::status::HvError;
use hv_tlfs::vmbus::ic::Status;
use hv_tlfs::vmbus::kvp::Pool;
use hv_tlfs::vmbus::socket::service;
use hv_tlfs::vmbus::video::VRAM_BYTES;
use hv_tlfs::vmbus::{Guid, guid};
use hv_tlfs::vp::VpIndex;

use crate::faults::{ON_A_MACHINE, patient};
use crate::host::{ORIGIN, TestClient, TestDma, WINDOW, Wire, World, number_of};
use crate::screen::{shown, window};
use crate::sockets::{PORT, Program};

type TestChannel = Channel<'static, TestDma, Wire>;

/// What each device does: keys, streams' answers, pictures, orders, times, values.
const ROUNDS: u32 = 4;
/// Milliseconds that are waited for one of them: the host tells its time every five seconds.
const PATIENCE: u32 = 6000;

/// What ended the use of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Client(Dead),
    NoVersion,
}

impl From<Dead> for Ended {
    fn from(error: Dead) -> Self {
        Self::Client(error)
    }
}

impl From<keyboard::Error> for Ended {
    fn from(error: keyboard::Error) -> Self {
        match error {
            keyboard::Error::Client(error) => Self::Client(error),
            keyboard::Error::NoVersion => Self::NoVersion,
            other => panic!("{other}"),
        }
    }
}

impl From<synthvid::Error> for Ended {
    fn from(error: synthvid::Error) -> Self {
        match error {
            synthvid::Error::Client(error) => Self::Client(error),
            synthvid::Error::NoVersion => Self::NoVersion,
            other => panic!("{other}"),
        }
    }
}

impl From<socket::Error> for Ended {
    fn from(error: socket::Error) -> Self {
        match error {
            socket::Error::Client(error) => Self::Client(error),
            other => panic!("{other}"),
        }
    }
}

type Used<T = ()> = Result<T, Ended>;

struct Guest {
    world: &'static World,
    client: TestClient,
    /// Rounds that went right.
    done: u32,
}

impl Guest {
    /// Looks again and again until there is something, as time passes and messages come, up to an end.
    fn until<T>(&mut self, mut look: impl FnMut(&TestClient) -> Used<Option<T>>) -> Used<T> {
        for _ in 0..PATIENCE {
            if let Some(found) = look(&self.client)? {
                return Ok(found);
            }
            self.world.pass_time();
            self.world.take_all(&mut self.client);
        }
        Err(Dead::TimedOut.into())
    }

    /// Uses a device for all rounds. `look` returns true at the end of a round; it is told whether one has begun.
    fn rounds(&mut self, mut look: impl FnMut(&'static World, u32, &mut bool) -> Used<bool>) -> Used {
        let world = self.world;
        for round in 0..ROUNDS {
            let mut begun = false;
            self.until(|_| Ok(look(world, round, &mut begun)?.then_some(())))?;
            self.done += 1;
        }
        Ok(())
    }

    /// Opens a channel, makes a driver of it, uses that, and closes the channel.
    fn with<T>(
        &mut self,
        offer: Option<Offer>,
        new: impl FnOnce(TestChannel) -> T,
        used: impl FnOnce(&mut Self, &mut T) -> Used,
        back: impl FnOnce(T) -> TestChannel,
    ) -> Used {
        let offer = offer.ok_or(Dead::Rescinded)?;
        let (dma, open) = (TestDma(self.world), Open::on(VpIndex(0)));
        let channel = self.client.open_channel(&offer, 8, open, &dma, &mut patient(self.world))?;
        let mut driver = new(channel);
        let used = used(self, &mut driver);
        self.client.close_channel(back(driver), &mut patient(self.world))?;
        used
    }
}

fn alive(is_over: bool) -> Used {
    if is_over { Err(Dead::Rescinded.into()) } else { Ok(()) }
}

fn use_keyboard(guest: &mut Guest) -> Used {
    let each = |guest: &mut Guest, keyboard: &mut Keyboard<'static, TestDma, Wire>| {
        guest.rounds(|world, round, begun| {
            let slot = &world.bus.devices().keyboard;
            let code = round as u8 + 1;
            if let Some(key) = keyboard.poll()? {
                assert_eq!((key.code, key.released), (code.into(), false));
                return Ok(true);
            }
            alive(keyboard.is_over())?;
            if keyboard.is_ready() && !*begun {
                let pressed = world.bus.with(slot, &world.host, |device, io| {
                    let _ = device.take();
                    device.press(io, &[HostKey::press(code)])
                });
                *begun = pressed.unwrap().is_ok();
            }
            Ok(false)
        })
    };
    guest.with(guest.client.find(guid::KEYBOARD), Keyboard::new, each, Keyboard::into_channel)
}

fn use_socket(guest: &mut Guest) -> Used {
    let slot = &guest.world.bus.devices().sockets;
    guest.world.bus.with(slot, &guest.world.host, |device, io| device.connect(io, 1, PORT)).unwrap().unwrap();
    let offer = guest.until(|client| Ok(socket::incoming(client, service(PORT), |_| false)))?;
    let each = |guest: &mut Guest, stream: &mut Stream<'static, TestDma, Wire>| {
        let mut program = Program::default();
        guest.rounds(|world, round, begun| {
            let said = [round as u8; 100];
            if !*begun {
                *begun = stream.write(&said)? == said.len();
            }
            alive(stream.is_over())?;
            program.hear(world);
            // The program sends back what it hears.
            let sent = program.send(world, &program.data.clone());
            program.data.drain(..sent);
            let mut heard = [0xff; 200];
            match stream.read(&mut heard)? {
                Some(0) => Err(Dead::Rescinded.into()),
                Some(len) => {
                    assert_eq!(heard[..len], said);
                    Ok(true)
                }
                None => Ok(false),
            }
        })
    };
    guest.with(Some(offer), Stream::new, each, Stream::into_channel)
}

fn use_screen(guest: &mut Guest) -> Used {
    let each = |guest: &mut Guest, screen: &mut Screen<'static, 'static, TestDma, Wire>| {
        guest.until(|_| {
            screen.poll()?;
            alive(screen.is_over())?;
            Ok(screen.is_ready().then_some(()))
        })?;
        guest.rounds(|world, round, begun| {
            if !*begun {
                screen.fill(ScreenArea::new(round * 10, 0, 10, 10), 7);
                *begun = true;
            }
            match screen.flush() {
                Err(synthvid::Error::Client(error)) if error.may_retry() => {}
                flushed => flushed?,
            }
            alive(screen.is_over())?;
            let (picture, changed) = shown(world);
            Ok(picture.is_some() && changed[2] >= (round + 1) * 10)
        })
    };
    let new = |channel| Screen::new(channel, window(WINDOW, VRAM_BYTES));
    guest.with(guest.client.find(guid::VIDEO), new, each, Screen::into_channel)
}

fn use_shutdown(guest: &mut Guest) -> Used {
    let each = |guest: &mut Guest, service: &mut Shutdown<'static, TestDma, Wire>| {
        guest.rounds(|world, _, begun| {
            let slot = &world.bus.devices().shutdown;
            if let Some(order) = service.poll(|_| true)? {
                assert!(order.stop == Stop::PowerOff && *begun);
            }
            alive(service.is_over())?;
            let outcome = world.bus.with(slot, &world.host, |device, io| match *begun {
                true => device.take(),
                false => {
                    *begun = device.ask(io, Action::PowerOff, false).is_ok();
                    None
                }
            });
            Ok(outcome.unwrap().is_some_and(|outcome| {
                assert_eq!(outcome, Outcome::Answered(Status::SUCCESS));
                true
            }))
        })
    };
    let back = |service: Shutdown<'static, _, _>| service.into_service().into_channel();
    guest.with(guest.client.find(guid::SHUTDOWN), Shutdown::new, each, back)
}

fn use_time(guest: &mut Guest) -> Used {
    let each = |guest: &mut Guest, time: &mut TimeSync<'static, TestDma, Wire>| {
        guest.rounds(|_, round, _| {
            let sample = time.poll()?;
            alive(time.is_over())?;
            Ok(sample.is_some_and(|sample| {
                assert_eq!(sample.sets_clock, round == 0);
                let told = sample.reference_time.map(|reference| reference.ticks() + ORIGIN.0);
                assert!(told.is_none_or(|told| told == sample.host_time.0), "{sample:?}");
                true
            }))
        })
    };
    let back = |service: TimeSync<'static, _, _>| service.into_service().into_channel();
    guest.with(guest.client.find(guid::TIME_SYNC), TimeSync::new, each, back)
}

struct Book;

impl Pairs for Book {
    fn get(&mut self, _: Pool, key: Text<'_>, value: &mut Room<'_>) -> bool {
        std::fmt::Write::write_fmt(value, format_args!("{key}{key}")).is_ok()
    }
}

fn use_kvp(guest: &mut Guest) -> Used {
    let wide = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let each = |guest: &mut Guest, kvp: &mut Kvp<'static, TestDma, Wire>| {
        guest.rounds(|world, round, begun| {
            let slot = &world.bus.devices().kvp;
            kvp.poll(&mut Book)?;
            alive(kvp.is_over())?;
            let key = format!("{round}k");
            let answered = world.bus.with(slot, &world.host, |device, io| {
                if !*begun {
                    let ask = Ask::Get { pool: Pool::GUEST, key: &wide(&format!("{key}\0")) };
                    *begun = device.ask(io, &ask).is_ok();
                    return false;
                }
                let Some((outcome, answer)) = device.outcome() else { return false };
                assert_eq!(outcome, Outcome::Answered(Status::SUCCESS));
                let expected = wide(&format!("{key}{key}"));
                assert!(matches!(answer, Answer::Pair { value, .. } if value == expected));
                device.done();
                true
            });
            Ok(answered.unwrap())
        })
    };
    let back = |service: Kvp<'static, _, _>| service.into_service().into_channel();
    guest.with(guest.client.find(guid::KVP), Kvp::new, each, back)
}

/// A device: its name in a plan, the number's interface there, and its use.
type Device = (&'static str, Guid, fn(&mut Guest) -> Used);

const DEVICES: [Device; 6] = [
    ("socket", service(PORT), use_socket),
    ("keyboard", guid::KEYBOARD, use_keyboard),
    ("video", guid::VIDEO, use_screen),
    ("shutdown", guid::SHUTDOWN, use_shutdown),
    ("time", guid::TIME_SYNC, use_time),
    ("kvp", guid::KVP, use_kvp),
];

fn number(kind: Name, name: &str) -> Option<u64> {
    match (kind, name) {
        (Name::Hypercall, "POST") => Some(0x5c),
        (Name::Hypercall, "SIGNAL") => Some(0x5d),
        (Name::Status, "BUFFERS") => Some(0x13),
        (Name::Status, "CONNECTION") => Some(0x12),
        (Name::Device, name) => {
            let device = DEVICES.iter().find(|device| device.0 == name)?;
            Some(number_of(&device.1).into())
        }
        _ => None,
    }
}

/// Rounds that went right, and what ended the use.
type Expected = (u32, Option<Ended>);

const GOOD: Expected = (ROUNDS, None);
const TAKEN: Expected = (0, Some(Ended::Client(Dead::Rescinded)));
const REFUSED: Expected =
    (0, Some(Ended::Client(Dead::Post(PostError::Hypervisor(HvError(INVALID_CONNECTION_ID))))));
const INVALID_CONNECTION_ID: NonZeroU16 = NonZeroU16::new(0x12).unwrap();
const UNSPOKEN: Expected = (0, Some(Ended::NoVersion));
const fn taken_after(rounds: u32) -> Expected {
    (rounds, TAKEN.1)
}

/// A plan, and what comes of it in the order of the devices; `None` for a device that has no such rule.
type Row = (&'static str, [Option<Expected>; 6]);

const fn alike(expected: Expected) -> [Option<Expected>; 6] {
    [Some(expected); 6]
}

const ROWS: &[Row] = &[
    ("", alike(GOOD)),
    ("call=POST:BUFFERS@/3", alike(GOOD)),
    ("call=SIGNAL:BUFFERS@1", alike(GOOD)),
    // A packet whose signal has failed is in the ring: the next call signals again.
    ("call=SIGNAL:CONNECTION@1", alike(GOOD)),
    ("call=SIGNAL:CONNECTION", alike(REFUSED)),
    // The GPADL, and the opening: nothing is shared then.
    ("call=POST:CONNECTION@3", alike(REFUSED)),
    ("call=POST:CONNECTION@4", alike(REFUSED)),
    ("silent=20ms@100ms", alike(GOOD)),
    ("mute=20ms@100ms", alike(GOOD)),
    ("rescind=DEVICE@1", alike(TAKEN)),
    // A keyboard is sent one packet; the screen has not yet been shown a picture; the others answer for the versions.
    (
        "rescind=DEVICE@3",
        [
            Some(taken_after(2)),
            None,
            Some(TAKEN),
            Some(taken_after(2)),
            Some(taken_after(2)),
            Some(taken_after(2)),
        ],
    ),
    ("rescind=any@1", alike(TAKEN)),
    ("rescind-open=DEVICE", alike(TAKEN)),
    ("rescind-open=any", alike(TAKEN)),
    // A stream has no version. A host offers the oldest version of a service in any case.
    ("newest=DEVICE:0.9", [None, Some(UNSPOKEN), Some(UNSPOKEN), Some(GOOD), Some(GOOD), Some(GOOD)]),
    ("newest=DEVICE:3.2", [None, None, Some(GOOD), None, Some(GOOD), Some(GOOD)]),
    ("newest=DEVICE:3.1", [None, None, Some(UNSPOKEN), Some(GOOD), Some(GOOD), Some(GOOD)]),
];

/// Forms of what these devices have not: requests to a back end, frames, a link.
const NOT_THEIRS: [&str; 10] =
    ["late", "reorder", "stuck", "srb", "sense", "busy", "media", "sent", "received", "link"];

/// Uses a device of a host with this plan.
fn run((name, _, used): Device, plan: &str) -> Expected {
    let plan = plan.replace("DEVICE", name);
    let plan = if plan.is_empty() { Plan::NONE } else { Plan::parse(&plan, &number).unwrap() };
    let world = World::with_faults(Storage::new(), &[], plan);
    let mut guest = Guest { world, client: world.unconnected(), done: 0 };
    guest.client.connect(Contact::new(VpIndex(0)), &mut patient(world)).unwrap();
    let ended = used(&mut guest).err();
    guest.client.disconnect(&mut patient(world)).unwrap();
    assert_eq!(world.host.ram.live(), 0, "memory is lost");
    assert!(world.host.plan.fired().all(|times| times > 0), "a rule has never fired");
    (guest.done, ended)
}

#[test]
fn each_fault_of_each_small_device_has_the_outcome_that_it_must() {
    let mut wrong = Vec::new();
    for (plan, expected) in ROWS {
        for (device, expected) in DEVICES.into_iter().zip(expected) {
            let Some(expected) = expected else { continue };
            println!("{plan} {}", device.0);
            let outcome = run(device, plan);
            if outcome != *expected {
                wrong.push(format!("{plan}, {}: {outcome:?}, expected {expected:?}", device.0));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Every form of a rule has a row here, needs a machine, or is about what these devices have not.
#[test]
fn each_form_of_a_fault_of_small_devices_has_a_row() {
    for one in FORMS.iter().flat_map(|(form, _)| form.split(", ")) {
        let name = one.split(['=', '@']).next().unwrap();
        let row = ROWS.iter().any(|(plan, _)| plan.split(['=', '@']).next() == Some(name));
        let elsewhere = NOT_THEIRS.contains(&name) || ON_A_MACHINE.iter().any(|known| one.starts_with(known));
        assert!(row || elsewhere, "{one} has no row");
    }
}
