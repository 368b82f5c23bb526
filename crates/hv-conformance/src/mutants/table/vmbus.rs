//! The host half of VMBus.

mutants! {
    "hv-partition/src/port.rs" {
        vmbus_message_type "VMBus's messages are of another type.":
            "MessageType(MESSAGE_TYPE)" => "MessageType(MESSAGE_TYPE + 1)";
        vmbus_sint_wrong "VMBus sends to another SINT.":
            "sint" in "target, sint, kind" => "sint ^ 1";
    }

    "hv-vmbus/src/contact.rs" {
        contact_answered_on_vp_0 "The answer to a contact goes to VP 0.":
            "if known_vp { contact.target_vp } else { 0 }" => "0";
        any_version_spoken "A host speaks any version of VMBus.":
            "!self.config().speaks(version)" => "false";
        unload_unanswered "UNLOAD is not answered.":
            "control.outbox.push(Pending::UnloadResponse)" => "false";
        contact_unanswered "INITIATE_CONTACT is not answered.":
            "control.outbox.push(Pending::Contact(answer))" => "false";
        sint_of_contact_refused "A contact on a connection of version 5 has to name no SINT.":
            "sint != SINT" => "sint != 0";
    }

    "hv-vmbus/src/outbox.rs" {
        no_version_supported "No version is supported.":
            "answer.response.supported = 1" => "answer.response.supported = 0";
        connection_state_wrong "A contact that succeeds tells of a failure.":
            "answer.response.connection_state = self.state"
            => "answer.response.connection_state = ConnectionState::UNKNOWN_FAILURE";
        message_connection_wrong "The answer names a connection that is not there.":
            "self.message_connection" => "self.message_connection + 1";
    }

    "hv-vmbus/src/config.rs" {
        old_connection_unknown "Connection 1 takes no message.":
            "matches!(connection, connection::MESSAGE_CONNECTION_ID | connection::MESSAGE_CONNECTION_ID_4)"
            => "(connection == connection::MESSAGE_CONNECTION_ID_4)";
    }

    "hv-vmbus/src/settle.rs" {
        offers_never_end "Nothing follows the last offer.":
            "post(port, control.vp, SINT, MessageType::ALL_OFFERS_DELIVERED, &done)" => "true";
    }
}
