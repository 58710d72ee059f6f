//! A container on disk: who it is (`container.json`), what is wanted of it (`supervision.json`), what it does now.
//!
//! `container.json` is written once, at creation. `supervision.json` belongs to the supervisor. `running.json` and
//! `exit.json` belong to the shim and are read by `dpack_sandbox::record`. So every file has one writer, and anybody
//! can tell a container's state while nobody is alive to ask.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use dpack_compose::project::{MountSource, Network, NetworkMode, Port, Project, Service};
use dpack_payload::digest::{DiffId, Digest};
use dpack_sandbox::record;
use serde::{Deserialize, Serialize};

use crate::files;
use crate::health::{self, Check, Health};
use crate::paths::ProjectPaths;
use crate::time::{self, Nanoseconds};

/// Version of both files. A later version adds fields; one that means something else gets a new number.
const VERSION: u32 = 1;

/// Who a container is: `container.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// Version of this file.
    pub(crate) version: u32,
    /// 64 hex digits.
    pub(crate) id: String,
    /// Name of the container and of its folder.
    pub(crate) name: String,
    /// Service it is a replica of.
    pub(crate) service: String,
    /// Which replica, from 1.
    pub(crate) number: u32,
    /// Made by `run`: never started again, not counted as a replica.
    #[serde(default)]
    pub(crate) one_off: bool,
    /// One-off, and answers to the names of its service.
    #[serde(default)]
    pub(crate) aliases: bool,
    /// Removed when it exits.
    #[serde(default)]
    pub(crate) remove: bool,
    /// Image reference.
    pub(crate) image: String,
    /// Digest of the image's manifest.
    pub(crate) digest: Digest,
    /// Layers below its own, lowest first: garbage collection keeps them.
    pub(crate) layers: Vec<DiffId>,
    /// [`configuration_hash`] at creation.
    pub(crate) configuration: String,
    /// When it was made, RFC 3339.
    pub(crate) created: String,
    /// Entrypoint and command, as they are run.
    pub(crate) command: Vec<String>,
    /// Its host name.
    pub(crate) hostname: String,
    /// `port/protocol` that the image says it listens on.
    #[serde(default)]
    pub(crate) exposed: Vec<String>,
    /// How to find out whether it is well, the image's included.
    #[serde(default)]
    pub(crate) healthcheck: Option<Check>,
    /// Signal that asks it to stop, the image's included.
    pub(crate) stop_signal: String,
    /// The service as it was then.
    pub(crate) definition: Service,
}

impl Identity {
    /// Version of `container.json`.
    pub(crate) const VERSION: u32 = VERSION;

    /// The first 12 digits of the ID: what people see, and the default host name.
    pub(crate) fn short_id(&self) -> &str {
        self.id.get(..12).unwrap_or(&self.id)
    }

    /// Every container of a project, in no order, without a look at what they do.
    pub(crate) fn list(project: &ProjectPaths) -> Result<Vec<Self>> {
        let mut identities = Vec::new();
        for folder in folders(project)? {
            identities.extend(files::read_json::<Self>(&folder.join("container.json"))?);
        }
        Ok(identities)
    }
}

/// What the supervisor knows and wants of a container: `supervision.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Supervision {
    /// Version of this file.
    pub(crate) version: u32,
    /// Whether the user wants it running.
    pub(crate) wanted: bool,
    /// It exited and will be started again.
    #[serde(default)]
    pub(crate) restarting: bool,
    /// Restarts in a row, for the back-off and `on-failure:N`.
    #[serde(default)]
    pub(crate) restarts: u32,
    /// Its `pre_start` has been carried out.
    #[serde(default)]
    pub(crate) prepared: bool,
    /// Published ports with the port numbers that the kernel chose filled in.
    #[serde(default)]
    pub(crate) ports: Vec<Port>,
}

impl Default for Supervision {
    fn default() -> Self {
        Self {
            version: VERSION,
            wanted: false,
            restarting: false,
            restarts: 0,
            prepared: false,
            ports: Vec::new(),
        }
    }
}

impl Supervision {
    /// Reads it; a container that never started has none.
    pub(crate) fn load(container: &Path) -> Result<Self> {
        Ok(files::read_json(&container.join("supervision.json"))?.unwrap_or_default())
    }

    /// Writes it.
    pub(crate) fn store(&self, container: &Path) -> Result<()> {
        files::write_json(&container.join("supervision.json"), self)
    }
}

/// What a container does now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Made, never started.
    Created,
    /// Its init lives.
    Running {
        /// PID of its init, as the host sees it.
        pid: i32,
        /// PID of its shim.
        shim: i32,
        /// Since when.
        since: Nanoseconds,
    },
    /// It exited and waits for its next start.
    Restarting {
        /// Exit status.
        code: i32,
        /// When it exited.
        at: Nanoseconds,
    },
    /// It exited.
    Exited {
        /// Exit status, 128 + signal for a signal.
        code: i32,
        /// When; 0 when nobody saw it (power cut, shim killed).
        at: Nanoseconds,
    },
}

