//! The screen: what is typed on a stock guest's keyboard shows in the picture that `hv ctl screenshot` takes.
//!
//! Debian's kernels for clouds have Linux's hyperv_fb, and no DRM; the one with 16K pages has hyperv_drm. In each the
//! kernel's own console draws on the screen (fbcon), with its font of 8 by 16 pixels.

use std::path::Path;

use anyhow::{Context as _, ensure};
use hv_setup::exit::Exit;
use hv_setup::stock::Stock;
use serde_json::Value;

use super::super::context::{Context, read};
use super::super::runner::Step;
use super::super::services::Controlled;
use super::input::guest;

mod png;

pub(crate) use png::Picture;

/// Returns the scenarios.
pub(super) fn steps() -> Vec<Step> {
    vec![
        Step::new("devices/video/6.12", |context| text(context, &CLOUD)),
        Step::new("devices/video/1920x1080", |context| {
            let options = &["--append", "video=hyperv_fb:1920x1080"];
            text(context, &ScreenGuest { options, size: (1920, 1080), ..CLOUD })
        }),
        Step::new("devices/video/6.1", |context| {
            text(context, &ScreenGuest { name: "6.1", stock: Stock::Cloud61, ..CLOUD })
        })
        .slow(),
        Step::new("devices/video/16k", |context| {
            text(context, &ScreenGuest { name: "16k", stock: Stock::Pages16k, modules: &DRM, ..CLOUD })
        }),
        Step::new("devices/video/refused", refused),
    ]
}

/// The modules of a kernel with the older driver.
const FB: [&str; 4] = ["hv_vmbus", "hv_utils", "hyperv-keyboard", "hyperv_fb"];
/// Those of one with the newer driver.
const DRM: [&str; 7] =
    ["hv_vmbus", "hv_utils", "hyperv-keyboard", "drm", "drm_kms_helper", "drm_shmem_helper", "hyperv_drm"];

/// A guest, and what its screen has.
#[derive(Clone, Copy)]
struct ScreenGuest<'m> {
    name: &'m str,
    stock: Stock,
    modules: &'m [&'m str],
    options: &'m [&'m str],
    size: (usize, usize),
}

const CLOUD: ScreenGuest<'static> =
    ScreenGuest { name: "6.12", stock: Stock::Cloud612, modules: &FB, options: &[], size: (1024, 768) };

/// Loads the drivers, clears the first terminal, and reads lines from it, which the kernel echoes on the screen.
fn reading(modules: &[&str]) -> String {
    let load: String = modules.iter().map(|module| format!("insmod /modules/{module}.ko\n")).collect();
    format!(
        "{load}until grep -q 'AT Translated' /proc/bus/input/devices && [ -e /dev/fb0 ]; do sleep 0.1; done\n\
         exec 3</dev/tty1\n\
         printf '\\033[2J\\033[H' >/dev/tty1\n\
         echo 'hv: waiting'\n\
         while IFS= read -r line <&3; do printf 'typed <%s>\\n' \"$line\"; done\n\
         while :; do sleep 1; done"
    )
}

/// Columns and rows of a character.
const CELL: (usize, usize) = (8, 16);
/// Rows of an H in the font: a bit for each pixel.
const H: [u8; 16] = [0, 0, 0xc6, 0xc6, 0xc6, 0xc6, 0xfe, 0xc6, 0xc6, 0xc6, 0xc6, 0xc6, 0, 0, 0, 0];

