//! Saving a partition to bytes, and restoring it.
//!
//! An image holds what the partition knows; the guest's memory, its CPU registers and its interrupt controller are the
//! embedder's to save. It is little-endian, begins with a magic number and a version, and ends with a hash of all
//! before it. Restoring trusts nothing in it: a damaged or newer image is refused, and whatever passes gives a state
//! that the partition could have got into by itself.

use core::fmt;

use hv_tlfs::status::HvStatus;

use crate::event::Event;
use crate::host::Host;
use crate::partition::Partition;
use crate::vp::Power;

/// "hv-part\0", read as a little-endian number.
const MAGIC: u64 = u64::from_le_bytes(*b"hv-part\0");
/// Version of the format. It goes up with every change of what is saved.
const VERSION: u32 = 2;
/// Bytes of the hash at the end.
const HASH: usize = 8;
/// FNV-1a, 64 bits: it finds damage, and is no protection against malice, which the checks of each field are for.
const HASH_START: u64 = 0xcbf2_9ce4_8422_2325;
const HASH_PRIME: u64 = 0x0000_0100_0000_01b3;

/// Why an image was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RestoreError {
    /// It does not begin like an image.
    NotAnImage,
    /// It has this version, which is not known here.
    Version(u32),
    /// The hash at its end does not fit: it is damaged or cut off.
    Damaged,
    /// It is an image of a partition with other VPs, ports or features.
    OtherPartition,
    /// Its part of VMBus was refused.
    Vmbus(hv_vmbus::RestoreError),
    /// This part of it says what cannot be.
    Invalid(&'static str),
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAnImage => f.write_str("not an image of a partition"),
            Self::Version(version) => write!(f, "image of version {version}, known is {VERSION}"),
            Self::Damaged => f.write_str("the image is damaged or cut off"),
            Self::OtherPartition => f.write_str("image of a partition with other VPs, ports or features"),
            Self::Vmbus(error) => error.fmt(f),
            Self::Invalid(part) => write!(f, "the image's {part} cannot be"),
        }
    }
}

impl core::error::Error for RestoreError {}

fn hash(state: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(state, |state, &byte| (state ^ u64::from(byte)).wrapping_mul(HASH_PRIME))
}

/// Writes an image, piece by piece.
pub(crate) struct Writer<'w> {
    sink: &'w mut dyn FnMut(&[u8]),
    hash: u64,
}

impl Writer<'_> {
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.hash = hash(self.hash, bytes);
        (self.sink)(bytes);
    }

    pub(crate) fn u8(&mut self, value: u8) {
        self.bytes(&[value]);
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.bytes(&value.to_le_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.bytes(&value.to_le_bytes());
    }
}

/// Reads an image.
pub(crate) struct Reader<'r> {
    rest: &'r [u8],
}

impl<'r> Reader<'r> {
    pub(crate) fn bytes(&mut self, count: usize) -> Result<&'r [u8], RestoreError> {
        let (bytes, rest) = self.rest.split_at_checked(count).ok_or(RestoreError::Invalid("length"))?;
        self.rest = rest;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], RestoreError> {
        self.bytes(N)?.try_into().map_err(|_| RestoreError::Invalid("length"))
    }

    pub(crate) fn u8(&mut self) -> Result<u8, RestoreError> {
        self.array().map(|[byte]| byte)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, RestoreError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, RestoreError> {
        self.array().map(u64::from_le_bytes)
    }

    /// Nothing may follow.
    pub(crate) fn end(&self) -> Result<(), RestoreError> {
        if self.rest.is_empty() { Ok(()) } else { Err(RestoreError::Invalid("length")) }
    }

    /// A flag, stored as 0 or 1.
    pub(crate) fn flag(&mut self, part: &'static str) -> Result<bool, RestoreError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(RestoreError::Invalid(part)),
        }
    }
}

impl From<Power> for u8 {
    fn from(power: Power) -> Self {
        match power {
            Power::Off => 0,
            Power::Starting => 1,
            Power::On => 2,
        }
    }
}

/// A status that a check of the guest's interface gives says, in an image, that the part cannot be.
pub(crate) fn invalid(part: &'static str) -> impl Fn(HvStatus) -> RestoreError {
    move |_| RestoreError::Invalid(part)
}

impl Partition<'_> {
    /// Writes an image of the partition to `sink`, piece by piece. No VP may be in a call of the partition meanwhile.
    /// VMBus's rings are in the guest's memory.
    pub fn save(&self, host: &impl Host, sink: &mut dyn FnMut(&[u8])) {
        let mut writer = Writer { sink, hash: HASH_START };
        let w = &mut writer;
        w.u64(MAGIC);
        w.u32(VERSION);
        w.u64(self.fingerprint());
        self.save_shared(host, w);
        for vp in self.vps() {
            vp.save(w);
        }
        self.save_vmbus(w);
        let hash = w.hash;
        w.u64(hash);
    }

    /// Puts the partition into the state of an image. The guest's memory has to be restored before, and after it
    /// [`timer_expired`](Self::timer_expired) has to be called on every VP. The reference time goes on from where it
    /// was, with the counter frequency that it had; if that is another now, call [`migrate`](Self::migrate).
    ///
    /// # Errors
    /// The image is refused: see [`RestoreError`]. The partition is then as after [`reset`](Self::reset); if it was VMBus's
    /// part that was refused, channels that were offered by [`with_vmbus`](Self::with_vmbus) are gone.
    pub fn restore(&self, host: &impl Host, image: &[u8]) -> Result<(), RestoreError> {
        self.reset(host);
        let restored = self.restore_image(host, image);
        if restored.is_err() {
            self.reset(host);
        }
        restored
    }

    fn restore_image(&self, host: &impl Host, image: &[u8]) -> Result<(), RestoreError> {
        let body = image.len().checked_sub(HASH).ok_or(RestoreError::NotAnImage)?;
        let (body, end) = image.split_at(body);
        let mut reader = Reader { rest: body };
        let r = &mut reader;
        if r.u64() != Ok(MAGIC) {
            return Err(RestoreError::NotAnImage);
        }
        match r.u32().map_err(|_| RestoreError::NotAnImage)? {
            VERSION => {}
            version => return Err(RestoreError::Version(version)),
        }
        if end != hash(HASH_START, body).to_le_bytes() {
            return Err(RestoreError::Damaged);
        }
        if r.u64()? != self.fingerprint() {
            return Err(RestoreError::OtherPartition);
        }
        self.restore_shared(host, r)?;
        for vp in self.vps() {
            vp.restore(r, self.ports())?;
        }
        self.restore_vmbus(r)?;
        host.observe(&Event::Restored);
        Ok(())
    }

    /// A hash of what an image must have in common with the partition that it is restored to.
    fn fingerprint(&self) -> u64 {
        let config = self.config();
        let features = config.profile.features;
        let words = [
            self.vp_count() as u64,
            self.ports().len() as u64,
            features.privileges.0,
            u64::from(features.c.0),
            u64::from(config.profile.enlightenments.hints.0),
            config.partition_id,
            u64::from(config.cluster),
            u64::from(config.vmbus),
        ];
        words.iter().fold(HASH_START, |state, word| hash(state, &word.to_le_bytes()))
    }
}
