//! Profiles: services that run only when asked for.

use std::collections::BTreeSet;

use crate::interpolate::Options;
use crate::interpolate::variables::Variables;
use crate::model::Model;
use crate::node::{Node, Value};
use crate::project::{Project, Service};

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

/// Sets aside the services that are not active, and takes them out of what is printed. The profiles of those that were
/// asked for by name become active, unless one of them is.
pub(crate) fn apply(
    project: &mut Project,
    tree: &mut Node,
    mut active: BTreeSet<String>,
    asked_for: &[String],
) {
    if active.contains(ALL) {
        return;
    }
    let is_on = |service: &Service, active: &BTreeSet<String>| {
        service.profiles.is_empty() || service.profiles.iter().any(|profile| active.contains(profile))
    };
    let named = asked_for.iter().filter_map(|name| project.services.get(name));
    let more: Vec<String> = named
        .filter(|service| !is_on(service, &active))
        .flat_map(|service| service.profiles.clone())
        .collect();
    active.extend(more);
    for (name, service) in std::mem::take(&mut project.services) {
        let place = if is_on(&service, &active) { &mut project.services } else { &mut project.disabled };
        place.insert(name, service);
    }
    if let Value::Map(sections) = &mut tree.value
        && let Some(Value::Map(services)) = sections.get_mut("services").map(|entry| &mut entry.node.value)
    {
        services.retain(|name, _| !project.disabled.contains_key(name));
    }
}
