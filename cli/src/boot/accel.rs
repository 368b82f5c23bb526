//! What runs the guest's instructions: KVM of this machine, or QEMU.

use anyhow::{Context as _, bail};

use super::args::Args;
use crate::machine::Accel;
use crate::net::{Back, NetOption};
use crate::ui;

/// Chooses what was asked for, or else KVM where it works and serves all options.
///
/// # Errors
/// KVM was asked for, and does not work here, or does not serve an option that is given.
pub(super) fn choose(args: &Args) -> anyhow::Result<Accel> {
    // Standard error is the command's own under `hv exec`.
    choose_of(args.accel, qemus(args), unserved(args), args.agent.is_none())
}

/// Chooses what was asked for, or else KVM where it works, unless an option is about QEMU, or KVM does not serve one:
/// `qemus` and `unserved` say which. If `tells`, it says why QEMU emulates a guest that KVM could run on such a
/// machine.
///
/// # Errors
/// KVM was asked for, and does not work here, or does not serve an option that is given.
pub(crate) fn choose_of(
    asked: Option<Accel>,
    qemus: Option<String>,
    unserved: Option<String>,
    tells: bool,
) -> anyhow::Result<Accel> {
    match asked {
        Some(Accel::Tcg) => Ok(Accel::Tcg),
        Some(Accel::Kvm) => {
            if let Some(why) = qemus.or(unserved) {
                bail!("--accel kvm: {why}; leave --accel out, or give --accel tcg");
            }
            hv_vmm::probe().context("--accel kvm")?;
            Ok(Accel::Kvm)
        }
        None if qemus.is_some() => Ok(Accel::Tcg),
        None => {
            let broken = hv_vmm::probe().err().map(|why| format!("{why:#}"));
            Ok(chosen(broken, unserved, tells))
        }
    }
}

/// Chooses by why KVM does not work here, if so, and what it does not serve.
///
/// Says so to who boots a machine, if `tells`.
fn chosen(broken: Option<String>, unserved: Option<String>, tells: bool) -> Accel {
    match broken.or(unserved) {
        None => Accel::Kvm,
        Some(why) => {
            // Other machines are not expected to have it.
            if tells && cfg!(target_arch = "aarch64") {
                ui::note(&format!("QEMU emulates the guest, which takes longer than KVM: {why}"));
            }
            Accel::Tcg
        }
    }
}

/// Returns which of the options is about QEMU, if one is.
fn qemus(args: &Args) -> Option<String> {
    let options = [
        (args.cpu.is_some(), "--cpu"),
        (args.deterministic, "--deterministic"),
        (args.gdb.is_some(), "--gdb"),
        (args.qemu.is_some(), "--qemu"),
        (args.hypervisor.is_some(), "--hypervisor"),
    ];
    qemu_option(&options)
}

/// Says which of the options about QEMU is given, if one is.
pub(crate) fn qemu_option(options: &[(bool, &'static str)]) -> Option<String> {
    given(options).map(|option| format!("{option} is about a machine of QEMU's"))
}

/// Returns which of the options is not served over KVM, if one is not.
fn unserved(args: &Args) -> Option<String> {
    matches!(args.net, NetOption::Card(Back::User, _))
        .then(|| "--net user is QEMU's own network, --net passt one for either".to_owned())
}

/// Returns the first option that is given.
fn given(options: &[(bool, &'static str)]) -> Option<&'static str> {
    options.iter().find(|(is_given, _)| *is_given).map(|(_, option)| *option)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kvm_does_not_serve_is_named() {
        let why = |words: &str| {
            let args = Args::of_words(words);
            qemus(&args).or_else(|| unserved(&args))
        };
        for words in [
            "--vps 4 --memory 1G --run crash --firmware dt --json x --strict --trace x --inject lost=18 --loopback",
            "--name x --control s --vsock x --net passt --net-capture x --hotplug-room 1G",
        ] {
            assert_eq!(why(words), None, "{words}");
        }
        assert_eq!(why("--cpu max").as_deref(), Some("--cpu is about a machine of QEMU's"));
        for option in ["--net user", "--net user,forward=tcp:1:1", "--gdb"] {
            assert!(why(option).is_some(), "{option}");
        }
    }

    #[test]
    fn kvm_is_chosen_where_it_works_and_serves_everything() {
        let why = || Some("why".to_owned());
        assert_eq!(chosen(None, None, true), Accel::Kvm);
        assert_eq!([chosen(why(), None, true), chosen(None, why(), false)], [Accel::Tcg; 2]);
    }

    #[test]
    fn what_was_asked_for_is_chosen_or_refused() {
        assert_eq!(choose(&Args::of_words("--accel tcg")).unwrap(), Accel::Tcg);
        assert_eq!(choose(&Args::of_words("--cpu max")).unwrap(), Accel::Tcg);
        let refused = |words: &str| format!("{:#}", choose(&Args::of_words(words)).unwrap_err());
        assert_eq!(
            refused("--accel kvm --net user"),
            "--accel kvm: --net user is QEMU's own network, --net passt one for either; leave --accel out, or give --accel \
             tcg"
        );
        if cfg!(not(target_arch = "aarch64")) {
            assert!(refused("--accel kvm").contains("ARM64 Linux alone"), "{}", refused("--accel kvm"));
        }
    }
}
