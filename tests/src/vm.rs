//! A device of another architecture: a Debian kernel under emulation, with BusyBox and nothing else.
//!
//! The script runs in the guest with the files it was given in `/in`. Killing the emulator is a power cut: what the guest
//! had not synced is lost, what lies on a [`DataDisk`] is there at the next boot.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use dpack_targets::Target;
use tempfile::{NamedTempFile, TempDir};

use crate::output::Output;
use crate::programs::{cache, find, workspace};
use crate::wait::wait_until;

/// A virtual machine to be: what it has, and who runs the script.
#[derive(Debug)]
pub struct Vm {
    target: &'static Target,
    user: bool,
    newuidmap: bool,
    cgroup_v1: bool,
    systemd: bool,
    memory_mib: u32,
    limit: Duration,
    files: Vec<PathBuf>,
    sysctls: Vec<String>,
    kernel_arguments: Vec<String>,
    first: String,
    data: Data,
}

#[derive(Debug)]
enum Data {
    Fresh,
    Disk(PathBuf),
    Memory(u32),
}

/// An ext4 file system for `/home` that outlives the machine.
#[derive(Debug)]
pub struct DataDisk(NamedTempFile);

impl DataDisk {
    /// An empty disk. It takes no more space than is written to it.
    pub fn new(mebibytes: u64) -> Result<Self> {
        let file = tempfile::Builder::new().prefix("dpack-disk-").tempfile()?;
        file.as_file().set_len(mebibytes << 20)?;
        let mke2fs = find("mke2fs").context("mke2fs is not installed\nhint: cargo xtask setup")?;
        Output::of(Command::new(mke2fs).args(["-q", "-F", "-t", "ext4", "-m", "0"]).arg(file.path()))?
            .success()?;
        Ok(Self(file))
    }
}

impl Vm {
    /// An x86_64 machine with pure cgroup v2.
    pub fn amd64() -> Self {
        Self::for_platform("linux/amd64")
    }

    /// An aarch64 machine.
    pub fn arm64() -> Self {
        Self::for_platform("linux/arm64")
    }

    /// An armv7 machine.
    pub fn armv7() -> Self {
        Self::for_platform("linux/arm/v7")
    }

    /// The machine for a platform of the table.
    ///
    /// # Panics
    /// When the table has no such platform.
    pub fn for_platform(platform: &str) -> Self {
        let Some(target) = Target::for_platform(platform) else { panic!("no target for {platform}") };
        Self {
            target,
            user: false,
            newuidmap: false,
            cgroup_v1: false,
            systemd: false,
            memory_mib: 512,
            limit: Duration::from_secs(180),
            files: Vec::new(),
            sysctls: Vec::new(),
            kernel_arguments: Vec::new(),
            first: String::new(),
            data: Data::Fresh,
        }
    }

