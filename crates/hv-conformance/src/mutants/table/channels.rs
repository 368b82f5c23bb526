//! Rings, packets, signals and sub-channels of VMBus.

mutants! {
    "hv-vmbus/src/ring/consumer.rs" {
        read_index_stays "The host does not move the read index.":
            "ring.store(Word::ReadIndex, self.next)?" => "()";
        waiting_guest_unsignalled "A guest that waits for room is not signalled.":
            "free(before) < pending && free(self.next) >= pending" => "false";
        long_packet_fatal "A packet that is longer than the ring ends the host.":
            "len < DESCRIPTOR || len > room" => "{ assert!(len <= room, \"a packet ends beyond the ring\"); false }";
    }

    "hv-vmbus/src/ring/view.rs" {
        ring_end_wrong "A packet that goes round the end of a ring goes on at its start.":
            "to - self.size" in "if to >= self.size { to - self.size }" => "0";
        first_page_alone "A ring has one page of data.":
            "u32::try_from(data.len())" => "u32::try_from(data.len().min(1))";
        bad_index_fatal "An index beyond the ring ends the host.":
            "Err(RingError::Index { index, size: self.size })" => "panic!(\"an index is beyond the ring\")";
    }

    "hv-vmbus/src/ring/producer.rs" {
        trailer_wrong "A packet ends with no offset.":
            "u64::from(self.next) << 32" => "0";
        mask_ignored_by_host "A masked ring is signalled.":
            "ring.load(Word::InterruptMask)? == 0" => "true";
        ring_unsignalled "A ring is never signalled.":
            "ring.load(Word::InterruptMask)? == 0" => "false";
        room_not_named "The host does not name the room that it waits for.":
            "ring.store(Word::PendingSendSize, bytes)?" => "()";
        features_not_announced "The host does not announce that it waits for room.":
            "ring.store(Word::Features, RingFeatures(0).with_pending_send_size(true).0)?" => "()";
        mask_written "The host masks the guest's ring.":
            "ring.store(Word::WriteIndex, self.next)?"
            => "{ ring.store(Word::WriteIndex, self.next)?; ring.store(Word::InterruptMask, 1)? }";
    }

    "hv-vmbus/src/worker.rs" {
        room_unchecked "A full ring loses answers.":
            "reserved > 0 && reserved.saturating_add(open.reserved) > open.producer.free(outgoing)?" => "false";
        completed_unasked "Every packet is completed.":
            "raw.descriptor.flags == PACKET_FLAG_COMPLETION_REQUESTED" => "true";
        channel_flag_wrong "A channel sets another flag.":
            "open.flag" in "io.env.port.interrupt(open.vp, SINT, open.flag)" => "open.flag ^ 1";
        channel_sint_wrong "A channel interrupts another SINT.":
            "SINT" in "io.env.port.interrupt(open.vp, SINT, open.flag)" => "SINT + 1";
        channel_vp_0 "A channel interrupts VP 0.":
            "open.vp" in "io.env.port.interrupt(open.vp, SINT, open.flag)" => "0";
        channel_flags_two "A channel sets the next flag too.":
            "io.env.port.interrupt(open.vp, SINT, open.flag)"
            => "{ io.env.port.interrupt(open.vp, SINT, open.flag); io.env.port.interrupt(open.vp, SINT, \
                open.flag + 1); }";
        silent_channel_interrupts "A channel without a VP interrupts VP 0.":
            "open.live && open.vp != TARGET_VP_NONE"
            => "{ if open.vp == TARGET_VP_NONE { open.vp = 0; } open.live }";
    }

    "hv-vmbus/src/io/send.rs" {
        transaction_cut "A completion has half of the id.":
            "ticket.transaction" in "transaction_id: ticket.transaction, len: payload.len() as u32"
            => "ticket.transaction & 0xffff_ffff";
        transaction_wrong "A completion has another id.":
            "ticket.transaction" in "transaction_id: ticket.transaction, len: payload.len() as u32"
            => "ticket.transaction ^ 1";
        completion_in_band "A completion is a packet with data.":
            "PacketType::COMPLETION" in "self.reply(to.ticket_mut(), PacketType::COMPLETION, payload)"
            => "PacketType::DATA_IN_BAND";
        completion_wants_completion "A completion wants a completion.":
            "0" in "packet_type: kind, flags: 0" => "1";
        completed_twice "A packet is completed twice.":
            "self.reply(to.ticket_mut(), PacketType::COMPLETION, payload)"
            => "{ let _ = self.reply(to.ticket_mut(), PacketType::COMPLETION, payload); \
                to.ticket_mut().answered = false; self.reply(to.ticket_mut(), PacketType::COMPLETION, \
                payload) }";
        completion_padded "A completion has 8 bytes more.":
            "payload.len() as u32" in "transaction_id: ticket.transaction, len: payload.len() as u32"
            => "payload.len() as u32 + 8";
        answer_on_first_channel "An answer comes on the device's first channel.":
            "ticket.line" in "let pushed = self.push(ticket.line" => "0";
        pipe_kind_wrong "The header of a pipe is of another type.":
            "PIPE_PACKET_DATA" in "PipeHeader { packet_type: PIPE_PACKET_DATA, message_size }"
            => "PIPE_PACKET_DATA + 1";
    }

    "hv-vmbus/src/slot.rs" {
        signal_after_close_served "A closed channel is served.":
            "line.open.take()" in "let Some(open) = line.open.take()" => "line.open.as_ref().cloned()";
    }

    "hv-vmbus/src/judge.rs" {
        range_offset_ignored "The pages that a packet lists are used from their start.":
            "offset" in "header.pages(memory, offset, len" => "0";
    }
}
