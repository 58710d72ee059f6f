//! From what is wanted and what is there to a list of steps: pure, so that it can be read, printed and tested.
//!
//! Each step names the containers that have to be done before it. Whoever carries the plan out may run all steps at
//! once that wait for nothing: `up` goes from dependencies to dependents, `stop` and `down` the other way.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use dpack_compose::project::{Condition, Dependency, NetworkMode, Project, Service};
use serde::{Deserialize, Serialize};

use crate::container;
use crate::failure::{Failure, did_you_mean};

/// What there is of one container, as far as planning is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Existing {
    /// Container name.
    pub(crate) name: String,
    /// Its service.
    pub(crate) service: String,
    /// Which replica.
    pub(crate) number: u32,
    /// Made by `run`.
    pub(crate) one_off: bool,
    /// Configuration hash at its creation.
    pub(crate) configuration: String,
    /// Running now.
    pub(crate) running: bool,
}

impl From<&container::Container> for Existing {
    fn from(container: &container::Container) -> Self {
        let identity = &container.identity;
        Self {
            name: identity.name.clone(),
            service: identity.service.clone(),
            number: identity.number,
            one_off: identity.one_off,
            configuration: identity.configuration.clone(),
            running: container.state.is_running(),
        }
    }
}

/// What happens to one container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Make it, start it.
    Create,
    /// Stop and remove it, make it anew, start it.
    Recreate,
    /// It is there and has its configuration: start it.
    Start,
    /// It runs with its configuration: nothing to do.
    Keep,
    /// Something it depends on is made anew, and its `depends_on` says `restart`: stop it, start it after that.
    Restart,
    /// Stop it.
    Stop,
    /// Stop it if it runs, remove it.
    Remove,
}

/// One step of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// Container name.
    pub(crate) container: String,
    /// Its service.
    pub(crate) service: String,
    /// Which replica.
    pub(crate) number: u32,
    /// What happens to it.
    pub(crate) action: Action,
    /// Containers whose steps come first.
    pub(crate) after: Vec<String>,
    /// What services must have reached before this container is started.
    pub(crate) needs: Vec<Need>,
}

/// What a service must have reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Need {
    /// The service.
    pub(crate) service: String,
    /// What all of its containers must have reached.
    pub(crate) condition: Condition,
    /// Whether a container that does not reach it is an error.
    pub(crate) required: bool,
}

/// Steps in an order in which they could be carried out one by one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The steps.
    pub(crate) steps: Vec<Step>,
    /// Containers of services that the project no longer has; left alone.
    pub(crate) orphans: Vec<String>,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            write!(f, "{} {}", format!("{:?}", step.action).to_ascii_lowercase(), step.container)?;
            if !step.after.is_empty() {
                write!(f, " after {}", step.after.join(", "))?;
            }
            for need in step.needs.iter().filter(|need| need.condition != Condition::Started) {
                write!(
                    f,
                    " when {} is {}",
                    need.service,
                    format!("{:?}", need.condition).to_ascii_lowercase()
                )?;
            }
            writeln!(f)?;
        }
        self.orphans.iter().try_for_each(|orphan| writeln!(f, "orphan {orphan}"))
    }
}

/// What `up` and `create` are told beside the project.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UpOptions {
    /// Services; all when empty.
    pub(crate) services: Vec<String>,
    /// Seconds between the stop signal and SIGKILL.
    pub(crate) timeout: Option<u32>,
    /// Leave alone what the services depend on.
    pub(crate) no_dependencies: bool,
    /// Which containers are made anew.
    pub(crate) recreate: Recreate,
    /// Remove containers of services that the project no longer has.
    pub(crate) remove_orphans: bool,
    /// Go on without limits that cannot be enforced.
    #[serde(default)]
    pub(crate) allow_degraded: bool,
    /// Make containers and start none.
    pub(crate) create_only: bool,
    /// Tell the steps and take none.
    #[serde(default)]
    pub(crate) dry_run: bool,
    /// Come back only when everything runs and is well.
    pub(crate) wait: bool,
    /// Seconds after which that is an error.
    pub(crate) wait_timeout: Option<u32>,
    /// What is in anonymous volumes goes with the container that is made anew.
    #[serde(default)]
    pub(crate) renew_volumes: bool,
}

