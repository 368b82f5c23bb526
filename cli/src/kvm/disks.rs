//! The disks, and the threads that carry out their requests, so that no VP waits for storage.

use std::collections::VecDeque;
use std::fs::File;
use std::path::Path;
use std::sync::{Condvar, Mutex, PoisonError};

use anyhow::Context as _;
use hv_devices::storage::{Failure, Request};
use hv_partition::{BusObserver, DeviceId, GuestMemory, Host, HostBackend, Pages, Partition, Started, Token};
use hv_wire::{BootDisk, DiskFlags};
use parking_lot::RawMutex;

use super::accounts::lock;
use super::devices::{BUS, Bus};
use super::disk::Disk;

/// Threads that carry out requests.
pub(super) const WORKERS: usize = 2;

/// The guest's disks by number, and the requests that wait.
pub(super) struct Disks {
    files: Vec<Disk>,
    waiting: Mutex<VecDeque<Job>>,
    added: Condvar,
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
    /// Opens the files of these disks.
    ///
    /// # Errors
    /// One cannot be opened.
    pub(super) fn open<P: AsRef<Path>>(disks: &[BootDisk], files: &[P]) -> anyhow::Result<Self> {
        let open = |(disk, path): (&BootDisk, &P)| {
            let writes = disk.flags & (DiskFlags::READ_ONLY | DiskFlags::DVD) == 0;
            let file = File::options().read(true).write(writes).open(path).context("cannot open a disk")?;
            anyhow::Ok(Disk::new(file, disk.size))
        };
        anyhow::ensure!(files.len() >= disks.len(), "{} files for {} disks", files.len(), disks.len());
        let files = disks.iter().zip(files).map(open).collect::<anyhow::Result<_>>()?;
        Ok(Self { files, waiting: Mutex::default(), added: Condvar::new() })
    }

    /// Takes a request; a worker carries it out.
    pub(super) fn start(
        &self,
        device: DeviceId,
        token: Token,
        request: &Request,
        data: Pages<'_>,
    ) -> Started<Result<(), Failure>> {
        let data = data.segments().map(|segment| (segment.gpa(), segment.len())).collect();
        // The controllers are the first devices of the bus. A controller has no more requests than it has room for.
        let job = Job { controller: usize::from(device.0), token, request: *request, data };
        lock(&self.waiting).push_back(job);
        self.added.notify_one();
        Started::Pending
    }

    /// Carries out requests, until the process ends. `settled` is called after each, whose completion may have had the
    /// bus take further packets.
    pub(super) fn work<H>(
        &self,
        partition: &'static Partition<'static, RawMutex, Bus>,
        host: &'static H,
        memory: &impl GuestMemory,
        settled: impl Fn(),
    ) where
        H: Host + BusObserver + HostBackend<Request>,
    {
        let mut buffer = Vec::new();
        loop {
            let Job { controller, token, request, data } = self.next();
            let outcome = match self.files.get(usize::from(request.disk)) {
                Some(disk) => disk.carry_out(&request.piece, &data, memory, &mut buffer),
                None => Err(Failure::Target),
            };
            if let Some(slot) = BUS.devices().controllers.get(controller) {
                // The guest may have closed the channel meanwhile.
                let _ = partition.completed(host, slot, token, outcome);
                settled();
            }
        }
    }

    fn next(&self) -> Job {
        let mut waiting = lock(&self.waiting);
        loop {
            match waiting.pop_front() {
                Some(job) => return job,
                None => waiting = self.added.wait(waiting).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}
