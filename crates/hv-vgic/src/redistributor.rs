//! The redistributors' registers.

use crate::bank::Word;
use crate::gic::Gic;
use crate::hardware::Cpu;
use crate::regs::{IIDR_VALUE, gicr};

impl Gic<'_> {
    /// Reads a word of the redistributor of VP `of`, which exists.
    pub(crate) fn read_redistributor<C: Cpu>(&self, cpu: &C, of: usize, offset: u32) -> u32 {
        match offset {
            gicr::IIDR => IIDR_VALUE,
            gicr::TYPER => self.redistributor_type(of) as u32,
            0x000c => (self.redistributor_type(of) >> 32) as u32, // TYPER, upper half
            gicr::WAKER if self.vps[of].state.lock().asleep => {
                gicr::WAKER_PROCESSOR_SLEEP | gicr::WAKER_CHILDREN_ASLEEP
            }
            gicr::SGI_FRAME.. => private_word(offset).map_or(0, |word| {
                let set = word.members(0xf);
                let after = self.prepare(cpu, of, word, set);
                self.finish(cpu, after);
                self.read_bank(cpu, of, word, set)
            }),
            _ => 0,
        }
    }

    /// Writes bytes of a word of the redistributor of VP `of`, which exists.
    pub(crate) fn write_redistributor<C: Cpu>(
        &self,
        cpu: &C,
        of: usize,
        offset: u32,
        value: u32,
        bytes: u32,
    ) {
        match offset {
            gicr::WAKER => self.vps[of].state.lock().asleep = value & gicr::WAKER_PROCESSOR_SLEEP != 0,
            gicr::SGI_FRAME.. => {
                if let Some(word) = private_word(offset) {
                    let after = self.write_bank(cpu, of, word, word.members(bytes), value);
                    self.finish(cpu, after);
                }
            }
            _ => {}
        }
    }

    /// Returns GICR_TYPER: affinity, processor number, whether it is the last one. No LPIs.
    fn redistributor_type(&self, of: usize) -> u64 {
        let number = of as u64;
        let affinity = ((number / 16) << 8) | (number % 16);
        let last = if of + 1 == self.vps.len() { gicr::TYPER_LAST } else { 0 };
        affinity << 32 | (number & 0xffff) << 8 | last
    }
}

/// Returns the register of the SGI frame, if it has fields for INTIDs 0 to 31.
fn private_word(offset: u32) -> Option<Word> {
    Word::at(offset - gicr::SGI_FRAME).filter(|word| word.members(0xf) & 0xffff_ffff != 0)
}
