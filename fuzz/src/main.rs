//! One program for all targets, as building is what takes time; `KEEL_FUZZ` names the target.
//!
//! A target must not panic, and what it refuses it refuses in one line. Where there is more to say (a filter that the kernel
//! would take, a path that stays where it should), the target asserts it.

#![no_main]

mod container;
mod documents;
mod strings;

/// mydocker's look-up of users, whose file names keel's errors by this path.
use keel::sys;
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

type Target = fn(&[u8]);

/// By the name that hack/fuzz uses.
const TARGETS: &[(&str, Target)] = &[
    ("config", documents::config),
    ("process", documents::process),
    ("resources", documents::resources),
    ("seccomp", documents::seccomp),
    ("user", strings::user),
    ("passwd", strings::passwd),
    ("mount_options", strings::mount_options),
    ("cgroup_path", strings::cgroup_path),
    ("annotations", strings::annotations),
];

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("KEEL_FUZZ").unwrap_or_default();
    let found = TARGETS.iter().find(|(known, _)| *known == name);
    found.unwrap_or_else(|| panic!("KEEL_FUZZ={name:?} names no target of: {:?}", TARGETS.map_names())).1
});

trait Names {
    fn map_names(&self) -> Vec<&str>;
}

impl Names for [(&str, Target)] {
    fn map_names(&self) -> Vec<&str> {
        self.iter().map(|(name, _)| *name).collect()
    }
}

/// A refusal is one line, whatever was refused.
fn refused(error: &sys::Error) {
    let text = error.to_string();
    assert!(!text.is_empty() && !text.contains(char::is_control), "not one line: {text:?}");
}

/// The value, or nothing after a look at the refusal.
fn accepted<T>(result: sys::Result<T>) -> Option<T> {
    result.inspect_err(refused).ok()
}

fuzz_target!(|data: &[u8]| TARGET(data));
