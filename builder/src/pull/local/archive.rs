//! Random access to the members of a tar file, without unpacking it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom};
use std::path::{Component, Path, PathBuf};

use crate::pull::Error;

/// Most members of an archive: an image of 500 layers has fewer than 2000.
const MEMBER_LIMIT: usize = 100_000;
/// Longest chain of links to a member.
const LINK_LIMIT: usize = 8;

/// A tar file and where its members are.
pub(super) struct Archive {
    path: PathBuf,
    members: BTreeMap<String, Member>,
}

enum Member {
    File { offset: u64, size: u64 },
    Link(String),
}

impl Archive {
    /// Reads the headers of the tar file at `path`.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let read = |source| Error::Read { path: path.to_owned(), source };
        let bad = |reason: String| Error::Local { path: path.to_owned(), reason };
        let mut file = File::open(path).map_err(read)?;
        let mut magic = [0; 4];
        let count = file.read(&mut magic).map_err(read)?;
        if magic[..count].starts_with(&[0x1f, 0x8b]) || magic[..count] == [0x28, 0xb5, 0x2f, 0xfd] {
            return Err(bad("is compressed; decompress it first, as with gunzip or unzstd".to_owned()));
        }
        file.seek(SeekFrom::Start(0)).map_err(read)?;
        let length = file.metadata().map_err(read)?.len();
        let mut members = BTreeMap::new();
        let mut tar = tar::Archive::new(file);
        // What the reader says of a header quotes the file's bytes.
        let not_tar = |_: io::Error| bad("is not a tar file, or is damaged".to_owned());
        for entry in tar.entries_with_seek().map_err(not_tar)? {
            let entry = entry.map_err(not_tar)?;
            if members.len() == MEMBER_LIMIT {
                return Err(bad(format!("has more than {MEMBER_LIMIT} members")));
            }
            let name = entry.path().map_err(not_tar)?;
            let Some(name) = normalise(&name) else { continue };
            let kind = entry.header().entry_type();
            if kind.is_file() {
                let (offset, size) = (entry.raw_file_position(), entry.size());
                if offset.checked_add(size).is_none_or(|end| end > length) {
                    return Err(bad(format!("ends in the middle of `{name}`")));
                }
                members.insert(name, Member::File { offset, size });
            } else if kind.is_symlink() || kind.is_hard_link() {
                // Old versions of docker save link equal layers to each other.
                let Some(target) = entry.link_name().map_err(not_tar)? else { continue };
                let base = if kind.is_symlink() { Path::new(&name).parent() } else { None };
                let target = base.map_or_else(|| target.to_path_buf(), |base| base.join(&target));
                if let Some(target) = normalise(&target) {
                    members.insert(name, Member::Link(target));
                }
            }
        }
        Ok(Self { path: path.to_owned(), members })
    }

    /// A reader of one member and its size.
    pub(super) fn member(&self, name: &str) -> io::Result<Option<(io::Take<File>, u64)>> {
        let Some(mut name) = normalise(Path::new(name)) else { return Ok(None) };
        for _ in 0..LINK_LIMIT {
            match self.members.get(&name) {
                None => return Ok(None),
                Some(Member::Link(target)) => name.clone_from(target),
                Some(&Member::File { offset, size }) => {
                    let mut file = File::open(&self.path)?;
                    file.seek(SeekFrom::Start(offset))?;
                    return Ok(Some((file.take(size), size)));
                }
            }
        }
        Ok(None)
    }
}

/// `./a/../b` becomes `b`; names that lead outside the archive, or are no text, become nothing.
fn normalise(path: &Path) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => drop(parts.pop()?),
            Component::Normal(part) => parts.push(part.to_str()?),
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(build: impl FnOnce(&mut tar::Builder<File>)) -> (tempfile::TempDir, Result<Archive, Error>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tar");
        let mut builder = tar::Builder::new(File::create(&path).unwrap());
        build(&mut builder);
        builder.finish().unwrap();
        let archive = Archive::open(&path);
        (folder, archive)
    }

    fn add(builder: &mut tar::Builder<File>, name: &str, data: &[u8]) {
        let mut header = tar::Header::new_gnu();
        header.set_size(data.len() as u64);
        builder.append_data(&mut header, name, data).unwrap();
    }

    fn link(builder: &mut tar::Builder<File>, name: &str, target: &str) {
        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        header.set_entry_type(tar::EntryType::Symlink);
        builder.append_link(&mut header, name, target).unwrap();
    }

    #[test]
    fn what_is_no_tar_file_is_not_quoted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tar");
        std::fs::write(&path, "root:x:0:0:root:/root:/bin/bash\n".repeat(40)).unwrap();
        let error = Archive::open(&path).err().unwrap().to_string();
        assert!(error.ends_with("`: is not a tar file, or is damaged"), "{error}");
    }

    #[test]
    fn members_are_found_through_links_inside_the_archive_only() {
        let (_folder, archive) = archive(|builder| {
            add(builder, "one/layer.tar", b"data");
            link(builder, "two/layer.tar", "../one/layer.tar");
            link(builder, "loop", "loop");
            link(builder, "out", "../../etc/passwd");
            link(builder, "absolute", "/etc/passwd");
        });
        let archive = archive.unwrap();
        let read = |name: &str| {
            archive.member(name).unwrap().map(|(mut reader, _)| {
                let mut text = String::new();
                reader.read_to_string(&mut text).unwrap();
                text
            })
        };
        assert_eq!(read("two/layer.tar").as_deref(), Some("data"));
        assert_eq!(read("./one/layer.tar").as_deref(), Some("data"));
        for name in ["loop", "out", "absolute", "none", "../one/layer.tar", "/etc/passwd"] {
            assert_eq!(read(name), None, "{name}");
        }
    }

    #[test]
    fn a_truncated_or_compressed_archive_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tar");
        let mut builder = tar::Builder::new(File::create(&path).unwrap());
        add(&mut builder, "file", &[7; 4096]);
        builder.finish().unwrap();
        File::options().write(true).open(&path).unwrap().set_len(1024).unwrap();
        assert!(Archive::open(&path).is_err());

        std::fs::write(&path, [0x1f, 0x8b, 8, 0]).unwrap();
        let Err(error) = Archive::open(&path) else { panic!() };
        assert!(error.to_string().contains("compressed"), "{error}");
    }
}
