//! What the words of a profile mean: actions, comparisons, flags. Names are those of seccomp.h and seccomp(2).

use crate::spec::{SyscallArg, SyscallRule};
use crate::sys::{Error, Result};

/// The actions a profile may name (config-linux.md, "Seccomp"), for `features`.
///
/// `SCMP_ACT_NOTIFY` is missing: nothing of ours hands a listener on yet.
pub const ACTIONS: [&str; 8] = [
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_LOG",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_TRAP",
];

/// The comparisons a profile may name, for `features`.
pub const OPERATORS: [&str; 7] =
    ["SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT", "SCMP_CMP_MASKED_EQ", "SCMP_CMP_NE"];

/// The flags a profile may name, for `features`.
pub const FLAGS: [&str; 4] =
    ["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"];

/// The largest errno that the kernel hands to a program (`MAX_ERRNO` of linux/err.h); it would cut a larger one down.
const MAX_ERRNO: u32 = 4095;

/// One entry of `syscalls`: what is done, and when.
pub(super) struct Rule {
    /// The filter's return value.
    pub action: u32,
    /// Any of these must hold; in each, all conditions must.
    pub alternatives: Vec<Vec<Condition>>,
}

/// `(argument & mask) test value`, or its opposite.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Condition {
    pub index: u8,
    pub test: Test,
    pub mask: u64,
    pub value: u64,
    pub negated: bool,
}

/// How an argument is compared. The other three of the six comparisons are the opposites of these.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Test {
    Equal,
    Greater,
    GreaterOrEqual,
}

impl Condition {
    /// The first argument of socketcall(2) or ipc(2) that makes the given call.
    pub fn multiplexed(call: u8) -> Self {
        Self { index: 0, test: Test::Equal, mask: u64::MAX, value: u64::from(call), negated: false }
    }

    /// What is left to compare in an ABI whose registers have 32 bits.
    pub fn narrow(self) -> Self {
        Self { mask: self.mask & 0xffff_ffff, value: self.value & 0xffff_ffff, ..self }
    }

    /// Whether every argument fulfils it: a mask without bits compares nothing.
    pub fn always(self) -> bool {
        self.mask == 0 && !self.negated
    }
}

impl Rule {
    /// `at` makes the path of one of the rule's fields.
    pub fn new(rule: &SyscallRule, at: &dyn Fn(&str) -> String) -> Result<Self> {
        let action = action(&rule.action, rule.errno_ret, ["action", "errnoRet"], at)?;
        if let Some(i) = rule.names.iter().position(String::is_empty) {
            return Err(Error::new("a system call's name is empty").at(at(&format!("names[{i}]"))));
        }
        let conditions = (rule.args.iter().enumerate())
            .map(|(i, arg)| condition(arg, &|field| at(&format!("args[{i}].{field}"))))
            .collect::<Result<Vec<_>>>()?;
        // As runc: two conditions on one argument could seldom both hold, so they are read as alternatives, all of them.
        let twice = conditions.iter().enumerate().any(|(i, a)| conditions[..i].iter().any(|b| a.index == b.index));
        let alternatives = if twice { conditions.into_iter().map(|c| vec![c]).collect() } else { vec![conditions] };
        Ok(Self { action, alternatives })
    }
}

/// The filter's return value for an action; `errno` goes with `ERRNO` and `TRACE` alone and is EPERM when absent.
///
/// `fields` are the names of the two fields, of which `at` makes paths.
pub(super) fn action(name: &str, errno: Option<u32>, fields: [&str; 2], at: &dyn Fn(&str) -> String) -> Result<u32> {
    let (value, limit) = match name {
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => (libc::SECCOMP_RET_KILL_THREAD, None),
        "SCMP_ACT_KILL_PROCESS" => (libc::SECCOMP_RET_KILL_PROCESS, None),
        "SCMP_ACT_TRAP" => (libc::SECCOMP_RET_TRAP, None),
        "SCMP_ACT_ERRNO" => (libc::SECCOMP_RET_ERRNO, Some(MAX_ERRNO)),
        "SCMP_ACT_TRACE" => (libc::SECCOMP_RET_TRACE, Some(libc::SECCOMP_RET_DATA)),
        "SCMP_ACT_LOG" => (libc::SECCOMP_RET_LOG, None),
        "SCMP_ACT_ALLOW" => (libc::SECCOMP_RET_ALLOW, None),
        "SCMP_ACT_NOTIFY" => return Err(Error::new("SCMP_ACT_NOTIFY: a seccomp listener is not supported yet").at(at(fields[0]))),
        "" => return Err(Error::new("a seccomp action is missing").at(at(fields[0]))),
        _ => return Err(Error::new(format!("{name} is not a seccomp action")).at(at(fields[0]))),
    };
    match (limit, errno) {
        (Some(limit), Some(errno)) if errno > limit => {
            Err(Error::new(format!("{name} cannot return {errno}, the largest is {limit}")).at(at(fields[1])))
        }
        (Some(_), errno) => Ok(value | errno.unwrap_or(libc::EPERM as u32)),
        (None, Some(_)) => Err(Error::new(format!("{name} returns no errno")).at(at(fields[1]))),
        (None, None) => Ok(value),
    }
}

/// `valueTwo` counts for `SCMP_CMP_MASKED_EQ` alone: `value` is the mask there, in the others what is compared with.
fn condition(arg: &SyscallArg, at: &dyn Fn(&str) -> String) -> Result<Condition> {
    let index = u8::try_from(arg.index)
        .ok()
        .filter(|i| *i < 6)
        .ok_or_else(|| Error::new(format!("a system call has no argument {}, the last is 5", arg.index)).at(at("index")))?;
    let (test, negated) = match arg.op.as_str() {
        "SCMP_CMP_EQ" | "SCMP_CMP_MASKED_EQ" => (Test::Equal, false),
        "SCMP_CMP_NE" => (Test::Equal, true),
        "SCMP_CMP_GT" => (Test::Greater, false),
        "SCMP_CMP_LE" => (Test::Greater, true),
        "SCMP_CMP_GE" => (Test::GreaterOrEqual, false),
        "SCMP_CMP_LT" => (Test::GreaterOrEqual, true),
        "" => return Err(Error::new("a seccomp comparison is missing").at(at("op"))),
        op => return Err(Error::new(format!("{op} is not a seccomp comparison")).at(at("op"))),
    };
    let (mask, value) = if arg.op == "SCMP_CMP_MASKED_EQ" { (arg.value, arg.value_two & arg.value) } else { (u64::MAX, arg.value) };
    Ok(Condition { index, test, mask, value, negated })
}

/// The flags for seccomp(2).
///
/// As in runc: where the field is absent, `SPEC_ALLOW`, because a container's speed should not depend on a mitigation that kernels
/// since 5.16 leave to prctl(2) anyway; `TSYNC` changes nothing, for a process about to execute its program has one
/// thread. `WAIT_KILLABLE_RECV` says how a listener's caller waits, and there is no listener.
pub(super) fn flags(names: Option<&[String]>) -> Result<u32> {
    let Some(names) = names else {
        return Ok(libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW as u32);
    };
    let mut flags = 0;
    for (i, name) in names.iter().enumerate() {
        flags |= match name.as_str() {
            "SECCOMP_FILTER_FLAG_LOG" => libc::SECCOMP_FILTER_FLAG_LOG as u32,
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW as u32,
            "SECCOMP_FILTER_FLAG_TSYNC" | "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" => 0,
            _ => return Err(Error::new(format!("{name} is not a seccomp flag")).at(format!("linux.seccomp.flags[{i}]"))),
        };
    }
    Ok(flags)
}
