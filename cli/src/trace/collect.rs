//! Collects the records of a run: takes them out of the rings while it runs, keeps them in temporary files, and merges
//! them at its end.

use std::collections::{BinaryHeap, HashMap};
use std::fs::File;
use std::io::{BufReader, BufWriter, Read as _, Seek as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use std::{cmp, mem};

use anyhow::{Context as _, ensure};
use hv_trace::{Raw, Record, What};
use hv_wire::TraceRing;
use zerocopy::{FromZeros as _, IntoBytes as _};

use super::console::{Console, Lines};
use crate::machine::Ram;

/// Polling interval of empty rings.
const PAUSE: Duration = Duration::from_millis(1);
/// Number of records read at a time.
const CHUNK: usize = 4096;
/// Maximum number of guest addresses that are remembered for naming.
const MOST_PLACES: usize = 1 << 16;

/// Location of a run's rings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Region {
    /// Physical address.
    pub(crate) base: u64,
    /// Size in bytes.
    pub(crate) size: u64,
    /// Number of rings.
    pub(crate) vps: u32,
}

/// Result of the thread: the records of each VP, and the addresses of guests.
type Collected = anyhow::Result<(Vec<Spool>, Places)>;
/// Receiver of the console's bytes as they arrive.
pub(crate) type ConsoleTap = Box<dyn FnMut(&[u8]) + Send>;

/// A thread that empties the rings of a running machine.
#[derive(Debug)]
pub(crate) struct Collector {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Collected>>,
    lines: Lines,
}

/// Guest addresses, with VBAR_EL1 at that time.
type Places = HashMap<u64, u64>;

/// The recorded trace.
#[derive(Debug)]
pub(crate) struct Recording {
    spools: Vec<Spool>,
    console: Console,
    places: Places,
}

/// The records of one VP.
#[derive(Debug)]
struct Spool {
    ring: Ring,
    /// Unnamed, so nothing remains of it.
    file: BufWriter<File>,
    buffer: Vec<Raw>,
    /// Number of records taken out of the ring.
    recorded: u64,
    /// Number of these that are not in the file, because the trace has reached its maximum size.
    left_out: u64,
    /// Time of the last record that was taken.
    newest: u64,
}

/// A VP's ring, from the reader's side.
#[derive(Debug)]
struct Ring {
    base: u64,
    capacity: u64,
    tail: u64,
}

impl Collector {
    /// Starts the thread. The machine may start later. Records beyond `limit` bytes are dropped.
    pub(crate) fn start(ram: Ram, region: Region, limit: u64) -> anyhow::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let spools = (0..region.vps).map(|vp| Spool::new(&region, vp)).collect::<anyhow::Result<Vec<_>>>()?;
        let flag = Arc::clone(&stop);
        let newest = Arc::new(AtomicU64::new(0));
        let lines = Lines::new(Arc::clone(&newest))?;
        let thread = std::thread::Builder::new()
            .name("trace".into())
            .spawn(move || drain(&ram, spools, limit, &newest, &flag))?;
        Ok(Self { stop, thread: Some(thread), lines })
    }

    /// Returns a function that records the guest's console output.
    pub(crate) fn console(&self) -> ConsoleTap {
        let lines = self.lines.clone();
        Box::new(move |bytes| lines.hear(bytes))
    }

    /// Collects what remains in the rings. The machine has ended.
    pub(crate) fn finish(mut self) -> anyhow::Result<Recording> {
        self.stop.store(true, Ordering::Release);
        let thread = self.thread.take().context("the trace was already taken")?;
        let (spools, places) =
            thread.join().map_err(|_| anyhow::anyhow!("the thread that collects the trace panicked"))??;
        Ok(Recording { spools, places, console: self.lines.finish()? })
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
    }
}

