//! Hyper-V sockets.

use embedded_io::{Error as _, ErrorKind, Read as _, Write as _};
use hv_devices::sockets::{News, StreamId};
use hv_devices::storage::Storage;
use hv_drivers::hv_vmbus_client::ring::{Outgoing, Sender};
use hv_drivers::hv_vmbus_client::{Error as ClientError, Notice, Open};
use hv_drivers::socket::{self, Blocking, Error, Stream};
use hv_tlfs::vmbus::Guid;
use hv_tlfs::vmbus::socket::service;
use hv_tlfs::vp::VpIndex;

use crate::host::{TestClient, TestDma, Wire, World};

type TestStream = Stream<'static, TestDma, Wire>;

pub(crate) const PORT: u32 = 4000;
const ENDPOINT: Guid = Guid::new(77, 1, 2, [3; 8]);

/// What the host's program has seen.
#[derive(Default)]
pub(crate) struct Program {
    stream: Option<StreamId>,
    pub(crate) data: Vec<u8>,
    credit: u32,
    finished: bool,
    ended: bool,
}

impl Program {
    /// Takes all news.
    pub(crate) fn hear(&mut self, world: &World) {
        let slot = &world.bus.devices().sockets;
        let mut used = 0;
        world.bus.flush(&world.host);
        world
            .bus
            .with(slot, &world.host, |device, io| {
                device.drain(io, |news| {
                    match news {
                        News::Connect { stream, port } => {
                            assert_eq!(port, PORT);
                            self.stream = Some(stream);
                        }
                        News::Opened { stream, .. } => self.stream = Some(stream),
                        News::Credit { bytes, .. } => self.credit += bytes,
                        News::Data { bytes, .. } => {
                            self.data.extend(bytes);
                            used += bytes.len() as u32;
                        }
                        News::Finished { .. } => self.finished = true,
                        News::Ended { .. } => self.ended = true,
                        News::Refused { .. } => panic!("refused"),
                    }
                    true
                });
                if let Some(stream) = self.stream.filter(|_| used > 0) {
                    device.credit(io, stream, used);
                }
            })
            .unwrap();
    }

    /// Sends what there is credit for, and returns how many bytes that is.
    pub(crate) fn send(&mut self, world: &World, bytes: &[u8]) -> usize {
        let part = bytes.len().min(3000);
        let cost = hv_devices::sockets::cost(part as u32);
        if self.credit < cost || bytes.is_empty() {
            return 0;
        }
        self.credit -= cost;
        let (slot, stream) = (&world.bus.devices().sockets, self.stream.unwrap());
        world
            .bus
            .with(slot, &world.host, |device, io| device.send(io, stream, &bytes[..part]))
            .unwrap()
            .unwrap();
        part
    }

    fn finish(&self, world: &World) {
        let (slot, stream) = (&world.bus.devices().sockets, self.stream.unwrap());
        world.bus.with(slot, &world.host, |device, io| device.finish(io, stream)).unwrap();
    }
}

fn open(
    world: &'static World,
    client: &mut TestClient,
    offer: &hv_drivers::hv_vmbus_client::Offer,
) -> TestStream {
    let open = Open::on(VpIndex(0));
    Stream::new(client.open_channel(offer, 8, open, &TestDma(world), &mut world.os()).unwrap())
}

/// Connects the host to the guest.
fn accepted() -> (&'static World, TestClient, TestStream, Program) {
    let world = World::new(Storage::new(), &[]);
    let mut client = world.client();
    assert!(socket::incoming(&client, service(PORT), |_| false).is_none());
    let slot = &world.bus.devices().sockets;
    world.bus.with(slot, &world.host, |device, io| device.connect(io, 1, PORT)).unwrap().unwrap();
    world.take_all(&mut client);
    assert!(socket::incoming(&client, service(PORT + 1), |_| false).is_none());
    let offer = socket::incoming(&client, service(PORT), |_| false).unwrap();
    let stream = open(world, &mut client, &offer);
    assert!(socket::incoming(&client, service(PORT), |other| other.channel() == offer.channel()).is_none());
    let mut program = Program::default();
    program.hear(world);
    assert!(program.stream.is_some() && program.credit > 0);
    (world, client, stream, program)
}

