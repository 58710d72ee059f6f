//! `demo-images PROGRAMS FOLDER`: the images of `cargo xtask demo` as OCI layouts, from `PROGRAMS/<triple>/hello`.
//!
//! `FOLDER/web` and `FOLDER/counter` are images for every platform with one file in them.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use dpack_targets::TARGETS;
use dpack_tests::images::{Image, Index, Layer};
use serde_json::json;

fn main() -> Result<()> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [programs, folder] = &arguments[..] else { bail!("usage: demo-images PROGRAMS FOLDER") };
    for role in ["web", "counter"] {
        let images = TARGETS.iter().map(|target| image(programs, target.triple, target.platform, role));
        Index::new(&images.collect::<Result<Vec<_>>>()?)?.write_layout(&folder.join(role), "latest")?;
    }
    Ok(())
}

fn image(programs: &Path, triple: &str, platform: &str, role: &str) -> Result<Image> {
    let path = programs.join(triple).join("hello");
    let program = std::fs::read(&path).with_context(|| format!("failed to read `{}`", path.display()))?;
    let layer = Layer::new().file("hello", 0o755, &program).directory("data", 0o755);
    Ok(Image::new(platform)?.layer(layer).set("Entrypoint", json!(["/hello", role])))
}
