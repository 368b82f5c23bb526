//! The ports to the tool, and the network: a thread for each, which does what `hv-control` has the port do.

use std::io;

use hv_control::{Machine, Port, Serves};
use hv_devices::network::Received;
use hv_partition::RawMutex;

use crate::network::{Inward, Network, Passed};
use crate::pipe::{Bell, Stream};

/// What wakes the threads when a device has something for them.
#[derive(Debug)]
pub(crate) struct Bells {
    pub(crate) control: Bell,
    pub(crate) sockets: Bell,
    pub(crate) network: Bell,
}

impl Bells {
    /// Creates them.
    ///
    /// # Errors
    /// The system has no more descriptors.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { control: Bell::new()?, sockets: Bell::new()?, network: Bell::new()? })
    }
}

/// Serves a port, until the process ends. `settled` is called after each round, which may have had the bus take
/// packets.
pub(crate) fn serve<P, R, H, const REQUESTS: usize>(
    mut port: P,
    machine: &Machine<'_, R, H, REQUESTS>,
    bell: &Bell,
    settled: impl Fn(),
) -> !
where
    P: Port<Pipe = Stream>,
    R: RawMutex,
    H: Serves,
{
    loop {
        bell.clear();
        while port.serve(machine) {}
        settled();
        let link = port.link();
        let hears = link.hears();
        let sends = !link.is_lost() && link.pipe().has_waiting();
        link.pipe().wait(bell, hears, sends);
    }
}

/// Takes frames in, and sends what the socket had no room for, until the process ends.
pub(crate) fn network<R: RawMutex, H: Serves, const REQUESTS: usize>(
    network: &Network,
    mut inward: Inward,
    machine: &Machine<'_, R, H, REQUESTS>,
    bell: &Bell,
    settled: impl Fn(),
) -> ! {
    let slot = &machine.partition.devices().network;
    let (mut is_lost, mut passed) = (false, Passed::All);
    loop {
        bell.clear();
        let sends = network.flush();
        if !sends && network.is_waited_for() {
            machine.partition.with_vmbus(machine.host, |vmbus| {
                if let Ok((id, _)) = vmbus.place(slot) {
                    vmbus.resume(id);
                }
            });
        }
        // While the guest has no room, nothing is read.
        let came = if is_lost || passed != Passed::All { Ok(false) } else { inward.read(network) };
        if let Err(why) = &came {
            is_lost = true;
            machine.outside.log(format_args!("the network is lost: {why}"));
        }
        // All of them in one call of the card: the guest is interrupted once.
        let taken = machine.partition.with_vmbus(machine.host, |vmbus| {
            vmbus.with(slot, |card, io| {
                inward.pass_on(network, |frame| card.receive(frame, io) != Received::Later)
            })
        });
        settled();
        passed = taken.unwrap_or(Passed::All);
        if passed == Passed::Full || (passed == Passed::All && came == Ok(false)) {
            inward.wait(bell, !is_lost && passed == Passed::All, sends);
        }
    }
}
