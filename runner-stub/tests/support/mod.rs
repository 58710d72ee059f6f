//! An application made of busybox, as one executable: the runner that Cargo built, with a payload behind it.
#![allow(dead_code, reason = "each test uses some of it")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "these are tests, though not in a function marked so"
)]

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::Cursor;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use dpack_payload::ReadAt as _;
use dpack_payload::application::{Application, Image, PROJECT_FILES, PROJECT_PATHS};
use dpack_payload::digest::Digest;
use dpack_payload::platform::Platform;
use dpack_payload::write::{Level, PayloadWriter, Place, compress_frame, plan_frames, split};
use serde_json::{Value, json};

/// The image's config; `VOLUME /data`, so that every container has an anonymous volume.
const CONFIG: &str = r#"{"architecture":"","os":"linux","rootfs":{"type":"layers","diff_ids":[]},
    "config":{"Env":["PATH=/bin"],"Cmd":["sh"],"Volumes":{"/data":{}}}}"#;

/// An executable with its own data folder, both gone when it is dropped.
pub(crate) struct App {
    folder: tempfile::TempDir,
    executable: PathBuf,
    /// Run as if the kernel were an old one.
    old_kernel: bool,
    /// A process in whose network namespace it runs.
    device: Option<u32>,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl App {
    /// An application with these services; `image` is put into each.
    pub(crate) fn new(services: Value) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(folder.path().join("run")).unwrap();
        let executable = folder.path().join("app");
        // With the variable a whole suite can be run so.
        let old_kernel = std::env::var_os("DPACK_TEST_OLD_KERNEL").is_some();
        let app = Self { folder, executable, old_kernel, device: None };
        app.replace(services);
        app
    }

    /// An application with this Compose file, beside which these files lie.
    pub(crate) fn with_files(content: Value, files: &BTreeMap<String, String>) -> Self {
        let app = Self::new(json!({}));
        for (path, text) in files {
            let path = app.path(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        app.replace_all(content, files, &[]);
        app
    }

    /// Puts a version in the executable's place with which these files of the project folder travel.
    pub(crate) fn replace_travelling(&self, services: Value, travelling: &[(&str, &str)]) {
        self.replace_all(json!({"services": services}), &BTreeMap::new(), travelling);
    }

    /// Puts another version of the application in the executable's place.
    pub(crate) fn replace(&self, services: Value) {
        self.replace_all(json!({"services": services, "volumes": {"kept": null}}), &BTreeMap::new(), &[]);
    }

    fn replace_all(&self, content: Value, files: &BTreeMap<String, String>, travelling: &[(&str, &str)]) {
        let mut bytes = fs::read(env!("CARGO_BIN_EXE_dpack-runner")).unwrap();
        bytes.extend(payload(content, files, travelling));
        let aside = self.folder.path().join("app.new");
        fs::write(&aside, bytes).unwrap();
        fs::set_permissions(&aside, Permissions::from_mode(0o755)).unwrap();
        fs::rename(&aside, &self.executable).unwrap();
    }

    /// Runs as if the kernel were Linux 4.19 from here on (`examples/old_kernel.rs`).
    pub(crate) fn on_an_old_kernel(mut self) -> Self {
        self.old_kernel = true;
        self
    }

    /// Runs in the network namespace of this process from here on.
    pub(crate) fn on_the_device_of(mut self, process: u32) -> Self {
        self.device = Some(process);
        self
    }

    /// A path in the folder of the executable.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    /// The executable, to be run with these arguments.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = match (self.device, self.old_kernel) {
            (Some(device), _) => {
                let mut command = Command::new("nsenter");
                command.args(["--target", &device.to_string(), "--net"]).arg(&self.executable);
                command
            }
            (None, true) => {
                let program = std::env::current_exe().unwrap();
                let mut command =
                    Command::new(program.parent().unwrap().with_file_name("examples/old_kernel"));
                command.arg(&self.executable);
                command
            }
            (None, false) => Command::new(&self.executable),
        };
        command.args(arguments).env_clear().stdin(Stdio::null()).current_dir(self.folder.path());
        command.env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin").env("HOME", self.folder.path());
        command.env("DPACK_DATA_DIR", self.path("data")).env("XDG_RUNTIME_DIR", self.path("run"));
        command
    }

