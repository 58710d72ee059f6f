//! What is wrong with a Compose file, and where.
//!
//! A check reports and goes on, so that one run shows all mistakes of a file (up to [`LIMIT`]). A model that came out of
//! an executable has no line numbers any more; its diagnostics name the file and the path of keys only.

mod report;

use std::fmt;

pub(crate) use self::report::Report;

/// So many diagnostics are kept; the rest is counted.
pub const LIMIT: usize = 20;

/// One finding in a Compose file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// File as the user named it, when known.
    pub file: Option<String>,
    /// Line from 1; 0 when unknown.
    pub line: u32,
    /// Column from 1, in characters; 0 when unknown.
    pub column: u32,
    /// Keys that lead to the place, as `services.web.ports[0]`; empty for the file as a whole.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it, where that is known.
    pub hint: Option<String>,
}

impl Diagnostic {
    /// A diagnostic about a file as a whole.
    pub fn about_file(file: impl Into<String>, message: impl Into<String>) -> Diagnostic {
        Diagnostic {
            file: Some(file.into()),
            line: 0,
            column: 0,
            path: String::new(),
            message: message.into(),
            hint: None,
        }
    }

    /// Adds a hint.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Diagnostic {
        self.hint = Some(hint.into());
        self
    }
}

impl Diagnostic {
    /// Where it is, as `compose.yml:3:5: services.web`.
    pub fn place(&self) -> String {
        let mut place = String::new();
        if let Some(file) = &self.file {
            place.push_str(file);
            for number in [self.line, self.column].into_iter().filter(|number| *number > 0) {
                place += &format!(":{number}");
            }
        }
        if !place.is_empty() && !self.path.is_empty() {
            place += ": ";
        }
        place + &self.path
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place() {
            place if place.is_empty() => f.write_str(&self.message),
            place => write!(f, "{place}: {}", self.message),
        }
    }
}

/// At least one mistake, in the order of the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errors {
    found: Vec<Diagnostic>,
    more: usize,
}

impl Errors {
    /// The diagnostics, at most [`LIMIT`].
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.found.iter()
    }

    /// Adds a remedy to those that have none.
    pub fn or_hint(mut self, text: &str) -> Errors {
        for diagnostic in &mut self.found {
            diagnostic.hint.get_or_insert_with(|| text.to_owned());
        }
        self
    }

    /// How many more there were.
    pub fn more(&self) -> usize {
        self.more
    }
}

impl<'a> IntoIterator for &'a Errors {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl From<Diagnostic> for Errors {
    fn from(diagnostic: Diagnostic) -> Errors {
        Errors { found: vec![diagnostic], more: 0 }
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.found.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{diagnostic}")?;
        }
        if self.more > 0 {
            write!(f, "\nand {} more", self.more)?;
        }
        Ok(())
    }
}

impl std::error::Error for Errors {}

/// A place in a file; line 0 when it is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Position {
    /// Index into [`Report::files`].
    pub(crate) file: u16,
    pub(crate) line: u32,
    pub(crate) column: u32,
}

/// The keys that lead to a node, linked from the leaf to the root, so that descending allocates nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Path<'a> {
    Root,
    Key(&'a Path<'a>, &'a str),
    Index(&'a Path<'a>, usize),
}

impl<'a> Path<'a> {
    pub(crate) fn key(&'a self, key: &'a str) -> Path<'a> {
        Path::Key(self, key)
    }

    pub(crate) fn index(&'a self, index: usize) -> Path<'a> {
        Path::Index(self, index)
    }

    /// The service that a value is of.
    pub(crate) fn service(&self) -> Option<&str> {
        match self {
            Path::Key(Path::Key(Path::Root, "services"), name) => Some(name),
            Path::Key(parent, _) | Path::Index(parent, _) => parent.service(),
            Path::Root => None,
        }
    }

    /// Whether the path is exactly these keys; `*` stands for any one key or index.
    pub(crate) fn matches(&self, pattern: &[&str]) -> bool {
        match (self, pattern.split_last()) {
            (Path::Root, None) => true,
            (Path::Key(parent, key), Some((last, rest))) => {
                (*last == "*" || last == key) && parent.matches(rest)
            }
            (Path::Index(parent, _), Some((last, rest))) => *last == "*" && parent.matches(rest),
            _ => false,
        }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Root => Ok(()),
            Path::Key(Path::Root, key) => f.write_str(key),
            Path::Key(parent, key) => write!(f, "{parent}.{key}"),
            Path::Index(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}
