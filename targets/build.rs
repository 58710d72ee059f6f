//! Embeds the stubs that are there: `$DPACK_STUB_DIR`, else `target/stubs` of the workspace, as `<triple>/dpack-runner`.
//!
//! Without them the crate builds too (the stubs' own build and `cargo check` need no stubs) and warns.

use std::io::{Error, Result};
use std::path::{Path, PathBuf};

#[path = "src/table.rs"]
#[expect(dead_code, unreachable_pub, reason = "the library's; the build script reads two columns of it")]
mod table;

fn main() -> Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/table.rs");
    if std::env::var_os("CARGO_FEATURE_STUBS").is_none() {
        return Ok(());
    }
    let directory = stub_directory()?;
    // A folder is searched for anything newer, so a stub that appears later is noticed. While the folder itself is
    // missing, Cargo runs this script every time.
    println!("cargo::rerun-if-env-changed=DPACK_STUB_DIR");
    println!("cargo::rerun-if-changed={}", directory.display());

    let mut entries = String::new();
    let mut missing = Vec::new();
    for target in table::TARGETS {
        let path = directory.join(target.triple).join("dpack-runner");
        if path.is_file() {
            entries.push_str(&format!("    ({:?}, include_bytes!({:?})),\n", target.triple, utf8(&path)?));
        } else {
            missing.push(target.platform);
        }
    }
    if !missing.is_empty() {
        println!(
            "cargo::warning=no runner for {} in `{}`; build them first with `cargo xtask stubs`",
            missing.join(", "),
            directory.display()
        );
    }
    let out = PathBuf::from(variable("OUT_DIR")?).join("stubs.rs");
    std::fs::write(out, format!("static STUBS: &[(&str, &[u8])] = &[\n{entries}];\n"))
}

fn stub_directory() -> Result<PathBuf> {
    match std::env::var_os("DPACK_STUB_DIR").filter(|directory| !directory.is_empty()) {
        Some(directory) => std::path::absolute(directory),
        None => Ok(Path::new(&variable("CARGO_MANIFEST_DIR")?).join("../target/stubs")),
    }
}

fn variable(name: &str) -> Result<String> {
    std::env::var(name).map_err(|error| Error::other(format!("{name}: {error}")))
}

fn utf8(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| Error::other(format!("`{}` is not UTF-8", path.display())))
}
