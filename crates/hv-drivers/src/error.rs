//! What the errors of all devices have in common.

/// Makes an enumeration an error that a channel's error is converted to: its variant `Client`.
macro_rules! channel_error {
    ($Error:ident) => {
        impl From<hv_vmbus_client::Error> for $Error {
            fn from(error: hv_vmbus_client::Error) -> Self {
                Self::Client(error)
            }
        }

        impl core::error::Error for $Error {}
    };
}
