//! Measures the cost of the hot routines, checks that they cannot panic, and that the calls of VMBus take no more stack
//! than their header says:
//!
//! ```text
//! cargo run -p hv-guest-c --example cost                                  ours, and the search for panics
//! cargo run -p hv-guest-c --example cost -- /usr/src/linux-source-6.12    beside Linux's, from an unpacked tree
//! ```
//!
//! Ours are built for bare-metal AArch64 as for a kernel. Linux's routines are extracted from its sources and compiled
//! by `aarch64-linux-gnu-gcc -O2` on the spot; nothing of Linux is in this repository. Instructions are counted along
//! the straight path: no conditional branch taken (flags are clear), calls followed, up to the return.

mod code;
mod linux;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use code::Code;

const TARGET: &str = "aarch64-unknown-none-softfloat";

/// Our routine, Linux's counterpart, and a description.
const ROUTINES: [(&str, &str, &str); 6] = [
    ("hot_clock_read", "linux_clock_read", "clock read by the page"),
    ("hot_end_of_message", "linux_end_of_message", "end of a message, none waiting"),
    ("hot_get", "hv_get_vpreg", "fast get of a register"),
    ("hot_set", "hv_set_vpreg", "fast set of a register"),
    ("hot_hypercall", "linux_hypercall", "memory-based hypercall"),
    ("hot_fast_hypercall8", "hv_do_fast_hypercall8", "fast hypercall of a word"),
];
/// Further routines that must not panic.
const NO_PANIC: [&str; 6] = [
    "hot_get_hvc1",
    "hot_set_hvc1",
    "hot_signal_event",
    "hot_read_message",
    "hot_rep_hypercall",
    "hot_post_message",
];
/// Minimum instruction count of a clock read: two loads of the sequence, scale, offset, counter, ISB, DMB, multiply,
/// add, a compare, two branches, the return.
const CLOCK_MINIMUM: usize = 13;

/// The calls of VMBus.
const VMBUS: [&str; 3] = ["hv_bus_", "hv_storage_", "hv_net_"];
/// Bytes of stack of those that open or close a device, and of the others.
const STACK: [(&str, usize); 4] = [
    ("hv_storage_open", 16 << 10),
    ("hv_storage_close", 16 << 10),
    ("hv_net_open", 32 << 10),
    ("hv_net_close", 32 << 10),
];
const STACK_OF_OTHERS: usize = 4 << 10;

fn main() -> ExitCode {
    let linux = std::env::args_os().nth(1).map(PathBuf::from);
    match report(linux.as_deref()) {
        Ok(good) if good => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("cost: {error}");
            ExitCode::FAILURE
        }
    }
}

fn report(linux: Option<&Path>) -> Result<bool, Box<dyn std::error::Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let out = root.join("../../target/cost");
    let status = Command::new(env!("CARGO"))
        .args(["rustc", "--quiet", "--package", "hv-guest-c", "--features", "measure", "--profile", "guest"])
        .args(["--crate-type", "staticlib", "--target", TARGET, "--target-dir"])
        .arg(&out)
        .current_dir(root)
        .status()?;
    if !status.success() {
        return Err(format!("cannot build for {TARGET}; `rustup target add {TARGET}`?").into());
    }
    let library = out.join(TARGET).join("guest/libhv_guest_c.a");
    let ours = Code::read_archive(&library)?;
    let theirs = linux.map(|tree| linux::compile(tree, &out)).transpose()?;

    println!("{:<34}{:>6}{:>8}   instructions on the straight path", "", "ours", "Linux");
    for (name, counterpart, what) in ROUTINES {
        let count = ours.straight(name)?;
        let other = match &theirs {
            Some(code) => code.straight(counterpart)?.to_string(),
            None => "-".to_owned(),
        };
        println!("{what:<34}{count:>6}{other:>8}");
    }
    let mut good = true;
    let clock = ours.straight("hot_clock_read")?;
    if clock > CLOCK_MINIMUM + 2 {
        println!("the clock read is more than 2 above the minimum of {CLOCK_MINIMUM}");
        good = false;
    }
    if panics(&ours, "hot_that_panics")?.is_empty() {
        println!("the search for panics misses the one in hot_that_panics");
        good = false;
    }
    for name in ROUTINES.iter().map(|(name, _, _)| *name).chain(NO_PANIC) {
        for panic in panics(&ours, name)? {
            println!("{name} can reach {panic}");
            good = false;
        }
    }
    let mut calls = 0;
    for name in ours.named(&VMBUS) {
        let (stack, most) = (ours.stack(name)?, STACK.iter().find(|(large, _)| *large == name));
        let most = most.map_or(STACK_OF_OTHERS, |(_, most)| *most);
        if stack > most {
            println!("{name} takes {stack} bytes of stack, expected {most} at most");
            good = false;
        }
        calls += 1;
    }
    if calls < 25 {
        println!("only {calls} calls of VMBus were found");
        good = false;
    }
    if good {
        println!("{calls} calls of VMBus take no more stack than they may");
        println!("none of {} routines can reach a panic", ROUTINES.len() + NO_PANIC.len());
    }
    Ok(good)
}

/// Returns the parts of the panic machinery that a routine can reach.
fn panics(code: &Code, name: &str) -> Result<Vec<String>, Box<dyn std::error::Error>> {
    const WORDS: [&str; 4] = ["panic", "unwrap_failed", "expect_failed", "slice_index"];
    let reachable = code.reachable(name)?.into_iter();
    Ok(reachable.filter(|reached| WORDS.iter().any(|word| reached.contains(word))).collect())
}
