//! Writes classic BPF from its last instruction to its first.
//!
//! BPF jumps only forward, so when a jump is written, back to front, its targets already have their places: one pass,
//! no labels to patch. A conditional jump reaches 255 instructions; a target further away gets a copy (a return) or
//! an unconditional jump (anything else) just behind the jump.

use super::rules::{Condition, Test};
use crate::sys::SockFilter;
use libc::{BPF_ABS, BPF_ALU, BPF_AND, BPF_JA, BPF_JEQ, BPF_JGE, BPF_JGT, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_RET, BPF_W};

/// Offsets in `struct seccomp_data` (linux/seccomp.h), on a little-endian machine.
pub(super) const NR: u32 = 0;
pub(super) const ARCH: u32 = 4;
const fn low(index: u8) -> u32 {
    16 + 8 * index as u32
}
const fn high(index: u8) -> u32 {
    low(index) + 4
}

/// The instructions that are written, for who reads them.
pub(super) const LOAD: u32 = BPF_LD | BPF_W | BPF_ABS;
pub(super) const AND: u32 = BPF_ALU | BPF_AND | BPF_K;
pub(super) const JUMP: u32 = BPF_JMP | BPF_JA;
pub(super) const EQUAL: u32 = BPF_JMP | BPF_K | BPF_JEQ;
pub(super) const GREATER: u32 = BPF_JMP | BPF_K | BPF_JGT;
pub(super) const GREATER_OR_EQUAL: u32 = BPF_JMP | BPF_K | BPF_JGE;
pub(super) const ANY_BIT: u32 = BPF_JMP | BPF_K | BPF_JSET;
pub(super) const RETURN: u32 = BPF_RET | BPF_K;

/// Where a jump goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    /// The filter returns this value.
    Return(u32),
    /// On to the instruction with this distance from the program's end.
    To(usize),
}

/// The program so far, back to front.
#[derive(Default)]
pub(super) struct Program {
    reversed: Vec<SockFilter>,
    /// For each value returned so far the nearest instruction that does so.
    returns: Vec<(u32, usize)>,
}

/// System calls from `first` to the next run's first have the same verdict.
pub(super) struct Run<V> {
    pub first: u32,
    pub verdict: V,
}

impl Program {
    pub fn into_instructions(mut self) -> Vec<SockFilter> {
        self.reversed.reverse();
        self.reversed
    }

    fn push(&mut self, code: u32, jt: u8, jf: u8, k: u32) -> Target {
        self.reversed.push(SockFilter { code: code as u16, jt, jf, k });
        Target::To(self.reversed.len() - 1)
    }

    pub fn load(&mut self, offset: u32) -> Target {
        self.push(LOAD, 0, 0, offset)
    }

    /// An instruction that a jump written next, or next but one, reaches and that is or leads to the target.
    fn near(&mut self, target: Target) -> usize {
        let here = self.reversed.len();
        let known = match target {
            Target::To(place) => Some(place),
            Target::Return(value) => self.returns.iter().find(|r| r.0 == value).map(|r| r.1),
        };
        match (known, target) {
            (Some(place), _) if here - place < 255 => return place,
            (_, Target::To(place)) => self.push(JUMP, 0, 0, (here - place - 1) as u32),
            (_, Target::Return(value)) => {
                self.returns.retain(|r| r.0 != value);
                self.returns.push((value, here));
                self.push(RETURN, 0, 0, value)
            }
        };
        here
    }

    /// If the accumulator compares with `k` go to `yes`, otherwise to `no`.
    fn branch(&mut self, comparison: u32, k: u32, yes: Target, no: Target) -> Target {
        let (no, yes) = (self.near(no), self.near(yes));
        let last = self.reversed.len() - 1;
        self.push(BPF_JMP | BPF_K | comparison, (last - yes) as u8, (last - no) as u8, k)
    }

    pub fn equal(&mut self, k: u32, yes: Target, no: Target) -> Target {
        self.branch(BPF_JEQ, k, yes, no)
    }

    /// Puts a finished program at the end of this one, which is empty so far; where it begins.
    pub fn end_with(&mut self, program: &[SockFilter]) -> Target {
        self.reversed.extend(program.iter().rev());
        Target::To(self.reversed.len() - 1)
    }

    /// Whether all of an argument is equal to a value.
    pub fn argument_equal(&mut self, index: u8, value: u64, yes: Target, no: Target) -> Target {
        self.condition(Condition { index, test: Test::Equal, mask: u64::MAX, value, negated: false }, yes, no)
    }

    /// The program begins here: whatever is written next must be reached by falling through.
    pub fn begin(&mut self, target: Target) {
        let place = self.near(target);
        if place + 1 != self.reversed.len() {
            self.push(JUMP, 0, 0, (self.reversed.len() - place - 1) as u32);
        }
    }

    /// Tests one argument. Of a word that its mask leaves out nothing is loaded.
    pub fn condition(&mut self, condition: Condition, yes: Target, no: Target) -> Target {
        let (yes, no) = if condition.negated { (no, yes) } else { (yes, no) };
        let Condition { index, test, mask, value, .. } = condition;
        let [value_low, value_high] = [value as u32, (value >> 32) as u32];
        let [mask_low, mask_high] = [mask as u32, (mask >> 32) as u32];
        match test {
            Test::Equal => {
                let rest = self.masked_equal(low(index), mask_low, value_low, yes, no);
                self.masked_equal(high(index), mask_high, value_high, rest, no)
            }
            Test::Greater | Test::GreaterOrEqual => {
                let comparison = if test == Test::Greater { BPF_JGT } else { BPF_JGE };
                self.branch(comparison, value_low, yes, no);
                if mask_low != u32::MAX {
                    self.push(AND, 0, 0, mask_low);
                }
                let rest = self.load(low(index));
                if mask_high == 0 {
                    return rest;
                }
                let tie = self.equal(value_high, rest, no);
                self.branch(BPF_JGT, value_high, yes, tie);
                self.load(high(index))
            }
        }
    }

