//! Integration services: what `hv ctl` has a stock guest do.

use std::cell::RefCell;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Stdio};

use anyhow::{Context as _, ensure};
use hv_machine::initrd::Module;
use serde_json::Value;

use super::context::{Context, Finished, HUNG_SECONDS, console, read};
use super::life::until;
use super::packages::initrd;
use super::runner::Step;
use hv_setup::cache::Cache;
use hv_setup::exit::Exit;
use hv_setup::stock::{self, Stock};

/// Returns the scenarios.
pub(super) fn steps() -> Vec<Step> {
    let mut steps = Vec::new();
    for stock in ["6.12", "6.1", "16k"] {
        steps
            .push(Step::new(format!("devices/ic/shutdown/{stock}"), move |context| shutdown(context, stock)));
    }
    let all = [("6.12", Stock::Cloud612, "2"), ("6.1", Stock::Cloud61, "2"), ("16k", Stock::Pages16k, "4")];
    for (name, stock, vps) in all {
        let step = Step::new(format!("devices/ic/daemons/{name}"), move |context| {
            daemons(context, stock, name, vps)
        });
        steps.push(step.slow());
    }
    for (name, stock) in [("6.12", Stock::Cloud612), ("16k", Stock::Pages16k)] {
        let step =
            Step::new(format!("devices/ic/chrony/{name}"), move |context| chrony(context, stock, name));
        steps.push(step.slow());
    }
    steps.push(Step::new("devices/ic/reboot", reboot));
    steps.push(Step::new("devices/ic/absent", absent));
    steps.push(Step::new("devices/ic/deterministic", deterministic));
    steps
}

/// Name of the file with the stderr of the tool.
const STDERR: &str = "stderr";

/// A machine with a control port. Dropping it ends it.
pub(super) struct Controlled<'c> {
    context: &'c Context,
    child: Child,
    folder: PathBuf,
    socket: String,
    /// The last `hv ctl`, and how it ended.
    last: RefCell<String>,
}

impl Drop for Controlled<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl<'c> Controlled<'c> {
    /// Boots a guest that waits for its host, up to that point. A rule of the interface that it breaks is an exit code
    /// of its own.
    pub(super) fn start(context: &'c Context, options: &[&str]) -> anyhow::Result<Self> {
        let own = options.iter().any(|word| *word == "--initrd" || word.contains("root="));
        let waits: &[&str] = if own { &[] } else { &["--run", "wait"] };
        Self::start_until(context, &[waits, options].concat(), "hv: waiting")
    }

    /// Boots a guest up to the point at which its console has a text.
    pub(super) fn start_until(context: &'c Context, options: &[&str], text: &str) -> anyhow::Result<Self> {
        let folder = context.folder()?;
        let socket = folder.join("s").to_string_lossy().into_owned();
        let (keep, report) = (folder.join("keep"), folder.join("report.json"));
        let (keep, report) = (keep.to_string_lossy(), report.to_string_lossy());
        let line = ["boot", "--quiet", "--timeout", HUNG_SECONDS, "--strict=note", "--control", &socket];
        let files = ["--keep", &keep, "--json", &report];
        let line: Vec<&str> = line.iter().chain(&files).chain(options).copied().collect();
        let stderr = File::create(folder.join(STDERR))?;
        let child = context.command(&line)?.stdout(Stdio::null()).stderr(stderr).spawn()?;
        let mut machine = Self { context, child, folder: folder.clone(), socket, last: RefCell::default() };
        until(&format!("the guest says {text:?}"), || {
            let (console, ended) = (machine.console(), machine.child.try_wait()?);
            ensure!(ended.is_none(), "it has ended:\n{console}\n{}", machine.stderr());
            Ok(console.contains(text))
        })?;
        Ok(machine)
    }

    pub(super) fn console(&self) -> String {
        console(&self.folder.join("keep"))
    }

    /// Returns the findings that the tool has printed, and its errors.
    fn stderr(&self) -> String {
        fs::read_to_string(self.folder.join(STDERR)).unwrap_or_default()
    }

