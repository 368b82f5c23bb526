//! The partition: its parts, its clock, and the power of its VPs.

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use hv_memory::Deadline;
use hv_tlfs::time::ReferenceTime;
use lock_api::{Mutex, RawMutex};

use crate::crash::Crash;
use crate::event::Event;
use crate::faults::Disturbance;
use crate::host::{Host, VpContext};
use crate::port::Port;
use crate::power::Power;
use crate::profile::Config;
use crate::synic::Context;
use crate::time::PartitionTime;
use crate::vp::Vp;
use hv_memory::save::{Reader, RestoreError, Writer};

/// A Hyper-V partition.
///
/// It is shared by all VPs and takes no lock that two VPs contend for unless they access the same VP, the same port, or
/// overlay pages. It does not allocate. Create one (`const`, so it can be a static), call [`reset`](Self::reset) once,
/// then pass it the guest's traps.
///
/// Chapters, the files that add methods to it and so import this one: `calls`, `deadline`, `delivery`, `events`,
/// `expiry`, `flush`, `frame`, `hypercall`, `one`, `overlays`, `registers`, `save`, `smccc`, `traps`.
pub struct Partition<'a, R> {
    config: Config,
    vps: &'a [Vp<R>],
    ports: &'a [Port],
    /// Bit n is set if the upper half of a port's connection is n, modulo 64. The connections of VMBus's channels have
    /// their SINT there.
    port_halves: u64,
    guest_os_id: AtomicU64,
    time: PartitionTime<R>,
    /// Taken to show and hide overlay pages, before the locks of their owners.
    overlays: Mutex<R, ()>,
    crash: Crash,
}

/// Returns the bit of the upper half of a connection.
const fn half(connection: u32) -> u64 {
    1 << (connection >> 16 & 63)
}

impl<R: RawMutex> fmt::Debug for Partition<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields = f.debug_struct("Partition");
        fields.field("config", &self.config).field("vps", &self.vps).field("ports", &self.ports);
        fields
            .field("guest_os_id", &self.guest_os_id)
            .field("time", &self.time)
            .field("crash", &self.crash)
            .finish()
    }
}

impl<'a, R: RawMutex> Partition<'a, R> {
    /// Creates a partition with these VPs, of which VP 0 is the boot processor, and these ports. Call
    /// [`reset`](Self::reset) before anything else.
    #[must_use]
    pub const fn new(config: Config, vps: &'a [Vp<R>], ports: &'a [Port]) -> Self {
        let (mut port_halves, mut at) = (0, 0);
        while at < ports.len() {
            port_halves |= half(ports[at].connection);
            at += 1;
        }
        Self {
            config,
            vps,
            ports,
            port_halves,
            guest_os_id: AtomicU64::new(0),
            time: PartitionTime::new(),
            overlays: Mutex::new(()),
            crash: Crash::new(),
        }
    }

    /// Returns its configuration.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Returns the number of VPs.
    #[must_use]
    pub const fn vp_count(&self) -> usize {
        self.vps.len()
    }

