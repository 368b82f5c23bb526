//! Whether a VP runs.

/// Power state of a VP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Power {
    /// Not started, or stopped.
    Off,
    /// Start requested; [`Partition::vp_online`](crate::Partition::vp_online) has not been called yet.
    Starting,
    /// Running.
    On,
}

impl From<Power> for u8 {
    fn from(power: Power) -> Self {
        match power {
            Power::Off => 0,
            Power::Starting => 1,
            Power::On => 2,
        }
    }
}
