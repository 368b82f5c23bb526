//! The four synthetic timers of each VP.

use hv_guest::interrupts::Intid;
use hv_guest::partition::Vp;
use hv_guest::registers::{self, Register};
use hv_guest::synic::{End, Synic};
use hv_guest::timer::{Schedule, Timer, TimerError, TimerIndex};
use hv_guest::tlfs::time::ReferenceTime;
use hv_guest::tlfs::timer::StimerConfig;

use super::synic::SINT;
use super::{Cx, Os};

/// 50 microseconds and a millisecond.
const SHORT: u64 = 500;
const PERIOD: u64 = 10_000;

/// Runs one-shot, periodic and lazy timers, by auto-enable and by enable, with an interrupt and with a message.
pub(crate) fn timers<O: Os>(cx: &Cx<'_, O>) {
    cx.on_each(|n| {
        let [_, intid, _] = cx.os.intids();
        let synic = cx.synic(n, SINT);
        for index in TimerIndex::ALL {
            direct(cx, n, synic.vp(), index, intid);
            message(cx, &synic, index);
        }
        assert_eq!(
            Timer::message(&synic, TimerIndex::ALL[0], hv_guest::synic::SintIndex::new(0).expect("0 is one"))
                .err(),
            Some(TimerError::SourceZero)
        );
        cx.down(synic);
    });
}

fn direct<O: Os>(cx: &Cx<'_, O>, n: usize, vp: &Vp<'_, O::Conduit>, index: TimerIndex, intid: Intid) {
    let os = cx.os;
    let mut timer = Timer::direct(vp, index, intid, os).expect("it has direct timers");
    assert_eq!(Timer::direct(vp, index, intid, os).err(), Some(TimerError::InUse));
    assert_eq!(timer.start(vp, Schedule::Every(ReferenceTime(0))), Err(TimerError::NoPeriod));
    for by_enable in [false, true, false] {
        let before = quiet(cx, n, intid);
        let due = ReferenceTime(cx.now() + SHORT);
        let schedule = Schedule::Once(due);
        let started = if by_enable { timer.start_by_enable(vp, schedule) } else { timer.start(vp, schedule) };
        started.expect("it starts");
        cx.until("a one-shot timer's interrupt", || os.taken(n, intid) > before);
        assert!(cx.now() >= due.ticks(), "not early");
        assert_eq!(timer.is_running(vp), Ok(false));
        assert_eq!(os.taken(n, intid), before + 1);
    }
    for schedule in [Schedule::Every(ReferenceTime(PERIOD)), Schedule::EveryLazily(ReferenceTime(PERIOD))] {
        let before = quiet(cx, n, intid);
        let start = cx.now();
        timer.start(vp, schedule).expect("it starts");
        cx.until("a periodic timer's interrupts", || os.taken(n, intid) >= before + 3);
        assert!(cx.now() >= start + 3 * PERIOD, "not early");
        assert_eq!(timer.is_running(vp), Ok(true));
        timer.stop(vp).expect("it stops");
        assert_eq!(timer.is_running(vp), Ok(false));
    }
    timer.release(vp, os).expect("it gives the timer back");
    assert_eq!(registers::get(vp, Register::timer_config(index)), Ok(StimerConfig(0)));
}

/// Takes the messages that a timer left when it was stopped; returns the number of interrupts so far.
fn quiet<O: Os>(cx: &Cx<'_, O>, n: usize, intid: Intid) -> u64 {
    cx.os.pass();
    cx.os.taken(n, intid)
}

fn message<O: Os>(cx: &Cx<'_, O>, synic: &Synic<'_, O::Conduit>, index: TimerIndex) {
    let vp = synic.vp();
    let mut timer = Timer::message(synic, index, SINT).expect("it has timers");
    for schedule in [Schedule::Once(ReferenceTime(cx.now() + SHORT)), Schedule::Every(ReferenceTime(PERIOD))]
    {
        timer.start(vp, schedule).expect("it starts");
        cx.until("a timer's message", || synic.pending(SINT).is_some());
        let pending = synic.pending(SINT).expect("it is there");
        let payload = pending.read().expect("its size can be").timer().expect("a timer's message");
        assert_eq!(payload.timer_index, u32::from(index.number()));
        assert!(synic.end(pending).is_ok());
    }
    timer.release(vp, cx.os).expect("it gives the timer back");
    // What was sent before the end arrives anyway.
    while let Some(pending) = synic.pending(SINT) {
        assert_ne!(synic.end(pending), Ok(End::NotOurs));
    }
}
