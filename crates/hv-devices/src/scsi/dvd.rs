//! A DVD in its drive: the tray, and the commands that only drives of optical media take.
//!
//! Source: MMC-3 of INCITS T10, by the names of commands and features; OpenVMM, scsidvd.

use super::Data;
use super::command::{CDB_LEN, be16, be32};
use super::disk::Disk;
use super::sense::Sense;
use hv_memory::save::{Reader, RestoreError, Writer};

/// A command that drives of optical media take, and disks do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Optical {
    /// READ TOC/PMA/ATIP.
    Toc {
        /// What is asked for: 0 the tracks, 1 the sessions.
        format: u8,
        /// Addresses as minute, second and frame.
        time: bool,
        /// First track.
        track: u8,
        /// Bytes that the initiator has room for.
        allocation: usize,
    },
    /// GET CONFIGURATION.
    Configuration {
        /// 0 all features, 1 those that are current, 2 one.
        which: u8,
        /// First feature.
        first: u16,
        /// Bytes that the initiator has room for.
        allocation: usize,
    },
    /// GET EVENT STATUS NOTIFICATION.
    EventStatus {
        /// It is answered at once.
        polled: bool,
        /// Classes of events, a bit each.
        classes: u8,
        /// Bytes that the initiator has room for.
        allocation: usize,
    },
    /// READ DISC INFORMATION.
    DiscInformation {
        /// What is asked for; 0: the disc itself.
        kind: u8,
        /// Bytes that the initiator has room for.
        allocation: usize,
    },
    /// READ TRACK INFORMATION.
    TrackInformation {
        /// What the address is: 0 a block, 1 a track, 2 a session.
        kind: u8,
        /// Block, track or session.
        address: u32,
        /// Bytes that the initiator has room for.
        allocation: usize,
    },
    /// MECHANISM STATUS.
    MechanismStatus {
        /// Bytes that the initiator has room for.
        allocation: usize,
    },
}

impl Optical {
    /// Reads one of these commands.
    pub(super) fn read(cdb: &[u8; CDB_LEN]) -> Self {
        let allocation = be16(cdb, 7) as usize;
        match cdb[0] {
            0x43 => Self::Toc {
                // Older initiators have the format at the end.
                format: if cdb[2] & 0xf != 0 { cdb[2] & 0xf } else { cdb[9] >> 6 },
                time: cdb[1] & 2 != 0,
                track: cdb[6],
                allocation,
            },
            0x46 => Self::Configuration { which: cdb[1] & 3, first: be16(cdb, 2) as u16, allocation },
            0x4a => Self::EventStatus { polled: cdb[1] & 1 != 0, classes: cdb[4], allocation },
            0x51 => Self::DiscInformation { kind: cdb[1] & 7, allocation },
            0x52 => Self::TrackInformation { kind: cdb[1] & 3, address: be32(cdb, 2), allocation },
            _ => Self::MechanismStatus { allocation: be16(cdb, 8) as usize },
        }
    }
}

/// What has happened to the medium since it was last asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    None = 0,
    New = 2,
    Removed = 3,
}

/// The drive of a DVD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Drive {
    open: bool,
    locked: bool,
    event: Event,
}

impl Drive {
    pub(super) const fn new() -> Self {
        Self { open: false, locked: false, event: Event::None }
    }

    /// Returns true if the tray is open: there is no medium to read.
    pub(super) const fn is_open(&self) -> bool {
        self.open
    }

    pub(super) fn lock(&mut self, locked: bool) {
        self.locked = locked;
    }

    pub(super) fn save(&self, w: &mut Writer<'_>) {
        w.flag(self.open);
        w.flag(self.locked);
        w.u8(self.event as u8);
    }

    pub(super) fn restore(&mut self, r: &mut Reader<'_>) -> Result<(), RestoreError> {
        const PART: &str = "drive of a DVD";
        (self.open, self.locked) = (r.flag(PART)?, r.flag(PART)?);
        let event = r.u8()?;
        let known = [Event::None, Event::New, Event::Removed].into_iter().find(|known| *known as u8 == event);
        self.event = known.ok_or(RestoreError::Invalid(PART))?;
        Ok(())
    }

