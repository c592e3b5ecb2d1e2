//! `restore`: CRIU makes a container's processes anew from what `checkpoint` has written.
//!
//! State directory, record and cgroup are made as for a create. CRIU runs in the container's cgroup, so that what it makes is
//! born there, and in a mount namespace of its own, where the root is a mount point, as it wants it: nothing of that is seen on
//! the host, and nothing is left of it if keel is killed.

use super::checkpoint::{CriuOptions, Images, Mounted, NETWORK, configured, is_mount_point, is_null, joins_network, mounts, supported};
use super::create::{CreateOptions, Made, no_console};
use super::criu::{Ask, Criu, Message, Surroundings, Yard, excerpt};
use super::criu_fields::{cgroup_root, inherit_fd, opts};
use super::decide::decide;
use super::foreground::Relay;
use super::hooks::{self, Place};
use super::status::Status;
use super::timeline::Timeline;
use super::{Runtime, resctrl_of, send_descriptor, write_pid_file};
use crate::plan::{Op, Plan};
use crate::sandbox::{Process, in_root, path};
use crate::store::{ContainerId, ProcessId, Record};
use crate::sys::{self, Cloned, Context, Error, Log, MountAttr, Result, ns};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::path::Path;

/// What `restore` takes beside the id.
#[derive(Clone, Debug, Default)]
pub struct RestoreOptions {
    /// How CRIU is asked.
    pub criu: CriuOptions,
    /// The bundle, pid file, console socket, `detach` and `keep`, as for `run`.
    pub create: CreateOptions,
    /// The LSM profile in the place of the saved one.
    pub lsm_profile: Option<String>,
    /// The LSM context of mounts in the place of the saved one.
    pub lsm_mount_context: Option<String>,
}

/// `keel restore`: the exit code of the program, or 0 when detached.
pub fn restore(runtime: &Runtime, id: &ContainerId, options: &RestoreOptions, log: &Log) -> Result<i32> {
    let create = &options.create;
    let decided = decide(runtime, id, create, false, &Timeline::OFF)?;
    decided.unknown.iter().for_each(|key| log.debug(|| key.clone()));
    if !decided.facts.privileged || decided.facts.uid != 0 {
        return Err(Error::new("checkpoint and restore need root"));
    }
    supported(&decided.plan)?;
    let terminal = decided.plan.process.terminal;
    if terminal && create.detach && create.console_socket.is_none() {
        return Err(no_console());
    }
    let images = Images::open(&options.criu)?;
    let descriptors = images.descriptors()?;
    let relay = (!create.detach).then(|| Relay::prepare(terminal && create.console_socket.is_none())).transpose()?;
    let console = decided.console(create, relay.as_ref().and_then(Relay::socket))?;
    let mut made = Made::open(runtime, id, decided, &Timeline::OFF)?;
    let process = match build(&mut made, options, images, &descriptors, console) {
        Ok(process) => process,
        Err(error) => {
            made.undo(&Timeline::OFF);
            return Err(error);
        }
    };
    made.decided.warnings.iter().for_each(|warning| log.warning(warning));
    // It said that it is ready before it was saved.
    made.notify = None;
    made.attend(process, relay, create, log, &Timeline::OFF)
}

