//! What the back end is told.

use super::stream::{Flags, State};
use super::{Sockets, StreamId};
use hv_vmbus::{BusPort, Channel, Io, Never};

/// Notification to the back end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News<'a> {
    /// The guest connects to a port: [accept](Sockets::accept) or [refuse](Sockets::refuse) it.
    Connect {
        /// The new stream.
        stream: StreamId,
        /// The port.
        port: u32,
    },
    /// The host's connection is open.
    Opened {
        /// The back end's name for it.
        request: u32,
        /// The new stream.
        stream: StreamId,
        /// The port that it comes from.
        own: u32,
    },
    /// The host's connection was refused, or no guest program has taken it in time.
    Refused {
        /// The back end's name for it.
        request: u32,
    },
    /// The host may send this many bytes more, counted as [`cost`](super::cost).
    Credit {
        /// The stream.
        stream: StreamId,
        /// The bytes.
        bytes: u32,
    },
    /// The guest has sent bytes.
    Data {
        /// The stream.
        stream: StreamId,
        /// The bytes.
        bytes: &'a [u8],
    },
    /// The guest sends nothing more.
    Finished {
        /// The stream.
        stream: StreamId,
    },
    /// The connection has ended in both directions, and its name is no longer used.
    Ended {
        /// The stream.
        stream: StreamId,
    },
}

impl<const STREAMS: usize, const OUTPUT: usize> Sockets<STREAMS, OUTPUT> {
    /// Passes on what there is for the back end, until `tell` returns false: it could not take the last. Then call this
    /// again when it can, since the observer hears of nothing new before. Packets that found the output full are taken
    /// again.
    ///
    /// What a guest sent is passed on before the end of its stream.
    pub fn drain<P: BusPort>(
        &mut self,
        io: &mut Io<'_, P, Never>,
        mut tell: impl FnMut(News<'_>) -> bool,
    ) -> bool {
        let done = self.starts(&mut tell) && self.data(&mut tell);
        let done = done && self.ends(&mut tell);
        self.told = !done;
        if self.output.front().is_none() && core::mem::take(&mut self.full) {
            (0..STREAMS).for_each(|at| io.resume(Channel::new(at as u16)));
        }
        done
    }

    /// Passes on what precedes data.
    fn starts(&mut self, tell: &mut dyn FnMut(News<'_>) -> bool) -> bool {
        for (at, stream) in self.streams.iter_mut().enumerate() {
            let id = stream.id(at);
            if stream.flags == Flags::NONE {
                continue;
            }
            if stream.flags.has(Flags::CONNECT) {
                // It may have ended before the host heard of it.
                let stands = matches!(stream.state, State::Connecting { .. });
                if stands && !tell(News::Connect { stream: id, port: stream.port }) {
                    return false;
                }
                stream.flags.remove(Flags::CONNECT);
                if !stands {
                    stream.flags.remove(Flags::ENDED);
                }
            }
            if stream.flags.has(Flags::OPENED) {
                if !tell(News::Opened { request: stream.request, stream: id, own: stream.own }) {
                    return false;
                }
                stream.flags.remove(Flags::OPENED);
            }
            if stream.flags.has(Flags::CREDIT) {
                if !tell(News::Credit { stream: id, bytes: stream.credit }) {
                    return false;
                }
                stream.credit = 0;
                stream.flags.remove(Flags::CREDIT);
            }
        }
        true
    }

    fn data(&mut self, tell: &mut dyn FnMut(News<'_>) -> bool) -> bool {
        while let Some((stream, bytes)) = self.output.front() {
            let len = bytes.len() as u32;
            if !tell(News::Data { stream, bytes }) {
                return false;
            }
            if let Some(stream) = self.streams.get_mut(stream.index()) {
                stream.queued = stream.queued.saturating_sub(len);
            }
            self.output.pop();
        }
        true
    }

    /// Passes on what follows data.
    fn ends(&mut self, tell: &mut dyn FnMut(News<'_>) -> bool) -> bool {
        for (at, stream) in self.streams.iter_mut().enumerate() {
            let id = stream.id(at);
            let endings = [
                (Flags::FINISHED, News::Finished { stream: id }),
                (Flags::ENDED, News::Ended { stream: id }),
                (Flags::REFUSED, News::Refused { request: stream.request }),
            ];
            for (flag, news) in endings {
                if stream.flags.has(flag) {
                    if !tell(news) {
                        return false;
                    }
                    stream.flags.remove(flag);
                }
            }
        }
        true
    }
}
