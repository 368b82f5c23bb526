//! Composes exits from their records, from the exit to the return.

use hv_trace::{Record, What};

use super::{decode, words};

/// A finished exit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Exit {
    /// Its first record.
    pub(super) began: Began,
    /// Time of its end.
    pub(super) end: u64,
    /// Its cause: what the hardware trapped.
    pub(super) cause: &'static str,
    /// Its subject; the cause if nothing says more.
    pub(super) name: String,
}

/// Time and place of the start of an exit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Began {
    pub(super) vp: u32,
    pub(super) time: u64,
    pub(super) syndrome: u64,
    pub(super) pc: u64,
    pub(super) address: u64,
}

/// The exits in progress.
#[derive(Debug, Default)]
pub(super) struct Exits {
    open: Vec<(Exit, bool)>,
}

impl Exits {
    /// Takes the next record, and returns the exit that it ends.
    ///
    /// An exit without an end (the VP was switched off, the machine ended) ends with the VP's next action, if there is
    /// one.
    pub(super) fn feed(&mut self, record: &Record) -> Option<Exit> {
        let place = self.open.iter().position(|(exit, _)| exit.began.vp == record.vp);
        match (record.what, place) {
            (What::Exit { .. }, _) => {
                let ended = place.map(|place| self.end(place, record.time));
                self.open.extend(begin(record).map(|exit| (exit, false)));
                ended
            }
            (What::Enter {} | What::VpOffline { .. } | What::VpOnline { .. }, Some(place)) => {
                Some(self.end(place, record.time))
            }
            (ref what, Some(place)) => {
                let (exit, named) = &mut self.open[place];
                if let Some(name) = (!*named).then(|| decode::names_exit(what)).flatten() {
                    (exit.name, *named) = (name, true);
                }
                None
            }
            (_, None) => None,
        }
    }

    fn end(&mut self, place: usize, time: u64) -> Exit {
        let (exit, _) = self.open.swap_remove(place);
        Exit { end: time, ..exit }
    }

    /// Ends the exits in progress, at the end of the trace.
    pub(super) fn finish(self, time: u64) -> impl Iterator<Item = Exit> {
        self.open.into_iter().map(move |(exit, _)| Exit { end: time.max(exit.began.time), ..exit })
    }
}

fn begin(record: &Record) -> Option<Exit> {
    let What::Exit { trap, syndrome, pc, address, .. } = record.what else { return None };
    let cause = words::trap(trap);
    let began = Began { vp: record.vp, time: record.time, syndrome, pc, address };
    Some(Exit { began, end: record.time, cause, name: cause.to_owned() })
}

#[cfg(test)]
mod tests {
    use hv_trace::Trap;

    use super::*;
    use crate::trace::samples::*;

    #[test]
    fn an_exit_lasts_until_its_vp_goes_back() {
        let mut exits = Exits::default();
        assert_eq!(exits.feed(&exit(0, 10, Trap::Hvc)), None);
        assert_eq!(exits.feed(&exit(1, 20, Trap::Interrupt)), None);
        assert_eq!(exits.feed(&hypercall(0, 25, 0x5c)), None);
        let over = exits.feed(&enter(1, 30)).unwrap();
        assert_eq!((over.began.vp, over.began.time, over.end, &*over.name), (1, 20, 30, "interrupt"));
        let over = exits.feed(&enter(0, 40)).unwrap();
        assert_eq!((over.began.time, over.end, over.cause), (10, 40, "hvc #1"));
        assert_eq!(over.name, "HVCALL_POST_MESSAGE");
        assert_eq!(exits.finish(50).count(), 0);
    }

    #[test]
    fn the_first_that_says_more_names_it() {
        let mut exits = Exits::default();
        exits.feed(&exit(0, 1, Trap::Interrupt));
        exits.feed(&record(0, 2, What::OwnInterrupt { intid: 26 }));
        exits.feed(&record(0, 3, What::Forwarded { intid: 27 }));
        let over = exits.feed(&enter(0, 4)).unwrap();
        assert_eq!(over.name, "interrupt 26 (deadline)");
    }

    #[test]
    fn a_vp_that_goes_off_ends_its_exit() {
        let mut exits = Exits::default();
        exits.feed(&exit(1, 1, Trap::Smccc));
        assert_eq!(exits.feed(&record(1, 5, What::VpOffline { target: 1 })).unwrap().end, 5);
        assert_eq!(exits.feed(&record(1, 9, What::VpOnline { target: 1 })), None);
        exits.feed(&exit(1, 10, Trap::Smccc));
        let last: Vec<_> = exits.finish(12).collect();
        assert_eq!((last.len(), last[0].end), (1, 12));
    }
}
