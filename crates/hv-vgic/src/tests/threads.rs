//! VPs that run at the same time: no interrupt is lost, and no VP waits forever.

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::vec::Vec;

use super::{SGI_FRAME, vps};
use crate::testing::{SPURIOUS, VirtualCpu};
use crate::{Access, Cpu, Gic, ListRegisters as _, Physical, RegisterFrame, SgiRegister, hcr};

const VPS: usize = 4;
const ROUNDS: u32 = 3000;
const SPI: u32 = 40;

struct Shared<'a> {
    gic: Gic<'a>,
    kicks: [AtomicBool; VPS],
    /// How often each SGI was sent to each VP, the sending included that may not be done yet; then the SPI.
    sent: [[AtomicU32; 16]; VPS],
    sent_spi: AtomicU32,
    /// What had been sent when each was last acknowledged.
    seen: [[AtomicU32; 16]; VPS],
    seen_spi: AtomicU32,
    working: AtomicU32,
}

struct Here<'s, 'a> {
    shared: &'s Shared<'a>,
    vp: usize,
    cpu: VirtualCpu,
}

impl Cpu for Here<'_, '_> {
    type Lists = VirtualCpu;
    type Physical = Self;

    fn vp(&self) -> usize {
        self.vp
    }
    fn lists(&self) -> &VirtualCpu {
        &self.cpu
    }
    fn physical(&self) -> &Self {
        self
    }
}

impl Physical for Here<'_, '_> {
    fn set_enabled(&self, _: usize, _: u32, _: bool) {}
    fn set_edge(&self, _: usize, _: u32, _: bool) {}
    fn set_pending(&self, _: usize, _: u32, _: bool) {}
    fn is_pending(&self, _: usize, _: u32) -> bool {
        false
    }
    fn set_active(&self, _: usize, _: u32) {}
    fn route(&self, _: u32, _: usize) {}
    fn deactivate(&self, _: u32) {}
    fn kick(&self, vp: usize) {
        self.shared.kicks[vp].store(true, Ordering::Release);
    }
    fn relax(&self) {
        std::thread::yield_now();
    }
}

impl Here<'_, '_> {
    fn write(&self, frame: RegisterFrame, offset: u32, value: u32) {
        let access = Access { frame, offset, size: 4 };
        self.shared.gic.write(self, access, value.into()).unwrap();
    }

    fn read(&self, frame: RegisterFrame, offset: u32) -> u32 {
        let access = Access { frame, offset, size: 4 };
        self.shared.gic.read(self, access).unwrap() as u32
    }

    /// Takes kicks, maintenance interrupts and virtual interrupts.
    fn run(&self) {
        while self.shared.kicks[self.vp].swap(false, Ordering::Acquire) || self.cpu.maintenance() {
            self.shared.gic.sync(self);
        }
        self.cpu.check();
        let intid = self.cpu.acknowledge();
        if intid == SPURIOUS {
            return;
        }
        let (sent, seen) = if intid == SPI {
            (&self.shared.sent_spi, &self.shared.seen_spi)
        } else {
            (&self.shared.sent[self.vp][intid as usize], &self.shared.seen[self.vp][intid as usize])
        };
        seen.fetch_max(sent.load(Ordering::SeqCst), Ordering::SeqCst);
        self.cpu.end(intid);
    }

    fn work(&self, mut random: u32) {
        let Shared { gic, sent, sent_spi, .. } = self.shared;
        for _ in 0..ROUNDS {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let (to, intid) = ((random >> 8) as usize % VPS, random >> 16 & 0xf);
            let other = RegisterFrame::Redistributor(to);
            match random >> 24 & 0xf {
                0..=5 => {
                    sent[to][intid as usize].fetch_add(1, Ordering::SeqCst);
                    let value = u64::from(intid) << 24 | 1 << to;
                    gic.sgi(self, SgiRegister::Sgi1, value);
                }
                6..=7 => {
                    sent_spi.fetch_add(1, Ordering::SeqCst);
                    gic.assert(self, 0, SPI);
                }
                8 => self.write(RegisterFrame::Distributor, 0x6000 + SPI * 8, to as u32),
                9 => {
                    self.write(other, SGI_FRAME + 0x180, 1 << intid);
                    self.write(other, SGI_FRAME + 0x100, 1 << intid);
                }
                10 => self.write(other, SGI_FRAME + 0x400 + (intid & !3), random),
                11 => {
                    self.read(other, SGI_FRAME + 0x300);
                }
                12 => {
                    self.read(RegisterFrame::Distributor, 0x204);
                }
                _ => {}
            }
            self.run();
        }
        self.shared.working.fetch_sub(1, Ordering::SeqCst);
        // The others may still wait for this VP, or send to it.
        while self.shared.working.load(Ordering::SeqCst) != 0 {
            self.run();
            std::thread::yield_now();
        }
    }
}

#[test]
fn nothing_is_lost_between_vps_that_run_at_the_same_time() {
    let vps = vps(VPS);
    let shared = Shared {
        gic: Gic::new(&vps, &[]),
        kicks: Default::default(),
        sent: Default::default(),
        sent_spi: AtomicU32::new(0),
        seen: Default::default(),
        seen_spi: AtomicU32::new(0),
        working: AtomicU32::new(VPS as u32),
    };
    let here: Vec<Here<'_, '_>> =
        (0..VPS).map(|vp| Here { shared: &shared, vp, cpu: VirtualCpu::new(1 + vp) }).collect();
    here[0].write(RegisterFrame::Distributor, 0, 2);
    here[0].write(RegisterFrame::Distributor, 0x84, u32::MAX);
    here[0].write(RegisterFrame::Distributor, 0x104, 1 << (SPI - 32));
    for each in &here {
        let own = RegisterFrame::Redistributor(each.vp);
        each.write(own, SGI_FRAME + 0x80, u32::MAX);
        each.write(own, SGI_FRAME + 0x100, 0xffff);
    }
    let here: Vec<Here<'_, '_>> = std::thread::scope(|scope| {
        let threads: Vec<_> = here
            .into_iter()
            .map(|each| {
                scope.spawn(move || {
                    each.work(each.vp as u32 * 77 + 1);
                    each
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for _ in 0..1000 {
        here.iter().for_each(Here::run);
    }
    for each in &here {
        let vp = each.vp;
        for intid in 0..16 {
            let (sent, seen) = (&shared.sent[vp][intid], &shared.seen[vp][intid]);
            assert_eq!(sent.load(Ordering::SeqCst), seen.load(Ordering::SeqCst), "SGI {intid} of VP {vp}");
        }
        assert_eq!(each.cpu.control() & !hcr::TDIR, hcr::EN);
    }
    assert_eq!(shared.sent_spi.load(Ordering::SeqCst), shared.seen_spi.load(Ordering::SeqCst), "the SPI");
}
