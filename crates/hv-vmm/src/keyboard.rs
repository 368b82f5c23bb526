//! What is typed on the guest's console.

use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

use rustix::io::Errno;

/// Bytes that are typed at a time: what a console's queue has room for, under QEMU as well. All that is not typed yet
/// stays where the tool sees that the guest has not taken it.
const AT_A_TIME: usize = 16;
/// How often to look whether the guest has read what was typed, at first and after a while.
const TAKEN: Duration = Duration::from_millis(2);
const TAKEN_AT_MOST: Duration = Duration::from_millis(50);

/// Types what comes with `input`, as fast as the guest takes it: `unread` returns how much it has yet to take.
pub(crate) fn forward(typed: &impl AsFd, input: impl Fn(&[u8]) -> usize, unread: impl Fn() -> usize) {
    let mut buffer = [0; AT_A_TIME];
    loop {
        match rustix::io::read(typed, &mut buffer) {
            Ok(0) => return,
            // There is room for all of it.
            Ok(count) => input(&buffer[..count]),
            Err(Errno::INTR) => continue,
            Err(_) => return,
        };
        let mut pause = TAKEN;
        while unread() != 0 {
            thread::sleep(pause);
            pause = (pause * 2).min(TAKEN_AT_MOST);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn a_guest_that_takes_nothing_gets_what_its_console_has_room_for() {
        let (read, mut write) = std::io::pipe().unwrap();
        write.write_all(&[b'x'; 100]).unwrap();
        drop(write);
        let (queue, looks) = (Mutex::new(Vec::<u8>::new()), Mutex::new(Vec::new()));
        let input = |bytes: &[u8]| {
            queue.lock().unwrap().extend(bytes);
            bytes.len()
        };
        // It takes what it has at the third look.
        let unread = || {
            let mut looks = looks.lock().unwrap();
            looks.push(rustix::io::ioctl_fionread(&read).unwrap());
            let mut queue = queue.lock().unwrap();
            if looks.len().is_multiple_of(3) {
                queue.clear();
            }
            queue.len()
        };
        forward(&read, input, unread);
        let left: Vec<u64> = looks.lock().unwrap().iter().copied().step_by(3).collect();
        assert_eq!(left, [84, 68, 52, 36, 20, 4, 0]);
    }
}
