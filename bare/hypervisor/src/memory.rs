//! The shared structures (hv-wire) and the guest's RAM, as the hypervisor accesses them.
//!
//! Guest RAM belongs to the guest: it may change under every access. So nothing here makes a reference to it; each word
//! is read or written once, volatile or atomic, and the caller validates what it read afterwards.
#![expect(unsafe_code, reason = "guest RAM and the shared structures are raw addresses")]

use core::arch::asm;
use core::ops::Range;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use hv_partition::{BadAddress, GuestMemory};
use hv_wire::platform::{BOOT_INFO, REPORT};
use hv_wire::{BootInfo, Report, VpReport};
use zerocopy::{FromBytes as _, FromZeros as _};

/// Returns the boot information that the tool wrote, copied out so that later changes to it have no effect.
///
/// By words: a volatile read of the whole structure becomes one for each byte of its array, 28 KiB of code.
#[inline(never)]
pub(crate) fn boot_info() -> BootInfo {
    let mut info = BootInfo::new_zeroed();
    let words: &mut [u64; size_of::<BootInfo>() / 8] = zerocopy::transmute_mut!(&mut info);
    let from = BOOT_INFO as *const u64;
    for (n, word) in words.iter_mut().enumerate() {
        let from = from.wrapping_add(n);
        // SAFETY: the region is ours, mapped, aligned, and holds a BootInfo, of which this is a word.
        *word = unsafe { from.read_volatile() };
    }
    info
}

/// Returns the address of the run's report.
pub(crate) fn report() -> *mut Report {
    REPORT as *mut Report
}

/// The address of a field of the run's report.
macro_rules! report_field {
    ($($field:tt)+) => {{
        let report = $crate::memory::report();
        // SAFETY: the report is ours, mapped and aligned, and the field is inside it; this takes an address and makes
        // no reference.
        #[allow(unsafe_code, reason = "the proof holds wherever the macro is used")]
        unsafe {
            &raw mut (*report).$($field)+
        }
    }};
}
pub(crate) use report_field;

/// Returns the address of a VP's report.
pub(crate) fn vp_report(info: &BootInfo, vp: usize) -> NonNull<VpReport> {
    assert!(vp < info.vps as usize);
    let report = info.vp_report(vp) as *mut VpReport;
    NonNull::new(report).expect("no report is at address 0")
}

/// Memory for values that live as long as the machine.
pub(crate) struct Room {
    start: u64,
    next: u64,
    end: u64,
}

impl Room {
    /// Creates it of a range.
    ///
    /// # Safety
    ///
    /// The range is RAM, mapped at EL2 at its own address for as long as the machine runs, and nothing else accesses
    /// it.
    pub(crate) unsafe fn new(range: Range<u64>) -> Self {
        Self { start: range.start, next: range.start, end: range.end }
    }

    /// Makes `count` values in it.
    pub(crate) fn make<T>(&mut self, count: usize, new: impl Fn() -> T) -> &'static mut [T] {
        let start = self.next.next_multiple_of(align_of::<T>() as u64);
        let end = start + (count * size_of::<T>()) as u64;
        assert!(start != 0 && end <= self.end, "the VPs' memory up to {:#x} does not suffice", self.end);
        self.next = end;
        let first = start as *mut T;
        for n in 0..count {
            // SAFETY: the place is aligned and a part of the range for which the creator vouched, and nothing refers to
            // it yet: places are handed out once.
            unsafe { first.wrapping_add(n).write(new()) };
        }
        // SAFETY: all of the places have values now, are aligned, and a part of the range for which the creator
        // vouched; this is the only reference, since places are handed out once.
        unsafe { core::slice::from_raw_parts_mut(first, count) }
    }

    /// Returns the number of bytes in use.
    pub(crate) fn used(&self) -> u64 {
        self.next - self.start
    }
}

/// Bytes of the longest word.
const WORD: u64 = 8;

