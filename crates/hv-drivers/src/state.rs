//! Progress of the initialization of a device.

/// The state of a device whose initialization has these steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State<Step, Error> {
    /// The message of this step has to be sent.
    Send(Step),
    /// The host has to answer it.
    Await(Step),
    Ready,
    Failed(Error),
}
