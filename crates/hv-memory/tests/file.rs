//! Tests of transfers between a file and guest memory over `vm-memory`.
#![cfg(target_os = "linux")]

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use hv_memory::{BadAddress, GuestMemory, VmMemory};
use vm_memory::bitmap::{AtomicBitmap, Bitmap as _};
use vm_memory::{GuestAddress, GuestMemoryBackend as _, GuestMemoryMmap, GuestMemoryRegion as _};

/// Two adjacent ranges, and one after a hole.
const RANGES: [(GuestAddress, usize); 3] =
    [(GuestAddress(0x1000), 0x1000), (GuestAddress(0x2000), 0x1000), (GuestAddress(0x4000), 0x1000)];

fn memory() -> VmMemory<GuestMemoryMmap> {
    VmMemory(GuestMemoryMmap::from_ranges(&RANGES).unwrap())
}

/// Creates a file of bytes that differ from those around them.
fn file(len: usize) -> (File, Vec<u8>) {
    let file = tempfile::tempfile().unwrap();
    let bytes: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
    file.write_all_at(&bytes, 0).unwrap();
    (file, bytes)
}

fn bytes(memory: &impl GuestMemory, gpa: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    memory.read(gpa, &mut bytes).unwrap();
    bytes
}

#[test]
fn ranges_are_read_and_written_in_their_order_and_no_byte_besides() {
    let (memory, (file, expected)) = (memory(), file(0x2000));
    // Over the border of two ranges, empty, and before the first.
    let ranges = [(0x1ff0, 0x20), (0x4000, 0), (0x4ffd, 3), (0x1000, 0x100)];
    memory.read_file(&file, 7, &ranges).unwrap().unwrap();
    assert_eq!(bytes(&memory, 0x1fef, 0x22), [&[0], &expected[7..7 + 0x20], &[0]].concat());
    assert_eq!(bytes(&memory, 0x4ffc, 4), [&[0], &expected[0x27..0x2a]].concat());
    assert_eq!(bytes(&memory, 0x1000, 0x101), [&expected[0x2a..0x12a], &[0]].concat());
    let other = tempfile::tempfile().unwrap();
    memory.write_file(&other, 5, &ranges).unwrap().unwrap();
    let mut found = vec![0; 0x123 + 5];
    other.read_exact_at(&mut found, 0).unwrap();
    assert_eq!(found, [&[0; 5], &expected[7..0x12a]].concat());
    assert_eq!(other.metadata().unwrap().len(), 0x123 + 5);
}

#[test]
fn more_ranges_than_a_system_call_takes_are_transferred() {
    let (memory, (file, expected)) = (memory(), file(4096));
    // Backwards, so that no two are one.
    let ranges: Vec<_> = (0..2048_u64).map(|n| (0x2ffe - 2 * n, 2)).collect();
    memory.read_file(&file, 0, &ranges).unwrap().unwrap();
    let backwards: Vec<u8> = expected.chunks(2).rev().flatten().copied().collect();
    assert_eq!(bytes(&memory, 0x2000, 4096), backwards);
    let other = tempfile::tempfile().unwrap();
    memory.write_file(&other, 0, &ranges).unwrap().unwrap();
    let mut found = vec![0; 4096];
    other.read_exact_at(&mut found, 0).unwrap();
    assert_eq!(found, expected);
}

#[test]
fn nothing_is_transferred_if_a_range_is_not_memory() {
    let (memory, (file, expected)) = (memory(), file(0x2000));
    for outside in [(0x2fff, 2), (0x3000, 1), (0, 0x1001), (u64::MAX, 1), (u64::MAX, 2), (0x4000, u64::MAX)] {
        let ranges = [(0x1000, 0x100), outside];
        assert!(matches!(memory.read_file(&file, 1, &ranges), Err(BadAddress)), "{outside:x?}");
        assert_eq!(bytes(&memory, 0x1000, 0x100), [0; 0x100]);
        assert!(matches!(memory.write_file(&file, 0, &ranges), Err(BadAddress)), "{outside:x?}");
    }
    let mut found = vec![0; 0x2000];
    file.read_exact_at(&mut found, 0).unwrap();
    assert_eq!(found, expected);
}

#[test]
fn the_end_of_a_file_and_one_that_is_not_open_for_it_are_errors() {
    let (memory, (file, _)) = (memory(), file(0x100));
    let error = memory.read_file(&file, 0xff, &[(0x1000, 1), (0x2000, 1)]).unwrap().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    let error = memory.read_file(&file, 1 << 63, &[(0x1000, 1)]).unwrap().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    let read_only = File::open("/proc/self/exe").unwrap();
    assert!(memory.write_file(&read_only, 0, &[(0x1000, 1)]).unwrap().is_err());
    assert!(memory.read_file(&file, 1 << 63, &[]).unwrap().is_ok(), "nothing to do");
}

#[test]
fn what_is_read_from_a_file_is_dirty() {
    let memory = VmMemory(GuestMemoryMmap::<AtomicBitmap>::from_ranges(&RANGES).unwrap());
    let (file, _) = file(0x1000);
    let dirty = |gpa: u64| {
        let region = memory.0.find_region(GuestAddress(gpa)).unwrap();
        region.bitmap().dirty_at((gpa - region.start_addr().0) as usize)
    };
    memory.write_file(&file, 0, &[(0x1000, 0x10)]).unwrap().unwrap();
    assert!(!dirty(0x1000));
    memory.read_file(&file, 0, &[(0x4000, 0x10)]).unwrap().unwrap();
    assert!(dirty(0x4000) && !dirty(0x1000));
}
