//! Linux's Hyper-V headers, compiled for arm64, against the table.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use anyhow::Context as _;
use hv_tlfs::abi::{self, Field, Struct};

use super::compiler::{Compiler, little_endian};
use super::linux_reasons::{FIELDS, LACKS, LAYOUTS};
use super::scan::{self, Names, Record};
use super::{Complaints, Context};
use hv_setup::cache::Cache;
use hv_setup::stock::{self, Headers, Piece};

/// The headers, and the half of the tree that has them.
const HEADERS: &[&str] = &[
    "include/asm-generic/hyperv-tlfs.h",
    "include/asm-generic/mshyperv.h",
    "include/linux/hyperv.h",
    "include/uapi/linux/hyperv.h",
    "arch/arm64/include/asm/hyperv-tlfs.h",
    "arch/arm64/include/asm/mshyperv.h",
];

/// Folders of headers, of the common half and of the arm64 half in turn.
const FOLDERS: &[(&str, &str)] = &[
    ("arch/arm64/include", "arch/arm64/include/generated"),
    ("include", "include"),
    ("arch/arm64/include/uapi", "arch/arm64/include/generated/uapi"),
    ("include/uapi", "include/generated/uapi"),
];

/// The objects of the questions.
const PRELUDE: &str = "#include <linux/hyperv.h>\n#include <asm/mshyperv.h>\n";

/// Minimum number of constants and fields to compare: a comparison of fewer has a fault.
const LEAST: usize = 600;

pub(super) fn run(context: &Context) -> anyhow::Result<()> {
    let pieces = [Headers::Common, Headers::Arm64].map(Piece::Headers);
    let cache = Cache::open()?;
    stock::prepare(&cache, &pieces)?;
    let [common, arm64] = pieces.map(|piece| cache.entry(piece.folder()));
    let mut names = Names::default();
    for header in HEADERS {
        let text = fs::read_to_string(common.join(header)).with_context(|| format!("{header} is missing"))?;
        let more = scan::names(&text);
        names.macros.extend(more.macros);
        names.enumerators.extend(more.enumerators);
        names.records.extend(more.records);
    }
    let compiler = Compiler::new(context.folder()?, PRELUDE, arguments(&common, &arm64));
    let mut complaints = Complaints::new();
    let constants = constants(&compiler, &names, &mut complaints)?;
    let fields = records(&compiler, &names, &mut complaints)?;
    complaints.finish(&[LACKS, LAYOUTS, FIELDS], constants + fields, LEAST)
}

/// Returns the kernel build's flags for its compiler.
fn arguments(common: &Path, arm64: &Path) -> Vec<OsString> {
    let mut line: Vec<OsString> = vec!["-nostdinc".into()];
    for (of_common, of_arm64) in FOLDERS {
        line.extend(["-I".into(), common.join(of_common).into(), "-I".into(), arm64.join(of_arm64).into()]);
    }
    for header in ["compiler-version.h", "kconfig.h", "compiler_types.h"] {
        line.extend(["-include".into(), common.join("include/linux").join(header).into()]);
    }
    let rest = "-D__KERNEL__ -DMODULE -DKASAN_SHADOW_SCALE_SHIFT= -DKBUILD_MODNAME=\"w\" -DKBUILD_MODFILE=\"w\" \
                -DKBUILD_BASENAME=\"w\" -std=gnu11 -fno-strict-aliasing -fshort-wchar -funsigned-char";
    line.extend(rest.split_whitespace().map(OsString::from));
    line
}

/// Compares every number that Linux defines; returns how many both have.
fn constants(compiler: &Compiler, names: &Names, complaints: &mut Complaints) -> anyhow::Result<usize> {
    let all: Vec<&String> = names.macros.iter().chain(&names.enumerators).collect();
    let items = all.iter().map(|name| format!("const unsigned long long @ = (unsigned long long)({name});"));
    let values = compiler.values(items.collect())?;
    let mut compared = 0;
    for (name, value) in all.into_iter().zip(values) {
        // What is not a number is not a constant: attributes, strings, initializers.
        let Some(bytes) = value else { continue };
        let value = little_endian(&bytes);
        let mut rows = abi::constants().filter(|row| row.has_name(name)).peekable();
        if rows.peek().is_none() {
            if !complaints.explained(LACKS, name) {
                complaints.add(format!("{name} = {value:#x}: Linux has it, the table lacks it"));
            }
            continue;
        }
        compared += 1;
        let ours: Vec<u64> = rows.map(|row| row.value).collect();
        if !ours.contains(&value) {
            complaints.add(format!("{name}: {value:#x} in Linux, {ours:#x?} in the table"));
        }
    }
    Ok(compared)
}

/// A question about a field of a structure that both have.
struct Question {
    line: String,
    tag: &'static str,
    record: String,
    field: &'static Field,
    what: What,
}

/// The question.
#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Offset,
    Size,
    /// The bits of the storage unit that are set if only this field is.
    Bits,
}

impl Question {
    fn new(record: &Record, field: &'static Field, what: What) -> Self {
        let (tag, name, member) = (record.tag, record.name.clone(), field.name);
        let line = match what {
            What::Offset => {
                format!("const unsigned long long @ = __builtin_offsetof({tag} {name}, {member});")
            }
            What::Size => format!("const unsigned long long @ = sizeof((({tag} {name} *)0)->{member});"),
            What::Bits => format!("const {tag} {name} @ = {{ .{member} = -1 }};"),
        };
        Self { line, tag, record: name, field, what }
    }

