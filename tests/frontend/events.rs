//! `events`.

use crate::common::eventually;
use crate::host::Host;
use serde_json::Value;
use std::io::Read;
use std::process::Stdio;

#[test]
fn events_tell_the_life_of_a_container() {
    let host = Host::new();
    host.idle("life", &["--label", "colour=red"]);
    host.ok(&["exec", "life", "true"]);
    host.ok(&["pause", "life"]);
    host.ok(&["unpause", "life"]);
    host.ok(&["rename", "life", "after"]);
    host.ok(&["stop", "-t", "0", "after"]);
    host.ok(&["rm", "after"]);
    let id = host.ok(&["events", "--since", "1h", "--until", "0s", "--filter", "event=create", "--format", "{{.Actor.ID}}"]);
    let actions = host.actions(&id);
    let expected = [
        "create",
        "start",
        "exec_create: true",
        "exec_start: true",
        "exec_die",
        "pause",
        "unpause",
        "rename",
        "kill",
        "kill",
        "die",
        "stop",
    ];
    assert_eq!(actions[..12], expected);
    assert_eq!(actions[12..], ["destroy"]);
    let die =
        host.ok(&["events", "--since", "1h", "--until", "0s", "--filter", "event=die", "--filter", "label=colour=red", "--format", "json"]);
    let die: Value = serde_json::from_str(&die).unwrap();
    assert_eq!((die["Actor"]["Attributes"]["exitCode"].as_str(), die["status"].as_str()), (Some("137"), Some("die")));
    assert_eq!(host.ok(&["events", "--since", "1h", "--until", "0s", "--filter", "type=volume"]), "");
    host.my(&["events", "--since", "yesterday"]).fails(1, &["invalid time"]);
    host.my(&["events", "--since", "0s", "--until", "1h"]).fails(1, &["cannot be after"]);
}

#[test]
fn events_come_as_they_happen() {
    let host = Host::new();
    let mut child = host.command(&["events", "--format", "{{.Type}} {{.Action}} {{.Actor.ID}}"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    // Only what comes after it has begun to watch is promised.
    let mut number = 0;
    let mut text = String::new();
    let mut space = [0; 4096];
    let watcher = std::thread::spawn(move || {
        while !text.contains('\n') {
            let length = out.read(&mut space).unwrap();
            assert!(length > 0, "it ended");
            text.push_str(&String::from_utf8_lossy(&space[..length]));
        }
        text
    });
    eventually("an event", || {
        number += 1;
        host.ok(&["volume", "create", &format!("volume{number}")]);
        watcher.is_finished()
    });
    let text = watcher.join().unwrap();
    assert!(text.starts_with("volume create volume"), "{text}");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn health_and_memory_are_told() {
    let host = Host::new();
    host.idle("ill", &["--health-cmd", "false", "--health-interval", "50ms", "--health-retries", "1"]);
    eventually("ill health", || host.actions("ill").contains(&"health_status: unhealthy".to_owned()));
    host.ok(&[
        "run",
        "-d",
        "--name",
        "greedy",
        "--network",
        "none",
        "-m",
        "8m",
        "--memory-swap",
        "8m",
        "busybox",
        "sh",
        "-c",
        "x=1; while true; do x=$x$x; done",
    ]);
    eventually("the end for want of memory", || host.actions("greedy").contains(&"die".to_owned()));
    assert!(host.actions("greedy").contains(&"oom".to_owned()), "{:?}", host.actions("greedy"));
}
