//! What a profile means, read off its text for one system call at a time: slow, but nothing to get wrong.

use super::bpf::Data;
use super::oracle::{self, Arch};
use keel::plan::seccomp::Family;
use keel::spec::{Seccomp, SyscallArg, SyscallRule};
use libseccomp::ScmpArch;
use std::collections::HashMap;

/// The multiplexed calls of x86 by the multiplexer's number and first argument (linux/net.h, linux/ipc.h).
pub const MULTIPLEXED: [(u32, u64, &str); 32] = [
    (102, 1, "socket"),
    (102, 2, "bind"),
    (102, 3, "connect"),
    (102, 4, "listen"),
    (102, 5, "accept"),
    (102, 6, "getsockname"),
    (102, 7, "getpeername"),
    (102, 8, "socketpair"),
    (102, 9, "send"),
    (102, 10, "recv"),
    (102, 11, "sendto"),
    (102, 12, "recvfrom"),
    (102, 13, "shutdown"),
    (102, 14, "setsockopt"),
    (102, 15, "getsockopt"),
    (102, 16, "sendmsg"),
    (102, 17, "recvmsg"),
    (102, 18, "accept4"),
    (102, 19, "recvmmsg"),
    (102, 20, "sendmmsg"),
    (117, 1, "semop"),
    (117, 2, "semget"),
    (117, 3, "semctl"),
    (117, 4, "semtimedop"),
    (117, 11, "msgsnd"),
    (117, 12, "msgrcv"),
    (117, 13, "msgget"),
    (117, 14, "msgctl"),
    (117, 21, "shmat"),
    (117, 22, "shmdt"),
    (117, 23, "shmget"),
    (117, 24, "shmctl"),
];

fn action(name: &str, errno: Option<u32>) -> u32 {
    match name {
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => 0,
        "SCMP_ACT_KILL_PROCESS" => 0x8000_0000,
        "SCMP_ACT_TRAP" => 0x0003_0000,
        "SCMP_ACT_ERRNO" => 0x0005_0000 | errno.unwrap_or(1),
        "SCMP_ACT_TRACE" => 0x7ff0_0000 | errno.unwrap_or(1),
        "SCMP_ACT_NOTIFY" => 0x7fc0_0000,
        "SCMP_ACT_LOG" => 0x7ffc_0000,
        "SCMP_ACT_ALLOW" => 0x7fff_0000,
        _ => panic!("{name}"),
    }
}

/// From the strictest to the mildest, as seccomp(2) orders what several filters return.
pub fn mildness(action: u32) -> usize {
    [0x8000_0000, 0, 0x0003_0000, 0x0005_0000, 0x7fc0_0000, 0x7ff0_0000, 0x7ffc_0000, 0x7fff_0000]
        .iter()
        .position(|a| *a == action & 0xffff_0000)
        .unwrap()
}

/// The number that a condition compares with, where the kernel reads only some bits of the
/// argument: a negative number that was written in 64 or 32 bits is the argument's own one. And the
/// bits that are compared at all.
pub fn meant(arg: &SyscallArg, bits: u64) -> (u64, u64) {
    let masked = arg.op == "SCMP_CMP_MASKED_EQ";
    let mask = if masked { arg.value } else { u64::MAX };
    let value = if masked { arg.value_two & arg.value } else { arg.value };
    let low = value & bits;
    let negative = low > bits >> 1;
    let in_64_bits = (low | !bits) & mask;
    let in_32_bits = in_64_bits & 0xffff_ffff;
    if negative && (value == in_64_bits || bits == 0xffff && value == in_32_bits) { (low, mask) } else { (value, mask) }
}

