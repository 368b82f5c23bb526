//! Programs on one side, and a hypervisor that a test speaks for on the other.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use hv_wire::control::{Assembler, FromSockets, MAX_FRAME, SOCKET_WINDOW, ToSockets, ring_cost};

use super::*;

/// What the tool says to the hypervisor.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Heard {
    Connect(u32, u32),
    Accept(u32),
    Refuse(u32),
    Data(u32, Vec<u8>),
    Finish(u32),
    Reset(u32),
    Credit(u32, u32),
}

/// A hypervisor.
struct Hypervisor {
    stream: UnixStream,
    assembler: Box<Assembler>,
}

impl Hypervisor {
    fn say(&mut self, message: &FromSockets<'_>) {
        let mut frame = vec![0; MAX_FRAME];
        let len = message.encode(0, &mut frame).unwrap();
        self.stream.write_all(&frame[..len]).unwrap();
    }

    /// Reads the next message.
    fn hear(&mut self) -> Heard {
        loop {
            let space = self.assembler.space().unwrap();
            if !space.is_empty() {
                let bytes = self.stream.read(space).unwrap();
                assert_ne!(bytes, 0, "the tool has closed the port");
                self.assembler.advance(bytes);
            }
            let Some((head, body)) = self.assembler.frame() else { continue };
            let heard = match ToSockets::decode(&head, body).expect("a message") {
                ToSockets::Connect { request, port } => Heard::Connect(request, port),
                ToSockets::Accept { stream } => Heard::Accept(stream),
                ToSockets::Refuse { stream } => Heard::Refuse(stream),
                ToSockets::Data { stream, bytes } => Heard::Data(stream, bytes.to_vec()),
                ToSockets::Finish { stream } => Heard::Finish(stream),
                ToSockets::Reset { stream } => Heard::Reset(stream),
                ToSockets::Credit { stream, bytes } => Heard::Credit(stream, bytes),
            };
            self.assembler.done();
            return heard;
        }
    }
}

/// A folder that is served.
struct Served {
    _parent: tempfile::TempDir,
    path: PathBuf,
    hypervisor: Hypervisor,
    serving: Serving,
}

fn served() -> Served {
    served_from(Beginning::default())
}

fn served_from(beginning: Beginning) -> Served {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("sockets");
    let server = Server::listen(&path).unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let serving = server.start(ours, beginning).unwrap();
    let hypervisor = Hypervisor { stream: theirs, assembler: Box::new(Assembler::new()) };
    Served { _parent: parent, path, hypervisor, serving }
}

impl Served {
    /// Accepts a program's end of a connection that the guest has made to port 7, and returns it with the stream.
    fn program(&mut self, stream: u32) -> UnixStream {
        let name = self.path.join("vsock_7");
        let listener = UnixListener::bind(&name).unwrap();
        self.hypervisor.say(&FromSockets::Connect { stream, port: 7 });
        assert_eq!(self.hypervisor.hear(), Heard::Accept(stream));
        std::fs::remove_file(name).unwrap();
        listener.accept().unwrap().0
    }
}

fn read(program: &mut UnixStream, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    program.read_exact(&mut bytes).unwrap();
    bytes
}

fn mode(path: &Path) -> u32 {
    path.symlink_metadata().unwrap().permissions().mode() & 0o777
}

#[test]
fn a_folder_is_made_and_goes_away_with_its_socket() {
    let served = served();
    assert_eq!((mode(&served.path), mode(&served.path.join("vsock"))), (0o700, 0o600));
    let error = Server::listen(&served.path).unwrap_err().to_string();
    assert!(error.contains("another machine"), "{error}");
    let path = served.path.clone();
    drop((served.hypervisor, served.serving));
    assert!(!path.exists());
}

#[test]
fn what_a_killed_machine_has_left_is_replaced() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("left");
    std::fs::create_dir(&path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
    // A listener that is gone without having removed its socket.
    drop(UnixListener::bind(path.join("vsock")).unwrap());
    let server = Server::listen(&path).unwrap();
    assert!(UnixStream::connect(path.join("vsock")).is_ok());
    drop(server);
    // What something listens on, a file and a link are not removed.
    let listener = UnixListener::bind(path.join("vsock")).unwrap();
    let refused = || Server::listen(&path).unwrap_err().to_string().contains("or a program");
    assert!(refused());
    drop(listener);
    std::fs::rename(path.join("vsock"), path.join("elsewhere")).unwrap();
    std::os::unix::fs::symlink(path.join("elsewhere"), path.join("vsock")).unwrap();
    assert!(refused());
    std::fs::remove_file(path.join("vsock")).unwrap();
    std::fs::write(path.join("vsock"), "mine").unwrap();
    assert!(refused() && path.join("vsock").exists());
}

