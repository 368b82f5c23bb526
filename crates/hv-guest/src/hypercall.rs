//! Typed hypercalls: fast and memory-based, simple and rep.
//!
//! The routines of the other modules are built on these. They are public for hypercalls without a routine, and `unsafe`
//! because a hypercall can do anything ([`crate::conduit`]).
//!
//! Source: TLFS, "Hypercall Interface": "Hypercall Classes", "Hypercall Continuation", "Hypercall Inputs", "Hypercall
//! Outputs", "Alignment Requirements".

use core::fmt;

use hv_tlfs::hypercall::{HypercallCode, HypercallInput};
use hv_tlfs::page::SIZE;
use hv_tlfs::status::HvError;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::conduit::{Conduit, FAST_WORDS, FastOutput};
use crate::page::CallPage;

/// Maximum number of elements in one rep hypercall: the count has 12 bits.
pub const MAX_REPS: usize = 0xfff;

/// Issues a fast hypercall: input and output in registers, together at most 128 bytes, each rounded up to 16.
///
/// `control` needs code, rep count and variable header size; the fast bit is set here. The sizes of the types are
/// checked at compile time.
///
/// # Safety
///
/// The caller vouches for the effects of the call, as for [`Conduit::call`].
///
/// # Errors
///
/// The hypervisor's status.
#[doc(alias = "hv_do_fast_hypercall8")]
#[doc(alias = "hv_do_fast_hypercall16")]
#[inline]
pub unsafe fn fast<C, I, O>(conduit: &C, control: HypercallInput, input: &I) -> Result<O, HvError>
where
    C: Conduit + ?Sized,
    I: IntoBytes + Immutable,
    O: FromBytes,
{
    const { assert!(FastOutput::AfterInput.first_word(size_of::<I>(), size_of::<O>()).is_some()) }
    let control = control.with_fast(true);
    if size_of::<O>() == 0 && size_of::<I>() <= 16 {
        // SAFETY: the caller vouches for the effects of the call; input and output are in registers.
        unsafe { conduit.call_2(control, words(input)) }.to_result()?;
        return Ok(O::new_zeroed());
    }
    if size_of::<O>() == 0 && size_of::<I>() <= 48 {
        // SAFETY: the caller vouches for the effects of the call; input and output are in registers.
        unsafe { conduit.call_6(control, words(input)) }.to_result()?;
        return Ok(O::new_zeroed());
    }
    let mut block: [u64; FAST_WORDS] = words(input);
    // SAFETY: the caller vouches for the effects of the call; input and output are in registers.
    unsafe { conduit.call(control, &mut block) }.to_result()?;
    let first = conduit.fast_output().first_word(size_of::<I>(), size_of::<O>()).unwrap_or(0);
    let output = block.get(first..).unwrap_or(&[]).as_bytes();
    Ok(O::read_from_prefix(output).map_or_else(|_| O::new_zeroed(), |(value, _)| value))
}

/// Converts the input to words, padded with zeros. Excess bytes are cut off; callers check the size.
#[inline]
fn words<const N: usize>(input: &(impl IntoBytes + Immutable)) -> [u64; N] {
    let mut words = [0; N];
    for (to, from) in words.as_mut_bytes().iter_mut().zip(input.as_bytes()) {
        *to = *from;
    }
    words
}

/// Issues a simple memory-based hypercall. Input and output are in a page, each at a multiple of 16, neither crossing
/// its end.
///
/// # Safety
///
/// The caller vouches for the effects of the call, as for [`Conduit::call`], except for the location of the output,
/// which is in the call page.
///
/// # Errors
///
/// The hypervisor's status.
#[doc(alias = "hv_do_hypercall")]
pub unsafe fn memory<C, I, O>(
    conduit: &C,
    page: &mut CallPage<'_>,
    control: HypercallInput,
    input: &I,
) -> Result<O, HvError>
where
    C: Conduit + ?Sized,
    I: IntoBytes + Immutable,
    O: FromBytes + IntoBytes,
{
    const { assert!(size_of::<I>().next_multiple_of(16) + size_of::<O>() <= SIZE) }
    let output_at = size_of::<I>().next_multiple_of(16);
    page.page().write(0, input.as_bytes());
    // A call without output gets no output address: no hypervisor should write to it, and one that checks it may reject
    // the call.
    let output_gpa = if size_of::<O>() == 0 { 0 } else { page.gpa_at(output_at) };
    // SAFETY: the output goes to the call page, which consists of atomics and is lent to the hypervisor for the
    // duration of the call; the caller vouches for all other effects.
    unsafe { conduit.call_2(control.with_fast(false), [page.gpa_at(0), output_gpa]) }.to_result()?;
    let mut output = O::new_zeroed();
    page.page().read(output_at, output.as_mut_bytes());
    Ok(output)
}

/// A memory-based hypercall with a variable header or with lists: a rep hypercall.
///
/// ```text
/// | header H | variable part: words | input elements E ... | padding to 16 | output elements T ... |
/// ```
#[derive(Debug)]
pub struct Rep<'a, H, E, T> {
    /// The call code.
    pub code: HypercallCode,
    /// The fixed part of the header: a multiple of 8 bytes.
    pub header: &'a H,
    /// The variable part of the header, such as the banks of a VP set.
    pub variable: &'a [u64],
    /// Input elements.
    pub input: &'a [E],
    /// Output elements. If there are input elements too, both lists have the same length.
    pub output: &'a mut [T],
}

