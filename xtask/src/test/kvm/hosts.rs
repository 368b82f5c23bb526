//! Hosts unlike the usual one: those that are refused, and why; those with larger pages, with pKVM, and with more VPs
//! than processors.

use hv_setup::stock::Stock;

use super::conformance;
use super::{Computer, USUAL, expect, host, host_on, runs, tool};
use crate::test::context::Context;
use crate::test::runner::Step;

/// Returns the scenarios.
pub(super) fn steps() -> [Step; 6] {
    [
        Step::new("kvm/hosts/6.1/refused", old_kernel),
        Step::new("kvm/hosts/gicv2", old_gic),
        Step::new("kvm/hosts/permission", permission),
        Step::new("kvm/hosts/16k/guests", pages_16k),
        Step::new("kvm/hosts/protected", protected),
        Step::new("kvm/hosts/16-vps", many_vps),
    ]
    .map(Step::slow)
}

/// Checks that the tool says why a host is refused, and goes on with QEMU where KVM was not asked for: there is none.
fn refused(context: &Context, computer: &Computer<'_>, reason: &str) -> anyhow::Result<()> {
    let script = "boot='/hv boot --kernel /Image --initrd /initrd'
run /hv doctor
run $boot --accel kvm
run $boot
";
    let console = host_on(context, computer, script, (&tool::programs()?, &[]))?;
    let [doctor, asked, chosen] = runs(&console)?;
    let [no, error] = [format!("KVM                no       {reason}"), format!("--accel kvm: {reason}")];
    let note = format!("QEMU emulates the guest, which takes longer than KVM: {reason}");
    expect(&[
        (doctor, &[&no, "QEMU               missing"]),
        (asked, &[&error, "host: status 2"]),
        (chosen, &[&note, "QEMU for Arm machines", "host: status 2"]),
    ])
}

/// Checks a kernel without the filter of calls.
fn old_kernel(context: &Context) -> anyhow::Result<()> {
    let reason = "this kernel's KVM has no SMCCC filter: expected Linux 6.4 or later; boot a newer kernel";
    refused(context, &Computer { kernel: Stock::Cloud61, ..USUAL }, reason)
}

/// Checks a machine whose interrupt controller is too old.
fn old_gic(context: &Context) -> anyhow::Result<()> {
    let machine = "virt,virtualization=on,gic-version=2";
    refused(context, &Computer { machine, ..USUAL }, "KVM cannot give a guest a GICv3 (No such device")
}

/// Checks a user who may not open the device, and one who may.
fn permission(context: &Context) -> anyhow::Result<()> {
    let script = "mkdir /etc
echo 'other:x:1000:1000::/home:/bin/sh' >/etc/passwd
chmod 777 /cache /home /tmp
other() { run start-stop-daemon -S -c 1000:1000 -x /hv -- \"$@\"; }
boot='boot --accel kvm --kernel /Image --initrd /initrd'
other doctor
other $boot
chmod 666 /dev/kvm
other $boot
";
    let console = host_on(context, &USUAL, script, (&tool::programs()?, &[]))?;
    let [doctor, without, with] = runs(&console)?;
    let reason = "cannot open /dev/kvm: Permission denied";
    expect(&[
        (doctor, &[&format!("KVM                no       {reason}")]),
        (without, &[&format!("--accel kvm: {reason}"), "(the group kvm)", "host: status 2"]),
        (with, &["machine      over KVM", "Vmbus version:5.3", "host: status 0"]),
    ])
}

/// Checks that a host with 16K pages runs guests with 4K pages, whose memory is in units of those.
fn pages_16k(context: &Context) -> anyhow::Result<()> {
    let computer = Computer { kernel: Stock::Pages16k, cpu: "cortex-a76", ..USUAL };
    let script = "run /hv doctor
run /hv boot --kernel /Image --initrd /initrd --vps 2 --strict
";
    let console = host_on(context, &computer, script, (&tool::programs()?, &[]))?;
    let [doctor, booted] = runs(&console)?;
    expect(&[
        (doctor, &["KVM                ok"]),
        (
            booted,
            &["over KVM", "Vmbus version:5.3", "hv: connected", "checked, none broken", "host: status 0"],
        ),
    ])?;
    conformance::conforms(context, &computer, ("2", "4k"))
}

/// Checks that a guest whose memory the host may read runs where pKVM guards the others.
fn protected(context: &Context) -> anyhow::Result<()> {
    let computer = Computer { parameters: "kvm-arm.mode=protected", ..USUAL };
    let script = "dmesg | grep 'kvm.*[Pp]rotected'
run /hv doctor
run /hv boot --kernel /Image --initrd /initrd --vps 2 --strict
";
    let console = host_on(context, &computer, script, (&tool::programs()?, &[]))?;
    let [doctor, booted] = runs(&console)?;
    expect(&[
        (&console, &["Protected nVHE mode initialized successfully"]),
        (doctor, &["KVM                ok"]),
        (
            booted,
            &["over KVM", "Vmbus version:5.3", "hv: connected", "checked, none broken", "host: status 0"],
        ),
    ])
}

/// Checks that a guest has 16 VPs on two processors.
fn many_vps(context: &Context) -> anyhow::Result<()> {
    let script = "run /hv boot --kernel /Image --initrd /initrd --vps 16 --strict\n";
    let console = host(context, script, &tool::programs()?)?;
    let [booted] = runs(&console)?;
    expect(&[(
        booted,
        &[
            "Brought up 1 node, 16 CPUs",
            "Vmbus version:5.3",
            "hv: connected",
            "checked, none broken",
            "host: status 0",
        ],
    )])
}
