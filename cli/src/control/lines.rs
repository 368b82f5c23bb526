//! Requests and replies as lines of JSON. The book's chapter on control is their contract.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::pairs::{Addresses, Pair, PoolName};
use super::pointing::Button;
use super::services::DeviceName;
use crate::disks::parse_place;
use crate::ui;

/// Version of the lines.
pub(super) const SCHEMA: u32 = 1;
/// Bytes of a line at most.
pub(super) const LONGEST: u64 = 64 << 10;

/// Kind of the guest's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Ending {
    Off,
    Restart,
    Hibernate,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Request {
    Status {},
    Shutdown {
        action: Ending,
        #[serde(default)]
        force: bool,
    },
    KvpGet {
        pool: PoolName,
        key: String,
    },
    KvpSet {
        pool: PoolName,
        key: String,
        value: String,
    },
    KvpDelete {
        pool: PoolName,
        key: String,
    },
    KvpList {
        pool: PoolName,
    },
    Addresses {
        #[serde(default)]
        adapter: Option<String>,
    },
    Time {},
    Freeze {},
    Thaw {},
    Type {
        text: String,
    },
    Mouse {
        x: u16,
        y: u16,
        #[serde(default)]
        scroll: i8,
        #[serde(default)]
        click: Option<Button>,
    },
    Fcopy {
        file: String,
        to: String,
        #[serde(default)]
        overwrite: bool,
        #[serde(default)]
        create_path: bool,
    },
    Screenshot {
        file: String,
    },
    Memory {},
    MemorySet {
        #[serde(default)]
        bytes: Option<u64>,
    },
    DiskAdd {
        file: String,
        #[serde(default)]
        mode: AddMode,
        #[serde(default)]
        at: Option<DiskPlace>,
    },
    DiskRemove {
        at: DiskPlace,
    },
    DiskResize {
        at: DiskPlace,
        bytes: u64,
    },
    Rescind {
        device: DeviceName,
    },
    Net {
        link: NetLink,
    },
    Snapshot {
        folder: String,
    },
}

/// State of the network card's link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(super) enum NetLink {
    /// Plug the cable in
    Up,
    /// Unplug it
    Down,
}

/// Destination of what the guest writes to a disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum AddMode {
    #[default]
    Snapshot,
    Ro,
    Rw,
}

/// Location of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DiskPlace {
    pub(super) controller: u16,
    pub(super) lun: u16,
}

impl FromStr for DiskPlace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (controller, lun) = parse_place(text)?;
        Ok(Self { controller, lun })
    }
}

/// A disk of the machine's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DiskLine {
    pub(super) controller: u16,
    pub(super) lun: u16,
    pub(super) bytes: u64,
}

/// The guest's memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct MemoryLine {
    /// What it has.
    pub(super) bytes: u64,
    /// What it has given up.
    pub(super) given_up: u64,
    /// What the machine's RAM occupies of the host's.
    pub(super) host_bytes: u64,
    pub(super) pressure: Option<PressureLine>,
}

/// The guest's need for memory, as it says, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PressureLine {
    pub(super) available: u64,
    /// What it has given up included.
    pub(super) committed: u64,
}

/// A file that was copied into the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CopiedLine {
    pub(super) bytes: u64,
}

/// A snapshot that was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SavedLine {
    /// What it occupies on the host.
    pub(super) bytes: u64,
    /// How long the machine stood still, in milliseconds.
    pub(super) paused_ms: u64,
}

/// A picture of the guest's screen, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PictureLine {
    pub(super) width: u32,
    pub(super) height: u32,
    /// What the guest has changed since the last picture, as it says.
    pub(super) changed: Option<AreaLine>,
}

/// A part of the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct AreaLine {
    pub(super) x: u32,
    pub(super) y: u32,
    pub(super) width: u32,
    pub(super) height: u32,
}

