//! `hv ctl`: asks a guest that runs, over the socket of its control port.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::Context as _;

use super::client::{self, Asked};
use super::lines::{AddMode, DiskPlace, Ending, NetLink, Request};
use super::pairs::PoolName;
use super::pointing::{self, Button};
use super::services::DeviceName;
use super::target::Target;
use super::typing;
use crate::disks::{DiskOption, Mode};
use crate::exit::Exit;
use crate::machines::Name;
use crate::output;
use crate::setup::value;

/// Control a running guest: power it off, read its key-value pairs, copy files into it, freeze its file systems, add
/// disks, take memory, type, move its mouse, take screenshots
///
/// MACHINE is a name of `hv ps`, or a socket of `hv boot --control SOCKET`; it can be left out if one machine with a
/// control port runs. The guest needs a driver for the service. Linux's is hv_utils, for type hyperv_keyboard, for
/// mouse hid_hyperv, for screenshot hyperv_fb or hyperv_drm, for memory hv_balloon; kvp also needs hv_kvp_daemon, fcopy
/// hv_fcopy_daemon, and freeze and thaw need hv_vss_daemon.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Args {
    /// Name of the machine, or the socket of its control port [default: the one that runs]
    machine: Option<OsString>,
    /// Print the reply as JSON
    #[arg(long, global = true)]
    json: bool,
    /// Seconds to wait for the guest [default: 10; kvp 40, disk, memory and type 60, disk add and fcopy 600, freeze and
    /// thaw 960]
    #[arg(long, global = true, value_name = "SECS", value_parser = value::seconds)]
    timeout: Option<u32>,
    #[command(subcommand)]
    what: What,
}

const HELP: &str = "\
Examples:
  cargo hv boot --name web --run shell
  cargo hv ctl status
  cargo hv ctl web shutdown
  cargo hv ctl vm.sock kvp get auto OSName
  cargo hv ctl kvp set external colour blue --json
  cargo hv ctl disk add data.img,at=0:5
  cargo hv ctl memory 256M
  cargo hv ctl fcopy app.conf /etc/app/ --create-path
  cargo hv ctl type 'root\\n'
  cargo hv ctl mouse 16384 16384 --click left
  cargo hv ctl screenshot screen.png

Exit codes:
  0    done
  1    the guest refused, has no driver or no program for it, or has no such key
  2    a bad option, or no such machine
  5    no answer in time
  130  interrupted";

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Print the state of the guest's driver for each service
    Status,
    /// Shut the guest down and power it off
    Shutdown {
        /// Do not ask the guest's programs
        #[arg(long)]
        force: bool,
        /// Hibernate instead
        #[arg(long)]
        hibernate: bool,
    },
    /// Restart the guest
    Reboot {
        /// Do not ask the guest's programs
        #[arg(long)]
        force: bool,
    },
    /// Get, set, list and delete the guest's key-value pairs
    #[command(subcommand)]
    Kvp(Kvp),
    /// Add, remove and resize the guest's disks
    #[command(subcommand)]
    Disk(Disk),
    /// Take memory from the guest, or give it back; without a size, print what it has
    Memory {
        /// Memory that the guest is to have, in MiB or with a unit (K, M, G), or max for all that it started with
        size: Option<MemorySize>,
    },
    /// Copy a file into the guest
    Fcopy {
        /// The host's file
        file: PathBuf,
        /// The guest's file, an absolute path; with a slash at the end, the folder to put it in
        #[arg(value_name = "GUESTPATH")]
        to: String,
        /// Replace an existing file
        #[arg(long)]
        overwrite: bool,
        /// Create missing folders
        #[arg(long)]
        create_path: bool,
    },
    /// Take a device away from the guest: scsi0 to scsi3, shutdown, time, heartbeat, kvp, vss, keyboard, mouse, video,
    /// fcopy, balloon, net
    Rescind {
        /// The device
        device: DeviceName,
    },
    /// Bring the link of the guest's network card up or down
    Net {
        /// Its new state
        link: NetLink,
    },
    /// Set the guest's clock to the host's
    Time,
    /// Freeze the guest's file systems, until thaw
    Freeze,
    /// Thaw the guest's file systems
    Thaw,
    /// Type text on the guest's US keyboard
    Type {
        /// The text: \n is Enter, \t Tab, \b Backspace, \e Escape, and \\ a backslash
        #[arg(value_parser = typing::unescape, allow_hyphen_values = true)]
        text: String,
    },
    /// Write a screenshot of the guest to a PNG file; an existing file is replaced
    Screenshot {
        /// The file
        file: PathBuf,
    },
    /// Move the guest's mouse to a position on the screen, with coordinates from 0 to 32767; then scroll and click
    /// there
    Mouse {
        /// Position from the left edge, 0 to 32767
        #[arg(value_parser = pointing::place)]
        x: u16,
        /// Position from the upper edge, 0 to 32767
        #[arg(value_parser = pointing::place)]
        y: u16,
        /// Turn the wheel by this many steps, upwards
        #[arg(
            long,
            value_name = "STEPS",
            default_value_t = 0,
            hide_default_value = true,
            allow_negative_numbers = true,
            value_parser = pointing::steps
        )]
        scroll: i8,
        /// Press and release a button
        #[arg(long, value_name = "BUTTON")]
        click: Option<Button>,
    },
}

