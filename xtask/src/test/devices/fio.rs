//! fio writes a disk, and verifies what it reads back: in order and at random, through the page cache and around it.

use anyhow::ensure;

use super::super::context::Context;
use super::super::runner::Step;
use super::programs::{Expected, GuestFiles, Programs, judge, script};

/// Returns the scenarios.
pub(super) fn steps() -> Vec<Step> {
    [("6.12", "1"), ("6.12", "2"), ("6.12", "4"), ("6.12", "8"), ("6.1", "4"), ("16k", "4")]
        .into_iter()
        .map(|(stock, vps)| {
            let name = format!("devices/storage/fio/{stock}/{vps}-vps");
            Step::new(name, move |context| run(context, stock, vps)).slow()
        })
        .collect()
}

const fn good(command: &'static str) -> Expected {
    Expected { command, status: 0, lines: &[] }
}

/// A job for each processor, each on a part of the disk of its own: `$J` are its common options.
const JOBS: &[Expected] = &[
    good("fio $J --name=seq-direct --rw=write --bs=64k --direct=1 --iodepth=4"),
    good("fio $J --name=seq-buffered --rw=write --bs=16k --direct=0 --end_fsync=1"),
    good("fio $J --name=random-direct --rw=randwrite --bs=4k --direct=1 --iodepth=32"),
    good("fio $J --name=random-buffered --rw=randwrite --bs=4k --direct=0 --fsync=64"),
    good("fio $J --name=mixed-direct --rw=randrw --bsrange=4k-256k --blockalign=4k --direct=1 --iodepth=8"),
];

fn run(context: &Context, stock: &str, vps: &str) -> anyhow::Result<()> {
    let programs = Programs { packages: &["fio"], paths: &["usr/bin/fio"] };
    // Whole pages of 16 KiB for each processor.
    let head = "N=$(nproc)\nP=$((24 / N))m\n\
        J=\"--filename=$D --ioengine=libaio --size=$P --offset_increment=$P --numjobs=$N --thread \
        --verify=crc32c --verify_fatal=1 --do_verify=1 --randrepeat=1 --eta=never --minimal --output=fio\"\n\
        fio() { command fio \"$@\" || { cat fio; return 1; }; }\n";
    let guest = GuestFiles::new(context, &programs, &[], &format!("{head}{}", script(JOBS)))?;
    let mut options = vec!["--stock", stock, "--vps", vps, "--strict=note"];
    // A kernel's locks are waited for on the processor. Where VPs are threads, and there are far more of them than
    // processors, the owner of a lock seldom runs while others wait for it. In one thread, a VP that waits lets the
    // next one run.
    if vps == "8" {
        options.push("--deterministic");
    }
    let booted = guest.run(context, &options)?;
    judge(&booted.console, JOBS)?;
    booted.is("/devices/0/opened", vps.parse::<u64>()?)?;
    let bytes = |name: &str| booted.json.pointer(&format!("/devices/0/{name}")).and_then(|v| v.as_u64());
    ensure!(bytes("requests").is_some_and(|requests| requests > 5000), "the disks had too few requests");
    Ok(())
}