/// Returns memory as words.
///
/// # Safety
///
/// The range is RAM, mapped at EL2 at its own address for as long as the machine runs, and nothing else accesses it.
pub(crate) unsafe fn words(range: Range<u64>) -> &'static [AtomicU64] {
    let len = (range.end - range.start) as usize / size_of::<AtomicU64>();
    if len == 0 {
        return &[];
    }
    assert!(range.start.is_multiple_of(align_of::<AtomicU64>() as u64) && range.start != 0);
    // SAFETY: the caller vouches for the range, which is aligned and not at address 0; any bytes are words, and atomics
    // are all that reaches them.
    unsafe { core::slice::from_raw_parts(range.start as *const AtomicU64, len) }
}

/// The guest's RAM. Addresses are guest physical, which equal the physical ones.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GuestRam {
    base: u64,
    size: u64,
}

impl GuestRam {
    /// Creates the guest's memory over a range of RAM.
    ///
    /// # Safety
    ///
    /// The range is RAM, mapped at EL2 at its own address, and Rust code uses no part of it in any other way.
    pub(crate) unsafe fn new(base: u64, size: u64) -> Self {
        assert!(base.is_multiple_of(WORD) && size.is_multiple_of(WORD), "guest RAM has a part of a word");
        Self { base, size }
    }

    /// Returns the address, which is known to begin `len` bytes of guest RAM.
    fn check(&self, gpa: u64, len: usize) -> Result<u64, BadAddress> {
        let offset = gpa.checked_sub(self.base).ok_or(BadAddress)?;
        let room = self.size.checked_sub(offset).ok_or(BadAddress)?;
        if len as u64 <= room { Ok(gpa) } else { Err(BadAddress) }
    }

    /// Returns the address of `len` bytes, if they are guest RAM.
    pub(crate) fn place(&self, gpa: u64, len: u64) -> Result<u64, BadAddress> {
        self.check(gpa, usize::try_from(len).map_err(|_| BadAddress)?)
    }

    /// Returns the address of a word of up to 8 bytes, if it is guest RAM and aligned.
    #[inline]
    fn word<T>(&self, gpa: u64) -> Result<*mut T, BadAddress> {
        const { assert!(size_of::<T>() as u64 <= WORD && size_of::<T>() == align_of::<T>()) };
        // Guest RAM has no part of a word, so an aligned one that begins in it ends in it.
        let begins = gpa.wrapping_sub(self.base) < self.size;
        if begins && gpa.is_multiple_of(align_of::<T>() as u64) { Ok(gpa as *mut T) } else { Err(BadAddress) }
    }

    fn atomic_u32(&self, gpa: u64) -> Result<&AtomicU32, BadAddress> {
        // SAFETY: `word` found it inside guest RAM and aligned; guest RAM lives as long as the machine, and Rust code
        // reaches it only through volatile and atomic accesses.
        Ok(unsafe { AtomicU32::from_ptr(self.word(gpa)?) })
    }
}

/// Copies words, each of them once: a guest may write to its own meanwhile.
///
/// # Safety
///
/// Both ranges are mapped and aligned, the range at `to` is writable, and they do not overlap.
pub(crate) unsafe fn copy_words(to: *mut u64, from: *const u64, words: usize) {
    // SAFETY: the caller promises mapped, aligned, writable ranges that do not overlap. This reads `words` words at
    // `from` and writes as many at `to`: eight at a time, and then those that the lowest three bits of the number
    // count. It is assembly since Rust's own copies must not race with a write, and a guest may write at any time.
    unsafe {
        asm!(
            "lsr {n}, {words}, #3",
            "cbz {n}, 3f",
            "2:",
            "ldp {a}, {b}, [{from}], #16",
            "ldp {c}, {d}, [{from}], #16",
            "stp {a}, {b}, [{to}], #16",
            "stp {c}, {d}, [{to}], #16",
            "ldp {a}, {b}, [{from}], #16",
            "ldp {c}, {d}, [{from}], #16",
            "stp {a}, {b}, [{to}], #16",
            "stp {c}, {d}, [{to}], #16",
            "subs {n}, {n}, #1",
            "b.ne 2b",
            "3:",
            "tbz {words}, #2, 4f",
            "ldp {a}, {b}, [{from}], #16",
            "ldp {c}, {d}, [{from}], #16",
            "stp {a}, {b}, [{to}], #16",
            "stp {c}, {d}, [{to}], #16",
            "4:",
            "tbz {words}, #1, 5f",
            "ldp {a}, {b}, [{from}], #16",
            "stp {a}, {b}, [{to}], #16",
            "5:",
            "tbz {words}, #0, 6f",
            "ldr {a}, [{from}]",
            "str {a}, [{to}]",
            "6:",
            a = out(reg) _, b = out(reg) _, c = out(reg) _, d = out(reg) _, n = out(reg) _,
            words = in(reg) words, from = inout(reg) from => _, to = inout(reg) to => _,
            options(nostack),
        );
    }
}

