//! A guest's drivers of sockets, keyboard, screen and integration services, each against a host that says anything.
//!
//! An input has one driver. The host's messages are those of its protocol, those with damage, or any bytes; it writes
//! into the rings between the guest's steps and while the guest is in a hypercall.

mod messages;

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::Arc;

use hv_drivers::ic::{Given, Heartbeat, Kvp, Pairs, Room, Shutdown, Text, TimeSync};
use hv_drivers::keyboard::{self, Keyboard};
use hv_drivers::socket::{self, Stream};
use hv_drivers::synthvid::{self, Screen, ScreenArea};
use hv_testbed::scripted::{ScriptedDma, ScriptedHost};
use hv_tlfs::status::HvStatus;
use hv_tlfs::vmbus::kvp::Pool;
use hv_tlfs::vmbus::{Guid, guid};
use hv_tlfs::vp::VpIndex;
use hv_vmbus_client::ring::Outgoing;
use hv_vmbus_client::{Channel, Client, Contact, Error, Slots};

use crate::client::{End, Host, message, offer, open};
use crate::input::Input;

/// Pages of a ring: the longest packet of a stream fits.
const RING: usize = 6;
/// Pages of the screen's memory, which an offer has in megabytes.
const MEMORY: usize = 256;
/// Steps of a run at most.
const STEPS: usize = 192;
/// Results of one step at most: more than a ring has packets.
const MOST: usize = 1 << 12;

type Dma<'h> = ScriptedDma<'h>;

/// A kind of device.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Stream,
    Keyboard,
    Screen,
    Heartbeat,
    Shutdown,
    Time,
    Kvp,
}

const KINDS: [Kind; 7] =
    [Kind::Stream, Kind::Keyboard, Kind::Screen, Kind::Heartbeat, Kind::Shutdown, Kind::Time, Kind::Kvp];

impl Kind {
    const fn interface(self) -> Guid {
        match self {
            // Any service's: a stream has no interface of its own.
            Self::Stream => Guid::new(4000, 0, 0, [1; 8]),
            Self::Keyboard => guid::KEYBOARD,
            Self::Screen => guid::VIDEO,
            Self::Heartbeat => guid::HEARTBEAT,
            Self::Shutdown => guid::SHUTDOWN,
            Self::Time => guid::TIME_SYNC,
            Self::Kvp => guid::KVP,
        }
    }
}