#[test]
fn a_folder_that_was_there_stays_and_so_do_sockets_of_programs() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("mine");
    std::fs::create_dir(&path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
    drop(Server::listen(&path).unwrap());
    assert!(path.exists() && !path.join("vsock").exists());
    let made = parent.path().join("made");
    let server = Server::listen(&made).unwrap();
    let _program = UnixListener::bind(made.join("vsock_1")).unwrap();
    drop(server);
    assert!(made.join("vsock_1").exists() && !made.join("vsock").exists());
}

#[test]
fn a_folder_that_others_may_enter_or_a_link_or_a_file_is_refused() {
    let parent = tempfile::tempdir().unwrap();
    let [open, link, file] = ["open", "link", "file"].map(|name| parent.path().join(name));
    std::fs::create_dir(&open).unwrap();
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o750)).unwrap();
    std::os::unix::fs::symlink(&open, &link).unwrap();
    std::fs::write(&file, "").unwrap();
    let error = |path: &Path| format!("{:#}", Server::listen(path).unwrap_err());
    assert!(error(&open).contains("mode 0o750") && error(&open).contains("chmod 700"), "{}", error(&open));
    assert!(error(&link).contains("links are not followed"), "{}", error(&link));
    assert!(error(&file).contains("as a folder"), "{}", error(&file));
    assert!(error(&parent.path().join("a/b")).contains("an existing folder"));
}

#[test]
fn a_path_longer_than_a_sockets_may_be_is_no_problem() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("x".repeat(150));
    let server = Server::listen(&path).unwrap();
    assert!(path.join("vsock").exists());
    drop(server);
    assert!(!path.exists());
}

#[test]
fn a_program_connects_to_the_guest() {
    let mut served = served();
    let mut program = UnixStream::connect(served.path.join("vsock")).unwrap();
    // What follows the line at once is the stream's.
    program.write_all(b"CONNECT 22\nhello").unwrap();
    let Heard::Connect(request, 22) = served.hypervisor.hear() else { panic!() };
    served.hypervisor.say(&FromSockets::Opened { request, stream: 9, own: 1 << 30 });
    served.hypervisor.say(&FromSockets::Credit { stream: 9, bytes: 1000 });
    assert_eq!(read(&mut program, 14), b"OK 1073741824\n");
    assert_eq!(served.hypervisor.hear(), Heard::Data(9, b"hello".to_vec()));
    served.hypervisor.say(&FromSockets::Data { stream: 9, bytes: b"welcome" });
    assert_eq!(read(&mut program, 7), b"welcome");
    program.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(served.hypervisor.hear(), Heard::Finish(9));
    served.hypervisor.say(&FromSockets::Data { stream: 9, bytes: b"bye" });
    served.hypervisor.say(&FromSockets::Finished { stream: 9 });
    served.hypervisor.say(&FromSockets::Ended { stream: 9 });
    let mut rest = Vec::new();
    program.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"bye");
}

#[test]
fn a_program_that_the_guest_refuses_or_that_says_something_else_is_hung_up_on() {
    let mut served = served();
    let mut refused = UnixStream::connect(served.path.join("vsock")).unwrap();
    refused.write_all(b"CONNECT 22\n").unwrap();
    let Heard::Connect(request, 22) = served.hypervisor.hear() else { panic!() };
    served.hypervisor.say(&FromSockets::Refused { request });
    let mut rest = Vec::new();
    refused.read_to_end(&mut rest).unwrap();
    for line in [&b"HELLO\n"[..], b"CONNECT x\n", &[b'x'; 1000]] {
        let mut program = UnixStream::connect(served.path.join("vsock")).unwrap();
        program.write_all(line).unwrap();
        // A reset, if there was more than was read.
        let _ = program.read_to_end(&mut rest);
    }
    assert_eq!(rest, b"");
}

