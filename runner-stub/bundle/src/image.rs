//! The image config, as far as a container needs it (OCI image-spec, config.md; Docker Image Specification v1.3).
//!
//! A layer-less document or one of another platform is accepted: who pulled the image has checked that. Unknown fields are
//! ignored and `null` means absent, as Docker writes it.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

/// What the image says about running it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageConfig {
    /// `user[:group]`; empty means root.
    #[serde(deserialize_with = "or_default")]
    pub user: String,
    /// `KEY=value`.
    #[serde(deserialize_with = "or_default")]
    pub env: Vec<String>,
    /// Start of the command line.
    #[serde(deserialize_with = "or_default")]
    pub entrypoint: Vec<String>,
    /// Command, or arguments for the entrypoint.
    #[serde(deserialize_with = "or_default")]
    pub cmd: Vec<String>,
    /// Working directory; empty means `/`.
    #[serde(deserialize_with = "or_default")]
    pub working_dir: String,
    /// Paths that become volumes.
    #[serde(deserialize_with = "keys")]
    pub volumes: Vec<String>,
    /// `port/protocol`, for information.
    #[serde(deserialize_with = "keys")]
    pub exposed_ports: Vec<String>,
    /// Signal that asks the container to stop.
    #[serde(deserialize_with = "or_default")]
    pub stop_signal: Option<String>,
    /// Labels.
    #[serde(deserialize_with = "or_default")]
    pub labels: BTreeMap<String, String>,
    /// How to find out whether the container is well (Docker's extension).
    #[serde(deserialize_with = "or_default")]
    pub healthcheck: Option<Healthcheck>,
}

/// Docker's `Healthcheck`; times in nanoseconds, 0 means the default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", …]` or `["CMD-SHELL", command]`.
    #[serde(deserialize_with = "or_default")]
    pub test: Vec<String>,
    /// Time between two checks.
    #[serde(deserialize_with = "or_default")]
    pub interval: u64,
    /// How long one check may take.
    #[serde(deserialize_with = "or_default")]
    pub timeout: u64,
    /// Time after the start in which failures do not count.
    #[serde(deserialize_with = "or_default")]
    pub start_period: u64,
    /// Time between two checks in the start period.
    #[serde(deserialize_with = "or_default")]
    pub start_interval: u64,
    /// Failures in a row that make a container unhealthy.
    #[serde(deserialize_with = "or_default")]
    pub retries: u32,
}

/// Why a text is no image config.
#[derive(Debug, thiserror::Error)]
#[error("the image config is invalid")]
pub struct ImageConfigError(#[from] serde_json::Error);

impl ImageConfig {
    /// Parses the whole config document; what is used of it is its member `config`.
    pub fn parse(text: &str) -> Result<Self, ImageConfigError> {
        #[derive(Deserialize)]
        struct Document {
            #[serde(default, deserialize_with = "or_default")]
            config: ImageConfig,
        }
        Ok(serde_json::from_slice::<Document>(text.as_bytes())?.config)
    }
}

fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// A set written as an object with empty values, as Go does.
fn keys<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let set: Option<BTreeMap<String, serde::de::IgnoredAny>> = Option::deserialize(deserializer)?;
    Ok(set.unwrap_or_default().into_keys().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_config_of_a_docker_image_is_read() {
        let config = ImageConfig::parse(
            r#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]},"history":[],
                "config":{"User":"redis","ExposedPorts":{"6379/tcp":{}},"Env":["A=1","PATH=/bin"],
                "Entrypoint":["docker-entrypoint.sh"],"Cmd":["redis-server"],"Volumes":{"/data":{},"/b":{}},
                "WorkingDir":"/data","StopSignal":"SIGQUIT","Labels":{"a":"b"},"OnBuild":null,"ArgsEscaped":true,
                "Healthcheck":{"Test":["CMD-SHELL","true"],"Interval":30000000000,"Retries":3}}}"#,
        )
        .unwrap();
        assert_eq!(config.user, "redis");
        assert_eq!(config.env, ["A=1", "PATH=/bin"]);
        assert_eq!(config.entrypoint, ["docker-entrypoint.sh"]);
        assert_eq!(config.cmd, ["redis-server"]);
        assert_eq!(config.volumes, ["/b", "/data"]);
        assert_eq!(config.exposed_ports, ["6379/tcp"]);
        assert_eq!(config.working_dir, "/data");
        assert_eq!(config.stop_signal.as_deref(), Some("SIGQUIT"));
        assert_eq!(config.labels["a"], "b");
        let healthcheck = config.healthcheck.unwrap();
        assert_eq!(healthcheck.test, ["CMD-SHELL", "true"]);
        assert_eq!((healthcheck.interval, healthcheck.retries), (30_000_000_000, 3));
    }

    #[test]
    fn null_and_missing_members_are_defaults() {
        for text in [
            r#"{"config":{"Env":null,"Cmd":null,"Volumes":null,"Labels":null,"Healthcheck":null,"User":null}}"#,
            r#"{"config":{}}"#,
            r#"{"config":null}"#,
            "{}",
        ] {
            assert_eq!(ImageConfig::parse(text).unwrap(), ImageConfig::default(), "{text}");
        }
        for text in ["", "7", r#"{"config":{"Env":"A=1"}}"#] {
            assert!(ImageConfig::parse(text).is_err(), "{text}");
        }
    }
}
