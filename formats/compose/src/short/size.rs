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
    let value: f64 = number.parse().map_err(|_| wrong())?;
    let bytes = value * unit as f64;
    // Casts from floats saturate; beyond 2^53 nobody means single bytes.
    if bytes.is_finite() && bytes < 9e18 { Ok(bytes as u64) } else { Err(wrong()) }
}
