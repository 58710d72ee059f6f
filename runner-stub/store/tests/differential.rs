//! The same tar extracted by GNU tar and by the store gives the same tree: kinds, modes, owners, sizes, times to the
//! nanosecond, contents, links.

#![allow(clippy::unwrap_used, reason = "helpers of tests, which clippy does not recognise as such")]

mod support;

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, lchown, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use dpack_store::{Driver, IdMapKind, Silent, Store};
use support::{describe, noise, payload};

/// A tree with everything that a tar can hold and an ordinary user can make.
fn grow(root: &Path, owners: bool) {
    let long = "a-long-name-".repeat(16);
    for folder in ["bin", "empty", "sticky", &format!("deep/{long}/{long}/{long}")] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    fs::set_permissions(root.join("sticky"), fs::Permissions::from_mode(0o1777)).unwrap();
    for (number, length) in [0, 1, 95, 96, 512, 513, 70_000, (1 << 20) + 1, 9 << 20].into_iter().enumerate() {
        fs::write(root.join(format!("bin/file-{length}")), noise(number as u64, length)).unwrap();
    }
    fs::write(root.join(format!("deep/{long}/{long}/{long}/{long}")), "deep").unwrap();
    fs::write(root.join("bin/ünïcode \n name"), "text").unwrap();
    for (name, mode) in [("setuid", 0o4755), ("setgid", 0o2755), ("secret", 0o400), ("none", 0)] {
        let path = root.join(name);
        fs::write(&path, name).unwrap();
        if owners {
            chown(&path, Some(12), Some(345)).unwrap();
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
    fs::hard_link(root.join("bin/file-70000"), root.join("hard")).unwrap();
    fs::hard_link(root.join("bin/file-70000"), root.join("bin/hard")).unwrap();
    symlink("/etc/passwd", root.join("absolute")).unwrap();
    symlink(format!("../{long}/{long}"), root.join("dangling")).unwrap();
    if owners {
        lchown(root.join("dangling"), Some(7), Some(8)).unwrap();
        chown(root.join("sticky"), Some(33), Some(33)).unwrap();
    }
    let time = SystemTime::UNIX_EPOCH + Duration::new(1_234_567_890, 123_456_789);
    for path in ["bin/file-512", "empty", "bin"] {
        fs::File::open(root.join(path)).unwrap().set_modified(time).unwrap();
    }
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn gnu_tar_makes_the_same_tree() {
    let root = rustix::process::geteuid().is_root();
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let text = |name: &str| at(name).to_str().unwrap().to_owned();
    fs::create_dir(at("tree")).unwrap();
    grow(&at("tree"), root);
    if !root {
        fs::set_permissions(at("tree/none"), fs::Permissions::from_mode(0o444)).unwrap();
    }
    let kind = if root { IdMapKind::Full } else { IdMapKind::Single };
    for format in ["gnu", "pax"] {
        let (tar, theirs) = (text(&format!("{format}.tar")), text(&format!("{format}.tree")));
        run(
            "tar",
            &["--numeric-owner", &format!("--format={format}"), "-C", &text("tree"), "-cf", &tar, "."],
        );
        fs::create_dir(&theirs).unwrap();
        run("tar", &["--numeric-owner", "-C", &theirs, "-xpf", &tar]);
        let (payload, layers) = payload(&[fs::read(&tar).unwrap()]);
        let store = Store::open(&at(&format!("{format}.data")), kind, Driver::Overlay).unwrap();
        let ours = store.ensure(&payload, &layers, 3, &Silent).unwrap().remove(0);
        let (theirs, ours) = (describe(Path::new(&theirs)), describe(&ours));
        assert!(theirs.len() > 25);
        for (name, line) in &theirs {
            assert_eq!(ours.get(name), Some(line), "{format} {name}");
        }
        assert_eq!(ours.len(), theirs.len());
    }
}