/// Copies in the widest pieces to which the guest's side is aligned; each byte is touched once. `words` copies whole
/// words where our side is aligned as well, and says whether it is: elsewhere a word is moved byte by byte there.
macro_rules! copy {
    (
        $address:expr, $len:expr,
        |$at:ident: $word:ident, $index:ident| $body:expr,
        words: |$from:ident, $range:ident| $words:expr
    ) => {{
        let (address, len) = ($address, $len);
        let mut done = 0;
        macro_rules! piece {
            ($piece:ty) => {{
                type $word = $piece;
                let ($at, $index) = ((address as *mut u8).wrapping_add(done).cast::<$word>(), done);
                $body;
                done += size_of::<$word>();
            }};
        }
        if address % 8 != 0 {
            // Up to a word's beginning.
            if address % 2 != 0 && len >= 1 {
                piece!(u8);
            }
            if (address + done as u64) % 4 == 2 && len - done >= 2 {
                piece!(u16);
            }
            if (address + done as u64) % 8 == 4 && len - done >= 4 {
                piece!(u32);
            }
        }
        if (address + done as u64).is_multiple_of(8) {
            if len - done >= 8 {
                let $range = done..done + (len - done) / 8 * 8;
                let ($from, behind) = ((address as *mut u8).wrapping_add(done).cast::<u64>(), $range.end);
                if $words {
                    done = behind;
                }
            }
            while len - done >= 8 {
                piece!(u64);
            }
            if len - done >= 4 {
                piece!(u32);
            }
        }
        while done < len {
            piece!(u8);
        }
    }};
}

impl GuestRam {
    /// Copies bytes out of guest RAM that are not elements of a list.
    #[inline(never)]
    fn read_any(&self, gpa: u64, buf: &mut [u8]) -> Result<(), BadAddress> {
        copy!(self.check(gpa, buf.len())?, buf.len(), |at: Word, index| {
            // SAFETY: `check` found the range inside guest RAM, and a word is read only where the address is aligned to
            // it; Rust code reaches guest RAM only through volatile and atomic accesses.
            let word = unsafe { at.read_volatile() };
            buf[index..index + size_of::<Word>()].copy_from_slice(&word.to_le_bytes());
        }, words: |from, range| {
            <[u64]>::mut_from_bytes(&mut buf[range]).is_ok_and(|words| {
                // SAFETY: `check` found the range inside guest RAM, and `copy!` aligned it. `words` is as long, and a
                // part of EL2's memory, which guest RAM is not.
                unsafe { copy_words(words.as_mut_ptr(), from, words.len()) };
                true
            })
        });
        Ok(())
    }

    /// Copies bytes into guest RAM that are not elements of a list.
    #[inline(never)]
    fn write_any(&self, gpa: u64, data: &[u8]) -> Result<(), BadAddress> {
        copy!(self.check(gpa, data.len())?, data.len(), |at: Word, index| {
            let mut bytes = [0; size_of::<Word>()];
            bytes.copy_from_slice(&data[index..index + size_of::<Word>()]);
            // SAFETY: `check` found the range inside guest RAM, and a word is written only where the address is aligned
            // to it; Rust code reaches guest RAM only through volatile and atomic accesses.
            unsafe { at.write_volatile(Word::from_le_bytes(bytes)) };
        }, words: |to, range| {
            <[u64]>::ref_from_bytes(&data[range]).is_ok_and(|words| {
                // SAFETY: `check` found the range inside guest RAM, and `copy!` aligned it. `words` is as long, and a
                // part of EL2's memory, which guest RAM is not.
                unsafe { copy_words(to, words.as_ptr(), words.len()) };
                true
            })
        });
        Ok(())
    }
}