    /// Runs `hv ctl` with these words.
    pub(super) fn ctl(&self, words: &[&str]) -> anyhow::Result<Finished> {
        let mut line = vec!["ctl", self.socket.as_str()];
        line.extend(words);
        if !words.contains(&"--timeout") {
            line.extend(["--timeout", HUNG_SECONDS]);
        }
        let done = self.context.hv(&line)?;
        let Finished { code, stdout, stderr } = &done;
        self.last.replace(format!("hv ctl {words:?} ended with {code:?}: {stdout}{stderr}"));
        Ok(done)
    }

    /// Waits until a condition holds. An error has what shows why it did not.
    pub(super) fn until(
        &self,
        what: &str,
        condition: impl FnMut() -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let state = || format!("{}\n{}\n{}", self.console(), self.stderr(), self.last.borrow());
        until(what, condition).with_context(state)
    }

    /// Checks that `hv ctl` ends with this code, and an error that has this text.
    pub(super) fn refuses(&self, words: &[&str], code: i32, text: &str) -> anyhow::Result<()> {
        let Finished { code: found, stderr, .. } = self.ctl(words)?;
        ensure!(found == Some(code) && stderr.contains(text), "{words:?}: {found:?}: {stderr}");
        Ok(())
    }

    /// Returns the reply of `hv ctl --json`, which must succeed.
    pub(super) fn reply(&self, words: &[&str]) -> anyhow::Result<Value> {
        let words: Vec<&str> = words.iter().copied().chain(["--json"]).collect();
        let done = self.ctl(&words)?;
        ensure!(done.code == Some(0), "hv ctl {words:?} ended with {:?}: {}", done.code, done.stderr);
        Ok(serde_json::from_str(&done.stdout)?)
    }

    /// Waits for the end, and returns the console.
    pub(super) fn ended(mut self, exit: Exit) -> anyhow::Result<String> {
        until("the machine has ended", || Ok(self.child.try_wait()?.is_some()))?;
        let status = self.child.wait()?;
        let console = self.console();
        ensure!(status.code() == Some(exit as i32), "it ended with {status}:\n{console}\n{}", self.stderr());
        ensure!(!PathBuf::from(&self.socket).exists(), "the socket is still there");
        Ok(console)
    }

    /// Waits for the end of a guest that powers off and breaks these rules alone, and returns the console.
    pub(super) fn ended_breaking(self, rules: &[&str]) -> anyhow::Result<String> {
        let report = self.folder.join("report.json");
        let console = self.ended(if rules.is_empty() { Exit::Success } else { Exit::Strict })?;
        let report: Value = serde_json::from_slice(&read(&report)?)?;
        ensure!(report["exit"] == "power-off", "{}", report["exit"]);
        let broken = broken_rules(&report);
        ensure!(broken == rules, "{broken:?} are broken, not {rules:?}");
        Ok(console)
    }
}

/// Returns the rules that a report's guest has broken.
pub(super) fn broken_rules(report: &Value) -> Vec<&str> {
    let findings = report["findings"].as_array();
    findings.into_iter().flatten().filter_map(|finding| finding["rule"].as_str()).collect()
}

fn says(console: &str, text: &str) -> anyhow::Result<()> {
    ensure!(console.contains(text), "the console does not say {text:?}:\n{console}");
    Ok(())
}

/// Checks that the services are ready with their newest versions, that the clock is the host's, and that the guest
/// powers off cleanly.
fn shutdown(context: &Context, stock: &str) -> anyhow::Result<()> {
    let machine = Controlled::start(context, &["--stock", stock])?;
    let mut services = Value::Null;
    let ready = ["shutdown", "time", "heartbeat", "vss"];
    machine.until("the services are ready", || {
        services = machine.reply(&["status"])?["result"]["services"].take();
        Ok(ready.iter().all(|service| services[service]["state"] == "ready"))
    })?;
    for (service, version) in [("shutdown", "3.2"), ("time", "4.0"), ("heartbeat", "3.0"), ("vss", "5.0")] {
        ensure!(services[service]["version"] == version, "{service} is not {version}: {services}");
    }
    // Its driver waits for a program that does not run here.
    ensure!(services["kvp"]["state"] == "waiting", "{services}");
    let refused = machine.ctl(&["kvp", "get", "auto", "OSName"])?;
    ensure!(refused.code == Some(1) && refused.stderr.contains("hv_kvp_daemon"), "{}", refused.stderr);
    let refused = machine.ctl(&["freeze"])?;
    ensure!(refused.code == Some(1) && refused.stderr.contains("hv_vss_daemon"), "{}", refused.stderr);
    machine.reply(&["time"])?;
    ensure!(machine.ctl(&["shutdown"])?.code == Some(0), "the guest refused to power off");
    let console = machine.ended(Exit::Success)?;
    says(&console, "hv: clock hyperv")?;
    says(&console, "graceful shutdown initiated")?;
    says(&console, "hv: poweroff in good order")?;
    let date = console.split("hv: date ").nth(1).context("the guest says no date")?;
    let year: u32 = date.get(..4).unwrap_or_default().parse()?;
    ensure!(year >= 2025, "the guest's clock was not set: {year}");
    Ok(())
}

