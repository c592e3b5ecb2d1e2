//! config.md, "Process" and "Hooks", and `exec --user`.

use crate::{accepted, refused};
use keel::spec::{parse_process, user, validate_process};
use serde_json::{Value, json};

#[test]
fn cwd_args_and_environment() {
    refused(&[
        ("/process/cwd", json!(""), "the working directory is empty (config.json: process.cwd)"),
        ("/process/cwd", json!("tmp"), "the working directory \"tmp\" is not absolute (config.json: process.cwd)"),
        ("/process/cwd", json!("/a\0b"), "the text contains a NUL byte (config.json: process.cwd)"),
        ("/process/args", json!([]), "there is no program to run: args must not be empty (config.json: process.args)"),
        ("/process/args", Value::Null, "there is no program to run: args must not be empty (config.json: process.args)"),
        ("/process/args", json!(["a", "b\0"]), "the text contains a NUL byte (config.json: process.args[1])"),
        ("/process/env", json!(["A=1", "SECRET"]), "invalid environment variable: missing '=' (config.json: process.env[1])"),
        ("/process/env", json!(["=1"]), "invalid environment variable: name cannot be empty (config.json: process.env[0])"),
        ("/process/env", json!(["A=\0"]), "invalid environment variable: contains a NUL byte (config.json: process.env[0])"),
        ("/process/apparmorProfile", json!("\0"), "the text contains a NUL byte (config.json: process.apparmorProfile)"),
        (
            "/process/oomScoreAdj",
            json!(1001),
            "1001 is outside of -1000 to 1000, proc_pid_oom_score_adj(5) (config.json: process.oomScoreAdj)",
        ),
        (
            "/process/oomScoreAdj",
            json!(-1001),
            "-1001 is outside of -1000 to 1000, proc_pid_oom_score_adj(5) (config.json: process.oomScoreAdj)",
        ),
    ]);
    accepted(&[
        ("/process/env", json!(["A=", "B==", "B=2"]), ""),
        ("/process/oomScoreAdj", json!(-1000), ""),
        ("/process/commandLine", json!("cmd"), "process.commandLine is not for Linux and is ignored"),
        ("/process/consoleSize", json!({"height": 0, "width": 65535}), ""),
    ]);
}

#[test]
fn users() {
    let unchanged = "4294967295 is no id: it means \"unchanged\" to setresuid(2)";
    refused(&[
        ("/process/user/uid", json!(u32::MAX), &format!("{unchanged} (config.json: process.user.uid)")),
        ("/process/user/gid", json!(u32::MAX), &format!("{unchanged} (config.json: process.user.gid)")),
        ("/process/user/additionalGids", json!([0, u32::MAX]), &format!("{unchanged} (config.json: process.user.additionalGids[1])")),
        (
            "/process/user/umask",
            json!(0o1000),
            "umask 512 (octal 1000) has more than the permission bits, umask(2) (config.json: process.user.umask)",
        ),
    ]);
    accepted(&[
        ("/process/user", json!({"uid": 4_294_967_294_u32, "gid": 0, "umask": 0o777, "additionalGids": [0, 0]}), ""),
        ("/process/user/username", json!("bob"), "process.user.username is not for Linux and is ignored"),
    ]);
}

#[test]
fn rlimits() {
    let limit = |kind: &str, soft: u64, hard: u64| json!({"type": kind, "soft": soft, "hard": hard});
    refused(&[
        ("/process/rlimits/1", limit("RLIMIT_NOFILE", 1, 1), "\"RLIMIT_NOFILE\" is given twice (config.json: process.rlimits[1])"),
        (
            "/process/rlimits/0",
            limit("NOFILE", 1, 1),
            "\"NOFILE\" is not a resource limit of getrlimit(2) (config.json: process.rlimits[0])",
        ),
        (
            "/process/rlimits/0",
            limit("RLIMIT_CPU", 2, 1),
            "\"RLIMIT_CPU\" has the soft limit 2 above the hard limit 1 (config.json: process.rlimits[0])",
        ),
    ]);
    let all: Vec<_> = keel::spec::names::RLIMITS.iter().map(|row| limit(row.0, 0, u64::MAX)).collect();
    assert_eq!(all.len(), 16);
    accepted(&[("/process/rlimits", json!(all), "")]);
}

