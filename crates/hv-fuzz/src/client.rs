//! A guest's client and drivers against a host that says anything.
//!
//! The host is scripted: it sends messages with anything in them, or those that would be right; it writes anything into
//! rings and data, or packets that are well formed; it completes requests with any answer, twice or never.

use hv_drivers::ic::Shutdown;
use hv_drivers::storage::{Address, Cdb, Controller, Disk, Extent};
use hv_testbed::scripted::{ScriptedDma, ScriptedHost};
use hv_tlfs::status::HvStatus;
use hv_tlfs::vmbus::guid;
use hv_tlfs::vp::VpIndex;
use hv_vmbus_client::hv_guest::page::Page;
use hv_vmbus_client::ring::{Outgoing, Receiver, Sender};
use hv_vmbus_client::{
    Buffer, Channel, Client, Contact, Error, GpadlRequest, Open, PageRun, Progress, Slots,
};

use crate::input::Input;

/// Pages of the guest.
const PAGES: usize = 192;
/// Steps of a run at most.
const STEPS: usize = 192;
/// Pages of a ring.
pub(crate) const RING: usize = 2;

pub(crate) type Host<'h> = &'h ScriptedHost;
type Scsi<'h> = Controller<'h, ScriptedDma<'h>, Host<'h>, u8, 4>;

/// Builds a message of this type with these words after the header.
pub(crate) fn message(kind: u32, words: &[u32]) -> Vec<u8> {
    [kind, 0].iter().chain(words).flat_map(|word| word.to_le_bytes()).collect()
}

/// Builds OFFERCHANNEL of this device.
pub(crate) fn offer(interface: hv_tlfs::vmbus::Guid, channel: u32) -> Vec<u8> {
    let mut offer = message(1, &[0; 47]);
    offer[8..24].copy_from_slice(&interface.bytes);
    offer[184..188].copy_from_slice(&channel.to_le_bytes());
    offer[190] = 1;
    offer[192..196].copy_from_slice(&(0x2000 | channel).to_le_bytes());
    offer
}

/// Answers what the guest has posted as a host does that grants everything.
pub(crate) fn grant<'h>(host: Host<'h>) -> impl FnMut(&mut Client<'_, Host<'h>>) -> Result<(), Error> {
    move |client| {
        for (_, posted) in host.take_posted() {
            let word = |n: usize| u32::from_le_bytes(posted[n..n + 4].try_into().unwrap_or_default());
            match word(0) {
                5 => client.take(&message(6, &[word(8), word(12), 0])),
                8 => client.take(&message(10, &[word(8), word(12), 0])),
                _ => continue,
            };
        }
        Ok(())
    }
}

/// Opens a channel with rings of `ring` pages each by the right answers.
pub(crate) fn open<'h>(
    client: &mut Client<'h, Host<'h>>,
    host: Host<'h>,
    interface: hv_tlfs::vmbus::Guid,
    ring: usize,
) -> Option<Channel<'h, ScriptedDma<'h>, Host<'h>>> {
    let offer = client.find(interface)?;
    client.open_channel(&offer, ring, Open::on(VpIndex(0)), &host.dma(), &mut grant(host)).ok()
}

/// The host's end of a channel: positions in its rings.
pub(crate) struct End<'h> {
    to_host: &'h [Page],
    from_host: &'h [Page],
    receiver: Receiver,
    sender: Sender,
    /// Transactions that were not completed yet.
    open: Vec<u64>,
}

impl<'h> End<'h> {
    /// Creates the end of the channel whose rings begin with page `first`, each with `ring` pages.
    pub(crate) fn new(host: &'h ScriptedHost, first: usize, ring: usize) -> Option<Self> {
        let rings = host.pages().get(first..first + 2 * ring)?;
        let (to_host, from_host) = rings.split_at(ring);
        // These empty the rings, which are empty.
        let (receiver, sender) = (Receiver::new(to_host).ok()?, Sender::new(from_host).ok()?);
        Some(Self { to_host, from_host, receiver, sender, open: Vec::new() })
    }

    /// Reads what the guest has sent. The guest's rings are right, unless the host has written into them.
    pub(crate) fn hear(&mut self) {
        while let Ok(Some(packet)) = self.receiver.next(self.to_host) {
            self.open.push(packet.transaction());
        }
        let _ = self.receiver.commit(self.to_host);
    }

