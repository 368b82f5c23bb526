//! Synthetic video: a screen whose pixels are in memory that the guest places in the bus's address window.
//!
//! The device has no pixels: it judges where the guest says that they are, and in which form, and tells the embedder
//! ([`Video::picture`]). The memory behind the window is the embedder's, which maps it for the guest before that
//! starts: so nothing has to be done when the guest places it, and an acknowledgement is never too early. The guest
//! reports the parts of the screen that have changed, which the device adds up ([`Video::take_changed`]).
//!
//! A picture outlives its channel, since firmware closes the channel and keeps drawing (OpenVMM, uidevices, video).
//! The host has no pointer to draw: what the guest says of its own is ignored.

mod screen;

use hv_memory::GuestMemory;
use hv_memory::save::{Reader, RestoreError, Writer};
use hv_tlfs::vmbus::ic::Version;
pub use hv_tlfs::vmbus::video::ScreenArea;
use hv_tlfs::vmbus::video::{
    ACCEPTED, BiosInfo, Capability, DEPTH, Dirt, FeatureChange, MessageType, PointerShape, Rectangle,
    ResolutionRequest, Situation, SituationUpdate, SituationUpdateAck, VRAM_BYTES, VersionRequest,
    VersionResponse, VideoHeader, VramLocation, VramLocationAck,
};
use hv_tlfs::vmbus::{ChannelOffer, Guid, PacketType, PipeMode, guid};
use hv_vmbus::{
    Backend, BusPort, CONTENTS_BYTES, Channel, Device, Io, Message, Never, Opening, Packet, Refusal, Taken,
};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, FromZeros as _, Immutable, IntoBytes};

use screen::{EDID, RESOLUTIONS};

use crate::ic::{AGREED, IGNORED, State};

/// Note for the observer: the guest wants its video memory where the host has none. The value is the address.
pub const REFUSED: u32 = 4;
/// Note for the observer: the guest wants a picture that has no form, or that does not lie in the video memory. The
/// value is the picture's width in bits 63 to 32, and its height below.
pub const NO_PICTURE: u32 = 6;

/// The device as Hyper-V offers it.
pub const OFFER: ChannelOffer = {
    let instance = Guid::new(0x5620_e0c7, 0x8062, 0x4dce, [0xae, 0xb7, 0x52, 0x0c, 0x7e, 0xf7, 0x61, 0x71]);
    let mut offer = hv_vmbus::pipe(hv_vmbus::offer(guid::VIDEO, instance), PipeMode::MESSAGE);
    offer.mmio_megabytes = (VRAM_BYTES >> 20) as u16;
    offer
};

/// Major number of every version.
const MAJOR: u16 = 3;
/// Minor number of the newest version.
const NEWEST: u16 = 5;
/// Minor number of the first version that reports the BIOS.
const HAS_BIOS_INFO: u16 = 3;
/// Minor number of the first version that has resolutions and capabilities.
const HAS_RESOLUTIONS: u16 = 5;

/// Bytes of a page of memory.
const PAGE: u64 = 4096;
/// Bytes in the ring that the answers to any packet need.
const ROOM: u32 = 256;

/// What the screen shows, in the video memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Place of the first pixel, counted from the beginning of the window.
    pub offset: u64,
    /// Bits of a pixel: 32 or 16.
    pub depth: u8,
    /// Pixels of a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Bytes from one row to the next.
    pub pitch: u32,
}

/// Progress of the guest's driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Step {
    /// The channel is closed.
    Closed = 0,
    /// The driver has not asked for a version.
    Opened,
    /// It speaks a version.
    Ready,
    /// It has asked for a version that the host does not support, and for none since.
    Incompatible,
}

