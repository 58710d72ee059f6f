//! What a script prints under headings.

use std::collections::BTreeMap;

/// The text under each heading; a heading is a line such as `== up`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sections(BTreeMap<String, String>);

impl Sections {
    /// Reads a script's output. What comes before the first heading is left out.
    pub fn parse(output: &str) -> Self {
        let output = format!("\n{output}");
        // of an empty section nothing is left but its heading
        let sections =
            output.split("\n== ").skip(1).map(|section| section.split_once('\n').unwrap_or((section, "")));
        Self(sections.map(|(heading, text)| (heading.to_owned(), text.trim().to_owned())).collect())
    }

    /// What stands there, without white space around it; `(not reached)` when the script did not come so far.
    pub fn under(&self, heading: &str) -> &str {
        self.0.get(heading).map_or("(not reached)", String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_what_stands_between_headings() {
        let sections = Sections::parse("noise\n== one\n a == b\nc\n\n== none\n== two\nd");
        assert_eq!(
            ["one", "none", "two", "noise"].map(|heading| sections.under(heading)),
            ["a == b\nc", "", "d", "(not reached)"]
        );
        assert_eq!(Sections::parse("== one\n1\n").under("one"), "1");
    }
}
