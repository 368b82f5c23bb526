//! Boots a Linux kernel in a Hyper-V partition over KVM, saves the machine, and goes on with it in another process.
//!
//! `save FOLDER KERNEL INITRD VPS MARK` boots, stops the machine when its console has the line MARK, and saves it in
//! the folder; `save FOLDER VPS WORD` restores it, types the word on its console, and runs it until it powers off.

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
    use std::path::Path;
    use std::sync::Mutex;
    use std::sync::mpsc::{Sender, channel};
    use std::thread;

    use hv_kvm::vm_memory::{FileOffset, GuestAddress, GuestMemoryMmap};
    use hv_kvm::{KvmVm, Layout, Machine, Observer, RunOutcome};
    use hv_machine::{RNG_SEED_LEN, Spec};
    use hv_partition::{BusObserver, DeviceId, HostBackend, Never, Pages, Started, Token, VpContext};

    use crate::virt::{self, PLATFORM};

    type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

    const MEMORY: u64 = 256 << 20;

    pub(super) fn main() -> Result<()> {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        match &*arguments {
            [folder, kernel, initrd, vps, mark] => {
                save(folder.as_ref(), (kernel.as_ref(), initrd.as_ref()), vps.parse()?, mark)
            }
            [folder, vps, word] => go_on(folder.as_ref(), vps.parse()?, word),
            _ => Err("usage: save FOLDER KERNEL INITRD VPS MARK, or save FOLDER VPS WORD".into()),
        }
    }

    fn save(folder: &Path, (kernel, initrd): (&Path, &Path), vps: u32, mark: &str) -> Result<()> {
        let mut rng_seed = [0; RNG_SEED_LEN];
        File::open("/dev/urandom")?.read_exact(&mut rng_seed)?;
        let image = hv_machine::build(
            Spec::new(&PLATFORM, read(kernel)?, rng_seed)
                .with_initrd(Some(read(initrd)?))
                .with_append("quiet".to_owned())
                .with_memory(MEMORY)
                .with_vps(vps),
        )?;
        let ram =
            File::options().read(true).write(true).create(true).truncate(true).open(folder.join("ram"))?;
        ram.set_len(MEMORY)?;
        let memory = memory(ram)?;
        virt::load(&image, &memory)?;
        let (end, marks) = channel();
        let console = Console { mark: mark.to_owned(), line: Mutex::default(), marks: Some(end.clone()) };
        let machine = Machine::new(KvmVm::create(memory, vps as usize, Layout::VIRT)?, console)?;
        let mut file = File::create(folder.join("state"))?;
        hv_kvm::enter_sandbox(&[])?;
        let mut state = Vec::new();
        virt::with_partition(&machine, vps, &[], |partition| {
            let machine = &machine;
            let outcome = thread::scope(|scope| {
                scope.spawn(move || marks.recv().map(|()| machine.stop()));
                let outcome = machine.run(partition, &VpContext::at(image.entry, image.x0));
                // The guest may have ended without the line.
                let _ = end.send(());
                outcome
            });
            match outcome {
                RunOutcome::Stopped => {
                    machine.save(machine.embedder(), partition, &mut |part| state.extend_from_slice(part))
                }
                outcome => panic!("the guest ended with {outcome:?}"),
            }
        })?;
        file.write_all(&state)?;
        println!("\nsaved: {} bytes", state.len());
        Ok(())
    }

    fn go_on(folder: &Path, vps: u32, word: &str) -> Result<()> {
        let memory = memory(File::options().read(true).write(true).open(folder.join("ram"))?)?;
        let state = read(folder.join("state"))?;
        let console = Console { mark: String::new(), line: Mutex::default(), marks: None };
        let machine = Machine::new(KvmVm::create(memory, vps as usize, Layout::VIRT)?, console)?;
        let outcome = virt::with_partition(&machine, vps, &[], |partition| {
            machine.restore(machine.embedder(), partition, &state)?;
            machine.input(format!("{word}\n").as_bytes());
            hv_kvm::enter_sandbox(&[])?;
            Ok::<_, Box<dyn std::error::Error>>(machine.resume(partition))
        });
        virt::powered_off(outcome?)
    }

    /// Maps guest memory from a file, which keeps it.
    fn memory(ram: File) -> Result<GuestMemoryMmap> {
        let ram = Some(FileOffset::new(ram, 0));
        Ok(GuestMemoryMmap::from_ranges_with_files(&[(
            GuestAddress(PLATFORM.ram_base),
            MEMORY as usize,
            ram,
        )])?)
    }

    /// Shows the console, and tells when it has had a line.
    struct Console {
        mark: String,
        line: Mutex<Vec<u8>>,
        marks: Option<Sender<()>>,
    }

    impl Observer for Console {
        fn console(&self, byte: u8) {
            let _ = std::io::stdout().lock().write_all(&[byte]);
            let mut line = self.line.lock().expect("no panic with the lock held");
            match (byte, &self.marks) {
                (b'\n', Some(marks)) => {
                    if line.trim_ascii() == self.mark.as_bytes() {
                        let _ = marks.send(());
                    }
                    line.clear();
                }
                // A line that is longer than the mark is not it.
                _ if line.len() <= self.mark.len() + 1 => line.push(byte),
                _ => {}
            }
        }
    }

    impl BusObserver for Console {}

    impl HostBackend<Never> for Console {
        fn start(&self, _: DeviceId, _: Token, request: &Never, _: Pages<'_>) -> Started<Never> {
            match *request {}
        }
    }
}
