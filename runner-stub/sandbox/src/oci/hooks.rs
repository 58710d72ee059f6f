//! Hooks of config.json (config.md, "POSIX-platform Hooks"): programs that get the state on standard input.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::Error;

/// `hooks` of config.json.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(crate) struct Hooks {
    prestart: Vec<Hook>,
    create_runtime: Vec<Hook>,
    create_container: Vec<Hook>,
    start_container: Vec<Hook>,
    poststart: Vec<Hook>,
    poststop: Vec<Hook>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Hook {
    path: PathBuf,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: Vec<String>,
    /// Seconds.
    #[serde(default)]
    timeout: Option<u64>,
}

/// When.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Outside, when the namespaces are there. The deprecated `prestart` comes first.
    CreateRuntime,
    /// In the container's namespaces, before its root is the root.
    CreateContainer,
    /// In the container, in front of its command.
    StartContainer,
    /// Outside, when the command runs.
    Poststart,
    /// Outside, when the container is deleted.
    Poststop,
}

impl Hooks {
    fn of(&self, stage: Stage) -> impl Iterator<Item = (&'static str, &Hook)> {
        let lists = match stage {
            Stage::CreateRuntime => {
                [Some(("prestart", &self.prestart)), Some(("createRuntime", &self.create_runtime))]
            }
            Stage::CreateContainer => [Some(("createContainer", &self.create_container)), None],
            Stage::StartContainer => [Some(("startContainer", &self.start_container)), None],
            Stage::Poststart => [Some(("poststart", &self.poststart)), None],
            Stage::Poststop => [Some(("poststop", &self.poststop)), None],
        };
        lists.into_iter().flatten().flat_map(|(name, hooks)| hooks.iter().map(move |hook| (name, hook)))
    }

    /// Whether there is something to do.
    pub(crate) fn has(&self, stage: Stage) -> bool {
        self.of(stage).next().is_some()
    }

    pub(crate) fn is_empty(&self) -> bool {
        *self == Hooks::default()
    }

    /// Finds what is wrong with them before anything is done.
    pub(crate) fn check(&self) -> Result<(), Error> {
        use Stage::{CreateContainer, CreateRuntime, Poststart, Poststop, StartContainer};
        for stage in [CreateRuntime, CreateContainer, StartContainer, Poststart, Poststop] {
            for (name, hook) in self.of(stage) {
                let invalid = |reason: &str| Error::Invalid {
                    property: format!("hooks.{name}"),
                    reason: reason.to_owned(),
                };
                if !hook.path.is_absolute() {
                    return Err(invalid("an absolute path is needed"));
                }
                if hook.timeout == Some(0) {
                    return Err(invalid("the timeout has to be greater than zero"));
                }
            }
        }
        Ok(())
    }

    /// Runs them one after the other. The first failure ends it, except after the end, where all are run and the first failure
    /// is told.
    pub(crate) fn run(&self, stage: Stage, state: &serde_json::Value) -> Result<(), Error> {
        let goes_on = stage == Stage::Poststop;
        let mut result = Ok(());
        for (name, hook) in self.of(stage) {
            let failed = |source| Error::Hook { stage: name, path: hook.path.clone(), source };
            let outcome = hook.run(&state.to_string()).map_err(failed);
            if result.is_ok() {
                result = outcome;
            }
            if result.is_err() && !goes_on {
                break;
            }
        }
        result
    }
}

impl Hook {
    fn run(&self, state: &str) -> std::io::Result<()> {
        use std::os::unix::process::CommandExt;
        let mut command = Command::new(&self.path);
        // The specification's arguments include the program's name.
        if let Some((name, arguments)) = self.args.split_first() {
            command.arg0(name).args(arguments);
        }
        command.env_clear();
        command.envs(self.env.iter().filter_map(|entry| entry.split_once('=')));
        let mut child = command.stdin(Stdio::piped()).spawn()?;
        if let Some(mut input) = child.stdin.take() {
            // One that does not read it has no need of it.
            let _ = input.write_all(state.as_bytes());
        }
        let deadline = self.timeout.map(|seconds| Instant::now() + Duration::from_secs(seconds));
        let status = match deadline {
            None => child.wait()?,
            Some(deadline) => loop {
                if let Some(status) = child.try_wait()? {
                    break status;
                }
                if Instant::now() >= deadline {
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(std::io::ErrorKind::TimedOut.into());
                }
                std::thread::sleep(Duration::from_millis(5));
            },
        };
        if status.success() { Ok(()) } else { Err(std::io::Error::other(status.to_string())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hooks(json: &str) -> Hooks {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn they_get_the_state_their_arguments_and_their_environment_only() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let script = format!("echo \"$0 $1 $A $HOME\" > {0}; cat >> {0}", out.display());
        let json = serde_json::json!({"poststop": [
            {"path": "/bin/sh", "args": ["sh", "-c", script, "name", "first"], "env": ["A=b"]},
        ]});
        let state = serde_json::json!({"id": "x"});
        hooks(&json.to_string()).run(Stage::Poststop, &state).unwrap();
        assert_eq!(std::fs::read_to_string(out).unwrap(), "name first b \n{\"id\":\"x\"}");
    }

    #[test]
    fn a_failure_ends_it_except_after_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let touch = |name: &str| {
            let file = dir.path().join(name);
            serde_json::json!({"path": "/bin/sh", "args": ["sh", "-c", format!("echo > {}", file.display())]})
        };
        let fails = serde_json::json!({"path": "/bin/false"});
        let json =
            serde_json::json!({"createRuntime": [&fails, touch("a")], "poststop": [fails, touch("b")]});
        let hooks = hooks(&json.to_string());
        let state = serde_json::Value::Null;
        let error = hooks.run(Stage::CreateRuntime, &state).unwrap_err();
        assert!(error.to_string().contains("createRuntime"), "{error}");
        assert!(hooks.run(Stage::Poststop, &state).is_err());
        assert!(!dir.path().join("a").exists() && dir.path().join("b").exists());
    }

    #[test]
    fn a_hook_that_takes_too_long_is_ended() {
        let json = r#"{"prestart":[{"path":"/bin/sleep","args":["sleep","100"],"timeout":1}]}"#;
        assert!(hooks(json).run(Stage::CreateRuntime, &serde_json::Value::Null).is_err());
        assert!(hooks(r#"{"prestart":[{"path":"true"}]}"#).check().is_err());
        assert!(hooks(r#"{"prestart":[{"path":"/bin/true","timeout":0}]}"#).check().is_err());
    }
}