    /// What is built for this machine.
    pub fn target(&self) -> &'static Target {
        self.target
    }

    /// The script runs as an ordinary user with subordinate IDs, in a delegated control group. Without this, as root.
    pub fn user(mut self) -> Self {
        self.user = true;
        self
    }

    /// `newuidmap` and `newgidmap` are installed.
    pub fn newuidmap(mut self) -> Self {
        self.newuidmap = true;
        self
    }

    /// Control groups of version 1, of which nothing is handed over to the user.
    pub fn cgroup_v1(mut self) -> Self {
        self.cgroup_v1 = true;
        self
    }

    /// systemd runs the machine, and the script runs in a session of the user that [`Vm::user`] is about.
    pub fn systemd(mut self) -> Self {
        self.systemd = true;
        self.user()
    }

    /// Copies a file to `/in/<its name>`.
    pub fn file(mut self, path: &Path) -> Self {
        self.files.push(path.to_owned());
        self
    }

    /// Memory of the machine.
    pub fn memory(mut self, mebibytes: u32) -> Self {
        self.memory_mib = mebibytes;
        self
    }

    /// `/home` is on this disk.
    pub fn disk(mut self, disk: &DataDisk) -> Self {
        self.data = Data::Disk(disk.0.path().to_owned());
        self
    }

    /// `/home` is a tmpfs of this size.
    pub fn home_in_memory(mut self, mebibytes: u32) -> Self {
        self.data = Data::Memory(mebibytes);
        self
    }

    /// Sets a kernel setting before the script starts, such as `user.max_user_namespaces=0`.
    pub fn sysctl(mut self, assignment: &str) -> Self {
        self.sysctls.push(assignment.to_owned());
        self
    }

    /// Gives the kernel an argument, such as `security=selinux`.
    pub fn kernel_argument(mut self, argument: &str) -> Self {
        self.kernel_arguments.push(argument.to_owned());
        self
    }

    /// Root runs this script first. The machine ends when it fails, and nothing is reported.
    pub fn first(mut self, script: &str) -> Self {
        self.first.push_str(script);
        self
    }

    /// Ends the machine after this time.
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Boots, runs the script, and returns what it left behind.
    pub fn run(self, script: &str) -> Result<Output> {
        self.start(script)?.finish()
    }

    /// Boots and returns while the script runs.
    pub fn start(mut self, script: &str) -> Result<Machine> {
        prepare(self.target)?;
        let systemd = self.systemd.then(|| prepare_systemd(self.target)).transpose()?;
        self.files.extend(systemd);
        let folder = tempfile::Builder::new().prefix("dpack-vm-").tempdir()?;
        let fresh = match self.data {
            Data::Fresh => Some(DataDisk::new(2048)?),
            _ => None,
        };
        self.write_job(&folder.path().join("job"), script)?;
        for port in PORTS {
            File::create(folder.path().join(port))?;
        }
        let disk = match &self.data {
            Data::Disk(disk) => Some(disk.as_path()),
            _ => fresh.as_ref().map(|disk| disk.0.path()),
        };
        let emulator = self
            .emulator(folder.path(), disk)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(folder.path().join("emulator"))?)
            .spawn()
            .with_context(|| format!("failed to start `{}`", self.target.emulator.program))?;
        Ok(Machine { emulator, folder, limit: self.limit, _disk: fresh })
    }

    fn write_job(&self, path: &Path, script: &str) -> Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let data = match self.data {
            Data::Memory(mebibytes) => format!("{mebibytes}m"),
            _ => "disk".to_owned(),
        };
        let settings = format!(
            "NOW={now}\nAS_USER={}\nNEWUIDMAP={}\nCGROUP_V1={}\nSYSTEMD={}\nDATA={data}\nSYSCTL='{}'\n",
            u8::from(self.user),
            u8::from(self.newuidmap),
            u8::from(self.cgroup_v1),
            u8::from(self.systemd),
            self.sysctls.join("\n"),
        );
        let mut job = tar::Builder::new(File::create(path)?);
        for (name, text) in [("settings", &*settings), ("first", &self.first), ("script", script)] {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            job.append_data(&mut header, name, text.as_bytes())?;
        }
        for file in &self.files {
            let name = file.file_name().with_context(|| format!("`{}` has no name", file.display()))?;
            job.append_path_with_name(file, name).with_context(|| file.display().to_string())?;
        }
        job.finish()?;
        Ok(())
    }

    fn emulator(&self, folder: &Path, disk: Option<&Path>) -> Command {
        let emulator = &self.target.emulator;
        let images = cache().join("vm").join(self.target.debian);
        let unpacked = cache().join("vm").join(emulator.program);
        let mut command = Command::new(find(emulator.program).unwrap_or(unpacked));
        command
            .args(emulator.machine)
            .args(["-accel", "tcg", "-smp", "1", "-m", &self.memory_mib.to_string()])
            .args(["-nographic", "-nodefaults", "-no-reboot", "-serial"])
            .arg(format!("file:{}/console", folder.display()))
            .arg("-kernel")
            .arg(images.join("kernel"))
            .arg("-initrd")
            .arg(images.join("initrd"))
            .arg("-append")
            .arg(format!(
                "console={} panic=-1 oops=panic quiet {} {}",
                emulator.console,
                emulator.kernel_arguments,
                self.kernel_arguments.join(" ")
            ));
        let mut drive = |serial: &str, path: &Path, options: &str| {
            command
                .arg("-drive")
                .arg(format!("file={},format=raw,if=none,id={serial}{options}", path.display()));
            command.args(["-device", &format!("virtio-blk-{},drive={serial},serial={serial}", emulator.bus)]);
        };
        drive("job", &folder.join("job"), ",readonly=on");
        if let Some(disk) = disk {
            drive("data", disk, ",cache=unsafe,discard=unmap");
        }
        command.args(["-device", &format!("virtio-serial-{}", emulator.bus)]);
        for port in PORTS {
            command.arg("-chardev").arg(format!("file,id={port},path={}/{port}", folder.display()));
            command.args(["-device", &format!("virtserialport,chardev={port},name={port}")]);
        }
        command
    }
}

