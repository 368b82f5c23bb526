//! The host system, and the installation of its packages.

use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::bail;

use crate::{process, ui};

/// Held while packages are installed, since apt allows one writer. True once this process has updated the lists.
static APT: Mutex<bool> = Mutex::new(false);

/// Means by which packages can be installed, if any.
enum Power {
    Root,
    Sudo,
    None,
}

/// Returns the value of a key in `/etc/os-release`.
fn os_release(text: &str, key: &str) -> Option<String> {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
    Some(line.trim().trim_matches('"').to_owned())
}

/// Returns the name of the system, and whether it is Debian itself.
pub fn name() -> (String, bool) {
    let text = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = os_release(&text, "PRETTY_NAME").unwrap_or_else(|| std::env::consts::OS.to_owned());
    (name, os_release(&text, "ID").as_deref() == Some("debian"))
}

/// Returns the code name of the system's release, if it has one.
pub fn code_name() -> Option<String> {
    os_release(&std::fs::read_to_string("/etc/os-release").unwrap_or_default(), "VERSION_CODENAME")
}

/// Checks that Debian's packages are available.
pub fn require_debian(what: &str) -> anyhow::Result<()> {
    let (name, debian) = name();
    if !debian {
        bail!(
            "{what} can be fetched only on Debian, and this is {name}; give your own kernel with --kernel \
             (and --initrd)"
        );
    }
    for program in ["apt-get", "apt-cache", "dpkg-deb"] {
        if process::which(program).is_none() {
            bail!("{what} cannot be fetched: {program} is not in $PATH; give --kernel and --initrd");
        }
    }
    Ok(())
}

fn power() -> Power {
    if rustix::process::geteuid().is_root() {
        return Power::Root;
    }
    let mut sudo = Command::new("sudo");
    sudo.args(["-n", "true"]);
    match process::run(&mut sudo, || {}) {
        Ok(done) if done.status.success() => Power::Sudo,
        _ => Power::None,
    }
}

/// Installs Debian packages for `purpose`, or fails with instructions.
pub fn install(purpose: &str, packages: &[&str]) -> anyhow::Result<()> {
    let list = packages.join(" ");
    let (name, _) = name();
    if process::which("apt-get").is_none() {
        bail!(
            "{purpose} is missing, and this system ({name}) has no apt-get; install what Debian calls {list}"
        );
    }
    let sudo = match power() {
        Power::Root => false,
        Power::Sudo => true,
        Power::None => bail!(
            "{purpose} is missing and installing it needs a password; run: sudo apt-get update && \
             sudo apt-get install --no-install-recommends {list}"
        ),
    };
    let mut updated = APT.lock().unwrap_or_else(PoisonError::into_inner);
    ui::note(&format!("Installing {purpose}: packages {list} of {name}, with apt-get"));
    if !*updated {
        apt_get(sudo, &["update"], "Updating the system's package lists (apt-get update)", |_| true)?;
        *updated = true;
    }
    let mut arguments = vec!["install", "-y", "--no-install-recommends"];
    arguments.extend(packages);
    apt_get(sudo, &arguments, &format!("Installing {list} (apt-get install)"), |_| false)
}

fn apt_get(
    sudo: bool,
    arguments: &[&str],
    title: &str,
    forgive: impl Fn(&process::Finished) -> bool,
) -> anyhow::Result<()> {
    let mut command = if sudo { Command::new("sudo") } else { Command::new("env") };
    if sudo {
        command.args(["-n", "env"]);
    }
    command.args(["DEBIAN_FRONTEND=noninteractive", "LC_ALL=C", "apt-get", "-q"]);
    command.args(["-o", "DPkg::Lock::Timeout=120"]).args(arguments);
    let task = ui::Task::new(title);
    let done = process::run(&mut command, || {})?;
    drop(task);
    if !done.status.success() && !forgive(&done) {
        bail!("apt-get {} failed: {}", arguments.join(" "), done.complaint("E:"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn os_release_values_lose_their_quotes() {
        let text = "PRETTY_NAME=\"Debian GNU/Linux 12\"\nVERSION_ID=\"12\"\nID=debian\n";
        assert_eq!(os_release(text, "ID").as_deref(), Some("debian"));
        assert_eq!(os_release(text, "PRETTY_NAME").as_deref(), Some("Debian GNU/Linux 12"));
        assert_eq!(os_release(text, "VERSION"), None);
    }
}
