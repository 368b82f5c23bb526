//! A well-behaved driver of a disk on VP 0, which checks every answer and every byte.

use core::ops::Range;

use hv_tlfs::vmbus::storage::{DIRECTION_NONE, DIRECTION_READ, DIRECTION_WRITE};
use hv_tlfs::vmbus::{PacketType, guid, scsi, storage};

use super::bus;
use super::memory::{DATA, Memory, PAGE};
use super::packet::{Packet, bytes, halves};
use super::ring::{Inward, Lie, Outward, Received};
use crate::check::Check;
use crate::rng::Rng;

/// The first bytes of the vendor in the answer to INQUIRY.
const VENDOR: u32 = u32::from_le_bytes(*b"Msft");
const BLOCK: usize = 512;
/// What is written, and where it is read to.
const WRITTEN: Range<usize> = DATA.start..DATA.start + 4;
const READ: Range<usize> = WRITTEN.end..WRITTEN.end + 4;

/// Builds the words of a SCSI request up to its command (`vmscsi_request`), behind the packet's header
/// (`vstor_packet`).
pub(super) fn request(
    operation: u32,
    [target, lun]: [u8; 2],
    direction: u8,
    transfer: u32,
    cdb: [u8; 16],
) -> [u32; 16] {
    let mut words = [0; 16];
    words[..3].copy_from_slice(&[operation, 1, 0]);
    words[3] = halves(52, 0);
    words[4] = bytes([0, 0, target, lun]);
    // The length of the command's group (SPC-4, "Operation code").
    let len = [6, 10, 10, 16, 16, 12, 16, 16][usize::from(cdb[0] >> 5)];
    words[5] = bytes([len, 20, direction, 0]);
    words[6] = transfer;
    for (word, part) in words[7..].iter_mut().zip(cdb.chunks_exact(4)) {
        *word = bytes([part[0], part[1], part[2], part[3]]);
    }
    words
}

/// Builds a command that reads or writes some blocks.
pub(super) fn transfer(operation: u8, first: u32, count: usize) -> [u8; 16] {
    let [a, b, c, d] = first.to_be_bytes();
    [operation, 0, a, b, c, d, 0, 0, count as u8, 0, 0, 0, 0, 0, 0, 0]
}

/// The driver, and the disk.
#[derive(Debug)]
pub(super) struct Disk {
    connection: u64,
    number: u32,
    out: Outward,
    inward: Inward,
    memory: Memory,
    rng: Rng,
    last_id: u64,
    blocks: u32,
    /// The first of the blocks that were written last, and their number. What was written is still in its pages.
    last: Option<(u32, usize)>,
    /// Commands that were carried out.
    pub(super) commands: u64,
}

impl Disk {
    /// Opens the first controller, and negotiates as Linux does.
    pub(super) fn new(check: &mut Check, seed: u64) -> Option<Self> {
        let Some(number) = bus::primaries(guid::SCSI).next() else {
            check.wrong("a SCSI controller", "is not offered");
            return None;
        };
        let memory = Memory::of(0);
        let (out, inward) = (Outward::new(memory), Inward::new(memory));
        if !bus::open_rings(number, 0, 0) {
            check.wrong("the SCSI controller", "cannot be opened");
            return None;
        }
        let connection = bus::connection(number);
        let rng = Rng::new(seed);
        let mut disk = Self {
            connection,
            number,
            out,
            inward,
            memory,
            rng,
            last_id: 0,
            blocks: 0,
            last: None,
            commands: 0,
        };
        for (operation, word) in [
            (storage::Operation::BEGIN_INITIALIZATION, 0),
            (storage::Operation::QUERY_PROTOCOL_VERSION, u32::from(storage::VERSION_6_2)),
            (storage::Operation::QUERY_PROPERTIES, 0),
            (storage::Operation::END_INITIALIZATION, 0),
        ] {
            let mut words = [0; 16];
            (words[0], words[1], words[3]) = (operation.0, 1, word);
            let id = disk.next_id();
            let answer = disk.ask(check, &Packet::in_band(id, &words))?;
            check.equal((operation, "its status"), answer.words[2], 0);
        }
        // The first command after a reset may meet a unit attention.
        let _ = disk.command(check, [scsi::OP_TEST_UNIT_READY; 16].map(|_| 0), DIRECTION_NONE, 0, READ);
        disk.blocks = disk.capacity(check)?;
        check.holds(("blocks", disk.blocks), disk.blocks >= 64);
        Some(disk)
    }

    /// Returns the connection of its channel.
    pub(super) fn connection(&self) -> u64 {
        self.connection
    }

    fn next_id(&mut self) -> u64 {
        // No page's number (`Memory::store`).
        self.last_id = self.last_id % 0xffff + 1;
        self.last_id
    }

