//! A machine saved as one image, and restored.
//!
//! An image has the machine's counter, its console, its VPs, its interrupt controller and its partition. Guest memory
//! is saved by the embedder, and restored before all else. An image is not trusted: it gives an error, or a guest in a
//! state that its own code could not reach, but no more power over the host than any guest has.

mod error;
mod gic;
#[cfg(test)]
mod tests;
mod vcpu;

use hv_memory::save::{self, Reader, Writer};
use hv_partition::{BusObserver, Host, Partition, Power, RawMutex, Served};

pub use self::error::{RestoreError, SaveError};
use self::vcpu::{SavedVp, save_off, save_on, save_starting};
use crate::gic::Entry;
use crate::host::{Embedder, Shared, lock};
use crate::kvm::Vm;
use crate::layout::Layout;
use crate::machine::{Machine, State};
use crate::observer::Observer;
use crate::pl011::Pl011;
use crate::vp::{Rest, Rested};

const MAGIC: [u8; 8] = *b"hv-kvm\0\0";
/// Version of the format. It increases with every change of what is saved.
const VERSION: u32 = 1;

impl<V: Vm, S: Observer> Machine<V, S> {
    /// Writes an image of the machine, whose run was [stopped](Self::stop), and of its partition to `sink`, piece by
    /// piece. `host` is [the embedder](Self::embedder), or one that decorates it. No request of a device may be in
    /// flight: [pause](hv_partition::Vmbus::pause) VMBus and wait until the embedder has completed all, before or after
    /// the stop, and until each call of [`completed`](Partition::completed) has returned. The machine can
    /// [go on](Self::resume).
    ///
    /// # Errors
    /// [`SaveError`]. What was written until then is no image.
    ///
    /// # Panics
    /// If the partition's VPs are not as many as the machine's.
    pub fn save<'h, H, R, B>(
        &self,
        host: &'h H,
        partition: &'h Partition<'_, R, B>,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Result<(), SaveError>
    where
        H: Host + BusObserver,
        R: RawMutex,
        B: Served<'h, R, H>,
    {
        let state = lock(&self.state);
        let State::Stopped(vps) = &*state else { return Err(SaveError::NotStopped) };
        assert_eq!(partition.vp_count(), vps.len(), "the partition and the machine have the same VPs");
        let Shared { vm, layout, slots, .. } = &*self.shared;
        let (counter, mut whole) = (vm.counter(), Vec::new());
        partition.save(host, &mut |part| whole.extend_from_slice(part)).map_err(SaveError::Partition)?;
        // While a helper runs, KVM does not tell the interrupt controller's state.
        let _at_rest: Vec<_> = self.embedders().iter().flat_map(Embedder::rest).collect();
        let mut w = Writer::begin(sink, MAGIC, VERSION);
        w.count(vps.len());
        addresses(layout).into_iter().for_each(|address| w.u64(address));
        w.u64(vm.counter_frequency());
        w.u64(counter);
        self.shared.save_uart(&mut w);
        for (vp, (rest, slot)) in vps.iter().zip(slots).enumerate() {
            match (rest.power, slot.pending_start()) {
                (Rested::On, _) => save_on(vp, &rest.vcpu, &mut w)?,
                (_, Some(context)) => save_starting(&context, &mut w),
                (_, None) => save_off(&mut w),
            }
        }
        gic::save(vm, vps.len(), &mut w)?;
        w.count(whole.len());
        w.bytes(&whole);
        w.finish();
        Ok(())
    }

