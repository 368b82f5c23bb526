//! Hypercalls of every form, and VP registers.

use hv_guest::conduit::{Conduit, FAST_WORDS, FastOutput, Raw};
use hv_guest::hypercall::{self, Rep, RepError};
use hv_guest::registers::{self, Register};
use hv_guest::synic::SintIndex;
use hv_guest::tlfs::hypercall::{HypercallCode, HypercallInput};
use hv_guest::tlfs::register::{
    GetVpRegistersInput, RegisterName, RegisterValue, SetVpRegistersElement, SetVpRegistersInput,
};
use hv_guest::tlfs::status::HvStatus;
use hv_guest::tlfs::synic::Sint;
use hv_guest::tlfs::vp::{InputVtl, PartitionId, VpIndex};
use zerocopy::{Immutable, IntoBytes};

use super::discovery::ID;
use super::{Cx, Os};

/// A Get of five registers: 48 bytes of input and 80 of output, all that the registers hold.
const FIVE: [RegisterName; 6] = [
    RegisterName::GUEST_OS_ID,
    RegisterName::SVERSION,
    RegisterName::SINT3,
    RegisterName::GUEST_OS_ID,
    RegisterName::SINT4,
    RegisterName(0),
];
const FIVE_ARE: [u64; 5] = [ID.bits(), 1, 0x1_0000, ID.bits(), 0x1_0000];

/// Names after the header of a Get.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct Get {
    header: GetVpRegistersInput,
    names: [RegisterName; 6],
}

/// A flush of a list of thirteen: 128 bytes, the most that a fast hypercall takes.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct FlushThirteen {
    address_space: u64,
    flags: u64,
    mask: u64,
    ranges: [u64; 13],
}

const GET: HypercallInput = HypercallInput::from_code(HypercallCode::GET_VP_REGISTERS);
const GET_HEADER: GetVpRegistersInput = GetVpRegistersInput {
    partition_id: PartitionId::SELF,
    vp_index: VpIndex::SELF,
    input_vtl: InputVtl::CURRENT,
    reserved: [0; 3],
};

/// Makes hypercalls fast and by memory, simple and rep, with every amount of input and output.
pub(crate) fn hypercalls<O: Os>(cx: &Cx<'_, O>) {
    cx.on_each(|n| {
        // SAFETY: `raw` only reads registers, writes crash parameters, and hints that a VP spins; none changes memory.
        raw(&unsafe { Raw::new(cx.os.conduit()) });
        let mut page = cx.call_page(n);
        let get = Get { header: GET_HEADER, names: FIVE };
        let values: [RegisterValue; 5] =
            // SAFETY: a Get of registers changes no memory.
            unsafe { hypercall::fast(cx.hv, GET.with_rep_count(5), &get) }.expect("a fast Get");
        assert_eq!(values.map(|value| value.low), FIVE_ARE);
        let values: [RegisterValue; 5] =
            // SAFETY: a Get of registers changes no memory but the output page, which is `page`.
            unsafe { hypercall::memory(cx.hv, &mut page, GET.with_rep_count(5), &get) }.expect("a Get by memory");
        assert_eq!(values.map(|value| value.low), FIVE_ARE);

        // Every address space, on all processors.
        let flush = FlushThirteen { address_space: 0, flags: 3, mask: 0, ranges: [0x1000; 13] };
        let code = HypercallInput::from_code(HypercallCode::FLUSH_VIRTUAL_ADDRESS_LIST).with_rep_count(13);
        // SAFETY: a flush changes no memory.
        let () = unsafe { hypercall::fast(cx.hv, code, &flush) }.expect("a fast hypercall of 128 bytes");

        let set = SetVpRegistersInput {
            partition_id: PartitionId::SELF,
            vp_index: VpIndex::SELF,
            input_vtl: InputVtl::CURRENT,
            reserved: [0; 3],
        };
        let list = [7, 8, 9].map(|value| {
            SetVpRegistersElement::new(RegisterName::GUEST_CRASH_P1, RegisterValue::from_u64(value))
        });
        let output: &mut [RegisterValue] = &mut [];
        let rep =
            Rep { code: HypercallCode::SET_VP_REGISTERS, header: &set, variable: &[], input: &list, output };
        // SAFETY: the crash parameters are numbers for the host's log.
        unsafe { rep.call(cx.hv, &mut page) }.expect("a rep hypercall");
        let last = Register::<u64, _>::new(RegisterName::GUEST_CRASH_P1);
        assert_eq!(registers::get(cx.hv, last), Ok(9));

        // SAFETY: the host refuses these calls.
        let refused =
            |control| unsafe { hypercall::fast::<_, u64, ()>(cx.hv, control, &0) }.unwrap_err().status();
        let unknown = HypercallInput::from_code(HypercallCode(0x0fff));
        assert_eq!(refused(unknown), HvStatus::INVALID_HYPERCALL_CODE);
        let signal = HypercallInput::from_code(HypercallCode::SIGNAL_EVENT);
        assert_eq!(refused(signal.with_rep_count(1)), HvStatus::INVALID_HYPERCALL_INPUT);
    });
}

