//! What the store does with what others leave behind, and with others who are there at the same time.

#![allow(clippy::unwrap_used, reason = "helpers of tests, which clippy does not recognise as such")]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};

use dpack_payload::Payload;
use dpack_payload::digest::DiffId;
use dpack_store::{Collected, Driver, Error, IdMapKind, Progress, Silent, Store};
use support::{Layer, noise, payload};

/// Counts what it is told.
#[derive(Default)]
struct Counting {
    begun: AtomicU64,
    waited: AtomicU64,
    bytes: AtomicU64,
    announced: AtomicU64,
    skipped: AtomicU64,
}

impl Progress for Counting {
    fn waiting(&self) {
        self.waited.fetch_add(1, Ordering::SeqCst);
    }

    fn begin(&self, layers: &[DiffId], bytes: u64, _entries: u64) {
        self.begun.fetch_add(layers.len() as u64, Ordering::SeqCst);
        self.announced.fetch_add(bytes, Ordering::SeqCst);
    }

    fn advance(&self, bytes: u64, _entries: u64) {
        self.bytes.fetch_add(bytes, Ordering::SeqCst);
    }

    fn end(&self, skipped: u64) {
        self.skipped.fetch_add(skipped, Ordering::SeqCst);
    }
}

/// Two layers with files in one piece, in several, in none, and one content in both layers.
fn example() -> (Payload<Vec<u8>>, Vec<DiffId>) {
    let low = Layer::new()
        .directory("bin", 0o755)
        .file("bin/big", noise(1, 9 << 20))
        .file("bin/small", "small")
        .file("empty", "")
        .entry(b'3', "null", "", 0o666, b"")
        .file("shared", noise(2, 3 << 20));
    let high = Layer::new().file("copy", noise(2, 3 << 20)).hard_link("link", "copy").symlink("s", "bin/big");
    payload(&[low.bytes(), high.bytes()])
}

fn names(dir: &Path) -> BTreeSet<String> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn layers_are_extracted_once_and_progress_adds_up() {
    let dir = tempfile::tempdir().unwrap();
    let (payload, layers) = example();
    let store = Store::open(dir.path(), IdMapKind::Single, Driver::Overlay).unwrap();
    let progress = Counting::default();
    let first = store.ensure(&payload, &layers, 4, &progress).unwrap();
    assert_eq!(first, [store.path(&layers[0]), store.path(&layers[1])]);
    assert_eq!(progress.begun.load(Ordering::SeqCst), 2);
    assert_eq!(progress.bytes.load(Ordering::SeqCst), progress.announced.load(Ordering::SeqCst));
    assert_eq!(progress.skipped.load(Ordering::SeqCst), 1);
    assert_eq!(fs::read(first[0].join("bin/big")).unwrap(), noise(1, 9 << 20));
    assert_eq!(fs::read(first[1].join("link")).unwrap(), noise(2, 3 << 20));

    let mark = first[0].join("mark");
    fs::write(&mark, "").unwrap();
    assert_eq!(store.ensure(&payload, &layers, 4, &progress).unwrap(), first);
    assert_eq!(progress.begun.load(Ordering::SeqCst), 2);
    assert!(mark.exists());
    // A layer that is there twice is stacked once, where it is highest.
    let twice = [layers[1], layers[0], layers[1]];
    assert_eq!(store.ensure(&payload, &twice, 4, &progress).unwrap(), first);
}

#[test]
fn every_point_where_power_can_fail_ends_well() {
    let (payload, layers) = example();
    let hex = layers[0].hex();
    let half = |dir: &Path| {
        fs::create_dir_all(dir.join("bin")).unwrap();
        fs::write(dir.join("bin/big"), "").unwrap();
    };
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    // What is found: a layer whose files are empty, and a marker; whether it is believed.
    let cases: [(&str, bool, Option<&str>, bool); 6] = [
        ("while extracting", false, None, false),
        ("after the marker", false, Some(boot.trim()), false),
        ("killed after the rename", true, Some(boot.trim()), true),
        ("power cut after the rename", true, Some("1b4e28ba-2fa1-11d2-883f-0016d3cca427"), false),
        ("power cut, marker lost its content", true, Some(""), false),
        ("settled", true, None, true),
    ];
    for (case, layer, marker, believed) in cases {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), IdMapKind::Single, Driver::Overlay).unwrap();
        let layers_dir = dir.path().join("layers/single");
        half(&layers_dir.join("tmp.0123456789abcdef"));
        if layer {
            half(&layers_dir.join(&hex));
        }
        if let Some(marker) = marker {
            fs::write(layers_dir.join(format!("{hex}.boot")), marker).unwrap();
        }
        let paths = store.ensure(&payload, &layers[..1], 2, &Silent).unwrap();
        let content = fs::read(paths[0].join("bin/big")).unwrap();
        assert_eq!(content.is_empty(), believed, "{case}");
        if !believed {
            assert_eq!(content, noise(1, 9 << 20), "{case}");
            let expected = [hex.clone(), format!("{hex}.boot"), "lock".to_owned()];
            assert_eq!(names(&layers_dir), BTreeSet::from(expected), "{case}");
            assert_eq!(fs::read_to_string(layers_dir.join(format!("{hex}.boot"))).unwrap(), boot.trim());
        }
    }
}

