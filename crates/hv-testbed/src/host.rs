//! What the hypervisor asks of the testbed.

use std::sync::atomic::Ordering;

use hv_partition::{
    Action, BusObserver, DeviceId, Event, Flush, Host, HostBackend, Never, Pages, Retarget, Started, Token,
    VpContext, VpMask,
};
use hv_tlfs::status::HvStatus;

use crate::memory::Ram;
use crate::{Testbed, lock};

/// The device that [`Effect::Retarget`] can be had for.
const DEVICE: u64 = 7;

/// Something that the hypervisor did beyond registers, memory and interrupts.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Effect {
    /// A VP that was off was started.
    Start {
        /// The VP.
        vp: usize,
        /// Its registers.
        context: VpContext,
    },
    /// Translations were flushed.
    Flush {
        /// On which VPs.
        targets: VpMask,
        /// Which.
        what: Flush,
    },
    /// A device's interrupt was sent elsewhere. The testbed has one device, number 7.
    Retarget {
        /// The MSI's address and data.
        msi: (u64, u32),
        /// The interrupt to raise.
        vector: u32,
        /// Where.
        targets: VpMask,
        /// On all of them.
        multicast: bool,
    },
    /// A VP wants to be stopped or suspended, or the machine to be switched off. It goes on here.
    Power {
        /// The VP.
        vp: usize,
        /// What it wants.
        action: Action,
    },
    /// The guest reported a crash.
    Crash {
        /// The control register.
        control: u64,
        /// Parameters P0 to P4.
        parameters: [u64; 5],
        /// The text.
        text: Vec<u8>,
    },
}

/// The testbed, as the partition sees it.
pub(crate) struct Embedder<'a>(pub(crate) &'a Testbed);

impl BusObserver for Embedder<'_> {}

impl HostBackend<Never> for Embedder<'_> {
    fn start(&self, _: DeviceId, _: Token, request: &Never, _: Pages<'_>) -> Started<Never> {
        match *request {}
    }
}

impl Host for Embedder<'_> {
    type Memory = Ram;

    fn memory(&self) -> &Ram {
        &self.0.ram
    }

    fn counter(&self) -> u64 {
        self.0.counter.fetch_add(self.0.step.load(Ordering::Relaxed), Ordering::Relaxed)
    }

    fn assert_interrupt(&self, vp: usize, intid: u32) {
        let mut gic = lock(&self.0.gic[vp]);
        gic.pending[intid as usize / 64] |= 1 << (intid % 64);
    }

    fn set_deadline(&self, vp: usize, counter: Option<u64>) {
        *lock(&self.0.deadlines[vp]) = counter;
    }

    fn start_vp(&self, vp: usize, context: &VpContext) {
        lock(&self.0.effects).push(Effect::Start { vp, context: *context });
    }

    fn flush_tlb(&self, targets: &VpMask, what: Flush) {
        lock(&self.0.effects).push(Effect::Flush { targets: targets.clone(), what });
    }

    fn retarget_interrupt(&self, request: &Retarget<'_>) -> Result<(), HvStatus> {
        if request.device != DEVICE {
            return Err(HvStatus::INVALID_DEVICE_ID);
        }
        lock(&self.0.effects).push(Effect::Retarget {
            msi: (request.address, request.data),
            vector: request.vector,
            targets: request.targets.clone(),
            multicast: request.multicast,
        });
        Ok(())
    }

    fn observe(&self, event: &Event<'_>) {
        if let Event::Crash { control, parameters, text, .. } = *event {
            lock(&self.0.effects).push(Effect::Crash { control, parameters, text: text.to_vec() });
        }
    }
}
