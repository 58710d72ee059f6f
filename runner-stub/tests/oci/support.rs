//! A bundle with busybox in it, and the OCI runtime command line of the runner that Cargo built.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Folders of states and bundles; what still runs from them ends with this value.
pub(crate) struct Runtime {
    dir: tempfile::TempDir,
}

/// A bundle and the container of the same name.
pub(crate) struct Bundle<'a> {
    runtime: &'a Runtime,
    pub(crate) id: String,
    config: Value,
}

/// How a command of the runtime ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) ok: bool,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    pub(crate) fn success(self) -> Result<String, String> {
        if self.ok { Ok(self.out) } else { Err(self.err) }
    }

    /// Fails unless the command failed.
    pub(crate) fn failure(self) -> Result<String, String> {
        if self.ok { Err(format!("no error: {}", self.out)) } else { Ok(self.err) }
    }
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

impl Runtime {
    pub(crate) fn new() -> Self {
        let runtime = Runtime { dir: tempfile::tempdir().unwrap() };
        let rootfs = runtime.path("rootfs");
        for folder in ["bin", "dev", "etc", "proc", "sys", "tmp", "data"] {
            fs::create_dir_all(rootfs.join(folder)).unwrap();
        }
        let busybox =
            ["/bin/busybox", "/usr/bin/busybox"].map(Path::new).into_iter().find(|path| path.exists());
        let busybox = busybox.expect("busybox is there: apt-get install busybox-static");
        fs::copy(busybox, rootfs.join("bin/busybox")).unwrap();
        for name in [
            "cat", "cut", "echo", "env", "grep", "head", "hostname", "id", "ls", "mkdir", "mknod", "mount",
            "pwd", "readlink", "rm", "sh", "sleep", "sort", "stat", "stty", "test", "touch", "true", "tty",
            "umount", "wc",
        ] {
            symlink("busybox", rootfs.join("bin").join(name)).unwrap();
        }
        fs::write(rootfs.join("data/from-image"), "from the image\n").unwrap();
        runtime
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The runtime with these arguments.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dpack-runner"));
        command.arg("oci").arg("--root").arg(self.path("state")).args(arguments).stdin(Stdio::null());
        command
    }

    pub(crate) fn oci(&self, arguments: &[&str]) -> Ended {
        let output = self.command(arguments).output().unwrap();
        Ended {
            ok: output.status.success(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// A bundle whose command is a script; the namespaces and mounts are those that every engine asks for.
    pub(crate) fn bundle(&self, script: &str) -> Bundle<'_> {
        static NUMBER: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let id = format!("dpack-oci-{}-{number}", std::process::id());
        fs::create_dir(self.path(&id)).unwrap();
        Bundle { runtime: self, id, config: config(&self.path("rootfs"), script) }
    }
}

fn config(rootfs: &Path, script: &str) -> Value {
    let capabilities =
        ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_KILL", "CAP_NET_BIND_SERVICE", "CAP_SETGID", "CAP_SETUID"];
    let mount = |target: &str, kind: &str, options: &[&str]| json!({"destination": target, "type": kind, "source": kind, "options": options});
    let kinds = ["mount", "pid", "network", "ipc", "uts", "cgroup"];
    let mut namespaces: Vec<Value> = kinds.iter().map(|kind| json!({"type": kind})).collect();
    let mut linux = json!({
        "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
        "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
    });
    if !is_root() {
        namespaces.push(json!({"type": "user"}));
        let map = |id: u32| json!([{"containerID": 0, "hostID": id, "size": 1}]);
        linux["uidMappings"] = map(rustix::process::geteuid().as_raw());
        linux["gidMappings"] = map(rustix::process::getegid().as_raw());
    }
    linux["namespaces"] = json!(namespaces);
    json!({
        "ociVersion": "1.2.0",
        "process": {
            "args": ["/bin/sh", "-c", script],
            "env": ["PATH=/bin"],
            "cwd": "/",
            "user": {"uid": 0, "gid": 0},
            "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
            "noNewPrivileges": true,
        },
        "root": {"path": rootfs},
        "hostname": "box",
        "mounts": [
            mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
            mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]),
            mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
            mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
        ],
        "linux": linux,
    })
}

