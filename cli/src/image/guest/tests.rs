use super::*;

fn job(resume: bool) -> Job<'static> {
    Job { image: Path::new("/c/a,b"), bundle: Path::new("/c/bundle"), resume, packages: 3 }
}

#[test]
fn the_guest_is_a_command_that_the_tool_takes() {
    for resume in [false, true] {
        let line = line(job(resume));
        let words = std::iter::once("hv".into()).chain(line.iter().cloned());
        assert!(crate::name::command().try_get_matches_from(words).is_ok(), "{line:?}");
        assert_eq!(line.last().unwrap(), if resume { "resume" } else { "unpack" });
        assert!(line.contains(&"/c/a,b,rw".into()) && line.contains(&"/c/bundle,ro".into()));
    }
}

#[test]
fn the_bundle_is_unpacked_once_the_guest_says_so() {
    let lines = |resume: bool, said: &[&str]| {
        let (sender, lines) = channel();
        said.iter().for_each(|line| sender.send((*line).to_owned()).unwrap());
        let (mut task, mut count, mut times) = (ui::Task::quiet(""), 0, 0);
        let mut unpacked = || {
            times += 1;
            Ok(())
        };
        watch(&lines, job(resume), &mut task, &mut count, &mut unpacked).unwrap();
        (count, times)
    };
    let all = [
        "step: unpacking",
        "step: configuring",
        "Setting up one (1) ...",
        "x",
        "Setting up two:arm64 (1) ...",
    ];
    assert_eq!(lines(false, &all[..1]), (0, 0));
    assert_eq!(lines(false, &all), (2, 1));
    assert_eq!(lines(true, &all), (2, 0));
}

#[test]
fn the_script_is_one_of_a_posix_shell() {
    let checked = std::process::Command::new("sh").args(["-n", "-c", SCRIPT]).status().unwrap();
    assert!(checked.success());
    assert!(
        SCRIPT.contains(&format!("\n    say {CONFIGURING}\n")),
        "the step after which nothing is unpacked again"
    );
}
