//! What the tool asks of the integration services and input devices on the guest's VMBus.

use hv_devices::ic::{Outcome, Refused, State};
use hv_devices::keyboard::Key;
use hv_devices::kvp::{Answer, Ask};
use hv_devices::mouse::Pointer;
use hv_devices::shutdown::Action;
use hv_devices::{fcopy, video};
use hv_partition::RawMutex;
use hv_tlfs::time::FileTime;
use hv_tlfs::vmbus::kvp::{Operation, Pool};
use hv_wire::control::{
    DriverState, FromHypervisor, MAX_KEYS, MAX_PIECE, Refusal, Service, ServiceState, ToHypervisor,
};
use zerocopy::{FromBytes as _, IntoBytes as _};

use crate::machine::{Machine, Serves};

const _: () = assert!(MAX_KEYS == hv_devices::input::EVENTS);
const _: () = assert!(MAX_PIECE == hv_tlfs::vmbus::fcopy::FRAGMENT_SIZE);

/// Outcome of a request of the tool's.
pub(crate) enum Asked {
    /// It is done.
    Done,
    /// The guest has to answer.
    Pending(Service),
    /// It was not sent to the guest.
    Refused(Refusal),
}

impl<R: RawMutex, H: Serves, const REQUESTS: usize> Machine<'_, R, H, REQUESTS> {
    /// Returns how far the guest's drivers are.
    pub(crate) fn states(&self) -> [ServiceState; Service::ALL.len()] {
        let services = &self.partition.devices().services;
        self.partition.with_vmbus(self.host, |vmbus| {
            let state = |service: Service, state: Option<State>| match state {
                _ if !self.has(service) => ServiceState { driver: DriverState::Absent, major: 0, minor: 0 },
                Some(State::Ready { version, .. }) => {
                    ServiceState { driver: DriverState::Ready, major: version.major, minor: version.minor }
                }
                Some(State::Start | State::Negotiating) => {
                    ServiceState { driver: DriverState::Negotiating, major: 0, minor: 0 }
                }
                Some(State::Incompatible) => {
                    ServiceState { driver: DriverState::Incompatible, major: 0, minor: 0 }
                }
                _ => ServiceState { driver: DriverState::Closed, major: 0, minor: 0 },
            };
            [
                state(Service::Shutdown, vmbus.with(&services.shutdown, |device, _| device.state()).ok()),
                state(Service::TimeSync, vmbus.with(&services.time_sync, |device, _| device.state()).ok()),
                state(Service::Heartbeat, vmbus.with(&services.heartbeat, |device, _| device.state()).ok()),
                state(Service::Kvp, vmbus.with(&services.kvp, |device, _| device.state()).ok()),
                state(Service::Vss, vmbus.with(&services.vss, |device, _| device.state()).ok()),
                state(Service::Keyboard, vmbus.with(&services.keyboard, |device, _| device.state()).ok()),
                state(Service::Mouse, vmbus.with(&services.mouse, |device, _| device.state()).ok()),
                state(Service::Fcopy, vmbus.with(&services.fcopy, |device, _| device.state()).ok()),
                state(Service::Balloon, vmbus.with(&services.balloon, |device, _| device.state()).ok()),
                state(Service::Video, vmbus.with(&services.video, |device, _| device.state()).ok()),
            ]
        })
    }

    /// Returns what the guest's screen shows. Without a picture it is refused.
    pub(crate) fn screen(&self) -> FromHypervisor<'static> {
        let services = &self.partition.devices().services;
        if !self.has(Service::Video) {
            return FromHypervisor::Refused { why: Refusal::Absent };
        }
        let shown = self.partition.with_vmbus(self.host, |vmbus| {
            vmbus.with(&services.video, |device, _| (device.picture(), device.take_changed(), device.state()))
        });
        let why = match shown {
            Ok((Some(picture), changed, _)) => {
                let video::Picture { offset, depth, width, height, pitch } = picture;
                let video::ScreenArea { left, top, right, bottom } = changed;
                return FromHypervisor::Screen {
                    offset,
                    depth,
                    width,
                    height,
                    pitch,
                    left,
                    top,
                    right,
                    bottom,
                };
            }
            Ok((None, _, State::Ready { .. })) => Refusal::Invalid,
            Ok((None, _, State::Incompatible)) => Refusal::Incompatible,
            Ok((None, _, State::Closed)) => Refusal::Closed,
            Ok((None, ..)) => Refusal::Negotiating,
            Err(_) => Refusal::Absent,
        };
        FromHypervisor::Refused { why }
    }

    /// Passes a request on to the service that it is for.
    pub(crate) fn ask(&self, request: &ToHypervisor<'_>) -> Asked {
        let services = &self.partition.devices().services;
        let Some((service, waits)) = meant(request) else { return Asked::Refused(Refusal::Unknown) };
        if !self.has(service) {
            return Asked::Refused(Refusal::Absent);
        }
        let mut idle = false;
        let asked = self.partition.with_vmbus(self.host, |vmbus| match *request {
            ToHypervisor::Shutdown { action, force } => {
                let action = match action {
                    0 => Action::PowerOff,
                    1 => Action::Restart,
                    2 => Action::Hibernate,
                    _ => return Ok(Err(Refused::Invalid)),
                };
                vmbus.with(&services.shutdown, |device, io| device.ask(io, action, force))
            }
            ToHypervisor::Kvp { operation, pool, index, key, value } => {
                let pool = Pool(pool);
                let ask = match Operation(operation) {
                    Operation::GET => Ask::Get { pool, key },
                    Operation::SET => Ask::Set { pool, key, value },
                    Operation::DELETE => Ask::Delete { pool, key },
                    Operation::ENUMERATE => Ask::Enumerate { pool, index },
                    Operation::GET_IP_INFO => Ask::Addresses { adapter: key },
                    _ => return Ok(Err(Refused::Invalid)),
                };
                vmbus.with(&services.kvp, |device, io| device.ask(io, &ask))
            }
            ToHypervisor::TimeSync { now } => vmbus.with(&services.time_sync, |device, io| {
                if now != 0 {
                    device.set_origin(FileTime(now).wrapping_sub(io.now()));
                }
                device.sync(io)
            }),
            ToHypervisor::Vss { operation } => {
                let operation = hv_tlfs::vmbus::vss::Operation(operation);
                vmbus.with(&services.vss, |device, io| device.ask(io, operation))
            }
            ToHypervisor::Type { keys } => match <[Key]>::ref_from_bytes(keys) {
                Ok(keys) => vmbus.with(&services.keyboard, |device, io| device.press(io, keys)),
                Err(_) => Ok(Err(Refused::Invalid)),
            },
            ToHypervisor::Point { states } => match <[Pointer]>::ref_from_bytes(states) {
                Ok(states) => vmbus.with(&services.mouse, |device, io| device.point(io, states)),
                Err(_) => Ok(Err(Refused::Invalid)),
            },
            ToHypervisor::CopyStart { file, folder, overwrite, create_path, size } => {
                let ask = fcopy::Ask::Start { file, folder, overwrite, create_path, size };
                vmbus.with(&services.fcopy, |device, io| device.ask(io, &ask))
            }
            ToHypervisor::CopyWrite { offset, data } => {
                vmbus.with(&services.fcopy, |device, io| device.ask(io, &fcopy::Ask::Write { offset, data }))
            }
            ToHypervisor::CopyEnd { cancel } => {
                let ask = if cancel { fcopy::Ask::Cancel } else { fcopy::Ask::Complete };
                vmbus.with(&services.fcopy, |device, io| device.ask(io, &ask))
            }
            ToHypervisor::Balloon { taken } => vmbus.with(&services.balloon, |device, io| {
                idle = !device.resize(io, taken)?;
                Ok(())
            }),
            _ => Ok(Err(Refused::Invalid)),
        });
        match asked {
            Ok(Ok(())) if waits && !idle => Asked::Pending(service),
            Ok(Ok(())) => Asked::Done,
            Ok(Err(refused)) => Asked::Refused(refusal(refused)),
            Err(_) => Asked::Refused(Refusal::Absent),
        }
    }

    /// Takes the outcome of the last request to a service, and tells it. Returns false if there is none.
    pub(crate) fn take(&self, service: Service, tell: &mut dyn FnMut(&FromHypervisor<'_>)) -> bool {
        let services = &self.partition.devices().services;
        let told = self.partition.with_vmbus(self.host, |vmbus| match service {
            Service::Shutdown => vmbus
                .with(&services.shutdown, |device, _| device.take().map(|outcome| tell(&plain(outcome, 0)))),
            Service::Vss => vmbus.with(&services.vss, |device, _| {
                device.take().map(|(_, outcome, flags)| tell(&plain(outcome, flags)))
            }),
            Service::Kvp => vmbus.with(&services.kvp, |device, _| {
                let (outcome, answer) = device.outcome()?;
                tell(&match answer {
                    Answer::Nothing => plain(outcome, 0),
                    Answer::Pair { key, value_type, value } => {
                        FromHypervisor::Pair { value_type, key, value }
                    }
                    Answer::Addresses(addresses) => FromHypervisor::Addresses { bytes: addresses.as_bytes() },
                });
                device.done();
                Some(())
            }),
            Service::Keyboard => vmbus
                .with(&services.keyboard, |device, _| device.take().map(|outcome| tell(&plain(outcome, 0)))),
            Service::Mouse => {
                vmbus.with(&services.mouse, |device, _| device.take().map(|outcome| tell(&plain(outcome, 0))))
            }
            Service::Fcopy => vmbus.with(&services.fcopy, |device, _| {
                device.take().map(|(_, outcome)| tell(&plain(outcome, 0)))
            }),
            Service::Balloon => vmbus
                .with(&services.balloon, |device, _| device.take().map(|outcome| tell(&plain(outcome, 0)))),
            Service::TimeSync | Service::Heartbeat | Service::Video => Ok(None),
        });
        told == Ok(Some(()))
    }
}

