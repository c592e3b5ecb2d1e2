//! `--trace`: the timeline of a create, run or exec, on the host and in the child, also of one that fails.

mod common;

use common::{Bundle, Census};
use serde_json::{Value, json};
use std::fs;

fn events(bundle: &Bundle, category: &str) -> Vec<Value> {
    let document: Value = serde_json::from_str(&fs::read_to_string(bundle.dir.join("trace.json")).unwrap()).unwrap();
    assert!(document["otherData"]["begun"].as_str().unwrap().ends_with('Z'));
    let events: Vec<Value> = document["traceEvents"].as_array().unwrap().iter().filter(|e| e["ph"] == "X").cloned().collect();
    for event in &events {
        assert!(event["ts"].as_f64().unwrap() >= 0.0 && event["dur"].as_f64().unwrap() >= 0.0, "{event}");
        assert!(event["pid"].as_u64().unwrap() > 0 && event["tid"] == event["pid"], "{event}");
    }
    events.into_iter().filter(|event| event["cat"] == category).collect()
}

fn find<'e>(events: &'e [Value], name: &str) -> &'e Value {
    events.iter().find(|event| event["name"] == name).unwrap_or_else(|| panic!("no {name} in {events:?}"))
}

fn planned(bundle: &Bundle) -> Vec<Value> {
    bundle.write();
    let plan: Value = serde_json::from_str(&bundle.keel(&["plan", "--format", "json", "ID"]).ok()).unwrap();
    plan["ops"].as_array().unwrap().clone()
}

/// The child's events are the operations of the plan by number, name, sentence and place, one after the other.
fn are_the_plans(events: &[Value], plan: &[Value]) {
    assert_eq!(events.len(), plan.len(), "{events:?}");
    let mut before = 0.0;
    for (event, op) in events.iter().zip(plan) {
        let args = &event["args"];
        assert_eq!((&event["name"], &args["index"], &args["does"]), (&op["op"], &op["index"], &op["does"]));
        assert_eq!(args["at"].as_str().unwrap_or_default(), op["at"], "{event}");
        let begun = event["ts"].as_f64().unwrap();
        // Microseconds with a fraction: the last digit may be rounded.
        assert!(begun >= before - 0.01, "{event} begins before the one before it ended, at {before}");
        before = begun + event["dur"].as_f64().unwrap();
        assert!(args.get("error").is_none() && args.get("unfinished").is_none(), "{event}");
    }
}

#[test]
fn run_tells_each_operation_of_the_plan_and_each_step_of_the_host() {
    let bundle = Bundle::new(&["true"]).with(|c| {
        c["hooks"] = json!({"createRuntime": [{"path": "/bin/true"}, {"path": "/bin/sleep", "args": ["sleep", "0.2"]}]});
    });
    bundle.write();
    bundle.keel(&["run", "--trace", "trace.json", "ID"]).ok();
    let mut plan = planned(&bundle);
    // A plan is that of create: it waits for `start` where run does not.
    let wait = plan.len() - 2;
    plan[wait]["does"] = json!("run the startContainer hooks");
    let (host, mut child) = (events(&bundle, "host"), events(&bundle, "child"));
    child[wait]["args"]["does"] = plan[wait]["does"].clone();
    are_the_plans(&child, &plan);
    for name in ["load", "validate", "plan", "make the cgroup", "arm", "clone", "spawn", "wait for the program", "delete"] {
        assert!(find(&host, name)["args"].get("error").is_none());
    }
    let hooks: Vec<&Value> = host.iter().filter(|event| event["name"] == "hook").collect();
    assert_eq!(
        hooks.iter().map(|hook| hook["args"]["at"].as_str().unwrap()).collect::<Vec<_>>(),
        ["hooks.createRuntime[0]", "hooks.createRuntime[1]"]
    );
    let long = |event: &Value| event["dur"].as_f64().unwrap() >= 200_000.0;
    assert!(!long(hooks[0]) || hooks[0]["dur"].as_f64() < hooks[1]["dur"].as_f64());
    // The slow hook is seen from all sides: itself, the parent that answers, the child that waits, the whole of the start.
    let waits = child.iter().find(|event| event["name"] == "Sync").unwrap();
    assert!(long(hooks[1]) && long(find(&host, "answer CreateRuntime")) && long(waits) && long(find(&host, "spawn")));
    assert_ne!(waits["pid"], hooks[1]["pid"]);
    Census::of(&bundle).nothing_left(&bundle);
}

#[test]
fn create_tells_what_comes_before_start() {
    let bundle = Bundle::new(&["sleep", "1000"]);
    bundle.write();
    bundle.detached(&["create", "--pid-file", "pid", "--trace", "trace.json", "ID"]).ok();
    let plan = planned(&bundle);
    let child = events(&bundle, "child");
    assert_eq!(child[0]["pid"], bundle.pid());
    are_the_plans(&child, &plan[..plan.len() - 1]);
    bundle.keel(&["start", "ID"]).ok();
    assert_eq!(bundle.status(), "running");
    bundle.delete();
}

/// The process is under its filter after that, and reading a clock may be a system call: these two have one time together.
#[test]
fn what_is_done_under_the_seccomp_filter_has_one_time() {
    let bundle = Bundle::new(&["true"]).with(|c| c["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": []}));
    bundle.write();
    bundle.keel(&["run", "--trace", "trace.json", "ID"]).ok();
    let child = events(&bundle, "child");
    let last = child.last().unwrap();
    assert_eq!((&last["name"], &last["args"]["with"]), (&json!("Seccomp"), &json!(["Exec"])));
    assert!(last["dur"].as_f64().unwrap() > 0.0);
}

