//! The disks, and the threads that carry out their requests, so that no VP waits for storage.

use std::fs::File;
use std::path::Path;
use std::sync::{PoisonError, RwLock};

use anyhow::Context as _;
use hv_control::{Serves, Table};
use hv_devices::storage::{Failure, Request};
use hv_memory::VmMemory;
use hv_partition::{DeviceId, Pages, Started, Token};
use hv_wire::{BootInfo, DiskFlags};
use vm_memory::GuestMemoryMmap;

use crate::devices::OwnPartition;
use crate::disk::Disk;
use crate::jobs::Jobs;

/// Threads that carry out requests.
pub(crate) const WORKERS: usize = 2;

/// The guest's disks, and the requests that wait.
pub(crate) struct Disks {
    /// The files of the disks of the start and of the window for more, each with its address, in order.
    files: Vec<(u64, File)>,
    pub(crate) table: Table,
    /// Held by a worker during a transfer, and taken after the table has changed: memory that a disk has lost is
    /// another one's when the tool has its answer.
    still: RwLock<()>,
    jobs: Jobs<Job>,
}

/// A request of a controller's.
struct Job {
    controller: usize,
    token: Token,
    request: Request,
    /// Its data: guest physical addresses and lengths.
    data: Vec<(u64, u64)>,
}

impl Disks {
    /// Opens the files of the disks, and of the window after them, if there is one.
    ///
    /// # Errors
    /// One cannot be opened.
    pub(crate) fn open<P: AsRef<Path>>(info: &BootInfo, paths: &[P]) -> anyhow::Result<Self> {
        let disks = info.disks.iter().take(info.disk_count as usize);
        let disks = disks.map(|disk| (disk.base, disk.flags & (DiskFlags::READ_ONLY | DiskFlags::DVD) == 0));
        let window = (info.window_size != 0).then_some((info.window_base, true));
        let places: Vec<_> = disks.chain(window).collect();
        anyhow::ensure!(paths.len() >= places.len(), "{} files for {} disks", paths.len(), places.len());
        let open = |((base, writes), path): ((u64, bool), &P)| {
            let file = File::options().read(true).write(writes).open(path).context("cannot open a disk")?;
            anyhow::Ok((base, file))
        };
        let files = places.into_iter().zip(paths).map(open).collect::<anyhow::Result<_>>()?;
        Ok(Self { files, table: Table::new(info), still: RwLock::new(()), jobs: Jobs::new() })
    }

    /// Takes a request; a worker carries it out.
    pub(crate) fn start(
        &self,
        device: DeviceId,
        token: Token,
        request: &Request,
        data: Pages<'_>,
    ) -> Started<Result<(), Failure>> {
        let data = data.segments().map(|segment| (segment.gpa(), segment.len())).collect();
        // The controllers are the first devices of the bus. A controller has no more requests than it has room for.
        let job = Job { controller: usize::from(device.0), token, request: *request, data };
        self.jobs.push(job);
        Started::Pending
    }

    /// Waits until every transfer has ended that has begun.
    pub(crate) fn transfers_ended(&self) {
        drop(self.still.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// Calls a function with the disk that has a number, which stays where it is until that returns.
    fn with<T>(&self, number: u16, work: impl FnOnce(&Disk<'_>) -> T) -> Option<T> {
        let _still = self.still.read().unwrap_or_else(PoisonError::into_inner);
        let (base, size) = self.table.get(number)?;
        let (start, file) = self.files.iter().rfind(|(start, _)| *start <= base)?;
        Some(work(&Disk::new(file, base - start, size)))
    }

    /// Carries out requests, until the process ends. `settled` is called after each, whose completion may have had the
    /// bus take further packets.
    pub(crate) fn work<H>(
        &self,
        partition: &'static OwnPartition,
        host: &'static H,
        memory: &VmMemory<GuestMemoryMmap>,
        settled: impl Fn(),
    ) where
        H: Serves,
    {
        self.jobs.returns();
        loop {
            let Job { controller, token, request, data } = self.jobs.next();
            let carried_out = self.with(request.disk, |disk| disk.carry_out(&request.piece, &data, memory));
            let outcome = carried_out.unwrap_or(Err(Failure::Target));
            self.jobs.returns();
            if let Some(slot) = partition.devices().controllers.get(controller) {
                // The guest may have closed the channel meanwhile.
                let _ = partition.completed(host, slot, token, outcome);
                settled();
            }
        }
    }
}
