//! Rules on the SynIC, messages and events.

use crate::guests::*;

pub(crate) const CASES: &[Case] = &[
    (
        &rules::SCONTROL_RESERVED,
        |m| {
            identified(m);
            set(m, Name::SIMP, PAGE | 1);
            set(m, Name::SCONTROL, 3);
        },
        ready,
    ),
    (
        &rules::SCONTROL_PAGES,
        |m| {
            identified(m);
            set(m, Name::SCONTROL, 1);
        },
        ready,
    ),
    (
        &rules::PAGE_RESERVED,
        |m| {
            identified(m);
            set(m, Name::SIMP, PAGE | 0x11);
        },
        |m| {
            identified(m);
            set(m, Name::SIMP, PAGE | 1);
        },
    ),
    (
        &rules::PAGE_OUTSIDE,
        |m| {
            identified(m);
            set(m, Name::SIEFP, 0x7000_0000_0000 | 1);
        },
        |m| {
            identified(m);
            set(m, Name::SIEFP, 0x7000_0000_0000);
        },
    ),
    (
        &rules::PAGE_UNITS,
        |m| {
            identified(m);
            set(m, Name::REFERENCE_TSC, (RAM + 0x4_0000) >> 2 | 1);
        },
        |m| {
            identified(m);
            set(m, Name::REFERENCE_TSC, PAGE | 1);
        },
    ),
    (
        &rules::PAGE_SHARED,
        |m| {
            identified(m);
            set(m, Name::SIMP, PAGE | 1);
            m.set(1, Name::SIEFP, PAGE | 1).unwrap();
        },
        |m| {
            identified(m);
            set(m, Name::SIMP, PAGE | 1);
            set(m, Name::SIMP, PAGE | 1);
            set(m, Name::SIMP, PAGE);
            m.set(1, Name::SIMP, PAGE | 1).unwrap();
        },
    ),
    (
        &rules::PAGE_MOVED,
        |m| {
            ready(m);
            set(m, Name::SIMP, PAGE | 1);
        },
        |m| {
            ready(m);
            set(m, Name::SCONTROL, 0);
            set(m, Name::SIMP, PAGE | 1);
        },
    ),
    (
        &rules::PAGE_OFF,
        |m| {
            ready(m);
            (0..3).for_each(|_| post(m, 0x100, 1, b"x"));
            m.set(1, Name::SIMP, 0).unwrap();
        },
        |m| {
            ready(m);
            (0..3).for_each(|_| post(m, 0x100, 1, b"x"));
            while m.take_message(1, SINT).is_some() {}
            m.set(1, Name::SIMP, 0).unwrap();
        },
    ),
    (
        &rules::SINT_VECTOR,
        |m| {
            identified(m);
            set(m, Name::SINT2, 2);
        },
        |m| {
            identified(m);
            set(m, Name::SINT2, 0x1_0002);
        },
    ),
    (
        &rules::SINT_RESERVED,
        |m| {
            identified(m);
            set(m, Name::SINT2, 0x112);
        },
        |m| {
            identified(m);
            set(m, Name::SINT2, 0x12);
        },
    ),
    (
        &rules::SINT_AUTO_EOI,
        |m| {
            identified(m);
            set(m, Name::SINT2, 0x2_0012);
        },
        |m| {
            identified(m);
            set(m, Name::SINT2, 0x12);
        },
    ),
    (
        &rules::SINT_CHANGED,
        |m| {
            identified(m);
            set(m, Name::SINT2, 0x12);
            set(m, Name::SINT2, 0x13);
        },
        |m| {
            identified(m);
            for value in [0x12, 0x12, 0x1_0012, 0x13] {
                set(m, Name::SINT2, value);
            }
        },
    ),
    (
        &rules::EOM_NEEDLESS,
        |m| {
            ready(m);
            set(m, Name::EOM, 0);
        },
        |m| {
            ready(m);
            (0..3).for_each(|_| post(m, 0x100, 1, b"x"));
            while m.take_message(1, SINT).is_some() {}
        },
    ),
    (
        &rules::EOM_MISSING,
        |m| {
            ready(m);
            let slot = m.message_page(1) + u64::from(SINT) * 256;
            (0..40).for_each(|_| {
                post(m, 0x100, 1, b"x");
                post(m, 0x100, 1, b"x");
                m.host.memory().store_release(slot, 0).unwrap();
            });
        },
        |m| {
            ready(m);
            (0..40).for_each(|_| {
                post(m, 0x100, 1, b"x");
                post(m, 0x100, 1, b"x");
                m.take_message(1, SINT).unwrap();
                m.take_message(1, SINT).unwrap();
            });
        },
    ),
    (
        &rules::OFFLINE_SYNIC,
        |m| {
            ready(m);
            let _ = m.smccc(1, psci::CPU_OFF, [0; 3]);
        },
        |m| {
            ready(m);
            m.set(1, Name::SINT2, 0x1_0012).unwrap();
            m.set(1, Name::SCONTROL, 0).unwrap();
            let _ = m.smccc(1, psci::CPU_OFF, [0; 3]);
        },
    ),
    (
        &rules::POST_TYPE,
        |m| {
            ready(m);
            post(m, 0x100, 0x8000_0001, b"x");
        },
        |m| {
            ready(m);
            post(m, 0x100, 1, b"x");
        },
    ),
    (
        &rules::POST_FORM,
        |m| {
            ready(m);
            call(m, simple(Code::POST_MESSAGE), &[0x100, 1 | 300 << 32]);
        },
        |m| {
            ready(m);
            post(m, 0x100, 1, &[0; 240]);
        },
    ),
    (
        &rules::CONNECTION,
        |m| {
            ready(m);
            post(m, 0x101, 1, b"x");
        },
        |m| {
            ready(m);
            post(m, 0x100, 1, b"x");
            fast(m, simple(Code::SIGNAL_EVENT), &[0x101]);
        },
    ),
    (
        &rules::TARGET_OFF,
        |m| {
            identified(m);
            m.enable_synic(0, SINT, 18);
            fast(m, simple(Code::SIGNAL_EVENT), &[0x101]);
        },
        |m| {
            ready(m);
            fast(m, simple(Code::SIGNAL_EVENT), &[0x101]);
        },
    ),
    (
        &rules::BUFFERS,
        |m| {
            ready(m);
            (0..18).for_each(|_| post(m, 0x100, 1, b"x"));
        },
        |m| {
            ready(m);
            (0..17).for_each(|_| post(m, 0x100, 1, b"x"));
        },
    ),
    (
        &rules::SIGNAL_FLAG,
        |m| {
            ready(m);
            fast(m, simple(Code::SIGNAL_EVENT), &[0x101 | 4 << 32]);
        },
        |m| {
            ready(m);
            fast(m, simple(Code::SIGNAL_EVENT), &[0x101 | 3 << 32]);
        },
    ),
];
