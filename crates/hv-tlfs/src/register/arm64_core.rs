//! The ARM64 processor registers of a lower VTL that a VTL can access: general purpose, status, identification, system
//! control and generic timer.
//!
//! The numbers are the TLFS's; what each register holds is in the Arm Architecture Reference Manual.

use super::RegisterName;

pub(super) const TABLES: &[&[crate::abi::Constant]] =
    &[GENERAL, STATUS, ID, SYSTEM, GENERIC_TIMER, GIC, HYPERVISOR];

constants! {
    table GENERAL, kind "register", from "TLFS, HV_REGISTER_NAME, ARM64 Architecture Registers", impl RegisterName;

    /// General-purpose register X0.
    X0 = 0x20000, "HvArm64RegisterX0" ["HV_ARM64_REGISTER_X0"];
    /// General-purpose register X1.
    X1 = 0x20001, "HvArm64RegisterX1" ["HV_ARM64_REGISTER_X1"];
    /// General-purpose register X2.
    X2 = 0x20002, "HvArm64RegisterX2" ["HV_ARM64_REGISTER_X2"];
    /// General-purpose register X3.
    X3 = 0x20003, "HvArm64RegisterX3" ["HV_ARM64_REGISTER_X3"];
    /// General-purpose register X4.
    X4 = 0x20004, "HvArm64RegisterX4" ["HV_ARM64_REGISTER_X4"];
    /// General-purpose register X5.
    X5 = 0x20005, "HvArm64RegisterX5" ["HV_ARM64_REGISTER_X5"];
    /// General-purpose register X6.
    X6 = 0x20006, "HvArm64RegisterX6" ["HV_ARM64_REGISTER_X6"];
    /// General-purpose register X7.
    X7 = 0x20007, "HvArm64RegisterX7" ["HV_ARM64_REGISTER_X7"];
    /// General-purpose register X8.
    X8 = 0x20008, "HvArm64RegisterX8" ["HV_ARM64_REGISTER_X8"];
    /// General-purpose register X9.
    X9 = 0x20009, "HvArm64RegisterX9" ["HV_ARM64_REGISTER_X9"];
    /// General-purpose register X10.
    X10 = 0x2000a, "HvArm64RegisterX10" ["HV_ARM64_REGISTER_X10"];
    /// General-purpose register X11.
    X11 = 0x2000b, "HvArm64RegisterX11" ["HV_ARM64_REGISTER_X11"];
    /// General-purpose register X12.
    X12 = 0x2000c, "HvArm64RegisterX12" ["HV_ARM64_REGISTER_X12"];
    /// General-purpose register X13.
    X13 = 0x2000d, "HvArm64RegisterX13" ["HV_ARM64_REGISTER_X13"];
    /// General-purpose register X14.
    X14 = 0x2000e, "HvArm64RegisterX14" ["HV_ARM64_REGISTER_X14"];
    /// General-purpose register X15.
    X15 = 0x2000f, "HvArm64RegisterX15" ["HV_ARM64_REGISTER_X15"];
    /// General-purpose register X16.
    X16 = 0x20010, "HvArm64RegisterX16" ["HV_ARM64_REGISTER_X16"];
    /// General-purpose register X17.
    X17 = 0x20011, "HvArm64RegisterX17" ["HV_ARM64_REGISTER_X17"];
    /// General-purpose register X18.
    X18 = 0x20012, "HvArm64RegisterX18" ["HV_ARM64_REGISTER_X18"];
    /// General-purpose register X19.
    X19 = 0x20013, "HvArm64RegisterX19" ["HV_ARM64_REGISTER_X19"];
    /// General-purpose register X20.
    X20 = 0x20014, "HvArm64RegisterX20" ["HV_ARM64_REGISTER_X20"];
    /// General-purpose register X21.
    X21 = 0x20015, "HvArm64RegisterX21" ["HV_ARM64_REGISTER_X21"];
    /// General-purpose register X22.
    X22 = 0x20016, "HvArm64RegisterX22" ["HV_ARM64_REGISTER_X22"];
    /// General-purpose register X23.
    X23 = 0x20017, "HvArm64RegisterX23" ["HV_ARM64_REGISTER_X23"];
    /// General-purpose register X24.
    X24 = 0x20018, "HvArm64RegisterX24" ["HV_ARM64_REGISTER_X24"];
    /// General-purpose register X25.
    X25 = 0x20019, "HvArm64RegisterX25" ["HV_ARM64_REGISTER_X25"];
    /// General-purpose register X26.
    X26 = 0x2001a, "HvArm64RegisterX26" ["HV_ARM64_REGISTER_X26"];
    /// General-purpose register X27.
    X27 = 0x2001b, "HvArm64RegisterX27" ["HV_ARM64_REGISTER_X27"];
    /// General-purpose register X28.
    X28 = 0x2001c, "HvArm64RegisterX28" ["HV_ARM64_REGISTER_X28"];
    /// X29, the frame pointer.
    FP = 0x2001d, "HvArm64RegisterFp" ["HV_ARM64_REGISTER_FP"];
    /// X30, the link register.
    LR = 0x2001e, "HvArm64RegisterLr" ["HV_ARM64_REGISTER_LR"];
    /// The stack pointer in use. Deprecated in the TLFS.
    SP = 0x2001f, "HvArm64RegisterSp" ["HV_ARM64_REGISTER_SP"];
    /// Architectural register `SP_EL0`. Deprecated in the TLFS.
    SP_EL0 = 0x20020, "HvArm64RegisterSpEl0" ["HV_ARM64_REGISTER_SP_EL0"];
    /// Architectural register `SP_EL1`. Deprecated in the TLFS.
    SP_EL1 = 0x20021, "HvArm64RegisterSpEl1" ["HV_ARM64_REGISTER_SP_EL1"];
    /// The program counter.
    PC = 0x20022, "HvArm64RegisterPc" ["HV_ARM64_REGISTER_PC"];
    /// XZR: reads as zero.
    XZR = 0x2fffe, "HvArm64RegisterXzr" ["HV_ARM64_REGISTER_XZR"];
}

