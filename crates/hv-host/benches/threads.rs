//! Calls of VPs on threads of their own: `cargo bench -p hv-host --bench threads`.
//!
//! Each VP does what concerns itself alone: Get, Set, a message to itself up to its end, a timer. The table has the
//! calls in a second of all VPs together. They grow with the number of VPs up to the number of cores, since VPs share
//! no lock on these paths.

mod common;

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::{Bench, get_one, set_one, slot};
use hv_tlfs::register::RegisterName as Name;

/// Numbers of VPs.
const COUNTS: [usize; 4] = [1, 2, 8, 64];
/// Time of each figure.
const TIME: Duration = Duration::from_millis(1000);
/// Calls between two looks at the clock.
const BATCH: u64 = 256;

/// What a VP repeats.
type Work = fn(&Bench<'_>, usize) -> u64;

const WORK: [(&str, Work); 4] = [("get", get), ("set", set), ("message to EOM", message), ("timer", timer)];

fn get(bench: &Bench<'_>, vp: usize) -> u64 {
    let mut x = get_one(Name::SINT2);
    for _ in 0..BATCH {
        bench.again(vp, &mut x);
    }
    BATCH
}

fn set(bench: &Bench<'_>, vp: usize) -> u64 {
    let mut x = set_one(Name::SINT4, 20);
    for _ in 0..BATCH {
        bench.again(vp, &mut x);
    }
    BATCH
}

fn message(bench: &Bench<'_>, vp: usize) -> u64 {
    let (mut post, mut eom) = (bench.post_input(vp), set_one(Name::EOM, 0));
    for _ in 0..BATCH {
        assert_eq!(bench.again(vp, &mut post), 0);
        bench.clear(slot(vp));
        bench.again(vp, &mut eom);
    }
    BATCH
}

fn timer(bench: &Bench<'_>, vp: usize) -> u64 {
    let mut config = set_one(Name::STIMER0_CONFIG, 8 | 1 << 12 | 17 << 4);
    bench.again(vp, &mut config);
    let mut count = set_one(Name::STIMER0_COUNT, 1);
    for _ in 0..BATCH {
        // It is due at once.
        bench.again(vp, &mut count);
        bench.partition.timer_expired(&bench.host, vp);
    }
    BATCH
}

/// Returns the calls in a second of this many VPs together.
fn measured(count: usize, work: Work) -> f64 {
    common::with(count, |bench| {
        bench.host.set_counter(1 << 40);
        let (start, stop) = (Barrier::new(count + 1), AtomicBool::new(false));
        let (start, stop) = (&start, &stop);
        std::thread::scope(|scope| {
            let vp = |vp: usize| {
                move || {
                    start.wait();
                    let mut calls = 0;
                    while !stop.load(Ordering::Relaxed) {
                        calls += work(bench, vp);
                    }
                    calls
                }
            };
            let vps: Vec<_> = (0..count).map(|n| scope.spawn(vp(n))).collect();
            start.wait();
            let began = Instant::now();
            std::thread::sleep(TIME);
            stop.store(true, Ordering::Relaxed);
            let calls: u64 = vps.into_iter().map(|vp| vp.join().expect("a VP")).sum();
            calls as f64 / began.elapsed().as_secs_f64()
        })
    })
}

fn main() {
    // `cargo test --benches` runs it too, to see that it works.
    if !std::env::args().any(|argument| argument == "--bench") {
        let calls = common::with(2, |bench| WORK.map(|(_, work)| work(bench, 1)));
        assert_eq!(calls, [BATCH; WORK.len()]);
        return;
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    println!("millions of calls in a second, {cores} cores");
    println!("{:16}{}", "VPs", COUNTS.map(|count| format!("{count:>9}")).concat());
    for (name, work) in WORK {
        let figures = COUNTS.map(|count| format!("{:9.2}", measured(count, work) / 1e6));
        println!("{name:16}{}", figures.concat());
    }
}
