//! Each fault that a disk can have, and what a program in a stock guest sees of it. The same guest runs without a fault
//! and with each, in guest time, which is the same on any machine.

use std::ops::{Range, RangeInclusive};

use anyhow::{Context as _, ensure};
use hv_setup::exit::Exit;

use super::super::context::{Booted, Context};
use super::super::runner::Step;
use super::faults::fired;
use super::programs::{GuestFiles, Programs};

/// What the guest's disk has in its first bytes, as a program of the guest makes it.
const BYTES: &str = "seq 100000 999999 | head -c 1048576";
/// Reads the disk: a block now and then; four requests at a time; and many blocks, one after another. A command times
/// out after a second. The disk is on a controller of its own, so that the guest goes on without it.
const GUEST: &str = r#"
N=${D##*/}
T=/sys/kernel/tracing
mount -t tracefs tracefs $T
sysctl -q -w kernel.hung_task_timeout_secs=2
echo 1 >/sys/block/$N/device/timeout
spent() { set -- $(cat /sys/block/$N/stat); echo $4; }
was=$(spent)
for i in $(seq 20); do dd if=$D of=/dev/null bs=4k count=1 skip=$i iflag=direct 2>/dev/null; usleep 50000; done
echo "hv: reads took $(($(spent) - was)) ms"
echo 1 >$T/events/block/block_rq_complete/enable
dd if=$D of=part bs=1M count=1 iflag=direct 2>/dev/null
echo 0 >$T/events/block/block_rq_complete/enable
echo "hv: order$(sed -n 's/.*block_rq_complete: [0-9,]* [A-Z]* () \([0-9]*\) + .*/ \1/p' $T/trace | tr -d '\n')"
cmp part all && echo 'hv: bytes right'
echo 1 >$T/events/scsi/scsi_dispatch_cmd_timeout/enable
(dd if=$D of=/dev/null bs=4k count=2000 iflag=direct 2>log; echo $? >status) &
for i in $(seq 12); do [ -e status ] || sleep 1; done
[ -e status ] && echo "hv: many reads ended with $(cat status)" || echo 'hv: many reads are under way'
[ -e /sys/block/$N ] && echo "hv: in flight $(cut -c 1-8 /sys/block/$N/inflight)" || echo 'hv: disk gone'
echo "hv: time-outs $(grep -c scsi_dispatch_cmd_timeout $T/trace)"
dmesg | grep -E 'Vmbus version|storvsc|I/O error|Result: |INFO: task'
echo b >/proc/sysrq-trigger
"#;

/// A plan, and what the guest prints with it.
struct Row {
    name: &'static str,
    plan: &'static str,
    /// How long twenty reads take, 50 ms apart, in milliseconds.
    took: Range<u64>,
    /// The four requests end in the order in which they began.
    in_order: bool,
    /// How often a command of the many reads times out.
    time_outs: RangeInclusive<u64>,
    /// When the kernel has VMBus's answer, in seconds. Its clock starts some time after the partition's, and the driver
    /// asks after a second of it.
    connected: Range<f64>,
    /// How the many reads end.
    ends: &'static str,
    says: &'static [&'static str],
}

/// First sectors of the four requests.
const SECTORS: [u64; 4] = [0, 512, 1024, 1536];
const NO_TIME: Range<u64> = 0..50;
const NEVER: RangeInclusive<u64> = 0..=0;
/// Each time-out begins again.
const AGAIN: RangeInclusive<u64> = 3..=u64::MAX;
const AT_ONCE: Range<f64> = 0.0..2.0;
const GOOD: &str = "ended with 0";
const FAILED: &str = "ended with 1";
const UNDER_WAY: &str = "are under way";

