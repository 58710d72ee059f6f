//! Layers made to harm: nothing is ever written outside of the layer's folder, and nothing half done is left.

#![allow(clippy::unwrap_used, reason = "helpers of tests, which clippy does not recognise as such")]

mod support;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use dpack_store::{Driver, Error, IdMapKind, LayerError, Silent, Store};
use rustix::fs::getxattr;
use support::{Layer, describe, noise, payload};

/// Extracts one layer; whatever happens, nothing else may be in the folder.
fn extract(layer: Layer) -> (tempfile::TempDir, Result<PathBuf, Error>) {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("victim"), "unharmed").unwrap();
    let (payload, layers) = payload(&[layer.bytes()]);
    let store = Store::open(&dir.path().join("data"), IdMapKind::Single, Driver::Overlay).unwrap();
    let result = store.ensure(&payload, &layers, 2, &Silent).map(|paths| paths[0].clone());
    assert_eq!(fs::read(dir.path().join("victim")).unwrap(), b"unharmed");
    let mut outside: Vec<_> =
        fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    outside.sort();
    assert_eq!(outside, ["data", "victim"]);
    let kept = names(&dir.path().join("data/layers/single"));
    let hex = layers[0].hex();
    let expected = if result.is_ok() {
        vec![hex.clone(), format!("{hex}.boot"), "lock".into()]
    } else {
        vec!["lock".into()]
    };
    let mut expected: Vec<String> = expected;
    expected.sort();
    assert_eq!(kept, expected);
    (dir, result)
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[track_caller]
fn refused(layer: Layer) -> LayerError {
    match extract(layer).1 {
        Err(Error::Layer { source, .. }) => source,
        other => panic!("{other:?}"),
    }
}

#[test]
fn absolute_names_stay_inside() {
    let (_dir, layer) = extract(Layer::new().file("/etc/passwd", "x").file("a/../../a/x", "y"));
    assert!(matches!(layer, Err(Error::Layer { source: LayerError::Entry { .. }, .. })));
    let (_dir, layer) = extract(Layer::new().file("/etc/passwd", "x").file("//a/../b", "y"));
    let layer = layer.unwrap();
    assert_eq!(fs::read(layer.join("etc/passwd")).unwrap(), b"x");
    assert_eq!(fs::read(layer.join("b")).unwrap(), b"y");
}

#[test]
fn a_symbolic_link_that_leads_outside_is_not_written_through() {
    let up = "../".repeat(20);
    for target in ["/", &up, "../data"] {
        let (dir, layer) = extract(
            Layer::new().symlink("out", target).file("out/victim", "x").hard_link("hard", "out/victim"),
        );
        let layer = layer.unwrap();
        assert_eq!(fs::read_link(layer.join("out")).unwrap(), Path::new(target));
        let written: Vec<String> =
            describe(&layer).into_keys().filter(|name| name.ends_with("victim")).collect();
        let expected = if target == "../data" { "data/victim" } else { "victim" };
        assert_eq!(written, [expected]);
        drop(dir);
    }
    // Replaced by a file of the same name, then a folder: the link is gone, its target untouched.
    let (_dir, layer) =
        extract(Layer::new().symlink("x", "/etc").directory("x", 0o755).file("x/hostname", "inside"));
    assert_eq!(fs::read(layer.unwrap().join("x/hostname")).unwrap(), b"inside");
}

#[test]
fn a_hard_link_to_the_outside_is_refused() {
    for target in ["/etc/passwd", "../../../victim", "../../../../../../../../etc/passwd", "missing"] {
        let error = refused(Layer::new().hard_link("x", target));
        assert!(matches!(error, LayerError::HardLink { .. } | LayerError::Entry { .. }), "{error}");
    }
    refused(Layer::new().symlink("etc", "/etc").hard_link("x", "etc/passwd"));
}

#[test]
fn device_nodes_are_left_out_and_pipes_are_made() {
    let layer = Layer::new()
        .raw(b'3', "dev/mem", "", b"", |header| {
            header.set_device_major(1).unwrap();
            header.set_device_minor(1).unwrap();
        })
        .entry(b'4', "dev/sda", "", 0o666, b"")
        // A device 0:0 would be a whiteout.
        .entry(b'3', "bin", "", 0o666, b"")
        .entry(b'6', "pipe", "", 0o640, b"");
    let (_dir, layer) = extract(layer);
    let layer = layer.unwrap();
    let lines = describe(&layer);
    assert_eq!(lines.keys().collect::<Vec<_>>(), [".", "dev", "pipe"]);
    assert!(lines["pipe"].starts_with("10640 ") && lines["pipe"].ends_with("fifo"), "{}", lines["pipe"]);
}

