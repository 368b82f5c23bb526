//! What the testbed does of what the hypervisor asks for.

use std::sync::Mutex;

use hv_partition::testing::{Effect, TestHost, Watch};

use crate::lock;
use crate::memory::Ram;
use crate::wire::Gic;

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

impl Watch for Surroundings {
    fn effect(&self, effect: Effect) {
        lock(&self.effects).push(effect);
    }

    fn interrupt(&self, vp: usize, intid: u32) {
        lock(&self.gic[vp]).raise(intid);
    }
}
