//! What the words of a profile mean: actions, comparisons, flags. Names are those of seccomp.h and seccomp(2).

use crate::spec::{Seccomp, SyscallArg, SyscallRule, names};
use crate::sys::HandOver as Handover;
use crate::sys::{Error, Result};

/// The largest errno that the kernel hands to a program (`MAX_ERRNO` of linux/err.h); it would cut a larger one down.
const MAX_ERRNO: u32 = 4095;

/// One entry of `syscalls`: what is done, and when.
pub(super) struct Rule {
    /// The filter's return value.
    pub action: u32,
    /// Any of these must hold; in each, all conditions must.
    pub alternatives: Vec<Vec<Condition>>,
}

/// `(argument & mask) test value`, or its opposite. The mask of the two that are not `Equal` has
/// all bits that are read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Condition {
    pub index: u8,
    pub test: Test,
    pub mask: u64,
    pub value: u64,
    pub negated: bool,
}

/// What a condition comes to where the kernel reads only a part of an argument.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Always,
    Never,
    Depends(Condition),
}

/// How an argument is compared. The other three of the six comparisons are the opposites of these.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Test {
    Equal,
    Greater,
    GreaterOrEqual,
}

impl Condition {
    /// The first argument of socketcall(2) or ipc(2) that makes the given call, in registers of 32 bits.
    pub fn multiplexed(call: u8) -> Self {
        Self { index: 0, test: Test::Equal, mask: u64::from(u32::MAX), value: u64::from(call), negated: false }
    }

    /// What becomes of the condition if the kernel reads only these bits of the argument.
    ///
    /// It holds of an argument if it would hold of the bits that are read, taken without a sign, as
    /// seccomp compares. No argument can have the value that needs more bits, so the answer is
    /// known then. A negative number is the exception: its author means the lower bits, as -1 is
    /// 0xffffffff to the kernel's `int`.
    pub fn read(self, bits: u64) -> Outcome {
        let unread = self.mask & !bits;
        let sign = bits ^ bits >> 1;
        let extended = |ones: u64| ones != 0 && self.value & unread == ones;
        let negative = self.value & sign != 0 && (extended(unread) || extended(unread & u64::from(u32::MAX)));
        let value = if negative { self.value & bits } else { self.value };
        let mask = self.mask & bits;
        let holds = match self.test {
            _ if value & !bits != 0 => self.negated,
            Test::Equal if mask == 0 => !self.negated,
            _ => return Outcome::Depends(Self { mask, value, ..self }),
        };
        if holds { Outcome::Always } else { Outcome::Never }
    }

    /// Whether every argument fulfils it: a mask without bits compares nothing.
    pub fn always(self) -> bool {
        self.mask == 0 && !self.negated
    }
}

impl Rule {
    /// All conditions, in the order of the profile.
    pub fn conditions(&self) -> impl Iterator<Item = Condition> {
        self.alternatives.iter().flatten().copied()
    }

    /// Whether the profile sets no condition, or one that compares no bit. A condition that holds
    /// because the kernel reads too little is not meant: the rule would override others, which its
    /// author did not ask for.
    pub fn unconditional(&self) -> bool {
        self.alternatives.iter().any(|conditions| conditions.iter().all(|condition| condition.always()))
    }

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
        "SCMP_ACT_NOTIFY" => (libc::SECCOMP_RET_USER_NOTIF, None),
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
/// thread, and the kernel takes it together with a listener only under conditions. `WAIT_KILLABLE_RECV` says how a
/// notified call waits, and the kernel takes it with a listener only.
pub(super) fn flags(names: Option<&[String]>, notifies: bool, warnings: &mut Vec<String>) -> Result<u32> {
    let listener = if notifies { libc::SECCOMP_FILTER_FLAG_NEW_LISTENER } else { 0 };
    let Some(names) = names else {
        return Ok((libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW | listener) as u32);
    };
    let mut flags = listener;
    for (i, name) in names.iter().enumerate() {
        let at = || format!("linux.seccomp.flags[{i}]");
        flags |= match names::value(names::SECCOMP_FLAGS, name) {
            None => return Err(Error::new(format!("{name} is not a seccomp flag")).at(at())),
            Some(libc::SECCOMP_FILTER_FLAG_TSYNC) => 0,
            Some(libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV) if !notifies => {
                warnings.push(format!("{}: {name} has no effect, as no rule has SCMP_ACT_NOTIFY", at()));
                0
            }
            Some(flag) => flag,
        };
    }
    Ok(flags as u32)
}

/// How a process hands its listener to its parent once its filter is loaded, and so under it: by sendmsg(2), else by
/// writing its number with write(2), at which the parent takes it with pidfd_getfd(2), which needs CAP_SYS_PTRACE.
///
/// # Errors
/// A profile that permits neither: a notified call waits for the agent, which does not have the listener yet.
pub fn handover(seccomp: &Seccomp) -> Result<Option<Handover>> {
    match () {
        () if !seccomp.notifies() => Ok(None),
        () if permits(seccomp, "sendmsg") => Ok(Some(Handover::Message)),
        () if permits(seccomp, "write") => Ok(Some(Handover::Number)),
        () => Err(Error::new("a profile with SCMP_ACT_NOTIFY has to permit sendmsg or write, by which its listener is handed over")
            .at("linux.seccomp.syscalls")),
    }
}

/// Whether a container that waits for `start` waits under its filter, so that `create` hands the listener over, as with runc: where the
/// profile permits the calls that the wait takes. Else `start` does.
pub fn hands_over_at_create(seccomp: &Seccomp) -> bool {
    const WAIT: [&str; 7] = ["read", "sendto", "recvfrom", "accept4", "close", "madvise", "rt_sigaction"];
    seccomp.notifies() && WAIT.iter().all(|call| permits(seccomp, call))
}

/// Whether the profile lets a call pass, whatever its arguments.
fn permits(seccomp: &Seccomp, call: &str) -> bool {
    let rules = || seccomp.syscalls.iter().filter(|rule| rule.names.iter().any(|name| name == call));
    let permits = |action: &String| matches!(action.as_str(), "SCMP_ACT_ALLOW" | "SCMP_ACT_LOG");
    match rules().find(|rule| rule.args.is_empty()) {
        Some(decides) => permits(&decides.action),
        None => permits(&seccomp.default_action) && rules().all(|rule| permits(&rule.action)),
    }
}
