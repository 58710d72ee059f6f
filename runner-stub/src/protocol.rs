//! What the command line and the supervisor say to each other: plain data, one JSON object a line, over a Unix socket.
//!
//! One request for each connection. The supervisor answers with any number of [`Event`]s; the last one is `Done`,
//! `Failed` or `Superseded`. Closing the connection does not cancel what was asked for.
//!
//! A supervisor serves the executable it was started from. When a request comes from another build (the application
//! was updated), it answers `Superseded` and leaves; the containers stay, and the client starts a supervisor of its own
//! build that adopts them. For that, [`Envelope`] without its request has to stay readable in all later versions.

use std::path::PathBuf;

use dpack_compose::project::Project;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::failure::Failure;
use crate::plan::UpOptions;

/// Version of the messages.
pub(crate) const VERSION: u32 = 1;

/// Longest message. A project of 1,000 services is about 1 MB.
pub(crate) const LONGEST: usize = 16 << 20;

/// The first thing that a client says, and the only one besides answers to [`Event::Uplink`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Envelope {
    /// [`VERSION`] of the client.
    pub(crate) version: u32,
    /// Which program with which payload asks.
    pub(crate) build: String,
    /// The client makes the kernel's way out when [`Event::Uplink`] asks for it.
    #[serde(default)]
    pub(crate) uplink: bool,
    /// A [`Request`], read only when version and build are ours.
    pub(crate) request: Box<RawValue>,
}

/// What the command line wants.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Request {
    /// Make and start services (`create`: make only), and what they depend on.
    Up {
        /// What is wanted.
        desired: Box<Desired>,
        /// How.
        options: UpOptions,
    },
    /// Make ready what a one-off container of `service` needs: its dependencies and networks.
    Prepare {
        /// What is wanted.
        desired: Box<Desired>,
        /// Service of the one-off container.
        service: String,
        /// Start what it depends on.
        dependencies: bool,
        /// Go on without limits that cannot be enforced.
        allow_degraded: bool,
    },
    /// A one-off container in the background.
    RunDetached {
        /// What is wanted; the service is already changed as the command line says.
        desired: Box<Desired>,
        /// Service of the container.
        service: String,
        /// Name of the container.
        name: String,
        /// Start what it depends on.
        dependencies: bool,
        /// Go on without limits that cannot be enforced.
        allow_degraded: bool,
        /// It answers to the names of its service.
        aliases: bool,
        /// Remove it when it exits.
        remove: bool,
    },
    /// Remove containers of services that the project no longer has.
    RemoveOrphans,
    /// Start containers that are there.
    Start {
        /// Services; all when empty.
        services: Vec<String>,
    },
    /// Stop containers.
    Stop {
        /// Services; all when empty.
        services: Vec<String>,
        /// Seconds between the stop signal and SIGKILL.
        timeout: Option<u32>,
    },
    /// Stop containers and start them again.
    Restart {
        /// Services; all when empty.
        services: Vec<String>,
        /// Those too whose `depends_on` asks for it.
        dependents: bool,
        /// Seconds between the stop signal and SIGKILL.
        timeout: Option<u32>,
    },
    /// Send a signal.
    Kill {
        /// Services; all when empty.
        services: Vec<String>,
        /// Name or number.
        signal: String,
        /// Remove containers of services that the project no longer has.
        orphans: bool,
    },
    /// Remove containers that do not run.
    Remove {
        /// Services; all when empty.
        services: Vec<String>,
        /// Stop those that run first.
        stop: bool,
        /// Their anonymous volumes too.
        volumes: bool,
    },
    /// Stop and remove everything.
    Down {
        /// Services; all, with the networks, when empty.
        services: Vec<String>,
        /// The volumes too.
        volumes: bool,
        /// Containers of services that the project no longer has too.
        orphans: bool,
        /// Seconds between the stop signal and SIGKILL.
        timeout: Option<u32>,
    },
}

/// What `up` asks for, as it is kept in `project.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Desired {
    /// The project with every variable filled in and every bind source absolute.
    pub(crate) project: Project,
    /// The executable, for messages.
    pub(crate) executable: PathBuf,
}

/// What the supervisor answers.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Event {
    /// Something has got further.
    Progress(Progress),
    /// Something the user should know that hinders nothing.
    Warning(String),
    /// The network is there and nothing is on it yet: who may is to make the kernel's way out, and to answer with one byte.
    Uplink,
    /// All done. No further event.
    Done(Done),
    /// It failed. No further event.
    Failed(Failure),
    /// The supervisor is of another build and leaves now. No further event.
    Superseded,
}

/// The result of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Done {
    /// Containers it was about.
    pub(crate) containers: Vec<String>,
    /// The steps of a dry run, one a line.
    #[serde(default)]
    pub(crate) plan: String,
    /// ID of the container of `run`.
    #[serde(default)]
    pub(crate) id: String,
    /// Process ID of the supervisor, whose user namespace a one-off container joins.
    pub(crate) supervisor: i32,
}

/// How far one thing has got.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Progress {
    /// A container, network or volume.
    Item {
        /// What it is.
        kind: Item,
        /// Its name.
        name: String,
        /// What happens to it.
        phase: Phase,
    },
    /// Layers are extracted.
    Layers {
        /// Bytes done.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
}

/// Things that are made and removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Item {
    /// A container.
    Container,
    /// A network.
    Network,
    /// A named volume.
    Volume,
}

/// What happens to a thing; the words of Docker Compose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Phase {
    Creating,
    Created,
    Recreate,
    Recreated,
    Starting,
    Started,
    Waiting,
    Healthy,
    Exited,
    Running,
    Restarting,
    Stopping,
    Stopped,
    Killing,
    Killed,
    Removing,
    Removed,
}

impl Phase {
    /// Nothing more is to come for this thing from the same step.
    pub(crate) const fn is_final(self) -> bool {
        use Phase::{Created, Exited, Healthy, Killed, Recreated, Removed, Running, Started, Stopped};
        matches!(
            self,
            Created | Recreated | Started | Healthy | Exited | Running | Stopped | Killed | Removed
        )
    }
}

/// One message as a line.
pub(crate) fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, serde_json::Error> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_one_line_and_come_back() {
        let event = Event::Progress(Progress::Item {
            kind: Item::Container,
            name: "a\nb".into(),
            phase: Phase::Started,
        });
        let line = encode(&event).unwrap();
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
        assert_eq!(serde_json::from_slice::<Event>(&line).unwrap(), event);
    }

    #[test]
    fn the_envelope_of_a_later_version_is_still_read() {
        let later = r#"{"version":9,"build":"b","request":{"never_heard_of":[1]},"more":true}"#;
        let envelope: Envelope = serde_json::from_str(later).unwrap();
        assert_eq!((envelope.version, envelope.build.as_str()), (9, "b"));
    }
}
