//! Messages, signals and completions from three threads at once.

use crate::common::Lock;
use crate::common::{
    GuestPacket, GuestRing, Memory, PAGES, SPLIT, close, contact, gpadl, header, memory, open, teardown,
};
use crate::sample::{MachineDevices, OFFER, Op, REQUEST, command, sample};
use hv_tlfs::time::ReferenceTime;
use hv_vmbus::protocol::{MessageHeader, MessageType, Version};
use hv_vmbus::{Backend, Bus, BusPort, Config, DeviceId, Pages, Posted, Slot, Started, Token};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use zerocopy::{FromBytes, IntoBytes};

/// A partition that threads share.
struct Shared {
    memory: Memory,
    messages: Mutex<Vec<MessageType>>,
    started: Mutex<Vec<Token>>,
}

impl BusPort for Shared {
    type Memory = Memory;

    fn memory(&self) -> &Memory {
        &self.memory
    }

    fn reference_time(&self) -> ReferenceTime {
        ReferenceTime(0)
    }

    fn post(&self, _: u32, _: u8, payload: &[u8]) -> Posted {
        let kind = MessageHeader::read_from_prefix(payload).unwrap().0.message_type;
        self.messages.lock().unwrap().push(kind);
        Posted::Queued
    }

    fn interrupt(&self, _: u32, _: u8, _: u16) {}

    fn has_vp(&self, _: u32) -> bool {
        true
    }
}

impl Backend<Op> for Shared {
    fn start(&self, _: DeviceId, token: Token, _: &Op, _: Pages<'_>) -> Started<u8> {
        self.started.lock().unwrap().push(token);
        Started::Pending
    }
}

const ROUNDS: usize = 300;

#[test]
fn messages_signals_and_completions_do_not_lose_each_other() {
    let slot = Slot::offering(sample(), hv_vmbus::offer(OFFER, OFFER));
    let bus: Bus<Lock, MachineDevices> = Bus::new(Config::DEFAULT, MachineDevices { sample: slot });
    let port = Shared { memory: memory(1 << 20), messages: Mutex::default(), started: Mutex::default() };
    let (out, back) = PAGES.split_at(SPLIT as usize);
    // The guest's own driver keeps openings and packets of a ring apart; messages and signals it does not.
    let (out, back) = (Mutex::new(GuestRing::new(out)), GuestRing::new(back));
    let over = AtomicBool::new(false);
    let post = |message: &[u8]| bus.message(4, message, &port).unwrap();
    let kinds = || std::mem::take(&mut *port.messages.lock().unwrap());

    let completed = std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..ROUNDS {
                post(contact(Version::V5_3).as_bytes());
                post(header(MessageType::REQUEST_OFFERS).as_bytes());
                gpadl(1, 9, &PAGES).iter().for_each(|message| post(message));
                {
                    let ring = out.lock().unwrap();
                    for ring in [&*ring, &back] {
                        [0, 4, 8, 12].iter().for_each(|word| ring.set_word(&port.memory, *word, 0));
                    }
                    post(open(1, 9, 1, SPLIT).as_bytes());
                }
                if round % 3 == 0 {
                    post(close(1).as_bytes());
                    post(teardown(1, 9).as_bytes());
                }
                if round % 2 == 0 {
                    post(header(MessageType::UNLOAD).as_bytes());
                }
            }
            over.store(true, Ordering::Release);
        });
        scope.spawn(|| {
            let mut id = 0;
            while !over.load(Ordering::Acquire) {
                id += 1;
                let payload = command(REQUEST, 0, 0).to_vec();
                let packet = GuestPacket { kind: 6, flags: 1, transaction: id, payload };
                let ring = out.lock().unwrap();
                ring.send(&port.memory, &packet);
                drop(ring);
                let _ = bus.signal(0x2001, &port);
            }
        });
        let completer = scope.spawn(|| {
            let mut count = 0;
            loop {
                let ended = over.load(Ordering::Acquire);
                let token = port.started.lock().unwrap().pop();
                match token {
                    Some(token) => {
                        bus.completed(&bus.devices().sample, token, 1, &port).unwrap();
                        count += 1;
                    }
                    None if ended && bus.is_idle() => return count,
                    None => std::thread::yield_now(),
                }
            }
        });
        completer.join().unwrap()
    });
    // The signalling thread may have had requests made after the others had ended.
    while let Some(token) = { port.started.lock().unwrap().pop() } {
        bus.completed(&bus.devices().sample, token, 1, &port).unwrap();
    }
    assert!(bus.is_idle() && !bus.has_pending());
    kinds();
    bus.message(4, header(MessageType::UNLOAD).as_bytes(), &port).unwrap();
    assert_eq!(kinds(), [MessageType::UNLOAD_RESPONSE], "{completed} requests");
}
