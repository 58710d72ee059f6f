//! Refusing layers that no device should unpack.
//!
//! The device protects itself: it resolves every path inside the new root. But an image that tries is found out here, by
//! name, before it is packed. Absolute names stay: old tools wrote them, and they mean the same without the slash.

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom};
use std::path::{Component, Path};

/// Longest name; Linux opens none that is longer (PATH_MAX).
const NAME_LIMIT: usize = 4096;

/// What is wrong with an entry of a layer.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// Not a tar file, or one that ends early.
    #[error("it is not a valid tar file: {0}")]
    Tar(io::Error),
    /// A name that leads out of the root.
    #[error("entry `{0}` leads outside the image by `..`")]
    Outside(String),
    /// A hard link to something outside the root.
    #[error("entry `{entry}` is a hard link to `{target}`, outside the image")]
    LinkOutside {
        /// The entry.
        entry: String,
        /// What it links to.
        target: String,
    },
    /// A name that no file can have.
    #[error("entry `{0}…` has a name of more than {NAME_LIMIT} bytes")]
    LongName(String),
    /// A size that is not there.
    #[error("entry `{entry}` says it has {size} bytes, more than the layer")]
    Size {
        /// The entry.
        entry: String,
        /// Its size.
        size: u64,
    },
}

/// Walks the headers of a layer's tar, of `length` bytes. File bodies are skipped, not read.
pub(super) fn check(mut tar: &File, length: u64) -> Result<(), CheckError> {
    tar.seek(SeekFrom::Start(0)).map_err(CheckError::Tar)?;
    let mut archive = tar::Archive::new(tar);
    for entry in archive.entries_with_seek().map_err(CheckError::Tar)? {
        let entry = entry.map_err(CheckError::Tar)?;
        let bytes = entry.path_bytes();
        let name = || String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
        if bytes.len() > NAME_LIMIT {
            return Err(CheckError::LongName(name()));
        }
        if leads_outside(&bytes) {
            return Err(CheckError::Outside(name()));
        }
        let (size, kind) = (entry.size(), entry.header().entry_type());
        // Of a sparse file it is the size with its holes.
        if !kind.is_gnu_sparse() && entry.raw_file_position().checked_add(size).is_none_or(|end| end > length)
        {
            return Err(CheckError::Size { entry: name(), size });
        }
        if kind.is_hard_link()
            && let Some(target) = entry.link_name_bytes()
            && leads_outside(&target)
        {
            let target = String::from_utf8_lossy(&target[..target.len().min(200)]).into_owned();
            return Err(CheckError::LinkOutside { entry: name(), target });
        }
    }
    Ok(())
}

/// True when `..` goes above the start; `a/../b` does not.
fn leads_outside(name: &[u8]) -> bool {
    let name = String::from_utf8_lossy(name);
    let mut depth = 0_usize;
    for component in Path::new(&*name).components() {
        match component {
            Component::Normal(_) => depth += 1,
            Component::ParentDir if depth == 0 => return true,
            Component::ParentDir => depth -= 1,
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn header(name: &str, size: u64) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        // `set_path` refuses what we want to test.
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(size);
        header.set_cksum();
        header
    }

    fn run(headers: &[tar::Header]) -> Result<(), CheckError> {
        let mut file = tempfile::tempfile().unwrap();
        for header in headers {
            file.write_all(header.as_bytes()).unwrap();
        }
        file.write_all(&[0; 1024]).unwrap();
        let length = file.metadata().unwrap().len();
        check(&file, length)
    }

    #[test]
    fn names_must_stay_inside() {
        for good in ["etc/passwd", "/etc/passwd", "./a/../b", "..a/b", "a..", ""] {
            assert!(run(&[header(good, 0)]).is_ok(), "{good}");
        }
        for bad in ["../etc/passwd", "a/../../b", "/../b", "./..", ".."] {
            let error = run(&[header(bad, 0)]).unwrap_err();
            assert!(error.to_string().contains(bad), "{error}");
        }
    }

    #[test]
    fn hard_links_must_stay_inside_and_symlinks_may_point_anywhere() {
        let link = |kind| {
            let mut header = header("a", 0);
            header.set_entry_type(kind);
            header.set_link_name_literal("../../etc/shadow").unwrap();
            header.set_cksum();
            header
        };
        assert!(run(&[link(tar::EntryType::Symlink)]).is_ok());
        let error = run(&[link(tar::EntryType::Link)]).unwrap_err().to_string();
        assert!(error.contains("../../etc/shadow"), "{error}");
    }

    #[test]
    fn a_size_beyond_the_layer_is_refused() {
        let error = run(&[header("huge", 1 << 40)]).unwrap_err().to_string();
        assert!(error.contains("`huge`") && error.contains("1099511627776"), "{error}");
    }
}
