//! A host with one of each device, and a guest on the same memory.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use hv_devices::heartbeat::{self, Heartbeat};
use hv_devices::keyboard::{self, Keyboard};
use hv_devices::kvp::{self, Kvp};
use hv_devices::network::{self, MAX_FRAME, Network};
use hv_devices::shutdown::{self, Shutdown};
use hv_devices::sockets::Sockets;
use hv_devices::storage::{self, CONTROLLERS, Failure, Piece, Request, SEGMENTS, Storage};
use hv_devices::time_sync::{self, TimeSync};
use hv_devices::video::{self, Video};
use hv_drivers::hv_vmbus_client::{Client, Contact, Error, Notice, Slots, Wait};
use hv_guest::conduit::{Conduit, FAST_WORDS, FastOutput};
use hv_guest::page::CallPage;
use hv_host::faults::{self, Failing, Faults as _, FrameFault, Injection, Injector, Plan, Timed};
use hv_memory::GuestMemory as _;
use hv_tlfs::hypercall::{HypercallCode, HypercallInput, HypercallOutput};
use hv_tlfs::time::{FileTime, ReferenceTime};
use hv_tlfs::vmbus::Guid;
use hv_tlfs::vmbus::video::VRAM_BYTES;
use hv_tlfs::vp::VpIndex;
use hv_vmbus::{
    Backend, Bus, BusFaults, BusPort, Config, DeviceId, Moment, Never, Pages, Posted, Slot, Start, Started,
    Token, Work as _,
};

use super::ram::Ram;
pub(crate) use super::ram::TestDma;

pub(crate) type Lock = spin::Mutex<()>;
pub(crate) type Disks = Slot<Lock, Storage<8>, 3, 8, SEGMENTS>;
pub(crate) type Card = Slot<Lock, Network, 1, 16, { network::SEGMENTS }>;
/// Streams of sockets at most.
const STREAMS: usize = 3;
pub(crate) type Streams = Slot<Lock, Sockets<STREAMS, { 20 << 10 }>, STREAMS>;
/// The host's time at reference time 0.
pub(crate) const ORIGIN: FileTime = FileTime(FileTime::UNIX_EPOCH.0 + 1_000_000);
/// Where video memory may be: VMBus's address window.
pub(crate) const WINDOW: u64 = 0x1000_0000;
/// The card's address.
pub(crate) const MAC: [u8; 6] = [0, 0x15, 0x5d, 1, 2, 3];

hv_vmbus::devices! {
    /// The devices of the tests.
    pub(crate) struct TestDevices {
        pub(crate) disks: Disks,
        pub(crate) heartbeat: Slot<Lock, Heartbeat>,
        pub(crate) shutdown: Slot<Lock, Shutdown>,
        pub(crate) time: Slot<Lock, TimeSync>,
        pub(crate) keyboard: Slot<Lock, Keyboard>,
        pub(crate) kvp: Slot<Lock, Kvp>,
        pub(crate) video: Slot<Lock, Video>,
        pub(crate) card: Card,
        pub(crate) sockets: Streams,
    }
}

/// A request that waits for its end, with the parts of guest memory that its data lie in.
pub(crate) type InFlight = (Token, Request, Vec<(u64, u64)>);

/// A frame that a fault keeps until the next one.
#[derive(Default)]
struct Kept(Mutex<Option<Vec<u8>>>);

impl faults::Late for &Kept {
    fn keep(&mut self, frame: &[u8]) -> bool {
        let mut kept = self.0.lock().unwrap();
        let free = kept.is_none();
        if free {
            *kept = Some(frame.to_vec());
        }
        free
    }

    fn release(&mut self, out: impl FnOnce(&mut [u8])) {
        if let Some(mut frame) = self.0.lock().unwrap().take() {
            out(&mut frame);
        }
    }
}

/// The partition, and the back end of the disks.
pub(crate) struct Host {
    pub(crate) ram: &'static Ram,
    pub(crate) disks: Mutex<Vec<Vec<u8>>>,
    /// Requests are kept until the test ends them.
    pub(crate) hold: std::sync::atomic::AtomicBool,
    pub(crate) held: Mutex<Vec<InFlight>>,
    /// Frames that the network was sent, and those that wait for their end.
    pub(crate) frames: Mutex<Vec<Vec<u8>>>,
    pub(crate) held_frames: Mutex<Vec<Token>>,
    /// What the next request fails with.
    pub(crate) failure: Mutex<Option<Failure>>,
    pub(crate) flushes: AtomicUsize,
    pub(crate) now: AtomicU64,
    /// Injected faults.
    pub(crate) plan: Injector,
    /// Frames that a fault keeps until the next one: for the guest, and from it.
    kept: [Kept; 2],
    pub(crate) messages: Mutex<VecDeque<Vec<u8>>>,
}

