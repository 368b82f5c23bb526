//! File copy: the host puts a file into the guest, piece by piece.
//!
//! A copy is a start, pieces of at most [`FRAGMENT_SIZE`] bytes, and an end, each of which the guest answers. The
//! order is the embedder's: the device keeps nothing of a copy but what it asked last.

use core::mem::offset_of;

use crate::ic::{self, FRAMEWORK_3, Heard, Ic, Link, Outcome, Refused, Service};
use hv_memory::save::{Reader, RestoreError, Writer};
use hv_tlfs::vmbus::fcopy::{
    Data, FLAG_CREATE_PATH, FLAG_OVERWRITE, FRAGMENT_SIZE, Header, MAX_PATH_CHARS, Operation, Start,
};
use hv_tlfs::vmbus::ic::{MessageType, Version};
use hv_tlfs::vmbus::{ChannelOffer, Guid, guid};
use hv_vmbus::{Backend, BusPort, Io, Never, Packet};
use zerocopy::little_endian::U64;
use zerocopy::{FromZeros, IntoBytes};

/// The service as Hyper-V offers it. Linux's daemon from 6.10 on looks for this instance.
pub const OFFER: ChannelOffer = ic::offer(
    guid::FILE_COPY,
    Guid::new(0xeb76_5408, 0x105f, 0x49b6, [0xb4, 0xaa, 0xc1, 0x23, 0xb6, 0x4d, 0x17, 0xd4]),
);

/// Bytes of a piece before its data.
const FRONT: usize = offset_of!(Data, data);

/// A request to the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ask<'a> {
    /// A file begins. Texts are UTF-16 with their terminating zeros.
    Start {
        /// Its name.
        file: &'a [u8],
        /// Its folder. Linux finds or makes those of its folders that are followed by a slash.
        folder: &'a [u8],
        /// Replace a file of the same name.
        overwrite: bool,
        /// Create missing folders.
        create_path: bool,
        /// Number of its bytes.
        size: u64,
    },
    /// A piece of it.
    Write {
        /// Where it belongs.
        offset: u64,
        /// Its bytes.
        data: &'a [u8],
    },
    /// It is whole.
    Complete,
    /// It is given up: Linux removes it.
    Cancel,
}

impl Ask<'_> {
    const fn operation(&self) -> Operation {
        match self {
            Self::Start { .. } => Operation::START,
            Self::Write { .. } => Operation::WRITE,
            Self::Complete => Operation::COMPLETE,
            Self::Cancel => Operation::CANCEL,
        }
    }
}

/// The host side of the service.
pub type Fcopy = Ic<Copying>;

/// What is the service's own.
#[derive(Clone, Copy, Debug)]
pub struct Copying {
    asked: Operation,
}

impl Fcopy {
    /// Creates the service.
    #[must_use]
    pub const fn new() -> Self {
        Self::with(Copying { asked: Operation::START })
    }

    /// Sends a request to the guest.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn ask<P: BusPort>(&mut self, io: &mut Io<'_, P, Never>, ask: &Ask<'_>) -> Result<(), Refused> {
        let mut header = Header::new_zeroed();
        header.operation = ask.operation();
        match *ask {
            Ask::Start { file, folder, overwrite, create_path, size } => {
                let mut start = Start::new_zeroed();
                start.header = header;
                put(&mut start.file_name, file)?;
                put(&mut start.path_name, folder)?;
                let flags = [(overwrite, FLAG_OVERWRITE), (create_path, FLAG_CREATE_PATH)];
                start.flags = flags.iter().filter(|(on, _)| *on).map(|(_, flag)| flag).sum();
                start.file_size = U64::new(size);
                self.link.ask(io, &[start.as_bytes()])?;
            }
            Ask::Write { offset, data } => {
                if data.is_empty() || data.len() > FRAGMENT_SIZE {
                    return Err(Refused::Invalid);
                }
                let mut front = [0; FRONT];
                front[..size_of::<Header>()].copy_from_slice(header.as_bytes());
                front[offset_of!(Data, offset)..][..8].copy_from_slice(&offset.to_le_bytes());
                front[offset_of!(Data, size)..][..4].copy_from_slice(&(data.len() as u32).to_le_bytes());
                self.link.ask_padded(io, &[&front, data], size_of::<Data>())?;
            }
            Ask::Complete | Ask::Cancel => self.link.ask(io, &[header.as_bytes()])?,
        }
        self.own.asked = ask.operation();
        Ok(())
    }

    /// Takes the outcome of the last request, with its operation.
    pub fn take(&mut self) -> Option<(Operation, Outcome)> {
        let outcome = self.link.take()?;
        Some((self.own.asked, outcome))
    }
}

impl Default for Fcopy {
    fn default() -> Self {
        Self::new()
    }
}

/// Puts a text into its place, if it is terminated, has whole characters, and fits.
fn put(place: &mut [u8; 2 * MAX_PATH_CHARS], text: &[u8]) -> Result<(), Refused> {
    let is_text = text.len() > 2 && text.ends_with(&[0, 0]) && text.len().is_multiple_of(2);
    let place = place.get_mut(..text.len()).filter(|_| is_text).ok_or(Refused::Invalid)?;
    place.copy_from_slice(text);
    Ok(())
}

impl Service for Copying {
    const NAME: [u8; 4] = *b"fcpy";
    const KIND: MessageType = MessageType::FILE_COPY;
    const FRAMEWORKS: &'static [Version] = FRAMEWORK_3;
    const VERSIONS: &'static [Version] = &[Version { major: 1, minor: 1 }];
    /// Linux reads one packet per interrupt.
    const SIGNAL_EACH: bool = true;
    /// Maximum size that Linux 6.1 reads of a packet.
    const PACKET_LIMIT: u32 = 8192;

    fn heard<P: Backend<Never>>(
        &mut self,
        link: &mut Link<Self>,
        heard: Heard,
        packet: &mut Packet<'_, P::Memory>,
        io: &mut Io<'_, P, Never>,
    ) {
        if let Some(status) = link.answers(&heard) {
            let header: Option<Header> = packet.take();
            let right = header.is_some_and(|header| header.operation == self.asked);
            link.end(io, if right { Outcome::Answered(status) } else { Outcome::Malformed });
        }
    }

    fn reset(&mut self) {
        self.asked = Operation::START;
    }

    fn save(&self, w: &mut Writer<'_>) {
        w.u32(self.asked.0);
    }

    fn restore(&mut self, r: &mut Reader<'_>) -> Result<(), RestoreError> {
        self.asked = Operation(r.u32()?);
        if self.asked.0 > Operation::CANCEL.0 {
            return Err(RestoreError::Invalid("operation of the file copy service"));
        }
        Ok(())
    }
}
