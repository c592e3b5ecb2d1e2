//! From the rules of a profile to the verdict on each number of each architecture.

use super::BAD_ARCHITECTURE;
use super::abi::{self, ARCHITECTURES, Abi, Family};
use super::emit::{Program, Run, Target};
use super::rules::{self, Condition, Outcome, Rule, Test};
use super::table::{Entry, NONE, Widths};
use crate::spec::Seccomp;
use crate::sys::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};

/// What a tracer puts in place of a system call that it skips; without x32, no architecture's business.
const SKIPPED: u32 = u32::MAX;

/// What happens to a system call.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The filter returns this value.
    Return(u32),
    /// It depends on the arguments: an index into [`Verdicts`].
    Rules(usize),
}

/// A rule applied to one number. They order by number, then as the profile does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Use {
    number: u32,
    rule: usize,
    /// For socketcall(2) and ipc(2) the first argument, for all others 0.
    call: u8,
    /// What the kernel reads of the arguments that the rule looks at.
    widths: Widths,
}

/// A profile with its names looked up.
pub(super) struct Profile<'a> {
    family: &'static Family,
    /// For each ABI of the family, whether the profile lists it.
    listed: Vec<bool>,
    default: u32,
    /// For each entry of `syscalls`.
    rules: Vec<Rule>,
    calls: Vec<Call<'a>>,
}

/// One name of one rule.
struct Call<'a> {
    name: &'a str,
    rule: usize,
    entry: Option<Entry>,
    multiplexer: Option<(u32, u8)>,
}

impl<'a> Profile<'a> {
    pub fn new(family: &'static Family, seccomp: &'a Seccomp) -> Result<Self> {
        let fields = ["defaultAction", "defaultErrnoRet"];
        let default = rules::action(&seccomp.default_action, seccomp.default_errno_ret, fields, &|field| format!("linux.seccomp.{field}"))?;
        let mut listed = vec![false; family.abis.len()];
        listed[0] = true;
        for (i, name) in seccomp.architectures.iter().enumerate() {
            match family.abis.iter().position(|abi| abi.name == name) {
                Some(abi) => listed[abi] = true,
                None if ARCHITECTURES.contains(&name.as_str()) => {}
                None => return Err(Error::new(format!("{name} is not an architecture")).at(format!("linux.seccomp.architectures[{i}]"))),
            }
        }
        let multiplexed = family.abis.iter().zip(&listed).any(|(abi, listed)| *listed && abi.multiplexed);
        let mut rules = Vec::with_capacity(seccomp.syscalls.len());
        let mut calls = Vec::with_capacity(seccomp.syscalls.iter().map(|rule| rule.names.len()).sum());
        for (i, rule) in seccomp.syscalls.iter().enumerate() {
            rules.push(Rule::new(rule, &|field| format!("linux.seccomp.syscalls[{i}].{field}"))?);
            calls.extend(rule.names.iter().map(|name| Call {
                name,
                rule: i,
                entry: (family.find)(name),
                multiplexer: if multiplexed { abi::multiplexer(name) } else { None },
            }));
        }
        Ok(Self { family, listed, default, rules, calls })
    }

    /// Whether system calls by this ABI are filtered rather than refused.
    pub fn lists(&self, abi: &Abi) -> bool {
        self.listed[self.column(abi)]
    }

    fn column(&self, abi: &Abi) -> usize {
        self.family.abis.iter().position(|a| a.name == abi.name).unwrap_or_default()
    }

    /// Whether a call that is newer than the profile gets ENOSYS. A tracer handles such calls itself, as runc has it.
    fn denies(&self) -> bool {
        let action = self.default & libc::SECCOMP_RET_ACTION_FULL;
        ![libc::SECCOMP_RET_ALLOW, libc::SECCOMP_RET_LOG, libc::SECCOMP_RET_TRACE].contains(&action)
    }

