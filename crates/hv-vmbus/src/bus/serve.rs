//! The embedder's access to the devices of a bus: completions, and its own work.

use crate::bus::Bus;
use crate::device::Device;
use crate::devices::{DeviceSet, Devices};
use crate::error::BusError;
use crate::id::{DeviceId, Token};
use crate::io::{Context, Io};
use crate::port::{Backend, BusPort, Work};
use crate::protocol::ChannelId;
use crate::slot::{Slot, Visit, What};
use crate::typed::Typed;
use crate::worker::Worker;
use core::sync::atomic::Ordering;
use lock_api::RawMutex;

impl<R: RawMutex, D: DeviceSet, const GPADLS: usize, const WORDS: usize> Bus<R, D, GPADLS, WORDS> {
    /// Reports to a device that its back end has completed a request. It may be called from any thread or interrupt, in
    /// any order, and once for each request.
    ///
    /// # Errors
    /// [`BusError::UnknownToken`] if no such request is in flight, [`BusError::UnknownDevice`] if the device is on
    /// another bus.
    pub fn completed<P, T, const LINES: usize, const REQUESTS: usize, const SEGMENTS: usize>(
        &self,
        slot: &Slot<R, T, LINES, REQUESTS, SEGMENTS>,
        token: Token,
        outcome: <T::Request as Work>::Outcome,
        port: &P,
    ) -> Result<(), BusError>
    where
        T: Device,
        P: Backend<T::Request>,
        D: Devices<P>,
    {
        let (mut outcome, mut known) = (Some(outcome), false);
        self.visit(slot, port, &mut |typed: &mut Typed<'_, T>, context: &mut Context<'_, P>| {
            let Some((at, outcome)) = context.flying(token).zip(outcome.take()) else {
                return Worker::new(typed, context).end();
            };
            known = true;
            typed.finish(at, outcome, context);
            Worker::new(typed, context).proceed()
        })?;
        if known { Ok(()) } else { Err(BusError::UnknownToken) }
    }

    /// Calls a function with a device: to pass it input from its back end, such as a frame or a key, or to inspect its
    /// state.
    ///
    /// # Errors
    /// [`BusError::UnknownDevice`] if the device is on another bus.
    pub fn with<P, T, U, const LINES: usize, const REQUESTS: usize, const SEGMENTS: usize>(
        &self,
        slot: &Slot<R, T, LINES, REQUESTS, SEGMENTS>,
        port: &P,
        work: impl FnOnce(&mut T, &mut Io<'_, P, T::Request>) -> U,
    ) -> Result<U, BusError>
    where
        T: Device,
        P: Backend<T::Request>,
        D: Devices<P>,
    {
        let (mut work, mut result) = (Some(work), None);
        self.visit(slot, port, &mut |typed: &mut Typed<'_, T>, context: &mut Context<'_, P>| {
            let (device, mut io) = typed.split(context);
            result = work.take().map(|work| work(device, &mut io));
            Worker::new(typed, context).proceed()
        })?;
        result.ok_or(BusError::UnknownDevice)
    }

    /// Calls a function with a device, and then carries out what it has requested of the bus. Never inlined: it is the
    /// same for all functions.
    #[inline(never)]
    fn visit<P, T, const LINES: usize, const REQUESTS: usize, const SEGMENTS: usize>(
        &self,
        slot: &Slot<R, T, LINES, REQUESTS, SEGMENTS>,
        port: &P,
        work: &mut dyn Visit<T, P>,
    ) -> Result<(), BusError>
    where
        T: Device,
        P: Backend<T::Request>,
        D: Devices<P>,
    {
        let at = slot.find(&self.devices).ok_or(BusError::UnknownDevice)?;
        slot.enter(at, &self.cx(port), What::Typed(work));
        self.attend(port);
        Ok(())
    }

    /// Returns a device's index on the bus, for [`offer`](Self::offer), and its first channel's number.
    ///
    /// # Errors
    /// [`BusError::UnknownDevice`] if the device is on another bus.
    #[inline(never)]
    pub fn place<P, T, const LINES: usize, const REQUESTS: usize, const SEGMENTS: usize>(
        &self,
        slot: &Slot<R, T, LINES, REQUESTS, SEGMENTS>,
        _port: &P,
    ) -> Result<(DeviceId, ChannelId), BusError>
    where
        T: Device,
        P: Backend<T::Request>,
        D: Devices<P>,
    {
        let at = slot.find(&self.devices).ok_or(BusError::UnknownDevice)?;
        Ok((DeviceId(at.device), at.id(0)))
    }

    /// Reports that the back end of a device has room again: pending requests are started.
    pub fn resume<P: BusPort>(&self, device: DeviceId, port: &P)
    where
        D: Devices<P>,
    {
        self.parts(port, |part, at| {
            if at.device == device.0 {
                part.resume();
            }
        });
        self.attend(port);
    }

    /// Has all devices look at their rings again: [`BusFaults::is_mute`](crate::BusFaults::is_mute) has ended.
    pub fn resume_all<P: BusPort>(&self, port: &P)
    where
        D: Devices<P>,
    {
        self.parts(port, |part, _| part.resume());
        self.attend(port);
    }

    /// Stops taking packets, for all devices: before the state is saved. Requests in flight are still completed.
    pub fn pause(&self) {
        self.shared.paused.store(true, Ordering::Relaxed);
    }

    /// Resumes taking packets.
    pub fn unpause<P: BusPort>(&self, port: &P)
    where
        D: Devices<P>,
    {
        self.shared.paused.store(false, Ordering::Relaxed);
        self.resume_all(port);
    }
}
