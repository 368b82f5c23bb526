//! The figures that are measured, and their limits, references and targets.

/// The source of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Group {
    /// The program bench on one VP.
    OneVp,
    /// The program bench on one VP with a network card.
    Network,
    /// The program bench-drivers: what requests take in the guest.
    Drivers,
    /// The same of Linux's drivers.
    LinuxDrivers,
    /// The program bench on eight VPs.
    ManyVps,
    /// The hypervisor's ELF file and its report.
    Memory,
    /// Linux with and without the hypervisor, in virtual time.
    VirtualBoot,
    /// The same by the host's clock.
    WallBoot,
    /// The same with 64 GiB of RAM.
    LargeBoot,
}

impl Group {
    /// Returns true for figures of operations that a program repeats.
    pub(super) fn repeats(self) -> bool {
        matches!(self, Self::OneVp | Self::Network | Self::ManyVps)
    }
}

/// A row of the table.
#[derive(Debug)]
pub(super) struct Line {
    /// Its name for programs and files.
    pub(super) name: &'static str,
    /// Its title for users.
    pub(super) title: &'static str,
    pub(super) group: Group,
    pub(super) unit: &'static str,
    /// Lower bound for any host that does the same work for the guest.
    pub(super) limit: Option<f64>,
    /// KVM's figures on the same emulated machine, best and worst of Linux 6.1 and 6.12, with VHE and without.
    pub(super) kvm: Option<[f64; 2]>,
    /// The maximum wanted.
    pub(super) target: Option<f64>,
}

/// KVM: a hypercall that the kernel handles.
const KVM_CALL: [f64; 2] = [1050.0, 1699.0];
/// KVM: a read of GICD_TYPER.
const KVM_GICD: [f64; 2] = [1793.0, 2414.0];
/// KVM: a trapped system register, without its effect.
const KVM_SYSREG: [f64; 2] = [1415.0, 2014.0];
/// KVM: the virtual timer's interrupt, from the exit to the end of interrupt.
const KVM_TIMER: [f64; 2] = [2446.0, 3013.0];
/// KVM: the boot of the 6.12 kernel, host kernels 6.1 and 6.12.
const KVM_BOOT: [f64; 2] = [1.026, 1.415];
/// `hvc`, 31 registers saved and restored, a dispatcher in C, `eret`.
const BARE_CALL: f64 = 60.0;

const fn line(name: &'static str, title: &'static str, group: Group, unit: &'static str) -> Line {
    Line { name, title, group, unit, limit: None, kvm: None, target: None }
}

/// Defines an operation on one VP.
const fn one(name: &'static str, title: &'static str) -> Line {
    line(name, title, Group::OneVp, "insn")
}

/// Defines an operation between VPs.
const fn many(name: &'static str, title: &'static str) -> Line {
    line(name, title, Group::ManyVps, "insn")
}

/// Defines a request through the guest's own drivers.
const fn drivers(name: &'static str, title: &'static str) -> Line {
    line(name, title, Group::Drivers, "insn")
}

/// Defines the same through Linux's.
const fn linux(name: &'static str, title: &'static str) -> Line {
    line(name, title, Group::LinuxDrivers, "insn")
}

impl Line {
    const fn limit(self, limit: f64) -> Self {
        Self { limit: Some(limit), ..self }
    }

    const fn kvm(self, kvm: [f64; 2]) -> Self {
        Self { kvm: Some(kvm), ..self }
    }

    const fn target(self, target: f64) -> Self {
        Self { target: Some(target), ..self }
    }
}

/// Finds the row with a name.
pub(super) fn find(name: &str) -> Option<&'static Line> {
    LINES.iter().find(|line| line.name == name)
}

