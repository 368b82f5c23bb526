//! Status and sense data.

/// Status of a command.
///
/// Source: SAM-5, "Status codes".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// Done.
    Good = 0x00,
    /// Failed; the sense data has the reason.
    CheckCondition = 0x02,
    /// The target has no room for the command now.
    Busy = 0x08,
}

/// Kind of failure.
///
/// Source: SPC-4, "Sense key and additional sense code definitions".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SenseKey {
    /// No failure.
    NoSense = 0x0,
    /// No medium, or the device is not ready.
    NotReady = 0x2,
    /// The medium cannot be read or written at some location.
    MediumError = 0x3,
    /// The device is broken.
    HardwareError = 0x4,
    /// The command is invalid.
    IllegalRequest = 0x5,
    /// Something has changed: a reset, a capacity.
    UnitAttention = 0x6,
    /// The medium is read-only.
    DataProtect = 0x7,
}

/// Reason why a command failed: sense key, additional sense code and its qualifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sense {
    /// Kind of failure.
    pub key: SenseKey,
    /// Additional sense code.
    pub code: u8,
    /// Its qualifier.
    pub qualifier: u8,
}

impl Sense {
    /// Bytes of sense data in fixed format.
    pub const LEN: usize = 18;

    /// No failure.
    pub const NONE: Self = Self::new(SenseKey::NoSense, 0, 0);
    /// INVALID COMMAND OPERATION CODE.
    pub const INVALID_OPCODE: Self = Self::new(SenseKey::IllegalRequest, 0x20, 0);
    /// LOGICAL BLOCK ADDRESS OUT OF RANGE.
    pub const OUT_OF_RANGE: Self = Self::new(SenseKey::IllegalRequest, 0x21, 0);
    /// INVALID FIELD IN CDB.
    pub const INVALID_FIELD: Self = Self::new(SenseKey::IllegalRequest, 0x24, 0);
    /// INVALID FIELD IN PARAMETER LIST.
    pub const INVALID_PARAMETER: Self = Self::new(SenseKey::IllegalRequest, 0x26, 0);
    /// PARAMETER LIST LENGTH ERROR.
    pub const PARAMETER_LENGTH: Self = Self::new(SenseKey::IllegalRequest, 0x1a, 0);
    /// SAVING PARAMETERS NOT SUPPORTED.
    pub const NO_SAVED_PAGES: Self = Self::new(SenseKey::IllegalRequest, 0x39, 0);
    /// WRITE PROTECTED.
    pub const WRITE_PROTECTED: Self = Self::new(SenseKey::DataProtect, 0x27, 0);
    /// UNRECOVERED READ ERROR.
    pub const READ_ERROR: Self = Self::new(SenseKey::MediumError, 0x11, 0);
    /// WRITE ERROR.
    pub const WRITE_ERROR: Self = Self::new(SenseKey::MediumError, 0x0c, 0);
    /// MISCOMPARE DURING VERIFY OPERATION is not reported: nothing compares. INTERNAL TARGET FAILURE.
    pub const TARGET_FAILURE: Self = Self::new(SenseKey::HardwareError, 0x44, 0);
    /// CAPACITY DATA HAS CHANGED. Linux reads the capacity again.
    pub const CAPACITY_CHANGED: Self = Self::new(SenseKey::UnitAttention, 0x2a, 0x09);
    /// MEDIUM NOT PRESENT.
    pub const NO_MEDIUM: Self = Self::new(SenseKey::NotReady, 0x3a, 0);
    /// NOT READY TO READY CHANGE, MEDIUM MAY HAVE CHANGED.
    pub const MEDIUM_CHANGED: Self = Self::new(SenseKey::UnitAttention, 0x28, 0);
    /// MEDIUM REMOVAL PREVENTED.
    pub const REMOVAL_PREVENTED: Self = Self::new(SenseKey::IllegalRequest, 0x53, 2);
    /// POWER ON, RESET, OR BUS DEVICE RESET OCCURRED.
    pub const RESET: Self = Self::new(SenseKey::UnitAttention, 0x29, 0);

    /// Creates a sense.
    #[must_use]
    pub const fn new(key: SenseKey, code: u8, qualifier: u8) -> Self {
        Self { key, code, qualifier }
    }

    /// Returns the sense data in fixed format, current error.
    ///
    /// Source: SPC-4, "Fixed format sense data".
    #[must_use]
    pub const fn bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[0] = 0x70;
        bytes[2] = self.key as u8;
        bytes[7] = (Self::LEN - 8) as u8;
        bytes[12] = self.code;
        bytes[13] = self.qualifier;
        bytes
    }
}
