//! Storage: the commands of a disk. None of them changes what is on it.

use hv_tlfs::vmbus::scsi::{
    CHECK_CONDITION, GOOD, KEY_ILLEGAL_REQUEST, OP_INQUIRY, OP_MODE_SENSE, OP_READ_10, OP_READ_16,
    OP_READ_CAPACITY, OP_REPORT_LUNS, OP_SERVICE_ACTION_IN_16, OP_SYNCHRONIZE_CACHE, OP_TEST_UNIT_READY,
    OP_VERIFY,
};
use hv_tlfs::vmbus::storage::{AUTOSENSE_VALID, ScsiRequest, SrbStatus};

use crate::cx::{Channel, Cx};
use crate::outcome::{Outcome, Stop};

use super::super::on_scsi;
use super::storage::{Request, execute, initialize, inquire, request};

cases! {
    "vmbus_scsi";
    "SPC-4", "REPORT LUNS":
        the_list_of_units_has_whole_entries,
        the_list_of_units_names_those_that_answer;
    "SPC-4", "INQUIRY":
        an_inquiry_describes_a_disk,
        an_inquiry_is_cut_to_the_allocation_length,
        a_page_code_without_evpd_is_refused,
        the_list_of_pages_names_itself,
        a_page_that_is_listed_exists,
        a_page_that_is_not_listed_is_refused;
    "OpenVMM, scsidisk", "lib.rs: INQUIRY":
        a_disk_is_microsofts;
    "SPC-4", "Sense data":
        an_unknown_command_is_refused,
        a_refusal_comes_with_sense_data,
        a_refusal_moves_no_data;
    "SPC-4", "MODE SENSE(6)":
        all_mode_pages_can_be_read;
    "SPC-4", "TEST UNIT READY":
        a_disk_is_ready;
    "SBC-3", "READ CAPACITY(10)":
        a_disk_has_blocks,
        both_capacities_are_equal;
    "SBC-3", "READ(10)":
        a_block_is_read,
        a_block_is_read_as_before,
        the_long_read_reads_the_same,
        a_block_is_read_into_a_part_of_a_page,
        a_block_is_read_into_two_pages,
        a_read_without_blocks_succeeds,
        a_read_beyond_the_end_is_refused;
    "SBC-3", "VERIFY(10)":
        a_verification_beyond_the_end_is_refused;
    "SBC-3", "SYNCHRONIZE CACHE(10)":
        the_cache_is_written_back;
}

/// A disk: its number among the units of target 0, and its size.
struct Disk {
    lun: u8,
    /// The last block, or all ones if the number is longer.
    last: u32,
    block: u32,
}

/// Returns the numbers of the units of target 0.
fn units(channel: &Channel<'_, '_, '_>) -> Result<[u8; 1032], Stop> {
    let cdb = [OP_REPORT_LUNS, 0, 0, 0, 0, 0, 0, 0, 4, 8, 0, 0];
    let (answer, page) = request(channel, 0, &cdb, 1032)?;
    check_eq!(answer.srb_status & 0x3f, SrbStatus::SUCCESS.0);
    let mut list = [0; 1032];
    channel.bus.cx.env.read(page, &mut list);
    Ok(list)
}

fn be32(bytes: &[u8]) -> u32 {
    bytes[..4].iter().fold(0, |word, byte| word << 8 | u32::from(*byte))
}

/// Runs something with the first disk of a controller. Skips without one.
fn on_disk(cx: &Cx<'_>, work: impl FnOnce(&Channel<'_, '_, '_>, &Disk) -> Outcome) -> Outcome {
    on_scsi(cx, |channel| {
        initialize(channel)?;
        let list = units(channel)?;
        let count = (be32(&list) / 8).min(128) as usize;
        for entry in list[8..].chunks_exact(8).take(count) {
            let lun = entry[1];
            // What a unit has to tell first, such as a reset, it tells now.
            for _ in 0..3 {
                ready(channel, lun)?;
            }
            let (answer, page) = request(channel, lun, &capacity10(), 8)?;
            let [last, block] = [page, page + 4].map(|at| {
                let mut bytes = [0; 4];
                cx.env.read(at, &mut bytes);
                be32(&bytes)
            });
            if answer.srb_status & 0x3f == SrbStatus::SUCCESS.0 && answer.scsi_status == GOOD && block == 512
            {
                return work(channel, &Disk { lun, last, block });
            }
        }
        Err(Stop::Skip("the controller has no disk with blocks of 512 bytes"))
    })
}

