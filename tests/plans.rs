//! Golden plans: what each bundle of `tests/plans/` would do on three kinds of host, in words.
//!
//! `plan::create` is a pure function, so the host is data here. `UPDATE_PLANS=1 cargo test --test plans` writes the
//! expectations anew: read the difference before you commit it.

mod common;

use common::Bundle;
use keel::plan::{self, CgroupView, Facts, Options, Plan};
use keel::spec;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// The hosts: hybrid v1 with root, v2 with root, v2 with an ordinary user.
fn hosts() -> [(&'static str, Facts); 3] {
    let root = Facts { privileged: true, capabilities: (1 << 41) - 1, ..Facts::default() };
    let mount = |name: &str| (name.to_owned(), PathBuf::from(format!("/sys/fs/cgroup/{name}/ID")));
    let hybrid = CgroupView {
        v2: false,
        tasks: 2,
        beside: true,
        others: Vec::new(),
        mounts: vec![mount("memory"), mount("cpu,cpuacct"), mount("unified")],
        links: vec![("cpu".into(), "cpu,cpuacct".into())],
    };
    let v2 = CgroupView { v2: true, mounts: vec![(String::new(), "/sys/fs/cgroup/ID".into())], ..CgroupView::default() };
    [
        ("hybrid", Facts { cgroup: hybrid, ..root.clone() }),
        ("v2", Facts { cgroup: v2.clone(), ..root }),
        ("user", Facts { uid: 1000, gid: 1000, cgroup: v2, ..Facts::default() }),
    ]
}

/// The words, and what they leave out: who joins and opens what, with which attributes.
fn describe(plan: &Plan) -> String {
    let mut text = plan.text();
    let _ = writeln!(text, "    maps {:?}", plan.maps.is_some());
    let _ = writeln!(text, "    the parent opens the trees: {}; the tail begins at {}", plan.trees_outside, plan.tail);
    for op in &plan.outside {
        let _ = writeln!(text, "    the parent: {}", plan.sentence(op));
    }
    for map in &plan.id_maps {
        let _ = writeln!(text, "    id map {map:?}");
    }
    for tree in &plan.trees {
        let (one, all) = (&tree.attr, &tree.attr_recursive);
        let _ = writeln!(
            text,
            "    tree {}{} set {:#x} clear {:#x} propagation {:#x}; all set {:#x} clear {:#x} propagation {:#x}{}",
            tree.source.to_string_lossy(),
            if tree.recursive { " and below" } else { "" },
            one.attr_set,
            one.attr_clr,
            one.propagation,
            all.attr_set,
            all.attr_clr,
            all.propagation,
            tree.id_map.map_or(String::new(), |(map, all)| format!("; id map {map}{}", if all { " for all" } else { "" })),
        );
    }
    for op in &plan.ops {
        if let plan::Op::Mount { fs, to, .. } = op {
            let _ = writeln!(text, "    attributes of /{}: {:#x}, rule {:?}", to.path.to_string_lossy(), fs.attr, to.rule);
        }
    }
    for warning in &plan.warnings {
        let _ = writeln!(text, "    warning: {warning}");
    }
    text
}

fn golden(json: &Path) -> String {
    let loaded = spec::parse(&fs::read(json).unwrap()).unwrap();
    if let Err(error) = spec::validate(&loaded.spec) {
        return format!("refused: {error}\n");
    }
    let mut text = String::new();
    for (host, facts) in hosts() {
        for no_pivot in [false, true] {
            let options = Options {
                id: "ID".into(),
                bundle: "/bundle".into(),
                no_pivot,
                park: true,
                keyring: Some("_ses.ID".into()),
                ..Options::default()
            };
            let described = match plan::create(&loaded.spec, &facts, &options) {
                Ok(plan) => describe(&plan),
                Err(error) => format!("    refused: {error}\n"),
            };
            if !no_pivot {
                let _ = write!(text, "== {host}\n{described}\n");
            } else if host == "v2" && described.contains("without pivot_root") {
                let moved = described.lines().find(|line| line.contains("without pivot_root")).unwrap();
                let _ = write!(text, "== {host} --no-pivot\n{moved}\n\n");
            }
        }
    }
    text
}

#[test]
fn every_bundle_has_the_plan_that_was_reviewed() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plans");
    let mut jsons: Vec<PathBuf> = fs::read_dir(&dir).unwrap().flatten().map(|entry| entry.path()).collect();
    jsons.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    jsons.sort();
    assert!(jsons.len() >= 10, "{jsons:?}");
    let update = std::env::var_os("UPDATE_PLANS").is_some();
    let mut wrong = Vec::new();
    for json in jsons {
        let (is, path) = (golden(&json), json.with_extension("plan.txt"));
        if update {
            fs::write(&path, &is).unwrap();
        }
        let expected = fs::read_to_string(&path).unwrap_or_default();
        if let Some((number, (is, expected))) = is.lines().zip(expected.lines()).enumerate().find(|(_, (is, expected))| is != expected) {
            wrong.push(format!("{}:{}\n  is       {is}\n  expected {expected}", path.display(), number + 1));
        } else if is.lines().count() != expected.lines().count() {
            wrong.push(format!("{}: {} lines, expected {}", path.display(), is.lines().count(), expected.lines().count()));
        }
    }
    assert!(wrong.is_empty(), "UPDATE_PLANS=1 writes these anew:\n{}", wrong.join("\n"));
}

