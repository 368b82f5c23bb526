use std::sync::mpsc;

use hv_wire::control::{Assembler, FromHypervisor, MAX_FRAME, Refusal, ServiceState};

use super::*;
use crate::control::lines::{AreaLine, CopiedLine, DiskLine, PictureLine, PressureLine};
use crate::control::pairs::{Pair, wide};

/// What a hypervisor of the tests answers: nothing, or a message.
type Script = Box<dyn Fn(&ToHypervisor<'_>, &mut dyn FnMut(&FromHypervisor<'_>)) + Send>;

/// Creates the room for disks, without any yet.
fn disks() -> Arc<Live> {
    use crate::disks::Chosen;
    Chosen::open(&[], &[], 1 << 32, 4 << 20).unwrap().prepare([3; 16]).unwrap().live()
}

/// Creates the memory of a guest of 1 GiB, of which the first MiB is in use, and which shows that on its screen.
fn memory() -> Arc<Memory> {
    use hv_wire::platform::{GUEST_RAM_BASE, RAM_BASE};
    let ram = crate::machine::Ram::new(GUEST_RAM_BASE - RAM_BASE + (1 << 30)).unwrap();
    ram.write(GUEST_RAM_BASE, &vec![1; 1 << 20]).unwrap();
    Arc::new(Memory::new(ram, 1 << 30, Some(GUEST_RAM_BASE)))
}

/// Creates a machine whose hypervisor answers by a script.
fn machine(script: Script) -> (tempfile::TempDir, std::path::PathBuf, Serving) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control");
    let server = Server::listen(&path, true).unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let saver = Arc::new(Saver::new(Err("this one is a model".into())));
    let machine = Controlled { disks: disks(), memory: memory(), saver, next_request: 1 };
    let serving = server.start(ours, machine).unwrap();
    std::thread::spawn(move || {
        let mut stream = theirs;
        let mut assembler = Assembler::new();
        loop {
            let space = assembler.space().unwrap();
            if !space.is_empty() {
                match stream.read(space) {
                    Ok(0) | Err(_) => return,
                    Ok(bytes) => assembler.advance(bytes),
                }
            }
            let Some((head, body)) = assembler.frame() else { continue };
            let request = ToHypervisor::decode(&head, body).unwrap();
            let mut buffer = vec![0; MAX_FRAME];
            script(&request, &mut |message| {
                let len = message.encode(head.id, &mut buffer).unwrap();
                let _ = stream.write_all(&buffer[..len]);
            });
            assembler.done();
        }
    });
    (folder, path, serving)
}

/// Sends lines, and returns the replies.
fn talk(path: &Path, lines: &str) -> Vec<Reply> {
    let mut client = UnixStream::connect(path).unwrap();
    client.write_all(lines.as_bytes()).unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    BufReader::new(client).lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect()
}

fn one(path: &Path, line: &str) -> Result<Given, Failure> {
    let [reply] = &talk(path, &format!("{line}\n"))[..] else { panic!("one reply") };
    assert_eq!(reply.ok, reply.error.is_none());
    reply.error.clone().map_or_else(|| Ok(reply.result.clone().unwrap()), Err)
}

fn reason(outcome: Result<Given, Failure>) -> Reason {
    outcome.unwrap_err().reason
}

const DONE: FromHypervisor<'static> = FromHypervisor::Outcome { outcome: 0, flags: 0 };

#[test]
fn the_socket_is_the_users_alone_and_goes_away() {
    use std::os::unix::fs::PermissionsExt as _;
    let (_folder, path, serving) = machine(Box::new(|_, _| {}));
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert!(Server::listen(&path, true).unwrap_err().to_string().contains("an unused path"));
    drop(serving);
    assert!(!path.exists());
}

