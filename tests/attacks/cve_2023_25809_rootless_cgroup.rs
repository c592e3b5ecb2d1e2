//! CVE-2023-25809: the part of the host's cgroup hierarchy that is an ordinary user's could be written by the user's
//! containers, where they have no cgroup namespace of their own.

use super::{Guard, common::Bundle, common::IN_V2_VIEW, said};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The user.
const UID: u32 = 1000;

/// A cgroup that the user may write, as systemd delegates one; removed when dropped, with what was made in it.
struct Delegated(PathBuf);

impl Delegated {
    fn new(name: &str) -> Self {
        let unified = Path::new("/sys/fs/cgroup/unified");
        let top = if unified.exists() { unified } else { Path::new("/sys/fs/cgroup") };
        let dir = top.join(name);
        fs::create_dir(&dir).unwrap();
        for path in [dir.clone(), dir.join("cgroup.procs"), dir.join("cgroup.subtree_control")] {
            chown(path, Some(UID), Some(UID)).unwrap();
        }
        Self(dir)
    }

    fn made(&self) -> bool {
        self.0.join("evil").exists()
    }
}

impl Drop for Delegated {
    fn drop(&mut self) {
        let _ = fs::remove_dir(self.0.join("evil"));
        let _ = fs::remove_dir(&self.0);
    }
}

/// keel as the user, on a host with cgroup v2, from a copy that the user may read.
fn as_user(bundle: &Bundle) -> super::Said {
    let mut command = Command::new(IN_V2_VIEW[0]);
    command.args(&IN_V2_VIEW[1..]).args(["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", "--inh-caps=-all"]);
    command.arg(bundle.dir.join("keel")).arg("--root").arg(bundle.dir.join("state")).args(["run", &bundle.id()]);
    said(command.stdin(Stdio::null()).current_dir(&bundle.dir).output().unwrap())
}

fn attack(change: impl FnOnce(&mut Value)) {
    let bundle = Bundle::new(&[]);
    let guard = Guard::new(&bundle);
    let delegated = Delegated::new(&format!("{}-delegated", bundle.id()));
    let name = delegated.0.file_name().unwrap().to_string_lossy().into_owned();
    let line = format!("d=/sys/fs/cgroup/{name}; test -e $d/cgroup.procs && echo seen; mkdir $d/evil; true");
    super::common::copy_program(super::KEEL.as_ref(), &bundle.dir.join("keel"));
    fs::create_dir(bundle.dir.join("state")).unwrap();
    for path in [bundle.dir.clone(), bundle.dir.join("state"), bundle.rootfs()] {
        chown(path, Some(UID), Some(UID)).unwrap();
    }
    let sample = Command::new(super::KEEL).args(["spec", "--rootless", "--bundle"]).arg(bundle.dir.join("state")).status().unwrap();
    assert!(sample.success());
    let document = bundle.dir.join("state/config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&document).unwrap()).unwrap();
    fs::remove_file(document).unwrap();
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!(["sh", "-c", line]);
    config["root"]["path"] = json!(bundle.rootfs());
    for map in ["uidMappings", "gidMappings"] {
        config["linux"][map][0]["hostID"] = json!(UID);
    }
    config["linux"]["namespaces"].as_array_mut().unwrap().retain(|namespace| namespace["type"] != "cgroup");
    change(&mut config);
    fs::write(bundle.dir.join("config.json"), config.to_string()).unwrap();
    fs::set_permissions(bundle.dir.join("config.json"), fs::Permissions::from_mode(0o644)).unwrap();
    let said = as_user(&bundle);
    println!("{said:?}");
    assert!(!delegated.made(), "the host's hierarchy was written: {said:?}");
    assert!(said.code != 0 || !said.out.contains("seen") || said.err.contains("Read-only file system"), "{said:?}");
    guard.unchanged();
}

#[test]
fn a_mount_of_the_hosts_hierarchy_is_read_only() {
    attack(|config| {
        let mounts = config["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| mount["destination"] != "/sys/fs/cgroup");
        mounts
            .push(json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "noexec", "nodev"]}));
    });
}

#[test]
fn the_sample_shows_none_that_can_be_written() {
    attack(|_| {});
}