#[test]
fn a_seccomp_filter_comes_last_and_needs_no_privilege_of_the_programs() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plans");
    for (name, tail) in [("docker", 3), ("seccomp-no-new-privileges", 2)] {
        let loaded = spec::parse(&fs::read(dir.join(format!("{name}.json"))).unwrap()).unwrap();
        let [(_, facts), ..] = hosts();
        let plan = plan::create(&loaded.spec, &facts, &Options { id: "ID".into(), bundle: "/b".into(), ..Options::default() }).unwrap();
        let at = plan.ops.iter().position(|op| *op == plan::Op::Seccomp).unwrap();
        assert_eq!(plan.ops.len() - at, tail, "{name}: after the filter only the drop of CAP_SYS_ADMIN and exec");
    }
}

#[test]
fn the_command_prints_the_same_plan_as_text_and_as_json() {
    let bundle = Bundle::new(&["true"]);
    bundle.write();
    let text = bundle.keel(&["plan", "--bundle", "."]).ok();
    let json: serde_json::Value = serde_json::from_str(&bundle.keel(&["plan", "--bundle", ".", "--format", "json"]).ok()).unwrap();
    let ops = json["ops"].as_array().unwrap();
    let mut lines = text.lines();
    assert_eq!(lines.next().unwrap().trim(), json["clone"].as_str().unwrap());
    assert_eq!(lines.clone().count(), ops.len());
    for (i, (line, op)) in lines.zip(ops).enumerate() {
        let (does, at) = (op["does"].as_str().unwrap(), op["at"].as_str().unwrap());
        let place = if at.is_empty() { String::new() } else { format!("  ({at})") };
        assert_eq!(line.trim_start(), format!("{i} {does}{place}"));
        assert_eq!(op["index"], i);
        assert!(op["op"].as_str().unwrap().starts_with(|c: char| c.is_ascii_uppercase()));
    }
    // Nothing was touched.
    assert!(!bundle.state_root().exists());
    common::Census::of(&bundle).nothing_left(&bundle);
}

/// No host of ours has SELinux: where it is, new file systems get the label, but for those that the kernel labels itself.
#[test]
fn a_mount_label_is_for_new_file_systems() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plans");
    let mut loaded = spec::parse(&fs::read(dir.join("default.json")).unwrap()).unwrap().spec;
    loaded.linux.mount_label = "system_u:object_r:container_file_t:s0".into();
    let options = Options { id: "ID".into(), bundle: "/b".into(), ..Options::default() };
    let [(_, facts), ..] = hosts();
    let refused = plan::create(&loaded, &facts, &options).unwrap_err().to_string();
    assert_eq!(refused, "SELinux is not enabled on this host (config.json: linux.mountLabel)");
    let plan = plan::create(&loaded, &Facts { selinux: true, ..facts }, &options).unwrap();
    let label = |plan: &plan::Plan, path: &str| {
        let params = plan.ops.iter().find_map(|op| match op {
            plan::Op::Mount { fs, to, .. } if to.path.to_bytes() == path.as_bytes() => Some(&fs.params),
            _ => None,
        });
        let value = params.unwrap().iter().find(|(key, _)| key.to_bytes() == b"context")?.1.as_ref();
        value.map(|value| value.to_str().unwrap().to_owned())
    };
    for (path, labelled) in [
        ("dev", true),
        ("dev/pts", true),
        ("dev/shm", true),
        ("sys/fs/cgroup", true),
        ("proc", false),
        ("sys", false),
        ("dev/mqueue", false),
    ] {
        assert_eq!(label(&plan, path), labelled.then(|| loaded.linux.mount_label.clone()), "{path}");
    }
    // Its own, in the quotes that mount(2) would want for the comma and fsconfig(2) would take for a part of the label.
    let mut own = loaded.clone();
    let shm = own.mounts.iter_mut().find(|mount| mount.destination == "/dev/shm").unwrap();
    shm.options.push(r#"context="system_u:object_r:container_file_t:s0:c1,c2""#.into());
    let (_, facts) = hosts().into_iter().next().unwrap();
    let own = plan::create(&own, &Facts { selinux: true, ..facts }, &options).unwrap();
    assert_eq!(label(&own, "dev/shm").as_deref(), Some("system_u:object_r:container_file_t:s0:c1,c2"));
    let sentences: Vec<String> = plan.ops.iter().map(|op| plan.sentence(op)).collect();
    let mqueue = format!("mount mqueue at /dev/mqueue, its root labelled {}", loaded.linux.mount_label);
    assert!(sentences.contains(&mqueue), "{sentences:#?}");
    assert!(plan.mask_label.is_some());
    // In config.json's words, so that docs/fields.md may name this test: mountLabel.
    assert_eq!(serde_json::to_value(&loaded).unwrap()["linux"]["mountLabel"], loaded.linux.mount_label);
}
