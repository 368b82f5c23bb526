//! The sockets' port: the bytes of all streams between the guest and the tool.
//!
//! The device (`hv_devices::sockets`) keeps the streams, the tool the programs' ends of them; this passes on what
//! either says. It is a console of its own, so that the control port never waits for streams. An interrupt handles
//! [`BUDGET`] bytes; if there are more, it raises itself again. The device raises it too, when it has news: it has no
//! lock that it could take for that.
//!
//! Lock order: the port, then what the partition takes.

use core::fmt::Write;

use hv_devices::sockets::{self, MAX_PAYLOAD, News, StreamId};
use hv_tlfs::vmbus::{Guid, socket};
use hv_virtio::{Broken, Console};
use hv_vmbus::{BusPort, Io, Never};
use hv_wire::BootFlags;
use hv_wire::control::{
    Assembler, DATA_HEAD, FromSockets, MAX_DATA, MAX_FRAME, SOCKET_WINDOW, ToSockets, data_head, ring_cost,
};
use spin::Once;

use crate::consoles;
use crate::devices::{BUS, Sockets};
use crate::host::FaultyEmbedder;
use crate::lock::Mutex;
use crate::log::Log;
use crate::virtio::Mmio;
use crate::{gic, outcomes, report};

/// Bytes from the tool that one interrupt handles, and a frame.
const BUDGET: usize = 32 << 10;
/// Bytes before each message's own, for the budget: a message costs work too.
const LEAST: usize = 256;

/// Room that the longest message of the device takes: its bytes in messages of the port.
const LONGEST: usize = MAX_PAYLOAD as usize + (MAX_PAYLOAD as usize).div_ceil(MAX_DATA) * DATA_HEAD;

const _: () = assert!(SOCKET_WINDOW == sockets::WINDOW);
const _: () = assert!(ring_cost(0) == sockets::cost(0) && ring_cost(13) == sockets::cost(13));

static PORT: Once<Mutex<State>> = Once::new();

/// The port.
struct State {
    console: Console<Mmio>,
    incoming: Assembler,
    outgoing: [u8; MAX_FRAME],
    /// The tool sent what is not a frame, or the console is broken: the port is unusable.
    lost: bool,
}

/// Takes the port into use, if the tool wants one. CPU 0 calls it once, before the guest starts.
pub(crate) fn begin(host: &FaultyEmbedder<'_>, flags: u64) {
    if flags & BootFlags::SOCKETS == 0 {
        return;
    }
    let (intid, console) = match consoles::take(consoles::SOCKETS, flags) {
        Ok(taken) => taken,
        Err(why) => {
            let _ = writeln!(Log, "the guest has no sockets: {why}");
            return;
        }
    };
    let slot = &BUS.devices().sockets;
    let served = host.cpu.hypervisor.partition.with_vmbus(host, |vmbus| {
        let served = vmbus.with(slot, |device, _| device.serve());
        served.and_then(|()| vmbus.place(slot))
    });
    let Ok((device, _)) = served else { panic!("the slot of the sockets is another bus's") };
    report::offered(device.0.into(), &hv_vmbus::offer(socket::VSOCK_TEMPLATE, Guid::ZERO));
    PORT.call_once(|| {
        Mutex::new(State { console, incoming: Assembler::new(), outgoing: [0; MAX_FRAME], lost: false })
    });
    outcomes::SOCKETS.begin(intid);
    gic::take(intid, outcomes::CPU);
}

/// Handles the port's interrupt.
#[cold]
pub(crate) fn interrupt(host: &FaultyEmbedder<'_>) {
    let Some(port) = PORT.get() else { return };
    let mut state = port.lock();
    state.console.acknowledge();
    if state.lost {
        return;
    }
    let passed = host.cpu.hypervisor.partition.with_vmbus(host, |vmbus| {
        vmbus.with(&BUS.devices().sockets, |device, io| {
            let more = state.hear(device, io)?;
            state.tell(device, io);
            Ok(more)
        })
    });
    state.console.flush();
    match passed {
        Ok(Ok(more)) => {
            if more {
                outcomes::SOCKETS.raise();
            }
        }
        Ok(Err(lost)) => {
            state.lost = true;
            let _ = match lost {
                Lost::Frame => writeln!(Log, "the sockets' port is lost: invalid frame from the tool"),
                Lost::Broken(broken) => writeln!(Log, "the sockets' port is lost: {broken}"),
            };
        }
        Err(_) => {}
    }
}

/// Reason why the port is unusable.
enum Lost {
    Frame,
    Broken(Broken),
}

impl State {
    /// Handles messages of the tool's. Returns true if there may be more.
    fn hear<P: BusPort>(&mut self, device: &mut Sockets, io: &mut Io<'_, P, Never>) -> Result<bool, Lost> {
        let mut budget = BUDGET;
        while budget > 0 {
            // A refusal has room, or the next interrupt, which says that there is some, comes here again.
            if self.console.room().map_err(Lost::Broken)? < MAX_FRAME {
                return Ok(false);
            }
            let space = self.incoming.space().map_err(|_| Lost::Frame)?;
            if !space.is_empty() {
                match self.console.read(space).map_err(Lost::Broken)? {
                    0 => return Ok(false),
                    bytes => self.incoming.advance(bytes),
                }
            }
            let Some((head, body)) = self.incoming.frame() else { continue };
            budget = budget.saturating_sub(body.len() + LEAST);
            // A message that this hypervisor does not know belongs to none of its streams.
            let refused = ToSockets::decode(&head, body).and_then(|message| obey(device, io, &message));
            if let Some(request) = refused
                && let Some(len) = (FromSockets::Refused { request }).encode(0, &mut self.outgoing)
            {
                self.console.write(&self.outgoing[..len]).map_err(Lost::Broken)?;
            }
            self.incoming.done();
        }
        Ok(true)
    }

    /// Tells the tool the device's news, as many as the port has room for. Its interrupt comes when there is room
    /// again.
    fn tell<P: BusPort>(&mut self, device: &mut Sockets, io: &mut Io<'_, P, Never>) {
        let Self { console, outgoing, .. } = self;
        device.drain(io, |news| {
            if console.room().is_ok_and(|room| room < LONGEST) {
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
                        let _ = console.write(&head).and_then(|_| console.write(part));
                    }
                    return true;
                }
            };
            if let Some(len) = message.encode(0, outgoing) {
                let _ = console.write(&outgoing[..len]);
            }
            true
        });
    }
}

/// Passes a message of the tool's on to the device. Returns the name of a connection for which there is no room.
fn obey<P: BusPort>(device: &mut Sockets, io: &mut Io<'_, P, Never>, message: &ToSockets<'_>) -> Option<u32> {
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
                let _ = writeln!(Log, "the tool sent {} bytes to stream {of:#x} without credit", bytes.len());
            }
        }
        ToSockets::Finish { stream: of } => device.finish(io, stream(of)),
        ToSockets::Reset { stream: of } => device.reset(io, stream(of)),
        ToSockets::Credit { stream: of, bytes } => device.credit(io, stream(of), bytes),
    }
    None
}
