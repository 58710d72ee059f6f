//! What only a process in a user namespace can find out: overlayfs, control groups and networks are really made. They end
//! with the process.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd as _, RawFd};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use dpack_compose::project::{NetworkMode, Project, Resources};
use dpack_sandbox::cgroup::Place;
use dpack_sandbox::features;
use dpack_sandbox::idmap::IdMap;
use dpack_sandbox::role::{Spawn, take_fd};
use dpack_store::driver::{self, Refusal};
use serde::{Deserialize, Serialize};

use super::super::super::settings::Settings;
use super::{Check, Verdict, network};
use crate::failure::Failure;
use crate::json;
use crate::supervisor::{is_limited, sandbox_failure, unenforceable};

/// `argv[0]` of the role that tries things.
pub(crate) const ROLE: &str = "dpack-doctor";
/// Where the role says what it found.
const REPORT: RawFd = 3;

/// What is tried.
#[derive(Debug, Serialize, Deserialize)]
struct Trial {
    /// Here an overlay is mounted.
    folder: PathBuf,
    /// What services may use at most.
    limits: BTreeMap<String, Resources>,
    network: bool,
}

/// Everything that is tried, and whether a user namespace can be made for it.
pub(super) fn checks(settings: &Settings, map: &IdMap, project: &Project, network: bool) -> Vec<Check> {
    let services = project.services.iter();
    let limited = services.filter(|(_, service)| is_limited(&service.resources));
    let networked =
        |mode: &NetworkMode| matches!(mode, NetworkMode::Networks(networks) if !networks.is_empty());
    let trial = Trial {
        folder: settings.paths.data.join(format!("doctor.{}", std::process::id())),
        limits: limited.map(|(name, service)| (name.clone(), service.resources.clone())).collect(),
        network: network || project.services.values().any(|service| networked(&service.network)),
    };
    let name = "user namespaces";
    match carry_out(settings, map, &trial) {
        Ok(found) => {
            let made = Check::new(name, Verdict::Ok, "can be made").since("3.8");
            std::iter::once(made).chain(found).collect()
        }
        Err(error) => vec![Check::failed(name, Failure::of(&error)).since("3.8")],
    }
}

fn carry_out(settings: &Settings, map: &IdMap, trial: &Trial) -> Result<Vec<Check>> {
    settings.paths.make_data(&trial.folder)?;
    let tried = in_user_namespace(settings, map, trial);
    let _ = fs::remove_dir_all(&trial.folder);
    tried
}

fn in_user_namespace(settings: &Settings, map: &IdMap, trial: &Trial) -> Result<Vec<Check>> {
    let (report, theirs) = std::io::pipe()?;
    let child = Spawn::new(ROLE)
        .arg(serde_json::to_string(trial)?)
        .fd(REPORT, theirs.as_fd())
        .program_length(settings.executable.program_length())
        .new_user_namespace(map)
        .spawn()
        .map_err(sandbox_failure)?;
    drop(theirs);
    let found = json::read(report).context("the process in the user namespace ended early")?;
    child.wait().map_err(sandbox_failure)?;
    Ok(found)
}

/// Role entry.
pub(crate) fn main() -> Result<()> {
    let told = std::env::args().nth(1).context("`doctor` was started without a word")?;
    let report = fs::File::from(take_fd(REPORT).context("`doctor` was started without a pipe")?);
    let trial: Trial = json::read(told.as_bytes()).context("what `doctor` is to try makes no sense")?;
    let mut checks = vec![overlay(&trial.folder)];
    checks.extend(cgroups(&trial.limits));
    checks.extend(calls());
    if trial.network {
        checks.push(network::trial());
    }
    serde_json::to_writer(report, &checks).context("failed to report")
}

fn overlay(folder: &Path) -> Check {
    let check = match driver::try_overlay(&folder.join("overlay")) {
        Ok(()) => {
            let place = folder.parent().unwrap_or(folder).display();
            Check::new("overlayfs", Verdict::Ok, format!("works in `{place}`"))
        }
        Err(Refusal::Overlay(reason)) => {
            let detail = format!("each container gets a copy of its image: {reason}");
            Check::new("overlayfs", Verdict::Warning, detail).hint(
                "it needs Linux 5.11 and a data folder on a local file system such as ext4, xfs or btrfs: --data-dir DIR",
            )
        }
        Err(Refusal::Disk(error)) => Check::failed("overlayfs", Failure::of(&error.into())),
    };
    check.since("5.11")
}

/// The stand-ins are slower or less strict; nothing fails without.
fn calls() -> Vec<Check> {
    let mut checks = vec![
        match features::has_filters() {
            true => Check::new("seccomp", Verdict::Ok, "system calls of containers are filtered"),
            false => Check::new("seccomp", Verdict::Missing, "system calls of containers cannot be filtered")
                .hint(
                    "it needs a kernel with CONFIG_SECCOMP_FILTER; without filters only services with \
             `security_opt: [seccomp=unconfined]` run",
                ),
        }
        .since("4.14"),
    ];
    checks.extend(features::calls().into_iter().map(|call| {
        let check = match call.there {
            true => Check::new(call.name, Verdict::Ok, "is there"),
            false => Check::new(call.name, Verdict::Warning, format!("is missing: {}", call.without)),
        };
        check.since(call.since)
    }));
    checks
}

/// Control groups, and which of the limits that are asked for cannot be enforced in them.
fn cgroups(limits: &BTreeMap<String, Resources>) -> Vec<Check> {
    let name = "cgroups";
    let place = Place::prepare("doctor", !limits.is_empty());
    let controllers = place.controllers();
    let mut check = match (place.has_groups(), controllers.is_empty()) {
        (true, false) => Check::new(name, Verdict::Ok, format!("limits of {}", controllers.join(", "))),
        (true, true) => Check::new(name, Verdict::Ok, "containers can be paused, and have no limits"),
        (false, _) if limits.is_empty() && dpack_sandbox::cgroup::is_managed() => {
            Check::new(name, Verdict::Ok, "systemd is asked for them when a service has limits")
        }
        (false, _) => Check::new(name, Verdict::Warning, "containers cannot be paused, and have no limits"),
    };
    if let (Verdict::Warning, Some(lack)) = (check.verdict, place.lack()) {
        check.detail = format!("{}: {}", check.detail, lack.reason);
        check = check.hint(&lack.hint);
    }
    let mut checks = vec![check.since("4.5")];
    for (service, wanted) in limits {
        let name = format!("limits of {service}");
        checks.push(match unenforceable(wanted, &place) {
            Ok(reasons) if reasons.is_empty() => Check::new(&name, Verdict::Ok, "can be enforced"),
            Ok(reasons) => {
                let details: Vec<String> = reasons.iter().map(|unmet| unmet.to_string()).collect();
                let check = Check::new(
                    &name,
                    Verdict::Missing,
                    format!("cannot be enforced: {}", details.join("; ")),
                );
                let mut hints: Vec<String> = reasons.into_iter().filter_map(|unmet| unmet.hint).collect();
                hints.dedup();
                hints.push("or go on without limits: up --allow-degraded".to_owned());
                check.hint(hints.join("\n"))
            }
            Err(error) => Check::failed(&name, Failure::of(&error)),
        });
    }
    if place.ends_with_session() && !limits.is_empty() {
        checks.push(
            Check::new(
                "after logout",
                Verdict::Warning,
                "containers with limits end with this user's last session",
            )
            .hint("loginctl enable-linger"),
        );
    }
    checks
}
