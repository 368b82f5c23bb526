//! `hv image debian`: an image whose own system boots to its end, without a failed unit, and knows where it is.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::ensure;
use hv_setup::exit::Exit;

use super::context::{Context, HUNG_SECONDS};
use super::runner::Step;

/// Returns the scenarios.
pub(super) fn steps() -> Vec<Step> {
    vec![Step::new("image/debian", debian).slow()]
}

/// Adds a unit to the image's system, which reports on it when it is up, and ends the machine.
const ADD: &str = r#"
set -e
mkdir -p /m && mount -t ext4 /dev/sda2 /m
cat > /m/usr/local/sbin/told <<'END'
#!/bin/sh
until systemctl -q is-active multi-user.target ssh.service; do sleep 1; done
exec > /dev/ttyAMA0
echo "hv: failed units: $(systemctl --failed --no-legend | tr '\n' ' ')."
echo "hv: virtualization: $(systemd-detect-virt)."
echo "hv: daemons: $(systemctl list-units --no-legend --state=running 'hv-*' 'hyperv-daemons*' | wc -l)."
until ip -4 -o address show scope global | grep -q .; do sleep 1; done
echo "hv: address: $(ip -4 -o address show scope global | wc -l)."
echo "hv: program: $(command -v file)."
systemctl poweroff
END
chmod 755 /m/usr/local/sbin/told
cat > /m/etc/systemd/system/told.service <<'END'
[Service]
ExecStart=/usr/local/sbin/told
END
ln -s ../told.service /m/etc/systemd/system/multi-user.target.wants/told.service
umount /m
"#;

fn make(context: &Context, file: &Path, more: &[&str]) -> anyhow::Result<()> {
    let file = file.to_string_lossy();
    let done = context.hv(&[&["image", "debian"], more, &[&*file]].concat())?;
    ensure!(done.code == Some(Exit::Success as i32), "{:?}: {}", done.code, done.stderr);
    Ok(())
}

fn debian(context: &Context) -> anyhow::Result<()> {
    let folder = context.folder()?;
    let (first, second) = (folder.join("one.img"), folder.join("two.img"));
    make(context, &first, &[])?;
    let meta = fs::metadata(&first)?;
    ensure!(meta.len() == 2 << 30 && meta.blocks() * 512 < 3 << 29, "{} blocks", meta.blocks());
    // A file that is there stays as it is.
    let refused = context.hv(&["image", "debian", &first.to_string_lossy()])?;
    ensure!(
        refused.code == Some(Exit::Usage as i32) && refused.stderr.contains("exists"),
        "{}",
        refused.stderr
    );
    // Above the layer that the first one has left in the cache.
    make(context, &second, &["--include", "file"])?;
    let image = second.to_string_lossy();
    let disk = format!("{image},rw");
    let limit = ["--timeout", HUNG_SECONDS];
    let added = context.hv(&["exec", limit[0], limit[1], "--disk", &disk, "--", "sh", "-c", ADD])?;
    ensure!(added.code == Some(0), "{:?}: {}{}", added.code, added.stdout, added.stderr);
    let booted = context.boot(&["--disk", &disk, "--net", "user", "--memory", "1G"])?;
    booted.ended(Exit::Success, "power-off")?;
    ensure!(booted.stderr.contains("boots debian-"), "{}", booted.stderr);
    booted.says("hv: failed units: .")?;
    booted.says("hv: virtualization: microsoft.")?;
    booted.says("hv: address: 1.")?;
    booted.says("hv: program: /usr/bin/file.")?;
    booted.check(!booted.console.contains("hv: daemons: 0."), "daemons of Hyper-V run")
}
