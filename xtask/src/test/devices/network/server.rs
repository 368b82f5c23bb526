//! The host's web server, with bytes for the guest.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::super::super::context::HUNG;

/// Bytes that go to the guest and come back.
const LONG: usize = 2_000_003;
/// Those of a guest whose frames do not all arrive.
const SHORT: usize = 60_003;

/// Returns bytes that encode their offsets.
pub(in super::super) fn pattern() -> Vec<u8> {
    bytes(LONG)
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + at / 251) as u8).collect()
}

/// Returns fewer of them, for a guest whose frames do not all arrive.
pub(super) fn short() -> Vec<u8> {
    bytes(SHORT)
}

/// A web server of the host's. It has the pattern, hears when the guest serves, and says when the guest is to end.
pub(crate) struct Server {
    pub(crate) port: u16,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// What the server and its connections share.
#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The guest serves.
    serving: bool,
    /// The guest is to end.
    end: bool,
    /// The guest has ended.
    over: bool,
}

impl Shared {
    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }

    /// Waits until this is so. Returns false if the guest has ended, or if it hangs.
    fn wait(&self, condition: impl Fn(&State) -> bool) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let going_on = |state: &mut State| !condition(state) && !state.over;
        let waited = self.changed.wait_timeout_while(state, HUNG, going_on);
        condition(&waited.unwrap_or_else(PoisonError::into_inner).0)
    }
}

impl Server {
    pub(crate) fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared::default());
        let of_thread = shared.clone();
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = of_thread.clone();
                if shared.state.lock().unwrap_or_else(PoisonError::into_inner).over {
                    return;
                }
                std::thread::spawn(move || serve(stream, &shared));
            }
        });
        Ok(Self { port, shared, thread: Some(thread) })
    }

    /// Waits until the guest serves. Returns false if it has ended, or if it hangs.
    pub(super) fn is_served(&self) -> bool {
        self.shared.wait(|state| state.serving)
    }

    /// Tells the guest to end.
    pub(super) fn end_guest(&self) {
        self.shared.change(|state| state.end = true);
    }

    /// Gives up what waits for a guest that has ended.
    pub(super) fn guest_has_ended(&self) {
        self.shared.change(|state| state.over = true);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.guest_has_ended();
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Answers one request.
fn serve(mut stream: TcpStream, shared: &Shared) -> Option<()> {
    stream.set_read_timeout(Some(HUNG)).ok()?;
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut first = String::new();
    reader.read_line(&mut first).ok()?;
    let mut line = String::new();
    while reader.read_line(&mut line).ok()? > 2 {
        line.clear();
    }
    let body = match first.split(' ').nth(1)? {
        "/pattern" => Some(pattern()),
        "/short" => Some(short()),
        "/serving" => {
            shared.change(|state| state.serving = true);
            Some(Vec::new())
        }
        "/end" if shared.wait(|state| state.end) => Some(Vec::new()),
        _ => None,
    };
    let status = if body.is_some() { "200 OK" } else { "404 Not Found" };
    let body = body.unwrap_or_default();
    write!(stream, "HTTP/1.0 {status}\r\nContent-Length: {}\r\n\r\n", body.len()).ok()?;
    stream.write_all(&body).ok()
}
