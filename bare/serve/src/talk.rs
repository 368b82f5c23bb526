//! The Hyper-V socket: a program of the host connects to port 7, and is told how many requests were answered.

use core::fmt::Write as _;

use bus::{Os, Pool};
use hv_drivers::hv_vmbus_client::Client;
use hv_drivers::socket::{self, Error, Stream};
use hv_guest::arch::Either;
use hv_tlfs::vmbus::socket::service;
use spin::Mutex;

type Talk = Stream<'static, Pool, Either>;

/// The connection: it is too large for a stack.
static STREAM: Mutex<Option<Talk>> = Mutex::new(None);

/// Continues with the connection, or takes the next one. Its stack is that of a stream, so it is not part of the
/// caller's.
#[inline(never)]
pub(crate) fn poll(client: &mut Client<'static, Either>, os: &Os<'_, '_>, answered: u32) {
    let mut place = STREAM.lock();
    if place.is_none()
        && let Some(offer) = socket::incoming(client, service(7), |_| false)
    {
        // A stream that was just opened has room for a line.
        if let Ok(channel) = os.open(client, &offer, 8) {
            let _ = writeln!(Line(place.insert(Stream::new(channel))), "{answered} requests answered");
        }
    }
    if place.as_mut().is_some_and(|stream| end(stream) != Ok(false))
        && let Some(stream) = place.take()
    {
        let (channel, mut os) = (stream.into_channel(), os);
        let id = channel.id();
        client.close_channel(channel, &mut os).expect("the rings come back");
        let _ = client.release(id);
    }
}

/// Ends this direction, and returns true once the host has rescinded the stream.
fn end(stream: &mut Talk) -> Result<bool, Error> {
    while stream.read(&mut [0; 64])?.is_some_and(|len| len > 0) {}
    if !stream.channel().is_over() {
        stream.finish()?;
    }
    Ok(stream.channel().is_over())
}

struct Line<'s>(&'s mut Talk);

impl core::fmt::Write for Line<'_> {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        if self.0.write(text.as_bytes()) == Ok(text.len()) { Ok(()) } else { Err(core::fmt::Error) }
    }
}
