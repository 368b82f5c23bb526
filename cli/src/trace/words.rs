//! Names for the numbers in a record that are not from the ABI.

use hv_cpu::gic::{gicd, gicr};
use hv_tlfs::rules::RULES;
use hv_trace::{Cause, Fault, Payload, SmcccConduit, Trap};
use hv_wire::platform::{
    GICD_BASE, GICD_SIZE, GICR_BASE, GICR_STRIDE, HYPERVISOR_TIMER_INTID, MAINTENANCE_INTID, MAX_VPS,
    PHYSICAL_TIMER_INTID, PMU_INTID, UART_INTID, VIRTIO_INTID, VIRTIO_SLOTS, VIRTUAL_TIMER_INTID,
};

use crate::report::names;

/// Names the cause of an exit.
pub(super) const fn trap(trap: Trap) -> &'static str {
    match trap {
        Trap::Smccc => "hvc #0",
        Trap::Hvc => "hvc #1",
        Trap::Smc => "smc",
        Trap::SystemRegister => "system register",
        Trap::GicMmio => "GIC access",
        Trap::Abort => "abort",
        Trap::Interrupt => "interrupt",
        Trap::Other => "other",
    }
}

/// Names the instruction of a call.
pub(super) const fn conduit(conduit: SmcccConduit) -> &'static str {
    match conduit {
        SmcccConduit::Hvc => "hvc",
        SmcccConduit::Smc => "smc",
    }
}

/// Names the cause of an interrupt, and the number of its source.
pub(super) const fn cause(cause: Cause) -> (&'static str, Option<(&'static str, u8)>) {
    match cause {
        Cause::Message(sint) => ("message", Some(("sint", sint))),
        Cause::Event(sint) => ("event", Some(("sint", sint))),
        Cause::Timer(timer) => ("timer", Some(("timer", timer))),
        Cause::Ipi => ("ipi", None),
    }
}

/// Names an SMCCC function, or formats its number if it has no name.
pub(super) fn smccc(function: u32) -> String {
    match names::smccc_name(function) {
        Some(name) => name.to_owned(),
        None => match names::name("smccc", function.into()) {
            name if name.starts_with("0x") => format!("{function:#010x}"),
            name => name,
        },
    }
}

fn interrupt_name(intid: u32, known: &[(u32, &str)]) -> String {
    let name = known.iter().find(|(number, _)| *number == intid);
    name.map_or_else(|| format!("interrupt {intid}"), |(_, name)| format!("interrupt {intid} ({name})"))
}

/// Names an interrupt of the guest.
pub(super) fn interrupt(intid: u32) -> String {
    const KNOWN: [(u32, &str); 4] = [
        (VIRTUAL_TIMER_INTID, "virtual timer"),
        (PHYSICAL_TIMER_INTID, "physical timer"),
        (PMU_INTID, "performance monitor"),
        (UART_INTID, "UART"),
    ];
    interrupt_name(intid, &KNOWN)
}

/// Names an interrupt of the hypervisor. Its own devices, the ports for control and sockets and the network card, are
/// virtio's, and which device has which transport depends on the run.
pub(super) fn own_interrupt(intid: u32) -> String {
    if let Some(transport) = intid.checked_sub(VIRTIO_INTID).filter(|transport| *transport < VIRTIO_SLOTS) {
        return format!("interrupt {intid} (virtio transport {transport})");
    }
    const KNOWN: [(u32, &str); 3] =
        [(HYPERVISOR_TIMER_INTID, "deadline"), (MAINTENANCE_INTID, "maintenance"), (0, "kick")];
    interrupt_name(intid, &KNOWN)
}

/// Names a trapped system register by its ISS.
pub(super) fn system_register(iss: u64) -> String {
    hv_cpu::sysreg::name(iss).map_or_else(|| names::system_register(iss), str::to_owned)
}

/// Returns true for the registers whose writes generate SGIs.
pub(super) const fn generates_sgi(iss: u64) -> bool {
    matches!(iss & 0x3f_fc1e, 0x3a_3016 | 0x3c_3016 | 0x3e_3016)
}