impl Bundle<'_> {
    /// Sets a value by its JSON pointer; parents are made.
    pub(crate) fn set(mut self, pointer: &str, value: Value) -> Self {
        let mut place = &mut self.config;
        for key in pointer.trim_start_matches('/').split('/') {
            place = &mut place[key.replace("~1", "/")];
        }
        *place = value;
        self
    }

    /// Adds to a list by its JSON pointer.
    pub(crate) fn push(mut self, pointer: &str, value: Value) -> Self {
        let list = self.config.pointer_mut(pointer).unwrap().as_array_mut().unwrap();
        list.push(value);
        self
    }

    /// Takes elements out of a list by its JSON pointer.
    pub(crate) fn without(mut self, pointer: &str, unwanted: impl Fn(&Value) -> bool) -> Self {
        self.config.pointer_mut(pointer).unwrap().as_array_mut().unwrap().retain(|value| !unwanted(value));
        self
    }

    pub(crate) fn dir(&self) -> PathBuf {
        self.runtime.path(&self.id)
    }

    /// What the container wrote.
    pub(crate) fn output(&self) -> String {
        fs::read_to_string(self.dir().join("output")).unwrap_or_default()
    }

    pub(crate) fn create(&self) -> Ended {
        self.create_with(&[])
    }

    pub(crate) fn create_with(&self, options: &[&str]) -> Ended {
        self.create_through(r#"exec "$@""#, options)
    }

    /// By a shell script that gets the command as its arguments.
    pub(crate) fn create_through(&self, script: &str, options: &[&str]) -> Ended {
        let dir = self.dir();
        fs::write(dir.join("config.json"), self.config.to_string()).unwrap();
        let (output, errors) = (dir.join("output"), dir.join("errors"));
        let runtime = self.runtime.command(&["create", "--bundle"]);
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script, "sh"]).arg(runtime.get_program()).args(runtime.get_args());
        command.arg(&dir).args(options).arg(&self.id).stdin(Stdio::null());
        command.stdout(File::create(output).unwrap()).stderr(File::create(&errors).unwrap());
        let status = command.status().unwrap();
        Ended { ok: status.success(), out: String::new(), err: fs::read_to_string(errors).unwrap() }
    }

    pub(crate) fn start(&self) -> Ended {
        self.runtime.oci(&["start", &self.id])
    }

    pub(crate) fn kill(&self, signal: &str) -> Ended {
        self.runtime.oci(&["kill", &self.id, signal])
    }

    pub(crate) fn delete(&self) -> Ended {
        self.runtime.oci(&["delete", &self.id])
    }

    pub(crate) fn state(&self) -> Result<Value, String> {
        let text = self.runtime.oci(&["state", &self.id]).success()?;
        serde_json::from_str(&text).map_err(|error| error.to_string())
    }

    pub(crate) fn status(&self) -> String {
        self.state().map_or_else(|_| "none".to_owned(), |state| state["status"].as_str().unwrap().to_owned())
    }

    pub(crate) fn wait_for(&self, status: &str) -> Result<(), String> {
        let begin = Instant::now();
        while self.status() != status {
            if begin.elapsed() > Duration::from_secs(30) {
                return Err(format!("{} instead of {status}", self.status()));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// From create to delete: what it wrote, on both streams.
    pub(crate) fn run(&self) -> Result<String, String> {
        self.create().success()?;
        self.start().success()?;
        self.wait_for("stopped")?;
        self.delete().success()?;
        Ok(self.output() + &fs::read_to_string(self.dir().join("errors")).unwrap())
    }
}

impl Drop for Bundle<'_> {
    fn drop(&mut self) {
        self.runtime.oci(&["delete", "--force", &self.id]);
    }
}

/// Waits until something is so.
pub(crate) fn eventually(what: &str, so: impl Fn() -> bool) {
    let begin = Instant::now();
    while !so() {
        assert!(begin.elapsed() < Duration::from_secs(30), "not within 30 s: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Gone, or waiting to be reaped by somebody else.
pub(crate) fn has_ended(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_none_or(|rest| rest.is_empty() || rest.starts_with('Z'))
}