/// Reason why a rep hypercall stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RepError {
    /// The hypervisor rejected an element, or the whole call.
    Status {
        /// The status.
        error: HvError,
        /// Number of elements completed before the error.
        completed: usize,
    },
    /// The hypervisor keeps returning success without making progress.
    Stuck {
        /// Number of elements completed.
        completed: usize,
    },
    /// The lists differ in length, or are too long for a page or for the rep count.
    Shape,
}

impl RepError {
    /// Returns the hypervisor's error, if it is one: for a call without a list, the whole error.
    #[must_use]
    pub const fn error(self) -> Option<HvError> {
        match self {
            Self::Status { error, .. } => Some(error),
            Self::Stuck { .. } | Self::Shape => None,
        }
    }

    /// Returns the number of elements completed.
    #[must_use]
    pub const fn completed(self) -> usize {
        match self {
            Self::Status { completed, .. } | Self::Stuck { completed } => completed,
            Self::Shape => 0,
        }
    }

    /// Adds `before`, the number of elements completed by earlier calls.
    #[must_use]
    pub(crate) const fn after(self, before: usize) -> Self {
        match self {
            Self::Status { error, completed } => Self::Status { error, completed: before + completed },
            Self::Stuck { completed } => Self::Stuck { completed: before + completed },
            Self::Shape => Self::Shape,
        }
    }
}

impl fmt::Display for RepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status { error, completed } => write!(f, "{error}, after {completed} elements"),
            Self::Stuck { completed } => write!(f, "no progress after {completed} elements"),
            Self::Shape => f.write_str("the lists differ in length or exceed what one hypercall can take"),
        }
    }
}

impl core::error::Error for RepError {}

impl<H, E, T> Rep<'_, H, E, T>
where
    H: IntoBytes + Immutable,
    E: IntoBytes + Immutable,
    T: FromBytes + IntoBytes,
{
    /// Issues the call, repeatedly until all elements are completed. Without elements it is issued once, as a simple
    /// hypercall.
    ///
    /// # Safety
    ///
    /// The caller vouches for the effects of the call, as for [`Conduit::call`], except for the location of the output,
    /// which is in the call page.
    ///
    /// # Errors
    ///
    /// [`RepError`]. Output elements completed before the error are filled in.
    pub unsafe fn call<C: Conduit + ?Sized>(
        self,
        conduit: &C,
        page: &mut CallPage<'_>,
    ) -> Result<(), RepError> {
        const { assert!(size_of::<H>().is_multiple_of(8)) }
        let list = size_of_val(self.input);
        let variable_at = size_of::<H>();
        let input_at = variable_at + size_of_val(self.variable);
        let output_at = (input_at + list).next_multiple_of(16);
        let count = self.input.len().max(self.output.len());
        let both = !self.input.is_empty() && !self.output.is_empty();
        if (both && self.input.len() != self.output.len())
            || count > MAX_REPS
            || output_at + size_of_val(&*self.output) > SIZE
        {
            return Err(RepError::Shape);
        }
        page.page().write(0, self.header.as_bytes());
        page.page().write(variable_at, self.variable.as_bytes());
        page.page().write(input_at, self.input.as_bytes());
        let output_gpa = if self.output.is_empty() { 0 } else { page.gpa_at(output_at) };
        let control = HypercallInput::from_code(self.code)
            .with_variable_header_size(self.variable.len() as u16)
            .with_rep_count(count as u16);
        // SAFETY: input and output are in the call page, which consists of atomics and is lent to the hypervisor for
        // the duration of the call; the caller vouches for all other effects.
        let result = unsafe { repeat(conduit, control, [page.gpa_at(0), output_gpa]) };
        let done = result.map_or_else(RepError::completed, |()| count);
        if let Some(filled) = self.output.get_mut(..done) {
            page.page().read(output_at, filled.as_mut_bytes());
        }
        result
    }
}

/// Continues a rep hypercall that the hypervisor returned from early (TLFS, "Hypercall Continuation") until all
/// elements are completed.
///
/// The hypervisor usually continues it itself: it makes the guest execute the same instruction again. It may also
/// return success with fewer elements completed than requested.
///
/// # Safety
///
/// The caller vouches for the effects of the call, as for [`Conduit::call`].
///
/// # Errors
///
/// [`RepError`]; never [`RepError::Shape`].
#[doc(alias = "hv_do_rep_hypercall")]
pub unsafe fn repeat<C: Conduit + ?Sized>(
    conduit: &C,
    control: HypercallInput,
    addresses: [u64; 2],
) -> Result<(), RepError> {
    let count = control.rep_count();
    let mut completed = control.rep_start();
    loop {
        // SAFETY: the caller vouches for the effects of the call, by this function's contract; only the start index
        // changes between the calls.
        let result = unsafe { conduit.call_2(control.with_rep_start(completed), addresses) };
        // The number of completed elements is clamped between the previous number and the requested number.
        let done = result.reps_completed().min(count).max(completed);
        if let Err(error) = result.to_result() {
            return Err(RepError::Status { error, completed: usize::from(done) });
        }
        if done == count {
            return Ok(());
        }
        if done == completed {
            return Err(RepError::Stuck { completed: usize::from(done) });
        }
        completed = done;
    }
}
