//! A kernel in C with a bus and devices, and the host's devices in this process.

use core::ffi::{c_int, c_void};
use core::ptr::null_mut;
use std::sync::Mutex;
use std::sync::atomic::Ordering;

use hv_devices::scsi::Disk;
use hv_devices::storage::{MAX_TRANSFER, Storage};
use hv_guest::conduit::{Conduit, FAST_WORDS};
use hv_guest::page::Page;
use hv_testbed::Testbed;
use hv_tlfs::hypercall::{HypercallCode, HypercallInput, HypercallOutput};
use hv_tlfs::register::RegisterName;
use hv_tlfs::synic::MessageType;
use hv_tlfs::vmbus::ChannelId;

use super::host::{TestDma, Wire, World};
use super::{Kernel, SINT};
use crate::machine::{self, Vmbus};
use crate::*;
use hv_testbed::RAM_BASE;

/// Bytes of the disks.
const DISK: usize = 1 << 20;

/// The world with the devices behind the testbed with the SynIC.
struct Bridge {
    bed: &'static Testbed,
    world: &'static World,
    seen: &'static Seen,
}

impl Bridge {
    /// Passes the host's messages on, as far as the SynIC has room.
    fn feed(&self) {
        self.world.bus.flush(&self.world.host);
        let mut messages = self.world.host.messages.lock().unwrap();
        while let Some(message) = messages.pop_front() {
            if self.bed.post(0, SINT, MessageType(1), &message).is_err() {
                messages.push_front(message);
                break;
            }
        }
    }
}

impl Vmbus for Bridge {
    fn call(&self, control: HypercallInput, block: &mut [u64; FAST_WORDS]) -> Option<HypercallOutput> {
        let asks =
            (control.code(), block[2] as u32) == (HypercallCode::GET_VP_REGISTERS, RegisterName::VP_INDEX.0);
        let act = self.seen.while_asking.lock().unwrap().take_if(|_| asks);
        if let Some(act) = act {
            act();
        }
        let served = matches!(control.code(), HypercallCode::POST_MESSAGE | HypercallCode::SIGNAL_EVENT);
        // SAFETY: a model: it reads and writes the memory of its own world.
        let output = served.then(|| unsafe { Wire(self.world).call(control, block) });
        self.feed();
        output
    }

    fn go_on(&self) {
        self.feed();
    }

    fn gpa(&self, address: usize) -> Option<u64> {
        let pages = self.world.host.ram.pages();
        let offset = address.checked_sub(pages.as_ptr().addr())?;
        (offset < size_of_val(pages)).then_some(RAM_BASE + offset as u64)
    }
}

/// What the callbacks of a kernel see.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) notices: Mutex<Vec<(u32, u32)>>,
    pub(super) shared: Mutex<Vec<usize>>,
    /// How often the kernel waits before it gives up.
    pub(super) patience: Mutex<usize>,
    /// Is called when the kernel waits.
    pub(super) while_waiting: Mutex<Option<Box<dyn FnMut() + Send>>>,
    /// Is called once, when the library asks which VP is calling.
    pub(super) while_asking: Mutex<Option<Box<dyn FnOnce() + Send>>>,
    /// Is called once, when rings are freed.
    pub(super) while_freeing: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

pub(super) struct KernelWorld {
    pub(super) kernel: Kernel,
    pub(super) world: &'static World,
    pub(super) seen: &'static Seen,
    pub(super) messages: &'static Page,
    pub(super) events: &'static Page,
    pub(super) bus: &'static mut hv_bus,
    pub(super) storage: &'static mut hv_storage,
    pub(super) net: &'static mut hv_net,
}

impl Drop for KernelWorld {
    fn drop(&mut self) {
        machine::serve(None);
    }
}

/// What the allocator's callbacks get: the world, and what they saw.
struct Context {
    world: &'static World,
    seen: &'static Seen,
}

fn context(context: *mut c_void) -> &'static Context {
    // SAFETY: the context of `KernelWorld::config`, which is leaked.
    unsafe { &*context.cast() }
}

