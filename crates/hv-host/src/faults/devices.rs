//! Faults of the devices behind the connections: what a driver has to live with.
//!
//! The hypervisor knows no devices. A device is a number here, by which the embedder and the plan agree; for VMBus it
//! is the first word of the interface's GUID, and 0 for the bus itself.

use core::sync::atomic::Ordering;

use hv_tlfs::time::ReferenceTime;

use super::{Counted, Injector, Rule, What, When};

/// Time at which a device's request to its back end is started.
///
/// Exhaustive on purpose: an embedder has to perform every one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartFault {
    /// At once.
    Now,
    /// After this time.
    Late(ReferenceTime),
    /// After a later request of the device.
    After,
    /// Never.
    Never,
}

/// Failure of a device's request instead of its execution.
///
/// Exhaustive on purpose: an embedder has to perform every one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failing {
    /// The medium cannot be read or written there.
    Medium,
    /// A SCSI command ends like this.
    Scsi {
        /// Status of the port driver, without flags.
        srb: u8,
        /// Status of the target.
        scsi: u8,
        /// Sense key, code and qualifier.
        sense: Option<[u8; 3]>,
    },
}

/// Fate of a frame on its way through a network card.
///
/// Exhaustive on purpose: an embedder has to perform every one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameFault {
    /// It never arrives. The sender takes it for sent.
    Lost,
    /// It arrives twice.
    Twice,
    /// A byte of it changes, which this random number selects.
    Corrupt(u64),
    /// It arrives after the next one.
    Reorder,
}

/// Length of the header of an Ethernet frame (IEEE 802.3).
const ETHERNET: usize = 14;

/// Keeps the one frame that a fault holds back.
pub trait Late {
    /// Keeps a frame. Returns false if there is one already, or no room.
    fn keep(&mut self, frame: &[u8]) -> bool;

    /// Passes the kept frame to `out`, if there is one, and keeps it no longer.
    fn release(&mut self, out: impl FnOnce(&mut [u8]));
}

impl FrameFault {
    /// Passes a packet on through `out` as the fate of its frame says; the frame begins after `lead` bytes. `out`
    /// returns false if it has no room: then this returns false, the packet is as it was, and the caller passes it
    /// again later, with the same fate. A second copy, and a frame that was late, are lost if they find no room.
    #[inline]
    pub fn meet(
        fate: Option<Self>,
        packet: &mut [u8],
        lead: usize,
        late: &mut impl Late,
        mut out: impl FnMut(&mut [u8]) -> bool,
    ) -> bool {
        let passed = match fate {
            None => out(packet),
            Some(Self::Lost) => return true,
            Some(Self::Reorder) if late.keep(packet) => return true,
            Some(Self::Reorder) => out(packet),
            Some(Self::Twice) => {
                let passed = out(packet);
                if passed {
                    out(packet);
                }
                passed
            }
            Some(Self::Corrupt(random)) => {
                Self::corrupt(packet, lead, random);
                let passed = out(packet);
                if !passed {
                    Self::corrupt(packet, lead, random);
                }
                passed
            }
        };
        if passed {
            late.release(|late| {
                out(late);
            });
        }
        passed
    }

    /// Changes the byte of a frame that a random number selects, behind the header: the frame still goes where it was
    /// to go. One without such bytes stays as it is. A second call undoes the first.
    fn corrupt(packet: &mut [u8], lead: usize, random: u64) {
        let bytes = packet.get_mut(lead + ETHERNET..).unwrap_or_default();
        if let Some(at) = random.checked_rem(bytes.len() as u64) {
            bytes[at as usize] ^= 0x55;
        }
    }
}

/// Point at which a device is rescinded.
///
/// Exhaustive on purpose: an embedder asks about every point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RescindPoint {
    /// While the guest opens a channel of it.
    Open,
    /// When a packet of the guest was taken.
    Packet,
}

/// A part of a medium in bytes: the first one, and the first after the last.
pub type Extent = (u64, u64);

impl Injector {
    pub(super) fn start_of_request(&self) -> StartFault {
        self.rules().fold(StartFault::Now, |found, counted| match counted.rule.what {
            What::Start(start) if self.strikes(counted) && found == StartFault::Now => start,
            _ => found,
        })
    }

