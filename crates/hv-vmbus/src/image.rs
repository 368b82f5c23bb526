//! Encoding of state to bytes and back: field by field, little-endian, without padding.

use crate::protocol::{
    ChannelId, ChannelOffer, ConnectionState, FeatureFlags, GpadlId, Guid, NtStatus, Version,
};
use hv_memory::save::{Reader, RestoreError, Writer};

/// A type that can be saved.
pub(crate) trait Image: Sized {
    fn save(&self, w: &mut Writer<'_>);

    fn load(r: &mut Reader<'_>) -> Result<Self, RestoreError>;
}

/// Implements it for types that are encoded as their own bytes.
macro_rules! plain {
    ($($Type:ty),+ $(,)?) => {$(
        impl Image for $Type {
            fn save(&self, w: &mut Writer<'_>) {
                w.value(self);
            }

            fn load(r: &mut Reader<'_>) -> Result<Self, RestoreError> {
                r.value()
            }
        }
    )+};
}

plain!(u8, u16, u32, u64);
plain!(ChannelId, ChannelOffer, ConnectionState, FeatureFlags, GpadlId, Guid, NtStatus, Version);

/// Implements it for structures whose fields are saved in the given order; all of them must be listed.
macro_rules! fields {
    ($Type:ty { $($field:ident),+ $(,)? }) => {
        impl $crate::image::Image for $Type {
            fn save(&self, w: &mut hv_memory::save::Writer<'_>) {
                $($crate::image::Image::save(&self.$field, w);)+
            }

            fn load(r: &mut hv_memory::save::Reader<'_>) -> Result<Self, hv_memory::save::RestoreError> {
                Ok(Self { $($field: $crate::image::Image::load(r)?),+ })
            }
        }
    };
}

/// Implements it for enumerations: a byte for the variant, then its fields.
macro_rules! variants {
    ($Type:ty, $what:literal { $($tag:literal => $Variant:ident $(($($part:ident),+))? $({$($field:ident),+})?),+ $(,)? }) => {
        impl $crate::image::Image for $Type {
            fn save(&self, w: &mut hv_memory::save::Writer<'_>) {
                match self {$(
                    Self::$Variant $(($($part),+))? $({$($field),+})? => {
                        let tag: u8 = $tag;
                        $crate::image::Image::save(&tag, w);
                        $($($crate::image::Image::save($part, w);)+)?
                        $($($crate::image::Image::save($field, w);)+)?
                    }
                )+}
            }

            fn load(r: &mut hv_memory::save::Reader<'_>) -> Result<Self, hv_memory::save::RestoreError> {
                match <u8 as $crate::image::Image>::load(r)? {
                    $($tag => {
                        $($(let $part = $crate::image::Image::load(r)?;)+)?
                        $($(let $field = $crate::image::Image::load(r)?;)+)?
                        Ok(Self::$Variant $(($($part),+))? $({$($field),+})?)
                    })+
                    _ => Err(hv_memory::save::RestoreError::Invalid($what)),
                }
            }
        }
    };
}

pub(crate) use {fields, variants};

impl Image for bool {
    fn save(&self, w: &mut Writer<'_>) {
        w.flag(*self);
    }

    fn load(r: &mut Reader<'_>) -> Result<Self, RestoreError> {
        r.flag("flag of VMBus")
    }
}

impl<T: Image> Image for Option<T> {
    fn save(&self, w: &mut Writer<'_>) {
        w.flag(self.is_some());
        if let Some(value) = self {
            value.save(w);
        }
    }

    fn load(r: &mut Reader<'_>) -> Result<Self, RestoreError> {
        if bool::load(r)? { Ok(Some(T::load(r)?)) } else { Ok(None) }
    }
}
