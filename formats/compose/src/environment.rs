//! Variables for interpolation, each with where it came from.
//!
//! Precedence: process environment, then files given on the device, then the defaults that travel in the executable.
//! This crate never reads the process environment by itself.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::dotenv::{self, DotenvError};

/// Where a variable was set; earlier ones win.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase", tag = "source", content = "file")]
pub enum Source {
    /// The process environment, or the command line.
    Process,
    /// A file given at run time (`--env-file`, `.env` beside the executable).
    File(String),
    /// A file that was there when the executable was built.
    Embedded(String),
}

/// A variable that is set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Variable {
    /// Its value.
    pub value: String,
    /// Where it was set.
    #[serde(flatten)]
    pub source: Source,
}

/// The variables a model is interpolated with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    variables: BTreeMap<String, Variable>,
}

impl Environment {
    /// Starts from the process environment, as the caller read it.
    pub fn new(process: impl IntoIterator<Item = (String, String)>) -> Environment {
        let mut environment = Environment::default();
        for (name, value) in process {
            environment.set(name, value);
        }
        environment
    }

    /// Sets a variable as if it were in the process environment (for command-line options).
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.variables.insert(name.into(), Variable { value: value.into(), source: Source::Process });
    }

    /// Adds the variables of a `.env` file; they win over those of files added before.
    ///
    /// # Errors
    /// The text is not in `.env` syntax.
    pub fn add_file(&mut self, name: &str, text: &str) -> Result<(), DotenvError> {
        self.add(text, &Source::File(name.to_owned()))
    }

    /// Adds the variables of a file that travels in the executable; they win over nothing but each other.
    pub(crate) fn add_embedded(&mut self, name: &str, text: &str) -> Result<(), DotenvError> {
        self.add(text, &Source::Embedded(name.to_owned()))
    }

    /// Adds the variables of a file that an included project has; they win over nothing.
    pub(crate) fn add_weakest(&mut self, name: &str, text: &str) -> Result<(), DotenvError> {
        let find = |name: &str| self.get(name).map(|variable| variable.value.clone());
        let read = dotenv::parse(text, find, |_| None)?;
        for (key, value) in read {
            let source = Source::Embedded(name.to_owned());
            self.variables.entry(key).or_insert(Variable { value, source });
        }
        Ok(())
    }

    /// A variable by name.
    pub fn get(&self, name: &str) -> Option<&Variable> {
        self.variables.get(name)
    }

    /// All variables, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Variable)> {
        self.variables.iter().map(|(name, variable)| (name.as_str(), variable))
    }

    fn add(&mut self, text: &str, source: &Source) -> Result<(), DotenvError> {
        let wins = |old: &Variable| rank(&old.source) < rank(source);
        let find = |name: &str, stronger: bool| {
            self.get(name).filter(|old| wins(old) == stronger).map(|old| old.value.clone())
        };
        let read = dotenv::parse(text, |name| find(name, true), |name| find(name, false))?;
        for (name, value) in read {
            if !self.variables.get(&name).is_some_and(wins) {
                self.variables.insert(name, Variable { value, source: source.clone() });
            }
        }
        Ok(())
    }
}

fn rank(source: &Source) -> u8 {
    match source {
        Source::Process => 0,
        Source::File(_) => 1,
        Source::Embedded(_) => 2,
    }
}