/// A driver.
enum Peer<'h> {
    Stream(Box<Stream<'h, Dma<'h>, Host<'h>>>),
    Keyboard(Keyboard<'h, Dma<'h>, Host<'h>>),
    Screen(Box<Screen<'h, 'h, Dma<'h>, Host<'h>>>),
    Heartbeat(Heartbeat<'h, Dma<'h>, Host<'h>>),
    Shutdown(Box<Shutdown<'h, Dma<'h>, Host<'h>>>),
    Time(TimeSync<'h, Dma<'h>, Host<'h>>),
    Kvp(Box<Kvp<'h, Dma<'h>, Host<'h>>>),
}

/// Feeds one of the drivers.
///
/// # Panics
///
/// If the driver breaks a promise, or memory does not come back with the end of the connection.
pub fn peers(data: &[u8]) {
    let mut input = Input::new(data);
    let kind = input.of(&KINDS);
    let memory = if kind == Kind::Screen { MEMORY } else { 0 };
    let host = Arc::new(ScriptedHost::new(1 + 2 * RING + memory));
    write_at_signals(&host, &mut input);
    let host: Host<'_> = &host;
    let slots = Slots::<2, 4>::new();
    let Some(lent) = slots.lend() else { return };
    let mut client = host.client(lent);
    let _ = client.contact(Contact::new(VpIndex(0)));
    client.take(&message(15, &[1, 4, 0]));
    let mut offer = offer(kind.interface(), 1);
    offer[58] = (memory / MEMORY) as u8;
    client.take(&offer);
    let Some(channel) = open(&mut client, host, kind.interface(), RING) else { return };
    // The client's page comes first.
    let Some(mut end) = End::new(host, 1, RING) else { return };
    let Some(mut peer) = Peer::new(kind, channel, host) else { return };
    let mut is_dead = false;
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        match input.below(12) {
            0..=3 => {
                let died = peer.step(&mut input);
                // A rescind hides what is in the ring, errors included.
                assert!(died || !is_dead || peer.channel_is_over(), "a dead channel came to life");
                is_dead |= died;
            }
            4..=7 => {
                let packet = messages::of(kind, &mut input);
                end.send(&Outgoing::in_band(input.byte().into(), &packet));
            }
            8 => {
                let id = input.byte().into();
                let (completes, bytes) = (input.flag(), input.bytes(80));
                end.send(&if completes {
                    Outgoing::completion(id, bytes)
                } else {
                    Outgoing::in_band(id, bytes)
                });
            }
            9 => end.scribble(&mut input),
            10 => end.hear(),
            _ => match input.below(16) {
                0 => drop(client.take(&message(2, &[1]))),
                _ => host.set_status(HvStatus(input.of(&[0, 0, 0, 0x13, 0x12]))),
            },
        }
    }
    finish(host, client, peer.into_channel());
}

/// Has the host write anything into the rings, at each of the guest's first signals.
fn write_at_signals(host: &Arc<ScriptedHost>, input: &mut Input<'_>) {
    let mut writes = VecDeque::new();
    for _ in 0..input.below(4) {
        let page = 1 + input.below(2 * RING);
        let place =
            if input.flag() { input.of(&[0, 4, 8, 12, 64]) } else { usize::from(input.half() % 4088) };
        let value = if input.flag() { u32::from(input.byte()) * 8 } else { input.word() };
        writes.push_back((page, place, value));
    }
    let weak = Arc::downgrade(host);
    host.on_signal(move || {
        let (Some(host), Some((page, place, value))) = (weak.upgrade(), writes.pop_front()) else { return };
        if let Some(page) = host.pages().get(page) {
            page.write(place, &value.to_le_bytes());
        }
    });
}

/// Ends the connection. The host is gone for good: all memory comes back.
fn finish<'h>(host: Host<'h>, mut client: Client<'h, Host<'h>>, channel: Channel<'h, Dma<'h>, Host<'h>>) {
    host.set_status(HvStatus(0));
    assert_eq!(client.unload(), Ok(()));
    client.take(&message(17, &[]));
    let never = &mut |_: &mut Client<'_, Host<'_>>| Err(Error::TimedOut);
    assert!(client.close_channel(channel, never).is_ok(), "the connection has ended");
    assert_eq!(host.live(), 0, "memory is lost");
}

impl<'h> Peer<'h> {
    fn new(kind: Kind, channel: Channel<'h, Dma<'h>, Host<'h>>, host: Host<'h>) -> Option<Self> {
        Some(match kind {
            Kind::Stream => Self::Stream(Box::new(Stream::new(channel))),
            Kind::Keyboard => Self::Keyboard(Keyboard::new(channel)),
            Kind::Screen => Self::Screen(Box::new(Screen::new(channel, host.window(MEMORY)?))),
            Kind::Heartbeat => Self::Heartbeat(Heartbeat::new(channel)),
            Kind::Shutdown => Self::Shutdown(Box::new(Shutdown::new(channel))),
            Kind::Time => Self::Time(TimeSync::new(channel)),
            Kind::Kvp => Self::Kvp(Box::new(Kvp::new(channel))),
        })
    }

    fn into_channel(self) -> Channel<'h, Dma<'h>, Host<'h>> {
        match self {
            Self::Stream(stream) => stream.into_channel(),
            Self::Keyboard(keyboard) => keyboard.into_channel(),
            Self::Screen(screen) => screen.into_channel(),
            Self::Heartbeat(service) => service.into_service().into_channel(),
            Self::Shutdown(service) => service.into_service().into_channel(),
            Self::Time(service) => service.into_service().into_channel(),
            Self::Kvp(service) => service.into_service().into_channel(),
        }
    }

    fn channel_is_over(&self) -> bool {
        match self {
            Self::Stream(stream) => stream.channel().is_over(),
            Self::Keyboard(keyboard) => keyboard.is_over(),
            Self::Screen(screen) => screen.is_over(),
            Self::Heartbeat(service) => service.is_over(),
            Self::Shutdown(service) => service.is_over(),
            Self::Time(service) => service.is_over(),
            Self::Kvp(service) => service.is_over(),
        }
    }

    /// Executes one step of the guest: takes all that there is. Returns whether the channel is dead.
    fn step(&mut self, input: &mut Input<'_>) -> bool {
        match self {
            Self::Stream(stream) => converse(stream, input),
            Self::Screen(screen) => show(screen, input),
            Self::Keyboard(keyboard) => match drain(|| keyboard.poll()) {
                Err(keyboard::Error::Client(error)) => is_deadly(error),
                outcome => outcome.is_err(),
            },
            Self::Heartbeat(service) => drain(|| service.poll()).is_err_and(is_deadly),
            Self::Time(service) => {
                drain(|| service.poll().map(|sample| sample.map(|sample| sample.unix_nanos())))
                    .is_err_and(is_deadly)
            }
            Self::Shutdown(service) => {
                let accepts = input.flag();
                let polled = drain(|| {
                    let order = service.poll(|_| accepts)?;
                    assert!(order.is_none() || accepts, "an order that was refused");
                    Ok(order)
                });
                polled.is_err_and(is_deadly)
            }
            Self::Kvp(service) => service.poll(&mut Book).is_err_and(is_deadly),
        }
    }
}

/// Returns whether a channel has to be closed after this error, whatever the host does.
fn is_deadly(error: Error) -> bool {
    matches!(error, Error::Ring(_))
}

/// Takes all that exists. The ring bounds how much that is.
fn drain<T, E>(mut next: impl FnMut() -> Result<Option<T>, E>) -> Result<(), E> {
    for _ in 0..MOST {
        if next()?.is_none() {
            return Ok(());
        }
    }
    panic!("results without an end");
}

/// Executes one step of a stream's user.
fn converse<'h>(stream: &mut Stream<'h, Dma<'h>, Host<'h>>, input: &mut Input<'_>) -> bool {
    let mut room = [0; 700];
    match input.below(4) {
        0 => {
            let bytes = vec![7; input.of(&[1, 0, 100, 16_384, 20_000])];
            let written = stream.write(&bytes);
            assert!(written.is_ok_and(|len| len <= bytes.len()) || written.is_err());
        }
        1 => {
            let _ = stream.finish();
        }
        _ => {}
    }
    let read = drain(|| {
        let len = stream.read(&mut room)?;
        assert!(len.is_none_or(|len| len <= room.len()));
        // The end is read again and again.
        Ok(len.filter(|len| *len > 0))
    });
    match read {
        Err(socket::Error::Client(error)) => is_deadly(error),
        read => read.is_err(),
    }
}

/// Executes one step of a screen's user.
fn show<'h>(screen: &mut Screen<'h, 'h, Dma<'h>, Host<'h>>, input: &mut Input<'_>) -> bool {
    let polled = screen.poll();
    let was_ready = screen.is_ready();
    let (column, row, pixel) = (u32::from(input.byte()) * 8, u32::from(input.byte()) * 4, input.word());
    match input.below(6) {
        0 => {
            screen.fill(ScreenArea::new(column, row, input.byte().into(), input.byte().into()), pixel);
        }
        1 => {
            screen.write(column, row, &[pixel; 3]);
            let (mut back, (width, height)) = ([!pixel; 1], screen.size());
            screen.read(column, row, &mut back);
            let is_on = column < width && row < height;
            assert_eq!(back == [pixel], is_on, "pixel {column} {row} of {width} by {height}");
        }
        2 => {
            let size = if input.flag() { (column, row) } else { (input.word(), input.half().into()) };
            let set = screen.set_size(size.0, size.1);
            assert!(set.is_err() || screen.size() == size);
        }
        3 => {
            let flushed = screen.flush();
            assert!(flushed.is_err() || was_ready || screen.is_ready(), "there is nothing to tell of");
        }
        _ => {}
    }
    let fits = |(width, height): (u32, u32)| {
        let pixels = u64::from(width) * u64::from(height);
        pixels > 0 && pixels * 4 <= (MEMORY * 4096) as u64
    };
    assert_eq!(screen.is_ready(), screen.size() != (0, 0));
    assert!(!screen.is_ready() || fits(screen.size()), "{:?} does not fit", screen.size());
    assert!(screen.sizes().iter().all(|size| fits(*size)), "{:?}", screen.sizes());
    match polled {
        Err(synthvid::Error::Client(error)) => is_deadly(error),
        polled => polled.is_err(),
    }
}

/// Pairs whose keys and values all have a use.
struct Book;

fn check(text: Text<'_>, most: usize) -> bool {
    let text = text.to_string();
    assert!(text.encode_utf16().count() <= most && !text.contains('\0'));
    text.len().is_multiple_of(2)
}

impl Pairs for Book {
    fn get(&mut self, _: Pool, key: Text<'_>, value: &mut Room<'_>) -> bool {
        check(key, 256) && value.write_str(&key.to_string()).is_ok()
    }

    fn nth(&mut self, _: Pool, index: u32, key: &mut Room<'_>, value: &mut Room<'_>) -> bool {
        // The last of these have no room.
        let write = |room: &mut Room<'_>| (0..index).try_for_each(|_| room.write_str("0123456\u{1f600}"));
        index < 200 && write(key).is_ok() && write(value).is_ok()
    }

    fn set(&mut self, _: Pool, key: Text<'_>, value: Given<'_>) -> bool {
        let Given::Text(value) = value else { return true };
        check(key, 256) && check(value, 1024)
    }

    fn remove(&mut self, _: Pool, key: Text<'_>) -> bool {
        check(key, 256)
    }
}
