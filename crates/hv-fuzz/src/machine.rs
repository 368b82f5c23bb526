//! A partition with its embedder, which watches that the partition keeps its promises.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt::Write as _;

use hv_devices::any::Offer;
use hv_partition::faults::{Faults, Injection, Injector, Plan, Raise, Timed};
use hv_partition::strict::{Finding, Judge};
use hv_partition::testing::{Effect, Lock, Observed, TestHost, Watch};
use hv_partition::{
    Action, Bus, Cause, Config, Event, Faulty, GuestMemory as _, Host as _, Partition, Port, PortTarget,
    Power, Profile, TimerEvent, Vp,
};
use hv_tlfs::hypercall::HypercallCode;
use hv_tlfs::register::RegisterName;
use hv_tlfs::smccc::HYPERCALL;
use hv_tlfs::status::HvStatus;
use hv_tlfs::time::ReferenceTime;

use crate::input::Input;
use crate::memory::{Memory, RAM, RAM_SIZE};

/// VPs of a machine. Hypercalls that name sets of VPs have more work with the large one.
pub(crate) const VPS: usize = 4;
pub(crate) const MANY_VPS: usize = 70;
pub(crate) const FREQUENCY: u64 = 62_500_000;
/// Rounds after which a hypercall that goes back to the guest has made no progress: the most elements, and one more.
const ROUNDS: usize = 4096;

/// Faults that can be injected; the first is none.
const PLANS: [&str; 12] = [
    "",
    "buffers@/3",
    "delay@/2",
    "again",
    "call=any:0x13@10%,seed=5",
    "lost@/3",
    "twice@/2",
    "migrate@1ms",
    "silent=2ms@5ms",
    "disturb=messages@1ms,disturb=events@2ms,disturb=time@1ms,seed=9",
    "delay@40%,buffers@30%,again@/2,migrate@3ms,seed=3",
    "spurious=18@1ms,lost=18@/4,silent=1ms@2ms,delay@/5",
];

/// Writer that counts what is written to it.
struct Sink(usize);

impl std::fmt::Write for Sink {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0 += text.len();
        Ok(())
    }
}

/// Observer that checks whether what the partition does is possible.
pub(crate) struct Watcher {
    starts: RefCell<VecDeque<usize>>,
    interrupts: RefCell<Vec<(usize, u32)>>,
    judge: RefCell<Option<Box<Judge<VPS>>>>,
    traced: bool,
    vps: usize,
}

/// A plan of faults that can be ended.
pub(crate) struct Calmed {
    injector: Injector,
    /// Fault injection has ended.
    calm: Cell<bool>,
}

impl Faults for Calmed {
    fn status(&self, call: HypercallCode) -> Option<HvStatus> {
        if self.calm.get() { None } else { self.injector.status(call) }
    }

    fn injects(&self, injection: Injection) -> bool {
        !self.calm.get() && self.injector.injects(injection)
    }

    fn interrupt(&self, intid: u32) -> Raise {
        if self.calm.get() { Raise::Once } else { self.injector.interrupt(intid) }
    }
}

pub(crate) type FaultyHost = Faulty<TestHost<Watcher, Memory>, Calmed>;

impl Watch for Watcher {
    fn effect(&self, effect: Effect) {
        if let Effect::Start { vp, .. } = effect {
            self.starts.borrow_mut().push_back(vp);
        }
    }

    fn interrupt(&self, vp: usize, intid: u32) {
        assert!(vp < self.vps, "an interrupt for VP {vp}");
        assert!((16..=255).contains(&intid), "INTID {intid}");
        self.interrupts.borrow_mut().push((vp, intid));
    }

    fn observe(&self, observed: &Observed<'_>) {
        match observed {
            Observed::Hypervisor(event) => {
                match *event {
                    Event::Timer { what: TimerEvent::Expired(due, now), .. } => {
                        assert!(due <= now, "a timer that was due at {due:?} expired at {now:?}");
                    }
                    Event::Interrupt { cause: Cause::Message(sint) | Cause::Event(sint), .. } => {
                        assert!(sint < 16);
                    }
                    _ => {}
                }
                self.judge(|judge, found| judge.event(event, found));
                self.trace(event);
            }
            Observed::Bus(event) => {
                self.judge(|judge, found| judge.bus_event(event, found));
                self.trace(event);
            }
        }
    }
}

