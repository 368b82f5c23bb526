//! A model of KVM, for tests: virtual CPUs whose guest is the test.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use hv_memory::testing::Memory;

use crate::helper::PROGRAM;
use crate::kvm::{Exit, Parts, Vcpu, Vm, Waker};
use crate::layout::Layout;
use crate::register::Register;

/// The guest's memory.
pub(crate) const RAM: u64 = 0x4000_0000;
pub(crate) const RAM_SIZE: u64 = 0x10_0000;
/// The counter's frequency: a tick is a nanosecond.
pub(crate) const FREQUENCY: u64 = 1_000_000_000;

/// What a helper did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Store { address: u64, value: u32 },
    Flush,
}

/// What the virtual CPUs share.
#[derive(Debug)]
struct Board {
    memory: Memory,
    counter: AtomicU64,
    spis: Mutex<Vec<(u32, bool)>>,
    helper_accesses: Mutex<Vec<Access>>,
    cpus: Mutex<Vec<Arc<Cpu>>>,
}

/// A virtual CPU, as the test sees it.
#[derive(Debug, Default)]
pub(crate) struct Cpu {
    state: Mutex<CpuState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct CpuState {
    registers: BTreeMap<Register, u64>,
    refused: BTreeSet<Register>,
    accesses: Vec<(bool, Register)>,
    exits: VecDeque<Exit>,
    /// In `run`, with no exit to make.
    waiting: bool,
    interrupted: bool,
    /// The machine has dropped it.
    ended: bool,
    /// Interruptions to come: each makes one run return.
    interruptions: usize,
    /// When the waker interrupts it.
    alarm: Option<u64>,
    resets: usize,
    aborts: usize,
    suspended: bool,
    read: Option<u64>,
}

impl Cpu {
    fn lock(&self) -> MutexGuard<'_, CpuState> {
        self.state.lock().unwrap()
    }

    /// Waits until the VP is in the guest and has nothing to do.
    pub(crate) fn settle(&self) {
        let state = self.lock();
        let busy = |state: &mut CpuState| !(state.ended || state.waiting && state.exits.is_empty());
        let ended = self.changed.wait_while(state, busy).unwrap().ended;
        assert!(!ended, "the VP has ended");
    }

    /// Has the guest exit; does not wait.
    pub(crate) fn post(&self, exit: Exit) {
        let mut state = self.lock();
        state.exits.push_back(exit);
        state.waiting = false;
        self.changed.notify_all();
    }

    /// Has the guest exit, and waits until it runs again.
    pub(crate) fn exit(&self, exit: Exit) {
        self.settle();
        self.post(exit);
        self.settle();
    }

    pub(crate) fn put(&self, register: Register, value: u64) {
        self.lock().registers.insert(register, value);
    }

    pub(crate) fn peek(&self, register: Register) -> u64 {
        self.lock().registers.get(&register).copied().unwrap_or(0)
    }

    /// Takes the accesses to registers so far: `true` is a write.
    pub(crate) fn take_accesses(&self) -> Vec<(bool, Register)> {
        std::mem::take(&mut self.lock().accesses)
    }

    pub(crate) fn resets(&self) -> usize {
        self.lock().resets
    }

    pub(crate) fn aborts(&self) -> usize {
        self.lock().aborts
    }

    pub(crate) fn is_suspended(&self) -> bool {
        self.lock().suspended
    }

    /// Takes the value that a load got.
    pub(crate) fn take_read(&self) -> Option<u64> {
        self.lock().read.take()
    }

    fn interrupt(&self) {
        let mut state = self.lock();
        state.interrupted = true;
        state.waiting = false;
        self.changed.notify_all();
    }
}

/// A virtual CPU: a VP's, or a helper's, which executes the helper's program.
#[derive(Debug)]
pub(crate) struct FakeVcpu {
    cpu: Arc<Cpu>,
    helper: Option<Arc<Board>>,
}

impl FakeVcpu {
    /// Makes one that only has registers.
    pub(crate) fn detached() -> Self {
        Self { cpu: Arc::default(), helper: None }
    }

    pub(crate) fn put(&self, register: Register, value: u64) {
        self.cpu.put(register, value);
    }

    pub(crate) fn peek(&self, register: Register) -> u64 {
        self.cpu.peek(register)
    }

