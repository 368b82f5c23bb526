//! System registers by their encoding, for messages about accesses that trapped.
//!
//! Source: Arm ARM, "D24.2 General system control registers" and the chapters after it; Arm IHI 0069, "AArch64 System
//! register descriptions".

/// Op0, Op1, CRn, CRm and Op2 of a register, and its name; sorted.
type Row = ((u8, u8, u8, u8, u8), &'static str);

/// Returns the name of the register that a trapped MRS or MSR is about, from the ISS of its trap; `None` if it is not
/// in the table, which has the ID registers and what a guest is likely to try.
#[must_use]
pub fn name(iss: u64) -> Option<&'static str> {
    let field = |low: u32, mask: u64| (iss >> low & mask) as u8;
    let key = (field(20, 3), field(14, 7), field(10, 15), field(1, 15), field(17, 7));
    let row = REGISTERS.binary_search_by_key(&key, |(key, _)| *key).ok()?;
    REGISTERS.get(row).map(|(_, name)| *name)
}

const REGISTERS: &[Row] = &[
    ((2, 0, 0, 2, 2), "MDSCR_EL1"),
    ((2, 0, 1, 0, 0), "MDRAR_EL1"),
    ((2, 0, 1, 0, 4), "OSLAR_EL1"),
    ((2, 0, 1, 1, 4), "OSLSR_EL1"),
    ((2, 0, 1, 3, 4), "OSDLR_EL1"),
    ((2, 0, 1, 4, 4), "DBGPRCR_EL1"),
    ((3, 0, 0, 0, 0), "MIDR_EL1"),
    ((3, 0, 0, 0, 5), "MPIDR_EL1"),
    ((3, 0, 0, 0, 6), "REVIDR_EL1"),
    ((3, 0, 0, 1, 0), "ID_PFR0_EL1"),
    ((3, 0, 0, 1, 1), "ID_PFR1_EL1"),
    ((3, 0, 0, 1, 2), "ID_DFR0_EL1"),
    ((3, 0, 0, 1, 3), "ID_AFR0_EL1"),
    ((3, 0, 0, 1, 4), "ID_MMFR0_EL1"),
    ((3, 0, 0, 1, 5), "ID_MMFR1_EL1"),
    ((3, 0, 0, 1, 6), "ID_MMFR2_EL1"),
    ((3, 0, 0, 1, 7), "ID_MMFR3_EL1"),
    ((3, 0, 0, 2, 0), "ID_ISAR0_EL1"),
    ((3, 0, 0, 2, 1), "ID_ISAR1_EL1"),
    ((3, 0, 0, 2, 2), "ID_ISAR2_EL1"),
    ((3, 0, 0, 2, 3), "ID_ISAR3_EL1"),
    ((3, 0, 0, 2, 4), "ID_ISAR4_EL1"),
    ((3, 0, 0, 2, 5), "ID_ISAR5_EL1"),
    ((3, 0, 0, 2, 6), "ID_MMFR4_EL1"),
    ((3, 0, 0, 2, 7), "ID_ISAR6_EL1"),
    ((3, 0, 0, 3, 0), "MVFR0_EL1"),
    ((3, 0, 0, 3, 1), "MVFR1_EL1"),
    ((3, 0, 0, 3, 2), "MVFR2_EL1"),
    ((3, 0, 0, 3, 4), "ID_PFR2_EL1"),
    ((3, 0, 0, 3, 5), "ID_DFR1_EL1"),
    ((3, 0, 0, 3, 6), "ID_MMFR5_EL1"),
    ((3, 0, 0, 4, 0), "ID_AA64PFR0_EL1"),
    ((3, 0, 0, 4, 1), "ID_AA64PFR1_EL1"),
    ((3, 0, 0, 4, 2), "ID_AA64PFR2_EL1"),
    ((3, 0, 0, 4, 4), "ID_AA64ZFR0_EL1"),
    ((3, 0, 0, 4, 5), "ID_AA64SMFR0_EL1"),
    ((3, 0, 0, 4, 7), "ID_AA64FPFR0_EL1"),
    ((3, 0, 0, 5, 0), "ID_AA64DFR0_EL1"),
    ((3, 0, 0, 5, 1), "ID_AA64DFR1_EL1"),
    ((3, 0, 0, 5, 2), "ID_AA64DFR2_EL1"),
    ((3, 0, 0, 5, 4), "ID_AA64AFR0_EL1"),
    ((3, 0, 0, 5, 5), "ID_AA64AFR1_EL1"),
    ((3, 0, 0, 6, 0), "ID_AA64ISAR0_EL1"),
    ((3, 0, 0, 6, 1), "ID_AA64ISAR1_EL1"),
    ((3, 0, 0, 6, 2), "ID_AA64ISAR2_EL1"),
    ((3, 0, 0, 6, 3), "ID_AA64ISAR3_EL1"),
    ((3, 0, 0, 7, 0), "ID_AA64MMFR0_EL1"),
    ((3, 0, 0, 7, 1), "ID_AA64MMFR1_EL1"),
    ((3, 0, 0, 7, 2), "ID_AA64MMFR2_EL1"),
    ((3, 0, 0, 7, 3), "ID_AA64MMFR3_EL1"),
    ((3, 0, 0, 7, 4), "ID_AA64MMFR4_EL1"),
    ((3, 0, 1, 0, 1), "ACTLR_EL1"),
    ((3, 0, 1, 0, 5), "RGSR_EL1"),
    ((3, 0, 1, 0, 6), "GCR_EL1"),
    ((3, 0, 1, 2, 0), "ZCR_EL1"),
    ((3, 0, 1, 2, 1), "TRFCR_EL1"),
    ((3, 0, 1, 2, 6), "SMCR_EL1"),
    ((3, 0, 4, 6, 0), "ICC_PMR_EL1"),
    ((3, 0, 5, 3, 0), "ERRIDR_EL1"),
    ((3, 0, 5, 3, 1), "ERRSELR_EL1"),
    ((3, 0, 5, 6, 0), "TFSR_EL1"),
    ((3, 0, 5, 6, 1), "TFSRE0_EL1"),
    ((3, 0, 9, 9, 0), "PMSCR_EL1"),
    ((3, 0, 9, 10, 0), "PMBLIMITR_EL1"),
    ((3, 0, 9, 10, 1), "PMBPTR_EL1"),
    ((3, 0, 9, 10, 3), "PMBSR_EL1"),
    ((3, 0, 9, 11, 0), "TRBLIMITR_EL1"),
    ((3, 0, 9, 11, 1), "TRBPTR_EL1"),
    ((3, 0, 9, 14, 1), "PMINTENSET_EL1"),
    ((3, 0, 9, 14, 2), "PMINTENCLR_EL1"),
    ((3, 0, 9, 14, 6), "PMMIR_EL1"),
    ((3, 0, 10, 4, 0), "LORSA_EL1"),
    ((3, 0, 10, 4, 1), "LOREA_EL1"),
    ((3, 0, 10, 4, 2), "LORN_EL1"),
    ((3, 0, 10, 4, 3), "LORC_EL1"),
    ((3, 0, 10, 4, 4), "MPAMIDR_EL1"),
    ((3, 0, 10, 4, 7), "LORID_EL1"),
    ((3, 0, 10, 5, 0), "MPAM1_EL1"),
    ((3, 0, 10, 5, 1), "MPAM0_EL1"),
    ((3, 0, 12, 11, 1), "ICC_DIR_EL1"),
    ((3, 0, 12, 11, 3), "ICC_RPR_EL1"),
    ((3, 0, 12, 11, 5), "ICC_SGI1R_EL1"),
    ((3, 0, 12, 11, 6), "ICC_ASGI1R_EL1"),
    ((3, 0, 12, 11, 7), "ICC_SGI0R_EL1"),
    ((3, 0, 12, 12, 0), "ICC_IAR1_EL1"),
    ((3, 0, 12, 12, 1), "ICC_EOIR1_EL1"),
    ((3, 0, 12, 12, 2), "ICC_HPPIR1_EL1"),
    ((3, 0, 12, 12, 3), "ICC_BPR1_EL1"),
    ((3, 0, 12, 12, 4), "ICC_CTLR_EL1"),
    ((3, 0, 12, 12, 5), "ICC_SRE_EL1"),
    ((3, 0, 12, 12, 6), "ICC_IGRPEN0_EL1"),
    ((3, 0, 12, 12, 7), "ICC_IGRPEN1_EL1"),
    ((3, 0, 13, 0, 7), "SCXTNUM_EL1"),
    ((3, 0, 14, 1, 0), "CNTKCTL_EL1"),
    ((3, 1, 0, 0, 0), "CCSIDR_EL1"),
    ((3, 1, 0, 0, 1), "CLIDR_EL1"),
    ((3, 1, 0, 0, 2), "CCSIDR2_EL1"),
    ((3, 1, 0, 0, 4), "GMID_EL1"),
    ((3, 1, 0, 0, 6), "SMIDR_EL1"),
    ((3, 1, 0, 0, 7), "AIDR_EL1"),
    ((3, 2, 0, 0, 0), "CSSELR_EL1"),
    ((3, 3, 0, 0, 1), "CTR_EL0"),
    ((3, 3, 0, 0, 7), "DCZID_EL0"),
    ((3, 3, 2, 4, 0), "RNDR"),
    ((3, 3, 2, 4, 1), "RNDRRS"),
    ((3, 3, 4, 2, 2), "SVCR"),
    ((3, 3, 9, 12, 0), "PMCR_EL0"),
    ((3, 3, 9, 12, 1), "PMCNTENSET_EL0"),
    ((3, 3, 9, 12, 2), "PMCNTENCLR_EL0"),
    ((3, 3, 9, 12, 3), "PMOVSCLR_EL0"),
    ((3, 3, 9, 12, 4), "PMSWINC_EL0"),
    ((3, 3, 9, 12, 5), "PMSELR_EL0"),
    ((3, 3, 9, 12, 6), "PMCEID0_EL0"),
    ((3, 3, 9, 12, 7), "PMCEID1_EL0"),
    ((3, 3, 9, 13, 0), "PMCCNTR_EL0"),
    ((3, 3, 9, 13, 1), "PMXEVTYPER_EL0"),
    ((3, 3, 9, 13, 2), "PMXEVCNTR_EL0"),
    ((3, 3, 9, 14, 0), "PMUSERENR_EL0"),
    ((3, 3, 9, 14, 3), "PMOVSSET_EL0"),
    ((3, 3, 13, 0, 7), "SCXTNUM_EL0"),
    ((3, 3, 13, 2, 0), "AMCR_EL0"),
    ((3, 3, 14, 0, 1), "CNTPCT_EL0"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::table::FIELDS;

    fn iss((op0, op1, crn, crm, op2): (u8, u8, u8, u8, u8)) -> u64 {
        let [op0, op1, crn, crm, op2] = [op0, op1, crn, crm, op2].map(u64::from);
        op0 << 20 | op2 << 17 | op1 << 14 | crn << 10 | crm << 1
    }

    #[test]
    fn registers_are_named_by_their_encoding() {
        assert!(REGISTERS.is_sorted_by(|a, b| a.0 < b.0), "sorted, and each encoding once");
        for (key, register) in REGISTERS {
            // Whatever the direction and the general-purpose register.
            for more in [0, 1, 7 << 5, 31 << 5 | 1] {
                assert_eq!(name(iss(*key) | more), Some(*register));
            }
        }
        assert_eq!(name(iss((3, 0, 0, 4, 0))), Some("ID_AA64PFR0_EL1"));
        assert_eq!(name(iss((3, 0, 12, 11, 5))), Some("ICC_SGI1R_EL1"));
        assert_eq!(name(iss((3, 0, 1, 0, 3))), None);
    }

    #[test]
    fn every_id_register_that_shows_a_field_has_a_name() {
        for field in FIELDS {
            let named = (1..8).flat_map(|crm| (0..8).map(move |op2| (crm, op2))).find_map(|(crm, op2)| {
                let key = iss((3, 0, 0, crm, op2)) | 1;
                (crate::id::Register::of_read(key) == Some(field.register)).then(|| name(key))?
            });
            assert!(named.is_some(), "{}", field.name);
        }
    }
}
