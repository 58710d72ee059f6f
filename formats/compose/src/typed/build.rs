//! `build`, which only the builder reads.

use crate::diagnostic::{Path, Report};
use crate::node::Node;
use crate::project::Build;
use crate::typed::{network, resources, values};

pub(super) fn read(service: &Node, path: &Path<'_>, report: &mut Report) -> Option<Build> {
    let node = service.get("build")?;
    let path = path.key("build");
    let text = |key: &str| values::text(node, key).map(str::to_owned);
    let mut build = Build {
        context: text("context").unwrap_or_else(|| ".".to_owned()),
        dockerfile: text("dockerfile"),
        dockerfile_inline: text("dockerfile_inline"),
        additional_contexts: values::pairs(node, "additional_contexts"),
        target: text("target"),
        args: values::pairs(node, "args"),
        labels: values::pairs(node, "labels"),
        network: text("network"),
        extra_hosts: network::extra_hosts(node, &path, report),
        ssh: values::list(node, "ssh"),
        no_cache: values::flag(node, "no_cache"),
        no_cache_filter: values::list(node, "no_cache_filter"),
        pull: values::flag(node, "pull"),
        cache_from: values::list(node, "cache_from"),
        cache_to: values::list(node, "cache_to"),
        entitlements: values::list(node, "entitlements"),
        shm_size: values::number(node, "shm_size").filter(|size| *size > 0),
        ulimits: resources::ulimits(node, &path, report),
        ..Build::default()
    };
    if build.dockerfile.is_some() && build.dockerfile_inline.is_some() {
        let at = node.get("dockerfile_inline").map_or(node.at, |value| value.at);
        report.error(at, &path.key("dockerfile_inline"), "`dockerfile` is given, too");
    }
    for (name, entry) in super::entries(node.get("additional_contexts")) {
        if entry.node.as_text().is_some_and(|context| context.starts_with("service:")) {
            let path = path.key("additional_contexts");
            let message = "images of other services cannot be contexts: make one Dockerfile with several stages of them";
            report.refuse(entry.node.at, &path.key(name), message);
        }
    }
    let path = path.key("secrets");
    let items = node.get("secrets").and_then(Node::as_list).unwrap_or_default();
    for (index, item) in items.iter().enumerate() {
        let path = path.index(index);
        let Some(source) = values::text(item, "source") else { continue };
        let id = values::text(item, "target").unwrap_or(source);
        if id.contains(',') {
            report.error(item.at, &path, format!("`{id}` cannot be an ID of a secret"));
        }
        if build.secrets.insert(id.to_owned(), source.to_owned()).is_some() {
            report.error(item.at, &path, format!("there is already a secret with the ID `{id}`"));
        }
    }
    Some(build)
}
