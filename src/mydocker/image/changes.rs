//! The instructions that `commit -c` and `import -c` take, each a line of a Dockerfile, applied to the configuration of an image.

use crate::sys::{Error, Result};
use serde_json::{Map, Value, json};

/// Applies the instructions one after the other to the member `config` of an image's configuration; on an error nothing is changed.
pub fn apply(config: &mut Map<String, Value>, changes: &[String]) -> Result<()> {
    let mut inner = config.get("config").and_then(Value::as_object).cloned().unwrap_or_default();
    for change in changes {
        one(&mut inner, change).map_err(|e| e.within(format!("change {change:?}")))?;
    }
    config.insert("config".to_owned(), Value::Object(inner));
    Ok(())
}

fn one(config: &mut Map<String, Value>, change: &str) -> Result<()> {
    let (instruction, rest) = change.trim().split_once(char::is_whitespace).unwrap_or((change.trim(), ""));
    let rest = rest.trim();
    if rest.is_empty() {
        return Err(Error::new("an instruction and its arguments are expected: CMD [\"sh\"]"));
    }
    match instruction.to_ascii_uppercase().as_str() {
        "CMD" => set(config, "Cmd", json!(command(rest)?)),
        "ENTRYPOINT" => {
            set(config, "Entrypoint", json!(command(rest)?));
            // Its arguments were those of the old one, as `docker build` has it.
            config.remove("Cmd");
        }
        "ENV" => pairs(rest)?.into_iter().for_each(|(key, value)| set_variable(config, &key, &value)),
        "LABEL" => pairs(rest)?.into_iter().for_each(|(key, value)| drop(map(config, "Labels").insert(key, json!(value)))),
        "EXPOSE" => {
            for port in words(rest)? {
                let port = port_of(&port)?;
                map(config, "ExposedPorts").insert(port, json!({}));
            }
        }
        "VOLUME" => {
            let all = if rest.starts_with('[') { list(rest)? } else { words(rest)? };
            for volume in all {
                map(config, "Volumes").insert(volume, json!({}));
            }
        }
        "USER" => set(config, "User", json!(rest)),
        "WORKDIR" => {
            let old = config.get("WorkingDir").and_then(Value::as_str).filter(|old| !old.is_empty()).unwrap_or("/");
            let new = std::path::Path::new(old).join(rest);
            set(config, "WorkingDir", json!(new.to_string_lossy()));
        }
        "STOPSIGNAL" => set(config, "StopSignal", json!(rest)),
        "ONBUILD" => match config.entry("OnBuild").or_insert_with(|| json!([])) {
            Value::Array(triggers) => triggers.push(json!(rest)),
            other => *other = json!([rest]),
        },
        "HEALTHCHECK" => set(config, "Healthcheck", health(rest)?),
        _ => {
            return Err(Error::new(format!("there is no instruction {instruction}"))
                .hint("CMD ENTRYPOINT ENV EXPOSE HEALTHCHECK LABEL ONBUILD STOPSIGNAL USER VOLUME WORKDIR"));
        }
    }
    Ok(())
}

fn set(config: &mut Map<String, Value>, key: &str, value: Value) {
    config.insert(key.to_owned(), value);
}

fn map<'a>(config: &'a mut Map<String, Value>, key: &str) -> &'a mut Map<String, Value> {
    let slot = config.entry(key).or_insert_with(|| json!({}));
    if !slot.is_object() {
        *slot = json!({}); // null, as Go writes an empty one
    }
    slot.as_object_mut().expect("it was just made an object")
}

fn set_variable(config: &mut Map<String, Value>, key: &str, value: &str) {
    let mut all: Vec<Value> = config.get("Env").and_then(Value::as_array).cloned().unwrap_or_default();
    let new = json!(format!("{key}={value}"));
    let old = all.iter_mut().find(|old| old.as_str().is_some_and(|old| old.split('=').next() == Some(key)));
    match old {
        Some(old) => *old = new,
        None => all.push(new),
    }
    set(config, "Env", Value::Array(all));
}

/// The exec form is a list of JSON; anything else is for the shell.
fn command(text: &str) -> Result<Vec<String>> {
    if text.starts_with('[') {
        return list(text);
    }
    Ok(["/bin/sh", "-c", text].map(str::to_owned).to_vec())
}

