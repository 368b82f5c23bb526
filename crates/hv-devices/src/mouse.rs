//! The mouse: a pointer with an absolute position, three buttons and a wheel.

use hv_memory::GuestMemory;
use hv_tlfs::vmbus::mouse::{
    Attributes, DeviceInfo, HID, HidDescriptor, HidHeader, MessageType, ProtocolResponse, REPORT, VERSION,
};
use hv_tlfs::vmbus::{ChannelOffer, Guid, PipeMode, guid};
use hv_vmbus::{BusPort, Channel, Io, Message, Never, Packet, SendError};
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::ic::{Outcome, Refused, State};
use crate::input::{Driver, Event, Heard, Input};

/// The mouse as Hyper-V offers it.
pub const OFFER: ChannelOffer = hv_vmbus::pipe(
    hv_vmbus::offer(
        guid::MOUSE,
        Guid::new(0x58f7_5a6d, 0xd949, 0x4320, [0x99, 0xe1, 0xa2, 0xa2, 0x57, 0x6d, 0x58, 0x1c]),
    ),
    PipeMode::MESSAGE,
);

/// The largest coordinate: the right or the lower edge of the screen.
pub const EDGE: u16 = 0x7fff;

/// The state of the mouse, as an input report has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Pointer {
    /// Sum of the buttons that are pressed: [`LEFT`](Self::LEFT), [`RIGHT`](Self::RIGHT), [`MIDDLE`](Self::MIDDLE).
    pub buttons: u8,
    /// Position from the left edge of the screen, 0 to [`EDGE`].
    pub x: U16,
    /// Position from the upper edge.
    pub y: U16,
    /// Steps of the wheel since the last report, upwards; -127 to 127.
    pub wheel: i8,
}

impl Pointer {
    /// The left button.
    pub const LEFT: u8 = 1;
    /// The right button.
    pub const RIGHT: u8 = 2;
    /// The middle button.
    pub const MIDDLE: u8 = 4;

    /// Creates a pointer at a position, with no button pressed.
    #[must_use]
    pub const fn at(x: u16, y: u16) -> Self {
        Self { buttons: 0, x: U16::new(x), y: U16::new(y), wheel: 0 }
    }
}

/// The HID report descriptor, which says what the bytes of a [`Pointer`] are (USB HID 1.11, Report Descriptor; HID
/// Usage Tables, Generic Desktop and Button pages).
///
/// Linux's driver overwrites byte 14 if it is 0x25, as it was in the descriptor of an early host.
const REPORT_DESCRIPTOR: [u8; 61] = [
    0x05, 0x01, // generic desktop
    0x09, 0x02, // mouse
    0xa1, 0x01, // application:
    0x09, 0x01, // pointer
    0xa1, 0x00, // physical:
    0x05, 0x09, // buttons
    0x19, 0x01, 0x29, 0x03, // 1 to 3
    0x15, 0x00, 0x25, 0x01, // 0 or 1
    0x75, 0x01, 0x95, 0x03, // 3 of 1 bit
    0x81, 0x02, // absolute
    0x75, 0x05, 0x95, 0x01, 0x81, 0x01, // 5 bits of padding
    0x05, 0x01, // generic desktop
    0x09, 0x30, 0x09, 0x31, // X, Y
    0x26, 0xff, 0x7f, // 0 to 32767
    0x75, 0x10, 0x95, 0x02, // 2 of 16 bits
    0x81, 0x02, // absolute
    0x09, 0x38, // wheel
    0x15, 0x81, 0x25, 0x7f, // -127 to 127
    0x75, 0x08, 0x95, 0x01, // 1 of 8 bits
    0x81, 0x06, // relative
    0xc0, 0xc0,
];

/// The host side of a mouse.
pub type Mouse = Input<Pointer>;

impl Mouse {
    /// Creates a mouse.
    #[must_use]
    pub const fn new() -> Self {
        Self { own: Driver::new() }
    }

