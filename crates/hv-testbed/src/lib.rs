//! A Hyper-V partition in the same process: how an OS author unit-tests a driver on a laptop, with no VM.
//!
//! A [`Testbed`] is a model of the hypervisor (`hv-partition`) with some guest memory, a clock that moves when the test
//! says so, and an interrupt controller that remembers. A [`Wire`] is a VP of it, seen from the guest: the
//! [`Conduit`](hv_guest::conduit::Conduit) that the routines of `hv-guest` are generic over.
//!
//! ```
//! use hv_guest::{conduit::Conduit, detect, tlfs::guest_id::GuestOsId, vp_map::VpMap};
//! use hv_testbed::{Config, Convention, Testbed};
//!
//! /// The code under test: generic over how a hypercall is issued.
//! fn which_vp(hv: impl Conduit) -> Option<u32> {
//!     let partition = detect::vendor_uid(hv)?.identify(GuestOsId::linux(0x06_0c_00)).ok()?;
//!     let map = VpMap::<4>::new();
//!     Some(partition.vp(&map, 0).ok()?.index().0)
//! }
//!
//! let bed = Testbed::new(Config::new(24_000_000), 4);
//! assert_eq!(which_vp(bed.wire(3, Convention::Smccc)), Some(3));
//! assert_eq!(which_vp(bed.wire(2, Convention::Hvc1)), Some(2));
//! ```
//!
//! Drivers of VMBus meet the hosts that break the rules in [`scripted`]: there the test is the host.
//!
//! VPs may run in threads: wires can be sent. A testbed lives as long as the process: guest memory has to, and tests
//! are short.

pub mod foreign;
mod host;
mod memory;
pub mod scripted;
pub mod scripted_card;
mod wire;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hv_guest::page::{CallPage, Memory, Page};
use hv_partition::testing::Lock;
use hv_partition::{Bus, Host, Partition, RawMutex};
use hv_tlfs::status::HvStatus;
use hv_tlfs::synic::MessageType;
use hv_tlfs::time::{CLOCK_HZ, ReferenceTime};
use hv_tlfs::vmbus::{ChannelId, Version};

pub use hv_partition::testing::Effect;
pub use hv_partition::{Action, Config, Convention, Flush, Port, PortTarget, Profile, VpContext, VpMask};
pub use memory::{RAM_BASE, Ram};
pub use wire::{Bed, VpInterrupts, Wire};

use host::{Embedder, Surroundings};
use memory::PAGES;
use wire::{Behind, Gic};

/// A partition with its surroundings.
#[derive(Debug)]
pub struct Testbed {
    partition: Partition<'static, Lock>,
    host: Embedder,
    hypercalls: AtomicUsize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A test that failed in another thread is no reason to fail here too.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Testbed {
    /// Creates a partition with `vps` VPs, all running, and no guest OS id yet.
    #[must_use]
    pub fn new(config: Config, vps: usize) -> &'static Self {
        Self::with_ports(config, vps, Vec::new())
    }