    pub(crate) fn take_accesses(&self) -> Vec<(bool, Register)> {
        self.cpu.take_accesses()
    }

    /// Has each access to a register fail.
    pub(crate) fn refuse(&self, register: Register) {
        self.cpu.lock().refused.insert(register);
    }

    /// Interrupts the next runs.
    pub(crate) fn interrupt_times(&self, count: usize) {
        self.cpu.lock().interruptions = count;
    }

    /// Executes the program until it exits.
    fn execute(&self, board: &Board) -> Exit {
        let page = Layout::VIRT.helper_page;
        let mut state = self.cpu.lock();
        let x = |state: &CpuState, n: u32| state.registers[&Register::x(n as usize)];
        let (mut ordered, mut flushing) = (false, false);
        for _ in 0..64 {
            let pc = state.registers[&Register::PC];
            let word = PROGRAM[((pc - page) / 4) as usize];
            let mut next = pc + 4;
            match word {
                // CBZ Wt.
                _ if word & 0xff00_0000 == 0x3400_0000 => {
                    if x(&state, word & 31) as u32 == 0 {
                        next = pc.wrapping_add_signed(i64::from((word << 8) as i32 >> 13) * 4);
                    }
                }
                // STR Wt, [Xn].
                _ if word & 0xffff_fc00 == 0xb900_0000 => {
                    let (address, value) = (x(&state, word >> 5 & 31), x(&state, word & 31) as u32);
                    if !(0x0800_0000..0x0900_0000).contains(&address) {
                        return Exit::Write { address, size: 4, value: value.into() };
                    }
                    board.helper_accesses.lock().unwrap().push(Access::Store { address, value });
                }
                // B.
                _ if word & 0xfc00_0000 == 0x1400_0000 => {
                    next = pc.wrapping_add_signed(i64::from((word << 6) as i32 >> 6) * 4);
                }
                // DSB ISHST; TLBI VMALLE1IS; DSB ISH.
                0xd503_3a9f => ordered = true,
                0xd508_831f => flushing = ordered,
                0xd503_3b9f if flushing => board.helper_accesses.lock().unwrap().push(Access::Flush),
                // HVC #0.
                0xd400_0002 => {
                    let function = x(&state, 0) as u32;
                    state.registers.insert(Register::PC, next);
                    return Exit::Call { function, smc: false };
                }
                _ => panic!("the helper has no instruction {word:#x}"),
            }
            state.registers.insert(Register::PC, next);
        }
        panic!("the helper does not exit")
    }
}

impl Drop for FakeVcpu {
    fn drop(&mut self) {
        self.cpu.lock().ended = true;
        self.cpu.changed.notify_all();
    }
}

impl Vcpu for FakeVcpu {
    fn get(&self, register: Register) -> io::Result<u64> {
        let mut state = self.cpu.lock();
        if state.refused.contains(&register) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.accesses.push((false, register));
        Ok(state.registers.get(&register).copied().unwrap_or(0))
    }

    fn set(&self, register: Register, value: u64) -> io::Result<()> {
        let mut state = self.cpu.lock();
        if state.refused.contains(&register) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.accesses.push((true, register));
        state.registers.insert(register, value);
        Ok(())
    }

    fn reset(&self) -> io::Result<()> {
        let mut state = self.cpu.lock();
        state.registers.clear();
        state.resets += 1;
        Ok(())
    }

    fn run(&mut self) -> io::Result<Exit> {
        let mut state = self.cpu.lock();
        if state.interruptions > 0 {
            state.interruptions -= 1;
            return Ok(Exit::Interrupted);
        }
        if let Some(board) = &self.helper {
            drop(state);
            return Ok(self.execute(board));
        }
        loop {
            if state.interrupted {
                return Ok(Exit::Interrupted);
            }
            if let Some(exit) = state.exits.pop_front() {
                return Ok(exit);
            }
            state.waiting = true;
            self.cpu.changed.notify_all();
            state = self.cpu.changed.wait(state).unwrap();
            state.waiting = false;
        }
    }

    fn clear_interruption(&mut self) {
        self.cpu.lock().interrupted = false;
    }

    fn complete_read(&mut self, value: u64) {
        self.cpu.lock().read = Some(value);
    }

    fn inject_external_abort(&self) -> io::Result<()> {
        self.cpu.lock().aborts += 1;
        Ok(())
    }

