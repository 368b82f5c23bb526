//! What drivers of devices need beside one channel: sub-channels, and memory that is made visible to the host.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use hv_guest::page::{Memory, Page};
use hv_testbed::scripted::{ScriptedDma, ScriptedHost};
use hv_tlfs::vmbus::ChannelId;
use hv_tlfs::vp::VpIndex;
use hv_vmbus_client::ring::Outgoing;
use hv_vmbus_client::{Buffer, Channel, Contact, Dma, Error, Notice, Open, PageRun, Queue, Slots};

use crate::scripted::{DEVICE, grant, message, offer};

/// Offset of the sub-channel's index in an offer (Linux 6.12, include/linux/hyperv.h, `vmbus_channel_offer`).
const SUBCHANNEL_INDEX: usize = 8 + 172;

#[test]
fn sub_channels_are_offered_later_and_each_is_a_channel_of_its_own() {
    let host = ScriptedHost::new(32);
    let slots = Slots::<4, 8>::new();
    let mut client = host.client(slots.lend().unwrap());
    client.connect(Contact::new(VpIndex(0)), &mut grant(&host)).unwrap();
    client.take(&offer(7, 1, 0x2007));
    let first = client.find(DEVICE).unwrap();
    let mut channels = Vec::new();
    channels
        .push(client.open_channel(&first, 2, Open::on(VpIndex(0)), &host.dma(), &mut grant(&host)).unwrap());
    // Those that the device's protocol has asked for; the first has a lower number than the device's own channel.
    for (index, number) in [(1_u16, 3), (2, 9)] {
        let mut more = offer(number, 1, 0x2000 + number);
        more[SUBCHANNEL_INDEX..SUBCHANNEL_INDEX + 2].copy_from_slice(&index.to_le_bytes());
        assert_eq!(client.take(&more), Notice::Offered(ChannelId(number)));
    }
    assert_eq!(client.find(DEVICE).unwrap().channel(), ChannelId(7), "a sub-channel is not a device");
    let more: Vec<_> = client.offers().filter(|offer| offer.is_subchannel()).collect();
    assert_eq!(more.len(), 2);
    for (offer, vp) in more.iter().zip(1..) {
        assert!(offer.is_of_same_device(&first) && offer.device().subchannel_index != 0);
        let open = Open::on(VpIndex(vp));
        channels.push(client.open_channel(offer, 2, open, &host.dma(), &mut grant(&host)).unwrap());
    }
    host.take_signals();
    for (channel, vp) in channels.iter_mut().zip(0..) {
        assert_eq!(channel.target(), VpIndex(vp));
        channel.send(&Outgoing::in_band(1, &[])).unwrap();
    }
    assert_eq!(host.take_signals(), [0x2007, 0x2003, 0x2009], "each has a connection of its own");
    // The host takes the sub-channels away with the device's own: their memory comes back without another answer.
    for number in [7, 3, 9] {
        assert_eq!(client.take(&message(2, &[number])), Notice::Rescinded(ChannelId(number)));
    }
    while let Some(channel) = channels.pop() {
        let id = channel.id();
        drop(client.close_channel(channel, &mut grant(&host)).unwrap());
        client.release(id).unwrap();
    }
    assert_eq!((client.offers().count(), host.live()), (0, 0));
}

/// What an isolated partition has made visible to its host.
#[derive(Default)]
struct Visible {
    pages: AtomicUsize,
    refuses: AtomicBool,
}

/// Memory of such a partition.
#[derive(Clone, Copy)]
struct Isolated<'h>(ScriptedDma<'h>, &'h Visible);

// SAFETY: forwards to the host's pages.
#[expect(unsafe_code, reason = "forwards")]
unsafe impl Memory for Isolated<'_> {
    fn gpa(&self, page: &Page) -> u64 {
        self.0.gpa(page)
    }
}

// SAFETY: forwards to the host's allocator, and counts.
#[expect(unsafe_code, reason = "forwards")]
unsafe impl Dma for Isolated<'_> {
    fn allocate(&self, count: usize) -> Option<NonNull<[Page]>> {
        self.0.allocate(count)
    }

    unsafe fn free(&self, pages: NonNull<[Page]>) {
        // SAFETY: the caller keeps the contract of exactly this call.
        unsafe { self.0.free(pages) }
    }

    fn share(&self, pages: &[Page]) -> Result<(), Error> {
        if self.1.refuses.load(Ordering::Relaxed) {
            return Err(Error::Memory);
        }
        self.1.pages.fetch_add(pages.len(), Ordering::Relaxed);
        Ok(())
    }

    fn unshare(&self, pages: &[Page]) {
        self.1.pages.fetch_sub(pages.len(), Ordering::Relaxed);
    }
}

#[test]
fn memory_is_visible_to_the_host_as_long_as_it_is_the_hosts() {
    let (host, visible) = (ScriptedHost::new(32), Visible::default());
    let slots = Slots::<2, 4>::new();
    let dma = Isolated(host.dma(), &visible);
    let seen = || visible.pages.load(Ordering::Relaxed);
    let mut client = host.client(slots.lend().unwrap());
    client.connect(Contact::new(VpIndex(0)), &mut grant(&host)).unwrap();
    client.take(&offer(3, 1, 0x2003));
    let device = client.find(DEVICE).unwrap();
    visible.refuses.store(true, Ordering::Relaxed);
    let refused: Result<Channel<'_, _, _>, _> =
        client.open_channel(&device, 2, Open::on(VpIndex(0)), &dma, &mut grant(&host));
    assert_eq!((refused.err(), seen(), host.live()), (Some(Error::Memory), 0, 0));
    visible.refuses.store(false, Ordering::Relaxed);
    let channel = client.open_channel(&device, 2, Open::on(VpIndex(0)), &dma, &mut grant(&host)).unwrap();
    assert_eq!(seen(), 4);
    let mut queue: Queue<'_, _, _, u8, 2> = Queue::new(channel);
    let data = |pages| Buffer { pages, offset: 0, len: 4096 };
    queue.submit(1, &[1], Some(data(PageRun::new(&dma, 3).unwrap()))).unwrap();
    assert_eq!(seen(), 4 + 3);
    visible.refuses.store(true, Ordering::Relaxed);
    // What the OS does not share comes back, with its tag.
    let back = queue.submit(2, &[1], Some(data(PageRun::new(&dma, 1).unwrap()))).unwrap_err();
    assert_eq!((back.error, back.value.0, queue.in_flight()), (Error::Memory, 2, 1));
    assert_eq!(seen(), 4 + 3);
    drop(back);
    let closing = queue.close(&mut client).unwrap();
    let (rings, flights) = client.block_on(closing, &mut grant(&host)).unwrap();
    assert_eq!(seen(), 0, "all of it is the guest's");
    drop((rings, flights));
    assert_eq!(host.live(), 0);
}
