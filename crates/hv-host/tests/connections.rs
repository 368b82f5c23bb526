//! A host with a message server of its own: connections that are not a port's come out of the hypervisor.

use std::cell::{Cell, OnceCell, RefCell};

use hv_host::{Action, Config, Connections, GuestMemory, Host, Partition, Port, PortTarget, Vp};
use hv_partition::testing::{Effect, Memory, TestHost, Watch};
use hv_tlfs::hypercall::HypercallOutput;
use hv_tlfs::register::RegisterName as Name;
use hv_tlfs::smccc::HYPERCALL;
use hv_tlfs::status::HvStatus;
use hv_tlfs::synic::MessageType;
use hv_tlfs::vp::{PARTITION_ID_SELF, VP_INDEX_SELF};

const SIZE: u64 = 0x8000;
const SIMP: u64 = 0x4000;
const SINT: u8 = 2;
/// The server's connection, and one that is deleted port's.
const SERVER: u32 = 4;
const DELETED: u32 = 5;

type EchoHost<'h> = TestHost<Echo<'h>>;

/// A server that echoes: each message goes back to SINT 2 of the VP that posted it, as soon as there is a buffer.
struct Echo<'h> {
    partition: &'h Partition<'h, parking_lot::RawMutex>,
    /// The host that it is a part of.
    host: OnceCell<&'h EchoHost<'h>>,
    waiting: RefCell<Vec<(usize, MessageType, Vec<u8>)>>,
    signals: RefCell<Vec<(usize, u32, u16)>>,
    interrupts: Cell<u32>,
}

impl Watch for Echo<'_> {
    fn effect(&self, _: Effect) {}

    fn interrupt(&self, _: usize, _: u32) {
        self.interrupts.set(self.interrupts.get() + 1);
    }
}

impl Echo<'_> {
    fn flush(&self) {
        let host = *self.host.get().unwrap();
        let mut waiting = self.waiting.borrow_mut();
        while let Some((vp, kind, payload)) = waiting.first() {
            if self.partition.post_message(host, *vp, SINT, *kind, 77, payload).is_err() {
                return;
            }
            waiting.remove(0);
        }
    }
}

impl Connections for Echo<'_> {
    fn post_message(
        &self,
        vp: usize,
        connection: u32,
        kind: MessageType,
        payload: &[u8],
    ) -> Result<(), HvStatus> {
        if connection != SERVER {
            return Err(HvStatus::INVALID_CONNECTION_ID);
        }
        if self.waiting.borrow().len() == 3 {
            return Err(HvStatus::INSUFFICIENT_BUFFERS);
        }
        self.waiting.borrow_mut().push((vp, kind, payload.to_vec()));
        self.flush();
        Ok(())
    }

    fn signal_event(&self, vp: usize, connection: u32, flag: u16) -> Result<(), HvStatus> {
        self.signals.borrow_mut().push((vp, connection, flag));
        if flag == 0 { Ok(()) } else { Err(HvStatus::INVALID_PARAMETER) }
    }

    fn buffer_freed(&self, _: usize) {
        self.flush();
    }
}

fn hypercall(host: &EchoHost<'_>, vp: usize, control: u64, input: &[u64]) -> HvStatus {
    let mut x = [0; 31];
    x[0] = HYPERCALL.into();
    x[1] = control;
    x[2..2 + input.len()].copy_from_slice(input);
    assert_eq!(host.watch().partition.hvc(host, vp, 0, &mut x), Action::Resume);
    HypercallOutput(x[0]).status()
}

fn set(host: &EchoHost<'_>, vp: usize, name: Name, value: u64) {
    let input = [PARTITION_ID_SELF, VP_INDEX_SELF.into(), name.0.into(), 0, value, 0];
    assert_eq!(hypercall(host, vp, 0x1_0001_0051, &input), HvStatus::SUCCESS, "{name:?}");
}

