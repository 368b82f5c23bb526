//! The VPs that attack, and those that write to their rings meanwhile.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use core::time::Duration;

use hv_tlfs::vmbus::{PacketType, TARGET_VP_NONE};
use rt::{MAX_CPUS, arch, cpu, time};
use spin::Mutex;

use super::class::{Class, TARGETS, Target, is_header};
use super::memory::{DATA, Memory, PAGE, RECEIVE, RINGS, SEND};
use super::packet::Packet;
use super::ring::{Inward, Lie, Outward, RING, SPLIT};
use super::{RECEIVE_LIST, RINGS_LIST, SEND_LIST, bus};
use crate::psci::PATIENCE;
use crate::rng::Rng;

/// How long the host may leave a ring alone before it counts as abandoned: its channel is opened again then.
const ABANDONED: Duration = Duration::from_millis(100);

/// Connections that are asked for until one is made.
const CONNECTS: u32 = 16;

/// What all attackers are told.
pub(super) static SEED: AtomicU64 = AtomicU64::new(0);
pub(super) static QUOTA: AtomicU64 = AtomicU64::new(0);
/// The host port that sockets connect to; 0 without any.
pub(super) static PORT: AtomicU32 = AtomicU32::new(0);
/// A connection that another VP uses well.
pub(super) static FOREIGN: AtomicU64 = AtomicU64::new(0);

/// The next target that has no attacker yet.
static NEXT: AtomicUsize = AtomicUsize::new(0);
/// Attackers that have come to their end.
pub(super) static FINISHED: [AtomicBool; MAX_CPUS] = [const { AtomicBool::new(false) }; MAX_CPUS];
/// What the next VP may write to, of the memory of this one.
static RACE: [AtomicU32; MAX_CPUS] = [const { AtomicU32::new(CALM) }; MAX_CPUS];
const CALM: u32 = 0;
const HEADERS: u32 = 1;
const EVERYTHING: u32 = 2;

/// What has been done to a target.
#[derive(Debug)]
pub(super) struct Done {
    /// Packets that the host took.
    pub(super) packets: AtomicU64,
    /// Rings that were corrupted deliberately.
    pub(super) lies: AtomicU64,
    /// Times that its channel was opened.
    pub(super) sessions: AtomicU64,
}

pub(super) static DONE: [Done; TARGETS.len()] =
    [const { Done { packets: AtomicU64::new(0), lies: AtomicU64::new(0), sessions: AtomicU64::new(0) } };
        TARGETS.len()];

/// Number of answers that the host did not give, and the first of them.
pub(super) static MISSING: AtomicU64 = AtomicU64::new(0);
pub(super) static FIRST_MISSING: Mutex<Option<(&'static str, &'static str)>> = Mutex::new(None);

fn expect(target: &'static str, what: &'static str, came: bool) -> bool {
    if !came && MISSING.fetch_add(1, Ordering::Relaxed) == 0 {
        *FIRST_MISSING.lock() = Some((target, what));
    }
    came
}

/// Iterates over the VPs that attack: those with odd numbers.
pub(super) fn attackers() -> impl Iterator<Item = usize> {
    (1..rt::hardware::get().vps()).step_by(2)
}

/// Returns the first channel of a target, if it is offered and may be attacked.
pub(super) fn find(target: &Target) -> Option<u32> {
    let mut offered = bus::primaries(target.interface);
    match target.class {
        // The first one is VP 0's.
        Class::Controller => offered.skip(1).last(),
        Class::Socket => None,
        _ => offered.next(),
    }
}

/// Runs on each VP but the first.
pub(super) fn run() {
    let vp = cpu::index();
    if vp.is_multiple_of(2) {
        return rewrite(vp - 1);
    }
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let Some(target) = TARGETS.get(number) else { break };
        let seed = SEED.load(Ordering::Relaxed) ^ (number as u64) << 32;
        let mut attacker =
            Attacker { vp, memory: Memory::of(vp), rng: Rng::new(seed), target, number, endpoint: 0 };
        let done = &DONE[number];
        while done.packets.load(Ordering::Relaxed) < QUOTA.load(Ordering::Relaxed) && attacker.session() {}
    }
    FINISHED[vp].store(true, Ordering::Release);
}