/// Empties the rings until the machine has ended and they are empty.
///
/// `newest` is updated to the time of the newest collected record.
fn drain(
    ram: &Ram,
    mut spools: Vec<Spool>,
    limit: u64,
    newest: &AtomicU64,
    stop: &AtomicBool,
) -> anyhow::Result<(Vec<Spool>, Places)> {
    let mut places = Places::new();
    let mut room = limit / mem::size_of::<Raw>() as u64;
    loop {
        // Anything written before the end is visible after it.
        let last = stop.load(Ordering::Acquire);
        let mut found = false;
        for spool in &mut spools {
            found |= spool.take(ram, &mut room, &mut places)?;
            newest.fetch_max(spool.newest, Ordering::Relaxed);
        }
        if last {
            return Ok((spools, places));
        }
        if !found {
            std::thread::sleep(PAUSE);
        }
    }
}

impl Spool {
    fn new(region: &Region, vp: u32) -> anyhow::Result<Self> {
        let share = TraceRing::share_of(region.size, region.vps);
        let ring = Ring {
            base: region.base + u64::from(vp) * share,
            capacity: TraceRing::capacity_of(share),
            tail: 0,
        };
        ensure!(ring.capacity != 0, "the trace buffer is too small");
        let file = tempfile::tempfile().context("cannot create a temporary file for the trace")?;
        let buffer = vec![Raw::new_zeroed(); CHUNK];
        Ok(Self { ring, file: BufWriter::new(file), buffer, recorded: 0, left_out: 0, newest: 0 })
    }

    /// Collects the available records, and keeps those for which there is room; returns false if there were none.
    fn take(&mut self, ram: &Ram, room: &mut u64, places: &mut Places) -> anyhow::Result<bool> {
        let ring = &mut self.ring;
        let capacity = ring.capacity;
        // A read of eight bytes may not be atomic, and a torn one may be too far ahead; two reads are not both torn
        // that way.
        let head = cmp::min(ring.head(ram)?, ring.head(ram)?);
        let new = head.saturating_sub(ring.tail).min(capacity);
        let end = ring.tail + new;
        while ring.tail < end {
            let place = ring.tail % capacity;
            let count = (end - ring.tail).min(capacity - place).min(CHUNK as u64);
            let records = &mut self.buffer[..usize::try_from(count)?];
            let address = ring.base + TraceRing::HEAD_BYTES + place * mem::size_of::<Raw>() as u64;
            ram.read_into(address, records.as_mut_bytes())?;
            let fits = count.min(*room);
            let kept = &records[..usize::try_from(fits)?];
            kept.iter().for_each(|raw| note(places, &Record::decode(raw).what));
            self.newest = kept.last().map_or(self.newest, |raw| raw.time);
            self.file.write_all(kept.as_bytes()).context("cannot write the temporary file of the trace")?;
            *room -= fits;
            self.left_out += count - fits;
            ring.tail += count;
            ram.write(ring.base + mem::offset_of!(TraceRing, tail) as u64, &ring.tail.to_le_bytes())?;
            self.recorded += count;
        }
        Ok(new != 0)
    }

    /// Returns the file, rewound to its start.
    fn rewound(self) -> anyhow::Result<BufReader<File>> {
        let mut file = self
            .file
            .into_inner()
            .map_err(|error| error.into_error())
            .context("cannot write the temporary file of the trace")?;
        file.rewind()?;
        Ok(BufReader::with_capacity(1 << 16, file))
    }
}

/// Remembers the guest address of a record.
fn note(places: &mut Places, what: &What) {
    let (pc, vectors) = match *what {
        What::Exit { pc, vectors, .. } => (pc, vectors),
        What::Finding { pc, callers, .. } | What::Fault { pc, callers, .. } => {
            let vectors = places.get(&pc).copied().unwrap_or_default();
            for caller in callers.into_iter().filter(|caller| *caller != 0) {
                if places.len() < MOST_PLACES {
                    places.entry(caller).or_insert(vectors);
                }
            }
            return;
        }
        _ => return,
    };
    if places.len() < MOST_PLACES || places.contains_key(&pc) {
        places.insert(pc, vectors);
    }
}

impl Ring {
    fn head(&self, ram: &Ram) -> anyhow::Result<u64> {
        Ok(*ram.read(self.base + mem::offset_of!(TraceRing, head) as u64)?)
    }

    fn dropped(&self, ram: &Ram) -> anyhow::Result<u64> {
        Ok(*ram.read(self.base + mem::offset_of!(TraceRing, dropped) as u64)?)
    }
}

