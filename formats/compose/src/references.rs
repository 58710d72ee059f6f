//! What a project's parts say about each other: names that lead nowhere, cycles, two who want the same thing.

mod addresses;

pub use addresses::NETWORKS;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::diagnostic::{Path, Position, Report};
use crate::node::{Entry, Node};
use crate::project::{MountSource, NetworkMode, Port, Project, Protocol, Service, VolumePlace};
use crate::suggest;

/// Reports every reference that does not hold. `tree` is what the project was read from, and knows positions.
pub(crate) fn check(project: &Project, tree: &Node, report: &mut Report) {
    let services = Path::Root.key("services");
    for (name, service) in &project.services {
        let path = services.key(name);
        let node = tree.get("services").and_then(|services| services.get(name));
        names(project, service, node, &path, report);
        let key_at = entry(tree, &["services", name]).map_or_else(Default::default, |entry| entry.key_at);
        let volumes = node.and_then(|node| node.get("volumes")).and_then(Node::as_list).unwrap_or_default();
        for (index, mount) in service.volumes.iter().enumerate() {
            let MountSource::Volume { source: Some(volume), .. } = &mount.source else { continue };
            if !project.volumes.contains_key(volume) {
                let at = volumes.get(index).map_or(key_at, |node| node.at);
                let path = path.key("volumes");
                missing("volume", volume, &project.volumes, at, &path.index(index), report);
            }
        }
    }
    memory_volumes(project, tree, report);
    cycle(project, tree, report);
    container_names(project, tree, report);
    ports(project, tree, report);
    addresses::check(project, tree, report);
}

/// Reports every service of which nobody can say what its image is, and secrets that builds do not find. Only where
/// `build` is to be seen.
pub(crate) fn images(project: &Project, tree: &Node, report: &mut Report) {
    let path = Path::Root.key("services");
    for (name, service) in project.services.iter().chain(&project.disabled) {
        let Some(entry) = entry(tree, &["services", name]) else { continue };
        let given = ["build", "provider"].iter().any(|key| entry.node.get(key).is_some());
        if service.image.is_empty()
            && entry.node.get("image").is_none_or(|image| image.as_text() == Some(""))
            && !given
        {
            report.error(entry.key_at, &path.key(name), "neither `image` nor `build` is given");
        }
        let secrets = entry.node.get("build").and_then(|build| build.get("secrets")).and_then(Node::as_list);
        for (index, item) in secrets.unwrap_or_default().iter().enumerate() {
            let Some(secret) = item.get("source").and_then(Node::as_text) else { continue };
            if !project.secrets.contains_key(secret) {
                let path = path.key(name);
                let path = path.key("build");
                let path = path.key("secrets");
                missing("secret", secret, &project.secrets, item.at, &path.index(index), report);
            }
        }
    }
}

/// A tmpfs is in one container's memory.
fn memory_volumes(project: &Project, tree: &Node, report: &mut Report) {
    let path = Path::Root.key("volumes");
    for (key, volume) in &project.volumes {
        if !matches!(volume.place, Some(VolumePlace::Tmpfs { .. })) {
            continue;
        }
        let uses = |service: &Service| {
            service.volumes.iter().any(|mount| {
                matches!(&mount.source, MountSource::Volume { source: Some(source), .. } if source == key)
            })
        };
        let users = project.services.values().filter(|service| uses(service));
        if users.map(|service| service.replicas.unwrap_or(1)).sum::<u32>() > 1 {
            let at = entry(tree, &["volumes", key]).map_or_else(Default::default, |entry| entry.node.at);
            let path = path.key(key);
            let message =
                "a tmpfs that several containers see needs root; each can have one of its own (`tmpfs:`)";
            report.refuse(at, &path.key("driver_opts"), message);
        }
    }
}

/// Networks and volumes that a service uses, as section and key.
pub(crate) fn used(project: &Project) -> BTreeSet<(&'static str, String)> {
    let mut used = BTreeSet::new();
    for service in project.services.values() {
        if let NetworkMode::Networks(networks) = &service.network {
            used.extend(networks.keys().map(|key| ("networks", key.clone())));
        }
        for mount in &service.volumes {
            if let MountSource::Volume { source: Some(volume), .. } = &mount.source {
                used.insert(("volumes", volume.clone()));
            }
        }
        used.extend(service.configs.iter().map(|mount| ("configs", mount.source.clone())));
        used.extend(service.secrets.iter().map(|mount| ("secrets", mount.source.clone())));
    }
    used
}

