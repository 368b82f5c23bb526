//! The devices on the guest's VMBus, which are those of `hv-control`, and what the report has of them.

use hv_control::Devices;
use hv_kvm::KvmVm;
use hv_partition::Partition;
use parking_lot::RawMutex;

use crate::hearer::Hearer;

/// Requests of a controller in flight at a time: twice what a guest's queue commonly has.
const REQUESTS: usize = 64;

/// The bus with these devices.
pub(crate) type Bus = hv_control::Bus<RawMutex, REQUESTS>;

/// The guest's bus: too large for a stack.
pub(crate) static BUS: Bus = Bus::with_devices(Some(hv_vmbus::Config::DEFAULT), Devices::new());

/// What the ports to the tool keep.
pub(crate) static STATE: hv_control::State<RawMutex> = hv_control::State::new();

/// The partition with this bus.
pub(crate) type OwnPartition = Partition<'static, RawMutex, Bus>;

/// The virtual machine.
pub(crate) type Machine = hv_kvm::Machine<KvmVm, Hearer>;

/// The machine, as the ports to the tool see it.
pub(crate) type Ports<H> = hv_control::Machine<'static, RawMutex, H, REQUESTS>;