    /// Returns the VPs.
    #[must_use]
    pub const fn vps(&self) -> &'a [Vp<R>] {
        self.vps
    }

    /// Puts everything into the state after creation: all VPs off, all registers at their reset values, reference time
    /// 0. No VP may run meanwhile. The guest's memory is the embedder's to restore.
    pub fn reset(&self, host: &impl Host) {
        self.guest_os_id.store(0, Ordering::Release);
        self.time.reset(self.config.counter_frequency, host.counter(), ReferenceTime::ZERO);
        self.crash.reset();
        for vp in self.vps {
            vp.reset(self.ports);
        }
        host.observe(&Event::Reset);
    }

    /// Returns the counter value at which a deadline expires; `None` if the counter never reaches it.
    #[must_use]
    pub fn counter_at(&self, deadline: Deadline) -> Option<u64> {
        self.time.shared().counter_at(deadline)
    }

    /// Starts a VP that is off, for VP `by`. Exactly one of several callers succeeds; the others get the state that
    /// they found.
    pub(crate) fn start_vp(
        &self,
        host: &impl Host,
        by: usize,
        vp: usize,
        context: &VpContext,
    ) -> Result<(), Power> {
        self.vps.get(vp).ok_or(Power::Off)?.begin_start()?;
        host.observe(&Event::VpStarting { by, vp, context });
        host.start_vp(vp, context);
        Ok(())
    }

    /// Reports that the VP is about to run its first instruction. Required for the boot processor as well. Its
    /// registers are reset, its queued messages dropped, its timers stopped, and its deadline is gone.
    pub fn vp_online(&self, host: &impl Host, vp: usize) {
        if let Some(state) = self.vps.get(vp) {
            self.reset_vp(host, vp);
            state.set_online(self.reference_time(host));
            host.observe(&Event::VpOnline { vp });
        }
    }

    /// Reports that the VP has stopped after [`Action::VpOff`](crate::Action::VpOff), and its CPU can be started again.
    /// Its timers stop. Its SynIC is unchanged until the VP starts again: Linux stops all other VPs when it crashes,
    /// and then waits for VMBus's last answer in the message page of the VP that made the connection (6.12,
    /// drivers/hv, `vmbus_wait_for_unload`).
    pub fn vp_offline(&self, host: &impl Host, vp: usize) {
        if let Some(state) = self.vps.get(vp) {
            state.set_offline(&self.context(host, vp));
            host.observe(&Event::VpOffline { vp });
        }
    }

    /// Returns whether a VP is running; `None` if there is no such VP.
    #[must_use]
    pub fn power(&self, vp: usize) -> Option<Power> {
        self.vps.get(vp).map(Vp::power)
    }

    /// Returns the reference time: that since the partition was created.
    #[must_use]
    pub fn reference_time(&self, host: &impl Host) -> ReferenceTime {
        self.time.at(|| host.counter())
    }

    /// Changes the clock as a migration does. The guest's counter has `frequency` Hz and its current value from now on;
    /// the reference time continues from `now`, which [`reference_time`](Self::reference_time) returned before the
    /// counter was changed. The reference TSC page follows. Call [`timer_expired`](Self::timer_expired) on every VP
    /// afterwards.
    pub fn migrate(&self, host: &impl Host, frequency: u64, now: ReferenceTime) {
        let sequence = self.time.migrate(host.memory(), frequency, host.counter(), now);
        host.observe(&Event::TimeChanged { sequence, now });
    }

    /// Marks the reference TSC page as invalid, or valid again. While it is invalid a guest must read the register.
    pub fn set_reference_tsc_valid(&self, host: &impl Host, valid: bool) {
        let sequence = self.time.set_page_valid(host.memory(), valid);
        host.observe(&Event::TimeChanged { sequence, now: self.reference_time(host) });
    }

    /// Acts as a hostile host, against a guest that reads a shared page twice: writes garbage derived from `random`
    /// into the pages of a VP.
    pub fn disturb(&self, host: &impl Host, vp: usize, what: Disturbance, random: u64) {
        let Some(state) = self.vps.get(vp) else { return };
        let memory = host.memory();
        match what {
            Disturbance::Messages => state.synic().disturb_messages(memory, random),
            Disturbance::Events => {
                let (sint, flag) = (random as u8 % 16, (random >> 8) as u16 % 2048);
                let _ = state.synic().signal(&self.context(host, vp), sint, flag);
            }
            Disturbance::Time => self.time.disturb(memory, random as u32),
        }
    }

    /// Saves the state that the VPs share.
    pub(crate) fn save_shared(&self, host: &impl Host, w: &mut Writer<'_>) {
        w.u64(self.guest_os_id.load(Ordering::Acquire));
        self.crash.save(w);
        self.time.save(w, host.counter());
    }

    /// Restores the state that the VPs share.
    pub(crate) fn restore_shared(&self, host: &impl Host, r: &mut Reader<'_>) -> Result<(), RestoreError> {
        self.guest_os_id.store(r.u64()?, Ordering::Release);
        self.crash.restore(r)?;
        self.time.restore(r, host.memory(), host.counter())
    }

    pub(crate) fn context<'c, H: Host>(&'c self, host: &'c H, vp: usize) -> Context<'c, H> {
        Context { host, vp, ports: self.ports, time: self.time.shared() }
    }

    pub(crate) const fn ports(&self) -> &'a [Port] {
        self.ports
    }

    /// Returns true if a port may have this connection; false is certain.
    pub(crate) const fn may_be_port(&self, connection: u32) -> bool {
        self.port_halves & half(connection) != 0
    }

    pub(crate) const fn guest_os_id(&self) -> &AtomicU64 {
        &self.guest_os_id
    }

    pub(crate) const fn time(&self) -> &PartitionTime<R> {
        &self.time
    }

    pub(crate) const fn overlays(&self) -> &Mutex<R, ()> {
        &self.overlays
    }

    pub(crate) const fn crash(&self) -> &Crash {
        &self.crash
    }
}
