//! The network: what is behind the guest's card is passt, over a stream socket, on which each frame follows its length.
//!
//! Frames go out on the thread whose VP sends them, as far as the socket takes them. A thread of its own sends what is
//! left, and takes frames in; while the guest has no room for one, it reads no more.
//!
//! Sources: passt(1), qemu(1), `-netdev stream`; IETF, draft-ietf-opsawg-pcap, "File Header", "Packet Record".

use std::fs::File;
use std::io::{self, Write as _};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use hv_control::Pipe as _;
use hv_devices::network::{Lost, MAX_FRAME};
use hv_partition::Started;
use hv_partition::faults::{self, Faults as _, FrameFault, Injector};
use rustix::io::Errno;

use crate::accounts::lock;
use crate::pipe::{Bell, Stream};

/// Bytes of a frame's length, in front of it: a number with its most significant byte first.
const HEAD: usize = 4;
/// Bytes of the longest frame from outside: that of the longest IP packet, with room for a tag.
const LONGEST: usize = (64 << 10) + 18;
/// Frames that are passed on with the card's lock held.
const FRAMES: usize = 16;
/// Header of a file of frames: magic number, version 2.4, zone and accuracy, longest frame, Ethernet.
const CAPTURE: [u32; 6] = [0xa1b2_c3d4, 2 | 4 << 16, 0, 0, 256 << 10, 1];

/// The guest's network.
pub(crate) struct Network {
    outward: Mutex<Outward>,
    /// The guest's card waits until a frame can be sent.
    waiting: AtomicBool,
    /// Where frames are recorded.
    capture: Option<Mutex<File>>,
    injector: Option<&'static Injector>,
}

/// A frame that a fault holds back, to follow the next one.
#[derive(Debug, Default)]
struct Late(Option<Vec<u8>>);

impl faults::Late for Late {
    fn keep(&mut self, frame: &[u8]) -> bool {
        let free = self.0.is_none();
        if free {
            self.0 = Some(frame.to_vec());
        }
        free
    }

    fn release(&mut self, out: impl FnOnce(&mut [u8])) {
        if let Some(mut frame) = self.0.take() {
            out(&mut frame);
        }
    }
}

/// What sends frames.
struct Outward {
    stream: Stream,
    frame: Vec<u8>,
    /// A frame that a fault holds back, to follow the next one.
    late: Late,
}

impl Network {
    /// Makes that of a socket. Returns it with what takes frames in.
    ///
    /// # Errors
    /// It is no socket, or the record cannot be written.
    pub(crate) fn new(
        socket: File,
        capture: Option<File>,
        injector: Option<&'static Injector>,
    ) -> io::Result<(Self, Inward)> {
        let inward = Inward::new(Stream::new(socket.try_clone()?)?);
        let mut capture = capture;
        if let Some(file) = &mut capture {
            file.write_all(&CAPTURE.map(u32::to_le_bytes).concat())?;
        }
        let stream = Stream::new(socket)?;
        let outward = Mutex::new(Outward { stream, frame: vec![0; HEAD + MAX_FRAME], late: Late::default() });
        let capture = capture.map(Mutex::new);
        Ok((Self { outward, waiting: AtomicBool::new(false), capture, injector }, inward))
    }

    /// Records a frame. What cannot be written is not there.
    fn record(&self, frame: &[u8]) {
        let Some(file) = &self.capture else { return };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let len = frame.len() as u32;
        let head = [now.as_secs() as u32, now.subsec_micros(), len, len].map(u32::to_le_bytes).concat();
        let _ = lock(file).write_all(&[&head, frame].concat());
    }

    fn fate(&self, from_guest: bool) -> Option<FrameFault> {
        self.injector.and_then(|injector| injector.frame(from_guest))
    }

    /// Sends a frame of the guest's, which `write` writes and returns the length of. Called with its card's lock held.
    pub(crate) fn send(
        &self,
        write: impl FnOnce(&mut [u8]) -> Option<usize>,
        bell: &Bell,
    ) -> Started<Result<(), Lost>> {
        let outward = &mut *lock(&self.outward);
        // Twice, and the frame that was held back.
        const MOST: usize = 3 * (HEAD + MAX_FRAME);
        match outward.stream.room() {
            Ok(room) if room >= MOST => {}
            Ok(_) => {
                // The thread sees it under this lock, after it has sent something.
                self.waiting.store(true, Ordering::Release);
                bell.ring();
                return Started::Full;
            }
            Err(_) => return Started::Done(Err(Lost)),
        }
        let Some(len) = write(&mut outward.frame[HEAD..]) else {
            return Started::Done(Err(Lost));
        };
        outward.frame[..HEAD].copy_from_slice(&(len as u32).to_be_bytes());
        let Outward { stream, frame, late } = outward;
        let frame = &mut frame[..HEAD + len];
        let mut broken = false;
        FrameFault::meet(self.fate(true), frame, HEAD, late, |frame| {
            self.record(&frame[HEAD..]);
            broken |= stream.write(frame).is_err();
            true
        });
        if broken {
            return Started::Done(Err(Lost));
        }
        stream.flush();
        if stream.has_waiting() {
            bell.ring();
        }
        Started::Done(Ok(()))
    }

