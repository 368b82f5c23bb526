//! Contact: the protocol version, and the features of version 6.0.

use super::{Guid, MessageHeader};

open_enum! {
    table VERSION_TYPE, from "Linux 6.12, include/linux/hyperv.h; OpenVMM, vmbus_core";
    names [VERSIONS];
    /// A protocol version: major number in the upper, minor number in the lower 16 bits.
    pub struct Version(u32) = "vmbus_version";
}

constants! {
    table VERSIONS, kind "vmbus-version", from "Linux 6.12, include/linux/hyperv.h; OpenVMM, vmbus_core",
    impl Version;

    /// Windows 8.1, Windows Server 2012 R2: the oldest with UNLOAD. UEFI firmware requests it after 6.0.
    V3_0 = 3 << 16, "VERSION_WIN8_1";
    /// Windows 10, Windows Server 2016.
    V4_0 = 4 << 16, "VERSION_WIN10";
    /// Windows 10 version 1709: adds MODIFYCHANNEL and TL_CONNECT_RESULT.
    V4_1 = (4 << 16) | 1, "VERSION_WIN10_V4_1";
    /// The host gives the connection for messages; [`InitiateContact`] gives the SINT.
    V5_0 = 5 << 16, "VERSION_WIN10_V5";
    /// [`InitiateContact`] names the VTL.
    V5_1 = (5 << 16) | 1, "VERSION_WIN10_V5_1";
    /// Windows Server 2019; the lowest version that Linux accepts in an isolated VM.
    V5_2 = (5 << 16) | 2, "VERSION_WIN10_V5_2";
    /// Windows Server 2022: MODIFYCHANNEL is answered.
    V5_3 = (5 << 16) | 3, "VERSION_WIN10_V5_3";
    /// Feature flags are negotiated. Linux 7.x requests it first.
    V6_0 = 6 << 16, "VERSION_WIN10_V6_0";
}

impl Version {
    /// Every version of this crate, oldest first.
    pub const ALL: [Self; 8] =
        [Self::V3_0, Self::V4_0, Self::V4_1, Self::V5_0, Self::V5_1, Self::V5_2, Self::V5_3, Self::V6_0];

    /// Creates the version with these two numbers.
    #[must_use]
    pub const fn new(major: u16, minor: u16) -> Self {
        Self(((major as u32) << 16) | minor as u32)
    }

    /// Returns the number before the dot.
    #[must_use]
    pub const fn major(self) -> u16 {
        (self.0 >> 16) as u16
    }

    /// Returns the number after the dot.
    #[must_use]
    pub const fn minor(self) -> u16 {
        self.0 as u16
    }
}

impl core::fmt::Display for Version {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}.{}", self.major(), self.minor())
    }
}

open_enum! {
    table CONNECTION_STATE_TYPE, from "OpenVMM, vmbus_core";
    names [CONNECTION_STATES];
    /// Outcome of contact with a supported version.
    pub struct ConnectionState(u8) = "vmbus_connection_state";
}

constants! {
    table CONNECTION_STATES, kind "vmbus-connection-state", from "OpenVMM, vmbus_core",
    impl ConnectionState;

    /// The connection stands.
    SUCCESSFUL = 0, "VMBUS_CONNECTION_SUCCESSFUL";
    /// The host lacks resources.
    LOW_RESOURCES = 1, "VMBUS_CONNECTION_FAILED_LOW_RESOURCES";
    /// Any other failure, such as only one monitor page.
    UNKNOWN_FAILURE = 2, "VMBUS_CONNECTION_FAILED_UNKNOWN_FAILURE";
}

bits! {
    table BITS, from "OpenVMM, vmbus_core";

    /// Features that both sides must declare before either uses them; version 6.0 and later.
    pub struct FeatureFlags(u32) = "vmbus_feature_flags" {
        /// The guest chooses event flag and connection id in [`OpenChannelSignal`](super::OpenChannelSignal).
        guest_specified_signal / with_guest_specified_signal: bool @ 0;
        /// [`OpenChannelFlags::redirect_interrupt`](super::OpenChannelFlags::redirect_interrupt) is supported.
        channel_interrupt_redirection / with_channel_interrupt_redirection: bool @ 1;
        /// [`ModifyConnection`] is known.
        modify_connection / with_modify_connection: bool @ 2;
        /// The contact is an [`InitiateContactClient`].
        client_id / with_client_id: bool @ 3;
        /// The two confidential flags of [`OfferFlags`](super::OfferFlags) are supported.
        confidential_channels / with_confidential_channels: bool @ 4;
        /// PAUSE, PAUSE_RESPONSE and RESUME are known.
        pause_resume / with_pause_resume: bool @ 5;
        /// The host may provide the monitor pages, in [`VersionResponseMonitor`].
        server_monitor_pages / with_server_monitor_pages: bool @ 6;
        /// [`OfferFlags::require_pinned_memory`](super::OfferFlags::require_pinned_memory) is supported.
        gpa_pinning / with_gpa_pinning: bool @ 7;
    }

    /// Target of the host's messages; `interrupt_page` of [`InitiateContact`] from version 5.0 on.
    pub struct TargetInfo(u64) = "vmbus_target_info" {
        /// SINT for the host's messages, honoured from 5.0 on; a host may support only 2.
        sint / with_sint: u8 @ 7:0 = "msg_sint";
        /// VTL of the guest component that makes contact, honoured from 5.1 on.
        vtl / with_vtl: u8 @ 15:8 = "msg_vtl";
        /// Features the guest asks for, honoured from 6.0 on.
        features / with_features: FeatureFlags(u32) @ 63:32 = "feature_flags";
    }
}

