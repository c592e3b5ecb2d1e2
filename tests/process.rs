//! `process`: what the program is, who it is, and where it starts.

mod common;

use common::{Bundle, Census, eventually};
use serde_json::json;

fn status_of(bundle: &Bundle, name: &str) -> String {
    let text = bundle.run().ok();
    text.lines().find(|line| line.starts_with(name)).unwrap().split('\t').nth(1).unwrap().trim().to_owned()
}

fn status() -> Bundle {
    Bundle::new(&["cat", "/proc/self/status"])
}

#[test]
fn the_user_and_groups_are_those_of_the_configuration() {
    let bundle = Bundle::new(&["id"]).with(|c| c["process"]["user"] = json!({"uid": 1000, "gid": 1001, "additionalGids": [10, 11]}));
    let said = bundle.run().ok();
    assert!(said.contains("uid=1000") && said.contains("gid=1001") && said.contains("groups=10,11"), "{said}");
}

/// Opened by name, a pipe is its owner's, as from runc (fixStdioPermissions): pipes of the caller are given to the user.
#[test]
fn a_user_opens_its_own_pipes() {
    let line = "echo told > /dev/stdout; echo failed > /dev/stderr";
    let user = json!({"uid": 1000, "gid": 1000});
    let bundle = Bundle::new(&["sh", "-c", line]).with(|c| c["process"]["user"] = user.clone());
    let said = bundle.run();
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (0, "told\n", "failed\n"));
    let bundle = Bundle::new(&["sleep", "1000"]).with(|c| c["process"]["user"] = user);
    bundle.start();
    let said = bundle.keel(&["exec", "ID", "sh", "-c", line]);
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (0, "told\n", "failed\n"));
    bundle.delete();
}

#[test]
fn the_callers_groups_do_not_leak() {
    let bundle = Bundle::new(&["grep", "^Groups", "/proc/self/status"]);
    bundle.write();
    let mut command = std::process::Command::new("/usr/bin/setpriv");
    command.args(["--groups", "4,27"]).arg(common::KEEL).arg("--root").arg(bundle.state_root()).args(["run", &bundle.id()]);
    let output = command.current_dir(&bundle.dir).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim_end(), "Groups:", "{output:?}");
}

#[test]
fn an_annotation_of_cruns_keeps_the_callers_groups() {
    let bundle = Bundle::new(&["grep", "^Groups", "/proc/self/status"]).with(|c| {
        c["annotations"] = json!({"run.oci.keep_original_groups": "1"});
        c["process"]["user"]["additionalGids"] = json!([7]);
    });
    bundle.write();
    let mut command = std::process::Command::new("/usr/bin/setpriv");
    command.args(["--groups", "4,27"]).arg(common::KEEL).arg("--root").arg(bundle.state_root()).args([
        "--log",
        "keel.log",
        "run",
        &bundle.id(),
    ]);
    let said = common::Said::of(command.current_dir(&bundle.dir).output().unwrap());
    let log = std::fs::read_to_string(bundle.dir.join("keel.log")).unwrap();
    assert!(log.contains("process.user.additionalGids is ignored"), "{log}");
    assert_eq!(said.ok().trim_end(), "Groups:\t4 27");
}

#[test]
fn the_umask_is_022_or_as_given() {
    assert_eq!(Bundle::new(&["sh", "-c", "umask"]).run().ok(), "0022\n");
    let bundle = Bundle::new(&["sh", "-c", "umask"]).with(|c| c["process"]["user"]["umask"] = json!(0o077));
    assert_eq!(bundle.run().ok(), "0077\n");
}

