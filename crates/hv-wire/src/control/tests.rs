extern crate std;

use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

/// A message's frame.
macro_rules! frame {
    ($message:expr, $id:expr) => {{
        let mut buffer = vec![0; MAX_FRAME];
        let len = $message.encode($id, &mut buffer);
        len.map(|len| buffer[..len].to_vec())
    }};
}

/// Puts a stream together that comes in pieces of these lengths, again and again.
fn assemble(stream: &[u8], pieces: &[usize]) -> Result<Vec<(FrameHead, Vec<u8>)>, NoFrame> {
    let (mut assembler, mut frames, mut rest) = (Assembler::new(), Vec::new(), stream);
    for piece in pieces.iter().cycle() {
        let (mut piece, after) = rest.split_at((*piece).clamp(1, rest.len().max(1)).min(rest.len()));
        while !piece.is_empty() {
            let space = assembler.space()?;
            let len = space.len().min(piece.len());
            space[..len].copy_from_slice(&piece[..len]);
            piece = &piece[len..];
            assembler.advance(len);
            if let Some((head, body)) = assembler.frame() {
                frames.push((head, body.to_vec()));
                assembler.done();
            }
        }
        rest = after;
        if rest.is_empty() {
            break;
        }
    }
    Ok(frames)
}

fn bytes(longest: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..=longest)
}

proptest! {
    #[test]
    fn what_the_tool_says_arrives(
        id: u32, version: u16, action: u8, force: bool, operation: u8, pool: u8, index: u32, now: u64,
        key in bytes(512), value in bytes(2048), pieces in prop::collection::vec(1_usize..3000, 1..9),
    ) {
        let (key, value) = (&key[..], &value[..]);
        let messages = [
            ToHypervisor::Hello { version },
            ToHypervisor::Status {},
            ToHypervisor::Shutdown { action, force },
            ToHypervisor::Kvp { operation, pool, index, key, value },
            ToHypervisor::TimeSync { now },
            ToHypervisor::Vss { operation },
            ToHypervisor::Type { keys: key },
            ToHypervisor::Point { states: value },
            ToHypervisor::CopyStart { file: key, folder: key, overwrite: force, create_path: !force, size: now },
            ToHypervisor::CopyWrite { offset: now, data: value },
            ToHypervisor::CopyEnd { cancel: force },
            ToHypervisor::Balloon { taken: now },
            ToHypervisor::Memory {},
            ToHypervisor::Discarded {},
            ToHypervisor::Screen {},
            ToHypervisor::Rescind { device: action },
            ToHypervisor::Link { up: force },
        ];
        let stream: Vec<u8> =
            messages.iter().flat_map(|message| frame!(message, id).unwrap()).collect();
        let frames = assemble(&stream, &pieces).unwrap();
        prop_assert_eq!(frames.len(), messages.len());
        for ((head, body), message) in frames.iter().zip(messages) {
            prop_assert_eq!(head.id, id);
            prop_assert_eq!(ToHypervisor::decode(head, body), Some(message));
        }
    }

    #[test]
    fn what_the_hypervisor_says_arrives(
        id: u32, version: u16, outcome: u64, flags: u32, value_type: u32, why in 0_u8..9,
        links in prop::array::uniform10((0_u8..5, any::<u16>(), any::<u16>())),
        key in bytes(512), value in bytes(2048), addresses in bytes(7426),
        pieces in prop::collection::vec(1_usize..9000, 1..9),
    ) {
        let services = links.map(|(link, major, minor)| {
            ServiceState { driver: DriverState::by_number(link).unwrap(), major, minor }
        });
        let messages = [
            FromHypervisor::Hello { version },
            FromHypervisor::Status { services },
            FromHypervisor::Refused { why: Refusal::by_number(why).unwrap() },
            FromHypervisor::Outcome { outcome, flags },
            FromHypervisor::Pair { value_type, key: &key, value: &value },
            FromHypervisor::Addresses { bytes: &addresses },
            FromHypervisor::Memory { taken: outcome, reported: why > 4, available: !outcome, committed: 7 },
            FromHypervisor::Discard { ranges: &value },
            FromHypervisor::Screen {
                offset: outcome,
                depth: why,
                width: flags,
                height: value_type,
                pitch: !flags,
                left: id,
                top: 1,
                right: !id,
                bottom: 2,
            },
        ];
        let stream: Vec<u8> =
            messages.iter().flat_map(|message| frame!(message, id).unwrap()).collect();
        let frames = assemble(&stream, &pieces).unwrap();
        prop_assert_eq!(frames.len(), messages.len());
        for ((head, body), message) in frames.iter().zip(messages) {
            prop_assert_eq!(FromHypervisor::decode(head, body), Some(message));
        }
    }

    #[test]
    fn any_bytes_are_judged(kind: u16, body in bytes(64), stream in bytes(200)) {
        let head = FrameHead { magic: FrameHead::MAGIC, len: body.len() as u32, id: 1, kind, version: 1 };
        let _ = ToHypervisor::decode(&head, &body);
        let _ = FromHypervisor::decode(&head, &body);
        let _ = assemble(&stream, &[7]);
    }
}

#[test]
fn a_body_with_bytes_too_few_or_too_many_is_no_message() {
    let frame = frame!(ToHypervisor::Vss { operation: 5 }, 1).unwrap();
    let (head, body) = FrameHead::read_from_prefix(&frame).unwrap();
    assert!(ToHypervisor::decode(&head, body).is_some());
    assert!(ToHypervisor::decode(&head, &[]).is_none());
    assert!(ToHypervisor::decode(&head, &[5, 0]).is_none());
    assert!(FromHypervisor::decode(&head, body).is_none());
}

