//! TLB flushes, and interrupts to sets of VPs.
//!
//! Source: TLFS, "Virtual MMU" and "Virtual Interrupt Controller".

use hv_tlfs::flush::{FlushFlags, TlbFlush, TlbFlushEx};
use hv_tlfs::interrupt::{InterruptSource, RetargetInterruptInput, SendIpi, SendIpiEx};
use hv_tlfs::page;
use hv_tlfs::sets::{GenericSetFormat, VpSetHeader};
use hv_tlfs::status::HvStatus;
use hv_tlfs::vp::PARTITION_ID_SELF;

use lock_api::RawMutex;

use crate::event::Cause;
use crate::frame::{CallFrame, Outcome, refused};
use crate::general::Registers;
use crate::host::{Flush, Host, Retarget};
use crate::partition::Partition;
use crate::sets::VpMask;
use crate::synic::interrupt;

/// Vectors that a synthetic cluster IPI may have (TLFS).
const IPI_VECTORS: core::ops::RangeInclusive<u32> = 0x10..=0xff;
/// Range of the plain format: additional pages.
const ADDITIONAL: u64 = 0xfff;
/// Ranges of the extended format: additional pages, large pages, and their size (openvmm, `HvGvaRangeExtended`).
const EXTENDED_ADDITIONAL: u64 = 0x7ff;
const EXTENDED_LARGE: u64 = 1 << 11;
const EXTENDED_1G: u64 = 1 << 12;
const PAGES_2M: u64 = 512;
const PAGES_1G: u64 = 512 * 512;

impl<R: RawMutex> Partition<'_, R> {
    /// Reads the VPs of a set whose banks are in the variable header from word `first` on.
    fn read_set<H: Host, X: Registers>(
        &self,
        frame: &CallFrame<'_, H, X>,
        set: VpSetHeader,
        first: usize,
    ) -> Result<VpMask, HvStatus> {
        if set.format == u64::from(GenericSetFormat::ALL.0) {
            return Ok(VpMask::all(self.vp_count()));
        }
        if set.format != u64::from(GenericSetFormat::SPARSE_4K.0) {
            return Err(HvStatus::INVALID_PARAMETER);
        }
        if frame.variable / 8 != first + set.valid_bank_mask.count_ones() as usize {
            return Err(HvStatus::INVALID_HYPERCALL_INPUT);
        }
        VpMask::from_banks(self.vp_count(), set.valid_bank_mask, |n| frame.variable_word(first + n))
    }

    fn ipi(&self, host: &impl Host, vector: u32, targets: &VpMask) -> Result<(), HvStatus> {
        if !IPI_VECTORS.contains(&vector) {
            return Err(HvStatus::INVALID_PARAMETER);
        }
        for vp in targets.iter() {
            interrupt(host, vp, vector, Cause::Ipi);
        }
        Ok(())
    }

    pub(crate) fn send_ipi<H: Host, X: Registers>(
        &self,
        frame: &mut CallFrame<'_, H, X>,
    ) -> Result<(), HvStatus> {
        let SendIpi { vector, target_vtl, reserved, cpu_mask } = frame.read(0)?;
        Self::check_vtl(target_vtl)?;
        if reserved != [0; 3] {
            return Err(HvStatus::INVALID_PARAMETER);
        }
        self.ipi(frame.host, vector, &VpMask::from_mask(self.vp_count(), cpu_mask))
    }

    pub(crate) fn send_ipi_ex<H: Host, X: Registers>(
        &self,
        frame: &mut CallFrame<'_, H, X>,
    ) -> Result<(), HvStatus> {
        let SendIpiEx { vector, target_vtl, reserved, vp_set } = frame.read(0)?;
        Self::check_vtl(target_vtl)?;
        if reserved != [0; 3] {
            return Err(HvStatus::INVALID_PARAMETER);
        }
        let targets = self.read_set(frame, vp_set, 0)?;
        self.ipi(frame.host, vector, &targets)
    }

    /// Reads a flush's flags. `list`: the call has a list of ranges.
    fn check_flags(&self, flags: FlushFlags, list: bool) -> Result<(), HvStatus> {
        let extended = list && self.config().profile.features.privileges.extended_gva_ranges();
        let allowed = FlushFlags(0)
            .with_all_processors(true)
            .with_all_virtual_address_spaces(true)
            .with_non_global_mappings_only(!list)
            .with_use_extended_range_format(extended);
        if flags.0 & !allowed.0 == 0 { Ok(()) } else { Err(HvStatus::INVALID_PARAMETER) }
    }

    pub(crate) fn flush_space<H: Host, X: Registers>(
        &self,
        frame: &mut CallFrame<'_, H, X>,
    ) -> Result<(), HvStatus> {
        let TlbFlush { address_space, flags, processor_mask } = frame.read(0)?;
        self.check_flags(flags, false)?;
        let targets = self.masked(flags, processor_mask);
        flush_all(frame.host, &targets, flags, address_space);
        Ok(())
    }

    pub(crate) fn flush_space_ex<H: Host, X: Registers>(
        &self,
        frame: &mut CallFrame<'_, H, X>,
    ) -> Result<(), HvStatus> {
        let TlbFlushEx { address_space, flags, vp_set } = frame.read(0)?;
        self.check_flags(flags, false)?;
        let targets = self.set_or_all(frame, flags, vp_set)?;
        flush_all(frame.host, &targets, flags, address_space);
        Ok(())
    }

    pub(crate) fn flush_list<H: Host, X: Registers>(&self, frame: &mut CallFrame<'_, H, X>) -> Outcome {
        let read = frame.read::<TlbFlush>(0).and_then(|h| {
            self.check_flags(h.flags, true)?;
            Ok((h.flags, h.address_space, self.masked(h.flags, h.processor_mask)))
        });
        self.flush_ranges(frame, read)
    }

    pub(crate) fn flush_list_ex<H: Host, X: Registers>(&self, frame: &mut CallFrame<'_, H, X>) -> Outcome {
        let read = frame.read::<TlbFlushEx>(0).and_then(|h| {
            self.check_flags(h.flags, true)?;
            Ok((h.flags, h.address_space, self.set_or_all(frame, h.flags, h.vp_set)?))
        });
        self.flush_ranges(frame, read)
    }

    fn masked(&self, flags: FlushFlags, mask: u64) -> VpMask {
        if flags.all_processors() {
            VpMask::all(self.vp_count())
        } else {
            VpMask::from_mask(self.vp_count(), mask)
        }
    }

    fn set_or_all<H: Host, X: Registers>(
        &self,
        frame: &CallFrame<'_, H, X>,
        flags: FlushFlags,
        set: VpSetHeader,
    ) -> Result<VpMask, HvStatus> {
        if flags.all_processors() { Ok(VpMask::all(self.vp_count())) } else { self.read_set(frame, set, 0) }
    }

    fn flush_ranges<H: Host, X: Registers>(
        &self,
        frame: &mut CallFrame<'_, H, X>,
        header: Result<(FlushFlags, u64, VpMask), HvStatus>,
    ) -> Outcome {
        let (flags, address_space, targets) = match header {
            Ok(header) => header,
            Err(status) => return refused(frame, status),
        };
        // The guest changed its tables before the call: one flush of everything covers all ranges, including those that
        // are not read. It ends the call: each continuation would flush everything again.
        let many = u64::from(frame.count - frame.start) > Flush::FEW_PAGES;
        let mut left = if many { 0 } else { Flush::FEW_PAGES };
        let extended = flags.use_extended_range_format();
        self.each_part(frame, u16::MAX, |frame, range| {
            let first: u64 = match frame.read(frame.list + range.start * 8) {
                Ok(first) => first,
                Err(status) => return (0, Err(status)),
            };
            let (address, pages) = decode_range(first, extended);
            if let Some(few) = left.checked_sub(pages) {
                left = few;
                let address_space = (!flags.all_virtual_address_spaces()).then_some(address_space);
                frame.host.flush_tlb(&targets, Flush::Pages { address_space, address, pages });
                (1, Ok(()))
            } else {
                flush_all(frame.host, &targets, flags, address_space);
                (usize::from(frame.count) - range.start, Ok(()))
            }
        })
    }

    pub(crate) fn retarget<H: Host, X: Registers>(
        &self,
        frame: &mut CallFrame<'_, H, X>,
    ) -> Result<(), HvStatus> {
        let input: RetargetInterruptInput = frame.read(0)?;
        if input.partition_id.0 != PARTITION_ID_SELF && input.partition_id.0 != self.config().partition_id {
            return Err(HvStatus::INVALID_PARTITION_ID);
        }
        let target = input.target;
        if input.entry.source != InterruptSource::MSI || input.reserved != 0 || target.flags.reserved() != 0 {
            return Err(HvStatus::INVALID_PARAMETER);
        }
        let targets = if target.flags.processor_set() {
            // The set's second word, the bank mask, is in the variable header.
            let set = VpSetHeader { format: target.mask_or_format, valid_bank_mask: frame.variable_word(0)? };
            self.read_set(frame, set, 1)?
        } else {
            VpMask::from_mask(self.vp_count(), target.mask_or_format)
        };
        frame.host.retarget_interrupt(&Retarget {
            device: input.device_id,
            address: input.entry.msi.address,
            data: input.entry.msi.data,
            vector: target.vector,
            multicast: target.flags.multicast(),
            targets: &targets,
        })
    }
}

