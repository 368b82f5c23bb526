//! The sockets' port: the bytes of all streams between the guest and the tool.
//!
//! The device (`hv_devices::sockets`) keeps the streams, the tool the programs' ends of them; this passes on what
//! either says. It is a port of its own, so that the control port never waits for streams. A call handles [`BUDGET`]
//! bytes. The device says with locks held that it has news, and has no lock that it could take for the port: the
//! embedder calls the port for it.
//!
//! Lock order: the port, then what the partition takes.

use hv_devices::sockets::{self, MAX_PAYLOAD, News, StreamId};
use hv_partition::RawMutex;
use hv_vmbus::{BusPort, Io, Never};
use hv_wire::control::{DATA_HEAD, FromSockets, MAX_DATA, SOCKET_WINDOW, ToSockets, data_head, ring_cost};

use crate::devices::Sockets;
use crate::link::{Link, Lost};
use crate::machine::{Machine, Outside, Serves};
use crate::pipe::{Pipe, Port};

/// Bytes from the tool that one call handles, and a frame.
const BUDGET: usize = 32 << 10;
/// Bytes before each message's own, for the budget: a message costs work too.
const LEAST: usize = 256;

/// Room that the longest message of the device takes: its bytes in messages of the port.
const LONGEST: usize = MAX_PAYLOAD as usize + (MAX_PAYLOAD as usize).div_ceil(MAX_DATA) * DATA_HEAD;

const _: () = assert!(SOCKET_WINDOW == sockets::WINDOW);
const _: () = assert!(ring_cost(0) == sockets::cost(0) && ring_cost(13) == sockets::cost(13));

/// The port of the guest's sockets.
#[derive(Debug)]
pub struct SocketsPort<P> {
    link: Link<P>,
}

impl<P: Pipe> Port for SocketsPort<P> {
    type Pipe = P;

    fn link(&mut self) -> &mut Link<P> {
        &mut self.link
    }

    fn serve<R, H, const REQUESTS: usize>(&mut self, machine: &Machine<'_, R, H, REQUESTS>) -> bool
    where
        R: RawMutex,
        H: Serves,
    {
        if self.link.is_lost() {
            return false;
        }
        self.link.begin();
        let slot = &machine.partition.devices().sockets;
        let passed = machine.partition.with_vmbus(machine.host, |vmbus| {
            vmbus.with(slot, |device, io| {
                let more = self.hear(device, io, machine.outside)?;
                self.tell(device, io);
                Ok(more)
            })
        });
        // Without a bus there is nothing to pass on, and nothing to come back for.
        let Ok(passed) = passed else { return false };
        let more = passed.unwrap_or_else(|lost: Lost<P::Broken>| {
            self.link.lose();
            machine.outside.log(format_args!("the sockets' port is lost: {lost}"));
            false
        });
        self.link.end(more)
    }
}

impl<P: Pipe> SocketsPort<P> {
    /// Creates the port at the hypervisor's end of a stream.
    pub const fn new(pipe: P) -> Self {
        Self { link: Link::new(pipe) }
    }

    /// Handles messages of the tool's. Returns true if there may be more.
    fn hear<B: BusPort>(
        &mut self,
        device: &mut Sockets,
        io: &mut Io<'_, B, Never>,
        outside: &dyn Outside,
    ) -> Result<bool, Lost<P::Broken>> {
        let mut budget = BUDGET;
        while budget > 0 {
            let Some((head, body)) = self.link.next()? else { return Ok(false) };
            budget = budget.saturating_sub(body.len() + LEAST);
            // A message that this hypervisor does not know belongs to none of its streams.
            let refused =
                ToSockets::decode(&head, body).and_then(|message| obey(device, io, &message, outside));
            if let Some(request) = refused {
                self.link.send(|into| FromSockets::Refused { request }.encode(0, into));
            }
        }
        Ok(true)
    }

    /// Tells the tool the device's news, as many as the port has room for. It is called when there is
    /// room again.
    fn tell<B: BusPort>(&mut self, device: &mut Sockets, io: &mut Io<'_, B, Never>) {
        let Self { link } = self;
        device.drain(io, |news| {
            if !link.has_room(LONGEST) {
                return false;
            }
            let message = match news {
                News::Connect { stream, port } => FromSockets::Connect { stream: stream.number(), port },
                News::Opened { request, stream, own } => {
                    FromSockets::Opened { request, stream: stream.number(), own }
                }
                News::Refused { request } => FromSockets::Refused { request },
                News::Credit { stream, bytes } => FromSockets::Credit { stream: stream.number(), bytes },
                News::Finished { stream } => FromSockets::Finished { stream: stream.number() },
                News::Ended { stream } => FromSockets::Ended { stream: stream.number() },
                News::Data { stream, bytes } => {
                    for part in bytes.chunks(MAX_DATA) {
                        let head = data_head(FromSockets::DATA, stream.number(), part.len() as u16);
                        link.send_bytes(&head);
                        link.send_bytes(part);
                    }
                    return true;
                }
            };
            link.send(|into| message.encode(0, into));
            true
        });
    }
}

/// Passes a message of the tool's on to the device. Returns the name of a connection for which there is no room.
fn obey<B: BusPort>(
    device: &mut Sockets,
    io: &mut Io<'_, B, Never>,
    message: &ToSockets<'_>,
    outside: &dyn Outside,
) -> Option<u32> {
    let stream = StreamId::from_number;
    match *message {
        ToSockets::Connect { request, port } => {
            if device.connect(io, request, port).is_err() {
                return Some(request);
            }
        }
        ToSockets::Accept { stream: of } => device.accept(io, stream(of)),
        ToSockets::Refuse { stream: of } => device.refuse(io, stream(of)),
        ToSockets::Data { stream: of, bytes } => {
            if device.send(io, stream(of), bytes).is_err() {
                let sent = bytes.len();
                outside.log(format_args!("the tool sent {sent} bytes to stream {of:#x} without credit"));
            }
        }
        ToSockets::Finish { stream: of } => device.finish(io, stream(of)),
        ToSockets::Reset { stream: of } => device.reset(io, stream(of)),
        ToSockets::Credit { stream: of, bytes } => device.credit(io, stream(of), bytes),
    }
    None
}
