//! Each injected fault against this project's own drivers: `bare/drivers` uses a service, a controller and a card, each
//! wait with a limit, and prints each outcome. A driver ends with an error or continues; it never panics, hangs, or
//! takes wrong bytes for right ones, and memory comes back wherever the host has said that it may.

use std::fs;

use anyhow::ensure;

use super::context::Context;
use super::devices::faults::fired;
use super::drivers::{DISK, bytes};
use super::programs::program;
use super::runner::Step;
use hv_setup::exit::Exit;

/// Milliseconds after which the guest gives up a wait, in a row that says so.
const LIMIT: u32 = 3000;
/// Those of a row that does not, which no machine reaches, however slow: the run's time-out ends before.
const NO_LIMIT: u32 = 2_000_000;

/// A plan, how the lines begin that the guest prints with it, and the rest that it has in common with others.
struct Row {
    name: &'static str,
    plan: &'static str,
    says: &'static [&'static str],
    rest: &'static [&'static str],
    /// The guest's time is counted in its instructions, for a row whose outcome depends on time. It has no card then.
    deterministic: bool,
}

const HEART: &str = "heartbeat: Ok((3, 0)), rescinded false";
const READS: &str = "reads: 16 right, 0 wrong, 0 failed, 0 early";
const FLIGHT: &str = "reads in flight: 16 right, 0 wrong, 0 failed, 0 early";
const WRITE: &str = "write Ok(()), flush Ok(())";
const CLOSED: &str = "controller closed, 0 in flight";
const LEFT: &str = "disconnect: Ok(())";
const FREED: &str = "0 pages kept";
/// The service and the disk work, and all memory comes back.
const ALL_BUT_CARD: &[&str] = &[HEART, READS, FLIGHT, WRITE, CLOSED, LEFT, FREED];
const FRAMES: &str = "frames: Ok(()), 16 sent, 16 answers, 0 others, 0 errors, in order";
const CARD: &str = "card closed";
/// The service and the card work, and all memory comes back.
const ALL_BUT_DISK: &[&str] = &[HEART, FRAMES, CARD, LEFT, FREED];
const ALL_BUT_FLIGHT: &[&str] = &[HEART, READS, WRITE, CLOSED, FRAMES, CARD, LEFT, FREED];
const WITHOUT_CARD_BUT_FLIGHT: &[&str] = &[HEART, READS, WRITE, CLOSED, "no card", LEFT, FREED];
const ALL_BUT_HEART: &[&str] = &[READS, FLIGHT, WRITE, CLOSED, FRAMES, CARD, LEFT, FREED];
/// A message that is hit is lost, and the wait for it ends with its limit.
const MESSAGES: &str = "disturb=messages@3ms";
/// Nothing is noticed.
const NOTHING: &[&str] = &["flush: all", "contact 0x60000", FRAMES, CARD];

const fn row(
    name: &'static str,
    plan: &'static str,
    says: &'static [&'static str],
    rest: &'static [&'static str],
) -> Row {
    Row { name, plan, says, rest, deterministic: false }
}

