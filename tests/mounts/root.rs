//! `root`, `rootfsPropagation`, masked and read-only paths, names, sysctls.

use crate::common::{self, Bundle, Census};
use crate::{add, find, mountinfo};
use serde_json::json;
use std::fs;
use std::path::PathBuf;

#[test]
fn a_read_only_root_refuses_writes_and_its_mounts_do_not() {
    let bundle =
        Bundle::new(&["sh", "-c", "touch /new || echo refused; touch /scratch/new && echo written; mkdir /dev/shm/d && echo made"]);
    let bundle = bundle.with(|c| {
        c["root"]["readonly"] = json!(true);
        add(c, "/scratch", "tmpfs", "tmpfs", &[]);
    });
    let said = bundle.run();
    assert_eq!(said.out, "refused\nwritten\nmade\n", "{said:?}");
    assert!(!bundle.rootfs().join("new").exists());
    fs::write(bundle.rootfs().join("host"), "the host still may").unwrap();
}

/// A first mount at `/` is the root, however that is spelt.
#[test]
fn a_first_bind_mount_at_the_root_is_the_root() {
    for root in ["/", "//", "/../."] {
        let bundle = Bundle::new(&["sh", "-c", "ls -d /here /data; cat /data/file"]);
        let (other, data) = (bundle.dir.join("other"), bundle.dir.join("data"));
        common::make_rootfs(&other);
        fs::create_dir_all(other.join("here")).unwrap();
        fs::create_dir(&data).unwrap();
        fs::write(data.join("file"), "bound\n").unwrap();
        let bundle = bundle.with(|c| {
            let first = json!({"destination": root, "type": "bind", "source": other.to_str().unwrap(), "options": ["bind"]});
            c["mounts"].as_array_mut().unwrap().insert(0, first);
            add(c, "/data", "bind", data.to_str().unwrap(), &["bind"]);
        });
        assert_eq!(bundle.run().ok(), "/data\n/here\nbound\n");
        assert!(!bundle.rootfs().join("data").exists(), "mount points are made in the root, not in what it replaces");
        Census::of(&bundle).nothing_left(&bundle);
    }
}

#[test]
fn a_later_mount_at_the_root_is_refused() {
    for (root, kind, options) in [("/", "bind", vec!["bind"]), ("/.", "tmpfs", vec![]), ("/x/..", "tmpfs", vec![])] {
        let bundle = Bundle::new(&["true"]).with(|c| add(c, root, kind, "/tmp", &options));
        let number = bundle.config["mounts"].as_array().unwrap().len() - 1;
        bundle.run().fails(1, &["has to be the first", &format!("mounts[{number}]")]);
        Census::of(&bundle).nothing_left(&bundle);
    }
    // Its flags may be changed at any time.
    let bundle = mountinfo().with(|c| add(c, "/", "", "", &["remount", "nosuid", "nodev"]));
    find(&bundle.run().ok(), "/").has(&["nosuid", "nodev"]);
}

