//! Files that a user names, given to the tool itself: from pipes, and hostile ones with little memory to read them in.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const HV: &str = env!("CARGO_BIN_EXE_hv");

/// What a run of the tool left.
struct Done {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Done {
    /// Checks that it ended with exit code 2 and one error that has `text`.
    #[track_caller]
    fn refused(&self, text: &str) {
        let errors = self.stderr.lines().filter(|line| line.starts_with("error: ")).count();
        assert!(
            self.code == Some(2) && errors == 1 && self.stderr.contains(text),
            "expected code 2 and {text:?}, got {:?}:\n{}{}",
            self.code,
            self.stdout,
            self.stderr
        );
    }
}

/// Runs the tool with `input` on a pipe as standard input, and at most this many MiB of address space.
fn hv_within(mib: u32, words: &[&str], input: &[u8]) -> Done {
    let mut child = Command::new("sh")
        .args(["-c", &format!("ulimit -v {}; exec \"$0\" \"$@\"", mib << 10), HV])
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = child.stdin.take().unwrap();
    let input = input.to_vec();
    // It need not read all of it.
    let writer = std::thread::spawn(move || drop(pipe.write_all(&input)));
    let done = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Done { code: done.status.code(), stdout: text(&done.stdout), stderr: text(&done.stderr) }
}

fn hv(words: &[&str], input: &[u8]) -> Done {
    hv_within(4096, words, input)
}

/// A folder for files.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, bytes: &[u8]) -> String {
        let path: PathBuf = self.0.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

/// Builds an ELF file for a machine (183 is AArch64), with a symbol table of `symbols` entries that all have the same
/// name.
fn elf(machine: u8, symbols: u64, name: &[u8]) -> Vec<u8> {
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(64, 0);
    (file[16], file[18], file[20]) = (2, machine, 1);
    let symbols_at = file.len() as u64;
    for n in 0..symbols {
        file.extend_from_slice(&[1, 0, 0, 0, 0x12, 0, 1, 0]);
        file.extend_from_slice(&(0x4040_0000 + n).to_le_bytes());
        file.extend_from_slice(&[0; 8]);
    }
    let names_at = file.len() as u64;
    file.push(0);
    file.extend_from_slice(name);
    let sections_at = file.len() as u64;
    for (kind, at, size, link, entry) in [
        (0u32, 0, 0, 0u32, 0u64),
        (2, symbols_at, names_at - symbols_at, 2, 24),
        (3, names_at, sections_at - names_at, 0, 0),
    ] {
        let mut section = vec![0; 64];
        section[4..8].copy_from_slice(&kind.to_le_bytes());
        section[24..32].copy_from_slice(&at.to_le_bytes());
        section[32..40].copy_from_slice(&size.to_le_bytes());
        section[40..44].copy_from_slice(&link.to_le_bytes());
        section[56..64].copy_from_slice(&entry.to_le_bytes());
        file.extend_from_slice(&section);
    }
    file[40..48].copy_from_slice(&sections_at.to_le_bytes());
    file[58..64].copy_from_slice(&[64, 0, 3, 0, 2, 0]);
    file
}

/// Builds `blocks` times 128 KiB of zeros in zstd (RFC 8878): each an RLE block of four bytes.
fn zstd_bomb(blocks: u32) -> Vec<u8> {
    // Window of 1 MiB, no content size, no checksum.
    let mut bytes = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 10 << 3];
    for block in 1..=blocks {
        let header = u32::from(block == blocks) | 1 << 1 | (128 << 10) << 3;
        bytes.extend_from_slice(&header.to_le_bytes()[..3]);
        bytes.push(0);
    }
    bytes
}

