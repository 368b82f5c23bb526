//! Licences of all linked crates, by `deny.toml`: what cargo-deny checks, without that program.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use hv_setup::{process, sources};
use serde_json::Value;
use spdx::{Expression, LicenseItem, ParseMode};

/// The targets of the builds: crates for other systems are never fetched.
const PLATFORMS: [&str; 5] = [
    "x86_64-unknown-linux-gnu",
    "aarch64-unknown-linux-gnu",
    hv_setup::target::TARGET,
    hv_setup::target::UEFI_TARGET,
    hv_setup::target::LINUX_TARGET,
];

/// The rules of `deny.toml`.
#[derive(Debug, Default)]
struct Rules {
    /// Licences allowed for every crate, by SPDX identifier.
    allowed: BTreeSet<String>,
    /// Licences allowed for one crate, beside these.
    exceptions: BTreeMap<String, BTreeSet<String>>,
    /// Banned crates.
    banned: BTreeSet<String>,
}

/// A crate that a workspace depends on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Package {
    name: String,
    licence: Option<String>,
    /// Its source; `None` for a crate of this project.
    source: Option<String>,
}

/// Checks that every crate of each workspace has an allowed licence, and comes from an allowed source.
pub(super) fn check() -> anyhow::Result<()> {
    let rules = Rules::read(&sources::checkout()?.join("deny.toml"))?;
    let mut packages = BTreeSet::new();
    for folder in super::workspaces()? {
        packages.extend(packages_of(&folder)?);
    }
    let wrong = rules.judge(&packages);
    ensure!(wrong.is_empty(), "{}; see deny.toml", wrong.join("\n"));
    ensure!(packages.len() > 100, "only {} crates were looked at", packages.len());
    Ok(())
}

/// Returns the crates that a workspace is built of.
fn packages_of(folder: &Path) -> anyhow::Result<BTreeSet<Package>> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(folder).args(["metadata", "--locked", "--format-version", "1"]);
    command.args(PLATFORMS.iter().flat_map(|platform| ["--filter-platform", platform]));
    let done = process::run(&mut command, || {})?;
    ensure!(done.status.success(), "{}: {}", folder.display(), done.complaint("error"));
    let metadata: Value = serde_json::from_str(&done.stdout)?;
    let packages = metadata["packages"].as_array().context("cargo metadata names no packages")?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    packages
        .iter()
        .map(|package| {
            let name = text(&package["name"]).context("a package without a name")?;
            Ok(Package { name, licence: text(&package["license"]), source: text(&package["source"]) })
        })
        .collect()
}

/// Returns the strings in an array.
fn strings(value: Option<&toml::Value>) -> BTreeSet<String> {
    let values = value.and_then(toml::Value::as_array).into_iter().flatten();
    values.filter_map(|value| value.as_str().map(str::to_owned)).collect()
}

impl Rules {
    fn read(file: &Path) -> anyhow::Result<Self> {
        Self::of(&super::read(file)?)
    }

    fn of(table: &toml::Table) -> anyhow::Result<Self> {
        let licences = table.get("licenses").context("deny.toml has no licenses")?;
        let list = |value: Option<&toml::Value>| {
            value.and_then(toml::Value::as_array).cloned().unwrap_or_default().into_iter()
        };
        let name = |entry: &toml::Value| entry.get("crate").and_then(toml::Value::as_str).map(str::to_owned);
        let exceptions = list(licences.get("exceptions"))
            .map(|entry| Some((name(&entry)?, strings(entry.get("allow")))))
            .collect::<Option<_>>()
            .context("an exception in deny.toml names no crate")?;
        let banned = list(table.get("bans").and_then(|bans| bans.get("deny")));
        let banned = banned.map(|entry| name(&entry)).collect::<Option<_>>();
        let rules = Self {
            allowed: strings(licences.get("allow")),
            exceptions,
            banned: banned.context("a ban in deny.toml names no crate")?,
        };
        if rules.allowed.is_empty() {
            bail!("deny.toml allows no licence");
        }
        Ok(rules)
    }

