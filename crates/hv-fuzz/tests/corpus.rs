//! The committed corpus, played without a fuzzer.

use std::path::Path;

#[test]
fn every_input_of_the_corpus_passes() {
    for (name, target) in hv_fuzz::TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(name);
        let entries =
            std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let mut inputs: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        inputs.sort();
        assert!(inputs.len() >= 10, "{name}: the corpus has only {} inputs", inputs.len());
        for input in inputs {
            // Shown if the test fails.
            println!("{}", input.display());
            target(&std::fs::read(&input).unwrap());
        }
    }
}

#[test]
fn an_empty_input_is_one() {
    for (_, target) in hv_fuzz::TARGETS {
        target(&[]);
    }
}

proptest::proptest! {
    /// The state machines of the devices, with completions in any order.
    #[test]
    fn devices_live_with_any_driver(data in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..800)) {
        hv_fuzz::devices(&data);
    }
}
