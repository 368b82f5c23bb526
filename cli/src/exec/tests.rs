//! Tests of the parts that need no guest; the scenarios `exec/` have one.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};

use hv_wire::control::{CONTROL_VERSION, FrameHead, FromAgent, MAX_FRAME, ToAgent, share_step};

use super::input::{Credit, pump};
use super::session::{State, serve};
use super::*;

#[test]
fn the_code_is_the_commands_if_it_ended() {
    let ended = |outcome| code(Some(outcome), Exit::Success, false);
    assert_eq!(ended(Outcome::Exited(0)), 0);
    assert_eq!(ended(Outcome::Exited(77)), 77);
    assert_eq!(ended(Outcome::Killed(9)), 137);
    assert_eq!(ended(Outcome::NotStarted(2)), NOT_FOUND);
    assert_eq!(ended(Outcome::NotStarted(13)), NO_PROGRAM);
    assert_eq!(ended(Outcome::NotShared(0, share_step::FUSE, 19)), FAILED);
}

#[test]
fn the_machines_end_counts_where_the_command_has_none() {
    assert_eq!(code(None, Exit::Success, false), LOST);
    assert_eq!(code(None, Exit::Machine, false), LOST);
    assert_eq!(code(None, Exit::Timeout, false), TIMEOUT);
    assert_eq!(code(None, Exit::Crash, false), CRASH);
    assert_eq!(code(None, Exit::Usage, false), FAILED);
    assert_eq!(code(None, Exit::Interrupted, false), 130);
    assert_eq!(code(Some(Outcome::Exited(0)), Exit::Crash, false), CRASH);
}

#[test]
fn what_a_folder_lacks_in_the_guest_is_told_by_the_step() {
    let ended = Ended {
        end: Exit::Success,
        exit: Exit::Success,
        reason: String::new(),
        console: String::new(),
        report: String::new(),
        kernel: String::new(),
        written: true,
    };
    let said = |step, error| {
        let outcome = Some(Outcome::NotShared(0, step, error));
        reasons(outcome, &ended, Progress::Ready, ("x", &["/x".into()])).join("\n")
    };
    // The same errors come of other steps too.
    for error in [2, 19] {
        assert!(said(share_step::FUSE, error).contains("CONFIG_FUSE_FS"));
        for (step, failed) in [
            (share_step::FOLDER, "cannot make that folder: "),
            (share_step::CONNECTION, "cannot connect to the tool: "),
            (share_step::MOUNT, "cannot mount it: "),
            (0xff, "cannot mount it: "),
        ] {
            let said = said(step, error);
            assert!(said.contains(failed) && !said.contains("FUSE"), "{said}");
        }
    }
}

#[test]
fn the_end_of_a_console_begins_with_why_linux_panicked() {
    let backtrace: Vec<String> = (0..40).map(|n| format!("frame {n}")).collect();
    let panic = "[1.2] Kernel panic - not syncing: sysrq triggered crash";
    let long: Vec<&str> = [panic].into_iter().chain(backtrace.iter().map(String::as_str)).collect();
    let shown = excerpt(&long);
    assert_eq!((&shown[..2], shown.len(), shown.last()), (&[panic, "..."][..], TAIL + 2, Some(&"frame 39")));
    assert_eq!(excerpt(&long[..TAIL]), long[..TAIL]);
    assert_eq!(excerpt(&long[1..]), long[41 - TAIL..]);
    assert!(excerpt(&[]).is_empty());
}

#[test]
fn a_broken_rule_fails_a_command_that_succeeded() {
    assert_eq!(code(Some(Outcome::Exited(0)), Exit::Success, true), STRICT);
    assert_eq!(code(Some(Outcome::Exited(3)), Exit::Success, true), 3);
    // The machine's own end says more.
    assert_eq!(code(None, Exit::Crash, true), CRASH);
    assert_eq!(code(None, Exit::Timeout, true), TIMEOUT);
    assert_eq!(code(None, Exit::Success, true), LOST);
}

