//! What only cgroup v2 has: threaded cgroups, and a cgroup that is given to the container's user.

use super::common::{Bundle, Census, IN_V2_VIEW, KEEL, Said};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// keel in a mount namespace in which the host has nothing but cgroup v2. Its output is in files: a
/// container would hold pipes open.
fn keel(bundle: &Bundle, args: &[&str]) -> Said {
    bundle.write();
    let id = bundle.id();
    let file = |name: &str| fs::File::create(bundle.dir.join(name)).unwrap();
    let mut command = Command::new(IN_V2_VIEW[0]);
    command.args(&IN_V2_VIEW[1..]).arg(KEEL).arg("--root").arg(bundle.state_root());
    command.args(args.iter().map(|arg| if *arg == "ID" { id.as_str() } else { arg }));
    command.stdin(Stdio::null()).stdout(file("out")).stderr(file("err")).current_dir(&bundle.dir);
    let code = command.status().unwrap().code().unwrap_or(-1);
    let read = |name: &str| fs::read_to_string(bundle.dir.join(name)).unwrap();
    Said { code, out: read("out"), err: read("err") }
}

/// Where the hierarchy of v2 is for the test itself.
fn hierarchy() -> PathBuf {
    let unified = Path::new("/sys/fs/cgroup/unified");
    if unified.exists() { unified.into() } else { "/sys/fs/cgroup".into() }
}

/// A cgroup of the test's own, removed with what is in it when dropped.
struct Parent(PathBuf);

impl Parent {
    fn new(bundle: &Bundle) -> Self {
        let dir = hierarchy().join(format!("{}-parent", bundle.id()));
        fs::create_dir(&dir).unwrap();
        Self(dir)
    }

    fn make(&self, name: &str, kind: &str) {
        fs::create_dir(self.0.join(name)).unwrap();
        fs::write(self.0.join(name).join("cgroup.type"), kind).unwrap();
    }

    fn path(&self, below: &str) -> String {
        format!("/{}/{below}", self.0.file_name().unwrap().to_str().unwrap())
    }

    fn kind(&self, below: &str) -> String {
        fs::read_to_string(self.0.join(below).join("cgroup.type")).unwrap().trim().into()
    }
}

impl Drop for Parent {
    fn drop(&mut self) {
        for name in ["made/c", "made", "x", "c/t", "c/d", "c", ""] {
            let _ = fs::remove_dir(self.0.join(name));
        }
    }
}

fn in_cgroup(args: &[&str], path: &str) -> Bundle {
    Bundle::new(args).with(|c| {
        c["linux"]["cgroupsPath"] = json!(path);
        c["linux"]["resources"] = json!({});
    })
}

/// A cgroup below a threaded domain takes no process until it is threaded too, as are those that
/// keel makes on the way.
#[test]
fn a_cgroup_below_a_threaded_domain_becomes_threaded() {
    let bundle = Bundle::new(&[]);
    let parent = Parent::new(&bundle);
    parent.make("x", "threaded");
    let bundle = in_cgroup(&["sleep", "1000"], &parent.path("made/c"));
    keel(&bundle, &["run", "--detach", "ID"]).ok();
    assert_eq!([parent.kind("made"), parent.kind("made/c")], ["threaded", "threaded"]);
    let own = keel(&bundle, &["exec", "ID", "grep", "^0:", "/proc/self/cgroup"]).ok();
    assert!(own == "0::/\n" || own.trim().ends_with(&parent.path("made/c")), "{own}");
    keel(&bundle, &["pause", "ID"]).ok();
    keel(&bundle, &["resume", "ID"]).ok();
    keel(&bundle, &["kill", "--all", "ID", "KILL"]).ok();
    keel(&bundle, &["delete", "--force", "ID"]).ok();
    assert!(!parent.0.join("made/c").exists());

    let limited = bundle.with(|c| c["linux"]["resources"] = json!({"memory": {"limit": 50_000_000}}));
    let path = format!("/sys/fs/cgroup{}", parent.path("made/c"));
    keel(&limited, &["run", "ID"]).fails(1, &["linux.resources.memory.limit", &path, "is threaded"]);
    assert!(!parent.0.join("made/c").exists());
    Census::of(&limited).nothing_left(&limited);
}

