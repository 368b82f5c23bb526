//! A virtual CPU of KVM's.

use std::fmt;
use std::io;
use std::sync::Arc;

use kvm_bindings::{
    KVM_EXIT_ARM_NISV, KVM_HYPERCALL_EXIT_SMC, KVM_MP_STATE_RUNNABLE, KVM_MP_STATE_SUSPENDED,
    KVM_SYSTEM_EVENT_WAKEUP, RegList, kvm_mp_state, kvm_vcpu_events, kvm_vcpu_init,
};
use kvm_ioctls::{VcpuExit, VcpuFd};

use super::board::Board;
use super::thread::{Flag, KvmThread, KvmWaker};
use crate::kvm::{Exit, SError, Vcpu};
use crate::register::Register;

/// Maximum number of registers: the most that kvm-bindings has a list for.
const REGISTERS: usize = 500;

/// A virtual CPU of KVM's.
pub struct KvmVcpu {
    // Closed first: the board owns the memory that it uses.
    fd: VcpuFd,
    flag: Arc<Flag>,
    /// What it is initialized with.
    init: kvm_vcpu_init,
    _board: Arc<Board>,
}

impl fmt::Debug for KvmVcpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KvmVcpu").field("fd", &self.fd).finish_non_exhaustive()
    }
}

impl KvmVcpu {
    /// Creates the virtual CPU with this number, and initializes it.
    pub(super) fn new(
        board: &Arc<Board>,
        number: u64,
        init: kvm_vcpu_init,
    ) -> Result<Self, kvm_ioctls::Error> {
        let fd = board.fd.create_vcpu(number)?;
        let flag = Arc::new(Flag::of(&fd, board.fd.run_size())?);
        fd.vcpu_init(&init)?;
        Ok(Self { fd, flag, init, _board: Arc::clone(board) })
    }

    /// Makes the calling thread the one that runs it.
    pub(super) fn attach(&self) -> io::Result<(KvmThread, KvmWaker)> {
        Ok((KvmThread::enter(&self.flag)?, KvmWaker::of_this_thread()?))
    }
}

/// Returns up to 8 bytes as a number.
fn number(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    let len = bytes.len().min(word.len());
    word[..len].copy_from_slice(&bytes[..len]);
    u64::from_le_bytes(word)
}

impl Vcpu for KvmVcpu {
    fn registers(&self) -> io::Result<Vec<Register>> {
        let mut list = RegList::new(REGISTERS).map_err(|error| io::Error::other(format!("{error:?}")))?;
        self.fd.get_reg_list(&mut list)?;
        Ok(list.as_slice().iter().map(|number| Register(*number)).collect())
    }

    fn read(&self, register: Register, value: &mut [u8]) -> io::Result<()> {
        self.fd.get_one_reg(register.0, value)?;
        Ok(())
    }

    fn write(&self, register: Register, value: &[u8]) -> io::Result<()> {
        self.fd.set_one_reg(register.0, value)?;
        Ok(())
    }

    fn reset(&self) -> io::Result<()> {
        Ok(self.fd.vcpu_init(&self.init)?)
    }

    fn run(&mut self) -> io::Result<Exit> {
        let exit = match self.fd.run() {
            Ok(VcpuExit::Hypercall(call)) => {
                // The crate names the flags after x86's only one.
                let smc = call.longmode & KVM_HYPERCALL_EXIT_SMC != 0;
                Some(Exit::Call { function: call.nr as u32, smc })
            }
            Ok(VcpuExit::MmioRead(address, data)) => Some(Exit::Read { address, size: data.len() }),
            Ok(VcpuExit::MmioWrite(address, data)) => {
                Some(Exit::Write { address, size: data.len(), value: number(data) })
            }
            Ok(VcpuExit::SystemEvent(KVM_SYSTEM_EVENT_WAKEUP, _)) => Some(Exit::Wakeup),
            Ok(VcpuExit::Unsupported(KVM_EXIT_ARM_NISV)) => Some(Exit::NoSyndrome),
            Ok(VcpuExit::Intr) => Some(Exit::Interrupted),
            Ok(_) => None,
            Err(error) if error.errno() == libc::EINTR => Some(Exit::Interrupted),
            Err(error) => return Err(error.into()),
        };
        Ok(exit.unwrap_or_else(|| Exit::Other(self.fd.get_kvm_run().exit_reason)))
    }

    fn clear_interruption(&mut self) {
        self.flag.clear();
    }

    fn complete_read(&mut self, value: u64) {
        self.fd.get_kvm_run().__bindgen_anon_1.mmio.data = value.to_le_bytes();
    }

    fn inject_external_abort(&self) -> io::Result<()> {
        let mut events = kvm_vcpu_events::default();
        events.exception.ext_dabt_pending = 1;
        Ok(self.fd.set_vcpu_events(&events)?)
    }

    fn set_suspended(&self, suspended: bool) -> io::Result<()> {
        let mp_state = if suspended { KVM_MP_STATE_SUSPENDED } else { KVM_MP_STATE_RUNNABLE };
        Ok(self.fd.set_mp_state(kvm_mp_state { mp_state })?)
    }

    fn is_suspended(&self) -> io::Result<bool> {
        Ok(self.fd.get_mp_state()?.mp_state == KVM_MP_STATE_SUSPENDED)
    }

    fn serror(&self) -> io::Result<Option<SError>> {
        let exception = self.fd.get_vcpu_events()?.exception;
        let syndrome = (exception.serror_has_esr != 0).then_some(exception.serror_esr);
        Ok((exception.serror_pending != 0).then_some(SError { syndrome }))
    }

    fn set_serror(&self, serror: SError) -> io::Result<()> {
        let mut events = kvm_vcpu_events::default();
        events.exception.serror_pending = 1;
        events.exception.serror_has_esr = serror.syndrome.is_some().into();
        events.exception.serror_esr = serror.syndrome.unwrap_or(0);
        Ok(self.fd.set_vcpu_events(&events)?)
    }
}
