//! Real software as real images, from Debian packages: `busybox`, `redis`, `nginx` for every platform, `postgres` and `clients` for
//! one.
//!
//! They are made once, by `tests/images/unpack.sh`, and kept in [`cache`]. All share their lowest layer, as
//! images of one distribution do.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use anyhow::{Context, Result};
use dpack_payload::digest::Digest;
use dpack_targets::{TARGETS, Target};
use serde_json::json;
use tempfile::TempDir;

use super::image::Image;
use super::index::{Format, Index};
use super::layer::Layer;
use crate::output::Output;
use crate::programs::{cache, workspace};

/// What the official image does: a root shell changes the owner of the data, becomes `redis`, and executes this script again.
/// Where becoming another user had no effect, that would never end. Nothing but `redis` may own the data then.
const REDIS_ENTRYPOINT: &str = r#"#!/bin/sh
set -e
if [ "${1#-}" != "$1" ] || [ "${1%.conf}" != "$1" ]; then
    set -- redis-server "$@"
fi
if [ "$1" = redis-server ] && [ "$(id -u)" = 0 ]; then
    find . \! -user redis -exec chown redis:redis '{}' +
    # by its path: the shell of BusyBox prefers its own
    exec /usr/bin/setpriv --reuid=redis --regid=redis --clear-groups -- "$0" "$@"
fi
if [ "$1" = redis-server ]; then
    [ "$(id -un)" = redis ] || { echo "still $(id -un)"; exit 1; }
    [ "$(stat -c %U .)" = redis ] || { echo "the data belongs to $(stat -c %U .)"; exit 1; }
    [ -z "$(find . \! -user redis)" ] || { echo 'not all data belongs to redis'; exit 1; }
fi
exec "$@"
"#;

/// What the official image does, too: a root shell makes the data folder, changes its owner, becomes `postgres`, and executes this
/// script again, which then makes the database.
const POSTGRES_ENTRYPOINT: &str = r#"#!/bin/sh
set -e
export PATH=/usr/lib/postgresql/15/bin:$PATH PGDATA=/data/pg TZ=Etc/UTC
if [ "$(id -u)" = 0 ]; then
    mkdir -p "$PGDATA" /run/postgresql
    chmod 700 "$PGDATA"
    chmod 3775 /run/postgresql
    find "$PGDATA" /run/postgresql \! -user postgres -exec chown postgres '{}' +
    exec /usr/bin/setpriv --reuid=postgres --regid=postgres --clear-groups -- "$0" "$@"
fi
[ -s "$PGDATA/PG_VERSION" ] || initdb -U postgres --auth=trust --no-sync --locale=C --encoding=UTF8 >/dev/null
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
    made_once("busybox", Format::Docker, |_, image| Ok(image.set("Cmd", json!(["sh"]))))
}

/// Redis, as an OCI index: an entrypoint that starts as root and gives that up, a volume, a port.
pub fn redis() -> Result<Index> {
    made_once("redis", Format::Oci, |files, image| {
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
    })
}

/// nginx, as an OCI index: a master as root, workers as `www-data`, SIGQUIT to stop.
pub fn nginx() -> Result<Index> {
    made_once("nginx", Format::Oci, |files, image| {
        let layer = Layer::new()
            .tree(&files.join("app"))?
            .file("etc/nginx/nginx.conf", 0o644, NGINX_CONFIGURATION.as_bytes())
            .file("usr/share/nginx/html/index.html", 0o644, b"<h1>nginx</h1>\n");
        Ok(image
            .layer(layer)
            .set("Cmd", json!(["nginx", "-g", "daemon off;"]))
            .set("ExposedPorts", json!({"80/tcp": {}}))
            .set("StopSignal", json!("SIGQUIT")))
    })
}

/// postgres as a layer over BusyBox, for one platform: its programs refuse to run as root, and data that is not their user's.
pub fn postgres(target: &Target) -> Result<Layer> {
    let folder = unpacked_once("postgres", target)?;
    let accounts = |name: &str, line: &str| fs::read_to_string(folder.join(name)).map(|text| text + line);
    let (passwd, group) =
        (accounts("passwd", "postgres:x:70:70::/data:/bin/sh\n")?, accounts("group", "postgres:x:70:\n")?);
    Ok(Layer::new()
        .tree(&folder)?
        .symlink("var/run", "/run")
        .file("etc/passwd", 0o644, passwd.as_bytes())
        .file("etc/group", 0o644, group.as_bytes())
        .file("usr/bin/postgres-entrypoint.sh", 0o755, POSTGRES_ENTRYPOINT.as_bytes()))
}

/// What networks are tried with, as a layer over BusyBox, for one platform: iperf3, curl, ping and dig as Debian has them.
pub fn clients(target: &Target) -> Result<Layer> {
    Layer::new().tree(&unpacked_once("clients", target)?)
}

/// The folder of one platform's files, from the cache or made and put there.
fn unpacked_once(image: &str, target: &Target) -> Result<PathBuf> {
    let version = Digest::of(RECIPE.concat().as_bytes()).hex();
    let folder = cache().join("images").join(format!("{image}-{}-{}", &version[..12], target.debian));
    if !folder.is_dir() {
        let files = unpack(image, target)?;
        fs::create_dir_all(cache().join("images"))?;
        // another process may have finished first; its files are the same
        let _ = fs::rename(files.path().join("app"), &folder);
    }
    Ok(folder)
}

/// The image from the cache, or made and put there. The folder's name holds everything that the image is made by.
fn made_once(name: &str, format: Format, finish: impl Fn(&Path, Image) -> Result<Image>) -> Result<Index> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock();
    let version = Digest::of(RECIPE.concat().as_bytes()).hex();
    let folder = cache().join("images").join(format!("{name}-{}", &version[..12]));
    if !folder.is_dir() {
        let mut images = Vec::new();
        for target in TARGETS {
            let files = unpack(name, target)?;
            let base = Layer::new().tree(&files.path().join("base"))?;
            images.push(finish(files.path(), Image::new(target.platform)?.layer(base))?);
        }
        let aside = tempfile::tempdir_in(cache())?;
        Index::in_format(format, &images)?.write_layout(aside.path(), "latest")?;
        fs::create_dir_all(cache().join("images"))?;
        // another process may have finished first; its image is the same
        let _ = fs::rename(aside.path(), &folder);
    }
    Index::read_layout(&folder)
}

/// The sources of whatever decides an image's bytes.
const RECIPE: &[&str] = &[
    include_str!("debian.rs"),
    include_str!("layer.rs"),
    include_str!("image.rs"),
    include_str!("index.rs"),
    include_str!("../../images/unpack.sh"),
    include_str!("../../images/applets"),
];

/// Unpacks one platform's files.
fn unpack(image: &str, target: &Target) -> Result<TempDir> {
    fs::create_dir_all(cache())?;
    let folder = tempfile::tempdir_in(cache())?;
    let mut script = Command::new(workspace().join("tests/images/unpack.sh"));
    script.args([image, target.debian]).arg(folder.path()).env("DPACK_DEV_CACHE", cache());
    Output::of(&mut script)?.success().with_context(|| format!("failed to make image `{image}`"))?;
    Ok(folder)
}
