//! The host side of a partition's VMBus.

mod serve;

use crate::config::Config;
use crate::control::Control;
use crate::devices::{DeviceSet, Devices};
use crate::error::BusError;
use crate::gpadl::Gpadls;
use crate::id::DeviceId;
use crate::line::{Line, Stage};
use crate::optional::Optional;
use crate::port::BusPort;
use crate::protocol::connection::MAX_CHANNELS;
use crate::protocol::{ChannelId, ChannelOffer, Version};
use crate::shared::Shared;
use core::fmt;
use core::sync::atomic::Ordering;
use hv_tlfs::time::ReferenceTime;
use lock_api::{Mutex, RawMutex};

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
/// Chapters, the files that add methods to it: `contact`, `due`, `incoming`, `messages`, `reach`,
/// `save`, `settle`.
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
    /// signalled or by a [`flush`](Self::flush): usually it has not. After any other call it may have changed in any
    /// case.
    pub fn has_moved(&self) -> bool {
        self.shared.has_moved()
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
}