#[test]
fn the_guest_connects_to_a_program_or_is_refused() {
    let mut served = served();
    served.hypervisor.say(&FromSockets::Connect { stream: 5, port: 7 });
    assert_eq!(served.hypervisor.hear(), Heard::Refuse(5), "there is none");
    let listener = UnixListener::bind(served.path.join("elsewhere")).unwrap();
    std::os::unix::fs::symlink(served.path.join("elsewhere"), served.path.join("vsock_7")).unwrap();
    served.hypervisor.say(&FromSockets::Connect { stream: 6, port: 7 });
    assert_eq!(served.hypervisor.hear(), Heard::Refuse(6), "a link");
    std::fs::remove_file(served.path.join("vsock_7")).unwrap();
    std::fs::write(served.path.join("vsock_7"), "").unwrap();
    served.hypervisor.say(&FromSockets::Connect { stream: 7, port: 7 });
    assert_eq!(served.hypervisor.hear(), Heard::Refuse(7), "a file");
    std::fs::remove_file(served.path.join("vsock_7")).unwrap();
    drop(listener);
    let mut program = served.program(8);
    served.hypervisor.say(&FromSockets::Data { stream: 8, bytes: b"hello" });
    assert_eq!(read(&mut program, 5), b"hello");
}

#[test]
fn a_program_that_is_slow_to_accept_gets_all_connections() {
    let mut served = served();
    let listener = UnixListener::bind(served.path.join("vsock_7")).unwrap();
    // More than a backlog holds.
    for stream in 0..200 {
        served.hypervisor.say(&FromSockets::Connect { stream, port: 7 });
    }
    let programs =
        std::thread::spawn(move || (0..200).map(|_| listener.accept().unwrap().0).collect::<Vec<_>>());
    let mut accepted: Vec<_> = (0..200).map(|_| served.hypervisor.hear()).collect();
    let number =
        |heard: &Heard| if let Heard::Accept(stream) = heard { *stream } else { panic!("{heard:?}") };
    accepted.sort_by_key(number);
    assert!(accepted.iter().map(number).eq(0..200));
    assert_eq!(programs.join().unwrap().len(), 200);
}

#[test]
fn a_program_sends_no_more_than_the_guest_has_room_for() {
    let mut served = served();
    let mut program = served.program(8);
    let bytes: Vec<u8> = (0..100_000_u32).map(|n| (n % 253) as u8).collect();
    let (sent, mut got) = (bytes.clone(), Vec::new());
    let writer = std::thread::spawn(move || {
        program.write_all(&sent).unwrap();
        program
    });
    let mut room = 0;
    while got.len() < bytes.len() {
        // In parts, of which some are too small for a byte.
        if room < ring_cost(1) {
            for part in [30, 30, 4000] {
                served.hypervisor.say(&FromSockets::Credit { stream: 8, bytes: part });
                room += part;
            }
        }
        let Heard::Data(8, part) = served.hypervisor.hear() else { panic!() };
        room = room.checked_sub(ring_cost(part.len() as u32)).expect("no more than there is room for");
        got.extend(part);
    }
    assert_eq!(got, bytes);
    drop(writer.join().unwrap());
    served.hypervisor.say(&FromSockets::Credit { stream: 8, bytes: 100 });
    assert_eq!(served.hypervisor.hear(), Heard::Finish(8));
}

#[test]
fn a_program_that_does_not_read_stops_nobody_else() {
    let mut served = served();
    let (mut slow, mut quick) = (served.program(1), served.program(2));
    let mut window = SOCKET_WINDOW;
    let part = [7; 8000];
    // The hypervisor keeps to the window, and Unix sockets hold some bytes too.
    let mut sent = 0;
    while window >= part.len() as u32 {
        served.hypervisor.say(&FromSockets::Data { stream: 1, bytes: &part });
        window -= part.len() as u32;
        sent += part.len();
    }
    served.hypervisor.say(&FromSockets::Finished { stream: 1 });
    for n in 0..200_u8 {
        served.hypervisor.say(&FromSockets::Data { stream: 2, bytes: &[n; 1000] });
        assert_eq!(read(&mut quick, 1000), [n; 1000]);
    }
    assert!(read(&mut slow, sent).iter().all(|byte| *byte == 7));
    assert_eq!(slow.read(&mut [0]).unwrap(), 0);
}

