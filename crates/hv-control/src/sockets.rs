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
use hv_wire::control::{
    Assembler, DATA_HEAD, FromSockets, MAX_DATA, MAX_FRAME, SOCKET_WINDOW, ToSockets, data_head, ring_cost,
};

use crate::devices::Sockets;
use crate::machine::{Machine, Outside, Serves};
use crate::pipe::Pipe;

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
    pipe: P,
    incoming: Assembler,
    outgoing: [u8; MAX_FRAME],
    /// The tool sent what is not a frame, or the stream is broken: the port is unusable.
    lost: bool,
}

/// Reason why the port is unusable.
enum Lost<B> {
    Frame,
    Broken(B),
}

impl<P: Pipe> SocketsPort<P> {
    /// Creates the port at the hypervisor's end of a stream.
    pub const fn new(pipe: P) -> Self {
        Self { pipe, incoming: Assembler::new(), outgoing: [0; MAX_FRAME], lost: false }
    }

    /// Returns the stream.
    pub const fn pipe(&mut self) -> &mut P {
        &mut self.pipe
    }

    /// Returns true if the port is unusable.
    pub const fn is_lost(&self) -> bool {
        self.lost
    }

    /// Handles what the tool has sent, and sends what there is for it. Returns true if there may be more: call it
    /// again.
    pub fn serve<R, H, const REQUESTS: usize>(&mut self, machine: &Machine<'_, R, H, REQUESTS>) -> bool
    where
        R: RawMutex,
        H: Serves,
    {
        if self.lost {
            return false;
        }
        let slot = &machine.partition.devices().sockets;
        let passed = machine.partition.with_vmbus(machine.host, |vmbus| {
            vmbus.with(slot, |device, io| {
                let more = self.hear(device, io, machine.outside)?;
                self.tell(device, io);
                Ok(more)
            })
        });
        self.pipe.flush();
        let lost = match passed {
            Ok(Ok(more)) => return more,
            Ok(Err(lost)) => lost,
            Err(_) => return false,
        };
        self.lost = true;
        match lost {
            Lost::Frame => {
                machine.outside.log(format_args!("the sockets' port is lost: invalid frame from the tool"));
            }
            Lost::Broken(broken) => {
                machine.outside.log(format_args!("the sockets' port is lost: {broken}"));
            }
        }
        false
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
            // A refusal has room, or the next call, which comes when there is some, comes here again.
            if self.pipe.room().map_err(Lost::Broken)? < MAX_FRAME {
                return Ok(false);
            }
            let space = self.incoming.space().map_err(|_| Lost::Frame)?;
            if !space.is_empty() {
                match self.pipe.read(space).map_err(Lost::Broken)? {
                    0 => return Ok(false),
                    bytes => self.incoming.advance(bytes),
                }
            }
            let Some((head, body)) = self.incoming.frame() else { continue };
            budget = budget.saturating_sub(body.len() + LEAST);
            // A message that this hypervisor does not know belongs to none of its streams.
            let refused =
                ToSockets::decode(&head, body).and_then(|message| obey(device, io, &message, outside));
            if let Some(request) = refused
                && let Some(len) = (FromSockets::Refused { request }).encode(0, &mut self.outgoing)
            {
                self.pipe.write(&self.outgoing[..len]).map_err(Lost::Broken)?;
            }
            self.incoming.done();
        }
        Ok(true)
    }

    /// Tells the tool the device's news, as many as the port has room for. It is called when there is
    /// room again.
    fn tell<B: BusPort>(&mut self, device: &mut Sockets, io: &mut Io<'_, B, Never>) {
        let Self { pipe, outgoing, .. } = self;
        device.drain(io, |news| {
            if pipe.room().is_ok_and(|room| room < LONGEST) {
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
                        let _ = pipe.write(&head).and_then(|()| pipe.write(part));
                    }
                    return true;
                }
            };
            if let Some(len) = message.encode(0, outgoing) {
                let _ = pipe.write(&outgoing[..len]);
            }
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
