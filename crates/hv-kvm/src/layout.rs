//! The addresses of the machine's devices.

use std::ops::Range;

use hv_cpu::gic::{gicd, gicr};

/// Guest physical addresses and interrupts of the devices, which the guest's firmware tables describe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Layout {
    /// GIC distributor, 64 KiB.
    pub distributor: u64,
    /// First GIC redistributor; the others follow every [`REDISTRIBUTOR_SIZE`](Self::REDISTRIBUTOR_SIZE) bytes.
    pub redistributors: u64,
    /// First redistributor of the virtual CPUs that no VP is: outside the tables.
    pub helper_redistributors: u64,
    /// The page with their program: outside the tables, and read-only.
    pub helper_page: u64,
    /// PL011 UART, 4 KiB.
    pub uart: u64,
    /// INTID of the UART, an SPI, level-sensitive.
    pub uart_intid: u32,
}

impl Layout {
    /// The devices at the addresses of QEMU's `virt` machine, with RAM expected from 0x4000_0000 on, and the address
    /// window of VMBus in 0x1000_0000 to 0x3fff_ffff.
    pub const VIRT: Self = Self {
        distributor: 0x0800_0000,
        redistributors: 0x080a_0000,
        helper_redistributors: 0x0b00_0000,
        helper_page: 0x0a00_0000,
        uart: 0x0900_0000,
        uart_intid: 33,
    };

    /// Bytes of the distributor's frame.
    pub const DISTRIBUTOR_SIZE: u64 = 0x1_0000;
    /// Bytes of a redistributor: the RD and the SGI frame of 64 KiB each.
    pub const REDISTRIBUTOR_SIZE: u64 = 0x2_0000;
    /// Bytes of the UART's window.
    pub const UART_SIZE: u64 = 0x1000;
    /// Bytes of the page with the helpers' program: the largest page of a host.
    pub const HELPER_PAGE_SIZE: u64 = 0x1_0000;
    /// Number of interrupts: 16 SGIs, 16 PPIs, 32 SPIs.
    pub const INTIDS: u32 = 64;
    /// Maximum number of VPs: their redistributors end before the UART.
    pub const MAX_VPS: usize = 120;
    /// Number of helpers for threads that are no VP's: as many of them have one of their own. Linux before 6.13 waits
    /// for all processors, some ten milliseconds, where a thread runs a virtual CPU that another one has run before.
    pub const OTHERS: usize = 8;

    /// Returns the address at which a write makes an interrupt pending, and the value to write. The VP is ignored for
    /// an SPI. `None` if there is no such interrupt.
    ///
    /// Source: Arm GIC Architecture Specification (IHI 0069), "GICR_ISPENDR0", "GICD_ISPENDR".
    pub(crate) fn pending(&self, vp: usize, intid: u32) -> Option<(u64, u32)> {
        const SGI_FRAME: u64 = gicr::SGI_FRAME as u64;
        const ISPENDR: u64 = gicd::ISPENDR as u64;
        let bit = 1 << (intid % 32);
        match intid {
            0..32 => {
                let redistributor = self.redistributors + vp as u64 * Self::REDISTRIBUTOR_SIZE;
                Some((redistributor + SGI_FRAME + ISPENDR, bit))
            }
            32..Self::INTIDS => Some((self.distributor + ISPENDR + u64::from(intid / 32) * 4, bit)),
            _ => None,
        }
    }

    /// Returns the windows of the devices of a machine with this many VPs, and of what the guest does not see.
    pub(crate) fn windows(&self, vps: usize) -> [Range<u64>; 5] {
        let redistributors = |count: usize| count as u64 * Self::REDISTRIBUTOR_SIZE;
        [
            (self.distributor, Self::DISTRIBUTOR_SIZE),
            (self.redistributors, redistributors(vps)),
            (self.uart, Self::UART_SIZE),
            (self.helper_page, Self::HELPER_PAGE_SIZE),
            (self.helper_redistributors, redistributors(vps + Self::OTHERS)),
        ]
        .map(|(start, size)| start..start + size)
    }

    /// Returns the offset of an address in the UART's window.
    pub(crate) fn in_uart(&self, address: u64) -> Option<u64> {
        address.checked_sub(self.uart).filter(|offset| *offset < Self::UART_SIZE)
    }
}

#[cfg(test)]
mod tests {
    use super::Layout;

    #[test]
    fn devices_do_not_overlap() {
        let mut ranges = Layout::VIRT.windows(Layout::MAX_VPS).to_vec();
        // VMBus's window and RAM.
        ranges.push(0x1000_0000..u64::MAX);
        ranges.sort_by_key(|range| range.start);
        assert!(ranges.windows(2).all(|pair| pair[0].end <= pair[1].start), "{ranges:x?}");
    }

    #[test]
    fn an_interrupt_is_pended_in_the_frame_of_its_vp_or_in_the_distributor() {
        let at = Layout::VIRT;
        assert_eq!(at.pending(0, 18), Some((0x080b_0200, 1 << 18)));
        assert_eq!(at.pending(3, 31), Some((0x0811_0200, 1 << 31)));
        assert_eq!(at.pending(3, 33), Some((0x0800_0204, 2)));
        assert_eq!(at.pending(0, 64), None);
    }
}
