//! The network card, as a receiver and a sender of frames.
//!
//! Without the features of offloads and merged buffers each frame has a buffer of its own, after a header of zeros
//! (VIRTIO 1.2, "Network Device"). Queue 0 is for what is received, queue 1 for what is sent.

use crate::memory::DeviceMemory;
use crate::packets::Packets;
use crate::queue::{Broken, Queue};
use crate::transport::{Refused, Registers, Transport, device};

const RECEIVE: u32 = 0;
const TRANSMIT: u32 = 1;
/// Length of the header before each frame (VIRTIO 1.2, "Device Operation").
pub const NET_HEADER: usize = 12;
/// Number of buffers for frames that are received. A network's frames are short.
const RECEIVE_BUFFERS: usize = 64;
const RECEIVE_BUFFER: u32 = 2048 - RECEIVE_LEAD;
/// Bytes before each, so that a frame begins with a word.
const RECEIVE_LEAD: u32 = 4;
const _: () = assert!((RECEIVE_LEAD as usize + NET_HEADER).is_multiple_of(8));
/// Number of frames that can be on their way out. A long TCP segment of the guest's becomes 45 of them.
const SEND_FRAMES: usize = 128;
/// Bytes for these, with their headers: 96 of the usual length.
const SEND_BYTES: usize = 144 << 10;
/// Length of the longest one, with its header. A guest's frames may be long.
const SEND_PACKET: usize = 9216;

/// Length of the longest frame that is received.
pub const RECEIVE_FRAME: usize = RECEIVE_BUFFER as usize - NET_HEADER;
/// Length of the longest frame that can be sent.
pub const SEND_FRAME: usize = SEND_PACKET - NET_HEADER;

/// Size of the memory that a card needs, in bytes.
pub const NET_MEMORY: usize = Queue::<RECEIVE_BUFFERS>::memory(RECEIVE_LEAD + RECEIVE_BUFFER)
    + Packets::<SEND_FRAMES>::memory(SEND_BYTES);

/// Initializes a card: its receiver and its sender, which may be used on different CPUs. Both have the registers.
///
/// # Errors
/// See [`Refused`].
pub fn net<R: Registers + Clone>(
    registers: R,
    mut memory: DeviceMemory,
) -> Result<(NetReceiver<R>, NetSender<R>), Refused> {
    let transport = Transport::begin(registers.clone(), device::NET, 0)?;
    let receive = Queue::behind(&mut memory, RECEIVE_LEAD, RECEIVE_BUFFER, true);
    let queues = (receive, Packets::new(&mut memory, SEND_BYTES));
    let (Some(mut receive), Some(mut transmit)) = queues else {
        transport.give_up();
        return Err(Refused::Memory);
    };
    let set_up =
        transport.queue(RECEIVE, &receive).and_then(|()| transport.rings(TRANSMIT, transmit.rings()));
    if let Err(refused) = set_up {
        transport.give_up();
        return Err(refused);
    }
    transmit.set_interrupts(false);
    transport.ready();
    (0..RECEIVE_BUFFERS).for_each(|buffer| receive.offer(buffer));
    transport.notify(RECEIVE);
    let sender =
        NetSender { transport: Transport::of(registers), queue: transmit, awaits_room: false, broken: None };
    Ok((NetReceiver { transport, queue: receive, held: None, broken: None }, sender))
}

/// The frames that come from outside.
#[derive(Debug)]
pub struct NetReceiver<R> {
    transport: Transport<R>,
    queue: Queue<RECEIVE_BUFFERS>,
    /// The buffer of the current frame, and its length with the header.
    held: Option<(usize, usize)>,
    broken: Option<Broken>,
}

impl<R: Registers> NetReceiver<R> {
    /// Acknowledges an interrupt. Returns false if the device did not raise one.
    pub fn acknowledge(&self) -> bool {
        self.broken.is_none() && self.transport.acknowledge()
    }

    /// Copies the current frame into `into`, and returns its length; `None`: there is none. It stays the current one
    /// until [`done`](Self::done). A frame longer than `into` is cut.
    ///
    /// # Errors
    /// The device is broken, and was given up.
    pub fn frame(&mut self, into: &mut [u8]) -> Result<Option<usize>, Broken> {
        self.broken.map_or(Ok(()), Err)?;
        if self.held.is_none() {
            self.held = match self.queue.used() {
                Ok(used) => used.map(|(buffer, len)| (buffer, len as usize)),
                Err(broken) => {
                    self.broken = Some(broken);
                    self.transport.give_up();
                    return Err(broken);
                }
            };
        }
        let Some((buffer, len)) = self.held else { return Ok(None) };
        // A buffer without a whole header has no frame.
        let len = len.saturating_sub(NET_HEADER).min(into.len());
        let _ = self.queue.read(buffer, NET_HEADER, &mut into[..len]);
        Ok(Some(len))
    }

    /// Gives the buffer of the current frame back to the device.
    pub fn done(&mut self) {
        if let Some((buffer, _)) = self.held.take() {
            self.queue.offer(buffer);
            if self.queue.wants_notice() {
                self.transport.notify(RECEIVE);
            }
        }
    }
}

/// The frames that go out.
#[derive(Debug)]
pub struct NetSender<R> {
    transport: Transport<R>,
    queue: Packets<SEND_FRAMES>,
    /// The device is to interrupt when it is done with frames.
    awaits_room: bool,
    broken: Option<Broken>,
}

impl<R: Registers> NetSender<R> {
    /// Takes back what the device is done with.
    fn reclaim(&mut self) -> Result<(), Broken> {
        self.broken.map_or(Ok(()), Err)?;
        let outcome = self.queue.reclaim();
        if let Err(broken) = outcome {
            self.broken = Some(broken);
            self.transport.give_up();
        }
        outcome
    }

    /// Takes the device for broken, as the receiver has found it: nothing that was sent comes back.
    pub const fn lose(&mut self, why: Broken) {
        self.broken = Some(why);
    }

    /// Returns true if a frame can be sent now, whatever its length. If not, the device interrupts when one can.
    ///
    /// # Errors
    /// The device is broken, and was given up.
    pub fn has_room(&mut self) -> Result<bool, Broken> {
        self.reclaim()?;
        if self.queue.has_room(SEND_PACKET) {
            if core::mem::take(&mut self.awaits_room) {
                self.queue.set_interrupts(false);
            }
            return Ok(true);
        }
        self.awaits_room = true;
        self.queue.set_interrupts(true);
        // It may have been done with one in between, without an interrupt.
        self.reclaim()?;
        Ok(self.queue.has_room(SEND_PACKET))
    }

    /// Sends a frame. `packet` begins with [`NET_HEADER`] bytes, which are overwritten with zeros. Returns false if
    /// there is no [room](Self::has_room), or the frame is empty or longer than [`SEND_FRAME`].
    ///
    /// # Errors
    /// The device is broken, and was given up.
    pub fn send(&mut self, packet: &mut [u8]) -> Result<bool, Broken> {
        self.broken.map_or(Ok(()), Err)?;
        if packet.len() <= NET_HEADER || packet.len() > SEND_PACKET {
            return Ok(false);
        }
        packet[..NET_HEADER].fill(0);
        if !self.queue.send(packet) {
            self.has_room()?;
            if !self.queue.send(packet) {
                return Ok(false);
            }
        }
        if self.queue.wants_notice() {
            self.transport.notify(TRANSMIT);
        }
        Ok(true)
    }
}
