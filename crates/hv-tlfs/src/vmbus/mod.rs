//! VMBus: the messages, rings and packets by which devices are offered and used.
//!
//! Guest and host communicate in two ways. Control uses SynIC messages: the guest posts to a connection
//! ([`connection`]), the host answers with messages on [`MESSAGE_SINT`](connection::MESSAGE_SINT); each payload begins
//! with a [`MessageHeader`]. Data uses two rings per channel ([`RingHeader`]) in memory that the guest has described
//! with a GPADL, in packets that begin with a [`PacketDescriptor`], and each side signals the other with an event.
//!
//! The sequence: [`InitiateContact`] until a [`Version`] is agreed; REQUESTOFFERS, an [`OfferChannel`] for every
//! device, ALLOFFERS_DELIVERED; per device [`GpadlHeader`] (and [`GpadlBody`]), [`GpadlCreated`], [`OpenChannel`],
//! [`OpenResult`], packets, [`CloseChannel`], [`GpadlTeardown`], [`GpadlTorndown`]; UNLOAD and its response at the end.
//!
//! Pages are 4096 bytes, and page numbers count such pages, whatever the guest's page size.
//!
//! Not here: device protocols except those in [`balloon`], [`fcopy`], [`ic`], [`keyboard`], [`kvp`], [`mouse`],
//! [`nvsp`] with [`rndis`] and [`ndis`], [`socket`], [`storage`] with [`scsi`], [`video`], and [`vss`], and versions
//! before 3.0.

pub mod balloon;
pub mod connection;
pub mod fcopy;
mod gpadl;
pub mod guid;
pub mod ic;
pub mod keyboard;
pub mod kvp;
mod message;
mod monitor;
pub mod mouse;
pub mod ndis;
pub mod nvsp;
mod offer;
mod open;
mod packet;
mod ring;
pub mod rndis;
pub mod scsi;
pub mod socket;
pub mod storage;
mod version;
pub mod video;
pub mod vss;

pub use gpadl::{
    GpaRange, GpadlBody, GpadlCreated, GpadlHeader, GpadlTeardown, GpadlTorndown, GpadlType, MultiPageBuffer,
    MultiPageBufferArray, PageBuffer,
};
pub use guid::Guid;
pub use message::{ChannelId, GpadlId, MessageHeader, MessageType, NtStatus};
pub use monitor::{MonitorPage, MonitorParameter, MonitorTriggerGroup, MonitorTriggerState};
pub use offer::{
    ChannelOffer, OfferChannel, OfferFlags, PIPE_USER_DEFINED_BYTES, PipeMode, RelIdReleased, RescindOffer,
    USER_DEFINED_BYTES,
};
pub use open::{
    CloseChannel, CloseReservedChannel, CloseReservedResponse, ModifyChannel, ModifyChannelResponse,
    OpenChannel, OpenChannelFlags, OpenChannelSignal, OpenReservedChannel, OpenResult, TARGET_VP_NONE,
    TlConnectRequest, TlConnectRequestSilo, TlConnectResult,
};
pub use packet::{
    AdditionalData, GpaDirectPacket, GpadlPacket, PACKET_FLAG_COMPLETION_REQUESTED, PACKET_TRAILER_SIZE,
    PIPE_DATA_PAYLOAD, PacketDescriptor, PacketHeader, PacketType, TransferPagePacket, TransferPageRange,
    TransferPageSet,
};
pub use ring::{RingFeatures, RingHeader};
pub use version::{
    ConnectionState, FeatureFlags, InitiateContact, InitiateContactClient, ModifyConnection,
    ModifyConnectionResponse, QueryVersion, TargetInfo, Version, VersionResponse, VersionResponseFeatures,
    VersionResponseMonitor,
};

use crate::abi::Tables;

