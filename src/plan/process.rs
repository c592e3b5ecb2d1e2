//! The program and the identity it runs with.

use super::{At, Facts, Op, Plan, Stage, cstring, seccomp};
use crate::spec::{self, names, numbers};
use crate::sys::{Error, Result, SchedAttr};
use std::collections::HashSet;
use std::ffi::CString;

const CAP_DAC_OVERRIDE: u64 = 1 << 1;
const CAP_SYS_ADMIN: u64 = 1 << 21;

/// What is executed.
#[derive(Clone, Debug, Default)]
pub struct Program {
    /// argv, as given.
    pub args: Vec<String>,
    /// argv for execve(2).
    pub argv: Vec<CString>,
    /// The environment for execve(2).
    pub envp: Vec<CString>,
    /// Paths to try: one if `args[0]` has a slash, else one for each entry of PATH.
    pub candidates: Vec<CString>,
    /// HOME has to be looked up in the container's passwd file.
    pub wants_home: bool,
    /// A pseudoterminal was asked for.
    pub terminal: bool,
}

impl Program {
    pub(super) fn new(process: &spec::Process) -> Result<Self> {
        let name = process.args.first().ok_or_else(|| Error::new("no program to execute").at("process.args"))?;
        let strings =
            |list: &[String], field| list.iter().enumerate().map(|(i, s)| cstring(s, At::entry(field, i))).collect::<Result<Vec<_>>>();
        Ok(Self {
            args: process.args.clone(),
            argv: strings(&process.args, "process.args")?,
            envp: environment(&process.env)?,
            candidates: candidates(name, &process.env)?,
            wants_home: process.env.iter().rev().find_map(|e| e.strip_prefix("HOME=")).is_none_or(str::is_empty),
            terminal: process.terminal,
        })
    }
}

/// The last of several values counts, as in runc, and it alone is passed on: what a program makes of two is its own affair.
/// An empty HOME is none.
fn environment(env: &[String]) -> Result<Vec<CString>> {
    let mut seen = HashSet::new();
    let mut kept: Vec<_> = env.iter().enumerate().rev().filter(|(_, e)| seen.insert(e.split('=').next()) && *e != "HOME=").collect();
    kept.reverse();
    kept.into_iter().map(|(i, e)| cstring(e, At::entry("process.env", i))).collect()
}

/// The paths at which execvp(3) would look; PATH is the container's own and is not invented when absent, as in runc.
fn candidates(name: &str, env: &[String]) -> Result<Vec<CString>> {
    let at = At::entry("process.args", 0);
    if name.contains('/') {
        return Ok(vec![cstring(name, at)?]);
    }
    // The directories themselves are no programs.
    if name.is_empty() {
        return Ok(Vec::new());
    }
    let path = env.iter().rev().find_map(|e| e.strip_prefix("PATH=")).unwrap_or_default();
    path.split(':')
        .filter(|_| !path.is_empty())
        .map(|dir| cstring(&format!("{}/{name}", if dir.is_empty() { "." } else { dir }), at))
        .collect()
}

/// A capability set as a bit mask. Unknown names, which validation has warned about, are left out as in runc.
pub fn capability_set(names: &[String]) -> u64 {
    names.iter().filter_map(|name| names::capability(name)).fold(0, |set, n| set | 1 << n)
}

/// How many groups of resctrl the container's processes are in: a class of service, and one for monitoring.
pub(super) fn resctrl_groups(linux: &spec::Linux) -> usize {
    linux.intel_rdt.as_ref().map_or(0, |rdt| 1 + usize::from(rdt.enable_monitoring))
}

/// What takes privileges over the host: higher hard limits, the scheduling policy, the I/O
/// priority. The limits themselves are set when keel's own work is done (`identity`), which needs
/// more of everything than a program may be given.
pub(super) fn privileged(process: &spec::Process) -> Result<Vec<Op>> {
    let mut ops = rlimits(process)?;
    for op in &mut ops {
        if let Op::Rlimit { resource, hard, at, .. } = *op {
            *op = Op::RaiseLimit { resource, hard, at };
        }
    }
    ops.extend(priorities(process)?);
    Ok(ops)
}

