//! `/proc/PID/stat` (proc_pid_stat(5)).

/// A field by its place after the name, from 0 on: the state, the parent, and so on. The name may hold anything, `)` too.
pub(crate) fn field(text: &str, number: usize) -> Option<&str> {
    text.get(text.rfind(')')? + 1..)?.split_whitespace().nth(number)
}

/// `R`, `S`, `Z` and the like.
pub(crate) fn state(text: &str) -> Option<char> {
    field(text, 0)?.chars().next()
}
