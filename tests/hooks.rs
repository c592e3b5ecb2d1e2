//! Hooks, config.md, "POSIX-platform Hooks": order, namespaces, input, environment, timeouts, failures.

mod common;

use common::{Bundle, Census, Said, eventually};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const KINDS: [&str; 6] = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// A hook that runs a line of shell. Its own `/bin/sh` is the host's, for `startContainer` the container's.
fn sh(line: &str) -> Value {
    json!({"path": "/bin/sh", "args": ["sh", "-c", line]})
}

fn hooks(bundle: Bundle, kinds: &[(&str, Value)]) -> Bundle {
    bundle.with(|c| {
        for (kind, hook) in kinds {
            let list = &mut c["hooks"][kind];
            if list.is_null() {
                *list = json!([]);
            }
            list.as_array_mut().unwrap().push(hook.clone());
        }
    })
}

/// Hooks of all kinds that leave what they see in a directory, which the container has as /out.
fn witnesses(args: &[&str]) -> (Bundle, PathBuf) {
    let bundle = Bundle::new(args);
    let out = bundle.dir.join("out.d");
    fs::create_dir(&out).unwrap();
    let mount = json!({"destination": "/out", "type": "bind", "source": out, "options": ["bind"]});
    let bundle = bundle.with(|c| c["mounts"].as_array_mut().unwrap().push(mount));
    let hook = |kind: &str| {
        let dir = if kind == "startContainer" { "/out".into() } else { out.to_str().unwrap().to_owned() };
        let line = format!(
            "echo {kind} >> {dir}/order; cat > {dir}/{kind}.state; \
             for n in mnt pid net ipc uts user; do readlink /proc/self/ns/$n; done > {dir}/{kind}.ns; \
             env | grep -v -e ^PWD= -e ^SHLVL= -e ^_= -e ^OLDPWD= > {dir}/{kind}.env; pwd > {dir}/{kind}.cwd"
        );
        let line = if kind == "startContainer" { line } else { format!("PATH=/usr/bin:/bin; {line}") };
        json!({"path": "/bin/sh", "args": ["sh", "-c", line], "env": ["PATH=/bin:/usr/bin", "HOOK=mine"]})
    };
    let all: Vec<_> = KINDS.iter().map(|kind| (*kind, hook(kind))).collect();
    (hooks(bundle, &all), out)
}

#[test]
fn all_six_run_in_order_with_the_state_on_stdin_in_their_namespaces() {
    let (bundle, out) = witnesses(&["sleep", "1000"]);
    let bundle = bundle.with(|c| c["annotations"] = json!({"org.example": "yes"}));
    let read = |name: &str| fs::read_to_string(out.join(name)).unwrap_or_default();
    bundle.create();
    assert_eq!(read("order").lines().collect::<Vec<_>>(), KINDS[..3]);
    bundle.keel(&["start", "ID"]).ok();
    assert_eq!(read("order").lines().collect::<Vec<_>>(), KINDS[..5]);
    let pid = bundle.pid();
    let inside: Vec<String> = ["mnt", "pid", "net", "ipc", "uts", "user"]
        .iter()
        .map(|kind| fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap().to_str().unwrap().to_owned())
        .collect();
    bundle.keel(&["delete", "--force", "ID"]).ok();
    assert_eq!(read("order").lines().collect::<Vec<_>>(), KINDS);

    let host: Vec<String> = ["mnt", "pid", "net", "ipc", "uts", "user"]
        .iter()
        .map(|kind| fs::read_link(format!("/proc/self/ns/{kind}")).unwrap().to_str().unwrap().to_owned())
        .collect();
    let statuses = ["creating", "creating", "creating", "created", "running", "stopped"];
    for (kind, status) in KINDS.iter().zip(statuses) {
        let expected = if ["createContainer", "startContainer"].contains(kind) { &inside } else { &host };
        assert_eq!(&read(&format!("{kind}.ns")).lines().map(str::to_owned).collect::<Vec<_>>(), expected, "{kind}");
        let state: Value = serde_json::from_str(&read(&format!("{kind}.state"))).unwrap();
        assert_eq!(state["status"], *status, "{kind}");
        assert_eq!(state["id"], bundle.id(), "{kind}");
        assert_eq!(state["bundle"], bundle.dir.to_str().unwrap(), "{kind}");
        assert_eq!(state["ociVersion"], bundle.config["ociVersion"], "{kind}");
        assert_eq!(state["annotations"]["org.example"], "yes", "{kind}");
        let seen = match *kind {
            "createContainer" | "startContainer" => 1,
            "poststop" => 0,
            _ => pid,
        };
        assert_eq!(state["pid"], seen, "{kind}");
        let mut env: Vec<String> = read(&format!("{kind}.env")).lines().map(str::to_owned).collect();
        env.retain(|line| !line.starts_with("PATH="));
        assert_eq!(env, ["HOOK=mine"], "{kind}: only its own environment");
    }
    Census::of(&bundle).nothing_left(&bundle);
}

