//! A registry: Debian's `docker-registry` with storage, port and settings of its own, for as long as the value lives.

use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::images::Index;
use crate::output::Output;
use crate::wait::wait_until;
use crate::{storage, tls};

/// What a registry asks of its clients; [`start`](Settings::start) starts one.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    tls: bool,
    account: Option<(String, String)>,
}

impl Settings {
    /// Serves HTTPS with a certificate for `localhost` and 127.0.0.1, signed by a CA of its own.
    pub fn with_tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Asks for basic authentication.
    pub fn with_htpasswd(mut self, user: &str, password: &str) -> Self {
        self.account = Some((user.to_owned(), password.to_owned()));
        self
    }

    /// Starts the registry and waits until it listens.
    pub fn start(self) -> Result<Registry> {
        let folder = tempfile::tempdir()?;
        let authority = self.tls.then(|| tls::create(folder.path())).transpose()?;
        if let Some((user, password)) = &self.account {
            let accounts = Output::of(Command::new("htpasswd").args(["-Bbn", user, password]))?.success()?;
            fs::write(folder.path().join("htpasswd"), accounts.stdout)?;
        }
        // between our look for a free port and the registry's use of it, somebody else may take it
        let mut last = None;
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
            fs::write(folder.path().join("config.yml"), self.configuration(folder.path(), port))?;
            match serve(folder.path(), port) {
                Ok(process) => return Ok(Registry { process, port, authority, folder }),
                Err(error) => last = Some(error),
            }
        }
        Err(last.context("no try was made")?)
    }

    fn configuration(&self, folder: &Path, port: u16) -> String {
        let folder = folder.display();
        let mut text = format!(
            "version: 0.1\nlog: {{level: warn}}\n\
             storage: {{filesystem: {{rootdirectory: {folder}/storage}}, delete: {{enabled: true}}}}\n"
        );
        if self.account.is_some() {
            text += &format!("auth: {{htpasswd: {{realm: dpack-tests, path: {folder}/htpasswd}}}}\n");
        }
        text += &format!("http:\n  addr: 127.0.0.1:{port}\n");
        if self.tls {
            text += &format!("  tls: {{certificate: {folder}/server.pem, key: {folder}/server.key}}\n");
        }
        text
    }
}

/// A running registry; it ends with this value.
#[derive(Debug)]
pub struct Registry {
    process: Child,
    port: u16,
    authority: Option<PathBuf>,
    folder: TempDir,
}

impl Registry {
    /// A plain HTTP registry for everybody.
    pub fn start() -> Result<Self> {
        Settings::default().start()
    }

    /// An HTTPS registry, or what else [`Settings`] has.
    pub fn with_tls() -> Settings {
        Settings::default().with_tls()
    }

    /// A registry that asks for a name and a password.
    pub fn with_htpasswd(user: &str, password: &str) -> Settings {
        Settings::default().with_htpasswd(user, password)
    }

    /// Host and port, as they stand before the first `/` of an image reference.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The file with the certificate of the CA, when the registry has TLS.
    pub fn certificate_authority(&self) -> Option<&Path> {
        self.authority.as_deref()
    }

    /// Serves an image as `name`, such as `library/redis:7`, and returns the whole reference. Goes past the network:
    /// the registry finds the bytes, digests and media types exactly as they are in `index`.
    pub fn serve(&self, name: &str, index: &Index) -> Result<String> {
        let (repository, tag) = name.split_once(':').with_context(|| format!("`{name}` has no tag"))?;
        storage::write(&self.folder.path().join("storage"), repository, tag, index)?;
        Ok(format!("{}/{name}", self.address()))
    }

    /// The file in which the registry keeps a blob: for tests that damage or remove it.
    pub fn blob_file(&self, digest: &dpack_payload::digest::Digest) -> PathBuf {
        storage::blob_file(&self.folder.path().join("storage"), digest)
    }

    /// Every request so far, as method, path and status: `GET /v2/redis/manifests/7 200`.
    pub fn requests(&self) -> Result<Vec<String>> {
        let log = fs::read_to_string(self.folder.path().join("access.log"))?;
        Ok(log.lines().filter_map(request).collect())
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // it may have ended by itself, which is nothing to fail a test for here
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn serve(folder: &Path, port: u16) -> Result<Child> {
    let mut process = Command::new("docker-registry")
        .arg("serve")
        .arg(folder.join("config.yml"))
        .env("OTEL_TRACES_EXPORTER", "none")
        .stdin(Stdio::null())
        .stdout(File::create(folder.join("access.log"))?)
        .stderr(File::create(folder.join("error.log"))?)
        .spawn()
        .context("failed to start `docker-registry`\nhint: cargo xtask setup")?;
    let mut ended = false;
    let listening = wait_until("the registry listens", Duration::from_secs(20), || {
        ended = process.try_wait().is_ok_and(|status| status.is_some());
        ended || TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    if ended || listening.is_err() {
        let _ = process.kill();
        let _ = process.wait();
        bail!("docker-registry does not serve: {}", fs::read_to_string(folder.join("error.log"))?);
    }
    Ok(process)
}

/// Reads a line of the access log (Apache's combined form).
fn request(line: &str) -> Option<String> {
    let mut quoted = line.split('"');
    let (_, request, rest) = (quoted.next()?, quoted.next()?, quoted.next()?);
    let (method, rest_of_request) = request.split_once(' ')?;
    let (path, _) = rest_of_request.rsplit_once(' ')?;
    Some(format!("{method} {path} {}", rest.split_whitespace().next()?))
}
