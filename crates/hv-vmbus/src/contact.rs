//! The beginning and the end of a connection.

use crate::event::{Event, Reason};
use crate::outbox::{ContactAnswer, Owed};
use crate::port::Port;
use crate::protocol::connection::MESSAGE_CONNECTION_ID;
use crate::protocol::{ConnectionState, FeatureFlags, InitiateContact, InitiateContactClient, Version};
use crate::server::{Connection, SINT, Server, parse};

/// Features that the server knows how to serve.
const KNOWN_FEATURES: FeatureFlags = FeatureFlags(0).with_client_id(true).with_guest_specified_signal(true);

/// SINTs of a VP.
const SINTS: u8 = 16;

impl<const CHANNELS: usize, const GPADLS: usize, const WORDS: usize> Server<CHANNELS, GPADLS, WORDS> {
    /// INITIATE_CONTACT. It ends a standing connection, whatever becomes of the new one, and is always answered.
    pub(crate) fn contact<P: Port>(
        &mut self,
        connection: u32,
        payload: &[u8],
        port: &mut P,
    ) -> Result<(), Reason> {
        let contact: InitiateContact = parse(payload)?;
        self.end_connection(port);

        let version = contact.version;
        // Guests of the old connection can name neither SINT nor VTL; nor can those of older versions, whose field
        // holds an address.
        let named = connection != MESSAGE_CONNECTION_ID;
        let sint = if named && version >= Version::V5_0 { contact.target_info.sint() } else { SINT };
        let vtl = if named && version >= Version::V5_1 { contact.target_info.vtl() } else { 0 };
        let asked =
            if version >= Version::V6_0 { contact.target_info.features() } else { FeatureFlags::default() };
        let known_vp = port.has_vp(contact.target_vp);

        let mut answer = ContactAnswer {
            vp: if known_vp { contact.target_vp } else { 0 },
            sint: if sint < SINTS { sint } else { SINT },
            version: None,
            state: ConnectionState::SUCCESSFUL,
            features: FeatureFlags(asked.0 & self.config.features.0 & KNOWN_FEATURES.0),
            message_connection: self.config.message_connection,
        };
        self.vp = answer.vp;

        let outcome = if !known_vp {
            Err(Reason::UnknownVp)
        } else if sint != SINT {
            Err(Reason::WrongSint)
        } else if vtl != 0 {
            Err(Reason::WrongVtl)
        } else if !self.config.speaks(version) {
            Ok(())
        } else {
            answer.version = Some(version);
            let outcome = judge(&contact, asked, payload);
            if outcome.is_err() {
                answer.state = ConnectionState::UNKNOWN_FAILURE;
            } else {
                self.connection =
                    Some(Connection { version, features: answer.features, offers_requested: false });
            }
            outcome
        };
        self.outbox.push(Owed::Contact(answer));
        port.observe(Event::Contact { version, accepted: self.connection.is_some(), vp: contact.target_vp });
        outcome
    }

    /// UNLOAD. A guest without a connection is answered too: a kernel that starts after a crash may send it.
    pub(crate) fn unload<P: Port>(&mut self, port: &mut P) {
        self.end_connection(port);
        self.outbox.push(Owed::UnloadResponse);
        port.observe(Event::Unloaded);
    }

    fn end_connection<P: Port>(&mut self, port: &mut P) {
        for channel in self.channels.iter().flatten().filter(|c| c.open().is_some()) {
            port.observe(Event::Closed { channel: channel.id });
        }
        self.disconnect();
    }
}

/// What can be wrong with the contact of a version that the host speaks.
fn judge(contact: &InitiateContact, asked: FeatureFlags, payload: &[u8]) -> Result<(), Reason> {
    if (contact.monitor_page_in == 0) != (contact.monitor_page_out == 0) {
        return Err(Reason::OneMonitorPage);
    }
    if asked.client_id() {
        parse::<InitiateContactClient>(payload)?;
    }
    Ok(())
}
