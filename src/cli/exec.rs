//! `exec`: the process of the configuration, changed by flags, or a document of its own.

use super::args;
use super::commands::harden;
use crate::lifecycle::{self, ExecOptions, Runtime};
use crate::spec::{self, Process, Spec, User};
use crate::store::ContainerId;
use crate::sys::{Error, Log, Result};
use std::ffi::OsString;

pub fn exec(options: &args::Exec, runtime: &Runtime, log: &Log, args: &[OsString]) -> Result<i32> {
    let id = ContainerId::new(&options.id)?;
    if options.process.is_none() && options.args.is_empty() {
        return Err(Error::new("exec needs a program or --process"));
    }
    if options.process.is_some() && !options.args.is_empty() {
        return Err(Error::new("exec takes a program or --process, not both"));
    }
    harden(options.preserve_fds, args)?;
    let chosen = ExecOptions {
        detach: options.detach,
        pid_file: options.pid_file.clone(),
        console_socket: options.console_socket.clone(),
        pidfd_socket: options.pidfd_socket.clone(),
        preserve_fds: options.preserve_fds,
        cgroups: options.cgroup.clone(),
        ignore_paused: options.ignore_paused,
        trace: options.trace.clone(),
    };
    lifecycle::exec(runtime, &id, &chosen, |spec| process(options, spec, log), log)
}

/// A document stands for itself; flags change the process that the container was created with.
fn process(options: &args::Exec, spec: &Spec, log: &Log) -> Result<Process> {
    if let Some(path) = &options.process {
        let (process, unknown) = spec::load_process(path)?;
        unknown.iter().for_each(|key| log.debug(|| key.clone()));
        return Ok(process);
    }
    let base = spec.process.clone().ok_or_else(|| Error::new("the container's configuration has no process"))?;
    let mut process = Process { args: options.args.clone(), terminal: options.tty, console_size: None, ..base };
    if let Some(cwd) = &options.cwd {
        process.cwd.clone_from(cwd);
    }
    for variable in &options.env {
        let name = variable.split('=').next().unwrap_or_default();
        process.env.retain(|known| known.split('=').next() != Some(name));
        process.env.push(variable.clone());
    }
    if let Some(user) = &options.user {
        let (uid, gid) = spec::user::parse(user)?;
        process.user = User { uid, gid: gid.unwrap_or(process.user.gid), ..process.user };
    }
    process.user.additional_gids.extend_from_slice(&options.additional_gids);
    if !options.cap.is_empty() {
        let caps = process.capabilities.get_or_insert_default();
        for name in &options.cap {
            // As runc: also ambient, where the kernel lets it be.
            let ambient = caps.inheritable.contains(name).then_some(&mut caps.ambient);
            for set in [&mut caps.bounding, &mut caps.effective, &mut caps.permitted].into_iter().chain(ambient) {
                if !set.contains(name) {
                    set.push(name.clone());
                }
            }
        }
    }
    if let Some(profile) = &options.apparmor {
        process.apparmor_profile.clone_from(profile);
    }
    if let Some(label) = &options.process_label {
        process.selinux_label.clone_from(label);
    }
    if let Some(value) = options.no_new_privs {
        process.no_new_privileges = value;
    }
    Ok(process)
}
