//! A guest on a testbed: its memory, its SynIC, and its client.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};

use hv_devices::any::Offer;
use hv_guest::conduit::{Conduit, FAST_WORDS, FastOutput};
use hv_guest::detect;
use hv_guest::interrupts::Intid;
use hv_guest::page::{Memory, Page};
use hv_guest::partition::Partition;
use hv_guest::synic::{SintIndex, Synic};
use hv_guest::vp_map::VpMap;
use hv_testbed::{Config, Convention, Testbed, Wire};
use hv_tlfs::guest_id::GuestOsId;
use hv_tlfs::hypercall::{HypercallCode, HypercallInput, HypercallOutput};
use hv_tlfs::status::HvStatus;
use hv_tlfs::vp::VpIndex;
use hv_vmbus_client::{Client, Contact, Dma, Error, Slots, Wait, deliver};

/// The guest's pages: they come from the testbed, which never takes any back, and are counted.
#[derive(Debug)]
pub(crate) struct Pages<const GRANULE: usize> {
    bed: &'static Testbed,
    /// Pages that were allocated and not freed.
    pub(crate) live: AtomicUsize,
}

pub(crate) type Allocator<const GRANULE: usize> = &'static Pages<GRANULE>;

impl<const GRANULE: usize> Pages<GRANULE> {
    pub(crate) fn live(&self) -> usize {
        self.live.load(Ordering::Relaxed)
    }
}

// SAFETY: addresses of the testbed's pages, as the testbed vouches for them.
#[expect(unsafe_code, reason = "vouches for the testbed's memory")]
unsafe impl<const GRANULE: usize> Memory for Pages<GRANULE> {
    fn gpa(&self, page: &Page) -> u64 {
        self.bed.memory().gpa(page)
    }
}

/// A reference that is an allocator: `Dma` asks for `Clone`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TestDma<const GRANULE: usize>(pub(crate) Allocator<GRANULE>);

// SAFETY: forwards to the allocator, which keeps the contract.
#[expect(unsafe_code, reason = "vouches for the testbed's memory")]
unsafe impl<const GRANULE: usize> Memory for TestDma<GRANULE> {
    fn gpa(&self, page: &Page) -> u64 {
        self.0.gpa(page)
    }
}

// SAFETY: the testbed gives each page to one caller, never frees any, and its pages are neighbours.
#[expect(unsafe_code, reason = "vouches for the testbed's memory")]
unsafe impl<const GRANULE: usize> Dma for TestDma<GRANULE> {
    const GRANULE: usize = GRANULE;

    fn allocate(&self, count: usize) -> Option<NonNull<[Page]>> {
        assert!(count > 0 && count.is_multiple_of(GRANULE), "{count} pages");
        self.0.live.fetch_add(count, Ordering::Relaxed);
        Some(NonNull::from(self.0.bed.pages(count)))
    }

    unsafe fn free(&self, pages: NonNull<[Page]>) {
        self.0.live.fetch_sub(pages.len(), Ordering::Relaxed);
    }
}

/// A wire that now and then has no buffer for a message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flaky {
    wire: Wire,
    /// Of this many messages all but one find no buffer; 0: every message finds one.
    every: usize,
    count: &'static AtomicUsize,
}

#[expect(unsafe_code, reason = "passes calls on")]
impl Conduit for Flaky {
    unsafe fn call(&self, control: HypercallInput, block: &mut [u64; FAST_WORDS]) -> HypercallOutput {
        if control.code() == HypercallCode::POST_MESSAGE && self.every > 0 {
            let count = self.count.fetch_add(1, Ordering::Relaxed);
            if !count.is_multiple_of(self.every) {
                return HypercallOutput::from_bits(HvStatus::INSUFFICIENT_BUFFERS.0.into());
            }
        }
        // SAFETY: the caller vouches for the effects of exactly this call.
        unsafe { self.wire.call(control, block) }
    }

    fn fast_output(&self) -> FastOutput {
        self.wire.fast_output()
    }

    unsafe fn smccc(&self, function: u32, arguments: [u64; 3]) -> [u64; 4] {
        // SAFETY: the caller vouches for the effects of exactly this call.
        unsafe { self.wire.smccc(function, arguments) }
    }
}