impl State {
    /// The word Docker has for it.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            State::Created => "created",
            State::Running { .. } => "running",
            State::Restarting { .. } => "restarting",
            State::Exited { .. } => "exited",
        }
    }

    /// The `STATUS` column.
    pub(crate) fn status(self, health: Option<health::Status>, now: Nanoseconds) -> String {
        match self {
            State::Created => "Created".to_owned(),
            State::Running { since, .. } => {
                let well = match health {
                    None => "",
                    Some(health::Status::Starting) => " (health: starting)",
                    Some(health::Status::Healthy) => " (healthy)",
                    Some(health::Status::Unhealthy) => " (unhealthy)",
                };
                format!("Up {}{well}", time::ago(since, now))
            }
            State::Restarting { code, at } => format!("Restarting ({code}) {} ago", time::ago(at, now)),
            State::Exited { code, at: 0 } => format!("Exited ({code})"),
            State::Exited { code, at } => format!("Exited ({code}) {} ago", time::ago(at, now)),
        }
    }

    /// Its init lives.
    pub(crate) const fn is_running(self) -> bool {
        matches!(self, State::Running { .. })
    }
}

/// A container as its folder tells.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Container {
    /// Who it is.
    pub(crate) identity: Identity,
    /// What the supervisor wants of it.
    pub(crate) supervision: Supervision,
    /// What it does.
    pub(crate) state: State,
    /// What its checks have told, while it ran last.
    pub(crate) health: Option<Health>,
}

impl Container {
    /// Reads a container's folder; nothing when there is no identity in it (removed, or its making was interrupted).
    pub(crate) fn load(folder: &Path) -> Result<Option<Self>> {
        let Some(identity) = files::read_json::<Identity>(&folder.join("container.json"))? else {
            return Ok(None);
        };
        let supervision = Supervision::load(folder)?;
        let health = match identity.healthcheck {
            Some(_) => Health::load(folder)?,
            None => None,
        };
        Ok(Some(Self { state: state(folder, &supervision)?, identity, supervision, health }))
    }

    /// Every container of a project, by service and number, one-off containers last.
    pub(crate) fn list(project: &ProjectPaths) -> Result<Vec<Self>> {
        let mut containers = Vec::new();
        for folder in folders(project)? {
            containers.extend(Self::load(&folder)?);
        }
        containers.sort_by(|a, b| {
            let key = |c: &Self| {
                (c.identity.one_off, c.identity.service.clone(), c.identity.number, c.identity.name.clone())
            };
            key(a).cmp(&key(b))
        });
        Ok(containers)
    }
}

/// The folders of all containers of a project.
pub(crate) fn folders(project: &ProjectPaths) -> Result<Vec<PathBuf>> {
    let folder = project.containers();
    let listed = match fs::read_dir(&folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect()),
    };
    listed.with_context(|| format!("failed to list `{}`", folder.display()))
}

/// What the container in `folder` does now.
pub(crate) fn state(folder: &Path, supervision: &Supervision) -> Result<State> {
    let state = record::state(folder)
        .with_context(|| format!("failed to read the state of `{}`", folder.display()))?;
    Ok(match state {
        record::State::Created => State::Created,
        record::State::Running(running) => State::Running {
            pid: running.init.pid,
            shim: running.shim.pid,
            since: parsed(&running.started_at),
        },
        record::State::Exited(exit) if supervision.restarting => {
            State::Restarting { code: exit.code, at: parsed(&exit.finished_at) }
        }
        record::State::Exited(exit) => State::Exited { code: exit.code, at: parsed(&exit.finished_at) },
        // Docker reports 137 or 255 for what nobody saw end; 255 says that it was not a signal we know of.
        record::State::Dead(_) => State::Exited { code: 255, at: 0 },
    })
}

fn parsed(text: &str) -> Nanoseconds {
    time::parse(text).unwrap_or(0)
}

/// `container_name`, else `<project>-<service>-<number>`.
pub(crate) fn name(project: &Project, service: &str, number: u32) -> String {
    let own = project.services.get(service).and_then(|service| service.container_name.clone());
    own.unwrap_or_else(|| format!("{}-{service}-{number}", project.name))
}

/// `<project>-<service>-run-<12 hex digits>`.
pub(crate) fn one_off_name(project: &str, service: &str) -> Result<String> {
    Ok(format!("{project}-{service}-run-{}", &random_id()?[..12]))
}

/// The container's name without the project's: the prefix of its log lines.
pub(crate) fn prefix<'a>(name: &'a str, project: &str) -> &'a str {
    name.strip_prefix(project).and_then(|rest| rest.strip_prefix('-')).unwrap_or(name)
}

