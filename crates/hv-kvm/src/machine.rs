//! A machine: a partition, and the threads that run its VPs.

use std::io;
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex};
use std::thread;

use hv_partition::{BusObserver, Host, Partition, RawMutex, Served, VpContext};

use crate::helper::Helper;
use crate::host::{Embedder, Shared, lock};
use crate::kvm::{Parts, Vm};
use crate::layout::Layout;
use crate::observer::Observer;
use crate::outcome::RunOutcome;
use crate::vp::{Rest, Rested, VpThread};

/// A machine around a partition.
///
/// It begins to run once: after a reset, create another one. One that was [stopped](Self::stop) can be
/// [saved](Self::save), and [goes on](Self::resume). Its memory is the embedder's to fill.
pub struct Machine<V: Vm, S> {
    pub(crate) shared: Arc<Shared<V, S>>,
    pub(crate) state: Mutex<State<V::Vcpu>>,
    /// The embedder of each VP's thread, and at the end that of all other threads.
    embedders: Vec<Embedder<V, S>>,
}

/// What a machine can do next: what is expected of it is taken, and nothing is if it is in another state.
pub(crate) enum State<C> {
    /// Begin to run.
    New(Vec<C>),
    /// Go on.
    Stopped(Vec<Rest<C>>),
    /// Nothing: it runs, or has come to its end.
    Used,
}

impl<C> State<C> {
    fn begin(&mut self) -> Option<Vec<C>> {
        let Self::New(vps) = self else { return None };
        let vps = std::mem::take(vps);
        *self = Self::Used;
        Some(vps)
    }

    fn go_on(&mut self) -> Option<Vec<Rest<C>>> {
        let Self::Stopped(vps) = self else { return None };
        let vps = std::mem::take(vps);
        *self = Self::Used;
        Some(vps)
    }
}

impl<V: Vm, S> std::fmt::Debug for Machine<V, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Machine").finish_non_exhaustive()
    }
}

impl<V: Vm, S: Observer> Machine<V, S> {
    /// Creates a machine.
    ///
    /// # Errors
    /// A virtual CPU refuses a register.
    ///
    /// # Panics
    /// If `parts` has not [`Layout::OTHERS`](crate::Layout::OTHERS) more helpers than VPs.
    pub fn new(parts: Parts<V>, observer: S) -> io::Result<Self> {
        let Parts { vm, vps, mut helpers, layout } = parts;
        assert_eq!(
            helpers.len(),
            vps.len() + Layout::OTHERS,
            "a helper for each VP, and those of other threads"
        );
        let shared = Arc::new(Shared::new(vm, vps.len(), layout, observer));
        let others = helpers.split_off(vps.len());
        let embedder = |vcpus: Vec<_>| {
            let helpers = vcpus.into_iter().map(|vcpu| Helper::new(vcpu, layout.helper_page));
            Ok(Embedder::new(Arc::clone(&shared), helpers.collect::<io::Result<_>>()?))
        };
        let each = helpers.into_iter().map(|vcpu| vec![vcpu]).chain([others]);
        let embedders = each.map(embedder).collect::<io::Result<_>>()?;
        Ok(Self { shared, state: Mutex::new(State::New(vps)), embedders })
    }

    /// Returns the virtual machine.
    #[must_use]
    pub fn vm(&self) -> &V {
        &self.shared.vm
    }

    /// Returns the observer.
    #[must_use]
    pub fn observer(&self) -> &S {
        &self.shared.observer
    }

    /// Returns the partition's embedder for threads that are not a VP's: for
    /// [`Partition::completed`](hv_partition::Partition::completed), for example. They share it, and more of
    /// them than [`Layout::OTHERS`](crate::Layout::OTHERS) take turns.
    #[must_use]
    pub fn embedder(&self) -> &Embedder<V, S> {
        &self.embedders[self.embedders.len() - 1]
    }

    /// Returns the embedders: that of each VP's thread, and at the end that of all other threads. Decorated, as by
    /// [`Faulty`](hv_partition::Faulty), they are for [`Self::run_as`].
    #[must_use]
    pub fn embedders(&self) -> &[Embedder<V, S>] {
        &self.embedders
    }

    /// Types bytes on the guest's console. Returns how many there was room for.
    pub fn input(&self, bytes: &[u8]) -> usize {
        self.shared.uart(|uart| uart.input(bytes))
    }

    /// Returns the number of typed bytes that the guest has not read.
    pub fn unread(&self) -> usize {
        self.shared.uart(|uart| uart.unread())
    }

    /// Ends the run, from any thread. Between runs it has the next one return at once.
    pub fn stop(&self) {
        self.shared.stop(RunOutcome::Stopped);
    }