impl GuestMemory for GuestRam {
    /// Reads guest memory; the length of a word is known where this is inlined, so nothing is called.
    #[inline]
    fn read(&self, gpa: u64, buf: &mut [u8]) -> Result<(), BadAddress> {
        match buf.len() {
            4 if gpa.is_multiple_of(4) => {
                let at = self.word::<u32>(gpa)?;
                // SAFETY: `word` found it inside guest RAM and aligned, and Rust code reaches guest RAM only through
                // volatile and atomic accesses.
                buf.copy_from_slice(&unsafe { at.read_volatile() }.to_le_bytes());
                Ok(())
            }
            8 if gpa.is_multiple_of(8) => {
                let at = self.word::<u64>(gpa)?;
                // SAFETY: `word` found it inside guest RAM and aligned, and Rust code reaches guest RAM only through
                // volatile and atomic accesses.
                buf.copy_from_slice(&unsafe { at.read_volatile() }.to_le_bytes());
                Ok(())
            }
            16 if gpa.is_multiple_of(8) => {
                let at = self.check(gpa, buf.len())? as *const u64;
                for (n, word) in buf.chunks_exact_mut(8).enumerate() {
                    // SAFETY: `check` found both words inside guest RAM, and they are aligned; Rust code reaches guest
                    // RAM only through volatile and atomic accesses.
                    word.copy_from_slice(&unsafe { at.wrapping_add(n).read_volatile() }.to_le_bytes());
                }
                Ok(())
            }
            _ => self.read_any(gpa, buf),
        }
    }

    /// Writes guest memory, inlined like [`read`](Self::read).
    #[inline]
    fn write(&self, gpa: u64, data: &[u8]) -> Result<(), BadAddress> {
        let (words, []) = data.as_chunks::<8>() else { return self.write_any(gpa, data) };
        if let [word] = words
            && gpa.is_multiple_of(8)
        {
            let at = self.word::<u64>(gpa)?;
            // SAFETY: `word` found it inside guest RAM and aligned, and Rust code reaches guest RAM only through
            // volatile and atomic accesses.
            unsafe { at.write_volatile(u64::from_le_bytes(*word)) };
            return Ok(());
        }
        if words.len() != 2 || !gpa.is_multiple_of(8) {
            return self.write_any(gpa, data);
        }
        let at = self.check(gpa, data.len())? as *mut u64;
        for (n, word) in words.iter().enumerate() {
            // SAFETY: `check` found all words inside guest RAM, and they are aligned; Rust code reaches guest RAM only
            // through volatile and atomic accesses.
            unsafe { at.wrapping_add(n).write_volatile(u64::from_le_bytes(*word)) };
        }
        Ok(())
    }

    #[inline]
    fn load_acquire(&self, gpa: u64) -> Result<u32, BadAddress> {
        Ok(self.atomic_u32(gpa)?.load(Ordering::Acquire))
    }

    #[inline]
    fn store_release(&self, gpa: u64, value: u32) -> Result<(), BadAddress> {
        self.atomic_u32(gpa)?.store(value, Ordering::Release);
        Ok(())
    }

    #[inline]
    fn fetch_or(&self, gpa: u64, bits: u32) -> Result<u32, BadAddress> {
        Ok(self.atomic_u32(gpa)?.fetch_or(bits, Ordering::AcqRel))
    }

    fn swap(&self, gpa: u64, value: u32) -> Result<u32, BadAddress> {
        Ok(self.atomic_u32(gpa)?.swap(value, Ordering::AcqRel))
    }

    fn contains(&self, gpa: u64, len: u64) -> bool {
        usize::try_from(len).is_ok_and(|len| self.check(gpa, len).is_ok())
    }
}
