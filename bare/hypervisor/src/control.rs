//! The ports to the tool: the control port, and that of the guest's sockets. What they do is `hv-control`'s.
//!
//! Each is a console of QEMU's, whose other end is a socket of the tool's. The guest never sees it: its transport is
//! absent from stage 2, and its interrupt comes here. An interrupt does a bounded amount of work; if there is more, it
//! raises itself again. A device that has something for the tool raises it too, since it has no lock that it could take
//! for that.

use core::fmt::Write;

use hv_control::{ControlPort, Pipe, Port, SocketsPort};
use hv_virtio::{Broken, Console};
use spin::Once;

use crate::consoles::{self, Why};
use crate::host::FaultyEmbedder;
use crate::lock::Mutex;
use crate::log::Log;
use crate::outcomes::{CONTROL, CPU, SOCKETS, ToolPort};
use crate::virtio::Mmio;
use crate::{gic, machine};

/// A console of QEMU's.
struct Serial(Console<Mmio>);

impl Pipe for Serial {
    type Broken = Broken;

    fn room(&mut self) -> Result<usize, Broken> {
        self.0.room()
    }

    fn read(&mut self, into: &mut [u8]) -> Result<usize, Broken> {
        self.0.read(into)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        self.0.write(bytes).map(drop)
    }

    fn flush(&mut self) {
        self.0.flush();
    }
}

static CONTROL_PORT: Once<Mutex<ControlPort<Serial>>> = Once::new();
static SOCKETS_PORT: Once<Mutex<SocketsPort<Serial>>> = Once::new();

/// Takes the ports into use that the tool wants. CPU 0 calls it once, before the guest starts.
pub(crate) fn begin(host: &FaultyEmbedder<'_>, flags: u64) {
    let begun = |port: &ToolPort, console: usize, begin: &dyn Fn(Serial)| match consoles::take(console, flags)
    {
        Ok((intid, console)) => {
            begin(Serial(console));
            port.begin(intid);
            gic::take(intid, CPU);
            Ok(())
        }
        Err(Why::Unasked) => Ok(()),
        Err(why) => Err(why),
    };
    let control = begun(&CONTROL, consoles::CONTROL, &|serial| {
        CONTROL_PORT.call_once(|| Mutex::new(ControlPort::new(serial)));
    });
    if let Err(why) = control {
        let _ = writeln!(Log, "the control port is not used: {why}");
    }
    let sockets = begun(&SOCKETS, consoles::SOCKETS, &|serial| {
        machine::of(host).serve_sockets();
        SOCKETS_PORT.call_once(|| Mutex::new(SocketsPort::new(serial)));
    });
    if let Err(why) = sockets {
        let _ = writeln!(Log, "the guest has no sockets: {why}");
    }
}

/// Handles the control port's interrupt.
#[cold]
pub(crate) fn interrupt(host: &FaultyEmbedder<'_>) {
    serve(host, &CONTROL_PORT, &CONTROL);
}

/// Handles the interrupt of the sockets' port.
#[cold]
pub(crate) fn sockets_interrupt(host: &FaultyEmbedder<'_>) {
    serve(host, &SOCKETS_PORT, &SOCKETS);
}

fn serve(host: &FaultyEmbedder<'_>, port: &Once<Mutex<impl Port<Pipe = Serial>>>, tool: &ToolPort) {
    let Some(port) = port.get() else { return };
    let mut port = port.lock();
    port.link().pipe().0.acknowledge();
    if port.serve(&machine::of(host)) {
        tool.raise();
    }
}
