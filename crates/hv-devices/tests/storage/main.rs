//! The SCSI controller, as a guest sees it.

mod guest;
mod restored;
mod state;

use guest::{Guest, LIMIT};
use hv_devices::Storage;
use hv_devices::scsi::{Disk, Sense};
use hv_devices::storage::{Failure, MAX_TRANSFER, Piece};
use hv_memory::save::{Reader, Writer};
use hv_tlfs::time::ReferenceTime;
use hv_tlfs::vmbus::MessageType;
use hv_vmbus::Device;

const BLOCKS: u64 = 4096;
const ID: [u8; 16] = *b"0123456789abcdef";

fn disk() -> Disk {
    Disk::new(BLOCKS * 512, ID, MAX_TRANSFER)
}

fn one_disk() -> Guest {
    let mut controller = Storage::new();
    controller.attach(0, 0, 0, disk()).unwrap();
    let bytes = (0..BLOCKS).flat_map(|block| [block as u8; 512]).collect();
    Guest::new(controller, vec![bytes])
}

fn cdb10(operation: u8, block: u32, count: u16) -> [u8; 10] {
    let (b, c) = (block.to_be_bytes(), count.to_be_bytes());
    [operation, 0, b[0], b[1], b[2], b[3], 0, c[0], c[1], 0]
}

const GOOD: (u8, u8) = (1, 0);
const CHECK: (u8, u8) = (0x84, 2);

fn refused(answer: &guest::Answer, sense: Sense) {
    let (srb, scsi, moved) = answer.ended();
    assert_eq!(((srb, scsi), moved), (CHECK, 0));
    assert_eq!(answer.sense(), Some((sense.key as u8, sense.code, sense.qualifier)));
}

#[test]
fn versions_are_agreed_on_and_others_refused_before_the_guest_goes_on() {
    let mut guest = Guest::opened(Storage::new(), vec![]);
    assert_eq!(guest.control(9, 0x0602).packet.header.status.0, 0xc000_0184, "nothing was begun");
    assert_eq!(guest.control(7, 0).packet.header.status.0, 0);
    assert_eq!(guest.control(9, 0x0700).packet.header.status.0, 0xc000_0059);
    assert_eq!(guest.control(9, 0x0600).packet.header.status.0, 0);
    let properties = guest.control(10, 0).packet.body;
    assert_eq!(u16::from_le_bytes([properties[4], properties[5]]), 2, "sub-channels");
    assert_eq!(properties[8], 1, "flags");
    assert_eq!(properties[12..16], MAX_TRANSFER.to_le_bytes());
    assert_eq!(guest.control(12, 0).packet.header.status.0, 0xc000_00bb, "no fibre channel");
    assert_eq!(guest.control(8, 0).packet.header.status.0, 0);
    assert_eq!(guest.bus.with(guest.bus.devices(), &guest.host, |d, _| d.version()), Ok(Some(0x0600)));
}

#[test]
fn sub_channels_come_as_many_as_asked_and_never_more() {
    let mut guest = Guest::new(Storage::new(), vec![]);
    guest.posted();
    assert_eq!(guest.control(13, 3).packet.header.status.0, 0xc000_000d);
    assert_eq!(guest.posted(), []);
    assert_eq!(guest.control(13, 2).packet.header.status.0, 0);
    assert_eq!(guest.posted(), [MessageType::OFFER_CHANNEL; 2]);
}

