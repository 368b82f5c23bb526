//! The guest's crash registers.
//!
//! Source: TLFS, "Partitions", "Partition Crash Enlightenment"; `HV_CRASH_CTL_REG_CONTENTS`.

use core::sync::atomic::{AtomicU64, Ordering};

use hv_tlfs::crash::CrashControl;
use hv_tlfs::page;

use crate::event::Event;
use crate::host::Host;
use hv_memory::GuestMemory;
use hv_memory::save::{Reader, RestoreError, Writer};

/// Crash parameters P0 to P4, which all VPs share.
#[derive(Debug)]
pub(crate) struct Crash {
    parameters: [AtomicU64; 5],
}

impl Crash {
    /// Value of the control register on a read: both kinds of notification are supported.
    pub(crate) const CAPABILITIES: u64 = CrashControl::CRASH_NOTIFY.0 | CrashControl::CRASH_NOTIFY_MSG.0;

    pub(crate) const fn new() -> Self {
        Self { parameters: [const { AtomicU64::new(0) }; 5] }
    }

    pub(crate) fn reset(&self) {
        for parameter in &self.parameters {
            parameter.store(0, Ordering::Relaxed);
        }
    }

    pub(crate) fn save(&self, w: &mut Writer<'_>) {
        for parameter in &self.parameters {
            w.u64(parameter.load(Ordering::Relaxed));
        }
    }

    pub(crate) fn restore(&self, r: &mut Reader<'_>) -> Result<(), RestoreError> {
        for parameter in &self.parameters {
            parameter.store(r.u64()?, Ordering::Relaxed);
        }
        Ok(())
    }

    pub(crate) fn parameter(&self, index: usize) -> &AtomicU64 {
        &self.parameters[index]
    }

    /// Writes the control register: with the notify bit set, passes the crash to the observer.
    #[cold]
    pub(crate) fn control<H: Host>(&self, host: &H, vp: usize, control: CrashControl) {
        if !control.crash_notify() {
            return;
        }
        let parameters: [u64; 5] = core::array::from_fn(|n| self.parameters[n].load(Ordering::Relaxed));
        let [_, _, _, address, length] = parameters;
        let mut text = [0; page::SIZE];
        let text = if control.crash_message() { read_text(host, address, length, &mut text) } else { &[] };
        host.observe(&Event::Crash { vp, control: control.0, parameters, text });
    }
}

/// Returns the message, up to the first page that is not guest memory.
fn read_text<'t>(host: &impl Host, address: u64, length: u64, text: &'t mut [u8; page::SIZE]) -> &'t [u8] {
    let length = length.min(text.len() as u64) as usize;
    let first = length.min(page::SIZE - (address % page::SIZE as u64) as usize);
    let Some(length) =
        [length, first].into_iter().find(|&n| host.memory().read(address, &mut text[..n]).is_ok())
    else {
        return &[];
    };
    &text[..length]
}
