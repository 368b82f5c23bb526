//! Boots a Linux kernel in a Hyper-V partition over KVM: `boot KERNEL INITRD VPS [COMMAND LINE]`.
//!
//! The kernel's console goes to standard output. Exit status 0: the guest powered off.

#[cfg(not(all(target_os = "linux", target_arch = "aarch64")))]
fn main() {
    eprintln!("this example runs on Linux on ARM64 alone");
}

#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    kvm::main()
}

#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
mod virt;

#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
mod kvm {
    use std::fs::{File, read};
    use std::io::{Read as _, Write as _};

    use hv_kvm::vm_memory::{Bytes as _, GuestAddress, GuestMemoryMmap};
    use hv_kvm::{KvmVm, Layout, Machine, Observer, RunOutcome, Vm as _};
    use hv_machine::{RNG_SEED_LEN, Spec};
    use hv_partition::{
        Bus, BusEvent, BusObserver, Config, DeviceId, Event, HostBackend, Never, Pages, Partition, Started,
        Token, Vp, VpContext,
    };

    use crate::virt::PLATFORM;

    const MEMORY: u64 = 256 << 20;

    /// Observer that shows the console, the state of VMBus, and a crash.
    struct Console;

    impl Observer for Console {
        fn console(&self, byte: u8) {
            let _ = std::io::stdout().lock().write_all(&[byte]);
        }

        fn observe(&self, event: &Event<'_>) {
            if let Event::Crash { parameters, text, .. } = event {
                // The guest's text is data: each line of it escaped.
                let text = String::from_utf8_lossy(text);
                let last = text.lines().find(|line| line.contains("panic")).unwrap_or_default();
                eprintln!("crash: {parameters:x?}, {} bytes of text, with {last:?}", text.len());
            }
        }
    }

    impl BusObserver for Console {
        fn observe_bus(&self, event: &BusEvent<'_>) {
            if let BusEvent::Server(event) = event {
                eprintln!("vmbus: {event:?}");
            }
        }
    }

    impl HostBackend<Never> for Console {
        fn start(&self, _: DeviceId, _: Token, request: &Never, _: Pages<'_>) -> Started<Never> {
            match *request {}
        }
    }

    pub(super) fn main() -> Result<(), Box<dyn std::error::Error>> {
        let arguments: Vec<String> = std::env::args().collect();
        let [_, kernel, initrd, vps, append @ ..] = &*arguments else {
            return Err("usage: boot KERNEL INITRD VPS [COMMAND LINE]".into());
        };
        let vps: u32 = vps.parse()?;
        let mut rng_seed = [0; RNG_SEED_LEN];
        File::open("/dev/urandom")?.read_exact(&mut rng_seed)?;
        let image = hv_machine::build(
            Spec::new(&PLATFORM, read(kernel)?, rng_seed)
                .with_initrd(Some(read(initrd)?))
                .with_append(append.join(" "))
                .with_memory(MEMORY)
                .with_vps(vps),
        )?;
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(PLATFORM.ram_base), MEMORY as usize)])?;
        for (address, bytes) in &image.segments {
            memory.write_slice(bytes, GuestAddress(*address))?;
        }
        let machine = Machine::new(KvmVm::create(memory, vps as usize, Layout::VIRT)?, Console)?;
        let config = Config::new(machine.vm().counter_frequency());
        let states: Vec<Vp<parking_lot::RawMutex>> = (0..vps).map(|_| Vp::new()).collect();
        let bus: Bus<parking_lot::RawMutex> = Bus::new(config.vmbus);
        let partition = Partition::new(config.hypervisor, &states, &[], &bus);
        hv_kvm::enter_sandbox(&[])?;
        match machine.run(&partition, &VpContext::at(image.entry, image.x0)) {
            RunOutcome::PowerOff => Ok(()),
            outcome => Err(format!("the guest ended with {outcome:?}").into()),
        }
    }
}
