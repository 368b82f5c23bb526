//! How the calls wait that wait for the host.
#![expect(unsafe_code, reason = "a callback of the kernel in C")]

use core::ffi::c_int;

use hv_vmbus_client::{Client, Error, Wait};

use super::bus::{BusObject, Shared, pump};
use super::error::{Code, HV_E_WRONG_VP};
use crate::machine::Either;
use crate::time::hv_read_reference_counter;

/// The wait of one call.
pub(super) struct Pause {
    shared: &'static Shared,
    /// When the host has had its time, by the reference clock.
    deadline: Option<u64>,
    wrong_vp: bool,
}

impl Pause {
    pub(super) fn new(shared: &'static Shared) -> Self {
        let timeout = Some(shared.config.timeout).filter(|timeout| *timeout != 0);
        let deadline = timeout.map(|timeout| hv_read_reference_counter().saturating_add(timeout));
        Self { shared, deadline, wrong_vp: false }
    }

    /// Waits for an interrupt, or for a moment.
    pub(super) fn pause(&mut self) -> Result<(), Error> {
        if self.deadline.is_some_and(|deadline| hv_read_reference_counter() > deadline) {
            return Err(Error::TimedOut);
        }
        let config = &self.shared.config;
        let Some(wait) = config.wait else {
            core::hint::spin_loop();
            return Ok(());
        };
        // SAFETY: the caller of `hv_bus_init` vouches that the callback may be called with the context from every call
        // that waits.
        if unsafe { wait(config.context) } == 0 { Ok(()) } else { Err(Error::TimedOut) }
    }

    /// Waits on behalf of a device. A kernel that polls by this library alone has its messages taken here, on the VP
    /// that connected; else the bus is left to others: to the interrupt handler, or to the kernel's `wait`.
    pub(super) fn device(&mut self, bus: &BusObject) -> Result<(), Error> {
        // It does not enter the bus on another VP: it could not take the messages that the handler leaves to it.
        if self.shared.config.wait.is_none() && self.shared.has_messages() {
            let _ = pump(bus);
        }
        self.pause()
    }

    /// Gives the client what has come, and waits if nothing has.
    pub(super) fn messages(&mut self, client: &mut Client<'_, Either, &'static Shared>) -> Result<(), Error> {
        match self.shared.deliver(client) {
            Ok(0) => self.pause(),
            Ok(_) if self.deadline.is_some_and(|deadline| hv_read_reference_counter() > deadline) => {
                Err(Error::TimedOut)
            }
            Ok(_) => Ok(()),
            Err(error) => Err(self.refuse(error)),
        }
    }

    fn refuse(&mut self, error: c_int) -> Error {
        self.wrong_vp = error == HV_E_WRONG_VP;
        Error::TimedOut
    }

    /// Returns the number for C of an error with which a wait ended.
    pub(super) fn code(&self, error: impl Into<Code>) -> Code {
        if self.wrong_vp { HV_E_WRONG_VP.into() } else { error.into() }
    }
}

impl Wait<Either, &'static Shared> for Pause {
    fn wait(&mut self, client: &mut Client<'_, Either, &'static Shared>) -> Result<(), Error> {
        self.messages(client)
    }
}
