//! The guest's console in a run: what is typed on it, where it is shown, and the report that follows it.

use super::args::Args;
use crate::machine::{self, Sink, Typing};
use crate::ui::Stream;
use crate::{random, terminal};

/// Returns what is typed on the guest's console, whose kernel is Linux or another one.
pub(super) fn typing(args: &Args, is_linux: bool) -> Typing {
    let piped = machine::is_piped() && !args.reads_stdin();
    match (args.agent.is_none(), terminal::is_ours()) {
        (true, true) => Typing::Keys,
        (true, false) if piped => args.piped(is_linux),
        _ => Typing::Nothing,
    }
}

/// Returns where the console is shown, if at all.
pub(super) fn sink(args: &Args) -> Sink {
    match &args.json {
        _ if args.quiet => None,
        Some(file) if file.as_os_str() == "-" => Some(Stream::Stderr),
        _ => Some(Stream::Stdout),
    }
}

/// Returns the tag of a report that follows the console, which is shown in `sink`.
pub(super) fn tag_for(sink: Sink) -> anyhow::Result<Option<String>> {
    sink.filter(|stream| *stream == Stream::Stdout).map(|_| tag()).transpose()
}

/// Returns a word that is printed before the guest starts and again in the header of its report: a guest can print what
/// looks like a report, but cannot guess this word.
fn tag() -> anyhow::Result<String> {
    Ok(random::bytes::<6>()?.map(|byte| format!("{byte:02x}")).concat())
}
