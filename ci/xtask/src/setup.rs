//! Debian packages: which ones a command needs, and installing those that are missing.
//!
//! As root by apt-get, as an ordinary user by sudo where that asks no password; else the command to type is the hint.

use std::process::{Command, Stdio};

use anyhow::{Result, bail};
use dpack_targets::{TARGETS, Target};

use crate::{process, toolchain};

/// For `ci/stub-toolchain.sh`: a compiler that brings the source of its standard library, and a linker.
const RUST: &[&str] = &["rustc-web", "cargo-web", "rust-web-src", "lld-19", "gcc", "libc6-dev", "binutils"];

/// What the integration tests talk to, and what makes their images and virtual machines.
const TESTS: &[&str] = &[
    "apache2-utils",  // htpasswd
    "bind9-dnsutils", // dig
    // readelf, objcopy and strip; the latter two know one architecture each
    "binutils",
    "binutils-aarch64-linux-gnu",
    "binutils-arm-linux-gnueabihf",
    "binutils-x86-64-linux-gnu",
    "buildah",
    "busybox-static",
    "cpio",
    "curl",
    "docker-registry",
    "e2fsprogs", // mke2fs
    "file",
    // the seccomp profiles of Docker and podman, as data
    "golang-github-containers-common",
    "golang-github-docker-docker-dev",
    "kmod",     // depmod
    "nftables", // loses packets on purpose
    "openssl",
    "skopeo",
    "tcpdump",
    "uidmap",
    "umoci",
    "util-linux", // setpriv
    "zstd",
];

/// Everything, for `cargo xtask setup`.
pub(crate) fn everything() -> Result<()> {
    stubs(&TARGETS.iter().collect::<Vec<_>>())?;
    tests()
}

/// What building stubs for these targets needs.
pub(crate) fn stubs(targets: &[&Target]) -> Result<()> {
    let mut packages = Vec::new();
    if !toolchain::rustup_has(targets)? {
        packages.extend_from_slice(RUST);
    }
    for target in targets {
        let compiler = &target.c_compiler;
        match compiler.programs.iter().find(|program| process::exists(program)) {
            // Debian's cross compilers come without headers when recommendations are not installed
            Some(program) if compiler.packages[1..].is_empty() || !from_package(program) => {}
            _ => packages.extend_from_slice(compiler.packages),
        }
    }
    install(&packages)
}

/// What running an application on this machine needs: `newuidmap`, and for root a way to become an ordinary user.
pub(crate) fn demo() -> Result<()> {
    install(&["uidmap", "util-linux"])
}

/// What the integration tests need. Emulators are unpacked by the tests themselves when they are not installed.
pub(crate) fn tests() -> Result<()> {
    install(TESTS)
}

fn install(packages: &[&str]) -> Result<()> {
    let missing: Vec<&str> = packages.iter().copied().filter(|package| !installed(package)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    let Some(privilege) = privilege() else {
        bail!(
            "these packages are missing: {list}\nhint: sudo apt-get install --no-install-recommends {list}"
        );
    };
    eprintln!("installing {list}");
    let mut last = Ok(());
    // a mirror in the middle of an update serves a list and packages that do not match; the next try finds them
    for _ in 0..3 {
        let _ = process::run(apt(privilege, &["update", "-qq"]).stdout(Stdio::null()));
        let mut arguments = vec!["install", "-qq", "--no-install-recommends"];
        arguments.extend(&missing);
        last = process::run(apt(privilege, &arguments).stdout(Stdio::null()));
        if last.is_ok() {
            break;
        }
    }
    last
}

/// Whether a program came from a Debian package, and not from the user's own hands or another distribution's.
fn from_package(program: &str) -> bool {
    process::exists("dpkg-query")
        && Command::new("dpkg-query")
            .args(["-S", &format!("/usr/bin/{program}")])
            .output()
            .is_ok_and(|output| output.status.success())
}

fn installed(package: &str) -> bool {
    Command::new("dpkg-query")
        .args(["-W", "-f", "${db:Status-Status}", package])
        .stderr(Stdio::null())
        .output()
        .is_ok_and(|output| output.stdout == b"installed")
}

/// What to put before `apt-get`, or `None` when we may not install.
fn privilege() -> Option<&'static [&'static str]> {
    if !process::exists("apt-get") {
        return None;
    }
    let silent = |program: &str, arguments: &[&str]| {
        Command::new(program).args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).output()
    };
    if silent("id", &["-u"]).is_ok_and(|output| output.stdout == b"0\n") {
        return Some(&[]);
    }
    silent("sudo", &["-n", "true"]).is_ok_and(|output| output.status.success()).then_some(&["sudo", "-n"])
}

fn apt(privilege: &[&str], arguments: &[&str]) -> Command {
    let line = [privilege, &["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-y"], arguments].concat();
    let mut command = Command::new(line[0]);
    command.args(&line[1..]).args(["-o", "DPkg::Lock::Timeout=300", "-o", "Acquire::Retries=3"]);
    command.stdin(Stdio::null());
    command
}
