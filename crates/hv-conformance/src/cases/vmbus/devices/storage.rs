//! Storage: the SCSI controller's own protocol.

use hv_tlfs::vmbus::storage::{
    AUTOSENSE_VALID, DIRECTION_NONE, DIRECTION_READ, Operation, Packet as Vstor, Properties, ProtocolVersion,
    ScsiRequest, SrbStatus, VERSION_5_1, VERSION_6_0, VERSION_6_2,
};
use hv_tlfs::vmbus::{PacketType, scsi};
use zerocopy::{FromZeros, IntoBytes};

use crate::cx::{Channel, Cx};
use crate::outcome::{Outcome, Stop, fail};

use super::super::on_scsi;

cases! {
    "vmbus_storage";
    "Linux 6.12, drivers/scsi/storvsc_drv.c", "storvsc_channel_init":
        the_first_packet_begins_the_initialization,
        an_answer_completes_the_operation,
        an_answer_is_as_long_as_its_request,
        a_version_of_linux_is_spoken,
        a_version_that_nobody_speaks_is_refused,
        a_refused_version_can_be_followed_by_another,
        a_controller_takes_a_page_at_least,
        a_controller_with_subchannels_says_so,
        the_last_packet_ends_the_initialization;
    "OpenVMM, storvsp", "lib.rs: process_packet":
        nothing_comes_before_the_first_packet,
        no_request_is_carried_out_before_the_last_packet,
        an_operation_that_nobody_knows_fails,
        a_failed_operation_changes_nothing,
        a_reopened_controller_begins_anew;
    "Linux 6.12, drivers/scsi/storvsc_drv.c", "storvsc_host_reset_handler":
        a_reset_of_the_bus_is_answered;
    "Linux 6.12, drivers/scsi/storvsc_drv.c", "storvsc_handle_error":
        a_request_to_an_absent_unit_says_so,
        a_request_with_a_page_that_is_no_memory_fails;
}

/// Returns a packet of this operation.
pub(in crate::cases::vmbus) fn vstor(operation: Operation) -> Vstor {
    let mut packet = Vstor::new_zeroed();
    packet.header.operation = operation;
    packet.header.flags = 1;
    packet
}

/// Returns the first packet of all.
pub(in crate::cases::vmbus) fn begin() -> Vstor {
    vstor(Operation::BEGIN_INITIALIZATION)
}

/// Sends a packet, and returns its answer.
fn exchange(channel: &Channel<'_, '_, '_>, packet: &Vstor) -> Result<Vstor, Stop> {
    channel.ask(0x1234, packet)?.get(0)
}

/// Sends a packet, and returns the status of its answer.
fn status(channel: &Channel<'_, '_, '_>, operation: Operation) -> Result<u32, Stop> {
    Ok(exchange(channel, &vstor(operation))?.header.status.0)
}

/// Asks for a version, and returns the status of the answer.
fn ask_version(channel: &Channel<'_, '_, '_>, version: u16) -> Result<u32, Stop> {
    let mut packet = vstor(Operation::QUERY_PROTOCOL_VERSION);
    let asked = ProtocolVersion { version, revision: 0 };
    packet.body[..4].copy_from_slice(asked.as_bytes());
    Ok(exchange(channel, &packet)?.header.status.0)
}

/// Agrees on a version that Linux speaks.
fn agree(channel: &Channel<'_, '_, '_>) -> Outcome {
    for version in [VERSION_6_2, VERSION_6_0, VERSION_5_1] {
        if ask_version(channel, version)? == 0 {
            return Ok(());
        }
    }
    Err(fail("the controller speaks 6.2, 6.0 or 5.1"))
}

/// Returns the controller's properties.
fn properties(channel: &Channel<'_, '_, '_>) -> Result<Properties, Stop> {
    let answer = channel.ask(0x1234, &vstor(Operation::QUERY_PROPERTIES))?;
    check_eq!(answer.get::<Vstor>(0)?.header.status.0, 0);
    answer.get(12)
}

/// Makes a controller ready for requests, and returns its properties.
pub(in crate::cases::vmbus) fn initialize(channel: &Channel<'_, '_, '_>) -> Result<Properties, Stop> {
    check_eq!(status(channel, Operation::BEGIN_INITIALIZATION)?, 0);
    agree(channel)?;
    let properties = properties(channel)?;
    check_eq!(status(channel, Operation::END_INITIALIZATION)?, 0);
    Ok(properties)
}

