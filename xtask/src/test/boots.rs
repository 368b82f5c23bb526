//! Stock kernels, seen from inside.

use std::process::Stdio;

use anyhow::ensure;
use hv_setup::stock::Stock;
use rustix::process::Signal;
use serde_json::Value;

use super::context::{Booted, Context, HUNG_SECONDS, console, read};
use super::life::until;
use super::packages;
use super::runner::Step;
use super::services::modules;
use super::signals::end;
use hv_setup::exit::Exit;

/// Linux's accesses to VP registers on its way to VMBus, on the first VP: guest OS id; privileges, features and
/// version; VP index; then from hv_vmbus SIMP, SIEFP, SINT2, SCONTROL.
const SEQUENCE: [u64; 9] = [0x9_0002, 0x200, 0x201, 0x100, 0x9_0003, 0xa_0013, 0xa_0012, 0xa_0002, 0xa_0010];

/// The kernels, by the value of `--stock`, with the start of the version that they report.
const KERNELS: [(&str, &str); 3] = [("6.12", "6.12."), ("6.1", "6.1."), ("16k", "6.12.")];

/// Returns the scenarios.
pub(super) fn steps() -> Vec<Step> {
    let mut steps = Vec::new();
    for (stock, version) in KERNELS {
        for vps in [1u32, 2, 4, 8] {
            steps.push(Step::new(format!("boot/{stock}/{vps}-vps"), move |context| {
                connected(&context.boot(&["--stock", stock, "--vps", &vps.to_string()])?, vps, version)
            }));
        }
    }
    // More VPs than devices have channels; the first number with two clusters; many, and the most.
    for (vps, memory) in [(9u32, "512M"), (17, "512M"), (64, "1G"), (120, "2G")] {
        let step = Step::new(format!("boot/6.12/{vps}-vps"), move |context| {
            let options = ["--vps", &vps.to_string(), "--memory", memory, "--strict"];
            connected(&context.boot(&options)?, vps, "6.12.")
        });
        steps.push(if vps > 9 { step.slow() } else { step });
    }
    // The VP that crashes is random: each of several must work.
    for (stock, vps) in [("6.12", "1"), ("6.12", "2"), ("6.12", "4"), ("6.1", "2"), ("16k", "2")] {
        steps.push(Step::new(format!("crash/{stock}/{vps}-vps"), move |context| {
            let booted = context.boot(&["--stock", stock, "--vps", vps, "--run", "crash", "--strict"])?;
            crash(&booted, false)
        }));
    }
    for stock in ["6.12", "6.1", "16k"] {
        steps.push(Step::new(format!("crash/{stock}/deterministic"), move |context| {
            let line = ["--stock", stock, "--vps", "4", "--run", "crash", "--strict", "--deterministic"];
            crash(&context.boot(&line)?, true)
        }));
    }
    steps.push(Step::new("reset", |context| {
        let booted = context.boot(&["--run", "reset", "--strict"])?;
        booted.ended(Exit::Reset, "reset")?;
        breaks(&booted, &[])
    }));
    steps.push(Step::new("strict/level", strict_level));
    steps.push(Step::new("hotplug/4-vps", hotplug));
    steps.push(Step::new("poke", poke));
    steps.push(Step::new("inject/refused-message", refused_message));
    steps.push(Step::new("inject/lost-interrupt", lost_interrupt));
    steps.push(Step::new("inject/never-fired", never_fired));
    for stock in ["6.12", "6.1", "16k"] {
        steps.push(Step::new(format!("strict/{stock}"), move |context| strict(context, stock)));
    }
    steps.push(Step::new("firmware/dt", device_tree));
    steps.push(Step::new("timeout", timeout));
    steps.push(Step::new("silence", silence));
    steps.push(Step::new("deterministic", deterministic));
    steps
}

