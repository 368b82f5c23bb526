//! Detection, identification, and what the hypervisor tells.

use hv_guest::detect::{self, IdentifyError};
use hv_guest::partition::Partition;
use hv_guest::registers::{self, Register};
use hv_guest::tlfs::guest_id::GuestOsId;
use hv_guest::tlfs::vp::VpIndex;

use super::Os;

/// The guest OS id that we report.
pub(crate) const ID: GuestOsId = GuestOsId::linux(0x02_00_00).with_os_id(0x42).with_build(7);

/// Identifies the guest, after the questions that need no identification.
pub(crate) fn identify<O: Os>(os: &O) -> Partition<O::Conduit> {
    let conduit = os.conduit();
    let id = registers::get(&conduit, Register::GUEST_OS_ID);
    assert_eq!(id, Ok(GuestOsId(0)), "no guest OS id is set, or it was cleared");
    assert!(registers::get(&conduit, Register::VP_INDEX).is_err(), "who has not is refused");
    let hv = detect::vendor_uid(conduit).expect("it has Microsoft's UID");
    assert!(detect::device_tree(conduit, b"microsoft,vmbus\0").is_some());
    assert_eq!(hv.identify(GuestOsId(0)).err(), Some(IdentifyError::ZeroId));
    let features = hv.features().expect("features are told to everybody");
    let (hints, version) = (hv.enlightenments(), hv.version());
    let partition = hv.identify(ID).expect("it takes our id");
    let told = partition.information();
    assert_eq!((features, hints, version), (told.features, Ok(told.enlightenments), Ok(told.version)));
    partition
}

/// Checks that what the hypervisor tells is the same on each VP, and fits the machine.
pub(crate) fn told<O: Os>(os: &O, hv: &Partition<O::Conduit>) {
    let told = *hv.information();
    let privileges = told.features.privileges;
    assert!(privileges.access_synic() && privileges.access_synthetic_timers());
    assert!(privileges.access_reference_tsc() && privileges.access_vp_index());
    assert!(told.limits.max_virtual_processors as usize >= os.vps());
    super::on_each(os, |n| {
        let conduit = os.conduit();
        assert_eq!(registers::get(&conduit, Register::GUEST_OS_ID), Ok(ID));
        assert_eq!(registers::get(&conduit, Register::FEATURES), Ok(told.features));
        assert_eq!(registers::get(&conduit, Register::LIMITS), Ok(told.limits));
        assert_eq!(registers::get(&conduit, Register::VP_INDEX), Ok(VpIndex(n as u32)));
    });
}
