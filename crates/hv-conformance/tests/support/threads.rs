//! VPs as threads: each runs what the suite gives it, and between that calls the partition of its own accord, whatever
//! the other VPs do. Nothing takes turns: the only locks are those that the partition asks its embedder for.

use std::panic::{self, AssertUnwindSafe};
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
/// How long one thread waits for another before it gives up.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a VP is given to run. The VP's thread returns the reference before [`Door::run`] returns.
type Work = &'static (dyn Fn() + Sync);

/// What a VP's thread does next.
enum Next {
    Work(Work),
    Stop,
    Start,
    OwnCalls,
    Wait,
    End,
}

#[derive(Default)]
struct State {
    work: Option<Work>,
    finished: Option<thread::Result<()>>,
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

    /// Runs `work` in the VP's thread and waits for its end. A panic of the work continues here.
    #[expect(unsafe_code, reason = "lends a closure to a thread that outlives it")]
    pub(crate) fn run(&self, work: &(dyn Fn() + Sync)) {
        // SAFETY: the reference is stored in `state.work` alone. The VP's thread takes it from there, copies it nowhere
        // else, and sets `finished` after its last use of it, also if the closure panics (`Door::serve`). This function
        // waits for `finished` without a limit, and nothing before that can unwind: so the closure outlives each use.
        let work = unsafe { std::mem::transmute::<&(dyn Fn() + Sync), Work>(work) };
        self.change(|state| state.work = Some(work));
        let mut state = lock(&self.state);
        let finished = loop {
            match state.finished.take() {
                Some(finished) => break finished,
                None => state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        };
        drop(state);
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
        let mut state = lock(&self.state);
        match state.work.take() {
            Some(work) => Next::Work(work),
            None if state.ended => Next::End,
            None if state.off && state.starting => Next::Start,
            None if state.off => Next::Wait,
            None if state.stopping => Next::Stop,
            None => Next::OwnCalls,
        }
    }

    /// Runs the VP in this thread, until the machine ends.
    pub(crate) fn serve(&self, env: &InProcess<'_>, vp: usize) {
        CURRENT.set(vp);
        loop {
            match self.next() {
                Next::Work(work) => {
                    let finished = panic::catch_unwind(AssertUnwindSafe(work));
                    self.change(|state| state.finished = Some(finished));
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
            let ordered = state.work.is_some() || state.ended;
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
