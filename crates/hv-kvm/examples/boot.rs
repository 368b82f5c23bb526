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
    use std::io::Read as _;

    use hv_machine::{RNG_SEED_LEN, Spec};

    use crate::virt::{self, Console, PLATFORM};

    const MEMORY: u64 = 256 << 20;

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
        virt::run(&image, (MEMORY, vps), &[], Console { tells: true })
    }
}
