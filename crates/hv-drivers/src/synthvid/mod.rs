//! The screen: a framebuffer in device memory, and the changes that the host is told.
//!
//! The memory lies where the OS wants it in VMBus's address window ([`Window`]). Pixels are words of 32 bits: blue in
//! the lowest byte, then green, red, and one that is not used. What is drawn is noted, and [`Screen::flush`] tells the
//! host, if it has asked for changes: it does so, and takes that back, at any time.
//!
//! ```text
//! let mut screen = Screen::new(channel, window);
//! screen.wait_ready(&mut wait)?;
//! screen.fill(ScreenArea::new(0, 0, 100, 50), 0xff_0000);
//! screen.flush()?;
//! ```
//!
//! With the feature `embedded-graphics`, a screen is a `DrawTarget` of that crate.
//!
//! Hosts that speak VMBus 3.0 or newer speak version 3.2 or newer, which has pixels of 32 bits alone.
//!
//! Sources: Linux 6.12, drivers/gpu/drm/hyperv/hyperv_drm_proto.c, drivers/video/fbdev/hyperv_fb.c.

mod changes;
#[cfg(feature = "embedded-graphics")]
mod draw;
mod error;
mod message;
mod pixels;
mod sizes;

use hv_guest::conduit::Conduit;
use hv_tlfs::vmbus::PacketType;
pub use hv_tlfs::vmbus::video::ScreenArea;
use hv_tlfs::vmbus::video::{
    DEPTH, MAX_RESOLUTIONS, MessageType, Rectangle, ResolutionRequest, Situation, SituationUpdate,
    VERSION_3_2, VERSION_3_5, VersionRequest, VramLocation,
};
use hv_vmbus_client::ring::Outgoing;
use hv_vmbus_client::{Channel, Dma, FLOOD, Window};
use zerocopy::little_endian::{I32, U32, U64};
use zerocopy::{FromZeros as _, Immutable, IntoBytes};

use changes::{Changes, MOST};
pub use error::Error;
use message::{Heard, Message, POSITION, ROOM, SHAPE};
use sizes::{DEFAULT, PIXEL, Sizes, picture};

use crate::Wait;
use crate::aligned::Aligned;

/// Versions of the protocol, the newest first.
const VERSIONS: [u32; 2] = [VERSION_3_5, VERSION_3_2];
/// Progress of the initialization.
type State = crate::state::State<Step, Error>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Version(usize),
    Sizes,
    Location,
}

/// Messages that are to be sent when there is room.
#[derive(Clone, Copy, Debug, Default)]
struct Due {
    position: bool,
    shape: bool,
    situation: bool,
}

/// A screen. It owns its channel: [`into_channel`](Self::into_channel) gives it back, to be closed.
///
/// The picture stays when the channel is closed.
#[derive(Debug)]
pub struct Screen<'t, 'w, D: Dma, C> {
    channel: Channel<'t, D, C>,
    window: Window<'w>,
    /// Bytes of the device's memory.
    bytes: u64,
    state: State,
    version: u32,
    sizes: Sizes,
    /// Width and height; zeros until the screen is ready.
    size: (u32, u32),
    due: Due,
    /// The host has a use for changes, as it said last, at any time since the channel was opened. Until it says so it
    /// has none, as in Linux since 19b5e6659eaf.
    reports: bool,
    changes: Changes,
    transaction: u64,
    ignored: u64,
}

impl<'t, 'w, D: Dma, C> Screen<'t, 'w, D, C> {
    /// Begins with a channel that was just opened, and the part of VMBus's address window that the memory is to be in.
    /// It needs as many bytes as the offer says ([`needed`]).
    pub fn new(channel: Channel<'t, D, C>, window: Window<'w>) -> Self {
        let bytes = needed(&channel.offer());
        let fits = bytes > 0 && bytes <= window.bytes() as u64;
        let (first, wrong) = (State::Send(Step::Version(0)), State::Failed(Error::Window { device: bytes }));
        Self {
            channel,
            window,
            bytes,
            state: if fits { first } else { wrong },
            version: 0,
            sizes: Sizes::NONE,
            size: (0, 0),
            due: Due::default(),
            reports: false,
            changes: Changes::NONE,
            transaction: 0,
            ignored: 0,
        }
    }

