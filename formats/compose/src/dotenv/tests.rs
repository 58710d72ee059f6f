use super::*;

fn read(text: &str) -> Result<Vec<(String, String)>, String> {
    let process = |name: &str| (name == "HOME").then(|| "/home/me".to_owned());
    let file_before = |name: &str| (name == "BEFORE").then(|| "before".to_owned());
    parse(text, process, file_before).map(|map| map.into_iter().collect()).map_err(|error| error.to_string())
}

#[track_caller]
fn value(text: &str, expected: &str) {
    assert_eq!(read(text), Ok(vec![("A".to_owned(), expected.to_owned())]), "{text:?}");
}

#[test]
fn values() {
    value("A=1", "1");
    value("A=", "");
    value("A = 1 ", "1");
    value("  A=1", "1");
    value("export A=1", "1");
    value("export\tA=1", "1");
    value("A: 1", "1");
    value("\u{feff}A=1\r\n", "1");
    value("A=a b # c", "a b");
    value("A=a#b", "a#b");
    value("A=#b", "#b");
    value("A=a=b:c", "a=b:c");
    value("A=a'b\"c", "a'b\"c");
    value("A=a\\nb", "a\\nb");
    value("# c\n\n  # d\nA=1\n# e", "1");
    value("A=1\nA=2", "2");
}

#[test]
fn quotes() {
    value("A='a $HOME ${HOME} \\n # \"b\"'", "a $HOME ${HOME} \\n # \"b\"");
    value("A='it\\'s'", "it's");
    value("A='a\nb'", "a\nb");
    value("A=\"a\nb\" # c", "a\nb");
    value("A=\"a\\nb\\tc\\\\d\\\"e\"", "a\nb\tc\\d\"e");
    value("A=\"\\x \\0101 \\07\"", "\\x A \\7");
    value("A=\"$HOME \\$HOME $$HOME\"", "/home/me $HOME $HOME");
    value("A=\"a\"   # c", "a");
    value("A=\"\"", "");
}

#[test]
fn variables() {
    value("A=$HOME", "/home/me");
    value("A=${HOME}x", "/home/mex");
    value("A=${NONE:-d}", "d");
    value("A=$BEFORE", "before");
    value("A=$NONE", "");
    let two = |text: &str| read(text).unwrap().into_iter().map(|(_, value)| value).collect::<Vec<_>>();
    assert_eq!(two("A=1\nB=${A}2\n"), ["1", "12"]);
    assert_eq!(two("BEFORE=own\nC=$BEFORE"), ["own", "own"]);
    assert_eq!(two("HOME=own\nX=$HOME"), ["own", "/home/me"]);
}

#[test]
fn names_without_a_value_are_taken_from_outside() {
    assert_eq!(
        read("HOME\nNONE\nBEFORE"),
        Ok(vec![("BEFORE".to_owned(), "before".to_owned()), ("HOME".to_owned(), "/home/me".to_owned()),])
    );
}

#[test]
fn mistakes() {
    for (text, expected) in [
        ("A=1\nB C=2", "line 2: the name \"B C\" contains a space"),
        ("A=1\n\nB!=2", "line 3: unexpected character '!' in variable name \"B!\""),
        ("=1", "line 1: a value without a name"),
        ("A=\"x\ny", "line 1: the quote \" is not closed"),
        ("\nA='x", "line 2: the quote ' is not closed"),
        ("A=${B", "line 1: invalid interpolation format `${B`"),
        ("A=1\nB=${C:?set C}", "line 2: required variable `C` is missing a value: set C"),
        ("A=1\nB=\0", "line 2: contains a NUL byte"),
        ("A=\"\\0000\"", "line 1: the value of \"A\" contains a NUL byte"),
    ] {
        assert_eq!(read(text), Err(expected.to_owned()), "{text:?}");
    }
}

#[test]
fn what_values_expand_to_is_bounded() {
    let doubling: String = (1..60).map(|n| format!("V{n}=$V{p}$V{p}\n", p = n - 1)).collect();
    let error = read(&format!("V0=xxxxxxxx\n{doubling}")).unwrap_err();
    assert_eq!(error, "line 18: values are longer than 1024 KiB together");
    assert_eq!(read(&"A=1\n".repeat(1 << 19)).unwrap_err(), "line 1: larger than 1024 KiB");
}

/// Lines are counted once.
#[test]
fn many_lines_take_no_time() {
    let started = std::time::Instant::now();
    let text: String = (0..80_000).map(|n| format!("A{n}=1\n")).collect();
    assert_eq!(read(&text).unwrap().len(), 80_000);
    assert!(started.elapsed() < std::time::Duration::from_secs(30));
}
