//! `hv abi` and `hv decode`: lookup in the ABI's table.

mod decode;
mod json;
mod markdown;
mod number;
mod plain;
mod search;
mod text;
mod word;
mod wrap;

use std::path::PathBuf;

use hv_tlfs::abi::{Field, Struct};

use crate::exit::Exit;
use crate::{TOOL, developer, ui};

pub(crate) use decode::{Args as DecodeArgs, run as run_decode};

/// Look up constants and structures of the ABI
///
/// Without TEXT it lists all entries, one per line. TEXT is a C name, current or former, a part of one, words from the
/// description, or a number; an exact name takes precedence over parts. When only a few entries match, each is shown in
/// full. NAME:VALUE explains the value of a register. Exits with 1 if nothing was found.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// What to look for
    #[arg(value_name = "TEXT")]
    text: Vec<String>,
    /// Only entries of this kind: register, hypercall, status, ..., struct, function
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
    /// Print JSON
    #[arg(long, conflicts_with = "c_header")]
    json: bool,
    /// Print a C header with static assertions; needs a checkout of the project
    #[arg(long, conflicts_with_all = ["text", "kind"])]
    c_header: bool,
    /// Write Markdown into this folder: a file for each chapter of the book
    #[arg(long, value_name = "DIR", conflicts_with_all = ["text", "kind", "json", "c_header"])]
    markdown: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  cargo hv abi sint
  cargo hv abi HV_REGISTER_SIPP
  cargo hv abi time ref count
  cargo hv abi sint2:0x10012
  cargo hv abi --kind status 0x13
  cargo hv abi --json
  cargo hv abi --markdown docs/src/abi
  cargo hv abi --c-header | aarch64-linux-gnu-gcc -xc - -c -Wall -Werror -o /dev/null

Exit codes: 0 found, 1 nothing found, 2 a bad option";

/// Runs `hv abi`.
pub(crate) fn run(args: &Args) -> anyhow::Result<Exit> {
    if let Some(dir) = &args.markdown {
        let count = markdown::write(dir)?;
        ui::note(&format!("{count} chapters written to {}", dir.display()));
        return Ok(Exit::Success);
    }
    if args.c_header {
        return developer::hand_over("c-header", []);
    }
    if let Some(kind) = args.kind.as_deref().filter(|kind| !search::kinds().contains(kind)) {
        anyhow::bail!("unknown kind {kind}; expected one of {}", search::kinds().join(", "));
    }
    let text = args.text.join(" ");
    if let (Some(explained), None, false) = (decode::of_register(&text), &args.kind, args.json) {
        ui::out(&explained?);
        return Ok(Exit::Success);
    }
    let found =
        search::find(Some(text.as_str()).filter(|text| !text.trim().is_empty()), args.kind.as_deref());
    if args.json {
        ui::out(&json::print(&found)?);
    } else {
        ui::out(&text::print(&found));
    }
    Ok(if found.is_empty() {
        let kind = args.kind.as_ref().map_or_else(String::new, |kind| format!(" of kind {kind}"));
        ui::note(&format!("nothing found for {text:?}{kind}; {TOOL} abi without words lists all entries"));
        Exit::Failed
    } else {
        Exit::Success
    })
}

/// Returns the fields of a structure in their order in memory, the lowest bits first.
fn layout(row: &Struct) -> Vec<&Field> {
    let mut fields: Vec<&Field> = row.fields.iter().collect();
    // The parts of a union follow the whole.
    fields.sort_by_key(|field| (field.offset, field.bits));
    fields
}
