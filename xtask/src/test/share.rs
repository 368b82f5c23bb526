//! `hv exec --dir`: folders of the host in a stock guest.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use hv_setup::cache::sha256;
use hv_setup::process;
use rustix::fs::FlockOperation;

use super::context::{Context, HUNG_SECONDS};
use super::exec::run;
use super::packages::unpacked;
use super::runner::Step;

/// Returns the scenarios.
pub(super) fn steps() -> Vec<Step> {
    let mut steps = vec![
        Step::new("exec/dir/files", files),
        Step::new("exec/dir/changes", |context| changes(context, false)),
        Step::new("exec/dir/changes-rw", |context| changes(context, true)),
        Step::new("exec/dir/lost", lost),
        Step::new("exec/dir/refused", refused),
        Step::new("exec/dir/written", written),
        Step::new("exec/dir/flock", |context| locks(context, &FLOCK)),
        Step::new("exec/dir/fcntl", |context| locks(context, &FCNTL)),
    ];
    steps.extend(["6.1", "16k"].map(|stock| {
        Step::new(format!("exec/dir/{stock}"), move |context| {
            let folder = folder(context)?;
            let dir = format!("{}:/data", folder.display());
            let words = ["--stock", stock, "--dir", &dir, "--", "sh", "-c", "cat /data/many/* | wc -c"];
            let done = run(context, &words, &[])?;
            done.is(0)?;
            ensure!(done.stdout == b"3890\n", "{}", done.text());
            Ok(())
        })
    }));
    steps
}

/// Builds a folder with a thousand small files, a large one, a script, a folder in folders, and links out of it.
fn folder(context: &Context) -> anyhow::Result<PathBuf> {
    let above = context.folder()?;
    fs::write(above.join("secret"), "SECRET")?;
    let root = above.join("root");
    fs::create_dir_all(root.join("a/b/c"))?;
    fs::create_dir(root.join("many"))?;
    for n in 0..1000 {
        fs::write(root.join(format!("many/{n}")), format!("{n}\n"))?;
    }
    fs::write(root.join("a/b/c/large"), large())?;
    fs::write(root.join("script"), "#!/bin/sh\necho ran $1\n")?;
    fs::set_permissions(root.join("script"), fs::Permissions::from_mode(0o755))?;
    symlink("../secret", root.join("out"))?;
    symlink(above.join("secret"), root.join("far"))?;
    symlink("many/7", root.join("in"))?;
    Ok(root)
}

/// Returns the large file's contents.
fn large() -> Vec<u8> {
    (0..3_u32 << 20).map(|n| (n ^ (n >> 9)) as u8).collect()
}

/// Checks that a folder's contents are in the guest, byte by byte, and that the guest can neither leave it nor change
/// it.
fn files(context: &Context) -> anyhow::Result<()> {
    let root = folder(context)?;
    let all: String = (0..1000).map(|n| format!("{n}\n")).collect();
    let sum = sha256(&root.join("a/b/c/large"))?;
    // In the order of the numbers, not of the names.
    let script = "exec 3<&0; cd /data; ls many | wc -l; (cd many; cat $(ls | sort -n)) | cmp - /proc/self/fd/3 && echo same; \
                  sha256sum < a/b/c/large; ./script it; cat in; find . | wc -l; \
                  for bad in 'cat out' 'cat far' 'touch new' 'rm in' 'mkdir d' 'mv in x' 'chmod 700 script' 'ln script y' \
                  'cat ../data/../secret' 'sh -c \"echo x >>in\"'; do \
                  eval \"$bad\" 2>/dev/null && echo \"done: $bad\"; done; touch new";
    let dir = format!("{}:/data", root.display());
    let done = run(context, &["--dir", &dir, "--", "sh", "-c", script], all.as_bytes())?;
    done.is(1)?;
    let expected = format!("1000\nsame\n{sum}  -\nran it\n7\n1010\n");
    ensure!(done.stdout == expected.as_bytes(), "expected {expected}: {}", done.text());
    done.complains("Read-only file system")?;
    // Two folders, one of them at its own path.
    let (one, other) = (root.join("a/b"), format!("{}:/x/y", root.join("many").display()));
    let script = format!("ls {}/c /x/y/999", one.display());
    let one = one.display().to_string();
    let done = run(context, &["--dir", &one, "--dir", &other, "--", "sh", "-c", &script], &[])?;
    done.is(0)?;
    let listed = String::from_utf8_lossy(&done.stdout).into_owned();
    ensure!(listed.contains("large\n") && listed.contains("/x/y/999\n"), "{}", done.text());
    Ok(())
}

