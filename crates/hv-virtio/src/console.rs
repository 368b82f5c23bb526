//! The console device with one port, as a byte stream in both directions.
//!
//! Without the feature MULTIPORT it has two queues: 0 for what the device receives from outside, 1 for what is sent
//! (VIRTIO 1.2, "Console Device").

use crate::memory::DeviceMemory;
use crate::queue::{Broken, Queue};
use crate::transport::{Refused, Registers, Transport, device};

const RECEIVE: u32 = 0;
const TRANSMIT: u32 = 1;
/// Number of buffers in each queue.
const BUFFERS: usize = 16;
/// Size of each buffer in bytes.
const BUFFER: u32 = 4096;

/// Maximum number of bytes waiting for the device, if every buffer is full.
pub const PORT_BYTES: usize = BUFFERS * BUFFER as usize;

/// Received data that has not been read: the buffer, the offset of the next byte, and its length.
#[derive(Clone, Copy, Debug)]
struct Received {
    buffer: usize,
    at: usize,
    end: usize,
}

/// A console with one port.
#[derive(Debug)]
pub struct Console<R> {
    transport: Transport<R>,
    receive: Queue<BUFFERS>,
    transmit: Queue<BUFFERS>,
    received: Option<Received>,
    /// Buffers were returned to the device since it was notified.
    returned: bool,
    /// The buffer that is being filled, and the number of bytes in it.
    filling: Option<(usize, usize)>,
    /// Buffers were passed to the device since it was notified.
    passed: bool,
    broken: Option<Broken>,
}

impl<R: Registers> Console<R> {
    /// Size of the memory that it needs, in bytes.
    pub const MEMORY: usize = 2 * Queue::<BUFFERS>::memory(BUFFER);

    /// Initializes a console.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn new(registers: R, mut memory: DeviceMemory) -> Result<Self, Refused> {
        let transport = Transport::begin(registers, device::CONSOLE, 0)?;
        let queues = (Queue::new(&mut memory, BUFFER, true), Queue::new(&mut memory, BUFFER, false));
        let (Some(mut receive), Some(transmit)) = queues else {
            transport.give_up();
            return Err(Refused::Memory);
        };
        for (number, queue) in [(RECEIVE, &receive), (TRANSMIT, &transmit)] {
            if let Err(refused) = transport.queue(number, queue) {
                transport.give_up();
                return Err(refused);
            }
        }
        transport.ready();
        (0..BUFFERS).for_each(|buffer| receive.offer(buffer));
        transport.notify(RECEIVE);
        Ok(Self {
            transport,
            receive,
            transmit,
            received: None,
            returned: false,
            filling: None,
            passed: false,
            broken: None,
        })
    }

    /// Acknowledges an interrupt. Returns false if the device did not raise one.
    pub fn acknowledge(&self) -> bool {
        self.broken.is_none() && self.transport.acknowledge()
    }

    /// Returns the protocol violation for which the device was given up, if there was one.
    #[must_use]
    pub const fn broken(&self) -> Option<Broken> {
        self.broken
    }

    fn judge<T>(&mut self, outcome: Result<T, Broken>) -> Result<T, Broken> {
        if let Err(broken) = outcome
            && self.broken.is_none()
        {
            self.broken = Some(broken);
            self.transport.give_up();
        }
        outcome
    }

    /// Copies received bytes into `into`, as many as are available, and returns their number. Buffers that are read to
    /// the end go back to the device with the next [`flush`](Self::flush).
    ///
    /// # Errors
    /// The device is broken, and was given up.
    pub fn read(&mut self, into: &mut [u8]) -> Result<usize, Broken> {
        self.broken.map_or(Ok(()), Err)?;
        let mut done = 0;
        while done < into.len() {
            let Some(Received { buffer, at, end }) = self.received else {
                let used = self.receive.used();
                match self.judge(used)? {
                    Some((buffer, len)) => {
                        self.received = Some(Received { buffer, at: 0, end: len as usize });
                    }
                    None => break,
                }
                continue;
            };
            let len = (end - at).min(into.len() - done);
            let _ = self.receive.read(buffer, at, &mut into[done..done + len]);
            done += len;
            if at + len == end {
                self.received = None;
                self.receive.offer(buffer);
                self.returned = true;
            } else {
                self.received = Some(Received { buffer, at: at + len, end });
            }
        }
        Ok(done)
    }

    /// Reclaims sent buffers, and returns how many bytes fit into one [`write`](Self::write).
    ///
    /// # Errors
    /// The same as for [`read`](Self::read).
    pub fn room(&mut self) -> Result<usize, Broken> {
        self.broken.map_or(Ok(()), Err)?;
        loop {
            let used = self.transmit.used();
            if self.judge(used)?.is_none() {
                break;
            }
        }
        let filled = self.filling.map_or(0, |(_, filled)| filled);
        Ok((BUFFERS - usize::from(self.transmit.count())) * BUFFER as usize - filled)
    }

    /// Sends bytes with the next [`flush`](Self::flush), all or none. Returns false if there is no [`room`](Self::room)
    /// for them.
    ///
    /// # Errors
    /// The same as for [`read`](Self::read).
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<bool, Broken> {
        if self.room()? < bytes.len() {
            return Ok(false);
        }
        while !bytes.is_empty() {
            let Some((buffer, filled)) = self.filling.or_else(|| Some((self.transmit.vacant()?, 0))) else {
                break;
            };
            let len = self.transmit.put(buffer, filled, bytes);
            bytes = &bytes[len..];
            self.filling = Some((buffer, filled + len));
            if filled + len == BUFFER as usize {
                self.pass();
            }
        }
        Ok(true)
    }

    fn pass(&mut self) {
        if let Some((buffer, filled)) = self.filling.take() {
            self.transmit.pass(buffer, filled);
            self.passed = true;
        }
    }

    /// Passes on what was written, and returns what was read: notifies the device, once for each direction at most. A
    /// notification costs more than everything else here, so call this once when everything is done.
    pub fn flush(&mut self) {
        self.pass();
        if self.broken.is_some() {
            return;
        }
        if core::mem::take(&mut self.passed) {
            self.transport.notify(TRANSMIT);
        }
        if core::mem::take(&mut self.returned) {
            self.transport.notify(RECEIVE);
        }
    }
}
