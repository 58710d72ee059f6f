//! `--format` of `ps` and `stats`: `table`, `json`, or a template of Go's text/template as Docker's command line reads it. Of
//! that language there are `{{.Field}}`, `{{json .Field}}` and `{{json .}}`; everything else is refused.

use std::str::FromStr;

use anyhow::Result;
use serde::Serialize;
use serde_json::Value as Json;

use super::output;
use crate::failure::Failure;

/// A field of a row and its heading.
pub(crate) type Field = (&'static str, &'static str);

/// Docker's tabwriter: narrowest column and space between two.
const NARROWEST: usize = 7;
const BETWEEN: usize = 3;

/// What `--format` asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Shown {
    /// Columns for people.
    #[default]
    Table,
    /// One object a line.
    Json,
    /// One line for each row.
    Lines(Vec<Part>),
    /// The same in columns with headings; a tab ends a column.
    Columns(Vec<Part>),
}

/// A piece of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Stands for itself.
    Text(String),
    /// `{{.Field}}`
    Field(String),
    /// `{{json .Field}}`, `{{json .}}`
    Json(Option<String>),
}

impl FromStr for Shown {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.strip_prefix("table ")) {
            ("table" | "", _) => Ok(Shown::Table),
            ("json", _) => Ok(Shown::Json),
            (_, Some(template)) => Ok(Shown::Columns(parts(template)?)),
            _ if !text.contains("{{") => Err("neither `table` nor `json` nor a template".to_owned()),
            _ => Ok(Shown::Lines(parts(text)?)),
        }
    }
}

impl Shown {
    /// The text for these rows; nothing when it is the caller's own table that is asked for.
    pub(crate) fn render<T: Serialize>(&self, rows: &[T], fields: &[Field]) -> Result<Option<String>> {
        let (parts, columns) = match self {
            Shown::Table => return Ok(None),
            Shown::Json => (&[Part::Json(None)][..], false),
            Shown::Lines(parts) => (parts.as_slice(), false),
            Shown::Columns(parts) => (parts.as_slice(), true),
        };
        check(parts, fields)?;
        let mut lines = Vec::new();
        if columns {
            lines.push(parts.iter().map(|part| heading(part, fields)).collect());
        }
        for row in rows {
            // By way of bytes, because every other kind of serializer is generated once more for each row.
            let row: Json = serde_json::from_slice(&serde_json::to_vec(row)?)?;
            lines.push(parts.iter().map(|part| value(part, &row)).collect::<String>());
        }
        Ok(Some(if columns {
            aligned(&lines)
        } else {
            lines.iter().map(|line| format!("{line}\n")).collect()
        }))
    }

    /// Prints rows, with `table` for people.
    pub(crate) fn print<T: Serialize>(
        &self,
        rows: &[T],
        fields: &[Field],
        table: impl FnOnce(&[T]) -> String,
    ) -> Result<()> {
        output::print(&self.render(rows, fields)?.unwrap_or_else(|| table(rows)));
        Ok(())
    }
}

/// `\t` and `\n` are written out, as a shell leaves them.
fn parts(template: &str) -> Result<Vec<Part>, String> {
    let template = template.replace("\\t", "\t").replace("\\n", "\n");
    let (mut rest, mut parts) = (template.as_str(), Vec::new());
    while let Some((before, after)) = rest.split_once("{{") {
        let (inside, after) = after.split_once("}}").ok_or("`{{` without `}}`")?;
        parts.push(Part::Text(before.to_owned()));
        let words: Vec<&str> = inside.split_whitespace().collect();
        parts.push(match words[..] {
            ["json", "."] => Part::Json(None),
            ["json", field] if is_field(field) => Part::Json(Some(field[1..].to_owned())),
            [field] if is_field(field) => Part::Field(field[1..].to_owned()),
            _ => {
                let known = "`{{.Field}}`, `{{json .Field}}` and `{{json .}}`";
                return Err(format!("of Go's templates there are {known}, not `{{{{{inside}}}}}`"));
            }
        });
        rest = after;
    }
    parts.push(Part::Text(rest.to_owned()));
    Ok(parts)
}