    /// Sends a packet, if there is room.
    pub(crate) fn send(&mut self, packet: &Outgoing<'_>) {
        let _ = self.sender.send(self.from_host, packet);
    }

    /// Writes anything into the rings.
    pub(crate) fn scribble(&mut self, input: &mut Input<'_>) {
        let ring = if input.flag() { self.to_host } else { self.from_host };
        if input.flag() {
            let value = if input.flag() { u32::from(input.byte()) * 8 } else { input.word() };
            ring[0].store_u32(input.of(&[0, 4, 8, 12, 64]), value);
        } else {
            ring[1].write(input.below(64) * 8, input.bytes(32));
        }
    }
}

/// Generates an answer of the storage device: right in its form, or anything.
fn answer(input: &mut Input<'_>) -> Vec<u8> {
    let mut packet = vec![0; input.of(&[64, 64, 64, 48, 12, 0, 72])];
    let bytes = input.bytes(24);
    if packet.len() >= 64 {
        packet[0] = if input.byte() < 240 { 1 } else { input.byte() };
        packet[8] = input.of(&[0, 0, 0, 0x59]);
        packet[12..12 + bytes.len()].copy_from_slice(bytes);
        if input.flag() {
            (packet[14], packet[15]) = input.of(&[(1, 0), (4, 2), (0x84, 2), (0x20, 0), (5, 8), (0x12, 0)]);
        }
    }
    packet
}

/// The client, its drivers, and the host's ends of their channels.
struct Run<'h> {
    host: Host<'h>,
    client: Client<'h, Host<'h>>,
    scsi: Option<Scsi<'h>>,
    shutdown: Option<Shutdown<'h, ScriptedDma<'h>, Host<'h>>>,
    ends: Vec<End<'h>>,
    /// GPADLs that the host has not answered for.
    requests: Vec<GpadlRequest<'h, ScriptedDma<'h>>>,
}

/// Feeds the client and the drivers.
///
/// # Panics
///
/// If memory comes back to the guest that was not its own, or a driver breaks a promise.
pub fn client(data: &[u8]) {
    let mut input = Input::new(data);
    let host = ScriptedHost::new(PAGES);
    let slots = Slots::<4, 8>::new();
    let Some(lent) = slots.lend() else { return };
    let mut run = Run::new(&host, host.client(lent));
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        run.step(&mut input);
    }
    run.end();
}

impl<'h> Run<'h> {
    /// Makes contact, and opens a controller and a service if the host lets the guest.
    fn new(host: Host<'h>, mut client: Client<'h, Host<'h>>) -> Self {
        let _ = client.contact(Contact::new(VpIndex(0)));
        client.take(&message(15, &[1, 4, 0]));
        client.take(&offer(guid::SCSI, 1));
        client.take(&offer(guid::SHUTDOWN, 2));
        let mut ends = Vec::new();
        // Page 0 is the client's; the rings follow in the order of the channels.
        let scsi = open(&mut client, host, guid::SCSI, RING).map(|channel| {
            ends.extend(End::new(host, 1, RING));
            Controller::new(channel, host.dma())
        });
        let shutdown = open(&mut client, host, guid::SHUTDOWN, RING).map(|channel| {
            ends.extend(End::new(host, 1 + 2 * RING, RING));
            Shutdown::new(channel)
        });
        Self { host, client, scsi, shutdown, ends, requests: Vec::new() }
    }

    /// Executes one step of the host or of the guest.
    fn step(&mut self, input: &mut Input<'_>) {
        match input.below(16) {
            0 => {
                let kind = input.of(&[1, 2, 4, 6, 10, 12, 15, 17, 20, 23, 24, 26, 28, 0]);
                let words: Vec<u32> = (0..input.below(12))
                    .map(|_| if input.flag() { input.byte().into() } else { input.word() })
                    .collect();
                self.client.take(&message(kind, &words));
            }
            1 => {
                self.client.take(input.bytes(64));
            }
            kind @ 2..=6 => self.host_step(kind, input),
            7 => {
                if let Some(shutdown) = &mut self.shutdown {
                    let accepts = input.flag();
                    let _ = shutdown.poll(|_| accepts);
                }
            }
            8 => self.host.set_status(HvStatus(input.of(&[0, 0, 0, 0x13, 0x12, 0xffff]))),
            9 => {
                if let Some(offer) = self.client.offers().next()
                    && let Ok(pages) = PageRun::new(&self.host.dma(), 1)
                    && let Ok(request) = self.client.create_gpadl(offer.channel(), pages)
                {
                    self.requests.push(request);
                }
            }
            10 => self.poll_gpadls(),
            _ => {
                if let Some(scsi) = &mut self.scsi {
                    drive(scsi, self.host, input);
                }
            }
        }
    }