fn ready(channel: &Channel<'_, '_, '_>, lun: u8) -> Result<ScsiRequest, Stop> {
    Ok(request(channel, lun, &[OP_TEST_UNIT_READY, 0, 0, 0, 0, 0], 0)?.0)
}

fn capacity10() -> [u8; 10] {
    [OP_READ_CAPACITY, 0, 0, 0, 0, 0, 0, 0, 0, 0]
}

/// Returns READ(10) of this many blocks.
fn read10(block: u32, count: u8) -> [u8; 10] {
    let [a, b, c, d] = block.to_be_bytes();
    [OP_READ_10, 0, a, b, c, d, 0, 0, count, 0]
}

/// Checks that a request was carried out, and moved this many bytes.
fn good(answer: &ScsiRequest, bytes: u32) -> Outcome {
    check_eq!(answer.srb_status & 0x3f, SrbStatus::SUCCESS.0);
    check_eq!(answer.scsi_status, GOOD);
    check_eq!(answer.transfer_length, bytes);
    Ok(())
}

/// Checks that a request was refused with this sense.
fn refused(answer: &ScsiRequest, key: u8, code: u8) -> Outcome {
    check_eq!(answer.srb_status & 0x3f, SrbStatus::ERROR.0);
    check_eq!(answer.srb_status & AUTOSENSE_VALID, AUTOSENSE_VALID);
    check_eq!(answer.scsi_status, CHECK_CONDITION);
    check_eq!(answer.cdb_or_sense[2] & 0xf, key);
    check_eq!(answer.cdb_or_sense[12], code);
    Ok(())
}

fn bytes<const LEN: usize>(channel: &Channel<'_, '_, '_>, gpa: u64) -> [u8; LEN] {
    let mut bytes = [0; LEN];
    channel.bus.cx.env.read(gpa, &mut bytes);
    bytes
}

fn the_list_of_units_has_whole_entries(cx: &Cx<'_>) -> Outcome {
    on_scsi(cx, |channel| {
        initialize(channel)?;
        let list = units(channel)?;
        check_eq!(be32(&list) % 8, 0);
        check_eq!(be32(&list[4..]), 0);
        Ok(())
    })
}

fn the_list_of_units_names_those_that_answer(cx: &Cx<'_>) -> Outcome {
    on_scsi(cx, |channel| {
        initialize(channel)?;
        let list = units(channel)?;
        let count = (be32(&list) / 8).min(64) as usize;
        let named = || list[8..].chunks_exact(8).take(count).map(|entry| entry[1]);
        let answers = |lun| -> Result<bool, Stop> {
            Ok(ready(channel, lun)?.srb_status & 0x3f != SrbStatus::INVALID_LUN.0)
        };
        for lun in named().take(8) {
            check!(answers(lun)?);
        }
        for lun in 0..4 {
            check!(!answers(lun)? || named().any(|other| other == lun));
        }
        Ok(())
    })
}

fn an_inquiry_describes_a_disk(cx: &Cx<'_>) -> Outcome {
    on_disk(cx, |channel, disk| {
        let (answer, page) = inquire(channel, disk.lun)?;
        good(&answer, 36)?;
        let data: [u8; 36] = bytes(channel, page);
        check_eq!(data[0], 0);
        check_eq!(data[3] & 0xf, 2);
        check!(data[4] >= 31);
        Ok(())
    })
}

fn an_inquiry_is_cut_to_the_allocation_length(cx: &Cx<'_>) -> Outcome {
    on_disk(cx, |channel, disk| {
        let (answer, page) = request(channel, disk.lun, &[OP_INQUIRY, 0, 0, 0, 8, 0], 64)?;
        good(&answer, 8)?;
        check!(bytes::<56>(channel, page + 8) == [0; 56]);
        Ok(())
    })
}

fn a_page_code_without_evpd_is_refused(cx: &Cx<'_>) -> Outcome {
    on_disk(cx, |channel, disk| {
        let (answer, _) = request(channel, disk.lun, &[OP_INQUIRY, 0, 0x80, 0, 64, 0], 64)?;
        refused(&answer, KEY_ILLEGAL_REQUEST, 0x24)
    })
}

/// Reads a page of vital product data.
fn vital(channel: &Channel<'_, '_, '_>, lun: u8, page: u8) -> Result<(ScsiRequest, [u8; 252]), Stop> {
    let (answer, at) = request(channel, lun, &[OP_INQUIRY, 1, page, 0, 252, 0], 252)?;
    Ok((answer, bytes(channel, at)))
}

