//! QEMU's command line.

use std::ffi::OsString;

use super::{Backing, DIRECT_START, Emulator, Layout, Settings};
use crate::net::{Back, Forward, MAC, Network};
use crate::setup::qemu::SANDBOX;

/// The differences between the command line that QEMU gets and the one shown to users: files that QEMU inherits.
pub(crate) struct Files<'a> {
    /// Paths of the files of the machine's RAM.
    pub(crate) ram: &'a [String],
    /// Paths of [`Settings::backings`].
    pub(crate) backings: &'a [String],
    /// Descriptor of the control port's other end, which QEMU inherits.
    pub(crate) control: Option<&'a str>,
    /// The same of the sockets' port.
    pub(crate) sockets: Option<&'a str>,
    /// Descriptor of passt's other end, which QEMU inherits.
    pub(crate) passt: Option<&'a str>,
    /// Path of the pipe that QEMU writes the network's frames to.
    pub(crate) capture: Option<&'a str>,
    /// Where QEMU waits for a debugger, in QEMU's notation.
    pub(crate) gdb: Option<&'a str>,
    /// Descriptor of the monitor's other end, which QEMU inherits.
    pub(crate) monitor: Option<&'a str>,
    /// The machine is one that was saved: QEMU waits for it.
    pub(crate) incoming: bool,
}

/// Returns the arguments for a machine with this RAM.
///
/// Nothing that a guest could reach is added to what `virt` has by itself: no disk of QEMU's, and never semihosting,
/// which would give a guest the host's files. A network card of QEMU's is the hypervisor's.
pub(crate) fn arguments(
    settings: &Settings,
    emulator: &Emulator,
    files: &Files<'_>,
    layout: Layout,
) -> Vec<OsString> {
    let mut line: Vec<OsString> = Vec::new();
    let mut add = |words: &[&str]| line.extend(words.iter().map(OsString::from));
    if emulator.qemu.sandbox {
        add(&["-sandbox", SANDBOX]);
    }
    add(&["-nodefaults", "-no-user-config", "-nic", "none", "-display", "none", "-monitor", "none"]);
    let el2 = if emulator.hypervisor.is_some() { "on" } else { "off" };
    let memory = memory(settings, files, layout);
    // With more than one file of memory, each is that of a node. The nodes' memory is one piece, in their order.
    let whole = if memory.len() == 1 { ",memory-backend=ram" } else { "" };
    // What the monitor saves has no description of itself, nor of QEMU's configuration (`qmp.rs`).
    let plain = if settings.monitor { ",suppress-vmdesc=on" } else { "" };
    add(&["-machine", &format!("virt,virtualization={el2},gic-version=3{whole}{plain}")]);
    if settings.monitor {
        add(&["-global", "migration.send-configuration=off"]);
    }
    let size: u64 = memory.iter().map(|file| file.size).sum();
    if memory.len() == 1 {
        add(&["-m", &format!("{}M", size >> 20)]);
    } else {
        add(&["-m", &format!("{}K", size >> 10)]);
    }
    for (n, file) in memory.iter().enumerate() {
        add(&["-object", &file.object()]);
        if memory.len() != 1 {
            let cpus =
                if n == 0 { format!(",cpus=0-{}", settings.vps.saturating_sub(1)) } else { String::new() };
            add(&["-numa", &format!("node,memdev={}{cpus}", file.name)]);
        }
    }
    add(&["-cpu", &cpu(&emulator.cpu)]);
    add(&["-smp", &settings.vps.to_string()]);
    add(&["-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"]);
    // The hypervisor handles a guest's reset request; QEMU itself never resets the machine.
    add(&["-no-reboot"]);
    if settings.deterministic {
        add(&["-icount", "shift=0,sleep=off", "-seed", "1"]);
        add(&["-rtc", "base=2026-01-01T00:00:00,clock=vm"]);
    }
    // In this order: the hypervisor tells them apart by their places.
    let ports = [("control", files.control), ("sockets", files.sockets)];
    if settings.network.is_some() || ports.iter().any(|(_, descriptor)| descriptor.is_some()) {
        add(&["-global", "virtio-mmio.force-legacy=false"]);
    }
    if let Some(network) = &settings.network {
        network_card(network, files, &mut add);
    }
    for (name, descriptor) in ports {
        let Some(descriptor) = descriptor else { continue };
        // One port each. QEMU keeps port 0 for a virtconsole, which loses what this program is too slow to take.
        add(&["-device", &format!("virtio-serial-device,id={name},max_ports=2")]);
        add(&["-chardev", &format!("socket,id={name},fd={descriptor}")]);
        add(&["-device", &format!("virtserialport,bus={name}.0,nr=1,chardev={name}")]);
    }
    if let Some(gdb) = files.gdb {
        add(&["-chardev", gdb, "-gdb", "chardev:gdb", "-S"]);
    }
    if let Some(descriptor) = files.monitor {
        add(&["-chardev", &format!("socket,id=monitor,fd={descriptor}")]);
        add(&["-mon", "chardev=monitor,mode=control"]);
    }
    if files.incoming {
        add(&["-incoming", "defer"]);
    }
    match &emulator.hypervisor {
        Some(file) => line.extend(["-kernel".into(), file.clone().into_os_string()]),
        None => add(&["-device", &format!("loader,addr={DIRECT_START:#x},cpu-num=0")]),
    }
    line
}

