//! A VMBus server that is not the hypervisor's: behind the testbed's seam, on threads of its own, with its own pace and
//! order, and of an older protocol.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use hv_devices::scsi;
use hv_devices::storage::{self, CONTROLLERS, Failure, MAX_TRANSFER, Piece, Request, SEGMENTS, Storage};
use hv_drivers::hv_vmbus_client::{Buffer, Client, Contact, Dma, Error, Open, PageRun, Slots, Wait, deliver};
use hv_drivers::storage::{Address, Controller, Disk};
use hv_guest::conduit::{Conduit, FAST_WORDS, FastOutput};
use hv_guest::detect;
use hv_guest::interrupts::Intid;
use hv_guest::page::{Memory, Page};
use hv_guest::partition::Partition;
use hv_guest::synic::{SintIndex, Synic};
use hv_guest::vp_map::VpMap;
use hv_memory::GuestMemory as _;
use hv_testbed::foreign::{Connections, ForeignBed};
use hv_testbed::{Convention, Ram, Wire};
use hv_tlfs::guest_id::GuestOsId;
use hv_tlfs::hypercall::{HypercallInput, HypercallOutput};
use hv_tlfs::status::HvStatus;
use hv_tlfs::synic::MessageType;
use hv_tlfs::time::ReferenceTime;
use hv_tlfs::vmbus::{Guid, guid};
use hv_tlfs::vp::VpIndex;
use hv_vmbus::{Backend, Bus, BusFaults, BusPort, Config, DeviceId, Pages, Posted, Slot, Started, Token};

use crate::host::{InFlight, Lock};
use crate::threads::read_all;

/// Bytes of the disk, and pages of guest memory: as many as a test asks for.
const SIZE: usize = 1 << 20;
const PAGES: usize = 4096;
const REQUESTS: u32 = 200;
/// The same for a test with many machines.
const FEW_PAGES: usize = 512;
const FEW_REQUESTS: u32 = 24;
/// How long the server takes for each message and signal.
const PACE: Duration = Duration::from_micros(300);
/// How long the guest waits: far longer than the server takes, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long it waits for what never comes.
const SHORT: Duration = Duration::from_millis(300);
/// The newest storage protocol of the server.
const NEWEST: u32 = 6 << 16;

hv_vmbus::devices! {
    /// A controller alone.
    struct Devices {
        disks: Slot<Lock, Storage<8>, 3, 8, SEGMENTS>,
    }
}

/// The server's side of the partition.
struct Port {
    bed: &'static ForeignBed,
    disk: Vec<u8>,
    held: Mutex<Vec<InFlight>>,
    /// How many requests must be in before the first one ends; 0 from then on.
    first: AtomicUsize,
    /// Signals are lost. Who sets it knows that no signal is on its way.
    deaf: Arc<Mutex<bool>>,
}

impl BusPort for Port {
    type Memory = Ram;

    fn memory(&self) -> &Ram {
        self.bed.ram()
    }

    fn reference_time(&self) -> ReferenceTime {
        ReferenceTime(0)
    }

    fn post(&self, vp: u32, sint: u8, payload: &[u8]) -> Posted {
        match self.bed.post(vp as usize, sint, MessageType(1), payload) {
            Ok(()) => Posted::Queued,
            Err(HvStatus::INSUFFICIENT_BUFFERS) => Posted::Full,
            Err(_) => Posted::Undeliverable,
        }
    }

    fn interrupt(&self, vp: u32, sint: u8, flag: u16) {
        let deaf = self.deaf.lock().unwrap();
        if !*deaf {
            let _ = self.bed.signal(vp as usize, sint, flag);
        }
    }

    fn has_vp(&self, vp: u32) -> bool {
        (vp as usize) < self.bed.partition().vp_count()
    }

    fn faults(&self) -> impl BusFaults {
        self
    }
}

impl BusFaults for Port {
    fn refuses(&self, _: &Guid, version: u32) -> bool {
        version > NEWEST
    }
}

impl Backend<Request> for Port {
    fn start(
        &self,
        _: DeviceId,
        token: Token,
        request: &Request,
        data: Pages<'_>,
    ) -> Started<Result<(), Failure>> {
        let parts = data.segments().map(|part| (part.gpa(), part.len())).collect();
        self.held.lock().unwrap().push((token, *request, parts));
        Started::Pending
    }
}

/// What the guest does, for the server's thread.
enum Call {
    Message(u32, Vec<u8>),
    Signal(u32),
    Freed,
}

