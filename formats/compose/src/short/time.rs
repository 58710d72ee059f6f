//! Durations: `10s`, `1m30s`, `1.5h`, `1d`.

/// Nanoseconds in each unit.
const UNITS: [(&str, u64); 9] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
    ("w", 604_800_000_000_000),
];

/// A duration in nanoseconds.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not a duration, expected something like `10s` or `1m30s`");
    if text == "0" {
        return Ok(0);
    }
    let mut rest = text;
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).ok_or_else(wrong)?;
        let (number, after) = rest.split_at(end);
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let nanoseconds = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, n)| *n).ok_or_else(wrong)?;
        total = part(number, nanoseconds).and_then(|part| total.checked_add(part)).ok_or_else(wrong)?;
        rest = after;
    }
    // What Go keeps in a duration.
    if text.is_empty() || total > i64::MAX as u64 { Err(wrong()) } else { Ok(total) }
}

fn part(number: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut sum = whole.checked_mul(unit)?;
    let mut scale = unit;
    for digit in fraction.bytes() {
        scale /= 10;
        sum = sum.checked_add(u64::from(digit - b'0') * scale)?;
    }
    Some(sum)
}

/// A duration as Compose prints it: `1h30m0s`, `1.5s`, `100ms`.
pub(crate) fn format(nanoseconds: u64) -> String {
    let decimal = |value: u64, unit: u64| {
        let fraction = format!("{:0width$}", value % unit, width = unit.ilog10() as usize);
        let fraction = fraction.trim_end_matches('0');
        let whole = value / unit;
        if unit == 1 || fraction.is_empty() { whole.to_string() } else { format!("{whole}.{fraction}") }
    };
    match nanoseconds {
        0 => return "0s".to_owned(),
        1..1_000 => return format!("{nanoseconds}ns"),
        1_000..1_000_000 => return format!("{}µs", decimal(nanoseconds, 1_000)),
        1_000_000..1_000_000_000 => return format!("{}ms", decimal(nanoseconds, 1_000_000)),
        _ => {}
    }
    let minutes = nanoseconds / 60_000_000_000;
    let seconds = decimal(nanoseconds % 60_000_000_000, 1_000_000_000);
    match minutes {
        0 => format!("{seconds}s"),
        1..60 => format!("{minutes}m{seconds}s"),
        _ => format!("{}h{}m{seconds}s", minutes / 60, minutes % 60),
    }
}
