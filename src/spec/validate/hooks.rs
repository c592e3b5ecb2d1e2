//! config.md, "POSIX-platform Hooks".

use super::{absolute, environment, no_nul};
use crate::spec::{Hook, Hooks};
use crate::sys::{Error, Result};

pub(super) fn check(hooks: &Hooks) -> Result<()> {
    let all = [
        ("prestart", &hooks.prestart),
        ("createRuntime", &hooks.create_runtime),
        ("createContainer", &hooks.create_container),
        ("startContainer", &hooks.start_container),
        ("poststart", &hooks.poststart),
        ("poststop", &hooks.poststop),
    ];
    for (name, list) in all {
        for (i, hook) in list.iter().enumerate() {
            one(hook, || format!("hooks.{name}[{i}]"))?;
        }
    }
    Ok(())
}

fn one(hook: &Hook, at: impl Fn() -> String) -> Result<()> {
    absolute(&hook.path, "the path of the hook", || format!("{}.path", at()))?;
    for (i, arg) in hook.args.iter().enumerate() {
        no_nul(arg, || format!("{}.args[{i}]", at()))?;
    }
    if let Some(env) = &hook.env {
        environment(env, &format!("{}.env", at()))?;
    }
    match hook.timeout {
        Some(seconds) if seconds <= 0 => {
            Err(Error::new(format!("a timeout of {seconds} seconds; it must be greater than zero")).at(format!("{}.timeout", at())))
        }
        _ => Ok(()),
    }
}