/// The connections: they take everything at once, and answer nothing.
struct Front(mpsc::Sender<Call>);

impl Connections for Front {
    fn post_message(
        &self,
        _: usize,
        connection: u32,
        _: MessageType,
        payload: &[u8],
    ) -> Result<(), HvStatus> {
        self.0.send(Call::Message(connection, payload.to_vec())).map_err(|_| HvStatus::INVALID_CONNECTION_ID)
    }

    fn signal_event(&self, _: usize, connection: u32, _: u16) -> Result<(), HvStatus> {
        self.0.send(Call::Signal(connection)).map_err(|_| HvStatus::INVALID_CONNECTION_ID)
    }

    fn buffer_freed(&self, _: usize) {
        let _ = self.0.send(Call::Freed);
    }
}

/// Ends what is held, the newest request first; nothing before the first requests are in.
fn end(bus: &Bus<Lock, Devices>, port: &Port) {
    if port.held.lock().unwrap().len() >= port.first.load(Ordering::Relaxed) {
        port.first.store(0, Ordering::Relaxed);
    }
    while port.first.load(Ordering::Relaxed) == 0 {
        let Some((token, request, parts)) = port.held.lock().unwrap().pop() else { return };
        let Piece::Read { offset, len } = request.piece else { panic!("{request:?}") };
        assert_eq!(parts.iter().map(|part| part.1).sum::<u64>(), len);
        let mut at = offset as usize;
        for (gpa, len) in parts {
            port.bed.ram().write(gpa, &port.disk[at..at + len as usize]).unwrap();
            at += len as usize;
        }
        bus.completed(&bus.devices().disks, token, Ok(()), port).unwrap();
    }
}

/// Starts the server, which ends no request before `first` of them are in. Its thread ends with the test's process.
fn serve(bed: &'static ForeignBed, disk: Vec<u8>, first: usize) -> Arc<Mutex<bool>> {
    let (sender, inbox) = mpsc::channel();
    let deaf = Arc::new(Mutex::new(false));
    let port = Port { bed, disk, held: Mutex::default(), first: first.into(), deaf: Arc::clone(&deaf) };
    thread::spawn(move || {
        let mut storage = Storage::new();
        storage.attach(0, 0, 0, scsi::Disk::new(SIZE as u64, [7; 16], MAX_TRANSFER)).unwrap();
        let disks = Slot::offering(storage, storage::offer_of(CONTROLLERS[0]));
        let bus: Bus<Lock, Devices> = Bus::new(Config::DEFAULT, Devices { disks });
        while let Ok(call) = inbox.recv() {
            thread::sleep(PACE);
            match call {
                Call::Message(connection, payload) => drop(bus.message(connection, &payload, &port)),
                Call::Signal(connection) => drop(bus.signal(connection, &port)),
                Call::Freed => bus.flush(&port),
            }
            end(&bus, &port);
        }
    });
    bed.serve(Front(sender));
    deaf
}

thread_local! {
    /// The VP that the thread is.
    static VP: Cell<usize> = const { Cell::new(0) };
}

/// The way to the hypervisor of the VP that calls.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cpu {
    bed: &'static ForeignBed,
    convention: Convention,
}

impl Cpu {
    fn wire(self) -> Wire<ForeignBed> {
        self.bed.wire(VP.get(), self.convention)
    }
}

#[expect(unsafe_code, reason = "passes calls on")]
impl Conduit for Cpu {
    unsafe fn call(&self, control: HypercallInput, block: &mut [u64; FAST_WORDS]) -> HypercallOutput {
        // SAFETY: the caller vouches for the effects of exactly this call.
        unsafe { self.wire().call(control, block) }
    }

    fn fast_output(&self) -> FastOutput {
        self.wire().fast_output()
    }

    unsafe fn smccc(&self, function: u32, arguments: [u64; 3]) -> [u64; 4] {
        // SAFETY: the caller vouches for the effects of exactly this call.
        unsafe { self.wire().smccc(function, arguments) }
    }
}

