//! The table: for each field of the ID registers the highest value visible to a guest, and what it needs at EL2.
//!
//! Features of EL2, EL3, other security states or units that a guest does not get are not in the table and therefore
//! hidden: nested virtualization, Realms, MPAM, AMU, statistical profiling, trace and branch records, nested paging
//! features. Hidden because a counterpart is missing: GICv3.3's NMIs and GICv4 (not in the virtual GIC), memory tagging
//! (not enabled at stage 2), 128-bit descriptors, PMU events that stop (EBEP), transactions.
//!
//! Sources: Arm ARM, "D24.2 General system control registers" (fields and values) and the descriptions of HCR_EL2,
//! HCRX_EL2, CPTR_EL2, HFGRTR_EL2, HFGITR_EL2, ZCR_EL2 and SMCR_EL2 (enables); for bits of newer extensions Linux,
//! arch/arm64/tools/sysreg, and Documentation/arch/arm64/booting.rst.

use super::Kind::{Any, SignedUpTo, UpTo, UpToNot15};
use super::{Controls, Field, Kind, Register};

/// Bits of HCR_EL2.
const API: u64 = 1 << 41;
const APK: u64 = 1 << 40;
const EN_SCXT: u64 = 1 << 53;
/// Bits of HCRX_EL2.
const EN_AS0: u64 = 1 << 0;
const EN_ALS: u64 = 1 << 1;
const EN_ASR: u64 = 1 << 2;
const SMPME: u64 = 1 << 5;
const MSC_EN: u64 = 1 << 11;
const TCR2_EN: u64 = 1 << 14;
const SCTLR2_EN: u64 = 1 << 15;
const GCS_EN: u64 = 1 << 22;
const EN_FPM: u64 = 1 << 23;
/// Bits of CPTR_EL2.
const TZ: u64 = 1 << 8;
const TSM: u64 = 1 << 12;
/// Bits of HFGRTR_EL2 and HFGWTR_EL2 that trap while clear.
const N_ACCDATA_EL1: u64 = 1 << 50;
const N_GCS: u64 = 1 << 52 | 1 << 53;
const N_SMPRI_EL1: u64 = 1 << 54;
const N_TPIDR2_EL0: u64 = 1 << 55;
const N_PIR: u64 = 1 << 57 | 1 << 58;
const N_POR: u64 = 1 << 59 | 1 << 60;
const N_MAIR2: u64 = 1 << 62 | 1 << 63;
/// Bits of HFGITR_EL2 that trap while clear: nGCSPUSHM_EL1, nGCSSTR_EL1, nGCSEPP.
const N_GCS_INSTRUCTIONS: u64 = 1 << 57 | 1 << 58 | 1 << 59;
/// Bits of ZCR_EL2 and SMCR_EL2: the hypervisor does not limit the vector length.
const LEN: u64 = 0xf;
const EZT0: u64 = 1 << 30;
const FA64: u64 = 1 << 31;

const PAUTH: &[(u8, Controls)] = &[(1, Controls { hcr: API | APK, ..Controls::NONE })];
const SCXTNUM: &[(u8, Controls)] = &[(2, Controls { hcr: EN_SCXT, ..Controls::NONE })];
const SVE: &[(u8, Controls)] = &[(1, Controls { cptr_off: TZ, zcr: LEN, ..Controls::NONE })];
const SME: &[(u8, Controls)] = &[
    (
        1,
        Controls {
            cptr_off: TSM,
            hcrx: SMPME,
            hfgrtr: N_SMPRI_EL1 | N_TPIDR2_EL0,
            smcr: FA64 | LEN,
            ..Controls::NONE
        },
    ),
    (2, Controls { smcr: EZT0, ..Controls::NONE }),
];
const GCS: &[(u8, Controls)] =
    &[(1, Controls { hcrx: GCS_EN, hfgrtr: N_GCS, hfgitr: N_GCS_INSTRUCTIONS, ..Controls::NONE })];
const FPMR: &[(u8, Controls)] = &[(1, Controls { hcrx: EN_FPM, ..Controls::NONE })];
const LS64: &[(u8, Controls)] = &[
    (1, Controls { hcrx: EN_ALS, ..Controls::NONE }),
    (2, Controls { hcrx: EN_ASR, ..Controls::NONE }),
    (3, Controls { hcrx: EN_AS0, hfgrtr: N_ACCDATA_EL1, ..Controls::NONE }),
];
const MOPS: &[(u8, Controls)] = &[(1, Controls { hcrx: MSC_EN, ..Controls::NONE })];
const TCRX: &[(u8, Controls)] = &[(1, Controls { hcrx: TCR2_EN, ..Controls::NONE })];
const SCTLRX: &[(u8, Controls)] = &[(1, Controls { hcrx: SCTLR2_EN, ..Controls::NONE })];
const S1PIE: &[(u8, Controls)] = &[(1, Controls { hfgrtr: N_PIR, ..Controls::NONE })];
const S1POE: &[(u8, Controls)] = &[(1, Controls { hfgrtr: N_POR, ..Controls::NONE })];
const AIE: &[(u8, Controls)] = &[(1, Controls { hfgrtr: N_MAIR2, ..Controls::NONE })];

