//! The tool on an ARM64 host with Debian's QEMU there: the guest's machine is emulated by a program on an emulated one.

use hv_setup::{programs as bare, target};

use super::{Program, USUAL, built, expect, guest, host_on, runs};
use crate::test::context::{Context, read};
use crate::test::packages;

/// The program, in its package.
const QEMU: &str = "usr/bin/qemu-system-aarch64";

/// Checks that the tool finds QEMU on such a host, and boots the hypervisor at EL2 there: with a guest of ours, and
/// with a stock kernel.
pub(super) fn boot(context: &Context) -> anyhow::Result<()> {
    let files: Vec<_> = packages::unpacked(context, &["qemu-system-arm"], &[QEMU])?.into_iter().collect();
    let toolchain = target::prepare()?;
    let built_bare = |name: &'static str| -> anyhow::Result<Program> {
        Ok(Program { name, content: read(&bare::build(&toolchain, name)?)? })
    };
    let [image, initrd] = guest()?;
    let programs = [
        Program { name: "hv", content: built("hv-cli", &["--no-default-features", "--bin", "hv"])? },
        built_bare("hypervisor")?,
        built_bare("hello")?,
        image,
        initrd,
    ];
    let script = "export PATH=/bin:/usr/bin
boot='/hv boot --accel tcg --hypervisor /hypervisor --memory 256M --vps 1 --timeout 900'
run /hv doctor
run $boot --kernel /hello --firmware dt
run $boot --kernel /Image --initrd /initrd --strict
";
    let console = host_on(context, &USUAL, script, (&programs, &files))?;
    let [doctor, ours, stock] = runs(&console)?;
    expect(&[
        (doctor, &["QEMU               ok       /usr/bin/qemu-system-aarch64"]),
        // It ends with a crash on purpose.
        (ours, &["hello: a message came: VMBus 5.3", "| deliberate", "host: status 3"]),
        (stock, &["Vmbus version:5.3", "hv: connected", "checked, none broken", "host: status 0"]),
    ])
}
