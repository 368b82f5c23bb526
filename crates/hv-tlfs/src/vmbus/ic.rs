//! Integration components: the small services, each a pipe whose messages begin with a [`PipeHeader`] and a
//! [`Header`].
//!
//! The host starts with [`MessageType::NEGOTIATE`], and the guest sends the same packet back with one framework version
//! and one message version selected; a count of 0 means that none is supported. Every request is returned as its own
//! response: the guest changes the flags and some fields.

use zerocopy::little_endian::U64;

open_enum! {
    table MESSAGE_TYPE, from "Linux 6.12, include/linux/hyperv.h";
    names [TYPES];
    /// Kind of a service's message.
    pub struct MessageType(u16) = "icmsg_type";
}

constants! {
    table TYPES, kind "ic-message", from "Linux 6.12, include/linux/hyperv.h; OpenVMM, hyperv_ic_protocol", impl MessageType;

    /// Versions: [`Negotiate`].
    NEGOTIATE = 0, "ICMSGTYPE_NEGOTIATE";
    /// [`Heartbeat`].
    HEARTBEAT = 1, "ICMSGTYPE_HEARTBEAT";
    /// Key-value pairs.
    KVP_EXCHANGE = 2, "ICMSGTYPE_KVPEXCHANGE";
    /// [`Shutdown`].
    SHUTDOWN = 3, "ICMSGTYPE_SHUTDOWN";
    /// [`TimeSync`] or, from message version 4.0 on, [`TimeSyncRef`].
    TIME_SYNC = 4, "ICMSGTYPE_TIMESYNC";
    /// Shadow copies.
    VSS = 5, "ICMSGTYPE_VSS";
    /// Remote desktop.
    REMOTE_DESKTOP = 6, "ICMSGTYPE_RDV";
    /// File copy.
    FILE_COPY = 7, "ICMSGTYPE_FCOPY";
    /// Session of the virtual machine.
    VM_SESSION = 8, "ICMSGTYPE_VMSESSION";
}

constants! {
    table FLAGS, kind "ic-flag", from "Linux 6.12, include/linux/hyperv.h";

    /// In [`Header::flags`]: the message belongs to a pair of request and response.
    pub const FLAG_TRANSACTION: u8 = 1, "ICMSGHDRFLAG_TRANSACTION";
    /// It is the request.
    pub const FLAG_REQUEST: u8 = 2, "ICMSGHDRFLAG_REQUEST";
    /// It is the response.
    pub const FLAG_RESPONSE: u8 = 4, "ICMSGHDRFLAG_RESPONSE";
}

constants! {
    table LIMITS, kind "ic-limit", from "Linux 6.12, include/linux/hyperv.h; OpenVMM, vmbus_ring";

    /// Maximum number of versions of either kind in a [`Negotiate`].
    pub const MAX_VERSIONS: u32 = 100, "IC_VERSION_NEGOTIATION_MAX_VER_COUNT";
    /// Length of [`PipeHeader`] and [`Header`] together.
    pub const HEADERS_SIZE: usize = 28, "ICMSG_HDR";
    /// In [`PipeHeader::packet_type`]: data.
    pub const PIPE_PACKET_DATA: u32 = 1, "VMBUS_PIPE_PACKET_DATA";
}

open_enum! {
    table STATUS_TYPE, from "OpenVMM, hyperv_ic_protocol";
    names [STATUSES];
    /// Outcome of a service's request: an HRESULT.
    pub struct Status(u32) = "icmsg_status";
}

constants! {
    table STATUSES, kind "ic-status", from "Linux 6.12, include/uapi/linux/hyperv.h; OpenVMM, hyperv_ic_protocol", impl Status;

    /// Done.
    SUCCESS = 0, "HV_S_OK";
    /// Failed, or a message type that the guest does not know.
    FAIL = 0x8000_4005, "HV_E_FAIL";
    /// There are no more items.
    CONTINUE = 0x8007_0103, "HV_S_CONT";
    /// Not supported.
    NOT_SUPPORTED = 0x8007_0032, "HV_ERROR_NOT_SUPPORTED";
    /// The machine is locked.
    MACHINE_LOCKED = 0x8007_04f7, "HV_ERROR_MACHINE_LOCKED";
    /// The device is not connected.
    DEVICE_NOT_CONNECTED = 0x8007_048f, "HV_ERROR_DEVICE_NOT_CONNECTED";
    /// Invalid argument.
    INVALID_ARGUMENT = 0x8007_0057, "HV_INVALIDARG";
    /// GUIDs do not match.
    GUID_NOT_FOUND = 0x8004_1002, "HV_GUID_NOTFOUND";
    /// The object exists already.
    ALREADY_EXISTS = 0x8007_0050, "HV_ERROR_ALREADY_EXISTS";
    /// The disk is full.
    DISK_FULL = 0x8007_0070, "HV_ERROR_DISK_FULL";
}

