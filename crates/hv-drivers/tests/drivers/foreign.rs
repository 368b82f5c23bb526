//! A VMBus server that is not the hypervisor's: behind the testbed's seam, on threads of its own, with its own pace and
//! order, and of an older protocol.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use hv_devices::scsi::Disk;
use hv_devices::storage::{self, CONTROLLERS, Failure, MAX_TRANSFER, Piece, Request, SEGMENTS, Storage};
use hv_drivers::hv_vmbus_client::{Buffer, Client, Contact, Dma, Error, Open, PageRun, Slots, Wait, deliver};
use hv_drivers::storage::{Address, Controller};
use hv_guest::detect;
use hv_guest::interrupts::Intid;
use hv_guest::page::{Memory, Page};
use hv_guest::synic::{SintIndex, Synic};
use hv_guest::vp_map::VpMap;
use hv_memory::GuestMemory as _;
use hv_testbed::foreign::{Connections, ForeignBed};
use hv_testbed::{Convention, Ram, Wire};
use hv_tlfs::guest_id::GuestOsId;
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
    /// The first two requests are not in yet.
    begins: AtomicBool,
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
        vp == 0
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

/// Ends what is held, the newest request first; nothing before the first two requests are in.
fn end(bus: &Bus<Lock, Devices>, port: &Port) {
    if port.held.lock().unwrap().len() > 1 {
        port.begins.store(false, Ordering::Relaxed);
    }
    while !port.begins.load(Ordering::Relaxed) {
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

/// Starts the server. Its thread ends with the test's process.
fn serve(bed: &'static ForeignBed, disk: Vec<u8>) -> Arc<Mutex<bool>> {
    let (sender, inbox) = mpsc::channel();
    let deaf = Arc::new(Mutex::new(false));
    let port = Port { bed, disk, held: Mutex::default(), begins: true.into(), deaf: Arc::clone(&deaf) };
    thread::spawn(move || {
        let mut storage = Storage::new();
        storage.attach(0, 0, 0, Disk::new(SIZE as u64, [7; 16], MAX_TRANSFER)).unwrap();
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

/// The guest's allocator.
#[derive(Clone, Copy)]
struct BedDma(&'static ForeignBed);

// SAFETY: the address at which the machine finds the page.
#[expect(unsafe_code, reason = "vouches for the machine's memory")]
unsafe impl Memory for BedDma {
    fn gpa(&self, page: &Page) -> u64 {
        self.0.ram().gpa(page)
    }
}

// SAFETY: each page is given once, is neighbour to the next, and is never freed.
#[expect(unsafe_code, reason = "vouches for the machine's memory")]
unsafe impl Dma for BedDma {
    fn allocate(&self, count: usize) -> Option<std::ptr::NonNull<[Page]>> {
        self.0.ram().allocate(count).map(Into::into)
    }

    unsafe fn free(&self, _: std::ptr::NonNull<[Page]>) {}
}

type Conduit = Wire<ForeignBed>;

/// The guest's OS: it sleeps until the VP is interrupted, and looks at nothing before.
#[derive(Clone, Copy)]
struct Os<'s> {
    synic: &'s Synic<'static, Conduit>,
    bed: &'static ForeignBed,
}

impl Os<'_> {
    fn sleep(&self, limit: Duration) -> Result<(), Error> {
        self.bed.wait(0, limit).ok_or(Error::TimedOut)?;
        self.synic.take_events(SintIndex::VMBUS, |_| {});
        Ok(())
    }
}

impl Wait<Conduit, ()> for Os<'_> {
    fn wait(&mut self, client: &mut Client<'_, Conduit>) -> Result<(), Error> {
        self.sleep(PATIENCE)?;
        while deliver(self.synic, SintIndex::VMBUS, client) {}
        Ok(())
    }
}

#[test]
fn a_server_on_threads_of_its_own_serves_a_disk_slowly_and_in_another_order() {
    let bed = ForeignBed::new(hv_host::Config::new(24_000_000), 1, PAGES);
    let content: Vec<u8> = (0..SIZE).map(|n| (n / 512 * 31 + n % 509) as u8).collect();
    let deaf = serve(bed, content.clone());
    let wire = bed.wire(0, Convention::Smccc);
    let partition = detect::vendor_uid(wire).unwrap().identify(GuestOsId::linux(0x06_0c_00)).unwrap();
    let partition = Box::leak(Box::new(partition));
    let map: &'static VpMap<1> = Box::leak(Box::new(VpMap::new()));
    let mut synic = partition.vp(map, 0).unwrap().enable_synic(bed.page(), bed.page(), bed.ram()).unwrap();
    synic.unmask(SintIndex::VMBUS, Intid::new(18).unwrap(), &bed.interrupts(0)).unwrap();
    let mut os = Os { synic: &synic, bed };
    let slots: &'static Slots<12, 24> = Box::leak(Box::new(Slots::new()));
    // SAFETY: it gets this machine's messages, whose memory all pages are; no page is used twice.
    #[expect(unsafe_code, reason = "vouches for messages and memory")]
    let mut client = unsafe { Client::new(wire, bed.call_page(), slots.lend().unwrap()) };
    client.connect(Contact::new(VpIndex(0)), &mut os).unwrap();

    let offer = client.find(guid::SCSI).unwrap();
    let dma = BedDma(bed);
    let channel = client.open_channel(&offer, 8, Open::on(VpIndex(0)), &dma, &mut os).unwrap();
    let mut controller: Controller<'_, _, _, u32, 8> = Controller::new(channel, dma);
    let mut pause = || os.sleep(PATIENCE);
    controller.wait_ready(&mut pause).unwrap();
    assert_eq!(controller.version(), 0x600);
    let disk = controller.disk(Address { path: 0, target: 0, lun: 0 }, &mut pause).unwrap().unwrap();

    let disorder = read_all(&mut controller, &disk, &content, REQUESTS, &dma, &mut pause);
    assert!(disorder > 0, "no request has overtaken another");

    // The completion comes, and its signal does not: nothing wakes the guest.
    *deaf.lock().unwrap() = true;
    while os.sleep(Duration::ZERO).is_ok() {}
    let data = Buffer { pages: PageRun::new(&dma, 1).unwrap(), offset: 0, len: 1024 };
    controller.submit_read(REQUESTS, &disk, 0, data).unwrap();
    assert_eq!(os.sleep(SHORT), Err(Error::TimedOut));
    let end = Instant::now() + PATIENCE;
    while controller.poll().unwrap().is_none() {
        assert!(Instant::now() < end, "the request never ends");
        thread::yield_now();
    }
    *deaf.lock().unwrap() = false;
    let closing = controller.close(&mut client).unwrap();
    client.block_on(closing, &mut os).unwrap();
}
