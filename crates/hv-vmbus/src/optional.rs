//! Optional values whose absence is all zeros.

use crate::image::Image;
use hv_memory::save::{Reader, RestoreError, Writer};

/// An [`Option`] whose `None` is all zeros, unlike that of a type with a niche.
///
/// A bus is a large static of a bare-metal host. As long as a new one is all zeros, it takes no room in the host's
/// image and no time to load.
///
/// Its tag is a word, so that the value is moved by words: EL2 checks alignment.
#[derive(Clone, Copy, Debug)]
#[repr(u64)]
pub(crate) enum Optional<T> {
    None = 0,
    Some(T) = 1,
}

impl<T> Optional<T> {
    pub(crate) const fn is_some(&self) -> bool {
        matches!(self, Self::Some(_))
    }

    pub(crate) const fn is_none(&self) -> bool {
        !self.is_some()
    }

    pub(crate) const fn as_ref(&self) -> Option<&T> {
        match self {
            Self::None => None,
            Self::Some(value) => Some(value),
        }
    }

    pub(crate) const fn as_mut(&mut self) -> Option<&mut T> {
        match self {
            Self::None => None,
            Self::Some(value) => Some(value),
        }
    }

    pub(crate) fn take(&mut self) -> Option<T> {
        match core::mem::replace(self, Self::None) {
            Self::None => None,
            Self::Some(value) => Some(value),
        }
    }

    pub(crate) fn get(&self) -> Option<T>
    where
        T: Copy,
    {
        self.as_ref().copied()
    }
}

impl<T> From<Option<T>> for Optional<T> {
    fn from(value: Option<T>) -> Self {
        match value {
            None => Self::None,
            Some(value) => Self::Some(value),
        }
    }
}

impl<T: Image> Image for Optional<T> {
    fn save(&self, w: &mut Writer<'_>) {
        w.flag(self.is_some());
        if let Self::Some(value) = self {
            value.save(w);
        }
    }

    fn load(r: &mut Reader<'_>) -> Result<Self, RestoreError> {
        Option::load(r).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_optional_is_the_option_of_the_same_value() {
        for value in [None, Some(0), Some(7)] {
            let mut optional = Optional::from(value);
            assert_eq!((optional.is_some(), optional.is_none()), (value.is_some(), value.is_none()));
            assert_eq!((optional.get(), optional.as_ref().copied()), (value, value));
            assert_eq!(optional.as_mut().copied(), value);
            assert_eq!((optional.take(), optional.get()), (value, None));
        }
    }
}
