//! Arbitrary actions of a guest's VPs and its host, in sequence.

use hv_devices::any::Offer;
use hv_partition::Action;
use hv_partition::Host as _;
use hv_partition::faults::Disturbance;
use hv_tlfs::register::RegisterName;
use hv_tlfs::synic::MessageType;
use hv_vmbus::protocol;
use hv_vmbus::ring::{Outgoing, Producer, Ring};

use crate::input::{Input, SPLIT};
use crate::machine::{FuzzedMachine, Setup, VPS, run};
use crate::messages;

/// Maximum number of steps in a run.
const STEPS: usize = 256;

/// Fuzzes a partition with a sequence of operations over several VPs.
pub fn sequence(data: &[u8]) {
    let mut input = Input::new(data);
    let setup = Setup::of(&mut input);
    let how = input.byte();
    run(setup, |[first, second]| {
        let (mut machine, mut other) = (first, second);
        if how & 1 == 0 {
            machine.boot();
        }
        if how & 2 != 0 {
            machine.open_channel(how & 4 != 0);
        }
        let mut offers_changed = false;
        let mut steps = 0;
        while !input.is_empty() && steps < STEPS {
            let step = input.byte() % 32;
            let before = machine.time();
            match step {
                30 => {
                    machine.move_to(other);
                    std::mem::swap(&mut machine, &mut other);
                }
                31 => {
                    machine.change_offers(&mut input);
                    offers_changed = true;
                }
                step => machine.step(step, &mut input),
            }
            if step != RESET && step < 10 {
                assert!(machine.time() >= before, "the reference time went back");
            }
            machine.check_deadlines();
            steps += 1;
        }
        machine.check_service();
        if !offers_changed {
            machine.check_reset(other, how == 0xf0);
        }
    });
}

/// Makes a step that may reset the machine.
const RESET: u8 = 8;

