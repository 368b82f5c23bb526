//! Requests of a connected guest: GPADLs, and opening, changing and closing of channels.

use crate::bus::Bus;
use crate::control::Control;
use crate::device::{Connect, Opening};
use crate::devices::{DeviceSet, Devices, Part};
use crate::event::{Event, Reason};
use crate::gpadl::{Fate, State};
use crate::line::{Open, Shape, Stage, Stall, default_connection};
use crate::outbox::Pending;
use crate::parse::parse;
use crate::port::BusPort;
use crate::protocol::connection::MAX_CHANNELS;
use crate::protocol::{
    ChannelId, CloseChannel, FeatureFlags, GpadlBody, GpadlHeader, GpadlId, GpadlTeardown, ModifyChannel,
    NtStatus, OpenChannel, OpenChannelSignal, RelIdReleased, TARGET_VP_NONE, TlConnectRequest, Version,
};
use crate::ring::{Consumer, Producer};
use lock_api::RawMutex;

fn status(outcome: &Result<(), Reason>) -> NtStatus {
    if outcome.is_ok() { NtStatus::SUCCESS } else { NtStatus::UNSUCCESSFUL }
}

impl<R: RawMutex, D: DeviceSet, const GPADLS: usize, const WORDS: usize> Bus<R, D, GPADLS, WORDS> {
    /// Calls a function with a channel that the guest knows.
    fn known<P: BusPort, T>(
        &self,
        id: ChannelId,
        port: &P,
        work: impl FnOnce(&mut dyn Part, usize) -> Result<T, Reason>,
    ) -> Result<T, Reason>
    where
        D: Devices<P>,
    {
        let outcome = self.part(id, port, |part, line| {
            let known = part.lines().get(line).is_some_and(|line| line.is_known());
            if known { work(part, line) } else { Err(Reason::UnknownChannel) }
        });
        outcome.unwrap_or(Err(Reason::UnknownChannel))
    }

    pub(crate) fn gpadl_header<P: BusPort>(
        &self,
        control: &mut Control,
        payload: &[u8],
        port: &P,
    ) -> Result<(), Reason>
    where
        D: Devices<P>,
    {
        let header: GpadlHeader = parse(payload)?;
        let data = &payload[size_of::<GpadlHeader>()..];
        let outcome = self.known(header.channel, port, |_, _| Ok(())).and_then(|()| {
            let (ranges, bytes) = (header.range_count, header.range_buffer_len);
            self.gpadls.pool().begin(header.gpadl, header.channel.0, ranges, bytes, data)
        });
        gpadl_answer(control, header.channel, header.gpadl, outcome, port)?;
        self.look_at_gpadl(header.channel, header.gpadl, port);
        Ok(())
    }

    pub(crate) fn gpadl_body<P: BusPort>(
        &self,
        control: &mut Control,
        payload: &[u8],
        port: &P,
    ) -> Result<(), Reason> {
        let body: GpadlBody = parse(payload)?;
        let data = &payload[size_of::<GpadlBody>()..];
        // Without an incomplete GPADL there is no answer: the message does not name a channel. If the header was
        // invalid, it was answered then.
        let pool = self.gpadls.pool();
        let (_, gpadl) = pool.find(body.gpadl).ok_or(Reason::UnknownGpadl)?;
        if gpadl.state != State::Filling {
            return Err(Reason::GpadlBusy);
        }
        let outcome = pool.append(body.gpadl, data);
        gpadl_answer(control, ChannelId(gpadl.channel), body.gpadl, outcome, port)?;
        self.look_at_gpadl(ChannelId(gpadl.channel), body.gpadl, port);
        Ok(())
    }

    /// Tells an observer what is suspicious about a page list, if it is complete.
    fn look_at_gpadl<P: BusPort>(&self, channel: ChannelId, gpadl: GpadlId, port: &P) {
        if !port.sees_packets() {
            return;
        }
        let pool = self.gpadls.pool();
        if let Some((_, list)) = pool.find(gpadl).filter(|(_, list)| list.state == State::Ready) {
            for flaw in pool.flaws(&list, port.memory()).into_iter().flatten() {
                port.observe(Event::GpadlFlaw { channel, gpadl, flaw });
            }
        }
    }

    /// Handles GPADL_TEARDOWN. For rings in use it is answered when the channel is closed, for pages in use when the
    /// requests that use them are done. An unknown id counts as already torn down, so the guest is told so; but not if
    /// it belongs to another channel, because the answer names no channel.
    pub(crate) fn gpadl_teardown<P: BusPort>(
        &self,
        control: &mut Control,
        payload: &[u8],
        port: &P,
    ) -> Result<(), Reason>
    where
        D: Devices<P>,
    {
        let GpadlTeardown { channel, gpadl: id, .. } = parse(payload)?;
        let pool = self.gpadls.pool();
        let Some((at, gpadl)) = pool.find(id) else {
            control.outbox.push(Pending::GpadlTorndown(id));
            return Err(Reason::UnknownGpadl);
        };
        if gpadl.channel != channel.0 {
            return Err(Reason::UnknownGpadl);
        }
        if gpadl.state == State::Filling || gpadl.fate != Fate::Stay {
            return Err(Reason::GpadlBusy);
        }
        control.changes = true;
        // With the device's lock held, so no request starts to use it meanwhile.
        self.part(channel, port, |_, _| pool.set_state(at, gpadl.state, Fate::TearDown));
        Ok(())
    }

