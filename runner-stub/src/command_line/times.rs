//! Times as they are typed after `--since` and `--until`.

use crate::failure::Failure;
use crate::time::{self, Nanoseconds};

/// RFC 3339 in UTC, a date, seconds since 1970, or how long ago (`1h30m`, `42s`).
pub(crate) fn parse(text: &str) -> Result<Nanoseconds, Failure> {
    let seconds = |text: &str| -> Option<Nanoseconds> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let whole: u64 = digits(whole).then(|| whole.parse().ok()).flatten()?;
        let fraction: u64 =
            digits(fraction).then(|| format!("{fraction:0<9}").get(..9)?.parse().ok()).flatten()?;
        whole.checked_mul(1_000_000_000)?.checked_add(fraction)
    };
    let date = || match text.len() {
        10 => time::parse(&format!("{text}T00:00:00Z")),
        19 => time::parse(&format!("{text}Z")),
        _ => time::parse(text),
    };
    let before = || ago(text).map(|length| time::now().saturating_sub(length));
    seconds(text).or_else(date).or_else(before).ok_or_else(|| {
        Failure::usage(format!("`{text}` is no time"))
            .hint("2026-01-31T12:00:00Z, or how long ago: 1h30m, 42s")
    })
}

/// A length of time as Go writes it.
fn ago(text: &str) -> Option<Nanoseconds> {
    let (mut rest, mut total) = (text, 0_u64);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..end].parse().ok()?;
        let unit_end = rest[end..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |at| end + at);
        let unit = match &rest[end..unit_end] {
            "h" => 3_600_000_000_000,
            "m" => 60_000_000_000,
            "s" => 1_000_000_000,
            "ms" => 1_000_000,
            _ => return None,
        };
        total = total.checked_add(number.checked_mul(unit)?)?;
        rest = &rest[unit_end..];
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_typed_in_many_ways() {
        for (text, expected) in [
            ("1970-01-01T00:00:02Z", 2_000_000_000),
            ("1970-01-01T00:00:02", 2_000_000_000),
            ("1970-01-02", 86_400_000_000_000),
            ("12.5", 12_500_000_000),
        ] {
            assert_eq!(parse(text).unwrap(), expected, "{text}");
        }
        assert_eq!(ago("1h30m5s20ms"), Some(5_405_020_000_000));
        let (before, now) = (parse("10s").unwrap(), time::now());
        assert!(before < now && now - before < 3_600_000_000_000);
        for bad in ["", "yesterday", "10", "10x", "-5s", "h"].into_iter().filter(|text| *text != "10") {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
