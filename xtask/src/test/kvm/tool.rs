//! The tool on an ARM64 host: `hv boot` over KVM.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, ensure};
use hv_setup::cache::Cache;
use hv_setup::stock::{self, Stock};
use hv_setup::target::LINUX_TARGET;
use hv_setup::{programs as bare, sources};
use serde_json::Value;

use super::{Program, built, expect, guest, host, host_with, runs, with_modules};
use crate::test::context::{Context, read};

/// Fields of the report that are the same over KVM and under QEMU.
const SAME: [&str; 14] = [
    "exit",
    "exit_code",
    "reason",
    "start",
    "firmware",
    "vps",
    "guest_os_id",
    "detection",
    "hypercalls",
    "registers",
    "vmbus",
    "crash",
    "rules",
    "findings",
];

/// Returns the tool, and what it boots.
pub(super) fn programs() -> anyhow::Result<[Program; 3]> {
    let hv = built("hv-cli", &["--no-default-features", "--bin", "hv"])
        .with_context(|| format!("the tool does not build for {LINUX_TARGET}"))?;
    let [image, initrd] = guest()?;
    Ok([Program { name: "hv", content: hv }, image, initrd])
}

/// Checks that the tool chooses KVM where it works, and that its report is that of a run under QEMU.
fn same(context: &Context, over_kvm: &Value) -> anyhow::Result<()> {
    let emulated = context.boot(&["--vps", "2", "--strict"])?;
    for field in SAME {
        let (found, expected) = (&over_kvm[field], &emulated.json[field]);
        ensure!(found == expected, "{field}: {found:#} over KVM, {expected:#} under QEMU");
    }
    ensure!(over_kvm["accel"] == "kvm" && over_kvm["qemu"].is_null(), "{over_kvm:#}");
    ensure!(over_kvm["run_ms"].as_u64().is_some_and(|ms| ms > 0), "{over_kvm:#}");
    let records = over_kvm["trace"]["records"].as_u64();
    ensure!(records.is_some_and(|records| records > 100), "{:#}", over_kvm["trace"]);
    let synic = over_kvm["synic"].as_array().map_or(0, Vec::len);
    ensure!(synic == 2 && over_kvm["synic"][1]["started"] == true, "{:#}", over_kvm["synic"]);
    Ok(())
}

/// Checks what the tool does on a host with KVM, and without it.
pub(super) fn boot(context: &Context) -> anyhow::Result<()> {
    let script = "run /hv doctor
boot='/hv boot --kernel /Image --initrd /initrd'
run $boot --vps 2 --strict --trace /boot.trace --json /report.json
echo 'json: begin'
cat /report.json
echo 'json: end'
/hv trace /boot.trace >/lines
echo \"calls: $(grep -c HVCALL_ /lines) of $(grep -c 'Vmbus version' /lines) lines\"
run $boot --append hv.run=crash --quiet
echo \"killed by a filter: $(dmesg | grep -c type=1326)\"
run $boot --accel kvm --net user
mv /dev/kvm /dev/away
run $boot --accel kvm
";
    let console = host(context, script, &programs()?)?;
    let [doctor, booted, crash, refused, without] = runs(&console)?;
    expect(&[
        (doctor, &["KVM                ok"]),
        (
            booted,
            &[
                "Booting /Image on 2 VPs (over KVM)",
                "Vmbus version:5.3",
                "machine      over KVM",
                "checked, none broken",
                "host: status 0",
            ],
        ),
        (
            crash,
            &[
                "exit         crash",
                "crash reported by VP",
                "sysrq triggered crash",
                "host: status 3",
                "killed by a filter: 0",
            ],
        ),
        (refused, &["--accel kvm: --net user is QEMU's own network", "host: status 2"]),
        (without, &["--accel kvm: cannot open /dev/kvm", "host: status 2"]),
    ])?;
    let calls = booted.split("calls: ").nth(1).and_then(|rest| rest.split_once(" of "));
    let (calls, console) = calls.context("no trace was read")?;
    // 14 reads and 9 writes of registers, and two messages.
    ensure!(calls.parse().is_ok_and(|calls: u32| calls >= 25), "{calls} calls in the trace");
    ensure!(!console.starts_with('0'), "the trace lacks the console");
    let json = booted.split("json: begin").nth(1).and_then(|rest| rest.split("json: end").next());
    let json = json.context("the tool wrote no report")?;
    same(context, &serde_json::from_str(json).with_context(|| format!("no JSON: {json}"))?)
}