const ROWS: [Row; 7] = [
    Row {
        name: "none",
        plan: "",
        took: NO_TIME,
        in_order: true,
        time_outs: NEVER,
        connected: AT_ONCE,
        ends: GOOD,
        says: &["in flight        0"],
    },
    // Each third of 20 reads, and one or two of four requests, whichever is the first.
    Row {
        name: "late",
        plan: "late=100ms@/3",
        took: 600..800,
        in_order: false,
        time_outs: NEVER,
        connected: AT_ONCE,
        ends: UNDER_WAY,
        says: &[],
    },
    // A read after which none comes waits for 20 ms.
    Row {
        name: "reorder",
        plan: "reorder@/2",
        took: 200..300,
        in_order: false,
        time_outs: NEVER,
        connected: AT_ONCE,
        ends: UNDER_WAY,
        says: &[],
    },
    // The reads go on for more than a second, and wait during the rest of each 600 ms.
    Row {
        name: "mute-srb",
        plan: "mute=600ms@1000ms,srb=4@1000",
        took: 400..10_000,
        in_order: true,
        time_outs: NEVER,
        connected: AT_ONCE,
        ends: GOOD,
        says: &["cmd 0x28 status: scsi 0x0 srb 0x4 hv 0x0"],
    },
    // The first command that finds no logical unit removes the disk.
    Row {
        name: "silent-no-unit",
        plan: "silent=3000ms@100000ms,srb=0x20@1000",
        took: NO_TIME,
        in_order: true,
        time_outs: NEVER,
        connected: 2.5..10.0,
        ends: FAILED,
        says: &[
            "cmd 0x28 status: scsi 0x0 srb 0x20 hv 0x0",
            "hostbyte=DID_NO_CONNECT",
            "I/O error, dev sd",
            "hv: disk gone",
        ],
    },
    // The driver has each time-out begin again.
    Row {
        name: "stuck",
        plan: "stuck@1000",
        took: NO_TIME,
        in_order: true,
        time_outs: AGAIN,
        connected: AT_ONCE,
        ends: UNDER_WAY,
        says: &["in flight        1"],
    },
    // The driver waits for commands that it issues to a controller that is gone.
    Row {
        name: "rescind",
        plan: "rescind=storage@1000",
        took: NO_TIME,
        in_order: true,
        time_outs: AGAIN,
        connected: AT_ONCE,
        ends: UNDER_WAY,
        says: &["hv: disk gone", "INFO: task kworker", "storvsc_remove+"],
    },
];

/// Returns the scenarios.
pub(super) fn steps() -> Vec<Step> {
    let step =
        |row: &'static Row| Step::new(format!("inject/disk/{}", row.name), move |context| run(context, row));
    ROWS.iter().map(step).collect()
}

fn run(context: &Context, row: &Row) -> anyhow::Result<()> {
    let script = format!("{BYTES} >all\n{GUEST}");
    let files = GuestFiles::new(context, &Programs { packages: &[], paths: &[] }, &[], &script)?;
    let mut bytes: Vec<u8> = (100_000..1_000_000).flat_map(|n: u32| format!("{n}\n").into_bytes()).collect();
    bytes.resize(usize::try_from(super::storage::SIZE)?, 0);
    std::fs::write(&files.data, bytes)?;
    let own = files.options_with("1:1");
    let mut options: Vec<&str> = own.iter().map(String::as_str).collect();
    options.extend(["--deterministic", "--vps", "1"]);
    if !row.plan.is_empty() {
        options.extend(["--inject", row.plan]);
    }
    let booted = context.boot(&options)?;
    booted.ended(Exit::Reset, "reset")?;
    booted.says("hv: bytes right")?;
    let order = order(&booted)?;
    let mut sorted = order.clone();
    sorted.sort_unstable();
    ensure!(
        sorted == SECTORS && (order == SECTORS) == row.in_order,
        "the requests end in the order {order:?}"
    );
    booted.says(&format!("hv: many reads {}", row.ends))?;
    row.says.iter().try_for_each(|text| booted.says(text))?;
    let took = number(&booted, "hv: reads took ")?;
    ensure!(row.took.contains(&took), "the reads took {took} ms, expected {:?}", row.took);
    let connected = connected(&booted)?;
    ensure!(
        row.connected.contains(&connected),
        "VMBus has answered after {connected} s, expected {:?}",
        row.connected
    );
    let time_outs = number(&booted, "hv: time-outs ")?;
    ensure!(row.time_outs.contains(&time_outs), "{time_outs} time-outs, expected {:?}", row.time_outs);
    (0..row.plan.split(',').filter(|rule| !rule.is_empty()).count()).try_for_each(|rule| fired(&booted, rule))
}

/// Returns the number behind a text on the console.
fn number(booted: &Booted, text: &str) -> anyhow::Result<u64> {
    let digits = booted.console.split(text).nth(1).and_then(|rest| rest.split([' ', '\r', '\n']).next());
    let number = digits.and_then(|digits| digits.parse().ok());
    number.with_context(|| format!("no number behind {text:?}:\n{}", booted.console))
}

/// Returns the first sectors of the four requests in the order of their ends.
fn order(booted: &Booted) -> anyhow::Result<Vec<u64>> {
    let line = booted.console.lines().find_map(|line| line.trim_end().strip_prefix("hv: order "));
    let sectors = line.with_context(|| format!("no order:\n{}", booted.console))?.split(' ');
    Ok(sectors.map(str::parse).collect::<Result<_, _>>()?)
}

/// Returns when the kernel had VMBus's answer, in seconds.
fn connected(booted: &Booted) -> anyhow::Result<f64> {
    let line = booted.console.lines().find(|line| line.starts_with('[') && line.contains("Vmbus version"));
    let time = line.and_then(|line| line.split(['[', ']']).nth(1)?.trim().parse().ok());
    time.with_context(|| format!("the kernel does not say when it has connected:\n{}", booted.console))
}
