//! What a caller ignores or blocks survives execve(2) (signal(7)): a program that never hears SIGUSR1, a runtime that hears of no
//! child's end.

use super::common::{Bundle, Said};
use super::{add_mount, said};
use serde_json::json;
use std::process::{Command, Stdio};

/// A keel command whose caller ignores every signal that can be ignored, or only SIGCHLD, and blocks SIGTERM.
fn ignoring(bundle: &Bundle, what: &str, args: &[&str]) -> Said {
    let keel = bundle.command(args);
    let script = format!(
        "import os, signal, sys\n\
         for number in {what}:\n    signal.signal(number, signal.SIG_IGN)\n\
         signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])\n\
         os.execv(sys.argv[1], sys.argv[1:])"
    );
    let mut python = Command::new("python3");
    python.args(["-c", &script]).arg(keel.get_program()).args(keel.get_args()).stdin(Stdio::null()).current_dir(&bundle.dir);
    said(python.output().expect("python3 is installed"))
}

const ALL: &str = "[n for n in range(1, 65) if n not in (9, 19, 32, 33)]";
const SIGCHLD: &str = "[signal.SIGCHLD]";
const CLEAN: &str = "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n";

#[test]
fn no_signal_that_the_caller_ignores_or_blocks_is_the_programs() {
    let line = ["grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"];
    let bundle = Bundle::new(&line);
    bundle.write();
    assert_eq!(ignoring(&bundle, ALL, &["run", &bundle.id()]).ok(), CLEAN);
    let running = Bundle::new(&["sleep", "1000"]);
    running.start();
    let id = running.id();
    let exec: Vec<&str> = ["exec", &id].into_iter().chain(line).collect();
    assert_eq!(ignoring(&running, ALL, &exec).ok(), CLEAN);
    running.delete();
}

#[test]
fn who_ignores_the_end_of_children_hears_of_it_all_the_same() {
    let source = std::env::temp_dir();
    let bundle = Bundle::new(&["sh", "-c", "exit 7"]).with(|config| {
        config["hooks"] = json!({"createRuntime": [{"path": "/bin/true"}], "poststop": [{"path": "/bin/true"}]});
        add_mount(config, "bind", &source, "/mapped");
        let mount = config["mounts"].as_array_mut().unwrap().last_mut().unwrap();
        mount["options"] = json!(["bind", "idmap"]);
        mount["uidMappings"] = json!([{"containerID": 0, "hostID": 1000, "size": 1}]);
        mount["gidMappings"] = mount["uidMappings"].clone();
    });
    bundle.write();
    assert_eq!(ignoring(&bundle, SIGCHLD, &["run", &bundle.id()]).code, 7);
    let failing = Bundle::new(&["true"]).with(|c| c["hooks"] = json!({"createRuntime": [{"path": "/bin/false"}]}));
    failing.write();
    ignoring(&failing, SIGCHLD, &["run", &failing.id()]).fails(1, &["hooks.createRuntime[0]", "exited with status 1"]);
}
