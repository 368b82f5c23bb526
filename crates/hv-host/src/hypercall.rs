//! Hypercall dispatch: the table of calls, and all checks that do not depend on the call.
//!
//! Source: TLFS, "Hypercall Interface".

use core::ops::Range;
use core::sync::atomic::Ordering;

use hv_tlfs::features::{EnlightenmentHints, PartitionPrivileges};
use hv_tlfs::flush::{TlbFlush, TlbFlushEx};
use hv_tlfs::hypercall::{
    HypercallCode as Code, HypercallInput, HypercallOutput, REP_COMP_MASK, REP_START_MASK, RSVD_MASK,
    VARHEAD_MASK,
};
use hv_tlfs::interrupt::{RetargetInterruptInput, SendIpi, SendIpiEx};
use hv_tlfs::register::{
    GetVpRegistersInput, RegisterName, RegisterValue, SetVpRegistersElement, SetVpRegistersInput,
};
use hv_tlfs::start_vp::StartVpInput;
use hv_tlfs::status::HvStatus;
use hv_tlfs::synic::{PostMessageInput, SignalEventInput};
use hv_tlfs::vp::{PARTITION_ID_SELF, VP_INDEX_SELF};

use lock_api::RawMutex;

use crate::calls::VpIndexInput;
use crate::connections::Connections;
use crate::event::{Convention, Event};
use crate::faults::Faults as _;
use crate::frame::{CallFrame, Outcome, Parameters};
use crate::general::Registers;
use crate::host::{Action, Host};
use crate::one::{GET_ONE, SET_ONE, failed};
use crate::partition::Partition;
use crate::registers::{CRASH_FIRST, CRASH_LAST, TIMER_FIRST, TIMER_LAST};

/// The handler of a call.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    GetRegisters,
    SetRegisters,
    PostMessage,
    SignalEvent,
    SendIpi,
    SendIpiEx,
    FlushSpace,
    FlushList,
    FlushSpaceEx,
    FlushListEx,
    LongSpinWait,
    StartVp,
    Retarget,
    VpIndexFromMpidr,
    PartitionId,
    QueryCapabilities,
    /// An existing call that no guest of this kind may make.
    Denied,
}

/// Sizes of a call's parameters in bytes, and what it requires.
struct Call {
    operation: Operation,
    /// Fixed part of the input.
    header: u16,
    /// An element of the input list.
    input_element: u16,
    /// The output, or an element of the output list.
    output: u16,
    rep: bool,
    /// Bits of the control word that it does not take.
    zero: u64,
    privileges: PartitionPrivileges,
    /// It exists if these are recommended.
    hints: EnlightenmentHints,
}

const NO_PRIVILEGE: PartitionPrivileges = PartitionPrivileges(0);
const NO_HINT: EnlightenmentHints = EnlightenmentHints(0);

impl Call {
    /// Describes a simple call with this input and output; `()` for none.
    const fn simple<Input, Output>(operation: Operation) -> Self {
        Self {
            operation,
            header: size_of::<Input>() as u16,
            input_element: 0,
            output: size_of::<Output>() as u16,
            rep: false,
            // With the nested bit, for there is no nested hypervisor here.
            zero: RSVD_MASK | REP_COMP_MASK | REP_START_MASK | VARHEAD_MASK,
            privileges: NO_PRIVILEGE,
            hints: NO_HINT,
        }
    }

    /// Describes a rep call with this header, and these elements of its input and output lists; `()` for none.
    const fn rep<Header, Input, Output>(operation: Operation) -> Self {
        let simple = Self::simple::<Header, Output>(operation);
        let zero = simple.zero & !(REP_COMP_MASK | REP_START_MASK);
        Self { input_element: size_of::<Input>() as u16, rep: true, zero, ..simple }
    }

    /// Has it take a variable header.
    const fn variable(self) -> Self {
        Self { zero: self.zero & !VARHEAD_MASK, ..self }
    }

