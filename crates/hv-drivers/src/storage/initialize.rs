//! The initialization: the versions that both know, and what the controller can do.
//!
//! Source: Linux 6.12, drivers/scsi/storvsc_drv.c, `storvsc_channel_init`.

use hv_guest::conduit::Conduit;
use hv_tlfs::vmbus::NtStatus;
use hv_tlfs::vmbus::storage::{
    FLAG_MULTI_CHANNEL, FLAG_REQUEST_COMPLETION, Operation, Packet, Properties, ProtocolVersion, VERSION_5_1,
    VERSION_6_0, VERSION_6_2,
};
use hv_vmbus_client::Dma;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::{Controller, Error, Tag, put};
use crate::aligned::Aligned;

/// Versions of the protocol, the newest first.
const VERSIONS: [u16; 3] = [VERSION_6_2, VERSION_6_0, VERSION_5_1];

/// Progress of the initialization.
pub(super) type State = crate::state::State<Step, Error>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Begin,
    Version(usize),
    Properties,
    End,
}

impl State {
    pub(super) const FIRST: Self = Self::Send(Step::Begin);
}

impl<D: Dma, C: Conduit, T, const DEPTH: usize> Controller<'_, D, C, T, DEPTH> {
    pub(super) fn send_step(&mut self, step: Step) -> Result<(), Error> {
        let mut aligned = Aligned(Packet::new_zeroed());
        let packet = &mut aligned.0;
        packet.header.flags = FLAG_REQUEST_COMPLETION;
        packet.header.operation = match step {
            Step::Begin => Operation::BEGIN_INITIALIZATION,
            Step::Version(n) => {
                let version = VERSIONS.get(n).copied().unwrap_or(0);
                put(packet, ProtocolVersion { version, revision: 0 }.as_bytes());
                Operation::QUERY_PROTOCOL_VERSION
            }
            Step::Properties => Operation::QUERY_PROPERTIES,
            Step::End => Operation::END_INITIALIZATION,
        };
        match self.queue.submit(Tag::Control, aligned.0.as_bytes(), None) {
            Ok(()) => self.state = State::Await(step),
            // The next poll sends it.
            Err(returned) if returned.error.may_retry() => {}
            Err(returned) => return Err(returned.error.into()),
        }
        Ok(())
    }

    pub(super) fn step_answered(&mut self, packet: &Packet, len: usize) {
        let State::Await(step) = self.state else { return };
        let status = packet.header.status;
        let answered =
            len >= size_of_val(&packet.header) && packet.header.operation == Operation::COMPLETE_IO;
        let good = answered && status == NtStatus::SUCCESS;
        self.state = match step {
            Step::Version(n) if answered && !good && n + 1 < VERSIONS.len() => {
                State::Send(Step::Version(n + 1))
            }
            Step::Version(_) if answered && !good => State::Failed(Error::NoVersion),
            _ if !good => State::Failed(Error::Initialization(status)),
            Step::Begin => State::Send(Step::Version(0)),
            Step::Version(n) => {
                self.version = VERSIONS.get(n).copied().unwrap_or(0);
                State::Send(Step::Properties)
            }
            Step::Properties => self.properties(packet),
            Step::End => State::Ready,
        };
    }

    fn properties(&mut self, packet: &Packet) -> State {
        let Ok((properties, _)) = Properties::read_from_prefix(&packet.body) else {
            return State::Failed(Error::Initialization(NtStatus::INVALID_PARAMETER));
        };
        // As Linux has it: whole pages. Less is of no use.
        self.max_transfer = properties.max_transfer_bytes & !0xfff;
        let multi = properties.flags & FLAG_MULTI_CHANNEL != 0;
        self.max_channels = if multi { properties.max_channels } else { 0 };
        if self.max_transfer == 0 {
            return State::Failed(Error::Initialization(NtStatus::INVALID_PARAMETER));
        }
        State::Send(Step::End)
    }
}
