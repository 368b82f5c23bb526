//! How many locks a guest's call takes, whatever the number of VPs, and what threads do to overlays at the same time.

use std::cell::Cell;
use std::sync::Barrier;

use hv_lock::{FairLock, Wait};
use hv_memory::GuestMemory as _;
use hv_partition::testing::{LINUX_ID, RAM, TestHost};
use hv_partition::{Bus, Config, Host as _, Partition, Port, PortTarget, Vp};
use hv_tlfs::hypercall::{HypercallCode, HypercallInput, HypercallOutput};
use hv_tlfs::register::RegisterName as Name;
use hv_tlfs::smccc::HYPERCALL;
use hv_tlfs::status::HvStatus;
use hv_tlfs::vp::{PARTITION_ID_SELF, VP_INDEX_SELF};

thread_local! {
    /// Locks that this thread has taken.
    static TAKEN: Cell<u32> = const { Cell::new(0) };
}

/// Wait policy that counts the locks, and lets other threads run before each.
#[derive(Debug)]
struct Counted;

impl Wait for Counted {
    fn arrived() {
        TAKEN.set(TAKEN.get() + 1);
        std::thread::yield_now();
    }

    fn relax() {
        std::thread::yield_now();
    }
}

type Lock = FairLock<Counted>;

const SIZE: usize = 4096;
/// The pages of a VP and the partition's.
const REGISTERS: [Name; 4] = [Name::SIMP, Name::SIEFP, Name::VP_ASSIST_PAGE, Name::REFERENCE_TSC];

struct CountedMachine<'a> {
    partition: Partition<'a, Lock>,
    host: TestHost,
}

impl CountedMachine<'_> {
    /// Makes a fast hypercall; gives its status.
    fn call(&self, vp: usize, control: HypercallInput, input: &[u64]) -> HvStatus {
        let mut x = [0; 31];
        x[0] = u64::from(HYPERCALL);
        x[1] = control.with_fast(true).0;
        x[2..2 + input.len()].copy_from_slice(input);
        let _ = self.partition.hvc(&self.host, vp, 0, &mut x);
        HypercallOutput(x[0]).status()
    }

    fn set(&self, vp: usize, name: Name, value: u64) {
        let control = HypercallInput::from_code(HypercallCode::SET_VP_REGISTERS).with_rep_count(1);
        let input = [PARTITION_ID_SELF, u64::from(VP_INDEX_SELF), u64::from(name.0), 0, value, 0];
        assert_eq!(self.call(vp, control, &input), HvStatus::SUCCESS);
    }

    fn page(&self, gpa: u64) -> Vec<u8> {
        let mut page = vec![0; SIZE];
        self.host.memory().read(gpa, &mut page).unwrap();
        page
    }
}

