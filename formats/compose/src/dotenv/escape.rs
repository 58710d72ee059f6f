//! Backslashes in double quotes.

/// Escapes of double quotes. `\$` becomes `$$`, which the expansion after this makes a `$`.
pub(super) fn unescape(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        result.push_str(before);
        rest = after;
        let Some(character) = after.chars().next() else {
            result.push('\\');
            break;
        };
        let replacement = match character {
            'a' => '\x07',
            'b' => '\x08',
            'f' => '\x0c',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\x0b',
            '"' | '\\' => character,
            '$' => {
                result.push_str("$$");
                rest = &after[1..];
                continue;
            }
            '0' => {
                // `\0101` is `A`; with fewer digits Compose drops the 0 and leaves the rest as it is.
                let byte = octal(after);
                result.push(byte.map_or('\\', char::from));
                rest = &after[if byte.is_some() { 4 } else { 1 }..];
                continue;
            }
            _ => {
                result.push('\\');
                continue;
            }
        };
        result.push(replacement);
        rest = &after[character.len_utf8()..];
    }
    result.push_str(rest);
    result
}

/// `0NNN`, at most 255.
fn octal(text: &str) -> Option<u8> {
    u8::from_str_radix(text.get(1..4)?, 8).ok()
}
