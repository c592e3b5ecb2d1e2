//! The plan of `exec`: the same spawn with a shorter list.

use super::{At, Facts, Op, Plan, Program, cstring, join_keyring, process};
use crate::spec::{Hook, Process, Spec, numbers};
use crate::sys::{Error, Result, ns};
use std::ffi::CStr;

/// A process in the namespaces `kinds` of a running container, whose `config.json` was `spec`.
pub fn exec(spec: &Spec, process: &Process, kinds: u64, facts: &Facts) -> Result<Plan> {
    let plan = Plan { process: Program::new(process)?, ..Plan::default() };
    enter(plan, spec, process, kinds, facts, None)
}

/// Appends the way into the container and the identity that `process` has there; `before` comes last of what needs no filter.
fn enter(mut plan: Plan, spec: &Spec, process: &Process, kinds: u64, facts: &Facts, before: Option<Op>) -> Result<Plan> {
    plan.ops.extend((0..facts.cgroup.tasks).map(Op::JoinCgroup));
    plan.ops.extend((0..process::resctrl_groups(&spec.linux)).map(Op::JoinResctrl));
    affinity(&mut plan, process)?;
    plan.ops.extend(process::oom_score(process)?);
    plan.ops.extend(process::labels(process, facts, facts.keyring.is_some())?);
    plan.in_user_namespace = kinds & ns::USER != 0;
    if plan.in_user_namespace {
        // There are no rights to raise limits in there.
        plan.ops.extend(process::privileged(process)?);
    }
    join_init(&mut plan, kinds, facts);
    // Else what is on the caller's session keyring would be there for whoever runs in the container.
    plan.ops.extend(join_keyring(facts.keyring.as_ref())?);
    if !plan.enters_pids {
        plan.ops.push(Op::Setsid);
    }
    if plan.process.terminal {
        let size = process.console_size.as_ref().map(|s| (s.height, s.width));
        plan.ops.push(Op::Console { bind: false, size, bare_newlines: false });
    }
    plan.ops.push(Op::CloseFds);
    let (ordinary, gids) = (kinds & ns::USER != 0 && !facts.privileged, &spec.linux.gid_mappings);
    plan.groups_denied = facts.groups_denied || ordinary && gids.len() == 1 && gids[0].size == 1;
    plan.groups_may_stay = ordinary;
    plan.keeps_groups = process::keeps_groups(spec);
    plan.descriptors = facts.descriptors;
    process::begin_tail(&mut plan);
    process::identity(&mut plan, process, &spec.linux, facts, before)?;
    Ok(plan)
}

/// config.md, "execCPUAffinity": the parent goes to the initial CPUs and the child, which is a copy of it, to the final
/// ones once it is in its cgroup. Without final ones the runtime should change nothing then. Without either it may go wherever its
/// cpuset lets it, whatever the caller may, as from runc and crun.
fn affinity(plan: &mut Plan, process: &Process) -> Result<()> {
    let cpus = |list: &str, field| match list {
        "" => Ok(None),
        _ => numbers::parse(list).map(Some).map_err(|why| Error::new(format!("the list of CPUs {list:?} {why}")).at(field)),
    };
    let given = process.exec_cpu_affinity.as_ref();
    plan.affinity = given.map_or(Ok(None), |given| cpus(&given.initial, "process.execCPUAffinity.initial"))?;
    let last = given.map_or(Ok(None), |given| cpus(&given.last, "process.execCPUAffinity.final"))?;
    let whole = plan.affinity.is_none().then_some(numbers::ALL);
    plan.ops.extend(last.or(whole).map(|cpus| Op::CpuAffinity(Box::new(cpus))));
    Ok(())
}

/// From our namespaces into the container's, by one setns(2) on the pidfd of its first process. The pid namespace takes effect
/// only for children: those who are in it see the process that the tail clones, and this one never
/// ([0024](../../docs/decisions/0024-born-blind.md)).
fn join_init(plan: &mut Plan, kinds: u64, facts: &Facts) {
    plan.enters_pids = kinds & ns::PID != 0;
    plan.ops.push(Op::NonDumpable);
    if kinds != 0 {
        plan.ops.push(Op::JoinInit(kinds));
    }
    if let Some((path, mount)) = &facts.shared_root {
        plan.ops.push(Op::EnterRoot { path: path.clone(), mount: *mount });
    }
    if kinds & ns::USER != 0 {
        plan.ops.push(Op::BecomeRoot);
    }
}

/// A hook `startContainer`, which is a file of the container's: it runs as the program would, with the program's user, capabilities,
/// limits and seccomp filter, as in runc and crun, whose first process runs these hooks itself. Without an environment of its own it
/// has the program's.
pub fn start_hook(hook: &Hook, spec: &Spec, kinds: u64, facts: &Facts) -> Result<Plan> {
    let program = spec.process.clone().unwrap_or_default();
    let process = Process {
        args: if hook.args.is_empty() { vec![hook.path.clone()] } else { hook.args.clone() },
        env: hook.env.clone().unwrap_or(program.env),
        terminal: false,
        exec_cpu_affinity: None,
        ..program
    };
    let mut program = Program::new(&process)?;
    program.candidates = vec![cstring(&hook.path, At::default())?];
    program.args = vec![hook.path.clone()];
    program.wants_home &= hook.env.is_none();
    let plan = Plan { process: program, ops: vec![Op::Stdio], ..Plan::default() };
    // As in `hook`, and last for the same reason.
    enter(plan, spec, &process, kinds, facts, Some(Op::DieWithParent))
}

/// A hook: on the host with `kinds` 0, else in the container's namespaces with `root`, its root file system, as the working directory:
/// hooks address it by `.`, as runc lets them. Without an environment of its own it gets `inherited`.
pub fn hook(hook: &Hook, inherited: &[std::ffi::CString], kinds: u64, root: &CStr, facts: &Facts) -> Result<Plan> {
    let args = if hook.args.is_empty() { vec![hook.path.clone()] } else { hook.args.clone() };
    let strings = |list: &[String]| list.iter().map(|s| cstring(s, At::default())).collect::<Result<Vec<_>>>();
    let program = Program {
        argv: strings(&args)?,
        envp: hook.env.as_deref().map(strings).transpose()?.unwrap_or_else(|| inherited.to_vec()),
        candidates: vec![cstring(&hook.path, At::default())?],
        args: vec![hook.path.clone()],
        ..Program::default()
    };
    let groups_may_stay = kinds & ns::USER != 0 && !facts.privileged;
    let mut plan = Plan { process: program, groups_denied: facts.groups_denied, groups_may_stay, ..Plan::default() };
    plan.ops.push(Op::Stdio);
    if kinds != 0 {
        join_init(&mut plan, kinds, facts);
        plan.ops.push(Op::HookDirectory(root.into()));
    }
    plan.ops.push(Op::CloseFds);
    plan.tail = plan.ops.len();
    if plan.enters_pids {
        plan.ops.push(Op::CloneAgain(0));
    }
    plan.ops.push(Op::Umask(0o022));
    plan.ops.extend(facts.descriptors.map(|[soft, hard]| Op::Rlimit { resource: libc::RLIMIT_NOFILE, soft, hard, at: At::default() }));
    // A create that is killed must not leave its hook behind. Last, as joining a user namespace clears it.
    plan.ops.push(Op::DieWithParent);
    plan.ops.push(Op::FindProgram);
    plan.last = plan.ops.len();
    plan.ops.push(Op::Exec);
    Ok(plan)
}
