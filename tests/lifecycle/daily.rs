//! What works every day.

use crate::common::{self, Bundle, Census, Said, eventually};
use crate::{background, host_shell};
use serde_json::{Value, json};
use std::fs;

fn state(bundle: &Bundle) -> Value {
    serde_json::from_str(&bundle.keel(&["state", "ID"]).ok()).unwrap()
}

#[test]
fn run_gives_the_programs_output_and_exit_code_and_leaves_nothing() {
    let bundle = Bundle::new(&["sh", "-c", "echo hello; echo oops >&2; exit 42"]);
    let said = bundle.run();
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (42, "hello\n", "oops\n"), "{said:?}");
    Census::of(&bundle).nothing_left(&bundle);
}

#[test]
fn a_container_goes_from_created_over_running_to_stopped_and_away() {
    let bundle =
        Bundle::new(&["sh", "-c", "echo started; exec sleep 1000"]).with(|c| c["annotations"] = json!({"com.example.key": "value"}));
    bundle.create();
    let created = state(&bundle);
    assert_eq!(created["status"], "created");
    assert_eq!(created["id"], bundle.id());
    assert_eq!(created["pid"], bundle.pid());
    assert_eq!(created["bundle"], bundle.dir.to_str().unwrap());
    assert_eq!(created["rootfs"], bundle.rootfs().to_str().unwrap());
    assert_eq!(created["ociVersion"], bundle.config["ociVersion"]);
    assert_eq!(created["owner"], "root");
    assert_eq!(created["annotations"]["com.example.key"], "value");
    let time = created["created"].as_str().unwrap();
    assert!(time.len() >= 20 && time.as_bytes()[10] == b'T' && time.ends_with('Z'), "RFC 3339: {time}");
    assert_eq!(bundle.out(), "", "the program must wait for start");

    bundle.keel(&["start", "ID"]).ok();
    assert_eq!(state(&bundle)["status"], "running");
    assert_eq!(state(&bundle)["pid"], bundle.pid(), "the program is the process that was created");
    eventually("the program's output", || bundle.out() == "started\n");

    bundle.keel(&["kill", "ID", "KILL"]).ok();
    eventually("the container's end", || bundle.status() == "stopped");
    assert_eq!(state(&bundle)["pid"], 0);
    bundle.keel(&["delete", "ID"]).ok();
    bundle.keel(&["state", "ID"]).fails(1, &["does not exist", "error"]);
    Census::of(&bundle).nothing_left(&bundle);
}

#[test]
fn the_pid_file_has_digits_only_and_is_not_written_on_failure() {
    let bundle = Bundle::new(&["sleep", "1000"]);
    bundle.create();
    let text = fs::read_to_string(bundle.dir.join("pid")).unwrap();
    assert!(!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()), "{text:?}");
    assert!(fs::read_to_string(format!("/proc/{text}/cmdline")).is_ok(), "the process does not exist");

    let bundle = Bundle::new(&["/no/such/program"]);
    bundle.write();
    bundle.keel(&["run", "--pid-file", "pid", "ID"]).fails(1, &["no such file or directory", "/no/such/program"]);
    bundle.keel(&["create", "--pid-file", "pid", "ID"]).fails(1, &["no such file or directory", "/no/such/program"]);
    assert!(!bundle.dir.join("pid").exists());
    assert!(!fs::read_dir(&bundle.dir).unwrap().flatten().any(|e| e.file_name().to_string_lossy().starts_with(".pid")), "a temporary file");
}

/// The specification wants the one ignored; the other is of the specification.
#[test]
fn what_is_for_other_platforms_is_a_warning_and_an_unknown_key_is_not() {
    let bundle = Bundle::new(&["true"]).with(|c| (c["windows"], c["colour"]) = (serde_json::json!({}), serde_json::json!(1)));
    assert_eq!(bundle.run_with_log().1, ["windows is not for Linux and is ignored"]);
}

/// `start` and `delete` are so fast that a caller who has seen the program's last word may come before its end.
#[test]
fn delete_does_not_refuse_a_program_that_is_ending() {
    let bundle = Bundle::new(&["usleep", "30000"]);
    bundle.start();
    bundle.keel(&["delete", "ID"]).ok();
    Census::of(&bundle).nothing_left(&bundle);
}

