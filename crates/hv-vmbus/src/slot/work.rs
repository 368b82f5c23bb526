//! What is done with a device, under its lock.

use crate::device::Device;
use crate::io::Context;
use crate::port::BusPort;
use crate::typed::Typed;
use crate::worker::Worker;
use hv_memory::Deadline;

/// What is done with a device in [`Slot::enter`](super::Slot::enter).
pub(crate) enum What<'w, D: Device, P: BusPort> {
    /// With the device as its type has it.
    Typed(&'w mut dyn Visit<D, P>),
    /// The same with all devices.
    Any(&'w mut dyn Act<P>),
}

/// What is done with a device and its requests: a closure. It is not a `dyn FnMut`, whose table has the closure's
/// code twice, since it can be called by value as well.
pub(crate) trait Visit<D: Device, P: BusPort> {
    fn visit(&mut self, typed: &mut Typed<'_, D>, context: &mut Context<'_, P>) -> Deadline;
}

impl<D, P, F> Visit<D, P> for F
where
    D: Device,
    P: BusPort,
    F: FnMut(&mut Typed<'_, D>, &mut Context<'_, P>) -> Deadline,
{
    fn visit(&mut self, typed: &mut Typed<'_, D>, context: &mut Context<'_, P>) -> Deadline {
        self(typed, context)
    }
}

/// What is done with a device whose type does not matter, so that it is compiled once for all of them.
pub(crate) trait Act<P: BusPort> {
    fn act(&mut self, worker: &mut Worker<'_, '_, P>) -> Deadline;
}

/// A channel was signalled.
pub(super) struct Signalled {
    pub(super) line: usize,
    pub(super) connection: u32,
}

impl<P: BusPort> Act<P> for Signalled {
    fn act(&mut self, worker: &mut Worker<'_, '_, P>) -> Deadline {
        worker.signalled(self.line, self.connection)
    }
}

/// Channels signalled while another call held the device.
pub(super) struct Called<'a> {
    /// How much work may be done for that; in the end, what is left of it.
    pub(super) budget: usize,
    pub(super) lines: &'a mut dyn Iterator<Item = usize>,
}

impl<P: BusPort> Act<P> for Called<'_> {
    fn act(&mut self, worker: &mut Worker<'_, '_, P>) -> Deadline {
        let deadline;
        (self.budget, deadline) = worker.called(self.budget, self.lines);
        deadline
    }
}

/// Time has passed.
pub(super) struct Tick;

impl<P: BusPort> Act<P> for Tick {
    fn act(&mut self, worker: &mut Worker<'_, '_, P>) -> Deadline {
        worker.tick()
    }
}
