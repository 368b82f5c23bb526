//! Images of a partition: arbitrary ones, and valid ones with damage.

use hv_partition::RestoreError;
use hv_partition::testing::rehash;
use hv_tlfs::register::RegisterName as Name;
use hv_tlfs::synic::MessageType;

use crate::input::Input;
use crate::machine::{FuzzedMachine, Setup, VPS, run};

/// Size of an image's header before the partition's state: magic number, version, fingerprint.
const HEAD: usize = 20;
/// Size of the hash at the end.
const HASH: usize = 8;
/// Maximum number of steps after a restore.
const STEPS: usize = 64;

/// Fuzzes restore of any image.
pub fn restore(data: &[u8]) {
    let mut input = Input::new(data);
    let how = input.byte();
    run(Setup::plain(), |[machine, fresh]| {
        let good = good_image(machine, how & 8 != 0);
        let bad = match how & 3 {
            0 => input.rest().to_vec(),
            1 => with_hash([&good[..HEAD], input.rest()].concat()),
            2 => with_hash(damaged(good, &mut input)),
            _ => damaged(good, &mut input),
        };
        match machine.partition.restore(machine.host, &bad) {
            Ok(()) => {
                check_restored(machine, fresh);
                go_on(machine, &mut input);
            }
            Err(error) => {
                assert!(!error.to_string().is_empty());
                assert!(how & 3 == 3 || how & 3 == 0 || error != RestoreError::Damaged);
                fresh.partition.reset(fresh.host);
                assert!(machine.image() == fresh.image(), "a refused image leaves something behind");
            }
        }
        machine.forget_starts();
        machine.check_service();
    });
}

/// Creates a guest in the middle of its work.
fn good_image(machine: &FuzzedMachine<'_>, connected: bool) -> Vec<u8> {
    machine.boot();
    if connected {
        machine.open_channel(true);
    }
    for vp in 0..VPS {
        for n in 0..3 {
            let _ = machine.partition.post_message(machine.host, vp, 3, MessageType(1), n, b"waiting");
        }
        let writes = [
            (Name::STIMER0_COUNT, 1000),
            (Name::STIMER0_CONFIG, 3 | 3 << 16),
            (Name::STIMER1_COUNT, 1 << 40),
            (Name::STIMER1_CONFIG, 1 | 1 << 12 | 17 << 4),
        ];
        for (name, value) in writes {
            let _ = machine.set(vp, name, value);
        }
    }
    let _ = machine.set(0, Name::REFERENCE_TSC, crate::memory::RAM | 0x3001);
    machine.pass(20_000);
    machine.expire_all();
    machine.image()
}

/// Returns an image with some of its bytes changed, removed, or inserted.
fn damaged(mut image: Vec<u8>, input: &mut Input<'_>) -> Vec<u8> {
    image.truncate(image.len().saturating_sub(HASH));
    for _ in 0..1 + input.below(4) {
        let at = (HEAD + usize::from(input.half())) % image.len().max(1);
        match input.byte() {
            0..200 => {
                let size = input.below(9);
                let bytes = input.bytes(size);
                image[at..].iter_mut().zip(bytes).for_each(|(byte, new)| *byte = *new);
            }
            200..230 => image.truncate(at),
            _ => {
                let size = input.below(40);
                let bytes = input.bytes(size);
                image.splice(at..at, bytes.iter().copied());
            }
        }
        if image.len() <= HEAD {
            break;
        }
    }
    image
}

/// Returns the image with a valid hash.
fn with_hash(mut image: Vec<u8>) -> Vec<u8> {
    image.extend([0; 8]);
    rehash(&mut image);
    image
}

/// Checks that restored state can be saved and restored again, and is then the same.
fn check_restored(machine: &FuzzedMachine<'_>, other: &FuzzedMachine<'_>) {
    let image = machine.image();
    assert_eq!(other.partition.restore(other.host, &image), Ok(()));
    assert!(other.image() == image, "an image of a restored partition is another");
}

/// Lets the guest of a restored partition continue with arbitrary steps.
fn go_on(machine: &FuzzedMachine<'_>, input: &mut Input<'_>) {
    // A time near the end of time is not a fault of the partition; its timers then cannot be set.
    if machine.time() < 1 << 60 {
        machine.expire_all();
        machine.check_deadlines();
    }
    for _ in 0..STEPS {
        if input.is_empty() || machine.time() >= 1 << 60 {
            break;
        }
        machine.step(input.byte() % 30, input);
    }
}