/// Checks that the guest sees what the host changes while it runs, in a folder that it only reads and in one that it
/// changes; and that what it has open needs no name: attributes of it are asked for and set without a handle.
fn changes(context: &Context, writable: bool) -> anyhow::Result<()> {
    let root = context.folder()?;
    for (name, text) in [("grows", "first\n"), ("moves", "moves\n"), ("goes", "goes\n"), ("new", "old\n")] {
        fs::write(root.join(name), text)?;
    }
    let (before, after, access) = if writable {
        let before = "exec 4>>moves 5<>temporary; rm temporary; echo kept >&5; chmod 640 /proc/self/fd/5;";
        (before, "echo guest >&4; chmod 600 /proc/self/fd/4; stat -L -c '%h %s %a' /proc/self/fd/5;", "rw")
    } else {
        ("", "", "ro")
    };
    let script = format!(
        "cd /data; cat grows moves goes new; exec 3<goes; {before} echo ready; \
         until grep -q second grows && [ -e moved ] && [ ! -e goes ] && grep -q replaced new && [ -e hard ]; do sleep 0.1; done; \
         cat grows link hard new - <&3; stat -L -c '%h %s' /proc/self/fd/3 hard; {after} ls"
    );
    let dir = format!("{}:/data,{access}", root.display());
    let line = ["exec", "--timeout", HUNG_SECONDS, "--dir", &dir, "--", "sh", "-c", &script];
    let mut child = context.command(&line)?.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let stderr = child.stderr.take().map(|pipe| process::collect(pipe, |_| {}));
    let mut stdout = BufReader::new(child.stdout.take().context("no stdout")?);
    let mut seen = String::new();
    while !seen.ends_with("ready\n") && stdout.read_line(&mut seen)? != 0 {}
    change(&root)?;
    stdout.read_to_string(&mut seen)?;
    let status = process::wait(&mut child, &mut || {})?;
    let said = stderr.map(process::Reader::finish).unwrap_or_default();
    let temporary = if writable { "0 5 640\n" } else { "" };
    let expected = format!(
        "first\nmoves\ngoes\nold\nready\nfirst\nsecond\nmoves\nfirst\nsecond\nreplaced\ngoes\n0 5\n2 13\n\
         {temporary}grows\nhard\nlink\nmoved\nnew\n"
    );
    ensure!(status.success() && seen == expected, "{status}: {seen}\nstderr: {said}");
    if writable {
        let moved = root.join("moved");
        let mode = fs::metadata(&moved)?.permissions().mode();
        ensure!(fs::read(moved)? == b"moves\nguest\n" && mode == 0o100_600, "{mode:o}");
    }
    Ok(())
}

fn change(root: &Path) -> anyhow::Result<()> {
    fs::OpenOptions::new().append(true).open(root.join("grows"))?.write_all(b"second\n")?;
    fs::rename(root.join("moves"), root.join("moved"))?;
    symlink("moved", root.join("link"))?;
    fs::remove_file(root.join("goes"))?;
    fs::write(root.join("next"), "replaced\n")?;
    fs::rename(root.join("next"), root.join("new"))?;
    // The last: the guest waits for it.
    Ok(fs::hard_link(root.join("grows"), root.join("hard"))?)
}

/// Checks that a folder whose connection has ended is an error for its readers, and no reader waits for it. The command
/// continues.
fn lost(context: &Context) -> anyhow::Result<()> {
    let root = folder(context)?;
    // Eight readers, so that requests are on their way whenever the connection ends.
    let script = "for n in 0 1 2 3 4 5 6 7; do cat /data/many/$n* & done >/dev/null 2>&1; wait; \
                  cat /data/a/b/c/large >/dev/null; echo first $?; while grep -q ' /data fuse' /proc/mounts; do sleep 0.1; done; cat /data/in; echo second $?";
    let dir = format!("{}:/data", root.display());
    // The agent's own connection sends a few packets alone, and each look at a file of the folder is one.
    let words = ["--inject", "rescind=sockets@200", "--dir", &dir, "--", "sh", "-c", script];
    let done = run(context, &words, &[])?;
    done.is(0)?;
    ensure!(done.stdout == b"first 1\nsecond 1\n", "{}", done.text());
    done.complains("No such file or directory")
}