#[test]
fn a_tmpfs_at_the_root_starts_with_a_copy_of_what_it_replaces() {
    let line = "stat -c '%a %u:%g' / /kept; touch /new && grep -c ' / / .* tmpfs ' /proc/self/mountinfo";
    let bundle = Bundle::new(&["sh", "-c", line]);
    let root = bundle.rootfs();
    fs::write(root.join("kept"), "").unwrap();
    std::os::unix::fs::chown(root.join("kept"), Some(5), Some(6)).unwrap();
    fs::set_permissions(&root, std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();
    let bundle = bundle.with(|c| {
        let first = json!({"destination": "/", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"]});
        c["mounts"].as_array_mut().unwrap().insert(0, first);
    });
    assert_eq!(bundle.run().ok(), "711 0:0\n644 5:6\n1\n");
    assert!(!root.join("new").exists());
    Census::of(&bundle).nothing_left(&bundle);
}

/// A root that is a new file system has the flags of all mounts of a tree, too, as any other.
#[test]
fn a_root_of_its_own_has_recursive_flags() {
    let bundle = mountinfo().with(|c| {
        let first =
            json!({"destination": "/", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup", "rnosuid", "nodev", "rnoatime"]});
        c["mounts"].as_array_mut().unwrap().insert(0, first);
    });
    find(&bundle.run().ok(), "/").has(&["nosuid", "nodev", "noatime"]);
}

#[test]
fn nothing_of_the_hosts_file_system_is_left() {
    let info = mountinfo().run().ok();
    let root = find(&info, "/");
    assert!(root.root.ends_with("/rootfs"), "{root:?}");
    for line in info.lines() {
        let at = line.split(' ').nth(4).unwrap();
        assert!(at == "/" || ["/proc", "/dev", "/sys"].iter().any(|top| at.starts_with(top)), "{line}");
    }
    let bundle = Bundle::new(&["sh", "-c", "ls /; cd ..; cd ..; pwd"]);
    let said = bundle.run().ok();
    assert!(said.ends_with("\n/\n") && !said.contains("rootfs"), "{said}");
}

#[test]
fn the_propagation_of_the_root_is_as_asked() {
    for (word, tag) in [
        ("", ""),
        ("private", ""),
        ("rprivate", ""),
        ("slave", ""),
        ("rslave", ""),
        ("shared", "shared:"),
        ("rshared", "shared:"),
        ("unbindable", "unbindable"),
        ("runbindable", "unbindable"),
    ] {
        let bundle = mountinfo().with(|c| {
            if !word.is_empty() {
                c["linux"]["rootfsPropagation"] = json!(word)
            }
        });
        let info = bundle.run().ok();
        let tags = find(&info, "/").tags;
        // A slave of a private mount is private; what the host's is, is the machine's affair.
        let fits = if tag.is_empty() { !tags.contains("shared:") && !tags.contains("unbindable") } else { tags.contains(tag) };
        assert!(fits, "{word}: {tags:?}");
    }
    let bundle = mountinfo().with(|c| c["linux"]["rootfsPropagation"] = json!("sideways"));
    bundle.run().fails(1, &["sideways", "linux.rootfsPropagation"]);
}

#[test]
fn masked_paths_are_empty_and_read_only_paths_refuse_writes() {
    let script = "cat /secret; ls /secrets; stat -c %t:%T /secret; touch /secrets/x || echo masked; echo x > /kept || echo ro1; touch /tree/x || echo ro2; cat /kept; ls /tree";
    let bundle = Bundle::new(&["sh", "-c", script]).with(|c| {
        c["linux"]["maskedPaths"] = json!(["/secret", "/secrets", "/no/such/path"]);
        c["linux"]["readonlyPaths"] = json!(["/kept", "tree", "/no/such/path/either"]);
    });
    let root = bundle.rootfs();
    fs::write(root.join("secret"), "hidden\n").unwrap();
    fs::write(root.join("kept"), "visible\n").unwrap();
    for dir in ["secrets", "tree"] {
        fs::create_dir(root.join(dir)).unwrap();
        fs::write(root.join(dir).join("leaf"), "").unwrap();
    }
    let (out, warnings) = bundle.run_with_log();
    assert_eq!(out, "1:3\nmasked\nro1\nro2\nvisible\nleaf\n");
    let relative = |warning: &String| warning.contains("linux.readonlyPaths[1]: the path \"tree\" is not absolute");
    assert!(warnings.iter().any(relative), "{warnings:?}");
    assert!(!root.join("no").exists());
    Census::of(&bundle).nothing_left(&bundle);
}

/// A mount upon the root would be seen by nobody who has the root already.
#[test]
fn the_root_can_be_among_the_read_only_paths_and_not_among_the_masked() {
    for root in ["/", "//.", "/etc/.."] {
        let bundle = Bundle::new(&["sh", "-c", "touch /new || echo refused; touch /dev/shm/new && echo written"]);
        let said = bundle.with(|c| c["linux"]["readonlyPaths"] = json!(["/proc/sys", root])).run();
        assert_eq!(said.out, "refused\nwritten\n", "{root}: {said:?}");
        let bundle = Bundle::new(&["true"]).with(|c| c["linux"]["maskedPaths"] = json!(["/proc/kcore", root]));
        bundle.run().fails(1, &["the root cannot be masked", "linux.maskedPaths[1]"]);
        Census::of(&bundle).nothing_left(&bundle);
    }
}

#[test]
fn the_samples_masks_hide_the_kernel() {
    let said =
        Bundle::new(&["sh", "-c", "wc -c < /proc/keys; ls /sys/firmware | wc -l; echo x > /proc/sys/kernel/hostname || echo refused"])
            .run();
    assert_eq!(said.out, "0\n0\nrefused\n", "{said:?}");
}

#[test]
fn host_and_domain_name_are_set() {
    let bundle = Bundle::new(&["sh", "-c", "hostname; cat /proc/sys/kernel/domainname"]).with(|c| {
        c["hostname"] = json!("inside");
        c["domainname"] = json!("example.org");
    });
    let before = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert_eq!(bundle.run().ok(), "inside\nexample.org\n");
    assert_eq!(fs::read_to_string("/proc/sys/kernel/hostname").unwrap(), before);
}

#[test]
fn sysctls_are_set_in_the_containers_namespaces_only() {
    let before = fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap();
    let bundle = Bundle::new(&[
        "sh",
        "-c",
        "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shm_rmid_forced /proc/sys/net/ipv4/ping_group_range",
    ]);
    let bundle = bundle.with(|c| {
        c["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1", "kernel.shm_rmid_forced": "1", "net/ipv4/ping_group_range": "0 5"});
    });
    assert_eq!(bundle.run().ok(), "1\n1\n0\t5\n");
    assert_eq!(fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap(), before);
    let bundle = bundle.with(|c| c["linux"]["sysctl"] = json!({"vm.swappiness": "10"}));
    bundle.run().fails(1, &["vm.swappiness", "linux.sysctl"]);
    let bundle = bundle.with(|c| c["linux"]["sysctl"] = json!({"net.ipv4.no_such_key": "10"}));
    bundle.run().fails(1, &["no_such_key", "linux.sysctl", "no such file or directory"]);
}

#[test]
fn the_loopback_interface_is_up() {
    let said = Bundle::new(&["sh", "-c", "ip addr show lo; ip link | grep -c ^[0-9]"]).run().ok();
    assert!(said.contains("127.0.0.1/8") && said.contains("UP"), "{said}");
}

/// The options of 40 layers with paths of their own are longer than fsconfig(2) takes.
#[test]
fn a_first_mount_at_the_root_is_the_root_file_system() {
    let bundle =
        Bundle::new(&["sh", "-c", "cat /layer39 /layer0; echo new > /written; rm /layer1; ls -d /layer1; head -1 /proc/self/mountinfo"]);
    let lowers: Vec<PathBuf> = (0..40).map(|i| bundle.dir.join(format!("layers/layer{i}"))).collect();
    for (i, lower) in lowers.iter().enumerate() {
        fs::create_dir_all(lower).unwrap();
        fs::write(lower.join(format!("layer{i}")), format!("{i}\n")).unwrap();
    }
    for dir in ["upper", "work", "empty"] {
        fs::create_dir(bundle.dir.join(dir)).unwrap();
    }
    let base = bundle.rootfs();
    let bundle = bundle.with(|c| {
        let dirs = lowers.iter().chain([&base]).map(|dir| dir.to_str().unwrap()).collect::<Vec<_>>().join(":");
        let at = |name: &str| base.with_file_name(name).to_str().unwrap().to_owned();
        let options = json!([format!("lowerdir={dirs}"), format!("upperdir={}", at("upper")), format!("workdir={}", at("work")), "nodev"]);
        c["root"]["path"] = json!("empty");
        c["mounts"]
            .as_array_mut()
            .unwrap()
            .insert(0, json!({"destination": "/", "type": "overlay", "source": "overlay", "options": options}));
    });
    let said = bundle.run();
    let lines: Vec<&str> = said.out.lines().collect();
    assert_eq!(lines[..2], ["39", "0"], "{said:?}");
    assert!(lines[2].contains(" / / rw,nodev") && lines[2].contains(" - overlay overlay ") && said.err.contains("layer1"), "{said:?}");
    assert_eq!(fs::read_to_string(bundle.dir.join("upper/written")).unwrap(), "new\n");
    assert!(lowers[1].join("layer1").exists() && !base.join("written").exists());
    let long = "x".repeat(4000);
    let bundle = bundle.with(|c| c["mounts"][0]["options"][0] = json!(format!("lowerdir=/{long}:/{long}")));
    bundle.run().fails(1, &["more than a page", "mounts[0].options"]);
    Census::of(&bundle).nothing_left(&bundle);
}
