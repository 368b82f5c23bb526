use std::os::unix::fs::MetadataExt as _;

use super::*;

fn parse(words: &str) -> Result<clap::ArgMatches, String> {
    let words = ["hv", "image", "debian"].into_iter().chain(words.split_whitespace());
    crate::name::command().try_get_matches_from(words).map_err(|error| error.to_string())
}

#[test]
fn options_are_judged_and_say_what_was_expected() {
    assert!(parse("x.img").is_ok());
    assert!(
        parse("--suite trixie --include curl,g++ --include git --size 1500M --mirror file:/m x.img").is_ok()
    );
    for (bad, text) in [
        ("", "<FILE>"),
        ("--suite sid x.img", "[possible values: bookworm, trixie]"),
        ("--include curl,-y x.img", "'-y' for '--include <PACKAGES>': expected the name of a package"),
        ("--include= x.img", "expected the name of a package"),
        ("--size 512M x.img", "expected a multiple of 1 MiB, and 1G or more"),
        ("--size 1100000K x.img", "expected a multiple of 1 MiB"),
        ("--size -1 x.img", "'-1' for '--size <SIZE>': expected a number of MiB"),
        ("--mirror x x.img", "'x' for '--mirror <URL>': expected an address"),
    ] {
        let error = parse(bad).unwrap_err();
        assert!(error.contains(text), "{bad}: {error}");
    }
}

fn args(file: PathBuf) -> Args {
    Args {
        suite: Suite::Bookworm,
        include: Vec::new(),
        size: 2 << 30,
        mirror: None,
        ssh_key: Vec::new(),
        file,
    }
}

#[test]
fn a_file_that_exists_is_no_image_to_make() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("debian.img");
    std::os::unix::fs::symlink("nowhere", &file).unwrap();
    let error = run(&args(file)).unwrap_err().to_string();
    assert!(error.contains("debian.img exists: give another name, or remove it"), "{error}");
    let error = run(&args(folder.path().join("none/debian.img"))).unwrap_err().to_string();
    assert!(error.contains("in a folder that exists"), "{error}");
}

#[test]
fn packages_of_one_are_above_the_base_unless_they_replace_some_of_it() {
    let packages = |files: &[&str]| files.iter().map(|file| (*file).to_owned()).collect::<Vec<_>>();
    let base = packages(&["a_1_all.deb", "b_1_arm64.deb"]);
    let more = packages(&["c_1_all.deb", "a_1_all.deb", "b_1_arm64.deb"]);
    assert_eq!(above(&base, &more), Some(vec!["c_1_all.deb".to_owned()]));
    assert_eq!(above(&base, &packages(&["a_1_all.deb", "c_1_all.deb"])), None);
}

#[test]
fn a_copy_has_the_holes_of_the_image() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    let file = File::create(&from).unwrap();
    file.set_len(64 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"data", 32 << 20).unwrap();
    let mut seen = 0;
    let see = |copy: &File| {
        seen = copy.metadata()?.len();
        Ok(())
    };
    copy(&from, &to, see).unwrap();
    assert_eq!(seen, 64 << 20);
    let meta = to.metadata().unwrap();
    assert!(meta.len() == 64 << 20 && meta.blocks() * 512 < 4 << 20, "{}", meta.blocks());
    assert!(std::fs::read(&to).unwrap() == std::fs::read(&from).unwrap());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "nothing else is left");
}