/// Checks that a stock kernel found Hyper-V, brought VMBus up on every VP, and powered off.
fn connected(booted: &Booted, vps: u32, version: &str) -> anyhow::Result<()> {
    booted.ended(Exit::Success, "power-off")?;
    booted.says("Vmbus version:5.3")?;
    booted.says(&format!("{vps} processors"))?;
    // The lines by which systemd-detect-virt and cloud-init recognize the machine, in Linux's words.
    booted
        .says("DMI: Microsoft Corporation Virtual Machine/Virtual Machine, BIOS Hyper-V UEFI Release v4.1")?;
    booted.never_says("FAILED")?;
    booted.never_says("WARNING:")?;
    booted.is("/vps", vps)?;
    booted.is("/vmbus/version", "5.3")?;
    booted.is("/guest_os_id/os", "Linux")?;
    let found = booted.json["guest_os_id"]["version"].as_str().unwrap_or_default();
    booted.check(found.starts_with(version), &format!("the guest OS id says version {version}"))?;
    booted.is("/detection", "ACPI FADT hypervisor identity")?;
    let registers = booted.registers();
    let mut rest = registers.iter();
    for expected in SEQUENCE {
        let text = format!("{expected:#x} is used in its turn, in {registers:x?}");
        booted.check(rest.any(|&register| register == expected), &text)?;
    }
    for vp in 0..vps as usize {
        booted.is(&format!("/synic/{vp}/control"), "0x1")?;
        booted.is(&format!("/synic/{vp}/sints/0/sint"), 2)?;
    }
    booted.check(booted.json["crash"].is_null(), "no crash was reported")?;
    let faults = booted.strings("/warnings").into_iter().filter(|warning| !warning.starts_with("SMCCC"));
    booted.check(faults.count() == 0, "the only warnings are about SMCCC functions")
}

/// Checks the report of a crash. The VPs that Linux stops power off with their SynIC on. It takes them for stopped
/// before they call CPU_OFF, so the run may end before they do, unless its order is `fixed`.
fn crash(booted: &Booted, fixed: bool) -> anyhow::Result<()> {
    booted.ended(Exit::Crash, "crash")?;
    booted.says("Kernel panic - not syncing: sysrq triggered crash")?;
    booted.check(booted.strings("/crash/parameters").len() == 5, "five parameters")?;
    // Both bits: a notification with a message.
    booted.is("/crash/control", "0xc000000000000000")?;
    let text = booted.json["crash"]["text"].as_str().unwrap_or_default();
    booted.check(text.contains("sysrq triggered crash"), "the kernel's message came with the crash")?;
    let stopped = booted.json["vps"].as_u64().unwrap_or_default().saturating_sub(1);
    let count = booted.json["findings"][0]["count"].as_u64().unwrap_or_default();
    let count = if fixed { stopped } else { count.min(stopped) };
    if count == 0 {
        return breaks(booted, &[]);
    }
    breaks(booted, &[("offline-with-synic", count)])?;
    named(booted)
}

/// Checks that the kernel's functions are named although KASLR moved it: all its calls are one instruction, and the
/// callers tell why.
fn named(booted: &Booted) -> anyhow::Result<()> {
    booted.is("/findings/0/symbol", "__arm_smccc_hvc+0x8")?;
    let callers = booted.json["findings"][0]["callers"].as_array();
    let callers = callers.into_iter().flatten().filter_map(|caller| caller["symbol"].as_str());
    let functions: Vec<&str> = callers.filter_map(|symbol| Some(symbol.rsplit_once('+')?.0)).collect();
    let chain = ["__invoke_psci_fn_hvc", "psci_0_2_cpu_off", "cpu_psci_cpu_die"];
    booted.check(functions.starts_with(&chain) && functions.contains(&"ipi_handler"), "the callers are named")
}

/// Checks which rules were broken, and how often.
fn breaks(booted: &Booted, expected: &[(&str, u64)]) -> anyhow::Result<()> {
    let findings = &booted.json["findings"];
    let found: Vec<_> = findings
        .as_array()
        .into_iter()
        .flatten()
        .map(|finding| {
            (finding["rule"].as_str().unwrap_or_default(), finding["count"].as_u64().unwrap_or_default())
        })
        .collect();
    booted
        .check(findings.is_array() && found == expected, &format!("{expected:?} were broken, but {findings}"))
}

