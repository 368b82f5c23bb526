//! The encoding of a value in a record.

use hv_tlfs::hypercall::{HypercallInput, HypercallOutput};
use hv_tlfs::register::RegisterName;
use hv_tlfs::status::HvStatus;
use hv_tlfs::synic::MessageType;
use hv_tlfs::vmbus::{
    ChannelId, GpadlId, Guid, MessageType as BusMessageType, OfferFlags, PacketType, Version,
};

use crate::{BODY, Payload};

/// A value that a record can contain.
pub(crate) trait Field: Sized {
    /// Its size in bytes.
    const SIZE: usize;

    /// Writes it at `place`, and returns the place after it. The sizes of the table are checked at compile time.
    fn put(&self, body: &mut [u8; BODY], place: usize) -> usize;

    /// Reads it; `None` if the bytes are not a valid value.
    fn take(body: &[u8; BODY], place: usize) -> Option<Self>;
}

macro_rules! integers {
    ($($type:ty),+) => {
        $(impl Field for $type {
            const SIZE: usize = size_of::<Self>();

            #[inline(always)]
            fn put(&self, body: &mut [u8; BODY], place: usize) -> usize {
                body[place..place + Self::SIZE].copy_from_slice(&self.to_le_bytes());
                place + Self::SIZE
            }

            fn take(body: &[u8; BODY], place: usize) -> Option<Self> {
                body.get(place..)?.first_chunk().map(|bytes| Self::from_le_bytes(*bytes))
            }
        })+
    };
}
integers!(u8, u16, u32, u64);

impl Field for bool {
    const SIZE: usize = 1;

    #[inline(always)]
    fn put(&self, body: &mut [u8; BODY], place: usize) -> usize {
        u8::from(*self).put(body, place)
    }

    fn take(body: &[u8; BODY], place: usize) -> Option<Self> {
        match u8::take(body, place)? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
}

/// Implements the trait for newtypes over numbers, for which every number is valid.
macro_rules! numbers {
    ($($type:ident: $number:ty),+ $(,)?) => {
        $(impl Field for $type {
            const SIZE: usize = <$number>::SIZE;

            #[inline(always)]
            fn put(&self, body: &mut [u8; BODY], place: usize) -> usize {
                self.0.put(body, place)
            }

            fn take(body: &[u8; BODY], place: usize) -> Option<Self> {
                <$number>::take(body, place).map(Self)
            }
        })+
    };
}
numbers!(
    HypercallInput: u64,
    HypercallOutput: u64,
    RegisterName: u32,
    HvStatus: u16,
    MessageType: u32,
    BusMessageType: u32,
    ChannelId: u32,
    GpadlId: u32,
    Version: u32,
    OfferFlags: u16,
    PacketType: u16,
);

impl Field for Guid {
    const SIZE: usize = size_of::<Self>();

    #[inline(always)]
    fn put(&self, body: &mut [u8; BODY], place: usize) -> usize {
        self.bytes.put(body, place)
    }

    fn take(body: &[u8; BODY], place: usize) -> Option<Self> {
        <[u8; 16]>::take(body, place).map(|bytes| Self { bytes })
    }
}

impl<T: Field, const COUNT: usize> Field for [T; COUNT]
where
    T: Copy + Default,
{
    const SIZE: usize = T::SIZE * COUNT;

    #[inline(always)]
    fn put(&self, body: &mut [u8; BODY], place: usize) -> usize {
        self.iter().fold(place, |place, value| value.put(body, place))
    }

    fn take(body: &[u8; BODY], place: usize) -> Option<Self> {
        let mut values = [T::default(); COUNT];
        for (n, value) in values.iter_mut().enumerate() {
            *value = T::take(body, place + n * T::SIZE)?;
        }
        Some(values)
    }
}

impl<const ROOM: usize> Field for Payload<ROOM> {
    const SIZE: usize = 2 + ROOM;

    #[inline(always)]
    fn put(&self, body: &mut [u8; BODY], place: usize) -> usize {
        let (length, bytes) = self.parts();
        let place = length.put(body, place);
        body[place..place + ROOM].copy_from_slice(bytes);
        place + ROOM
    }

    fn take(body: &[u8; BODY], place: usize) -> Option<Self> {
        let bytes = *body.get(place + 2..)?.first_chunk()?;
        Self::from_parts(u16::take(body, place)?, bytes)
    }
}