fn close(world: &'static World, mut client: TestClient, stream: TestStream) {
    let channel = stream.into_channel();
    let id = channel.id();
    client.close_channel(channel, &mut world.os()).unwrap();
    world.take_all(&mut client);
    client.release(id).unwrap();
    assert_eq!(world.host.ram.live(), 0);
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n * 5 + n / 253) as u8).collect()
}

#[test]
fn bytes_go_both_ways_whatever_the_lengths_and_each_side_ends_its_own() {
    let (world, mut client, mut stream, mut program) = accepted();
    let (out, back) = (bytes(200_000), bytes(150_000));
    let (mut written, mut sent, mut read) = (0, 0, Vec::<u8>::new());
    let mut room = [0; 777];
    while written < out.len() || read.len() < back.len() {
        written += stream.write(&out[written..(written + 30_000).min(out.len())]).unwrap();
        program.hear(world);
        sent += program.send(world, &back[sent..]);
        while let Some(len) = stream.read(&mut room).unwrap() {
            read.extend(&room[..len]);
        }
    }
    program.hear(world);
    assert!(program.data == out && read == back);
    // The host ends its direction, and still hears the guest.
    program.finish(world);
    assert_eq!(stream.read(&mut room), Ok(Some(0)));
    assert_eq!(stream.write(b"after"), Ok(5));
    assert_eq!(stream.finish(), Ok(true));
    assert_eq!(stream.write(b"no"), Err(Error::Finished));
    assert!(stream.is_over());
    program.hear(world);
    assert!(program.finished && program.data.ends_with(b"after"));
    world.take_all(&mut client);
    assert!(stream.channel().is_over(), "the host rescinds it");
    assert_eq!(stream.read(&mut room), Ok(Some(0)));
    close(world, client, stream);
}

#[test]
fn a_host_that_does_not_read_stops_the_writer_and_loses_nothing() {
    let (world, mut client, mut stream, mut program) = accepted();
    let out = bytes(400_000);
    let mut written = 0;
    loop {
        match stream.write(&out[written..]).unwrap() {
            0 => break,
            len => written += len,
        }
    }
    assert!(written < out.len(), "{written}");
    while written < out.len() {
        program.hear(world);
        written += stream.write(&out[written..]).unwrap();
    }
    while program.data.len() < out.len() {
        program.hear(world);
    }
    assert!(program.data == out);
    // The host is gone in the middle.
    let (slot, id) = (&world.bus.devices().sockets, program.stream.unwrap());
    world.bus.with(slot, &world.host, |device, io| device.reset(io, id)).unwrap();
    world.take_all(&mut client);
    assert_eq!(stream.read(&mut [0; 8]), Ok(Some(0)));
    assert!(stream.is_over() && stream.write(b"x").is_err());
    close(world, client, stream);
}

#[test]
fn the_guest_connects_or_is_refused() {
    let world = World::new(Storage::new(), &[]);
    let mut client = world.client();
    for accept in [true, false] {
        socket::connect(&mut client, ENDPOINT, service(PORT)).unwrap();
        let mut program = Program::default();
        program.hear(world);
        let (slot, id) = (&world.bus.devices().sockets, program.stream.unwrap());
        world
            .bus
            .with(
                slot,
                &world.host,
                |device, io| {
                    if accept { device.accept(io, id) } else { device.refuse(io, id) }
                },
            )
            .unwrap();
        let notices = world.take_all(&mut client);
        let offer = socket::offered(&client, ENDPOINT, service(PORT));
        if !accept {
            assert!(offer.is_none());
            let refused = |notice: &Notice| matches!(notice, Notice::SocketRefused { endpoint, .. } if *endpoint == ENDPOINT);
            assert!(notices.iter().any(refused), "{notices:?}");
            continue;
        }
        let mut stream = open(world, &mut client, &offer.unwrap());
        assert_eq!(stream.write(b"hello"), Ok(5));
        program.hear(world);
        assert_eq!(program.data, b"hello");
        assert_eq!(stream.finish(), Ok(true));
        program.finish(world);
        assert_eq!(stream.read(&mut [0; 8]), Ok(Some(0)));
        world.take_all(&mut client);
        let channel = stream.into_channel();
        let number = channel.id();
        client.close_channel(channel, &mut world.os()).unwrap();
        client.release(number).unwrap();
        // The place is free once the host's program has heard of the end.
        program.hear(world);
        assert!(program.ended);
    }
    assert_eq!(world.host.ram.live(), 0);
}

