//! Regenerates `include/hv_guest.h`: `cargo run -p hv-guest-c --example header`.

use std::path::Path;

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let header = cbindgen::generate(root).expect("the sources can be parsed");
    header.write_to_file(root.join("include/hv_guest.h"));
}
