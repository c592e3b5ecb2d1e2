//! CVE-2019-5736: a container overwrote the runtime through /proc/self/exe or /proc/PID/exe.

use super::{Guard, ROUNDS, add_caps, common::Bundle, control};
use rustix::fs::{CWD, Mode, OFlags, SealFlags, StatVfsMountFlags, fcntl_get_seals, fstatvfs, openat};
use serde_json::json;
use std::fs;
use std::os::unix::fs::PermissionsExt;

/// Rights that make every look at another process of the container succeed.
const CAPS: [&str; 4] = ["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE", "CAP_SETUID", "CAP_FOWNER"];

/// Opens the executable of every process in sight, first to read, then through that descriptor to append. All other
/// executables are busybox, which runs and so is busy; `true` and not `:`, whose failed redirection would end the shell.
const LOOP: &str = "while [ ! -e /stop ]; do for p in /proc/[0-9]*; do \
    { true >> /proc/self/fd/9 && echo OPENED $p; } 9<$p/exe; done; done 2>/dev/null";

fn entry(bundle: &Bundle) {
    let path = bundle.rootfs().join("entry");
    fs::write(&path, "#!/proc/self/exe\n").unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn an_entrypoint_that_executes_the_runtime_gets_nothing_to_write_to() {
    let bundle = Bundle::new(&["/entry"]).with(|config| add_caps(config, &CAPS));
    let guard = Guard::new(&bundle);
    entry(&bundle);
    assert_ne!(bundle.run().code, 0);
    guard.unchanged_and_empty(&bundle);
    control(&bundle, &guard, |_| false);
}

#[test]
fn the_waiting_first_process_shows_a_read_only_executable() {
    let bundle = Bundle::new(&["sleep", "60"]).with(|config| add_caps(config, &CAPS));
    let guard = Guard::new(&bundle);
    bundle.create();
    // Until start, /proc/1/exe is keel's own. The host sees that it is on a read-only mount or sealed ...
    let exe = openat(CWD, format!("/proc/{}/exe", bundle.pid()), OFlags::RDONLY, Mode::empty()).unwrap();
    let read_only = fstatvfs(&exe).unwrap().f_flag.contains(StatVfsMountFlags::RDONLY);
    let sealed = fcntl_get_seals(&exe).is_ok_and(|seals| seals.contains(SealFlags::WRITE));
    assert!(read_only || sealed, "the executable of the parked process can be written");
    // ... and the container, with every right over the process, cannot open it for writing, by name or by descriptor.
    let line = "true >> /proc/1/exe && echo OPENED; { true >> /proc/self/fd/9 && echo OPENED; } 9</proc/1/exe";
    let said = bundle.keel(&["exec", "ID", "sh", "-c", line]);
    assert!(!said.out.contains("OPENED"), "{said:?}");
    let refused = said.err.matches("Read-only file system").count() + said.err.matches("Text file busy").count();
    assert_eq!(refused, 2, "{said:?}");
    guard.unchanged();
}

#[test]
fn a_descriptor_kept_from_the_waiting_process_is_still_read_only_when_keel_is_gone() {
    let bundle = Bundle::new(&["sh", "-c", "while [ ! -e /stop ]; do usleep 10000; done"]).with(|config| add_caps(config, &CAPS));
    let guard = Guard::new(&bundle);
    bundle.create();
    let line = "{ echo > /held; while [ ! -e /go ]; do usleep 10000; done; true >> /proc/self/fd/9 && echo OPENED; echo > /done; } \
        9</proc/1/exe >/result 2>&1";
    bundle.detached(&["exec", "--detach", "ID", "sh", "-c", line]).ok();
    let there = |name: &str| bundle.rootfs().join(name).exists();
    super::common::eventually("the attacker holds the descriptor", || there("held"));
    bundle.keel(&["start", "ID"]).ok();
    super::common::eventually("the program runs", || !fs::read_link(format!("/proc/{}/exe", bundle.pid())).unwrap().ends_with("keel"));
    fs::write(bundle.rootfs().join("go"), "").unwrap();
    super::common::eventually("the attacker has tried", || there("done"));
    let result = fs::read_to_string(bundle.rootfs().join("result")).unwrap();
    assert!(!result.contains("OPENED"), "{result}");
    assert!(result.contains("Read-only file system") || result.contains("Text file busy"), "{result}");
    guard.unchanged();
}

fn a_loop_during_exec(caps: &[&str]) {
    let bundle = Bundle::new(&["sh", "-c", LOOP]).with(|config| add_caps(config, caps));
    let guard = Guard::new(&bundle);
    entry(&bundle);
    bundle.start();
    for round in 0..ROUNDS / 2 {
        let program = if round % 4 == 0 { "/entry" } else { "true" };
        let said = bundle.keel(&["exec", "ID", program]);
        assert_eq!(said.code == 0, program == "true", "{said:?}");
    }
    fs::write(bundle.rootfs().join("stop"), "").unwrap();
    super::common::eventually("the loop ends", || bundle.status() == "stopped");
    assert_eq!(bundle.out(), "", "the runtime's executable was opened for writing");
    guard.unchanged();
}

#[test]
fn a_loop_in_the_container_never_opens_the_executable_of_an_exec_for_writing() {
    a_loop_during_exec(&[]);
}

#[test]
fn nor_does_a_loop_with_the_right_to_trace() {
    a_loop_during_exec(&CAPS);
}

/// `start` enters the container too, for the hooks `startContainer`: one whose file is the image's may be a script of ours.
#[test]
fn a_start_with_hooks_in_the_container_shows_a_read_only_executable() {
    use super::common::eventually;
    let bundle = Bundle::new(&["true"]).with(|config| {
        let wait = "echo > /dev/shm/hook; while [ ! -e /dev/shm/go ]; do usleep 10000; done";
        config["hooks"] = json!({ "startContainer": [{ "path": "/bin/sh", "args": ["sh", "-c", wait] }] });
    });
    let guard = Guard::new(&bundle);
    bundle.create();
    let shm = format!("/proc/{}/root/dev/shm", bundle.pid());
    let mut start = bundle.command(&["start", &bundle.id()]).spawn().unwrap();
    eventually("the hook runs", || fs::exists(format!("{shm}/hook")).unwrap());
    let exe = openat(CWD, format!("/proc/{}/exe", start.id()), OFlags::RDONLY, Mode::empty()).unwrap();
    let read_only = fstatvfs(&exe).unwrap().f_flag.contains(StatVfsMountFlags::RDONLY);
    let sealed = fcntl_get_seals(&exe).is_ok_and(|seals| seals.contains(SealFlags::WRITE));
    fs::write(format!("{shm}/go"), "").unwrap();
    assert!(start.wait().unwrap().success());
    assert!(read_only || sealed, "the executable of start can be written");
    guard.unchanged();
}
