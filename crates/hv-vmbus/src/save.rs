//! Saving and restoring the bus.

use crate::bus::Bus;
use crate::control::Connection;
use crate::devices::{DeviceSet, Devices};
use crate::error::BusError;
use crate::gpadl::State;
use crate::image::Image;
use crate::io::Position;
use crate::line::Stage;
use crate::outbox::Outbox;
use crate::port::BusPort;
use core::sync::atomic::Ordering;
use hv_memory::save::{Reader, RestoreError, Writer};
use lock_api::RawMutex;

const MAGIC: u32 = u32::from_le_bytes(*b"VMBS");
const FORMAT: u32 = 4;

impl<R: RawMutex, D: DeviceSet, const GPADLS: usize, const WORDS: usize> Bus<R, D, GPADLS, WORDS> {
    /// Writes the whole state, including that of the devices. Rings are guest memory, and not part of it. No packet may
    /// be served meanwhile.
    ///
    /// # Errors
    /// [`BusError::InFlight`]: requests in back ends cannot be saved. [Pause](Self::pause) the bus, and wait until it
    /// [is idle](Self::is_idle).
    pub fn save<P: BusPort>(&self, port: &P, w: &mut Writer<'_>) -> Result<(), BusError>
    where
        D: Devices<P>,
    {
        let control = self.control.lock();
        if !self.is_idle() {
            return Err(BusError::InFlight);
        }
        w.u32(MAGIC);
        w.u32(FORMAT);
        w.count(D::DEVICES);
        w.count(D::LINES);
        control.connection.save(w);
        w.u32(control.vp);
        w.flag(control.offers_end);
        w.flag(control.changes);
        w.flag(self.has_pending());
        control.ending.save(w);
        w.u64(control.rejected);
        control.outbox.save(w);
        self.gpadls.pool().save(w);
        self.devices.save(Position::FIRST, &self.cx(port), w);
        Ok(())
    }

    /// Restores a state written by [`save`](Self::save), or claimed to be. The devices and their channels must be those
    /// of the saved bus; capacities may differ.
    ///
    /// # Errors
    /// [`RestoreError::InFlight`]: the bus [is not idle](Self::is_idle), and nothing has changed. Otherwise the state
    /// was not saved by such a bus, or does not fit this one; the bus is then as after [`new`](Self::new).
    pub fn restore<P: BusPort>(&self, port: &P, r: &mut Reader<'_>) -> Result<(), RestoreError>
    where
        D: Devices<P>,
    {
        // A request that is completed later would release page lists that it does not hold.
        if !self.is_idle() {
            return Err(RestoreError::InFlight);
        }
        self.start_over(port, true);
        let outcome = self.load(port, r).and_then(|()| self.check(port));
        if outcome.is_err() {
            self.start_over(port, true);
        }
        outcome
    }

    fn load<P: BusPort>(&self, port: &P, r: &mut Reader<'_>) -> Result<(), RestoreError>
    where
        D: Devices<P>,
    {
        if r.u32()? != MAGIC {
            return Err(RestoreError::NotAnImage);
        }
        let format = r.u32()?;
        if format != FORMAT {
            return Err(RestoreError::Version(format));
        }
        if (r.count()?, r.count()?) != (D::DEVICES, D::LINES) {
            return Err(RestoreError::OtherPartition);
        }
        let mut control = self.control.lock();
        control.connection = Image::load(r)?;
        control.vp = r.u32()?;
        control.offers_end = r.flag("end of VMBus's offers")?;
        control.changes = r.flag("changes of VMBus's channels")?;
        self.shared.waiting.store(r.flag("messages of VMBus")?, Ordering::Release);
        control.ending = Image::load(r)?;
        control.rejected = r.u64()?;
        control.outbox = Outbox::load(r)?;
        self.gpadls.pool().load(r)?;
        self.devices.load(Position::FIRST, &self.cx(port), r)?;
        let chosen = control.connection.get().is_some_and(|c| c.features.guest_specified_signal());
        self.shared.chosen_connections.store(chosen, Ordering::Release);
        self.shared.ending.store(control.ending.is_some(), Ordering::Release);
        Ok(())
    }

    /// Checks that the parts are consistent. A state that no guest could have caused might violate what the rest of the
    /// bus relies on.
    fn check<P: BusPort>(&self, port: &P) -> Result<(), RestoreError>
    where
        D: Devices<P>,
    {
        let control = self.control.lock();
        let connected = match control.connection.get() {
            Some(Connection { version, .. }) if !self.config().speaks(version) => {
                return Err(RestoreError::Invalid("version of VMBus's connection"));
            }
            Some(_) if control.ending.is_some() => {
                return Err(RestoreError::Invalid("end of VMBus's connection"));
            }
            connection => connection.is_some(),
        };
        let pool = self.gpadls.pool();
        let (mut outcome, mut rings) = (Ok(()), 0);
        self.parts(port, |part, _| {
            for line in part.lines() {
                let quiet = matches!(line.stage, Stage::Vacant | Stage::Hidden);
                if !(connected || (quiet && line.open.is_none())) {
                    outcome = Err(RestoreError::Invalid("channel without a connection"));
                }
                rings += usize::from(line.open.is_some());
            }
        });
        outcome?;
        // Each open channel has found its rings among its own lists.
        let (lists, used) = pool.iter().fold((0, 0), |(lists, used), (_, gpadl)| {
            (lists + 1, used + usize::from(gpadl.state == State::Rings))
        });
        if used != rings || (!connected && lists > 0 && control.ending.is_none()) {
            return Err(RestoreError::Invalid("page list of VMBus"));
        }
        let waits = control.outbox.front().is_some();
        if (waits || control.ending.is_some()) && !self.has_pending() {
            return Err(RestoreError::Invalid("messages of VMBus"));
        }
        Ok(())
    }
}

impl Outbox {
    fn save(&self, w: &mut Writer<'_>) {
        w.count(self.iter().count());
        self.iter().for_each(|answer| answer.save(w));
    }

    fn load(r: &mut Reader<'_>) -> Result<Self, RestoreError> {
        let mut outbox = Self::new();
        for _ in 0..r.count()? {
            if !outbox.push(Image::load(r)?) {
                return Err(RestoreError::NoRoom);
            }
        }
        Ok(outbox)
    }
}
