//! What the tests share.

use hv_guest::detect;
use hv_guest::interrupts::Intid;
use hv_guest::partition::{Partition, Vp};
use hv_guest::synic::Synic;
use hv_guest::vp_map::VpMap;
use hv_testbed::{Config, Convention, Port, PortTarget, Testbed, Wire};
use hv_tlfs::guest_id::GuestOsId;

pub(crate) const FREQUENCY: u64 = 62_500_000;
pub(crate) const ID: GuestOsId = GuestOsId::linux(0x06_0c_75);
/// The VMBus interrupt by convention.
pub(crate) const VMBUS: u32 = 18;
/// A message connection and an event connection, both to VP 0.
pub(crate) const MESSAGES: u32 = 100;
pub(crate) const EVENTS: u32 = 101;

/// A guest that has introduced itself.
pub(crate) struct Guest {
    pub(crate) bed: &'static Testbed,
    pub(crate) convention: Convention,
    pub(crate) partition: &'static Partition<Wire>,
    pub(crate) map: &'static VpMap<4>,
    pub(crate) vps: usize,
}

/// Runs a test over each convention with each number of VPs.
pub(crate) fn everywhere(test: impl Fn(&Guest)) {
    everywhere_on(Config::new(FREQUENCY), test);
}

/// Conventions and numbers of VPs. Miri, a thousand times slower, looks at what unsafe code does: that is the same in
/// all.
const CONVENTIONS: &[Convention] =
    if cfg!(miri) { &[Convention::Smccc] } else { &[Convention::Smccc, Convention::Hvc1] };
const VPS: &[usize] = if cfg!(miri) { &[2] } else { &[1, 2, 4] };

/// Returns the number of repetitions: fewer under Miri.
pub(crate) const fn often(times: usize) -> usize {
    if cfg!(miri) { times.div_ceil(100) } else { times }
}

/// Runs a test everywhere, with a configuration of its own.
pub(crate) fn everywhere_on(config: Config, test: impl Fn(&Guest)) {
    for &convention in CONVENTIONS {
        for &vps in VPS {
            test(&Guest::new(config, convention, vps));
        }
    }
}

impl Guest {
    pub(crate) fn new(config: Config, convention: Convention, vps: usize) -> Self {
        let ports = vec![
            Port::new(MESSAGES, 7, PortTarget::Message { vp: Some(0), sint: 2 }),
            Port::new(EVENTS, 8, PortTarget::Event { vp: Some(0), sint: 2, base: 0, count: 64 }),
        ];
        let bed = Testbed::with_ports(config, vps, ports);
        let hv = detect::vendor_uid(bed.wire(0, convention)).expect("the model says that it is Hyper-V");
        let partition = Box::leak(Box::new(hv.identify(ID).expect("the model takes the guest's id")));
        Self { bed, convention, partition, map: Box::leak(Box::default()), vps }
    }

    /// Returns the partition as VP `n` sees it. A real OS has one handle: its conduit acts on whatever VP executes it.
    pub(crate) fn partition_on(&self, n: usize) -> &'static Partition<Wire> {
        if n == 0 {
            return self.partition;
        }
        let hv =
            detect::vendor_uid(self.bed.wire(n, self.convention)).expect("the model says that it is Hyper-V");
        Box::leak(Box::new(hv.identify(ID).expect("the same id again changes nothing")))
    }

    pub(crate) fn vp(&self, n: usize) -> Vp<'static, Wire> {
        self.partition_on(n).vp(self.map, n).expect("the VP comes up once")
    }

    /// Enables a VP's SynIC, with the VMBus source unmasked.
    pub(crate) fn synic(&self, n: usize) -> Synic<'static, Wire> {
        let mut synic = self
            .vp(n)
            .enable_synic(self.bed.page(), self.bed.page(), self.bed.memory())
            .expect("the model lets the SynIC be enabled");
        synic
            .unmask(hv_guest::synic::SintIndex::VMBUS, intid(VMBUS), &self.bed.interrupts(n))
            .expect("the model lets the source be unmasked");
        synic
    }
}

pub(crate) fn intid(number: u32) -> Intid {
    Intid::new(number).expect("a number from 16 to 255")
}