/// The interrupt of VMBus's source.
pub(crate) const INTID: u8 = 18;

/// A guest that has enabled the SynIC of one VP, and unmasked one source.
pub(crate) struct Guest<const GRANULE: usize> {
    pub(crate) bed: &'static Testbed,
    pub(crate) sint: SintIndex,
    pub(crate) wire: Flaky,
    pub(crate) synic: &'static Synic<'static, Wire>,
    pub(crate) dma: TestDma<GRANULE>,
}

pub(crate) type TestClient = Client<'static, Flaky>;

pub(crate) const BOTH: [Convention; 2] = [Convention::Smccc, Convention::Hvc1];
/// What the tests' hosts offer.
pub(crate) static OFFERS: [Offer; 2] = [Offer::ECHO, Offer::HEARTBEAT];

pub(crate) fn config() -> Config {
    Config::new(24_000_000).with_offers(&OFFERS)
}

impl<const GRANULE: usize> Guest<GRANULE> {
    /// Creates one that hears the host on VP 0, by the source that VMBus usually has.
    pub(crate) fn new(config: Config, convention: Convention, vps: usize) -> Self {
        Self::hearing(config, convention, vps, (0, SintIndex::VMBUS))
    }

    /// Creates one that hears the host on this VP, by this source.
    pub(crate) fn hearing(
        config: Config,
        convention: Convention,
        vps: usize,
        (vp, sint): (usize, SintIndex),
    ) -> Self {
        let bed = Testbed::new(config, vps);
        let wire = bed.wire(vp, convention);
        let hv = detect::vendor_uid(wire).expect("Hyper-V");
        let partition: &'static Partition<Wire> =
            Box::leak(Box::new(hv.identify(GuestOsId::linux(0x06_0c_00)).unwrap()));
        let map: &'static VpMap<4> = Box::leak(Box::new(VpMap::new()));
        let interrupts = bed.interrupts(vp);
        let vp = partition.vp(map, vp).unwrap();
        let mut synic = vp.enable_synic(bed.page(), bed.page(), bed.memory()).unwrap();
        synic.unmask(sint, Intid::new(INTID.into()).unwrap(), &interrupts).unwrap();
        let wire = Flaky { wire, every: 0, count: Box::leak(Box::default()) };
        let pages = Box::leak(Box::new(Pages { bed, live: AtomicUsize::new(0) }));
        Self { bed, sint, wire, synic: Box::leak(Box::new(synic)), dma: TestDma(pages) }
    }

    /// Makes the host take every `every`th message only.
    pub(crate) fn flaky(mut self, every: usize) -> Self {
        self.wire.every = every;
        self
    }

    pub(crate) fn client(&self) -> TestClient {
        let slots: &'static Slots<8, 16> = Box::leak(Box::new(Slots::new()));
        let page = self.bed.call_page();
        // SAFETY: the tests give it the messages of the testbed that the wire leads to, whose memory all pages are; and
        // no page is ever used for anything else.
        #[expect(unsafe_code, reason = "vouches for messages and memory")]
        unsafe {
            Client::new(self.wire, page, slots.lend().unwrap())
        }
    }

    /// Creates a client that has made contact and has the offers.
    pub(crate) fn connected(&self) -> TestClient {
        let mut client = self.client();
        client.connect(Contact::new(VpIndex(0)), &mut self.os()).unwrap();
        client
    }

    /// Returns the wait of the tests: the testbed answers at once, so a wait without a message never ends.
    pub(crate) fn os(&self) -> Os {
        Os { synic: self.synic, sint: self.sint, idle: 0 }
    }
}

pub(crate) struct Os {
    synic: &'static Synic<'static, Wire>,
    sint: SintIndex,
    idle: usize,
}

impl Wait<Flaky, ()> for Os {
    fn wait(&mut self, client: &mut Client<'_, Flaky>) -> Result<(), Error> {
        if deliver(self.synic, self.sint, client) {
            self.idle = 0;
        } else {
            self.idle += 1;
        }
        // A flaky wire takes a few attempts.
        if self.idle > 100 { Err(Error::TimedOut) } else { Ok(()) }
    }
}