/// Rewrites the memory of an attacker while the host reads it, until the attacker has finished.
fn rewrite(vp: usize) {
    let memory = Memory::of(vp);
    let mut rng = Rng::new(SEED.load(Ordering::Relaxed) ^ vp as u64);
    while !FINISHED[vp].load(Ordering::Acquire) {
        let race = RACE[vp].load(Ordering::Acquire);
        if race == CALM {
            arch::relax();
            continue;
        }
        let page = if race == HEADERS {
            SEND.start + rng.below((DATA.end - SEND.start) as u64) as usize
        } else {
            rng.below(RINGS.end as u64) as usize
        };
        let offset = page * PAGE + (rng.below(PAGE as u64) as usize & !3);
        // A ring's indices are written now and then only: the host leaves the ring after that.
        let in_header = page.is_multiple_of(SPLIT as usize);
        let right = if race == HEADERS { is_header(offset) } else { !in_header || rng.chance(1, 256) };
        if right {
            memory.store(offset, if rng.chance(1, 2) { rng.below(256) as u32 } else { rng.number() as u32 });
        }
    }
}

/// One VP's attack of one target.
struct Attacker {
    vp: usize,
    memory: Memory,
    rng: Rng,
    target: &'static Target,
    number: usize,
    /// The last endpoint of a socket.
    endpoint: u32,
}

/// An open channel, with rings.
struct Session {
    connection: u64,
    out: Outward,
    inward: Inward,
    /// Packets that the host has not taken yet.
    unread: u64,
    /// The host learns of as many packets at once as the ring holds.
    is_burst: bool,
}

impl Attacker {
    /// Returns a channel of the target.
    fn channel(&mut self) -> Option<u32> {
        let port = PORT.load(Ordering::Relaxed);
        if self.target.class != Class::Socket {
            return find(self.target);
        }
        if port == 0 {
            return None;
        }
        // A program that is busy may refuse some.
        let channel = (0..CONNECTS).find_map(|_| {
            self.endpoint = (self.endpoint + 1) & 0xff_ffff;
            bus::connect_socket(port, (self.vp as u32) << 24 | self.endpoint)
        });
        expect(self.target.name, "a connection", channel.is_some());
        channel
    }

    /// Opens the target's channel, sends packets until it has enough of them or the host of it, and closes it. Returns
    /// false if the target is not there, or the host does not answer.
    fn session(&mut self) -> bool {
        let Some(channel) = self.channel() else { return false };
        let (name, vp) = (self.target.name, self.vp);
        let mut session = Session::new(channel, self.memory);
        let list = bus::list_id(vp, RINGS_LIST);
        if !expect(name, "a page list", bus::establish(channel, list, self.memory, RINGS)) {
            return false;
        }
        if self.rng.chance(1, 8) {
            // None of these can be opened: no ring, no data, beyond the pages, no such VP.
            let (vp, split) = self.rng.pick(&[(0, 0), (0, 1), (0, 8), (0, u32::MAX), (0x7777, SPLIT)]);
            expect(name, "the refusal of an OPENCHANNEL", bus::open(channel, list, vp, split) == Some(false));
        }
        let target_vp = self.rng.pick(&[vp as u32, 0, TARGET_VP_NONE]);
        if !expect(name, "an open channel", bus::open(channel, list, target_vp, SPLIT) == Some(true)) {
            return false;
        }
        DONE[self.number].sessions.fetch_add(1, Ordering::Relaxed);
        let lists = [(RECEIVE_LIST, RECEIVE), (SEND_LIST, SEND)];
        let lists = if self.target.class == Class::Card { &lists[..] } else { &[] };
        for (list, pages) in lists {
            let list = bus::list_id(vp, *list);
            expect(name, "a buffer's page list", bus::establish(channel, list, self.memory, pages.clone()));
        }
        if self.rng.chance(7, 8) {
            self.target.class.greeting(vp, self.memory, &mut |packet| session.send(&packet, Lie::None));
            session.settle(self.number);
        }
        session.is_burst = self.rng.chance(1, 4);
        let races = self.rng.pick(&[CALM, CALM, HEADERS, EVERYTHING]);
        RACE[vp].store(races, Ordering::Release);
        for _ in 0..1 + self.rng.below(256) {
            if !self.step(&mut session) {
                break;
            }
        }
        session.settle(self.number);
        RACE[vp].store(CALM, Ordering::Release);
        self.close(channel)
    }

    /// Sends a packet, and does what else a driver must not do. Returns false if the ring is unusable.
    fn step(&mut self, session: &mut Session) -> bool {
        let packet = self.target.class.packet(&mut self.rng, self.vp, self.memory);
        let lie = if self.rng.chance(1, 64) { self.lie() } else { Lie::None };
        if !session.out.has_room(&packet) && !session.settle(self.number) {
            return false;
        }
        if !session.out.has_room(&packet) {
            return false;
        }
        session.out.put(&packet, lie);
        session.unread += 1;
        if lie != Lie::None {
            DONE[self.number].lies.fetch_add(1, Ordering::Relaxed);
            bus::signal(session.connection);
            return false;
        }
        if session.is_burst {
            // The host is told when the ring is full.
            return true;
        }
        if self.rng.chance(1, 2) {
            bus::signal(session.connection);
        }
        match self.rng.below(64) {
            0..4 => bus::signal(FOREIGN.load(Ordering::Relaxed)),
            4 => bus::signal(self.rng.number()),
            5 => session.inward.garble(self.rng.below(4) as usize, self.rng.number() as u32),
            6..20 => self.receive(session),
            20..28 => return session.settle(self.number),
            _ => {}
        }
        true
    }

