//! A seccomp profile of the user's, in the form of the runtime specification or in docker's, of which its own `default.json` is:
//! `archMap` for `architectures`, one `name` for `names`, and rules that hold only under conditions (`includes`, `excludes`). What
//! docker's daemon would make of it for a container is made here.

use crate::mydocker::image::architecture;
use crate::spec::Seccomp;
use crate::sys::{Error, Result};
use serde::Deserialize;
use serde_json::Value;

/// The members of a profile that the specification does not know.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Docker {
    architectures: Option<Vec<String>>,
    arch_map: Option<Vec<Architecture>>,
    syscalls: Vec<Rule>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Architecture {
    architecture: String,
    sub_architectures: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Rule {
    name: String,
    names: Option<Vec<String>>,
    includes: Option<Conditions>,
    excludes: Option<Conditions>,
}

/// An unknown condition must not be taken for one that holds.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct Conditions {
    caps: Option<Vec<String>>,
    arches: Option<Vec<String>>,
    min_kernel: Option<String>,
}

/// What the conditions are about.
struct Here<'a> {
    capabilities: &'a [String],
    /// As Go names it.
    arch: &'a str,
    kernel: (u64, u64),
}

impl Here<'_> {
    fn is_at_least(&self, version: &str) -> std::result::Result<bool, String> {
        let wanted = kernel(version).ok_or_else(|| format!("invalid minKernel {version:?}: expected x.y"))?;
        Ok(self.kernel >= wanted)
    }

    /// All that a rule includes must be so: every capability, one of the architectures, the kernel.
    fn includes(&self, conditions: &Conditions) -> std::result::Result<bool, String> {
        let has = |cap: &String| self.capabilities.contains(cap);
        let kernel = conditions.min_kernel.as_deref().map_or(Ok(true), |version| self.is_at_least(version))?;
        let arches = conditions.arches.as_ref().filter(|arches| !arches.is_empty());
        let arch = arches.is_none_or(|arches| arches.iter().any(|arch| arch == self.arch));
        Ok(kernel && arch && conditions.caps.iter().flatten().all(has))
    }

    /// Anything that it excludes takes it away.
    fn excludes(&self, conditions: &Conditions) -> std::result::Result<bool, String> {
        let has = |cap: &String| self.capabilities.contains(cap);
        let kernel = conditions.min_kernel.as_deref().map_or(Ok(false), |version| self.is_at_least(version))?;
        let arch = conditions.arches.iter().flatten().any(|arch| arch == self.arch);
        Ok(kernel || arch || conditions.caps.iter().flatten().any(has))
    }
}

