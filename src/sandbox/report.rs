//! Numbers cross the socket, words stay home.
//!
//! The child sends eight bytes, `{op index: u32, errno: i32}`. With errno 0 it has reached the `Sync` operation of that
//! index and waits for one byte. The socket closes on exec: end of file means that the program runs.

use crate::arm::{ID_MAP_REFUSED, LOCKED};
use crate::plan::seccomp::Handover;
use crate::plan::{At, Op, Plan, Stage, TASKS_MAX};
use crate::sys::{Error, Kind, ns};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recvmsg, send, sendmsg,
};
use std::io::{IoSlice, IoSliceMut, Read};
use std::mem::MaybeUninit;

/// What a child sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// Index of the operation.
    pub op: u32,
    /// What it failed with, or 0.
    pub errno: i32,
}

/// What comes with a report.
#[derive(Debug, Default)]
pub struct Sent {
    /// Descriptors.
    pub fds: Vec<OwnedFd>,
    /// The process that sent it, as the kernel says where the socket has SO_PASSCRED (unix(7)).
    pub by: Option<i32>,
}

impl Report {
    /// To the parent; a parent that is gone is the end of the child too.
    pub fn send(self, socket: impl AsFd) -> rustix::io::Result<()> {
        send(socket, &self.bytes(), SendFlags::NOSIGNAL).map(drop)
    }

    /// As [`Report::send`], with descriptors, of which there are at most as many as a process has
    /// namespaces.
    pub fn send_with(self, socket: impl AsFd, fds: &[BorrowedFd<'_>]) -> rustix::io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(ns::FILES.len()))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(fds));
        sendmsg(socket, &[IoSlice::new(&self.bytes())], &mut control, SendFlags::NOSIGNAL).map(drop)
    }

    /// As it crosses the socket.
    pub fn bytes(self) -> [u8; 8] {
        let mut bytes = [0; 8];
        bytes[..4].copy_from_slice(&self.op.to_ne_bytes());
        bytes[4..].copy_from_slice(&self.errno.to_ne_bytes());
        bytes
    }

    /// A report and what came with it; `None` at the end of file.
    pub fn receive(socket: impl AsFd) -> rustix::io::Result<Option<(Self, Sent)>> {
        let mut bytes = [0; 8];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(ns::FILES.len()), ScmCredentials(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let mut receive = || rustix::io::retry_on_intr(|| recvmsg(&socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC));
        let received = match receive() {
            // Told once, of a child that ended with something from us unread (unix(7)); what it said is still there.
            Err(Errno::CONNRESET) => receive(),
            other => other,
        };
        let length = received?.bytes;
        if length < 8 {
            return Ok(None);
        }
        let mut sent = Sent::default();
        for message in control.drain() {
            match message {
                RecvAncillaryMessage::ScmRights(descriptors) => sent.fds.extend(descriptors),
                RecvAncillaryMessage::ScmCredentials(sender) => sent.by = Some(sender.pid.as_raw_pid()),
                _ => {}
            }
        }
        let (op, errno) = bytes.split_at(4);
        let four = |slice: &[u8]| slice.try_into().unwrap_or_default();
        Ok(Some((Self { op: u32::from_ne_bytes(four(op)), errno: i32::from_ne_bytes(four(errno)) }, sent)))
    }
}

/// The `tasks` files of the child's cgroups, in one message; at most [`TASKS_MAX`].
pub(super) fn send_tasks(socket: impl AsFd, tasks: &[OwnedFd]) -> rustix::io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(TASKS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let mut descriptors = [tasks[0].as_fd(); TASKS_MAX];
    descriptors.iter_mut().zip(tasks).for_each(|(slot, fd)| *slot = fd.as_fd());
    control.push(SendAncillaryMessage::ScmRights(&descriptors[..tasks.len().min(TASKS_MAX)]));
    sendmsg(socket, &[IoSlice::new(b"+")], &mut control, SendFlags::NOSIGNAL).map(drop)
}

/// Takes them, into room that is there. False at the end of file: the parent is gone.
pub(super) fn receive_tasks(socket: impl AsFd, tasks: &mut Vec<OwnedFd>) -> rustix::io::Result<bool> {
    let mut byte = [0; 1];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(TASKS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut byte)];
    let length = rustix::io::retry_on_intr(|| recvmsg(&socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC))?.bytes;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            descriptors.take(tasks.capacity() - tasks.len()).for_each(|fd| tasks.push(fd));
        }
    }
    Ok(length == 1)
}

