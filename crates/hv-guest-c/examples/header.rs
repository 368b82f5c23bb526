//! Regenerates the headers in `include/`: `cargo run -p hv-guest-c --example header`.

use std::path::Path;

use cbindgen::{Bindings, Builder, Config};

/// Generates each header, with its name.
pub(crate) fn headers() -> [(&'static str, String); 2] {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config =
        Config::from_file(root.join("cbindgen-vmbus.toml")).expect("the configuration can be parsed");
    let builder = Builder::new().with_config(config).with_src(root.join("src/vmbus/mod.rs"));
    [
        ("hv_guest.h", text(cbindgen::generate(root))),
        // A number below 0 in parentheses, as macros have it.
        (
            "hv_vmbus.h",
            text(builder.generate())
                .lines()
                .map(|line| match line.split_once(" -") {
                    Some((name, number)) if line.starts_with("#define ") => format!("{name} (-{number})\n"),
                    _ => format!("{line}\n"),
                })
                .collect(),
        ),
    ]
}

fn text(bindings: Result<Bindings, cbindgen::Error>) -> String {
    let mut text = Vec::new();
    bindings.expect("the sources can be parsed").write(&mut text);
    String::from_utf8(text).expect("a header is text")
}

fn main() {
    let include = Path::new(env!("CARGO_MANIFEST_DIR")).join("include");
    for (name, header) in headers() {
        std::fs::write(include.join(name), header).expect("the folder can be written to");
    }
}
