//! A model of KVM, for tests: virtual CPUs whose guest is the test.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use hv_memory::testing::Memory;

use crate::gic::GicRegister;
use crate::helper::PROGRAM;
use crate::kvm::{Exit, Parts, SError, Vcpu, Vm, Waker};
use crate::layout::Layout;
use crate::register::Register;

/// The guest's memory.
pub(crate) const RAM: u64 = 0x4000_0000;
pub(crate) const RAM_SIZE: u64 = 0x10_0000;
/// The counter's frequency: a tick is a nanosecond.
pub(crate) const FREQUENCY: u64 = 1_000_000_000;

/// A register of 128 bits, and one of 32.
pub(crate) const V0: Register = Register(0x6040_0000_0010_0054);
pub(crate) const FPSR: Register = Register(0x6020_0000_0010_00d4);

/// Returns the registers that a virtual CPU lists.
fn listed() -> impl Iterator<Item = Register> {
    let others =
        [Register::PC, Register::PSTATE, Register::SCTLR_EL1, Register::VBAR_EL1, Register::MPIDR_EL1];
    (0..31).map(Register::x).chain(others).chain([V0, FPSR])
}

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
    gic: Mutex<Gic>,
}

/// The state of the interrupt controller, which has no meaning here.
#[derive(Debug, Default)]
struct Gic {
    registers: BTreeMap<GicRegister, u64>,
    refused: BTreeSet<GicRegister>,
}

/// What a write to a register does.
enum Effect {
    Replaces,
    Sets(GicRegister),
    Clears(GicRegister),
}

impl Effect {
    fn of(register: GicRegister) -> Self {
        let (frame, at): (u32, &dyn Fn(u32) -> GicRegister) = match register {
            GicRegister::Distributor { offset } => (offset, &|offset| GicRegister::Distributor { offset }),
            GicRegister::Redistributor { vp, offset } => match offset.checked_sub(0x1_0000) {
                Some(offset) => {
                    (offset, &move |offset| GicRegister::Redistributor { vp, offset: 0x1_0000 + offset })
                }
                None => return Self::Replaces,
            },
            GicRegister::Cpu { .. } => return Self::Replaces,
        };
        match frame {
            0x100..0x180 | 0x300..0x380 => Self::Sets(register),
            0x180..0x200 | 0x380..0x400 => Self::Clears(at(frame - 0x80)),
            _ => Self::Replaces,
        }
    }
}

/// Returns what a register has after a reset: SGIs are enabled, as KVM's, and there are 5 bits of priority.
fn initial(register: GicRegister) -> u64 {
    match register {
        GicRegister::Redistributor { offset: 0x1_0100, .. } => 0xffff,
        GicRegister::Cpu { encoding: 0xc664, .. } => 4 << 8,
        _ => 0,
    }
}

/// A virtual CPU, as the test sees it.
#[derive(Debug, Default)]
pub(crate) struct Cpu {
    state: Mutex<CpuState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct CpuState {
    registers: BTreeMap<Register, u128>,
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
    serror: Option<SError>,
    read: Option<u64>,
}

impl CpuState {
    fn register(&self, register: Register) -> u64 {
        self.registers.get(&register).copied().unwrap_or(0) as u64
    }
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
        self.put_wide(register, value.into());
    }

    pub(crate) fn put_wide(&self, register: Register, value: u128) {
        self.lock().registers.insert(register, value);
    }

    pub(crate) fn peek(&self, register: Register) -> u64 {
        self.lock().register(register)
    }

    pub(crate) fn peek_wide(&self, register: Register) -> u128 {
        self.lock().registers.get(&register).copied().unwrap_or(0)
    }

    /// Has each access to a register fail.
    pub(crate) fn refuse(&self, register: Register) {
        self.lock().refused.insert(register);
    }

    pub(crate) fn put_serror(&self, serror: SError) {
        self.lock().serror = Some(serror);
    }

