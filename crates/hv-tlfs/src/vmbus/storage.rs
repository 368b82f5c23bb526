//! Storage: the SCSI controller's channel.
//!
//! Every packet is a [`Packet`] of 64 bytes, in both directions; the host answers with the length that the guest sent.
//! The guest starts with [`Operation::BEGIN_INITIALIZATION`], [`Operation::QUERY_PROTOCOL_VERSION`],
//! [`Operation::QUERY_PROPERTIES`] and [`Operation::END_INITIALIZATION`], each answered by [`Operation::COMPLETE_IO`].
//! Requests follow: [`Operation::EXECUTE_SRB`] with a [`ScsiRequest`], whose data lies in the one range of the ring's
//! packet.

use super::NtStatus;

open_enum! {
    table OPERATION_TYPE, from "Linux 6.12, drivers/scsi/storvsc_drv.c";
    /// Operation of a packet.
    pub struct Operation(u32) = "vstor_packet_operation";
}

constants! {
    table OPERATIONS, kind "storage-operation", from "Linux 6.12, drivers/scsi/storvsc_drv.c; OpenVMM, storvsp_protocol", impl Operation;

    /// From the host: the answer to a packet.
    COMPLETE_IO = 1, "VSTOR_OPERATION_COMPLETE_IO";
    /// From the host: a device is gone.
    REMOVE_DEVICE = 2, "VSTOR_OPERATION_REMOVE_DEVICE";
    /// A SCSI command: [`ScsiRequest`].
    EXECUTE_SRB = 3, "VSTOR_OPERATION_EXECUTE_SRB";
    /// Reset of one logical unit.
    RESET_LUN = 4, "VSTOR_OPERATION_RESET_LUN";
    /// Reset of the adapter.
    RESET_ADAPTER = 5, "VSTOR_OPERATION_RESET_ADAPTER";
    /// Reset of the bus.
    RESET_BUS = 6, "VSTOR_OPERATION_RESET_BUS";
    /// The first packet.
    BEGIN_INITIALIZATION = 7, "VSTOR_OPERATION_BEGIN_INITIALIZATION";
    /// The last packet before requests.
    END_INITIALIZATION = 8, "VSTOR_OPERATION_END_INITIALIZATION";
    /// Queries support for a version: [`ProtocolVersion`].
    QUERY_PROTOCOL_VERSION = 9, "VSTOR_OPERATION_QUERY_PROTOCOL_VERSION";
    /// The controller's properties: [`Properties`].
    QUERY_PROPERTIES = 10, "VSTOR_OPERATION_QUERY_PROPERTIES";
    /// From the host: devices have come or gone.
    ENUMERATE_BUS = 11, "VSTOR_OPERATION_ENUMERATE_BUS";
    /// World wide names of a fibre channel adapter.
    FCHBA_DATA = 12, "VSTOR_OPERATION_FCHBA_DATA";
    /// Requests a number of sub-channels.
    CREATE_SUB_CHANNELS = 13, "VSTOR_OPERATION_CREATE_SUB_CHANNELS";
}

open_enum! {
    table SRB_STATUS_TYPE, from "Linux 6.12, drivers/scsi/storvsc_drv.c; Microsoft, srb.h";
    /// Status of a request, from the port driver's point of view. The two high bits are flags.
    pub struct SrbStatus(u8) = "srb_status";
}

constants! {
    table SRB_STATUSES, kind "srb-status", from "Linux 6.12, drivers/scsi/storvsc_drv.c; Microsoft, srb.h", impl SrbStatus;

    /// Pending.
    PENDING = 0x00, "SRB_STATUS_PENDING";
    /// Done.
    SUCCESS = 0x01, "SRB_STATUS_SUCCESS";
    /// Aborted.
    ABORTED = 0x02, "SRB_STATUS_ABORTED";
    /// Could not be aborted.
    ABORT_FAILED = 0x03, "SRB_STATUS_ABORT_FAILED";
    /// Failed: the SCSI status says more.
    ERROR = 0x04, "SRB_STATUS_ERROR";
    /// The unit is busy: the SCSI status says more.
    BUSY = 0x05, "SRB_STATUS_BUSY";
    /// The request is wrong.
    INVALID_REQUEST = 0x06, "SRB_STATUS_INVALID_REQUEST";
    /// No such bus.
    INVALID_PATH_ID = 0x07, "SRB_STATUS_INVALID_PATH_ID";
    /// The device does not answer.
    NO_DEVICE = 0x08, "SRB_STATUS_NO_DEVICE";
    /// Took too long.
    TIMEOUT = 0x09, "SRB_STATUS_TIMEOUT";
    /// The target could not be selected in time.
    SELECTION_TIMEOUT = 0x0a, "SRB_STATUS_SELECTION_TIMEOUT";
    /// The target took too long for the command.
    COMMAND_TIMEOUT = 0x0b, "SRB_STATUS_COMMAND_TIMEOUT";
    /// The bus was reset.
    BUS_RESET = 0x0e, "SRB_STATUS_BUS_RESET";
    /// The data was longer or shorter than the guest's buffer.
    DATA_OVERRUN = 0x12, "SRB_STATUS_DATA_OVERRUN";
    /// No such logical unit: Linux removes the device.
    INVALID_LUN = 0x20, "SRB_STATUS_INVALID_LUN";
    /// No such target.
    INVALID_TARGET_ID = 0x21, "SRB_STATUS_INVALID_TARGET_ID";
    /// The port driver has failed.
    INTERNAL_ERROR = 0x30, "SRB_STATUS_INTERNAL_ERROR";
}