/// runtime.md, "State": "For hooks executed in the container namespace, it is the pid as seen by the container." Only `startContainer`
/// hooks stand in a pid namespace of others; those before pivot_root have the host in sight, stay outside, and get the pid that
/// their namespace shows: of the process that makes the container, which is not yet the one that `create` tells.
#[test]
fn hooks_of_a_joined_pid_namespace_get_the_pid_of_where_they_stand() {
    let first = Bundle::new(&["sleep", "1000"]);
    first.start();
    let (bundle, out) = witnesses(&["sleep", "1000"]);
    let joined = format!("/proc/{}/ns/pid", first.pid());
    let bundle = bundle.with(|c| {
        let namespaces = c["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.iter_mut().find(|ns| ns["type"] == "pid").unwrap()["path"] = json!(joined);
    });
    bundle.start();
    let pid = bundle.pid();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let pids: Vec<i32> =
        status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap().split_whitespace().map(|n| n.parse().unwrap()).collect();
    assert!(pids.len() > 1 && pids[pids.len() - 1] > 1, "{pids:?}");
    for kind in &KINDS[..5] {
        let state: Value = serde_json::from_str(&fs::read_to_string(out.join(format!("{kind}.state"))).unwrap()).unwrap();
        match *kind {
            "startContainer" => assert_eq!(state["pid"], pids[pids.len() - 1]),
            "poststart" => assert_eq!(state["pid"], pid),
            _ => {
                let early = i32::try_from(state["pid"].as_i64().unwrap()).unwrap();
                assert!(early > 0 && early != pid && !Path::new(&format!("/proc/{early}")).exists(), "{kind}: {early}");
            }
        }
    }
    bundle.delete();
    first.delete();
    Census::of(&bundle).nothing_left(&bundle);
}

#[test]
fn run_calls_all_six_too() {
    let (bundle, out) = witnesses(&["sh", "-c", "exit 8"]);
    assert_eq!(bundle.run().code, 8);
    assert_eq!(fs::read_to_string(out.join("order")).unwrap().lines().collect::<Vec<_>>(), KINDS);
}

#[test]
fn the_first_hooks_see_the_mounts_and_may_still_write_to_a_read_only_root() {
    let bundle = Bundle::new(&["cat", "/from-hook"]).with(|c| c["root"]["readonly"] = json!(true));
    let path = bundle.rootfs().join("from-hook");
    let seen = bundle.dir.join("seen");
    let line = format!("echo written > {}; cat /proc/self/mountinfo > {}", path.display(), seen.display());
    let bundle = hooks(bundle, &[("createContainer", sh(&line))]);
    assert_eq!(bundle.run().ok(), "written\n");
    let rootfs = bundle.rootfs();
    let mounted = fs::read_to_string(seen).unwrap();
    assert!(mounted.contains(&format!(" {}/proc ", rootfs.display())), "the container's mounts are made before: {mounted}");
}

#[test]
fn several_hooks_of_a_kind_run_in_order_until_one_fails() {
    let bundle = Bundle::new(&["true"]);
    let log = bundle.dir.join("log");
    let step = |n: u32, end: &str| sh(&format!("echo {n} >> {}; {end}", log.display()));
    let bundle =
        hooks(bundle, &[("createRuntime", step(1, "true")), ("createRuntime", step(2, "exit 3")), ("createRuntime", step(3, "true"))]);
    bundle.run().fails(1, &["error running createRuntime hook #1: /bin/sh", "status 3", "hooks.createRuntime[1]"]);
    assert_eq!(fs::read_to_string(&log).unwrap(), "1\n2\n");
}

#[test]
fn a_failing_hook_before_the_start_fails_create_and_leaves_nothing() {
    for kind in ["prestart", "createRuntime", "createContainer"] {
        let bundle = Bundle::new(&["sleep", "1000"]);
        let stopped = bundle.dir.join("stopped");
        let post = sh(&format!("echo > {}", stopped.display()));
        let bundle = hooks(bundle, &[(kind, sh("echo the reason >&2; exit 4")), ("poststop", sh("exit 5")), ("poststop", post)]);
        bundle.write();
        for command in ["create", "run"] {
            let said = bundle.detached(&[command, "--pid-file", "pid", "ID"]);
            said.fails(1, &[kind, "status 4", "the reason", &format!("hooks.{kind}[0]")]);
            assert!(!bundle.dir.join("pid").exists(), "{kind}");
            Census::of(&bundle).nothing_left(&bundle);
            assert!(stopped.exists(), "{command} {kind}: poststop hooks undo what the others did, all of them");
            fs::remove_file(&stopped).unwrap();
        }
    }
}

/// runtime.md, "Lifecycle", steps 7 and 9: an error, the container is stopped, and the lifecycle goes on with its destruction.
#[test]
fn a_failing_hook_of_start_destroys_the_container() {
    for kind in ["startContainer", "poststart"] {
        let bundle = Bundle::new(&["sleep", "1000"]);
        let stopped = bundle.dir.join("stopped");
        let post = sh(&format!("echo > {}", stopped.display()));
        let bundle = hooks(bundle, &[(kind, sh("echo the reason; exit 5")), ("poststop", sh("exit 6")), ("poststop", post)]);
        bundle.create();
        let words = ["hook #0", kind, "status 5", "the reason"];
        bundle.keel(&["--log", "start.log", "start", "ID"]).fails(1, &words);
        let log = fs::read_to_string(bundle.dir.join("start.log")).unwrap();
        assert!(log.contains("warning") && log.contains("poststop hook #0") && log.contains("status 6"), "{log}");
        fs::remove_file(bundle.dir.join("start.log")).unwrap();
        assert!(stopped.exists(), "{kind}");
        Census::of(&bundle).nothing_left(&bundle);
        for command in [&["state", "ID"][..], &["delete", "ID"]] {
            bundle.keel(command).fails(1, &["does not exist"]);
        }
        bundle.keel(&["delete", "--force", "ID"]).ok();
        fs::remove_file(&stopped).unwrap();
        bundle.detached(&["run", "ID"]).fails(1, &words);
        assert!(stopped.exists(), "{kind}");
        Census::of(&bundle).nothing_left(&bundle);
    }
}

/// Without a pid namespace of its own nothing ends with the first process.
#[test]
fn a_failing_poststart_hook_ends_what_the_program_has_started() {
    let bundle = Bundle::new(&["sh", "-c", "sleep 1000 & touch /ready; exec sleep 1000"]);
    let line = format!("until test -e {}; do sleep 0.02; done; exit 5", bundle.rootfs().join("ready").display());
    let bundle = hooks(bundle, &[("poststart", sh(&line))]).with(|c| {
        c["linux"]["namespaces"].as_array_mut().unwrap().retain(|ns| ns["type"] != "pid");
    });
    bundle.create();
    bundle.keel(&["start", "ID"]).fails(1, &["poststart hook", "status 5"]);
    Census::of(&bundle).nothing_left(&bundle);
}

#[test]
fn a_failing_poststop_hook_warns_and_the_next_one_runs() {
    let bundle = Bundle::new(&["true"]);
    let next = bundle.dir.join("next");
    let bundle = hooks(bundle, &[("poststop", sh("exit 7")), ("poststop", sh(&format!("echo > {}; exit 8", next.display())))]);
    bundle.start();
    eventually("the container's end", || bundle.status() == "stopped");
    let said = bundle.keel(&["delete", "ID"]);
    assert!(said.code == 0 && said.err.contains("warning") && said.err.contains("status 7"), "{said:?}");
    assert!(said.err.contains("poststop hook #1: ") && said.err.contains("hooks.poststop[1]"), "{said:?}");
    assert!(next.exists());
    Census::of(&bundle).nothing_left(&bundle);
}

#[test]
fn a_hook_that_outlives_its_timeout_is_killed() {
    for kind in ["createRuntime", "createContainer", "startContainer"] {
        let bundle = Bundle::new(&["true"]);
        let mut hook = sh("exec sleep 300");
        hook["timeout"] = json!(1);
        let bundle = hooks(bundle, &[(kind, hook)]);
        let before = Instant::now();
        bundle.run().fails(1, &[kind, "timeout of 1 s"]);
        let took = before.elapsed();
        assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(8), "{took:?}");
        Census::of(&bundle).nothing_left(&bundle);
    }
}