/// What the kernel says about a file system that could not be made, which is read from its descriptor (fsopen(2)): one read for
/// each message, which begins with `e `, `w ` or `i `.
pub(super) fn words_of_context(context: OwnedFd) -> Option<String> {
    const MESSAGES_MAX: usize = 8;
    // Any other file might be one that is never read to an end.
    let link = format!("/proc/self/fd/{}", context.as_raw_fd());
    if std::fs::read_link(link).ok()?.as_os_str() != "anon_inode:[fscontext]" {
        return None;
    }
    let mut file = std::fs::File::from(context);
    let mut said = Vec::new();
    let mut space = [0; 512];
    while said.len() < MESSAGES_MAX
        && let Ok(length) = file.read(&mut space)
        && length > 0
    {
        let text = String::from_utf8_lossy(&space[..length]);
        let text = text.trim_end();
        said.push(text.get(2..).unwrap_or(text).to_owned());
    }
    (!said.is_empty()).then(|| said.join("; "))
}

/// The error for operation `index` of the plan.
pub fn failure(plan: &Plan, index: u32, errno: i32) -> Error {
    let errno = Errno::from_raw_os_error(errno);
    let Some(op) = plan.ops.get(index as usize) else {
        return Error::new(format!("the child reported operation {index}, which the plan does not have")).errno(errno);
    };
    failed(plan, op, errno)
}

