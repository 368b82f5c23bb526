//! A service's message.

use hv_tlfs::vmbus::ic::{
    FLAG_RESPONSE, FLAG_TRANSACTION, HEADERS_SIZE, Header, MAX_VERSIONS, MessageType, Negotiate, PipeHeader,
    Status, Version,
};
use zerocopy::{FromBytes, IntoBytes};

/// A request of the host, which becomes its answer in place.
#[derive(Debug)]
pub struct Request<'m> {
    pipe: PipeHeader,
    header: Header,
    message: &'m mut [u8],
    status: Status,
    version: Option<Version>,
}

impl<'m> Request<'m> {
    /// Judges a packet's payload, read once: headers, and a body of the length that the header claims. `None`: it is no
    /// message of a service.
    pub(super) fn judge(message: &'m mut [u8]) -> Option<Self> {
        let (pipe, rest) = PipeHeader::read_from_prefix(message).ok()?;
        let (header, body) = Header::read_from_prefix(rest).ok()?;
        let fits = usize::from(header.message_size) <= body.len();
        // An answer needs no answer.
        let asked = header.flags & FLAG_RESPONSE == 0;
        (fits && asked).then_some(Self { pipe, header, message, status: Status::SUCCESS, version: None })
    }

    /// Notes the version of the service agreed on when the request arrived.
    pub(super) fn under(self, version: Option<Version>) -> Self {
        Self { version, ..self }
    }

    /// Returns the version of the service agreed on before this request, which may be in the same batch as the
    /// negotiation.
    #[must_use]
    pub const fn version(&self) -> Option<Version> {
        self.version
    }

    /// Returns the kind of request.
    #[must_use]
    pub fn message_type(&self) -> MessageType {
        self.header.message_type
    }

    /// Returns the body, of the length that the host gave.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        self.message.get(self.place()).unwrap_or(&[])
    }

    /// Returns the body, to be changed into the answer's.
    pub fn body_mut(&mut self) -> &mut [u8] {
        let place = self.place();
        self.message.get_mut(place).unwrap_or(&mut [])
    }

    fn place(&self) -> core::ops::Range<usize> {
        HEADERS_SIZE..HEADERS_SIZE + usize::from(self.header.message_size)
    }

    /// Answers with this status; [`Status::SUCCESS`] if nothing is said.
    pub fn set_status(&mut self, status: Status) {
        self.status = status;
    }

    pub(super) fn is_negotiation(&self) -> bool {
        self.header.message_type == MessageType::NEGOTIATE
    }

    /// Answers with the newest versions that both sides speak, and returns that of the service; counts of 0 if there is
    /// none.
    pub(super) fn negotiate(&mut self, framework: &[Version], service: &[Version]) -> Option<Version> {
        let chosen = self.choose(framework, service);
        let count = u16::from(chosen.is_some());
        let answer = Negotiate { framework_versions: count, message_versions: count, reserved: 0 };
        let none = Version { major: 0, minor: 0 };
        let (framework, service) = chosen.unwrap_or((none, none));
        // The host's list has room for it, or there is nothing to choose from.
        let versions = [framework, service];
        for (place, byte) in
            self.body_mut().iter_mut().zip(answer.as_bytes().iter().chain(versions.as_bytes()))
        {
            *place = *byte;
        }
        self.header.message_size = self.header.message_size.min(ANSWER);
        self.answer();
        chosen.map(|(_, service)| service)
    }

    fn choose(&self, framework: &[Version], service: &[Version]) -> Option<(Version, Version)> {
        let (head, list) = Negotiate::read_from_prefix(self.body()).ok()?;
        let counts = [head.framework_versions, head.message_versions].map(usize::from);
        if counts.iter().any(|count| *count > MAX_VERSIONS as usize) {
            return None;
        }
        // Lists that the message has no room for are none.
        let (frameworks, rest) = list.split_at_checked(counts[0] * size_of::<Version>())?;
        let services = rest.get(..counts[1] * size_of::<Version>())?;
        Some((newest(framework, frameworks)?, newest(service, services)?))
    }

    /// Turns the request into its answer.
    pub(super) fn answer(&mut self) {
        self.header.flags = FLAG_TRANSACTION | FLAG_RESPONSE;
        self.header.status = self.status;
        let headers = self.pipe.as_bytes().iter().chain(self.header.as_bytes());
        self.message.iter_mut().zip(headers).for_each(|(place, byte)| *place = *byte);
    }
}

