//! Compose's variable syntax in one string: `$V`, `${V}`, `${V:-d}`, `${V-d}`, `${V:?e}`, `${V?e}`, `${V:+x}`, `${V+x}`, `$$`.
//!
//! Defaults, messages and alternatives may hold variables again. A `$` before anything else stands for itself, as in
//! Docker Compose. Values are put in as they are: what they contain is not expanded again.

/// Longest result of one string; ten times what Linux lets an argument have.
pub(crate) const MAX_RESULT: usize = 1 << 20;
/// How deep `${A:-${B:-…}}` may nest.
const MAX_NESTING: usize = 32;

/// Why a string could not be filled in.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SubstituteError {
    /// `${` that is not followed by a name, an operator and a closing brace.
    #[error("invalid interpolation format `{0}`")]
    Invalid(String),
    /// `${V:?}` without a value.
    #[error("required variable `{name}` is missing a value{}", with_colon(.message))]
    Required {
        /// The variable.
        name: String,
        /// What the file's author says about it.
        message: String,
    },
    /// Nested too deep.
    #[error("variables are nested more than {MAX_NESTING} levels deep")]
    TooDeep,
    /// The result is too long.
    #[error("the value is longer than {} KiB", MAX_RESULT >> 10)]
    TooLong,
}

fn with_colon(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(": {message}") }
}

/// Where values come from.
pub(crate) trait Lookup {
    /// The value of a variable, if it is set.
    fn get(&mut self, name: &str) -> Option<String>;
    /// A plain reference found nothing and became the empty string.
    fn unset(&mut self, name: &str);
    /// `${name:-argument}`, `${name?argument}` and so on, whatever the operator makes of it.
    fn refer(&mut self, _name: &str, _operator: char, _argument: &str) {}
}

/// Fills in all variables of a string.
pub(crate) fn substitute(text: &str, lookup: &mut dyn Lookup) -> Result<String, SubstituteError> {
    if !text.contains('$') {
        return Ok(text.to_owned());
    }
    let mut result = String::with_capacity(text.len());
    expand(text, lookup, &mut result, 0)?;
    Ok(result)
}

fn expand(
    mut rest: &str,
    lookup: &mut dyn Lookup,
    result: &mut String,
    depth: usize,
) -> Result<(), SubstituteError> {
    if depth > MAX_NESTING {
        return Err(SubstituteError::TooDeep);
    }
    while let Some((before, after)) = rest.split_once('$') {
        push(result, before)?;
        rest = if let Some(after) = after.strip_prefix('$') {
            push(result, "$")?;
            after
        } else if let Some(braced) = after.strip_prefix('{') {
            let invalid = || SubstituteError::Invalid(excerpt(&rest[before.len()..]));
            let end = closing_brace(braced).ok_or_else(invalid)?;
            let (inside, after) = (&braced[..end], &braced[end + 1..]);
            expand_braced(inside, lookup, result, depth)?;
            after
        } else {
            let (name, after) = after.split_at(name_length(after));
            if name.is_empty() {
                push(result, "$")?;
            } else {
                expand_plain(name, lookup, result)?;
            }
            after
        };
    }
    push(result, rest)
}

fn expand_plain(name: &str, lookup: &mut dyn Lookup, result: &mut String) -> Result<(), SubstituteError> {
    match lookup.get(name) {
        Some(value) => push(result, &value),
        None => {
            lookup.unset(name);
            Ok(())
        }
    }
}

/// The inside of `${…}`.
fn expand_braced(
    inside: &str,
    lookup: &mut dyn Lookup,
    result: &mut String,
    depth: usize,
) -> Result<(), SubstituteError> {
    let (name, rest) = inside.split_at(name_length(inside));
    if name.is_empty() {
        return Err(SubstituteError::Invalid(excerpt(&format!("${{{inside}}}"))));
    }
    if rest.is_empty() {
        return expand_plain(name, lookup, result);
    }
    let (empty_counts_as_unset, operator) = match rest.strip_prefix(':') {
        Some(operator) => (true, operator),
        None => (false, rest),
    };
    let value = lookup.get(name).filter(|value| !(empty_counts_as_unset && value.is_empty()));
    let mut operator = operator.chars();
    let (kind, argument) = (operator.next(), operator.as_str());
    if let Some(kind) = kind {
        lookup.refer(name, kind, argument);
    }
    match (kind, value) {
        (Some('-' | '?'), Some(value)) => push(result, &value),
        (Some('-'), None) => expand(argument, lookup, result, depth + 1),
        (Some('+'), Some(_)) => expand(argument, lookup, result, depth + 1),
        (Some('+'), None) => Ok(()),
        (Some('?'), None) => {
            let mut message = String::new();
            expand(argument, lookup, &mut message, depth + 1)?;
            Err(SubstituteError::Required { name: name.to_owned(), message })
        }
        _ => Err(SubstituteError::Invalid(excerpt(&format!("${{{inside}}}")))),
    }
}

fn push(result: &mut String, text: &str) -> Result<(), SubstituteError> {
    if result.len() + text.len() > MAX_RESULT {
        return Err(SubstituteError::TooLong);
    }
    result.push_str(text);
    Ok(())
}

/// Length of the variable name at the start: `[A-Za-z_][A-Za-z0-9_]*`.
fn name_length(text: &str) -> usize {
    let bytes = text.as_bytes();
    if !bytes.first().is_some_and(|byte| byte.is_ascii_alphabetic() || *byte == b'_') {
        return 0;
    }
    bytes.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count()
}

/// Where the brace closes that was opened before `text`; braces inside are counted, whatever opened them.
fn closing_brace(text: &str) -> Option<usize> {
    let mut open = 1_usize;
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            b'{' => open += 1,
            b'}' => open -= 1,
            _ => {}
        }
        if open == 0 {
            return Some(index);
        }
    }
    None
}

/// At most one line of the text, for a message.
fn excerpt(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    if line.chars().count() <= 40 { line.to_owned() } else { line.chars().take(40).chain(['…']).collect() }
}

#[cfg(test)]
mod tests;
