//! Restarts, health, and what starts, stops and holds a container up.

use crate::common::{Said, eventually};
use crate::host::Host;
use std::process::Stdio;

#[test]
fn restart_policies_are_kept_and_a_stop_is_remembered() {
    let host = Host::new();
    let id = host.detached(&["--restart", "on-failure:2", "busybox", "sh", "-c", "echo run; exit 3"]);
    host.until(&id, "exited");
    assert_eq!(host.inspect(&id, "{{.RestartCount}} {{.State.ExitCode}}"), "2 3");
    assert_eq!(host.my(&["logs", &id]).ok(), "run\nrun\nrun\n");
    let id = host.detached(&["--restart", "on-failure", "busybox", "true"]);
    host.until(&id, "exited");
    assert_eq!(host.inspect(&id, "{{.RestartCount}}"), "0");
    // At any moment of a restart, too: while it waits, while it begins, just before its program is executed, and while that runs.
    let waits = [("always", 0)].into_iter().chain((0..200).step_by(8).map(|wait| ("unless-stopped", wait)));
    for (policy, wait) in waits {
        let id = host.detached(&["--restart", policy, "busybox", "sh", "-c", "sleep 0.05"]);
        eventually("restarted", || host.inspect(&id, "{{.RestartCount}}").parse::<u32>().unwrap() > 1);
        std::thread::sleep(std::time::Duration::from_millis(wait));
        host.my(&["stop", "-t", "0", &id]).ok();
        assert_eq!(host.status(&id), "exited", "{policy}");
        // A reboot does not start what a user stopped, but for `always`.
        let again = host.my(&["start", "--by-policy"]).ok();
        assert_eq!(again.contains(&id), policy == "always");
        host.my(&["rm", "-f", &id]).ok();
    }
    host.run(&["--restart", "sometimes", "busybox", "true"]).fails(125, &["sometimes"]);
    host.run(&["--restart", "always", "--rm", "busybox", "true"]).fails(125, &["--restart and --rm"]);
    host.clear();
}

#[test]
fn a_kill_ends_also_what_would_be_restarted() {
    let host = Host::new();
    let id = host.detached(&["--restart", "always", "busybox", "sleep", "1000"]);
    host.my(&["kill", &id]).ok();
    assert_eq!(host.inspect(&id, "{{.State.Status}} {{.State.ExitCode}}"), "exited 137");
    host.my(&["kill", &id]).fails(1, &["is not running"]);
    host.my(&["start", &id]).ok();
    host.my(&["pause", &id]).ok();
    host.my(&["kill", &id]).ok();
    assert_eq!(host.status(&id), "exited");
    let id = host.detached(&["busybox", "sh", "-c", "trap 'exit 9' USR1; echo ready; while :; do sleep 0.02; done"]);
    eventually("it is ready", || host.my(&["logs", &id]).ok() == "ready\n");
    host.my(&["kill", "-s", "USR1", &id]).ok();
    assert_eq!(host.my(&["wait", &id]).ok(), "9\n");
    host.my(&["kill", "-s", "NOSUCH", &id]).fails(1, &["NOSUCH"]);
    host.clear();
}

#[test]
fn health_is_checked() {
    let host = Host::new();
    let flags = ["--health-interval", "50ms", "--health-retries", "2", "--health-cmd"];
    let well = host.detached(&[&flags[..], &["test -e /well && echo fine", "busybox", "sleep", "1000"]].concat());
    eventually("it is unhealthy", || host.inspect(&well, "{{.State.Health.Status}}") == "unhealthy");
    assert!(host.my(&["ps"]).ok().contains("(unhealthy)"));
    host.exec(&well, "touch /well");
    eventually("it is healthy", || host.inspect(&well, "{{.State.Health.Status}}") == "healthy");
    assert_eq!(host.inspect(&well, "{{.State.Health.FailingStreak}}"), "0");
    assert!(host.inspect(&well, "{{json .State.Health.Log}}").contains("\"Output\":\"fine\\n\""));
    let slow = host.detached(&[
        "--health-interval",
        "50ms",
        "--health-timeout",
        "200ms",
        "--health-retries",
        "1",
        "--health-cmd",
        "exec sleep 77",
        "busybox",
        "sleep",
        "1000",
    ]);
    let rare = host.detached(&["--health-interval", "1h", "--health-cmd", "true", "busybox", "sleep", "1000"]);
    assert_eq!(host.inspect(&rare, "{{.State.Health.Status}}"), "starting");
    eventually("it is unhealthy", || host.inspect(&slow, "{{.State.Health.Status}}") == "unhealthy");
    assert!(host.inspect(&slow, "{{(index .State.Health.Log 0).Output}}").contains("exceeded timeout"));
    // What hung is gone, as many times as it was begun.
    assert!(host.exec(&slow, "ps").matches("sleep 77").count() <= 2);
    host.clear();
}

