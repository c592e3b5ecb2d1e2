//! Our seccomp filters against libseccomp's and against a plain reading of the profile: every architecture and number,
//! arguments on the boundaries of the comparisons.
//!
//! libseccomp 2.5.4 itself errs where one number has several conditional rules that overlap (a `GE` and an `LE` on one
//! argument, for instance: it merges both into one decision tree), and there it does not document what it does. Such
//! profiles are compared with the plain reading alone.
//!
//! On purpose we differ in three things, and in nothing else:
//!
//! - What a profile permits under conditions, it does not permit through the multiplexers of x86,
//!   socketcall(2) and ipc(2),
//!   where the conditions cannot be checked.
//! - The bits of an argument that the kernel does not read are not compared (CVE-2026-123876): our
//!   verdict is libseccomp's on
//!   the same call with these bits cleared.
//! - A profile's value that needs more bits than are read is what no argument can be, unless it is
//!   a negative number.
//!   libseccomp cuts it for 32-bit architectures and never takes it for negative elsewhere. Calls with such a value
//!   (`Model::other_value`) are compared with the plain reading alone.

#[path = "seccomp/bpf.rs"]
mod bpf;
#[path = "seccomp/model.rs"]
mod model;
#[path = "seccomp/oracle.rs"]
mod oracle;
#[path = "seccomp/random.rs"]
mod random;

use bpf::Data;
use keel::plan::seccomp::{ARM, Family, X86, compile_for};
use keel::spec::{Seccomp, SyscallArg, SyscallRule};
use libseccomp::ScmpArch;
use model::{Model, mildness};
use oracle::{Arch, Oracle};
use random::Random;
use std::collections::{BTreeSet, HashMap};

/// A version of libseccomp.
type Version = (u32, u32);

/// Names that the kernel's headers have and libseccomp lacks though it knows them elsewhere: where,
/// and since which version it has them. Debian 12 has libseccomp 2.5.4, Debian 13 has 2.6.0.
const LACKING: [(&str, &str, Option<Version>); 2] =
    [("map_shadow_stack", "SCMP_ARCH_X32", Some((2, 6))), ("sync_file_range2", "SCMP_ARCH_ARM", None)];

/// Whether the libseccomp of this machine lacks the name for the ABI.
fn lacks(name: &str, abi: &str) -> bool {
    let version = libseccomp::ScmpVersion::current().unwrap();
    let here = (version.major, version.minor);
    LACKING.iter().any(|lacking| (lacking.0, lacking.1) == (name, abi) && lacking.2.is_none_or(|since| here < since))
}

/// Docker's default profile without the names that libseccomp lacks.
fn docker() -> Seccomp {
    let mut docker: Seccomp = serde_json::from_str(include_str!("data/docker-seccomp.json")).unwrap();
    let known = names(&oracle::X86);
    docker.syscalls[0].names.retain(|name| known.contains(name));
    assert!(docker.syscalls[0].names.len() > 340);
    docker
}

/// Numbers that have or could have a meaning, and those around the boundaries of ABIs and of signedness.
fn numbers() -> impl Iterator<Item = u32> {
    let edges = [0x3fff_fffe, 0x7fff_fffe, 0xbfff_fffe, 0xf_0000].map(|n| n..n + 8);
    (0..=1100).chain(0x4000_0000..=0x4000_0000 + 1100).chain(edges.into_iter().flatten()).chain(u32::MAX - 2..=u32::MAX)
}

/// Every name that libseccomp has for some architecture of the family.
fn names(arches: &[Arch]) -> Vec<String> {
    let all = arches.iter().flat_map(|arch| (0..1100).filter_map(|n| oracle::name_of(arch.3 + n, arch.1)));
    let names: BTreeSet<String> = all.chain(["send", "recv", "accept", "cacheflush"].map(String::from)).collect();
    names.into_iter().filter(|name| LACKING.iter().all(|lacking| lacking.0 != name)).collect()
}

