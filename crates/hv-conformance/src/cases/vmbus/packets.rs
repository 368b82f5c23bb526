//! Packets and their completions.

use crate::cx::{Cx, Packet};
use crate::outcome::Outcome;
use hv_tlfs::vmbus::PacketType;

use super::{begin, on_scsi};

cases! {
    "vmbus_packets";
    "Linux 6.12, include/linux/hyperv.h", "vmpacket_descriptor":
        a_completion_has_the_id_of_its_packet,
        an_id_has_all_its_bits,
        a_completion_is_a_packet_of_type_11,
        a_completion_wants_no_completion,
        a_completion_begins_behind_its_descriptor,
        a_packet_ends_with_its_offset;
    "Linux 6.12, include/linux/hyperv.h", "VMBUS_DATA_PACKET_FLAG_COMPLETION_REQUESTED":
        a_packet_that_asks_for_no_completion_gets_none,
        a_packet_is_completed_once;
    "Linux 6.12, drivers/hv/ring_buffer.c", "hv_ringbuffer_write":
        packets_that_come_together_are_all_taken,
        packets_of_one_id_are_all_completed;
}

fn a_completion_has_the_id_of_its_packet(cx: &Cx<'_>) -> Outcome {
    on_scsi(cx, |channel| {
        for id in 1..4 {
            check_eq!(channel.ask(id, &begin())?.transaction, id);
        }
        Ok(())
    })
}

fn an_id_has_all_its_bits(cx: &Cx<'_>) -> Outcome {
    on_scsi(cx, |channel| {
        for id in [0xffff_8000_1234_5678, 1 << 63, 1 << 32, u64::MAX - 1] {
            check_eq!(channel.ask(id, &begin())?.transaction, id);
        }
        Ok(())
    })
}

/// Checks a completion.
fn completion(cx: &Cx<'_>, check: impl FnOnce(&Packet) -> Outcome) -> Outcome {
    on_scsi(cx, |channel| {
        channel.put_in_band(7, true, &begin())?;
        channel.signalled()?;
        check(&channel.receive()?)
    })
}

fn a_completion_is_a_packet_of_type_11(cx: &Cx<'_>) -> Outcome {
    completion(cx, |packet| {
        check_eq!(packet.kind.0, 11);
        Ok(())
    })
}

fn a_completion_wants_no_completion(cx: &Cx<'_>) -> Outcome {
    completion(cx, |packet| {
        check_eq!(packet.flags, 0);
        Ok(())
    })
}

fn a_completion_begins_behind_its_descriptor(cx: &Cx<'_>) -> Outcome {
    completion(cx, |packet| {
        check_eq!(packet.data_offset, 16);
        check_eq!(packet.len, 16 + 64);
        Ok(())
    })
}

fn a_packet_ends_with_its_offset(cx: &Cx<'_>) -> Outcome {
    on_scsi(cx, |channel| {
        for id in 1..4 {
            let packet = channel.ask(id, &begin())?;
            let mut trailer = [0; 8];
            channel.load(channel.incoming.advance(packet.at, packet.len), &mut trailer);
            check_eq!(u64::from_le_bytes(trailer) >> 32, u64::from(packet.at));
        }
        Ok(())
    })
}

fn a_packet_that_asks_for_no_completion_gets_none(cx: &Cx<'_>) -> Outcome {
    on_scsi(cx, |channel| {
        channel.send(8, &begin())?;
        check_eq!(channel.ask(9, &begin())?.transaction, 9);
        channel.silence()
    })
}

fn a_packet_is_completed_once(cx: &Cx<'_>) -> Outcome {
    on_scsi(cx, |channel| {
        channel.ask(9, &begin())?;
        channel.silence()
    })
}

fn packets_that_come_together_are_all_taken(cx: &Cx<'_>) -> Outcome {
    on_scsi(cx, |channel| {
        for id in 1..=5 {
            channel.put_in_band(id, true, &begin())?;
        }
        channel.signalled()?;
        for id in 1..=5 {
            channel.completion(id)?;
        }
        Ok(())
    })
}

fn packets_of_one_id_are_all_completed(cx: &Cx<'_>) -> Outcome {
    on_scsi(cx, |channel| {
        for _ in 0..3 {
            channel.put_in_band(5, true, &begin())?;
        }
        channel.signalled()?;
        for _ in 0..3 {
            check!(channel.completion(5)?.kind == PacketType::COMPLETION);
        }
        channel.silence()
    })
}
