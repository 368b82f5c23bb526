//! A host that keeps its answers back.

use crate::guest::{SINT, contact, post, take_kinds};
use hv_partition::Config;
use hv_partition::faults::Plan;
use hv_partition::testing::{LINUX_ID, run_with_faults};
use hv_tlfs::register::RegisterName as Name;
use hv_tlfs::status::HvStatus;
use hv_tlfs::time::ReferenceTime;
use zerocopy::IntoBytes;

const MILLISECOND: u64 = 10_000;

#[test]
fn a_silent_host_answers_when_it_speaks_again() {
    let plan = Plan::parse("silent=50ms@100ms", &|_, _| None).unwrap();
    run_with_faults(Config::new(62_500_000), plan, 1, &[], |m| {
        m.online(0);
        m.set(0, Name::GUEST_OS_ID, LINUX_ID).unwrap();
        m.enable_synic(0, SINT, 18);
        assert_eq!(post(m, 0, 4, contact(0).as_bytes()), HvStatus::SUCCESS, "it takes the message");
        m.set_time(ReferenceTime(49 * MILLISECOND));
        assert!(take_kinds(m, 0).is_empty());
        m.set_time(ReferenceTime(50 * MILLISECOND));
        assert!(!take_kinds(m, 0).is_empty());
        m.set_time(ReferenceTime(120 * MILLISECOND));
        assert_eq!(post(m, 0, 4, contact(0).as_bytes()), HvStatus::SUCCESS);
        assert!(take_kinds(m, 0).is_empty());
    });
}