impl Recording {
    /// Returns the number of console records.
    pub(crate) const fn console(&self) -> u64 {
        self.console.records
    }

    /// Iterates over the guest addresses, with VBAR_EL1 at that time, in address order.
    pub(crate) fn places(&self) -> impl Iterator<Item = (u64, u64)> {
        let mut places: Vec<_> = self.places.iter().map(|(pc, vectors)| (*pc, *vectors)).collect();
        places.sort_unstable();
        places.into_iter()
    }

    /// Returns the number of records that each VP wrote.
    pub(crate) fn recorded(&self) -> Vec<u64> {
        self.spools.iter().map(|spool| spool.recorded).collect()
    }

    /// Returns the number of each VP's records that were dropped because the trace has reached its maximum size.
    pub(crate) fn left_out(&self) -> Vec<u64> {
        self.spools.iter().map(|spool| spool.left_out).collect()
    }

    /// Returns the number of records that each VP had to drop.
    pub(crate) fn dropped(&self, ram: &Ram) -> anyhow::Result<Vec<u64>> {
        self.spools.iter().map(|spool| spool.ring.dropped(ram)).collect()
    }

    /// Returns all records in time order.
    pub(crate) fn merged(self) -> anyhow::Result<Merged> {
        let mut inputs = self.spools.into_iter().map(Spool::rewound).collect::<anyhow::Result<Vec<_>>>()?;
        inputs.push(BufReader::with_capacity(1 << 16, self.console.file));
        let mut merged = Merged { inputs, next: BinaryHeap::new() };
        for index in 0..merged.inputs.len() {
            merged.read(index)?;
        }
        Ok(merged)
    }
}

/// The merged records of all VPs. Each VP's records are already in time order.
pub(crate) struct Merged {
    inputs: Vec<BufReader<File>>,
    next: BinaryHeap<Next>,
}

/// The next record of a VP.
struct Next {
    record: Record,
    input: usize,
}

impl Next {
    /// Orders by time, earliest first (as the greatest); at equal times the first VP comes first, and the console last.
    fn key(&self) -> cmp::Reverse<(u64, usize)> {
        cmp::Reverse((self.record.time, self.input))
    }
}

impl Ord for Next {
    fn cmp(&self, other: &Self) -> cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

impl PartialOrd for Next {
    fn partial_cmp(&self, other: &Self) -> Option<cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Next {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Next {}

impl Merged {
    fn read(&mut self, input: usize) -> anyhow::Result<()> {
        let mut raw = Raw::new_zeroed();
        match self.inputs[input].read_exact(raw.as_mut_bytes()) {
            Ok(()) => self.next.push(Next { record: Record::decode(&raw), input }),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {}
            Err(error) => return Err(error).context("cannot read the trace back"),
        }
        Ok(())
    }
}

impl Iterator for Merged {
    type Item = anyhow::Result<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        let Next { record, input } = self.next.pop()?;
        Some(self.read(input).map(|()| record))
    }
}

#[cfg(test)]
mod tests {
    use hv_wire::platform::RAM_BASE;

    use super::*;

    const REGION: Region = Region { base: RAM_BASE + 0x20_0000, size: 0x3000, vps: 2 };
    /// A ring of 4096 bytes for each VP.
    const CAPACITY: u64 = 63;

    /// The hypervisor's side of a ring.
    struct Source<'a> {
        ram: &'a Ram,
        base: u64,
        head: u64,
    }

    impl<'a> Source<'a> {
        fn new(ram: &'a Ram, vp: u64) -> Self {
            Self { ram, base: REGION.base + vp * 0x1000, head: 0 }
        }

        fn push(&mut self, time: u64) {
            let ring = *self.ram.read::<TraceRing>(self.base).unwrap();
            if self.head - ring.tail >= CAPACITY {
                let dropped = (ring.dropped + 1).to_le_bytes();
                return self
                    .ram
                    .write(self.base + mem::offset_of!(TraceRing, dropped) as u64, &dropped)
                    .unwrap();
            }
            let record = Record { time, vp: 0, what: What::Enter {} }.encode();
            let place = TraceRing::HEAD_BYTES + self.head % CAPACITY * 64;
            self.ram.write(self.base + place, record.as_bytes()).unwrap();
            self.head += 1;
            self.ram.write(self.base, &self.head.to_le_bytes()).unwrap();
        }
    }