/// The host side of synthetic video. A new one is all zeros, so that one in a static takes no room in a program's file.
#[derive(Clone, Copy, Debug)]
pub struct Video {
    step: Step,
    /// Minor number of the version agreed on.
    minor: u16,
    /// The guest was asked to report changes.
    asked: bool,
    /// Guest physical address and bytes of the window.
    window: (u64, u64),
    /// Where the guest has placed its video memory; 0 if it has not.
    memory: u64,
    /// What is shown: valid, or all zeros.
    situation: Situation,
    changed: ScreenArea,
}

impl Video {
    /// Creates a device without a window: no memory can be placed.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            step: Step::Closed,
            minor: 0,
            asked: false,
            window: (0, 0),
            memory: 0,
            situation: NOTHING,
            changed: ScreenArea::NONE,
        }
    }

    /// Says where the guest's addresses have memory: the base of the window, which is not 0, and its bytes. Call it
    /// before the guest starts.
    pub const fn set_window(&mut self, base: u64, bytes: u64) {
        self.window = (base, bytes);
    }

    /// Returns the state of the guest's driver, in the terms of the services.
    #[must_use]
    pub const fn state(&self) -> State {
        match self.step {
            Step::Closed => State::Closed,
            Step::Opened => State::Negotiating,
            Step::Ready => {
                let version = Version { major: MAJOR, minor: self.minor };
                State::Ready { framework: version, version }
            }
            Step::Incompatible => State::Incompatible,
        }
    }

    /// Returns what the screen shows; `None` if it is off. All of it lies in the window.
    #[must_use]
    pub fn picture(&self) -> Option<Picture> {
        let Situation { active, vram_offset, depth_bits, width, height, pitch } = self.situation;
        (active != 0 && self.memory != 0).then(|| Picture {
            offset: self.memory - self.window.0 + u64::from(vram_offset.get()),
            depth: depth_bits,
            width: width.get(),
            height: height.get(),
            pitch: pitch.get(),
        })
    }

    /// Returns the smallest part of the screen that has all the changes which the guest has reported since the last
    /// call.
    pub fn take_changed(&mut self) -> ScreenArea {
        core::mem::replace(&mut self.changed, ScreenArea::NONE)
    }

    /// Returns true if the video memory may be at an address.
    fn has_room(&self, address: u64) -> bool {
        let (base, bytes) = self.window;
        let offset = address.checked_sub(base).filter(|_| address.is_multiple_of(PAGE) && base != 0);
        let left = offset.and_then(|offset| bytes.checked_sub(offset));
        left.is_some_and(|left| left >= VRAM_BYTES.into())
    }

    /// Handles a message from the guest; `None` if it is none that the version has.
    fn hear<P: BusPort>(
        &mut self,
        packet: &mut Packet<'_, P::Memory>,
        io: &mut Io<'_, P, Never>,
    ) -> Option<()> {
        let header: VideoHeader = take(packet)?;
        let kind = MessageType(header.message_type.get());
        if kind == MessageType::VERSION_REQUEST {
            let request: VersionRequest = take_shown(packet, kind, io)?;
            self.negotiate(io, request.version.get());
            return Some(());
        }
        if self.step != Step::Ready {
            return None;
        }
        match kind {
            MessageType::VRAM_LOCATION => {
                let location = take_shown(packet, kind, io)?;
                self.locate(io, location);
            }
            MessageType::SITUATION_UPDATE => {
                let update = take_shown(packet, kind, io)?;
                self.show(io, &update);
            }
            MessageType::DIRT => self.report(packet, io)?,
            // Only an observer has a use for them.
            MessageType::POINTER_POSITION | MessageType::POINTER_SHAPE => {
                let mut body = [0; size_of::<PointerShape>()];
                if io.is_observed() {
                    let len = packet.read(&mut body);
                    show(packet, kind, &body[..len], io);
                }
            }
            MessageType::RESOLUTION_REQUEST if self.minor >= HAS_RESOLUTIONS => {
                let request: ResolutionRequest = take_shown(packet, kind, io)?;
                let count = RESOLUTIONS.len().min(request.maximum.into());
                // The first is the default.
                let numbers = [count as u8, 0, 0];
                let resolutions = RESOLUTIONS[..count].as_bytes();
                send(io, MessageType::RESOLUTION_RESPONSE, &[&EDID, &numbers, resolutions]);
            }
            MessageType::BIOS_INFO_REQUEST if self.minor >= HAS_BIOS_INFO => {
                let info = BiosInfo { stop_device_supported: U32::new(1), reserved: [0; 12] };
                send(io, MessageType::BIOS_INFO_RESPONSE, &[info.as_bytes()]);
            }
            MessageType::CAPABILITY_REQUEST if self.minor >= HAS_RESOLUTIONS => {
                send(io, MessageType::CAPABILITY_RESPONSE, &[Capability::new_zeroed().as_bytes()]);
            }
            _ => return None,
        }
        Some(())
    }

    /// Answers a request for a version.
    fn negotiate<P: BusPort>(&mut self, io: &mut Io<'_, P, Never>, version: u32) {
        let (major, minor) = (version as u16, (version >> 16) as u16);
        let number = u32::from(major) << 16 | u32::from(minor);
        let accepted = major == MAJOR && minor <= NEWEST && !io.refuses(number);
        let response = VersionResponse {
            version: U32::new(version),
            is_accepted: if accepted { ACCEPTED } else { 0 },
            max_video_outputs: 1,
        };
        send(io, MessageType::VERSION_RESPONSE, &[response.as_bytes()]);
        self.asked = false;
        (self.step, self.minor) = if accepted { (Step::Ready, minor) } else { (Step::Incompatible, 0) };
        if accepted {
            io.observe(Channel::PRIMARY, AGREED, number.into());
        }
    }

    /// Places the video memory.
    fn locate<P: BusPort>(&mut self, io: &mut Io<'_, P, Never>, location: VramLocation) {
        let (context, address) = (location.user_context.get(), location.address.get());
        let refused = location.has_address != 0 && !self.has_room(address);
        if refused {
            io.observe(Channel::PRIMARY, REFUSED, address);
        } else {
            self.memory = if location.has_address != 0 { address } else { 0 };
        }
        // The answer that the guest waits for has its context: this one is a refusal.
        let context = if refused { !context } else { context };
        let ack = VramLocationAck { user_context: U64::new(context) };
        send(io, MessageType::VRAM_LOCATION_ACK, &[ack.as_bytes()]);
    }

    /// Shows another part of the video memory, or nothing.
    fn show<P: BusPort>(&mut self, io: &mut Io<'_, P, Never>, update: &SituationUpdate) {
        let shown = update.situation;
        self.situation = match (shown.active, is_valid(&shown)) {
            (0, _) => NOTHING,
            (_, true) => Situation { active: 1, ..shown },
            (_, false) => {
                let size = u64::from(shown.width.get()) << 32 | u64::from(shown.height.get());
                io.observe(Channel::PRIMARY, NO_PICTURE, size);
                NOTHING
            }
        };
        self.changed = whole(&self.situation);
        let ack = SituationUpdateAck { user_context: update.user_context };
        send(io, MessageType::SITUATION_UPDATE_ACK, &[ack.as_bytes()]);
        if !core::mem::replace(&mut self.asked, true) {
            // Linux answers it with another situation: so it is sent once.
            let change = FeatureChange { dirt: 1, pointer_position: 0, pointer_shape: 0, situation: 1 };
            send(io, MessageType::FEATURE_CHANGE, &[change.as_bytes()]);
        }
    }

    /// Adds up changes; `None` if the message ends before its last rectangle.
    fn report<P: BusPort>(
        &mut self,
        packet: &mut Packet<'_, P::Memory>,
        io: &Io<'_, P, Never>,
    ) -> Option<()> {
        let [video_output, count]: [u8; 2] = take(packet)?;
        if packet.left() < usize::from(count) * size_of::<Rectangle>() {
            return None;
        }
        let screen = whole(&self.situation);
        for number in 0..count {
            let part: Rectangle = take(packet)?;
            if number == 0 && io.is_observed() {
                show(packet, MessageType::DIRT, Dirt { video_output, count, first: part }.as_bytes(), io);
            }
            let inside = |place: i32, end: u32| u32::try_from(place).unwrap_or(0).min(end);
            self.changed = self.changed.with(ScreenArea {
                left: inside(part.left.get(), screen.right),
                top: inside(part.top.get(), screen.bottom),
                right: inside(part.right.get(), screen.right),
                bottom: inside(part.bottom.get(), screen.bottom),
            });
        }
        Some(())
    }
}