/// Which containers that are there are made anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Recreate {
    /// Those whose configuration or image has changed.
    #[default]
    Changed,
    /// Those, and all of the services that were named (all, when none was).
    Selected,
    /// Those whose configuration or image has changed, and all of what the services that were named depend on.
    Dependencies,
    /// All, with those that the services depend on.
    All,
    /// None.
    None,
}

/// Replicas of a service: `scale` or `deploy.replicas`, one where neither is said.
fn replicas(service: &Service) -> u32 {
    service.replicas.unwrap_or(1)
}

/// A container's name, addresses and ports of the device are its own: a service that says them has one container at most.
fn check_scale(name: &str, service: &Service) -> Result<(), Failure> {
    let count = replicas(service);
    if count < 2 {
        return Ok(());
    }
    let (what, remedy) = if let Some(container) = &service.container_name {
        (format!("would be named `{container}`"), "take `container_name` away")
    } else if let Some(address) = fixed_address(service) {
        (format!("would have the address {address}"), "take the address away")
    } else if let Some(number) = fixed_port(service) {
        (format!("would publish port {number}"), "publish a range of ports (`8000-8010:80`)")
    } else {
        return Ok(());
    };
    Err(Failure::input(format!("service `{name}` cannot have {count} containers: all of them {what}"))
        .hint(format!("{remedy}, or ask for one container")))
}

/// A port of the device that the file gives to the service's container.
fn fixed_port(service: &Service) -> Option<u16> {
    let published = matches!(service.network, NetworkMode::Networks(_)).then_some(&service.ports)?;
    published.iter().filter(|port| port.published_last.is_none()).find_map(|port| port.published)
}

/// An address that the file gives to the service's container.
fn fixed_address(service: &Service) -> Option<String> {
    let NetworkMode::Networks(networks) = &service.network else { return None };
    let places = networks.values().find_map(|place| {
        let ip = place.ipv4_address.map(|ip| ip.to_string());
        let ip = ip.or_else(|| place.ipv6_address.map(|ip| ip.to_string()));
        ip.or_else(|| place.link_local_ips.first().map(ToString::to_string))
            .or_else(|| place.mac_address.clone())
    });
    places.or_else(|| service.mac_address.clone())
}

/// The services that `up` is about.
pub(crate) fn selected(project: &Project, options: &UpOptions) -> Result<BTreeSet<String>, Failure> {
    let mut selected = with_dependencies(project, &options.services)?;
    if options.no_dependencies && !options.services.is_empty() {
        selected.retain(|name| options.services.contains(name));
    }
    Ok(selected)
}

/// What `up` has to do. `configurations` has the configuration hash of every service of the project.
pub(crate) fn up(
    project: &Project,
    configurations: &BTreeMap<String, String>,
    existing: &[Existing],
    options: &UpOptions,
) -> Result<Plan, Failure> {
    let selected = selected(project, options)?;
    let order = start_order(project)?;
    let mut plan = Plan::default();
    for name in order.iter().filter(|name| selected.contains(name.as_str())) {
        let Some(service) = project.services.get(name) else { continue };
        check_scale(name, service)?;
        let named = options.services.is_empty() || options.services.contains(name);
        let anew = |found: &Existing| match options.recreate {
            Recreate::None => false,
            Recreate::All => true,
            Recreate::Selected if named => true,
            Recreate::Dependencies if !named => true,
            Recreate::Selected | Recreate::Dependencies | Recreate::Changed => {
                configurations.get(name) != Some(&found.configuration)
            }
        };
        let dependencies =
            || service.depends_on.iter().filter(|(other, _)| selected.contains(other.as_str()));
        let restarts = dependencies().any(|(other, dependency)| {
            let recreated = |step: &Step| step.service == *other && step.action == Action::Recreate;
            dependency.restart && plan.steps.iter().any(recreated)
        });
        for number in 1..=replicas(service) {
            let container = container::name(project, name, number);
            let mut found = of_service(existing, name).into_iter().find(|e| e.number == number);
            // `container_name` was added, changed or taken away.
            if let Some(other) = found.take_if(|found| found.name != container) {
                plan.steps.push(step(other, Action::Remove, Vec::new()));
            }
            let action = match found {
                None => Action::Create,
                Some(found) if anew(found) => Action::Recreate,
                Some(found) if found.running && restarts => Action::Restart,
                Some(found) if found.running => Action::Keep,
                Some(_) => Action::Start,
            };
            let bare = Step::new(container, name, number, action);
            plan.steps.push(bare.with(dependencies(), |other| replica_names(project, other)));
        }
        let surplus = of_service(existing, name).into_iter().filter(|e| e.number > replicas(service));
        plan.steps.extend(surplus.map(|e| step(e, Action::Remove, Vec::new())));
    }
    let orphans = existing.iter().filter(|e| !e.one_off && !is_known(project, &e.service));
    if options.remove_orphans {
        plan.steps.extend(orphans.map(|e| step(e, Action::Remove, Vec::new())));
    } else {
        plan.orphans = orphans.map(|e| e.name.clone()).collect();
    }
    Ok(plan)
}

