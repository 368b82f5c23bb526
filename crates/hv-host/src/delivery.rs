//! Message delivery: into the slots of the message page, or into the queues before them.
//!
//! Source: TLFS, "Inter-Partition Communication", "SynIC Messages".

use hv_memory::GuestMemory;
use hv_tlfs::status::HvStatus;
use hv_tlfs::synic::{MESSAGE_PAYLOAD_SIZE, Message, MessageType, SINT_COUNT, TimerMessagePayload};
use hv_tlfs::time::ReferenceTime;
use lock_api::RawMutex;
use zerocopy::IntoBytes as _;

use crate::connections::Connections;
use crate::event::{Cause, Event};
use crate::faults::{Faults as _, Injection};
use crate::host::Host;
use crate::overlay::Overlay;
use crate::partition::Partition;
use crate::queue::{BUFFERS, EMPTY, Source};
use crate::synic::{Context, SLOT, Synic};

/// Offset of the payload size, flags and sender in a slot; the type before it is written last.
const AFTER_TYPE: usize = 4;
/// The flag "message pending" in the word at [`AFTER_TYPE`].
const PENDING_WORD: u32 = 1 << 8;

/// Creates a message with this type, sender and payload; a payload of more than 240 bytes is cut off.
pub(crate) fn new_message(message_type: MessageType, sender: u64, payload: &[u8]) -> Message {
    let mut message = EMPTY;
    let size = payload.len().min(MESSAGE_PAYLOAD_SIZE);
    message.header.message_type = message_type;
    message.header.payload_size = size as u8;
    message.header.sender = sender;
    message.payload[..size].copy_from_slice(&payload[..size]);
    message
}

/// Returns the offset of a SINT's slot in the message page.
#[inline]
const fn slot(sint: usize) -> u64 {
    sint as u64 * SLOT
}

impl<R: RawMutex> Partition<'_, R> {
    /// Posts a message to a SINT of a VP, from the hypervisor or the host.
    ///
    /// # Errors
    /// [`HvStatus::INVALID_VP_INDEX`], [`HvStatus::INVALID_SYNIC_STATE`] if the target's SynIC or message page is off,
    /// [`HvStatus::INSUFFICIENT_BUFFERS`] if 16 messages from the host are pending for the VP,
    /// [`HvStatus::INVALID_PARAMETER`] for an invalid SINT, type or payload.
    pub fn post_message(
        &self,
        host: &impl Host,
        vp: usize,
        sint: u8,
        message_type: MessageType,
        sender: u64,
        payload: &[u8],
    ) -> Result<(), HvStatus> {
        let target = self.vps().get(vp).ok_or(HvStatus::INVALID_VP_INDEX)?;
        if message_type == MessageType::NONE || payload.len() > MESSAGE_PAYLOAD_SIZE {
            return Err(HvStatus::INVALID_PARAMETER);
        }
        let mut message = new_message(message_type, sender, payload);
        target.synic().post(&self.context(host, vp), sint, Source::Host, &mut message)
    }

    /// Checks again whether pending messages of a VP can be delivered, here and behind its connections: for an embedder
    /// whose fault plan has withheld them ([`Timed::Rescan`](crate::faults::Timed::Rescan)).
    pub fn rescan(&self, host: &(impl Host + Connections), vp: usize) {
        if let Some(state) = self.vps().get(vp) {
            state.synic().rescan(&self.context(host, vp));
            host.buffer_freed(vp);
        }
    }

    /// Returns true if messages for a SINT of a VP are pending until it is unmasked. Those for a disabled SynIC or
    /// message page are not.
    #[must_use]
    pub fn is_masked(&self, vp: usize, sint: u8) -> bool {
        self.vps().get(vp).is_some_and(|vp| {
            let synic = vp.synic();
            let on = synic.control.enable() && synic.message_page.enabled();
            on && synic.sints.get(usize::from(sint)).is_some_and(|sint| sint.masked())
        })
    }
}