    /// Returns the state of the guest's driver, in the terms of the services.
    #[must_use]
    pub const fn state(&self) -> State {
        self.own.state()
    }

    /// Moves the mouse, and presses and releases its buttons: one state after another, at most
    /// [`EVENTS`](crate::input::EVENTS). The [`outcome`](Self::take) tells when they are all in the guest's ring.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn point<P: BusPort>(
        &mut self,
        io: &mut Io<'_, P, Never>,
        states: &[Pointer],
    ) -> Result<(), Refused> {
        self.own.hand_over(io, states)
    }

    /// Takes the outcome of the last states.
    pub fn take(&mut self) -> Option<Outcome> {
        self.own.take_outcome()
    }
}

impl Default for Mouse {
    fn default() -> Self {
        Self::new()
    }
}

const fn header(kind: MessageType, bytes: usize) -> HidHeader {
    HidHeader { message_type: U32::new(kind.0), size: U32::new(bytes as u32) }
}

/// DEVICE_INFO. Linux binds its driver to vendor and product (drivers/hid/hid-ids.h).
const INFO: DeviceInfo = DeviceInfo {
    header: header(
        MessageType::DEVICE_INFO,
        size_of::<Attributes>() + size_of::<HidDescriptor>() + REPORT_DESCRIPTOR.len(),
    ),
    attributes: Attributes {
        size: U32::new(size_of::<Attributes>() as u32),
        vendor: U16::new(0x045e),
        product: U16::new(0x0621),
        version: U16::new(2),
        reserved: [U16::ZERO; 11],
    },
    descriptor: HidDescriptor {
        length: size_of::<HidDescriptor>() as u8,
        descriptor_type: HID,
        version: U16::new(0x0101),
        country: 0,
        descriptors: 1,
        report_type: REPORT,
        report_length: U16::new(REPORT_DESCRIPTOR.len() as u16),
    },
};

impl Event for Pointer {
    const NAME: [u8; 4] = *b"mous";
    const VERSION: u32 = VERSION;
    const DESCRIBED: bool = true;
    /// An empty completion, the response and the description: with pipe headers, descriptors and trailers.
    const ROOM: u32 = 24 + 48 + 144;
    const NONE: Self = Self::at(0, 0);

    fn is_valid(&self) -> bool {
        let buttons = Self::LEFT | Self::RIGHT | Self::MIDDLE;
        self.buttons & !buttons == 0 && self.x.get() <= EDGE && self.y.get() <= EDGE && self.wheel != i8::MIN
    }

    fn hear<M: GuestMemory>(packet: &mut Packet<'_, M>) -> Heard {
        let header: Option<HidHeader> = packet.take();
        match header.map(|header| MessageType(header.message_type.get())) {
            Some(MessageType::PROTOCOL_REQUEST) => packet.take().map_or(Heard::Unknown, Heard::Version),
            Some(MessageType::DEVICE_INFO_ACK) => Heard::Acknowledged,
            _ => Heard::Unknown,
        }
    }

    fn answer<P: BusPort>(io: &mut Io<'_, P, Never>, version: u32, accepted: bool) -> Result<(), SendError> {
        let response = ProtocolResponse {
            header: header(
                MessageType::PROTOCOL_RESPONSE,
                size_of::<ProtocolResponse>() - size_of::<HidHeader>(),
            ),
            version: U32::new(version),
            approved: accepted.into(),
        };
        io.send(Channel::PRIMARY, Message::default(), response.as_bytes())?;
        if accepted {
            io.send_parts(Channel::PRIMARY, Message::default(), &[INFO.as_bytes(), &REPORT_DESCRIPTOR])?;
        }
        Ok(())
    }

    fn send<P: BusPort>(&self, io: &mut Io<'_, P, Never>) -> Result<(), SendError> {
        let header = header(MessageType::INPUT_REPORT, size_of::<Self>());
        io.send_parts(Channel::PRIMARY, Message::default(), &[header.as_bytes(), self.as_bytes()])
    }
}