fn priorities(process: &spec::Process) -> Result<Vec<Op>> {
    let mut ops: Vec<Op> = scheduler(process)?.into_iter().collect();
    if let Some(io) = &process.io_priority {
        let class = known(names::IO_CLASSES, &io.class, "process.ioPriority.class")?;
        // linux/ioprio.h: IOPRIO_PRIO_VALUE.
        ops.push(Op::IoPriority(class << 13 | io.priority.cast_unsigned() & 7));
    }
    Ok(ops)
}

fn known<T: Copy>(table: &[(&str, T)], name: &str, at: &'static str) -> Result<T> {
    names::value(table, name).ok_or_else(|| Error::new(format!("unknown word {name:?}")).at(at))
}

fn bits<T: Copy + Default + std::ops::BitOr<Output = T>>(table: &[(&str, T)], names: &[String], at: &'static str) -> Result<T> {
    names.iter().try_fold(T::default(), |all, name| Ok(all | known(table, name, at)?))
}

fn scheduler(process: &spec::Process) -> Result<Option<Op>> {
    let Some(given) = &process.scheduler else { return Ok(None) };
    let attr = SchedAttr {
        policy: known(names::SCHEDULERS, &given.policy, "process.scheduler.policy")?,
        flags: bits(names::SCHEDULER_FLAGS, &given.flags, "process.scheduler.flags")?,
        nice: given.nice,
        priority: given.priority.cast_unsigned(),
        runtime: given.runtime,
        deadline: given.deadline,
        period: given.period,
        ..SchedAttr::default()
    };
    Ok(Some(Op::Scheduler(Box::new(attr))))
}

/// The memory policy and the execution domain: of the container's every process, as in runc.
fn memory_and_domain(linux: &spec::Linux) -> Result<Vec<Op>> {
    let mut ops = Vec::new();
    if let Some(policy) = &linux.memory_policy {
        let mode = known(names::MEMORY_MODES, &policy.mode, "linux.memoryPolicy.mode")?;
        let flags = bits(names::MEMORY_FLAGS, &policy.flags, "linux.memoryPolicy.flags")?;
        let nodes = if policy.nodes.is_empty() { Ok(numbers::Set::default()) } else { numbers::parse(&policy.nodes) };
        let nodes = nodes.map_err(|why| Error::new(format!("the list of memory nodes {why}")).at("linux.memoryPolicy.nodes"))?;
        ops.push(Op::MemoryPolicy { mode: mode | flags, nodes: Box::new(nodes) });
    }
    if let Some(personality) = &linux.personality {
        ops.push(Op::Personality(known(names::PERSONALITIES, &personality.domain, "linux.personality.domain")?));
    }
    Ok(ops)
}

fn rlimits(process: &spec::Process) -> Result<Vec<Op>> {
    let one = |(i, limit): (usize, &spec::Rlimit)| {
        let at = At::entry("process.rlimits", i);
        let unknown = || Error::new(format!("unknown resource limit {:?}", limit.kind)).at(at.to_string());
        let resource = names::rlimit(&limit.kind).ok_or_else(unknown)?;
        Ok(Op::Rlimit { resource, soft: limit.soft, hard: limit.hard, at })
    };
    process.rlimits.iter().enumerate().map(one).collect()
}

/// crun's annotation by which podman's `--group-add keep-groups` lets a program reach what its user's groups may.
const KEEP_GROUPS: &str = "run.oci.keep_original_groups";

/// Whether the caller's supplementary groups are to stay.
pub(super) fn keeps_groups(spec: &spec::Spec) -> bool {
    spec.annotations.get(KEEP_GROUPS).is_some_and(|value| value == "1")
}

/// Everything of the host is closed: what follows is the tail. A pid namespace of others is entered first; the process that is
/// in it then has a session of its own, whose terminal is on its stdin.
pub(super) fn begin_tail(plan: &mut Plan) {
    plan.tail = plan.ops.len();
    if plan.enters_pids {
        plan.ops.extend([Op::CloneAgain(0), Op::Setsid]);
    }
    if plan.process.terminal {
        plan.ops.push(Op::ControllingTerminal);
    }
}