    /// Sends what the socket had no room for. Returns true if it has no room for all of it.
    pub(crate) fn flush(&self) -> bool {
        let outward = &mut *lock(&self.outward);
        outward.stream.flush();
        outward.stream.has_waiting()
    }

    /// Gives up what waits for the socket: the stream is broken. Frames of the guest's are lost from now on.
    fn lose(&self, why: Errno) {
        lock(&self.outward).stream.lose(why);
    }

    /// Returns whether the guest's card waits until a frame can be sent: it is told so once.
    pub(crate) fn is_waited_for(&self) -> bool {
        self.waiting.swap(false, Ordering::AcqRel)
    }
}

/// What takes frames in.
pub(crate) struct Inward {
    stream: Stream,
    bytes: Vec<u8>,
    /// The bytes that came and were not passed on.
    held: std::ops::Range<usize>,
    /// Bytes in front of `held`'s end whose frames are recorded.
    recorded: usize,
    /// Outcome of the current frame, once that is known.
    fate: Option<Option<FrameFault>>,
    late: Late,
}

/// How far frames were passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passed {
    /// All that came.
    All,
    /// Some: call it again.
    Some,
    /// Some, and the guest has no room for the next one.
    Full,
}

impl Inward {
    fn new(stream: Stream) -> Self {
        let bytes = vec![0; HEAD + LONGEST];
        Self { stream, bytes, held: 0..0, recorded: 0, fate: None, late: Late::default() }
    }

    /// Waits until there is something to do: something has come, if `hears`; there is room for what waits, if `sends`.
    pub(crate) fn wait(&self, bell: &Bell, hears: bool, sends: bool) {
        self.stream.wait(bell, hears, sends);
    }

    /// Reads what has come, and records the frames among it. Returns false if nothing has. If the stream is broken, or
    /// what came is no frame, the other way is given up as well.
    pub(crate) fn read(&mut self, network: &Network) -> Result<bool, Errno> {
        let read = self.read_frames(network);
        if let Err(why) = read {
            network.lose(why);
        }
        read
    }

    fn read_frames(&mut self, network: &Network) -> Result<bool, Errno> {
        self.bytes.copy_within(self.held.clone(), 0);
        self.recorded -= self.held.start;
        self.held = 0..self.held.len();
        let bytes = self.stream.read(&mut self.bytes[self.held.end..])?;
        self.held.end += bytes;
        // As it came, whatever befalls it.
        while let Some(len) = frame(&self.bytes[self.recorded..self.held.end])? {
            network.record(&self.bytes[self.recorded + HEAD..][..len]);
            self.recorded += HEAD + len;
        }
        Ok(bytes != 0)
    }

    /// Passes on the frames that were read, up to [`FRAMES`]. `deliver` returns false if the guest has no room.
    pub(crate) fn pass_on(&mut self, network: &Network, mut deliver: impl FnMut(&[u8]) -> bool) -> Passed {
        for _ in 0..FRAMES {
            // What is no frame was not recorded.
            let Ok(Some(len)) = frame(&self.bytes[self.held.start..self.recorded]) else {
                return Passed::All;
            };
            if !self.pass(len, network, &mut deliver) {
                return Passed::Full;
            }
            self.fate = None;
            self.held.start += HEAD + len;
        }
        Passed::Some
    }

    /// Passes the next frame on. Returns false if the guest has no room for it.
    fn pass(&mut self, len: usize, network: &Network, deliver: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        let Self { bytes, held, fate, late, .. } = self;
        let frame = &mut bytes[held.start + HEAD..][..len];
        // A frame that has to wait meets its fate once.
        let fate = *fate.get_or_insert_with(|| network.fate(false));
        FrameFault::meet(fate, frame, 0, late, |frame| deliver(frame))
    }
}

