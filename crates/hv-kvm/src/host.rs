//! `hv-host`'s embedder: memory, time, interrupts and deadlines of a machine of KVM's.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hv_memory::save::Writer;
use hv_partition::faults::Failing;
use hv_partition::{
    BusEvent, BusObserver, DeviceId, Event, Flush, Host, HostBackend, Pages, Started, Token, VpContext,
    VpMask, Work,
};
use hv_tlfs::time::ReferenceTime;
use hv_vmbus::Traffic;

use crate::helper::Helper;
use crate::kvm::Vm;
use crate::layout::Layout;
use crate::observer::Observer;
use crate::outcome::RunOutcome;
use crate::pl011::Pl011;
use crate::slot::Slot;

/// What the threads of a machine share.
pub(crate) struct Shared<V: Vm, S> {
    pub(crate) vm: V,
    pub(crate) layout: Layout,
    pub(crate) slots: Box<[Slot<V::Waker>]>,
    pub(crate) observer: S,
    /// VPs that are on, or were asked to start.
    online: AtomicUsize,
    uart: Mutex<Uart>,
    outcome: Mutex<Option<RunOutcome>>,
}

/// The console, and the level of its interrupt as KVM has it.
struct Uart {
    device: Pl011,
    level: bool,
}

/// Locks what no code panics under.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<V: Vm, S: Observer> Shared<V, S> {
    pub(crate) fn new(vm: V, vps: usize, layout: Layout, observer: S) -> Self {
        Self {
            vm,
            layout,
            slots: (0..vps).map(|_| Slot::new()).collect(),
            observer,
            online: AtomicUsize::new(0),
            uart: Mutex::new(Uart { device: Pl011::new(), level: false }),
            outcome: Mutex::new(None),
        }
    }

    /// Asks a VP to start.
    pub(crate) fn request_start(&self, vp: usize, context: &VpContext) {
        if let Some(slot) = self.slots.get(vp) {
            // Counted here, not when the VP runs: the VP that asked may go off first, and is then not the last one.
            self.online.fetch_add(1, Ordering::Relaxed);
            slot.request_start(context);
        }
    }

    /// Counts a VP that went off. The last one ends the run.
    pub(crate) fn went_off(&self) {
        if self.online.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.stop(RunOutcome::AllVpsOff);
        }
    }

    /// Ends the run. The first outcome counts, but any other before that of a stop: a guest that has powered off cannot
    /// go on.
    pub(crate) fn stop(&self, outcome: RunOutcome) {
        let mut ended = lock(&self.outcome);
        if matches!(*ended, None | Some(RunOutcome::Stopped)) {
            *ended = Some(outcome);
        }
        for slot in &self.slots {
            slot.stop();
        }
    }

    /// Takes the outcome of a run whose threads have ended. A stop from now on is the next run's.
    pub(crate) fn end_run(&self) -> RunOutcome {
        let mut ended = lock(&self.outcome);
        for slot in &self.slots {
            slot.rearm();
        }
        ended.take().unwrap_or(RunOutcome::Stopped)
    }

    /// Restores how many VPs are on, or were asked to start.
    pub(crate) fn set_online(&self, count: usize) {
        self.online.store(count, Ordering::Relaxed);
    }

    /// Writes the console's state.
    pub(crate) fn save_uart(&self, w: &mut Writer<'_>) {
        lock(&self.uart).device.save(w);
    }

    /// Restores the console, and the level of its interrupt.
    pub(crate) fn restore_uart(&self, device: Pl011) -> io::Result<()> {
        let mut uart = lock(&self.uart);
        let level = device.interrupt();
        *uart = Uart { device, level };
        self.vm.set_spi(self.layout.uart_intid, level)
    }

    /// Ends the run if an ioctl had an error that only a fault of the host's explains.
    fn must(&self, what: &'static str, result: io::Result<()>) {
        if let Err(error) = result {
            self.stop(RunOutcome::Failed { what, error });
        }
    }

    /// Reads from the console; `None`: nothing is at this address.
    pub(crate) fn read(&self, address: u64, size: usize) -> Option<u64> {
        let offset = self.layout.in_uart(address).filter(|_| size <= 4)?;
        Some(u64::from(self.uart(|device| device.read(offset))))
    }

    /// Writes to the console; `None`: nothing is at this address.
    pub(crate) fn write(&self, address: u64, size: usize, value: u64) -> Option<()> {
        let offset = self.layout.in_uart(address).filter(|_| size <= 4)?;
        if let Some(byte) = self.uart(|device| device.write(offset, value as u32)) {
            self.observer.console(byte);
        }
        Some(())
    }

    /// Accesses the UART, and passes its interrupt on.
    pub(crate) fn uart<T>(&self, work: impl FnOnce(&mut Pl011) -> T) -> T {
        let mut uart = lock(&self.uart);
        let result = work(&mut uart.device);
        let level = uart.device.interrupt();
        if level != uart.level {
            uart.level = level;
            self.must("the console's interrupt", self.vm.set_spi(self.layout.uart_intid, level));
        }
        result
    }
}

