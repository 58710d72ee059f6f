//! The image that is measured with: Debian and Python, about 145 MB of files in two layers; made once for each platform.
//!
//! ```text
//! <cache>/bench-<version>/<triple>/layout/     OCI layout, gzip layers, reference `latest`
//!                                 /flat.tar    the tars of both layers in one: what a solid compressor is given
//!                                 /flat.tar.*  what the solid compressors made of it
//! ```

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use dpack_payload::digest::Digest;
use dpack_targets::Target;
use dpack_tests::images::{Image, Index, Layer};
use dpack_tests::{Output, cache, workspace};

/// What the image is called everywhere.
pub(crate) const NAME: &str = "bench/debian-python:1";

/// The image of one platform.
#[derive(Debug)]
pub(crate) struct BenchImage {
    folder: PathBuf,
}

impl BenchImage {
    /// From the cache, or made and put there.
    pub(crate) fn of(target: &Target) -> Result<Self> {
        let script = workspace().join("tests/images/debian-python.sh");
        let recipe = [fs::read(&script)?, include_bytes!("image.rs").to_vec()].concat();
        let version = Digest::of(&recipe).hex();
        let parent = cache().join(format!("bench-{}", &version[..12]));
        let folder = parent.join(target.triple);
        if !folder.is_dir() {
            fs::create_dir_all(&parent)?;
            let aside = tempfile::tempdir_in(&parent)?;
            let files = aside.path().join("files");
            Output::of(Command::new(&script).arg(target.debian).arg(&files))?.success()?;
            let base = Layer::new().tree(&files.join("base"))?;
            let python = Layer::new().tree(&files.join("python"))?;
            let flat = Layer::new().tree(&files.join("base"))?.tree(&files.join("python"))?;
            fs::remove_dir_all(&files)?;
            fs::write(aside.path().join("flat.tar"), flat.to_tar())?;
            let image = Image::new(target.platform)?.layer(base).layer(python);
            Index::new(&[image])?.write_layout(&aside.path().join("layout"), "latest")?;
            // another process may have finished first; its image is the same
            let _ = fs::rename(aside.keep(), &folder);
        }
        Ok(Self { folder })
    }

    /// The image for this machine.
    pub(crate) fn host() -> Result<Self> {
        Self::of(Target::host().context("there is no runner for this machine's architecture")?)
    }

    /// The OCI layout.
    pub(crate) fn layout(&self) -> PathBuf {
        self.folder.join("layout")
    }

    /// The image, to be served by a registry.
    pub(crate) fn index(&self) -> Result<Index> {
        Index::read_layout(&self.layout())
    }

    /// One tar with everything.
    pub(crate) fn flat(&self) -> PathBuf {
        self.folder.join("flat.tar")
    }
}