/// The modules that the services need.
pub(super) const UTILS: [&str; 2] = ["hv_vmbus", "hv_utils"];

/// Returns the modules of a stock kernel that talk to Hyper-V, by path in a guest's file system.
pub(super) fn modules(kernel: Stock, names: &[&str]) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let (files, _) = stock::kernel(&Cache::open()?, kernel)?;
    let mut modules = Vec::new();
    for module in names {
        let file = files.modules.iter().find(|file| {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            name.split('.').next() == Some(*module)
        });
        let file = file.with_context(|| format!("{} has no {module}", files.package))?;
        let bytes = Module::read(&file.to_string_lossy(), read(file)?)?.bytes;
        modules.push((format!("modules/{module}.ko"), bytes));
    }
    Ok(modules)
}

/// Returns the same of all modules, those of devices and what they need among them.
pub(super) fn drivers(kernel: Stock, names: &[&str]) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let folder = stock::drivers(&Cache::open()?, kernel)?;
    let mut modules = Vec::new();
    for module in names {
        let file = [".ko.xz", ".ko"].map(|end| folder.join(format!("{module}{end}")));
        let file = file.into_iter().find(|file| file.exists());
        let file = file.with_context(|| format!("{} has no {module}", folder.display()))?;
        let bytes = Module::read(&file.to_string_lossy(), read(&file)?)?.bytes;
        modules.push((format!("modules/{module}.ko"), bytes));
    }
    Ok(modules)
}

/// Checks that Debian's chrony sets a clock that is years behind from the clock that `hv_utils` makes of the time
/// service.
fn chrony(context: &Context, kernel: Stock, name: &str) -> anyhow::Result<()> {
    let script = "insmod /modules/hv_vmbus.ko\ninsmod /modules/hv_utils.ko\n\
        until grep -q hyperv /sys/class/ptp/*/clock_name 2>/dev/null && [ $(date +%Y) -ge 2025 ]; do sleep 0.1; done\n\
        clock=$(grep -l hyperv /sys/class/ptp/*/clock_name)\nclock=${clock%/*}\n\
        date -s '2020-01-01 00:00:00' >/dev/null\n\
        echo root:x:0:0:root:/:/bin/sh >/etc/passwd\n\
        cd\nchronyd -q -t 60 -u root 'cmdport 0' \"pidfile $PWD/pid\" 'makestep 1 -1' \
        \"refclock PHC /dev/${clock##*/} poll 0\" >log 2>&1 || echo 'chrony: FAILED'\n\
        sed 's/^/chrony: /' log\n\
        echo \"chrony: year $(date +%Y)\"";
    let initrd = initrd(context, "chrony", &["usr/sbin/chronyd"], &modules(kernel, &UTILS)?, script)?;
    let initrd = initrd.to_string_lossy();
    let booted =
        context.boot(&["--stock", name, "--initrd", &initrd, "--devices", "time", "--strict=note"])?;
    booted.ended(Exit::Success, "power-off")?;
    booted.never_says("chrony: FAILED")?;
    booted.says("System clock wrong by")?;
    let year = booted.console.split("chrony: year ").nth(1).context("the guest says no year")?;
    let year: u32 = year.get(..4).unwrap_or_default().parse()?;
    booted.check(year >= 2025, "chrony has set the clock")
}

