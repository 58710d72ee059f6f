//! A layer, entry by entry, as a tar (OCI image-spec, layer).

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use dpack_payload::digest::DiffId;
use tar::{EntryType, Header};

/// A layer that grows by one entry a call. Entries belong to 0:0 and have no date unless told otherwise.
#[derive(Clone, Debug, Default)]
pub struct Layer {
    tar: Vec<u8>,
    owner: (u64, u64),
}

impl Layer {
    /// No entries.
    pub fn new() -> Self {
        Self::default()
    }

    /// The entries that follow belong to this user and group.
    pub fn owner(mut self, user: u64, group: u64) -> Self {
        self.owner = (user, group);
        self
    }

    /// A regular file.
    pub fn file(self, path: &str, mode: u32, content: &[u8]) -> Self {
        let mut header = self.header(EntryType::Regular, mode);
        header.set_size(content.len() as u64);
        self.entry(header, path, None, content)
    }

    /// A folder.
    pub fn directory(self, path: &str, mode: u32) -> Self {
        let header = self.header(EntryType::Directory, mode);
        self.entry(header, path, None, &[])
    }

    /// A symbolic link at `path`.
    pub fn symlink(self, path: &str, target: &str) -> Self {
        let header = self.header(EntryType::Symlink, 0o777);
        self.entry(header, path, Some(target), &[])
    }

    /// Another name for the entry `target`.
    pub fn hard_link(self, path: &str, target: &str) -> Self {
        self.hard_link_with_mode(path, target, 0o644)
    }

    /// Whoever extracts a hard link may give its mode to the file (Docker does), so it has to be the file's.
    fn hard_link_with_mode(self, path: &str, target: &str, mode: u32) -> Self {
        let header = self.header(EntryType::Link, mode);
        self.entry(header, path, Some(target), &[])
    }

    /// A character device.
    pub fn character_device(self, path: &str, major: u32, minor: u32) -> Self {
        let mut header = self.header(EntryType::Char, 0o666);
        // the fields are there in every ustar and GNU header
        let _ = header.set_device_major(major).and_then(|()| header.set_device_minor(minor));
        self.entry(header, path, None, &[])
    }

    /// A pipe with a name.
    pub fn fifo(self, path: &str, mode: u32) -> Self {
        let header = self.header(EntryType::Fifo, mode);
        self.entry(header, path, None, &[])
    }

    /// Removes what lower layers have at `path` (OCI image-spec, layer, "Whiteouts").
    pub fn whiteout(self, path: &str) -> Self {
        let (folder, name) = path.rsplit_once('/').map_or(("", path), |(folder, name)| (folder, name));
        let separator = if folder.is_empty() { "" } else { "/" };
        self.file(&format!("{folder}{separator}.wh.{name}"), 0o644, &[])
    }

    /// Removes what lower layers have in the folder `path`.
    pub fn opaque(self, path: &str) -> Self {
        self.file(&format!("{path}/.wh..wh..opq"), 0o644, &[])
    }

    /// An entry whose header says it has `size` bytes of content and that has none: the archive ends there.
    pub fn truncated_file(self, path: &str, size: u64) -> Self {
        let mut header = self.header(EntryType::Regular, 0o644);
        header.set_size(size);
        self.entry(header, path, None, &[])
    }

