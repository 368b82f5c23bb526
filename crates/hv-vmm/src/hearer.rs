//! What hears of the guest: the report, the trace, the strict mode's judge, and which injected faults have struck.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io::{self, Write as _};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use hv_control::{Outside, Told};
use hv_devices::balloon::Discard;
use hv_devices::{network, storage};
use hv_kvm::vm_memory::GuestMemoryMmap;
use hv_kvm::{Exit, Guest, Observer, Register, VmMemory};
use hv_partition::faults::{Failing, Injector};
use hv_partition::strict::{Finding, Judge};
use hv_partition::{
    BusEvent, BusObserver, DeviceId, Event, HostBackend, Never, Pages, Started, Token, disk_failure, record,
};
use hv_tlfs::time::ReferenceTime;
use hv_tlfs::vmbus::ChannelOffer;
use hv_trace::{Trap, What};
use hv_vmbus::Traffic;
use hv_wire::platform::MAX_VPS;
use hv_wire::{Fault, PLAN_RULES, Place};
use zerocopy::IntoBytes as _;

use crate::accounts::{Accounts, lock};
use crate::console::Console;
use crate::devices::STATE;
use crate::disks::Disks;
use crate::network::Network;
use crate::ports::Bells;
use crate::rings::Rings;

/// Exception classes of ESR_EL2 (Arm ARM, "ESR_EL2"), of which KVM tells no more: `hvc`, `smc`, a data abort; with the
/// bit of a 32-bit instruction.
const HVC: u64 = 0x16 << 26 | IL;
const SMC: u64 = 0x17 << 26 | IL;
const DATA_ABORT: u64 = 0x24 << 26 | IL;
const IL: u64 = 1 << 25;

thread_local! {
    /// The VP of this thread.
    static VP: Cell<usize> = const { Cell::new(0) };
    /// Rules that the guest has broken since the last exit that was settled: each with its number, its value, and how
    /// often.
    static BROKEN: RefCell<Vec<(usize, u64, u32)>> = const { RefCell::new(Vec::new()) };
}

/// What hears of the guest.
pub(crate) struct Hearer {
    pub(crate) accounts: Accounts,
    pub(crate) console: Console,
    pub(crate) disks: Disks,
    /// If there is a network.
    pub(crate) network: Option<Network>,
    /// The guest's memory, another mapping of it.
    pub(crate) memory: VmMemory<GuestMemoryMmap>,
    /// What wakes the threads of the ports.
    pub(crate) bells: Bells,
    /// There is a control port.
    pub(crate) has_control: bool,
    /// In a traced run.
    pub(crate) rings: Option<Rings>,
    /// In a strict run.
    pub(crate) judge: Option<&'static Mutex<Judge<MAX_VPS>>>,
    /// The faults to inject, if any, and how often each rule had struck when that was recorded last.
    pub(crate) injector: Option<(&'static Injector, [AtomicU64; PLAN_RULES])>,
}

impl Hearer {
    /// Writes a record of this thread's VP, in a traced run: only then is it made.
    fn trace(&self, what: impl FnOnce() -> What) {
        if let Some(rings) = &self.rings {
            rings.push(VP.get(), what());
        }
    }

    /// Counts what the report has of a device, and has a port's thread hear of it.
    fn tell(&self, event: &hv_vmbus::Event) {
        let Some((place, told)) = hv_control::told(event) else { return };
        match told {
            Told::Opened => self.accounts.device(place, |device| device.opened += 1),
            Told::Agreed(version) => self.accounts.device(place, |device| device.version = version),
            Told::Failed => self.accounts.device(place, |device| device.errors += 1),
            Told::Outcome => {
                STATE.note_outcome();
                self.bells.control.ring();
            }
            Told::Sockets => self.bells.sockets.ring(),
            Told::Room => self.bells.network.ring(),
        }
    }

    /// Takes what the judge has found. Where the guest is, only the thread of its VP can tell, and not now.
    fn judge(&self, judged: impl FnOnce(&mut Judge<MAX_VPS>, &mut dyn FnMut(Finding))) {
        let Some(judge) = self.judge else { return };
        judged(&mut lock(judge), &mut |Finding { rule, value, .. }| {
            let number = rule.number();
            BROKEN.with_borrow_mut(|broken| match broken.iter_mut().find(|(known, ..)| *known == number) {
                Some((.., count)) => *count = count.saturating_add(1),
                None => broken.push((number, value, 1)),
            });
        });
    }

    /// Counts and records what this thread's guest has broken and which faults have struck, with the guest where it is.
    pub(crate) fn settle(&self, place: impl FnOnce() -> Place) {
        if let Some((injector, told)) = &self.injector {
            self.accounts.rules_fired(injector.fired());
            for (rule, (times, told)) in injector.fired().zip(told).enumerate() {
                if told.fetch_max(times, Ordering::Relaxed) < times {
                    self.trace(|| What::FaultInjected { rule: rule as u32, times });
                }
            }
        }
        if self.judge.is_none() || BROKEN.with_borrow(Vec::is_empty) {
            return;
        }
        let broken = BROKEN.take();
        let place = place();
        for (rule, value, count) in broken {
            self.accounts.finding(VP.get(), rule, (value, count), place);
            let (pc, callers) = short(&place);
            self.trace(|| What::Finding { rule: rule as u16, value, pc, callers });
        }
    }

