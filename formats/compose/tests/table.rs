//! COMPOSE.md has one row for each key, and says what the code does with it.

use std::collections::BTreeMap;
use std::path::Path;

/// The table is all lines that start with a key in backquotes; its rows are in the order of the code.
#[test]
fn compose_md_says_what_the_code_does() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../COMPOSE.md");
    let text = std::fs::read_to_string(&path).expect("COMPOSE.md");
    let mut rows: BTreeMap<&str, (usize, &str)> = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        if let Some((key, _)) = line.strip_prefix("| `").and_then(|rest| rest.split_once('`')) {
            let before = rows.insert(key, (number + 1, line));
            assert!(before.is_none(), "COMPOSE.md:{}: there are two rows for `{key}`", number + 1);
        }
    }
    let mut wrong = Vec::new();
    for row in dpack_compose::table() {
        let expected = format!("| `{}` | {} | {} |", row.key, row.verdict, row.note).replace("|  |", "| |");
        match rows.remove(row.key.as_str()) {
            Some((_, line)) if line == expected => {}
            Some((number, _)) => wrong.push(format!("COMPOSE.md:{number}: change the row to\n{expected}")),
            None => wrong.push(format!("COMPOSE.md: add the row\n{expected}")),
        }
    }
    for (key, (number, _)) in rows {
        wrong.push(format!("COMPOSE.md:{number}: remove the row of `{key}`"));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Each difference of the corpus is in COMPOSE.md with its reason.
#[test]
fn compose_md_lists_the_differences() {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(crate_dir.join("../../COMPOSE.md")).expect("COMPOSE.md");
    for entry in std::fs::read_dir(crate_dir.join("tests/corpus")).expect("the corpus") {
        let folder = entry.expect("an entry").path();
        let Ok(reason) = std::fs::read_to_string(folder.join("difference.txt")) else { continue };
        let reason = reason.trim();
        assert!(text.contains(reason), "{}: COMPOSE.md does not say: {reason}", folder.display());
    }
}