/// The conditions of all rules that can concern a number, by audit value and number.
fn conditions<'a>(arches: &[Arch], seccomp: &'a Seccomp) -> HashMap<(u32, u32), Vec<&'a SyscallArg>> {
    let mut conditions: HashMap<_, Vec<_>> = HashMap::new();
    for rule in &seccomp.syscalls {
        for (name, arch) in rule.names.iter().flat_map(|name| arches.iter().map(move |arch| (name, arch))) {
            let multiplexer = model::MULTIPLEXED.iter().find(|m| arch.1 == ScmpArch::X86 && m.2 == name).map(|m| m.0);
            for number in oracle::number(name, arch.1).into_iter().chain(multiplexer) {
                conditions.entry((arch.2, number)).or_default().extend(&rule.args);
            }
        }
    }
    conditions
}

/// How many verdicts were compared.
#[derive(Debug, Default)]
struct Tally {
    tried: usize,
    /// On how many we differ from libseccomp, since it lets a multiplexer pass.
    stricter: usize,
    /// On how many libseccomp decides by bits that the kernel does not read.
    unread: usize,
    /// How many have a condition with a value that libseccomp takes for another.
    other_value: usize,
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.tried += other.tried;
        self.stricter += other.stricter;
        self.unread += other.unread;
        self.other_value += other.other_value;
    }
}

/// Compares our verdicts with the model's and, but where ENOSYS takes precedence, libseccomp's.
fn assert_verdicts(family: &'static Family, arches: &[Arch], seccomp: &Seccomp, random: &mut Random, libseccomp: bool) -> Tally {
    let ours = compile_for(family, seccomp).unwrap().program;
    let oracle = libseccomp.then(|| Oracle::new(arches, seccomp));
    let model = Model::new(family, arches, seccomp);
    let conditions = conditions(arches, seccomp);
    let multiplexer = |arch: u32, nr: u32| arch == oracle::X86[1].2 && [102, 117].contains(&nr);
    let mut tally = Tally::default();
    for arch in arches.iter().map(|arch| arch.2).chain([0, 0x8000_0016]).collect::<BTreeSet<_>>() {
        for nr in numbers() {
            let args = conditions.get(&(arch, nr)).map_or(&[][..], Vec::as_slice);
            let tries = if multiplexer(arch, nr) { 200 } else { 1 + 20 * args.len().min(4) };
            for _ in 0..tries {
                let mut data = Data { nr, arch, args: [0; 6] };
                for index in 0..6 {
                    data.args[index as usize] = random::boundary(random, args, index);
                }
                if multiplexer(arch, nr) && random.below(4) > 0 {
                    data.args[0] = random.below(26) as u64;
                }
                tally.tried += 1;
                let (verdict, model_verdict) = (bpf::run(&ours, &data), model.verdict(&data));
                let profile = || serde_json::to_string(seccomp).unwrap();
                assert_eq!(verdict, model_verdict, "{verdict:#x}, model {model_verdict:#x}: {data:x?} in {}", profile());
                if let Some(oracle) = oracle.as_ref().filter(|_| !model.newer(&data)) {
                    if model.other_value(&data, args) {
                        tally.other_value += 1;
                        continue;
                    }
                    let mut as_read = data;
                    as_read.args.iter_mut().zip(model.bits(&data)).for_each(|(arg, bits)| *arg &= bits);
                    let expected = oracle.verdict(&as_read);
                    let stricter = verdict != expected && model.withheld(&data) && mildness(verdict) < mildness(expected);
                    assert!(verdict == expected || stricter, "{verdict:#x}, libseccomp {expected:#x}: {data:x?} in {}", profile());
                    tally.stricter += usize::from(stricter);
                    tally.unread += usize::from(expected != oracle.verdict(&data));
                }
            }
        }
    }
    tally
}

#[test]
fn docker_profile_has_the_same_verdicts() {
    let tally = assert_verdicts(&X86, &oracle::X86, &docker(), &mut Random(1), true);
    assert!(tally.tried > 8000, "{}", tally.tried);
    assert_eq!(tally.stricter, 0, "the profile names socketcall and ipc");
    assert_eq!(tally.other_value, 0, "the profile has no value that is too large");
    assert!(tally.unread > 10, "{} calls pass libseccomp's filter by bits that nobody reads", tally.unread);
}

