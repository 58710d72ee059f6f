//! What a test needs from the machine.

use std::fs::OpenOptions;
use std::io::Write;

use dpack_targets::TARGETS;

use crate::programs;

/// One thing that a machine may lack.
#[derive(Clone, Copy, Debug)]
pub enum Need {
    /// A program on the search path.
    Program(&'static str),
    /// Runner stubs, built by `cargo xtask stubs`.
    Stubs,
    /// The static probe, built by `cargo xtask probe`.
    Probe,
    /// Root, because the test takes the part of the device's administrator.
    Root,
    /// Debian's package sources: test images and kernels come from there.
    DebianPackages,
    /// An address of this machine besides loopback.
    Address,
}

/// Whether everything is there. If not, says so on standard error, past the test harness's capture, and notes it in the
/// file that `DPACK_TEST_SKIPPED` names.
///
/// # Panics
/// In CI (`CI` is set), where nothing may be skipped.
pub fn needs(needs: &[Need]) -> bool {
    let Some(missing) = needs.iter().find_map(|need| need.missing()) else { return true };
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let line = format!("skipped: {test}: {missing} (hint: cargo xtask setup)\n");
    assert!(
        std::env::var_os("CI").is_none_or(|value| value.is_empty()),
        "nothing may be skipped in CI: {line}"
    );
    // both are for people; neither may fail a test that has nothing to say
    let _ = std::io::stderr().write_all(line.as_bytes());
    if let Some(path) = std::env::var_os("DPACK_TEST_SKIPPED") {
        let file = OpenOptions::new().create(true).append(true).open(path);
        let _ = file.and_then(|mut file| file.write_all(line.as_bytes()));
    }
    false
}

impl Need {
    fn missing(self) -> Option<String> {
        let present = match self {
            Need::Program(program) => programs::find(program).is_some(),
            Need::Stubs => TARGETS.iter().all(|target| programs::stubs().join(target.triple).is_dir()),
            Need::Probe => TARGETS.iter().all(|target| programs::probe(target).is_file()),
            Need::Root => programs::is_root(),
            Need::Address => programs::outside_address().is_some(),
            Need::DebianPackages => {
                programs::find("apt-get").is_some() && programs::find("dpkg-deb").is_some()
            }
        };
        (!present).then(|| match self {
            Need::Program(program) => format!("`{program}` is not installed"),
            Need::Stubs => "the stubs are not built".to_owned(),
            Need::Probe => "the probe is not built".to_owned(),
            Need::Root => "not run as root".to_owned(),
            Need::DebianPackages => "not a Debian system".to_owned(),
            Need::Address => "no network".to_owned(),
        })
    }
}