#[test]
fn an_input_may_be_a_pipe() {
    let folder = Folder::new();
    let foreign = elf(62, 1, b"name\0");
    for name in ["-", "/dev/stdin", "/dev/fd/0"] {
        hv(&["boot", "--kernel", name], &foreign).refused("expected arm64");
        hv(&["trace", name], b"{}").refused("it is not a trace of `hv boot --trace`");
        hv(&["conformance", "--read", name], b"one\ntwo\n").refused("it ends with: two");
        hv(&["bench", "--compare", name], b"{}").refused("does not contain figures");
    }
    let file = folder.file("foreign", &foreign);
    hv(&["boot", "--kernel", &file, "--initrd", "-"], b"initrd").refused("expected arm64");
    hv(&["boot", "--kernel", &file, "--symbols", "-"], b"1 t a\n").refused("expected arm64");
    hv(&["boot", "--kernel", &file, "--symbols", "-"], b"nothing").refused("has no symbols");
    hv(&["conformance", "--kernel", "-"], &foreign).refused("expected arm64");
    // A pipe with a path of its own, as shells make it for <(...).
    let shell = format!("exec {HV} boot --kernel <(cat {file})");
    let done = Command::new("bash").args(["-c", &shell]).output().unwrap();
    assert!(String::from_utf8_lossy(&done.stderr).contains("expected arm64"));
}

/// Starts the tool, and returns it once it says that it waits for data on `file`.
fn waiting(words: &[&str], file: &str) -> std::process::Child {
    let mut child = Command::new(HV)
        .args(words)
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut said = String::new();
    let mut reader = BufReader::new(child.stderr.as_mut().unwrap());
    while !said.contains(&format!("Waiting for data on {file}")) {
        assert_ne!(reader.read_line(&mut said).unwrap(), 0, "{words:?}: {said}");
    }
    assert_eq!(reader.buffer(), b"");
    child
}

#[test]
fn an_input_that_does_not_come_is_said_and_a_signal_ends_the_wait() {
    let folder = Folder::new();
    let pipe = folder.0.path().join("pipe").to_str().unwrap().to_owned();
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for words in [
        &["boot", "--kernel"][..],
        &["boot", "--initrd"],
        &["boot", "--symbols"],
        &["boot", "--hypervisor"],
        // What is made for the run's end does not change that.
        &["boot", "--control", &format!("{pipe}.sock"), "--kernel"],
        &["trace"],
        &["trace", "--check"],
        &["conformance", "--read"],
        &["conformance", "--kernel"],
        &["bench", "--compare"],
    ] {
        let mut child = waiting(&[words, &[&pipe]].concat(), &pipe);
        let pid = child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
        assert_eq!(child.wait().unwrap().code(), Some(130), "{words:?}");
    }
    let mut child = waiting(&["boot", "--kernel", "-"], "- (standard input)");
    drop(child.stdin.take());
    let mut rest = String::new();
    child.stderr.take().unwrap().read_to_string(&mut rest).unwrap();
    assert!(rest.contains("an empty file") && child.wait().unwrap().code() == Some(2), "{rest}");
}

#[test]
fn an_input_that_comes_late_is_read_whole() {
    let folder = Folder::new();
    let pipe = folder.0.path().join("pipe").to_str().unwrap().to_owned();
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mut child = waiting(&["boot", "--kernel", &pipe], &pipe);
    // More than a pipe holds, in pieces.
    let mut writer = std::fs::File::options().write(true).open(&pipe).unwrap();
    (0..40).for_each(|_| writer.write_all(&[b'x'; 5000]).unwrap());
    drop(writer);
    let mut rest = String::new();
    child.stderr.take().unwrap().read_to_string(&mut rest).unwrap();
    assert!(rest.contains(&format!("the kernel {pipe}")) && rest.contains("200000 bytes"), "{rest}");
    assert_eq!(child.wait().unwrap().code(), Some(2));
}

