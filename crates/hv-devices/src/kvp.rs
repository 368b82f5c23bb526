//! Key-value pairs: information that host and guest give each other.
//!
//! Linux's driver does not read the channel before a program in the guest has registered with it, so the versions may
//! never be answered. Text is UTF-16 with a terminating zero, in both directions.

use crate::ic::{self, Heard, Ic, Link, Outcome, Refused, Service};
use hv_memory::GuestMemory;
use hv_memory::save::{Reader, RestoreError, Writer};
use hv_tlfs::vmbus::ic::{MessageType, Status, Version};
use hv_tlfs::vmbus::kvp::{
    Delete, Enumerate, Header, IpAddress, IpMessage, MAX_KEY_SIZE, MAX_VALUE_SIZE, Operation, Pool,
    VALUE_TEXT, Value,
};
use hv_tlfs::vmbus::{ChannelOffer, Guid, guid};
use hv_vmbus::{Backend, BusPort, Io, Never, Packet};
use zerocopy::{FromZeros, IntoBytes};

/// The service as Hyper-V offers it.
pub const OFFER: ChannelOffer = ic::offer(
    guid::KVP,
    Guid::new(0x242f_f919, 0x07db, 0x4180, [0x9c, 0x2e, 0xb8, 0x6c, 0xb6, 0x8c, 0x8c, 0x55]),
);

/// A request to the guest. Texts are UTF-16 with their terminating zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ask<'a> {
    /// The value of a key.
    Get {
        /// The pool.
        pool: Pool,
        /// The key.
        key: &'a [u8],
    },
    /// Set it.
    Set {
        /// The pool.
        pool: Pool,
        /// The key.
        key: &'a [u8],
        /// The value.
        value: &'a [u8],
    },
    /// Remove the key.
    Delete {
        /// The pool.
        pool: Pool,
        /// The key.
        key: &'a [u8],
    },
    /// The pair with this index.
    Enumerate {
        /// The pool.
        pool: Pool,
        /// Index in the pool.
        index: u32,
    },
    /// Addresses of a network adapter.
    Addresses {
        /// Name of the adapter in text.
        adapter: &'a [u8],
    },
}

/// The guest's answer, in addition to its status. Texts are from the guest, of even length and without terminating
/// zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer<'a> {
    /// Nothing more.
    Nothing,
    /// A pair.
    Pair {
        /// The key.
        key: &'a [u8],
        /// [`VALUE_TEXT`] or another type of the module `kvp` of the interface.
        value_type: u32,
        /// The value.
        value: &'a [u8],
    },
    /// Addresses of a network adapter.
    Addresses(&'a IpAddress),
}

/// The guest's last answer, validated.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::large_enum_variant, reason = "one place, which lasts as long as the device")]
enum Kept {
    Nothing,
    Pair(Value),
    Addresses(IpAddress),
}

/// The host side of the service.
pub type Kvp = Ic<Pairs>;

/// What is the service's own.
#[derive(Clone, Copy, Debug)]
pub struct Pairs {
    asked: Operation,
    kept: Kept,
}

impl Kvp {
    /// Creates the service.
    #[must_use]
    pub const fn new() -> Self {
        Self::with(Pairs { asked: Operation::GET, kept: Kept::Nothing })
    }

    /// Sends a request to the guest.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn ask<P: BusPort>(&mut self, io: &mut Io<'_, P, Never>, ask: &Ask<'_>) -> Result<(), Refused> {
        let header = |operation, pool| Header { operation, pool, reserved: [0; 2] };
        self.own.asked = match *ask {
            Ask::Get { pool, key } => {
                let pair = pair(key, &[])?;
                self.link.ask(io, &[header(Operation::GET, pool).as_bytes(), pair.as_bytes()])?;
                Operation::GET
            }
            Ask::Set { pool, key, value } => {
                judge(value, MAX_VALUE_SIZE)?;
                let pair = pair(key, value)?;
                self.link.ask(io, &[header(Operation::SET, pool).as_bytes(), pair.as_bytes()])?;
                Operation::SET
            }
            Ask::Delete { pool, key } => {
                judge(key, MAX_KEY_SIZE)?;
                let mut body = Delete::new_zeroed();
                body.key_size = key.len() as u32;
                body.key[..key.len()].copy_from_slice(key);
                self.link.ask(io, &[header(Operation::DELETE, pool).as_bytes(), body.as_bytes()])?;
                Operation::DELETE
            }
            Ask::Enumerate { pool, index } => {
                let head = header(Operation::ENUMERATE, pool);
                let len = size_of::<Header>() + size_of::<Enumerate>();
                self.link.ask_padded(io, &[head.as_bytes(), index.as_bytes()], len)?;
                Operation::ENUMERATE
            }
            Ask::Addresses { adapter } => {
                const ADAPTER: usize = 256;
                judge(adapter, ADAPTER)?;
                let head = [Operation::GET_IP_INFO.0, 0];
                self.link.ask_padded(io, &[&head, adapter], size_of::<IpMessage>())?;
                Operation::GET_IP_INFO
            }
        };
        self.own.kept = Kept::Nothing;
        Ok(())
    }

    /// Returns the outcome of the last request, with the guest's answer; [`done`](Self::done) allows the next request.
    #[must_use]
    pub fn outcome(&self) -> Option<(Outcome, Answer<'_>)> {
        let answer = match &self.own.kept {
            Kept::Nothing => Answer::Nothing,
            Kept::Pair(pair) => {
                let value = &pair.value[..pair.value_size as usize];
                let text = pair.value_type == VALUE_TEXT;
                Answer::Pair {
                    key: open(&pair.key[..pair.key_size as usize]),
                    value_type: pair.value_type,
                    value: if text { open(value) } else { value },
                }
            }
            Kept::Addresses(addresses) => Answer::Addresses(addresses),
        };
        Some((self.link.outcome()?, answer))
    }

    /// Clears the outcome of the last request, which was taken.
    pub fn done(&mut self) {
        let _ = self.link.take();
        self.own.kept = Kept::Nothing;
    }
}