// AArch32 code runs at EL0 only, and these features need no enable at EL2.
const ID_PFR0: Register = Register::new(1, 0);
const ID_PFR1: Register = Register::new(1, 1);
const ID_DFR0: Register = Register::new(1, 2);
const ID_MMFR0: Register = Register::new(1, 4);
const ID_MMFR1: Register = Register::new(1, 5);
const ID_MMFR2: Register = Register::new(1, 6);
const ID_MMFR3: Register = Register::new(1, 7);
const ID_ISAR0: Register = Register::new(2, 0);
const ID_ISAR1: Register = Register::new(2, 1);
const ID_ISAR2: Register = Register::new(2, 2);
const ID_ISAR3: Register = Register::new(2, 3);
const ID_ISAR4: Register = Register::new(2, 4);
const ID_ISAR5: Register = Register::new(2, 5);
const ID_MMFR4: Register = Register::new(2, 6);
const ID_ISAR6: Register = Register::new(2, 7);
const MVFR0: Register = Register::new(3, 0);
const MVFR1: Register = Register::new(3, 1);
const MVFR2: Register = Register::new(3, 2);
const ID_PFR2: Register = Register::new(3, 4);
const ID_MMFR5: Register = Register::new(3, 6);
const PFR0: Register = Register::new(4, 0);
const PFR1: Register = Register::new(4, 1);
const PFR2: Register = Register::new(4, 2);
const ZFR0: Register = Register::new(4, 4);
const SMFR0: Register = Register::new(4, 5);
const FPFR0: Register = Register::new(4, 7);
const DFR0: Register = Register::new(5, 0);
const ISAR0: Register = Register::new(6, 0);
const ISAR1: Register = Register::new(6, 1);
const ISAR2: Register = Register::new(6, 2);
const ISAR3: Register = Register::new(6, 3);
const MMFR0: Register = Register::new(7, 0);
const MMFR1: Register = Register::new(7, 1);
const MMFR2: Register = Register::new(7, 2);
const MMFR3: Register = Register::new(7, 3);
const MMFR4: Register = Register::new(7, 4);

const fn field(register: Register, name: &'static str, shift: u8, kind: Kind) -> Field {
    Field { name, register, shift, width: 4, kind, needs: &[] }
}

/// Declares bits of several fields, for which every value is visible.
const fn bits(register: Register, name: &'static str, shift: u8, width: u8) -> Field {
    Field { name, register, shift, width, kind: Any, needs: &[] }
}

const fn needing(field: Field, needs: &'static [(u8, Controls)]) -> Field {
    Field { needs, ..field }
}