#[test]
fn a_hook_may_say_a_megabyte_and_an_error_shows_its_end() {
    let noise = "i=0; while [ $i -lt 1024 ]; do echo \"$(printf '%01020d' 0)\"; i=$((i+1)); done";
    let bundle = hooks(Bundle::new(&["echo", "ran"]), &[("createRuntime", sh(noise))]);
    let said = bundle.run();
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (0, "ran\n", ""), "a hook's output is not the program's");
    let bundle = hooks(Bundle::new(&["true"]), &[("createRuntime", sh(&format!("{noise}; echo the last word; exit 1")))]);
    let error = bundle.run().fails(1, &["the last word"]);
    assert!(error.len() < 4096, "{} bytes", error.len());
}

#[test]
fn a_hook_that_is_not_there_is_named() {
    let bundle = hooks(Bundle::new(&["true"]), &[("createRuntime", json!({"path": "/no/such/hook"}))]);
    bundle.run().fails(1, &["/no/such/hook", "hooks.createRuntime[0]", "no such file or directory"]);
    Census::of(&bundle).nothing_left(&bundle);
    let bundle = hooks(Bundle::new(&["true"]), &[("createRuntime", json!({"path": "relative/hook"}))]);
    bundle.run().fails(1, &["hooks.createRuntime[0].path"]);
    let bundle = hooks(Bundle::new(&["true"]), &[("poststop", json!({"path": "/bin/true", "timeout": 0}))]);
    bundle.run().fails(1, &["hooks.poststop[0].timeout"]);
}