    /// Restores the machine, which is new, and its partition from an image of [`Self::save`]. Guest memory must be
    /// restored before; then [`Self::resume`] goes on where the saved machine was. The guest's counter and reference
    /// time go on from the save: the guest does not see how long the machine was an image. Restore before
    /// [`enter_sandbox`](crate::enter_sandbox), which does not allow what this needs.
    ///
    /// # Errors
    /// [`RestoreError`]: the image is rejected, or this machine's KVM is too different from the one that saved. The
    /// machine cannot run if it has taken up a part of it. The partition is as it was, or as after
    /// [`reset`](Partition::reset).
    ///
    /// # Panics
    /// If the partition's VPs are not as many as the machine's.
    pub fn restore<'h, H, R, B>(
        &self,
        host: &'h H,
        partition: &'h Partition<'_, R, B>,
        image: &[u8],
    ) -> Result<(), RestoreError>
    where
        H: Host + BusObserver,
        R: RawMutex,
        B: Served<'h, R, H>,
    {
        let mut state = lock(&self.state);
        let State::New(vcpus) = &mut *state else { return Err(RestoreError::NotNew) };
        assert_eq!(partition.vp_count(), vcpus.len(), "the partition and the machine have the same VPs");
        let image = Image::read(&self.shared, image)?;
        let vcpus = std::mem::take(vcpus);
        *state = State::Used;
        let vps = image.restore(&self.shared, vcpus)?;
        // Last: the counter and the reference time go on together.
        let set = self.shared.vm.set_counter(image.counter);
        set.map_err(|source| RestoreError::Kvm { what: "the counter", source })?;
        partition.restore(host, image.partition)?;
        // The partition knows which VPs are on, too. VP 0 is off there before its first start.
        let differs = |(vp, saved): (usize, &SavedVp<'_>)| match saved {
            SavedVp::Off => partition.power(vp) != Some(Power::Off),
            SavedVp::Starting(_) => match partition.power(vp) {
                Some(Power::Starting) => false,
                power => vp != 0 || power != Some(Power::Off),
            },
            SavedVp::On(_) => partition.power(vp) != Some(Power::On),
        };
        if image.vps.iter().enumerate().any(differs) {
            partition.reset(host);
            return Err(save::RestoreError::Invalid("state of a VP").into());
        }
        *state = State::Stopped(vps);
        Ok(())
    }
}

/// Returns the addresses that the guest knows, which must be the same.
fn addresses(layout: &Layout) -> [u64; 6] {
    let Layout { distributor, redistributors, helper_redistributors, helper_page, uart, uart_intid } =
        *layout;
    [distributor, redistributors, helper_redistributors, helper_page, uart, uart_intid.into()]
}

/// A machine as an image has it.
struct Image<'r> {
    counter: u64,
    uart: Pl011,
    vps: Vec<SavedVp<'r>>,
    gic: Vec<(Entry, u64)>,
    partition: &'r [u8],
}

impl<'r> Image<'r> {
    /// Reads one of a machine like this.
    fn read<V: Vm, S>(here: &Shared<V, S>, image: &'r [u8]) -> Result<Self, RestoreError> {
        let mut r = Reader::open(image, MAGIC, VERSION)?;
        let (saved, vps) = (r.count()?, here.slots.len());
        if saved != vps {
            return Err(RestoreError::Vps { saved, here: vps });
        }
        for address in addresses(&here.layout) {
            if r.u64()? != address {
                return Err(RestoreError::Layout);
            }
        }
        let (saved, frequency) = (r.u64()?, here.vm.counter_frequency());
        if saved != frequency {
            return Err(RestoreError::Frequency { saved, here: frequency });
        }
        let counter = r.u64()?;
        let uart = Pl011::restore(&mut r)?;
        let vps = (0..vps).map(|_| SavedVp::read(&mut r)).collect::<Result<Vec<_>, _>>()?;
        if vps.iter().all(|vp| matches!(vp, SavedVp::Off)) {
            // The run would have ended.
            return Err(save::RestoreError::Invalid("state of the VPs").into());
        }
        let gic = gic::read(vps.len(), &mut r)?;
        let len = r.count()?;
        let partition = r.bytes(len)?;
        r.end()?;
        Ok(Self { counter, uart, vps, gic, partition })
    }

    /// Gives a new machine this state, but for the counter and the partition's. Returns its VPs.
    fn restore<V: Vm, S: Observer>(
        &self,
        shared: &Shared<V, S>,
        vcpus: Vec<V::Vcpu>,
    ) -> Result<Vec<Rest<V::Vcpu>>, RestoreError> {
        let mut online = 0;
        let mut rested = Vec::new();
        for (vp, (saved, vcpu)) in self.vps.iter().zip(vcpus).enumerate() {
            online += usize::from(!matches!(saved, SavedVp::Off));
            let power = match saved {
                SavedVp::Off => Rested::New,
                SavedVp::Starting(context) => {
                    shared.slots[vp].request_start(context);
                    Rested::New
                }
                SavedVp::On(cpu) => {
                    cpu.restore(vp, &vcpu)?;
                    Rested::On
                }
            };
            rested.push(Rest { vcpu, power });
        }
        shared.set_online(online);
        gic::restore(&shared.vm, &self.gic)?;
        let uart = shared.restore_uart(self.uart.clone());
        uart.map_err(|source| RestoreError::Kvm { what: "the console's interrupt", source })?;
        Ok(rested)
    }
}