#[test]
fn blocks_are_read_and_written_where_the_command_says() {
    let mut guest = one_disk();
    let (srb, scsi, moved) = guest.command(&cdb10(0x28, 7, 9), 0, 9 * 512).ended();
    assert_eq!(((srb, scsi), moved), (GOOD, 9 * 512));
    let expected: Vec<u8> = (7..16).flat_map(|block| [block; 512]).collect();
    assert_eq!(guest.data(9 * 512), expected);

    guest.set_data(&[0xee; 1024]);
    // FUA.
    let mut write = cdb10(0x2a, 100, 2);
    write[1] = 1 << 3;
    assert_eq!(guest.command(&write, 0, 1024).ended(), (1, 0, 1024));
    assert_eq!(guest.host.disks.borrow()[0][100 * 512..102 * 512], [0xee; 1024]);
    assert_eq!(guest.host.flushes.get(), 1);
    assert_eq!(guest.command(&cdb10(0x35, 0, 0), 0, 0).ended().0, 1);
    assert_eq!(guest.host.flushes.get(), 2);
}

#[test]
fn every_form_of_read_reaches_the_same_blocks() {
    let mut guest = one_disk();
    let mut read16 = [0; 16];
    (read16[0], read16[9], read16[13]) = (0x88, 3, 1);
    let read12 = [0xa8, 0, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0];
    for cdb in [&[0x08, 0, 0, 3, 1, 0][..], &cdb10(0x28, 3, 1), &read12, &read16] {
        guest.set_data(&[0; 512]);
        assert_eq!(guest.command(cdb, 0, 512).ended(), (1, 0, 512), "{cdb:x?}");
        assert_eq!(guest.data(512), [3; 512]);
    }
}

#[test]
fn blocks_that_the_disk_does_not_have_are_out_of_range() {
    let mut guest = one_disk();
    refused(&guest.command(&cdb10(0x28, BLOCKS as u32, 1), 0, 512), Sense::OUT_OF_RANGE);
    refused(&guest.command(&cdb10(0x2a, BLOCKS as u32 - 1, 2), 0, 1024), Sense::OUT_OF_RANGE);
    let mut wraps = [0xff; 16];
    (wraps[0], wraps[1]) = (0x88, 0);
    refused(&guest.command(&wraps, 0, 512), Sense::OUT_OF_RANGE);
    refused(&guest.command(&cdb10(0x28, 0, 1024), 0, 512), Sense::INVALID_FIELD);
    refused(&guest.command(&[0xa3, 0, 0, 0, 0, 0], 0, 0), Sense::INVALID_OPCODE);
}

#[test]
fn a_request_that_contradicts_itself_is_invalid_and_reaches_no_disk() {
    let mut guest = one_disk();
    guest.host.hold.set(true);
    for (transfer, range) in [
        (512, None),
        (1024, Some((512, 0, &[0x100][..]))),
        (512, Some((512, 0, &[1 << 40][..]))),
        (512, Some((512, 4096, &[0x100][..]))),
    ] {
        guest.send(&Guest::srb(&cdb10(0x28, 0, 1), 0, transfer), 64, range);
        let (_, answer) = guest.receive().unwrap();
        assert_eq!(answer.ended(), (6, 0, 0), "{transfer} {range:?}");
    }
    assert!(guest.host.held.borrow().is_empty());
}

#[test]
fn a_read_into_too_little_room_gives_whole_blocks_and_says_so() {
    let mut guest = one_disk();
    assert_eq!(guest.command(&cdb10(0x28, 1, 4), 0, 1100).ended(), (0x12, 0, 1024));
    assert_eq!(guest.data(1100)[1023..1025], [2, 0]);
    refused(&guest.command(&cdb10(0x28, 1, 4), 0, 100), Sense::INVALID_FIELD);
    refused(&guest.command(&cdb10(0x2a, 1, 4), 0, 1100), Sense::INVALID_FIELD);
}

