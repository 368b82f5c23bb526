//! Messages, from their cause to the end of message.

use hv_guest::arch::Smccc;
use hv_guest::connection;
use hv_guest::interrupts::{Interrupts, Intid};
use hv_guest::page::CallPage;
use hv_guest::partition::Vp;
use hv_guest::registers::{self, Register};
use hv_guest::synic::{SintIndex, Synic};
use hv_guest::timer::TimerIndex;
use hv_tlfs::synic::{ConnectionId, MessageType};
use hv_tlfs::timer::StimerConfig;
use hv_tlfs::vmbus::{self, InitiateContact, TargetInfo, Version};
use rt::{Hardware, irq};
use zerocopy::IntoBytes;

use crate::gic::{acknowledge, end};
use crate::interrupts::unexpected;
use crate::measure::Bench;
use crate::vmbus::Bus;
use crate::{MEMORY, PAGES};
use crate::{disk, network};

struct Masked;

impl Interrupts for Masked {
    fn enable(&self, intid: Intid) {
        irq::set_edge(intid.number().into());
        irq::enable(intid.number().into(), unexpected);
    }

    fn disable(&self, intid: Intid) {
        irq::disable(intid.number().into());
    }
}

/// Takes the next message of a source, and ends it.
#[inline(always)]
fn take(synic: &Synic<'_, Smccc>, sint: SintIndex) {
    end(acknowledge());
    if let Some(message) = synic.pending(sint) {
        let _ = core::hint::black_box(message.read());
        let _ = synic.end(message);
    }
}

pub(crate) fn run(bench: &Bench, hardware: &Hardware, vp: Vp<'_, Smccc>) {
    let intid = hardware.vmbus_intid.and_then(Intid::new).expect("firmware tells VMBus's interrupt");
    let synic = vp.enable_synic(&PAGES[2], &PAGES[3], &MEMORY);
    let mut synic = synic.expect("it has a SynIC");
    synic.unmask(SintIndex::VMBUS, intid, &Masked).expect("it unmasks a source");
    timer(bench, &synic);
    contact(bench, &synic);
    devices(bench, &synic);
    post(bench, &mut synic);
    event(bench, &mut synic);
    synic.disable(&Masked).expect("it gives the pages back");
}

/// Measures devices on VMBus.
fn devices(bench: &Bench, synic: &Synic<'_, Smccc>) {
    // The figure without the copy comes from these two.
    let disk = bench.wants("disk-read") || bench.wants("disk-read-512");
    let network =
        ["net-frame", "net-frame-1514", "net-frame-received"].into_iter().any(|name| bench.wants(name));
    if !disk && !network {
        return;
    }
    let bus = Bus::connect(synic);
    if disk {
        disk::run(bench, &bus);
    }
    if network {
        network::run(bench, &bus);
    }
}

/// Measures a synthetic timer's message, from arming the timer for a time in the past to the end of message.
fn timer(bench: &Bench, synic: &Synic<'_, Smccc>) {
    let [_, timer, ..] = TimerIndex::ALL;
    let config = StimerConfig(0).with_sint(SintIndex::VMBUS.number()).with_auto_enable(true);
    let vp = synic.vp();
    registers::set(vp, Register::timer_config(timer), config).expect("it has timers");
    bench.each("timer-message", 2000, || {
        let _ = registers::set(vp, Register::timer_count(timer), 1);
        take(synic, SintIndex::VMBUS);
    });
    bench.each("eom", 2000, || {
        let _ = synic.poll();
    });
    registers::set(vp, Register::timer_config(timer), StimerConfig(0)).expect("it stops a timer");
}

/// Measures a message to VMBus, HvCallPostMessage with 40 bytes, and its answer to the end of message.
fn contact(bench: &Bench, synic: &Synic<'_, Smccc>) {
    let contact = InitiateContact {
        header: vmbus::MessageHeader { message_type: vmbus::MessageType::INITIATE_CONTACT, padding: 0 },
        version: Version::V5_3,
        target_vp: synic.vp().index().0,
        target_info: TargetInfo(0).with_sint(SintIndex::VMBUS.number()),
        monitor_page_in: 0,
        monitor_page_out: 0,
    };
    let mut page = CallPage::new(&PAGES[4], &MEMORY);
    let mut refused = 0;
    bench.each("vmbus-contact", 1000, || {
        let posted =
            connection::post_message(synic, &mut page, ConnectionId(4), MessageType(1), contact.as_bytes());
        refused += u64::from(posted.is_err());
        take(synic, SintIndex::VMBUS);
    });
    assert!(refused == 0, "the host refused {refused} of the messages");
}

/// Connections that lead back to this VP, if the host offers them (hypervisor, loopback.rs).
const MESSAGE_CONNECTION: ConnectionId = ConnectionId(0x7e_0001);
const EVENT_CONNECTION: ConnectionId = ConnectionId(0x7e_0011);
/// Their sources, and the interrupts that this program assigns to them; firmware assigns neither.
const MESSAGE: (u8, u32) = (5, 20);
const EVENT: (u8, u32) = (6, 21);
/// The first flag of the event connection.
const FLAG: u16 = 40;

fn unmask(synic: &mut Synic<'_, Smccc>, (sint, intid): (u8, u32)) -> SintIndex {
    let sint = SintIndex::new(sint).expect("a source");
    synic.unmask(sint, Intid::new(intid).expect("a PPI"), &Masked).expect("it unmasks a source");
    sint
}

/// Measures a message of 64 bytes to this VP.
fn post(bench: &Bench, synic: &mut Synic<'_, Smccc>) {
    let sint = unmask(synic, MESSAGE);
    let mut page = CallPage::new(&PAGES[4], &MEMORY);
    let mut post = || {
        connection::post_message(synic, &mut page, MESSAGE_CONNECTION, MessageType(1), &[0x5a; 64]).is_ok()
    };
    if !post() {
        rt::println!("no connection leads back");
        return;
    }
    take(synic, sint);
    let mut refused = 0;
    bench.each("post-message", 2000, || {
        refused += u64::from(!post());
        take(synic, sint);
    });
    assert!(refused == 0, "the host refused {refused} of the messages");
}

/// Measures an event to this VP, until its flag is taken.
fn event(bench: &Bench, synic: &mut Synic<'_, Smccc>) {
    let sint = unmask(synic, EVENT);
    if connection::signal_event(&Smccc, EVENT_CONNECTION, 0).is_err() {
        return;
    }
    end(acknowledge());
    assert!(synic.take_event(sint, FLAG), "the flag is the connection's first");
    let mut lost = 0;
    bench.each("signal-event", 2000, || {
        let _ = connection::signal_event(&Smccc, EVENT_CONNECTION, 0);
        end(acknowledge());
        lost += u64::from(!synic.take_event(sint, FLAG));
    });
    assert!(lost == 0, "{lost} of the events had no flag");
}
