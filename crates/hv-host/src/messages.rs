//! Messages: buffers, queues and delivery into the slots of the message page.
//!
//! Source: TLFS, "Inter-Partition Communication", "SynIC Messages".

use core::sync::atomic::{AtomicU32, Ordering, fence};

use hv_tlfs::status::HvStatus;
use hv_tlfs::synic::{
    MESSAGE_PAYLOAD_SIZE, Message, MessageFlags, MessageHeader, MessageType, SINT_COUNT, TimerMessagePayload,
};
use hv_tlfs::time::ReferenceTime;
use hv_tlfs::timer::STIMER_COUNT;
use zerocopy::{FromBytes as _, IntoBytes as _};

use crate::event::{Cause, Event};
use crate::faults::Injection;
use crate::host::Host;
use crate::synic::{Context, SLOT, Synic};
use hv_memory::GuestMemory;
use hv_memory::save::{Reader, RestoreError, Writer};

/// Message buffers of a port.
pub const BUFFERS_PER_PORT: u32 = 16;

/// Ports of a partition at most; the connections of further ones do not exist.
pub const MAX_PORTS: u8 = 127;
/// Ports that can have all their buffers waiting at one VP; further ones that lead to the same VP share what is left.
pub const FULL_PORTS_PER_VP: u32 = 3;
/// Buffers in a VP for messages from ports and, of their own, for those from the host.
const BUFFERS: usize = (FULL_PORTS_PER_VP + 1) as usize * BUFFERS_PER_PORT as usize;
/// Queue entries of a VP: the buffers, and one for each timer.
const ENTRIES: usize = BUFFERS + STIMER_COUNT;
/// Offset of the payload size, flags and sender in a slot; the type before it is written last.
const AFTER_TYPE: usize = 4;
/// The flag "message pending" in the word at [`AFTER_TYPE`].
const PENDING_WORD: u32 = 1 << 8;

/// An empty slot.
const EMPTY: Message = Message {
    header: MessageHeader {
        message_type: MessageType::NONE,
        payload_size: 0,
        flags: MessageFlags(0),
        reserved: [0; 2],
        sender: 0,
    },
    payload: [0; MESSAGE_PAYLOAD_SIZE],
};

/// A message with this type, sender and payload; a payload of more than 240 bytes is cut.
pub(crate) fn new_message(message_type: MessageType, sender: u64, payload: &[u8]) -> Message {
    let mut message = EMPTY;
    let size = payload.len().min(MESSAGE_PAYLOAD_SIZE);
    message.header.message_type = message_type;
    message.header.payload_size = size as u8;
    message.header.sender = sender;
    message.payload[..size].copy_from_slice(&payload[..size]);
    message
}

/// A connection of the guest's, bound to a port: where posted messages or signalled events go.
///
/// A message port has [`BUFFERS_PER_PORT`] buffers for messages that wait for their slot. They lie in the target VP, which has
/// room for all buffers of [`FULL_PORTS_PER_VP`] ports: of more ports to the same VP, one may find another's messages in them.
#[derive(Debug)]
pub struct Port {
    /// Connection id that the guest names.
    pub connection: u32,
    /// Port id, the sender that stands in the message's header.
    pub id: u32,
    /// What it leads to.
    pub target: PortTarget,
    /// Buffers of this port that hold undelivered messages.
    in_use: AtomicU32,
}

/// What a port leads to. `vp` is `None` for a port that may choose any VP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortTarget {
    /// A message port.
    Message {
        /// Target VP.
        vp: Option<usize>,
        /// Target SINT.
        sint: u8,
    },
    /// An event port.
    Event {
        /// Target VP.
        vp: Option<usize>,
        /// Target SINT.
        sint: u8,
        /// First flag of the port.
        base: u16,
        /// Number of flags.
        count: u16,
    },
    /// The port was deleted; the connection remains and is of no use.
    Deleted,
}

impl Port {
    /// A port that connection `connection` leads to.
    #[must_use]
    pub const fn new(connection: u32, id: u32, target: PortTarget) -> Self {
        Self { connection, id, target, in_use: AtomicU32::new(0) }
    }

    fn take_buffer(&self) -> bool {
        let take = |n| (n < BUFFERS_PER_PORT).then_some(n + 1);
        self.in_use.fetch_update(Ordering::AcqRel, Ordering::Acquire, take).is_ok()
    }

