//! Rings: indices, the end of a ring, room, and what a guest must not do with them.

use hv_tlfs::time::ReferenceTime;
use hv_tlfs::vmbus::storage::{self, Operation};
use hv_tlfs::vmbus::{GpadlId, PacketDescriptor, PacketType, RingFeatures, guid};
use zerocopy::IntoBytes;

use crate::cx::{Channel, Cx, Opening, Ring, Word};
use crate::outcome::Outcome;

use super::{NO_SCSI, begin, on_scsi};

cases! {
    "vmbus_rings";
    "Linux 6.12, drivers/hv/ring_buffer.c", "hv_ringbuffer_write":
        the_host_moves_the_read_index_behind_what_it_took,
        the_host_leaves_the_guests_words_alone,
        packets_go_round_the_end_of_a_ring,
        a_ring_has_all_its_pages,
        rings_may_have_different_sizes;
    "Linux 6.12, drivers/hv/ring_buffer.c", "hv_pkt_iter_close":
        a_full_ring_loses_nothing,
        the_host_names_the_room_that_it_waits_for,
        the_host_says_that_it_does_so;
    "OpenVMM, vmbus_ring", "lib.rs: IncomingRing::commit_read":
        a_guest_that_waits_for_room_is_signalled;
    "Linux 6.12, include/linux/hyperv.h", "hv_ring_buffer":
        a_masked_ring_is_not_signalled,
        an_unmasked_ring_is_signalled_again;
    "OpenVMM, vmbus_ring", "lib.rs: Error":
        a_write_index_beyond_the_ring_harms_the_channel_alone,
        a_read_index_beyond_the_ring_harms_the_channel_alone,
        a_packet_beyond_the_ring_harms_the_channel_alone,
        a_channel_with_a_corrupt_ring_can_be_opened_again;
}

/// Requests that go round a ring of one page more than twice.
const ROUNDS: u64 = 100;

/// Makes a number of requests one after another.
fn rounds(channel: &Channel<'_, '_, '_>) -> Outcome {
    for id in 1..=ROUNDS {
        let answer: storage::Packet = channel.ask(id, &begin())?.get(0)?;
        check_eq!(answer.header.operation.0, Operation::COMPLETE_IO.0);
    }
    Ok(())
}

/// Runs something on a controller's channel with rings of these sizes.
fn with_pages(cx: &Cx<'_>, pages: [usize; 2], work: impl FnOnce(&Channel<'_, '_, '_>) -> Outcome) -> Outcome {
    cx.connected(|bus| {
        let offer = bus.find(guid::SCSI, NO_SCSI)?;
        let channel = bus.open_as(&offer, Opening { pages, ..bus.opening() })?;
        work(&channel)?;
        channel.end()
    })
}

fn the_host_moves_the_read_index_behind_what_it_took(cx: &Cx<'_>) -> Outcome {
    on_scsi(cx, |channel| {
        for id in 1..4 {
            channel.ask(id, &begin())?;
            cx.soon("the host has taken the packet", || {
                channel.word(&channel.outgoing, Word::Read) == channel.word(&channel.outgoing, Word::Write)
            })?;
        }
        Ok(())
    })
}

fn the_host_leaves_the_guests_words_alone(cx: &Cx<'_>) -> Outcome {
    on_scsi(cx, |channel| {
        channel.ask(1, &begin())?;
        check_eq!(channel.word(&channel.outgoing, Word::Write), 16 + 64 + 8);
        check_eq!(channel.word(&channel.outgoing, Word::Pending), 0);
        check_eq!(channel.word(&channel.incoming, Word::Read), 16 + 64 + 8);
        check_eq!(channel.word(&channel.incoming, Word::Mask), 0);
        Ok(())
    })
}

fn packets_go_round_the_end_of_a_ring(cx: &Cx<'_>) -> Outcome {
    on_scsi(cx, rounds)
}

fn a_ring_has_all_its_pages(cx: &Cx<'_>) -> Outcome {
    with_pages(cx, [2, 2], rounds)
}

fn rings_may_have_different_sizes(cx: &Cx<'_>) -> Outcome {
    with_pages(cx, [3, 1], rounds)?;
    with_pages(cx, [1, 3], rounds)
}

/// Makes more requests than the host's ring has room for answers.
fn overfill(channel: &Channel<'_, '_, '_>) -> Outcome {
    for id in 1..=80 {
        channel.put_in_band(id, true, &begin())?;
    }
    channel.signalled()
}

fn a_full_ring_loses_nothing(cx: &Cx<'_>) -> Outcome {
    with_pages(cx, [2, 1], |channel| {
        overfill(channel)?;
        for id in 1..=80 {
            channel.completion(id)?;
        }
        channel.silence()
    })
}

fn features(channel: &Channel<'_, '_, '_>) -> RingFeatures {
    RingFeatures(channel.word(&channel.incoming, Word::Features))
}

