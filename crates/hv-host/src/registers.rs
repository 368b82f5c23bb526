//! VP registers: access rights, and the effects of accesses.
//!
//! Source: TLFS, `HvCallGetVpRegisters` and `HvCallSetVpRegisters`.

use core::sync::atomic::Ordering;

use hv_tlfs::crash::CrashControl;
use hv_tlfs::features::PartitionPrivileges;
use hv_tlfs::register::RegisterName as Name;
use hv_tlfs::register::RegisterValue;
use hv_tlfs::status::HvStatus;
use hv_tlfs::synic::{SINT_COUNT, Sint, SynicControl, VERSION_1};
use hv_tlfs::time::ReferenceTime;
use hv_tlfs::timer::StimerConfig;

use lock_api::RawMutex;

use crate::connections::Connections;
use crate::crash::Crash;
use crate::host::Host;
use crate::overlays::OverlayId;
use crate::partition::Partition;
use crate::vp::Vp;

const SINT_FIRST: u32 = Name::SINT0.0;
const SINT_LAST: u32 = Name::SINT15.0;
pub(crate) const TIMER_FIRST: u32 = Name::STIMER0_CONFIG.0;
pub(crate) const TIMER_LAST: u32 = Name::STIMER3_COUNT.0;
pub(crate) const CRASH_FIRST: u32 = Name::GUEST_CRASH_P0.0;
pub(crate) const CRASH_LAST: u32 = Name::GUEST_CRASH_P4.0;

/// Requirements of a register beyond its name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Needs {
    /// Readable (and the guest OS id, the synthetic VBAR and crash registers writable) before the guest has written its
    /// OS id.
    Nothing,
    /// A guest OS id.
    Identity,
    /// A guest OS id and these privileges.
    Privilege(PartitionPrivileges),
    /// The crash registers' feature bit.
    CrashFeature,
}

const NONE: PartitionPrivileges = PartitionPrivileges(0);

/// Returns the requirements of a register; `None` if there is no such register.
#[inline]
const fn needs(name: Name) -> Option<Needs> {
    Some(match name {
        Name::GUEST_OS_ID
        | Name::HYPERVISOR_VERSION
        | Name::PRIVILEGES_AND_FEATURES_INFO
        | Name::FEATURES_INFO
        | Name::IMPLEMENTATION_LIMITS_INFO
        | Name::HARDWARE_FEATURES_INFO
        | Name::TIME_REF_COUNT
        | Name::SYNTHETIC_VBAR_EL1
        | Name::SYNTHETIC_ESR_EL1 => Needs::Nothing,
        Name::GUEST_CRASH_CTL | Name(CRASH_FIRST..=CRASH_LAST) => Needs::CrashFeature,
        Name::CPU_MANAGEMENT_FEATURES_INFO
        | Name::PASID_FEATURES_INFO
        | Name::NESTED_VIRT_FEATURES_INFO
        | Name::IPT_FEATURES_INFO => Needs::Identity,
        Name::PROCESSOR_CLOCK_FREQUENCY | Name::INTERRUPT_CLOCK_FREQUENCY => {
            Needs::Privilege(NONE.with_access_frequency(true))
        }
        Name::VP_RUNTIME => Needs::Privilege(NONE.with_access_vp_runtime(true)),
        Name::VP_INDEX => Needs::Privilege(NONE.with_access_vp_index(true)),
        Name::VP_ASSIST_PAGE => Needs::Privilege(NONE.with_access_interrupt_control(true)),
        Name::REFERENCE_TSC | Name::REFERENCE_TSC_SEQUENCE => {
            Needs::Privilege(NONE.with_access_reference_tsc(true))
        }
        Name(SINT_FIRST..=SINT_LAST)
        | Name::SCONTROL
        | Name::SVERSION
        | Name::SIEFP
        | Name::SIMP
        | Name::EOM
        | Name::SIRBP => Needs::Privilege(NONE.with_access_synic(true)),
        Name(TIMER_FIRST..=TIMER_LAST) => Needs::Privilege(NONE.with_access_synthetic_timers(true)),
        _ => return None,
    })
}

const fn value(low: u64) -> RegisterValue {
    RegisterValue::from_u64(low)
}