/// Checks that Debian's daemons answer: pairs are set, read, listed and deleted, and file systems freeze and thaw.
fn daemons(context: &Context, kernel: Stock, name: &str, vps: &str) -> anyhow::Result<()> {
    let modules = modules(kernel, &UTILS)?;
    let script = "insmod /modules/hv_vmbus.ko\ninsmod /modules/hv_utils.ko\n\
        mkdir -p /var/lib/hyperv /var/run /mnt\nmount -t tmpfs tmpfs /mnt\n\
        until [ -e /dev/vmbus/hv_kvp ] && [ -e /dev/vmbus/hv_vss ]; do sleep 0.1; done\n\
        /usr/sbin/hv_kvp_daemon -n &\n/usr/sbin/hv_vss_daemon -n &\n\
        echo 'hv: waiting'\n\
        until [ -s /var/lib/hyperv/.kvp_pool_0 ]; do sleep 0.1; done\n\
        echo \"hv: pool $(tr -s '\\000' ' ' </var/lib/hyperv/.kvp_pool_0)\"\n\
        while :; do sleep 1; done";
    let programs = ["usr/sbin/hv_kvp_daemon", "usr/sbin/hv_vss_daemon"];
    let initrd = initrd(context, "hyperv-daemons", &programs, &modules, script)?;
    let initrd = initrd.to_string_lossy();
    let machine = Controlled::start(context, &["--stock", name, "--vps", vps, "--initrd", &initrd])?;
    machine.until("the daemon has registered", || {
        Ok(machine.reply(&["status"])?["result"]["services"]["kvp"]["state"] == "ready")
    })?;
    machine.reply(&["kvp", "set", "external", "colour", "blue \u{fc}"])?;
    machine.until("the daemon has written the pair", || Ok(machine.console().contains("hv: pool ")))?;
    says(&machine.console(), "hv: pool colour blue \u{fc}")?;
    let value = |pool: &str, key: &str| -> anyhow::Result<Value> {
        Ok(machine.reply(&["kvp", "get", pool, key])?["result"]["pair"]["value"].take())
    };
    ensure!(value("external", "colour")? == "blue \u{fc}");
    ensure!(value("auto", "ProcessorArchitecture")? == "aarch64");
    let version = value("auto", "OSVersion")?;
    let release = if name == "16k" { "6.12" } else { name };
    ensure!(version.as_str().is_some_and(|version| version.starts_with(release)), "OSVersion is {version}");
    let pairs = machine.reply(&["kvp", "list", "external"])?["result"]["pairs"].take();
    ensure!(pairs.as_array().is_some_and(|pairs| pairs.len() == 1), "{pairs}");
    machine.reply(&["kvp", "delete", "external", "colour"])?;
    let gone = machine.ctl(&["kvp", "get", "external", "colour"])?;
    ensure!(gone.code == Some(1) && gone.stderr.contains("no such key"), "{}", gone.stderr);
    machine.reply(&["freeze"])?;
    machine.reply(&["thaw"])?;
    ensure!(machine.ctl(&["shutdown"])?.code == Some(0), "the guest refused to power off");
    machine.ended(Exit::Success)?;
    Ok(())
}

fn reboot(context: &Context) -> anyhow::Result<()> {
    let machine = Controlled::start(context, &[])?;
    ensure!(machine.ctl(&["reboot"])?.code == Some(0), "the guest refused to restart");
    says(&machine.ended(Exit::Reset)?, "hv: reboot in good order")
}

/// Checks that a machine without the services says so; a socket without a listener is another error.
fn absent(context: &Context) -> anyhow::Result<()> {
    let machine = Controlled::start(context, &["--devices", "time"])?;
    let refused = machine.ctl(&["shutdown"])?;
    ensure!(refused.code == Some(1) && refused.stderr.contains("no shutdown device"), "{}", refused.stderr);
    let socket = machine.socket.clone();
    drop(machine);
    context.hv(&["ctl", &socket, "status"])?.refused("there is no machine")
}

/// Checks that the time service has the time of a deterministic run, and such runs are alike.
fn deterministic(context: &Context) -> anyhow::Result<()> {
    let options = ["--deterministic", "--vps", "1", "--devices", "time,heartbeat"];
    let [one, other] = [context.boot(&options)?, context.boot(&options)?];
    one.ended(Exit::Success, "power-off")?;
    one.says("TimeSync IC version 4.0")?;
    ensure!(one.console == other.console, "two deterministic runs differ");
    Ok(())
}