impl Synic {
    /// Posts a message to a SINT: into the slot if it is free and no message is queued, else into the queue.
    pub(crate) fn post<H: Host>(
        &mut self,
        context: &Context<'_, H>,
        sint: u8,
        source: Source,
        message: &mut Message,
    ) -> Result<(), HvStatus> {
        let index = usize::from(sint);
        if index >= SINT_COUNT {
            return Err(HvStatus::INVALID_PARAMETER);
        }
        if !self.control.enable() || !self.message_page.enabled() {
            return Err(HvStatus::INVALID_SYNIC_STATE);
        }
        if self.queues.waiting & 1 << index != 0 {
            // TLFS: the queue is scanned when another message is queued.
            self.deliver_first(context, index);
        }
        let delayed = context.host.faults().injects(Injection::Delay);
        let first = self.queues.waiting & 1 << index == 0 && !delayed;
        let result = if first && self.is_free(context, index) && self.put(context, index, message, false) {
            Ok(())
        } else if context.host.faults().injects(Injection::Buffers) {
            Err(HvStatus::INSUFFICIENT_BUFFERS)
        } else if let Some(buffer) = self.queues.take(source, context.ports) {
            self.queues.buffers[buffer] = *message;
            self.enqueue(context, index, buffer, delayed);
            Ok(())
        } else {
            Err(HvStatus::INSUFFICIENT_BUFFERS)
        };
        self.settle_timers(context);
        result
    }

    /// Handles the guest's end of message: free slots are filled from the queues.
    #[inline]
    pub(crate) fn end_of_message<H: Host>(&mut self, context: &Context<'_, H>) {
        let waiting = self.queues.waiting;
        let delivered = if waiting == 0 { 0 } else { self.scan(context) };
        self.settle_timers(context);
        context.host.observe(&Event::EndOfMessage { vp: context.vp, waiting, delivered });
    }

    /// Posts the expiration message of a timer. Returns false if it cannot be delivered or queued now.
    pub(crate) fn post_timer<H: Host>(
        &mut self,
        context: &Context<'_, H>,
        timer: usize,
        sint: usize,
        now: ReferenceTime,
    ) -> bool {
        if !self.control.enable() || !self.message_page.enabled() || self.queues.timer_waits(timer) {
            return false;
        }
        if self.queues.waiting & 1 << sint != 0 {
            self.deliver_first(context, sint);
        }
        if self.queues.waiting & 1 << sint == 0 && self.is_free(context, sint) {
            let mut message = self.timer_message(timer, now);
            if self.put(context, sint, &mut message, false) {
                return true;
            }
        }
        self.enqueue(context, sint, BUFFERS + timer, false);
        true
    }

    /// Drops a timer's message that is queued in its buffer. The message-pending flag of the slot before it stays set:
    /// the guest's end of message then finds nothing.
    pub(crate) fn drop_timer_message<H: Host>(&mut self, context: &Context<'_, H>, timer: usize) {
        if let Some((sint, place)) = self.queues.remove_timer(timer) {
            context.host.observe(&Event::MessageDropped { vp: context.vp, sint, place });
        }
    }

    /// Returns the message of a timer that expired and is delivered now.
    fn timer_message(&self, timer: usize, now: ReferenceTime) -> Message {
        let payload = TimerMessagePayload {
            timer_index: timer as u32,
            reserved: 0,
            expiration_time: self.timers.expiration(timer),
            delivery_time: now,
        };
        new_message(MessageType::TIMER_EXPIRED, 0, payload.as_bytes())
    }

    /// Appends an entry to a queue and tells the guest that a message is pending. `delayed`: it must stay queued even
    /// if the slot is free.
    fn enqueue<H: Host>(&mut self, context: &Context<'_, H>, sint: usize, entry: usize, delayed: bool) {
        self.queues.append(sint, entry);
        context.host.observe(&Event::MessageQueued { vp: context.vp, sint: sint as u8 });
        if self.message_page.enabled() {
            // Sets the flag first, then checks the slot once more: if a guest empties it between our two checks, either
            // the guest sees the flag and writes EOM, or we see the empty slot.
            let flags = slot(sint) + AFTER_TYPE as u64;
            let _ = self.message_page.fetch_or(context.host.memory(), flags, PENDING_WORD);
            context.host.memory().fence();
            if !delayed {
                self.deliver_first(context, sint);
            }
        }
    }