impl BusPort for Host {
    type Memory = Ram;

    fn memory(&self) -> &Ram {
        self.ram
    }

    fn reference_time(&self) -> ReferenceTime {
        ReferenceTime(self.now.load(Ordering::Relaxed))
    }

    fn post(&self, _: u32, _: u8, payload: &[u8]) -> Posted {
        if self.plan.injects(Injection::Silent) {
            return Posted::Full;
        }
        self.messages.lock().unwrap().push_back(payload.to_vec());
        Posted::Queued
    }

    fn interrupt(&self, _: u32, _: u8, _: u16) {}

    fn has_vp(&self, vp: u32) -> bool {
        vp == 0
    }

    fn faults(&self) -> impl BusFaults {
        self
    }
}

impl BusFaults for Host {
    fn starts(&self, _: DeviceId) -> Start {
        match self.plan.starts() {
            faults::StartFault::Now => Start::Now,
            faults::StartFault::Late(time) => Start::Late(time),
            faults::StartFault::After => Start::After,
            faults::StartFault::Never => Start::Never,
        }
    }

    fn is_mute(&self) -> bool {
        self.plan.mutes()
    }

    fn rescinds(&self, interface: &Guid, moment: Moment) -> bool {
        let moment = match moment {
            Moment::Open => faults::RescindPoint::Open,
            Moment::Packet => faults::RescindPoint::Packet,
        };
        self.plan.rescinds(number_of(interface), moment)
    }

    fn refuses(&self, interface: &Guid, version: u32) -> bool {
        self.plan.refuses(number_of(interface), version)
    }
}

/// Returns the number of a kind of devices in a plan: the first word of its GUID.
pub(crate) fn number_of(interface: &Guid) -> u32 {
    let [a, b, c, d, ..] = interface.bytes;
    u32::from_le_bytes([a, b, c, d])
}

impl Backend<Never> for Host {
    fn start(&self, _: DeviceId, _: Token, request: &Never, _: Pages<'_>) -> Started<Never> {
        match *request {}
    }
}

impl Backend<Request> for Host {
    fn start(
        &self,
        _: DeviceId,
        token: Token,
        request: &Request,
        data: Pages<'_>,
    ) -> Started<Result<(), Failure>> {
        let parts: Vec<_> = data.segments().map(|part| (part.gpa(), part.len())).collect();
        match self.plan.fails(request.begins(), request.extent()) {
            Some(Failing::Medium) => return Started::Done(Err(Failure::Medium)),
            Some(Failing::Scsi { srb, scsi, sense }) => {
                return Started::Done(Err(Failure::Exactly { srb, scsi, sense }));
            }
            None => {}
        }
        if self.hold.load(Ordering::Relaxed) {
            self.held.lock().unwrap().push((token, *request, parts));
            return Started::Pending;
        }
        Started::Done(self.serve(request, &parts))
    }
}

impl Backend<network::Request> for Host {
    fn start(
        &self,
        _: DeviceId,
        token: Token,
        request: &network::Request,
        data: Pages<'_>,
    ) -> Started<Result<(), network::Lost>> {
        let mut frame = [0; MAX_FRAME];
        let len = request.write(self.ram, data, &mut frame).unwrap();
        self.with_fault(true, &frame[..len], |frame| self.frames.lock().unwrap().push(frame.to_vec()));
        if self.hold.load(Ordering::Relaxed) {
            self.held_frames.lock().unwrap().push(token);
            return Started::Pending;
        }
        Started::Done(Ok(()))
    }
}

impl Host {
    /// Passes a frame on, with the fault that the plan has for it.
    fn with_fault<T>(&self, from_guest: bool, frame: &[u8], mut pass: impl FnMut(&[u8]) -> T) -> Option<T> {
        let (mut frame, mut passed) = (frame.to_vec(), None);
        let mut kept = &self.kept[usize::from(from_guest)];
        FrameFault::meet(self.plan.frame(from_guest), &mut frame, 0, &mut kept, |frame| {
            passed = Some(pass(frame));
            true
        });
        passed
    }

