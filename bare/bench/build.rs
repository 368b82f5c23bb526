//! Links the guest program with the runtime's linker script. The other program is one for Linux, which needs none.
fn main() {
    println!("cargo:rustc-link-arg-bin=bench=-Trt.ld");
}
