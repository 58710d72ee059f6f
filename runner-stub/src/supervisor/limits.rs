//! Limits: can they be enforced on this device, and where are containers' control groups made.
//!
//! What was asked for is enforced, or `up` refuses and says what would help. With `--allow-degraded` it goes on without, and
//! says so; the service is then treated as if it had not asked, so that nothing further down has to know.

use std::fmt;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use dpack_bundle::resources::{Device, resources};
use dpack_compose::project::{Project, Resources, Service, Ulimit};
use dpack_sandbox::Home;
use dpack_sandbox::cgroup::{self, Place, Unmet};

use super::create::sandbox_failure;
use super::reporter::Reporter;
use super::state::Supervisor;
use crate::container::Identity;
use crate::failure::{Context as _, Failure};
use crate::plan::{self, UpOptions};

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
    let json = serde_json::to_vec(&resources).context("failed to encode limits")?;
    let parsed = cgroup::Resources::parse(&json).map_err(sandbox_failure)?;
    place.unmet(&parsed).map_err(sandbox_failure)
}

/// A limit that cannot be enforced, as the Compose file has it.
pub(crate) struct Unenforceable {
    keys: Vec<&'static str>,
    reason: String,
    /// What would help.
    pub(crate) hint: Option<String>,
}

impl fmt::Display for Unenforceable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, because {}", self.keys.join(", "), self.reason)
    }
}

/// The limits that cannot be enforced in a place, by reason.
pub(crate) fn unenforceable(wanted: &Resources, place: &Place) -> Result<Vec<Unenforceable>> {
    Ok(by_reason(&unmet(wanted, place)?))
}

fn by_reason(unmet: &[Unmet]) -> Vec<Unenforceable> {
    let mut all: Vec<Unenforceable> = Vec::new();
    for Unmet { property, reason, hint } in unmet {
        let key = key(property).0;
        match all.iter_mut().find(|other| other.reason == *reason) {
            Some(other) if other.keys.contains(&key) => {}
            Some(other) => other.keys.push(key),
            None => all.push(Unenforceable { keys: vec![key], reason: reason.clone(), hint: hint.clone() }),
        }
    }
    all
}

/// Takes away what cannot be enforced in a place when the service may be `degraded`, else that is an error. What the user
/// has to be told.
pub(crate) fn enforce(
    name: &str,
    service: &mut Service,
    place: &Place,
    degraded: bool,
) -> Result<Vec<String>> {
    let unmet = unmet(&service.resources, place)?;
    let Some(first) = unmet.first() else { return Ok(mortal(name, service, place)) };
    if !degraded {
        let hint = first.hint.as_ref().map(|hint| format!("{hint}\n")).unwrap_or_default();
        return Err(Failure::environment(format!(
            "service `{name}`: `{}` cannot be enforced, because {}",
            key(first.property).0,
            first.reason,
        ))
        .hint(format!("{hint}or go on without limits: --allow-degraded"))
        .into());
    }
    let without = by_reason(&unmet);
    let warnings = without.iter().map(|unmet| format!("service `{name}` runs without {unmet}"));
    for unmet in &unmet {
        key(unmet.property).1(&mut service.resources);
    }
    // Swap is counted beside memory, and cannot be limited alone.
    if service.resources.memory.is_none() {
        service.resources.memory_swap = None;
    }
    Ok(warnings.chain(mortal(name, service, place)).collect())
}

/// Lowers `ulimits` to the session's hard limits when the service may be `degraded`, else one above them is an error. What
/// the user has to be told.
pub(crate) fn within_session(name: &str, service: &mut Service, degraded: bool) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    for (key, limit) in &mut service.ulimits {
        let most = dpack_sandbox::hard_limit(&format!("RLIMIT_{}", key.to_ascii_uppercase()));
        // Unlimited ones are -1.
        let Some(most) = most.and_then(|most| i64::try_from(most).ok()) else { continue };
        if (0..=most).contains(&limit.hard) {
            continue;
        }
        if !degraded {
            let message =
                format!("service `{name}`: `ulimits.{key}` is above {most}, the hard limit of this session");
            let hint = "raise it as root in /etc/security/limits.conf or, for services, by systemd's `Limit…=`\n\
                        or go on with that limit: --allow-degraded";
            return Err(Failure::environment(message).hint(hint).into());
        }
        warnings.push(format!(
            "service `{name}` runs with {most} as ulimits.{key}, the hard limit of this session"
        ));
        let soft = if limit.soft < 0 { most } else { limit.soft.min(most) };
        *limit = Ulimit { soft, hard: most };
    }
    Ok(warnings)
}