    /// Returns true once there is memory to draw in.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.state == State::Ready
    }

    /// Returns the version agreed on: major number in the low half. 0 before.
    #[must_use]
    pub const fn version(&self) -> u32 {
        self.version
    }

    /// Returns the sizes that the host names and its memory has room for: width and height. Version 3.2 names none.
    #[must_use]
    pub fn sizes(&self) -> &[(u32, u32)] {
        self.sizes.named()
    }

    /// Returns width and height; zeros until the screen is ready.
    #[must_use]
    pub const fn size(&self) -> (u32, u32) {
        self.size
    }

    /// Returns true while the host asks for changes. It may do so before the screen is ready.
    #[must_use]
    pub const fn is_watched(&self) -> bool {
        self.reports
    }

    /// Returns the number of packets that were not messages of a screen, or not awaited.
    #[must_use]
    pub const fn ignored(&self) -> u64 {
        self.ignored
    }

    /// Returns true if the host has rescinded the screen. What is drawn then is shown nowhere.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.channel.is_over()
    }

    /// Returns the channel, to be closed.
    pub fn into_channel(self) -> Channel<'t, D, C> {
        self.channel
    }
}

/// Returns the bytes of the memory that a screen's device has.
#[must_use]
pub fn needed(offer: &hv_vmbus_client::Offer) -> u64 {
    u64::from(offer.device().mmio_megabytes) << 20
}

impl<D: Dma, C: Conduit> Screen<'_, '_, D, C> {
    /// Takes what the host has sent, and sends pending messages. Call it when the channel has an interrupt.
    /// After a rescind there is nothing to take: ask [`is_over`](Self::is_over).
    ///
    /// # Errors
    ///
    /// [`Error`]: close the channel.
    pub fn poll(&mut self) -> Result<(), Error> {
        let mut buffer = Aligned([0; ROOM]);
        for _ in 0..FLOOD {
            self.send_next()?;
            let Some(mut packet) = self.channel.receive()? else {
                return match self.state {
                    State::Failed(error) => Err(error),
                    _ => Ok(()),
                };
            };
            let kind = packet.kind();
            let len = packet.read(&mut buffer.0);
            let heard = message::judge(buffer.0.get(..len).unwrap_or(&[]));
            match heard.filter(|_| kind == PacketType::DATA_IN_BAND) {
                Some(heard) => self.hear(heard),
                None => self.ignored += 1,
            }
        }
        Err(hv_vmbus_client::Error::Flood.into())
    }

