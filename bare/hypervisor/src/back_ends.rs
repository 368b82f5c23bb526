//! The back ends of the devices on the guest's VMBus.

use hv_devices::balloon::Discard;
use hv_devices::storage;
use hv_partition::faults::{Failing, Faults as _};
use hv_partition::{HostBackend, disk_failure};
use hv_vmbus::{DeviceId, Pages, Started, Token};

use crate::devices::STATE;
use crate::faults::Planned;
use crate::host::Embedder;
use crate::{disks, network, outcomes};

impl<const OBSERVED: bool> HostBackend<storage::Request> for Embedder<'_, OBSERVED> {
    const FAILS: bool = true;

    fn fail(&self, _: &storage::Request, failing: Failing) -> Option<Result<(), storage::Failure>> {
        Some(Err(disk_failure(failing)))
    }

    fn start(
        &self,
        _: DeviceId,
        _: Token,
        request: &storage::Request,
        data: Pages<'_>,
    ) -> Started<Result<(), storage::Failure>> {
        let hypervisor = self.cpu.hypervisor;
        Started::Done(match hypervisor.disks.get(request.disk) {
            Some(disk) => disks::carry_out(&disk, &hypervisor.ram, &request.piece, data),
            None => Err(storage::Failure::Target),
        })
    }
}

impl<const OBSERVED: bool> HostBackend<Discard> for Embedder<'_, OBSERVED> {
    fn start(&self, _: DeviceId, token: Token, _: &Discard, _: Pages<'_>) -> Started<()> {
        if !outcomes::CONTROL.is_there() {
            return Started::Done(());
        }
        let started = STATE.start_discard(token);
        outcomes::ready();
        started
    }
}

impl<const OBSERVED: bool> HostBackend<hv_devices::network::Request> for Embedder<'_, OBSERVED> {
    fn start(
        &self,
        _: DeviceId,
        _: Token,
        request: &hv_devices::network::Request,
        data: Pages<'_>,
    ) -> Started<Result<(), hv_devices::network::Lost>> {
        let plan = Planned::<OBSERVED> { cpu: self.cpu };
        network::send(request, &self.cpu.hypervisor.ram, data, || plan.frame(true))
    }
}
