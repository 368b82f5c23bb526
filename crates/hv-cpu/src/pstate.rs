//! PSTATE and the resume address, for a guest whose instruction trapped to EL2.
//!
//! Source: Arm ARM, "C5.2.19 SPSR_EL2, Saved Program Status Register"; "D2.12 Software Step exceptions"; pseudocode
//! AArch64.TakeException, SSAdvance, AArch32.ITAdvance.

/// Bits of SPSR_EL2 (and of SPSR_EL1, which has the same layout).
pub mod spsr {
    /// M: the exception level and the stack pointer, if `M[4]` is clear.
    pub const MODE: u64 = 0xf;
    /// `M[4]`: the exception came from AArch32.
    pub const AARCH32: u64 = 1 << 4;
    /// T: the AArch32 code is T32.
    pub const T32: u64 = 1 << 5;
    /// M for EL1 on SP_EL1.
    pub const EL1H: u64 = 0b0101;
    /// D, A, I and F.
    pub const MASKS: u64 = 0xf << 6;
    /// D: debug exceptions are masked.
    pub const D: u64 = 1 << 9;
    /// BTYPE: the kind of branch that led here. AArch64 only: in AArch32 these are bits of IT.
    pub const BTYPE: u64 = 0b11 << 10;
    /// SSBS.
    pub const SSBS: u64 = 1 << 12;
    /// ALLINT.
    pub const ALLINT: u64 = 1 << 13;
    /// SS: the next instruction is executed before a software step exception is taken.
    pub const SS: u64 = 1 << 21;
    /// PAN.
    pub const PAN: u64 = 1 << 22;
    /// DIT.
    pub const DIT: u64 = 1 << 24;
    /// TCO.
    pub const TCO: u64 = 1 << 25;
    /// N, Z, C and V.
    pub const NZCV: u64 = 0xf << 28;
    /// PM: PMU exceptions are masked.
    pub const PM: u64 = 1 << 32;
    /// EXLOCK: ELR_EL1 and SPSR_EL1 are locked.
    pub const EXLOCK: u64 = 1 << 34;
}

/// ESR_ELx.IL: the instruction has 32 bits, not 16.
const ESR_IL: u64 = 1 << 25;

/// The state in which a guest resumes: ELR_EL2 and SPSR_EL2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resume {
    /// ELR_EL2.
    pub elr: u64,
    /// SPSR_EL2.
    pub spsr: u64,
}

impl Resume {
    /// Returns the state after an instruction that trapped with syndrome `esr` and was emulated by the hypervisor.
    ///
    /// A completed instruction advances the software step state machine (SS becomes 0, so a single step stops right
    /// after it), clears BTYPE, and in a T32 IT block advances IT.
    #[must_use]
    pub const fn completed(self, esr: u64) -> Self {
        let length = if esr & ESR_IL != 0 { 4 } else { 2 };
        let spsr = self.spsr & !spsr::SS;
        let spsr = if spsr & spsr::AARCH32 == 0 { spsr & !spsr::BTYPE } else { advance_it(spsr) };
        Self { elr: self.elr.wrapping_add(length), spsr }
    }

    /// Returns the state before an `hvc` that trapped and must be executed again, or is undefined.
    ///
    /// `hvc` traps with the address after it, and with SS clear. Whether SS was set follows from `debug`: while
    /// software step is active, an instruction starts with SS set or not at all.
    #[must_use]
    pub const fn before_hvc(self, debug: Debug) -> Self {
        let ss = if debug.steps(self.spsr) { spsr::SS } else { 0 };
        Self { elr: self.elr.wrapping_sub(4), spsr: self.spsr | ss }
    }
}

/// Advances IT, as every instruction of an IT block does.
const fn advance_it(state: u64) -> u64 {
    const HIGH: u64 = 0x3f << 10;
    const LOW: u64 = 0b11 << 25;
    if state & spsr::T32 == 0 {
        return state;
    }
    // IT[7:2] are in bits 15:10, IT[1:0] in bits 26:25.
    let it = state >> 8 & 0xfc | state >> 25 & 0b11;
    let it = if it & 0b111 == 0 { 0 } else { it & 0xe0 | it << 1 & 0x1f };
    state & !(HIGH | LOW) | (it & 0xfc) << 8 | (it & 0b11) << 25
}