    /// Sends a packet and waits for its completion, which comes once.
    fn ask(&mut self, check: &mut Check, packet: &Packet) -> Option<Received> {
        if !self.out.has_room(packet) {
            check.wrong("the ring", "is full");
            return None;
        }
        self.out.put(packet, Lie::None);
        bus::signal(self.connection);
        let mut answer = None;
        bus::answered(|| {
            answer = self.inward.take();
            answer.is_some()
        });
        let Some(answer) = answer else {
            check.wrong(("packet", packet.id), "is not answered");
            return None;
        };
        check.equal("the answer", (answer.kind, answer.id), (PacketType::COMPLETION, packet.id));
        check.equal("its operation", answer.words[0], storage::Operation::COMPLETE_IO.0);
        Some(answer)
    }

    /// Carries out a command with this much data in some pages. Returns its SRB and SCSI status, and the bytes moved.
    fn command(
        &mut self,
        check: &mut Check,
        cdb: [u8; 16],
        direction: u8,
        transfer: u32,
        pages: Range<usize>,
    ) -> Option<(u8, u8, u32)> {
        let id = self.next_id();
        let words = request(storage::Operation::EXECUTE_SRB.0, [0, 0], direction, transfer, cdb);
        let packet = if transfer == 0 {
            Packet::in_band(id, &words)
        } else {
            let listed = pages.take((transfer as usize).div_ceil(PAGE));
            let mut packet = Packet::direct(id, transfer, listed.map(|page| self.memory.number(page)));
            packet.words(&words);
            packet
        };
        let answer = self.ask(check, &packet)?;
        let [_, _, srb, scsi] = answer.words[3].to_le_bytes();
        self.commands += 1;
        Some((srb, scsi, answer.words[6]))
    }

    /// Carries out a command that moves all of its data.
    fn good(
        &mut self,
        check: &mut Check,
        cdb: [u8; 16],
        direction: u8,
        transfer: u32,
        pages: Range<usize>,
    ) -> Option<()> {
        let outcome = self.command(check, cdb, direction, transfer, pages)?;
        check.equal(("command", cdb), outcome, (storage::SrbStatus::SUCCESS.0, scsi::GOOD, transfer));
        Some(())
    }

    /// Reads the number of blocks.
    fn capacity(&mut self, check: &mut Check) -> Option<u32> {
        let mut cdb = [0; 16];
        cdb[0] = scsi::OP_READ_CAPACITY;
        self.good(check, cdb, DIRECTION_READ, 8, READ)?;
        let last = self.memory.load(READ.start * PAGE).swap_bytes();
        let block = self.memory.load(READ.start * PAGE + 4).swap_bytes();
        check.equal("bytes of a block", block, BLOCK as u32);
        Some(last.wrapping_add(1))
    }

    /// Compares the blocks that were written last, which the attackers have had time to touch since. Then writes some
    /// blocks, reads them again and compares; asks who the disk is, and how large.
    pub(super) fn round(&mut self, check: &mut Check) -> Option<()> {
        if let Some(last) = self.last {
            self.compare(check, last)?;
        }
        // Where commands of the attackers have their blocks on the other disk (`class::storage`).
        let count = 1 + self.rng.below(32) as usize;
        let first = self.rng.below(u64::from(self.blocks.min(96)) - count as u64) as u32;
        for offset in (0..count * BLOCK).step_by(4) {
            self.memory.store(WRITTEN.start * PAGE + offset, self.rng.next() as u32);
        }
        let written = transfer(scsi::OP_WRITE_10, first, count);
        self.good(check, written, DIRECTION_WRITE, (count * BLOCK) as u32, WRITTEN)?;
        self.last = Some((first, count));
        self.compare(check, (first, count))?;
        let mut cdb = [0; 16];
        (cdb[0], cdb[4]) = (scsi::OP_INQUIRY, 36);
        self.good(check, cdb, DIRECTION_READ, 36, READ)?;
        check.equal("the vendor", self.memory.load(READ.start * PAGE + 8), VENDOR);
        let blocks = self.capacity(check)?;
        check.equal("blocks", blocks, self.blocks);
        Some(())
    }

    /// Reads blocks, and compares them with what was written.
    fn compare(&mut self, check: &mut Check, (first, count): (u32, usize)) -> Option<()> {
        let len = count * BLOCK;
        for offset in (0..len).step_by(4) {
            self.memory.store(READ.start * PAGE + offset, 0);
        }
        self.good(check, transfer(scsi::OP_READ_10, first, count), DIRECTION_READ, len as u32, READ)?;
        for offset in (0..len).step_by(4) {
            let word = |pages: Range<usize>| self.memory.load(pages.start * PAGE + offset);
            check.equal((first, count, offset), word(READ), word(WRITTEN));
        }
        Some(())
    }

    /// Closes its channel.
    pub(super) fn close(self, check: &mut Check) {
        let list = bus::list_id(0, 0);
        bus::close(self.number);
        bus::tear_down(self.number, list);
        check.holds("its rings come back", bus::is_torn_down(list));
    }
}
