//! The child: a `for` over the operations and a `match`.
//!
//! After the clone only system calls: no allocation, no lock, no formatting, no parsing. The process is a copy of its parent with
//! one thread; what it needs was laid out before. A failure is eight bytes to the parent, then the end. When nothing of the host's
//! is open any more the rest is up to `sys::Tail`, which has nothing of the parent's memory either.

use super::ground::{Ground, leave_open};
use super::report::{self, Report};
use super::{console, copy_up, ids, mount, move_root, path};
use crate::arm::{Armed, clone_tree};
use crate::plan::{Op, Plan, Stage, Target};
use crate::spec::numbers;
use crate::sys::{self, CLONED, Forked, MountAttr, REPORTED, Steps, mount_setattr, ns};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Gid, Mode, OFlags, Uid};
use rustix::io::{Errno, Result};
use rustix::mount::MountFlags;
use rustix::net::{RecvFlags, SocketFlags, recv};
use std::ffi::CStr;

/// What the child opens on its way.
struct State<'p> {
    sync: OwnedFd,
    ground: Option<Ground<'p>>,
    null: Option<OwnedFd>,
    empty: Option<OwnedFd>,
    proc: Option<OwnedFd>,
    /// The file system that is being made (fsopen(2)).
    context: Option<OwnedFd>,
}

/// Runs the plan to its exec.
pub fn run(plan: &Plan, armed: &mut Armed, sync: OwnedFd, alone: Forked) -> ! {
    let mut state = State { sync, ground: None, null: None, empty: None, proc: None, context: None };
    // The caller's mask must not shape what is made below the root.
    rustix::process::umask(Mode::empty());
    for (index, op) in plan.ops.iter().take(plan.tail).enumerate() {
        begin(armed.steps, index);
        match step(op, index as u32, plan, armed, &mut state) {
            Ok(()) => end(armed.steps, index),
            Err(errno) => report(&state, index as u32, errno, armed.steps),
        }
    }
    match armed.tail.take() {
        Some(tail) => tail.run(alone, state.sync, armed.listener.take(), &mut armed.own),
        None => sys::exit(REPORTED),
    }
}

fn begin(steps: Option<Steps>, index: usize) {
    if let Some(steps) = steps {
        steps.child(index).begin();
    }
}

fn end(steps: Option<Steps>, index: usize) {
    if let Some(steps) = steps {
        steps.child(index).end();
    }
}

fn report(state: &State<'_>, index: u32, errno: Errno, steps: Option<Steps>) -> ! {
    if let Some(steps) = steps {
        steps.child(index as usize).fail(errno.raw_os_error());
    }
    let report = Report { op: index, errno: errno.raw_os_error() };
    let _ = match &state.context {
        // The parent reads what the kernel says about it.
        Some(context) => report.send_with(&state.sync, &[context.as_fd()]),
        None => report.send(&state.sync),
    };
    sys::exit(REPORTED)
}

