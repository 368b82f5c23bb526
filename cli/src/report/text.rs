//! The report for users.

use std::fmt::{self, Display, Formatter};

use super::findings::Finding;
use super::places::IN_MODULE;
use super::{Accel, Checked, Crash, PlanRule, Summary, Synic, fired};
use crate::setup::size::size;
use crate::ui::{one_line, printable};

/// Maximum number of warnings shown; the JSON has all.
const WARNINGS: usize = 24;
/// Maximum number of lines shown of a crash text; the JSON has all.
const CRASH_LINES: usize = 32;

impl Display for Summary {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.write_run(f)?;
        self.write_calls(f)?;
        if !self.synic.is_empty() {
            writeln!(f, "\n  SynIC")?;
        }
        for vp in &self.synic {
            writeln!(f, "    {vp}")?;
        }
        if let Some(crash) = &self.crash {
            crash.write(f)?;
        }
        self.write_rules(f)?;
        self.write_warnings(f)?;
        self.timings.as_ref().map_or(Ok(()), |timings| timings.fmt(f))
    }
}

impl Summary {
    /// Writes the end of the run, and what the guest and its devices are.
    fn write_run(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let time = self.run_ms.map_or_else(String::new, |ms| format!(" after {ms} ms"));
        writeln!(f, "\nreport{}", self.tag.as_ref().map_or_else(String::new, |tag| format!(" {tag}")))?;
        writeln!(f, "  exit         {}{time} ({})", self.exit, one_line(&self.explanation))?;
        if self.start != "boot" {
            writeln!(f, "  start        from a {} of the machine, booted before", self.start)?;
        }
        if self.about.accel == Accel::Kvm {
            writeln!(f, "  machine      over KVM")?;
        }
        writeln!(f, "  VPs          {}", self.vps)?;
        writeln!(f, "  detection    {}", self.detection)?;
        match &self.guest_os_id {
            Some(id) => writeln!(f, "  guest OS id  {} ({}, {} {})", id.value, id.vendor, id.os, id.version)?,
            None => writeln!(f, "  guest OS id  not set")?,
        }
        writeln!(f, "  VMBus        {}", self.vmbus.version.as_deref().unwrap_or("not connected"))?;
        for device in &self.devices {
            writeln!(f, "  device       {device}")?;
        }
        if let Some(Checked { checked, broken }) = self.rules {
            let broken = if broken == 0 { "none".to_owned() } else { broken.to_string() };
            writeln!(f, "  rules        {checked} checked, {broken} broken")?;
        }
        if let Some(trace) = &self.trace {
            let (records, dropped) = (trace.records, trace.dropped);
            writeln!(f, "  trace        {} ({records} records, {dropped} dropped)", one_line(&trace.file))?;
        }
        if self.console_dropped_bytes != 0 {
            let dropped = size(self.console_dropped_bytes);
            writeln!(f, "  console      {dropped} not shown, because it was not read in time")?;
        }
        Ok(())
    }

    /// Writes the tables of hypercalls and of VP registers.
    fn write_calls(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let named =
            |name: Option<&str>, number: u32| name.map_or_else(|| format!("{number:#x}"), str::to_owned);
        let calls: Vec<_> = self.hypercalls.iter().map(|call| (named(call.name, call.code), call)).collect();
        let registers: Vec<_> =
            self.registers.iter().map(|register| (named(register.name, register.number), register)).collect();
        let names = calls.iter().map(|(name, _)| name).chain(registers.iter().map(|(name, _)| name));
        let wide = names.map(String::len).max().unwrap_or(0);
        if !self.hypercalls.is_empty() {
            writeln!(f, "\n  {:wide$} {:>8} {:>8} {:>8}", "hypercall", "code", "count", "failed")?;
        }
        for (name, call) in &calls {
            writeln!(f, "  {name:wide$} {:>#8x} {:>8} {:>8}", call.code, call.count, call.failed)?;
        }
        if !self.registers.is_empty() {
            writeln!(f, "\n  {:wide$} {:>8} {:>8} {:>8}", "VP register", "number", "gets", "sets")?;
        }
        for (name, register) in &registers {
            let (gets, sets) = (register.gets, register.sets);
            writeln!(f, "  {name:wide$} {:>#8x} {gets:>8} {sets:>8}", register.number)?;
        }
        Ok(())
    }

    /// Writes the broken rules and the injected faults.
    fn write_rules(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if !self.findings.is_empty() {
            writeln!(f, "\n  broken rules")?;
        }
        for finding in &self.findings {
            writeln!(f, "    {finding}")?;
        }
        if !self.faults.is_empty() {
            writeln!(f, "\n  injected faults")?;
        }
        for PlanRule { rule, fired: count } in &self.faults {
            let said = fired(*count);
            writeln!(f, "    {rule}: {}", if *count == 0 { said.to_uppercase() } else { said })?;
        }
        Ok(())
    }

    /// Writes the first warnings, and the number of the others.
    fn write_warnings(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if !self.warnings.is_empty() {
            writeln!(f, "\n  warnings")?;
        }
        for warning in self.warnings.iter().take(WARNINGS) {
            writeln!(f, "    {}", one_line(warning))?;
        }
        if self.warnings.len() > WARNINGS {
            writeln!(f, "    and {} more, which --json shows", self.warnings.len() - WARNINGS)?;
        }
        Ok(())
    }
}

impl Crash {
    /// Writes the crash, with the end of its text.
    fn write(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n  crash reported by VP {} with control {}", self.vp, self.control)?;
        for (number, parameter) in self.parameters.iter().enumerate() {
            writeln!(f, "    P{number} {parameter}")?;
        }
        let lines: Vec<&str> = self.text.lines().collect();
        let hidden = lines.len().saturating_sub(CRASH_LINES);
        if hidden > 0 {
            writeln!(f, "    | ({hidden} lines before)")?;
        }
        for line in &lines[hidden..] {
            writeln!(f, "    | {}", printable(line))?;
        }
        Ok(())
    }
}

impl Display for Finding {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let module = if self.in_module { format!(" {IN_MODULE}") } else { String::new() };
        let place = format!("{}{module}", self.symbol.as_ref().unwrap_or(&self.pc));
        let times = if self.count == 1 { String::new() } else { format!(", {} times in total", self.count) };
        writeln!(f, "{} {}: {}", self.severity, self.rule, self.asks)?;
        writeln!(
            f,
            "      VP {}, PC {}, {} {}{times}",
            self.vp,
            one_line(&place),
            self.value_is,
            self.value
        )?;
        if !self.callers.is_empty() {
            let callers: Vec<String> = self.callers.iter().map(ToString::to_string).collect();
            writeln!(f, "      called from {}", one_line(&callers.join(", ")))?;
        }
        write!(f, "      {}", self.source)
    }
}

impl Display for Synic {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "VP {}: ", self.vp)?;
        if !self.started {
            return write!(f, "never started");
        }
        if !self.online {
            write!(f, "off, ")?;
        }
        write!(f, "SCONTROL {}, SIMP {}, SIEFP {}", self.control, self.message_page, self.event_flags_page)?;
        for sint in &self.sints {
            let masked = if sint.masked { ", masked" } else { "" };
            write!(f, ", SINT{} {} (INTID {}{masked})", sint.sint, sint.value, sint.intid)?;
        }
        Ok(())
    }
}