constants! {
    table SHUTDOWN_FLAGS, kind "ic-flag", from "Linux 6.12, drivers/hv/hv_util.c; OpenVMM, hyperv_ic_protocol";

    /// In [`Shutdown::flags`]: without asking programs.
    pub const SHUTDOWN_FORCE: u32 = 1, "SD_FORCE";
    /// Restart; without it and the next: power off.
    pub const SHUTDOWN_RESTART: u32 = 2, "SD_RESTART";
    /// Hibernate.
    pub const SHUTDOWN_HIBERNATE: u32 = 4, "SD_HIBERNATE";
}

constants! {
    table TIMESYNC_FLAGS, kind "ic-flag", from "Linux 6.12, include/linux/hyperv.h";

    /// In [`TimeSync`] and [`TimeSyncRef`], neither of the next two flags: a probe, which leaves the clock as it is.
    pub const TIME_SYNC_PROBE: u8 = 0, "ICTIMESYNCFLAG_PROBE";
    /// Set the clock now.
    pub const TIME_SYNC_SYNC: u8 = 1, "ICTIMESYNCFLAG_SYNC";
    /// A sample, to be taken into account.
    pub const TIME_SYNC_SAMPLE: u8 = 2, "ICTIMESYNCFLAG_SAMPLE";
}

structs! {
    table STRUCTS, from "Linux 6.12, include/linux/hyperv.h; OpenVMM, hyperv_ic_protocol";

    /// The beginning of a pipe's packet.
    pub struct PipeHeader = "vmbuspipe_hdr" ["vmpipe_proto_header"], size 8 {
        /// [`PIPE_PACKET_DATA`].
        packet_type: u32 = 0 "flags",
        /// Length of the rest, in bytes.
        message_size: u32 = 4 "msgsize",
    }
    also {
        "pkt_type" @ 0, 4;
        "data_size" @ 4, 4;
    }

    /// A version of the framework or of a service.
    pub struct Version = "ic_version", size 4 {
        /// Number before the dot.
        major: u16 = 0,
        /// Number after the dot.
        minor: u16 = 2,
    }

    /// The header after the pipe's header.
    pub struct Header = "icmsg_hdr", size 20 {
        /// Negotiated version of the framework; zero during negotiation.
        framework_version: Version = 0 "icverframe",
        /// Kind.
        message_type: MessageType = 4 "icmsgtype",
        /// Negotiated version of the service; zero during negotiation.
        message_version: Version = 6 "icvermsg",
        /// Length of the rest, in bytes.
        message_size: u16 = 10 "icmsgsize",
        /// Outcome, in a response.
        status: Status = 12,
        /// Comes back in the response.
        transaction_id: u8 = 16 "ictransaction_id",
        /// Sum of the flags of this module.
        flags: u8 = 17 "icflags",
        /// Zero.
        reserved: [u8; 2] = 18,
    }

    /// NEGOTIATE: versions that the host offers. The framework versions, then the service versions follow.
    pub struct Negotiate = "icmsg_negotiate", size 8 {
        /// Number of framework versions that follow.
        framework_versions: u16 = 0 "icframe_vercnt",
        /// Number of service versions that follow them.
        message_versions: u16 = 2 "icmsg_vercnt",
        /// Zero.
        reserved: u32 = 4,
    }
    also {
        "icversion_data" @ 8, 0;
    }

    /// HEARTBEAT: the guest adds 1 to the number and sends the packet back.
    pub struct Heartbeat = "heartbeat_msg_data", size 40 {
        /// Sequence number.
        sequence: u64 = 0 "seq_num",
        /// Zero from guests; hosts define the first word as the state of the guest's applications (1: healthy).
        reserved: [u32; 8] = 8,
    }

    /// SHUTDOWN: power off, restart or hibernate.
    pub struct Shutdown = "shutdown_msg_data", size 2060 {
        /// Why.
        reason_code: u32 = 0,
        /// Seconds to wait.
        timeout_seconds: u32 = 4,
        /// Bit 0: by force; bit 1: restart; bit 2: hibernate.
        flags: u32 = 8,
        /// Text in UTF-16.
        display_message: [u8; 2048] = 12,
    }

    /// TIMESYNC before message version 4.0.
    pub struct TimeSync = "ictimesync_data", size 25 {
        /// The host's time: a [`FileTime`](crate::time::FileTime).
        parent_time: U64 = 0 "parenttime",
        /// The guest's time.
        child_time: U64 = 8 "childtime",
        /// Round trip, in 100 ns.
        round_trip_time: U64 = 16 "roundtriptime",
        /// One of the flags of this module.
        flags: u8 = 24,
    }

    /// TIMESYNC from message version 4.0 on.
    pub struct TimeSyncRef = "ictimesync_ref_data", size 22 {
        /// The host's time: a [`FileTime`](crate::time::FileTime).
        parent_time: U64 = 0 "parenttime",
        /// The partition's reference time at that moment.
        reference_time: U64 = 8 "vmreferencetime",
        /// One of the flags of this module.
        flags: u8 = 16,
        /// As in NTP.
        leap_flags: u8 = 17 "leapflags",
        /// As in NTP.
        stratum: u8 = 18,
        /// Zero.
        reserved: [u8; 3] = 19,
    }
}
