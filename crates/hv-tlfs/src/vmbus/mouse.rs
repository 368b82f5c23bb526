//! Mouse: a HID device, whose reports come from the host.
//!
//! The channel is a pipe: after the pipe's header, a message begins with a [`HidHeader`]. The guest asks for a version
//! with [`ProtocolRequest`], and the host answers with [`ProtocolResponse`]. Then the host describes the device with
//! [`DeviceInfo`], behind which is a HID report descriptor, and the guest acknowledges it with [`DeviceInfoAck`]. From
//! then on the host sends input reports, whose form is that of the report descriptor.

use zerocopy::little_endian::{U16, U32};

open_enum! {
    table MESSAGE_TYPE, from "Linux 6.12, drivers/hid/hid-hyperv.c";
    names [MESSAGES];
    /// Kind of a message.
    pub struct MessageType(u32) = "synthhid_msg_type";
}

constants! {
    table MESSAGES, kind "mouse-message", from "Linux 6.12, drivers/hid/hid-hyperv.c", impl MessageType;

    /// From the guest, first: [`ProtocolRequest`].
    PROTOCOL_REQUEST = 0, "SYNTH_HID_PROTOCOL_REQUEST";
    /// The answer to it: [`ProtocolResponse`].
    PROTOCOL_RESPONSE = 1, "SYNTH_HID_PROTOCOL_RESPONSE";
    /// From the host: [`DeviceInfo`], and a report descriptor.
    DEVICE_INFO = 2, "SYNTH_HID_INITIAL_DEVICE_INFO";
    /// From the guest: [`DeviceInfoAck`].
    DEVICE_INFO_ACK = 3, "SYNTH_HID_INITIAL_DEVICE_INFO_ACK";
    /// From the host: an input report, after the [`HidHeader`].
    INPUT_REPORT = 4, "SYNTH_HID_INPUT_REPORT";
}

constants! {
    table VERSIONS, kind "mouse-version", from "Linux 6.12, drivers/hid/hid-hyperv.c";

    /// Version 2.0: major number in the high half.
    pub const VERSION: u32 = 0x2_0000, "SYNTHHID_INPUT_VERSION";
}

constants! {
    table DESCRIPTORS, kind "hid-descriptor", from "USB HID 1.11, Get_Descriptor Request; Linux 6.12, include/linux/hid.h";

    /// In [`HidDescriptor::descriptor_type`]: a HID descriptor.
    pub const HID: u8 = 0x21, "HID_DT_HID";
    /// In [`HidDescriptor::report_type`]: a report descriptor.
    pub const REPORT: u8 = 0x22, "HID_DT_REPORT";
}

structs! {
    table STRUCTS, from "Linux 6.12, drivers/hid/hid-hyperv.c; Linux 6.12, include/linux/hid.h";

    /// The beginning of every message.
    pub struct HidHeader = "synthhid_msg_hdr", size 8 {
        /// A [`MessageType`].
        message_type: U32 = 0 "type",
        /// Bytes after the header.
        size: U32 = 4,
    }

    /// PROTOCOL_REQUEST.
    pub struct ProtocolRequest = "synthhid_protocol_request", size 12 {
        /// [`MessageType::PROTOCOL_REQUEST`].
        header: HidHeader = 0,
        /// [`VERSION`].
        version: U32 = 8 "version_requested",
    }

    /// PROTOCOL_RESPONSE.
    pub struct ProtocolResponse = "synthhid_protocol_response", size 13 {
        /// [`MessageType::PROTOCOL_RESPONSE`].
        header: HidHeader = 0,
        /// The version that was asked for.
        version: U32 = 8 "version_requested",
        /// 1: the host speaks it.
        approved: u8 = 12,
    }

    /// What identifies the device.
    pub struct Attributes = "hv_input_dev_info", size 32 {
        /// Bytes of this structure.
        size: U32 = 0,
        /// USB vendor.
        vendor: U16 = 4,
        /// USB product.
        product: U16 = 6,
        /// Version of the product.
        version: U16 = 8,
        /// Zero.
        reserved: [U16; 11] = 10,
    }

    /// A HID descriptor, with one descriptor below it.
    pub struct HidDescriptor = "hid_descriptor", size 9 {
        /// Bytes of this structure.
        length: u8 = 0 "bLength",
        /// [`HID`].
        descriptor_type: u8 = 1 "bDescriptorType",
        /// Version of the specification, in BCD.
        version: U16 = 2 "bcdHID",
        /// Country of the hardware, or 0.
        country: u8 = 4 "bCountryCode",
        /// Number of the descriptors below it: 1.
        descriptors: u8 = 5 "bNumDescriptors",
        /// [`REPORT`].
        report_type: u8 = 6 "rpt_desc.bDescriptorType",
        /// Bytes of the report descriptor.
        report_length: U16 = 7 "rpt_desc.wDescriptorLength",
    }

    /// DEVICE_INFO; the report descriptor follows.
    pub struct DeviceInfo = "synthhid_device_info", size 49 {
        /// [`MessageType::DEVICE_INFO`]; its size includes the report descriptor.
        header: HidHeader = 0,
        /// What identifies the device.
        attributes: Attributes = 8 "hid_dev_info",
        /// Its HID descriptor.
        descriptor: HidDescriptor = 40 "hid_descriptor",
    }

    /// DEVICE_INFO_ACK.
    pub struct DeviceInfoAck = "synthhid_device_info_ack", size 9 {
        /// [`MessageType::DEVICE_INFO_ACK`].
        header: HidHeader = 0,
        /// Zero.
        reserved: u8 = 8,
    }
}
