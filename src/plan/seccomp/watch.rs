//! A filter that tells: calls that it refuses, or permits, wait for a listener's answer instead (seccomp_unotify(2)).
//!
//! The compiled program stays what it is but for the values that it returns. The listener's reader runs the program as it was
//! ([`verdict`]) on what the kernel tells it of the call, and so gives the profile's own answer. A call that goes on was
//! judged by its registers alone, as filters do, so nobody can change what it was judged by.

use super::abi::{self, ARM, Abi, X86};
use super::emit::{self, Program, Target};
use super::{Filter, NATIVE};
use crate::spec::{Seccomp, SyscallRule};
use crate::sys::{SeccompData, SockFilter};
use std::collections::BTreeSet;

/// Whether a verdict is one that the listener's reader can give in the kernel's place. `TRAP` is not, since only the kernel
/// can tell a program's handler which call it was; `TRACE` is another tracer's.
fn refuses(verdict: u32) -> bool {
    let action = verdict & libc::SECCOMP_RET_ACTION_FULL;
    [libc::SECCOMP_RET_ERRNO, libc::SECCOMP_RET_KILL_THREAD, libc::SECCOMP_RET_KILL_PROCESS].contains(&action)
}

/// Whether a verdict lets the call go on.
pub fn permits(verdict: u32) -> bool {
    [libc::SECCOMP_RET_ALLOW, libc::SECCOMP_RET_LOG].contains(&(verdict & libc::SECCOMP_RET_ACTION_FULL))
}

/// The filter with a listener for the calls that it refuses, and, if `all`, for those that it permits.
///
/// The process that loads it has to hand the listener over while it is under the filter and nobody answers yet. It does so
/// by sendmsg(2) and read(2) with `mark` in the sixth argument, which neither uses: these two go on. The mark is a random
/// number that is gone with the process's memory when it executes its program.
pub fn watched(filter: &Filter, all: bool, mark: u64) -> Filter {
    let mut program = filter.program.clone();
    if program.is_empty() {
        program.push(SockFilter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: libc::SECCOMP_RET_ALLOW });
    }
    for instruction in program.iter_mut().filter(|instruction| u32::from(instruction.code) == emit::RETURN) {
        if refuses(instruction.k) || all && permits(instruction.k) {
            instruction.k = libc::SECCOMP_RET_USER_NOTIF;
        }
    }
    let mut whole = Program::default();
    let rest = whole.end_with(&program);
    let marked = whole.argument_equal(5, mark, Target::Return(libc::SECCOMP_RET_ALLOW), rest);
    let number = |name| (NATIVE.find)(name).map_or(u32::MAX, |entry| entry.numbers[0]);
    let read = whole.equal(number("read"), marked, rest);
    whole.equal(number("sendmsg"), marked, read);
    let number = whole.load(emit::NR);
    whole.equal(NATIVE.abis[0].audit, number, rest);
    whole.load(emit::ARCH);
    let flags = filter.flags | libc::SECCOMP_FILTER_FLAG_NEW_LISTENER as u32;
    Filter { program: whole.into_instructions(), flags, warnings: filter.warnings.clone() }
}

/// What a program returns for a call: classic BPF as far as our programs use it (linux/filter.h). A program that does
/// anything else refuses the call; one without instructions permits it, as nothing is loaded then.
pub fn verdict(program: &[SockFilter], call: &SeccompData) -> u32 {
    let word = |offset: u32| match offset {
        emit::NR => call.nr,
        emit::ARCH => call.arch,
        _ => call.args.get((offset.saturating_sub(16) / 8) as usize).map_or(0, |arg| (arg >> (8 * (offset % 8))) as u32),
    };
    if program.is_empty() {
        return libc::SECCOMP_RET_ALLOW;
    }
    let (mut at, mut accumulator) = (0, 0);
    while let Some(&SockFilter { code, jt, jf, k }) = program.get(at) {
        at += 1;
        let jump = |holds: bool| usize::from(if holds { jt } else { jf });
        match u32::from(code) {
            emit::LOAD => accumulator = word(k),
            emit::AND => accumulator &= k,
            emit::JUMP => at += k as usize,
            emit::EQUAL => at += jump(accumulator == k),
            emit::GREATER => at += jump(accumulator > k),
            emit::GREATER_OR_EQUAL => at += jump(accumulator >= k),
            emit::ANY_BIT => at += jump(accumulator & k != 0),
            emit::RETURN => return k,
            _ => break,
        }
    }
    libc::SECCOMP_RET_ERRNO | libc::EPERM as u32
}