impl Default for Video {
    fn default() -> Self {
        Self::new()
    }
}

/// A screen that is off.
const NOTHING: Situation = Situation {
    active: 0,
    vram_offset: U32::ZERO,
    depth_bits: 0,
    width: U32::ZERO,
    height: U32::ZERO,
    pitch: U32::ZERO,
};

/// Returns true if a picture has pixels, in a supported format, and lies in the video memory.
fn is_valid(shown: &Situation) -> bool {
    let number = |field: U32| u64::from(field.get());
    let row = number(shown.width) * u64::from(shown.depth_bits / 8);
    let last = number(shown.height).checked_sub(1).map(|rows| rows * number(shown.pitch));
    let end = last.and_then(|last| last.checked_add(number(shown.vram_offset) + row));
    matches!(shown.depth_bits, 16 | DEPTH)
        && row != 0
        && row <= number(shown.pitch)
        && end.is_some_and(|end| end <= VRAM_BYTES.into())
}

/// Returns all of the screen.
fn whole(shown: &Situation) -> ScreenArea {
    ScreenArea::new(0, 0, shown.width.get(), shown.height.get())
}

/// Takes a structure from a packet; `None` if it ends before.
fn take<T: FromBytes + IntoBytes, M: GuestMemory>(packet: &mut Packet<'_, M>) -> Option<T> {
    let mut value = T::new_zeroed();
    fill(packet, value.as_mut_bytes())?;
    Some(value)
}

