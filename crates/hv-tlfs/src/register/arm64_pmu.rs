//! The ARM64 registers of the performance and activity monitors.
//!
//! The numbers are the TLFS's; what each register holds is in the Arm Architecture Reference Manual.

use super::RegisterName;

pub(super) const TABLES: &[&[crate::abi::Constant]] = &[MONITORS];

constants! {
    table MONITORS, kind "register", from "TLFS, HV_REGISTER_NAME, ARM64 Architecture Registers", impl RegisterName;

    /// Architectural register `PMCCFILTR_EL0`.
    PMCCFILTR_EL0 = 0x52000, "HvArm64RegisterPmccfiltrEl0" ["HV_ARM64_REGISTER_PMCCFILTR_EL0"];
    /// Architectural register `PMCCNTR_EL0`.
    PMCCNTR_EL0 = 0x52001, "HvArm64RegisterPmccntrEl0" ["HV_ARM64_REGISTER_PMCCNTR_EL0"];
    /// Architectural register `PMCEID0_EL0`.
    PMCEID0_EL0 = 0x52002, "HvArm64RegisterPmceid0El0" ["HV_ARM64_REGISTER_PMCEID0_EL0"];
    /// Architectural register `PMCEID1_EL0`.
    PMCEID1_EL0 = 0x52003, "HvArm64RegisterPmceid1El0" ["HV_ARM64_REGISTER_PMCEID1_EL0"];
    /// Architectural register `PMCNTENCLR_EL0`.
    PMCNTENCLR_EL0 = 0x52004, "HvArm64RegisterPmcntenclrEl0" ["HV_ARM64_REGISTER_PMCNTENCLR_EL0"];
    /// Architectural register `PMCNTENSET_EL0`.
    PMCNTENSET_EL0 = 0x52005, "HvArm64RegisterPmcntensetEl0" ["HV_ARM64_REGISTER_PMCNTENSET_EL0"];
    /// Architectural register `PMCR_EL0`.
    PMCR_EL0 = 0x52006, "HvArm64RegisterPmcrEl0" ["HV_ARM64_REGISTER_PMCR_EL0"];
    /// Architectural register `PMEVCNTR0_EL0`.
    PMEVCNTR0_EL0 = 0x52007, "HvArm64RegisterPmevcntr0El0" ["HV_ARM64_REGISTER_PMEVCNTR0_EL0"];
    /// Architectural register `PMEVCNTR1_EL0`.
    PMEVCNTR1_EL0 = 0x52008, "HvArm64RegisterPmevcntr1El0" ["HV_ARM64_REGISTER_PMEVCNTR1_EL0"];
    /// Architectural register `PMEVCNTR2_EL0`.
    PMEVCNTR2_EL0 = 0x52009, "HvArm64RegisterPmevcntr2El0" ["HV_ARM64_REGISTER_PMEVCNTR2_EL0"];
    /// Architectural register `PMEVCNTR3_EL0`.
    PMEVCNTR3_EL0 = 0x5200a, "HvArm64RegisterPmevcntr3El0" ["HV_ARM64_REGISTER_PMEVCNTR3_EL0"];
    /// Architectural register `PMEVCNTR4_EL0`.
    PMEVCNTR4_EL0 = 0x5200b, "HvArm64RegisterPmevcntr4El0" ["HV_ARM64_REGISTER_PMEVCNTR4_EL0"];
    /// Architectural register `PMEVCNTR5_EL0`.
    PMEVCNTR5_EL0 = 0x5200c, "HvArm64RegisterPmevcntr5El0" ["HV_ARM64_REGISTER_PMEVCNTR5_EL0"];
    /// Architectural register `PMEVCNTR6_EL0`.
    PMEVCNTR6_EL0 = 0x5200d, "HvArm64RegisterPmevcntr6El0" ["HV_ARM64_REGISTER_PMEVCNTR6_EL0"];
    /// Architectural register `PMEVCNTR7_EL0`.
    PMEVCNTR7_EL0 = 0x5200e, "HvArm64RegisterPmevcntr7El0" ["HV_ARM64_REGISTER_PMEVCNTR7_EL0"];
    /// Architectural register `PMEVCNTR8_EL0`.
    PMEVCNTR8_EL0 = 0x5200f, "HvArm64RegisterPmevcntr8El0" ["HV_ARM64_REGISTER_PMEVCNTR8_EL0"];
    /// Architectural register `PMEVCNTR9_EL0`.
    PMEVCNTR9_EL0 = 0x52010, "HvArm64RegisterPmevcntr9El0" ["HV_ARM64_REGISTER_PMEVCNTR9_EL0"];
    /// Architectural register `PMEVCNTR10_EL0`.
    PMEVCNTR10_EL0 = 0x52011, "HvArm64RegisterPmevcntr10El0" ["HV_ARM64_REGISTER_PMEVCNTR10_EL0"];
    /// Architectural register `PMEVCNTR11_EL0`.
    PMEVCNTR11_EL0 = 0x52012, "HvArm64RegisterPmevcntr11El0" ["HV_ARM64_REGISTER_PMEVCNTR11_EL0"];
    /// Architectural register `PMEVCNTR12_EL0`.
    PMEVCNTR12_EL0 = 0x52013, "HvArm64RegisterPmevcntr12El0" ["HV_ARM64_REGISTER_PMEVCNTR12_EL0"];
    /// Architectural register `PMEVCNTR13_EL0`.
    PMEVCNTR13_EL0 = 0x52014, "HvArm64RegisterPmevcntr13El0" ["HV_ARM64_REGISTER_PMEVCNTR13_EL0"];
    /// Architectural register `PMEVCNTR14_EL0`.
    PMEVCNTR14_EL0 = 0x52015, "HvArm64RegisterPmevcntr14El0" ["HV_ARM64_REGISTER_PMEVCNTR14_EL0"];
    /// Architectural register `PMEVCNTR15_EL0`.
    PMEVCNTR15_EL0 = 0x52016, "HvArm64RegisterPmevcntr15El0" ["HV_ARM64_REGISTER_PMEVCNTR15_EL0"];
    /// Architectural register `PMEVCNTR16_EL0`.
    PMEVCNTR16_EL0 = 0x52017, "HvArm64RegisterPmevcntr16El0" ["HV_ARM64_REGISTER_PMEVCNTR16_EL0"];
    /// Architectural register `PMEVCNTR17_EL0`.
    PMEVCNTR17_EL0 = 0x52018, "HvArm64RegisterPmevcntr17El0" ["HV_ARM64_REGISTER_PMEVCNTR17_EL0"];
    /// Architectural register `PMEVCNTR18_EL0`.
    PMEVCNTR18_EL0 = 0x52019, "HvArm64RegisterPmevcntr18El0" ["HV_ARM64_REGISTER_PMEVCNTR18_EL0"];
    /// Architectural register `PMEVCNTR19_EL0`.
    PMEVCNTR19_EL0 = 0x5201a, "HvArm64RegisterPmevcntr19El0" ["HV_ARM64_REGISTER_PMEVCNTR19_EL0"];
    /// Architectural register `PMEVCNTR20_EL0`.
    PMEVCNTR20_EL0 = 0x5201b, "HvArm64RegisterPmevcntr20El0" ["HV_ARM64_REGISTER_PMEVCNTR20_EL0"];
    /// Architectural register `PMEVCNTR21_EL0`.
    PMEVCNTR21_EL0 = 0x5201c, "HvArm64RegisterPmevcntr21El0" ["HV_ARM64_REGISTER_PMEVCNTR21_EL0"];
    /// Architectural register `PMEVCNTR22_EL0`.
    PMEVCNTR22_EL0 = 0x5201d, "HvArm64RegisterPmevcntr22El0" ["HV_ARM64_REGISTER_PMEVCNTR22_EL0"];
    /// Architectural register `PMEVCNTR23_EL0`.
    PMEVCNTR23_EL0 = 0x5201e, "HvArm64RegisterPmevcntr23El0" ["HV_ARM64_REGISTER_PMEVCNTR23_EL0"];
    /// Architectural register `PMEVCNTR24_EL0`.
    PMEVCNTR24_EL0 = 0x5201f, "HvArm64RegisterPmevcntr24El0" ["HV_ARM64_REGISTER_PMEVCNTR24_EL0"];
    /// Architectural register `PMEVCNTR25_EL0`.
    PMEVCNTR25_EL0 = 0x52020, "HvArm64RegisterPmevcntr25El0" ["HV_ARM64_REGISTER_PMEVCNTR25_EL0"];
    /// Architectural register `PMEVCNTR26_EL0`.
    PMEVCNTR26_EL0 = 0x52021, "HvArm64RegisterPmevcntr26El0" ["HV_ARM64_REGISTER_PMEVCNTR26_EL0"];
    /// Architectural register `PMEVCNTR27_EL0`.
    PMEVCNTR27_EL0 = 0x52022, "HvArm64RegisterPmevcntr27El0" ["HV_ARM64_REGISTER_PMEVCNTR27_EL0"];
    /// Architectural register `PMEVCNTR28_EL0`.
    PMEVCNTR28_EL0 = 0x52023, "HvArm64RegisterPmevcntr28El0" ["HV_ARM64_REGISTER_PMEVCNTR28_EL0"];
    /// Architectural register `PMEVCNTR29_EL0`.
    PMEVCNTR29_EL0 = 0x52024, "HvArm64RegisterPmevcntr29El0" ["HV_ARM64_REGISTER_PMEVCNTR29_EL0"];
    /// Architectural register `PMEVCNTR30_EL0`.
    PMEVCNTR30_EL0 = 0x52025, "HvArm64RegisterPmevcntr30El0" ["HV_ARM64_REGISTER_PMEVCNTR30_EL0"];
    /// Architectural register `PMEVTYPER0_EL0`.
    PMEVTYPER0_EL0 = 0x52026, "HvArm64RegisterPmevtyper0El0" ["HV_ARM64_REGISTER_PMEVTYPER0_EL0"];
    /// Architectural register `PMEVTYPER1_EL0`.
    PMEVTYPER1_EL0 = 0x52027, "HvArm64RegisterPmevtyper1El0" ["HV_ARM64_REGISTER_PMEVTYPER1_EL0"];
    /// Architectural register `PMEVTYPER2_EL0`.
    PMEVTYPER2_EL0 = 0x52028, "HvArm64RegisterPmevtyper2El0" ["HV_ARM64_REGISTER_PMEVTYPER2_EL0"];
    /// Architectural register `PMEVTYPER3_EL0`.
    PMEVTYPER3_EL0 = 0x52029, "HvArm64RegisterPmevtyper3El0" ["HV_ARM64_REGISTER_PMEVTYPER3_EL0"];
    /// Architectural register `PMEVTYPER4_EL0`.
    PMEVTYPER4_EL0 = 0x5202a, "HvArm64RegisterPmevtyper4El0" ["HV_ARM64_REGISTER_PMEVTYPER4_EL0"];
    /// Architectural register `PMEVTYPER5_EL0`.
    PMEVTYPER5_EL0 = 0x5202b, "HvArm64RegisterPmevtyper5El0" ["HV_ARM64_REGISTER_PMEVTYPER5_EL0"];
    /// Architectural register `PMEVTYPER6_EL0`.
    PMEVTYPER6_EL0 = 0x5202c, "HvArm64RegisterPmevtyper6El0" ["HV_ARM64_REGISTER_PMEVTYPER6_EL0"];
    /// Architectural register `PMEVTYPER7_EL0`.
    PMEVTYPER7_EL0 = 0x5202d, "HvArm64RegisterPmevtyper7El0" ["HV_ARM64_REGISTER_PMEVTYPER7_EL0"];
    /// Architectural register `PMEVTYPER8_EL0`.
    PMEVTYPER8_EL0 = 0x5202e, "HvArm64RegisterPmevtyper8El0" ["HV_ARM64_REGISTER_PMEVTYPER8_EL0"];
    /// Architectural register `PMEVTYPER9_EL0`.
    PMEVTYPER9_EL0 = 0x5202f, "HvArm64RegisterPmevtyper9El0" ["HV_ARM64_REGISTER_PMEVTYPER9_EL0"];
    /// Architectural register `PMEVTYPER10_EL0`.
    PMEVTYPER10_EL0 = 0x52030, "HvArm64RegisterPmevtyper10El0" ["HV_ARM64_REGISTER_PMEVTYPER10_EL0"];
    /// Architectural register `PMEVTYPER11_EL0`.
    PMEVTYPER11_EL0 = 0x52031, "HvArm64RegisterPmevtyper11El0" ["HV_ARM64_REGISTER_PMEVTYPER11_EL0"];
    /// Architectural register `PMEVTYPER12_EL0`.
    PMEVTYPER12_EL0 = 0x52032, "HvArm64RegisterPmevtyper12El0" ["HV_ARM64_REGISTER_PMEVTYPER12_EL0"];
    /// Architectural register `PMEVTYPER13_EL0`.
    PMEVTYPER13_EL0 = 0x52033, "HvArm64RegisterPmevtyper13El0" ["HV_ARM64_REGISTER_PMEVTYPER13_EL0"];
    /// Architectural register `PMEVTYPER14_EL0`.
    PMEVTYPER14_EL0 = 0x52034, "HvArm64RegisterPmevtyper14El0" ["HV_ARM64_REGISTER_PMEVTYPER14_EL0"];
    /// Architectural register `PMEVTYPER15_EL0`.
    PMEVTYPER15_EL0 = 0x52035, "HvArm64RegisterPmevtyper15El0" ["HV_ARM64_REGISTER_PMEVTYPER15_EL0"];
    /// Architectural register `PMEVTYPER16_EL0`.
    PMEVTYPER16_EL0 = 0x52036, "HvArm64RegisterPmevtyper16El0" ["HV_ARM64_REGISTER_PMEVTYPER16_EL0"];
    /// Architectural register `PMEVTYPER17_EL0`.
    PMEVTYPER17_EL0 = 0x52037, "HvArm64RegisterPmevtyper17El0" ["HV_ARM64_REGISTER_PMEVTYPER17_EL0"];
    /// Architectural register `PMEVTYPER18_EL0`.
    PMEVTYPER18_EL0 = 0x52038, "HvArm64RegisterPmevtyper18El0" ["HV_ARM64_REGISTER_PMEVTYPER18_EL0"];
    /// Architectural register `PMEVTYPER19_EL0`.
    PMEVTYPER19_EL0 = 0x52039, "HvArm64RegisterPmevtyper19El0" ["HV_ARM64_REGISTER_PMEVTYPER19_EL0"];
    /// Architectural register `PMEVTYPER20_EL0`.
    PMEVTYPER20_EL0 = 0x5203a, "HvArm64RegisterPmevtyper20El0" ["HV_ARM64_REGISTER_PMEVTYPER20_EL0"];
    /// Architectural register `PMEVTYPER21_EL0`.
    PMEVTYPER21_EL0 = 0x5203b, "HvArm64RegisterPmevtyper21El0" ["HV_ARM64_REGISTER_PMEVTYPER21_EL0"];
    /// Architectural register `PMEVTYPER22_EL0`.
    PMEVTYPER22_EL0 = 0x5203c, "HvArm64RegisterPmevtyper22El0" ["HV_ARM64_REGISTER_PMEVTYPER22_EL0"];
    /// Architectural register `PMEVTYPER23_EL0`.
    PMEVTYPER23_EL0 = 0x5203d, "HvArm64RegisterPmevtyper23El0" ["HV_ARM64_REGISTER_PMEVTYPER23_EL0"];
    /// Architectural register `PMEVTYPER24_EL0`.
    PMEVTYPER24_EL0 = 0x5203e, "HvArm64RegisterPmevtyper24El0" ["HV_ARM64_REGISTER_PMEVTYPER24_EL0"];
    /// Architectural register `PMEVTYPER25_EL0`.
    PMEVTYPER25_EL0 = 0x5203f, "HvArm64RegisterPmevtyper25El0" ["HV_ARM64_REGISTER_PMEVTYPER25_EL0"];
    /// Architectural register `PMEVTYPER26_EL0`.
    PMEVTYPER26_EL0 = 0x52040, "HvArm64RegisterPmevtyper26El0" ["HV_ARM64_REGISTER_PMEVTYPER26_EL0"];
    /// Architectural register `PMEVTYPER27_EL0`.
    PMEVTYPER27_EL0 = 0x52041, "HvArm64RegisterPmevtyper27El0" ["HV_ARM64_REGISTER_PMEVTYPER27_EL0"];
    /// Architectural register `PMEVTYPER28_EL0`.
    PMEVTYPER28_EL0 = 0x52042, "HvArm64RegisterPmevtyper28El0" ["HV_ARM64_REGISTER_PMEVTYPER28_EL0"];
    /// Architectural register `PMEVTYPER29_EL0`.
    PMEVTYPER29_EL0 = 0x52043, "HvArm64RegisterPmevtyper29El0" ["HV_ARM64_REGISTER_PMEVTYPER29_EL0"];
    /// Architectural register `PMEVTYPER30_EL0`.
    PMEVTYPER30_EL0 = 0x52044, "HvArm64RegisterPmevtyper30El0" ["HV_ARM64_REGISTER_PMEVTYPER30_EL0"];
    /// Architectural register `PMINTENCLR_EL1`.
    PMINTENCLR_EL1 = 0x52045, "HvArm64RegisterPmintenclrEl1" ["HV_ARM64_REGISTER_PMINTENCLR_EL1"];
    /// Architectural register `PMINTENSET_EL1`.
    PMINTENSET_EL1 = 0x52046, "HvArm64RegisterPmintensetEl1" ["HV_ARM64_REGISTER_PMINTENSET_EL1"];
    /// Architectural register `PMOVSCLR_EL0`.
    PMOVSCLR_EL0 = 0x52048, "HvArm64RegisterPmovsclrEl0" ["HV_ARM64_REGISTER_PMOVSCLR_EL0"];
    /// Architectural register `PMOVSSET_EL0`.
    PMOVSSET_EL0 = 0x52049, "HvArm64RegisterPmovssetEl0" ["HV_ARM64_REGISTER_PMOVSSET_EL0"];
    /// Architectural register `PMSELR_EL0`.
    PMSELR_EL0 = 0x5204a, "HvArm64RegisterPmselrEl0" ["HV_ARM64_REGISTER_PMSELR_EL0"];
    /// Architectural register `PMUSERENR_EL0`.
    PMUSERENR_EL0 = 0x5204c, "HvArm64RegisterPmuserenrEl0" ["HV_ARM64_REGISTER_PMUSERENR_EL0"];
    /// Architectural register `PMXEVCNTR_EL0`.
    PMXEVCNTR_EL0 = 0x5204d, "HvArm64RegisterPmxevcntrEl0" ["HV_ARM64_REGISTER_PMXEVCNTR_EL0"];
    /// Architectural register `PMXEVTYPER_EL0`.
    PMXEVTYPER_EL0 = 0x5204e, "HvArm64RegisterPmxevtyperEl0" ["HV_ARM64_REGISTER_PMXEVTYPER_EL0"];
    /// Architectural register `AMEVCNTR00_EL0`.
    AMEVCNTR00_EL0 = 0x53000, "HvArm64RegisterAmevcntr00El0" ["HV_ARM64_REGISTER_AMEVCNTR00_EL0"];
    /// Architectural register `AMEVCNTR01_EL0`.
    AMEVCNTR01_EL0 = 0x53001, "HvArm64RegisterAmevcntr01El0" ["HV_ARM64_REGISTER_AMEVCNTR01_EL0"];
    /// Architectural register `AMEVCNTR02_EL0`.
    AMEVCNTR02_EL0 = 0x53002, "HvArm64RegisterAmevcntr02El0" ["HV_ARM64_REGISTER_AMEVCNTR02_EL0"];
    /// Architectural register `AMEVCNTR03_EL0`.
    AMEVCNTR03_EL0 = 0x53003, "HvArm64RegisterAmevcntr03El0" ["HV_ARM64_REGISTER_AMEVCNTR03_EL0"];
}