    /// Opens or closes the tray. True if a medium has come in.
    pub(super) fn move_tray(&mut self, close: bool) -> Result<bool, Sense> {
        if !close && self.locked {
            return Err(Sense::REMOVAL_PREVENTED);
        }
        if self.open != close {
            return Ok(false);
        }
        self.open = !close;
        self.event = if close { Event::New } else { Event::Removed };
        Ok(close)
    }
}

/// The only track, and the mark of what is after the last one.
const TRACK: u8 = 1;
const LEAD_OUT: u8 = 0xaa;
/// A data track, whose subchannel has its position.
const DATA_TRACK: u8 = 0x14;

/// Answers a command.
pub(super) fn answer(disk: &mut Disk, command: Optical) -> Result<Data, Sense> {
    if disk.drive().is_none() {
        return Err(Sense::INVALID_OPCODE);
    }
    Ok(match command {
        Optical::Toc { format, time, track, allocation } => {
            disk.loaded()?;
            toc(disk, format, time, track)?.cut(allocation)
        }
        Optical::Configuration { which, first, allocation } => {
            configuration(disk, which, first)?.cut(allocation)
        }
        Optical::EventStatus { polled: false, .. } => return Err(Sense::INVALID_FIELD),
        Optical::EventStatus { classes, allocation, .. } => events(disk, classes).cut(allocation),
        Optical::DiscInformation { kind, allocation } => {
            disk.loaded()?;
            if kind != 0 {
                return Err(Sense::INVALID_FIELD);
            }
            disc().cut(allocation)
        }
        Optical::TrackInformation { kind, address, allocation } => {
            disk.loaded()?;
            let known = match kind {
                0 => u64::from(address) < disk.blocks(),
                1 | 2 => address == u32::from(TRACK),
                _ => false,
            };
            if !known {
                return Err(Sense::INVALID_FIELD);
            }
            track(disk).cut(allocation)
        }
        Optical::MechanismStatus { allocation } => {
            let mut data = Data::new();
            data.pad(8);
            data.cut(allocation)
        }
    })
}

fn blocks(disk: &Disk) -> u32 {
    u32::try_from(disk.blocks()).unwrap_or(u32::MAX)
}

fn toc(disk: &Disk, format: u8, time: bool, first: u8) -> Result<Data, Sense> {
    const SESSIONS: u8 = 1;
    let mut data = Data::new();
    data.push(&[0, 0, TRACK, TRACK]);
    let entries: &[(u8, u32)] = match (format, first) {
        (0, 0 | TRACK) => &[(TRACK, 0), (LEAD_OUT, blocks(disk))],
        (0, LEAD_OUT) => &[(LEAD_OUT, blocks(disk))],
        // The first track of the last session.
        (SESSIONS, _) => &[(TRACK, 0)],
        _ => return Err(Sense::INVALID_FIELD),
    };
    for (track, block) in entries {
        data.push(&[0, DATA_TRACK, *track, 0]);
        data.push(&if time { minutes(*block) } else { block.to_be_bytes() });
    }
    let len = (data.bytes().len() - 2) as u16;
    data.set(0, &len.to_be_bytes());
    Ok(data)
}

/// Returns an address as minute, second and frame; the medium begins 2 seconds before block 0.
fn minutes(block: u32) -> [u8; 4] {
    const FRAMES: u32 = 75;
    let frames = block.saturating_add(2 * FRAMES);
    let minute = (frames / FRAMES / 60).min(255);
    [0, minute as u8, (frames / FRAMES % 60) as u8, (frames % FRAMES) as u8]
}

