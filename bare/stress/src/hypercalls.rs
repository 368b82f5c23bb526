//! Malformed hypercalls: each gives a status, and has no effect.
//!
//! Source: TLFS, "Hypercall Interface"; the status of each error.

use hv_tlfs::hypercall::{HypercallCode as Code, HypercallInput};
use hv_tlfs::register::RegisterName;
use hv_tlfs::status::HvStatus;
use hv_tlfs::vp::{PARTITION_ID_SELF, VP_INDEX_SELF};

use crate::absent;
use crate::check::{Check, Checks};
use crate::hv::{self, Convention};

/// Codes that a guest may call.
pub(crate) const KNOWN: [Code; 16] = [
    Code::GET_VP_REGISTERS,
    Code::SET_VP_REGISTERS,
    Code::POST_MESSAGE,
    Code::SIGNAL_EVENT,
    Code::NOTIFY_LONG_SPIN_WAIT,
    Code::SEND_IPI,
    Code::SEND_IPI_EX,
    Code::FLUSH_VIRTUAL_ADDRESS_SPACE,
    Code::FLUSH_VIRTUAL_ADDRESS_LIST,
    Code::FLUSH_VIRTUAL_ADDRESS_SPACE_EX,
    Code::FLUSH_VIRTUAL_ADDRESS_LIST_EX,
    Code::START_VP,
    Code::RETARGET_INTERRUPT,
    Code::GET_VP_ID_FROM_APIC_ID,
    Code::GET_PARTITION_ID,
    Code::EXT_QUERY_CAPABILITIES,
];

/// Input of a Get of this VP's index.
const GET_INDEX: [u64; 3] = [PARTITION_ID_SELF, VP_INDEX_SELF as u64, RegisterName::VP_INDEX.0 as u64];

fn get() -> HypercallInput {
    HypercallInput::from_code(Code::GET_VP_REGISTERS).with_rep_count(1)
}

pub(crate) fn run(checks: &mut Checks) {
    hv::identify();
    checks.check("a Get of the VP index by every form", |check| {
        let own = rt::cpu::index() as u64;
        for convention in Convention::BOTH {
            check.equal(
                (convention, "fast"),
                hv::get_of(convention, VP_INDEX_SELF, RegisterName::VP_INDEX),
                Ok([own, 0]),
            );
            let (input, output) = (hv::put(0, &GET_INDEX), hv::put(0x100, &[u64::MAX; 2]));
            let result = hv::memory(convention, get(), input, output);
            check.equal(
                (convention, "memory"),
                (result.status(), result.reps_completed()),
                (HvStatus::SUCCESS, 1),
            );
            check.equal((convention, "memory"), [hv::word(0x100), hv::word(0x108)], [own, 0]);
        }
    });
    checks.check("every call code gives a status", every_code);
    checks.check("reserved bits of the control word", |check| {
        for bit in (27..31).chain([31]).chain(44..48).chain(60..64) {
            both(
                check,
                bit,
                HypercallInput::from_bits(get().bits() | 1 << bit),
                HvStatus::INVALID_HYPERCALL_INPUT,
            );
        }
    });
    checks.check("rep count and rep start", |check| {
        for (count, start) in [(0, 0), (1, 1), (1, 2), (5, 5), (0, 1), (0xfff, 0xfff)] {
            let control = get().with_rep_count(count).with_rep_start(start);
            both(check, (count, start), control, HvStatus::INVALID_HYPERCALL_INPUT);
        }
        let simple = HypercallInput::from_code(Code::SIGNAL_EVENT);
        both(check, "count of a simple call", simple.with_rep_count(1), HvStatus::INVALID_HYPERCALL_INPUT);
        both(check, "start of a simple call", simple.with_rep_start(1), HvStatus::INVALID_HYPERCALL_INPUT);
    });
    checks.check("a variable header where there is none", |check| {
        for size in [1, 2, 0x3ff] {
            both(check, size, get().with_variable_header_size(size), HvStatus::INVALID_HYPERCALL_INPUT);
        }
    });
    checks.check("a fast call with more than the registers hold", |check| {
        for count in [13, 100, 0xfff] {
            fast(check, count, get().with_rep_count(count), HvStatus::INVALID_HYPERCALL_INPUT);
        }
    });
    checks.check("parameter blocks that are not aligned", |check| {
        let (input, output) = (hv::put(0, &GET_INDEX), hv::arena_gpa() + 0x100);
        for off in 1..8 {
            memory(check, ("input", off), input + off, output);
            memory(check, ("output", off), input, output + off);
        }
    });
    checks.check("parameter blocks that cross a page", |check| {
        let arena = hv::arena_gpa();
        memory(check, "input", arena + 0xff8, arena + 0x2000);
        memory(check, "output", arena + 0x2000, arena + 0xff8);
    });
    checks.check("parameter blocks that overlap", |check| {
        let arena = hv::arena_gpa();
        memory(check, "the same", arena, arena);
        memory(check, "output in the input", arena, arena + 0x10);
        memory(check, "input in the output", arena + 8, arena);
    });
    checks.check("parameter blocks outside of memory", outside);
    checks.check("registers that do not exist", |check| {
        for name in
            [0, 1, 0x2ff, 0x4_0000, 0x9_0001, 0x9_0003 | 1 << 31, 0xa_0016, 0xb_0008, 0x4000_0000, u32::MAX]
        {
            let name = RegisterName(name);
            for convention in Convention::BOTH {
                check.holds((convention, name), hv::get_of(convention, VP_INDEX_SELF, name).is_err());
            }
            check.holds((name, "set"), hv::set(name, 1).is_err());
        }
    });
    checks.check("VPs and partitions that do not exist", |check| {
        for vp in [rt::hardware::get().vps() as u32, 64, 0x7fff_ffff, u32::MAX] {
            check.holds(vp, hv::get_of(Convention::Smccc, vp, RegisterName::VP_INDEX).is_err());
        }
        for partition in [0, 1, 1 << 63] {
            let (result, _) = hv::fast(Convention::Smccc, get(), &[partition, GET_INDEX[1], GET_INDEX[2]]);
            check.equal(partition, result.status(), HvStatus::INVALID_PARTITION_ID);
        }
    });
    checks.check("SynIC pages outside of memory", synic_pages);
}

