//! The devices of a bus, composed by the embedder.
//!
//! A [`Slot`](crate::Slot) is one device, an array of slots several of a kind, and [`devices!`](crate::devices) creates
//! a structure of named ones. A guest's signal is led through them to its slot by static dispatch; rare calls go
//! through `dyn`.

use crate::device::{Connect, Opening};
use crate::event::Reason;
use crate::io::{Cx, Position};
use crate::line::{Line, Open};
use crate::port::BusPort;
use crate::protocol::ChannelOffer;
use core::sync::atomic::AtomicU32;
use hv_memory::Deadline;
use hv_memory::save::{Reader, RestoreError, Writer};

/// A collection of devices.
pub trait DeviceSet {
    /// Total number of channels.
    const LINES: usize;
    /// Number of devices.
    const DEVICES: usize;

    /// Returns the earliest of their deadlines.
    #[doc(hidden)]
    fn deadline(&self) -> Deadline;
}

/// The devices on a bus of a partition accessed through `P`. Implemented by [`devices!`](crate::devices).
pub trait Devices<P: BusPort>: DeviceSet {
    #[doc(hidden)]
    fn signal(&self, line: usize, connection: u32, at: Position, cx: &Cx<'_, P>) -> bool;

    /// Calls a function with each device. Never inlined, and neither is the next: else each caller has a copy for each
    /// device.
    #[doc(hidden)]
    fn each(&self, at: Position, each: &mut dyn FnMut(&dyn Node<P>, Position));

    /// Calls a function with the device that has a channel.
    #[doc(hidden)]
    fn with_line(&self, line: usize, at: Position, work: &mut dyn FnMut(&dyn Node<P>, Position, usize));

    /// Writes the state of the devices. It is here and not in [`Node`], so that a bus that is never saved has no code
    /// for it.
    #[doc(hidden)]
    fn save(&self, at: Position, cx: &Cx<'_, P>, w: &mut Writer<'_>);

    #[doc(hidden)]
    fn load(&self, at: Position, cx: &Cx<'_, P>, r: &mut Reader<'_>) -> Result<(), RestoreError>;
}

/// One device, with its lock free.
#[doc(hidden)]
pub trait Node<P: BusPort> {
    fn identity(&self) -> *const AtomicU32;
    fn deadline(&self) -> Deadline;
    fn line_of(&self, connection: u32) -> Option<usize>;
    /// Returns true if none of its channels is offered, being offered or still known to the guest. What another call
    /// does with it meanwhile may count as done afterwards.
    fn is_vacant(&self) -> bool;
    fn tick(&self, at: Position, cx: &Cx<'_, P>);
    fn work(&self, at: Position, cx: &Cx<'_, P>, work: &mut dyn FnMut(&mut dyn Part));
}

/// One device, locked.
#[doc(hidden)]
#[expect(private_interfaces, reason = "only this crate calls these")]
pub trait Part {
    fn lines(&mut self) -> &mut [Line];
    /// Returns the number of its channels up to the last that is not vacant.
    fn reach(&mut self) -> usize;
    /// Accepts an offer.
    fn fill(&mut self, line: usize, offer: &ChannelOffer, lasting: bool);
    fn open(&mut self, line: usize, opening: &Opening<'_>, open: Open) -> Result<(), Reason>;
    fn close(&mut self, line: usize);
    fn release(&mut self, line: usize);
    fn connect(&mut self, connect: &Connect) -> Option<Result<(), Reason>>;
    fn subchannels(&self) -> u16;
    fn live(&mut self, line: usize);
    fn resume(&mut self);
    fn reset(&mut self, first: bool);
}

impl<T: DeviceSet, const N: usize> DeviceSet for [T; N] {
    const LINES: usize = T::LINES * N;
    const DEVICES: usize = T::DEVICES * N;

    fn deadline(&self) -> Deadline {
        self.iter().map(T::deadline).fold(Deadline::NEVER, Deadline::earlier)
    }
}

impl<P: BusPort, T: Devices<P>, const N: usize> Devices<P> for [T; N] {
    #[inline]
    fn signal(&self, line: usize, connection: u32, at: Position, cx: &Cx<'_, P>) -> bool {
        let index = line / T::LINES.max(1);
        let at = at.after(T::DEVICES * index, T::LINES * index);
        self.get(index).is_some_and(|device| device.signal(line % T::LINES, connection, at, cx))
    }

    #[inline(never)]
    fn each(&self, at: Position, each: &mut dyn FnMut(&dyn Node<P>, Position)) {
        for (index, device) in self.iter().enumerate() {
            device.each(at.after(T::DEVICES * index, T::LINES * index), each);
        }
    }

    #[inline(never)]
    fn with_line(&self, line: usize, at: Position, work: &mut dyn FnMut(&dyn Node<P>, Position, usize)) {
        let index = line / T::LINES.max(1);
        let at = at.after(T::DEVICES * index, T::LINES * index);
        if let Some(device) = self.get(index) {
            device.with_line(line % T::LINES, at, work);
        }
    }

    fn save(&self, at: Position, cx: &Cx<'_, P>, w: &mut Writer<'_>) {
        for (index, device) in self.iter().enumerate() {
            device.save(at.after(T::DEVICES * index, T::LINES * index), cx, w);
        }
    }

    fn load(&self, at: Position, cx: &Cx<'_, P>, r: &mut Reader<'_>) -> Result<(), RestoreError> {
        for (index, device) in self.iter().enumerate() {
            device.load(at.after(T::DEVICES * index, T::LINES * index), cx, r)?;
        }
        Ok(())
    }
}

/// Creates a structure of devices: each field is a [`Slot`](crate::Slot), an array of them, or another such structure.
/// Channels are numbered in the order of the fields.
///
/// ```
/// # use hv_vmbus::{Backend, Device, Io, Never, Packet, Taken};
/// # #[derive(Debug)] pub struct Silent;
/// # impl Device for Silent {
/// #     type Request = Never;
/// #     const NAME: [u8; 4] = *b"none";
/// #     fn packet<P: Backend<Never>>(&mut self, _: &mut Packet<'_, P::Memory>, _: &mut Io<'_, P, Never>) -> Taken {
/// #         Taken::Later
/// #     }
/// #     fn reset(&mut self) {}
/// # }
/// type Lock = spin::Mutex<()>;
///
/// hv_vmbus::devices! {
///     /// The devices of this machine.
///     pub struct MachineDevices {
///         pub clock: hv_vmbus::Slot<Lock, Silent>,
///         /// With four sub-channels each, and up to 64 requests of 66 pages.
///         pub disks: [hv_vmbus::Slot<Lock, Silent, 5, 64, 66>; 2],
///     }
/// }
///
/// use hv_vmbus::DeviceSet;
/// assert_eq!((MachineDevices::DEVICES, MachineDevices::LINES), (3, 11));
/// ```
///
/// The lock may be a parameter, `struct MachineDevices<R: RawMutex>`, and so may be a number after it, `<R: RawMutex,
/// const REQUESTS: usize>`.
///
/// With a value behind each type, the structure has a `const fn new` that creates the devices. With `mod` before each
/// name, the device's file is a module of that name too, so that a device is that file and one line:
///
/// ```text
/// hv_vmbus::devices! {
///     pub struct MachineDevices {
///         pub mod clock: Slot<Lock, clock::Clock> = Slot::offering(clock::Clock::new(), clock::OFFER),
///     }
/// }
/// ```
#[macro_export]
macro_rules! devices {
    (
        $(#[$meta:meta])*
        $vis:vis struct $Name:ident {
            $($(#[$field_meta:meta])* $field_vis:vis mod $field:ident: $Type:ty = $new:expr),+ $(,)?
        }
    ) => {
        $($field_vis mod $field;)+

        $crate::devices! {
            $(#[$meta])*
            $vis struct $Name {
                $($(#[$field_meta])* $field_vis $field: $Type = $new,)+
            }
        }
    };
    (
        $(#[$meta:meta])*
        $vis:vis struct $Name:ident$(<$Lock:ident: $Bound:path $(, const $N:ident: usize)?>)? {
            $($(#[$field_meta:meta])* $field_vis:vis $field:ident: $Type:ty = $new:expr),+ $(,)?
        }
    ) => {
        $crate::devices! {
            $(#[$meta])*
            $vis struct $Name$(<$Lock: $Bound $(, const $N: usize)?>)? {
                $($(#[$field_meta])* $field_vis $field: $Type,)+
            }
        }

        impl$(<$Lock: $Bound $(, const $N: usize)?>)? $Name$(<$Lock $(, $N)?>)? {
            /// Creates the devices.
            $vis const fn new() -> Self {
                Self { $($field: $new,)+ }
            }
        }
    };
    (
        $(#[$meta:meta])*
        $vis:vis struct $Name:ident$(<$Lock:ident: $Bound:path $(, const $N:ident: usize)?>)? {
            $($(#[$field_meta:meta])* $field_vis:vis $field:ident: $Type:ty),+ $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug)]
        $vis struct $Name$(<$Lock: $Bound $(, const $N: usize)?>)? {
            $($(#[$field_meta])* $field_vis $field: $Type,)+
        }

        impl$(<$Lock: $Bound $(, const $N: usize)?>)? $crate::DeviceSet for $Name$(<$Lock $(, $N)?>)? {
            const LINES: usize = 0 $(+ <$Type as $crate::DeviceSet>::LINES)+;
            const DEVICES: usize = 0 $(+ <$Type as $crate::DeviceSet>::DEVICES)+;

            fn deadline(&self) -> $crate::composing::Deadline {
                let earliest = $crate::composing::Deadline::NEVER;
                $(let earliest = earliest.earlier($crate::DeviceSet::deadline(&self.$field));)+
                earliest
            }
        }

        impl<P: $crate::BusPort $(, $Lock: $Bound $(, const $N: usize)?)?> $crate::Devices<P> for $Name$(<$Lock $(, $N)?>)?
        where
            $($Type: $crate::Devices<P>,)+
        {
            #[inline]
            fn signal(&self, line: usize, connection: u32, at: $crate::composing::Position, cx: &$crate::composing::Cx<'_, P>) -> bool {
                $(
                    if line < <$Type as $crate::DeviceSet>::LINES {
                        return $crate::Devices::signal(&self.$field, line, connection, at, cx);
                    }
                    let line = line - <$Type as $crate::DeviceSet>::LINES;
                    let at = at.after(<$Type as $crate::DeviceSet>::DEVICES, <$Type as $crate::DeviceSet>::LINES);
                )+
                let _ = (line, at);
                false
            }

            #[inline(never)]
            fn each(
                &self,
                at: $crate::composing::Position,
                each: &mut dyn FnMut(&dyn $crate::composing::Node<P>, $crate::composing::Position),
            ) {
                $(
                    $crate::Devices::each(&self.$field, at, each);
                    let at = at.after(<$Type as $crate::DeviceSet>::DEVICES, <$Type as $crate::DeviceSet>::LINES);
                )+
                let _ = at;
            }

            #[inline(never)]
            fn with_line(
                &self,
                line: usize,
                at: $crate::composing::Position,
                work: &mut dyn FnMut(&dyn $crate::composing::Node<P>, $crate::composing::Position, usize),
            ) {
                $(
                    if line < <$Type as $crate::DeviceSet>::LINES {
                        return $crate::Devices::with_line(&self.$field, line, at, work);
                    }
                    let line = line - <$Type as $crate::DeviceSet>::LINES;
                    let at = at.after(<$Type as $crate::DeviceSet>::DEVICES, <$Type as $crate::DeviceSet>::LINES);
                )+
                let _ = (line, at);
            }

            fn save(
                &self,
                at: $crate::composing::Position,
                cx: &$crate::composing::Cx<'_, P>,
                w: &mut $crate::composing::Writer<'_>,
            ) {
                $(
                    $crate::Devices::save(&self.$field, at, cx, w);
                    let at = at.after(<$Type as $crate::DeviceSet>::DEVICES, <$Type as $crate::DeviceSet>::LINES);
                )+
                let _ = at;
            }

            fn load(
                &self,
                at: $crate::composing::Position,
                cx: &$crate::composing::Cx<'_, P>,
                r: &mut $crate::composing::Reader<'_>,
            ) -> ::core::result::Result<(), $crate::RestoreError> {
                $(
                    $crate::Devices::load(&self.$field, at, cx, r)?;
                    let at = at.after(<$Type as $crate::DeviceSet>::DEVICES, <$Type as $crate::DeviceSet>::LINES);
                )+
                let _ = at;
                Ok(())
            }
        }
    };
}
