//! Rules on VP registers, including timers.

use hv_tlfs::crash::CrashControl;
use hv_tlfs::guest_id::{GuestOsId, OpenSourceOs, Vendor};
use hv_tlfs::page;
use hv_tlfs::register::RegisterName as Name;
use hv_tlfs::status::HvStatus;
use hv_tlfs::synic::{FIRST_VALID_VECTOR, SINT_COUNT, Sint};
use hv_tlfs::time::ReferenceTime;
use hv_tlfs::timer::{STIMER_COUNT, StimerConfig};

use super::{Found, Judge, index_in, rules};
use crate::event::TimerEvent;

/// Number of consecutive reads of one register that a careful guest does not make.
const POLLED: u32 = 1000;
/// Time in which a guest makes as many reads of the reference time, if it reads that often.
const OFTEN: ReferenceTime = ReferenceTime(10_000_000);
/// Numbers of x86's synthetic MSRs.
const MSRS: core::ops::RangeInclusive<u32> = 0x4000_0000..=0x4000_01ff;
/// Reserved bits of a page register.
const PAGE_RESERVED: u64 = 0xffe;
/// A period below this is too short to be served.
const SHORT: ReferenceTime = ReferenceTime(200);
/// A one-shot timer counts as being in the future if it is no later than this: the call itself takes time.
const LATE: ReferenceTime = ReferenceTime(10_000);

const fn is_read_only(name: Name) -> bool {
    matches!(
        name,
        Name::TIME_REF_COUNT
            | Name::VP_INDEX
            | Name::VP_RUNTIME
            | Name::SVERSION
            | Name::HYPERVISOR_VERSION
            | Name::PRIVILEGES_AND_FEATURES_INFO
            | Name::FEATURES_INFO
            | Name::IMPLEMENTATION_LIMITS_INFO
            | Name::HARDWARE_FEATURES_INFO
            | Name::CPU_MANAGEMENT_FEATURES_INFO
            | Name::PASID_FEATURES_INFO
            | Name::NESTED_VIRT_FEATURES_INFO
            | Name::IPT_FEATURES_INFO
            | Name::REFERENCE_TSC_SEQUENCE
            | Name::PROCESSOR_CLOCK_FREQUENCY
            | Name::INTERRUPT_CLOCK_FREQUENCY
    )
}

impl<const VPS: usize> Judge<VPS> {
    fn refused(&self, found: &mut Found<'_>, name: Name, status: HvStatus) {
        let value = u64::from(name.0);
        match status {
            HvStatus::UNKNOWN_REGISTER_NAME if MSRS.contains(&name.0) => {
                found.add(&rules::REGISTER_MSR, value);
            }
            HvStatus::UNKNOWN_REGISTER_NAME => found.add(&rules::REGISTER_UNKNOWN, value),
            HvStatus::ACCESS_DENIED if self.guest_os_id == 0 => found.add(&rules::REGISTER_EARLY, value),
            HvStatus::ACCESS_DENIED => found.add(&rules::REGISTER_PRIVILEGE, value),
            _ => {}
        }
    }

    pub(super) fn register_get(
        &mut self,
        found: &mut Found<'_>,
        vp: usize,
        name: Name,
        value: Result<[u64; 2], HvStatus>,
    ) {
        if let Err(status) = value {
            self.refused(found, name, status);
        }
        let Some(state) = self.vps.get_mut(vp) else { return };
        state.name = name.0;
        let (last, times) = state.reads;
        let mut times = if last == name.0 { times.saturating_add(1) } else { 1 };
        if let (Name::TIME_REF_COUNT, Ok([now, _])) = (name, value) {
            if now.saturating_sub(state.since) > OFTEN.ticks() {
                times = 1;
            }
            if times == 1 {
                state.since = now;
            }
        }
        state.reads = (name.0, times);
        if times == POLLED {
            match name {
                Name::TIME_REF_COUNT => found.add(&rules::TIME_POLLED, u64::from(times)),
                _ => found.add(&rules::REGISTER_POLLED, u64::from(name.0)),
            }
        }
    }