fn hotplug(context: &Context) -> anyhow::Result<()> {
    let booted = context.boot(&["--vps", "4", "--run", "hotplug", "--strict"])?;
    booted.ended(Exit::Success, "power-off")?;
    for cpu in 1..4 {
        booted.says(&format!("hv: cpu{cpu} online=0"))?;
        booted.says(&format!("hv: cpu{cpu} online=1"))?;
    }
    booted.never_says("FAILED")?;
    booted.says("hv: hotplug done, 4 processors")?;
    breaks(&booted, &[])
}

fn poke(context: &Context) -> anyhow::Result<()> {
    let booted = context.boot(&["--run", "poke"])?;
    booted.ended(Exit::Success, "power-off")?;
    booted.never_says("FAILED: read")?;
    booted.says("hv: no access to 0x40200000")?;
    let noted =
        booted.strings("/warnings").iter().any(|warning| warning.contains("access to address 0x40200000"));
    booted.check(noted, "the report warns of the access to the hypervisor's memory")
}

/// Checks that Linux reposts a message that found no buffer (6.12, drivers/hv, `vmbus_post_msg`).
fn refused_message(context: &Context) -> anyhow::Result<()> {
    let plan = "call=HVCALL_POST_MESSAGE:HV_STATUS_INSUFFICIENT_BUFFERS@1";
    let booted = context.boot(&["--inject", plan])?;
    booted.ended(Exit::Success, "power-off")?;
    booted.is("/vmbus/version", "5.3")?;
    let refused = booted.strings("/warnings").iter().any(|warning| {
        warning.starts_with("HVCALL_POST_MESSAGE failed once, last with HV_STATUS_INSUFFICIENT_BUFFERS")
    });
    booted.check(refused, "the report warns of the refused message")
}

/// Checks that Linux waits forever without the interrupt of VMBus's answer, and that the hypervisor is not affected.
fn lost_interrupt(context: &Context) -> anyhow::Result<()> {
    // What the module's process sleeps in, for five seconds without a change.
    let script = "insmod /modules/hv_vmbus.ko &\n\
        looks=0\n\
        while [ $looks -lt 50 ]; do\n\
            [ -e /proc/$!/exe ] || { echo 'hv: ENDED'; exit; }\n\
            if grep -q vmbus_connect /proc/$!/stack; then looks=$((looks + 1)); else looks=0; fi\n\
            sleep 0.1\n\
        done\n\
        echo 'hv: it waits'\n\
        while :; do sleep 1; done";
    let initrd = packages::script(context, &modules(Stock::Cloud612, &["hv_vmbus"])?, script)?;
    let folder = context.folder()?;
    let (keep, report) = (folder.join("keep"), folder.join("report.json"));
    let mut command =
        context.command(&["boot", "--quiet", "--timeout", HUNG_SECONDS, "--inject", "lost=18"])?;
    command.arg("--initrd").arg(initrd).arg("--keep").arg(&keep).arg("--json").arg(&report);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let ended = until("the guest waits for VMBus", || {
        ensure!(child.try_wait()?.is_none(), "it has ended:\n{}", console(&keep));
        Ok(console(&keep).contains("hv: it waits"))
    })
    .and_then(|()| end(&mut child, Signal::INT));
    let _ = child.kill();
    let _ = child.wait();
    ended?;
    let console = console(&keep);
    ensure!(!console.contains("Vmbus version:"), "it has not waited:\n{console}");
    let json: Value = serde_json::from_slice(&read(&report)?)?;
    ensure!(json["faults"][0]["fired"].as_u64() > Some(0), "no interrupt was lost: {}", json["faults"]);
    Ok(())
}