/// Bytes of a negotiation's answer: two counts and two versions.
const ANSWER: u16 = (size_of::<Negotiate>() + 2 * size_of::<Version>()) as u16;

/// Returns the first of our versions that stands in the host's list.
fn newest(ours: &[Version], theirs: &[u8]) -> Option<Version> {
    let speaks =
        |version: &&Version| theirs.chunks_exact(size_of::<Version>()).any(|v| v == version.as_bytes());
    ours.iter().find(speaks).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    const OURS: [Version; 2] = [Version { major: 3, minor: 1 }, Version { major: 3, minor: 0 }];

    fn message(kind: u16, flags: u8, size: u16, body: &[u8]) -> Vec<u8> {
        let mut header = Header::read_from_bytes(&[0; 20]).unwrap();
        header.message_type = MessageType(kind);
        header.flags = flags;
        header.message_size = size;
        header.transaction_id = 9;
        let pipe = PipeHeader { packet_type: 1, message_size: 20 + body.len() as u32 };
        [pipe.as_bytes(), header.as_bytes(), body].concat()
    }

    fn versions(framework: &[(u16, u16)], service: &[(u16, u16)]) -> Vec<u8> {
        let counts = [framework.len() as u16, service.len() as u16, 0, 0];
        let list = framework.iter().chain(service).flat_map(|(major, minor)| [*major, *minor]);
        counts.into_iter().chain(list).flat_map(u16::to_le_bytes).collect()
    }

    #[test]
    fn the_newest_versions_of_both_are_chosen() {
        let framework = super::super::FRAMEWORK;
        for (theirs, chosen) in [
            (versions(&[(1, 0), (3, 0)], &[(1, 0), (3, 0), (3, 1)]), Some((3, 1))),
            (versions(&[(3, 0)], &[(3, 0)]), Some((3, 0))),
            (versions(&[(3, 0)], &[(4, 0)]), None),
            (versions(&[(9, 0)], &[(3, 0)]), None),
            (versions(&[], &[]), None),
        ] {
            let mut bytes = message(0, 3, theirs.len() as u16, &theirs);
            let mut request = Request::judge(&mut bytes).unwrap();
            let version = request.negotiate(framework, &OURS);
            assert_eq!(version.map(|v| (v.major, v.minor)), chosen);
            let answer = Header::read_from_bytes(&bytes[8..28]).unwrap();
            assert_eq!((answer.flags, answer.transaction_id), (5, 9));
            assert_eq!(usize::from(answer.message_size), theirs.len().min(16));
            assert_eq!(bytes[28..32], if chosen.is_some() { [1, 0, 1, 0] } else { [0; 4] });
        }
    }

    #[test]
    fn lists_that_lie_choose_nothing_and_messages_that_lie_are_none() {
        let good = versions(&[(3, 0)], &[(3, 0)]);
        for (at, value) in [(0, 2), (0, 101), (2, 2), (2, 0xffff), (0, 0xffff)] {
            let mut body = good.clone();
            body[at..at + 2].copy_from_slice(&u16::to_le_bytes(value));
            let mut bytes = message(0, 3, body.len() as u16, &body);
            let mut request = Request::judge(&mut bytes).unwrap();
            assert_eq!(request.negotiate(super::super::FRAMEWORK, &OURS), None, "{at} {value}");
        }
        assert!(Request::judge(&mut message(0, 3, 17, &good)).is_none(), "longer than the packet");
        assert!(Request::judge(&mut message(0, 5, 16, &good)).is_none(), "an answer");
        for len in 0..HEADERS_SIZE {
            let mut bytes = message(0, 3, 0, &[]);
            assert!(Request::judge(&mut bytes[..len]).is_none());
        }
        // A negotiation without a body.
        let mut bytes = message(0, 3, 0, &[]);
        assert_eq!(Request::judge(&mut bytes).unwrap().negotiate(&OURS, &OURS), None);
    }
}
