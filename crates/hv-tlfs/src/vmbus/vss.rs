//! Shadow copies: the service by which a host has the guest's file systems hold still while it copies the disks.

open_enum! {
    table OPERATION_TYPE, from "Linux 6.12, include/uapi/linux/hyperv.h";
    names [OPERATIONS];
    /// What is asked.
    pub struct Operation(u8) = "hv_vss_op";
}

constants! {
    table OPERATIONS, kind "vss-operation", from "Linux 6.12, include/uapi/linux/hyperv.h", impl Operation;

    /// Not used with Linux.
    CREATE = 0, "VSS_OP_CREATE";
    /// Not used with Linux.
    DELETE = 1, "VSS_OP_DELETE";
    /// May the machine be copied while it runs? The guest answers with [`Message::flags`].
    HOT_BACKUP = 2, "VSS_OP_HOT_BACKUP";
    /// What the guest knows of its disks.
    GET_DM_INFO = 3, "VSS_OP_GET_DM_INFO";
    /// The copy is complete.
    BACKUP_COMPLETE = 4, "VSS_OP_BU_COMPLETE";
    /// File systems hold still, from version 5.0 on.
    FREEZE = 5, "VSS_OP_FREEZE";
    /// They continue.
    THAW = 6, "VSS_OP_THAW";
    /// The copy is made fit for use.
    AUTO_RECOVER = 7, "VSS_OP_AUTO_RECOVER";
}

constants! {
    table FLAGS, kind "vss-flag", from "Linux 6.12, include/uapi/linux/hyperv.h";

    /// In [`Message::flags`]: the guest needs no recovery of the copy.
    pub const NO_AUTO_RECOVERY: u32 = 5, "VSS_HBU_NO_AUTO_RECOVERY";
}

structs! {
    table STRUCTS, from "Linux 6.12, include/uapi/linux/hyperv.h";

    /// The beginning of a request.
    pub struct Header = "hv_vss_hdr", size 8 {
        /// What is asked.
        operation: Operation = 0,
        /// Zero.
        reserved: [u8; 7] = 1,
    }

    /// A request, and the answer to it.
    pub struct Message = "hv_vss_msg", size 12 {
        /// What is asked.
        header: Header = 0 "vss_hdr",
        /// Sum of the flags of this module, in an answer.
        flags: u32 = 8 "vss_cf",
    }
    also {
        "dm_info" @ 8, 4;
        "error" @ 0, 4;
    }
}
