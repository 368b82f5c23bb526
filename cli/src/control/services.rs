//! `--devices`: which integration services and input devices are on the guest's bus.

use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hv_tlfs::time::FileTime;
use hv_wire::MAX_CONTROLLERS;
use hv_wire::control::Service;
use serde::{Deserialize, Serialize};

/// A set of services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Services(u32);

impl Services {
    pub(crate) const NONE: Self = Self(0);

    /// Returns all of them.
    pub(crate) fn all() -> Self {
        Self(Service::ALL.into_iter().map(Service::bit).sum())
    }

    /// Returns true if a service is one of them.
    pub(crate) fn has(self, service: Service) -> bool {
        self.0 & service.bit() != 0
    }

    /// Returns the modules of Linux that have their drivers.
    pub(crate) fn modules(self) -> Vec<&'static str> {
        let own = Service::ALL.into_iter().filter(|service| self.has(*service));
        let mut modules = Vec::new();
        for module in own.map(|service| driver(service).0) {
            if !modules.contains(&module) {
                modules.push(module);
            }
        }
        // A kernel has one of its two drivers, or binds the one that is loaded first.
        modules.extend(self.has(Service::Video).then_some("hyperv_drm"));
        modules
    }

    /// Returns those with these bits.
    pub(crate) fn of_bits(bits: u32) -> Self {
        Self(bits & Self::all().0)
    }

    /// Returns the bits of the services in the boot information.
    pub(crate) fn bits(self) -> u32 {
        self.0
    }
}

/// Returns a service's name in options and in JSON.
pub(crate) fn name(service: Service) -> &'static str {
    match service {
        Service::Shutdown => "shutdown",
        Service::TimeSync => "time",
        Service::Heartbeat => "heartbeat",
        Service::Kvp => "kvp",
        Service::Vss => "vss",
        Service::Keyboard => "keyboard",
        Service::Mouse => "mouse",
        Service::Fcopy => "fcopy",
        Service::Balloon => "balloon",
        Service::Video => "video",
    }
}

/// Returns the module of Linux that has a service's driver, and the option that builds it.
pub(super) fn driver(service: Service) -> (&'static str, &'static str) {
    match service {
        Service::Balloon => ("hv_balloon", "CONFIG_HYPERV_BALLOON"),
        Service::Keyboard => ("hyperv_keyboard", "CONFIG_HYPERV_KEYBOARD"),
        Service::Mouse => ("hid_hyperv", "CONFIG_HID_HYPERV_MOUSE"),
        Service::Video => ("hyperv_fb", "CONFIG_FB_HYPERV"),
        _ => ("hv_utils", "CONFIG_HYPERV_UTILS"),
    }
}

/// A device that can be taken away from the guest: a service, a SCSI controller, `scsi0` to `scsi3`, or the network
/// card.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(super) struct DeviceName(u8);

impl DeviceName {
    /// Returns the device's number in messages to the hypervisor.
    pub(super) fn number(self) -> u8 {
        self.0
    }
}

/// Iterates over the names of all devices, by their numbers in messages: the controllers, then the services, then the
/// network card.
fn device_names() -> impl Iterator<Item = String> {
    let controllers = (0..MAX_CONTROLLERS).map(|number| format!("scsi{number}"));
    controllers.chain(Service::ALL.map(|service| name(service).to_owned())).chain(["net".to_owned()])
}

impl FromStr for DeviceName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = device_names().position(|name| name == text);
        let names = || device_names().collect::<Vec<_>>().join(", ");
        let number =
            number.ok_or_else(|| format!("{text:?} is not a device: expected one of {}", names()))?;
        u8::try_from(number).map(Self).map_err(|error| error.to_string())
    }
}

impl TryFrom<String> for DeviceName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<DeviceName> for String {
    fn from(device: DeviceName) -> Self {
        device_names().nth(device.0.into()).unwrap_or_default()
    }
}

impl std::fmt::Display for DeviceName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from(*self))
    }
}

impl FromStr for Services {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => return Ok(Self::all()),
            "none" => return Ok(Self::NONE),
            _ => {}
        }
        let mut services = Self::NONE;
        for word in text.split(',') {
            let service = Service::ALL.into_iter().find(|service| name(*service) == word);
            let names = || Service::ALL.map(name).join(", ");
            let service = service.ok_or_else(|| match word {
                "all" | "none" => {
                    format!("{word} stands alone: expected all, none, or a list of {}", names())
                }
                _ => format!("'{word}' is not a service: expected all, none, or a list of {}", names()),
            })?;
            services.0 |= service.bit();
        }
        Ok(services)
    }
}

/// Returns the host's time now, as the number of a [`FileTime`]; with `fixed` that of every deterministic run: QEMU's
/// `-rtc`.
pub(crate) fn host_time(fixed: bool) -> u64 {
    /// 2026-01-01 00:00.
    const FIXED: Duration = Duration::from_secs(1_767_225_600);
    let since = if fixed { FIXED } else { SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() };
    FileTime::from_unix(since).0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_a_list_of_names_or_all_or_none() {
        assert_eq!("none".parse(), Ok(Services::NONE));
        assert_eq!(
            "all".parse::<Services>(),
            "shutdown,time,heartbeat,kvp,vss,keyboard,mouse,fcopy,balloon,video".parse()
        );
        assert_eq!("kvp".parse::<Services>().unwrap().bits(), Service::Kvp.bit());
        assert_eq!(
            Services::all().modules(),
            ["hv_utils", "hyperv_keyboard", "hid_hyperv", "hv_balloon", "hyperv_fb", "hyperv_drm"]
        );
        assert_eq!("keyboard".parse::<Services>().unwrap().modules(), ["hyperv_keyboard"]);
        assert_eq!(
            "vss,keyboard,fcopy".parse::<Services>().unwrap().modules(),
            ["hv_utils", "hyperv_keyboard"]
        );
        assert!(Services::NONE.modules().is_empty());
        for bad in ["", "disk", "kvp,", "all,kvp", "KVP"] {
            assert!(bad.parse::<Services>().is_err(), "{bad}");
        }
    }

    #[test]
    fn devices_are_numbered_with_the_controllers_first() {
        let last = [
            ("shutdown", 4),
            ("vss", 8),
            ("keyboard", 9),
            ("mouse", 10),
            ("fcopy", 11),
            ("balloon", 12),
            ("video", 13),
            ("net", 14),
        ];
        for (text, number) in [("scsi0", 0), ("scsi3", 3)].into_iter().chain(last) {
            let device: DeviceName = text.parse().unwrap();
            assert_eq!((device.number(), device.to_string()), (number, text.to_owned()));
        }
        assert!("scsi4".parse::<DeviceName>().is_err());
    }

    #[test]
    fn every_deterministic_run_has_the_same_time() {
        assert_eq!(host_time(true), 134_116_992_000_000_000);
        assert!(host_time(false) > host_time(true) - (1 << 54));
    }
}
