//! The keyboard: keystrokes, as scan codes of set 1.
//!
//! Source: Linux 6.12, drivers/input/serio/hyperv-keyboard.c.

use core::fmt;

use hv_guest::conduit::Conduit;
use hv_tlfs::vmbus::PacketType;
use hv_tlfs::vmbus::keyboard::{
    ACCEPTED, KeyboardHeader, Keystroke, MessageType, PREFIX_E0, PREFIX_E1, ProtocolRequest,
    ProtocolResponse, RELEASED, UNICODE, VERSION,
};
use hv_vmbus_client::ring::Outgoing;
use hv_vmbus_client::{Channel, Dma, FLOOD};
use zerocopy::{FromBytes, IntoBytes};

/// Reason why a keyboard does not work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The channel failed.
    Client(hv_vmbus_client::Error),
    /// The host does not speak version 1.0.
    NoVersion,
}

channel_error!(Error);

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(error) => error.fmt(f),
            Self::NoVersion => f.write_str("host does not speak keyboard version 1.0"),
        }
    }
}

/// A key that was pressed or released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its make code in set 1; or a UTF-16 unit.
    pub code: u16,
    /// It was released.
    pub released: bool,
    /// The prefix 0xe0 or 0xe1 that belongs before the code, or 0.
    pub prefix: u8,
    /// The code is a UTF-16 unit.
    pub is_unicode: bool,
}

/// Progress of the keyboard's initialization.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The version has to be proposed.
    Start,
    /// The host has to answer.
    Proposed,
    Ready,
    Refused,
}

/// A keyboard. It owns its channel: [`into_channel`](Self::into_channel) gives it back, to be closed.
#[derive(Debug)]
pub struct Keyboard<'t, D: Dma, C> {
    channel: Channel<'t, D, C>,
    state: State,
    ignored: u64,
}

impl<'t, D: Dma, C: Conduit> Keyboard<'t, D, C> {
    /// Begins with a channel that was just opened.
    pub const fn new(channel: Channel<'t, D, C>) -> Self {
        Self { channel, state: State::Start, ignored: 0 }
    }

    /// Returns true once the host has accepted the version: keys arrive.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.state == State::Ready
    }

    /// Returns the number of packets that were not messages of a keyboard.
    #[must_use]
    pub const fn ignored(&self) -> u64 {
        self.ignored
    }

    /// Returns whether the host has rescinded the keyboard: no more keys arrive, and its channel is to be closed.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.channel.is_over()
    }

    /// Returns the channel, to be closed.
    pub fn into_channel(self) -> Channel<'t, D, C> {
        self.channel
    }

    /// Proposes the version if that was not done yet, and returns the next key; `None` if there is none now. Call it
    /// until then: the room in the ring goes back to the host with the last call of a batch.
    ///
    /// # Errors
    ///
    /// [`Error`]: close the channel.
    pub fn poll(&mut self) -> Result<Option<Key>, Error> {
        if self.state == State::Start {
            let header = KeyboardHeader { message_type: MessageType::PROTOCOL_REQUEST };
            let request = ProtocolRequest { header, version: VERSION };
            // Linux asks for a completion, which tells nothing that the answer does not.
            let packet = Outgoing::in_band(1, request.as_bytes()).with_completion();
            match self.channel.send(&packet) {
                Ok(()) | Err(hv_vmbus_client::Error::Post(_)) => self.state = State::Proposed,
                Err(error) if error.may_retry() => {}
                Err(error) => return Err(error.into()),
            }
        }
        for _ in 0..FLOOD {
            let Some(mut packet) = self.channel.receive()? else {
                return if self.state == State::Refused { Err(Error::NoVersion) } else { Ok(None) };
            };
            if packet.kind() == PacketType::COMPLETION {
                continue;
            }
            let mut bytes = [0; size_of::<Keystroke>()];
            let len = packet.read(&mut bytes);
            let message = bytes.get(..len).unwrap_or(&[]);
            match judge(self.state, message) {
                Judged::Key(key) => return Ok(Some(key)),
                Judged::State(state) => self.state = state,
                Judged::Nothing => self.ignored += 1,
            }
        }
        Err(hv_vmbus_client::Error::Flood.into())
    }
}

/// What a message means.
#[derive(Debug, PartialEq, Eq)]
enum Judged {
    Key(Key),
    State(State),
    Nothing,
}

/// Judges a message, which was read once.
fn judge(state: State, message: &[u8]) -> Judged {
    let kind = KeyboardHeader::read_from_prefix(message).map(|(header, _)| header.message_type);
    match (state, kind) {
        (State::Proposed, Ok(MessageType::PROTOCOL_RESPONSE)) => {
            match ProtocolResponse::read_from_prefix(message) {
                Ok((answer, _)) if answer.status & ACCEPTED != 0 => Judged::State(State::Ready),
                Ok(_) => Judged::State(State::Refused),
                Err(_) => Judged::Nothing,
            }
        }
        (State::Ready, Ok(MessageType::EVENT)) => match Keystroke::read_from_prefix(message) {
            Ok((key, _)) => Judged::Key(Key {
                code: key.make_code,
                released: key.flags & RELEASED != 0,
                prefix: match key.flags {
                    flags if flags & PREFIX_E0 != 0 => 0xe0,
                    flags if flags & PREFIX_E1 != 0 => 0xe1,
                    _ => 0,
                },
                is_unicode: key.flags & UNICODE != 0,
            }),
            Err(_) => Judged::Nothing,
        },
        _ => Judged::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn messages_count_in_their_turn_and_in_full() {
        use State::{Proposed, Ready, Refused, Start};
        assert_eq!(judge(Proposed, &words(&[2, 1])), Judged::State(Ready));
        assert_eq!(judge(Proposed, &words(&[2, 0])), Judged::State(Refused));
        for (state, message) in [
            (Start, words(&[2, 1])),
            (Ready, words(&[2, 0])),
            (Proposed, words(&[3, 30, 0])),
            (Refused, words(&[3, 30, 0])),
            (Proposed, words(&[2])),
            (Ready, words(&[3, 30])),
            (Ready, words(&[4, 30, 0])),
            (Ready, Vec::new()),
            (Ready, [3, 0, 0].to_vec()),
        ] {
            assert_eq!(judge(state, &message), Judged::Nothing, "{state:?} {message:?}");
        }
        for (flags, released, prefix, is_unicode) in [
            (0, false, 0, false),
            (2, true, 0, false),
            (4, false, 0xe0, false),
            (10, true, 0xe1, false),
            (1, false, 0, true),
        ] {
            let key = Key { code: 0x1e, released, prefix, is_unicode };
            assert_eq!(judge(Ready, &words(&[3, 0x1e, flags])), Judged::Key(key));
        }
    }
}
