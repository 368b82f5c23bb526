//! VPs as threads: each runs what the suite gives it, and calls the partition in between, whatever the other VPs do.
//! Nothing takes turns: the only locks are those that the partition asks its embedder for.

use std::panic;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use hv_conformance::Env as _;
use hv_partition::Action;
use hv_tlfs::hypercall::{HypercallCode, HypercallInput};
use hv_tlfs::psci::CPU_OFF;
use hv_tlfs::register::RegisterName;
use hv_tlfs::status::HvStatus;
use hv_tlfs::vp::{PARTITION_ID_SELF, VP_INDEX_SELF};

use super::machine::lock;
use super::{CURRENT, InProcess};

/// How long a VP sleeps after each round of calls of its own, unless it is woken.
const PAUSE: Duration = Duration::from_micros(50);
/// How long one thread waits for another before it gives up: a thread that hangs, not one on a slow machine.
const PATIENCE: Duration = Duration::from_secs(300);

/// What a VP's thread does next.
enum Next {
    StepAside,
    Stop,
    Start,
    OwnCalls,
    Wait,
    End,
}

/// Whether another thread runs as the VP.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Lent {
    #[default]
    No,
    /// One waits until the VP's own has stepped aside.
    Wanted,
    Taken,
}

#[derive(Default)]
struct State {
    lent: Lent,
    off: bool,
    /// Another thread waits until it is off.
    stopping: bool,
    /// PSCI or a hypercall has started it.
    starting: bool,
    ended: bool,
    rounds: u64,
}

/// Where other threads leave orders for a VP's thread.
#[derive(Default)]
pub(crate) struct Door {
    state: Mutex<State>,
    changed: Condvar,
}

impl Door {
    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut lock(&self.state));
        self.changed.notify_all();
    }

    /// Waits until the condition holds. Returns false if it does not hold in time.
    fn wait_until(&self, holds: impl Fn(&State) -> bool) -> (bool, MutexGuard<'_, State>) {
        let waited = self.changed.wait_timeout_while(lock(&self.state), PATIENCE, |state| !holds(state));
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        (holds(&state), state)
    }

    /// Runs `work` on the VP and waits for its end: in a thread that may borrow, for which the VP's own steps aside. A
    /// panic of the work continues here.
    pub(crate) fn run(&self, vp: usize, work: &(dyn Fn() + Sync)) {
        self.change(|state| state.lent = Lent::Wanted);
        let there = |state: &mut State| state.lent != Lent::Taken;
        drop(self.changed.wait_while(lock(&self.state), there));
        let finished = thread::scope(|scope| {
            let on_vp = || {
                CURRENT.set(vp);
                work();
            };
            scope.spawn(on_vp).join()
        });
        self.change(|state| state.lent = Lent::No);
        if let Err(panicked) = finished {
            panic::resume_unwind(panicked);
        }
    }

    /// Has the VP switch itself off. Returns false if it does not.
    pub(crate) fn stop(&self) -> bool {
        self.change(|state| state.stopping = true);
        self.wait_until(|state| state.off).0
    }

    /// Reports that the VP was started: its thread switches it on, if there is one.
    pub(crate) fn start(&self) {
        self.change(|state| state.starting = true);
    }

    /// Returns true if it was started since the last time: for a machine without threads.
    pub(crate) fn take_start(&self) -> bool {
        std::mem::take(&mut lock(&self.state).starting)
    }

    /// Waits until the VP is on. Returns false if it is not in time.
    pub(crate) fn wait_online(&self) -> bool {
        self.wait_until(|state| !state.off && !state.starting).0
    }

    /// Lets the thread return.
    pub(crate) fn end(&self) {
        self.change(|state| state.ended = true);
    }

    /// Returns how many rounds of calls of its own the VP has made.
    pub(crate) fn rounds(&self) -> u64 {
        lock(&self.state).rounds
    }

    fn next(&self) -> Next {
        match *lock(&self.state) {
            State { lent: Lent::Wanted, .. } => Next::StepAside,
            State { ended: true, .. } => Next::End,
            State { off: true, starting: true, .. } => Next::Start,
            State { off: true, .. } => Next::Wait,
            State { stopping: true, .. } => Next::Stop,
            _ => Next::OwnCalls,
        }
    }

    /// Runs the VP in this thread, until the machine ends.
    pub(crate) fn serve(&self, env: &InProcess<'_>, vp: usize) {
        CURRENT.set(vp);
        loop {
            match self.next() {
                Next::StepAside => {
                    self.change(|state| state.lent = Lent::Taken);
                    let taken = |state: &mut State| state.lent == Lent::Taken;
                    drop(self.changed.wait_while(lock(&self.state), taken));
                }
                Next::Stop => {
                    let mut x = [0; 31];
                    x[0] = CPU_OFF.into();
                    if env.partition.hvc(env.machine, vp, 0, &mut x) != Action::VpOff {
                        env.machine.fail(format!("VP {vp} cannot switch itself off"));
                    }
                    env.partition.vp_offline(env.machine, vp);
                    self.change(|state| (state.off, state.stopping) = (true, false));
                }
                Next::Start => {
                    env.partition.vp_online(env.machine, vp);
                    self.change(|state| (state.off, state.starting) = (false, false));
                }
                Next::OwnCalls => {
                    env.own_calls();
                    self.change(|state| state.rounds += 1);
                    self.sleep(Some(PAUSE));
                }
                Next::Wait => self.sleep(None),
                Next::End => return,
            }
        }
    }

    /// Sleeps until there is something to do, or for this long.
    fn sleep(&self, at_most: Option<Duration>) {
        let idle = |state: &mut State| {
            let ordered = state.lent == Lent::Wanted || state.ended;
            !(ordered || state.stopping && !state.off || state.starting && state.off)
        };
        let at_most = at_most.unwrap_or(PATIENCE);
        drop(self.changed.wait_timeout_while(lock(&self.state), at_most, idle));
    }
}