/// Takes the body of a message, and shows it to an observer.
fn take_shown<T: FromBytes + IntoBytes + Immutable, P: BusPort>(
    packet: &mut Packet<'_, P::Memory>,
    kind: MessageType,
    io: &Io<'_, P, Never>,
) -> Option<T> {
    let value: T = take(packet)?;
    if io.is_observed() {
        show(packet, kind, value.as_bytes(), io);
    }
    Some(value)
}

/// Shows an observer the beginning of a message's body, of which more may be left in the packet. The part is the type
/// of the message.
#[cold]
#[inline(never)]
fn show<P: BusPort>(packet: &Packet<'_, P::Memory>, kind: MessageType, body: &[u8], io: &Io<'_, P, Never>) {
    io.show_read(packet, kind.0 as u8, (body.len() + packet.left()) as u32, body);
}

/// Takes bytes. It is compiled once, and not for each structure.
#[inline(never)]
fn fill<M: GuestMemory>(packet: &mut Packet<'_, M>, into: &mut [u8]) -> Option<()> {
    (packet.left() >= into.len() && packet.read(into) == into.len()).then_some(())
}

/// Sends a message, for which there is room.
fn send<P: BusPort>(io: &mut Io<'_, P, Never>, kind: MessageType, body: &[&[u8]]) {
    let mut parts = [&[][..]; 4];
    let bytes: usize = body.iter().map(|part| part.len()).sum();
    let size = (size_of::<VideoHeader>() + bytes) as u32;
    let header = VideoHeader { message_type: U32::new(kind.0), size: U32::new(size) };
    parts[0] = header.as_bytes();
    for (place, part) in parts[1..].iter_mut().zip(body) {
        *place = part;
    }
    let _ = io.send_parts(Channel::PRIMARY, Message::default(), &parts);
    if io.is_observed() {
        show_sent(kind, body, bytes, io);
    }
}

