//! Containers for tests: a busybox root, run by an ordinary user (a temporary one when the tests run as root).

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

const USER: &str = "dpack-sandbox-test";
const APPLETS: [&str; 31] = [
    "cat", "chmod", "chown", "cmp", "cp", "dd", "echo", "env", "find", "grep", "hostname", "id", "ip",
    "kill", "ln", "ls", "mkdir", "mknod", "mount", "ps", "pwd", "readlink", "rm", "sh", "sleep", "stat",
    "stty", "true", "touch", "tty", "wc",
];

/// Both kinds of ID map.
pub(crate) const MAPS: [&str; 2] = ["full", "single"];

/// A folder that the user owns, the program in it, and an image layer.
pub(crate) struct Host {
    dir: tempfile::TempDir,
}

/// A container's folder.
pub(crate) struct Container<'a> {
    host: &'a Host,
    pub(crate) dir: PathBuf,
    pub(crate) map: &'static str,
    config: Value,
}

impl Host {
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("dpack-sandbox-").tempdir_in("/tmp").unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let host = Host { dir };
        let program = std::env::current_exe().unwrap().parent().unwrap().with_file_name("examples/role_host");
        fs::copy(&program, host.program()).unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        for folder in ["bin", "dev", "etc", "proc", "sys", "tmp"] {
            fs::create_dir_all(host.layer().join(folder)).unwrap();
        }
        fs::copy(busybox(), host.layer().join("bin/busybox")).unwrap();
        for applet in APPLETS {
            symlink("busybox", host.layer().join("bin").join(applet)).unwrap();
        }
        fs::write(host.layer().join("etc/passwd"), "root:x:0:0::/:/bin/sh\nwww:x:33:33::/:/bin/sh\n")
            .unwrap();
        host.give_away();
        host
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn program(&self) -> PathBuf {
        self.dir.path().join("role_host")
    }

    /// The image's only layer.
    pub(crate) fn layer(&self) -> PathBuf {
        self.dir.path().join("layer")
    }

    /// What root made becomes the user's.
    pub(crate) fn give_away(&self) {
        if is_root() {
            let status = Command::new("chown")
                // What is the user's already keeps its time of change, by which files of the image are told apart.
                .args(["-Rh", "--from=0", &format!("{}:", user())])
                .arg(self.dir.path())
                .status()
                .unwrap();
            assert!(status.success());
        }
    }

    /// `role_host` as the user.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = if is_root() {
            let mut command = Command::new("setpriv");
            command.args(["--reuid", user(), "--regid", user(), "--init-groups"]).arg(self.program());
            command
        } else {
            Command::new(self.program())
        };
        command.args(arguments).current_dir("/");
        command
    }

    pub(crate) fn container<'a>(&'a self, map: &'static str, name: &str, args: &[&str]) -> Container<'a> {
        let dir = self.dir.path().join(format!("{name}-{map}"));
        for folder in ["upper", "work", "rootfs"] {
            fs::create_dir_all(dir.join(folder)).unwrap();
        }
        let config = config(&dir, &self.layer(), args);
        Container { host: self, dir, map, config }
    }
}

/// Before the process ID in the name of a folder that was handed over.
const HANDED_OVER: &str = "dpack-test-";

/// The controllers of version 1, each mounted alone, of which the user was given a folder; removed with this value.
pub(crate) struct HandedOver(Vec<PathBuf>);

impl HandedOver {
    /// How many groups with this in their name there are for each controller, in whichever folder of the user.
    pub(crate) fn groups(&self, name: &str) -> Vec<usize> {
        let names = |folder: PathBuf| {
            // another run may remove its own meanwhile
            fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.file_name())
        };
        let groups = |controller: &PathBuf| {
            let all = handed_over(controller).into_iter().flat_map(|(_, folder)| names(folder));
            all.filter(|entry| entry.to_string_lossy().contains(name)).count()
        };
        self.0.iter().map(groups).collect()
    }
}

impl Drop for HandedOver {
    fn drop(&mut self) {
        for controller in &self.0 {
            remove_groups(&controller.join(format!("{HANDED_OVER}{}", std::process::id())));
        }
    }
}

/// What was handed over of a controller: process ID of the test, folder.
fn handed_over(controller: &Path) -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(controller).unwrap().flatten();
    let pid = |entry: &fs::DirEntry| Some(entry.file_name().to_str()?.strip_prefix(HANDED_OVER)?.to_owned());
    entries.filter_map(|entry| Some((pid(&entry)?, entry.path()))).collect()
}

/// Removes a group and those in it, as far as no process is in them.
fn remove_groups(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_groups(&entry.path());
        }
    }
    let _ = fs::remove_dir(folder);
}

impl Host {
    /// As an administrator does: one folder for each controller. None where that cannot be done.
    pub(crate) fn hand_over_control_groups(&self) -> Option<HandedOver> {
        let mut controllers = Vec::new();
        for controller in ["memory", "pids", "freezer"] {
            let mount = Path::new("/sys/fs/cgroup").join(controller);
            if !is_root() || !mount.join("cgroup.procs").exists() {
                return None;
            }
            for (pid, leftover) in handed_over(&mount) {
                if !Path::new("/proc").join(pid).exists() {
                    remove_groups(&leftover);
                }
            }
            let folder = mount.join(format!("{HANDED_OVER}{}", std::process::id()));
            fs::create_dir_all(&folder).unwrap();
            let status = Command::new("chown").args(["-R", user()]).arg(&folder).status().unwrap();
            assert!(status.success());
            controllers.push(mount);
        }
        Some(HandedOver(controllers))
    }
}

