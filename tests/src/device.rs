//! This machine as a device: an ordinary user with an empty home folder and nothing installed.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::output::Output;
use crate::programs::{find, is_root};

/// Has subordinate IDs, as `useradd` gives them.
const USER: &str = "dpack-test";
/// Has none.
const BARE_USER: &str = "dpack-test-bare";

/// An ordinary user of this machine. Each value has a home and a runtime folder of its own, and whatever still runs from
/// them ends with it.
#[derive(Debug)]
pub struct Device {
    folder: TempDir,
    /// `None`: we are an ordinary user ourselves.
    user: Option<&'static str>,
    environment: BTreeMap<String, String>,
}

impl Device {
    /// A user with subordinate IDs and `newuidmap`. As root it is the user `dpack-test`, made when it is not there; else
    /// the user that runs the tests.
    pub fn host() -> Result<Self> {
        Self::of_user(USER, &[])
    }

    /// A user without subordinate IDs: `newuidmap` is there and refuses. Needs root.
    pub fn host_without_subordinate_ids() -> Result<Self> {
        Self::of_user(BARE_USER, &["--key", "SUB_UID_COUNT=0", "--key", "SUB_GID_COUNT=0"])
    }

    fn of_user(name: &'static str, options: &[&str]) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("dpack-device-").tempdir()?;
        let user = is_root().then_some(name);
        let (home, runtime) = (folder.path().join("home"), folder.path().join("run"));
        fs::create_dir(&home)?;
        fs::create_dir(&runtime)?;
        fs::set_permissions(&runtime, fs::Permissions::from_mode(0o700))?;
        if let Some(user) = user {
            create_user(user, options)?;
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
            give(user, &[&home, &runtime])?;
        }
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let environment = BTreeMap::from([
            ("HOME".to_owned(), text(&home)),
            ("XDG_RUNTIME_DIR".to_owned(), text(&runtime)),
            ("PATH".to_owned(), "/usr/local/bin:/usr/bin:/bin".to_owned()),
            (
                "USER".to_owned(),
                user.map_or_else(|| std::env::var("USER").unwrap_or_default(), str::to_owned),
            ),
        ]);
        Ok(Self { folder, user, environment })
    }

    /// Nothing at all on the search path, `newuidmap` neither.
    pub fn without_programs(self) -> Self {
        let empty = self.folder.path().join("empty").to_string_lossy().into_owned();
        self.environment("PATH", &empty)
    }

    /// Sets an environment variable for everything that runs from now on.
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    /// The user's home folder; commands start in it.
    pub fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// The user's runtime folder.
    pub fn runtime(&self) -> PathBuf {
        self.folder.path().join("run")
    }

    /// Copies a file into the home folder, executable, and returns its path there.
    pub fn install(&self, file: &Path) -> Result<String> {
        let name = file.file_name().with_context(|| format!("`{}` has no name", file.display()))?;
        let copy = self.home().join(name);
        fs::copy(file, &copy).with_context(|| format!("failed to copy `{}`", file.display()))?;
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o755))?;
        if let Some(user) = self.user {
            give(user, &[&copy])?;
        }
        Ok(copy.to_string_lossy().into_owned())
    }

    /// Runs a command as the user and waits for it.
    pub fn run<S: AsRef<OsStr>>(&self, line: &[S]) -> Result<Output> {
        Output::of(&mut self.command(line)?)
    }

    /// Starts a command as the user, with pipes for its output.
    pub fn spawn<S: AsRef<OsStr>>(&self, line: &[S]) -> Result<Child> {
        let mut command = self.command(line)?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().with_context(|| format!("failed to start {:?}", line[0].as_ref()))
    }

    /// A command that runs as the user, for a test that wants to say more about it.
    pub fn command<S: AsRef<OsStr>>(&self, line: &[S]) -> Result<Command> {
        let mut command = match self.user {
            Some(user) => {
                let setpriv = find("setpriv").context("setpriv is not installed\nhint: cargo xtask setup")?;
                let mut command = Command::new(setpriv);
                command.args(["--reuid", user, "--regid", user, "--init-groups", "--"]).args(line);
                command
            }
            None => {
                let mut command = Command::new(line.first().context("no command")?);
                command.args(&line[1..]);
                command
            }
        };
        command.env_clear().envs(&self.environment).current_dir(self.home());
        Ok(command)
    }

    /// The processes that have something of this device: they were started from it, stand in it, or mount it.
    pub fn processes(&self) -> Vec<u32> {
        let folder = self.folder.path().as_os_str().as_encoded_bytes();
        let numbers = fs::read_dir("/proc").into_iter().flatten().flatten();
        numbers
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(|process| self.may_own(*process) && mentions(*process, folder))
            .collect()
    }

    /// Whatever is found here may be killed.
    fn may_own(&self, process: u32) -> bool {
        let ours = if self.user.is_none() { Tests::OfOrdinaryUser } else { Tests::OfRoot };
        ours.may_end(process, real_user(process))
    }
}

