//! Limits: can they be enforced on this device, and where are containers' control groups made.
//!
//! What was asked for is enforced, or `up` refuses and says what would help. With `--allow-degraded` it goes on without, and
//! says so; the service is then treated as if it had not asked, so that nothing further down has to know.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use dpack_bundle::resources::{Device, resources};
use dpack_compose::project::{Project, Resources};
use dpack_sandbox::Home;
use dpack_sandbox::cgroup::{self, Place, Unmet};

use super::create::sandbox_failure;
use super::reporter::Reporter;
use super::state::Supervisor;
use crate::container::Identity;
use crate::failure::{Context as _, Failure};

/// The key of Compose for a property of config.json, and how to do without.
fn key(property: &str) -> (&'static str, fn(&mut Resources)) {
    match property {
        "linux.resources.memory.limit" => ("mem_limit", |r| r.memory = None),
        "linux.resources.memory.swap" => ("memswap_limit", |r| r.memory_swap = None),
        "linux.resources.memory.reservation" => ("mem_reservation", |r| r.memory_reserved = None),
        "linux.resources.memory.swappiness" => ("mem_swappiness", |r| r.memory_swappiness = None),
        "linux.resources.memory.disableOOMKiller" => ("oom_kill_disable", |r| r.oom_kill_disable = false),
        "linux.resources.cpu.shares" => ("cpu_shares", |r| r.cpu_shares = None),
        "linux.resources.cpu.quota" | "linux.resources.cpu.period" => {
            ("cpus", |r| (r.cpus, r.cpu_quota, r.cpu_period) = (None, None, None))
        }
        "linux.resources.cpu.cpus" => ("cpuset", |r| r.cpuset = None),
        "linux.resources.pids.limit" => ("pids_limit", |r| r.pids = None),
        _ => ("blkio_config", |r| r.block_io = dpack_compose::project::BlockIo::default()),
    }
}

/// The number of a block device.
pub(crate) fn block_device(path: &str) -> Option<(u32, u32)> {
    use rustix::fs::{FileType, major, minor, stat};
    let status = stat(path).ok()?;
    (FileType::from_raw_mode(status.st_mode) == FileType::BlockDevice)
        .then(|| (major(status.st_rdev), minor(status.st_rdev)))
}

/// The limits that cannot be enforced in a place.
pub(crate) fn unmet(wanted: &Resources, place: &Place) -> Result<Vec<Unmet>> {
    let device = Device { number: &block_device, limits_swap: place.limits_swap() };
    let resources = resources(wanted, device).input()?;
    let value = serde_json::to_value(&resources).context("failed to encode limits")?;
    let parsed = cgroup::Resources::parse(&value).map_err(sandbox_failure)?;
    place.unmet(&parsed).map_err(sandbox_failure)
}

/// The project as it can be run in a place: itself, or with `degraded` without what cannot be enforced, and what that is.
pub(crate) fn enforceable(
    mut project: Project,
    place: &Place,
    degraded: bool,
) -> Result<(Project, Vec<String>)> {
    let mut warnings = Vec::new();
    for (name, service) in &mut project.services {
        let unmet = unmet(&service.resources, place)?;
        let Some(first) = unmet.first() else { continue };
        let lack = place.lack();
        let reason = lack.map(|lack| format!(": {}", lack.reason)).unwrap_or_default();
        if !degraded {
            let hint = lack.map(|lack| format!("{}\n", lack.hint)).unwrap_or_default();
            return Err(Failure::environment(format!(
                "service `{name}`: `{}` cannot be enforced, because there is no `{}` controller{reason}",
                key(first.property).0,
                first.controller,
            ))
            .hint(format!("{hint}or go on without limits: up --allow-degraded"))
            .into());
        }
        let mut keys: Vec<&str> = unmet.iter().map(|unmet| key(unmet.property).0).collect();
        keys.dedup();
        warnings.push(format!("service `{name}` runs without {}{reason}", keys.join(", ")));
        for unmet in &unmet {
            key(unmet.property).1(&mut service.resources);
        }
    }
    Ok((project, warnings))
}

impl Supervisor {
    /// Where control groups are made. Found once; once more when it turns out that limits are needed, for which more may be
    /// done than for counting.
    pub(crate) async fn place(&self, limits: bool) -> Result<Arc<Place>> {
        if let Some((for_limits, place)) = &*self.place.borrow()
            && (*for_limits || !limits)
        {
            return Ok(Arc::clone(place));
        }
        let name = self.name.clone();
        let found = tokio::task::spawn_blocking(move || Place::prepare(&name, limits)).await;
        let place = Arc::new(found.context("the search for control groups was cut short")?);
        *self.place.borrow_mut() = Some((limits, Arc::clone(&place)));
        Ok(place)
    }

    /// The project as it can be run here; an error when a limit cannot be enforced.
    pub(crate) async fn within_limits(
        &self,
        project: Project,
        degraded: bool,
        reporter: &Reporter,
    ) -> Result<Project> {
        let limited = project.services.values().any(|service| is_limited(&service.resources));
        if !limited {
            return Ok(project);
        }
        let place = self.place(true).await?;
        let (project, warnings) = enforceable(project, &place, degraded)?;
        warnings.into_iter().for_each(|warning| reporter.warn(warning));
        if place.ends_with_session() {
            reporter.warn(
                "containers with limits end with this user's last session; keep them with: loginctl enable-linger"
                    .to_owned(),
            );
        }
        Ok(project)
    }

    /// Where a container's control group is made.
    pub(crate) async fn home(&self, identity: &Identity) -> Result<Home> {
        let place = self.place(is_limited(&identity.definition.resources)).await?;
        Ok(home(identity, (*place).clone()))
    }
}

/// A container's group has its ID for a name.
pub(crate) fn home(identity: &Identity, place: Place) -> Home {
    Home { place, name: identity.id.clone() }
}

/// Whether a control group is needed.
pub(crate) fn is_limited(wanted: &Resources) -> bool {
    let nothing = Resources {
        oom_score_adj: wanted.oom_score_adj,
        cpus_reserved: wanted.cpus_reserved,
        ..Resources::default()
    };
    *wanted != nothing
}

#[cfg(test)]
mod tests {
    use super::*;
    use dpack_compose::project::Service;

    fn project() -> Project {
        let resources = Resources { memory: Some(1 << 20), pids: Some(5), ..Resources::default() };
        let service = Service { resources, ..Service::default() };
        Project { services: [("web".to_owned(), service)].into(), ..Project::default() }
    }

    #[test]
    fn a_limit_that_cannot_be_enforced_is_refused_or_left_out_with_a_word() {
        let nowhere = Place::default();
        let error = enforceable(project(), &nowhere, false).unwrap_err();
        let failure = Failure::of(&error);
        assert!(failure.message.contains("service `web`: `mem_limit` cannot be enforced"), "{failure:?}");
        assert!(failure.hint.unwrap().contains("--allow-degraded"));
        let (degraded, warnings) = enforceable(project(), &nowhere, true).unwrap();
        assert_eq!(degraded.services["web"].resources, Resources::default());
        assert_eq!(warnings, ["service `web` runs without mem_limit, pids_limit"]);
    }

    #[test]
    fn a_priority_for_the_killer_needs_no_control_group() {
        assert!(!is_limited(&Resources { oom_score_adj: Some(5), ..Resources::default() }));
        assert!(is_limited(&Resources { cpuset: Some("0".into()), ..Resources::default() }));
    }
}
