//! Keyboard: keystrokes from the host, as scan codes of set 1.
//!
//! The channel is not a pipe: a packet is a message, which begins with a [`KeyboardHeader`]. The guest asks for a
//! version with [`ProtocolRequest`], and the host answers with [`ProtocolResponse`]. From then on the host sends a
//! [`Keystroke`] for each key that is pressed or released. Linux hands their codes to its driver for AT keyboards.

open_enum! {
    table MESSAGE_TYPE, from "Linux 6.12, drivers/input/serio/hyperv-keyboard.c";
    names [MESSAGES];
    /// Kind of a message.
    pub struct MessageType(u32) = "synth_kbd_msg_type";
}

constants! {
    table MESSAGES, kind "keyboard-message", from "Linux 6.12, drivers/input/serio/hyperv-keyboard.c", impl MessageType;

    /// From the guest, first: [`ProtocolRequest`].
    PROTOCOL_REQUEST = 1, "SYNTH_KBD_PROTOCOL_REQUEST";
    /// The answer to it: [`ProtocolResponse`].
    PROTOCOL_RESPONSE = 2, "SYNTH_KBD_PROTOCOL_RESPONSE";
    /// From the host: [`Keystroke`].
    EVENT = 3, "SYNTH_KBD_EVENT";
    /// From the guest: which of its lights are on. Linux does not send it.
    LED_INDICATORS = 4, "SYNTH_KBD_LED_INDICATORS";
}

constants! {
    table VERSIONS, kind "keyboard-version", from "Linux 6.12, drivers/input/serio/hyperv-keyboard.c";

    /// Version 1.0, the only one: major number in the high half.
    pub const VERSION: u32 = 0x1_0000, "SYNTH_KBD_VERSION";
}

constants! {
    table STATUSES, kind "keyboard-status", from "Linux 6.12, drivers/input/serio/hyperv-keyboard.c";

    /// In [`ProtocolResponse::status`]: the host speaks the version.
    pub const ACCEPTED: u32 = 1, "PROTOCOL_ACCEPTED";
}

constants! {
    table FLAGS, kind "keyboard-flag", from "Linux 6.12, drivers/input/serio/hyperv-keyboard.c";

    /// In [`Keystroke::flags`]: the code is a UTF-16 unit. Linux takes it for a scan code anyway.
    pub const UNICODE: u32 = 1 << 0, "IS_UNICODE";
    /// The key is released.
    pub const RELEASED: u32 = 1 << 1, "IS_BREAK";
    /// The prefix 0xe0 belongs before the code.
    pub const PREFIX_E0: u32 = 1 << 2, "IS_E0";
    /// The prefix 0xe1 belongs before the code.
    pub const PREFIX_E1: u32 = 1 << 3, "IS_E1";
}

structs! {
    table STRUCTS, from "Linux 6.12, drivers/input/serio/hyperv-keyboard.c";

    /// The beginning of every message.
    pub struct KeyboardHeader = "synth_kbd_msg_hdr", size 4 {
        /// Kind of the message.
        message_type: MessageType = 0 "type",
    }

    /// PROTOCOL_REQUEST.
    pub struct ProtocolRequest = "synth_kbd_protocol_request", size 8 {
        /// [`MessageType::PROTOCOL_REQUEST`].
        header: KeyboardHeader = 0,
        /// [`VERSION`].
        version: u32 = 4 "version_requested",
    }

    /// PROTOCOL_RESPONSE.
    pub struct ProtocolResponse = "synth_kbd_protocol_response", size 8 {
        /// [`MessageType::PROTOCOL_RESPONSE`].
        header: KeyboardHeader = 0,
        /// [`ACCEPTED`], or 0.
        status: u32 = 4 "proto_status",
    }

    /// EVENT: a key is pressed or released.
    pub struct Keystroke = "synth_kbd_keystroke", size 12 {
        /// [`MessageType::EVENT`].
        header: KeyboardHeader = 0,
        /// The key's make code in set 1, without the bit of a break.
        make_code: u16 = 4,
        /// Zero.
        reserved: u16 = 6 "reserved0",
        /// Sum of the flags of this module.
        flags: u32 = 8 "info",
    }
}
