//! Containers without a mount namespace of their own, decisions/0020: everybody in the namespace sees their mounts, and none is left.

use crate::common::{Bundle, Census, KEEL, Said, eventually};
use serde_json::{Value, json};
use std::fs;
use std::process::{Child, Command};

/// The configuration with these entries in the place of the mount namespace.
fn namespaces(bundle: Bundle, instead: &[Value]) -> Bundle {
    bundle.with(|c| {
        let list = c["linux"]["namespaces"].as_array_mut().unwrap();
        list.retain(|namespace| namespace["type"] != "mount");
        list.extend_from_slice(instead);
    })
}

/// The mounts at and below the root, as that process sees them.
fn mounted(bundle: &Bundle, pid: &str) -> Vec<String> {
    let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    let below = bundle.rootfs().to_str().unwrap().to_owned();
    mounts.lines().filter(|line| line.split(' ').nth(4).unwrap().starts_with(&below)).map(str::to_owned).collect()
}

#[test]
fn without_a_mount_namespace_nothing_is_left_on_the_host() {
    let bundle = namespaces(Bundle::new(&["sh", "-c", "mkdir /tmp/own; mount -t tmpfs tmpfs /tmp/own; echo up; sleep 1000"]), &[]);
    let hook = json!([{"path": "/bin/sh", "args": ["sh", "-c", "ls / > /hook"]}]);
    let bundle = bundle.with(|c| {
        c["root"]["readonly"] = json!(false);
        c["hooks"]["startContainer"] = hook;
        for set in ["bounding", "effective", "permitted"] {
            c["process"]["capabilities"][set].as_array_mut().unwrap().push(json!("CAP_SYS_ADMIN"));
        }
    });
    bundle.start();
    eventually("the program's own mount", || bundle.out() == "up\n");
    let own = |name: &str| fs::read_link(format!("/proc/{name}/ns/mnt")).unwrap();
    assert_eq!(own(&bundle.pid().to_string()), own("self"));
    let mounts = mounted(&bundle, "self");
    assert!(
        mounts.iter().any(|line| line.contains("/rootfs/proc ")) && mounts.iter().any(|line| line.contains("/rootfs/tmp/own ")),
        "{mounts:?}"
    );
    assert!(mounts.iter().all(|line| !line.contains("shared:")), "nothing goes on to other namespaces: {mounts:?}");
    let inside = "bin\ndev\netc\nhome\nhook\nproc\nroot\nrun\nsys\ntmp\nusr\nvar\n";
    assert_eq!((bundle.sh("ls /"), bundle.sh("cd ..; pwd")), (inside.into(), "/\n".into()), "exec is in the container's root");
    assert_eq!(fs::read_to_string(bundle.rootfs().join("hook")).unwrap(), inside, "the hook was");
    bundle.sh("! cat /proc/kcore /proc/keys | grep . && ! echo 1 > /proc/sys/kernel/domainname");
    bundle.delete();
    Census::of(&bundle).nothing_left(&bundle);
}

#[test]
fn a_start_that_fails_unmounts_the_root_and_so_does_the_end_of_run() {
    let bundle = namespaces(Bundle::new(&["/no/such/program"]), &[]);
    bundle.run().fails(1, &["/no/such/program"]);
    Census::of(&bundle).nothing_left(&bundle);
    let hook = json!([{"path": "/bin/false"}]);
    let bundle = namespaces(Bundle::new(&["true"]), &[]).with(|c| c["hooks"]["createRuntime"] = hook);
    bundle.run().fails(1, &["createRuntime"]);
    Census::of(&bundle).nothing_left(&bundle);
    let bundle = namespaces(Bundle::new(&["sh", "-c", "ls /proc/1/exe; exit 3"]), &[]).with(|c| c["root"]["readonly"] = json!(true));
    let said = bundle.run();
    assert_eq!((said.code, said.out.as_str()), (3, "/proc/1/exe\n"), "{said:?}");
    Census::of(&bundle).nothing_left(&bundle);
}

