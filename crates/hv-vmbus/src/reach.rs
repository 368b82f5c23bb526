//! Access to the devices of a bus and their channels, one after another, each under its lock.

use crate::bus::Bus;
use crate::devices::{DeviceSet, Devices, Part};
use crate::gpadl::State;
use crate::io::{Cx, Position};
use crate::port::BusPort;
use crate::protocol::ChannelId;
use lock_api::RawMutex;

impl<R: RawMutex, D: DeviceSet, const GPADLS: usize, const WORDS: usize> Bus<R, D, GPADLS, WORDS> {
    pub(crate) fn cx<'a, P>(&'a self, port: &'a P) -> Cx<'a, P> {
        Cx { port, pool: self.gpadls.pool(), shared: &self.shared }
    }

    /// Calls a function with the device and channel of this number; returns `None` if there is none.
    pub(crate) fn part<P: BusPort, T>(
        &self,
        id: ChannelId,
        port: &P,
        work: impl FnOnce(&mut dyn Part, usize) -> T,
    ) -> Option<T>
    where
        D: Devices<P>,
    {
        let line = usize::try_from(id.0.checked_sub(1)?).ok()?;
        let (mut work, mut result) = (Some(work), None);
        let cx = self.cx(port);
        self.devices.with_line(line, Position::FIRST, &mut |node, at, line| {
            node.work(at, &cx, &mut |part| result = work.take().map(|work| work(part, line)));
        });
        result
    }

    /// Calls a function with all devices, one after another.
    pub(crate) fn parts<P: BusPort>(&self, port: &P, mut work: impl FnMut(&mut dyn Part, Position))
    where
        D: Devices<P>,
    {
        let cx = self.cx(port);
        self.devices.each(Position::FIRST, &mut |node, at| {
            node.work(at, &cx, &mut |part| work(part, at));
        });
    }

    /// Calls a function with each device that has a channel.
    pub(crate) fn parts_in_use<P: BusPort>(&self, port: &P, mut work: impl FnMut(&mut dyn Part, Position))
    where
        D: Devices<P>,
    {
        let cx = self.cx(port);
        self.devices.each(Position::FIRST, &mut |node, at| {
            if !node.is_vacant() {
                node.work(at, &cx, &mut |part| work(part, at));
            }
        });
    }

    /// Closes a channel: its rings are the guest's again, as soon as the requests that would answer into them are done.
    pub(crate) fn close(&self, part: &mut dyn Part, line: usize) {
        let Some(entry) = part.lines()[line].open.as_ref().map(|open| open.entry) else { return };
        part.close(line);
        let pool = self.gpadls.pool();
        if let Some(gpadl) = pool.get(entry) {
            pool.set_state(entry, State::Ready, gpadl.fate);
        }
    }
}
