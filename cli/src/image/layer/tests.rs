use super::*;

fn cache() -> (tempfile::TempDir, Cache) {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::at(dir.path().join("cache"));
    (dir, cache)
}

fn about(unpacked: bool) -> About {
    About { unpacked, ..About::new(Table { efi: "e".into(), root: "r".into() }) }
}

/// Does the work on a layer up to the end of the guest.
fn work(layer: &Layer<'_>) -> Work {
    let work = layer.begin().unwrap();
    fs::write(work.image(), "image").unwrap();
    fs::write(work.bundle(), "bundle").unwrap();
    work.keep(&about(true)).unwrap();
    work
}

#[test]
fn a_layer_is_found_by_its_inputs_and_no_other() {
    let (_dir, cache) = cache();
    let layer = Layer::of(&cache, ["one", "two"]);
    assert!(layer.find().is_none());
    let ready = layer.publish(work(&layer), "debian", "1", about(true)).unwrap();
    for ready in [ready, Layer::of(&cache, ["one", "two"]).find().unwrap()] {
        assert_eq!(fs::read(&ready.image).unwrap(), b"image");
        assert_eq!(ready.about.table(), Table { efi: "e".into(), root: "r".into() });
        let left = fs::read_dir(ready.image.parent().unwrap()).unwrap().count();
        assert_eq!(left, 3, "the image, what is known of it, and the manifest");
    }
    for other in [&["onetwo"][..], &["one"], &["two", "one"], &["one", "two", ""]] {
        assert!(Layer::of(&cache, other).find().is_none(), "{other:?}");
    }
    fs::write(layer.find().unwrap().image, "imagf").unwrap();
    assert!(layer.find().is_none(), "a damaged one");
}

#[test]
fn work_goes_on_where_it_was_interrupted() {
    let (_dir, cache) = cache();
    let layer = Layer::of(&cache, ["one"]);
    drop(work(&layer));
    let again = layer.begin().unwrap();
    assert_eq!(again.unpacked().unwrap(), Some(about(true)));
    // What a guest was unpacking has files of two runs.
    again.keep(&about(false)).unwrap();
    assert_eq!(again.unpacked().unwrap(), None);
    assert!(!again.image().exists() && !again.bundle().exists() && again.about().is_err());
    assert_eq!(again.unpacked().unwrap(), None);
    drop(again);
    drop(work(&layer));
    fs::remove_file(layer.begin().unwrap().bundle()).unwrap();
    assert_eq!(layer.begin().unwrap().unpacked().unwrap(), None);
}

#[test]
fn one_process_works_on_a_layer_and_the_next_one_finds_it() {
    let (_dir, cache) = cache();
    let layer = Layer::of(&cache, ["one"]);
    let first = work(&layer);
    std::thread::scope(|scope| {
        let second = scope.spawn(|| {
            let layer = Layer::of(&cache, ["one"]);
            let work = layer.begin().unwrap();
            let had = (layer.find().is_some(), work.image().exists());
            layer.abandon(work);
            had
        });
        std::thread::sleep(std::time::Duration::from_millis(200));
        assert!(!second.is_finished());
        layer.publish(first, "debian", "1", about(true)).unwrap();
        assert_eq!(second.join().unwrap(), (true, false));
    });
    let unfinished = cache.names().unwrap().into_iter().filter(|name| name.ends_with(UNFINISHED)).count();
    assert_eq!(unfinished, 0, "the one that waited leaves its folder");
}

#[test]
fn a_few_layers_are_kept() {
    let (_dir, cache) = cache();
    for number in 0..6 {
        let layer = Layer::of(&cache, [number.to_string()]);
        layer.publish(work(&layer), "debian", "1", about(true)).unwrap();
        cache.release(&layer.name);
    }
    let left = cache.names().unwrap().into_iter().filter(|name| name.starts_with(IMAGES)).count();
    assert_eq!(left, KEPT);
}
