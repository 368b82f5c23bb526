//! The messages: what each has, and its bytes.

use super::{FrameHead, FrameWriter};

/// An integration service or input device of the guest, as a number on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Service {
    /// Shutdown.
    Shutdown = 0,
    /// Time synchronisation.
    TimeSync = 1,
    /// Heartbeat.
    Heartbeat = 2,
    /// Key-value pairs.
    Kvp = 3,
    /// Shadow copies.
    Vss = 4,
    /// Keyboard.
    Keyboard = 5,
    /// Mouse.
    Mouse = 6,
    /// File copy.
    Fcopy = 7,
    /// Dynamic memory.
    Balloon = 8,
    /// Video.
    Video = 9,
}

impl Service {
    /// All of them, by number.
    pub const ALL: [Self; 10] = [
        Self::Shutdown,
        Self::TimeSync,
        Self::Heartbeat,
        Self::Kvp,
        Self::Vss,
        Self::Keyboard,
        Self::Mouse,
        Self::Fcopy,
        Self::Balloon,
        Self::Video,
    ];

    /// Returns the service's bit in a set of services.
    #[must_use]
    pub const fn bit(self) -> u32 {
        1 << self as u8
    }
}

/// Progress of the guest's driver for a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum DriverState {
    /// The service is not on the bus.
    Absent = 0,
    /// No driver has opened it.
    Closed = 1,
    /// The driver has not chosen versions.
    Negotiating = 2,
    /// It takes requests.
    Ready = 3,
    /// It knows none of the versions.
    Incompatible = 4,
}

/// A service's state: how far the guest's driver is, and the version agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceState {
    /// How far the guest's driver is.
    pub driver: DriverState,
    /// Major version.
    pub major: u16,
    /// Minor version.
    pub minor: u16,
}

/// Reason why a request was not sent to the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Refusal {
    /// The hypervisor does not know such a message.
    Unknown = 0,
    /// The service is not on the bus.
    Absent = 1,
    /// The guest has no driver for it.
    Closed = 2,
    /// The guest's driver waits for a guest program.
    Negotiating = 3,
    /// The guest's driver knows none of the versions.
    Incompatible = 4,
    /// The guest has not answered the last request.
    Busy = 5,
    /// The version agreed on has no such request.
    Unsupported = 6,
    /// The request has no form of the protocol.
    Invalid = 7,
    /// The guest does not read its ring.
    Full = 8,
}

macro_rules! numbered {
    ($($Type:ident { $($Variant:ident),+ })+) => {$(
        impl $Type {
            /// Returns the service with this number.
            #[must_use]
            pub const fn by_number(number: u8) -> Option<Self> {
                match number {
                    $(n if n == Self::$Variant as u8 => Some(Self::$Variant),)+
                    _ => None,
                }
            }
        }
    )+};
}
numbered! {
    Service { Shutdown, TimeSync, Heartbeat, Kvp, Vss, Keyboard, Mouse, Fcopy, Balloon, Video }
    DriverState { Absent, Closed, Negotiating, Ready, Incompatible }
    Refusal { Unknown, Absent, Closed, Negotiating, Incompatible, Busy, Unsupported, Invalid, Full }
}

/// Reader of a body from front to back.
pub(super) struct Body<'a>(pub(super) &'a [u8]);

impl<'a> Body<'a> {
    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(front)
    }

    pub(super) fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

