//! Runs a template over one value.

use super::functions::{call, truth};
use super::parse::{Base, Branch, Node, Operand, Pipeline};
use super::print::{shown, type_name};
use super::{Fault, heading};
use crate::mydocker::cli::visible::visible;
use serde_json::{Map, Value};
use std::borrow::Cow;

type Val<'a> = Cow<'a, Value>;

/// What a node did to the loop around it.
#[derive(PartialEq, Eq)]
enum Flow {
    On,
    Break,
    Continue,
}

/// One run.
pub struct Run<'a> {
    source: &'a str,
    root: &'a Value,
    variables: Vec<(&'a str, Val<'a>)>,
    /// For a table's first row, where each field is its own heading.
    headings: Option<&'a [(&'a str, &'a str)]>,
    out: String,
}

impl<'a> Run<'a> {
    /// The text of `nodes` for `root`.
    pub fn run(source: &'a str, nodes: &'a [Node], root: &'a Value, headings: Option<&'a [(&'a str, &'a str)]>) -> Result<String, Fault> {
        let mut run = Self { source, root, variables: Vec::new(), headings, out: String::new() };
        run.nodes(nodes, &Cow::Borrowed(root))?;
        Ok(run.out)
    }

    fn nodes(&mut self, nodes: &'a [Node], dot: &Val<'a>) -> Result<Flow, Fault> {
        let scope = self.variables.len();
        for node in nodes {
            let flow = match node {
                Node::Text(text) => {
                    self.out.push_str(text);
                    Flow::On
                }
                Node::Print(pipeline) => {
                    let value = self.pipeline(pipeline, dot)?;
                    if pipeline.variables.is_empty() {
                        let text = shown(&value);
                        self.out.push_str(&if composes(pipeline) { text.into() } else { visible(&text) });
                    }
                    self.declare(pipeline, value)?;
                    Flow::On
                }
                Node::Branch { branch, on, body, otherwise } => self.branch(*branch, on, body, otherwise, dot)?,
                Node::Break => Flow::Break,
                Node::Continue => Flow::Continue,
            };
            if flow != Flow::On {
                self.variables.truncate(scope);
                return Ok(flow);
            }
        }
        self.variables.truncate(scope);
        Ok(Flow::On)
    }

    fn branch(&mut self, branch: Branch, on: &'a Pipeline, body: &'a [Node], otherwise: &'a [Node], dot: &Val<'a>) -> Result<Flow, Fault> {
        let scope = self.variables.len();
        // A condition may ask for what is not there.
        let value = absent_is_null(self.pipeline(on, dot))?;
        let flow = match branch {
            Branch::Range => {
                let items = self.items(on, value)?;
                if items.is_empty() { self.nodes(otherwise, dot)? } else { self.range(on, body, items)? }
            }
            Branch::If | Branch::With => {
                let (holds, inner) = (truth(&value), if branch == Branch::With { value.clone() } else { dot.clone() });
                self.declare(on, value)?;
                if holds { self.nodes(body, &inner)? } else { self.nodes(otherwise, dot)? }
            }
        };
        self.variables.truncate(scope);
        Ok(flow)
    }