/// A file that is memory of the machine.
struct Memory<'f> {
    name: String,
    size: u64,
    path: &'f str,
    private: bool,
    read_only: bool,
}

impl Memory<'_> {
    /// Returns the description of the object that maps it.
    fn object(&self) -> String {
        let Self { name, size, path, .. } = self;
        // The host promises no memory for pages that may never be written.
        let share = if self.private { "share=off,reserve=off" } else { "share=on" };
        let readonly = if self.read_only { ",readonly=on" } else { "" };
        format!("memory-backend-file,id={name},size={size},mem-path={path},{share}{readonly}")
    }
}

/// Returns the files that are the machine's memory, in the order of their addresses: RAM's, and those behind it.
fn memory<'f>(settings: &Settings, files: &Files<'f>, layout: Layout) -> Vec<Memory<'f>> {
    let ram = layout.files().into_iter().zip(files.ram).map(|((name, size, private), path)| Memory {
        name: name.to_owned(),
        size,
        path,
        private,
        read_only: false,
    });
    let behind = settings.backings.iter().zip(files.backings).enumerate();
    let behind = behind.map(|(n, (&Backing { size, read_only, ref private, .. }, path))| Memory {
        name: format!("disk{n}"),
        size,
        path,
        private: private.is_some(),
        read_only,
    });
    ram.chain(behind).collect()
}