const PORTS: [&str; 3] = ["stdout", "stderr", "status"];

/// A running machine; it ends with this value.
#[derive(Debug)]
pub struct Machine {
    emulator: Child,
    folder: TempDir,
    limit: Duration,
    _disk: Option<DataDisk>,
}

impl Machine {
    /// Waits until the script has written `text` to its standard output.
    pub fn wait_for(&mut self, text: &str) -> Result<()> {
        let stdout = self.folder.path().join("stdout");
        let mut ended = false;
        wait_until(&format!("the guest prints `{text}`"), self.limit, || {
            ended = self.emulator.try_wait().is_ok_and(|status| status.is_some());
            ended || read(&stdout).contains(text)
        })?;
        if !read(&stdout).contains(text) {
            bail!("the guest ended without printing `{text}`\n{}", self.console());
        }
        Ok(())
    }

    /// Ends the machine as if its plug were pulled, and returns what the script had printed by then.
    pub fn power_cut(mut self) -> Result<String> {
        self.emulator.kill()?;
        self.emulator.wait()?;
        Ok(read(&self.folder.path().join("stdout")))
    }

    /// Waits until the script ends.
    pub fn finish(mut self) -> Result<Output> {
        let ended = wait_until("the guest ends", self.limit, || {
            self.emulator.try_wait().is_ok_and(|status| status.is_some())
        });
        let file = |name: &str| read(&self.folder.path().join(name));
        let (stdout, stderr) = (file("stdout"), file("stderr"));
        match (ended, file("status").trim().parse()) {
            (Ok(()), Ok(status)) => Ok(Output { status, stdout, stderr }),
            (Err(error), _) => Err(error.context(format!("{}\n{stdout}\n{stderr}", self.console()))),
            (Ok(()), Err(_)) => bail!("the guest did not report\n{}\n{stdout}\n{stderr}", self.console()),
        }
    }

    /// What the kernel and the emulator had to say.
    fn console(&self) -> String {
        ["console", "emulator"].map(|name| read(&self.folder.path().join(name))).join("\n")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // it may have ended already
        let _ = self.emulator.kill();
        let _ = self.emulator.wait();
    }
}

fn read(path: &Path) -> String {
    let mut bytes = Vec::new();
    // a file that is not there yet is an empty one
    let _ = File::open(path).and_then(|mut file| file.read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Makes kernel and initial file system when they are not there.
fn prepare(target: &Target) -> Result<()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock();
    fs::create_dir_all(cache())?;
    let emulator = &target.emulator;
    let mut script = Command::new(workspace().join("tests/vm/prepare.sh"));
    script
        .args([target.debian, emulator.kernel_package, emulator.program, emulator.package])
        .env("DPACK_DEV_CACHE", cache());
    Output::of(&mut script)?
        .success()
        .with_context(|| format!("failed to prepare a machine for {}", target.platform))?;
    Ok(())
}

/// An archive with systemd, made when it is not there.
fn prepare_systemd(target: &Target) -> Result<PathBuf> {
    let mut script = Command::new(workspace().join("tests/vm/systemd.sh"));
    script.arg(target.debian).env("DPACK_DEV_CACHE", cache());
    Output::of(&mut script)?.success().context("failed to prepare systemd")?;
    Ok(cache().join("vm").join(format!("systemd-{}.tar", target.debian)))
}