#[test]
fn run_detached_returns_while_the_program_runs_and_keeps_the_state() {
    let bundle = Bundle::new(&["sh", "-c", "read line < /go; exit 3"]);
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    mknodat(CWD, bundle.rootfs().join("go"), FileType::Fifo, Mode::RWXU, 0).unwrap();
    bundle.write();
    bundle.detached(&["run", "--detach", "--pid-file", "pid", "ID"]).ok();
    assert_eq!(bundle.status(), "running");
    bundle.keel(&["delete", "ID"]).fails(1, &["not stopped", "running"]);
    fs::write(bundle.rootfs().join("go"), "\n").unwrap();
    eventually("the program's end", || bundle.status() == "stopped");
    bundle.keel(&["delete", "ID"]).ok();
    Census::of(&bundle).nothing_left(&bundle);
}

#[test]
fn run_keep_leaves_a_stopped_container_for_delete() {
    let bundle = Bundle::new(&["sh", "-c", "exit 5"]);
    bundle.write();
    assert_eq!(bundle.keel(&["run", "--bundle", ".", "--keep", "ID"]).code, 5);
    assert_eq!(bundle.status(), "stopped");
    bundle.keel(&["delete", "ID"]).ok();
    Census::of(&bundle).nothing_left(&bundle);
}

#[test]
fn options_may_follow_operands_and_take_their_value_either_way() {
    let bundle = Bundle::new(&["sleep", "1000"]);
    bundle.write();
    bundle.detached(&["create", "ID", "--bundle=.", "--pid-file", "pid"]).ok();
    bundle.keel(&["start", "ID"]).ok();
    bundle.keel(&["kill", "ID", "KILL", "--all"]).ok();
    eventually("the container's end", || bundle.status() == "stopped");
    bundle.keel(&["delete", "ID", "--force"]).ok();
    bundle.keel(&["state", "ID"]).fails(1, &["does not exist"]);
}

#[test]
fn commands_on_a_missing_container_say_that_it_does_not_exist() {
    let bundle = Bundle::new(&["true"]);
    for command in ["state", "start", "kill", "delete", "pause", "resume", "ps"] {
        bundle.keel(&[command, "ID"]).fails(1, &["does not exist", "error"]);
    }
    bundle.keel(&["exec", "ID", "true"]).fails(255, &["does not exist"]);
    assert_eq!(bundle.keel(&["delete", "--force", "ID"]).ok(), "");
}

#[test]
fn start_refuses_a_container_that_runs_or_has_stopped() {
    let bundle = Bundle::new(&["sleep", "1000"]);
    bundle.start();
    bundle.keel(&["start", "ID"]).fails(1, &["already running"]);
    assert_eq!(bundle.status(), "running");
    bundle.keel(&["kill", "ID", "KILL"]).ok();
    eventually("the container's end", || bundle.status() == "stopped");
    bundle.keel(&["start", "ID"]).fails(1, &["stopped"]);
}

#[test]
fn a_second_create_of_the_same_id_is_refused_and_harms_nothing() {
    let bundle = Bundle::new(&["sleep", "1000"]);
    bundle.start();
    let pid = bundle.pid();
    bundle.keel(&["create", "ID"]).fails(1, &["already exists", &bundle.id()]);
    bundle.keel(&["run", "ID"]).fails(1, &["already exists"]);
    assert_eq!((bundle.status().as_str(), state(&bundle)["pid"].as_i64()), ("running", Some(i64::from(pid))));
}

#[test]
fn delete_of_a_created_container_needs_no_force() {
    let bundle = Bundle::new(&["sleep", "1000"]);
    bundle.create();
    bundle.keel(&["delete", "ID"]).ok();
    Census::of(&bundle).nothing_left(&bundle);
}

#[test]
fn delete_force_ends_a_running_container_with_all_its_processes() {
    for own_pids in [true, false] {
        let bundle = Bundle::new(&["sh", "-c", "sleep 1000 & sleep 1000 & exec sleep 1000"]);
        let bundle = bundle.with(|c| {
            let namespaces = c["linux"]["namespaces"].as_array_mut().unwrap();
            namespaces.retain(|n| own_pids || n["type"] != "pid");
        });
        bundle.start();
        eventually("three processes", || bundle.keel(&["ps", "--format", "json", "ID"]).ok().split(',').count() == 3);
        bundle.keel(&["delete", "--force", "ID"]).ok();
        Census::of(&bundle).nothing_left(&bundle);
    }
}

