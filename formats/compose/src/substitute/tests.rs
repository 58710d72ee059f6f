use super::*;

/// `SET=set`, `EMPTY=`, nothing else.
#[derive(Default)]
struct Known {
    unset: Vec<String>,
}

impl Lookup for Known {
    fn get(&mut self, name: &str) -> Option<String> {
        match name {
            "SET" | "_s1" => Some("set".to_owned()),
            "EMPTY" => Some(String::new()),
            "DOLLAR" => Some("$SET ${SET}".to_owned()),
            _ => None,
        }
    }

    fn unset(&mut self, name: &str) {
        self.unset.push(name.to_owned());
    }
}

#[test]
fn every_form() {
    for (text, expected) in [
        ("plain", "plain"),
        ("$SET", "set"),
        ("${SET}", "set"),
        ("a${SET}b$SET-c", "asetbset-c"),
        ("$_s1.x", "set.x"),
        ("$NONE|${NONE}", "|"),
        ("${SET:-d} ${EMPTY:-d} ${NONE:-d}", "set d d"),
        ("${SET-d} ${EMPTY-d} ${NONE-d}", "set  d"),
        ("${SET:?e} ${SET?e} ${EMPTY?e}", "set set "),
        ("${SET:+x} ${EMPTY:+x} ${NONE:+x}", "x  "),
        ("${SET+x} ${EMPTY+x} ${NONE+x}", "x x "),
        ("${NONE:-${NONE:-${SET}}}", "set"),
        ("${NONE:-$SET$SET}", "setset"),
        ("${SET:+${NONE:-y}}", "y"),
        ("${NONE:-{\"a\": {}}}", "{\"a\": {}}"),
        ("${NONE:-a:-b?c+d}", "a:-b?c+d"),
        ("${NONE:-}", ""),
        ("${NONE:-$$}", "$"),
        ("$$ $$SET $${SET} $$$SET $$$$", "$ $SET ${SET} $set $$"),
        ("$ $1 $- a$", "$ $1 $- a$"),
        ("é$SETé", "éseté"),
        ("$DOLLAR", "$SET ${SET}"),
    ] {
        assert_eq!(substitute(text, &mut Known::default()).as_deref(), Ok(expected), "{text}");
    }
}

#[test]
fn what_is_wrong() {
    for (text, expected) in [
        ("${", "invalid interpolation format `${`"),
        ("a ${A b", "invalid interpolation format `${A b`"),
        ("${}", "invalid interpolation format `${}`"),
        ("${1A}", "invalid interpolation format `${1A}`"),
        ("${ A }", "invalid interpolation format `${ A }`"),
        ("${A:}", "invalid interpolation format `${A:}`"),
        ("${A!x}", "invalid interpolation format `${A!x}`"),
        ("${A:-${}}", "invalid interpolation format `${}`"),
        ("${NONE:?}", "required variable `NONE` is missing a value"),
        ("${EMPTY:?is $SET}", "required variable `EMPTY` is missing a value: is set"),
        ("${NONE?gone}", "required variable `NONE` is missing a value: gone"),
    ] {
        let error = substitute(text, &mut Known::default()).unwrap_err();
        assert_eq!(error.to_string(), expected, "{text}");
    }
}

#[test]
fn plain_references_that_find_nothing_are_told() {
    let mut known = Known::default();
    substitute("$A ${B} ${C:-} ${D-} ${E+x} ${SET} ${EMPTY}", &mut known).unwrap();
    assert_eq!(known.unset, ["A", "B"]);
}
