//! Copied layers are the tree that overlayfs shows of them: the kernel is the judge.

#![allow(clippy::unwrap_used, reason = "helpers of tests, which clippy does not recognise as such")]

mod support;

use std::fs;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use dpack_store::{Driver, IdMapKind, Silent, Store, copy_layers};
use support::{Layer, describe, noise, payload};

fn layers() -> Vec<Vec<u8>> {
    let first = Layer::new()
        .directory("bin", 0o755)
        .file("bin/tool", noise(1, 70_000))
        .hard_link("bin/same", "bin/tool")
        .symlink("bin/link", "tool")
        .directory("data", 0o1777)
        .file("data/kept", "kept")
        .file("data/gone", "gone")
        .directory("data/deep", 0o700)
        .file("data/deep/old", "old")
        .directory("opaque", 0o755)
        .file("opaque/old", "old")
        .directory("folder-then-file", 0o755)
        .file("folder-then-file/x", "x")
        .file("file-then-folder", "file")
        .directory("gone", 0o755)
        .file("gone/x", "x")
        .directory("back", 0o755)
        .file("back/old", "old")
        .file("setuid", "setuid");
    let second = Layer::new()
        .directory("data", 0o750)
        .file("data/.wh.gone", "")
        .file("data/deep/new", "new")
        .directory("opaque", 0o711)
        .file("opaque/.wh..wh..opq", "")
        .file("opaque/new", "new")
        .file("folder-then-file", "now a file")
        .directory("file-then-folder", 0o755)
        .file("file-then-folder/x", "x")
        .file(".wh.gone", "")
        .file(".wh.back", "");
    let third = Layer::new()
        .directory("back", 0o755)
        .file("back/new", "new")
        .directory("folder-then-file", 0o755)
        .file("folder-then-file/again", "again")
        .file("bin/.wh.same", "")
        .entry(b'6', "pipe", "", 0o640, b"")
        .entry(b'0', "setuid", "", 0o4755, b"newer");
    vec![first.bytes(), second.bytes(), third.bytes()]
}

/// What overlayfs makes of the layers, brought out of its mount namespace by GNU tar.
fn mounted(layers: &[PathBuf], dir: &Path) -> PathBuf {
    let script = "cd \"$1\" && mkdir upper work merged shown && \
                  mount -t overlay overlay -o \"lowerdir=$2,upperdir=upper,workdir=work,userxattr\" merged && \
                  tar -C merged --format=pax -cf - . | tar -C shown -xpf -";
    let lower: Vec<&str> = layers.iter().rev().map(|layer| layer.to_str().unwrap()).collect();
    let output = Command::new("unshare")
        .args(["-Urm", "sh", "-ec", script, "sh", dir.to_str().unwrap(), &lower.join(":")])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    dir.join("shown")
}

struct Extracted {
    dir: tempfile::TempDir,
    folders: Vec<PathBuf>,
}

impl Extracted {
    fn new(driver: Driver) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (payload, layers) = payload(&layers());
        let store = Store::open(&dir.path().join("data"), IdMapKind::Single, driver).unwrap();
        let folders = store.ensure(&payload, &layers, 2, &Silent).unwrap();
        Self { dir, folders }
    }

    fn copy(&self, name: &str, read_only: bool) -> (PathBuf, dpack_store::Copied) {
        let target = self.dir.path().join(name);
        fs::create_dir(&target).unwrap();
        let done = copy_layers(&self.folders, &target, read_only).unwrap();
        (target, done)
    }
}

#[test]
fn a_copy_is_what_overlayfs_shows() {
    let overlay = Extracted::new(Driver::Overlay);
    let shown = describe(&mounted(&overlay.folders, overlay.dir.path()));
    let extracted = Extracted::new(Driver::Copy);
    let (copy, done) = extracted.copy("copy", false);
    let mut copied = describe(&copy);
    // tar gives the root's own time to the folder that was made for it.
    assert_eq!(copied.remove(".").is_some(), shown.contains_key("."));
    let mut shown = shown;
    shown.remove(".");
    assert_eq!(copied, shown);
    assert!(shown.contains_key("back/new") && !shown.contains_key("back/old"), "{shown:?}");
    assert!(done.copied + done.shared > 0 && done.linked == 0, "{done:?}");
    // What is written to a copy is the copy's own.
    fs::write(copy.join("data/kept"), "changed").unwrap();
    assert_eq!(fs::read_to_string(extracted.folders[0].join("data/kept")).unwrap(), "kept");
}