#[test]
fn pause_rename_wait_and_start_again() {
    let host = Host::new();
    host.detached(&["--name", "one", "busybox", "sh", "-c", "trap 'exit 8' TERM; echo ready; while :; do sleep 0.02; done"]);
    eventually("it is ready", || host.my(&["logs", "one"]).ok() == "ready\n");
    host.my(&["pause", "one"]).ok();
    assert_eq!(host.status("one"), "paused");
    assert!(host.my(&["ps"]).ok().contains("(Paused)"));
    host.my(&["pause", "one"]).fails(1, &["already paused"]);
    host.my(&["exec", "one", "true"]).fails(1, &["paused"]);
    host.my(&["unpause", "one"]).ok();
    host.my(&["unpause", "one"]).fails(1, &["not paused"]);
    host.my(&["rename", "one", "two"]).ok();
    host.my(&["inspect", "one"]).fails(1, &["one"]);
    host.detached(&["--name", "one", "busybox", "sleep", "1000"]);
    host.my(&["rename", "two", "one"]).fails(1, &["already in use"]);
    let wait = host.command(&["wait", "two"]).stdout(Stdio::piped()).spawn().unwrap();
    host.my(&["stop", "-t", "20", "two"]).ok();
    assert_eq!(Said::of(wait.wait_with_output().unwrap()).ok(), "8\n");
    assert_eq!(host.my(&["wait", "two"]).ok(), "8\n");
    assert_eq!(host.my(&["start", "two", "one"]).ok(), "two\none\n");
    assert_eq!(host.status("two"), "running");
    eventually("it is ready again", || host.my(&["logs", "two"]).ok() == "ready\nready\n");
    let mut start = host.command(&["start", "-a", "two"]);
    let attached = start.stdout(Stdio::piped()).spawn().unwrap();
    // Were it slower than the stop, it would start the container once more and wait for ever.
    eventually("it is attached", || host.actions("two").contains(&"attach".to_owned()));
    host.my(&["stop", "-t", "20", "two"]).ok();
    assert_eq!(attached.wait_with_output().unwrap().status.code(), Some(8));
    host.clear();
}

#[test]
fn ps_filters_and_formats() {
    let host = Host::new();
    host.detached(&["--name", "red", "-l", "color=red", "busybox", "sleep", "1000"]);
    host.my(&["create", "--name", "blue", "-l", "color=blue", "--network", "none", "busybox", "true"]).ok();
    host.run(&["--name", "gone", "busybox", "sh", "-c", "exit 3"]).fails(3, &[]);
    let names = |args: &[&str]| host.my(&[&["ps", "--format", "{{.Names}}"], args].concat()).ok().replace('\n', " ");
    assert_eq!(names(&[]), "red ");
    assert_eq!(names(&["-a"]), "gone blue red ");
    assert_eq!(names(&["-a", "-f", "label=color=blue"]), "blue ");
    assert_eq!(names(&["-a", "-f", "label=color"]), "blue red ");
    assert_eq!(names(&["-f", "status=created", "-f", "status=exited"]), "gone blue ");
    assert_eq!(names(&["-f", "exited=3"]), "gone ");
    assert_eq!(names(&["-a", "-f", "name=re"]), "red ");
    assert_eq!(names(&["-a", "-f", "ancestor=busybox", "-f", "before=gone"]), "blue red ");
    assert_eq!(names(&["-l"]), "gone ");
    assert_eq!(names(&["-n", "2"]), "gone blue ");
    host.my(&["ps", "-f", "nosuch=1"]).fails(1, &["nosuch"]);
    let json: serde_json::Value = serde_json::from_str(&host.my(&["ps", "--format", "json"]).ok()).unwrap();
    assert_eq!(
        (json["Names"].as_str(), json["State"].as_str(), json["Labels"].as_str()),
        (Some("red"), Some("running"), Some("color=red"))
    );
    assert_eq!(host.inspect("gone", "{{.State.ExitCode}} {{json .Config.Cmd}}"), "3 [\"sh\",\"-c\",\"exit 3\"]");
    assert_eq!(host.inspect("red", "{{.Config.Labels.color}} {{.HostConfig.NetworkMode}}"), "red none");
    host.clear();
}
