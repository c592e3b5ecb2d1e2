//! What engines parse and pass: versions, features, logs, descriptors.

use crate::common::Bundle;
use crate::host_shell;
use serde_json::{Value, json};
use std::fs;

/// go-runc's parseVersion.
fn go_runc(text: &str) -> Option<(&str, &str, &str)> {
    let mut lines = text.trim().split('\n');
    let runc = lines.next()?.strip_prefix("runc version ")?;
    let (mut commit, mut spec) = ("", "");
    for line in lines {
        commit = line.strip_prefix("commit: ").unwrap_or(commit);
        spec = line.strip_prefix("spec: ").unwrap_or(spec);
    }
    Some((runc, commit, spec))
}

/// moby's parseRuntimeVersion.
fn docker(text: &str) -> (String, String, String) {
    let (mut runtime, mut version, mut commit) = Default::default();
    for line in text.trim().split('\n') {
        if line.contains("version") {
            let parts: Vec<&str> = line.split("version").collect();
            (runtime, version) = (parts[0].trim().to_owned(), parts[parts.len() - 1].trim().to_owned());
        } else if let Some(rest) = line.strip_prefix("commit:") {
            commit = rest.trim().to_owned();
        }
    }
    (runtime, version, commit)
}

#[test]
fn the_version_is_read_by_go_runc_and_docker() {
    for flag in ["--version", "-v"] {
        let text = Bundle::new(&["true"]).keel(&[flag]).ok();
        let (runc, commit, spec) = go_runc(&text).unwrap();
        assert!(runc.starts_with(|c: char| c.is_ascii_digit()), "{text}");
        assert!(!commit.is_empty() && spec.starts_with("1."), "{text}");
        let (runtime, version, docker_commit) = docker(&text);
        assert_eq!((runtime.as_str(), docker_commit.as_str()), ("runc", commit), "{text}");
        assert!(version.starts_with(|c: char| c.is_ascii_digit()), "{text}");
        assert!(text.lines().next().unwrap().contains("keel"), "it must not hide who speaks: {text}");
    }
}

/// A dynamically linked program names its loader, glibc's.
#[test]
fn the_version_says_which_c_library_the_binary_has() {
    let text = Bundle::new(&["true"]).keel(&["--version"]).ok();
    let said = text.lines().find_map(|line| line.strip_prefix("libc: ")).unwrap_or_else(|| panic!("{text}"));
    let binary = fs::read(crate::common::KEEL).unwrap();
    let glibc = binary.windows(10).any(|bytes| bytes == b"/ld-linux-");
    let (name, version) = said.split_once(' ').unwrap();
    assert_eq!(name, if glibc { "glibc" } else { "musl" }, "{text}");
    assert!(version.starts_with(|c: char| c.is_ascii_digit()), "{text}");
}

#[test]
fn features_is_what_containerd_and_podman_read() {
    let said = Bundle::new(&["true"]).keel(&["features"]);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    let features: Value = serde_json::from_str(&said.out).unwrap();
    assert!(features["ociVersionMin"].as_str().unwrap().starts_with("1."));
    assert!(features["ociVersionMax"].as_str().unwrap().starts_with("1."));
    assert!(features["linux"]["mountExtensions"]["idmap"]["enabled"].is_boolean(), "containerd dereferences it");
    let list = |value: &Value| value.as_array().unwrap().iter().map(|v| v.as_str().unwrap().to_owned()).collect::<Vec<_>>();
    assert!(list(&features["mountOptions"]).contains(&"rro".into()));
    assert_eq!(
        list(&features["hooks"]).len(),
        ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"].len()
    );
    for kind in ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"] {
        assert!(list(&features["linux"]["namespaces"]).contains(&kind.to_owned()), "{kind}");
    }
}

#[test]
fn a_failure_is_exactly_one_line_of_the_json_log() {
    let bundle = Bundle::new(&["/no/such/program"]);
    // A warning must not come before it: podman parses the whole file as one document.
    let bundle = bundle.with(|c| c["process"]["capabilities"]["bounding"].as_array_mut().unwrap().push(json!("CAP_FUTURE")));
    bundle.write();
    for command in ["create", "run"] {
        let log = bundle.dir.join("log.json");
        bundle.keel(&["--log", log.to_str().unwrap(), "--log-format", "json", command, "ID"]).fails(1, &["error"]);
        let text = fs::read_to_string(&log).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        let entry: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(entry["level"], "error");
        assert!(entry["msg"].as_str().unwrap().contains("no such file or directory"), "{entry}");
        assert!(entry["time"].as_str().unwrap().contains('T'), "{entry}");
        fs::remove_file(&log).unwrap();
    }
}

