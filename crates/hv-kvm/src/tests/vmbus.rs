//! A channel of VMBus over the model of KVM.

use std::sync::Mutex;
use std::thread;

use hv_partition::{
    Bus, BusObserver, DeviceId, GuestMemory as _, HostBackend, Never, Pages, Partition, Started, Token, Vp,
    VpContext,
};
use hv_tlfs::register::RegisterName;
use hv_tlfs::smccc::HYPERCALL;
use hv_vmbus::protocol::{
    Guid, InitiateContact, MessageHeader, MessageType, PacketType, TargetInfo, Version,
};
use hv_vmbus::ring::{Consumer, Outgoing, Producer, Ring};
use hv_vmbus::{Backend, Device, Done, Io, Packet, Slot, Taken, Work};
use parking_lot::RawMutex;
use zerocopy::{FromZeros as _, IntoBytes as _};

use super::{ENTRY, Guest, config};
use crate::fake::{Access, FakeVm, RAM};
use crate::host::Embedder;
use crate::kvm::Vm as _;
use crate::machine::Machine;
use crate::observer::Observer;

/// Control words of PostMessage, and of a fast SignalEvent.
const POST: u64 = 0x5c;
const SIGNAL: u64 = 0x1_005d;
/// The SINT of VMBus, and its interrupt.
const SINT: u8 = 2;
const VECTOR: u32 = 18;
/// The sample's channel, which is the only one, and its connection.
const CHANNEL: u32 = 1;
const CONNECTION: u64 = 0x2000 | CHANNEL as u64;
/// Where the guest's pages are: those of the SynIC, that of a message, those of the rings.
const SYNIC: u64 = RAM + 0x1_0000;
const MESSAGE: u64 = RAM + 0x1_2000;
const RINGS: u64 = RAM + 0x2_0000;
/// Pages of a ring.
const RING: usize = 3;

/// What the sample asks for.
#[derive(Debug)]
struct Op;

impl Work for Op {
    type Outcome = u8;
}

/// A device that makes a request of each packet, and answers with its outcome.
#[derive(Debug)]
struct Sample;

impl Device for Sample {
    type Request = Op;

    const NAME: [u8; 4] = *b"test";
    const REPLY: u32 = 8;

    fn reply_len(&self, _: hv_vmbus::Channel, _: &hv_vmbus::Head) -> Option<u32> {
        Some(8)
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

    fn reset(&mut self) {}
}

hv_vmbus::devices! {
    struct Set {
        sample: Slot<RawMutex, Sample, 1, 8, 1>,
    }
}

/// A back end that takes requests, and leaves them to the test.
#[derive(Default)]
struct Requests(Mutex<Vec<Token>>);

impl Observer for Requests {
    fn console(&self, _: u8) {}
}

impl BusObserver for Requests {}

/// Bytes of a request, not those that are usual.
const LIMIT: u64 = 3 * 4096;

impl HostBackend<Op> for Requests {
    const REQUEST_LIMIT: u64 = LIMIT;

    fn start(&self, _: DeviceId, token: Token, _: &Op, _: Pages<'_>) -> Started<u8> {
        self.0.lock().unwrap().push(token);
        Started::Pending
    }
}

impl HostBackend<Never> for Requests {
    fn start(&self, _: DeviceId, _: Token, request: &Never, _: Pages<'_>) -> Started<Never> {
        match *request {}
    }
}

impl Guest<'_, Requests> {
    fn post(&self, payload: &[u8]) {
        let mut input: Vec<u8> =
            [4, 0, 1, payload.len() as u32].iter().flat_map(|word| word.to_le_bytes()).collect();
        input.extend(payload);
        input.resize(256, 0);
        self.vm().memory().write(MESSAGE, &input).unwrap();
        assert_eq!(self.call(0, &[HYPERCALL.into(), POST, MESSAGE, 0]), 0);
    }

