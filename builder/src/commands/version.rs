//! `dpack version`: of the program, of the format it writes, and which runners it has.

use anyhow::Result;
use dpack_targets::TARGETS;
use dpack_targets::stubs::stub_from;
use serde::Serialize;

use crate::args::{ListFormat, VersionArguments};
use crate::text::{print, print_json};

#[derive(Serialize)]
struct Version {
    version: &'static str,
    payload_format: u32,
    /// Platforms whose runner is embedded.
    runners: Vec<&'static str>,
}

pub(crate) fn run(arguments: &VersionArguments) -> Result<()> {
    let embedded = |platform: &str| platform.parse().is_ok_and(|platform| stub_from(&platform, None).is_ok());
    let version = Version {
        version: env!("CARGO_PKG_VERSION"),
        payload_format: dpack_payload::VERSION,
        runners: TARGETS.iter().map(|target| target.platform).filter(|platform| embedded(platform)).collect(),
    };
    match arguments.format {
        ListFormat::Json => print_json(&version),
        ListFormat::Text => {
            let runners =
                if version.runners.is_empty() { "none".to_owned() } else { version.runners.join(", ") };
            print(&format!(
                "dpack {}\npayload format {}\nrunners for {runners}\n",
                version.version, version.payload_format
            ))
        }
    }
}
