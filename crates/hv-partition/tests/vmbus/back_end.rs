//! A device whose requests the embedder serves, on a bus with a set of devices of the embedder's.

use crate::guest::{self, SINT, take_kinds};
use hv_partition::faults::{Failing, Injector, Plan};
use hv_partition::testing::{Lock, TestHost, TestMachine, run_bus_with_faults};
use hv_partition::{Bus, Config, Faulty, Host as _, HostBackend, RestoreError, ServerPort};
use hv_tlfs::register::RegisterName as Name;
use hv_tlfs::time::ReferenceTime;
use hv_vmbus::protocol::{Guid, MessageType};
use hv_vmbus::{
    Backend, BusError, Connect, Device, DeviceId, Done, Io, Never, Packet, Pages, Refusal, Slot, Started,
    Taken, Token, Work,
};
use std::cell::RefCell;
use std::sync::Mutex;

/// What the sample asks for: nothing but an end.
#[derive(Debug)]
pub(crate) struct Op;

impl Work for Op {
    type Outcome = u8;
}

/// Tokens that the host was asked for, of all threads' hosts: each test takes those of its own device's instance.
static STARTED: Mutex<Vec<(usize, Token)>> = Mutex::new(Vec::new());

/// Bytes of a request, not those that are usual.
const LIMIT: u64 = 3 * 4096;

impl HostBackend<Op> for TestHost {
    const REQUEST_LIMIT: u64 = LIMIT;
    const FAILS: bool = true;

    fn start(&self, _: DeviceId, token: Token, _: &Op, _: Pages<'_>) -> Started<u8> {
        STARTED.lock().unwrap().push((core::ptr::from_ref(self) as usize, token));
        Started::Pending
    }

    fn fail(&self, _: &Op, failing: Failing) -> Option<u8> {
        match failing {
            Failing::Scsi { srb, .. } => Some(srb),
            Failing::Medium => None,
        }
    }
}

/// Returns the requests that this host works on.
pub(crate) fn started(m: &Sampled<'_>) -> Vec<Token> {
    let host = core::ptr::from_ref(&*m.host) as usize;
    let mut all = STARTED.lock().unwrap();
    let (own, others) = all.drain(..).partition(|(of, _)| *of == host);
    *all = others;
    own.into_iter().map(|(_, token): (usize, Token)| token).collect()
}

/// A device with two sub-channels and sockets: makes a request of each packet, and answers with its outcome.
#[derive(Debug)]
pub(crate) struct Sample;

impl Device for Sample {
    type Request = Op;

    const NAME: [u8; 4] = *b"test";
    const REPLY: u32 = 8;

    fn reply_len(&self, _: hv_vmbus::Channel, _: &hv_vmbus::Head) -> Option<u32> {
        Some(8)
    }

    fn opened<P: Backend<Op>>(
        &mut self,
        channel: hv_vmbus::Channel,
        _: &hv_vmbus::Opening<'_>,
        io: &mut Io<'_, P, Op>,
    ) -> Result<(), Refusal> {
        if channel == hv_vmbus::Channel::PRIMARY {
            io.subchannels(1);
        }
        Ok(())
    }

    fn takes_connections(&self) -> bool {
        true
    }

    fn packet<P: Backend<Op>>(
        &mut self,
        packet: &mut Packet<'_, P::Memory>,
        io: &mut Io<'_, P, Op>,
    ) -> Taken {
        io.request(packet, Op).unwrap();
        Taken::Done
    }

    fn completed<P: Backend<Op>>(&mut self, done: &mut Done<'_, Op>, outcome: u8, io: &mut Io<'_, P, Op>) {
        io.respond(done, &[outcome; 8]).unwrap();
    }

    fn connect<P: Backend<Op>>(
        &mut self,
        channel: hv_vmbus::Channel,
        connect: &Connect,
        io: &mut Io<'_, P, Op>,
    ) -> Result<(), Refusal> {
        let offered = io.offer(channel, &hv_vmbus::offer(connect.service, connect.endpoint));
        if offered { Ok(()) } else { Err(Refusal) }
    }

