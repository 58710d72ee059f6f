//! What went wrong, for a person: one line, a hint where the remedy is known, and a kind that fixes the exit status.
//!
//! Every other error is wrapped by `anyhow`; `Failure::of` finds the [`Failure`] in the chain, if there is one. The same
//! value crosses the socket between supervisor and command line.

use std::{fmt, io};

use serde::{Deserialize, Serialize};

/// Whose fault it is; the one place where exit statuses of the runner itself are defined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// Anything not foreseen.
    #[default]
    Internal,
    /// What was typed.
    Usage,
    /// The device: kernel settings, disk space, ports in use.
    Environment,
    /// The executable or the Compose project inside it.
    Input,
}

impl Kind {
    /// Exit status: 1 like Docker Compose for what cannot be told apart, 2 like clap for usage.
    pub(crate) const fn exit_status(self) -> u8 {
        match self {
            Kind::Internal => 1,
            Kind::Usage => 2,
            Kind::Environment => 3,
            Kind::Input => 4,
        }
    }
}

/// An error that a person can act on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failure {
    /// Whose fault it is.
    #[serde(default)]
    pub(crate) kind: Kind,
    /// One line, lower case, no full stop.
    pub(crate) message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) hint: Option<String>,
    /// Exit status instead of the kind's: 126 and 127 for commands that cannot be executed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) exit_status: Option<u8>,
}

impl Failure {
    /// What was typed is wrong.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { kind: Kind::Usage, message: message.into(), ..Self::default() }
    }

    /// The device cannot do it.
    pub(crate) fn environment(message: impl Into<String>) -> Self {
        Self { kind: Kind::Environment, message: message.into(), ..Self::default() }
    }

    /// The executable or the project inside it is wrong.
    pub(crate) fn input(message: impl Into<String>) -> Self {
        Self { kind: Kind::Input, message: message.into(), ..Self::default() }
    }

    /// Adds the remedy.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// What the program exits with.
    pub(crate) fn exit_status(&self) -> u8 {
        self.exit_status.unwrap_or(self.kind.exit_status())
    }

    /// The failure inside an error, or one made of its chain. Errors of the libraries carry their remedy as a last
    /// `hint: ...` line of their text, those of the sandbox look at the device for it.
    pub(crate) fn of(error: &anyhow::Error) -> Self {
        let within =
            error.chain().find_map(|cause| cause.downcast_ref::<Failure>()).cloned().unwrap_or_default();
        let text = format!("{error:#}");
        let (message, hint) = match text.split_once("\nhint: ") {
            Some((message, hint)) => (message.to_owned(), Some(hint.to_owned())),
            None => (text, None),
        };
        let sandbox = || {
            error
                .chain()
                .find_map(|cause| cause.downcast_ref::<dpack_sandbox::Error>())
                .and_then(|e| e.hint())
        };
        let full =
            error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>()).any(dpack_store::is_full);
        let room = || full.then(|| "free some space there; `down` needs none".to_owned());
        let kind = if full && within.kind == Kind::Internal { Kind::Environment } else { within.kind };
        Self { kind, message, hint: hint.or(within.hint).or_else(sandbox).or_else(room), ..within }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// Attaches a kind and, for some errors, a hint to the errors of the libraries.
pub(crate) trait Context<T> {
    /// The device is at fault.
    fn environment(self) -> anyhow::Result<T>;
    /// The executable is at fault.
    fn input(self) -> anyhow::Result<T>;
}

impl<T, E: Into<anyhow::Error>> Context<T> for Result<T, E> {
    fn environment(self) -> anyhow::Result<T> {
        self.map_err(|error| Failure { kind: Kind::Environment, ..Failure::of(&error.into()) }.into())
    }

    fn input(self) -> anyhow::Result<T> {
        self.map_err(|error| Failure { kind: Kind::Input, ..Failure::of(&error.into()) }.into())
    }
}

/// Says what the store was asked for, and whose fault it is that it failed: a damaged or hostile executable is not the
/// device's.
pub(crate) fn extracting<T>(
    extracted: Result<T, dpack_store::Error>,
    what: impl FnOnce() -> String,
) -> anyhow::Result<T> {
    extracted.map_err(|error| {
        let kind = if error.is_input() { Kind::Input } else { Kind::Environment };
        Failure { kind, ..Failure::of(&anyhow::Error::from(error).context(what())) }.into()
    })
}

/// The candidate closest to what was typed, if it is close enough to be what was meant.
pub(crate) fn did_you_mean<'a>(typed: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let limit = typed.chars().count() / 3 + 1;
    candidates
        .map(|candidate| (distance(typed, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_suggested_and_a_far_one_is_not() {
        let names = ["web", "redis", "worker"];
        for (typed, expected) in
            [("wbe", Some("web")), ("rediss", Some("redis")), ("database", None), ("", None)]
        {
            assert_eq!(did_you_mean(typed, names.into_iter()), expected, "{typed}");
        }
    }

    #[test]
    fn a_hint_line_in_a_library_error_becomes_the_hint() {
        let failure = Failure::of(&anyhow::anyhow!("no space\nhint: remove something"));
        assert_eq!(failure.message, "no space");
        assert_eq!(failure.hint.as_deref(), Some("remove something"));
    }

    #[test]
    fn a_failure_survives_added_context() {
        let error =
            anyhow::Error::from(Failure::environment("port 80 is taken")).context("failed to start web");
        let failure = Failure::of(&error);
        assert_eq!(
            (failure.kind, failure.message.as_str()),
            (Kind::Environment, "failed to start web: port 80 is taken")
        );
    }
}