/// The tables of this module's parts, joined.
pub(crate) const TABLES: Tables = Tables {
    constants: &[
        connection::CONNECTIONS,
        version::VERSIONS,
        version::CONNECTION_STATES,
        message::TYPES,
        message::STATUSES,
        message::IDS,
        offer::LIMITS,
        offer::PIPE_MODES,
        offer::FLAGS,
        open::TARGETS,
        gpadl::TYPES,
        packet::TYPES,
        packet::LIMITS,
        ic::TYPES,
        ic::FLAGS,
        ic::LIMITS,
        ic::STATUSES,
        ic::SHUTDOWN_FLAGS,
        ic::TIMESYNC_FLAGS,
        kvp::OPERATIONS,
        kvp::POOLS,
        kvp::VALUE_TYPES,
        kvp::LIMITS,
        kvp::FAMILIES,
        vss::OPERATIONS,
        vss::FLAGS,
        fcopy::OPERATIONS,
        fcopy::FLAGS,
        fcopy::LIMITS,
        storage::OPERATIONS,
        storage::SRB_STATUSES,
        storage::SRB_STATUS_FLAGS,
        storage::DIRECTIONS,
        storage::FLAGS,
        storage::VERSIONS,
        storage::LIMITS,
        scsi::COMMANDS,
        scsi::OPTICAL_COMMANDS,
        scsi::STATUSES,
        scsi::SENSE_KEYS,
        nvsp::MESSAGES,
        nvsp::STATUSES,
        nvsp::VERSIONS,
        nvsp::LIMITS,
        nvsp::CHANNELS,
        nvsp::SUBCHANNEL_OPERATIONS,
        nvsp::DATA_PATHS,
        rndis::MESSAGES,
        rndis::STATUSES,
        rndis::LIMITS,
        rndis::FLAGS,
        rndis::MEDIA,
        rndis::INFO_TYPES,
        ndis::OIDS,
        ndis::FILTERS,
        ndis::MAC_OPTIONS,
        ndis::OBJECT_TYPES,
        ndis::HASHES,
        ndis::RSS_FLAGS,
        ndis::RSS_CAPABILITIES,
        ndis::RSS_LIMITS,
        ndis::OFFLOADS,
        ndis::SWITCHES,
        socket::LIMITS,
        socket::ADDRESSES,
        socket::VERSIONS,
        keyboard::MESSAGES,
        keyboard::VERSIONS,
        keyboard::STATUSES,
        keyboard::FLAGS,
        balloon::MESSAGES,
        balloon::VERSIONS,
        balloon::LIMITS,
        mouse::MESSAGES,
        mouse::VERSIONS,
        mouse::DESCRIPTORS,
        video::MESSAGES,
        video::MORE_MESSAGES,
        video::VERSIONS,
        video::ANSWERS,
        video::LIMITS,
    ],
    structs: &[
        guid::STRUCTS,
        version::VERSION_TYPE,
        version::CONNECTION_STATE_TYPE,
        version::BITS,
        version::STRUCTS,
        message::MESSAGE_TYPE,
        message::STATUS_TYPE,
        message::CHANNEL_TYPE,
        message::GPADL_TYPE,
        message::STRUCTS,
        offer::BITS,
        offer::PIPE_MODE_TYPE,
        offer::STRUCTS,
        open::BITS,
        open::STRUCTS,
        gpadl::GPADL_TYPE,
        gpadl::STRUCTS,
        packet::PACKET_TYPE,
        packet::STRUCTS,
        ring::BITS,
        ring::STRUCTS,
        monitor::BITS,
        monitor::STRUCTS,
        ic::MESSAGE_TYPE,
        ic::STATUS_TYPE,
        ic::STRUCTS,
        kvp::OPERATION_TYPE,
        kvp::POOL_TYPE,
        kvp::STRUCTS,
        vss::OPERATION_TYPE,
        vss::STRUCTS,
        fcopy::OPERATION_TYPE,
        fcopy::STRUCTS,
        storage::OPERATION_TYPE,
        storage::SRB_STATUS_TYPE,
        storage::STRUCTS,
        nvsp::MESSAGE_TYPE,
        nvsp::STATUS_TYPE,
        nvsp::VERSION_TYPE,
        nvsp::BITS,
        nvsp::STRUCTS,
        rndis::MESSAGE_TYPE,
        rndis::STATUS_TYPE,
        rndis::BITS,
        rndis::STRUCTS,
        ndis::OID_TYPE,
        ndis::STRUCTS,
        socket::STRUCTS,
        keyboard::MESSAGE_TYPE,
        keyboard::STRUCTS,
        balloon::MESSAGE_TYPE,
        balloon::BITS,
        balloon::STRUCTS,
        mouse::MESSAGE_TYPE,
        mouse::STRUCTS,
        video::MESSAGE_TYPE,
        video::STRUCTS,
        video::MORE_STRUCTS,
    ],
};