    pub(super) fn register_set(
        &mut self,
        found: &mut Found<'_>,
        vp: usize,
        name: Name,
        [low, high]: [u64; 2],
        status: HvStatus,
    ) {
        self.refused(found, name, status);
        let Some(state) = self.vps.get_mut(vp) else { return };
        state.name = name.0;
        state.reads = (0, 0);
        match status {
            HvStatus::INVALID_PARAMETER => bad_value(found, name, low, high),
            HvStatus::SUCCESS => self.written(found, vp, name, low),
            _ => {}
        }
    }

    fn written(&mut self, found: &mut Found<'_>, vp: usize, name: Name, value: u64) {
        if let Some(sint) = index_in(name, Name::SINT0, SINT_COUNT) {
            return self.sint_written(found, vp, sint, Sint(value));
        }
        if let Some(index) = index_in(name, Name::STIMER0_CONFIG, 2 * STIMER_COUNT) {
            return self.timer_written(found, vp, index, value);
        }
        match name {
            Name::GUEST_OS_ID => self.guest_id_written(found, vp, GuestOsId(value)),
            Name::SIMP | Name::SIEFP => self.page_written(found, vp, name, value),
            Name::SCONTROL => {
                let state = &mut self.vps[vp];
                found.add_if((state.control ^ value) >> 1 != 0, &rules::SCONTROL_RESERVED, value);
                let pages = (state.message_page | state.event_page) & 1 != 0;
                found.add_if(value & 1 != 0 && !pages, &rules::SCONTROL_PAGES, value);
                state.control = value;
            }
            Name::REFERENCE_TSC => self.place(found, value),
            Name::GUEST_CRASH_CTL => {
                let control = CrashControl(value);
                let silent = control.crash_message() && !control.crash_notify();
                found.add_if(silent, &rules::CRASH_SILENT, value);
            }
            _ => {}
        }
    }

    fn guest_id_written(&mut self, found: &mut Found<'_>, vp: usize, id: GuestOsId) {
        let old = core::mem::replace(&mut self.guest_os_id, id.0);
        found.add_if(vp != 0, &rules::ID_SECONDARY, id.0);
        if id.0 == 0 {
            if let Some(on) = self
                .vps
                .iter()
                .position(|state| state.control & 1 != 0 || (state.message_page | state.event_page) & 1 != 0)
            {
                found.add(&rules::ID_CLEARED, on as u64);
            }
            return;
        }
        let nameless = match id.proprietary() {
            Some(id) => id.vendor() == Vendor(0),
            None => id.os_type() == OpenSourceOs(0),
        };
        found.add_if(nameless, &rules::ID_FORM, id.0);
        found.add_if(old != 0 && old != id.0, &rules::ID_CHANGED, id.0);
    }

    /// Checks a page register written with the enable bit: the page must exist.
    fn place(&self, found: &mut Found<'_>, register: u64) {
        let base = register & page::MASK;
        if register & 1 == 0 || self.in_memory(base) {
            return;
        }
        // A page number in units of 16K or 64K, written as if it counted 4K pages.
        let units = [2, 4].iter().any(|shift| self.in_memory(base << shift));
        found.add(if units { &rules::PAGE_UNITS } else { &rules::PAGE_OUTSIDE }, register);
    }

    fn page_written(&mut self, found: &mut Found<'_>, vp: usize, name: Name, value: u64) {
        self.place(found, value);
        let is_message_page = name == Name::SIMP;
        let used = |register: u64| register & 1 != 0 && register & page::MASK == value & page::MASK;
        let shared = self.vps.iter().enumerate().any(|(other, state)| {
            let own = other == vp;
            let as_message_page = used(state.message_page) && (!own || !is_message_page);
            as_message_page || used(state.event_page) && (!own || is_message_page)
        });
        found.add_if(value & 1 != 0 && shared, &rules::PAGE_SHARED, value);
        let state = &mut self.vps[vp];
        let on = state.control & 1 != 0;
        let waiting: u32 = state.waiting.iter().map(|&n| u32::from(n)).sum();
        let old = if is_message_page { &mut state.message_page } else { &mut state.event_page };
        found.add_if((*old ^ value) & PAGE_RESERVED != 0, &rules::PAGE_RESERVED, value);
        let moved = *old & value & 1 != 0 && (*old ^ value) & page::MASK != 0;
        found.add_if(moved && on, &rules::PAGE_MOVED, value);
        let off = is_message_page && value & 1 == 0 && waiting != 0;
        found.add_if(off, &rules::PAGE_OFF, u64::from(waiting));
        *old = value;
    }