/// Changes when the container has to be made anew: the service (without what only orders starts), its configs and secrets,
/// its images, the places of its volumes, the ID map.
pub(crate) fn configuration_hash(
    project: &Project,
    service: &Service,
    image: &Digest,
    others: &[Digest],
    id_map: &str,
) -> Result<String> {
    // What orders starts, and how many there are, is no property of a container.
    let own = Service { depends_on: BTreeMap::new(), replicas: None, ..service.clone() };
    let files: Vec<_> = service
        .configs
        .iter()
        .map(|file| project.configs.get(&file.source))
        .chain(service.secrets.iter().map(|file| project.secrets.get(&file.source)))
        .collect();
    let networks = network_properties(project, service);
    let places: Vec<_> = service
        .volumes
        .iter()
        .filter_map(|mount| match &mount.source {
            MountSource::Volume { source: Some(key), .. } => project.volumes.get(key)?.place.as_ref(),
            _ => None,
        })
        .collect();
    // What says nothing is left out, so that a newer runner makes nothing anew.
    let mounts = (!places.is_empty() || !others.is_empty()).then_some((places, others));
    let encoded = match (files.is_empty(), networks.is_empty(), mounts) {
        (true, true, None) => serde_json::to_vec(&(&own, image, id_map)),
        (false, true, None) => serde_json::to_vec(&(&own, image, id_map, files)),
        (_, false, None) => serde_json::to_vec(&(&own, image, id_map, files, networks)),
        (_, _, Some(mounts)) => serde_json::to_vec(&(&own, image, id_map, files, networks, mounts)),
    };
    let text = encoded.context("failed to encode a service")?;
    Ok(Digest::of(&text).hex())
}

/// What its networks are, as far as a container has to be made anew when it changes.
fn network_properties<'a>(project: &'a Project, service: &'a Service) -> Vec<(&'a String, Network)> {
    let NetworkMode::Networks(networks) = &service.network else { return Vec::new() };
    let properties = |key: &'a String| {
        let network = project.networks.get(key)?;
        let network = Network { name: String::new(), labels: BTreeMap::new(), ..network.clone() };
        (network != Network::default()).then_some((key, network))
    };
    networks.keys().filter_map(properties).collect()
}

/// 64 hex digits that nobody has had before.
pub(crate) fn random_id() -> Result<String> {
    let mut bytes = [0; 32];
    let read = fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    read.context("failed to read `/dev/urandom`")?;
    Ok(Digest::from_bytes(bytes).hex())
}

#[cfg(test)]
mod tests {
    use super::*;
    use dpack_compose::project::Dependency;

    #[test]
    fn names_are_composes() {
        let own = Service { container_name: Some("mine".into()), ..Service::default() };
        let shop =
            Project { name: "shop".into(), services: [("own".to_owned(), own)].into(), ..Project::default() };
        assert_eq!((name(&shop, "web", 1).as_str(), name(&shop, "own", 1).as_str()), ("shop-web-1", "mine"));
        assert_eq!(prefix("shop-web-1", "shop"), "web-1");
        assert_eq!(prefix("other", "shop"), "other");
        let one = one_off_name("shop", "web").unwrap();
        assert!(one.starts_with("shop-web-run-") && one.len() == "shop-web-run-".len() + 12);
        assert_ne!(one, one_off_name("shop", "web").unwrap());
    }

    #[test]
    fn the_configuration_hash_follows_what_the_container_is_made_of() {
        let (image, service) = (Digest::of(b"1"), Service { image: "a".into(), ..Service::default() });
        let hash = |service: &Service, image| {
            configuration_hash(&Project::default(), service, &image, &[], "full").unwrap()
        };
        let base = hash(&service, image);
        let mut ordered = service.clone();
        ordered.depends_on.insert("b".into(), Dependency::default());
        assert_eq!(hash(&ordered, image), base, "order of start is no property of the container");
        assert_ne!(hash(&service, Digest::of(b"2")), base);
        assert_ne!(hash(&Service { user: Some("1".into()), ..service.clone() }, image), base);
        assert_ne!(configuration_hash(&Project::default(), &service, &image, &[], "single").unwrap(), base);
    }

    #[test]
    fn status_reads_like_dockers() {
        let second = 1_000_000_000;
        for (state, text) in [
            (State::Created, "Created"),
            (State::Running { pid: 1, shim: 2, since: 0 }, "Up 5 seconds"),
            (State::Exited { code: 3, at: 2 * second }, "Exited (3) 3 seconds ago"),
            (State::Exited { code: 255, at: 0 }, "Exited (255)"),
            (State::Restarting { code: 1, at: 4 * second }, "Restarting (1) 1 second ago"),
        ] {
            assert_eq!(state.status(None, 5 * second), text);
        }
        let healthy =
            State::Running { pid: 1, shim: 2, since: 0 }.status(Some(health::Status::Healthy), second);
        assert_eq!(healthy, "Up 1 second (healthy)");
    }
}