constants! {
    table STATUS, kind "register", from "TLFS, HV_REGISTER_NAME, ARM64 Architecture Registers", impl RegisterName;

    /// PSTATE.EL: the exception level that the VP is at.
    CURRENT_EL = 0x21003, "HvArm64RegisterCurrentEl" ["HV_ARM64_REGISTER_CURRENT_EL"];
    /// PSTATE.DAIF.
    DAIF = 0x21004, "HvArm64RegisterDaif" ["HV_ARM64_REGISTER_DAIF"];
    /// PSTATE.DIT.
    DIT = 0x21005, "HvArm64RegisterDit" ["HV_ARM64_REGISTER_DIT"];
    /// PSTATE as a whole, laid out as SPSR. Deprecated in the TLFS.
    PSTATE = 0x20023, "HvArm64RegisterPstate" ["HV_ARM64_REGISTER_PSTATE"];
    /// Architectural register `ELR_EL1`. Deprecated in the TLFS.
    ELR_EL1 = 0x40015, "HvArm64RegisterElrEl1" ["HV_ARM64_REGISTER_ELR_EL1"];
    /// Return address at the VP's current exception level.
    ELR_ELX = 0x2100c, "HvArm64RegisterElrElx" ["HV_ARM64_REGISTER_ELR_ELX"];
    /// Architectural register `FPCR`. Deprecated in the TLFS.
    FPCR = 0x40012, "HvArm64RegisterFpcr" ["HV_ARM64_REGISTER_FPCR"];
    /// Architectural register `FPSR`. Deprecated in the TLFS.
    FPSR = 0x40013, "HvArm64RegisterFpsr" ["HV_ARM64_REGISTER_FPSR"];
    /// PSTATE.NZCV.
    NZCV = 0x21006, "HvArm64RegisterNzcv" ["HV_ARM64_REGISTER_NZCV"];
    /// PSTATE.PAN.
    PAN = 0x21007, "HvArm64RegisterPan" ["HV_ARM64_REGISTER_PAN"];
    /// PSTATE.SP: which stack pointer is in use.
    SP_SEL = 0x21008, "HvArm64RegisterSpSel" ["HV_ARM64_REGISTER_SP_SEL"];
    /// Architectural register `SPSR_EL1`. Deprecated in the TLFS.
    SPSR_EL1 = 0x40014, "HvArm64RegisterSpsrEl1" ["HV_ARM64_REGISTER_SPSR_EL1"];
    /// Saved PSTATE at the VP's current exception level.
    SPSR_ELX = 0x2100d, "HvArm64RegisterSpsrElx" ["HV_ARM64_REGISTER_SPSR_ELX"];
    /// PSTATE.SSBS.
    SSBS = 0x21009, "HvArm64RegisterSsbs" ["HV_ARM64_REGISTER_SSBS"];
    /// PSTATE.TCO.
    TCO = 0x2100a, "HvArm64RegisterTco" ["HV_ARM64_REGISTER_TCO"];
    /// PSTATE.UAO.
    UAO = 0x2100b, "HvArm64RegisterUao" ["HV_ARM64_REGISTER_UAO"];
}

