//! Tests of guest memory over `vm-memory`.

use hv_memory::{BadAddress, GuestMemory, VmMemory};
use vm_memory::bitmap::{AtomicBitmap, Bitmap as _};
use vm_memory::{GuestAddress, GuestMemoryBackend as _, GuestMemoryMmap, GuestMemoryRegion as _};

/// Creates two adjacent ranges, and one after a hole.
fn memory() -> VmMemory<GuestMemoryMmap<()>> {
    let ranges =
        [(GuestAddress(0x1000), 0x1000), (GuestAddress(0x2000), 0x1000), (GuestAddress(0x4000), 0x1000)];
    VmMemory(GuestMemoryMmap::from_ranges(&ranges).unwrap())
}

#[test]
fn bytes_go_over_the_border_of_ranges_and_not_into_a_hole() {
    let memory = memory();
    memory.write(0x1ffe, &[1, 2, 3, 4]).unwrap();
    let mut read = [0; 6];
    memory.read(0x1ffd, &mut read).unwrap();
    assert_eq!(read, [0, 1, 2, 3, 4, 0]);
    assert_eq!(memory.write(0x2ffe, &[9; 4]), Err(BadAddress));
    memory.read(0x2ffa, &mut read).unwrap();
    assert_eq!(read, [0; 6], "nothing was written before the hole");
    assert_eq!(memory.read(0x0, &mut read), Err(BadAddress));
    assert_eq!(memory.read(u64::MAX - 1, &mut read), Err(BadAddress));
}

#[test]
fn a_word_is_aligned_memory() {
    let memory = memory();
    memory.store_release(0x4ffc, 0x1234_5678).unwrap();
    assert_eq!(memory.fetch_or(0x4ffc, 0x8000_0001), Ok(0x1234_5678));
    assert_eq!(memory.load_acquire(0x4ffc), Ok(0x9234_5679));
    assert_eq!(memory.swap(0x4ffc, 7), Ok(0x9234_5679));
    assert_eq!(memory.swap(0x4ffc, 0x9234_5679), Ok(7));
    let mut bytes = [0; 4];
    memory.read(0x4ffc, &mut bytes).unwrap();
    assert_eq!(bytes, 0x9234_5679u32.to_le_bytes());
    for gpa in [0x4ffd, 0x4ffe, 0x5000, 0x3000, 0x2, u64::MAX - 3] {
        assert_eq!(memory.load_acquire(gpa), Err(BadAddress), "{gpa:#x}");
        assert_eq!(memory.store_release(gpa, 1), Err(BadAddress), "{gpa:#x}");
        assert_eq!(memory.fetch_or(gpa, 1), Err(BadAddress), "{gpa:#x}");
        assert_eq!(memory.swap(gpa, 1), Err(BadAddress), "{gpa:#x}");
    }
}

#[test]
fn a_range_is_memory_as_a_whole_or_not() {
    let memory = memory();
    assert!(memory.contains(0x1000, 0x2000));
    assert!(!memory.contains(0x1000, 0x2001));
    assert!(!memory.contains(0xfff, 2));
    assert!(!memory.contains(u64::MAX, 2));
    assert!(!memory.contains(0x4000, u64::MAX));
}

#[test]
fn only_what_may_write_marks_memory_as_dirty() {
    let ranges = [(GuestAddress(0x1000), 0x4000)];
    let memory = VmMemory(GuestMemoryMmap::<AtomicBitmap>::from_ranges(&ranges).unwrap());
    memory.load_acquire(0x1000).unwrap();
    memory.store_release(0x2000, 0).unwrap();
    memory.fetch_or(0x3000, 0).unwrap();
    memory.swap(0x4000, 0).unwrap();
    let region = memory.0.find_region(GuestAddress(0x1000)).unwrap();
    let dirty = [0, 0x1000, 0x2000, 0x3000].map(|offset| region.bitmap().dirty_at(offset));
    assert_eq!(dirty, [false, true, true, true]);
}
