//! The seccomp agent: gets the listener of each process under a filter with `SCMP_ACT_NOTIFY`, config-linux.md, "The
//! Container Process State".

use super::send_descriptor;
use super::status::{State, Status, state_of};
use crate::arm;
use crate::sandbox::Process;
use crate::spec::{Seccomp, Spec};
use crate::store::Record;
use crate::sys::{Context, Error, Result};
use rustix::fd::AsFd;
use serde::Serialize;
use std::io::Write;
use std::path::Path;

const AT: &str = "linux.seccomp.listenerPath";

/// config-linux.md, "The Container Process State".
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ContainerProcessState<'a> {
    oci_version: &'a str,
    fds: [&'a str; 1],
    pid: i32,
    #[serde(skip_serializing_if = "str::is_empty")]
    metadata: &'a str,
    state: State,
}

/// The profile, if it needs an agent.
fn profile(spec: &Spec) -> Option<&Seccomp> {
    spec.linux.seccomp.as_ref().filter(|seccomp| seccomp.notifies())
}

/// Sees that there is a socket, before anything is made; whether somebody listens is seen when it is needed.
pub(super) fn exists(spec: &Spec) -> Result<()> {
    use std::os::unix::fs::FileTypeExt;
    let Some(profile) = profile(spec) else { return Ok(()) };
    let path = &profile.listener_path;
    let metadata = std::fs::metadata(path).context(|| format!("failed to connect with seccomp agent {path}")).map_err(|e| e.at(AT))?;
    if metadata.file_type().is_socket() {
        Ok(())
    } else {
        Err(Error::new(format!("failed to connect with seccomp agent {path}: it is no socket")).at(AT))
    }
}

/// Sends the listener that `process` has handed over. One connection for each.
pub(super) fn tell(spec: &Spec, record: &Record, status: Status, process: &Process) -> Result<()> {
    let (Some(profile), Some(listener)) = (profile(spec), &process.handed) else { return Ok(()) };
    let state = state_of(record, status);
    let document = ContainerProcessState {
        oci_version: crate::spec::VERSIONS.1,
        fds: ["seccompFd"],
        pid: process.pid,
        metadata: &profile.listener_metadata,
        state,
    };
    let what = || format!("send the seccomp listener to {}", profile.listener_path);
    let text = serde_json::to_vec(&document).map_err(|e| Error::new(format!("{}: {e}", what())))?;
    let socket = arm::connect_to("seccomp agent", Path::new(&profile.listener_path)).map_err(|e| e.at(AT))?;
    // The descriptor goes with the first bytes; a long document may take more than one call.
    let sent = send_descriptor(&socket, &text, listener.as_fd()).context(what).map_err(|e| e.at(AT))?;
    std::fs::File::from(socket).write_all(&text[sent..]).context(what).map_err(|e| e.at(AT))
}
