//! Sizes: `64m`, `1.5gb`, `1024`. Units are binary, as everywhere in Docker but in its log drivers.

/// A size in bytes.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    bytes(text, 1024)
}

/// A size in bytes with the units of log drivers, which are powers of 1000 (`units.FromHumanSize` of Docker).
pub(crate) fn decimal(text: &str) -> Result<u64, String> {
    bytes(text, 1000)
}

fn bytes(text: &str, base: u64) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not a size, expected a number and b, k, m, g or t");
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let power = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        "p" | "pb" | "pib" => 5,
        _ => return Err(wrong()),
    };
    let unit = base.pow(power);
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(unit).ok_or_else(wrong);
    }
    let value = float(number).ok_or_else(wrong)?;
    let bytes = value * unit as f64;
    // Casts from floats saturate; beyond 2^53 nobody means single bytes.
    if bytes.is_finite() && bytes < 9e18 { Ok(bytes as u64) } else { Err(wrong()) }
}

/// A number in decimal digits, with a point or an exponent; right to fifteen digits. Read by `serde_json`, which is there in any
/// case: the tables of `str::parse` are 14 KB of every executable.
pub(crate) fn float(text: &str) -> Option<f64> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    // JSON wants one digit on either side of the point, and no further zero before it.
    let (whole, rest) = leading_digits(digits);
    let (fraction, rest) = rest.strip_prefix('.').map_or(("", rest), leading_digits);
    // JSON takes white space around it.
    if whole.is_empty() && fraction.is_empty() || rest.bytes().any(|byte| byte.is_ascii_whitespace()) {
        return None;
    }
    let whole = match whole.trim_start_matches('0') {
        "" => "0",
        whole => whole,
    };
    let fraction = if fraction.is_empty() { "0" } else { fraction };
    serde_json::from_slice(format!("{sign}{whole}.{fraction}{rest}").as_bytes()).ok()
}

fn leading_digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}
