//! Hypercalls on registers, messages, events and VPs.

use hv_tlfs::register::{
    GetVpRegistersInput, RegisterName, RegisterValue, SetVpRegistersElement, SetVpRegistersInput,
};
use hv_tlfs::start_vp::StartVpInput;
use hv_tlfs::status::HvStatus;
use hv_tlfs::synic::{
    MESSAGE_PAYLOAD_SIZE, MESSAGE_SIZE, Message, MessageType, PostMessageInput, SignalEventInput,
};
use hv_tlfs::vp::{InputVtl, PARTITION_ID_SELF, PartitionId, VpIndex};
use zerocopy::{FromBytes, FromZeros as _, Immutable, IntoBytes, KnownLayout};

use lock_api::RawMutex;

use crate::connections::Connections;
use crate::event::Event;
use crate::frame::{CallFrame, Outcome, refused};
use crate::general::Registers;
use crate::host::{Host, VpContext};
use crate::partition::Partition;
use crate::port::{MAX_PORTS, Port, PortTarget};
use crate::queue::Source;

/// Size of a register name in a Get's list.
const NAME: usize = size_of::<RegisterName>();
/// Elements of a Get that are read, and written, at a time. To read the counter costs nearly as much as most registers
/// do, and the others wait for a lock that is held for short times: so the time budget is looked at after as many.
const PART: usize = 32;
/// Size of an element in a Set's list.
const ASSOCIATION: usize = size_of::<SetVpRegistersElement>();
/// Size of a value in a Get's output.
const VALUE: usize = size_of::<RegisterValue>();

/// Input header of HvCallGetVpIndexFromApicId (TLFS).
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct VpIndexInput {
    partition_id: PartitionId,
    target_vtl: InputVtl,
    padding: [u8; 7],
}

/// Affinity fields of MPIDR_EL1.
const AFFINITY: u64 = 0xff_00ff_ffff;