/// Checks that what a guest creates, writes, renames, links and removes is so on the host, and that a folder beside it
/// stays as it is.
fn written(context: &Context) -> anyhow::Result<()> {
    let root = folder(context)?;
    let above = root.parent().context("no folder above")?;
    let sum = sha256(&root.join("a/b/c/large"))?;
    let script = "set -e; cd /data; echo one >new; echo two >>new; mkdir -p d/e; mv new d/e/moved; ln d/e/moved second; \
                  echo three >>second; ln -s ../outside d/link; cp a/b/c/large d/copy; rm -r a; \
                  chmod 640 second; touch -d @1000000000 second; truncate -s 5000 d/copy; mkfifo pipe; \
                  tar c many/9? | tar x -C d; mv many d/all; sync; cat d/e/moved; ls d/many d/all | wc -l; sha256sum <in || echo gone; \
                  for bad in 'touch /kept/new' 'rm /kept/file' 'mknod null c 1 3' 'chmod 4755 second' 'rmdir d' 'cat far'; do \
                  eval \"$bad\" 2>/dev/null && echo \"done: $bad\"; done; echo end";
    let kept = context.folder()?;
    fs::write(kept.join("file"), "kept\n")?;
    let dirs = [format!("{}:/data,rw", root.display()), format!("{}:/kept", kept.display())];
    let done = run(context, &["--dir", &dirs[0], "--dir", &dirs[1], "--", "sh", "-c", script], &[])?;
    done.is(0)?;
    ensure!(done.stdout == b"one\ntwo\nthree\n1013\ngone\nend\n", "{}", done.text());
    let second = fs::metadata(root.join("second"))?;
    let time = second.modified()?.duration_since(std::time::UNIX_EPOCH)?.as_secs();
    ensure!((second.permissions().mode(), time) == (0o100_640, 1_000_000_000), "{second:?}");
    ensure!(fs::read(root.join("d/e/moved"))? == b"one\ntwo\nthree\n");
    ensure!(fs::read_link(root.join("d/link"))? == Path::new("../outside"));
    let copy = fs::read(root.join("d/copy"))?;
    ensure!(
        copy.len() == 5000 && copy[..] == large()[..5000],
        "the copy has other bytes; the whole had {sum}"
    );
    ensure!(
        fs::read(root.join("d/many/99"))? == fs::read(root.join("d/all/99"))?
            && !root.join("many").exists()
            && !root.join("a").exists()
    );
    let mut names: Vec<_> =
        fs::read_dir(above)?.map(|entry| Ok(entry?.file_name())).collect::<std::io::Result<_>>()?;
    names.sort();
    ensure!(names == ["root", "secret"], "beside the folder: {names:?}");
    ensure!(fs::read(above.join("secret"))? == b"SECRET" && fs::read_dir(&kept)?.count() == 1);
    Ok(())
}

/// Locks of one kind: how programs take them on both sides.
struct Lock {
    /// Package with a program that takes them: the stock initramfs has none.
    package: &'static str,
    program: &'static str,
    /// Words of that program that add 1 to `count` under a lock, 20 times; then the guest's shell is done.
    guest: &'static str,
    /// Takes one, and waits for it.
    host: fn(&fs::File) -> std::io::Result<()>,
}

const FLOCK: Lock = Lock {
    package: "util-linux",
    program: "usr/bin/flock",
    guest: "$P count true && echo ready; for n in $(seq 20); do $P count sh -c 'n=$(cat count); echo -n $((n + 1)) >count'; done",
    host: fs::File::lock,
};