impl InProcess<'_> {
    /// Makes calls that change nothing: a VP reads its index and the time. The index must be its own. Cases withdraw
    /// the guest OS id for a while, without which the host refuses the index.
    pub(crate) fn own_calls(&self) {
        let vp = self.vp();
        let get =
            HypercallInput::from_code(HypercallCode::GET_VP_REGISTERS).with_rep_count(1).with_fast(true);
        for name in [RegisterName::VP_INDEX, RegisterName::TIME_REF_COUNT] {
            let input = [PARTITION_ID_SELF, VP_INDEX_SELF.into(), name.0.into()];
            let (result, [value, _]) = self.conduit.call_3_2(get, input);
            let right = match (name, result.status()) {
                (RegisterName::VP_INDEX, HvStatus::ACCESS_DENIED) => true,
                (RegisterName::VP_INDEX, status) => status == HvStatus::SUCCESS && value == vp as u64,
                (_, status) => status == HvStatus::SUCCESS,
            };
            if !right {
                self.machine.fail(format!("VP {vp}, {name:?}: {:?}, {value}", result.status()));
            }
        }
    }
}

/// Holds VPs inside the partition until a number of them is there at the same time.
#[derive(Default)]
pub(crate) struct Meeting {
    state: Mutex<Met>,
    changed: Condvar,
}

#[derive(Default)]
struct Met {
    /// VPs that have to be there; 0 if no meeting is held.
    wanted: u32,
    present: u64,
    met: bool,
}

impl Meeting {
    /// Calls a meeting of this many VPs.
    pub(crate) fn call(&self, vps: u32) {
        *lock(&self.state) = Met { wanted: vps, ..Met::default() };
    }

    /// Keeps a VP until the others are there, or patience ends. Does nothing while no meeting is held.
    pub(crate) fn attend(&self, vp: usize) {
        let mut state = lock(&self.state);
        if state.wanted == 0 {
            return;
        }
        state.present |= 1 << vp;
        if state.present.count_ones() >= state.wanted {
            *state = Met { met: true, ..Met::default() };
            self.changed.notify_all();
            return;
        }
        let waited = self.changed.wait_timeout_while(state, PATIENCE, |state| state.wanted != 0);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        // The first whose patience ends lets the others go.
        state.wanted = 0;
        self.changed.notify_all();
    }

    /// Returns true if the last meeting took place.
    pub(crate) fn took_place(&self) -> bool {
        lock(&self.state).met
    }
}
