//! This project's own client and drivers of VMBus, on the machine: `bare/drivers`, and the unikernel `bare/serve`.

use std::fs;
use std::io::{Cursor, ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context as _, ensure};
use fatfs::{FatType, FileSystem, FormatVolumeOptions, FsOptions};

use super::context::{Booted, Context, HUNG};
use super::programs::program;
use super::runner::Step;
use super::services::{Controlled, broken_rules};

mod screen;
mod services;

use hv_setup::exit::Exit;
use hv_setup::programs as bare;

/// Bytes of a block.
const BLOCK: usize = 512;
/// Bytes of the disks of `bare/drivers`.
pub(super) const DISK: usize = 1 << 20;
/// The first block of the partition with the web server's files, and the partition's bytes.
const FIRST: usize = 2048;
const PARTITION: usize = 8 << 20;
/// Requests for the web server, and how many of them at a time.
const REQUESTS: usize = 1000;
const AT_A_TIME: usize = 8;
/// How often one of them is made at most.
const ATTEMPTS: usize = 1000;

/// Returns the scenarios.
pub(super) fn steps() -> Vec<Step> {
    let mut steps = Vec::new();
    for (name, append, cpu) in [
        ("hvc0", "", "cortex-a72"),
        ("hvc1", "bus.hvc=1", "cortex-a72"),
        ("16k", "rt.granule=16k", "cortex-a76"),
        ("64k", "rt.granule=64k", "cortex-a72"),
        ("16k/hvc1", "rt.granule=16k bus.hvc=1", "cortex-a76"),
        ("64k/hvc1", "rt.granule=64k bus.hvc=1", "cortex-a72"),
    ] {
        for vps in ["1", "2", "4"] {
            let paths =
                [format!("drivers/storage/{name}/{vps}-vps"), format!("drivers/network/{name}/{vps}-vps")];
            let runs = [storage, network];
            steps.extend(paths.into_iter().zip(runs).map(|(path, run)| {
                // All page sizes with both conventions and all counts are for `--all`.
                let quick = !name.ends_with("k/hvc1") && (vps == "2" || name.starts_with("hvc"));
                let step = Step::new(path, move |context| run(context, append, vps, cpu));
                if quick || vps == "4" { step } else { step.slow() }
            }));
        }
        // The screen's scenario fails for a note of the strict mode, which hvc #1 is.
        if !append.contains("hvc=1") {
            let screen = move |context: &Context| screen::screen(context, append, cpu);
            steps.push(Step::new(format!("drivers/screen/{name}"), screen));
        }
    }
    steps.push(Step::new("drivers/services", services::services));
    for mode in ["contact", "unload"] {
        for (name, plan) in [("", None), ("/late", Some("late=20ms"))] {
            let run = move |context: &Context| again(context, mode, plan);
            steps.push(Step::new(format!("drivers/again/{mode}{name}"), run));
        }
    }
    steps.push(Step::new("drivers/serve", |context| serve(context, "", "2")));
    for (name, append, vps) in [
        ("hvc0/1-vps", "", "1"),
        ("hvc0/4-vps", "", "4"),
        ("hvc1/1-vps", "bus.hvc=1", "1"),
        ("hvc1/4-vps", "bus.hvc=1", "4"),
    ] {
        let run = move |context: &Context| serve(context, append, vps);
        let step = Step::new(format!("drivers/serve/{name}"), run);
        steps.push(if name == "hvc1/4-vps" { step } else { step.slow() });
    }
    steps.push(Step::new("drivers/serve/crash", crash));
    steps
}

/// Returns bytes that encode their offsets.
pub(super) fn bytes(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + at / 251 + seed * 13) as u8).collect()
}

/// Returns the sum that `bare/drivers` prints.
pub(super) fn sum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0_u32, |sum, byte| sum.rotate_left(5) ^ u32::from(*byte))
}

/// Returns the rules that a guest with these arguments breaks: `hvc #1` shows in a note, and in nothing else.
fn broken_by(append: &str) -> &'static [&'static str] {
    if append.contains("hvc=1") { &["call-hvc-1"] } else { &[] }
}

/// Checks that a guest with these arguments breaks no other rule.
fn keeps_rules(booted: &Booted, append: &str) -> anyhow::Result<()> {
    let (broken, expected) = (broken_rules(&booted.json), broken_by(append));
    booted.check(broken == expected, &format!("{expected:?} are broken, not {broken:?}"))
}

