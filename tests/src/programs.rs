//! Where programs and folders are.

use std::net::{IpAddr, UdpSocket};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use dpack_targets::Target;

/// The workspace's folder.
pub fn workspace() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    own.canonicalize().unwrap_or(own)
}

/// The stubs: `<triple>/dpack-runner` in `DPACK_STUB_DIR`, else those of `cargo xtask stubs`.
pub fn stubs() -> PathBuf {
    let folder = std::env::var_os("DPACK_STUB_DIR").filter(|folder| !folder.is_empty());
    folder.map_or_else(|| workspace().join("target/stubs"), PathBuf::from)
}

/// The static probe for a target, built by `cargo xtask probe`.
pub fn probe(target: &Target) -> PathBuf {
    workspace().join("target/probes").join(target.triple).join("probe")
}

/// What is kept between runs: unpacked packages, images, kernels. `DPACK_DEV_CACHE`, else `dpack-dev` in the user's cache.
pub fn cache() -> PathBuf {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("DPACK_DEV_CACHE")
        .or_else(|| variable("XDG_CACHE_HOME").map(|cache| cache.join("dpack-dev")))
        .or_else(|| variable("HOME").map(|home| home.join(".cache/dpack-dev")))
        .unwrap_or_else(|| std::env::temp_dir().join("dpack-dev"))
}

/// An address of this machine that is not loopback. Nothing is sent to find it.
pub fn outside_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}

/// A program on the search path, or where administrators' programs are.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    folders.map(|folder| folder.join(program)).find(|candidate| candidate.is_file())
}

/// Whether we are root.
pub(crate) fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}
