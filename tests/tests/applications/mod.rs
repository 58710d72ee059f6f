//! The applications that run on devices, each built by `dpack build` from a real registry.
//!
//! A build takes seconds and its result is the same every time, so the executables are kept in [`cache`], under a name
//! that changes with whatever they are made of.

#![allow(dead_code, reason = "each test binary uses some of it")]
#![allow(clippy::unwrap_used, reason = "these are tests, though not in a function marked so")]

mod installed;
mod machines;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::{Context, Result};
use dpack_payload::digest::Digest;
use dpack_targets::{TARGETS, Target};
use dpack_tests::images::{self, Index};
use dpack_tests::{Dpack, Need, Registry, cache, needs, stubs, workspace};

#[allow(unused_imports, reason = "each test binary uses some of it")]
pub(crate) use installed::{Installed, entries, free_port, signal};
#[allow(unused_imports, reason = "each test binary uses some of it")]
pub(crate) use machines::one_machine_at_a_time;

/// What every test here needs.
pub(crate) fn can_build() -> bool {
    needs(&[Need::Stubs, Need::DebianPackages, Need::Program("docker-registry"), Need::Program("newuidmap")])
}

/// Executables of one application, one for each platform.
#[derive(Clone, Debug)]
pub(crate) struct Application {
    name: &'static str,
    folder: PathBuf,
}

/// nginx in front, an application behind it, and redis, which keeps the visits in a volume. The application is a CGI
/// program in the shell of BusyBox; whoever asks for `/` learns how many have asked before.
const SHOP: &str = r#"
name: shop
services:
  web:
    image: REGISTRY/nginx:1
    depends_on: [app]
    ports: ["${SHOP_PORT:-8080}:8080"]
    command:
      - sh
      - -c
      - |
        echo 'server { listen 8080; location / { proxy_pass http://app:8000/cgi-bin/visit; } }' >/etc/nginx/conf.d/shop.conf
        exec nginx -g 'daemon off;'
  app:
    image: REGISTRY/busybox:1
    depends_on: [db]
    init: true
    command:
      - sh
      - -c
      - |
        mkdir -p /www/cgi-bin
        cat >/www/cgi-bin/visit <<'END'
        #!/bin/sh
        visit=$$(printf 'INCR visits\r\nQUIT\r\n' | nc db 6379 | head -n 1 | tr -d ':\r')
        case $$visit in
          [0-9]*) printf 'Content-Type: text/plain\r\n\r\nvisit %s\n' "$$visit" ;;
          *) printf 'Status: 503 Service Unavailable\r\nContent-Type: text/plain\r\n\r\nno database\n' ;;
        esac
        END
        chmod +x /www/cgi-bin/visit
        exec httpd -f -p 8000 -h /www
  db:
    image: REGISTRY/redis:1
    command: [redis-server, --protected-mode, "no", --appendonly, "yes", --appendfsync, always]
    volumes: ["visits:/data"]
volumes:
  visits:
"#;

/// A web server with a published port and a volume, and a service that does nothing until it is asked to end.
const BELL: &str = r#"
name: bell
services:
  web:
    image: REGISTRY/busybox:1
    init: true
    command: [sh, -c, "echo ding >/www/index.html; exec httpd -f -p 80 -h /www"]
    ports: ["127.0.0.1:${BELL_PORT:-8080}:80"]
    volumes: ["www:/www"]
  idle:
    image: REGISTRY/busybox:1
    command: [sh, -c, "trap 'exit 3' TERM; echo ready; while :; do sleep 0.1; done"]
  deaf:
    image: REGISTRY/busybox:1
    command: [sh, -c, "trap '' TERM; echo deaf; while :; do sleep 0.1; done"]
    stop_grace_period: 50s
volumes:
  www:
"#;

impl Application {
    /// Three services for every platform.
    pub(crate) fn shop() -> Result<Self> {
        let platforms: Vec<&str> = TARGETS.iter().map(|target| target.platform).collect();
        let images =
            [("nginx", images::nginx()?), ("busybox", images::busybox()?), ("redis", images::redis()?)];
        Self::build("shop", SHOP, &platforms, &images)
    }

    /// A small one for this machine.
    pub(crate) fn bell() -> Result<Self> {
        Self::build("bell", BELL, &[host()?.platform], &[("busybox", images::busybox()?)])
    }

    /// The executable for a platform.
    pub(crate) fn executable(&self, target: &Target) -> PathBuf {
        self.folder.join(format!("{}-{}", self.name, target.suffix))
    }

    /// The executable for this machine.
    pub(crate) fn executable_for_host(&self) -> Result<PathBuf> {
        Ok(self.executable(host()?))
    }

    fn build(
        name: &'static str,
        compose: &str,
        platforms: &[&str],
        images: &[(&str, Index)],
    ) -> Result<Self> {
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _guard = ONE_AT_A_TIME.lock();
        let builds = cache().join("applications");
        let folder = builds.join(format!("{name}-{}", &version(compose, images)?[..12]));
        if !folder.is_dir() {
            let registry = Registry::start()?;
            for (image, index) in images {
                registry.serve(&format!("{image}:1"), index)?;
            }
            let compose = compose.replace("REGISTRY", &registry.address());
            let dpack = Dpack::new()?.file("compose.yml", &compose)?;
            dpack.build(platforms)?;
            fs::create_dir_all(&builds)?;
            let aside = tempfile::tempdir_in(&builds)?;
            for executable in fs::read_dir(dpack.project().join("dist"))? {
                let executable = executable?;
                fs::copy(executable.path(), aside.path().join(executable.file_name()))?;
            }
            // another process may have finished first; its build is the same
            let _ = fs::rename(aside.path(), &folder);
        }
        Ok(Self { name, folder })
    }
}

/// The target that this machine runs.
pub(crate) fn host() -> Result<&'static Target> {
    Target::host().context("no target for this machine")
}

/// Changes with the builder, the stubs and the images.
fn version(compose: &str, images: &[(&str, Index)]) -> Result<String> {
    let mut parts = compose.to_owned();
    let builder = std::env::var_os("DPACK_TEST_BINARY")
        .map_or_else(|| workspace().join("target/release/dpack"), PathBuf::from);
    let stubs = TARGETS.iter().map(|target| stubs().join(target.triple).join("dpack-runner"));
    for file in stubs.chain([builder]) {
        parts += &stamp(&file)?;
    }
    parts.extend(images.iter().map(|(_, index)| index.root.digest.to_string()));
    Ok(Digest::of(parts.as_bytes()).hex())
}

fn stamp(file: &Path) -> Result<String> {
    let metadata = fs::metadata(file).with_context(|| file.display().to_string())?;
    Ok(format!("{} {}.{}\n", metadata.len(), metadata.mtime(), metadata.mtime_nsec()))
}
