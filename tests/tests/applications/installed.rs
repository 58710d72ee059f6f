//! An application on a device: one file in a user's home folder, and what can be seen of it from outside.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dpack_tests::{Device, Output, wait_until};
use serde_json::Value;

/// Long enough for whatever ends by itself.
const PATIENCE: Duration = Duration::from_secs(20);

/// An executable in the home folder of a [`Device`].
#[derive(Debug)]
pub(crate) struct Installed {
    pub(crate) device: Device,
    pub(crate) executable: String,
}

/// A container in `ps -a`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) id: String,
    pub(crate) state: String,
    pub(crate) exit_code: i64,
}

impl Installed {
    /// Copies the executable to the device.
    pub(crate) fn on(device: Device, executable: &Path) -> Result<Self> {
        let executable = device.install(executable)?;
        Ok(Self { device, executable })
    }

    /// Runs the executable.
    pub(crate) fn run(&self, arguments: &[&str]) -> Result<Output> {
        self.device.run(&self.line(arguments))
    }

    /// Runs it; it has to succeed. Returns its standard output.
    pub(crate) fn ok(&self, arguments: &[&str]) -> Result<String> {
        let output = self.run(arguments)?.success();
        let output = output.with_context(|| format!("{arguments:?}; the supervisor:\n{}", self.log()))?;
        Ok(output.stdout)
    }

    /// The command line for these arguments.
    pub(crate) fn line<'a>(&'a self, arguments: &[&'a str]) -> Vec<&'a str> {
        [&[&*self.executable], arguments].concat()
    }

    /// Every container by name.
    pub(crate) fn ps(&self) -> Result<BTreeMap<String, Row>> {
        let rows = self.ok(&["ps", "-a", "--format", "json"])?;
        let row = |line: &str| {
            let row: Value = serde_json::from_str(line)?;
            let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
            let exit_code = row["ExitCode"].as_i64().unwrap_or(-1);
            Ok((text("Name"), Row { id: text("ID"), state: text("State"), exit_code }))
        };
        rows.lines().map(row).collect()
    }

    /// Every container's state by name.
    pub(crate) fn states(&self) -> Result<BTreeMap<String, String>> {
        Ok(self.ps()?.into_iter().map(|(name, row)| (name, row.state)).collect())
    }

    /// Whether every container runs, and how many there are.
    pub(crate) fn running(&self) -> Result<usize> {
        let states = self.states()?;
        ensure!(states.values().all(|state| state == "running"), "not all run: {states:?}\n{}", self.log());
        Ok(states.len())
    }

    /// What the supervisor had to say.
    pub(crate) fn log(&self) -> String {
        let folders = fs::read_dir(self.data().join("projects")).into_iter().flatten().flatten();
        folders.filter_map(|folder| fs::read_to_string(folder.path().join("supervisor.log")).ok()).collect()
    }

    /// The data folder, where `DPACK_DATA_DIR` does not say otherwise.
    pub(crate) fn data(&self) -> PathBuf {
        self.device.home().join(".local/share/dpack")
    }

    /// The processes of one role, such as `dpack-shim`.
    pub(crate) fn processes(&self, role: &str) -> Vec<u32> {
        let plays = |process: &u32| {
            let line = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
            line.split(|byte| *byte == 0).next() == Some(role.as_bytes())
        };
        self.device.processes().into_iter().filter(plays).collect()
    }

    /// What is started with this line inside containers, such as `httpd -f`.
    pub(crate) fn processes_with(&self, words: &str) -> Vec<u32> {
        let says = |process: &u32| {
            let line = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).replace('\0', " ").contains(words)
        };
        self.device.processes().into_iter().filter(says).collect()
    }

    /// Fetches a page from a published port, waiting until somebody answers.
    pub(crate) fn fetch(&self, port: u16) -> Result<String> {
        let mut page = String::new();
        let answered = wait_until(&format!("port {port} answers"), PATIENCE, || {
            page = get(port).unwrap_or_default();
            page.contains(" 200 ")
        });
        answered.with_context(|| format!("last answer: {page:?}; the supervisor:\n{}", self.log()))?;
        Ok(page.split_once("\r\n\r\n").map_or_else(String::new, |(_, body)| body.to_owned()))
    }

    /// Nothing of the project is left after `down -v`: no process, no mount, no file but the store and the executable.
    pub(crate) fn leaves_nothing(&self) -> Result<()> {
        let ended = wait_until("every process ends", PATIENCE, || self.device.processes().is_empty());
        ended.with_context(|| self.describe_processes())?;
        let home = self.device.home();
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let left: Vec<&str> = mounts.lines().filter(|line| line.contains(&*home.to_string_lossy())).collect();
        ensure!(left.is_empty(), "mounts are left: {left:?}");
        for folder in [self.data().join("projects"), self.device.runtime().join("dpack")] {
            let left = tree(&folder);
            ensure!(left.is_empty(), "left in `{}`: {left:?}", folder.display());
        }
        Ok(())
    }

    fn describe_processes(&self) -> String {
        let line = |process: u32| {
            let line = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
            format!("{process}: {}\n", String::from_utf8_lossy(&line).replace('\0', " "))
        };
        self.device.processes().into_iter().map(line).collect()
    }
}

/// All that lies under a folder and can be listed.
fn tree(folder: &Path) -> Vec<PathBuf> {
    let below = |name: String| {
        let path = folder.join(name);
        let deeper = if path.is_symlink() { Vec::new() } else { tree(&path) };
        std::iter::once(path).chain(deeper).collect::<Vec<_>>()
    };
    entries(folder).into_iter().flat_map(below).collect()
}

/// Names in a folder; none when there is no folder.
pub(crate) fn entries(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// A port that nobody has.
pub(crate) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Sends a signal, such as `KILL`.
pub(crate) fn signal(process: u32, name: &str) -> Result<()> {
    Output::of(Command::new("kill").args([&format!("-{name}"), &process.to_string()]))?.success()?;
    Ok(())
}

fn get(port: u16) -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
