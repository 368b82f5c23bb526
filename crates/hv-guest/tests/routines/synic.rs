//! The SynIC of each VP: messages, event flags, sources.

use crate::common::{Guest, VMBUS, everywhere, intid};
use hv_guest::registers::{self, Register};
use hv_guest::synic::{End, SintIndex, SynicError, SynicPages};
use hv_testbed::{Convention, RAM_BASE};
use hv_tlfs::status::HvStatus;
use hv_tlfs::synic::{MessageType, Siefp, Simp, Sint, SynicControl};

const SINT: SintIndex = SintIndex::VMBUS;

fn on_each_vp(test: impl Fn(&Guest, usize)) {
    everywhere(|guest| (0..guest.vps).for_each(|n| test(guest, n)));
}

#[test]
fn enabling_writes_what_linux_writes() {
    on_each_vp(|guest, n| {
        let (messages, events) = (guest.bed.page(), guest.bed.page());
        let mut synic = guest.vp(n).enable_synic(messages, events, guest.bed.memory()).unwrap();
        synic.unmask(SINT, intid(VMBUS), &guest.bed.interrupts(n)).unwrap();
        let simp: Simp = registers::get(&synic, Register::SIMP).unwrap();
        assert!(simp.enabled() && simp.page_number() >= RAM_BASE >> 12);
        let siefp: Siefp = registers::get(&synic, Register::SIEFP).unwrap();
        assert!(siefp.enabled() && siefp.page_number() != simp.page_number());
        assert_eq!(registers::get(&synic, Register::sint(SINT)), Ok(Sint(0x12)));
        assert_eq!(registers::get(&synic, Register::SCONTROL), Ok(SynicControl(1)));
        assert!(guest.bed.is_enabled(n, 18));
    });
}

#[test]
fn one_page_for_both_is_refused_and_the_vp_comes_back() {
    everywhere(|guest| {
        let page = guest.bed.page();
        let refused = guest.vp(0).enable_synic(page, page, guest.bed.memory()).expect_err("refused");
        let (vp, error) = refused.into_parts();
        assert_eq!(error, SynicError::Pages);
        assert!(vp.enable_synic(page, guest.bed.page(), guest.bed.memory()).is_ok());
    });
}

#[test]
fn messages_arrive_in_order_and_the_last_one_leaves_quiet() {
    on_each_vp(|guest, n| {
        let synic = guest.synic(n);
        for i in 0..4 {
            guest.bed.post(n, 2, MessageType(1), &[i]).unwrap();
        }
        for i in 0..4 {
            assert_eq!(guest.bed.take_interrupt(n), Some(18), "message {i} interrupts");
            let pending = synic.pending(SINT).expect("a message in the slot");
            assert_eq!(pending.read().unwrap().payload(), [i]);
            let end = synic.end(pending).unwrap();
            assert_eq!(end, if i < 3 { End::MoreFollow } else { End::Quiet }, "message {i}");
        }
        assert!(synic.pending(SINT).is_none());
        assert_eq!(guest.bed.take_interrupt(n), None);
    });
}

#[test]
fn the_end_of_a_message_costs_a_hypercall_only_if_another_waits() {
    everywhere(|guest| {
        let synic = guest.synic(0);
        guest.bed.post(0, 2, MessageType(1), &[]).unwrap();
        let before = guest.bed.hypercalls();
        let pending = synic.pending(SINT).unwrap();
        assert_eq!(synic.end(pending), Ok(End::Quiet));
        assert_eq!(guest.bed.hypercalls() - before, 0);
        guest.bed.post(0, 2, MessageType(1), &[]).unwrap();
        guest.bed.post(0, 2, MessageType(1), &[]).unwrap();
        let pending = synic.pending(SINT).unwrap();
        assert_eq!(synic.end(pending), Ok(End::MoreFollow));
        assert_eq!(guest.bed.hypercalls() - before, 1);
    });
}

