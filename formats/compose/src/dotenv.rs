//! `.env` files as Docker Compose reads them.
//!
//! `KEY=value` or `KEY: value`, optionally after `export`; `KEY` alone takes the value from outside. Unquoted values end
//! at the line or at ` #` and are trimmed. Single quotes are literal, double quotes know escapes; both may span lines.
//! Variables are filled in everywhere but in single quotes (`substitute.rs`).

mod escape;

use std::collections::BTreeMap;

use crate::diagnostic::Diagnostic;
use crate::substitute::{self, Lookup, SubstituteError};

/// Largest `.env` file, and most bytes of values it may expand to.
const MAX_BYTES: usize = 1 << 20;

/// What is wrong with a `.env` file.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct DotenvError {
    /// Line from 1.
    pub line: usize,
    /// What is wrong there.
    pub problem: String,
}

impl DotenvError {
    /// The error as a diagnostic of the named file.
    pub fn in_file(self, file: &str) -> Diagnostic {
        let line = u32::try_from(self.line).unwrap_or(u32::MAX);
        Diagnostic { line, ..Diagnostic::about_file(file, self.problem) }
    }
}

/// Reads the text of a `.env` file. When values refer to variables, those that `stronger` finds win over the file's own,
/// and those win over what `weaker` finds.
///
/// # Errors
/// A line that is no assignment, an unterminated quote, an invalid or required variable, a NUL byte, too much text.
pub fn parse(
    text: &str,
    stronger: impl Fn(&str) -> Option<String>,
    weaker: impl Fn(&str) -> Option<String>,
) -> Result<BTreeMap<String, String>, DotenvError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.len() > MAX_BYTES {
        return Err(DotenvError { line: 1, problem: format!("larger than {} KiB", MAX_BYTES >> 10) });
    }
    if let Some(nul) = text.find('\0') {
        let line = text[..nul].matches('\n').count() + 1;
        return Err(DotenvError { line, problem: "contains a NUL byte".to_owned() });
    }
    let text = text.replace("\r\n", "\n");
    let (stronger, weaker): (Outside<'_>, Outside<'_>) = (&stronger, &weaker);
    let mut parser = Parser {
        text: &text,
        rest: &text,
        line: 1,
        counted: 0,
        stronger,
        weaker,
        variables: BTreeMap::new(),
        bytes: 0,
    };
    while parser.statement()? {}
    Ok(parser.variables)
}

/// Reads `NAME=VALUE` lines whose values are meant as they stand; `NAME` alone takes its value from `outside`.
///
/// # Errors
/// A line without a name, a NUL byte, too much text.
pub fn raw(
    text: &str,
    outside: impl Fn(&str) -> Option<String>,
) -> Result<BTreeMap<String, String>, DotenvError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.len() > MAX_BYTES {
        return Err(DotenvError { line: 1, problem: format!("larger than {} KiB", MAX_BYTES >> 10) });
    }
    let mut variables = BTreeMap::new();
    for (index, line) in text.lines().enumerate() {
        let error = |problem: &str| DotenvError { line: index + 1, problem: problem.to_owned() };
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if line.contains('\0') {
            return Err(error("contains a NUL byte"));
        }
        let (name, value) = match line.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (line, outside(line.trim())),
        };
        let name = name.trim();
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(error("a value without a name"));
        }
        if let Some(value) = value {
            variables.insert(name.to_owned(), value);
        }
    }
    Ok(variables)
}

/// Finds variables that are set elsewhere.
type Outside<'a> = &'a dyn Fn(&str) -> Option<String>;

struct Parser<'a> {
    text: &'a str,
    rest: &'a str,
    /// Line of the last count, and how far it went.
    line: usize,
    counted: usize,
    stronger: Outside<'a>,
    weaker: Outside<'a>,
    variables: BTreeMap<String, String>,
    /// Bytes of all values so far: `B=$A$A`, `C=$B$B` would double with each line.
    bytes: usize,
}

impl<'a> Parser<'a> {
    /// Reads one assignment; false at the end.
    fn statement(&mut self) -> Result<bool, DotenvError> {
        self.rest = self.rest.trim_start();
        while self.rest.starts_with('#') {
            self.line();
            self.rest = self.rest.trim_start();
        }
        if self.rest.is_empty() {
            return Ok(false);
        }
        if let Some(after) = self.rest.strip_prefix("export")
            && after.starts_with(is_blank)
        {
            self.rest = after.trim_start_matches(is_blank);
        }
        let line = self.line_number();
        match self.key()? {
            (key, false) => {
                if let Some(value) = self.lookup(key) {
                    self.set(key, value, line)?;
                }
            }
            (key, true) => {
                let value = self.value(line)?;
                self.set(key, value, line)?;
            }
        }
        Ok(true)
    }

