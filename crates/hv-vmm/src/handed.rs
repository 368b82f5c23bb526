//! Descriptors that the tool hands to the process of the machine: those of what has no path.
//!
//! They come in one message over the socket that is the process's standard input: a number that was inherited could be
//! made a descriptor by unsafe code alone.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

/// Number of descriptors at most.
const MOST: usize = 5;

/// The descriptors, if the machine has them.
#[derive(Debug, Default)]
pub struct Handed {
    /// Where what is typed on the guest's console comes from.
    pub typed: Option<OwnedFd>,
    /// The hypervisor's end of the control port.
    pub control: Option<OwnedFd>,
    /// Its end of the sockets' port.
    pub sockets: Option<OwnedFd>,
    /// Its end of passt's socket.
    pub network: Option<OwnedFd>,
    /// Where the network's frames are recorded.
    pub capture: Option<OwnedFd>,
}

impl Handed {
    fn all(self) -> [Option<OwnedFd>; MOST] {
        [self.typed, self.control, self.sockets, self.network, self.capture]
    }

    /// Returns what becomes the standard input of the process.
    ///
    /// # Errors
    /// That of the system.
    pub fn send(self) -> io::Result<OwnedFd> {
        let (ours, theirs) = UnixStream::pair()?;
        let all = self.all();
        let present = all.each_ref().map(|handed| u8::from(handed.is_some()));
        let handed: Vec<_> = all.iter().flatten().map(AsFd::as_fd).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        // The message has room for all of them, and there is none without one.
        let fits = handed.is_empty() || ancillary.push(SendAncillaryMessage::ScmRights(&handed));
        let sent = sendmsg(&ours, &[IoSlice::new(&present)], &mut ancillary, SendFlags::empty())?;
        if fits && sent == present.len() { Ok(theirs.into()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }
}

#[cfg(any(test, all(target_os = "linux", target_arch = "aarch64")))]
impl Handed {
    /// Receives them from standard input.
    ///
    /// # Errors
    /// That of the system, or there is no such message.
    pub(crate) fn receive(stdin: impl AsFd) -> io::Result<Self> {
        use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

        let mut present = [0; MOST];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = recvmsg(
            stdin,
            &mut [io::IoSliceMut::new(&mut present)],
            &mut ancillary,
            RecvFlags::CMSG_CLOEXEC | RecvFlags::WAITALL,
        )?;
        let rights = ancillary.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(rights) => Some(rights),
            _ => None,
        });
        let mut handed = rights.flatten();
        let mut next =
            |at: usize| if present[at] == 0 { Ok(None) } else { handed.next().map(Some).ok_or(()) };
        let mut all = || {
            Ok::<_, ()>(Self {
                typed: next(0)?,
                control: next(1)?,
                sockets: next(2)?,
                network: next(3)?,
                capture: next(4)?,
            })
        };
        match all() {
            Ok(all) if received.bytes == MOST => Ok(all),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read as _, Seek as _, Write as _};

    use super::*;

    /// Makes a file with a text.
    fn file(text: &str) -> OwnedFd {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file.rewind().unwrap();
        file.into()
    }

    fn text(handed: Option<OwnedFd>) -> Option<String> {
        let mut text = String::new();
        File::from(handed?).read_to_string(&mut text).unwrap();
        Some(text)
    }

    #[test]
    fn what_is_handed_over_arrives_at_its_place() {
        let handed =
            Handed { control: Some(file("control")), capture: Some(file("capture")), ..Handed::default() };
        let Handed { typed, control, sockets, network, capture } =
            Handed::receive(handed.send().unwrap()).unwrap();
        assert_eq!((text(control).as_deref(), text(capture).as_deref()), (Some("control"), Some("capture")));
        assert!(typed.is_none() && sockets.is_none() && network.is_none());
        let all = ["a", "b", "c", "d", "e"].map(|text| Some(file(text)));
        let [typed, control, sockets, network, capture] = all;
        let handed = Handed { typed, control, sockets, network, capture };
        let all = Handed::receive(handed.send().unwrap()).unwrap().all();
        assert_eq!(all.map(|handed| text(handed).unwrap()), ["a", "b", "c", "d", "e"]);
    }

    #[test]
    fn nothing_may_be_handed_over_and_no_message_is_an_error() {
        let none = Handed::receive(Handed::default().send().unwrap()).unwrap();
        assert!(none.all().iter().all(Option::is_none));
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(ours);
        assert_eq!(Handed::receive(&theirs).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        ours.write_all(&[1; MOST]).unwrap();
        drop(ours);
        assert_eq!(Handed::receive(&theirs).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
