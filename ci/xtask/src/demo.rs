//! `cargo xtask demo`: from a Compose file to a running application on this machine, with nothing from outside.
//!
//! The images are made here too: one static program for three platforms, written as OCI layouts.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use dpack_targets::{TARGETS, Target};

use crate::static_build::Program;
use crate::{process, setup, stubs, workspace};

const HELLO: Program = Program { package: "hello", binary: "hello" };

/// Sets up, builds, runs, looks, stops.
pub(crate) fn run() -> Result<()> {
    let host = Target::host().context("there is no runner for this machine's architecture")?;
    setup::demo()?;
    stubs::build(&[])?;
    let root = workspace::root()?;
    let folder = root.join("target/demo");
    stubs::build_into(&HELLO, &stubs::select(&[])?, &folder.join("programs"))?;
    process::run(workspace::cargo()?.args([
        "build",
        "--quiet",
        "--locked",
        "--release",
        "-p",
        "dpack",
        "-p",
        "dpack-tests",
    ]))?;
    let programs = workspace::release_folder()?;
    process::run(
        Command::new(programs.join("demo-images")).arg(folder.join("programs")).arg(folder.join("images")),
    )?;

    std::fs::copy(root.join("ci/demo/compose.yml"), folder.join("compose.yml"))?;
    let platforms = TARGETS.iter().map(|target| target.platform).collect::<Vec<_>>().join(",");
    step("dpack build: one executable per platform, from images in two OCI layouts");
    process::run(
        Command::new(programs.join("dpack"))
            .args(["build", "--platform", &platforms])
            .args([
                "--from",
                "demo/web=oci:images/web:latest",
                "--from",
                "demo/counter=oci:images/counter:latest",
            ])
            .arg("compose.yml")
            .env("DPACK_STUB_DIR", workspace::stubs()?)
            .current_dir(&folder),
    )?;
    Visit::new(&folder.join(format!("dist/hello-{}", host.suffix)))?.run()
}

/// The executable on this machine, in the hands of an ordinary user with an empty home folder.
struct Visit {
    home: PathBuf,
    port: u16,
    root: bool,
}

/// Who runs the application when root runs the demo.
const USER: &str = "dpack-demo";

impl Visit {
    fn new(executable: &Path) -> Result<Self> {
        let home = std::env::temp_dir().join(format!("dpack-demo-{}", std::process::id()));
        std::fs::create_dir(&home).with_context(|| format!("failed to create `{}`", home.display()))?;
        std::fs::copy(executable, home.join("hello"))
            .with_context(|| format!("failed to copy `{}`", executable.display()))?;
        let root = process::output(Command::new("id").arg("-u"))? == "0";
        if root {
            if process::output(Command::new("sh").args(["-c", "cut -d: -f1 /etc/passwd"]))?
                .lines()
                .all(|user| user != USER)
            {
                process::run(Command::new("useradd").args(["--create-home", USER]))?;
            }
            process::run(Command::new("chown").args(["-R", &format!("{USER}:{USER}")]).arg(&home))?;
        }
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        Ok(Self { home, port, root })
    }

    fn run(self) -> Result<()> {
        let shown = self.show();
        // stopped whatever happened before, and what happened before is what is reported
        let stopped = self.app(&["down", "-v"]);
        shown?;
        stopped?;
        self.remove()?;
        step("done: nothing runs any more, nothing was installed");
        Ok(())
    }

    fn show(&self) -> Result<()> {
        self.app(&["up", "-d"])?;
        self.app(&["ps"])?;
        for visitor in ["visitor 1", "visitor 2"] {
            let page = self.fetch()?;
            print!("{page}");
            if !page.contains(visitor) {
                bail!("the page does not say `{visitor}`");
            }
        }
        step("down and up again: the counter remembers");
        self.app(&["down"])?;
        self.app(&["up", "-d"])?;
        let page = self.fetch()?;
        print!("{page}");
        if !page.contains("visitor 3") {
            bail!("the page does not say `visitor 3`: the volume was lost");
        }
        self.app(&["logs"])
    }

    fn app(&self, arguments: &[&str]) -> Result<()> {
        step(&format!("./hello {}", arguments.join(" ")));
        process::run(self.command(&self.home.join("hello")).args(arguments))
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = match self.root {
            true => {
                let mut setpriv = Command::new("setpriv");
                setpriv.args(["--reuid", USER, "--regid", USER, "--init-groups", "--"]).arg(program);
                setpriv
            }
            false => Command::new(program),
        };
        command
            .current_dir(&self.home)
            .env("HOME", &self.home)
            .env("XDG_RUNTIME_DIR", &self.home)
            .env_remove("XDG_DATA_HOME")
            .env_remove("DPACK_DATA_DIR")
            .env("HELLO_PORT", self.port.to_string());
        command
    }

    /// The page, as soon as there is one.
    fn fetch(&self) -> Result<String> {
        let start = Instant::now();
        loop {
            match get(self.port) {
                Ok(page) => return Ok(page),
                Err(error) if start.elapsed() > Duration::from_secs(20) => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    /// Layers may belong to subordinate IDs: only root, or the root of a user namespace, can remove them.
    fn remove(&self) -> Result<()> {
        let mut remove = match self.root {
            true => Command::new("rm"),
            false => {
                let mut unshare = Command::new("unshare");
                unshare.args(["--map-root-user", "--map-auto", "rm"]);
                unshare
            }
        };
        process::run(remove.arg("-rf").arg(&self.home))
    }
}

fn get(port: u16) -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut response = String::new();
    stream.read_to_string(&mut response)?;
    match response.split_once("\r\n\r\n") {
        Some((head, body)) if head.contains(" 200 ") => Ok(body.to_owned()),
        _ => bail!("the page is an error: {response}"),
    }
}

fn step(text: &str) {
    println!("\n== {text}");
}