#[test]
fn requests_are_answered_in_the_order_in_which_the_back_end_is_done() {
    let mut guest = one_disk();
    guest.host.hold.set(true);
    let ids: Vec<u64> =
        (0..8).map(|i| guest.start(&cdb10(0x28, i, 1), 0, 512, 0x100 + u64::from(i))).collect();
    guest.start(&cdb10(0x28, 9, 1), 0, 512, 0x120);
    assert!(guest.receive().is_none());
    let held = guest.host.held.take();
    assert_eq!(held.len(), 8, "as many as the slot has; the ninth waits in the ring");
    for at in [5, 0, 7, 2, 6, 1, 4, 3] {
        let (token, request, parts) = &held[at];
        let outcome = guest.host.serve(&guest.host.memory, request, parts);
        guest.bus.completed(guest.bus.devices(), *token, outcome, &guest.host).unwrap();
        let (_, answer) = guest.receive().unwrap();
        assert_eq!((answer.transaction, answer.ended()), (ids[at], (1, 0, 512)));
    }
    assert_eq!(guest.host.held.borrow().len(), 1);
}

#[test]
fn a_failing_back_end_is_told_as_sense() {
    let mut guest = one_disk();
    for (failure, read, sense) in [
        (Failure::Medium, true, Sense::READ_ERROR),
        (Failure::Medium, false, Sense::WRITE_ERROR),
        (Failure::Target, true, Sense::TARGET_FAILURE),
        (Failure::Sense(Sense::RESET), true, Sense::RESET),
    ] {
        guest.host.failure.set(Some(failure));
        refused(&guest.command(&cdb10(if read { 0x28 } else { 0x2a }, 0, 1), 0, 512), sense);
    }
}

#[test]
fn inquiry_tells_a_disk_of_hyper_v_and_never_fails() {
    let mut guest = one_disk();
    assert_eq!(guest.command(&[0x12, 0, 0, 0, 36, 0], 0, 36).ended(), (1, 0, 36));
    let data = guest.data(36);
    assert_eq!((data[0], data[2], &data[8..36]), (0, 5, &b"Msft    Virtual Disk    1.0 "[..]));
    // An absent LUN.
    assert_eq!(guest.command(&[0x12, 0, 0, 0, 36, 0], 3, 36).ended(), (1, 0, 36));
    assert_eq!(guest.data(36)[0], 0x7f);
    // Every other command to it removes the device.
    assert_eq!(guest.command(&[0, 0, 0, 0, 0, 0], 3, 0).ended(), (0x20, 0, 0));
    for page in [0x00, 0x80, 0x83, 0xb0, 0xb1, 0xb2] {
        let (srb, scsi, moved) = guest.command(&[0x12, 1, page, 0, 255, 0], 0, 255).ended();
        let data = guest.data(255);
        assert_eq!((srb, scsi, data[1]), (1, 0, page));
        assert_eq!(moved as usize, 4 + usize::from(u16::from_be_bytes([data[2], data[3]])));
    }
    refused(&guest.command(&[0x12, 1, 0x42, 0, 255, 0], 0, 255), Sense::INVALID_FIELD);
}

#[test]
fn capacity_and_mode_pages_are_the_disks() {
    let mut guest = one_disk();
    guest.command(&cdb10(0x25, 0, 0), 0, 8);
    assert_eq!(guest.data(8), [0, 0, 0x0f, 0xff, 0, 0, 2, 0]);
    guest.command(&[0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0], 0, 32);
    let data = guest.data(32);
    assert_eq!((&data[..12], data[14]), (&[0, 0, 0, 0, 0, 0, 0x0f, 0xff, 0, 0, 2, 0][..], 0xc0));
    assert_eq!(guest.command(&[0x1a, 8, 0x08, 0, 192, 0], 0, 192).ended(), (1, 0, 24));
    let data = guest.data(24);
    assert_eq!((data[0], data[2] & 0x80, data[3], data[4], data[6] & 4), (23, 0, 0, 8, 4));
    refused(&guest.command(&[0x1a, 0, 0x1c, 0, 192, 0], 0, 192), Sense::INVALID_FIELD);
    refused(&guest.command(&[0x1a, 0, 0xc8, 0, 192, 0], 0, 192), Sense::NO_SAVED_PAGES);
}

