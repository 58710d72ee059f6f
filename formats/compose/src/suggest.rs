//! The key that was probably meant.

/// The nearest of `known`, if it is near enough to be a slip: a third of the letters may differ.
pub(crate) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // Nobody misspells a key of a hundred letters; and the table stays small.
    if word.len() > 64 {
        return None;
    }
    let letters: Vec<char> = normal(word);
    let allowed = (letters.len() / 3).max(1);
    known
        // Every letter more is a difference; this also keeps hostile tables of names cheap.
        .filter(|candidate| candidate.len().abs_diff(word.len()) <= allowed + 2)
        .map(|candidate| (distance(&letters, &normal(candidate)), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `workingDir` and `working-dir` are `working_dir`.
fn normal(word: &str) -> Vec<char> {
    word.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

/// Insertions, deletions, substitutions and swaps of neighbours that lead from one word to the other.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut previous: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = Vec::with_capacity(b.len() + 1);
        row.push(i + 1);
        for (j, y) in b.iter().enumerate() {
            let mut best = (previous[j] + usize::from(x != y)).min(previous[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a[i - 1] == *y && b[j - 1] == *x {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut previous, row);
    }
    previous.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_found_and_other_words_are_not() {
        let keys = ["ports", "environment", "working_dir", "user", "init", "depends_on", "read_only"];
        for (word, expected) in [
            ("prots", Some("ports")),
            ("port", Some("ports")),
            ("enviroment", Some("environment")),
            ("environments", Some("environment")),
            ("workingDir", Some("working_dir")),
            ("working-dir", Some("working_dir")),
            ("dependsOn", Some("depends_on")),
            ("depend_on", Some("depends_on")),
            ("readonly", Some("read_only")),
            ("usr", Some("user")),
            ("something", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, keys.into_iter()), expected, "{word}");
        }
        assert_eq!(nearest(&"x".repeat(1000), keys.into_iter()), None);
    }
}
