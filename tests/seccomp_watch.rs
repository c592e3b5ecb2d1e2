//! `--seccomp-log` names the system calls that a profile refuses; `--seccomp-record` writes the least profile.

#[path = "seccomp/bpf.rs"]
mod bpf;
mod common;

use common::{Bundle, Census, Said, eventually};
use keel::plan::seccomp::{Call, compile, verdict, watched};
use keel::spec::Seccomp;
use keel::sys::SeccompData;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;

const X86_64: u32 = 0xc000_003e;
const NOTIFY: u32 = 0x7fc0_0000;
const ALLOW: u32 = 0x7fff_0000;

fn docker() -> Value {
    serde_json::from_str(include_str!("data/docker-seccomp.json")).unwrap()
}

/// Everything is permitted but these, which get this action.
fn but(names: &[&str], action: &str, errno: Option<u32>) -> Value {
    let mut rule = json!({"names": names, "action": action});
    if let Some(errno) = errno {
        rule["errnoRet"] = json!(errno);
    }
    json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]})
}

fn with_profile(args: &[&str], profile: &Value) -> Bundle {
    Bundle::new(args).with(|c| c["linux"]["seccomp"] = profile.clone())
}

fn run(bundle: &Bundle, flags: &[&str]) -> Said {
    bundle.write();
    bundle.keel(&[&["run"], flags, &["ID"]].concat())
}

fn recorded(bundle: &Bundle) -> Value {
    run(bundle, &["--seccomp-record", "profile.json"]).ok();
    serde_json::from_slice(&fs::read(bundle.dir.join("profile.json")).unwrap()).unwrap()
}

fn names(profile: &Value) -> BTreeSet<String> {
    let rules = profile["syscalls"].as_array().unwrap();
    rules.iter().flat_map(|rule| rule["names"].as_array().unwrap()).map(|name| name.as_str().unwrap().to_owned()).collect()
}

#[test]
fn what_was_recorded_runs_again_and_what_it_lacks_is_named() {
    for no_new_privileges in [true, false] {
        let ls = ["ls", "/bin"];
        let profile = recorded(&Bundle::new(&ls).with(|c| c["process"]["noNewPrivileges"] = json!(no_new_privileges)));
        assert_eq!((&profile["defaultAction"], &profile["defaultErrnoRet"]), (&json!("SCMP_ACT_ERRNO"), &json!(1)));
        let used = names(&profile);
        assert!(used.contains("execve") && used.contains("write") && !used.contains("mkdir"), "{used:?}");
        assert!(used.len() < 60, "{used:?}");
        assert!(with_profile(&ls, &profile).run().ok().contains("busybox"));
        let other = with_profile(&["mkdir", "/tmp/x"], &profile);
        let plain = run(&other, &[]);
        assert_eq!(plain.code, 1, "{plain:?}");
        assert!(!plain.err.contains("seccomp"));
        let told = run(&other, &["--seccomp-log"]);
        assert_eq!(told.code, 1, "{told:?}");
        assert!(told.err.contains("keel: warning: seccomp refused mkdir(0x"), "{told:?}");
        assert!(told.err.contains(" (mkdir): operation not permitted\n"), "{told:?}");
        Census::of(&other).nothing_left(&other);
    }
}

/// Children too, and each call once.
#[test]
fn a_refusal_keeps_its_errno_and_is_told_once() {
    let profile = but(&["mkdir", "mkdirat"], "SCMP_ACT_ERRNO", Some(libc::EMLINK as u32));
    let bundle = with_profile(&["sh", "-c", "(mkdir /x; mkdir /y); mkdir /z; test -d /x || echo missing"], &profile);
    let said = run(&bundle, &["--seccomp-log"]);
    assert_eq!((said.code, said.out.as_str()), (0, "missing\n"), "{said:?}");
    assert_eq!(said.err.matches("Too many links").count(), 3, "{said:?}");
    assert_eq!(said.err.matches("seccomp refused").count(), 1, "{said:?}");
    assert!(said.err.contains("too many links"), "{said:?}");
    Census::of(&bundle).nothing_left(&bundle);
}