    /// Returns the violations of these crates.
    fn judge(&self, packages: &BTreeSet<Package>) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut used = BTreeSet::new();
        for Package { name, licence, source } in packages {
            if self.banned.contains(name) {
                wrong.push(format!("{name} is banned"));
            }
            if source.as_ref().is_some_and(|source| !source.starts_with("registry+")) {
                wrong.push(format!("{name} comes from {}", source.as_deref().unwrap_or_default()));
            }
            let exceptions = self.exceptions.get(name);
            match licence.as_deref().map(|licence| self.allows(licence, exceptions)) {
                None => wrong.push(format!("{name} names no licence")),
                Some(Err(error)) => wrong.push(format!("{name}: {error:#}")),
                Some(Ok(None)) => {
                    wrong.push(format!("{name} has the licence {}", licence.as_deref().unwrap_or_default()));
                }
                Some(Ok(Some(exception))) => {
                    used.extend(exception.then_some(name));
                }
            }
        }
        let idle = self.exceptions.keys().filter(|name| !used.contains(name));
        wrong.extend(idle.map(|name| format!("no {name} needs an exception")));
        wrong
    }

    /// Returns whether a licence is allowed, and if so, whether it uses an exception.
    fn allows(&self, licence: &str, exceptions: Option<&BTreeSet<String>>) -> anyhow::Result<Option<bool>> {
        let expression =
            Expression::parse_mode(licence, ParseMode::LAX).map_err(|error| anyhow::anyhow!("{error}"))?;
        let allowed = |more: Option<&BTreeSet<String>>| {
            expression.evaluate(|requirement| {
                let LicenseItem::Spdx { id, .. } = &requirement.license else { return false };
                self.allowed.contains(id.name) || more.is_some_and(|more| more.contains(id.name))
            })
        };
        Ok(if allowed(None) { Some(false) } else { allowed(exceptions).then_some(true) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Rules {
        let text = "[licenses]\nallow = [\"MIT\", \"Apache-2.0\", # a reason\n \"Zlib\"]\n\
                    exceptions = [{ crate = \"odd\", allow = [\"MPL-2.0\"] }]\n\
                    [bans]\ndeny = [{ crate = \"openssl-sys\" }]\n";
        Rules::of(&text.parse().unwrap()).unwrap()
    }

    /// The violations of a crate, except that of an unused exception.
    fn judge(name: &str, licence: Option<&str>, source: Option<&str>) -> Vec<String> {
        let own = |text: Option<&str>| text.map(str::to_owned);
        let package = Package { name: name.to_owned(), licence: own(licence), source: own(source) };
        let wrong = rules().judge(&BTreeSet::from([package]));
        wrong.into_iter().filter(|line| line != "no odd needs an exception").collect()
    }

    #[test]
    fn a_licence_that_is_not_allowed_is_refused() {
        for good in ["MIT", "GPL-3.0-only OR MIT", "MIT/Apache-2.0", "(MIT OR BSD-1-Clause) AND Zlib"] {
            assert_eq!(judge("some", Some(good), Some("registry+x")), [""; 0], "{good}");
        }
        for bad in ["GPL-2.0-only", "MIT AND GPL-2.0-only", "MPL-2.0", "No-Such-Licence", ""] {
            assert_eq!(judge("some", Some(bad), None).len(), 1, "{bad}");
        }
        assert_eq!(judge("some", None, None), ["some names no licence"]);
    }

    #[test]
    fn an_exception_is_for_its_crate_and_has_to_be_needed() {
        assert_eq!(judge("odd", Some("MPL-2.0"), None), [""; 0]);
        assert_eq!(judge("other", Some("MPL-2.0"), None), ["other has the licence MPL-2.0"]);
        assert_eq!(rules().judge(&BTreeSet::new()), ["no odd needs an exception"]);
    }

    #[test]
    fn crates_that_are_banned_or_from_elsewhere_are_refused() {
        assert_eq!(judge("openssl-sys", Some("MIT"), None), ["openssl-sys is banned"]);
        assert_eq!(judge("some", Some("MIT"), Some("git+x")), ["some comes from git+x"]);
    }

    #[test]
    fn the_rules_of_the_project_are_read() {
        let rules = Rules::read(&sources::checkout().unwrap().join("deny.toml")).unwrap();
        assert!(rules.allowed.contains("MIT") && rules.banned.contains("openssl-sys"));
        assert!(rules.exceptions.contains_key("cbindgen"));
    }
}
