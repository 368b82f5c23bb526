//! hv-host's embedder: time, interrupts and memory for the partition, and the counts of the report.

use hv_control::Told;
use hv_partition::{
    BusEvent, BusObserver, DeviceId, Event, Faulty, Flush, Host, HostBackend, Never, Pages, Started, Token,
    VpContext, VpMask,
};
use hv_tlfs::time::ReferenceTime;
use hv_trace::What;
use hv_vgic::Physical as _;
use hv_vmbus::Traffic;

use crate::arch::{self, isb, mrs};
use crate::cpu::ThisCpu;
use crate::faults::Planned;
use crate::gic::MachineGic;
use crate::memory::GuestRam;
use crate::trace::Ring;
use crate::{outcomes, report};

/// Bytes of a page of the hypercall interface.
const PAGE: u64 = 4096;

/// The embedder, as seen from one CPU.
///
/// With `OBSERVED`, everything that happens goes to the trace and to the strict mode's judge as well. The hypercall
/// path is compiled for both, so a run without a trace pays for one test at each exit.
#[derive(Clone, Copy)]
pub(crate) struct Embedder<'c, const OBSERVED: bool = true> {
    pub cpu: &'c ThisCpu,
}

/// The embedder with the fault plan of this run, as the partition sees it.
pub(crate) type FaultyEmbedder<'c, const OBSERVED: bool = true> =
    Faulty<Embedder<'c, OBSERVED>, Planned<'c, OBSERVED>>;

/// Returns the embedder on this CPU.
#[inline(always)]
pub(crate) const fn on<const OBSERVED: bool>(cpu: &ThisCpu) -> FaultyEmbedder<'_, OBSERVED> {
    Faulty::new(Embedder { cpu }, Planned { cpu })
}

impl<'c, const OBSERVED: bool> Embedder<'c, OBSERVED> {
    /// Counts what the report has of a device, and has a port to the tool hear of it.
    fn tell(&self, event: &hv_vmbus::Event) {
        let Some((device, told)) = hv_control::told(event) else { return };
        match told {
            Told::Opened => report::opened(device),
            Told::Agreed(version) => report::agreed(device, version),
            Told::Failed => report::failed(device),
            Told::Outcome => outcomes::ready(),
            Told::Sockets => outcomes::SOCKETS.raise(),
            Told::Room => outcomes::NETWORK.raise(),
        }
    }

    /// Returns the trace ring of this VP, in a traced run.
    #[inline(always)]
    pub(crate) fn ring(&self) -> Option<&'c Ring> {
        if OBSERVED { self.cpu.ring() } else { None }
    }

    /// Writes a record, in a traced run: only then is it made.
    #[inline(always)]
    pub(crate) fn trace(&self, what: impl FnOnce() -> What) {
        if let Some(ring) = self.ring() {
            ring.push(what());
        }
    }

    /// Records an event, and shows it to the strict mode's judge.
    #[cold]
    #[inline(never)]
    fn look(&self, event: &Event<'_>) {
        if let Some(ring) = self.ring() {
            ring.event(event);
        }
        if let Some(judge) = &self.cpu.hypervisor.judge {
            judge.lock().event(event, &mut |finding| self.cpu.found(finding));
        }
    }

    /// Records an event of VMBus, and shows it to the strict mode's judge.
    #[cold]
    #[inline(never)]
    fn look_at_bus(&self, event: &BusEvent<'_>) {
        if let Some(ring) = self.ring() {
            ring.bus_event(event);
        }
        if let Some(judge) = &self.cpu.hypervisor.judge {
            judge.lock().bus_event(event, &mut |finding| self.cpu.found(finding));
        }
    }
}

impl<const OBSERVED: bool> Host for Embedder<'_, OBSERVED> {
    type Memory = GuestRam;

    #[inline(always)]
    fn memory(&self) -> &GuestRam {
        &self.cpu.hypervisor.ram
    }

    #[inline]
    fn counter(&self) -> u64 {
        isb();
        mrs!("cntvct_el0")
    }

    #[inline]
    fn assert_interrupt(&self, vp: usize, intid: u32) {
        self.cpu.hypervisor.gic.assert(self.cpu, vp, intid);
    }

    /// Programs the timer of this CPU. Another CPU is told of its deadline, and kicked.
    fn set_deadline(&self, vp: usize, counter: Option<u64>) {
        let Some(requests) = self.cpu.hypervisor.requests.get(vp) else { return };
        requests.set_deadline(counter);
        if vp == self.cpu.index() {
            self.cpu.program_timer();
        } else {
            requests.request_timer();
            MachineGic.kick(vp);
        }
    }

    fn start_vp(&self, vp: usize, context: &VpContext) {
        if vp < self.cpu.hypervisor.vps() {
            self.cpu.hypervisor.request_start(vp, context);
            MachineGic.kick(vp);
        }
    }

    #[inline(always)]
    fn observe(&self, event: &Event<'_>) {
        self.cpu.counts.event(event);
        if OBSERVED && self.cpu.observed() {
            // Only the copy has an address: the event itself stays in registers when nothing observes it.
            let event = *event;
            self.look(&event);
        }
    }

    fn flush_tlb(&self, _targets: &VpMask, what: Flush) {
        // On every CPU: more than was asked for, which the TLFS allows.
        match what {
            Flush::Pages { address, pages, .. } if pages <= Flush::FEW_PAGES => {
                arch::begin_tlb_flush();
                (0..pages).for_each(|page| arch::flush_guest_address(address.wrapping_add(page * PAGE)));
                arch::complete_tlb_flush();
            }
            _ => arch::flush_guest_tlb(),
        }
    }
}

impl<const OBSERVED: bool> HostBackend<Never> for Embedder<'_, OBSERVED> {
    fn start(&self, _: DeviceId, _: Token, request: &Never, _: Pages<'_>) -> Started<Never> {
        match *request {}
    }
}

impl<const OBSERVED: bool> BusObserver for Embedder<'_, OBSERVED> {
    fn traffic(&self, device: DeviceId, traffic: &Traffic) {
        report::traffic(device.0.into(), traffic);
    }

    fn served(&self, device: DeviceId, time: ReferenceTime) {
        report::served(device.0.into(), time);
    }

    #[inline(always)]
    fn sees_packets(&self) -> bool {
        OBSERVED && (self.cpu.ring().is_some() || self.cpu.hypervisor.judge.is_some())
    }

    #[inline(always)]
    fn observe_bus(&self, event: &BusEvent<'_>) {
        report::count_bus(event);
        if let BusEvent::Server(event) = event {
            self.tell(event);
        }
        if OBSERVED && self.cpu.observed() {
            let event = *event;
            self.look_at_bus(&event);
        }
    }
}
