//! Channels that are open: signals, and devices whose time has come.

use crate::channel::{Channel, Open, Rings, State};
use crate::device::Io;
use crate::event::{Event, Reason};
use crate::port::Port;
use crate::protocol::TARGET_VP_NONE;
use crate::ring::{Consumer, Producer, Ring, RingError};
use crate::server::{Refused, SINT, Server};
use hv_memory::GuestMemory;

impl<const CHANNELS: usize, const GPADLS: usize, const WORDS: usize> Server<CHANNELS, GPADLS, WORDS> {
    /// Takes the guest's signal of an event connection: it has put packets into a ring, or made room in one.
    ///
    /// # Errors
    /// [`Refused::NoConnection`]: no open channel has this connection.
    pub fn signal<P: Port>(&mut self, connection: u32, port: &mut P) -> Result<(), Refused> {
        let is_meant = |c: &Channel| c.open().is_some_and(|o| o.connection == connection);
        let index = self.channels.iter().position(|c| c.as_ref().is_some_and(is_meant));
        let index = index.ok_or(Refused::NoConnection)?;
        self.run(index, port);
        Ok(())
    }

    /// The reference time, in 100 ns, at which [`flush`](Self::flush) shall be called next; `None`: not before
    /// something else happens. It changes with every call of a method that takes the port. While messages wait there is
    /// none: no device runs before the guest has taken them.
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        if self.owes() {
            return None;
        }
        self.channels.iter().flatten().filter_map(Channel::open).filter_map(Open::deadline).min()
    }

    /// Lets the devices run whose time has come. While messages wait, none does: a guest that has not heard that its
    /// channel is open must not be interrupted for it.
    pub(crate) fn run_due<P: Port>(&mut self, port: &mut P) {
        if self.owes() {
            return;
        }
        let now = port.reference_time();
        for index in 0..CHANNELS {
            let open = self.channels[index].as_ref().and_then(Channel::open);
            if open.and_then(Open::deadline).is_some_and(|deadline| deadline <= now) {
                self.run(index, port);
            }
        }
    }

    fn run<P: Port>(&mut self, index: usize, port: &mut P) {
        let Some(Some(channel)) = self.channels.get_mut(index) else { return };
        let id = channel.id;
        let State::Open(open) = &mut channel.state else { return };
        let Some(pages) = self.gpadls.whole_pages(open.gpadl) else { return };
        if open.spoilt {
            return;
        }
        let time = port.reference_time();
        let (outcome, done) = open.run(port.memory(), pages, time);
        if let Err(error) = outcome {
            open.spoilt = true;
            port.observe(Event::RingSpoilt { channel: id, error });
        }
        if done.signal && open.vp != TARGET_VP_NONE {
            port.interrupt(open.vp, SINT, open.flag);
        }
        if let Some(sequence) = done.beat {
            port.observe(Event::Heartbeat { channel: id, sequence });
        }
    }
}

/// What came of a device's run.
#[derive(Clone, Copy, Debug, Default)]
struct Done {
    signal: bool,
    beat: Option<u64>,
}

impl Open {
    /// When the channel's device wants to run next.
    fn deadline(&self) -> Option<u64> {
        if self.spoilt {
            None
        } else if self.unfinished {
            Some(0)
        } else {
            self.device.deadline()
        }
    }

    fn run<M: GuestMemory>(&mut self, memory: &M, pages: &[u64], time: u64) -> (Result<(), RingError>, Done) {
        let (incoming, outgoing) = match views(memory, pages, self.split) {
            Ok(views) => views,
            Err(error) => return (Err(error), Done::default()),
        };
        let mut io = Io {
            incoming,
            outgoing,
            consumer: &mut self.rings.consumer,
            producer: &mut self.rings.producer,
            time,
            signal: false,
            unfinished: false,
            beat: None,
        };
        let outcome = self.device.run(&mut io);
        self.unfinished = io.unfinished;
        (outcome, Done { signal: io.signal, beat: io.beat })
    }
}

/// The rings from guest to host and from host to guest.
fn views<'a, M: GuestMemory>(
    memory: &'a M,
    pages: &'a [u64],
    split: u32,
) -> Result<(Ring<'a, M>, Ring<'a, M>), RingError> {
    let parts = usize::try_from(split).ok().and_then(|split| pages.split_at_checked(split));
    let (incoming, outgoing) = parts.ok_or(RingError::Size { pages: pages.len() })?;
    Ok((Ring::new(memory, incoming)?, Ring::new(memory, outgoing)?))
}

/// Takes over the rings of a channel that is being opened.
pub(crate) fn attach<M: GuestMemory>(memory: &M, pages: &[u64], split: u32) -> Result<Rings, Reason> {
    let (incoming, outgoing) = views(memory, pages, split).map_err(|_| Reason::BadRing)?;
    Ok(Rings {
        consumer: Consumer::attach(&incoming).map_err(|_| Reason::BadRing)?,
        producer: Producer::attach(&outgoing).map_err(|_| Reason::BadRing)?,
    })
}