/// Of fcntl(2): F_SETLKW is 7, F_WRLCK 1, and the packed structure is a `struct flock` of 64-bit Linux.
const FCNTL: Lock = Lock {
    package: "perl-base",
    program: "usr/bin/perl",
    guest: "$P -e '$| = 1; for $n (0..20) { open($f, \"+<\", \"count\") or die; \
            $l = pack(\"s s x4 q q i x4\", 1, 0, 0, 0, 0); fcntl($f, 7, $l) or die \"lock: $!\"; \
            if ($n) { $count = <$f>; seek($f, 0, 0); print $f $count + 1; } close($f); $n or print \"ready\\n\" }'",
    host: |file| Ok(rustix::fs::fcntl_lock(file, FlockOperation::LockExclusive)?),
};

/// Checks that a guest's program and one of the host's exclude each other: both count in one file.
fn locks(context: &Context, lock: &Lock) -> anyhow::Result<()> {
    let root = context.folder()?;
    let file = root.join("count");
    fs::write(&file, "0")?;
    let tools = context.folder()?;
    for (path, content) in unpacked(context, &[lock.package], &[lock.program])? {
        let path = tools.join(path);
        fs::create_dir_all(path.parent().context("a file has a folder")?)?;
        fs::write(&path, content)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    }
    let [dir, tools] = [format!("{}:/data,rw", root.display()), format!("{}:/tools", tools.display())];
    let script = format!(
        "cd /data; L=/tools/lib; P=\"$L/ld-linux-aarch64.so.1 --library-path $L/aarch64-linux-gnu /tools/{}\"; {}; echo end",
        lock.program, lock.guest
    );
    let line = ["exec", "--timeout", HUNG_SECONDS, "--dir", &dir, "--dir", &tools, "--", "sh", "-c", &script];
    let mut child = context.command(&line)?.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let stderr = child.stderr.take().map(|pipe| process::collect(pipe, |_| {}));
    let mut stdout = BufReader::new(child.stdout.take().context("no stdout")?);
    let mut seen = String::new();
    while !seen.ends_with("ready\n") && stdout.read_line(&mut seen)? != 0 {}
    let over = AtomicBool::new(false);
    let ours = thread::scope(|scope| {
        let counter = scope.spawn(|| -> anyhow::Result<u32> {
            let mut ours = 0;
            while !over.load(Ordering::Relaxed) {
                // No other descriptor of the file: closing one would end a lock of fcntl(2).
                let mut held = fs::OpenOptions::new().read(true).write(true).open(&file)?;
                (lock.host)(&held)?;
                let mut count = String::new();
                held.read_to_string(&mut count)?;
                // Long enough that a guest without a lock writes between.
                thread::sleep(Duration::from_millis(20));
                held.rewind()?;
                write!(held, "{}", count.parse::<u32>()? + 1)?;
                ours += 1;
                drop(held);
                thread::sleep(Duration::from_millis(20));
            }
            Ok(ours)
        });
        let read = stdout.read_to_string(&mut seen);
        over.store(true, Ordering::Relaxed);
        let ours = counter.join().map_err(|_| anyhow::anyhow!("the host's counter panicked"))?;
        read?;
        ours
    })?;
    let status = process::wait(&mut child, &mut || {})?;
    let said = stderr.map(process::Reader::finish).unwrap_or_default();
    ensure!(status.success() && seen == "ready\nend\n", "{status}: {seen}\nstderr: {said}");
    let count: u32 = fs::read_to_string(&file)?.parse()?;
    ensure!(ours != 0 && count == ours + 20, "counted {count} of {ours} of the host's and 20 of the guest's");
    Ok(())
}

fn refused(context: &Context) -> anyhow::Result<()> {
    let folder = context.folder()?.display().to_string();
    for (dir, said) in [
        ("/no/such/folder", "--dir /no/such/folder: cannot read the folder: No such file"),
        (&format!("{folder}:/proc/x"), "give another one"),
    ] {
        let done = run(context, &["--dir", dir, "--", "true"], &[])?;
        done.is(125)?;
        done.complains(said)?;
    }
    // What is a file in the guest, and so no place for a folder.
    let done = run(context, &["--dir", &format!("{folder}:/init/x"), "--", "true"], &[])?;
    done.is(125)?;
    done.complains("at /init/x: cannot make that folder: Not a directory")?;
    // A kernel without FUSE.
    let words = ["--append", "initcall_blacklist=fuse_init", "--dir", &folder, "--", "true"];
    let done = run(context, &words, &[])?;
    done.is(125)?;
    done.complains("CONFIG_FUSE_FS")
}