#[test]
fn sources_do_not_share_messages_and_each_has_its_interrupt() {
    everywhere(|guest| {
        let mut synic = guest.synic(0);
        let other = SintIndex::new(5).unwrap();
        synic.unmask(other, intid(40), &guest.bed.interrupts(0)).unwrap();
        guest.bed.post(0, 5, MessageType(9), b"five").unwrap();
        assert!(synic.pending(SINT).is_none());
        assert_eq!(guest.bed.take_interrupt(0), Some(40));
        assert_eq!(synic.pending(other).unwrap().message_type(), MessageType(9));
    });
}

#[test]
fn a_masked_source_does_not_interrupt_and_keeps_the_interrupt_of_another() {
    everywhere(|guest| {
        let mut synic = guest.synic(0);
        let interrupts = guest.bed.interrupts(0);
        let other = SintIndex::new(5).unwrap();
        synic.unmask(other, intid(VMBUS), &interrupts).unwrap();
        synic.mask(SINT, &interrupts).unwrap();
        assert!(registers::get(&synic, Register::sint(SINT)).unwrap().masked());
        assert!(guest.bed.is_enabled(0, 18), "source 5 uses it too");
        synic.mask(other, &interrupts).unwrap();
        assert!(!guest.bed.is_enabled(0, 18));
    });
}

#[test]
fn unmasking_with_another_interrupt_lets_go_of_the_first() {
    everywhere(|guest| {
        let mut synic = guest.synic(0);
        let before = guest.bed.hypercalls();
        synic.unmask(SINT, intid(99), &guest.bed.interrupts(0)).unwrap();
        assert_eq!(guest.bed.hypercalls() - before, 3, "read, mask, and unmask with the new one");
        assert!(guest.bed.is_enabled(0, 99) && !guest.bed.is_enabled(0, 18));
        assert_eq!(registers::get(&synic, Register::sint(SINT)), Ok(Sint(99)));
    });
}

#[test]
fn event_flags_are_taken_once_lowest_first() {
    on_each_vp(|guest, n| {
        let synic = guest.synic(n);
        for flag in [2047, 0, 64, 63] {
            assert_eq!(guest.bed.signal(n, 2, flag), Ok(true));
        }
        assert_eq!(guest.bed.signal(n, 2, 63), Ok(false), "set already");
        let mut taken = Vec::new();
        synic.take_events(SINT, |flag| taken.push(flag));
        assert_eq!(taken, [0, 63, 64, 2047]);
        synic.take_events(SINT, |flag| panic!("flag {flag} twice"));
        assert_eq!(guest.bed.signal(n, 2, 63), Ok(true), "clear again for the hypervisor");
        assert!(synic.take_event(SINT, 63));
    });
}

#[test]
fn event_flags_beyond_the_limit_stay_set() {
    on_each_vp(|guest, n| {
        let synic = guest.synic(n);
        for (limit, taken) in [(0, 0), (1, 1), (32, 1), (33, 3), (64, 3), (65, 4), (2048, 5), (usize::MAX, 5)]
        {
            let flags = [31, 32, 63, 64, 2047];
            flags.iter().for_each(|flag| assert_eq!(guest.bed.signal(n, 2, *flag), Ok(true)));
            let mut below = Vec::new();
            synic.take_events_below(SINT, limit, |flag| below.push(flag));
            assert_eq!(below, flags[..taken], "{limit}");
            let mut rest = Vec::new();
            synic.take_events(SINT, |flag| rest.push(flag));
            assert_eq!(rest, flags[taken..], "{limit}");
        }
    });
}

#[test]
fn disabling_leaves_reset_state_and_gives_pages_and_vp_back() {
    on_each_vp(|guest, n| {
        let synic = guest.synic(n);
        let interrupts = guest.bed.interrupts(n);
        let (vp, pages) = synic.disable(&interrupts).unwrap();
        assert_eq!(registers::get(&vp, Register::SIMP), Ok(Simp(0)));
        assert_eq!(registers::get(&vp, Register::SIEFP), Ok(Siefp(0)));
        assert_eq!(registers::get(&vp, Register::SCONTROL), Ok(SynicControl(0)));
        assert!(registers::get(&vp, Register::sint(SINT)).unwrap().masked());
        assert!(!guest.bed.is_enabled(n, 18));
        assert_eq!(guest.bed.post(n, 2, MessageType(1), &[]), Err(HvStatus::INVALID_SYNIC_STATE));
        let (messages, events) = pages.into_inner();
        let again = vp.enable_synic(messages, events, guest.bed.memory());
        assert!(again.is_ok(), "the same VP and the same pages once more");
    });
}