    /// The name, and whether a value follows it.
    fn key(&mut self) -> Result<(&'a str, bool), DotenvError> {
        let statement = self.rest;
        let end = statement.find(['=', ':', '\n']).unwrap_or(statement.len());
        let (name, after) = statement.split_at(end);
        if let Some(bad) = name.chars().find(|c| !is_blank(*c) && !is_key_character(*c)) {
            let shown: String = name.trim_end().chars().take(40).collect();
            return Err(self.error(format!("unexpected character {bad:?} in variable name {shown:?}")));
        }
        let key = name.trim_end();
        if key.is_empty() {
            return Err(self.error("a value without a name".to_owned()));
        }
        if key.contains(is_blank) {
            return Err(self.error(format!("the name {key:?} contains a space")));
        }
        self.rest = after.get(1..).unwrap_or_default();
        Ok((key, after.starts_with(['=', ':'])))
    }

    fn value(&mut self, line: usize) -> Result<String, DotenvError> {
        self.rest = self.rest.trim_start_matches(is_blank);
        if let Some(quote @ ('"' | '\'')) = self.rest.chars().next() {
            let raw = self.quoted(quote)?;
            return if quote == '"' { self.expand(&escape::unescape(&raw), line) } else { Ok(raw) };
        }
        let value = self.line();
        let value = value.split_once(" #").map_or(value, |(value, _)| value);
        self.expand(value.trim_end(), line)
    }

    /// The text up to the closing quote; a backslash keeps its meaning unless it escapes the quote.
    fn quoted(&mut self, quote: char) -> Result<String, DotenvError> {
        let mut value = String::new();
        let mut escaped = false;
        for (index, character) in self.rest.char_indices().skip(1) {
            if character == quote && !escaped {
                self.rest = &self.rest[index + 1..];
                return Ok(value);
            }
            if character == '\\' && !escaped {
                escaped = true;
                continue;
            }
            if escaped && character != quote {
                value.push('\\');
            }
            escaped = false;
            value.push(character);
        }
        Err(self.error(format!("the quote {quote} is not closed")))
    }

    fn lookup(&self, name: &str) -> Option<String> {
        (self.stronger)(name).or_else(|| self.variables.get(name).cloned()).or_else(|| (self.weaker)(name))
    }

    fn expand(&self, text: &str, line: usize) -> Result<String, DotenvError> {
        substitute::substitute(text, &mut &*self)
            .map_err(|error: SubstituteError| DotenvError { line, problem: error.to_string() })
    }

    fn set(&mut self, key: &str, value: String, line: usize) -> Result<(), DotenvError> {
        if value.contains('\0') {
            return Err(DotenvError { line, problem: format!("the value of {key:?} contains a NUL byte") });
        }
        self.bytes += value.len();
        if self.bytes > MAX_BYTES {
            let problem = format!("values are longer than {} KiB together", MAX_BYTES >> 10);
            return Err(DotenvError { line, problem });
        }
        self.variables.insert(key.to_owned(), value);
        Ok(())
    }

    /// Takes the rest of the line.
    fn line(&mut self) -> &'a str {
        let (line, rest) = self.rest.split_once('\n').unwrap_or((self.rest, ""));
        self.rest = rest;
        line
    }

    /// The line that is read next; counts on from where it was asked last.
    fn line_number(&mut self) -> usize {
        let read = self.text.len() - self.rest.len();
        let new = self.text.get(self.counted..read).unwrap_or_default();
        self.line += new.matches('\n').count();
        self.counted = read;
        self.line
    }

    fn error(&mut self, problem: String) -> DotenvError {
        DotenvError { line: self.line_number(), problem }
    }
}

impl Lookup for &Parser<'_> {
    fn get(&mut self, name: &str) -> Option<String> {
        self.lookup(name)
    }

    fn unset(&mut self, _: &str) {}
}

/// White space within a line.
fn is_blank(character: char) -> bool {
    character != '\n' && character.is_whitespace()
}

fn is_key_character(character: char) -> bool {
    character.is_alphanumeric() || matches!(character, '_' | '.' | '-' | '[' | ']')
}

#[cfg(test)]
mod tests;
