//! The ARM64 registers of debugging, statistical profiling and error records.
//!
//! The numbers are the TLFS's; what each register holds is in the Arm Architecture Reference Manual.

use super::RegisterName;

pub(super) const TABLES: &[&[crate::abi::Constant]] = &[DEBUG, PROFILING, ERRORS];

constants! {
    table DEBUG, kind "register", from "TLFS, HV_REGISTER_NAME, ARM64 Architecture Registers", impl RegisterName;

    /// Architectural register `DBGAUTHSTATUS_EL1`.
    DBGAUTHSTATUS_EL1 = 0x50040, "HvArm64RegisterDbgauthstatusEl1" ["HV_ARM64_REGISTER_DBGAUTHSTATUS_EL1"];
    /// Architectural register `DBGBCR0_EL1`.
    DBGBCR0_EL1 = 0x50000, "HvArm64RegisterDbgbcr0El1" ["HV_ARM64_REGISTER_DBGBCR0_EL1"];
    /// Architectural register `DBGBCR1_EL1`.
    DBGBCR1_EL1 = 0x50001, "HvArm64RegisterDbgbcr1El1" ["HV_ARM64_REGISTER_DBGBCR1_EL1"];
    /// Architectural register `DBGBCR2_EL1`.
    DBGBCR2_EL1 = 0x50002, "HvArm64RegisterDbgbcr2El1" ["HV_ARM64_REGISTER_DBGBCR2_EL1"];
    /// Architectural register `DBGBCR3_EL1`.
    DBGBCR3_EL1 = 0x50003, "HvArm64RegisterDbgbcr3El1" ["HV_ARM64_REGISTER_DBGBCR3_EL1"];
    /// Architectural register `DBGBCR4_EL1`.
    DBGBCR4_EL1 = 0x50004, "HvArm64RegisterDbgbcr4El1" ["HV_ARM64_REGISTER_DBGBCR4_EL1"];
    /// Architectural register `DBGBCR5_EL1`.
    DBGBCR5_EL1 = 0x50005, "HvArm64RegisterDbgbcr5El1" ["HV_ARM64_REGISTER_DBGBCR5_EL1"];
    /// Architectural register `DBGBCR6_EL1`.
    DBGBCR6_EL1 = 0x50006, "HvArm64RegisterDbgbcr6El1" ["HV_ARM64_REGISTER_DBGBCR6_EL1"];
    /// Architectural register `DBGBCR7_EL1`.
    DBGBCR7_EL1 = 0x50007, "HvArm64RegisterDbgbcr7El1" ["HV_ARM64_REGISTER_DBGBCR7_EL1"];
    /// Architectural register `DBGBCR8_EL1`.
    DBGBCR8_EL1 = 0x50008, "HvArm64RegisterDbgbcr8El1" ["HV_ARM64_REGISTER_DBGBCR8_EL1"];
    /// Architectural register `DBGBCR9_EL1`.
    DBGBCR9_EL1 = 0x50009, "HvArm64RegisterDbgbcr9El1" ["HV_ARM64_REGISTER_DBGBCR9_EL1"];
    /// Architectural register `DBGBCR10_EL1`.
    DBGBCR10_EL1 = 0x5000a, "HvArm64RegisterDbgbcr10El1" ["HV_ARM64_REGISTER_DBGBCR10_EL1"];
    /// Architectural register `DBGBCR11_EL1`.
    DBGBCR11_EL1 = 0x5000b, "HvArm64RegisterDbgbcr11El1" ["HV_ARM64_REGISTER_DBGBCR11_EL1"];
    /// Architectural register `DBGBCR12_EL1`.
    DBGBCR12_EL1 = 0x5000c, "HvArm64RegisterDbgbcr12El1" ["HV_ARM64_REGISTER_DBGBCR12_EL1"];
    /// Architectural register `DBGBCR13_EL1`.
    DBGBCR13_EL1 = 0x5000d, "HvArm64RegisterDbgbcr13El1" ["HV_ARM64_REGISTER_DBGBCR13_EL1"];
    /// Architectural register `DBGBCR14_EL1`.
    DBGBCR14_EL1 = 0x5000e, "HvArm64RegisterDbgbcr14El1" ["HV_ARM64_REGISTER_DBGBCR14_EL1"];
    /// Architectural register `DBGBCR15_EL1`.
    DBGBCR15_EL1 = 0x5000f, "HvArm64RegisterDbgbcr15El1" ["HV_ARM64_REGISTER_DBGBCR15_EL1"];
    /// Architectural register `DBGBVR0_EL1`.
    DBGBVR0_EL1 = 0x50020, "HvArm64RegisterDbgbvr0El1" ["HV_ARM64_REGISTER_DBGBVR0_EL1"];
    /// Architectural register `DBGBVR1_EL1`.
    DBGBVR1_EL1 = 0x50021, "HvArm64RegisterDbgbvr1El1" ["HV_ARM64_REGISTER_DBGBVR1_EL1"];
    /// Architectural register `DBGBVR2_EL1`.
    DBGBVR2_EL1 = 0x50022, "HvArm64RegisterDbgbvr2El1" ["HV_ARM64_REGISTER_DBGBVR2_EL1"];
    /// Architectural register `DBGBVR3_EL1`.
    DBGBVR3_EL1 = 0x50023, "HvArm64RegisterDbgbvr3El1" ["HV_ARM64_REGISTER_DBGBVR3_EL1"];
    /// Architectural register `DBGBVR4_EL1`.
    DBGBVR4_EL1 = 0x50024, "HvArm64RegisterDbgbvr4El1" ["HV_ARM64_REGISTER_DBGBVR4_EL1"];
    /// Architectural register `DBGBVR5_EL1`.
    DBGBVR5_EL1 = 0x50025, "HvArm64RegisterDbgbvr5El1" ["HV_ARM64_REGISTER_DBGBVR5_EL1"];
    /// Architectural register `DBGBVR6_EL1`.
    DBGBVR6_EL1 = 0x50026, "HvArm64RegisterDbgbvr6El1" ["HV_ARM64_REGISTER_DBGBVR6_EL1"];
    /// Architectural register `DBGBVR7_EL1`.
    DBGBVR7_EL1 = 0x50027, "HvArm64RegisterDbgbvr7El1" ["HV_ARM64_REGISTER_DBGBVR7_EL1"];
    /// Architectural register `DBGBVR8_EL1`.
    DBGBVR8_EL1 = 0x50028, "HvArm64RegisterDbgbvr8El1" ["HV_ARM64_REGISTER_DBGBVR8_EL1"];
    /// Architectural register `DBGBVR9_EL1`.
    DBGBVR9_EL1 = 0x50029, "HvArm64RegisterDbgbvr9El1" ["HV_ARM64_REGISTER_DBGBVR9_EL1"];
    /// Architectural register `DBGBVR10_EL1`.
    DBGBVR10_EL1 = 0x5002a, "HvArm64RegisterDbgbvr10El1" ["HV_ARM64_REGISTER_DBGBVR10_EL1"];
    /// Architectural register `DBGBVR11_EL1`.
    DBGBVR11_EL1 = 0x5002b, "HvArm64RegisterDbgbvr11El1" ["HV_ARM64_REGISTER_DBGBVR11_EL1"];
    /// Architectural register `DBGBVR12_EL1`.
    DBGBVR12_EL1 = 0x5002c, "HvArm64RegisterDbgbvr12El1" ["HV_ARM64_REGISTER_DBGBVR12_EL1"];
    /// Architectural register `DBGBVR13_EL1`.
    DBGBVR13_EL1 = 0x5002d, "HvArm64RegisterDbgbvr13El1" ["HV_ARM64_REGISTER_DBGBVR13_EL1"];
    /// Architectural register `DBGBVR14_EL1`.
    DBGBVR14_EL1 = 0x5002e, "HvArm64RegisterDbgbvr14El1" ["HV_ARM64_REGISTER_DBGBVR14_EL1"];
    /// Architectural register `DBGBVR15_EL1`.
    DBGBVR15_EL1 = 0x5002f, "HvArm64RegisterDbgbvr15El1" ["HV_ARM64_REGISTER_DBGBVR15_EL1"];
    /// Architectural register `DBGCLAIMCLR_EL1`.
    DBGCLAIMCLR_EL1 = 0x50041, "HvArm64RegisterDbgclaimclrEl1" ["HV_ARM64_REGISTER_DBGCLAIMCLR_EL1"];
    /// Architectural register `DBGCLAIMSET_EL1`.
    DBGCLAIMSET_EL1 = 0x50042, "HvArm64RegisterDbgclaimsetEl1" ["HV_ARM64_REGISTER_DBGCLAIMSET_EL1"];
    /// Architectural register `DBGDTRRX_EL0`.
    DBGDTRRX_EL0 = 0x50043, "HvArm64RegisterDbgdtrrxEl0" ["HV_ARM64_REGISTER_DBGDTRRX_EL0"];
    /// Architectural register `DBGDTRTX_EL0`.
    DBGDTRTX_EL0 = 0x50044, "HvArm64RegisterDbgdtrtxEl0" ["HV_ARM64_REGISTER_DBGDTRTX_EL0"];
    /// Architectural register `DBGPRCR_EL1`.
    DBGPRCR_EL1 = 0x50045, "HvArm64RegisterDbgprcrEl1" ["HV_ARM64_REGISTER_DBGPRCR_EL1"];
    /// Architectural register `DBGWCR0_EL1`.
    DBGWCR0_EL1 = 0x50010, "HvArm64RegisterDbgwcr0El1" ["HV_ARM64_REGISTER_DBGWCR0_EL1"];
    /// Architectural register `DBGWCR1_EL1`.
    DBGWCR1_EL1 = 0x50011, "HvArm64RegisterDbgwcr1El1" ["HV_ARM64_REGISTER_DBGWCR1_EL1"];
    /// Architectural register `DBGWCR2_EL1`.
    DBGWCR2_EL1 = 0x50012, "HvArm64RegisterDbgwcr2El1" ["HV_ARM64_REGISTER_DBGWCR2_EL1"];
    /// Architectural register `DBGWCR3_EL1`.
    DBGWCR3_EL1 = 0x50013, "HvArm64RegisterDbgwcr3El1" ["HV_ARM64_REGISTER_DBGWCR3_EL1"];
    /// Architectural register `DBGWCR4_EL1`.
    DBGWCR4_EL1 = 0x50014, "HvArm64RegisterDbgwcr4El1" ["HV_ARM64_REGISTER_DBGWCR4_EL1"];
    /// Architectural register `DBGWCR5_EL1`.
    DBGWCR5_EL1 = 0x50015, "HvArm64RegisterDbgwcr5El1" ["HV_ARM64_REGISTER_DBGWCR5_EL1"];
    /// Architectural register `DBGWCR6_EL1`.
    DBGWCR6_EL1 = 0x50016, "HvArm64RegisterDbgwcr6El1" ["HV_ARM64_REGISTER_DBGWCR6_EL1"];
    /// Architectural register `DBGWCR7_EL1`.
    DBGWCR7_EL1 = 0x50017, "HvArm64RegisterDbgwcr7El1" ["HV_ARM64_REGISTER_DBGWCR7_EL1"];
    /// Architectural register `DBGWCR8_EL1`.
    DBGWCR8_EL1 = 0x50018, "HvArm64RegisterDbgwcr8El1" ["HV_ARM64_REGISTER_DBGWCR8_EL1"];
    /// Architectural register `DBGWCR9_EL1`.
    DBGWCR9_EL1 = 0x50019, "HvArm64RegisterDbgwcr9El1" ["HV_ARM64_REGISTER_DBGWCR9_EL1"];
    /// Architectural register `DBGWCR10_EL1`.
    DBGWCR10_EL1 = 0x5001a, "HvArm64RegisterDbgwcr10El1" ["HV_ARM64_REGISTER_DBGWCR10_EL1"];
    /// Architectural register `DBGWCR11_EL1`.
    DBGWCR11_EL1 = 0x5001b, "HvArm64RegisterDbgwcr11El1" ["HV_ARM64_REGISTER_DBGWCR11_EL1"];
    /// Architectural register `DBGWCR12_EL1`.
    DBGWCR12_EL1 = 0x5001c, "HvArm64RegisterDbgwcr12El1" ["HV_ARM64_REGISTER_DBGWCR12_EL1"];
    /// Architectural register `DBGWCR13_EL1`.
    DBGWCR13_EL1 = 0x5001d, "HvArm64RegisterDbgwcr13El1" ["HV_ARM64_REGISTER_DBGWCR13_EL1"];
    /// Architectural register `DBGWCR14_EL1`.
    DBGWCR14_EL1 = 0x5001e, "HvArm64RegisterDbgwcr14El1" ["HV_ARM64_REGISTER_DBGWCR14_EL1"];
    /// Architectural register `DBGWCR15_EL1`.
    DBGWCR15_EL1 = 0x5001f, "HvArm64RegisterDbgwcr15El1" ["HV_ARM64_REGISTER_DBGWCR15_EL1"];
    /// Architectural register `DBGWVR0_EL1`.
    DBGWVR0_EL1 = 0x50030, "HvArm64RegisterDbgwvr0El1" ["HV_ARM64_REGISTER_DBGWVR0_EL1"];
    /// Architectural register `DBGWVR1_EL1`.
    DBGWVR1_EL1 = 0x50031, "HvArm64RegisterDbgwvr1El1" ["HV_ARM64_REGISTER_DBGWVR1_EL1"];
    /// Architectural register `DBGWVR2_EL1`.
    DBGWVR2_EL1 = 0x50032, "HvArm64RegisterDbgwvr2El1" ["HV_ARM64_REGISTER_DBGWVR2_EL1"];
    /// Architectural register `DBGWVR3_EL1`.
    DBGWVR3_EL1 = 0x50033, "HvArm64RegisterDbgwvr3El1" ["HV_ARM64_REGISTER_DBGWVR3_EL1"];
    /// Architectural register `DBGWVR4_EL1`.
    DBGWVR4_EL1 = 0x50034, "HvArm64RegisterDbgwvr4El1" ["HV_ARM64_REGISTER_DBGWVR4_EL1"];
    /// Architectural register `DBGWVR5_EL1`.
    DBGWVR5_EL1 = 0x50035, "HvArm64RegisterDbgwvr5El1" ["HV_ARM64_REGISTER_DBGWVR5_EL1"];
    /// Architectural register `DBGWVR6_EL1`.
    DBGWVR6_EL1 = 0x50036, "HvArm64RegisterDbgwvr6El1" ["HV_ARM64_REGISTER_DBGWVR6_EL1"];
    /// Architectural register `DBGWVR7_EL1`.
    DBGWVR7_EL1 = 0x50037, "HvArm64RegisterDbgwvr7El1" ["HV_ARM64_REGISTER_DBGWVR7_EL1"];
    /// Architectural register `DBGWVR8_EL1`.
    DBGWVR8_EL1 = 0x50038, "HvArm64RegisterDbgwvr8El1" ["HV_ARM64_REGISTER_DBGWVR8_EL1"];
    /// Architectural register `DBGWVR9_EL1`.
    DBGWVR9_EL1 = 0x50039, "HvArm64RegisterDbgwvr9El1" ["HV_ARM64_REGISTER_DBGWVR9_EL1"];
    /// Architectural register `DBGWVR10_EL1`.
    DBGWVR10_EL1 = 0x5003a, "HvArm64RegisterDbgwvr10El1" ["HV_ARM64_REGISTER_DBGWVR10_EL1"];
    /// Architectural register `DBGWVR11_EL1`.
    DBGWVR11_EL1 = 0x5003b, "HvArm64RegisterDbgwvr11El1" ["HV_ARM64_REGISTER_DBGWVR11_EL1"];
    /// Architectural register `DBGWVR12_EL1`.
    DBGWVR12_EL1 = 0x5003c, "HvArm64RegisterDbgwvr12El1" ["HV_ARM64_REGISTER_DBGWVR12_EL1"];
    /// Architectural register `DBGWVR13_EL1`.
    DBGWVR13_EL1 = 0x5003d, "HvArm64RegisterDbgwvr13El1" ["HV_ARM64_REGISTER_DBGWVR13_EL1"];
    /// Architectural register `DBGWVR14_EL1`.
    DBGWVR14_EL1 = 0x5003e, "HvArm64RegisterDbgwvr14El1" ["HV_ARM64_REGISTER_DBGWVR14_EL1"];
    /// Architectural register `DBGWVR15_EL1`.
    DBGWVR15_EL1 = 0x5003f, "HvArm64RegisterDbgwvr15El1" ["HV_ARM64_REGISTER_DBGWVR15_EL1"];
    /// Architectural register `DLR_EL0`.
    DLR_EL0 = 0x50047, "HvArm64RegisterDlrEl0" ["HV_ARM64_REGISTER_DLR_EL0"];
    /// Architectural register `DSPSR_EL0`.
    DSPSR_EL0 = 0x50048, "HvArm64RegisterDspsrEl0" ["HV_ARM64_REGISTER_DSPSR_EL0"];
    /// Architectural register `MDCCINT_EL1`.
    MDCCINT_EL1 = 0x50049, "HvArm64RegisterMdccintEl1" ["HV_ARM64_REGISTER_MDCCINT_EL1"];
    /// Architectural register `MDCCSR_EL0`.
    MDCCSR_EL0 = 0x5004a, "HvArm64RegisterMdccsrEl0" ["HV_ARM64_REGISTER_MDCCSR_EL0"];
    /// Architectural register `MDRAR_EL1`.
    MDRAR_EL1 = 0x5004c, "HvArm64RegisterMdrarEl1" ["HV_ARM64_REGISTER_MDRAR_EL1"];
    /// Architectural register `MDSCR_EL1`.
    MDSCR_EL1 = 0x5004d, "HvArm64RegisterMdscrEl1" ["HV_ARM64_REGISTER_MDSCR_EL1"];
    /// Architectural register `OSDLR_EL1`.
    OSDLR_EL1 = 0x5004e, "HvArm64RegisterOsdlrEl1" ["HV_ARM64_REGISTER_OSDLR_EL1"];
    /// Architectural register `OSDTRRX_EL1`.
    OSDTRRX_EL1 = 0x5004f, "HvArm64RegisterOsdtrrxEl1" ["HV_ARM64_REGISTER_OSDTRRX_EL1"];
    /// Architectural register `OSDTRTX_EL1`.
    OSDTRTX_EL1 = 0x50050, "HvArm64RegisterOsdtrtxEl1" ["HV_ARM64_REGISTER_OSDTRTX_EL1"];
    /// Architectural register `OSECCR_EL1`.
    OSECCR_EL1 = 0x50051, "HvArm64RegisterOseccrEl1" ["HV_ARM64_REGISTER_OSECCR_EL1"];
    /// Architectural register `OSLAR_EL1`.
    OSLAR_EL1 = 0x50052, "HvArm64RegisterOslarEl1" ["HV_ARM64_REGISTER_OSLAR_EL1"];
    /// Architectural register `OSLSR_EL1`.
    OSLSR_EL1 = 0x50053, "HvArm64RegisterOslsrEl1" ["HV_ARM64_REGISTER_OSLSR_EL1"];
    /// Architectural register `TRFCR_EL1`.
    TRFCR_EL1 = 0x50055, "HvArm64RegisterTrfcrEl1" ["HV_ARM64_REGISTER_TRFCR_EL1"];
    /// `TRFCR_EL1`, or `TRFCR_EL2` while the VP is at EL2.
    TRFCR_ELX = 0x50057, "HvArm64RegisterTrfcrElx" ["HV_ARM64_REGISTER_TRFCR_ELX"];
}

