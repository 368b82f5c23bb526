//! `hv snapshot`, and runs that resume what it has saved.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Stdio};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, ensure};
use hv_setup::exit::Exit;
use rustix::process::{Pid, Signal};
use serde_json::Value;

use super::context::{Context, Finished, HUNG_SECONDS, console};
use super::devices::network::HOST;
use super::life::until;
use super::runner::Step;
use super::schema;

/// Returns the scenarios.
pub(super) fn steps() -> Vec<Step> {
    vec![
        Step::new("snapshot/side-by-side", side_by_side),
        Step::new("snapshot/refused", refused),
        Step::new("snapshot/network", network),
    ]
}

/// Bytes of the disk.
const DISK: u64 = 16 << 20;
/// The program that runs when the machine is saved: it counts, and knows what no file has. Its file is never empty.
const PROGRAM: &str = "secret=kept; n=0; echo 0 > /n; \
    (while :; do n=$((n + 1)); echo $n > /n.new; mv /n.new /n; sleep 0.05; done) &\n";
/// Reads the first word of the disk, not from the guest's cache.
const WORD: &str = "$(echo 1 > /proc/sys/vm/drop_caches; head -c 5 /dev/sda)";

/// A run of `hv boot` whose guest has a shell that reads the run's stdin.
pub(super) struct Shell<'c> {
    context: &'c Context,
    name: String,
    folder: PathBuf,
    child: Child,
    stdin: ChildStdin,
}

impl Drop for Shell<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl<'c> Shell<'c> {
    /// Starts a run with these options, under this name.
    fn start(context: &'c Context, name: &str, options: &[&str]) -> anyhow::Result<Self> {
        Self::start_for(HUNG_SECONDS, context, name, options)
    }

    /// Starts a run that may take this many seconds.
    fn start_for(limit: &str, context: &'c Context, name: &str, options: &[&str]) -> anyhow::Result<Self> {
        let folder = context.folder()?;
        let (keep, report) = (folder.join("keep"), folder.join("report.json"));
        let (keep, report) = (keep.to_string_lossy(), report.to_string_lossy());
        let line =
            ["boot", "--quiet", "--timeout", limit, "--name", name, "--keep", &keep, "--json", &report];
        let line: Vec<&str> = line.iter().chain(options).copied().collect();
        let output = fs::File::create(folder.join("stderr"))?;
        let mut child =
            context.command(&line)?.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(output).spawn()?;
        let stdin = child.stdin.take().context("no stdin")?;
        Ok(Self { context, name: name.to_owned(), folder, child, stdin })
    }

    /// Boots a guest with a shell.
    fn boot(context: &'c Context, name: &str, options: &[&str]) -> anyhow::Result<Self> {
        Self::boot_for(HUNG_SECONDS, context, name, options)
    }

    /// Boots a guest with a shell for a run that may take this many seconds.
    pub(super) fn boot_for(
        limit: &str,
        context: &'c Context,
        name: &str,
        options: &[&str],
    ) -> anyhow::Result<Self> {
        Self::start_for(limit, context, name, &[&["--run", "shell"], options].concat())
    }

    /// Returns the tool's process id.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns what the tool's child, QEMU, has mapped.
    fn maps(&self) -> anyhow::Result<String> {
        let pid = self.pid();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
        let maps = children.split_whitespace().map(|child| fs::read_to_string(format!("/proc/{child}/maps")));
        Ok(maps.collect::<Result<Vec<_>, _>>()?.concat())
    }

    /// Returns the console so far.
    pub(super) fn console(&self) -> String {
        console(&self.folder.join("keep"))
    }

    pub(super) fn types(&mut self, line: &str) -> anyhow::Result<()> {
        Ok(self.stdin.write_all(line.as_bytes())?)
    }

    /// Waits for a line of the guest's that ends in this text.
    pub(super) fn shows(&mut self, text: &str) -> anyhow::Result<String> {
        let keep = self.folder.join("keep");
        let found = |keep: &Path| {
            console(keep).lines().find(|line| line.trim_end().ends_with(text)).map(str::to_owned)
        };
        until(&format!("the guest shows {text:?}"), || {
            if found(&keep).is_some() {
                return Ok(true);
            }
            let said = || fs::read_to_string(self.folder.join("stderr")).unwrap_or_default();
            ensure!(self.child.try_wait()?.is_none(), "it has ended: {}\n{}", said(), console(&keep));
            Ok(false)
        })?;
        found(&keep).context("it is gone")
    }

