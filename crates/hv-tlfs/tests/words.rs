//! Tests the generated accessors on words whose bits are known from the TLFS or from traces of Linux.

use hv_tlfs::crash::CrashControl;
use hv_tlfs::features::{Features, HypervisorVersion};
use hv_tlfs::guest_id::{GuestOsId, OpenSourceOs, ProprietaryOsId, Vendor};
use hv_tlfs::hypercall::{HypercallCode, HypercallInput, HypercallOutput};
use hv_tlfs::register::{RegisterName, RegisterValue};
use hv_tlfs::sets;
use hv_tlfs::status::{HvError, HvStatus};
use hv_tlfs::synic::{Simp, Sint};
use hv_tlfs::time::ReferenceTime;

#[test]
fn a_setter_changes_its_field_alone_and_drops_what_does_not_fit() {
    let word = HypercallInput::from_bits(u64::MAX).with_rep_count(0);
    assert_eq!(word.bits(), 0xffff_f000_ffff_ffff);
    assert_eq!(word.with_rep_count(0xf001).rep_count(), 1);
    assert_eq!(word.with_rep_count(0xf001).bits(), 0xffff_f001_ffff_ffff);
    assert_eq!(Simp::default().with_page_number(u64::MAX).bits(), !0xfff);
}

#[test]
fn reserved_bits_are_those_that_no_field_names() {
    assert_eq!(HypercallInput::RESERVED_MASK, 0xf000_f000_7800_0000);
    assert_eq!(HypercallInput::from_bits(1 << 27).reserved(), 1 << 27);
    assert_eq!(Sint::RESERVED_MASK, !0x1f_00ff);
}

#[test]
fn control_words_are_those_that_linux_sends() {
    let set_one =
        HypercallInput::from_code(HypercallCode::SET_VP_REGISTERS).with_fast(true).with_rep_count(1);
    assert_eq!(set_one.bits(), 0x1_0001_0051);
    assert_eq!(HypercallInput::from_code(HypercallCode::SIGNAL_EVENT).with_fast(true).bits(), 0x1_005d);
    assert!(HypercallCode::EXT_QUERY_CAPABILITIES.is_extended());
    assert!(!HypercallCode::POST_MESSAGE.is_extended());
}

#[test]
fn a_status_is_success_or_an_error() {
    let output = HypercallOutput::from_status(HvStatus::INVALID_PARAMETER).with_reps_completed(3);
    assert_eq!(output.bits(), 0x3_0000_0005);
    assert_eq!(output.to_result().map_err(HvStatus::from), Err(HvStatus::INVALID_PARAMETER));
    assert_eq!(HypercallOutput::from_bits(0x7_0000_0000).to_result(), Ok(()));
    let unknown: HvError = HvStatus(0x4242).to_result().unwrap_err();
    assert_eq!(unknown.to_string(), "hypervisor status 0x4242");
}

#[test]
fn a_register_number_beyond_the_last_names_nothing() {
    assert_eq!(RegisterName::sint(15), RegisterName::SINT15);
    assert_eq!(RegisterName::sint(16), RegisterName(u32::MAX));
    assert_eq!(RegisterName::stimer_config(3), RegisterName::STIMER3_CONFIG);
    assert_eq!(RegisterName::stimer_count(3), RegisterName::STIMER3_COUNT);
    assert_eq!(RegisterName::stimer_config(4), RegisterName(u32::MAX));
    assert_eq!(RegisterName::stimer_count(255), RegisterName(u32::MAX));
}

#[test]
fn features_have_arm64s_bits_in_the_third_dword() {
    let value = RegisterValue::from_dwords([0x0000_0066, 0x0000_0030, 1 << 8 | 1 << 13 | 1 << 6, 0]);
    let features = Features::from_register(value);
    assert!(features.privileges.access_synic() && features.privileges.post_messages());
    assert!(
        features.c.guest_crash() && features.c.direct_synthetic_timers() && features.c.frequency_registers()
    );
    assert!(!features.c.disable_hypervisor(), "bit 10 is x64's number of the crash registers");
    assert_eq!(features.to_register(), value);
}

#[test]
fn the_version_has_its_parts_in_order() {
    let value = RegisterValue::from_dwords([20348, 10 << 16, 3, 5 << 24 | 7]);
    let version = HypervisorVersion::from_register(value);
    assert_eq!((version.build_number, version.major_version, version.minor_version), (20348, 10, 0));
    assert_eq!((version.service_pack, version.service.branch(), version.service.number()), (3, 5, 7));
    assert_eq!(version.to_register(), value);
}

