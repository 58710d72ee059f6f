//! What can be asked for on the command line.

use anyhow::{Context, Result, bail};

/// How to measure, and what.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// Few rounds, one platform, no release compression level.
    pub(crate) quick: bool,
    /// JSON instead of a table.
    pub(crate) json: bool,
    rounds: Option<u32>,
    names: Vec<String>,
}

impl Options {
    /// Reads the arguments; `known` are the names of the benchmarks.
    pub(crate) fn parse(
        arguments: Vec<String>,
        known: impl Iterator<Item = &'static str> + Clone,
    ) -> Result<Self> {
        let usage = || {
            let names = known.clone().collect::<Vec<_>>().join("|");
            format!("usage: bench [--quick] [--rounds N] [--format table|json] [{names}]...")
        };
        let mut options = Self { quick: false, json: false, rounds: None, names: Vec::new() };
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().with_context(|| format!("`{argument}` needs a value"));
            match argument.as_str() {
                "--quick" => options.quick = true,
                "--rounds" => {
                    let text = value()?;
                    let rounds = text.parse().ok().filter(|rounds| *rounds > 0);
                    options.rounds =
                        Some(rounds.with_context(|| format!("`{text}` is no number of rounds"))?);
                }
                "--format" => match value()?.as_str() {
                    "table" => options.json = false,
                    "json" => options.json = true,
                    other => bail!("unknown format `{other}`\n{}", usage()),
                },
                name if known.clone().any(|known| known == name) => options.names.push(argument),
                other => bail!("unknown argument `{other}`\n{}", usage()),
            }
        }
        Ok(options)
    }

    /// Whether this benchmark was asked for: all are, when none is named.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|wanted| wanted == name)
    }

    /// How often each contender runs: as asked, else `usual`, else few when it has to be quick.
    pub(crate) fn rounds(&self, usual: u32) -> u32 {
        self.rounds.unwrap_or(if self.quick { usual.div_ceil(4) } else { usual })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Options> {
        Options::parse(
            arguments.iter().map(|text| (*text).to_owned()).collect(),
            ["start", "size"].into_iter(),
        )
    }

    #[test]
    fn options_are_understood_and_anything_else_is_refused() {
        let all = parse(&["--quick"]).unwrap();
        assert!(all.quick && !all.json && all.wants("start") && all.wants("size"));
        assert_eq!((all.rounds(40), all.rounds(3)), (10, 1));
        let one = parse(&["--rounds", "7", "--format", "json", "size"]).unwrap();
        assert!(one.json && one.wants("size") && !one.wants("start"));
        assert_eq!(one.rounds(40), 7);
        for wrong in [&["--rounds", "0"][..], &["--rounds"], &["--format", "xml"], &["speed"]] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