fn holds(arg: &SyscallArg, value: u64, bits: u64) -> bool {
    let (left, (right, mask)) = (value & bits, meant(arg, bits));
    match arg.op.as_str() {
        "SCMP_CMP_NE" => left != right,
        "SCMP_CMP_LT" => left < right,
        "SCMP_CMP_LE" => left <= right,
        "SCMP_CMP_EQ" => left == right,
        "SCMP_CMP_GE" => left >= right,
        "SCMP_CMP_GT" => left > right,
        "SCMP_CMP_MASKED_EQ" => left & mask == right,
        op => panic!("{op}"),
    }
}

fn private(arch: ScmpArch, number: u32) -> bool {
    arch == ScmpArch::Arm && number >= 0xf_0000
}

/// Whether the rule sets no condition, or compares no bit.
fn unconditional(rule: &SyscallRule) -> bool {
    let void = |arg: &SyscallArg| arg.op == "SCMP_CMP_MASKED_EQ" && arg.value == 0;
    if alternatives(rule) { rule.args.iter().any(void) } else { rule.args.iter().all(void) }
}

fn applies(rule: &SyscallRule, test: impl Fn(&SyscallArg) -> bool) -> bool {
    if alternatives(rule) { rule.args.iter().any(test) } else { rule.args.iter().all(test) }
}

/// runc's reading of several conditions on one argument.
fn alternatives(rule: &SyscallRule) -> bool {
    (0..6).any(|i| rule.args.iter().filter(|arg| arg.index == i).count() > 1)
}

fn names(rule: &SyscallRule, call: &str) -> bool {
    rule.names.iter().any(|name| name == call)
}

/// A profile to be read for one CPU family.
pub struct Model<'a> {
    family: &'static Family,
    arches: &'a [Arch],
    seccomp: &'a Seccomp,
    default: u32,
    /// For each architecture and rule the numbers of its names.
    numbers: Vec<Vec<HashMap<u32, &'a str>>>,
    /// For each architecture the greatest number that the profile names, if newer calls get ENOSYS.
    newest: Vec<Option<u32>>,
}

