//! `.dpackignore`: patterns as in `.dockerignore`. `*` and `?` stay within a name, `**` spans folders, `!` takes back, the
//! last line that matches decides, and a pattern that matches a folder means all below it.

/// What is left out.
#[derive(Debug, Default)]
pub(super) struct Exclude {
    patterns: Vec<(bool, Vec<String>)>,
}

impl Exclude {
    /// Reads the file; the error has the line.
    pub(super) fn parse(text: &str) -> Result<Self, (usize, String)> {
        let mut patterns = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (keep, pattern) = match line.strip_prefix('!') {
                Some(rest) => (true, rest.trim()),
                None => (false, line),
            };
            if pattern.contains(['[', '\\']) {
                return Err((index + 1, "only `*`, `?`, `**` and `!` have a meaning".to_owned()));
            }
            let parts: Vec<String> =
                pattern.split('/').filter(|part| !matches!(*part, "" | ".")).map(str::to_owned).collect();
            if parts.is_empty() {
                return Err((index + 1, "the pattern is empty".to_owned()));
            }
            patterns.push((keep, parts));
        }
        Ok(Self { patterns })
    }

    /// Whether a path stays behind. A folder does only when nothing below it may be taken back.
    pub(super) fn matches(&self, path: &str) -> bool {
        let names: Vec<&str> = path.split('/').collect();
        let mut excluded = false;
        for (keep, pattern) in &self.patterns {
            let pattern: Vec<&str> = pattern.iter().map(String::as_str).collect();
            let hit = (1..=names.len()).any(|length| parts(&pattern, &names[..length]));
            if hit {
                excluded = !keep;
            } else if *keep && pattern.len() > names.len() && excluded {
                // Something below may be wanted: look inside.
                let above = &pattern[..names.len()];
                excluded = !(parts(above, &names) || pattern.contains(&"**"));
            }
        }
        excluded
    }
}

fn parts(pattern: &[&str], names: &[&str]) -> bool {
    match (pattern.split_first(), names.split_first()) {
        (None, None) => true,
        (Some((&"**", rest)), _) => {
            parts(rest, names) || names.split_first().is_some_and(|(_, names)| parts(pattern, names))
        }
        (Some((part, rest)), Some((name, names))) => {
            one(part.as_bytes(), name.as_bytes()) && parts(rest, names)
        }
        _ => false,
    }
}

/// `*` and `?` in one name.
fn one(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => one(rest, name) || !name.is_empty() && one(pattern, &name[1..]),
        (Some((b'?', rest)), Some((_, name))) => one(rest, name),
        (Some((a, rest)), Some((b, name))) => a == b && one(rest, name),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        let exclude = Exclude::parse("# all\n*.log\n/build\n**/tmp\nsrc/*/x\nkept/*\n!kept/this\n").unwrap();
        for (path, expected) in [
            ("a.log", true),
            ("a/b.log", false),
            ("build", true),
            ("build/x", true),
            ("a/build", false),
            ("tmp", true),
            ("a/b/tmp/c", true),
            ("src/a/x", true),
            ("src/x", false),
            ("kept", false),
            ("kept/that", true),
            ("kept/this", false),
            ("kept/this/x", false),
        ] {
            assert_eq!(exclude.matches(path), expected, "{path}");
        }
        assert!(!Exclude::default().matches(""));
        assert_eq!(Exclude::parse("a\n[b]\n").unwrap_err().0, 2);
        // Something below an excluded folder may be taken back.
        let exclude = Exclude::parse("data\n!data/keep.txt\n").unwrap();
        assert!(!exclude.matches("data"));
        assert!(exclude.matches("data/other"));
        assert!(!exclude.matches("data/keep.txt"));
    }
}
