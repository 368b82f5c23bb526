//! The card as a device of smoltcp: a stream of bytes between the guest's stack and one of the test's, across the
//! host's card.

use std::collections::VecDeque;

use hv_drivers::network::{Checksums, Frames, SmoltcpDevice};
use smoltcp::iface::{Config, Interface, SocketSet};
use smoltcp::phy::{self, DeviceCapabilities, Medium};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, IpAddress, IpCidr};

use crate::host::{MAC, World};
use crate::network::{open, world};
use crate::offload::offloading;

const PEER: [u8; 6] = [2, 0, 0, 0, 0, 9];
const LEN: usize = 300_000;

/// The network behind the card.
struct Wire {
    world: &'static World,
    arrived: VecDeque<Vec<u8>>,
}

struct Token<'a>(&'a World);

impl phy::TxToken for Token<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, write: F) -> R {
        let mut frame = vec![0; len];
        let result = write(&mut frame);
        let _ = self.0.frame(&frame);
        result
    }
}

struct ReceivedFrame(Vec<u8>);

impl phy::RxToken for ReceivedFrame {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, take: F) -> R {
        take(&self.0)
    }
}

impl phy::Device for Wire {
    type RxToken<'a> = ReceivedFrame;
    type TxToken<'a> = Token<'a>;

    fn receive(&mut self, _: Instant) -> Option<(ReceivedFrame, Token<'_>)> {
        self.arrived.extend(self.world.host.frames.lock().unwrap().drain(..));
        Some((ReceivedFrame(self.arrived.pop_front()?), Token(self.world)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Token<'_>> {
        Some(Token(self.world))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        (capabilities.medium, capabilities.max_transmission_unit) = (Medium::Ethernet, 1514);
        capabilities
    }
}

fn interface(device: &mut impl phy::Device, mac: [u8; 6], last: u8) -> Interface {
    let mut interface = Interface::new(Config::new(EthernetAddress(mac).into()), device, Instant::ZERO);
    interface.update_ip_addrs(|addresses| {
        addresses.push(IpCidr::new(IpAddress::v4(10, 0, 0, last), 24)).unwrap();
    });
    interface
}

fn socket() -> Socket<'static> {
    Socket::new(SocketBuffer::new(vec![0; 20_000]), SocketBuffer::new(vec![0; 20_000]))
}

#[test]
fn two_stacks_exchange_a_stream_across_the_card() {
    let world = world();
    let (mut client, card) = open(world, 1500);
    let mut device = SmoltcpDevice::new(card);
    exchange(world, &mut device);
    assert!(device.frames().counts().received > 100);
    let closing = device.into_frames().close(&mut client).unwrap();
    client.block_on(closing, &mut world.os()).unwrap();
    assert_eq!(world.host.ram.live(), 0);
}

/// The guest's stack computes no checksum, and the peer's judges each.
#[test]
fn the_card_computes_the_checksums_of_a_stack() {
    let world = world();
    let (mut client, card) = offloading(world, Checksums::ALL);
    let mut device = SmoltcpDevice::new(card);
    let checksum = phy::Device::capabilities(&device).checksum;
    assert!(!checksum.tcp.tx() && checksum.tcp.rx() && !checksum.ipv4.tx() && !checksum.udp.tx());
    exchange(world, &mut device);
    let closing = device.into_frames().into_card().close(&mut client).unwrap();
    client.block_on(closing, &mut world.os()).unwrap();
    assert_eq!(world.host.ram.live(), 0);
}

/// Sends a stream from the guest's stack to the peer's.
fn exchange<F: Frames>(world: &'static World, device: &mut SmoltcpDevice<F>) {
    let mut wire = Wire { world, arrived: VecDeque::new() };
    let (mut guest, mut peer) = (interface(device, MAC, 1), interface(&mut wire, PEER, 2));
    let (mut guests, mut peers) = (SocketSet::new(vec![]), SocketSet::new(vec![]));
    let (server, reader) = (guests.add(socket()), peers.add(socket()));
    guests.get_mut::<Socket<'_>>(server).listen(80_u16).unwrap();
    let place = (IpAddress::v4(10, 0, 0, 1), 80_u16);
    peers.get_mut::<Socket<'_>>(reader).connect(peer.context(), place, 4000_u16).unwrap();
    let out: Vec<u8> = (0..LEN).map(|n| (n * 3 + n / 255) as u8).collect();
    let (mut sent, mut read, mut millis) = (0, Vec::<u8>::new(), 0);
    while read.len() < LEN {
        // The stacks' own time: a millisecond for each round, and no end for a stream that stands still.
        millis += 1;
        assert!(millis < 100_000, "{} bytes have come", read.len());
        let now = Instant::from_millis(millis);
        guest.poll(now, device, &mut guests);
        let socket = guests.get_mut::<Socket<'_>>(server);
        if socket.can_send() && sent < LEN {
            sent += socket.send_slice(&out[sent..]).unwrap();
        }
        peer.poll(now, &mut wire, &mut peers);
        let socket = peers.get_mut::<Socket<'_>>(reader);
        if socket.can_recv() {
            socket.recv(|bytes| (bytes.len(), read.extend(&*bytes))).unwrap();
        }
        assert!(socket.state() == State::Established || read.is_empty());
    }
    assert!(read == out);
    assert_eq!((device.error(), device.lost()), (None, 0));
}