/// Registers that the distributor and a redistributor's SGI frame have at the same offsets.
const SHARED: [(u32, &str); 13] = [
    (gicd::IGROUPR, "IGROUPR"),
    (gicd::ISENABLER, "ISENABLER"),
    (gicd::ICENABLER, "ICENABLER"),
    (gicd::ISPENDR, "ISPENDR"),
    (gicd::ICPENDR, "ICPENDR"),
    (gicd::ISACTIVER, "ISACTIVER"),
    (gicd::ICACTIVER, "ICACTIVER"),
    (gicd::IPRIORITYR, "IPRIORITYR"),
    (gicd::ITARGETSR, "ITARGETSR"),
    (gicd::ICFGR, "ICFGR"),
    (gicd::IGRPMODR, "IGRPMODR"),
    (gicd::NSACR, "NSACR"),
    (gicd::SGIR, "SGIR"),
];
/// Registers of the distributor only.
const DISTRIBUTOR: [(u32, &str); 4] =
    [(gicd::CTLR, "CTLR"), (gicd::TYPER, "TYPER"), (gicd::IIDR, "IIDR"), (gicd::TYPER2, "TYPER2")];
/// Registers of a redistributor's first frame.
const REDISTRIBUTOR: [(u32, &str); 7] = [
    (gicr::CTLR, "CTLR"),
    (gicr::IIDR, "IIDR"),
    (gicr::TYPER, "TYPER"),
    (gicr::STATUSR, "STATUSR"),
    (gicr::WAKER, "WAKER"),
    (gicr::PROPBASER, "PROPBASER"),
    (gicr::PENDBASER, "PENDBASER"),
];

/// Names a register of the interrupt controller by its address. Registers with several words have one name.
pub(super) fn gic_register(address: u64) -> String {
    let exact = |table: &[(u32, &'static str)], offset| {
        table.iter().find(|(start, _)| *start == offset).map(|(_, name)| *name)
    };
    let shared = |offset: u32| {
        let row = SHARED.iter().rev().find(|(start, _)| *start <= offset && offset < 0x1000);
        row.map(|(_, name)| *name)
    };
    let (block, offset, name) = if let Some(offset) = within(address, GICD_BASE, GICD_SIZE) {
        let name = match offset {
            gicd::IROUTER..gicd::IROUTER_END => Some("IROUTER"),
            gicd::ID.. => Some("ID"),
            _ => exact(&DISTRIBUTOR, offset).or_else(|| shared(offset)),
        };
        ("GICD", offset, name)
    } else if let Some(offset) = within(address, GICR_BASE, GICR_STRIDE * MAX_VPS as u64) {
        let name = match offset % GICR_STRIDE as u32 {
            gicd::ID..gicr::SGI_FRAME => Some("ID"),
            frame @ gicr::SGI_FRAME.. => shared(frame - gicr::SGI_FRAME),
            frame => exact(&REDISTRIBUTOR, frame),
        };
        ("GICR", offset, name)
    } else {
        return format!("{address:#x}");
    };
    name.map_or_else(|| format!("{block}+{offset:#x}"), |name| format!("{block}_{name}"))
}

/// Returns the offset of an address in a window.
fn within(address: u64, base: u64, size: u64) -> Option<u32> {
    let offset = address.checked_sub(base).filter(|offset| *offset < size)?;
    u32::try_from(offset).ok()
}

/// Names an undefined action of a guest.
pub(super) const fn fault(fault: Fault) -> &'static str {
    match fault {
        Fault::HvcImmediate => "unknown hvc immediate",
        Fault::SmcImmediate => "unknown smc immediate",
        Fault::SystemRegister => "unknown system register",
        Fault::Address => "access to unmapped address",
        Fault::Fetch => "fetch from unmapped address",
        Fault::GicAccess => "invalid GIC access",
        Fault::Exception => "unexpected exception",
        Fault::SError => "SError",
    }
}

