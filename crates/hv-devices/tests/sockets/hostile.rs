//! Guests and hosts that do anything, in any order: nothing panics, and the host is told a story that makes sense.

use crate::guest::{Guest, STREAMS, Told};
use hv_devices::sockets::{StreamId, WINDOW, cost};
use hv_tlfs::time::ReferenceTime;
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Step of a guest or its host. Streams and channels are chosen by number.
#[derive(Clone, Debug)]
enum Step {
    Connect(u32, u32),
    Open(u32),
    Close(u32),
    Release(u32),
    Write(u32, usize),
    Raw(u32, u16, u32, usize),
    Read(u32),
    Index(u32, bool, bool, u32),
    Contact,
    HostConnect(u32),
    Answer(usize, bool),
    Send(usize, usize),
    Finish(usize),
    Reset(usize),
    Take(usize),
    Wait(u64),
    Restore,
}

fn step() -> impl Strategy<Value = Step> {
    let channel = 1_u32..=STREAMS as u32;
    let which = 0_usize..8;
    prop_oneof![
        4 => (0_u32..4, 0_u32..2).prop_map(|(own, port)| Step::Connect(own, port)),
        4 => channel.clone().prop_map(Step::Open),
        1 => channel.clone().prop_map(Step::Close),
        3 => channel.clone().prop_map(Step::Release),
        8 => (channel.clone(), 0_usize..6000).prop_map(|(channel, len)| Step::Write(channel, len)),
        1 => (channel.clone(), 0_u16..13, any::<u32>(), 0_usize..100)
            .prop_map(|(channel, kind, claimed, len)| Step::Raw(channel, kind, claimed, len)),
        4 => channel.clone().prop_map(Step::Read),
        1 => (channel, any::<bool>(), any::<bool>(), 0_u32..30_000)
            .prop_map(|(channel, inbound, read, value)| Step::Index(channel, inbound, read, value)),
        1 => Just(Step::Contact),
        2 => (0_u32..2).prop_map(Step::HostConnect),
        6 => (which.clone(), prop::bool::weighted(0.8)).prop_map(|(at, yes)| Step::Answer(at, yes)),
        6 => (which.clone(), 1_usize..9000).prop_map(|(at, len)| Step::Send(at, len)),
        2 => which.clone().prop_map(Step::Finish),
        1 => which.prop_map(Step::Reset),
        6 => (0_usize..20).prop_map(Step::Take),
        1 => (0_u64..400_000_000).prop_map(Step::Wait),
        1 => Just(Step::Restore),
    ]
}

/// What the host knows of a stream.
#[derive(Debug, Default)]
struct Known {
    accepted: bool,
    credit: u32,
    finished: bool,
    host_done: bool,
}

/// A host that keeps to the rules.
#[derive(Default)]
struct Back {
    streams: BTreeMap<StreamId, Known>,
    requests: Vec<u32>,
    next: u32,
}

impl Back {
    fn pick(&self, at: usize) -> Option<StreamId> {
        self.streams.keys().nth(at % self.streams.len().max(1)).copied()
    }

    fn hear(&mut self, guest: &Guest, told: Told) {
        match told {
            Told::Connect(stream, _) => {
                assert!(self.streams.insert(stream, Known::default()).is_none(), "a new name");
            }
            Told::Opened(request, stream, _) => {
                let at = self.requests.iter().position(|other| *other == request);
                self.requests.remove(at.expect("a request of the host's"));
                let known = Known { accepted: true, ..Known::default() };
                assert!(self.streams.insert(stream, known).is_none(), "a new name");
            }
            Told::Refused(request) => {
                let at = self.requests.iter().position(|other| *other == request);
                self.requests.remove(at.expect("a request of the host's"));
            }
            Told::Credit(stream, bytes) => {
                if let Some(known) = self.streams.get_mut(&stream) {
                    assert!(known.accepted);
                    known.credit += bytes;
                }
            }
            Told::Data(stream, bytes) => {
                assert!(!bytes.is_empty());
                if let Some(known) = self.streams.get(&stream) {
                    assert!(known.accepted && !known.finished);
                }
                guest.with(|sockets, io| sockets.credit(io, stream, bytes.len() as u32));
            }
            Told::Finished(stream) => {
                if let Some(known) = self.streams.get_mut(&stream) {
                    assert!(!std::mem::replace(&mut known.finished, true));
                }
            }
            Told::Ended(stream) => drop(self.streams.remove(&stream)),
        }
    }
}

