//! SynIC, messages and events.

mutants! {
    "hv-host/src/synic.rs" {
        synic_on_at_reset "The SynIC is on after reset.":
            "self.control = SynicControl(0)" => "self.control = SynicControl(1)";
        sints_unmasked_at_reset "SINTs are not masked after reset.":
            "self.sints = [Sint::RESET; SINT_COUNT]" => "self.sints = [Sint(0); SINT_COUNT]";
        queues_survive_reset "Queued messages survive a reset of the VP.":
            "self.queues.clear(ports)" => "()";
        masked_vector_refused "A masked SINT has to have a vector.":
            "!value.masked()" in "!value.masked() && value.vector()" => "true";
        low_vector_accepted "A SINT takes any vector.":
            "value.vector() < FIRST_VALID_VECTOR" => "false";
        polling_not_kept "The polling bit does not stay.":
            "self.sints[sint] = value" in "self.sints[sint] = value;"
            => "self.sints[sint] = value.with_polling(false)";
        mask_ignored "A masked SINT raises interrupts.":
            "!value.masked()" in "!value.masked() && !value.polling()" => "true";
        polling_ignored "A polled SINT raises interrupts.":
            "!value.polling()" => "true";
        waiting_forgotten_when_on "A message that waits is not delivered when the SynIC is switched on.":
            "self.scan(context)" in "self.message_page.enabled() { self.scan(context)" => "0"
            survives "The TLFS wants a look at the queue at EOM and at the next message.";
    }

    "hv-host/src/overlay.rs" {
        pages_named_at_reset "The registers of the hypervisor's pages are not zero after reset.":
            "self.register = 0" => "self.register = 0x1000";
        pages_survive_reset "The hypervisor's pages hold after a reset what they held before.":
            "self.clear()" in "self.register = 0; self.shown = false; self.clear()" => "()";
        page_not_cleared "A page that is switched on shows what was there.":
            "(1..WORDS).chain([0]).for_each(|n| self.exchange(memory, n))" => "()";
        covered_bytes_lost "What a page covers is lost.":
            "*word = old" => "*word = 0";
        page_lost_when_off "A page that is switched off or moves loses what it held.":
            "self.shown = false" in "(0..WORDS).for_each(|n| self.exchange(memory, n)); self.shown = false"
            => "{ self.shown = false; self.words = [0; WORDS] }";
        page_stays_when_off "A page that is switched off or moves leaves its contents behind.":
            "self.hide(memory)" => "self.shown = false";
    }

    "hv-host/src/overlays.rs" {
        disabled_page_written "A page is written though it is not enabled.":
            "overlay.waits_at(page)" in "if overlay.waits_at(page) { overlay.show(memory)" => "true";
    }

    "hv-host/src/port.rs" {
        fifteen_buffers "A port has a buffer less.":
            "n < BUFFERS_PER_PORT" => "n < BUFFERS_PER_PORT - 1";
    }

    "hv-host/src/queue.rs" {
        buffer_leaks "A delivered message keeps its buffer.":
            "port.return_buffer()" => "()";
    }

    "hv-host/src/delivery.rs" {
        synic_off_takes_messages "A SynIC that is off takes messages.":
            "!self.control.enable()" in "!self.control.enable() || !self.message_page.enabled() {"
            => "false";
        page_off_takes_messages "A SynIC without message page takes messages.":
            "!self.message_page.enabled()" in "!self.control.enable() || !self.message_page.enabled() {"
            => "false";
        synic_off_status "A SynIC that is off gets another status.":
            "HvStatus::INVALID_SYNIC_STATE" in "{ return Err(HvStatus::INVALID_SYNIC_STATE)" => "HvStatus::INVALID_PARAMETER";
        buffers_status "A port without buffers gets another status.":
            "Err(HvStatus::INSUFFICIENT_BUFFERS)" in "else { Err(HvStatus::INSUFFICIENT_BUFFERS) };"
            => "Err(HvStatus::INSUFFICIENT_BUFFER)";
        end_of_message_ignored "EOM delivers nothing.":
            "waiting == 0" => "true";
        timer_index_wrong "A timer's message names another timer.":
            "timer as u32" => "timer as u32 ^ 1";
        expiration_is_delivery "A timer's message tells when it was delivered, not when it was due.":
            "self.timers.expiration(timer)" => "now";
        delivery_is_expiration "A timer's message tells when it was due, not when it was delivered.":
            "now" in "delivery_time: now" => "self.timers.expiration(timer)";
        pending_not_set "A message that waits does not show.":
            "self.message_page.fetch_or(context.host.memory(), flags, PENDING_WORD)"
            => "self.message_page.fetch_or(context.host.memory(), flags, 0)";
        end_of_message_serves_one "EOM serves one SINT.":
            "waiting - 1" => "0";
        slot_overwritten "A full slot is written.":
            "self.message_page.load(context.host.memory(), slot(sint)) == Ok(0)" => "true";
        pending_not_delivered "A delivered message does not say that more wait.":
            "before.flags.with_message_pending(pending)" => "before.flags.with_message_pending(false)";
        payload_cut "The last byte of a payload does not arrive.":
            "end.min(size_of::<Message>())" => "(end - 1).max(16)";
        message_interrupt_lost "A message raises no interrupt.":
            "self.raise(context, sint, Cause::Message(sint as u8))" => "()";
        busy_slot_loses_timer "A timer whose slot is full loses its message.":
            "self.enqueue(context, sint, BUFFERS + timer, false)" => "()";
        message_to_two_sints "A message goes to the next SINT too.":
            "page.store(memory, slot, message_type)"
            => "page.store(memory, (slot + 256) % 4096, message_type).and_then(|()| \
                page.store(memory, slot, message_type))";
        pending_without_reason "A message says that more wait where none does.":
            "self.put(context, index, message, false)" => "self.put(context, index, message, true)";
        idle_eom_interrupts "EOM raises an interrupt where no message waits.":
            "if waiting == 0 { 0 } else { self.scan(context) }"
            => "if waiting == 0 { self.raise(context, 0, Cause::Message(0)); 0 } else { self.scan(context) \
                }";
    }

    "hv-host/src/events.rs" {
        synic_off_takes_events "A SynIC that is off takes events.":
            "!self.control.enable()" => "false";
        page_off_takes_events "An event flags page that is off takes events.":
            "!self.event_page.enabled()" => "false";
        masked_sint_takes_events "A masked SINT takes events.":
            "self.sints[index].masked()" => "false";
        flag_word_wrong "A flag is set in another word.":
            "flag / 32" => "flag / 64";
        event_bit_wrong "Another flag is set.":
            "flag % 32" => "(flag + 1) % 32";
        event_always_interrupts "A flag that is set raises an interrupt.":
            "!was_set" in "if !was_set {" => "true";
    }
}
