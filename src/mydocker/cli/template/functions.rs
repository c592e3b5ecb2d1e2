//! The functions of a template: Go's own and docker's.

use super::print::{plain, shown, sprintf, type_name};
use crate::mydocker::cli::visible::json;
use serde_json::Value;
use std::cmp::Ordering;

/// Every function with the fewest and the most arguments it takes. `and`, `or` and `not` are the evaluator's.
const FUNCTIONS: [(&str, usize, usize); 23] = [
    ("and", 1, usize::MAX),
    ("or", 1, usize::MAX),
    ("not", 1, 1),
    ("eq", 2, usize::MAX),
    ("ne", 2, 2),
    ("lt", 2, 2),
    ("le", 2, 2),
    ("gt", 2, 2),
    ("ge", 2, 2),
    ("index", 1, usize::MAX),
    ("slice", 1, 3),
    ("len", 1, 1),
    ("print", 0, usize::MAX),
    ("printf", 1, usize::MAX),
    ("println", 0, usize::MAX),
    ("json", 1, 1),
    ("join", 2, 2),
    ("split", 2, 2),
    ("lower", 1, 1),
    ("upper", 1, 1),
    ("title", 1, 1),
    ("pad", 3, 3),
    ("truncate", 2, 2),
];

/// Whether there is such a function.
pub fn is_function(name: &str) -> bool {
    FUNCTIONS.iter().any(|(known, ..)| *known == name)
}

/// Go's truth: what is empty, zero or nothing is false.
pub fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(b) => *b,
        Value::Number(n) => n.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// Calls a function; the error is what is wrong, without the place.
pub fn call(name: &str, args: &[&Value]) -> Result<Value, String> {
    let (_, least, most) = FUNCTIONS.iter().find(|(known, ..)| *known == name).ok_or_else(|| format!("function {name:?} not defined"))?;
    if args.len() < *least || args.len() > *most {
        return Err(format!(
            "wrong number of args for {name}: want {}{least} got {}",
            if most > least { "at least " } else { "" },
            args.len()
        ));
    }
    match name {
        "not" => Ok((!truth(args[0])).into()),
        "eq" => args[1..].iter().try_fold(false, |found, other| Ok(found | equal(args[0], other)?)).map(Value::from),
        "ne" => Ok((!equal(args[0], args[1])?).into()),
        "lt" => Ok(order(args)?.is_lt().into()),
        "le" => Ok(order(args)?.is_le().into()),
        "gt" => Ok(order(args)?.is_gt().into()),
        "ge" => Ok(order(args)?.is_ge().into()),
        "index" => args[1..].iter().try_fold(args[0].clone(), |value, key| index(&value, key)),
        "slice" => slice(args),
        "len" => length(args[0]).map(Value::from),
        "print" => Ok(print(args).into()),
        "printf" => Ok(sprintf(text(args[0])?, &args[1..]).into()),
        "println" => Ok((args.iter().map(|value| plain(value)).collect::<Vec<_>>().join(" ") + "\n").into()),
        "json" => Ok(json(args[0].to_string()).into()),
        "join" => {
            let items = if args[0].is_null() { &[] } else { args[0].as_array().ok_or_else(|| wrong(args[0], "a list"))?.as_slice() };
            Ok(items.iter().map(shown).collect::<Vec<_>>().join(text(args[1])?).into())
        }
        "split" => Ok(match (text(args[0])?, text(args[1])?) {
            (whole, "") => whole.chars().map(|c| Value::from(c.to_string())).collect(),
            (whole, separator) => whole.split(separator).map(Value::from).collect(),
        }),
        "lower" => Ok(text(args[0])?.to_lowercase().into()),
        "upper" => Ok(text(args[0])?.to_uppercase().into()),
        "title" => Ok(title(text(args[0])?).into()),
        "pad" => {
            let (source, spaces) = (text(args[0])?, |n: usize| " ".repeat(n.min(10_000)));
            Ok(if source.is_empty() { "".into() } else { (spaces(number(args[1])?) + source + &spaces(number(args[2])?)).into() })
        }
        "truncate" => Ok(text(args[0])?.chars().take(number(args[1])?).collect::<String>().into()),
        _ => Err(format!("function {name:?} not defined")),
    }
}