    const fn offered_by(self, hints: EnlightenmentHints) -> Self {
        Self { hints, ..self }
    }

    const fn needs(self, privileges: PartitionPrivileges) -> Self {
        Self { privileges, ..self }
    }

    /// Returns the sizes of the headers, of the whole input, and of the output in bytes.
    fn sizes(&self, control: HypercallInput) -> (usize, usize, usize) {
        let count = usize::from(control.rep_count());
        let list = usize::from(self.header) + usize::from(control.variable_header_size()) * 8;
        let input = list + usize::from(self.input_element) * count;
        let output = usize::from(self.output) * if self.rep { count } else { 1 };
        (list, input, output)
    }

    const DENIED: &'static Self = &Self::simple::<(), ()>(Operation::Denied);
}

/// Returns the entry of a call in the table of calls. Always inlined: where the code is known, so is the entry.
#[inline(always)]
fn find(code: Code) -> Option<&'static Call> {
    use Operation as Op;
    const POST_MESSAGES: PartitionPrivileges = NO_PRIVILEGE.with_post_messages(true);
    const SIGNAL_EVENTS: PartitionPrivileges = NO_PRIVILEGE.with_signal_events(true);
    const START_VPS: PartitionPrivileges = NO_PRIVILEGE.with_start_virtual_processor(true);
    const PARTITION_ID: PartitionPrivileges = NO_PRIVILEGE.with_access_partition_id(true);
    const EXTENDED: PartitionPrivileges = NO_PRIVILEGE.with_enable_extended_hypercalls(true);
    const SETS: EnlightenmentHints = NO_HINT.with_use_ex_processor_masks(true);
    const IPIS: EnlightenmentHints = NO_HINT.with_use_synthetic_cluster_ipi(true);
    const IPIS_TO_SETS: EnlightenmentHints = EnlightenmentHints(SETS.0 | IPIS.0);
    macro_rules! call {
        ($($call:tt)+) => {
            const { &Call::$($call)+ }
        };
    }
    Some(match code {
        Code::GET_VP_REGISTERS => {
            call!(rep::<GetVpRegistersInput, RegisterName, RegisterValue>(Op::GetRegisters))
        }
        Code::SET_VP_REGISTERS => {
            call!(rep::<SetVpRegistersInput, SetVpRegistersElement, ()>(Op::SetRegisters))
        }
        Code::POST_MESSAGE => {
            call!(simple::<PostMessageInput, ()>(Op::PostMessage).needs(POST_MESSAGES))
        }
        Code::SIGNAL_EVENT => {
            call!(simple::<SignalEventInput, ()>(Op::SignalEvent).needs(SIGNAL_EVENTS))
        }
        Code::NOTIFY_LONG_SPIN_WAIT => call!(simple::<u64, ()>(Op::LongSpinWait)),
        Code::SEND_IPI => call!(simple::<SendIpi, ()>(Op::SendIpi).offered_by(IPIS)),
        Code::SEND_IPI_EX => {
            call!(simple::<SendIpiEx, ()>(Op::SendIpiEx).variable().offered_by(IPIS_TO_SETS))
        }
        Code::FLUSH_VIRTUAL_ADDRESS_SPACE => call!(simple::<TlbFlush, ()>(Op::FlushSpace)),
        Code::FLUSH_VIRTUAL_ADDRESS_LIST => call!(rep::<TlbFlush, u64, ()>(Op::FlushList)),
        Code::FLUSH_VIRTUAL_ADDRESS_SPACE_EX => {
            call!(simple::<TlbFlushEx, ()>(Op::FlushSpaceEx).variable().offered_by(SETS))
        }
        Code::FLUSH_VIRTUAL_ADDRESS_LIST_EX => {
            call!(rep::<TlbFlushEx, u64, ()>(Op::FlushListEx).variable().offered_by(SETS))
        }
        Code::START_VP => call!(simple::<StartVpInput, ()>(Op::StartVp).needs(START_VPS)),
        Code::RETARGET_INTERRUPT => call!(simple::<RetargetInterruptInput, ()>(Op::Retarget).variable()),
        Code::GET_VP_ID_FROM_APIC_ID => call!(rep::<VpIndexInput, u64, u64>(Op::VpIndexFromMpidr)),
        Code::GET_PARTITION_ID => call!(simple::<(), u64>(Op::PartitionId).needs(PARTITION_ID)),
        Code::EXT_QUERY_CAPABILITIES => call!(simple::<(), u64>(Op::QueryCapabilities).needs(EXTENDED)),
        Code::INVOKE_HYPERVISOR_DEBUGGER
        | Code::MODIFY_VTL_PROTECTION_MASK
        | Code::ENABLE_PARTITION_VTL
        | Code::ENABLE_VP_VTL
        | Code::TRANSLATE_VIRTUAL_ADDRESS
        | Code::TRANSLATE_VIRTUAL_ADDRESS_EX
        | Code::POST_DEBUG_DATA
        | Code::RETRIEVE_DEBUG_DATA
        | Code::RESET_DEBUG_SESSION
        | Code::ADD_LOGICAL_PROCESSOR
        | Code::MAP_DEVICE_INTERRUPT
        | Code::UNMAP_DEVICE_INTERRUPT
        | Code::ASSERT_VIRTUAL_INTERRUPT
        | Code::FLUSH_GUEST_PHYSICAL_ADDRESS_SPACE
        | Code::FLUSH_GUEST_PHYSICAL_ADDRESS_LIST
        | Code::MODIFY_SPARSE_GPA_PAGE_HOST_VISIBILITY
        | Code::MMIO_READ
        | Code::MMIO_WRITE
        // Partitions, memory pools, VPs, intercepts, ports and connections of other partitions.
        | Code(0x40..=0x45 | 0x47..=0x4f | 0x53..=0x5b | 0x5e..=0x64 | 0x95..=0x98) => Call::DENIED,
        _ => return None,
    })
}