#[test]
fn a_verdict_tells_failures_of_the_command_from_all_others() {
    let judge =
        |outcome, code| verdict(outcome, code, &["  last line".to_owned(), "hv exec: why".to_owned()]);
    assert_eq!(judge(Some(Outcome::Exited(0)), 0), Verdict::Passed);
    assert_eq!(judge(Some(Outcome::Exited(3)), 3), Verdict::Failed("exit status 3".to_owned()));
    assert_eq!(judge(Some(Outcome::Killed(9)), 137), Verdict::Failed("signal 9".to_owned()));
    assert_eq!(
        judge(Some(Outcome::Exited(0)), STRICT),
        Verdict::Failed("hv exec: why\n  last line".to_owned())
    );
    for (outcome, code) in [
        (None, LOST),
        (None, TIMEOUT),
        (Some(Outcome::NotStarted(2)), NOT_FOUND),
        (Some(Outcome::NotShared(0, share_step::FUSE, 19)), FAILED),
        (Some(Outcome::Exited(0)), CRASH),
    ] {
        assert_eq!(judge(outcome, code), Verdict::Error("hv exec: why\n  last line".to_owned()), "{code}");
    }
    assert_eq!(verdict(None, 130, &[]), Verdict::Error("hv exec: interrupted".to_owned()));
}

#[test]
fn every_code_of_its_own_is_in_the_help() {
    for code in [STRICT, LOST, CRASH, TIMEOUT, FAILED, NO_PROGRAM, NOT_FOUND, Exit::Interrupted as u8] {
        assert!(HELP.contains(&format!("\n  {code}  ")), "{code}");
    }
}

/// Builds the frames of these messages.
fn frames(messages: &[FromAgent<'_>]) -> Vec<u8> {
    let frame = |message: &FromAgent<'_>| {
        let mut frame = vec![0; MAX_FRAME];
        let length = message.encode(0, &mut frame).unwrap();
        frame.truncate(length);
        frame
    };
    messages.iter().flat_map(frame).collect()
}

/// Speaks with an agent that sends these bytes and no more.
fn speak(bytes: &[u8]) -> (Option<ErrorKind>, State) {
    let (error, state, _) = converse(bytes, false);
    (error, state)
}

/// Does the same, and returns what the agent is told.
fn converse(bytes: &[u8], renew: bool) -> (Option<ErrorKind>, State, Vec<u8>) {
    let (ours, mut agents) = UnixStream::pair().unwrap();
    agents.write_all(bytes).unwrap();
    agents.shutdown(std::net::Shutdown::Write).unwrap();
    let state = Mutex::default();
    let command = Command {
        words: vec![b"x".to_vec()],
        glob: true,
        terminal: None,
        transcript: None,
        renew,
        shares: Vec::new(),
    };
    let result = serve(ours, &command, &state);
    // Threads of the tool may have the other end longer.
    agents.set_nonblocking(true).unwrap();
    let mut told = Vec::new();
    let _ = agents.read_to_end(&mut told);
    (result.err().map(|error| error.kind()), state.into_inner().unwrap(), told)
}

const READY: FromAgent<'_> = FromAgent::Ready { version: CONTROL_VERSION };
const EXITED: FromAgent<'_> = FromAgent::Exited { status: 7 };

#[test]
fn an_agent_that_breaks_the_protocol_is_not_heard_any_more() {
    let unknown = FrameHead { magic: FrameHead::MAGIC, len: 0, id: 0, kind: 0x8fff, version: 1 };
    let long = FrameHead { len: u32::MAX, ..unknown };
    let head = |head: FrameHead| [frames(&[READY]), zerocopy::IntoBytes::as_bytes(&head).to_vec()].concat();
    for bytes in [
        b"no frame, but as long as a head".to_vec(),
        frames(&[EXITED]),
        frames(&[FromAgent::Output { stream: 1, bytes: b"early" }]),
        frames(&[FromAgent::Ready { version: CONTROL_VERSION + 1 }, EXITED]),
        frames(&[READY, READY, EXITED]),
        frames(&[READY, FromAgent::Output { stream: 0, bytes: b"x" }, EXITED]),
        frames(&[READY, FromAgent::Output { stream: 255, bytes: b"x" }, EXITED]),
        head(unknown),
        head(long),
    ] {
        let (error, state) = speak(&bytes);
        assert_eq!((error, state.outcome), (Some(ErrorKind::InvalidData), None), "{bytes:?}");
    }
    // A machine that ends is not a breach.
    let (error, state) = speak(&frames(&[READY]));
    assert!(error != Some(ErrorKind::InvalidData) && state.outcome.is_none());
}