/// Returns the command line of a run, as a user would type it.
pub(crate) fn command_line(settings: &Settings, emulator: &Emulator, layout: Layout) -> String {
    let quote = |word: &std::ffi::OsStr| {
        let word = word.to_string_lossy();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./,=:+%@".contains(c);
        if word.chars().all(plain) { word.into_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
    };
    let gdb = settings.gdb.as_ref().map(|address| address.words("SOCKET"));
    let backings: Vec<String> = settings.backings.iter().map(|backing| backing.name.clone()).collect();
    let ram: Vec<String> = layout.files().iter().map(|_| "RAM".to_owned()).collect();
    let control = settings.control.then_some("CONTROL");
    let sockets = settings.sockets.then_some("SOCKETS");
    let network = settings.network.as_ref();
    let capture = network.and_then(|network| network.capture.as_ref()).map(|_| "CAPTURE");
    let passt = network.filter(|network| network.back == Back::Passt).map(|_| "PASST");
    let monitor = settings.monitor.then_some("MONITOR");
    let gdb = gdb.as_deref();
    let files = Files {
        ram: &ram,
        backings: &backings,
        control,
        sockets,
        passt,
        capture,
        gdb,
        monitor,
        incoming: false,
    };
    let mut line = quote(emulator.qemu.path.as_os_str());
    for word in arguments(settings, emulator, &files, layout) {
        line.push(' ');
        line.push_str(&quote(&word));
    }
    line
}

/// Adds the card, and what is behind it.
fn network_card(network: &Network, files: &Files<'_>, add: &mut dyn FnMut(&[&str])) {
    let net = match files.passt {
        Some(descriptor) => format!("stream,id=net,server=off,addr.type=fd,addr.str={descriptor}"),
        None => {
            let mut user = "user,id=net".to_owned();
            for Forward { address, host, guest } in &network.forwards {
                user.push_str(&format!(",hostfwd=tcp:{address}:{host}-:{guest}"));
            }
            user
        }
    };
    let mac = MAC.map(|byte| format!("{byte:02x}")).join(":");
    add(&["-netdev", &net, "-device", &format!("virtio-net-device,netdev=net,mac={mac}")]);
    if let Some(capture) = files.capture {
        add(&["-object", &format!("filter-dump,id=capture,netdev=net,file={capture}")]);
    }
}

/// Returns the CPU's name and options. QEMU's default algorithm for pointer authentication on `max` takes many times
/// longer in emulation than everything else together.
fn cpu(name: &str) -> String {
    let is_max = name == "max" || name.starts_with("max,");
    if is_max && !name.contains("pauth") { format!("{name},pauth-impdef=on") } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::machine::debugger::Address;
    use crate::setup::qemu::Qemu;

    fn emulator() -> Emulator {
        Emulator {
            qemu: Qemu { path: PathBuf::from("qemu"), version: "7.2.0".into(), sandbox: true },
            hypervisor: Some(PathBuf::from("/x/hypervisor")),
            cpu: "cortex-a72".into(),
        }
    }

    fn settings() -> Settings {
        Settings {
            emulator: Some(emulator()),
            vps: 2,
            backings: Vec::new(),
            deterministic: false,
            control: false,
            sockets: false,
            network: None,
            gdb: None,
            monitor: false,
            timeout: None,
            typing: crate::machine::Typing::Keys,
            silence: None,
        }
    }

    fn text(settings: &Settings) -> String {
        text_of(settings, Layout::Whole(516 << 20))
    }

    fn text_of(settings: &Settings, layout: Layout) -> String {
        let backings = ["/proc/self/fd/10".to_owned(), "/proc/self/fd/11".to_owned()];
        let ram: Vec<String> = layout.files().iter().map(|_| "/proc/self/fd/9".to_owned()).collect();
        let files = Files {
            ram: &ram,
            backings: &backings,
            control: settings.control.then_some("7"),
            sockets: settings.sockets.then_some("6"),
            passt: settings.network.as_ref().filter(|net| net.back == Back::Passt).map(|_| "3"),
            capture: settings
                .network
                .as_ref()
                .and_then(|net| net.capture.as_ref())
                .map(|_| "/proc/self/fd/5"),
            gdb: Some("socket,id=gdb,fd=8,server=on,wait=off"),
            monitor: settings.monitor.then_some("4"),
            incoming: false,
        };
        let files = Files { gdb: files.gdb.filter(|_| settings.gdb.is_some()), ..files };
        let words = arguments(settings, settings.emulator.as_ref().unwrap(), &files, layout);
        words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_machine_has_exactly_what_it_was_given() {
        assert_eq!(
            text(&settings()),
            "-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny \
             -nodefaults -no-user-config -nic none -display none -monitor none \
             -machine virt,virtualization=on,gic-version=3,memory-backend=ram \
             -m 516M -object memory-backend-file,id=ram,size=541065216,mem-path=/proc/self/fd/9,share=on \
             -cpu cortex-a72 -smp 2 -chardev stdio,id=console,signal=off -serial chardev:console -no-reboot \
             -kernel /x/hypervisor"
        );
    }

    #[test]
    fn files_behind_the_ram_are_nodes_of_their_own() {
        let backing = |size, read_only| {
            let file = std::sync::Arc::new(tempfile::tempfile().unwrap());
            crate::machine::Backing { file, name: String::new(), size, read_only, private: None }
        };
        let line =
            text(&Settings { backings: vec![backing(4096, false), backing(12288, true)], ..settings() });
        let private =
            crate::machine::Backing { private: Some(crate::machine::Own::default()), ..backing(4096, false) };
        let own = text(&Settings { backings: vec![private], ..settings() });
        assert!(own.contains("mem-path=/proc/self/fd/10,share=off,reserve=off -numa"), "{own}");
        assert!(!line.contains("memory-backend=ram"), "{line}");
        let behind = "-m 528400K -object memory-backend-file,id=ram,size=541065216,mem-path=/proc/self/fd/9,share=on \
                      -numa node,memdev=ram,cpus=0-1 \
                      -object memory-backend-file,id=disk0,size=4096,mem-path=/proc/self/fd/10,share=on \
                      -numa node,memdev=disk0 \
                      -object memory-backend-file,id=disk1,size=12288,mem-path=/proc/self/fd/11,share=on,readonly=on \
                      -numa node,memdev=disk1 -cpu";
        assert!(line.contains(behind), "{line}");
    }

    #[test]
    fn the_guests_ram_of_a_machine_that_was_saved_is_private_and_the_hypervisors_is_not() {
        let booted = text_of(&settings(), Layout::apart(521 << 20, 512 << 20));
        let object = |name, size: u64, share| {
            format!("memory-backend-file,id={name},size={size},mem-path=/proc/self/fd/9,share={share}")
        };
        for part in
            [("below", 4), ("ram", 512), ("behind", 5)].map(|(name, size)| object(name, size << 20, "on"))
        {
            assert!(booted.contains(&part), "{part}: {booted}");
        }
        let sizes = [4 << 20, 512 << 20, 5 << 20];
        let resumed = text_of(&settings(), Layout::Apart { sizes, private: true });
        let ram = object("ram", 512 << 20, "on");
        assert_eq!(resumed, booted.replace(&ram, &object("ram", 512 << 20, "off,reserve=off")));
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
        let direct = Some(Emulator { hypervisor: None, ..emulator() });
        let direct = text(&Settings { emulator: direct, ..settings() });
        let line = text(&settings()).replace("virtualization=on", "virtualization=off");
        assert_eq!(direct, line.replace("-kernel /x/hypervisor", "-device loader,addr=0x40300000,cpu-num=0"));
    }

    #[test]
    fn each_port_is_a_serial_device_of_its_own() {
        assert!(!text(&settings()).contains("virtio"));
        let line = text(&Settings { control: true, ..settings() });
        let all = "-global virtio-mmio.force-legacy=false";
        let port = |name: &str, descriptor| {
            format!(
                " -device virtio-serial-device,id={name},max_ports=2 -chardev socket,id={name},fd={descriptor} \
                 -device virtserialport,bus={name}.0,nr=1,chardev={name}"
            )
        };
        assert!(line.contains(&format!("{all}{} -kernel", port("control", 7))), "{line}");
        let line = text(&Settings { control: true, sockets: true, ..settings() });
        assert!(
            line.contains(&format!("{all}{}{} -kernel", port("control", 7), port("sockets", 6))),
            "{line}"
        );
        let line = text(&Settings { sockets: true, ..settings() });
        assert!(line.contains(&format!("{all}{} -kernel", port("sockets", 6))), "{line}");
    }

    #[test]
    fn a_network_is_the_users_with_a_card_for_the_hypervisor() {
        let network = Network {
            back: Back::User,
            forwards: vec![Forward { address: [127, 0, 0, 1].into(), host: 2222, guest: 22 }],
            capture: Some(std::sync::Arc::new(tempfile::tempfile().unwrap())),
        };
        let line = text(&Settings { network: Some(network.clone()), ..settings() });
        let card = "-global virtio-mmio.force-legacy=false \
                    -netdev user,id=net,hostfwd=tcp:127.0.0.1:2222-:22 \
                    -device virtio-net-device,netdev=net,mac=00:15:5d:48:56:01 \
                    -object filter-dump,id=capture,netdev=net,file=/proc/self/fd/5 -kernel";
        assert!(line.contains(card), "{line}");
        let line = text(&Settings { network: Some(Network { back: Back::Passt, ..network }), ..settings() });
        let card =
            "-netdev stream,id=net,server=off,addr.type=fd,addr.str=3 -device virtio-net-device,netdev=net,";
        assert!(line.contains(card), "{line}");
    }

    #[test]
    fn a_guest_never_gets_semihosting() {
        let every = Settings { deterministic: true, gdb: Some(Address::Fresh), ..settings() };
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
    fn the_machine_waits_for_a_debugger() {
        let line = text(&Settings { gdb: Some(Address::Fresh), ..settings() });
        assert!(
            line.contains("-chardev socket,id=gdb,fd=8,server=on,wait=off -gdb chardev:gdb -S"),
            "{line}"
        );
    }

    #[test]
    fn a_machine_that_can_be_saved_has_a_monitor_and_a_plain_state() {
        let line = text(&Settings { monitor: true, ..settings() });
        let monitor = " -chardev socket,id=monitor,fd=4 -mon chardev=monitor,mode=control";
        assert!(line.contains(monitor), "{line}");
        let [plain, state] = [",suppress-vmdesc=on", " -global migration.send-configuration=off"];
        let rest = [monitor, plain, state].iter().fold(line, |line, words| line.replacen(words, "", 1));
        assert_eq!(rest, text(&settings()));
    }

    #[test]
    fn a_qemu_without_a_sandbox_is_not_asked_for_one() {
        let mut without = emulator();
        without.qemu.sandbox = false;
        assert!(!text(&Settings { emulator: Some(without), ..settings() }).contains("sandbox"));
    }
}
