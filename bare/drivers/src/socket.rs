//! A Hyper-V socket: the guest connects to a port of the host, says a line, and hears all that the host says.

use bus::{Os, Pool};
use hv_drivers::hv_vmbus_client::Client;
use hv_drivers::socket::{self, Stream};
use hv_guest::arch::Either;
use hv_tlfs::vmbus::Guid;
use hv_tlfs::vmbus::socket::service;
use spin::Mutex;

/// The connection's name: no other has it.
const ENDPOINT: Guid = Guid::new(0x6472_6976, 0x6572, 0x7300, [7; 8]);
/// Pages of each ring.
const RING: usize = 8;

/// The connection: it is too large for a stack.
static STREAM: Mutex<Option<Stream<'static, Pool, Either>>> = Mutex::new(None);

/// Uses the socket at this port of the host, until both have ended it.
pub(crate) fn run(client: &mut Client<'static, Either>, mut os: &Os<'_, '_>, port: u32) {
    socket::connect(client, ENDPOINT, service(port)).expect("the host takes the message");
    let offer = loop {
        match socket::offered(client, ENDPOINT, service(port)) {
            Some(offer) => break offer,
            None => hear(client, os),
        }
    };
    let mut place = STREAM.lock();
    let stream = place.insert(Stream::new(os.open(client, &offer, RING).expect("the channel opens")));
    let line = b"hello from bare/drivers\n";
    assert_eq!(stream.write(line), Ok(line.len()), "a stream that was just opened has room");
    let (mut said, mut len) = ([0; 64], 0);
    loop {
        match stream.read(&mut said[len..]).expect("the stream works") {
            Some(0) => break,
            Some(more) => len += more,
            None => hear(client, os),
        }
    }
    let said = core::str::from_utf8(&said[..len]).unwrap_or("(not text)");
    rt::println!("drivers: the socket says {said:?}");
    assert_eq!(stream.finish(), Ok(true), "there is room for the end");
    while !stream.channel().is_over() {
        hear(client, os);
    }
    let channel = place.take().expect("it is there").into_channel();
    let id = channel.id();
    client.close_channel(channel, &mut os).expect("the rings come back");
    client.release(id).expect("the channel is gone");
}

/// Takes what has come, or waits.
fn hear(client: &mut Client<'static, Either>, os: &Os<'_, '_>) {
    if !os.deliver(client) {
        os.wait().expect("there is no limit");
    }
}
