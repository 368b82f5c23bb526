//! What the testbed does of what the hypervisor asks for.

use std::sync::Mutex;

use hv_partition::testing::{Effect, TestHost, Watch};

use crate::lock;
use crate::memory::Ram;

/// The model of an embedder, with the guest's pages as its memory.
pub(crate) type Embedder = TestHost<Surroundings, Ram>;

/// Interrupt controllers, and the effects that the test has not taken yet.
#[derive(Debug)]
pub(crate) struct Surroundings {
    pub(crate) gic: Vec<Mutex<Gic>>,
    pub(crate) effects: Mutex<Vec<Effect>>,
}

impl Surroundings {
    pub(crate) fn new(vps: usize) -> Self {
        Self { gic: (0..vps).map(|_| Mutex::default()).collect(), effects: Mutex::default() }
    }
}

/// Pending and enabled interrupts of a VP, one bit each.
#[derive(Debug, Default)]
pub(crate) struct Gic {
    pub(crate) pending: [u64; 4],
    pub(crate) enabled: [u64; 4],
}

impl Watch for Surroundings {
    fn effect(&self, effect: Effect) {
        lock(&self.effects).push(effect);
    }

    fn interrupt(&self, vp: usize, intid: u32) {
        let mut gic = lock(&self.gic[vp]);
        gic.pending[intid as usize / 64] |= 1 << (intid % 64);
    }
}
