//! Bind mounts: flags, recursion, propagation, mount points.

use crate::common::{Bundle, Census, Said};
use crate::{add, find, mountinfo};
use serde_json::json;
use std::fs;

fn shared_dir(bundle: &Bundle) -> String {
    let dir = bundle.dir.join("volume");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("file"), "from the host\n").unwrap();
    dir.to_str().unwrap().to_owned()
}

#[test]
fn directories_and_files_are_bound_and_written_through() {
    let bundle = Bundle::new(&["sh", "-c", "cat /data/file /one; echo inside > /data/new"]);
    let volume = shared_dir(&bundle);
    let bundle = bundle.with(|c| {
        add(c, "/data", "bind", &volume, &["bind", "rw"]);
        add(c, "/one", "none", &format!("{volume}/file"), &["rbind"]);
    });
    assert_eq!(bundle.run().ok(), "from the host\nfrom the host\n");
    assert_eq!(fs::read_to_string(format!("{volume}/new")).unwrap(), "inside\n");
    assert!(bundle.rootfs().join("data").is_dir() && bundle.rootfs().join("one").is_file(), "mount points of the right kind are made");
    Census::of(&bundle).nothing_left(&bundle);
}

/// `copy-symlink`, `src-nofollow` and `dest-nofollow`, as crun has them: podman's `no-dereference` is the first.
#[test]
fn links_are_copied_mounted_or_mounted_over_as_asked() {
    let run = |line: &str, options: &[&str], source: &str| {
        let bundle = Bundle::new(&["sh", "-c", line]);
        let volume = shared_dir(&bundle);
        let link = |to: &str, path: &std::path::Path| std::os::unix::fs::symlink(to, path).unwrap();
        link("nowhere", &bundle.dir.join("volume/dangling"));
        link("file", &bundle.dir.join("volume/link"));
        link("inside", &bundle.rootfs().join("target"));
        let bundle = bundle.with(|c| add(c, "/target", "bind", &format!("{volume}/{source}"), options));
        let said = bundle.run();
        Census::of(&bundle).nothing_left(&bundle);
        (said, bundle)
    };
    // The image's link is in the way, unless it says the same.
    run("true", &["bind", "copy-symlink"], "link").0.fails(1, &["link /target to file", "mounts["]);
    let (said, bundle) = run("cat /target", &["bind", "copy-symlink"], "file");
    assert_eq!(said.ok(), "from the host\n", "what is no link is mounted, and a link at the destination followed");
    assert!(bundle.rootfs().join("inside").exists());
    let (said, bundle) = run("cat /target; readlink /target", &["bind", "dest-nofollow"], "link");
    assert!(said.out.starts_with("from the host\n"), "{said:?}");
    assert!(!bundle.rootfs().join("inside").exists());
    let (said, _) = run("readlink /target", &["bind", "src-nofollow", "dest-nofollow"], "dangling");
    assert_eq!(said.ok(), "nowhere\n");
    for (source, says) in [("link", "file"), ("dangling", "nowhere")] {
        let bundle = Bundle::new(&["readlink", "/some/where"]);
        let volume = shared_dir(&bundle);
        std::os::unix::fs::symlink(says, format!("{volume}/{source}")).unwrap();
        let bundle = bundle.with(|c| add(c, "/some/where", "bind", &format!("volume/{source}"), &["rbind", "copy-symlink"]));
        for _ in 0..2 {
            assert_eq!(bundle.run().ok(), format!("{says}\n"), "also where the link is there already");
        }
    }
    for (options, words) in [(["bind", "copy-symlink", "src-nofollow"], "together"), (["copy-symlink", "ro", "nosuid"], "for bind mounts")]
    {
        let bundle = Bundle::new(&["true"]).with(|c| add(c, "/x", if options[0] == "bind" { "bind" } else { "tmpfs" }, "/tmp", &options));
        bundle.run().fails(1, &[words, "mounts["]);
    }
}

