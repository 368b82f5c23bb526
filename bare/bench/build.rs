//! Links the guest program where the runtime wants it. The other is one for Linux, which has no such wish.
fn main() {
    println!("cargo:rustc-link-arg-bin=bench=-Trt.ld");
}
