//! Working directory and command.

use std::ffi::{CString, OsStr};
use std::io;

use nix::libc;

use crate::Error;
use crate::spec::Process;
use crate::sys::{self, CStringArray};

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Changes directory and checks that it is inside the root (CVE-2024-21626: `/proc/self/fd/N` of a leaked descriptor).
pub(super) fn enter_directory(path: &str) -> Result<(), Error> {
    let failed = |source: io::Error| Error::WorkingDirectory { path: path.to_owned(), source };
    rustix::process::chdir(path).map_err(|e| failed(e.into()))?;
    let here = rustix::process::getcwd(Vec::new()).map_err(|e| failed(e.into()))?;
    // getcwd(2) puts `(unreachable)` in front of a directory outside the root.
    if here.as_bytes().starts_with(b"/") {
        Ok(())
    } else {
        Err(failed(io::Error::other("it is outside the container")))
    }
}

/// Executes `args`, searched in `PATH` inside the container as execvp(3) does. Returns only on failure.
pub(super) fn execute(process: &Process) -> Error {
    let Some(command) = process.args.first() else { return Error::NotFound { command: String::new() } };
    let cannot = |source: io::Error| Error::NotExecutable { command: command.clone(), source };
    let null_byte = || cannot(io::Error::new(io::ErrorKind::InvalidInput, "a null byte in an argument"));
    let Some(arguments) = CStringArray::new(&process.args) else { return null_byte() };
    let Some(environment) = CStringArray::new(&process.env) else { return null_byte() };

    let mut denied = None;
    for candidate in candidates(command, &process.env) {
        let Ok(path) = CString::new(candidate.clone()) else { return null_byte() };
        let error = sys::execute(&path, &arguments, &environment);
        match error.raw_os_error() {
            Some(libc::ENOENT) if exists(&candidate) => return cannot(missing_interpreter(&candidate)),
            Some(libc::ENOENT | libc::ENOTDIR) => {}
            Some(libc::EACCES) => denied = Some(error),
            _ => return cannot(error),
        }
    }
    denied.map_or_else(|| Error::NotFound { command: command.clone() }, cannot)
}

/// A command with a slash is a path; else it is looked for in each folder of `PATH`.
fn candidates(command: &str, environment: &[String]) -> Vec<String> {
    if command.contains('/') || command.is_empty() {
        return vec![command.to_owned()];
    }
    let path = environment.iter().rev().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH);
    // An empty entry means the working directory to a shell; nobody means that.
    path.split(':').filter(|folder| !folder.is_empty()).map(|folder| format!("{folder}/{command}")).collect()
}

fn exists(path: &str) -> bool {
    rustix::fs::access(OsStr::new(path), rustix::fs::Access::EXISTS).is_ok()
}

/// The kernel says "no such file" of the program when it means its interpreter or its dynamic linker.
fn missing_interpreter(path: &str) -> io::Error {
    let start = std::fs::File::open(path).and_then(|mut file| {
        let mut start = [0_u8; 128];
        let length = io::Read::read(&mut file, &mut start)?;
        Ok(String::from_utf8_lossy(&start[..length]).into_owned())
    });
    match start.ok().as_deref().and_then(|text| text.strip_prefix("#!")) {
        Some(line) => {
            let interpreter = line.lines().next().unwrap_or_default().trim();
            io::Error::new(
                io::ErrorKind::NotFound,
                format!("its interpreter `{interpreter}` is not in the image"),
            )
        }
        None => io::Error::new(io::ErrorKind::NotFound, "its dynamic linker is not in the image"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_looked_for_as_a_shell_does() {
        let path = vec!["A=1".to_owned(), "PATH=/a::/b".to_owned()];
        assert_eq!(candidates("x", &path), ["/a/x", "/b/x"]);
        assert_eq!(candidates("./x", &path), ["./x"]);
        assert_eq!(candidates("x", &[]).first().map(String::as_str), Some("/usr/local/sbin/x"));
    }
}
