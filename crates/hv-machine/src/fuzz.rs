//! Damaged files: [`build`](super::build) returns a sound image or an error, whatever they contain.

use proptest::prelude::*;
use proptest::sample::Index;

use super::kernel::test::{elf, image, image_with_pe, zboot};
use super::platform::test::VIRT;
use super::tests::{assert_sound, spec};
use super::unpack::test::{HELLO_XZ, SAMPLES, gzip, zstd};
use super::{Firmware, Spec, build, initrd};

const MEMORY: u64 = 256 << 20;

/// Returns a valid file of each format.
fn seeds() -> Vec<Vec<u8>> {
    let base = VIRT.ram_base;
    let elf = elf(base + 0x10, &[(base, 0x200, 0x1000), (base + 0x20_0000, 0x100, 0x100)]);
    let image = image(0x10_0000);
    vec![
        gzip(&elf),
        gzip(&image),
        zstd(&image),
        zboot("gzip", &gzip(&image)),
        zboot("zstd22", &zstd(&image)),
        zboot("xzkern", &HELLO_XZ),
        zboot("lz4", SAMPLES[0].1),
        zboot("lzma", SAMPLES[3].1),
        zboot("lzo", SAMPLES[4].1),
        SAMPLES[1].1.to_vec(),
        SAMPLES[2].1.to_vec(),
        image_with_pe(0x10_0000, 0x1000),
        HELLO_XZ.to_vec(),
        image,
        elf,
    ]
}

/// A change to a file.
#[derive(Clone, Debug)]
enum Damage {
    /// Overwrites a byte.
    Byte(Index, u8),
    /// Overwrites eight bytes at a multiple of four: where header fields are.
    Field(Index, u64),
    /// Drops the rest.
    Cut(Index),
    /// Adds bytes at the end.
    Grow(Vec<u8>),
}

fn damage() -> impl Strategy<Value = Damage> {
    let edges =
        prop::sample::select(vec![0, 1, 63, 0x1000, 0x4040_0000, u64::MAX, u64::MAX >> 1, 1 << 63, 1 << 32]);
    prop_oneof![
        4 => (any::<Index>(), any::<u8>()).prop_map(|(at, value)| Damage::Byte(at, value)),
        4 => (any::<Index>(), edges).prop_map(|(at, value)| Damage::Field(at, value)),
        1 => any::<Index>().prop_map(Damage::Cut),
        1 => prop::collection::vec(any::<u8>(), 0..64).prop_map(Damage::Grow),
    ]
}

fn apply(file: &mut Vec<u8>, damage: &Damage) {
    // Most errors are decided by the first bytes.
    let head = file.len().min(256);
    match damage {
        _ if file.is_empty() => {}
        Damage::Byte(at, value) => file[at.index(head)] = *value,
        Damage::Field(at, value) => {
            let at = at.index(head) & !3;
            let end = file.len().min(at + 8);
            file[at..end].copy_from_slice(&value.to_le_bytes()[..end - at]);
        }
        Damage::Cut(at) => file.truncate(at.index(file.len())),
        Damage::Grow(bytes) => file.extend_from_slice(bytes),
    }
}

fn damaged() -> impl Strategy<Value = Vec<u8>> {
    (prop::sample::select(seeds()), prop::collection::vec(damage(), 0..6)).prop_map(|(mut file, damages)| {
        for damage in &damages {
            apply(&mut file, damage);
        }
        file
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_kernel_gives_an_image_or_an_error(file in damaged(), dt in any::<bool>()) {
        let firmware = if dt { Firmware::DeviceTree } else { Firmware::Acpi };
        match build(Spec { kernel: file, memory: MEMORY, firmware, ..spec() }) {
            Ok(image) => assert_sound(&image, MEMORY),
            Err(error) => prop_assert!(error.to_string().len() > 20),
        }
    }

    #[test]
    fn bytes_that_are_no_file_at_all_give_an_error(file in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = build(Spec { kernel: file, memory: MEMORY, ..spec() });
    }

    #[test]
    fn a_damaged_module_gives_an_archive_or_an_error(module in damaged(), busybox in damaged()) {
        let module = initrd::Module::read("hv_vmbus.ko", module);
        let modules: Vec<_> = module.into_iter().collect();
        let _ = initrd::stock(&busybox, &modules, None);
    }
}
