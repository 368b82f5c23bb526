//! A guest of `hv-vmbus-client` and of nothing above it, from contact to the end: what the client takes in a program.
//! `cargo hv test image/client` measures it. It waits by polling, so no code of an OS is among the client's.
#![no_std]
#![no_main]

use bus::{Boot, MEMORY, Pool};
use hv_guest::arch::Either;
use hv_guest::page::{CallPage, Page};
use hv_guest::synic::SintIndex;
use hv_tlfs::vmbus::guid;
use hv_tlfs::vp::VpIndex;
use hv_vmbus_client::{
    Buffer, Client, Contact, Error, Event, Notice, Open, PageRun, PollSynic, Queue, Slots, Wait as _, Wake,
};

static SLOTS: Slots<64, 72> = Slots::new();
static PAGE: Page = Page::new();

/// A type of this program's own, so that nothing of the client is shared with the library `bus`.
struct Unwoken;

impl Wake for Unwoken {
    fn wake(&self, _: &Notice) {}
}

/// Looks for the host's messages before it is given up.
const LOOKS: u64 = 1 << 24;

rt::entry!(main);
fn main(hardware: &'static rt::Hardware) {
    let boot = Boot::new(hardware);
    let synic = boot.synic();
    let lent = SLOTS.lend().expect("they are free");
    // SAFETY: the client is given what a SynIC of this partition has, in its order; the memory of `Pool` is the
    // partition's own RAM; it is the only client of the program.
    #[expect(unsafe_code, reason = "vouches that there is one client")]
    let mut client =
        unsafe { Client::with_waker(boot.conduit(), CallPage::new(&PAGE, &MEMORY), lent, Unwoken) };
    let vp = synic.vp().index();
    match uses(&mut client, vp, &mut PollSynic::new(&synic, SintIndex::VMBUS, LOOKS)) {
        Ok(bytes) => rt::println!("bench: client has received {bytes} bytes"),
        Err(error) => rt::println!("bench: client failed, may be retried: {}", error.may_retry()),
    }
    boot.end(synic);
}

/// Makes contact, opens the heartbeat's channel, sends a request with memory, and receives what the host sends.
#[inline(never)]
fn uses(
    client: &mut Client<'static, Either, Unwoken>,
    vp: VpIndex,
    os: &mut PollSynic<'_, '_, Either>,
) -> Result<usize, Error> {
    client.connect(Contact::new(vp), os)?;
    let offer = client.find(guid::HEARTBEAT).ok_or(Error::NoSlot)?;
    let channel = client.open_channel(&offer, 4, Open::on(vp), &Pool, os)?;
    let mut queue: Queue<'_, Pool, Either, u32, 8> = Queue::new(channel);
    let data = Buffer { pages: PageRun::of_bytes(&Pool, 4096)?, offset: 0, len: 4096 };
    queue.submit(1, &[0; 64], Some(data)).map_err(|returned| returned.error)?;
    let mut buffer = [0; 256];
    let received = loop {
        match queue.next(&mut buffer)? {
            Some(Event::Completed { payload, .. } | Event::Packet { payload, .. }) => break payload.len(),
            None => os.wait(client)?,
        }
    };
    let closing = queue.close(client).map_err(|returned| returned.error)?;
    drop(client.block_on(closing, os).map_err(|returned| returned.error)?);
    client.disconnect(os)?;
    Ok(received)
}