/// The registers that determine whether EL1 is single-stepped.
#[derive(Clone, Copy, Debug, Default)]
pub struct Debug {
    /// MDSCR_EL1.
    pub mdscr: u64,
    /// OSLSR_EL1.
    pub oslsr: u64,
    /// OSDLR_EL1.
    pub osdlr: u64,
}

impl Debug {
    /// Returns true if software step is active at EL1 in the state `spsr` (Arm ARM, "D2.4 Enabling debug exceptions").
    const fn steps(self, spsr: u64) -> bool {
        const SS: u64 = 1 << 0;
        const KDE: u64 = 1 << 13;
        const OSLK: u64 = 1 << 1;
        const DLK: u64 = 1 << 0;
        self.mdscr & (SS | KDE) == SS | KDE
            && self.oslsr & OSLK == 0
            && self.osdlr & DLK == 0
            && spsr & spsr::D == 0
    }
}

/// What determines the state on entry to a handler at EL1.
///
/// Exhaustive on purpose: a field that a caller left out would give a wrong PSTATE.
#[derive(Clone, Copy, Debug, Default)]
pub struct Entry {
    /// SCTLR_EL1.
    pub sctlr: u64,
    /// GCSCR_EL1, or zero if not implemented.
    pub gcscr: u64,
    /// The CPU has PAN (ID_AA64MMFR1_EL1.PAN).
    pub pan: bool,
    /// The CPU has memory tagging (ID_AA64PFR1_EL1.MTE is 2 or more).
    pub mte: bool,
    /// The CPU has NMIs (ID_AA64PFR1_EL1.NMI).
    pub nmi: bool,
    /// The CPU has PMU exceptions (ID_AA64DFR0_EL1.SEBEP).
    pub ebep: bool,
}

impl Entry {
    /// Returns PSTATE, in SPSR's layout, on entry to a handler at EL1 after an exception from `from`.
    ///
    /// N, Z, C, V and DIT are unchanged. PAN is set if SCTLR_EL1.SPAN is clear, else unchanged: a kernel relies on it,
    /// since with PAN clear a stray access reaches user memory. SSBS becomes SCTLR_EL1.DSSBS, TCO is set, ALLINT is set
    /// unless SCTLR_EL1.SPINTMASK says otherwise, PM is set, EXLOCK becomes GCSCR_EL1.EXLOCKEN for an exception from
    /// EL1. UAO, SS, IL and BTYPE are clear.
    #[must_use]
    pub const fn handler(self, from: u64) -> u64 {
        const SPAN: u64 = 1 << 23;
        const DSSBS: u64 = 1 << 44;
        const SPINTMASK: u64 = 1 << 62;
        const EXLOCKEN: u64 = 1 << 6;
        let kept = from & (spsr::NZCV | spsr::DIT | spsr::PAN);
        let pan = if self.pan && self.sctlr & SPAN == 0 { spsr::PAN } else { 0 };
        let ssbs = if self.sctlr & DSSBS != 0 { spsr::SSBS } else { 0 };
        let tco = if self.mte { spsr::TCO } else { 0 };
        let allint = if self.nmi && self.sctlr & SPINTMASK == 0 { spsr::ALLINT } else { 0 };
        let pm = if self.ebep { spsr::PM } else { 0 };
        let exlock = if self.gcscr & EXLOCKEN != 0 && !from_el0(from) { spsr::EXLOCK } else { 0 };
        spsr::EL1H | spsr::MASKS | kept | pan | ssbs | tco | allint | pm | exlock
    }
}

/// Returns true for an exception from EL0.
#[must_use]
pub const fn from_el0(from: u64) -> bool {
    from & spsr::MODE == 0
}

