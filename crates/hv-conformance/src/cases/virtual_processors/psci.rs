//! PSCI, CPU_ON.

use hv_tlfs::psci;

use super::{AFFINITY, UNKNOWN_MPIDR, stop};
use crate::cx::Cx;
use crate::outcome::Outcome;

cases! {
    "virtual_processors";
    "Arm Power State Coordination Interface (DEN0022)", "CPU_ON":
        a_running_vp_is_already_on,
        an_mpidr_without_vp_is_refused,
        a_stopped_vp_starts_by_psci;
}

const ALREADY_ON: u64 = -4i64 as u64;
const INVALID_PARAMETERS: u64 = -2i64 as u64;
const CPU_ON: u32 = psci::CPU_ON | psci::SMC64;

fn cpu_on(cx: &Cx<'_>, mpidr: u64) -> u64 {
    cx.env.conduit().smccc(CPU_ON, [mpidr, cx.env.page(0), 0])[0]
}

fn a_running_vp_is_already_on(cx: &Cx<'_>) -> Outcome {
    for vp in 0..cx.env.vp_count() {
        check_eq!(cpu_on(cx, cx.env.mpidr(vp) & AFFINITY), ALREADY_ON);
    }
    Ok(())
}

fn an_mpidr_without_vp_is_refused(cx: &Cx<'_>) -> Outcome {
    check_eq!(cpu_on(cx, UNKNOWN_MPIDR), INVALID_PARAMETERS);
    Ok(())
}

fn a_stopped_vp_starts_by_psci(cx: &Cx<'_>) -> Outcome {
    let other = cx.other()?;
    stop(cx, other)?;
    check!(cx.env.start(other));
    check!(cx.env.wait_online(other));
    check_eq!(cpu_on(cx, cx.env.mpidr(other) & AFFINITY), ALREADY_ON);
    Ok(())
}
