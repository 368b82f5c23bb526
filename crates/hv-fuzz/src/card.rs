//! A guest's driver of a network card against a card that says anything.
//!
//! The card answers as cards do, or with anything; it names ranges of the receive buffer with frames in them or with
//! anything, writes into rings and buffers while the guest looks, and completes frames twice, wrongly or never.

use hv_drivers::network::{Buffers, Card, Error, Frames};
use hv_testbed::scripted::{ScriptedDma, ScriptedHost};
use hv_testbed::scripted_card::{Heard, ScriptedCard, words};
use hv_tlfs::status::HvStatus;
use hv_tlfs::vmbus::guid;
use hv_tlfs::vp::VpIndex;
use hv_vmbus_client::{Contact, PageRun, Slots};

use crate::client::{Host, message, offer, open};
use crate::input::Input;

/// Pages of the guest, of a ring, and of each buffer.
const PAGES: usize = 48;
const RING: usize = crate::client::RING;
const BUFFER: usize = 6;
/// Steps of a run at most.
const STEPS: usize = 192;
/// The longest frame that the guest's stack takes.
const LONGEST: usize = 1518;

type Guest<'h> = Card<'h, ScriptedDma<'h>, Host<'h>>;

/// Feeds the driver.
///
/// # Panics
///
/// If the driver breaks a promise, or memory does not come back with the end of the connection.
pub fn card(data: &[u8]) {
    let mut input = Input::new(data);
    let host = ScriptedHost::new(PAGES);
    let slots = Slots::<2, 4>::new();
    let Some(lent) = slots.lend() else { return };
    let mut client = host.client(lent);
    let _ = client.contact(Contact::new(VpIndex(0)));
    client.take(&message(15, &[1, 4, 0]));
    client.take(&offer(guid::NETWORK, 1));
    let Some(channel) = open(&mut client, &host, guid::NETWORK, RING) else { return };
    let Some(offer) = client.find(guid::NETWORK) else { return };
    let mut gpadls = Vec::new();
    for _ in 0..2 {
        let Ok(pages) = PageRun::new(&host.dma(), BUFFER) else { return };
        let mut grant = crate::client::grant(&host);
        gpadls.extend(client.share_pages(&offer, pages, &mut grant));
    }
    let (Some(send), Some(receive)) = (gpadls.pop(), gpadls.pop()) else { return };
    let Ok(control) = PageRun::new(&host.dma(), 1) else { return };
    let mut guest: Guest<'_> = Card::new(channel, Buffers { receive, send }, 1500, control);
    // The client's page comes first.
    let Some(mut end) = ScriptedCard::new(&host.pages()[1..], RING, BUFFER, BUFFER) else { return };
    if input.flag() {
        // Most of what there is to try comes after the initialization.
        let mut left = 64;
        let _ = guest.wait_ready(&mut || {
            end.serve();
            left -= 1;
            if left > 0 { Ok(()) } else { Err(hv_vmbus_client::Error::TimedOut) }
        });
    }
    let mut open = Vec::new();
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        match input.below(12) {
            0..=2 => take_frames(&mut guest),
            3 => {
                let len = input.of(&[14, 60, 1514, 0, 13, 1515]);
                let sent = guest.send(&vec![7; len]);
                assert!(sent.is_err() || (14..=1514).contains(&len), "a frame of {len} bytes");
            }
            4 | 5 => speak(&mut end, &mut open, &mut input),
            6 | 7 => arrive(&mut end, &mut input),
            8 => scribble(&mut end, &mut input),
            9 => host.set_status(HvStatus(input.of(&[0, 0, 0, 0x13, 0x12]))),
            10 => {
                end.serve();
            }
            _ => {
                if input.byte() == 0 {
                    client.take(&message(2, &[1]));
                }
            }
        }
    }
    // The host is gone for good: all memory comes back with the end of the connection.
    host.set_status(HvStatus(0));
    let closing = guest.close(&mut client);
    if client.unload().is_ok() {
        client.take(&message(17, &[]));
    }
    if let Ok(closing) = closing {
        let never =
            &mut |_: &mut hv_vmbus_client::Client<'_, Host<'_>>| Err(hv_vmbus_client::Error::TimedOut);
        assert!(client.block_on(closing, never).is_ok(), "the connection has ended");
        assert_eq!(host.live(), 0, "memory is lost");
    }
}

