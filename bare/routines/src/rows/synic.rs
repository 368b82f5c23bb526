//! The SynIC of each VP, and its interrupt.

use hv_guest::partition::VpError;
use hv_guest::registers::{self, Register};
use hv_guest::synic::{End, SintIndex, Synic, SynicError, SynicPages};
use hv_guest::timer::{Schedule, Timer, TimerIndex};
use hv_guest::tlfs::synic::{MessageType, Sint};
use hv_guest::tlfs::time::ReferenceTime;
use hv_guest::vp_map::MapError;

use super::{Cx, Os};

/// The source that the rows use.
pub(crate) const SINT: SintIndex = SintIndex::VMBUS;

impl<'a, O: Os> Cx<'a, O> {
    /// Enables the SynIC of VP `n`, which calls, and unmasks one source.
    pub(crate) fn synic(&self, n: usize, sint: SintIndex) -> Synic<'a, O::Conduit> {
        let [messages, events] = self.synic_pages(n);
        let synic = self.vp(n).enable_synic(messages, events, self.os.memory());
        let mut synic = synic.expect("a SynIC");
        synic.unmask(sint, self.os.intids()[0], self.os).expect("a source");
        synic
    }

    /// Ends a VP's use of the SynIC.
    pub(crate) fn down(&self, synic: Synic<'a, O::Conduit>) {
        let (vp, _) = synic.disable(self.os).expect("it gives the pages back");
        vp.offline().expect("it lets the VP go");
    }
}

/// Enables, unmasks, takes a message with its interrupt, masks, disables; checks that misuse is refused.
pub(crate) fn synic<O: Os>(cx: &Cx<'_, O>) {
    cx.on_each(|n| {
        let (os, [intid, other, _]) = (cx.os, cx.os.intids());
        let vp = cx.vp(n);
        assert_eq!(cx.hv.vp(cx.map, n).err(), Some(VpError::Map(MapError::AlreadyOnline)));
        let [messages, events] = cx.synic_pages(n);
        let refused = vp.enable_synic(messages, messages, os.memory());
        let (vp, error) = refused.expect_err("two pages are needed").into_parts();
        assert_eq!(error, SynicError::Pages);
        let synic = vp.enable_synic(messages, events, os.memory());
        let mut synic = synic.expect("a SynIC");
        assert!(registers::get(&synic, Register::SIMP).is_ok_and(|simp| simp.enabled()));
        assert!(registers::get(&synic, Register::SIEFP).is_ok_and(|siefp| siefp.enabled()));
        assert!(registers::get(&synic, Register::SCONTROL).is_ok_and(|control| control.enable()));

        // With one interrupt, then with another, then with none.
        let mut timer = Timer::message(&synic, TimerIndex::ALL[2], SINT).expect("a timer");
        for intid in [intid, other, intid] {
            synic.unmask(SINT, intid, os).expect("it unmasks a source");
            assert_eq!(registers::get(&synic, Register::sint(SINT)), Ok(Sint(intid.number().into())));
            let before = os.taken(n, intid);
            let due = ReferenceTime(cx.now() + 500);
            timer.start(synic.vp(), Schedule::Once(due)).expect("it starts");
            cx.until("the message's interrupt", || os.taken(n, intid) > before);
            let pending = synic.pending(SINT).expect("the interrupt came with a message");
            let message = pending.read().expect("its size can be");
            assert_eq!((pending.message_type(), message.sender()), (MessageType::TIMER_EXPIRED, 0));
            let payload = message.timer().expect("a timer's payload");
            assert_eq!((payload.timer_index, payload.expiration_time), (2, due));
            assert!(payload.delivery_time >= due);
            assert_eq!(synic.end(pending), Ok(End::Quiet));
            assert!(synic.pending(SINT).is_none());
        }
        synic.mask(SINT, os).expect("it masks a source");
        assert!(registers::get(&synic, Register::sint(SINT)).is_ok_and(Sint::masked));
        let taken = os.taken(n, intid);
        timer.start(synic.vp(), Schedule::Once(ReferenceTime(0))).expect("it starts");
        cx.until("a message without an interrupt", || synic.poll().is_ok() && synic.pending(SINT).is_some());
        assert_eq!(os.taken(n, intid), taken, "a masked source does not interrupt");
        // As another CPU does it, after a crash.
        let pages: SynicPages = synic.pages();
        let pending = pages.take_over(SINT).expect("the message is still there");
        assert_eq!(SynicPages::end(cx.hv, pending), Ok(End::Quiet));
        timer.release(synic.vp(), os).expect("it stops a timer");
        cx.down(synic);
        assert_eq!(cx.map.vp(n), None);
    });
}