#[test]
fn odd_messages_do_no_harm_and_nothing_counts_behind_the_end() {
    let credit = FromAgent::Credit { bytes: u32::MAX };
    let none = FromAgent::Output { stream: 1, bytes: &[] };
    let late = FromAgent::Output { stream: 1, bytes: b"late" };
    let (_, state) = speak(&frames(&[READY, none, credit, credit, EXITED, READY, late, READY]));
    assert_eq!(state.outcome, Some(Outcome::Exited(7)));
}

#[test]
fn a_guest_that_may_have_booted_before_is_renewed_first() {
    let renewal = || {
        let (_, _, told) = converse(&frames(&[READY, EXITED]), true);
        let mut assembler = hv_wire::control::Assembler::new();
        let space = assembler.space().unwrap().len();
        assembler.space().unwrap().copy_from_slice(&told[..space]);
        assembler.advance(space);
        let rest = assembler.space().unwrap().len();
        assembler.space().unwrap().copy_from_slice(&told[space..space + rest]);
        assembler.advance(rest);
        let (head, body) = assembler.frame().unwrap();
        match ToAgent::decode(&head, body) {
            Some(ToAgent::Renew { seconds, entropy, .. }) => (seconds, entropy.to_vec()),
            other => panic!("{other:?}"),
        }
    };
    let now = || std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let earlier = now();
    let (first, second) = (renewal(), renewal());
    assert!((earlier..=now()).contains(&first.0) && second.0 >= first.0);
    assert_eq!(first.1.len(), hv_wire::control::AGENT_ENTROPY);
    assert_ne!(first.1, second.1);
    let (_, _, told) = converse(&frames(&[READY, EXITED]), false);
    let kind = ToAgent::Renew { seconds: 0, nanoseconds: 0, entropy: &[] };
    let mut frame = [0; MAX_FRAME];
    kind.encode(0, &mut frame).unwrap();
    assert_ne!(told[12..14], frame[12..14]);
}

/// Reads what arrives of `bytes` at the agent.
fn next_input(agents: &mut UnixStream, bytes: &[u8]) {
    let mut frame = [0; MAX_FRAME];
    let length = ToAgent::Input { bytes }.encode(0, &mut frame).unwrap();
    let mut got = vec![0; length];
    agents.read_exact(&mut got).unwrap();
    assert_eq!(got, frame[..length]);
}

#[test]
fn a_stdin_that_does_not_block_is_read_to_its_end() {
    let (stdin, mut writer) = std::io::pipe().unwrap();
    rustix::io::ioctl_fionbio(&stdin, true).unwrap();
    let (ours, mut agents) = UnixStream::pair().unwrap();
    let mouth = Arc::new(Mutex::new(ours));
    let pumping = std::thread::spawn(move || pump(stdin.as_fd(), &mouth, &Credit::default(), false));
    for bytes in [&b"first"[..], b"second"] {
        writer.write_all(bytes).unwrap();
        next_input(&mut agents, bytes);
    }
    drop(writer);
    assert_eq!(pumping.join().unwrap(), Ok(()));
}

#[test]
fn a_stdin_that_cannot_be_read_is_an_error() {
    let (ours, _agents) = UnixStream::pair().unwrap();
    let folder = File::open("/").unwrap();
    let result = pump(folder.as_fd(), &Arc::new(Mutex::new(ours)), &Credit::default(), false);
    assert_eq!(result, Err(rustix::io::Errno::ISDIR));
}

#[test]
fn what_is_refused_is_not_in_the_help() {
    let tool = crate::name::command();
    let mut exec = tool.find_subcommand("exec").unwrap().clone();
    let help = exec.render_long_help().to_string();
    for gone in ["\n      --initrd", "\n      --no-initrd", "- crash", "- shell", "- poweroff"] {
        assert!(!help.contains(gone), "{gone}: {help}");
    }
    assert!(help.contains("\n      --disk") && help.contains("command: hotplug, poke or net"), "{help}");
    let mut boot = tool.find_subcommand("boot").unwrap().clone();
    assert!(boot.render_long_help().to_string().contains("\n      --initrd"));
}