constants! {
    table ID, kind "register", from "TLFS, HV_REGISTER_NAME, ARM64 Architecture Registers", impl RegisterName;

    /// Architectural register `MIDR_EL1`.
    ID_MIDR_EL1 = 0x22000, "HvArm64RegisterIdMidrEl1" ["HV_ARM64_REGISTER_ID_MIDR_EL1"];
    /// Architectural register `MPIDR_EL1`.
    ID_MPIDR_EL1 = 0x22005, "HvArm64RegisterIdMpidrEl1" ["HV_ARM64_REGISTER_ID_MPIDR_EL1"];
    /// Architectural register `ID_AA64PFR0_EL1`.
    ID_AA64PFR0_EL1 = 0x22020, "HvArm64RegisterIdAa64Pfr0El1" ["HV_ARM64_REGISTER_ID_AA64_PFR0_EL1"];
    /// Architectural register `ID_AA64PFR1_EL1`.
    ID_AA64PFR1_EL1 = 0x22021, "HvArm64RegisterIdAa64Pfr1El1" ["HV_ARM64_REGISTER_ID_AA64_PFR1_EL1"];
    /// Architectural register `ID_AA64PFR2_EL1`.
    ID_AA64PFR2_EL1 = 0x22022, "HvArm64RegisterIdAa64Pfr2El1" ["HV_ARM64_REGISTER_ID_AA64_PFR2_EL1"];
    /// Architectural register `ID_AA64ZFR0_EL1`.
    ID_AA64ZFR0_EL1 = 0x22024, "HvArm64RegisterIdAa64Zfr0El1" ["HV_ARM64_REGISTER_ID_AA64_ZFR0_EL1"];
    /// Architectural register `ID_AA64SMFR0_EL1`.
    ID_AA64SMFR0_EL1 = 0x22025, "HvArm64RegisterIdAa64Smfr0El1" ["HV_ARM64_REGISTER_ID_AA64_SMFR0_EL1"];
    /// Architectural register `ID_AA64DFR0_EL1`.
    ID_AA64DFR0_EL1 = 0x22028, "HvArm64RegisterIdAa64Dfr0El1" ["HV_ARM64_REGISTER_ID_AA64_DFR0_EL1"];
    /// Architectural register `ID_AA64ISAR0_EL1`.
    ID_AA64ISAR0_EL1 = 0x22030, "HvArm64RegisterIdAa64Isar0El1" ["HV_ARM64_REGISTER_ID_AA64_ISAR0_EL1"];
    /// Architectural register `ID_AA64MMFR0_EL1`.
    ID_AA64MMFR0_EL1 = 0x22038, "HvArm64RegisterIdAa64Mmfr0El1" ["HV_ARM64_REGISTER_ID_AA64_MMFR0_EL1"];
    /// Architectural register `ID_AA64MMFR1_EL1`.
    ID_AA64MMFR1_EL1 = 0x22039, "HvArm64RegisterIdAa64Mmfr1El1" ["HV_ARM64_REGISTER_ID_AA64_MMFR1_EL1"];
    /// Architectural register `ID_AA64MMFR2_EL1`.
    ID_AA64MMFR2_EL1 = 0x2203a, "HvArm64RegisterIdAa64Mmfr2El1" ["HV_ARM64_REGISTER_ID_AA64_MMFR2_EL1"];
    /// Architectural register `ID_AA64MMFR3_EL1`.
    ID_AA64MMFR3_EL1 = 0x2203b, "HvArm64RegisterIdAa64Mmfr3El1" ["HV_ARM64_REGISTER_ID_AA64_MMFR3_EL1"];
    /// Architectural register `ID_AA64MMFR4_EL1`.
    ID_AA64MMFR4_EL1 = 0x2203c, "HvArm64RegisterIdAa64Mmfr4El1" ["HV_ARM64_REGISTER_ID_AA64_MMFR4_EL1"];
}

