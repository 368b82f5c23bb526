//! The machine of the examples.

use std::io::Write as _;

use hv_kvm::vm_memory::{Bytes as _, GuestAddress, GuestMemoryMmap};
use hv_kvm::{KvmVm, Layout, Machine, Observer, RunOutcome, Vm as _};
use hv_machine::{Image, Platform};
use hv_partition::{
    Bus, BusEvent, BusObserver, Config, DeviceId, Event, HostBackend, Never, Pages, Partition, Port, Started,
    Token, Vp, VpContext,
};
use parking_lot::RawMutex;

/// What the firmware tables describe: RAM from 1 GiB on, and the devices of [`Layout::VIRT`].
pub(crate) const PLATFORM: Platform = Platform::new(
    0x4000_0000,
    Layout::VIRT.distributor..Layout::VIRT.distributor + Layout::DISTRIBUTOR_SIZE,
    Layout::VIRT.redistributors,
    Layout::VIRT.uart..Layout::VIRT.uart + Layout::UART_SIZE,
    Layout::VIRT.uart_intid,
    0x1000_0000..0x3000_0000,
)
.with_redistributor_stride(Layout::REDISTRIBUTOR_SIZE)
.with_taken_intids(&[25]);

/// Observer that shows the console.
pub(crate) struct Console {
    /// It shows the state of VMBus, and a crash.
    pub(crate) tells: bool,
}

impl Observer for Console {
    fn console(&self, byte: u8) {
        let _ = std::io::stdout().lock().write_all(&[byte]);
    }

    fn observe(&self, event: &Event<'_>) {
        if let Event::Crash { parameters, text, .. } = event
            && self.tells
        {
            // The guest's text is data: each line of it escaped.
            let text = String::from_utf8_lossy(text);
            let last = text.lines().find(|line| line.contains("panic")).unwrap_or_default();
            eprintln!("crash: {parameters:x?}, {} bytes of text, with {last:?}", text.len());
        }
    }
}

impl BusObserver for Console {
    fn observe_bus(&self, event: &BusEvent<'_>) {
        if let BusEvent::Server(event) = event
            && self.tells
        {
            eprintln!("vmbus: {event:?}");
        }
    }
}

impl HostBackend<Never> for Console {
    fn start(&self, _: DeviceId, _: Token, request: &Never, _: Pages<'_>) -> Started<Never> {
        match *request {}
    }
}

/// Runs a guest with this many bytes of memory and VPs, until it powers off.
#[allow(dead_code, reason = "each example has this file, and one of them runs its guest in two parts")]
pub(crate) fn run(
    image: &Image,
    (memory, vps): (u64, u32),
    ports: &[Port],
    console: Console,
) -> Result<(), Box<dyn std::error::Error>> {
    let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(PLATFORM.ram_base), memory as usize)])?;
    load(image, &memory)?;
    let machine = Machine::new(KvmVm::create(memory, vps as usize, Layout::VIRT)?, console)?;
    hv_kvm::enter_sandbox(&[])?;
    let boot = VpContext::at(image.entry, image.x0);
    powered_off(with_partition(&machine, vps, ports, |partition| machine.run(partition, &boot)))
}

/// Writes an image to guest memory.
pub(crate) fn load(image: &Image, memory: &GuestMemoryMmap) -> Result<(), Box<dyn std::error::Error>> {
    for (address, bytes) in &image.segments {
        memory.write_slice(bytes, GuestAddress(*address))?;
    }
    Ok(())
}

/// Calls a function with a new partition.
pub(crate) fn with_partition<S, T>(
    machine: &Machine<KvmVm, S>,
    vps: u32,
    ports: &[Port],
    work: impl FnOnce(&Partition<'_, RawMutex, Bus<RawMutex>>) -> T,
) -> T
where
    S: Observer,
{
    let config = Config::new(machine.vm().counter_frequency());
    let states: Vec<Vp<RawMutex>> = (0..vps).map(|_| Vp::new()).collect();
    let bus = Bus::new(config.vmbus);
    work(&Partition::new(config.hypervisor, &states, ports, &bus))
}

/// Checks that the guest has powered off.
pub(crate) fn powered_off(outcome: RunOutcome) -> Result<(), Box<dyn std::error::Error>> {
    match outcome {
        RunOutcome::PowerOff => Ok(()),
        outcome => Err(format!("the guest ended with {outcome:?}").into()),
    }
}