#[test]
fn capabilities() {
    let sets = |effective: &[&str], permitted: &[&str], inheritable: &[&str], ambient: &[&str]| json!({"effective": effective, "permitted": permitted, "inheritable": inheritable, "ambient": ambient});
    let kill = &["CAP_KILL"][..];
    accepted(&[
        ("/process/capabilities", Value::Null, ""),
        ("/process/capabilities", sets(kill, kill, kill, kill), ""),
        (
            "/process/capabilities",
            sets(&["CAP_FUTURE"], &[], &[], &[]),
            "process.capabilities.effective[0]: \"CAP_FUTURE\" is not a capability keel knows and is ignored",
        ),
        (
            "/process/capabilities",
            json!({"bounding": ["kill"]}),
            "process.capabilities.bounding[0]: \"kill\" is not a capability keel knows and is ignored",
        ),
    ]);
    refused(&[(
        "/process/capabilities",
        sets(&["CAP_CHOWN", "CAP_KILL"], &["CAP_CHOWN"], &[], &[]),
        "CAP_KILL is effective but not permitted, capset(2) (config.json: process.capabilities.effective)",
    )]);
    // The numbers are the kernel's own, as this machine's header has them.
    for (name, number) in [("CAP_CHOWN", 0), ("CAP_SYS_ADMIN", 21), ("CAP_AUDIT_READ", 37), ("CAP_CHECKPOINT_RESTORE", 40)] {
        assert_eq!(keel::spec::names::capability(name), Some(number));
    }
    assert_eq!(keel::spec::names::capability("CAP_"), None);
}

#[test]
fn hooks() {
    refused(&[
        ("/hooks/prestart", json!([{}]), "the path of the hook is empty (config.json: hooks.prestart[0].path)"),
        (
            "/hooks/createRuntime",
            json!([{"path": "a"}]),
            "the path of the hook \"a\" is not absolute (config.json: hooks.createRuntime[0].path)",
        ),
        (
            "/hooks/createContainer",
            json!([{"path": "/a", "timeout": 0}]),
            "a timeout of 0 seconds; it must be greater than zero (config.json: hooks.createContainer[0].timeout)",
        ),
        (
            "/hooks/startContainer",
            json!([{"path": "/a"}, {"path": "/a", "timeout": -1}]),
            "a timeout of -1 seconds; it must be greater than zero (config.json: hooks.startContainer[1].timeout)",
        ),
        (
            "/hooks/poststart",
            json!([{"path": "/a", "args": ["\0"]}]),
            "the text contains a NUL byte (config.json: hooks.poststart[0].args[0])",
        ),
        (
            "/hooks/poststop",
            json!([{"path": "/a", "env": ["A"]}]),
            "invalid environment variable: missing '=' (config.json: hooks.poststop[0].env[0])",
        ),
    ]);
    accepted(&[("/hooks/poststop", json!([{"path": "/a", "args": ["a"], "env": ["A=B"], "timeout": 1}]), "")]);
}

/// A document of `exec --process` is judged by the same rules; absent lists and ids are empty and root.
#[test]
fn exec_documents() {
    let (process, warnings) = parse_process(br#"{"args":["id"],"cwd":"/","env":null,"foo":1}"#).unwrap();
    assert_eq!(warnings, ["foo is not in runtime-spec 1.3.0 and is ignored"]);
    assert_eq!((process.user.uid, process.rlimits.len(), process.capabilities.is_none()), (0, 0, true));
    assert_eq!(validate_process(&process).unwrap(), [""; 0]);
    let (process, _) = parse_process(br#"{"args":["id"]}"#).unwrap();
    assert_eq!(validate_process(&process).unwrap_err().to_string(), "the working directory is empty (config.json: process.cwd)");
}

/// The table of `--user` (CVE-2024-40635, CVE-2026-30892, CVE-2026-46680): numbers in range, or one sentence.
#[test]
fn exec_user() {
    assert_eq!(user::parse("1").unwrap(), (1, None));
    assert_eq!(user::parse("0").unwrap(), (0, None));
    assert_eq!(user::parse("1:2").unwrap(), (1, Some(2)));
    assert_eq!(user::parse("4294967294:0").unwrap(), (4_294_967_294, Some(0)));
    for (text, why) in [
        ("", "the user id is missing"),
        (":", "the user id is missing"),
        (":1", "the user id is missing"),
        ("1:", "the group id is missing"),
        ("01", "the user id has a leading zero"),
        ("1:00", "the group id has a leading zero"),
        ("-1", "the user id is not a number; names are not looked up"),
        ("+1", "the user id is not a number; names are not looked up"),
        (" 1", "the user id is not a number; names are not looked up"),
        ("1 ", "the user id is not a number; names are not looked up"),
        ("0x1", "the user id has a leading zero"),
        ("1.0", "the user id is not a number; names are not looked up"),
        ("٣", "the user id is not a number; names are not looked up"),
        ("name", "the user id is not a number; names are not looked up"),
        ("name:grp", "the user id is not a number; names are not looked up"),
        ("1:grp", "the group id is not a number; names are not looked up"),
        ("1:2:3", "the group id is not a number; names are not looked up"),
        ("4294967295", "the user id is 4294967295, which means \"unchanged\" to setresuid(2)"),
        ("1:4294967295", "the group id is 4294967295, which means \"unchanged\" to setresuid(2)"),
        ("4294967296", "the user id is larger than 4294967294"),
        ("18446744073709551616", "the user id is larger than 4294967294"),
    ] {
        let words = format!("--user {text:?}: {why} (give numbers: UID or UID:GID)");
        assert_eq!(user::parse(text).unwrap_err().to_string(), words);
    }
}