/// Checks that `bare/drivers` reads two disks and writes one of them.
fn storage(context: &Context, append: &str, vps: &str, cpu: &str) -> anyhow::Result<()> {
    let folder = context.folder()?;
    let files = [folder.join("data.img"), folder.join("locked.img")];
    let disks = [bytes(DISK, 1), bytes(DISK / 2, 2)];
    files.iter().zip(&disks).try_for_each(|(file, disk)| fs::write(file, disk))?;
    let (data, locked) = (format!("{},rw", files[0].display()), format!("{},ro", files[1].display()));
    let options = ["--disk", &data, "--disk", &locked, "--vps", vps, "--cpu", cpu, "--append", append];
    let booted = program(context, "drivers", &[&options[..], &["--strict"]].concat())?;
    booted.ended(Exit::Success, "power-off")?;
    keeps_rules(&booted, append)?;
    booted.says("drivers: storage 0x602, 2 disks")?;
    for (lun, (disk, read_only)) in disks.iter().zip([false, true]).enumerate() {
        booted.says(&format!(
            "drivers: disk {lun} has {} blocks, read-only {read_only}, sector 0 {:#010x}, sectors 1 to 20 {:#010x}",
            disk.len() / BLOCK,
            sum(&disk[..BLOCK]),
            sum(&disk[BLOCK..21 * BLOCK])
        ))?;
    }
    booted.says(&format!("drivers: all good on {vps} VPs"))?;
    booted.is("/devices/0/version", "6.2")?;
    booted.is("/devices/0/opened", 1)?;
    let mut expected = disks[0].clone();
    let last = expected.len() - BLOCK;
    let text = b"written by bare/drivers".iter().cycle();
    expected[last..].iter_mut().zip(text).for_each(|(place, byte)| *place = *byte);
    ensure!(fs::read(&files[0])? == expected, "the first disk has not what was written to it");
    ensure!(fs::read(&files[1])? == disks[1], "the disk that is read only has changed");
    Ok(())
}

/// Checks that `bare/drivers` sends a frame, and gets the answer of QEMU's network.
fn network(context: &Context, append: &str, vps: &str, cpu: &str) -> anyhow::Result<()> {
    let disk = context.folder()?.join("data.img");
    fs::write(&disk, bytes(DISK, 1))?;
    let disk = disk.to_string_lossy();
    let options =
        ["--disk", &disk, "--net", "user", "--vps", vps, "--append", append, "--cpu", cpu, "--strict"];
    let booted = program(context, "drivers", &options)?;
    booted.ended(Exit::Success, "power-off")?;
    keeps_rules(&booted, append)?;
    booted.says("version 0x60001, MTU 1500, up true")?;
    // QEMU's gateway has this address (slirp, `special_ethaddr`).
    booted.says("drivers: the gateway answers: [52, 55, 0a, 00, 02, 02]")?;
    booted.says(&format!("drivers: all good on {vps} VPs"))?;
    booted.is("/devices/1/errors", 0)
}

/// Checks that a kernel that starts while another's channel is open and its read is in flight has the bus, and its
/// memory, to itself: by contact alone, or with an unload before.
fn again(context: &Context, mode: &str, plan: Option<&str>) -> anyhow::Result<()> {
    let disk = context.folder()?.join("data.img");
    fs::write(&disk, bytes(DISK, 1))?;
    let (disk, append) = (format!("{},rw", disk.display()), format!("drivers.again={mode}"));
    let mut options = vec!["--disk", &disk, "--vps", "2", "--append", &append, "--strict"];
    options.extend(plan.iter().flat_map(|plan| ["--inject", plan]));
    let booted = program(context, "drivers", &options)?;
    booted.ended(Exit::Success, "power-off")?;
    // A kernel that was not told of the one before it does no better.
    let rules: &[&str] = if mode == "unload" { &[] } else { &["vmbus-contact-again"] };
    booted.check(broken_rules(&booted.json) == rules, &format!("{rules:?} alone are broken"))?;
    booted.says("drivers: kernel 0 leaves a read in flight")?;
    let unloads = booted.console.contains("drivers: kernel 1 unloads");
    booted.check(unloads == (mode == "unload"), "the second kernel unloads where it should")?;
    booted.says("drivers: storage 0x602, 1 disks")?;
    booted.says("drivers: kernel 1 has its memory to itself")?;
    booted.says("drivers: all good on 2 VPs")?;
    booted.is("/vmbus/version", "6.0")?;
    booted.is("/devices/0/opened", 2)
}

/// Returns the web server's files.
fn pages() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("index.html", b"<h1>serve</h1>\n".to_vec()),
        ("A.TXT", Vec::new()),
        ("one.bin", bytes(1, 3)),
        ("page.bin", bytes(4096, 4)),
        ("a-name-longer-than-8.and-3.bin", bytes(20_001, 5)),
        ("large.bin", bytes(100_003, 6)),
    ]
}

/// Writes a disk with a partition table (MBR) and one partition with a FAT.
fn image(file: &Path, files: &[(&str, Vec<u8>)]) -> anyhow::Result<()> {
    let mut volume = Cursor::new(vec![0; PARTITION]);
    fatfs::format_volume(&mut volume, FormatVolumeOptions::new().fat_type(FatType::Fat16))?;
    let system = FileSystem::new(&mut volume, FsOptions::new())?;
    for (name, content) in files {
        system.root_dir().create_file(name)?.write_all(content)?;
    }
    system.unmount()?;
    let mut disk = vec![0; FIRST * BLOCK];
    // Type: FAT16 by block numbers; the first block, and how many.
    disk[446 + 4] = 0x0e;
    disk[446 + 8..446 + 12].copy_from_slice(&(FIRST as u32).to_le_bytes());
    disk[446 + 12..446 + 16].copy_from_slice(&((PARTITION / BLOCK) as u32).to_le_bytes());
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    disk.extend(volume.into_inner());
    Ok(fs::write(file, disk)?)
}

