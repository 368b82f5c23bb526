//! Disk and network over KVM beside those of another VMM: QEMU with KVM, of Debian's arm64 package.
//!
//! On one machine, the host runs the tool and QEMU in turn, with the same kernel, the same programs in it and as much
//! memory. Both disks are files of the same size in the host's memory; both cards are on a passt of their own, and the
//! other end of TCP is the host. An instruction takes a nanosecond of the machine's time, so the figures are the work
//! of guest, host's kernel and VMM together, whatever else this computer does.

use anyhow::ensure;
use hv_machine::initrd::LEASE;
use hv_setup::cache::Cache;
use hv_setup::stock::{self, Stock};

use super::{Computer, Program, USUAL, built, host_on, runs};
use crate::bench::table::{Figures, said};
use crate::bench::{disk, network, peer};
use crate::test::context::{Context, read};
use crate::test::devices::file_systems::load;
use crate::test::packages::{initrd_of, unpacked};

/// A figure, what it is compared by, its unit, and how many times the peer's it is at least.
const ROWS: [(&str, &str, &str, f64); 7] = [
    ("disk-randread-32", "random reads of 4 KiB, depth 32", "IOPS", WANTED),
    ("disk-randwrite-32", "random writes of 4 KiB, depth 32", "IOPS", WANTED),
    ("disk-read", "reads of 1 MiB in order", "KiB/s", WANTED),
    ("disk-write", "writes of 1 MiB in order", "KiB/s", WANTED),
    ("net-send", "TCP from the guest", "kbit/s", WANTED),
    // What is wanted is missed at times. It is a figure of how often passt sends frames that it has sent before.
    (RECEIVE, "TCP to the guest", "kbit/s", 0.5),
    (ROOMY, "the same, from sockets of 4 MiB", "kbit/s", WANTED),
];
/// The figure that is measured a second time, and its second name.
const RECEIVE: &str = "net-receive";
const ROOMY: &str = "net-receive-4m";
/// How many times the peer's figure each of ours should be.
const WANTED: f64 = 0.7;
/// Jobs and transfers of which the median counts. Writes in order take one of two lengths of time, on both sides. A
/// guest that sends waits for a timeout of TCP's once or twice in a transfer, since passt drops what its own socket has
/// no room for, and a wait is as long as half a transfer.
const TIMES: usize = 3;
/// Port of the server.
const PORT: u16 = 5201;

