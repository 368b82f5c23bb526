//! TLFS, "Hypercall Interface": the conventions, and the checks that all calls share.

use hv_host::{Action, Config, GuestMemory, Host};
use hv_partition::testing::{LINUX_ID, RAM, RAM_SIZE, TestMachine, rep, run, run_bare, simple};
use hv_tlfs::hypercall::{HypercallCode as Code, HypercallInput, HypercallOutput};
use hv_tlfs::register::RegisterName as Name;
use hv_tlfs::smccc::HYPERCALL;
use hv_tlfs::status::HvStatus;
use hv_tlfs::vp::{PARTITION_ID_SELF, VP_INDEX_SELF};

const FREQUENCY: u64 = 62_500_000;

fn two(test: impl FnOnce(&TestMachine<'_>)) {
    run(Config::new(FREQUENCY), 2, &[], test);
}

/// Encodes a Get's header and names.
fn names(names: &[Name]) -> Vec<u8> {
    let mut input = header(PARTITION_ID_SELF, VP_INDEX_SELF);
    input.extend(names.iter().flat_map(|name| name.0.to_le_bytes()));
    input
}

fn header(partition: u64, vp: u32) -> Vec<u8> {
    let mut input = partition.to_le_bytes().to_vec();
    input.extend(vp.to_le_bytes());
    input.extend([0; 4]);
    input
}

fn word(bytes: &[u8], index: usize) -> u64 {
    u64::from_le_bytes(bytes[index * 8..index * 8 + 8].try_into().unwrap())
}

#[test]
fn smccc_get_of_one_register_returns_in_x6_and_x7_and_keeps_its_inputs() {
    two(|m| {
        let mut x: [u64; 31] = core::array::from_fn(|n| 0xaaaa_0000 + n as u64);
        x[0] = u64::from(HYPERCALL);
        x[1] = 0x1_0001_0050;
        x[2] = PARTITION_ID_SELF;
        x[3] = u64::from(VP_INDEX_SELF);
        x[4] = u64::from(Name::GUEST_OS_ID.0);
        let before = x;
        assert_eq!(m.hvc(1, 0, &mut x), Action::Resume);
        assert_eq!((x[0], x[6], x[7]), (1 << 32, LINUX_ID, 0));
        for n in (1..31).filter(|n| ![6, 7].contains(n)) {
            assert_eq!(x[n], before[n], "x{n}");
        }
    });
}

#[test]
fn hvc_1_get_of_one_register_returns_in_the_last_registers() {
    two(|m| {
        let mut x: [u64; 31] = core::array::from_fn(|n| 0xaaaa_0000 + n as u64);
        x[0] = 0x1_0001_0050;
        x[1] = PARTITION_ID_SELF;
        x[2] = u64::from(VP_INDEX_SELF);
        x[3] = u64::from(Name::VP_INDEX.0);
        let before = x;
        assert_eq!(m.hvc(1, 1, &mut x), Action::Resume);
        assert_eq!((x[0], x[15], x[16]), (1 << 32, 1, 0));
        for n in (1..31).filter(|n| ![15, 16].contains(n)) {
            assert_eq!(x[n], before[n], "x{n}");
        }
    });
}

#[test]
fn both_conventions_set_a_register() {
    two(|m| {
        for (immediate, first, value) in [(0, 1, 0x8100_0000_0000_1111), (1, 0, 0x8100_0000_0000_2222)] {
            let mut x = [0; 31];
            x[0] = u64::from(HYPERCALL);
            x[first] = 0x1_0001_0051;
            x[first + 1] = PARTITION_ID_SELF;
            x[first + 2] = u64::from(VP_INDEX_SELF);
            x[first + 3] = u64::from(Name::GUEST_OS_ID.0);
            x[first + 5] = value;
            assert_eq!(m.hvc(0, immediate, &mut x), Action::Resume);
            assert_eq!(x[0], 1 << 32);
            assert_eq!(m.get(0, Name::GUEST_OS_ID), Ok(value));
        }
    });
}

#[test]
fn fast_calls_by_any_way_agree() {
    // The short way for one register of the caller's own, and the general way by partition id and VP number.
    two(|m| {
        let (_, short) = m.fast(
            1,
            rep(Code::GET_VP_REGISTERS, 1),
            &[PARTITION_ID_SELF, u64::from(VP_INDEX_SELF), u64::from(Name::VP_INDEX.0)],
        );
        let id = m.partition.config().partition_id;
        let (result, long) = m.fast(1, rep(Code::GET_VP_REGISTERS, 1), &[id, 1, u64::from(Name::VP_INDEX.0)]);
        assert_eq!(result.0, 1 << 32);
        assert_eq!(short[4..6], long[4..6]);
    });
}

#[test]
fn what_lies_beyond_the_input_in_a_register_is_ignored() {
    // A register name has 4 bytes; the other half of X4 is not input.
    two(|m| {
        let name = u64::from(Name::VP_INDEX.0) | 0xdead_beef << 32;
        let (result, x) =
            m.fast(1, rep(Code::GET_VP_REGISTERS, 1), &[PARTITION_ID_SELF, u64::from(VP_INDEX_SELF), name]);
        assert_eq!((result.0, x[4]), (1 << 32, 1));
    });
}

#[test]
fn memory_lists_of_registers_are_read_and_written() {
    two(|m| {
        let input = names(&[Name::VP_INDEX, Name::GUEST_OS_ID, Name::SVERSION]);
        let (result, output) = m.call(1, rep(Code::GET_VP_REGISTERS, 3), &input, 48);
        assert_eq!((result.status(), result.reps_completed()), (HvStatus::SUCCESS, 3));
        assert_eq!([0, 1, 2, 3, 4, 5].map(|n| word(&output, n)), [1, 0, LINUX_ID, 0, 1, 0]);

        let mut input = header(PARTITION_ID_SELF, VP_INDEX_SELF);
        for (name, value) in [(Name::SINT2, 0x12u64), (Name::SCONTROL, 1)] {
            input.extend(u64::from(name.0).to_le_bytes());
            input.extend([0; 8]);
            input.extend(value.to_le_bytes());
            input.extend([0; 8]);
        }
        let (result, _) = m.call(1, rep(Code::SET_VP_REGISTERS, 2), &input, 0);
        assert_eq!((result.status(), result.reps_completed()), (HvStatus::SUCCESS, 2));
        assert_eq!((m.get(1, Name::SINT2), m.get(1, Name::SCONTROL)), (Ok(0x12), Ok(1)));
        assert_eq!(m.get(0, Name::SCONTROL), Ok(0), "the other VP's is its own");
    });
}

#[test]
fn an_error_in_a_list_tells_how_many_elements_were_done() {
    two(|m| {
        let input = names(&[Name::VP_INDEX, Name::SVERSION, Name(0x4000_0083), Name::VP_INDEX]);
        let (result, output) = m.call(1, rep(Code::GET_VP_REGISTERS, 4), &input, 48);
        assert_eq!((result.status(), result.reps_completed()), (HvStatus::UNKNOWN_REGISTER_NAME, 2));
        assert_eq!([0, 2, 4].map(|n| word(&output, n)), [1, 1, 0]);
    });
}

#[test]
fn a_start_index_goes_on_in_the_list() {
    two(|m| {
        let input = names(&[Name(0xbad), Name::SVERSION]);
        let (result, output) = m.call(0, rep(Code::GET_VP_REGISTERS, 2).with_rep_start(1), &input, 32);
        assert_eq!((result.status(), result.reps_completed()), (HvStatus::SUCCESS, 2));
        assert_eq!([0, 2].map(|n| word(&output, n)), [0, 1], "element 0 of the output is not touched");
    });
}

#[test]
fn a_long_list_goes_back_to_the_guest_and_is_continued() {
    const COUNT: u16 = 200;
    const BYTES: usize = COUNT as usize * 16;
    let config = Config::new(FREQUENCY).with_rep_budget(1000);
    run(config, 1, &[], |m| {
        let input = names(&[Name::SVERSION; COUNT as usize]);
        m.host.memory().write(RAM, &input).unwrap();
        m.host.set_counter_step(400);
        for (immediate, first) in [(0, 1), (1, 0)] {
            m.host.memory().write(RAM + 0x1000, &[0; BYTES]).unwrap();
            let mut x = [0; 31];
            x[0] = u64::from(HYPERCALL);
            x[first] = rep(Code::GET_VP_REGISTERS, COUNT).0;
            x[first + 1] = RAM;
            x[first + 2] = RAM + 0x1000;
            let mut starts = Vec::new();
            while m.hvc(0, immediate, &mut x) == Action::Retry {
                starts.push(HypercallInput(x[first]).rep_start());
                assert!(starts.len() < COUNT.into());
            }
            assert!(starts.len() > 1, "{starts:?}");
            assert!(starts.is_sorted_by(|a, b| a < b), "{starts:?}");
            assert_eq!(HypercallOutput(x[0]).reps_completed(), COUNT);
            let mut output = [0; BYTES];
            m.host.memory().read(RAM + 0x1000, &mut output).unwrap();
            assert!((0..COUNT.into()).all(|n| word(&output, 2 * n) == 1));
        }
    });
}

#[test]
fn a_continuation_makes_progress_of_one_element_at_least() {
    let config = Config::new(FREQUENCY).with_rep_budget(0);
    run(config, 1, &[], |m| {
        let input = names(&[Name::SVERSION; 5]);
        let (result, output) = m.call(0, rep(Code::GET_VP_REGISTERS, 5), &input, 80);
        assert_eq!((result.status(), result.reps_completed()), (HvStatus::SUCCESS, 5));
        assert!((0..5).all(|n| word(&output, 2 * n) == 1));
        let retries = m.host.take_events().iter().filter(|event| event.contains("retry: true")).count();
        assert_eq!(retries, 4);
    });
}

#[test]
fn unknown_codes_are_invalid_hypercall_codes() {
    two(|m| {
        for code in [0, 1, 0x11, 0x12, 0x3f, 0x7fff, 0x8000, 0x8002, 0x8003, 0xffff] {
            let (result, _) = m.fast(0, simple(Code(code)), &[]);
            assert_eq!(result.status(), HvStatus::INVALID_HYPERCALL_CODE, "{code:#x}");
        }
    });
}

#[test]
fn calls_of_parents_and_higher_vtls_are_denied() {
    two(|m| {
        for code in
            [0x0c, 0x0d, 0x0f, 0x40, 0x48, 0x4e, 0x52, 0x57, 0x5a, 0x69, 0x76, 0x7c, 0x94, 0x95, 0xaf, 0xb0]
        {
            let (result, _) = m.fast(0, simple(Code(code)), &[]);
            assert_eq!(result.status(), HvStatus::ACCESS_DENIED, "{code:#x}");
        }
    });
}

#[test]
fn before_the_guest_os_id_only_register_calls_work() {
    run_bare(Config::new(FREQUENCY), 1, &[], |m| {
        m.online(0);
        for code in [Code::POST_MESSAGE, Code::SIGNAL_EVENT, Code::NOTIFY_LONG_SPIN_WAIT, Code::SEND_IPI] {
            let (result, _) = m.fast(0, simple(code), &[]);
            assert_eq!(result.status(), HvStatus::ACCESS_DENIED, "{code:?}");
        }
        m.set(0, Name::GUEST_OS_ID, LINUX_ID).unwrap();
        let (result, _) = m.fast(0, simple(Code::NOTIFY_LONG_SPIN_WAIT), &[1]);
        assert_eq!(result.status(), HvStatus::SUCCESS);
        m.set(0, Name::GUEST_OS_ID, 0).unwrap();
        let (result, _) = m.fast(0, simple(Code::NOTIFY_LONG_SPIN_WAIT), &[1]);
        assert_eq!(result.status(), HvStatus::ACCESS_DENIED, "and it can be taken back");
    });
}

#[test]
fn reserved_bits_of_the_control_word_must_be_zero() {
    two(|m| {
        for bit in [27, 28, 29, 30, 31, 44, 45, 46, 47, 60, 61, 62, 63] {
            let control = HypercallInput(simple(Code::NOTIFY_LONG_SPIN_WAIT).0 | 1 << bit);
            let (result, _) = m.fast(0, control, &[1]);
            assert_eq!(result.status(), HvStatus::INVALID_HYPERCALL_INPUT, "bit {bit}");
            let one = HypercallInput(rep(Code::GET_VP_REGISTERS, 1).0 | 1 << bit);
            let input = [PARTITION_ID_SELF, u64::from(VP_INDEX_SELF), u64::from(Name::VP_INDEX.0)];
            assert_eq!(m.fast(0, one, &input).0.status(), HvStatus::INVALID_HYPERCALL_INPUT, "bit {bit}");
        }
    });
}

#[test]
fn rep_counts_fit_the_kind_of_call() {
    two(|m| {
        let bad = [
            rep(Code::NOTIFY_LONG_SPIN_WAIT, 1),
            simple(Code::NOTIFY_LONG_SPIN_WAIT).with_rep_start(1),
            rep(Code::GET_VP_REGISTERS, 0),
            rep(Code::GET_VP_REGISTERS, 1).with_rep_start(1),
            rep(Code::GET_VP_REGISTERS, 3).with_rep_start(4),
        ];
        for control in bad {
            let (result, _) = m.call(0, control, &names(&[Name::VP_INDEX; 4]), 0);
            assert_eq!(result.status(), HvStatus::INVALID_HYPERCALL_INPUT, "{control:?}");
        }
    });
}

#[test]
fn a_variable_header_is_only_for_calls_that_have_one() {
    two(|m| {
        for control in
            [simple(Code::NOTIFY_LONG_SPIN_WAIT), rep(Code::GET_VP_REGISTERS, 1), simple(Code::SEND_IPI)]
        {
            let (result, _) = m.call(0, control.with_variable_header_size(1), &[0; 64], 0);
            assert_eq!(result.status(), HvStatus::INVALID_HYPERCALL_INPUT, "{control:?}");
        }
    });
}

#[test]
fn parameter_addresses_are_8_byte_aligned() {
    two(|m| {
        for offset in [1, 2, 4, 7] {
            let get = rep(Code::GET_VP_REGISTERS, 1);
            let result = m.call_at(0, get, RAM + offset, RAM + 0x1000);
            assert_eq!(result.status(), HvStatus::INVALID_ALIGNMENT, "input {offset}");
            m.host.memory().write(RAM, &names(&[Name::VP_INDEX])).unwrap();
            let result = m.call_at(0, get, RAM, RAM + 0x1000 + offset);
            assert_eq!(result.status(), HvStatus::INVALID_ALIGNMENT, "output {offset}");
        }
    });
}

#[test]
fn parameter_blocks_do_not_cross_a_page() {
    two(|m| {
        let input = names(&[Name::VP_INDEX]);
        let get = rep(Code::GET_VP_REGISTERS, 1);
        m.host.memory().write(RAM + 0x1000 - 24, &input).unwrap();
        assert_eq!(m.call_at(0, get, RAM + 0x1000 - 24, RAM + 0x2ff0).status(), HvStatus::SUCCESS);
        m.host.memory().write(RAM + 0x1000 - 16, &input).unwrap();
        assert_eq!(m.call_at(0, get, RAM + 0x1000 - 16, RAM + 0x2000).status(), HvStatus::INVALID_ALIGNMENT);
        m.host.memory().write(RAM, &input).unwrap();
        assert_eq!(m.call_at(0, get, RAM, RAM + 0x2ff8).status(), HvStatus::INVALID_ALIGNMENT);
    });
}

#[test]
fn parameter_blocks_lie_in_guest_memory() {
    two(|m| {
        let get = rep(Code::GET_VP_REGISTERS, 1);
        m.host.memory().write(RAM, &names(&[Name::VP_INDEX])).unwrap();
        for bad in [0, RAM - 0x1000, RAM + RAM_SIZE, 1 << 52, u64::MAX - 7, !0xfff] {
            assert_eq!(
                m.call_at(0, get, bad, RAM + 0x1000).status(),
                HvStatus::INVALID_ALIGNMENT,
                "{bad:#x}"
            );
            assert_eq!(m.call_at(0, get, RAM, bad).status(), HvStatus::INVALID_ALIGNMENT, "{bad:#x}");
        }
    });
}

#[test]
fn input_and_output_do_not_overlap() {
    two(|m| {
        let get = rep(Code::GET_VP_REGISTERS, 2);
        m.host.memory().write(RAM, &names(&[Name::VP_INDEX, Name::VP_INDEX])).unwrap();
        // The input has 24 bytes, the output 32.
        for output in [RAM, RAM + 8, RAM + 16] {
            assert_eq!(m.call_at(0, get, RAM, output).status(), HvStatus::INVALID_ALIGNMENT);
        }
        assert_eq!(m.call_at(0, get, RAM, RAM + 24).status(), HvStatus::SUCCESS);
    });
}

#[test]
fn an_address_is_ignored_where_there_is_nothing_to_pass() {
    two(|m| {
        let capabilities = simple(Code::EXT_QUERY_CAPABILITIES);
        assert_eq!(m.call_at(0, capabilities, u64::MAX, RAM).status(), HvStatus::SUCCESS);
        m.host.memory().write(RAM, &[0; 8]).unwrap();
        assert_eq!(m.call_at(0, simple(Code::NOTIFY_LONG_SPIN_WAIT), RAM, 3).status(), HvStatus::SUCCESS);
    });
}

#[test]
fn fast_input_and_output_share_128_bytes() {
    two(|m| {
        let mut input = vec![PARTITION_ID_SELF, u64::from(VP_INDEX_SELF)];
        let pair = u64::from(Name::VP_INDEX.0) | u64::from(Name::VP_INDEX.0) << 32;
        input.extend([pair; 2]);
        // 32 bytes of input leave 96 for the output: 6 values, but 4 names are all that exist.
        let (result, x) = m.fast(1, rep(Code::GET_VP_REGISTERS, 4), &input);
        assert_eq!((result.status(), result.reps_completed()), (HvStatus::SUCCESS, 4));
        assert_eq!([4, 6, 8, 10].map(|n| x[n]), [1; 4], "after the input, in pairs");
        // 7 names are 44 bytes of input, hence 48, and 112 bytes of output.
        let (result, _) = m.fast(1, rep(Code::GET_VP_REGISTERS, 7), &input);
        assert_eq!(result.status(), HvStatus::INVALID_HYPERCALL_INPUT);
        let (result, _) = m.fast(1, simple(Code::POST_MESSAGE), &input);
        assert_eq!(result.status(), HvStatus::INVALID_HYPERCALL_INPUT, "256 bytes are too many");
    });
}

#[test]
fn other_immediates_are_undefined_instructions() {
    two(|m| {
        for immediate in [2, 3, 4, 5, 0x4a48, 0xffff] {
            let mut x = [7; 31];
            assert_eq!(m.hvc(0, immediate, &mut x), Action::Undefined);
            assert_eq!(x, [7; 31]);
        }
    });
}

#[test]
fn a_hypercall_is_none_by_smc() {
    two(|m| {
        let mut x = [0; 31];
        x[0] = u64::from(HYPERCALL);
        x[1] = 0x1_0001_0050;
        assert_eq!(m.smc(0, &mut x), Action::Resume);
        assert_eq!(x[0], u64::MAX);
    });
}

#[test]
fn query_capabilities_offers_no_extended_call() {
    two(|m| {
        let (result, output) = m.call(0, simple(Code::EXT_QUERY_CAPABILITIES), &[], 8);
        assert_eq!((result.status(), word(&output, 0)), (HvStatus::SUCCESS, 0));
    });
}