/// Sends a request, and returns what comes.
fn ask(port: u16, path: &str) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(HUNG))?;
    stream.write_all(format!("GET /{path} HTTP/1.0\r\nHost: guest\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        // What was cut is not asked for again.
        Err(error) if !answer.is_empty() => Err(std::io::Error::other(error)),
        result => result.map(|_| answer),
    }
}

/// Gets a file of the guest's: the status, and what follows the answer's head.
///
/// QEMU's user network accepts with a queue of one connection (libslirp, `tcpx_listen`): the host's kernel resets those
/// beyond, which no guest has seen. The guest counts what it answers, so a request that it has seen is not hidden.
fn get(port: u16, path: &str) -> anyhow::Result<(String, Vec<u8>)> {
    let mut left = ATTEMPTS;
    let mut answer = loop {
        left -= 1;
        match ask(port, path) {
            Err(error) if error.kind() == ErrorKind::ConnectionReset && left > 0 => {}
            result => break result?,
        }
    };
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").context("an answer without an end")?;
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let body = answer.split_off(end + 4);
    ensure!(
        head.contains(&format!("Content-Length: {}", body.len())),
        "{} bytes behind {head:?}",
        body.len()
    );
    Ok((head.lines().next().unwrap_or_default().to_owned(), body))
}

/// Checks that the unikernel answers a thousand requests, eight at a time, and on a Hyper-V socket, until it is asked
/// to end.
fn serve(context: &Context, append: &str, vps: &str) -> anyhow::Result<()> {
    let folder = context.folder()?;
    let (disk, sockets) = (folder.join("www.img"), folder.join("sockets"));
    let files = pages();
    image(&disk, &files)?;
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let kernel = bare::output("serve")?;
    let (kernel, disk, vsock) = (kernel.to_string_lossy(), disk.to_string_lossy(), sockets.to_string_lossy());
    let net = format!("user,forward=tcp:{port}:80");
    let machine = ["--firmware", "dt", "--kernel", &kernel, "--vps", vps, "--append", append];
    let options = [&machine[..], &["--disk", &disk, "--net", &net, "--vsock", &vsock]].concat();
    let machine = Controlled::start_until(context, &options, "serve: http://10.0.2.15/")?;
    // What is not there is not there, before and after.
    let outside = || -> anyhow::Result<()> {
        ensure!(get(port, "none.html")?.0 == "HTTP/1.0 404 Not Found");
        ensure!(get(port, "")?.1 == files[0].1, "the first page is another");
        Ok(())
    };
    outside()?;
    requests(port, &files)?;
    outside()?;
    let mut stream = UnixStream::connect(sockets.join("vsock"))?;
    stream.set_read_timeout(Some(HUNG))?;
    stream.write_all(b"CONNECT 7\n")?;
    let mut said = String::new();
    stream.read_to_string(&mut said)?;
    let answer = said.lines().nth(1);
    ensure!(answer == Some("1002 requests answered"), "on the socket: {said:?}\n{}", machine.console());
    let done = machine.ctl(&["shutdown"])?;
    ensure!(done.code == Some(0), "{}", done.stderr);
    let console = machine.ended_breaking(broken_by(append))?;
    ensure!(console.contains("serve: PowerOff"), "{console}");
    Ok(())
}

/// Makes the requests, and compares what comes.
fn requests(port: u16, files: &[(&str, Vec<u8>)]) -> anyhow::Result<()> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..AT_A_TIME)
            .map(|thread| {
                scope.spawn(move || -> anyhow::Result<()> {
                    for n in (thread..REQUESTS).step_by(AT_A_TIME) {
                        let (name, content) = &files[n % files.len()];
                        let (status, body) = get(port, name).with_context(|| format!("request {n}"))?;
                        ensure!(status == "HTTP/1.0 200 OK", "request {n}, {name}: {status}");
                        ensure!(body == *content, "request {n}, {name}: other bytes came");
                    }
                    Ok(())
                })
            })
            .collect();
        threads.into_iter().try_for_each(|thread| match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })
}

/// Checks that a unikernel that panics tells its host why.
fn crash(context: &Context) -> anyhow::Result<()> {
    let disk = context.folder()?.join("www.img");
    image(&disk, &pages())?;
    let options = ["--disk", &disk.to_string_lossy(), "--append", "serve.panic=1"];
    let booted = program(context, "serve", &options)?;
    booted.ended(Exit::Crash, "crash")?;
    booted.is("/crash/text", "deliberate")
}
