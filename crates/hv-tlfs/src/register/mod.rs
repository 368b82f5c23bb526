//! VP registers: their names, and the parameters of the hypercalls that read and write them.
//!
//! Where x64 has CPUID leaves and model-specific registers, ARM64 has VP registers, each read by
//! [`GET_VP_REGISTERS`](crate::hypercall::HypercallCode::GET_VP_REGISTERS) and written by
//! [`SET_VP_REGISTERS`](crate::hypercall::HypercallCode::SET_VP_REGISTERS). The numbers differ from x64's MSR numbers:
//! a FreeBSD port used an MSR number as a register name, which is invalid here. Registers of x64 processors
//! (`HvX64Register...`) are left out.

use crate::abi::Tables;
use crate::vp::{InputVtl, PartitionId, VpIndex};

mod arm64_core;
mod arm64_debug;
mod arm64_pmu;
mod arm64_vector;
mod synthetic;
mod synthetic_vsm;
mod values;

pub use values::*;

pub(crate) const TABLES: &[Tables] = &[
    Tables { constants: synthetic::TABLES, structs: &[NAME_TYPE, PARAMETERS] },
    Tables { constants: synthetic_vsm::TABLES, structs: values::STRUCTS },
    Tables { constants: arm64_core::TABLES, structs: &[] },
    Tables { constants: arm64_vector::TABLES, structs: &[] },
    Tables { constants: arm64_debug::TABLES, structs: &[] },
    Tables { constants: arm64_pmu::TABLES, structs: &[] },
];

open_enum! {
    table NAME_TYPE, from "TLFS, HV_REGISTER_NAME";
    names TABLES.iter().flat_map(|module| module.constants.iter().copied());
    /// The name of a VP register: a number. Match registers by number and never by a C name; C names have moved.
    pub struct RegisterName(u32) = "HV_REGISTER_NAME" ["hv_register_name"];
}

impl RegisterName {
    /// Returns the register of synthetic interrupt source `n` if `n` is below 16, else a number that names no register.
    #[doc(alias = "hv_get_synint_state")]
    #[inline]
    #[must_use]
    pub const fn sint(n: u8) -> Self {
        if n < 16 { Self(Self::SINT0.0 + n as u32) } else { Self(u32::MAX) }
    }

    /// Returns the configuration register of synthetic timer `n` if `n` is below 4, else a number that names no
    /// register.
    #[doc(alias = "hv_init_timer_config")]
    #[inline]
    #[must_use]
    pub const fn stimer_config(n: u8) -> Self {
        if n < 4 { Self(Self::STIMER0_CONFIG.0 + 2 * n as u32) } else { Self(u32::MAX) }
    }

    /// Returns the count register of synthetic timer `n` if `n` is below 4, else a number that names no register.
    #[doc(alias = "hv_init_timer")]
    #[inline]
    #[must_use]
    pub const fn stimer_count(n: u8) -> Self {
        if n < 4 { Self(Self::STIMER0_COUNT.0 + 2 * n as u32) } else { Self(u32::MAX) }
    }
}

structs! {
    table PARAMETERS, from "TLFS, HvCallGetVpRegisters and HvCallSetVpRegisters; Linux 6.12, include/asm-generic/hyperv-tlfs.h";

    /// Input header of a Get; a list of [`RegisterName`]s follows it immediately, 4 bytes each.
    ///
    /// The output is a list of [`RegisterValue`]s.
    pub struct GetVpRegistersInput = "hv_get_vp_registers_input"
        ["hv_input_get_vp_registers", "HV_INPUT_GET_VP_REGISTERS"], size 16 {
        /// Whose VP it is.
        partition_id: PartitionId = 0 "header.partitionid",
        /// The VP.
        vp_index: VpIndex = 8 "header.vpindex",
        /// Whose VTL.
        input_vtl: InputVtl = 12 "header.inputvtl",
        /// Zero.
        reserved: [u8; 3] = 13 "header.padding",
    }
    also {
        "header" @ 0, 16;
        "element" @ 16, 0;
        "partition_id" @ 0, 8;
        "vp_index" @ 8, 4;
        "input_vtl" @ 12, 1;
        "rsvd_z8" @ 13, 1;
        "rsvd_z16" @ 14, 2;
        "names" @ 16, 0;
    }

    /// Input header of a Set; a list of [`SetVpRegistersElement`]s follows it. There is no output.
    pub struct SetVpRegistersInput = "hv_set_vp_registers_input"
        ["hv_input_set_vp_registers", "HV_INPUT_SET_VP_REGISTERS"], size 16 {
        /// Whose VP it is.
        partition_id: PartitionId = 0 "header.partitionid",
        /// The VP.
        vp_index: VpIndex = 8 "header.vpindex",
        /// Whose VTL.
        input_vtl: InputVtl = 12 "header.inputvtl",
        /// Zero.
        reserved: [u8; 3] = 13 "header.padding",
    }
    also {
        "header" @ 0, 16;
        "element" @ 16, 0;
        "partition_id" @ 0, 8;
        "vp_index" @ 8, 4;
        "input_vtl" @ 12, 1;
        "rsvd_z8" @ 13, 1;
        "rsvd_z16" @ 14, 2;
        "elements" @ 16, 0;
    }

    /// One register of a Set.
    pub struct SetVpRegistersElement = "hv_register_assoc" ["HV_REGISTER_ASSOC"], size 32 {
        /// The register.
        name: RegisterName = 0,
        /// Zero.
        reserved1: u32 = 4,
        /// Zero.
        reserved2: u64 = 8,
        /// The value to write.
        value: RegisterValue = 16,
    }

    /// The value of a register: 16 bytes, of which most registers use the low 8 (the upper 8 are zero).
    pub struct RegisterValue = "hv_get_vp_registers_output"
        ["hv_get_vp_register_output", "hv_register_value", "HV_REGISTER_VALUE"], size 16 {
        /// Bits 63:0.
        low: u64 = 0 "as64.low",
        /// Bits 127:64.
        high: u64 = 8 "as64.high",
    }
    also {
        "as64" @ 0, 16;
        "as32" @ 0, 16;
        "as32.a" @ 0, 4;
        "as32.b" @ 4, 4;
        "as32.c" @ 8, 4;
        "as32.d" @ 12, 4;
        "registervaluelow" @ 0, 8;
        "registervaluehigh" @ 8, 8;
    }
}

impl RegisterValue {
    /// Creates a 64-bit value.
    #[inline]
    #[must_use]
    pub const fn from_u64(value: u64) -> Self {
        Self { low: value, high: 0 }
    }

    /// Creates a value from four dwords, lowest first: on x64 CPUID returns them in EAX, EBX, ECX and EDX.
    #[inline]
    #[must_use]
    pub const fn from_dwords([a, b, c, d]: [u32; 4]) -> Self {
        Self { low: a as u64 | (b as u64) << 32, high: c as u64 | (d as u64) << 32 }
    }

    /// Returns the four dwords, lowest first.
    #[inline]
    #[must_use]
    pub const fn to_dwords(self) -> [u32; 4] {
        [self.low as u32, (self.low >> 32) as u32, self.high as u32, (self.high >> 32) as u32]
    }
}

impl SetVpRegistersElement {
    /// Creates the element that writes this value to this register.
    #[inline]
    #[must_use]
    pub const fn new(name: RegisterName, value: RegisterValue) -> Self {
        Self { name, reserved1: 0, reserved2: 0, value }
    }
}
