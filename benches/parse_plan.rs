//! What deciding costs: from the bytes of a bundle's config.json to the complete plan, before anything is touched. Needs no root.
//!
//! `cargo bench --bench parse_plan [-- NAME]` prints microseconds, median and minimum of many rounds, for each bundle of
//! `bundles/`: the whole, and its stages. Time depends on the machine; what is compared are the stages of one run, or
//! interleaved runs of two builds.

use keel::plan::limits::{self, Version};
use keel::plan::{self, Facts, Options, seccomp};
use keel::spec;
use std::fs;
use std::hint::black_box;
use std::path::PathBuf;
use std::time::Instant;

/// Rounds for each bundle. Some hundred settle the median; the minimum wants more.
const ROUNDS: usize = 2000;

/// The stages in their order; the last column is the sum.
const STAGES: [&str; 5] = ["parse", "validate", "limits", "seccomp", "plan"];

/// A root user on any host: what `arm::facts` finds there.
fn facts() -> Facts {
    Facts { privileged: true, capabilities: (1 << 41) - 1, ..Facts::default() }
}

/// One round: nanoseconds of each stage.
fn decide(bytes: &[u8], facts: &Facts, options: &Options) -> [u64; STAGES.len()] {
    let mut last = Instant::now();
    let mut lap = || {
        let now = Instant::now();
        let nanoseconds = (now - std::mem::replace(&mut last, now)).as_nanos();
        u64::try_from(nanoseconds).unwrap_or(u64::MAX)
    };
    let loaded = spec::parse(black_box(bytes)).unwrap_or_else(|error| panic!("{error}"));
    let parse = lap();
    black_box(spec::validate(&loaded.spec).unwrap_or_else(|error| panic!("{error}")));
    let validate = lap();
    black_box(limits::writes(&loaded.spec.linux.resources, Version::V1).unwrap_or_else(|error| panic!("{error}")));
    let limits = lap();
    black_box(loaded.spec.linux.seccomp.as_ref().map(|rules| seccomp::compile(rules).unwrap_or_else(|error| panic!("{error}"))));
    let seccomp = lap();
    black_box(plan::create(&loaded.spec, facts, options).unwrap_or_else(|error| panic!("{error}")));
    [parse, validate, limits, seccomp, lap()]
}

/// "median (minimum)" in microseconds.
fn summary(mut nanoseconds: Vec<u64>) -> String {
    nanoseconds.sort_unstable();
    let microseconds = |at: usize| nanoseconds[at] as f64 / 1000.0;
    format!("{:.1} ({:.1})", microseconds(nanoseconds.len() / 2), microseconds(0))
}

fn main() {
    // cargo passes --bench itself.
    let only: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/bundles"));
    let mut bundles: Vec<PathBuf> =
        fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.join("config.json").exists()).collect();
    bundles.sort();
    print!("{:10} {:>7}", "bundle", "bytes");
    STAGES.iter().chain(&["all"]).for_each(|stage| print!(" {stage:>16}"));
    println!("   µs, median (minimum) of {ROUNDS}");
    for bundle in bundles {
        let name = bundle.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !only.is_empty() && !only.iter().any(|part| name.contains(part)) {
            continue;
        }
        let bytes = fs::read(bundle.join("config.json")).unwrap();
        let options = Options { id: "bench".into(), bundle, ..Options::default() };
        let rounds: Vec<_> = (0..ROUNDS).map(|_| decide(&bytes, &facts(), &options)).collect();
        print!("{name:10} {:>7}", bytes.len());
        for stage in 0..STAGES.len() {
            print!(" {:>16}", summary(rounds.iter().map(|round| round[stage]).collect()));
        }
        println!(" {:>16}", summary(rounds.iter().map(|round| round.iter().sum()).collect()));
    }
}