fn build(made: &mut Made, options: &RestoreOptions, images: Images, descriptors: &[String], console: Option<OwnedFd>) -> Result<Process> {
    let (into, tasks) = made.complete()?;
    let groups = resctrl_of(&made.record)?.map(|groups| groups.create()).transpose()?.unwrap_or_default();
    let plan = &made.decided.plan;
    let mounts = mounts(plan)?;
    mount_points(&made.record.rootfs, &mounts)?;
    if plan.in_user_namespace {
        images.let_pass()?;
    }
    let mut handed = Vec::new();
    for join in plan.joins.iter().filter(|join| join.kind == ns::NET) {
        let fd = rustix::fs::open(&*join.path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        handed.push(fd.context(|| format!("open the namespace {}", join.path.to_string_lossy())).map_err(|e| e.at(join.at.to_string()))?);
    }
    let tasks = tasks.into_iter().chain(groups).collect();
    let keyring = made.record.keyring.as_ref().map(|name| CString::new(name.as_bytes())).transpose();
    let keyring = keyring.map_err(|_| Error::new("the name of the session keyring contains a NUL byte"))?;
    let yard = Yard::new(&made.container, &made.decided.cgroup, None)?;
    let surroundings = Surroundings { unified: yard.unified(), into, tasks, root: Some(made.record.rootfs.clone()), keyring, handed };
    let criu = Criu::start(options.criu.criu.as_deref(), &surroundings)?;
    made.entered()?;
    let images = images.seen_by(criu.pid())?;
    // The last at a path, as for the checkpoint.
    let pairs: BTreeMap<_, _> = mounts.iter().filter_map(|mount| Some((mount.at.clone(), mount.source.clone()?))).collect();
    let pairs: Vec<_> = pairs.into_iter().collect();
    let mut request = images.request(&options.criu, "restore.log", &pairs);
    request.flag(opts::EVASIVE_DEVICES, true);
    request.flag(opts::NOTIFY_SCRIPTS, true);
    request.flag(opts::RST_SIBLING, true);
    request.text(opts::ROOT, &made.record.rootfs.to_string_lossy());
    for (field, text) in [(opts::LSM_PROFILE, &options.lsm_profile), (opts::LSM_MOUNT_CONTEXT, &options.lsm_mount_context)] {
        text.iter().for_each(|text| request.text(field, text));
    }
    configured(&mut request, &made.decided.spec);
    inherit(&mut request, &made.decided.plan, descriptors);
    cgroup_roots(&mut request, criu.pid())?;
    yard.show(&mut request);
    let (spec, plan) = (&made.decided.spec, &made.decided.plan);
    let (record, container, facts) = (&mut made.record, &made.container, &made.decided.facts);
    let pid = criu.ask(Ask::Restore, &request, |stage, pid, sent| match (stage, sent) {
        ("setup-namespaces", _) => {
            record.init = Some(ProcessId::of(pid)?);
            let host = Place { facts, container: None, like: None, timeline: &Timeline::OFF };
            hooks::run("prestart", &spec.hooks.prestart, record, Status::Creating, &host)?;
            hooks::run("createRuntime", &spec.hooks.create_runtime, record, Status::Creating, &host)
        }
        ("orphan-pts-master", Some(master)) => {
            let socket = console.as_ref().ok_or_else(no_console)?;
            send_descriptor(socket, b"/dev/ptmx", master.as_fd()).context(|| "send the terminal to the console socket").map(drop)
        }
        // Everything is there and nothing runs yet.
        ("post-restore", _) => {
            protect(plan, &mounts, pid)?;
            remember(record, pid)?;
            if let Some(path) = &options.create.pid_file {
                write_pid_file(path, pid)?;
            }
            container.save(record)
        }
        _ => Ok(()),
    });
    let id = made.container.id();
    let pid = pid.map_err(|e| e.within(format!("restore container {id}")).hint(excerpt(&images.log("restore.log"))))?;
    let known = Pid::from_raw(pid).ok_or_else(|| Error::new("CRIU gave no process"))?;
    let pidfd = pidfd_open(known, PidfdFlags::empty()).context(|| format!("open a pidfd for process {pid}"))?;
    Ok(Process::new(pid, pidfd))
}

/// Gives mounts of the host's their attributes. CRIU makes the second of two mounts of one source out of the first, and leaves
/// its attributes off (4.2): what was read-only could be written. By a process in the container's mount namespace, which only
/// then may change them; if one is not there, the restore fails. To one that is hidden leads no path, for the container neither.
fn protect(plan: &Plan, mounts: &[Mounted], pid: i32) -> Result<()> {
    let known = Pid::from_raw(pid).ok_or_else(|| Error::new("CRIU gave no process"))?;
    let pidfd = pidfd_open(known, PidfdFlags::empty()).context(|| format!("open a pidfd for process {pid}"))?;
    let what = || "give the restored mounts their attributes";
    let present = |mount: &&Mounted| mount.source.is_some() && !mount.hidden && (!mount.mask || is_null(pid, &mount.at));
    let paths = mounts.iter().filter(present).map(|mount| {
        let path = CString::new(mount.at.trim_start_matches('/')).map_err(|_| Error::new(what()))?;
        Ok((path, mount.attributes.as_slice()))
    });
    let paths = paths.chain(read_only(plan, pid).map(|path| Ok((path.to_owned(), &[MountAttr::RDONLY][..]))));
    let paths = paths.collect::<Result<Vec<_>>>()?;
    match sys::clone3(0, None).context(what)? {
        Cloned::Child(_) => {
            let change = || -> rustix::io::Result<()> {
                sys::setns(&pidfd, ns::MOUNT)?;
                let root = rustix::fs::open(c"/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
                for (path, attributes) in &paths {
                    let mount = path::resolve(root.as_fd(), path, OFlags::empty(), ResolveFlags::empty())?;
                    // Propagation is CRIU's; nothing below is touched, as it was not yet there when the mount was made.
                    for attr in attributes.iter().map(|attr| MountAttr { propagation: 0, ..*attr }).filter(|attr| !attr.is_empty()) {
                        sys::mount_setattr(&mount, c"", false, &attr)?;
                    }
                }
                Ok(())
            };
            sys::exit(change().err().map_or(0, |errno| errno.raw_os_error()))
        }
        Cloned::Parent(pid, pidfd) => match Process::new(pid, pidfd).wait()? {
            0 => Ok(()),
            errno => Err(Error::new(what()).errno(Errno::from_raw_os_error(errno))),
        },
    }
}

/// The read-only paths: second mounts of what is there, over mounts that have just been given other attributes.
fn read_only(plan: &Plan, pid: i32) -> impl Iterator<Item = &CStr> {
    let root = format!("/proc/{pid}/root");
    plan.ops.iter().filter_map(move |op| match op {
        Op::ReadOnly(path, _) => {
            let point = in_root(Path::new(&root), &path.to_string_lossy());
            point.is_ok_and(|point| is_mount_point(&point)).then_some(path.as_c_str())
        }
        _ => None,
    })
}

/// The process, and the namespaces it is in: CRIU gives every container a time namespace, so that its clocks go on.
fn remember(record: &mut Record, pid: i32) -> Result<()> {
    const KINDS: [(&str, u64); 8] = [
        ("cgroup", ns::CGROUP),
        ("ipc", ns::IPC),
        ("mnt", ns::MOUNT),
        ("net", ns::NET),
        ("pid", ns::PID),
        ("time", ns::TIME),
        ("user", ns::USER),
        ("uts", ns::UTS),
    ];
    for (name, kind) in KINDS {
        let namespace = |who: &str| std::fs::read_link(format!("/proc/{who}/ns/{name}"));
        let (theirs, ours) = (namespace(&pid.to_string()), namespace("self"));
        if theirs.context(|| format!("read /proc/{pid}/ns/{name}"))? == ours.context(|| format!("read /proc/self/ns/{name}"))? {
            record.namespaces &= !kind;
        } else {
            record.namespaces |= kind;
        }
    }
    record.init = Some(ProcessId::of(pid)?);
    record.creator = None;
    Ok(())
}

/// Pipes that were stdio are ours now, and a joined network namespace is the one that the configuration names.
fn inherit(request: &mut Message, plan: &Plan, descriptors: &[String]) {
    let pipes = (0..3).zip(descriptors).filter(|(_, name)| name.starts_with("pipe:"));
    let network = joins_network(plan).then_some((Surroundings::FIRST, NETWORK));
    for (fd, key) in pipes.map(|(fd, name)| (fd, name.as_str())).chain(network) {
        let mut inherited = Message::default();
        inherited.text(inherit_fd::KEY, key);
        inherited.number(inherit_fd::FD, u64::from(fd.cast_unsigned()));
        request.message(opts::INHERIT_FD, &inherited);
    }
}

/// What was below the old container's cgroup comes below the new one's, in which CRIU is.
fn cgroup_roots(request: &mut Message, pid: i32) -> Result<()> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).context(|| format!("read /proc/{pid}/cgroup"))?;
    for line in text.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        if let (Some(controllers), Some(path)) = (parts.next(), parts.next()) {
            let mut root = Message::default();
            root.text(cgroup_root::CTRL, controllers);
            root.text(cgroup_root::PATH, path);
            request.message(opts::CG_ROOT, &root);
        }
    }
    Ok(())
}

