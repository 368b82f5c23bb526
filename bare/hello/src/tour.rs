//! What a kernel does with Hyper-V, from detection to shutdown. Nothing here knows whether it runs on a machine
//! (`main.rs`) or in a test (`crates/hv-guest/tests/hello.rs`): [`Os`] abstracts the two.

use core::fmt;

use hv_guest::conduit::{Conduit, Counter};
use hv_guest::interrupts::{Interrupts, Intid};
use hv_guest::page::{CallPage, Memory, Page};
use hv_guest::synic::SintIndex;
use hv_guest::timer::{Schedule, Timer, TimerIndex};
use hv_guest::vp_map::VpMap;
use hv_guest::{connection, detect};
use hv_tlfs::guest_id::GuestOsId;
use hv_tlfs::synic::{ConnectionId, MessageType};
use hv_tlfs::time::ReferenceTime;
use hv_tlfs::vmbus::{self, InitiateContact, TargetInfo, Version, VersionResponse};
use zerocopy::{FromBytes, IntoBytes};

/// What the kernel has around it.
pub(crate) trait Os: Interrupts {
    /// Prints a line.
    fn print(&self, line: fmt::Arguments<'_>);
    /// Waits until this interrupt has arrived.
    fn wait(&self, intid: Intid);
}

/// Uses the hypervisor behind `conduit`, with four pages and the interrupts of VMBus and of timers.
pub(crate) fn tour<C: Conduit + Counter>(
    conduit: C,
    os: &impl Os,
    memory: &impl Memory,
    pages: &'static [Page],
    [vmbus, timer]: [Intid; 2],
) {
    // At boot: is it there, who are we, what time is it?
    let hv = detect::vendor_uid(conduit).expect("this is Hyper-V");
    let hv = hv.identify(GuestOsId::linux(0x01_00_00).with_os_id(0x42)).expect("it takes our id");
    let clock = hv.start_clock(&pages[0], memory).expect("it has a clock");
    let now = clock.now().expect("it tells the time");
    os.print(format_args!("the time is {now:?}, by page: {}", clock.sequence() != 0));

    // On each CPU: which VP is it? A timer (the clock is read last, so that the time is still to come), the SynIC.
    let map = VpMap::<8>::new();
    let vp = hv.vp(&map, 0).expect("it tells the VP's index");
    os.print(format_args!("VP {} of Hyper-V {}", vp.index().0, hv.information().version.build_number));
    let mut alarm = Timer::direct(&vp, TimerIndex::ALL[0], timer, os).expect("it has direct timers");
    let due = ReferenceTime(clock.now().expect("it tells the time").ticks() + 100_000);
    alarm.start(&vp, Schedule::Once(due)).expect("it starts a timer");
    os.wait(timer);
    os.print(format_args!("the timer came after {:?}", due));
    alarm.release(&vp, os).expect("it stops a timer");

    let synic = vp.enable_synic(&pages[1], &pages[2], memory);
    let mut synic = synic.expect("it has a SynIC");
    synic.unmask(SintIndex::VMBUS, vmbus, os).expect("it unmasks a source");
    let contact = InitiateContact {
        header: vmbus::MessageHeader { message_type: vmbus::MessageType::INITIATE_CONTACT, padding: 0 },
        version: Version::V5_3,
        target_vp: synic.vp().index().0,
        target_info: TargetInfo(0).with_sint(SintIndex::VMBUS.number()),
        monitor_page_in: 0,
        monitor_page_out: 0,
    };
    let (mut page, id, vmbus_type) = (CallPage::new(&pages[3], memory), ConnectionId(4), MessageType(1));
    connection::post_message(&synic, &mut page, id, vmbus_type, contact.as_bytes())
        .expect("it takes a message");
    os.wait(vmbus);
    let pending = synic.pending(SintIndex::VMBUS).expect("the interrupt came with a message");
    let message = pending.read().expect("its size can be");
    synic.end(pending).expect("it takes the end of a message");
    let answer = VersionResponse::read_from_prefix(message.payload()).expect("it is an answer").0;
    os.print(format_args!("a message came: VMBus 5.3 supported: {}", answer.supported));

    // At shutdown: everything off again, on each CPU and then once.
    let (vp, _) = synic.disable(os).expect("it gives the pages back");
    vp.offline().expect("it lets the VP go");
    clock.stop().expect("it gives the page back");
    hv.leave(&map).expect("it lets us go");
}
