//! When containers start, are well, and start again.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::is_default;

/// One entry of `depends_on`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Dependency {
    /// What the dependency must have reached.
    pub condition: Condition,
    /// The dependent is restarted after Compose restarted the dependency.
    #[serde(skip_serializing_if = "is_default")]
    pub restart: bool,
    /// Without it the dependency may be missing or fail, with a warning.
    #[serde(skip_serializing_if = "is_true")]
    pub required: bool,
}

impl Default for Dependency {
    fn default() -> Self {
        Dependency { condition: Condition::Started, restart: false, required: true }
    }
}

fn is_true(value: &bool) -> bool {
    *value
}

/// What a dependency must have reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Condition {
    /// Its container runs.
    #[default]
    #[serde(rename = "service_started")]
    Started,
    /// Its health check succeeded.
    #[serde(rename = "service_healthy")]
    Healthy,
    /// Its container exited with status 0.
    #[serde(rename = "service_completed_successfully")]
    Completed,
}

/// Restart policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// Never.
    #[default]
    No,
    /// Whatever the exit status, also when the supervisor finds it stopped.
    Always,
    /// After a failure, at most this many times when given.
    OnFailure(Option<u32>),
    /// Like `Always`, but not after the user stopped it.
    UnlessStopped,
}

/// `healthcheck`: what is absent is the image's, then Docker's default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Healthcheck {
    /// No check at all, whatever the image says (`disable: true`, `test: NONE`).
    #[serde(skip_serializing_if = "is_default")]
    pub disable: bool,
    /// `["CMD", …]` or `["CMD-SHELL", line]`; the image's when empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<String>,
    /// Milliseconds between two checks; 30 s when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval_ms: Option<u64>,
    /// Milliseconds one check may take; 30 s when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Failures in a row that make a container unhealthy; 3 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
    /// Milliseconds after the start in which failures do not count; 0 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_period_ms: Option<u64>,
    /// Milliseconds between two checks during the start period; 5 s when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_interval_ms: Option<u64>,
}

/// A command of `pre_start`, `post_start` or `pre_stop`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hook {
    /// The command.
    pub command: Vec<String>,
    /// `user[:group]`; the service's when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// With everything the user namespace allows.
    #[serde(skip_serializing_if = "is_default")]
    pub privileged: bool,
    /// Working directory; the service's when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// Environment on top of the service's.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// Variables the command must not have.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub unset_environment: BTreeSet<String>,
    /// `pre_start` only: image of its own; the service's when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// `pre_start` only: once for each replica and not once for the service.
    #[serde(skip_serializing_if = "is_default")]
    pub per_replica: bool,
}

/// `logging`: how much of the output is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Logging {
    /// Nothing (`driver: none`).
    #[serde(skip_serializing_if = "is_default")]
    pub none: bool,
    /// Bytes after which a new file is begun; one file without limit when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_size: Option<u64>,
    /// Files that are kept, the present one included; one when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_file: Option<u32>,
}

/// `deploy.update_config`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UpdateConfig {
    /// Containers replaced at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parallelism: Option<u32>,
    /// Milliseconds between two batches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u64>,
    /// Whether the old container stops first.
    #[serde(skip_serializing_if = "is_default")]
    pub order: Order,
}

/// Order of replacement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// The old container stops, then the new one starts.
    #[default]
    StopFirst,
    /// The new container starts, then the old one stops.
    StartFirst,
}