/// What `start` has to do: nothing is made. Containers that are missing are an error, as in Docker Compose.
pub(crate) fn start(project: &Project, existing: &[Existing], selected: &[String]) -> Result<Plan, Failure> {
    check_services(project, selected)?;
    let mut plan = Plan::default();
    for name in start_order(project)?.iter().filter(|name| selected.is_empty() || selected.contains(name)) {
        let containers = of_service(existing, name);
        if containers.is_empty() && !selected.is_empty() {
            return Err(Failure::usage(format!("service `{name}` has no container to start"))
                .hint("create it with: up"));
        }
        let dependencies = project.services.get(name).into_iter().flat_map(|service| &service.depends_on);
        for e in containers {
            let bare = step(e, if e.running { Action::Keep } else { Action::Start }, Vec::new());
            let names = |other: &str| of_service(existing, other).iter().map(|e| e.name.clone()).collect();
            plan.steps.push(bare.with(dependencies.clone(), names));
        }
    }
    Ok(plan)
}

/// What `stop` has to do: dependents before what they depend on; one-off containers and orphans only when all are meant.
pub(crate) fn stop(project: &Project, existing: &[Existing], selected: &[String]) -> Result<Plan, Failure> {
    check_services(project, selected)?;
    let running: Vec<Existing> = existing.iter().filter(|e| e.running && !e.one_off).cloned().collect();
    Ok(backwards(project, &running, selected, Action::Stop))
}

/// What `down` has to do: like [`stop`], for everything of the project that is there, `run`'s containers too. Orphans
/// stay unless they are meant too.
pub(crate) fn down(
    project: &Project,
    existing: &[Existing],
    selected: &[String],
    orphans: bool,
) -> Result<Plan, Failure> {
    check_services(project, selected)?;
    let (ours, others): (Vec<Existing>, Vec<Existing>) =
        existing.iter().cloned().partition(|e| e.one_off || orphans || is_known(project, &e.service));
    let mut plan = backwards(project, &ours, selected, Action::Remove);
    if selected.is_empty() {
        plan.orphans = others.into_iter().map(|e| e.name).collect();
    }
    Ok(plan)
}

/// What `rm` has to do: nothing that runs, unless it is to be stopped first.
pub(crate) fn remove(
    project: &Project,
    existing: &[Existing],
    selected: &[String],
    running: bool,
) -> Result<Plan, Failure> {
    check_services(project, selected)?;
    let meant: Vec<Existing> =
        existing.iter().filter(|e| !e.one_off && (running || !e.running)).cloned().collect();
    Ok(backwards(project, &meant, selected, Action::Remove))
}

/// Dependents first; what belongs to no service any more waits for nothing.
fn backwards(project: &Project, existing: &[Existing], selected: &[String], action: Action) -> Plan {
    let mut order = start_order(project).unwrap_or_else(|_| project.services.keys().cloned().collect());
    order.reverse();
    let mut plan = Plan::default();
    let meant = |service: &String| selected.is_empty() || selected.contains(service);
    plan.steps.extend(
        existing
            .iter()
            .filter(|e| meant(&e.service) && !project.services.contains_key(&e.service))
            .map(|e| step(e, action, Vec::new())),
    );
    for name in order.iter().filter(|name| meant(name)) {
        let dependents = project
            .services
            .iter()
            .filter(|(other, service)| meant(other) && service.depends_on.contains_key(name));
        let after: Vec<String> = dependents
            .flat_map(|(other, _)| existing.iter().filter(move |e| e.service == *other))
            .map(|e| e.name.clone())
            .collect();
        for e in existing.iter().filter(|e| e.service == *name) {
            plan.steps.push(step(e, action, after.clone()));
        }
    }
    plan
}

