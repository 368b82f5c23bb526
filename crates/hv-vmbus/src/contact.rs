//! Start and end of a connection.

use crate::bus::Bus;
use crate::control::{Connection, Control, Ending};
use crate::devices::{DeviceSet, Devices};
use crate::event::{Event, Reason};
use crate::line::Stage;
use crate::optional::Optional;
use crate::outbox::ContactAnswer;
use crate::parse::parse;
use crate::port::{BusFaults as _, BusPort};
use crate::protocol::connection::MESSAGE_CONNECTION_ID;
use crate::protocol::{ConnectionState, FeatureFlags, Guid, InitiateContact, InitiateContactClient, Version};
use crate::worker::SINT;
use core::sync::atomic::Ordering;
use hv_tlfs::synic::SINT_COUNT;
use lock_api::RawMutex;

/// Features that the server implements.
const KNOWN_FEATURES: FeatureFlags = FeatureFlags(0).with_client_id(true).with_guest_specified_signal(true);

impl<R: RawMutex, D: DeviceSet, const GPADLS: usize, const WORDS: usize> Bus<R, D, GPADLS, WORDS> {
    /// Handles INITIATE_CONTACT. It ends an existing connection, whatever the outcome of the new one, and is always
    /// answered.
    pub(crate) fn contact<P: BusPort>(
        &self,
        control: &mut Control,
        connection: u32,
        payload: &[u8],
        port: &P,
    ) -> Result<(), Reason>
    where
        D: Devices<P>,
    {
        let contact: InitiateContact = parse(payload)?;
        self.disconnect(control, port);

        let version = contact.version;
        // Guests of the old connection can choose neither SINT nor VTL, nor can those of older versions, whose field
        // holds an address.
        let named = connection != MESSAGE_CONNECTION_ID;
        let sint = if named && version >= Version::V5_0 { contact.target_info.sint() } else { SINT };
        let vtl = if named && version >= Version::V5_1 { contact.target_info.vtl() } else { 0 };
        let asked =
            if version >= Version::V6_0 { contact.target_info.features() } else { FeatureFlags::default() };
        let known_vp = port.has_vp(contact.target_vp);

        let mut answer = ContactAnswer {
            vp: if known_vp { contact.target_vp } else { 0 },
            sint: if usize::from(sint) < SINT_COUNT { sint } else { SINT },
            version: None,
            state: ConnectionState::SUCCESSFUL,
            features: FeatureFlags(asked.0 & self.config().features.0 & KNOWN_FEATURES.0),
            message_connection: self.config().message_connection,
        };
        control.vp = answer.vp;
        let mut next = None;

        let outcome = if !known_vp {
            Err(Reason::UnknownVp)
        } else if sint != SINT {
            Err(Reason::WrongSint)
        } else if vtl != 0 {
            Err(Reason::WrongVtl)
        } else if !self.config().speaks(version) || port.faults().refuses(&Guid::ZERO, version.0) {
            Ok(())
        } else {
            answer.version = Some(version);
            let outcome = judge(&contact, asked, payload);
            if outcome.is_err() {
                answer.state = ConnectionState::UNKNOWN_FAILURE;
            } else {
                next = Some(Connection { version, features: answer.features, offers_requested: false });
            }
            outcome
        };
        self.end(control, Ending::Contact(answer, next));
        port.observe(Event::Contact { version, accepted: next.is_some(), vp: contact.target_vp });
        outcome
    }

    /// Handles UNLOAD. A guest without a connection is answered too: a kernel that starts after a crash may send it.
    pub(crate) fn unload<P: BusPort>(&self, control: &mut Control, port: &P)
    where
        D: Devices<P>,
    {
        self.disconnect(control, port);
        self.end(control, Ending::Unload);
        port.observe(Event::Unloaded);
    }

    fn end(&self, control: &mut Control, ending: Ending) {
        control.ending = Optional::Some(ending);
        self.shared.ending.store(true, Ordering::Release);
    }

    /// Ends the connection: closes all channels, and drops everything pending for the guest. Its page lists are kept
    /// until nothing is in flight.
    fn disconnect<P: BusPort>(&self, control: &mut Control, port: &P)
    where
        D: Devices<P>,
    {
        control.connection = Optional::None;
        control.outbox.clear();
        control.offers_end = false;
        self.shared.chosen_connections.store(false, Ordering::Release);
        self.parts_in_use(port, |part, at| {
            for line in (0..part.reach()).rev() {
                if part.lines()[line].open.is_some() {
                    port.observe(Event::Closed { channel: at.id(line) });
                    self.close(part, line);
                }
                let this = &mut part.lines()[line];
                match this.stage {
                    Stage::Vacant => {}
                    Stage::Hidden | Stage::Known | Stage::Declined if this.lasting => {
                        this.stage = Stage::Hidden;
                    }
                    _ => part.release(line),
                }
            }
        });
    }
}

/// Checks the contact of a supported version.
fn judge(contact: &InitiateContact, asked: FeatureFlags, payload: &[u8]) -> Result<(), Reason> {
    if (contact.monitor_page_in == 0) != (contact.monitor_page_out == 0) {
        return Err(Reason::OneMonitorPage);
    }
    if asked.client_id() {
        parse::<InitiateContactClient>(payload)?;
    }
    Ok(())
}
