//! `events`: the use of a container in runc's shape, and what happens to its memory.

mod common;

use common::{Bundle, eventually};
use keel::cgroup::{Layout, Version};
use serde_json::{Value, json};
use std::fs;
use std::process::{Command, Stdio};

fn v1() -> bool {
    Layout::detect().unwrap().version == Version::V1
}

fn stats(bundle: &Bundle) -> Value {
    let said = bundle.keel(&["events", "--stats", "ID"]);
    assert_eq!((said.out.matches('\n').count(), said.err.as_str()), (1, ""), "{said:?}");
    let line: Value = serde_json::from_str(&said.ok()).unwrap();
    assert_eq!((&line["type"], &line["id"]), (&json!("stats"), &json!(bundle.id())));
    line["data"].clone()
}

/// `keel events` in the background, its output in a file of the bundle.
fn background(bundle: &Bundle, interval: &str) -> std::process::Child {
    let id = bundle.id();
    let file = fs::File::create(bundle.dir.join("events")).unwrap();
    bundle.command(&["events", "--interval", interval, &id]).stdout(file).stderr(Stdio::inherit()).spawn().unwrap()
}

fn told(bundle: &Bundle) -> Vec<Value> {
    let text = fs::read_to_string(bundle.dir.join("events")).unwrap();
    // The last line may be on its way.
    text.split_inclusive('\n').filter(|line| line.ends_with('\n')).map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn stats_are_those_of_the_kernel() {
    let script = "i=0; while [ $i -lt 50000 ]; do i=$((i+1)); done; echo ready; exec sleep 1000";
    let resources = json!({"memory": {"limit": 64 << 20}, "pids": {"limit": 50}, "cpu": {"quota": 50000, "period": 100_000}});
    let bundle = Bundle::new(&["sh", "-c", script]).with(|c| {
        for (key, value) in resources.as_object().unwrap() {
            c["linux"]["resources"][key] = value.clone();
        }
    });
    bundle.start();
    eventually("the loop's end", || bundle.out() == "ready\n");
    let data = stats(&bundle);
    let number = |path: &str| data.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("{path} in {data}"));
    assert_eq!((number("/pids/current"), number("/pids/limit"), number("/memory/usage/limit")), (1, 50, 64 << 20));
    assert!((1..=64 << 20).contains(&number("/memory/usage/usage")), "{data}");
    assert!(number("/memory/usage/max") >= number("/memory/usage/usage"), "{data}");
    assert!(number("/memory/swap/usage") >= number("/memory/usage/usage"), "memory and swap together: {data}");
    // So many rounds take more than 5 ms of any CPU and less than a minute.
    assert!((5_000_000..60_000_000_000).contains(&number("/cpu/usage/total")), "nanoseconds: {data}");
    assert!(number("/cpu/usage/user") + number("/cpu/usage/kernel") > 0, "{data}");
    assert!(number("/cpu/throttling/periods") > 0, "{data}");
    assert!(number("/memory/raw/pgfault") > 0, "{data}");
    let interfaces = data["network_interfaces"].as_array().unwrap();
    assert_eq!(interfaces.iter().map(|i| i["Name"].as_str().unwrap()).collect::<Vec<_>>(), ["lo"]);
    if v1() {
        assert_eq!(
            number("/cpu/usage/total"),
            data["cpu"]["usage"]["percpu"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).sum::<u64>()
        );
        assert!(!data["cpuset"]["cpus"].as_array().unwrap().is_empty(), "{data}");
    } else if fs::exists("/proc/pressure/cpu").unwrap() {
        assert!(data["cpu"]["psi"]["some"]["total"].is_u64(), "{data}");
    }
}

/// Keys of every object in a document, by their paths; lists and free maps are not entered.
fn shape(value: &Value, path: &str, all: &mut Vec<String>) {
    if let Value::Object(map) = value {
        for (key, value) in map {
            all.push(format!("{path}/{key}"));
            if key != "raw" && key != "hugetlb" {
                shape(value, &format!("{path}/{key}"), all);
            }
        }
    }
}

