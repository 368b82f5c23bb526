//! A trace file: Perfetto's packets for viewing, and the records themselves for `hv trace`.

use std::io::{self, BufRead as _, BufReader, Read as _, Write};

use anyhow::{Context as _, bail, ensure};
use hv_trace::{NO_VP, Raw, Record};
use hv_wire::platform::MAX_VPS;
use prost::Message as _;
use zerocopy::{FromBytes as _, IntoBytes as _};

use super::perfetto::{OwnPacket, PACKET, Run, TracePacket};
use crate::input::Input;
use crate::setup::size::exact;

/// Number of records in a packet.
const BATCH: usize = 1024;
/// Maximum size of a packet: a batch of records takes 64 KiB, and a decoded packet up to 50 times its size.
const LONGEST: u64 = 1 << 20;

/// What a file is that is none of ours.
const NO_TRACE: &str = "not a trace of `hv boot --trace`";

impl Run {
    /// Returns the nanoseconds from the guest's counter 0 to a record's time.
    pub(crate) fn nanoseconds(&self, time: u64) -> u64 {
        let ticks = u128::from(time.saturating_sub(self.origin));
        let nanoseconds = ticks * 1_000_000_000 / u128::from(self.frequency.max(1));
        u64::try_from(nanoseconds).unwrap_or(u64::MAX)
    }

    /// Returns the number of records dropped by all VPs together.
    pub(crate) fn all_dropped(&self) -> u64 {
        self.dropped.iter().fold(0, |sum, &count| sum.saturating_add(count))
    }

    /// Returns the number of records of all VPs together for which the file has no room.
    pub(crate) fn all_left_out(&self) -> u64 {
        self.left_out.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Returns the number of records written by all VPs together and the console.
    pub(crate) fn all_recorded(&self) -> u64 {
        self.recorded.iter().fold(self.console, |sum, &count| sum.saturating_add(count))
    }

    /// Returns the name of a guest address, if it is known.
    pub(super) fn place(&self, pc: u64) -> Option<&str> {
        let place = self.places.binary_search_by_key(&pc, |place| place.pc).ok()?;
        self.places.get(place).map(|place| &*place.name)
    }

    /// Rejects a file whose description of the run is invalid.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        ensure!(
            self.version == hv_trace::VERSION,
            "the trace was written by another hv: its records have version {}, and this hv reads version {}; record it \
             again, or open it in Perfetto",
            self.version,
            hv_trace::VERSION
        );
        let most = self.recorded.len().max(self.dropped.len()).max(self.vps as usize);
        ensure!(most <= MAX_VPS, "the trace is damaged: it claims {most} VPs, expected at most {MAX_VPS}");
        Ok(())
    }

    /// Rejects a record of a VP that the run did not have.
    pub(super) fn has(&self, record: &Record) -> anyhow::Result<()> {
        let (vp, vps) = (record.vp, self.vps);
        ensure!(
            vp < vps || vp == NO_VP,
            "the trace is damaged: it has a record of VP {vp} in a run with {vps} VPs"
        );
        Ok(())
    }
}

/// Writer of packets.
pub(super) struct Writer<W> {
    out: W,
    batch: Vec<u8>,
    /// Number of bytes written.
    written: u64,
}

impl<W: Write> Writer<W> {
    pub(super) const fn new(out: W) -> Self {
        Self { out, batch: Vec::new(), written: 0 }
    }

    pub(super) fn packet(&mut self, packet: &TracePacket) -> io::Result<()> {
        let bytes = packet.encode_length_delimited_to_vec();
        self.written += 1 + bytes.len() as u64;
        self.out.write_all(&[PACKET])?;
        self.out.write_all(&bytes)
    }

    /// Returns the size of the file so far, including unwritten records.
    pub(super) const fn length(&self) -> u64 {
        self.written + self.batch.len() as u64
    }

    /// Writes a record unchanged.
    pub(super) fn record(&mut self, record: &Record) -> io::Result<()> {
        self.batch.extend_from_slice(record.encode().as_bytes());
        if self.batch.len() >= BATCH * size_of::<Raw>() { self.flush_records() } else { Ok(()) }
    }