    pub(super) fn end_of_request(&self, begins: bool, extent: Option<Extent>) -> Option<Failing> {
        self.rules().fold(None, |found, counted| {
            let (meant, failing) = match counted.rule.what {
                What::Fail(failing) => (begins, failing),
                What::Medium(from, to) => {
                    (extent.is_some_and(|(first, end)| first < to && from < end), Failing::Medium)
                }
                _ => return found,
            };
            let strikes = meant && self.strikes(counted);
            found.or(strikes.then_some(failing))
        })
    }

    pub(super) fn takes_away(&self, device: u32, now: RescindPoint) -> bool {
        self.rules().fold(false, |found, counted| match counted.rule.what {
            What::Rescind(meant, point) if point == now && meant.is_none_or(|meant| meant == device) => {
                self.strikes(counted) || found
            }
            _ => found,
        })
    }

    pub(super) fn refuses_version(&self, device: u32, version: u32) -> bool {
        self.rules().fold(false, |found, counted| match counted.rule.what {
            What::Newest(meant, newest) if meant == device && version > newest => {
                self.strikes(counted) || found
            }
            _ => found,
        })
    }

    pub(super) fn fate_of_frame(&self, from_guest: bool) -> Option<FrameFault> {
        self.rules().fold(None, |found, counted| match counted.rule.what {
            What::Frame(way, frame) if way == from_guest => {
                let strikes = self.strikes(counted);
                found.or_else(|| {
                    strikes.then(|| match frame {
                        FrameFault::Corrupt(_) => FrameFault::Corrupt(self.random()),
                        frame => frame,
                    })
                })
            }
            _ => found,
        })
    }

    /// Returns the state of the link for a rule that takes it down in each of its periods, if it has changed since the
    /// last time.
    pub(super) fn link(&self, now: ReferenceTime, counted: Counted<'_>) -> Option<bool> {
        let Rule { what: What::Link(time), when: When::Period(period) } = *counted.rule else { return None };
        let up = now.ticks() % period.ticks() >= time.ticks();
        // It grows with each change.
        let state = (now.ticks() / period.ticks()).min(u64::MAX >> 2) + 1;
        let state = state << 1 | u64::from(up);
        if counted.count.fetch_max(state, Ordering::Relaxed) >= state {
            return None;
        }
        if !up {
            counted.fired.fetch_add(1, Ordering::Relaxed);
        }
        Some(up)
    }