impl<R: RawMutex> Partition<'_, R> {
    fn check_partition(&self, id: PartitionId) -> Result<(), HvStatus> {
        if id.0 == PARTITION_ID_SELF || id.0 == self.config().partition_id {
            Ok(())
        } else {
            Err(HvStatus::INVALID_PARTITION_ID)
        }
    }

    /// Checks that a call names VTL 0: no other exists.
    pub(crate) fn check_vtl(vtl: InputVtl) -> Result<(), HvStatus> {
        if vtl.reserved() != 0 {
            return Err(HvStatus::INVALID_PARAMETER);
        }
        if vtl.use_target_vtl() && vtl.target_vtl() != 0 {
            return Err(HvStatus::ACCESS_DENIED);
        }
        Ok(())
    }

    /// Returns the VP that an index refers to.
    fn find_vp(&self, caller: usize, index: VpIndex) -> Result<usize, HvStatus> {
        if index == VpIndex::SELF {
            return Ok(caller);
        }
        let vp = index.0 as usize;
        if vp < self.vp_count() { Ok(vp) } else { Err(HvStatus::INVALID_VP_INDEX) }
    }

    fn check_header(&self, caller: usize, header: &GetVpRegistersInput) -> Result<usize, HvStatus> {
        self.check_partition(header.partition_id)?;
        Self::check_vtl(header.input_vtl)?;
        if header.reserved != [0; 3] {
            return Err(HvStatus::INVALID_PARAMETER);
        }
        self.find_vp(caller, header.vp_index)
    }

    // Out of line: its loop needs the registers that the common call path uses.
    #[inline(never)]
    pub(crate) fn get_registers<H: Host, X: Registers>(&self, frame: &mut CallFrame<'_, H, X>) -> Outcome {
        let header = frame.read::<GetVpRegistersInput>(0).and_then(|h| self.check_header(frame.vp, &h));
        let target = match header {
            Ok(target) => target,
            Err(status) => return refused(frame, status),
        };
        let (mut names, mut values) = ([RegisterName(0); PART], [[0; 2]; PART]);
        self.each_part(frame, PART as u16, |frame, range| {
            let names = &mut names[..range.len()];
            if let Err(status) = frame.read_bytes(frame.list + range.start * NAME, names.as_mut_bytes()) {
                return (0, Err(status));
            }
            let (mut done, mut result) = (0, Ok(()));
            for (&mut name, place) in names.iter_mut().zip(&mut values) {
                let value = self.get_register(frame.host, target, name).map(|value| [value.low, value.high]);
                frame.host.observe(&Event::RegisterGet { vp: frame.vp, target, name, value });
                match value {
                    Ok(value) => *place = value,
                    Err(status) => {
                        result = Err(status);
                        break;
                    }
                }
                done += 1;
            }
            match frame.write_words(range.start * VALUE, values[..done].as_bytes()) {
                Ok(()) => (done, result),
                Err(status) => (0, Err(status)),
            }
        })
    }

    /// Sets registers. Only a VP's own can be written: the SynIC and timers of a running VP belong to that VP alone,
    /// and no shipping host allows it.
    pub(crate) fn set_registers<H: Host + Connections, X: Registers>(
        &self,
        frame: &mut CallFrame<'_, H, X>,
    ) -> Outcome {
        let header = frame.read::<SetVpRegistersInput>(0).and_then(|h| {
            let SetVpRegistersInput { partition_id, vp_index, input_vtl, reserved } = h;
            self.check_header(frame.vp, &GetVpRegistersInput { partition_id, vp_index, input_vtl, reserved })
        });
        let target = match header {
            Ok(target) if target == frame.vp => target,
            Ok(_) => return refused(frame, HvStatus::INVALID_PARAMETER),
            Err(status) => return refused(frame, status),
        };
        self.each(frame, |frame, index| {
            let element: SetVpRegistersElement = frame.read(frame.list + index * ASSOCIATION)?;
            let SetVpRegistersElement { name, reserved1, reserved2, value } = element;
            let set = if reserved1 == 0 && reserved2 == 0 {
                self.set_register(frame.host, target, name, value)
            } else {
                Err(HvStatus::INVALID_PARAMETER)
            };
            frame.host.observe(&Event::RegisterSet {
                vp: frame.vp,
                target,
                name,
                value: [value.low, value.high],
                status: set.err().unwrap_or(HvStatus::SUCCESS),
            });
            set
        })
    }

    pub(crate) fn post_message_call<H: Host + Connections, X: Registers>(
        &self,
        frame: &mut CallFrame<'_, H, X>,
    ) -> Result<(), HvStatus> {
        const HEAD: usize = MESSAGE_SIZE - MESSAGE_PAYLOAD_SIZE;
        const _: () = assert!(core::mem::offset_of!(PostMessageInput, payload) == HEAD);
        let [connection, reserved, message_type, size] = frame.read::<[u32; 4]>(0)?;
        let mut message = Message::new_zeroed();
        message.header.message_type = MessageType(message_type);
        let size_is_good = size as usize <= MESSAGE_PAYLOAD_SIZE;
        if size_is_good {
            message.header.payload_size = size as u8;
            frame.read_bytes(HEAD, &mut message.payload[..size as usize])?;
        }
        let type_is_good = message_type != 0 && !message.header.message_type.is_hypervisor();
        let result = if !size_is_good || !type_is_good || reserved != 0 {
            Err(HvStatus::INVALID_PARAMETER)
        } else {
            match self.find_port(connection) {
                Ok((index, port)) => self.post_to_port(frame.host, index, port, &mut message),
                Err(HvStatus::INVALID_CONNECTION_ID) => {
                    let payload = &message.payload[..size as usize];
                    frame.host.post_message(frame.vp, connection, MessageType(message_type), payload)
                }
                Err(status) => Err(status),
            }
        };
        frame.host.observe(&Event::MessagePosted {
            vp: frame.vp,
            connection,
            message_type,
            payload: if size_is_good { &message.payload[..size as usize] } else { &[] },
            status: result.err().unwrap_or(HvStatus::SUCCESS),
        });
        result
    }

    fn post_to_port(
        &self,
        host: &impl Host,
        index: u8,
        port: &Port,
        message: &mut Message,
    ) -> Result<(), HvStatus> {
        let PortTarget::Message { vp, sint } = port.target else {
            return Err(HvStatus::INVALID_PORT_ID);
        };
        message.header.sender = u64::from(port.id);
        let vp = match vp {
            Some(vp) => vp,
            None => self.any_vp(|synic| synic.control.enable() && synic.message_page.enabled())?,
        };
        let target = self.vps().get(vp).ok_or(HvStatus::INVALID_VP_INDEX)?;
        target.synic().post(&self.context(host, vp), sint, Source::Port(index), message)
    }

    // Inlined: where the call is known, its input is a register of the guest's.
    #[inline(always)]
    pub(crate) fn signal_event_call<H: Host + Connections, X: Registers>(
        &self,
        frame: &mut CallFrame<'_, H, X>,
    ) -> Result<(), HvStatus> {
        let input = frame.read(0)?;
        self.signal_connection(frame.host, frame.vp, input)
    }

    #[inline(never)]
    fn signal_connection(
        &self,
        host: &(impl Host + Connections),
        vp: usize,
        input: SignalEventInput,
    ) -> Result<(), HvStatus> {
        let SignalEventInput { connection_id, flag_number: flag, reserved } = input;
        let connection = connection_id.0;
        let result = if reserved != 0 {
            Err(HvStatus::INVALID_PARAMETER)
        } else {
            match self.find_port(connection) {
                Ok((_, port)) => self.signal_to_port(host, port, flag),
                Err(HvStatus::INVALID_CONNECTION_ID) => host.signal_event(vp, connection, flag),
                Err(status) => Err(status),
            }
        };
        host.observe(&Event::EventSignalled {
            vp,
            connection,
            flag,
            status: result.err().unwrap_or(HvStatus::SUCCESS),
        });
        result
    }

    fn signal_to_port(&self, host: &impl Host, port: &Port, flag: u16) -> Result<(), HvStatus> {
        let PortTarget::Event { vp, sint, base, count } = port.target else {
            return Err(HvStatus::INVALID_PORT_ID);
        };
        if flag >= count {
            return Err(HvStatus::INVALID_PARAMETER);
        }
        let flag = base.checked_add(flag).ok_or(HvStatus::INVALID_PARAMETER)?;
        let vp = match vp {
            Some(vp) => vp,
            None => self.any_vp(|synic| synic.control.enable() && synic.event_page.enabled())?,
        };
        self.signal_event(host, vp, sint, flag).map(|_| ())
    }

    fn find_port(&self, connection: u32) -> Result<(u8, &Port), HvStatus> {
        let ports = if self.may_be_port(connection) { self.ports() } else { &[] };
        let found = ports.iter().enumerate().find(|(_, port)| port.connection == connection);
        let (index, port) = found.ok_or(HvStatus::INVALID_CONNECTION_ID)?;
        let index = u8::try_from(index).ok().filter(|&index| index < MAX_PORTS);
        let index = index.ok_or(HvStatus::INVALID_CONNECTION_ID)?;
        if port.target == PortTarget::Deleted { Err(HvStatus::INVALID_PORT_ID) } else { Ok((index, port)) }
    }

    /// Returns the first VP that can be a target, for a port that names none.
    ///
    /// Looks at each VP in turn, so it takes as many locks as there are VPs at most, each VP's own once and never two
    /// at a time: the price grows with the machine, and not with what the guest does.
    fn any_vp(&self, can: impl Fn(&crate::synic::Synic) -> bool) -> Result<usize, HvStatus> {
        self.vps().iter().position(|vp| can(&vp.synic())).ok_or(HvStatus::INVALID_VP_INDEX)
    }

    pub(crate) fn start_vp_call<H: Host, X: Registers>(
        &self,
        frame: &mut CallFrame<'_, H, X>,
    ) -> Result<(), HvStatus> {
        let StartVpInput { partition_id, vp_index, target_vtl, reserved, context } = frame.read(0)?;
        self.check_partition(partition_id)?;
        let target = self.find_vp(frame.vp, vp_index)?;
        if reserved != [0; 3] {
            return Err(HvStatus::INVALID_PARAMETER);
        }
        if target_vtl != 0 {
            return Err(HvStatus::INVALID_VTL_STATE);
        }
        if context.pc % 4 != 0 {
            return Err(HvStatus::INVALID_REGISTER_VALUE);
        }
        let context = VpContext {
            pc: context.pc,
            x0: 0,
            x18: context.x18,
            sp: context.sp_elh,
            sctlr: context.sctlr_el1,
            mair: context.mair_el1,
            tcr: context.tcr_el1,
            vbar: context.vbar_el1,
            ttbr0: context.ttbr0_el1,
            ttbr1: context.ttbr1_el1,
        };
        self.start_vp(frame.host, frame.vp, target, &context).map_err(|_| HvStatus::INVALID_VP_STATE)
    }

    pub(crate) fn vp_index_from_mpidr<H: Host, X: Registers>(
        &self,
        frame: &mut CallFrame<'_, H, X>,
    ) -> Outcome {
        let header = frame.read::<VpIndexInput>(0).and_then(|header| {
            self.check_partition(header.partition_id)?;
            Self::check_vtl(header.target_vtl)
        });
        if let Err(status) = header {
            return refused(frame, status);
        }
        self.each(frame, |frame, index| {
            let mpidr: u64 = frame.read(frame.list + index * 8)?;
            // A guest passes MPIDR_EL1 as it reads it, including bits that are not affinity.
            let vp = self.config().vp_with_mpidr(mpidr & AFFINITY).filter(|&vp| vp < self.vp_count());
            let vp = vp.ok_or(HvStatus::INVALID_PARAMETER)?;
            // The padding is written as zero, which the TLFS allows.
            frame.write(index * 8, &(vp as u64))
        })
    }
}