    /// Does what a request asks for.
    fn serve(&self, request: &Request, parts: &[(u64, u64)]) -> Result<(), Failure> {
        if let Some(failure) = self.failure.lock().unwrap().take() {
            return Err(failure);
        }
        let mut disks = self.disks.lock().unwrap();
        let disk = &mut disks[usize::from(request.disk)];
        match request.piece {
            Piece::Read { offset, len } => {
                let mut at = offset as usize;
                assert_eq!(parts.iter().map(|part| part.1).sum::<u64>(), len);
                for (gpa, len) in parts {
                    self.ram.write(*gpa, &disk[at..at + *len as usize]).unwrap();
                    at += *len as usize;
                }
            }
            Piece::Write { offset, len, durable } => {
                let mut at = offset as usize;
                assert_eq!(parts.iter().map(|part| part.1).sum::<u64>(), len);
                for (gpa, len) in parts {
                    self.ram.read(*gpa, &mut disk[at..at + *len as usize]).unwrap();
                    at += *len as usize;
                }
                self.flushes.fetch_add(usize::from(durable), Ordering::Relaxed);
            }
            Piece::Clear { offset, len } => disk[offset as usize..][..len as usize].fill(0),
            Piece::Flush => {
                self.flushes.fetch_add(1, Ordering::Relaxed);
            }
            _ => panic!("{request:?}"),
        }
        Ok(())
    }
}

/// Host and bus, which live as long as the process.
pub(crate) struct World {
    pub(crate) host: Host,
    pub(crate) bus: Bus<Lock, TestDevices>,
}

impl World {
    /// Creates a host whose controller has these disks, of these sizes in bytes, filled so that no two blocks are
    /// alike.
    pub(crate) fn new(controller: Storage<8>, disks: &[usize]) -> &'static Self {
        Self::with_faults(controller, disks, Plan::NONE)
    }

    /// Creates such a host, with injected faults.
    pub(crate) fn with_faults(controller: Storage<8>, disks: &[usize], plan: Plan) -> &'static Self {
        let ram = Box::leak(Box::new(Ram::new()));
        let bytes = |len: &usize| (0..*len).map(|n| (n / 512 * 31 + n % 509) as u8).collect();
        let host = Host {
            ram,
            disks: Mutex::new(disks.iter().map(bytes).collect()),
            hold: false.into(),
            held: Mutex::default(),
            frames: Mutex::default(),
            held_frames: Mutex::default(),
            failure: Mutex::default(),
            flushes: AtomicUsize::new(0),
            now: AtomicU64::new(0),
            plan: Injector::new(plan),
            kept: Default::default(),
            messages: Mutex::default(),
        };
        let (mut card, mut sockets, mut video) = (Network::new(), Sockets::new(), Video::new());
        card.set_mac(MAC);
        video.set_window(WINDOW, VRAM_BYTES.into());
        sockets.serve();
        let machine = TestDevices {
            disks: Slot::offering(controller, storage::offer_of(CONTROLLERS[0])),
            heartbeat: Slot::offering(Heartbeat::new(), heartbeat::OFFER),
            shutdown: Slot::offering(Shutdown::new(), shutdown::OFFER),
            time: Slot::offering(TimeSync::new(ORIGIN), time_sync::OFFER),
            keyboard: Slot::offering(Keyboard::new(), keyboard::OFFER),
            kvp: Slot::offering(Kvp::new(), kvp::OFFER),
            video: Slot::offering(video, video::OFFER),
            card: Slot::offering(card, network::offer_of(MAC)),
            sockets: Slot::new(sockets),
        };
        Box::leak(Box::new(Self { host, bus: Bus::new(Config::DEFAULT, machine) }))
    }

    /// Creates a client that has made contact.
    pub(crate) fn client(&'static self) -> TestClient {
        let mut client = self.unconnected();
        client.connect(Contact::new(VpIndex(0)), &mut self.os()).unwrap();
        client
    }

    /// Creates a client that has not.
    pub(crate) fn unconnected(&'static self) -> TestClient {
        let slots: &'static Slots<12, 24> = Box::leak(Box::new(Slots::new()));
        let page = self.host.ram.allocate(1).unwrap();
        self.host.ram.share(page, true);
        let page = CallPage::new(&page[0], &TestDma(self));
        // SAFETY: the tests give it the messages of this host, whose memory all pages are; no page is used twice.
        #[expect(unsafe_code, reason = "vouches for messages and memory")]
        unsafe {
            Client::new(Wire(self), page, slots.lend().unwrap())
        }
    }

    pub(crate) fn os(&'static self) -> Os {
        Os(self)
    }

    /// Gives a client all messages that exist.
    pub(crate) fn take_all(&self, client: &mut Client<'_, Wire>) -> Vec<Notice> {
        let mut notices = Vec::new();
        loop {
            self.bus.flush(&self.host);
            let message = self.host.messages.lock().unwrap().pop_front();
            let Some(message) = message else { return notices };
            notices.push(client.take(&message));
        }
    }

    /// Ends a frame that was held.
    pub(crate) fn end_frame(&self, outcome: Result<(), network::Lost>) -> bool {
        let token = self.host.held_frames.lock().unwrap().pop();
        let Some(token) = token else { return false };
        self.bus.completed(&self.bus.devices().card, token, outcome, &self.host).unwrap();
        true
    }

    /// Passes a frame to the guest.
    pub(crate) fn frame(&self, frame: &[u8]) -> network::Received {
        let pass = |frame: &[u8]| {
            self.bus.with(&self.bus.devices().card, &self.host, |card, io| card.receive(frame, io)).unwrap()
        };
        self.host.with_fault(false, frame, pass).unwrap_or(network::Received::Dropped)
    }

    /// Lets a millisecond pass.
    pub(crate) fn pass_time(&self) {
        let now = ReferenceTime(self.host.now.fetch_add(10_000, Ordering::Relaxed) + 10_000);
        let mut resumes = false;
        self.host.plan.tick(now, &mut |timed| match timed {
            Timed::Resume => resumes = true,
            Timed::Link(up) => {
                self.bus
                    .with(&self.bus.devices().card, &self.host, |card, io| card.set_link(up, io))
                    .unwrap();
            }
            _ => {}
        });
        if resumes && !self.host.plan.mutes() {
            self.bus.resume_all(&self.host);
        }
        self.bus.flush(&self.host);
    }

    /// Ends the request that was held longest, or the one after it.
    pub(crate) fn end_one(&self, which: usize) -> bool {
        let mut held = self.host.held.lock().unwrap();
        if held.is_empty() {
            return false;
        }
        let which = which % held.len();
        let (token, request, parts) = held.remove(which);
        drop(held);
        let outcome = self.host.serve(&request, &parts);
        self.bus.completed(&self.bus.devices().disks, token, outcome, &self.host).unwrap();
        true
    }
}