#[test]
fn embedded_ios_traits_move_all_bytes_and_wait_where_the_stream_is_full_or_empty() {
    let (world, client, mut stream, mut program) = accepted();
    let out = bytes(100_000);
    let (mut waits, mut sent) = (0, 0);
    let wait = || {
        // The host's program sends back what it has heard.
        waits += 1;
        assert!(waits < 10_000, "the host gives nothing more");
        program.hear(world);
        sent += program.send(world, &program.data.clone()[sent..]);
        Ok(())
    };
    let mut io = Blocking { stream: &mut stream, wait };
    assert_eq!((io.write(&[]), io.read(&mut [])), (Ok(0), Ok(0)));
    // More than both rings hold: it waits where it writes, too.
    io.write_all(&out).unwrap();
    io.flush().unwrap();
    let mut back = vec![0; out.len()];
    io.read_exact(&mut back).unwrap();
    assert!(back == out);
    program.finish(world);
    let mut io = Blocking { stream: &mut stream, wait: || Err(ClientError::TimedOut) };
    assert_eq!(io.read(&mut back), Ok(0), "the host's end is the end of the file");
    close(world, client, stream);
}

#[test]
fn embedded_ios_kinds_of_errors_tell_a_wait_an_end_and_a_reset_apart() {
    let (world, mut client, mut stream, program) = accepted();
    let mut io = Blocking { stream: &mut stream, wait: || Err(ClientError::TimedOut) };
    assert_eq!(io.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::TimedOut);
    // The guest ends its own direction: it may read on, and not write.
    assert_eq!(io.stream.finish(), Ok(true));
    assert_eq!(io.write(b"no").unwrap_err().kind(), ErrorKind::BrokenPipe);
    let (slot, id) = (&world.bus.devices().sockets, program.stream.unwrap());
    world.bus.with(slot, &world.host, |device, io| device.reset(io, id)).unwrap();
    world.take_all(&mut client);
    close(world, client, stream);

    // The host resets a stream that the guest still writes to.
    let (world, mut client, mut stream, program) = accepted();
    let (slot, id) = (&world.bus.devices().sockets, program.stream.unwrap());
    world.bus.with(slot, &world.host, |device, io| device.reset(io, id)).unwrap();
    world.take_all(&mut client);
    let mut io = Blocking { stream: &mut stream, wait: || Err(ClientError::TimedOut) };
    assert_eq!(io.write(b"no").unwrap_err().kind(), ErrorKind::ConnectionReset);
    close(world, client, stream);
}

#[test]
fn what_is_no_packet_of_a_stream_is_an_error() {
    let packet = |kind: u32, len: u32, bytes: usize| {
        let head = [kind.to_le_bytes(), len.to_le_bytes()].concat();
        Outgoing::in_band(0, Box::leak([head, vec![7; bytes]].concat().into_boxed_slice()))
    };
    for bad in [
        Outgoing::in_band(0, &[]),
        packet(2, 8, 8),
        packet(0, 8, 8),
        packet(1, 9, 8),
        packet(1, u32::MAX, 8),
        packet(1, 16_385, 16_392),
        Outgoing::completion(0, &[1, 0, 0, 0, 8, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]),
    ] {
        let (world, _client, mut stream, _program) = accepted();
        // From here on the host is the test.
        let ring = world.host.ram.last(8);
        let mut host = Sender::new(ring).unwrap();
        host.send(ring, &packet(1, 16_384, 16_384)).unwrap();
        assert_eq!(stream.read(&mut [0; 20_000]), Ok(Some(16_384)));
        host.send(ring, &bad).unwrap();
        assert_eq!(stream.read(&mut [0; 8]), Err(Error::Malformed), "{bad:?}");
        // What follows is not the stream's continuation.
        host.send(ring, &packet(1, 8, 8)).unwrap();
        assert_eq!(stream.read(&mut [0; 8]), Err(Error::Malformed), "{bad:?}");
        assert_eq!(stream.write(b"more"), Err(Error::Malformed), "{bad:?}");
    }
}