    /// Delivers pending messages, and resumes the timers that waited for it.
    pub(crate) fn rescan<H: Host>(&mut self, context: &Context<'_, H>) {
        self.scan(context);
        self.settle_timers(context);
    }

    /// Delivers pending messages: one into each free slot. Returns the SINTs that got one.
    #[inline(never)]
    pub(crate) fn scan<H: Host>(&mut self, context: &Context<'_, H>) -> u16 {
        let mut delivered = 0;
        let mut waiting = self.queues.waiting;
        while waiting != 0 {
            let sint = waiting.trailing_zeros() as usize;
            waiting &= waiting - 1;
            if self.deliver_first(context, sint) {
                delivered |= 1 << sint;
            }
        }
        delivered
    }

    /// Moves the first queued message of a SINT into its slot, if that is free.
    fn deliver_first<H: Host>(&mut self, context: &Context<'_, H>, sint: usize) -> bool {
        let Some(entry) = self.queues.first(sint).filter(|_| self.is_free(context, sint)) else {
            return false;
        };
        let more = self.queues.next[entry] != 0;
        let done = match entry.checked_sub(BUFFERS) {
            None => put(&mut self.message_page, context, sint, &mut self.queues.buffers[entry], more),
            Some(timer) => {
                let mut message = self.timer_message(timer, context.time.at(|| context.host.counter()));
                put(&mut self.message_page, context, sint, &mut message, more)
            }
        };
        if done {
            self.delivered(context, sint);
            self.queues.remove_first(sint, context.ports);
        }
        done
    }

    /// Raises the interrupt of a message that is in its slot.
    fn delivered<H: Host>(&self, context: &Context<'_, H>, sint: usize) {
        self.raise(context, sint, Cause::Message(sint as u8));
    }

    /// Returns true if a SINT's slot is free.
    #[inline]
    fn is_free<H: Host>(&self, context: &Context<'_, H>, sint: usize) -> bool {
        self.message_page.enabled() && self.message_page.load(context.host.memory(), slot(sint)) == Ok(0)
    }

    /// Writes garbage into the header of a slot that holds a message.
    pub(crate) fn disturb_messages(&mut self, memory: &impl GuestMemory, random: u64) {
        let slot = slot((random % SINT_COUNT as u64) as usize);
        let page = &mut self.message_page;
        if page.enabled() && page.load(memory, slot).is_ok_and(|message_type| message_type != 0) {
            let [kind, size, flags, ..] = (random >> 8).to_le_bytes();
            let _ = page.write(memory, slot + AFTER_TYPE as u64, &[size, flags]);
            let _ = page.store(memory, slot, u32::from(kind));
        }
    }

    /// Writes a message into its slot, which is free, and raises the interrupt.
    fn put<H: Host>(
        &mut self,
        context: &Context<'_, H>,
        sint: usize,
        message: &mut Message,
        pending: bool,
    ) -> bool {
        let done = put(&mut self.message_page, context, sint, message, pending);
        if done {
            self.delivered(context, sint);
        }
        done
    }
}

/// Writes a message into its slot, which is free. `pending`: more messages are queued. Returns false, with the message
/// as it was, if the page cannot be written.
fn put<H: Host>(
    page: &mut Overlay,
    context: &Context<'_, H>,
    sint: usize,
    message: &mut Message,
    pending: bool,
) -> bool {
    let (memory, slot) = (context.host.memory(), slot(sint));
    let before = message.header;
    // The type is written last, with release ordering: a reader that sees it sees the rest. Until then it stays that of
    // a free slot.
    message.header.message_type = MessageType::NONE;
    message.header.flags = before.flags.with_message_pending(pending);
    let end = size_of_val(&message.header) + usize::from(message.header.payload_size);
    let bytes = &message.as_bytes()[..end.min(size_of::<Message>())];
    let message_type = before.message_type.0;
    let written = page.write(memory, slot, bytes).and_then(|()| page.store(memory, slot, message_type));
    if written.is_err() {
        message.header = before;
        return false;
    }
    context.host.observe(&Event::MessageDelivered {
        vp: context.vp,
        sint: sint as u8,
        message_type,
        payload: &bytes[size_of_val(&message.header)..],
        pending,
    });
    true
}
