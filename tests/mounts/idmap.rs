//! Idmapped mounts: whose the files are, seen from either side.

use crate::add;
use crate::common::{Bundle, Census};
use rustix::fs::{Gid, Uid, chown};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::MetadataExt;

const WHO: &str = "stat -c '%u:%g %n' /data/root /data/app; touch /data/new";

/// A volume with a file of root and one of user 1000, group 2000.
fn volume(bundle: &Bundle) -> String {
    let dir = bundle.dir.join("volume");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("root"), "").unwrap();
    fs::write(dir.join("app"), "").unwrap();
    chown(dir.join("app"), Some(Uid::from_raw(1000)), Some(Gid::from_raw(2000))).unwrap();
    dir.to_str().unwrap().into()
}

fn map(host: u32) -> Value {
    json!([{"containerID": 0, "hostID": host, "size": 65536}])
}

/// The last mount gets mappings of its own.
fn mappings(config: &mut Value, uids: &Value, gids: &Value) {
    let mount = config["mounts"].as_array_mut().unwrap().last_mut().unwrap();
    mount["uidMappings"] = uids.clone();
    mount["gidMappings"] = gids.clone();
}

fn user_namespace(config: &mut Value, host: u32) {
    config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
    config["linux"]["uidMappings"] = map(host);
    config["linux"]["gidMappings"] = map(host);
}

fn of_user(bundle: &Bundle, id: u32) {
    chown(bundle.rootfs(), Some(Uid::from_raw(id)), Some(Gid::from_raw(id))).unwrap();
}

fn owner(volume: &str, file: &str) -> (u32, u32) {
    let metadata = fs::metadata(format!("{volume}/{file}")).unwrap();
    (metadata.uid(), metadata.gid())
}

#[test]
fn own_mappings_need_no_user_namespace() {
    for options in [&["bind", "idmap"][..], &["rbind", "ridmap"], &["bind"]] {
        let bundle = Bundle::new(&["stat", "-c", "%u:%g", "/data/root", "/data/app"]);
        let volume = volume(&bundle);
        let bundle = bundle.with(|c| {
            add(c, "/data", "bind", &volume, options);
            mappings(c, &map(100_000), &map(200_000));
        });
        assert_eq!(bundle.run().ok(), "100000:200000\n101000:202000\n", "{options:?}");
        assert_eq!(owner(&volume, "app"), (1000, 2000), "nothing is changed on disk");
        Census::of(&bundle).nothing_left(&bundle);
    }
}

/// Whoever writes as 100000 owns what is on disk as 0; an id that is not mapped owns nothing and may make nothing.
#[test]
fn what_is_written_has_the_id_on_disk() {
    let bundle = Bundle::new(&["sh", "-c", "touch /data/new; stat -c %u:%g /data/new"]);
    let volume = volume(&bundle);
    let bundle = bundle.with(|c| {
        add(c, "/data", "bind", &volume, &["bind", "idmap"]);
        mappings(c, &map(100_000), &map(100_000));
        c["process"]["user"] = json!({"uid": 100_000, "gid": 100_000});
    });
    assert_eq!(bundle.run().ok(), "100000:100000\n");
    assert_eq!(owner(&volume, "new"), (0, 0));
    let bundle = bundle.with(|c| {
        c["process"]["user"] = json!({"uid": 0, "gid": 0});
        c["process"]["args"] = json!(["touch", "/data/other"]);
    });
    assert_ne!(bundle.run().code, 0);
    assert!(!fs::exists(format!("{volume}/other")).unwrap());
}

#[test]
fn the_containers_user_namespace_gives_the_mappings() {
    let bundle = Bundle::new(&["sh", "-c", WHO]).with(|c| user_namespace(c, 100_000));
    of_user(&bundle, 100_000);
    let volume = volume(&bundle);
    let bundle = bundle.with(|c| add(c, "/data", "bind", &volume, &["rbind", "ridmap"]));
    assert_eq!(bundle.run().ok(), "0:0 /data/root\n1000:2000 /data/app\n");
    assert_eq!(owner(&volume, "new"), (0, 0), "root inside is root on this volume");
    Census::of(&bundle).nothing_left(&bundle);
}

#[test]
fn own_mappings_go_before_those_of_the_user_namespace() {
    let bundle = Bundle::new(&["sh", "-c", "stat -c '%u:%g' /data/root /data/app"]).with(|c| user_namespace(c, 100_000));
    of_user(&bundle, 100_000);
    let volume = volume(&bundle);
    let bundle = bundle.with(|c| {
        add(c, "/data", "bind", &volume, &["bind", "idmap"]);
        mappings(c, &map(100_007), &map(100_009));
    });
    assert_eq!(bundle.run().ok(), "7:9\n1007:2009\n");
}

