//! An error that hands back the value given to a routine.

use core::error::Error;
use core::fmt;

use hv_tlfs::status::HvError;

/// An error, together with the value that the routine was given and did not keep.
///
/// `?` converts it to the error alone and drops the value; [`into_inner`](Self::into_inner) and
/// [`into_parts`](Self::into_parts) return the value. It implements `Error` for any value.
///
/// ```
/// use hv_guest::{conduit::Conduit, page::{Memory, Page}, partition::Vp, synic::{Synic, SynicError}};
/// fn try_twice<'a, C: Conduit>(
///     vp: Vp<'a, C>,
///     pages: [&'static Page; 3],
///     memory: &impl Memory,
/// ) -> Result<Synic<'a, C>, SynicError> {
///     match vp.enable_synic(pages[0], pages[1], memory) {
///         Ok(synic) => Ok(synic),
///         Err(failed) => Ok(failed.into_inner().enable_synic(pages[0], pages[2], memory)?),
///     }
/// }
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Failed<T, E> {
    value: T,
    error: E,
}

impl<T, E> Failed<T, E> {
    pub(crate) const fn new(value: T, error: E) -> Self {
        Self { value, error }
    }

    /// Returns the error.
    #[must_use]
    pub const fn error(&self) -> &E {
        &self.error
    }

    /// Returns the value.
    #[must_use]
    pub fn into_inner(self) -> T {
        self.value
    }

    /// Returns the error and drops the value.
    #[must_use]
    pub fn into_error(self) -> E {
        self.error
    }

    /// Returns the value and the error.
    #[must_use]
    pub fn into_parts(self) -> (T, E) {
        (self.value, self.error)
    }
}

impl<T, E: fmt::Debug> fmt::Debug for Failed<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Failed").field("error", &self.error).finish_non_exhaustive()
    }
}

impl<T, E: fmt::Display> fmt::Display for Failed<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<T, E: Error> Error for Failed<T, E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}

/// Implements `?` for functions that return the error alone.
macro_rules! without_value {
    ($($error:ty)*) => {$(
        impl<T> From<$crate::failed::Failed<T, $error>> for $error {
            fn from(failed: $crate::failed::Failed<T, $error>) -> Self {
                failed.into_error()
            }
        }
    )*};
}
pub(crate) use without_value;

without_value!(HvError);

/// The first error of several steps that are all carried out.
#[derive(Debug, Default)]
pub(crate) struct First(Option<HvError>);

impl First {
    pub(crate) fn note(&mut self, result: Result<(), HvError>) {
        self.0 = self.0.or(result.err());
    }

    pub(crate) fn result(self) -> Result<(), HvError> {
        self.0.map_or(Ok(()), Err)
    }
}