#[test]
fn a_relative_source_is_relative_to_the_bundle() {
    let bundle = Bundle::new(&["cat", "/data/file"]);
    shared_dir(&bundle);
    let bundle = bundle.with(|c| add(c, "/data", "bind", "volume", &["bind"]));
    bundle.write();
    let mut command = bundle.command(&["run", "--bundle", bundle.dir.to_str().unwrap(), &bundle.id()]);
    let output = command.current_dir("/").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "from the host\n", "{output:?}");
}

#[test]
fn flags_of_a_bind_hold_for_it_alone() {
    let bundle = Bundle::new(&["sh", "-c", "cat /proc/self/mountinfo; echo x > /data/file || echo refused"]);
    let volume = shared_dir(&bundle);
    let bundle = bundle.with(|c| add(c, "/data", "bind", &volume, &["bind", "ro", "nosuid", "nodev", "noexec", "noatime"]));
    let said = bundle.run();
    find(&said.out, "/data").has(&["ro", "nosuid", "nodev", "noexec", "noatime"]);
    assert!(said.out.ends_with("refused\n"), "{said:?}");
    fs::write(format!("{volume}/file"), "the host still may").unwrap();
}

/// What a bind of a source with the flags `host` is in a container, in a mount namespace of its own.
fn bound(host: &str, options: &str, userns: bool) -> Said {
    let bundle = mountinfo();
    let source = shared_dir(&bundle);
    fs::create_dir(bundle.rootfs().join("data")).unwrap();
    let bundle = bundle.with(|c| {
        add(c, "/data", "bind", &source, &options.split(',').collect::<Vec<_>>());
        if userns {
            let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
            c["linux"]["uidMappings"] = map.clone();
            c["linux"]["gidMappings"] = map;
            c["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        }
    });
    bundle.write();
    let run = format!("exec {} --root {} run {}", crate::common::KEEL, bundle.state_root().display(), bundle.id());
    let remount = |flags: &str| format!("mount --bind -o remount,{flags} {source}");
    let line = format!("mount -t tmpfs tmpfs {source} && {} && {} && {run}", remount("strictatime"), remount(host));
    let mut command = std::process::Command::new("/usr/bin/unshare");
    Said::of(command.args(["--mount", "--propagation", "private", "sh", "-c", &line]).current_dir(&bundle.dir).output().unwrap())
}

#[test]
fn flags_that_are_named_take_the_place_of_the_sources() {
    for (host, options, flags, gone) in [
        ("ro,noexec,nodiratime", "bind", "ro,noexec,nodiratime", "rw"),
        ("ro,noexec,nosymfollow,nodiratime", "bind,dev", "rw,nodiratime", "noexec,nosymfollow"),
        ("ro", "bind,rprivate,nosuid", "rw,nosuid", "ro"),
        ("ro,nodev", "bind,rw", "rw", "nodev"),
        ("nosuid,nodev,noexec", "rbind,ro", "ro", "nosuid,nodev,noexec"),
        ("noatime", "bind,ro,atime", "ro,noatime", "relatime"),
        ("noatime", "bind,relatime", "rw,relatime", "noatime"),
        ("noatime,nodiratime", "bind,strictatime", "rw", "noatime,nodiratime,relatime"),
    ] {
        let said = bound(host, options, false);
        let found = find(&said.out, "/data");
        found.has(&flags.split(',').collect::<Vec<_>>());
        let left: Vec<_> = gone.split(',').filter(|flag| found.options.iter().any(|option| option == flag)).collect();
        assert!(left.is_empty(), "{host} {options}: {left:?} in {:?}", found.options);
    }
}

/// decisions/0019: root of a user namespace gets no more of a mount than the host has given it.
#[test]
fn in_a_user_namespace_locked_flags_of_the_source_stay() {
    for (host, options, flags) in [
        ("ro,noexec,nodiratime", "bind,dev", "ro,noexec,nodiratime"),
        ("ro", "bind,nosuid", "ro,nosuid"),
        ("nosuid,nodev,noexec,noatime", "bind,ro", "ro,nosuid,nodev,noexec,noatime"),
        ("noatime", "bind,noatime,nodev", "rw,noatime,nodev"),
        ("rw", "bind,ro", "ro"),
    ] {
        find(&bound(host, options, true).out, "/data").has(&flags.split(',').collect::<Vec<_>>());
    }
    assert!(!find(&bound("nosymfollow", "bind,rw", true).out, "/data").options.iter().any(|option| option == "nosymfollow"));
    for (host, options) in [("ro", "bind,rw"), ("nodev,nosuid", "bind,suid"), ("noatime", "bind,relatime"), ("relatime", "bind,nodiratime")]
    {
        bound(host, options, true).fails(1, &["operation not permitted", "mounts[", "a user namespace may not clear"]);
    }
}

/// What runc's suite calls the order of mounts: a source that is one of the container's own mounts, in a user namespace too.
#[test]
fn a_source_may_be_what_was_mounted_before() {
    for (userns, option) in [(false, "rbind"), (true, "rbind"), (true, "idmap")] {
        let bundle = Bundle::new(&["cat", "/final/file"]);
        ["mnt", "final"].iter().for_each(|name| fs::create_dir(bundle.rootfs().join(name)).unwrap());
        let volume = shared_dir(&bundle);
        let covered = bundle.rootfs().join("mnt").to_str().unwrap().to_owned();
        let bundle = bundle.with(|c| {
            add(c, "/mnt", "bind", &volume, &["bind"]);
            add(c, "/final", "bind", &covered, &["rbind", option]);
            if userns {
                let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
                c["linux"]["uidMappings"] = map.clone();
                c["linux"]["gidMappings"] = map;
                c["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
            }
        });
        assert_eq!(bundle.run().ok(), "from the host\n", "{userns} {option}");
        Census::of(&bundle).nothing_left(&bundle);
    }
}

/// In a mount namespace of its own, so that the host's mounts stay as they are: a volume with a tmpfs below.
fn nested(bundle: &Bundle, prepare: &str) -> String {
    let volume = shared_dir(bundle);
    fs::create_dir(format!("{volume}/sub")).unwrap();
    bundle.write();
    let line = format!(
        "mount --bind {volume} {volume} && mount -t tmpfs tmpfs {volume}/sub && touch {volume}/sub/below && {prepare} && \
         exec {} --root {} run {}",
        crate::common::KEEL,
        bundle.state_root().display(),
        bundle.id()
    );
    let mut command = std::process::Command::new("/usr/bin/unshare");
    let output = command.args(["--mount", "--propagation", "private", "sh", "-c", &line]).current_dir(&bundle.dir).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn rbind_brings_what_is_mounted_below_and_bind_does_not() {
    for (option, files) in [("rbind", "below\n"), ("bind", "")] {
        let bundle = Bundle::new(&["ls", "/data/sub"]);
        let source = bundle.dir.join("volume").to_str().unwrap().to_owned();
        let bundle = bundle.with(|c| add(c, "/data", "bind", &source, &[option]));
        assert_eq!(nested(&bundle, "true"), files, "{option}");
    }
}

#[test]
fn recursive_read_only_reaches_what_is_mounted_below() {
    for (option, below) in [("rro", "ro"), ("ro", "rw")] {
        let bundle = mountinfo();
        let source = bundle.dir.join("volume").to_str().unwrap().to_owned();
        let bundle = bundle.with(|c| add(c, "/data", "bind", &source, &["rbind", option]));
        let info = nested(&bundle, "true");
        find(&info, "/data").has(&["ro"]);
        find(&info, "/data/sub").has(&[below]);
    }
}

#[test]
fn propagation_of_a_bind_is_as_asked() {
    for (option, tag) in [
        ("shared", "shared:"),
        ("rshared", "shared:"),
        ("slave", "master:"),
        ("rslave", "master:"),
        ("private", ""),
        ("rprivate", ""),
        ("unbindable", "unbindable"),
    ] {
        let bundle = mountinfo();
        let source = bundle.dir.join("volume").to_str().unwrap().to_owned();
        let bundle = bundle.with(|c| add(c, "/data", "bind", &source, &["rbind", option]));
        let info = nested(&bundle, &format!("mount --make-rshared {source}"));
        let tags = find(&info, "/data").tags;
        assert!(if tag.is_empty() { tags.is_empty() } else { tags.starts_with(tag) }, "{option}: {tags:?}");
        let below = find(&info, "/data/sub").tags;
        if option.starts_with('r') && !tag.is_empty() {
            assert!(below.starts_with(tag), "{option}: {below:?}");
        }
    }
}

#[test]
fn a_dangling_link_as_mount_point_is_made_inside_the_root() {
    let canary = format!("/tmp/keel-canary-{}", std::process::id());
    let bundle = Bundle::new(&["sh", "-c", &format!("cat {canary}/dir/file; cat {canary}/one")]);
    let volume = shared_dir(&bundle);
    std::os::unix::fs::symlink(format!("{canary}/dir"), bundle.rootfs().join("link")).unwrap();
    std::os::unix::fs::symlink(format!("../..{canary}/one"), bundle.rootfs().join("link1")).unwrap();
    let bundle = bundle.with(|c| {
        add(c, "/link", "bind", &volume, &["bind"]);
        add(c, "/link1", "bind", &format!("{volume}/file"), &["bind"]);
    });
    assert_eq!(bundle.run().ok(), "from the host\nfrom the host\n");
    assert!(!std::path::Path::new(&canary).exists(), "it was made on the host");
}

#[test]
fn a_missing_source_or_an_impossible_target_is_named() {
    let bundle = mountinfo().with(|c| add(c, "/data", "bind", "/no/such/source", &["bind"]));
    let at = format!("mounts[{}]", bundle.config["mounts"].as_array().unwrap().len() - 1);
    bundle.run().fails(1, &["/no/such/source", &at, "no such file or directory"]);
    Census::of(&bundle).nothing_left(&bundle);
    let bundle = mountinfo().with(|c| add(c, "/etc/passwd", "bind", "/tmp", &["bind"]));
    bundle.run().fails(1, &["/etc/passwd", &at, "not a directory"]);
    let bundle = mountinfo().with(|c| add(c, "/proc/sys", "bind", "/tmp", &["bind"]));
    bundle.run().fails(1, &["/proc/sys", &at]);
    Census::of(&bundle).nothing_left(&bundle);
}

#[test]
fn a_bind_over_dev_keeps_the_hosts_devices() {
    let bundle = Bundle::new(&["sh", "-c", "stat -c %t:%T /dev/null; test -L /dev/core && echo link; echo x > /dev/null"]);
    let host = fs::read_dir("/dev").unwrap().count();
    let bundle = bundle.with(|c| {
        c["mounts"].as_array_mut().unwrap().retain(|m| !m["destination"].as_str().unwrap().starts_with("/dev"));
        add(c, "/dev", "bind", "/dev", &["rbind", "rslave"]);
    });
    assert!(bundle.run().ok().starts_with("1:3\n"));
    assert_eq!(fs::read_dir("/dev").unwrap().count(), host, "nothing is made in the host's /dev");
}

#[test]
fn a_destination_in_the_root_file_systems_own_path_is_below_it() {
    let bundle = Bundle::new(&["cat", "/data/file"]);
    let (source, root) = (shared_dir(&bundle), bundle.rootfs().canonicalize().unwrap());
    fs::write(format!("{source}/file"), "here\n").unwrap();
    let bundle = bundle.with(|c| add(c, root.join("data").to_str().unwrap(), "bind", &source, &["bind"]));
    assert_eq!(bundle.run().ok(), "here\n");
}
