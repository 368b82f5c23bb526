//! The page size: 4, 16 or 64 KiB.
//!
//! Source: Arm ARM, "The VMSAv8-64 translation system".
#![expect(unsafe_code, reason = "an ID register is read")]

use arm_sysregs::el1::registers::IdAa64mmfr0El1;

use crate::mrs;

/// The page size, and with it the shape of the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Granule {
    /// 4 KiB.
    K4,
    /// 16 KiB.
    K16,
    /// 64 KiB.
    K64,
}

impl Granule {
    /// All three.
    pub const ALL: [Self; 3] = [Self::K4, Self::K16, Self::K64];

    /// Returns log2 of the page size.
    pub const fn bits(self) -> u32 {
        match self {
            Self::K4 => 12,
            Self::K16 => 14,
            Self::K64 => 16,
        }
    }

    /// Returns the number of bytes per page.
    pub const fn bytes(self) -> u64 {
        1 << self.bits()
    }

    /// Returns whether this CPU supports it: ID_AA64MMFR0_EL1.TGran4, TGran16, TGran64.
    pub fn supported(self) -> bool {
        let features = IdAa64mmfr0El1::from_bits_retain(mrs!("id_aa64mmfr0_el1"));
        match self {
            Self::K4 => features.tgran4() != 0xf,
            Self::K16 => features.tgran16() != 0,
            Self::K64 => features.tgran64() != 0xf,
        }
    }

    /// Returns TCR_EL1.TG0.
    pub(crate) const fn tg0(self) -> u8 {
        match self {
            Self::K4 => 0b00,
            Self::K16 => 0b10,
            Self::K64 => 0b01,
        }
    }

    /// Returns the level at which a walk of [`ADDRESS_BITS`](crate::mmu::ADDRESS_BITS) starts.
    pub(crate) const fn root_level(self) -> u32 {
        match self {
            Self::K4 => 1,
            Self::K16 | Self::K64 => 2,
        }
    }

    /// Returns log2 of the size that one entry of a level covers; a table has 2^(bits - 3) entries.
    pub(crate) const fn shift(self, level: u32) -> u32 {
        self.bits() + (3 - level) * (self.bits() - 3)
    }

    /// Returns the granule that the command line asks for, or 4 KiB.
    pub(crate) fn choose(argument: Option<&str>) -> Self {
        let granule = match argument {
            None | Some("4k") => Self::K4,
            Some("16k") => Self::K16,
            Some("64k") => Self::K64,
            Some(other) => panic!("rt.granule={other}: it is 4k, 16k or 64k"),
        };
        assert!(granule.supported(), "this CPU has no {} KiB granule", granule.bytes() >> 10);
        granule
    }
}
