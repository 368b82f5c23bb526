//! The host side of a partition's VMBus.

mod serve;

use crate::config::Config;
use crate::control::{Connection, Control};
use crate::devices::{DeviceSet, Devices, Node, Part};
use crate::error::{BusError, Refused};
use crate::event::{Event, Reason};
use crate::gpadl::Gpadls;
use crate::id::DeviceId;
use crate::io::{Cx, Place};
use crate::line::{Line, Stage, default_connection};
use crate::optional::Optional;
use crate::port::BusPort;
use crate::protocol::connection::MAX_CHANNELS;
use crate::protocol::{ChannelId, ChannelOffer, MessageHeader, MessageType, Version};
use crate::shared::Shared;
use core::fmt;
use core::sync::atomic::Ordering;
use hv_tlfs::time::ReferenceTime;
use lock_api::{Mutex, RawMutex};
use zerocopy::FromBytes;

/// The host side of one partition's VMBus, with the devices `D`.
///
/// It is used through `&self`. The guest's messages are served behind one lock, the packets of each device behind its
/// own; `R` is the kind of lock, whose `try_lock` fails only while the lock is held. Order: bus, device, and then what
/// [`BusPort`] takes. No lock is taken for a signal of a connection that no open channel has, and no signal waits for a
/// device's lock: the call that holds it serves the signal.
///
/// `GPADLS` bounds the number of page lists that the guest can have at a time, and `WORDS` the sum of their sizes: a
/// word per page and one per range. Beyond that a guest gets a failure. A network card takes about 8,200 words.
///
/// Chapters, the files that add methods to it: `contact`, `messages`, `save`, `settle`.
pub struct Bus<R, D, const GPADLS: usize = 16, const WORDS: usize = 1024> {
    /// `None`: [`Config::DEFAULT`].
    config: Optional<Config>,
    pub(crate) control: Mutex<R, Control>,
    pub(crate) gpadls: Gpadls<GPADLS, WORDS>,
    pub(crate) devices: D,
    pub(crate) shared: Shared,
}

impl<R, D: fmt::Debug, const GPADLS: usize, const WORDS: usize> fmt::Debug for Bus<R, D, GPADLS, WORDS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bus")
            .field("config", self.config.as_ref().unwrap_or(&Config::DEFAULT))
            .field("devices", &self.devices)
            .field("shared", &self.shared)
            .finish_non_exhaustive()
    }
}

impl<R: RawMutex, D: DeviceSet, const GPADLS: usize, const WORDS: usize> Bus<R, D, GPADLS, WORDS> {
    /// Creates a bus with these devices.
    ///
    /// # Panics
    /// If the devices have more than 2047 channels in total.
    #[must_use]
    pub const fn new(config: Config, devices: D) -> Self {
        assert!(D::LINES < MAX_CHANNELS as usize, "a channel's number is an event flag");
        Self {
            config: if config.is_default() { Optional::None } else { Optional::Some(config) },
            control: Mutex::new(Control::new()),
            gpadls: Gpadls::new(),
            devices,
            shared: Shared::new(),
        }
    }

    /// Returns the devices, for [`with`](Self::with) and [`completed`](Self::completed).
    #[must_use]
    pub const fn devices(&self) -> &D {
        &self.devices
    }

    /// Returns the configuration.
    #[must_use]
    pub const fn config(&self) -> &Config {
        match &self.config {
            Optional::None => &Config::DEFAULT,
            Optional::Some(config) => config,
        }
    }

    /// Returns the negotiated version, while there is a connection.
    #[must_use]
    pub fn version(&self) -> Option<Version> {
        self.control.lock().connection.get().map(|c| c.version)
    }

    /// Returns the number of invalid messages from the guest.
    #[must_use]
    pub fn rejected(&self) -> u64 {
        self.control.lock().rejected
    }

    /// Returns true while messages are pending for [`flush`](Self::flush).
    #[must_use]
    pub fn has_pending(&self) -> bool {
        self.shared.waiting.load(Ordering::Acquire)
    }