impl Request {
    /// Returns the default timeout. Linux gives its key-value daemon 30 seconds, and a freeze 15
    /// minutes.
    pub(super) fn patience(&self) -> Duration {
        Duration::from_secs(match self {
            Self::Status {}
            | Self::Shutdown { .. }
            | Self::Time {}
            | Self::Memory {}
            | Self::Screenshot { .. }
            | Self::Mouse { .. }
            | Self::Net { .. } => 10,
            Self::KvpGet { .. }
            | Self::KvpSet { .. }
            | Self::KvpDelete { .. }
            | Self::KvpList { .. }
            | Self::Addresses { .. } => 40,
            Self::Freeze {} | Self::Thaw {} => 960,
            // A disk is copied, or a file, or a machine.
            Self::DiskAdd { .. } | Self::Fcopy { .. } | Self::Snapshot { .. } => 600,
            Self::DiskRemove { .. }
            | Self::DiskResize { .. }
            | Self::MemorySet { .. }
            | Self::Rescind { .. }
            | Self::Type { .. } => 60,
        })
    }
}

/// A line of a client's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) request: Request,
    pub(super) timeout: Duration,
}

impl Line {
    /// Reads a line; the error is for the client.
    pub(super) fn read(line: &[u8]) -> Result<Self, String> {
        let value: serde_json::Value =
            serde_json::from_slice(line).map_err(|error| format!("the line is not JSON: {error}"))?;
        let serde_json::Value::Object(mut object) = value else {
            return Err("the line is not a JSON object".to_owned());
        };
        let timeout = match object.remove("timeout_ms") {
            None => None,
            Some(value) => Some(
                value
                    .as_u64()
                    .ok_or_else(|| format!("timeout_ms is {value}, expected a number of milliseconds"))?,
            ),
        };
        let name = object.get("request").and_then(serde_json::Value::as_str).map(str::to_owned);
        let request: Request =
            serde_json::from_value(serde_json::Value::Object(object)).map_err(|error| {
                let why = error.to_string();
                match name {
                    Some(name) if !why.starts_with(&format!("unknown variant `{name}`")) => {
                        format!("the request {} is invalid: {why}", ui::one_line(&name))
                    }
                    _ => format!("the request is unknown: {why}"),
                }
            })?;
        let timeout = timeout.map_or(request.patience(), Duration::from_millis);
        Ok(Self { request, timeout })
    }

    /// Serializes the line as it is sent.
    pub(super) fn write(&self) -> anyhow::Result<String> {
        let mut value = serde_json::to_value(&self.request)?;
        value["timeout_ms"] = u64::try_from(self.timeout.as_millis()).unwrap_or(u64::MAX).into();
        Ok(format!("{value}\n"))
    }
}

/// Progress of the guest's driver for a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum DriverStateName {
    Absent,
    NoDriver,
    Waiting,
    Ready,
    Incompatible,
}

/// A service's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ServiceLine {
    pub(super) state: DriverStateName,
    pub(super) version: Option<String>,
    /// Of dynamic memory alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) memory: Option<MemoryLine>,
}

/// What a request gave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Given {
    Services(BTreeMap<String, ServiceLine>),
    Pair(Pair),
    Pairs(Vec<Pair>),
    Addresses(Addresses),
    Disk(DiskLine),
    Copied(CopiedLine),
    Memory(MemoryLine),
    Picture(PictureLine),
    Saved(SavedLine),
    Done {},
}

/// Reason why a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Reason {
    InvalidRequest,
    Absent,
    NoDriver,
    NoProgram,
    Incompatible,
    Busy,
    Unsupported,
    RingFull,
    NotFound,
    Refused,
    Malformed,
    Closed,
    TimedOut,
    Ended,
}

/// A failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Failure {
    pub(super) reason: Reason,
    pub(super) message: String,
}

impl Failure {
    pub(super) fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

/// A line of the server's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Reply {
    pub(super) schema: u32,
    pub(super) ok: bool,
    pub(super) result: Option<Given>,
    pub(super) error: Option<Failure>,
}