    /// Runs a partition until its end, with a thread for each VP; VP 0 starts with `boot`. A run that was stopped
    /// leaves the partition as it is, and [`Self::resume`] continues it.
    ///
    /// # Panics
    /// If the partition's VPs are not as many as the machine's, or the machine has run before.
    pub fn run<'h, R, B>(&'h self, partition: &'h Partition<'_, R, B>, boot: &VpContext) -> RunOutcome
    where
        R: RawMutex + Send + Sync,
        B: Served<'h, R, Embedder<V, S>> + Sync,
        S: Send,
        V: Send,
    {
        self.run_as(&self.embedders, partition, boot, || ())
    }

    /// Does the same as [`Self::run`] with hosts, one each, that decorate [the embedders](Self::embedders) or are
    /// these. Calls `begin` when the partition is reset and no VP has started: other threads may serve the partition's
    /// devices from then on.
    ///
    /// # Panics
    /// If the hosts or the partition's VPs are not as many as the machine's, or the machine has run before.
    pub fn run_as<'h, H, R, B>(
        &'h self,
        hosts: &'h [H],
        partition: &'h Partition<'_, R, B>,
        boot: &VpContext,
        begin: impl FnOnce(),
    ) -> RunOutcome
    where
        H: Host + BusObserver + Sync,
        R: RawMutex + Send + Sync,
        B: Served<'h, R, H> + Sync,
        S: Send,
        V: Send,
    {
        self.check(hosts, partition.vp_count());
        let vps = lock(&self.state).begin().expect("a machine begins to run once");
        partition.reset(&hosts[vps.len()]);
        begin();
        self.shared.request_start(0, boot);
        let vps = vps.into_iter().map(|vcpu| Rest { vcpu, power: Rested::New }).collect();
        self.run_threads(hosts, partition, vps)
    }

    /// Continues a run that was [stopped](Self::stop), or that of a [restored](Self::restore) machine, until its end.
    ///
    /// # Panics
    /// If the partition's VPs are not as many as the machine's, or the machine was not stopped.
    pub fn resume<'h, R, B>(&'h self, partition: &'h Partition<'_, R, B>) -> RunOutcome
    where
        R: RawMutex + Send + Sync,
        B: Served<'h, R, Embedder<V, S>> + Sync,
        S: Send,
        V: Send,
    {
        self.resume_as(&self.embedders, partition, || ())
    }

    /// Does the same as [`Self::resume`] with hosts of the embedder's, as [`Self::run_as`]. Calls `begin` before any VP
    /// goes on.
    ///
    /// # Panics
    /// If the hosts or the partition's VPs are not as many as the machine's, or the machine was not stopped.
    pub fn resume_as<'h, H, R, B>(
        &'h self,
        hosts: &'h [H],
        partition: &'h Partition<'_, R, B>,
        begin: impl FnOnce(),
    ) -> RunOutcome
    where
        H: Host + BusObserver + Sync,
        R: RawMutex + Send + Sync,
        B: Served<'h, R, H> + Sync,
        S: Send,
        V: Send,
    {
        self.check(hosts, partition.vp_count());
        let vps = lock(&self.state).go_on().expect("the machine was stopped");
        for vp in 0..vps.len() {
            // A restored partition sets its deadlines.
            partition.timer_expired(&hosts[vps.len()], vp);
        }
        begin();
        self.run_threads(hosts, partition, vps)
    }

    fn check<H>(&self, hosts: &[H], partition: usize) {
        let vps = self.shared.slots.len();
        assert_eq!(partition, vps, "the partition and the machine have the same VPs");
        assert_eq!(hosts.len(), vps + 1, "a host for each VP and one for other threads");
    }

    /// Runs the VPs until the end.
    fn run_threads<'h, H, R, B>(
        &'h self,
        hosts: &'h [H],
        partition: &'h Partition<'_, R, B>,
        vps: Vec<Rest<V::Vcpu>>,
    ) -> RunOutcome
    where
        H: Host + BusObserver + Sync,
        R: RawMutex + Send + Sync,
        B: Served<'h, R, H> + Sync,
        S: Send,
        V: Send,
    {
        let shared = &*self.shared;
        let rested: Vec<Rest<V::Vcpu>> = thread::scope(|scope| {
            let start = |((vp, Rest { vcpu, power }), host)| {
                let thread = VpThread { partition, host, shared, vp, vcpu, power };
                let started =
                    thread::Builder::new().name(format!("vp {vp}")).spawn_scoped(scope, move || thread.run());
                let failed = |error| RunOutcome::Failed { what: "a virtual processor's thread", error };
                started.map_err(|error| shared.stop(failed(error))).ok()
            };
            let threads: Vec<_> = vps.into_iter().enumerate().zip(hosts).filter_map(start).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)))
                .collect()
        });
        let outcome = shared.end_run();
        if matches!(outcome, RunOutcome::Stopped) {
            *lock(&self.state) = State::Stopped(rested);
        }
        outcome
    }
}
