//! The synthetic interrupt controller of one VP: its registers, pages and reset values.
//!
//! Source: TLFS, "Inter-Partition Communication".

use hv_tlfs::status::HvStatus;
use hv_tlfs::synic::{FIRST_VALID_VECTOR, SINT_COUNT, Sint, SynicControl};

use crate::event::{Cause, Event};
use crate::host::Host;
use crate::image::invalid;
use crate::overlay::Overlay;
use crate::port::Port;
use crate::queue::Queues;
use crate::time::SharedClock;
use crate::timers::Timers;
use hv_memory::save::{Reader, RestoreError, Writer};

/// Size of a SINT's share of the message and the event flags page in bytes.
pub(crate) const SLOT: u64 = 256;

/// What code under a VP's lock needs from outside.
pub(crate) struct Context<'a, H> {
    pub(crate) host: &'a H,
    pub(crate) vp: usize,
    pub(crate) ports: &'a [Port],
    pub(crate) time: &'a SharedClock,
}

/// SynIC and synthetic timers of one VP. All zeros until [`Synic::reset`].
///
/// Chapters, which add methods to it: `deadline`, `delivery`, `events`, `expiry`.
#[derive(Debug)]
pub(crate) struct Synic {
    pub(crate) control: SynicControl,
    pub(crate) message_page: Overlay,
    pub(crate) event_page: Overlay,
    /// The VP assist page: without effect on ARM64 without VTLs.
    pub(crate) assist_page: Overlay,
    pub(crate) sints: [Sint; SINT_COUNT],
    /// SIRBP: stored, without effect.
    pub(crate) response_page: u64,
    pub(crate) queues: Queues,
    pub(crate) timers: Timers,
}

impl Synic {
    pub(crate) const fn new() -> Self {
        Self {
            control: SynicControl(0),
            message_page: Overlay::new(),
            event_page: Overlay::new(),
            assist_page: Overlay::new(),
            sints: [Sint(0); SINT_COUNT],
            response_page: 0,
            queues: Queues::new(),
            timers: Timers::new(),
        }
    }

    /// Resets the state as after creation or reset of the VP. Queued messages are dropped, and their buffers return to
    /// the ports.
    pub(crate) fn reset(&mut self, ports: &[Port]) {
        self.control = SynicControl(0);
        self.message_page.reset();
        self.event_page.reset();
        self.assist_page.reset();
        self.sints = [Sint::RESET; SINT_COUNT];
        self.response_page = 0;
        self.queues.clear(ports);
        self.timers = Timers::new();
    }

    /// Returns its overlays, in the order of [`Vp::places`](crate::Vp::places).
    pub(crate) const fn pages(&self) -> [&Overlay; 3] {
        [&self.message_page, &self.event_page, &self.assist_page]
    }

    pub(crate) fn save(&self, w: &mut Writer<'_>) {
        for register in [self.control.0, self.response_page] {
            w.u64(register);
        }
        for page in self.pages() {
            page.save(w);
        }
        for sint in self.sints {
            w.u64(sint.0);
        }
        self.timers.save(w);
        self.queues.save(w);
    }

    /// Restores a VP that has just been reset. The contents of visible pages are in guest memory.
    pub(crate) fn restore(&mut self, r: &mut Reader<'_>, ports: &[Port]) -> Result<(), RestoreError> {
        self.control = SynicControl(r.u64()?);
        self.response_page = r.u64()?;
        for page in [&mut self.message_page, &mut self.event_page, &mut self.assist_page] {
            page.restore(r)?;
        }
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

    /// Writes SCONTROL. Bits other than the enable bit are stored as written.
    pub(crate) fn set_control<H: Host>(&mut self, context: &Context<'_, H>, control: SynicControl) {
        self.control = control;
        self.became_ready(context);
    }

    /// Resumes messages and timers that found the SynIC off, when it is on again.
    pub(crate) fn became_ready<H: Host>(&mut self, context: &Context<'_, H>) {
        if self.control.enable() && self.message_page.enabled() {
            self.scan(context);
            self.run_blocked_timers(context);
        }
    }

    /// Writes a SINT register.
    pub(crate) fn set_sint(&mut self, sint: usize, value: Sint) -> Result<(), HvStatus> {
        // A masked SINT may have any vector: its reset value has vector 0.
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

/// Reports an interrupt to the observer and asserts it, in this order: another VP may take it before the call returns,
/// and what the observer records about that must come later.
#[inline]
pub(crate) fn interrupt<H: Host>(host: &H, vp: usize, intid: u32, cause: Cause) {
    host.observe(&Event::Interrupt { vp, intid, cause });
    host.assert_interrupt(vp, intid);
}