    /// Compares the table's answer with Linux's.
    fn compare(&self, bytes: &[u8]) -> (u64, u64) {
        match (self.what, self.field.bits) {
            (What::Offset, _) => (self.field.offset as u64, little_endian(bytes)),
            (What::Size, _) => (self.field.size as u64, little_endian(bytes)),
            (What::Bits, bits) => {
                let (low, width) = bits.unwrap_or((0, 8 * self.field.size.min(8) as u32));
                let unit: Vec<u8> =
                    bytes.iter().copied().skip(self.field.offset).take(self.field.size.min(8)).collect();
                ((u64::MAX >> (64 - width)) << low, little_endian(&unit))
            }
        }
    }
}

/// Compares every structure that Linux defines; returns how many answers were compared.
fn records(compiler: &Compiler, names: &Names, complaints: &mut Complaints) -> anyhow::Result<usize> {
    let mut pairs: Vec<(&Record, &'static Struct)> = Vec::new();
    for record in &names.records {
        match abi::structs().find(|row| row.has_name(&record.name)) {
            Some(row) => pairs.push((record, row)),
            None if complaints.explained(LACKS, &record.name) => {}
            None => {
                complaints.add(format!("{} {}: Linux has it, the table lacks it", record.tag, record.name));
            }
        }
    }
    sizes(compiler, &pairs, complaints)?;
    let mut questions = Vec::new();
    for (record, row) in pairs {
        ask(record, row, complaints, &mut questions);
    }
    let mut compared = 0;
    let unknown = answer(compiler, questions, complaints, &mut compared)?;
    // A field without an offset is a bit field in C, and a field of its own in the table.
    let again = unknown.into_iter().filter(|question| question.what == What::Offset).map(|question| {
        let record = Record { tag: question.tag, name: question.record, fields: Vec::new() };
        Question::new(&record, question.field, What::Bits)
    });
    for question in answer(compiler, again.collect(), complaints, &mut compared)? {
        complaints.add(format!("{}.{}: the compiler does not know it", question.record, question.field.name));
    }
    Ok(compared)
}

/// Compares the compiler's answers with the table; returns the questions that do not compile.
fn answer(
    compiler: &Compiler,
    questions: Vec<Question>,
    complaints: &mut Complaints,
    compared: &mut usize,
) -> anyhow::Result<Vec<Question>> {
    let answers = compiler.values(questions.iter().map(|question| question.line.clone()).collect())?;
    let mut unknown = Vec::new();
    for (question, answer) in questions.into_iter().zip(answers) {
        let Some(bytes) = answer else {
            unknown.push(question);
            continue;
        };
        *compared += 1;
        let (ours, theirs) = question.compare(&bytes);
        let name = format!("{}.{}", question.record, question.field.name);
        if ours != theirs && !complaints.explained(LAYOUTS, &name) {
            complaints.add(format!("{name}: {theirs:#x} in Linux, {ours:#x} in the table"));
        }
    }
    Ok(unknown)
}

/// Compares the sizes of the structures.
fn sizes(
    compiler: &Compiler,
    pairs: &[(&Record, &Struct)],
    complaints: &mut Complaints,
) -> anyhow::Result<()> {
    let items = pairs
        .iter()
        .map(|(record, _)| format!("const unsigned long long @ = sizeof({} {});", record.tag, record.name));
    for ((record, row), size) in pairs.iter().zip(compiler.values(items.collect())?) {
        let size = size.with_context(|| format!("{} {} does not compile", record.tag, record.name))?;
        let size = little_endian(&size);
        if size != row.size as u64 && !complaints.explained(LAYOUTS, &record.name) {
            complaints.add(format!("{}: {size} bytes in Linux, {} in the table", record.name, row.size));
        }
    }
    Ok(())
}

/// Asks for the offset of each field that both have, and reports those that only one has.
fn ask(record: &Record, row: &'static Struct, complaints: &mut Complaints, questions: &mut Vec<Question>) {
    let parts = |field: &Field| field.name.split('.').collect::<Vec<_>>();
    for name in &record.fields {
        let full = format!("{}.{name}", record.name);
        let known = row.fields.iter().any(|field| parts(field).contains(&name.as_str()));
        if !known && !complaints.explained(FIELDS, &full) {
            complaints.add(format!("{full}: Linux has it, the table lacks it"));
        }
    }
    for field in row.fields {
        let full = format!("{}.{}", record.name, field.name);
        // The rest of a dotted name may be a member of another structure's.
        if !record.fields.iter().any(|name| parts(field)[0] == name) {
            if !complaints.explained(FIELDS, &full) {
                complaints.add(format!("{full}: the table has it, Linux lacks it"));
            }
            continue;
        }
        if field.bits.is_some() {
            questions.push(Question::new(record, field, What::Bits));
            continue;
        }
        questions.push(Question::new(record, field, What::Offset));
        if field.size > 0 {
            questions.push(Question::new(record, field, What::Size));
        }
    }
}
