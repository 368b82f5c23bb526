//! Guest memory over the traits of `vm-memory`, for user-space hosts.

#[cfg(target_os = "linux")]
mod file;

use core::sync::atomic::{AtomicU32, Ordering};

use vm_memory::bitmap::{BS, Bitmap as _};
use vm_memory::{Bytes as _, GuestAddress, Permissions, VolatileMemory as _, VolatileSlice};

use crate::{BadAddress, GuestMemory};

/// Guest memory managed by `vm-memory`: a `GuestMemoryMmap`, for example.
#[derive(Clone, Debug)]
pub struct VmMemory<M>(
    /// The memory.
    pub M,
);

impl<M: vm_memory::GuestMemory> VmMemory<M> {
    /// Accesses the word at an address atomically, and marks it as dirty if the access may write it.
    fn word<T>(
        &self,
        gpa: u64,
        access: Permissions,
        work: impl FnOnce(&AtomicU32) -> T,
    ) -> Result<T, BadAddress> {
        let mut slices = self.0.get_slices(GuestAddress(gpa), 4, access).map_err(|_| BadAddress)?;
        let slice = slices.next().ok_or(BadAddress)?.map_err(|_| BadAddress)?;
        if !gpa.is_multiple_of(4) || slice.len() != 4 {
            return Err(BadAddress);
        }
        let word = slice.get_atomic_ref::<AtomicU32>(0).map_err(|_| BadAddress)?;
        let result = work(word);
        if access.has_write() {
            slice.bitmap().mark_dirty(0, 4);
        }
        Ok(result)
    }

    /// Returns a range's memory if that is in one piece, as it usually is: it is looked up once then.
    fn whole(
        &self,
        gpa: u64,
        len: usize,
        access: Permissions,
    ) -> Option<VolatileSlice<'_, BS<'_, M::Bitmap>>> {
        let slice = self.0.get_slices(GuestAddress(gpa), len, access).ok()?.next()?.ok()?;
        (slice.len() == len).then_some(slice)
    }
}

impl<M: vm_memory::GuestMemory> GuestMemory for VmMemory<M> {
    fn read(&self, gpa: u64, buf: &mut [u8]) -> Result<(), BadAddress> {
        if let Some(memory) = self.whole(gpa, buf.len(), Permissions::Read) {
            memory.copy_to(buf);
            return Ok(());
        }
        self.0.read_slice(buf, GuestAddress(gpa)).map_err(|_| BadAddress)
    }

    fn write(&self, gpa: u64, data: &[u8]) -> Result<(), BadAddress> {
        if let Some(memory) = self.whole(gpa, data.len(), Permissions::Write) {
            memory.copy_from(data);
            return Ok(());
        }
        // The part before a hole must not be written either.
        if !self.contains(gpa, data.len() as u64) {
            return Err(BadAddress);
        }
        self.0.write_slice(data, GuestAddress(gpa)).map_err(|_| BadAddress)
    }

    fn load_acquire(&self, gpa: u64) -> Result<u32, BadAddress> {
        self.word(gpa, Permissions::Read, |word| u32::from_le(word.load(Ordering::Acquire)))
    }

    fn store_release(&self, gpa: u64, value: u32) -> Result<(), BadAddress> {
        self.word(gpa, Permissions::Write, |word| word.store(value.to_le(), Ordering::Release))
    }

    fn fetch_or(&self, gpa: u64, bits: u32) -> Result<u32, BadAddress> {
        self.word(gpa, Permissions::ReadWrite, |word| {
            u32::from_le(word.fetch_or(bits.to_le(), Ordering::AcqRel))
        })
    }

    fn swap(&self, gpa: u64, value: u32) -> Result<u32, BadAddress> {
        self.word(gpa, Permissions::ReadWrite, |word| {
            u32::from_le(word.swap(value.to_le(), Ordering::AcqRel))
        })
    }

    fn contains(&self, gpa: u64, len: u64) -> bool {
        usize::try_from(len)
            .is_ok_and(|len| self.0.check_range(GuestAddress(gpa), len, Permissions::ReadWrite))
    }
}