    /// Handles OPENCHANNEL. Every request that names a channel and an open id is answered; a host that stays silent if
    /// the channel is already open leaves the guest's thread waiting forever.
    pub(crate) fn open_channel<P: BusPort>(
        &self,
        control: &mut Control,
        payload: &[u8],
        features: FeatureFlags,
        port: &P,
    ) -> Result<(), Reason>
    where
        D: Devices<P>,
    {
        let request: OpenChannel = parse(payload)?;
        let outcome = self.known(request.channel, port, |part, line| {
            self.try_open(part, line, &request, payload, features, port)
        });
        control.outbox.push(Pending::OpenResult(request.channel, request.open_id, status(&outcome)));
        outcome
    }

    fn try_open<P: BusPort>(
        &self,
        part: &mut dyn Part,
        line: usize,
        request: &OpenChannel,
        payload: &[u8],
        features: FeatureFlags,
        port: &P,
    ) -> Result<(), Reason> {
        let id = request.channel;
        let this = &part.lines()[line];
        if this.is_rescinded() {
            return Err(Reason::Rescinded);
        }
        if this.open.is_some() {
            return Err(Reason::AlreadyOpen);
        }
        // A channel's number is below 2048 by construction.
        let mut flag = u16::try_from(id.0).map_err(|_| Reason::UnknownChannel)?;
        let mut connection = default_connection(id);
        if features.guest_specified_signal() {
            let signal: OpenChannelSignal = parse(payload)?;
            (flag, connection) = (signal.event_flag, signal.connection);
        }
        if u32::from(flag) >= MAX_CHANNELS {
            return Err(Reason::BadFlag);
        }
        if connection == 0 {
            return Err(Reason::BadConnection);
        }
        if request.target_vp != TARGET_VP_NONE && !port.has_vp(request.target_vp) {
            return Err(Reason::UnknownVp);
        }
        let open = self.claim_rings(request, flag, connection, port)?;
        let (pool, entry) = (self.gpadls.pool(), open.entry);
        let fate = pool.get(entry).map_or(Fate::Stay, |gpadl| gpadl.fate);
        pool.set_state(entry, State::Rings, fate);
        let opened = part.open(line, &Opening::new(request), open);
        match opened {
            Ok(()) => port.observe(Event::Opened { channel: id, vp: request.target_vp }),
            Err(_) => pool.set_state(entry, State::Ready, fate),
        }
        opened
    }

    /// Checks the rings and takes them over.
    fn claim_rings<P: BusPort>(
        &self,
        request: &OpenChannel,
        flag: u16,
        connection: u32,
        port: &P,
    ) -> Result<Open, Reason> {
        let (id, channel) = (request.ring_gpadl, request.channel.0);
        let pool = self.gpadls.pool();
        let found = pool.find(id).filter(|(_, gpadl)| gpadl.channel == channel);
        let (entry, gpadl) = found.ok_or(Reason::UnknownGpadl)?;
        if gpadl.state != State::Ready || gpadl.fate != Fate::Stay {
            return Err(Reason::GpadlBusy);
        }
        let words = pool.whole_pages(&gpadl).ok_or(Reason::BadRing)?;
        let split = request.downstream_page_offset;
        let (incoming, outgoing) =
            Shape::both(port.memory(), pool, words, split).map_err(|_| Reason::BadRing)?;
        Ok(Open {
            gpadl: id,
            entry,
            split,
            incoming,
            outgoing,
            vp: request.target_vp,
            flag,
            connection,
            consumer: Consumer::attach(&incoming.ring(port.memory(), pool)).map_err(|_| Reason::BadRing)?,
            producer: Producer::attach(&outgoing.ring(port.memory(), pool)).map_err(|_| Reason::BadRing)?,
            live: false,
            corrupt: false,
            reserved: 0,
            wanted: 0,
            stall: Stall::None,
            signal: false,
            shown: false,
        })
    }

    /// Handles CLOSECHANNEL, which has no answer. A device's first channel takes its sub-channels with it.
    pub(crate) fn close_channel<P: BusPort>(
        &self,
        control: &mut Control,
        payload: &[u8],
        port: &P,
    ) -> Result<(), Reason>
    where
        D: Devices<P>,
    {
        let CloseChannel { channel: id, .. } = parse(payload)?;
        control.changes = true;
        self.known(id, port, |part, line| {
            let this = &part.lines()[line];
            if this.open.is_none() {
                // The guest's driver may close a channel before it learns that it is rescinded.
                return if this.is_rescinded() { Ok(()) } else { Err(Reason::NotOpen) };
            }
            self.close(part, line);
            port.observe(Event::Closed { channel: id });
            if line == 0 {
                rescind_subchannels(part);
            }
            Ok(())
        })
    }

