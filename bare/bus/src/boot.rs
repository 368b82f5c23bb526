//! From the start to VMBus: the partition, SynICs, contact, and waiting.

use core::cell::Cell;
use core::time::Duration;

use hv_guest::arch::Either;
use hv_guest::detect;
use hv_guest::interrupts::{Interrupts, Intid};
use hv_guest::page::{CallPage, Page};
use hv_guest::partition::Partition;
use hv_guest::synic::{SintIndex, Synic};
use hv_guest::vp_map::VpMap;
use hv_tlfs::guest_id::GuestOsId;
use hv_tlfs::synic::EVENT_FLAGS_COUNT;
use hv_tlfs::vp::VpIndex;
use hv_vmbus_client::{Channel, Client, Contact, Error, Lent, Offer, Open, Wait, Wake, deliver};
use rt::{Hardware, MAX_CPUS, arch, cpu, irq, time, vps};

use crate::{MEMORY, Pool};

/// The SynIC's two pages of each VP, and the page of VMBus's messages to the host.
static SYNIC_PAGES: [[Page; 2]; MAX_CPUS] = [const { [const { Page::new() }; 2] }; MAX_CPUS];
static CALL_PAGE: Page = Page::new();

/// The partition.
#[derive(Debug)]
pub struct Boot {
    partition: Partition<Either>,
    map: VpMap<MAX_CPUS>,
    conduit: Either,
    interrupt: Intid,
}

/// The machine's interrupt controller. The handler has nothing to do: the interrupt ends a WFI.
struct Gic;

impl Interrupts for Gic {
    fn enable(&self, intid: Intid) {
        irq::set_edge(intid.number().into());
        irq::enable(intid.number().into(), |_| ());
    }

    fn disable(&self, intid: Intid) {
        irq::disable(intid.number().into());
    }
}

impl Boot {
    /// Identifies the guest to the hypervisor, by the convention that it answers, or `hvc #1` if the command line has
    /// `bus.hvc=1`.
    ///
    /// # Panics
    ///
    /// If this is not a partition with VMBus.
    #[must_use]
    pub fn new(hardware: &Hardware) -> Self {
        let conduit = if hardware.argument("bus.hvc") == Some("1") { Either::Hvc1 } else { Either::probe() };
        let hypervisor = detect::vendor_uid(conduit).expect("this is Hyper-V");
        let id = GuestOsId::linux(0x01_00_00).with_os_id(0x42);
        let partition = hypervisor.identify(id).expect("it takes our id");
        let interrupt = hardware.vmbus_intid.and_then(Intid::new).expect("firmware tells VMBus's interrupt");
        Self { partition, map: VpMap::new(), conduit, interrupt }
    }

    /// Returns the way to the hypervisor.
    #[must_use]
    pub fn conduit(&self) -> Either {
        self.conduit
    }

    /// Returns the partition.
    #[must_use]
    pub fn partition(&self) -> &Partition<Either> {
        &self.partition
    }

    /// Enables the calling VP's SynIC, with VMBus's source unmasked. Call it once on each VP.
    ///
    /// # Panics
    ///
    /// If the hypervisor refuses.
    #[must_use]
    pub fn synic(&self) -> Synic<'_, Either> {
        let vp = self.partition.vp(&self.map, cpu::index()).expect("it tells the VP's index");
        let [messages, events] = &SYNIC_PAGES[cpu::index()];
        let mut synic = vp.enable_synic(messages, events, &MEMORY).expect("it has a SynIC");
        synic.unmask(SintIndex::VMBUS, self.interrupt, &Gic).expect("it unmasks a source");
        synic
    }

    /// Disables a SynIC of the calling VP.
    ///
    /// # Panics
    ///
    /// If the hypervisor refuses.
    pub fn end(&self, synic: Synic<'_, Either>) {
        let (vp, _) = synic.disable(&Gic).expect("it gives the pages back");
        vp.offline().expect("it lets the VP go");
    }
}

/// Makes contact, with the host's messages for the calling VP, and waits for all offers.
///
/// # Errors
///
/// [`Error`].
///
/// # Safety
///
/// Call it once: the client is the only one of the program.
#[expect(unsafe_code, reason = "the caller vouches that there is no other client")]
pub unsafe fn connect<'t>(
    boot: &Boot,
    os: &Os<'_, '_>,
    slots: Lent<'t>,
) -> Result<Client<'t, Either>, Error> {
    // SAFETY: the caller vouches that no other client exists; this one is given messages by `os`, and by what borrows
    // the client later, which has no others than a SynIC's.
    let mut client = unsafe { client(boot, slots) };
    client.connect(Contact::new(os.vp()), &mut &*os)?;
    Ok(client)
}

