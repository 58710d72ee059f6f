//! Files of the project folder that travel in the executable, laid out where containers can mount them.
//!
//! ```text
//! <project>/files/<diff ID>/…      a copy of the layer, made once
//! ```
//!
//! An executable with other files has a folder of its own, so nothing is ever written into a folder that containers use: what
//! a container changed in a mount stays as long as the files it started from do, and a link that it put there leads nobody
//! astray. `down --volumes` removes them all.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use anyhow::{Context as _, Result};
use dpack_payload::digest::DiffId;
use dpack_store::Store;

use crate::failure::{Context as _, extracting};
use crate::paths::ProjectPaths;
use crate::payload::Executable;

/// Lays the files of a layer out unless they are there.
pub(crate) fn lay_out<'a>(
    layer: &DiffId,
    executable: impl FnOnce() -> Result<&'a Executable>,
    project: &ProjectPaths,
    store: &Store,
) -> Result<()> {
    let target = project.files(layer);
    if target.exists() {
        return Ok(());
    }
    let extracted = store.ensure(executable()?.payload(), &[*layer], super::threads(), &dpack_store::Silent);
    let extracted = extracting(extracted, || "failed to extract the project's files".to_owned())?;
    let layer = extracted.first().context("the layer of the project's files is gone")?;
    let folder = target.parent().context("the project's files have no folder")?;
    let attempt = || -> Result<()> {
        fs::create_dir_all(folder)?;
        let aside = new_folder(folder)?;
        let copied = copy(layer, &aside).and_then(|()| match fs::rename(&aside, &target) {
            // Somebody else was faster; theirs are the same.
            Err(error) if matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists) => {
                fs::remove_dir_all(&aside)
            }
            result => result,
        });
        if copied.is_err() {
            // The error that came first says more.
            let _ = fs::remove_dir_all(&aside);
        }
        copied?;
        Ok(File::open(folder)?.sync_all()?)
    };
    attempt()
        .with_context(|| format!("failed to lay out the project's files in `{}`", folder.display()))
        .environment()
}

/// A folder that no other process uses.
fn new_folder(folder: &Path) -> std::io::Result<std::path::PathBuf> {
    let aside = folder.join(format!(".new-{}", std::process::id()));
    match fs::remove_dir_all(&aside) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::create_dir(&aside)?;
    Ok(aside)
}

/// Copies folders, files and links; every file is on the disk before the folder gets its name.
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type()?;
        if kind.is_dir() {
            fs::create_dir(&target)?;
            copy(&source, &target)?;
        } else if kind.is_symlink() {
            symlink(fs::read_link(&source)?, &target)?;
        } else if kind.is_file() {
            fs::copy(&source, &target)?;
            let mode = fs::metadata(&source)?.permissions().mode() & 0o777;
            fs::set_permissions(&target, fs::Permissions::from_mode(mode | 0o200))?;
            File::open(&target)?.sync_all()?;
        }
    }
    File::open(to)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_copied() {
        let root = tempfile::tempdir().unwrap();
        let (from, to) = (root.path().join("from"), root.path().join("to"));
        fs::create_dir_all(from.join("sub")).unwrap();
        fs::create_dir(&to).unwrap();
        fs::write(from.join("sub/run"), "#!").unwrap();
        fs::set_permissions(from.join("sub/run"), fs::Permissions::from_mode(0o555)).unwrap();
        symlink("/etc/passwd", from.join("link")).unwrap();
        copy(&from, &to).unwrap();
        assert_eq!(fs::read_to_string(to.join("sub/run")).unwrap(), "#!");
        assert_eq!(fs::metadata(to.join("sub/run")).unwrap().permissions().mode() & 0o777, 0o755);
        assert_eq!(fs::read_link(to.join("link")).unwrap(), Path::new("/etc/passwd"));
    }
}
