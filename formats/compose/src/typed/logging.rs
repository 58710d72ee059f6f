//! `logging`: the options of Docker's `json-file` and `local` drivers.
//!
//! Both are kept in the same form here; what differs is how much is kept by default: of `local` five files of 20 MB, of
//! `json-file` one file without limit, as with Docker.

use crate::diagnostic::{Path, Report};
use crate::node::Node;
use crate::project::Logging;
use crate::short::size;
use crate::typed::values;

/// Options of every driver, which say how lines reach it, and of `json-file`, which say what is written besides: none
/// of them changes what `logs` shows.
const WITHOUT_EFFECT: [&str; 11] = [
    "cache-compress",
    "cache-disabled",
    "cache-max-file",
    "cache-max-size",
    "max-buffer-size",
    "mode",
    "env",
    "env-regex",
    "labels",
    "labels-regex",
    "tag",
];
/// Those of them that `local` has, too.
const OF_EVERY_DRIVER: usize = 6;

pub(super) fn read(service: &Node, path: &Path<'_>, report: &mut Report) -> Option<Logging> {
    let node = service.get("logging")?;
    let path = path.key("logging");
    let driver = values::text(node, "driver").unwrap_or("json-file");
    let (mut logging, without_effect) = match driver {
        "none" => return Some(Logging { none: true, ..Logging::default() }),
        "local" => {
            let logging = Logging { max_size: Some(20_000_000), max_file: Some(5), none: false };
            (logging, &WITHOUT_EFFECT[..OF_EVERY_DRIVER])
        }
        "json-file" => (Logging::default(), &WITHOUT_EFFECT[..]),
        other => {
            let at = node.get("driver").map_or(node.at, |value| value.at);
            let message = format!(
                "log driver `{other}` needs a service of the machine; there are `json-file`, `local` and `none`"
            );
            report.refuse(at, &path.key("driver"), message);
            return None;
        }
    };
    let path = path.key("options");
    for (key, entry) in super::entries(node.get("options")) {
        let Some(value) = entry.node.scalar_text() else { continue };
        let path = path.key(key);
        let at = entry.node.at;
        match key.as_str() {
            "max-size" if value == "-1" => logging.max_size = None,
            "max-size" => match size::decimal(&value) {
                Ok(0) => {
                    report.error(at, &path, "expected a size above 0");
                }
                Ok(size) => logging.max_size = Some(size),
                Err(message) => {
                    report.error(at, &path, message);
                }
            },
            "max-file" => match value.parse() {
                Ok(files) if files > 0 => logging.max_file = Some(files),
                _ => {
                    report.error(at, &path, format!("expected a number of files from 1 on, found `{value}`"));
                }
            },
            "compress" if matches!(value.as_str(), "true" | "false" | "1" | "0" | "t" | "f") => {}
            "compress" => {
                report.error(at, &path, format!("expected `true` or `false`, found `{value}`"));
            }
            known if without_effect.contains(&known) => {}
            _ => {
                let message = format!(
                    "log driver `{driver}` has no such option; those that matter here are `max-size` and `max-file`"
                );
                report.refuse(entry.key_at, &path, message);
            }
        }
    }
    Some(logging)
}
