//! A host that sends anything.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use hv_guest::conduit::{Conduit, FAST_WORDS, FastOutput};
use hv_guest::page::Page;
use hv_guest::synic::SintIndex;
use hv_guest::vp_map::VpMap;
use hv_testbed::{Convention, Wire};
use hv_tlfs::guest_id::GuestOsId;
use hv_tlfs::hypercall::{HypercallInput, HypercallOutput};
use hv_tlfs::vp::VpIndex;
use hv_vmbus_client::ring::{Outgoing, Receiver, Sender};
use hv_vmbus_client::{Contact, Error, Notice, Open, PageRun, PollSynic, Progress, Wait, deliver};
use proptest::prelude::*;

use crate::guest::{Guest, config};

/// Generates a message of any type that a host sends, with anything in it: numbers are small, so that some are those of
/// channels.
fn message() -> impl Strategy<Value = Vec<u8>> {
    let kinds = prop::sample::select(vec![1_u32, 2, 4, 6, 10, 12, 15, 17, 20, 23, 24, 26, 28, 0, 5, 77]);
    let word = prop_oneof![0..4_u32, 0xe1e0e..0xe1e20_u32, any::<u32>()];
    (kinds, prop::collection::vec(word, 0..58)).prop_map(|(kind, words)| {
        let words = [kind, 0].into_iter().chain(words);
        words.flat_map(u32::to_le_bytes).collect()
    })
}

/// Returns the configuration: fewer cases under Miri, and no file of failures, since Miri has no file system.
fn config_of_cases(cases: u32) -> ProptestConfig {
    let cases = if cfg!(miri) { 3 } else { cases };
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config_of_cases(200))]

    /// Whatever the messages, the client continues; memory comes back only with the answer that says so.
    #[test]
    fn any_messages_are_taken(messages in prop::collection::vec(message(), 0..60), connect in any::<bool>()) {
        let guest = Guest::<1>::new(config(), Convention::Smccc, 1);
        let mut client = if connect { guest.connected() } else { guest.client() };
        let offer = client.offers().next();
        let mut requests = Vec::new();
        let mut channel = None;
        if let Some(offer) = &offer {
            let run = PageRun::new(&guest.dma, 1).unwrap();
            requests.push(client.create_gpadl(offer.channel(), run).unwrap());
            let open = Open::on(VpIndex(0));
            channel = client.open_channel(offer, 2, open, &guest.dma, &mut guest.os()).ok();
        } else {
            client.contact(Contact::new(VpIndex(0))).unwrap();
        }
        for message in &messages {
            match client.take(message) {
                Notice::Offered(id) => prop_assert!((1..2048).contains(&id.0)),
                Notice::Rescinded(id) => prop_assert!((1..2048).contains(&id.0)),
                _ => {}
            }
            prop_assert!(client.offers().count() <= 8);
            for offer in client.offers() {
                prop_assert!((1..2048).contains(&offer.channel().0));
            }
        }
        prop_assert!(!matches!(client.poll_contact(), Poll::Ready(Ok(_))) || client.version().is_some());
        for request in requests {
            match request.poll(&mut client) {
                Progress::Done(Ok(gpadl)) => drop(gpadl.teardown(&mut client)),
                Progress::Done(Err(returned)) => prop_assert_eq!(returned.value.pages().len(), 1),
                Progress::Pending(_) => {}
            }
        }
        if let Some(mut channel) = channel {
            let _ = channel.poll_target();
            let _ = channel.send(&Outgoing::in_band(1, &[]));
            let _ = channel.close(&mut client);
        }
        // The host ends it all, and the guest starts over.
        let _ = client.unload();
        hv_vmbus_client::deliver(guest.synic, hv_guest::synic::SintIndex::VMBUS, &mut client);
        prop_assert!(client.connect(Contact::new(VpIndex(0)), &mut guest.os()).is_ok());
    }

    /// Rings with anything in them, which change between any two calls: an error or a packet, and an end.
    #[test]
    fn any_ring_is_read_and_written(
        words in prop::collection::vec((0..5_usize, prop_oneof![(0..1024_u32).prop_map(|n| n * 8), any::<u32>()]), 1..40),
        data in prop::collection::vec(any::<u8>(), 0..4096),
        actions in prop::collection::vec((0..6_u8, 0..300_usize), 1..40),
    ) {
        let area: Box<[Page]> = (0..3).map(|_| Page::new()).collect();
        let mut receiver = Receiver::new(&area[..]).unwrap();
        let mut sender = Sender::new(&area[..]).unwrap();
        area[1].write(0, &data);
        area[2].write(0, &data);
        let mut hostile = words.iter().cycle();
        for (action, len) in actions {
            let (word, value) = hostile.next().unwrap();
            area[0].store_u32([0, 4, 8, 12, 64][*word], *value);
            match action {
                0 => {
                    let _ = sender.send(&area[..], &Outgoing::in_band(1, &data[..len.min(data.len())]));
                }
                1 => {
                    let _ = sender.wait_for(&area[..], len as u32);
                }
                2 => drop(receiver.commit(&area[..])),
                3 => drop(receiver.unmask(&area[..])),
                _ => {
                    // A packet takes 24 bytes at least, and no room is given back meanwhile.
                    let mut packets = 0;
                    while let Ok(Some(mut packet)) = receiver.next(&area[..]) {
                        packets += 1;
                        prop_assert!(packets <= 8192 / 24);
                        prop_assert!(packet.left() <= 8192);
                        if let Some(ranges) = packet.transfer_ranges() {
                            prop_assert!(ranges.count() <= 8192 / 8);
                        }
                        let mut payload = [0; 100];
                        while packet.read(&mut payload) > 0 {}
                    }
                }
            }
        }
        let failed = (receiver.next(&area[..]).is_err(), sender.free(&area[..]).is_err());
        prop_assert_eq!(failed, (receiver.dead().is_some(), sender.dead().is_some()));
    }
}