/// Returns the registers with the input and the output of a fast call; `None` if it is not one, or is invalid.
pub(crate) fn fast_places(
    convention: Convention,
    control: HypercallInput,
) -> Option<(Range<usize>, Range<usize>)> {
    let call = find(control.code()).filter(|_| control.fast())?;
    let (_, input, output) = call.sizes(control);
    match Parameters::fast(convention, input, output).ok()? {
        Parameters::Fast { input: from, output: to } => {
            Some((from..from + input.div_ceil(8), to..to + output.div_ceil(8)))
        }
        Parameters::Memory { .. } => None,
    }
}

/// The sizes of a call's input and output, for code that checks calls from outside.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) input: bool,
    pub(crate) output: bool,
    pub(crate) rep: bool,
    pub(crate) variable: bool,
}

/// Returns the shape of a call that guests may make.
pub(crate) fn shape(code: Code) -> Option<Shape> {
    let call = find(code).filter(|call| call.operation != Operation::Denied)?;
    let (input, output) = (call.header != 0, call.output != 0);
    Some(Shape { input, output, rep: call.rep, variable: call.zero & VARHEAD_MASK == 0 })
}

/// Control words of calls that guests make all the time besides: a message, an event, and an interrupt to other VPs.
const POST: u64 = HypercallInput::from_code(Code::POST_MESSAGE).0;
const SIGNAL: u64 = HypercallInput::from_code(Code::SIGNAL_EVENT).with_fast(true).0;
const IPI: u64 = HypercallInput::from_code(Code::SEND_IPI).with_fast(true).0;

/// Returns the second register after the control word. Where a read costs, one that a signal does not use is zero.
#[inline(always)]
fn second_parameter<X: Registers>(x: &X, first: usize, control: u64) -> u64 {
    if X::READS_COST && control == SIGNAL { 0 } else { x.x(first + 2) }
}

