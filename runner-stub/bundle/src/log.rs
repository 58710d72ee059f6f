//! `logging:` as annotations that the sandbox follows.

use dpack_compose::project::Logging;

use crate::annotation;

/// Annotations for what a service says of its log.
pub(crate) fn annotations(logging: Logging) -> Vec<(&'static str, String)> {
    let Logging { none, max_size, max_file } = logging;
    match max_size {
        _ if none => vec![(annotation::LOG, "none".to_owned())],
        None => Vec::new(),
        Some(size) => vec![
            (annotation::LOG_MAX_SIZE, size.to_string()),
            (annotation::LOG_MAX_FILE, max_file.unwrap_or(1).to_string()),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_a_log() {
        let of = |none, max_size, max_file| -> Vec<String> {
            let found = annotations(Logging { none, max_size, max_file });
            found.iter().map(|(key, value)| format!("{key}={value}")).collect()
        };
        assert_eq!(of(false, None, Some(3)), [""; 0]);
        assert_eq!(of(true, Some(1), None), ["dev.dpack.log=none"]);
        assert_eq!(of(false, Some(9), None), ["dev.dpack.log.max-size=9", "dev.dpack.log.max-file=1"]);
        assert_eq!(of(false, Some(9), Some(3)), ["dev.dpack.log.max-size=9", "dev.dpack.log.max-file=3"]);
    }
}
