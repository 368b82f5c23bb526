//! Keyboard and mouse: what `hv ctl` types reaches a terminal of a stock guest, and where it points a program that
//! reads events, through Linux's own drivers.

use anyhow::ensure;
use hv_setup::exit::Exit;
use hv_setup::stock::Stock;

use super::super::context::Context;
use super::super::packages::script;
use super::super::runner::Step;
use super::super::services::{Controlled, drivers};

/// Returns the scenarios.
pub(super) fn steps() -> Vec<Step> {
    let step = |name: &'static str, stock: Stock| {
        Step::new(format!("devices/keyboard/{name}"), move |context| keyboard(context, name, stock))
    };
    vec![
        step("6.12", Stock::Cloud612),
        step("6.1", Stock::Cloud61).slow(),
        step("16k", Stock::Pages16k).slow(),
        Step::new("devices/keyboard/refused", refused),
        Step::new("devices/mouse", mouse),
    ]
}

/// Loads the driver, and reads lines from the first terminal, in which the kernel's console keyboard ends.
const READ: &str = "\
    insmod /modules/hv_vmbus.ko\ninsmod /modules/hv_utils.ko\ninsmod /modules/hyperv-keyboard.ko\n\
    until grep -q 'AT Translated' /proc/bus/input/devices; do sleep 0.1; done\n\
    { while grep -q 'AT Translated' /proc/bus/input/devices; do sleep 0.1; done; echo 'keyboard: gone'; } &\n\
    exec 3</dev/tty1\n\
    echo 'hv: waiting'\n\
    while IFS= read -r line <&3; do printf 'typed <%s>\\n' \"$line\"; done\n\
    while :; do sleep 1; done";

/// Prints type, code and value of each event of the mouse: the last three fields of 24 bytes.
const EVENTS: &str = "\
    for module in hv_vmbus hv_utils hid hid-hyperv evdev; do insmod /modules/$module.ko; done\n\
    until name=$(grep -l 'Vmbus HID' /sys/class/input/event*/device/name); do sleep 0.1; done 2>/dev/null\n\
    event=${name#/sys/class/input/}\n\
    exec 3</dev/input/${event%%/*}\n\
    echo 'hv: waiting'\n\
    while set -- $(dd bs=24 count=1 <&3 2>/dev/null | od -An -v -t u2) && [ $# = 12 ]; do\n\
        echo \"event $9 ${10} ${11}\"\n\
    done\n\
    while :; do sleep 1; done";

/// Builds a guest of this kernel that prints the lines that are typed.
fn typing<'c>(context: &'c Context, name: &str, stock: Stock) -> anyhow::Result<Controlled<'c>> {
    guest(context, name, stock, &["hv_vmbus", "hv_utils", "hyperv-keyboard"], READ, &[])
}

/// Builds a guest of this kernel, with these modules of it, that runs a script.
pub(super) fn guest<'c>(
    context: &'c Context,
    name: &str,
    stock: Stock,
    wanted: &[&str],
    text: &str,
    options: &[&str],
) -> anyhow::Result<Controlled<'c>> {
    let initrd = script(context, &drivers(stock, wanted)?, text)?;
    let initrd = initrd.to_string_lossy();
    Controlled::start(context, &[&["--stock", name, "--initrd", &initrd], options].concat())
}