impl<R: RawMutex> Partition<'_, R> {
    /// Handles a hypercall of `vp`. Inlined for each convention, so that register numbers are constants. `fast` and
    /// `host` are one host, in the forms for frequent and for other calls.
    #[inline(always)]
    pub(crate) fn hypercall(
        &self,
        fast: impl Host + Connections + Copy,
        host: impl Host + Connections + Copy,
        vp: usize,
        convention: Convention,
        x: &mut impl Registers,
    ) -> Action {
        let first = convention.control();
        // The most frequent calls: one register of the calling VP. All checks on the control word and the header are
        // these comparisons; anything unusual takes the general path.
        let [control, partition] = [x.x(first), x.x(first + 1)];
        let vp_index = second_parameter(x, first, control);
        if let Some(status) = fast.faults().status(HypercallInput(control).code()) {
            x.set_x(0, failed(&fast, vp, convention, HypercallInput(control), [partition, vp_index], status));
            return Action::Resume;
        }
        if partition == PARTITION_ID_SELF && vp_index == u64::from(VP_INDEX_SELF) {
            // The two control words differ in the lowest bit.
            const _: () = assert!(GET_ONE & 1 == 0 && SET_ONE == GET_ONE | 1);
            if control & !1 == GET_ONE {
                // The registers that guests access all the time have the checks of their names compiled in, without
                // calls, so no stack frame is created. The host is passed by value where it leaves this function, so it
                // stays in registers here.
                return match (control & 1 == 0, RegisterName(x.x(first + 3) as u32)) {
                    (true, RegisterName::VP_INDEX | RegisterName::TIME_REF_COUNT) => {
                        self.get_one(&fast, vp, convention, x, first)
                    }
                    (true, _) => self.get_one_by_call(host, vp, convention, x, first),
                    (false, name @ RegisterName(CRASH_FIRST..=CRASH_LAST)) => {
                        let set = |value| self.set_crash_parameter(name, value);
                        self.set_one(&fast, vp, convention, x, first, name, set)
                    }
                    // The end of each message, and each setting of a timer.
                    (false, RegisterName::EOM | RegisterName(TIMER_FIRST..=TIMER_LAST)) => {
                        self.set_often(fast, vp, convention, x, first)
                    }
                    (false, _) => self.set_one_by_call(host, vp, convention, x, first),
                };
            }
        }
        match control {
            POST => self.known_hypercall::<POST>(host, vp, convention, x, first),
            SIGNAL => self.known_hypercall::<SIGNAL>(host, vp, convention, x, first),
            IPI => self.known_hypercall::<IPI>(host, vp, convention, x, first),
            _ => self.any_hypercall(host, vp, convention, x, first),
        }
    }

    /// Handles any call. Kept out of line, so that the fast path needs no stack frame of this size.
    #[inline(never)]
    fn any_hypercall(
        &self,
        host: impl Host + Connections + Copy,
        vp: usize,
        convention: Convention,
        x: &mut impl Registers,
        first: usize,
    ) -> Action {
        self.general_hypercall(&host, vp, convention, x, first, HypercallInput(x.x(first)))
    }

    /// Does the same for the call with this control word. It is a constant here, so what depends on the word alone is
    /// decided by the compiler: a third of what such a call takes.
    #[inline(never)]
    fn known_hypercall<const CONTROL: u64>(
        &self,
        host: impl Host + Connections + Copy,
        vp: usize,
        convention: Convention,
        x: &mut impl Registers,
        first: usize,
    ) -> Action {
        self.general_hypercall(&host, vp, convention, x, first, HypercallInput(CONTROL))
    }

    /// Handles a call with this control word, in the general way.
    #[inline(always)]
    fn general_hypercall(
        &self,
        host: &(impl Host + Connections),
        vp: usize,
        convention: Convention,
        x: &mut impl Registers,
        first: usize,
        control: HypercallInput,
    ) -> Action {
        let parameters = [x.x(first + 1), second_parameter(x, first, control.0)];
        let outcome = match self.check_call(control) {
            Ok(call) => self.run(host, vp, convention, x, control, call),
            Err(status) => Outcome::from(Err(status)),
        };
        let (result, retry) = match outcome {
            Outcome::Done(result) => {
                x.set_x(0, result.0);
                (result, false)
            }
            Outcome::Again(start) => {
                x.set_x(first, control.with_rep_start(start).0);
                (HypercallOutput::SUCCESS, true)
            }
        };
        host.observe(&Event::Hypercall { vp, convention, control, parameters, result, retry });
        if retry { Action::Retry } else { Action::Resume }
    }

    /// Makes the checks that depend on the control word alone.
    #[inline(always)]
    fn check_call(&self, control: HypercallInput) -> Result<&'static Call, HvStatus> {
        let call = find(control.code()).ok_or(HvStatus::INVALID_HYPERCALL_CODE)?;
        let early = matches!(call.operation, Operation::GetRegisters | Operation::SetRegisters);
        if !early && self.guest_os_id().load(Ordering::Acquire) == 0 {
            return Err(HvStatus::ACCESS_DENIED);
        }
        let profile = &self.config().profile;
        let granted = profile.features.privileges.0 & call.privileges.0 == call.privileges.0;
        if call.operation == Operation::Denied || !granted {
            return Err(HvStatus::ACCESS_DENIED);
        }
        if profile.enlightenments.hints.0 & call.hints.0 != call.hints.0 {
            return Err(HvStatus::INVALID_HYPERCALL_CODE);
        }
        let nothing_to_do = call.rep && control.rep_start() >= control.rep_count();
        if control.0 & call.zero != 0 || nothing_to_do {
            return Err(HvStatus::INVALID_HYPERCALL_INPUT);
        }
        Ok(call)
    }

    #[inline(always)]
    fn run<H: Host + Connections, X: Registers>(
        &self,
        host: &H,
        vp: usize,
        convention: Convention,
        x: &mut X,
        control: HypercallInput,
        call: &Call,
    ) -> Outcome {
        let (list, input, output) = call.sizes(control);
        let parameters = if control.fast() {
            Parameters::fast(convention, input, output)
        } else {
            Parameters::memory(host.memory(), convention, x, input, output)
        };
        let parameters = match parameters {
            Ok(parameters) => parameters,
            Err(status) => return Outcome::from(Err(status)),
        };
        let mut frame = CallFrame {
            host,
            vp,
            x,
            parameters,
            variable: list - usize::from(call.header),
            list,
            start: control.rep_start(),
            count: control.rep_count(),
        };
        let frame = &mut frame;
        match call.operation {
            Operation::GetRegisters => self.get_registers(frame),
            Operation::SetRegisters => self.set_registers(frame),
            Operation::PostMessage => self.post_message_call(frame).into(),
            Operation::SignalEvent => self.signal_event_call(frame).into(),
            Operation::SendIpi => self.send_ipi(frame).into(),
            Operation::SendIpiEx => self.send_ipi_ex(frame).into(),
            Operation::FlushSpace => self.flush_space(frame).into(),
            Operation::FlushSpaceEx => self.flush_space_ex(frame).into(),
            Operation::FlushList => self.flush_list(frame),
            Operation::FlushListEx => self.flush_list_ex(frame),
            // Advisory only.
            Operation::LongSpinWait => Ok(()).into(),
            Operation::StartVp => self.start_vp_call(frame).into(),
            Operation::Retarget => self.retarget(frame).into(),
            Operation::VpIndexFromMpidr => self.vp_index_from_mpidr(frame),
            Operation::PartitionId => frame.write(0, &self.config().partition_id).into(),
            // No other extended call exists.
            Operation::QueryCapabilities => frame.write(0, &0u64).into(),
            Operation::Denied => Err(HvStatus::ACCESS_DENIED).into(),
        }
    }
}