    fn flush_records(&mut self) -> io::Result<()> {
        let records = std::mem::take(&mut self.batch);
        self.packet(&TracePacket { records, ..TracePacket::default() })
    }

    /// Writes the remaining records, and returns the file.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.close_batch()?;
        self.out.flush()?;
        Ok(self.out)
    }

    /// Writes the pending records.
    pub(super) fn close_batch(&mut self) -> io::Result<()> {
        if self.batch.is_empty() { Ok(()) } else { self.flush_records() }
    }
}

/// Reader of packets.
pub(super) struct Packets<R> {
    input: BufReader<R>,
}

impl Packets<Box<dyn io::Read>> {
    pub(super) fn open(file: &Input) -> anyhow::Result<Self> {
        let input = file.open().with_context(|| {
            format!("cannot open the trace {file}; give the file of `hv boot --trace`, or -")
        })?;
        Ok(Self::new(input))
    }
}

impl<R: io::Read> Packets<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input: BufReader::with_capacity(1 << 20, input) }
    }

    /// Returns the bytes of the next packet; `None` at the end.
    pub(super) fn next(&mut self) -> anyhow::Result<Option<Vec<u8>>> {
        let Some(&tag) = self.input.fill_buf()?.first() else { return Ok(None) };
        ensure!(tag == PACKET, "it is {NO_TRACE}: a packet begins with {tag:#x}, expected {PACKET:#x}");
        self.input.consume(1);
        let mut length = 0;
        for shift in (0..64).step_by(7) {
            let mut byte = [0];
            self.input.read_exact(&mut byte).context("the trace is truncated")?;
            length |= u64::from(byte[0] & 0x7f) << shift;
            if byte[0] & 0x80 == 0 {
                break;
            }
        }
        ensure!(
            length <= LONGEST,
            "it is {NO_TRACE}: it has a packet of {}, expected at most {}",
            exact(length),
            exact(LONGEST)
        );
        let mut bytes = Vec::new();
        let read = self.input.by_ref().take(length).read_to_end(&mut bytes)?;
        ensure!(read as u64 == length, "the trace is truncated");
        Ok(Some(bytes))
    }
}

/// The records of a trace file, in time order.
pub(super) struct Reader<R> {
    packets: Packets<R>,
    run: Run,
    batch: std::vec::IntoIter<Record>,
}

impl<R: io::Read> Reader<R> {
    pub(super) fn new(mut packets: Packets<R>) -> anyhow::Result<Self> {
        let first = packets.next()?.with_context(|| format!("it is {NO_TRACE}: it is empty"))?;
        let Some(run) = OwnPacket::decode(&*first).ok().and_then(|packet| packet.run) else {
            bail!("it is {NO_TRACE}: it has no description of a run");
        };
        run.check()?;
        Ok(Self { packets, run, batch: Vec::new().into_iter() })
    }

    /// Returns the description of the run.
    pub(super) const fn run(&self) -> &Run {
        &self.run
    }

    fn read(&mut self) -> anyhow::Result<Option<Record>> {
        loop {
            if let Some(record) = self.batch.next() {
                self.run.has(&record)?;
                return Ok(Some(record));
            }
            let Some(bytes) = self.packets.next()? else { return Ok(None) };
            let packet = OwnPacket::decode(&*bytes).context("the trace is damaged")?;
            if let Some(run) = packet.run {
                (self.run.left_out, self.run.console) = (run.left_out, run.console);
            }
            let chunks = packet.records.chunks_exact(size_of::<Raw>());
            ensure!(chunks.remainder().is_empty(), "the trace is damaged: it has a partial record");
            let raw = chunks.filter_map(|bytes| Raw::read_from_bytes(bytes).ok());
            self.batch = raw.map(|raw| Record::decode(&raw)).collect::<Vec<_>>().into_iter();
        }
    }
}

impl<R: io::Read> Iterator for Reader<R> {
    type Item = anyhow::Result<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}