    /// Runs the executable.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        self.run_with(arguments, &BTreeMap::new())
    }

    /// Runs it with these variables. Another thread that starts a program holds the freshly written executable open for a
    /// moment, so that it may be busy.
    pub(crate) fn run_with(&self, arguments: &[&str], variables: &BTreeMap<String, String>) -> Ended {
        loop {
            match self.command(arguments).envs(variables).output() {
                Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                output => return ended(output.unwrap()),
            }
        }
    }

    /// Runs it, and it has to succeed.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let ended = self.run(arguments);
        assert_eq!(ended.code, Some(0), "{arguments:?}: {ended:#?}\n{}", self.supervisor_log());
        ended.out
    }

    /// `ps -a`, by container name.
    pub(crate) fn ps(&self) -> BTreeMap<String, Value> {
        let lines = self.ok(&["ps", "-a", "--format", "json"]);
        let rows = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        rows.map(|row| (row["Name"].as_str().unwrap().to_owned(), row)).collect()
    }

    /// State of a container; empty when there is none.
    pub(crate) fn state(&self, container: &str) -> String {
        self.ps().get(container).map_or_else(String::new, |row| row["State"].as_str().unwrap().to_owned())
    }

    /// Whether containers have more users than one here.
    pub(crate) fn has_many_ids(&self) -> bool {
        let doctor: Value = serde_json::from_str(&self.ok(&["doctor", "--format", "json"])).unwrap();
        let check = doctor["checks"].as_array().unwrap().iter().find(|check| check["name"] == "user IDs");
        check.unwrap()["verdict"] == "ok"
    }

    /// What the supervisor wrote.
    pub(crate) fn supervisor_log(&self) -> String {
        fs::read_to_string(self.path("data/projects/test/supervisor.log")).unwrap_or_default()
    }

    /// PID of the supervisor, if one lives.
    pub(crate) fn supervisor(&self) -> Option<i32> {
        let data = self.path("data");
        let ours = |pid: &i32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).into_owned();
            line.starts_with("dpack-supervisor\0") && line.contains(data.to_str().unwrap())
        };
        let pids = fs::read_dir("/proc").unwrap().flatten();
        pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).find(ours)
    }

    /// Kills the supervisor as the kernel's out-of-memory killer would.
    pub(crate) fn kill_supervisor(&self) {
        let pid = self.supervisor().expect("a supervisor lives");
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        eventually("the supervisor is gone", || self.supervisor().is_none());
    }
}

impl Drop for App {
    fn drop(&mut self) {
        let _ = self.run_with(&["--profile", "*", "down", "-v", "-t", "0"], &BTreeMap::new());
    }
}