#[test]
fn hooks_see_the_created_container_through_its_pid() {
    let bundle = Bundle::new(&["hostname"]);
    let pid_seen = bundle.dir.join("seen");
    // What a network plugin does: enter the namespace of the pid it is told.
    let line =
        format!("pid=$(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/'); nsenter --net=/proc/$pid/ns/net ip -o link > {} 2>&1", pid_seen.display());
    let mut hook = sh(&line);
    hook["env"] = json!(["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]);
    let bundle = hooks(bundle, &[("createRuntime", hook)]);
    bundle.run().ok();
    let seen = fs::read_to_string(&pid_seen).unwrap();
    assert!(seen.contains(": lo:") && !seen.contains("eth0"), "{seen}");
}

#[test]
fn a_start_container_hook_without_an_environment_has_the_programs() {
    let bundle = Bundle::new(&["true"]).with(|c| c["process"]["env"] = json!(["PATH=/bin", "ONE=two"]));
    let bundle = hooks(bundle, &[("startContainer", sh("test \"$ONE\" = two"))]);
    bundle.run().ok();
    let own = json!({"path": "/bin/sh", "args": ["sh", "-c", "test \"$ONE$TWO\" = 2"], "env": ["TWO=2"]});
    hooks(Bundle::new(&["true"]).with(|c| c["process"]["env"] = json!(["PATH=/bin", "ONE=two"])), &[("startContainer", own)]).run().ok();
}

#[test]
fn a_hook_without_an_environment_has_the_callers() {
    let given = sh("test \"$KEEL_TEST\" = yes");
    let mut none = sh("test -z \"$KEEL_TEST\"");
    none["env"] = json!([]);
    let kinds = ["prestart", "createRuntime", "createContainer", "poststart", "poststop"];
    let all: Vec<_> = kinds.iter().flat_map(|kind| [(*kind, given.clone()), (*kind, none.clone())]).collect();
    let bundle = hooks(Bundle::new(&["true"]), &all);
    bundle.write();
    let said = Said::of(bundle.command(&["run", &bundle.id()]).env("KEEL_TEST", "yes").output().unwrap());
    assert_eq!((said.code, said.err.as_str()), (0, ""));
}

/// The file of a `startContainer` hook is the image's: it may do what the program may, and no more.
#[test]
fn a_start_container_hook_runs_as_the_program_would() {
    let line = "id -u; id -g; pwd; echo $HOME; grep -e ^CapEff -e ^CapBnd -e ^NoNewPrivs -e ^Seccomp: -e ^Groups /proc/self/status; \
                ulimit -n; umask; cat /proc/self/cgroup";
    let bundle = Bundle::new(&["sh", "-c", &format!("sleep 1; {line}")]).with(|c| {
        c["process"]["user"] = json!({"uid": 1000, "gid": 1000, "additionalGids": [7, 8], "umask": 0o27});
        c["process"]["env"] = json!(["PATH=/bin"]);
        c["process"]["cwd"] = json!("/etc");
        c["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 77, "hard": 78}]);
        c["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL_PROCESS"}]});
    });
    let seen = bundle.rootfs().join("tmp/seen");
    std::os::unix::fs::chown(bundle.rootfs().join("tmp"), Some(1000), Some(1000)).unwrap();
    let bundle = hooks(bundle, &[("startContainer", sh(&format!("({line}) > /tmp/seen")))]);
    let said = bundle.start().keel(&["state", "ID"]);
    said.ok();
    eventually("the program's end", || bundle.status() == "stopped");
    let (hook, program) = (fs::read_to_string(seen).unwrap(), bundle.out());
    assert!(hook.starts_with("1000\n1000\n/etc\n/home/app\n") && hook.contains("Seccomp:\t2"), "{hook}");
    assert_eq!(hook, program);
    bundle.delete();
    // `run` has its own way to the hooks.
    fs::remove_file(bundle.rootfs().join("tmp/seen")).unwrap();
    let said = bundle.run().ok();
    assert_eq!(fs::read_to_string(bundle.rootfs().join("tmp/seen")).unwrap(), said);
    Census::of(&bundle).nothing_left(&bundle);
}