impl Watcher {
    fn judge(&self, look: impl FnOnce(&mut Judge<VPS>, &mut dyn FnMut(Finding))) {
        if let Some(judge) = &mut *self.judge.borrow_mut() {
            look(judge, &mut |finding| assert!(finding.vp < VPS));
        }
    }

    fn trace(&self, event: &impl std::fmt::Debug) {
        if self.traced {
            let mut sink = Sink(0);
            let _ = write!(sink, "{event:?}");
            assert_ne!(sink.0, 0);
        }
    }
}

/// Configuration of a machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    pub(crate) config: Config,
    plan: Plan,
    judged: bool,
    traced: bool,
    pub(crate) many: bool,
}

impl Setup {
    /// Returns the plain configuration.
    pub(crate) fn plain() -> Self {
        const OFFERS: &[Offer] = &[Offer::HEARTBEAT, Offer::ECHO];
        let mut config = Config::new(FREQUENCY).with_offers(OFFERS);
        config.hypervisor.rep_budget = 0;
        Self { config, plan: Plan::NONE, judged: false, traced: false, many: false }
    }

    /// Generates a configuration from two bytes of the input, and a plan's own bytes.
    pub(crate) fn of(input: &mut Input<'_>) -> Self {
        let mut setup = Self::plain();
        let byte = input.byte();
        let profile = Profile::by_number(u32::from(byte & 3)).unwrap_or(Profile::AZURE);
        setup.config.hypervisor.profile = profile;
        setup.judged = byte & 4 != 0;
        setup.traced = byte & 8 != 0;
        setup.many = byte & 0x93 == 0x10;
        setup.config.vmbus = setup.config.vmbus.filter(|_| byte & 32 == 0);
        if byte & 64 != 0 {
            setup.config.hypervisor.rep_budget = FREQUENCY / 20_000;
        }
        let plan = input.below(16);
        let parse = |text| Plan::parse(text, &|_, _| None);
        setup.plan = match PLANS.get(plan) {
            Some(&"") => Plan::NONE,
            Some(text) => parse(text).expect("a plan of ours is one"),
            None if plan == 15 => {
                let text = String::from_utf8_lossy(input.bytes(24));
                parse(&text).unwrap_or(Plan::NONE)
            }
            None => Plan::NONE,
        };
        setup
    }
}

/// Returns the ports of every machine, of which the last was deleted.
pub(crate) fn ports() -> [Port; 4] {
    [
        Port::new(0x10, 1, PortTarget::Message { vp: Some(1), sint: 3 }),
        Port::new(0x11, 2, PortTarget::Event { vp: None, sint: 3, base: 5, count: 600 }),
        Port::new(0x12, 3, PortTarget::Message { vp: None, sint: 15 }),
        Port::new(0x13, 4, PortTarget::Deleted),
    ]
}

/// A partition in its embedder.
pub(crate) struct FuzzedMachine<'a> {
    pub(crate) partition: Partition<'a, Lock>,
    pub(crate) host: &'a FaultyHost,
    pub(crate) setup: Setup,
}