    /// Runs `hv snapshot` on this machine.
    fn save(&self, folder: &Path) -> anyhow::Result<Finished> {
        self.context.hv(&["snapshot", &self.name, &folder.to_string_lossy(), "--timeout", HUNG_SECONDS])
    }

    /// Ends the shell, and so the machine, and returns its report.
    pub(super) fn ends(mut self) -> anyhow::Result<Value> {
        self.types("\nexit\n")?;
        until("the machine has ended", || Ok(self.child.try_wait()?.is_some()))?;
        let status = self.child.wait()?;
        let report = fs::read(self.folder.join("report.json")).unwrap_or_default();
        let json: Value = serde_json::from_slice(&report).unwrap_or_default();
        ensure!(
            status.code() == Some(Exit::Success as i32),
            "{status}: findings: {:#}\n{}\n{}",
            json["findings"],
            console(&self.folder.join("keep")),
            fs::read_to_string(self.folder.join("stderr")).unwrap_or_default()
        );
        schema::check(schema::BOOT, &json)?;
        Ok(json)
    }
}

/// Creates a disk with this first word.
fn disk(context: &Context, word: &str) -> anyhow::Result<PathBuf> {
    let path = context.folder()?.join("data.img");
    fs::write(&path, word)?;
    fs::File::options().write(true).open(&path)?.set_len(DISK)?;
    Ok(path)
}

/// Returns what is in the folder of a snapshot.
fn contents(folder: &Path) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        files.push((entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path())?));
    }
    files.sort();
    Ok(files)
}

fn side_by_side(context: &Context) -> anyhow::Result<()> {
    let image = disk(context, "first")?;
    let snapshot = context.folder()?.join("booted");
    let mut original = Shell::boot(context, "original", &["--disk", &image.to_string_lossy()])?;
    original.types(PROGRAM)?;
    original.types("printf saved | dd of=/dev/sda conv=notrunc,fsync 2>/dev/null; echo re''ady\n")?;
    original.shows("ready")?;
    let done = original.save(&snapshot)?;
    ensure!(done.code == Some(0) && done.stdout.contains("the machine stood still for"), "{}", done.stderr);
    let saved = contents(&snapshot)?;
    // Two continue at once, and the machine itself does too.
    let from = snapshot.to_string_lossy();
    let began = Instant::now();
    let mut all = [
        original,
        Shell::start(context, "a", &["--from", &from])?,
        Shell::start(context, "b", &["--from", &from])?,
    ];
    for shell in &mut all {
        let name = shell.name.clone();
        shell.types(&format!(
            "printf {name:.1}-new | dd of=/dev/sda conv=notrunc,fsync 2>/dev/null; m=$(cat /n); \
             until [ $(cat /n) -gt $m ]; do sleep 0.1; done; echo {name} $secret {WORD} $m $(date +%s) e''nd\n"
        ))?;
    }
    for shell in &mut all {
        let (name, line) = (shell.name.clone(), shell.shows("end")?);
        let words: Vec<&str> = line.split_whitespace().collect();
        ensure!(words[..3] == [&name, "kept", &format!("{name:.1}-new")], "{line}");
        ensure!(words[3].parse::<u64>()? > 0, "the program has begun anew: {line}");
        let now = SystemTime::UNIX_EPOCH.elapsed()?.as_secs();
        let time: u64 = words[4].parse()?;
        ensure!(now.abs_diff(time) <= 3 + began.elapsed().as_secs(), "{time} at {now}: {line}");
    }
    let [original, a, b] = all;
    for shell in [&a, &b] {
        let maps = shell.maps()?;
        let ram = format!("{from}/ram");
        ensure!(maps.lines().any(|line| line.contains("rw-p") && line.ends_with(&ram)), "{ram}: {maps}");
    }
    ensure!(original.ends()?["start"] == "boot", "the original did not boot");
    for shell in [a, b] {
        let json = shell.ends()?;
        ensure!(json["start"] == "snapshot", "{}", json["start"]);
        ensure!(!json["warnings"].to_string().contains("the time at which"), "{}", json["warnings"]);
    }
    ensure!(contents(&snapshot)? == saved, "a run has changed the snapshot");
    ensure!(fs::read(&image)?.starts_with(b"first"), "a run has changed the disk's file");
    // Later, too, and without a person's options.
    let mut later = Shell::start(context, "later", &["--from", &from])?;
    later.types(&format!("echo later $secret {WORD} e''nd\n"))?;
    let line = later.shows("end")?;
    ensure!(line.trim_end().ends_with("later kept saved end"), "{line}");
    saved_again(context, later)?;
    ensure!(contents(&snapshot)? == saved, "saving a run has changed its snapshot");
    Ok(())
}

