//! What Docker Compose has on its command line and an executable has not: each by name, with the reason.

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::failure::Failure;

const TRAVELS: &str = "images travel in this file";
const BUILT: &str = "nothing is built on a device; `dpack build` makes another executable";
const MODEL: &str = "the Compose files are inside this file, and merged when their variables are filled in";

/// Commands.
const COMMANDS: &[(&str, &str)] = &[
    ("bridge", "an executable is for devices"),
    ("build", BUILT),
    ("commit", "images come from `dpack build` alone"),
    ("export", "use `cp SERVICE:/ DIR`"),
    ("ls", "one executable knows its own project; use `ps`"),
    ("publish", "the executable is what is passed on"),
    ("pull", TRAVELS),
    ("push", TRAVELS),
    ("scale", "use `up -d --scale SERVICE=N`"),
    ("volumes", "use `config --volumes`"),
    ("watch", BUILT),
];

/// Flags, whatever the command.
const FLAGS: &[(&str, &str)] = &[
    ("--all-resources", MODEL),
    ("--ansi", "set NO_COLOR for output without colour"),
    ("--build", BUILT),
    ("--compatibility", "that is how Docker Compose 1 named containers"),
    ("--detach-keys", "input is passed on by lines; `--sig-proxy=false` lets Ctrl-C detach"),
    ("--dry-run", "only `up` and `create` can tell what they would do"),
    ("--file", MODEL),
    ("-f", MODEL),
    ("--ignore-buildable", BUILT),
    ("--lock-image-digests", "`inspect` shows the digests of all images"),
    ("--menu", "there is nothing to choose from"),
    ("--models", "language models do not run here"),
    ("--no-consistency", "what is inside this file was checked when it was made"),
    ("--no-env-resolution", "values of `env_file`s are part of the model"),
    ("--no-interpolate", MODEL),
    ("--no-normalize", MODEL),
    ("--no-path-resolution", "paths are printed as they are written"),
    ("--parallel", "what can be done at once is"),
    ("--progress", "progress is for terminals; elsewhere each step is a line"),
    ("--project-directory", "paths start where this file lies"),
    ("--quiet-build", BUILT),
    ("--resolve-image-digests", "`inspect` shows the digests of all images"),
    ("--rmi", "images travel in this file; layers that no project needs any more are removed by themselves"),
    ("--watch", BUILT),
];

/// The reason, when what clap does not know is something that Docker Compose has.
pub(crate) fn explain(error: &clap::Error) -> Option<Failure> {
    let (kind, table) = match error.kind() {
        ErrorKind::UnknownArgument => (ContextKind::InvalidArg, FLAGS),
        ErrorKind::InvalidSubcommand => (ContextKind::InvalidSubcommand, COMMANDS),
        _ => return None,
    };
    let Some(ContextValue::String(written)) = error.get(kind) else { return None };
    let name = written.split('=').next().unwrap_or(written);
    let (name, reason) = table.iter().find(|(known, _)| *known == name)?;
    Some(Failure::usage(format!("there is no `{name}` here: {reason}")))
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::super::args::Arguments;
    use super::*;

    #[test]
    fn what_is_refused_is_refused_by_name() {
        for (typed, expected) in [
            (&["pull"][..], "there is no `pull` here: images travel in this file"),
            (&["down", "--rmi", "all"], "there is no `--rmi` here: images travel in this file; layers"),
            (&["down", "--rmi=local"], "there is no `--rmi` here: images travel in this file; layers"),
            (&["--file", "x.yml", "up"], "there is no `--file` here: the Compose files are inside this file"),
            (&["-f", "x.yml", "up"], "there is no `-f` here: the Compose files are inside this file"),
            (&["stop", "--dry-run"], "there is no `--dry-run` here: only `up` and `create`"),
            (&["attach", "--detach-keys", "q", "a"], "there is no `--detach-keys` here: input is passed on"),
            (&["config", "--no-interpolate"], "there is no `--no-interpolate` here: the Compose files"),
        ] {
            let error = Arguments::try_parse_from([&["app"], typed].concat()).unwrap_err();
            let message = explain(&error).map(|failure| failure.message).unwrap_or_default();
            assert!(message.starts_with(expected), "{typed:?}: {message}\n{error}");
        }
        let typo = Arguments::try_parse_from(["app", "dwon"]).unwrap_err();
        assert_eq!(explain(&typo), None);
    }

    /// A row of a flag or command that there is would never be seen.
    #[test]
    fn nothing_is_refused_that_there_is() {
        let command = Arguments::command();
        for (name, _) in COMMANDS {
            assert!(command.find_subcommand(name).is_none(), "{name}");
        }
        for (name, _) in FLAGS.iter().filter(|(name, _)| !["--dry-run", "-f"].contains(name)) {
            for command in command.get_subcommands() {
                let has = command.get_arguments().any(|argument| argument.get_long() == Some(&name[2..]));
                assert!(!has, "{} {name}", command.get_name());
            }
        }
    }
}