/// Runs `test` with two machines that share an embedder: a guest moves from one to the other when it is restored.
pub(crate) fn run(setup: Setup, test: impl FnOnce([&FuzzedMachine<'_>; 2])) {
    let count = if setup.many { MANY_VPS } else { VPS };
    let watcher = Watcher {
        starts: RefCell::default(),
        interrupts: RefCell::default(),
        judge: RefCell::new(setup.judged.then(|| Box::new(Judge::new(RAM, RAM_SIZE)))),
        traced: setup.traced,
        vps: count,
    };
    let host = TestHost::with(count, Memory::new(), watcher);
    host.set_counter(1000);
    let host = Faulty::new(host, Calmed { injector: Injector::new(setup.plan), calm: Cell::new(false) });
    let vps = [0; 2].map(|_| (0..count).map(|_| Vp::new()).collect::<Box<[Vp<Lock>]>>());
    let ports = [ports(), ports()];
    let buses = [0; 2].map(|_| Bus::with_offers(setup.config.vmbus, setup.config.offers));
    let machine = |index: usize| {
        let partition = Partition::new(setup.config.hypervisor, &vps[index], &ports[index], &buses[index]);
        partition.reset(&host);
        FuzzedMachine { partition, host: &host, setup }
    };
    let machines = [machine(0), machine(1)];
    test([&machines[0], &machines[1]]);
}

impl FuzzedMachine<'_> {
    pub(crate) fn vps(&self) -> usize {
        self.partition.vp_count()
    }

    /// Brings all VPs online, identified, with a SynIC that takes messages and events on SINT 2 and 3.
    pub(crate) fn boot(&self) {
        for vp in 0..VPS {
            self.online(vp);
        }
        let _ = self.set(0, RegisterName::GUEST_OS_ID, 0x8100_0006_0c00_0000);
        for vp in 0..VPS {
            self.enable_synic(vp);
        }
    }

    pub(crate) fn message_page(vp: usize) -> u64 {
        RAM + 0x4000 + vp as u64 * 0x2000
    }

    pub(crate) fn enable_synic(&self, vp: usize) {
        let page = Self::message_page(vp);
        let writes = [
            (RegisterName::SIMP, page | 1),
            (RegisterName::SIEFP, (page + 0x1000) | 1),
            (RegisterName::sint(2), 18),
            (RegisterName::sint(3), 19),
            (RegisterName::SCONTROL, 1),
        ];
        for (name, value) in writes {
            let _ = self.set(vp, name, value);
        }
    }

    pub(crate) fn set(&self, vp: usize, name: RegisterName, value: u64) -> HvStatus {
        let mut x = [0; 31];
        let words = [HYPERCALL.into(), 0x1_0001_0051, u64::MAX, 0xffff_fffe, name.0.into(), 0, value, 0];
        x[..words.len()].copy_from_slice(&words);
        let _ = self.hvc(vp, 0, &mut x);
        HvStatus(x[0] as u16)
    }

    pub(crate) fn get(&self, vp: usize, name: RegisterName) -> Result<u64, HvStatus> {
        let mut x = [0; 31];
        let words = [HYPERCALL.into(), 0x1_0001_0050, u64::MAX, 0xffff_fffe, name.0.into()];
        x[..words.len()].copy_from_slice(&words);
        let _ = self.hvc(vp, 0, &mut x);
        match HvStatus(x[0] as u16) {
            HvStatus::SUCCESS => Ok(x[6]),
            status => Err(status),
        }
    }

    /// Issues an `hvc`, again until it is done.
    pub(crate) fn hvc(&self, vp: usize, immediate: u16, x: &mut [u64; 31]) -> Action {
        for _ in 0..=ROUNDS {
            match self.partition.hvc(self.host, vp, immediate, x) {
                Action::Retry => {}
                action => return action,
            }
        }
        panic!("a hypercall that never ends: {x:x?}");
    }

    pub(crate) fn smc(&self, vp: usize, immediate: u16, x: &mut [u64; 31]) -> Action {
        self.partition.smc(self.host, vp, immediate, x)
    }

    pub(crate) fn online(&self, vp: usize) {
        self.partition.vp_online(self.host, vp);
    }

    pub(crate) fn offline(&self, vp: usize) {
        self.partition.vp_offline(self.host, vp);
    }

    /// Returns the VP that runs, beginning with `vp`; it goes online if none does.
    pub(crate) fn running(&self, vp: usize) -> usize {
        let all = (vp..self.vps()).chain(0..vp);
        let found = all.into_iter().find(|vp| self.partition.power(*vp) == Some(Power::On));
        found.unwrap_or_else(|| {
            self.online(vp);
            vp
        })
    }

    /// Starts the next VP whose start was requested.
    pub(crate) fn start_next(&self) {
        let next = self.host.watch().starts.borrow_mut().pop_front();
        // It may have gone online by another step.
        if let Some(vp) = next.filter(|vp| self.partition.power(*vp) == Some(Power::Starting)) {
            self.online(vp);
        }
    }

    /// Forgets the requested starts: the machine was reset.
    pub(crate) fn forget_starts(&self) {
        self.host.watch().starts.borrow_mut().clear();
    }

    /// Calls `timer_expired` on a VP, and makes sure that its timers then leave it time to run.
    pub(crate) fn expire(&self, vp: usize) {
        self.partition.timer_expired(self.host, vp);
        let now = self.time();
        if let Some(next) =
            self.partition.vps().get(vp).and_then(Vp::next_expiration).map(ReferenceTime::ticks)
        {
            assert!(next > now || now == u64::MAX, "VP {vp} starves: {next} at {now}");
        }
    }

    pub(crate) fn expire_all(&self) {
        (0..self.vps()).for_each(|vp| self.expire(vp));
    }

    pub(crate) fn time(&self) -> u64 {
        self.partition.reference_time(self.host).ticks()
    }

    pub(crate) fn deadline(&self, vp: usize) -> Option<u64> {
        self.host.deadline(vp)
    }

    pub(crate) fn deadlines(&self) -> Vec<Option<u64>> {
        (0..self.vps()).map(|vp| self.deadline(vp)).collect()
    }

    pub(crate) fn take_interrupts(&self) -> Vec<(usize, u32)> {
        std::mem::take(&mut *self.host.watch().interrupts.borrow_mut())
    }

    /// Advances the counter; the faults happen that are due, and the VPs are called whose deadline has come.
    pub(crate) fn pass(&self, ticks: u64) {
        let counter = self.host.counter_now().saturating_add(ticks).min(1 << 62);
        self.host.set_counter(counter);
        self.inject_timed();
        self.host.due().for_each(|vp| self.expire(vp));
    }

    fn inject_timed(&self) {
        let now = self.time();
        if self.host.plan().calm.get() {
            return;
        }
        let partition = &self.partition;
        self.host.plan().injector.tick(ReferenceTime(now), &mut |timed| match timed {
            Timed::Spurious(intid) => assert!(intid >= 16),
            Timed::Migrate => self.migrate(FREQUENCY),
            Timed::Disturb(what, random) => {
                (0..self.vps()).for_each(|vp| partition.disturb(self.host, vp, what, random));
            }
            // There is no network card.
            Timed::Link(_) => {}
            Timed::Resume => partition.resume_devices(self.host),
            Timed::Rescan => (0..self.vps()).for_each(|vp| {
                partition.rescan(self.host, vp);
            }),
        });
    }

    pub(crate) fn migrate(&self, frequency: u64) {
        let now = self.time();
        self.partition.migrate(self.host, frequency, ReferenceTime(now));
        assert_eq!(self.time(), now, "a migration takes no time");
        self.expire_all();
    }

    /// Ends fault injection.
    pub(crate) fn calm(&self) {
        self.host.plan().calm.set(true);
        self.host.memory().calm();
    }

    /// Returns the reference time at this count of the counter.
    fn time_at(&self, counter: u64) -> u64 {
        let now = self.host.counter_now();
        self.host.set_counter(counter);
        let time = self.time();
        self.host.set_counter(now);
        time
    }

    /// Checks that no running VP waits for a deadline that was not requested, or for one that is too late.
    pub(crate) fn check_deadlines(&self) {
        for (vp, state) in self.partition.vps().iter().enumerate() {
            let Some(next) = state.next_expiration().map(ReferenceTime::ticks) else { continue };
            if state.power() != Power::On {
                continue;
            }
            match self.deadline(vp) {
                Some(deadline) => {
                    let now = self.time();
                    let at = self.time_at(deadline.max(self.host.counter_now()));
                    assert!(
                        at <= next.max(now).saturating_add(2),
                        "VP {vp} is called at {at} for a timer that is due at {next}"
                    );
                }
                None => {
                    let end = self.time_at(u64::MAX - 1);
                    assert!(end < next, "VP {vp} has no deadline for {next}, and the counter reaches {end}");
                }
            }
        }
    }

    pub(crate) fn image(&self) -> Vec<u8> {
        let mut image = Vec::new();
        self.partition.save(self.host, &mut |bytes| image.extend_from_slice(bytes)).unwrap();
        image
    }

    pub(crate) fn write(&self, gpa: u64, bytes: &[u8]) {
        let _ = self.host.memory().write(gpa, bytes);
    }
}
