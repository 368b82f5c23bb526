use super::*;
use crate::process::which_system;

const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPfAdLMLlxes+F3X3ZLAviKBGxX4r+iizt/rgDiUcLer name@host";

#[test]
fn lines_of_public_keys_are_kept_and_others_refused() {
    assert_eq!(judge(&format!("# mine\r\n\n  {KEY} \r\n{KEY}")).unwrap(), format!("{KEY}\n{KEY}\n"));
    let ecdsa = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBCsz1W1RGXHNYBBnravqpswjAUbY7iZRTVFJUueR8ErKg4ZBpTu8t2DsVVxUy1+OoN5a4NfRq5g3mXPaCePmago=";
    assert_eq!(judge(ecdsa).unwrap(), format!("{ecdsa}\n"));
    let key = KEY.split(' ').nth(1).unwrap();
    let text = |bytes: &[u8]| STANDARD.encode(bytes);
    for bad in [
        key.to_owned(),
        format!("ssh-rsa {key}"),
        format!("ssh-ed25519 {}", &key[..key.len() - 1]),
        format!("ssh-ed25519 {}", text(b"\0\0\0\x0bssh-ed25519")),
        format!("ssh-ed25519 {}", text(b"\0\0\0\x0cssh-ed25519 key")),
        format!("ssh-dss {}", text(b"\0\0\0\x07ssh-dsskey")),
        format!("command=\"x\" {KEY}"),
        format!("{KEY}\u{1b}[2J"),
        "ssh-ed25519".to_owned(),
    ] {
        let error = format!("{:#}", judge(&format!("{KEY}\n{bad}\n")).unwrap_err());
        assert!(error.starts_with("line 2: expected a type (ssh-ed25519, "), "{bad}: {error}");
    }
    let private = "-----BEGIN OPENSSH PRIVATE KEY-----\nxxx\n";
    assert!(judge(private).unwrap_err().to_string().contains("ends with .pub"));
    assert!(judge("# none\n").unwrap_err().to_string().contains("it is empty"));
}

#[test]
fn files_are_read_in_their_order_and_named_in_errors() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: String| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        Input::from(&*path)
    };
    let (one, two) = (file("one.pub", format!("{KEY}1\n")), file("two.pub", format!("{KEY}2")));
    assert_eq!(read(&[one.clone(), two]).unwrap(), format!("{KEY}1\n{KEY}2\n"));
    assert_eq!(read(&[]).unwrap(), "");
    let error = format!("{:#}", read(&[one, file("bad.pub", "x".into())]).unwrap_err());
    assert!(error.contains("bad.pub is not a public key of ssh: line 1"), "{error}");
    let long = "#".repeat(LONGEST as usize + 1);
    assert!(format!("{:#}", read(&[file("long.pub", long)]).unwrap_err()).contains("long.pub"));
}

#[test]
fn keys_are_roots_own_and_no_one_elses() {
    let (Some(mke2fs), Some(debugfs)) = (which_system("mke2fs"), which_system("debugfs")) else { return };
    let folder = tempfile::tempdir().unwrap();
    let (path, tree) = (folder.path().join("an image"), folder.path().join("tree"));
    table::make(&path, 400 << 20, &mke2fs).unwrap();
    for name in ["etc", "boot", "root"] {
        fs::create_dir_all(tree.join(name)).unwrap();
    }
    let offset = format!("offset={}", table::ROOT);
    let mut command = Command::new(mke2fs);
    command.args(["-q", "-F", "-t", "ext4", "-E", &offset, "-d"]).args([&tree, &path]).arg("131072k");
    assert!(command.status().unwrap().success());
    let image = File::options().read(true).write(true).open(&path).unwrap();
    // The second time, the file is there.
    for keys in ["first\n", "second\nthird\n"] {
        authorize(&image, keys, &debugfs).unwrap();
        let root = Root::find(image.try_clone().unwrap()).unwrap();
        assert_eq!(root.read("/root/.ssh/authorized_keys", 100).unwrap(), keys.as_bytes());
    }
    let stat = |name: &str| {
        let path = format!("{}?{offset}", path.display());
        let done = Command::new(&debugfs).args(["-R", &format!("stat {name}"), &path]).output().unwrap();
        String::from_utf8_lossy(&done.stdout).split_whitespace().collect::<Vec<_>>().join(" ")
    };
    for (name, text) in [
        ("/root/.ssh", "Type: directory Mode: 0700"),
        ("/root/.ssh/authorized_keys", "Type: regular Mode: 0600"),
    ] {
        let stat = stat(name);
        assert!(stat.contains(text) && stat.contains("User: 0 Group: 0"), "{stat}");
    }
    let error = authorize(&File::open("/dev/null").unwrap(), "first\n", &debugfs).unwrap_err().to_string();
    assert!(error.contains("cannot write /root/.ssh/authorized_keys to the image: debugfs: "), "{error}");
}