/// Plans in the order of the book's table.
const ROWS: &[Row] = &[
    row("none", "", NOTHING, ALL_BUT_CARD),
    // A call that may succeed later is made again; so is a list, from the element that it has reached.
    row(
        "calls",
        "call=HVCALL_POST_MESSAGE:HV_STATUS_INSUFFICIENT_BUFFERS@/3,\
            call=HVCALL_SIGNAL_EVENT:HV_STATUS_INSUFFICIENT_BUFFERS@/7,again",
        NOTHING,
        ALL_BUT_CARD,
    ),
    // Another status is an error of the function that has called.
    row(
        "post-refused",
        "call=HVCALL_POST_MESSAGE:HV_STATUS_INVALID_CONNECTION_ID@/3",
        &[
            "contact 0x60000",
            "heartbeat: Post(Hypervisor(HvError(INVALID_CONNECTION_ID)))",
            "controller: Post(Hypervisor(HvError(INVALID_CONNECTION_ID)))",
            "card: Client(Post(Hypervisor(HvError(INVALID_CONNECTION_ID))))",
            "disconnect: Err(Post(Hypervisor(HvError(INVALID_CONNECTION_ID))))",
            FREED,
        ],
        &[],
    ),
    // The host still has the ring of a channel whose close has failed: the memory stays allocated.
    row(
        "close-refused",
        "call=any:HV_STATUS_INVALID_PARAMETER@30",
        &["heartbeat not closed: Post(Hypervisor(HvError(INVALID_PARAMETER)))", "32 pages kept"],
        &[READS, FLIGHT, WRITE, CLOSED, FRAMES, CARD, LEFT],
    ),
    row("messages", "buffers@2,delay@3", NOTHING, ALL_BUT_CARD),
    // A host that never sends its first message.
    row("no-buffer", "buffers", &["contact: TimedOut", FREED], &[]),
    row("never-sent", "delay", &["contact: TimedOut", FREED], &[]),
    // The exit in which the host raises an interrupt ends the guest's WFI even if the interrupt is lost, and a driver
    // looks at its ring whatever has woken it.
    row("lost", "lost", NOTHING, ALL_BUT_CARD),
    row("interrupts", "lost=18@/3,twice=18@/2,spurious=18@5ms", NOTHING, ALL_BUT_CARD),
    row("twice", "twice,migrate@10ms", NOTHING, ALL_BUT_CARD),
    row("silent", "silent=60ms@100ms", NOTHING, ALL_BUT_CARD),
    row("late", "late=5ms@/6", &["reads in flight: 16 right, 0 wrong, 0 failed, "], ALL_BUT_FLIGHT),
    // A request that is held is released after a while in any case, so how many are overtaken depends on the clock.
    row(
        "reorder",
        "reorder@/2",
        &["reads in flight: 16 right, 0 wrong, 0 failed, 7 early"],
        WITHOUT_CARD_BUT_FLIGHT,
    )
    .deterministic(),
    // The memory of a request that never ends comes back when the channel is closed.
    row(
        "stuck",
        "stuck@20",
        &[
            "reads in flight: 15 right, 0 wrong, 0 failed, 0 early",
            "controller 0x602: Err(Client(TimedOut)), rescinded false",
            "controller closed, 1 in flight",
            READS,
        ],
        ALL_BUT_DISK,
    ),
    row("stuck-own", "stuck@5", &["controller 0x602: Err(Client(TimedOut))", CLOSED], ALL_BUT_DISK),
    row(
        "srb",
        "srb=4:0x10@20",
        &[
            "reads in flight: 15 right, 0 wrong, 1 failed, 0 early, first Host { srb: SrbStatus(0x4), scsi: 16 }",
        ],
        ALL_BUT_FLIGHT,
    ),
    row(
        "no-unit",
        "srb=0x20",
        &[
            "reads: 0 right, 0 wrong, 16 failed, 0 early, first NoUnit",
            "reads in flight: 0 right, 0 wrong, 16 failed, 0 early, first NoUnit",
            "write Err(Failed(NoUnit)), flush Err(Failed(NoUnit))",
            CLOSED,
        ],
        ALL_BUT_DISK,
    ),
    row(
        "sense",
        "sense=3/11/00@5",
        &[
            "reads: 15 right, 0 wrong, 1 failed, 0 early, first Sense(Sense { key: 3, code: 17, qualifier: 0 })",
            FLIGHT,
            WRITE,
            CLOSED,
        ],
        ALL_BUT_DISK,
    ),
    // A function that blocks repeats the command; a request in flight is its submitter's.
    row(
        "busy",
        "busy@/5",
        &["reads in flight: 12 right, 0 wrong, 4 failed, 0 early, first Busy", READS, WRITE, CLOSED],
        ALL_BUT_DISK,
    ),
    // It does so a few times.
    row(
        "busy-always",
        "busy",
        &["reads: 0 right, 0 wrong, 16 failed, 0 early, first Busy", "write Err(Failed(Busy))", CLOSED],
        ALL_BUT_DISK,
    ),
    row(
        "media",
        "media=40-47",
        &[
            "reads: 15 right, 0 wrong, 1 failed, 0 early, first Sense(Sense { key: 3, code: 17, qualifier: 0 })",
            "reads in flight: 15 right, 0 wrong, 1 failed, 0 early, first Sense(Sense { key: 3, code: 17, qualifier: 0 })",
            WRITE,
            CLOSED,
        ],
        ALL_BUT_DISK,
    ),
    // A device that goes is an error of what is done with it, its channel is closed, and the others continue.
    row(
        "rescind-heartbeat",
        "rescind=heartbeat@1",
        &["heartbeat: Ok((3, 0)), rescinded true"],
        ALL_BUT_HEART,
    ),
    row("rescind-any", "rescind=any@1", &["heartbeat: Ok((3, 0)), rescinded true"], ALL_BUT_HEART),
    row(
        "rescind-storage",
        "rescind=storage@12",
        &["controller 0x602: Err(Client(Rescinded)), rescinded true", CLOSED],
        ALL_BUT_DISK,
    ),
    row("rescind-network", "rescind=network@4", &["card: Client(Rescinded)"], ALL_BUT_CARD),
    row(
        "rescind-network-in-use",
        "rescind=network@20",
        &["frames: Err(Client(Rescinded)), ", CARD],
        ALL_BUT_CARD,
    ),
    row(
        "rescind-open",
        "rescind-open=storage",
        &["controller 0x0: Err(Client(Rescinded)), rescinded true", CLOSED],
        ALL_BUT_DISK,
    ),
    row(
        "rescind-open-any",
        "rescind-open=any",
        &[
            "heartbeat: Err(Rescinded), rescinded true",
            "controller 0x0: Err(Client(Rescinded)), rescinded true",
            CLOSED,
            // It has gone when its buffers are shared.
            "card: Client(UnknownChannel(",
        ],
        &[LEFT, FREED],
    ),
    row(
        "newest",
        "newest=vmbus:3.0,newest=storage:5.1,newest=network:2.0,newest=heartbeat:1.0",
        &["contact 0x30000", "heartbeat: Ok((1, 0))", "controller 0x501: Ok(())", "card 0x2"],
        ALL_BUT_HEART,
    ),
    row("no-version", "newest=vmbus:1.1", &["contact: NoVersion", FREED], &[]),
    row(
        "no-version-of-storage",
        "newest=storage:4.2",
        &["controller 0x0: Err(NoVersion)", CLOSED],
        ALL_BUT_DISK,
    ),
    row("mute", "mute=20ms@30ms", NOTHING, ALL_BUT_CARD),
    // What the network does to frames is not an error of the card's.
    row(
        "sent-lost",
        "sent=lost@/4",
        &["frames: Ok(()), 16 sent, 12 answers, 0 others, 0 errors", CARD],
        ALL_BUT_CARD,
    ),
    row(
        "sent-twice",
        "sent=twice@/4",
        &["frames: Ok(()), 16 sent, 20 answers, 0 others, 0 errors", CARD],
        ALL_BUT_CARD,
    ),
    // One byte of four questions is another: that of the station, of the address, ...
    row(
        "sent-corrupt",
        "sent=corrupt@/4,seed=3",
        &["frames: Ok(()), 16 sent, 12 answers, ", CARD],
        ALL_BUT_CARD,
    ),
    row(
        "sent-reorder",
        "sent=reorder@3",
        &["frames: Ok(()), 16 sent, 16 answers, 0 others, 0 errors, not in order", CARD],
        ALL_BUT_CARD,
    ),
    row(
        "received-lost",
        "received=lost@/4",
        &["frames: Ok(()), 16 sent, 12 answers, 0 others, 0 errors", CARD],
        ALL_BUT_CARD,
    ),
    row(
        "received-twice",
        "received=twice@/4",
        &["frames: Ok(()), 16 sent, 20 answers, 0 others, 0 errors", CARD],
        ALL_BUT_CARD,
    ),
    row(
        "received-corrupt",
        "received=corrupt@/4,seed=3",
        &["frames: Ok(()), 16 sent, 12 answers, 4 others, 0 errors", CARD],
        ALL_BUT_CARD,
    ),
    row(
        "received-reorder",
        "received=reorder@3",
        &["frames: Ok(()), 16 sent, 16 answers, 0 others, 0 errors, not in order", CARD],
        ALL_BUT_CARD,
    ),
    row(
        "link",
        "link=20ms@30ms",
        &["frames: Ok(()), 16 sent, ", "link has changed: true", CARD],
        ALL_BUT_CARD,
    ),
    row("disturb", "disturb=events@3ms,disturb=time@3ms", NOTHING, ALL_BUT_CARD),
    // Which message it hits depends on time, and so does what of the rest is said.
    row("disturb-messages", MESSAGES, &["flush: all"], &[]),
];

