//! An embedder that does what the ports ask for, and the tool's end of a stream.

use std::boxed::Box;
use std::collections::VecDeque;
use std::string::{String, ToString as _};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::vec::Vec;
use std::{fmt, thread};

use hv_devices::balloon::Discard;
use hv_devices::{network, storage};
use hv_partition::testing::{Lock, Memory, TestHost};
use hv_partition::{
    BusEvent, BusObserver, Config, DeviceId, Host, HostBackend, Never, Pages, Partition, Started, Token, Vp,
};
use hv_tlfs::vmbus::ChannelOffer;
use hv_wire::BootInfo;
use hv_wire::control::{Assembler, FromHypervisor, ToHypervisor};
use zerocopy::FromZeros as _;

use crate::{Devices, Machine, Outside, Pipe, State, Table};

pub(super) const REQUESTS: usize = 16;
pub(super) type Bus = crate::Bus<Lock, REQUESTS>;
pub(super) type Own = Machine<'static, Lock, Embedder, REQUESTS>;

/// The embedder: one of hv-partition's, with back ends that keep every request.
#[derive(Debug)]
pub(super) struct Embedder(pub(super) TestHost);

impl Host for Embedder {
    type Memory = Memory;

    fn memory(&self) -> &Memory {
        self.0.memory()
    }

    fn counter(&self) -> u64 {
        self.0.counter()
    }

    fn assert_interrupt(&self, vp: usize, intid: u32) {
        self.0.assert_interrupt(vp, intid);
    }

    fn set_deadline(&self, vp: usize, counter: Option<u64>) {
        self.0.set_deadline(vp, counter);
    }

    fn start_vp(&self, vp: usize, context: &hv_partition::VpContext) {
        self.0.start_vp(vp, context);
    }

    fn flush_tlb(&self, targets: &hv_partition::VpMask, what: hv_partition::Flush) {
        self.0.flush_tlb(targets, what);
    }
}

impl BusObserver for Embedder {
    fn observe_bus(&self, _: &BusEvent<'_>) {}
}

impl HostBackend<Never> for Embedder {
    fn start(&self, _: DeviceId, _: Token, request: &Never, _: Pages<'_>) -> Started<Never> {
        match *request {}
    }
}

macro_rules! keeps {
    ($($request:ty => $outcome:ty),*) => {$(
        impl HostBackend<$request> for Embedder {
            fn start(&self, _: DeviceId, _: Token, _: &$request, _: Pages<'_>) -> Started<$outcome> {
                Started::Pending
            }
        }
    )*};
}
keeps!(
    storage::Request => Result<(), storage::Failure>,
    network::Request => Result<(), network::Lost>,
    Discard => ()
);

/// What the ports had the embedder do.
#[derive(Debug, Default)]
pub(super) struct Done {
    pub(super) log: Mutex<Vec<String>>,
    /// Called when transfers are waited for.
    pub(super) waits: OnceLock<fn(&'static Own)>,
    machine: OnceLock<&'static Own>,
}

impl Outside for Done {
    fn offered(&self, _: DeviceId, _: &ChannelOffer) {}

    fn log(&self, text: fmt::Arguments<'_>) {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).push(text.to_string());
    }

