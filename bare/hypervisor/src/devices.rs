//! The devices on the guest's VMBus, which are those of `hv-control`.

use crate::lock::Lock;

/// Requests of a controller in flight at a time. The back end completes each at once, except those that are carried out
/// piece by piece.
const REQUESTS: usize = 16;

/// The bus with these devices.
pub(crate) type Bus = hv_control::Bus<Lock, REQUESTS>;

/// The guest's bus. Nothing is offered on it before `machine` does. All zeros, so that it occupies no space in the
/// image (`hypervisor.ld`).
pub(crate) static BUS: Bus = Bus::with_devices(Some(hv_vmbus::Config::DEFAULT), hv_control::Devices::new());

/// What the ports to the tool keep.
pub(crate) static STATE: hv_control::State<Lock> = hv_control::State::new();

/// The machine, as the ports to the tool see it.
pub(crate) type Machine<'h, H> = hv_control::Machine<'h, Lock, H, REQUESTS>;