    /// The verdicts on all numbers that come with one audit value, equal neighbours merged.
    pub fn runs(&self, abis: &[Abi], verdicts: &mut Verdicts) -> Vec<Run<Verdict>> {
        let mut uses = Vec::with_capacity(self.calls.len() + 32);
        // From each of these numbers on, a number that no rule names gets this.
        let mut floors = Vec::new();
        for abi in abis {
            if self.lists(abi) {
                floors.push((abi.base, self.default));
                if let (Some(newest), true) = (self.uses(abi, &mut uses), self.denies()) {
                    floors.push((newest + 1, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32));
                    floors.extend(abi.private.map(|private| (private, self.default)));
                }
            } else {
                floors.extend([(abi.base, BAD_ARCHITECTURE), (SKIPPED, self.default)]);
            }
        }
        uses.sort_unstable();
        let mut floors = floors.into_iter().peekable();
        let mut unlisted = self.default;
        let mut runs = Runs::default();
        for uses in uses.chunk_by(|a, b| a.number == b.number) {
            let number = uses[0].number;
            while let Some(floor) = floors.next_if(|floor| floor.0 <= number) {
                unlisted = floor.1;
                runs.push(floor.0, Verdict::Return(unlisted));
            }
            runs.push(number, self.verdict(uses, verdicts));
            runs.push(number + 1, Verdict::Return(unlisted));
        }
        for floor in floors {
            runs.push(floor.0, Verdict::Return(floor.1));
        }
        runs.0
    }

    /// Adds what the rules say about the numbers of one ABI and returns the greatest number that the profile names.
    fn uses(&self, abi: &Abi, uses: &mut Vec<Use>) -> Option<u32> {
        let column = self.column(abi);
        let mut newest = None;
        for call in &self.calls {
            let inert = self.rules[call.rule].action == self.default;
            let looks_at = |widths: Widths| widths.of(self.rules[call.rule].conditions().map(|condition| condition.index));
            if let Some(entry) = call.entry.filter(|entry| entry.numbers[column] != NONE) {
                let number = entry.numbers[column];
                if abi.private.is_none_or(|private| number < private) {
                    newest = newest.max(Some(abi.base + number));
                }
                if !inert {
                    let widths = looks_at(entry.widths[column]);
                    uses.push(Use { number: abi.base + number, rule: call.rule, call: 0, widths });
                }
            }
            if let (Some((number, argument)), true, false) = (call.multiplexer, abi.multiplexed, inert)
                && !self.leaks(call.rule)
            {
                uses.push(Use { number, rule: call.rule, call: argument, widths: looks_at(Widths::INT) });
            }
        }
        newest
    }

    /// Whether a rule that permits something under conditions would permit it through a multiplexer without them.
    ///
    /// The call's arguments are in memory there, where no filter can look: `socket` with any family but AF_ALG, as docker's
    /// profile has it against CVE-2026-31431, would become `socketcall` with SYS_SOCKET and any family at all.
    fn leaks(&self, rule: usize) -> bool {
        let permits = mildness(self.rules[rule].action) > mildness(self.default);
        permits && !self.rules[rule].unconditional()
    }

    fn verdict(&self, uses: &[Use], verdicts: &mut Verdicts) -> Verdict {
        let action = |u: &Use| self.rules[u.rule].action;
        if let Some(first) = uses.iter().find(|u| u.call == 0 && self.rules[u.rule].unconditional()) {
            for idle in uses.iter().filter(|u| action(u) != action(first)) {
                verdicts.idle(idle.rule, first.rule, self);
            }
            return Verdict::Return(action(first));
        }
        let mut uses: Vec<Use> = uses.iter().filter(|u| self.alternatives(u).next().is_some()).copied().collect();
        uses.sort_by_key(|u| mildness(action(u)));
        let certain = uses.iter().position(|u| self.alternatives(u).any(|conditions| conditions.is_empty()));
        let otherwise = certain.map_or(self.default, |certain| action(&uses[certain]));
        uses.truncate(certain.unwrap_or(uses.len()));
        if uses.is_empty() { Verdict::Return(otherwise) } else { verdicts.intern(&uses, otherwise) }
    }

