//! CVE-2022-36109, CVE-2023-25173: the caller's supplementary groups leaked into the container, or the container's were
//! not set.

use super::{Guard, as_caller, common::Bundle, control_with};
use serde_json::{Value, json};

/// A caller in the groups adm (4) and sudo (27).
const CALLER: [&str; 1] = ["--groups=4,27"];

fn user(uid: u32, gid: u32, groups: Option<&[u32]>) -> Value {
    let mut user = json!({ "uid": uid, "gid": gid });
    if let Some(groups) = groups {
        user["additionalGids"] = json!(groups);
    }
    user
}

#[test]
fn the_callers_groups_are_left_and_the_specs_set() {
    let matrix = [
        (user(0, 0, None), "0"),
        (user(0, 0, Some(&[])), "0"),
        (user(1000, 1000, None), "1000"),
        (user(1000, 1000, Some(&[])), "1000"),
        (user(1000, 1000, Some(&[5, 6])), "1000 5 6"),
        (user(1000, 0, Some(&[27])), "0 27"),
        (user(4, 4, None), "4"),
    ];
    let bundle = Bundle::new(&["id", "-G"]);
    let guard = Guard::new(&bundle);
    let mut bundle = bundle;
    for (user, groups) in matrix {
        bundle.config["process"]["user"] = user.clone();
        bundle.write();
        let said = as_caller(&bundle, &CALLER, &["run", &bundle.id()]);
        assert_eq!(said.ok().trim(), groups, "{user}");
    }
    guard.unchanged_and_empty(&bundle);
    control_with(&bundle, &guard, |peer| peer.said(&CALLER, &["run", "ID"]).out.contains("27"));
}

#[test]
fn of_exec_too() {
    let bundle = Bundle::new(&["sleep", "60"]).with(|config| config["process"]["user"] = user(1000, 1000, Some(&[5])));
    bundle.start();
    let id = bundle.id();
    let exec = |flags: &[&str]| {
        let args: Vec<&str> = ["exec"].iter().chain(flags).copied().chain([id.as_str(), "id", "-G"]).collect();
        as_caller(&bundle, &CALLER, &args).ok().trim().to_owned()
    };
    assert_eq!(exec(&[]), "1000 5");
    assert_eq!(exec(&["--additional-gids", "6"]), "1000 5 6");
    let document = bundle.dir.join("process.json");
    std::fs::write(&document, json!({ "args": ["id", "-G"], "cwd": "/", "env": ["PATH=/bin"] }).to_string()).unwrap();
    let said = as_caller(&bundle, &CALLER, &["exec", "--process", document.to_str().unwrap(), &id]);
    assert_eq!(said.ok(), "0\n");
}
