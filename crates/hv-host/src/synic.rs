//! The synthetic interrupt controller of one VP: its registers, pages and reset values.
//!
//! Source: TLFS, "Inter-Partition Communication".

use hv_tlfs::page;
use hv_tlfs::status::HvStatus;
use hv_tlfs::synic::{FIRST_VALID_VECTOR, SIMP_ENABLE, SINT_COUNT, Siefp, Simp, Sint, SynicControl};

use crate::event::{Cause, Event};
use crate::host::Host;
use crate::messages::{Port, Queues};
use crate::save::invalid;
use crate::time::SharedClock;
use crate::timers::Timers;
use hv_memory::GuestMemory;
use hv_memory::save::{Reader, RestoreError, Writer};

/// Bytes of a SINT's share of the message and the event flags page.
pub(crate) const SLOT: u64 = 256;

/// What the code behind a VP's lock needs of its surroundings.
pub(crate) struct Context<'a, H> {
    pub(crate) host: &'a H,
    pub(crate) vp: usize,
    pub(crate) ports: &'a [Port],
    pub(crate) time: &'a SharedClock,
}

/// SynIC and synthetic timers of one VP. All zeros until [`Synic::reset`].
#[derive(Debug)]
pub(crate) struct Synic {
    pub(crate) control: SynicControl,
    pub(crate) message_page: Simp,
    pub(crate) event_page: Siefp,
    pub(crate) sints: [Sint; SINT_COUNT],
    /// SIRBP: kept, and of no effect.
    pub(crate) response_page: u64,
    pub(crate) queues: Queues,
    pub(crate) timers: Timers,
}

impl Synic {
    pub(crate) const fn new() -> Self {
        Self {
            control: SynicControl(0),
            message_page: Simp(0),
            event_page: Siefp(0),
            sints: [Sint(0); SINT_COUNT],
            response_page: 0,
            queues: Queues::new(),
            timers: Timers::new(),
        }
    }

    /// The state after creation or reset of the VP. Queued messages go, their buffers return to the ports.
    pub(crate) fn reset(&mut self, ports: &[Port]) {
        self.control = SynicControl(0);
        self.message_page = Simp(0);
        self.event_page = Siefp(0);
        self.sints = [Sint::RESET; SINT_COUNT];
        self.response_page = 0;
        self.queues.clear(ports);
        self.timers = Timers::new();
    }

    pub(crate) fn save(&self, w: &mut Writer<'_>) {
        for register in [self.control.0, self.message_page.0, self.event_page.0, self.response_page] {
            w.u64(register);
        }
        for sint in self.sints {
            w.u64(sint.0);
        }
        self.timers.save(w);
        self.queues.save(w);
    }

    /// Restores a VP that has just been reset. The pages' contents are in the guest's memory.
    pub(crate) fn restore(&mut self, r: &mut Reader<'_>, ports: &[Port]) -> Result<(), RestoreError> {
        self.control = SynicControl(r.u64()?);
        self.message_page = Simp(r.u64()?);
        self.event_page = Siefp(r.u64()?);
        self.response_page = r.u64()?;
        for sint in 0..SINT_COUNT {
            self.set_sint(sint, Sint(r.u64()?)).map_err(invalid("SINT"))?;
        }
        self.timers.restore(r)?;
        self.queues.restore(r, ports)?;
        if self.has_stuck_timer() {
            return Err(RestoreError::Invalid("timer"));
        }
        Ok(())
    }

    /// Guest physical address of a SINT's message slot, if the message page is on.
    pub(crate) fn message_slot(&self, sint: usize) -> Option<u64> {
        self.message_page.enabled().then(|| page_base(self.message_page.0) + sint as u64 * SLOT)
    }

    /// Writes SCONTROL. Bits other than the enable bit are kept as written.
    pub(crate) fn set_control<H: Host>(&mut self, context: &Context<'_, H>, control: SynicControl) {
        self.control = control;
        self.became_ready(context);
    }

    /// Writes SIMP.
    pub(crate) fn set_message_page<H: Host>(&mut self, context: &Context<'_, H>, page: Simp) {
        move_page(context.host.memory(), self.message_page.0, page.0);
        self.message_page = page;
        self.became_ready(context);
    }

    /// Writes SIEFP.
    pub(crate) fn set_event_page<H: Host>(&mut self, context: &Context<'_, H>, page: Siefp) {
        move_page(context.host.memory(), self.event_page.0, page.0);
        self.event_page = page;
    }

    /// Messages and timers that found the SynIC off go on when it is on again.
    fn became_ready<H: Host>(&mut self, context: &Context<'_, H>) {
        if self.control.enable() && self.message_page.enabled() {
            self.scan(context);
            self.run_blocked_timers(context);
        }
    }

    /// Writes a SINT register.
    pub(crate) fn set_sint(&mut self, sint: usize, value: Sint) -> Result<(), HvStatus> {
        // A masked SINT may hold any vector: its reset value has vector 0.
        if !value.masked() && value.vector() < FIRST_VALID_VECTOR {
            return Err(HvStatus::INVALID_PARAMETER);
        }
        self.sints[sint] = value;
        Ok(())
    }

    /// Raises the interrupt of a SINT, unless it is masked or polled.
    pub(crate) fn raise<H: Host>(&self, context: &Context<'_, H>, sint: usize, cause: Cause) {
        let value = self.sints[sint];
        if !value.masked() && !value.polling() {
            interrupt(context.host, context.vp, u32::from(value.vector()), cause);
        }
    }
}

/// Tells the observer of an interrupt and asserts it, in this order: another VP may take it before the call returns, and
/// what the observer notes about that must come later.
#[inline]
pub(crate) fn interrupt<H: Host>(host: &H, vp: usize, intid: u32, cause: Cause) {
    host.observe(&Event::Interrupt { vp, intid, cause });
    host.assert_interrupt(vp, intid);
}

/// Base address in a message or event flags page register.
pub(crate) const fn page_base(register: u64) -> u64 {
    register & page::MASK
}

/// The enable bit of a message or event flags page register.
const fn page_enabled(register: u64) -> bool {
    register & SIMP_ENABLE != 0
}

/// Keeps the contents of a SynIC page as an overlay page does: zero when it is switched on, taken along when it moves.
///
/// The hypervisor's own page is an overlay; ours is the guest's memory itself, so what lies below is lost.
fn move_page(memory: &impl GuestMemory, from: u64, to: u64) {
    if !page_enabled(to) || (page_enabled(from) && page_base(from) == page_base(to)) {
        return;
    }
    for offset in (0..page::SIZE as u64).step_by(SLOT as usize) {
        let mut part = [0; SLOT as usize];
        if page_enabled(from) && memory.read(page_base(from) + offset, &mut part).is_err() {
            part.fill(0);
        }
        // A page outside of guest memory is not an error: it will not be accessible to the guest.
        let _ = memory.write(page_base(to) + offset, &part);
    }
}