fn the_list_of_pages_names_itself(cx: &Cx<'_>) -> Outcome {
    on_disk(cx, |channel, disk| {
        let (answer, data) = vital(channel, disk.lun, 0)?;
        let len = data[3];
        good(&answer, u32::from(len) + 4)?;
        check_eq!(data[1], 0);
        check_eq!(data[4], 0);
        Ok(())
    })
}

fn a_page_that_is_listed_exists(cx: &Cx<'_>) -> Outcome {
    on_disk(cx, |channel, disk| {
        let (_, list) = vital(channel, disk.lun, 0)?;
        for page in &list[4..4 + usize::from(list[3]).min(16)] {
            let (answer, data) = vital(channel, disk.lun, *page)?;
            check_eq!(answer.srb_status & 0x3f, SrbStatus::SUCCESS.0);
            check_eq!(data[1], *page);
        }
        Ok(())
    })
}

fn a_page_that_is_not_listed_is_refused(cx: &Cx<'_>) -> Outcome {
    on_disk(cx, |channel, disk| {
        let (answer, _) = vital(channel, disk.lun, 0x7e)?;
        refused(&answer, KEY_ILLEGAL_REQUEST, 0x24)
    })
}

fn a_disk_is_microsofts(cx: &Cx<'_>) -> Outcome {
    on_disk(cx, |channel, disk| {
        let (_, page) = inquire(channel, disk.lun)?;
        check!(bytes(channel, page + 8) == *b"Msft    ");
        Ok(())
    })
}

/// Makes a request with a command that no disk knows.
fn unknown(channel: &Channel<'_, '_, '_>, disk: &Disk) -> Result<(ScsiRequest, u64), Stop> {
    request(channel, disk.lun, &[0xff, 0, 0, 0, 0, 0], 64)
}

fn an_unknown_command_is_refused(cx: &Cx<'_>) -> Outcome {
    on_disk(cx, |channel, disk| refused(&unknown(channel, disk)?.0, KEY_ILLEGAL_REQUEST, 0x20))
}

fn a_refusal_comes_with_sense_data(cx: &Cx<'_>) -> Outcome {
    on_disk(cx, |channel, disk| {
        let (answer, _) = unknown(channel, disk)?;
        check_eq!(answer.cdb_or_sense[0] & 0x7f, 0x70);
        check!((14..=20).contains(&answer.sense_length));
        check!(answer.cdb_or_sense[7] <= 12);
        Ok(())
    })
}

fn a_refusal_moves_no_data(cx: &Cx<'_>) -> Outcome {
    on_disk(cx, |channel, disk| {
        let (answer, page) = unknown(channel, disk)?;
        check_eq!(answer.transfer_length, 0);
        check!(bytes::<64>(channel, page) == [0; 64]);
        Ok(())
    })
}

fn all_mode_pages_can_be_read(cx: &Cx<'_>) -> Outcome {
    on_disk(cx, |channel, disk| {
        let (answer, page) = request(channel, disk.lun, &[OP_MODE_SENSE, 0, 0x3f, 0, 192, 0], 192)?;
        check_eq!(answer.srb_status & 0x3f, SrbStatus::SUCCESS.0);
        let data: [u8; 4] = bytes(channel, page);
        good(&answer, u32::from(data[0]) + 1)
    })
}

fn a_disk_is_ready(cx: &Cx<'_>) -> Outcome {
    on_disk(cx, |channel, disk| good(&ready(channel, disk.lun)?, 0))
}

fn a_disk_has_blocks(cx: &Cx<'_>) -> Outcome {
    on_disk(cx, |channel, disk| {
        check!(disk.last > 0);
        good(&request(channel, disk.lun, &capacity10(), 8)?.0, 8)
    })
}

fn both_capacities_are_equal(cx: &Cx<'_>) -> Outcome {
    on_disk(cx, |channel, disk| {
        let cdb = [OP_SERVICE_ACTION_IN_16, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0];
        let (answer, page) = request(channel, disk.lun, &cdb, 32)?;
        good(&answer, 32)?;
        let data: [u8; 12] = bytes(channel, page);
        let last = u64::from(be32(&data)) << 32 | u64::from(be32(&data[4..]));
        check_eq!(u32::try_from(last).unwrap_or(u32::MAX), disk.last);
        check_eq!(be32(&data[8..]), disk.block);
        Ok(())
    })
}

