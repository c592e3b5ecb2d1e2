//! `--format` and `inspect -f`: Go's templates, with docker's functions, over JSON values.
//!
//! After the documentation of Go's `text/template` and docker's "Format command and log output". A document's objects
//! stand for Go's structs and maps; see docs/mydocker/format.md for what that changes.

mod functions;
mod lex;
mod parse;
mod print;
mod run;
#[cfg(test)]
mod tests;

use super::table;
use super::visible::json;
use crate::sys::{Error, Result};
use serde_json::Value;

/// What is wrong, at which byte of the template.
#[derive(Debug)]
struct Fault {
    at: usize,
    why: String,
    /// A key that is not there: an error where it is printed, false where it is a condition.
    absent: bool,
}

impl Fault {
    fn at(at: usize, why: impl Into<String>) -> Self {
        Self { at, why: why.into(), absent: false }
    }

    /// docker's sentence, with line from 1 and column from 0 as Go counts them.
    fn error(self, source: &str) -> Error {
        let before = &source.as_bytes()[..self.at.min(source.len())];
        let line = before.iter().filter(|b| **b == b'\n').count() + 1;
        let column = before.iter().rev().take_while(|b| **b != b'\n').count();
        Error::new(format!("template parsing error: template: :{line}:{column}: {}", self.why))
    }
}

/// A template, parsed.
#[derive(Debug)]
pub struct Template {
    source: String,
    nodes: Vec<parse::Node>,
}

impl Template {
    /// Parses; the error names line and column.
    pub fn parse(source: &str) -> Result<Self> {
        let nodes = parse::parse(source).map_err(|fault| fault.error(source))?;
        Ok(Self { source: source.to_owned(), nodes })
    }

    /// The text for one value.
    pub fn render(&self, value: &Value) -> Result<String> {
        run::Run::run(&self.source, &self.nodes, value, None).map_err(|fault| fault.error(&self.source))
    }

    /// A table's first row: each field is replaced by its heading.
    fn headings(&self, headings: &[(&str, &str)]) -> Result<String> {
        run::Run::run(&self.source, &self.nodes, &Value::Null, Some(headings)).map_err(|fault| fault.error(&self.source))
    }

    /// In a list's format `\t` and `\n` outside of actions are a tab and a line's end: shells hand them over as typed.
    fn unescaped(mut self) -> Self {
        fn walk(nodes: &mut [parse::Node]) {
            for node in nodes {
                match node {
                    parse::Node::Text(text) => *text = text.replace("\\t", "\t").replace("\\n", "\n"),
                    parse::Node::Branch { body, otherwise, .. } => {
                        walk(body);
                        walk(otherwise);
                    }
                    _ => {}
                }
            }
        }
        walk(&mut self.nodes);
        self
    }
}

/// The heading of a field: the one given for it, else its name cut into words, `CreatedAt` → `CREATED AT`.
fn heading(headings: &[(&str, &str)], field: &str) -> String {
    if let Some((_, heading)) = headings.iter().find(|(name, _)| *name == field) {
        return (*heading).to_owned();
    }
    let mut out = String::new();
    let mut small = false;
    for c in field.chars() {
        if c.is_uppercase() && small {
            out.push(' ');
        }
        small = c.is_lowercase();
        out.extend(c.to_uppercase());
    }
    out
}

/// What a listing command prints for its rows.
///
/// `format` is the user's: nothing or `table` for `default` (a `table …` template), `json` for one document a line, a
/// template for each row, or `table TEMPLATE` for aligned columns under headings. `headings` names the fields whose
/// heading is not their name in words, such as `("ID", "CONTAINER ID")`.
pub fn list(format: Option<&str>, default: &str, headings: &[(&str, &str)], rows: &[Value]) -> Result<String> {
    let format = match format.map(str::trim) {
        None | Some("" | "table") => default,
        Some("json") => "{{json .}}",
        Some(format) => format,
    };
    let columns = format.strip_prefix("table").filter(|rest| rest.starts_with([' ', '\t', '{', '\\']));
    let template = Template::parse(columns.unwrap_or(format).trim_matches(' '))?.unescaped();
    let mut lines = String::new();
    if columns.is_some() {
        lines = template.headings(headings)? + "\n";
    }
    for row in rows {
        lines.push_str(&template.render(row)?);
        lines.push('\n');
    }
    Ok(if columns.is_some() { table::align(&lines) } else { lines })
}

/// What `inspect` prints: an indented array, the array on one line for `json`, or a line from the template for each.
pub fn inspect(format: Option<&str>, values: &[Value]) -> Result<String> {
    match format {
        None | Some("") => {
            let mut out = Vec::new();
            let indent = serde_json::ser::PrettyFormatter::with_indent(b"    ");
            let mut serializer = serde_json::Serializer::with_formatter(&mut out, indent);
            serde::Serialize::serialize(values, &mut serializer).map_err(|e| Error::new(format!("print a JSON document: {e}")))?;
            Ok(json(String::from_utf8_lossy(&out).into_owned()) + "\n")
        }
        Some("json") => Ok(json(Value::from(values).to_string()) + "\n"),
        Some(format) => {
            let template = Template::parse(format)?;
            values.iter().map(|value| Ok(template.render(value)? + "\n")).collect()
        }
    }
}