/// Who runs the tests.
#[derive(Clone, Copy)]
enum Tests {
    OfRoot,
    OfOrdinaryUser,
}

impl Tests {
    /// Never this test. Root could end everything: never what belongs to root, or to nobody can tell whom.
    fn may_end(self, process: u32, user: Option<u32>) -> bool {
        let allowed = match self {
            Tests::OfRoot => user.is_some_and(|user| user != 0),
            Tests::OfOrdinaryUser => true, // the kernel refuses what is not ours
        };
        process != std::process::id() && allowed
    }
}

fn real_user(process: u32) -> Option<u32> {
    // the owner of the folder in /proc is root for processes that may not be dumped (proc(5))
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Uid:")?.split_whitespace().next()?.parse().ok())
}

impl Drop for Device {
    fn drop(&mut self) {
        // a shim that ends may have a successor started; two rounds find it
        for _ in 0..2 {
            for process in self.processes() {
                let _ =
                    Command::new("kill").args(["-KILL", &process.to_string()]).stderr(Stdio::null()).status();
            }
        }
        // layers belong to subordinate IDs; an ordinary user cannot remove them without a user namespace
        if self.user.is_none() {
            let mut unshare = Command::new("unshare");
            unshare
                .args(["--map-root-user", "--map-auto", "rm", "-rf"])
                .arg(self.home())
                .stderr(Stdio::null());
            let _ = unshare.status();
        }
    }
}

fn mentions(process: u32, folder: &[u8]) -> bool {
    let contains = |text: &[u8]| text.windows(folder.len()).any(|window| window == folder);
    let process = PathBuf::from(format!("/proc/{process}"));
    ["exe", "cwd"].iter().any(|link| {
        fs::read_link(process.join(link)).is_ok_and(|path| contains(path.as_os_str().as_encoded_bytes()))
    }) || ["cmdline", "environ"]
        .iter()
        .any(|file| fs::read(process.join(file)).is_ok_and(|text| contains(&text)))
        || (has_own_mounts(&process) && fs::read(process.join("mountinfo")).is_ok_and(|text| contains(&text)))
}

/// A mount that is visible to us is visible to every process of the machine and says nothing about any of them.
fn has_own_mounts(process: &Path) -> bool {
    let namespace = |process: &Path| fs::read_link(process.join("ns/mnt"));
    match (namespace(process), namespace(Path::new("/proc/self"))) {
        (Ok(theirs), Ok(ours)) => theirs != ours,
        _ => false,
    }
}

/// Makes a user when it is not there. Tests run side by side; useradd itself refuses to run twice at once.
fn create_user(name: &str, options: &[&str]) -> Result<()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock();
    let exists = || {
        fs::read_to_string("/etc/passwd")
            .map(|users| users.lines().any(|line| line.starts_with(&format!("{name}:"))))
    };
    if exists()? {
        return Ok(());
    }
    let made = Output::of(Command::new("useradd").arg("--create-home").args(options).arg(name))?;
    // another test process may have been faster
    if exists()? { Ok(()) } else { made.success().map(|_| ()) }
}

fn give(user: &str, paths: &[&Path]) -> Result<()> {
    Output::of(Command::new("chown").arg(format!("{user}:{user}")).args(paths))?.success()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A guard that asked for less once sent SIGKILL as root to processes all over the machine.
    #[test]
    fn tests_of_root_end_nothing_of_root_and_nothing_unknown() {
        let us = std::process::id();
        for (tests, process, user, expected) in [
            (Tests::OfRoot, 1, Some(0), false),
            (Tests::OfRoot, us + 1, Some(0), false),
            (Tests::OfRoot, us + 1, None, false),
            (Tests::OfRoot, us, Some(1500), false),
            (Tests::OfRoot, us + 1, Some(1500), true),
            (Tests::OfOrdinaryUser, us, Some(1500), false),
            (Tests::OfOrdinaryUser, us + 1, Some(1500), true),
        ] {
            assert_eq!(tests.may_end(process, user), expected, "process {process} of {user:?}");
        }
        assert_eq!(real_user(us), Some(nix::unistd::getuid().as_raw()));
        assert_eq!(real_user(u32::MAX), None);
    }

    /// A process of root that names the folder, as a test of root does when it calls a program with a path in it.
    #[test]
    fn a_process_of_root_is_not_the_devices_even_if_it_names_its_folder() {
        if !is_root() {
            return; // nothing of root's can be ended by an ordinary user
        }
        let folder = tempfile::tempdir().unwrap();
        let device = Device { folder, user: Some(USER), environment: BTreeMap::new() };
        let mut child = Command::new("sleep").arg("60").current_dir(device.folder.path()).spawn().unwrap();
        assert!(mentions(child.id(), device.folder.path().as_os_str().as_encoded_bytes()));
        let found = device.processes();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(found, Vec::<u32>::new());
    }
}
