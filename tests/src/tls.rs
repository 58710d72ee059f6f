//! A certificate authority for one registry, and the registry's certificate.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::output::Output;

/// Writes `ca.pem`, `server.pem` and `server.key` into a folder and returns the path of the first.
pub(crate) fn create(folder: &Path) -> Result<PathBuf> {
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc", "-days", "2"];
    let request = |arguments: &[&str]| {
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-x509"]).args(key).args(arguments).current_dir(folder);
        Output::of(&mut openssl)?.success()
    };
    request(&["-subj", "/CN=dpack-tests CA", "-keyout", "ca.key", "-out", "ca.pem"])?;
    request(&[
        "-subj",
        "/CN=localhost",
        "-addext",
        "subjectAltName=DNS:localhost,IP:127.0.0.1",
        "-addext",
        "basicConstraints=critical,CA:FALSE",
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca.key",
        "-keyout",
        "server.key",
        "-out",
        "server.pem",
    ])?;
    Ok(folder.join("ca.pem"))
}
