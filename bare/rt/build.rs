//! Lets the programs that use this crate find its linker script: they link with `-Trt.ld`.
fn main() {
    let directory = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
    println!("cargo:rustc-link-search={directory}");
    println!("cargo:rerun-if-changed=rt.ld");
}
