//! sd_notify(3): the service manager that started keel hears when the container is ready, and nothing else from it.

mod common;

use common::{Bundle, Census, eventually};
use serde_json::json;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Stdio};
use std::time::Duration;

/// In the container: says what the variable has, one message for each line, then waits for its end, or for none.
#[test]
fn inside() {
    let Ok(messages) = std::env::var("KEEL_TEST_MESSAGES") else { return };
    let path = std::env::var("NOTIFY_SOCKET").unwrap();
    assert_eq!(path, "/run/notify/notify.sock");
    assert!(std::fs::write("/run/notify/other", "").is_err(), "nothing can be made beside it");
    let socket = UnixDatagram::unbound().unwrap();
    for message in messages.split('|') {
        if message == "wait" {
            eventually("the go", || std::fs::exists("/go").unwrap());
        } else {
            socket.send_to(message.replace(';', "\n").as_bytes(), &path).unwrap();
        }
    }
}

/// This test's own executable is the program, with the host's libraries.
fn speaking(messages: &str, stay: bool) -> (Bundle, UnixDatagram) {
    let line = format!("/test --exact inside >/dev/null; {}", if stay { "exec sleep 1000" } else { "true" });
    let bundle = Bundle::new(&["sh", "-c", &line]).with(|c| {
        c["process"]["env"].as_array_mut().unwrap().push(json!(format!("KEEL_TEST_MESSAGES={messages}")));
        let mounts = c["mounts"].as_array_mut().unwrap();
        for dir in ["/usr", "/lib", "/lib64"].iter().filter(|dir| std::fs::exists(dir).unwrap()) {
            mounts.push(json!({"destination": dir, "type": "bind", "source": dir, "options": ["rbind", "ro"]}));
        }
        mounts.push(json!({"destination": "/test", "type": "bind", "source": std::env::current_exe().unwrap(), "options": ["bind", "ro"]}));
    });
    bundle.write();
    let manager = UnixDatagram::bind(bundle.dir.join("manager.sock")).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    (bundle, manager)
}

/// keel as the manager starts it.
fn keel(bundle: &Bundle, args: &[&str]) -> Child {
    let id = bundle.id();
    let args: Vec<&str> = args.iter().map(|arg| if *arg == "ID" { id.as_str() } else { arg }).collect();
    let mut command = bundle.command(&args);
    command.env("NOTIFY_SOCKET", bundle.dir.join("manager.sock")).stdout(Stdio::null()).spawn().unwrap()
}

fn heard(manager: &UnixDatagram) -> String {
    let mut buffer = [0; 4096];
    let length = manager.recv(&mut buffer).unwrap();
    String::from_utf8(buffer[..length].to_vec()).unwrap()
}

#[test]
fn start_returns_when_the_container_is_ready() {
    let (bundle, manager) = speaking("STATUS=begun|wait|STATUS=done;READY=1;MAINPID=1", true);
    assert!(keel(&bundle, &["create", "--pid-file", "pid", "ID"]).wait().unwrap().success());
    let mut start = keel(&bundle, &["start", "ID"]);
    eventually("running", || bundle.status() == "running");
    // Other commands need not wait for it.
    bundle.keel(&["pause", "ID"]).ok();
    bundle.keel(&["resume", "ID"]).ok();
    assert!(start.try_wait().unwrap().is_none(), "not ready yet");
    std::fs::write(bundle.rootfs().join("go"), "").unwrap();
    assert_eq!(heard(&manager), format!("READY=1\nMAINPID={}\n", bundle.pid()), "the container's own words are not handed on");
    assert!(start.wait().unwrap().success());
    manager.set_nonblocking(true).unwrap();
    assert!(manager.recv(&mut [0; 16]).is_err(), "nothing more is said");
    bundle.delete();
    Census::of(&bundle).nothing_left(&bundle);
}

#[test]
fn run_tells_it_too() {
    let (bundle, manager) = speaking("READY=1", true);
    assert!(keel(&bundle, &["run", "--detach", "--pid-file", "pid", "ID"]).wait().unwrap().success());
    assert_eq!(heard(&manager), format!("READY=1\nMAINPID={}\n", bundle.pid()));
    bundle.delete();
    let (bundle, manager) = speaking("READY=1|wait", false);
    let mut run = keel(&bundle, &["run", "ID"]);
    assert_eq!(heard(&manager), "READY=1\n", "keel itself stays the main process");
    std::fs::write(bundle.rootfs().join("go"), "").unwrap();
    assert!(run.wait().unwrap().success());
    Census::of(&bundle).nothing_left(&bundle);
}

#[test]
fn a_container_that_ends_before_it_is_ready_ends_the_wait() {
    let (bundle, manager) = speaking("STATUS=never", false);
    assert!(keel(&bundle, &["run", "--detach", "ID"]).wait().unwrap().success());
    manager.set_nonblocking(true).unwrap();
    assert!(manager.recv(&mut [0; 16]).is_err());
    bundle.delete();
    Census::of(&bundle).nothing_left(&bundle);
}

#[test]
fn a_variable_that_names_no_socket_is_refused() {
    let bundle = Bundle::new(&["true"]);
    bundle.write();
    let output = bundle.command(&["run", &bundle.id()]).env("NOTIFY_SOCKET", "relative").output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && err.contains("NOTIFY_SOCKET=relative: neither a path nor an abstract name"), "{err}");
    assert!(!bundle.state_root().exists());
}