/// The guest's allocator, for pages of `GRANULE` times 4096 bytes.
#[derive(Clone, Copy)]
pub(crate) struct BedDma<const GRANULE: usize>(pub(crate) &'static ForeignBed);

// SAFETY: the address at which the machine finds the page.
#[expect(unsafe_code, reason = "vouches for the machine's memory")]
unsafe impl<const GRANULE: usize> Memory for BedDma<GRANULE> {
    fn gpa(&self, page: &Page) -> u64 {
        self.0.ram().gpa(page)
    }
}

// SAFETY: each page is given once, is neighbour to the next, and is never freed.
#[expect(unsafe_code, reason = "vouches for the machine's memory")]
unsafe impl<const GRANULE: usize> Dma for BedDma<GRANULE> {
    const GRANULE: usize = GRANULE;

    fn allocate(&self, count: usize) -> Option<std::ptr::NonNull<[Page]>> {
        assert!(count > 0 && count.is_multiple_of(GRANULE), "{count} pages");
        self.0.ram().allocate(count).map(Into::into)
    }

    unsafe fn free(&self, _: std::ptr::NonNull<[Page]>) {}
}

/// A machine with the server and a disk.
pub(crate) struct Machine {
    pub(crate) bed: &'static ForeignBed,
    pub(crate) cpu: Cpu,
    pub(crate) partition: &'static Partition<Cpu>,
    pub(crate) content: Vec<u8>,
    map: &'static VpMap<4>,
    deaf: Arc<Mutex<bool>>,
}

impl Machine {
    /// Starts one with `pages` pages of memory. Its server ends no request before `first` of them are in.
    pub(crate) fn new(convention: Convention, vps: usize, pages: usize, first: usize) -> Self {
        let bed = ForeignBed::new(hv_host::Config::new(24_000_000), vps, pages);
        let content: Vec<u8> = (0..SIZE).map(|n| (n / 512 * 31 + n % 509) as u8).collect();
        let deaf = serve(bed, content.clone(), first);
        let cpu = Cpu { bed, convention };
        let partition = detect::vendor_uid(cpu).unwrap().identify(GuestOsId::linux(0x06_0c_00)).unwrap();
        let map = Box::leak(Box::new(VpMap::new()));
        Self { bed, cpu, partition: Box::leak(Box::new(partition)), content, map, deaf }
    }

    /// Enables the SynIC of the VP that the calling thread is.
    fn synic(&self) -> Synic<'static, Cpu> {
        let (bed, n) = (self.bed, VP.get());
        let vp = self.partition.vp(self.map, n).unwrap();
        let mut synic = vp.enable_synic(bed.page(), bed.page(), bed.ram()).unwrap();
        synic.unmask(SintIndex::VMBUS, INTID, &bed.interrupts(n)).unwrap();
        synic
    }

    /// Makes contact, and waits for the offers.
    fn client(&self, os: &mut Os<'_>) -> Client<'static, Cpu> {
        let slots: &'static Slots<12, 24> = Box::leak(Box::new(Slots::new()));
        // SAFETY: it gets this machine's messages, whose memory all pages are; no page is used twice.
        #[expect(unsafe_code, reason = "vouches for messages and memory")]
        let mut client = unsafe { Client::new(self.cpu, self.bed.call_page(), slots.lend().unwrap()) };
        client.connect(Contact::new(VpIndex(0)), os).unwrap();
        client
    }
}

/// VMBus's interrupt.
pub(crate) const INTID: Intid = match Intid::new(18) {
    Some(intid) => intid,
    None => panic!("18 is a PPI"),
};

/// The guest's OS on a VP: it sleeps until the VP is interrupted, and looks at nothing before.
#[derive(Clone, Copy)]
pub(crate) struct Os<'s> {
    pub(crate) synic: &'s Synic<'static, Cpu>,
    pub(crate) bed: &'static ForeignBed,
}

impl Os<'_> {
    fn sleep(&self, limit: Duration) -> Result<(), Error> {
        self.bed.wait(VP.get(), limit).ok_or(Error::TimedOut)?;
        self.synic.take_events(SintIndex::VMBUS, |_| {});
        Ok(())
    }

    /// Waits for as long as the server may take.
    pub(crate) fn pause(&self) -> Result<(), Error> {
        self.sleep(PATIENCE)
    }
}

impl Wait<Cpu, ()> for Os<'_> {
    fn wait(&mut self, client: &mut Client<'_, Cpu>) -> Result<(), Error> {
        self.pause()?;
        while deliver(self.synic, SintIndex::VMBUS, client) {}
        Ok(())
    }
}

/// A controller, with eight requests in flight.
type Scsi<const GRANULE: usize> = Controller<'static, BedDma<GRANULE>, Cpu, u32, 8>;

