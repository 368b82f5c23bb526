//! Packages made by hand, good and hostile, and what becomes of them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use tar::Archive;

use super::*;
use crate::process;

const CONTROL: &str =
    "Package: one\nVersion: 1\nArchitecture: arm64\nMulti-Arch: same\nDescription: x\n more\n";

/// A member: path, kind, mode, contents or target.
type Given<'a> = (&'a str, EntryType, u32, &'a str);

/// Builds an archive; its paths are written as they are.
fn archive(members: &[Given<'_>]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (path, kind, mode, text) in members {
        let contents = if kind.is_file() { text.as_bytes() } else { b"" };
        let mut header = own(*kind, *mode, contents.len() as u64);
        header.set_uid(7);
        header.set_gid(8);
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        if !kind.is_file() {
            header.as_old_mut().linkname[..text.len()].copy_from_slice(text.as_bytes());
        }
        header.set_cksum();
        builder.append(&header, contents).unwrap();
    }
    builder.into_inner().unwrap()
}

/// Builds a package file, as deb(5) describes it, from its two archives.
fn package(folder: &Path, control: &[Given<'_>], files: &[Given<'_>]) -> PathBuf {
    let mut bytes = b"!<arch>\n".to_vec();
    for (name, contents) in [
        ("debian-binary", b"2.0\n".to_vec()),
        ("control.tar", archive(control)),
        ("data.tar", archive(files)),
    ] {
        let header = format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100_644, contents.len());
        bytes.extend(header.into_bytes());
        bytes.extend(&contents);
        bytes.extend((contents.len() % 2 == 1).then_some(b'\n'));
    }
    let file = folder.join("one_1_arm64.deb");
    std::fs::write(&file, bytes).unwrap();
    file
}

/// A member of the bundle: its kind, mode, owners, and contents or target.
type Found = (EntryType, u32, (u64, u64), String);

/// Makes the bundle of a package; `None` without dpkg-deb.
fn bundle_of(control: &[Given<'_>], files: &[Given<'_>]) -> Option<anyhow::Result<BTreeMap<String, Found>>> {
    process::which("dpkg-deb")?;
    let folder = tempfile::tempdir().unwrap();
    let package = package(folder.path(), control, files);
    let mut bytes = Vec::new();
    let more = [("etc/hostname".to_owned(), "debian\n".to_owned())];
    let mut counted = 0;
    let written = write(&[package], &more, &mut bytes, |done| counted = done);
    Some(written.map(|()| {
        assert_eq!(counted, 1);
        let mut archive = Archive::new(&bytes[..]);
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().to_str().unwrap().to_owned();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            let link = entry.link_name().unwrap().map(|link| link.to_str().unwrap().to_owned());
            let header = entry.header();
            let owners = (header.uid().unwrap(), header.gid().unwrap());
            (path, (header.entry_type(), header.mode().unwrap(), owners, link.unwrap_or(text)))
        });
        entries.collect()
    }))
}

fn control<'a>(more: &[Given<'a>]) -> Vec<Given<'a>> {
    [&[("./control", EntryType::Regular, 0o644, CONTROL)], more].concat()
}

#[test]
fn files_are_where_dpkg_puts_them_on_a_system_with_a_merged_usr() {
    use EntryType::{Directory, Link, Regular, Symlink};
    let files = [
        ("./", Directory, 0o755, ""),
        ("./bin/", Directory, 0o755, ""),
        ("./bin/one", Regular, 0o4755, "program"),
        ("./bin/two", Link, 0o755, "./bin/one"),
        ("./lib/x/y.so", Symlink, 0o777, "../z"),
        ("./libexec", Regular, 0o644, "no folder of those"),
        ("./etc/one.conf", Regular, 0o600, "new"),
        ("./etc/two.conf", Link, 0o600, "./etc/one.conf"),
    ];
    let conffiles = ("./conffiles", Regular, 0o644, "/etc/one.conf\nremove-on-upgrade /etc/old\n");
    let Some(bundle) =
        bundle_of(&control(&[conffiles, ("./postinst", Regular, 0o755, "#!/bin/sh\n")]), &files)
    else {
        return;
    };
    let bundle = bundle.unwrap();
    let is = |path: &str, kind, mode, text: &str| {
        let expected = (kind, mode, (7, 8), text.to_owned());
        assert_eq!(bundle.get(path), Some(&expected), "{path}");
    };
    is("usr/bin/one", Regular, 0o4755, "program");
    is("usr/bin/two", Link, 0o755, "usr/bin/one");
    is("usr/lib/x/y.so", Symlink, 0o777, "../z");
    is("libexec", Regular, 0o644, "no folder of those");
    is("etc/one.conf.dpkg-new", Regular, 0o600, "new");
    is("etc/two.conf", Link, 0o600, "etc/one.conf.dpkg-new");
    let own = |path: &str| &bundle[path].3[..];
    assert_eq!((own("bin"), own("etc/hostname")), ("usr/bin", "debian\n"));
    let list = "/.\n/bin\n/bin/one\n/bin/two\n/lib/x/y.so\n/libexec\n/etc/one.conf\n/etc/two.conf\n";
    assert_eq!(own("var/lib/dpkg/info/one:arm64.list"), list);
    assert_eq!(bundle["var/lib/dpkg/info/one:arm64.postinst"].1, 0o755);
    let status = format!("{CONTROL}Status: install ok unpacked\nConffiles:\n /etc/one.conf newconffile\n\n");
    assert_eq!(own("var/lib/dpkg/hv/status"), status);
}