/// The embedder of a partition, as seen from a thread: `hv-partition`'s `host`.
///
/// Each VP's thread has its own, and [`Machine::embedder`](crate::Machine::embedder) is that of all other threads.
pub struct Embedder<V: Vm, S> {
    pub(crate) shared: Arc<Shared<V, S>>,
    /// That of the VP's thread, or those of all other threads: each takes the same one each time.
    helpers: Box<[Mutex<Helper<V::Vcpu>>]>,
}

thread_local! {
    /// The number of this thread among those that are no VP's.
    static NUMBER: usize = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        NEXT.fetch_add(1, Ordering::Relaxed)
    };
}

impl<V: Vm, S> std::fmt::Debug for Embedder<V, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Embedder").finish_non_exhaustive()
    }
}

impl<V: Vm, S: Observer> Embedder<V, S> {
    pub(crate) fn new(shared: Arc<Shared<V, S>>, helpers: Vec<Helper<V::Vcpu>>) -> Self {
        Self { shared, helpers: helpers.into_iter().map(Mutex::new).collect() }
    }

    /// Waits until no helper of its threads runs, and has none run before the guards are dropped.
    pub(crate) fn rest(&self) -> impl Iterator<Item = MutexGuard<'_, Helper<V::Vcpu>>> {
        self.helpers.iter().map(lock)
    }

    /// Returns this thread's helper.
    pub(crate) fn helper(&self) -> &Mutex<Helper<V::Vcpu>> {
        match &*self.helpers {
            [own] => own,
            all => &all[NUMBER.with(|number| number % all.len())],
        }
    }
}

impl<V: Vm, S: Observer> Host for Embedder<V, S> {
    type Memory = V::Memory;

    fn memory(&self) -> &V::Memory {
        self.shared.vm.memory()
    }

    fn counter(&self) -> u64 {
        self.shared.vm.counter()
    }

    fn assert_interrupt(&self, vp: usize, intid: u32) {
        let Shared { layout, slots, .. } = &*self.shared;
        if vp >= slots.len() {
            return;
        }
        if let Some((address, bits)) = layout.pending(vp, intid) {
            let stored = lock(self.helper()).store(address, bits);
            self.shared.must("an interrupt", stored);
        }
    }

    fn set_deadline(&self, vp: usize, counter: Option<u64>) {
        let Shared { vm, slots, .. } = &*self.shared;
        if let Some(slot) = slots.get(vp) {
            slot.set_deadline(counter, || vm.counter(), vm.counter_frequency());
        }
    }

    fn start_vp(&self, vp: usize, context: &VpContext) {
        self.shared.request_start(vp, context);
    }

    fn flush_tlb(&self, _targets: &VpMask, _what: Flush) {
        // On every VP: more than was asked for, which the TLFS allows.
        let flushed = lock(self.helper()).flush();
        self.shared.must("a TLB flush", flushed);
    }

    fn observe(&self, event: &Event<'_>) {
        self.shared.observer.observe(event);
    }
}

impl<V: Vm, S: Observer> BusObserver for Embedder<V, S> {
    fn observe_bus(&self, event: &BusEvent<'_>) {
        self.shared.observer.observe_bus(event);
    }

    fn sees_packets(&self) -> bool {
        self.shared.observer.sees_packets()
    }

    fn traffic(&self, device: DeviceId, traffic: &Traffic) {
        self.shared.observer.traffic(device, traffic);
    }

    fn served(&self, device: DeviceId, time: ReferenceTime) {
        self.shared.observer.served(device, time);
    }
}

impl<V: Vm, S: Observer + HostBackend<W>, W: Work> HostBackend<W> for Embedder<V, S> {
    fn start(&self, device: DeviceId, token: Token, request: &W, data: Pages<'_>) -> Started<W::Outcome> {
        self.shared.observer.start(device, token, request, data)
    }

    const REQUEST_LIMIT: u64 = S::REQUEST_LIMIT;
    const FAILS: bool = S::FAILS;

    fn fail(&self, request: &W, failing: Failing) -> Option<W::Outcome> {
        self.shared.observer.fail(request, failing)
    }
}

// For decorated embedders, which borrow them.

impl<V: Vm, S: Observer> BusObserver for &Embedder<V, S> {
    fn observe_bus(&self, event: &BusEvent<'_>) {
        (**self).observe_bus(event);
    }

    fn sees_packets(&self) -> bool {
        (**self).sees_packets()
    }

    fn traffic(&self, device: DeviceId, traffic: &Traffic) {
        (**self).traffic(device, traffic);
    }

    fn served(&self, device: DeviceId, time: ReferenceTime) {
        (**self).served(device, time);
    }
}

impl<V: Vm, S: Observer + HostBackend<W>, W: Work> HostBackend<W> for &Embedder<V, S> {
    fn start(&self, device: DeviceId, token: Token, request: &W, data: Pages<'_>) -> Started<W::Outcome> {
        (**self).start(device, token, request, data)
    }

    const REQUEST_LIMIT: u64 = S::REQUEST_LIMIT;
    const FAILS: bool = S::FAILS;

    fn fail(&self, request: &W, failing: Failing) -> Option<W::Outcome> {
        (**self).fail(request, failing)
    }
}
