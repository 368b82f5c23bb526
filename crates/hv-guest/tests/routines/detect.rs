//! Is it Hyper-V, and what does it tell?

use crate::common::{FREQUENCY, ID, everywhere};
use hv_guest::conduit::{Conduit, FAST_WORDS, FastOutput};
use hv_guest::detect::{self, IdentifyError};
use hv_guest::registers::{self, Register};
use hv_testbed::{Config, Convention, Profile, Testbed};
use hv_tlfs::guest_id::GuestOsId;
use hv_tlfs::hypercall::{HypercallInput, HypercallOutput};
use hv_tlfs::status::HvStatus;

/// Another vendor's hypervisor: answers SMCCC calls with these words.
struct Other([u64; 4]);

#[expect(unsafe_code, reason = "as the trait has it; nothing is behind it")]
impl Conduit for Other {
    unsafe fn call(&self, _: HypercallInput, _: &mut [u64; FAST_WORDS]) -> HypercallOutput {
        panic!("a hypercall to a hypervisor that is not Hyper-V")
    }
    fn fast_output(&self) -> FastOutput {
        FastOutput::AfterInput
    }
    unsafe fn smccc(&self, _: u32, _: [u64; 3]) -> [u64; 4] {
        self.0
    }
}

#[test]
fn only_microsofts_uid_is_hyper_v() {
    let microsoft = [0x4d32_ba58, 0xcd24_4764, 0x8eef_6c75, 0x1659_7024];
    assert!(detect::vendor_uid(Other(microsoft)).is_some());
    // Upper halves of the registers carry nothing.
    assert!(detect::vendor_uid(Other(microsoft.map(|word| word | 0xffff_ffff_0000_0000))).is_some());
    // KVM; not supported; the words of the UUID's text, byte-swapped, which a kernel of 2025 compared with.
    assert!(detect::vendor_uid(Other([0xb66f_b428, 0xe911_c52e, 0x564b_cda9, 0x743a_004d])).is_none());
    assert!(detect::vendor_uid(Other([u64::MAX, 0, 0, 0])).is_none());
    assert!(detect::vendor_uid(Other([0x58ba_324d, 0x6447_24cd, 0x756c_ef8e, 0x2470_5916])).is_none());
}

#[test]
fn the_fadt_needs_the_signature_the_revision_and_the_identity() {
    let mut table = [0; 276];
    table[..4].copy_from_slice(b"FACP");
    table[8] = 6;
    table[268..].copy_from_slice(b"MsHyperV");
    let found = |table: &[u8]| detect::fadt(Other([0; 4]), table).is_some();
    assert!(found(&table));
    for length in 0..table.len() {
        assert!(!found(&table[..length]), "{length} bytes");
    }
    for (at, byte) in [(0, b'X'), (8, 5), (268, b'm'), (275, 0)] {
        let mut other = table;
        other[at] = byte;
        assert!(!found(&other), "byte {at}");
    }
}

#[test]
fn a_device_tree_node_is_known_by_any_of_its_compatible_strings() {
    let found = |compatible: &[u8]| detect::device_tree(Other([0; 4]), compatible).is_some();
    assert!(found(b"microsoft,vmbus\0"));
    assert!(found(b"something\0microsoft,hyperv\0"));
    assert!(!found(b"microsoft,vmbus2\0"));
    assert!(!found(b"linux,kvm\0"));
    assert!(!found(b""));
}

#[test]
fn discovery_works_before_the_guest_has_an_id_and_other_registers_do_not() {
    for convention in [Convention::Smccc, Convention::Hvc1] {
        let bed = Testbed::new(Config::new(FREQUENCY), 1);
        let wire = bed.wire(0, convention);
        let hv = detect::vendor_uid(wire).unwrap();
        assert_eq!(hv.features().unwrap(), Profile::AZURE.features);
        assert_eq!(hv.enlightenments().unwrap().hints, Profile::AZURE.enlightenments.hints);
        assert_eq!(hv.version().unwrap(), Profile::AZURE.version);
        assert_eq!(hv.limits().unwrap().max_virtual_processors, 1);
        let refused = registers::get(&wire, Register::VP_INDEX).unwrap_err();
        assert_ne!(refused.status(), HvStatus::SUCCESS);
        assert!(hv.identify(ID).is_ok());
        assert_eq!(registers::get(&wire, Register::VP_INDEX).unwrap().0, 0);
    }
}

#[test]
fn an_id_of_zero_is_refused_here() {
    let bed = Testbed::new(Config::new(FREQUENCY), 1);
    let hv = detect::vendor_uid(bed.wire(0, Convention::Smccc)).unwrap();
    assert_eq!(hv.identify(GuestOsId(0)).err(), Some(IdentifyError::ZeroId));
    assert_eq!(bed.hypercalls(), 0);
}

#[test]
fn the_partition_knows_what_it_was_told() {
    everywhere(|guest| {
        let information = guest.partition.information();
        assert_eq!(information.features, Profile::AZURE.features);
        assert_eq!(information.limits.max_virtual_processors as usize, guest.vps);
        assert_eq!(registers::get(guest.partition, Register::GUEST_OS_ID), Ok(ID));
    });
}