impl Container<'_> {
    /// Sets a value in config.json by its JSON pointer.
    pub(crate) fn set(mut self, pointer: &str, value: Value) -> Self {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        self.config.pointer_mut(parent).unwrap()[key.replace("~1", "/")] = value;
        self
    }

    pub(crate) fn mount(mut self, mount: Value) -> Self {
        self.config["mounts"].as_array_mut().unwrap().push(mount);
        self
    }

    fn write(&self) -> &str {
        fs::write(self.dir.join("config.json"), self.config.to_string()).unwrap();
        self.host.give_away();
        self.dir.to_str().unwrap()
    }

    /// In the foreground.
    pub(crate) fn run(&self) -> Output {
        self.host.command(&["enter", self.map, "run", self.write()]).output().unwrap()
    }

    /// Runs, expects success; standard output.
    pub(crate) fn output(&self) -> String {
        text(&self.run())
    }

    /// By a shim; (shim, PID 1).
    pub(crate) fn start(&self) -> (i32, i32) {
        let output = text(&self.host.command(&["enter", self.map, "start", self.write()]).output().unwrap());
        let mut numbers = output.split_whitespace().map(|number| number.parse().unwrap());
        (numbers.next().unwrap(), numbers.next().unwrap())
    }

    /// By a shim; the command that would start it.
    pub(crate) fn start_command(&self, verb: &str) -> Command {
        self.host.command(&["enter", self.map, verb, self.write()])
    }

    pub(crate) fn exec(&self, user: &str, command: &[&str]) -> Output {
        let dir = self.dir.to_str().unwrap();
        self.host.command(&[&["exec", dir, user], command].concat()).output().unwrap()
    }

    pub(crate) fn signal(&self, name: &str) {
        let output = self.host.command(&["signal", self.dir.to_str().unwrap(), name]).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "not delivered: {output:?}");
    }

    pub(crate) fn state(&self) -> String {
        text(&self.host.command(&["state", self.dir.to_str().unwrap()]).output().unwrap())
    }

    pub(crate) fn wait_for_state(&self, wanted: &str) -> String {
        eventually(&format!("state {wanted}"), || Some(self.state()).filter(|state| state.contains(wanted)))
    }

    /// `stream: line` of each line of log.json.
    pub(crate) fn log(&self) -> Vec<String> {
        let text = fs::read_to_string(self.dir.join("log.json")).unwrap_or_default();
        let line = |line: &str| {
            let value: Value = serde_json::from_str(line).unwrap();
            format!("{}: {}", value["stream"].as_str().unwrap(), value["log"].as_str().unwrap())
        };
        text.lines().map(line).collect()
    }
}

/// Whatever is left must not outlive the test.
impl Drop for Container<'_> {
    fn drop(&mut self) {
        if let Ok(text) = fs::read_to_string(self.dir.join("running.json"))
            && !self.dir.join("exit.json").exists()
        {
            let value: Value = serde_json::from_str(&text).unwrap();
            let _ = Command::new("kill").args(["-9", &value["init"]["pid"].to_string()]).output();
            if !std::thread::panicking() {
                eventually("end", || (!self.state().starts_with("Running")).then_some(()));
            }
        }
    }
}

pub(crate) fn text(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) fn errors(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

pub(crate) fn eventually<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = attempt() {
            return value;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn user() -> &'static str {
    static USER_MADE: OnceLock<()> = OnceLock::new();
    USER_MADE.get_or_init(|| {
        let exists = Command::new("id").arg(USER).output().unwrap().status.success();
        if !exists {
            let made = Command::new("useradd").args(["--create-home", USER]).output().unwrap();
            assert!(made.status.success(), "useradd: {made:?}");
        }
    });
    USER
}

fn busybox() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap();
    let found = std::env::split_paths(&path).map(|folder| folder.join("busybox")).find(|file| file.exists());
    let found = found.expect("busybox is needed: apt-get install busybox-static");
    let program = fs::read(&found).unwrap();
    let is_dynamic = program.windows(8).any(|window| window == b"/ld-linu" || window == b"/ld-musl");
    assert!(!is_dynamic, "{} is not static: apt-get install busybox-static", found.display());
    found
}

fn config(dir: &Path, layer: &Path, args: &[&str]) -> Value {
    let capabilities: Vec<String> = [
        "CHOWN",
        "DAC_OVERRIDE",
        "FSETID",
        "FOWNER",
        "MKNOD",
        "NET_RAW",
        "SETGID",
        "SETUID",
        "SETFCAP",
        "SETPCAP",
        "NET_BIND_SERVICE",
        "SYS_CHROOT",
        "KILL",
        "AUDIT_WRITE",
    ]
    .iter()
    .map(|name| format!("CAP_{name}"))
    .collect();
    let mount = |target: &str, kind: &str, options: &[&str]| json!({"destination": target, "type": kind, "source": kind, "options": options});
    let namespaces = ["mount", "pid", "network", "ipc", "uts", "cgroup"].map(|kind| json!({"type": kind}));
    json!({
        "ociVersion": "1.2.0",
        "process": {
            "args": args,
            "env": ["PATH=/bin", "OWN=yes"],
            "cwd": "/",
            "user": {"uid": 0, "gid": 0},
            "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
        },
        "root": {"path": "rootfs"},
        "hostname": "box",
        "mounts": [
            mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
            mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
            mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
            mount("/sys/fs/cgroup", "cgroup", &["nosuid", "noexec", "nodev", "ro"]),
            mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
            mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
        ],
        "linux": {
            "namespaces": namespaces,
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/acpi", "/sys/firmware", "/proc/none"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
        "annotations": {
            "dev.dpack.layers": json!([layer]).to_string(),
            "dev.dpack.upper": dir.join("upper"),
            "dev.dpack.work": dir.join("work"),
        },
    })
}