    fn ram() -> Ram {
        Ram::new(0x20_3000).unwrap()
    }

    fn spools() -> Vec<Spool> {
        (0..2).map(|vp| Spool::new(&REGION, vp).unwrap()).collect()
    }

    fn recording(spools: Vec<Spool>) -> Recording {
        let lines = Lines::new(Arc::default()).unwrap();
        Recording { spools, places: Places::new(), console: lines.finish().unwrap() }
    }

    #[test]
    fn records_come_out_in_the_order_of_their_times() {
        let ram = ram();
        let mut spools = spools();
        let (mut first, mut second) = (Source::new(&ram, 0), Source::new(&ram, 1));
        for round in 0..10 {
            for time in 0..40 {
                first.push(round * 100 + time);
                second.push(round * 100 + time * 2);
            }
            for spool in &mut spools {
                assert!(spool.take(&ram, &mut 1000, &mut Places::new()).unwrap());
                assert!(!spool.take(&ram, &mut 1000, &mut Places::new()).unwrap());
            }
        }
        let recording = recording(spools);
        assert_eq!(recording.recorded(), [400, 400]);
        assert_eq!(recording.dropped(&ram).unwrap(), [0, 0]);
        let times: Vec<u64> = recording.merged().unwrap().map(|record| record.unwrap().time).collect();
        assert_eq!(times.len(), 800);
        assert!(times.is_sorted());
    }

    #[test]
    fn what_a_full_ring_drops_is_counted() {
        let ram = ram();
        let mut source = Source::new(&ram, 1);
        for time in 0..100 {
            source.push(time);
        }
        let mut spools = spools();
        assert!(spools[1].take(&ram, &mut 1000, &mut Places::new()).unwrap());
        source.push(100);
        assert!(spools[1].take(&ram, &mut 1000, &mut Places::new()).unwrap());
        let recording = recording(spools);
        assert_eq!(recording.recorded(), [0, CAPACITY + 1]);
        assert_eq!(recording.dropped(&ram).unwrap(), [0, 100 - CAPACITY]);
        assert_eq!(recording.merged().unwrap().last().unwrap().unwrap().time, 100);
    }

    #[test]
    fn a_head_that_makes_no_sense_yields_no_more_than_a_ring_full() {
        let ram = ram();
        ram.write(REGION.base, &u64::MAX.to_le_bytes()).unwrap();
        let mut spool = Spool::new(&REGION, 0).unwrap();
        assert!(spool.take(&ram, &mut 1000, &mut Places::new()).unwrap());
        assert_eq!(spool.recorded, CAPACITY);
    }

    #[test]
    fn what_is_beyond_the_limit_is_taken_out_of_the_ring_and_counted() {
        let ram = ram();
        let mut spools = spools();
        let (mut first, mut second) = (Source::new(&ram, 0), Source::new(&ram, 1));
        let mut room = 70;
        for round in 0..3 {
            (0..20).for_each(|time| first.push(round * 100 + time));
            (0..20).for_each(|time| second.push(round * 100 + time));
            for spool in &mut spools {
                assert!(spool.take(&ram, &mut room, &mut Places::new()).unwrap());
            }
        }
        let recording = recording(spools);
        assert_eq!((recording.recorded(), recording.left_out()), (vec![60, 60], vec![20, 30]));
        assert_eq!(recording.dropped(&ram).unwrap(), [0, 0]);
        assert_eq!(recording.merged().unwrap().count(), 70);
    }

    #[test]
    fn the_thread_takes_what_is_left_at_the_end() {
        let ram = ram();
        let collector = Collector::start(ram.clone(), REGION, 1 << 20).unwrap();
        Source::new(&ram, 0).push(7);
        let recording = collector.finish().unwrap();
        assert_eq!(recording.recorded(), [1, 0]);
    }
}
