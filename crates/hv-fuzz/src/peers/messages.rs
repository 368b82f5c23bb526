//! Messages of the hosts' protocols: right, or with damage.

use hv_testbed::scripted::WINDOW_BASE;

use super::Kind;
use crate::input::Input;

/// Builds a message for a driver of this kind.
pub(super) fn of(kind: Kind, input: &mut Input<'_>) -> Vec<u8> {
    let mut message = match kind {
        Kind::Stream => stream(input),
        Kind::Keyboard => keyboard(input),
        Kind::Screen => screen(input),
        Kind::Heartbeat => service(1, &[input.long().to_le_bytes(), [0; 8]].concat(), input),
        Kind::Shutdown => {
            let flags = if input.flag() { input.below(8) as u32 } else { input.word() };
            let body = [words(&[input.word(), 60, flags]), vec![b'a'; input.of(&[0, 1, 2048])]].concat();
            service(3, &body, input)
        }
        Kind::Time => service(4, input.bytes(25), input),
        Kind::Kvp => {
            let body = pairs(input);
            service(2, &body, input)
        }
    };
    match input.below(16) {
        0 => message.truncate(usize::from(input.half()) % (message.len() + 1)),
        1 | 2 if !message.is_empty() => {
            let place = usize::from(input.half()) % message.len();
            message[place] = input.byte();
        }
        _ => {}
    }
    message
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// Returns this length, or another one.
fn claimed(len: usize, input: &mut Input<'_>) -> u32 {
    match input.below(16) {
        0 => input.word(),
        1 => (len as u32).wrapping_add(input.byte().into()).wrapping_sub(8),
        _ => len as u32,
    }
}

/// Builds a pipe's message.
fn piped(body: &[u8], input: &mut Input<'_>) -> Vec<u8> {
    [words(&[1, claimed(body.len(), input)]), body.to_vec()].concat()
}

/// Builds data of a stream, or its end.
fn stream(input: &mut Input<'_>) -> Vec<u8> {
    let len = input.of(&[1, 0, 8, 100, 701, 4096, 16_384, 16_385]);
    piped(&vec![input.byte(); len], input)
}

fn keyboard(input: &mut Input<'_>) -> Vec<u8> {
    match input.below(4) {
        0 => words(&[2, input.of(&[1, 1, 0, 0xffff_ffff])]),
        1 => words(&[input.word(), input.word()]),
        _ => words(&[3, input.half().into(), input.byte().into()]),
    }
}

fn screen(input: &mut Input<'_>) -> Vec<u8> {
    let (kind, body) = match input.below(6) {
        0 => (2, vec![3, 0, 5, 0, u8::from(input.byte() < 200), 1]),
        1 => {
            let count = input.of(&[1, 0, 3, 64, 65, 255]);
            let default = if input.flag() { 0 } else { input.byte() };
            let mut size = || [input.of(&[640, 0, 1, 512, 2048, 0xffff]), input.half()];
            let sizes: Vec<u8> = (0..count.min(64)).flat_map(|_| size()).flat_map(u16::to_le_bytes).collect();
            (14, [vec![0; 128], vec![count, default, 0], sizes].concat())
        }
        2 => {
            // The context is the address at which the guest wants its memory: it has said so in its message.
            let address = if input.flag() { WINDOW_BASE } else { input.long() };
            (4, address.to_le_bytes().to_vec())
        }
        3 => (9, input.bytes(5).to_vec()),
        4 => (6, vec![0; 8]),
        _ => (input.below(16) as u32, input.bytes(32).to_vec()),
    };
    let size = claimed(8 + body.len(), input);
    let body = [words(&[kind, size]), body].concat();
    piped(&body, input)
}

/// Builds a service's message: its versions, or a request with this body.
fn service(kind: u16, request: &[u8], input: &mut Input<'_>) -> Vec<u8> {
    let negotiates = input.below(4) == 0;
    let versions = || words(&[3, 1, 4, 2 << 16 | 3, 3, 1]);
    let (kind, body) = if negotiates {
        // Two versions of the framework and four of the service: minor number in the high half.
        let counts = if input.flag() { 4 << 16 | 2 } else { input.word() };
        (0, [words(&[counts, 0]), versions()].concat())
    } else {
        (if input.byte() < 240 { kind } else { input.half() }, request.to_vec())
    };
    let mut header = [0; 20];
    header[4..6].copy_from_slice(&kind.to_le_bytes());
    header[10..12].copy_from_slice(&(claimed(body.len(), input) as u16).to_le_bytes());
    header[17] = if input.byte() < 240 { 3 } else { input.byte() };
    piped(&[&header[..], &body].concat(), input)
}

/// Builds a request of key-value pairs.
fn pairs(input: &mut Input<'_>) -> Vec<u8> {
    let operation = input.below(7) as u8;
    let mut size = |most: u32| match input.below(4) {
        0 => input.word(),
        1 => most,
        2 => most + u32::from(input.byte()) - 128,
        _ => u32::from(input.byte()),
    };
    let (key_size, value_size, index) = (size(512), size(2048), size(200));
    let kind = input.of(&[1, 1, 4, 8, 0]);
    let unit = [b'a', input.of(&[0, 0, 0xd8, 0xdc])];
    let (key, value) = (unit.repeat(256), unit.repeat(1024));
    let head = vec![operation, input.byte(), 0, 0];
    let pair = [words(&[kind, key_size, value_size]), key.clone(), value].concat();
    match operation {
        2 => [head, words(&[key_size]), key].concat(),
        3 => [head, words(&[index]), pair].concat(),
        _ => [head, pair].concat(),
    }
}
