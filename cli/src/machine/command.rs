//! QEMU's command line.

use std::ffi::OsString;

use super::{DIRECT_START, Settings};

/// The arguments for a machine whose RAM of `size` bytes is the file `ram`.
///
/// Nothing that a guest could reach is added to what `virt` has by itself: no network, no disk, and never
/// semihosting, which would give a guest the host's files.
pub(crate) fn arguments(settings: &Settings, ram: &str, size: u64) -> Vec<OsString> {
    let mut line: Vec<OsString> = Vec::new();
    let mut add = |words: &[&str]| line.extend(words.iter().map(OsString::from));
    add(&["-nodefaults", "-no-user-config", "-nic", "none", "-display", "none", "-monitor", "none"]);
    let el2 = if settings.hypervisor.is_some() { "on" } else { "off" };
    add(&["-machine", &format!("virt,virtualization={el2},gic-version=3,memory-backend=ram")]);
    add(&["-object", &format!("memory-backend-file,id=ram,size={size},mem-path={ram},share=on")]);
    add(&["-m", &format!("{}M", size >> 20)]);
    add(&["-cpu", &cpu(&settings.cpu)]);
    add(&["-smp", &settings.vps.to_string()]);
    add(&["-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"]);
    // A guest that asks for a reset gets its wish from the hypervisor; QEMU itself never starts over.
    add(&["-no-reboot"]);
    if settings.deterministic {
        add(&["-icount", "shift=0,sleep=off", "-seed", "1"]);
        add(&["-rtc", "base=2026-01-01T00:00:00,clock=vm"]);
    }
    if let Some(port) = settings.gdb {
        add(&["-gdb", &format!("tcp:127.0.0.1:{port}"), "-S"]);
    }
    match &settings.hypervisor {
        Some(file) => line.extend(["-kernel".into(), file.clone().into_os_string()]),
        None => add(&["-device", &format!("loader,addr={DIRECT_START:#x},cpu-num=0")]),
    }
    line
}

/// The CPU's name and options. QEMU's default for pointer authentication on `max` is an algorithm that takes a
/// software CPU many times longer than everything else together.
fn cpu(name: &str) -> String {
    let is_max = name == "max" || name.starts_with("max,");
    if is_max && !name.contains("pauth") { format!("{name},pauth-impdef=on") } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn settings() -> Settings {
        Settings {
            qemu: PathBuf::from("qemu"),
            hypervisor: Some(PathBuf::from("/x/hypervisor")),
            cpu: "cortex-a72".into(),
            vps: 2,
            deterministic: false,
            gdb: None,
            timeout: None,
        }
    }

    fn text(settings: &Settings) -> String {
        let words = arguments(settings, "/proc/self/fd/9", 516 << 20);
        words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_machine_has_exactly_what_it_was_given() {
        assert_eq!(
            text(&settings()),
            "-nodefaults -no-user-config -nic none -display none -monitor none \
             -machine virt,virtualization=on,gic-version=3,memory-backend=ram \
             -object memory-backend-file,id=ram,size=541065216,mem-path=/proc/self/fd/9,share=on -m 516M \
             -cpu cortex-a72 -smp 2 -chardev stdio,id=console,signal=off -serial chardev:console -no-reboot \
             -kernel /x/hypervisor"
        );
    }

    #[test]
    fn a_deterministic_machine_has_no_clock_but_its_instructions() {
        let line = text(&Settings { deterministic: true, ..settings() });
        for part in
            ["-icount shift=0,sleep=off", "-seed 1", "-rtc base=2026-01-01T00:00:00,clock=vm", "-smp 2"]
        {
            assert!(line.contains(part), "{part}");
        }
    }

    #[test]
    fn a_machine_without_a_hypervisor_differs_in_nothing_else() {
        let direct = text(&Settings { hypervisor: None, ..settings() });
        let line = text(&settings()).replace("virtualization=on", "virtualization=off");
        assert_eq!(direct, line.replace("-kernel /x/hypervisor", "-device loader,addr=0x40300000,cpu-num=0"));
    }

    #[test]
    fn a_guest_never_gets_semihosting() {
        let every = Settings { deterministic: true, gdb: Some(1234), ..settings() };
        assert!(!text(&every).contains("semihosting"));
    }

    #[test]
    fn max_gets_a_cheap_pointer_authentication_unless_told_otherwise() {
        assert_eq!(cpu("max"), "max,pauth-impdef=on");
        assert_eq!(cpu("max,sve=off"), "max,sve=off,pauth-impdef=on");
        assert_eq!(cpu("max,pauth=off"), "max,pauth=off");
        assert_eq!(cpu("neoverse-n1"), "neoverse-n1");
    }

    #[test]
    fn a_debugger_is_served_on_this_host_only() {
        assert!(text(&Settings { gdb: Some(1234), ..settings() }).contains("-gdb tcp:127.0.0.1:1234 -S"));
    }
}
