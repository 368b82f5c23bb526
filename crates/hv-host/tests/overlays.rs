//! TLFS 6.0b, section 5.2.1, "GPA Overlay Pages": what a guest sees of its memory and of the hypervisor's pages.

use hv_host::{GuestMemory, Host};
use hv_partition::Config;
use hv_partition::testing::{RAM, RAM_SIZE, TestMachine, rehash, run, run_bare};
use hv_tlfs::register::RegisterName as Name;
use proptest::prelude::*;

const VPS: usize = 3;
const SINT: u8 = 5;
/// Pages of the guest's that overlays are put on; the last is not memory.
const PAGES: [u64; 4] = [RAM + 0x3000, RAM + 0x4000, RAM + RAM_SIZE - 0x1000, RAM + RAM_SIZE];
const SIZE: usize = 4096;
/// Where the reserved bytes of the reference TSC page begin.
const RESERVED: usize = 24;

type Page = Vec<u8>;

fn machine(test: impl FnOnce(&TestMachine<'_>)) {
    run(Config::new(62_500_000), VPS, &[], test);
}

fn read(m: &TestMachine<'_>, gpa: u64) -> Page {
    let mut page = vec![0; SIZE];
    m.host.memory().read(gpa, &mut page).unwrap();
    page
}

fn fill(m: &TestMachine<'_>, gpa: u64, byte: u8) -> Page {
    let page: Page = (0..SIZE).map(|at| byte ^ (at / 7) as u8).collect();
    m.host.memory().write(gpa, &page).unwrap();
    page
}

const REGISTERS: [Name; 4] = [Name::SIMP, Name::SIEFP, Name::VP_ASSIST_PAGE, Name::REFERENCE_TSC];

#[test]
fn the_guests_bytes_come_back_when_an_overlay_is_disabled() {
    for name in REGISTERS {
        machine(|m| {
            let bytes = fill(m, PAGES[0], 0xa5);
            m.set(1, name, PAGES[0] | 1).unwrap();
            assert!(read(m, PAGES[0])[RESERVED..].iter().all(|byte| *byte == 0), "{name:?}");
            m.set(1, name, PAGES[0]).unwrap();
            assert!(read(m, PAGES[0]) == bytes, "{name:?}");
        });
    }
}

#[test]
fn a_kernel_that_takes_over_keeps_its_memory_and_starts_without_overlays() {
    for name in REGISTERS {
        machine(|m| {
            fill(m, PAGES[0], 0xa5);
            m.set(0, name, PAGES[0] | 1).unwrap();
            let id = m.get(0, Name::GUEST_OS_ID).unwrap();
            // A kernel may write its identity on each VP.
            m.set(0, Name::GUEST_OS_ID, id).unwrap();
            assert_eq!(m.get(0, name).unwrap(), PAGES[0] | 1, "{name:?} stays enabled");
            // Kexec: one VP is left, and the next kernel takes the page for memory.
            (1..VPS).for_each(|vp| m.partition.vp_offline(&m.host, vp));
            let bytes = fill(m, PAGES[0], 0x3c);
            m.set(0, Name::GUEST_OS_ID, id).unwrap();
            assert_eq!(m.get(0, name).unwrap(), PAGES[0], "{name:?} is disabled");
            assert!(read(m, PAGES[0]) == bytes, "{name:?}");
            m.set(0, name, PAGES[1] | 1).unwrap();
            assert!(read(m, PAGES[0]) == bytes, "{name:?}");
            assert!(read(m, PAGES[1])[RESERVED..].iter().all(|byte| *byte == 0), "{name:?}");
        });
    }
}

#[test]
fn an_overlay_that_moves_uncovers_one_page_and_covers_the_next() {
    for name in REGISTERS {
        machine(|m| {
            let [first, second] = [(0, 0x11), (1, 0x77)].map(|(page, byte)| fill(m, PAGES[page], byte));
            m.set(0, name, PAGES[0] | 1).unwrap();
            let shown = read(m, PAGES[0]);
            m.set(0, name, PAGES[1] | 1).unwrap();
            assert!(read(m, PAGES[0]) == first, "{name:?}");
            assert!(read(m, PAGES[1]) == shown, "{name:?}");
            m.set(0, name, 0).unwrap();
            assert!(read(m, PAGES[1]) == second, "{name:?}");
        });
    }
}

#[test]
fn a_page_that_is_off_and_on_again_keeps_what_it_held() {
    machine(|m| {
        m.enable_synic(0, SINT, 20);
        m.partition.post_message(&m.host, 0, SINT, hv_tlfs::synic::MessageType(1), 9, b"kept").unwrap();
        m.partition.signal_event(&m.host, 0, SINT, 77).unwrap();
        for name in [Name::SIMP, Name::SIEFP] {
            let on = m.get(0, name).unwrap();
            m.set(0, name, 0).unwrap();
            m.set(0, name, on).unwrap();
        }
        assert_eq!(m.slot(0, SINT).payload[..4], *b"kept");
        assert!(m.event_flag(0, SINT, 77));
        // What a guest writes to the assist page is the page's, too.
        m.set(0, Name::VP_ASSIST_PAGE, PAGES[0] | 1).unwrap();
        let bytes = fill(m, PAGES[0], 0x3c);
        m.set(0, Name::VP_ASSIST_PAGE, 0).unwrap();
        assert!(read(m, PAGES[0]) == vec![0; SIZE]);
        m.set(0, Name::VP_ASSIST_PAGE, PAGES[1] | 1).unwrap();
        assert!(read(m, PAGES[1]) == bytes);
    });
}

#[test]
fn the_clock_page_is_the_hypervisors_each_time_it_is_enabled() {
    machine(|m| {
        for page in [0, 0, 1] {
            fill(m, PAGES[page], 0xff);
            m.set(0, Name::REFERENCE_TSC, PAGES[page] | 1).unwrap();
            let shown = read(m, PAGES[page]);
            assert!(shown[..4] != [0; 4] && shown[8..16] != [0; 8]);
            assert!(shown[4..8].iter().chain(&shown[RESERVED..]).all(|byte| *byte == 0));
            // Whatever the guest writes is gone when it is enabled again.
            fill(m, PAGES[page], 0xee);
            m.set(0, Name::REFERENCE_TSC, 0).unwrap();
        }
    });
}

#[test]
fn a_vp_that_starts_anew_has_empty_overlays_and_uncovers_its_pages() {
    machine(|m| {
        let page = m.message_page(1);
        let bytes = fill(m, page, 0x42);
        m.enable_synic(1, SINT, 20);
        m.partition.post_message(&m.host, 1, SINT, hv_tlfs::synic::MessageType(1), 9, b"gone").unwrap();
        m.offline(1);
        assert_eq!(m.slot(1, SINT).payload[..4], *b"gone", "a VP that is off keeps its SynIC");
        m.online(1);
        assert!(read(m, page) == bytes);
        m.enable_synic(1, SINT, 20);
        assert!(read(m, page) == vec![0; SIZE]);
    });
}

#[test]
fn two_vps_that_name_one_page_leave_it_as_it_was() {
    machine(|m| {
        let bytes = fill(m, PAGES[0], 0x5a);
        for vp in 0..2 {
            m.set(vp, Name::SIMP, PAGES[0] | 1).unwrap();
            m.set(vp, Name::SCONTROL, 1).unwrap();
            let kind = hv_tlfs::synic::MessageType(1);
            m.partition.post_message(&m.host, vp, SINT, kind, 0, &[vp as u8 + 1]).unwrap();
        }
        let sender = |m: &TestMachine<'_>| read(m, PAGES[0])[usize::from(SINT) * 256 + 16];
        assert_eq!(sender(m), 1, "the first covers the second");
        m.set(0, Name::SIMP, 0).unwrap();
        assert_eq!(sender(m), 2, "the second becomes visible");
        m.set(1, Name::SIMP, 0).unwrap();
        assert!(read(m, PAGES[0]) == bytes);
    });
}

/// What the guest's memory is to look like: memory and overlays apart, as the TLFS describes them.
struct Model {
    memory: Vec<Page>,
    overlays: Vec<Overlay>,
}

#[derive(Clone)]
struct Overlay {
    contents: Page,
    page: Option<usize>,
    shown: bool,
}

const EMPTY: Overlay = Overlay { contents: Vec::new(), page: None, shown: false };
/// The place of the reference TSC page among the overlays.
const TIME: usize = 3 * VPS;

impl Model {
    fn new() -> Self {
        let overlay = Overlay { contents: vec![0; SIZE], ..EMPTY };
        Self { memory: vec![vec![0; SIZE]; PAGES.len()], overlays: vec![overlay; TIME + 1] }
    }

    fn set(&mut self, overlay: usize, page: Option<usize>) {
        let before = self.overlays[overlay].page;
        let was_shown = self.overlays[overlay].shown;
        if overlay == TIME && !(was_shown && before == page) {
            self.overlays[TIME].contents = vec![0; SIZE];
        }
        self.overlays[overlay].page = page;
        if before == page {
            return;
        }
        self.overlays[overlay].shown = false;
        if was_shown && let Some(next) = self.overlays.iter_mut().find(|o| o.page == before) {
            next.shown = true;
        }
        let free = self.overlays.iter().all(|o| !(o.shown && o.page == page));
        self.overlays[overlay].shown = free && page.is_some_and(|page| page < PAGES.len() - 1);
    }

    fn reset(&mut self, vp: usize) {
        for overlay in 3 * vp..3 * vp + 3 {
            self.set(overlay, None);
            self.overlays[overlay].contents.fill(0);
        }
    }

    /// Returns what the guest sees at a page, and whether that is the reference TSC page.
    fn seen(&mut self, page: usize) -> (&mut Page, bool) {
        match self.overlays.iter().position(|o| o.shown && o.page == Some(page)) {
            Some(overlay) => (&mut self.overlays[overlay].contents, overlay == TIME),
            None => (&mut self.memory[page], false),
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Set { overlay: usize, page: Option<usize> },
    Write { page: usize, at: usize, byte: u8 },
    Signal { vp: usize, flag: u16 },
    Restart { vp: usize },
    SaveAndRestore,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..=TIME, prop::option::weighted(0.7, 0..PAGES.len()))
            .prop_map(|(overlay, page)| Step::Set { overlay, page }),
        3 => (0..PAGES.len() - 1, 0..SIZE, any::<u8>()).prop_map(|(page, at, byte)| Step::Write { page, at, byte }),
        2 => (0..VPS, 0..2048u16).prop_map(|(vp, flag)| Step::Signal { vp, flag }),
        1 => (0..VPS).prop_map(|vp| Step::Restart { vp }),
        1 => Just(Step::SaveAndRestore),
    ]
}

fn enable(m: &TestMachine<'_>, vp: usize) {
    m.set(vp, Name::sint(SINT), 20).unwrap();
    m.set(vp, Name::SCONTROL, 1).unwrap();
}

fn apply(m: &TestMachine<'_>, model: &mut Model, step: &Step) {
    match *step {
        Step::Set { overlay, page } => {
            let name = if overlay == TIME { Name::REFERENCE_TSC } else { REGISTERS[overlay % 3] };
            let value = page.map_or(0, |page| PAGES[page] | 1);
            m.set(if overlay == TIME { 0 } else { overlay / 3 }, name, value).unwrap();
            model.set(overlay, page);
        }
        Step::Write { page, at, byte } => {
            m.host.memory().write(PAGES[page] + at as u64, &[byte]).unwrap();
            model.seen(page).0[at] = byte;
        }
        Step::Signal { vp, flag } => {
            let overlay = &mut model.overlays[3 * vp + 1];
            let signalled = m.partition.signal_event(&m.host, vp, SINT, flag);
            assert_eq!(signalled.is_ok(), overlay.page.is_some());
            if overlay.page.is_some() {
                overlay.contents[usize::from(SINT) * 256 + usize::from(flag / 8)] |= 1 << (flag % 8);
            }
        }
        Step::Restart { vp } => {
            m.offline(vp);
            m.online(vp);
            enable(m, vp);
            model.reset(vp);
        }
        Step::SaveAndRestore => {
            let mut image = Vec::new();
            m.partition.save(&m.host, &mut |bytes| image.extend_from_slice(bytes)).unwrap();
            m.partition.restore(&m.host, &image).unwrap();
        }
    }
}

fn check(m: &TestMachine<'_>, model: &mut Model) {
    for (page, &gpa) in PAGES[..PAGES.len() - 1].iter().enumerate() {
        let (seen, is_time) = model.seen(page);
        let from = if is_time { RESERVED } else { 0 };
        let found = read(m, gpa);
        if is_time {
            // What the hypervisor keeps there.
            seen[..RESERVED].copy_from_slice(&found[..RESERVED]);
        }
        let wrong = (from..SIZE).find(|&at| found[at] != seen[at]);
        assert_eq!(wrong, None, "page {page}, of the clock: {is_time}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_guest_sees_memory_and_overlays_as_the_tlfs_has_them(steps in prop::collection::vec(step(), 1..60)) {
        run(Config::new(62_500_000), VPS, &[], |m| {
            let mut model = Model::new();
            for (page, &gpa) in PAGES[..PAGES.len() - 1].iter().enumerate() {
                model.memory[page] = fill(m, gpa, 0x10 << page);
            }
            (0..VPS).for_each(|vp| enable(m, vp));
            for step in &steps {
                apply(m, &mut model, step);
                check(m, &mut model);
            }
        });
    }
}

#[test]
fn vps_that_show_and_hide_overlays_on_one_page_at_a_time_leave_it_as_it_was() {
    machine(|m| {
        let bytes = fill(m, PAGES[0], 0x99);
        std::thread::scope(|scope| {
            for vp in 0..VPS {
                scope.spawn(move || {
                    for n in 0..60 {
                        let name = REGISTERS[n % 3];
                        m.set(vp, name, PAGES[0] | 1).unwrap();
                        let _ = m.partition.signal_event(&m.host, (vp + 1) % VPS, SINT, n as u16);
                        m.set(vp, name, if n % 2 == 0 { PAGES[1] | 1 } else { 0 }).unwrap();
                        m.set(vp, name, 0).unwrap();
                    }
                });
            }
        });
        assert!(read(m, PAGES[0]) == bytes);
        assert!(read(m, PAGES[1]) == vec![0; SIZE]);
    });
}

#[test]
fn an_image_whose_overlays_do_not_fit_together_is_refused() {
    machine(|m| {
        m.set(0, Name::SIMP, PAGES[0] | 1).unwrap();
        m.set(1, Name::SIMP, PAGES[0] | 1).unwrap();
        let mut image = Vec::new();
        m.partition.save(&m.host, &mut |bytes| image.extend_from_slice(bytes)).unwrap();
        let register = (PAGES[0] | 1).to_le_bytes();
        let places: Vec<usize> =
            image.windows(8).enumerate().filter(|(_, bytes)| *bytes == register).map(|(at, _)| at).collect();
        let [shown, hidden] = places[..] else { panic!("{places:?}") };
        assert_eq!((image[shown + 8], image[hidden + 8]), (1, 0));
        for (at, value, register) in [
            // Both, or none, or a page that is off, or one that is not memory.
            (hidden + 8, 1, None),
            (shown + 8, 0, None),
            (shown + 8, 1, Some(PAGES[0])),
            (shown + 8, 1, Some(PAGES[3] | 1)),
            (shown + 8, 2, None),
        ] {
            let mut bad = image.clone();
            bad[at] = value;
            if let Some(register) = register {
                bad[shown..shown + 8].copy_from_slice(&u64::to_le_bytes(register));
            }
            rehash(&mut bad);
            run_bare(Config::new(62_500_000), VPS, &[], |n| {
                let refused = Err(hv_host::RestoreError::Invalid("overlay page"));
                assert_eq!(n.partition.restore(&n.host, &bad), refused, "{at} {value}");
            });
        }
    });
}
