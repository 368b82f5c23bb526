//! The tool on an ARM64 host: `hv boot` over KVM.

use anyhow::{Context as _, ensure};
use hv_setup::target::LINUX_TARGET;
use serde_json::Value;

use super::{Program, built, guest, host, with_modules};
use crate::test::context::Context;

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
fn programs() -> anyhow::Result<[Program; 3]> {
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
run $boot --accel kvm --net user
mv /dev/kvm /dev/away
run $boot --accel kvm
";
    let console = host(context, script, &programs()?)?;
    let runs: Vec<&str> = console.split("host: runs ").skip(1).collect();
    let [doctor, booted, crash, refused, without] = &*runs else {
        anyhow::bail!("expected five runs, found {}; the console:\n{console}", runs.len());
    };
    for (run, texts) in [
        (doctor, &["KVM                ok"][..]),
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
        (crash, &["exit         crash", "crash reported by VP", "sysrq triggered crash", "host: status 3"]),
        (refused, &["--accel kvm: --net is not served over KVM yet", "host: status 2"]),
        (without, &["--accel kvm: cannot open /dev/kvm", "host: status 2"]),
    ] {
        for text in texts {
            ensure!(run.contains(text), "expected {text:?} in the run of {run}");
        }
    }
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
    let runs: Vec<&str> = console.split("host: runs ").collect();
    let [before, written, protected] = &*runs else {
        anyhow::bail!("expected two runs, found {}; the console:\n{console}", runs.len());
    };
    let sum = before.split("host sum: ").nth(1).and_then(|rest| rest.split(' ').next()).context("no sum")?;
    ensure!(written.contains(&format!("guest sum: {sum}")), "expected the sum {sum} in the run of {written}");
    for (run, texts) in [
        (written, &["SCSI controller", "version 6.2", "twice=18@/2: fired", "host: status 0", "\n1\n"][..]),
        (protected, &["SCSI controller", "checked, none broken", "host: status 0"]),
    ] {
        for text in texts {
            ensure!(run.replace('\r', "").contains(text), "expected {text:?} in the run of {run}");
        }
    }
    Ok(())
}

/// Checks ends that the guest does not choose: a tool that is told to end while the guest prints without end, a killed
/// tool, with which its machine ends, and a time limit.
pub(super) fn ends(context: &Context) -> anyhow::Result<()> {
    let script = "boot='/hv boot --kernel /Image --initrd /initrd'
echo 'while true; do echo flood; done' >/typed
tool() { ps | awk '/hv boot/ && !/awk|sh/ { print $1 }'; }
machines() { ps | grep -c '[_]_kvm'; }
gone() { kill -$1 $(tool); until [ $(machines) = 0 ]; do sleep 1; done; echo \"machines left: $(machines)\"; }
$boot --append 'quiet hv.run=shell' --timeout 1000 </typed >/flood &
until [ $(grep -c flood /flood) -gt 100 ]; do sleep 1; done
echo \"machines: $(machines)\"
gone 15
run $boot --append hv.run=wait >/log &
until grep -q 'hv: connected' /log; do sleep 1; done
echo \"machines: $(machines)\"
gone 9
run $boot --append hv.run=wait --timeout 40
";
    let console = host(context, script, &programs()?)?;
    let lines: Vec<&str> = console.lines().map(str::trim).collect();
    for text in ["machines: 1", "machines left: 0"] {
        let found = lines.iter().filter(|line| **line == text).count();
        ensure!(found == 2, "expected two lines {text:?}, found {found}:\n{console}");
    }
    for text in ["host: status 5", "exit         timeout", "the time limit was reached after 4"] {
        ensure!(console.contains(text), "expected {text:?}:\n{console}");
    }
    Ok(())
}