    fn return_buffer(&self) {
        self.in_use.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Where a message comes from: whose buffer it takes while it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A port, by its place in the partition's list.
    Port(u8),
    /// The host.
    Host,
}

/// First and last entry of a queue, counted from 1; 0 and 0 if it is empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct List {
    first: u8,
    last: u8,
}

/// The message queues of a VP, one for each SINT. All zeros when empty.
#[derive(Debug)]
pub(crate) struct Queues {
    /// SINTs whose queue is not empty.
    waiting: u16,
    lists: [List; SINT_COUNT],
    /// The entry behind each, counted from 1.
    next: [u8; ENTRIES],
    /// Entries in use.
    used: u128,
    /// A timer's buffer has become free since anybody looked.
    timer_freed: bool,
    /// Buffers in use for the host's messages.
    from_host: u32,
    /// For each buffer the port whose it is, counted from 1; 0 for the host's.
    owner: [u8; BUFFERS],
    buffers: [Message; BUFFERS],
}

impl Queues {
    pub(crate) const fn new() -> Self {
        Self {
            waiting: 0,
            lists: [List { first: 0, last: 0 }; SINT_COUNT],
            next: [0; ENTRIES],
            used: 0,
            timer_freed: false,
            from_host: 0,
            owner: [0; BUFFERS],
            buffers: [EMPTY; BUFFERS],
        }
    }

    /// Whether the timer's own buffer holds a message.
    pub(crate) fn timer_waits(&self, timer: usize) -> bool {
        self.used >> (BUFFERS + timer) & 1 != 0
    }

    pub(crate) fn clear(&mut self, ports: &[Port]) {
        for buffer in 0..BUFFERS {
            if self.used >> buffer & 1 != 0 {
                self.give_back(buffer, ports);
            }
        }
        self.waiting = 0;
        self.lists = [List::default(); SINT_COUNT];
        self.next = [0; ENTRIES];
        self.used = 0;
        self.timer_freed = false;
        self.from_host = 0;
    }

    /// Takes a free buffer for a message of `source`.
    fn take(&mut self, source: Source, ports: &[Port]) -> Option<usize> {
        let buffer = (!self.used).trailing_zeros() as usize;
        if buffer >= BUFFERS {
            return None;
        }
        let from_ports = (self.used & ((1 << BUFFERS) - 1)).count_ones() - self.from_host;
        match source {
            Source::Host if self.from_host >= BUFFERS_PER_PORT => return None,
            Source::Host => {
                self.from_host += 1;
                self.owner[buffer] = 0;
            }
            Source::Port(_) if from_ports >= FULL_PORTS_PER_VP * BUFFERS_PER_PORT => return None,
            Source::Port(port) => {
                if !ports.get(usize::from(port))?.take_buffer() {
                    return None;
                }
                self.owner[buffer] = port + 1;
            }
        }
        Some(buffer)
    }

    /// Empties a buffer, so that a free one is as it was at first, and gives it back to its owner.
    fn give_back(&mut self, buffer: usize, ports: &[Port]) {
        self.buffers[buffer] = EMPTY;
        match core::mem::take(&mut self.owner[buffer]) {
            0 => self.from_host = self.from_host.saturating_sub(1),
            port => {
                if let Some(port) = ports.get(usize::from(port) - 1) {
                    port.return_buffer();
                }
            }
        }
    }

    fn append(&mut self, sint: usize, entry: usize) {
        let link = entry as u8 + 1;
        self.next[entry] = 0;
        self.used |= 1 << entry;
        let list = &mut self.lists[sint];
        match list.last {
            0 => list.first = link,
            last => self.next[usize::from(last) - 1] = link,
        }
        list.last = link;
        self.waiting |= 1 << sint;
    }

    fn first(&self, sint: usize) -> Option<usize> {
        usize::from(self.lists[sint].first).checked_sub(1)
    }

    /// Takes the first entry out of the queue and frees it.
    fn remove_first(&mut self, sint: usize, ports: &[Port]) {
        let Some(entry) = self.first(sint) else { return };
        let list = &mut self.lists[sint];
        list.first = self.next[entry];
        if list.first == 0 {
            list.last = 0;
            self.waiting &= !(1 << sint);
        }
        self.used &= !(1 << entry);
        if entry < BUFFERS {
            self.give_back(entry, ports);
        } else {
            self.timer_freed = true;
        }
    }

