//! Links the guest programs with the runtime's linker script. `bench-init` is one for Linux, which needs none.
fn main() {
    for program in ["bench", "bench-client", "bench-drivers"] {
        println!("cargo:rustc-link-arg-bin={program}=-Trt.ld");
    }
}
