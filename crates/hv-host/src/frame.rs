//! Locations of a hypercall's parameters, and iteration over the elements of a rep hypercall.

use core::ops::Range;

use hv_tlfs::hypercall::HypercallOutput;
use hv_tlfs::page;
use hv_tlfs::status::HvStatus;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use lock_api::RawMutex;

use crate::event::Convention;
use crate::faults::{Faults as _, Injection};
use crate::general::Registers;
use crate::host::Host;
use crate::partition::Partition;
use hv_memory::GuestMemory;

/// Size of the registers shared by a fast call's input and output, in bytes.
pub(crate) const FAST_BYTES: usize = 128;
/// X0 to X30.
const REGISTERS: usize = 31;
/// Fast output starts at an even register pair.
///
/// The TLFS rounds the input to 8 bytes; guests (Linux reads X6 and X7 after a Get of one register, whose input ends in
/// X4) and shipping hosts use 16.
const PAIR: usize = 16;

/// Locations of input and output, checked.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Parameters {
    /// In registers: the index of the first input and the first output register.
    Fast { input: usize, output: usize },
    /// In guest memory.
    Memory { input: u64, output: u64 },
}

impl Parameters {
    /// Locates a fast call's parameters with these sizes.
    #[inline]
    pub(crate) fn fast(convention: Convention, input: usize, output: usize) -> Result<Self, HvStatus> {
        let (input, output) = (input.next_multiple_of(PAIR), output.next_multiple_of(PAIR));
        if input + output > FAST_BYTES {
            return Err(HvStatus::INVALID_HYPERCALL_INPUT);
        }
        Ok(match convention {
            Convention::Smccc => Self::Fast { input: 2, output: 2 + input / 8 },
            // The last registers.
            Convention::Hvc1 => Self::Fast { input: 1, output: 1 + (FAST_BYTES - output) / 8 },
        })
    }

    /// Locates a memory-based call's parameters with these sizes. An address is ignored if there is nothing to pass.
    pub(crate) fn memory(
        memory: &impl GuestMemory,
        convention: Convention,
        x: &impl Registers,
        input_size: usize,
        output_size: usize,
    ) -> Result<Self, HvStatus> {
        let first = convention.control() + 1;
        let (input, output) = (x.x(first), x.x(first + 1));
        check_block(memory, input, input_size)?;
        check_block(memory, output, output_size)?;
        if input_size != 0 && output_size != 0 {
            // Neither wraps around: each lies within a page.
            let apart = input + input_size as u64 <= output || output + output_size as u64 <= input;
            if !apart {
                return Err(HvStatus::INVALID_ALIGNMENT);
            }
        }
        Ok(Self::Memory { input, output })
    }
}

/// Checks alignment, page crossing and bounds: TLFS, "Alignment Requirements" and "Common Hypercall Status Codes".
fn check_block(memory: &impl GuestMemory, gpa: u64, size: usize) -> Result<(), HvStatus> {
    if size == 0 {
        return Ok(());
    }
    let offset = (gpa % page::SIZE as u64) as usize;
    if !gpa.is_multiple_of(8) || offset + size > page::SIZE || !memory.contains(gpa, size as u64) {
        return Err(HvStatus::INVALID_ALIGNMENT);
    }
    Ok(())
}

/// Outcome of a call: complete, or stopped before an element from which it must be continued.
pub(crate) enum Outcome {
    Done(HypercallOutput),
    Again(u16),
}

impl From<Result<(), HvStatus>> for Outcome {
    fn from(result: Result<(), HvStatus>) -> Self {
        Self::Done(HypercallOutput::from_status(result.err().unwrap_or(HvStatus::SUCCESS)))
    }
}

/// A call being executed: its caller, and the locations of its parameters.
pub(crate) struct CallFrame<'f, H, X> {
    pub(crate) host: &'f H,
    pub(crate) vp: usize,
    pub(crate) x: &'f mut X,
    pub(crate) parameters: Parameters,
    /// Size of the variable header in bytes.
    pub(crate) variable: usize,
    /// Offset of the list after the headers.
    pub(crate) list: usize,
    /// First element to process, and number of elements.
    pub(crate) start: u16,
    pub(crate) count: u16,
}