/// Makes what is missing of the mount points in the root file system, which may be a new copy of the image. Not of those in
/// file systems that were saved, which come with what is in them.
fn mount_points(rootfs: &Path, mounts: &[Mounted]) -> Result<()> {
    let what = |at: &str| format!("make the mount point {at}");
    let open = |dir: &Path, at: &str| {
        rustix::fs::open(dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).context(|| what(at))
    };
    let root = open(rootfs, "/")?;
    for (number, mount) in mounts.iter().enumerate().filter(|(_, mount)| !mount.mask) {
        let at = &mount.at;
        let directory = match &mount.source {
            Some(source) => std::fs::metadata(source).context(|| what(at)).map_err(|e| e.at(mount.place.to_string()))?.is_dir(),
            None => true,
        };
        // Below an earlier one the mount point is in that.
        let inside = |outer: &&Mounted| !outer.mask && outer.at != *at && Path::new(at).starts_with(&outer.at);
        match mounts[..number].iter().filter(inside).max_by_key(|outer| outer.at.len()).map(|outer| (outer, &outer.source)) {
            None => make(&root, at, directory, false),
            // What the container could not make in the host's directory, a restore does not make for it.
            Some((outer, Some(source))) => {
                open(Path::new(source), at).and_then(|dir| make(&dir, &at[outer.at.len()..], directory, outer.is_read_only()))
            }
            Some((_, None)) => Ok(()),
        }
        .map_err(|e| e.at(mount.place.to_string()))?;
    }
    Ok(())
}

fn make(root: &OwnedFd, at: &str, directory: bool, read_only: bool) -> Result<()> {
    let what = || format!("make the mount point {at}");
    let path = CString::new(at.trim_start_matches('/')).map_err(|_| Error::new(what()))?;
    if read_only && matches!(path::resolve(root.as_fd(), &path, OFlags::empty(), ResolveFlags::empty()), Err(Errno::NOENT)) {
        return Err(Errno::ROFS).context(what);
    }
    path::resolve_or_make(root.as_fd(), &path, directory).context(what).map(drop)
}