    /// Takes a timer's message out of its queue, wherever it stands there, and frees its buffer. Returns the SINT whose
    /// queue it was, and how many messages stood before it.
    fn remove_timer(&mut self, timer: usize) -> Option<(u8, u8)> {
        if !self.timer_waits(timer) {
            return None;
        }
        let link = (BUFFERS + timer) as u8 + 1;
        for sint in 0..SINT_COUNT {
            let (mut before, mut place) = (0, 0);
            let mut at = self.lists[sint].first;
            while at != 0 && at != link {
                before = at;
                place += 1;
                at = self.next[usize::from(at) - 1];
            }
            if at == 0 {
                continue;
            }
            let behind = self.next[BUFFERS + timer];
            match usize::from(before).checked_sub(1) {
                None => self.lists[sint].first = behind,
                Some(before) => self.next[before] = behind,
            }
            if behind == 0 {
                self.lists[sint].last = before;
            }
            if self.lists[sint].first == 0 {
                self.waiting &= !(1 << sint);
            }
            self.used &= !(1 << (BUFFERS + timer));
            return Some((sint as u8, place));
        }
        None
    }

    pub(crate) const fn timer_freed(&self) -> bool {
        self.timer_freed
    }

    pub(crate) fn take_timer_freed(&mut self) -> bool {
        core::mem::take(&mut self.timer_freed)
    }
}

/// What an image says of a waiting message: the host's, a port's by its number from 1, or a timer's.
const SAVED_HOST: u8 = 0;
const SAVED_TIMER: u8 = 0x80;

impl Queues {
    /// Saves the waiting messages, SINT by SINT and in their order.
    pub(crate) fn save(&self, w: &mut Writer<'_>) {
        w.u8(u8::from(self.timer_freed));
        w.u8(self.used.count_ones() as u8);
        for sint in 0..SINT_COUNT {
            let mut link = self.lists[sint].first;
            while let Some(entry) = usize::from(link).checked_sub(1) {
                w.u8(sint as u8);
                if let Some(timer) = entry.checked_sub(BUFFERS) {
                    w.u8(SAVED_TIMER | timer as u8);
                } else {
                    w.u8(self.owner[entry]);
                    w.bytes(self.buffers[entry].as_bytes());
                }
                link = self.next[entry];
            }
        }
    }

    /// Restores them into empty queues.
    pub(crate) fn restore(&mut self, r: &mut Reader<'_>, ports: &[Port]) -> Result<(), RestoreError> {
        const PART: RestoreError = RestoreError::Invalid("message queue");
        self.timer_freed = r.flag("message queue")?;
        for _ in 0..r.u8()? {
            let sint = usize::from(r.u8()?);
            if sint >= SINT_COUNT {
                return Err(PART);
            }
            let owner = r.u8()?;
            if owner & SAVED_TIMER != 0 {
                let timer = usize::from(owner & !SAVED_TIMER);
                if timer >= STIMER_COUNT || self.timer_waits(timer) {
                    return Err(PART);
                }
                self.append(sint, BUFFERS + timer);
                continue;
            }
            let message = Message::read_from_bytes(r.bytes(size_of::<Message>())?).map_err(|_| PART)?;
            let size = usize::from(message.header.payload_size);
            if message.header.message_type == MessageType::NONE || size > MESSAGE_PAYLOAD_SIZE {
                return Err(PART);
            }
            let source = if owner == SAVED_HOST { Source::Host } else { Source::Port(owner - 1) };
            let buffer = self.take(source, ports).ok_or(PART)?;
            self.buffers[buffer] = message;
            self.append(sint, buffer);
        }
        Ok(())
    }
}

/// Offset of a SINT's slot in the message page.
#[inline]
const fn slot(sint: usize) -> u64 {
    sint as u64 * SLOT
}

