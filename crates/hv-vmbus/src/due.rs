//! What follows a call: work that devices have for the bus, and devices that are due.

use crate::bus::Bus;
use crate::devices::{DeviceSet, Devices};
use crate::io::Position;
use crate::port::BusPort;
use lock_api::RawMutex;

impl<R: RawMutex, D: DeviceSet, const GPADLS: usize, const WORDS: usize> Bus<R, D, GPADLS, WORDS> {
    /// Sends pending messages to the guest, as far as the port takes them, and then runs the devices that are due. Call
    /// it when a message slot of VMBus was freed, and at the [`deadline`](Self::deadline).
    pub fn flush<P: BusPort>(&self, port: &P)
    where
        D: Devices<P>,
    {
        let mut control = self.control.lock();
        self.settle(&mut control, port);
        drop(control);
        self.run_due(port);
    }

    /// Runs the devices that are due. While messages are pending, none is run: a guest that does not know yet that its
    /// channel is open must not be interrupted for it.
    pub(crate) fn run_due<P: BusPort>(&self, port: &P)
    where
        D: Devices<P>,
    {
        if self.has_pending() {
            return;
        }
        let now = port.reference_time();
        if self.devices.deadline().is_due(now) {
            let cx = self.cx(port);
            self.devices.each(Position::FIRST, &mut |node, at| {
                if node.deadline().is_due(now) {
                    node.tick(at, &cx);
                }
            });
        }
        self.attend(port);
    }

    /// Carries out what devices have requested of the bus.
    #[inline]
    pub(crate) fn attend<P: BusPort>(&self, port: &P)
    where
        D: Devices<P>,
    {
        if self.shared.called() {
            self.serve_devices(port);
        }
    }

    #[cold]
    #[inline(never)]
    fn serve_devices<P: BusPort>(&self, port: &P)
    where
        D: Devices<P>,
    {
        // A device that is told of a closed channel may request more, once for each channel.
        for round in 0..=D::LINES {
            if round > 0 && !self.shared.called() {
                return;
            }
            let mut control = self.control.lock();
            control.changes = true;
            self.settle(&mut control, port);
            // There may be messages now for which devices wait, or none left.
            self.shared.moves();
        }
    }
}