#[test]
fn the_shape_is_runcs() {
    if Command::new("runc").arg("--version").output().is_err() {
        panic!("runc is not installed (hack/test packages)");
    }
    let bundle = Bundle::new(&["sleep", "1000"]);
    bundle.start();
    let ours = stats(&bundle);
    bundle.delete();
    let (root, id) = (bundle.dir.join("runc"), bundle.id());
    let runc = |args: &[&str]| {
        let mut command = Command::new("runc");
        command.arg("--root").arg(&root).args(args).current_dir(&bundle.dir).stdin(Stdio::null());
        command
    };
    assert!(runc(&["run", "--detach", &id]).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success());
    let theirs = runc(&["events", "--stats", &id]).output().unwrap();
    assert!(runc(&["delete", "--force", &id]).status().unwrap().success());
    let theirs: Value = serde_json::from_slice(&theirs.stdout).unwrap();
    let (mut ours_shape, mut theirs_shape) = (Vec::new(), Vec::new());
    shape(&ours, "", &mut ours_shape);
    shape(&theirs["data"], "", &mut theirs_shape);
    // A number of 0 is left out, so what one has and the other has not is a key that may be left out.
    let optional = |key: &&String| {
        ["/max", "/usage", "/cache", "/periods", "/throttledPeriods", "/throttledTime", "Recursive", "/psi", "/some", "/full", "/total"]
            .iter()
            .any(|end| key.ends_with(end))
            || key.contains("/psi/")
    };
    let missing: Vec<_> = theirs_shape.iter().filter(|key| !ours_shape.contains(key) && !optional(key)).collect();
    let strange: Vec<_> = ours_shape.iter().filter(|key| !theirs_shape.contains(key) && !optional(key)).collect();
    assert_eq!((missing, strange), (vec![], vec![]), "{ours}\n{theirs}");
}

#[test]
fn events_come_at_the_interval_and_end_with_the_container() {
    let bundle = Bundle::new(&["sleep", "1000"]);
    bundle.start();
    let mut events = background(&bundle, "20ms");
    eventually("three lines", || told(&bundle).len() >= 3);
    assert!(told(&bundle).iter().all(|line| line["type"] == "stats" && line["data"]["pids"]["current"] == 1));
    bundle.keel(&["kill", "ID", "KILL"]).ok();
    assert!(events.wait().unwrap().success(), "it ends when the container has stopped");
    bundle.keel(&["events", "--stats", "ID"]).fails(1, &["is not running"]);
    bundle.keel(&["events", "ID"]).fails(1, &["is not running"]);
}

#[test]
fn an_oom_kill_is_an_event() {
    // Again and again, as nobody sees from outside since when keel watches.
    let script = "while :; do head -c 200000000 /dev/zero | tail > /dev/null 2>&1; echo killed; usleep 100000; done";
    let bundle = Bundle::new(&["sh", "-c", script]).with(|c| {
        c["linux"]["resources"]["memory"] = json!({"limit": 16 << 20, "swap": 16 << 20});
    });
    bundle.start();
    // An hour: nothing but kills is told.
    let mut events = background(&bundle, "1h");
    eventually("the event", || !told(&bundle).is_empty());
    assert_eq!(told(&bundle)[0], json!({"type": "oom", "id": bundle.id()}));
    eventually("the shell goes on", || bundle.out().contains("killed"));
    bundle.delete();
    assert!(events.wait().unwrap().success());
    assert!(told(&bundle).iter().all(|line| line["type"] == "oom"), "the end of the cgroup is no event");
}

#[test]
fn a_wrong_interval_is_refused() {
    let bundle = Bundle::new(&["sleep", "1000"]);
    bundle.keel(&["events", "ID"]).fails(1, &["does not exist"]);
    bundle.start();
    bundle.keel(&["events", "--interval", "0", "ID"]).fails(1, &["duration interval must be greater than 0"]);
    bundle.keel(&["events", "--interval", "5", "ID"]).fails(1, &["invalid value \"5\" for --interval"]);
    bundle.keel(&["events", "--interval", "-5s", "ID"]).fails(1, &["invalid value \"-5s\""]);
}
