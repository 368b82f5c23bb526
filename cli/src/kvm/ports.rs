//! The ports to the tool, and the network: a thread for each, which does what `hv-control` has the port do.

use std::io;

use hv_control::{ControlPort, Pipe as _, Serves, SocketsPort};
use hv_devices::network::Received;
use hv_wire::Place;
use hv_wire::control::MAX_FRAME;

use super::devices::Ports;
use super::hearer::Hearer;
use super::network::{Inward, Network};
use super::pipe::{Bell, Stream};

/// What wakes the threads when a device has something for them.
#[derive(Debug)]
pub(super) struct Bells {
    pub(super) control: Bell,
    pub(super) sockets: Bell,
    pub(super) network: Bell,
}

impl Bells {
    /// Creates them.
    ///
    /// # Errors
    /// The system has no more descriptors.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { control: Bell::new()?, sockets: Bell::new()?, network: Bell::new()? })
    }
}

/// Serves the control port, until the process ends.
pub(super) fn control<H: Serves>(stream: Stream, machine: &Ports<H>, hearer: &Hearer) -> ! {
    let (mut port, bell) = (ControlPort::new(stream), &hearer.bells.control);
    loop {
        bell.clear();
        while port.serve(machine) {}
        hearer.settle(|| Place::at(0));
        let is_lost = port.is_lost();
        wait(port.pipe(), bell, is_lost);
    }
}

/// Serves the port of the guest's sockets, until the process ends.
pub(super) fn sockets<H: Serves>(stream: Stream, machine: &Ports<H>, hearer: &Hearer) -> ! {
    let (mut port, bell) = (SocketsPort::new(stream), &hearer.bells.sockets);
    loop {
        bell.clear();
        while port.serve(machine) {}
        hearer.settle(|| Place::at(0));
        let is_lost = port.is_lost();
        wait(port.pipe(), bell, is_lost);
    }
}

/// Takes frames in, and sends what the socket had no room for, until the process ends.
pub(super) fn network<H: Serves>(
    network: &Network,
    mut inward: Inward,
    machine: &Ports<H>,
    hearer: &Hearer,
) -> ! {
    let (slot, bell) = (&machine.partition.devices().network, &hearer.bells.network);
    let mut is_lost = false;
    let mut deliver = |frame: &[u8]| {
        let received = machine
            .partition
            .with_vmbus(machine.host, |vmbus| vmbus.with(slot, |card, io| card.receive(frame, io)));
        received != Ok(Received::Later)
    };
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
        let hears = if is_lost { Ok(false) } else { inward.take(network, &mut deliver) };
        hearer.settle(|| Place::at(0));
        if let Err(why) = &hears {
            is_lost = true;
            eprintln!("the network is lost: {why}");
        }
        inward.wait(bell, hears.unwrap_or(false), sends);
    }
}

/// Waits until there is something to do for a port, which reads no more while it has no room for an answer.
fn wait(stream: &mut Stream, bell: &Bell, is_lost: bool) {
    let hears = !is_lost && stream.room().is_ok_and(|room| room >= MAX_FRAME);
    let sends = !is_lost && stream.has_waiting();
    stream.wait(bell, hears, sends);
}