impl From<Result<Given, Failure>> for Reply {
    fn from(outcome: Result<Given, Failure>) -> Self {
        let ok = outcome.is_ok();
        let (result, error) = match outcome {
            Ok(result) => (Some(result), None),
            Err(error) => (None, Some(error)),
        };
        Self { schema: SCHEMA, ok, result, error }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_an_object_that_names_its_request() {
        let line =
            Line::read(br#"{"request":"kvp-get","pool":"auto","key":"OSName","timeout_ms":5}"#).unwrap();
        let request = Request::KvpGet { pool: PoolName::Auto, key: "OSName".to_owned() };
        assert_eq!(line, Line { request, timeout: Duration::from_millis(5) });
        assert_eq!(Line::read(line.write().unwrap().trim().as_bytes()), Ok(line));
        assert_eq!(Line::read(br#"{"request":"status"}"#).unwrap().timeout, Duration::from_secs(10));
    }

    #[test]
    fn a_request_that_exists_is_not_called_unknown() {
        let why = |line: &str| Line::read(line.as_bytes()).unwrap_err();
        let bad = why(r#"{"request":"mouse","x":70000,"y":1}"#);
        assert!(bad.starts_with("the request mouse is invalid: invalid value: integer `70000`"), "{bad}");
        let bad = why(r#"{"request":"net","link":"sideways"}"#);
        assert!(bad.starts_with("the request net is invalid: unknown variant `sideways`"), "{bad}");
        let unknown = why(r#"{"request":"fly"}"#);
        assert!(unknown.starts_with("the request is unknown: unknown variant `fly`"), "{unknown}");
    }

    #[test]
    fn what_is_none_is_refused_with_a_reason() {
        for bad in [
            "",
            "[]",
            "\"status\"",
            "{}",
            r#"{"request":"fly"}"#,
            r#"{"request":"status","more":1}"#,
            r#"{"request":"kvp-get","pool":"auto"}"#,
            r#"{"request":"kvp-get","pool":"other","key":"k"}"#,
            r#"{"request":"status","timeout_ms":"soon"}"#,
            r#"{"request":"shutdown","action":"later"}"#,
            r#"{"request":"disk-add"}"#,
            r#"{"request":"disk-add","file":"a","mode":"quick"}"#,
            r#"{"request":"disk-remove","at":{"controller":0}}"#,
            r#"{"request":"disk-remove","at":"0:1"}"#,
            r#"{"request":"disk-resize","at":{"controller":0,"lun":1},"bytes":-1}"#,
            r#"{"request":"rescind","device":"disk"}"#,
            r#"{"request":"type"}"#,
            r#"{"request":"fcopy","file":"/a"}"#,
            r#"{"request":"memory-set","bytes":"1G"}"#,
            r#"{"request":"fcopy","file":"/a","to":"/b","overwrite":1}"#,
            r#"{"request":"mouse","x":1}"#,
            r#"{"request":"mouse","x":1,"y":-1}"#,
            r#"{"request":"mouse","x":1,"y":1,"click":"both"}"#,
            r#"{"request":"net","link":"sideways"}"#,
            r#"{"request":"screenshot"}"#,
            r#"{"request":"snapshot"}"#,
        ] {
            assert!(Line::read(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_reply_has_a_result_or_an_error() {
        let text = serde_json::to_string(&Reply::from(Ok(Given::Done {}))).unwrap();
        assert_eq!(text, r#"{"schema":1,"ok":true,"result":{"done":{}},"error":null}"#);
        let reply = Reply::from(Err(Failure::new(Reason::NoDriver, "why")));
        let text = serde_json::to_string(&reply).unwrap();
        assert_eq!(
            text,
            r#"{"schema":1,"ok":false,"result":null,"error":{"reason":"no-driver","message":"why"}}"#
        );
        assert_eq!(serde_json::from_str::<Reply>(&text).unwrap(), reply);
    }
}