/// A system call as profiles name it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Call {
    /// `SCMP_ARCH_*`; none for an ABI that no profile can name.
    pub architecture: Option<&'static str>,
    /// None if it is newer than our tables.
    pub name: Option<&'static str>,
    /// For socketcall(2) and ipc(2) of x86: which of their calls, by their first argument.
    pub multiplexed: Option<(u32, u8)>,
}

impl Call {
    /// Looks a call up.
    pub fn of(data: &SeccompData) -> Self {
        let families = [&X86, &ARM];
        let below = |abi: &&Abi| abi.audit == data.arch && abi.base <= data.nr;
        let found = families.iter().find_map(|family| Some((*family, family.abis.iter().rev().find(below)?)));
        let Some((family, abi)) = found else { return Self { architecture: None, name: None, multiplexed: None } };
        let column = family.abis.iter().position(|other| other.name == abi.name).unwrap_or_default();
        let multiplexed = u8::try_from(data.args[0] as u32).ok().filter(|_| abi.multiplexed);
        Self {
            architecture: Some(abi.name),
            name: (family.name)(column, data.nr - abi.base),
            multiplexed: multiplexed.map(|which| (data.nr, which)),
        }
    }
}

/// The least profile under which the same calls go on, and that permits nothing that `base` does not: its rules, cut down
/// to the names of what was used. A base that permits by default has to be [`recordable`].
pub fn minimal(base: &Seccomp, used: &BTreeSet<Call>) -> Seccomp {
    let names: BTreeSet<&str> = used.iter().filter_map(|call| call.name).collect();
    let by_default = ["SCMP_ACT_ALLOW", "SCMP_ACT_LOG", ""].contains(&base.default_action.as_str());
    let mut profile = base.clone();
    if by_default {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        profile.syscalls = vec![SyscallRule { names, action: "SCMP_ACT_ALLOW".into(), ..SyscallRule::default() }];
        (profile.default_action, profile.default_errno_ret) = ("SCMP_ACT_ERRNO".into(), Some(libc::EPERM as u32));
    } else {
        let through = |name: &str| abi::multiplexer(name).is_some_and(|hidden| used.iter().any(|call| call.multiplexed == Some(hidden)));
        for rule in &mut profile.syscalls {
            rule.names.retain(|name| names.contains(name.as_str()) || through(name));
        }
        profile.syscalls.retain(|rule| !rule.names.is_empty());
    }
    if profile.architectures.is_empty() {
        let listed: BTreeSet<&str> = used.iter().filter_map(|call| call.architecture).chain([NATIVE.name()]).collect();
        profile.architectures = listed.into_iter().map(String::from).collect();
    }
    profile
}

/// Whether [`minimal`] can be made from a base: what one that permits by default refuses by argument would need the opposite of its
/// conditions. The number of the rule that is in the way otherwise.
pub fn recordable(base: &Seccomp) -> Result<(), usize> {
    let by_default = ["SCMP_ACT_ALLOW", "SCMP_ACT_LOG", ""].contains(&base.default_action.as_str());
    let conditional = |rule: &SyscallRule| !rule.args.is_empty();
    base.syscalls.iter().position(conditional).filter(|_| by_default).map_or(Ok(()), Err)
}
