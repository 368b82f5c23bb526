//! File copies.

use crate::guest::{Guest, Request, version, wide};
use hv_devices::Fcopy;
use hv_devices::fcopy::{Ask, OFFER};
use hv_devices::ic::{Outcome, Refused};
use hv_tlfs::vmbus::fcopy::{Data, FRAGMENT_SIZE, Header, Operation, Start};
use hv_tlfs::vmbus::ic::{MessageType, Status};
use proptest::prelude::*;
use zerocopy::{FromBytes, IntoBytes};

fn guest() -> Guest<Fcopy> {
    Guest::new(Fcopy::new(), OFFER, version(3, 0), version(1, 1))
}

fn start<'a>(file: &'a [u8], folder: &'a [u8]) -> Ask<'a> {
    Ask::Start { file, folder, overwrite: false, create_path: true, size: 1 << 40 }
}

/// Asks, and returns what the guest is asked.
fn ask(guest: &Guest<Fcopy>, ask: &Ask<'_>) -> Request {
    guest.with(|device, io| device.ask(io, ask)).unwrap();
    let request = guest.receive().unwrap();
    assert_eq!(request.header.message_type, MessageType::FILE_COPY);
    request
}

/// Answers, and returns what came of it.
fn answer(guest: &Guest<Fcopy>, request: &Request, status: Status) -> Option<(Operation, Outcome)> {
    guest.answer(request, status, request.body());
    guest.with(|device, _| device.take())
}

proptest! {
    /// Linux's daemon, as far as the wire goes: what it writes is the file.
    #[test]
    fn a_file_arrives_as_it_is(bytes in prop::collection::vec(any::<u8>(), 0..20_000), restores: bool) {
        let guest = guest();
        let (file, folder) = (wide("na\u{efd}e \u{1f600}"), wide("/srv/a/"));
        let request = ask(&guest, &start(&file, &folder));
        let begun = Start::read_from_bytes(request.body()).unwrap();
        prop_assert_eq!(begun.header.operation, Operation::START);
        prop_assert_eq!(&begun.file_name[..file.len()], &file[..]);
        prop_assert_eq!(&begun.path_name[..folder.len()], &folder[..]);
        prop_assert!(begun.file_name[file.len()..].iter().all(|byte| *byte == 0));
        prop_assert_eq!((begun.flags, begun.file_size.get()), (2, 1 << 40));
        answer(&guest, &request, Status::SUCCESS).unwrap();
        let mut written = vec![0; bytes.len()];
        for (number, data) in bytes.chunks(FRAGMENT_SIZE).enumerate() {
            let offset = (number * FRAGMENT_SIZE) as u64;
            let request = ask(&guest, &Ask::Write { offset, data });
            if restores {
                guest.saved_and_restored();
            }
            let piece = Data::read_from_bytes(request.body()).unwrap();
            let (at, size) = (piece.offset.get() as usize, piece.size as usize);
            written[at..at + size].copy_from_slice(&piece.data[..size]);
            let done = Some((Operation::WRITE, Outcome::Answered(Status::SUCCESS)));
            prop_assert_eq!(answer(&guest, &request, Status::SUCCESS), done);
        }
        prop_assert_eq!(written, bytes);
        let request = ask(&guest, &Ask::Complete);
        prop_assert_eq!(request.body().len(), size_of::<Header>());
        let done = Some((Operation::COMPLETE, Outcome::Answered(Status::SUCCESS)));
        prop_assert_eq!(answer(&guest, &request, Status::SUCCESS), done);
    }
}

#[test]
fn a_refusal_is_the_guests_status() {
    let guest = guest();
    let (file, folder) = (wide("a"), wide("/"));
    for status in [Status::ALREADY_EXISTS, Status::DISK_FULL, Status::FAIL] {
        let request = ask(&guest, &start(&file, &folder));
        let refused = Some((Operation::START, Outcome::Answered(status)));
        assert_eq!(answer(&guest, &request, status), refused);
    }
}

#[test]
fn what_has_no_form_of_the_protocol_is_not_sent() {
    let guest = guest();
    let (good, long) = (wide("a"), wide(&"a".repeat(260)));
    let longest = wide(&"a".repeat(259));
    let odd = [b'a', 0, 0];
    let bad: [&[u8]; 5] = [&[], &[0, 0], &good[..2], &odd, &long];
    for bad in bad {
        for ask in [start(bad, &good), start(&good, bad)] {
            assert_eq!(guest.with(|device, io| device.ask(io, &ask)), Err(Refused::Invalid), "{bad:?}");
        }
    }
    for data in [&[][..], &[1; FRAGMENT_SIZE + 1]] {
        let ask = Ask::Write { offset: 0, data };
        assert_eq!(guest.with(|device, io| device.ask(io, &ask)), Err(Refused::Invalid));
    }
    assert!(guest.receive().is_none());
    ask(&guest, &start(&longest, &longest));
}

#[test]
fn an_answer_to_something_else_is_malformed() {
    let guest = guest();
    for (operation, cut) in [(Operation::CANCEL, 0), (Operation::COMPLETE, 1)] {
        let request = ask(&guest, &Ask::Complete);
        assert_eq!(guest.with(|device, io| device.ask(io, &Ask::Cancel)), Err(Refused::Busy));
        let mut header = Header::read_from_bytes(request.body()).unwrap();
        header.operation = operation;
        guest.answer(&request, Status::SUCCESS, &header.as_bytes()[cut..]);
        let outcome = guest.with(|device, _| device.take());
        assert_eq!(outcome, Some((Operation::COMPLETE, Outcome::Malformed)));
    }
}

#[test]
fn a_copy_survives_save_and_restore_and_nothing_else_is_restored() {
    let guest = guest();
    let request = ask(&guest, &Ask::Write { offset: 7, data: &[1, 2, 3] });
    guest.saved_and_restored();
    let done = Some((Operation::WRITE, Outcome::Answered(Status::DISK_FULL)));
    assert_eq!(answer(&guest, &request, Status::DISK_FULL), done);
    guest.hostile_images();
}
