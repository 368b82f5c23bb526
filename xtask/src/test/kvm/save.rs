//! A machine over KVM that is saved, and goes on in another process.

use anyhow::{Context as _, ensure};
use hv_machine::initrd::Archive;
use hv_setup::cache::Cache;
use hv_setup::stock::{self, Stock};

use super::{Program, built, expect, host, runs, vmbus};
use crate::test::context::{Context, read};

/// The guest's /init. Each processor counts, with the time, and a third process on one of them counts in floating
/// point; the host saves in between.
const INIT: &str = "#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs devtmpfs /dev
export PATH=/bin
/bin/busybox --install /bin
count() {
    n=0
    while [ $n -lt 120 ]; do
        n=$((n + 1))
        read up rest </proc/uptime
        echo \"count: $1 $n $up\"
        : >/counts$1
        sleep 0.1
    done
}
insmod /hv_vmbus.ko
dmesg | grep -o 'Vmbus version:.*'
count 0 & taskset -p 1 $! >/dev/null
count 1 & taskset -p 2 $! >/dev/null
taskset 2 awk 'BEGIN { for (i = 0; i < 400000; i++) x += 0.25; print \"sum: \" x }' &
until [ -e /counts0 ] && [ -e /counts1 ]; do sleep 0.1; done
echo 'hv: save'
wait
read word
echo \"typed: $word\"
rmmod hv_vmbus && echo 'hv: left VMBus'
cpu=/sys/devices/system/cpu/cpu1/online
for state in 0 1; do
    echo $state >$cpu
    echo \"hv: cpu1 online=$(cat $cpu), $(nproc) processors\"
done
poweroff -f
";
/// What each processor counts to.
const LAST: u32 = 120;
/// Seconds for which the machine does not exist.
const PAUSE: f64 = 20.0;

/// Checks that a machine with two processors goes on where it was saved.
pub(super) fn save(context: &Context) -> anyhow::Result<()> {
    let (kernel, busybox) = stock::kernel(&Cache::open()?, Stock::Cloud612)?;
    let mut archive = Archive::new();
    archive.dir("bin")?;
    archive.dir("dev")?;
    archive.character_device("dev/console", 5, 1)?;
    archive.file("bin/busybox", 0o755, &read(&busybox)?)?;
    archive.file("hv_vmbus.ko", 0o644, &vmbus()?.bytes)?;
    archive.file("init", 0o755, INIT.as_bytes())?;
    let programs = [
        Program { name: "save", content: built("hv-kvm", &["--example", "save"])? },
        Program { name: "Image", content: read(&kernel.image)? },
        Program { name: "initrd", content: archive.finish()? },
    ];
    let script =
        format!("run /save /tmp /Image /initrd 2 'hv: save'\nsleep {PAUSE}\nrun /save /tmp 2 later\n");
    let console = host(context, &script, &programs)?.replace('\r', "");
    let [saved, restored] = runs(&console)?;
    let (before, rest) = saved.split_once("\nsaved: ").with_context(|| format!("not saved:\n{console}"))?;
    ensure!(rest.contains("host: status 0"), "the machine was not saved:\n{console}");
    let (_, after) = restored.split_once('\n').context("a run without output")?;
    // The stop may have been in the middle of a line.
    let guest = [before, after].concat();
    expect(&[
        (before, &["Vmbus version:5.3", "hv: save"]),
        (
            after,
            &[
                "typed: later",
                // The driver waits for the host's answer, which comes with an interrupt.
                "hv: left VMBus",
                "hv: cpu1 online=0, 1 processors",
                "hv: cpu1 online=1, 2 processors",
                "host: status 0",
            ],
        ),
    ])?;
    ensure!(guest.contains("sum: 100000\n"), "the sum is wrong:\n{guest}");
    for processor in 0..2 {
        let counts = counts(&guest, processor);
        let numbers: Vec<u32> = counts.iter().map(|(number, _)| *number).collect();
        ensure!(numbers.iter().copied().eq(1..=LAST), "processor {processor} counted {numbers:?}:\n{guest}");
        // Which does not go on while the machine does not exist.
        let in_time = |pair: &[(u32, f64)]| (0.0..PAUSE).contains(&(pair[1].1 - pair[0].1));
        ensure!(counts.windows(2).all(in_time), "the time of processor {processor}: {counts:?}");
        ensure!(
            counts_in(before, processor) && counts_in(after, processor),
            "not saved in between:\n{guest}"
        );
    }
    Ok(())
}

/// Returns what a processor has counted, with the time.
fn counts(console: &str, processor: u32) -> Vec<(u32, f64)> {
    let start = format!("count: {processor} ");
    let lines = console.lines().filter_map(|line| line.split_once(&start)).map(|(_, rest)| rest);
    lines
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(n, at)| n.parse().ok().zip(at.parse().ok()))
        .collect()
}

/// Returns true if a processor counts in this part.
fn counts_in(console: &str, processor: u32) -> bool {
    !counts(console, processor).is_empty()
}
