//! JSON of a caller's: parsed, judged, and planned if it is let through.

use crate::{accepted, refused};
use keel::plan::limits::{Version, writes};
use keel::plan::{self, Facts, Options, seccomp as filters};
use keel::spec::{self, Seccomp};

/// Hosts whose plans differ: root on one with everything, and an ordinary user.
fn hosts() -> [Facts; 2] {
    let root = Facts { privileged: true, capabilities: !0, apparmor: true, selinux: true, ..Facts::default() };
    [root, Facts { uid: 1000, gid: 1000, ..Facts::default() }]
}

pub fn config(data: &[u8]) {
    let Some(loaded) = accepted(spec::parse(data)) else { return };
    let (errors, _) = spec::faults(&loaded.spec);
    errors.iter().for_each(refused);
    if accepted(spec::validate(&loaded.spec)).is_none() {
        assert!(!errors.is_empty(), "refused, and no fault found");
        return;
    }
    for facts in hosts() {
        let options = Options { id: "id".into(), bundle: "/bundle".into(), park: true, ..Options::default() };
        if let Some(plan) = accepted(plan::create(&loaded.spec, &facts, &options)) {
            assert!(!plan.text().is_empty());
        }
        accepted(plan::after_start(&loaded.spec));
    }
}

pub fn process(data: &[u8]) {
    let Some((process, _)) = accepted(spec::parse_process(data)) else { return };
    if accepted(spec::validate_process(&process)).is_none() {
        return;
    }
    for (facts, kinds) in hosts().iter().zip([0, 0x7e02_0000]) {
        if let Some(plan) = accepted(plan::exec(&spec::Spec::default(), &process, kinds, facts)) {
            assert!(!plan.text().is_empty());
        }
    }
}

pub fn resources(data: &[u8]) {
    let Some((resources, _)) = accepted(spec::parse_resources(data)) else { return };
    if accepted(spec::validate_resources(&resources)).is_none() {
        return;
    }
    for version in [Version::V1, Version::V2] {
        accepted(writes(&resources, version));
        for old in [&spec::Resources::default(), &resources] {
            accepted(plan::update(old, &resources, version));
        }
    }
}

/// A filter of ours is one that the kernel takes: its jumps go forward and stay inside, and it ends by a decision.
pub fn seccomp(data: &[u8]) {
    let Ok(profile) = serde_json::from_slice::<Seccomp>(data) else { return };
    for family in [&filters::X86, &filters::ARM] {
        let Some(filter) = accepted(filters::compile_for(family, &profile)) else { continue };
        let program = &filter.program;
        assert!(program.len() <= 4096, "longer than BPF_MAXINSNS");
        for (at, instruction) in program.iter().enumerate() {
            let furthest = match instruction.code & 7 {
                5 if instruction.code & 0xf0 == 0 => instruction.k as usize,
                5 => usize::from(instruction.jt.max(instruction.jf)),
                _ => 0,
            };
            assert!(at + furthest + 1 < program.len() || instruction.code & 7 == 6 && furthest == 0, "instruction {at} leaves the program");
        }
    }
}
