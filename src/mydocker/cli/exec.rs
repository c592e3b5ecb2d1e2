//! `exec`: one more process in a running container.

use super::args::Exec;
use super::streams::{self, Streams};
use super::{OURS, create, options, with_code};
use crate::arm;
use crate::lifecycle::{self, ExecOptions};
use crate::mydocker::container::{Container, Containers, Layers, Record, Status, capabilities, journal, process_user, resolve};
use crate::mydocker::files::Dirs;
use crate::mydocker::monitor::{must_run, protocol::failure_code};
use crate::spec::{self, Capabilities, Spec};
use crate::sys::{Context, Error, Log, Result};
use rustix::termios::isatty;
use std::ffi::OsString;

/// `mydocker exec`: the program's exit code.
pub fn exec(args: &Exec, dirs: &Dirs, own_args: &[OsString]) -> Result<i32> {
    let (name, command) = options::first_word(&args.container_and_args, "container").map_err(|error| with_code(OURS, error))?;
    let container = Containers::new(dirs).find(name)?;
    let process = must_run(&container)?;
    if container.state()?.status == Status::Paused {
        return Err(Error::new(format!("container {} is paused, unpause the container before exec", container.id())));
    }
    if args.tty && args.interactive && !args.detach && !isatty(rustix::stdio::stdin()) {
        return Err(Error::new("the input device is not a TTY").hint("leave -t out where the input is a pipe or a file"));
    }
    let env = create::environment(&args.env_file, &args.env)?;
    let record = container.record()?;
    arm::protect(own_args)?;
    let layers = Layers::new(vec![format!("/proc/{}/root", process.pid).into()]);
    let make = |spec: &Spec| program(args, command, env, &record, &layers, spec);
    let line = command.join(" ");
    journal::tell(dirs, &record, &format!("exec_create: {line}"), &[]);
    journal::tell(dirs, &record, &format!("exec_start: {line}"), &[]);
    let code = execute(args, &container, record.first_id, make);
    if let Some(code) = code.as_ref().ok().filter(|_| !args.detach) {
        journal::tell(dirs, &record, "exec_die", &[("exitCode", &code.to_string())]);
    }
    code.map_err(|error| with_code(failure_code(&error), error))
}

/// Runs the program with a terminal or pipes of our own, or with nothing at all when detached. `first_id`
/// is the id on the host that is root's in the container, if it is another than root's.
fn execute(args: &Exec, container: &Container, first_id: Option<u32>, make: impl FnOnce(&Spec) -> Result<spec::Process>) -> Result<i32> {
    let (runtime, id, log) = (container.runtime()?, container.runtime_id()?, Log::open(None, false, false)?);
    let options = ExecOptions { detach: args.detach, ..ExecOptions::default() };
    if args.detach {
        // A detached program has nobody to hand a terminal to.
        return lifecycle::exec_with_stdio(&runtime, &id, &options, streams::nowhere()?, make, &log).map(|_| 0);
    }
    if args.tty {
        if !args.interactive {
            // The relay of the terminal reads our standard input.
            let null = streams::null()?;
            rustix::stdio::dup2_stdin(&null).context(|| "open /dev/null")?;
        }
        return lifecycle::exec(&runtime, &id, &options, make, &log);
    }
    let (streams, theirs) = Streams::new(args.interactive)?;
    let owned = |spec: &Spec| {
        let process = make(spec)?;
        if let Some(first) = first_id {
            streams.give_to(first.saturating_add(process.user.uid))?;
        }
        Ok(process)
    };
    let started = lifecycle::exec_with_stdio(&runtime, &id, &options, theirs, owned, &log)?;
    streams.relay(&started)
}

/// The program: what the container's own has, but for what the flags say.
fn program(args: &Exec, command: &[String], env: Vec<String>, record: &Record, layers: &Layers, spec: &Spec) -> Result<spec::Process> {
    let mut process = spec.process.clone().unwrap_or_default();
    process.terminal = args.tty && !args.detach;
    process.args = command.to_vec();
    (process.console_size, process.oom_score_adj) = (None, None);
    for entry in env {
        let key = entry.split_once('=').map_or(entry.as_str(), |(key, _)| key).to_owned();
        process.env.retain(|old| old.split_once('=').is_none_or(|(name, _)| *name != *key));
        process.env.push(entry);
    }
    if args.tty && !process.env.iter().any(|entry| entry.starts_with("TERM=")) {
        process.env.push("TERM=xterm".into());
    }
    if let Some(dir) = &args.workdir {
        process.cwd.clone_from(dir);
    }
    if let Some(user) = &args.user {
        let user = resolve(user, &record.settings.groups, layers)?;
        process.env.retain(|entry| !entry.starts_with("HOME="));
        process.env.push(format!("HOME={}", user.home));
        process.user = process_user(&user, &record.settings.groups);
    }
    if args.privileged || args.user.is_some() {
        let mut settings = record.settings.clone();
        settings.privileged |= args.privileged;
        let names = capabilities(&settings)?;
        let effective = if process.user.uid == 0 { names.clone() } else { Vec::new() };
        process.capabilities =
            Some(Capabilities { bounding: names, effective: effective.clone(), permitted: effective, ..Capabilities::default() });
    }
    Ok(process)
}