#[test]
fn a_failing_operation_is_marked_and_the_undoing_is_told() {
    let bundle = Bundle::new(&["true"]).with(|c| {
        let mounts = c["mounts"].as_array_mut().unwrap();
        mounts.push(json!({"destination": "/data", "type": "bind", "source": "/no/such/source", "options": ["bind"]}));
    });
    let number = bundle.config["mounts"].as_array().unwrap().len() - 1;
    bundle.write();
    let err = bundle.keel(&["run", "--trace", "trace.json", "ID"]).fails(1, &["/no/such/source"]);
    let (host, child) = (events(&bundle, "host"), events(&bundle, "child"));
    let failed = child.last().unwrap();
    assert_eq!((&failed["name"], &failed["args"]["at"]), (&json!("OpenTree"), &json!(format!("mounts[{number}]"))));
    let sentence = failed["args"]["error"].as_str().unwrap();
    assert!(err.contains(sentence), "{sentence} is what keel says: {err}");
    assert_eq!(find(&host, "spawn")["args"]["error"], failed["args"]["error"]);
    find(&host, "undo");
    assert_eq!(child.iter().filter(|event| event["args"].get("error").is_some()).count(), 1);
    Census::of(&bundle).nothing_left(&bundle);
}

#[test]
fn a_configuration_that_is_refused_has_a_timeline_too() {
    let bundle = Bundle::new(&["true"]).with(|c| c["process"]["cwd"] = json!("relative"));
    bundle.write();
    let err = bundle.keel(&["create", "--trace", "trace.json", "ID"]).fails(1, &["process.cwd"]);
    let error = find(&events(&bundle, "host"), "validate")["args"]["error"].clone();
    assert!(err.contains(error.as_str().unwrap()), "{error} in {err}");
}

#[test]
fn a_file_that_cannot_be_written_is_refused_before_anything_is_made() {
    let bundle = Bundle::new(&["true"]);
    bundle.write();
    bundle.keel(&["run", "--trace", "no/such/dir/trace.json", "ID"]).fails(1, &["make the timeline", "no such file or directory"]);
    Census::of(&bundle).nothing_left(&bundle);
}

/// The file never becomes a descriptor that the caller announced and did not open, nor one of the container's.
#[test]
fn the_file_is_not_the_containers() {
    let bundle = Bundle::new(&["sh", "-c", "ls -l /proc/self/fd"]);
    bundle.write();
    bundle.keel(&["run", "--preserve-fds", "1", "--trace", "trace.json", "ID"]).fails(1, &["descriptor 3"]);
    let said = bundle.keel(&["run", "--trace", "trace.json", "ID"]).ok();
    assert!(!said.contains("trace.json"), "{said}");
}

/// Each operation from the first to the last, with one time, one after the other, by one process.
fn are_in_order(child: &[Value]) {
    for (index, event) in child.iter().enumerate() {
        assert_eq!(event["args"]["index"], index, "{child:?}");
        assert!(event["args"].get("error").is_none() && event["args"].get("unfinished").is_none(), "{event}");
        assert_eq!(event["pid"], child[0]["pid"]);
    }
    assert_eq!(child.last().unwrap()["name"], "Exec");
}

#[test]
fn exec_tells_each_operation_of_its_process_and_each_step_of_the_host() {
    let bundle = Bundle::new(&["sleep", "1000"]);
    bundle.write();
    bundle.detached(&["run", "--detach", "ID"]).ok();
    bundle.keel(&["exec", "--trace", "trace.json", "--pid-file", "execpid", "ID", "sleep", "0.2"]).ok();
    let (host, child) = (events(&bundle, "host"), events(&bundle, "child"));
    are_in_order(&child);
    assert_eq!(child[0]["pid"].to_string(), fs::read_to_string(bundle.dir.join("execpid")).unwrap());
    find(&child, "JoinInit");
    // The process that the container sees is made by a second clone.
    find(&child, "CloneAgain");
    for name in ["look at the container", "load", "validate", "open the cgroup", "plan", "arm", "clone", "spawn", "wait for the program"] {
        assert!(find(&host, name)["args"].get("error").is_none());
    }
    assert!(find(&host, "wait for the program")["dur"].as_f64().unwrap() >= 100_000.0);
    bundle.delete();
}

#[test]
fn an_exec_that_fails_has_a_timeline_too() {
    let bundle = Bundle::new(&["sleep", "1000"]);
    bundle.write();
    bundle.detached(&["run", "--detach", "ID"]).ok();
    let err = bundle.keel(&["exec", "--trace", "trace.json", "ID", "/no/such/program"]).fails(255, &["/no/such/program"]);
    let (host, child) = (events(&bundle, "host"), events(&bundle, "child"));
    let failed = child.last().unwrap();
    assert_eq!(failed["name"], "FindProgram");
    let sentence = failed["args"]["error"].as_str().unwrap();
    assert!(err.contains(sentence), "{sentence} is what keel says: {err}");
    assert_eq!(find(&host, "spawn")["args"]["error"], failed["args"]["error"]);
    bundle.keel(&["exec", "--cwd", "relative", "--trace", "trace.json", "ID", "true"]).fails(255, &["cwd"]);
    assert!(find(&events(&bundle, "host"), "validate")["args"].get("error").is_some());
    bundle
        .keel(&["exec", "--trace", "no/such/dir/trace.json", "ID", "true"])
        .fails(255, &["make the timeline", "no such file or directory"]);
    let said = bundle.keel(&["exec", "--trace", "trace.json", "ID", "ls", "-l", "/proc/self/fd"]).ok();
    assert!(!said.contains("trace.json"), "{said}");
    bundle.delete();
}
