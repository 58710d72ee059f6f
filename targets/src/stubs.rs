//! The runner stubs: embedded when this crate is built, replaced at run time by `DPACK_STUB_DIR`.
//!
//! `cargo xtask stubs` builds them into `target/stubs`; the build script embeds what it finds there. A `dpack` that was
//! built without stubs works with `DPACK_STUB_DIR` only and says so.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use dpack_payload::platform::Platform;

use crate::table::{ElfIdentity, TARGETS, Target};

/// Environment variable that names a folder to take stubs from: `<dir>/<triple>/dpack-runner`.
pub const STUB_DIR_VARIABLE: &str = "DPACK_STUB_DIR";

/// Name of the runner's executable, in the stub folder as in the Cargo target folder.
pub const STUB_FILE: &str = "dpack-runner";

// static STUBS: &[(&str, &[u8])] = &[(triple, include_bytes!(…)), …];
include!(concat!(env!("OUT_DIR"), "/stubs.rs"));

/// Why there is no stub for a platform.
#[derive(Debug, thiserror::Error)]
pub enum StubError {
    /// The table has no such row.
    #[error("no runner for platform `{platform}`\nhint: dpack builds for {known}")]
    UnknownPlatform {
        /// What was asked for.
        platform: String,
        /// Every platform of the table.
        known: String,
    },
    /// This `dpack` was built before the stubs were.
    #[error(
        "this dpack has no runner for `{platform}` in it\nhint: run `cargo xtask stubs` and build dpack again, or set {STUB_DIR_VARIABLE} to a folder with {triple}/{STUB_FILE}"
    )]
    NotEmbedded {
        /// What was asked for.
        platform: String,
        /// Its triple.
        triple: &'static str,
    },
    /// The folder that the environment names lacks the file.
    #[error(
        "failed to read the runner `{path}`\nhint: {STUB_DIR_VARIABLE} names this folder; unset it to use the embedded runners"
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The file is for another architecture, or no ELF file at all.
    #[error("`{path}` is not a runner for `{platform}`: {found}")]
    WrongMachine {
        /// The file.
        path: PathBuf,
        /// What was asked for.
        platform: String,
        /// What it is instead.
        found: String,
    },
}

/// The runner for a platform, as an executable without a payload.
pub fn stub(platform: &Platform) -> Result<Cow<'static, [u8]>, StubError> {
    let directory = std::env::var_os(STUB_DIR_VARIABLE).filter(|directory| !directory.is_empty());
    stub_from(platform, directory.as_ref().map(Path::new))
}

/// Like [`stub`], with the folder given instead of looked up in the environment; `None` is the embedded stub.
pub fn stub_from(platform: &Platform, directory: Option<&Path>) -> Result<Cow<'static, [u8]>, StubError> {
    let text = platform.to_string();
    let Some(target) = Target::for_platform(&text) else {
        let known = TARGETS.iter().map(|target| target.platform).collect::<Vec<_>>().join(", ");
        return Err(StubError::UnknownPlatform { platform: text, known });
    };
    match directory {
        Some(directory) => read(target, &directory.join(target.triple).join(STUB_FILE)).map(Cow::Owned),
        None => embedded(target)
            .map(Cow::Borrowed)
            .ok_or(StubError::NotEmbedded { platform: text, triple: target.triple }),
    }
}

fn embedded(target: &Target) -> Option<&'static [u8]> {
    STUBS.iter().find(|(triple, _)| *triple == target.triple).map(|(_, bytes)| *bytes)
}

fn read(target: &Target, path: &Path) -> Result<Vec<u8>, StubError> {
    let bytes = std::fs::read(path).map_err(|source| StubError::Read { path: path.to_owned(), source })?;
    let identity = ElfIdentity::of(&bytes);
    if identity == Some(target.elf) {
        return Ok(bytes);
    }
    let found = match identity {
        Some(other) => match TARGETS.iter().find(|row| row.elf == other) {
            Some(row) => format!("it is one for {}", row.platform),
            None => format!("its ELF machine is {}", other.machine),
        },
        None => "it is no little-endian ELF file".to_owned(),
    };
    Err(StubError::WrongMachine { path: path.to_owned(), platform: target.platform.to_owned(), found })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        text.parse().unwrap()
    }

    #[test]
    fn unknown_platform_lists_the_known_ones() {
        let error = stub_from(&platform("linux/riscv64"), None).unwrap_err().to_string();
        assert!(error.contains("linux/riscv64") && error.contains("linux/arm/v7"), "{error}");
    }

    #[test]
    fn folder_overrides_and_is_checked_for_the_architecture() {
        let folder = std::env::temp_dir().join(format!("dpack-stubs-{}", std::process::id()));
        let file = folder.join("aarch64-unknown-linux-musl").join(STUB_FILE);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        let mut header = [0_u8; 64];
        header[..6].copy_from_slice(b"\x7fELF\x02\x01");
        header[18] = 183;
        std::fs::write(&file, header).unwrap();
        assert_eq!(stub_from(&platform("linux/arm64/v8"), Some(&folder)).unwrap(), &header[..]);

        header[18] = 62;
        std::fs::write(&file, header).unwrap();
        let wrong = stub_from(&platform("linux/arm64"), Some(&folder)).unwrap_err().to_string();
        assert!(wrong.ends_with("it is one for linux/amd64"), "{wrong}");

        let absent = stub_from(&platform("linux/amd64"), Some(&folder)).unwrap_err();
        assert!(matches!(absent, StubError::Read { .. }), "{absent}");
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn whatever_is_embedded_is_for_its_row() {
        for (triple, bytes) in STUBS {
            assert_eq!(
                ElfIdentity::of(bytes),
                Target::for_triple(triple).map(|target| target.elf),
                "{triple}"
            );
        }
    }
}
