//! A network card on a [`ScriptedHost`](crate::scripted::ScriptedHost): right answers, and whatever else a test wants.

use hv_guest::page::Page;
use hv_vmbus_client::ring::Receiver;

/// Bytes of a packet's descriptor.
const DESCRIPTOR: usize = 16;
/// Offset of the guest's index in a ring's first page.
const READ_INDEX: usize = 4;
/// Kinds of packets.
const IN_BAND: u16 = 6;
const TRANSFER_PAGES: u16 = 7;
const COMPLETION: u16 = 11;
/// The set of transfer pages that is the receive buffer.
const RECEIVE_BUFFER: u16 = 0xcafe;
/// Bytes of the sections of both buffers.
const SECTION: usize = 2048;

/// Returns words as they stand in a packet.
#[must_use]
pub fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// A packet from the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Its transaction id.
    pub transaction: u64,
    /// The kind of packet.
    pub kind: u16,
    /// The payload, as padded by the sender.
    pub payload: Vec<u8>,
}

impl Heard {
    /// Returns a word of the payload; 0 after its end.
    #[must_use]
    pub fn word(&self, n: usize) -> u32 {
        let word = self.payload.get(n * 4..n * 4 + 4).and_then(|bytes| bytes.try_into().ok());
        word.map_or(0, u32::from_le_bytes)
    }
}

/// The host's end of a card's channel, and its view of the guest's buffers.
#[derive(Debug)]
pub struct ScriptedCard<'h> {
    to_host: &'h [Page],
    from_host: &'h [Page],
    receive: &'h [Page],
    send: &'h [Page],
    control: &'h Page,
    receiver: Receiver,
    /// Where the next packet to the guest is put.
    next: usize,
    /// The next section of the receive buffer.
    section: usize,
    ids: u64,
    /// The newest version of NVSP that the card knows.
    pub newest: u32,
    /// Bytes of a section of the send buffer, as the guest is told.
    pub send_section: u32,
    /// MTU, as the guest is told.
    pub mtu: u32,
    /// Address.
    pub mac: [u8; 6],
    /// Frames that the guest has sent, each with its message's headers.
    pub frames: Vec<Vec<u8>>,
}

impl<'h> ScriptedCard<'h> {
    /// Makes the host's end. `pages` are the guest's in the order in which it allocates them: rings of `ring` pages
    /// each way, `receive` pages, `send` pages, and one for control messages. `None` if there are fewer.
    #[must_use]
    pub fn new(pages: &'h [Page], ring: usize, receive: usize, send: usize) -> Option<Self> {
        let (to_host, pages) = pages.split_at_checked(ring)?;
        let (from_host, pages) = pages.split_at_checked(ring)?;
        let (receive, pages) = pages.split_at_checked(receive)?;
        let (send, pages) = pages.split_at_checked(send)?;
        // This empties the ring, which is empty.
        let receiver = Receiver::new(to_host).ok()?;
        Some(Self {
            to_host,
            from_host,
            receive,
            send,
            control: pages.first()?,
            receiver,
            next: 0,
            section: 0,
            ids: 0,
            newest: 0x6_0001,
            send_section: SECTION as u32,
            mtu: 1500,
            mac: [2, 0, 0, 0, 0, 7],
            frames: Vec::new(),
        })
    }

    /// Returns the rings' pages: that to the host, and that from it.
    #[must_use]
    pub fn rings(&self) -> [&'h [Page]; 2] {
        [self.to_host, self.from_host]
    }

