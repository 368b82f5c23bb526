//! The most frequent hypercalls: a fast Get or Set of one register of the calling VP.
//!
//! Source: TLFS, "HvCallGetVpRegisters" and "HvCallSetVpRegisters".

use hv_tlfs::hypercall::{HypercallCode as Code, HypercallInput, HypercallOutput};
use hv_tlfs::register::{GetVpRegistersInput, RegisterName, RegisterValue};
use hv_tlfs::status::HvStatus;

use lock_api::RawMutex;

use crate::connections::Connections;
use crate::event::{Convention, Event};
use crate::frame::Parameters;
use crate::general::Registers;
use crate::host::{Action, Host};
use crate::partition::Partition;

/// Control word of a fast Get of one register.
pub(crate) const GET_ONE: u64 =
    HypercallInput::from_code(Code::GET_VP_REGISTERS).with_fast(true).with_rep_count(1).0;
/// Control word of a fast Set of one register.
pub(crate) const SET_ONE: u64 =
    HypercallInput::from_code(Code::SET_VP_REGISTERS).with_fast(true).with_rep_count(1).0;

/// Returns the register with the low half of the value that a fast Get of one register returns: a constant, once it is
/// inlined. It is not a `const fn`, because mutants of what it calls are chosen at run time.
#[inline(always)]
fn value_of_one(convention: Convention) -> usize {
    const INPUT: usize = size_of::<GetVpRegistersInput>() + size_of::<RegisterName>();
    match Parameters::fast(convention, INPUT, size_of::<RegisterValue>()) {
        Ok(Parameters::Fast { output, .. }) => output,
        _ => panic!("a name and a value fit the registers of a call"),
    }
}

impl<R: RawMutex> Partition<'_, R> {
    #[inline(never)]
    pub(crate) fn get_one_by_call(
        &self,
        host: impl Host + Connections + Copy,
        vp: usize,
        convention: Convention,
        x: &mut impl Registers,
        first: usize,
    ) -> Action {
        self.get_one(&host, vp, convention, x, first)
    }

    #[inline(never)]
    pub(crate) fn set_one_by_call(
        &self,
        host: impl Host + Connections + Copy,
        vp: usize,
        convention: Convention,
        x: &mut impl Registers,
        first: usize,
    ) -> Action {
        let name = RegisterName(x.x(first + 3) as u32);
        self.set_one(&host, vp, convention, x, first, name, |value| self.set_register(&host, vp, name, value))
    }

    /// Sets EOM or a register of a timer. Each has code of its own, with what the name decides compiled in.
    #[inline(never)]
    pub(crate) fn set_often(
        &self,
        host: impl Host + Connections + Copy,
        vp: usize,
        convention: Convention,
        x: &mut impl Registers,
        first: usize,
    ) -> Action {
        match RegisterName(x.x(first + 3) as u32) {
            RegisterName::EOM => self.set_one_eom(host, vp, convention, x, first),
            _ => self.set_one_timer(host, vp, convention, x, first),
        }
    }

    #[inline(never)]
    fn set_one_eom(
        &self,
        host: impl Host + Connections + Copy,
        vp: usize,
        convention: Convention,
        x: &mut impl Registers,
        first: usize,
    ) -> Action {
        let set = |value| self.set_eom(&host, vp, value);
        self.set_one(&host, vp, convention, x, first, RegisterName::EOM, set)
    }

    #[inline(never)]
    fn set_one_timer(
        &self,
        host: impl Host + Connections + Copy,
        vp: usize,
        convention: Convention,
        x: &mut impl Registers,
        first: usize,
    ) -> Action {
        let name = RegisterName(x.x(first + 3) as u32);
        self.set_one(&host, vp, convention, x, first, name, |value| self.set_timer(&host, vp, name, value))
    }

    #[inline(always)]
    pub(crate) fn get_one(
        &self,
        host: &(impl Host + Connections),
        vp: usize,
        convention: Convention,
        x: &mut impl Registers,
        first: usize,
    ) -> Action {
        // Only the name's four bytes are input; the rest of the register is ignored.
        let name = RegisterName(x.x(first + 3) as u32);
        let parameters = [x.x(first + 1), x.x(first + 2)];
        let output = value_of_one(convention);
        match self.get_register(host, vp, name) {
            Ok(RegisterValue { low, high }) => {
                host.observe(&Event::RegisterGet { vp, target: vp, name, value: Ok([low, high]) });
                x.set_x(output, low);
                x.set_x(output + 1, high);
                x.set_x(0, ONE_ELEMENT.0);
                ended(host, vp, convention, HypercallInput(GET_ONE), parameters, ONE_ELEMENT);
            }
            Err(status) => {
                host.observe(&Event::RegisterGet { vp, target: vp, name, value: Err(status) });
                x.set_x(0, failed(host, vp, convention, HypercallInput(GET_ONE), parameters, status));
            }
        }
        Action::Resume
    }

    /// Handles a Set of the register `name`, the caller's own, which `set` writes.
    #[inline(always)]
    #[expect(clippy::too_many_arguments, reason = "inlined, with most of them constants")]
    pub(crate) fn set_one(
        &self,
        host: &(impl Host + Connections),
        vp: usize,
        convention: Convention,
        x: &mut impl Registers,
        first: usize,
        name: RegisterName,
        set: impl FnOnce(RegisterValue) -> Result<(), HvStatus>,
    ) -> Action {
        let value = RegisterValue { low: x.x(first + 5), high: x.x(first + 6) };
        let reserved_is_zero = x.x(first + 3) >> 32 == 0 && x.x(first + 4) == 0;
        let set = if reserved_is_zero { set(value) } else { Err(HvStatus::INVALID_PARAMETER) };
        let parameters = [x.x(first + 1), x.x(first + 2)];
        let value = [value.low, value.high];
        match set {
            Ok(()) => {
                host.observe(&Event::RegisterSet { vp, target: vp, name, value, status: HvStatus::SUCCESS });
                x.set_x(0, ONE_ELEMENT.0);
                ended(host, vp, convention, HypercallInput(SET_ONE), parameters, ONE_ELEMENT);
            }
            Err(status) => {
                host.observe(&Event::RegisterSet { vp, target: vp, name, value, status });
                x.set_x(0, failed(host, vp, convention, HypercallInput(SET_ONE), parameters, status));
            }
        }
        Action::Resume
    }
}

/// The result value of a rep hypercall with one completed element.
const ONE_ELEMENT: HypercallOutput = HypercallOutput(1 << 32);

/// Reports the end of a call of one register.
#[inline(always)]
fn ended(
    host: &impl Host,
    vp: usize,
    convention: Convention,
    control: HypercallInput,
    parameters: [u64; 2],
    result: HypercallOutput,
) {
    host.observe(&Event::Hypercall { vp, convention, control, parameters, result, retry: false });
}

/// Does the same as [`ended`] for a failed call; returns its result value.
#[inline(always)]
pub(crate) fn failed(
    host: &impl Host,
    vp: usize,
    convention: Convention,
    control: HypercallInput,
    parameters: [u64; 2],
    status: HvStatus,
) -> u64 {
    let result = HypercallOutput::from_status(status);
    ended(host, vp, convention, control, parameters, result);
    result.0
}
