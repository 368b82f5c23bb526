//! Starting a virtual processor with a given context.

use crate::abi::Tables;
use crate::vp::{PartitionId, VpIndex};

pub(crate) const TABLES: Tables = Tables { constants: &[], structs: &[START] };

structs! {
    table START, from "TLFS, HvCallStartVirtualProcessor and HV_INITIAL_VP_CONTEXT";

    /// Initial registers of a VP, ARM64 layout. Not enough for compiled code, which needs at least CPACR_EL1 set up
    /// first.
    pub struct InitialVpContext = "HV_INITIAL_VP_CONTEXT", size 72 {
        /// First instruction.
        pc: u64 = 0,
        /// Stack pointer of EL1 (EL1h).
        sp_elh: u64 = 8,
        /// System control.
        sctlr_el1: u64 = 16,
        /// Memory attributes.
        mair_el1: u64 = 24,
        /// Translation control.
        tcr_el1: u64 = 32,
        /// Exception vectors.
        vbar_el1: u64 = 40,
        /// Translation table of the lower addresses.
        ttbr0_el1: u64 = 48,
        /// Translation table of the upper addresses.
        ttbr1_el1: u64 = 56,
        /// The platform register.
        x18: u64 = 64,
    }

    /// Input of [`START_VP`](crate::hypercall::HypercallCode::START_VP); no output.
    pub struct StartVpInput = "HV_INPUT_START_VIRTUAL_PROCESSOR", size 88 {
        /// Whose VP it is.
        partition_id: PartitionId = 0,
        /// The VP.
        vp_index: VpIndex = 8,
        /// VTL in which it starts.
        target_vtl: u8 = 12,
        /// Zero.
        reserved: [u8; 3] = 13 "mbz",
        /// The registers.
        context: InitialVpContext = 16 "vp_context",
    }
}