    /// Does the same as [`new`](Self::new), with connections that the guest can post and signal to.
    #[must_use]
    pub fn with_ports(config: Config, vps: usize, ports: Vec<Port>) -> &'static Self {
        let states: Vec<hv_partition::Vp<Lock>> = (0..vps).map(|_| hv_partition::Vp::new()).collect();
        let bus = Bus::with_offers(config.vmbus, config.offers);
        let bed: &'static Self = Box::leak(Box::new(Self {
            partition: Partition::new(
                config.hypervisor,
                states.leak(),
                ports.leak(),
                Box::leak(Box::new(bus)),
            ),
            host: Embedder::with(vps, Ram::new(PAGES), Surroundings::new(vps)),
            hypercalls: AtomicUsize::new(0),
        }));
        bed.partition.reset(&bed.host);
        for vp in 0..vps {
            bed.partition.vp_online(&bed.host, vp);
        }
        bed.take_effects();
        bed
    }

    fn effects(&self) -> MutexGuard<'_, Vec<Effect>> {
        lock(&self.host.watch().effects)
    }

    /// Returns the hypervisor, for a test that looks deeper.
    #[must_use]
    pub fn partition(&self) -> &Partition<'static, impl RawMutex + use<>> {
        &self.partition
    }

    /// Returns a VP, as the guest's code on it sees it.
    #[must_use]
    pub fn wire(&'static self, vp: usize, convention: Convention) -> Wire {
        assert!(vp < self.partition.vp_count(), "the testbed has no VP {vp}");
        Wire { bed: self, vp, convention }
    }

    /// Returns the interrupt controller of a VP.
    #[must_use]
    pub fn interrupts(&'static self, vp: usize) -> VpInterrupts {
        VpInterrupts { bed: self, vp }
    }

    /// Allocates a page of guest memory, all zeros. There are a few hundred.
    #[must_use]
    pub fn page(&self) -> &'static Page {
        &self.pages(1)[0]
    }

    /// Allocates this number of consecutive pages of guest memory, all zeros.
    #[must_use]
    pub fn pages(&self, count: usize) -> &'static [Page] {
        self.host.memory().allocate(count).expect("the testbed is out of guest memory")
    }

    /// Allocates a page of guest memory for the parameters of hypercalls.
    #[must_use]
    pub fn call_page(&self) -> CallPage<'static> {
        CallPage::new(self.page(), self.memory())
    }

    /// Returns the memory in which the guest's pages are.
    #[must_use]
    pub fn memory(&self) -> &impl Memory {
        self.host.memory()
    }

    /// Returns the page of guest memory at this address.
    #[must_use]
    pub fn page_at(&self, gpa: u64) -> Option<&'static Page> {
        self.host.memory().page(gpa)
    }

    /// Returns the number of hypercalls that the guest has made, on whichever VP.
    pub fn hypercalls(&self) -> usize {
        self.hypercalls.load(Ordering::Relaxed)
    }

    /// Returns the guest's counter (CNTVCT_EL0).
    pub fn counter(&self) -> u64 {
        self.host.counter_now()
    }

    /// Sets the guest's counter, with no effect on timers.
    pub fn set_counter(&self, ticks: u64) {
        self.host.set_counter(ticks);
    }

    /// Makes every look at the counter move it on by this much.
    pub fn set_counter_step(&self, ticks: u64) {
        self.host.set_counter_step(ticks);
    }

    /// Lets time pass, and timers that are due expire.
    pub fn advance(&self, time: ReferenceTime) {
        let frequency = u128::from(self.partition.config().counter_frequency);
        let ticks = (u128::from(time.ticks()) * frequency).div_ceil(u128::from(CLOCK_HZ)) as u64;
        self.host.advance_counter(ticks);
        self.host.due().for_each(|vp| self.partition.timer_expired(&self.host, vp));
    }

    /// Switches a VP off, as its PSCI CPU_OFF does: it can be started again.
    pub fn switch_off(&self, vp: usize) {
        self.partition.vp_offline(&self.host, vp);
    }

    /// Lets a VP run that the guest has started ([`Effect::Start`]).
    pub fn switch_on(&self, vp: usize) {
        self.partition.vp_online(&self.host, vp);
    }

    /// Returns the reference time, as the hypervisor sees it.
    #[must_use]
    pub fn reference_time(&self) -> ReferenceTime {
        self.partition.reference_time(&self.host)
    }

    /// Migrates the guest to a host whose counter has another frequency and value.
    pub fn migrate(&self, frequency: u64, counter: u64) {
        let now = self.reference_time();
        self.set_counter(counter);
        self.partition.migrate(&self.host, frequency, now);
    }

    /// Says in the reference TSC page that it is not valid, or that it is again.
    pub fn set_reference_tsc_valid(&self, valid: bool) {
        self.partition.set_reference_tsc_valid(&self.host, valid);
    }

    /// Posts a message to a source of a VP, as the host does.
    ///
    /// # Errors
    ///
    /// The hypervisor's status.
    pub fn post(
        &self,
        vp: usize,
        sint: u8,
        message_type: MessageType,
        payload: &[u8],
    ) -> Result<(), HvStatus> {
        self.partition.post_message(&self.host, vp, sint, message_type, 0, payload)
    }

    /// Sets an event flag of a source of a VP, as the host does.
    ///
    /// # Errors
    ///
    /// The hypervisor's status.
    pub fn signal(&self, vp: usize, sint: u8, flag: u16) -> Result<bool, HvStatus> {
        self.partition.signal_event(&self.host, vp, sint, flag)
    }

    /// Takes a channel of VMBus away, as the host does with a device that is removed. Returns false if it is not
    /// offered.
    pub fn rescind(&self, channel: u32) -> bool {
        self.partition.with_vmbus(&self.host, |vmbus| vmbus.rescind(ChannelId(channel)))
    }

    /// Returns the version of VMBus that guest and host agreed on, while a connection stands.
    pub fn vmbus_version(&self) -> Option<Version> {
        self.partition.with_vmbus(&self.host, |vmbus| vmbus.version())
    }

    /// Returns what the hypervisor did beyond registers and memory since the last call.
    pub fn take_effects(&self) -> Vec<Effect> {
        std::mem::take(&mut *self.effects())
    }

    /// Takes the lowest interrupt that is pending and enabled on a VP: what the CPU would acknowledge.
    pub fn take_interrupt(&self, vp: usize) -> Option<u8> {
        self.gic(vp).take()
    }

    /// Returns true if an interrupt is enabled on a VP.
    #[must_use]
    pub fn is_enabled(&self, vp: usize, intid: u8) -> bool {
        self.gic(vp).enabled[usize::from(intid) / 64] >> (intid % 64) & 1 != 0
    }
}

impl Behind for Testbed {
    fn hvc(&self, vp: usize, immediate: u16, x: &mut [u64; 31]) -> Action {
        self.partition.hvc(&self.host, vp, immediate, x)
    }

    fn called(&self) {
        self.hypercalls.fetch_add(1, Ordering::Relaxed);
    }

    fn effect(&self, effect: Effect) {
        self.effects().push(effect);
    }

    fn counter(&self) -> u64 {
        Host::counter(&self.host)
    }

    fn gic(&self, vp: usize) -> MutexGuard<'_, Gic> {
        lock(&self.host.watch().gic[vp])
    }
}
