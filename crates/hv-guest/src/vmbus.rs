//! VMBus resources: the interrupt and the MMIO windows, from firmware's tables, and the connections for its messages
//! and events.
//!
//! Source: Linux, drivers/hv/vmbus_drv.c (`vmbus_acpi_add`, `vmbus_device_add`) and drivers/hv/connection.c; for the
//! numbers, [`hv_tlfs::vmbus::connection`], which names its own sources.

use core::ops::RangeInclusive;

use hv_tlfs::synic::{ConnectionId, MessageType};
use hv_tlfs::vmbus::connection;

use crate::interrupts::Intid;
use crate::partition::Partition;
use crate::synic::SintIndex;

/// The `_HID` of the VMBus device in the ACPI namespace; a device may have it as its `_CID`.
pub const ACPI_ID: [&str; 3] = ["VMBUS", "MSFT1000", "ACPI0004"];
/// The `compatible` of the VMBus node in a device tree.
pub const COMPATIBLE: &str = "microsoft,vmbus";
/// Connection for messages to the host, for VMBus 5.0 and later.
#[doc(alias = "VMBUS_MESSAGE_CONNECTION_ID_4")]
pub const MESSAGES: ConnectionId = ConnectionId(connection::MESSAGE_CONNECTION_ID_4);
/// Connection for messages to the host, for VMBus before 5.0.
#[doc(alias = "VMBUS_MESSAGE_CONNECTION_ID")]
pub const OLD_MESSAGES: ConnectionId = ConnectionId(connection::MESSAGE_CONNECTION_ID);
/// Connection that signals channels without a connection of their own.
#[doc(alias = "VMBUS_EVENT_CONNECTION_ID")]
pub const EVENTS: ConnectionId = ConnectionId(connection::EVENT_CONNECTION_ID);
/// The type of VMBus messages, in both directions.
pub const MESSAGE_TYPE: MessageType = MessageType(connection::MESSAGE_TYPE);
/// The source for messages from the host.
#[doc(alias = "VMBUS_MESSAGE_SINT")]
pub const SINT: SintIndex = SintIndex::VMBUS;

/// Iterates over the resource descriptors in a raw `_CRS` buffer, up to the end tag or the first truncated one.
///
/// Source: ACPI, "Resource Data Types for ACPI" and "End Tag".
fn descriptors(resources: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut rest = resources;
    core::iter::from_fn(move || {
        let tag = *rest.first()?;
        let length = if tag & 0x80 == 0 {
            if tag >> 3 == 0xf {
                return None;
            }
            1 + usize::from(tag & 7)
        } else {
            3 + usize::from(u16::from_le_bytes([*rest.get(1)?, *rest.get(2)?]))
        };
        let descriptor = rest.get(..length)?;
        rest = rest.get(length..)?;
        Some((tag, descriptor))
    })
}

/// Finds the interrupt in the resources of the ACPI device (the raw `_CRS` buffer): the first extended interrupt
/// descriptor.
///
/// Source: ACPI, "Extended Interrupt Descriptor".
#[must_use]
pub fn acpi_interrupt(resources: &[u8]) -> Option<Intid> {
    let (_, descriptor) = descriptors(resources).find(|(tag, _)| *tag == 0x89)?;
    Intid::new(u32::from_le_bytes(descriptor.get(5..9)?.try_into().ok()?))
}

/// Iterates over the MMIO windows for VMBus devices in the resources of an ACPI device (the raw `_CRS` buffer): its
/// memory address space descriptors, 32 and 64 bits wide.
///
/// The windows belong to the VMBus device or to one of its ancestors in the namespace: look at the device first, then
/// at its parent, until one has windows.
///
/// ```
/// use hv_guest::vmbus;
///
/// // QWord memory: 0x1000_0000 to 0x2fff_ffff; end tag.
/// let mut crs = [0; 48];
/// crs[..4].copy_from_slice(&[0x8a, 43, 0, 0]);
/// crs[14..22].copy_from_slice(&0x1000_0000_u64.to_le_bytes());
/// crs[22..30].copy_from_slice(&0x2fff_ffff_u64.to_le_bytes());
/// crs[46] = 0x79;
/// assert!(vmbus::acpi_windows(&crs).eq([0x1000_0000..=0x2fff_ffff]));
/// ```
///
/// Source: ACPI, "Address Space Resource Descriptors"; Linux, drivers/hv/vmbus_drv.c, `vmbus_walk_resources`.
pub fn acpi_windows(resources: &[u8]) -> impl Iterator<Item = RangeInclusive<u64>> {
    descriptors(resources).filter_map(|(tag, descriptor)| {
        const MEMORY: u8 = 0;
        if *descriptor.get(3)? != MEMORY {
            return None;
        }
        let dword = |at| Some(u64::from(u32::from_le_bytes(descriptor.get(at..at + 4)?.try_into().ok()?)));
        let qword = |at| Some(u64::from_le_bytes(descriptor.get(at..at + 8)?.try_into().ok()?));
        match tag {
            0x87 => Some(dword(10)?..=dword(14)?),
            0x8a => Some(qword(14)?..=qword(22)?),
            _ => None,
        }
    })
}