impl<R: RawMutex> Partition<'_, R> {
    /// Returns true if the guest may use the register now.
    #[inline(always)]
    fn allowed(&self, name: Name) -> Result<(), HvStatus> {
        let features = &self.config().profile.features;
        // Relaxed: the id guards no other memory, and a VP sees its own write.
        let identified = || self.guest_os_id().load(Ordering::Relaxed) != 0;
        let granted = match needs(name).ok_or(HvStatus::UNKNOWN_REGISTER_NAME)? {
            Needs::Nothing => true,
            Needs::CrashFeature => features.c.guest_crash(),
            Needs::Identity => identified() && features.privileges.access_vp_registers(),
            Needs::Privilege(wanted) => {
                let wanted = wanted.with_access_vp_registers(true);
                features.privileges.0 & wanted.0 == wanted.0 && identified()
            }
        };
        if granted { Ok(()) } else { Err(HvStatus::ACCESS_DENIED) }
    }

    /// Reads a register of VP `target`, which exists.
    ///
    /// The two that guests read all the time come first, so that their requirements are known at compile time.
    #[inline]
    pub(crate) fn get_register(
        &self,
        host: &impl Host,
        target: usize,
        name: Name,
    ) -> Result<RegisterValue, HvStatus> {
        match name {
            Name::VP_INDEX => self.allowed(Name::VP_INDEX).map(|()| value(target as u64)),
            Name::TIME_REF_COUNT => {
                if !self.config().profile.features.privileges.access_reference_counter() {
                    return Err(HvStatus::ACCESS_DENIED);
                }
                Ok(value(self.reference_time(host).ticks()))
            }
            _ => self.get_rare_register(host, target, name),
        }
    }

    /// Reads a register that guests read occasionally.
    #[inline(never)]
    fn get_rare_register(
        &self,
        host: &impl Host,
        target: usize,
        name: Name,
    ) -> Result<RegisterValue, HvStatus> {
        self.allowed(name)?;
        let vp = self.vps().get(target).ok_or(HvStatus::INVALID_VP_INDEX)?;
        Ok(match name {
            Name::GUEST_OS_ID => value(self.guest_os_id().load(Ordering::Acquire)),
            Name::GUEST_CRASH_CTL => value(Crash::CAPABILITIES),
            Name(n @ CRASH_FIRST..=CRASH_LAST) => {
                value(self.crash().parameter((n - CRASH_FIRST) as usize).load(Ordering::Relaxed))
            }
            Name::REFERENCE_TSC => value(self.time().page_register()),
            Name::REFERENCE_TSC_SEQUENCE => value(u64::from(self.time().page_sequence())),
            Name::VP_RUNTIME => value(vp.run_time(self.reference_time(host)).ticks()),
            Name::VP_ASSIST_PAGE => value(vp.synic().assist_page.register()),
            Name::SYNTHETIC_VBAR_EL1 => value(vp.synthetic_vbar().load(Ordering::Relaxed)),
            // No such exception has been raised.
            Name::SYNTHETIC_ESR_EL1 => value(0),
            Name::SVERSION => value(VERSION_1),
            // EOM reads as zero.
            Name::EOM => value(0),
            Name(SINT_FIRST..=TIMER_LAST) => value(get_synic(vp, name)),
            _ => self.discovery(name),
        })
    }

    /// Reads a register that describes the hypervisor.
    fn discovery(&self, name: Name) -> RegisterValue {
        let profile = &self.config().profile;
        match name {
            Name::HYPERVISOR_VERSION => profile.version.to_register(),
            Name::PRIVILEGES_AND_FEATURES_INFO => profile.features.to_register(),
            Name::FEATURES_INFO => profile.enlightenments.to_register(),
            Name::IMPLEMENTATION_LIMITS_INFO => {
                let mut limits = profile.limits;
                if limits.max_virtual_processors == 0 {
                    limits.max_virtual_processors = self.vp_count() as u32;
                }
                limits.to_register()
            }
            Name::HARDWARE_FEATURES_INFO => RegisterValue::from_dwords([profile.hardware.0, 0, 0, 0]),
            // In kHz, according to the TLFS.
            Name::PROCESSOR_CLOCK_FREQUENCY | Name::INTERRUPT_CLOCK_FREQUENCY => {
                value(self.config().counter_frequency / 1000)
            }
            _ => value(0),
        }
    }

    /// Writes a register of VP `vp`, the caller.
    ///
    /// Dispatches by families of register numbers; the requirements of a family are known at compile time.
    #[inline]
    pub(crate) fn set_register(
        &self,
        host: &(impl Host + Connections),
        vp: usize,
        name: Name,
        new: RegisterValue,
    ) -> Result<(), HvStatus> {
        match name {
            Name::EOM => self.set_eom_by_call(host, vp, new),
            Name(TIMER_FIRST..=TIMER_LAST) => self.set_timer(host, vp, name, new),
            Name(CRASH_FIRST..=CRASH_LAST) => self.set_crash_parameter(name, new),
            _ => self.set_rare_register(host, vp, name, new),
        }
    }

    /// Writes a parameter of a crash.
    #[inline(always)]
    pub(crate) fn set_crash_parameter(&self, Name(n): Name, new: RegisterValue) -> Result<(), HvStatus> {
        self.allowed(Name::GUEST_CRASH_P0)?;
        self.crash().parameter((n - CRASH_FIRST) as usize).store(low(new)?, Ordering::Relaxed);
        Ok(())
    }

    #[inline(never)]
    fn set_eom_by_call(
        &self,
        host: &(impl Host + Connections),
        vp: usize,
        new: RegisterValue,
    ) -> Result<(), HvStatus> {
        self.set_eom(host, vp, new)
    }

    /// Writes EOM, which ignores the value.
    #[inline(always)]
    pub(crate) fn set_eom(
        &self,
        host: &(impl Host + Connections),
        vp: usize,
        new: RegisterValue,
    ) -> Result<(), HvStatus> {
        self.allowed(Name::EOM)?;
        low(new)?;
        let state = self.vps().get(vp).ok_or(HvStatus::INVALID_VP_INDEX)?;
        state.synic().end_of_message(&self.context(host, vp));
        host.buffer_freed(vp);
        Ok(())
    }

    /// Writes a register of a timer.
    #[inline(always)]
    pub(crate) fn set_timer(
        &self,
        host: &impl Host,
        vp: usize,
        Name(n): Name,
        new: RegisterValue,
    ) -> Result<(), HvStatus> {
        self.allowed(Name::STIMER0_CONFIG)?;
        self.set_timer_register(host, vp, n - TIMER_FIRST, low(new)?)
    }

    /// Writes `STIMER<n>_CONFIG` or `STIMER<n>_COUNT`, two registers for each timer.
    #[inline(never)]
    fn set_timer_register(&self, host: &impl Host, vp: usize, index: u32, new: u64) -> Result<(), HvStatus> {
        let state = self.vps().get(vp).ok_or(HvStatus::INVALID_VP_INDEX)?;
        let context = &self.context(host, vp);
        let timer = index as usize / 2;
        if !index.is_multiple_of(2) {
            state.synic().set_timer_count(context, timer, ReferenceTime(new));
            return Ok(());
        }
        let config = StimerConfig(new);
        if config.direct_mode() && !self.config().profile.features.c.direct_synthetic_timers() {
            return Err(HvStatus::INVALID_PARAMETER);
        }
        state.synic().set_timer_config(context, timer, config)
    }

    /// Writes a register that guests write when they start and stop.
    #[inline(never)]
    fn set_rare_register(
        &self,
        host: &(impl Host + Connections),
        vp: usize,
        name: Name,
        new: RegisterValue,
    ) -> Result<(), HvStatus> {
        self.allowed(name)?;
        let new = low(new)?;
        let state = self.vps().get(vp).ok_or(HvStatus::INVALID_VP_INDEX)?;
        let context = &self.context(host, vp);
        match name {
            Name(n @ SINT_FIRST..=SINT_LAST) => {
                let sint = Sint(new);
                if sint.polling() && !self.config().profile.features.c.sint_polling_mode() {
                    return Err(HvStatus::INVALID_PARAMETER);
                }
                state.synic().set_sint((n - SINT_FIRST) as usize, sint)?;
                host.buffer_freed(vp);
            }
            Name::SCONTROL => {
                state.synic().set_control(context, SynicControl(new));
                host.buffer_freed(vp);
            }
            Name::SIMP => {
                self.set_overlay(host, OverlayId::Messages(vp), new);
                state.synic().became_ready(context);
                host.buffer_freed(vp);
            }
            Name::SIEFP => self.set_overlay(host, OverlayId::Events(vp), new),
            Name::SIRBP => state.synic().response_page = new,
            Name::GUEST_OS_ID => {
                let old = self.guest_os_id().swap(new, Ordering::AcqRel);
                // A kernel on a single VP that finds a guest OS id has taken over from another one. A kernel that
                // writes its own id on each VP has not.
                if old != 0 && new != 0 && self.runs_alone(vp) {
                    self.let_go_of_overlays();
                }
            }
            Name::REFERENCE_TSC => self.set_overlay(host, OverlayId::Time, new),
            Name::VP_ASSIST_PAGE => self.set_overlay(host, OverlayId::Assist(vp), new),
            Name::SYNTHETIC_VBAR_EL1 => state.synthetic_vbar().store(new, Ordering::Relaxed),
            Name::GUEST_CRASH_CTL => self.crash().control(host, vp, CrashControl(new)),
            // The rest is read-only.
            _ => return Err(HvStatus::INVALID_PARAMETER),
        }
        Ok(())
    }
}

/// Returns the value of a 64-bit register. TLFS: bits beyond the register's size must be zero.
#[inline(always)]
const fn low(value: RegisterValue) -> Result<u64, HvStatus> {
    if value.high == 0 { Ok(value.low) } else { Err(HvStatus::INVALID_PARAMETER) }
}

/// Reads a register protected by the VP's lock.
fn get_synic(vp: &Vp<impl RawMutex>, name: Name) -> u64 {
    let synic = vp.synic();
    match name {
        Name(n @ SINT_FIRST..=SINT_LAST) => synic.sints[(n - SINT_FIRST) as usize % SINT_COUNT].0,
        Name::SCONTROL => synic.control.0,
        Name::SIEFP => synic.event_page.register(),
        Name::SIMP => synic.message_page.register(),
        Name::SIRBP => synic.response_page,
        Name(n @ TIMER_FIRST..=TIMER_LAST) => {
            let timer = (n - TIMER_FIRST) as usize / 2;
            if (n - TIMER_FIRST).is_multiple_of(2) {
                synic.timers.config(timer).0
            } else {
                synic.timers.count(timer).ticks()
            }
        }
        _ => 0,
    }
}
