//! Real software as real images, from Debian packages: `busybox`, `redis`, `nginx` for every platform.
//!
//! They are made once, by `tests/images/unpack.sh`, and kept in [`cache`](crate::cache). All share their lowest layer, as
//! images of one distribution do.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use anyhow::{Context, Result};
use dpack_payload::digest::Digest;
use dpack_targets::{TARGETS, Target};
use serde_json::json;

use super::image::Image;
use super::index::{Format, Index};
use super::layer::Layer;
use crate::output::Output;
use crate::programs::{cache, workspace};

/// What the official image does: a root shell changes the owner of the data and becomes `redis`.
const REDIS_ENTRYPOINT: &str = r#"#!/bin/sh
set -e
if [ "${1#-}" != "$1" ] || [ "${1%.conf}" != "$1" ]; then
    set -- redis-server "$@"
fi
if [ "$1" = redis-server ] && [ "$(id -u)" = 0 ]; then
    find . \! -user redis -exec chown redis:redis '{}' +
    exec setpriv --reuid=redis --regid=redis --clear-groups -- "$0" "$@"
fi
exec "$@"
"#;

const NGINX_CONFIGURATION: &str = "\
user www-data;
worker_processes 2;
pid /run/nginx.pid;
error_log /dev/stderr notice;
events { worker_connections 512; }
http {
  include /etc/nginx/mime.types;
  default_type application/octet-stream;
  access_log /dev/stdout;
  server { listen 80; root /usr/share/nginx/html; location /healthz { return 200 \"ok\\n\"; } }
  include /etc/nginx/conf.d/*.conf;
}
";

/// BusyBox, as a Docker manifest list: a shell and the usual small programs, each a hard link.
pub fn busybox() -> Result<Index> {
    Index::in_format(
        Format::Docker,
        &for_each_target("busybox", |_, image| Ok(image.set("Cmd", json!(["sh"]))))?,
    )
}

/// Redis, as an OCI index: an entrypoint that starts as root and gives that up, a volume, a port.
pub fn redis() -> Result<Index> {
    let images = for_each_target("redis", |files, image| {
        let layer = Layer::new()
            .tree(&files.join("app"))?
            .file("usr/bin/docker-entrypoint.sh", 0o755, REDIS_ENTRYPOINT.as_bytes())
            .owner(999, 999)
            .directory("data", 0o755);
        Ok(image
            .layer(layer)
            .set("Entrypoint", json!(["docker-entrypoint.sh"]))
            .set("Cmd", json!(["redis-server", "--protected-mode", "no"]))
            .set("ExposedPorts", json!({"6379/tcp": {}}))
            .set("Volumes", json!({"/data": {}}))
            .set("WorkingDir", json!("/data")))
    })?;
    Index::new(&images)
}

/// nginx, as an OCI index: a master as root, workers as `www-data`, SIGQUIT to stop.
pub fn nginx() -> Result<Index> {
    let images = for_each_target("nginx", |files, image| {
        let layer = Layer::new()
            .tree(&files.join("app"))?
            .file("etc/nginx/nginx.conf", 0o644, NGINX_CONFIGURATION.as_bytes())
            .file("usr/share/nginx/html/index.html", 0o644, b"<h1>nginx</h1>\n");
        Ok(image
            .layer(layer)
            .set("Cmd", json!(["nginx", "-g", "daemon off;"]))
            .set("ExposedPorts", json!({"80/tcp": {}}))
            .set("StopSignal", json!("SIGQUIT")))
    })?;
    Index::new(&images)
}

fn for_each_target(name: &str, finish: impl Fn(&Path, Image) -> Result<Image>) -> Result<Vec<Image>> {
    TARGETS
        .iter()
        .map(|target| {
            let files = unpacked(name, target)?;
            let base = Layer::new().tree(&files.join("base"))?;
            finish(&files, Image::new(target.platform)?.layer(base))
        })
        .collect()
}

/// The folder with an image's files, made on first use. The name holds what they depend on.
fn unpacked(image: &str, target: &Target) -> Result<PathBuf> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock();
    let script = workspace().join("tests/images/unpack.sh");
    let recipe = [fs::read(&script)?, fs::read(script.with_file_name("applets"))?].concat();
    let version = &Digest::of(&recipe).hex()[..12];
    let folder = cache().join("images").join(format!("{image}-{}-{version}", target.debian));
    if !folder.is_dir() {
        let aside = folder.with_extension(std::process::id().to_string());
        let mut unpack = Command::new(&script);
        unpack.args([image, target.debian]).arg(&aside).env("DPACK_DEV_CACHE", cache());
        Output::of(&mut unpack)?.success().with_context(|| format!("failed to make image `{image}`"))?;
        // another process may have finished first; its files are the same
        if fs::rename(&aside, &folder).is_err() {
            fs::remove_dir_all(&aside)?;
        }
    }
    Ok(folder)
}
