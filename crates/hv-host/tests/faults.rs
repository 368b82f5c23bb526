//! Injected faults: each changes what the guest sees, and none the partition's health.

use hv_host::faults::{Faults as _, Injection, Injector, Name as PlanName, Plan};
use hv_host::{Config, GuestMemory, Host, Port, PortTarget};
use hv_partition::testing::{LINUX_ID, RAM, TestMachine, rep, run_with_faults, simple};
use hv_tlfs::hypercall::HypercallCode as Code;
use hv_tlfs::register::RegisterName as Name;
use hv_tlfs::smccc::HYPERCALL;
use hv_tlfs::status::HvStatus;
use hv_tlfs::time::ReferenceTime;

const SINT: u8 = 2;
const VECTOR: u8 = 18;
const TSC_PAGE: u64 = RAM + 0x5000;
const MILLISECOND: u64 = 10_000;

fn names(kind: PlanName, name: &str) -> Option<u64> {
    let kind = if kind == PlanName::Hypercall { "hypercall" } else { "status" };
    let wanted = |constant: &&hv_tlfs::abi::Constant| constant.kind == kind && constant.has_name(name);
    hv_tlfs::abi::constants().find(wanted).map(|constant| constant.value)
}

/// Returns the number of times that each rule of the plan has struck.
fn fired(m: &TestMachine<'_>) -> Vec<u64> {
    m.host.plan().fired().collect()
}

fn plan(text: &str) -> Plan {
    Plan::parse(text, &names).unwrap()
}

fn ports() -> [Port; 2] {
    [
        Port::new(0x100, 1, PortTarget::Message { vp: Some(1), sint: SINT }),
        Port::new(0x101, 2, PortTarget::Event { vp: Some(1), sint: SINT, base: 0, count: 64 }),
    ]
}

