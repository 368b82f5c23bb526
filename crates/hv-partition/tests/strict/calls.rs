//! Rules on hypercalls.

use crate::guests::*;

pub(crate) const CASES: &[Case] = &[
    (
        &rules::CALL_CODE,
        |m| {
            identified(m);
            fast(m, simple(Code(0x7777)), &[]);
        },
        |m| {
            identified(m);
            fast(m, SPIN, &[1]);
        },
    ),
    (
        &rules::CALL_RESERVED,
        |m| {
            identified(m);
            fast(m, HypercallInput(SPIN.0 | 1 << 47), &[1]);
        },
        |m| {
            identified(m);
            fast(m, SPIN, &[1]);
        },
    ),
    (
        &rules::CALL_NESTED,
        |m| {
            identified(m);
            fast(m, SPIN.with_is_nested(true), &[1]);
        },
        |m| {
            identified(m);
            fast(m, SPIN, &[1]);
        },
    ),
    (
        &rules::CALL_REPS,
        |m| {
            identified(m);
            fast(m, SPIN.with_rep_count(1), &[1]);
        },
        |m| {
            identified(m);
            fast(m, SPIN, &[1]);
        },
    ),
    (
        &rules::CALL_START,
        |m| {
            identified(m);
            let get = rep(Code::GET_VP_REGISTERS, 2).with_rep_start(1);
            let _ = m.fast(
                0,
                get,
                &[PARTITION_ID_SELF, u64::from(VP_INDEX_SELF), u64::from(Name::SVERSION.0) << 32],
            );
        },
        |m| {
            identified(m);
            // Continued again and again, which is not a start in the middle.
            let input = [PARTITION_ID_SELF, u64::from(VP_INDEX_SELF), 0x000a_0011_000a_0011];
            m.host.set_counter_step(10_000);
            let _ = m.fast(0, rep(Code::GET_VP_REGISTERS, 2), &input);
        },
    ),
    (
        &rules::CALL_VARIABLE,
        |m| {
            identified(m);
            fast(m, SPIN.with_variable_header_size(1), &[1, 2]);
        },
        |m| {
            identified(m);
            fast(m, simple(Code::SEND_IPI_EX).with_variable_header_size(1), &[0x20, 0, 1, 1]);
        },
    ),
    (
        &rules::CALL_FAST,
        |m| {
            identified(m);
            fast(m, simple(Code::POST_MESSAGE), &[0x100]);
        },
        |m| {
            ready(m);
            post(m, 0x100, 1, b"x");
        },
    ),
    (
        &rules::CALL_ALIGNMENT,
        |m| {
            identified(m);
            m.call_at(0, SPIN, PAGE + 4, 0);
        },
        |m| {
            identified(m);
            m.call_at(0, SPIN, PAGE + 8, 0);
        },
    ),
    (
        &rules::CALL_PLACE,
        |m| {
            ready(m);
            m.call_at(0, simple(Code::POST_MESSAGE), PAGE + 0xf80, 0);
        },
        |m| {
            ready(m);
            post(m, 0x100, 1, b"x");
        },
    ),
    (
        &rules::CALL_OUTPUT,
        |m| {
            identified(m);
            m.call_at(0, SPIN, PAGE, PAGE + 0x1000);
        },
        |m| {
            identified(m);
            m.call_at(0, SPIN, PAGE, 0);
        },
    ),
    (
        &rules::CALL_INPUT,
        |m| {
            identified(m);
            m.call_at(0, simple(Code::EXT_QUERY_CAPABILITIES), PAGE, PAGE);
        },
        |m| {
            identified(m);
            m.call_at(0, simple(Code::EXT_QUERY_CAPABILITIES), 0, PAGE);
        },
    ),
    (
        &rules::CALL_EARLY,
        |m| fast(m, SPIN, &[1]),
        |m| {
            identified(m);
            fast(m, SPIN, &[1]);
        },
    ),
    (
        &rules::CALL_PRIVILEGE,
        |m| {
            identified(m);
            fast(m, simple(Code::GET_PARTITION_ID), &[]);
        },
        |m| {
            identified(m);
            fast(m, SPIN, &[1]);
        },
    ),
    (
        &rules::CALL_IGNORED,
        |m| {
            identified(m);
            (0..20).for_each(|_| {
                let _ = m.get(0, Name(0x4000_0083));
            });
        },
        |m| {
            identified(m);
            (0..5).for_each(|n| {
                let _ = m.get(0, Name(0x5000_0000 + n));
            });
        },
    ),
    (
        &rules::CALL_HVC1,
        |m| {
            let mut x = [0; 31];
            x[0] = 0x1_0001_0050;
            x[1] = PARTITION_ID_SELF;
            x[2] = u64::from(VP_INDEX_SELF);
            x[3] = u64::from(Name::HYPERVISOR_VERSION.0);
            assert_eq!(m.hvc(0, 1, &mut x), hv_host::Action::Resume);
        },
        |m| {
            m.get(0, Name::HYPERVISOR_VERSION).unwrap();
        },
    ),
    (
        &rules::CALL_SMC,
        |m| {
            let mut x = [0; 31];
            x[0] = 0x4600_0001;
            assert_eq!(m.smc(0, &mut x), hv_host::Action::Resume);
        },
        |m| {
            let mut x = [0; 31];
            x[0] = u64::from(psci::VERSION);
            assert_eq!(m.smc(0, &mut x), hv_host::Action::Resume);
        },
    ),
    (
        &rules::CALL_PARTITION,
        |m| fast(m, rep(Code::GET_VP_REGISTERS, 1), &[99, u64::from(VP_INDEX_SELF), 0x100]),
        |m| {
            fast(m, rep(Code::GET_VP_REGISTERS, 1), &[PARTITION_ID_SELF, u64::from(VP_INDEX_SELF), 0x100]);
        },
    ),
    (
        &rules::CALL_VP,
        |m| fast(m, rep(Code::GET_VP_REGISTERS, 1), &[PARTITION_ID_SELF, 77, 0x100]),
        |m| {
            fast(m, rep(Code::GET_VP_REGISTERS, 1), &[PARTITION_ID_SELF, 1, 0x100]);
        },
    ),
    (
        &rules::IMMEDIATE,
        |m| {
            let _ = m.hvc(0, 7, &mut [0; 31]);
        },
        |m| {
            let _ = m.smccc(0, psci::VERSION, [0; 3]);
        },
    ),
    (
        &rules::FUNCTION,
        |m| {
            let _ = m.smccc(0, 0x8600_1234, [0; 3]);
        },
        |m| {
            let _ = m.smccc(0, 0x8600_ff01, [0; 3]);
            let _ = m.smccc(0, 0x8400_0050, [0; 3]);
        },
    ),
    (
        &rules::IPI,
        |m| {
            identified(m);
            fast(m, simple(Code::SEND_IPI), &[1, 1]);
        },
        |m| {
            identified(m);
            fast(m, simple(Code::SEND_IPI), &[0x10, 1]);
        },
    ),
    (
        &rules::FLUSH,
        |m| {
            identified(m);
            call(m, rep(Code::FLUSH_VIRTUAL_ADDRESS_LIST, 1), &[0, 4, 1, 0x1000]);
        },
        |m| {
            identified(m);
            call(m, simple(Code::FLUSH_VIRTUAL_ADDRESS_SPACE), &[0, 4, 1]);
        },
    ),
];
