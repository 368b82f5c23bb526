//! `hv abi --json`.

use hv_tlfs::abi::{Constant, Field, Struct};
use serde::Serialize;

use super::plain;
use super::search::Found;

#[derive(Serialize)]
struct Abi {
    constants: Vec<JsonConstant>,
    structs: Vec<JsonStruct>,
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
    size: usize,
    align: usize,
    fields: Vec<JsonField>,
}

#[derive(Serialize)]
struct JsonField {
    name: &'static str,
    offset: usize,
    size: usize,
    bit_offset: Option<u32>,
    bit_width: Option<u32>,
}

/// The rows found as JSON.
pub(super) fn print(found: &Found) -> anyhow::Result<String> {
    let abi = Abi {
        constants: found.constants.iter().copied().map(constant).collect(),
        structs: found.structs.iter().copied().map(structure).collect(),
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
        size: row.size,
        align: row.align,
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
    }
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
        let id =
            serde_json::json!({"name": "u.id", "offset": 0, "size": 4, "bit_offset": 0, "bit_width": 24});
        assert_eq!(row["fields"][0], id);
        let whole = serde_json::json!({"name": "asu32", "offset": 0, "size": 4, "bit_offset": null, "bit_width": null});
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
}