/// Runs `test` with a machine whose VPs all run.
fn machine<T>(vps: usize, test: impl FnOnce(&CountedMachine<'_>) -> T) -> T {
    machine_with(vps, &[], test)
}

/// Runs `test` with a machine that has these ports.
fn machine_with<T>(vps: usize, ports: &[Port], test: impl FnOnce(&CountedMachine<'_>) -> T) -> T {
    let config = Config::new(62_500_000);
    let bus = Bus::with_offers(config.vmbus, config.offers);
    let vps: Vec<Vp<Lock>> = (0..vps).map(|_| Vp::new()).collect();
    let machine = CountedMachine {
        partition: Partition::new(config.hypervisor, &vps, ports, &bus),
        host: TestHost::new(vps.len()),
    };
    machine.partition.reset(&machine.host);
    (0..vps.len()).for_each(|vp| machine.partition.vp_online(&machine.host, vp));
    machine.set(0, Name::GUEST_OS_ID, LINUX_ID);
    test(&machine)
}

/// Locks that `work` takes.
fn taken(work: impl FnOnce()) -> u32 {
    let before = TAKEN.get();
    work();
    TAKEN.get() - before
}

#[test]
fn an_overlay_moves_with_as_many_locks_on_64_vps_as_on_2() {
    let most = |vps: usize| {
        machine(vps, |m| {
            // All on one page, so that another waits at it whenever one leaves.
            let (page, other) = (RAM + 0x3000, RAM + 0x4000);
            for vp in 0..vps {
                REGISTERS.iter().for_each(|name| m.set(vp, *name, page | 1));
            }
            let moves = REGISTERS.map(|name| {
                let values = [other | 1, page | 1, other, other | 1, u64::MAX, 0];
                let counts = values.map(|value| taken(|| m.set(0, name, value)));
                counts.into_iter().max()
            });
            m.set(0, Name::SIMP, page | 1);
            let reset = taken(|| m.partition.vp_online(&m.host, 1));
            (moves, reset)
        })
    };
    let few = most(2);
    assert!(few.0.iter().all(|locks| *locks >= Some(3)), "locks are not counted: {few:?}");
    assert!(few.0.iter().all(|locks| *locks <= Some(8)), "{few:?}");
    assert_eq!(most(64), few);
}

#[test]
fn a_signal_to_an_unknown_connection_takes_no_lock() {
    machine(4, |m| {
        let signal = HypercallInput::from_code(HypercallCode::SIGNAL_EVENT);
        for connection in [0, 1, 5, 0x7777, 0x12_3456, u64::from(u32::MAX)] {
            let locks = taken(|| {
                assert_eq!(m.call(1, signal, &[connection, 0]), HvStatus::INVALID_CONNECTION_ID);
            });
            assert_eq!(locks, 0, "connection {connection:#x}");
        }
    });
}

#[test]
fn a_signal_to_a_port_that_names_no_vp_takes_each_vps_lock_once() {
    let ports = [Port::new(5, 0x500, PortTarget::Event { vp: None, sint: 2, base: 0, count: 16 })];
    for vps in [1, 2, 8, 64] {
        machine_with(vps, &ports, |m| {
            let signal = HypercallInput::from_code(HypercallCode::SIGNAL_EVENT);
            // None of them has its SynIC on, so all are looked at.
            let locks = taken(|| assert_eq!(m.call(0, signal, &[5, 0]), HvStatus::INVALID_VP_INDEX));
            assert_eq!(locks as usize, vps);
        });
    }
}

/// Four VPs move their overlays about three pages, and restart, at the same time.
#[test]
fn overlays_that_threads_move_lose_no_byte_of_the_guests() {
    const VPS: usize = 4;
    let rounds = if cfg!(miri) { 5 } else { 400 };
    machine(VPS, |m| {
        let pages = [3, 4, 5].map(|page| RAM + page * SIZE as u64);
        let bytes = pages
            .map(|page| -> Vec<u8> { (0..SIZE).map(|at| (at / 7) as u8 ^ (page >> 12) as u8 | 1).collect() });
        for (page, bytes) in pages.iter().zip(&bytes) {
            m.host.memory().write(*page, bytes).unwrap();
        }
        let start = Barrier::new(VPS);
        std::thread::scope(|scope| {
            for vp in 0..VPS {
                let start = &start;
                scope.spawn(move || {
                    start.wait();
                    let mut random = vp as u64 + 1;
                    for _ in 0..rounds {
                        random =
                            random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
                        let name = REGISTERS[(random >> 40) as usize % REGISTERS.len()];
                        let page = pages[(random >> 50) as usize % pages.len()];
                        match (random >> 60) as usize {
                            0 => m.partition.vp_online(&m.host, vp),
                            kind => m.set(vp, name, page | u64::from(kind < 12)),
                        }
                    }
                });
            }
        });
        // One that is enabled is shown, and only one at a page: or else an image of it is refused.
        let mut image = Vec::new();
        m.partition.save(&m.host, &mut |bytes| image.extend_from_slice(bytes)).unwrap();
        m.partition.restore(&m.host, &image).unwrap();
        for vp in 0..VPS {
            REGISTERS.iter().for_each(|name| m.set(vp, *name, 0));
        }
        for (page, bytes) in pages.iter().zip(&bytes) {
            assert!(m.page(*page) == *bytes, "the page at {page:#x} has other bytes");
        }
    });
}
