//! A machine: a partition, and the threads that run its VPs.

use std::io;
use std::sync::{Arc, Mutex};
use std::thread;

use hv_partition::{BusObserver, Host, Partition, RawMutex, Served, VpContext};

use crate::helper::Helper;
use crate::host::{Embedder, Shared, lock};
use crate::kvm::{Parts, Vm};
use crate::layout::Layout;
use crate::observer::Observer;
use crate::outcome::RunOutcome;
use crate::vp::VpThread;

/// A machine around a partition.
///
/// A machine runs once: after a reset, create another one. Its memory is the embedder's to fill.
pub struct Machine<V: Vm, S> {
    shared: Arc<Shared<V, S>>,
    vps: Mutex<Vec<V::Vcpu>>,
    /// The embedder of each VP's thread, and at the end that of all other threads.
    embedders: Vec<Embedder<V, S>>,
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
        Ok(Self { shared, vps: Mutex::new(vps), embedders })
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

    /// Ends the run, from any thread. Before [`Self::run`] it has that return at once.
    pub fn stop(&self) {
        self.shared.stop(RunOutcome::Stopped);
    }

    /// Runs a partition until its end, with a thread for each VP; VP 0 starts with `boot`. A run that was stopped
    /// leaves the partition as it is.
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
        let vps = std::mem::take(&mut *lock(&self.vps));
        assert!(!vps.is_empty(), "a machine runs once");
        assert_eq!(partition.vp_count(), vps.len(), "the partition and the machine have the same VPs");
        assert_eq!(hosts.len(), vps.len() + 1, "a host for each VP and one for other threads");
        partition.reset(&hosts[vps.len()]);
        begin();
        self.shared.request_start(0, boot);
        thread::scope(|scope| {
            for ((vp, vcpu), host) in vps.into_iter().enumerate().zip(hosts) {
                let shared = &*self.shared;
                let started = thread::Builder::new()
                    .name(format!("vp {vp}"))
                    .spawn_scoped(scope, move || VpThread { partition, host, shared, vp, vcpu }.run());
                if let Err(error) = started {
                    self.shared.stop(RunOutcome::Failed { what: "a virtual processor's thread", error });
                }
            }
        });
        self.shared.take_outcome().unwrap_or(RunOutcome::Stopped)
    }
}