    /// Returns the pages of the receive buffer.
    #[must_use]
    pub fn receive_buffer(&self) -> &'h [Page] {
        self.receive
    }

    /// Takes the guest's next packet.
    pub fn hear(&mut self) -> Option<Heard> {
        let mut packet = self.receiver.next(self.to_host).ok()??;
        let mut payload = vec![0; packet.left()];
        packet.read(&mut payload);
        let heard = Heard { transaction: packet.transaction(), kind: packet.kind().0, payload };
        let _ = self.receiver.commit(self.to_host);
        Some(heard)
    }

    /// Puts a packet into the ring to the guest: its kind, flags and id, what is between descriptor and payload, and
    /// the payload, both padded to a multiple of 8. Returns false if there is no room.
    pub fn put(&mut self, kind: u16, flags: u16, id: u64, header: &[u8], payload: &[u8]) -> bool {
        let (head, body) = (header.len().next_multiple_of(8), payload.len().next_multiple_of(8));
        let (offset, len) = (DESCRIPTOR + head, DESCRIPTOR + head + body);
        let mut bytes = vec![0; len + 8];
        for (at, half) in [kind, (offset / 8) as u16, (len / 8) as u16, flags].into_iter().enumerate() {
            bytes[at * 2..at * 2 + 2].copy_from_slice(&half.to_le_bytes());
        }
        bytes[8..16].copy_from_slice(&id.to_le_bytes());
        bytes[DESCRIPTOR..DESCRIPTOR + header.len()].copy_from_slice(header);
        bytes[offset..offset + payload.len()].copy_from_slice(payload);
        let size = (self.from_host.len() - 1) * 4096;
        let read = self.from_host[0].load_u32(READ_INDEX).map_or(0, |index| index as usize % size);
        let used = (self.next + size - read) % size;
        if used + bytes.len() >= size {
            return false;
        }
        for (n, word) in bytes.chunks_exact(8).enumerate() {
            let at = (self.next + n * 8) % size;
            self.from_host[1 + at / 4096].write(at % 4096, word);
        }
        self.next = (self.next + bytes.len()) % size;
        self.from_host[0].store_u32(0, self.next as u32);
        true
    }

    /// Sends a packet of the host's own.
    pub fn say(&mut self, payload: &[u8]) -> bool {
        self.put(IN_BAND, 0, 0, &[], payload)
    }

    /// Completes a packet from the guest.
    pub fn complete(&mut self, transaction: u64, payload: &[u8]) -> bool {
        self.put(COMPLETION, 0, transaction, &[], payload)
    }

    /// Names ranges of a set of transfer pages to the guest, each a length and an offset. Returns the packet's id; 0 if
    /// there is no room.
    pub fn name(&mut self, set: u16, ranges: &[(u32, u32)], payload: &[u8]) -> u64 {
        let mut header = words(&[set.into(), ranges.len() as u32]);
        ranges.iter().for_each(|(len, offset)| header.extend(words(&[*len, *offset])));
        self.ids += 1;
        if self.put(TRANSFER_PAGES, 1, self.ids, &header, payload) { self.ids } else { 0 }
    }

    /// Writes into the receive buffer.
    pub fn write(&self, offset: usize, bytes: &[u8]) {
        for (at, byte) in (offset..).zip(bytes) {
            if let Some(page) = self.receive.get(at / 4096) {
                page.write(at % 4096, &[*byte]);
            }
        }
    }

    /// Passes a message of RNDIS to the guest, in the next section of its receive buffer. Returns the packet's id.
    pub fn deliver(&mut self, channel: u32, message: &[u8]) -> u64 {
        let offset = self.section * SECTION;
        self.section = (self.section + 1) % (self.receive.len() * 4096 / SECTION).max(1);
        self.write(offset, message);
        self.name(
            RECEIVE_BUFFER,
            &[(message.len() as u32, offset as u32)],
            &words(&[107, channel, u32::MAX, 0]),
        )
    }

    /// Passes a frame to the guest. Returns the packet's id.
    pub fn frame(&mut self, frame: &[u8]) -> u64 {
        let head = [1, 44 + frame.len() as u32, 36, frame.len() as u32, 0, 0, 0, 0, 0, 0, 0];
        self.deliver(0, &[words(&head), frame.to_vec()].concat())
    }

    /// Takes all of the guest's packets, and answers them as a card does. Returns the ids that the guest has
    /// completed.
    pub fn serve(&mut self) -> Vec<u64> {
        let mut completed = Vec::new();
        while let Some(heard) = self.hear() {
            if heard.kind == COMPLETION {
                completed.push(heard.transaction);
            } else {
                self.answer(&heard);
            }
        }
        completed
    }

    /// Answers a packet as a card does.
    pub fn answer(&mut self, heard: &Heard) {
        let status = |good: bool| if good { 1 } else { 2 };
        let answer = match heard.word(0) {
            1 => words(&[2, 2, 0x22, status(heard.word(1) <= self.newest)]),
            101 => {
                let (size, bytes) = (SECTION as u32, self.receive.len() as u32 * 4096);
                words(&[102, 1, 1, 0, size, bytes / size, bytes])
            }
            104 => words(&[105, 1, self.send_section]),
            107 => {
                if heard.word(1) == 0 {
                    self.note_frame(heard);
                } else {
                    self.control();
                }
                words(&[108, 1])
            }
            _ => return,
        };
        self.complete(heard.transaction, &[answer, vec![0; 8]].concat());
    }

    fn note_frame(&mut self, heard: &Heard) {
        let (at, len) = (heard.word(2) as usize * self.send_section as usize, heard.word(3) as usize);
        let mut frame = vec![0; len.min(self.send.len() * 4096)];
        for (at, byte) in (at..).zip(&mut frame) {
            if let Some(page) = self.send.get(at / 4096) {
                page.read(at % 4096, core::slice::from_mut(byte));
            }
        }
        self.frames.push(frame);
    }

    /// Answers the control message in the guest's memory.
    fn control(&mut self) {
        let mut message = [0; 64];
        self.control.read(0, &mut message);
        let word = |n: usize| u32::from_le_bytes([0, 1, 2, 3].map(|at| message[n * 4 + at]));
        let (kind, id, oid) = (word(0), word(2), word(3));
        let query = |value: &[u8]| {
            let head = [0x8000_0004, 24 + value.len() as u32, id, 0, value.len() as u32, 16];
            [words(&head), value.to_vec()].concat()
        };
        let answer = match (kind, oid) {
            (2, _) => words(&[0x8000_0002, 52, id, 0, 1, 0, 1, 0, 8, 0x4000, 3, 0, 0]),
            (4, 0x0001_0106) => query(&words(&[self.mtu])),
            (4, 0x0101_0101) => query(&self.mac),
            (4, _) => query(&words(&[0])),
            (5, _) => words(&[0x8000_0005, 16, id, 0]),
            _ => return,
        };
        self.deliver(1, &answer);
    }
}
