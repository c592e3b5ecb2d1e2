//! config.md, "Process".

use super::{absolute, environment, no_nul, scheduling};
use crate::spec::names::{capability, rlimit};
use crate::spec::user::UNCHANGED;
use crate::spec::{Capabilities, Process, User};
use crate::sys::{Error, Result};

pub(super) fn check(process: &Process, warnings: &mut Vec<String>) -> Result<()> {
    absolute(&process.cwd, "the working directory", || "process.cwd".into())?;
    if process.args.is_empty() {
        return Err(Error::new("there is no program to run: args must not be empty").at("process.args"));
    }
    for (i, arg) in process.args.iter().enumerate() {
        no_nul(arg, || format!("process.args[{i}]"))?;
    }
    environment(&process.env, "process.env")?;
    user(&process.user, warnings)?;
    rlimits(process)?;
    if let Some(sets) = &process.capabilities {
        capabilities(sets, warnings)?;
    }
    if let Some(score) = process.oom_score_adj.filter(|score| !(-1000..=1000).contains(score)) {
        return Err(Error::new(format!("{score} is outside of -1000 to 1000, proc_pid_oom_score_adj(5)")).at("process.oomScoreAdj"));
    }
    scheduling::process(process)?;
    if !process.command_line.is_empty() {
        warnings.push("process.commandLine is not for Linux and is ignored".into());
    }
    no_nul(&process.apparmor_profile, || "process.apparmorProfile".into())?;
    no_nul(&process.selinux_label, || "process.selinuxLabel".into())
}

fn user(user: &User, warnings: &mut Vec<String>) -> Result<()> {
    let refuse = |at: String| Err(Error::new("4294967295 is no id: it means \"unchanged\" to setresuid(2)").at(at));
    if user.uid == UNCHANGED {
        return refuse("process.user.uid".into());
    }
    if user.gid == UNCHANGED {
        return refuse("process.user.gid".into());
    }
    if let Some(i) = user.additional_gids.iter().position(|gid| *gid == UNCHANGED) {
        return refuse(format!("process.user.additionalGids[{i}]"));
    }
    if let Some(umask) = user.umask.filter(|umask| *umask > 0o777) {
        return Err(
            Error::new(format!("umask {umask} (octal {umask:o}) has more than the permission bits, umask(2)")).at("process.user.umask")
        );
    }
    if !user.username.is_empty() {
        warnings.push("process.user.username is not for Linux and is ignored".into());
    }
    Ok(())
}

fn rlimits(process: &Process) -> Result<()> {
    let mut seen = 0_u32;
    for (i, limit) in process.rlimits.iter().enumerate() {
        let refuse = |why: String| Err(Error::new(format!("{:?} {why}", limit.kind)).at(format!("process.rlimits[{i}]")));
        let Some(number) = rlimit(&limit.kind) else {
            return refuse("is not a resource limit of getrlimit(2)".into());
        };
        if seen & 1 << number != 0 {
            return refuse("is given twice".into());
        }
        if limit.soft > limit.hard {
            return refuse(format!("has the soft limit {} above the hard limit {}", limit.soft, limit.hard));
        }
        seen |= 1 << number;
    }
    Ok(())
}

/// An unknown name only warns, as with runc: configurations are written for kernels newer than the runtime. A set that
/// capset(2) is sure to refuse is refused here, where the name can still be said.
fn capabilities(sets: &Capabilities, warnings: &mut Vec<String>) -> Result<()> {
    let lists = [
        ("bounding", &sets.bounding),
        ("effective", &sets.effective),
        ("inheritable", &sets.inheritable),
        ("permitted", &sets.permitted),
        ("ambient", &sets.ambient),
    ];
    let mut bits = [0_u64; 5];
    for (set, (name, list)) in bits.iter_mut().zip(lists) {
        for (i, cap) in list.iter().enumerate() {
            match capability(cap) {
                Some(number) => *set |= 1 << number,
                None => warnings.push(format!("process.capabilities.{name}[{i}]: {cap:?} is not a capability keel knows and is ignored")),
            }
        }
    }
    let [_, effective, _, permitted, _] = bits;
    if let Some(cap) = sets.effective.iter().find(|cap| capability(cap).is_some_and(|n| effective & !permitted & 1 << n != 0)) {
        return Err(Error::new(format!("{cap} is effective but not permitted, capset(2)")).at("process.capabilities.effective"));
    }
    Ok(())
}