#[test]
fn requests_reach_the_hypervisor_and_answers_the_client() {
    let (_folder, path, _serving) = machine(Box::new(|request, answer| match request {
        ToHypervisor::Shutdown { action: 1, force: true } | ToHypervisor::TimeSync { now: 0 } => {
            answer(&DONE);
        }
        ToHypervisor::Vss { operation: 5 } | ToHypervisor::Point { states: [0, 1, 0, 2, 0, 0] } => {
            answer(&DONE);
        }
        ToHypervisor::Kvp { operation: 3, index: index @ 0..3, .. } => {
            let key = wide(&format!("key{index}"));
            answer(&FromHypervisor::Pair { value_type: 1, key: &key, value: &wide("v") });
        }
        ToHypervisor::Kvp { operation: 3, index: 3, .. } => {
            answer(&FromHypervisor::Outcome { outcome: Status::CONTINUE.0.into(), flags: 0 });
        }
        ToHypervisor::Memory {} => {
            answer(&FromHypervisor::Memory { taken: 512, reported: true, available: 3, committed: 515 });
        }
        ToHypervisor::Status {} => {
            let state = ServiceState { driver: DriverState::Ready, major: 3, minor: 2 };
            answer(&FromHypervisor::Status { services: [state; Service::ALL.len()] });
        }
        other => panic!("{other:?}"),
    }));
    let done = Ok(Given::Done {});
    assert_eq!(one(&path, r#"{"request":"shutdown","action":"restart","force":true}"#), done);
    assert_eq!(one(&path, r#"{"request":"time"}"#), done);
    assert_eq!(one(&path, r#"{"request":"freeze"}"#), done);
    assert_eq!(one(&path, r#"{"request":"mouse","x":1,"y":2}"#), done);
    assert_eq!(reason(one(&path, r#"{"request":"mouse","x":1,"y":40000}"#)), Reason::InvalidRequest);
    let pair = Pair { key: "key1".to_owned(), value: "v".to_owned() };
    assert_eq!(one(&path, r#"{"request":"kvp-get","pool":"auto","key":"key1"}"#), Ok(Given::Pair(pair)));
    assert_eq!(reason(one(&path, r#"{"request":"kvp-get","pool":"auto","key":"key"}"#)), Reason::NotFound);
    let Ok(Given::Pairs(pairs)) = one(&path, r#"{"request":"kvp-list","pool":"guest"}"#) else {
        panic!("a list")
    };
    assert_eq!(pairs.iter().map(|pair| &*pair.key).collect::<Vec<_>>(), ["key0", "key1", "key2"]);
    let Ok(Given::Services(services)) = one(&path, r#"{"request":"status"}"#) else { panic!("services") };
    assert_eq!((services.len(), services["vss"].version.as_deref()), (10, Some("3.2")));
    let memory = services["balloon"].memory.unwrap();
    assert_eq!((memory.bytes, memory.given_up), ((1 << 30) - (2 << 20), 2 << 20));
    assert_eq!(memory.pressure, Some(PressureLine { available: 12288, committed: 515 << 12 }));
    assert!(services["kvp"].memory.is_none());
    // Several lines of one client are answered in their order.
    let replies = talk(&path, "{\"request\":\"time\"}\nnonsense\n{\"request\":\"freeze\"}\n");
    assert_eq!(replies.iter().map(|reply| reply.ok).collect::<Vec<_>>(), [true, false, true]);
}

#[test]
fn each_way_to_fail_has_its_reason() {
    let cases = [
        (FromHypervisor::Refused { why: Refusal::Absent }, Reason::Absent),
        (FromHypervisor::Refused { why: Refusal::Closed }, Reason::NoDriver),
        (FromHypervisor::Refused { why: Refusal::Negotiating }, Reason::NoProgram),
        (FromHypervisor::Refused { why: Refusal::Incompatible }, Reason::Incompatible),
        (FromHypervisor::Refused { why: Refusal::Busy }, Reason::Busy),
        (FromHypervisor::Refused { why: Refusal::Unsupported }, Reason::Unsupported),
        (FromHypervisor::Refused { why: Refusal::Full }, Reason::RingFull),
        (FromHypervisor::Outcome { outcome: 0x8000_4005, flags: 0 }, Reason::Refused),
        (FromHypervisor::Outcome { outcome: 0x8007_0103, flags: 0 }, Reason::NotFound),
        (FromHypervisor::Outcome { outcome: 1 << 32, flags: 0 }, Reason::Malformed),
        (FromHypervisor::Outcome { outcome: 2 << 32, flags: 0 }, Reason::Closed),
        // No answer to this request.
        (DONE, Reason::Malformed),
    ];
    let (sender, receiver) = mpsc::channel();
    let receiver = std::sync::Mutex::new(receiver);
    let (_folder, path, _serving) =
        machine(Box::new(move |_, answer| answer(&receiver.lock().unwrap().recv().unwrap())));
    for (answer, expected) in cases {
        sender.send(answer).unwrap();
        let outcome = one(&path, r#"{"request":"kvp-get","pool":"auto","key":"k"}"#);
        assert_eq!(reason(outcome), expected, "{answer:?}");
    }
}

#[test]
fn what_the_screen_shows_is_written_to_a_file() {
    const fn shown(offset: u64) -> FromHypervisor<'static> {
        let (depth, width, height, pitch) = (32, 3, 2, 16);
        FromHypervisor::Screen { offset, depth, width, height, pitch, left: 1, top: 0, right: 3, bottom: 1 }
    }
    let (sender, receiver) = mpsc::channel();
    let receiver = std::sync::Mutex::new(receiver);
    let (folder, path, _serving) = machine(Box::new(move |request, answer| {
        assert_eq!(*request, ToHypervisor::Screen {});
        answer(&receiver.lock().unwrap().recv().unwrap());
    }));
    let file = folder.path().join("screen.png");
    let take =
        |file: &Path| one(&path, &format!(r#"{{"request":"screenshot","file":"{}"}}"#, file.display()));
    sender.send(shown(4096)).unwrap();
    let changed = Some(AreaLine { x: 1, y: 0, width: 2, height: 1 });
    assert_eq!(take(&file), Ok(Given::Picture(PictureLine { width: 3, height: 2, changed })));
    let written = std::fs::read(&file).unwrap();
    assert!(written.starts_with(b"\x89PNG"), "{written:?}");
    // Refused by the hypervisor; outside of the video memory; a file without a folder; a place that depends on ours.
    for (answer, file, expected) in [
        (FromHypervisor::Refused { why: Refusal::Invalid }, &*file, Reason::Refused),
        (FromHypervisor::Refused { why: Refusal::Closed }, &file, Reason::NoDriver),
        (DONE, &file, Reason::Malformed),
        (shown(8 << 20), &file, Reason::Refused),
        (shown(0), &folder.path().join("no/screen.png"), Reason::Refused),
    ] {
        sender.send(answer).unwrap();
        assert_eq!(reason(take(file)), expected, "{answer:?}");
    }
    assert_eq!(reason(take(Path::new("screen.png"))), Reason::InvalidRequest);
    assert_eq!(std::fs::read(&file).unwrap(), written);
}

#[test]
fn nobody_who_answers_is_a_time_out_and_an_end_is_an_end() {
    let (_folder, path, _serving) = machine(Box::new(|request, answer| {
        if let ToHypervisor::Status {} = request {
            answer(&DONE);
            panic!("the machine ends");
        }
    }));
    assert_eq!(reason(one(&path, r#"{"request":"time","timeout_ms":20}"#)), Reason::TimedOut);
    assert_eq!(reason(one(&path, r#"{"request":"status"}"#)), Reason::Malformed);
    // The thread that stood for the hypervisor is gone, and with it its end of the port.
    assert_eq!(reason(one(&path, r#"{"request":"time"}"#)), Reason::Ended);
}

#[test]
fn a_text_is_typed_part_by_part_and_stops_where_the_guest_does() {
    let (tell, told) = mpsc::channel();
    let (_folder, path, _serving) = machine(Box::new(move |request, answer| {
        let ToHypervisor::Type { keys } = request else { panic!("{request:?}") };
        tell.send(keys.to_vec()).unwrap();
        // The letter b on a line of its own is where this guest closes its channel.
        let closed = keys.starts_with(&[0x30, 0]);
        answer(&FromHypervisor::Outcome { outcome: if closed { 2 << 32 } else { 0 }, flags: 0 });
    }));
    let typed = |text: &str| one(&path, &format!(r#"{{"request":"type","text":"{text}"}}"#));
    assert_eq!(typed("a\\n"), Ok(Given::Done {}));
    assert_eq!(told.recv().unwrap(), [0x1e, 0, 0x1e, 2, 0x1c, 0, 0x1c, 2]);
    let failure = typed(&format!("{}b", "a".repeat(64))).unwrap_err();
    assert_eq!(failure.reason, Reason::Closed);
    assert!(failure.message.ends_with("; 64 of 65 characters were typed"), "{}", failure.message);
    assert_eq!(told.try_iter().map(|keys| keys.len()).collect::<Vec<_>>(), [128, 128, 4]);
    let failure = typed("b").unwrap_err();
    assert!(!failure.message.contains("typed"), "{}", failure.message);
    told.try_iter().for_each(drop);
    assert_eq!(reason(typed("\u{fc}")), Reason::InvalidRequest);
    assert_eq!(reason(typed("")), Reason::InvalidRequest);
    assert!(told.try_recv().is_err(), "nothing was sent");
}

#[test]
fn a_file_is_copied_piece_by_piece_and_given_up_where_the_guest_stops() {
    let (tell, told) = mpsc::channel();
    let (_folder, path, _serving) = machine(Box::new(move |request, answer| {
        let status = match request {
            ToHypervisor::CopyStart { file, .. } if *file == wide("there") => Status::ALREADY_EXISTS,
            ToHypervisor::CopyWrite { data: [0xff, ..], .. } => Status::DISK_FULL,
            ToHypervisor::CopyWrite { data: [0xfe, ..], .. } => return,
            _ => Status::SUCCESS,
        };
        tell.send(match request {
            ToHypervisor::CopyStart { folder, overwrite, create_path, size, .. } => {
                assert_eq!(*folder, wide("/srv/"));
                format!("start {size} {overwrite} {create_path}")
            }
            ToHypervisor::CopyWrite { offset, data } => format!("write {} at {offset}", data.len()),
            ToHypervisor::CopyEnd { cancel } => format!("end {cancel}"),
            other => panic!("{other:?}"),
        })
        .unwrap();
        answer(&FromHypervisor::Outcome { outcome: status.0.into(), flags: 0 });
    }));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    let copy = |bytes: &[u8], to: &str, rest: &str| {
        std::fs::write(&file, bytes).unwrap();
        let file = file.display();
        one(&path, &format!(r#"{{"request":"fcopy","file":"{file}","to":"{to}"{rest}}}"#))
    };
    let all = || told.try_iter().collect::<Vec<String>>();
    assert_eq!(
        copy(&[7; 6145], "/srv/a", r#","overwrite":true"#),
        Ok(Given::Copied(CopiedLine { bytes: 6145 }))
    );
    assert_eq!(all(), ["start 6145 true false", "write 6144 at 0", "write 1 at 6144", "end false"]);
    assert_eq!(copy(&[], "/srv/", r#","create_path":true"#), Ok(Given::Copied(CopiedLine { bytes: 0 })));
    assert_eq!(all(), ["start 0 false true", "end false"]);
    // A file of the guest's that was not replaced is not removed either.
    let failure = copy(&[7], "/srv/there", "").unwrap_err();
    assert!(failure.message.contains("/srv/there already; --overwrite replaces it"), "{}", failure.message);
    assert_eq!((failure.reason, all()), (Reason::Refused, vec!["start 1 false false".to_owned()]));
    let failure = copy(&[0xff], "/srv/a", "").unwrap_err();
    assert!(failure.message.contains("disk is full"), "{}", failure.message);
    assert_eq!(all(), ["start 1 false false", "write 1 at 0", "end true"]);
    // A guest that does not answer. The limit is for its first answer too, which a busy machine may delay.
    assert_eq!(reason(copy(&[0xfe], "/srv/a", r#","timeout_ms":5000"#)), Reason::TimedOut);
    assert_eq!(all(), ["start 1 false false", "end true"]);
    for (file, to) in [("/", "/srv/a"), ("/none", "/srv/a"), (file.to_str().unwrap(), "srv/a")] {
        let line = format!(r#"{{"request":"fcopy","file":"{file}","to":"{to}"}}"#);
        assert_eq!(reason(one(&path, &line)), Reason::InvalidRequest, "{file} {to}");
    }
    assert!(all().is_empty());
}

#[test]
fn a_copy_that_the_guest_has_not_given_up_is_given_up_before_the_next() {
    let (tell, told) = mpsc::channel();
    let (_folder, path, _serving) = machine(Box::new(move |request, answer| {
        let busy = FromHypervisor::Refused { why: Refusal::Busy };
        match request {
            ToHypervisor::CopyEnd { cancel: true } => {
                let first = told.try_recv().is_ok();
                answer(if first { &busy } else { &DONE });
            }
            ToHypervisor::CopyWrite { data: [0xfe], .. } => {}
            _ => answer(&DONE),
        }
    }));
    let file = tempfile::NamedTempFile::new().unwrap();
    let copy = |byte: u8, rest: &str| {
        std::fs::write(file.path(), [byte]).unwrap();
        let file = file.path().display();
        one(&path, &format!(r#"{{"request":"fcopy","file":"{file}","to":"/a"{rest}}}"#))
    };
    // The guest still has the piece when it is asked to give the file up, and when the next is to begin.
    for _ in 0..2 {
        tell.send(()).unwrap();
    }
    let failure = copy(0xfe, r#","timeout_ms":5000"#).unwrap_err();
    assert_eq!(failure.reason, Reason::TimedOut);
    assert!(failure.message.ends_with("a part of the file may be left in the guest"), "{}", failure.message);
    assert_eq!(reason(copy(1, "")), Reason::Busy);
    assert_eq!(copy(1, ""), Ok(Given::Copied(CopiedLine { bytes: 1 })));
}

#[test]
fn memory_is_taken_and_given_back_as_the_hypervisor_says() {
    let (tell, told) = mpsc::channel();
    let taken = std::cell::Cell::new(0);
    let waiting = std::cell::Cell::new(false);
    let (_folder, path, _serving) = machine(Box::new(move |request, answer| match *request {
        // The guest gives up 512 pages at most, and the tool has to discard them first.
        ToHypervisor::Balloon { taken: wanted } => {
            tell.send(wanted).unwrap();
            taken.set(wanted.min(512));
            let range = hv_wire::platform::GUEST_RAM_BASE >> 12 | taken.get() << 40;
            waiting.set(true);
            answer(&FromHypervisor::Discard { ranges: &range.to_le_bytes() });
        }
        ToHypervisor::Discarded {} => {
            assert!(waiting.take(), "it is told once");
            tell.send(u64::MAX).unwrap();
        }
        ToHypervisor::Memory {} => {
            answer(&FromHypervisor::Memory {
                taken: taken.get(),
                reported: false,
                available: 0,
                committed: 0,
            });
        }
        _ => panic!("{request:?}"),
    }));
    let set =
        |bytes: &str| one(&path, &format!(r#"{{"request":"memory-set","bytes":{bytes},"timeout_ms":50}}"#));
    // What the hypervisor wants discarded is not an answer to the request.
    assert_eq!(reason(set("1071644672")), Reason::TimedOut);
    assert_eq!((told.recv().unwrap(), told.recv().unwrap()), (512, u64::MAX));
    let Ok(Given::Memory(line)) = one(&path, r#"{"request":"memory"}"#) else { panic!("memory") };
    assert_eq!((line.bytes, line.given_up, line.pressure), (1_071_644_672, 2 << 20, None));
    assert_eq!(line.host_bytes, 0, "the first MiB was discarded");
    assert_eq!(reason(set("1073741825")), Reason::InvalidRequest);
    assert!(told.try_recv().is_err(), "nothing was asked");
}

#[test]
fn a_guest_that_keeps_memory_is_told_from_one_that_does_not() {
    let (_folder, path, _serving) = machine(Box::new(|request, answer| match *request {
        ToHypervisor::Balloon { taken: 262_144 } => {
            answer(&FromHypervisor::Refused { why: Refusal::Unsupported });
        }
        ToHypervisor::Balloon { .. } => answer(&DONE),
        ToHypervisor::Memory {} => {
            answer(&FromHypervisor::Memory { taken: 512, reported: false, available: 0, committed: 0 });
        }
        _ => panic!("{request:?}"),
    }));
    let set = |bytes: &str| one(&path, &format!(r#"{{"request":"memory-set","bytes":{bytes}}}"#));
    assert!(set("1071644672").is_ok());
    assert!(set("1071644671").is_ok(), "a part of a chunk is left out");
    let failure = set("1069547520").unwrap_err();
    assert_eq!(failure.reason, Reason::Refused);
    assert!(failure.message.starts_with("the guest keeps "), "{}", failure.message);
    let failure = set("0").unwrap_err();
    assert!(
        failure.reason == Reason::Unsupported && failure.message.contains("pages of 4 KiB"),
        "{failure:?}"
    );
}

#[test]
fn a_line_that_is_too_long_is_refused() {
    let (_folder, path, _serving) = machine(Box::new(|_, _| {}));
    let long = format!("{{\"request\":\"status\",\"x\":\"{}\"}}\n", "x".repeat(LONGEST as usize));
    let replies = talk(&path, &long);
    assert_eq!(replies[0].error.as_ref().unwrap().reason, Reason::InvalidRequest);
    // A value that no message can hold.
    let value = "v".repeat(20_000);
    let outcome =
        one(&path, &format!(r#"{{"request":"kvp-set","pool":"guest","key":"k","value":"{value}"}}"#));
    assert_eq!(reason(outcome), Reason::InvalidRequest);
}

#[test]
fn disks_are_added_resized_and_removed_as_the_hypervisor_says() {
    let (tell, told) = mpsc::channel();
    let (_folder, path, _serving) = machine(Box::new(move |request, answer| {
        let full = matches!(request, ToHypervisor::DiskAdd { lun: 9, .. });
        tell.send(match *request {
            ToHypervisor::DiskAdd { base, size, flags, controller, lun, .. } => {
                format!("add {base:x} {size} {flags} {controller}:{lun}")
            }
            ToHypervisor::DiskRemove { controller, lun } => format!("remove {controller}:{lun}"),
            ToHypervisor::DiskResize { controller, lun, size } => format!("resize {controller}:{lun} {size}"),
            ToHypervisor::Rescind { device } => format!("rescind {device}"),
            _ => format!("{request:?}"),
        })
        .unwrap();
        answer(&if full { FromHypervisor::Refused { why: Refusal::Full } } else { DONE });
    }));
    let image = tempfile::NamedTempFile::new().unwrap();
    image.as_file().set_len(8192).unwrap();
    let add = |rest: &str| {
        let file = image.path().display();
        one(&path, &format!(r#"{{"request":"disk-add","file":"{file}"{rest}}}"#))
    };
    let disk = |controller, lun| Given::Disk(DiskLine { controller, lun, bytes: 8192 });
    assert_eq!(add(""), Ok(disk(0, 0)));
    assert_eq!(add(r#","mode":"ro""#), Ok(disk(0, 1)));
    assert_eq!(told.recv().unwrap(), "add 100000000 8192 0 0:0");
    assert_eq!(told.recv().unwrap(), "add 100002000 8192 1 0:1");
    for (rest, expected) in [
        (r#","mode":"rw""#, Reason::InvalidRequest),
        (r#","at":{"controller":0,"lun":1}"#, Reason::InvalidRequest),
        (r#","at":{"controller":4,"lun":1}"#, Reason::InvalidRequest),
        (r#","at":{"controller":1,"lun":9}"#, Reason::Refused),
    ] {
        assert_eq!(reason(add(rest)), expected, "{rest}");
    }
    let relative = std::path::absolute(".").unwrap().ancestors().skip(1).map(|_| "../").collect::<String>()
        + image.path().strip_prefix("/").unwrap().to_str().unwrap();
    let line = format!(r#"{{"request":"disk-add","file":"{relative}"}}"#);
    assert_eq!(reason(one(&path, &line)), Reason::InvalidRequest, "{relative}");
    assert_eq!(told.recv().unwrap(), "add 100004000 8192 0 1:9");
    let at = |request: &str, lun: u16, rest: &str| {
        one(&path, &format!(r#"{{"request":"disk-{request}","at":{{"controller":0,"lun":{lun}}}{rest}}}"#))
    };
    assert_eq!(
        reason(at("resize", 0, r#","bytes":16384"#)),
        Reason::InvalidRequest,
        "the next disk is there"
    );
    assert_eq!(reason(at("resize", 1, r#","bytes":16384"#)), Reason::InvalidRequest, "it is read-only");
    assert_eq!(at("resize", 0, r#","bytes":4096"#), Ok(Given::Done {}));
    assert_eq!(at("remove", 1, ""), Ok(Given::Done {}));
    assert_eq!(reason(at("remove", 1, "")), Reason::Absent);
    assert_eq!(at("resize", 0, r#","bytes":16384"#), Ok(Given::Done {}));
    assert_eq!(one(&path, r#"{"request":"rescind","device":"kvp"}"#), Ok(Given::Done {}));
    assert_eq!(one(&path, r#"{"request":"net","link":"down"}"#), Ok(Given::Done {}));
    let told: Vec<String> = told.try_iter().collect();
    assert_eq!(
        told,
        ["resize 0:0 4096", "remove 0:1", "resize 0:0 16384", "rescind 7", "Link { up: false }"]
    );
}