constants! {
    table SRB_STATUS_FLAGS, kind "srb-status-flag", from "Linux 6.12, drivers/scsi/storvsc_drv.c; Microsoft, srb.h";

    /// In [`ScsiRequest::srb_status`]: the sense data is valid.
    pub const AUTOSENSE_VALID: u8 = 0x80, "SRB_STATUS_AUTOSENSE_VALID";
    /// The queue of the logical unit is frozen.
    pub const QUEUE_FROZEN: u8 = 0x40, "SRB_STATUS_QUEUE_FROZEN";
}

constants! {
    table DIRECTIONS, kind "storage-direction", from "Linux 6.12, drivers/scsi/storvsc_drv.c";

    /// In [`ScsiRequest::direction`]: to the disk.
    pub const DIRECTION_WRITE: u8 = 0, "WRITE_TYPE";
    /// From the disk.
    pub const DIRECTION_READ: u8 = 1, "READ_TYPE";
    /// No data.
    pub const DIRECTION_NONE: u8 = 2, "UNKNOWN_TYPE";
}

constants! {
    table FLAGS, kind "storage-flag", from "Linux 6.12, drivers/scsi/storvsc_drv.c";

    /// In [`PacketHeader::flags`]: a completion is requested.
    pub const FLAG_REQUEST_COMPLETION: u32 = 1, "REQUEST_COMPLETION_FLAG";
    /// In [`Properties::flags`]: the controller supports sub-channels.
    pub const FLAG_MULTI_CHANNEL: u32 = 1, "STORAGE_CHANNEL_SUPPORTS_MULTI_CHANNEL";
}

constants! {
    table VERSIONS, kind "storage-version", from "Linux 6.12, drivers/scsi/storvsc_drv.c";

    /// Windows 8.
    pub const VERSION_5_1: u16 = 0x0501, "VMSTOR_PROTO_VERSION_WIN8";
    /// Windows 8.1.
    pub const VERSION_6_0: u16 = 0x0600, "VMSTOR_PROTO_VERSION_WIN8_1";
    /// Windows 10.
    pub const VERSION_6_2: u16 = 0x0602, "VMSTOR_PROTO_VERSION_WIN10";
}

constants! {
    table LIMITS, kind "storage-limit", from "Linux 6.12, drivers/scsi/storvsc_drv.c";

    /// Bytes of a command or of sense in a [`ScsiRequest`].
    pub const CDB_OR_SENSE_SIZE: usize = 0x14, "STORVSC_MAX_BUF_LEN_WITH_PADDING";
    /// Bytes of a command in a [`ScsiRequest`].
    pub const CDB_SIZE: usize = 0x10, "STORVSC_MAX_CMD_LEN";
}

structs! {
    table STRUCTS, from "Linux 6.12, drivers/scsi/storvsc_drv.c; OpenVMM, storvsp_protocol";

    /// The beginning of every packet.
    pub struct PacketHeader = "vstor_packet_header", size 12 {
        /// The operation.
        operation: Operation = 0,
        /// [`FLAG_REQUEST_COMPLETION`].
        flags: u32 = 4,
        /// Outcome, in an answer.
        status: NtStatus = 8,
    }

    /// A packet.
    pub struct Packet = "vstor_packet", size 64 {
        /// The operation.
        header: PacketHeader = 0,
        /// Depends on the operation: [`ScsiRequest`], [`ProtocolVersion`], [`Properties`], or a number of sub-channels.
        body: [u8; 52] = 12,
    }

    /// QUERY_PROTOCOL_VERSION.
    pub struct ProtocolVersion = "vmstorage_protocol_version", size 4 {
        /// Major version in the high byte, minor version in the low.
        version: u16 = 0 "major_minor",
        /// Ignored.
        revision: u16 = 2,
    }

    /// Answer to QUERY_PROPERTIES.
    pub struct Properties = "vmstorage_channel_properties", size 24 {
        /// Zero.
        reserved: u32 = 0,
        /// Sub-channels that the guest may ask for.
        max_channels: u16 = 4 "max_channel_cnt",
        /// Zero.
        reserved1: u16 = 6,
        /// [`FLAG_MULTI_CHANNEL`].
        flags: u32 = 8,
        /// Bytes of one request at most.
        max_transfer_bytes: u32 = 12,
        /// Zero.
        reserved2: [u32; 2] = 16,
    }

    /// EXECUTE_SRB: a SCSI command, and the answer to it.
    pub struct ScsiRequest = "vmscsi_request", size 52 {
        /// Length of this structure.
        length: u16 = 0,
        /// Outcome, with [`AUTOSENSE_VALID`].
        srb_status: u8 = 2,
        /// The SCSI status.
        scsi_status: u8 = 3,
        /// Number of the adapter.
        port: u8 = 4 "port_number",
        /// Number of the bus.
        path: u8 = 5 "path_id",
        /// Target.
        target: u8 = 6 "target_id",
        /// Logical unit.
        lun: u8 = 7,
        /// Bytes of the command that count.
        cdb_length: u8 = 8,
        /// Bytes of sense, room or filled.
        sense_length: u8 = 9 "sense_info_length",
        /// Direction of the data.
        direction: u8 = 10 "data_in",
        /// Zero.
        reserved: u8 = 11,
        /// Bytes of data, requested or transferred.
        transfer_length: u32 = 12 "data_transfer_length",
        /// The command, or in an answer sense.
        cdb_or_sense: [u8; 20] = 16 "cdb",
        /// Zero.
        reserve: u16 = 36,
        /// Tag of the queue.
        queue_tag: u8 = 38,
        /// Kind of the tag.
        queue_action: u8 = 39,
        /// Flags of Windows' port drivers.
        srb_flags: u32 = 40,
        /// Seconds.
        timeout: u32 = 44 "time_out_value",
        /// Hint for the order of requests.
        queue_sort_key: u32 = 48 "queue_sort_ey",
    }
}