#[test]
fn bit_63_says_which_layout_a_guest_os_id_has() {
    let linux = GuestOsId::from_bits(0x8100_0006_0c6b_0000);
    assert_eq!((linux.os_type(), linux.version()), (OpenSourceOs::LINUX, 0x06_0c6b));
    assert_eq!(linux.proprietary(), None);
    let windows = GuestOsId::from_bits(0x0001_040a_0000_4f7c);
    assert_eq!(windows.proprietary().map(ProprietaryOsId::vendor), Some(Vendor::MICROSOFT));
}

#[test]
fn a_crash_with_a_message_is_bits_63_and_62() {
    let control = CrashControl::default().with_crash_notify(true).with_crash_message(true);
    assert_eq!(control, CrashControl(CrashControl::CRASH_NOTIFY.0 | CrashControl::CRASH_NOTIFY_MSG.0));
}

#[test]
fn a_vp_beyond_bank_63_is_in_no_set() {
    assert_eq!(sets::bank_and_bit(130), Some((2, 2)));
    assert_eq!(sets::bank_and_bit(4095), Some((63, 63)));
    assert_eq!(sets::bank_and_bit(4096), None);
}

#[test]
fn reference_time_counts_units_of_100_ns() {
    assert_eq!(ReferenceTime::from_nanos(1_999).ticks(), 19);
    assert_eq!(ReferenceTime::from_ticks(u64::MAX).as_nanos(), u64::MAX);
    assert_eq!(format!("{:?}", ReferenceTime::from_ticks(12_345_678)), "1.2345678s");
}

#[test]
fn debug_prints_the_name_of_a_number_that_has_one() {
    use hv_tlfs::{
        guest_id, hypercall, intercept, interrupt, isolation, memory, port, register, sets, status, synic,
        vmbus, vp, vsm,
    };
    let printed = [
        format!("{:?}", status::HvStatus::INVALID_PARAMETER),
        format!("{:?}", status::HvStatus(0x5).to_result()),
        format!("{:?}", status::HvStatus(0xfff0)),
        format!("{:?}", hypercall::HypercallCode::POST_MESSAGE),
        format!("{:?}", hypercall::HypercallCode::EXT_QUERY_CAPABILITIES),
        format!("{:?}", register::RegisterName::SIMP),
        format!("{:?}", register::RegisterName::sint(2)),
        format!("{:?}", register::RegisterName::ELR_EL1),
        format!("{:?}", synic::MessageType::TIMER_EXPIRED),
        format!("{:?}", synic::MessageType(1)),
        format!("{:?}", vmbus::MessageType::OPEN_CHANNEL),
        format!("{:?}", vmbus::Version::V5_3),
        format!("{:?}", vmbus::Version::new(9, 1)),
        format!("{:?}", vp::VpIndex::SELF),
        format!("{:?}", vp::VpIndex(3)),
        format!("{:?}", vp::PartitionId::SELF),
        format!("{:?}", sets::GenericSetFormat(0)),
        format!("{:?}", interrupt::InterruptSource::MSI),
        format!("{:?}", port::PortType(1)),
        format!("{:?}", guest_id::OpenSourceOs(1)),
        format!("{:?}", intercept::AccessType(0)),
        format!("{:?}", isolation::IsolationType(0)),
        format!("{:?}", memory::CacheType(0)),
        format!("{:?}", vsm::VtlEntryReason(1)),
    ];
    let expected = [
        "HvStatus(INVALID_PARAMETER)",
        "Err(HvError(INVALID_PARAMETER))",
        "HvStatus(0xfff0)",
        "HypercallCode(POST_MESSAGE)",
        "HypercallCode(EXT_QUERY_CAPABILITIES)",
        "RegisterName(SIMP)",
        "RegisterName(SINT2)",
        "RegisterName(ELR_EL1)",
        "MessageType(TIMER_EXPIRED)",
        "MessageType(0x1)",
        "MessageType(OPEN_CHANNEL)",
        "Version(V5_3)",
        "Version(0x90001)",
        "VpIndex(VP_INDEX_SELF)",
        "VpIndex(0x3)",
        "PartitionId(PARTITION_ID_SELF)",
        "GenericSetFormat(SPARSE_4K)",
        "InterruptSource(MSI)",
    ];
    for (printed, expected) in printed.iter().zip(expected) {
        assert_eq!(printed, expected);
    }
    // The others have a name, whichever it is.
    for printed in &printed[expected.len()..] {
        assert!(!printed.contains("0x"), "{printed}");
    }
}

#[test]
fn a_number_is_found_by_its_name_in_the_table_too() {
    let row = hv_tlfs::abi::constants().find(|row| row.name == "HV_STATUS_INVALID_PARAMETER").unwrap();
    assert_eq!(row.rust, "INVALID_PARAMETER");
}
