use std::os::unix::fs::{FileExt as _, MetadataExt as _};

use super::super::{Chosen, Disks};
use super::*;

const ROOM: u64 = 1 << 20;

pub(in super::super) fn file_of(bytes: &[u8]) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().write_all_at(bytes, 0).unwrap();
    file
}

pub(in super::super) fn option(file: &tempfile::NamedTempFile, words: &str) -> DiskOption {
    format!("{}{words}", file.path().display()).parse().unwrap()
}

fn machine(disks: &[DiskOption], room: u64) -> Disks {
    Chosen::open(disks, &[], 1 << 32, room).unwrap().prepare([7; 16]).unwrap()
}

/// Accepts a change, like a hypervisor that does what it is asked for.
fn willing(_: Change) -> Result<(), Unmade<()>> {
    Ok(())
}

fn refuses(_: Change) -> Result<(), Unmade<()>> {
    Err(Unmade::Refused(()))
}

fn length(file: &tempfile::NamedTempFile) -> u64 {
    file.as_file().metadata().unwrap().len()
}

#[test]
fn a_file_that_is_written_grows_and_shrinks_with_its_disk() {
    let file = file_of(&[7; 8192]);
    let disks = machine(&[option(&file, ",rw")], ROOM);
    let live = disks.live();
    live.trim();
    live.resize((0, 0), 64 << 10, willing).unwrap();
    assert_eq!(length(&file), 64 << 10);
    assert!(file.as_file().metadata().unwrap().blocks() * 512 >= 64 << 10, "there is room for it");
    assert!(matches!(live.resize((0, 0), 96 << 10, refuses), Err(Denied::Machine(()))));
    assert_eq!(length(&file), 64 << 10, "a refused change leaves nothing");
    assert!(matches!(live.resize((0, 0), 2 * ROOM, willing), Err(Denied::Invalid(_))));
    assert!(matches!(live.resize((0, 0), 4096 + 512, willing), Err(Denied::Invalid(_))));
    let unanswered = |_| Err(Unmade::Unknown(()));
    assert!(live.resize((0, 0), 4096, unanswered).is_err());
    assert_eq!(length(&file), 64 << 10, "the guest may still use all of it");
    live.resize((0, 0), 4096, willing).unwrap();
    assert_eq!(length(&file), 4096);
    drop(disks);
    assert_eq!(length(&file), 4096);
}

#[test]
fn what_a_disk_loses_reads_as_zeros_when_it_grows_again() {
    let file = file_of(&[7; 16384]);
    let disks = machine(&[option(&file, ",snapshot")], ROOM);
    let live = disks.live();
    live.add(&option(&file, ""), willing).unwrap();
    for place in [(0, 0), (0, 1)] {
        live.resize(place, 4096 + 512, willing).unwrap();
        live.resize(place, 16384, willing).unwrap();
        let state = live.state();
        let (memory, window) = (&state.disks[&place].memory, state.window.as_ref().unwrap());
        let (memory, at) = match memory {
            Memory::File(file, _) | Memory::Private(file) => (file, 0),
            Memory::Window(at) => (&window.file, *at),
        };
        let mut bytes = [1; 16384];
        memory.read_exact_at(&mut bytes, at).unwrap();
        assert!(bytes[..4608].iter().all(|&byte| byte == 7), "{place:?}");
        assert!(bytes[4608..].iter().all(|&byte| byte == 0), "{place:?}");
    }
    assert_eq!(length(&file), 16384);
}

#[test]
fn a_disk_that_takes_anothers_place_has_another_identity_and_the_same_memory() {
    let file = file_of(&[7; 8192]);
    let disks = machine(&[], ROOM);
    let live = disks.live();
    let mut added = Vec::new();
    for _ in 0..2 {
        let mut tell = |change| {
            added.push(change);
            willing(change)
        };
        assert_eq!(live.add(&option(&file, ",at=2:5"), &mut tell).unwrap(), ((2, 5), 8192));
        live.remove((2, 5), willing).unwrap();
    }
    let [Change::Add(one), Change::Add(other)] = added[..] else { panic!("{added:?}") };
    assert_eq!((one.base, one.size, one.controller, one.lun), (other.base, 8192, 2, 5));
    assert_ne!(one.id, other.id);
}

#[test]
fn what_is_refused_leaves_the_room_as_it_was() {
    let file = file_of(&[7; 8192]);
    let disks = machine(&[option(&file, "")], ROOM);
    let live = disks.live();
    assert!(matches!(live.add(&option(&file, ",at=0:0"), willing), Err(Denied::Invalid(_))));
    assert!(matches!(live.add(&option(&file, ",rw"), willing), Err(Denied::Invalid(_))));
    assert!(matches!(live.remove((1, 1), willing), Err(Denied::Absent(_))));
    assert!(matches!(live.add(&option(&file, ""), refuses), Err(Denied::Machine(()))));
    let large = tempfile::NamedTempFile::new().unwrap();
    large.as_file().set_len(ROOM).unwrap();
    live.add(&option(&large, ""), willing).unwrap();
    assert!(matches!(live.add(&option(&file, ""), willing), Err(Denied::Invalid(_))), "the room is full");
    let none = machine(&[], 0);
    let why = none.live().add(&option(&file, ""), willing);
    assert!(matches!(why, Err(Denied::Invalid(text)) if text.contains("--hotplug-room")));
}

#[test]
fn a_missing_file_is_the_reason_whatever_room_there_is() {
    let missing: DiskOption = "/no/such/folder/x.img".parse().unwrap();
    for room in [0, ROOM] {
        let disks = machine(&[], room);
        let Err(Denied::Invalid(why)) = disks.live().add(&missing, willing) else { panic!("it was added") };
        assert_eq!(why, "the disk /no/such/folder/x.img does not exist");
    }
}