fn flush_all(host: &impl Host, targets: &VpMask, flags: FlushFlags, address_space: u64) {
    let address_space = (!flags.all_virtual_address_spaces()).then_some(address_space);
    let non_global_only = flags.non_global_mappings_only();
    host.flush_tlb(targets, Flush::All { address_space, non_global_only });
}

/// Returns the first address and the number of 4096-byte pages of a range.
fn decode_range(range: u64, extended: bool) -> (u64, u64) {
    let base = range & page::MASK;
    if !extended {
        return (base, (range & ADDITIONAL) + 1);
    }
    let count = (range & EXTENDED_ADDITIONAL) + 1;
    match (range & EXTENDED_LARGE != 0, range & EXTENDED_1G != 0) {
        (false, _) => (base, count),
        (true, false) => (range & !(PAGES_2M * page::SIZE as u64 - 1), count * PAGES_2M),
        (true, true) => (range & !(PAGES_1G * page::SIZE as u64 - 1), count * PAGES_1G),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_one_page_and_the_additional_ones() {
        assert_eq!(decode_range(0x1234_5000, false), (0x1234_5000, 1));
        assert_eq!(decode_range(0x1234_5fff, false), (0x1234_5000, 4096));
    }

    #[test]
    fn an_extended_range_can_count_large_pages() {
        assert_eq!(decode_range(0x1234_5003, true), (0x1234_5000, 4));
        assert_eq!(decode_range(0x4020_0000 | EXTENDED_LARGE | 1, true), (0x4020_0000, 1024));
        assert_eq!(decode_range(0x4000_0000 | EXTENDED_LARGE | EXTENDED_1G, true), (0x4000_0000, PAGES_1G));
    }
}