#[test]
fn a_cgroup_that_takes_no_process_is_named_with_the_reason() {
    let bundle = Bundle::new(&[]);
    let parent = Parent::new(&bundle);
    let bundle = in_cgroup(&["sleep", "1000"], &parent.path("c"));
    keel(&bundle, &["run", "--detach", "ID"]).ok();
    // A threaded cgroup makes its parent a threaded domain, and what is beside it invalid.
    parent.make("c/t", "threaded");
    fs::create_dir(parent.0.join("c/d")).unwrap();
    let path = format!("/sys/fs/cgroup{}", parent.path("c/d"));
    keel(&bundle, &["exec", "--cgroup", "d", "ID", "true"]).fails(255, &[&path, "not threaded itself"]);
    keel(&bundle, &["exec", "ID", "true"]).ok();
    keel(&bundle, &["delete", "--force", "ID"]).ok();
    Census::of(&bundle).nothing_left(&bundle);
}

/// Where the container's process is.
fn directory(bundle: &Bundle) -> PathBuf {
    let text = fs::read_to_string(format!("/proc/{}/cgroup", bundle.pid())).unwrap();
    let path = text.lines().find_map(|line| line.strip_prefix("0::/")).unwrap();
    hierarchy().join(path)
}

/// The owner of the container's cgroup, of a file in it that is delegated, and of one that is not,
/// while it runs. With `change` made to a container with a user namespace, a cgroup namespace and a
/// writable mount of the hierarchy.
fn owners(manager: &[&str], change: impl FnOnce(&mut Value)) -> [u32; 3] {
    let bundle = Bundle::new(&["sleep", "1000"]).with(|c| {
        let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
        c["linux"]["resources"] = json!({});
        let namespaces = c["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "cgroup");
        namespaces.extend([json!({"type": "user"}), json!({"type": "cgroup"})]);
        c["linux"]["uidMappings"] = map.clone();
        c["linux"]["gidMappings"] = map;
        let mounts = c["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| mount["destination"] != "/sys/fs/cgroup");
        let options = ["nosuid", "nodev", "noexec"];
        mounts.push(json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": options}));
        change(c);
    });
    chown(bundle.rootfs(), Some(100_000), Some(100_000)).unwrap();
    keel(&bundle, &[manager, &["create", "--pid-file", "pid", "ID"]].concat()).ok();
    keel(&bundle, &["start", "ID"]).ok();
    let directory = directory(&bundle);
    let owner = |name: &str| fs::metadata(directory.join(name)).unwrap().uid();
    let owners = [owner(""), owner("cgroup.procs"), owner("cgroup.freeze")];
    let user = bundle.config["process"]["user"]["uid"].to_string();
    let line = "mkdir /sys/fs/cgroup/t && echo 0 > /sys/fs/cgroup/t/cgroup.procs && grep ^0::/t$ /proc/self/cgroup";
    let said = keel(&bundle, &["exec", "--user", &user, "ID", "sh", "-c", line]);
    assert_eq!(said.code == 0, owners[0] != 0, "{said:?}");
    keel(&bundle, &["delete", "--force", "ID"]).ok();
    assert!(!directory.exists());
    Census::of(&bundle).nothing_left(&bundle);
    owners
}

/// config-linux.md, "Cgroup ownership".
#[test]
fn the_cgroup_is_the_users_where_it_can_be_used_and_only_there() {
    assert_eq!(owners(&[], |_| {}), [100_000, 100_000, 0]);
    assert_eq!(owners(&[], |c| c["process"]["user"] = json!({"uid": 1000, "gid": 1000})), [101_000, 101_000, 0]);
    let mount = |c: &mut Value, key: &str, value: Value| {
        let mounts = c["mounts"].as_array_mut().unwrap().iter_mut();
        mounts.filter(|mount| mount["type"] == "cgroup").for_each(|mount| mount[key] = value.clone());
    };
    assert_eq!(owners(&[], |c| mount(c, "options", json!(["ro"]))), [0; 3]);
    assert_eq!(owners(&[], |c| mount(c, "destination", json!("/mnt"))), [0; 3]);
    assert_eq!(owners(&[], |c| mount(c, "source", json!("other"))), [0; 3]);
    let namespaces = |c: &mut Value| c["linux"]["namespaces"].as_array_mut().unwrap().retain(|namespace| namespace["type"] != "cgroup");
    assert_eq!(owners(&[], namespaces), [0; 3]);
}

#[test]
fn a_scope_of_systemd_is_the_users_too() {
    let here = Path::new("/run/systemd/system").is_dir() && Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    assert!(here || std::env::var_os("KEEL_V2_MACHINE").is_none(), "the machine for these tests has no systemd");
    if !here {
        eprintln!("SKIPPED: no systemd with cgroup v2 runs here; hack/test v2 runs this test");
        return;
    }
    assert_eq!(owners(&["--systemd-cgroup"], |_| {}), [100_000, 100_000, 0]);
}