/// Checks that a guest reads and writes a disk, with an injected fault and without.
pub(super) fn disk(context: &Context) -> anyhow::Result<()> {
    let script = "dd if=/dev/urandom of=/disk.img bs=64k count=16
echo \"host sum: $(md5sum </disk.img)\"
cat >/typed <<'END'
i=0; until [ -b /dev/sda ]; do sleep 1; done
echo \"guest sum: $(md5sum </dev/sda)\"
printf 'by the guest' | dd of=/dev/sda bs=512 seek=3 conv=fsync
exit
END
disk() { /hv boot --kernel /Image --initrd /disks --append 'quiet hv.run=shell' --disk /disk.img,$@ </typed; }
run disk rw --inject 'twice=18@/2'
dd if=/disk.img bs=512 skip=3 count=1 | grep -ac 'by the guest'
run disk ro --strict
";
    let [hv, image, _] = programs()?;
    let names =
        ["hv_vmbus", "scsi_common", "scsi_mod", "scsi_transport_fc", "hv_storvsc", "crct10dif-ce", "sd_mod"];
    let console =
        host(context, script, &[hv, image, Program { name: "disks", content: with_modules(&names)? }])?;
    let [written, protected] = runs(&console)?;
    let sum = console.split("host sum: ").nth(1).and_then(|rest| rest.split(' ').next()).context("no sum")?;
    ensure!(written.contains(&format!("guest sum: {sum}")), "expected the sum {sum} in the run of {written}");
    expect(&[
        (written, &["SCSI controller", "version 6.2", "twice=18@/2: fired", "host: status 0", "\n1\n"]),
        (protected, &["SCSI controller", "checked, none broken", "host: status 0"]),
    ])?;
    Ok(())
}

/// Checks that a guest is asked, typed to, looked at and given a disk while it runs, and switched off.
pub(super) fn control(context: &Context) -> anyhow::Result<()> {
    let script = "dd if=/dev/urandom of=/disk.img bs=64k count=16
/hv boot --kernel /Image --initrd /drivers --append hv.run=wait --strict --name it --hotplug-room 16M >/log 2>&1 &
until grep -q 'hv: waiting' /log; do sleep 1; done
ctl() { run /hv ctl it \"$@\" --timeout 120; }
run /hv ps
until /hv ctl it status | grep -q 'shutdown *ready'; do sleep 1; done
ctl status
ctl disk add /disk.img,snapshot
until grep -q 'Attached SCSI disk' /log; do sleep 1; done
ctl disk remove 0:0
ctl type 'a\\n'
ctl screenshot /shot.png
ctl rescind mouse
ctl shutdown
wait
cat /log
";
    let names = [
        "hv_vmbus",
        "hv_utils",
        "hyperv-keyboard",
        "scsi_common",
        "scsi_mod",
        "scsi_transport_fc",
        "hv_storvsc",
        "crct10dif-ce",
        "sd_mod",
    ];
    let [hv, image, _] = programs()?;
    let console =
        host(context, script, &[hv, image, Program { name: "drivers", content: with_modules(&names)? }])?;
    let [ps, status, added, removed, typed, shot, rescinded, down] = runs(&console)?;
    expect(&[
        (ps, &["it ", "host: status 0"]),
        (status, &["shutdown", "ready", "host: status 0"]),
        (added, &["0:0", "host: status 0"]),
        (removed, &["host: status 0"]),
        (typed, &["host: status 0"]),
        // No driver draws.
        (shot, &["driver", "host: status"]),
        (rescinded, &["host: status 0"]),
        (
            down,
            &[
                "host: status 0",
                "Attached SCSI disk",
                "exit         power-off",
                "machine      over KVM",
                "checked, none broken",
                "SCSI controller",
            ],
        ),
    ])?;
    Ok(())
}

/// Returns the files of a folder of the cache, as the host has them.
fn cached(folder: &Path) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.append(&mut cached(&path)?);
        } else {
            let cache = Cache::open()?.dir().to_owned();
            let place = path.strip_prefix(cache)?.display().to_string();
            found.push((format!("cache/hv-arm64/{place}"), read(&path)?));
        }
    }
    Ok(found)
}