    fn set_suspended(&self, suspended: bool) -> io::Result<()> {
        self.cpu.lock().suspended = suspended;
        Ok(())
    }
}

/// A waker, which keeps what it was asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct FakeWaker(Arc<WakerState>);

#[derive(Debug, Default)]
struct WakerState {
    times: Mutex<Vec<Option<Duration>>>,
    interrupts: AtomicUsize,
    target: Option<(Arc<Cpu>, Arc<Board>)>,
}

impl FakeWaker {
    pub(crate) fn take_times(&self) -> Vec<Option<Duration>> {
        std::mem::take(&mut self.0.times.lock().unwrap())
    }

    pub(crate) fn interrupts(&self) -> usize {
        self.0.interrupts.load(Ordering::Relaxed)
    }
}

impl Waker for FakeWaker {
    fn interrupt(&self) {
        self.0.interrupts.fetch_add(1, Ordering::Relaxed);
        if let Some((cpu, _)) = &self.0.target {
            cpu.interrupt();
        }
    }

    fn interrupt_after(&self, time: Option<Duration>) {
        self.0.times.lock().unwrap().push(time);
        if let Some((cpu, board)) = &self.0.target {
            let now = board.counter.load(Ordering::Relaxed);
            cpu.lock().alarm = time.map(|time| now + time.as_nanos() as u64);
            if time == Some(Duration::ZERO) {
                cpu.interrupt();
            }
        }
    }
}

/// A virtual machine.
#[derive(Clone, Debug)]
pub(crate) struct FakeVm(Arc<Board>);

impl FakeVm {
    /// Makes the parts of a machine.
    pub(crate) fn create(vps: usize) -> Parts<Self> {
        let cpus: Vec<Arc<Cpu>> = (0..vps).map(|_| Arc::default()).collect();
        let board = Arc::new(Board {
            memory: Memory::new(RAM, RAM_SIZE),
            counter: AtomicU64::new(0),
            spis: Mutex::default(),
            helper_accesses: Mutex::default(),
            cpus: Mutex::new(cpus.clone()),
        });
        let helper = |_| FakeVcpu { cpu: Arc::default(), helper: Some(Arc::clone(&board)) };
        Parts {
            vps: cpus.into_iter().map(|cpu| FakeVcpu { cpu, helper: None }).collect(),
            helpers: (0..vps + Layout::OTHERS).map(helper).collect(),
            vm: Self(board),
            layout: Layout::VIRT,
        }
    }

    pub(crate) fn cpu(&self, vp: usize) -> Arc<Cpu> {
        Arc::clone(&self.0.cpus.lock().unwrap()[vp])
    }

    pub(crate) fn take_helper_accesses(&self) -> Vec<Access> {
        std::mem::take(&mut self.0.helper_accesses.lock().unwrap())
    }

    pub(crate) fn take_spis(&self) -> Vec<(u32, bool)> {
        std::mem::take(&mut self.0.spis.lock().unwrap())
    }

    /// Lets time pass, and interrupts those whose time has come.
    pub(crate) fn advance(&self, ticks: u64) {
        let now = self.0.counter.fetch_add(ticks, Ordering::Relaxed) + ticks;
        for cpu in self.0.cpus.lock().unwrap().iter() {
            let due = cpu.lock().alarm.take_if(|alarm| *alarm <= now);
            if due.is_some() {
                cpu.interrupt();
            }
        }
    }
}

impl Vm for FakeVm {
    type Memory = Memory;
    type Vcpu = FakeVcpu;
    type Waker = FakeWaker;
    type Thread = ();

    fn memory(&self) -> &Memory {
        &self.0.memory
    }

    fn counter(&self) -> u64 {
        self.0.counter.load(Ordering::Relaxed)
    }

    fn counter_frequency(&self) -> u64 {
        FREQUENCY
    }

    fn set_spi(&self, intid: u32, level: bool) -> io::Result<()> {
        self.0.spis.lock().unwrap().push((intid, level));
        Ok(())
    }

    fn attach(&self, vcpu: &FakeVcpu) -> io::Result<((), FakeWaker)> {
        let target = Some((Arc::clone(&vcpu.cpu), Arc::clone(&self.0)));
        Ok(((), FakeWaker(Arc::new(WakerState { target, ..WakerState::default() }))))
    }
}
