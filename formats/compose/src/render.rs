//! The canonical model as text, as `docker compose config` prints it.
//!
//! Strings are quoted whenever YAML 1.1 or 1.2 could read them as something else.

use serde_json::Value as Json;

/// Doubles every `$` of values, so that the output can be read again. Compose does it to keys too, where it is not undone.
pub(crate) fn escape(json: Json) -> Json {
    match json {
        Json::String(text) => Json::String(text.replace('$', "$$")),
        Json::Array(items) => items.into_iter().map(escape).collect(),
        Json::Object(map) => Json::Object(map.into_iter().map(|(key, value)| (key, escape(value))).collect()),
        other => other,
    }
}

/// JSON as block-style YAML.
pub(crate) fn yaml(json: &Json) -> String {
    let mut out = String::new();
    match json {
        Json::Object(map) if !map.is_empty() => block(json, 0, &mut out),
        other => {
            scalar(other, 0, &mut out);
            out.push('\n');
        }
    }
    out
}

/// A collection that is not empty, each entry on lines of its own. The first line's indentation is already written when
/// the block stands behind a `- `.
fn block(json: &Json, indent: usize, out: &mut String) {
    match json {
        Json::Object(map) => {
            for (index, (key, value)) in map.iter().enumerate() {
                if index > 0 || out.is_empty() || out.ends_with('\n') {
                    pad(indent, out);
                }
                string(key, out);
                out.push(':');
                if is_block(value) {
                    out.push('\n');
                    block(value, indent + 2, out);
                } else {
                    out.push(' ');
                    scalar(value, indent + 2, out);
                    out.push('\n');
                }
            }
        }
        Json::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                if index > 0 || out.ends_with('\n') {
                    pad(indent, out);
                }
                out.push_str("- ");
                if is_block(value) {
                    block(value, indent + 2, out);
                } else {
                    scalar(value, indent + 2, out);
                    out.push('\n');
                }
            }
        }
        _ => {}
    }
}

fn is_block(json: &Json) -> bool {
    match json {
        Json::Object(map) => !map.is_empty(),
        Json::Array(items) => !items.is_empty(),
        _ => false,
    }
}

fn scalar(json: &Json, indent: usize, out: &mut String) {
    match json {
        Json::Null => out.push_str("null"),
        Json::Array(_) => out.push_str("[]"),
        Json::Object(_) => out.push_str("{}"),
        Json::String(text) if is_readable_block(text) => literal(text, indent, out),
        Json::String(text) => string(text, out),
        Json::Bool(_) | Json::Number(_) => out.push_str(&json.to_string()),
    }
}

/// Several lines of ordinary text read better as a literal block.
fn is_readable_block(text: &str) -> bool {
    text.trim_end_matches('\n').contains('\n')
        && !text.starts_with([' ', '\n', '\t'])
        && !text.ends_with("\n\n")
        && text.chars().all(|c| c == '\n' || c == '\t' || is_printable(c))
        && text.lines().all(|line| !line.ends_with([' ', '\t']))
}

fn literal(text: &str, indent: usize, out: &mut String) {
    out.push_str(if text.ends_with('\n') { "|" } else { "|-" });
    for line in text.lines() {
        out.push('\n');
        if !line.is_empty() {
            pad(indent, out);
            out.push_str(line);
        }
    }
}

fn string(text: &str, out: &mut String) {
    if is_plain(text) {
        out.push_str(text);
    } else {
        quoted(text, out);
    }
}

/// Whether a string can stand without quotes and stay a string.
fn is_plain(text: &str) -> bool {
    let start = |c: char| c.is_alphabetic() || matches!(c, '/' | '_' | '.' | '$');
    let inside = |c: char| c.is_alphanumeric() || " /_.-$=+@,;()<>~".contains(c);
    let mut previous = ' ';
    let safe = text.chars().all(|c| {
        // A colon is safe unless a space or the end follows.
        let fine = if previous == ':' { c != ' ' && (inside(c) || c == ':') } else { inside(c) || c == ':' };
        previous = c;
        fine
    });
    let starts_like_number =
        text.strip_prefix('.').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    text.starts_with(start)
        && safe
        && !text.ends_with([' ', ':'])
        && !starts_like_number
        && !is_word_of_yaml(text)
}

/// What some version of YAML reads as null, boolean or number.
fn is_word_of_yaml(text: &str) -> bool {
    const WORDS: [&str; 12] =
        ["null", "true", "false", "yes", "no", "on", "off", "y", "n", ".inf", ".nan", "~"];
    WORDS.contains(&text.to_ascii_lowercase().as_str())
}

fn quoted(text: &str, out: &mut String) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if is_printable(c) => out.push(c),
            c => {
                let code = u32::from(c);
                out.push_str(&if code > 0xffff {
                    format!("\\U{code:08x}")
                } else {
                    format!("\\u{code:04x}")
                });
            }
        }
    }
    out.push('"');
}

/// Printable in YAML's sense, less what parsers take for line ends or byte order marks.
fn is_printable(c: char) -> bool {
    !c.is_control() && !matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

fn pad(width: usize, out: &mut String) {
    out.extend(std::iter::repeat_n(' ', width));
}
