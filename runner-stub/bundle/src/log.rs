//! `logging:` as annotations that the sandbox follows.
//!
//! `json-file` and `local` are kept in the same form here; what differs is how much is kept by default: of `local` five
//! files of 20 MB, of `json-file` one file without limit, as with Docker.

use dpack_compose::project::Logging;

use crate::annotation;

/// Why it is not clear what to log.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum LogError {
    /// A driver that there is not.
    #[error("the logging driver `{0}` is not supported, only json-file, local and none are")]
    Driver(String),
    /// A number that is none.
    #[error("the logging option `{key}` is invalid: `{value}`")]
    Value {
        /// Which option.
        key: String,
        /// What it says.
        value: String,
    },
    /// An option that there is not.
    #[error("the logging option `{0}` is not supported")]
    Option(String),
}

/// Annotations for what a service says of its log.
pub fn options(logging: Option<&Logging>) -> Result<Vec<(&'static str, String)>, LogError> {
    let Some(logging) = logging else { return Ok(Vec::new()) };
    let driver = logging.driver.as_deref().filter(|driver| !driver.is_empty()).unwrap_or("json-file");
    let (mut size, mut files) = match driver {
        "json-file" => (None, 1),
        "local" => (Some(20_000_000), 5),
        "none" => return Ok(vec![(annotation::LOG, "none".to_owned())]),
        other => return Err(LogError::Driver(other.to_owned())),
    };
    for (key, value) in &logging.options {
        let invalid = || LogError::Value { key: key.clone(), value: value.clone() };
        match key.as_str() {
            "max-size" if value == "-1" => size = None,
            "max-size" => size = Some(bytes(value).ok_or_else(invalid)?),
            "max-file" => {
                files = value.parse().ok().filter(|files| *files > 0).ok_or_else(invalid)?;
            }
            // How older files are kept, and what is written besides; both change nothing of what `logs` shows.
            "compress" | "mode" | "max-buffer-size" | "labels" | "labels-regex" | "env" | "env-regex"
            | "tag" => {}
            other => return Err(LogError::Option(other.to_owned())),
        }
    }
    let Some(size) = size else { return Ok(Vec::new()) };
    Ok(vec![(annotation::LOG_MAX_SIZE, size.to_string()), (annotation::LOG_MAX_FILE, files.to_string())])
}

/// `10m`, `1.5k`, `100` in the units of Docker's log drivers, which are decimal.
fn bytes(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    let text = text.strip_suffix('b').unwrap_or(&text);
    let (number, unit) = match text.char_indices().last()? {
        (at, 'k') => (&text[..at], 1_000.0),
        (at, 'm') => (&text[..at], 1_000_000.0),
        (at, 'g') => (&text[..at], 1_000_000_000.0),
        _ => (text, 1.0),
    };
    let number: f64 =
        number.trim().parse().ok().filter(|number: &f64| number.is_finite() && *number > 0.0)?;
    Some((number * unit) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(driver: &str, pairs: &[(&str, &str)]) -> Result<String, LogError> {
        let options = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let logging = Logging { driver: Some(driver.to_owned()), options };
        let found = super::options(Some(&logging))?;
        Ok(found.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn drivers_and_their_limits() {
        assert_eq!(of("json-file", &[]).unwrap(), "");
        assert_eq!(of("none", &[("max-size", "x")]).unwrap(), "dev.dpack.log=none");
        let limited = "dev.dpack.log.max-size=10000000 dev.dpack.log.max-file=3";
        assert_eq!(of("json-file", &[("max-size", "10m"), ("max-file", "3")]).unwrap(), limited);
        assert_eq!(
            of("local", &[("max-size", "1.5kb"), ("compress", "false")]).unwrap(),
            "dev.dpack.log.max-size=1500 dev.dpack.log.max-file=5"
        );
        assert_eq!(of("syslog", &[]), Err(LogError::Driver("syslog".into())));
        for (key, value) in [("max-size", "ten"), ("max-size", "-5"), ("max-file", "0")] {
            let error = LogError::Value { key: key.into(), value: value.into() };
            assert_eq!(of("json-file", &[(key, value)]), Err(error));
        }
    }
}