    pub(crate) fn peek_serror(&self) -> Option<SError> {
        self.lock().serror
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

    pub(crate) fn refuse(&self, register: Register) {
        self.cpu.refuse(register);
    }

    /// Interrupts the next runs.
    pub(crate) fn interrupt_times(&self, count: usize) {
        self.cpu.lock().interruptions = count;
    }

    /// Executes the program until it exits.
    fn execute(&self, board: &Board) -> Exit {
        let page = Layout::VIRT.helper_page;
        let mut state = self.cpu.lock();
        let x = |state: &CpuState, n: u32| state.register(Register::x(n as usize));
        let (mut ordered, mut flushing) = (false, false);
        for _ in 0..64 {
            let pc = state.register(Register::PC);
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
                    state.registers.insert(Register::PC, next.into());
                    return Exit::Call { function, smc: false };
                }
                _ => panic!("the helper has no instruction {word:#x}"),
            }
            state.registers.insert(Register::PC, next.into());
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
    fn registers(&self) -> io::Result<Vec<Register>> {
        Ok(listed().collect())
    }

    fn read(&self, register: Register, value: &mut [u8]) -> io::Result<()> {
        let mut state = self.cpu.lock();
        if state.refused.contains(&register) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.accesses.push((false, register));
        let size = register.size();
        let whole = state.registers.get(&register).copied().unwrap_or(0);
        value[..size].copy_from_slice(&whole.to_le_bytes()[..size]);
        Ok(())
    }

    fn write(&self, register: Register, value: &[u8]) -> io::Result<()> {
        let mut state = self.cpu.lock();
        if state.refused.contains(&register) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.accesses.push((true, register));
        let (size, mut whole) = (register.size(), [0; 16]);
        whole[..size].copy_from_slice(&value[..size]);
        state.registers.insert(register, u128::from_le_bytes(whole));
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

    fn is_suspended(&self) -> io::Result<bool> {
        Ok(self.cpu.lock().suspended)
    }

    fn serror(&self) -> io::Result<Option<SError>> {
        Ok(self.cpu.lock().serror)
    }

    fn set_serror(&self, serror: SError) -> io::Result<()> {
        self.cpu.lock().serror = Some(serror);
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
            gic: Mutex::default(),
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

    /// Checks that no virtual CPU runs.
    fn at_rest(&self) -> io::Result<()> {
        let runs = self.0.cpus.lock().unwrap().iter().any(|cpu| cpu.lock().waiting);
        if runs { Err(io::ErrorKind::ResourceBusy.into()) } else { Ok(()) }
    }

    pub(crate) fn take_helper_accesses(&self) -> Vec<Access> {
        std::mem::take(&mut self.0.helper_accesses.lock().unwrap())
    }

    pub(crate) fn take_spis(&self) -> Vec<(u32, bool)> {
        std::mem::take(&mut self.0.spis.lock().unwrap())
    }

    /// Has each write to a register of the interrupt controller fail.
    pub(crate) fn refuse_gic(&self, register: GicRegister) {
        self.0.gic.lock().unwrap().refused.insert(register);
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

    fn set_counter(&self, counter: u64) -> io::Result<()> {
        self.0.counter.store(counter, Ordering::Relaxed);
        Ok(())
    }

    fn gic(&self, register: GicRegister) -> io::Result<u64> {
        self.at_rest()?;
        Ok(self.0.gic.lock().unwrap().registers.get(&register).copied().unwrap_or(initial(register)))
    }

    fn set_gic(&self, register: GicRegister, value: u64) -> io::Result<()> {
        self.at_rest()?;
        let mut gic = self.0.gic.lock().unwrap();
        if gic.refused.contains(&register) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut change = |register: GicRegister, change: &dyn Fn(u64) -> u64| {
            let value = gic.registers.entry(register).or_insert(initial(register));
            *value = change(*value);
        };
        match Effect::of(register) {
            Effect::Replaces => change(register, &|_| value),
            Effect::Sets(register) => change(register, &|old| old | value),
            Effect::Clears(register) => change(register, &|old| old & !value),
        }
        Ok(())
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
