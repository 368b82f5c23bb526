//! The ARM64 floating-point, SIMD and SVE registers.
//!
//! The numbers are the TLFS's; what each register holds is in the Arm Architecture Reference Manual.

use super::RegisterName;

pub(super) const TABLES: &[&[crate::abi::Constant]] = &[VECTOR];

constants! {
    table VECTOR, kind "register", from "TLFS, HV_REGISTER_NAME, ARM64 Architecture Registers", impl RegisterName;

    /// SIMD register Q0, 128 bits.
    Q0 = 0x30000, "HvArm64RegisterQ0" ["HV_ARM64_REGISTER_Q0"];
    /// SIMD register Q1, 128 bits.
    Q1 = 0x30001, "HvArm64RegisterQ1" ["HV_ARM64_REGISTER_Q1"];
    /// SIMD register Q2, 128 bits.
    Q2 = 0x30002, "HvArm64RegisterQ2" ["HV_ARM64_REGISTER_Q2"];
    /// SIMD register Q3, 128 bits.
    Q3 = 0x30003, "HvArm64RegisterQ3" ["HV_ARM64_REGISTER_Q3"];
    /// SIMD register Q4, 128 bits.
    Q4 = 0x30004, "HvArm64RegisterQ4" ["HV_ARM64_REGISTER_Q4"];
    /// SIMD register Q5, 128 bits.
    Q5 = 0x30005, "HvArm64RegisterQ5" ["HV_ARM64_REGISTER_Q5"];
    /// SIMD register Q6, 128 bits.
    Q6 = 0x30006, "HvArm64RegisterQ6" ["HV_ARM64_REGISTER_Q6"];
    /// SIMD register Q7, 128 bits.
    Q7 = 0x30007, "HvArm64RegisterQ7" ["HV_ARM64_REGISTER_Q7"];
    /// SIMD register Q8, 128 bits.
    Q8 = 0x30008, "HvArm64RegisterQ8" ["HV_ARM64_REGISTER_Q8"];
    /// SIMD register Q9, 128 bits.
    Q9 = 0x30009, "HvArm64RegisterQ9" ["HV_ARM64_REGISTER_Q9"];
    /// SIMD register Q10, 128 bits.
    Q10 = 0x3000a, "HvArm64RegisterQ10" ["HV_ARM64_REGISTER_Q10"];
    /// SIMD register Q11, 128 bits.
    Q11 = 0x3000b, "HvArm64RegisterQ11" ["HV_ARM64_REGISTER_Q11"];
    /// SIMD register Q12, 128 bits.
    Q12 = 0x3000c, "HvArm64RegisterQ12" ["HV_ARM64_REGISTER_Q12"];
    /// SIMD register Q13, 128 bits.
    Q13 = 0x3000d, "HvArm64RegisterQ13" ["HV_ARM64_REGISTER_Q13"];
    /// SIMD register Q14, 128 bits.
    Q14 = 0x3000e, "HvArm64RegisterQ14" ["HV_ARM64_REGISTER_Q14"];
    /// SIMD register Q15, 128 bits.
    Q15 = 0x3000f, "HvArm64RegisterQ15" ["HV_ARM64_REGISTER_Q15"];
    /// SIMD register Q16, 128 bits.
    Q16 = 0x30010, "HvArm64RegisterQ16" ["HV_ARM64_REGISTER_Q16"];
    /// SIMD register Q17, 128 bits.
    Q17 = 0x30011, "HvArm64RegisterQ17" ["HV_ARM64_REGISTER_Q17"];
    /// SIMD register Q18, 128 bits.
    Q18 = 0x30012, "HvArm64RegisterQ18" ["HV_ARM64_REGISTER_Q18"];
    /// SIMD register Q19, 128 bits.
    Q19 = 0x30013, "HvArm64RegisterQ19" ["HV_ARM64_REGISTER_Q19"];
    /// SIMD register Q20, 128 bits.
    Q20 = 0x30014, "HvArm64RegisterQ20" ["HV_ARM64_REGISTER_Q20"];
    /// SIMD register Q21, 128 bits.
    Q21 = 0x30015, "HvArm64RegisterQ21" ["HV_ARM64_REGISTER_Q21"];
    /// SIMD register Q22, 128 bits.
    Q22 = 0x30016, "HvArm64RegisterQ22" ["HV_ARM64_REGISTER_Q22"];
    /// SIMD register Q23, 128 bits.
    Q23 = 0x30017, "HvArm64RegisterQ23" ["HV_ARM64_REGISTER_Q23"];
    /// SIMD register Q24, 128 bits.
    Q24 = 0x30018, "HvArm64RegisterQ24" ["HV_ARM64_REGISTER_Q24"];
    /// SIMD register Q25, 128 bits.
    Q25 = 0x30019, "HvArm64RegisterQ25" ["HV_ARM64_REGISTER_Q25"];
    /// SIMD register Q26, 128 bits.
    Q26 = 0x3001a, "HvArm64RegisterQ26" ["HV_ARM64_REGISTER_Q26"];
    /// SIMD register Q27, 128 bits.
    Q27 = 0x3001b, "HvArm64RegisterQ27" ["HV_ARM64_REGISTER_Q27"];
    /// SIMD register Q28, 128 bits.
    Q28 = 0x3001c, "HvArm64RegisterQ28" ["HV_ARM64_REGISTER_Q28"];
    /// SIMD register Q29, 128 bits.
    Q29 = 0x3001d, "HvArm64RegisterQ29" ["HV_ARM64_REGISTER_Q29"];
    /// SIMD register Q30, 128 bits.
    Q30 = 0x3001e, "HvArm64RegisterQ30" ["HV_ARM64_REGISTER_Q30"];
    /// SIMD register Q31, 128 bits.
    Q31 = 0x3001f, "HvArm64RegisterQ31" ["HV_ARM64_REGISTER_Q31"];
    /// SVE vector register Z0.
    Z0 = 0x30100, "HvArm64RegisterZ0" ["HV_ARM64_REGISTER_Z0"];
    /// SVE vector register Z1.
    Z1 = 0x30101, "HvArm64RegisterZ1" ["HV_ARM64_REGISTER_Z1"];
    /// SVE vector register Z2.
    Z2 = 0x30102, "HvArm64RegisterZ2" ["HV_ARM64_REGISTER_Z2"];
    /// SVE vector register Z3.
    Z3 = 0x30103, "HvArm64RegisterZ3" ["HV_ARM64_REGISTER_Z3"];
    /// SVE vector register Z4.
    Z4 = 0x30104, "HvArm64RegisterZ4" ["HV_ARM64_REGISTER_Z4"];
    /// SVE vector register Z5.
    Z5 = 0x30105, "HvArm64RegisterZ5" ["HV_ARM64_REGISTER_Z5"];
    /// SVE vector register Z6.
    Z6 = 0x30106, "HvArm64RegisterZ6" ["HV_ARM64_REGISTER_Z6"];
    /// SVE vector register Z7.
    Z7 = 0x30107, "HvArm64RegisterZ7" ["HV_ARM64_REGISTER_Z7"];
    /// SVE vector register Z8.
    Z8 = 0x30108, "HvArm64RegisterZ8" ["HV_ARM64_REGISTER_Z8"];
    /// SVE vector register Z9.
    Z9 = 0x30109, "HvArm64RegisterZ9" ["HV_ARM64_REGISTER_Z9"];
    /// SVE vector register Z10.
    Z10 = 0x3010a, "HvArm64RegisterZ10" ["HV_ARM64_REGISTER_Z10"];
    /// SVE vector register Z11.
    Z11 = 0x3010b, "HvArm64RegisterZ11" ["HV_ARM64_REGISTER_Z11"];
    /// SVE vector register Z12.
    Z12 = 0x3010c, "HvArm64RegisterZ12" ["HV_ARM64_REGISTER_Z12"];
    /// SVE vector register Z13.
    Z13 = 0x3010d, "HvArm64RegisterZ13" ["HV_ARM64_REGISTER_Z13"];
    /// SVE vector register Z14.
    Z14 = 0x3010e, "HvArm64RegisterZ14" ["HV_ARM64_REGISTER_Z14"];
    /// SVE vector register Z15.
    Z15 = 0x3010f, "HvArm64RegisterZ15" ["HV_ARM64_REGISTER_Z15"];
    /// SVE vector register Z16.
    Z16 = 0x30110, "HvArm64RegisterZ16" ["HV_ARM64_REGISTER_Z16"];
    /// SVE vector register Z17.
    Z17 = 0x30111, "HvArm64RegisterZ17" ["HV_ARM64_REGISTER_Z17"];
    /// SVE vector register Z18.
    Z18 = 0x30112, "HvArm64RegisterZ18" ["HV_ARM64_REGISTER_Z18"];
    /// SVE vector register Z19.
    Z19 = 0x30113, "HvArm64RegisterZ19" ["HV_ARM64_REGISTER_Z19"];
    /// SVE vector register Z20.
    Z20 = 0x30114, "HvArm64RegisterZ20" ["HV_ARM64_REGISTER_Z20"];
    /// SVE vector register Z21.
    Z21 = 0x30115, "HvArm64RegisterZ21" ["HV_ARM64_REGISTER_Z21"];
    /// SVE vector register Z22.
    Z22 = 0x30116, "HvArm64RegisterZ22" ["HV_ARM64_REGISTER_Z22"];
    /// SVE vector register Z23.
    Z23 = 0x30117, "HvArm64RegisterZ23" ["HV_ARM64_REGISTER_Z23"];
    /// SVE vector register Z24.
    Z24 = 0x30118, "HvArm64RegisterZ24" ["HV_ARM64_REGISTER_Z24"];
    /// SVE vector register Z25.
    Z25 = 0x30119, "HvArm64RegisterZ25" ["HV_ARM64_REGISTER_Z25"];
    /// SVE vector register Z26.
    Z26 = 0x3011a, "HvArm64RegisterZ26" ["HV_ARM64_REGISTER_Z26"];
    /// SVE vector register Z27.
    Z27 = 0x3011b, "HvArm64RegisterZ27" ["HV_ARM64_REGISTER_Z27"];
    /// SVE vector register Z28.
    Z28 = 0x3011c, "HvArm64RegisterZ28" ["HV_ARM64_REGISTER_Z28"];
    /// SVE vector register Z29.
    Z29 = 0x3011d, "HvArm64RegisterZ29" ["HV_ARM64_REGISTER_Z29"];
    /// SVE vector register Z30.
    Z30 = 0x3011e, "HvArm64RegisterZ30" ["HV_ARM64_REGISTER_Z30"];
    /// SVE vector register Z31.
    Z31 = 0x3011f, "HvArm64RegisterZ31" ["HV_ARM64_REGISTER_Z31"];
    /// SVE predicate register P0.
    P0 = 0x30120, "HvArm64RegisterP0" ["HV_ARM64_REGISTER_P0"];
    /// SVE predicate register P1.
    P1 = 0x30121, "HvArm64RegisterP1" ["HV_ARM64_REGISTER_P1"];
    /// SVE predicate register P2.
    P2 = 0x30122, "HvArm64RegisterP2" ["HV_ARM64_REGISTER_P2"];
    /// SVE predicate register P3.
    P3 = 0x30123, "HvArm64RegisterP3" ["HV_ARM64_REGISTER_P3"];
    /// SVE predicate register P4.
    P4 = 0x30124, "HvArm64RegisterP4" ["HV_ARM64_REGISTER_P4"];
    /// SVE predicate register P5.
    P5 = 0x30125, "HvArm64RegisterP5" ["HV_ARM64_REGISTER_P5"];
    /// SVE predicate register P6.
    P6 = 0x30126, "HvArm64RegisterP6" ["HV_ARM64_REGISTER_P6"];
    /// SVE predicate register P7.
    P7 = 0x30127, "HvArm64RegisterP7" ["HV_ARM64_REGISTER_P7"];
    /// SVE predicate register P8.
    P8 = 0x30128, "HvArm64RegisterP8" ["HV_ARM64_REGISTER_P8"];
    /// SVE predicate register P9.
    P9 = 0x30129, "HvArm64RegisterP9" ["HV_ARM64_REGISTER_P9"];
    /// SVE predicate register P10.
    P10 = 0x3012a, "HvArm64RegisterP10" ["HV_ARM64_REGISTER_P10"];
    /// SVE predicate register P11.
    P11 = 0x3012b, "HvArm64RegisterP11" ["HV_ARM64_REGISTER_P11"];
    /// SVE predicate register P12.
    P12 = 0x3012c, "HvArm64RegisterP12" ["HV_ARM64_REGISTER_P12"];
    /// SVE predicate register P13.
    P13 = 0x3012d, "HvArm64RegisterP13" ["HV_ARM64_REGISTER_P13"];
    /// SVE predicate register P14.
    P14 = 0x3012e, "HvArm64RegisterP14" ["HV_ARM64_REGISTER_P14"];
    /// SVE predicate register P15.
    P15 = 0x3012f, "HvArm64RegisterP15" ["HV_ARM64_REGISTER_P15"];
    /// SVE first-fault register.
    FFR = 0x30130, "HvArm64RegisterFFR" ["HV_ARM64_REGISTER_FFR"];
}
