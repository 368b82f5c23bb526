//! The four synthetic timers of a VP.
//!
//! On ARM64 they are optional, and the architectural timer is usually the better choice (TLFS, "Synthetic Timer
//! Registers"): it takes no hypercall. They are useful if a guest has to work the same way as on x64.
//!
//! A timer either asserts an interrupt ([`Timer::direct`]) or sends a message to a source ([`Timer::message`], which
//! needs an enabled SynIC). As the TLFS defines it, a one-shot timer takes the time at which it expires, a periodic one
//! its period; a timer never expires early, but possibly late, by any amount.
//!
//! Source: TLFS, "Timers", "Synthetic Timers".

use core::fmt;
use core::marker::PhantomData;

use hv_tlfs::status::HvError;
use hv_tlfs::time::ReferenceTime;
use hv_tlfs::timer::StimerConfig;

use crate::conduit::Conduit;
use crate::failed::First;
use crate::index::SintIndex;
pub use crate::index::TimerIndex;
use crate::interrupts::{Interrupts, Intid};
use crate::partition::Vp;
use crate::registers::{self, Register};
use crate::synic::Synic;

/// Time at which a timer expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// Once, at this reference time; immediately if that is in the past.
    Once(ReferenceTime),
    /// Periodically, with this period, starting now. Expiries missed while the VP did not run are
    /// made up for, or skipped.
    Every(ReferenceTime),
    /// Periodically, but a missed expiry is late or skipped, and later ones do not move.
    EveryLazily(ReferenceTime),
}

impl Schedule {
    /// Returns the bits of the configuration, and the count. Returns `None` for a period of 0.
    fn parts(self) -> Option<(StimerConfig, u64)> {
        let (config, period) = match self {
            // A count of 0 would stop the timer; time 1 is in the past as well.
            Self::Once(time) => return Some((StimerConfig(0), time.ticks().max(1))),
            Self::Every(period) => (StimerConfig(0).with_periodic(true), period),
            Self::EveryLazily(period) => (StimerConfig(0).with_periodic(true).with_lazy(true), period),
        };
        (period != ReferenceTime::ZERO).then_some((config, period.ticks()))
    }
}

/// Reason why a timer is not running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TimerError {
    /// The partition may not use synthetic timers.
    Unavailable,
    /// The hypervisor has no direct mode.
    NoDirectMode,
    /// The timer of this VP is in use: it has another handle.
    InUse,
    /// Source 0 is not a valid target of a timer.
    SourceZero,
    /// The period is 0.
    NoPeriod,
    /// The hypervisor's status.
    Hypervisor(HvError),
}

impl fmt::Display for TimerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unavailable => "the partition may not use synthetic timers",
            Self::NoDirectMode => "the hypervisor has no direct synthetic timers",
            Self::InUse => "the timer is in use",
            Self::SourceZero => "source 0 is not a valid target of a timer; use 1 to 15",
            Self::NoPeriod => "a timer period of 0 is invalid; use at least 100 ns",
            Self::Hypervisor(error) => return error.fmt(f),
        })
    }
}

impl core::error::Error for TimerError {}

impl From<HvError> for TimerError {
    fn from(error: HvError) -> Self {
        Self::Hypervisor(error)
    }
}

/// A synthetic timer of the calling VP.
#[derive(Debug)]
pub struct Timer {
    index: TimerIndex,
    /// How it signals its expiry: direct mode and vector, or the source.
    delivery: StimerConfig,
    /// The contents of the configuration register, if known.
    programmed: Option<StimerConfig>,
    not_send: PhantomData<*const ()>,
}

impl Timer {
    /// Creates a timer that asserts an interrupt, and enables the interrupt.
    ///
    /// # Errors
    ///
    /// [`TimerError`]; the interrupt is left unchanged.
    #[doc(alias = "hv_setup_stimer0_irq")]
    #[doc(alias = "hv_enable_stimer0_percpu_irq")]
    pub fn direct<C: Conduit>(
        vp: &Vp<'_, C>,
        index: TimerIndex,
        intid: Intid,
        interrupts: &impl Interrupts,
    ) -> Result<Self, TimerError> {
        if !vp.partition().information().features.c.direct_synthetic_timers() {
            return Err(TimerError::NoDirectMode);
        }
        let timer = Self::new(vp, index, StimerConfig(0).with_direct_mode(true).with_vector(intid.number()))?;
        interrupts.enable(intid);
        Ok(timer)
    }

    /// Creates a timer that sends a message
    /// ([`MessageType::TIMER_EXPIRED`](hv_tlfs::synic::MessageType::TIMER_EXPIRED)) to a source.
    ///
    /// # Errors
    ///
    /// [`TimerError`].
    pub fn message<C: Conduit>(
        synic: &Synic<'_, C>,
        index: TimerIndex,
        sint: SintIndex,
    ) -> Result<Self, TimerError> {
        if sint.number() == 0 {
            return Err(TimerError::SourceZero);
        }
        Self::new(synic.vp(), index, StimerConfig(0).with_sint(sint.number()))
    }

