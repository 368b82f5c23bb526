//! The table of a call's registers against what calls do.

use std::cell::Cell;

use hv_host::{CallRegisters, Config, Convention, RegisterSet, Registers};
use hv_partition::testing::{LINUX_ID, RAM, run};
use hv_tlfs::hypercall::HypercallInput;
use hv_tlfs::register::RegisterName;
use hv_tlfs::smccc::{HYPERCALL, VENDOR_HYP_UID};
use hv_tlfs::vp::{PARTITION_ID_SELF, VP_INDEX_SELF};
use proptest::prelude::*;

/// Registers that remember who looked at them.
#[derive(Default)]
struct Watched {
    x: [u64; 31],
    read: Cell<u32>,
    written: u32,
}

impl Registers for Watched {
    fn x(&self, n: usize) -> u64 {
        self.read.set(self.read.get() | 1 << n);
        self.x[n]
    }

    fn set_x(&mut self, n: usize, value: u64) {
        self.written |= 1 << n;
        self.x[n] = value;
    }
}

/// Makes a call with these words after the control word, and checks it against the table. Returns X0.
fn call(convention: Convention, control: u64, words: &[u64]) -> u64 {
    let mut watched = Watched::default();
    let first = convention.control();
    if convention == Convention::Smccc {
        watched.x[0] = HYPERCALL.into();
    }
    watched.x[first] = control;
    watched.x[first + 1..first + 1 + words.len()].copy_from_slice(words);
    let immediate = 1 - first as u16;
    run(Config::new(62_500_000).with_rep_budget(0), 2, &[], |m| {
        m.set(0, RegisterName::GUEST_OS_ID, LINUX_ID).unwrap();
        let _ = m.partition.hvc(&m.host, 0, immediate, &mut watched);
    });
    let table = CallRegisters::of_hypercall(convention, HypercallInput(control));
    let outside = |used: u32, allowed: RegisterSet| used & !allowed.0;
    assert_eq!(outside(watched.read.get(), table.read), 0, "{control:#x} reads {:#x}", watched.read.get());
    assert_eq!(outside(watched.written, table.written), 0, "{control:#x} writes {:#x}", watched.written);
    watched.x[0]
}

const BOTH: [Convention; 2] = [Convention::Smccc, Convention::Hvc1];

#[test]
fn a_fast_get_and_set_need_what_they_name() {
    let vp_index = [PARTITION_ID_SELF, VP_INDEX_SELF.into(), RegisterName::VP_INDEX.0.into()];
    let crash = [PARTITION_ID_SELF, VP_INDEX_SELF.into(), RegisterName::GUEST_CRASH_P0.0.into(), 0, 7, 0];
    for convention in BOTH {
        assert_eq!(call(convention, 0x1_0001_0050, &vp_index), 1 << 32);
        assert_eq!(call(convention, 0x1_0001_0051, &crash), 1 << 32);
    }
    let get = CallRegisters::of_hypercall(Convention::Smccc, HypercallInput(0x1_0001_0050));
    assert_eq!(get.read.iter().collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    assert_eq!(get.written.iter().collect::<Vec<_>>(), [0, 1, 6, 7]);
    let get = CallRegisters::of_hypercall(Convention::Hvc1, HypercallInput(0x1_0001_0050));
    assert_eq!(get.read.iter().collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert_eq!(get.written.iter().collect::<Vec<_>>(), [0, 15, 16]);
}

#[test]
fn a_function_needs_its_arguments() {
    for function in [0x8400_0000, 0xc400_0003, 0x8000_0001, VENDOR_HYP_UID, 0x8400_0050] {
        let mut watched = Watched::default();
        watched.x[0] = function.into();
        run(Config::new(62_500_000), 1, &[], |m| {
            let _ = m.partition.hvc(&m.host, 0, 0, &mut watched);
        });
        let table = CallRegisters::of_function(function);
        assert_eq!(watched.read.get() & !table.read.0, 0, "{function:#x}");
        assert_eq!(watched.written, table.written.0, "{function:#x}");
    }
}

proptest! {
    #[test]
    fn no_call_touches_a_register_beyond_the_table(
        smccc in any::<bool>(),
        code in prop_oneof![0x0u64..0x100, Just(0x8001), any::<u16>().prop_map(u64::from)],
        fast in any::<bool>(),
        variable in 0u64..4,
        count in 0u64..16,
        start in 0u64..16,
        words in proptest::collection::vec(
            prop_oneof![Just(u64::MAX), Just(0xffff_fffe), (0u64..64).prop_map(|n| RAM + n * 64), any::<u64>()],
            0..14,
        ),
    ) {
        let control = code | u64::from(fast) << 16 | variable << 17 | count << 32 | start << 48;
        call(BOTH[usize::from(smccc)], control, &words);
    }
}