/// A size of memory: a number of bytes, or all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct MemorySize(Option<u64>);

impl FromStr for MemorySize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "max" => Ok(Self(None)),
            _ => value::size(text).map(|bytes| Self(Some(bytes))).map_err(|error| format!("{error}; or max")),
        }
    }
}

#[derive(Debug, clap::Subcommand)]
enum Disk {
    /// Copy an image into the machine's hot-plug room, and give it to the guest as a disk
    Add {
        /// The image, and the same words as for `hv boot --disk`; it cannot be rw
        #[arg(value_name = "FILE[,ro|,snapshot][,at=C:L]")]
        disk: DiskOption,
    },
    /// Take a disk away from the guest
    Remove {
        /// Its controller and logical unit
        #[arg(value_name = "C:L")]
        place: DiskPlace,
    },
    /// Change a disk's size; blocks beyond a smaller size are lost
    Resize {
        /// Its controller and logical unit
        #[arg(value_name = "C:L")]
        place: DiskPlace,
        /// The new size, in MiB or with a unit (K, M, G)
        #[arg(value_parser = value::size)]
        size: u64,
    },
}

#[derive(Debug, clap::Subcommand)]
enum Kvp {
    /// Print a value
    Get {
        /// Pool of the pairs
        pool: PoolName,
        /// The key
        key: String,
    },
    /// Set a value
    Set {
        /// Pool of the pairs
        pool: PoolName,
        /// The key
        key: String,
        /// The value
        value: String,
    },
    /// Remove a key
    Delete {
        /// Pool of the pairs
        pool: PoolName,
        /// The key
        key: String,
    },
    /// Print all pairs
    List {
        /// Pool of the pairs
        pool: PoolName,
    },
    /// Print the addresses of a network adapter
    Addresses {
        /// Address of the adapter, as 00:15:5d:48:56:01 [default: that of the machine's network card]
        adapter: Option<String>,
    },
}

