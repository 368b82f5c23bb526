//! The initialization: version, buffers, and the objects of the card that the guest needs.
//!
//! Sources: Linux 6.12, drivers/net/hyperv: `netvsc_connect_vsp`, `rndis_filter_device_add`, `rndis_filter_open`.

use hv_guest::conduit::Conduit;
use hv_tlfs::vmbus::ndis::{FILTER_ALL_MULTICAST, FILTER_BROADCAST, FILTER_DIRECTED, Oid};
use hv_tlfs::vmbus::nvsp::{
    Capabilities, Init, InitComplete, MessageHeader, MessageType, NdisConfig, NdisVersion, RECEIVE_BUFFER_ID,
    SEND_BUFFER_ID, SendReceiveBuffer, SendReceiveBufferComplete, SendSendBuffer, SendSendBufferComplete,
    Status, Version,
};
use hv_tlfs::vmbus::rndis::{
    IndicateStatus, InitializeComplete, InitializeRequest, MAJOR_VERSION, MINOR_VERSION,
    MessageHeader as RndisHeader, MessageType as RndisType, QueryComplete, QueryRequest, SetComplete,
    SetRequest, Status as RndisStatus,
};
use hv_vmbus_client::{Buffer, Direction, Dma};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::message::{self, FRAME_AT, HEADER};
use super::{Card, Checksums, Error, SENDS, Tag, control_packet, packet};

/// Versions of the protocol, the newest first.
const VERSIONS: [Version; 6] =
    [Version::V61, Version::V6, Version::V5, Version::V4, Version::V2, Version::V1];
/// What Linux announces as its longest message.
const MAX_TRANSFER: u32 = 0x4000;
/// Least MTU of a network (RFC 791, "Total Length").
const LEAST_MTU: u32 = 68;
/// Frames that the guest receives: to its address, and to more than one.
const FILTER: u32 = FILTER_DIRECTED | FILTER_BROADCAST | FILTER_ALL_MULTICAST;

/// Progress of the initialization.
pub(super) type State = crate::state::State<Step, Error>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Version(usize),
    Config,
    StackVersion,
    ReceiveBuffer,
    SendBuffer,
    Initialize,
    MaxFrame,
    Address,
    Capabilities,
    Offloads,
    Link,
    Filter,
}

impl State {
    pub(super) const FIRST: Self = Self::Send(Step::Version(0));
}

/// Reads an answer of NVSP of this type.
fn answer<T: FromBytes>(kind: MessageType, payload: &[u8]) -> Result<T, Error> {
    let (header, body) = MessageHeader::read_from_prefix(payload).map_err(|_| Error::Malformed)?;
    let (value, _) = T::read_from_prefix(body).map_err(|_| Error::Malformed)?;
    if header.message_type == kind { Ok(value) } else { Err(Error::Malformed) }
}

fn successful(status: Status) -> Result<(), Error> {
    if status == Status::SUCCESS { Ok(()) } else { Err(Error::Refused(status)) }
}

fn rndis_successful(status: RndisStatus) -> Result<(), Error> {
    if status == RndisStatus::SUCCESS { Ok(()) } else { Err(Error::Rndis(status)) }
}

/// Returns the address of one station: not all zeros, and no group's (IEEE 802, "I/G bit"). Linux takes no other
/// either (include/linux/etherdevice.h, `is_valid_ether_addr`), and a stack may panic at one.
fn station(mac: [u8; 6]) -> Result<[u8; 6], Error> {
    if mac == [0; 6] || mac[0] & 1 != 0 { Err(Error::Address(mac)) } else { Ok(mac) }
}

