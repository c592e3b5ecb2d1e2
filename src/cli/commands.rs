//! Commands that change something.

use super::args;
use crate::arm;
use crate::lifecycle::{self, CreateOptions, Runtime};
use crate::spec;
use crate::store::ContainerId;
use crate::sys::{Context, Log, Regex, Result};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

pub fn options(create: &args::Create) -> CreateOptions {
    CreateOptions {
        bundle: create.bundle.clone(),
        config: Some(create.config.clone()),
        pid_file: create.pid_file.as_deref().map(absolute),
        console_socket: create.console_socket.as_deref().map(absolute),
        pidfd_socket: create.pidfd_socket.as_deref().map(absolute),
        no_pivot: create.no_pivot,
        no_new_keyring: create.no_new_keyring,
        preserve_fds: create.preserve_fds,
        trace: create.trace.as_deref().map(absolute),
        ..CreateOptions::default()
    }
}

/// A path of the command line, before keel goes to the bundle, where hooks run. An empty one is left to who opens it.
pub fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Runs before anything of a container is touched, and before any descriptor is opened: from here on our executable is a
/// read-only clone, and what the caller leaked is closed.
pub fn harden(preserve_fds: u32, args: &[OsString]) -> Result<()> {
    arm::protect(args)?;
    arm::close_leaked(preserve_fds)
}

pub fn create(options: &args::Create, runtime: &Runtime, log: &Log, args: &[OsString]) -> Result<i32> {
    let id = ContainerId::new(&options.id)?;
    harden(options.preserve_fds, args)?;
    lifecycle::create(runtime, &id, &self::options(options), log).map(|()| 0)
}

pub fn run(options: &args::Run, runtime: &Runtime, log: &Log, args: &[OsString]) -> Result<i32> {
    let id = ContainerId::new(&options.create.id)?;
    harden(options.create.preserve_fds, args)?;
    let chosen = CreateOptions {
        detach: options.detach,
        keep: options.keep,
        seccomp_log: options.seccomp_log,
        seccomp_record: options.seccomp_record.as_deref().map(absolute),
        ..self::options(&options.create)
    };
    lifecycle::run(runtime, &id, &chosen, log)
}

pub fn start(options: &args::Id, runtime: &Runtime, log: &Log, args: &[OsString]) -> Result<i32> {
    lifecycle::start(runtime, &ContainerId::new(&options.id)?, log, || arm::protect(args)).map(|()| 0)
}

pub fn kill(options: &args::Kill, runtime: &Runtime) -> Result<i32> {
    let signal = if options.signal == "0" { None } else { Some(lifecycle::signal(&options.signal)?) };
    lifecycle::kill(runtime, &ContainerId::new(&options.id)?, signal, options.all).map(|()| 0)
}

pub fn delete(options: &args::Delete, runtime: &Runtime, log: &Log) -> Result<i32> {
    if options.regex {
        return delete_all(options, runtime, log);
    }
    let id = ContainerId::new(&options.id)?;
    lifecycle::delete(runtime, &id, options.force, log).map(|()| 0)
}

/// As crun: each that matches, and the first error at the end.
fn delete_all(options: &args::Delete, runtime: &Runtime, log: &Log) -> Result<i32> {
    let regex = Regex::new(&options.id)?;
    let matching = runtime.root.list()?.into_iter().filter(|id| regex.matches(id.as_str()));
    let done: Vec<_> = matching.map(|id| lifecycle::delete(runtime, &id, options.force, log)).collect();
    done.into_iter().collect::<Result<()>>().map(|()| 0)
}

pub fn pause(options: &args::Id, runtime: &Runtime) -> Result<i32> {
    lifecycle::pause(runtime, &ContainerId::new(&options.id)?).map(|()| 0)
}

pub fn resume(options: &args::Id, runtime: &Runtime) -> Result<i32> {
    lifecycle::resume(runtime, &ContainerId::new(&options.id)?).map(|()| 0)
}

pub fn spec(options: &args::Spec) -> Result<i32> {
    use std::io::Write;
    let path = options.bundle.join("config.json");
    let ids = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let unified = std::fs::metadata("/sys/fs/cgroup/cgroup.controllers").is_ok();
    let text = spec::sample(options.rootless.then_some(ids), unified);
    let what = || format!("write {}", path.display());
    let file = std::fs::OpenOptions::new().write(true).create_new(true).open(&path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).context(what).map(|()| 0)
}
