//! A caller without standard input, output or error (crun issue 1702): files of the runtime's would get these numbers, and be the
//! container's: a folder of the host to walk out through, a lock that is never let go, a record into which warnings are written.

use super::common::{Bundle, Census};
use super::{Guard, add_caps};
use std::fs;
use std::process::{Command, Stdio};

/// A keel command whose caller has closed some of 0, 1 and 2; its exit code.
fn without(bundle: &Bundle, closed: &[u32], args: &[&str]) -> i32 {
    let keel = bundle.command(args);
    let closing: String = closed.iter().map(|number| format!("{number}>&- ")).collect();
    let mut shell = Command::new("timeout");
    shell.args(["-k", "1", "20", "sh", "-c"]).arg(format!("exec \"$@\" {closing}")).arg("sh").arg(keel.get_program()).args(keel.get_args());
    shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).current_dir(&bundle.dir);
    shell.status().unwrap().code().unwrap_or(-1)
}

/// What a process has as 0, 1 and 2.
fn standard(pid: i32) -> Vec<String> {
    let link = |number| fs::read_link(format!("/proc/{pid}/fd/{number}"));
    (0..3).map(|number| link(number).map_or_else(|_| "closed".into(), |path| path.display().to_string())).collect()
}

#[test]
fn a_caller_without_standard_descriptors_hands_over_none_of_keels() {
    for subset in 1..8u32 {
        let closed: Vec<u32> = (0..3).filter(|number| subset >> number & 1 == 1).collect();
        let line = "echo out; echo err >&2; [ -e /proc/1/cwd ] && sleep 1000";
        let bundle = Bundle::new(&["sh", "-c", line]).with(|config| add_caps(config, &["CAP_SYS_PTRACE"]));
        let guard = Guard::new(&bundle);
        bundle.write();
        let id = bundle.id();
        assert_eq!(without(&bundle, &closed, &["create", "--pid-file", "pid", &id]), 0, "{closed:?}");
        for phase in ["created", "running"] {
            assert_eq!(bundle.status(), phase, "{closed:?}");
            assert_eq!(standard(bundle.pid()), ["/dev/null"; 3], "{phase}, {closed:?}");
            if phase == "created" {
                assert_eq!(without(&bundle, &closed, &["start", &id]), 0, "{closed:?}");
            }
        }
        assert_eq!(without(&bundle, &closed, &["exec", &id, "sh", "-c", "[ $(readlink /proc/self/fd/0) = /dev/null ] && exit 7"]), 7);
        assert_eq!(without(&bundle, &closed, &["state", &id]), 0, "{closed:?}");
        let record = fs::read_to_string(bundle.state_root().join(&id).join("record.jsonl")).unwrap();
        assert!(record.lines().all(|line| line.is_empty() || line.starts_with("{\"")), "{record}");
        assert_eq!(without(&bundle, &closed, &["delete", "--force", &id]), 0, "{closed:?}");
        assert_eq!(without(&bundle, &closed, &["run", &id, "--pid-file"]), 1, "a command line that is refused");
        guard.unchanged();
        Census::of(&bundle).nothing_left(&bundle);
    }
}