/// Decodes the interrupt from the raw `interrupts` property of the device tree node: cells of 32 bits, big-endian.
#[must_use]
pub fn device_tree_interrupt(interrupts: &[u8]) -> Option<Intid> {
    let cell = |n: usize| Some(u32::from_be_bytes(interrupts.get(4 * n..4 * n + 4)?.try_into().ok()?));
    Intid::from_gic_cells(cell(0)?, cell(1)?)
}

/// Iterates over the MMIO windows for VMBus devices in the raw `ranges` property of the device tree node: cells of 32
/// bits, big-endian. Address and size have two cells each, in the node and in its parent, as the binding requires.
///
/// ```
/// use hv_guest::vmbus;
///
/// let cells = [0, 0x1000_0000, 0, 0x1000_0000, 0, 0x2000_0000_u32];
/// let ranges: Vec<u8> = cells.iter().flat_map(|cell| cell.to_be_bytes()).collect();
/// assert!(vmbus::device_tree_windows(&ranges).eq([0x1000_0000..=0x2fff_ffff]));
/// ```
///
/// Source: Linux, Documentation/devicetree/bindings/bus/microsoft,vmbus.yaml; drivers/hv/vmbus_drv.c,
/// `vmbus_device_add`.
pub fn device_tree_windows(ranges: &[u8]) -> impl Iterator<Item = RangeInclusive<u64>> {
    ranges.chunks_exact(24).filter_map(|range| {
        let number = |at| Some(u64::from_be_bytes(range.get(at..at + 8)?.try_into().ok()?));
        let (start, size) = (number(8)?, number(16)?);
        Some(start..=start.checked_add(size.checked_sub(1)?)?)
    })
}

/// Returns true if the partition has the privileges that VMBus needs: SynIC, messages and events.
#[must_use]
pub fn is_allowed<C: crate::conduit::Conduit>(partition: &Partition<C>) -> bool {
    let privileges = partition.information().features.privileges;
    privileges.access_synic() && privileges.post_messages() && privileges.signal_events()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_is_the_one_of_the_table() {
        assert_eq!(u32::from(SINT.number()), connection::MESSAGE_SINT);
    }

    #[test]
    fn the_interrupt_is_found_behind_other_resources() {
        // A memory range of 9 bytes; an extended interrupt: edge, 18; the end tag.
        let resources = [0x86, 9, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0x89, 6, 0, 0b0011, 1, 18, 0, 0, 0, 0x79, 0];
        assert_eq!(acpi_interrupt(&resources).map(Intid::number), Some(18));
        for end in 0..resources.len() - 2 {
            assert_eq!(acpi_interrupt(&resources[..end]), None, "{end}");
        }
        assert_eq!(acpi_interrupt(&[0x79, 0, 0x89, 6, 0, 3, 1, 18, 0, 0, 0]), None, "after the end");
        assert_eq!(acpi_interrupt(&[0x89, 0, 0]), None);
        assert_eq!(device_tree_interrupt(&[0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 1]).map(Intid::number), Some(18));
        assert_eq!(device_tree_interrupt(&[0, 0, 0, 1, 0, 0]), None);
    }

    #[test]
    fn windows_are_the_memory_of_the_resources() {
        let mut resources = std::vec![0x89, 6, 0, 0b0011, 1, 18, 0, 0, 0];
        let mut space = |tag: u8, kind: u8, size: usize, first: u64, last: u64| {
            let start = resources.len();
            resources.extend([tag, 3 + 5 * size as u8, 0, kind, 0, 0]);
            for number in [0, first, last, 0, 0] {
                resources.extend(&number.to_le_bytes()[..size]);
            }
            resources.len() - start
        };
        assert_eq!(space(0x87, 0, 4, 0xf800_0000, 0xfed3_ffff), 26);
        space(0x87, 1, 4, 0x3f8, 0x3ff); // I/O ports
        assert_eq!(space(0x8a, 0, 8, 0xf_e000_0000, 0xf_ffff_ffff), 46);
        let windows = [0xf800_0000..=0xfed3_ffff, 0xf_e000_0000..=0xf_ffff_ffff];
        assert!(acpi_windows(&resources).eq(windows.clone()));
        for end in 0..resources.len() {
            assert!(acpi_windows(&resources[..end]).all(|window| windows[..1].contains(&window)), "{end}");
        }
        assert_eq!(acpi_windows(&[0x8a, 1, 0, 0]).count(), 0);
        let mut ranges = [0xff; 24];
        assert_eq!(device_tree_windows(&ranges).count(), 0, "beyond the address space");
        ranges[16..].fill(0);
        assert_eq!(device_tree_windows(&ranges).count(), 0, "empty");
    }
}