fn step<'p>(op: &'p Op, index: u32, plan: &'p Plan, armed: &mut Armed, state: &mut State<'p>) -> Result<()> {
    match op {
        Op::AwaitCgroup => {
            let there = report::receive_tasks(&state.sync, &mut armed.tasks)?;
            if there { Ok(()) } else { sys::exit(REPORTED) }
        }
        Op::JoinCgroup(i) => rustix::io::write(armed.tasks.get(*i).ok_or(Errno::BADF)?, b"0").map(drop),
        Op::JoinResctrl(i) => rustix::io::write(armed.resctrl.get(*i).ok_or(Errno::BADF)?, b"0").map(drop),
        Op::Label { file, label, .. } => write_host(file, label.as_bytes()),
        Op::OomScoreAdj(score) => write_host(c"/proc/self/oom_score_adj", score.as_bytes()),
        Op::Stdio => {
            let stdio = armed.stdio.as_ref().ok_or(Errno::BADF)?;
            (0..3).zip(stdio).try_for_each(|(number, fd)| sys::dup_to(fd, number))
        }
        Op::NonDumpable => rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable),
        Op::Sync(Stage::IdMap(i) | Stage::Root(i)) => {
            let tree = armed.trees.get(*i).and_then(Option::as_ref).ok_or(Errno::BADF)?;
            Report { op: index, errno: 0 }.send_with(&state.sync, &[tree.as_fd()])?;
            wait_for_answer(state)
        }
        Op::Sync(Stage::Namespaces(kinds)) => {
            hand_namespaces(index, *kinds, armed, state)?;
            wait_for_answer(state)
        }
        Op::Sync(_) => {
            Report { op: index, errno: 0 }.send(&state.sync)?;
            wait_for_answer(state)
        }
        Op::JoinNamespace(i) => sys::setns(armed.joins.get(*i).ok_or(Errno::BADF)?, plan.joins[*i].kind),
        Op::JoinInit(kinds) if armed.handed.is_empty() => sys::setns(armed.init.as_ref().ok_or(Errno::BADF)?, *kinds),
        Op::JoinInit(kinds) => join_handed(*kinds, armed),
        Op::CloneAgain(kinds) => clone_again(*kinds, state),
        Op::BecomeRoot => become_root(plan),
        Op::Unshare(kinds) => sys::unshare(*kinds),
        Op::TimeOffsets(offsets) => write_host(c"/proc/self/timens_offsets", offsets.as_bytes()),
        Op::EnterTime => sys::setns(open_host(c"/proc/self/ns/time_for_children", OFlags::RDONLY)?, ns::TIME),
        Op::EmptyRoot => {
            let root = mount::empty()?;
            chroot(root.as_fd())
        }
        Op::Setsid => rustix::process::setsid().map(drop),
        Op::Hostname(name) => rustix::system::sethostname(name.as_bytes()),
        Op::Domainname(name) => rustix::system::setdomainname(name.as_bytes()),
        Op::LoopbackUp => loopback_up(),
        Op::Keyring(name) => sys::join_session_keyring(name),
        Op::OpenTree(i) => clone_tree(&plan.trees[*i], &armed.id_maps).map(|fd| armed.trees[*i] = Some(fd)),
        Op::PrivateMounts(cut) => mount_setattr(CWD, c"/", true, &MountAttr::propagation(*cut)),
        Op::AttachRoot(i) => attach_root(*i, plan, armed, state),
        Op::MountRoot { kind, source, data, attr, copy_up, .. } => {
            let covered = if *copy_up { Some(open_host(&plan.rootfs, OFlags::RDONLY | OFlags::DIRECTORY)?) } else { None };
            rustix::mount::mount(&**source, &*plan.rootfs, &**kind, MountFlags::empty(), &**data)?;
            let root = open_host(&plan.rootfs, OFlags::PATH | OFlags::DIRECTORY)?;
            if let Some(covered) = covered {
                copy_up::copy(covered, root.as_fd())?;
            }
            state.ground = Some(Ground::new(root));
            if attr.is_empty() { Ok(()) } else { mount_setattr(ground(state)?.root(), c"", false, attr) }
        }
        Op::Attach { tree, to } => attach(*tree, to, plan, armed, state),
        Op::Mount { fs, to, fallback, .. } => {
            if plan.enters_pids && fs.kind.as_bytes() == b"proc" {
                state.context = armed.procs.pop();
            }
            let State { ground, context, .. } = state;
            mount::mount(fs, context, to, fallback.as_deref(), ground.as_mut().ok_or(Errno::BADF)?)
        }
        Op::SetAttr { path, attr, recursive, .. } => mount::set_attr(root(state)?, path, attr, *recursive),
        Op::Symlink { target, path } => mount::symlink(ground(state)?, target, path),
        Op::CopyLink { target, path, .. } => mount::copy_link(ground(state)?, target, path),
        Op::Device(node, _) => mount::device(ground(state)?, node),
        Op::MakeDir(path, _) => {
            let _ = path::resolve_or_make(root(state)?, path, true);
            Ok(())
        }
        Op::Sysctl { path, value } => {
            if state.proc.is_none() {
                state.proc = Some(mount::private_proc()?);
            }
            mount::write_proc(state.proc.as_ref().ok_or(Errno::BADF)?.as_fd(), path, value.as_bytes())
        }
        Op::Console { bind, size, bare_newlines } => {
            let here = if state.ground.is_none() { Some(open_host(c"/", OFlags::PATH)?) } else { None };
            let root = here.as_ref().map_or_else(|| root(state), |fd| Ok(fd.as_fd()))?;
            // Taken, so that the next `CloseFds` does not keep it.
            let socket = armed.console.take().ok_or(Errno::BADF)?;
            console::open(root, socket.as_fd(), *bind, *size, *bare_newlines)
        }
        Op::Mask(path, _) => {
            let State { ground, null, empty, .. } = state;
            mount::mask(ground.as_ref().ok_or(Errno::BADF)?.root(), path, null, empty, plan.mask_label.as_deref())
        }
        Op::ReadOnly(path, _) => mount::read_only(root(state)?, path),
        Op::RootReadonly => mount_setattr(root(state)?, c"", false, &MountAttr::RDONLY),
        Op::PivotRoot => pivot_root(root(state)?),
        Op::MoveRoot => move_root::move_root(root(state)?),
        Op::Chroot => chroot(root(state)?),
        Op::EnterRoot { path, mount } => {
            let root = open_host(path, OFlags::PATH | OFlags::DIRECTORY)?;
            // Something was mounted over it since.
            if sys::mount_id(&root)? == *mount { chroot(root.as_fd()) } else { Err(Errno::STALE) }
        }
        Op::RootPropagation(flag) => mount_setattr(CWD, c"/", flag & libc::MS_REC != 0, &MountAttr::propagation(flag & !libc::MS_REC)),
        Op::CloseFds => close_fds(armed, state),
        Op::RaiseLimit { resource, hard, .. } => ids::raise_limit(0, *resource, *hard),
        Op::Scheduler(attr) => sys::sched_setattr(0, attr),
        Op::IoPriority(priority) => sys::ioprio_set(0, *priority),
        // Where even that is forbidden, the caller's it is.
        Op::CpuAffinity(cpus) => sys::sched_setaffinity(&**cpus).or_else(|errno| if **cpus == numbers::ALL { Ok(()) } else { Err(errno) }),
        Op::MemoryPolicy { mode, nodes } => sys::set_mempolicy(*mode, &**nodes),
        Op::Personality(domain) => sys::personality(*domain),
        Op::HookDirectory(path) => {
            let _ = rustix::process::chdir(&**path);
            Ok(())
        }
        // These are the tail's, which `arm::tail` has laid out.
        Op::OpenProc
        | Op::ControllingTerminal
        | Op::DieWithParent
        | Op::BoundingSet(_)
        | Op::KeepCaps
        | Op::Rlimit { .. }
        | Op::Groups(_)
        | Op::Gid(_)
        | Op::Uid(_)
        | Op::OwnNull
        | Op::OwnStdio(_)
        | Op::Capset { .. }
        | Op::Ambient(_)
        | Op::TryChdir(_)
        | Op::Cwd(_)
        | Op::Umask(_)
        | Op::FindProgram
        | Op::Home(_)
        | Op::NoNewPrivs
        | Op::Seccomp
        | Op::Exec => Err(Errno::INVAL),
    }
}

