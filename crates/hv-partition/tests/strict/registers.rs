//! Rules on registers and timers.

use crate::guests::*;
use hv_tlfs::time::ReferenceTime;

pub(crate) const CASES: &[Case] = &[
    (
        &rules::REGISTER_MSR,
        |m| {
            let _ = m.get(0, Name(0x4000_0002));
        },
        |m| {
            let _ = m.get(0, Name::HYPERVISOR_VERSION);
        },
    ),
    (
        &rules::REGISTER_UNKNOWN,
        |m| {
            let _ = m.get(0, Name(0x1234));
        },
        |m| {
            let _ = m.get(0, Name(0x4000_0002));
        },
    ),
    (
        &rules::REGISTER_READ_ONLY,
        |m| set(m, Name::TIME_REF_COUNT, 0),
        |m| {
            let _ = m.get(0, Name::TIME_REF_COUNT);
        },
    ),
    (
        &rules::REGISTER_EARLY,
        |m| {
            let _ = m.get(0, Name::VP_INDEX);
        },
        |m| {
            identified(m);
            m.get(0, Name::VP_INDEX).unwrap();
        },
    ),
    (
        &rules::REGISTER_PRIVILEGE,
        |m| {
            identified(m);
            // The only register that today's Azure refuses is that of another profile; the judge sees the status alone.
            let event = hv_partition::Event::RegisterGet {
                vp: 0,
                target: 0,
                name: Name::VP_ASSIST_PAGE,
                value: Err(hv_tlfs::status::HvStatus::ACCESS_DENIED),
            };
            m.host.observe(&event);
        },
        |m| {
            identified(m);
            m.get(0, Name::VP_ASSIST_PAGE).unwrap();
        },
    ),
    (
        &rules::REGISTER_HIGH,
        |m| {
            identified(m);
            fast(
                m,
                rep(Code::SET_VP_REGISTERS, 1),
                &[PARTITION_ID_SELF, u64::from(VP_INDEX_SELF), u64::from(Name::EOM.0), 0, 0, 1],
            );
        },
        |m| {
            identified(m);
            set(m, Name::SIRBP, u64::MAX);
        },
    ),
    (
        &rules::REGISTER_VALUE,
        |m| {
            identified(m);
            fast(
                m,
                rep(Code::SET_VP_REGISTERS, 1),
                &[PARTITION_ID_SELF, u64::from(VP_INDEX_SELF), u64::from(Name::SIRBP.0), 5, 0, 0],
            );
        },
        |m| {
            identified(m);
            set(m, Name::SIRBP, 5);
        },
    ),
    (
        &rules::REGISTER_POLLED,
        |m| {
            identified(m);
            (0..1000).for_each(|_| {
                m.get(0, Name::VP_INDEX).unwrap();
            });
        },
        |m| {
            identified(m);
            (0..600).for_each(|_| {
                m.get(0, Name::VP_INDEX).unwrap();
                m.get(0, Name::SVERSION).unwrap();
            });
            // A timer interrupts in between.
            ready(m);
            set(m, Name::STIMER0_COUNT, 10_000);
            set(m, Name::STIMER0_CONFIG, 3 | 2 << 16);
            for n in 1..4 {
                (0..600).for_each(|_| {
                    m.get(0, Name::VP_INDEX).unwrap();
                });
                m.set_time(ReferenceTime(n * 1_000_000));
                assert!(m.take_message(0, 2).is_some());
            }
        },
    ),
    (&rules::ID_SECONDARY, |m| m.set(1, Name::GUEST_OS_ID, LINUX_ID).unwrap(), identified),
    (
        &rules::ID_FORM,
        |m| set(m, Name::GUEST_OS_ID, 1 << 63 | 5),
        |m| set(m, Name::GUEST_OS_ID, 0x0001_0400_0a00_0000),
    ),
    (
        &rules::ID_CHANGED,
        |m| {
            identified(m);
            set(m, Name::GUEST_OS_ID, LINUX_ID + 1);
        },
        |m| {
            identified(m);
            identified(m);
            set(m, Name::GUEST_OS_ID, 0);
            identified(m);
        },
    ),
    (
        &rules::ID_CLEARED,
        |m| {
            ready(m);
            set(m, Name::GUEST_OS_ID, 0);
        },
        |m| {
            ready(m);
            for vp in 0..VPS {
                for name in [Name::SIMP, Name::SIEFP, Name::SCONTROL] {
                    m.set(vp, name, 0).unwrap();
                }
            }
            set(m, Name::GUEST_OS_ID, 0);
        },
    ),
    (
        &rules::TIMER_SINT0,
        |m| {
            ready(m);
            set(m, Name::STIMER0_CONFIG, 1);
        },
        |m| {
            ready(m);
            set(m, Name::STIMER0_CONFIG, 2);
        },
    ),
    (
        &rules::TIMER_RESERVED,
        |m| {
            ready(m);
            set(m, Name::STIMER0_CONFIG, 1 << 13);
        },
        |m| {
            ready(m);
            set(m, Name::STIMER0_CONFIG, 1 << 12);
        },
    ),
    (
        &rules::TIMER_VECTOR,
        |m| {
            ready(m);
            set(m, Name::STIMER0_CONFIG, 1 | 1 << 12 | 3 << 4);
        },
        |m| {
            ready(m);
            set(m, Name::STIMER0_CONFIG, 1 << 12 | 17 << 4);
        },
    ),
    (
        &rules::TIMER_LIVE,
        |m| {
            ready(m);
            set(m, Name::STIMER0_COUNT, 1 << 40);
            set(m, Name::STIMER0_CONFIG, 1 | 2 << 16);
            set(m, Name::STIMER0_CONFIG, 3 | 2 << 16);
        },
        |m| {
            ready(m);
            set(m, Name::STIMER0_COUNT, 1 << 40);
            for config in [1 | 2 << 16, 2 << 16, 3 | 2 << 16] {
                set(m, Name::STIMER0_CONFIG, config);
            }
        },
    ),
    (
        &rules::TIMER_ZERO,
        |m| {
            ready(m);
            set(m, Name::STIMER0_CONFIG, 1 | 2 << 16);
        },
        |m| {
            ready(m);
            set(m, Name::STIMER0_CONFIG, 8 | 2 << 16);
        },
    ),
    (
        &rules::TIMER_PAST,
        |m| {
            ready(m);
            m.set_time(ReferenceTime(1_000_000));
            set(m, Name::STIMER0_COUNT, 5);
            set(m, Name::STIMER0_CONFIG, 1 | 2 << 16);
        },
        |m| {
            ready(m);
            set(m, Name::STIMER0_COUNT, 5_000);
            set(m, Name::STIMER0_CONFIG, 1 | 2 << 16);
            m.get(0, Name::VP_INDEX).unwrap();
            m.set_time(ReferenceTime(1_000_000));
        },
    ),
    (
        &rules::TIMER_SHORT,
        |m| {
            ready(m);
            set(m, Name::STIMER0_COUNT, 10);
            set(m, Name::STIMER0_CONFIG, 3 | 2 << 16);
        },
        |m| {
            ready(m);
            set(m, Name::STIMER0_COUNT, 10_000);
            set(m, Name::STIMER0_CONFIG, 3 | 2 << 16);
        },
    ),
    (
        &rules::TIME_POLLED,
        |m| {
            (0..1000).for_each(|_| {
                m.get(0, Name::TIME_REF_COUNT).unwrap();
            });
        },
        |m| {
            (0..999).for_each(|_| {
                m.get(0, Name::TIME_REF_COUNT).unwrap();
            });
            // As Linux does for the host's time: every five seconds, and nothing else for hours.
            (1..3000).for_each(|n| {
                m.set_time(ReferenceTime(n * 50_000_000));
                m.get(0, Name::TIME_REF_COUNT).unwrap();
            });
        },
    ),
];