/// Secrets that builds use, as section and key.
pub(crate) fn used_by_builds(tree: &Node) -> BTreeSet<(&'static str, String)> {
    let services = tree.get("services").and_then(Node::as_map).into_iter().flatten();
    let secrets = services
        .filter_map(|(_, entry)| entry.node.get("build")?.get("secrets")?.as_list())
        .flatten()
        .filter_map(|item| item.get("source").and_then(Node::as_text));
    secrets.map(|secret| ("secrets", secret.to_owned())).collect()
}

fn names(project: &Project, service: &Service, node: Option<&Node>, path: &Path<'_>, report: &mut Report) {
    let at = |section: &str, key: &str| {
        let entry = node.and_then(|node| entry(node, &[section, key]));
        entry.map_or_else(Default::default, |entry| entry.key_at)
    };
    if let NetworkMode::Networks(networks) = &service.network {
        for network in networks.keys().filter(|key| !project.networks.contains_key(*key)) {
            let at = at("networks", network);
            missing("network", network, &project.networks, at, &path.key("networks"), report);
        }
    }
    for (section, mounts, objects) in
        [("configs", &service.configs, &project.configs), ("secrets", &service.secrets, &project.secrets)]
    {
        let items = node.and_then(|node| node.get(section)).and_then(Node::as_list).unwrap_or_default();
        for (index, mount) in mounts.iter().enumerate().filter(|(_, m)| !objects.contains_key(&m.source)) {
            let at = items.get(index).map_or_else(Default::default, |item| item.at);
            missing(&section[..section.len() - 1], &mount.source, objects, at, &path.key(section), report);
        }
    }
    for (dependency, how) in &service.depends_on {
        let at = at("depends_on", dependency);
        if project.services.contains_key(dependency) {
            continue;
        }
        if !how.required && !project.disabled.contains_key(dependency) {
            let message = format!("there is no service `{dependency}`, it is done without");
            report.warn(at, &path.key("depends_on"), message);
            continue;
        }
        if let Some(other) = project.disabled.get(dependency) {
            if how.required {
                let message = format!("service `{dependency}` is not active");
                let profiles = other.profiles.join(", ");
                report
                    .error(at, &path.key("depends_on"), message)
                    .hint(format!("activate one of its profiles: {profiles}"));
            }
            continue;
        }
        missing("service", dependency, &project.services, at, &path.key("depends_on"), report);
    }
}

fn missing<T>(
    kind: &str,
    name: &str,
    known: &BTreeMap<String, T>,
    at: Position,
    path: &Path<'_>,
    report: &mut Report,
) {
    let known = known.keys().map(String::as_str).filter(|_| !report.is_full());
    let near = suggest::nearest(name, known);
    let reported = report.error(at, path, format!("there is no {kind} `{name}`"));
    match near {
        Some(near) => reported.hint(format!("did you mean `{near}`?")),
        None if kind == "service" => {}
        None => reported.hint(format!("define it under the top-level `{kind}s:`")),
    }
}

/// Reports one cycle of `depends_on`, if there is any.
fn cycle(project: &Project, tree: &Node, report: &mut Report) {
    // Services whose dependencies are all gone go, until only cycles and what depends on them are left.
    let mut left: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut dependents: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, service) in &project.services {
        let known = service.depends_on.keys().filter(|key| project.services.contains_key(*key));
        let known: BTreeSet<&str> = known.map(String::as_str).collect();
        for dependency in &known {
            dependents.entry(dependency).or_default().push(name);
        }
        left.insert(name, known);
    }
    let mut free: Vec<&str> = left.iter().filter(|(_, on)| on.is_empty()).map(|(name, _)| *name).collect();
    while let Some(name) = free.pop() {
        left.remove(name);
        for dependent in dependents.get(name).into_iter().flatten() {
            if let Some(on) = left.get_mut(dependent)
                && on.remove(name)
                && on.is_empty()
            {
                free.push(dependent);
            }
        }
    }
    // Every service left depends on another one left: following them leads round.
    let Some(mut name) = left.keys().next().copied() else { return };
    let mut walked: Vec<&str> = Vec::new();
    let start = loop {
        if let Some(start) = walked.iter().position(|seen| *seen == name) {
            break start;
        }
        walked.push(name);
        match left.get(name).and_then(|on| on.first()) {
            Some(next) => name = next,
            None => return,
        }
    };
    let round: Vec<&str> = walked[start..].iter().copied().chain([name]).collect();
    let at = entry(tree, &["services", name, "depends_on", round[1]])
        .map_or_else(Default::default, |entry| entry.key_at);
    let services = Path::Root.key("services");
    let message = format!("services depend on each other in a circle: {}", round.join(" -> "));
    report.error(at, &services.key(name).key("depends_on"), message);
}

