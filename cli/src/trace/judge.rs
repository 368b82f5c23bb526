//! The strict mode over a trace: the judge of a running partition, fed with records.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::io;

use hv_partition::record::Replay;
use hv_partition::strict::RULES;
use hv_trace::What;
use hv_wire::platform::MAX_VPS;
use serde::Serialize;

use super::file::Reader;

/// The judge's verdict on a trace.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Verdict {
    /// Number of rules that were checked.
    judged: usize,
    /// Broken rules.
    findings: Vec<Broken>,
    /// Rules for which records are not sufficient.
    not_judged: Vec<NotJudged>,
    /// Gaps in the records: later findings are uncertain.
    gaps: Vec<Gap>,
    /// Number of gaps that are not listed.
    more_gaps: u64,
}

/// A rule that was broken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Broken {
    rule: &'static str,
    severity: String,
    /// Number of times.
    count: u64,
    /// Number of these times with gaps before them.
    uncertain: u64,
    /// How often the judge found it during the run, if it was active.
    during_the_run: u64,
    /// Time, VP and value of the first time.
    first_ns: u64,
    vp: usize,
    value: String,
    asks: &'static str,
    source: &'static str,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct NotJudged {
    rule: &'static str,
    why: &'static str,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Gap {
    time_ns: u64,
    vp: Option<u32>,
    what: String,
}

/// Maximum number of gaps that are listed.
const MOST_GAPS: usize = 100;

/// Judges a trace.
pub(super) fn judge(mut reader: Reader<impl io::Read>) -> anyhow::Result<Verdict> {
    let run = reader.run().clone();
    let mut replay = Replay::<MAX_VPS>::new(run.ram_base, run.ram_size);
    let mut verdict = Verdict::default();
    let mut broken = BTreeMap::<usize, Broken>::new();
    let mut during = BTreeMap::<usize, u64>::new();
    let mut told = BTreeMap::<usize, u64>::new();
    for record in reader.by_ref() {
        let record = record?;
        let time = run.nanoseconds(record.time);
        let missing = match record.what {
            What::Lost { count } => {
                let told = told.entry(record.vp as usize).or_default();
                *told = told.saturating_add(count);
                Some(format!("{count} records dropped, the ring was full"))
            }
            What::Restored {} => Some("the partition was restored: its state is not in the trace".to_owned()),
            What::Unknown { kind, .. } => Some(format!("a record of unknown kind {kind}")),
            _ => None,
        };
        if let Some(what) = missing {
            verdict.gap(time, Some(record.vp), what);
        }
        if let What::Finding { rule, .. } = record.what {
            *during.entry(rule.into()).or_default() += 1;
        }
        let uncertain = !verdict.gaps.is_empty();
        replay.record(&record, &mut |finding| {
            let first = || Broken {
                rule: finding.rule.id,
                severity: finding.rule.severity.to_string(),
                count: 0,
                uncertain: 0,
                during_the_run: 0,
                first_ns: time,
                vp: finding.vp,
                value: format!("{:#x}", finding.value),
                asks: finding.rule.asks,
                source: finding.rule.source,
            };
            let broken = broken.entry(finding.rule.number()).or_insert_with(first);
            broken.count += 1;
            broken.uncertain += u64::from(uncertain);
        });
    }
    let run = reader.run();
    for (vp, &dropped) in run.dropped.iter().enumerate() {
        // A ring tells what it dropped with its next record, if there is one.
        let last = dropped.saturating_sub(told.get(&vp).copied().unwrap_or_default());
        if last != 0 {
            verdict.gap(u64::MAX, None, format!("{last} records of VP {vp} dropped at the end"));
        }
    }
    if run.all_left_out() != 0 {
        verdict.gap(u64::MAX, None, format!("{} records at the end are not in the file", run.all_left_out()));
    }
    verdict.not_judged = replay.not_judged().map(|(rule, why)| NotJudged { rule: rule.id, why }).collect();
    verdict.judged = RULES.len() - verdict.not_judged.len();
    for (number, mut broken) in broken {
        broken.during_the_run = during.get(&number).copied().unwrap_or_default();
        verdict.findings.push(broken);
    }
    Ok(verdict)
}

impl Verdict {
    fn gap(&mut self, time_ns: u64, vp: Option<u32>, what: String) {
        if self.gaps.len() < MOST_GAPS {
            self.gaps.push(Gap { time_ns, vp, what });
        } else {
            self.more_gaps += 1;
        }
    }
}

