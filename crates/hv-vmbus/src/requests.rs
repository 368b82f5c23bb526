//! What a connected guest asks for: GPADLs, and channels opened, changed and closed.

use crate::channel::{Open, Rings, State};
use crate::device::Device;
use crate::event::{Event, Reason};
use crate::gpadl;
use crate::outbox::Owed;
use crate::port::Port;
use crate::protocol::connection::MAX_CHANNELS;
use crate::protocol::{
    ChannelId, CloseChannel, FeatureFlags, GpadlBody, GpadlHeader, GpadlId, GpadlTeardown, ModifyChannel,
    NtStatus, OpenChannel, OpenChannelSignal, RelIdReleased, TARGET_VP_NONE, TlConnectRequest, Version,
};
use crate::server::{Server, parse};
use crate::service::attach;

fn status(outcome: &Result<(), Reason>) -> NtStatus {
    if outcome.is_ok() { NtStatus::SUCCESS } else { NtStatus::UNSUCCESSFUL }
}

impl<const CHANNELS: usize, const GPADLS: usize, const WORDS: usize> Server<CHANNELS, GPADLS, WORDS> {
    pub(crate) fn gpadl_header<P: Port>(&mut self, payload: &[u8], port: &mut P) -> Result<(), Reason> {
        let header: GpadlHeader = parse(payload)?;
        let data = &payload[size_of::<GpadlHeader>()..];
        let outcome = self.channel(header.channel).map(|_| ()).and_then(|()| {
            self.gpadls.begin(header.gpadl, header.channel, header.range_count, header.range_buffer_len, data)
        });
        self.gpadl_answer(header.channel, header.gpadl, outcome, port)
    }

    pub(crate) fn gpadl_body<P: Port>(&mut self, payload: &[u8], port: &mut P) -> Result<(), Reason> {
        let body: GpadlBody = parse(payload)?;
        let data = &payload[size_of::<GpadlBody>()..];
        // Without a GPADL being filled there is no answer: the message does not name a channel. If the header had one
        // that was wrong, it was answered then.
        let gpadl = self.gpadls.get(body.gpadl).ok_or(Reason::UnknownGpadl)?;
        if gpadl.state != gpadl::State::Filling {
            return Err(Reason::GpadlBusy);
        }
        let channel = gpadl.channel;
        let outcome = self.gpadls.append(body.gpadl, data);
        self.gpadl_answer(channel, body.gpadl, outcome, port)
    }

    fn gpadl_answer<P: Port>(
        &mut self,
        channel: ChannelId,
        gpadl: GpadlId,
        outcome: Result<Option<u32>, Reason>,
        port: &mut P,
    ) -> Result<(), Reason> {
        match outcome {
            Ok(None) => Ok(()),
            Ok(Some(pages)) => {
                self.outbox.push(Owed::GpadlCreated(channel, gpadl, NtStatus::SUCCESS));
                port.observe(Event::GpadlCreated { channel, gpadl, pages });
                Ok(())
            }
            Err(reason) => {
                self.outbox.push(Owed::GpadlCreated(channel, gpadl, NtStatus::UNSUCCESSFUL));
                Err(reason)
            }
        }
    }

    /// GPADL_TEARDOWN. Of rings in use it is answered when the channel is closed. A name that nobody knows is torn down
    /// already, so the guest is told so; but not if it is another channel's, because the answer names no channel.
    pub(crate) fn gpadl_teardown<P: Port>(&mut self, payload: &[u8], port: &mut P) -> Result<(), Reason> {
        let GpadlTeardown { channel, gpadl: id, .. } = parse(payload)?;
        let Some(gpadl) = self.gpadls.get_mut(id) else {
            self.outbox.push(Owed::GpadlTorndown(id));
            return Err(Reason::UnknownGpadl);
        };
        if gpadl.channel != channel {
            return Err(Reason::UnknownGpadl);
        }
        match gpadl.state {
            gpadl::State::Ready => {
                self.torndown(id, port);
                Ok(())
            }
            gpadl::State::InUse => {
                gpadl.state = gpadl::State::TearingDown;
                Ok(())
            }
            gpadl::State::Filling | gpadl::State::TearingDown => Err(Reason::GpadlBusy),
        }
    }

    fn torndown<P: Port>(&mut self, id: GpadlId, port: &mut P) {
        self.gpadls.remove(id);
        self.outbox.push(Owed::GpadlTorndown(id));
        port.observe(Event::GpadlTorndown { gpadl: id });
    }

    /// OPENCHANNEL. Every request that names a channel and an open id is answered; hosts that stay silent where the
    /// channel is open already leave the guest's thread waiting for ever.
    pub(crate) fn open_channel<P: Port>(
        &mut self,
        payload: &[u8],
        features: FeatureFlags,
        port: &mut P,
    ) -> Result<(), Reason> {
        let request: OpenChannel = parse(payload)?;
        let outcome = self.try_open(&request, payload, features, port);
        self.outbox.push(Owed::OpenResult(request.channel, request.open_id, status(&outcome)));
        outcome
    }