    fn names(&self, rule: usize) -> impl Iterator<Item = &str> {
        self.calls.iter().filter(move |call| call.rule == rule).map(|call| call.name)
    }

    /// What must hold for a rule to apply: all conditions of any of these. Left out are conditions
    /// that always hold, and alternatives with one that never does.
    fn alternatives(&self, u: &Use) -> impl DoubleEndedIterator<Item = Vec<Condition>> {
        let Use { call, widths, .. } = *u;
        self.rules[u.rule].alternatives.iter().filter_map(move |conditions| {
            let which = (call != 0).then(|| Condition::multiplexed(call));
            let others = conditions.iter().filter(|condition| call == 0 || condition.index != 0);
            let mut left: Vec<Condition> = which.into_iter().collect();
            for condition in others {
                match condition.read(widths.mask(condition.index)) {
                    Outcome::Always => {}
                    Outcome::Never => return None,
                    Outcome::Depends(condition) => left.push(condition),
                }
            }
            Some(left)
        })
    }

    /// Tells of conditions on native calls whose outcome is known, since they ask for bits that the
    /// kernel never reads.
    pub fn warn(&self, warnings: &mut Vec<String>) {
        for (i, rule) in self.rules.iter().enumerate() {
            let calls = || self.calls.iter().filter(|call| call.rule == i);
            for (j, condition) in rule.conditions().enumerate().filter(|(_, condition)| !condition.always()) {
                let known = calls().find_map(|call| {
                    let bits = call.entry.filter(|entry| entry.numbers[0] != NONE)?.widths[0].mask(condition.index);
                    match condition.read(bits) {
                        Outcome::Always => Some((call.name, bits, "always")),
                        Outcome::Never => Some((call.name, bits, "never")),
                        Outcome::Depends(_) => None,
                    }
                });
                if let Some((name, bits, when)) = known {
                    warnings.push(format!(
                        "linux.seccomp.syscalls[{i}].args[{j}] {when} holds for {name}: the kernel reads only the lower {} bits of this argument",
                        bits.count_ones()
                    ));
                }
            }
        }
    }
}

/// The place of an action in the kernel's order for several filters (seccomp(2)), the strictest first.
fn mildness(action: u32) -> i32 {
    (action & libc::SECCOMP_RET_ACTION_FULL).cast_signed()
}

/// Runs under construction, from the lowest number up. A run that begins where the last one does replaces it.
#[derive(Default)]
struct Runs(Vec<Run<Verdict>>);

impl Runs {
    fn push(&mut self, first: u32, verdict: Verdict) {
        self.0.pop_if(|last| last.first == first);
        if self.0.last().is_none_or(|last| last.verdict != verdict) {
            self.0.push(Run { first, verdict });
        }
    }
}

/// The verdicts that depend on arguments. Equal ones are written once.
#[derive(Default)]
pub(super) struct Verdicts {
    sets: Vec<Set>,
    /// Searches that are written, and where.
    searches: Vec<(Search, Target)>,
    /// Rules that another leaves without effect, and the other.
    idle: Vec<(usize, usize)>,
    /// A sentence on each of these.
    pub warnings: Vec<String>,
}

/// An argument, values of its lower word, what is returned for them, and where it goes on for others.
type Search = (u8, Vec<u32>, u32, Target);

struct Set {
    /// The strictest first; the numbers in them don't matter.
    uses: Vec<Use>,
    /// What the filter returns if none of them holds.
    otherwise: u32,
    written: Option<Target>,
}

impl Verdicts {
    fn intern(&mut self, uses: &[Use], otherwise: u32) -> Verdict {
        let parts = |u: &Use| (u.rule, u.call, u.widths);
        let same = |set: &Set| set.otherwise == otherwise && set.uses.iter().map(parts).eq(uses.iter().map(parts));
        Verdict::Rules(self.sets.iter().position(same).unwrap_or_else(|| {
            self.sets.push(Set { uses: uses.to_vec(), otherwise, written: None });
            self.sets.len() - 1
        }))
    }

