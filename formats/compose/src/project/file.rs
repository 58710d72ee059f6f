//! Configs and secrets.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A config or secret of the project.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FileObject {
    /// Name shown to the user; `<project>_<key>` by default.
    pub name: String,
    /// Where its content comes from.
    #[serde(flatten)]
    pub source: FileSource,
    /// Labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// Where the content of a config or secret comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileSource {
    /// A file of the device: an absolute path, or one relative to the folder of the executable (starts with `.`) or home.
    File(String),
    /// A variable, and its value.
    Environment {
        /// The variable.
        variable: String,
        /// What it is set to; nothing when it is not set.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        value: Option<String>,
    },
    /// The content itself.
    Content(String),
}

impl Default for FileSource {
    fn default() -> Self {
        FileSource::Content(String::new())
    }
}

/// A config or secret in a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileMount {
    /// Key of [`super::Project::configs`] or [`super::Project::secrets`].
    pub source: String,
    /// Absolute path inside the container.
    pub target: String,
    /// Owner; 0 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// Group; 0 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gid: Option<String>,
    /// Permission bits; 0o444 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
}
