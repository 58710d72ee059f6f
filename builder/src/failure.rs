//! How a failure is shown: one line that says what, `hint:` lines that say what to do, and an exit code.

use std::io::{IsTerminal as _, Write as _};

use anyhow::Error;
use dpack::error::Kind;

/// A mistake on the command line.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(crate) struct Usage {
    text: String,
    hint: Option<String>,
}

impl Usage {
    pub(crate) fn new(text: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { text: text.into(), hint: Some(hint.into()) }
    }

    pub(crate) fn plain(text: String) -> Self {
        Self { text, hint: None }
    }
}

/// Shows `error` on standard error; returns the exit code.
pub(crate) fn show(error: &Error, colours: bool) -> u8 {
    let kind = kind(error);
    let mut stderr = std::io::stderr().lock();
    let (red, off) = if colours && stderr.is_terminal() { ("\x1b[1;31m", "\x1b[0m") } else { ("", "") };
    for line in lines(error) {
        let _ = match line.strip_prefix("hint: ") {
            Some(hint) => writeln!(stderr, "hint: {hint}"),
            None => writeln!(stderr, "{red}error:{off} {line}"),
        };
    }
    kind.exit_code()
}

/// Mistakes first, each followed by its hints.
fn lines(error: &Error) -> Vec<String> {
    if let Some(errors) = error.downcast_ref::<dpack_compose::Errors>() {
        let mut lines = Vec::new();
        for diagnostic in errors {
            lines.push(diagnostic.to_string());
            lines.extend(diagnostic.hint.iter().map(|hint| format!("hint: {hint}")));
        }
        if errors.more() > 0 {
            lines.push(format!("and {} more", errors.more()));
        }
        return lines;
    }
    let mut hints = Vec::new();
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        // Some errors of the formats bring their hint along.
        let (cause, hint) =
            cause.split_once("\nhint: ").map_or((cause.as_str(), None), |(c, h)| (c, Some(h)));
        hints.extend(hint.map(str::to_owned));
        // A transparent error has the text of its cause.
        if !text.ends_with(cause) {
            if !text.is_empty() {
                text += ": ";
            }
            text += cause;
        }
    }
    hints.extend(hint(error));
    hints.dedup();
    std::iter::once(text).chain(hints.into_iter().map(|hint| format!("hint: {hint}"))).collect()
}

/// Asks each sort of error that knows about kinds and hints.
macro_rules! ask {
    ($error:expr, $method:ident, [$($type:ty),*]) => {
        $(if let Some(error) = $error.downcast_ref::<$type>() { return error.$method().into(); })*
    };
}

fn kind(error: &Error) -> Kind {
    ask!(error, kind, [dpack::build::Error, dpack::inspect::Error, dpack::extract::Error]);
    if error.is::<Usage>() {
        return Kind::Usage;
    }
    if error.is::<dpack_compose::Errors>() {
        return Kind::Input;
    }
    if error.is::<dpack::cache::Error>()
        || error.is::<dpack::credentials::Error>()
        || error.is::<std::io::Error>()
    {
        return Kind::Environment;
    }
    if error.is::<dpack::cancel::Cancelled>() {
        return Kind::Interrupted;
    }
    Kind::Internal
}

fn hint(error: &Error) -> Option<String> {
    ask!(error, hint, [dpack::build::Error, dpack::extract::Error, dpack::cache::Error]);
    error.downcast_ref::<Usage>().and_then(|usage| usage.hint.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_one_line_and_its_hints() {
        let usage = Error::from(Usage::new("--from `x` has no `=`", "write NAME=oci:DIR"));
        assert_eq!(lines(&usage), ["--from `x` has no `=`", "hint: write NAME=oci:DIR"]);
        assert_eq!(kind(&usage).exit_code(), 2);

        let open = dpack_payload::OpenError::NotFound;
        let error = Error::from(dpack::inspect::Error::Payload { path: "app".into(), source: open });
        let lines = lines(&error);
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[0].starts_with("`app` is not an intact dpack executable: there is no payload"));
        assert!(lines[1].starts_with("hint: "));
        assert_eq!(kind(&error).exit_code(), 4);
    }
}