/// A field of a message.
pub(super) trait Field<'a>: Sized {
    fn put(&self, frame: &mut FrameWriter<'_>) -> Option<()>;
    fn take(body: &mut Body<'a>) -> Option<Self>;
}

macro_rules! numbers {
    ($($Number:ident),+) => {$(
        impl<'a> Field<'a> for $Number {
            fn put(&self, frame: &mut FrameWriter<'_>) -> Option<()> {
                frame.put(&self.to_le_bytes())
            }

            fn take(body: &mut Body<'a>) -> Option<Self> {
                Some(Self::from_le_bytes(body.take(size_of::<Self>())?.try_into().ok()?))
            }
        }
    )+};
}
numbers!(u8, u16, u32, u64);

impl<'a> Field<'a> for bool {
    fn put(&self, frame: &mut FrameWriter<'_>) -> Option<()> {
        u8::from(*self).put(frame)
    }

    fn take(body: &mut Body<'a>) -> Option<Self> {
        match u8::take(body)? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
}

/// Bytes, with their number before them.
impl<'a> Field<'a> for &'a [u8] {
    fn put(&self, frame: &mut FrameWriter<'_>) -> Option<()> {
        u16::try_from(self.len()).ok()?.put(frame)?;
        frame.put(self)
    }

    fn take(body: &mut Body<'a>) -> Option<Self> {
        let len = u16::take(body)?;
        body.take(len.into())
    }
}

impl<'a> Field<'a> for Refusal {
    fn put(&self, frame: &mut FrameWriter<'_>) -> Option<()> {
        (*self as u8).put(frame)
    }

    fn take(body: &mut Body<'a>) -> Option<Self> {
        Self::by_number(u8::take(body)?)
    }
}

impl<'a> Field<'a> for Service {
    fn put(&self, frame: &mut FrameWriter<'_>) -> Option<()> {
        (*self as u8).put(frame)
    }

    fn take(body: &mut Body<'a>) -> Option<Self> {
        Self::by_number(u8::take(body)?)
    }
}

impl<'a> Field<'a> for [ServiceState; Service::ALL.len()] {
    fn put(&self, frame: &mut FrameWriter<'_>) -> Option<()> {
        self.iter().try_for_each(|state| {
            (state.driver as u8).put(frame)?;
            state.major.put(frame)?;
            state.minor.put(frame)
        })
    }

    fn take(body: &mut Body<'a>) -> Option<Self> {
        let mut states =
            [ServiceState { driver: DriverState::Absent, major: 0, minor: 0 }; Service::ALL.len()];
        for state in &mut states {
            state.driver = DriverState::by_number(u8::take(body)?)?;
            (state.major, state.minor) = (u16::take(body)?, u16::take(body)?);
        }
        Some(states)
    }
}

/// Makes an enumeration of messages: its bytes, and the way back.
macro_rules! messages {
    ($(#[$meta:meta])* $Name:ident {
        $($(#[$variant_meta:meta])* $Variant:ident = $number:literal { $($(#[$field_meta:meta])* $field:ident: $Type:ty,)* })+
    }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $Name<'a> {
            $($(#[$variant_meta])* $Variant { $($(#[$field_meta])* $field: $Type,)* },)+
        }

        impl<'a> $Name<'a> {
            /// Makes a frame of the message, in `buffer`, and returns its length; `None` if it is longer than the
            /// buffer, or than a frame may be.
            #[must_use]
            pub fn encode(&self, id: u32, buffer: &mut [u8]) -> Option<usize> {
                match self {
                    $(Self::$Variant { $($field,)* } => {
                        #[allow(unused_mut, reason = "a message may have no fields")]
                        let mut frame = FrameWriter::begin(buffer, id, $number)?;
                        $($field.put(&mut frame)?;)*
                        frame.end()
                    })+
                }
            }

            /// Decodes the message of a frame; `None` if it is invalid.
            #[must_use]
            pub fn decode(head: &FrameHead, body: &'a [u8]) -> Option<Self> {
                let mut body = Body(body);
                let message = match head.kind {
                    $($number => Self::$Variant { $($field: Field::take(&mut body)?,)* },)+
                    _ => return None,
                };
                body.end()?;
                Some(message)
            }
        }
    };
}
pub(super) use messages;

messages! {
    /// A message to the hypervisor.
    ToHypervisor {
        /// The first message. It is answered with a hello.
        Hello = 1 {
            /// The tool's [`CONTROL_VERSION`](super::CONTROL_VERSION).
            version: u16,
        }
        /// How far is the guest with each service? Answered with a status.
        Status = 2 {}
        /// Ask the guest to power off (0), to restart (1) or to hibernate (2).
        Shutdown = 3 {
            /// Which.
            action: u8,
            /// Without asking the guest's programs.
            force: bool,
        }
        /// Ask the guest for key-value pairs: an operation and a pool by the interface's numbers. Texts are UTF-16 with
        /// a closing zero; of addresses, the key is the adapter.
        Kvp = 4 {
            /// What is asked.
            operation: u8,
            /// Pool of the pair.
            pool: u8,
            /// Place in the pool, of a list.
            index: u32,
            /// The key.
            key: &'a [u8],
            /// The value, where one is set.
            value: &'a [u8],
        }
        /// Set the guest's clock; and if `now` is not 0, that is the host's time, in 100 ns since the year 1601.
        TimeSync = 5 {
            /// The host's time.
            now: u64,
        }
        /// Ask the guest for an operation of shadow copies, by the interface's number.
        Vss = 6 {
            /// What is asked.
            operation: u8,
        }
        /// Press and release keys of the guest's keyboard.
        Type = 7 {
            /// For each a scan code of set 1, and flags by the interface's numbers: 2 for a release, 4 and 8 for
            /// prefixes.
            keys: &'a [u8],
        }
        /// Move the guest's mouse, and press and release its buttons.
        Point = 8 {
            /// For each state buttons, position and steps of the wheel: 6 bytes, as in an input report.
            states: &'a [u8],
        }
        /// Begin a file in the guest. Texts are UTF-16 with a closing zero.
        CopyStart = 16 {
            /// Its name.
            file: &'a [u8],
            /// Its folder.
            folder: &'a [u8],
            /// Replace a file of the same name.
            overwrite: bool,
            /// Create missing folders.
            create_path: bool,
            /// Bytes of the file.
            size: u64,
        }
        /// Write a piece of the file.
        CopyWrite = 17 {
            /// Where it belongs.
            offset: u64,
            /// Its bytes: [`MAX_PIECE`](super::MAX_PIECE) at most.
            data: &'a [u8],
        }
        /// End the file: it is whole, or it is given up.
        CopyEnd = 18 {
            /// It is given up.
            cancel: bool,
        }
        /// Have the guest give up pages of 4 KiB, or get them back, until it has given up this many.
        Balloon = 19 {
            /// The pages.
            taken: u64,
        }
        /// What is known of the guest's memory? Answered with memory.
        Memory = 20 {}
        /// The pages of the last discard are discarded. It has no answer.
        Discarded = 21 {}
        /// What does the screen show? Answered with screen.
        Screen = 22 {}
        /// Add a disk, whose memory lies in the window for that.
        DiskAdd = 32 {
            /// Start of the memory, 4 KiB aligned.
            base: u64,
            /// Bytes of the disk.
            size: u64,
            /// The 16 bytes of [`BootDisk::id`](crate::BootDisk::id).
            identity: &'a [u8],
            /// Bits of [`DiskFlags`](crate::DiskFlags).
            flags: u32,
            /// SCSI controller.
            controller: u16,
            /// Logical unit.
            lun: u16,
        }
        /// Remove a disk. Once it is answered, nothing reaches the disk's memory.
        DiskRemove = 33 {
            /// SCSI controller.
            controller: u16,
            /// Logical unit.
            lun: u16,
        }
        /// Change the size of a disk. Once it is answered, nothing reaches memory after a smaller one.
        DiskResize = 34 {
            /// SCSI controller.
            controller: u16,
            /// Logical unit.
            lun: u16,
            /// Bytes of the disk.
            size: u64,
        }
        /// Take a device away from the guest: a controller by its number, a service by its number after the
        /// controllers, or the network card by the number after the services.
        Rescind = 35 {
            /// Which.
            device: u8,
        }
        /// Take the link of the network card up or down.
        Link = 36 {
            /// Up.
            up: bool,
        }
    }
}

messages! {
    /// A message of the hypervisor's.
    FromHypervisor {
        /// Answer to a hello.
        Hello = 0x8001 {
            /// The hypervisor's [`CONTROL_VERSION`](super::CONTROL_VERSION).
            version: u16,
        }
        /// Answer to a status: each service's state, by its number.
        Status = 0x8002 {
            /// The services.
            services: [ServiceState; Service::ALL.len()],
        }
        /// The request was not sent to the guest.
        Refused = 0x8003 {
            /// Why.
            why: Refusal,
        }
        /// The guest has answered, or will not: the status, or 1 << 32 for an answer that has no form of the protocol,
        /// or 2 << 32 for a channel that was closed. Of a request that needs no answer: 0.
        Outcome = 0x8004 {
            /// The status.
            outcome: u64,
            /// Flags of an answer of shadow copies, else 0.
            flags: u32,
        }
        /// The guest has answered with a pair. Texts are the guest's: UTF-16, and without their closing zeros.
        Pair = 0x8005 {
            /// The type of the value, by the interface's number.
            value_type: u32,
            /// The key.
            key: &'a [u8],
            /// The value.
            value: &'a [u8],
        }
        /// The guest has answered with addresses: the interface's structure.
        Addresses = 0x8006 {
            /// Its bytes.
            bytes: &'a [u8],
        }
        /// Answer to memory: numbers of pages of 4 KiB.
        Memory = 0x8010 {
            /// Pages that the guest has given up.
            taken: u64,
            /// The guest has reported the next two.
            reported: bool,
            /// Pages that are available to it.
            available: u64,
            /// Pages that it needs, those that it has given up included.
            committed: u64,
        }
        /// The guest has given up pages: their contents are no longer needed. Its id is 0: nothing was asked. Answer
        /// with discarded.
        Discard = 0x8011 {
            /// Ranges of pages, 8 bytes each: the interface's structure.
            ranges: &'a [u8],
        }
        /// Answer to screen.
        Screen = 0x8012 {
            /// Place of the first pixel, counted from the beginning of the [video memory](crate::BootInfo::video_base).
            offset: u64,
            /// Bits of a pixel: 32 or 16; 0 if the guest shows nothing.
            depth: u8,
            /// Pixels of a row.
            width: u32,
            /// Rows.
            height: u32,
            /// Bytes from one row to the next.
            pitch: u32,
            /// What has changed since the last answer: first column.
            left: u32,
            /// First row of it.
            top: u32,
            /// First column after it.
            right: u32,
            /// First row after it.
            bottom: u32,
        }
    }
}
