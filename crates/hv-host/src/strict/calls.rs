//! Rules on hypercalls.

use hv_tlfs::hypercall::{HypercallCode as Code, HypercallInput};
use hv_tlfs::status::HvStatus;
use hv_tlfs::synic::MessageType;

use super::{Failed, Found, Judge, rules};
use crate::event::Convention;
use crate::hypercall::shape;

/// Number of repetitions of a failed call after which it counts as ignored.
const IGNORED: u32 = 8;

impl<const VPS: usize> Judge<VPS> {
    #[expect(clippy::too_many_arguments, reason = "the fields of one event")]
    pub(super) fn hypercall(
        &mut self,
        found: &mut Found<'_>,
        vp: usize,
        convention: Convention,
        control: HypercallInput,
        parameters: [u64; 2],
        status: HvStatus,
        retry: bool,
    ) {
        let identified = self.guest_os_id != 0;
        let Some(state) = self.vps.get_mut(vp) else { return };
        state.armed = 0;
        let continued = core::mem::replace(&mut state.continuing, retry);
        if retry {
            return;
        }
        let word = control.0;
        found.add_if(convention == Convention::Hvc1, &rules::CALL_HVC1, word);
        found.add_if(control.rep_start() != 0 && !continued, &rules::CALL_START, word);
        unused(found, control, parameters);
        let registers = matches!(control.code(), Code::GET_VP_REGISTERS | Code::SET_VP_REGISTERS);
        match status {
            HvStatus::INVALID_HYPERCALL_CODE => found.add(&rules::CALL_CODE, word),
            HvStatus::INVALID_HYPERCALL_INPUT => bad_input(found, control),
            HvStatus::INVALID_ALIGNMENT => match parameters.iter().find(|&gpa| gpa % 8 != 0) {
                Some(&gpa) => found.add(&rules::CALL_ALIGNMENT, gpa),
                None => found.add(&rules::CALL_PLACE, parameters[0]),
            },
            HvStatus::ACCESS_DENIED if registers => {}
            HvStatus::ACCESS_DENIED if identified => found.add(&rules::CALL_PRIVILEGE, word),
            HvStatus::ACCESS_DENIED => found.add(&rules::CALL_EARLY, word),
            HvStatus::INVALID_PARTITION_ID => found.add(&rules::CALL_PARTITION, word),
            HvStatus::INVALID_VP_INDEX if registers || control.code() == Code::START_VP => {
                found.add(&rules::CALL_VP, word);
            }
            HvStatus::SUCCESS => {}
            _ => by_code(found, control, status),
        }
        let state = &mut self.vps[vp];
        let now = Failed { control: word, parameters, name: state.name, status: status.0, times: 0 };
        state.failed = match status {
            // Retrying is correct if the reason may pass.
            HvStatus::SUCCESS
            | HvStatus::INSUFFICIENT_BUFFERS
            | HvStatus::INSUFFICIENT_MEMORY
            | HvStatus::TIME_OUT => Failed::default(),
            _ if (Failed { times: 0, ..state.failed }) == now => {
                Failed { times: state.failed.times.saturating_add(1), ..now }
            }
            _ => now,
        };
        found.add_if(state.failed.times == IGNORED, &rules::CALL_IGNORED, word);
    }
}

/// Checks for addresses where there is nothing to pass.
fn unused(found: &mut Found<'_>, control: HypercallInput, [input, output]: [u64; 2]) {
    if control.fast() {
        return;
    }
    let Some(shape) = shape(control.code()) else { return };
    found.add_if(!shape.output && output != 0, &rules::CALL_OUTPUT, output);
    found.add_if(!shape.input && input != 0, &rules::CALL_INPUT, input);
}

/// Checks a rejected control word.
fn bad_input(found: &mut Found<'_>, control: HypercallInput) {
    let shape = shape(control.code());
    let (rep, variable) = shape.map_or((false, false), |shape| (shape.rep, shape.variable));
    let (count, start) = (control.rep_count(), control.rep_start());
    let reps = if rep { start < count } else { count == 0 && start == 0 };
    let rule = if control.reserved() != 0 {
        &rules::CALL_RESERVED
    } else if control.is_nested() {
        &rules::CALL_NESTED
    } else if !reps {
        &rules::CALL_REPS
    } else if control.variable_header_size() != 0 || variable || !control.fast() {
        &rules::CALL_VARIABLE
    } else {
        &rules::CALL_FAST
    };
    found.add(rule, control.0);
}

/// Checks statuses whose meaning depends on the call.
fn by_code(found: &mut Found<'_>, control: HypercallInput, status: HvStatus) {
    match (control.code(), status) {
        (Code::SEND_IPI | Code::SEND_IPI_EX, _) => found.add(&rules::IPI, control.0),
        (
            Code::FLUSH_VIRTUAL_ADDRESS_SPACE
            | Code::FLUSH_VIRTUAL_ADDRESS_SPACE_EX
            | Code::FLUSH_VIRTUAL_ADDRESS_LIST
            | Code::FLUSH_VIRTUAL_ADDRESS_LIST_EX,
            _,
        ) => found.add(&rules::FLUSH, control.0),
        (Code::START_VP, _) => found.add(&rules::START_VP, u64::from(status.0)),
        _ => {}
    }
}

/// Checks a posted message.
pub(super) fn posted(found: &mut Found<'_>, connection: u32, message_type: u32, status: HvStatus) {
    let bad_type = message_type == 0 || MessageType(message_type).is_hypervisor();
    match status {
        HvStatus::INVALID_PARAMETER if bad_type => found.add(&rules::POST_TYPE, u64::from(message_type)),
        HvStatus::INVALID_PARAMETER => found.add(&rules::POST_FORM, u64::from(connection)),
        HvStatus::INSUFFICIENT_BUFFERS => found.add(&rules::BUFFERS, u64::from(connection)),
        _ => target(found, connection, status),
    }
}

/// Checks a signalled event.
pub(super) fn signalled(found: &mut Found<'_>, connection: u32, flag: u16, status: HvStatus) {
    match status {
        HvStatus::INVALID_PARAMETER => found.add(&rules::SIGNAL_FLAG, u64::from(flag)),
        _ => target(found, connection, status),
    }
}

fn target(found: &mut Found<'_>, connection: u32, status: HvStatus) {
    match status {
        HvStatus::INVALID_CONNECTION_ID | HvStatus::INVALID_PORT_ID => {
            found.add(&rules::CONNECTION, u64::from(connection));
        }
        HvStatus::INVALID_SYNIC_STATE | HvStatus::INVALID_VP_INDEX => {
            found.add(&rules::TARGET_OFF, u64::from(connection));
        }
        _ => {}
    }
}
