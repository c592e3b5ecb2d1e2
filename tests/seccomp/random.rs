//! Random profiles, the same ones at every run.

use super::model;
use keel::spec::{Seccomp, SyscallArg, SyscallRule};
use std::collections::HashSet;

/// xorshift64*.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() >> 33) as usize % limit
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

const ACTIONS: [(&str, Option<u32>); 12] = [
    ("SCMP_ACT_NOTIFY", None),
    ("SCMP_ACT_ALLOW", None),
    ("SCMP_ACT_ERRNO", None),
    ("SCMP_ACT_ERRNO", Some(1)),
    ("SCMP_ACT_ERRNO", Some(38)),
    ("SCMP_ACT_TRACE", None),
    ("SCMP_ACT_TRACE", Some(7)),
    ("SCMP_ACT_LOG", None),
    ("SCMP_ACT_TRAP", None),
    ("SCMP_ACT_KILL", None),
    ("SCMP_ACT_KILL_THREAD", None),
    ("SCMP_ACT_KILL_PROCESS", None),
];

const OPERATORS: [&str; 7] =
    ["SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE", "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_MASKED_EQ"];

/// Words whose neighbours and halves tell the comparisons apart.
const WORDS: [u64; 18] = [
    0,
    1,
    2,
    5,
    40,
    0x8000,
    0xffff,
    0x1_0005,
    0xffff_fffe,
    0x7e02_0000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    0x1_0000_0005,
    0x5_0000_0001,
    0xffff_ffff_0000_0000,
    u64::MAX,
];

fn arg(random: &mut Random, index: u32) -> SyscallArg {
    SyscallArg { index, value: *random.pick(&WORDS), value_two: *random.pick(&WORDS), op: (*random.pick(&OPERATORS)).into() }
}

/// A profile. If it is tame, no number has two conditional rules that can both hold.
pub fn profile(random: &mut Random, architectures: &[&str], names: &[String], tame: bool) -> Seccomp {
    let (default_action, default_errno_ret) = *random.pick(&ACTIONS);
    let mut taken = HashSet::new();
    let mut rule = |random: &mut Random| {
        let (action, errno_ret) = *random.pick(&ACTIONS);
        let mut args: Vec<SyscallArg> = Vec::new();
        for _ in 0..[0, 0, 0, 1, 1, 2, 2, 3][random.below(8)] {
            let index = random.below(6) as u32;
            if !tame || args.iter().all(|arg| arg.index != index) {
                args.push(arg(random, index));
            }
        }
        let (count, start, step) = (1 + random.below(60), random.below(names.len()), 1 + random.below(3));
        let mut chosen: Vec<String> = (0..count).map(|i| names[(start + i * step) % names.len()].clone()).collect();
        if !args.is_empty() {
            chosen.truncate(8);
        }
        let multiplexed = |name: &String| model::MULTIPLEXED.iter().any(|m| m.2 == name);
        let multiplexer = |name: &String| ["socketcall", "ipc"].contains(&name.as_str());
        let free = |name: &String| args.is_empty() && !multiplexed(name);
        chosen.retain(|name| !tame || free(name) || !multiplexer(name) && taken.insert(name.clone()));
        SyscallRule { names: chosen, action: action.into(), errno_ret, args }
    };
    let syscalls = (0..1 + random.below(24)).map(|_| rule(random)).collect();
    Seccomp {
        default_action: default_action.into(),
        default_errno_ret,
        architectures: architectures.iter().filter(|_| random.below(3) > 0).map(|name| (*name).into()).collect(),
        syscalls,
        ..Seccomp::default()
    }
}

/// A value on, or next to, a boundary of the comparisons.
pub fn boundary(random: &mut Random, args: &[&SyscallArg], index: u32) -> u64 {
    let near: Vec<u64> = args.iter().filter(|arg| arg.index == index).flat_map(|arg| [arg.value, arg.value_two]).collect();
    let value = if near.is_empty() { *random.pick(&WORDS) } else { *random.pick(&near) };
    match random.below(7) {
        0 => value.wrapping_add(1),
        1 => value.wrapping_sub(1),
        2 => value ^ 1 << 32,
        3 => value & 0xffff_ffff,
        4 => *random.pick(&WORDS),
        _ => value,
    }
}
