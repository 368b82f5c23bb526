//! File copy: the service by which a host puts a file into the guest.
//!
//! [`Start`], then a [`Data`] for each 6 KiB, then a [`Header`] alone for [`Operation::COMPLETE`]. Numbers behind the
//! header are not aligned.

use zerocopy::little_endian::U64;

open_enum! {
    table OPERATION_TYPE, from "Linux 6.12, include/uapi/linux/hyperv.h";
    names [OPERATIONS];
    /// What is asked.
    pub struct Operation(u32) = "hv_fcopy_op";
}

constants! {
    table OPERATIONS, kind "fcopy-operation", from "Linux 6.12, include/uapi/linux/hyperv.h", impl Operation;

    /// A file begins: [`Start`].
    START = 0, "START_FILE_COPY";
    /// A part of it: [`Data`].
    WRITE = 1, "WRITE_TO_FILE";
    /// It is whole.
    COMPLETE = 2, "COMPLETE_FCOPY";
    /// It is given up.
    CANCEL = 3, "CANCEL_FCOPY";
}

constants! {
    table FLAGS, kind "fcopy-flag", from "Linux 6.12, include/uapi/linux/hyperv.h";

    /// In [`Start::flags`]: a file of the same name is replaced.
    pub const FLAG_OVERWRITE: u32 = 1, "OVER_WRITE";
    /// Folders that are missing are made.
    pub const FLAG_CREATE_PATH: u32 = 2, "CREATE_PATH";
}

constants! {
    table LIMITS, kind "fcopy-limit", from "Linux 6.12, include/uapi/linux/hyperv.h";

    /// Characters of a file's name, and of its folder's, at most.
    pub const MAX_PATH_CHARS: usize = 260, "W_MAX_PATH";
    /// Bytes of a file in one [`Data`].
    pub const FRAGMENT_SIZE: usize = 6 * 1024, "DATA_FRAGMENT";
}

structs! {
    table STRUCTS, from "Linux 6.12, include/uapi/linux/hyperv.h";

    /// The beginning of a request.
    pub struct Header = "hv_fcopy_hdr", size 36 {
        /// What is asked.
        operation: Operation = 0,
        /// Not used.
        service_id0: [u8; 16] = 4,
        /// Not used.
        service_id1: [u8; 16] = 20,
    }

    /// A file begins. Names are UTF-16 with a closing zero.
    pub struct Start = "hv_start_fcopy", size 1088 {
        /// [`Operation::START`].
        header: Header = 0 "hdr",
        /// Name of the file.
        file_name: [u8; 520] = 36,
        /// Folder in the guest.
        path_name: [u8; 520] = 556,
        /// Sum of the flags of this module.
        flags: u32 = 1076 "copy_flags",
        /// Bytes of the file.
        file_size: U64 = 1080,
    }

    /// A part of a file.
    pub struct Data = "hv_do_fcopy", size 6196 {
        /// [`Operation::WRITE`].
        header: Header = 0 "hdr",
        /// Zero.
        reserved: u32 = 36 "pad",
        /// Place in the file.
        offset: U64 = 40,
        /// Bytes that count.
        size: u32 = 48,
        /// The bytes.
        data: [u8; 6144] = 52,
    }
}