fn configuration(disk: &Disk, which: u8, first: u16) -> Result<Data, Sense> {
    const DVD_ROM: u16 = 0x10;
    /// Set in features that are current, and in those that are so at all times.
    const CURRENT: u8 = 1;
    const PERSISTENT: u8 = 2;
    let loaded = disk.loaded().is_ok();
    let profile = if loaded { DVD_ROM } else { 0 };
    let medium = u8::from(loaded);
    // Profile list, core (SCSI), morphing, removable medium (lock, eject, tray), random readable (2048 bytes), DVD
    // read.
    let features: [(u16, u8, &[u8]); 6] = [
        (0x00, CURRENT | PERSISTENT, &[0, 0x10, medium, 0]),
        (0x01, CURRENT | PERSISTENT, &[0, 0, 0, 1]),
        (0x02, CURRENT | PERSISTENT, &[0, 0, 0, 0]),
        (0x03, CURRENT | PERSISTENT, &[0x29, 0, 0, 0]),
        (0x10, medium, &[0, 0, 8, 0, 0, 1, 0, 0]),
        (0x1f, medium, &[]),
    ];
    let mut data = Data::new();
    data.push(&[0; 6]);
    data.push(&profile.to_be_bytes());
    for (code, flags, bytes) in features {
        let wanted = match which {
            0 => code >= first,
            1 => code >= first && flags & CURRENT != 0,
            2 => code == first,
            _ => return Err(Sense::INVALID_FIELD),
        };
        if wanted {
            data.push(&code.to_be_bytes());
            data.push(&[flags, bytes.len() as u8]);
            data.push(bytes);
        }
    }
    let len = (data.bytes().len() - 4) as u32;
    data.set(0, &len.to_be_bytes());
    Ok(data)
}

/// Reports pending events of the media class, the only one supported, and clears those reported. An event already
/// reported is over.
fn events(disk: &mut Disk, classes: u8) -> Data {
    const MEDIA: u8 = 4;
    const SUPPORTED: u8 = 1 << MEDIA;
    const NONE: u8 = 1 << 7;
    let mut data = Data::new();
    if classes & SUPPORTED == 0 {
        data.push(&[0, 2, NONE, SUPPORTED]);
        return data;
    }
    let (event, open) = disk.take_event();
    data.push(&[0, 6, MEDIA, SUPPORTED, event, if open { 1 } else { 2 }, 0, 0]);
    data
}

impl Disk {
    /// Returns what has happened to the medium, and whether the tray is open.
    fn take_event(&mut self) -> (u8, bool) {
        self.drive_mut()
            .map_or((0, false), |drive| (core::mem::replace(&mut drive.event, Event::None) as u8, drive.open))
    }
}

/// Returns the description of a disc that is complete, with one session and one track.
fn disc() -> Data {
    const COMPLETE: u8 = 0b1110;
    let mut data = Data::new();
    data.push(&[0, 32, COMPLETE, TRACK, 1, TRACK, TRACK, 0]);
    data.pad(34);
    data
}

fn track(disk: &Disk) -> Data {
    const DATA: u8 = 4;
    /// Mode 1.
    const MODE: u8 = 1;
    let mut data = Data::new();
    data.push(&[0, 34, TRACK, 1, 0, DATA, MODE, 0]);
    data.pad(24);
    data.push(&blocks(disk).to_be_bytes());
    data.pad(36);
    data
}

#[cfg(test)]
mod tests {
    use super::super::{Disk, Reply};
    use super::*;

    fn dvd() -> Disk {
        Disk::dvd(2048 * 100 + 5, [1; 16], 1 << 18)
    }

    fn data(disk: &mut Disk, cdb: &[u8]) -> Result<Data, Sense> {
        let mut padded = [0; CDB_LEN];
        padded[..cdb.len()].copy_from_slice(cdb);
        match disk.command(&padded, |_| None) {
            Reply::Data(data) => Ok(data),
            Reply::Check(sense) => Err(sense),
            Reply::Good => Ok(Data::new()),
            Reply::Transfer(_) => panic!("a transfer"),
        }
    }

    const READY: [u8; 6] = [0; 6];
    const EJECT: [u8; 6] = [0x1b, 0, 0, 0, 2, 0];
    const LOAD: [u8; 6] = [0x1b, 0, 0, 0, 3, 0];
    const EVENT: [u8; 10] = [0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8, 0];

