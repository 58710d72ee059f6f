//! Profiles: services that run only when asked for.

use std::collections::{BTreeMap, BTreeSet};

use crate::interpolate::Options;
use crate::interpolate::variables::Variables;
use crate::model::Model;
use crate::node::{Node, Value};
use crate::project::Project;
use crate::typed;

/// Activates all.
const ALL: &str = "*";
/// Profiles, with commas between them.
const VARIABLE: &str = "COMPOSE_PROFILES";

/// The active profiles.
pub(crate) fn active(model: &Model, variables: &Variables, options: &Options<'_>) -> BTreeSet<String> {
    let mut active: BTreeSet<String> = options.profiles.iter().cloned().collect();
    if options.all_profiles {
        active.insert(ALL.to_owned());
    }
    if let Some(variable) = variables.peek(VARIABLE) {
        active.extend(variable.value.split(',').map(str::trim).filter(|p| !p.is_empty()).map(str::to_owned));
    }
    if active.is_empty() {
        active.extend(model.profiles.iter().cloned());
    }
    active
}

/// The services of a merged tree that are not active. The profiles of those that were asked for by name become active,
/// unless one of them is.
pub(crate) fn inactive(tree: &Node, mut active: BTreeSet<String>, asked_for: &[String]) -> BTreeSet<String> {
    if active.contains(ALL) {
        return BTreeSet::new();
    }
    let profiles = |service: &Node| -> Vec<String> {
        let list = service.get("profiles").and_then(Node::as_list).unwrap_or_default();
        list.iter().filter_map(Node::scalar_text).collect()
    };
    let services: BTreeMap<&String, Vec<String>> =
        typed::section(tree, "services").map(|(name, entry)| (name, profiles(&entry.node))).collect();
    let is_on = |profiles: &[String], active: &BTreeSet<String>| {
        profiles.is_empty() || profiles.iter().any(|profile| active.contains(profile))
    };
    let named = asked_for.iter().filter_map(|name| services.get(name));
    let more: Vec<String> = named.filter(|profiles| !is_on(profiles, &active)).flatten().cloned().collect();
    active.extend(more);
    let off = services.into_iter().filter(|(_, profiles)| !is_on(profiles, &active));
    off.map(|(name, _)| name.clone()).collect()
}

/// Sets services aside, and takes them out of what is printed.
pub(crate) fn set_aside(project: &mut Project, tree: &mut Node, inactive: &BTreeSet<String>) {
    for name in inactive {
        project.disabled.extend(project.services.remove_entry(name));
    }
    if let Value::Map(sections) = &mut tree.value
        && let Some(Value::Map(services)) = sections.get_mut("services").map(|entry| &mut entry.node.value)
    {
        services.retain(|name, _| !inactive.contains(name));
    }
}
