//! The keyboard: keys that are pressed and released, by their scan codes of set 1.

use hv_memory::GuestMemory;
use hv_tlfs::vmbus::keyboard::{
    ACCEPTED, KeyboardHeader, Keystroke, MessageType, PREFIX_E0, PREFIX_E1, ProtocolResponse, RELEASED,
    VERSION,
};
use hv_tlfs::vmbus::{ChannelOffer, Guid, guid};
use hv_vmbus::{BusPort, Channel, Io, Message, Never, Packet, SendError};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::ic::{Outcome, Refused, State};
use crate::input::{Driver, Event, Heard, Input};

/// The keyboard as Hyper-V offers it: no pipe, unlike the mouse.
pub const OFFER: ChannelOffer = hv_vmbus::offer(
    guid::KEYBOARD,
    Guid::new(0xd34b_2567, 0xb9b6, 0x42b9, [0x87, 0x78, 0x0a, 0x4e, 0xc0, 0xb9, 0x55, 0xbf]),
);

/// A key that is pressed or released.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Key {
    /// Its make code in set 1, 1 to 127.
    pub code: u8,
    /// Sum of [`Key::RELEASED`] and of one of [`Key::E0`] and [`Key::E1`].
    pub flags: u8,
}

impl Key {
    /// The key is released.
    pub const RELEASED: u8 = RELEASED as u8;
    /// The prefix 0xe0 belongs before the code.
    pub const E0: u8 = PREFIX_E0 as u8;
    /// The prefix 0xe1 belongs before the code.
    pub const E1: u8 = PREFIX_E1 as u8;

    /// Creates the press of a key.
    #[must_use]
    pub const fn press(code: u8) -> Self {
        Self { code, flags: 0 }
    }

    /// Creates its release.
    #[must_use]
    pub const fn release(code: u8) -> Self {
        Self { code, flags: Self::RELEASED }
    }
}

/// The host side of a keyboard.
///
/// ```
/// use hv_devices::keyboard::{self, Key, Keyboard};
/// use hv_vmbus::Slot;
///
/// type Lock = spin::Mutex<()>;
/// let slot: Slot<Lock, Keyboard> = Slot::offering(Keyboard::new(), keyboard::OFFER);
/// // The letter a.
/// let keys = [Key::press(0x1e), Key::release(0x1e)];
/// # let _ = (slot, keys);
/// ```
pub type Keyboard = Input<Key>;

impl Keyboard {
    /// Creates a keyboard.
    #[must_use]
    pub const fn new() -> Self {
        Self { own: Driver::new() }
    }

    /// Returns the state of the guest's driver, in the terms of the services.
    #[must_use]
    pub const fn state(&self) -> State {
        self.own.state()
    }

    /// Presses and releases keys, at most [`EVENTS`](crate::input::EVENTS). The [`outcome`](Self::take) tells when they
    /// are all in the guest's ring.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn press<P: BusPort>(&mut self, io: &mut Io<'_, P, Never>, keys: &[Key]) -> Result<(), Refused> {
        self.own.hand_over(io, keys)
    }

    /// Takes the outcome of the last keys.
    pub fn take(&mut self) -> Option<Outcome> {
        self.own.take_outcome()
    }
}

impl Default for Keyboard {
    fn default() -> Self {
        Self::new()
    }
}

impl Event for Key {
    const NAME: [u8; 4] = *b"keys";
    const VERSION: u32 = VERSION;
    const DESCRIBED: bool = false;
    /// An empty completion, and the response: with descriptors and trailers.
    const ROOM: u32 = 24 + 32;
    const NONE: Self = Self::press(0);

    fn is_valid(&self) -> bool {
        let prefix = self.flags & !Self::RELEASED;
        matches!(self.code, 1..=0x7f) && matches!(prefix, 0 | Self::E0 | Self::E1)
    }

    fn hear<M: GuestMemory>(packet: &mut Packet<'_, M>) -> Heard {
        let header: Option<KeyboardHeader> = packet.take();
        match header {
            Some(KeyboardHeader { message_type: MessageType::PROTOCOL_REQUEST }) => {
                packet.take().map_or(Heard::Unknown, Heard::Version)
            }
            // The lights of its keys.
            Some(KeyboardHeader { message_type: MessageType::LED_INDICATORS }) => Heard::Other,
            _ => Heard::Unknown,
        }
    }

    fn answer<P: BusPort>(io: &mut Io<'_, P, Never>, _: u32, accepted: bool) -> Result<(), SendError> {
        let response = ProtocolResponse {
            header: KeyboardHeader { message_type: MessageType::PROTOCOL_RESPONSE },
            status: if accepted { ACCEPTED } else { 0 },
        };
        io.send(Channel::PRIMARY, Message::default(), response.as_bytes())
    }

    fn send<P: BusPort>(&self, io: &mut Io<'_, P, Never>) -> Result<(), SendError> {
        let keystroke = Keystroke {
            header: KeyboardHeader { message_type: MessageType::EVENT },
            make_code: self.code.into(),
            reserved: 0,
            flags: self.flags.into(),
        };
        io.send(Channel::PRIMARY, Message::default(), keystroke.as_bytes())
    }
}
