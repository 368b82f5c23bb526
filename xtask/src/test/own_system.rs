//! Disks with a system of their own: kernel, initrd and command line come from the image.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::ensure;
use hv_setup::cache::Cache;
use hv_setup::exit::Exit;
use hv_setup::stock::{self, Stock};

use super::context::{Booted, Context};
use super::devices::storage::file_system;
use super::packages::script;
use super::runner::Step;

/// Returns the scenarios.
pub(super) fn steps() -> Vec<Step> {
    vec![Step::new("disk/own-system", own_system)]
}

/// Bytes of the disk.
const DISK: u64 = 160 << 20;
/// A menu of grub with two entries.
const MENU: &str = "menuentry 'First system' --id one {\n\
    linux /boot/vmlinuz-9.1 root=/dev/sda ro hv.word=first\n initrd /boot/initrd.img-9.1\n}\n\
    submenu 'More' {\n menuentry 'Second system' --id two {\n\
    linux /boot/vmlinuz-9.1 root=/dev/sda ro hv.word=second console=ttyS0\n initrd /boot/initrd.img-9.1\n }\n}\n";

/// Builds a file system with the stock kernel, an initrd that says who it is, and a folder of a root.
fn tree(context: &Context) -> anyhow::Result<PathBuf> {
    let (kernel, _) = stock::kernel(&Cache::open()?, Stock::Cloud612)?;
    let initrd = script(context, &[], "echo \"hv: own initrd with $(cat /proc/cmdline)\"")?;
    let tree = context.folder()?;
    fs::create_dir_all(tree.join("boot/grub"))?;
    fs::create_dir(tree.join("etc"))?;
    fs::copy(&kernel.image, tree.join("boot/vmlinuz-9.1"))?;
    fs::copy(&initrd, tree.join("boot/initrd.img-9.1"))?;
    Ok(tree)
}

fn image(tree: &Path) -> anyhow::Result<String> {
    let image = tree.with_extension("img");
    file_system(tree, &image, DISK)?;
    Ok(image.to_string_lossy().into_owned())
}

fn own_system(context: &Context) -> anyhow::Result<()> {
    let tree = tree(context)?;
    // No menu: the kernel that is there, with the file system as its root.
    let plain = context.boot(&["--disk", &image(&tree)?])?;
    plain.ended(Exit::Success, "power-off")?;
    plain.says("hv: own initrd with ")?;
    plain.check(plain.console.contains(" root=UUID="), "the file system is the root")?;
    ensure!(plain.stderr.contains("boots vmlinuz-9.1: Linux 9.1"), "{}", plain.stderr);
    // It finds what it has on Hyper-V, unless told otherwise.
    let devices = |booted: &Booted| booted.json["devices"].as_array().map_or(0, Vec::len);
    plain.check(devices(&plain) == 11, "a controller and all services")?;
    let path = plain.json["kernel"]["path"].as_str().unwrap_or_default();
    ensure!(path.ends_with(".img:/boot/vmlinuz-9.1"), "{path}");
    // A menu: another entry than its first one, with this machine's console and what is appended.
    fs::write(tree.join("boot/grub/grub.cfg"), MENU)?;
    let image = image(&tree)?;
    let second = context.boot(&[
        "--disk",
        &image,
        "--entry",
        "Second",
        "--append",
        "hv.more=yes",
        "--devices",
        "none",
    ])?;
    second.check(devices(&second) == 1, "a controller alone")?;
    second.ended(Exit::Success, "power-off")?;
    second.says("hv.word=second console=ttyS0 console=ttyAMA0 hv.more=yes")?;
    ensure!(second.stderr.contains("boots two: Second system"), "{}", second.stderr);
    let none = context.boot(&["--disk", &image, "--entry", "Third"])?;
    ensure!(
        none.code == Some(Exit::Usage as i32) && none.stderr.contains("two: Second system"),
        "{}",
        none.stderr
    );
    // Another kernel: the disk is a disk.
    let stock = context.boot(&["--disk", &image, "--stock", "6.12"])?;
    stock.ended(Exit::Success, "power-off")?;
    stock.check(!stock.console.contains("own initrd"), "the stock initramfs")
}