    /// Whether the lower word of an argument is one of some values, of which there are at least one and which ascend: a search
    /// takes one instruction for a few of them each, where conditions of their own take two.
    pub fn low_word_is_one_of(&mut self, index: u8, values: &[u32], yes: Target, no: Target) -> Target {
        let mut runs: Vec<Run<bool>> = vec![Run { first: 0, verdict: false }];
        for &value in values {
            // The value before this one has ended its own run here.
            runs.pop_if(|last| last.first == value);
            if runs.last().is_none_or(|last| !last.verdict) {
                runs.push(Run { first: value, verdict: true });
            }
            runs.extend(value.checked_add(1).map(|first| Run { first, verdict: false }));
        }
        let search = self.search(&runs, &mut |_, is_one| if is_one { yes } else { no });
        self.begin(search);
        self.load(low(index))
    }

    /// Loads the upper word of an argument for the instruction that was written last.
    pub fn load_upper(&mut self, index: u8) -> Target {
        self.load(high(index))
    }

    fn masked_equal(&mut self, offset: u32, mask: u32, value: u32, yes: Target, no: Target) -> Target {
        match (mask, value) {
            (0, _) => return yes,
            (u32::MAX, _) => self.equal(value, yes, no),
            (_, 0) => self.branch(BPF_JSET, mask, no, yes),
            _ => {
                self.equal(value, yes, no);
                self.push(AND, 0, 0, mask)
            }
        };
        self.load(offset)
    }

    /// A search for the run that the accumulator is in. `target` writes what a verdict needs, if that isn't there yet.
    pub fn search<V: Copy + PartialEq>(&mut self, runs: &[Run<V>], target: &mut impl FnMut(&mut Self, V) -> Target) -> Target {
        self.halve(runs, &leaves(runs), target)
    }

    fn halve<V: Copy + PartialEq>(&mut self, runs: &[Run<V>], leaves: &[Leaf], target: &mut impl FnMut(&mut Self, V) -> Target) -> Target {
        if let [leaf] = leaves {
            return self.exceptions(&runs[leaf.first..=leaf.last], target);
        }
        let middle = balance(leaves);
        let above = self.halve(runs, &leaves[middle..], target);
        let below = self.halve(runs, &leaves[..middle], target);
        self.branch(BPF_JGE, runs[leaves[middle].first].first, above, below)
    }

    /// One verdict but for single system calls in its midst.
    fn exceptions<V: Copy>(&mut self, runs: &[Run<V>], target: &mut impl FnMut(&mut Self, V) -> Target) -> Target {
        let mut rest = target(self, runs[0].verdict);
        for exception in runs.iter().skip(1).step_by(2) {
            let verdict = target(self, exception.verdict);
            rest = self.equal(exception.first, verdict, rest);
        }
        rest
    }
}

/// Runs that are told apart without halving: one, or one with up to `EXCEPTIONS` single numbers inside.
struct Leaf {
    first: usize,
    last: usize,
    weight: u64,
}

/// More would make the path through a leaf longer than halving does.
const EXCEPTIONS: usize = 3;

/// System calls below this number are those that programs make and that the kernel tries out when it loads a filter
/// (kernel/seccomp.c, `seccomp_cache_prepare`), so they are the ones worth a short path.
const COMMON: u32 = 512;

/// Covers the runs with leaves so that the fewest instructions come out, from the last run to the first.
fn leaves<V: Copy + PartialEq>(runs: &[Run<V>]) -> Vec<Leaf> {
    let single = |i: usize| runs.get(i + 1).is_some_and(|next| runs[i].first + 1 == next.first);
    // best[i]: instructions for the runs from i on, and where the leaf that begins at i ends.
    let mut best = vec![(0, 0); runs.len() + 1];
    for i in (0..runs.len()).rev() {
        let mut last = i;
        best[i] = (1 + best[i + 1].0, i);
        for exceptions in 1..=EXCEPTIONS {
            if !single(last + 1) || runs.get(last + 2).is_none_or(|after| after.verdict != runs[i].verdict) {
                break;
            }
            last += 2;
            if exceptions + 1 + best[last + 1].0 < best[i].0 {
                best[i] = (exceptions + 1 + best[last + 1].0, last);
            }
        }
    }
    let mut leaves = Vec::with_capacity(runs.len());
    let mut first = 0;
    while first < runs.len() {
        let last = best[first].1;
        let end = runs.get(last + 1).map_or(COMMON, |next| next.first.min(COMMON));
        leaves.push(Leaf { first, last, weight: 1 + u64::from(end.saturating_sub(runs[first].first)) });
        first = last + 1;
    }
    leaves
}

/// Where to divide at least two leaves so that both halves are about equally likely.
fn balance(leaves: &[Leaf]) -> usize {
    let total: u64 = leaves.iter().map(|l| l.weight).sum();
    let mut before = 0;
    for (i, leaf) in leaves.iter().enumerate() {
        // The leaf in which the middle lies goes to the side that has less without it.
        if 2 * (before + leaf.weight) >= total {
            let i = if 2 * before + leaf.weight >= total { i } else { i + 1 };
            return i.clamp(1, leaves.len() - 1);
        }
        before += leaf.weight;
    }
    1
}