constants! {
    table PROFILING, kind "register", from "TLFS, HV_REGISTER_NAME, ARM64 Architecture Registers", impl RegisterName;

    /// Architectural register `PMBIDR_EL1`.
    PMBIDR_EL1 = 0x54000, "HvArm64RegisterPmbidrEl1" ["HV_ARM64_REGISTER_PMBIDR_EL1"];
    /// Architectural register `PMBLIMITR_EL1`.
    PMBLIMITR_EL1 = 0x54001, "HvArm64RegisterPmblimitrEl1" ["HV_ARM64_REGISTER_PMBLIMITR_EL1"];
    /// Architectural register `PMBPTR_EL1`.
    PMBPTR_EL1 = 0x54002, "HvArm64RegisterPmbptrEl1" ["HV_ARM64_REGISTER_PMBPTR_EL1"];
    /// Architectural register `PMBSR_EL1`.
    PMBSR_EL1 = 0x54003, "HvArm64RegisterPmbsrEl1" ["HV_ARM64_REGISTER_PMBSR_EL1"];
    /// Architectural register `PMSCR_EL1`.
    PMSCR_EL1 = 0x54004, "HvArm64RegisterPmscrEl1" ["HV_ARM64_REGISTER_PMSCR_EL1"];
    /// Architectural register `PMSEVFR_EL1`.
    PMSEVFR_EL1 = 0x54006, "HvArm64RegisterPmsevfrEl1" ["HV_ARM64_REGISTER_PMSEVFR_EL1"];
    /// Architectural register `PMSFCR_EL1`.
    PMSFCR_EL1 = 0x54007, "HvArm64RegisterPmsfcrEl1" ["HV_ARM64_REGISTER_PMSFCR_EL1"];
    /// Architectural register `PMSICR_EL1`.
    PMSICR_EL1 = 0x54008, "HvArm64RegisterPmsicrEl1" ["HV_ARM64_REGISTER_PMSICR_EL1"];
    /// Architectural register `PMSIDR_EL1`.
    PMSIDR_EL1 = 0x54009, "HvArm64RegisterPmsidrEl1" ["HV_ARM64_REGISTER_PMSIDR_EL1"];
    /// Architectural register `PMSIRR_EL1`.
    PMSIRR_EL1 = 0x5400a, "HvArm64RegisterPmsirrEl1" ["HV_ARM64_REGISTER_PMSIRR_EL1"];
    /// Architectural register `PMSLATFR_EL1`.
    PMSLATFR_EL1 = 0x5400b, "HvArm64RegisterPmslatfrEl1" ["HV_ARM64_REGISTER_PMSLATFR_EL1"];
    /// Architectural register `PMSNEVFR_EL1`.
    PMSNEVFR_EL1 = 0x5400c, "HvArm64RegisterPmsnevfrEl1" ["HV_ARM64_REGISTER_PMSNEVFR_EL1"];
}