#[test]
fn the_configuration_is_read_at_create_and_never_again() {
    let bundle = Bundle::new(&["sh", "-c", "echo before"]);
    bundle.create();
    fs::write(bundle.dir.join("config.json"), "no JSON at all").unwrap();
    bundle.keel(&["start", "ID"]).ok();
    eventually("the old program's output", || bundle.out() == "before\n");
    eventually("the container's end", || bundle.status() == "stopped");
    fs::remove_file(bundle.dir.join("config.json")).unwrap();
    assert_eq!(bundle.keel(&["delete", "ID"]).ok(), "");
}

#[test]
fn list_shows_containers_as_table_json_and_ids() {
    let bundle = Bundle::new(&["sleep", "1000"]);
    let empty = bundle.keel(&["list"]).ok();
    assert_eq!(empty.split_whitespace().collect::<Vec<_>>(), ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]);
    assert_eq!(bundle.keel(&["list", "--quiet"]).ok(), "");
    assert_eq!(bundle.keel(&["list", "--format", "json"]).ok().trim(), "null", "as runc");
    bundle.start();
    let table = bundle.keel(&["list"]).ok();
    let row: Vec<&str> = table.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(row[..4], [&bundle.id(), &bundle.pid().to_string(), "running", bundle.dir.to_str().unwrap()]);
    let rows: Value = serde_json::from_str(&bundle.keel(&["list", "-f", "json"]).ok()).unwrap();
    assert_eq!((&rows[0]["id"], &rows[0]["status"]), (&json!(bundle.id()), &json!("running")));
    assert_eq!(bundle.keel(&["list", "-q"]).ok(), bundle.id() + "\n");
}

