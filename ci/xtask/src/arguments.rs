//! The few arguments that commands take. A parser crate would double the time until `xtask` runs.

use anyhow::{Result, anyhow, bail};

/// What has not been understood yet.
pub(crate) struct Arguments(Vec<String>);

impl Arguments {
    pub(crate) fn from_environment() -> Result<Self> {
        std::env::args_os()
            .skip(1)
            .map(|argument| argument.into_string().map_err(|text| anyhow!("argument {text:?} is not UTF-8")))
            .collect::<Result<_>>()
            .map(Self)
    }

    /// The first argument that is no option.
    pub(crate) fn word(&mut self) -> Option<String> {
        let first = self.0.iter().position(|argument| !argument.starts_with("--"))?;
        Some(self.0.remove(first))
    }

    /// Whether an option without a value is there.
    pub(crate) fn flag(&mut self, name: &str) -> bool {
        let before = self.0.len();
        self.0.retain(|argument| argument != name);
        self.0.len() < before
    }

    /// The values of an option, given as `--name value`, `--name=value`, repeated, or separated by commas.
    pub(crate) fn values(&mut self, name: &str) -> Result<Vec<String>> {
        let mut values = Vec::new();
        while let Some(at) = self.0.iter().position(|argument| option_name(argument) == name) {
            let option = self.0.remove(at);
            let value = match option.split_once('=') {
                Some((_, value)) => value.to_owned(),
                None if at < self.0.len() => self.0.remove(at),
                None => bail!("`{name}` needs a value"),
            };
            values.extend(value.split(',').map(str::to_owned));
        }
        Ok(values)
    }

    /// Everything that is left, for another program to understand.
    pub(crate) fn rest(self) -> Vec<String> {
        self.0
    }

    /// Refuses what nobody asked for.
    pub(crate) fn finish(self) -> Result<()> {
        match self.0.first() {
            Some(argument) => bail!("unexpected argument `{argument}`"),
            None => Ok(()),
        }
    }
}

fn option_name(argument: &str) -> &str {
    argument.split_once('=').map_or(argument, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_found_in_every_spelling_and_the_rest_is_refused() {
        let arguments =
            ["stubs", "--platform=linux/amd64", "--platform", "linux/arm64,linux/arm/v7", "--check", "x"];
        let mut arguments = Arguments(arguments.map(str::to_owned).to_vec());
        assert_eq!(arguments.values("--platform").unwrap(), ["linux/amd64", "linux/arm64", "linux/arm/v7"]);
        assert!(arguments.flag("--check") && !arguments.flag("--check"));
        assert_eq!(arguments.word().as_deref(), Some("stubs"));
        assert!(arguments.finish().unwrap_err().to_string().contains("`x`"));
        assert!(Arguments(vec!["--platform".into()]).values("--platform").is_err());
    }
}