fn ground<'s, 'p>(state: &'s mut State<'p>) -> Result<&'s mut Ground<'p>> {
    state.ground.as_mut().ok_or(Errno::BADF)
}

fn root<'s>(state: &'s State<'_>) -> Result<BorrowedFd<'s>> {
    state.ground.as_ref().map(Ground::root).ok_or(Errno::BADF)
}

fn attach<'p>(tree: usize, to: &'p Target, plan: &'p Plan, armed: &mut Armed, state: &mut State<'p>) -> Result<()> {
    let mount = armed.tree(tree)?;
    let directory = plan.trees[tree].directory || path::is_directory(&mount)?;
    mount::attach(mount.as_fd(), directory, ground(state)?, to)?;
    leave_open(mount);
    Ok(())
}

pub(super) fn open_host(path: &CStr, flags: OFlags) -> Result<OwnedFd> {
    rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty())
}

fn write_host(path: &CStr, text: &[u8]) -> Result<()> {
    rustix::io::write(open_host(path, OFlags::WRONLY)?, text).map(drop)
}

/// A parent that died without an answer ends the child too: nothing is left that no record describes.
fn wait_for_answer(state: &State<'_>) -> Result<()> {
    let mut byte = [0; 1];
    match rustix::io::retry_on_intr(|| recv(&state.sync, &mut byte[..], RecvFlags::empty()))?.0 {
        1 => Ok(()),
        _ => sys::exit(REPORTED),
    }
}

/// Joins the namespaces that were handed over. One that is missing is an error: what follows would
/// work on the host's.
fn join_handed(kinds: u64, armed: &Armed) -> Result<()> {
    let mut missing = kinds;
    for (kind, namespace) in armed.handed.iter().filter(|(kind, _)| kinds & kind != 0) {
        sys::setns(namespace, *kind)?;
        missing &= !kind;
    }
    if missing == 0 { Ok(()) } else { Err(Errno::BADF) }
}