impl What {
    fn request(&self) -> anyhow::Result<Request> {
        Ok(match self {
            Self::Disk(Disk::Add { disk }) => {
                let file = absolute(&disk.path)?;
                let mode = match disk.mode {
                    Mode::Snapshot => AddMode::Snapshot,
                    Mode::ReadOnly => AddMode::Ro,
                    Mode::ReadWrite => AddMode::Rw,
                };
                let at = disk.place.map(|(controller, lun)| DiskPlace { controller, lun });
                Request::DiskAdd { file, mode, at }
            }
            Self::Disk(Disk::Remove { place }) => Request::DiskRemove { at: *place },
            Self::Disk(Disk::Resize { place, size }) => Request::DiskResize { at: *place, bytes: *size },
            Self::Memory { size: None } => Request::Memory {},
            Self::Memory { size: Some(MemorySize(bytes)) } => Request::MemorySet { bytes: *bytes },
            Self::Fcopy { file, to, overwrite, create_path } => Request::Fcopy {
                file: absolute(file)?,
                to: to.clone(),
                overwrite: *overwrite,
                create_path: *create_path,
            },
            Self::Rescind { device } => Request::Rescind { device: *device },
            Self::Net { link } => Request::Net { link: *link },
            Self::Status => Request::Status {},
            Self::Shutdown { force, hibernate } => {
                let action = if *hibernate { Ending::Hibernate } else { Ending::Off };
                Request::Shutdown { action, force: *force }
            }
            Self::Reboot { force } => Request::Shutdown { action: Ending::Restart, force: *force },
            Self::Kvp(Kvp::Get { pool, key }) => Request::KvpGet { pool: *pool, key: key.clone() },
            Self::Kvp(Kvp::Set { pool, key, value }) => {
                Request::KvpSet { pool: *pool, key: key.clone(), value: value.clone() }
            }
            Self::Kvp(Kvp::Delete { pool, key }) => Request::KvpDelete { pool: *pool, key: key.clone() },
            Self::Kvp(Kvp::List { pool }) => Request::KvpList { pool: *pool },
            Self::Kvp(Kvp::Addresses { adapter }) => Request::Addresses { adapter: adapter.clone() },
            Self::Time => Request::Time {},
            Self::Freeze => Request::Freeze {},
            Self::Thaw => Request::Thaw {},
            Self::Screenshot { file } => {
                output::check("picture", "screenshot", file)?;
                Request::Screenshot { file: absolute(file)? }
            }
            Self::Type { text } => Request::Type { text: text.clone() },
            Self::Mouse { x, y, scroll, click } => {
                Request::Mouse { x: *x, y: *y, scroll: *scroll, click: *click }
            }
        })
    }
}

/// Returns the absolute path of a file, for the server, which has a folder of its own.
pub(super) fn absolute(file: &Path) -> anyhow::Result<String> {
    let file = std::path::absolute(file).context("cannot find the folder of the file")?;
    let text = file.to_str();
    let text = text.with_context(|| format!("the path {} is not UTF-8, as JSON requires", file.display()))?;
    Ok(text.to_owned())
}

/// Parses the name of a machine that is to be: a word that `hv ctl` takes as a machine.
pub(crate) fn machine_name(text: &str) -> Result<Name, String> {
    let name: Name = text.parse()?;
    if is_command(text) {
        return Err(format!("{text} is a command of `hv ctl`; expected another word"));
    }
    Ok(name)
}

/// Returns true if a word is a command of `hv ctl`, and so not taken as a machine.
fn is_command(word: &str) -> bool {
    let all = <What as clap::Subcommand>::augment_subcommands(clap::Command::new("ctl"));
    word == "help" || all.find_subcommand(word).is_some()
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> anyhow::Result<Exit> {
    let request = args.what.request()?;
    let target = Target::find(args.machine.as_deref())?;
    let asked = Asked { command: "hv ctl", json: args.json, timeout: args.timeout };
    client::ask(&target, request, &asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_no_name_of_a_machine() {
        assert_eq!(machine_name("web").unwrap().as_str(), "web");
        assert!(machine_name("a b").unwrap_err().contains("expected at most 32"));
        for command in ["status", "disk", "type", "help"] {
            assert!(machine_name(command).unwrap_err().contains("is a command of"), "{command}");
        }
    }

    #[test]
    fn the_machine_may_be_left_out() {
        #[derive(clap::Parser)]
        struct Whole {
            #[command(flatten)]
            args: Args,
        }
        let machine = |words: &str| {
            let line = <Whole as clap::Parser>::try_parse_from(words.split(' '));
            line.map(|line| line.args.machine.map(|word| word.to_string_lossy().into_owned()))
        };
        assert_eq!(machine("ctl status").unwrap(), None);
        assert_eq!(machine("ctl --json disk resize 0:1 4G").unwrap(), None);
        assert_eq!(machine("ctl web status --timeout 3").unwrap().as_deref(), Some("web"));
        assert_eq!(machine("ctl type status").unwrap(), None);
        assert_eq!(machine("ctl ./status status").unwrap().as_deref(), Some("./status"));
        assert!(machine("ctl web").is_err() && machine("ctl").is_err());
    }
}