#[test]
fn a_message_that_nobody_took_does_not_come_up_when_the_synic_is_enabled_anew() {
    on_each_vp(|guest, n| {
        let synic = guest.synic(n);
        guest.bed.post(n, 2, MessageType(1), b"old").unwrap();
        guest.bed.signal(n, 2, 63).unwrap();
        let (vp, _) = synic.disable(&guest.bed.interrupts(n)).unwrap();
        // Whoever ran before may have left the SynIC on.
        registers::set(&vp, Register::SCONTROL, SynicControl(1)).unwrap();
        let (messages, events) = (guest.bed.page(), guest.bed.page());
        let mut synic = vp.enable_synic(messages, events, guest.bed.memory()).unwrap();
        synic.unmask(SINT, intid(VMBUS), &guest.bed.interrupts(n)).unwrap();
        assert!(synic.pending(SINT).is_none());
        assert!(!synic.take_event(SINT, 63));
        guest.bed.post(n, 2, MessageType(1), b"new").unwrap();
        assert_eq!(synic.pending(SINT).unwrap().read().unwrap().payload(), b"new");
    });
}

#[test]
fn polling_brings_a_message_without_an_interrupt() {
    everywhere(|guest| {
        let synic = guest.synic(0);
        guest.bed.post(0, 2, MessageType(1), b"a").unwrap();
        guest.bed.post(0, 2, MessageType(1), b"b").unwrap();
        let pending = synic.pending(SINT).unwrap();
        assert_eq!(pending.read().unwrap().payload(), b"a");
        assert_eq!(synic.end(pending), Ok(End::MoreFollow));
        synic.poll().unwrap();
        assert_eq!(synic.pending(SINT).unwrap().read().unwrap().payload(), b"b");
    });
}

#[test]
fn after_a_crash_another_cpu_reads_on_and_a_slot_is_freed_once() {
    for convention in [Convention::Smccc, Convention::Hvc1] {
        let guest = Guest::new(hv_testbed::Config::new(crate::common::FREQUENCY), convention, 2);
        let synic = guest.synic(1);
        let pages: SynicPages = synic.pages();
        guest.bed.post(1, 2, MessageType(1), b"unload response").unwrap();
        // VP 1 has seen the message when VP 0 crashes and takes it.
        let seen = synic.pending(SINT).unwrap();
        let crashed = guest.bed.wire(0, convention);
        let pending = pages.take_over(SINT).unwrap();
        assert_eq!(pending.read().unwrap().payload(), b"unload response");
        assert_eq!(SynicPages::end(&crashed, pending), Ok(End::Quiet));
        guest.bed.post(1, 2, MessageType(2), b"next").unwrap();
        assert_eq!(synic.end(seen), Ok(End::NotOurs));
        assert_eq!(
            pages.take_over(SINT).unwrap().message_type(),
            MessageType(2),
            "the next message is still there"
        );
    }
}

#[test]
fn a_payload_size_that_no_message_has_is_an_error_and_the_slot_can_be_freed() {
    everywhere(|guest| {
        let (messages, events) = (guest.bed.page(), guest.bed.page());
        let synic = guest.vp(0).enable_synic(messages, events, guest.bed.memory()).unwrap();
        // Slot 2, written by a hypervisor that is broken or hostile: type 1, size 255.
        messages.write(2 * 256, &[1, 0, 0, 0, 255]);
        let pending = synic.pending(SINT).unwrap();
        let malformed = pending.read().unwrap_err();
        assert_eq!((malformed.message_type, malformed.size), (MessageType(1), 255));
        assert_eq!(synic.end(pending), Ok(End::Quiet));
        assert!(synic.pending(SINT).is_none());
    });
}