#[test]
fn sizes_beyond_the_tar_are_refused_before_anything_is_allocated() {
    for size in [1 << 20, u64::MAX >> 1, 0o7777777777] {
        let error = refused(Layer::new().raw(b'0', "x", "", b"short", |header| header.set_size(size)));
        assert!(matches!(error, LayerError::Truncated(_)), "{error}");
    }
    let error = refused(Layer::new().pax("size", b"18446744073709551615").file("x", "y"));
    assert!(matches!(error, LayerError::Truncated(_)), "{error}");
    let error = refused(Layer::new().raw(b'x', "x", "", &[b' '; 64], |header| header.set_size(1 << 40)));
    assert!(matches!(error, LayerError::Header { .. }), "{error}");
}

#[test]
fn attributes_that_steer_overlayfs_are_dropped() {
    let layer = Layer::new()
        .pax("SCHILY.xattr.user.overlay.redirect", b"/etc")
        .pax("SCHILY.xattr.user.overlay.opaque", b"y")
        .pax("SCHILY.xattr.trusted.overlay.opaque", b"y")
        .pax("SCHILY.xattr.user.kept", b"value")
        .directory("d", 0o755)
        .pax("SCHILY.xattr.user.overlay.metacopy", b"")
        .file("f", "x");
    let (_dir, layer) = extract(layer);
    let layer = layer.unwrap();
    let attribute = |path: &str, name: &str| {
        let mut value = [0; 16];
        getxattr(layer.join(path), name, &mut value).map(|length| value[..length].to_vec()).ok()
    };
    assert_eq!(attribute("d", "user.kept").as_deref(), Some(&b"value"[..]));
    for name in ["user.overlay.redirect", "user.overlay.opaque", "trusted.overlay.opaque"] {
        assert_eq!(attribute("d", name), None, "{name}");
    }
    assert_eq!(attribute("f", "user.overlay.metacopy"), None);
}

#[test]
fn whiteouts_become_those_of_overlayfs() {
    let layer = Layer::new()
        .file("d/.wh.gone", "")
        .file("o/.wh..wh..opq", "")
        .file("o/kept", "x")
        .file(".wh.etc", "")
        .file(".wh..wh.plnk/1", "");
    let (_dir, layer) = extract(layer);
    let layer = layer.unwrap();
    let lines = describe(&layer);
    assert_eq!(lines.keys().collect::<Vec<_>>(), [".", "d", "d/gone", "etc", "o", "o/kept"]);
    for name in ["d/gone", "etc"] {
        assert_eq!(fs::symlink_metadata(layer.join(name)).unwrap().rdev(), 0);
        assert!(lines[name].ends_with("device 0"), "{}", lines[name]);
    }
    let mut value = [0; 1];
    assert_eq!(getxattr(layer.join("o"), "user.overlay.opaque", &mut value), Ok(1));
}

#[test]
fn a_whiteout_of_everything_takes_lower_layers_off_the_stack() {
    let dir = tempfile::tempdir().unwrap();
    let tars = [
        Layer::new().file("low", "x").bytes(),
        Layer::new().file(".wh..wh..opq", "").file("middle", "x").bytes(),
        Layer::new().file("high", "x").bytes(),
    ];
    let (payload, layers) = payload(&tars);
    let store = Store::open(dir.path(), IdMapKind::Single, Driver::Overlay).unwrap();
    for _ in 0..2 {
        let stack = store.ensure(&payload, &layers, 2, &Silent).unwrap();
        assert_eq!(stack, [store.path(&layers[1]), store.path(&layers[2])]);
    }
}

#[test]
fn what_is_no_tar_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), IdMapKind::Single, Driver::Overlay).unwrap();
    for tar in [noise(1, 4096), b"x".to_vec(), noise(2, 3 << 20)] {
        let (payload, layers) = payload(&[tar]);
        let error = store.ensure(&payload, &layers, 2, &Silent).unwrap_err();
        assert!(matches!(error, Error::Layer { .. }), "{error:?}");
    }
    // An empty layer is one.
    let (payload, layers) = payload(&[Layer::new().bytes()]);
    let path = store.ensure(&payload, &layers, 2, &Silent).unwrap().remove(0);
    assert_eq!(fs::read_dir(path).unwrap().count(), 0);
}

#[test]
fn every_entry_can_be_replaced_by_every_other_kind() {
    let kinds: [fn(Layer) -> Layer; 5] = [
        |layer| layer.directory("x", 0o700).file("x/in", "it"),
        |layer| layer.file("x", noise(3, 2000)),
        |layer| layer.symlink("x", "/etc"),
        |layer| layer.entry(b'6', "x", "", 0o600, b""),
        |layer| layer.file("w", "y").hard_link("x", "w"),
    ];
    for (number, first) in kinds.iter().enumerate() {
        for (other, second) in kinds.iter().enumerate() {
            let describe = |layer: Layer| {
                let (_dir, layer) = extract(layer);
                let mut lines = describe(&layer.unwrap());
                // What the first entry made beside `x`.
                lines.retain(|name, _| name.starts_with('x'));
                lines
            };
            let (twice, once) = (describe(second(first(Layer::new()))), describe(second(Layer::new())));
            assert_eq!(twice, once, "{number} {other}");
        }
    }
}