constants! {
    table SYSTEM, kind "register", from "TLFS, HV_REGISTER_NAME, ARM64 Architecture Registers", impl RegisterName;

    /// Architectural register `ACCDATA_EL1`.
    ACCDATA_EL1 = 0x40020, "HvArm64RegisterAccdataEl1" ["HV_ARM64_REGISTER_ACCDATA_EL1"];
    /// Architectural register `ACTLR_EL1`.
    ACTLR_EL1 = 0x40003, "HvArm64RegisterActlrEl1" ["HV_ARM64_REGISTER_ACTLR_EL1"];
    /// Architectural register `AFSR0_EL1`.
    AFSR0_EL1 = 0x40016, "HvArm64RegisterAfsr0El1" ["HV_ARM64_REGISTER_AFSR0_EL1"];
    /// `AFSR0_EL1`, or `AFSR0_EL2` while the VP is at EL2.
    AFSR0_ELX = 0x40073, "HvArm64RegisterAfsr0Elx" ["HV_ARM64_REGISTER_AFSR0_ELX"];
    /// `AFSR1_EL1`, or `AFSR1_EL2` while the VP is at EL2.
    AFSR1_ELX = 0x40074, "HvArm64RegisterAfsr1Elx" ["HV_ARM64_REGISTER_AFSR1_ELX"];
    /// Architectural register `AIDR_EL1`.
    AIDR_EL1 = 0x40024, "HvArm64RegisterAidrEl1" ["HV_ARM64_REGISTER_AIDR_EL1"];
    /// Architectural register `AMAIR_EL1`.
    AMAIR_EL1 = 0x40018, "HvArm64RegisterAmairEl1" ["HV_ARM64_REGISTER_AMAIR_EL1"];
    /// `AMAIR_EL1`, or `AMAIR_EL2` while the VP is at EL2.
    AMAIR_ELX = 0x40075, "HvArm64RegisterAmairElx" ["HV_ARM64_REGISTER_AMAIR_ELX"];
    /// Architectural register `APDAKeyHi_EL1`.
    APDAKEYHI_EL1 = 0x40026, "HvArm64RegisterApdAKeyHiEl1" ["HV_ARM64_REGISTER_APD_A_KEY_HI_EL1"];
    /// Architectural register `APDAKeyLo_EL1`.
    APDAKEYLO_EL1 = 0x40027, "HvArm64RegisterApdAKeyLoEl1" ["HV_ARM64_REGISTER_APD_A_KEY_LO_EL1"];
    /// Architectural register `APDBKeyHi_EL1`.
    APDBKEYHI_EL1 = 0x40028, "HvArm64RegisterApdBKeyHiEl1" ["HV_ARM64_REGISTER_APD_B_KEY_HI_EL1"];
    /// Architectural register `APDBKeyLo_EL1`.
    APDBKEYLO_EL1 = 0x40029, "HvArm64RegisterApdBKeyLoEl1" ["HV_ARM64_REGISTER_APD_B_KEY_LO_EL1"];
    /// Architectural register `APGAKeyHi_EL1`.
    APGAKEYHI_EL1 = 0x4002a, "HvArm64RegisterApgAKeyHiEl1" ["HV_ARM64_REGISTER_APG_A_KEY_HI_EL1"];
    /// Architectural register `APGAKeyLo_EL1`.
    APGAKEYLO_EL1 = 0x4002b, "HvArm64RegisterApgAKeyLoEl1" ["HV_ARM64_REGISTER_APG_A_KEY_LO_EL1"];
    /// Architectural register `APIAKeyHi_EL1`.
    APIAKEYHI_EL1 = 0x4002c, "HvArm64RegisterApiAKeyHiEl1" ["HV_ARM64_REGISTER_API_A_KEY_HI_EL1"];
    /// Architectural register `APIAKeyLo_EL1`.
    APIAKEYLO_EL1 = 0x4002d, "HvArm64RegisterApiAKeyLoEl1" ["HV_ARM64_REGISTER_API_A_KEY_LO_EL1"];
    /// Architectural register `APIBKeyHi_EL1`.
    APIBKEYHI_EL1 = 0x4002e, "HvArm64RegisterApiBKeyHiEl1" ["HV_ARM64_REGISTER_API_B_KEY_HI_EL1"];
    /// Architectural register `APIBKeyLo_EL1`.
    APIBKEYLO_EL1 = 0x4002f, "HvArm64RegisterApiBKeyLoEl1" ["HV_ARM64_REGISTER_API_B_KEY_LO_EL1"];
    /// Architectural register `CCSIDR_EL1`.
    CCSIDR_EL1 = 0x40030, "HvArm64RegisterCcsidrEl1" ["HV_ARM64_REGISTER_CCSIDR_EL1"];
    /// Architectural register `CCSIDR2_EL1`.
    CCSIDR2_EL1 = 0x40031, "HvArm64RegisterCcsidr2El1" ["HV_ARM64_REGISTER_CCSIDR2_EL1"];
    /// Architectural register `CLIDR_EL1`.
    CLIDR_EL1 = 0x40032, "HvArm64RegisterClidrEl1" ["HV_ARM64_REGISTER_CLIDR_EL1"];
    /// Architectural register `CONTEXTIDR_EL1`.
    CONTEXTIDR_EL1 = 0x4000d, "HvArm64RegisterContextidrEl1" ["HV_ARM64_REGISTER_CONTEXTIDR_EL1"];
    /// `CONTEXTIDR_EL1`, or `CONTEXTIDR_EL2` while the VP is at EL2.
    CONTEXTIDR_ELX = 0x40076, "HvArm64RegisterContextidrElx" ["HV_ARM64_REGISTER_CONTEXTIDR_ELX"];
    /// Architectural register `CPACR_EL1`.
    CPACR_EL1 = 0x40004, "HvArm64RegisterCpacrEl1" ["HV_ARM64_REGISTER_CPACR_EL1"];
    /// `CPACR_EL1`, or `CPTR_EL2` while the VP is at EL2.
    CPACR_ELX = 0x40077, "HvArm64RegisterCpacrElx" ["HV_ARM64_REGISTER_CPACR_ELX"];
    /// Architectural register `CSSELR_EL1`.
    CSSELR_EL1 = 0x40035, "HvArm64RegisterCsselrEl1" ["HV_ARM64_REGISTER_CSSELR_EL1"];
    /// Architectural register `CTR_EL0`.
    CTR_EL0 = 0x40036, "HvArm64RegisterCtrEl0" ["HV_ARM64_REGISTER_CTR_EL0"];
    /// Architectural register `DCZID_EL0`.
    DCZID_EL0 = 0x40038, "HvArm64RegisterDczidEl0" ["HV_ARM64_REGISTER_DCZID_EL0"];
    /// Architectural register `ESR_EL1`.
    ESR_EL1 = 0x40008, "HvArm64RegisterEsrEl1" ["HV_ARM64_REGISTER_ESR_EL1"];
    /// `ESR_EL1`, or `ESR_EL2` while the VP is at EL2.
    ESR_ELX = 0x40078, "HvArm64RegisterEsrElx" ["HV_ARM64_REGISTER_ESR_ELX"];
    /// Architectural register `FAR_EL1`.
    FAR_EL1 = 0x40009, "HvArm64RegisterFarEl1" ["HV_ARM64_REGISTER_FAR_EL1"];
    /// `FAR_EL1`, or `FAR_EL2` while the VP is at EL2.
    FAR_ELX = 0x40079, "HvArm64RegisterFarElx" ["HV_ARM64_REGISTER_FAR_ELX"];
    /// Architectural register `GCR_EL1`.
    GCR_EL1 = 0x4003c, "HvArm64RegisterGcrEl1" ["HV_ARM64_REGISTER_GCR_EL1"];
    /// Architectural register `GMID_EL1`.
    GMID_EL1 = 0x4003d, "HvArm64RegisterGmidEl1" ["HV_ARM64_REGISTER_GMID_EL1"];
    /// Architectural register `ISR_EL1`.
    ISR_EL1 = 0x4004a, "HvArm64RegisterIsrEl1" ["HV_ARM64_REGISTER_ISR_EL1"];
    /// Architectural register `LORC_EL1`.
    LORC_EL1 = 0x4004b, "HvArm64RegisterLorcEl1" ["HV_ARM64_REGISTER_LORC_EL1"];
    /// Architectural register `LOREA_EL1`.
    LOREA_EL1 = 0x4004c, "HvArm64RegisterLoreaEl1" ["HV_ARM64_REGISTER_LOREA_EL1"];
    /// Architectural register `LORID_EL1`.
    LORID_EL1 = 0x4004d, "HvArm64RegisterLoridEl1" ["HV_ARM64_REGISTER_LORID_EL1"];
    /// Architectural register `LORN_EL1`.
    LORN_EL1 = 0x4004e, "HvArm64RegisterLornEl1" ["HV_ARM64_REGISTER_LORN_EL1"];
    /// Architectural register `LORSA_EL1`.
    LORSA_EL1 = 0x4004f, "HvArm64RegisterLorsaEl1" ["HV_ARM64_REGISTER_LORSA_EL1"];
    /// Architectural register `MAIR_EL1`.
    MAIR_EL1 = 0x4000b, "HvArm64RegisterMairEl1" ["HV_ARM64_REGISTER_MAIR_EL1"];
    /// `MAIR_EL1`, or `MAIR_EL2` while the VP is at EL2.
    MAIR_ELX = 0x4007a, "HvArm64RegisterMairElx" ["HV_ARM64_REGISTER_MAIR_ELX"];
    /// Architectural register `MIDR_EL1`. Deprecated in the TLFS.
    MIDR_EL1 = 0x40051, "HvArm64RegisterMidrEl1" ["HV_ARM64_REGISTER_MIDR_EL1"];
    /// Architectural register `MPIDR_EL1`. Deprecated in the TLFS.
    MPIDR_EL1 = 0x40001, "HvArm64RegisterMpidrEl1" ["HV_ARM64_REGISTER_MPIDR_EL1"];
    /// Architectural register `MVFR0_EL1`.
    MVFR0_EL1 = 0x40052, "HvArm64RegisterMvfr0El1" ["HV_ARM64_REGISTER_MVFR0_EL1"];
    /// Architectural register `MVFR1_EL1`.
    MVFR1_EL1 = 0x40053, "HvArm64RegisterMvfr1El1" ["HV_ARM64_REGISTER_MVFR1_EL1"];
    /// Architectural register `MVFR2_EL1`.
    MVFR2_EL1 = 0x40054, "HvArm64RegisterMvfr2El1" ["HV_ARM64_REGISTER_MVFR2_EL1"];
    /// Architectural register `PAR_EL1`.
    PAR_EL1 = 0x4000a, "HvArm64RegisterParEl1" ["HV_ARM64_REGISTER_PAR_EL1"];
    /// Architectural register `REVIDR_EL1`.
    REVIDR_EL1 = 0x40055, "HvArm64RegisterRevidrEl1" ["HV_ARM64_REGISTER_REVIDR_EL1"];
    /// Architectural register `RGSR_EL1`.
    RGSR_EL1 = 0x40056, "HvArm64RegisterRgsrEl1" ["HV_ARM64_REGISTER_RGSR_EL1"];
    /// Architectural register `RNDR`.
    RNDR = 0x40057, "HvArm64RegisterRndr" ["HV_ARM64_REGISTER_RNDR"];
    /// Architectural register `RNDRRS`.
    RNDRRS = 0x40058, "HvArm64RegisterRndrrs" ["HV_ARM64_REGISTER_RNDRRS"];
    /// Architectural register `SCTLR_EL1`.
    SCTLR_EL1 = 0x40002, "HvArm64RegisterSctlrEl1" ["HV_ARM64_REGISTER_SCTLR_EL1"];
    /// `SCTLR_EL1`, or `SCTLR_EL2` while the VP is at EL2.
    SCTLR_ELX = 0x4007b, "HvArm64RegisterSctlrElx" ["HV_ARM64_REGISTER_SCTLR_ELX"];
    /// Architectural register `SCXTNUM_EL0`.
    SCXTNUM_EL0 = 0x4005a, "HvArm64RegisterScxtnumEl0" ["HV_ARM64_REGISTER_SCXTNUM_EL0"];
    /// Architectural register `SCXTNUM_EL1`.
    SCXTNUM_EL1 = 0x4005b, "HvArm64RegisterScxtnumEl1" ["HV_ARM64_REGISTER_SCXTNUM_EL1"];
    /// Architectural register `SMCR_EL1`.
    SMCR_EL1 = 0x4005d, "HvArm64RegisterSmcrEl1" ["HV_ARM64_REGISTER_SMCR_EL1"];
    /// Architectural register `SMIDR_EL1`.
    SMIDR_EL1 = 0x4005f, "HvArm64RegisterSmidrEl1" ["HV_ARM64_REGISTER_SMIDR_EL1"];
    /// Architectural register `SMPRI_EL1`.
    SMPRI_EL1 = 0x40060, "HvArm64RegisterSmpriEl1" ["HV_ARM64_REGISTER_SMPRI_EL1"];
    /// Architectural register `TCR_EL1`.
    TCR_EL1 = 0x40007, "HvArm64RegisterTcrEl1" ["HV_ARM64_REGISTER_TCR_EL1"];
    /// `TCR_EL1`, or `TCR_EL2` while the VP is at EL2.
    TCR_ELX = 0x4007c, "HvArm64RegisterTcrElx" ["HV_ARM64_REGISTER_TCR_ELX"];
    /// Architectural register `TFSRE0_EL1`.
    TFSRE0_EL1 = 0x40063, "HvArm64RegisterTfsre0El1" ["HV_ARM64_REGISTER_TFSRE0_EL1"];
    /// Architectural register `TFSR_EL1`.
    TFSR_EL1 = 0x40064, "HvArm64RegisterTfsrEl1" ["HV_ARM64_REGISTER_TFSR_EL1"];
    /// Architectural register `TPIDR2_EL0`.
    TPIDR2_EL0 = 0x40066, "HvArm64RegisterTpidr2El0" ["HV_ARM64_REGISTER_TPIDR2_EL0"];
    /// Architectural register `TPIDR_EL0`.
    TPIDR_EL0 = 0x40011, "HvArm64RegisterTpidrEl0" ["HV_ARM64_REGISTER_TPIDR_EL0"];
    /// Architectural register `TPIDR_EL1`.
    TPIDR_EL1 = 0x4000e, "HvArm64RegisterTpidrEl1" ["HV_ARM64_REGISTER_TPIDR_EL1"];
    /// Architectural register `TPIDRRO_EL0`.
    TPIDRRO_EL0 = 0x40010, "HvArm64RegisterTpidrroEl0" ["HV_ARM64_REGISTER_TPIDRRO_EL0"];
    /// Architectural register `TTBR0_EL1`.
    TTBR0_EL1 = 0x40005, "HvArm64RegisterTtbr0El1" ["HV_ARM64_REGISTER_TTBR0_EL1"];
    /// `TTBR0_EL1`, or `TTBR0_EL2` while the VP is at EL2.
    TTBR0_ELX = 0x4007d, "HvArm64RegisterTtbr0Elx" ["HV_ARM64_REGISTER_TTBR0_ELX"];
    /// Architectural register `TTBR1_EL1`.
    TTBR1_EL1 = 0x40006, "HvArm64RegisterTtbr1El1" ["HV_ARM64_REGISTER_TTBR1_EL1"];
    /// `TTBR1_EL1`, or `TTBR1_EL2` while the VP is at EL2.
    TTBR1_ELX = 0x4007f, "HvArm64RegisterTtbr1Elx" ["HV_ARM64_REGISTER_TTBR1_ELX"];
    /// Architectural register `VBAR_EL1`.
    VBAR_EL1 = 0x4000c, "HvArm64RegisterVbarEl1" ["HV_ARM64_REGISTER_VBAR_EL1"];
    /// `VBAR_EL1`, or `VBAR_EL2` while the VP is at EL2.
    VBAR_ELX = 0x40080, "HvArm64RegisterVbarElx" ["HV_ARM64_REGISTER_VBAR_ELX"];
    /// Architectural register `ZCR_EL1`.
    ZCR_EL1 = 0x40071, "HvArm64RegisterZcrEl1" ["HV_ARM64_REGISTER_ZCR_EL1"];
    /// `ZCR_EL1`, or `ZCR_EL2` while the VP is at EL2.
    ZCR_ELX = 0x40081, "HvArm64RegisterZcrElx" ["HV_ARM64_REGISTER_ZCR_ELX"];
}

