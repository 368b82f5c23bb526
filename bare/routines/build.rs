//! Links the program where the runtime wants it.
fn main() {
    println!("cargo:rustc-link-arg-bins=-Trt.ld");
}