/// From a root process in its namespaces to the user's program.
///
/// The sequence and its reasons:
/// - resource limits and priorities only now, since keel itself needs more descriptors than a program may be given;
/// - keepcaps before the change of user, capset(2) after it, ambient after capset (capabilities(7));
/// - groups, then gid, then uid, since each needs the privileges that the next gives up;
/// - the working directory is entered both before (a directory only root may search) and after (one that only the user
///   may, on NFS), and verified once;
/// - labels before no_new_privs; a seccomp filter last of all, so that it need not allow anything of ours but capset;
///   without no_new_privs, loading it takes CAP_SYS_ADMIN, which is held until then and dropped by the last capset.
///   One with a listener comes before the wait for `start`, where [`seccomp::hands_over_at_create`].
pub(super) fn identity(plan: &mut Plan, process: &spec::Process, linux: &spec::Linux, facts: &Facts, park: Option<Op>) -> Result<()> {
    let user = &process.user;
    let caps = process.capabilities.clone().unwrap_or_default();
    // In a new user namespace the process has every capability; else at most those that keel itself has.
    let available = if plan.in_user_namespace { u64::MAX } else { facts.capabilities };
    let lacking = (capability_set(&caps.bounding) | capability_set(&caps.permitted)) & !available;
    if lacking != 0 {
        plan.warnings.push(format!("keel itself lacks these capabilities, so the container will: {}", names::capability_names(lacking)));
    }
    plan.capabilities = [&caps.effective, &caps.permitted, &caps.inheritable].map(|names| capability_set(names) & available);
    let [effective, permitted, inheritable] = plan.capabilities;
    plan.ops.extend(rlimits(process)?);
    if !plan.in_user_namespace {
        plan.ops.extend(priorities(process)?);
    }
    if let (Some([soft, hard]), false) = (plan.descriptors, process.rlimits.iter().any(|limit| limit.kind == "RLIMIT_NOFILE")) {
        plan.ops.push(Op::Rlimit { resource: libc::RLIMIT_NOFILE, soft, hard, at: At::default() });
    }
    let admin = if keeps_admin(plan, process, linux) { CAP_SYS_ADMIN } else { 0 };
    let ops = &mut plan.ops;
    // Root too, since it may be about to lose what lets it search any directory.
    if user.uid != 0 || effective & CAP_DAC_OVERRIDE == 0 && process.cwd != "/" {
        ops.push(Op::TryChdir(cstring(&process.cwd, At::field("process.cwd"))?));
    }
    ops.push(Op::BoundingSet(capability_set(&caps.bounding)));
    if user.uid != 0 {
        ops.push(Op::KeepCaps);
    }
    if plan.keeps_groups {
        if !user.additional_gids.is_empty() {
            let ignored = format!("process.user.additionalGids is ignored, as the annotation {KEEP_GROUPS} keeps the caller's groups");
            plan.warnings.push(ignored);
        }
    } else if plan.groups_may_stay && user.additional_gids.is_empty() {
        // `BecomeRoot` has given up what can be given up.
    } else if !plan.groups_denied {
        ops.push(Op::Groups(user.additional_gids.clone()));
    } else if !user.additional_gids.is_empty() {
        return Err(Error::new("additional groups cannot be set: the kernel forbids setgroups(2) where a user maps only its own id")
            .at("process.user.additionalGids"));
    }
    ops.push(Op::Gid(user.gid));
    if user.uid != 0 || plan.in_user_namespace {
        ops.push(Op::OwnStdio(user.uid));
    }
    ops.push(Op::Uid(user.uid));
    ops.push(Op::Capset { effective: effective | admin, permitted: permitted | admin, inheritable });
    let (ambient, possible) = (capability_set(&caps.ambient) & available, permitted & inheritable);
    if ambient & !possible != 0 {
        let names = names::capability_names(ambient & !possible);
        plan.warnings.push(format!("can't raise ambient capability {names}: it has to be permitted and inheritable too (capabilities(7))"));
    }
    if ambient & possible != 0 {
        ops.push(Op::Ambient(ambient & possible));
    }
    if !plan.process.terminal {
        // As the user, since this device node may be anything by now; after the close of what is the host's.
        ops.push(Op::OwnNull);
    }
    ops.push(Op::Cwd(cstring(&process.cwd, At::field("process.cwd"))?));
    ops.extend(memory_and_domain(linux)?);
    ops.push(Op::Umask(user.umask.unwrap_or(0o022)));
    if plan.process.wants_home {
        ops.push(Op::Home(user.uid));
    }
    ops.push(Op::FindProgram);
    if process.no_new_privileges {
        ops.push(Op::NoNewPrivs);
    }
    let early = park == Some(Op::Sync(Stage::Created)) && waits_under_filter(linux);
    if early {
        filter(plan, process, linux)?;
    }
    plan.ops.extend(park);
    last(plan, process, linux, !early)
}

