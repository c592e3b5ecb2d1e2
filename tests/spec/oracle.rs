//! Real-world documents through our types and through oci-spec's, the differences of the two that design.md names, and
//! the round trip.

use keel::spec::{Linux, Mount, Process, Spec, parse, parse_process, sample};
use oci_spec::runtime as oci;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What engines write, and one document with every field of the spec.
const DOCUMENTS: &[&str] = &["buildkit", "containerd", "docker", "everything", "podman", "runc", "runc-rootless"];

fn read(name: &str) -> String {
    std::fs::read_to_string(format!("tests/data/spec/{name}.json")).unwrap()
}

/// Drops what means "not there" in both: null, empty and zero values, and what oci-spec always writes so.
fn prune(value: &mut Value) {
    let empty = |v: &Value| match v {
        Value::Null | Value::Bool(false) => true,
        Value::Number(n) => n.as_f64() == Some(0.0),
        Value::String(s) => s.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(true) => false,
    };
    match value {
        Value::Object(map) => {
            map.values_mut().for_each(prune);
            map.retain(|_, v| !empty(v));
        }
        Value::Array(list) => list.iter_mut().for_each(prune),
        _ => {}
    }
}

fn pruned(mut value: Value) -> Value {
    prune(&mut value);
    value
}

#[test]
fn the_files_are_all_here() {
    let mut names: Vec<_> = std::fs::read_dir("tests/data/spec")
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap().trim_end_matches(".json").to_owned())
        .collect();
    names.sort();
    assert_eq!(names, DOCUMENTS);
}

/// Nothing of a document is lost or changed, and no key of it is unknown.
#[test]
fn documents_survive_the_round_trip() {
    for name in DOCUMENTS {
        let text = read(name);
        let loaded = parse(text.as_bytes()).unwrap();
        assert_eq!(loaded.warnings, [""; 0], "{name}");
        let written = serde_json::to_string(&loaded.spec).unwrap();
        assert_eq!(parse(written.as_bytes()).unwrap().spec, loaded.spec, "{name}");
        assert_eq!(pruned(serde_json::from_str(&written).unwrap()), pruned(serde_json::from_str(&text).unwrap()), "{name}");
    }
}

#[test]
fn documents_read_the_same_as_by_oci_spec() {
    for name in DOCUMENTS {
        let text = read(name);
        let ours = pruned(serde_json::to_value(parse(text.as_bytes()).unwrap().spec).unwrap());
        let theirs = pruned(serde_json::to_value(serde_json::from_str::<oci::Spec>(&text).unwrap()).unwrap());
        // oci-spec sorts sets of names that we keep in the user's order.
        assert_eq!(sorted(ours), sorted(theirs), "{name}");
    }
}

fn sorted(mut value: Value) -> Value {
    if let Some(sets) = value.pointer_mut("/process/capabilities").and_then(Value::as_object_mut) {
        sets.values_mut().filter_map(Value::as_array_mut).for_each(|set| set.sort_by(|a, b| a.as_str().cmp(&b.as_str())));
    }
    value
}

#[test]
fn documents_validate() {
    for name in DOCUMENTS {
        let verdict = keel::spec::validate(&parse(read(name).as_bytes()).unwrap().spec);
        match *name {
            "everything" => {
                let told = verdict.unwrap();
                let places: Vec<_> = told.iter().map(|words| words.split(' ').next().unwrap()).collect();
                assert_eq!(places, ["linux.resources.memory.kernel", "linux.resources.memory.kernelTCP"]);
            }
            name => assert_eq!(verdict.unwrap(), [""; 0], "{name}"),
        }
    }
}

/// oci-spec's own default document is one of ours too.
#[test]
fn their_default_document() {
    let text = serde_json::to_string(&oci::Spec::default()).unwrap();
    let loaded = parse(text.as_bytes()).unwrap();
    assert_eq!(loaded.warnings, [""; 0]);
    assert_eq!(sorted(pruned(serde_json::to_value(&loaded.spec).unwrap())), sorted(pruned(serde_json::from_str(&text).unwrap())));
    let ours: oci::Spec = serde_json::from_str(&sample(None, true)).unwrap();
    assert_eq!(ours.version(), "1.3.0");
}