/// A request to a logical unit of target 0, and where its data are.
pub(in crate::cases::vmbus) struct Request<'r> {
    pub(in crate::cases::vmbus) lun: u8,
    pub(in crate::cases::vmbus) cdb: &'r [u8],
    /// Offset of the data in the first page, and their length; none if 0.
    pub(in crate::cases::vmbus) offset: u32,
    pub(in crate::cases::vmbus) len: u32,
    pub(in crate::cases::vmbus) pages: &'r [u64],
}

/// Carries out a request, and returns the answer.
pub(in crate::cases::vmbus) fn execute(
    channel: &Channel<'_, '_, '_>,
    request: &Request<'_>,
) -> Result<ScsiRequest, Stop> {
    let mut srb = ScsiRequest::new_zeroed();
    srb.length = size_of::<ScsiRequest>() as u16;
    srb.lun = request.lun;
    srb.cdb_length = request.cdb.len() as u8;
    srb.sense_length = 20;
    srb.direction = if request.len == 0 { DIRECTION_NONE } else { DIRECTION_READ };
    srb.transfer_length = request.len;
    srb.timeout = 60;
    srb.cdb_or_sense[..request.cdb.len()].copy_from_slice(request.cdb);
    let mut packet = vstor(Operation::EXECUTE_SRB);
    packet.body.copy_from_slice(srb.as_bytes());
    if request.len == 0 {
        channel.put_in_band(0x77, true, &packet)?;
    } else {
        let mut front = [0u64; 6];
        front[0] = 1 << 32;
        front[1] = u64::from(request.offset) << 32 | u64::from(request.len);
        front[2..2 + request.pages.len()].copy_from_slice(request.pages);
        let front = &front[..2 + request.pages.len()];
        let kind = PacketType::DATA_USING_GPA_DIRECT;
        channel.put((kind, 1, 0x77), front.as_bytes(), packet.as_bytes())?;
    }
    channel.signalled()?;
    let answer = channel.completion(0x77)?;
    check_eq!(answer.get::<Vstor>(0)?.header.operation.0, Operation::COMPLETE_IO.0);
    answer.get(12)
}

/// Makes a request whose data, if any, fill a page from its start, and returns the answer and the page.
pub(in crate::cases::vmbus) fn request(
    channel: &Channel<'_, '_, '_>,
    lun: u8,
    cdb: &[u8],
    len: u32,
) -> Result<(ScsiRequest, u64), Stop> {
    let page = channel.bus.cx.page()?;
    let pages = [page / 4096];
    Ok((execute(channel, &Request { lun, cdb, offset: 0, len, pages: &pages })?, page))
}

/// Makes an inquiry, which a controller answers whether the unit exists or not.
pub(in crate::cases::vmbus) fn inquire(
    channel: &Channel<'_, '_, '_>,
    lun: u8,
) -> Result<(ScsiRequest, u64), Stop> {
    request(channel, lun, &[scsi::OP_INQUIRY, 0, 0, 0, 36, 0], 36)
}

fn the_first_packet_begins_the_initialization(cx: &Cx<'_>) -> Outcome {
    on_scsi(cx, |channel| {
        check_eq!(status(channel, Operation::BEGIN_INITIALIZATION)?, 0);
        Ok(())
    })
}

fn an_answer_completes_the_operation(cx: &Cx<'_>) -> Outcome {
    on_scsi(cx, |channel| {
        check_eq!(exchange(channel, &begin())?.header.operation.0, Operation::COMPLETE_IO.0);
        Ok(())
    })
}

fn an_answer_is_as_long_as_its_request(cx: &Cx<'_>) -> Outcome {
    on_scsi(cx, |channel| {
        let answer = channel.ask(1, &begin())?;
        check_eq!(answer.len - answer.data_offset, 64);
        Ok(())
    })
}

fn a_version_of_linux_is_spoken(cx: &Cx<'_>) -> Outcome {
    on_scsi(cx, |channel| {
        check_eq!(status(channel, Operation::BEGIN_INITIALIZATION)?, 0);
        agree(channel)
    })
}

fn a_version_that_nobody_speaks_is_refused(cx: &Cx<'_>) -> Outcome {
    on_scsi(cx, |channel| {
        check_eq!(status(channel, Operation::BEGIN_INITIALIZATION)?, 0);
        check!(ask_version(channel, 0x7f00)? != 0);
        Ok(())
    })
}

