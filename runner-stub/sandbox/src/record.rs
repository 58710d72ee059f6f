//! What a shim leaves on disk: `running.json` at start, `exit.json` at the end.
//!
//! A state is a function of these and `/proc`: nobody has to be alive to tell it. A process ID is taken for a process only
//! together with its start time and the boot.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{Error, stat};

const RUNNING: &str = "running.json";
const EXIT: &str = "exit.json";

/// A process that cannot be mistaken for a later one with the same number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// Number in the host's PID namespace.
    pub pid: i32,
    /// Field 22 of `/proc/PID/stat`: clock ticks since boot.
    pub start_time: u64,
}

/// `running.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// The container's PID 1.
    pub init: ProcessId,
    /// Its parent.
    pub shim: ProcessId,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    /// RFC 3339.
    pub started_at: String,
}

/// `exit.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Exit status; 128 + signal when a signal ended it; 126 or 127 when it could not be executed.
    pub code: i32,
    /// The signal that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// The kernel killed one of its processes because the container was out of memory.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub oom_killed: bool,
    /// Why it could not be executed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// RFC 3339.
    pub started_at: String,
    /// RFC 3339.
    pub finished_at: String,
}

/// State of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Not started yet.
    Created,
    /// PID 1 is alive.
    Running(Running),
    /// It ended and the shim saw it.
    Exited(Exit),
    /// It was running, and neither it nor a record of its end is there: the shim was killed, or the machine went down.
    Dead(Running),
}

/// State by the records and `/proc`; needs nobody alive.
pub fn state(container_dir: &Path) -> Result<State, Error> {
    if let Some(exit) = read(&container_dir.join(EXIT))? {
        return Ok(State::Exited(exit));
    }
    let Some(running) = read::<Running>(&container_dir.join(RUNNING))? else { return Ok(State::Created) };
    if running.boot_id == boot_id() && running.init.is_alive() {
        return Ok(State::Running(running));
    }
    // The shim writes the exit between the two looks, unless it is gone too.
    if running.boot_id == boot_id() && running.shim.is_alive() {
        for _ in 0..50 {
            if let Some(exit) = read(&container_dir.join(EXIT))? {
                return Ok(State::Exited(exit));
            }
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }
    // Once more: it may have written and ended between the looks.
    Ok(read(&container_dir.join(EXIT))?.map_or(State::Dead(running), State::Exited))
}

impl ProcessId {
    /// The live process `pid`; none when there is none.
    pub fn of(pid: i32) -> Option<Self> {
        let (state, start_time) = stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?;
        (!matches!(state, 'Z' | 'X')).then_some(ProcessId { pid, start_time })
    }

    /// Whether this very process is alive (a zombie is not). The boot has to be the same.
    pub fn is_alive(&self) -> bool {
        Self::of(self.pid).as_ref() == Some(self)
    }
}

/// State (field 3) and start time (field 22) of `/proc/PID/stat`.
pub(crate) fn stat(text: &str) -> Option<(char, u64)> {
    Some((stat::state(text)?, stat::field(text, 19)?.parse().ok()?))
}

impl Running {
    /// Of a PID 1 and this process, its parent.
    pub(crate) fn of(init: i32) -> Option<Self> {
        Some(Running {
            init: ProcessId::of(init)?,
            shim: ProcessId::of(std::process::id().cast_signed())?,
            boot_id: boot_id(),
            started_at: crate::time::now(),
        })
    }

    pub(crate) fn write(&self, container_dir: &Path) -> Result<(), Error> {
        write(container_dir, RUNNING, self)
    }
}

impl Exit {
    /// Of a status that PID 1 ended with.
    pub(crate) fn of(code: i32, signal: Option<i32>, started_at: &str) -> Self {
        Exit {
            code,
            signal,
            oom_killed: false,
            error: None,
            started_at: started_at.to_owned(),
            finished_at: crate::time::now(),
        }
    }

    pub(crate) fn write(&self, container_dir: &Path) -> Result<(), Error> {
        write(container_dir, EXIT, self)
    }
}

/// How long a shim whose supervisor died may take to notice that nobody will say "start".
const ABANDONED: Duration = Duration::from_secs(10);

/// Makes this process the only one that runs the container, until it ends. Waits for an earlier shim that has not yet ended:
/// its container has, or was never started because its supervisor died. Forgets the earlier run.
pub(crate) fn claim(container_dir: &Path) -> Result<OwnedFd, Error> {
    let failed = |source: io::Error| Error::Read { path: container_dir.to_owned(), source };
    let folder = OwnedFd::from(fs::File::open(container_dir).map_err(failed)?);
    let begin = Instant::now();
    loop {
        match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => break,
            Err(Errno::WOULDBLOCK) => match state(container_dir)? {
                State::Created if begin.elapsed() < ABANDONED => thread::sleep(Duration::from_millis(10)),
                State::Created | State::Running(_) => {
                    return Err(Error::AlreadyRunning { container_dir: container_dir.to_owned() });
                }
                _ => {
                    let wait = || flock(&folder, FlockOperation::LockExclusive);
                    rustix::io::retry_on_intr(wait).map_err(|e| failed(e.into()))?;
                    break;
                }
            },
            Err(error) => return Err(failed(error.into())),
        }
    }
    clear(container_dir)?;
    Ok(folder)
}

