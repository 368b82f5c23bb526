//! A request that is carried out within its time.

use std::path::Path;
use std::time::{Duration, Instant};

use hv_tlfs::vmbus::kvp::Operation;
use hv_wire::control::{Service, ToHypervisor};

use super::super::adapter;
use super::super::lines::{Ending, Failure, Given, Reason};
use super::super::pairs::{Addresses, Pair, PoolName, wide};
use super::super::port::{Answer, ControlPort};
use super::{absolute, judge, machine, malformed, no_answer, services};

/// Pairs of a list at most.
const PAIRS: u32 = 4096;

/// The port, and the time until which the client waits.
pub(super) struct Task<'p> {
    port: &'p ControlPort,
    /// `None`: without an end.
    end: Option<Instant>,
}

impl<'p> Task<'p> {
    pub(super) fn new(port: &'p ControlPort, timeout: Duration) -> Self {
        Self { port, end: Instant::now().checked_add(timeout) }
    }

    /// Returns the time that is left.
    pub(super) fn left(&self) -> Duration {
        self.end.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()))
    }

    /// Asks a service of the guest's.
    fn ask(&self, service: Service, request: &ToHypervisor<'_>) -> Result<Answer, Failure> {
        let answer = self.port.ask(request, self.left()).map_err(|why| no_answer(why, service))?;
        judge(service, answer)
    }

    /// Asks a service to do something.
    pub(super) fn tell(&self, service: Service, request: &ToHypervisor<'_>) -> Result<Given, Failure> {
        self.ask(service, request).map(|_| Given::Done {})
    }

    /// Ends the guest, or has it restart.
    pub(super) fn shutdown(&self, action: Ending, force: bool) -> Result<Given, Failure> {
        let action = match action {
            Ending::Off => 0,
            Ending::Restart => 1,
            Ending::Hibernate => 2,
        };
        self.tell(Service::Shutdown, &ToHypervisor::Shutdown { action, force })
    }

    /// Returns the state of each service.
    pub(super) fn status(&self) -> Result<Given, Failure> {
        match self.port.ask(&ToHypervisor::Status {}, self.left()) {
            Ok(Answer::Status(states)) => {
                machine::with_memory(self.port, services(&states), self.left()).map(Given::Services)
            }
            Ok(_) => Err(Failure::new(Reason::Malformed, "the hypervisor answered with something else")),
            Err(why) => Err(no_answer(why, Service::Shutdown)),
        }
    }

    /// Writes the guest's screen to a file.
    pub(super) fn screenshot(&self, file: &Path) -> Result<Given, Failure> {
        absolute(file)?;
        let picture = match self.ask(Service::Video, &ToHypervisor::Screen {})? {
            Answer::Screen(picture) => picture,
            _ => return Err(malformed(Service::Video)),
        };
        picture.write(&self.port.memory, file).map(Given::Picture)
    }

    /// Sets or deletes a pair.
    pub(super) fn change(
        &self,
        operation: Operation,
        pool: PoolName,
        key: &str,
        value: &str,
    ) -> Result<Given, Failure> {
        let (key, value) = (wide(key), wide(value));
        let pool = pool.pool().0;
        self.tell(
            Service::Kvp,
            &ToHypervisor::Kvp { operation: operation.0, pool, index: 0, key: &key, value: &value },
        )
    }

    /// Returns the pairs of a pool.
    pub(super) fn pairs(&self, pool: PoolName) -> Result<Vec<Pair>, Failure> {
        let mut found = Vec::new();
        for index in 0..PAIRS {
            let (operation, pool) = (Operation::ENUMERATE.0, pool.pool().0);
            match self.ask(Service::Kvp, &ToHypervisor::Kvp { operation, pool, index, key: &[], value: &[] })
            {
                Ok(Answer::Pair { key, value_type, value }) => {
                    found.push(Pair::read(&key, value_type, &value));
                }
                Ok(_) => return Err(malformed(Service::Kvp)),
                Err(Failure { reason: Reason::NotFound, .. }) => break,
                Err(failure) => return Err(failure),
            }
        }
        Ok(found)
    }

    /// Returns a pair. Linux knows the pairs of its own service in a list alone, and a get of others lacks the
    /// beginning of the value.
    pub(super) fn pair(&self, pool: PoolName, key: &str) -> Result<Pair, Failure> {
        let found = self.pairs(pool)?.into_iter().find(|pair| pair.key == key);
        found.ok_or_else(|| Failure::new(Reason::NotFound, "the guest has no such key"))
    }

    /// Returns the addresses of a network adapter.
    pub(super) fn addresses(&self, adapter: Option<&str>) -> Result<Given, Failure> {
        let name = adapter::name(adapter).map_err(|message| Failure::new(Reason::InvalidRequest, message))?;
        let key = wide(&name);
        let operation = Operation::GET_IP_INFO.0;
        let request = ToHypervisor::Kvp { operation, pool: 0, index: 0, key: &key, value: &[] };
        match self.ask(Service::Kvp, &request)? {
            Answer::Addresses(bytes) => {
                Addresses::read(&bytes).map(Given::Addresses).ok_or_else(|| malformed(Service::Kvp))
            }
            _ => Err(malformed(Service::Kvp)),
        }
    }
}