impl<D: Dma, C: Conduit> Card<'_, D, C> {
    /// Sends the packets that are next, up to one that the host answers, or that has to wait for room.
    // Seldom: not part of what each packet passes through.
    #[inline(never)]
    pub(super) fn send_steps(&mut self) -> Result<(), Error> {
        while let State::Send(step) = self.state {
            self.send_step(step)?;
            if self.state == State::Send(step) {
                break;
            }
        }
        Ok(())
    }

    /// Sends the packet of a step, unless it has to wait for room, or for the memory of control messages.
    fn send_step(&mut self, step: Step) -> Result<(), Error> {
        match step {
            Step::Version(n) => {
                let version = VERSIONS.get(n).copied().unwrap_or(Version::INVALID);
                let init = Init { version, version2: version };
                self.ask(step, MessageType::INIT, &init)
            }
            Step::Config => {
                let mtu = self.longest() as u32;
                let config = NdisConfig { mtu, reserved: 0, capabilities: Capabilities(0) };
                self.say(Step::StackVersion, MessageType::SEND_NDIS_CONFIG, &config)
            }
            Step::StackVersion => {
                let minor = if self.version >= Version::V5 { 30 } else { 1 };
                let version = NdisVersion { major: 6, minor };
                self.say(Step::ReceiveBuffer, MessageType::SEND_NDIS_VERSION, &version)
            }
            Step::ReceiveBuffer => {
                let gpadl = self.buffers.receive.id();
                let request = SendReceiveBuffer { gpadl, id: RECEIVE_BUFFER_ID, reserved: 0 };
                self.ask(step, MessageType::SEND_RECEIVE_BUFFER, &request)
            }
            Step::SendBuffer => {
                let gpadl = self.buffers.send.id();
                let request = SendSendBuffer { gpadl, id: SEND_BUFFER_ID, reserved: 0 };
                self.ask(step, MessageType::SEND_SEND_BUFFER, &request)
            }
            Step::Initialize => {
                self.request(step, RndisType::INITIALIZE, &[], |request_id| InitializeRequest {
                    request_id,
                    major_version: MAJOR_VERSION,
                    minor_version: MINOR_VERSION,
                    max_transfer_size: MAX_TRANSFER,
                })
            }
            Step::MaxFrame => self.query(step, Oid::GEN_MAXIMUM_FRAME_SIZE),
            Step::Address => self.query(step, Oid::ETHERNET_PERMANENT_ADDRESS),
            Step::Capabilities => {
                let (question, len) = Checksums::question(self.version);
                let info = question.as_bytes().get(..len).unwrap_or_default();
                self.query_with(step, Oid::TCP_OFFLOAD_HARDWARE_CAPABILITIES, info)
            }
            Step::Offloads => {
                let (parameters, len) = self.checksums.parameters(self.version);
                let info = parameters.as_bytes().get(..len).unwrap_or_default();
                self.set(step, Oid::TCP_OFFLOAD_PARAMETERS, info)
            }
            Step::Link => self.query(step, Oid::GEN_MEDIA_CONNECT_STATUS),
            Step::Filter => self.set(step, Oid::GEN_CURRENT_PACKET_FILTER, &FILTER.to_le_bytes()),
        }
    }

    /// Sends a packet that the host answers with its completion.
    fn ask(
        &mut self,
        step: Step,
        kind: MessageType,
        body: &(impl IntoBytes + Immutable),
    ) -> Result<(), Error> {
        match self.queue.submit(Tag::Step(step), &packet(kind, body).0, None) {
            Ok(()) => self.state = State::Await(step),
            // The next poll sends it.
            Err(returned) if returned.error.may_retry() => {}
            Err(returned) => return Err(returned.error.into()),
        }
        Ok(())
    }

    /// Sends a packet that the host does not answer.
    fn say(
        &mut self,
        next: Step,
        kind: MessageType,
        body: &(impl IntoBytes + Immutable),
    ) -> Result<(), Error> {
        match self.queue.send(&packet(kind, body).0) {
            Ok(()) | Err(hv_vmbus_client::Error::Post(_)) => self.state = State::Send(next),
            Err(error) if error.may_retry() => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn query(&mut self, step: Step, oid: Oid) -> Result<(), Error> {
        self.query_with(step, oid, &[])
    }

    /// Asks for an object, with one that says which revision is wanted.
    fn query_with(&mut self, step: Step, oid: Oid, info: &[u8]) -> Result<(), Error> {
        self.request(step, RndisType::QUERY, info, |request_id| QueryRequest {
            request_id,
            oid,
            information_length: info.len() as u32,
            information_offset: if info.is_empty() { 0 } else { size_of::<QueryRequest>() as u32 },
            device_vc_handle: 0,
        })
    }

    fn set(&mut self, step: Step, oid: Oid, info: &[u8]) -> Result<(), Error> {
        self.request(step, RndisType::SET, info, |request_id| SetRequest {
            request_id,
            oid,
            information_length: info.len() as u32,
            information_offset: size_of::<SetRequest>() as u32,
            device_vc_handle: 0,
        })
    }

    /// Sends a request of RNDIS, whose answer is a message, if the memory for it is not in flight.
    fn request<T: IntoBytes + Immutable>(
        &mut self,
        step: Step,
        kind: RndisType,
        info: &[u8],
        body: impl FnOnce(u32) -> T,
    ) -> Result<(), Error> {
        let id = self.request.wrapping_add(1);
        if self.control(kind, body(id).as_bytes(), info)? {
            self.request = id;
            self.state = State::Await(step);
        }
        Ok(())
    }

    /// Sends a control message. Returns false if there is no room, or its memory is in flight.
    pub(super) fn control(&mut self, kind: RndisType, body: &[u8], info: &[u8]) -> Result<bool, Error> {
        let Some(pages) = self.control.take() else { return Ok(false) };
        let len = (HEADER + body.len() + info.len()) as u32;
        let header = RndisHeader { message_type: kind, length: len };
        pages.write(0, header.as_bytes());
        pages.write(HEADER, body);
        pages.write(HEADER + body.len(), info);
        let data = Some(Buffer { pages, offset: 0, len });
        // The answer comes as a message of its own.
        match self.queue.submit_directed(Tag::Control, &control_packet().0, data, Direction::ToHost) {
            Ok(()) => Ok(true),
            Err(returned) => {
                let (_, data) = returned.value;
                self.control = data.map(|data| data.pages);
                if returned.error.may_retry() { Ok(false) } else { Err(returned.error.into()) }
            }
        }
    }

    /// Continues with the next step, or fails permanently.
    fn advance_to(&mut self, next: Result<State, Error>) {
        self.state = next.unwrap_or_else(State::Failed);
    }

    /// Handles the host's completion of the packet of a step.
    #[inline(never)]
    pub(super) fn step_completed(&mut self, step: Step, payload: &[u8]) {
        if self.state != State::Await(step) {
            return;
        }
        let next = match step {
            Step::Version(n) => self.version_answered(n, payload),
            Step::ReceiveBuffer => self.receive_buffer_taken(payload),
            Step::SendBuffer => self.send_buffer_taken(payload),
            // The others are not answered by a completion.
            _ => return,
        };
        self.advance_to(next);
    }

    fn version_answered(&mut self, n: usize, payload: &[u8]) -> Result<State, Error> {
        let init: InitComplete = answer(MessageType::INIT_COMPLETE, payload)?;
        let (Some(version), true) = (VERSIONS.get(n), init.status == Status::SUCCESS) else {
            let older = n + 1;
            return if older < VERSIONS.len() {
                Ok(State::Send(Step::Version(older)))
            } else {
                Err(Error::NoVersion)
            };
        };
        self.version = *version;
        // Version 1 has no message for the configuration.
        Ok(State::Send(if *version >= Version::V2 { Step::Config } else { Step::StackVersion }))
    }

    /// Handles the completion of the receive buffer; like Linux, accepts no other layout than one section list at the
    /// buffer's beginning.
    fn receive_buffer_taken(&mut self, payload: &[u8]) -> Result<State, Error> {
        let taken: SendReceiveBufferComplete = answer(MessageType::SEND_RECEIVE_BUFFER_COMPLETE, payload)?;
        successful(taken.status)?;
        self.lent = true;
        let one = taken.num_sections == 1 && taken.section.offset == 0;
        if one { Ok(State::Send(Step::SendBuffer)) } else { Err(Error::Malformed) }
    }

    fn send_buffer_taken(&mut self, payload: &[u8]) -> Result<State, Error> {
        let taken: SendSendBufferComplete = answer(MessageType::SEND_SEND_BUFFER_COMPLETE, payload)?;
        successful(taken.status)?;
        let size = taken.section_size;
        let bytes = self.buffers.send.pages().len() * hv_tlfs::page::SIZE;
        let sections = bytes.checked_div(size as usize).unwrap_or(0).min(SENDS);
        if sections == 0 || (size as usize) < FRAME_AT + self.longest() {
            return Err(Error::Section(size));
        }
        (self.section, self.free) = (size, (1 << sections) - 1);
        Ok(State::Send(Step::Initialize))
    }

    /// Handles the host's refusal of a control message.
    pub(super) fn control_failed(&mut self, error: Error) {
        if matches!(self.state, State::Send(_) | State::Await(_)) {
            self.state = State::Failed(error);
        }
    }

    /// Takes a message that is not a frame: an answer, or a change of the link. Others need no answer.
    pub(super) fn control_message(&mut self, kind: RndisType, body: &[u8]) {
        if kind == RndisType::INDICATE_STATUS {
            if let Ok((status, _)) = IndicateStatus::read_from_prefix(body) {
                self.indicated(status.status);
            }
            return;
        }
        let State::Await(step) = self.state else { return };
        let next = match step {
            Step::Initialize => {
                self.reply(kind, RndisType::INITIALIZE_COMPLETE, body, |answer: &InitializeComplete| {
                    (answer.request_id, answer.status)
                })
            }
            Step::MaxFrame | Step::Address | Step::Capabilities | Step::Link => {
                self.reply(kind, RndisType::QUERY_COMPLETE, body, |answer: &QueryComplete| {
                    (answer.request_id, answer.status)
                })
            }
            Step::Offloads | Step::Filter => {
                self.reply(kind, RndisType::SET_COMPLETE, body, |answer: &SetComplete| {
                    (answer.request_id, answer.status)
                })
            }
            _ => return,
        };
        // The answer to another request, or none.
        let Some((_, status)) = next else { return };
        let next = self.answered(step, status, body);
        self.advance_to(next);
    }

    /// Reads the answer to the request in flight.
    fn reply<T: FromBytes>(
        &self,
        kind: RndisType,
        expected: RndisType,
        body: &[u8],
        read: impl FnOnce(&T) -> (u32, RndisStatus),
    ) -> Option<(u32, RndisStatus)> {
        let (answer, _) = T::read_from_prefix(body).ok()?;
        Some(read(&answer)).filter(|(id, _)| kind == expected && *id == self.request)
    }

    /// Takes the answer to a step.
    fn answered(&mut self, step: Step, status: RndisStatus, body: &[u8]) -> Result<State, Error> {
        let value = match QueryComplete::read_from_prefix(body) {
            Ok((answer, _)) if status == RndisStatus::SUCCESS => message::information(body, &answer),
            _ => None,
        };
        let word = value.and_then(|value| u32::read_from_prefix(value).ok()).map(|(word, _)| word);
        match step {
            Step::Initialize => {
                rndis_successful(status)?;
                Ok(State::Send(Step::MaxFrame))
            }
            Step::MaxFrame => {
                // A card that does not tell it has what was configured.
                let most = word.filter(|most| (LEAST_MTU..u32::from(self.mtu)).contains(most));
                self.mtu = most.map_or(self.mtu, |most| most as u16);
                Ok(State::Send(Step::Address))
            }
            Step::Address => {
                rndis_successful(status)?;
                self.mac = station(*value.and_then(<[u8]>::first_chunk).ok_or(Error::Malformed)?)?;
                let asks = self.checksums != Checksums::NONE;
                Ok(State::Send(if asks { Step::Capabilities } else { Step::Link }))
            }
            Step::Capabilities => {
                // A card that does not tell computes nothing.
                self.capabilities_answered(value.unwrap_or_default());
                let granted = self.checksums != Checksums::NONE;
                Ok(State::Send(if granted { Step::Offloads } else { Step::Link }))
            }
            Step::Offloads => {
                if status != RndisStatus::SUCCESS {
                    self.checksums = Checksums::NONE;
                }
                Ok(State::Send(Step::Link))
            }
            Step::Link => {
                self.up = word.unwrap_or(0) == 0;
                Ok(State::Send(Step::Filter))
            }
            _ => {
                rndis_successful(status)?;
                Ok(State::Ready)
            }
        }
    }

    fn indicated(&mut self, status: RndisStatus) {
        match status {
            RndisStatus::MEDIA_CONNECT => self.up = true,
            RndisStatus::MEDIA_DISCONNECT => self.up = false,
            RndisStatus::NETWORK_CHANGE => {}
            _ => return,
        }
        self.changed = true;
    }
}