    fn try_open<P: Port>(
        &mut self,
        request: &OpenChannel,
        payload: &[u8],
        features: FeatureFlags,
        port: &mut P,
    ) -> Result<(), Reason> {
        let id = request.channel;
        let channel = &*self.channel(id)?;
        match channel.state {
            State::Closed => {}
            State::Open(_) => return Err(Reason::AlreadyOpen),
            State::Rescinded => return Err(Reason::Rescinded),
        }
        // A channel's number is below 2048 by construction.
        let mut flag = u16::try_from(id.0).map_err(|_| Reason::UnknownChannel)?;
        let mut connection = channel.default_connection();
        if features.guest_specified_signal() {
            let signal: OpenChannelSignal = parse(payload)?;
            (flag, connection) = (signal.event_flag, signal.connection);
        }
        if u32::from(flag) >= MAX_CHANNELS {
            return Err(Reason::BadFlag);
        }
        if request.target_vp != TARGET_VP_NONE && !port.has_vp(request.target_vp) {
            return Err(Reason::UnknownVp);
        }
        let device = Device::new(channel.offer.device);
        let rings = self.claim_rings(request, port)?;
        let open = Open {
            gpadl: request.ring_gpadl,
            split: request.downstream_page_offset,
            vp: request.target_vp,
            flag,
            connection,
            rings,
            device,
            spoilt: false,
            unfinished: false,
        };
        self.channel(id)?.state = State::Open(open);
        port.observe(Event::Opened { channel: id, vp: request.target_vp });
        Ok(())
    }

    /// Checks the rings, takes them over, and marks their GPADL as in use.
    fn claim_rings<P: Port>(&mut self, request: &OpenChannel, port: &P) -> Result<Rings, Reason> {
        let id = request.ring_gpadl;
        let gpadl =
            self.gpadls.get(id).filter(|g| g.channel == request.channel).ok_or(Reason::UnknownGpadl)?;
        if gpadl.state != gpadl::State::Ready {
            return Err(Reason::GpadlBusy);
        }
        let pages = self.gpadls.whole_pages(id).ok_or(Reason::BadRing)?;
        let rings = attach(port.memory(), pages, request.downstream_page_offset)?;
        if let Some(gpadl) = self.gpadls.get_mut(id) {
            gpadl.state = gpadl::State::InUse;
        }
        Ok(rings)
    }

    pub(crate) fn close_channel<P: Port>(&mut self, payload: &[u8], port: &mut P) -> Result<(), Reason> {
        let CloseChannel { channel: id, .. } = parse(payload)?;
        let channel = self.channel(id)?;
        let gpadl = match &channel.state {
            State::Open(open) => open.gpadl,
            State::Closed => return Err(Reason::NotOpen),
            // The guest's driver may close what it has not yet heard to be gone.
            State::Rescinded => return Ok(()),
        };
        channel.state = State::Closed;
        port.observe(Event::Closed { channel: id });
        match self.gpadls.get_mut(gpadl) {
            Some(gpadl) if gpadl.state == gpadl::State::InUse => gpadl.state = gpadl::State::Ready,
            Some(_) => self.torndown(gpadl, port),
            None => {}
        }
        Ok(())
    }

    /// Gives a rescinded channel's rings back to the guest.
    pub(crate) fn release_rings(&mut self, id: ChannelId) {
        let Some(gpadl) = self.gpadls.rings_of(id) else { return };
        match gpadl.state {
            gpadl::State::InUse => gpadl.state = gpadl::State::Ready,
            gpadl::State::TearingDown => {
                let id = gpadl.id;
                self.gpadls.remove(id);
                self.outbox.push(Owed::GpadlTorndown(id));
            }
            gpadl::State::Filling | gpadl::State::Ready => {}
        }
    }

    /// MODIFYCHANNEL. From version 5.3 on it is answered.
    pub(crate) fn modify_channel<P: Port>(
        &mut self,
        payload: &[u8],
        version: Version,
        port: &mut P,
    ) -> Result<(), Reason> {
        let request: ModifyChannel = parse(payload)?;
        let outcome = self.try_modify(&request, port);
        if version >= Version::V5_3 {
            self.outbox.push(Owed::ModifyResponse(request.channel, status(&outcome)));
        }
        outcome
    }

    fn try_modify<P: Port>(&mut self, request: &ModifyChannel, port: &mut P) -> Result<(), Reason> {
        if request.target_vp == TARGET_VP_NONE {
            return Err(Reason::NoInterrupt);
        }
        let open = match &mut self.channel(request.channel)?.state {
            State::Open(open) => open,
            State::Closed => return Err(Reason::NotOpen),
            State::Rescinded => return Err(Reason::Rescinded),
        };
        if open.vp == TARGET_VP_NONE {
            return Err(Reason::NoInterrupt);
        }
        if !port.has_vp(request.target_vp) {
            return Err(Reason::UnknownVp);
        }
        open.vp = request.target_vp;
        Ok(())
    }

    /// RELID_RELEASED: the end of a rescinded channel. A guest that could not use an offer sends it too, and is not
    /// offered the channel again before its next contact.
    pub(crate) fn relid_released<P: Port>(&mut self, payload: &[u8], port: &mut P) -> Result<(), Reason> {
        let RelIdReleased { channel: id, .. } = parse(payload)?;
        let channel = self.channel(id)?;
        match channel.state {
            State::Open(_) => return Err(Reason::AlreadyOpen),
            State::Closed => channel.offered = false,
            State::Rescinded => self.free_channel(id),
        }
        self.gpadls.remove_channel(id);
        port.observe(Event::Released { channel: id });
        Ok(())
    }

    /// TL_CONNECT_REQUEST: the host has no sockets, and says so from version 4.1 on.
    pub(crate) fn connect_request(&mut self, payload: &[u8], version: Version) -> Result<(), Reason> {
        let TlConnectRequest { endpoint, service, .. } = parse(payload)?;
        if version >= Version::V4_1 {
            self.outbox.push(Owed::ConnectResult(endpoint, service, NtStatus::CONNECTION_REFUSED));
        }
        Err(Reason::Unsupported)
    }
}