/// Initializes the controller, and finds the disk.
fn find<const GRANULE: usize>(controller: &mut Scsi<GRANULE>, os: &Os<'_>) -> Disk {
    controller.wait_ready(&mut || os.pause()).unwrap();
    assert_eq!(controller.version(), 0x600);
    let address = Address { path: 0, target: 0, lun: 0 };
    controller.disk(address, &mut || os.pause()).unwrap().unwrap()
}

/// Makes contact on VP 0, and has the last VP use the disk: it is the channel's target, and a thread of its own.
fn one_case<const GRANULE: usize>(convention: Convention, vps: usize) {
    let machine = Machine::new(convention, vps, FEW_PAGES, 2);
    let (last, dma) = (vps - 1, BedDma::<GRANULE>(machine.bed));
    let synic = machine.synic();
    let mut os = Os { synic: &synic, bed: machine.bed };
    let mut client = machine.client(&mut os);
    let offer = client.find(guid::SCSI).unwrap();
    let read = |controller: &mut Scsi<GRANULE>, os: &Os<'_>| {
        let disk = find(controller, os);
        let disorder = read_all(controller, &disk, &machine.content, FEW_REQUESTS, &dma, || os.pause());
        assert!(disorder > 0, "no request has overtaken another");
    };
    let mut open = |os: &mut Os<'_>| {
        let open = Open::on(VpIndex(last as u32));
        Controller::new(client.open_channel(&offer, 8, open, &dma, os).unwrap(), dma)
    };
    let controller = if last == 0 {
        let mut controller = open(&mut os);
        read(&mut controller, &os);
        controller
    } else {
        thread::scope(|scope| {
            let ((ready, is_ready), (give, given)) = (mpsc::channel(), mpsc::channel());
            let (machine, read) = (&machine, &read);
            let vp = scope.spawn(move || {
                VP.set(last);
                let synic = machine.synic();
                ready.send(()).unwrap();
                let mut controller: Scsi<GRANULE> = given.recv().unwrap();
                read(&mut controller, &Os { synic: &synic, bed: machine.bed });
                controller
            });
            // The host interrupts a VP whose SynIC is on.
            is_ready.recv().unwrap();
            give.send(open(&mut os)).unwrap();
            vp.join().unwrap()
        })
    };
    let closing = controller.close(&mut client).unwrap();
    client.block_on(closing, &mut os).unwrap();
    client.disconnect(&mut os).unwrap();
}

#[test]
fn a_disk_is_read_by_both_conventions_on_one_to_four_vps_with_each_page_size() {
    for convention in [Convention::Smccc, Convention::Hvc1] {
        for vps in [1, 2, 4] {
            one_case::<1>(convention, vps);
            one_case::<4>(convention, vps);
            one_case::<16>(convention, vps);
        }
    }
}

#[test]
fn a_server_on_threads_of_its_own_serves_a_disk_slowly_and_in_another_order() {
    let machine = Machine::new(Convention::Smccc, 1, PAGES, 2);
    let synic = machine.synic();
    let mut os = Os { synic: &synic, bed: machine.bed };
    let mut client = machine.client(&mut os);
    let offer = client.find(guid::SCSI).unwrap();
    let dma = BedDma::<1>(machine.bed);
    let channel = client.open_channel(&offer, 8, Open::on(VpIndex(0)), &dma, &mut os).unwrap();
    let mut controller: Scsi<1> = Controller::new(channel, dma);
    let disk = find(&mut controller, &os);

    let disorder = read_all(&mut controller, &disk, &machine.content, REQUESTS, &dma, || os.pause());
    assert!(disorder > 0, "no request has overtaken another");

    // The completion comes, and its signal does not: nothing wakes the guest.
    *machine.deaf.lock().unwrap() = true;
    while os.sleep(Duration::ZERO).is_ok() {}
    let data = Buffer { pages: PageRun::new(&dma, 1).unwrap(), offset: 0, len: 1024 };
    controller.submit_read(REQUESTS, &disk, 0, data).unwrap();
    assert_eq!(os.sleep(SHORT), Err(Error::TimedOut));
    let end = Instant::now() + PATIENCE;
    while controller.poll().unwrap().is_none() {
        assert!(Instant::now() < end, "the request never ends");
        thread::yield_now();
    }
    *machine.deaf.lock().unwrap() = false;
    let closing = controller.close(&mut client).unwrap();
    client.block_on(closing, &mut os).unwrap();
}