/// The error for an operation of a plan.
pub(super) fn failed(plan: &Plan, op: &Op, errno: Errno) -> Error {
    let name = plan.process.args.first().map_or("", String::as_str);
    let error = match op {
        // The words of Go's exec.LookPath, by which docker and podman tell 126 and 127.
        Op::FindProgram if !name.contains('/') && errno == Errno::NOENT => {
            Error::new(format!("exec: {name:?}: executable file not found in $PATH")).kind(Kind::Exec)
        }
        // execve(2) says EACCES: podman finds 126 by these words, docker by either.
        Op::FindProgram if errno == Errno::ISDIR => {
            Error::new(format!("exec: {name:?}: is a directory")).errno(Errno::ACCESS).kind(Kind::Exec)
        }
        Op::FindProgram if errno == Errno::ACCESS => Error::new(format!("exec: {name:?}")).errno(errno).kind(Kind::Exec),
        Op::FindProgram => Error::new(format!("exec: {name:?}: stat {name}")).errno(errno).kind(Kind::Exec),
        Op::Exec => Error::new(format!("exec {name}")).errno(errno).kind(Kind::Exec),
        _ => Error::new(plan.sentence(op)).errno(errno),
    };
    // What is executed is clear without its place, and callers know the words without it.
    let at = if matches!(op, Op::Exec | Op::FindProgram) { At::default() } else { op.at(&plan.trees, &plan.joins) };
    let error = if at.field.is_empty() { error } else { error.at(at.to_string()) };
    match hint(plan, op, errno) {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

const GROUPS_DENIED: &str = "the kernel forbids setgroups(2) in a user namespace in which its owner mapped no more than the own id";

/// What an errno really means where it misleads.
fn hint(plan: &Plan, op: &Op, errno: Errno) -> Option<&'static str> {
    Some(match (op, errno) {
        (Op::Exec, Errno::NOENT) => "the file is there, but its interpreter (the #! line or the ELF loader) is not",
        (Op::Exec, Errno::NOEXEC) => "it is for another architecture, or a script without a #! line",
        (Op::Cwd(_), Errno::XDEV) => "the directory is outside the container's root: CVE-2024-21626",
        (Op::Attach { .. } | Op::Mount { .. }, Errno::LOOP) => "it must be mounted on ordinary directory, not a link",
        (Op::Device(..) | Op::Symlink { .. }, Errno::LOOP) => "/dev must be a directory of its own in the image, not a link",
        (Op::Device(..), Errno::NOENT) => {
            "in a user namespace, or over a file of the image, a device is a bind of the host's node of that path, which is not there"
        }
        (Op::Device(..), Errno::NODEV) => {
            "in a user namespace, or over a file of the image, a device is a bind of the host's node of that path, which is another device"
        }
        (Op::Attach { .. } | Op::Mount { .. }, Errno::REMOTE) => "the mount point leads into /proc, which a container must not fake",
        (Op::Attach { .. }, Errno::NOTDIR) => {
            "a directory can only be mounted on a directory, a file on a file, and every other part of the path is a directory"
        }
        (Op::Mount { fs, .. }, Errno::PERM) if fs.kind.as_bytes() == b"proc" => {
            "proc needs a pid namespace of its own, and in a user namespace a host /proc without anything mounted over it"
        }
        (Op::Mount { fs, .. }, Errno::PERM) if fs.kind.as_bytes() == b"sysfs" => "sysfs needs a network namespace of its own",
        (Op::Mount { .. }, Errno::NODEV) => "this kernel does not know the file system",
        (Op::Mount { .. }, Errno::INVAL) => "the file system refuses one of the options",
        (Op::Label { file, .. }, Errno::INVAL) if !file.as_bytes().ends_with(b"apparmor/exec") => {
            "the policy that is loaded knows no such label"
        }
        (Op::Label { at, .. }, Errno::NOENT) if at.field == "process.apparmorProfile" => "the profile is not loaded on this host",
        (Op::PivotRoot, Errno::INVAL) => "a root on a ramfs cannot be pivoted: --no-pivot",
        (Op::MoveRoot, Errno::BUSY) => {
            "a procfs or sysfs of the host's would stay in the container's mount namespace, where --no-pivot can neither detach nor cover it"
        }
        (Op::Uid(_) | Op::Gid(_) | Op::Groups(_), Errno::INVAL) => "the id is not mapped in the user namespace",
        (Op::Groups(_), Errno::PERM) if plan.groups_may_stay => GROUPS_DENIED,
        (Op::Console { .. }, Errno::NOENT) => "a terminal needs a devpts mount at /dev/pts",
        (Op::EnterRoot { .. }, Errno::STALE) => "something has been mounted over the container's root since, or it was unmounted",
        (Op::OpenTree(i), Errno::PERM) if plan.trees[*i].attr.attr_clr != 0 => LOCKED,
        (Op::OpenTree(i) | Op::Sync(Stage::IdMap(i)), Errno::INVAL) if plan.trees[*i].id_map.is_some() => ID_MAP_REFUSED,
        (Op::Scheduler(_), Errno::PERM) => {
            "real-time and deadline policies and a lower nice value need CAP_SYS_NICE; a deadline needs every CPU of the host, so that \
             such a process scheduler can't be used together with AllowedCPUs or a cpuset; real-time in a v1 cpu cgroup needs a \
             realtimeRuntime"
        }
        (Op::Scheduler(attr), Errno::INVAL) if attr.period.max(attr.deadline) != 0 => {
            "the host bounds the period: kernel.sched_deadline_period_min_us and kernel.sched_deadline_period_max_us"
        }
        (Op::Scheduler(_), Errno::BUSY) => "the kernel has not that much deadline time left",
        (Op::IoPriority(_), Errno::PERM) => "IOPRIO_CLASS_RT needs CAP_SYS_NICE or CAP_SYS_ADMIN",
        (Op::CpuAffinity(_), Errno::INVAL) => "none of these CPUs is in the container's cpuset",
        (Op::MemoryPolicy { .. }, Errno::INVAL) => "none of these nodes is in the container's cpuset, or this kernel lacks the mode",
        (Op::Sync(Stage::Listener(Handover::Number)), Errno::PERM) => {
            "the profile does not permit sendmsg, and to copy the listener instead needs CAP_SYS_PTRACE"
        }
        (Op::Seccomp, Errno::BUSY) => "keel itself runs under a filter with a listener; the kernel takes one",
        (Op::Rlimit { .. } | Op::RaiseLimit { .. }, Errno::PERM) => "raising a hard limit needs CAP_SYS_RESOURCE",
        (Op::OomScoreAdj(_), Errno::ACCESS | Errno::PERM) => "a lower score than the caller's needs CAP_SYS_RESOURCE",
        (Op::Sysctl { .. }, Errno::NOENT) => "this kernel has no such sysctl, or not in this namespace",
        (Op::JoinNamespace(_), Errno::INVAL) => "the file is not a namespace of this type, or it is our own",
        _ => return None,
    })
}