fn wrong(value: &Value, wanted: &str) -> String {
    format!("wrong type for value; expected {wanted}; got {}", type_name(value))
}

fn text(value: &Value) -> Result<&str, String> {
    value.as_str().ok_or_else(|| wrong(value, "string"))
}

fn number(value: &Value) -> Result<usize, String> {
    value.as_u64().and_then(|n| usize::try_from(n).ok()).ok_or_else(|| wrong(value, "a number from 0"))
}

fn equal(a: &Value, b: &Value) -> Result<bool, String> {
    match (a, b) {
        (Value::Number(_), Value::Number(_)) => order(&[a, b]).map(Ordering::is_eq),
        (Value::Null, _) | (_, Value::Null) => Ok(a == b),
        _ if std::mem::discriminant(a) == std::mem::discriminant(b) => Ok(a == b),
        _ => Err("incompatible types for comparison".into()),
    }
}

fn order(args: &[&Value]) -> Result<Ordering, String> {
    let incompatible = || "incompatible types for comparison".to_owned();
    match (args[0], args[1]) {
        (Value::String(a), Value::String(b)) => Ok(a.cmp(b)),
        (Value::Number(a), Value::Number(b)) => match (a.as_i64(), b.as_i64()) {
            (Some(a), Some(b)) => Ok(a.cmp(&b)),
            _ => a.as_f64().partial_cmp(&b.as_f64()).ok_or_else(incompatible),
        },
        _ => Err(incompatible()),
    }
}

fn index(value: &Value, key: &Value) -> Result<Value, String> {
    match value {
        Value::Array(items) => {
            let at = key.as_i64().ok_or_else(|| format!("cannot index slice/array with type {}", type_name(key)))?;
            let found = usize::try_from(at).ok().and_then(|at| items.get(at));
            found.cloned().ok_or_else(|| format!("index out of range: {at}"))
        }
        Value::Object(map) => {
            let found = map.get(text(key)?).cloned();
            // Of a map of strings, such as labels, Go's value for a missing key is the empty string.
            Ok(found.unwrap_or_else(|| if map.values().all(Value::is_string) { "".into() } else { Value::Null }))
        }
        Value::Null => Err("index of untyped nil".into()),
        other => Err(format!("can't index item of type {}", type_name(other))),
    }
}

fn slice(args: &[&Value]) -> Result<Value, String> {
    let length = length(args[0])?;
    let (from, to) = (args.get(1).map_or(Ok(0), |n| number(n))?, args.get(2).map_or(Ok(length), |n| number(n))?);
    if from > to || to > length {
        return Err(format!("index out of range: {from}:{to} of {length}"));
    }
    match args[0] {
        Value::String(text) => text.get(from..to).map(Value::from).ok_or_else(|| format!("{from}:{to} cuts a character")),
        Value::Array(items) => Ok(items[from..to].to_vec().into()),
        other => Err(format!("can't slice item of type {}", type_name(other))),
    }
}

fn length(value: &Value) -> Result<usize, String> {
    match value {
        // Where docker has an empty list or map, JSON often says null.
        Value::Null => Ok(0),
        Value::String(text) => Ok(text.len()),
        Value::Array(items) => Ok(items.len()),
        Value::Object(map) => Ok(map.len()),
        other => Err(format!("len of type {}", type_name(other))),
    }
}

/// Go's `Sprint`: a space between two values of which neither is a string.
fn print(args: &[&Value]) -> String {
    let mut out = String::new();
    for (i, value) in args.iter().enumerate() {
        if i > 0 && !value.is_string() && !args[i - 1].is_string() {
            out.push(' ');
        }
        out.push_str(&plain(value));
    }
    out
}

/// The first letter of each word in upper case.
fn title(text: &str) -> String {
    let mut inside = false;
    let mut out = String::new();
    for c in text.chars() {
        if inside {
            out.push(c)
        } else {
            out.extend(c.to_uppercase())
        }
        inside = c.is_alphanumeric() || c == '_' || c == '\'';
    }
    out
}