    fn reset(&mut self) {}
}

/// Another device beside it: never asks, and leaves its packets.
#[derive(Debug)]
pub(crate) struct Silent;

impl Device for Silent {
    type Request = Never;

    const NAME: [u8; 4] = *b"none";

    fn packet<P: Backend<Never>>(
        &mut self,
        _: &mut Packet<'_, P::Memory>,
        _: &mut Io<'_, P, Never>,
    ) -> Taken {
        Taken::Later
    }

    fn reset(&mut self) {}
}

hv_vmbus::devices! {
    pub(crate) struct Set {
        silent: Slot<Lock, Silent>,
        sample: Slot<Lock, Sample, 3, 4, 8>,
    }
}

pub(crate) type Sampled<'a> = TestMachine<'a, Bus<Lock, Set, 24, 96>>;

/// The sample's first channel, its sub-channel, and its socket's.
pub(crate) const SAMPLE: u32 = 2;
const SUB: u32 = 3;
const SOCKET: u32 = 4;
const OFFER: Guid = Guid::new(1, 2, 3, [4; 8]);

fn machine(test: impl FnOnce(&Sampled<'_>)) {
    faulty(Plan::NONE, test);
}

/// Runs a test with injected faults.
pub(crate) fn faulty(plan: Plan, test: impl FnOnce(&Sampled<'_>)) {
    let config = Config::new(62_500_000);
    let set =
        Set { silent: Slot::new(Silent), sample: Slot::offering(Sample, hv_vmbus::offer(OFFER, OFFER)) };
    let bus = Bus::with_devices(config.vmbus, set);
    run_bus_with_faults(config.hypervisor, plan, &bus, 2, |m| {
        for vp in 0..2 {
            m.online(vp);
            m.set(vp, Name::GUEST_OS_ID, 1).unwrap();
            m.enable_synic(vp, SINT, 18);
        }
        // An earlier test's host may have been at the same place.
        started(m);
        test(m);
    });
}

/// Runs a test with a guest that has a channel of each kind open.
fn connected(test: impl FnOnce(&Sampled<'_>)) {
    machine(|m| {
        guest::connect(m, 0);
        guest::open(m, 0, SAMPLE, 1);
        guest::open(m, 0, SUB, 1);
        guest::connect_socket(m, 0, Guid::new(9, 9, 9, [9; 8]), Guid::new(8, 8, 8, [8; 8]));
        guest::open(m, 0, SOCKET, 1);
        let kinds = take_kinds(m, 0);
        let opened = kinds.iter().filter(|kind| **kind == MessageType::OPEN_RESULT).count();
        assert_eq!(opened, 3, "{kinds:?}");
        test(m);
    });
}

pub(crate) fn send(m: &Sampled<'_>, channel: u32, id: u64) {
    assert!(guest::put(m, channel, id, &[0; 8]));
    guest::signal(m, 0, channel);
}

pub(crate) fn complete(m: &Sampled<'_>, token: Token, outcome: u8) -> Result<(), BusError> {
    m.partition.completed(&m.host, &m.partition.devices().sample, token, outcome)
}

pub(crate) fn answers(m: &Sampled<'_>, channel: u32) -> Vec<(u64, u8)> {
    std::iter::from_fn(|| guest::receive(m, 0, channel)).map(|(id, bytes)| (id, bytes[0])).collect()
}

#[test]
fn a_completion_interrupts_the_guest_and_counts_once() {
    connected(|m| {
        send(m, SAMPLE, 7);
        let tokens = started(m);
        assert_eq!(tokens.len(), 1);
        assert_eq!(answers(m, SAMPLE), []);
        m.host.take_interrupts();
        assert_eq!(complete(m, tokens[0], 5), Ok(()));
        assert_eq!(m.host.take_interrupts(), [(1, 18)]);
        assert_eq!(complete(m, tokens[0], 5), Err(BusError::UnknownToken));
        assert_eq!(answers(m, SAMPLE), [(7, 5)]);
    });
}

#[test]
fn completions_come_from_other_threads() {
    connected(|m| {
        let ids = [(1, SAMPLE), (2, SUB), (3, SOCKET), (4, SAMPLE)];
        ids.iter().for_each(|(id, channel)| send(m, *channel, *id));
        let tokens = started(m);
        assert_eq!(tokens.len(), 4);
        std::thread::scope(|scope| {
            for token in &tokens {
                scope.spawn(move || complete(m, *token, 1).unwrap());
            }
        });
        let mut first = answers(m, SAMPLE);
        first.sort_unstable();
        assert_eq!(first, [(1, 1), (4, 1)]);
        assert_eq!((answers(m, SUB), answers(m, SOCKET)), (vec![(2, 1)], vec![(3, 1)]));
    });
}

#[test]
fn unload_is_answered_by_the_completion_that_ends_it() {
    connected(|m| {
        send(m, SAMPLE, 1);
        let tokens = started(m);
        guest::unload(m, 0);
        assert_eq!(take_kinds(m, 0), []);
        complete(m, tokens[0], 0).unwrap();
        assert_eq!(take_kinds(m, 0), [MessageType::UNLOAD_RESPONSE]);
    });
}

#[test]
fn a_partition_is_saved_when_nothing_is_in_flight_and_goes_on_where_it_was() {
    connected(|m| {
        let image = RefCell::new(Vec::new());
        let save = || m.partition.save(&m.host, &mut |part| image.borrow_mut().extend_from_slice(part));
        for (id, channel) in [(1, SAMPLE), (2, SUB), (3, SOCKET)] {
            send(m, channel, id);
        }
        let tokens = started(m);
        assert_eq!(save(), Err(BusError::InFlight));
        assert!(image.borrow().is_empty(), "nothing is written");

        m.partition.with_vmbus(&m.host, |bus| bus.pause());
        for (id, channel) in [(11, SAMPLE), (12, SUB), (13, SOCKET)] {
            send(m, channel, id);
        }
        assert_eq!(started(m), [], "no packet is taken");
        for token in &tokens {
            assert_eq!(save(), Err(BusError::InFlight));
            complete(m, *token, 2).unwrap();
        }
        assert!(m.partition.with_vmbus(&m.host, |bus| bus.is_idle()));
        assert_eq!(save(), Ok(()));

        machine(|n| {
            n.host.memory().copy_from(m.host.memory());
            n.host.set_counter(m.host.counter());
            n.partition.restore(&n.host, &image.borrow()).unwrap();
            for vp in 0..2 {
                n.expire(vp);
            }
            n.set_time(ReferenceTime(1_000_000));
            let tokens = started(n);
            assert_eq!(tokens.len(), 3, "the packets that waited are taken without another signal");
            tokens.iter().for_each(|token| complete(n, *token, 3).unwrap());
            assert_eq!(answers(n, SAMPLE), [(1, 2), (11, 3)]);
            assert_eq!(answers(n, SUB), [(2, 2), (12, 3)]);
            assert_eq!(answers(n, SOCKET), [(3, 2), (13, 3)]);
            guest::close(n, 0, SAMPLE);
            assert!(take_kinds(n, 0).contains(&MessageType::RESCIND_OFFER), "the sub-channel goes with it");
        });

        // The one that was saved continues as well.
        m.partition.with_vmbus(&m.host, |bus| bus.unpause());
        let tokens = started(m);
        assert_eq!(tokens.len(), 3);
        // Nothing is restored over requests in flight.
        assert_eq!(m.partition.restore(&m.host, &image.borrow()), Err(RestoreError::InFlight));
        tokens.iter().for_each(|token| complete(m, *token, 4).unwrap());
        assert_eq!(answers(m, SOCKET), [(3, 2), (13, 4)]);
    });
}

#[test]
fn the_back_ends_limit_of_a_request_is_the_ports() {
    type Decorated = Faulty<TestHost, Injector>;
    assert_eq!(<ServerPort<'_, Lock, TestHost> as Backend<Op>>::REQUEST_LIMIT, LIMIT);
    assert_eq!(<Decorated as HostBackend<Op>>::REQUEST_LIMIT, LIMIT);
}