    #[test]
    fn the_tray_opens_unless_it_is_locked_and_tells_of_it_once() {
        let mut dvd = dvd();
        assert_eq!(data(&mut dvd, &EVENT).unwrap().bytes()[4..6], [0, 2]);
        data(&mut dvd, &[0x1e, 0, 0, 0, 1, 0]).unwrap();
        assert_eq!(data(&mut dvd, &EJECT).unwrap_err(), Sense::REMOVAL_PREVENTED);
        data(&mut dvd, &[0x1e, 0, 0, 0, 0, 0]).unwrap();
        data(&mut dvd, &EJECT).unwrap();
        assert_eq!(data(&mut dvd, &READY).unwrap_err(), Sense::NO_MEDIUM);
        assert_eq!(data(&mut dvd, &[0x28, 0, 0, 0, 0, 0, 0, 0, 1]).unwrap_err(), Sense::NO_MEDIUM);
        assert_eq!(data(&mut dvd, &EVENT).unwrap().bytes()[4..6], [3, 1]);
        assert_eq!(data(&mut dvd, &EVENT).unwrap().bytes()[4..6], [0, 1]);
        data(&mut dvd, &LOAD).unwrap();
        assert_eq!(data(&mut dvd, &READY).unwrap_err(), Sense::MEDIUM_CHANGED);
        data(&mut dvd, &READY).unwrap();
    }

    #[test]
    fn a_table_of_contents_has_one_track_and_its_end() {
        let mut dvd = dvd();
        let toc = data(&mut dvd, &[0x43, 0, 0, 0, 0, 0, 0, 0, 255, 0]).unwrap();
        assert_eq!(toc.bytes(), [0, 18, 1, 1, 0, 0x14, 1, 0, 0, 0, 0, 0, 0, 0x14, 0xaa, 0, 0, 0, 0, 100]);
        let cut = data(&mut dvd, &[0x43, 2, 0, 0, 0, 0, 0xaa, 0, 12, 0]).unwrap();
        assert_eq!(cut.bytes(), [0, 10, 1, 1, 0, 0x14, 0xaa, 0, 0, 0, 3, 25]);
        assert_eq!(data(&mut dvd, &[0x43, 0, 5, 0, 0, 0, 0, 0, 255, 0]).unwrap_err(), Sense::INVALID_FIELD);
    }

    #[test]
    fn a_disk_takes_none_of_these_commands() {
        let mut disk = Disk::new(1 << 20, [0; 16], 1 << 18);
        for code in [0x43, 0x46, 0x4a, 0x51, 0x52, 0xbd] {
            assert_eq!(
                data(&mut disk, &[code, 1, 0, 0, 0x10, 0, 0, 0, 8, 8]).unwrap_err(),
                Sense::INVALID_OPCODE
            );
        }
        data(&mut disk, &EJECT).unwrap();
        data(&mut disk, &READY).unwrap();
    }

    #[test]
    fn a_drive_says_what_it_is() {
        let mut dvd = dvd();
        let inquiry = data(&mut dvd, &[0x12, 0, 0, 0, 36, 0]).unwrap();
        assert_eq!((inquiry.bytes()[0], inquiry.bytes()[1]), (5, 0x80));
        assert_eq!(&inquiry.bytes()[16..32], b"Virtual DVD-ROM ");
        assert_eq!(data(&mut dvd, &[0x25]).unwrap().bytes(), [0, 0, 0, 99, 0, 0, 8, 0]);
        let all = data(&mut dvd, &[0x46, 0, 0, 0, 0, 0, 0, 0, 255, 0]).unwrap();
        assert_eq!((all.bytes().len(), all.bytes()[3], all.bytes()[7]), (56, 52, 0x10));
        let one = data(&mut dvd, &[0x46, 2, 0, 3, 0, 0, 0, 0, 255, 0]).unwrap();
        assert_eq!(one.bytes()[8..], [0, 3, 3, 4, 0x29, 0, 0, 0]);
        let mode = data(&mut dvd, &[0x5a, 8, 0x2a, 0, 0, 0, 0, 0, 255, 0]).unwrap();
        assert_eq!(mode.bytes()[8..10], [0x2a, 18]);
        assert!(data(&mut dvd, &[0x12, 1, 0xb0, 0, 255, 0]).is_err(), "a page of disks alone");
        assert_eq!(data(&mut dvd, &[0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0]).unwrap_err(), Sense::WRITE_PROTECTED);
    }
}
