//! What the devices on VMBus did.

use std::fmt::{self, Display, Formatter};

use hv_tlfs::vmbus::Guid;
use hv_tlfs::vmbus::guid;
use hv_tlfs::vmbus::socket;
use hv_wire::DeviceReport;
use serde::Serialize;
use zerocopy::FromBytes as _;

/// Nanoseconds of the unit that times are counted in.
const UNIT: u64 = 100;

/// A device, and what it did.
#[derive(Debug, Serialize)]
pub(super) struct ReportedDevice {
    /// What users call it.
    name: &'static str,
    class: String,
    instance: String,
    /// `None` if none was agreed on.
    version: Option<String>,
    /// Channels opened.
    opened: u32,
    packets_in: u64,
    bytes_in: u64,
    packets_out: u64,
    bytes_out: u64,
    requests: u64,
    errors: u64,
    most_packets_in: u64,
    /// `None` without a request.
    service_ns: Option<Service>,
}

/// Time in service: at most so much for half of the requests, and for 99 of 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct Service {
    median: u64,
    p99: u64,
}

/// Returns the devices in a report.
pub(super) fn all(devices: &[DeviceReport]) -> Vec<ReportedDevice> {
    devices.iter().filter(|device| device.class != [0; 16]).map(ReportedDevice::of).collect()
}

impl ReportedDevice {
    fn of(device: &DeviceReport) -> Self {
        let class = from_bytes(&device.class);
        let version = device.version;
        Self {
            name: name(class),
            class: class.to_string(),
            instance: from_bytes(&device.instance).to_string(),
            version: (version != 0).then(|| format!("{}.{}", version >> 8, version & 0xff)),
            opened: device.opened,
            packets_in: device.packets_in,
            bytes_in: device.bytes_in,
            packets_out: device.packets_out,
            bytes_out: device.bytes_out,
            requests: device.requests,
            errors: device.errors,
            most_packets_in: device.most_packets,
            service_ns: service(&device.service),
        }
    }
}

/// Returns what users call a device of a class.
fn name(class: Guid) -> &'static str {
    match class {
        guid::SCSI => "SCSI controller",
        guid::NETWORK => "network card",
        guid::SHUTDOWN => "shutdown",
        guid::TIME_SYNC => "time synchronization",
        guid::HEARTBEAT => "heartbeat",
        guid::KVP => "key-value pairs",
        guid::VSS => "shadow copies",
        guid::FILE_COPY => "file copy",
        guid::DYNAMIC_MEMORY => "dynamic memory",
        guid::KEYBOARD => "keyboard",
        guid::MOUSE => "mouse",
        guid::VIDEO => "screen",
        socket::VSOCK_TEMPLATE => "sockets",
        _ => "device",
    }
}

fn from_bytes(bytes: &[u8; 16]) -> Guid {
    Guid::read_from_bytes(bytes).unwrap_or(Guid::ZERO)
}

/// Returns the times, as the ends of the buckets that they lie in.
fn service(buckets: &[u64]) -> Option<Service> {
    // Sums of any counts: a report may be that of a snapshot.
    let total: u128 = buckets.iter().map(|count| u128::from(*count)).sum();
    let within = |rank: u128| {
        let mut seen = 0;
        let bucket = buckets.iter().position(|count| {
            seen += u128::from(*count);
            seen >= rank
        });
        bucket.map(|bucket| UNIT << bucket)
    };
    Some(Service {
        median: within(total.div_ceil(2).max(1))?,
        p99: within((total * 99).div_ceil(100).max(1))?,
    })
}

impl Display for ReportedDevice {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let version = match &self.version {
            Some(version) => format!("version {version}"),
            // Sockets have no version of their own.
            None if self.opened > 0 => "used".to_owned(),
            None => "not used".to_owned(),
        };
        write!(f, "{} {}: {version}, channels opened {}", self.name, self.instance, self.opened)?;
        write!(f, ", packets {} in, {} out", self.packets_in, self.packets_out)?;
        write!(f, ", requests {}, errors {}", self.requests, self.errors)?;
        match self.service_ns {
            Some(Service { median, p99 }) => {
                write!(f, ", half done in {} us, 99 % in {} us", median as f64 / 1e3, p99 as f64 / 1e3)
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_the_ends_of_their_buckets() {
        assert_eq!(service(&[0; 8]), None);
        assert_eq!(service(&[1, 0, 0]), Some(Service { median: 100, p99: 100 }));
        assert_eq!(service(&[50, 0, 49, 1]), Some(Service { median: 100, p99: 400 }));
        assert_eq!(service(&[49, 0, 49, 2]), Some(Service { median: 400, p99: 800 }));
    }
}
