//! Tests with folders of their own. A lock is that of an open file, so one process can be two.

use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::*;

fn machines() -> (tempfile::TempDir, Machines) {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("machines");
    (parent, Machines { folder })
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn names(machines: &Machines) -> Vec<String> {
    let mut names: Vec<String> =
        machines.list().unwrap().iter().map(|machine| machine.name.to_string()).collect();
    names.sort();
    names
}

#[test]
fn a_machine_is_listed_while_it_runs() {
    let (parent, machines) = machines();
    assert!(names(&machines).is_empty() && !machines.folder.exists(), "a list makes nothing");
    let (mut web, first) = (machines.add(Some(&name("web"))).unwrap(), machines.add(None).unwrap());
    let second = machines.add(None).unwrap();
    assert_eq!(names(&machines), ["vm1", "vm2", "web"]);
    assert_eq!(machines.folder.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    web.set_kernel("linux").unwrap();
    let listed = machines.list().unwrap();
    let found = listed.iter().find(|machine| machine.name.as_str() == "web").unwrap();
    assert_eq!((found.facts.kernel.as_deref(), found.facts.pid), (Some("linux"), std::process::id()));
    assert_eq!(found.control, None);
    drop(first);
    assert_eq!(names(&machines), ["vm2", "web"]);
    assert_eq!(machines.add(None).unwrap().name().as_str(), "vm1");
    drop((web, second));
    assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 0, "something is left");
}

#[test]
fn a_name_is_one_machines() {
    let (_parent, machines) = machines();
    let _web = machines.add(Some(&name("web"))).unwrap();
    let error = machines.add(Some(&name("web"))).unwrap_err().to_string();
    assert!(error.contains("--name web") && error.contains(&std::process::id().to_string()), "{error}");
    assert!(machines.add(Some(&name("Web"))).is_ok());
}

#[test]
fn what_killed_processes_have_left_goes() {
    let (parent, machines) = machines();
    let _web = machines.add(Some(&name("web"))).unwrap();
    let outside = parent.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("mine"), "mine").unwrap();
    let left = machines.folder.join("left");
    fs::create_dir(&left).unwrap();
    fs::write(left.join(ABOUT), "{}").unwrap();
    symlink(&outside, left.join(CONTROL)).unwrap();
    symlink(&outside, machines.folder.join("link")).unwrap();
    assert_eq!(names(&machines), ["web"]);
    assert!(!left.exists() && outside.join("mine").exists());
    // Its name is free.
    assert!(machines.add(Some(&name("left"))).is_ok());
}

#[test]
fn sockets_that_killed_machines_have_left_elsewhere_go_too() {
    let (parent, machines) = machines();
    let _web = machines.add(Some(&name("web"))).unwrap();
    let at = |name: &str| parent.path().join(name);
    for folder in ["made", "mine", "used"] {
        fs::create_dir(at(folder)).unwrap();
    }
    let sockets = ["control", "made/vsock", "mine/vsock", "used/vsock"].map(at);
    let mut listeners: Vec<_> =
        sockets.iter().map(|path| std::os::unix::net::UnixListener::bind(path).unwrap()).collect();
    // One that still listens is another machine's.
    listeners.drain(..3);
    for (name, made) in [("made", true), ("mine", false), ("used", true)] {
        let folder = machines.folder.join(name);
        fs::create_dir(&folder).unwrap();
        let facts = format!(
            r#"{{"pid":1,"since":"","kernel":null,"sockets":{{"folder":"{}","made":{made}}}}}"#,
            at(name).display()
        );
        fs::write(folder.join(ABOUT), facts).unwrap();
        symlink(at("control"), folder.join(CONTROL)).unwrap();
    }
    assert_eq!(names(&machines), ["web"]);
    let left = sockets.map(|path| path.symlink_metadata().is_ok());
    assert_eq!(left, [false, false, false, true]);
    assert!(!at("made").exists() && at("mine").exists());
}

#[test]
fn a_control_port_is_reached_wherever_it_is() {
    let (parent, machines) = machines();
    // Longer than a socket's path may be.
    let machines = Machines { folder: machines.folder.join("x".repeat(120)) };
    let (own, given) =
        (machines.add(Some(&name("own"))).unwrap(), machines.add(Some(&name("given"))).unwrap());
    let _own = own.listen().unwrap();
    let socket = parent.path().join("vm.sock");
    let _given = crate::machine::socket::bind(&socket).unwrap();
    given.link(&socket).unwrap();
    let listed = machines.list().unwrap();
    for machine in &listed {
        assert!(machine.connect().is_ok(), "{machine:?}");
    }
    let control = |text: &str| {
        listed.iter().find(|machine| machine.name.as_str() == text).unwrap().control.clone().unwrap()
    };
    assert_eq!(control("given"), socket);
    assert_eq!(control("own"), machines.folder.join("own").join(CONTROL));
}

#[test]
fn a_folder_that_others_can_enter_is_refused() {
    let (_parent, machines) = machines();
    fs::create_dir(&machines.folder).unwrap();
    fs::set_permissions(&machines.folder, fs::Permissions::from_mode(0o755)).unwrap();
    let error = machines.add(None).unwrap_err().to_string();
    assert!(error.contains("0o755") && error.contains("expected mode 0700"), "{error}");
    assert!(machines.list().is_err());
}

#[test]
fn names_are_words() {
    for good in ["web", "vm1", "6-12_a", &"x".repeat(32)] {
        assert_eq!(name(good).as_str(), good);
    }
    for bad in ["", "-x", ".", "..", "a/b", "a.sock", "a b", "\u{e9}", "a\n", &"x".repeat(33)] {
        assert!(bad.parse::<Name>().unwrap_err().contains("expected at most 32"), "{bad}");
    }
}