/// `4.8`, or what uname(2) says.
fn kernel(text: &str) -> Option<(u64, u64)> {
    let (major, rest) = text.split_once('.')?;
    let minor: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// The filter for a container with these capabilities.
pub fn parse(path: &str, text: &str, capabilities: &[String]) -> Result<Seccomp> {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let here = Here { capabilities, arch: architecture(), kernel: kernel(&release).unwrap_or_default() };
    resolve(text, &here).map_err(|why| Error::new(format!("decoding seccomp profile ({path}) failed: {why}")))
}

fn resolve(text: &str, here: &Here<'_>) -> std::result::Result<Seccomp, String> {
    let mut value: Value = serde_json::from_str(text).map_err(|e| e.to_string())?;
    let docker: Docker = Docker::deserialize(&value).map_err(|e| e.to_string())?;
    let mut kept = Vec::with_capacity(docker.syscalls.len());
    for (i, rule) in docker.syscalls.iter().enumerate() {
        let includes = rule.includes.as_ref().map_or(Ok(true), |conditions| here.includes(conditions))?;
        let excludes = rule.excludes.as_ref().map_or(Ok(false), |conditions| here.excludes(conditions))?;
        if !includes || excludes {
            continue;
        }
        let mut entry = value["syscalls"][i].take();
        if !rule.name.is_empty() {
            if rule.names.as_ref().is_some_and(|names| !names.is_empty()) {
                return Err("both \"name\" and \"names\" are specified in a rule, use either one".into());
            }
            entry["names"] = Value::from(vec![rule.name.clone()]);
        }
        // Go writes what is empty as null.
        if let Value::Object(members) = &mut entry {
            members.retain(|key, value| !value.is_null() && !["name", "comment", "includes", "excludes"].contains(&key.as_str()));
        }
        kept.push(entry);
    }
    if let Value::Object(members) = &mut value {
        members.insert("syscalls".into(), Value::Array(kept));
        members.retain(|key, value| !value.is_null() && key != "archMap");
    }
    let mut filter = Seccomp::deserialize(value).map_err(|e| e.to_string())?;
    if let Some(map) = docker.arch_map.filter(|map| !map.is_empty()) {
        if docker.architectures.is_some_and(|list| !list.is_empty()) {
            return Err("both \"architectures\" and \"archMap\" are specified, use either one".into());
        }
        let native = if here.arch == "arm64" { "SCMP_ARCH_AARCH64" } else { "SCMP_ARCH_X86_64" };
        for entry in map.into_iter().filter(|entry| entry.architecture == native) {
            filter.architectures = std::iter::once(entry.architecture).chain(entry.sub_architectures.into_iter().flatten()).collect();
        }
    }
    Ok(filter)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(rules: &str, capabilities: &[&str], arch: &str, kernel: (u64, u64)) -> std::result::Result<Vec<String>, String> {
        let capabilities: Vec<String> = capabilities.iter().map(|cap| (*cap).to_owned()).collect();
        let text = format!(r#"{{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{rules}]}}"#);
        let filter = resolve(&text, &Here { capabilities: &capabilities, arch, kernel })?;
        Ok(filter.syscalls.into_iter().flat_map(|rule| rule.names).collect())
    }

    fn rule(conditions: &str) -> String {
        format!(r#"{{"names":["acct"],"action":"SCMP_ACT_ALLOW","args":null,"comment":"",{conditions}}}"#)
    }

    #[test]
    fn rules_hold_under_their_conditions() {
        let holds = |conditions: &str| !names(&rule(conditions), &["CAP_A", "CAP_B"], "amd64", (5, 10)).unwrap().is_empty();
        assert!(holds(r#""includes":{},"excludes":null"#));
        assert!(holds(r#""includes":{"caps":["CAP_A","CAP_B"]}"#));
        assert!(!holds(r#""includes":{"caps":["CAP_A","CAP_C"]}"#), "all of them");
        assert!(!holds(r#""excludes":{"caps":["CAP_C","CAP_B"]}"#), "any of them");
        assert!(holds(r#""excludes":{"caps":["CAP_C"]}"#));
        assert!(holds(r#""includes":{"arches":["x32","amd64"]}"#) && !holds(r#""includes":{"arches":["arm64"]}"#));
        assert!(!holds(r#""excludes":{"arches":["amd64"]}"#) && holds(r#""excludes":{"arches":["s390x"]}"#));
        assert!(holds(r#""includes":{"minKernel":"4.8"}"#) && holds(r#""includes":{"minKernel":"5.10"}"#));
        assert!(!holds(r#""includes":{"minKernel":"5.11"}"#) && !holds(r#""includes":{"minKernel":"6.0"}"#));
        assert!(!holds(r#""excludes":{"minKernel":"4.8"}"#));
        assert!(!holds(r#""includes":{"caps":["CAP_A"],"minKernel":"6.0"}"#), "both");
    }

    #[test]
    fn old_and_wrong_forms() {
        let old = r#"{"name":"read","action":"SCMP_ACT_ALLOW","args":[]}"#;
        assert_eq!(names(old, &[], "amd64", (6, 1)).unwrap(), ["read"]);
        for wrong in [
            rule(r#""includes":{"minKernel":"new"}"#),
            rule(r#""includes":{"kernel":"4.8"}"#),
            r#"{"name":"read","names":["write"],"action":"SCMP_ACT_ALLOW"}"#.into(),
        ] {
            assert!(names(&wrong, &[], "amd64", (6, 1)).is_err(), "{wrong}");
        }
        let map = r#""archMap":[{"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86"]},{"architecture":"SCMP_ARCH_AARCH64","subArchitectures":null}]"#;
        let filter = |head: &str, arch| {
            let here = Here { capabilities: &[], arch, kernel: (6, 1) };
            resolve(&format!(r#"{{"defaultAction":"SCMP_ACT_ALLOW",{head},"syscalls":[]}}"#), &here).map(|filter| filter.architectures)
        };
        assert_eq!(filter(map, "amd64").unwrap(), ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]);
        assert_eq!(filter(map, "arm64").unwrap(), ["SCMP_ARCH_AARCH64"]);
        assert!(filter(&format!(r#"{map},"architectures":["SCMP_ARCH_X86"]"#), "amd64").is_err());
    }

    /// The container's own program sees what the profile allows it: with the capability, and without.
    #[test]
    fn capabilities_choose_between_rules() {
        let rules = [
            rule(r#""includes":{"caps":["CAP_SYS_PACCT"]}"#),
            r#"{"names":["acct"],"action":"SCMP_ACT_KILL","excludes":{"caps":["CAP_SYS_PACCT"]}}"#.into(),
        ]
        .join(",");
        let text = format!(r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{rules}]}}"#);
        let action = |caps: &[String]| parse("x", &text, caps).unwrap().syscalls.iter().map(|rule| rule.action.clone()).collect::<Vec<_>>();
        assert_eq!(action(&["CAP_SYS_PACCT".into()]), ["SCMP_ACT_ALLOW"]);
        assert_eq!(action(&[]), ["SCMP_ACT_KILL"]);
    }
}
