//! The files of a new system that are no package's: how it boots, its name, its network, its sources.

use super::table::Table;

/// Name of the system: of the machine, and of its boot entries (Boot Loader Specification, "entry-token").
pub(super) const TOKEN: &str = "debian";

/// Returns the kernel's command line: the root, and the consoles of Hyper-V's machines, the screen and the serial port.
pub(super) fn command_line(table: &Table) -> String {
    format!("root=PARTUUID={} rw console=tty0 console=ttyAMA0", table.root)
}

/// Returns the files, by path, with a `sources.list`.
pub(super) fn files(table: &Table, sources: &str) -> Vec<(String, String)> {
    const NETWORK: &str = "[Match]\nName=e*\n\n[Network]\nDHCP=yes\n";
    // Keys are the machine's own: those that are missing are made when the server starts first.
    const SSH: &str =
        "[Service]\nExecStartPre=\nExecStartPre=/usr/bin/ssh-keygen -A\nExecStartPre=/usr/sbin/sshd -t\n";
    let root = format!("PARTUUID={} / ext4 errors=remount-ro 0 1\n", table.root);
    let efi = format!("PARTUUID={} /boot/efi vfat umask=0077,nofail 0 2\n", table.efi);
    let all = [
        ("etc/apt/sources.list", sources.to_owned()),
        ("etc/fstab", root + &efi),
        ("etc/hostname", format!("{TOKEN}\n")),
        ("etc/hosts", format!("127.0.0.1 localhost\n127.0.1.1 {TOKEN}\n::1 localhost ip6-localhost\n")),
        // What systemd's kernel-install makes entries of, when the system gets a new kernel.
        ("etc/kernel/cmdline", format!("{}\n", command_line(table))),
        ("etc/kernel/entry-token", format!("{TOKEN}\n")),
        ("etc/systemd/network/80-dhcp.network", NETWORK.to_owned()),
        ("etc/systemd/system/ssh.service.d/keys.conf", SSH.to_owned()),
    ];
    all.map(|(path, text)| (path.to_owned(), text)).into()
}