impl FuzzedMachine<'_> {
    pub(crate) fn step(&self, step: u8, input: &mut Input<'_>) {
        let vp = input.below(VPS);
        match step {
            0..=3 => self.any_hypercall(input),
            4..=6 => {
                let vp = self.running(vp);
                let (name, value) = (input.register(), input.value());
                let _ = self.set(vp, RegisterName(name as u32), value);
            }
            7 => {
                let _ = self.get(self.running(vp), RegisterName(input.register() as u32));
            }
            RESET => self.any_call(vp, input),
            9 => self.start_next(),
            10..=12 => self.pass(u64::from(input.half()) << (input.byte() % 24)),
            13..=15 => self.pass_to_deadline(),
            16 => self.expire(self.running(vp)),
            17 | 18 => self.take_message(self.running(vp), input.byte() % 16),
            19 => {
                let (sint, size) = (input.of(&[2, 2, 3, 3, 15, 0, 1, 17]), input.byte());
                let payload = vec![7; usize::from(size)];
                let _ = self.partition.post_message(self.host, vp, sint, MessageType(1), 9, &payload);
            }
            20 => {
                let (sint, flag) = (input.of(&[2, 3, 15, 17]), input.half() % 2100);
                let _ = self.partition.signal_event(self.host, vp, sint, flag);
            }
            21 => self.online(vp),
            22 => self.offline(vp),
            23 => self.migrate(input.of(&[24_000_000, 1_000_000_000, 10_000_001, 19_200_000, 0, u64::MAX])),
            24 => {
                let what = input.of(&[Disturbance::Messages, Disturbance::Events, Disturbance::Time]);
                self.partition.disturb(self.host, vp, what, input.long());
            }
            25 => self.partition.set_reference_tsc_valid(self.host, input.flag()),
            26 => self.partition.rescan(self.host, vp),
            27 => {
                let gpa = input.address();
                let size = input.below(64);
                self.write(gpa, input.bytes(size));
            }
            28 => self.host.memory().race(input),
            _ => self.packet(input),
        }
    }

    /// Makes SMCCC and PSCI calls, and executes undefined immediates.
    fn any_call(&self, vp: usize, input: &mut Input<'_>) {
        let vp = self.running(vp);
        let kind = input.byte();
        let function = match kind & 3 {
            0 | 1 => 0x8400_0000 + u64::from(kind >> 2 & 31) + (u64::from(kind >> 7) << 30),
            2 => input.of(&[0x8000_0000, 0x8000_0001, 0x8600_ff01, 0xc600_ff01]),
            _ => input.long(),
        };
        let mut x = [0; 31];
        x[0] = function;
        x[1] = if input.flag() { input.below(5) as u64 } else { input.value() };
        x[2] = input.address();
        x[3] = input.byte().into();
        let immediate = if input.byte() < 250 { 0 } else { input.half() };
        let action =
            if kind & 4 == 0 { self.hvc(vp, immediate, &mut x) } else { self.smc(vp, immediate, &mut x) };
        match action {
            Action::VpOff => self.offline(vp),
            Action::SystemOff | Action::SystemReset => {
                self.partition.reset(self.host);
                self.forget_starts();
                self.online(0);
            }
            Action::Resume | Action::Undefined | Action::Suspend => {}
            Action::Retry => panic!("only hypercalls are made again"),
        }
    }

    /// Advances the counter to the next deadline of any VP.
    fn pass_to_deadline(&self) {
        let next = self.deadlines().into_iter().flatten().min();
        if let Some(next) = next {
            self.pass(next.saturating_sub(self.host.counter_now()));
        }
    }

    /// Empties a message slot, as a guest should.
    fn take_message(&self, vp: usize, sint: u8) {
        use hv_partition::GuestMemory as _;
        let slot = Self::message_page(vp) + u64::from(sint) * 256;
        let memory = self.host.memory();
        let pending = memory.load_acquire(slot + 4).is_ok_and(|word| word & 0x100 != 0);
        let _ = memory.store_release(slot, 0);
        if pending {
            let _ = self.set(vp, RegisterName::EOM, 0);
        }
    }

    fn post(&self, vp: usize, message: &[u8]) {
        let mut x = [0; 31];
        let mut parameters: Vec<u8> =
            [4, 0, 1, message.len() as u32].iter().flat_map(|word| word.to_le_bytes()).collect();
        parameters.extend(message);
        let gpa = crate::memory::RAM;
        self.write(gpa, &parameters);
        x[0] = 0x5c;
        x[1] = gpa;
        let _ = self.hvc(vp, 1, &mut x);
    }

    /// Connects to VMBus and opens its first two channels, the heartbeat's and the echo's, on the same pages.
    pub(crate) fn open_channel(&self, both: bool) {
        let pages = messages::ring_pages();
        let vp = self.running(0);
        self.post(vp, &messages::contact(0x5_0003, 1));
        self.take_message(1, 2);
        self.post(vp, &messages::request_offers());
        (0..3).for_each(|_| self.take_message(1, 2));
        for channel in if both { 1..3 } else { 2..3 } {
            self.post(vp, &messages::gpadl(channel, channel, &pages));
            self.post(vp, &messages::open(channel, channel, 1, SPLIT));
        }
        (0..4).for_each(|_| self.take_message(1, 2));
    }

    /// Sends a packet to VMBus, or empties the guest's ring.
    fn packet(&self, input: &mut Input<'_>) {
        let kind = input.byte();
        guest_packet(self.host.memory(), kind, input);
        let vp = self.running(0);
        let mut x = [0; 31];
        x[0] = 0x1_005d;
        x[1] = 0x2001 + u64::from(kind >> 7);
        let _ = self.hvc(vp, 1, &mut x);
    }

    /// Offers or rescinds a channel.
    fn change_offers(&self, input: &mut Input<'_>) {
        let byte = input.byte();
        self.partition.with_vmbus(self.host, |server| {
            if byte & 1 == 0 {
                server.offer(if byte & 2 == 0 { Offer::ECHO } else { Offer::HEARTBEAT });
            } else {
                server.rescind(protocol::ChannelId(u32::from(byte >> 1 & 7)));
            }
        });
    }

    /// Moves the guest to another partition.
    fn move_to(&self, other: &FuzzedMachine<'_>) {
        self.expire_all();
        let image = self.image();
        let time = self.time();
        assert_eq!(other.partition.restore(self.host, &image), Ok(()));
        assert_eq!(other.time(), time, "the time stands still between save and restore");
        other.expire_all();
        assert!(other.image() == image, "a restored partition is another");
    }
}

/// Puts a packet into the guest's ring, or takes everything out of the other one.
pub(crate) fn guest_packet(memory: &crate::memory::Memory, kind: u8, input: &mut Input<'_>) {
    let pages = messages::ring_pages();
    let (outgoing, incoming) = pages.split_at(SPLIT as usize);
    if kind & 7 == 7 {
        use hv_partition::GuestMemory as _;
        let write = memory.load_acquire(incoming[0] * 4096).unwrap_or(0);
        let _ = memory.store_release(incoming[0] * 4096 + 4, write);
        return;
    }
    let Ok(ring) = Ring::new(memory, outgoing) else { return };
    // The guest's position is in the ring: the guest may have corrupted it.
    let Ok(mut producer) = Producer::attach(&ring) else { return };
    let payload = vec![kind; usize::from(input.byte()) * if kind & 8 == 0 { 1 } else { 60 }];
    let packet = Outgoing {
        packet_type: protocol::PacketType(input.of(&[6, 6, 6, 7, 9, 11, 0])),
        flags: u16::from(kind >> 4 & 1),
        transaction_id: input.byte().into(),
        len: payload.len() as u32,
    };
    let _ = producer.push_bytes(&ring, &packet, &payload);
}
