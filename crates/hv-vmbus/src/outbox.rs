//! Answers pending for the guest.

use crate::image;
use crate::optional::Optional;
use crate::protocol::{
    ChannelId, ConnectionState, FeatureFlags, GpadlCreated, GpadlId, GpadlTorndown, Guid, MessageHeader,
    MessageType, ModifyChannelResponse, NtStatus, OpenResult, TlConnectResult, Version, VersionResponse,
    VersionResponseFeatures,
};
use hv_tlfs::synic::MESSAGE_PAYLOAD_SIZE;
use zerocopy::IntoBytes;

/// An answer in compact form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pending {
    Contact(ContactAnswer),
    GpadlCreated(ChannelId, GpadlId, NtStatus),
    GpadlTorndown(GpadlId),
    OpenResult(ChannelId, u32, NtStatus),
    ModifyResponse(ChannelId, NtStatus),
    ConnectResult(Guid, Guid, NtStatus),
    UnloadResponse,
}

/// A VERSION_RESPONSE and its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ContactAnswer {
    pub(crate) vp: u32,
    pub(crate) sint: u8,
    /// The requested version, if the host supports it.
    pub(crate) version: Option<Version>,
    pub(crate) state: ConnectionState,
    pub(crate) features: FeatureFlags,
    pub(crate) message_connection: u32,
}

impl ContactAnswer {
    fn message(&self) -> VersionResponseFeatures {
        let mut answer = VersionResponseFeatures {
            response: VersionResponse {
                header: MessageHeader::new(MessageType::VERSION_RESPONSE),
                supported: 0,
                connection_state: ConnectionState::SUCCESSFUL,
                padding: 0,
                message_connection: 0,
            },
            features: FeatureFlags(0),
        };
        if let Some(version) = self.version {
            answer.response.supported = 1;
            answer.response.connection_state = self.state;
            answer.response.message_connection =
                if version >= Version::V5_0 { self.message_connection } else { version.0 };
            answer.features = self.features;
        }
        answer
    }
}

/// A message as bytes.
#[derive(Clone, Copy)]
pub(crate) struct Encoded {
    bytes: [u8; MESSAGE_PAYLOAD_SIZE],
    len: usize,
}

impl Encoded {
    pub(crate) fn new<T: IntoBytes + zerocopy::Immutable>(message: &T) -> Self {
        Self::from_slice(message.as_bytes())
    }

    fn from_slice(from: &[u8]) -> Self {
        let mut bytes = [0; MESSAGE_PAYLOAD_SIZE];
        let len = from.len().min(bytes.len());
        bytes[..len].copy_from_slice(&from[..len]);
        Self { bytes, len }
    }

    pub(crate) fn header(message: MessageType) -> Self {
        Self::new(&MessageHeader::new(message))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Pending {
    /// Returns the message.
    pub(crate) fn encode(&self) -> Encoded {
        match *self {
            Self::Contact(answer) => {
                let message = answer.message();
                if answer.version.is_some_and(|v| v >= Version::V6_0) {
                    Encoded::new(&message)
                } else {
                    Encoded::new(&message.response)
                }
            }
            Self::GpadlCreated(channel, gpadl, status) => Encoded::new(&GpadlCreated {
                header: MessageHeader::new(MessageType::GPADL_CREATED),
                channel,
                gpadl,
                status,
            }),
            Self::GpadlTorndown(gpadl) => Encoded::new(&GpadlTorndown {
                header: MessageHeader::new(MessageType::GPADL_TORNDOWN),
                gpadl,
            }),
            Self::OpenResult(channel, open_id, status) => Encoded::new(&OpenResult {
                header: MessageHeader::new(MessageType::OPEN_RESULT),
                channel,
                open_id,
                status,
            }),
            Self::ModifyResponse(channel, status) => Encoded::new(&ModifyChannelResponse {
                header: MessageHeader::new(MessageType::MODIFY_CHANNEL_RESPONSE),
                channel,
                status,
            }),
            Self::ConnectResult(endpoint, service, status) => Encoded::new(&TlConnectResult {
                header: MessageHeader::new(MessageType::TL_CONNECT_RESULT),
                endpoint,
                service,
                status,
            }),
            Self::UnloadResponse => Encoded::header(MessageType::UNLOAD_RESPONSE),
        }
    }

    /// Returns the kind of message.
    pub(crate) fn kind(&self) -> MessageType {
        match self {
            Self::Contact(_) => MessageType::VERSION_RESPONSE,
            Self::GpadlCreated(..) => MessageType::GPADL_CREATED,
            Self::GpadlTorndown(_) => MessageType::GPADL_TORNDOWN,
            Self::OpenResult(..) => MessageType::OPEN_RESULT,
            Self::ModifyResponse(..) => MessageType::MODIFY_CHANNEL_RESPONSE,
            Self::ConnectResult(..) => MessageType::TL_CONNECT_RESULT,
            Self::UnloadResponse => MessageType::UNLOAD_RESPONSE,
        }
    }
}

/// A short queue of pending answers, in order.
#[derive(Clone, Debug)]
pub(crate) struct Outbox {
    slots: [Optional<Pending>; Self::CAPACITY],
    first: usize,
    len: usize,
}

impl Outbox {
    pub(crate) const CAPACITY: usize = 32;

    pub(crate) const fn new() -> Self {
        Self { slots: [Optional::None; Self::CAPACITY], first: 0, len: 0 }
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::new();
    }

    pub(crate) fn room(&self) -> usize {
        Self::CAPACITY - self.len
    }

    /// Appends an answer; returns false if there is no room.
    pub(crate) fn push(&mut self, message: Pending) -> bool {
        if self.room() == 0 {
            return false;
        }
        let at = (self.first + self.len) % Self::CAPACITY;
        self.slots[at] = Optional::Some(message);
        self.len += 1;
        true
    }

    /// Returns the pending answers, oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Pending> {
        (0..self.len).filter_map(|i| self.slots[(self.first + i) % Self::CAPACITY].as_ref())
    }

    pub(crate) fn front(&self) -> Option<Pending> {
        self.slots[self.first].get()
    }

    pub(crate) fn pop(&mut self) {
        if self.len > 0 {
            self.slots[self.first] = Optional::None;
            self.first = (self.first + 1) % Self::CAPACITY;
            self.len -= 1;
        }
    }
}

image::variants!(Pending, "message" {
    0 => Contact(answer),
    1 => GpadlCreated(channel, gpadl, status),
    2 => GpadlTorndown(gpadl),
    3 => OpenResult(channel, open_id, status),
    4 => ModifyResponse(channel, status),
    5 => ConnectResult(endpoint, service, status),
    6 => UnloadResponse,
});
image::fields!(ContactAnswer { vp, sint, version, state, features, message_connection });
