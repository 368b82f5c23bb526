//! VMBus resources: the interrupt, from firmware's tables, and the connections for its messages and events.
//!
//! Source: Linux, drivers/hv/vmbus_drv.c (`vmbus_acpi_add`, `vmbus_device_add`) and drivers/hv/connection.c; for the
//! numbers, [`hv_tlfs::vmbus::connection`], which names its own sources.

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

/// Finds the interrupt in the resources of the ACPI device (the raw `_CRS` buffer): the first extended interrupt
/// descriptor.
///
/// Source: ACPI, "Extended Interrupt Descriptor" and "End Tag".
#[must_use]
pub fn acpi_interrupt(resources: &[u8]) -> Option<Intid> {
    let mut rest = resources;
    loop {
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
        if tag == 0x89 {
            let number = descriptor.get(5..9)?;
            return Intid::new(u32::from_le_bytes(number.try_into().ok()?));
        }
        rest = rest.get(length..)?;
    }
}

/// Decodes the interrupt from the raw `interrupts` property of the device tree node: cells of 32 bits, big-endian.
#[must_use]
pub fn device_tree_interrupt(interrupts: &[u8]) -> Option<Intid> {
    let cell = |n: usize| Some(u32::from_be_bytes(interrupts.get(4 * n..4 * n + 4)?.try_into().ok()?));
    Intid::from_gic_cells(cell(0)?, cell(1)?)
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
        assert_eq!(acpi_interrupt(&[0x79, 0, 0x89, 6, 0, 3, 1, 18, 0, 0, 0]), None, "behind the end");
        assert_eq!(acpi_interrupt(&[0x89, 0, 0]), None);
        assert_eq!(device_tree_interrupt(&[0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 1]).map(Intid::number), Some(18));
        assert_eq!(device_tree_interrupt(&[0, 0, 0, 1, 0, 0]), None);
    }
}