#[test]
fn a_kill_is_named_and_the_exit_code_is_that_of_sigsys() {
    for action in ["SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL"] {
        let bundle = with_profile(&["mkdir", "/x"], &but(&["mkdir", "mkdirat"], action, None));
        let plain = run(&bundle, &[]);
        let told = run(&bundle, &["--seccomp-log"]);
        assert_eq!((plain.code, told.code), (128 + libc::SIGSYS, 128 + libc::SIGSYS), "{told:?}");
        assert!(told.err.contains("seccomp refused mkdir") && told.err.contains("(mkdir): killed"), "{told:?}");
        assert!(!bundle.rootfs().join("x").exists());
        // Of a child only the child ends.
        let bundle = with_profile(&["sh", "-c", "mkdir /x; echo $?"], &but(&["mkdir", "mkdirat"], action, None));
        let told = run(&bundle, &["--seccomp-log"]);
        assert_eq!((told.code, told.out.as_str()), (0, "137\n"), "{told:?}");
    }
}

/// The listener is handed over by calls that the profile may refuse to the program, even all of them.
#[test]
fn the_profile_need_not_permit_keels_own_calls() {
    let profile = but(&["sendmsg", "read", "write", "sendto"], "SCMP_ACT_ERRNO", None);
    let said = run(&with_profile(&["echo", "hello"], &profile), &["--seccomp-log"]);
    assert_eq!(said.out, "", "{said:?}");
    assert!(said.err.contains("seccomp refused write(0x1, "), "{said:?}");
    // Not even exit(2): what cannot report its end still ends, by a signal.
    for action in ["SCMP_ACT_ERRNO", "SCMP_ACT_KILL_PROCESS"] {
        let bundle = with_profile(&["true"], &json!({"defaultAction": action}));
        let (plain, told) = (run(&bundle, &[]), run(&bundle, &["--seccomp-log"]));
        assert!(told.err.contains("seccomp refused execve(") && told.err.contains("(keel:[init])"), "{told:?}");
        for said in [plain, told] {
            said.fails(1, &["killed by signal", "before it could execute the program"]);
        }
    }
}

/// What is recorded under a profile permits nothing that the profile does not: conditions stay.
#[test]
fn a_record_is_never_wider_than_the_profile() {
    let base = docker();
    let profile = recorded(&with_profile(&["sh", "-c", "ls / >/dev/null; true"], &base));
    let all = base["syscalls"].as_array().unwrap();
    let mut conditions = 0;
    for rule in profile["syscalls"].as_array().unwrap() {
        let field = |rule: &Value, name: &str| rule.get(name).cloned().filter(|v| v != &json!([])).unwrap_or(Value::Null);
        let of = |other: &&Value| ["action", "errnoRet"].iter().all(|name| field(rule, name) == field(other, name));
        let same_args = |other: &&Value| {
            let count = |rule: &Value| rule["args"].as_array().map_or(0, Vec::len);
            count(rule) == count(other)
        };
        let named = |other: &&Value| {
            let theirs = other["names"].as_array().unwrap();
            rule["names"].as_array().unwrap().iter().all(|name| theirs.contains(name))
        };
        assert!(all.iter().filter(of).filter(same_args).any(|other| named(&other)), "{rule} is not in the profile");
        conditions += usize::from(rule["args"].as_array().is_some_and(|args| !args.is_empty()));
    }
    assert!(conditions > 0, "docker's rule for clone has a condition: {profile}");
    assert!(names(&profile).len() < 80 && names(&base).len() > 300);
    assert_eq!(profile["defaultAction"], base["defaultAction"]);
    with_profile(&["sh", "-c", "ls / >/dev/null; true"], &profile).run().ok();
}

