//! Links the program with the runtime's linker script.
fn main() {
    println!("cargo:rustc-link-arg-bins=-Trt.ld");
}
