//! `hv exec` for CI: the file of `--junit`, and the book's recipe for make.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};

use super::context::{Context, HUNG_SECONDS};
use super::runner::Step;
use hv_setup::{process, sources};

/// Returns the scenarios.
pub(super) fn steps() -> Vec<Step> {
    vec![Step::new("exec/6.12/junit", junit), Step::new("exec/6.12/make", make)]
}

/// Checks that a file has these parts.
fn has(file: &Path, parts: &[&str]) -> anyhow::Result<()> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    for part in parts {
        ensure!(text.contains(part), "{} lacks {part:?}:\n{text}", file.display());
    }
    Ok(())
}

/// Checks the files of a command that fails, one that passes, and one that has no result.
fn junit(context: &Context) -> anyhow::Result<()> {
    let file = context.folder()?.join("clock.xml");
    let path = file.to_string_lossy().into_owned();
    let run = |words: &[&str], code: i32| {
        let done =
            context
                .hv(&[&["exec", "--vps", "1", "--timeout", HUNG_SECONDS, "--junit", &path], words].concat())?;
        ensure!(done.code == Some(code), "{words:?}: {:?}: {}", done.code, done.stderr);
        Ok(())
    };
    run(&["--", "sh", "-c", "echo '<out>'; echo err >&2; exit 3"], 3)?;
    has(
        &file,
        &[
            "tests=\"1\" failures=\"1\" errors=\"0\"",
            "classname=\"clock\" name=\"sh -c echo",
            "<failure message=\"exit status 3\">",
            "<system-out>&lt;out&gt;\n</system-out>",
            "<system-err>err\n</system-err>",
            "<testsuite name=\"linux-image-",
        ],
    )?;
    run(&["--", "true"], 0)?;
    has(&file, &["failures=\"0\" errors=\"0\"", "name=\"true\""])?;
    run(&["--", "poweroff", "-f"], 122)?;
    has(&file, &["errors=\"1\"", "<error message=\"hv exec: the command had not ended"])?;
    // It never comes to a guest.
    run(&["--kernel", "/nonexistent/Image", "--", "true"], 125)?;
    has(&file, &["errors=\"1\"", "/nonexistent/Image"])?;
    let done = context.hv(&["exec", "--junit", "-", "--", "true"])?;
    ensure!(done.code == Some(125) && done.stderr.contains("--junit"), "{}", done.stderr);
    Ok(())
}

/// Checks that the Makefile in the book runs all tests, and reports the one that fails.
fn make(context: &Context) -> anyhow::Result<()> {
    let page = fs::read_to_string(sources::checkout()?.join("docs/src/ci.md"))?;
    let recipe = page.split_once("```make\n").and_then(|(_, rest)| rest.split_once("```"));
    let folder = context.folder()?;
    fs::write(folder.join("Makefile"), recipe.context("the page has no recipe")?.0)?;
    fs::create_dir(folder.join("tests"))?;
    fs::write(
        folder.join("tests/good.sh"),
        "grep -q Hyper-V /proc/interrupts || grep -q vmbus /proc/modules\n",
    )?;
    fs::write(folder.join("tests/bad.sh"), "echo no such thing >&2\nexit 9\n")?;
    let hv = context.command::<&str>(&[])?.get_program().to_owned();
    let mut path = Path::new(&hv).parent().context("no folder")?.as_os_str().to_owned();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let options = format!("HV_OPTIONS=--vps 1 --timeout {HUNG_SECONDS}");
    let mut command = Command::new("make");
    command.current_dir(&folder).env("PATH", path).args(["-k", "check", &options]);
    let done = process::run(&mut command, || {})?;
    let all = format!("{}{}", done.stdout, done.stderr);
    ensure!(done.status.code() == Some(2) && all.contains("[Makefile:8: bad]"), "{}: {all}", done.status);
    has(&folder.join("results/good.xml"), &["classname=\"good\"", "failures=\"0\" errors=\"0\""])?;
    has(&folder.join("results/bad.xml"), &["exit status 9", "no such thing"])
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::Stdio;

    use saphyr::{LoadableYamlNode as _, Yaml};

    use super::*;

    /// Returns the strings under keys of these names, wherever they are.
    fn strings<'y>(yaml: &'y Yaml<'_>, names: &[&str], found: &mut Vec<&'y str>) {
        if let Some(map) = yaml.as_mapping() {
            for (key, value) in map {
                if key.as_str().is_some_and(|key| names.contains(&key)) {
                    let lines = value.as_vec().map_or(std::slice::from_ref(value), Vec::as_slice);
                    found.extend(lines.iter().filter_map(Yaml::as_str));
                }
                strings(value, names, found);
            }
        }
        for value in yaml.as_vec().into_iter().flatten() {
            strings(value, names, found);
        }
    }

    /// Returns true if the shell takes a script.
    fn is_script(text: &str) -> bool {
        let mut shell = Command::new("sh").arg("-n").stdin(Stdio::piped()).spawn().unwrap();
        shell.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        shell.wait().unwrap().success()
    }

    #[test]
    fn the_books_jobs_are_yaml_whose_scripts_the_shell_takes() {
        let root = crate::claims::root();
        let page = fs::read_to_string(root.join("docs/src/ci.md")).unwrap();
        let mut jobs = 0;
        for block in page.split("```yaml\n").skip(1) {
            let block = block.split_once("```").unwrap().0;
            let parsed = Yaml::load_from_str(block).unwrap_or_else(|error| panic!("{error}:\n{block}"));
            let mut scripts = Vec::new();
            strings(&parsed[0], &["run", "before_script", "script"], &mut scripts);
            assert!(scripts.iter().any(|line| line.contains("make -k check")), "{scripts:?}");
            for script in scripts {
                assert!(is_script(script), "{script}");
                for word in script.split_whitespace().filter_map(|word| word.strip_prefix("hv-arm64/")) {
                    assert!(root.join(word).exists(), "{script}");
                }
            }
            jobs += 1;
        }
        assert_eq!(jobs, 2);
        assert!(!is_script("for x in; do"));
    }
}