#[test]
fn settling_takes_the_markers_of_this_boot_away() {
    let dir = tempfile::tempdir().unwrap();
    let (payload, layers) = example();
    let store = Store::open(dir.path(), IdMapKind::Single, Driver::Overlay).unwrap();
    store.settle().unwrap();
    store.ensure(&payload, &layers, 2, &Silent).unwrap();
    let layers_dir = dir.path().join("layers/single");
    let other = layers_dir.join(format!("{}.boot", DiffId::of(b"other").hex()));
    fs::write(&other, "another boot").unwrap();
    store.settle().unwrap();
    assert!(other.exists());
    let markers = names(&layers_dir).into_iter().filter(|name| name.ends_with(".boot")).count();
    assert_eq!(markers, 1);
    let progress = Counting::default();
    store.ensure(&payload, &layers, 2, &progress).unwrap();
    assert_eq!(progress.begun.load(Ordering::SeqCst), 0);
}

#[test]
fn two_at_once_extract_once() {
    let dir = tempfile::tempdir().unwrap();
    let (payload, layers) = example();
    let progress = Arc::new(Counting::default());
    let barrier = Barrier::new(4);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                // A lock belongs to an open file: threads stand in each other's way as processes do.
                let store = Store::open(dir.path(), IdMapKind::Single, Driver::Overlay).unwrap();
                barrier.wait();
                let paths = store.ensure(&payload, &layers, 2, &*progress).unwrap();
                assert_eq!(fs::read(paths[0].join("bin/small")).unwrap(), b"small");
            });
        }
    });
    assert_eq!(progress.begun.load(Ordering::SeqCst), 2);
}

#[test]
fn a_killed_holder_of_the_lock_keeps_nobody_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let (payload, layers) = example();
    let store = Store::open(dir.path(), IdMapKind::Single, Driver::Overlay).unwrap();
    let lock = dir.path().join("layers/single/lock");
    fs::write(&lock, "").unwrap();
    let mut holder = Command::new("flock")
        .arg("--exclusive")
        .arg("--no-fork")
        .arg(&lock)
        .args(["sh", "-c", "echo; exec sleep 1000"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Read::read_exact(holder.stdout.as_mut().unwrap(), &mut [0]).unwrap();
    assert_eq!(store.collect_garbage(Vec::new).unwrap(), None);
    let progress = Counting::default();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| store.ensure(&payload, &layers, 2, &progress));
        while progress.waited.load(Ordering::SeqCst) == 0 {
            std::thread::yield_now();
        }
        assert!(!waiter.is_finished());
        holder.kill().unwrap();
        holder.wait().unwrap();
        waiter.join().unwrap().unwrap();
    });
    assert_eq!(progress.begun.load(Ordering::SeqCst), 2);
}

#[test]
fn garbage_is_what_nobody_uses() {
    let dir = tempfile::tempdir().unwrap();
    let (payload, layers) = example();
    let store = Store::open(dir.path(), IdMapKind::Single, Driver::Overlay).unwrap();
    store.ensure(&payload, &layers, 2, &Silent).unwrap();
    let layers_dir = dir.path().join("layers/single");
    fs::create_dir(layers_dir.join("tmp.0")).unwrap();
    fs::write(layers_dir.join("not ours"), "").unwrap();
    let collected = store.collect_garbage(|| vec![layers[1]]).unwrap();
    assert_eq!(collected, Some(Collected { layers: 1 }));
    let hex = layers[1].hex();
    let expected = [hex.clone(), format!("{hex}.boot"), "lock".to_owned(), "not ours".to_owned()];
    assert_eq!(names(&layers_dir), BTreeSet::from(expected));
    assert_eq!(store.collect_garbage(|| layers.clone()).unwrap(), Some(Collected::default()));
}

#[test]
fn a_damaged_payload_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (payload, layers) = example();
    let mut bytes = payload.source().clone();
    // In the frames, which come first.
    bytes[1 << 20] ^= 1;
    let damaged = Payload::open(bytes).unwrap();
    let store = Store::open(dir.path(), IdMapKind::Single, Driver::Overlay).unwrap();
    let error = store.ensure(&damaged, &layers, 2, &Silent).unwrap_err();
    assert!(matches!(error, Error::Frame { .. } | Error::Read { .. }), "{error:?}");
    assert_eq!(names(&dir.path().join("layers/single")), BTreeSet::from(["lock".to_owned()]));
    assert!(matches!(store.ensure(&payload, &[DiffId::of(b"x")], 2, &Silent), Err(Error::Missing(_))));
    store.ensure(&payload, &layers, 2, &Silent).unwrap();
}
