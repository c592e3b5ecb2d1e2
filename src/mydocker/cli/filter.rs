//! `--filter key=value` of the listing commands.

use crate::sys::{Error, Result};
use std::collections::BTreeMap;

/// The filters of one command: values of the same key are alternatives, different keys must all hold.
#[derive(Clone, Debug, Default)]
pub struct Filters(BTreeMap<String, Vec<String>>);

impl Filters {
    /// Reads the flags. A key that is not in `known` is refused; so is a `name` that no name can contain, because docker
    /// would take it as a regular expression, of which only `^` and `$` at the ends are understood here.
    pub fn parse(given: &[String], known: &[&str]) -> Result<Self> {
        let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for text in given {
            let (key, value) = text.split_once('=').ok_or_else(|| Error::new(format!("invalid filter {text:?}: it is not name=value")))?;
            let (key, value) = (key.trim().to_ascii_lowercase(), value.trim());
            if !known.contains(&key.as_str()) {
                return Err(Error::new(format!("invalid filter '{key}'")).hint(format!("one of {}", known.join(", "))));
            }
            let plain = |b: u8| b.is_ascii_alphanumeric() || b"_.-/:".contains(&b);
            if key == "name" && !value.trim_start_matches('^').trim_end_matches('$').bytes().all(plain) {
                return Err(Error::new(format!("invalid filter 'name={value}'")).hint("a part of the name, with ^ and $ for its ends"));
            }
            all.entry(key).or_default().push(value.to_owned());
        }
        Ok(Self(all))
    }

    /// The values given for a key.
    pub fn get(&self, key: &str) -> &[String] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }

    /// Whether there are no filters.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of the key's values passes the test; true if there are none.
    pub fn any(&self, key: &str, test: impl Fn(&str) -> bool) -> bool {
        let values = self.get(key);
        values.is_empty() || values.iter().any(|value| test(value))
    }

    /// Whether a key's value is exactly `actual`, as for `status`, `exited`, `driver`.
    pub fn is(&self, key: &str, actual: &str) -> bool {
        self.any(key, |value| value == actual)
    }

    /// Whether the id begins with one of the values of `id`.
    pub fn id(&self, id: &str) -> bool {
        self.any("id", |value| id.starts_with(value))
    }

    /// Whether the name contains one of the values of `name`; `^` and `$` tie a value to the name's ends. docker's names
    /// begin with a slash for its API, so `^/web$` is `^web$`.
    pub fn name(&self, name: &str) -> bool {
        self.any("name", |value| {
            let (from_start, value) = value.strip_prefix('^').map_or((false, value), |rest| (true, rest));
            let (to_end, value) = value.strip_suffix('$').map_or((false, value), |rest| (true, rest));
            let (from_start, value) = value.strip_prefix('/').map_or((from_start, value), |rest| (true, rest));
            match (from_start, to_end) {
                (true, true) => name == value,
                (true, false) => name.starts_with(value),
                (false, true) => name.ends_with(value),
                (false, false) => name.contains(value),
            }
        })
    }

    /// Whether the labels satisfy every `label=key`, `label=key=value` and none of the same with `label!`. Unlike other
    /// keys, docker wants all of several labels.
    pub fn labels(&self, labels: &BTreeMap<String, String>) -> bool {
        let has = |wanted: &String| match wanted.split_once('=') {
            Some((key, value)) => labels.get(key).is_some_and(|actual| actual == value),
            None => labels.contains_key(wanted),
        };
        self.get("label").iter().all(has) && !self.get("label!").iter().any(has)
    }

    /// A key that is true or false, as `dangling`; `None` if it is not given.
    pub fn flag(&self, key: &str) -> Result<Option<bool>> {
        let mut said = None;
        for value in self.get(key) {
            let new = match value.as_str() {
                "1" | "t" | "T" | "true" | "True" | "TRUE" => true,
                "0" | "f" | "F" | "false" | "False" | "FALSE" => false,
                _ => return Err(Error::new(format!("invalid filter '{key}={value}'")).hint("true or false")),
            };
            if said.is_some_and(|old| old != new) {
                return Err(Error::new(format!("invalid filter '{key}': both true and false")));
            }
            said = Some(new);
        }
        Ok(said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters(given: &[&str]) -> Result<Filters> {
        let given: Vec<String> = given.iter().map(|&text| text.to_owned()).collect();
        Filters::parse(&given, &["name", "label", "label!", "status", "id", "dangling"])
    }

    #[test]
    fn same_key_is_or_and_different_keys_are_and() {
        let both = filters(&["status=running", "status=paused", "name=we"]).unwrap();
        let holds = |status, name| both.is("status", status) && both.name(name) && both.id("beef");
        assert!(holds("running", "web") && holds("paused", "tweed"));
        assert!(!holds("exited", "web") && !holds("running", "db"));
        assert!(filters(&[]).unwrap().name("anything") && filters(&[]).unwrap().is_empty());
    }

    #[test]
    fn names_have_ends() {
        for (value, name, holds) in [
            ("^web$", "web", true),
            ("^web$", "web2", false),
            ("^/web$", "web", true),
            ("^we", "web", true),
            ("eb$", "web", true),
            ("^eb", "web", false),
            ("/eb", "web", false),
        ] {
            assert_eq!(filters(&[&format!("name={value}")]).unwrap().name(name), holds, "{value} {name}");
        }
    }

    #[test]
    fn labels_must_all_hold() {
        let labels = BTreeMap::from([("a".to_owned(), "1".to_owned()), ("b".to_owned(), String::new())]);
        for (given, holds) in [
            (&["label=a"][..], true),
            (&["label=a=1", "label=b"], true),
            (&["label=a=2"], false),
            (&["label=a", "label=c"], false),
            (&["label!=a"], false),
            (&["label!=c"], true),
        ] {
            assert_eq!(filters(given).unwrap().labels(&labels), holds, "{given:?}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        assert!(filters(&["colour=red"]).unwrap_err().to_string().starts_with("invalid filter 'colour'"));
        assert!(filters(&["status"]).is_err());
        assert!(filters(&["name=we.*b|x"]).is_err());
        assert_eq!(filters(&["dangling=1"]).unwrap().flag("dangling").unwrap(), Some(true));
        assert!(filters(&["dangling=maybe"]).unwrap().flag("dangling").is_err());
        assert!(filters(&["dangling=0", "dangling=1"]).unwrap().flag("dangling").is_err());
    }
}