#[test]
fn triggers_are_what_dpkg_would_have_recorded() {
    let triggers = "# a comment\ninterest-noawait /usr/lib\ninterest ldconfig # more\nactivate other\n\
                    interest-await /etc/x\ninterest ../File\ninterest\n";
    let Some(bundle) = bundle_of(&control(&[("./triggers", EntryType::Regular, 0o644, triggers)]), &[])
    else {
        return;
    };
    let bundle = bundle.unwrap();
    let records: Vec<_> =
        bundle.iter().filter(|(path, _)| path.starts_with("var/lib/dpkg/hv/triggers/")).collect();
    let records: Vec<_> = records.iter().map(|(path, found)| (&path[25..], &*found.3)).collect();
    let expected = [("File", "/usr/lib one:arm64/noawait\n/etc/x one:arm64\n"), ("ldconfig", "one:arm64\n")];
    assert_eq!(records.into_iter().filter(|(name, _)| !name.is_empty()).collect::<Vec<_>>(), expected);
}

#[test]
fn a_hostile_package_is_refused() {
    use EntryType::{Char, Link, Regular};
    let refused = |control: &[Given<'_>], files: &[Given<'_>], text: &str| {
        let Some(bundle) = bundle_of(control, files) else { return };
        let error = format!("{:#}", bundle.unwrap_err());
        assert!(error.contains(text) && error.contains("one_1_arm64.deb"), "{error}");
    };
    let good = control(&[]);
    refused(&good, &[("../etc/passwd", Regular, 0o644, "x")], "leads out of the root");
    refused(&good, &[("./a/../../b", Regular, 0o644, "x")], "leads out of the root");
    refused(&good, &[("./two", Link, 0o644, "../etc/passwd")], "leads out of the root");
    refused(&good, &[("./two", Link, 0o644, "./bin")], "hard link to the folder bin");
    refused(&good, &[("./a\nb", Regular, 0o644, "x")], "more than one line");
    refused(&good, &[("./dev/mem", Char, 0o666, "")], "expected a file, a folder or a link");
    let own = |text| [("./control", Regular, 0o644, text)];
    refused(&own("Version: 1\n"), &[], "names no package");
    refused(&own("Package: ../../x\nArchitecture: all\n"), &[], "expected words");
    refused(&own("Package: x\nArchitecture: all\n\nPackage: y\n"), &[], "one stanza");
    refused(&own("Package: x\nArchitecture: all\nstatus: install ok installed\n"), &[], "one stanza");
    refused(&control(&[("./../x", Regular, 0o644, "")]), &[], "leads out of the root");
    refused(&control(&[("./a/b", Regular, 0o644, "")]), &[], "expected lower-case letters");
}

#[test]
fn a_damaged_package_is_an_error() {
    if process::which("dpkg-deb").is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = package(folder.path(), &control(&[]), &[("./a", EntryType::Regular, 0o644, "x")]);
    let bytes = std::fs::read(&file).unwrap();
    for length in [0, 100, bytes.len() - 1500] {
        std::fs::write(&file, &bytes[..length]).unwrap();
        assert!(write(std::slice::from_ref(&file), &[], Vec::new(), |_| {}).is_err(), "{length}");
    }
}
