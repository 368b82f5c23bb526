//! Where a hypercall's parameters are, and the walk over the elements of a rep hypercall.

use hv_tlfs::hypercall::HypercallOutput;
use hv_tlfs::page;
use hv_tlfs::status::HvStatus;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::event::Convention;
use crate::faults::Injection;
use crate::host::Host;
use crate::hypercall::Outcome;
use crate::partition::Partition;
use hv_memory::GuestMemory;

/// Bytes of the registers that a fast call's input and output share.
pub(crate) const FAST_BYTES: usize = 128;
/// Fast output starts at a pair of registers.
///
/// The TLFS rounds the input to 8 bytes; guests (Linux reads X6 and X7 after a Get of one register, whose input ends in
/// X4) and shipping hosts use 16.
const PAIR: usize = 16;

/// Where input and output are, checked.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Parameters {
    /// In registers: the first one of the input, and of the output.
    Fast { input: usize, output: usize },
    /// In guest memory.
    Memory { input: u64, output: u64 },
}

impl Parameters {
    /// Places of a fast call with these sizes.
    pub(crate) fn fast(convention: Convention, input: usize, output: usize) -> Result<Self, HvStatus> {
        let [input, output] = [input, output].map(|bytes| bytes.next_multiple_of(PAIR));
        if input + output > FAST_BYTES {
            return Err(HvStatus::INVALID_HYPERCALL_INPUT);
        }
        Ok(match convention {
            Convention::Smccc => Self::Fast { input: 2, output: 2 + input / 8 },
            // The last registers.
            Convention::Hvc1 => Self::Fast { input: 1, output: 1 + (FAST_BYTES - output) / 8 },
        })
    }

    /// Places of a call with these sizes in memory. An address is ignored where there is nothing to pass.
    pub(crate) fn memory(
        memory: &impl GuestMemory,
        convention: Convention,
        x: &[u64; 31],
        input_size: usize,
        output_size: usize,
    ) -> Result<Self, HvStatus> {
        let first = match convention {
            Convention::Smccc => 2,
            Convention::Hvc1 => 1,
        };
        let (input, output) = (x[first], x[first + 1]);
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

/// Alignment, page crossing and bounds: TLFS, "Alignment Requirements" and "Common Hypercall Status Codes".
fn check_block(memory: &impl GuestMemory, gpa: u64, size: usize) -> Result<(), HvStatus> {
    if size == 0 {
        return Ok(());
    }
    let offset = (gpa % page::SIZE as u64) as usize;
    if gpa % 8 != 0 || offset + size > page::SIZE || !memory.contains(gpa, size as u64) {
        return Err(HvStatus::INVALID_ALIGNMENT);
    }
    Ok(())
}

/// A call on its way: its caller, and where its parameters are.
pub(crate) struct Frame<'f, H> {
    pub(crate) host: &'f H,
    pub(crate) vp: usize,
    pub(crate) x: &'f mut [u64; 31],
    pub(crate) parameters: Parameters,
    /// Bytes of the variable header.
    pub(crate) variable: usize,
    /// Offset of the list behind the headers.
    pub(crate) list: usize,
    /// First element to process, and number of elements.
    pub(crate) start: u16,
    pub(crate) count: u16,
}

impl<H: Host> Frame<'_, H> {
    /// Copies a value out of the input. What was copied is judged, and not read again.
    pub(crate) fn read<T: FromBytes + IntoBytes>(&self, offset: usize) -> Result<T, HvStatus> {
        let mut value = T::new_zeroed();
        self.read_bytes(offset, value.as_mut_bytes())?;
        Ok(value)
    }

    /// Copies bytes out of the input.
    pub(crate) fn read_bytes(&self, offset: usize, into: &mut [u8]) -> Result<(), HvStatus> {
        match self.parameters {
            Parameters::Memory { input, .. } => {
                self.host.memory().read(input + offset as u64, into).map_err(|_| HvStatus::INVALID_ALIGNMENT)
            }
            Parameters::Fast { input, .. } => {
                let bytes = self.x[input..].as_bytes();
                let from = bytes.get(offset..offset + into.len()).ok_or(HvStatus::INVALID_HYPERCALL_INPUT)?;
                into.copy_from_slice(from);
                Ok(())
            }
        }
    }

    /// Word `index` of the variable header.
    pub(crate) fn variable_word(&self, index: usize) -> Result<u64, HvStatus> {
        if (index + 1) * 8 > self.variable {
            return Err(HvStatus::INVALID_HYPERCALL_INPUT);
        }
        self.read(self.list - self.variable + index * 8)
    }

    /// Copies a value into the output.
    pub(crate) fn write<T: IntoBytes + Immutable>(
        &mut self,
        offset: usize,
        value: &T,
    ) -> Result<(), HvStatus> {
        match self.parameters {
            Parameters::Memory { output, .. } => self
                .host
                .memory()
                .write(output + offset as u64, value.as_bytes())
                .map_err(|_| HvStatus::INVALID_ALIGNMENT),
            Parameters::Fast { output, .. } => {
                let bytes = self.x[output..].as_mut_bytes();
                let into = bytes
                    .get_mut(offset..offset + size_of::<T>())
                    .ok_or(HvStatus::INVALID_HYPERCALL_INPUT)?;
                into.copy_from_slice(value.as_bytes());
                Ok(())
            }
        }
    }
}

impl Partition<'_> {
    /// Walks over the elements of a rep hypercall, at least one and for as long as the time budget lasts.
    pub(crate) fn each<H: Host>(
        &self,
        frame: &mut Frame<'_, H>,
        mut element: impl FnMut(&mut Frame<'_, H>, usize) -> Result<(), HvStatus>,
    ) -> Outcome {
        let begin = frame.host.counter();
        for index in frame.start..frame.count {
            if let Err(status) = element(frame, usize::from(index)) {
                return Outcome::Done(HypercallOutput::from_status(status).with_reps_completed(index));
            }
            let next = index + 1;
            let late = || frame.host.counter().wrapping_sub(begin) >= self.config().rep_budget;
            if next < frame.count && (late() || frame.host.inject(frame.vp, Injection::Again)) {
                return Outcome::Again(next);
            }
        }
        Outcome::Done(HypercallOutput::SUCCESS.with_reps_completed(frame.count))
    }
}

/// A rep hypercall whose headers are wrong: no element was done.
pub(crate) fn refused(frame: &Frame<'_, impl Host>, status: HvStatus) -> Outcome {
    Outcome::Done(HypercallOutput::from_status(status).with_reps_completed(frame.start))
}
