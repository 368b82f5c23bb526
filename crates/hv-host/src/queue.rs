//! The message queues of a VP: messages waiting for their slot.
//!
//! Source: TLFS, "Inter-Partition Communication", "SynIC Messages".

use hv_memory::save::{Reader, RestoreError, Writer};
use hv_tlfs::synic::{MESSAGE_PAYLOAD_SIZE, Message, MessageFlags, MessageHeader, MessageType, SINT_COUNT};
use hv_tlfs::timer::STIMER_COUNT;
use zerocopy::IntoBytes as _;

use crate::port::{BUFFERS_PER_PORT, FULL_PORTS_PER_VP, Port};

/// Number of buffers in a VP for messages from ports and, separately, for those from the host.
pub(crate) const BUFFERS: usize = (FULL_PORTS_PER_VP + 1) as usize * BUFFERS_PER_PORT as usize;
/// Number of queue entries of a VP: the buffers, and one for each timer.
const ENTRIES: usize = BUFFERS + STIMER_COUNT;
const _: () = assert!(BUFFERS <= u64::BITS as usize && STIMER_COUNT <= u8::BITS as usize);

/// An empty slot.
pub(crate) const EMPTY: Message = Message {
    header: MessageHeader {
        message_type: MessageType::NONE,
        payload_size: 0,
        flags: MessageFlags(0),
        reserved: [0; 2],
        sender: 0,
    },
    payload: [0; MESSAGE_PAYLOAD_SIZE],
};

/// The origin of a message: the owner of the buffer it uses while queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A port, by its index in the partition's list.
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
    pub(crate) waiting: u16,
    lists: [List; SINT_COUNT],
    /// The entry after each, counted from 1.
    pub(crate) next: [u8; ENTRIES],
    /// Buffers in use.
    used: u64,
    /// Timers whose own buffer is in use.
    timers: u8,
    /// A timer's buffer has become free since the last check.
    timer_freed: bool,
    /// Number of buffers in use for messages from the host, and from ports.
    from_host: u32,
    from_ports: u32,
    /// For each buffer the port that owns it, counted from 1; 0 for the host.
    owner: [u8; BUFFERS],
    pub(crate) buffers: [Message; BUFFERS],
}

impl Queues {
    pub(crate) const fn new() -> Self {
        Self {
            waiting: 0,
            lists: [List { first: 0, last: 0 }; SINT_COUNT],
            next: [0; ENTRIES],
            used: 0,
            timers: 0,
            timer_freed: false,
            from_host: 0,
            from_ports: 0,
            owner: [0; BUFFERS],
            buffers: [EMPTY; BUFFERS],
        }
    }

    /// Returns true if the timer's own buffer contains a message.
    pub(crate) fn timer_waits(&self, timer: usize) -> bool {
        self.timers >> timer & 1 != 0
    }

    pub(crate) fn clear(&mut self, ports: &[Port]) {
        let mut used = self.used;
        while used != 0 {
            self.give_back(used.trailing_zeros() as usize, ports);
            used &= used - 1;
        }
        self.waiting = 0;
        self.lists = [List::default(); SINT_COUNT];
        self.next = [0; ENTRIES];
        self.used = 0;
        self.timers = 0;
        self.timer_freed = false;
        self.from_host = 0;
        self.from_ports = 0;
    }

    /// Allocates a free buffer for a message of `source`.
    pub(crate) fn take(&mut self, source: Source, ports: &[Port]) -> Option<usize> {
        let buffer = (!self.used).trailing_zeros() as usize;
        if buffer >= BUFFERS {
            return None;
        }
        match source {
            Source::Host if self.from_host >= BUFFERS_PER_PORT => return None,
            Source::Host => {
                self.from_host += 1;
                self.owner[buffer] = 0;
            }
            Source::Port(_) if self.from_ports >= FULL_PORTS_PER_VP * BUFFERS_PER_PORT => return None,
            Source::Port(port) => {
                if !ports.get(usize::from(port))?.take_buffer() {
                    return None;
                }
                self.from_ports += 1;
                self.owner[buffer] = port + 1;
            }
        }
        Some(buffer)
    }

    /// Empties a buffer, so that a free one equals its initial state, and returns it to its owner.
    fn give_back(&mut self, buffer: usize, ports: &[Port]) {
        self.buffers[buffer] = EMPTY;
        match core::mem::take(&mut self.owner[buffer]) {
            0 => self.from_host = self.from_host.saturating_sub(1),
            port => {
                self.from_ports = self.from_ports.saturating_sub(1);
                if let Some(port) = ports.get(usize::from(port) - 1) {
                    port.return_buffer();
                }
            }
        }
    }

    pub(crate) fn append(&mut self, sint: usize, entry: usize) {
        let link = entry as u8 + 1;
        self.next[entry] = 0;
        match entry.checked_sub(BUFFERS) {
            None => self.used |= 1 << entry,
            Some(timer) => self.timers |= 1 << timer,
        }
        let list = &mut self.lists[sint];
        match list.last {
            0 => list.first = link,
            last => self.next[usize::from(last) - 1] = link,
        }
        list.last = link;
        self.waiting |= 1 << sint;
    }

    pub(crate) fn first(&self, sint: usize) -> Option<usize> {
        usize::from(self.lists[sint].first).checked_sub(1)
    }

    /// Removes the first entry from the queue and frees it.
    pub(crate) fn remove_first(&mut self, sint: usize, ports: &[Port]) {
        let Some(entry) = self.first(sint) else { return };
        let list = &mut self.lists[sint];
        list.first = self.next[entry];
        if list.first == 0 {
            list.last = 0;
            self.waiting &= !(1 << sint);
        }
        match entry.checked_sub(BUFFERS) {
            None => {
                self.used &= !(1 << entry);
                self.give_back(entry, ports);
            }
            Some(timer) => {
                self.timers &= !(1 << timer);
                self.timer_freed = true;
            }
        }
    }

    /// Removes a timer's message from its queue, at any position, and frees its buffer. Returns the SINT of the queue,
    /// and the number of messages before it.
    pub(crate) fn remove_timer(&mut self, timer: usize) -> Option<(u8, u8)> {
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
            self.timers &= !(1 << timer);
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

/// Returns true if a message can be in a queue: its flags are set as it is delivered, and nothing follows its payload.
fn is_queueable(message: &Message) -> bool {
    let MessageHeader { message_type, payload_size, flags, reserved, sender: _ } = message.header;
    let rest = message.payload.get(usize::from(payload_size)..);
    message_type != MessageType::NONE
        && (flags, reserved) == (EMPTY.header.flags, EMPTY.header.reserved)
        && rest.is_some_and(|rest| rest.iter().all(|byte| *byte == 0))
}

/// The origin of a queued message in saved state: the host, a port by its number from 1, or a timer.
const SAVED_HOST: u8 = 0;
const SAVED_TIMER: u8 = 0x80;

impl Queues {
    /// Saves the queued messages, SINT by SINT and in order.
    pub(crate) fn save(&self, w: &mut Writer<'_>) {
        w.u8(u8::from(self.timer_freed));
        w.u8((self.used.count_ones() + self.timers.count_ones()) as u8);
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
            let message: Message = r.value()?;
            if !is_queueable(&message) {
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