impl Synic {
    /// Posts a message to a SINT: into the slot if that is free and nothing waits, else into the queue.
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
        let delayed = context.host.inject(context.vp, Injection::Delay);
        let free = self.queues.waiting & 1 << index == 0 && !delayed;
        let result = if free && self.put(context, index, message, false) {
            Ok(())
        } else if context.host.inject(context.vp, Injection::Buffers) {
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

    /// The guest's end of message: free slots are filled from the queues.
    #[inline]
    pub(crate) fn end_of_message<H: Host>(&mut self, context: &Context<'_, H>) {
        let waiting = self.queues.waiting;
        let delivered = if waiting == 0 { 0 } else { self.scan(context) };
        self.settle_timers(context);
        context.host.observe(&Event::EndOfMessage { vp: context.vp, waiting, delivered });
    }

    /// Posts the expiration message of a timer. False if it cannot be delivered or queued now.
    pub(crate) fn post_timer<H: Host>(
        &mut self,
        context: &Context<'_, H>,
        timer: usize,
        sint: usize,
        now: u64,
    ) -> bool {
        if !self.control.enable() || !self.message_page.enabled() || self.queues.timer_waits(timer) {
            return false;
        }
        if self.queues.waiting & 1 << sint != 0 {
            self.deliver_first(context, sint);
        }
        if self.queues.waiting & 1 << sint == 0 {
            let mut message = self.timer_message(timer, now);
            if self.put(context, sint, &mut message, false) {
                return true;
            }
        }
        self.enqueue(context, sint, BUFFERS + timer, false);
        true
    }

    /// Drops the message of a timer that waits in its buffer. The message-pending flag of the slot before it stays: the
    /// guest's end of message finds nothing.
    pub(crate) fn drop_timer_message<H: Host>(&mut self, context: &Context<'_, H>, timer: usize) {
        if let Some((sint, place)) = self.queues.remove_timer(timer) {
            context.host.observe(&Event::MessageDropped { vp: context.vp, sint, place });
        }
    }

    /// The message of a timer that expired and is delivered now.
    fn timer_message(&self, timer: usize, now: u64) -> Message {
        let payload = TimerMessagePayload {
            timer_index: timer as u32,
            reserved: 0,
            expiration_time: ReferenceTime(self.timers.expiration(timer)),
            delivery_time: ReferenceTime(now),
        };
        new_message(MessageType::TIMER_EXPIRED, 0, payload.as_bytes())
    }

    /// Appends an entry to a queue and tells the guest that it waits. `delayed`: it has to, though the slot may be free.
    fn enqueue<H: Host>(&mut self, context: &Context<'_, H>, sint: usize, entry: usize, delayed: bool) {
        self.queues.append(sint, entry);
        context.host.observe(&Event::MessageQueued { vp: context.vp, sint: sint as u8 });
        if self.message_page.enabled() {
            // First the flag, then one more look at the slot: a guest that empties it between our two looks either
            // sees the flag, and will write EOM, or we see the empty slot.
            let flags = slot(sint) + AFTER_TYPE as u64;
            let _ = self.message_page.fetch_or(context.host.memory(), flags, PENDING_WORD);
            fence(Ordering::SeqCst);
            if !delayed {
                self.deliver_first(context, sint);
            }
        }
    }

    /// Delivers what can be delivered, and lets timers go on that waited for it.
    pub(crate) fn rescan<H: Host>(&mut self, context: &Context<'_, H>) {
        self.scan(context);
        self.settle_timers(context);
    }

    /// Delivers what can be delivered: one message into each free slot. Returns the SINTs that got one.
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

    /// Puts the first waiting message of a SINT into its slot, if that is free.
    fn deliver_first<H: Host>(&mut self, context: &Context<'_, H>, sint: usize) -> bool {
        let Some(entry) = self.queues.first(sint) else { return false };
        let more = self.queues.next[entry] != 0;
        let mut message = match entry.checked_sub(BUFFERS) {
            None => self.queues.buffers[entry],
            Some(timer) => self.timer_message(timer, context.time.at(|| context.host.counter())),
        };
        let done = self.put(context, sint, &mut message, more);
        if done {
            self.queues.remove_first(sint, context.ports);
        }
        done
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

    /// Writes a message into its slot if that is empty, and raises the interrupt. `pending`: more messages wait.
    fn put<H: Host>(
        &mut self,
        context: &Context<'_, H>,
        sint: usize,
        message: &mut Message,
        pending: bool,
    ) -> bool {
        let memory = context.host.memory();
        let slot = slot(sint);
        let page = &mut self.message_page;
        if !page.enabled() || page.load(memory, slot) != Ok(0) {
            return false;
        }
        message.header.flags = message.header.flags.with_message_pending(pending);
        let end = size_of_val(&message.header) + usize::from(message.header.payload_size);
        let bytes = &message.as_bytes()[..end.min(size_of::<Message>())];
        // The type goes last, with release: whoever sees it sees the rest.
        let written = page
            .write(memory, slot + AFTER_TYPE as u64, &bytes[AFTER_TYPE..])
            .and_then(|()| page.store(memory, slot, message.header.message_type.0));
        if written.is_err() {
            return false;
        }
        context.host.observe(&Event::MessageDelivered {
            vp: context.vp,
            sint: sint as u8,
            message_type: message.header.message_type.0,
            payload: &bytes[size_of_val(&message.header)..],
            pending,
        });
        self.raise(context, sint, Cause::Message(sint as u8));
        true
    }
}
