//! Other people's programs, asked about the same image: skopeo for manifests and configs, umoci for files.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use dpack_payload::digest::Digest;
use dpack_payload::platform::Platform;
use serde_json::Value;

use crate::output::Output;

/// What names an image for one platform, whoever serves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Digest of the platform's manifest.
    pub manifest: String,
    /// Digest of its config.
    pub config: String,
    /// Its diff IDs, the lowest first.
    pub diff_ids: Vec<String>,
}

/// Runs skopeo, without a signature policy.
pub fn skopeo(arguments: &[&str]) -> Result<Output> {
    Output::of(Command::new("skopeo").arg("--insecure-policy").args(arguments))
}

/// Copies an image; registries without TLS are fine.
pub fn skopeo_copy(arguments: &[&str]) -> Result<Output> {
    skopeo(&[&["copy", "--quiet", "--src-tls-verify=false", "--dest-tls-verify=false"], arguments].concat())?
        .success()
}

/// What skopeo says about `reference` (`docker://…`, `oci:…`) for a platform, which it looks up in an index.
pub fn identity(reference: &str, platform: &Platform) -> Result<Identity> {
    let inspect = |reference: &str, what: &str| -> Result<String> {
        Ok(skopeo(&["inspect", what, "--tls-verify=false", reference])?.success()?.stdout)
    };
    let raw = inspect(reference, "--raw")?;
    let manifest: Value = serde_json::from_str(&raw)?;
    if let Some(entries) = manifest["manifests"].as_array() {
        let entry = entries.iter().find(|entry| of_platform(entry, platform));
        let digest = entry.and_then(|entry| entry["digest"].as_str()).context("no such platform")?;
        return identity(&format!("{}@{digest}", without_tag(reference)), platform);
    }
    let config: Value = serde_json::from_str(&inspect(reference, "--config")?)?;
    let texts = config["rootfs"]["diff_ids"].as_array().context("a config without diff IDs")?;
    Ok(Identity {
        manifest: Digest::of(raw.as_bytes()).to_string(),
        config: manifest["config"]["digest"].as_str().unwrap_or_default().to_owned(),
        diff_ids: texts.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
    })
}

/// `docker://host:5000/name:tag` or `…@digest` without tag and digest.
pub fn without_tag(reference: &str) -> &str {
    let name = reference.split_once('@').map_or(reference, |(name, _)| name);
    match name.rsplit_once(':') {
        Some((before, tag)) if !tag.contains('/') => before,
        _ => name,
    }
}

fn of_platform(entry: &Value, platform: &Platform) -> bool {
    let part = |name: &str| entry["platform"][name].as_str();
    let found = Platform::new(
        part("os").unwrap_or_default(),
        part("architecture").unwrap_or_default(),
        part("variant"),
    );
    found == *platform
}

/// Unpacks the image `layout:tag` with umoci and returns its own list of what came out: every path with type, mode, owner,
/// size, content, link target and extended attributes.
pub fn umoci_listing(layout: &Path, tag: &str) -> Result<String> {
    let folder = tempfile::tempdir()?;
    let bundle = folder.path().join("bundle");
    let image = format!("{}:{tag}", layout.display());
    Output::of(Command::new("umoci").args(["unpack", "--image", &image]).arg(&bundle))?.success()?;
    for entry in fs::read_dir(&bundle)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "mtree") {
            let text = fs::read_to_string(&path)?;
            let lines = text.lines().filter(|line| !line.starts_with('#'));
            return Ok(lines.map(|line| format!("{line}\n")).collect());
        }
    }
    bail!("umoci wrote no list of files into `{}`", bundle.display())
}
