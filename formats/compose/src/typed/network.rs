//! How a service is connected, and to what it is tied.

use std::collections::BTreeMap;

use crate::diagnostic::{Path, Report};
use crate::node::Node;
use crate::project::{Attachment, Dependency, NetworkMode};
use crate::typed::values;

/// `network_mode` and `networks`.
pub(super) fn mode(node: &Node, path: &Path<'_>, report: &mut Report) -> NetworkMode {
    if let Some(mode) = node.get("network_mode")
        && let Some(text) = mode.as_text()
    {
        let path = path.key("network_mode");
        if let Some(networks) = node.get("networks") {
            report.error(networks.at, &path, "cannot be combined with `networks`");
        }
        if text == "host" && node.get("ports").is_some() {
            let message = "`ports` have no meaning on the device's own network, they are ignored";
            report.warn(mode.at, &path, message);
        }
        match text {
            "host" => return NetworkMode::Host,
            "none" => return NetworkMode::None,
            "bridge" => {
                let message = "`bridge` is not supported, there is no network that projects share";
                report.error(mode.at, &path, message).hint("leave `network_mode` out");
            }
            _ if text.starts_with("service:") || text.starts_with("container:") => {
                report.error(mode.at, &path, format!("`{text}` is not supported yet"));
            }
            _ => {
                report.error(mode.at, &path, format!("expected `host` or `none`, found `{text}`"));
            }
        }
        return NetworkMode::None;
    }
    let mut networks = BTreeMap::new();
    for (name, entry) in super::entries(node.get("networks")) {
        let aliases = entry.node.get("aliases").and_then(values::texts).unwrap_or_default();
        networks.insert(name.clone(), Attachment { aliases, ..Attachment::default() });
    }
    NetworkMode::Networks(networks)
}

/// `depends_on`, of which only the start of another service is waited for.
pub(super) fn depends_on(node: &Node, path: &Path<'_>, report: &mut Report) -> BTreeMap<String, Dependency> {
    let path = path.key("depends_on");
    let mut dependencies = BTreeMap::new();
    for (name, entry) in super::entries(node.get("depends_on")) {
        let path = path.key(name);
        match values::text(&entry.node, "condition") {
            Some("service_started") => {}
            None => {
                report.error(entry.key_at, &path, "no `condition` is given");
            }
            Some(condition) => {
                let at = entry.node.get("condition").map_or(entry.key_at, |value| value.at);
                let known = ["service_healthy", "service_completed_successfully"].contains(&condition);
                let path = path.key("condition");
                if known {
                    report.error(at, &path, format!("`{condition}` is not supported yet"));
                } else {
                    let message = format!("expected `service_started`, found `{condition}`");
                    report.error(at, &path, message);
                }
            }
        }
        for (key, default) in [("required", true), ("restart", false)] {
            if let Some(value) = entry.node.get(key)
                && values::flag(&entry.node, key) != default
            {
                let message = format!("`{key}: {}` is not supported yet", !default);
                report.error(value.at, &path.key(key), message);
            }
        }
        dependencies.insert(name.clone(), Dependency::default());
    }
    dependencies
}