/// Returns the service that a request is for, and whether the guest answers it.
fn meant(request: &ToHypervisor<'_>) -> Option<(Service, bool)> {
    Some(match request {
        ToHypervisor::Shutdown { .. } => (Service::Shutdown, true),
        ToHypervisor::Kvp { .. } => (Service::Kvp, true),
        ToHypervisor::TimeSync { .. } => (Service::TimeSync, false),
        ToHypervisor::Vss { .. } => (Service::Vss, true),
        ToHypervisor::Type { .. } => (Service::Keyboard, true),
        ToHypervisor::Point { .. } => (Service::Mouse, true),
        ToHypervisor::CopyStart { .. } | ToHypervisor::CopyWrite { .. } | ToHypervisor::CopyEnd { .. } => {
            (Service::Fcopy, true)
        }
        ToHypervisor::Balloon { .. } => (Service::Balloon, true),
        _ => return None,
    })
}

fn refusal(refused: Refused) -> Refusal {
    match refused {
        Refused::Closed => Refusal::Closed,
        Refused::Negotiating => Refusal::Negotiating,
        Refused::Incompatible => Refusal::Incompatible,
        Refused::Busy => Refusal::Busy,
        Refused::Unsupported => Refusal::Unsupported,
        Refused::Full => Refusal::Full,
        _ => Refusal::Invalid,
    }
}

fn plain(outcome: Outcome, flags: u32) -> FromHypervisor<'static> {
    FromHypervisor::Outcome { outcome: outcome.number(), flags }
}
