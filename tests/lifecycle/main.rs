//! The daily life of a container: create, start, state, kill, delete, run, and what goes wrong in it.

#[path = "../common/mod.rs"]
mod common;

mod callers;
mod cgroup_v2;
mod daily;
mod interrupted;
mod kill;

use common::{Bundle, KEEL};
use std::fs::File;
use std::process::{Child, Command, Output, Stdio};

/// Starts a keel command in the background; its stdout and stderr go to files `out` and `err` of the bundle.
pub fn background(bundle: &Bundle, args: &[&str]) -> Child {
    let file = |name: &str| File::create(bundle.dir.join(name)).unwrap();
    bundle.command(args).stdout(file("out")).stderr(file("err")).spawn().unwrap()
}

/// A line for the host's shell, in the bundle, with `$KEEL` (and its `--root`) and `$ID` set: for redirections.
pub fn host_shell(bundle: &Bundle, line: &str) -> Output {
    let keel = format!("{KEEL} --root {}", bundle.state_root().display());
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", line]).env("KEEL", keel).env("ID", bundle.id()).current_dir(&bundle.dir).stdin(Stdio::null());
    shell.output().unwrap()
}