    fn range(&mut self, on: &'a Pipeline, body: &'a [Node], items: Vec<(Value, Val<'a>)>) -> Result<Flow, Fault> {
        let scope = self.variables.len();
        for (key, item) in items {
            match on.variables.as_slice() {
                [name] => self.set(on, name, item.clone())?,
                [first, second] => {
                    self.set(on, first, Cow::Owned(key))?;
                    self.set(on, second, item.clone())?;
                }
                _ => {}
            }
            let flow = self.nodes(body, &item)?;
            self.variables.truncate(scope);
            if flow == Flow::Break {
                break;
            }
        }
        Ok(Flow::On)
    }

    /// What a range goes over: elements with their index, entries by sorted key, or the numbers below a number.
    fn items(&self, on: &Pipeline, value: Val<'a>) -> Result<Vec<(Value, Val<'a>)>, Fault> {
        let numbered = |(i, item): (usize, Val<'a>)| (Value::from(i), item);
        if self.headings.is_some() {
            return Ok(vec![(Value::from(0), value)]);
        }
        Ok(match value {
            Cow::Borrowed(Value::Array(items)) => items.iter().map(Cow::Borrowed).enumerate().map(numbered).collect(),
            Cow::Owned(Value::Array(items)) => items.into_iter().map(Cow::Owned).enumerate().map(numbered).collect(),
            Cow::Borrowed(Value::Object(map)) => sorted(map.iter().map(|(k, v)| (k.as_str().into(), Cow::Borrowed(v))).collect()),
            Cow::Owned(Value::Object(map)) => sorted(map.into_iter().map(|(k, v)| (k.into(), Cow::Owned(v))).collect()),
            value => match (&*value, value.as_u64()) {
                (Value::Null, _) => Vec::new(),
                (_, Some(n)) if n <= 1_000_000 => (0..n).map(|i| (i.into(), Cow::Owned(i.into()))).collect(),
                (other, _) => return Err(Fault::at(on.at, format!("range can't iterate over {}", shown(other)))),
            },
        })
    }

    fn declare(&mut self, pipeline: &'a Pipeline, value: Val<'a>) -> Result<(), Fault> {
        match pipeline.variables.as_slice() {
            [] => Ok(()),
            [name] => self.set(pipeline, name, value),
            _ => Err(Fault::at(pipeline.at, "two variables are for range only")),
        }
    }

    fn set(&mut self, pipeline: &Pipeline, name: &'a str, value: Val<'a>) -> Result<(), Fault> {
        if !pipeline.assigns {
            self.variables.push((name, value));
            return Ok(());
        }
        let found = self.variables.iter_mut().rev().find(|(known, _)| *known == name);
        found.ok_or_else(|| undefined(pipeline.at, name))?.1 = value;
        Ok(())
    }

    fn pipeline(&self, pipeline: &'a Pipeline, dot: &Val<'a>) -> Result<Val<'a>, Fault> {
        let mut last = None;
        for command in &pipeline.commands {
            last = Some(self.command(command, dot, last)?);
        }
        Ok(last.unwrap_or(Cow::Owned(Value::Null)))
    }

    fn command(&self, command: &'a [Operand], dot: &Val<'a>, last: Option<Val<'a>>) -> Result<Val<'a>, Fault> {
        let (first, given) = (&command[0], &command[1..]);
        if let Base::Function(name) = &first.base {
            return self.function(first, name, given, dot, last);
        }
        if given.is_empty() && last.is_none() {
            return self.operand(first, dot);
        }
        let [.., name] = first.fields.as_slice() else { return Err(self.fault(first, "can't give argument to non-function")) };
        let key = match (given.first(), last) {
            (Some(operand), None) if given.len() == 1 => self.operand(operand, dot)?,
            (None, Some(last)) => last,
            _ => return Err(self.fault(first, format!("wrong number of args for {name}"))),
        };
        // docker's one method: `{{.Label "key"}}`.
        match key.as_str() {
            Some(key) if name == "Label" => self.label(first, key, dot),
            _ => Err(self.fault(first, format!("{name} has arguments but cannot be invoked as function"))),
        }
    }

    /// One label of the row, whether its labels are a map or docker's `a=1,b=2`.
    fn label(&self, operand: &'a Operand, key: &str, dot: &Val<'a>) -> Result<Val<'a>, Fault> {
        if self.headings.is_some() {
            let last = key.rsplit('.').next().unwrap_or(key);
            return Ok(Cow::Owned(last.replace(['-', '_'], " ").to_uppercase().into()));
        }
        let path = operand.fields.split_last().map_or(&[][..], |(_, path)| path);
        let row = path.iter().try_fold(self.base(operand, dot)?, |value, name| self.field(value, name, operand))?;
        let found = match row.get("Labels") {
            Some(Value::Object(map)) => map.get(key).cloned(),
            Some(Value::String(text)) => text.split(',').find_map(|pair| Some(pair.strip_prefix(key)?.strip_prefix('=')?.into())),
            _ => None,
        };
        Ok(Cow::Owned(found.unwrap_or_else(|| "".into())))
    }

    fn function(&self, at: &'a Operand, name: &str, given: &'a [Operand], dot: &Val<'a>, last: Option<Val<'a>>) -> Result<Val<'a>, Fault> {
        if name == "and" || name == "or" {
            // The first that decides; the others are not looked at.
            let rest = given.iter().map(|operand| absent_is_null(self.operand(operand, dot))).chain(last.map(Ok));
            let mut rest = rest.peekable();
            while let Some(value) = rest.next() {
                let value = value?;
                if truth(&value) == (name == "or") || rest.peek().is_none() {
                    return Ok(value);
                }
            }
            return Err(self.fault(at, format!("wrong number of args for {name}: want at least 1 got 0")));
        }
        let mut args = Vec::with_capacity(given.len() + 1);
        for operand in given {
            let value = self.operand(operand, dot);
            args.push(if name == "not" { absent_is_null(value)? } else { value? });
        }
        args.extend(last);
        if ["print", "println", "join"].contains(&name) {
            // Lines and separators that are to stand in the text are the template's own words.
            let literals = given.iter().map(|operand| matches!(operand.base, Base::Literal(_))).chain(std::iter::repeat(false));
            args.iter_mut().zip(literals).filter(|(_, literal)| !literal).for_each(|(value, _)| *value = harmless(value));
        }
        let changes_headings = ["printf", "print", "println", "eq", "ne", "not"].contains(&name);
        if self.headings.is_some() && !changes_headings && !args.is_empty() {
            return Ok(args.swap_remove(0));
        }
        let args: Vec<&Value> = args.iter().map(|value| &**value).collect();
        call(name, &args).map(Cow::Owned).map_err(|why| self.fault(at, format!("error calling {name}: {why}")))
    }

