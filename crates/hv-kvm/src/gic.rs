//! The registers of the interrupt controller that are its state.
//!
//! Source: Linux, Documentation/virt/kvm/devices/arm-vgic-v3.rst; Arm GIC Architecture Specification (IHI 0069). The
//! levels of its inputs are no state of its own: the UART's is set again, KVM sets those of its timers.

use std::fmt;

use hv_cpu::gic::{gicd, gicr};

use crate::layout::Layout;
use crate::register::SystemRegister;

/// A register of the interrupt controller, as KVM has its state read and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum GicRegister {
    /// 32 bits of the distributor.
    Distributor {
        /// Offset in its frame.
        offset: u32,
    },
    /// 32 bits of a VP's redistributor.
    Redistributor {
        /// The VP.
        vp: usize,
        /// Offset from its RD frame.
        offset: u32,
    },
    /// A register of a VP's CPU interface.
    Cpu {
        /// The VP.
        vp: usize,
        /// Op0, Op1, CRn, CRm and Op2, from bits 15, 13, 10, 6 and 2 downwards.
        encoding: u16,
    },
}

impl GicRegister {
    /// Returns the number of its bytes.
    pub(crate) const fn size(self) -> usize {
        match self {
            Self::Distributor { .. } | Self::Redistributor { .. } => 4,
            Self::Cpu { .. } => 8,
        }
    }
}

impl fmt::Display for GicRegister {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Distributor { offset } => write!(f, "the distributor's register at {offset:#x}"),
            Self::Redistributor { vp, offset } => {
                write!(f, "VP {vp}'s redistributor's register at {offset:#x}")
            }
            Self::Cpu { vp, encoding } => write!(f, "VP {vp}'s {}", SystemRegister((*encoding).into())),
        }
    }
}

/// A register with state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) register: GicRegister,
    /// The register whose bits clear those of this one, of which a write sets some.
    pub(crate) clear: Option<GicRegister>,
}

const fn entry(register: GicRegister) -> Entry {
    Entry { register, clear: None }
}

/// Returns the registers of `words` 32-bit words from `offset` on.
fn words(at: impl Fn(u32) -> GicRegister, offset: u32, words: u32) -> impl Iterator<Item = Entry> {
    (0..words).map(move |word| entry(at(offset + word * 4)))
}

/// Returns the entries of what is a bit of each interrupt, from word `first` on.
fn bits(at: impl Fn(u32) -> GicRegister, first: u32, count: u32) -> impl Iterator<Item = Entry> {
    // Pending ones last: all that decides on an interrupt is known then.
    let registers = [
        (gicd::IGROUPR, None),
        (gicd::ISENABLER, Some(gicd::ICENABLER)),
        (gicd::ISACTIVER, Some(gicd::ICACTIVER)),
        // Exactly this one's bits are pending after a write of KVM's user.
        (gicd::ISPENDR, None),
    ];
    registers.into_iter().flat_map(move |(set, clear)| {
        let word = |word: u32| Entry {
            register: at(set + word * 4),
            clear: clear.map(|clear| at(clear + word * 4)),
        };
        (first..first + count).map(word).collect::<Vec<_>>()
    })
}

/// Returns the registers of the distributor, in the order in which they are written.
pub(crate) fn distributor() -> impl Iterator<Item = Entry> {
    const SPIS: u32 = Layout::INTIDS - 32;
    let at = |offset| GicRegister::Distributor { offset };
    // First the revision, by which KVM behaves; then the enable bits: KVM queues an interrupt that is made pending only
    // if its group is enabled then.
    words(at, gicd::IIDR, 1)
        .chain(words(at, gicd::CTLR, 1))
        .chain(words(at, gicd::IPRIORITYR + 32, SPIS / 4))
        .chain(words(at, gicd::ICFGR + 32 / 4, SPIS / 16))
        // The low half of each: KVM has no Aff3.
        .chain((32..Layout::INTIDS).map(move |intid| entry(at(gicd::IROUTER + intid * 8))))
        .chain(bits(at, 1, SPIS / 32))
}

/// Returns the registers of a VP's redistributor, in the order in which they are written.
pub(crate) fn redistributor(vp: usize) -> impl Iterator<Item = Entry> {
    let rd = move |offset| GicRegister::Redistributor { vp, offset };
    let sgi = move |offset| rd(gicr::SGI_FRAME + offset);
    words(rd, gicr::PROPBASER, 2)
        .chain(words(rd, gicr::PENDBASER, 2))
        .chain(words(sgi, gicd::IPRIORITYR, 32 / 4))
        .chain(bits(sgi, 0, 1))
}

const fn icc(crn: u16, crm: u16, op2: u16) -> u16 {
    3 << 14 | crn << 7 | crm << 3 | op2
}

const ICC_CTLR: u16 = icc(12, 12, 4);
/// ICC_PMR_EL1, ICC_BPR0_EL1, ICC_BPR1_EL1, ICC_IGRPEN0_EL1, ICC_IGRPEN1_EL1.
const ICC: [u16; 5] = [icc(4, 6, 0), icc(12, 8, 3), icc(12, 12, 3), icc(12, 12, 6), icc(12, 12, 7)];

/// Returns ICC_CTLR_EL1 of a VP, which is read and written before [the others](cpu).
pub(crate) const fn control(vp: usize) -> Entry {
    entry(GicRegister::Cpu { vp, encoding: ICC_CTLR })
}

/// Returns the registers of a VP's CPU interface, in the order in which they are written, by the VP's ICC_CTLR_EL1.
pub(crate) fn cpu(vp: usize, control: u64) -> impl Iterator<Item = Entry> {
    // PRIbits decides how many active priorities registers of each group there are.
    let count = match control >> 8 & 7 {
        6 => 4,
        5 => 2,
        _ => 1,
    };
    let active = [icc(12, 8, 4), icc(12, 9, 0)].into_iter().flat_map(move |first| first..first + count);
    ICC.into_iter().chain(active).map(move |encoding| entry(GicRegister::Cpu { vp, encoding }))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{GicRegister, control, cpu, distributor, redistributor};

    #[test]
    fn each_register_is_there_once_and_has_a_name() {
        let all = || distributor().chain(redistributor(0)).chain(redistributor(1)).chain(cpu(0, 6 << 8));
        let found: BTreeSet<_> = all().map(|entry| entry.register).collect();
        assert_eq!(found.len(), all().count());
        for (register, name) in [
            (GicRegister::Distributor { offset: 0x6108 }, "the distributor's register at 0x6108"),
            (
                GicRegister::Redistributor { vp: 1, offset: 0x1_0200 },
                "VP 1's redistributor's register at 0x10200",
            ),
            (GicRegister::Cpu { vp: 0, encoding: 0xc664 }, "VP 0's ICC_CTLR_EL1"),
        ] {
            assert!(found.contains(&register) || register == control(0).register, "{register}");
            assert_eq!(register.to_string(), name);
        }
    }

    #[test]
    fn groups_are_enabled_before_anything_is_made_pending() {
        let at = |wanted| {
            let position =
                distributor().position(|entry| entry.register == GicRegister::Distributor { offset: wanted });
            position.unwrap()
        };
        // IIDR, CTLR, the first of ISPENDR that is an SPI's.
        assert!((at(0x8), at(0x0)) == (0, 1) && at(0x0) < at(0x204));
    }

    #[test]
    fn the_active_priorities_are_as_many_as_the_priority_bits_need() {
        assert_eq!([4, 5, 6].map(|bits| cpu(0, bits << 8).count()), [7, 9, 13]);
    }
}
