//! Keyrings are not namespaced: whoever runs in a container must not have the session keyring of the runtime's caller, nor one
//! that was laid out under a name that the runtime would take.
//!
//! `/proc/keys` shows an ordinary user only keys that its keyrings lead to.

use super::{Guard, control_with};
use crate::common::{Bundle, eventually};
use serde_json::json;
use std::process::{Child, Command, Stdio};

/// Joins the session keyring NAME, lets its user search it, puts a key called SECRET on it and becomes the command, if there is one.
const CALLER: &str = "import ctypes, os, platform, sys, time
add_key, keyctl = {'x86_64': (248, 250), 'aarch64': (217, 219)}[platform.machine()]
call = ctypes.CDLL(None, use_errno=True).syscall
name, secret, *command = [os.fsencode(word) for word in sys.argv[1:]]
ring = call(keyctl, 1, name)
assert ring > 0 and call(keyctl, 5, ring, 0x3f1b0000) == 0
assert call(add_key, b'user', secret, b'x', 1, -3) > 0
if command: os.execvp(command[0], command)
print('ready', flush=True)
time.sleep(1000)
";

fn caller(name: &str, secret: &str) -> Command {
    let mut command = Command::new("python3");
    command.args(["-c", CALLER, name, secret]);
    command
}

/// Shows the keys of an ordinary user, and stays.
fn shows_keys() -> Bundle {
    let bundle = Bundle::new(&["sh", "-c", "cat /proc/keys; exec sleep 1000"]).with(|c| {
        c["linux"]["maskedPaths"] = json!([]);
        c["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    });
    bundle.write();
    bundle
}

#[test]
fn exec_does_not_bring_the_callers_keys() {
    let bundle = shows_keys();
    let guard = Guard::new(&bundle);
    bundle.start();
    let secret = format!("secret-of-{}", bundle.id());
    let keel = bundle.command(&["exec", &bundle.id(), "cat", "/proc/keys"]);
    let mut command = caller("caller", &secret);
    command.arg(keel.get_program()).args(keel.get_args()).current_dir(&bundle.dir);
    let said = super::said(command.output().unwrap());
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.out.contains("keyring") && !said.out.contains(&secret), "{said:?}");
    let alone = caller("caller", &secret).args(["setpriv", "--reuid=1000", "--clear-groups", "cat", "/proc/keys"]).output().unwrap();
    assert!(super::said(alone).out.contains(&secret), "a process of the caller's would have seen it");
    control_with(&bundle, &guard, |peer| {
        peer.said(&[], &["run", "--detach", "ID"]);
        let words = ["--reuid=0", "python3", "-c", CALLER, "caller", &secret];
        peer.said(&words, &["exec", "ID", "cat", "/proc/keys"]).out.contains(&secret)
    });
    bundle.keel(&["delete", "--force", "ID"]).ok();
    guard.unchanged_and_empty(&bundle);
}

/// A keyring that waits under a name; it goes with the process.
struct Planted(Child);

impl Planted {
    fn new(name: &str, secret: &str) -> Self {
        let mut child = caller(name, secret).stdout(Stdio::piped()).spawn().unwrap();
        let mut ready = [0; 6];
        std::io::Read::read_exact(&mut child.stdout.take().unwrap(), &mut ready).unwrap();
        Self(child)
    }
}

impl Drop for Planted {
    fn drop(&mut self) {
        let _ = (self.0.kill(), self.0.wait());
    }
}

#[test]
fn a_keyring_under_the_containers_name_is_not_taken() {
    let bundle = shows_keys();
    let guard = Guard::new(&bundle);
    let secret = format!("planted-for-{}", bundle.id());
    let planted = Planted::new(&format!("_ses.{}", bundle.id()), &secret);
    bundle.start();
    let out = bundle.dir.join("out");
    eventually("its keys", || std::fs::read_to_string(&out).is_ok_and(|text| text.contains("_ses.")));
    let keys = [std::fs::read_to_string(&out).unwrap(), bundle.sh("cat /proc/keys")];
    assert!(keys.iter().all(|keys| !keys.contains(&secret)), "{keys:?}");
    drop(planted);
    control_with(&bundle, &guard, |peer| {
        let name = peer.id.clone();
        let _planted = [Planted::new(&format!("_ses.{name}"), &secret), Planted::new(&name, &secret)];
        peer.said(&[], &["run", "--detach", "ID"]);
        peer.said(&[], &["exec", "ID", "cat", "/proc/keys"]).out.contains(&secret)
    });
    bundle.keel(&["delete", "--force", "ID"]).ok();
    guard.unchanged_and_empty(&bundle);
}
