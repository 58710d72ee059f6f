//! The Compose model: load, merge, interpolate, validate.
//!
//! Both sides use it. The builder reads YAML (feature `yaml`), checks everything and embeds the *uninterpolated* model
//! as JSON; the runner reads that and fills in variables with the device's environment. The same code does the second
//! half on both sides, so mistakes are found at build time.
//!
//! ```text
//! files -> yaml -> schema -> Model (JSON in the executable)
//!                              |  interpolate: variables -> canonical -> merge -> normalise -> typed -> references
//!                              v
//!                           Resolved { Project, warnings, variables }
//! ```
//!
//! The builder:
//!
//! ```
//! # #[cfg(feature = "yaml")] {
//! use dpack_compose::{Environment, LoadOptions, interpolate, load};
//!
//! # let dir = tempfile::tempdir().unwrap();
//! # std::fs::write(dir.path().join("compose.yml"), "services: {web: {image: 'nginx:${TAG:-1}'}}").unwrap();
//! let loaded = load(&LoadOptions { working_dir: dir.path().to_owned(), ..LoadOptions::default() })?;
//! let resolved = interpolate(&loaded.model, &Environment::new([("TAG".to_owned(), "2".to_owned())]))?;
//! assert_eq!(resolved.project.services["web"].image, "nginx:2");
//! let embedded = loaded.model.to_json();
//! # let _ = embedded; }
//! # Ok::<(), dpack_compose::Errors>(())
//! ```
//!
//! The runner:
//!
//! ```
//! use dpack_compose::{Environment, Model, interpolate};
//!
//! let embedded = serde_json::json!({
//!     "version": 1,
//!     "folder": "shop",
//!     "layers": [{"file": "compose.yml", "content": {"services": {"web": {"image": "nginx:${TAG:-1}"}}}}],
//!     "environment": [{"file": ".env", "text": "TAG=3"}],
//! });
//! let model = Model::from_json(&embedded)?;
//! let mut environment = Environment::new([]); // the process environment, read by the caller
//! environment.add_file(".env", "TAG=4").expect("valid syntax"); // beside the executable
//! let resolved = interpolate(&model, &environment)?;
//! assert_eq!(resolved.project.services["web"].image, "nginx:4");
//! println!("{}", resolved.to_yaml());
//! # Ok::<(), dpack_compose::Errors>(())
//! ```
//!
//! # Where it differs from Docker Compose
//! `tests/corpus` holds Docker Compose's own answers to every supported key. Known differences, on purpose:
//!
//! (All of them are in COMPOSE.md, which also has a row for every key.)
//!
//! - Bind sources stay relative (`./x`, `~/x`): they mean the device's folders, which nobody knows at build time.
//! - Values that the engine would refuse at start are refused here: relative targets and working folders, unknown signals
//!   and restart policies, unknown mount options, a port published twice or by several containers, variables without a name.
//! - A volume with a name of one letter (`v:/data`) is a volume, not a Windows drive.
//! - The same port in short and long form of two files is one port.
//! - `$` is doubled in printed values but not in keys, where reading would not undo it.
//! - Dates (`A: 2001-01-01`) are strings; Compose refuses them.
//!
//! The library never prints and never reads the process environment; the only input and output is in `load`.

#![forbid(unsafe_code)]

mod assemble;
mod canonical;
pub mod diagnostic;
pub mod dotenv;
mod env_files;
pub mod environment;
mod interpolate;
#[cfg(feature = "yaml")]
mod load;
mod merge;
mod model;
mod name;
mod node;
mod normalise;
mod paths;
mod profiles;
pub mod project;
mod references;
mod render;
#[cfg(feature = "yaml")]
mod scalar;
mod schema;
mod short;
mod substitute;
mod suggest;
mod typed;
#[cfg(feature = "yaml")]
mod yaml;

pub use diagnostic::{Diagnostic, Errors};
pub use environment::{Environment, Source, Variable};
pub use interpolate::{Device, Options, Resolved, Used, interpolate, interpolate_with};
#[cfg(feature = "yaml")]
pub use load::{LoadOptions, Loaded, load, parse};
pub use model::Model;
pub use name::is_valid as is_project_name;
pub use project::Project;
pub use references::NETWORKS;
pub use schema::{Row, table};
pub use typed::{CAPABILITIES, ULIMITS};
