//! Saved state of a slot, without its device's.

use crate::gpadl::{Pool, State};
use crate::image::Image;
use crate::io::Context;
use crate::line::{Line, Open, Shape, Stage, Stall};
use crate::optional::Optional;
use crate::port::BusPort;
use crate::protocol::GpadlId;
use crate::protocol::connection::MAX_CHANNELS;
use crate::ring::{Consumer, Producer};
use hv_memory::save::{Reader, RestoreError, Writer};
use hv_memory::{Deadline, GuestMemory};
use hv_tlfs::time::ReferenceTime;

/// Writes a device's name and its channels.
pub(super) fn save<P: BusPort>(name: [u8; 4], context: &Context<'_, P>, w: &mut Writer<'_>) {
    w.bytes(&name);
    w.u32(context.counts.subchannels.into());
    w.u64(context.counts.poll.or_max().ticks());
    w.count(context.lines.len());
    context.lines.iter().for_each(|line| save_line(line, w));
}

/// Restores the channels of the device with this name.
pub(super) fn load<P: BusPort>(
    name: [u8; 4],
    context: &mut Context<'_, P>,
    r: &mut Reader<'_>,
) -> Result<(), RestoreError> {
    if r.bytes(name.len())? != name {
        return Err(RestoreError::Invalid("kind of a device"));
    }
    let subchannels = r.u32()?;
    let poll = r.u64()?;
    let lines = context.lines.len();
    if r.count()? != lines || subchannels as usize >= lines.max(1) {
        return Err(RestoreError::Invalid("number of a device's channels"));
    }
    for at in 0..lines {
        let line = load_line(r, context.env.place.id(at).0, context.env.port.memory(), context.env.pool)?;
        // What kept packets back has gone with the saved bus, like a pause: they are checked again.
        let stall = match line.open.as_ref().map_or(Stall::None, |open| open.stall) {
            Stall::Later | Stall::Held => Stall::Budget,
            stall => stall,
        };
        context.counts.room += usize::from(line.open.as_ref().is_some_and(|open| open.wanted > 0));
        context.lines[at] = line;
        if let Some(open) = context.lines[at].open.as_mut() {
            open.stall = Stall::None;
        }
        context.stall(at, stall);
    }
    if let Some(last) = lines.checked_sub(1) {
        context.occupy(last);
    }
    context.counts.subchannels = subchannels as u16;
    context.counts.poll = Deadline::at(ReferenceTime(poll));
    Ok(())
}

fn save_line(line: &Line, w: &mut Writer<'_>) {
    line.stage.save(w);
    w.flag(line.lasting);
    line.offer.save(w);
    w.flag(line.open.is_some());
    let Some(open) = line.open.as_ref() else { return };
    w.u32(open.gpadl.0);
    w.u32(open.split);
    w.u32(open.vp);
    w.u32(open.flag.into());
    w.u32(open.connection);
    open.consumer.save(w);
    open.producer.save(w);
    w.flag(open.live);
    w.flag(open.corrupt);
    w.u32(open.wanted);
    open.stall.save(w);
}

/// Restores a channel, with its rings at their positions.
fn load_line<M: GuestMemory>(
    r: &mut Reader<'_>,
    id: u32,
    memory: &M,
    pool: Pool<'_>,
) -> Result<Line, RestoreError> {
    const PART: RestoreError = RestoreError::Invalid("open channel");
    let stage = Stage::load(r)?;
    let lasting = r.flag("channel")?;
    let mut line = Line { stage, lasting, offer: Image::load(r)?, ..Line::VACANT };
    if !r.flag("channel")? {
        return Ok(line);
    }
    let gpadl = GpadlId(r.u32()?);
    let (split, vp, flag, connection) = (r.u32()?, r.u32()?, r.u32()?, r.u32()?);
    let (consumer, producer) = (Consumer::load(r)?, Producer::load(r)?);
    let (live, corrupt) = (r.flag("channel")?, r.flag("channel")?);
    let (wanted, stall) = (r.u32()?, Stall::load(r)?);
    let found = pool.find(gpadl).filter(|(_, g)| g.channel == id && g.state == State::Rings);
    let (entry, list) = found.ok_or(PART)?;
    let words = pool.whole_pages(&list).ok_or(PART)?;
    let split_at = usize::try_from(split).map_err(|_| PART)?;
    let behind = words.len().checked_sub(split_at).ok_or(PART)?;
    let flag = u16::try_from(flag).ok().filter(|flag| u32::from(*flag) < MAX_CHANNELS).ok_or(PART)?;
    // A rescinded channel stays open until the guest takes messages again.
    if !matches!(stage, Stage::Known | Stage::Leaving) || connection == 0 {
        return Err(PART);
    }
    if !consumer.is_within(split_at) || !producer.is_within(behind) {
        return Err(PART);
    }
    let (incoming, outgoing) = Shape::both(memory, pool, words, split).map_err(|_| PART)?;
    line.session = 1;
    line.open = Optional::Some(Open {
        gpadl,
        entry,
        split,
        incoming,
        outgoing,
        vp,
        flag,
        connection,
        consumer,
        producer,
        live,
        corrupt,
        reserved: 0,
        wanted,
        stall,
        signal: false,
        shown: false,
    });
    Ok(line)
}