fn list(text: &str) -> Result<Vec<String>> {
    serde_json::from_str(text).map_err(|_| Error::new(format!("{text} is not a list of JSON strings: [\"sh\", \"-c\", \"…\"]")))
}

/// `KEY=VALUE …` with quotes as in a shell, or the old form `KEY VALUE`.
fn pairs(text: &str) -> Result<Vec<(String, String)>> {
    let all = words(text)?;
    if all.first().is_some_and(|first| !first.contains('=')) {
        let (key, value) = text.split_once(char::is_whitespace).ok_or_else(|| Error::new("KEY=VALUE is expected"))?;
        return Ok(vec![(key.to_owned(), value.trim().to_owned())]);
    }
    let pair = |word: String| match word.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(Error::new(format!("KEY=VALUE is expected instead of {word:?}"))),
    };
    all.into_iter().map(pair).collect()
}

/// Words as a shell splits them: blanks, single and double quotes, backslashes.
fn words(text: &str) -> Result<Vec<String>> {
    let (mut all, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\\', None | Some('"')) => word.get_or_insert_default().extend(chars.next()),
            (c, Some(open)) if c == open => quote = None,
            ('"' | '\'', None) => {
                word.get_or_insert_default();
                quote = Some(c);
            }
            (c, None) if c.is_whitespace() => all.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err(Error::new("a quote is not closed"));
    }
    all.extend(word);
    Ok(all)
}

/// `80`, `80/udp`, `8000-8010/tcp`.
fn port_of(text: &str) -> Result<String> {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    match (first.parse::<u16>(), last.parse::<u16>()) {
        (Ok(first), Ok(last)) if 0 < first && first <= last && matches!(protocol, "tcp" | "udp" | "sctp") => {
            Ok(format!("{ports}/{protocol}"))
        }
        _ => Err(Error::new(format!("{text:?} is not a port")).hint("80, 53/udp, 8000-8010/tcp")),
    }
}

/// `NONE`, or `[--interval=…] [--timeout=…] [--start-period=…] [--retries=N] CMD …`; durations are kept in nanoseconds.
fn health(text: &str) -> Result<Value> {
    if text.eq_ignore_ascii_case("none") {
        return Ok(json!({"Test": ["NONE"]}));
    }
    let (mut check, mut rest) = (Map::new(), text);
    while let Some(option) = rest.strip_prefix("--") {
        let (option, after) = option.split_once(char::is_whitespace).ok_or_else(|| Error::new("CMD is expected"))?;
        let (name, value) = option.split_once('=').ok_or_else(|| Error::new(format!("--{option} needs a value")))?;
        let (key, value) = match name {
            "interval" => ("Interval", json!(nanoseconds(value)?)),
            "timeout" => ("Timeout", json!(nanoseconds(value)?)),
            "start-period" => ("StartPeriod", json!(nanoseconds(value)?)),
            "start-interval" => ("StartInterval", json!(nanoseconds(value)?)),
            "retries" => {
                let number = value.parse::<u32>().map_err(|_| Error::new(format!("--retries={value} is not a number")))?;
                ("Retries", json!(number))
            }
            _ => return Err(Error::new(format!("there is no --{name}"))),
        };
        set(&mut check, key, value);
        rest = after.trim_start();
    }
    let Some(command) = rest.strip_prefix("CMD ").map(str::trim) else { return Err(Error::new("CMD is expected")) };
    let test = if command.starts_with('[') {
        [vec!["CMD".to_owned()], list(command)?].concat()
    } else {
        vec!["CMD-SHELL".to_owned(), command.to_owned()]
    };
    set(&mut check, "Test", json!(test));
    Ok(Value::Object(check))
}

/// A duration as Go writes it: `1m30s`, `500ms`.
fn nanoseconds(text: &str) -> Result<u64> {
    let bad = || Error::new(format!("{text:?} is not a duration")).hint("1m30s, 500ms");
    let (mut sum, mut rest) = (0_f64, text);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
        let number: f64 = rest[..digits].parse().map_err(|_| bad())?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let scale = match &rest[..unit] {
            "h" => 3.6e12,
            "m" => 6e10,
            "s" => 1e9,
            "ms" => 1e6,
            "us" | "µs" => 1e3,
            "ns" => 1.0,
            _ => return Err(bad()),
        };
        sum += number * scale;
        rest = &rest[unit..];
    }
    if text.is_empty() { Err(bad()) } else { Ok(sum as u64) }
}