    /// Extended attributes (as PAX records) for the entry that the next call adds.
    pub fn attributes(mut self, attributes: &[(&str, &[u8])]) -> Self {
        let records: Vec<u8> = attributes
            .iter()
            .flat_map(|(name, value)| pax_record(&format!("SCHILY.xattr.{name}"), value))
            .collect();
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::XHeader);
        header.set_size(records.len() as u64);
        put_name(&mut header, "pax");
        header.set_cksum();
        self.append(&header, &records);
        self
    }

    /// Everything in a folder, sorted by name. Owners are those set with [`owner`](Self::owner), dates are none; files with
    /// several names become hard links.
    pub fn tree(mut self, folder: &Path) -> Result<Self> {
        let mut seen = HashMap::new();
        for path in walk(folder)? {
            let metadata = fs::symlink_metadata(&path).with_context(|| path.display().to_string())?;
            let name = path.strip_prefix(folder)?.to_str().context("file name is not UTF-8")?.to_owned();
            self = self.tree_entry(&path, name, &metadata, &mut seen)?;
        }
        Ok(self)
    }

    fn tree_entry(
        self,
        path: &Path,
        name: String,
        metadata: &Metadata,
        seen: &mut HashMap<u64, String>,
    ) -> Result<Self> {
        let mode = metadata.mode() & 0o7777;
        if metadata.is_dir() {
            return Ok(self.directory(&name, mode));
        }
        if metadata.is_symlink() {
            let target = fs::read_link(path)?;
            return Ok(self.symlink(&name, target.to_str().context("link target is not UTF-8")?));
        }
        if let Some(first) = seen.get(&metadata.ino()) {
            return Ok(self.hard_link_with_mode(&name, first, mode));
        }
        let mut content = Vec::new();
        fs::File::open(path)?.read_to_end(&mut content)?;
        let layer = self.file(&name, mode, &content);
        if metadata.nlink() > 1 {
            seen.insert(metadata.ino(), name);
        }
        Ok(layer)
    }

    /// The finished tar.
    pub fn to_tar(&self) -> Vec<u8> {
        let mut tar = self.tar.clone();
        tar.resize(tar.len() + 1024, 0);
        tar
    }

    /// The digest of the finished tar.
    pub fn diff_id(&self) -> DiffId {
        DiffId::of(&self.to_tar())
    }

    fn header(&self, kind: EntryType, mode: u32) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(self.owner.0);
        header.set_gid(self.owner.1);
        header.set_mtime(0);
        header.set_size(0);
        header
    }

    /// Adds an entry with exactly this path: the `tar` crate would refuse `..` and absolute ones.
    fn entry(mut self, mut header: Header, path: &str, link: Option<&str>, content: &[u8]) -> Self {
        if path.len() > 100 {
            self.long_name(EntryType::GNULongName, path);
        }
        if let Some(link) = link {
            if link.len() > 100 {
                self.long_name(EntryType::GNULongLink, link);
            }
            let bytes = header.as_mut_bytes();
            let length = link.len().min(100);
            bytes[157..157 + length].copy_from_slice(&link.as_bytes()[..length]);
        }
        put_name(&mut header, path);
        header.set_cksum();
        self.append(&header, content);
        self
    }

    fn long_name(&mut self, kind: EntryType, name: &str) {
        let mut header = self.header(kind, 0o644);
        let content = [name.as_bytes(), b"\0"].concat();
        header.set_size(content.len() as u64);
        put_name(&mut header, "././@LongLink");
        header.set_cksum();
        self.append(&header, &content);
    }

    fn append(&mut self, header: &Header, content: &[u8]) {
        self.tar.extend_from_slice(header.as_bytes());
        self.tar.extend_from_slice(content);
        self.tar.resize(self.tar.len().next_multiple_of(512), 0);
    }
}

fn put_name(header: &mut Header, name: &str) {
    let length = name.len().min(100);
    header.as_mut_bytes()[..length].copy_from_slice(&name.as_bytes()[..length]);
}

/// `<length of the whole record> <key>=<value>\n` (POSIX.1-2001, pax).
fn pax_record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length += 1;
    }
    [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
}

/// Every path below a folder, parents first, sorted.
fn walk(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    let entries = fs::read_dir(folder).with_context(|| format!("failed to read `{}`", folder.display()))?;
    let mut children = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    children.sort();
    for child in children {
        let is_folder = fs::symlink_metadata(&child)?.is_dir();
        paths.push(child.clone());
        if is_folder {
            paths.extend(walk(&child)?);
        }
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_back_as_they_were_written() {
        let long = "d/".repeat(70) + "file";
        let layer = Layer::new()
            .owner(999, 998)
            .directory("data", 0o750)
            .file(&long, 0o4755, b"content")
            .file("../outside", 0o644, b"x")
            .symlink("/absolute", "../../etc")
            .hard_link("again", &long)
            .whiteout("etc/passwd")
            .attributes(&[("security.capability", b"\x01\0")])
            .file("ping", 0o755, b"");
        let tar = layer.to_tar();
        let mut archive = tar::Archive::new(&tar[..]);
        let mut found = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
            let link = entry.link_name_bytes().map(|link| String::from_utf8(link.into_owned()).unwrap());
            assert_eq!((entry.header().uid().unwrap(), entry.header().gid().unwrap()), (999, 998));
            if path == "ping" {
                let record = entry.pax_extensions().unwrap().unwrap().next().unwrap().unwrap();
                assert_eq!(record.key().unwrap(), "SCHILY.xattr.security.capability");
                assert_eq!(record.value_bytes(), b"\x01\0");
            }
            found.push((path, link));
        }
        let paths: Vec<&str> = found.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(paths, ["data", &long, "../outside", "/absolute", "again", "etc/.wh.passwd", "ping"]);
        assert_eq!(found[3].1.as_deref(), Some("../../etc"));
        assert_eq!(found[4].1.as_deref(), Some(&*long));
    }
}