impl<'a> Model<'a> {
    pub fn new(family: &'static Family, arches: &'a [Arch], seccomp: &'a Seccomp) -> Self {
        let numbers = |arch: &Arch, rule: &'a SyscallRule| {
            rule.names.iter().filter_map(|name| Some((oracle::number(name, arch.1)?, name.as_str()))).collect()
        };
        let numbers: Vec<Vec<HashMap<u32, &str>>> =
            arches.iter().map(|arch| seccomp.syscalls.iter().map(|rule| numbers(arch, rule)).collect()).collect();
        let denies = !["SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE"].contains(&seccomp.default_action.as_str());
        let newest = |(arch, rules): (&Arch, &Vec<HashMap<u32, &str>>)| {
            rules.iter().flat_map(HashMap::keys).copied().filter(|number| denies && !private(arch.1, *number)).max()
        };
        let newest = arches.iter().zip(&numbers).map(newest).collect();
        Self { family, arches, seccomp, default: action(&seccomp.default_action, seccomp.default_errno_ret), numbers, newest }
    }

    /// Which architecture of the family the call is made by, if the profile lists it.
    fn arch(&self, data: &Data) -> Option<usize> {
        let arch = (0..self.arches.len())
            .filter(|i| self.arches[*i].2 == data.arch && self.arches[*i].3 <= data.nr)
            .max_by_key(|i| self.arches[*i].3)?;
        (arch == 0 || self.seccomp.architectures.iter().any(|name| name == self.arches[arch].0)).then_some(arch)
    }

    /// Whether the call is newer than the profile, which libseccomp alone pays no heed to.
    pub fn newer(&self, data: &Data) -> bool {
        let Some(arch) = self.arch(data).filter(|arch| !private(self.arches[*arch].1, data.nr)) else { return false };
        self.newest[arch].is_some_and(|newest| data.nr > newest)
    }

    /// The verdict on a system call.
    pub fn verdict(&self, data: &Data) -> u32 {
        let Some(arch) = self.arch(data) else {
            // A tracer skips a call by making it number -1: not by way of x32, and none of its business where x32 isn't.
            return if data.arch == oracle::X86[0].2 && data.nr == u32::MAX { self.default } else { 0 };
        };
        let mut applying = self.applying(data, arch);
        if let Some(decisive) = applying.iter().find(|(_, unconditional)| *unconditional) {
            return decisive.0;
        }
        applying.sort_by_key(|(value, _)| mildness(*value));
        match applying.first() {
            Some((value, _)) => *value,
            None if self.newer(data) => 0x0005_0026,
            None => self.default,
        }
    }

    /// The call that is made through socketcall(2) or ipc(2).
    fn hidden(&self, data: &Data) -> Option<&'static str> {
        let x86 = self.arch(data).is_some_and(|arch| self.arches[arch].1 == ScmpArch::X86);
        MULTIPLEXED.iter().find(|m| x86 && (m.0, m.1) == (data.nr, data.args[0] & 0xffff_ffff)).map(|m| m.2)
    }

    /// Whether a rule permits something under conditions that cannot be checked where a multiplexer hides the arguments.
    fn withholds(&self, rule: &SyscallRule) -> bool {
        mildness(action(&rule.action, rule.errno_ret)) > mildness(self.default) && !unconditional(rule)
    }

    /// Whether the call is one that libseccomp permits although it cannot check the conditions.
    pub fn withheld(&self, data: &Data) -> bool {
        let withholds = |hidden| self.seccomp.syscalls.iter().any(|rule| names(rule, hidden) && self.withholds(rule));
        self.hidden(data).is_some_and(withholds)
    }

    /// The bits that the kernel reads of each argument of a call that a rule names, or that a
    /// multiplexer hides.
    pub fn bits(&self, data: &Data) -> [u64; 6] {
        let Some(arch) = self.arch(data) else { return [u64::MAX; 6] };
        let named = self.numbers[arch].iter().find_map(|numbers| numbers.get(&data.nr));
        let registers = if self.narrow(arch) { 0xffff_ffff } else { u64::MAX };
        [0, 1, 2, 3, 4, 5].map(|i| named.map_or(registers, |name| self.family.bits_read(self.arches[arch].0, name, i)))
    }

    fn narrow(&self, arch: usize) -> bool {
        ![ScmpArch::X8664, ScmpArch::Aarch64].contains(&self.arches[arch].1)
    }

    /// Whether libseccomp compares with another number than we do: it cuts all values to 32 bits
    /// for a 32-bit architecture, so that what no argument can be becomes what one can be, and for
    /// others it never takes a number for a negative one.
    pub fn other_value(&self, data: &Data, args: &[&SyscallArg]) -> bool {
        let (bits, narrow) = (self.bits(data), self.arch(data).is_some_and(|arch| self.narrow(arch)));
        args.iter().any(|arg| {
            let (ours, _) = meant(arg, bits[arg.index as usize]);
            let (written, _) = meant(arg, u64::MAX);
            ours != if narrow { written & 0xffff_ffff } else { written }
        })
    }

    /// The actions of the rules that hold, in order, and whether they would with any arguments.
    fn applying(&self, data: &Data, index: usize) -> Vec<(u32, bool)> {
        let (hidden, bits) = (self.hidden(data), self.bits(data));
        let mut applying = Vec::new();
        for (rule, numbers) in self.seccomp.syscalls.iter().zip(&self.numbers[index]) {
            let value = action(&rule.action, rule.errno_ret);
            if value == self.default {
                continue;
            }
            let test = |arg: &SyscallArg| holds(arg, data.args[arg.index as usize], bits[arg.index as usize]);
            if numbers.contains_key(&data.nr) && applies(rule, test) {
                applying.push((value, unconditional(rule)));
            }
            let beside_the_first = |arg: &SyscallArg| arg.index == 0 || test(arg);
            if hidden.is_some_and(|hidden| names(rule, hidden)) && !self.withholds(rule) && applies(rule, beside_the_first) {
                applying.push((value, false));
            }
        }
        applying
    }
}