/// Returns the length of the frame at the beginning of these bytes, if all of it is there.
fn frame(bytes: &[u8]) -> Result<Option<usize>, Errno> {
    let Some((head, rest)) = bytes.split_first_chunk() else { return Ok(None) };
    let len = u32::from_be_bytes(*head) as usize;
    if len > LONGEST {
        return Err(Errno::MSGSIZE);
    }
    Ok((rest.len() >= len).then_some(len))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Seek as _};
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    /// Returns a network whose frames are recorded in the file, what takes frames in, and the other end.
    fn network(injector: Option<&'static Injector>) -> (Network, Inward, UnixStream, File) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let record = tempfile::tempfile().unwrap();
        let capture = Some(record.try_clone().unwrap());
        let (network, inward) = Network::new(File::from(OwnedFd::from(ours)), capture, injector).unwrap();
        (network, inward, theirs, record)
    }

    /// Makes a frame with its length before it.
    fn frame(len: usize, byte: u8) -> Vec<u8> {
        [&(len as u32).to_be_bytes()[..], &vec![byte; len]].concat()
    }

    /// Takes in what has come, for a guest with room for `room` frames.
    fn take(
        inward: &mut Inward,
        network: &Network,
        mut room: usize,
    ) -> (Result<Passed, Errno>, Vec<Vec<u8>>) {
        let mut taken = Vec::new();
        loop {
            let read = inward.read(network);
            let passed = inward.pass_on(network, |frame| {
                let fits = room > 0;
                if fits {
                    room -= 1;
                    taken.push(frame.to_vec());
                }
                fits
            });
            match read {
                Ok(true) if passed != Passed::Full => {}
                Ok(_) if passed == Passed::Some => {}
                read => return (read.map(|_| passed), taken),
            }
        }
    }

    /// Returns the frames in a record.
    fn recorded(record: &mut File) -> Vec<Vec<u8>> {
        let mut written = Vec::new();
        record.rewind().unwrap();
        record.read_to_end(&mut written).unwrap();
        let (mut rest, mut frames) = (&written[24..], Vec::new());
        while let Some((head, frame)) = rest.split_at_checked(16) {
            let len = u32::from_le_bytes(head[8..12].try_into().unwrap()) as usize;
            let (frame, after) = frame.split_at(len);
            frames.push(frame.to_vec());
            rest = after;
        }
        frames
    }

    #[test]
    fn frames_are_found_however_the_bytes_come() {
        let (network, mut inward, mut theirs, mut record) = network(None);
        let bytes = [frame(60, 1), frame(1514, 2), frame(0, 3), frame(LONGEST, 4)].concat();
        let mut all = Vec::new();
        for part in bytes.chunks(999) {
            theirs.write_all(part).unwrap();
            let (more, mut taken) = take(&mut inward, &network, 9);
            assert_eq!(more, Ok(Passed::All));
            all.append(&mut taken);
        }
        let lengths: Vec<_> = all.iter().map(Vec::len).collect();
        assert_eq!(lengths, [60, 1514, 0, LONGEST]);
        assert!(all[3].iter().all(|byte| *byte == 4));
        let mut written = Vec::new();
        record.rewind().unwrap();
        record.read_to_end(&mut written).unwrap();
        assert_eq!(written.len(), 24 + 4 * 16 + 60 + 1514 + LONGEST);
        assert_eq!(written[..4], [0xd4, 0xc3, 0xb2, 0xa1]);
        assert_eq!(written[24 + 8..24 + 16], [60, 0, 0, 0, 60, 0, 0, 0]);
    }

    #[test]
    fn what_the_guest_has_no_room_for_waits_and_comes_once() {
        let (network, mut inward, mut theirs, _) = network(None);
        theirs.write_all(&[frame(60, 1), frame(60, 2), frame(60, 3)].concat()).unwrap();
        assert_eq!(take(&mut inward, &network, 1), (Ok(Passed::Full), vec![vec![1; 60]]));
        assert_eq!(take(&mut inward, &network, 0), (Ok(Passed::Full), vec![]));
        assert_eq!(take(&mut inward, &network, 9), (Ok(Passed::All), vec![vec![2; 60], vec![3; 60]]));
    }

    #[test]
    fn frames_come_in_bounded_numbers_at_a_time() {
        let (network, mut inward, mut theirs, _) = self::network(None);
        theirs.write_all(&frame(60, 1).repeat(FRAMES + 1)).unwrap();
        assert_eq!(inward.read(&network), Ok(true));
        let mut frames = 0;
        let mut pass = || {
            let passed = inward.pass_on(&network, |_| {
                frames += 1;
                true
            });
            (passed, frames)
        };
        assert_eq!((pass(), pass()), ((Passed::Some, FRAMES), (Passed::All, FRAMES + 1)));
    }

    #[test]
    fn a_stream_that_is_broken_one_way_loses_what_waits_the_other_way() {
        let (network, mut inward, mut theirs, _) = self::network(None);
        let bell = Bell::new().unwrap();
        while matches!(send(&network, 7, &bell), Started::Done(Ok(()))) {}
        assert!(network.flush());
        theirs.write_all(&[0xff; 4]).unwrap();
        assert_eq!(inward.read(&network), Err(Errno::MSGSIZE));
        // The card is told, and has its frames lost.
        assert_eq!((network.flush(), network.is_waited_for()), (false, true));
        assert!(matches!(send(&network, 7, &bell), Started::Done(Err(Lost))));
    }

    #[test]
    fn a_length_that_is_none_and_the_end_are_errors() {
        let (network, mut inward, mut theirs, _) = self::network(None);
        theirs.write_all(&(LONGEST as u32 + 1).to_be_bytes()).unwrap();
        assert_eq!(take(&mut inward, &network, 9), (Err(Errno::MSGSIZE), vec![]));
        let (network, mut inward, theirs, _) = self::network(None);
        drop(theirs);
        assert_eq!(take(&mut inward, &network, 9), (Err(Errno::PIPE), vec![]));
    }

    #[test]
    fn injected_faults_befall_frames_on_their_way_in() {
        let with = |words: &str| {
            let plan = hv_partition::faults::Plan::parse(words, &|_, _| None).unwrap();
            let (network, mut inward, mut theirs, mut record) =
                network(Some(Box::leak(Box::new(Injector::new(plan)))));
            theirs.write_all(&[frame(60, 1), frame(60, 2)].concat()).unwrap();
            let (more, taken) = take(&mut inward, &network, 9);
            assert_eq!(more, Ok(Passed::All));
            assert_eq!(recorded(&mut record), [vec![1; 60], vec![2; 60]], "what came, and as it came");
            let changed = |frame: &Vec<u8>| frame[14..].iter().any(|byte| *byte != frame[0]);
            taken.iter().map(|frame| (frame[0], changed(frame))).collect::<Vec<_>>()
        };
        let same = |frames: &[u8]| frames.iter().map(|byte| (*byte, false)).collect::<Vec<_>>();
        assert_eq!(with("received=lost@1"), same(&[2]));
        assert_eq!(with("received=twice@1"), same(&[1, 1, 2]));
        assert_eq!(with("received=reorder@1"), same(&[2, 1]));
        assert_eq!(with("received=corrupt@1"), [(1, true), (2, false)]);
    }

    /// Sends a frame of 60 such bytes.
    fn send(network: &Network, byte: u8, bell: &Bell) -> Started<Result<(), Lost>> {
        let write = |into: &mut [u8]| {
            into[..60].fill(byte);
            Some(60)
        };
        network.send(write, bell)
    }

    #[test]
    fn a_card_waits_while_nothing_is_taken_and_is_told_once() {
        let (network, inward, mut theirs, _) = network(None);
        let bell = Bell::new().unwrap();
        let mut sent = 0;
        while matches!(send(&network, 7, &bell), Started::Done(Ok(()))) {
            sent += 1;
        }
        // The thread is woken, and finds that the socket has no room.
        inward.wait(&bell, false, false);
        bell.clear();
        assert!(network.flush() && sent * 64 > 64 << 10, "{sent} frames");
        let mut came = vec![0; sent * 64];
        let mut at = 0;
        while at < came.len() {
            at += theirs.read(&mut came[at..]).unwrap();
            network.flush();
        }
        assert!(came.chunks(64).all(|chunk| *chunk == frame(60, 7)));
        assert_eq!((network.flush(), network.is_waited_for(), network.is_waited_for()), (false, true, false));
        assert!(matches!(send(&network, 8, &bell), Started::Done(Ok(()))));
        assert!(matches!(network.send(|_| None, &bell), Started::Done(Err(Lost))));
        drop(theirs);
        send(&network, 9, &bell);
        assert!(matches!(send(&network, 9, &bell), Started::Done(Err(Lost))));
    }

    #[test]
    fn injected_faults_befall_frames_on_their_way_out() {
        let with = |words: &str| {
            let plan = hv_partition::faults::Plan::parse(words, &|_, _| None).unwrap();
            let (network, inward, mut theirs, _) = network(Some(Box::leak(Box::new(Injector::new(plan)))));
            let bell = Bell::new().unwrap();
            for byte in [1, 2] {
                assert!(matches!(send(&network, byte, &bell), Started::Done(Ok(()))));
            }
            drop((network, inward));
            let mut came = Vec::new();
            theirs.read_to_end(&mut came).unwrap();
            let changed = |frame: &[u8]| frame[14..].iter().any(|byte| *byte != frame[0]);
            came.chunks(64).map(|frame| (frame[4], changed(&frame[4..]))).collect::<Vec<_>>()
        };
        let same = |frames: &[u8]| frames.iter().map(|byte| (*byte, false)).collect::<Vec<_>>();
        assert_eq!(with("sent=lost@1"), same(&[2]));
        assert_eq!(with("sent=twice@1"), same(&[1, 1, 2]));
        assert_eq!(with("sent=reorder@1"), same(&[2, 1]));
        assert_eq!(with("sent=corrupt@1"), [(1, true), (2, false)]);
    }
}