/// A container with limits that ends before anybody stops it.
fn mortal(name: &str, service: &Service, place: &Place) -> Vec<String> {
    let ends = place.ends_with_session() && is_limited(&service.resources);
    let text = format!(
        "service `{name}` has limits and ends with this user's last session; keep it with: loginctl enable-linger"
    );
    ends.then_some(text).into_iter().collect()
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

    /// The project as it can be run here; an error when a limit of a service that is asked for cannot be enforced.
    pub(crate) async fn within_limits(
        &self,
        mut project: Project,
        options: &UpOptions,
        reporter: &Reporter,
    ) -> Result<Project> {
        for name in plan::selected(&project, options)? {
            if let Some(service) = project.services.get_mut(&name) {
                self.within(&name, service, options.allow_degraded, reporter).await?;
            }
        }
        Ok(project)
    }

    /// A service as it can be run here; an error when a limit cannot be enforced.
    pub(crate) async fn within(
        &self,
        name: &str,
        service: &mut Service,
        degraded: bool,
        reporter: &Reporter,
    ) -> Result<()> {
        let mut warnings = within_session(name, service, degraded)?;
        if is_limited(&service.resources) {
            let place = self.place(true).await?;
            warnings.extend(enforce(name, service, &place, degraded)?);
        }
        warnings.into_iter().for_each(|warning| reporter.warn(warning));
        Ok(())
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

    fn service() -> Service {
        let resources = Resources {
            memory: Some(1 << 20),
            memory_swap: Some(2 << 20),
            pids: Some(5),
            ..Resources::default()
        };
        Service { resources, ..Service::default() }
    }

    #[test]
    fn a_limit_that_cannot_be_enforced_is_refused_or_left_out_with_a_word() {
        let nowhere = Place::default();
        let error = enforce("web", &mut service(), &nowhere, false).unwrap_err();
        let failure = Failure::of(&error);
        assert_eq!(
            failure.message,
            "service `web`: `mem_limit` cannot be enforced, because there is no `memory` controller"
        );
        assert!(failure.hint.unwrap().contains("--allow-degraded"));
        let mut degraded = service();
        let warnings = enforce("web", &mut degraded, &nowhere, true).unwrap();
        assert_eq!(degraded.resources, Resources::default());
        assert_eq!(
            warnings,
            [
                "service `web` runs without mem_limit, memswap_limit, because there is no `memory` controller",
                "service `web` runs without pids_limit, because there is no `pids` controller",
            ]
        );
    }

    #[test]
    fn a_limit_above_the_hard_one_is_refused_or_lowered_with_a_word() {
        let most = i64::try_from(dpack_sandbox::hard_limit("RLIMIT_NOFILE").unwrap()).unwrap();
        let with = |soft, hard| Service {
            ulimits: [("nofile".to_owned(), Ulimit { soft, hard })].into(),
            ..Service::default()
        };
        assert!(within_session("web", &mut with(1, most), false).unwrap().is_empty());
        for (soft, hard, lowered) in [(1, most + 1, 1), (most + 1, most + 1, most), (-1, -1, most)] {
            let error = within_session("web", &mut with(soft, hard), false).unwrap_err();
            let expected =
                format!("service `web`: `ulimits.nofile` is above {most}, the hard limit of this session");
            assert_eq!(Failure::of(&error).message, expected);
            let mut degraded = with(soft, hard);
            let warnings = within_session("web", &mut degraded, true).unwrap();
            assert_eq!(degraded, with(lowered, most));
            let expected =
                format!("service `web` runs with {most} as ulimits.nofile, the hard limit of this session");
            assert_eq!(warnings, [expected]);
        }
    }

    #[test]
    fn a_priority_for_the_killer_needs_no_control_group() {
        assert!(!is_limited(&Resources { oom_score_adj: Some(5), ..Resources::default() }));
        assert!(is_limited(&Resources { cpuset: Some("0".into()), ..Resources::default() }));
    }
}
