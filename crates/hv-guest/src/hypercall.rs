//! Typed hypercalls: fast and memory-based, simple and rep.
//!
//! The routines of the other modules are made of these; they are public for hypercalls that have no routine, and `unsafe`
//! because a hypercall can do anything ([`crate::conduit`]).
//!
//! Source: TLFS, "Hypercall Interface": "Hypercall Classes", "Hypercall Continuation", "Hypercall Inputs", "Hypercall
//! Outputs"; alignment of parameters, "Alignment Requirements".

use core::fmt;

use hv_tlfs::hypercall::{HypercallCode, HypercallInput};
use hv_tlfs::page::SIZE;
use hv_tlfs::status::HvError;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::conduit::{Conduit, FAST_WORDS, FastOutput};
use crate::page::CallPage;

/// Most elements of one rep hypercall: what the count's 12 bits hold.
pub const MAX_REPS: usize = 0xfff;

/// A fast hypercall: input and output in registers, together at most 128 bytes, each rounded up to 16.
///
/// `control` needs code, rep count and variable header size; the fast bit is set here. The types' sizes are checked
/// when the call is compiled.
///
/// # Safety
///
/// As for [`Conduit::call`].
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
        // SAFETY: the caller's promise.
        unsafe { conduit.call_2(control, words(input)) }.to_result()?;
        return Ok(O::new_zeroed());
    }
    if size_of::<O>() == 0 && size_of::<I>() <= 48 {
        // SAFETY: the caller's promise.
        unsafe { conduit.call_6(control, words(input)) }.to_result()?;
        return Ok(O::new_zeroed());
    }
    let mut block: [u64; FAST_WORDS] = words(input);
    // SAFETY: the caller's promise.
    unsafe { conduit.call(control, &mut block) }.to_result()?;
    let first = conduit.fast_output().first_word(size_of::<I>(), size_of::<O>()).unwrap_or(0);
    let output = block.get(first..).unwrap_or(&[]).as_bytes();
    Ok(O::read_from_prefix(output).map_or_else(|_| O::new_zeroed(), |(value, _)| value))
}

/// The input in words, the rest zero. What does not fit is cut off; callers check the size.
#[inline]
fn words<const N: usize>(input: &(impl IntoBytes + Immutable)) -> [u64; N] {
    let mut words = [0; N];
    for (to, from) in words.as_mut_bytes().iter_mut().zip(input.as_bytes()) {
        *to = *from;
    }
    words
}

/// A simple memory-based hypercall: input and output in a page, each at a multiple of 16, neither crossing its end.
///
/// # Safety
///
/// As for [`Conduit::call`]; the output's place in the page is seen to here.
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
    // A call without output gets no address: a hypervisor that wrote one would be wrong, one that checks it may refuse.
    let output_gpa = if size_of::<O>() == 0 { 0 } else { page.gpa_at(output_at) };
    // SAFETY: the output is in the page, which is lent for the length of the call; for the rest, the caller's promise.
    unsafe { conduit.call_2(control.with_fast(false), [page.gpa_at(0), output_gpa]) }.to_result()?;
    let mut output = O::new_zeroed();
    page.page().read(output_at, output.as_mut_bytes());
    Ok(output)
}

/// A memory-based hypercall whose header has a variable part, or that has lists: a rep hypercall.
///
/// ```text
/// | header H | variable part: words | input elements E ... | padding to 16 | output elements T ... |
/// ```
#[derive(Debug)]
pub struct Rep<'a, H, E, T> {
    /// Which hypercall.
    pub code: HypercallCode,
    /// The fixed part of the header: a multiple of 8 bytes.
    pub header: &'a H,
    /// The variable part of the header, such as the banks of a VP set.
    pub variable: &'a [u64],
    /// Input elements.
    pub input: &'a [E],
    /// Output elements. Where there are both, they are as many as the input's.
    pub output: &'a mut [T],
}

/// Why a rep hypercall stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RepError {
    /// The hypervisor refused an element, or all of it.
    Status {
        /// Why.
        error: HvError,
        /// Elements that were done before.
        completed: usize,
    },
    /// The hypervisor keeps returning success without doing anything.
    Stuck {
        /// Elements that were done before.
        completed: usize,
    },
    /// The lists differ in length, or are too long for a page or for the rep count.
    Shape,
}

impl RepError {
    /// The hypervisor's error, if it is one of the hypervisor's: the whole of it for a call without a list.
    #[must_use]
    pub const fn error(self) -> Option<HvError> {
        match self {
            Self::Status { error, .. } => Some(error),
            Self::Stuck { .. } | Self::Shape => None,
        }
    }

    /// How many elements were done.
    #[must_use]
    pub const fn completed(self) -> usize {
        match self {
            Self::Status { completed, .. } | Self::Stuck { completed } => completed,
            Self::Shape => 0,
        }
    }

    /// The same for a list of which `before` elements were done by earlier calls.
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
            Self::Shape => f.write_str("lists that do not fit the hypercall"),
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
    /// Issues the call, again and again until every element is done. With no elements at all it is issued once, as a
    /// simple hypercall.
    ///
    /// # Safety
    ///
    /// As for [`Conduit::call`]; the output's place in the page is seen to here.
    ///
    /// # Errors
    ///
    /// [`RepError`]. Output elements that were done before an error are filled.
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
        // SAFETY: as in `memory`.
        let result = unsafe { repeat(conduit, control, [page.gpa_at(0), output_gpa]) };
        let done = result.map_or_else(RepError::completed, |()| count);
        if let Some(filled) = self.output.get_mut(..done) {
            page.page().read(output_at, filled.as_mut_bytes());
        }
        result
    }
}

/// Continues a rep hypercall that the hypervisor left half done (TLFS, "Hypercall Continuation") until it is done.
///
/// The hypervisor usually continues by itself: it lets the guest execute the same instruction again. A return with
/// success and fewer elements than asked for is allowed too.
///
/// # Safety
///
/// As for [`Conduit::call`].
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
        // SAFETY: the caller's promise.
        let result = unsafe { conduit.call_2(control.with_rep_start(completed), addresses) };
        // What the hypervisor says is done is believed between what was done before and what was asked for.
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
