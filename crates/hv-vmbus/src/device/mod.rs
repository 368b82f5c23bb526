//! What stands behind the channels on the host.

mod echo;
mod heartbeat;
mod io;

pub(crate) use io::Io;

use crate::config;
use crate::image;
use crate::ring::RingError;
use heartbeat::Heartbeat;
use hv_memory::GuestMemory;

/// A device of an open channel.
#[derive(Clone, Debug)]
pub(crate) enum Device {
    Silent,
    Echo,
    Heartbeat(Heartbeat),
}

impl Device {
    /// The device as it is when its channel has just been opened.
    pub(crate) fn new(kind: config::Device) -> Self {
        match kind {
            config::Device::Silent => Self::Silent,
            config::Device::Echo => Self::Echo,
            config::Device::Heartbeat { interval } => Self::Heartbeat(Heartbeat::new(interval)),
        }
    }

    /// Does what there is to do: the guest has signalled, or it is time.
    pub(crate) fn run<M: GuestMemory>(&mut self, io: &mut Io<'_, M>) -> Result<(), RingError> {
        match self {
            Self::Silent => Ok(()),
            Self::Echo => echo::run(io),
            Self::Heartbeat(heartbeat) => heartbeat.run(io),
        }
    }

    /// When the device wants to run next without a signal.
    pub(crate) fn deadline(&self) -> Option<u64> {
        match self {
            Self::Silent | Self::Echo => None,
            Self::Heartbeat(heartbeat) => heartbeat.deadline(),
        }
    }
}

image::variants!(Device, "kind of a device" { 0 => Silent, 1 => Echo, 2 => Heartbeat(heartbeat) });
