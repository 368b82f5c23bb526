//! The hint for a guest that has printed nothing for a long time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Conditions under which a guest counts as silent, and what is known about it.
#[derive(Debug, Clone)]
pub(crate) struct Silence {
    /// Time without output.
    pub(crate) after: Duration,
    /// The kernel's command line.
    pub(crate) command_line: String,
    /// The machine is described only by ACPI.
    pub(crate) acpi_alone: bool,
    /// Set once the guest speaks elsewhere than on its console, whose silence then means nothing.
    pub(crate) speaks: Arc<AtomicBool>,
}

impl Silence {
    /// Returns true if a guest without output for this time is to be explained.
    pub(crate) fn is_due(&self, without: Duration) -> bool {
        without >= self.after && !self.speaks.load(Ordering::Relaxed)
    }

    /// Returns the usual causes of silence, starting with those suggested by the command line. `printed` tells whether
    /// the guest has printed anything at all.
    pub(crate) fn hint(&self, printed: bool) -> String {
        let words: Vec<&str> = self.command_line.split_whitespace().collect();
        let mut hints = Vec::new();
        let consoles: Vec<&str> = words.iter().filter_map(|word| word.strip_prefix("console=")).collect();
        if !consoles.iter().any(|console| console.starts_with("ttyAMA")) {
            let given = consoles.last().map_or_else(String::new, |console| format!("console={console}: "));
            hints.push(format!("{given}the console of this machine is a PL011, console=ttyAMA0"));
        }
        if self.acpi_alone && words.contains(&"acpi=off") {
            hints.push(
                "acpi=off: the machine is described only by ACPI; remove it, or give --firmware dt"
                    .to_owned(),
            );
        }
        if let Some(word) = words.iter().find(|word| matches!(**word, "quiet" | "loglevel=0" | "loglevel=1"))
        {
            hints.push(format!("{word}: the kernel prints only severe errors"));
        }
        if !words.iter().any(|word| word.starts_with("earlycon")) {
            hints.push("earlycon=pl011,0x9000000 shows output before the console driver is up".to_owned());
        }
        if !printed {
            hints.push(
                "on a CPU without its page size the kernel stops silently; --cpu max supports all sizes"
                    .to_owned(),
            );
        }
        if hints.is_empty() {
            hints.push("it may be waiting; --trace and hv trace show what it did last".to_owned());
        }
        let what = if printed { "nothing more" } else { "nothing" };
        format!(
            "The guest has printed {what} for {} s. Usual causes:\n  {}",
            self.after.as_secs(),
            hints.join("\n  ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn silence(command_line: &str, acpi_alone: bool) -> Silence {
        Silence {
            after: Duration::from_secs(20),
            command_line: command_line.to_owned(),
            acpi_alone,
            speaks: Arc::default(),
        }
    }

    fn hint(command_line: &str, acpi_alone: bool, printed: bool) -> String {
        silence(command_line, acpi_alone).hint(printed)
    }

    #[test]
    fn a_guest_that_speaks_elsewhere_is_not_explained() {
        let silence = silence("", false);
        assert!(!silence.is_due(Duration::from_secs(19)));
        assert!(silence.is_due(Duration::from_secs(20)));
        silence.speaks.store(true, Ordering::Relaxed);
        assert!(!silence.is_due(Duration::from_secs(20)));
    }

    #[test]
    fn the_command_line_tells_what_is_wrong() {
        let serial = hint("console=ttyS0 panic=-1", true, false);
        assert!(serial.starts_with("The guest has printed nothing for 20 s."), "{serial}");
        assert!(
            serial.contains("\n  console=ttyS0: the console of this machine is a PL011, console=ttyAMA0"),
            "{serial}"
        );
        assert!(serial.contains("earlycon=pl011") && serial.contains("page size"), "{serial}");
        let good = "console=ttyAMA0 earlycon=pl011,0x9000000";
        assert!(
            hint(&format!("{good} acpi=off"), true, true)
                .contains("\n  acpi=off: the machine is described only by ACPI")
        );
        assert!(!hint(&format!("{good} acpi=off"), false, true).contains("acpi=off"));
        assert!(hint(&format!("{good} quiet"), true, true).contains("\n  quiet: "));
    }

    #[test]
    fn a_guest_with_nothing_wrong_is_not_blamed() {
        let text = hint("console=ttyAMA0 earlycon=pl011,0x9000000", true, true);
        assert!(
            text.contains("nothing more") && text.lines().count() == 2 && text.contains("--trace"),
            "{text}"
        );
    }
}