    fn operand(&self, operand: &'a Operand, dot: &Val<'a>) -> Result<Val<'a>, Fault> {
        if let Base::Function(name) = &operand.base {
            return self.function(operand, name, &[], dot, None);
        }
        operand.fields.iter().try_fold(self.base(operand, dot)?, |value, name| self.field(value, name, operand))
    }

    fn base(&self, operand: &'a Operand, dot: &Val<'a>) -> Result<Val<'a>, Fault> {
        match &operand.base {
            Base::Dot => Ok(dot.clone()),
            Base::Variable(name) if name == "$" => Ok(Cow::Borrowed(self.root)),
            Base::Variable(name) => {
                let found = self.variables.iter().rev().find(|(known, _)| known == name);
                found.map(|(_, value)| value.clone()).ok_or_else(|| undefined(operand.at, name))
            }
            Base::Literal(value) => Ok(Cow::Borrowed(value)),
            Base::Group(pipeline) => self.pipeline(pipeline, dot),
            Base::Function(name) => self.function(operand, name, &[], dot, None),
        }
    }

    fn field(&self, value: Val<'a>, name: &str, operand: &Operand) -> Result<Val<'a>, Fault> {
        if let Some(headings) = self.headings {
            return Ok(Cow::Owned(heading(headings, name).into()));
        }
        let absent = |why: String| Fault { absent: true, ..self.fault(operand, why) };
        let found = match value {
            Cow::Borrowed(Value::Object(map)) => map.get(name).map(Cow::Borrowed),
            Cow::Owned(Value::Object(ref map)) => map.get(name).cloned().map(Cow::Owned),
            ref value if value.is_null() => return Err(absent(format!("nil data; no entry for key {name:?}"))),
            ref other => return Err(self.fault(operand, format!("can't evaluate field {name} in type {}", type_name(other)))),
        };
        match (found, &*value) {
            (Some(found), _) => Ok(found),
            (None, Value::Object(map)) if is_map(map) => Ok(Cow::Owned(Value::Null)),
            _ => Err(absent(format!("map has no entry for key {name:?}"))),
        }
    }

    fn fault(&self, operand: &Operand, why: impl std::fmt::Display) -> Fault {
        let text = self.source.get(operand.at..operand.end).unwrap_or_default();
        Fault::at(operand.at, format!("executing \"\" at <{text}>: {why}"))
    }
}

/// Whether the text of a pipeline was put together by a function that has seen to what it was given, or is the template's own.
fn composes(pipeline: &Pipeline) -> bool {
    let Some([first, rest @ ..]) = pipeline.commands.last().map(Vec::as_slice) else { return false };
    match &first.base {
        Base::Function(name) => ["print", "println", "printf", "join", "json"].contains(&name.as_str()),
        Base::Literal(_) => true,
        Base::Group(inner) => rest.is_empty() && first.fields.is_empty() && composes(inner),
        _ => false,
    }
}

/// The value with all its texts as they may be shown.
fn harmless<'a>(value: &Value) -> Val<'a> {
    Cow::Owned(match value {
        Value::String(text) => visible(text).into(),
        Value::Array(items) => items.iter().map(|item| harmless(item).into_owned()).collect(),
        Value::Object(map) => map.iter().map(|(key, item)| (visible(key).into_owned(), harmless(item).into_owned())).collect(),
        other => other.clone(),
    })
}

fn undefined(at: usize, name: &str) -> Fault {
    Fault::at(at, format!("undefined variable {name:?}"))
}

fn absent_is_null(value: Result<Val<'_>, Fault>) -> Result<Val<'_>, Fault> {
    match value {
        Err(fault) if fault.absent => Ok(Cow::Owned(Value::Null)),
        other => other,
    }
}

/// Whether an object is a map of the user's keys, where a missing one prints `<no value>`, rather than a record, where it
/// is a mistake: Go's records have only exported fields, which begin with a capital letter.
fn is_map(map: &Map<String, Value>) -> bool {
    map.is_empty() || map.keys().any(|key| !key.starts_with(|c: char| c.is_ascii_uppercase()))
}

fn sorted<'a>(mut entries: Vec<(Value, Val<'a>)>) -> Vec<(Value, Val<'a>)> {
    entries.sort_by(|(a, _), (b, _)| a.as_str().cmp(&b.as_str()));
    entries
}