#[test]
fn unmap_and_write_same_clear_what_they_name() {
    let mut guest = one_disk();
    let mut list = vec![0, 38, 0, 32, 0, 0, 0, 0];
    for (block, count) in [(5u64, 2u32), (9, 1)] {
        list.extend(block.to_be_bytes());
        list.extend(count.to_be_bytes());
        list.extend([0; 4]);
    }
    guest.set_data(&list);
    assert_eq!(guest.command(&cdb10(0x42, 0, 40), 0, 40).ended().0, 1);
    let block = |guest: &Guest, at: usize| guest.host.disks.borrow()[0][at * 512];
    assert_eq!([4, 5, 6, 7, 8, 9, 10].map(|at| block(&guest, at)), [4, 0, 0, 7, 8, 0, 10]);
    guest.set_data(&[0xab; 512]);
    assert_eq!(guest.command(&cdb10(0x41, 20, 3), 0, 512).ended().0, 1);
    assert_eq!([19, 20, 22, 23].map(|at| block(&guest, at)), [19, 0xab, 0xab, 23]);
    // A list that is longer than its data.
    guest.set_data(&[0, 200, 0, 192, 0, 0, 0, 0]);
    refused(&guest.command(&cdb10(0x42, 0, 40), 0, 40), Sense::PARAMETER_LENGTH);
    refused(&guest.command(&cdb10(0x42, 0, 4096), 0, 4096), Sense::INVALID_FIELD);
}

#[test]
fn a_read_only_disk_refuses_every_write() {
    let mut controller = Storage::new();
    controller.attach(0, 0, 0, disk().read_only()).unwrap();
    let mut guest = Guest::new(controller, vec![vec![1; BLOCKS as usize * 512]]);
    for cdb in [cdb10(0x2a, 0, 1), cdb10(0x41, 0, 1), cdb10(0x42, 0, 24)] {
        refused(&guest.command(&cdb, 0, 512), Sense::WRITE_PROTECTED);
    }
    guest.command(&[0x1a, 8, 0x3f, 0, 192, 0], 0, 192);
    assert_eq!(guest.data(3)[2] & 0x80, 0x80, "write-protected");
    assert_eq!(guest.host.disks.borrow()[0], vec![1; BLOCKS as usize * 512]);
}

