//! A channel's whole life in any order, against a model of what the guest may be told and when.

use crate::common::{GuestPacket, Lock, Received, TestPort, close, contact, gpadl, header, open, teardown};
use crate::common::{PAGES, SPLIT};
use crate::sample::{ATTACH, Guest, OFFER, REQUEST, SUBCHANNELS, command};
use hv_devices::any::Any;
use hv_vmbus::protocol::{
    ChannelId, GpadlCreated, GpadlTorndown, MessageType, NtStatus, OfferChannel, OpenResult, RelIdReleased,
    RescindOffer, Version,
};
use hv_vmbus::{Bus, BusError, Config, DeviceId, Event, Slot, Token};
use proptest::prelude::*;
use std::collections::BTreeSet;
use zerocopy::IntoBytes;

/// GPADL of the rings, and of data.
const RINGS: u32 = 9;
const DATA: u32 = 20;
/// Page of the data.
const DATA_PAGE: u64 = 0x40;

/// A request that the back end works on.
#[derive(Debug)]
struct Flying {
    token: Token,
    data: bool,
}

/// What the guest knows, and what must hold.
struct Model {
    guest: Guest,
    flying: Vec<Flying>,
    /// Tokens of requests that are over.
    over: Vec<Token>,
    /// Channels that the guest was offered and has not released.
    known: BTreeSet<u32>,
    /// GPADLs that were created and are not torn down.
    live: BTreeSet<u32>,
    open: bool,
    /// Transactions of the channel's present opening that wait for their answers.
    waiting: BTreeSet<u64>,
    /// A contact or UNLOAD waits for its answer.
    ending: bool,
    next: u64,
}

impl Model {
    fn new() -> Self {
        Self {
            guest: Guest::new(),
            flying: Vec::new(),
            over: Vec::new(),
            known: [1].into(),
            live: [RINGS].into(),
            open: true,
            waiting: BTreeSet::new(),
            ending: false,
            next: 1,
        }
    }

    fn step(&mut self, kind: u8, detail: u8) {
        let guest = &mut self.guest;
        match kind % 16 {
            0 => {
                self.end();
                self.guest.post(contact(Version::V5_3).as_bytes());
            }
            1 if detail & 1 == 0 => {
                self.end();
                self.guest.post(header(MessageType::UNLOAD).as_bytes());
            }
            1 => guest.post(header(MessageType::REQUEST_OFFERS).as_bytes()),
            2 => gpadl(1, RINGS, &PAGES).iter().for_each(|message| guest.post(message)),
            3 => gpadl(1, DATA, &[DATA_PAGE]).iter().for_each(|message| guest.post(message)),
            4 if !self.open => {
                for ring in [&guest.out, &guest.back] {
                    [0, 4, 8, 12].iter().for_each(|word| ring.set_word(&guest.port.memory, *word, 0));
                }
                guest.post(open(1, RINGS, 1, SPLIT).as_bytes());
            }
            4 => guest.post(open(1, RINGS, 1, SPLIT).as_bytes()),
            5 => {
                guest.post(close(1).as_bytes());
                self.closed();
            }
            6 => guest.post(teardown(1, RINGS).as_bytes()),
            7 => guest.post(teardown(1, DATA).as_bytes()),
            8 if detail & 1 == 0 => {
                if guest.bus.rescind(ChannelId(1), &guest.port) {
                    self.closed();
                }
            }
            8 => drop(guest.bus.offer(DeviceId(0), &hv_vmbus::offer(OFFER, OFFER), &guest.port)),
            9 => {
                let header = header(MessageType::RELID_RELEASED);
                let channel = ChannelId(u32::from(detail % 5));
                guest.post(RelIdReleased { header, channel }.as_bytes());
            }
            10..13 => {
                let payload = match detail % 8 {
                    0 => command(SUBCHANNELS, detail / 8, 0),
                    1 | 2 => command(ATTACH, DATA as u8, 1),
                    3 => command(200, 0, 0),
                    _ => command(REQUEST, 0, 0),
                };
                self.send(payload);
            }
            _ => self.complete(usize::from(detail)),
        }
        self.look();
    }

    /// Ends the guest's connection, and forgets all channels.
    fn end(&mut self) {
        self.closed();
        self.known.clear();
        self.ending = true;
    }

    fn closed(&mut self) {
        self.open = false;
        self.waiting.clear();
    }

    fn send(&mut self, payload: [u8; 8]) {
        let id = self.next;
        self.next += 1;
        let packet = GuestPacket { kind: 6, flags: 1, transaction: id, payload: payload.to_vec() };
        if self.open && self.guest.out.send(&self.guest.port.memory, &packet).is_some() {
            self.waiting.insert(id);
        }
        // A channel that is closed has no connection.
        let _ = self.guest.bus.signal(0x2001, &self.guest.port);
    }

    fn complete(&mut self, which: usize) {
        if !self.flying.is_empty() {
            let Flying { token, .. } = self.flying.swap_remove(which % self.flying.len());
            assert_eq!(self.guest.complete(token, 7), Ok(()));
            self.over.push(token);
        }
        if let Some(token) = self.over.get(which % self.over.len().max(1)) {
            assert_eq!(self.guest.complete(*token, 8), Err(BusError::UnknownToken), "once only");
        }
    }