/// A host that puts a message into the slot of SINT 2 at each hypercall, so at each EOM too.
#[derive(Clone, Copy)]
struct Chatty {
    wire: Wire,
    messages: &'static Page,
    /// Messages that it has put there.
    sent: &'static AtomicUsize,
}

impl Chatty {
    /// A test without an end would tell less than one that fails.
    const MOST: usize = 10_000;

    fn say(&self) {
        if self.sent.fetch_add(1, Ordering::Relaxed) < Self::MOST {
            let slot = 2 * 256;
            // No payload, and another message is pending.
            self.messages.store_u32(slot + 4, 1 << 8);
            self.messages.store_u32(slot, 1);
        }
    }
}

#[expect(unsafe_code, reason = "passes calls on")]
impl Conduit for Chatty {
    unsafe fn call(&self, control: HypercallInput, block: &mut [u64; FAST_WORDS]) -> HypercallOutput {
        self.say();
        // SAFETY: the caller vouches for the effects of exactly this call.
        unsafe { self.wire.call(control, block) }
    }

    fn fast_output(&self) -> FastOutput {
        self.wire.fast_output()
    }

    unsafe fn smccc(&self, function: u32, arguments: [u64; 3]) -> [u64; 4] {
        // SAFETY: the caller vouches for the effects of exactly this call.
        unsafe { self.wire.smccc(function, arguments) }
    }
}

#[test]
fn messages_without_an_end_hold_up_neither_a_handler_nor_a_wait() {
    let guest = Guest::<1>::new(config(), Convention::Smccc, 2);
    let mut client = guest.client();
    let (messages, events) = (guest.bed.page(), guest.bed.page());
    let sent: &'static AtomicUsize = Box::leak(Box::default());
    let host = Chatty { wire: guest.bed.wire(1, Convention::Smccc), messages, sent };
    let partition =
        hv_guest::detect::vendor_uid(host).unwrap().identify(GuestOsId::linux(0x06_0c_00)).unwrap();
    let map = VpMap::<2>::new();
    let synic = partition.vp(&map, 1).unwrap().enable_synic(messages, events, guest.bed.memory()).unwrap();
    sent.store(0, Ordering::Relaxed);
    host.say();
    assert!(deliver(&synic, SintIndex::VMBUS, &mut client));
    let taken = sent.load(Ordering::Relaxed);
    assert!(taken <= 100, "{taken} messages were taken at once");
    let mut os = PollSynic::new(&synic, SintIndex::VMBUS, 10);
    let waits = (0..20).take_while(|_| os.wait(&mut client) != Err(Error::TimedOut)).count();
    assert_eq!(waits, 10);
    assert!(sent.load(Ordering::Relaxed) < Chatty::MOST, "the host has not stopped");
}