/// Another's mount at the same place is neither taken for the container's nor unmounted.
#[test]
fn only_the_containers_own_mount_is_unmounted() {
    let bundle = namespaces(Bundle::new(&["sleep", "1000"]), &[]);
    bundle.start();
    let root = bundle.rootfs();
    let busybox = |args: &[&str]| assert!(Command::new("busybox").args(args).arg(&root).status().unwrap().success());
    busybox(&["mount", "-t", "tmpfs", "tmpfs"]);
    bundle.keel(&["exec", "ID", "true"]).fails(255, &["something has been mounted over the container's root"]);
    bundle.keel(&["delete", "--force", "ID"]).fails(1, &["unmount the root file system", "something else is mounted over it"]);
    assert_eq!(bundle.status(), "stopped");
    busybox(&["umount"]);
    bundle.keel(&["delete", "ID"]).ok();
    Census::of(&bundle).nothing_left(&bundle);
}

/// mountinfo writes a space as octal digits.
#[test]
fn the_same_where_the_path_has_a_space() {
    let bundle = namespaces(Bundle::new(&["sleep", "1000"]), &[]).with(|c| c["root"]["path"] = json!("a root"));
    std::fs::rename(bundle.rootfs(), bundle.dir.join("a root")).unwrap();
    bundle.start();
    let root = bundle.dir.join("a root");
    let busybox = |args: &[&str]| assert!(Command::new("busybox").args(args).arg(&root).status().unwrap().success());
    busybox(&["mount", "-t", "tmpfs", "tmpfs"]);
    bundle.keel(&["delete", "--force", "ID"]).fails(1, &["unmount the root file system", "something else is mounted over it"]);
    busybox(&["umount"]);
    bundle.keel(&["delete", "ID"]).ok();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains("a\\040root"), "{mounts}");
    Census::of(&bundle).nothing_left(&bundle);
}

/// A shared mount above the root would send everything on to the namespaces that are its peers.
#[test]
fn below_a_shared_mount_too_the_mounts_stay_in_the_namespace() {
    let bundle = namespaces(Bundle::new(&["true"]), &[]);
    bundle.write();
    let dir = bundle.dir.to_str().unwrap();
    let seen = format!("grep -c {dir}/rootfs /proc/self/mountinfo");
    let keel = format!("{KEEL} --root {dir}/state");
    let line = format!(
        "mount --bind {dir} {dir} && mount --make-rshared {dir} && cd {dir} && mkdir peer && \
         unshare --mount --propagation unchanged sh -c 'echo > peer/up; while [ ! -e peer/down ]; do sleep 0.1; done; {seen} > peer/first; \
         echo > peer/counted; while [ ! -e peer/end ]; do sleep 0.1; done; {seen} > peer/last' & \
         while [ ! -e {dir}/peer/up ]; do sleep 0.1; done; cd {dir} && \
         {keel} create {id} > out 2>&1 && echo > peer/down && while [ ! -e peer/counted ]; do sleep 0.1; done; \
         {keel} delete {id} && echo > peer/end; wait; {seen}; true",
        id = bundle.id()
    );
    let output = Command::new("unshare").args(["--mount", "--propagation", "private", "sh", "-c", &line]).output().unwrap();
    let said = Said::of(output);
    let read = |name: &str| fs::read_to_string(bundle.dir.join("peer").join(name)).unwrap_or_default();
    assert_eq!((read("first").as_str(), read("last").as_str(), said.out.as_str()), ("1\n", "0\n", "0\n"), "{said:?}");
}

struct Sleeper(Child);

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_joined_mount_namespace_has_the_containers_mounts_until_delete() {
    let sleeper = Command::new("unshare").args(["--mount", "--propagation", "private", "sleep", "1000"]).spawn().unwrap();
    let pid = sleeper.id().to_string();
    let _sleeper = Sleeper(sleeper);
    let own = |name: &str| fs::read_link(format!("/proc/{name}/ns/mnt")).unwrap();
    eventually("the namespace", || own(&pid) != own("self"));
    let bundle = namespaces(Bundle::new(&["sleep", "1000"]), &[json!({"type": "mount", "path": format!("/proc/{pid}/ns/mnt")})]);
    bundle.start();
    assert!(mounted(&bundle, "self").is_empty() && !mounted(&bundle, &pid).is_empty());
    assert_eq!(bundle.sh("ls /bin/busybox; readlink /proc/self/ns/mnt"), format!("/bin/busybox\n{}\n", own(&pid).display()));
    assert!(fs::read_dir(format!("/proc/{pid}/root/sys")).unwrap().count() > 0, "the others keep their root");
    bundle.delete();
    assert_eq!(mounted(&bundle, &pid), Vec::<String>::new());
    Census::of(&bundle).nothing_left(&bundle);
}