fn step(existing: &Existing, action: Action, after: Vec<String>) -> Step {
    let Existing { name, service, number, .. } = existing;
    Step { after, ..Step::new(name.clone(), service, *number, action) }
}

impl Step {
    /// A step that waits for nothing.
    pub(crate) fn new(container: String, service: &str, number: u32, action: Action) -> Self {
        let (after, needs) = Default::default();
        Self { container, service: service.to_owned(), number, action, after, needs }
    }

    /// The step after those of the containers of all dependencies.
    fn with<'a>(
        mut self,
        dependencies: impl Iterator<Item = (&'a String, &'a Dependency)>,
        containers: impl Fn(&str) -> Vec<String>,
    ) -> Self {
        for (service, dependency) in dependencies {
            self.after.extend(containers(service));
            let (condition, required) = (dependency.condition, dependency.required);
            self.needs.push(Need { service: service.clone(), condition, required });
        }
        self
    }
}

fn of_service<'a>(existing: &'a [Existing], service: &str) -> Vec<&'a Existing> {
    existing.iter().filter(|e| !e.one_off && e.service == service).collect()
}

fn replica_names(project: &Project, service: &str) -> Vec<String> {
    let count = project.services.get(service).map_or(0, replicas);
    (1..=count).map(|number| container::name(project, service, number)).collect()
}

/// The project has the service, though it may belong to a profile that is not active.
pub(crate) fn is_known(project: &Project, service: &str) -> bool {
    project.services.contains_key(service) || project.disabled.contains_key(service)
}

/// Refuses a name that is no service of the project.
pub(crate) fn check_services(project: &Project, selected: &[String]) -> Result<(), Failure> {
    for name in selected {
        if !project.services.contains_key(name) {
            let names: Vec<&str> = project.services.keys().map(String::as_str).collect();
            return Err(no_such_service(name, &names));
        }
    }
    Ok(())
}

/// A name that is none of the services `names`.
pub(crate) fn no_such_service(name: &str, names: &[&str]) -> Failure {
    let failure = Failure::usage(format!("no such service: `{name}`"));
    match did_you_mean(name, names.iter().copied()) {
        Some(meant) => failure.hint(format!("did you mean `{meant}`?")),
        None => failure.hint(format!("the services are: {}", names.join(", "))),
    }
}

/// The selected services and all that they depend on; every service when none is selected.
pub(crate) fn with_dependencies(project: &Project, selected: &[String]) -> Result<BTreeSet<String>, Failure> {
    check_services(project, selected)?;
    if selected.is_empty() {
        return Ok(project.services.keys().cloned().collect());
    }
    let mut found = BTreeSet::new();
    let mut open: Vec<&String> = selected.iter().collect();
    while let Some(name) = open.pop() {
        if found.insert(name.clone()) {
            let needs = project.services.get(name).into_iter().flat_map(|service| service.depends_on.keys());
            // One that is not required may belong to a profile that is not active.
            open.extend(needs.filter(|name| project.services.contains_key(*name)));
        }
    }
    Ok(found)
}

/// Services so that each comes after what it depends on; by name where that leaves a choice.
pub(crate) fn start_order(project: &Project) -> Result<Vec<String>, Failure> {
    let mut order: Vec<String> = Vec::new();
    let mut placed = BTreeSet::new();
    while order.len() < project.services.len() {
        let before = order.len();
        for (name, service) in &project.services {
            let ready = |name: &String| placed.contains(name) || !project.services.contains_key(name);
            if !placed.contains(name) && service.depends_on.keys().all(ready) {
                placed.insert(name.clone());
                order.push(name.clone());
            }
        }
        if order.len() == before {
            let left: Vec<&str> =
                project.services.keys().filter(|name| !placed.contains(*name)).map(String::as_str).collect();
            return Err(Failure::input(format!(
                "services depend on each other in a circle: {}",
                left.join(", ")
            )));
        }
    }
    Ok(order)
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
