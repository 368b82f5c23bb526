//! Status codes of hypercalls, and the errors among them.

use core::fmt;
use core::num::NonZeroU16;

use crate::abi::{Tables, named};

pub(crate) const TABLES: Tables = Tables { constants: &[STATUS], structs: &[STATUS_TYPE] };

open_enum! {
    table STATUS_TYPE, from "TLFS, HV_STATUS";
    names [STATUS];
    /// The status of a hypercall: success, or an error.
    ///
    /// ```
    /// use hv_tlfs::status::HvStatus;
    /// assert!(HvStatus::SUCCESS.to_result().is_ok());
    /// let error = HvStatus(0x13).to_result().unwrap_err();
    /// assert_eq!(error.to_string(), "no message buffer is free at the port");
    /// ```
    pub struct HvStatus(u16) = "HV_STATUS" ["hv_status"];
}

constants! {
    table STATUS, kind "status", from "TLFS, HV_STATUS and the Hypercall Reference; Linux 6.12, include/asm-generic/hyperv-tlfs.h; openvmm, vm/hv1/hvdef", impl HvStatus;

    /// success
    SUCCESS = 0x00, "HV_STATUS_SUCCESS";
    /// the hypercall code is not known
    INVALID_HYPERCALL_CODE = 0x02, "HV_STATUS_INVALID_HYPERCALL_CODE";
    /// the hypercall input value is wrong: a reserved bit, the rep count, the rep start or the variable header
    INVALID_HYPERCALL_INPUT = 0x03, "HV_STATUS_INVALID_HYPERCALL_INPUT";
    /// a parameter block is not 8-byte aligned, crosses a page or lies outside of guest memory
    INVALID_ALIGNMENT = 0x04, "HV_STATUS_INVALID_ALIGNMENT";
    /// a parameter is invalid
    INVALID_PARAMETER = 0x05, "HV_STATUS_INVALID_PARAMETER";
    /// the caller has not the privilege
    ACCESS_DENIED = 0x06, "HV_STATUS_ACCESS_DENIED";
    /// the partition is in a state that does not allow it
    INVALID_PARTITION_STATE = 0x07, "HV_STATUS_INVALID_PARTITION_STATE";
    /// the operation is not allowed now
    OPERATION_DENIED = 0x08, "HV_STATUS_OPERATION_DENIED";
    /// the partition property is not known
    UNKNOWN_PROPERTY = 0x09, "HV_STATUS_UNKNOWN_PROPERTY";
    /// the partition property's value is out of range
    PROPERTY_VALUE_OUT_OF_RANGE = 0x0a, "HV_STATUS_PROPERTY_VALUE_OUT_OF_RANGE";
    /// the partition's memory pool is too small; deposit memory and retry
    INSUFFICIENT_MEMORY = 0x0b, "HV_STATUS_INSUFFICIENT_MEMORY";
    /// partitions are nested too deep
    PARTITION_TOO_DEEP = 0x0c, "HV_STATUS_PARTITION_TOO_DEEP";
    /// the partition id is invalid
    INVALID_PARTITION_ID = 0x0d, "HV_STATUS_INVALID_PARTITION_ID";
    /// the VP index is invalid
    INVALID_VP_INDEX = 0x0e, "HV_STATUS_INVALID_VP_INDEX";
    /// the object was not found
    NOT_FOUND = 0x10, "HV_STATUS_NOT_FOUND";
    /// the port id is invalid
    INVALID_PORT_ID = 0x11, "HV_STATUS_INVALID_PORT_ID";
    /// the connection id is invalid
    INVALID_CONNECTION_ID = 0x12, "HV_STATUS_INVALID_CONNECTION_ID";
    /// no message buffer is free at the port
    ///
    /// 0x13. Not to be confused with [`Self::INSUFFICIENT_BUFFER`], 0x33: the PDF editions of the TLFS print that
    /// number for this status.
    INSUFFICIENT_BUFFERS = 0x13, "HV_STATUS_INSUFFICIENT_BUFFERS";
    /// not acknowledged
    NOT_ACKNOWLEDGED = 0x14, "HV_STATUS_NOT_ACKNOWLEDGED";
    /// the VP is in a state that does not allow it
    INVALID_VP_STATE = 0x15, "HV_STATUS_INVALID_VP_STATE";
    /// acknowledged
    ACKNOWLEDGED = 0x16, "HV_STATUS_ACKNOWLEDGED";
    /// the saved state is invalid
    INVALID_SAVE_RESTORE_STATE = 0x17, "HV_STATUS_INVALID_SAVE_RESTORE_STATE";
    /// the target's SynIC, or its page, is disabled
    INVALID_SYNIC_STATE = 0x18, "HV_STATUS_INVALID_SYNIC_STATE";
    /// the object is in use
    OBJECT_IN_USE = 0x19, "HV_STATUS_OBJECT_IN_USE";
    /// the proximity domain information is invalid
    INVALID_PROXIMITY_DOMAIN_INFO = 0x1a, "HV_STATUS_INVALID_PROXIMITY_DOMAIN_INFO";
    /// there is no data
    NO_DATA = 0x1b, "HV_STATUS_NO_DATA";
    /// inactive
    INACTIVE = 0x1c, "HV_STATUS_INACTIVE";
    /// no resources are left
    NO_RESOURCES = 0x1d, "HV_STATUS_NO_RESOURCES";
    /// the feature is not available
    FEATURE_UNAVAILABLE = 0x1e, "HV_STATUS_FEATURE_UNAVAILABLE";
    /// only a part of the packet
    PARTIAL_PACKET = 0x1f, "HV_STATUS_PARTIAL_PACKET";
    /// a processor feature is not supported
    PROCESSOR_FEATURE_NOT_SUPPORTED = 0x20, "HV_STATUS_PROCESSOR_FEATURE_NOT_SUPPORTED";
    /// the processor's cache line flush size does not fit
    PROCESSOR_CACHE_LINE_FLUSH_SIZE_INCOMPATIBLE = 0x30, "HV_STATUS_PROCESSOR_CACHE_LINE_FLUSH_SIZE_INCOMPATIBLE";
    /// the caller's buffer is too small
    INSUFFICIENT_BUFFER = 0x33, "HV_STATUS_INSUFFICIENT_BUFFER";
    /// the processor is not compatible
    INCOMPATIBLE_PROCESSOR = 0x37, "HV_STATUS_INCOMPATIBLE_PROCESSOR";
    /// no device domain is left
    INSUFFICIENT_DEVICE_DOMAINS = 0x38, "HV_STATUS_INSUFFICIENT_DEVICE_DOMAINS";
    /// a CPUID feature failed validation
    CPUID_FEATURE_VALIDATION_ERROR = 0x3c, "HV_STATUS_CPUID_FEATURE_VALIDATION_ERROR";
    /// a CPUID XSAVE feature failed validation
    CPUID_XSAVE_FEATURE_VALIDATION_ERROR = 0x3d, "HV_STATUS_CPUID_XSAVE_FEATURE_VALIDATION_ERROR";
    /// the processor did not start in time
    PROCESSOR_STARTUP_TIMEOUT = 0x3e, "HV_STATUS_PROCESSOR_STARTUP_TIMEOUT";
    /// SMX is enabled
    SMX_ENABLED = 0x3f, "HV_STATUS_SMX_ENABLED";
    /// the logical processor index is invalid
    INVALID_LP_INDEX = 0x41, "HV_STATUS_INVALID_LP_INDEX";
    /// the register's value is invalid
    INVALID_REGISTER_VALUE = 0x50, "HV_STATUS_INVALID_REGISTER_VALUE";
    /// the VTL is in a state that does not allow it
    INVALID_VTL_STATE = 0x51, "HV_STATUS_INVALID_VTL_STATE";
    /// no-execute was not detected
    NX_NOT_DETECTED = 0x55, "HV_STATUS_NX_NOT_DETECTED";
    /// the device id is invalid
    INVALID_DEVICE_ID = 0x57, "HV_STATUS_INVALID_DEVICE_ID";
    /// the device is in a state that does not allow it
    INVALID_DEVICE_STATE = 0x58, "HV_STATUS_INVALID_DEVICE_STATE";
    /// page requests are pending
    PENDING_PAGE_REQUESTS = 0x59, "HV_STATUS_PENDING_PAGE_REQUESTS";
    /// the page request is invalid
    PAGE_REQUEST_INVALID = 0x60, "HV_STATUS_PAGE_REQUEST_INVALID";
    /// the key exists already
    KEY_ALREADY_EXISTS = 0x65, "HV_STATUS_KEY_ALREADY_EXISTS";
    /// the device is in a domain already
    DEVICE_ALREADY_IN_DOMAIN = 0x66, "HV_STATUS_DEVICE_ALREADY_IN_DOMAIN";
    /// the CPU group id is invalid
    INVALID_CPU_GROUP_ID = 0x6f, "HV_STATUS_INVALID_CPU_GROUP_ID";
    /// the CPU group is in a state that does not allow it
    INVALID_CPU_GROUP_STATE = 0x70, "HV_STATUS_INVALID_CPU_GROUP_STATE";
    /// the operation failed
    OPERATION_FAILED = 0x71, "HV_STATUS_OPERATION_FAILED";
    /// not allowed while nested virtualization is active
    NOT_ALLOWED_WITH_NESTED_VIRT_ACTIVE = 0x72, "HV_STATUS_NOT_ALLOWED_WITH_NESTED_VIRT_ACTIVE";
    /// the root partition's memory is too small
    INSUFFICIENT_ROOT_MEMORY = 0x73, "HV_STATUS_INSUFFICIENT_ROOT_MEMORY";
    /// the event buffer was freed already
    EVENT_BUFFER_ALREADY_FREED = 0x74, "HV_STATUS_EVENT_BUFFER_ALREADY_FREED";
    /// the time-out expired first
    TIME_OUT = 0x78, "HV_STATUS_TIME_OUT" ["HV_STATUS_TIMEOUT"];
    /// the hypercall continues; its completion will be reported
    CALL_PENDING = 0x79, "HV_STATUS_CALL_PENDING";
    /// the VTL is enabled already
    VTL_ALREADY_ENABLED = 0x86, "HV_STATUS_VTL_ALREADY_ENABLED";
    /// the register name is not known
    UNKNOWN_REGISTER_NAME = 0x87, "HV_STATUS_UNKNOWN_REGISTER_NAME";
}

