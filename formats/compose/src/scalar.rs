//! What a plain YAML scalar means, by the rules of the Go library that Docker Compose reads YAML with.
//!
//! That is YAML 1.2's core schema with leftovers of 1.1: numbers may have `_`, a leading `0` means octal, `0b` binary.
//! `yes`, `no`, `on` and `off` are strings, and so are sexagesimal numbers. Dates stay strings too.

use serde_json::Number;

use crate::node::Value;

/// Resolves a scalar. `plain` means unquoted; `tag` is written as `!!str` or `!own`.
pub(crate) fn resolve(text: &str, plain: bool, tag: Option<&str>) -> Result<Value, String> {
    match tag {
        Some("!!str" | "!!binary" | "!") => Ok(Value::Text(text.to_owned())),
        Some(tag @ ("!!int" | "!!float" | "!!bool" | "!!null")) => {
            let value = resolve_plain(text);
            let fits = match (&value, tag) {
                (Value::Number(number), "!!int") => !number.is_f64(),
                (Value::Number(_), "!!float") => true,
                (Value::Bool(_), "!!bool") | (Value::Null, "!!null") => true,
                _ => false,
            };
            if fits { Ok(value) } else { Err(format!("`{text}` is not a value for the tag `{tag}`")) }
        }
        _ if plain => Ok(resolve_plain(text)),
        _ => Ok(Value::Text(text.to_owned())),
    }
}

fn resolve_plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        // JSON has no such numbers; this is how Compose prints them.
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Value::Text("+Inf".to_owned()),
        "-.inf" | "-.Inf" | "-.INF" => return Value::Text("-Inf".to_owned()),
        ".nan" | ".NaN" | ".NAN" => return Value::Text("NaN".to_owned()),
        _ => {}
    }
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) {
        return Value::Text(text.to_owned());
    }
    let digits = text.replace('_', "");
    let number = integer(&digits).or_else(|| float(&digits));
    number.map_or_else(|| Value::Text(text.to_owned()), Value::Number)
}

fn integer(text: &str) -> Option<Number> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.get(..2).map(str::to_ascii_lowercase);
    let (radix, digits) = match lower.as_deref() {
        Some("0x") => (16, digits.get(2..)?),
        Some("0o") => (8, digits.get(2..)?),
        Some("0b") => (2, digits.get(2..)?),
        _ if digits.len() > 1 && digits.starts_with('0') => (8, digits.get(1..)?),
        _ => (10, digits),
    };
    // `from_str_radix` would take a second sign.
    if !digits.starts_with(|c: char| c.is_digit(radix)) {
        return None;
    }
    let magnitude = u64::from_str_radix(digits, radix).ok()?;
    if negative {
        let value = 0_i64.checked_sub_unsigned(magnitude)?;
        Some(Number::from(value))
    } else {
        Some(Number::from(magnitude))
    }
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`
fn float(text: &str) -> Option<Number> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['+', '-']).unwrap_or(exponent))),
        None => (unsigned, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let valid = all_digits(whole)
        && all_digits(fraction)
        && !(whole.is_empty() && fraction.is_empty())
        && exponent.is_none_or(|exponent| !exponent.is_empty() && all_digits(exponent));
    if !valid {
        return None;
    }
    text.strip_prefix('+').unwrap_or(text).parse::<f64>().ok().and_then(Number::from_f64)
}
