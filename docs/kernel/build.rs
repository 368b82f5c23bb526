//! Links the kernel with its linker script.
fn main() {
    println!("cargo:rustc-link-arg-bins=-T{}/kernel.ld", env!("CARGO_MANIFEST_DIR"));
    println!("cargo:rerun-if-changed=kernel.ld");
}