/// Values of our types, written and read again; the numbers walk through the corners of their ranges.
#[test]
fn any_value_survives() {
    let mut seed = 1_u64;
    let mut next = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        seed >> 33
    };
    for _ in 0..500 {
        let corner = [0, 1, 255, u64::from(u32::MAX), u64::MAX >> 1][(next() % 5) as usize];
        let id = corner.min(u64::from(u32::MAX)) as u32;
        let text: String = (0..next() % 6).map(|_| ['a', '"', '\\', '\n', 'é', '\u{1F980}'][(next() % 6) as usize]).collect();
        let list: Vec<_> = (0..next() % 3).map(|_| text.clone()).collect();
        let mut spec = Spec { hostname: text.clone(), annotations: BTreeMap::from([(text.clone(), text.clone())]), ..Spec::default() };
        spec.mounts = vec![Mount { destination: text.clone(), options: list.clone(), ..Mount::default() }];
        let mut process =
            Process { args: list.clone(), env: list, cwd: text, oom_score_adj: (next() % 2 == 0).then_some(0), ..Process::default() };
        (process.user.uid, process.user.umask, process.terminal) = (id, (next() % 2 == 0).then_some(0), next() % 2 == 0);
        spec.process = Some(process);
        let mut linux = Linux::default();
        linux.resources.memory.limit = (next() % 2 == 0).then_some(-(corner as i64));
        linux.resources.cpu.shares = (next() % 2 == 0).then_some(corner);
        linux.resources.pids = (next() % 2 == 0).then(Default::default);
        spec.linux = linux;
        let written = serde_json::to_vec(&spec).unwrap();
        assert_eq!(parse(&written).unwrap().spec, spec);
    }
}

/// Where oci-spec 0.10 and the spec (or runc) part: each line says what ours does and what theirs does. If theirs
/// changes, docs/decisions/0002 wants a second look.
#[test]
fn quirks_of_oci_spec() {
    // A capability of a newer kernel: a warning of ours, the end of the whole file for theirs.
    let text = r#"{"ociVersion": "1.0.0", "process": {"cwd": "/", "args": ["a"], "user": {"uid": 0, "gid": 0}, "capabilities": {"bounding": ["CAP_FUTURE"]}}}"#;
    assert_eq!(parse(text.as_bytes()).unwrap().spec.process.unwrap().capabilities.unwrap().bounding, ["CAP_FUTURE"]);
    assert!(serde_json::from_str::<oci::Spec>(text).is_err());

    // pids without a limit: not set; theirs reads 0.
    let text = r#"{"pids": {}}"#;
    let ours: keel::spec::Resources = serde_json::from_str(text).unwrap();
    assert_eq!(ours.pids.unwrap().limit, None);
    let theirs: oci::LinuxResources = serde_json::from_str(text).unwrap();
    assert_eq!(theirs.pids().as_ref().unwrap().limit(), 0);

    // The version it says it knows.
    assert_eq!(oci::VERSION, "1.1.0");

    // A process that an exec builds on: empty, but theirs has capabilities, a limit of files, and a shell.
    let (ours, _) = parse_process(br#"{"cwd": "/"}"#).unwrap();
    assert!(ours.capabilities.is_none() && ours.rlimits.is_empty() && ours.args.is_empty() && ours.env.is_empty());
    let theirs = serde_json::to_value(oci::Process::default()).unwrap();
    assert_eq!(
        (&theirs["user"]["uid"], &theirs["rlimits"][0]["type"], &theirs["args"]),
        (&json!(0), &json!("RLIMIT_NOFILE"), &json!(["sh"]))
    );

    // The name of a flag, config.md "scheduler".
    let text = r#"{"policy": "SCHED_BATCH", "flags": ["SCHED_FLAG_RESET_ON_FORK"]}"#;
    assert_eq!(serde_json::from_str::<keel::spec::Scheduler>(text).unwrap().flags, ["SCHED_FLAG_RESET_ON_FORK"]);
    assert!(serde_json::from_str::<oci::Scheduler>(text).is_err());

    // A list where an object belongs: theirs reads it by position.
    assert!(serde_json::from_str::<keel::spec::Root>(r#"["/", true]"#).is_err());
    assert!(serde_json::from_str::<oci::Root>(r#"["/", true]"#).is_ok());

    // Go's null for an empty list.
    let text = r#"{"destination": "/a", "options": null, "type": null}"#;
    assert_eq!(serde_json::from_str::<Mount>(text).unwrap().options, [""; 0]);
    assert!(serde_json::from_str::<oci::Mount>(text).is_ok());
}
