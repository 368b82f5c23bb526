//! A card as a device of smoltcp.

use smoltcp::phy::{self, Checksum, DeviceCapabilities, Medium};
use smoltcp::time::Instant;

use super::{ETHERNET_HEADER, Error, Frames};

/// Bytes of the longest frame for an MTU of 1500, with a VLAN tag.
const LONGEST: usize = 1520;

/// Room for a frame. Aligned, since words are copied faster.
#[derive(Debug)]
#[repr(C, align(8))]
struct Room([u8; LONGEST]);

/// A card as a device of smoltcp, with an MTU of 1500 at most.
#[derive(Debug)]
pub struct SmoltcpDevice<F> {
    frames: F,
    received: Room,
    sent: Room,
    error: Option<Error>,
    lost: u64,
}

impl<F: Frames> SmoltcpDevice<F> {
    /// Wraps a card that is initialized.
    pub const fn new(frames: F) -> Self {
        Self { frames, received: Room([0; LONGEST]), sent: Room([0; LONGEST]), error: None, lost: 0 }
    }

    /// Returns the card.
    pub fn frames(&mut self) -> &mut F {
        &mut self.frames
    }

    /// Returns the card, to be closed.
    pub fn into_frames(self) -> F {
        self.frames
    }

    /// Returns the error after which the card is dead: the stack gets nothing from then on.
    pub const fn error(&self) -> Option<Error> {
        self.error
    }

    /// Returns the number of the stack's frames that were not sent.
    pub const fn lost(&self) -> u64 {
        self.lost
    }
}

/// A frame that has arrived.
#[derive(Debug)]
pub struct Received<'a>(&'a [u8]);

impl phy::RxToken for Received<'_> {
    fn consume<R, G: FnOnce(&[u8]) -> R>(self, take: G) -> R {
        take(self.0)
    }
}

/// Room for a frame to be sent.
#[derive(Debug)]
pub struct Transmit<'a, F> {
    frames: &'a mut F,
    room: &'a mut [u8; LONGEST],
    lost: &'a mut u64,
}

impl<F: Frames> phy::TxToken for Transmit<'_, F> {
    /// Sends what `write` has written. An answer that finds no section free is lost, as the network may lose any.
    ///
    /// # Panics
    ///
    /// If the frame is longer than the device says that frames are.
    fn consume<R, G: FnOnce(&mut [u8]) -> R>(self, len: usize, write: G) -> R {
        let frame = &mut self.room[..len];
        let result = write(frame);
        *self.lost += u64::from(self.frames.send(frame).is_err());
        result
    }
}

impl<F: Frames> phy::Device for SmoltcpDevice<F> {
    type RxToken<'a>
        = Received<'a>
    where
        F: 'a;
    type TxToken<'a>
        = Transmit<'a, F>
    where
        F: 'a;

    fn receive(&mut self, _: Instant) -> Option<(Received<'_>, Transmit<'_, F>)> {
        if self.error.is_some() {
            return None;
        }
        // Whether there is room to answer or not: the completions that make room are after the frames.
        let len = match self.frames.receive(&mut self.received.0) {
            Ok(len) => len?,
            Err(error) => {
                self.error = Some(error);
                return None;
            }
        };
        let transmit = Transmit { frames: &mut self.frames, room: &mut self.sent.0, lost: &mut self.lost };
        Some((Received(self.received.0.get(..len)?), transmit))
    }

    fn transmit(&mut self, _: Instant) -> Option<Transmit<'_, F>> {
        let ready = self.error.is_none() && self.frames.can_send();
        ready.then_some(Transmit { frames: &mut self.frames, room: &mut self.sent.0, lost: &mut self.lost })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        // Room for a tag of what arrives is no room for what is sent.
        capabilities.max_transmission_unit =
            (self.frames.mtu() + ETHERNET_HEADER).min(1500 + ETHERNET_HEADER);
        // The stack need not compute what the card does; it judges all that arrives.
        let offloaded = self.frames.checksums();
        let unless = |card: bool| if card { Checksum::Rx } else { Checksum::Both };
        capabilities.checksum.ipv4 = unless(offloaded.ipv4);
        capabilities.checksum.tcp = unless(offloaded.tcp4 && offloaded.tcp6);
        capabilities.checksum.udp = unless(offloaded.udp4 && offloaded.udp6);
        capabilities
    }
}
