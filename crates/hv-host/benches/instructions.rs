//! Instructions of the hot paths in process: `cargo bench -p hv-host --bench instructions`.
//!
//! This program runs itself under valgrind's callgrind (Debian's package `valgrind`), each operation with two numbers
//! of repetitions: the difference is the operation's, whatever else the program does.

mod common;
mod operations;

use std::hint::black_box;
use std::process::{Command, ExitCode};

use operations::Measure;

/// Repetitions of the shorter run, and of the longer one.
const TIMES: [u64; 2] = [1000, 3000];
/// What operations are to take: instructions on x86-64.
const WANTED: [(&str, u64); 5] = [
    ("fast get of VP_INDEX", 59),
    ("signal of an event", 170),
    ("post of 240 bytes into a free slot", 300),
    ("post of 240 bytes through the queue to EOM", 600),
    ("one-shot timer by hypercall, armed and expired", 260),
];
/// Has the program repeat one operation: a name and a number follow.
const REPEAT: &str = "--repeat";

/// Lists the operations.
struct List(Vec<String>);

impl Measure for List {
    fn operation<T>(&mut self, name: &str, mut step: impl FnMut() -> T) {
        black_box(step());
        self.0.push(name.to_owned());
    }
}

/// Repeats one operation.
struct Repeat {
    name: String,
    times: u64,
}

impl Measure for Repeat {
    fn operation<T>(&mut self, name: &str, mut step: impl FnMut() -> T) {
        if name == self.name {
            for _ in 0..self.times {
                black_box(step());
            }
        }
    }
}

/// Checks whether valgrind is installed.
fn is_installed() -> bool {
    Command::new("valgrind").arg("--version").output().is_ok()
}

/// Returns the instructions of a run with this many repetitions.
fn instructions(name: &str, times: u64) -> Result<u64, String> {
    let program = std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(program);
    command.args([REPEAT, name, &times.to_string()]);
    let output = command.output();
    let output = output.map_err(|error| format!("cannot start valgrind: {error}"))?;
    let text = String::from_utf8_lossy(&output.stderr);
    let count = text.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok());
    count.filter(|_| output.status.success()).ok_or_else(|| format!("valgrind counts nothing:\n{text}"))
}

fn run(filter: &str) -> Result<(), String> {
    let mut list = List(Vec::new());
    operations::all(&mut list);
    println!("{:>9} {:>7}  operation", "insn", "wanted");
    for name in list.0.iter().filter(|name| name.contains(filter)) {
        let [short, long] = TIMES.map(|times| instructions(name, times));
        let each = (long? - short?) as f64 / (TIMES[1] - TIMES[0]) as f64;
        let wanted = WANTED.iter().find(|(of, _)| of == name).map(|(_, wanted)| wanted.to_string());
        println!("{each:9.1} {:>7}  {name}", wanted.unwrap_or_default());
    }
    Ok(())
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, name, times] = arguments.as_slice()
        && flag == REPEAT
    {
        let times = times.parse().unwrap_or_default();
        operations::all(&mut Repeat { name: name.clone(), times });
        return ExitCode::SUCCESS;
    }
    // `cargo test --benches` runs it too, to see that it works.
    if !arguments.iter().any(|argument| argument == "--bench") {
        operations::all(&mut List(Vec::new()));
        return ExitCode::SUCCESS;
    }
    // `cargo bench` runs the other benchmarks after this one.
    if !is_installed() {
        println!("nothing counted: valgrind is missing; install its package");
        return ExitCode::SUCCESS;
    }
    let filter = arguments.iter().find(|argument| !argument.starts_with('-'));
    match run(filter.map_or("", String::as_str)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