#[test]
fn a_read_only_copy_takes_no_room() {
    let extracted = Extracted::new(Driver::Copy);
    let (copy, done) = extracted.copy("copy", true);
    assert_eq!((done.copied, done.shared), (0, 0), "{done:?}");
    let inode = |path: PathBuf| fs::metadata(path).unwrap().ino();
    assert_eq!(inode(copy.join("bin/tool")), inode(extracted.folders[0].join("bin/tool")));
    let again = extracted.copy("again", false).0;
    assert_ne!(inode(again.join("bin/tool")), inode(copy.join("bin/tool")));
    assert_eq!(describe(&copy)["data/kept"], describe(&again)["data/kept"]);
}

#[test]
fn no_link_of_a_layer_is_followed() {
    let extracted = Extracted::new(Driver::Copy);
    let outside = extracted.dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "outside").unwrap();
    // As no extraction would leave it.
    fs::remove_dir_all(extracted.folders[2].join("back")).unwrap();
    symlink(&outside, extracted.folders[2].join("back")).unwrap();
    let (copy, _) = extracted.copy("copy", false);
    assert_eq!(fs::read_link(copy.join("back")).unwrap(), outside);
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
}

/// 64 MiB of a file system whose files can share blocks, made by `mkfs.btrfs -M -m single -d single` (btrfs-progs 6.2).
const BTRFS: &[u8] = include_bytes!("support/btrfs.img.zst");

/// Mounts it, in a mount namespace of this thread's own: nothing is left when the thread ends. False where only root may, or
/// the kernel has no btrfs or no loop device.
fn mount_btrfs(image: &Path, at: &Path) -> bool {
    if !rustix::process::geteuid().is_root() {
        return false;
    }
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
    let content = zstd::decode_all(BTRFS).unwrap();
    let file = fs::File::create_new(image).unwrap();
    file.set_len(content.len() as u64).unwrap();
    for (number, block) in (0..).zip(content.chunks(4096)).filter(|(_, block)| block.iter().any(|b| *b != 0))
    {
        file.write_all_at(block, number * 4096).unwrap();
    }
    let script = "mount --make-rprivate / && mount -t btrfs -o loop \"$1\" \"$2\"";
    let mount = Command::new("sh").args(["-c", script, "sh"]).args([image, at]).status();
    mount.unwrap().success()
}

/// Bytes that are free, once everything is written.
fn free(folder: &Path) -> u64 {
    rustix::fs::syncfs(fs::File::open(folder).unwrap()).unwrap();
    let room = rustix::fs::statvfs(folder).unwrap();
    room.f_bfree * room.f_frsize
}

/// False where it cannot be tried.
fn share_blocks() -> bool {
    const SIZE: usize = 2 << 20;
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("mounted");
    fs::create_dir(&at).unwrap();
    if !mount_btrfs(&dir.path().join("image"), &at) {
        return false;
    }
    let (payload, layers) = payload(&[Layer::new().file("large", noise(5, SIZE)).file("small", "x").bytes()]);
    let store = Store::open(&at.join("data"), IdMapKind::Single, Driver::Copy).unwrap();
    let folders = store.ensure(&payload, &layers, 2, &Silent).unwrap();
    let before = free(&at);
    for name in ["one", "another"] {
        let target = at.join(name);
        fs::create_dir(&target).unwrap();
        let done = copy_layers(&folders, &target, false).unwrap();
        assert_eq!((done.copied, done.shared), (0, 2), "{done:?}");
    }
    assert!(before - free(&at) < SIZE as u64 / 4, "two copies take no room for their content");
    // What is written to a copy is the copy's own.
    fs::write(at.join("one/large"), "changed").unwrap();
    for unchanged in [at.join("another"), folders[0].clone()] {
        assert!(fs::read(unchanged.join("large")).unwrap() == noise(5, SIZE), "{}", unchanged.display());
    }
    true
}

#[test]
fn copies_share_blocks_where_the_file_system_can() {
    if !std::thread::spawn(share_blocks).join().unwrap() {
        eprintln!("skipped: no btrfs can be mounted here");
    }
}