impl<H: Host, X: Registers> CallFrame<'_, H, X> {
    /// Copies a value out of the input. The copy is validated, and the input not read again.
    #[inline(always)]
    pub(crate) fn read<T: FromBytes + IntoBytes>(&self, offset: usize) -> Result<T, HvStatus> {
        let mut value = T::new_zeroed();
        match self.parameters {
            // Here and not in a function for any bytes: the host knows the length.
            Parameters::Memory { input, .. } => {
                let read = self.host.memory().read(input + offset as u64, value.as_mut_bytes());
                read.map_err(|_| HvStatus::INVALID_ALIGNMENT)?;
            }
            // Whole registers, whose number is known here.
            Parameters::Fast { input, .. } if offset.is_multiple_of(8) && size_of::<T>() <= FAST_BYTES => {
                let first = input + offset / 8;
                if first * 8 + size_of::<T>() > REGISTERS * 8 {
                    return Err(HvStatus::INVALID_HYPERCALL_INPUT);
                }
                for (n, part) in value.as_mut_bytes().chunks_mut(8).enumerate() {
                    part.copy_from_slice(&self.x.x(first + n).to_le_bytes()[..part.len()]);
                }
            }
            Parameters::Fast { .. } => self.read_bytes(offset, value.as_mut_bytes())?,
        }
        Ok(value)
    }

    /// Copies bytes out of the input.
    pub(crate) fn read_bytes(&self, offset: usize, into: &mut [u8]) -> Result<(), HvStatus> {
        match self.parameters {
            Parameters::Memory { input, .. } => {
                self.host.memory().read(input + offset as u64, into).map_err(|_| HvStatus::INVALID_ALIGNMENT)
            }
            Parameters::Fast { input, .. } => {
                if input * 8 + offset + into.len() > REGISTERS * 8 {
                    return Err(HvStatus::INVALID_HYPERCALL_INPUT);
                }
                let mut at = input * 8 + offset;
                let mut rest = into;
                while !rest.is_empty() {
                    let word = (self.x.x(at / 8) >> (at % 8 * 8)).to_le_bytes();
                    let (part, behind) = rest.split_at_mut(rest.len().min(8 - at % 8));
                    match <&mut [u8; 8]>::try_from(&mut *part) {
                        Ok(whole) => *whole = word,
                        Err(_) => part.copy_from_slice(&word[..part.len()]),
                    }
                    at += part.len();
                    rest = behind;
                }
                Ok(())
            }
        }
    }

    /// Returns word `index` of the variable header.
    pub(crate) fn variable_word(&self, index: usize) -> Result<u64, HvStatus> {
        if (index + 1) * 8 > self.variable {
            return Err(HvStatus::INVALID_HYPERCALL_INPUT);
        }
        self.read(self.list - self.variable + index * 8)
    }

    /// Copies a value into the output.
    #[inline(always)]
    pub(crate) fn write<T: IntoBytes + Immutable>(
        &mut self,
        offset: usize,
        value: &T,
    ) -> Result<(), HvStatus> {
        // Outputs are whole registers: adjacent bytes are never touched.
        const { assert!(size_of::<T>().is_multiple_of(8)) };
        self.write_words(offset, value.as_bytes())
    }

    /// Copies whole words into the output.
    #[inline(always)]
    pub(crate) fn write_words(&mut self, offset: usize, words: &[u8]) -> Result<(), HvStatus> {
        match self.parameters {
            Parameters::Memory { output, .. } => {
                let written = self.host.memory().write(output + offset as u64, words);
                written.map_err(|_| HvStatus::INVALID_ALIGNMENT)
            }
            Parameters::Fast { output, .. } => {
                let first = output + offset / 8;
                if !offset.is_multiple_of(8) || first + words.len() / 8 > REGISTERS {
                    return Err(HvStatus::INVALID_HYPERCALL_INPUT);
                }
                for (n, word) in words.as_chunks().0.iter().enumerate() {
                    self.x.set_x(first + n, u64::from_le_bytes(*word));
                }
                Ok(())
            }
        }
    }
}

impl<R: RawMutex> Partition<'_, R> {
    /// Iterates over the elements of a rep hypercall, at least one and as long as the time budget lasts.
    pub(crate) fn each<H: Host, X: Registers>(
        &self,
        frame: &mut CallFrame<'_, H, X>,
        mut element: impl FnMut(&mut CallFrame<'_, H, X>, usize) -> Result<(), HvStatus>,
    ) -> Outcome {
        self.each_part(frame, 1, |frame, range| match element(frame, range.start) {
            Ok(()) => (1, Ok(())),
            Err(status) => (0, Err(status)),
        })
    }

    /// Does the same in parts, and looks at the time after each: `part` gets a range of at most `most` elements, and
    /// returns how many it has done from its start on, and what stopped it.
    #[inline(always)]
    pub(crate) fn each_part<H: Host, X: Registers>(
        &self,
        frame: &mut CallFrame<'_, H, X>,
        most: u16,
        mut part: impl FnMut(&mut CallFrame<'_, H, X>, Range<usize>) -> (usize, Result<(), HvStatus>),
    ) -> Outcome {
        let begin = frame.host.counter();
        // A fault ends a call after any element.
        let faulty = frame.host.faults().any();
        let most = if faulty { 1 } else { most };
        let (mut index, count) = (frame.start, frame.count);
        while index < count {
            let end = index.saturating_add(most).min(count);
            let (done, result) = part(frame, usize::from(index)..usize::from(end));
            index += done as u16;
            if let Err(status) = result {
                return Outcome::Done(HypercallOutput::from_status(status).with_reps_completed(index));
            }
            let late = || frame.host.counter().wrapping_sub(begin) >= self.config().rep_budget;
            if index < count && (late() || faulty && frame.host.faults().injects(Injection::Again)) {
                return Outcome::Again(index);
            }
        }
        Outcome::Done(HypercallOutput::SUCCESS.with_reps_completed(frame.count))
    }
}

/// Rejects a rep hypercall with invalid headers: no element was completed.
pub(crate) fn refused(frame: &CallFrame<'_, impl Host, impl Registers>, status: HvStatus) -> Outcome {
    Outcome::Done(HypercallOutput::from_status(status).with_reps_completed(frame.start))
}