impl HvStatus {
    /// Converts the status to a `Result`.
    ///
    /// # Errors
    ///
    /// Any status but success.
    #[inline]
    pub const fn to_result(self) -> Result<(), HvError> {
        match NonZeroU16::new(self.0) {
            None => Ok(()),
            Some(code) => Err(HvError(code)),
        }
    }
}

/// A status other than success. `Display` prints the documentation of its [`HvStatus`] constant.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HvError(pub NonZeroU16);

impl HvError {
    /// Returns the status.
    #[inline]
    #[must_use]
    pub const fn status(self) -> HvStatus {
        HvStatus(self.0.get())
    }
}

impl From<HvError> for HvStatus {
    fn from(error: HvError) -> Self {
        error.status()
    }
}

impl fmt::Display for HvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match named(u64::from(self.0.get()), [STATUS]) {
            Some(row) => row.doc.summary().try_for_each(|line| f.write_str(line)),
            None => write!(f, "hypervisor status {:#06x}", self.0),
        }
    }
}

impl fmt::Debug for HvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match named(u64::from(self.0.get()), [STATUS]) {
            Some(row) => write!(f, "HvError({})", row.rust),
            None => write!(f, "HvError({:#x})", self.0),
        }
    }
}

impl core::error::Error for HvError {}