/// Reads a block.
fn block(channel: &Channel<'_, '_, '_>, disk: &Disk, number: u32) -> Result<[u8; 512], Stop> {
    let (answer, page) = request(channel, disk.lun, &read10(number, 1), disk.block)?;
    good(&answer, disk.block)?;
    Ok(bytes(channel, page))
}

fn a_block_is_read(cx: &Cx<'_>) -> Outcome {
    on_disk(cx, |channel, disk| {
        let page = cx.page()?;
        cx.fill(page, 0xa5);
        let cdb = read10(0, 1);
        let whole = Request { lun: disk.lun, cdb: &cdb, offset: 0, len: 512, pages: &[page / 4096] };
        good(&execute(channel, &whole)?, 512)?;
        check!(bytes(channel, page) != [0xa5; 512]);
        check!(bytes(channel, page + 512) == [0xa5; 512]);
        Ok(())
    })
}

fn a_block_is_read_as_before(cx: &Cx<'_>) -> Outcome {
    on_disk(cx, |channel, disk| {
        for number in [0, 1, disk.last] {
            check!(block(channel, disk, number)? == block(channel, disk, number)?);
        }
        Ok(())
    })
}

fn the_long_read_reads_the_same(cx: &Cx<'_>) -> Outcome {
    on_disk(cx, |channel, disk| {
        let cdb = [OP_READ_16, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0];
        let (answer, page) = request(channel, disk.lun, &cdb, 512)?;
        good(&answer, 512)?;
        check!(bytes(channel, page) == block(channel, disk, 1)?);
        Ok(())
    })
}

fn a_block_is_read_into_a_part_of_a_page(cx: &Cx<'_>) -> Outcome {
    on_disk(cx, |channel, disk| {
        let page = cx.page()?;
        let cdb = read10(1, 1);
        let part = Request { lun: disk.lun, cdb: &cdb, offset: 1024, len: 512, pages: &[page / 4096] };
        good(&execute(channel, &part)?, 512)?;
        check!(bytes(channel, page + 1024) == block(channel, disk, 1)?);
        check!(bytes(channel, page + 512) == [0; 512]);
        Ok(())
    })
}

fn a_block_is_read_into_two_pages(cx: &Cx<'_>) -> Outcome {
    on_disk(cx, |channel, disk| {
        let pages = [cx.page()?, cx.page()?];
        let cdb = read10(0, 2);
        // The second page comes first, so that they do not follow one another.
        let listed = [pages[1] / 4096, pages[0] / 4096];
        let both = Request { lun: disk.lun, cdb: &cdb, offset: 4096 - 512, len: 1024, pages: &listed };
        good(&execute(channel, &both)?, 1024)?;
        check!(bytes(channel, pages[1] + 4096 - 512) == block(channel, disk, 0)?);
        check!(bytes(channel, pages[0]) == block(channel, disk, 1)?);
        Ok(())
    })
}

fn a_read_without_blocks_succeeds(cx: &Cx<'_>) -> Outcome {
    on_disk(cx, |channel, disk| good(&request(channel, disk.lun, &read10(0, 0), 0)?.0, 0))
}

fn a_read_beyond_the_end_is_refused(cx: &Cx<'_>) -> Outcome {
    on_disk(cx, |channel, disk| {
        skip_if!(disk.last == u32::MAX, "the disk ends beyond what READ(10) reaches");
        let (answer, _) = request(channel, disk.lun, &read10(disk.last, 2), 1024)?;
        refused(&answer, KEY_ILLEGAL_REQUEST, 0x21)
    })
}

fn a_verification_beyond_the_end_is_refused(cx: &Cx<'_>) -> Outcome {
    on_disk(cx, |channel, disk| {
        skip_if!(disk.last == u32::MAX, "the disk ends beyond what VERIFY(10) reaches");
        let mut cdb = read10(disk.last, 2);
        cdb[0] = OP_VERIFY;
        refused(&request(channel, disk.lun, &cdb, 0)?.0, KEY_ILLEGAL_REQUEST, 0x21)
    })
}

fn the_cache_is_written_back(cx: &Cx<'_>) -> Outcome {
    on_disk(cx, |channel, disk| {
        let cdb = [OP_SYNCHRONIZE_CACHE, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        good(&request(channel, disk.lun, &cdb, 0)?.0, 0)
    })
}
