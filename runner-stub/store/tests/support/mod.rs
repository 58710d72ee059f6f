//! Layers, payloads of them, and what a folder looks like.

#![allow(dead_code, reason = "each test program uses a part of it")]
#![allow(clippy::unwrap_used, reason = "helpers of tests, which clippy does not recognise as such")]

use std::collections::BTreeMap;
use std::fs;
use std::io::Cursor;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use dpack_payload::application::Application;
use dpack_payload::digest::{DiffId, Digest};
use dpack_payload::write::{LayerRecipe, Level, PayloadWriter, Place, compress_frame, plan_frames, split};
use dpack_payload::{Payload, ReadAt as _};

/// A tar, entry by entry, with anything in it that a header can hold.
#[derive(Default)]
pub(crate) struct Layer {
    tar: Vec<u8>,
    pax: Vec<u8>,
}

impl Layer {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn directory(self, path: &str, mode: u32) -> Self {
        self.entry(b'5', path, "", mode, b"")
    }

    pub(crate) fn file(self, path: &str, content: impl AsRef<[u8]>) -> Self {
        self.entry(b'0', path, "", 0o644, content.as_ref())
    }

    pub(crate) fn symlink(self, path: &str, target: &str) -> Self {
        self.entry(b'2', path, target, 0o777, b"")
    }

    pub(crate) fn hard_link(self, path: &str, target: &str) -> Self {
        self.entry(b'1', path, target, 0o644, b"")
    }

    /// A PAX record for the next entry.
    pub(crate) fn pax(mut self, key: &str, value: &[u8]) -> Self {
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while length != rest + length.to_string().len() {
            length = rest + length.to_string().len();
        }
        self.pax.extend([format!("{length} {key}=").as_bytes(), value, b"\n"].concat());
        self
    }

    pub(crate) fn entry(self, kind: u8, path: &str, target: &str, mode: u32, content: &[u8]) -> Self {
        self.raw(kind, path, target, content, |header| header.set_mode(mode))
    }

    pub(crate) fn raw(
        mut self,
        kind: u8,
        path: &str,
        target: &str,
        content: &[u8],
        change: impl FnOnce(&mut tar::Header),
    ) -> Self {
        let pax = std::mem::take(&mut self.pax);
        if !pax.is_empty() {
            self = self.block(b'x', "pax", "", &pax, |_| {});
        }
        self.block(kind, path, target, content, change)
    }

    fn block(
        mut self,
        kind: u8,
        path: &str,
        target: &str,
        content: &[u8],
        change: impl FnOnce(&mut tar::Header),
    ) -> Self {
        let mut header = tar::Header::new_ustar();
        let old = header.as_old_mut();
        old.name[..path.len()].copy_from_slice(path.as_bytes());
        old.linkname[..target.len()].copy_from_slice(target.as_bytes());
        header.set_entry_type(tar::EntryType::new(kind));
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000_000);
        header.set_size(content.len() as u64);
        change(&mut header);
        header.set_cksum();
        self.tar.extend(header.as_bytes());
        self.tar.extend(content);
        self.tar.resize(self.tar.len().next_multiple_of(512), 0);
        self
    }

    pub(crate) fn bytes(mut self) -> Vec<u8> {
        self.tar.extend([0; 1024]);
        self.tar
    }
}

/// Some bytes that do not compress and are never the same for two seeds.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    })
    .take(length)
    .collect()
}

/// A payload of layers, and their diff IDs.
pub(crate) fn payload(tars: &[Vec<u8>]) -> (Payload<Vec<u8>>, Vec<DiffId>) {
    let level = Level::new(1).unwrap();
    let recipes: Vec<LayerRecipe> = tars.iter().map(|tar| split(tar.as_slice()).unwrap()).collect();
    let mut writer = PayloadWriter::new(Cursor::new(Vec::new()), None, level).unwrap();
    for plan in plan_frames(&recipes, level) {
        let frame = compress_frame(&plan, |chunk, buffer| {
            let number = recipes.iter().position(|recipe| recipe.diff_id == chunk.source.layer).unwrap();
            match chunk.source.place {
                Place::Skeleton(offset) => recipes[number].skeleton.read_exact_at(buffer, offset),
                Place::Tar(offset) => tars[number].read_exact_at(buffer, offset),
            }
        })
        .unwrap();
        writer.frame(&plan, &frame).unwrap();
    }
    let mut layers = Vec::new();
    for recipe in &recipes {
        if !layers.contains(&recipe.diff_id) {
            writer.layer(recipe).unwrap();
        }
        layers.push(recipe.diff_id);
    }
    let application = Application {
        name: "test".into(),
        compose: Default::default(),
        environment: BTreeMap::new(),
        images: Vec::new(),
        builder: "test".into(),
    };
    let (out, _) = writer.finish(&application).unwrap();
    (Payload::open(out.into_inner()).unwrap(), layers)
}

/// Everything below a folder, one line each: kind, mode, owner, size, time, links, content or target.
pub(crate) fn describe(root: &Path) -> BTreeMap<String, String> {
    let mut lines = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    let name =
        |path: &Path| String::from_utf8_lossy(path.strip_prefix(root).unwrap().as_os_str().as_bytes()).into();
    lines.insert(".".to_owned(), line(root));
    while let Some(folder) = folders.pop() {
        let mut paths: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        for path in paths {
            let name: String = name(&path);
            if fs::symlink_metadata(&path).unwrap().is_dir() {
                folders.push(path.clone());
            }
            lines.insert(name.clone(), line(&path));
        }
    }
    // The first name in the alphabet stands for the inode, whatever the order was.
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    for (name, line) in &lines {
        let inode = line.split(' ').next().unwrap().to_owned();
        names.entry(inode).or_insert_with(|| name.clone());
    }
    lines
        .into_iter()
        .map(|(name, line)| {
            let (inode, rest) = line.split_once(' ').unwrap();
            let first = &names[inode];
            let link = if *first == name { String::new() } else { format!(" = {first}") };
            (name, format!("{rest}{link}"))
        })
        .collect()
}

fn line(path: &Path) -> String {
    let metadata = fs::symlink_metadata(path).unwrap();
    let kind = metadata.file_type();
    let content = if kind.is_symlink() {
        format!("-> {}", fs::read_link(path).unwrap().display())
    } else if kind.is_file() {
        format!("{} {}", metadata.len(), Digest::of(&fs::read(path).unwrap()).hex())
    } else if kind.is_char_device() {
        format!("device {}", metadata.rdev())
    } else if kind.is_fifo() {
        "fifo".to_owned()
    } else {
        String::new()
    };
    format!(
        "{} {:o} {}:{} {}.{:09} {content}",
        metadata.ino(),
        metadata.mode(),
        metadata.uid(),
        metadata.gid(),
        metadata.mtime(),
        metadata.mtime_nsec()
    )
}