impl Row {
    const fn deterministic(self) -> Self {
        Self { deterministic: true, ..self }
    }

    /// Returns the arguments that tell the guest what to wait for, so that a slow machine changes no outcome.
    fn arguments(&self) -> String {
        let times_out = self.plan == MESSAGES || self.lines().any(|line| line.contains("TimedOut"));
        let limit = if times_out { LIMIT } else { NO_LIMIT };
        let answers = self.answers().map(|answers| format!(" drivers.answers={answers}"));
        format!("drivers.limit={limit}{}", answers.unwrap_or_default())
    }

    fn lines(&self) -> impl Iterator<Item = &'static str> {
        self.says.iter().chain(self.rest).copied()
    }

    /// Returns how many frames the card receives, right ones and others, if the row says both.
    fn answers(&self) -> Option<u32> {
        let frames = self.lines().find_map(|line| line.strip_prefix("frames: Ok(()), 16 sent, "))?;
        let count =
            |word: &str| frames.split(", ").find_map(|part| part.strip_suffix(word)?.parse::<u32>().ok());
        Some(count(" answers")? + count(" others")?)
    }
}

/// Returns the scenarios.
pub(super) fn steps() -> Vec<Step> {
    let one = |row: &'static Row| {
        Step::new(format!("inject/drivers/{}", row.name), move |context| run(context, row))
    };
    let all = Step::new("inject/drivers/all", all);
    ROWS.iter().map(one).chain([all]).collect()
}

