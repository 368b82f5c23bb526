//! A read of a disk: from the signal to the completion.

use hv_guest::page::Page;
use hv_tlfs::vmbus::storage::{Operation, Packet, ScsiRequest};
use hv_tlfs::vmbus::{GpadlId, guid};
use zerocopy::{FromZeros, IntoBytes};

use crate::measure::Bench;
use crate::vmbus::{Bus, Rings, packet, rings};

/// Bytes of a packet in the ring.
const READ: usize = 48 + size_of::<Packet>();

static RINGS: Rings = rings();
static BUFFER: Page = Page::new();

pub(crate) fn run(bench: &Bench, bus: &Bus<'_>) {
    let Some(mut disk) = bus.open(guid::SCSI, GpadlId(1), &RINGS) else {
        rt::println!("there is no disk");
        return;
    };
    // BEGIN_INITIALIZATION, QUERY_PROTOCOL_VERSION, QUERY_PROPERTIES, END_INITIALIZATION.
    for (operation, word) in [(7, 0), (9, 0x0602), (10, 0), (8, 0u16)] {
        let mut vstor = Packet::new_zeroed();
        vstor.header.operation = Operation(operation);
        vstor.header.flags = 1;
        vstor.body[..2].copy_from_slice(&word.to_le_bytes());
        disk.execute(&packet::<READ>(vstor.as_bytes(), &BUFFER, 512), 0);
    }
    for (name, blocks) in [("disk-read", 8u8), ("disk-read-512", 1)] {
        let packet = read(blocks);
        bench.latency(name, 40, || disk.execute(&packet, bench.delay()));
    }
}

/// Returns a READ(10) of the disk's first blocks.
fn read(blocks: u8) -> [u8; READ] {
    let len = u32::from(blocks) * 512;
    let mut request = ScsiRequest::new_zeroed();
    request.length = size_of::<ScsiRequest>() as u16;
    request.cdb_length = 10;
    request.sense_length = 20;
    request.direction = 1;
    request.transfer_length = len;
    request.cdb_or_sense[..10].copy_from_slice(&[0x28, 0, 0, 0, 0, 0, 0, 0, blocks, 0]);
    let mut vstor = Packet::new_zeroed();
    vstor.header.operation = Operation::EXECUTE_SRB;
    vstor.header.flags = 1;
    vstor.body.copy_from_slice(request.as_bytes());
    packet(vstor.as_bytes(), &BUFFER, len)
}
