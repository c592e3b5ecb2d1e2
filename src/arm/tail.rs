//! The tail of a plan, laid out for a child that has no other memory any more.

use crate::plan::seccomp::Filter;
use crate::plan::{Op, Plan, Stage};
use crate::sys::{Error, Last, Program, Result, Steps, Tail};

/// Lays out the operations from [`Plan::tail`] on.
///
/// # Errors
/// There is no memory, or an operation that a tail does not have.
pub(super) fn lay_out(plan: &Plan, filter: Option<&Filter>, times: Option<Steps>) -> Result<Tail> {
    let impossible = |op: &Op| Error::new(format!("a tail cannot {}", plan.sentence(op)));
    let ops = plan.ops.get(plan.tail..).unwrap_or_default();
    let steps = ops.iter().map(|op| last(op, plan).ok_or_else(|| impossible(op))).collect::<Result<Vec<_>>>()?;
    let program = &plan.process;
    let program = Program {
        argv: &program.argv,
        envp: &program.envp,
        home: program.wants_home,
        candidates: &program.candidates,
        filter: filter.map(|filter| (&filter.program[..], filter.flags)),
    };
    Tail::new(&steps, plan.tail as u32, &program, times)
}

fn last<'p>(op: &'p Op, plan: &Plan) -> Option<Last<'p>> {
    Some(match op {
        Op::CloneAgain(0) => Last::CloneAgain,
        Op::Setsid => Last::Setsid,
        Op::OpenProc => Last::OpenProc,
        Op::ControllingTerminal => Last::ControllingTerminal,
        Op::DieWithParent => Last::DieWithParent,
        Op::Rlimit { resource, soft, hard, .. } => Last::Rlimit { resource: *resource, soft: *soft, hard: *hard },
        Op::Scheduler(attr) => Last::Scheduler(attr),
        Op::IoPriority(priority) => Last::IoPriority(*priority),
        Op::MemoryPolicy { mode, nodes } => Last::MemoryPolicy(*mode, &nodes[..]),
        Op::Personality(domain) => Last::Personality(*domain),
        Op::BoundingSet(set) => Last::BoundingSet(*set),
        Op::KeepCaps => Last::KeepCaps,
        Op::Groups(groups) => Last::Groups(groups),
        Op::Gid(gid) => Last::Gid(*gid),
        Op::Uid(uid) => Last::Uid(*uid),
        Op::OwnStdio(uid) => Last::OwnStdio { uid: *uid, terminal: plan.process.terminal },
        Op::OwnNull => Last::OwnNull,
        Op::Capset { effective, permitted, inheritable } => {
            Last::Capset { effective: *effective, permitted: *permitted, inheritable: *inheritable }
        }
        Op::Ambient(set) => Last::Ambient(*set),
        Op::TryChdir(path) => Last::TryChdir(path),
        Op::Cwd(path) => Last::Cwd(path),
        Op::Umask(mask) => Last::Umask(*mask),
        Op::Home(uid) => Last::Home(*uid),
        Op::FindProgram => Last::FindProgram,
        Op::NoNewPrivs => Last::NoNewPrivs,
        Op::Sync(Stage::Created) => Last::Park,
        Op::Sync(Stage::StartContainer) => Last::Tell,
        Op::Sync(Stage::Listener(how)) => Last::HandOver(*how),
        Op::Seccomp => Last::Seccomp,
        Op::Exec => Last::Exec,
        _ => return None,
    })
}
