//! The merged tree to the typed [`Project`]: every value is checked here and nowhere later.

#[cfg(feature = "yaml")]
mod build;
mod files;
mod isolation;
mod lifecycle;
mod logging;
mod mounts;
pub(crate) mod network;
mod ports;
mod resources;
mod service;
mod values;

use std::collections::BTreeMap;

use crate::diagnostic::{Path, Report};
use crate::node::{Map, Node};
use crate::project::{Network, Project, Volume};

pub use isolation::CAPABILITIES;
pub use resources::ULIMITS;

/// Reads the whole project; what is wrong is reported and left out.
pub(crate) fn project(root: &Node, name: &str, report: &mut Report) -> Project {
    let mut project = Project { name: name.to_owned(), ..Project::default() };
    let path = Path::Root.key("services");
    for (name, entry) in section(root, "services") {
        let service = service::read(&entry.node, entry.key_at, &path.key(name), report);
        project.services.insert(name.clone(), service);
    }
    if project.services.is_empty() {
        report.error(root.at, &Path::Root, "there is no service in it");
    }
    let path = Path::Root.key("networks");
    for (key, entry) in section(root, "networks") {
        project.networks.insert(key.clone(), network(&entry.node, &path.key(key), report));
    }
    let path = Path::Root.key("volumes");
    for (key, entry) in section(root, "volumes") {
        project.volumes.insert(key.clone(), volume(&entry.node, &path.key(key), report));
    }
    for (name, objects) in [("configs", &mut project.configs), ("secrets", &mut project.secrets)] {
        let path = Path::Root.key(name);
        for (key, entry) in section(root, name) {
            objects.insert(key.clone(), files::object(&entry.node, &path.key(key), report));
        }
    }
    project
}

/// The entries of a top-level section.
pub(crate) fn section<'a>(
    root: &'a Node,
    name: &str,
) -> impl Iterator<Item = (&'a String, &'a crate::node::Entry)> {
    root.get(name).and_then(Node::as_map).into_iter().flatten()
}

fn network(node: &Node, path: &Path<'_>, report: &mut Report) -> Network {
    if node.get("enable_ipv4").is_some_and(|_| !values::flag(node, "enable_ipv4"))
        && !values::flag(node, "enable_ipv6")
    {
        let at = node.get("enable_ipv4").map_or(node.at, |value| value.at);
        report.refuse(at, &path.key("enable_ipv4"), "without IPv4, the network needs `enable_ipv6: true`");
    }
    driver(node, &["bridge", "default"], path, report);
    Network {
        name: values::text(node, "name").unwrap_or_default().to_owned(),
        internal: values::flag(node, "internal"),
        external: values::flag(node, "external"),
        enable_ipv4: node.get("enable_ipv4").map(|_| values::flag(node, "enable_ipv4")),
        enable_ipv6: node.get("enable_ipv6").map(|_| values::flag(node, "enable_ipv6")),
        ipam: network::pools(node, path, report),
        driver_opts: network::driver_options(node, path, report),
        labels: values::pairs(node, "labels"),
    }
}

fn volume(node: &Node, path: &Path<'_>, report: &mut Report) -> Volume {
    driver(node, &["local", "default"], path, report);
    Volume {
        name: values::text(node, "name").unwrap_or_default().to_owned(),
        external: values::flag(node, "external"),
        labels: values::pairs(node, "labels"),
        place: mounts::volume_place(node, path, report),
    }
}

fn driver(node: &Node, known: &[&str], path: &Path<'_>, report: &mut Report) {
    if let Some(driver) = node.get("driver")
        && let Some(name) = driver.as_text()
        && !name.is_empty()
        && !known.contains(&name)
    {
        let message = format!("driver `{name}` is not supported, expected `{}`", known[0]);
        report.refuse(driver.at, &path.key("driver"), message);
    }
}

/// A mapping's entries, or none.
fn entries(node: Option<&Node>) -> impl Iterator<Item = (&String, &crate::node::Entry)> {
    static NONE: Map = BTreeMap::new();
    node.and_then(Node::as_map).unwrap_or(&NONE).iter()
}
