//! `hv abi --json`.

use hv_tlfs::abi::{Class, Constant, Field, Function, Struct};
use serde::Serialize;

use super::plain;
use super::search::Found;

#[derive(Serialize)]
struct Abi {
    /// Version of this format.
    schema: u32,
    constants: Vec<JsonConstant>,
    structs: Vec<JsonStruct>,
    classes: Vec<JsonClass>,
    functions: Vec<JsonFunction>,
}

#[derive(Serialize)]
struct JsonConstant {
    name: &'static str,
    aliases: &'static [&'static str],
    kind: &'static str,
    value: String,
    doc: String,
    sources: Vec<&'static str>,
}

#[derive(Serialize)]
struct JsonStruct {
    name: &'static str,
    aliases: &'static [&'static str],
    rust: &'static str,
    size: usize,
    align: usize,
    doc: String,
    sources: Vec<&'static str>,
    fields: Vec<JsonField>,
}

#[derive(Serialize)]
struct JsonField {
    name: &'static str,
    offset: usize,
    size: usize,
    bit_offset: Option<u32>,
    bit_width: Option<u32>,
    /// Empty if the Rust structure has no such field.
    doc: String,
}

/// A class of devices on VMBus.
#[derive(Serialize)]
struct JsonClass {
    name: &'static str,
    guid: &'static str,
    doc: String,
    sources: Vec<&'static str>,
}

/// A function or function-like macro of the 2018 patch.
#[derive(Serialize)]
struct JsonFunction {
    name: &'static str,
    /// Path of the counterpart in hv-tlfs, or "" for what was internal to Linux.
    now: &'static str,
    doc: &'static str,
}

/// Formats the rows as JSON.
pub(super) fn print(found: &Found) -> anyhow::Result<String> {
    let abi = Abi {
        schema: 1,
        constants: found.constants.iter().chain(&found.related).copied().map(constant).collect(),
        structs: found.structs.iter().copied().map(structure).collect(),
        classes: found.classes.iter().copied().map(class).collect(),
        functions: found.functions.iter().map(|row| function(row)).collect(),
    };
    Ok(serde_json::to_string_pretty(&abi)? + "\n")
}

fn constant(row: &'static Constant) -> JsonConstant {
    JsonConstant {
        name: row.name,
        aliases: row.aliases,
        kind: row.kind,
        value: format!("{:#x}", row.value),
        doc: plain::text(row.doc),
        sources: row.sources.iter().collect(),
    }
}

fn structure(row: &'static Struct) -> JsonStruct {
    JsonStruct {
        name: row.name,
        aliases: row.aliases,
        rust: row.rust,
        size: row.size,
        align: row.align,
        doc: plain::text(row.doc),
        sources: row.sources.iter().collect(),
        fields: row.fields.iter().map(field).collect(),
    }
}

fn field(row: &'static Field) -> JsonField {
    JsonField {
        name: row.name,
        offset: row.offset,
        size: row.size,
        bit_offset: row.bits.map(|(low, _)| low),
        bit_width: row.bits.map(|(_, width)| width),
        doc: plain::text(row.doc),
    }
}

fn class(row: &'static Class) -> JsonClass {
    JsonClass {
        name: row.name,
        guid: row.guid,
        doc: plain::text(row.doc),
        sources: row.sources.iter().collect(),
    }
}

fn function(row: &Function) -> JsonFunction {
    JsonFunction { name: row.name, now: row.now, doc: row.doc }
}

#[cfg(test)]
mod tests {
    use super::super::search;

    #[test]
    fn json_has_the_shape_that_scripts_rely_on() {
        let text = super::print(&search::find(Some("hv_port_id"), None)).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["constants"], serde_json::json!([]));
        let row = &value["structs"][0];
        assert_eq!((&row["name"], &row["size"], &row["align"]), (&"hv_port_id".into(), &4.into(), &4.into()));
        assert_eq!(row["rust"], "PortId");
        assert!(row["doc"].is_string() && row["sources"][0].is_string());
        let id = serde_json::json!({
            "name": "u.id", "offset": 0, "size": 4, "bit_offset": 0, "bit_width": 24, "doc": "The number."
        });
        assert_eq!(row["fields"][0], id);
        let whole = serde_json::json!({
            "name": "asu32", "offset": 0, "size": 4, "bit_offset": null, "bit_width": null, "doc": ""
        });
        assert_eq!(row["fields"][1], whole);

        let text = super::print(&search::find(Some("HV_REGISTER_SIPP"), None)).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let row = &value["constants"][0];
        assert_eq!(
            (&row["name"], &row["kind"], &row["value"]),
            (&"HV_REGISTER_SIMP".into(), &"register".into(), &"0xa0013".into())
        );
        assert!(row["aliases"].as_array().unwrap().contains(&"HV_REGISTER_SIPP".into()));
        assert!(row["doc"].is_string() && row["sources"][0].is_string());
    }

    #[test]
    fn json_has_as_many_rows_as_the_text() {
        let found = search::find(None, None);
        let value: serde_json::Value = serde_json::from_str(&super::print(&found).unwrap()).unwrap();
        let rows = ["constants", "structs", "classes", "functions"]
            .map(|list| value[list].as_array().unwrap().len());
        assert_eq!(rows.iter().sum::<usize>(), found.len());
        assert!(rows.iter().all(|&rows| rows > 0), "{rows:?}");
    }
}