/// Opens the process's own namespaces, which it may also when it is not dumpable, and sends them.
/// Where /proc does not show it, none: the parent then joins them by its pidfd, or says that it may
/// not.
fn hand_namespaces(index: u32, kinds: u64, armed: &mut Armed, state: &State<'_>) -> Result<()> {
    let whole = ns::files(kinds).try_for_each(|(_, file)| open_host(file, OFlags::RDONLY).map(|fd| armed.own.push(fd)));
    if whole.is_err() {
        armed.own.clear();
        return Report { op: index, errno: 0 }.send(&state.sync);
    }
    let mut fds = [state.sync.as_fd(); ns::FILES.len()];
    fds.iter_mut().zip(&armed.own).for_each(|(slot, namespace)| *slot = namespace.as_fd());
    Report { op: index, errno: 0 }.send_with(&state.sync, &fds[..armed.own.len()])?;
    if armed.listener.is_none() {
        // Only a process that waits for `start` is asked for them again.
        armed.own.clear();
    }
    Ok(())
}

/// The sibling goes on with the plan; this process tells its pid, as both processes' parent sees it, and ends.
fn clone_again(kinds: u64, state: &State<'_>) -> Result<()> {
    match sys::clone_sibling(kinds)? {
        0 => Ok(()),
        pid => {
            let _ = Report { op: CLONED, errno: pid }.send(&state.sync);
            sys::exit(0)
        }
    }
}

fn become_root(plan: &Plan) -> Result<()> {
    if !(plan.groups_denied || plan.keeps_groups) {
        match sys::setgroups(&[]) {
            Err(Errno::PERM) if plan.groups_may_stay => {}
            given_up => given_up?,
        }
    }
    rustix::thread::set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT)?;
    rustix::thread::set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT)
}

fn loopback_up() -> Result<()> {
    use rustix::net::{AddressFamily, SocketType, socket_with};
    sys::loopback_up(socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?)
}

/// Attaches the root to its own path, so that it is a mount point below a private parent, as pivot_root(2) wants it. Any place is as
/// good: where root of a user namespace may not go there (a parent of mode 0700), it is /, which paths of the host pass by.
fn attach_root(tree: usize, plan: &Plan, armed: &mut Armed, state: &mut State<'_>) -> Result<()> {
    let tree = armed.tree(tree)?;
    let point = match open_host(&plan.rootfs, OFlags::PATH | OFlags::DIRECTORY) {
        Err(Errno::ACCESS) => open_host(c"/", OFlags::PATH | OFlags::DIRECTORY)?,
        other => other?,
    };
    mount::move_onto(tree.as_fd(), point.as_fd())?;
    leave_open(point);
    state.ground = Some(Ground::new(tree));
    Ok(())
}

fn pivot_root(root: BorrowedFd<'_>) -> Result<()> {
    rustix::process::fchdir(root)?;
    rustix::process::pivot_root(c".", c".")?;
    rustix::mount::unmount(c".", rustix::mount::UnmountFlags::DETACH)?;
    rustix::process::chdir(c"/")
}

pub(super) fn chroot(root: BorrowedFd<'_>) -> Result<()> {
    rustix::process::fchdir(root)?;
    rustix::process::chroot(c".")?;
    rustix::process::chdir(c"/")
}

/// Closes everything from 3 on but what is preserved for the program and what the last operations need.
fn close_fds(armed: &Armed, state: &State<'_>) -> Result<()> {
    let number = |fd: Option<&OwnedFd>| fd.map_or(0, |fd| fd.as_raw_fd() as u32);
    let mut keep = [0; 3 + ns::FILES.len()];
    let others = [Some(&state.sync), armed.listener.as_ref(), armed.console.as_ref()].into_iter();
    keep.iter_mut().zip(others.chain(armed.own.iter().map(Some))).for_each(|(slot, fd)| *slot = number(fd));
    keep.sort_unstable();
    let mut first = 3 + armed.preserve_fds;
    for fd in keep {
        if fd > first {
            sys::close_range(first, fd - 1, false)?;
        }
        first = first.max(fd + 1);
    }
    sys::close_range(first, u32::MAX, false)
}
