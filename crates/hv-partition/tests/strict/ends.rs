//! Rules on VPs and crashes.

use crate::guests::*;

pub(crate) const CASES: &[Case] = &[
    (
        &rules::START_VP,
        |m| {
            identified(m);
            call(m, simple(Code::START_VP), &[PARTITION_ID_SELF, 1, RAM, 0, 0, 0, 0, 0, 0, 0, 0]);
        },
        |m| {
            identified(m);
            m.offline(1);
            call(m, simple(Code::START_VP), &[PARTITION_ID_SELF, 1, RAM, 0, 0, 0, 0, 0, 0, 0, 0]);
        },
    ),
    (
        &rules::PSCI_ON,
        |m| {
            let _ = m.smccc(0, psci::CPU_ON | psci::SMC64, [9, RAM, 0]);
        },
        |m| {
            let _ = m.smccc(0, psci::CPU_ON | psci::SMC64, [1, RAM, 0]);
        },
    ),
    (
        &rules::CRASH_TWICE,
        |m| {
            crash(m, 1 << 63, 0, 0);
            crash(m, 1 << 63, 0, 0);
        },
        |m| crash(m, 1 << 63, 0, 0),
    ),
    (&rules::CRASH_RESERVED, |m| crash(m, 1 << 63 | 1, 0, 0), |m| crash(m, 7 << 61, PAGE, 5)),
    (&rules::CRASH_SILENT, |m| crash(m, 1 << 62, PAGE, 5), |m| crash(m, 3 << 62, PAGE, 5)),
    (&rules::CRASH_EMPTY, |m| crash(m, 3 << 62, PAGE, 0), |m| crash(m, 1 << 63, PAGE, 0)),
    (&rules::CRASH_LONG, |m| crash(m, 3 << 62, PAGE, 5000), |m| crash(m, 3 << 62, PAGE, 4096)),
    (&rules::CRASH_ADDRESS, |m| crash(m, 3 << 62, 0xffff_8000_0000_0000, 5), |m| crash(m, 3 << 62, PAGE, 5)),
];