/// Uses a conduit's four methods with words of our own.
fn raw(conduit: &Raw<impl Conduit>) {
    let this_vp = u64::from(VpIndex::SELF.0);
    let get = GET.with_fast(true).with_rep_count(1);
    let words = [PartitionId::SELF.0, this_vp, u64::from(RegisterName::GUEST_OS_ID.0)];
    let (result, output) = conduit.call_3_2(get, words);
    assert_eq!((result.status(), result.reps_completed(), output), (HvStatus::SUCCESS, 1, [ID.bits(), 0]));
    let mut block = [0; FAST_WORDS];
    block[..3].copy_from_slice(&words);
    assert_eq!(conduit.call(get, &mut block).status(), HvStatus::SUCCESS);
    let at = if conduit.fast_output() == FastOutput::AfterInput { 4 } else { 14 };
    assert_eq!(block[at], ID.bits());
    let set = HypercallInput::from_code(HypercallCode::SET_VP_REGISTERS).with_fast(true).with_rep_count(1);
    let p2 = u64::from(RegisterName::GUEST_CRASH_P2.0);
    assert_eq!(conduit.call_6(set, [words[0], this_vp, p2, 0, 0xabc, 0]).status(), HvStatus::SUCCESS);
    assert_eq!(registers::get(conduit, Register::<u64, _>::new(RegisterName::GUEST_CRASH_P2)), Ok(0xabc));
    let spin = HypercallInput::from_code(HypercallCode::NOTIFY_LONG_SPIN_WAIT).with_fast(true);
    assert_eq!(conduit.call_2(spin, [1, 0]).status(), HvStatus::SUCCESS);
}

/// Reads and writes registers of 64 and 128 bits, typed and by name, and lists of them; provokes errors.
pub(crate) fn registers<O: Os>(cx: &Cx<'_, O>) {
    const MANY: usize = 300;
    cx.on_each(|n| {
        let sint = Register::sint(SintIndex::new(5).expect("there are 16"));
        assert_eq!(registers::get(cx.hv, sint), Ok(Sint::RESET));
        registers::set(cx.hv, sint, Sint(0x1_0077)).expect("a SINT can be written");
        assert_eq!(registers::get(cx.hv, sint), Ok(Sint(0x1_0077)));
        registers::set(cx.hv, sint, Sint::RESET).expect("a SINT can be written");
        let version = registers::get_raw(cx.hv, VpIndex::SELF, RegisterName::HYPERVISOR_VERSION);
        assert_eq!(version, Ok(cx.hv.information().version.to_register()));
        assert!(version.is_ok_and(|version| version.high != 0), "both halves are there");
        let time = RegisterName::TIME_REF_COUNT;
        // SAFETY: the register cannot be written, so the host refuses the call.
        let refused = unsafe { registers::set_raw(cx.hv, VpIndex::SELF, time, RegisterValue::from_u64(1)) };
        assert_eq!(refused.map_err(|error| error.status()), Err(HvStatus::INVALID_PARAMETER));

        // More than one call holds, and more than the hypervisor does at a time.
        let mut page = cx.call_page(n);
        let p0 =
            |value| SetVpRegistersElement::new(RegisterName::GUEST_CRASH_P0, RegisterValue::from_u64(value));
        let list: [_; MANY] = core::array::from_fn(|i| p0(i as u64));
        // SAFETY: the crash parameters are numbers for the host's log.
        unsafe { registers::set_list(cx.hv, &mut page, &list) }.expect("a list is written");
        let mut names = [RegisterName::GUEST_CRASH_P0; MANY];
        let mut values = [RegisterValue::from_u64(0); MANY];
        registers::get_list(cx.hv, &mut page, &names, &mut values).expect("a list is read");
        assert!(values.iter().all(|value| value.low == MANY as u64 - 1));
        names[250] = RegisterName(0x0bad);
        let error = registers::get_list(cx.hv, &mut page, &names, &mut values).expect_err("one is unknown");
        assert!(matches!(error, RepError::Status { completed: 250, .. }), "{error}");
        assert_eq!(registers::get_list(cx.hv, &mut page, &names[1..], &mut values), Err(RepError::Shape));
    });
}