fn the_host_names_the_room_that_it_waits_for(cx: &Cx<'_>) -> Outcome {
    with_pages(cx, [2, 1], |channel| {
        skip_if!(!features(channel).pending_send_size(), "the host does not announce that it waits for room");
        overfill(channel)?;
        cx.soon("the host waits for room", || channel.word(&channel.incoming, Word::Pending) != 0)?;
        for id in 1..=80 {
            channel.completion(id)?;
        }
        Ok(())
    })
}

fn the_host_says_that_it_does_so(cx: &Cx<'_>) -> Outcome {
    with_pages(cx, [2, 1], |channel| {
        overfill(channel)?;
        // A host that has named a size, now or later, has announced that it does.
        cx.pause(ReferenceTime(2_000));
        let named = channel.word(&channel.incoming, Word::Pending) != 0;
        check!(!named || features(channel).pending_send_size());
        Ok(())
    })
}

fn a_guest_that_waits_for_room_is_signalled(cx: &Cx<'_>) -> Outcome {
    on_scsi(cx, |channel| {
        for id in 1..=40 {
            channel.put_in_band(id, false, &begin())?;
        }
        let (ring, most) = (&channel.outgoing, channel.outgoing.size() - 64);
        channel.set_word(ring, Word::Features, RingFeatures(0).with_pending_send_size(true).0);
        channel.set_word(ring, Word::Pending, most);
        channel.clear_flag();
        channel.signalled()?;
        cx.soon("the host signals that there is room", || channel.is_flagged())?;
        channel.set_word(ring, Word::Pending, 0);
        Ok(())
    })
}

fn a_masked_ring_is_not_signalled(cx: &Cx<'_>) -> Outcome {
    on_scsi(cx, |channel| {
        channel.set_word(&channel.incoming, Word::Mask, 1);
        channel.clear_flag();
        channel.put_in_band(1, true, &begin())?;
        channel.signalled()?;
        check!(channel.comes());
        cx.pause(ReferenceTime(2_000));
        check!(!channel.is_flagged());
        channel.completion(1)?;
        Ok(())
    })
}

fn an_unmasked_ring_is_signalled_again(cx: &Cx<'_>) -> Outcome {
    on_scsi(cx, |channel| {
        for mask in [1, 0] {
            channel.set_word(&channel.incoming, Word::Mask, mask);
            channel.clear_flag();
            channel.put_in_band(1, true, &begin())?;
            channel.signalled()?;
            check!(channel.comes());
            if mask == 0 {
                cx.soon("the host signals", || channel.is_flagged())?;
            }
            channel.completion(1)?;
        }
        Ok(())
    })
}

/// Has a guest do something to a channel's rings after which they are unusable, and checks that VMBus is not.
fn harmed(cx: &Cx<'_>, harm: impl FnOnce(&Channel<'_, '_, '_>)) -> Outcome {
    on_scsi(cx, |channel| {
        channel.ask(1, &begin())?;
        harm(channel);
        // What the host says to the signal is its own affair.
        let _ = channel.signal();
        cx.pause(ReferenceTime(2_000));
        let words = [4096, cx.page()? / 4096];
        check_eq!(channel.bus.create(channel.id, GpadlId(0x777), 1, &words)?.0, 0);
        channel.bus.teardown(channel.id, GpadlId(0x777))
    })
}

fn a_write_index_beyond_the_ring_harms_the_channel_alone(cx: &Cx<'_>) -> Outcome {
    harmed(cx, |channel| channel.set_word(&channel.outgoing, Word::Write, 0xffff_fff8))
}

fn a_read_index_beyond_the_ring_harms_the_channel_alone(cx: &Cx<'_>) -> Outcome {
    harmed(cx, |channel| {
        let ring: &Ring = &channel.incoming;
        channel.set_word(ring, Word::Read, ring.size() + 8);
        let write = channel.word(&channel.outgoing, Word::Write);
        channel.store(write, descriptor(10).as_bytes());
        channel.set_word(&channel.outgoing, Word::Write, channel.outgoing.advance(write, 88));
    })
}

/// Returns the descriptor of a packet of this many words that wants a completion.
fn descriptor(length8: u16) -> PacketDescriptor {
    PacketDescriptor {
        packet_type: PacketType::DATA_IN_BAND,
        data_offset8: 2,
        length8,
        flags: 1,
        transaction_id: 3,
    }
}

/// Writes a packet that is longer than what is written.
fn too_long(channel: &Channel<'_, '_, '_>) {
    let write = channel.word(&channel.outgoing, Word::Write);
    channel.store(write, descriptor(0xffff).as_bytes());
    channel.set_word(&channel.outgoing, Word::Write, channel.outgoing.advance(write, 88));
}

fn a_packet_beyond_the_ring_harms_the_channel_alone(cx: &Cx<'_>) -> Outcome {
    harmed(cx, too_long)
}

fn a_channel_with_a_corrupt_ring_can_be_opened_again(cx: &Cx<'_>) -> Outcome {
    cx.connected(|bus| {
        let offer = bus.find(guid::SCSI, NO_SCSI)?;
        let channel = bus.open(&offer)?;
        too_long(&channel);
        let _ = channel.signal();
        channel.end()?;
        let channel = bus.open(&offer)?;
        channel.ask(1, &begin())?;
        channel.end()
    })
}
