//! An executable put together without the builder: for images that it would refuse, and where a whole build is too much.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Read};

use anyhow::{Context, Result};
use dpack_payload::ReadAt;
use dpack_payload::application::{Application, Image};
use dpack_payload::digest::{DiffId, Digest};
use dpack_payload::platform::Platform;
use dpack_payload::write::{
    LayerRecipe, Level, PayloadWriter, Place, StubHead, compress_frame, plan_frames, split,
};
use dpack_targets::Target;
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::images::{self, Layer};
use crate::programs::stubs;

/// An application whose services all have one image: BusyBox with these layers on top.
#[derive(Clone, Debug)]
pub struct Handmade {
    name: &'static str,
    services: Value,
    networks: Value,
    layers: Vec<Layer>,
    config: Value,
    lie: Option<DiffId>,
}

impl Handmade {
    /// Services as in a Compose file, without `image`.
    pub fn new(name: &'static str, services: Value) -> Self {
        Self { name, services, networks: json!({}), layers: Vec::new(), config: json!({}), lie: None }
    }

    /// Networks as in a Compose file.
    pub fn networks(mut self, networks: Value) -> Self {
        self.networks = networks;
        self
    }

    /// One more layer.
    pub fn layer(mut self, layer: Layer) -> Self {
        self.layers.push(layer);
        self
    }

    /// A field of the image's `config`.
    pub fn config(mut self, field: &str, value: Value) -> Self {
        self.config[field] = value;
        self
    }

    /// The top layer is said to have this diff ID.
    pub fn false_diff_id(mut self, lie: DiffId) -> Self {
        self.lie = Some(lie);
        self
    }

    /// The executable, as a builder without scruples would write it.
    pub fn executable(&self, target: &Target) -> Result<NamedTempFile> {
        let platform: Platform = target.platform.parse()?;
        let tars: Vec<Vec<u8>> =
            std::iter::once(busybox(&platform)?).chain(self.layers.iter().map(Layer::to_tar)).collect();
        let mut recipes = tars.iter().map(|tar| split(&tar[..])).collect::<Result<Vec<LayerRecipe>, _>>()?;
        if let (Some(lie), Some(last)) = (self.lie, recipes.last_mut()) {
            last.diff_id = lie;
        }
        let stub = fs::read(stubs().join(target.triple).join("dpack-runner"))?;
        let level = Level::new(1).context("a level")?;
        let head = StubHead::new(&stub, target.elf.machine)?;
        let mut writer = PayloadWriter::new(Cursor::new(Vec::new()), Some(head), level)?;
        for plan in plan_frames(&recipes, level) {
            let frame = compress_frame(&plan, |chunk, buffer| {
                let layer = recipes.iter().position(|recipe| recipe.diff_id == chunk.source.layer);
                let layer = layer.ok_or(std::io::ErrorKind::NotFound)?;
                match chunk.source.place {
                    Place::Skeleton(offset) => recipes[layer].skeleton.read_exact_at(buffer, offset),
                    Place::Tar(offset) => tars[layer].read_exact_at(buffer, offset),
                }
            })?;
            writer.frame(&plan, &frame)?;
        }
        for recipe in &recipes {
            writer.layer(recipe)?;
        }
        let diff_ids = recipes.iter().map(|recipe| recipe.diff_id).collect();
        let (out, _) = writer.finish(&self.application(platform, diff_ids))?;
        let file = tempfile::Builder::new().prefix(self.name).tempfile()?;
        fs::write(file.path(), out.into_inner())?;
        Ok(file)
    }

    /// What its index says; for a test that wants to say something else.
    pub fn application(&self, platform: Platform, layers: Vec<DiffId>) -> Application {
        let mut services = self.services.clone();
        let names: Vec<String> =
            services.as_object().into_iter().flat_map(|map| map.keys().cloned()).collect();
        for name in &names {
            services[name]["image"] = json!(self.name);
        }
        let content = json!({"services": services, "networks": self.networks, "volumes": {"kept": null}});
        let mut config = json!({"Env": ["PATH=/usr/bin:/bin"]});
        for (field, value) in self.config.as_object().into_iter().flatten() {
            config[field] = value.clone();
        }
        let config = json!({"os": "linux", "architecture": platform.architecture(),
            "config": config, "rootfs": {"type": "layers", "diff_ids": layers}});
        Application {
            name: self.name.to_owned(),
            compose: json!({"version": 1, "folder": self.name, "environment": [],
                "layers": [{"file": "compose.yml", "content": content}]}),
            environment: BTreeMap::new(),
            images: vec![Image {
                reference: self.name.to_owned(),
                services: names,
                platform,
                digest: Digest::of(self.name.as_bytes()),
                config: config.to_string(),
                layers,
            }],
            builder: self.name.to_owned(),
        }
    }
}

/// The tar of BusyBox's only layer.
fn busybox(platform: &Platform) -> Result<Vec<u8>> {
    let index = images::busybox()?;
    let blob = |digest: &str| {
        let found = index.all_blobs().find(|blob| blob.digest.to_string() == digest);
        found.map(|blob| &blob.content).context("no such blob")
    };
    let manifest = index.manifest_digest(platform).context("no such platform")?;
    let manifest: Value = serde_json::from_slice(blob(&manifest.to_string())?)?;
    let layer = blob(manifest["layers"][0]["digest"].as_str().context("a digest")?)?;
    let mut tar = Vec::new();
    flate2::read::GzDecoder::new(&layer[..]).read_to_end(&mut tar)?;
    Ok(tar)
}