/// Returns the client, which has not made contact.
///
/// # Safety
///
/// It is called once, so that the client is the only one of the program; and the client is given the messages of an
/// [`Os`] alone, in their order.
#[expect(unsafe_code, reason = "the caller vouches that there is no other client")]
#[must_use]
pub unsafe fn client<'t>(boot: &Boot, slots: Lent<'t>) -> Client<'t, Either> {
    let page = CallPage::new(&CALL_PAGE, &MEMORY);
    // SAFETY: the caller vouches that the client is given what a SynIC of this partition has (`Os`), in its order, and
    // that no other client exists; the memory of all programs' `Dma` is the partition's own RAM.
    unsafe { Client::new(boot.conduit, page, slots) }
}

/// The calling VP, which waits by interrupt: for a device, for the host's messages, or for anything.
#[derive(Debug)]
pub struct Os<'s, 'p> {
    synic: &'s Synic<'p, Either>,
    /// Ticks of the counter that one wait takes at most.
    limit: Option<u64>,
    /// Event flags that are looked at: those of the channels that the client knows are below.
    flags: Cell<usize>,
    /// Something has come since the last [`idle`](Self::idle).
    woken: Cell<bool>,
}

impl<'s, 'p> Os<'s, 'p> {
    /// Waits on the calling VP, whose SynIC this is.
    #[must_use]
    pub fn new(synic: &'s Synic<'p, Either>) -> Self {
        time::on_timer(|_| time::stop());
        Self { synic, limit: None, flags: Cell::new(EVENT_FLAGS_COUNT), woken: Cell::new(false) }
    }

    /// Gives each wait up after this time, with [`Error::TimedOut`], so that a signal that is lost ends in an error.
    #[must_use]
    pub fn with_limit(self, limit: Duration) -> Self {
        Self { limit: Some(time::ticks(limit)), ..self }
    }

    /// Opens a channel with rings of `pages` pages each, whose interrupts this VP gets.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub fn open<'t>(
        &self,
        client: &mut Client<'t, Either>,
        offer: &Offer,
        pages: usize,
    ) -> Result<Channel<'t, Pool, Either>, Error> {
        client.open_channel(offer, pages, Open::on(self.vp()), &Pool, &mut &*self)
    }

    /// Returns the VP.
    #[must_use]
    pub fn vp(&self) -> VpIndex {
        self.synic.vp().index()
    }

    /// Gives the client the host's messages that have come.
    pub fn deliver<W: Wake>(&self, client: &mut Client<'_, Either, W>) -> bool {
        let any = deliver(self.synic, SintIndex::VMBUS, client);
        if any {
            // A flag is a channel's number, and set once the channel is open, which is after its offer.
            let flags = client.offers().map(|offer| offer.channel().0 as usize + 1);
            self.flags.set(flags.max().unwrap_or(0));
        }
        any
    }

    /// Waits until something has come, on behalf of one device, whose ring the caller has just looked at.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`] at the [limit](Self::with_limit).
    pub fn wait(&self) -> Result<(), Error> {
        let deadline = self.limit.map(|limit| time::counter() + limit);
        self.sleep(deadline);
        self.woken.set(true);
        if deadline.is_some_and(|deadline| time::counter() >= deadline) {
            Err(Error::TimedOut)
        } else {
            Ok(())
        }
    }

    /// Waits for an interrupt, or for the counter to have this value.
    fn sleep(&self, deadline: Option<u64>) {
        let mut signalled = false;
        // A flag that stays set raises no further interrupt.
        self.synic.take_events_below(SintIndex::VMBUS, self.flags.get(), |_| signalled = true);
        if !signalled {
            deadline.into_iter().for_each(time::arm);
            arch::wfi();
            time::stop();
        }
        vps::take_interrupts();
    }

    /// Returns the wait of the drivers' functions that block.
    pub fn waiter(&self) -> impl FnMut() -> Result<(), Error> {
        || self.wait()
    }

    /// Waits until something has come, or the counter has this value, on behalf of all devices: returns at once if
    /// something came since the last call, which may have been for another than who waited then.
    pub fn idle(&self, deadline: Option<u64>) {
        if self.woken.replace(false) {
            return;
        }
        self.sleep(deadline);
        self.woken.set(false);
    }
}

impl<W: Wake> Wait<Either, W> for &Os<'_, '_> {
    fn wait(&mut self, client: &mut Client<'_, Either, W>) -> Result<(), Error> {
        if self.deliver(client) { Ok(()) } else { Os::wait(self) }
    }
}