    /// Returns true during the times of a rule in each of its periods, and counts the period.
    pub(super) fn within(&self, wanted: impl Fn(What) -> Option<ReferenceTime>) -> bool {
        let now = self.now.load(Ordering::Relaxed);
        self.rules().fold(false, |found, counted| {
            let Rule { what, when: When::Period(period) } = *counted.rule else { return found };
            let Some(time) = wanted(what) else { return found };
            let within = now % period.ticks() < time.ticks();
            // Only the first time in a period counts.
            let turn = (now / period.ticks()).saturating_add(1);
            if within && counted.count.fetch_max(turn, Ordering::Relaxed) < turn {
                counted.fired.fetch_add(1, Ordering::Relaxed);
            }
            within || found
        })
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::faults::{Faults as _, Plan, Timed};
    use std::vec::Vec;

    fn injector(text: &str) -> Injector {
        Injector::new(Plan::parse(text, &|_, _| None).unwrap())
    }

    #[test]
    fn frames_of_each_way_are_counted_on_their_own() {
        let plan = injector("sent=lost@2,received=twice@/3,sent=corrupt@3");
        let sent: Vec<_> = (0..4).map(|_| plan.frame(true)).collect();
        let corrupt = matches!(sent[..], [None, Some(FrameFault::Lost), Some(FrameFault::Corrupt(_)), None]);
        assert!(corrupt, "{sent:?}");
        let received: Vec<_> = (0..6).map(|_| plan.frame(false).is_some()).collect();
        assert_eq!(received, [false, false, true, false, false, true]);
        assert_eq!(plan.fired().collect::<Vec<_>>(), [1, 2, 1]);
    }

    #[test]
    fn the_link_goes_down_and_up_once_in_each_period() {
        let plan = injector("link=20ms@100ms");
        let mut changes = Vec::new();
        for ms in (0..260).step_by(5) {
            plan.tick(ReferenceTime(ms * 10_000), &mut |timed| {
                let Timed::Link(up) = timed else { panic!("{timed:?}") };
                changes.push((ms, up));
            });
        }
        assert_eq!(changes, [(0, false), (20, true), (100, false), (120, true), (200, false), (220, true)]);
        assert_eq!(plan.fired().collect::<Vec<_>>(), [3]);
    }

    #[derive(Default)]
    struct Kept(Option<([u8; 60], usize)>);

    impl Late for Kept {
        fn keep(&mut self, frame: &[u8]) -> bool {
            let free = self.0.is_none() && frame.len() <= 60;
            if free {
                let mut bytes = [0; 60];
                bytes[..frame.len()].copy_from_slice(frame);
                self.0 = Some((bytes, frame.len()));
            }
            free
        }

        fn release(&mut self, out: impl FnOnce(&mut [u8])) {
            if let Some((mut bytes, len)) = self.0.take() {
                out(&mut bytes[..len]);
            }
        }
    }

    /// Passes frames with these fates, and returns the first bytes of those that came, and whether they were intact.
    fn pass(fates: &[Option<FrameFault>]) -> [Option<(u8, bool)>; 8] {
        let (mut late, mut came, mut count) = (Kept::default(), [None; 8], 0);
        for (number, fate) in (1..).zip(fates) {
            let mut frame = [number; 60];
            let passed = FrameFault::meet(*fate, &mut frame, 0, &mut late, |frame| {
                came[count] = Some((frame[0], frame.iter().all(|byte| *byte == frame[0])));
                count += 1;
                true
            });
            assert!(passed);
        }
        came
    }

    #[test]
    fn each_fate_is_what_it_says() {
        use FrameFault::{Corrupt, Lost, Reorder, Twice};
        let some = |came: &[(u8, bool)]| {
            let mut all = [None; 8];
            all.iter_mut().zip(came).for_each(|(to, from)| *to = Some(*from));
            all
        };
        assert_eq!(pass(&[None, Some(Lost), None]), some(&[(1, true), (3, true)]));
        assert_eq!(pass(&[Some(Twice), None]), some(&[(1, true), (1, true), (2, true)]));
        assert_eq!(pass(&[Some(Reorder), None, None]), some(&[(2, true), (1, true), (3, true)]));
        assert_eq!(pass(&[Some(Reorder), Some(Reorder), None]), some(&[(2, true), (1, true), (3, true)]));
        assert_eq!(pass(&[Some(Reorder), Some(Lost), Some(Twice)]), some(&[(3, true), (3, true), (1, true)]));
        assert_eq!(pass(&[Some(Corrupt(5)), None]), some(&[(1, false), (2, true)]));
    }

    #[test]
    fn a_frame_that_found_no_room_is_passed_again_as_it_was() {
        for fate in [None, Some(FrameFault::Twice), Some(FrameFault::Corrupt(9))] {
            let (mut frame, mut late, mut outs) = ([7; 60], Kept::default(), 0);
            assert!(late.keep(&[1; 60]));
            let passed = FrameFault::meet(fate, &mut frame, 0, &mut late, |_| {
                outs += 1;
                false
            });
            assert!(!passed && outs == 1 && frame == [7; 60] && late.0.is_some(), "{fate:?}");
        }
    }

    #[test]
    fn a_corrupt_frame_differs_in_one_byte_behind_its_header() {
        let corrupt = |len: usize, lead: usize, random: u64| {
            let mut packet = [7; 72];
            FrameFault::corrupt(&mut packet[..len], lead, random);
            packet.iter().position(|byte| *byte != 7)
        };
        for (random, at) in [(0, 14), (45, 59), (46, 14), (u64::MAX, 14 + (u64::MAX % 46) as usize)] {
            assert_eq!(corrupt(60, 0, random), Some(at), "{random:#x}");
            assert_eq!(corrupt(72, 12, random), Some(12 + at), "{random:#x}");
        }
        for len in [0, 13, 14] {
            assert_eq!(corrupt(len, 0, 3), None);
        }
    }
}
