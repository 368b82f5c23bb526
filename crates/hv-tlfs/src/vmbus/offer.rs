//! Offers: how a guest learns of its devices.

use super::{ChannelId, Guid, MessageHeader};

constants! {
    table LIMITS, kind "vmbus-limit", from "Linux 6.12, include/linux/hyperv.h";

    /// Device-specific bytes of an offer or open request.
    pub const USER_DEFINED_BYTES: usize = 120, "MAX_USER_DEFINED_BYTES";
    /// The same for a pipe channel: the pipe mode takes 4 of them.
    pub const PIPE_USER_DEFINED_BYTES: usize = 116, "MAX_PIPE_USER_DEFINED_BYTES";
}

open_enum! {
    table PIPE_MODE_TYPE, from "Linux 6.12, include/linux/hyperv.h";
    names [PIPE_MODES];
    /// Message mode of a pipe; the first word of the user-defined bytes of a pipe's offer.
    pub struct PipeMode(u32) = "vmbus_pipe_mode";
}

constants! {
    table PIPE_MODES, kind "vmbus-pipe-mode", from "Linux 6.12, include/linux/hyperv.h", impl PipeMode;

    /// A stream of bytes.
    BYTE = 0, "VMBUS_PIPE_TYPE_BYTE";
    /// Messages with bounds.
    MESSAGE = 4, "VMBUS_PIPE_TYPE_MESSAGE";
}

bits! {
    table BITS, from "Linux 6.12, include/linux/hyperv.h; OpenVMM, vmbus_core";

    /// Properties of an offered channel.
    pub struct OfferFlags(u16) = "vmbus_channel_offer_flags" {
        /// The guest exposes the device to its applications.
        enumerate_interface / with_enumerate_interface: bool @ 0;
        /// The rings lie in memory visible only to guest and paravisor.
        confidential_ring / with_confidential_ring: bool @ 1;
        /// All other memory of the channel does as well.
        confidential_memory / with_confidential_memory: bool @ 2;
        /// GPADLs and GPA-direct ranges must be pinned.
        require_pinned_memory / with_require_pinned_memory: bool @ 3;
        /// The channel is a pipe: the user-defined bytes begin with a [`PipeMode`].
        named_pipe / with_named_pipe: bool @ 4;
        /// The channel leads back to the guest itself.
        loopback / with_loopback: bool @ 8;
        /// Offered by the parent partition.
        parent_offer / with_parent_offer: bool @ 9;
        /// Signals may wait for the monitor.
        monitored / with_monitored: bool @ 10;
        /// A Hyper-V socket.
        socket / with_socket: bool @ 13;
    }
}

constants! {
    table FLAGS, kind "vmbus-offer-flag", from "Linux 6.12, include/linux/hyperv.h", impl OfferFlags;

    /// Only [`enumerate_interface`](OfferFlags::enumerate_interface).
    ENUMERATE_INTERFACE = 1, "VMBUS_CHANNEL_ENUMERATE_DEVICE_INTERFACE";
    /// Former meaning of the bit that is now [`confidential_ring`](OfferFlags::confidential_ring).
    TRANSFER_PAGES = 2, "VMBUS_CHANNEL_SERVER_SUPPORTS_TRANSFER_PAGES";
    /// Former meaning of the bit that is now [`confidential_memory`](OfferFlags::confidential_memory).
    GPADLS = 4, "VMBUS_CHANNEL_SERVER_SUPPORTS_GPADLS";
    /// Only [`named_pipe`](OfferFlags::named_pipe).
    NAMED_PIPE = 0x10, "VMBUS_CHANNEL_NAMED_PIPE_MODE";
    /// Only [`loopback`](OfferFlags::loopback).
    LOOPBACK = 0x100, "VMBUS_CHANNEL_LOOPBACK_OFFER";
    /// Only [`parent_offer`](OfferFlags::parent_offer).
    PARENT_OFFER = 0x200, "VMBUS_CHANNEL_PARENT_OFFER";
    /// Only [`monitored`](OfferFlags::monitored).
    MONITORED = 0x400, "VMBUS_CHANNEL_REQUEST_MONITORED_NOTIFICATION";
    /// Only [`socket`](OfferFlags::socket).
    SOCKET = 0x2000, "VMBUS_CHANNEL_TLNPI_PROVIDER_OFFER";
}

structs! {
    table STRUCTS, from "Linux 6.12, include/linux/hyperv.h; OpenVMM, vmbus_core";

    /// Description of a device.
    pub struct ChannelOffer = "vmbus_channel_offer", size 176 {
        /// Kind of device: one of [`guid`](super::guid).
        interface: Guid = 0 "if_type",
        /// This device among those of its kind.
        instance: Guid = 16 "if_instance",
        /// Zero.
        reserved1: [u32; 2] = 32,
        /// Zero.
        reserved2: [u32; 2] = 40,
        /// Properties.
        flags: OfferFlags = 48 "chn_flags",
        /// MMIO space that the device needs, in megabytes.
        mmio_megabytes: u16 = 50,
        /// Device-specific; for a pipe a [`PipeMode`] and 116 bytes.
        user_defined: [u8; 120] = 52 "u",
        /// 0: the device's first channel; else a sub-channel.
        subchannel_index: u16 = 172 "sub_channel_index",
        /// Additional MMIO space that the device could use, in megabytes; reserved in Linux.
        mmio_megabytes_optional: u16 = 174 "reserved3",
    }
    also {
        "u.std.user_def" @ 52, 120;
        "u.pipe.pipe_mode" @ 52, 4;
        "u.pipe.user_def" @ 56, 116;
    }

    /// OFFERCHANNEL: the host offers a channel.
    pub struct OfferChannel = "vmbus_channel_offer_channel", size 196 {
        /// [`MessageType::OFFER_CHANNEL`](super::MessageType::OFFER_CHANNEL).
        header: MessageHeader = 0,
        /// The device.
        offer: ChannelOffer = 8,
        /// The channel's number.
        channel: ChannelId = 184 "child_relid",
        /// Slot in the monitor pages: group times 32 plus bit.
        monitor_id: u8 = 188 "monitorid",
        /// Bit 0: `monitor_id` is valid.
        monitor_allocated: u8 = 189,
        /// Bit 0: the channel has a connection of its own, and the guest leaves the interrupt page alone.
        dedicated_interrupt: u16 = 190 "is_dedicated_interrupt",
        /// Connection to signal after the guest has put packets into its ring.
        connection: u32 = 192 "connection_id",
    }
    also {
        "monitor_allocated" @ 189, 1, bits 0;
        "reserved" @ 189, 1, bits 7:1;
        "is_dedicated_interrupt" @ 190, 2, bits 0;
        "reserved1" @ 190, 2, bits 15:1;
    }

    /// RESCIND_CHANNELOFFER: the device is gone. The guest answers with [`RelIdReleased`] when it has released the
    /// channel.
    pub struct RescindOffer = "vmbus_channel_rescind_offer", size 12 {
        /// [`MessageType::RESCIND_OFFER`](super::MessageType::RESCIND_OFFER).
        header: MessageHeader = 0,
        /// The channel.
        channel: ChannelId = 8 "child_relid",
    }

    /// RELID_RELEASED: the guest will not use the channel again; its number is free.
    pub struct RelIdReleased = "vmbus_channel_relid_released", size 12 {
        /// [`MessageType::RELID_RELEASED`](super::MessageType::RELID_RELEASED).
        header: MessageHeader = 0,
        /// The channel.
        channel: ChannelId = 8 "child_relid",
    }
}