/// Checks that a fast call with this control word gives `status`, by both conventions.
fn fast(check: &mut Check, what: impl core::fmt::Debug, control: HypercallInput, status: HvStatus) {
    for convention in Convention::BOTH {
        let (result, _) = hv::fast(convention, control, &GET_INDEX);
        check.equal((&what, convention, "fast"), result.status(), status);
    }
}

/// Checks that both a fast call and one with parameters in memory give `status`.
fn both(check: &mut Check, what: impl core::fmt::Debug, control: HypercallInput, status: HvStatus) {
    fast(check, &what, control, status);
    let (input, output) = (hv::put(0, &GET_INDEX), hv::arena_gpa() + 0x1000);
    for convention in Convention::BOTH {
        let result = hv::memory(convention, control, input, output);
        check.equal((&what, convention, "memory"), result.status(), status);
    }
}

/// Checks that a Get with its parameters at these addresses is refused, by both conventions.
fn memory(check: &mut Check, what: impl core::fmt::Debug, input: u64, output: u64) {
    for convention in Convention::BOTH {
        let status = hv::memory(convention, get(), input, output).status();
        let refused = [HvStatus::INVALID_ALIGNMENT, HvStatus::INVALID_PARAMETER].contains(&status);
        check.holds((&what, convention, status), refused);
    }
}

/// Checks all codes: unassigned ones are refused as such; those that exist, or are for others, give some status. With
/// parameters of zero, and a rep count that suits no call, nothing happens.
fn every_code(check: &mut Check) {
    for code in 0..=u16::MAX {
        let code = Code(code);
        let control = HypercallInput::from_code(code).with_rep_count(1).with_rep_start(1);
        let (result, _) = hv::fast(Convention::Smccc, control, &[0; 16]);
        let status = result.status();
        let fits = if KNOWN.contains(&code) {
            status == HvStatus::INVALID_HYPERCALL_INPUT || status == HvStatus::ACCESS_DENIED
        } else {
            [HvStatus::INVALID_HYPERCALL_CODE, HvStatus::ACCESS_DENIED].contains(&status)
        };
        check.holds((code, status), fits);
    }
}

fn outside(check: &mut Check) {
    let arena = hv::put(0, &GET_INDEX);
    let hardware = rt::hardware::get();
    let ram = &hardware.ram;
    let windows = absent::windows().flat_map(|window| [window.range.start, window.range.end - 0x1000]);
    let others =
        [0x900_0000, hardware.gicd, hardware.gicr, ram.start - 8, ram.end - 8, ram.end, 1 << 40, 1 << 52, !7];
    for gpa in windows.chain(others) {
        memory(check, ("input", gpa), gpa, arena + 0x1000);
        memory(check, ("output", gpa), arena, gpa);
    }
}

/// Checks that a page register takes any value; an address that is not memory gets no message, and does no harm.
fn synic_pages(check: &mut Check) {
    const ENABLE: u64 = 1;
    for page in [0, 0x902_0000, 0x4020_0000, rt::hardware::get().ram.end, 1 << 50, !0xfff] {
        for name in [RegisterName::SIMP, RegisterName::SIEFP, RegisterName::REFERENCE_TSC] {
            // The host may refuse the value; it must not access the page.
            let set = hv::set(name, page | ENABLE);
            if set.is_ok() {
                check.equal((name, page), hv::get(name).map(|value| value & !0xffe), Ok(page | ENABLE));
            }
            // A timer message, and an event, to see the pages used.
            hv::set(RegisterName::SCONTROL, ENABLE).unwrap_or_else(|status| check.wrong("SCONTROL", status));
            hv::set(RegisterName::SINT4, 17 | 1 << 18).unwrap_or_else(|status| check.wrong("SINT4", status));
            hv::set(RegisterName::STIMER0_CONFIG, 4 << 16 | 1)
                .unwrap_or_else(|status| check.wrong("timer", status));
            hv::set(RegisterName::STIMER0_COUNT, 1).unwrap_or_else(|status| check.wrong("timer", status));
            check.holds((name, page, "the host answers"), hv::get(RegisterName::VP_INDEX).is_ok());
            check.equal(name, hv::set(name, 0), Ok(()));
        }
    }
    for (name, value) in [
        (RegisterName::STIMER0_COUNT, 0),
        (RegisterName::STIMER0_CONFIG, 0),
        (RegisterName::SINT4, 1 << 16),
        (RegisterName::SCONTROL, 0),
    ] {
        check.equal(name, hv::set(name, value), Ok(()));
    }
}