/// The name of a process that waits for `start` is no secret, and its socket is gone when the program runs.
#[test]
fn a_program_that_bears_the_name_of_a_waiting_process_runs() {
    let bundle = Bundle::new(&["sh", "-c", "printf 'keel:[init]' > /proc/$$/comm; sleep 1000; true"]);
    bundle.create();
    let listed = || bundle.keel(&["list", "-f", "json"]).ok();
    assert!(listed().contains(r#""status":"created""#), "{}", listed());
    bundle.keel(&["start", "ID"]).ok();
    let comm = format!("/proc/{}/comm", bundle.pid());
    eventually("it has the name", || std::fs::read_to_string(&comm).unwrap() == "keel:[init]\n");
    assert_eq!(bundle.status(), "running");
    assert!(listed().contains(r#""status":"running""#), "{}", listed());
    bundle.delete();
}

#[test]
fn ps_lists_the_containers_processes_and_no_others() {
    let bundle = Bundle::new(&["sh", "-c", "sleep 1000 & exec sleep 1001"]);
    bundle.start();
    let pids = || -> Vec<i32> { serde_json::from_str(&bundle.keel(&["ps", "--format", "json", "ID"]).ok()).unwrap() };
    eventually("two processes", || pids().len() == 2);
    assert!(pids().contains(&bundle.pid()));
    eventually("both execute sleep", || bundle.keel(&["ps", "ID"]).ok().matches("sleep 100").count() == 2);
    let table = bundle.keel(&["ps", "ID"]).ok();
    assert!(table.lines().next().unwrap().contains("PID"), "{table}");
    assert_eq!(table.lines().count(), 3, "{table}");
    let chosen = bundle.keel(&["ps", "ID", "-o", "pid,args"]).ok();
    assert!(chosen.contains(&format!("{} sleep 1001", bundle.pid())), "{chosen}");
}

#[test]
fn pause_stops_the_program_until_resume() {
    let bundle = Bundle::new(&["sh", "-c", "while :; do echo tick; usleep 5000; done"]);
    bundle.start();
    eventually("ticks", || bundle.out().len() > 20);
    bundle.keel(&["pause", "ID"]).ok();
    assert_eq!(bundle.status(), "paused");
    let before = bundle.out().len();
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert_eq!(bundle.out().len(), before, "it ticks on");
    bundle.keel(&["pause", "ID"]).fails(1, &["already paused"]);
    bundle.keel(&["delete", "ID"]).fails(1, &["paused"]);
    bundle.keel(&["resume", "ID"]).ok();
    assert_eq!(bundle.status(), "running");
    eventually("more ticks", || bundle.out().len() > before);
    bundle.keel(&["resume", "ID"]).fails(1, &["not paused"]);
}

#[test]
fn a_paused_container_can_be_killed_and_deleted() {
    for command in [&["kill", "ID", "KILL"][..], &["delete", "--force", "ID"]] {
        let bundle = Bundle::new(&["sleep", "1000"]);
        bundle.start();
        bundle.keel(&["pause", "ID"]).ok();
        bundle.keel(command).ok();
        if command[0] == "kill" {
            eventually("the container's end", || bundle.status() == "stopped");
            bundle.keel(&["delete", "ID"]).ok();
        }
        Census::of(&bundle).nothing_left(&bundle);
    }
}

#[test]
fn run_in_the_foreground_hands_signals_to_the_program() {
    let bundle = Bundle::new(&["sh", "-c", "trap 'echo caught; exit 9' USR1; echo ready; while :; do usleep 10000; done"]);
    bundle.write();
    let mut keel = background(&bundle, &["run", &bundle.id()]);
    eventually("the program", || bundle.out().contains("ready"));
    let pid = nix::unistd::Pid::from_raw(keel.id().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGUSR1).unwrap();
    assert_eq!(keel.wait().unwrap().code(), Some(9));
    assert_eq!(bundle.out(), "ready\ncaught\n");
    Census::of(&bundle).nothing_left(&bundle);
}

/// Whatever the program may catch is handed on, real-time signals too, and none of them ends or stops keel, which would leave the
/// container alone.
#[test]
fn every_signal_that_can_be_handed_on_is() {
    let kept = [libc::SIGKILL, libc::SIGSTOP, libc::SIGCHLD, 32, 33];
    // Without a terminal a change of its size reaches nobody, and a shell has no trap for faults of its own.
    let own = [libc::SIGWINCH, libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL];
    let signals: Vec<i32> = (1..=64).filter(|signal| !kept.contains(signal) && !own.contains(signal)).collect();
    let traps: String = signals.iter().map(|signal| format!("trap 'echo got {signal}' {signal}; ")).collect();
    let bundle = Bundle::new(&["sh", "-c", &format!("{traps} trap 'exit 9' 64; echo ready; while :; do usleep 5000; done")]);
    bundle.write();
    let mut keel = background(&bundle, &["run", &bundle.id()]);
    eventually("the program", || bundle.out().contains("ready"));
    for signal in signals.iter().filter(|signal| **signal != 64) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&keel), keel::sys::signal_from_raw(*signal).unwrap()).unwrap();
        eventually(&format!("signal {signal}"), || bundle.out().contains(&format!("got {signal}\n")));
    }
    rustix::process::kill_process(rustix::process::Pid::from_child(&keel), keel::sys::signal_from_raw(64).unwrap()).unwrap();
    assert_eq!(keel.wait().unwrap().code(), Some(9));
    Census::of(&bundle).nothing_left(&bundle);
}

/// conmon gives keel the container's own standard output and error, whose first lines would be keel's.
#[test]
fn what_succeeds_writes_nothing_where_the_container_writes() {
    let bundle = Bundle::new(&["sleep", "1000"]).with(|c| {
        c["windows"] = serde_json::json!({});
        c["process"]["capabilities"]["bounding"] = serde_json::json!(["CAP_FUTURE"]);
        for set in ["effective", "permitted"] {
            c["process"]["capabilities"][set] = serde_json::json!([]);
        }
        let rule = serde_json::json!({"names": ["no_such_call"], "action": "SCMP_ACT_ERRNO"});
        c["linux"]["seccomp"] = serde_json::json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]});
        c["hooks"] = serde_json::json!({"poststart": [{"path": "/bin/true"}]});
    });
    bundle.create();
    assert_eq!((bundle.out().as_str(), fs::read_to_string(bundle.dir.join("err")).unwrap().as_str()), ("", ""));
    for command in [&["start", "ID"][..], &["exec", "ID", "true"], &["exec", "--cap", "CAP_FUTURE", "ID", "true"]] {
        let said = bundle.keel(command);
        assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (0, "", ""), "{command:?}: {said:?}");
    }
    bundle.delete();
    let said = bundle.detached(&["run", "--detach", "ID"]);
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (0, "", ""), "{said:?}");
    bundle.delete();
    // Who asks is told.
    let said = bundle.detached(&["--debug", "create", "ID"]);
    assert!(said.err.contains("warning: windows is not for Linux"), "{said:?}");
    bundle.delete();
    assert!(bundle.keel(&["validate", "--bundle", "."]).ok().contains("warning: windows is not for Linux"));
}