    /// Waits until the screen is ready.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub fn wait_ready(&mut self, wait: &mut impl Wait) -> Result<(), Error> {
        loop {
            self.poll()?;
            if self.is_ready() {
                return Ok(());
            }
            if self.is_over() {
                return Err(hv_vmbus_client::Error::Rescinded.into());
            }
            wait()?;
        }
    }

    /// Changes width and height. What the memory has stays, and is another picture: redraw.
    ///
    /// # Errors
    ///
    /// [`Error::NotReady`]; [`Error::Size`] if it exceeds the largest size that the host names, or the memory.
    /// [`Error::Client`]: close the channel.
    pub fn set_size(&mut self, width: u32, height: u32) -> Result<(), Error> {
        if self.state != State::Ready {
            return Err(Error::NotReady);
        }
        let largest = self.sizes.largest();
        let fits = width <= largest.0 && height <= largest.1 && picture(width, height) <= self.bytes;
        if width == 0 || height == 0 || !fits {
            return Err(Error::Size(width, height));
        }
        self.show((width, height));
        self.send_next()
    }

    /// Tells the host what has changed since the last call, if it has a use for that.
    ///
    /// # Errors
    ///
    /// As [`poll`](Self::poll), which it does first. [`Error::NotReady`]. [`Error::Client`] with an error that
    /// [may be retried](hv_vmbus_client::Error::may_retry): the ring has no room, and the changes stay noted.
    pub fn flush(&mut self) -> Result<(), Error> {
        self.poll()?;
        if self.state != State::Ready {
            return Err(Error::NotReady);
        }
        self.report()
    }

    /// Shows a picture of this size. All of it is new.
    fn show(&mut self, size: (u32, u32)) {
        self.size = size;
        self.due.situation = true;
        self.changes = Changes::NONE;
        self.changes.add(ScreenArea::new(0, 0, size.0, size.1));
    }

    fn report(&mut self) -> Result<(), Error> {
        if self.changes.areas().is_empty() {
            return Ok(());
        }
        if self.reports {
            let corner = |place: u32| I32::new(place as i32);
            let mut list = [Rectangle::new_zeroed(); MOST];
            for (place, area) in list.iter_mut().zip(self.changes.areas()) {
                let ScreenArea { left, top, right, bottom } = *area;
                let [left, top, right, bottom] = [left, top, right, bottom].map(corner);
                *place = Rectangle { left, top, right, bottom };
            }
            let count = self.changes.areas().len();
            let list = list.get(..count).unwrap_or(&list);
            self.say(MessageType::DIRT, &[&[0, count as u8], list.as_bytes()])?;
        }
        // All of the screen is reported when the host begins to look.
        self.changes = Changes::NONE;
        Ok(())
    }

    /// Sends a message.
    fn say(&mut self, kind: MessageType, body: &[&[u8]]) -> Result<(), hv_vmbus_client::Error> {
        let message = Message::new(kind, body);
        match self.channel.send(&Outgoing::in_band(self.transaction + 1, message.payload())) {
            // A signal that failed does not take the packet out of the ring.
            Ok(()) | Err(hv_vmbus_client::Error::Post(_)) => {
                self.transaction += 1;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Sends a message, or returns false if there is no room for it now.
    fn try_say(&mut self, kind: MessageType, body: &(impl IntoBytes + Immutable)) -> Result<bool, Error> {
        match self.say(kind, &[body.as_bytes()]) {
            Ok(()) => Ok(true),
            Err(error) if error.may_retry() => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Sends pending messages, as far as there is room.
    fn send_next(&mut self) -> Result<(), Error> {
        if let State::Send(step) = self.state
            && self.send_step(step)?
        {
            self.state = State::Await(step);
        }
        if self.due.position {
            self.due.position = !self.try_say(MessageType::POINTER_POSITION, &POSITION)?;
        }
        if self.due.shape {
            self.due.shape = !self.try_say(MessageType::POINTER_SHAPE, &SHAPE)?;
        }
        if self.due.situation {
            let (width, height) = self.size;
            let situation = Situation {
                active: 1,
                vram_offset: U32::ZERO,
                depth_bits: DEPTH,
                width: U32::new(width),
                height: U32::new(height),
                pitch: U32::new(width * PIXEL),
            };
            let update = SituationUpdate { user_context: U64::ZERO, video_output_count: 1, situation };
            self.due.situation = !self.try_say(MessageType::SITUATION_UPDATE, &update)?;
        }
        Ok(())
    }

    fn send_step(&mut self, step: Step) -> Result<bool, Error> {
        match step {
            Step::Version(n) => {
                let version = U32::new(VERSIONS.get(n).copied().unwrap_or(VERSION_3_2));
                self.try_say(MessageType::VERSION_REQUEST, &VersionRequest { version })
            }
            Step::Sizes => {
                let request = ResolutionRequest { maximum: MAX_RESOLUTIONS as u8 };
                self.try_say(MessageType::RESOLUTION_REQUEST, &request)
            }
            Step::Location => {
                let address = U64::new(self.window.gpa());
                let location = VramLocation { user_context: address, has_address: 1, address };
                self.try_say(MessageType::VRAM_LOCATION, &location)
            }
        }
    }

    /// Acts on a message from the host.
    fn hear(&mut self, heard: Heard<'_>) {
        match (self.state, heard) {
            (State::Await(Step::Version(n)), Heard::Version(accepted)) => {
                self.state = match (accepted, VERSIONS.get(n), VERSIONS.get(n + 1)) {
                    (true, Some(version), _) => {
                        self.version = *version;
                        // Version 3.2 names no sizes.
                        State::Send(if *version >= VERSION_3_5 { Step::Sizes } else { Step::Location })
                    }
                    (_, _, Some(_)) => State::Send(Step::Version(n + 1)),
                    _ => State::Failed(Error::NoVersion),
                };
            }
            (State::Await(Step::Sizes), Heard::Sizes(list)) => {
                self.state = match message::sizes(list) {
                    Ok(mut sizes) => {
                        sizes.fit(self.bytes);
                        self.sizes = sizes;
                        State::Send(Step::Location)
                    }
                    Err(error) => State::Failed(error),
                };
            }
            (State::Await(Step::Location), Heard::Located(context)) => self.located(context),
            // The pointer and the situation are sent once the screen is ready, whatever the host wants.
            (State::Send(_) | State::Await(_), Heard::Wants { changes, .. }) => self.reports = changes,
            (State::Ready, Heard::Wants { changes, pointer, situation }) => {
                (self.due.position, self.due.shape) = (pointer, pointer);
                self.due.situation |= situation;
                if changes && !self.reports {
                    self.changes.add(ScreenArea::new(0, 0, self.size.0, self.size.1));
                }
                self.reports = changes;
            }
            (State::Ready, Heard::Shown) => {}
            _ => self.ignored += 1,
        }
    }

    /// Handles the host's answer to the location of its memory.
    fn located(&mut self, context: u64) {
        let gpa = self.window.gpa();
        let default = self.sizes.default.or(self.sizes.named().first().copied()).unwrap_or(DEFAULT);
        self.state = match (context == gpa, picture(default.0, default.1) <= self.bytes) {
            (false, _) => State::Failed(Error::Refused(gpa)),
            (_, false) => State::Failed(Error::Size(default.0, default.1)),
            _ => State::Ready,
        };
        if self.state == State::Ready {
            (self.due.position, self.due.shape) = (true, true);
            self.show(default);
        }
    }
}