    /// Takes note of what has come, and judges it.
    fn look(&mut self) {
        let events = self.guest.port.events.take();
        for event in events {
            match event {
                Event::Released { channel } => {
                    self.known.remove(&channel.0);
                    if channel.0 == 1 {
                        self.live.clear();
                    }
                }
                Event::RingCorrupt { .. } => panic!("the guest did nothing wrong: {event:?}"),
                _ => {}
            }
        }
        for message in self.guest.port.take() {
            self.message(&message);
        }
        while let Some((packet, signal)) =
            self.guest.back.receive(&self.guest.port.memory).filter(|_| self.open)
        {
            assert!(self.waiting.remove(&packet.transaction), "{packet:?} answers nothing that waits");
            if signal {
                let _ = self.guest.bus.signal(0x2001, &self.guest.port);
            }
        }
        for (token, data) in self.guest.started() {
            assert!(self.open, "a request of a channel that is closed");
            assert!(!self.flying.iter().any(|f| f.token == token) && !self.over.contains(&token));
            self.flying.push(Flying { token, data: data == [(DATA_PAGE * 4096 + 8, 16)] });
        }
        assert!(self.flying.len() <= 3);
        assert_eq!(self.guest.bus.is_idle(), self.flying.is_empty());
    }

    fn message(&mut self, message: &Received) {
        match message.kind() {
            MessageType::VERSION_RESPONSE | MessageType::UNLOAD_RESPONSE => {
                assert!(self.ending && self.flying.is_empty(), "the guest's memory is in use");
                self.ending = false;
                self.live.clear();
            }
            kind if self.ending => panic!("{kind:?} between the end of a connection and its answer"),
            MessageType::OFFER_CHANNEL => {
                let id = message.message::<OfferChannel>().channel.0;
                assert!(self.known.insert(id), "number {id} is used twice");
            }
            MessageType::RESCIND_OFFER => {
                let id = message.message::<RescindOffer>().channel.0;
                assert!(self.known.contains(&id));
                assert!(id != 1 || self.flying.is_empty(), "requests of the channel are in flight");
            }
            MessageType::GPADL_CREATED => {
                let created: GpadlCreated = message.message();
                if created.status == NtStatus::SUCCESS {
                    assert!(self.live.insert(created.gpadl.0));
                }
            }
            MessageType::GPADL_TORNDOWN => {
                let id = message.message::<GpadlTorndown>().gpadl.0;
                self.live.remove(&id);
                assert!(id != RINGS || self.flying.is_empty(), "requests hold the rings");
                assert!(id != DATA || !self.flying.iter().any(|f| f.data), "requests hold the data");
            }
            MessageType::OPEN_RESULT if message.message::<OpenResult>().status == NtStatus::SUCCESS => {
                assert!(!self.open);
                self.open = true;
            }
            _ => {}
        }
    }

    /// Completes everything, from any state.
    fn finish(&mut self) {
        self.step(1, 0);
        while !self.flying.is_empty() {
            assert!(self.ending);
            self.step(15, 0);
        }
        assert!(!self.ending, "UNLOAD is answered");
        assert!(self.guest.bus.is_idle() && !self.guest.bus.has_pending());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_order_of_a_channels_life_keeps_the_promises(
        steps in prop::collection::vec((any::<u8>(), any::<u8>()), 1..120),
    ) {
        let mut model = Model::new();
        for (kind, detail) in steps {
            model.step(kind, detail);
        }
        model.finish();
    }

    /// The same where the guest does mostly what makes sense, so that requests are in flight at each end.
    #[test]
    fn ends_of_all_kinds_wait_for_what_is_in_flight(
        rounds in prop::collection::vec((0u8..10, prop::collection::vec((10u8..16, any::<u8>()), 0..12)), 1..16),
    ) {
        let mut model = Model::new();
        for (end, work) in rounds {
            for (kind, detail) in work {
                model.step(kind, detail);
            }
            model.step(end, 0);
            for (kind, detail) in [(0, 0), (1, 1), (2, 0), (3, 0), (4, 0)] {
                if kind != 0 || end < 2 {
                    model.step(kind, detail);
                }
            }
        }
        model.finish();
    }
}

#[test]
fn a_slot_of_another_bus_is_unknown_even_if_its_own_bus_has_found_it() {
    let bus = || -> Bus<Lock, [Slot<Lock, Any>; 2]> {
        Bus::new(Config::DEFAULT, [const { Slot::new(Any::ECHO) }; 2])
    };
    let (own, other, port) = (bus(), bus(), TestPort::new());
    let slot = &own.devices()[1];
    let found = Ok((DeviceId(1), ChannelId(2)));
    assert_eq!(other.place(slot, &port), Err(BusError::UnknownDevice));
    assert_eq!((own.place(slot, &port), own.place(slot, &port)), (found, found));
    assert_eq!(other.place(slot, &port), Err(BusError::UnknownDevice));
    assert_eq!(other.with(slot, &port, |_, _| ()), Err(BusError::UnknownDevice));
}