    /// Connects, and opens the channel.
    fn open(&self) {
        self.identify();
        self.set(0, RegisterName::SIMP, SYNIC | 1);
        self.set(0, RegisterName::SIEFP, (SYNIC + 0x1000) | 1);
        self.set(0, RegisterName::sint(SINT), VECTOR.into());
        self.set(0, RegisterName::SCONTROL, 1);
        let mut contact = InitiateContact::new_zeroed();
        contact.header = MessageHeader::new(MessageType::INITIATE_CONTACT);
        contact.version = Version::V5_3;
        contact.target_info = TargetInfo(0).with_sint(SINT);
        self.post(contact.as_bytes());
        let message = |kind: MessageType, words: &[u32]| -> Vec<u8> {
            [kind.0, 0].iter().chain(words).flat_map(|word| word.to_le_bytes()).collect()
        };
        self.post(&message(MessageType::REQUEST_OFFERS, &[]));
        let pages = pages();
        let bytes = (pages.len() as u32 + 1) * 8;
        let mut gpadl = message(MessageType::GPADL_HEADER, &[CHANNEL, CHANNEL, bytes + (1 << 16)]);
        gpadl.extend((pages.len() as u64 * 4096).to_le_bytes());
        gpadl.extend(pages.as_bytes());
        self.post(&gpadl);
        let mut open = message(MessageType::OPEN_CHANNEL, &[CHANNEL, CHANNEL, CHANNEL, 0, RING as u32]);
        open.resize(148, 0);
        self.post(&open);
    }

    /// Sends a packet, with a signal.
    fn send(&self, id: u64) {
        let (memory, pages) = (self.vm().memory(), pages());
        let ring = Ring::new(memory, &pages[..RING]).unwrap();
        let packet = Outgoing { packet_type: PacketType::DATA_IN_BAND, flags: 0, transaction_id: id, len: 8 };
        Producer::attach(&ring).unwrap().push_bytes(&ring, &packet, &[0; 8]).unwrap();
        assert_eq!(self.call(0, &[HYPERCALL.into(), SIGNAL, CONNECTION]), 0);
    }

    /// Takes the event, as the handler of its interrupt does before the ring is read.
    fn take_event(&self) {
        self.vm().memory().write(SYNIC + 0x1000, &[0; 4096]).unwrap();
    }

    /// Takes the completions out of the other ring.
    fn receive(&self) -> Vec<u64> {
        let (memory, pages) = (self.vm().memory(), pages());
        let ring = Ring::new(memory, &pages[RING..]).unwrap();
        let mut consumer = Consumer::attach(&ring).unwrap();
        let mut taken = Vec::new();
        while let Some(packet) = consumer.next(&ring).unwrap() {
            taken.push(packet.descriptor.transaction_id);
        }
        consumer.commit(&ring).unwrap();
        taken
    }
}

/// Returns the page numbers of the rings, first those of the ring to the host.
fn pages() -> Vec<u64> {
    (RINGS >> 12..).take(2 * RING).collect()
}

#[test]
fn a_batch_of_completions_makes_one_interrupt_pending_until_the_guest_has_read_them() {
    let machine = Machine::new(FakeVm::create(1), Requests::default()).unwrap();
    let states = [Vp::<RawMutex>::new()];
    let offer = hv_vmbus::offer(Guid::new(1, 2, 3, [4; 8]), Guid::new(1, 2, 3, [4; 8]));
    let set = Set { sample: Slot::offering(Sample, offer) };
    let bus: Bus<RawMutex, Set, 24, 96> = Bus::with_devices(config().vmbus, set);
    let partition = Partition::new(config().hypervisor, &states, &[], &bus);
    let guest = Guest { machine: &machine };
    thread::scope(|scope| {
        let run = scope.spawn(|| machine.run(&partition, &VpContext::at(ENTRY, 7)));
        let end = super::End(&machine);
        guest.open();
        for round in 0..2 {
            (0..8).for_each(|id| guest.send(id));
            let tokens = std::mem::take(&mut *machine.observer().0.lock().unwrap());
            assert_eq!(tokens.len(), 8);
            let _ = guest.vm().take_helper_accesses();
            for token in tokens {
                partition.completed(machine.embedder(), &partition.devices().sample, token, 5).unwrap();
                guest.take_event();
            }
            let store = Access::Store { address: 0x080b_0200, value: 1 << VECTOR };
            assert_eq!(guest.vm().take_helper_accesses(), [store], "round {round}");
            assert_eq!(guest.receive(), (0..8).collect::<Vec<_>>());
        }
        drop(end);
        run.join().unwrap();
    });
}

#[test]
fn the_observers_limit_of_a_request_is_the_embedders() {
    type Own = Embedder<FakeVm, Requests>;
    assert_eq!(<Own as HostBackend<Op>>::REQUEST_LIMIT, LIMIT);
    assert_eq!(<&Own as HostBackend<Op>>::REQUEST_LIMIT, LIMIT);
}