    fn transfers_ended(&self) {
        if let (Some(waits), Some(machine)) = (self.waits.get(), self.machine.get()) {
            waits(machine);
        }
    }
}

/// Runs a test with a machine that has this boot information, nothing of which is offered yet.
pub(super) fn with(
    change: impl FnOnce(&mut BootInfo) + Send + 'static,
    test: impl FnOnce(&'static Own, &'static Done) + Send + 'static,
) {
    let run = move || {
        let mut info = Box::new(BootInfo::new_zeroed());
        change(&mut info);
        let info: &'static BootInfo = Box::leak(info);
        let bus = Bus::with_devices(Some(hv_vmbus::Config::DEFAULT), Devices::new());
        let bus: &'static Bus = Box::leak(Box::new(bus));
        let vps: Box<[Vp<Lock>]> = Box::new([Vp::new()]);
        let config = Config::new(10_000_000).hypervisor;
        let partition = Box::leak(Box::new(Partition::new(config, Box::leak(vps), &[], bus)));
        let host = Box::leak(Box::new(Embedder(TestHost::new(1))));
        partition.reset(host);
        let outside: &'static Done = Box::leak(Box::default());
        let disks = Box::leak(Box::new(Table::new(info)));
        let state = Box::leak(Box::new(State::new()));
        let machine: &'static Own =
            Box::leak(Box::new(Machine { partition, host, info, disks, state, outside }));
        outside.machine.set(machine).unwrap();
        test(machine, outside);
    };
    // The bus is made on the stack.
    let thread = thread::Builder::new().stack_size(64 << 20).spawn(run).unwrap();
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// The hypervisor's end of a stream, whose other end a test is.
#[derive(Debug)]
pub(super) struct FakePipe {
    /// What the tool has sent.
    pub(super) came: VecDeque<u8>,
    /// Bytes of it that one read gets at most.
    pub(super) step: usize,
    /// What the tool has taken.
    pub(super) sent: Vec<u8>,
    /// What the tool has not taken.
    pub(super) waiting: Vec<u8>,
    /// Room for that.
    pub(super) room: usize,
    /// Number of flushes after which the tool takes something.
    pub(super) busy: usize,
    pub(super) broken: bool,
    /// The stream breaks with the next flush that sends something.
    pub(super) breaks: bool,
}

impl FakePipe {
    pub(super) fn new() -> Self {
        Self {
            came: VecDeque::new(),
            step: usize::MAX,
            sent: Vec::new(),
            waiting: Vec::new(),
            room: 64 << 10,
            busy: 0,
            broken: false,
            breaks: false,
        }
    }

    /// Sends a message as the tool does.
    pub(super) fn ask(&mut self, id: u32, message: &ToHypervisor<'_>) {
        let mut frame = [0; hv_wire::control::MAX_FRAME];
        let len = message.encode(id, &mut frame).unwrap();
        self.came.extend(&frame[..len]);
    }

    /// Returns the messages that the tool has taken since the last call, in their `Debug` form, with their ids.
    pub(super) fn answers(&mut self) -> Vec<(u32, String)> {
        let (mut sent, mut frames) = (&*self.sent, Assembler::new());
        let mut answers = Vec::new();
        while !sent.is_empty() {
            let space = frames.space().unwrap();
            let len = space.len().min(sent.len());
            space[..len].copy_from_slice(&sent[..len]);
            sent = &sent[len..];
            frames.advance(len);
            if let Some((head, body)) = frames.frame() {
                let message = FromHypervisor::decode(&head, body).unwrap();
                answers.push((head.id, std::format!("{message:?}")));
                frames.done();
            }
        }
        self.sent.clear();
        answers
    }
}

impl Pipe for FakePipe {
    type Broken = &'static str;

    fn room(&mut self) -> Result<usize, Self::Broken> {
        if self.broken { Err("broken") } else { Ok(self.room - self.waiting.len()) }
    }

    fn read(&mut self, into: &mut [u8]) -> Result<usize, Self::Broken> {
        self.room()?;
        let len = into.len().min(self.step).min(self.came.len());
        into.iter_mut().zip(self.came.drain(..len)).for_each(|(to, from)| *to = from);
        Ok(len)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Self::Broken> {
        assert!(self.room()? >= bytes.len(), "there is no room");
        self.waiting.extend(bytes);
        Ok(())
    }

    fn flush(&mut self) {
        if self.breaks && !self.waiting.is_empty() {
            self.broken = true;
        }
        match self.busy.checked_sub(1) {
            Some(busy) => self.busy = busy,
            None => self.sent.append(&mut self.waiting),
        }
    }
}
