//! What a project is on disk apart from its containers: `project.json`, written by the supervisor at each `up`.

use anyhow::Result;
use dpack_payload::digest::DiffId;
use serde::{Deserialize, Serialize};

use crate::files;
use crate::paths::{Paths, ProjectPaths};
use crate::protocol::Desired;

const VERSION: u32 = 1;

/// `project.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Version of this file.
    pub(crate) version: u32,
    /// What the last `up` asked for.
    pub(crate) desired: Desired,
    /// The executable that it came from ([`crate::payload::Executable::build`]).
    pub(crate) build: String,
    /// Layers of that executable, which garbage collection keeps.
    pub(crate) layers: Vec<DiffId>,
}

impl Record {
    /// A record of the present version.
    pub(crate) fn new(desired: Desired, build: String, layers: Vec<DiffId>) -> Self {
        Self { version: VERSION, desired, build, layers }
    }

    /// Reads a project's record, if it was ever up.
    pub(crate) fn load(project: &ProjectPaths) -> Result<Option<Self>> {
        files::read_json(&project.record())
    }

    /// Writes it.
    pub(crate) fn store(&self, project: &ProjectPaths) -> Result<()> {
        files::write_json(&project.record(), self)
    }
}

/// Layers that any project of this user needs; of the project `made`, only those of the containers that there are. A record
/// that cannot be read is an error: its layers must not go.
pub(crate) fn layers_in_use(paths: &Paths, made: Option<&str>) -> Result<Vec<DiffId>> {
    let mut layers = Vec::new();
    let Ok(entries) = std::fs::read_dir(paths.data.join("projects")) else { return Ok(layers) };
    for entry in entries {
        let Ok(name) = entry?.file_name().into_string() else { continue };
        let project = paths.find_project(&name);
        let record = Record::load(&project)?.filter(|_| made != Some(&*name));
        layers.extend(record.into_iter().flat_map(|record| record.layers));
        for container in crate::container::Identity::list(&project)? {
            layers.extend(container.layers);
        }
    }
    layers.sort();
    layers.dedup();
    Ok(layers)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_str, from_value, json, to_value};

    use super::*;
    use crate::container::Identity;

    /// Whoever updates a running application has these on his device.
    #[test]
    fn records_of_earlier_builds_are_read() {
        let service = json!({
            "image": "a/b", "command": ["7000"], "network": {"networks": {"default": {}}}, "restart": "unless-stopped",
            "ports": [{"target": 8080, "published": 18080, "host_ip": "127.0.0.1", "protocol": "tcp"}],
            "depends_on": {"db": {"condition": "service_started"}}, "init": false, "read_only": false,
            "volumes": [
                {"target": "/data", "read_only": false, "type": "volume", "source": "visits", "nocopy": false},
                {"target": "/x", "read_only": true, "type": "bind", "source": "./x", "create_host_path": true},
                {"target": "/run", "read_only": false, "type": "tmpfs", "size": 1024, "mode": 448},
            ],
        });
        let layer = format!("sha256:{}", "0f".repeat(32));
        let record = json!({
            "version": 1, "build": "0.1.0", "layers": [layer],
            "desired": {"executable": "/app", "project": {
                "name": "shop", "services": {"web": service}, "networks": {"default": {"name": "shop_default", "internal": false}},
                "volumes": {"visits": {"name": "shop_visits"}},
                "configs": {"a": {"name": "shop_a", "content": "x"}, "b": {"name": "shop_b", "file": "./b"}},
                "secrets": {"c": {"name": "shop_c", "environment": {"variable": "C", "value": "y"}}},
            }},
        });
        let read: Record = from_str(&record.to_string()).unwrap();
        assert_eq!(read.desired.project.services["web"].volumes.len(), 3);
        holds(&record, &to_value(&read).unwrap());

        let container = json!({
            "version": 1, "id": "0ac8a8651413", "name": "shop-web-1", "service": "web", "number": 1, "image": "a/b",
            "digest": layer, "layers": [layer], "configuration": "92fb", "created": "2026-11-25T20:08:04Z", "command": ["/hello"],
            "hostname": "0ac8a8651413", "stop_signal": "SIGTERM", "definition": service,
        });
        let read: Identity = from_value(container.clone()).unwrap();
        holds(&container, &to_value(&read).unwrap());
    }

    /// What was written then is what is written now, perhaps beside more.
    fn holds(then: &Value, now: &Value) {
        match (then, now) {
            (Value::Object(then), Value::Object(now)) => {
                then.iter().for_each(|(key, value)| holds(value, now.get(key).unwrap_or(&Value::Null)));
            }
            (Value::Array(then), Value::Array(now)) => {
                assert_eq!(then.len(), now.len());
                then.iter().zip(now).for_each(|(then, now)| holds(then, now));
            }
            (then, now) => assert_eq!(then, now),
        }
    }
}
