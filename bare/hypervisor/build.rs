//! Hands the linker script to the linker.
fn main() {
    let directory = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
    println!("cargo:rustc-link-arg=-T{directory}/hypervisor.ld");
    println!("cargo:rerun-if-changed=hypervisor.ld");
}
