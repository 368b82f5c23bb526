//! ID registers: the CPU features reported to a guest, and what EL2 must enable for them.
//!
//! A CPU reports features that need an enable bit at EL2, and features that a guest cannot have (EL2 itself). So one
//! table ([`table::FIELDS`]) limits each field of the ID registers: a guest sees at most the highest supported value,
//! and [`Values::controls`] enables the features that it sees. Fields that are not in the table read as zero: a CPU
//! newer than the table reports nothing that would not work.
//!
//! The registers are those that HCR_EL2.TID3 traps: Op0 3, Op1 0, CRn 0, CRm 1 to 7 (Arm ARM, "HCR_EL2.TID3").

pub mod table;
#[cfg(test)]
mod tests;

/// An ID register, by its index in [`Values`]: CRm * 8 + Op2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Register(u8);

impl Register {
    /// Returns the register with this CRm and Op2; excess bits are ignored.
    #[must_use]
    pub const fn new(crm: u8, op2: u8) -> Self {
        Self((crm & 7) << 3 | op2 & 7)
    }

    /// Returns the register that an MRS reads, from the ISS of its trap; `None` if HCR_EL2.TID3 does not trap it.
    #[must_use]
    pub const fn of_read(iss: u64) -> Option<Self> {
        let (op0, op2, op1) = (iss >> 20 & 0b11, iss >> 17 & 0b111, iss >> 14 & 0b111);
        let (crn, crm, read) = (iss >> 10 & 0xf, iss >> 1 & 0xf, iss & 1 != 0);
        if read && op0 == 3 && op1 == 0 && crn == 0 && crm >= 1 && crm <= 7 {
            Some(Self::new(crm as u8, op2 as u8))
        } else {
            None
        }
    }

    const fn index(self) -> usize {
        self.0 as usize & 63
    }
}

/// Ordering of a field's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Unsigned: a higher value includes the lower ones. Visible up to this value.
    UpTo(u8),
    /// Like [`UpTo`](Self::UpTo), but 0b1111 means IMPLEMENTATION DEFINED, which is hidden.
    UpToNot15(u8),
    /// Signed: a negative value means not implemented. Visible up to this value.
    SignedUpTo(u8),
    /// Every value is visible, and none needs anything at EL2.
    Any,
}

/// What EL2 must set for a guest. Zero if there is nothing to set, or if the register does not exist.
///
/// Exhaustive on purpose: EL2 has to set every one of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Controls {
    /// Bits of HCR_EL2.
    pub hcr: u64,
    /// Bits of HCRX_EL2.
    pub hcrx: u64,
    /// Traps of CPTR_EL2 (its layout without VHE) that must be off.
    pub cptr_off: u64,
    /// Bits of HFGRTR_EL2 and HFGWTR_EL2 that trap while clear.
    pub hfgrtr: u64,
    /// Bits of HFGITR_EL2 that trap while clear.
    pub hfgitr: u64,
    /// Bits of ZCR_EL2.
    pub zcr: u64,
    /// Bits of SMCR_EL2.
    pub smcr: u64,
}

impl Controls {
    /// No bits.
    pub const NONE: Self = Self { hcr: 0, hcrx: 0, cptr_off: 0, hfgrtr: 0, hfgitr: 0, zcr: 0, smcr: 0 };

    const fn or(self, other: Self) -> Self {
        Self {
            hcr: self.hcr | other.hcr,
            hcrx: self.hcrx | other.hcrx,
            cptr_off: self.cptr_off | other.cptr_off,
            hfgrtr: self.hfgrtr | other.hfgrtr,
            hfgitr: self.hfgitr | other.hfgitr,
            zcr: self.zcr | other.zcr,
            smcr: self.smcr | other.smcr,
        }
    }
}

/// A field of an ID register.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Field {
    /// Its name in the Arm ARM.
    pub name: &'static str,
    /// The register.
    pub register: Register,
    /// Its lowest bit.
    pub shift: u8,
    /// Its width in bits.
    pub width: u8,
    /// The values visible to a guest.
    pub kind: Kind,
    /// What EL2 must set, each from a value upwards.
    pub needs: &'static [(u8, Controls)],
}

impl Field {
    const fn mask(&self) -> u64 {
        ((1 << self.width) - 1) << self.shift
    }

    const fn of(&self, register: u64) -> u64 {
        (register & self.mask()) >> self.shift
    }

    /// Returns the value that a guest sees if the CPU has `value`.
    const fn visible(&self, value: u64) -> u64 {
        let (max, is_negative) = match self.kind {
            Kind::Any => return value,
            Kind::UpTo(max) => (max as u64, false),
            Kind::UpToNot15(_) if value == 0xf => return 0,
            Kind::UpToNot15(max) => (max as u64, false),
            Kind::SignedUpTo(max) => (max as u64, value >> (self.width - 1) != 0),
        };
        if is_negative || value <= max { value } else { max }
    }
}

/// Values of the ID registers, by CRm and Op2; those with CRm 0 are unused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Values([u64; 64]);

impl Values {
    /// Computes what a guest sees of a CPU whose registers are read through `read`. Calls it once for each of the 56
    /// registers.
    #[must_use]
    pub fn visible(mut read: impl FnMut(u8, u8) -> u64) -> Self {
        let mut cpu = [0; 64];
        for (index, value) in cpu.iter_mut().enumerate().skip(8) {
            *value = read((index / 8) as u8, (index % 8) as u8);
        }
        let mut seen = [0; 64];
        for field in table::FIELDS {
            let index = field.register.index();
            seen[index] |= field.visible(field.of(cpu[index])) << field.shift;
        }
        Self(seen)
    }

    /// Returns the value that a guest reads.
    #[must_use]
    pub const fn get(&self, register: Register) -> u64 {
        self.0[register.index()]
    }

    /// Computes what EL2 must set so that everything visible to a guest works.
    #[must_use]
    pub fn controls(&self) -> Controls {
        table::FIELDS.iter().fold(Controls::NONE, |controls, field| {
            let value = field.of(self.get(field.register));
            let needs = field.needs.iter().filter(|(from, _)| value >= u64::from(*from));
            needs.fold(controls, |controls, (_, more)| controls.or(*more))
        })
    }
}