/// All fields that a guest may see.
#[rustfmt::skip]
pub const FIELDS: &[Field] = &[
    // EL1 is AArch64 only (HCR_EL2.RW).
    field(PFR0, "EL0", 0, UpTo(2)),
    field(PFR0, "EL1", 4, UpTo(1)),
    field(PFR0, "FP", 16, SignedUpTo(1)),
    field(PFR0, "AdvSIMD", 20, SignedUpTo(1)),
    field(PFR0, "GIC", 24, UpTo(1)),
    field(PFR0, "RAS", 28, UpTo(1)),
    needing(field(PFR0, "SVE", 32, UpTo(1)), SVE),
    field(PFR0, "DIT", 48, UpTo(1)),
    needing(field(PFR0, "CSV2", 56, UpTo(3)), SCXTNUM),
    field(PFR0, "CSV3", 60, UpTo(1)),

    field(PFR1, "BT", 0, UpTo(1)),
    field(PFR1, "SSBS", 4, UpTo(2)),
    field(PFR1, "MTE", 8, UpTo(1)),
    needing(field(PFR1, "SME", 24, UpTo(2)), SME),
    needing(field(PFR1, "CSV2_frac", 32, UpTo(2)), SCXTNUM),
    needing(field(PFR1, "GCS", 44, UpTo(1)), GCS),

    needing(field(PFR2, "FPMR", 32, UpTo(1)), FPMR),

    field(ZFR0, "SVEver", 0, UpTo(4)),
    field(ZFR0, "AES", 4, UpTo(3)),
    bits(ZFR0, "BitPerm, BF16, B16B16", 16, 12),
    bits(ZFR0, "SHA3", 32, 4),
    bits(ZFR0, "SM4, I8MM", 40, 8),
    bits(ZFR0, "F16MM, F32MM, F64MM", 48, 12),
    // All of these are instructions.
    bits(SMFR0, "SFEXPA, AES, SBitPerm, SF8DP2, SF8DP4, SF8FMA", 23, 8),
    bits(SMFR0, "F32F32, BI32I32, B16F32, F16F32, I8I32, F8F32, F8F16, F16F16, B16B16, I16I32, F64F64", 32, 17),
    field(SMFR0, "I16I64", 52, Any),
    field(SMFR0, "SMEver", 56, UpTo(3)),
    bits(SMFR0, "LUTv2", 60, 1),
    bits(SMFR0, "FA64", 63, 1),
    bits(FPFR0, "F8E5M2, F8E4M3", 0, 2),
    bits(FPFR0, "F8MM4, F8MM8, F8DP2, F8DP4, F8FMA, F8CVT", 26, 6),

    // 11 has banked breakpoints, which need MDCR_EL2.EBWE.
    field(DFR0, "DebugVer", 0, UpTo(10)),
    // 9 has registers that need HDFGRTR2_EL2.
    field(DFR0, "PMUVer", 8, UpToNot15(8)),
    field(DFR0, "BRPs", 12, Any),
    field(DFR0, "WRPs", 20, Any),
    field(DFR0, "CTX_CMPs", 28, Any),
    field(DFR0, "DoubleLock", 36, SignedUpTo(0)),

    field(ISAR0, "AES", 4, UpTo(2)),
    field(ISAR0, "SHA1", 8, UpTo(1)),
    field(ISAR0, "SHA2", 12, UpTo(2)),
    field(ISAR0, "CRC32", 16, UpTo(1)),
    field(ISAR0, "Atomic", 20, UpTo(3)),
    field(ISAR0, "RDM", 28, UpTo(1)),
    field(ISAR0, "SHA3", 32, UpTo(1)),
    field(ISAR0, "SM3", 36, UpTo(1)),
    field(ISAR0, "SM4", 40, UpTo(1)),
    field(ISAR0, "DP", 44, UpTo(1)),
    field(ISAR0, "FHM", 48, UpTo(1)),
    field(ISAR0, "TS", 52, UpTo(2)),
    field(ISAR0, "TLB", 56, UpTo(2)),
    field(ISAR0, "RNDR", 60, UpTo(1)),

    field(ISAR1, "DPB", 0, UpTo(2)),
    // 6 has FEAT_PAuth_LR, which needs HCRX_EL2.PACMEn.
    needing(field(ISAR1, "APA", 4, UpTo(5)), PAUTH),
    needing(field(ISAR1, "API", 8, UpTo(5)), PAUTH),
    field(ISAR1, "JSCVT", 12, UpTo(1)),
    field(ISAR1, "FCMA", 16, UpTo(1)),
    field(ISAR1, "LRCPC", 20, UpTo(3)),
    needing(field(ISAR1, "GPA", 24, UpTo(1)), PAUTH),
    needing(field(ISAR1, "GPI", 28, UpTo(1)), PAUTH),
    field(ISAR1, "FRINTTS", 32, UpTo(1)),
    field(ISAR1, "SB", 36, UpTo(1)),
    field(ISAR1, "SPECRES", 40, UpTo(2)),
    field(ISAR1, "BF16", 44, UpTo(2)),
    field(ISAR1, "DGH", 48, UpTo(1)),
    field(ISAR1, "I8MM", 52, UpTo(1)),
    field(ISAR1, "XS", 56, UpTo(1)),
    needing(field(ISAR1, "LS64", 60, UpTo(3)), LS64),

    field(ISAR2, "WFxT", 0, UpTo(2)),
    field(ISAR2, "RPRES", 4, UpTo(1)),
    needing(field(ISAR2, "GPA3", 8, UpTo(1)), PAUTH),
    needing(field(ISAR2, "APA3", 12, UpTo(5)), PAUTH),
    needing(field(ISAR2, "MOPS", 16, UpTo(1)), MOPS),
    field(ISAR2, "BC", 20, UpTo(1)),
    field(ISAR2, "PAC_frac", 24, UpTo(1)),
    field(ISAR2, "CLRBHB", 28, UpTo(1)),
    field(ISAR2, "RPRFM", 48, UpTo(1)),
    field(ISAR2, "CSSC", 52, UpTo(1)),
    field(ISAR2, "LUT", 56, UpTo(1)),
    field(ISAR2, "ATS1A", 60, UpTo(1)),

    // 2 has SCTLR2_EL1.CPTA.
    field(ISAR3, "CPA", 0, UpTo(1)),
    field(ISAR3, "FAMINMAX", 4, UpTo(1)),
    field(ISAR3, "LSFE", 16, UpTo(1)),
    field(ISAR3, "LSUI", 24, UpTo(1)),
    field(ISAR3, "FPRCVT", 28, UpTo(1)),

    field(MMFR0, "PARange", 0, UpTo(6)),
    field(MMFR0, "ASIDBits", 4, UpTo(2)),
    field(MMFR0, "BigEnd", 8, UpTo(1)),
    field(MMFR0, "SNSMem", 12, UpTo(1)),
    field(MMFR0, "BigEndEL0", 16, UpTo(1)),
    field(MMFR0, "TGran16", 20, UpTo(2)),
    field(MMFR0, "TGran64", 24, SignedUpTo(0)),
    field(MMFR0, "TGran4", 28, SignedUpTo(1)),
    field(MMFR0, "ExS", 44, UpTo(1)),
    // 2 has CNTPOFF_EL2.
    field(MMFR0, "ECV", 60, UpTo(1)),

    field(MMFR1, "HAFDBS", 0, UpTo(3)),
    field(MMFR1, "HPDS", 12, UpTo(2)),
    field(MMFR1, "LO", 16, UpTo(1)),
    field(MMFR1, "PAN", 20, UpTo(3)),
    field(MMFR1, "SpecSEI", 24, UpTo(1)),
    field(MMFR1, "ETS", 36, UpTo(3)),
    field(MMFR1, "AFP", 44, UpTo(1)),
    field(MMFR1, "nTLBPA", 48, UpTo(1)),
    field(MMFR1, "TIDCP1", 52, UpTo(1)),
    field(MMFR1, "CMOW", 56, UpTo(1)),
    field(MMFR1, "ECBHB", 60, UpTo(1)),

    field(MMFR2, "CnP", 0, UpTo(1)),
    field(MMFR2, "UAO", 4, UpTo(1)),
    field(MMFR2, "LSM", 8, UpTo(1)),
    field(MMFR2, "IESB", 12, UpTo(1)),
    field(MMFR2, "VARange", 16, UpTo(1)),
    field(MMFR2, "CCIDX", 20, UpTo(1)),
    field(MMFR2, "ST", 28, UpTo(1)),
    field(MMFR2, "AT", 32, UpTo(1)),
    field(MMFR2, "IDS", 36, UpTo(1)),
    field(MMFR2, "TTL", 48, UpTo(1)),
    field(MMFR2, "BBM", 52, UpTo(2)),
    field(MMFR2, "E0PD", 60, UpTo(1)),

    needing(field(MMFR3, "TCRX", 0, UpTo(1)), TCRX),
    needing(field(MMFR3, "SCTLRX", 4, UpTo(1)), SCTLRX),
    needing(field(MMFR3, "S1PIE", 8, UpTo(1)), S1PIE),
    needing(field(MMFR3, "S1POE", 16, UpTo(1)), S1POE),
    needing(field(MMFR3, "AIE", 24, UpTo(1)), AIE),
    field(MMFR3, "Spec_FPACC", 60, UpTo(1)),

    field(MMFR4, "ASID2", 8, UpTo(1)),

    bits(ID_PFR0, "State0 to State3, CSV2", 0, 20),
    bits(ID_PFR0, "DIT, RAS", 24, 8),
    bits(ID_PFR1, "all of it", 0, 32),
    // Without trace units.
    bits(ID_DFR0, "CopDbg, CopSDbg, MMapDbg", 0, 12),
    field(ID_DFR0, "PerfMon", 24, UpToNot15(8)),
    bits(ID_MMFR0, "all of it", 0, 32),
    bits(ID_MMFR1, "all of it", 0, 32),
    bits(ID_MMFR2, "all of it", 0, 32),
    bits(ID_MMFR3, "all of it", 0, 32),
    bits(ID_ISAR0, "all of it", 0, 32),
    bits(ID_ISAR1, "all of it", 0, 32),
    bits(ID_ISAR2, "all of it", 0, 32),
    bits(ID_ISAR3, "all of it", 0, 32),
    bits(ID_ISAR4, "all of it", 0, 32),
    bits(ID_ISAR5, "all of it", 0, 32),
    bits(ID_MMFR4, "all of it", 0, 32),
    bits(ID_ISAR6, "all of it", 0, 32),
    bits(MVFR0, "all of it", 0, 32),
    bits(MVFR1, "all of it", 0, 32),
    bits(MVFR2, "all of it", 0, 32),
    bits(ID_PFR2, "CSV3, SSBS", 0, 8),
    bits(ID_MMFR5, "ETS, nTLBPA", 0, 8),
];