    fn new<C: Conduit>(
        vp: &Vp<'_, C>,
        index: TimerIndex,
        delivery: StimerConfig,
    ) -> Result<Self, TimerError> {
        if !vp.partition().information().features.privileges.access_synthetic_timers() {
            return Err(TimerError::Unavailable);
        }
        if !vp.claim_timers(1 << index.number()) {
            return Err(TimerError::InUse);
        }
        Ok(Self { index, delivery, programmed: None, not_send: PhantomData })
    }

    /// Returns the timer's number.
    #[must_use]
    pub fn index(&self) -> TimerIndex {
        self.index
    }

    /// Starts the timer: writes the configuration with auto-enable, then the count, which starts it. Starting a
    /// one-shot timer again takes one hypercall, because its configuration is unchanged.
    ///
    /// # Errors
    ///
    /// [`TimerError`].
    #[doc(alias = "hv_init_timer")]
    #[doc(alias = "hv_init_timer_config")]
    pub fn start<C: Conduit>(&mut self, vp: &Vp<'_, C>, schedule: Schedule) -> Result<(), TimerError> {
        let (mode, count) = schedule.parts().ok_or(TimerError::NoPeriod)?;
        let config = StimerConfig(self.delivery.bits() | mode.bits()).with_auto_enable(true);
        self.configure(vp, config)?;
        Ok(registers::set(vp, Register::timer_count(self.index), count)?)
    }

    /// Starts the timer through its enable bit: writes the count first, then the configuration. Takes at least two
    /// hypercalls each time.
    ///
    /// # Errors
    ///
    /// [`TimerError`].
    pub fn start_by_enable<C: Conduit>(
        &mut self,
        vp: &Vp<'_, C>,
        schedule: Schedule,
    ) -> Result<(), TimerError> {
        let (mode, count) = schedule.parts().ok_or(TimerError::NoPeriod)?;
        let config = StimerConfig(self.delivery.bits() | mode.bits());
        self.configure(vp, config)?;
        registers::set(vp, Register::timer_count(self.index), count)?;
        // The hypervisor clears enable when a one-shot timer expires, so the register contents are no longer known.
        self.programmed = None;
        Ok(registers::set(vp, Register::timer_config(self.index), config.with_enable(true))?)
    }

    /// Writes the configuration if it differs, after stopping the timer: the properties of a running timer may not be
    /// changed (TLFS, "Synthetic Timer Configuration Register").
    fn configure<C: Conduit>(&mut self, vp: &Vp<'_, C>, config: StimerConfig) -> Result<(), HvError> {
        if self.programmed == Some(config) {
            return Ok(());
        }
        self.programmed = None;
        registers::set(vp, Register::timer_config(self.index), StimerConfig(0))?;
        registers::set(vp, Register::timer_config(self.index), config)?;
        self.programmed = Some(config);
        Ok(())
    }

    /// Returns true if the timer is running: a one-shot timer stops when it expires.
    ///
    /// # Errors
    ///
    /// The hypervisor's status.
    pub fn is_running<C: Conduit>(&self, vp: &Vp<'_, C>) -> Result<bool, HvError> {
        registers::get(vp, Register::timer_config(self.index)).map(StimerConfig::enable)
    }

    /// Stops the timer; it can be started again. An interrupt or message of an earlier expiry may still arrive.
    ///
    /// # Errors
    ///
    /// The hypervisor's status.
    pub fn stop<C: Conduit>(&mut self, vp: &Vp<'_, C>) -> Result<(), HvError> {
        registers::set(vp, Register::timer_count(self.index), 0)
    }

    /// Stops the timer, resets its registers, and in direct mode disables its interrupt. The timer of the VP is free
    /// again.
    ///
    /// # Errors
    ///
    /// The first error, after all steps have been tried.
    #[doc(alias = "hv_remove_stimer0_irq")]
    #[doc(alias = "hv_disable_stimer0_percpu_irq")]
    pub fn release<C: Conduit>(self, vp: &Vp<'_, C>, interrupts: &impl Interrupts) -> Result<(), HvError> {
        let result = reset(vp, self.index);
        if let Some(intid) = Intid::new(u32::from(self.delivery.vector()))
            && self.delivery.direct_mode()
        {
            interrupts.disable(intid);
        }
        vp.release_timers(1 << self.index.number());
        result
    }
}

/// Resets the registers of a timer.
pub(crate) fn reset(conduit: &(impl Conduit + ?Sized), index: TimerIndex) -> Result<(), HvError> {
    let mut first = First::default();
    first.note(registers::set(conduit, Register::timer_config(index), StimerConfig(0)));
    first.note(registers::set(conduit, Register::timer_count(index), 0));
    first.result()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_one_shot_time_of_0_expires_and_does_not_stop_the_timer() {
        assert_eq!(Schedule::Once(ReferenceTime(0)).parts(), Some((StimerConfig(0), 1)));
    }

    #[test]
    fn a_period_of_0_is_an_error() {
        assert_eq!(Schedule::Every(ReferenceTime::ZERO).parts(), None);
        assert_eq!(Schedule::EveryLazily(ReferenceTime::ZERO).parts(), None);
        assert_eq!(Schedule::EveryLazily(ReferenceTime(7)).parts(), Some((StimerConfig(0b110), 7)));
    }
}