/// Checks that a resumed machine is saved with what it has written since, to its memory and its disk.
fn saved_again(context: &Context, mut later: Shell<'_>) -> anyhow::Result<()> {
    later.types(
        "secret=newer; printf again | dd of=/dev/sda conv=notrunc,fsync 2>/dev/null; echo writ''ten\n",
    )?;
    later.shows("written")?;
    let again = context.folder()?.join("again");
    let done = later.save(&again)?;
    ensure!(done.code == Some(0), "{}", done.stderr);
    later.types(
        "secret=newest; printf after | dd of=/dev/sda conv=notrunc,fsync 2>/dev/null; echo d''one\n",
    )?;
    later.shows("done")?;
    later.ends()?;
    let saved = contents(&again)?;
    let mut last = Shell::start(context, "last", &["--from", &again.to_string_lossy()])?;
    last.types(&format!(
        "m=$(cat /n); until [ $(cat /n) -gt $m ]; do sleep 0.1; done; echo last $secret {WORD} e''nd\n"
    ))?;
    let line = last.shows("end")?;
    ensure!(line.trim_end().ends_with("last newer again end"), "{line}");
    last.ends()?;
    ensure!(contents(&again)? == saved, "a run has changed the snapshot");
    Ok(())
}

/// Checks that a run from this folder fails with this text.
fn no_machine(context: &Context, folder: &Path, text: &str) -> anyhow::Result<()> {
    let done = context.hv(&["boot", "--from", &folder.to_string_lossy()])?;
    ensure!(
        done.code == Some(Exit::Usage as i32) && done.stderr.contains(text),
        "expected {text:?}: {:?} {}",
        done.code,
        done.stderr
    );
    Ok(())
}

fn refused(context: &Context) -> anyhow::Result<()> {
    let image = disk(context, "first")?;
    let parent = context.folder()?;
    let snapshot = parent.join("booted");
    let mut machine = Shell::boot(context, "machine", &[])?;
    machine.shows("hv: shell")?;
    interrupted(context, &parent, &snapshot)?;
    if !snapshot.exists() {
        let done = machine.save(&snapshot)?;
        ensure!(done.code == Some(0), "{}", done.stderr);
    }
    let again = machine.save(&snapshot)?;
    ensure!(again.code == Some(2) && again.stderr.contains("already exists"), "{}", again.stderr);
    let nowhere = machine.save(&parent.join("no/where"))?;
    ensure!(nowhere.code == Some(1) && nowhere.stderr.contains("in one that exists"), "{}", nowhere.stderr);
    machine.ends()?;
    bound_outside(context, &parent, &image)?;
    no_machine(context, &parent.join("none"), "there is no such folder")?;
    no_machine(context, &parent, "it has no file about.json")?;
    no_machine(context, &image, "it is not a folder")?;
    damaged(context, &snapshot)
}

/// Checks that Ctrl-C at any time leaves a whole snapshot or nothing.
fn interrupted(context: &Context, parent: &Path, snapshot: &Path) -> anyhow::Result<()> {
    let line = ["snapshot", "machine", &snapshot.to_string_lossy()];
    let mut client = context.command(&line)?.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let files = || Ok::<_, anyhow::Error>(fs::read_dir(parent)?.count());
    until("the snapshot has begun", || Ok(files()? != 0 || client.try_wait()?.is_some()))?;
    rustix::process::kill_process(Pid::from_child(&client), Signal::INT)?;
    client.wait()?;
    let is_partial = || {
        let names = fs::read_dir(parent)?.flatten().map(|entry| entry.file_name());
        Ok::<_, anyhow::Error>(names.into_iter().any(|name| name != "booted"))
    };
    until("nothing partial is left", || Ok(!is_partial()?))
}

