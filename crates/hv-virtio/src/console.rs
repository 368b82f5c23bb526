//! A serial port of the console device, as a byte stream in both directions.
//!
//! Port 0 is QEMU's `virtconsole`, and that loses what its other end does not take at once: a console must not stop its
//! machine. This is port 1, a `virtserialport`, which holds a buffer until the other end has taken all of it
//! (hw/char/virtio-console.c). Ports after 0 need the feature MULTIPORT, and messages of two control queues that open
//! them (VIRTIO 1.2, "Console Device").

use crate::memory::DeviceMemory;
use crate::queue::{Broken, Queue};
use crate::transport::{Refused, Registers, Transport, device};

/// Feature: there are control queues, and ports after 0 (VIRTIO 1.2, "Feature bits").
const MULTIPORT: u64 = 1 << 1;
/// Queues (VIRTIO 1.2, "Virtqueues"): those of control, and of port 1.
const CONTROL_RECEIVE: u32 = 2;
const CONTROL_TRANSMIT: u32 = 3;
const RECEIVE: u32 = 4;
const TRANSMIT: u32 = 5;
/// Number of buffers in each queue.
const BUFFERS: usize = 16;
/// Size of each buffer in bytes, in the port's queues and in those of control.
const BUFFER: u32 = 4096;
const CONTROL: u32 = 64;

/// The driver's port.
const PORT: u32 = 1;
/// Events of control messages (VIRTIO 1.2, "Multiport Device Operation").
const DEVICE_READY: u16 = 0;
const PORT_READY: u16 = 3;
const PORT_OPEN: u16 = 6;

/// Returns a control message: the port, the event, and its value 1.
const fn control(port: u32, event: u16) -> [u8; 8] {
    let ([a, b, c, d], [e, f]) = (port.to_le_bytes(), event.to_le_bytes());
    [a, b, c, d, e, f, 1, 0]
}

/// What opens the port: the driver is ready, the port is ready, and it is in use.
const OPEN: [[u8; 8]; 3] =
    [control(u32::MAX, DEVICE_READY), control(PORT, PORT_READY), control(PORT, PORT_OPEN)];

/// Maximum number of bytes waiting for the device, if every buffer is full.
pub const PORT_BYTES: usize = BUFFERS * BUFFER as usize;

/// Received data that has not been read: the buffer, the offset of the next byte, and its length.
#[derive(Clone, Copy, Debug)]
struct Received {
    buffer: usize,
    at: usize,
    end: usize,
}

/// Port 1 of a console.
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
    pub const MEMORY: usize = 2 * (Queue::<BUFFERS>::memory(BUFFER) + Queue::<BUFFERS>::memory(CONTROL));

    /// Initializes a console, and opens its port 1.
    ///
    /// # Errors
    /// See [`Refused`]; [`Refused::Features`] also without MULTIPORT.
    pub fn new(registers: R, mut memory: DeviceMemory) -> Result<Self, Refused> {
        let transport = Transport::begin(registers, device::CONSOLE, MULTIPORT)?;
        let given_up = |refused| {
            transport.give_up();
            refused
        };
        let mut queue = |size, inward| Queue::<BUFFERS>::new(&mut memory, size, inward);
        let all = (queue(BUFFER, true), queue(BUFFER, false), queue(CONTROL, true), queue(CONTROL, false));
        let (Some(mut receive), Some(transmit), Some(mut answers), Some(mut messages)) = all else {
            return Err(given_up(Refused::Memory));
        };
        let queues = [
            (CONTROL_RECEIVE, &answers),
            (CONTROL_TRANSMIT, &messages),
            (RECEIVE, &receive),
            (TRANSMIT, &transmit),
        ];
        queues
            .into_iter()
            .try_for_each(|(number, queue)| transport.queue(number, queue))
            .map_err(given_up)?;
        transport.ready();
        // Nothing in the answers matters: the machine has the port from its start, and its own buffers wait for it.
        answers.set_interrupts(false);
        messages.set_interrupts(false);
        (0..BUFFERS).for_each(|buffer| answers.offer(buffer));
        for (buffer, message) in OPEN.iter().enumerate() {
            messages.fill(buffer, message);
        }
        transport.notify(CONTROL_RECEIVE);
        transport.notify(CONTROL_TRANSMIT);
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
