//! Room `spec`: documents are read as runc and the spec say, and refused in one sentence that names the place.

mod documents;
mod load;
mod options;
mod oracle;
mod process;
#[path = "../common/skip.rs"]
mod skip;
mod validate;

use keel::spec::{Spec, parse, sample, validate};
use serde_json::{Value, json};

/// A document that validates without a word; the cases below change one value of it.
fn base() -> Value {
    serde_json::from_str(&sample(None, false)).unwrap()
}

/// The document with the value at a JSON pointer replaced or added.
fn with(mut document: Value, pointer: &str, value: Value) -> Value {
    let mut at = &mut document;
    for key in pointer.split('/').skip(1) {
        at = match at {
            Value::Array(list) => {
                let i: usize = key.parse().unwrap();
                if i == list.len() {
                    list.push(Value::Null);
                }
                &mut list[i]
            }
            other => {
                if other.is_null() {
                    *other = json!({});
                }
                &mut other[key]
            }
        };
    }
    *at = value;
    document
}

fn spec(document: &Value) -> Spec {
    parse(document.to_string().as_bytes()).unwrap().spec
}

/// The words of the refusal, or the warnings, one a line.
fn verdict(document: &Value) -> Result<String, String> {
    validate(&spec(document)).map(|warnings| warnings.join("\n")).map_err(|e| e.to_string())
}

/// Each row: where, what, and what the refusal must say, in full.
fn refused(rows: &[(&str, Value, &str)]) {
    for (pointer, value, words) in rows {
        assert_eq!(verdict(&with(base(), pointer, value.clone())), Err((*words).to_owned()), "{pointer} = {value}");
    }
}

/// Each row: where, what, and what the warning must say ("" for none).
fn accepted(rows: &[(&str, Value, &str)]) {
    for (pointer, value, words) in rows {
        assert_eq!(verdict(&with(base(), pointer, value.clone())), Ok((*words).to_owned()), "{pointer} = {value}");
    }
}

/// JSON pointers to every value of a document but itself.
fn pointers(document: &Value) -> Vec<String> {
    let below = |key: String, value: &Value| {
        let deeper = pointers(value).into_iter().map(|rest| format!("/{key}{rest}")).collect::<Vec<_>>();
        std::iter::once(format!("/{key}")).chain(deeper).collect::<Vec<_>>()
    };
    match document {
        Value::Array(list) => list.iter().enumerate().flat_map(|(i, v)| below(i.to_string(), v)).collect(),
        Value::Object(map) => map.iter().flat_map(|(k, v)| below(k.clone(), v)).collect(),
        _ => Vec::new(),
    }
}