/// Hooks and engines open files by it.
#[test]
fn the_bundle_of_the_state_has_no_parent_directories() {
    let bundle = Bundle::new(&["sleep", "1000"]);
    bundle.write();
    let name = bundle.dir.file_name().unwrap().to_str().unwrap();
    bundle.detached(&["create", "--bundle", &format!("../{name}/rootfs/.."), "ID"]).ok();
    assert_eq!(state(&bundle)["bundle"], bundle.dir.to_str().unwrap());
    bundle.delete();
}

/// Its limit of file sizes would end keel by SIGXFSZ, without a word and with a directory left behind.
#[test]
fn a_caller_that_may_write_no_file_is_told_so() {
    let bundle = Bundle::new(&["true"]);
    bundle.write();
    let output = host_shell(&bundle, "ulimit -f 0; $KEEL run $ID | cat; $KEEL run $ID > /dev/null");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("file too large"), "{output:?}");
    Census::of(&bundle).nothing_left(&bundle);
}

/// Engines add flags beside the administrator's own (`runtimeArgs`), and write some of them as Go's programs do.
#[test]
fn flags_are_taken_as_runc_takes_them() {
    let bundle = Bundle::new(&["sleep", "1000"]);
    bundle.write();
    let root = bundle.state_root();
    let go = |args: &[&str]| {
        let mut command = std::process::Command::new(common::KEEL);
        command.args(["-root", "/nowhere", "--root"]).arg(&root).args(args).current_dir(&bundle.dir);
        // A container in the background would keep a pipe open.
        let file = |name: &str| fs::File::create(bundle.dir.join(name)).unwrap();
        let status = command.stdout(file("said")).stderr(file("errors")).status().unwrap();
        let read = |name: &str| fs::read_to_string(bundle.dir.join(name)).unwrap();
        Said { code: status.code().unwrap_or(-1), out: read("said"), err: read("errors") }
    };
    let id = bundle.id();
    go(&["-debug=true", "-debug=false", "run", "-detach", "-d=false", "-detach=1", "-bundle", "/nowhere", "-b", ".", &id]).ok();
    assert_eq!(go(&["exec", "-env", "A=1", "-cwd", "/nowhere", "-cwd", "/bin", &id, "sh", "-c", "echo $A; pwd"]).ok(), "1\n/bin\n");
    go(&["delete", "-force", &id]).ok();
    assert!(bundle.keel(&["help"]).ok().contains("create"));
    assert!(bundle.keel(&["help", "create"]).ok().contains("--console-socket"));
    go(&["--debug=perhaps", "list"]).fails(1, &["perhaps"]);
    Census::of(&bundle).nothing_left(&bundle);
}

/// crun's, for its callers.
#[test]
fn another_configuration_and_a_regular_expression_of_ids() {
    let bundle = Bundle::new(&["echo", "other"]);
    bundle.write();
    let dir = |name: &str| bundle.dir.join(name);
    fs::create_dir(dir("config")).unwrap();
    fs::rename(dir("config.json"), dir("config/other.json")).unwrap();
    assert_eq!(bundle.keel(&["run", "--config", "config/other.json", "ID"]).ok(), "other\n");
    assert_eq!(bundle.keel(&["run", "--config", dir("config/other.json").to_str().unwrap(), "ID"]).ok(), "other\n");
    bundle.keel(&["run", "ID"]).fails(1, &["config.json"]);
    let ids: Vec<_> = ["a", "b", "c"].iter().map(|end| format!("{}-{end}", bundle.id())).collect();
    for id in &ids {
        let said = bundle.detached(&["create", "--config", "config/other.json", id]);
        said.ok();
    }
    bundle.keel(&["delete", "--regex", "("]).fails(1, &["\"(\" is no POSIX extended regular expression"]);
    bundle.keel(&["delete", "--force", "--regex", &format!("^{}-[ab]$", bundle.id())]).ok();
    assert_eq!(bundle.keel(&["list", "--quiet"]).ok(), format!("{}\n", ids[2]));
    bundle.keel(&["delete", "--force", "--regex", "no such"]).ok();
    bundle.keel(&["delete", "--regex", &bundle.id()]).ok();
    Census::of(&bundle).nothing_left(&bundle);
}
