//! Configuration of a partition.

use hv_devices::any::Offer;

/// Configuration of a partition.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Config {
    /// The hypervisor.
    pub hypervisor: hv_host::Config,
    /// VMBus; `None`: there is none, and its connections do not exist.
    pub vmbus: Option<hv_vmbus::Config>,
    /// Devices that VMBus offers from the start.
    pub offers: &'static [Offer],
}

impl Config {
    /// Returns current Azure with VMBus, for a counter of this frequency.
    #[must_use]
    pub const fn new(counter_frequency: u64) -> Self {
        Self {
            hypervisor: hv_host::Config::new(counter_frequency),
            vmbus: Some(hv_vmbus::Config::DEFAULT),
            offers: &[],
        }
    }

    /// Returns the same with another profile.
    #[must_use]
    pub const fn with_profile(mut self, profile: hv_host::Profile) -> Self {
        self.hypervisor.profile = profile;
        self
    }

    /// Returns the same with another VMBus, or with none.
    #[must_use]
    pub const fn with_vmbus(mut self, vmbus: Option<hv_vmbus::Config>) -> Self {
        self.vmbus = vmbus;
        self
    }

    /// Returns the same with these devices offered from the start.
    #[must_use]
    pub const fn with_offers(mut self, offers: &'static [Offer]) -> Self {
        self.offers = offers;
        self
    }
}

/// Configures a partition without VMBus.
impl From<hv_host::Config> for Config {
    fn from(hypervisor: hv_host::Config) -> Self {
        Self { hypervisor, vmbus: None, offers: &[] }
    }
}