    fn idle(&mut self, idle: usize, first: usize, profile: &Profile) {
        if self.idle.contains(&(idle, first)) {
            return;
        }
        self.idle.push((idle, first));
        // No common name: one rule is about socketcall(2) or ipc(2) itself, and the other's call has a number, too.
        if let Some(name) = profile.names(idle).find(|name| profile.names(first).any(|other| other == *name)) {
            self.warnings.push(format!(
                "linux.seccomp.syscalls[{idle}] has no effect on {name}: linux.seccomp.syscalls[{first}] decides on it without conditions"
            ));
        }
    }

    /// Where the program goes for a verdict.
    pub fn write(&mut self, verdict: Verdict, profile: &Profile, program: &mut Program) -> Target {
        let index = match verdict {
            Verdict::Return(value) => return Target::Return(value),
            Verdict::Rules(index) => index,
        };
        if let Some(written) = self.sets[index].written {
            return written;
        }
        let set = &self.sets[index];
        // The conditions of each alternative, and what the filter returns if they hold.
        let alternatives = set.uses.iter().flat_map(|u| {
            let action = profile.rules[u.rule].action;
            profile.alternatives(u).map(move |conditions| (conditions, action))
        });
        let mut alternatives: Vec<Alternative> = alternatives.collect();
        // Of those with one action any will do, so that their order is free.
        alternatives.chunk_by_mut(|a, b| a.1 == b.1).for_each(|same| same.sort_by_key(Values::of));
        let mut target = Target::Return(set.otherwise);
        for group in alternatives.chunk_by(|a, b| Values::of(a).is_some_and(|values| Some(values) == Values::of(b))).rev() {
            target = match (Values::of(&group[0]), group) {
                (Some(kind), [_, _, ..]) => self.one_of(kind, group, target, program),
                (_, group) => group.iter().rev().fold(target, |otherwise, (conditions, action)| {
                    let holds = Target::Return(*action);
                    conditions.iter().rev().fold(holds, |holds, condition| program.condition(*condition, holds, otherwise))
                }),
            };
        }
        self.sets[index].written = Some(target);
        target
    }

    /// A test for many values of one argument: which upper word, then a search for the lower one. The search may be there
    /// already, for an architecture whose arguments have no upper word.
    fn one_of(&mut self, kind: Values, group: &[Alternative], otherwise: Target, program: &mut Program) -> Target {
        let mut lower: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
        for (conditions, _) in group {
            let value = conditions[0].value;
            lower.entry((value >> 32) as u32).or_default().insert(value as u32);
        }
        let mut target = otherwise;
        for (upper, values) in lower {
            let low = self.search(kind, values.into_iter().collect(), otherwise, program);
            target = if kind.wide { program.equal(upper, low, target) } else { low };
        }
        if kind.wide { program.load_upper(kind.index) } else { target }
    }

    fn search(&mut self, kind: Values, values: Vec<u32>, otherwise: Target, program: &mut Program) -> Target {
        let key = (kind.index, values, kind.action, otherwise);
        if let Some((_, place)) = self.searches.iter().find(|(known, _)| *known == key) {
            return *place;
        }
        let place = program.low_word_is_one_of(kind.index, &key.1, Target::Return(kind.action), otherwise);
        self.searches.push((key, place));
        place
    }
}

/// Conditions that must all hold, and what the filter returns then.
type Alternative = (Vec<Condition>, u32);

/// What alternatives have in common that ask for one value of one argument each, and so can be searched.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Values {
    index: u8,
    /// The kernel reads the upper word too.
    wide: bool,
    action: u32,
}

impl Values {
    fn of((conditions, action): &Alternative) -> Option<Self> {
        let [Condition { index, test: Test::Equal, mask, value, negated: false }] = conditions[..] else { return None };
        let wide = match (mask as u32, (mask >> 32) as u32) {
            (u32::MAX, u32::MAX) => true,
            (u32::MAX, 0) if value >> 32 == 0 => false,
            _ => return None,
        };
        Some(Self { index, wide, action: *action })
    }
}