/// Names a rule of the strict mode.
pub(super) fn rule(number: u64) -> String {
    let rule = usize::try_from(number).ok().and_then(|number| RULES.get(number));
    rule.map_or_else(|| format!("rule {number}"), |rule| rule.id.to_owned())
}

/// Returns the text in a record, as far as it is recorded.
pub(super) fn text<const ROOM: usize>(payload: &Payload<ROOM>) -> String {
    let mut text: String =
        String::from_utf8_lossy(payload.kept()).chars().filter(|c| !c.is_control()).collect();
    if payload.is_cut() {
        text.push_str("..");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sgi_registers_are_known_by_their_encoding() {
        // MSR ICC_SGI1R_EL1 is S3_0_C12_C11_5: Op0 3, Op2 5, Op1 0, CRn 12, Rt 7, CRm 11, write.
        let iss = 3 << 20 | 5 << 17 | 12 << 10 | 7 << 5 | 11 << 1;
        assert_eq!(system_register(iss), "ICC_SGI1R_EL1");
        assert!(generates_sgi(iss));
        let dir = 3 << 20 | 1 << 17 | 12 << 10 | 11 << 1;
        assert_eq!(system_register(dir), "ICC_DIR_EL1");
        assert!(!generates_sgi(dir));
        // MRS ID_AA64PFR0_EL1, which is S3_0_C0_C4_0.
        assert_eq!(system_register(3 << 20 | 4 << 1 | 1), "ID_AA64PFR0_EL1");
        assert!(system_register(1).starts_with("read of system register S0_0"));
    }

    #[test]
    fn gic_registers_are_named_by_address() {
        assert_eq!(gic_register(GICD_BASE), "GICD_CTLR");
        assert_eq!(gic_register(GICD_BASE + 0x104), "GICD_ISENABLER");
        assert_eq!(gic_register(GICD_BASE + 0x6108), "GICD_IROUTER");
        assert_eq!(gic_register(GICD_BASE + 0xffe8), "GICD_ID");
        assert_eq!(gic_register(GICD_BASE + 0x2000), "GICD+0x2000");
        assert_eq!(gic_register(GICR_BASE + GICR_STRIDE + 0x14), "GICR_WAKER");
        assert_eq!(gic_register(GICR_BASE + 0x1_0100), "GICR_ISENABLER");
        assert_eq!(gic_register(GICR_BASE + 0xffe8), "GICR_ID");
        assert_eq!(gic_register(0x1234), "0x1234");
        assert_eq!(gic_register(u64::MAX), "0xffffffffffffffff");
    }

    #[test]
    fn functions_have_their_bare_names() {
        assert_eq!(smccc(0x8400_0008), "SYSTEM_OFF");
        assert_eq!(smccc(0x8600_1234), "0x86001234");
    }

    #[test]
    fn numbers_without_a_name_stay_numbers() {
        assert_eq!(rule(0), RULES[0].id);
        assert_eq!(rule(RULES.len() as u64), format!("rule {}", RULES.len()));
        assert_eq!(interrupt(27), "interrupt 27 (virtual timer)");
        assert_eq!(interrupt(23), "interrupt 23 (performance monitor)");
        assert_eq!(own_interrupt(0), "interrupt 0 (kick)");
        // QEMU's first device has the last of the transports.
        assert_eq!(own_interrupt(79), "interrupt 79 (virtio transport 31)");
        assert_eq!(own_interrupt(48), "interrupt 48 (virtio transport 0)");
        assert_eq!((own_interrupt(47), own_interrupt(80)), ("interrupt 47".into(), "interrupt 80".into()));
    }

    #[test]
    fn texts_drive_no_terminal_and_say_that_they_are_cut() {
        assert_eq!(text(&Payload::<16>::new(b"Bad\x1bRing")), "BadRing");
        assert_eq!(text(&Payload::<4>::new(b"BadRing")), "BadR..");
    }
}
