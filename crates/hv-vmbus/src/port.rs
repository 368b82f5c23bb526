//! The bus's interface to the partition, and the devices' interface to their back ends.

use crate::event::Event;
use crate::id::{DeviceId, Token};
use crate::pages::Pages;
use crate::protocol::Guid;
use crate::seen::{Contents, Seen};
use crate::traffic::Traffic;
use core::convert::Infallible;
use hv_memory::GuestMemory;
use hv_tlfs::time::ReferenceTime;

/// Outcome of posting a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Posted {
    /// It is in a message slot or in the queue before it.
    Queued,
    /// The queue is full; the bus keeps the message until [`Bus::flush`](crate::Bus::flush) is called.
    Full,
    /// It can never be delivered: there is no such VP, or its SynIC is off. The bus drops it.
    Undeliverable,
}

/// Time at which a request is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Start {
    /// When the device has returned.
    Now,
    /// After this time.
    Late(ReferenceTime),
    /// After a later request of the device is done, or after [`OVERTAKEN`] if there is none.
    After,
    /// Never: it is dropped when its channel is closed.
    Never,
}

/// Maximum time that a request waits for a later one ([`Start::After`]).
pub const OVERTAKEN: ReferenceTime = ReferenceTime(200_000);

/// Time at which a device may be rescinded by [`BusFaults::rescinds`].
///
/// Exhaustive on purpose: a port that injects faults names each moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// A channel was opened, and the guest has not been told yet.
    Open,
    /// A packet was taken.
    Packet,
}

/// The partition, from the bus's point of view.
///
/// Every call of the bus gets one. The bus calls these methods with locks held, so none of them may call the bus. Locks
/// that they take come after the bus's own.
pub trait BusPort {
    /// The guest's memory.
    type Memory: GuestMemory;

    /// Returns the guest's memory.
    fn memory(&self) -> &Self::Memory;

    /// Returns the partition's reference time.
    fn reference_time(&self) -> ReferenceTime;

    /// Queues a SynIC message of type [`MESSAGE_TYPE`](crate::protocol::connection::MESSAGE_TYPE) for a VP's SINT. The
    /// payload has at most 240 bytes.
    fn post(&self, vp: u32, sint: u8, payload: &[u8]) -> Posted;

    /// Sets event flag `flag` of a VP's SINT, and interrupts the VP if it was clear. If the VP or SINT does not exist
    /// or is masked, the signal is lost, as the TLFS specifies for `HvCallSignalEvent`.
    fn interrupt(&self, vp: u32, sint: u8, flag: u16);

    /// Returns true if the partition has a VP with this index.
    fn has_vp(&self, vp: u32) -> bool;

    /// Is told how much a device did during a call, if it was anything. Calls for one device do not overlap: its lock
    /// is held, here and in [`served`](Self::served).
    #[inline]
    fn traffic(&self, device: DeviceId, traffic: &Traffic) {
        let _ = (device, traffic);
    }

    /// Is told how long a request took: from the call in which its packet was taken to its end.
    #[inline]
    fn served(&self, device: DeviceId, time: ReferenceTime) {
        let _ = (device, time);
    }

    /// Reports an event on the bus.
    #[inline]
    fn observe(&self, event: Event) {
        let _ = event;
    }

    /// Returns the faults to inject: none.
    #[inline]
    fn faults(&self) -> impl BusFaults {
        NoBusFaults
    }

    /// Returns true if [`packet`](Self::packet) has a use for packets. The bus asks once in a call, and collects
    /// nothing for a port that has none.
    #[inline]
    fn sees_packets(&self) -> bool {
        false
    }

    /// Shows a packet: one from the guest before the device gets it, one to the guest when it is in the ring. A packet
    /// that the device leaves in the ring for later is shown once.
    #[inline]
    fn packet(&self, packet: &Seen<'_>) {
        let _ = packet;
    }

    /// Shows a part of a packet's data. Only a port that [sees packets](Self::sees_packets) is shown any.
    #[inline]
    fn contents(&self, contents: &Contents<'_>) {
        let _ = contents;
    }
}