    /// Picks a lie about a packet or a ring.
    fn lie(&mut self) -> Lie {
        let (half, index) = (self.rng.number() as u16, self.rng.number() as u32);
        // After the ring, in it and not where a packet may begin, or beyond what is written.
        let index = self.rng.pick(&[index, RING, RING + 8, (index % RING) | 4, (index % RING) & !7]);
        match self.rng.below(4) {
            0 => Lie::Length(half),
            1 => Lie::Offset(half),
            2 => Lie::WriteIndex(index),
            _ => Lie::ReadIndex(index),
        }
    }

    /// Takes what the host has sent. A card's packets are given back, once, twice, or by a wrong number.
    fn receive(&mut self, session: &mut Session) {
        for _ in 0..64 {
            let Some(received) = session.inward.take() else { break };
            if received.kind != PacketType::DATA_USING_TRANSFER_PAGES {
                continue;
            }
            let id = if self.rng.chance(1, 8) { self.rng.number() } else { received.id };
            let mut end = Packet::in_band(id, &[108, 1]);
            (end.kind, end.flags) = (PacketType::COMPLETION.0, 0);
            for _ in 0..self.rng.pick(&[1, 1, 1, 2]) {
                session.send(&end, Lie::None);
            }
        }
        bus::signal(session.connection);
    }

    /// Closes the channel, in the right order or in another, and takes the pages back. Returns false if the host keeps
    /// them.
    fn close(&mut self, channel: u32) -> bool {
        let lists = [RINGS_LIST, RECEIVE_LIST, SEND_LIST].map(|which| bus::list_id(self.vp, which));
        let lists = if self.target.class == Class::Card { &lists[..] } else { &lists[..1] };
        let early = self.rng.chance(1, 4);
        if early {
            lists.iter().for_each(|list| bus::tear_down(channel, *list));
        }
        bus::close(channel);
        if !early {
            lists.iter().for_each(|list| bus::tear_down(channel, *list));
        }
        let name = self.target.name;
        let back = lists.iter().all(|list| expect(name, "the pages of a list", bus::is_torn_down(*list)));
        if self.target.class == Class::Socket {
            return back && expect(name, "the end of a socket", bus::leave(channel));
        }
        back
    }
}

impl Session {
    fn new(channel: u32, memory: Memory) -> Self {
        let (out, inward) = (Outward::new(memory), Inward::new(memory));
        Self { connection: bus::connection(channel), out, inward, unread: 0, is_burst: false }
    }
    /// Sends a packet, if there is room for it.
    fn send(&mut self, packet: &Packet, lie: Lie) {
        if self.out.has_room(packet) {
            self.out.put(packet, lie);
            self.unread += 1;
            bus::signal(self.connection);
        }
    }

    /// Waits until the host has taken all packets, and counts them. Returns false if it leaves them.
    fn settle(&mut self, number: usize) -> bool {
        bus::signal(self.connection);
        let mut rounds = 0_u32;
        let taken = time::wait_until(ABANDONED, || {
            // A full ring keeps the host from its answers, and from the next packet.
            if !self.out.is_empty() && rounds.is_multiple_of(64) {
                while self.inward.take().is_some() {}
                bus::signal(self.connection);
            }
            rounds = rounds.wrapping_add(1);
            self.out.is_empty()
        });
        if taken {
            DONE[number].packets.fetch_add(core::mem::take(&mut self.unread), Ordering::Relaxed);
        }
        taken
    }
}

/// Opens the channel of a target that was attacked, greets it, and waits for what it says to a driver that begins as it
/// should. Returns `None` if it is not there. VP 0 calls, when all others are off.
pub(super) fn serves(target: &Target) -> Option<bool> {
    let channel = find(target)?;
    let memory = Memory::of(1);
    let mut session = Session::new(channel, memory);
    let open = bus::open_rings(channel, 1, 0);
    target.class.greeting(1, memory, &mut |packet| session.send(&packet, Lie::None));
    let welcome = time::wait_until(PATIENCE, || {
        bus::receive();
        session.inward.take().is_some_and(|received| target.class.is_welcome(&received))
    });
    let list = bus::list_id(1, RINGS_LIST);
    bus::close(channel);
    bus::tear_down(channel, list);
    Some(open && welcome && bus::is_torn_down(list))
}