    /// Returns true if no request is in flight.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.shared.is_idle()
    }

    /// Returns the reference time at which [`flush`](Self::flush) must be called next; `None`: not before
    /// something else happens. It may change with every call of a method that takes the port. While messages are
    /// pending there is none: no device runs before the guest has taken them.
    #[must_use]
    pub fn deadline(&self) -> Option<ReferenceTime> {
        if self.has_pending() {
            return None;
        }
        self.devices.deadline().time()
    }

    /// Returns true if the [`deadline`](Self::deadline) may have changed, since the last call, by what the guest has
    /// signalled: usually it has not. After any other call it may have changed in any case.
    pub fn has_moved(&self) -> bool {
        self.shared.has_moved()
    }

    pub(crate) fn cx<'a, P>(&'a self, port: &'a P) -> Cx<'a, P> {
        Cx { port, pool: self.gpadls.pool(), shared: &self.shared }
    }

    /// Calls a function with the device and channel of this number; returns `None` if there is none.
    pub(crate) fn part<P: BusPort, T>(
        &self,
        id: ChannelId,
        port: &P,
        work: impl FnOnce(&mut dyn Part, usize) -> T,
    ) -> Option<T>
    where
        D: Devices<P>,
    {
        let line = usize::try_from(id.0.checked_sub(1)?).ok()?;
        let (mut work, mut result) = (Some(work), None);
        let cx = self.cx(port);
        self.devices.with_line(line, Place::FIRST, &mut |node, at, line| {
            node.work(at, &cx, &mut |part| result = work.take().map(|work| work(part, line)));
        });
        result
    }

    /// Calls a function with all devices, one after another.
    pub(crate) fn parts<P: BusPort>(&self, port: &P, mut work: impl FnMut(&mut dyn Part, Place))
    where
        D: Devices<P>,
    {
        let cx = self.cx(port);
        self.devices.each(Place::FIRST, &mut |node, at| {
            node.work(at, &cx, &mut |part| work(part, at));
        });
    }

    /// Calls a function with those that have a channel.
    pub(crate) fn parts_in_use<P: BusPort>(&self, port: &P, mut work: impl FnMut(&mut dyn Part, Place))
    where
        D: Devices<P>,
    {
        let cx = self.cx(port);
        self.devices.each(Place::FIRST, &mut |node, at| {
            if !node.is_vacant() {
                node.work(at, &cx, &mut |part| work(part, at));
            }
        });
    }

    /// Resets the bus to the state after [`new`](Self::new), with its current offers: for a reset of the partition.
    /// Requests in flight are no longer answered; the next contact of the guest is answered when they are completed.
    pub fn reset<P: BusPort>(&self, port: &P)
    where
        D: Devices<P>,
    {
        self.start_over(port, false);
    }

    /// Does the same; `first`: with the initial offers.
    pub(crate) fn start_over<P: BusPort>(&self, port: &P, first: bool)
    where
        D: Devices<P>,
    {
        let mut control = self.control.lock();
        *control = Control::new();
        self.parts(port, |part, _| part.reset(first));
        self.gpadls.pool().clear();
        self.shared.ending.store(false, Ordering::Release);
        self.shared.paused.store(false, Ordering::Relaxed);
        self.shared.waiting.store(false, Ordering::Release);
        self.shared.chosen_connections.store(false, Ordering::Relaxed);
        let _ = self.shared.called();
    }

    /// Offers a device's first channel. A guest that has requested offers is notified.
    ///
    /// # Errors
    /// [`BusError::UnknownDevice`], [`BusError::Offered`], [`BusError::Leaving`] or [`BusError::Duplicate`].
    pub fn offer<P: BusPort>(
        &self,
        device: DeviceId,
        offer: &ChannelOffer,
        port: &P,
    ) -> Result<ChannelId, BusError>
    where
        D: Devices<P>,
    {
        let mut control = self.control.lock();
        control.changes = true;
        let (mut duplicate, mut found) = (false, Err(BusError::UnknownDevice));
        self.parts(port, |part, _| {
            duplicate |= part.lines().iter().any(|line| {
                line.stage != Stage::Vacant
                    && line.offer.subchannel_index == 0
                    && (line.offer.interface, line.offer.instance) == (offer.interface, offer.instance)
            });
        });
        self.parts(port, |part, at| {
            if at.device == device.0 {
                found = match part.lines().first_mut() {
                    Some(Line { stage: Stage::Leaving | Stage::Gone, .. }) => Err(BusError::Leaving),
                    Some(line) if line.stage != Stage::Vacant => Err(BusError::Offered),
                    Some(_) if duplicate => Err(BusError::Duplicate),
                    Some(_) => {
                        part.fill(0, offer, true);
                        Ok(at.id(0))
                    }
                    None => Err(BusError::UnknownDevice),
                };
            }
        });
        self.settle(&mut control, port);
        drop(control);
        self.attend(port);
        found
    }

    /// Rescinds a channel, and with a device's first channel its sub-channels. No further packets are taken from it;
    /// the guest is notified as soon as no request of it is in flight. Returns false if it is not offered.
    pub fn rescind<P: BusPort>(&self, id: ChannelId, port: &P) -> bool
    where
        D: Devices<P>,
    {
        let mut control = self.control.lock();
        control.changes = true;
        let done = self.part(id, port, |part, at| {
            let stage = part.lines()[at].stage;
            match stage {
                Stage::Known => part.lines()[at].stage = Stage::Leaving,
                Stage::Hidden | Stage::Declined => part.release(at),
                _ => return false,
            }
            true
        });
        self.settle(&mut control, port);
        drop(control);
        self.attend(port);
        done == Some(true)
    }

    /// Sends pending messages to the guest, as far as the port takes them, and then runs the devices that are due. Call
    /// it when a message slot of VMBus was freed, and at the [`deadline`](Self::deadline).
    pub fn flush<P: BusPort>(&self, port: &P)
    where
        D: Devices<P>,
    {
        let mut control = self.control.lock();
        self.settle(&mut control, port);
        drop(control);
        self.run_due(port);
    }

    /// Runs the devices that are due. While messages are pending, none is run: a guest that does not know yet that its
    /// channel is open must not be interrupted for it.
    fn run_due<P: BusPort>(&self, port: &P)
    where
        D: Devices<P>,
    {
        if self.has_pending() {
            return;
        }
        let now = port.reference_time();
        if self.devices.deadline().is_due(now) {
            let cx = self.cx(port);
            self.devices.each(Place::FIRST, &mut |node, at| {
                if node.deadline().is_due(now) {
                    node.tick(at, &cx);
                }
            });
        }
        self.attend(port);
    }

    /// Carries out what devices have requested of the bus.
    #[inline]
    pub(crate) fn attend<P: BusPort>(&self, port: &P)
    where
        D: Devices<P>,
    {
        if self.shared.called() {
            self.serve_devices(port);
        }
    }

    #[cold]
    #[inline(never)]
    fn serve_devices<P: BusPort>(&self, port: &P)
    where
        D: Devices<P>,
    {
        // A device that is told of a closed channel may request more, once for each channel.
        for round in 0..=D::LINES {
            if round > 0 && !self.shared.called() {
                return;
            }
            let mut control = self.control.lock();
            control.changes = true;
            self.settle(&mut control, port);
            // There may be messages now for which devices wait, or none left.
            self.shared.moves();
        }
    }

    /// Handles a message that the guest posted to `connection`. The answers go to `port` before this returns, except
    /// those that wait for requests in flight.
    ///
    /// # Errors
    /// The status with which the hypercall fails; nothing has changed. An invalid message is not an error here, since
    /// Hyper-V accepts it as well: it is counted, observed, and answered if the protocol has an answer.
    pub fn message<P: BusPort>(&self, connection: u32, payload: &[u8], port: &P) -> Result<(), Refused>
    where
        D: Devices<P>,
    {
        if !self.config().has_connection(connection) {
            return Err(Refused::NoConnection);
        }
        let mut control = self.control.lock();
        if self.has_pending() {
            self.settle(&mut control, port);
        }
        let kind =
            MessageHeader::read_from_prefix(payload).map_or(MessageType::INVALID, |(h, _)| h.message_type);
        let ends = matches!(kind, MessageType::INITIATE_CONTACT | MessageType::UNLOAD);
        // A message has at most one answer.
        if !ends && control.outbox.room() == 0 {
            return Err(Refused::Busy);
        }
        if let Err(reason) = self.dispatch(&mut control, connection, kind, payload, port) {
            control.rejected += 1;
            port.observe(Event::Rejected { message: kind, reason });
        }
        self.settle(&mut control, port);
        drop(control);
        self.run_due(port);
        Ok(())
    }

    fn dispatch<P: BusPort>(
        &self,
        control: &mut Control,
        connection: u32,
        kind: MessageType,
        payload: &[u8],
        port: &P,
    ) -> Result<(), Reason>
    where
        D: Devices<P>,
    {
        if payload.len() < size_of::<MessageHeader>() {
            return Err(Reason::TooShort);
        }
        match kind {
            MessageType::INITIATE_CONTACT => return self.contact(control, connection, payload, port),
            MessageType::UNLOAD => {
                self.unload(control, port);
                return Ok(());
            }
            _ => {}
        }
        let Some(Connection { version, features, .. }) = control.connection.get() else {
            return Err(Reason::NotConnected);
        };
        match kind {
            MessageType::REQUEST_OFFERS => request_offers(control),
            MessageType::GPADL_HEADER => self.gpadl_header(control, payload, port),
            MessageType::GPADL_BODY => self.gpadl_body(control, payload, port),
            MessageType::GPADL_TEARDOWN => self.gpadl_teardown(control, payload, port),
            MessageType::OPEN_CHANNEL => self.open_channel(control, payload, features, port),
            MessageType::CLOSE_CHANNEL => self.close_channel(control, payload, port),
            MessageType::MODIFY_CHANNEL if version >= Version::V4_1 => {
                self.modify_channel(control, payload, version, port)
            }
            MessageType::RELID_RELEASED => self.relid_released(control, payload, port),
            MessageType::TL_CONNECT_REQUEST => self.connect_request(control, payload, version, port),
            MessageType::OPEN_RESERVED_CHANNEL | MessageType::CLOSE_RESERVED_CHANNEL => {
                Err(Reason::Unsupported)
            }
            _ => Err(Reason::Unknown),
        }
    }

    /// Handles a signal of the guest to an event connection: it has put packets into a ring, or made room in one.
    ///
    /// # Errors
    /// [`Refused::NoConnection`]: no open channel has this connection.
    #[inline]
    pub fn signal<P: BusPort>(&self, connection: u32, port: &P) -> Result<(), Refused>
    where
        D: Devices<P>,
    {
        let cx = self.cx(port);
        // A channel's default connection identifies it.
        let line = (connection ^ default_connection(ChannelId(0))).wrapping_sub(1) as usize;
        let mut taken = line < D::LINES && self.devices.signal(line, connection, Place::FIRST, &cx);
        if !taken && self.shared.chosen_connections.load(Ordering::Acquire) {
            taken = self.signal_chosen(connection, &cx);
        }
        self.attend(port);
        if taken { Ok(()) } else { Err(Refused::NoConnection) }
    }

    /// Does the same for a connection chosen by the guest: the channels are searched, without a lock.
    #[cold]
    fn signal_chosen<P: BusPort>(&self, connection: u32, cx: &Cx<'_, P>) -> bool
    where
        D: Devices<P>,
    {
        let mut found = None;
        self.devices.each(Place::FIRST, &mut |node: &dyn Node<P>, at| {
            if found.is_none() && connection != 0 {
                found = node.line_of(connection).map(|line| usize::from(at.line) + line);
            }
        });
        found.is_some_and(|line| self.devices.signal(line, connection, Place::FIRST, cx))
    }
}

fn request_offers(control: &mut Control) -> Result<(), Reason> {
    let again =
        control.connection.as_mut().is_some_and(|c| core::mem::replace(&mut c.offers_requested, true));
    // No offer is sent twice, since Linux warns about that; but a guest that waits for the end of the offers gets it.
    control.offers_end = true;
    control.changes = true;
    if again { Err(Reason::OffersAlreadySent) } else { Ok(()) }
}

/// Reads a message of fixed length; guests may post more bytes.
pub(crate) fn parse<T: FromBytes>(payload: &[u8]) -> Result<T, Reason> {
    T::read_from_prefix(payload).map(|(message, _)| message).map_err(|_| Reason::TooShort)
}