/// Runs a test with a set-up guest on two VPs.
fn with(text: &str, test: impl FnOnce(&TestMachine<'_>)) {
    run_with_faults(Config::new(62_500_000), plan(text), 2, &ports(), |m| {
        (0..2).for_each(|vp| m.online(vp));
        while m.set(0, Name::GUEST_OS_ID, LINUX_ID).is_err() {}
        for vp in 0..2 {
            m.enable_synic(vp, SINT, VECTOR);
        }
        m.host.take_effects();
        test(m);
        still_healthy(m);
    });
}

/// Checks that a well-behaved guest still gets what it asks for, once fault injection has ended.
fn still_healthy(m: &TestMachine<'_>) {
    assert_eq!(m.partition.reference_time(&m.host), m.partition.reference_time(&m.host));
    m.partition.reset(&m.host);
    m.online(0);
    assert_eq!(m.partition.power(0), Some(hv_host::Power::On));
}

fn signal(m: &TestMachine<'_>) -> HvStatus {
    m.fast(0, simple(Code::SIGNAL_EVENT), &[0x101]).0.status()
}

fn post(m: &TestMachine<'_>, connection: u32, payload: &[u8]) -> HvStatus {
    let mut input = [connection, 0, 1, payload.len() as u32].map(u32::to_le_bytes).concat();
    input.extend(payload);
    input.resize(256, 0);
    m.call(0, simple(Code::POST_MESSAGE), &input, 0).0.status()
}

#[test]
fn the_nth_call_gets_its_status_and_the_others_are_made() {
    with("call=0x5d:0x13@3", |m| {
        let statuses: Vec<u16> = (0..5).map(|_| signal(m).0).collect();
        assert_eq!(statuses, [0, 0, 0x13, 0, 0]);
        assert_eq!(fired(m), [1]);
    });
}

#[test]
fn calls_and_statuses_have_their_c_names() {
    with("call=HVCALL_SIGNAL_EVENT:HV_STATUS_INSUFFICIENT_MEMORY@/2", |m| {
        let statuses: Vec<HvStatus> = (0..4).map(|_| signal(m)).collect();
        let memory = HvStatus::INSUFFICIENT_MEMORY;
        assert_eq!(statuses, [HvStatus::SUCCESS, memory, HvStatus::SUCCESS, memory]);
    });
}

#[test]
fn a_register_call_can_fail_too_and_sets_nothing() {
    with("call=0x51:0x6@12", |m| {
        // The nine before are the guest OS id's and the SynICs'.
        let mut failed = 0;
        for n in 0..10 {
            let before = m.get(0, Name::SIRBP).unwrap();
            match m.set(0, Name::SIRBP, n + 100) {
                Ok(()) => assert_eq!(m.get(0, Name::SIRBP), Ok(n + 100)),
                Err(status) => {
                    failed += 1;
                    assert_eq!((status, m.get(0, Name::SIRBP)), (HvStatus::ACCESS_DENIED, Ok(before)));
                }
            }
        }
        assert_eq!(failed, 1);
        assert_eq!(fired(m), [1]);
    });
}

#[test]
fn any_call_is_every_call() {
    with("call=any:0x71@/1000000", |m| assert_eq!(signal(m), HvStatus::SUCCESS));
    run_with_faults(Config::new(62_500_000), plan("call=any:0x71"), 1, &[], |m| {
        m.online(0);
        assert_eq!(m.get(0, Name::HYPERVISOR_VERSION), Err(HvStatus::OPERATION_FAILED));
        assert_eq!(m.smccc(0, 0x8400_0000, [0; 3]).0, 0x1_0001, "PSCI is not a hypercall");
    });
}

#[test]
fn percentages_are_random_and_repeatable() {
    let run = |seed: u32| {
        let mut statuses = Vec::new();
        with(&format!("call=0x5d:0x13@30%,seed={seed}"), |m| {
            statuses = (0..200).map(|_| signal(m).0).collect::<Vec<u16>>();
        });
        statuses
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
    let failed = run(7).iter().filter(|&&status| status != 0).count();
    assert!((30..90).contains(&failed), "{failed}");
}

#[test]
fn buffers_run_out_when_a_message_has_to_wait() {
    with("buffers@2", |m| {
        assert_eq!(post(m, 0x100, b"1"), HvStatus::SUCCESS, "the slot needs no buffer");
        assert_eq!(post(m, 0x100, b"2"), HvStatus::SUCCESS);
        assert_eq!(post(m, 0x100, b"3"), HvStatus::INSUFFICIENT_BUFFERS);
        assert_eq!(post(m, 0x100, b"3"), HvStatus::SUCCESS);
        let payloads: Vec<u8> =
            std::iter::from_fn(|| m.take_message(1, SINT)).map(|message| message.payload[0]).collect();
        assert_eq!(payloads, *b"123");
    });
}

#[test]
fn a_delayed_message_comes_late_and_once() {
    with("delay@1", |m| {
        assert_eq!(post(m, 0x100, b"1"), HvStatus::SUCCESS);
        assert!(m.take_message(1, SINT).is_none());
        assert_eq!(m.host.take_interrupts(), []);
        m.set_time(ReferenceTime(5000));
        assert_eq!(m.host.take_interrupts(), [(1, u32::from(VECTOR))]);
        assert_eq!(m.take_message(1, SINT).unwrap().payload[0], b'1');
        assert!(m.take_message(1, SINT).is_none());
    });
}

#[test]
fn a_continuation_is_forced_after_every_element() {
    with("again", |m| {
        let mut input = u64::MAX.to_le_bytes().to_vec();
        input.extend(0xffff_fffeu64.to_le_bytes());
        input.extend([Name::SVERSION.0; 6].iter().flat_map(|name| name.to_le_bytes()));
        m.host.take_events();
        let (result, output) = m.call(0, rep(Code::GET_VP_REGISTERS, 6), &input, 96);
        assert_eq!((result.status(), result.reps_completed()), (HvStatus::SUCCESS, 6));
        assert!(output.chunks(16).all(|value| value[0] == 1));
        let retries = m.host.take_events().iter().filter(|event| event.contains("retry: true")).count();
        assert_eq!(retries, 5);
    });
}

#[test]
fn interrupts_are_lost_doubled_and_made_up() {
    with("lost=18@1,spurious=40@20ms", |m| {
        signal(m);
        assert_eq!(m.host.take_interrupts(), [], "lost");
        assert!(m.event_flag(1, SINT, 0), "the flag is set nevertheless");
        m.set_time(ReferenceTime(20 * MILLISECOND));
        assert_eq!(m.host.take_interrupts(), [(0, 40)]);
        m.set_time(ReferenceTime(39 * MILLISECOND));
        assert_eq!(m.host.take_interrupts(), []);
    });
    with("twice", |m| {
        signal(m);
        assert_eq!(m.host.take_interrupts(), [(1, 18), (1, 18)]);
    });
    with("lost=19", |m| {
        signal(m);
        assert_eq!(m.host.take_interrupts(), [(1, 18)], "another one");
    });
}

#[test]
fn a_migration_comes_every_so_often() {
    with("migrate@10ms", |m| {
        m.set(0, Name::REFERENCE_TSC, TSC_PAGE | 1).unwrap();
        let mut sequences = Vec::new();
        for n in 0..5 {
            m.set_time(ReferenceTime(n * 10 * MILLISECOND));
            sequences.push(m.get(0, Name::REFERENCE_TSC_SEQUENCE).unwrap());
            assert!(m.get(0, Name::TIME_REF_COUNT).unwrap() >= n * 10 * MILLISECOND);
        }
        assert!(sequences.is_sorted_by(|a, b| a < b), "{sequences:?}");
    });
}

#[test]
fn a_hostile_host_writes_into_the_guests_pages() {
    with("disturb=messages@1ms,disturb=time@1ms,disturb=events@1ms,seed=3", |m| {
        m.set(0, Name::REFERENCE_TSC, TSC_PAGE | 1).unwrap();
        let sequence = m.host.memory().load_acquire(TSC_PAGE).unwrap();
        for sint in 0..16 {
            m.set(1, Name::sint(sint), u64::from(VECTOR)).unwrap();
            let message_type = hv_tlfs::synic::MessageType(1);
            m.partition.post_message(&m.host, 1, sint, message_type, 0, b"mine").unwrap();
        }
        (1..=20).for_each(|n| m.set_time(ReferenceTime(n * MILLISECOND)));
        assert_ne!(m.host.memory().load_acquire(TSC_PAGE).unwrap(), sequence);
        let corrupt = (0..16).filter(|&sint| m.slot(1, sint).header.payload_size != 4).count();
        assert!((1..16).contains(&corrupt), "{corrupt}");
        assert!((0..16).any(|sint| (0..2048).any(|flag| m.event_flag(1, sint, flag))));
    });
}

#[test]
fn a_wrong_plan_says_which_clause_and_why() {
    for (text, clause) in [
        ("", 1),
        ("nonsense", 1),
        ("buffers,call=0x5d", 2),
        ("call=HVCALL_NO_SUCH:5", 1),
        ("call=0x5d:0", 1),
        ("call=0x10000:1", 1),
        ("call=0x5d:5@0", 1),
        ("call=0x5d:5@/0", 1),
        ("call=0x5d:5@101%", 1),
        ("call=0x5d:5@10ms", 1),
        ("lost=3", 1),
        ("lost=18,twice=5000", 2),
        ("spurious", 1),
        ("spurious=18", 1),
        ("migrate@3", 1),
        ("migrate@0ms", 1),
        ("silent=10ms", 1),
        ("silent=20ms@10ms", 1),
        ("disturb=all@10ms", 1),
        ("delay=5", 1),
        ("seed=x", 1),
        ("again@1@2", 1),
    ] {
        assert_eq!(Plan::parse(text, &names).map_err(|bad| bad.clause), Err(clause), "{text}");
    }
    let many: Vec<String> = (16..33).map(|intid| format!("lost={intid}")).collect();
    let refused = Plan::parse(&many.join(","), &names).unwrap_err().to_string();
    assert_eq!(refused, "clause 17: too many rules: 16 is the most");
}

#[test]
fn without_a_plan_nothing_is_injected() {
    let injector = Injector::new(Plan::NONE);
    assert_eq!(injector.status(Code::SIGNAL_EVENT), None);
    injector.tick(ReferenceTime::MAX, &mut |timed| panic!("{timed:?}"));
    assert_eq!(injector.fired().count(), 0);
}

#[test]
fn a_host_that_is_not_decorated_has_no_faults() {
    with("call=0x5d:0x13@/1,buffers@/1,lost@/1", |m| {
        let mut x = [0; 31];
        let mut signal = |host: &dyn Fn(&mut [u64; 31])| {
            (x[0], x[1], x[2]) = (u64::from(HYPERCALL), simple(Code::SIGNAL_EVENT).with_fast(true).0, 0x101);
            host(&mut x);
            HvStatus(x[0] as u16)
        };
        assert_eq!(signal(&|x| _ = m.partition.hvc(&m.host, 0, 0, x)), HvStatus(0x13));
        m.host.take_interrupts();
        assert_eq!(signal(&|x| _ = m.partition.hvc(&*m.host, 0, 0, x)), HvStatus::SUCCESS);
        assert_eq!(m.host.take_interrupts(), [(1, u32::from(VECTOR))]);
    });
}

#[test]
fn each_rule_counts_its_own_strikes() {
    with("call=0x5d:0x13@2,seed=3,call=0x99:0x13,lost=18@1,migrate@50ms", |m| {
        (0..4).for_each(|_| _ = signal(m));
        let injector = m.host.plan();
        for time in [49, 50, 99, 100, 249] {
            injector.tick(ReferenceTime(time * MILLISECOND), &mut |_| {});
        }
        assert_eq!(fired(m), [1, 0, 1, 3]);
    });
}

#[test]
fn a_silence_counts_the_periods_that_kept_something_back() {
    let injector = Injector::new(plan("silent=10ms@100ms"));
    let answers = [5, 6, 50, 105, 250, 301].map(|time| {
        injector.tick(ReferenceTime(time * MILLISECOND), &mut |_| {});
        injector.injects(Injection::Silent)
    });
    assert_eq!(answers, [true, true, false, true, false, true]);
    assert_eq!(injector.fired().collect::<Vec<_>>(), [3]);
}