fn a_refused_version_can_be_followed_by_another(cx: &Cx<'_>) -> Outcome {
    on_scsi(cx, |channel| {
        check_eq!(status(channel, Operation::BEGIN_INITIALIZATION)?, 0);
        check!(ask_version(channel, 0x7f00)? != 0);
        agree(channel)?;
        properties(channel)?;
        Ok(())
    })
}

fn a_controller_takes_a_page_at_least(cx: &Cx<'_>) -> Outcome {
    on_scsi(cx, |channel| {
        check!(initialize(channel)?.max_transfer_bytes >= 4096);
        Ok(())
    })
}

fn a_controller_with_subchannels_says_so(cx: &Cx<'_>) -> Outcome {
    on_scsi(cx, |channel| {
        let properties = initialize(channel)?;
        check!(properties.max_channels == 0 || properties.flags & 1 == 1);
        Ok(())
    })
}

fn the_last_packet_ends_the_initialization(cx: &Cx<'_>) -> Outcome {
    on_scsi(cx, |channel| {
        initialize(channel)?;
        inquire(channel, 0)?;
        Ok(())
    })
}

fn nothing_comes_before_the_first_packet(cx: &Cx<'_>) -> Outcome {
    on_scsi(cx, |channel| {
        check!(ask_version(channel, VERSION_6_0)? != 0);
        check!(status(channel, Operation::QUERY_PROPERTIES)? != 0);
        check!(status(channel, Operation::END_INITIALIZATION)? != 0);
        Ok(())
    })
}

fn no_request_is_carried_out_before_the_last_packet(cx: &Cx<'_>) -> Outcome {
    on_scsi(cx, |channel| {
        check_eq!(status(channel, Operation::BEGIN_INITIALIZATION)?, 0);
        check!(status(channel, Operation::EXECUTE_SRB)? != 0);
        Ok(())
    })
}

fn an_operation_that_nobody_knows_fails(cx: &Cx<'_>) -> Outcome {
    on_scsi(cx, |channel| {
        initialize(channel)?;
        for operation in [0, 2, 99, u32::MAX] {
            check!(status(channel, Operation(operation))? != 0);
        }
        Ok(())
    })
}

fn a_failed_operation_changes_nothing(cx: &Cx<'_>) -> Outcome {
    on_scsi(cx, |channel| {
        initialize(channel)?;
        check!(status(channel, Operation(99))? != 0);
        check_eq!(inquire(channel, 0)?.0.srb_status, SrbStatus::SUCCESS.0);
        Ok(())
    })
}

fn a_reopened_controller_begins_anew(cx: &Cx<'_>) -> Outcome {
    on_scsi(cx, |channel| {
        initialize(channel)?;
        let bus = channel.bus;
        bus.close(channel.id)?;
        check_eq!(bus.ask_to_open(&channel.request(bus.opening().target_vp))?.0, 0);
        check!(status(channel, Operation::END_INITIALIZATION)? != 0);
        initialize(channel)?;
        Ok(())
    })
}

fn a_reset_of_the_bus_is_answered(cx: &Cx<'_>) -> Outcome {
    on_scsi(cx, |channel| {
        initialize(channel)?;
        check_eq!(status(channel, Operation::RESET_BUS)?, 0);
        Ok(())
    })
}

fn a_request_to_an_absent_unit_says_so(cx: &Cx<'_>) -> Outcome {
    on_scsi(cx, |channel| {
        initialize(channel)?;
        let (answer, _) = request(channel, 63, &[scsi::OP_TEST_UNIT_READY, 0, 0, 0, 0, 0], 0)?;
        check_eq!(answer.srb_status & !AUTOSENSE_VALID, SrbStatus::INVALID_LUN.0);
        Ok(())
    })
}

fn a_request_with_a_page_that_is_no_memory_fails(cx: &Cx<'_>) -> Outcome {
    on_scsi(cx, |channel| {
        initialize(channel)?;
        let cdb = [scsi::OP_INQUIRY, 0, 0, 0, 36, 0];
        let request = Request { lun: 0, cdb: &cdb, offset: 0, len: 36, pages: &[0xff_ffff_ffff] };
        check!(execute(channel, &request)?.srb_status & 0x3f != SrbStatus::SUCCESS.0);
        inquire(channel, 0)?;
        Ok(())
    })
}
