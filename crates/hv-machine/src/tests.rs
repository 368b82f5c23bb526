//! Tests of the parts together.

use super::kernel::test::{elf, image};
use super::platform::test::VIRT;
use super::*;

const BASE: u64 = VIRT.ram_base;
const CONSOLE: &str = "console=ttyAMA0 earlycon=pl011,0x9000000";

/// Returns a valid spec.
pub(super) fn spec() -> Spec<'static> {
    Spec {
        platform: &VIRT,
        kernel: image(0x30_0000),
        initrd: Some(vec![0x11; 0x1_2345]),
        append: "quiet".to_owned(),
        memory: 256 << 20,
        vps: 2,
        firmware: Firmware::Acpi,
        vmbus_intid: 18,
        stimer_intid: 17,
        identity: Identity::DEFAULT,
        rng_seed: [9; RNG_SEED_LEN],
    }
}

/// Checks what holds for every image.
pub(super) fn assert_sound(image: &Image, memory: u64) {
    let mut end = BASE;
    for (gpa, bytes) in &image.segments {
        assert!(*gpa >= end, "{gpa:#x} overlaps the segment that ends at {end:#x}");
        assert!(!bytes.is_empty());
        end = gpa + bytes.len() as u64;
    }
    assert!(end <= BASE + memory);
    assert_eq!(image.x0 % 8, 0);
    let tree = &image.segments.iter().find(|(gpa, _)| *gpa == image.x0).expect("device tree").1;
    assert_eq!(&tree[..4], &[0xd0, 0x0d, 0xfe, 0xed]);
}

#[test]
fn each_piece_has_its_place() {
    let image = build(spec()).expect("build");
    assert_sound(&image, 256 << 20);
    let places: Vec<_> = image.segments.iter().map(|(gpa, bytes)| (gpa - BASE, bytes.len())).collect();
    assert_eq!(places[0], (0, 0x1000), "kernel");
    assert_eq!(places[1].0, 0x30_0000, "device tree, after the kernel's .bss");
    assert_eq!(places[2].0, 0x31_0000, "ACPI");
    assert_eq!(places[3].0, 0x31_0000 + EFI_OFFSET, "EFI");
    assert_eq!(places[4].0, 0x31_0000 + SMBIOS_OFFSET, "SMBIOS");
    assert_eq!(places[5], (0x32_0000, 0x1_2345), "initrd");
    assert_eq!((image.entry, image.x0), (BASE, BASE + 0x30_0000));
    assert_eq!(image.page_size, Some(4096));
}

#[test]
fn the_same_spec_gives_the_same_bytes() {
    for firmware in [Firmware::Acpi, Firmware::DeviceTree] {
        let one = build(Spec { firmware, ..spec() }).expect("build");
        let other = build(Spec { firmware, ..spec() }).expect("build");
        assert_eq!(one.segments, other.segments);
    }
}

#[test]
fn the_tables_fit_their_places_with_the_most_vps_and_the_longest_command_line() {
    let append = "x".repeat(MAX_COMMAND_LINE - CONSOLE.len() - 1);
    for firmware in [Firmware::Acpi, Firmware::DeviceTree] {
        let spec = Spec { firmware, append: append.clone(), vps: VIRT.max_vps, ..spec() };
        let image = build(spec).expect("build");
        let find = |gpa: u64| {
            image.segments.iter().find(|segment| segment.0 == gpa).map(|segment| segment.1.len() as u64)
        };
        // With as much again to spare, each.
        assert!(find(image.x0).expect("device tree") < FDT_SIZE / 2);
        if firmware == Firmware::Acpi {
            let acpi = image.x0 + FDT_SIZE;
            assert!(find(acpi).expect("ACPI") < EFI_OFFSET / 2);
            assert!(find(acpi + EFI_OFFSET).expect("EFI") < (SMBIOS_OFFSET - EFI_OFFSET) / 4);
            assert!(find(acpi + SMBIOS_OFFSET).expect("SMBIOS") < (FIRMWARE_SIZE - SMBIOS_OFFSET) / 4);
        }
    }
}

#[test]
fn a_guest_without_initrd_has_no_initrd_segment() {
    let image = build(Spec { initrd: None, ..spec() }).expect("build");
    assert_sound(&image, 256 << 20);
    assert_eq!(image.segments.len(), 5);
}

#[test]
fn the_default_console_is_put_before_the_users_words() {
    assert_eq!(build(spec()).expect("build").command_line, format!("{CONSOLE} quiet"));
    let append = "console=hvc0 quiet".to_owned();
    assert_eq!(build(Spec { append: append.clone(), ..spec() }).expect("build").command_line, append);
    assert_eq!(build(Spec { append: String::new(), ..spec() }).expect("build").command_line, CONSOLE);
}

#[test]
fn too_little_memory_says_how_much_is_enough() {
    for (initrd, memory) in [(0, 4), (0, 64), (40 << 20, 128), (500 << 20, 256)] {
        let with = |memory: u64| {
            let initrd = Some(vec![1; initrd]);
            build(Spec { initrd, memory: memory << 20, ..spec() })
        };
        let need = match with(memory) {
            Err(Error::MemoryTooSmall { memory: m, need } | Error::InitrdTooBig { memory: m, need, .. }) => {
                assert_eq!(m, memory);
                need
            }
            other => panic!("{other:?}"),
        };
        assert!(need > memory);
        let image =
            with(need).unwrap_or_else(|error| panic!("{need} MiB was reported to be enough: {error}"));
        assert_sound(&image, need << 20);
    }
}

#[test]
fn a_kernel_bigger_than_memory_says_how_much_is_enough() {
    let error = build(Spec { kernel: image(300 << 20), ..spec() }).unwrap_err();
    assert!(matches!(error, Error::MemoryTooSmall { memory: 256, need: 400 }), "{error}");
    let error = build(Spec { kernel: image(u64::MAX >> 1), ..spec() }).unwrap_err();
    assert!(matches!(error, Error::MemoryTooSmall { .. }), "{error}");
}

#[test]
fn an_elf_kernel_keeps_its_place_and_the_rest_goes_around_it() {
    let kernel = elf(BASE + 0x10_0000, &[(BASE + 0x10_0000, 64, 0x1_0001)]);
    let spec = Spec { kernel, memory: 4 << 20, ..spec() };
    let image = build(spec).expect("build");
    assert_sound(&image, 4 << 20);
    assert_eq!((image.entry, image.x0), (BASE + 0x10_0000, BASE));
    assert_eq!(image.page_size, None);
}

#[test]
fn numbers_out_of_range_are_refused() {
    let refused = |spec: Spec| build(spec).unwrap_err();
    for memory in [0, 1 << 20, (256 << 20) + 4096, 256 << 30, !(ALIGN_2M - 1)] {
        assert!(matches!(refused(Spec { memory, ..spec() }), Error::MemorySize { .. }));
    }
    for vps in [0, VIRT.max_vps + 1, u32::MAX] {
        assert!(matches!(refused(Spec { vps, ..spec() }), Error::Vps { .. }));
    }
    for intid in [0, 15, 27, 30, 32, 17] {
        assert!(matches!(refused(Spec { vmbus_intid: intid, ..spec() }), Error::Intid { .. }));
    }
    let append = "x".repeat(MAX_COMMAND_LINE);
    assert!(matches!(refused(Spec { append, ..spec() }), Error::CommandLineTooLong { .. }));
    assert!(matches!(refused(Spec { append: "a\0b".to_owned(), ..spec() }), Error::CommandLineNul));
}