/// See [`seccomp::hands_over_at_create`].
pub(super) fn waits_under_filter(linux: &spec::Linux) -> bool {
    linux.seccomp.as_ref().is_some_and(seccomp::hands_over_at_create)
}

/// Loading a filter without no_new_privs takes CAP_SYS_ADMIN (seccomp(2)).
fn keeps_admin(plan: &Plan, process: &spec::Process, linux: &spec::Linux) -> bool {
    linux.seccomp.is_some() && !process.no_new_privileges && plan.capabilities[1] & CAP_SYS_ADMIN == 0
}

/// What is left after `start`.
pub(super) fn last(plan: &mut Plan, process: &spec::Process, linux: &spec::Linux, filtered: bool) -> Result<()> {
    plan.last = plan.ops.len();
    if filtered {
        filter(plan, process, linux)?;
    }
    plan.ops.push(Op::Exec);
    Ok(())
}

/// The filter, its listener, and what had to be kept for it.
fn filter(plan: &mut Plan, process: &spec::Process, linux: &spec::Linux) -> Result<()> {
    if let Some(profile) = &linux.seccomp {
        plan.ops.push(Op::Seccomp);
        plan.ops.extend(seccomp::handover(profile)?.map(|how| Op::Sync(Stage::Listener(how))));
    }
    if keeps_admin(plan, process, linux) {
        let [effective, permitted, inheritable] = plan.capabilities;
        plan.ops.push(Op::Capset { effective, permitted, inheritable });
    }
    Ok(())
}

/// The OOM score: through the host's /proc, so before any mount namespace is entered, and while this process is still dumpable,
/// since the files of a non-dumpable process belong to global root.
pub(super) fn oom_score(process: &spec::Process) -> Result<Option<Op>> {
    process.oom_score_adj.map(|score| Ok(Op::OomScoreAdj(cstring(&score.to_string(), At::default())?))).transpose()
}

/// The labels, through the host's /proc too. At once, though they are wanted last: only who has opened the attribute may write it, and
/// the process that execs may be the next (`CloneAgain`), which inherits what is written. With SELinux the session keyring (`keyring`)
/// has the program's label, which it could not use otherwise; execve(2) resets that attribute.
pub(super) fn labels(process: &spec::Process, facts: &Facts, keyring: bool) -> Result<Vec<Op>> {
    let profile = if process.apparmor_profile == "unconfined" { "" } else { &process.apparmor_profile };
    let (apparmor, selinux) = (At::field("process.apparmorProfile"), At::field("process.selinuxLabel"));
    let context = &process.selinux_label;
    let all = [
        (
            !profile.is_empty(),
            facts.apparmor,
            "AppArmor",
            "exec",
            c"/proc/thread-self/attr/apparmor/exec",
            format!("exec {profile}"),
            apparmor,
        ),
        (!context.is_empty(), facts.selinux, "SELinux", "exec", c"/proc/thread-self/attr/exec", context.clone(), selinux),
        (!context.is_empty() && keyring, true, "SELinux", "keys", c"/proc/thread-self/attr/keycreate", context.clone(), selinux),
    ];
    let wanted = all.into_iter().filter(|(wanted, ..)| *wanted);
    wanted
        .map(|(_, present, module, what, path, label, at)| match present {
            true => Ok(Op::Label { what, file: path.into(), label: cstring(&label, at)?, at }),
            false => Err(Error::new(format!("{module} is not enabled on this host")).at(at.to_string())),
        })
        .collect()
}
