//! Labels of SELinux, on a kernel that has it. Any context that the loaded policy knows will do, for these tests ask who has which
//! label; what that permits is the policy's affair.
//!
//! Where it is not enabled there is nothing to test, and each test says so. docs/testing.md tells how to boot a machine that has it.

mod common;

use common::{Bundle, Census, eventually};
use serde_json::json;
use std::process::Command;

const PROCESS: &str = "unconfined_u:unconfined_r:unconfined_t:s0:c1,c2";
const FILES: &str = "system_u:object_r:tmp_t:s0:c1,c2";

macro_rules! need_selinux {
    () => {
        if !std::path::Path::new("/sys/fs/selinux/enforce").exists() {
            assert!(std::env::var_os("KEEL_SELINUX").is_none(), "the machine for these tests has no SELinux");
            common::skipped("SELinux is not enabled here (hack/v2 -k bookworm has it)");
            return;
        }
    };
}

fn labelled(args: &[&str]) -> Bundle {
    let bundle = Bundle::new(args);
    for name in ["masked", "volume"] {
        std::fs::create_dir(bundle.rootfs().join(name)).unwrap();
    }
    bundle.with(|c| {
        c["process"]["selinuxLabel"] = json!(PROCESS);
        c["linux"]["mountLabel"] = json!(FILES);
        c["linux"]["maskedPaths"] = json!(["/proc/scsi", "/masked"]);
        let volume = json!({"destination": "/volume", "type": "tmpfs", "source": "tmpfs", "options": ["size=1m"]});
        c["mounts"].as_array_mut().unwrap().push(volume);
    })
}

#[test]
fn the_program_its_keys_and_every_exec_have_the_label() {
    need_selinux!();
    let bundle = labelled(&["sh", "-c", "cat /proc/self/attr/current > /volume/own; exec sleep 1000"]);
    bundle.start();
    eventually("the program's label", || bundle.keel(&["exec", "ID", "cat", "/volume/own"]).out.contains(PROCESS));
    assert!(bundle.sh("cat /proc/self/attr/current").contains(PROCESS));
    let other = PROCESS.replace("c1,c2", "c5");
    let said = bundle.keel(&["exec", "--process-label", &other, "ID", "cat", "/proc/self/attr/current"]);
    assert!(said.ok().contains(&other));
    let keys = bundle.sh("cat /proc/keys");
    let own = keys.lines().find(|line| line.contains(&format!("_ses.{}", bundle.id()))).expect("a session keyring");
    let serial = own.split(' ').next().unwrap();
    // keyctl(2), KEYCTL_GET_SECURITY.
    let script = "import ctypes, platform, sys; text = ctypes.create_string_buffer(200); number = {'x86_64': 250, 'aarch64': 219}[platform.machine()]
ctypes.CDLL(None).syscall(number, 17, int(sys.argv[1], 16), text, 200); print(text.value.decode())";
    let said = Command::new("python3").args(["-c", script, serial]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&said.stdout).trim(), PROCESS, "{own}");
    bundle.delete();
    Census::of(&bundle).nothing_left(&bundle);
}

#[test]
fn new_file_systems_have_the_mount_label() {
    need_selinux!();
    let bundle = labelled(&["sleep", "1000"]);
    bundle.start();
    let label = |path: &str| {
        let path = format!("/proc/{}/root{path}", bundle.pid());
        let said = Command::new("stat").args(["-c", "%C", &path]).output().unwrap();
        String::from_utf8(said.stdout).unwrap().trim().to_owned()
    };
    for path in ["/dev", "/dev/null", "/dev/pts", "/dev/shm", "/dev/mqueue", "/volume", "/masked"] {
        assert_eq!(label(path), FILES, "{path}");
    }
    for path in ["/proc", "/sys", "/"] {
        assert_ne!(label(path), FILES, "{path} has its label by policy, or from the image");
    }
    bundle.sh("echo kept > /volume/new");
    assert_eq!(label("/volume/new"), FILES);
    bundle.delete();
    Census::of(&bundle).nothing_left(&bundle);
}

#[test]
fn a_label_that_the_policy_does_not_know_is_refused() {
    need_selinux!();
    let bundle = labelled(&["true"]).with(|c| c["process"]["selinuxLabel"] = json!("system_u:system_r:no_such_t:s0"));
    bundle.run().fails(1, &["no_such_t", "process.selinuxLabel", "the policy that is loaded knows no such label"]);
    let bundle = labelled(&["true"]).with(|c| c["linux"]["mountLabel"] = json!("system_u:object_r:no_such_t:s0"));
    bundle.run().fails(1, &["no_such_t", "the file system refuses one of the options"]);
    Census::of(&bundle).nothing_left(&bundle);
}

#[test]
fn a_container_in_a_user_namespace_is_labelled_too() {
    need_selinux!();
    let bundle = labelled(&["sh", "-c", "cat /proc/self/attr/current; echo; grep -c context= /proc/mounts"]).with(|c| {
        c["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        for ids in ["uidMappings", "gidMappings"] {
            c["linux"][ids] = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
        }
    });
    let said = bundle.run();
    assert!(said.out.contains(PROCESS), "{said:?}");
    assert!(said.err.contains("/dev/mqueue keeps the label that the policy gives it"), "{said:?}");
    assert!(said.out.lines().last().unwrap().parse::<u32>().unwrap() >= 4, "{said:?}");
    Census::of(&bundle).nothing_left(&bundle);
}

#[test]
fn one_whose_runtime_is_in_a_user_namespace_is_labelled_too() {
    need_selinux!();
    assert!(labelled(&["cat", "/proc/self/attr/current"]).run_in_a_user_namespace().ok().contains(PROCESS));
}