#[test]
fn luns_are_listed_and_a_new_one_is_announced() {
    let mut guest = one_disk();
    let report = [0xa0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0];
    guest.command(&report, 0, 512);
    assert_eq!(guest.data(16), [0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    guest.host.disks.borrow_mut().push(vec![9; 1 << 20]);
    let added = guest.bus.with(guest.bus.devices(), &guest.host, |controller, io| {
        let outcome = controller.attach(0, 5, 1, Disk::new(1 << 20, *b"another disk....", MAX_TRANSFER));
        controller.announce(io);
        outcome
    });
    assert_eq!(added, Ok(Ok(())));
    let (kind, packet) = guest.receive().unwrap();
    assert_eq!((kind, packet.transaction, packet.packet.header.operation.0), (6, 0, 11));
    guest.command(&report, 0, 512);
    assert_eq!((guest.data(4)[3], guest.data(24)[17]), (16, 5));
    assert_eq!(guest.command(&cdb10(0x28, 0, 1), 5, 512).ended(), (1, 0, 512));
    assert_eq!(guest.data(512), [9; 512]);
    let gone = guest.bus.with(guest.bus.devices(), &guest.host, |controller, _| controller.detach(0, 5));
    assert_eq!(gone, Ok(Some(1)));
    assert_eq!(guest.command(&cdb10(0x28, 0, 1), 5, 512).ended(), (0x20, 0, 0));
}

#[test]
fn luns_of_a_kind_that_no_disk_has_are_none_and_of_an_unknown_kind_an_error() {
    let mut guest = one_disk();
    for (select, bytes) in [(0, 8), (2, 8), (1, 0)] {
        let report = [0xa0, 0, select, 0, 0, 0, 0, 0, 0, 16, 0, 0];
        assert_eq!(guest.command(&report, 0, 16).ended(), (1, 0, 16));
        assert_eq!(guest.data(4), [0, 0, 0, bytes], "{select}");
    }
    refused(&guest.command(&[0xa0, 0, 3, 0, 0, 0, 0, 0, 0, 16, 0, 0], 0, 16), Sense::INVALID_FIELD);
}

#[test]
fn a_disk_that_grew_says_so_once() {
    let mut guest = one_disk();
    guest
        .bus
        .with(guest.bus.devices(), &guest.host, |controller, _| {
            controller.disk_mut(0, 0).unwrap().resize(2 * BLOCKS * 512);
        })
        .unwrap();
    guest.command(&[0x12, 0, 0, 0, 36, 0], 0, 36);
    refused(&guest.command(&[0, 0, 0, 0, 0, 0], 0, 0), Sense::CAPACITY_CHANGED);
    assert_eq!(guest.command(&[0, 0, 0, 0, 0, 0], 0, 0).ended(), (1, 0, 0));
    guest.command(&cdb10(0x25, 0, 0), 0, 8);
    assert_eq!(guest.data(4), [0, 0, 0x1f, 0xff]);
}

#[test]
fn a_reset_is_answered_at_once_and_told_with_the_next_command() {
    let mut guest = one_disk();
    guest.host.hold.set(true);
    let id = guest.start(&cdb10(0x28, 0, 1), 0, 512, 0x100);
    assert_eq!(guest.control(6, 0).packet.header.status.0, 0);
    let (token, request, parts) = guest.host.held.take().remove(0);
    let outcome = guest.host.serve(&guest.host.memory, &request, &parts);
    guest.bus.completed(guest.bus.devices(), token, outcome, &guest.host).unwrap();
    assert_eq!(guest.receive().unwrap().1.transaction, id, "what was outstanding is completed all the same");
    refused(&guest.command(&[0, 0, 0, 0, 0, 0], 0, 0), Sense::RESET);
}

#[test]
fn answers_have_the_length_of_the_request() {
    let mut guest = Guest::opened(Storage::new(), vec![]);
    let mut vstor = Guest::srb(&[], 0, 0);
    vstor.header.operation = hv_tlfs::vmbus::storage::Operation::BEGIN_INITIALIZATION;
    guest.send(&vstor, 48, None);
    assert_eq!(guest.receive().unwrap().1.len, 48);
}

#[test]
fn the_protocols_state_is_saved_and_nonsense_is_refused() {
    let guest = one_disk();
    let save = |controller: &Storage<8>| {
        let mut image = Vec::new();
        Device::save(controller, &mut Writer::new(&mut |part| image.extend_from_slice(part)));
        image
    };
    let image = guest.bus.with(guest.bus.devices(), &guest.host, |d, _| save(d)).unwrap();
    let mut other = Storage::<8>::new();
    other.attach(0, 0, 0, disk()).unwrap();
    Device::restore(&mut other, &mut Reader::new(&image)).unwrap();
    assert_eq!((other.version(), save(&other)), (Some(0x0602), image.clone()));
    for (at, value) in [(0, 3), (1, 7), (5, 2)] {
        let mut wrong = image.clone();
        wrong[at] = value;
        assert!(Device::restore(&mut other, &mut Reader::new(&wrong)).is_err(), "{at}");
    }
}

#[test]
fn luns_are_listed_where_nothing_is_since_linux_would_remove_another_disk() {
    let mut guest = one_disk();
    for (path, target) in [(0, 1), (1, 0), (7, 1)] {
        guest.set_data(&[0xff; 16]);
        let mut vstor = Guest::srb(&[0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0], 0, 16);
        (vstor.body[5], vstor.body[6]) = (path, target);
        guest.send(&vstor, 64, Some((16, 0, &[0x100])));
        assert_eq!(guest.receive().unwrap().1.ended(), (1, 0, 16));
        assert_eq!(guest.data(16), [0; 16]);
    }
}

#[test]
fn a_long_command_is_done_in_pieces_and_every_call_is_short() {
    let mut guest = one_disk();
    let mut list = vec![0, 22, 0, 16, 0, 0, 0, 0];
    list.extend(0u64.to_be_bytes());
    list.extend((BLOCKS as u32).to_be_bytes());
    list.extend([0; 4]);
    guest.set_data(&list);
    let id = guest.start(&cdb10(0x42, 0, 24), 0, 24, 0x100);
    let mut calls = 1;
    let answer = loop {
        if let Some((_, answer)) = guest.receive() {
            break answer;
        }
        assert_eq!(guest.bus.deadline(), Some(ReferenceTime::ZERO), "the rest is due at once");
        guest.bus.flush(&guest.host);
        calls += 1;
    };
    assert_eq!((answer.transaction, answer.ended().0), (id, 1));
    assert_eq!(calls, BLOCKS * 512 / Storage::<8>::WORK_LIMIT as u64);
    assert!(guest.host.disks.borrow()[0].iter().all(|&byte| byte == 0));
}

#[test]
fn a_piece_of_a_command_is_as_long_as_the_back_end_takes_it() {
    let mut guest = one_disk();
    guest.host.hold.set(true);
    let blocks = (2 * LIMIT / 512) as u16 + 3;
    guest.start(&cdb10(0x28, 1, blocks), 0, u32::from(blocks) * 512, 0x100);
    let mut pieces = Vec::new();
    while let Some((token, request, parts)) = guest.host.held.take().pop() {
        let outcome = guest.host.serve(&guest.host.memory, &request, &parts);
        pieces.push(request.piece);
        guest.bus.completed(guest.bus.devices(), token, outcome, &guest.host).unwrap();
    }
    let read = |offset, len| Piece::Read { offset, len };
    assert_eq!(pieces, [read(512, LIMIT), read(512 + LIMIT, LIMIT), read(512 + 2 * LIMIT, 3 * 512)]);
    assert_eq!(guest.receive().unwrap().1.ended(), (1, 0, u32::from(blocks) * 512));
    let expected: Vec<u8> = (1..=blocks).flat_map(|block| [block as u8; 512]).collect();
    assert_eq!(guest.data(expected.len()), expected);
}

#[test]
fn a_transfer_of_the_maximum_size_is_done_in_the_call_that_signals_it() {
    let mut guest = one_disk();
    for operation in [0x28, 0x2a] {
        let blocks = (MAX_TRANSFER / 512) as u16;
        let answer = guest.command(&cdb10(operation, 0, blocks), 0, MAX_TRANSFER);
        assert_eq!(answer.ended(), (1, 0, MAX_TRANSFER));
        assert_eq!(guest.bus.deadline(), None);
    }
}

#[test]
fn a_packet_that_comes_while_a_command_is_in_pieces_is_taken_when_it_is_done() {
    let mut guest = one_disk();
    let mut list = vec![0, 22, 0, 16, 0, 0, 0, 0];
    list.extend(0u64.to_be_bytes());
    list.extend((2 * Storage::<8>::WORK_LIMIT as u32 / 512).to_be_bytes());
    list.extend([0; 4]);
    guest.set_data(&list);
    let first = guest.start(&cdb10(0x42, 0, 24), 0, 24, 0x100);
    assert!(guest.receive().is_none(), "half of it is done");
    let second = guest.start(&cdb10(0x28, 0, 1), 0, 512, 0x110);
    let mut answered = Vec::new();
    while answered.len() < 2 {
        match guest.receive() {
            Some((_, answer)) => answered.push(answer.transaction),
            None => {
                assert_eq!(
                    guest.bus.deadline(),
                    Some(ReferenceTime::ZERO),
                    "{answered:?} were answered, and no more is due"
                );
                guest.bus.flush(&guest.host);
            }
        }
    }
    assert_eq!(answered, [first, second]);
}