structs! {
    table STRUCTS, from "Linux 6.12, include/linux/hyperv.h; OpenVMM, vmbus_core";

    /// INITIATE_CONTACT: the guest requests a version. Answered with a [`VersionResponse`].
    pub struct InitiateContact = "vmbus_channel_initiate_contact", size 40 {
        /// [`MessageType::INITIATE_CONTACT`](super::MessageType::INITIATE_CONTACT).
        header: MessageHeader = 0,
        /// The requested version.
        version: Version = 8 "vmbus_version_requested",
        /// VP index to which the host sends all messages.
        target_vp: u32 = 12 "target_vcpu",
        /// From 5.0 on the [`TargetInfo`]; before, the address of the interrupt page, which hosts ignore.
        target_info: TargetInfo = 16 "interrupt_page",
        /// Guest physical address of the monitor page from host to guest. Both monitor pages are set, or both are 0.
        monitor_page_in: u64 = 24 "monitor_page1",
        /// Guest physical address of the monitor page from guest to host.
        monitor_page_out: u64 = 32 "monitor_page2",
    }
    also {
        "msg_sint" @ 16, 1;
        "msg_vtl" @ 17, 1;
        "reserved" @ 18, 6;
    }

    /// INITIATE_CONTACT with a client id, used if [`FeatureFlags::client_id`] is set.
    pub struct InitiateContactClient = "vmbus_channel_initiate_contact2", size 56 {
        /// The message without the id.
        contact: InitiateContact = 0,
        /// Identifies the guest software.
        client_id: Guid = 40,
    }

    /// VERSION_RESPONSE.
    pub struct VersionResponse = "vmbus_channel_version_response", size 16 {
        /// [`MessageType::VERSION_RESPONSE`](super::MessageType::VERSION_RESPONSE).
        header: MessageHeader = 0,
        /// 1 if the host supports the version, else 0: request an older one.
        supported: u8 = 8 "version_supported",
        /// Outcome, where the version is supported.
        connection_state: ConnectionState = 9,
        /// Zero.
        padding: u16 = 10,
        /// From 5.0 on the connection for all further messages; before, the version.
        message_connection: u32 = 12 "msg_conn_id",
    }
    also {
        "version_supported" @ 8, 1;
    }

    /// VERSION_RESPONSE from version 6.0 on.
    pub struct VersionResponseFeatures = "vmbus_channel_version_response2", size 20 {
        /// The part that all versions have.
        response: VersionResponse = 0,
        /// The requested features that the host supports.
        features: FeatureFlags = 16 "supported_features",
    }

    /// VERSION_RESPONSE with monitor pages provided by the host ([`FeatureFlags::server_monitor_pages`]).
    pub struct VersionResponseMonitor = "vmbus_channel_version_response3", size 40 {
        /// The part that version 6.0 has.
        response: VersionResponseFeatures = 0,
        /// Zero.
        padding: u32 = 20,
        /// Guest physical address of the page from host to guest, or 0.
        monitor_page_in: u64 = 24 "parent_to_child_monitor_page_gpa",
        /// Guest physical address of the page from guest to host.
        monitor_page_out: u64 = 32 "child_to_parent_monitor_page_gpa",
    }

    /// The oldest form of contact: a version without a target.
    pub struct QueryVersion = "vmbus_channel_query_vmbus_version", size 12 {
        /// Header.
        header: MessageHeader = 0,
        /// The requested version.
        version: Version = 8,
    }

    /// MODIFY_CONNECTION: replaces the monitor pages of an established connection
    /// ([`FeatureFlags::modify_connection`]).
    pub struct ModifyConnection = "vmbus_channel_modify_connection", size 24 {
        /// [`MessageType::MODIFY_CONNECTION`](super::MessageType::MODIFY_CONNECTION).
        header: MessageHeader = 0,
        /// Guest physical address of the page from host to guest.
        monitor_page_in: u64 = 8 "parent_to_child_monitor_page_gpa",
        /// Guest physical address of the page from guest to host.
        monitor_page_out: u64 = 16 "child_to_parent_monitor_page_gpa",
    }

    /// MODIFY_CONNECTION_RESPONSE. On the wire it ends after `connection_state`, with 9 bytes.
    pub struct ModifyConnectionResponse = "vmbus_channel_modify_connection_response", size 12 {
        /// [`MessageType::MODIFY_CONNECTION_RESPONSE`](super::MessageType::MODIFY_CONNECTION_RESPONSE).
        header: MessageHeader = 0,
        /// Outcome.
        connection_state: ConnectionState = 8,
        /// Not on the wire.
        padding: [u8; 3] = 9,
    }
}
