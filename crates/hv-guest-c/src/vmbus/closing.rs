//! The end of a device that the kernel has opened: its driver is closed in place.

use hv_drivers::{network, storage};
use hv_vmbus_client::{Progress, Request};

use super::bus::{BusClient, Shared, release};
use super::dma::KernelDma;
use super::error::Code;
use super::wait::Pause;
use crate::machine::Either;

/// A driver that has both halves of its end.
pub(super) trait Driver: Sized {
    /// The driver while it is being closed.
    type Closing: Request<Either, &'static Shared>;

    fn begin_close(&mut self, client: &mut BusClient) -> Result<(), hv_vmbus_client::Error>;

    fn into_closing(self) -> Self::Closing;
}

/// What comes back when a driver is closed.
pub(super) type Left<T> = <<T as Driver>::Closing as Request<Either, &'static Shared>>::Output;

impl<T, const DEPTH: usize> Driver for storage::Controller<'static, KernelDma, Either, T, DEPTH> {
    type Closing = storage::Closing<'static, KernelDma, T, DEPTH>;

    fn begin_close(&mut self, client: &mut BusClient) -> Result<(), hv_vmbus_client::Error> {
        self.begin_close(client)
    }

    fn into_closing(self) -> Self::Closing {
        self.into_closing()
    }
}

impl Driver for network::Card<'static, KernelDma, Either> {
    type Closing = network::Closing<'static, KernelDma>;

    fn begin_close(&mut self, client: &mut BusClient) -> Result<(), hv_vmbus_client::Error> {
        self.begin_close(client)
    }

    fn into_closing(self) -> Self::Closing {
        self.into_closing()
    }
}

/// Progress of a device's closing.
pub(super) enum State<T: Driver> {
    Open(T),
    Closing(T::Closing),
    /// Between two of the others.
    None,
}

impl<T: Driver> State<T> {
    /// Closes the driver, and gives the channel's number back to the host: after an error it can be called again.
    /// `left` is told what came back.
    pub(super) fn close(
        &mut self,
        channel: u32,
        client: &mut BusClient,
        pause: &mut Pause,
        left: impl FnOnce(Left<T>),
    ) -> Result<(), Code> {
        while let Err(error) = self.begin(client) {
            if !error.may_retry() {
                return Err(error.into());
            }
            pause.messages(client).map_err(|error| pause.code(error))?;
        }
        while matches!(self, Self::Closing(_)) {
            match self.poll(client) {
                Some(output) => {
                    left(output);
                    break;
                }
                None => pause.messages(client).map_err(|error| pause.code(error))?,
            }
        }
        release(client, channel);
        Ok(())
    }

    fn begin(&mut self, client: &mut BusClient) -> Result<(), hv_vmbus_client::Error> {
        if let Self::Open(driver) = self {
            driver.begin_close(client)?;
            self.turn();
        }
        Ok(())
    }

    /// Moves what is large, in a frame of its own.
    #[inline(never)]
    fn turn(&mut self) {
        if let Self::Open(driver) = core::mem::replace(self, Self::None) {
            *self = Self::Closing(driver.into_closing());
        }
    }

    /// Continues to close the driver. Returns what came back, once it is closed. Moves what is large, in a frame of its
    /// own.
    #[inline(never)]
    fn poll(&mut self, client: &mut BusClient) -> Option<Left<T>> {
        let Self::Closing(closing) = core::mem::replace(self, Self::None) else { return None };
        match closing.poll(client) {
            Progress::Pending(closing) => {
                *self = Self::Closing(closing);
                None
            }
            Progress::Done(output) => Some(output),
        }
    }
}