/// Checks that each character that is typed is in the picture, in its place, and nothing else has changed.
fn text(context: &Context, wanted: &ScreenGuest<'_>) -> anyhow::Result<()> {
    let ScreenGuest { name, stock, modules, options, size } = *wanted;
    let machine = guest(context, name, stock, modules, &reading(modules), options)?;
    let services = machine.reply(&["status"])?["result"]["services"].take();
    ensure!(
        services["video"]["state"] == "ready" && services["video"]["version"] == "3.5",
        "the screen is not ready with version 3.5: {services}"
    );
    let folder = context.folder()?;
    let mut before = None;
    // The driver reports the clear a while after it, at once with what has changed since. Of two reports that have no
    // row below the blinking cursor, it was before the second.
    let mut reports = 0;
    machine.until("the terminal is cleared, and the guest has reported it", || {
        let (picture, changed) = shot(&machine, &folder.join("before.png"))?;
        ensure!((picture.width, picture.height) == size, "{} by {}", picture.width, picture.height);
        let quiet = (1..size.1 / CELL.1).all(|row| (0..40).all(|column| picture.is_blank(column, row)));
        if !quiet || !is_above(&changed, size)? {
            reports = 0;
        } else if !changed.is_null() {
            reports += 1;
        }
        before = (reports == 2).then_some(picture);
        Ok(before.is_some())
    })?;
    let before = before.context("there is no picture")?;
    machine.reply(&["type", "Hello, HHH"])?;
    let (mut after, mut reported) = (None, false);
    machine.until("the text is on the screen, and the guest has reported it", || {
        let (picture, changed) = shot(&machine, &folder.join("after.png"))?;
        // What the guest says has changed is on the screen, and no row below the text.
        ensure!(is_above(&changed, size)?, "{changed}");
        reported |= !changed.is_null();
        after = (reported && picture.glyph(9, 0) == H).then_some(picture);
        Ok(after.is_some())
    })?;
    let after = after.context("there is no picture")?;
    let hello: Vec<[u8; 16]> = (0..10).map(|column| after.glyph(column, 0)).collect();
    ensure!([0, 7, 8, 9].iter().all(|column| hello[*column] == H), "{hello:x?}");
    ensure!(hello[2] == hello[3] && hello[1] != hello[2] && hello[4] != hello[1], "{hello:x?}");
    ensure!(hello[6] == [0; 16], "a space has pixels: {:x?}", hello[6]);
    // The text, and the cursor after it.
    for (x, y) in before.differences(&after) {
        ensure!(x < 11 * CELL.0 && y < CELL.1, "{x}, {y} has changed");
    }
    machine.reply(&["type", "\\n"])?;
    machine.until("the line is read", || Ok(machine.console().contains("typed <Hello, HHH>")))?;
    ensure!(machine.ctl(&["shutdown"])?.code == Some(0), "the guest refused to power off");
    machine.ended(Exit::Success)?;
    Ok(())
}

/// Returns true if nothing has changed, or only what is on a screen of this size and in its first two rows.
fn is_above(changed: &Value, size: (usize, usize)) -> anyhow::Result<bool> {
    if changed.is_null() {
        return Ok(true);
    }
    let number = |field: &str| changed[field].as_u64().with_context(|| format!("{field} in {changed}"));
    let (x, y, width, height) = (number("x")?, number("y")?, number("width")?, number("height")?);
    Ok(x + width <= size.0 as u64 && y + height <= 2 * CELL.1 as u64)
}

/// Takes a picture. Returns it and what has changed.
pub(in super::super) fn shot(machine: &Controlled<'_>, file: &Path) -> anyhow::Result<(Picture, Value)> {
    let mut reply = machine.reply(&["screenshot", &file.to_string_lossy()])?;
    let picture = Picture::read(&read(file)?)?;
    let line = &mut reply["result"]["picture"];
    ensure!(
        line["width"] == picture.width && line["height"] == picture.height,
        "the file has {} by {} pixels: {line}",
        picture.width,
        picture.height
    );
    Ok((picture, line["changed"].take()))
}

/// Checks that without a screen, a driver or a place for the file there is no picture, and the error says so.
fn refused(context: &Context) -> anyhow::Result<()> {
    let file = context.folder()?.join("screen.png").to_string_lossy().into_owned();
    let machine =
        Controlled::start(context, &["--devices", "shutdown,video", "--inject", "newest=video:3.2"])?;
    // Linux asks for no older version on a newer bus.
    machine.until("the guest hears the refusal", || {
        Ok(machine.console().contains("Synthetic video device version not accepted"))
    })?;
    machine.until("the guest has given the screen up", || {
        let done = machine.ctl(&["screenshot", &file])?;
        Ok(done.code == Some(1) && done.stderr.contains("no driver for video"))
    })?;
    machine.refuses(&["screenshot", "nowhere/screen.png"], 2, "nowhere/screen.png")?;
    machine.refuses(&["screenshot", "-"], 2, "cannot write the picture to stdout")?;
    ensure!(machine.ctl(&["shutdown"])?.code == Some(0), "the guest refused to power off");
    machine.ended(Exit::Success)?;
    let machine = Controlled::start(context, &["--devices", "shutdown"])?;
    machine.refuses(&["screenshot", &file], 1, "no video device")?;
    ensure!(!Path::new(&file).exists(), "a refused picture was written");
    ensure!(machine.ctl(&["shutdown"])?.code == Some(0), "the guest refused to power off");
    machine.ended(Exit::Success)?;
    Ok(())
}
