//! What a stage finds, collected.

use std::collections::BTreeSet;

use super::{Diagnostic, Errors, LIMIT, Path, Position};

/// Collects diagnostics during a stage.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// Names of the files that positions refer to.
    pub(crate) files: Vec<String>,
    errors: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
    more: usize,
    /// What cannot be run is a warning only.
    lenient: bool,
    /// Services that are not active: it does not matter what of them cannot be run.
    inactive: BTreeSet<String>,
}

impl Report {
    pub(crate) fn new(files: Vec<String>) -> Report {
        Report { files, ..Report::default() }
    }

    /// Reports a mistake; the returned reference takes a hint.
    pub(crate) fn error(&mut self, at: Position, path: &Path<'_>, message: impl Into<String>) -> Hint<'_> {
        if self.errors.len() >= LIMIT {
            self.more += 1;
            return Hint(None);
        }
        let diagnostic = self.diagnostic(at, path, message.into());
        self.errors.push(diagnostic);
        Hint(self.errors.last_mut())
    }

    /// The same with a path that is written out already.
    pub(crate) fn error_at(&mut self, at: Position, path: String, message: String) {
        if self.errors.len() >= LIMIT {
            self.more += 1;
            return;
        }
        let diagnostic = self.diagnostic(at, &Path::Root, message);
        self.errors.push(Diagnostic { path, ..diagnostic });
    }

    /// Reports something to look at that does not stop us.
    pub(crate) fn warn(&mut self, at: Position, path: &Path<'_>, message: impl Into<String>) -> Hint<'_> {
        if self.warnings.len() >= LIMIT {
            return Hint(None);
        }
        let diagnostic = self.diagnostic(at, path, message.into());
        if self.warnings.contains(&diagnostic) {
            return Hint(None);
        }
        self.warnings.push(diagnostic);
        Hint(self.warnings.last_mut())
    }

    /// Makes what cannot be run a warning, for those who only want to see the model.
    pub(crate) fn lenient(self, lenient: bool) -> Report {
        Report { lenient, ..self }
    }

    /// Says nothing about what cannot be run of these services.
    pub(crate) fn without(self, inactive: &BTreeSet<String>) -> Report {
        Report { inactive: inactive.clone(), ..self }
    }

    /// Reports something that is valid, but cannot be run here.
    pub(crate) fn refuse(&mut self, at: Position, path: &Path<'_>, message: impl Into<String>) {
        if path.service().is_some_and(|service| self.inactive.contains(service)) {
            return;
        }
        if self.lenient {
            let message = format!("does not run on a device: {}", message.into());
            self.warn(at, path, message);
        } else {
            self.error(at, path, message);
        }
    }

    /// How many mistakes there are.
    pub(crate) fn errors(&self) -> usize {
        self.errors.len() + self.more
    }

    /// Whether further mistakes are only counted, so that details need not be looked for.
    pub(crate) fn is_full(&self) -> bool {
        self.errors.len() >= LIMIT
    }

    /// Goes on if nothing was wrong up to here.
    pub(crate) fn checkpoint(self) -> Result<Report, Errors> {
        if self.errors.is_empty() {
            return Ok(self);
        }
        self.finish().map(|_| Report::default())
    }

    /// The warnings, or the errors if there is one.
    pub(crate) fn finish(mut self) -> Result<Vec<Diagnostic>, Errors> {
        if self.errors.is_empty() {
            return Ok(self.warnings);
        }
        let files = self.files;
        let order =
            |name: &Option<String>| name.as_ref().and_then(|name| files.iter().position(|f| f == name));
        self.errors.sort_by_key(|error| (order(&error.file), error.line, error.column));
        Err(Errors { found: self.errors, more: self.more })
    }

    /// A diagnostic without a message about a place.
    #[cfg(feature = "yaml")]
    pub(crate) fn place(&self, at: Position) -> Diagnostic {
        self.diagnostic(at, &Path::Root, String::new())
    }

    fn diagnostic(&self, at: Position, path: &Path<'_>, message: String) -> Diagnostic {
        Diagnostic {
            file: self.files.get(usize::from(at.file)).cloned(),
            line: at.line,
            column: at.column,
            path: path.to_string(),
            message,
            hint: None,
        }
    }
}

/// The diagnostic just reported, if it was kept.
pub(crate) struct Hint<'a>(Option<&'a mut Diagnostic>);

impl Hint<'_> {
    pub(crate) fn hint(self, text: impl Into<String>) {
        if let Some(diagnostic) = self.0 {
            diagnostic.hint = Some(text.into());
        }
    }
}