/// Shows an observer the body of a message to the guest, `bytes` long.
#[cold]
#[inline(never)]
fn show_sent<P: BusPort>(kind: MessageType, body: &[&[u8]], bytes: usize, io: &Io<'_, P, Never>) {
    let mut shown = [0; CONTENTS_BYTES];
    let body = body.iter().copied().flatten();
    shown.iter_mut().zip(body).for_each(|(to, from)| *to = *from);
    io.show_written(Channel::PRIMARY, 0, kind.0 as u8, bytes as u32, &shown[..bytes.min(CONTENTS_BYTES)]);
}

impl Device for Video {
    type Request = Never;

    const NAME: [u8; 4] = *b"vide";

    fn opened<P: Backend<Never>>(
        &mut self,
        _: Channel,
        _: &Opening<'_>,
        _: &mut Io<'_, P, Never>,
    ) -> Result<(), Refusal> {
        (self.step, self.minor, self.asked) = (Step::Opened, 0, false);
        Ok(())
    }

    fn packet<P: Backend<Never>>(
        &mut self,
        packet: &mut Packet<'_, P::Memory>,
        io: &mut Io<'_, P, Never>,
    ) -> Taken {
        if io.free(Channel::PRIMARY) < ROOM && !io.await_room(Channel::PRIMARY, ROOM) {
            return Taken::Later;
        }
        let len = packet.left();
        // Others end a packet that asked for no end.
        let is_message = packet.kind() == PacketType::DATA_IN_BAND;
        if !is_message || self.hear(packet, io).is_none() {
            io.observe(Channel::PRIMARY, IGNORED, len as u64);
        }
        let _ = io.complete(packet, &[]);
        Taken::Done
    }

    fn closed<P: Backend<Never>>(&mut self, _: Channel, _: &mut Io<'_, P, Never>) {
        (self.step, self.minor, self.asked) = (Step::Closed, 0, false);
    }

    fn reset(&mut self) {
        *self = Self { window: self.window, ..Self::new() };
    }

    fn save(&self, w: &mut Writer<'_>) {
        w.u8(self.step as u8);
        w.u32(self.minor.into());
        w.flag(self.asked);
        w.u64(self.memory);
        w.value(&self.situation);
        let ScreenArea { left, top, right, bottom } = self.changed;
        w.value(&[left, top, right, bottom]);
    }

    fn restore(&mut self, r: &mut Reader<'_>) -> Result<(), RestoreError> {
        let mut new = Self { window: self.window, ..Self::new() };
        new.step = match r.u8()? {
            0 => Step::Closed,
            1 => Step::Opened,
            2 => Step::Ready,
            3 => Step::Incompatible,
            _ => return Err(RestoreError::Invalid("state of video")),
        };
        let minor = u16::try_from(r.u32()?).ok().filter(|minor| match new.step {
            Step::Ready => *minor <= NEWEST,
            _ => *minor == 0,
        });
        new.minor = minor.ok_or(RestoreError::Invalid("version of video"))?;
        new.asked = r.flag("request of video")?;
        new.memory = r.u64()?;
        if new.memory != 0 && !new.has_room(new.memory) {
            return Err(RestoreError::Invalid("place of video memory"));
        }
        new.situation = r.value()?;
        if new.situation != NOTHING && (new.situation.active != 1 || !is_valid(&new.situation)) {
            return Err(RestoreError::Invalid("picture of video"));
        }
        let [left, top, right, bottom]: [u32; 4] = r.value()?;
        new.changed = ScreenArea { left, top, right, bottom };
        let screen = whole(&new.situation);
        let inside = !new.changed.is_empty() && right <= screen.right && bottom <= screen.bottom;
        if new.changed != ScreenArea::NONE && !inside || new.asked && new.step != Step::Ready {
            return Err(RestoreError::Invalid("changes of video"));
        }
        *self = new;
        Ok(())
    }
}