unsafe extern "C" fn allocate(ctx: *mut c_void, pages: usize) -> *mut c_void {
    use hv_vmbus_client::Dma as _;
    TestDma(context(ctx).world).allocate(pages).map_or(null_mut(), |pages| pages.as_ptr().cast())
}

unsafe extern "C" fn free(ctx: *mut c_void, _: *mut c_void, pages: usize) {
    let Context { world, seen } = context(ctx);
    world.host.ram.live.fetch_sub(pages, Ordering::Relaxed);
    let rings = pages >= 32;
    let act = seen.while_freeing.lock().unwrap().take_if(|_| rings);
    if let Some(act) = act {
        act();
    }
}

/// Returns the world's pages at an address.
fn pages_of(world: &World, memory: *mut c_void, pages: usize) -> &[Page] {
    let first = (memory.addr() - world.host.ram.pages().as_ptr().addr()) / 4096;
    &world.host.ram.pages()[first..first + pages]
}

unsafe extern "C" fn share(ctx: *mut c_void, memory: *mut c_void, pages: usize) -> c_int {
    let Context { world, seen } = context(ctx);
    world.host.ram.share(pages_of(world, memory, pages), true);
    let mut shared = seen.shared.lock().unwrap();
    shared.extend((0..pages).map(|page| memory.addr() + page * 4096));
    0
}

unsafe extern "C" fn unshare(ctx: *mut c_void, memory: *mut c_void, pages: usize) {
    let Context { world, seen } = context(ctx);
    world.host.ram.share(pages_of(world, memory, pages), false);
    let mut shared = seen.shared.lock().unwrap();
    for page in (0..pages).map(|page| memory.addr() + page * 4096) {
        let place = shared.iter().position(|shared| *shared == page).expect("it was shared");
        shared.swap_remove(place);
    }
}

unsafe extern "C" fn wait(ctx: *mut c_void) -> c_int {
    let Context { seen, .. } = context(ctx);
    if let Some(act) = &mut *seen.while_waiting.lock().unwrap() {
        act();
    }
    machine::vmbus().expect("there is a host").go_on();
    let mut patience = seen.patience.lock().unwrap();
    *patience = patience.saturating_sub(1);
    (*patience == 0).into()
}

unsafe extern "C" fn notice(ctx: *mut c_void, notice: u32, channel: u32) {
    context(ctx).seen.notices.lock().unwrap().push((notice, channel));
}

/// Zeros, as a kernel has them.
pub(super) fn zeros<T>() -> &'static mut T {
    // SAFETY: the objects of the header are numbers, for which zeros are valid.
    Box::leak(Box::new(unsafe { core::mem::zeroed() }))
}

impl KernelWorld {
    /// Creates a kernel whose SynIC is on, and a host with two disks and a card.
    pub(super) fn boot() -> Self {
        let kernel = Kernel::boot();
        let mut storage = Storage::new();
        for lun in 0..2 {
            storage.attach(0, lun, lun.into(), Disk::new(DISK as u64, [lun; 16], MAX_TRANSFER)).unwrap();
        }
        let world = World::new(storage, &[DISK, DISK]);
        let seen: &'static Seen = Box::leak(Box::default());
        let bridge = Box::leak(Box::new(Bridge { bed: kernel.bed, world, seen }));
        machine::serve(Some(bridge));
        let (messages, events) = (kernel.bed.page(), kernel.bed.page());
        let at = |page: &Page| super::virt_to_phys_of(page);
        for (register, value) in [
            (RegisterName::SIMP, at(messages) | 1),
            (RegisterName::SIEFP, at(events) | 1),
            (RegisterName::sint(SINT), 18),
            (RegisterName::SCONTROL, 1),
        ] {
            // SAFETY: pages of the testbed, which nothing else uses.
            assert_eq!(unsafe { hv_set_vpreg(register.0, value) }, 0);
        }
        *seen.patience.lock().unwrap() = 1000;
        let (bus, storage, net) = (zeros(), zeros(), zeros());
        Self { kernel, world, seen, messages, events, bus, storage, net }
    }

