//! What the guest sends: messages, each to the file that handles its kind, and signals, each to its device.

use crate::bus::Bus;
use crate::control::{Connection, Control};
use crate::devices::{DeviceSet, Devices, Node};
use crate::error::Refused;
use crate::event::{Event, Reason};
use crate::io::{Cx, Position};
use crate::line::default_connection;
use crate::port::BusPort;
use crate::protocol::{ChannelId, MessageHeader, MessageType, Version};
use core::sync::atomic::Ordering;
use lock_api::RawMutex;
use zerocopy::FromBytes as _;

impl<R: RawMutex, D: DeviceSet, const GPADLS: usize, const WORDS: usize> Bus<R, D, GPADLS, WORDS> {
    /// Handles a message that the guest posted to `connection`. The answers go to `port` before this returns, except
    /// those that wait for requests in flight.
    ///
    /// # Errors
    /// The status with which the hypercall fails; nothing has changed. An invalid message is not an error here, since
    /// Hyper-V accepts it as well: it is counted, observed, and answered if the protocol has an answer.
    pub fn message<P: BusPort>(&self, connection: u32, payload: &[u8], port: &P) -> Result<(), Refused>
    where
        D: Devices<P>,
    {
        if !self.config().has_connection(connection) {
            return Err(Refused::NoConnection);
        }
        let mut control = self.control.lock();
        if self.has_pending() {
            self.settle(&mut control, port);
        }
        let kind =
            MessageHeader::read_from_prefix(payload).map_or(MessageType::INVALID, |(h, _)| h.message_type);
        let ends = matches!(kind, MessageType::INITIATE_CONTACT | MessageType::UNLOAD);
        // A message has at most one answer.
        if !ends && control.outbox.room() == 0 {
            return Err(Refused::Busy);
        }
        if let Err(reason) = self.dispatch(&mut control, connection, kind, payload, port) {
            control.rejected += 1;
            port.observe(Event::Rejected { message: kind, reason });
        }
        self.settle(&mut control, port);
        drop(control);
        self.run_due(port);
        Ok(())
    }

    fn dispatch<P: BusPort>(
        &self,
        control: &mut Control,
        connection: u32,
        kind: MessageType,
        payload: &[u8],
        port: &P,
    ) -> Result<(), Reason>
    where
        D: Devices<P>,
    {
        if payload.len() < size_of::<MessageHeader>() {
            return Err(Reason::TooShort);
        }
        match kind {
            MessageType::INITIATE_CONTACT => return self.contact(control, connection, payload, port),
            MessageType::UNLOAD => {
                self.unload(control, port);
                return Ok(());
            }
            _ => {}
        }
        let Some(Connection { version, features, .. }) = control.connection.get() else {
            return Err(Reason::NotConnected);
        };
        match kind {
            MessageType::REQUEST_OFFERS => request_offers(control),
            MessageType::GPADL_HEADER => self.gpadl_header(control, payload, port),
            MessageType::GPADL_BODY => self.gpadl_body(control, payload, port),
            MessageType::GPADL_TEARDOWN => self.gpadl_teardown(control, payload, port),
            MessageType::OPEN_CHANNEL => self.open_channel(control, payload, features, port),
            MessageType::CLOSE_CHANNEL => self.close_channel(control, payload, port),
            MessageType::MODIFY_CHANNEL if version >= Version::V4_1 => {
                self.modify_channel(control, payload, version, port)
            }
            MessageType::RELID_RELEASED => self.relid_released(control, payload, port),
            MessageType::TL_CONNECT_REQUEST => self.connect_request(control, payload, version, port),
            MessageType::OPEN_RESERVED_CHANNEL | MessageType::CLOSE_RESERVED_CHANNEL => {
                Err(Reason::Unsupported)
            }
            _ => Err(Reason::Unknown),
        }
    }

    /// Handles a signal of the guest to an event connection: it has put packets into a ring, or made room in one.
    ///
    /// # Errors
    /// [`Refused::NoConnection`]: no open channel has this connection.
    #[inline]
    pub fn signal<P: BusPort>(&self, connection: u32, port: &P) -> Result<(), Refused>
    where
        D: Devices<P>,
    {
        let cx = self.cx(port);
        // A channel's default connection identifies it.
        let line = (connection ^ default_connection(ChannelId(0))).wrapping_sub(1) as usize;
        let mut taken = line < D::LINES && self.devices.signal(line, connection, Position::FIRST, &cx);
        if !taken && self.shared.chosen_connections.load(Ordering::Acquire) {
            taken = self.signal_chosen(connection, &cx);
        }
        self.attend(port);
        if taken { Ok(()) } else { Err(Refused::NoConnection) }
    }

    /// Does the same for a connection chosen by the guest: the channels are searched, without a lock.
    #[cold]
    fn signal_chosen<P: BusPort>(&self, connection: u32, cx: &Cx<'_, P>) -> bool
    where
        D: Devices<P>,
    {
        let mut found = None;
        self.devices.each(Position::FIRST, &mut |node: &dyn Node<P>, at| {
            if found.is_none() && connection != 0 {
                found = node.line_of(connection).map(|line| usize::from(at.line) + line);
            }
        });
        found.is_some_and(|line| self.devices.signal(line, connection, Position::FIRST, cx))
    }
}

fn request_offers(control: &mut Control) -> Result<(), Reason> {
    let again =
        control.connection.as_mut().is_some_and(|c| core::mem::replace(&mut c.offers_requested, true));
    // No offer is sent twice, since Linux warns about that; but a guest that waits for the end of the offers gets it.
    control.offers_end = true;
    control.changes = true;
    if again { Err(Reason::OffersAlreadySent) } else { Ok(()) }
}