#[test]
fn nothing_is_copied_or_allocated_before_all_is_judged() {
    let folder = Folder::new();
    let copied = folder.file("copied", &[1; 1 << 20]);
    let written = folder.file("written", b"");
    std::fs::File::options().write(true).open(&written).unwrap().set_len(16 << 20).unwrap();
    let huge = folder.file("huge", b"");
    std::fs::File::options().write(true).open(&huge).unwrap().set_len(600 << 30).unwrap();
    let (text, option) = (folder.file("text", b"text"), format!("{written},rw"));
    let mut qcow2 = b"QFI\xfb\0\0\0\x03".to_vec();
    qcow2.resize(512, 0);
    for (tib, name) in [(10u64, "ten"), (60, "sixty")] {
        qcow2[24..32].copy_from_slice(&(tib << 40).to_be_bytes());
        folder.file(name, &qcow2);
    }
    let [ten, sixty] = ["ten", "sixty"].map(|name| folder.0.path().join(name).to_str().unwrap().to_owned());
    for (words, said) in [
        (&["--kernel", &text][..], "has no known format"),
        (&["--initrd", "/nonexistent/initrd"], "/nonexistent/initrd"),
        (&["--disk", &huge], "has 600 GiB, and at most 510.5 GiB"),
        (&["--disk", &ten], "has 10 TiB, and at most 510.5 GiB"),
        (&["--disk", &sixty], "has 60 TiB, and at most 510.5 GiB"),
        (&["--qemu", "/nonexistent/qemu"], "/nonexistent/qemu"),
        (&["--trace", &text, "--trace-buffer", "1T"], "--trace-buffer 1 TiB does not fit"),
        (&["--gdb", &text], "give --gdb an unused path"),
        (&["--gdb", "/nonexistent/gdb.sock"], "give --gdb an unused path"),
        (&["--memory", "1M"], "it is 1 MiB; expected a multiple of 2 MiB"),
    ] {
        let done = hv(&[&["boot", "--disk", &copied, "--disk", &option][..], words].concat(), b"");
        done.refused(said);
        assert!(!done.stderr.contains("Copying"), "{words:?}: {}", done.stderr);
        assert_eq!(std::fs::metadata(&written).unwrap().blocks(), 0, "{words:?}");
    }
}

#[test]
fn standard_input_is_for_one_option() {
    for words in [
        ["boot", "--kernel", "-", "--initrd", "-"],
        ["boot", "--kernel", "-", "--symbols", "/dev/stdin"],
        ["boot", "--initrd", "/dev/fd/0", "--symbols", "-"],
    ] {
        hv(&words, b"1 t a\n").refused("give - only once");
    }
    hv(&["conformance", "--read", "-", "-"], b"@hv begin 2 filter=\n").refused("give - only once");
}

#[test]
fn symbols_that_share_a_name_take_no_memory() {
    let folder = Folder::new();
    let kernel = folder.file("kernel", &elf(183, 50_000, &[b'n'; 1 << 20]));
    hv_within(512, &["boot", "--kernel", &kernel], b"").refused("no loadable segment");
    hv_within(512, &["boot", "--kernel", "/dev/null", "--symbols", &kernel], b"").refused("an empty file");
    let map = folder.file("System.map", &b"1 t a\n".repeat(5 << 20));
    hv_within(512, &["boot", "--kernel", "/dev/null", "--symbols", &map], b"")
        .refused("more than 4194304 symbols");
}

#[test]
fn devices_and_folders_are_no_files() {
    for words in [
        &["boot", "--kernel"][..],
        &["boot", "--initrd"],
        &["boot", "--symbols"],
        &["trace"],
        &["conformance", "--read"],
        &["conformance", "--kernel"],
        &["bench", "--compare"],
    ] {
        for (file, text) in
            [("/dev/zero", "/dev/zero"), ("/", "/"), ("/nonexistent/file", "/nonexistent/file")]
        {
            let mut words = words.to_vec();
            words.push(file);
            hv_within(512, &words, b"").refused(text);
        }
    }
}

#[test]
fn what_unpacks_without_an_end_takes_the_guests_memory_at_most() {
    let folder = Folder::new();
    let kernel = folder.file("kernel", &zstd_bomb(1 << 16));
    hv_within(1024, &["boot", "--memory", "64M", "--kernel", &kernel], b"")
        .refused("unpacks to more than 64 MiB");
}