#[test]
fn what_is_no_head_ends_the_stream() {
    let mut head =
        FrameHead { magic: FrameHead::MAGIC, len: MAX_BODY as u32 + 1, id: 0, kind: 1, version: 1 };
    let mut stream = head.as_bytes().to_vec();
    stream.push(0);
    assert_eq!(assemble(&stream, &[17]), Err(NoFrame));
    head.len = 0;
    assert_eq!(assemble(head.as_bytes(), &[3]).unwrap().len(), 1);
    head.magic ^= 1;
    let mut stream = head.as_bytes().to_vec();
    stream.push(0);
    assert!(assemble(&stream, &[16]).is_err());
}

#[test]
fn the_longest_piece_of_a_file_has_a_frame() {
    assert!(frame!(ToHypervisor::CopyWrite { offset: u64::MAX, data: &vec![0; MAX_PIECE] }, 0).is_some());
}

#[test]
fn a_message_that_is_too_long_has_no_frame() {
    assert!(frame!(FromHypervisor::Addresses { bytes: &vec![0; MAX_BODY - 2] }, 0).is_some());
    assert!(frame!(FromHypervisor::Addresses { bytes: &vec![0; MAX_BODY - 1] }, 0).is_none());
}

proptest! {
    #[test]
    fn what_is_said_of_sockets_arrives(
        id: u32, stream: u32, request: u32, port: u32, own: u32, credit: u32, data in bytes(MAX_DATA),
    ) {
        let bytes = &data[..];
        for message in [
            ToSockets::Connect { request, port },
            ToSockets::Accept { stream },
            ToSockets::Refuse { stream },
            ToSockets::Data { stream, bytes },
            ToSockets::Finish { stream },
            ToSockets::Reset { stream },
            ToSockets::Credit { stream, bytes: credit },
        ] {
            let frame = frame!(message, id).unwrap();
            let (head, body) = assemble(&frame, &[7]).unwrap().remove(0);
            prop_assert_eq!(ToSockets::decode(&head, &body), Some(message));
            prop_assert_eq!(FromSockets::decode(&head, &body), None);
        }
        for message in [
            FromSockets::Connect { stream, port },
            FromSockets::Opened { request, stream, own },
            FromSockets::Refused { request },
            FromSockets::Credit { stream, bytes: credit },
            FromSockets::Data { stream, bytes },
            FromSockets::Finished { stream },
            FromSockets::Ended { stream },
        ] {
            let frame = frame!(message, id).unwrap();
            let (head, body) = assemble(&frame, &[7]).unwrap().remove(0);
            prop_assert_eq!(FromSockets::decode(&head, &body), Some(message));
            prop_assert_eq!(ToSockets::decode(&head, &body), None);
        }
    }

    #[test]
    fn a_head_and_its_data_are_the_message(stream: u32, data in bytes(MAX_DATA)) {
        let bytes = &data[..];
        let to = [&data_head(ToSockets::DATA, stream, bytes.len() as u16)[..], bytes].concat();
        prop_assert_eq!(Some(to), frame!(ToSockets::Data { stream, bytes }, 0));
        let from = [&data_head(FromSockets::DATA, stream, bytes.len() as u16)[..], bytes].concat();
        prop_assert_eq!(Some(from), frame!(FromSockets::Data { stream, bytes }, 0));
    }
}

#[test]
fn the_most_data_fill_a_frame() {
    let frame = |len| frame!(ToSockets::Data { stream: 1, bytes: &vec![0; len] }, 0);
    assert_eq!(frame(MAX_DATA).map(|frame| frame.len()), Some(MAX_FRAME));
    assert!(frame(MAX_DATA + 1).is_none());
}

proptest! {
    #[test]
    fn what_is_said_of_a_command_arrives(
        last: bool, terminal: bool, rows: u16, columns: u16, number: u32, stream: u8, version: u16, status: u8,
        data in bytes(MAX_AGENT_DATA), kind in bytes(64),
    ) {
        let (bytes, kind) = (&data[..], &kind[..]);
        for message in [
            ToAgent::Word { last, bytes },
            ToAgent::Start { terminal, rows, columns, glob: !last, kind },
            ToAgent::Input { bytes },
            ToAgent::InputEnd {},
            ToAgent::Signal { number },
            ToAgent::Resize { rows, columns },
            ToAgent::OutputEnd { stream },
            ToAgent::Bye {},
            ToAgent::Renew { seconds: number.into(), nanoseconds: number, entropy: kind },
            ToAgent::Share { index: number, writable: last, path: kind },
        ] {
            let frame = frame!(message, 0).unwrap();
            let (head, body) = assemble(&frame, &[7]).unwrap().remove(0);
            prop_assert_eq!(ToAgent::decode(&head, &body), Some(message));
            prop_assert_eq!(FromAgent::decode(&head, &body), None);
        }
        for message in [
            FromAgent::Ready { version },
            FromAgent::Output { stream, bytes },
            FromAgent::Credit { bytes: number },
            FromAgent::Exited { status },
            FromAgent::Killed { signal: status },
            FromAgent::NotStarted { error: number },
            FromAgent::NotShared { index: number, step: status, error: number },
        ] {
            let frame = frame!(message, 0).unwrap();
            let (head, body) = assemble(&frame, &[7]).unwrap().remove(0);
            prop_assert_eq!(FromAgent::decode(&head, &body), Some(message));
            prop_assert_eq!(ToAgent::decode(&head, &body), None);
        }
    }
}