#[test]
fn what_a_program_has_read_is_credit_for_the_guest() {
    let mut served = served();
    let mut program = served.program(1);
    let mut back = 0;
    for _ in 0..40 {
        served.hypervisor.say(&FromSockets::Data { stream: 1, bytes: &[1; 8000] });
        read(&mut program, 8000);
    }
    while back + SOCKET_WINDOW / 4 < 40 * 8000 {
        let Heard::Credit(1, bytes) = served.hypervisor.hear() else { panic!() };
        back += bytes;
    }
    assert!(back <= 40 * 8000);
}

#[test]
fn a_program_that_goes_away_resets_the_stream() {
    let mut served = served();
    drop(served.program(1));
    served.hypervisor.say(&FromSockets::Data { stream: 1, bytes: b"is anybody there?" });
    assert_eq!(served.hypervisor.hear(), Heard::Reset(1));
    served.hypervisor.say(&FromSockets::Data { stream: 1, bytes: b"of a stream that has ended" });
    let mut other = served.program(2);
    served.hypervisor.say(&FromSockets::Data { stream: 2, bytes: b"still here" });
    assert_eq!(read(&mut other, 10), b"still here");
}

#[test]
fn programs_get_the_rest_when_the_machine_has_ended() {
    let mut served = served();
    let mut program = served.program(1);
    let all = vec![5; SOCKET_WINDOW as usize];
    for part in all.chunks(8000) {
        served.hypervisor.say(&FromSockets::Data { stream: 1, bytes: part });
    }
    drop(served.hypervisor);
    let mut got = Vec::new();
    program.read_to_end(&mut got).unwrap();
    assert!(got == all, "{} bytes of {}", got.len(), all.len());
    drop(served.serving);
    assert!(!served.path.exists());
}

#[test]
fn a_port_with_noise_is_given_up() {
    let mut served = served();
    let mut program = served.program(1);
    served.hypervisor.stream.write_all(&[0xff; 100]).unwrap();
    assert_eq!(program.read(&mut [0]).unwrap(), 0, "its stream has ended");
    drop(served.serving);
    assert!(!served.path.exists());
}

/// Builds the frame of a message.
fn frame(message: &FromSockets<'_>) -> Vec<u8> {
    let mut frame = vec![0; MAX_FRAME];
    let len = message.encode(0, &mut frame).unwrap();
    frame.truncate(len);
    frame
}

/// Returns the action before the first message on port 7 is answered, and where its bytes arrive.
fn first() -> (Beginning, std::sync::mpsc::Receiver<Vec<u8>>) {
    let (sender, receiver) = std::sync::mpsc::channel();
    let action = Box::new(move |sent: &[u8], _: &UnixStream| sender.send(sent.to_vec()).unwrap());
    (Beginning { sent: Vec::new(), first: Some(First { port: 7, action }) }, receiver)
}

#[test]
fn the_first_connection_can_be_saved_and_answered_by_another_relay() {
    let (beginning, receiver) = first();
    let mut served = served_from(beginning);
    served.program(3);
    let sent = receiver.recv().unwrap();
    assert_eq!(sent, frame(&FromSockets::Connect { stream: 3, port: 7 }));
    // Once.
    served.program(4);
    assert!(receiver.recv().is_err());
    // Nothing listens there: the message is answered anyway.
    let mut other = served_from(Beginning { sent, first: None });
    assert_eq!(other.hypervisor.hear(), Heard::Refuse(3));
    other.program(5);
}

#[test]
fn nothing_is_saved_once_something_else_was_said() {
    let (beginning, receiver) = first();
    let mut served = served_from(beginning);
    served.hypervisor.say(&FromSockets::Connect { stream: 2, port: 8 });
    assert_eq!(served.hypervisor.hear(), Heard::Refuse(2));
    served.program(3);
    assert!(receiver.recv().is_err());
    let (beginning, receiver) = first();
    let mut served = served_from(beginning);
    let mut program = UnixStream::connect(served.path.join("vsock")).unwrap();
    program.write_all(b"CONNECT 9\n").unwrap();
    assert_eq!(served.hypervisor.hear(), Heard::Connect(1, 9));
    served.program(3);
    assert!(receiver.recv().is_err());
}