#[test]
fn docker_profile_without_socketcall_is_stricter_than_libseccomps() {
    let mut docker = docker();
    docker.syscalls[0].names.retain(|name| name != "socketcall");
    assert!(assert_verdicts(&X86, &oracle::X86, &docker, &mut Random(2), true).stricter > 0);
}

#[test]
fn random_profiles_have_libseccomps_verdicts_on_x86() {
    let (mut random, names) = (Random(0x5eed), names(&oracle::X86));
    let mut all = Tally::default();
    for _ in 0..60 {
        let arches = ["SCMP_ARCH_X32", "SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_S390X"];
        let profile = random::profile(&mut random, &arches, &names, true);
        all.add(&assert_verdicts(&X86, &oracle::X86, &profile, &mut random, true));
    }
    assert!(all.stricter > 0, "no profile permits a multiplexed call under conditions");
    assert!(all.unread > 500 && all.other_value > 1000, "{all:?}");
    assert!(all.other_value < all.tried / 10, "too few calls are compared: {all:?}");
}

#[test]
fn random_profiles_have_libseccomps_verdicts_on_arm() {
    let (mut random, names) = (Random(0xa12), names(&oracle::ARM));
    let mut all = Tally::default();
    for _ in 0..40 {
        let profile = random::profile(&mut random, &["SCMP_ARCH_ARM", "SCMP_ARCH_AARCH64", "SCMP_ARCH_X86"], &names, true);
        all.add(&assert_verdicts(&ARM, &oracle::ARM, &profile, &mut random, true));
    }
    assert_eq!(all.stricter, 0);
    assert!(all.unread > 500 && all.other_value > 1000, "{all:?}");
    assert!(all.other_value < all.tried / 10, "too few calls are compared: {all:?}");
}

/// Several conditional rules for one call, with all kinds of overlap.
#[test]
fn random_profiles_mean_what_they_say() {
    let mut random = Random(0xf00d);
    // Few names, so that many rules meet on one.
    let few: Vec<String> =
        names(&oracle::X86).into_iter().filter(|name| name.contains("sem") || name.contains("so") || name.ends_with('e')).collect();
    for _ in 0..60 {
        let profile = random::profile(&mut random, &["SCMP_ARCH_X32", "SCMP_ARCH_X86"], &few, false);
        assert_verdicts(&X86, &oracle::X86, &profile, &mut random, false);
    }
}

/// Each name alone: the numbers that our tables and libseccomp's have for it.
#[test]
fn tables_agree_with_libseccomp() {
    for (family, arches) in [(&X86, &oracle::X86[..]), (&ARM, &oracle::ARM[..])] {
        for name in names(arches).iter().map(String::as_str).chain(LACKING.map(|lacking| lacking.0)) {
            let rule = SyscallRule { names: vec![name.into()], action: "SCMP_ACT_LOG".into(), ..SyscallRule::default() };
            let seccomp = Seccomp {
                default_action: "SCMP_ACT_ALLOW".into(),
                architectures: arches.iter().map(|arch| arch.0.into()).collect(),
                syscalls: vec![rule],
                ..Seccomp::default()
            };
            let program = compile_for(family, &seccomp).unwrap().program;
            for (abi, scmp, arch, base) in arches {
                let logged = |nr: u32| bpf::run(&program, &Data { nr, arch: *arch, args: [0; 6] }) == 0x7ffc_0000;
                let ours: Vec<u32> = (*base..base + 1100).chain(0xf_0000..0xf_0010).filter(|nr| logged(*nr)).collect();
                let lacking = lacks(name, abi);
                let theirs: Vec<u32> = oracle::number(name, *scmp).into_iter().collect();
                assert_eq!(ours != theirs, lacking, "{name} on {abi}: {ours:x?}, libseccomp {theirs:x?}");
            }
        }
    }
}