#[test]
fn capabilities_are_exactly_those_asked_for() {
    let wanted = |c: &mut serde_json::Value| {
        c["process"]["capabilities"] = json!({"bounding": ["CAP_CHOWN", "CAP_KILL"], "permitted": ["CAP_KILL"], "effective": ["CAP_KILL"]});
    };
    // A root program gains its bounding set at exec (capabilities(7)), but with no_new_privs.
    for (no_new_privs, effective) in [(true, "0000000000000020"), (false, "0000000000000021")] {
        let bundle = || status().with(wanted).with(|c| c["process"]["noNewPrivileges"] = json!(no_new_privs));
        assert_eq!(status_of(&bundle(), "CapBnd"), "0000000000000021");
        assert_eq!(status_of(&bundle(), "CapEff"), effective);
        assert_eq!(status_of(&bundle(), "CapInh"), "0000000000000000");
    }
    let ambient = |c: &mut serde_json::Value| {
        let kill = json!(["CAP_KILL"]);
        c["process"]["capabilities"] =
            json!({"bounding": kill, "permitted": kill, "effective": kill, "inheritable": kill, "ambient": kill});
        c["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    };
    for set in ["CapEff", "CapPrm", "CapAmb", "CapInh", "CapBnd"] {
        assert_eq!(status_of(&status().with(ambient), set), "0000000000000020", "{set}");
    }
    let none = |c: &mut serde_json::Value| drop(c["process"].as_object_mut().unwrap().remove("capabilities"));
    for set in ["CapEff", "CapPrm", "CapBnd"] {
        assert_eq!(status_of(&status().with(none), set), "0000000000000000", "{set}");
    }
}

#[test]
fn an_unknown_capability_warns_and_goes_on() {
    let bundle = Bundle::new(&["echo", "on"]).with(|c| c["process"]["capabilities"]["bounding"] = json!(["CAP_FUTURE"]));
    let (out, warnings) = bundle.run_with_log();
    assert!(out == "on\n" && warnings.len() == 1 && warnings[0].contains("CAP_FUTURE"), "{warnings:?}");
}

#[test]
fn limits_scores_and_no_new_privileges_are_set() {
    let line = "ulimit -Sn; ulimit -Hn; ulimit -c; cat /proc/self/oom_score_adj; grep NoNewPrivs /proc/self/status";
    let bundle = Bundle::new(&["sh", "-c", line]).with(|c| {
        let limit = |kind: &str, soft: u32, hard: u32| json!({"type": kind, "soft": soft, "hard": hard});
        c["process"]["rlimits"] = json!([limit("RLIMIT_NOFILE", 100, 200), limit("RLIMIT_CORE", 0, 0)]);
        c["process"]["oomScoreAdj"] = json!(123);
        c["process"]["noNewPrivileges"] = json!(true);
    });
    assert_eq!(bundle.run().ok(), "100\n200\n0\n123\nNoNewPrivs:\t1\n");
    let bundle = status().with(|c| c["process"]["noNewPrivileges"] = json!(false));
    assert_eq!(status_of(&bundle, "NoNewPrivs"), "0");
}

#[test]
fn home_comes_from_passwd_when_not_given() {
    let home = |user: u32, env: &[&str]| {
        let bundle = Bundle::new(&["/bin/sh", "-c", "echo $HOME"]);
        let bundle = bundle.with(|c| {
            c["process"]["env"] = json!(env);
            c["process"]["user"] = json!({"uid": user, "gid": user});
        });
        bundle.run().ok()
    };
    assert_eq!(home(0, &[]), "/root\n");
    assert_eq!(home(1000, &[]), "/home/app\n");
    assert_eq!(home(4242, &[]), "/\n");
    assert_eq!(home(1000, &["HOME=/given"]), "/given\n");
}

#[test]
fn path_is_the_containers_and_not_invented() {
    let bundle = Bundle::new(&["true"]).with(|c| c["process"]["env"] = json!([]));
    bundle.run().fails(1, &["executable file not found in $PATH", "\"true\""]);
    let bundle = Bundle::new(&["true"]).with(|c| c["process"]["env"] = json!(["PATH=/nowhere:/bin"]));
    bundle.run().ok();
    let bundle = Bundle::new(&["bin/true"]).with(|c| c["process"]["env"] = json!([]));
    bundle.run().ok();
}

#[test]
fn the_program_starts_in_its_directory_which_is_made_if_missing() {
    let bundle = Bundle::new(&["pwd"]).with(|c| c["process"]["cwd"] = json!("/var"));
    assert_eq!(bundle.run().ok(), "/var\n");
    let bundle = Bundle::new(&["pwd"]).with(|c| c["process"]["cwd"] = json!("/made/on/demand"));
    assert_eq!(bundle.run().ok(), "/made/on/demand\n");
    let bundle = Bundle::new(&["pwd"]).with(|c| c["process"]["cwd"] = json!("relative"));
    bundle.run().fails(1, &["process.cwd"]);
    // Only root may search it, but the program is to start there: runc's first of two chdir(2).
    let bundle = Bundle::new(&["id", "-u"]).with(|c| {
        c["process"]["cwd"] = json!("/secret");
        c["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    });
    std::fs::create_dir(bundle.rootfs().join("secret")).unwrap();
    rustix::fs::chmod(bundle.rootfs().join("secret"), rustix::fs::Mode::from_raw_mode(0o750)).unwrap();
    rustix::fs::chown(bundle.rootfs().join("secret"), None, Some(rustix::fs::Gid::from_raw(1000))).unwrap();
    assert_eq!(bundle.run().ok(), "1000\n");
}

/// Keyrings of sessions that an ordinary user in the container sees: those on which it has rights because its session is in them.
fn sessions(keys: &str) -> Vec<&str> {
    let names = keys.lines().filter_map(|line| Some((line.split(' ').next()?, line.split_once(" keyring ")?.1.trim())));
    names.filter(|(_, name)| name.contains("ses.")).map(|(serial, _)| serial).collect()
}

#[test]
fn the_session_keyring_is_the_containers_own_in_exec_too() {
    let make = || {
        let bundle = Bundle::new(&["sh", "-c", "cat /proc/keys > /keys/new; mv /keys/new /keys/all; exec sleep 1000"]).with(|c| {
            c["linux"]["maskedPaths"] = json!([]);
            // Who has no session of his own on this machine.
            c["process"]["user"] = json!({"uid": 4321, "gid": 4321});
            c["root"]["readonly"] = json!(false);
        });
        std::fs::create_dir(bundle.rootfs().join("keys")).unwrap();
        rustix::fs::chmod(bundle.rootfs().join("keys"), rustix::fs::Mode::from_raw_mode(0o777)).unwrap();
        bundle.write();
        bundle
    };
    let of_init = |bundle: &Bundle| {
        let path = bundle.rootfs().join("keys/all");
        eventually("the program's keys", || path.exists());
        std::fs::read_to_string(&path).unwrap()
    };
    let bundle = make();
    bundle.start();
    let (init, exec) = (of_init(&bundle), bundle.sh("cat /proc/keys"));
    assert!(exec.contains(&format!("_ses.{}", bundle.id())), "{exec}");
    assert_eq!(sessions(&exec).len(), 1, "the caller's is none of the container's business: {exec}");
    assert_eq!(sessions(&exec), sessions(&init), "{exec} {init}");
    // Another container, as the kernel collects keyrings when it likes.
    let bundle = make();
    bundle.detached(&["create", "--no-new-keyring", "ID"]).ok();
    bundle.keel(&["start", "ID"]).ok();
    for keys in [of_init(&bundle), bundle.sh("cat /proc/keys")] {
        assert!(!keys.contains(&format!("_ses.{}", bundle.id())), "{keys}");
    }
}

#[test]
fn many_and_long_arguments_and_variables_arrive() {
    let long = "x".repeat(100_000);
    let many: Vec<String> = (0..500).map(|n| format!("V{n}={n}")).collect();
    let bundle = Bundle::new(&["/bin/sh", "-c", "echo ${#1} $V0 $V499; echo \"$2\"", "sh", &long, "a b\nc'\"$"]);
    let bundle = bundle.with(|c| c["process"]["env"] = json!(many));
    assert_eq!(bundle.run().ok(), "100000 0 499\na b\nc'\"$\n");
}

#[test]
fn the_last_of_several_values_of_a_variable_counts_and_an_empty_home_is_none() {
    let bundle = Bundle::new(&["/bin/env"]).with(|c| c["process"]["env"] = json!(["ONE=two", "PATH=/bin", "HOME=/x", "ONE=", "HOME="]));
    assert_eq!(bundle.run().ok(), "PATH=/bin\nONE=\nHOME=/root\n");
}

#[test]
fn root_without_capabilities_starts_where_only_the_runtime_may_search() {
    let bundle = Bundle::new(&["pwd"]).with(|c| {
        c["process"]["cwd"] = json!("/closed");
        c["process"]["capabilities"] = json!({});
    });
    let closed = bundle.rootfs().join("closed");
    std::fs::create_dir(&closed).unwrap();
    std::os::unix::fs::chown(&closed, Some(1000), Some(1000)).unwrap();
    rustix::fs::chmod(&closed, rustix::fs::Mode::RWXU).unwrap();
    assert_eq!(bundle.run().ok(), "/closed\n");
}

#[test]
fn an_ambient_capability_that_is_not_inheritable_warns_and_goes_on() {
    let bundle = status().with(|c| {
        let both = json!(["CAP_CHOWN", "CAP_KILL"]);
        c["process"]["capabilities"] =
            json!({"bounding": both, "permitted": both, "effective": both, "inheritable": ["CAP_KILL"], "ambient": both});
        c["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    });
    let (out, warnings) = bundle.run_with_log();
    assert!(warnings.len() == 1 && warnings[0].contains("can't raise ambient capability CAP_CHOWN: "), "{warnings:?}");
    assert!(out.contains("CapAmb:\t0000000000000020\n"));
}

/// What sets signals up for the program comes before its filter, and a death at the last moment is always told.
#[test]
fn the_filter_need_allow_nothing_but_the_exec() {
    let with = |names: &[&str], action: &str| {
        Bundle::new(&["true"]).with(|c| {
            c["process"]["noNewPrivileges"] = json!(true);
            c["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": names, "action": action}]});
        })
    };
    with(&["rt_sigaction", "rt_sigprocmask"], "SCMP_ACT_ERRNO").run().ok();
    let killed = with(&["execve"], "SCMP_ACT_KILL_PROCESS");
    for _ in 0..40 {
        killed.run().fails(1, &["killed by signal 31 before it could execute"]);
    }
    // Where it is reaped before `start` can look, nothing tells it from a program that ended at once.
    let reaped_at_once = std::fs::read_to_string("/proc/1/comm").unwrap() == "systemd\n";
    for _ in 0..if reaped_at_once { 0 } else { 20 } {
        killed.create();
        killed.keel(&["start", "ID"]).fails(1, &["killed before it could execute"]);
        killed.keel(&["delete", "--force", "ID"]).ok();
    }
    Census::of(&killed).nothing_left(&killed);
}