impl Pairs {
    /// Parses the rest of an answer; returns `None` if it is invalid.
    fn answer<M: GuestMemory>(&self, packet: &mut Packet<'_, M>, status: Status) -> Option<Kept> {
        if self.asked == Operation::GET_IP_INFO {
            let message: IpMessage = packet.take()?;
            let good = message.operation == self.asked && status == Status::SUCCESS;
            return Some(if good { Kept::Addresses(message.value) } else { Kept::Nothing });
        }
        let header: Header = packet.take()?;
        if header.operation != self.asked {
            return None;
        }
        if status != Status::SUCCESS || !matches!(self.asked, Operation::GET | Operation::ENUMERATE) {
            return Some(Kept::Nothing);
        }
        if self.asked == Operation::ENUMERATE {
            packet.skip(size_of::<u32>());
        }
        let pair: Value = packet.take()?;
        let text = pair.value_type == VALUE_TEXT;
        let key = pair.key.get(..pair.key_size as usize)?;
        let value = pair.value.get(..pair.value_size as usize)?;
        let good = key.len().is_multiple_of(2) && (!text || value.len().is_multiple_of(2));
        good.then_some(Kept::Pair(pair))
    }
}

impl Default for Kvp {
    fn default() -> Self {
        Self::new()
    }
}

/// Returns true if a request's text is terminated, has whole characters, and fits.
fn judge(text: &[u8], longest: usize) -> Result<(), Refused> {
    let closed = text.ends_with(&[0, 0]) && text.len().is_multiple_of(2);
    if closed && text.len() <= longest { Ok(()) } else { Err(Refused::Invalid) }
}

fn pair(key: &[u8], value: &[u8]) -> Result<Value, Refused> {
    judge(key, MAX_KEY_SIZE)?;
    Value::text(key, value).ok_or(Refused::Invalid)
}

/// Returns the text up to its terminating zero, if it has one.
fn open(text: &[u8]) -> &[u8] {
    let end = text.chunks_exact(2).position(|unit| unit == [0, 0]).map_or(text.len(), |at| at * 2);
    &text[..end]
}

impl Service for Pairs {
    const NAME: [u8; 4] = *b"kvp ";
    const KIND: MessageType = MessageType::KVP_EXCHANGE;
    const VERSIONS: &'static [Version] =
        &[Version { major: 4, minor: 0 }, Version { major: 3, minor: 0 }, Version { major: 1, minor: 0 }];
    /// Linux reads one packet per interrupt.
    const SIGNAL_EACH: bool = true;
    /// Maximum size that Linux reads of a packet.
    const PACKET_LIMIT: u32 = 16384;

    fn heard<P: Backend<Never>>(
        &mut self,
        link: &mut Link<Self>,
        heard: Heard,
        packet: &mut Packet<'_, P::Memory>,
        io: &mut Io<'_, P, Never>,
    ) {
        if let Some(status) = link.answers(&heard) {
            let outcome = match self.answer(packet, status) {
                Some(kept) => {
                    self.kept = kept;
                    Outcome::Answered(status)
                }
                None => Outcome::Malformed,
            };
            link.end(io, outcome);
        }
    }

    fn reset(&mut self) {
        (self.asked, self.kept) = (Operation::GET, Kept::Nothing);
    }

    fn save(&self, w: &mut Writer<'_>) {
        w.u8(self.asked.0);
        match &self.kept {
            Kept::Nothing => w.u8(0),
            Kept::Pair(pair) => {
                w.u8(1);
                w.value(pair);
            }
            Kept::Addresses(addresses) => {
                w.u8(2);
                w.value(addresses);
            }
        }
    }

    fn restore(&mut self, r: &mut Reader<'_>) -> Result<(), RestoreError> {
        self.asked = Operation(r.u8()?);
        self.kept = match r.u8()? {
            0 => Kept::Nothing,
            1 => {
                let pair: Value = r.value()?;
                if pair.key_size as usize > MAX_KEY_SIZE || pair.value_size as usize > MAX_VALUE_SIZE {
                    return Err(RestoreError::Invalid("pair of the key-value service"));
                }
                Kept::Pair(pair)
            }
            2 => Kept::Addresses(r.value()?),
            _ => return Err(RestoreError::Invalid("answer of the key-value service")),
        };
        Ok(())
    }
}