fn container_names(project: &Project, tree: &Node, report: &mut Report) {
    let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, service) in &project.services {
        let Some(container) = &service.container_name else { continue };
        if let Some(other) = seen.insert(container, name) {
            let at = entry(tree, &["services", name, "container_name"])
                .map_or_else(Default::default, |entry| entry.node.at);
            let services = Path::Root.key("services");
            let path = services.key(name);
            let message = format!("service `{other}` has the same container name");
            report.error(at, &path.key("container_name"), message);
        }
    }
}

fn ports(project: &Project, tree: &Node, report: &mut Report) {
    let mut taken = Taken::new();
    for (name, service) in &project.services {
        if matches!(service.network, NetworkMode::Host) {
            continue;
        }
        let nodes = entry(tree, &["services", name, "ports"]).and_then(|entry| entry.node.as_list());
        for (index, port) in service.ports.iter().enumerate() {
            let Port { published: Some(published), published_last: None, host_ip, protocol, .. } = port
            else {
                continue;
            };
            let on_port = taken.entry((*published, *protocol == Protocol::Udp)).or_default();
            if let Some(&(other, _)) = on_port.iter().find(|(_, other)| overlap(*other, *host_ip)) {
                let at = nodes.and_then(|nodes| nodes.get(index)).map_or_else(Default::default, |n| n.at);
                let services = Path::Root.key("services");
                let service = services.key(name);
                let owner =
                    if other == name { "this service".to_owned() } else { format!("service `{other}`") };
                let message = format!("port {published} of the device is already taken by {owner}");
                report.error(at, &service.key("ports").index(index), message);
            }
            on_port.push((name, *host_ip));
            if let Some(count) = service.replicas.filter(|count| *count > 1) {
                let at = nodes.and_then(|nodes| nodes.get(index)).map_or_else(Default::default, |n| n.at);
                let message = format!(
                    "{count} containers cannot have one port of the device, {published}; publish a range (`8000-8010:80`)"
                );
                let services = Path::Root.key("services");
                let service = services.key(name);
                report.refuse(at, &service.key("ports").index(index), message);
            }
        }
    }
    ranges(project, tree, &taken, report);
}

/// Published ports that are fixed: who has which number, UDP or not, at which addresses.
type Taken<'a> = BTreeMap<(u16, bool), Vec<(&'a str, Option<IpAddr>)>>;

/// Reports ranges of which too few ports are left for the containers of their service.
fn ranges(project: &Project, tree: &Node, taken: &Taken<'_>, report: &mut Report) {
    let services = Path::Root.key("services");
    for (name, service) in &project.services {
        if matches!(service.network, NetworkMode::Host) {
            continue;
        }
        let nodes = entry(tree, &["services", name, "ports"]).and_then(|entry| entry.node.as_list());
        for (index, port) in service.ports.iter().enumerate() {
            let (Some(numbers), Some(last)) = (port.numbers(), port.published_last) else { continue };
            let is_free = |number: &u16| {
                let fixed = taken.get(&(*number, port.protocol == Protocol::Udp));
                fixed.is_none_or(|fixed| !fixed.iter().any(|(_, other)| overlap(*other, port.host_ip)))
            };
            let first = *numbers.start();
            let free = numbers.filter(is_free).count();
            let wanted = service.replicas.unwrap_or(1) as usize;
            if free < wanted {
                let at = nodes.and_then(|nodes| nodes.get(index)).map_or_else(Default::default, |n| n.at);
                let message =
                    format!("the range {first}-{last} has not enough ports: {wanted} needed, {free} left");
                let path = services.key(name);
                report.error(at, &path.key("ports").index(index), message);
            }
        }
    }
}

/// Whether two addresses cannot be listened on at once with the same port.
fn overlap(a: Option<IpAddr>, b: Option<IpAddr>) -> bool {
    let (Some(a), Some(b)) = (a, b) else { return true };
    a == b || a.is_ipv4() == b.is_ipv4() && (a.is_unspecified() || b.is_unspecified())
}

fn entry<'a>(node: &'a Node, path: &[&str]) -> Option<&'a Entry> {
    let (last, parents) = path.split_last()?;
    let mut node = node;
    for key in parents {
        node = node.get(key)?;
    }
    node.as_map()?.get(*last)
}