pub(crate) type TestClient = Client<'static, Wire>;

/// OS that gives the client the host's messages; there is always one, or none ever.
pub(crate) struct Os(&'static World);

impl Wait<Wire, ()> for Os {
    fn wait(&mut self, client: &mut Client<'_, Wire>) -> Result<(), Error> {
        let message = self.0.host.messages.lock().unwrap().pop_front();
        match message {
            Some(message) => {
                client.take(&message);
                Ok(())
            }
            None => Err(Error::TimedOut),
        }
    }
}

/// The hypercalls that VMBus needs.
#[derive(Clone, Copy)]
pub(crate) struct Wire(pub(crate) &'static World);

#[expect(unsafe_code, reason = "a model: it reads and writes the memory of its own world, by atomics")]
impl Conduit for Wire {
    unsafe fn call(&self, control: HypercallInput, block: &mut [u64; FAST_WORDS]) -> HypercallOutput {
        let World { host, bus } = self.0;
        if let Some(status) = host.plan.status(control.code()) {
            return HypercallOutput::from_bits(status.0.into());
        }
        let taken = match control.code() {
            HypercallCode::POST_MESSAGE => {
                let mut input = [0; 256];
                host.ram.read(block[0], &mut input).unwrap();
                let word = |n: usize| u32::from_le_bytes(input[n..n + 4].try_into().unwrap());
                bus.message(word(0), &input[16..][..word(12) as usize], host)
            }
            HypercallCode::SIGNAL_EVENT => bus.signal(block[0] as u32, host),
            other => panic!("{other:?}"),
        };
        HypercallOutput::from_bits(if taken.is_ok() { 0 } else { 0x12 })
    }

    fn fast_output(&self) -> FastOutput {
        FastOutput::AfterInput
    }

    unsafe fn smccc(&self, _: u32, _: [u64; 3]) -> [u64; 4] {
        [u64::MAX; 4]
    }
}
