//! `command: nginx -g "daemon off;"`: words as a shell would split them, without running a shell.
//!
//! Compose uses a Go library for it whose ways are kept: a backslash also escapes inside double quotes, and an unquoted
//! `;`, `&`, `|`, `<` or `>` ends the command. What is lost that way is returned, because hardly anybody wants it.

/// A command line in words.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Words {
    pub(crate) words: Vec<String>,
    /// What came after an operator and is ignored.
    pub(crate) lost: Option<String>,
}

/// Splits a command line; nothing if quotes are not closed.
pub(crate) fn split(line: &str) -> Option<Words> {
    let mut result = Words::default();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut escaped = false;
    for (index, character) in line.char_indices() {
        if escaped {
            word.get_or_insert_default().push(character);
            escaped = false;
            continue;
        }
        match (character, quote) {
            ('\\', Some('\'')) => word.get_or_insert_default().push(character),
            ('\\', _) => escaped = true,
            ('"' | '\'', None) => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            ('`', None) => {
                quote = Some(character);
                word.get_or_insert_default().push(character);
            }
            ('(', None) => {
                // Only `$(…)` is let through, as text.
                let word = word.get_or_insert_default();
                if !word.ends_with('$') {
                    return None;
                }
                word.push(character);
                quote = Some(')');
            }
            (')', None) => return None,
            ('"' | '\'', Some(open)) if open == character => quote = None,
            ('`' | ')', Some(open)) if open == character => {
                quote = None;
                word.get_or_insert_default().push(character);
            }
            (' ' | '\t' | '\r' | '\n', None) => result.words.extend(word.take()),
            (';' | '&' | '|' | '<' | '>', None) => {
                // `2>file`: the descriptor belongs to the redirection.
                if character == '>'
                    && word.as_deref().is_some_and(|w| w.starts_with(|c: char| c.is_ascii_digit()))
                {
                    word = None;
                }
                result.words.extend(word.take());
                result.lost = Some(line[index..].to_owned());
                return Some(result);
            }
            _ => word.get_or_insert_default().push(character),
        }
    }
    if escaped || quote.is_some() {
        return None;
    }
    result.words.extend(word);
    Some(result)
}
