//! Times as text: RFC 3339 in UTC in files, "2 minutes ago" for people.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Nanoseconds since 1970: what log lines are ordered by.
pub(crate) type Nanoseconds = u64;

/// Now.
pub(crate) fn now() -> Nanoseconds {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// `2026-01-31T12:00:00.000000000Z`. Days to a date by the era algorithm of Howard Hinnant's `civil_from_days`.
pub(crate) fn format(time: Nanoseconds) -> String {
    let (seconds, fraction) = (time / 1_000_000_000, time % 1_000_000_000);
    let (days, of_day) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{fraction:09}Z")
}

/// Reads RFC 3339 in UTC with any number of fraction digits up to nine; anything else is no time.
pub(crate) fn parse(text: &str) -> Option<Nanoseconds> {
    let bytes = text.as_bytes();
    if bytes.len() < 20 || bytes[10] != b'T' || bytes[bytes.len() - 1] != b'Z' {
        return None;
    }
    let number = |from: usize, to: usize| text.get(from..to).and_then(digits);
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if !(1970..=2500).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let fraction = match text.get(19..text.len() - 1)? {
        "" => 0,
        rest => {
            let written = rest.strip_prefix('.').filter(|written| (1..=9).contains(&written.len()))?;
            digits(written)? * 10_u64.pow(9 - u32::try_from(written.len()).ok()?)
        }
    };
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year / 400, year % 400);
    let shifted = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted + 2) / 5 + day - 1;
    let days = era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = days.checked_sub(719_468)?;
    Some((days * 86_400 + hour * 3_600 + minute * 60 + second) * 1_000_000_000 + fraction)
}

/// Only digits, unlike `str::parse`, which takes a sign.
fn digits(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// A length of time in words, as `docker ps` has it.
pub(crate) fn in_words(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let count = |number: u64, unit: &str| format!("{number} {unit}");
    match seconds {
        0 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..60 => count(seconds, "seconds"),
        60..120 => "About a minute".to_owned(),
        120..3_600 => count(seconds / 60, "minutes"),
        3_600..7_200 => "About an hour".to_owned(),
        7_200..172_800 => count(seconds / 3_600, "hours"),
        172_800..1_209_600 => count(seconds / 86_400, "days"),
        1_209_600..5_184_000 => count(seconds / 604_800, "weeks"),
        5_184_000..63_072_000 => count(seconds / 2_592_000, "months"),
        _ => count(seconds / 31_536_000, "years"),
    }
}

/// How long ago `time` was, in words.
pub(crate) fn ago(time: Nanoseconds, now: Nanoseconds) -> String {
    in_words(Duration::from_nanos(now.saturating_sub(time)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_round_trip() {
        for (nanoseconds, text) in [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (951_827_696_123_456_789, "2000-02-29T12:34:56.123456789Z"),
            (1_767_225_599_000_000_000, "2025-12-31T23:59:59.000000000Z"),
            (4_107_542_400_000_000_000, "2100-03-01T00:00:00.000000000Z"),
        ] {
            assert_eq!(format(nanoseconds), text);
            assert_eq!(parse(text), Some(nanoseconds));
        }
        assert_eq!(parse("1970-01-01T00:00:01Z"), Some(1_000_000_000));
        assert_eq!(parse("1970-01-01T00:00:00.5Z"), Some(500_000_000));
        for bad in [
            "",
            "1970-01-01",
            "1970-01-01T00:00:00",
            "1969-01-01T00:00:00Z",
            "19x0-01-01T00:00:00Z",
            "é970-01-01T00:00:00.Z",
            "1970-01-01T00:00:00.+5Z",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn lengths_of_time_read_like_dockers() {
        for (seconds, words) in [
            (0, "Less than a second"),
            (59, "59 seconds"),
            (61, "About a minute"),
            (7_300, "2 hours"),
            (200_000, "2 days"),
        ] {
            assert_eq!(in_words(Duration::from_secs(seconds)), words);
        }
    }
}
