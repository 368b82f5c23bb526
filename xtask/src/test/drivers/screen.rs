//! The screen and the keyboard of `bare/drivers`: what it draws is in the picture that `hv ctl screenshot` takes.

use std::fs;

use anyhow::{Context as _, ensure};
use hv_setup::exit::Exit;
use hv_setup::programs as bare;

use super::super::context::Context;
use super::super::devices::video::{Picture, shot};
use super::super::services::Controlled;
use super::{DISK, bytes};

/// Columns and rows of a square, and the first rows of the program's own and of those that keys draw.
const SQUARE: usize = 32;
const ROW: usize = 100;
const KEYS_ROW: usize = 200;
/// The three characters: first column and row, and columns and rows of each.
const TEXT: (usize, usize) = (300, 45);
const CELL: (usize, usize) = (10, 20);

const GROUND: [u8; 3] = [0x10, 0x20, 0x30];
const WHITE: [u8; 3] = [0xff; 3];

/// Returns the value that a pixel must have after a number of keys; `None` where there is text.
fn expected(x: usize, y: usize, keys: usize) -> Option<[u8; 3]> {
    let (place, in_square) = (x / SQUARE / 2, (x / SQUARE).is_multiple_of(2));
    let rows = |first: usize| (first..first + SQUARE).contains(&y);
    let colours = [[0xff, 0, 0], [0, 0xff, 0], [0, 0, 0xff]];
    if (TEXT.0..TEXT.0 + 3 * CELL.0).contains(&x) && (TEXT.1..TEXT.1 + CELL.1).contains(&y) {
        None
    } else if in_square && rows(ROW) && place < 3 {
        Some(colours[place])
    } else if in_square && rows(KEYS_ROW) && place < keys {
        Some([0xff, 0xff, 0])
    } else {
        Some(GROUND)
    }
}

/// Checks all pixels of a picture.
fn check(picture: &Picture, keys: usize) -> anyhow::Result<()> {
    ensure!((picture.width, picture.height) == (1024, 768), "{} by {}", picture.width, picture.height);
    for (y, x) in (0..picture.height).flat_map(|y| (0..picture.width).map(move |x| (y, x))) {
        let pixel = picture.pixel(x, y);
        let good = match expected(x, y, keys) {
            Some(colour) => pixel == colour,
            None => pixel == GROUND || pixel == WHITE,
        };
        ensure!(good, "{x}, {y} is {pixel:02x?}");
    }
    // Three times the same character, whose two bars are lit in the same rows.
    let lit = |n: usize, x: usize, y: usize| picture.pixel(TEXT.0 + n * CELL.0 + x, TEXT.1 + y) == WHITE;
    for (x, y) in (0..CELL.0).flat_map(|x| (0..CELL.1).map(move |y| (x, y))) {
        ensure!(lit(0, x, y) == lit(1, x, y) && lit(1, x, y) == lit(2, x, y), "{x}, {y} of the characters");
    }
    let bars = (0..CELL.0).filter(|x| (0..CELL.1).filter(|y| lit(0, *x, *y)).count() >= 10).count();
    ensure!((2..CELL.0 / 2).contains(&bars), "an H with {bars} columns of bars");
    Ok(())
}

/// Checks that the program draws, and a square more for each key, and that the device is told what has changed and
/// nothing else. A rule of the interface that it breaks would end the run with a code of its own.
pub(super) fn screen(context: &Context, append: &str, cpu: &str) -> anyhow::Result<()> {
    let folder = context.folder()?;
    let disk = folder.join("data.img");
    fs::write(&disk, bytes(DISK, 1))?;
    let kernel = bare::output("drivers")?;
    let (kernel, disk) = (kernel.to_string_lossy(), disk.to_string_lossy());
    let append = format!("drivers.screen=1 {append}");
    let options =
        ["--firmware", "dt", "--kernel", &kernel, "--disk", &disk, "--append", &append, "--cpu", cpu];
    let machine = Controlled::start_until(context, &options, "drivers: drawn")?;
    ensure!(
        machine.console().contains("drivers: screen 0x50003, 1024 by 768, 8 sizes"),
        "{}",
        machine.console()
    );
    let file = folder.join("screen.png");
    let (picture, changed) = shot(&machine, &file)?;
    check(&picture, 0)?;
    let all = serde_json::json!({ "x": 0, "y": 0, "width": 1024, "height": 768 });
    ensure!(changed == all, "{changed}");
    for keys in 1..=2 {
        machine.reply(&["type", "x"])?;
        let mut news = None;
        machine.until("the device is told of the square", || {
            let (picture, changed) = shot(&machine, &file)?;
            news = changed["width"].as_u64().is_some_and(|width| width > 0).then_some((picture, changed));
            Ok(news.is_some())
        })?;
        let (picture, changed) = news.context("there is no picture")?;
        check(&picture, keys)?;
        let square = serde_json::json!({
            "x": (keys - 1) * 2 * SQUARE, "y": KEYS_ROW, "width": SQUARE, "height": SQUARE
        });
        ensure!(changed == square, "{changed}");
    }
    ensure!(machine.ctl(&["shutdown"])?.code == Some(0), "the guest refused to power off");
    let console = machine.ended(Exit::Success)?;
    ensure!(console.contains("drivers: PowerOff after 2 keys"), "{console}");
    ensure!(console.contains("drivers: all good on 2 VPs"), "{console}");
    Ok(())
}