    fn sint_written(&mut self, found: &mut Found<'_>, vp: usize, sint: usize, value: Sint) {
        let state = &mut self.vps[vp];
        let old = state.sint(sint);
        found.add_if(old.reserved() != value.reserved(), &rules::SINT_RESERVED, value.0);
        found.add_if(value.auto_eoi(), &rules::SINT_AUTO_EOI, value.0);
        let changed = !old.masked() && !value.masked() && old != value;
        found.add_if(changed, &rules::SINT_CHANGED, value.0);
        state.sints[sint] = value.0 ^ Sint::RESET.0;
    }

    /// Checks a write to a timer's register. `index`: configuration and count of timer 0, of timer 1, ...
    fn timer_written(&mut self, found: &mut Found<'_>, vp: usize, index: usize, value: u64) {
        let state = &mut self.vps[vp];
        let (timer, is_count) = (index / 2, !index.is_multiple_of(2));
        let old = state.timer(timer);
        let mut config = if is_count { old } else { StimerConfig(value) };
        if is_count {
            state.timer_count[timer] = value;
            config = config.with_enable(value != 0 && (old.enable() || old.auto_enable()));
        } else {
            let sint0 = config.enable() && !config.direct_mode() && config.sint() == 0;
            found.add_if(sint0, &rules::TIMER_SINT0, value);
            config = config.with_enable(config.enable() && !sint0);
            found.add_if(old.enable() && config.enable() && old != config, &rules::TIMER_LIVE, value);
            let zero = config.enable() && state.timer_count[timer] == 0;
            found.add_if(zero, &rules::TIMER_ZERO, value);
        }
        let count = state.timer_count[timer];
        let short = config.enable() && config.periodic() && (1..SHORT.ticks()).contains(&count);
        found.add_if(short, &rules::TIMER_SHORT, count);
        state.timer_config[timer] = config.0;
    }

    pub(super) fn timer_event(&mut self, found: &mut Found<'_>, vp: usize, timer: u8, what: TimerEvent) {
        let Some(state) = self.vps.get_mut(vp) else { return };
        let index = usize::from(timer);
        let bit = 1u8.checked_shl(timer.into()).unwrap_or(0);
        let one_shot = !state.timer(index).periodic();
        match what {
            TimerEvent::Armed(_) => state.armed |= bit,
            TimerEvent::Expired(due, now) if one_shot => {
                let late = now.saturating_sub(due);
                found.add_if(state.armed & bit != 0 && late > LATE, &rules::TIMER_PAST, late.ticks());
                if let Some(config) = state.timer_config.get_mut(index) {
                    *config = StimerConfig(*config).with_enable(false).0;
                }
            }
            _ => {}
        }
    }
}

/// Checks a rejected value.
fn bad_value(found: &mut Found<'_>, name: Name, low: u64, high: u64) {
    let timer = index_in(name, Name::STIMER0_CONFIG, 2 * STIMER_COUNT).is_some();
    let sint = index_in(name, Name::SINT0, SINT_COUNT).is_some();
    let config = StimerConfig(low);
    let (rule, value) = if is_read_only(name) {
        (&rules::REGISTER_READ_ONLY, u64::from(name.0))
    } else if high != 0 {
        (&rules::REGISTER_HIGH, u64::from(name.0))
    } else if timer && config.reserved() != 0 {
        (&rules::TIMER_RESERVED, low)
    } else if timer && config.direct_mode() {
        (&rules::TIMER_VECTOR, low)
    } else if sint && !Sint(low).masked() && Sint(low).vector() < FIRST_VALID_VECTOR {
        (&rules::SINT_VECTOR, low)
    } else {
        (&rules::REGISTER_VALUE, u64::from(name.0))
    };
    found.add(rule, value);
}