/// All rows, in the order of the table.
pub(super) const LINES: &[Line] = &[
    one("fast-get-smccc", "fast get of the VP index, hvc #0").limit(BARE_CALL).kvm(KVM_CALL).target(110.0),
    one("fast-get-hvc1", "fast get of the VP index, hvc #1").limit(BARE_CALL).kvm(KVM_CALL).target(110.0),
    one("fast-set-smccc", "fast set of a crash parameter, hvc #0").limit(BARE_CALL).target(150.0),
    one("fast-set-hvc1", "fast set of a crash parameter, hvc #1").limit(BARE_CALL).target(150.0),
    one("psci-version", "PSCI_VERSION").limit(BARE_CALL).kvm(KVM_CALL),
    one("smccc-version", "SMCCC_VERSION").limit(BARE_CALL).kvm(KVM_CALL),
    one("signal-nothing", "signal event to no connection").limit(BARE_CALL),
    one("fast-get-routine-smccc", "fast get by hv-guest, hvc #0").limit(BARE_CALL),
    one("fast-get-routine-hvc1", "fast get by hv-guest, hvc #1").limit(BARE_CALL),
    one("memory-call", "hypercall with its input in memory").limit(BARE_CALL).target(220.0),
    one("get-100", "get of 100 registers in one call").target(4500.0),
    one("flush-3", "TLB flush of 3 pages in one call"),
    one("flush-477", "TLB flush of 477 pages in one call"),
    one("clock-page", "clock by the reference TSC page"),
    one("clock-register", "clock by register").limit(BARE_CALL),
    one("clock-counter", "the counter itself"),
    one("gicd-read", "trapped distributor read").kvm(KVM_GICD),
    one("gicd-write", "trapped distributor write").target(350.0),
    one("timer-interrupt", "virtual timer interrupt: exit, inject, ack, EOI").kvm(KVM_TIMER).target(600.0),
    one("timer-latency", "virtual timer: expiry to acknowledge, asleep"),
    one("sgi-self", "SGI to itself: send, ack, EOI").kvm(KVM_SYSREG),
    one("ipi-self-hypercall", "the same by hypercall"),
    one("ipi-to-none", "IPI by hypercall to no VP"),
    one("stimer-direct", "direct synthetic timer: set, ack, EOI").target(380.0),
    one("stimer-latency", "direct synthetic timer: expiry to acknowledge, asleep"),
    one("timer-message", "timer message: set, ack, EOI, EOM"),
    one("eom", "EOM alone").limit(BARE_CALL),
    one("post-message", "post message to itself, ack, EOI, EOM").target(1000.0),
    one("vmbus-contact", "VMBus contact: post, answer, ack, EOI, EOM"),
    one("signal-event", "signal event to itself, ack, EOI, flag").target(420.0),
    one("disk-read", "read of 4 KiB of a disk: signal to completion"),
    one("disk-read-512", "the same of 512 bytes"),
    one("disk-read-bare", "the same of 4 KiB, without the copy").target(2500.0),
    line("net-frame", "frame of 60 bytes: signal to completion", Group::Network, "insn").target(2000.0),
    line("net-frame-1514", "the same of 1514 bytes", Group::Network, "insn"),
    line("net-frame-received", "frame of 64 bytes received: until it is in the ring", Group::Network, "insn")
        .target(2000.0),
    drivers("driver-read", "read of 4 KiB, in the guest: hv-drivers").target(1500.0),
    linux("driver-read-linux", "the same: Linux 6.12, from the system call"),
    drivers("driver-send", "frame of 60 bytes sent, in the guest: hv-drivers").target(800.0),
    drivers("driver-send-1514", "the same of 1514 bytes"),
    linux("driver-send-linux", "that of 60: Linux 6.12, from the system call"),
    drivers("driver-receive", "frame of 60 bytes received, in the guest: hv-drivers").target(800.0),
    linux("driver-receive-linux", "the same: Linux 6.12, to the system call"),
    many("vp-start", "VP start: CPU_ON to its first instruction").target(2000.0),
    many("sgi-1", "SGI to 1 other VP, until it has ended it"),
    many("sgi-8", "SGI to all 8 VPs by list"),
    many("sgi-all-others", "SGI to all 7 others by IRM"),
    many("ipi-1", "IPI by hypercall to 1 other VP").target(500.0),
    many("ipi-8", "IPI by hypercall to all 8 VPs").target(1500.0),
    line("image", "hypervisor image", Group::Memory, "KiB").target(256.0),
    line("memory-1", "hypervisor memory, 1 VP", Group::Memory, "KiB"),
    line("memory", "hypervisor memory, 8 VPs", Group::Memory, "KiB").target(4096.0),
    line("memory-64", "hypervisor memory, 64 VPs", Group::Memory, "KiB"),
    line("memory-120", "hypervisor memory, 120 VPs", Group::Memory, "KiB"),
    line("boot-virtual", "boot of 6.12 to /init against no hypervisor", Group::VirtualBoot, "times")
        .limit(1.0)
        .kvm(KVM_BOOT)
        .target(1.02),
    line("boot-virtual-ms", "the same boot in virtual time", Group::VirtualBoot, "ms"),
    line("boot-virtual-direct-ms", "without the hypervisor", Group::VirtualBoot, "ms"),
    line("boot-wall", "boot of 6.12 to /init by the host's clock", Group::WallBoot, "times")
        .limit(1.0)
        .target(1.1),
    line(
        "boot-wall-observed",
        "the same with --strict and --trace, against without",
        Group::WallBoot,
        "times",
    )
    .limit(1.0)
    .target(1.1),
    line("boot-wall-ms", "the same boot by the host's clock", Group::WallBoot, "ms"),
    line("boot-wall-direct-ms", "without the hypervisor", Group::WallBoot, "ms"),
    line("boot-large", "boot with 64 GiB of RAM by the host's clock", Group::LargeBoot, "times")
        .limit(1.0)
        .target(1.05),
    line("boot-processor", "processor time of QEMU for that boot", Group::WallBoot, "times").limit(1.0),
    line("boot-processor-ms", "the same in milliseconds", Group::WallBoot, "ms"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        for line in LINES {
            assert_eq!(LINES.iter().filter(|other| other.name == line.name).count(), 1, "{}", line.name);
        }
    }

    #[test]
    fn no_target_asks_for_more_than_is_possible() {
        for line in LINES {
            if let (Some(limit), Some(target)) = (line.limit, line.target) {
                assert!(limit <= target, "{}", line.name);
            }
        }
    }
}