fn clear(container_dir: &Path) -> Result<(), Error> {
    for name in [EXIT, RUNNING] {
        let path = container_dir.join(name);
        match fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(Error::Write { path, source }),
        }
    }
    Ok(())
}

pub(crate) fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    match fs::read(path) {
        Ok(text) => match serde_json::from_slice(&text) {
            Ok(value) => Ok(Some(value)),
            // Renamed into place but not yet on disk when the power went: as good as none.
            Err(_) if text.is_empty() => Ok(None),
            Err(source) => Err(Error::Parse { path: path.to_owned(), source }),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Read { path: path.to_owned(), source }),
    }
}

/// Written aside and renamed: a reader sees the old one or the new one.
fn write<T: Serialize>(container_dir: &Path, name: &str, value: &T) -> Result<(), Error> {
    let path = container_dir.join(name);
    let aside = container_dir.join(format!(".{name}.new"));
    let attempt = || {
        fs::write(&aside, serde_json::to_vec(value)?)?;
        fs::rename(&aside, &path)
    };
    attempt().map_err(|source: io::Error| Error::Write { path: path.clone(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_lines_with_odd_names() {
        let line = "7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4242 9 9";
        assert_eq!(stat(line), Some(('S', 4242)));
        assert_eq!(stat("7 (a"), None);
    }

    #[test]
    fn state_follows_the_records() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(state(dir.path()).unwrap(), State::Created);
        let own = Running::of(std::process::id().cast_signed()).unwrap();
        own.write(dir.path()).unwrap();
        assert_eq!(state(dir.path()).unwrap(), State::Running(own.clone()));

        let reused = ProcessId { start_time: own.init.start_time + 1, ..own.init.clone() };
        let dead = Running { init: reused.clone(), shim: reused, ..own.clone() };
        dead.write(dir.path()).unwrap();
        assert_eq!(state(dir.path()).unwrap(), State::Dead(dead));
        let other_boot = Running { boot_id: "another".to_owned(), ..own.clone() };
        other_boot.write(dir.path()).unwrap();
        assert_eq!(state(dir.path()).unwrap(), State::Dead(other_boot));

        let exit = Exit::of(137, Some(9), &own.started_at);
        exit.write(dir.path()).unwrap();
        assert_eq!(state(dir.path()).unwrap(), State::Exited(exit));
        clear(dir.path()).unwrap();
        assert_eq!(state(dir.path()).unwrap(), State::Created);
    }
}