    /// Executes one step of the host at its end of a channel.
    fn host_step(&mut self, kind: usize, input: &mut Input<'_>) {
        let end = self.ends.get_mut(input.below(2));
        if kind == 6 {
            let payload = input.bytes(80);
            if let Some(end) = end {
                end.send(&Outgoing::in_band(input.byte().into(), payload));
            }
            return;
        }
        let Some(end) = end else { return };
        if kind < 4 {
            return end.scribble(input);
        }
        end.hear();
        let id = if end.open.is_empty() || input.byte() > 240 {
            input.long()
        } else {
            end.open.swap_remove(input.below(end.open.len()))
        };
        let packet = answer(input);
        end.send(&Outgoing::completion(id, &packet));
    }

    /// Tears down the GPADLs that the host has answered for.
    fn poll_gpadls(&mut self) {
        for request in std::mem::take(&mut self.requests) {
            match request.poll(&mut self.client) {
                Progress::Pending(request) => self.requests.push(request),
                Progress::Done(Ok(gpadl)) => drop(gpadl.teardown(&mut self.client)),
                Progress::Done(Err(returned)) => assert_eq!(returned.value.pages().len(), 1),
            }
        }
    }

    /// Ends the connection. The host is gone for good: all that is in flight is leaked, or comes back.
    fn end(self) {
        let Self { host, mut client, scsi, .. } = self;
        host.set_status(HvStatus(0));
        if client.unload().is_ok() {
            client.take(&message(17, &[]));
        }
        let Some(scsi) = scsi else { return };
        assert!(scsi.is_over() || client.version().is_some());
        if let Ok(closing) = scsi.close(&mut client) {
            let never = &mut |_: &mut Client<'_, Host<'_>>| Err(Error::TimedOut);
            let _ = client.block_on(closing, never);
        }
    }
}

/// Executes one step of the storage driver.
fn drive<'h>(scsi: &mut Scsi<'h>, host: Host<'h>, input: &mut Input<'_>) {
    let address = Address { path: 0, target: 0, lun: input.byte() };
    let disk = Disk::new(address, 512, 1 << 20).with_max_discard(64);
    let tag = input.byte();
    let mut looks = 2;
    let mut wait = || {
        looks -= 1;
        if looks > 0 { Ok(()) } else { Err(Error::TimedOut) }
    };
    match input.below(8) {
        0..=2 => {
            while let Ok(Some(done)) = scsi.poll() {
                if let (Ok(moved), Some(data)) = (done.outcome, &done.data) {
                    assert_eq!(moved, data.len, "fewer or more bytes than asked for are a failure");
                }
            }
        }
        3 => {
            let Ok(pages) = PageRun::new(&host.dma(), 1) else { return };
            let data =
                Buffer { pages, offset: usize::from(input.byte()) * 8, len: u32::from(input.byte()) * 64 };
            let _ = scsi.submit_read(tag, &disk, input.byte().into(), data);
        }
        4 => {
            let _ = scsi.submit_flush(tag, &disk);
        }
        5 => {
            let extent = Extent { block: input.word().into(), count: input.byte().into() };
            let _ = scsi.submit_discard(tag, &disk, extent);
        }
        6 => {
            let mut room = [0; 64];
            let _ = scsi.query(disk.address, &Cdb::inquiry(None, 36), &mut room, &mut wait);
        }
        _ => {
            let _ = scsi.disks(&mut wait, |disk| {
                assert!(disk.block_size.is_power_of_two() && disk.block_size >= 512 && disk.blocks > 0);
            });
        }
    }
}
