//! A VP's thread: its start, its exits, its end.

use std::io;

use hv_partition::{Action, BusObserver, Host, Partition, RawMutex, Served, VpContext};

use crate::call::{LazyRegisters, immediate};
use crate::helper::EL1H_MASKED;
use crate::host::Shared;
use crate::inject;
use crate::kvm::{Exit, Vcpu, Vm};
use crate::observer::{Observer, Stopped};
use crate::outcome::RunOutcome;
use crate::register::Register;

/// A VP between runs.
#[derive(Debug)]
pub(crate) struct Rest<C> {
    pub(crate) vcpu: C,
    pub(crate) power: Rested,
}

/// What a VP does in the next run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rested {
    /// It waits for its start, with its registers as after a reset.
    New,
    /// It waits for its start.
    Off,
    /// It goes on.
    On,
}

/// A VP in its thread.
pub(crate) struct VpThread<'h, 'a, R, B, V: Vm, S, H> {
    pub(crate) partition: &'h Partition<'a, R, B>,
    pub(crate) host: &'h H,
    pub(crate) shared: &'h Shared<V, S>,
    pub(crate) vp: usize,
    pub(crate) vcpu: V::Vcpu,
    pub(crate) power: Rested,
}

/// What happens to a VP after an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    Continue,
    Off,
    Stop,
}

impl<'h, R, B, V, S, H> VpThread<'h, '_, R, B, V, S, H>
where
    R: RawMutex,
    B: Served<'h, R, H>,
    V: Vm,
    S: Observer,
    H: Host + BusObserver,
{
    /// Runs the VP, from where it is or each time that it is started, until the machine stops. An error stops the
    /// machine. Returns the VP as it is then.
    pub(crate) fn run(mut self) -> Rest<V::Vcpu> {
        if let Err(error) = self.run_to_the_end() {
            self.shared.stop(RunOutcome::Failed { what: "a virtual processor", error });
        }
        self.shared.slots[self.vp].detach();
        Rest { vcpu: self.vcpu, power: self.power }
    }

    fn run_to_the_end(&mut self) -> io::Result<()> {
        let (shared, vp) = (self.shared, self.vp);
        let slot = &shared.slots[vp];
        let (_thread, waker) = shared.vm.attach(&self.vcpu)?;
        slot.attach(waker);
        shared.observer.begin_vp(vp);
        loop {
            if self.power != Rested::On {
                let Some(context) = slot.wait_for_start() else { return Ok(()) };
                if self.power == Rested::Off {
                    self.vcpu.reset()?;
                }
                start(&self.vcpu, &context)?;
                self.power = Rested::On;
                self.partition.vp_online(self.host, vp);
            }
            if self.run_until_off()? == After::Stop {
                return Ok(());
            }
            self.power = Rested::Off;
            self.partition.vp_offline(self.host, vp);
            shared.went_off();
        }
    }

    fn run_until_off(&mut self) -> io::Result<After> {
        loop {
            let exit = self.vcpu.run()?;
            self.shared.observer.left(self.vp, &exit, &Stopped(&self.vcpu));
            let after = self.serve(exit)?;
            if after != After::Continue {
                return Ok(after);
            }
        }
    }

    fn serve(&mut self, exit: Exit) -> io::Result<After> {
        match exit {
            Exit::Call { function, smc } => return self.call(function, smc),
            Exit::Read { address, size } => match self.shared.read(address, size) {
                Some(value) => self.vcpu.complete_read(value),
                None => self.abort(address)?,
            },
            Exit::Write { address, size, value } => {
                if self.shared.write(address, size, value).is_none() {
                    self.abort(address)?;
                }
            }
            Exit::NoSyndrome => self.vcpu.inject_external_abort()?,
            Exit::Interrupted => return Ok(self.interrupted()),
            Exit::Wakeup => self.vcpu.set_suspended(false)?,
            Exit::Other(reason) => {
                return Err(io::Error::other(format!(
                    "KVM stopped VP {} with exit reason {reason}, which has no meaning for an ARM64 guest",
                    self.vp
                )));
            }
        }
        Ok(After::Continue)
    }

    /// Answers an access to an address without a device.
    fn abort(&self, address: u64) -> io::Result<()> {
        self.shared.observer.absent(self.vp, address, &Stopped(&self.vcpu));
        self.vcpu.inject_external_abort()
    }

    fn call(&mut self, function: u32, smc: bool) -> io::Result<After> {
        let Self { partition, host, vp, vcpu, .. } = self;
        let immediate = if smc { 0 } else { immediate(function) };
        let mut x = LazyRegisters::new(vcpu);
        if immediate == 0 {
            x.know_function(function);
        }
        let action = match smc {
            false => partition.hvc(*host, *vp, immediate, &mut x),
            true => partition.smc(*host, *vp, 0, &mut x),
        };
        x.finish()?;
        self.shared.observer.called(*vp, &Stopped(&*vcpu));
        match action {
            Action::Resume => {}
            Action::Retry => {
                inject::before_call(vcpu)?;
            }
            Action::Undefined => inject::undefined_call(vcpu)?,
            Action::Suspend => vcpu.set_suspended(true)?,
            Action::VpOff => return Ok(After::Off),
            Action::SystemOff => return Ok(self.end(RunOutcome::PowerOff)),
            Action::SystemReset => return Ok(self.end(RunOutcome::Reset)),
        }
        Ok(After::Continue)
    }

    fn end(&self, outcome: RunOutcome) -> After {
        self.shared.stop(outcome);
        After::Stop
    }

    /// Does what another thread asks for, or the deadline.
    fn interrupted(&mut self) -> After {
        // Before the look at the requests, so that one that comes after it interrupts again.
        self.vcpu.clear_interruption();
        let shared = self.shared;
        let requests =
            shared.slots[self.vp].take_requests(shared.vm.counter(), shared.vm.counter_frequency());
        if requests.stopped {
            return After::Stop;
        }
        if requests.due {
            self.partition.timer_expired(self.host, self.vp);
        }
        After::Continue
    }
}

/// Sets the registers of a VP that starts; the others are as after a reset.
fn start(vcpu: &impl Vcpu, context: &VpContext) -> io::Result<()> {
    for (register, value) in [
        (Register::PC, context.pc),
        (Register::PSTATE, EL1H_MASKED),
        (Register::x(0), context.x0),
        (Register::x(18), context.x18),
        (Register::SP_EL1, context.sp),
        (Register::SCTLR_EL1, context.sctlr),
        (Register::MAIR_EL1, context.mair),
        (Register::TCR_EL1, context.tcr),
        (Register::TTBR0_EL1, context.ttbr0),
        (Register::TTBR1_EL1, context.ttbr1),
        (Register::VBAR_EL1, context.vbar),
    ] {
        vcpu.set(register, value)?;
    }
    Ok(())
}
