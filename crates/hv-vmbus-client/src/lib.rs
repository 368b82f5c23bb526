//! A guest's end of Hyper-V's VMBus: contact, offers, GPADLs, channels, rings.
//!
//! `no_std`, no allocation, no global state. The OS owns all state and passes it in:
//!
//! | the OS gives | what for |
//! |---|---|
//! | a [`Conduit`](hv_guest::conduit::Conduit), a [`CallPage`](hv_guest::page::CallPage) | to post messages and to signal |
//! | [`Dma`] | memory that the host may access |
//! | [`Slots`] | places for channels and GPADLs |
//! | the host's messages | [`deliver`], in the handler of the SINT's interrupt or while it polls |
//! | [`Wake`], or [`Wait`] | how to wait: not needed by an OS that polls |
//!
//! [`Client`] is the connection. It never waits: what the host has to answer is polled, or waited for by functions that
//! take the OS's [`Wait`]. An open [`Channel`] does not need it. A [`Queue`] is a channel whose packets are requests
//! with memory.
//!
//! # From contact to the first packet
//!
//! ```
//! use hv_guest::{conduit::Conduit, page::{CallPage, Page}, synic::{SintIndex, Synic}};
//! use hv_vmbus_client::{Client, Contact, Dma, Error, Open, PollSynic, Slots, ring::Outgoing, tlfs::vmbus::Guid};
//!
//! static SLOTS: Slots<16, 32> = Slots::new();
//!
//! /// Sends bytes to the first device of a kind, and returns how many come back. `synic` is the calling VP's.
//! fn echo<C: Conduit + Copy>(
//!     conduit: C,
//!     synic: &Synic<'_, C>,
//!     page: CallPage<'static>,
//!     dma: impl Dma,
//!     device: Guid,
//! ) -> Result<usize, Error> {
//!     let slots = SLOTS.lend().ok_or(Error::NoSlot)?;
//!     // SAFETY: `conduit` and `synic` are the same partition's, whose memory `dma` allocates; no other client exists.
//!     let mut client = unsafe { Client::new(conduit, page, slots) };
//!     let mut os = PollSynic::new(synic, SintIndex::VMBUS, 1_000_000);
//!
//!     let vp = synic.vp().index();
//!     client.connect(Contact::new(vp), &mut os)?;
//!     let offer = client.find(device).ok_or(Error::NoSlot)?;
//!     // Rings of 16 KiB each.
//!     let mut channel = client.open_channel(&offer, 4, Open::on(vp), &dma, &mut os)?;
//!     channel.send(&Outgoing::in_band(1, b"hello"))?;
//!     // An OS sleeps here until event flag `channel.id()` of the SINT is set.
//!     let bytes = loop {
//!         if let Some(mut packet) = channel.receive()? {
//!             break packet.read(&mut [0; 64]);
//!         }
//!     };
//!     channel.commit()?;
//!     client.close_channel(channel, &mut os)?;
//!     client.disconnect(&mut os)?;
//!     Ok(bytes)
//! }
//! # use std::ptr::NonNull;
//! # use hv_guest::{detect, page::Memory, tlfs::guest_id::GuestOsId, vp_map::VpMap};
//! # use hv_testbed::{Config, Convention, Testbed};
//! # #[derive(Clone)]
//! # struct Pages(&'static Testbed);
//! # unsafe impl Memory for Pages {
//! #     fn gpa(&self, page: &Page) -> u64 { self.0.memory().gpa(page) }
//! # }
//! # unsafe impl Dma for Pages {
//! #     fn allocate(&self, count: usize) -> Option<NonNull<[Page]>> { Some(self.0.pages(count).into()) }
//! #     unsafe fn free(&self, _: NonNull<[Page]>) {}
//! # }
//! # static OFFERS: [hv_devices::any::Offer; 1] = [hv_devices::any::Offer::ECHO];
//! # let bed = Testbed::new(Config::new(24_000_000).with_offers(&OFFERS), 1);
//! # let wire = bed.wire(0, Convention::Smccc);
//! # let hv = detect::vendor_uid(wire).unwrap().identify(GuestOsId::linux(0x06_0c_00)).unwrap();
//! # let map = VpMap::<1>::new();
//! # let mut synic = hv.vp(&map, 0).unwrap().enable_synic(bed.page(), bed.page(), bed.memory()).unwrap();
//! # let intid = hv_guest::interrupts::Intid::new(18).unwrap();
//! # synic.unmask(SintIndex::VMBUS, intid, &bed.interrupts(0)).unwrap();
//! # assert_eq!(echo(wire, &synic, bed.call_page(), Pages(bed), hv_devices::echo::INTERFACE), Ok(8));
//! ```
//!
//! # The host is not trusted with the guest's state
//!
//! Messages, ring indices, descriptors and completions are read once into memory of the guest's own, and judged there.
//! Numbers of the host are keys that are looked up. Work for one call is bounded by the size of a ring or of the slots.
//! What a driver reads from a packet it judges itself.
//!
//! Memory is typed by who uses it: [`PageRun`] is the guest's, [`Shared`] and all that owns one is the host's too. The
//! change back happens on the host's word alone (GPADL_TORNDOWN, a completion, RESCIND, the end of the connection),
//! which is why creating a [`Client`] is unsafe: its creator vouches that what it is given as the host's word is just
//! that.
//!
//! Every C name of the interface is a search alias in [`tlfs`].
#![no_std]
#![warn(missing_debug_implementations)]

#[cfg(test)]
extern crate std;

mod channel;
#[expect(unsafe_code, reason = "creates a value whose creator vouches for the host's messages")]
mod client;
mod contact;
#[expect(unsafe_code, reason = "owns memory of the OS")]
mod dma;
mod error;
mod gpadl;
mod queue;
pub mod ring;
mod slots;
mod wait;

pub use channel::{Channel, FromHost, Open, Opened, Opening, ToHost};
pub use client::{Client, Notice};
pub use contact::Contact;
pub use dma::{Data, Direction, Dma, PageNumbers, PageRun, Returned, Shared, Window};
pub use error::{Error, FLOOD};
pub use gpadl::{Gpadl, GpadlRequest, MAX_PAGES, Teardown};
pub use hv_guest;
pub use hv_tlfs as tlfs;
pub use queue::{Buffer, Closed, Closing, Event, Landed, Queue};
pub use slots::{Lent, Offer, Slots};
pub use wait::{PollSynic, Progress, Request, Wait, Wake, deliver};