#[test]
fn a_start_container_hook_is_under_the_seccomp_filter() {
    let bundle = hooks(Bundle::new(&["true"]), &[("startContainer", sh("mkdir /tmp/made"))]).with(|c| {
        c["linux"]["seccomp"] =
            json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL_PROCESS"}]});
    });
    bundle.run().fails(1, &["error running startContainer hook #0", "bad system call", "linux.seccomp"]);
    Census::of(&bundle).nothing_left(&bundle);
}

/// A `createContainer` hook works in the image's root: what would make it load a file from there is not passed on (CVE-2025-23266).
#[test]
fn a_hook_in_the_images_root_has_no_variable_that_leads_into_it() {
    let bundle = Bundle::new(&["true"]);
    let dir = bundle.dir.display().to_string();
    let line = |kind: &str| sh(&format!("/usr/bin/env > {dir}/{kind}.env"));
    let bundle = hooks(bundle, &[("createRuntime", line("createRuntime")), ("createContainer", line("createContainer"))]);
    bundle.write();
    let mut command = bundle.command(&["run", &bundle.id()]);
    command.env_clear().envs([("PATH", ".:/usr/bin::lib:/bin:"), ("LD_LIBRARY_PATH", "lib"), ("OTHER", "kept")]);
    assert!(command.status().unwrap().success());
    let environment = |kind: &str| {
        let text = fs::read_to_string(bundle.dir.join(format!("{kind}.env"))).unwrap();
        let mut lines: Vec<_> =
            text.lines().filter(|line| !line.starts_with("PWD=") && !line.starts_with("_=")).map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(environment("createContainer"), ["OTHER=kept", "PATH=/usr/bin:/bin"]);
    assert_eq!(environment("createRuntime"), ["LD_LIBRARY_PATH=lib", "OTHER=kept", "PATH=.:/usr/bin::lib:/bin:"]);
}