/// Waits until something is so.
pub(crate) fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !so() {
        assert!(begin.elapsed() < Duration::from_secs(60), "not within a minute: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The letter of proc_pid_stat(5); nothing for a process that is gone.
pub(crate) fn process_state(pid: i32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Waits for the end of a process that was killed: until then, what it belongs to runs.
pub(crate) fn dies(pid: i32) {
    eventually("it has died", || matches!(process_state(pid), None | Some('Z')));
}

pub(crate) fn ended(output: Output) -> Ended {
    Ended {
        code: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn payload(mut content: Value, texts: &BTreeMap<String, String>, travelling: &[(&str, &str)]) -> Vec<u8> {
    let services = content["services"].as_object_mut().unwrap();
    let names: Vec<String> = services.keys().cloned().collect();
    for service in services.values_mut().filter_map(Value::as_object_mut) {
        service.insert("image".to_owned(), json!("busybox"));
        service.entry("stop_grace_period").or_insert(json!("2s"));
    }
    let compose = json!({"version": 1, "folder": "test", "environment": [], "texts": texts,
        "layers": [{"file": "compose.yml", "content": content}]});
    let level = Level::new(1).unwrap();
    let tars = [busybox(), files(travelling)];
    let tars = if travelling.is_empty() { &tars[..1] } else { &tars[..] };
    let recipes: Vec<_> = tars.iter().map(|tar| split(tar.as_slice()).unwrap()).collect();
    let mut writer = PayloadWriter::new(Cursor::new(Vec::new()), None, level).unwrap();
    for plan in plan_frames(&recipes, level) {
        let frame = compress_frame(&plan, |chunk, buffer| {
            let number = recipes.iter().position(|recipe| recipe.diff_id == chunk.source.layer).unwrap();
            match chunk.source.place {
                Place::Skeleton(offset) => recipes[number].skeleton.read_exact_at(buffer, offset),
                Place::Tar(offset) => tars[number].read_exact_at(buffer, offset),
            }
        });
        writer.frame(&plan, &frame.unwrap()).unwrap();
    }
    for recipe in &recipes {
        writer.layer(recipe).unwrap();
    }
    let mut images = vec![Image {
        reference: "busybox".to_owned(),
        services: names,
        platform: Platform::new("linux", std::env::consts::ARCH, None),
        digest: Digest::of(b"manifest"),
        config: CONFIG.to_owned(),
        layers: vec![recipes[0].diff_id],
    }];
    if let Some(recipe) = recipes.get(1) {
        let paths: Vec<&str> = travelling.iter().filter_map(|(path, _)| path.split('/').next()).collect();
        images.push(Image {
            reference: PROJECT_FILES.to_owned(),
            services: Vec::new(),
            digest: Digest::of(b"files"),
            config: json!({"config": {"Labels": {PROJECT_PATHS: json!(paths).to_string()}}}).to_string(),
            layers: vec![recipe.diff_id],
            ..images[0].clone()
        });
        // The same files above the file system of busybox.
        images.push(Image {
            reference: "layered".to_owned(),
            layers: vec![recipes[0].diff_id, recipe.diff_id],
            ..images[0].clone()
        });
    }
    let application = Application {
        name: "test".to_owned(),
        compose,
        environment: BTreeMap::new(),
        images,
        builder: "test".to_owned(),
    };
    writer.finish(&application).unwrap().0.into_inner()
}

/// A layer with these files.
fn files(files: &[(&str, &str)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, path, content.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap()
}

/// A root file system with Debian's static busybox.
fn busybox() -> Vec<u8> {
    let path = ["/bin/busybox", "/usr/bin/busybox"].map(Path::new).into_iter().find(|path| path.exists());
    let program = fs::read(path.expect("busybox is there: apt-get install busybox-static")).unwrap();
    let mut tar = tar::Builder::new(Vec::new());
    let mut append = |kind: tar::EntryType, path: &str, content: &[u8], link: &str| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        header.set_mode(0o755);
        match link {
            "" => tar.append_data(&mut header, path, content).unwrap(),
            link => tar.append_link(&mut header, path, link).unwrap(),
        }
    };
    use tar::EntryType::{Directory, Regular, Symlink};
    for folder in ["bin/", "etc/", "tmp/", "data/", "proc/", "dev/", "sys/"] {
        append(Directory, folder, b"", "");
    }
    append(Regular, "bin/busybox", &program, "");
    for name in [
        "sh", "true", "false", "cat", "echo", "sleep", "id", "ls", "touch", "wget", "nc", "httpd", "trap",
        "hostname", "kill", "pwd", "test", "stat", "grep", "cut", "tr", "mkdir", "rm", "head", "env",
        "mount", "sort", "wc", "chmod", "cp",
    ] {
        append(Symlink, &format!("bin/{name}"), b"", "busybox");
    }
    append(Regular, "etc/passwd", b"root:x:0:0::/:/bin/sh\nguest:x:1000:1000::/tmp:/bin/sh\n", "");
    append(Regular, "etc/group", b"root:x:0:\nguest:x:1000:\n", "");
    append(Regular, "data/from-image", b"x", "");
    tar.into_inner().unwrap()
}