    /// Records an exit.
    fn exit(&self, exit: &Exit, guest: &dyn Guest) {
        let (trap, syndrome, address) = match *exit {
            Exit::Call { smc: true, .. } => (Trap::Smc, SMC, 0),
            Exit::Call { function, smc: false } => match hv_kvm::immediate(function) {
                0 => (Trap::Smccc, HVC, 0),
                immediate => (Trap::Hvc, HVC | u64::from(immediate), 0),
            },
            // Those of the console are no more than its output, which the trace has.
            _ => return,
        };
        self.trace(|| {
            let place = place(guest);
            What::Exit { trap, syndrome, pc: place.pc, address, vectors: place.vbar }
        });
    }
}

/// Locates the guest.
fn place(guest: &dyn Guest) -> Place {
    let register = |register| guest.register(register).unwrap_or(0);
    let mut place = Place { vbar: register(Register::VBAR_EL1), ..Place::at(register(Register::PC)) };
    place.callers[0] = register(Register::x(30));
    place
}

/// Returns the guest's PC and its first callers, as records have them.
fn short(place: &Place) -> (u64, [u64; 3]) {
    let Place { pc, callers: [caller, next, last, ..], .. } = *place;
    (pc, [caller, next, last])
}

impl Observer for Hearer {
    fn console(&self, byte: u8) {
        self.console.push(byte);
    }

    fn observe(&self, event: &Event<'_>) {
        self.accounts.event(event);
        if let Some(rings) = &self.rings {
            record::records(event, |what| rings.push(VP.get(), what));
        }
        self.judge(|judge, found| judge.event(event, found));
    }

    fn begin_vp(&self, vp: usize) {
        VP.set(vp);
    }

    fn left(&self, _: usize, exit: &Exit, guest: &dyn Guest) {
        self.settle(|| place(guest));
        if self.rings.is_some() {
            self.exit(exit, guest);
        }
    }

    fn called(&self, _: usize, guest: &dyn Guest) {
        self.settle(|| place(guest));
        self.trace(|| What::Enter {});
    }

    fn absent(&self, vp: usize, address: u64, guest: &dyn Guest) {
        let (place, value) = (place(guest), address);
        self.accounts.fault(vp, Fault::Address, value, || place);
        let (pc, callers) = short(&place);
        self.trace(|| What::Exit {
            trap: Trap::Abort,
            syndrome: DATA_ABORT,
            pc,
            address,
            vectors: place.vbar,
        });
        self.trace(|| What::Fault { fault: Fault::Address, value, pc, callers });
        self.trace(|| What::Enter {});
    }
}

impl BusObserver for Hearer {
    fn observe_bus(&self, event: &BusEvent<'_>) {
        self.accounts.bus_event(event);
        if let BusEvent::Server(event) = event {
            self.tell(event);
        }
        if let Some(rings) = &self.rings {
            record::bus_records(event, |what| rings.push(VP.get(), what));
        }
        self.judge(|judge, found| judge.bus_event(event, found));
    }

    fn sees_packets(&self) -> bool {
        self.rings.is_some() || self.judge.is_some()
    }

    fn traffic(&self, device: DeviceId, traffic: &Traffic) {
        self.accounts.traffic(device.0.into(), traffic);
    }

    fn served(&self, device: DeviceId, time: ReferenceTime) {
        self.accounts.served(device.0.into(), time);
    }
}

impl HostBackend<storage::Request> for Hearer {
    // The largest transfer: no VP waits for it.
    const REQUEST_LIMIT: u64 = storage::MAX_TRANSFER as u64;
    const FAILS: bool = true;

    fn start(
        &self,
        device: DeviceId,
        token: Token,
        request: &storage::Request,
        data: Pages<'_>,
    ) -> Started<Result<(), storage::Failure>> {
        self.disks.start(device, token, request, data)
    }

    fn fail(&self, _: &storage::Request, failing: Failing) -> Option<Result<(), storage::Failure>> {
        Some(Err(disk_failure(failing)))
    }
}

impl HostBackend<Discard> for Hearer {
    fn start(&self, _: DeviceId, token: Token, _: &Discard, _: Pages<'_>) -> Started<()> {
        if !self.has_control {
            return Started::Done(());
        }
        let started = STATE.start_discard(token);
        self.bells.control.ring();
        started
    }
}

impl HostBackend<network::Request> for Hearer {
    fn start(
        &self,
        _: DeviceId,
        _: Token,
        request: &network::Request,
        data: Pages<'_>,
    ) -> Started<Result<(), network::Lost>> {
        match &self.network {
            Some(network) => {
                network.send(|into| request.write(&self.memory, data, into).ok(), &self.bells.network)
            }
            None => Started::Done(Err(network::Lost)),
        }
    }
}

impl HostBackend<Never> for Hearer {
    fn start(&self, _: DeviceId, _: Token, request: &Never, _: Pages<'_>) -> Started<Never> {
        match *request {}
    }
}

impl Outside for Hearer {
    fn offered(&self, device: DeviceId, offer: &ChannelOffer) {
        self.accounts.device(device.0.into(), |device| {
            device.class.copy_from_slice(offer.interface.as_bytes());
            device.instance.copy_from_slice(offer.instance.as_bytes());
        });
    }

    fn log(&self, text: fmt::Arguments<'_>) {
        // Where nothing can be written, nothing is told.
        let _ = writeln!(io::stderr(), "{text}");
    }

    fn transfers_ended(&self) {
        self.disks.transfers_ended();
    }
}
