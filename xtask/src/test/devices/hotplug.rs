//! Disks that are added, resized and removed, and a controller that is taken away, while a stock guest looks on.

use std::fs;
use std::path::Path;

use anyhow::ensure;
use hv_setup::exit::Exit;

use super::super::context::Context;
use super::super::runner::Step;
use super::super::services::Controlled;
use super::programs::{GuestFiles, Programs};

/// Returns the scenarios.
pub(super) fn steps() -> Vec<Step> {
    let step = |stock: &'static str, vps: &'static str| {
        Step::new(format!("devices/storage/hotplug/{stock}"), move |context| run(context, stock, vps))
    };
    vec![step("6.12", "2"), step("6.1", "4").slow(), step("16k", "1").slow()]
}

/// Tells each disk that comes, grows or goes: controller and logical unit, size in blocks, and the first bytes. One
/// that grows gets a word in its last block.
const WATCH: &str = r#"
echo 'hv: waiting'
while :; do
    for folder in /sys/block/sd*; do
        name=${folder##*/}
        place=$(readlink -f $folder | sed 's/.*\(f8b3781.\)-.*:\([0-9]*\)\/block\/.*/\1:\2/')
        size=$(cat $folder/size)
        [ -b /dev/$name ] && [ "$size" -gt 0 ] || continue
        eval was=\$size_$name
        [ "$was" = $size ] && continue
        eval "size_$name=$size; place_$name=$place"
        [ -n "$was" ] && [ $size -gt $was ] &&
            echo grown | dd of=/dev/$name bs=512 seek=$((size - 1)) conv=notrunc,sync 2>/dev/null && sync
        known="$known $name"
        echo "disk: $place has $size, $(head -c 5 /dev/$name | tr -dc a-z)"
    done
    for name in $known; do
        eval place=\$place_$name
        if [ -n "$place" ] && ! [ -e /sys/block/$name ]; then
            echo "disk: $place is gone"
            eval "size_$name=; place_$name="
        fi
    done
    sleep 0.1
done"#;

fn run(context: &Context, stock: &str, vps: &str) -> anyhow::Result<()> {
    let files = GuestFiles::new(context, &Programs { packages: &[], paths: &[] }, &[], WATCH)?;
    let image = files.data.with_file_name("added.img");
    let small = files.data.with_file_name("small.img");
    fs::write(&image, filled("first", 8 << 20))?;
    fs::write(&small, filled("other", 1 << 20))?;
    let options = files.options();
    let mut line = vec!["--stock", stock, "--vps", vps, "--hotplug-room", "64M"];
    line.extend(options.iter().map(String::as_str));
    let machine = Controlled::start(context, &line)?;
    let says = |text: &str| machine.until(text, || Ok(machine.console().contains(&format!("disk: {text}"))));
    says("f8b3781a:1 has 49152, ")?;

    let added = machine.reply(&["disk", "add", &format!("{},at=0:9", image.display())])?;
    ensure!(added["result"]["disk"]["bytes"] == 8 << 20, "{added}");
    says("f8b3781a:9 has 16384, first")?;
    let added = machine.reply(&["disk", "add", &format!("{},ro", small.display())])?;
    ensure!(added["result"]["disk"]["lun"] == 3, "{added}");
    says("f8b3781a:3 has 2048, other")?;

    machine.reply(&["disk", "resize", "0:1", "32M"])?;
    says("f8b3781a:1 has 65536, ")?;
    machine.refuses(&["disk", "resize", "0:9", "16M"], 2, "up to the next disk")?;
    machine.reply(&["disk", "remove", "0:3"])?;
    says("f8b3781a:3 is gone")?;
    machine.reply(&["disk", "resize", "0:9", "16M"])?;
    says("f8b3781a:9 has 32768, first")?;
    machine.reply(&["disk", "resize", "0:9", "4M"])?;
    says("f8b3781a:9 has 8192, first")?;
    machine.reply(&["disk", "remove", "0:9"])?;
    says("f8b3781a:9 is gone")?;

    // A controller that the guest has not seen yet, and sees again after it was taken away. The disk has no write
    // cache: Linux never ends the removal of one that has, since it issues a command to the controller that is gone.
    machine.reply(&["disk", "add", &format!("{},ro,at=2:0", small.display())])?;
    says("f8b3781c:0 has 2048, other")?;
    machine.reply(&["rescind", "scsi2"])?;
    says("f8b3781c:0 is gone")?;
    machine.until("the guest has released the controller", || {
        let done = machine.ctl(&["disk", "add", &format!("{},at=2:7", image.display())])?;
        ensure!(done.code == Some(0) || done.stderr.contains("try again later"), "{}", done.stderr);
        Ok(done.code == Some(0))
    })?;
    says("f8b3781c:7 has 16384, first")?;

    machine.refuses(&["disk", "add", &format!("{},rw", image.display())], 2, "cannot be added as rw")?;
    machine.refuses(&["disk", "add", &format!("{},at=0:1", image.display())], 2, "a disk at 0:1 already")?;
    machine.refuses(&["disk", "add", "/no/such/file"], 2, "does not exist")?;
    machine.refuses(&["disk", "remove", "3:3"], 1, "no disk at 3:3")?;
    machine.refuses(&["disk", "resize", "0:2", "8M"], 2, "read-only")?;
    machine.refuses(&["disk", "resize", "0:1", "1G"], 2, "--hotplug-room")?;
    machine.refuses(&["rescind", "scsi1"], 1, "no device scsi1")?;

    machine.until("the guest takes the request to power off", || {
        Ok(machine.ctl(&["shutdown"])?.code == Some(0))
    })?;
    machine.ended(Exit::Success)?;
    grown(&files.data)?;
    ensure!(fs::read(&image)? == filled("first", 8 << 20), "the image of a snapshot has changed");
    Ok(())
}

/// Returns the bytes of a word repeated.
fn filled(word: &str, size: usize) -> Vec<u8> {
    word.bytes().cycle().take(size).collect()
}

/// Checks that the file is as long as its disk in the end, with the guest's word in the last block.
fn grown(image: &Path) -> anyhow::Result<()> {
    let bytes = fs::read(image)?;
    ensure!(bytes.len() == 32 << 20, "the file has {} bytes", bytes.len());
    ensure!(bytes[bytes.len() - 512..].starts_with(b"grown\n"), "the last block is not what the guest wrote");
    Ok(())
}
