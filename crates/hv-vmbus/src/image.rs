//! How state becomes bytes and comes back: field after field, little-endian, without padding.

use crate::protocol::{
    ChannelId, ChannelOffer, ConnectionState, FeatureFlags, GpadlId, Guid, NtStatus, Version, ic,
};
use core::fmt;
use zerocopy::{FromBytes, IntoBytes};

/// Why an image was not restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RestoreError {
    /// It does not begin as an image of this server does.
    NotAnImage,
    /// It was saved in a format that this version does not know.
    Format(u16),
    /// It ends too early.
    Truncated,
    /// It holds more channels, page lists or pages than this server has room for.
    NoRoom,
    /// What it says cannot be: it was damaged, or saved by a host with another configuration.
    Invalid(&'static str),
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAnImage => f.write_str("not a saved VMBus server"),
            Self::Format(format) => write!(f, "saved in format {format}, which this version does not know"),
            Self::Truncated => f.write_str("the saved VMBus server is cut off"),
            Self::NoRoom => f.write_str("the saved VMBus server is larger than this one"),
            Self::Invalid(what) => write!(f, "the saved VMBus server is damaged: {what}"),
        }
    }
}

impl core::error::Error for RestoreError {}

/// Where bytes go.
pub(crate) type Sink<'s> = dyn FnMut(&[u8]) + 's;

/// Where bytes come from.
pub(crate) struct Source<'s> {
    rest: &'s [u8],
}

impl<'s> Source<'s> {
    pub(crate) fn new(image: &'s [u8]) -> Self {
        Self { rest: image }
    }

    /// How many bytes are left.
    pub(crate) fn left(&self) -> usize {
        self.rest.len()
    }
}

/// Something that can be saved.
pub(crate) trait Image: Sized {
    fn save(&self, sink: &mut Sink<'_>);

    fn load(source: &mut Source<'_>) -> Result<Self, RestoreError>;
}

/// Types that are their own bytes.
macro_rules! plain {
    ($($Type:ty),+ $(,)?) => {$(
        impl Image for $Type {
            fn save(&self, sink: &mut Sink<'_>) {
                sink(self.as_bytes());
            }

            fn load(source: &mut Source<'_>) -> Result<Self, RestoreError> {
                let (value, rest) = Self::read_from_prefix(source.rest).map_err(|_| RestoreError::Truncated)?;
                source.rest = rest;
                Ok(value)
            }
        }
    )+};
}

plain!(u8, u16, u32, u64);
plain!(ChannelId, ChannelOffer, ConnectionState, FeatureFlags, GpadlId, Guid, NtStatus, Version, ic::Version);

/// Structures whose fields are saved in the order given, which names all of them.
macro_rules! fields {
    ($Type:ty { $($field:ident),+ $(,)? }) => {
        impl $crate::image::Image for $Type {
            fn save(&self, sink: &mut $crate::image::Sink<'_>) {
                $($crate::image::Image::save(&self.$field, sink);)+
            }

            fn load(source: &mut $crate::image::Source<'_>) -> Result<Self, $crate::image::RestoreError> {
                Ok(Self { $($field: $crate::image::Image::load(source)?),+ })
            }
        }
    };
}

/// Enumerations: a byte that tells the variant, then its fields.
macro_rules! variants {
    ($Type:ty, $what:literal { $($tag:literal => $Variant:ident $(($($part:ident),+))? $({$($field:ident),+})?),+ $(,)? }) => {
        impl $crate::image::Image for $Type {
            fn save(&self, sink: &mut $crate::image::Sink<'_>) {
                match self {$(
                    Self::$Variant $(($($part),+))? $({$($field),+})? => {
                        let tag: u8 = $tag;
                        $crate::image::Image::save(&tag, sink);
                        $($($crate::image::Image::save($part, sink);)+)?
                        $($($crate::image::Image::save($field, sink);)+)?
                    }
                )+}
            }

            fn load(source: &mut $crate::image::Source<'_>) -> Result<Self, $crate::image::RestoreError> {
                match <u8 as $crate::image::Image>::load(source)? {
                    $($tag => {
                        $($(let $part = $crate::image::Image::load(source)?;)+)?
                        $($(let $field = $crate::image::Image::load(source)?;)+)?
                        Ok(Self::$Variant $(($($part),+))? $({$($field),+})?)
                    })+
                    _ => Err($crate::image::RestoreError::Invalid($what)),
                }
            }
        }
    };
}

pub(crate) use {fields, variants};

impl Image for bool {
    fn save(&self, sink: &mut Sink<'_>) {
        u8::from(*self).save(sink);
    }

    fn load(source: &mut Source<'_>) -> Result<Self, RestoreError> {
        match u8::load(source)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(RestoreError::Invalid("a flag that is neither 0 nor 1")),
        }
    }
}

/// Counts and indices, which fit 32 bits.
impl Image for usize {
    fn save(&self, sink: &mut Sink<'_>) {
        (*self as u32).save(sink);
    }

    fn load(source: &mut Source<'_>) -> Result<Self, RestoreError> {
        Ok(u32::load(source)? as usize)
    }
}

impl<T: Image> Image for Option<T> {
    fn save(&self, sink: &mut Sink<'_>) {
        self.is_some().save(sink);
        if let Some(value) = self {
            value.save(sink);
        }
    }

    fn load(source: &mut Source<'_>) -> Result<Self, RestoreError> {
        if bool::load(source)? { Ok(Some(T::load(source)?)) } else { Ok(None) }
    }
}
