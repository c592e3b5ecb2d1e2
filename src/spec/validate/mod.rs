//! Everything about a document that can be judged without looking at the host. A refusal names the place in
//! `config.json`; what runc lets pass with a word is a warning.
//!
//! What only the host can answer (is this namespace file of that type, is the network namespace joined the host's own,
//! does the capability exist in this kernel) is asked when the host arms the plan.

mod hooks;
mod linux;
mod mounts;
mod process;
mod resources;
mod scheduling;

pub(crate) use mounts::clean;

use super::{Process, Resources, Spec};
use crate::sys::{Error, Result};

/// The oldest and the newest version of the spec that keel reads, as `features` prints them.
pub const VERSIONS: (&str, &str) = ("1.0.0", "1.3.0");

/// The newest minor version of the spec whose fields keel knows.
const MINOR: u32 = 3;

/// Looks at one part of a document: the first thing wrong in it, and what is worth telling.
type Check = fn(&Spec, &mut Vec<String>) -> Result<()>;

/// All parts.
const CHECKS: &[Check] = &[
    version,
    root,
    |spec, warnings| match &spec.process {
        Some(process) => process::check(process, warnings),
        None => Err(Error::new("there is no process to run").at("process")),
    },
    mounts::check,
    linux::check,
    |spec, warnings| scheduling::linux(&spec.linux, warnings),
    |spec, warnings| resources::check(&spec.linux.resources, warnings),
    |spec, _| hooks::check(&spec.hooks),
    |spec, _| match spec.annotations.contains_key("") {
        true => Err(Error::new("an annotation has an empty key").at("annotations")),
        false => Ok(()),
    },
];

/// Judges a `config.json`; returns what is worth telling the user.
pub fn validate(spec: &Spec) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    CHECKS.iter().try_for_each(|check| check(spec, &mut warnings))?;
    Ok(warnings)
}

/// As [`validate`], but goes on after a refusal: the first of each part, and the warnings.
pub fn faults(spec: &Spec) -> (Vec<Error>, Vec<String>) {
    let mut warnings = Vec::new();
    let errors = CHECKS.iter().filter_map(|check| check(spec, &mut warnings).err()).collect();
    (errors, warnings)
}

/// Judges the document of `exec --process`; the paths of its refusals begin with `process`, as in `config.json`.
pub fn validate_process(process: &Process) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    process::check(process, &mut warnings)?;
    Ok(warnings)
}

/// Judges the document of `update --resources`; the paths of its refusals begin with `linux.resources`.
pub fn validate_resources(resources: &Resources) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    resources::check(resources, &mut warnings)?;
    Ok(warnings)
}

/// config.md, "Specification version": a semantic version; within major version 1 new fields are all that changes.
fn version(spec: &Spec, warnings: &mut Vec<String>) -> Result<()> {
    let text = &spec.oci_version;
    let refuse = |why: &str| {
        let (min, max) = VERSIONS;
        Err(Error::new(format!("version {text:?} of the spec {why}; keel reads {min} to {max}")).at("ociVersion"))
    };
    match semver(text) {
        None if text.is_empty() => Err(Error::new("the version of the spec is missing").at("ociVersion")),
        None => refuse("is not a semantic version"),
        Some((1, minor, _)) => {
            if minor > MINOR {
                warnings.push(format!("ociVersion {text} is newer than {}: fields added since are ignored", VERSIONS.1));
            }
            Ok(())
        }
        Some(_) => refuse("is not supported"),
    }
}

/// The three numbers of a semantic version; a pre-release or build label is checked for shape only.
fn semver(text: &str) -> Option<(u32, u32, u32)> {
    let (core, label) = match text.find(['-', '+']) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let word = |w: &str| !w.is_empty() && w.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if label.is_some_and(|label| !label.split(['.', '+']).all(word)) {
        return None;
    }
    let number = |n: &str| n.bytes().all(|b| b.is_ascii_digit()) && (n == "0" || !n.starts_with('0'));
    let mut parts = core.split('.').map(|n| number(n).then(|| n.parse().ok()).flatten());
    match (parts.next()??, parts.next()??, parts.next()??, parts.next()) {
        (major, minor, patch, None) => Some((major, minor, patch)),
        _ => None,
    }
}

/// config.md, "Root".
fn root(spec: &Spec, _: &mut Vec<String>) -> Result<()> {
    match &spec.root {
        None => Err(Error::new("root must be specified").at("root")),
        Some(root) if root.path.is_empty() => Err(Error::new("the path of the root file system is empty").at("root.path")),
        Some(root) => no_nul(&root.path, || "root.path".into()),
    }
}

/// No string that ends up in a system call holds a NUL: the kernel would see less than was checked.
fn no_nul(text: &str, at: impl FnOnce() -> String) -> Result<()> {
    match text.contains('\0') {
        true => Err(Error::new("the text contains a NUL byte").at(at())),
        false => Ok(()),
    }
}

/// A path in the container. One that is not absolute is taken as relative to its root, as from runc, which is there by then.
fn below_root(path: &str, at: impl FnOnce() -> String) -> Result<()> {
    if path.is_empty() { Err(Error::new("the path is empty").at(at())) } else { no_nul(path, at) }
}

/// A path that must be absolute, in the namespace that `what` tells of.
fn absolute(path: &str, what: &str, at: impl FnOnce() -> String) -> Result<()> {
    match path {
        "" => Err(Error::new(format!("{what} is empty")).at(at())),
        _ if !path.starts_with('/') => Err(Error::new(format!("{what} {path:?} is not absolute")).at(at())),
        _ => no_nul(path, at),
    }
}

/// `NAME=value`: what execve(2) takes as anything, but getenv(3) reads only so; runc refuses the others too. The value
/// is never quoted, it may be a secret.
fn environment(env: &[String], at: &str) -> Result<()> {
    for (i, entry) in env.iter().enumerate() {
        let why = match entry.find('=') {
            None => "missing '='",
            Some(0) => "name cannot be empty",
            Some(_) if entry.contains('\0') => "contains a NUL byte",
            Some(_) => continue,
        };
        return Err(Error::new(format!("invalid environment variable: {why}")).at(format!("{at}[{i}]")));
    }
    Ok(())
}
