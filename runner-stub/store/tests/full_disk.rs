//! A full disk, on a small tmpfs in namespaces of its own: the test program runs itself again in there.

#![allow(clippy::unwrap_used, reason = "helpers of tests, which clippy does not recognise as such")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use dpack_payload::digest::DiffId;
use dpack_store::{Driver, Error, IdMapKind, Progress, Silent, Store};
use support::{Layer, noise, payload};

/// Where the tmpfs is; set only inside.
const DISK: &str = "DPACK_TEST_DISK";

/// Runs the test of this name inside, on a tmpfs with these mount options.
fn inside(test: &str, options: &str) -> Option<PathBuf> {
    if let Some(disk) = std::env::var_os(DISK) {
        return Some(disk.into());
    }
    let dir = tempfile::tempdir().unwrap();
    let script =
        format!("mount -t tmpfs -o {options} tmpfs \"${DISK}\" && exec \"$0\" --exact {test} --nocapture");
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", &script])
        .arg(std::env::current_exe().unwrap())
        .env(DISK, dir.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    None
}

/// Takes space away once extraction has begun, as another program would.
struct Filler(PathBuf, usize);

impl Progress for Filler {
    fn begin(&self, _layers: &[DiffId], _bytes: u64, _entries: u64) {
        fs::write(&self.0, vec![1; self.1]).unwrap();
    }
}

fn names(dir: &Path) -> Vec<String> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn a_full_disk_is_noticed_before_and_while_extracting() {
    let Some(disk) = inside("a_full_disk_is_noticed_before_and_while_extracting", "size=16m") else { return };
    let layer =
        |megabytes: usize| Layer::new().file("a/file", noise(1, megabytes << 20)).file("b", "b").bytes();
    let store = Store::open(&disk, IdMapKind::Single, Driver::Overlay).unwrap();

    let (large, layers) = payload(&[layer(17)]);
    let error = store.ensure(&large, &layers, 2, &Silent).unwrap_err();
    let Error::NoSpace { path, needed, free } = &error else { panic!("{error:?}") };
    assert!(path.starts_with(&disk) && *needed > 17 << 20 && *free <= 16 << 20, "{error}");
    assert_eq!(names(&disk.join("layers/single")), ["lock"]);

    let (medium, layers) = payload(&[layer(10)]);
    let filler = Filler(disk.join("filler"), 8 << 20);
    let error = store.ensure(&medium, &layers, 2, &filler).unwrap_err();
    assert!(matches!(&error, Error::NoSpace { needed, free, .. } if needed > free), "{error:?}");
    assert!(error.to_string().contains("hint: "), "{error}");
    assert_eq!(names(&disk.join("layers/single")), ["lock"]);

    fs::remove_file(disk.join("filler")).unwrap();
    let paths = store.ensure(&medium, &layers, 2, &Silent).unwrap();
    assert_eq!(fs::read(paths[0].join("a/file")).unwrap(), noise(1, 10 << 20));
}

#[test]
fn too_few_inodes_are_noticed() {
    let Some(disk) = inside("too_few_inodes_are_noticed", "size=16m,nr_inodes=100") else { return };
    let many = (0..200).fold(Layer::new(), |layer, number| layer.file(&format!("{number}"), ""));
    let (payload, layers) = payload(&[many.bytes()]);
    let store = Store::open(&disk, IdMapKind::Single, Driver::Overlay).unwrap();
    let error = store.ensure(&payload, &layers, 2, &Silent).unwrap_err();
    assert!(matches!(error, Error::NoInodes { needed: 200, free: ..100, .. }), "{error:?}");
    assert_eq!(names(&disk.join("layers/single")), ["lock"]);
}