fn is_field(word: &str) -> bool {
    let name = word.strip_prefix('.').unwrap_or_default();
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

fn check(parts: &[Part], fields: &[Field]) -> Result<(), Failure> {
    let asked = parts.iter().filter_map(|part| match part {
        Part::Field(name) | Part::Json(Some(name)) => Some(name),
        Part::Text(_) | Part::Json(None) => None,
    });
    for name in asked {
        if !fields.iter().any(|(known, _)| known == name) {
            let known: Vec<&str> = fields.iter().map(|(known, _)| *known).collect();
            return Err(Failure::usage(format!("`{{{{.{name}}}}}` is no field that there is here"))
                .hint(format!("the fields are: {}", known.join(", "))));
        }
    }
    Ok(())
}

fn heading(part: &Part, fields: &[Field]) -> String {
    let of =
        |name: &String| fields.iter().find(|(known, _)| known == name).map_or("", |(_, heading)| *heading);
    match part {
        Part::Text(text) => text.clone(),
        Part::Field(name) | Part::Json(Some(name)) => of(name).to_owned(),
        Part::Json(None) => String::new(),
    }
}

fn value(part: &Part, row: &Json) -> String {
    match part {
        Part::Text(text) => text.clone(),
        Part::Field(name) => match &row[name.as_str()] {
            Json::String(text) => text.clone(),
            other => other.to_string(),
        },
        Part::Json(Some(name)) => row[name.as_str()].to_string(),
        Part::Json(None) => row.to_string(),
    }
}

/// Lines whose cells end at tabs; what comes after the last tab needs no width.
fn aligned(lines: &[String]) -> String {
    let rows: Vec<Vec<&str>> = lines.iter().map(|line| line.split('\t').collect()).collect();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0).max(NARROWEST) + BETWEEN
    };
    let widths: Vec<usize> = (0..rows.first().map_or(0, Vec::len)).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let (last, cells) = row.split_last().unwrap_or((&"", &[]));
        for (cell, width) in cells.iter().zip(&widths) {
            text.push_str(&format!("{cell:<width$}"));
        }
        text.push_str(last);
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const FIELDS: &[Field] = &[("Name", "NAME"), ("ExitCode", "EXIT")];

    fn shown(template: &str) -> String {
        let rows = [json!({"Name": "a", "ExitCode": 7}), json!({"Name": "long-name", "ExitCode": 0})];
        match template.parse::<Shown>().unwrap().render(&rows, FIELDS) {
            Ok(text) => text.unwrap_or_default(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn templates_are_filled_in_as_docker_does_it() {
        for (template, expected) in [
            ("table", ""),
            ("json", "{\"ExitCode\":7,\"Name\":\"a\"}\n{\"ExitCode\":0,\"Name\":\"long-name\"}\n"),
            ("{{.Name}}={{ .ExitCode }}", "a=7\nlong-name=0\n"),
            ("{{json .Name}}\\t!", "\"a\"\t!\n\"long-name\"\t!\n"),
            ("table {{.Name}}\\t{{.ExitCode}}", "NAME        EXIT\na           7\nlong-name   0\n"),
            ("table {{.ExitCode}}\\t{{.Name}}", "EXIT      NAME\n7         a\n0         long-name\n"),
            ("{{.Size}}", "`{{.Size}}` is no field that there is here"),
        ] {
            assert_eq!(shown(template), expected, "{template}");
        }
    }

    #[test]
    fn what_is_not_known_of_go_is_refused() {
        for template in
            ["{{range .Ports}}x{{end}}", "{{.Name | upper}}", "{{.Label \"x\"}}", "{{}}", "{{.a.b}}"]
        {
            let error = template.parse::<Shown>().unwrap_err();
            assert!(error.starts_with("of Go's templates there are"), "{template}: {error}");
        }
        assert_eq!("{{.Name".parse::<Shown>().unwrap_err(), "`{{` without `}}`");
        assert_eq!("yaml".parse::<Shown>().unwrap_err(), "neither `table` nor `json` nor a template");
    }
}