/// keel itself waits for a hook, the hook for the program, and the program for the answers to its calls.
#[test]
fn a_hook_may_wait_for_the_program() {
    let bundle = Bundle::new(&["sh", "-c", "touch /ready; sleep 0.1"]);
    let ready = bundle.rootfs().join("ready");
    let line = format!("until test -e {}; do sleep 0.02; done", ready.display());
    let bundle = bundle.with(|c| c["hooks"] = json!({"poststart": [{"path": "/bin/sh", "args": ["sh", "-c", line], "timeout": 30}]}));
    assert!(names(&recorded(&bundle)).contains("execve"));
    Census::of(&bundle).nothing_left(&bundle);
}

#[test]
fn with_a_log_file_refusals_go_there() {
    let bundle = with_profile(&["mkdir", "/x"], &but(&["mkdir", "mkdirat"], "SCMP_ACT_ERRNO", None));
    bundle.write();
    let said = bundle.keel(&["--log", "log", "--log-format", "json", "run", "--seccomp-log", "ID"]);
    assert!(!said.err.contains("seccomp"), "{said:?}");
    let log = fs::read_to_string(bundle.dir.join("log")).unwrap();
    let line: Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
    assert_eq!(line["level"], "warning");
    assert!(line["msg"].as_str().unwrap().starts_with("seccomp refused mkdir"), "{line}");
}

/// The program goes on under its profile, others may work on the container, and whoever answers ends with it.
#[test]
fn a_killed_keel_leaves_the_answers() {
    let profile = but(&["mkdir", "mkdirat"], "SCMP_ACT_ERRNO", Some(libc::EMLINK as u32));
    let line = "touch /a; until test -e /go; do sleep 0.05; done; mkdir /x 2>/said; touch /b; sleep 1000";
    let bundle = with_profile(&["sh", "-c", line], &profile);
    bundle.write();
    let mut keel = bundle.command(&["run", "--seccomp-log", &bundle.id()]).stderr(std::process::Stdio::null()).spawn().unwrap();
    eventually("the program runs", || bundle.rootfs().join("a").exists());
    keel.kill().unwrap();
    keel.wait().unwrap();
    fs::write(bundle.rootfs().join("go"), "").unwrap();
    eventually("the program goes on", || bundle.rootfs().join("b").exists());
    let said = fs::read_to_string(bundle.rootfs().join("said")).unwrap();
    assert!(said.contains("Too many links"), "{said}");
    bundle.delete();
    Census::of(&bundle).nothing_left(&bundle);
}

#[test]
fn what_cannot_be_done_is_refused_before_anything_is_made() {
    let bundle = Bundle::new(&["true"]);
    let refused = |bundle: &Bundle, flags: &[&str], words: &[&str]| {
        run(bundle, flags).fails(1, words);
        Census::of(bundle).nothing_left(bundle);
    };
    refused(&bundle, &["--seccomp-log"], &["without a profile", "linux.seccomp"]);
    refused(&bundle, &["--detach", "--seccomp-record", "p.json"], &["--seccomp-record with --detach"]);
    refused(&bundle, &["--seccomp-record", "no/such/p.json"], &["write the seccomp profile", "no such file or directory"]);
    let notify =
        json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/x", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]});
    refused(&with_profile(&["true"], &notify), &["--seccomp-log"], &["SCMP_ACT_NOTIFY"]);
    let mut conditional = but(&["socket"], "SCMP_ACT_ERRNO", None);
    conditional["syscalls"][0]["args"] = json!([{"index": 0, "value": 38, "op": "SCMP_CMP_EQ"}]);
    refused(&with_profile(&["true"], &conditional), &["--seccomp-record", "p.json"], &["linux.seccomp.syscalls[0].args"]);
    assert!(!bundle.dir.join("p.json").exists());
}