fn post(host: &EchoHost<'_>, connection: u32, payload: u8) -> HvStatus {
    let mut input = [connection, 0, 9, 1].map(u32::to_le_bytes).concat();
    input.push(payload);
    host.memory().write(0x1000, &input).unwrap();
    hypercall(host, 0, 0x5c, &[0x1000])
}

fn signal(host: &EchoHost<'_>, connection: u32, flag: u16) -> HvStatus {
    hypercall(host, 0, 0x1_005d, &[u64::from(connection) | u64::from(flag) << 32])
}

/// Takes the message in the slot: its type, sender and first byte.
fn take(host: &EchoHost<'_>) -> Option<(u32, u64, u8)> {
    let slot = SIMP + u64::from(SINT) * 256;
    let mut bytes = [0; 17];
    host.memory().read(slot, &mut bytes).unwrap();
    let kind = host.memory().load_acquire(slot).unwrap();
    if kind == 0 {
        return None;
    }
    host.memory().store_release(slot, 0).unwrap();
    set(host, 0, Name::EOM, 0);
    Some((kind, u64::from_le_bytes(bytes[8..16].try_into().unwrap()), bytes[16]))
}

fn with(test: impl FnOnce(&EchoHost<'_>)) {
    let vps = [Vp::new()];
    let ports = [Port::new(DELETED, 1, PortTarget::Deleted)];
    let partition = Partition::new(Config::new(62_500_000), &vps, &ports);
    let echo = Echo {
        partition: &partition,
        host: OnceCell::new(),
        waiting: RefCell::default(),
        signals: RefCell::default(),
        interrupts: Cell::new(0),
    };
    let host = TestHost::with(1, Memory::new(0, SIZE), echo);
    assert!(host.watch().host.set(&host).is_ok());
    partition.reset(&host);
    partition.vp_online(&host, 0);
    set(&host, 0, Name::GUEST_OS_ID, 1);
    set(&host, 0, Name::SIMP, SIMP | 1);
    set(&host, 0, Name::sint(SINT), 18);
    set(&host, 0, Name::SCONTROL, 1);
    test(&host);
}

#[test]
fn a_message_to_an_own_connection_is_answered_before_the_call_returns() {
    with(|host| {
        assert_eq!(post(host, SERVER, 42), HvStatus::SUCCESS);
        assert_eq!(take(host), Some((9, 77, 42)));
        assert_eq!(host.watch().interrupts.get(), 1);
        assert_eq!(take(host), None);
    });
}

#[test]
fn answers_without_a_buffer_go_on_when_the_guest_ends_a_message() {
    with(|host| {
        let mut sent = 0;
        while post(host, SERVER, sent) == HvStatus::SUCCESS {
            sent += 1;
        }
        // A slot, 16 buffers, and three in the server.
        assert_eq!(sent, 20);
        let taken: Vec<u8> = std::iter::from_fn(|| take(host)).map(|(_, _, payload)| payload).collect();
        assert_eq!(taken, (0..sent).collect::<Vec<u8>>());
    });
}

#[test]
fn a_status_of_the_server_is_the_calls() {
    with(|host| {
        assert_eq!(post(host, 6, 0), HvStatus::INVALID_CONNECTION_ID);
        assert_eq!(signal(host, SERVER, 0), HvStatus::SUCCESS);
        assert_eq!(signal(host, SERVER, 3), HvStatus::INVALID_PARAMETER);
        assert_eq!(*host.watch().signals.borrow(), [(0, SERVER, 0), (0, SERVER, 3)]);
    });
}

#[test]
fn a_ports_connection_does_not_come_out() {
    with(|host| {
        assert_eq!(post(host, DELETED, 0), HvStatus::INVALID_PORT_ID);
        assert_eq!(signal(host, DELETED, 0), HvStatus::INVALID_PORT_ID);
        assert!(host.watch().signals.borrow().is_empty());
    });
}