#[test]
fn the_log_is_appended_to_and_warnings_go_there() {
    let bundle =
        Bundle::new(&["true"]).with(|c| c["process"]["capabilities"]["bounding"].as_array_mut().unwrap().push(json!("CAP_FUTURE")));
    bundle.write();
    let log = bundle.dir.join("log.json");
    fs::write(&log, "{\"earlier\":1}\n").unwrap();
    let said = bundle.keel(&["--log", log.to_str().unwrap(), "--log-format=json", "run", "ID"]);
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{said:?}");
    let text = fs::read_to_string(&log).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0], json!({"earlier": 1}));
    assert!(lines.iter().any(|l| l["level"] == "warning" && l["msg"].as_str().unwrap().contains("CAP_FUTURE")), "{text}");
}

#[test]
fn preserved_descriptors_reach_the_program_and_others_do_not() {
    let script = "read line <&3; echo three $line; test -e /proc/1/fd/4 && echo four; test -e /proc/1/fd/5 && echo five; true";
    let bundle = Bundle::new(&["sh", "-c", script]);
    bundle.write();
    fs::write(bundle.dir.join("input"), "from the caller\n").unwrap();
    let output = host_shell(&bundle, "$KEEL run --preserve-fds 1 $ID 3<input 4<input 5<input");
    assert_eq!(
        (output.status.code(), String::from_utf8_lossy(&output.stdout).as_ref()),
        (Some(0), "three from the caller\n"),
        "{output:?}"
    );
    let output = host_shell(&bundle, "$KEEL run $ID 3<input");
    assert!(!String::from_utf8_lossy(&output.stdout).contains("from the caller"), "{output:?}");
    let output = host_shell(&bundle, "exec 3<&- 4<&-; $KEEL run --preserve-fds 2 $ID");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("--preserve-fds 2: descriptor 3"), "{output:?}");
}

#[test]
fn socket_activation_passes_through() {
    let bundle = Bundle::new(&["sh", "-c", "echo $LISTEN_FDS $LISTEN_PID; cat <&3"]);
    bundle.write();
    fs::write(bundle.dir.join("input"), "activated\n").unwrap();
    let output = host_shell(&bundle, "export LISTEN_FDS=1; exec sh -c 'LISTEN_PID=$$; export LISTEN_PID; exec $KEEL run $ID 3<input'");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "1 1\nactivated\n", "{output:?}");
    let output = host_shell(&bundle, "LISTEN_FDS=1 LISTEN_PID=1 $KEEL run $ID 3<input");
    assert!(!String::from_utf8_lossy(&output.stdout).contains("activated"), "they were meant for another process: {output:?}");
}

#[test]
fn nothing_of_the_callers_environment_is_needed_or_passed() {
    let bundle = Bundle::new(&["env"])
        .with(|c| c["process"]["env"] = json!(["ONLY=this", "HOME=/"]))
        .with(|c| c["process"]["args"] = json!(["/bin/env"]));
    bundle.write();
    let output = bundle.command(&["run", &bundle.id()]).env_clear().env("SECRET", "x").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "ONLY=this\nHOME=/\n", "{output:?}");
}

#[test]
fn ignored_signals_and_the_mask_of_the_caller_stay_outside() {
    let bundle = Bundle::new(&["grep", "-E", "^Sig(Ign|Blk)", "/proc/self/status"]);
    bundle.write();
    let output = host_shell(&bundle, "trap '' PIPE HUP INT; umask 077; exec $KEEL run $ID");
    let text = String::from_utf8_lossy(&output.stdout);
    let sets: Vec<u64> = text.lines().map(|line| u64::from_str_radix(line.split('\t').nth(1).unwrap(), 16).unwrap()).collect();
    // Signals 32 and 33 are the C library's own, which sigaction(3) does not touch.
    assert_eq!(sets.iter().map(|set| set & 0x7fff_ffff).collect::<Vec<_>>(), [0, 0], "{output:?}");
}

#[test]
fn a_wrong_command_line_is_refused_with_help_on_stderr() {
    let bundle = Bundle::new(&["true"]);
    bundle.keel(&["no-such-command"]).fails(1, &["error", "no-such-command"]);
    bundle.keel(&["state"]).fails(1, &["error"]);
    bundle.keel(&["state", "--no-such-flag", "ID"]).fails(1, &["--no-such-flag"]);
    let help = bundle.keel(&["--help"]).ok();
    for command in ["create", "start", "run", "exec", "kill", "delete", "list", "ps", "pause", "resume", "spec", "features"] {
        assert!(help.contains(command), "{command}");
    }
}

#[test]
fn a_relative_pid_file_is_relative_to_the_caller() {
    let bundle = Bundle::new(&["true"]);
    bundle.write();
    let elsewhere = bundle.dir.join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    let id = bundle.id();
    let mut command = bundle.command(&["create", "--bundle", "..", "--pid-file", "pid.txt", &id]);
    let null = std::process::Stdio::null;
    assert!(command.current_dir(&elsewhere).stdout(null()).stderr(null()).status().unwrap().success());
    let state: serde_json::Value = serde_json::from_str(&bundle.keel(&["state", "ID"]).ok()).unwrap();
    assert_eq!(std::fs::read_to_string(elsewhere.join("pid.txt")).unwrap(), state["pid"].to_string());
}