constants! {
    table ERRORS, kind "register", from "TLFS, HV_REGISTER_NAME, ARM64 Architecture Registers", impl RegisterName;

    /// Architectural register `DISR_EL1`.
    DISR_EL1 = 0x56000, "HvArm64RegisterDisrEl1" ["HV_ARM64_REGISTER_DISR_EL1"];
    /// Architectural register `ERRSELR_EL1`.
    ERRSELR_EL1 = 0x56002, "HvArm64RegisterErrselrEl1" ["HV_ARM64_REGISTER_ERRSELR_EL1"];
    /// Architectural register `ERXADDR_EL1`.
    ERXADDR_EL1 = 0x56003, "HvArm64RegisterErxaddrEl1" ["HV_ARM64_REGISTER_ERXADDR_EL1"];
    /// Architectural register `ERXCTLR_EL1`.
    ERXCTLR_EL1 = 0x56004, "HvArm64RegisterErxctlrEl1" ["HV_ARM64_REGISTER_ERXCTLR_EL1"];
    /// Architectural register `ERRXFR_EL1`.
    ERRXFR_EL1 = 0x56005, "HvArm64RegisterErrxfrEl1" ["HV_ARM64_REGISTER_ERRXFR_EL1"];
    /// Architectural register `ERXMISC0_EL1`.
    ERXMISC0_EL1 = 0x56006, "HvArm64RegisterErxmisc0El1" ["HV_ARM64_REGISTER_ERXMISC0_EL1"];
    /// Architectural register `ERXMISC1_EL1`.
    ERXMISC1_EL1 = 0x56007, "HvArm64RegisterErxmisc1El1" ["HV_ARM64_REGISTER_ERXMISC1_EL1"];
    /// Architectural register `ERXMISC2_EL1`.
    ERXMISC2_EL1 = 0x56008, "HvArm64RegisterErxmisc2El1" ["HV_ARM64_REGISTER_ERXMISC2_EL1"];
    /// Architectural register `ERXMISC3_EL1`.
    ERXMISC3_EL1 = 0x56009, "HvArm64RegisterErxmisc3El1" ["HV_ARM64_REGISTER_ERXMISC3_EL1"];
    /// Architectural register `ERXPFGCDN_EL1`.
    ERXPFGCDN_EL1 = 0x5600a, "HvArm64RegisterErxpfgcdnEl1" ["HV_ARM64_REGISTER_ERXPFGCDN_EL1"];
    /// Architectural register `ERXPFGCTL_EL1`.
    ERXPFGCTL_EL1 = 0x5600b, "HvArm64RegisterErxpfgctlEl1" ["HV_ARM64_REGISTER_ERXPFGCTL_EL1"];
    /// Architectural register `ERXPFGF_EL1`.
    ERXPFGF_EL1 = 0x5600c, "HvArm64RegisterErxpfgfEl1" ["HV_ARM64_REGISTER_ERXPFGF_EL1"];
    /// Architectural register `ERXSTATUS_EL1`.
    ERXSTATUS_EL1 = 0x5600d, "HvArm64RegisterErxstatusEl1" ["HV_ARM64_REGISTER_ERXSTATUS_EL1"];
}