#[test]
fn a_joined_user_namespace_gives_the_mappings_too() {
    let first = Bundle::new(&["sleep", "1000"]).with(|c| user_namespace(c, 100_000));
    of_user(&first, 100_000);
    first.start();
    let second = Bundle::new(&["sh", "-c", WHO]);
    of_user(&second, 100_000);
    let volume = volume(&second);
    let second = second.with(|c| {
        let path = format!("/proc/{}/ns/user", first.pid());
        c["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user", "path": path}));
        add(c, "/data", "bind", &volume, &["bind", "idmap"]);
    });
    assert_eq!(second.run().ok(), "0:0 /data/root\n1000:2000 /data/app\n");
    assert_eq!(owner(&volume, "new"), (0, 0));
}

/// Version of the running kernel.
fn kernel() -> (u32, u32) {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut parts = release.split(['.', '-']).map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap(), parts.next().unwrap())
}

/// Below the volume is a tmpfs, in a mount namespace of its own so that the host's mounts stay as they are.
#[test]
fn ridmap_reaches_what_is_mounted_below_and_idmap_does_not() {
    for (option, below) in [("ridmap", "100000\n"), ("idmap", "0\n")] {
        let bundle = Bundle::new(&["stat", "-c", "%u", "/data/sub"]);
        let volume = volume(&bundle);
        let sub = format!("{volume}/sub");
        fs::create_dir(&sub).unwrap();
        let bundle = bundle.with(|c| {
            add(c, "/data", "bind", &volume, &["rbind", option]);
            mappings(c, &map(100_000), &map(100_000));
        });
        bundle.write();
        let (keel, root, id) = (crate::common::KEEL, bundle.state_root(), bundle.id());
        let line = format!("mount -t tmpfs tmpfs {sub} && exec {keel} --root {} run {id}", root.display());
        let mut command = std::process::Command::new("/usr/bin/unshare");
        let output = command.args(["--mount", "--propagation", "private", "sh", "-c", &line]).current_dir(&bundle.dir).output().unwrap();
        // A tmpfs can be idmapped since Linux 6.3.
        if option == "ridmap" && String::from_utf8_lossy(&output.stderr).contains("this file system does not support idmapped mounts") {
            assert!(kernel() < (6, 3), "{output:?}");
            continue;
        }
        assert_eq!(String::from_utf8_lossy(&output.stdout), below, "{option}: {output:?}");
    }
}

#[test]
fn what_cannot_be_idmapped_is_refused_in_one_sentence() {
    let with = |options: &[&str], change: &dyn Fn(&mut Value), words: &[&str]| {
        let bundle = Bundle::new(&["true"]);
        let volume = volume(&bundle);
        let bundle = bundle.with(|c| {
            add(c, "/data", "bind", &volume, options);
            change(c);
        });
        let said = bundle.run().fails(1, words);
        assert_eq!(said.lines().count(), 1, "{said}");
        Census::of(&bundle).nothing_left(&bundle);
    };
    let last = |c: &Value| c["mounts"].as_array().unwrap().len() - 1;
    with(&["bind", "idmap"], &|_| (), &["has no mappings", "no user namespace", "mounts["]);
    with(&["bind"], &|c| mappings(c, &map(1), &json!([])), &["go together, gidMappings is missing"]);
    with(&["bind", "idmap=uids=0-1-10"], &|_| (), &["crun's own", ".options"]);
    with(
        &["bind", "idmap"],
        &|c| mappings(c, &json!([{"containerID": 0, "hostID": 5, "size": 0}]), &map(5)),
        &["size is 0", "uidMappings[0]"],
    );
    with(
        &["bind", "idmap"],
        &|c| {
            let i = last(c);
            c["mounts"][i]["type"] = json!("tmpfs");
            c["mounts"][i]["options"] = json!(["idmap"]);
            mappings(c, &map(1), &map(1));
        },
        &["only bind mounts can be idmapped"],
    );
    // The kernel's own refusal: procfs has no idmapped mounts.
    with(
        &["bind", "idmap"],
        &|c| {
            let i = last(c);
            c["mounts"][i]["source"] = json!("/proc/fs");
            mappings(c, &map(1), &map(1));
        },
        &["open the mount source /proc/fs, idmapped", "mounts[", "invalid argument", "does not support idmapped mounts"],
    );
}