/// Faults that a port injects into its bus. The methods have defaults that inject nothing.
pub trait BusFaults {
    /// Returns true if there may be any. If there are none, a call of the bus pays for this one question, and a new
    /// contact or version for [`refuses`](Self::refuses).
    #[inline]
    fn is_planned(&self) -> bool {
        true
    }

    /// Says when a request of a device is started.
    #[inline]
    fn starts(&self, device: DeviceId) -> Start {
        let _ = device;
        Start::Now
    }

    /// Returns true while no device takes packets. Call [`Bus::resume_all`](crate::Bus::resume_all) when that has
    /// ended.
    #[inline]
    fn is_mute(&self) -> bool {
        false
    }

    /// Returns true to rescind a device of this kind at this moment.
    #[inline]
    fn rescinds(&self, interface: &Guid, moment: Moment) -> bool {
        let _ = (interface, moment);
        false
    }

    /// Returns true to refuse a version of the protocol of this kind of devices, or with [`Guid::ZERO`] of VMBus: major
    /// number in the upper half.
    #[inline]
    fn refuses(&self, interface: &Guid, version: u32) -> bool {
        let _ = (interface, version);
        false
    }
}

/// No faults: what a port has by default.
#[derive(Clone, Copy, Debug)]
struct NoBusFaults;

impl BusFaults for NoBusFaults {
    #[inline]
    fn is_planned(&self) -> bool {
        false
    }
}

/// A reference to faults injects them as well.
impl<F: BusFaults> BusFaults for &F {
    #[inline]
    fn is_planned(&self) -> bool {
        (**self).is_planned()
    }

    #[inline]
    fn starts(&self, device: DeviceId) -> Start {
        (**self).starts(device)
    }

    #[inline]
    fn is_mute(&self) -> bool {
        (**self).is_mute()
    }

    #[inline]
    fn rescinds(&self, interface: &Guid, moment: Moment) -> bool {
        (**self).rescinds(interface, moment)
    }

    #[inline]
    fn refuses(&self, interface: &Guid, version: u32) -> bool {
        (**self).refuses(interface, version)
    }
}

/// A device's request to its back end.
pub trait Work {
    /// The back end's answer.
    type Outcome;

    /// Returns the number of bytes that the back end processes besides the data of the request. They count against the
    /// work limit of a call, as those data do, so a request with much work and little data delays nothing.
    fn cost(&self) -> usize {
        0
    }

    /// Returns false for a part of a command that another request has begun: injected faults are for whole commands.
    fn begins(&self) -> bool {
        true
    }

    /// Returns the part of a medium that the request reads or writes: the first byte, and the first after the last.
    fn extent(&self) -> Option<(u64, u64)> {
        None
    }
}

/// [`Backend::REQUEST_LIMIT`] of a back end that names none.
pub const REQUEST_LIMIT: u64 = 64 << 10;

/// The request type of a device that makes none.
pub type Never = Infallible;

impl Work for Never {
    type Outcome = Never;
}

/// Outcome of starting a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Started<O> {
    /// The back end is working on it, and [`Bus::completed`](crate::Bus::completed) will be called with the token.
    Pending,
    /// It is done.
    Done(O),
    /// The back end has no room. The request waits, and no further packets are taken, until another request of the
    /// device is completed or [`Bus::resume`](crate::Bus::resume) is called.
    Full,
}

/// The back end of a device: it is told what to do, not why.
///
/// A port implements it for each type of request made by the devices on its bus. For devices that make none that is
/// [`Never`], and the body is a `match` of the request, which has no values.
pub trait Backend<W: Work>: BusPort {
    /// Maximum number of bytes that one request has the back end process, its data and its cost together, where a
    /// device splits its commands: a multiple of 4096.
    const REQUEST_LIMIT: u64 = REQUEST_LIMIT;

    /// Starts a request of a device.
    ///
    /// `data` is validated guest memory; its addresses remain valid until the request is completed, and the bus does
    /// not tell the guest before that its pages are its own again. It is called with the device's lock held, so it must
    /// not call the bus; another thread or an interrupt may call [`Bus::completed`](crate::Bus::completed) even before
    /// this returns.
    fn start(&self, device: DeviceId, token: Token, request: &W, data: Pages<'_>) -> Started<W::Outcome>;
}
