//! What stock Linux does at boot.

use hv_partition::testing::{RAM, run_bare};
use hv_partition::{Action, Config};
use hv_tlfs::hypercall::{HypercallCode, HypercallInput};
use hv_tlfs::register::RegisterName as Name;
use hv_tlfs::smccc::VENDOR_UID;

#[test]
fn the_boot_of_stock_linux_gets_what_it_asks_for() {
    run_bare(Config::new(62_500_000), 2, &[], |m| {
        m.online(0);
        assert_eq!(m.smccc(0, 0x8400_0000, [0; 3]), (0x1_0001, Action::Resume));
        assert_eq!(m.smccc(0, 0x8400_0006, [0; 3]).0, 2);
        assert_eq!(m.smccc(0, 0x8400_000a, [0x8000_0000, 0, 0]).0, 0);
        assert!(m.smccc(0, 0x8000_0000, [0; 3]).0 >= 0x1_0002);
        assert_eq!(m.smccc(0, 0x8400_0050, [0; 3]).0, u64::MAX, "TRNG");
        let mut x = [0; 31];
        x[0] = 0x8600_ff01;
        assert_eq!(m.hvc(0, 0, &mut x), Action::Resume);
        assert_eq!(x[..4], VENDOR_UID.map(u64::from));

        m.set(0, Name::GUEST_OS_ID, 0x8100_0006_0c6b_0000).unwrap();
        let [ab, c] = m.get_wide(0, Name::PRIVILEGES_AND_FEATURES_INFO).unwrap();
        assert_eq!((ab, c), (0x003a_8030_0000_2e7f, 0x31e1));
        m.get(0, Name::FEATURES_INFO).unwrap();
        m.get(0, Name::HYPERVISOR_VERSION).unwrap();
        m.get(0, Name::GUEST_CRASH_CTL).unwrap();

        assert_eq!(m.smccc(0, 0xc400_0003, [1, RAM, 7]).0, 0, "CPU_ON");
        m.online(1);
        for vp in 0..2 {
            assert_eq!(m.get(vp, Name::VP_INDEX), Ok(vp as u64));
            m.enable_synic(vp, 2, 0x12);
        }
        let mut contact = [0u8; 256];
        contact[0] = 4;
        contact[8] = 1;
        contact[12] = 40;
        contact[16] = 14;
        let (result, _) = m.call(0, HypercallInput::from_code(HypercallCode::POST_MESSAGE), &contact, 0);
        assert_eq!(result.0, 0);
        assert_eq!(m.smccc(0, 0x8400_0008, [0; 3]).1, Action::SystemOff);
    });
}