/// Builds a packet of a trace with `count` messages of no content in field `field` of a message in field `outer`.
fn nested(outer: u8, field: u8, count: usize) -> Vec<u8> {
    let length = |mut value: usize| {
        let mut bytes = Vec::new();
        while value >= 0x80 {
            bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        bytes.push(value as u8);
        bytes
    };
    let inner = [field << 3 | 2, 0].repeat(count);
    let mut packet = vec![outer << 3 | 2];
    packet.extend(length(inner.len()));
    packet.extend(inner);
    let mut file = vec![0x0a];
    file.extend(length(packet.len()));
    file.extend(packet);
    file
}

#[test]
fn a_trace_of_many_nothings_is_an_error() {
    let folder = Folder::new();
    for count in [1000, 500_000, 8 << 20] {
        // Annotations of an event, and interned names.
        for (outer, field) in [(11, 4), (12, 2)] {
            let file = folder.file("trace", &nested(outer, field, count));
            hv_within(512, &["trace", &file], b"").refused("it is not a trace of `hv boot --trace`");
            let done = hv_within(512, &["trace", "--check", &file], b"");
            done.refused(&file);
        }
    }
}

#[test]
fn a_report_of_many_lines_is_read_in_little_memory() {
    let folder = Folder::new();
    let mut text = "@hv begin 2 cases=1 vps=1 filter=\n".to_owned();
    for n in 0..200_000 {
        text.push_str(&format!("@hv run a/{n}\n@hv fail a/{n} x\n"));
    }
    let file = folder.file("report", text.as_bytes());
    let done = hv_within(256, &["conformance", "--read", &file], b"");
    assert_eq!(done.code, Some(1), "{}{}", done.stdout, done.stderr);
    assert!(done.stdout.contains("200000 cases are not of this suite"), "{}", done.stdout);
    assert!(Path::new(&file).exists());
}

#[test]
fn a_name_forges_no_message() {
    let folder = Folder::new();
    let pipe = folder.0.path().join("pipe\nerror: forged");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mut command = Command::new(HV);
    command.arg("trace").arg(&pipe).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut reader = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains("forged") {
        assert_ne!(reader.read_line(&mut said).unwrap(), 0, "{said}");
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(said.lines().all(|line| !line.starts_with("error:")), "{said}");
}

/// As programs start others whose output they read: Node.js, systemd, inetd.
#[test]
fn a_result_may_go_to_a_socket() {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let mut command = Command::new(HV);
    command.args(["conformance", "--read", "-", "--format", "json", "--output", "/dev/stdout"]);
    command.stdin(Stdio::piped()).stdout(OwnedFd::from(theirs)).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    // It holds the socket's other end too.
    drop(command);
    child.stdin.take().unwrap().write_all(b"@hv begin 2 filter=\n").unwrap();
    let mut text = String::new();
    ours.read_to_string(&mut text).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1), "{text}");
    assert!(text.contains("\"schema\": 1") && text.ends_with("}\n"), "{text}");
}

/// The results of a long run are not lost with the file that does not take them.
#[test]
fn a_report_that_cannot_be_written_is_printed() {
    let report = b"@hv begin 2 filter=\n";
    let done = hv(&["conformance", "--read", "-", "--output", "/dev/full"], report);
    done.refused("cannot write the report to /dev/full");
    assert!(done.stdout.contains("FAILED: "), "{}", done.stdout);
    let done = hv(&["conformance", "--read", "-", "--output", "-"], report);
    assert!(done.code == Some(1) && done.stdout.contains("FAILED: "), "{}{}", done.stdout, done.stderr);
    hv(&["trace", "/dev/null", "--html", "-"], b"").refused("it is not a trace");
    hv(&["boot", "--trace", "-"], b"").refused("a file called - is ./-");
}

#[test]
fn an_error_quotes_a_part_of_a_long_line() {
    for line in
        [vec![0; 8 << 20], b"\n".repeat(8 << 20), [b"x\xff".repeat(4 << 20), b"end".to_vec()].concat()]
    {
        let done = hv_within(512, &["conformance", "--read", "-"], &line);
        done.refused("contains no run of the suite");
        assert!(done.stderr.len() < 64 << 10, "{} bytes", done.stderr.len());
    }
}

#[test]
fn figures_are_short_and_flat() {
    hv_within(256, &["bench", "--compare", "-"], &b"[".repeat(100_000)).refused("does not contain figures");
    hv_within(256, &["bench", "--compare", "-"], &b" ".repeat(2 << 20)).refused("more than 1 MiB");
}
