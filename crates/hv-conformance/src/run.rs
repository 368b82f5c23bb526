//! A run: the initial facts, the state before each case, and the cases one by one.

use hv_tlfs::features::{Enlightenments, Features, HypervisorVersion, ImplementationLimits};
use hv_tlfs::register::{RegisterName, RegisterValue};
use hv_tlfs::synic::{SINT_COUNT, Sint};
use hv_tlfs::time::ReferenceTime;
use hv_tlfs::timer::STIMER_COUNT;

use crate::cx::Cx;
use crate::env::{Env, MAX_VPS};
use crate::facts::{Facts, GUEST_ID, VpFacts};
use crate::outcome::Stop;
use crate::suite::{Setting, Sink, Totals, cases, matches};

/// Runs the cases that match a filter. Called on the boot processor, once the others are running.
pub fn run(env: &dyn Env, filter: &str, sink: &mut dyn Sink) -> Totals {
    let facts = learn(env);
    let selected = || cases().filter(|case| matches(case, filter));
    sink.begin(&Setting {
        cases: selected().count() as u32,
        filter,
        vps: env.vp_count() as u32,
        convention: env.convention(),
        granule: env.granule(),
        version: facts.version,
        features: (facts.features.privileges.0, facts.features.c.0),
    });
    let mut totals = Totals::default();
    for case in selected() {
        sink.case(case);
        prepare(env, &facts);
        let outcome = (case.run)(&Cx::new(env, &facts));
        match outcome {
            Ok(()) => totals.passed += 1,
            Err(Stop::Fail(_)) => totals.failed += 1,
            Err(Stop::Skip(_)) => totals.skipped += 1,
        }
        sink.outcome(case, &outcome);
    }
    prepare(env, &facts);
    sink.end(&totals);
    totals
}

/// Reads the host's features and the initial state, and writes the guest OS id.
fn learn(env: &dyn Env) -> Facts {
    let mut facts = Facts::NEW;
    let nothing = Facts::NEW;
    let cx = Cx::new(env, &nothing);
    let wide = |name| cx.get_wide(name).unwrap_or(RegisterValue::from_u64(0));
    facts.guest_id = cx.get(RegisterName::GUEST_OS_ID);
    facts.version = HypervisorVersion::from_register(wide(RegisterName::HYPERVISOR_VERSION));
    facts.features = Features::from_register(wide(RegisterName::PRIVILEGES_AND_FEATURES_INFO));
    facts.enlightenments = Enlightenments::from_register(wide(RegisterName::FEATURES_INFO));
    facts.limits = ImplementationLimits::from_register(wide(RegisterName::IMPLEMENTATION_LIMITS_INFO));
    // A failure appears in every case that needs the id.
    let _ = cx.set(RegisterName::GUEST_OS_ID, GUEST_ID);
    facts.reference_tsc = cx.get(RegisterName::REFERENCE_TSC);
    facts.crash = core::array::from_fn(|n| cx.get(RegisterName(RegisterName::GUEST_CRASH_P0.0 + n as u32)));
    for vp in 0..env.vp_count().min(MAX_VPS) {
        facts.vps[vp] = if vp == env.vp() { VpFacts::read(&cx) } else { cx.on(vp, VpFacts::read) };
    }
    facts
}

/// Resets all registers that the suite writes, and empties the message queues.
fn prepare(env: &dyn Env, facts: &Facts) {
    let cx = Cx::new(env, facts);
    // A case that found a fault may leave anything behind; what cannot be reverted here appears in the following cases.
    let _ = cx.set(RegisterName::GUEST_OS_ID, GUEST_ID);
    if facts.reference_tsc.is_ok() {
        let _ = cx.set(RegisterName::REFERENCE_TSC, 0);
    }
    for (n, value) in (0..).zip(&facts.crash) {
        if value.is_ok() {
            let _ = cx.set(RegisterName(RegisterName::GUEST_CRASH_P0.0 + n), 0);
        }
    }
    for vp in 0..env.vp_count() {
        if vp == env.vp() {
            prepare_vp(&cx);
        } else {
            cx.on(vp, prepare_vp);
        }
    }
}

fn prepare_vp(cx: &Cx<'_>) {
    let set = |name, value| {
        // See `prepare`.
        let _ = cx.set(name, value);
    };
    let own = &cx.facts.vps[cx.env.vp()];
    if own.timers[0][0].is_ok() {
        for timer in 0..STIMER_COUNT as u8 {
            set(RegisterName::stimer_config(timer), 0);
            set(RegisterName::stimer_count(timer), 0);
        }
    }
    if own.control.is_ok() {
        for sint in 0..SINT_COUNT as u8 {
            set(RegisterName::sint(sint), Sint::RESET.0);
        }
        let page = cx.parameters();
        cx.fill(page, 0);
        cx.drain(page);
        // The hypervisor may keep the flags of a disabled page, and show them in the next one.
        set(RegisterName::SIEFP, page | 1);
        cx.fill(page, 0);
        set(RegisterName::SIEFP, 0);
    }
    if cx.get(RegisterName::VP_ASSIST_PAGE).is_ok() {
        set(RegisterName::VP_ASSIST_PAGE, 0);
    }
    cx.pause(ReferenceTime::ZERO);
}