fn seconds(ns: u64) -> String {
    format!("{}.{:09} s", ns / 1_000_000_000, ns % 1_000_000_000)
}

impl Display for Verdict {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for broken in &self.findings {
            let Broken { rule, severity, count, vp, value, asks, source, .. } = broken;
            let times = if *count == 1 { "once".to_owned() } else { format!("{count} times") };
            writeln!(
                f,
                "{severity:<8} {rule}: {times}, first at {} on VP {vp}, value {value}",
                seconds(broken.first_ns)
            )?;
            writeln!(f, "         {asks} ({source})")?;
            if broken.uncertain != 0 {
                writeln!(f, "         uncertain {} times: earlier records are missing", broken.uncertain)?;
            }
        }
        if self.findings.is_empty() {
            writeln!(f, "no rule was broken")?;
        }
        writeln!(f, "{} of {} rules judged", self.judged, RULES.len())?;
        for NotJudged { rule, why } in &self.not_judged {
            writeln!(f, "not judged: {rule}: {why}")?;
        }
        for Gap { time_ns, vp, what } in &self.gaps {
            match vp {
                Some(vp) => writeln!(f, "missing at {} on VP {vp}: {what}", seconds(*time_ns))?,
                None => writeln!(f, "missing: {what}")?,
            }
        }
        if self.more_gaps != 0 {
            writeln!(f, "missing in {} more places", self.more_gaps)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use hv_trace::Record;

    use super::*;
    use crate::trace::convert;
    use crate::trace::file::Packets;
    use crate::trace::perfetto::Run;
    use crate::trace::samples::*;

    fn judged(run: Run, records: &[Record]) -> Verdict {
        let mut bytes = Vec::new();
        convert::write(&mut bytes, run, u64::MAX, records.iter().copied().map(Ok)).unwrap();
        judge(Reader::new(Packets::new(&*bytes)).unwrap()).unwrap()
    }

    fn with_memory() -> Run {
        Run { ram_base: 0x4000_0000, ram_size: 1 << 30, ..run() }
    }

    /// Bit 60 of the control word is reserved.
    fn reserved(time: u64) -> Record {
        let What::Hypercall { convention, retry, control, parameters, mut result } = call(1 << 60 | 0x5c)
        else {
            unreachable!()
        };
        result.0 = 3;
        record(1, time, What::Hypercall { convention, retry, control, parameters, result })
    }

    #[test]
    fn a_broken_rule_is_named_with_its_first_time() {
        let found = judged(with_memory(), &[reserved(2000), reserved(3000)]);
        let broken = found.findings.iter().find(|broken| broken.rule.contains("reserved")).unwrap();
        assert_eq!((broken.count, broken.first_ns, broken.vp, broken.uncertain), (2, 1000, 1, 0));
        assert_eq!((found.judged, found.gaps.len()), (RULES.len(), 0));
    }

    #[test]
    fn what_comes_after_a_gap_is_uncertain() {
        let lost = record(0, 2500, What::Lost { count: 7 });
        let found = judged(with_memory(), &[reserved(2000), lost, reserved(3000)]);
        let broken = found.findings.iter().find(|broken| broken.rule.contains("reserved")).unwrap();
        assert_eq!((broken.count, broken.uncertain), (2, 1));
        assert!(found.to_string().contains("missing at 0.000001500 s on VP 0: 7 records dropped"), "{found}");
    }

    #[test]
    fn what_a_vp_dropped_at_the_end_is_told_whatever_others_did() {
        let lost = record(0, 2500, What::Lost { count: 7 });
        let found = judged(Run { dropped: vec![7, 5], ..with_memory() }, &[lost]);
        let gaps: Vec<&str> = found.gaps.iter().map(|gap| &*gap.what).collect();
        assert_eq!(gaps, ["7 records dropped, the ring was full", "5 records of VP 1 dropped at the end"]);
    }

    #[test]
    fn rules_that_need_more_are_named() {
        let found = judged(run(), &[]);
        assert_eq!(found.judged + found.not_judged.len(), RULES.len());
        assert!(found.not_judged.iter().any(|rule| rule.why.contains("memory")), "{found}");
        assert!(found.to_string().starts_with("no rule was broken\n"));
    }
}
