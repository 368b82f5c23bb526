//! The published crate mshv-bindings, its ARM64 part, against the table.
//!
//! The crate is made by bindgen from Microsoft's headers for the root partition's driver. It builds for AArch64 only,
//! so its source is read, not compiled: bindgen writes every constant on a line, and every size and offset as an
//! assertion.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, ensure};
use hv_tlfs::abi;

use super::mshv_reasons::{DIFFERENT, LACKS};
use super::{Complaints, Context};
use hv_setup::process;

/// Version of the crate. Another one may have other names, and then wants another look at the reasons.
const VERSION: &str = "0.7.1";

/// The least number of constants and fields to be compared: a comparison of less has lost its way.
const LEAST: usize = 700;

pub(super) fn run(context: &Context) -> anyhow::Result<()> {
    let text = source(context)?;
    let mut complaints = Complaints::new();
    let mut compared = 0;
    for (name, value) in constants(&text) {
        let mut rows = abi::constants().filter(|row| row.has_name(name)).peekable();
        if rows.peek().is_none() {
            if !complaints.explained(LACKS, name) {
                complaints.add(format!("{name} = {value:#x}: mshv-bindings has it, the table lacks it"));
            }
            continue;
        }
        compared += 1;
        let ours: Vec<u64> = rows.map(|row| row.value).collect();
        if !ours.contains(&value) && !complaints.explained(DIFFERENT, name) {
            complaints.add(format!("{name}: {value:#x} in mshv-bindings, {ours:#x?} in the table"));
        }
    }
    for (name, value) in layouts(&text) {
        let (structure, field) = name.split_once("::").unwrap_or((name, ""));
        let Some(row) = abi::structs().find(|row| row.has_name(structure)) else {
            if field.is_empty() && !complaints.explained(LACKS, structure) {
                complaints.add(format!("{structure}: mshv-bindings has it, the table lacks it"));
            }
            continue;
        };
        let ours = if field.is_empty() {
            Some(row.size)
        } else {
            row.fields.iter().find(|row| row.name == field).map(|row| row.offset)
        };
        compared += 1;
        if ours != Some(value) && !complaints.explained(DIFFERENT, name) {
            complaints.add(format!("{name}: {value} in mshv-bindings, {ours:?} in the table"));
        }
    }
    complaints.finish(&[LACKS, DIFFERENT], compared, LEAST)
}

/// Returns the source of the crate's ARM64 part, from the registry.
fn source(context: &Context) -> anyhow::Result<String> {
    let dir = context.folder()?;
    fs::create_dir(dir.join("src"))?;
    fs::write(dir.join("src/lib.rs"), "")?;
    let manifest = format!(
        "[package]\nname = \"witness\"\nedition = \"2024\"\n[dependencies]\nmshv-bindings = \"={VERSION}\"\n\
         [workspace]\n"
    );
    fs::write(dir.join("Cargo.toml"), manifest)?;
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(&dir).args(["vendor", "--quiet", "--versioned-dirs", "vendor"]);
    let done = process::run(&mut cargo, || {})?;
    ensure!(done.status.success(), "cannot get mshv-bindings {VERSION}: {}", done.complaint("error"));
    let file = dir.join(format!("vendor/mshv-bindings-{VERSION}/src/arm64/bindings.rs"));
    fs::read_to_string(file).context("mshv-bindings has no arm64/bindings.rs")
}

/// Returns the constants of the hypervisor's interface: name and value.
fn constants(text: &str) -> impl Iterator<Item = (&str, u64)> {
    text.lines().filter_map(|line| {
        let (name, rest) = line.strip_prefix("pub const ")?.split_once(": ")?;
        let (ty, value) = rest.strip_suffix(';')?.split_once(" = ")?;
        let name = name.strip_prefix(ty).and_then(|rest| rest.strip_prefix('_')).unwrap_or(name);
        let value = value.parse().or_else(|_| value.parse::<i64>().map(|value| value as u64)).ok()?;
        is_hypervisors(name).then_some((name, value))
    })
}

/// Returns the sizes (`structure`) and offsets (`structure::field`) of the hypervisor's structures.
fn layouts(text: &str) -> impl Iterator<Item = (&str, usize)> {
    text.split("[\"").filter_map(|part| {
        let (what, rest) = part.split_once("\"]")?;
        let name = what.strip_prefix("Size of ").or_else(|| what.strip_prefix("Offset of field: "))?;
        let (_, number) = rest.split_once(" - ")?;
        let value = number.split_once("usize")?.0.parse().ok()?;
        // What has no name in C got one from bindgen.
        (is_hypervisors(name) && !name.contains("__bindgen")).then_some((name, value))
    })
}

/// Returns true for the hypervisor's names: the driver's own start with `mshv`, x64's say so.
fn is_hypervisors(name: &str) -> bool {
    let lower = name.to_lowercase();
    lower.starts_with("hv")
        && !["x64", "x86", "amd", "intel", "snp", "sev", "psp"].iter().any(|word| lower.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "
pub const HV_MESSAGE_SIZE: u32 = 256;
pub const HV_HYP_PAGE_MASK: i32 = -4096;
pub const MSHV_IOCTL: u32 = 184;
pub const hv_register_name_HV_REGISTER_SINT0: hv_register_name = 655360;
pub const HV_TEXT: &[u8; 3] = b\"ab\\0\";
    [\"Size of hv_message\"][::std::mem::size_of::<hv_message>() - 256usize];
    [\"Offset of field: hv_message::u\"]
        [::std::mem::offset_of!(hv_message, u) - 16usize];
    [\"Size of hv_message__bindgen_ty_1\"][::std::mem::size_of::<hv_message__bindgen_ty_1>() - 240usize];
";

    #[test]
    fn bindgens_constants_and_assertions_are_read() {
        let constants: Vec<_> = constants(TEXT).collect();
        let mask = ("HV_HYP_PAGE_MASK", 0xffff_ffff_ffff_f000);
        assert_eq!(constants, [("HV_MESSAGE_SIZE", 256), mask, ("HV_REGISTER_SINT0", 0xa_0000)]);
        assert_eq!(layouts(TEXT).collect::<Vec<_>>(), [("hv_message", 256), ("hv_message::u", 16)]);
    }
}