/// Checks that a machine whose disks or devices have their other end outside of it is not saved.
fn bound_outside(context: &Context, parent: &Path, image: &Path) -> anyhow::Result<()> {
    let reasons = [
        (vec!["--disk".to_owned(), format!("{},rw", image.display())], "is rw"),
        (vec!["--vsock".to_owned(), parent.join("sockets").display().to_string()], "--vsock"),
        (vec!["--trace".to_owned(), parent.join("trace").display().to_string()], "--trace"),
        (vec!["--deterministic".to_owned()], "--deterministic"),
    ];
    for (number, (options, why)) in reasons.iter().enumerate() {
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let name = format!("other{number}");
        let other = Shell::start(context, &name, &[&["--run", "wait"], &*options].concat())?;
        until("it has a control port", || {
            Ok(context
                .hv(&["ps"])?
                .stdout
                .lines()
                .any(|line| line.starts_with(&name) && !line.ends_with('-')))
        })?;
        let done = other.save(&parent.join("other"))?;
        ensure!(done.code == Some(1) && done.stderr.contains(why), "{why}: {:?} {}", done.code, done.stderr);
        ensure!(!parent.join("other").exists(), "a snapshot of {why}");
    }
    Ok(())
}

/// Checks that a snapshot of another tool, or one that is not whole, is not resumed.
fn damaged(context: &Context, snapshot: &Path) -> anyhow::Result<()> {
    let about = snapshot.join("about.json");
    let text = fs::read_to_string(&about)?;
    let versions = [
        ("\"format\": 3", "\"format\": 9", "it has format 9"),
        ("\"qemu\": \"", "\"qemu\": \"1.", "it was saved with QEMU 1."),
        ("\"hypervisor\": \"", "\"hypervisor\": \"0", "with the hypervisor of hv"),
        ("\"vps\": 2", "\"vps\": 1", "it is that of another machine"),
        ("\"vps\": 2", "\"vps\": 999", "which no machine has"),
    ];
    for (from, to, why) in versions {
        ensure!(text.contains(from), "about.json has no {from}: {text}");
        fs::write(&about, text.replacen(from, to, 1))?;
        no_machine(context, snapshot, why)?;
    }
    fs::write(&about, &text)?;
    let machine = snapshot.join("machine");
    let length = machine.metadata()?.len();
    fs::File::options().write(true).open(&machine)?.set_len(length / 2)?;
    no_machine(context, snapshot, "it is truncated")?;
    fs::remove_file(&machine)?;
    no_machine(context, snapshot, "it has no file machine")
}

/// Checks that the network continues with another process behind it, and with each run's own forwards.
fn network(context: &Context) -> anyhow::Result<()> {
    let server = TcpListener::bind("127.0.0.1:0")?;
    let port = server.local_addr()?.port();
    std::thread::spawn(move || {
        for client in server.incoming().flatten() {
            let mut client = client;
            let _ = client.set_read_timeout(Some(Duration::from_secs(10)));
            let _ = client.read(&mut [0; 1024]);
            let _ = client.write_all(b"HTTP/1.0 200 OK\r\n\r\nserved");
        }
    });
    let get = |name: &str| format!("echo {name} $(wget -q -O - http://{HOST}:{port}/) e''nd\n");
    let snapshot = context.folder()?.join("online");
    let mut original = Shell::boot(context, "online", &["--net", "user"])?;
    original.types(&get("before"))?;
    let line = original.shows("end")?;
    ensure!(line.contains("before served end"), "{line}");
    let done = original.save(&snapshot)?;
    ensure!(done.code == Some(0), "{}", done.stderr);
    let free = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let forward = format!("user,forward=tcp:{free}:80");
    let from = snapshot.to_string_lossy();
    let mut later = Shell::start(context, "later", &["--from", &from, "--net", &forward])?;
    later.types(&format!("(echo through | nc -l -p 80) & {}", get("after")))?;
    let line = later.shows("end")?;
    ensure!(line.contains("after served end"), "{line}");
    let mut said = String::new();
    until("the forward leads to the guest", || {
        let Ok(mut client) = std::net::TcpStream::connect(("127.0.0.1", free)) else { return Ok(false) };
        client.set_read_timeout(Some(Duration::from_secs(20)))?;
        let _ = client.read_to_string(&mut said);
        Ok(said.contains("through"))
    })?;
    later.ends()?;
    original.ends().map(drop)
}
