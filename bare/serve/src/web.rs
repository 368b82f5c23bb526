//! HTTP over smoltcp: one request for each connection.

use core::fmt::Write as _;
use core::time::Duration;

use embedded_sdmmc::ShortFileName;
use hv_drivers::Wait;
use rt::time;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet, SocketStorage};
use smoltcp::phy::Device;
use smoltcp::socket::dhcpv4;
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, IpCidr};
use spin::{Mutex, MutexGuard};

use crate::disk::Files;

/// Connections at a time.
const CONNECTIONS: usize = 16;
/// Bytes of a request, and of what is sent before the client acknowledges it.
const REQUEST: usize = 1024;
const WINDOW: usize = 8192;

static BUFFERS: Mutex<[([u8; REQUEST], [u8; WINDOW]); CONNECTIONS]> =
    Mutex::new([([0; REQUEST], [0; WINDOW]); CONNECTIONS]);
static STORAGE: Mutex<[SocketStorage<'static>; CONNECTIONS + 1]> =
    Mutex::new([SocketStorage::EMPTY; CONNECTIONS + 1]);

#[derive(Clone, Copy, Default)]
struct Connection {
    handle: SocketHandle,
    /// The file that is being sent, and how many of its bytes were.
    file: Option<ShortFileName>,
    sent: u32,
    answered: bool,
}

pub(crate) struct Web {
    interface: Interface,
    sockets: SocketSet<'static>,
    dhcp: SocketHandle,
    connections: [Connection; CONNECTIONS],
    /// Files that were sent.
    pub(crate) answered: u32,
}

fn now() -> Instant {
    Instant::from_micros((u128::from(time::counter()) * 1_000_000 / u128::from(time::frequency())) as i64)
}

impl Web {
    pub(crate) fn new(device: &mut impl Device, mac: [u8; 6]) -> Self {
        let mut config = Config::new(EthernetAddress(mac).into());
        config.random_seed = time::counter();
        let interface = Interface::new(config, device, now());
        let mut sockets = SocketSet::new(&mut MutexGuard::leak(STORAGE.lock())[..]);
        let mut buffers = MutexGuard::leak(BUFFERS.lock()).iter_mut();
        let connections = [(); CONNECTIONS].map(|()| {
            let (receive, send) = buffers.next().expect("there is one for each");
            let mut socket =
                Socket::new(SocketBuffer::new(&mut receive[..]), SocketBuffer::new(&mut send[..]));
            socket.set_ack_delay(None);
            socket.set_timeout(Some(smoltcp::time::Duration::from_secs(60)));
            Connection { handle: sockets.add(socket), ..Connection::default() }
        });
        let dhcp = sockets.add(dhcpv4::Socket::new());
        Self { interface, sockets, dhcp, connections, answered: 0 }
    }

    /// Does what there is to do, and returns the counter's value at which there is more.
    pub(crate) fn poll(&mut self, device: &mut impl Device, files: &Files<impl Wait>) -> Option<u64> {
        self.interface.poll(now(), device, &mut self.sockets);
        self.configure();
        for connection in &mut self.connections {
            self.answered += u32::from(connection.step(self.sockets.get_mut(connection.handle), files));
        }
        self.interface.poll(now(), device, &mut self.sockets);
        let delay = self.interface.poll_delay(now(), &self.sockets)?;
        Some(time::counter() + time::ticks(Duration::from_micros(delay.total_micros())))
    }

    /// Takes what DHCP has found out.
    fn configure(&mut self) {
        let Some(event) = self.sockets.get_mut::<dhcpv4::Socket<'_>>(self.dhcp).poll() else { return };
        self.interface.update_ip_addrs(|addresses| addresses.clear());
        self.interface.routes_mut().remove_default_ipv4_route();
        if let dhcpv4::Event::Configured(config) = event {
            let address = IpCidr::Ipv4(config.address);
            self.interface.update_ip_addrs(|addresses| addresses.extend([address]));
            let routes = self.interface.routes_mut();
            let _ = config.router.map(|router| routes.add_default_ipv4_route(router));
            rt::println!("serve: http://{}/", config.address.address());
        }
    }
}

impl Connection {
    /// Continues with a connection. Returns true once a file was sent.
    fn step(&mut self, socket: &mut Socket<'_>, files: &Files<impl Wait>) -> bool {
        match socket.state() {
            // Both sides have all; another client may connect. Not by `abort`, which sends a reset: QEMU's user network
            // then drops what its client has yet to read.
            State::TimeWait | State::Closed => {
                (self.file, self.answered) = (None, false);
                let _ = socket.listen(80);
            }
            _ if self.file.is_some() => return self.send(socket, files),
            State::Established | State::CloseWait if !self.answered => self.request(socket, files),
            _ => {}
        }
        false
    }

    /// Answers a request that has come in full.
    fn request(&mut self, socket: &mut Socket<'_>, files: &Files<impl Wait>) {
        let request = socket.peek(REQUEST).unwrap_or(&[]);
        let whole = request.windows(4).any(|end| end == b"\r\n\r\n");
        let full = request.len() == REQUEST;
        let mut words =
            request.split(|byte| *byte == b' ').map(|word| core::str::from_utf8(word).unwrap_or(""));
        let path = (words.next() == Some("GET")).then(|| words.next()).flatten();
        let name = path.and_then(|path| path.strip_prefix('/')).filter(|_| whole);
        let found = name.and_then(|name| files.find(if name.is_empty() { "index.html" } else { name }));
        if !whole && !full && socket.state() == State::Established {
            return;
        }
        let _ = socket.recv(|bytes| (bytes.len(), ()));
        (self.answered, self.file, self.sent) = (true, found.map(|(file, _)| file), 0);
        let (status, len) = found.map_or(("404 Not Found", 0), |(_, len)| ("200 OK", len));
        // The head fits: nothing was sent before.
        let _ = write!(socket, "HTTP/1.0 {status}\r\nContent-Length: {len}\r\n\r\n");
        if found.is_none() {
            socket.close();
        }
    }

    /// Sends as much of the file as the client takes now.
    fn send(&mut self, socket: &mut Socket<'_>, files: &Files<impl Wait>) -> bool {
        let Some(file) = self.file else { return false };
        while socket.can_send() {
            let read = socket.send(|room| {
                let read = files.read(file, self.sent, room);
                (read, read)
            });
            let Ok(read @ 1..) = read else {
                self.file = None;
                socket.close();
                return true;
            };
            self.sent += read as u32;
        }
        false
    }
}