/// Checks that the report, the JSON and the trace name a rule that never fires, and count how often the others fire.
fn never_fired(context: &Context) -> anyhow::Result<()> {
    let file = context.folder()?.join("boot.pftrace");
    let plan = "call=HVCALL_POST_MESSAGE:HV_STATUS_INSUFFICIENT_BUFFERS@2,lost=19";
    let booted = context.boot(&["--inject", plan, "--trace", &file.to_string_lossy()])?;
    booted.ended(Exit::Success, "power-off")?;
    booted.is("/faults/0/fired", 1)?;
    booted.is("/faults/1/rule", "lost=19")?;
    booted.is("/faults/1/fired", 0)?;
    let warned = booted.strings("/warnings").iter().any(|warning| warning.contains("lost=19 NEVER FIRED"));
    booted.check(warned, "the report warns of the rule that never fired")?;
    let printed = context.hv(&["trace".as_ref(), file.as_os_str()])?.stdout;
    ensure!(printed.matches(" fault-injected      rule 0 times=1\n").count() == 1, "no record of the fault");
    ensure!(printed.contains("\ninjected: lost=19 never fired\n"), "the trace does not name the rule");
    Ok(())
}

/// Checks that what a stock kernel does on its way to VMBus breaks no rule.
fn strict(context: &Context, stock: &'static str) -> anyhow::Result<()> {
    let booted = context.boot(&["--stock", stock, "--strict"])?;
    booted.ended(Exit::Success, "power-off")?;
    booted.is("/vmbus/version", "5.3")?;
    breaks(&booted, &[])
}

/// Checks that a broken rule of the level given has its own exit code, and one below does not.
fn strict_level(context: &Context) -> anyhow::Result<()> {
    let crashing = |level| context.boot(&["--run", "crash", "--vps", "2", level]);
    crashing("--strict=note")?.ended(Exit::Strict, "crash")?;
    crashing("--strict=warning")?.ended(Exit::Crash, "crash")?;
    context.boot(&["--strict=note"])?.ended(Exit::Success, "power-off")
}

/// Checks that a kernel boots with a device tree although 6.12 recognizes Hyper-V by ACPI only.
///
/// 6.12 takes only ACPI's word for Hyper-V; with a device tree it must boot anyway.
fn device_tree(context: &Context) -> anyhow::Result<()> {
    let booted = context.boot(&["--firmware", "dt"])?;
    booted.ended(Exit::Success, "power-off")?;
    booted.says("2 processors")
}

/// Checks that the tool says once why a kernel is silent that was told of another console.
fn silence(context: &Context) -> anyhow::Result<()> {
    // Without the answer's interrupt it waits for VMBus forever.
    let options = ["--append", "console=ttyS0", "--inject", "lost=18", "--silence", "1", "--timeout", "8"];
    let booted = context.boot(&options)?;
    booted.ended(Exit::Timeout, "timeout")?;
    let hints = booted.stderr.matches("console=ttyS0: the console of this machine is a PL011").count();
    booted.check(hints == 1, "one hint at the console")
}

fn timeout(context: &Context) -> anyhow::Result<()> {
    let booted = context.boot(&["--run", "shell", "--timeout", "4"])?;
    booted.ended(Exit::Timeout, "timeout")
}

fn deterministic(context: &Context) -> anyhow::Result<()> {
    // The report has the file's name.
    let trace = context.folder()?.join("trace");
    let run = || {
        let booted = context.boot(&["--deterministic", "--trace", &trace.display().to_string()])?;
        anyhow::Ok((booted, read(&trace)?))
    };
    let (one, first) = run()?;
    one.ended(Exit::Success, "power-off")?;
    // The guest's own time, the same on any machine: 1.5 s. An interrupt that an idle VP gets only with its next timer
    // costs seconds.
    let time = one.json["run_ms"].as_u64();
    one.check(time.is_some_and(|time| time < 4000), "each interrupt for an idle VP reaches it at once")?;
    let (two, second) = run()?;
    let difference = one.console.lines().zip(two.console.lines()).find(|(one, two)| one != two);
    ensure!(one.console == two.console, "the consoles of two runs differ, first at {difference:?}");
    ensure!(one.json_text == two.json_text, "the reports differ:\n{}\n{}", one.json_text, two.json_text);
    ensure!(first == second, "the traces differ");
    Ok(())
}