    /// Handles MODIFYCHANNEL. From version 5.3 on it is answered.
    pub(crate) fn modify_channel<P: BusPort>(
        &self,
        control: &mut Control,
        payload: &[u8],
        version: Version,
        port: &P,
    ) -> Result<(), Reason>
    where
        D: Devices<P>,
    {
        let request: ModifyChannel = parse(payload)?;
        let outcome = if request.target_vp == TARGET_VP_NONE {
            Err(Reason::NoInterrupt)
        } else {
            self.known(request.channel, port, |part, line| try_modify(part, line, request.target_vp, port))
        };
        if version >= Version::V5_3 {
            control.outbox.push(Pending::ModifyResponse(request.channel, status(&outcome)));
        }
        outcome
    }

    /// Handles RELID_RELEASED: the end of a rescinded channel. A guest that could not use an offer sends it too, and is
    /// not offered the channel again before its next contact.
    pub(crate) fn relid_released<P: BusPort>(
        &self,
        control: &mut Control,
        payload: &[u8],
        port: &P,
    ) -> Result<(), Reason>
    where
        D: Devices<P>,
    {
        let RelIdReleased { channel: id, .. } = parse(payload)?;
        control.changes = true;
        self.known(id, port, |part, line| {
            let this = &mut part.lines()[line];
            match this.stage {
                Stage::Known if this.open.is_some() => return Err(Reason::AlreadyOpen),
                // The guest has not been told yet that the channel is rescinded.
                Stage::Leaving if this.open.is_some() || this.in_flight > 0 => {
                    return Err(Reason::AlreadyOpen);
                }
                // Nor is a sub-channel, as long as its device requests it.
                Stage::Known if this.lasting || this.offer.subchannel_index > 0 => {
                    this.stage = Stage::Declined;
                }
                _ => part.release(line),
            }
            // Lists that the guest has failed to tear down are removed; with requests in flight, when those are done.
            let pool = self.gpadls.pool();
            for (at, gpadl) in pool.iter().filter(|(_, gpadl)| gpadl.channel == id.0) {
                pool.set_state(at, gpadl.state, Fate::Drop);
            }
            port.observe(Event::Released { channel: id });
            Ok(())
        })
    }

    /// Handles TL_CONNECT_REQUEST: passes it to the socket device. A host without sockets says so from version 4.1 on.
    pub(crate) fn connect_request<P: BusPort>(
        &self,
        control: &mut Control,
        payload: &[u8],
        version: Version,
        port: &P,
    ) -> Result<(), Reason>
    where
        D: Devices<P>,
    {
        let TlConnectRequest { endpoint, service, .. } = parse(payload)?;
        let mut outcome = None;
        self.parts(port, |part, _| {
            if outcome.is_none() {
                outcome = part.connect(&Connect { endpoint, service });
            }
        });
        let outcome = outcome.unwrap_or(Err(Reason::Unsupported));
        if outcome.is_err() && version >= Version::V4_1 {
            control.outbox.push(Pending::ConnectResult(endpoint, service, NtStatus::CONNECTION_REFUSED));
        }
        outcome
    }
}

/// Rescinds the sub-channels of a first channel that was closed: its device must request them again.
fn rescind_subchannels(part: &mut dyn Part) {
    for line in 1..part.reach() {
        let this = &mut part.lines()[line];
        if this.offer.subchannel_index == 0 {
            continue;
        }
        match this.stage {
            Stage::Known => this.stage = Stage::Leaving,
            Stage::Hidden | Stage::Declined => part.release(line),
            _ => {}
        }
    }
}

fn try_modify<P: BusPort>(part: &mut dyn Part, line: usize, vp: u32, port: &P) -> Result<(), Reason> {
    let this = &mut part.lines()[line];
    if this.is_rescinded() {
        return Err(Reason::Rescinded);
    }
    let open = this.open.as_mut().ok_or(Reason::NotOpen)?;
    if open.vp == TARGET_VP_NONE {
        return Err(Reason::NoInterrupt);
    }
    if !port.has_vp(vp) {
        return Err(Reason::UnknownVp);
    }
    open.vp = vp;
    Ok(())
}

fn gpadl_answer<P: BusPort>(
    control: &mut Control,
    channel: ChannelId,
    gpadl: GpadlId,
    outcome: Result<Option<u32>, Reason>,
    port: &P,
) -> Result<(), Reason> {
    match outcome {
        Ok(None) => Ok(()),
        Ok(Some(pages)) => {
            control.outbox.push(Pending::GpadlCreated(channel, gpadl, NtStatus::SUCCESS));
            port.observe(Event::GpadlCreated { channel, gpadl, pages });
            Ok(())
        }
        Err(reason) => {
            control.outbox.push(Pending::GpadlCreated(channel, gpadl, NtStatus::UNSUCCESSFUL));
            Err(reason)
        }
    }
}