/// A kernel without one of the calls by which keel answers: the container ends, and that is told instead of what it did.
#[test]
fn who_cannot_answer_ends_the_container() {
    let bundle = Bundle::new(&["true"]);
    // Bringing up a loopback interface is an ioctl, too.
    let bundle = bundle.with(|c| c["linux"]["namespaces"].as_array_mut().unwrap().retain(|n| n["type"] != "network"));
    bundle.write();
    let id = bundle.id();
    let state = bundle.state_root();
    let strace = ["-f", "-qq", "-o", "/dev/null", "-e", "trace=ioctl", "-e", "inject=ioctl:error=EINVAL", common::KEEL, "--root"];
    let mut keel = std::process::Command::new("strace");
    keel.args(strace).arg(&state).args(["run", "--seccomp-record", "profile.json", &id]).current_dir(&bundle.dir);
    let said = Said::of(keel.stdin(std::process::Stdio::null()).output().unwrap());
    said.fails(1, &["answer the container's system calls: invalid argument", "Linux 5.9"]);
    assert!(!bundle.dir.join("profile.json").exists());
    Census::of(&bundle).nothing_left(&bundle);
}

#[test]
fn a_trap_is_left_to_the_kernel_and_that_is_told() {
    let bundle = with_profile(&["mkdir", "/x"], &but(&["mkdir", "mkdirat"], "SCMP_ACT_TRAP", None));
    let said = run(&bundle, &["--seccomp-log"]);
    assert_eq!(said.code, 128 + libc::SIGSYS, "{said:?}");
    assert!(said.err.contains("SCMP_ACT_TRAP refuses is not told"), "{said:?}");
}

/// Over docker's profile: what the kernel would do, and what of it goes to the listener.
#[test]
fn the_watched_program_differs_only_in_what_it_returns() {
    let profile: Seccomp = serde_json::from_value(docker()).unwrap();
    let plain = compile(&profile).unwrap();
    let mark = 0x0123_4567_89ab_cdef;
    let (log, all) = (watched(&plain, false, mark), watched(&plain, true, mark));
    for arch in [X86_64, 0x4000_0003, 0xdead] {
        for nr in (0..600).chain([0x4000_0000, 0x4000_0123, u32::MAX]) {
            for last in [0, mark, mark ^ 1, mark ^ 1 << 63] {
                let args = [u64::from(nr % 50), 0x10, 0, 0, 0, last];
                let data = SeccompData { nr, arch, args, ..SeccompData::default() };
                let kernel = |program| bpf::run(program, &bpf::Data { nr, arch, args });
                let expected = kernel(&plain.program);
                assert_eq!(verdict(&plain.program, &data), expected, "{data:?}");
                let own = arch == X86_64 && [libc::SYS_sendmsg, libc::SYS_read].contains(&i64::from(nr)) && last == mark;
                let (refused, permitted) = (expected & 0x7fff_0000 != ALLOW, expected == ALLOW);
                assert_eq!(
                    kernel(&log.program),
                    if own {
                        ALLOW
                    } else if refused {
                        NOTIFY
                    } else {
                        expected
                    },
                    "{data:?}"
                );
                assert_eq!(
                    kernel(&all.program),
                    if own {
                        ALLOW
                    } else if refused || permitted {
                        NOTIFY
                    } else {
                        expected
                    }
                );
            }
        }
    }
}

#[test]
fn calls_have_names_in_each_architecture() {
    let call = |arch, nr, first| Call::of(&SeccompData { nr, arch, args: [first, 0, 0, 0, 0, 0], ..SeccompData::default() });
    let named = |call: &Call| (call.architecture, call.name);
    assert_eq!(named(&call(X86_64, 83, 0)), (Some("SCMP_ARCH_X86_64"), Some("mkdir")));
    assert_eq!(named(&call(X86_64, 0x4000_0053, 0)), (Some("SCMP_ARCH_X32"), Some("mkdir")));
    assert_eq!(named(&call(0x4000_0003, 39, 0)), (Some("SCMP_ARCH_X86"), Some("mkdir")));
    assert_eq!(named(&call(0xc000_00b7, 34, 0)), (Some("SCMP_ARCH_AARCH64"), Some("mkdirat")));
    assert_eq!(named(&call(X86_64, 99_999, 0)), (Some("SCMP_ARCH_X86_64"), None));
    assert_eq!(named(&call(7, 1, 0)), (None, None));
    assert_eq!(call(0x4000_0003, 102, 1).multiplexed, Some((102, 1)));
}