fn run(context: &Context, row: &Row) -> anyhow::Result<()> {
    let disk = context.folder()?.join("data.img");
    fs::write(&disk, bytes(DISK, 1))?;
    let disk = disk.to_string_lossy();
    let arguments = row.arguments();
    let mut options = vec!["--disk", &disk, "--devices", "heartbeat", "--vps", "1"];
    options.extend(if row.deterministic { &["--deterministic"][..] } else { &["--net", "user"] });
    options.extend(["--append", &arguments]);
    if !row.plan.is_empty() {
        options.extend(["--inject", row.plan]);
    }
    let booted = program(context, "drivers", &options)?;
    booted.ended(Exit::Success, "power-off")?;
    booted.says("faults: done")?;
    let said: Vec<_> =
        booted.console.lines().filter_map(|line| line.trim_end().strip_prefix("faults: ")).collect();
    for says in row.lines() {
        ensure!(said.iter().any(|line| line.starts_with(says)), "no line begins with {says:?}: {said:#?}");
    }
    for line in booted.console.lines().filter(|line| line.contains(" wrong, ")) {
        ensure!(line.contains(" 0 wrong, "), "wrong bytes were taken for right ones: {line}");
    }
    (0..row.plan.split(',').filter(|rule| !rule.is_empty() && !rule.starts_with("seed=")).count())
        .try_for_each(|rule| fired(&booted, rule))
}

/// Checks that every existing form of a rule has a row.
fn all(context: &Context) -> anyhow::Result<()> {
    let listed = context.hv(&["boot", "--inject", "no-such-fault"])?;
    let forms = forms(&listed.stderr);
    ensure!(forms.len() >= 20, "the tool lists only {forms:?}: {}", listed.stderr);
    let missing = missing(&forms);
    ensure!(missing.is_empty(), "no row of driver_faults.rs has {missing:?}");
    Ok(())
}

/// Returns the forms of a rule in the tool's list: name, and argument where it is one of a few words.
fn forms(text: &str) -> Vec<String> {
    let mut forms = Vec::new();
    let lines = text.lines().skip_while(|line| !line.trim_start().starts_with("A plan is a list")).skip(1);
    for form in lines.filter_map(|line| line.split("  ").find(|part| !part.trim().is_empty())) {
        let form = form.trim();
        if form.starts_with("...") || form.starts_with("seed=") {
            continue;
        }
        for one in form.split(", ").filter_map(|one| one.split(' ').next()) {
            match one.split_once('=') {
                Some((name, words)) if words.contains('|') => {
                    forms.extend(words.split('|').map(|word| format!("{name}={word}")));
                }
                Some((name, _)) => forms.push(format!("{name}=")),
                None => forms.push(one.to_owned()),
            }
        }
    }
    forms.sort();
    forms.dedup();
    forms
}

fn missing(forms: &[String]) -> Vec<&String> {
    let rules = || ROWS.iter().flat_map(|row| row.plan.split(','));
    let has = |form: &&String| {
        !rules().any(|rule| {
            let bare = rule.split('@').next().unwrap_or_default();
            if form.ends_with('=') { bare.starts_with(form.as_str()) } else { bare == form.as_str() }
        })
    };
    forms.iter().filter(has).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_without_a_row_is_found() {
        let text = "--inject: clause 1: no such fault\n  A plan is a list of clauses with commas between them:\n\
            \x20 lost, lost=INTID               an interrupt\n\
            \x20 sent=lost|vanished             this happens\n\
            \x20 busy                           a disk's request\n\
            \x20 seed=7                         seed\n\
            \x20 ...@3, ...@/5                  the third time\n";
        let forms = forms(text);
        assert_eq!(forms, ["busy", "lost", "lost=", "sent=lost", "sent=vanished"]);
        assert_eq!(missing(&forms), ["sent=vanished"]);
    }

    #[test]
    fn a_row_says_what_the_guest_waits_for() {
        let arguments = |name: &str| ROWS.iter().find(|row| row.name == name).map(Row::arguments);
        let expected = |words: &str| Some(words.to_owned());
        assert_eq!(arguments("reorder"), expected("drivers.limit=2000000"));
        assert_eq!(arguments("late"), expected("drivers.limit=2000000 drivers.answers=16"));
        assert_eq!(arguments("received-corrupt"), expected("drivers.limit=2000000 drivers.answers=16"));
        assert_eq!(arguments("stuck"), expected("drivers.limit=3000 drivers.answers=16"));
        assert_eq!(arguments("never-sent"), expected("drivers.limit=3000"));
        assert_eq!(arguments("disturb-messages"), expected("drivers.limit=3000"));
        assert_eq!(arguments("link"), expected("drivers.limit=2000000"));
    }

    #[test]
    fn rows_have_names_of_their_own() {
        let mut names: Vec<_> = ROWS.iter().map(|row| row.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ROWS.len());
    }
}
