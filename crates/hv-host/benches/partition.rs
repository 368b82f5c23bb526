//! Time of the hot paths in process: `cargo bench -p hv-host --bench partition`.

mod common;
mod operations;

use criterion::Criterion;
use operations::Measure;

impl Measure for Criterion {
    fn operation<T>(&mut self, name: &str, mut step: impl FnMut() -> T) {
        self.bench_function(name, |b| b.iter(&mut step));
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    operations::all(&mut criterion);
    criterion.final_summary();
}