/// What the guest does before it measures.
const HEAD: &str = "dmesg -n 1
D=
until [ \"$D\" ]; do
    for name in sda vda; do [ -b /dev/$name ] && D=/dev/$name; done
    sleep 0.1
done
";

/// What the host does before it runs anything: passt leaves its root, which it cannot while that is the initrd.
const AWAY: &str = "if [ ! -e /away ]; then
    mkdir /new
    mount -t tmpfs -o size=80% tmpfs /new
    for name in /*; do
        case $name in
            /dev | /new | /proc | /sys) mkdir -p /new$name ;;
            /init) cp $name /new$name ;;
            *) mv $name /new$name ;;
        esac
    done
    : >/new/away
    exec /new/bin/busybox switch_root /new /init
fi
export PATH=/bin:/usr/bin
mkdir -p /etc
ip link set lo address 02:00:00:00:00:01 up
ip route add default dev lo
echo 'nobody:x:65534:65534::/:/bin/sh' >/etc/passwd
iperf3 -s -D
disk() { dd if=/dev/zero bs=1M count=64 | tr '\\0' x >/disk.img; }
";

/// passt with the options that it has for the tool, on a socket that it is given: one that it makes itself it closes
/// before anything has connected, if it is to end with its client.
const PASST: &str = "#!/bin/sh
exec passt --foreground --quiet --stderr --one-off --ipv4-only --fd 3 --address 10.0.2.15 --netmask 255.255.255.0 \\
    --gateway 10.0.2.2 --mtu 0 3<&0
";

/// The two machines, twice. What the guest receives is measured a second time where sockets have room for a window of
/// TCP. With the usual 208 KiB, passt of 2023 sends both guests two to three times the frames that the data needs: it
/// seems that what a VMM has not made room for is lost, and is sent again with all that follows. With room, each frame
/// comes once.
const SCRIPT: &str = "both() {
    disk
    run /hv boot --accel kvm --kernel /Image --initrd /$1 --vps 1 --memory 512M --append quiet --timeout 0 \\
        --disk /disk.img,rw --net passt
    disk
    rm -f /tmp/passt
    socat UNIX-LISTEN:/tmp/passt EXEC:/passt-on,nofork &
    until [ -S /tmp/passt ]; do sleep 0.1; done
    run qemu-system-aarch64 -nodefaults -no-user-config -display none -no-reboot -serial stdio \\
        -machine virt,gic-version=3 -accel kvm -cpu host -smp 1 -m 512M \\
        -kernel /Image -initrd /$1 -append 'console=ttyAMA0 panic=-1 quiet' \\
        -drive if=none,id=disk,format=raw,file=/disk.img -device virtio-blk-pci,drive=disk \\
        -netdev stream,id=net,server=off,addr.type=unix,addr.path=/tmp/passt \\
        -device virtio-net-pci,netdev=net,romfile= </dev/null
}
both guest
echo 4194304 >/proc/sys/net/core/wmem_default
both receiver
";

/// Checks that each figure is at least as many times the peer's as its row says, and prints them.
pub(super) fn ratios(context: &Context) -> anyhow::Result<()> {
    let cache = Cache::open()?;
    let (kernel, _) = stock::kernel(&cache, Stock::Cloud612)?;
    let image = hv_machine::unpack_kernel(read(&kernel.image)?, 1 << 30)?;
    let packages = ["qemu-system-arm", "passt", "iperf3", "socat"];
    let paths = ["qemu-system-aarch64", "passt", "iperf3", "socat"].map(|name| format!("usr/bin/{name}"));
    let paths = paths.each_ref().map(String::as_str);
    let mut files: Vec<_> = unpacked(context, &packages, &paths)?.into_iter().collect();
    files.push(("passt-on".to_owned(), PASST.into()));
    let names: Vec<_> = ROWS.map(|(name, ..)| name).into_iter().filter(|name| *name != ROOMY).collect();
    let programs = [
        Program { name: "hv", content: built("hv-cli", &["--no-default-features", "--bin", "hv"])? },
        Program { name: "Image", content: image },
        Program { name: "guest", content: guest(context, &names)? },
        Program { name: "receiver", content: guest(context, &[RECEIVE])? },
    ];
    let computer = Computer { processors: "1", memory: "3G", counted: true, ..USUAL };
    let console = host_on(context, &computer, &[AWAY, SCRIPT].concat(), (&programs, &files))?;
    let [here, peer, here_receives, peer_receives] = runs(&console)?;
    let side = |run, receives| {
        let mut figures = said(run, &names)?;
        let roomy = said(receives, &[RECEIVE])?.into_values();
        figures.extend(roomy.map(|figure| (ROOMY.to_owned(), figure)));
        anyhow::Ok(figures)
    };
    judge(&side(here, here_receives)?, &side(peer, peer_receives)?)
}

/// Makes the initrd of a guest that measures the figures with these names. It has the drivers of both machines.
fn guest(context: &Context, names: &[&str]) -> anyhow::Result<Vec<u8>> {
    let mut modules = Vec::new();
    let folder = stock::drivers(&Cache::open()?, Stock::Cloud612)?;
    for name in ["hv_vmbus", "hv_storvsc", "crct10dif-ce", "sd_mod", "hv_netvsc"] {
        load(&folder, name, &mut modules)?;
    }
    modules.extend(peer::drivers(&["virtio_blk", "virtio_net"])?);
    let mut files = network::files_of(&modules);
    files.push(("bin/lease".to_owned(), LEASE.to_vec()));
    // The network's has the commands that load modules.
    let script = [
        network::script(names, &modules, PORT, "-n 32M", TIMES),
        HEAD.to_owned(),
        disk::script(names, "--io_size=128M", TIMES),
    ];
    let (packages, paths) = (["fio", "iperf3"], ["usr/bin/fio", "usr/bin/iperf3"]);
    read(&initrd_of(context, &packages, &paths, &[], &files, &script.concat())?)
}

/// Compares the figures of both sides.
fn judge(here: &Figures, peer: &Figures) -> anyhow::Result<()> {
    let mut missed = Vec::new();
    for (name, title, unit, least) in ROWS {
        let [here, peer] = [here, peer].map(|side| side[name].value);
        let ratio = here / peer;
        eprintln!("{name:18}  {title:34}  {here:>9.0}  {peer:>9.0}  {unit:6}  {ratio:.2}");
        if ratio < least {
            missed
                .push(format!("{name}: {here} beside {peer} {unit}, {ratio:.2} times as much, not {least}"));
        }
    }
    ensure!(missed.is_empty(), "{}", missed.join("; "));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{ROWS, judge};
    use crate::bench::table::{Figure, Figures};

    /// Returns the same figure for each row.
    fn all(value: f64) -> Figures {
        ROWS.map(|(name, ..)| (name.to_owned(), Figure { value, bytes: 1.0 })).into()
    }

    #[test]
    fn a_figure_below_what_is_wanted_is_named() {
        let peer = all(100.0);
        assert!(judge(&all(70.0), &peer).is_ok());
        let mut here = all(70.0);
        here.get_mut("net-send").unwrap().value = 69.0;
        let error = judge(&here, &peer).unwrap_err().to_string();
        assert!(error.contains("net-send: 69 beside 100 kbit/s") && !error.contains("disk"), "{error}");
    }
}
