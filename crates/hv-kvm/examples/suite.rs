//! Runs the conformance suite's guest in a Hyper-V partition over KVM: `suite GUEST VPS [COMMAND LINE]`.
//!
//! The guest is `bare/guest`, or another that links `hv-conformance`. It writes the results to its console, which goes
//! to standard output. The connections that `conformance.loopback=1` is about exist. Exit status 0: the guest powered
//! off.

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
    use hv_machine::{Firmware, RNG_SEED_LEN, Spec};
    use hv_partition::{Port, loopback};

    use crate::virt::{self, Console, PLATFORM};

    const MEMORY: u64 = 64 << 20;

    /// Connections that lead back to the guest.
    static PORTS: [Port; 8] = loopback::ports();

    pub(super) fn main() -> Result<(), Box<dyn std::error::Error>> {
        let arguments: Vec<String> = std::env::args().collect();
        let [_, guest, vps, append @ ..] = &*arguments else {
            return Err("usage: suite GUEST VPS [COMMAND LINE]".into());
        };
        let vps: u32 = vps.parse()?;
        let image = hv_machine::build(
            Spec::new(&PLATFORM, std::fs::read(guest)?, [7; RNG_SEED_LEN])
                .with_append(append.join(" "))
                .with_memory(MEMORY)
                .with_vps(vps)
                .with_firmware(Firmware::DeviceTree),
        )?;
        virt::run(&image, (MEMORY, vps), &PORTS, Console { tells: false })
    }
}
