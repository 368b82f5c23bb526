//! Names the linker script of `rt`.
fn main() {
    println!("cargo:rustc-link-arg=-Trt.ld");
}