/// Returns the offset of the vector at which EL1 takes a synchronous exception from `from` (Arm ARM, "D1.3.1.5
/// Exception vectors").
#[must_use]
pub const fn vector(from: u64) -> u64 {
    match from & (spsr::AARCH32 | spsr::MODE) {
        // EL1 on SP_EL0, EL1 on SP_EL1, EL0.
        0b00100 => 0x000,
        0b00101 => 0x200,
        0b00000 => 0x400,
        // EL0 in AArch32.
        _ => 0x600,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EL1H: u64 = spsr::EL1H;
    const LONG: u64 = ESR_IL;

    fn at(spsr: u64) -> Resume {
        Resume { elr: 0x1000, spsr }
    }

    #[test]
    fn a_completed_instruction_clears_ss_and_btype_and_nothing_else() {
        let all = !spsr::AARCH32;
        assert_eq!(at(all).completed(LONG), Resume { elr: 0x1004, spsr: all & !(1 << 21 | 0b11 << 10) });
        assert_eq!(at(EL1H).completed(LONG), Resume { elr: 0x1004, spsr: EL1H });
    }

    #[test]
    fn sixteen_bit_instructions_are_two_bytes_long() {
        assert_eq!(at(spsr::AARCH32 | spsr::T32).completed(0).elr, 0x1002);
        assert_eq!(Resume { elr: u64::MAX - 3, spsr: EL1H }.completed(LONG).elr, 0);
    }

    #[test]
    fn an_it_block_advances() {
        let it = |it: u64| spsr::AARCH32 | spsr::T32 | (it >> 2) << 10 | (it & 0b11) << 25;
        // ITTTT EQ: 0000_0001, shifted left by one each time, ending after the fourth.
        for (before, after) in [
            (0b0000_0001, 0b0000_0010),
            (0b0000_0010, 0b0000_0100),
            (0b0000_0100, 0b0000_1000),
            (0b0000_1000, 0),
            (0b1011_0101, 0b1010_1010),
            (0, 0),
        ] {
            assert_eq!(at(it(before)).completed(0).spsr, it(after), "{before:#010b}");
        }
        // A32 has no IT, and its bits 11:10 are not BTYPE.
        let a32 = spsr::AARCH32 | 0b11 << 10;
        assert_eq!(at(a32).completed(LONG).spsr, a32);
    }

    #[test]
    fn an_hvc_that_is_executed_again_is_stepped_again() {
        let on = Debug { mdscr: 1 << 13 | 1, oslsr: 0b1000, osdlr: 0 };
        assert_eq!(at(EL1H).before_hvc(on), Resume { elr: 0xffc, spsr: EL1H | spsr::SS });
        for off in [
            Debug { mdscr: 1, ..on },
            Debug { mdscr: 1 << 13, ..on },
            Debug { oslsr: 0b1010, ..on },
            Debug { osdlr: 1, ..on },
        ] {
            assert_eq!(at(EL1H).before_hvc(off).spsr, EL1H, "{off:?}");
        }
        assert_eq!(at(EL1H | spsr::D).before_hvc(on).spsr, EL1H | spsr::D);
    }

    #[test]
    fn a_handler_begins_as_the_architecture_says() {
        let plain = Entry { sctlr: 1 << 23, ..Entry::default() };
        assert_eq!(plain.handler(0), 0x3c5);
        // Unchanged bits; all others that were set are clear.
        let kept = 0xf << 28 | 1 << 24 | 1 << 22;
        assert_eq!(plain.handler(!spsr::AARCH32), 0x3c5 | kept);
        assert_eq!(Entry { sctlr: 0, pan: true, ..plain }.handler(0), 0x3c5 | 1 << 22);
        assert_eq!(Entry { pan: true, ..plain }.handler(0), 0x3c5);
        assert_eq!(Entry { sctlr: 1 << 23 | 1 << 44, ..plain }.handler(1 << 12), 0x3c5 | 1 << 12);
        assert_eq!(plain.handler(1 << 12), 0x3c5);
        assert_eq!(Entry { mte: true, ..plain }.handler(0), 0x3c5 | 1 << 25);
        assert_eq!(Entry { nmi: true, ..plain }.handler(0), 0x3c5 | 1 << 13);
        assert_eq!(Entry { nmi: true, sctlr: 1 << 23 | 1 << 62, ..plain }.handler(1 << 13), 0x3c5);
        assert_eq!(Entry { ebep: true, ..plain }.handler(0), 0x3c5 | 1 << 32);
    }

    #[test]
    fn the_exception_state_is_locked_only_after_an_exception_from_el1() {
        let locks = Entry { sctlr: 1 << 23, gcscr: 1 << 6, ..Entry::default() };
        assert_eq!(locks.handler(EL1H), 0x3c5 | 1 << 34);
        assert_eq!(locks.handler(0b0100), 0x3c5 | 1 << 34);
        assert_eq!(locks.handler(0), 0x3c5);
        assert_eq!(locks.handler(spsr::AARCH32), 0x3c5);
    }

    #[test]
    fn each_source_has_its_vector() {
        for (from, offset) in [(0b0100, 0), (0b0101, 0x200), (0, 0x400), (0b10000, 0x600)] {
            assert_eq!(vector(0xf << 28 | from), offset);
        }
    }
}