/// Checks that every key of a US keyboard is the character that it is in Linux; a long text arrives whole; the device
/// can be taken away.
fn keyboard(context: &Context, name: &str, stock: Stock) -> anyhow::Result<()> {
    let machine = typing(context, name, stock)?;
    let says = |line: &str| {
        machine.until(&format!("{line:?} is typed"), || {
            Ok(machine.console().contains(&format!("typed <{line}>")))
        })
    };
    let services = machine.reply(&["status"])?["result"]["services"].take();
    ensure!(
        services["keyboard"]["state"] == "ready" && services["keyboard"]["version"] == "1.0",
        "the keyboard is not ready with version 1.0: {services}"
    );
    let all: String = (' '..='~').collect();
    machine.reply(&["type", &format!("{}\\n", all.replace('\\', "\\\\"))])?;
    says(&all)?;
    // A terminal takes the character before a Backspace away.
    machine.reply(&["type", "A\\tbx\\bC\\n"])?;
    says("A\tbC")?;
    let long = "The quick brown fox jumps over the lazy dog; ".repeat(50);
    machine.reply(&["type", &format!("{long}\\n")])?;
    says(&long)?;
    machine.reply(&["rescind", "keyboard"])?;
    machine.refuses(&["type", "a"], 1, "the machine has no keyboard device: it was taken away")?;
    machine.until("the guest has lost its keyboard", || Ok(machine.console().contains("keyboard: gone")))?;
    ensure!(machine.ctl(&["shutdown"])?.code == Some(0), "the guest refused to power off");
    machine.ended(Exit::Success)?;
    Ok(())
}

/// Checks that what cannot be typed is refused: characters that have no key, and text for a machine that has no
/// keyboard.
fn refused(context: &Context) -> anyhow::Result<()> {
    let machine =
        Controlled::start(context, &["--devices", "shutdown,keyboard", "--inject", "newest=keyboard:0.9"])?;
    machine.refuses(&["type", "gr\u{fc}n"], 2, "no key for '\u{fc}' (U+00FC)")?;
    machine.refuses(&["type", "a\\x"], 2, "\\x is unknown")?;
    machine.refuses(&["type", ""], 2, "the text is empty")?;
    // Linux gives the keyboard up when its version is refused.
    machine.until("the guest hears the refusal", || {
        Ok(machine.console().contains("synth_kbd protocol request failed"))
    })?;
    machine.until("the guest has given the keyboard up", || {
        let done = machine.ctl(&["type", "a"])?;
        Ok(done.code == Some(1) && done.stderr.contains("no driver for keyboard"))
    })?;
    machine.refuses(&["freeze"], 1, "no vss device")?;
    ensure!(machine.ctl(&["shutdown"])?.code == Some(0), "the guest refused to power off");
    machine.ended(Exit::Success)?;
    Ok(())
}

/// Checks that a move, a turn of the wheel and a click are the events that a pointing device has in Linux, in their
/// order.
fn mouse(context: &Context) -> anyhow::Result<()> {
    let modules = ["hv_vmbus", "hv_utils", "hid", "hid-hyperv", "evdev"];
    let machine = guest(context, "16k", Stock::Pages16k, &modules, EVENTS, &[])?;
    let services = machine.reply(&["status"])?["result"]["services"].take();
    ensure!(
        services["mouse"]["state"] == "ready" && services["mouse"]["version"] == "2.0",
        "the mouse is not ready with version 2.0: {services}"
    );
    machine.reply(&["mouse", "1000", "20000", "--scroll", "3", "--click", "right"])?;
    machine.until("the button is released", || Ok(machine.console().contains("event 1 273 0")))?;
    let console = machine.console();
    let events: Vec<&str> = console.lines().filter_map(|line| line.trim().strip_prefix("event ")).collect();
    // EV_ABS with ABS_X and ABS_Y, EV_REL with REL_WHEEL, EV_KEY with BTN_RIGHT.
    let expected = ["3 0 1000", "3 1 20000", "2 8 3", "1 273 1", "1 273 0"];
    let known: Vec<&str> = events.iter().copied().filter(|event| expected.contains(event)).collect();
    ensure!(known == expected, "expected {expected:?} of {events:?}");
    let refused = machine.ctl(&["mouse", "40000", "0"])?;
    ensure!(refused.code == Some(2) && refused.stderr.contains("'40000' for '<X>'"), "{}", refused.stderr);
    ensure!(machine.ctl(&["shutdown"])?.code == Some(0), "the guest refused to power off");
    machine.ended(Exit::Success)?;
    Ok(())
}
