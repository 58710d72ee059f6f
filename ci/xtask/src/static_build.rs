//! Builds one package as a static executable for some targets, the same bytes wherever the clone and the caches lie.
//!
//! What would tell two builds apart, and what is done about it:
//! - paths of the workspace, of Cargo's sources and of the standard library, in panic messages: remapped;
//! - the same in C code (`__FILE__`): remapped by the C compiler;
//! - dates: `SOURCE_DATE_EPOCH`;
//! - flags and profiles in the environment: removed;
//! - features of other packages built along: each package is built alone.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use dpack_targets::{C_FLAGS, RUST_FLAGS, Target};

use crate::toolchain::Toolchain;
use crate::{process, workspace};

/// A package that becomes one executable.
pub(crate) struct Program {
    pub(crate) package: &'static str,
    pub(crate) binary: &'static str,
}

/// Builds `program` from the workspace in `root` and returns the path of each target's executable, in their order.
pub(crate) fn build(
    program: &Program,
    root: &Path,
    targets: &[&Target],
    toolchain: &Toolchain,
) -> Result<Vec<PathBuf>> {
    let target_folder = root.join("target/static");
    let remaps = remaps(root, toolchain)?;
    let mut cargo = Command::new(&toolchain.cargo);
    clear_environment(&mut cargo);
    cargo
        .args([
            "build",
            "--locked",
            "--profile",
            "stub",
            "--package",
            program.package,
            "--bin",
            program.binary,
        ])
        .arg("--target-dir")
        .arg(&target_folder)
        .current_dir(root)
        .env("RUSTC", &toolchain.rustc)
        .env("CARGO_INCREMENTAL", "0")
        .env("SOURCE_DATE_EPOCH", "0")
        .env("CC_SHELL_ESCAPED_FLAGS", "1");
    for target in targets {
        cargo.args(["--target", target.triple]);
        let flags = rust_flags(target, toolchain, &remaps);
        cargo.arg("--config").arg(format!("target.{}.rustflags={flags:?}", target.triple));
        let triple = target.triple.replace('-', "_");
        let compiler = &target.c_compiler;
        if let Some(program) = compiler.programs.iter().find(|program| process::exists(program)) {
            cargo.env(format!("CC_{triple}"), program);
        }
        cargo.env(format!("CFLAGS_{triple}"), c_flags(target, &remaps));
    }
    process::run(&mut cargo)?;
    Ok(targets
        .iter()
        .map(|target| target_folder.join(target.triple).join("stub").join(program.binary))
        .collect())
}

/// Folders of this machine, and what a stub calls them.
fn remaps(root: &Path, toolchain: &Toolchain) -> Result<Vec<(PathBuf, String)>> {
    let cargo_home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".cargo")))
        .context("neither CARGO_HOME nor HOME is set")?;
    Ok(vec![
        (cargo_home, "/cargo".to_owned()),
        (toolchain.sysroot.join("lib/rustlib/src/rust"), format!("/rustc/{}", toolchain.commit)),
        (root.to_owned(), "/dpack".to_owned()),
    ])
}

/// Flags for the target only: with `--target`, Cargo gives none of them to build scripts and macros.
fn rust_flags(target: &Target, toolchain: &Toolchain, remaps: &[(PathBuf, String)]) -> Vec<String> {
    let mut flags = vec![format!("--sysroot={}", toolchain.sysroot.display())];
    flags.extend(RUST_FLAGS.iter().chain(target.rust_flags).map(|flag| (*flag).to_owned()));
    flags.extend(remaps.iter().map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display())));
    flags
}

fn c_flags(target: &Target, remaps: &[(PathBuf, String)]) -> String {
    let fixed = C_FLAGS.iter().chain(target.c_compiler.flags).map(|flag| (*flag).to_owned());
    let maps = remaps.iter().map(|(from, to)| format!("-ffile-prefix-map={}={to}", from.display()));
    fixed.chain(maps).map(|flag| format!("'{flag}'")).collect::<Vec<_>>().join(" ")
}

/// Removes what would change the result: flags override those of the configuration, profiles and target folders too.
fn clear_environment(command: &mut Command) {
    const ALONE: &[&str] = &[
        "RUSTFLAGS",
        "RUSTDOC",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "CFLAGS",
        "CPPFLAGS",
        "CC",
        "AR",
    ];
    const FAMILIES: &[&str] =
        &["CARGO_BUILD_", "CARGO_PROFILE_", "CARGO_TARGET_", "CARGO_ENCODED_", "CC_", "CFLAGS_", "TARGET_"];
    let unwanted = |name: &OsStr| {
        name.to_str().is_some_and(|name| {
            ALONE.contains(&name) || FAMILIES.iter().any(|family| name.starts_with(family))
        })
    };
    for (name, _) in std::env::vars_os().filter(|(name, _)| unwanted(name)) {
        command.env_remove(name);
    }
    // set by the cargo that runs us; one toolchain's cargo must not meet the other's
    command.env_remove("CARGO").env_remove("RUSTUP_TOOLCHAIN");
}

/// Puts a built executable in its place, whole or not at all; a file with the same bytes stays untouched, so that
/// nobody rebuilds for it.
pub(crate) fn place(built: &Path, destination: &Path) -> Result<()> {
    let bytes = std::fs::read(built).with_context(|| format!("failed to read `{}`", built.display()))?;
    if std::fs::read(destination).is_ok_and(|present| present == bytes) {
        return Ok(());
    }
    let write = || -> std::io::Result<()> {
        if let Some(folder) = destination.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let aside = destination.with_extension("new");
        std::fs::copy(built, &aside)?;
        std::fs::rename(aside, destination)
    };
    write().with_context(|| format!("failed to write `{}`", destination.display()))
}

/// Says which folder of this machine is named in an executable, if any.
pub(crate) fn leaked_path(executable: &[u8], root: &Path, toolchain: &Toolchain) -> Result<Option<PathBuf>> {
    let mut folders: Vec<PathBuf> = remaps(root, toolchain)?.into_iter().map(|(from, _)| from).collect();
    folders.push(workspace::cache()?);
    Ok(folders.into_iter().find(|folder| {
        let name = folder.as_os_str().as_encoded_bytes();
        executable.windows(name.len()).any(|window| window == name)
    }))
}

#[cfg(test)]
mod tests {
    use dpack_targets::TARGETS;

    use super::*;

    /// Neither file can read the table.
    #[test]
    fn cross_is_set_up_as_the_table_says() {
        let root = workspace::root().unwrap();
        let image = std::fs::read_to_string(root.join("Dockerfile.cross")).unwrap();
        let cross = std::fs::read_to_string(root.join("Cross.toml")).unwrap();
        for target in TARGETS {
            let triple = target.triple.replace('-', "_");
            let compiler = &target.c_compiler;
            let flags = C_FLAGS.iter().chain(compiler.flags).copied().collect::<Vec<_>>().join(" ");
            assert!(cross.contains(&format!("[target.{}]", target.triple)), "{triple}");
            for package in compiler.packages {
                assert!(image.contains(package), "{package}");
            }
            assert!(image.contains(&format!("CFLAGS_{triple}=\"{flags}\"")), "{flags}");
            let flags = RUST_FLAGS.iter().chain(target.rust_flags).copied().collect::<Vec<_>>().join(" ");
            let rust_flags = format!("{}_RUSTFLAGS=\"{flags} ", triple.to_uppercase());
            assert!(image.contains(&rust_flags), "{rust_flags}");
            let named = |program: &&&str| image.contains(&format!("CC_{triple}={program} "));
            assert!(compiler.programs.iter().find(named).is_some(), "{triple}");
        }
    }
}