fn run(guest: &mut Guest, back: &mut Back, step: &Step) {
    match *step {
        Step::Connect(own, port) => guest.connect(1000 + own, 5000 + port),
        Step::Open(channel) => guest.open(channel),
        Step::Close(channel) => guest.close(channel),
        Step::Release(channel) => guest.release(channel),
        Step::Write(channel, len) => {
            guest.write(channel, &vec![channel as u8; len]);
        }
        Step::Raw(channel, kind, claimed, len) => {
            guest.raw(channel, kind, claimed, &vec![1; len]);
            guest.signal(channel);
        }
        Step::Read(channel) => {
            guest.swallow(channel);
        }
        Step::Index(channel, inbound, read, value) => {
            guest.set_index(channel, inbound, if read { 4 } else { 0 }, value);
            guest.signal(channel);
        }
        Step::Contact => guest.contact(),
        Step::HostConnect(port) => {
            back.next += 1;
            let request = back.next;
            if guest.with(|sockets, io| sockets.connect(io, request, 22 + port)).is_ok() {
                back.requests.push(request);
            }
        }
        Step::Answer(at, yes) => {
            let waiting: Vec<_> = back.streams.iter().filter(|(_, known)| !known.accepted).collect();
            let Some((stream, _)) = waiting.get(at % waiting.len().max(1)) else { return };
            let stream = **stream;
            if yes {
                back.streams.get_mut(&stream).unwrap().accepted = true;
                guest.with(|sockets, io| sockets.accept(io, stream));
            } else {
                back.streams.remove(&stream);
                guest.with(|sockets, io| sockets.refuse(io, stream));
            }
        }
        Step::Send(at, len) => {
            let Some(stream) = back.pick(at) else { return };
            let known = back.streams.get_mut(&stream).unwrap();
            let Some(left) = known.credit.checked_sub(cost(len as u32)) else { return };
            if !known.host_done {
                known.credit = left;
                guest.with(|sockets, io| sockets.send(io, stream, &vec![9; len])).expect("there was credit");
            }
        }
        Step::Finish(at) => {
            let Some(stream) = back.pick(at) else { return };
            let known = back.streams.get_mut(&stream).unwrap();
            if known.accepted {
                known.host_done = true;
                guest.with(|sockets, io| sockets.finish(io, stream));
            }
        }
        Step::Reset(at) => {
            let Some(stream) = back.pick(at) else { return };
            back.streams.remove(&stream);
            guest.with(|sockets, io| sockets.reset(io, stream));
        }
        Step::Take(room) => {
            for told in guest.news_of(room) {
                back.hear(guest, told);
            }
        }
        Step::Wait(time) => guest.at(guest.host.now.get().saturating_add(ReferenceTime(time))),
        // The host's end does not survive it.
        Step::Restore => {
            guest.restore();
            *back = Back { next: back.next, ..Back::default() };
            guest.news();
        }
    }
}

proptest! {
    #[test]
    fn any_guest_and_any_order(steps in vec(step(), 0..150)) {
        let (mut guest, mut back) = (Guest::new(), Back::default());
        for step in &steps {
            run(&mut guest, &mut back, step);
            let most: u32 = back.streams.values().map(|known| known.credit).max().unwrap_or(0);
            prop_assert!(most < 1 << 15, "no more credit than a ring has room");
        }
        // When the guest has gone, so have all connections, and the host knows.
        guest.contact();
        for told in guest.news() {
            back.hear(&guest, told);
        }
        prop_assert_eq!(guest.connections(), 0);
        prop_assert!(back.requests.is_empty(), "{:?}", back.requests);
        prop_assert!(back.streams.is_empty(), "{:?}", back.streams);
        let (stream, channel, _) = guest.connected(1000, 5000);
        prop_assert!(guest.write(channel, b"as new"));
        prop_assert_eq!(guest.news(), vec![Told::Data(stream, b"as new".to_vec())]);
    }

    #[test]
    fn streams_arrive_whole_and_in_order(
        steps in vec((0_usize..3, any::<bool>(), 1_usize..5000, 0_usize..30), 1..200),
    ) {
        let mut guest = Guest::new();
        let streams: Vec<_> = (0..3).map(|n| guest.connected(1000 + n, 5000)).collect();
        let mut credit: Vec<u32> = streams.iter().map(|stream| stream.2).collect();
        let [mut sent, mut got] = [(); 2].map(|()| vec![[Vec::new(), Vec::new()]; 3]);
        let mut pending = [0_u32; 3];
        let mut byte = 0_u8;
        let mut next = |len: usize| -> Vec<u8> {
            (0..len).map(|_| { byte = byte.wrapping_add(1); byte }).collect()
        };
        let mut settle = |guest: &Guest, room, credit: &mut Vec<u32>, got: &mut Vec<[Vec<u8>; 2]>, give: bool| {
            let news = guest.news_of(room);
            let any = !news.is_empty();
            for told in news {
                let at = |stream| streams.iter().position(|other| other.0 == stream).unwrap();
                match told {
                    Told::Data(stream, bytes) => {
                        got[at(stream)][0].extend(&bytes);
                        pending[at(stream)] += bytes.len() as u32;
                        prop_assert!(pending[at(stream)] < WINDOW + 5000);
                    }
                    Told::Credit(stream, bytes) => credit[at(stream)] += bytes,
                    other => prop_assert!(false, "{other:?}"),
                }
            }
            for (at, (stream, ..)) in streams.iter().enumerate().filter(|_| give) {
                let bytes = std::mem::take(&mut pending[at]);
                guest.with(|sockets, io| sockets.credit(io, *stream, bytes));
            }
            Ok(any)
        };
        for (at, outward, len, room) in steps {
            let (stream, channel, _) = streams[at];
            if outward {
                let bytes = next(len);
                if guest.write(channel, &bytes) {
                    sent[at][0].extend(bytes);
                }
            } else if let Some(left) = credit[at].checked_sub(cost(len as u32)) {
                let bytes = next(len);
                credit[at] = left;
                guest.with(|sockets, io| sockets.send(io, stream, &bytes).unwrap());
                sent[at][1].extend(bytes);
            } else {
                got[at][1].extend(guest.read(channel).concat());
            }
            settle(&guest, room, &mut credit, &mut got, room % 3 == 0)?;
        }
        while settle(&guest, usize::MAX, &mut credit, &mut got, true)? {}
        for (at, (_, channel, _)) in streams.iter().enumerate() {
            got[at][1].extend(guest.read(*channel).concat());
        }
        prop_assert!(got == sent, "{:?}", (got.iter().flatten().map(Vec::len).collect::<Vec<_>>(), sent.iter().flatten().map(Vec::len).collect::<Vec<_>>()));
    }
}