    pub(super) fn config(&self) -> hv_bus_config {
        let context = Box::leak(Box::new(Context { world: self.world, seen: self.seen }));
        hv_bus_config {
            size: size_of::<hv_bus_config>(),
            context: core::ptr::from_mut(context).cast(),
            allocate: Some(allocate),
            free: Some(free),
            share: Some(share),
            unshare: Some(unshare),
            wait: Some(wait),
            notice: Some(notice),
            messages: core::ptr::from_ref(self.messages).cast_mut().cast(),
            sint: SINT.into(),
            timeout: 0,
        }
    }

    /// Opens the bus and connects.
    pub(super) fn connect(&mut self) {
        let config = self.config();
        // SAFETY: zeros, and a configuration whose callbacks are the test's own.
        assert_eq!(unsafe { hv_bus_init(self.bus, size_of::<hv_bus>(), &config) }, 0);
        // SAFETY: a bus that is open.
        assert_eq!(unsafe { hv_bus_connect(self.bus) }, 0x60000, "the newest version");
    }

    pub(super) fn find(&mut self, kind: u32) -> u32 {
        // SAFETY: a bus that is open.
        unsafe { hv_bus_find(self.bus, kind, 0) }.try_into().expect("the host has one")
    }

    pub(super) fn open_storage(&mut self) -> [hv_disk; 2] {
        let channel = self.find(HV_DEVICE_STORAGE);
        // SAFETY: zeros or a closed controller, and a bus that is open.
        let opened =
            unsafe { hv_storage_open(self.storage, size_of::<hv_storage>(), self.bus, channel, HV_VP_NONE) };
        assert_eq!(opened, 0);
        let mut disks = [hv_disk::default(); 2];
        // SAFETY: a controller that is open; room for two.
        assert_eq!(unsafe { hv_storage_disks(self.storage, disks.as_mut_ptr(), 2) }, 2);
        disks
    }

    pub(super) fn open_net(&mut self) -> c_int {
        let channel = self.find(HV_DEVICE_NET);
        // SAFETY: zeros or a closed card, and a bus that is open.
        unsafe { hv_net_open(self.net, size_of::<hv_net>(), self.bus, channel, 0, 1500) }
    }

    /// Allocates memory of the kernel that the host can reach.
    pub(super) fn memory(&self, pages: usize) -> &'static [Page] {
        use hv_vmbus_client::Dma as _;
        let pages = TestDma(self.world).allocate(pages).unwrap();
        self.world.host.ram.live.fetch_sub(pages.len(), Ordering::Relaxed);
        // SAFETY: pages of the world, which live as long as the process.
        unsafe { pages.as_ref() }
    }

    pub(super) fn poll(&mut self) -> Result<hv_storage_completion, c_int> {
        let mut completion =
            hv_storage_completion { tag: null_mut(), memory: null_mut(), error: 1, status: 1, bytes: 1 };
        // SAFETY: the test's own object, and a place for the completion.
        match unsafe { hv_storage_poll(self.storage, &mut completion) } {
            1 => Ok(completion),
            number => Err(number),
        }
    }

    pub(super) fn close(&mut self) {
        // SAFETY: a bus that is open.
        assert_eq!(unsafe { hv_bus_close(self.bus) }, 0);
        assert_eq!(self.world.host.ram.live(), 0, "all memory comes back");
        assert_eq!(*self.seen.shared.lock().unwrap(), [0_usize; 0], "and nothing is shared");
    }

    pub(super) fn rescind(&self, channel: u32) {
        rescind(self.world, channel);
    }
}

/// Rescinds a channel, and hands the guest the message.
pub(super) fn rescind(world: &World, channel: u32) {
    assert!(world.bus.rescind(ChannelId(channel), &world.host));
    machine::vmbus().expect("there is a host").go_on();
}

pub(super) fn pointer(page: &Page) -> *mut c_void {
    core::ptr::from_ref(page).cast_mut().cast()
}