/// What stands in for passt: it keeps what the guest sends, and sends it a frame each second.
const PASST: &str = r"#!/bin/sh
while [ $# -gt 0 ]; do [ $1 = --fd ] && fd=$2; shift; done
frame='\000\000\000\074\377\377\377\377\377\377\002\000\000\000\000\001\210\265'
(while sleep 1; do printf $frame; head -c 46 /dev/zero; done >&$fd) </dev/null >/dev/null 2>&1 &
cat <&$fd >/frames 2>/dev/null &
exit 0
";

/// Checks that `hv exec` runs a command over the guest's sockets, with input, output and status, and that frames go
/// both ways between a guest and the program in passt's place.
pub(super) fn exec(context: &Context) -> anyhow::Result<()> {
    let agent = read(&bare::agent()?)?;
    let checkout = sources::checkout()?;
    let inside = |path: &str| format!("{}/{path}", checkout.display()).trim_start_matches('/').to_owned();
    let cache = Cache::open()?;
    let (kernel, busybox) = stock::kernel(&cache, Stock::Cloud612)?;
    let folders =
        [kernel.image.parent(), busybox.parent(), stock::drivers(&cache, Stock::Cloud612)?.parent()]
            .map(|folder| folder.context("a file in the cache").and_then(cached));
    let mut files: Vec<_> = folders.into_iter().collect::<anyhow::Result<Vec<_>>>()?.concat();
    // The tool's checkout there, whose agent is built, and a Rust that has nothing to do.
    let rustc = "#!/bin/sh\ncase $1 in --version) echo 'rustc 1.90.0' ;; *) echo /rust ;; esac\n";
    files.extend([
        (inside("bare/Cargo.toml"), Vec::new()),
        (inside("bare/agent/Cargo.toml"), Vec::new()),
        (inside(&format!("bare/target/{LINUX_TARGET}/release/agent")), agent),
        ("rust/cargo".into(), b"#!/bin/sh\nexit 0\n".to_vec()),
        ("rust/rustc".into(), rustc.into()),
        (format!("rust/lib/rustlib/{LINUX_TARGET}/lib/std"), Vec::new()),
        ("bin/passt".into(), PASST.into()),
    ]);
    let script = "export CARGO=/rust/cargo
echo some words | run /hv exec --strict -- sh -c 'tr a-z A-Z; seq 20000 | md5sum; exit 7'
echo \"host sum: $(seq 20000 | md5sum)\"
run /hv exec --net passt --net-capture /net.pcap --report -- sh -c 'ip link set eth0 up
    while [ $(cat /sys/class/net/eth0/statistics/rx_packets) -lt 3 ]; do sleep 1; done
    udhcpc -i eth0 -n -t 1 -T 1; echo got frames'
echo \"captured: $(wc -c </net.pcap), sent: $(wc -c </frames)\"
";
    let hv = built("hv-cli", &["--no-default-features", "--bin", "hv"])?;
    let console = host_with(context, script, &[Program { name: "hv", content: hv }], &files)?;
    let [first, network] = runs(&console)?;
    let sum = first.split("host sum: ").nth(1).and_then(|rest| rest.split(' ').next()).context("no sum")?;
    ensure!(first.matches(sum).count() == 2, "expected the sum {sum} in the run of {first}");
    expect(&[
        (first, &["SOME WORDS", "host: status 7"]),
        (network, &["got frames", "machine      over KVM", "network card", "host: status 0"]),
    ])?;
    let counts = network.split("captured: ").nth(1).and_then(|rest| rest.lines().next());
    let counts: Option<Vec<u64>> = counts
        .map(|counts| counts.split(", sent: ").map(|count| count.trim().parse().ok()).collect())
        .context("no counts")?;
    let [captured, sent] = counts.as_deref().context("no numbers")? else { anyhow::bail!("not two counts") };
    // A header, and three records of frames from outside at least; DHCP's discovery is 300 bytes and more.
    ensure!(*captured > 24 + 3 * (16 + 60) && *sent > 300, "{captured} bytes captured, {sent} sent");
    Ok(())
}

/// Checks ends that the guest does not choose: a tool that is told to end while the guest prints without end, a killed
/// tool, with which its machine ends, and a time limit. The guest's shell is typed to when it is there: a driver drops
/// what comes before.
pub(super) fn ends(context: &Context) -> anyhow::Result<()> {
    let script = "boot='/hv boot --kernel /Image --initrd /initrd'
mkfifo /typed
exec 3<>/typed
machines() { ps | grep -c '[_]_kvm'; }
state() {
    echo \"host: waited in vain for: $1\"
    tail -n 20 /flood
    for task in /proc/[0-9]*/task/*; do
        grep -Eq 'hv|kvm' ${task%/task/*}/cmdline && tail -n 2 $task/comm $task/wchan $task/syscall
    done
    poweroff -f
}
await() { i=0; until eval \"$1\"; do i=$((i + 1)); [ $i -lt 300 ] || state \"$1\"; sleep 1; done; }
gone() {
    echo \"machines: $(machines)\"
    kill -$1 $tool
    wait $tool
    echo \"host: ended $?\"
    await '[ $(machines) = 0 ]'
    echo \"machines left: $(machines)\"
}
echo 'host: runs flood'
$boot --append 'quiet hv.run=shell' --timeout 1000 </typed >/flood &
tool=$!
await 'grep -q \"hv: shell\" /flood'
echo 'while true; do echo flood; done' >&3
await '[ $(grep -c flood /flood) -gt 100 ]'
gone 15
echo 'host: runs wait'
$boot --append hv.run=wait >/log &
tool=$!
await 'grep -q \"hv: connected\" /log'
gone 9
run $boot --append hv.run=wait --timeout 40
";
    let console = host(context, script, &programs()?)?;
    let [told, killed, limited] = runs(&console)?;
    expect(&[
        (told, &["machines: 1", "hv boot: interrupted", "host: ended 130", "machines left: 0"]),
        (killed, &["machines: 1", "host: ended 137", "machines left: 0"]),
        (limited, &["exit         timeout", "host: status 5"]),
    ])?;
    let [_, reached] = *limited.split("timeout (the time limit was reached after ").collect::<Vec<_>>()
    else {
        anyhow::bail!("expected one reason in the run of {limited}");
    };
    let seconds = reached.split(' ').next().and_then(|seconds| seconds.parse::<u32>().ok());
    ensure!(seconds.is_some_and(|seconds| seconds >= 40), "expected an end after 40 s:\n{limited}");
    Ok(())
}
