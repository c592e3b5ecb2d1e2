//! `checkpoint` and `restore`.

use super::args::{self, EmptyNamespace};
use super::commands::{absolute, harden};
use crate::lifecycle::{self, CgroupsMode, CheckpointOptions, CreateOptions, CriuOptions, RestoreOptions, Runtime};
use crate::store::ContainerId;
use crate::sys::{Error, Log, Result};
use std::ffi::OsString;
use std::path::Path;

pub fn checkpoint(options: &args::Checkpoint, criu: Option<&Path>, runtime: &Runtime, log: &Log) -> Result<i32> {
    let id = ContainerId::new(&options.id)?;
    if options.status_fd.is_some() {
        return Err(Error::new("--status-fd is not supported: it tells of lazy pages, which keel does not do"));
    }
    let chosen = CheckpointOptions {
        criu: shared(&options.criu, criu)?,
        page_server: options.page_server.as_deref().map(address).transpose()?,
        leave_running: options.leave_running,
        pre_dump: options.pre_dump,
        parent_path: options.parent_path.clone(),
    };
    lifecycle::checkpoint(runtime, &id, &chosen, log).map(|()| 0)
}

pub fn restore(options: &args::Restore, criu: Option<&Path>, runtime: &Runtime, log: &Log, args: &[OsString]) -> Result<i32> {
    let id = ContainerId::new(&options.id)?;
    harden(0, args)?;
    let create = CreateOptions {
        bundle: options.bundle.clone(),
        pid_file: options.pid_file.as_deref().map(absolute),
        console_socket: options.console_socket.as_deref().map(absolute),
        detach: options.detach,
        keep: options.keep,
        ..CreateOptions::default()
    };
    let chosen = RestoreOptions {
        criu: shared(&options.criu, criu)?,
        create,
        lsm_profile: options.lsm_profile.clone(),
        lsm_mount_context: options.lsm_mount_context.clone(),
    };
    lifecycle::restore(runtime, &id, &chosen, log)
}

/// `ADDRESS:PORT`, where the address may have colons of its own.
fn address(text: &str) -> Result<(String, u16)> {
    let parsed = text.rsplit_once(':').and_then(|(address, port)| Some((address.trim_matches(['[', ']']).to_owned(), port.parse().ok()?)));
    parsed
        .filter(|(address, port)| !address.is_empty() && *port != 0)
        .ok_or_else(|| Error::new(format!("--page-server {text:?} is not ADDRESS:PORT")))
}

fn shared(options: &args::Criu, criu: Option<&Path>) -> Result<CriuOptions> {
    if options.lazy_pages {
        return Err(Error::new("--lazy-pages is not supported").hint("memory is saved into files, or sent to a --page-server"));
    }
    Ok(CriuOptions {
        criu: criu.map(Path::to_owned),
        image_path: absolute(&options.image_path),
        work_path: options.work_path.as_deref().map(absolute),
        tcp_established: options.tcp_established,
        tcp_skip_in_flight: options.tcp_skip_in_flight,
        ext_unix_sk: options.ext_unix_sk,
        shell_job: options.shell_job,
        file_locks: options.file_locks,
        link_remap: options.link_remap,
        cgroups: match options.manage_cgroups_mode {
            args::CgroupsMode::Soft => CgroupsMode::Soft,
            args::CgroupsMode::Full => CgroupsMode::Full,
            args::CgroupsMode::Strict => CgroupsMode::Strict,
            args::CgroupsMode::Ignore => CgroupsMode::Ignore,
        },
        empty_network: options.empty_ns.contains(&EmptyNamespace::Network),
        auto_dedup: options.auto_dedup,
    })
}