/// Takes all frames that exist. The ring bounds how many those are.
fn take_frames(guest: &mut Guest<'_>) {
    let mut room = [0; LONGEST];
    let mut frames = 0;
    loop {
        match guest.receive(&mut room) {
            Ok(Some(len)) => {
                assert!((14..=LONGEST).contains(&len), "a frame of {len} bytes");
                frames += 1;
                assert!(frames <= 1 << 16, "frames without an end");
            }
            Ok(None) => return,
            Err(error) => {
                assert!(!error.may_retry() || matches!(error, Error::Client(_)), "{error}");
                return;
            }
        }
    }
}

/// Answers one of the guest's packets as a card does, or with anything; or says something of its own.
fn speak(end: &mut ScriptedCard<'_>, open: &mut Vec<Heard>, input: &mut Input<'_>) {
    open.extend(std::iter::from_fn(|| end.hear()));
    let heard = if open.is_empty() { None } else { Some(open.swap_remove(input.below(open.len()))) };
    match (input.below(4), heard) {
        (0, Some(heard)) => {
            end.answer(&heard);
            if input.flag() {
                end.answer(&heard);
            }
        }
        (1, heard) => {
            let id = heard.map_or_else(|| input.long(), |heard| heard.transaction);
            let kind = input.of(&[2, 102, 105, 108, 133, 0]);
            let rest: Vec<u32> = (0..input.below(8))
                .map(|_| if input.flag() { input.of(&[0, 1, 2, 2048, 1562, 0xffff]) } else { input.word() })
                .collect();
            end.complete(id, &words(&[&[kind][..], &rest[..]].concat()));
        }
        (2, _) => {
            let payload = input.bytes(48);
            end.say(payload);
        }
        (_, Some(heard)) => end.answer(&heard),
        _ => {}
    }
}

/// Names something of the receive buffer: messages that are right, nearly, or not at all.
fn arrive(end: &mut ScriptedCard<'_>, input: &mut Input<'_>) {
    let channel = u32::from(input.flag());
    match input.below(4) {
        0 => {
            let frame = vec![input.byte(); input.of(&[14, 60, 1514, 13, 1600])];
            end.frame(&frame);
        }
        1 => {
            let kind = input.of(&[0x8000_0002, 0x8000_0004, 0x8000_0005, 7, 8, 1]);
            let body: Vec<u32> = (0..input.below(12))
                .map(|_| if input.flag() { input.of(&[0, 1, 4, 5, 6, 16, 36, 44]) } else { input.word() })
                .collect();
            let len = if input.flag() { body.len() as u32 * 4 + 8 } else { input.word() };
            end.deliver(channel, &words(&[&[kind, len][..], &body[..]].concat()));
        }
        2 => {
            // A frame with information about it.
            let mut head = [1, 144, 36 + 16, 60, 0, 0, 0, 36, 16, 0, 0, 16, 6, 12, 0x1230];
            head[input.below(15)] = if input.flag() { input.byte().into() } else { input.word() };
            end.deliver(channel, &[words(&head), vec![3; 84]].concat());
        }
        _ => {
            let mut place = || if input.flag() { input.half().into() } else { input.word() };
            let ranges: Vec<_> = (0..4).map(|_| (place(), place())).collect();
            let count = input.below(5);
            let set = input.of(&[0xcafe, 0xcafe, 0]);
            end.name(set, ranges.get(..count).unwrap_or(&[]), &words(&[107, channel, u32::MAX, 0]));
        }
    }
}

/// Writes anything into rings and the receive buffer.
fn scribble(end: &mut ScriptedCard<'_>, input: &mut Input<'_>) {
    let [to_host, from_host] = end.rings();
    let ring = if input.flag() { to_host } else { from_host };
    match input.below(4) {
        0 => {
            let value = if input.flag() { u32::from(input.byte()) * 8 } else { input.word() };
            ring[0].store_u32(input.of(&[0, 4, 8, 12, 64]), value);
        }
        1 => ring[1].write(input.below(500) * 8, input.bytes(32)),
        _ => {
            let at = usize::from(input.half());
            let bytes = input.bytes(64);
            end.write(at, bytes);
        }
    }
}
