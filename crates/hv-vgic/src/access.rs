//! Trapped accesses: their frame, size, and validation.

use crate::gic::Gic;
use crate::hardware::Cpu;
use crate::regs::{GICD_ID, GICR_ID, ID_REGISTERS, gicd, gicr};

/// Size of the distributor's frame in bytes.
const DISTRIBUTOR_BYTES: u32 = 0x1_0000;
/// Size of a redistributor's two frames in bytes.
const REDISTRIBUTOR_BYTES: u32 = 0x2_0000;

/// The target of an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegisterFrame {
    /// The distributor, 64 KiB.
    Distributor,
    /// The redistributor of this VP, 128 KiB: RD frame and SGI frame.
    Redistributor(usize),
}

/// A trapped access by the guest.
///
/// Exhaustive on purpose: a trap decodes to a place and a size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// The target.
    pub frame: RegisterFrame,
    /// Offset in the frame in bytes.
    pub offset: u32,
    /// Size in bytes: 1, 2, 4 or 8.
    pub size: u8,
}

/// The access has a size or alignment that the register does not support, or there is no register: the guest gets a
/// synchronous external abort.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault;

impl core::fmt::Display for Fault {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("the interrupt controller does not support this access")
    }
}

impl core::error::Error for Fault {}

impl Access {
    /// Checks bounds, alignment and size.
    fn check(&self, vps: usize) -> Result<(), Fault> {
        let (bytes, wide) = match self.frame {
            RegisterFrame::Distributor => {
                (DISTRIBUTOR_BYTES, (gicd::IROUTER..gicd::IROUTER_END).contains(&self.offset))
            }
            RegisterFrame::Redistributor(vp) if vp < vps => {
                (REDISTRIBUTOR_BYTES, matches!(self.offset, gicr::TYPER | gicr::PROPBASER | gicr::PENDBASER))
            }
            RegisterFrame::Redistributor(_) => return Err(Fault),
        };
        let supported = match self.size {
            1 => self.is_priority(),
            4 => self.offset.is_multiple_of(4),
            8 => wide && self.offset.is_multiple_of(8),
            _ => false,
        };
        if supported && self.offset < bytes { Ok(()) } else { Err(Fault) }
    }

    fn is_priority(&self) -> bool {
        let offset = match self.frame {
            RegisterFrame::Distributor => self.offset,
            RegisterFrame::Redistributor(_) => self.offset.wrapping_sub(gicr::SGI_FRAME),
        };
        (gicd::IPRIORITYR..gicd::IPRIORITYR_END).contains(&offset)
    }
}

impl Gic<'_> {
    /// Reads a register for the guest on this CPU's VP.
    ///
    /// # Errors
    /// [`Fault`] where the register does not exist in that size, or the access is not aligned to its size. Reserved
    /// words read as zero.
    pub fn read<C: Cpu>(&self, cpu: &C, access: Access) -> Result<u64, Fault> {
        access.check(self.vps.len())?;
        self.vps.get(cpu.vp()).ok_or(Fault)?;
        let shift = access.offset % 4 * 8;
        let low = u64::from(self.read_word(cpu, access.frame, access.offset & !3));
        Ok(match access.size {
            1 => low >> shift & 0xff,
            8 => low | u64::from(self.read_word(cpu, access.frame, access.offset + 4)) << 32,
            _ => low,
        })
    }

    /// Writes a register for the guest on this CPU's VP.
    ///
    /// # Errors
    /// [`Fault`], as for [`read`](Self::read). Writes to reserved words have no effect.
    pub fn write<C: Cpu>(&self, cpu: &C, access: Access, value: u64) -> Result<(), Fault> {
        access.check(self.vps.len())?;
        self.vps.get(cpu.vp()).ok_or(Fault)?;
        let lane = access.offset % 4;
        // The upper halves of the 64-bit registers have no writable fields.
        let (value, bytes) = if access.size == 1 {
            ((value as u32 & 0xff) << (lane * 8), 1 << lane)
        } else {
            (value as u32, 0xf)
        };
        match access.frame {
            RegisterFrame::Distributor => self.write_distributor(cpu, access.offset & !3, value, bytes),
            RegisterFrame::Redistributor(of) => {
                self.write_redistributor(cpu, of, access.offset & !3, value, bytes);
            }
        }
        Ok(())
    }

    fn read_word<C: Cpu>(&self, cpu: &C, frame: RegisterFrame, offset: u32) -> u32 {
        let (identity, in_frame) = match frame {
            RegisterFrame::Distributor => (&GICD_ID, offset),
            RegisterFrame::Redistributor(_) => (&GICR_ID, offset % gicr::SGI_FRAME),
        };
        if in_frame >= ID_REGISTERS {
            return identity.get((in_frame - ID_REGISTERS) as usize / 4).copied().map_or(0, u32::from);
        }
        match frame {
            RegisterFrame::Distributor => self.read_distributor(cpu, offset),
            RegisterFrame::Redistributor(of) => self.read_redistributor(cpu, of, offset),
        }
    }
}