constants! {
    table GENERIC_TIMER, kind "register", from "TLFS, HV_REGISTER_NAME, ARM64 Architecture Registers", impl RegisterName;

    /// Architectural register `CNTFRQ_EL0`.
    CNTFRQ_EL0 = 0x58000, "HvArm64RegisterCntfrqEl0" ["HV_ARM64_REGISTER_CNTFRQ_EL0"];
    /// Architectural register `CNTKCTL_EL1`.
    CNTKCTL_EL1 = 0x58008, "HvArm64RegisterCntkctlEl1" ["HV_ARM64_REGISTER_CNTKCTL_EL1"];
    /// `CNTKCTL_EL1`, or `CNTHCTL_EL2` while the VP is at EL2.
    CNTKCTL_ELX = 0x58013, "HvArm64RegisterCntkctlElx" ["HV_ARM64_REGISTER_CNTKCTL_ELX"];
    /// Architectural register `CNTP_CTL_EL0`.
    CNTP_CTL_EL0 = 0x58009, "HvArm64RegisterCntpCtlEl0" ["HV_ARM64_REGISTER_CNTP_CTL_EL0"];
    /// `CNTP_CTL_EL0`, or `CNTHP_CTL_EL2` while the VP is at EL2.
    CNTP_CTL_ELX = 0x58014, "HvArm64RegisterCntpCtlElx" ["HV_ARM64_REGISTER_CNTP_CTL_ELX"];
    /// Architectural register `CNTP_CVAL_EL0`.
    CNTP_CVAL_EL0 = 0x5800a, "HvArm64RegisterCntpCvalEl0" ["HV_ARM64_REGISTER_CNTP_CVAL_EL0"];
    /// `CNTP_CVAL_EL0`, or `CNTHP_CVAL_EL2` while the VP is at EL2.
    CNTP_CVAL_ELX = 0x58015, "HvArm64RegisterCntpCvalElx" ["HV_ARM64_REGISTER_CNTP_CVAL_ELX"];
    /// Architectural register `CNTP_TVAL_EL0`.
    CNTP_TVAL_EL0 = 0x5800b, "HvArm64RegisterCntpTvalEl0" ["HV_ARM64_REGISTER_CNTP_TVAL_EL0"];
    /// `CNTP_TVAL_EL0`, or `CNTHP_TVAL_EL2` while the VP is at EL2.
    CNTP_TVAL_ELX = 0x58016, "HvArm64RegisterCntpTvalElx" ["HV_ARM64_REGISTER_CNTP_TVAL_ELX"];
    /// Architectural register `CNTPCT_EL0`.
    CNTPCT_EL0 = 0x5800c, "HvArm64RegisterCntpctEl0" ["HV_ARM64_REGISTER_CNTPCT_EL0"];
    /// Architectural register `CNTV_CTL_EL0`.
    CNTV_CTL_EL0 = 0x5800e, "HvArm64RegisterCntvCtlEl0" ["HV_ARM64_REGISTER_CNTV_CTL_EL0"];
    /// `CNTV_CTL_EL0`, or `CNTHV_CTL_EL2` while the VP is at EL2.
    CNTV_CTL_ELX = 0x58017, "HvArm64RegisterCntvCtlElx" ["HV_ARM64_REGISTER_CNTV_CTL_ELX"];
    /// Architectural register `CNTV_CVAL_EL0`.
    CNTV_CVAL_EL0 = 0x5800f, "HvArm64RegisterCntvCvalEl0" ["HV_ARM64_REGISTER_CNTV_CVAL_EL0"];
    /// `CNTV_CVAL_EL0`, or `CNTHV_CVAL_EL2` while the VP is at EL2.
    CNTV_CVAL_ELX = 0x58018, "HvArm64RegisterCntvCvalElx" ["HV_ARM64_REGISTER_CNTV_CVAL_ELX"];
    /// Architectural register `CNTV_TVAL_EL0`.
    CNTV_TVAL_EL0 = 0x58010, "HvArm64RegisterCntvTvalEl0" ["HV_ARM64_REGISTER_CNTV_TVAL_EL0"];
    /// `CNTV_TVAL_EL0`, or `CNTHV_TVAL_EL2` while the VP is at EL2.
    CNTV_TVAL_ELX = 0x58019, "HvArm64RegisterCntvTvalElx" ["HV_ARM64_REGISTER_CNTV_TVAL_ELX"];
    /// Architectural register `CNTVCT_EL0`.
    CNTVCT_EL0 = 0x58011, "HvArm64RegisterCntvctEl0" ["HV_ARM64_REGISTER_CNTVCT_EL0"];
}

constants! {
    table GIC, kind "register", from "TLFS, HV_REGISTER_NAME, ARM64 Architecture Registers", impl RegisterName;

    /// Guest physical address of this VP's GIC redistributor. A hypervisor register, not an architectural one.
    GICR_BASE_GPA = 0x63000, "HvArm64RegisterGicrBaseGpa" ["HV_ARM64_REGISTER_GICR_BASE_GPA"];
}

constants! {
    table HYPERVISOR, kind "register", from "TLFS, HV_REGISTER_NAME, ARM64 Architecture Registers", impl RegisterName;

    /// Location of the partition information page. A hypervisor register, not an architectural one.
    PARTITION_INFO_PAGE = 0x90015, "HvArm64RegisterPartitionInfoPage"
        ["HV_ARM64_REGISTER_PARTITION_INFO_PAGE"];
}
