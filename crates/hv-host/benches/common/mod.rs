//! A partition in process, for measurements.
//!
//! The embedder here does nothing that the partition does not ask for, so that the figures are the partition's own.

use std::hint::black_box;

use hv_host::{Action, Config, Connections, GuestMemory as _, Host as _, Partition, Port, PortTarget, Vp};
use hv_partition::testing::{Effect, Memory, TestHost, Watch};
use hv_tlfs::hypercall::{HypercallCode as Code, HypercallInput};
use hv_tlfs::register::RegisterName as Name;
use hv_tlfs::smccc::HYPERCALL;
use hv_tlfs::status::HvStatus;
use hv_tlfs::synic::MessageType;
use hv_tlfs::vp::{PARTITION_ID_SELF, VP_INDEX_SELF};

/// Bytes of memory that each VP has: input of hypercalls, message page, event flags page.
const OF_VP: u64 = 0x3000;
pub(crate) const SINT: u8 = 3;

/// Sees nothing, and has no connections.
pub(crate) struct Blind;

impl Watch for Blind {
    fn effect(&self, _: Effect) {}

    fn interrupt(&self, _: usize, _: u32) {}
}

impl Connections for Blind {
    fn post_message(&self, _: usize, _: u32, _: MessageType, _: &[u8]) -> Result<(), HvStatus> {
        Err(HvStatus::INVALID_CONNECTION_ID)
    }

    fn signal_event(&self, _: usize, _: u32, _: u16) -> Result<(), HvStatus> {
        Err(HvStatus::INVALID_CONNECTION_ID)
    }

    fn buffer_freed(&self, _: usize) {}
}

pub(crate) struct Bench<'a> {
    pub(crate) partition: Partition<'a, parking_lot::RawMutex>,
    pub(crate) host: TestHost<Blind>,
}

impl Bench<'_> {
    /// Calls a function of SMCCC by `hvc #0`, in registers that are reused: it changes nothing of its input but X0.
    #[inline(always)]
    pub(crate) fn smccc(&self, vp: usize, x: &mut [u64; 31], function: u32) -> u64 {
        x[0] = u64::from(function);
        black_box(self.partition.hvc(&self.host, vp, 0, black_box(x)) == Action::Resume);
        x[0]
    }

    /// Issues a hypercall.
    #[inline(always)]
    pub(crate) fn again(&self, vp: usize, x: &mut [u64; 31]) -> u64 {
        self.smccc(vp, x, HYPERCALL)
    }

    pub(crate) fn set(&self, vp: usize, name: Name, value: u64) {
        let mut x = set_one(name, value);
        assert_eq!(self.again(vp, &mut x), 1 << 32, "{name:?}");
    }

    /// Clears a word of the guest's memory, as the guest does.
    #[inline(always)]
    pub(crate) fn clear(&self, gpa: u64) {
        self.host.memory().store_release(gpa, 0).expect("in memory");
    }

    /// Writes the input of a post of 240 bytes to the VP itself, and returns the registers of the call.
    pub(crate) fn post_input(&self, vp: usize) -> [u64; 31] {
        let mut input = [0u8; 256];
        for (n, word) in [message_port(vp), 0, 1, 240].into_iter().enumerate() {
            input[n * 4..n * 4 + 4].copy_from_slice(&word.to_le_bytes());
        }
        self.host.memory().write(base(vp), &input).expect("in memory");
        call(HypercallInput::from_code(Code::POST_MESSAGE), &[base(vp)])
    }
}

/// Returns the first address of what a VP has.
pub(crate) const fn base(vp: usize) -> u64 {
    0x1000 + vp as u64 * OF_VP
}

/// Returns the address of the word of a VP's message slot that is 0 when the slot is free.
pub(crate) const fn slot(vp: usize) -> u64 {
    base(vp) + 0x1000 + SINT as u64 * 256
}

/// Returns the connection of a VP's messages to itself.
pub(crate) const fn message_port(vp: usize) -> u32 {
    0x100 + 2 * vp as u32
}

/// Returns the registers of a hypercall.
pub(crate) fn call(control: HypercallInput, input: &[u64]) -> [u64; 31] {
    let mut x = [0; 31];
    x[1] = control.0;
    x[2..2 + input.len()].copy_from_slice(input);
    x
}

pub(crate) fn get_one(name: Name) -> [u64; 31] {
    let input = [PARTITION_ID_SELF, VP_INDEX_SELF.into(), name.0.into()];
    let control = HypercallInput::from_code(Code::GET_VP_REGISTERS).with_fast(true).with_rep_count(1);
    call(control, &input)
}

pub(crate) fn set_one(name: Name, value: u64) -> [u64; 31] {
    let input = [PARTITION_ID_SELF, VP_INDEX_SELF.into(), name.0.into(), 0, value];
    let control = HypercallInput::from_code(Code::SET_VP_REGISTERS).with_fast(true).with_rep_count(1);
    call(control, &input)
}

/// Runs `test` with a partition of this many VPs, each with its SynIC on and connections to itself.
pub(crate) fn with<R>(count: usize, test: impl FnOnce(&Bench<'_>) -> R) -> R {
    let vps: Vec<_> = (0..count).map(|_| Vp::new()).collect();
    let to_itself = |vp: usize| {
        let message = PortTarget::Message { vp: Some(vp), sint: SINT };
        let event = PortTarget::Event { vp: Some(vp), sint: SINT, base: 0, count: 64 };
        let id = message_port(vp);
        [Port::new(id, 7, message), Port::new(id + 1, 8, event)]
    };
    let ports: Vec<_> = (0..count).flat_map(to_itself).collect();
    let host = TestHost::with(count, Memory::new(0, base(count)), Blind);
    let bench = Bench { partition: Partition::new(Config::new(62_500_000), &vps, &ports), host };
    bench.partition.reset(&bench.host);
    for vp in 0..count {
        bench.partition.vp_online(&bench.host, vp);
        if vp == 0 {
            bench.set(vp, Name::GUEST_OS_ID, 1);
        }
        bench.set(vp, Name::SIMP, (base(vp) + 0x1000) | 1);
        bench.set(vp, Name::SIEFP, (base(vp) + 0x2000) | 1);
        bench.set(vp, Name::sint(SINT), 18);
        bench.set(vp, Name::SCONTROL, 1);
    }
    test(&bench)
}
