//! Small files of ours: written aside and renamed, so that a reader sees the old or the new one, never half of one.

use std::fs::{self, File};
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::Path;

use anyhow::{Context as _, Result};
use dpack_sandbox::record::ProcessId;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::json;

/// No record of ours comes near this; a larger file is not ours.
const LARGEST: u64 = 16 << 20;

/// How long a file has to last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lasts {
    /// Until the machine stops: nobody waits for the disk.
    ThisBoot,
    /// Over a power cut: the bytes are on the disk before the name is.
    Always,
}

/// Writes `value` as JSON to `path`, to last.
pub(crate) fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    write_json_that(Lasts::Always, path, value)
}

/// Writes `value` as JSON to `path`.
pub(crate) fn write_json_that<T: Serialize>(lasts: Lasts, path: &Path, value: &T) -> Result<()> {
    let bytes =
        serde_json::to_vec(value).with_context(|| format!("failed to encode `{}`", path.display()))?;
    write(lasts, path, &bytes)
}

/// Writes a file that the user named, through a link if it is one. What is there and no file, such as `/dev/stdout`, is
/// written to as it is.
pub(crate) fn write_output(path: &Path, text: &str) -> Result<()> {
    if path.metadata().is_ok_and(|there| !there.is_file()) {
        return fs::write(path, text).with_context(|| format!("failed to write `{}`", path.display()));
    }
    let target = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    write(Lasts::Always, &target, text.as_bytes())
}

/// Writes `bytes` to `path` by way of a temporary file beside it.
fn write(lasts: Lasts, path: &Path, bytes: &[u8]) -> Result<()> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(format!(".{}.new", std::process::id()));
    let written = File::create(&aside)
        .and_then(|mut file| {
            file.write_all(bytes)?;
            if lasts == Lasts::Always { file.sync_data() } else { Ok(()) }
        })
        .and_then(|()| fs::rename(&aside, path));
    if written.is_err() {
        let _ = fs::remove_file(&aside);
    }
    written.with_context(|| format!("failed to write `{}`", path.display()))
}

/// Removes what writers that were killed left beside their files in `folder`, also when nobody has reaped them yet.
pub(crate) fn remove_leftovers(folder: &Path) -> Result<()> {
    let writer = |name: &str| name.strip_suffix(".new")?.rsplit_once('.')?.1.parse::<i32>().ok();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let writer = entry.file_name().to_str().and_then(writer);
        if writer.is_some_and(|pid| ProcessId::of(pid).is_none()) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

/// Reads JSON from `path`; nothing when there is no such file.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound || error.kind() == ErrorKind::NotADirectory => {
            return Ok(None);
        }
        Err(error) => return Err(error).with_context(|| format!("failed to open `{}`", path.display())),
    };
    let mut bytes = Vec::new();
    file.take(LARGEST)
        .read_to_end(&mut bytes)
        .with_context(|| format!("failed to read `{}`", path.display()))?;
    json::decode(&bytes).map(Some).with_context(|| format!("`{}` is damaged", path.display()))
}

/// Removes a file; it may be gone already.
pub(crate) fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("failed to remove `{}`", path.display()))
        }
        _ => Ok(()),
    }
}

/// Removes a folder and all in it; it may be gone already.
pub(crate) fn remove_tree(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("failed to remove `{}`", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        assert_eq!(read_json::<Vec<u8>>(&path).unwrap(), None);
        write_json(&path, &[1, 2]).unwrap();
        write_json(&path, &[3]).unwrap();
        assert_eq!(read_json::<Vec<u8>>(&path).unwrap(), Some(vec![3]));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        fs::write(&path, "[1,").unwrap();
        assert!(read_json::<Vec<u8>>(&path).unwrap_err().to_string().ends_with("is damaged"));
    }

    #[test]
    fn output_goes_through_links_and_into_pipes() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::os::unix::fs::symlink("target", path("link")).unwrap();
        write_output(&path("target"), "old").unwrap();
        write_output(&path("link"), "new").unwrap();
        assert_eq!(fs::read_to_string(path("target")).unwrap(), "new");
        assert!(path("link").is_symlink());
        nix::unistd::mkfifo(&path("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let mut pipe = File::options().read(true).write(true).open(path("pipe")).unwrap();
        write_output(&path("pipe"), "text").unwrap();
        let mut text = [0; 4];
        pipe.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"text");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3, "nothing is left beside");
    }

    #[test]
    fn leftovers_go_with_their_writers() {
        let folder = tempfile::tempdir().unwrap();
        let ours = format!("a.json.{}.new", std::process::id());
        // Ended, and not reaped.
        let mut writer = std::process::Command::new("true").spawn().unwrap();
        let options = rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT;
        let id = rustix::process::Pid::from_child(&writer);
        rustix::process::waitid(rustix::process::WaitId::Pid(id), options).unwrap();
        let ended = format!("a.json.{}.new", writer.id());
        // No process has a number beyond the kernel's limit of 2^22.
        for name in ["a.json", "b.new", "a.json.4194305.new", &ended, &ours] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        remove_leftovers(folder.path()).unwrap();
        writer.wait().unwrap();
        let entries = fs::read_dir(folder.path()).unwrap();
        let mut left: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        left.sort();
        assert_eq!(left, ["a.json", &ours, "b.new"]);
    }
}
