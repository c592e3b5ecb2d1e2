//! `Op → sentence`: what `keel plan` prints and what an error names. The infinitive of what is done, to what.

use super::seccomp::Handover;
use super::{At, Join, Op, Plan, Stage, Tree};
use crate::spec::{names, numbers};
use crate::sys::SchedAttr;
use std::ffi::CStr;
use std::fmt::Write;

fn text(s: &CStr) -> std::borrow::Cow<'_, str> {
    s.to_string_lossy()
}

impl Tree {
    /// What opening it is, in words.
    pub fn sentence(&self) -> String {
        let idmapped = if self.id_map.is_some() { ", idmapped" } else { "" };
        format!("open the mount source {}{idmapped}", text(&self.source))
    }
}

/// The spec's names for a set of namespace flags, in the spec's spelling.
pub fn namespace_names(flags: u64) -> String {
    names::NAMESPACES.iter().filter(|(_, flag)| flags & *flag as u64 != 0).map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

/// The spec's name for a kernel's number.
fn name_of(table: &[(&'static str, u32)], value: u32) -> &'static str {
    table.iter().find(|row| row.1 == value).map_or("?", |row| row.0)
}

/// The numbers in a set.
fn members(set: &numbers::Set) -> Vec<usize> {
    (0..numbers::MAX).filter(|n| set[n / 64] >> (n % 64) & 1 == 1).collect()
}

fn scheduler(attr: &SchedAttr) -> String {
    let mut sentence = format!("set the scheduling policy {}", name_of(names::SCHEDULERS, attr.policy));
    let values = [
        (i128::from(attr.nice), "nice"),
        (i128::from(attr.priority), "priority"),
        (i128::from(attr.runtime), "runtime"),
        (i128::from(attr.deadline), "deadline"),
        (i128::from(attr.period), "period"),
    ];
    for (value, name) in values.iter().filter(|(value, _)| *value != 0) {
        let _ = write!(sentence, " {name} {value}");
    }
    for (name, _) in names::SCHEDULER_FLAGS.iter().filter(|row| attr.flags & row.1 != 0) {
        let _ = write!(sentence, " {name}");
    }
    sentence
}

impl Op {
    /// The variant's name: `Attach`, `PivotRoot`.
    pub fn name(&self) -> String {
        format!("{self:?}").split([' ', '(', '{']).next().unwrap_or_default().to_owned()
    }
}

impl Plan {
    /// What the one clone does, in words.
    pub fn clone_sentence(&self) -> String {
        match self.clone {
            0 => "clone the container's process".into(),
            kinds => format!("clone the container's process into new namespaces: {}", namespace_names(kinds)),
        }
    }

    /// The whole plan: the clone, then each operation with its number and where in `config.json` it comes from.
    pub fn text(&self) -> String {
        let mut text = format!("    {}\n", self.clone_sentence());
        for (i, op) in self.ops.iter().enumerate() {
            let place = op.at(&self.trees, &self.joins).to_string();
            let at = if place.is_empty() { String::new() } else { format!("  ({place})") };
            let _ = writeln!(text, "{i:>3} {}{at}", self.sentence(op));
        }
        text
    }

    /// What `op` does, in words.
    pub fn sentence(&self, op: &Op) -> String {
        match op {
            Op::AwaitCgroup => "wait for the cgroup".into(),
            Op::JoinCgroup(i) => format!("join cgroup hierarchy {i} through its tasks file"),
            Op::JoinResctrl(0) => "join the class of service of Intel RDT".into(),
            Op::JoinResctrl(_) => "join the monitoring group of Intel RDT".into(),
            Op::Label { what, label, .. } => format!("set the label for {what}: {}", text(label)),
            Op::OomScoreAdj(value) => format!("set oom_score_adj to {}", text(value)),
            Op::Stdio => "set up stdin, stdout and stderr".into(),
            Op::DieWithParent => "end together with keel".into(),
            Op::NonDumpable => "become non-dumpable".into(),
            Op::Sync(stage) => match stage {
                Stage::Ids => "wait for the id maps".into(),
                Stage::Root(i) => format!("wait for the record of the mount {}", text(&self.trees[*i].source)),
                Stage::IdMap(i) => format!("wait for the id map of the mount source {}", text(&self.trees[*i].source)),
                Stage::NetDevices => {
                    let names: Vec<_> = self.net_devices.iter().map(|device| format!("{} as {}", device.host, device.name)).collect();
                    format!("wait for the network devices: {}", names.join(", "))
                }
                Stage::Namespaces(kinds) => format!("hand over the namespaces: {}", namespace_names(*kinds)),
                Stage::CreateRuntime => "wait for the hooks prestart and createRuntime".into(),
                Stage::CreateContainer => "wait for the hooks createContainer".into(),
                Stage::StartContainer => "wait for the hooks startContainer".into(),
                Stage::Created => "wait for start".into(),
                Stage::Listener(Handover::Marked(_)) => "hand the seccomp filter's listener to keel".into(),
                Stage::Listener(_) => "hand the seccomp filter's listener to the agent".into(),
            },
            Op::JoinNamespace(i) => {
                let join = &self.joins[*i];
                format!("join the {} namespace {}", namespace_names(join.kind), text(&join.path))
            }
            Op::JoinInit(kinds) => format!("join the container's namespaces: {}", namespace_names(*kinds)),
            Op::CloneAgain(0) => "clone again, into the container's pid namespace".into(),
            Op::CloneAgain(kinds) => format!("clone again inside the user namespace: {}", namespace_names(*kinds)),
            Op::BecomeRoot => "become root of the user namespace".into(),
            Op::Unshare(kinds) => format!("create the namespaces: {}", namespace_names(*kinds)),
            Op::TimeOffsets(offsets) => format!("set the clock offsets {}", text(offsets).trim_end().replace('\n', ", ")),
            Op::EnterTime => "enter the new time namespace".into(),
            Op::EmptyRoot => "change the root to an empty file system".into(),
            Op::OpenProc => "open a procfs of the pid namespace".into(),
            Op::Setsid => "start a session".into(),
            Op::ControllingTerminal => "make the terminal that of the session".into(),
            Op::HookDirectory(path) => format!("change to the hook's working directory {}", text(path)),
            Op::Hostname(name) => format!("set the host name {}", text(name)),
            Op::Domainname(name) => format!("set the domain name {}", text(name)),
            Op::LoopbackUp => "bring the loopback interface up".into(),
            Op::Keyring(_) => "join the session keyring of the container".into(),
            Op::OpenTree(i) => self.trees[*i].sentence(),
            Op::PrivateMounts(_) => "keep mounts from reaching the host".into(),
            Op::MountRoot { kind, .. } => format!("mount {} as the root file system at {}", text(kind), text(&self.rootfs)),
            Op::AttachRoot(i) => format!("attach the root file system {}", text(&self.trees[*i].source)),
            Op::Attach { tree, to } => format!("attach {} at /{}", text(&self.trees[*tree].source), text(&to.path)),
            Op::Mount { fs, to, .. } => {
                let mut sentence = format!("mount {} at /{}", text(&fs.kind), text(&to.path));
                for (i, (key, value)) in fs.params.iter().enumerate() {
                    let _ = write!(sentence, "{}{}", if i == 0 { ": " } else { "," }, text(key));
                    if let Some(value) = value {
                        let _ = write!(sentence, "={}", text(value));
                    }
                }
                if let Some(label) = &fs.root_label {
                    let _ = write!(sentence, ", its root labelled {}", text(label));
                }
                if fs.copy_up {
                    sentence.push_str(", with a copy of what it covers");
                }
                sentence
            }
            Op::SetAttr { path, .. } => format!("set the mount attributes of /{}", text(path)),
            Op::Symlink { target, path } | Op::CopyLink { target, path, .. } => format!("link /{} to {}", text(path), text(target)),
            Op::Device(node, _) => format!("make the device /{}", text(&node.path)),
            Op::MakeDir(path, _) => format!("make the directory /{}", text(path)),
            Op::Sysctl { path, value } => format!("write {} to /proc/{}", text(value), text(path)),
            Op::Console { .. } => "open a terminal on /dev/ptmx".into(),
            Op::Mask(path, _) => format!("mask /{}", text(path)),
            Op::ReadOnly(path, _) => format!("make /{} read-only", text(path)),
            Op::RootReadonly => "make the root file system read-only".into(),
            Op::PivotRoot => "pivot into the root file system".into(),
            Op::MoveRoot => "move the root file system to / without pivot_root".into(),
            Op::Chroot => "change the root to the root file system".into(),
            Op::EnterRoot { path, .. } => format!("change the root to {}", text(path)),
            Op::RootPropagation(flag) => format!("set the propagation of / to {flag:#x}"),
            Op::CloseFds => "close what belongs to the host".into(),
            Op::Rlimit { resource, soft, hard, .. } => format!("limit {} to {soft}:{hard}", name_of(names::RLIMITS, *resource)),
            Op::RaiseLimit { resource, hard, .. } => format!("allow {} up to {hard}", name_of(names::RLIMITS, *resource)),
            Op::Scheduler(attr) => scheduler(attr),
            Op::IoPriority(value) => format!("set the I/O priority {} {}", name_of(names::IO_CLASSES, value >> 13), value & 7),
            Op::CpuAffinity(cpus) if **cpus == numbers::ALL => "run on every CPU of the cpuset".into(),
            Op::CpuAffinity(cpus) => format!("run on the CPUs {:?}", members(cpus)),
            Op::MemoryPolicy { mode, nodes } => {
                let flags: Vec<_> = names::MEMORY_FLAGS.iter().filter(|row| mode & row.1 != 0).map(|row| row.0).collect();
                let mode = name_of(names::MEMORY_MODES, mode & 0x1fff);
                format!("set the memory policy {mode} {flags:?} for the nodes {:?}", members(nodes))
            }
            Op::Personality(domain) => format!("set the execution domain {}", name_of(names::PERSONALITIES, *domain)),
            Op::BoundingSet(set) => format!("drop the capabilities outside {set:#x} from the bounding set"),
            Op::KeepCaps => "keep capabilities over the change of user".into(),
            Op::Groups(groups) => format!("set the additional groups {groups:?}"),
            Op::Gid(gid) => format!("become group {gid}"),
            Op::OwnNull => "open the container's /dev/null in place of the host's".into(),
            Op::OwnStdio(uid) => format!("give user {uid} its terminal and pipes"),
            Op::Uid(uid) => format!("become user {uid}"),
            Op::Capset { effective, permitted, inheritable } => {
                format!("set the capabilities effective {effective:#x} permitted {permitted:#x} inheritable {inheritable:#x}")
            }
            Op::Ambient(set) => format!("raise the ambient capabilities {set:#x}"),
            Op::TryChdir(cwd) => format!("try the working directory {}", text(cwd)),
            Op::Cwd(cwd) => format!("change to the working directory {}", text(cwd)),
            Op::Umask(mask) => format!("set the umask {mask:04o}"),
            Op::FindProgram => format!("find the program {}", self.process.args.first().map_or("", String::as_str)),
            Op::Home(uid) => format!("look up HOME of user {uid}"),
            Op::NoNewPrivs => "set no_new_privs".into(),
            Op::Seccomp => "load the seccomp filter".into(),
            Op::Exec => format!("exec {}", self.process.args.first().map_or("", String::as_str)),
        }
    }
}

impl Op {
    /// Where in `config.json` this comes from.
    pub fn at(&self, trees: &[Tree], joins: &[Join]) -> At {
        match self {
            Op::OpenTree(i) | Op::AttachRoot(i) | Op::Attach { tree: i, .. } => trees[*i].at,
            Op::JoinNamespace(i) => joins[*i].at,
            Op::MountRoot { at, .. } | Op::Mount { at, .. } | Op::SetAttr { at, .. } | Op::Rlimit { at, .. } => *at,
            Op::RaiseLimit { at, .. } => *at,
            Op::CopyLink { at, .. } => *at,
            Op::Device(_, at) | Op::MakeDir(_, at) | Op::Mask(_, at) | Op::ReadOnly(_, at) | Op::Label { at, .. } => *at,
            Op::Sync(Stage::IdMap(i) | Stage::Root(i)) => trees[*i].at,
            Op::Sync(Stage::NetDevices) => At::field("linux.netDevices"),
            Op::AwaitCgroup => At::field("linux.cgroupsPath"),
            Op::JoinResctrl(_) => At::field("linux.intelRdt"),
            Op::Hostname(_) => At::field("hostname"),
            Op::Domainname(_) => At::field("domainname"),
            Op::Sysctl { .. } => At::field("linux.sysctl"),
            Op::TimeOffsets(_) => At::field("linux.timeOffsets"),
            Op::OomScoreAdj(_) => At::field("process.oomScoreAdj"),
            Op::Unshare(_) | Op::EnterTime | Op::CloneAgain(_) => At::field("linux.namespaces"),
            Op::Console { .. } | Op::ControllingTerminal => At::field("process.terminal"),
            Op::Scheduler(_) => At::field("process.scheduler"),
            Op::IoPriority(_) => At::field("process.ioPriority"),
            Op::CpuAffinity(cpus) if **cpus != numbers::ALL => At::field("process.execCPUAffinity"),
            Op::MemoryPolicy { .. } => At::field("linux.memoryPolicy"),
            Op::Personality(_) => At::field("linux.personality"),
            Op::RootReadonly => At::field("root.readonly"),
            Op::PivotRoot | Op::MoveRoot | Op::Chroot => At::field("root.path"),
            Op::RootPropagation(_) => At::field("linux.rootfsPropagation"),
            Op::BoundingSet(_) | Op::Capset { .. } | Op::Ambient(_) | Op::KeepCaps => At::field("process.capabilities"),
            Op::Groups(_) => At::field("process.user.additionalGids"),
            Op::Gid(_) => At::field("process.user.gid"),
            Op::Uid(_) | Op::OwnStdio(_) => At::field("process.user.uid"),
            Op::TryChdir(_) | Op::Cwd(_) => At::field("process.cwd"),
            Op::Umask(_) => At::field("process.user.umask"),
            Op::NoNewPrivs => At::field("process.noNewPrivileges"),
            Op::Sync(Stage::Listener(_)) => At::field("linux.seccomp.listenerPath"),
            Op::Seccomp => At::field("linux.seccomp"),
            Op::FindProgram | Op::Exec => At::field("process.args"),
            _ => At::default(),
        }
    }
}
