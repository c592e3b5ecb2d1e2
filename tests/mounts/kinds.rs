//! File systems of their own, and options.

use crate::common::Bundle;
use crate::{add, find, mountinfo};

#[test]
fn the_sample_has_every_kind_of_file_system() {
    let info = mountinfo().run().ok();
    for (at, kind) in
        [("/proc", "proc"), ("/dev", "tmpfs"), ("/dev/pts", "devpts"), ("/dev/shm", "tmpfs"), ("/dev/mqueue", "mqueue"), ("/sys", "sysfs")]
    {
        assert_eq!(find(&info, at).kind, kind, "{at}");
    }
    find(&info, "/sys").has(&["ro", "nosuid", "noexec", "nodev"]);
    find(&info, "/dev/pts").has(&["rw", "nosuid", "noexec"]);
    let pts = find(&info, "/dev/pts").superblock;
    assert!(pts.contains(&"gid=5".into()) && pts.contains(&"mode=620".into()) && pts.contains(&"ptmxmode=666".into()), "{pts:?}");
    let dev = find(&info, "/dev");
    assert!(dev.superblock.contains(&"mode=755".into()) && dev.superblock.contains(&"size=65536k".into()), "{dev:?}");
    // v1 shows a tmpfs with the hierarchies below, v2 the hierarchy itself; all read-only here.
    find(&info, "/sys/fs/cgroup").has(&["ro", "nosuid", "noexec", "nodev"]);
    for line in info.lines().filter(|line| line.contains(" /sys/fs/cgroup/")) {
        find(&info, line.split(' ').nth(4).unwrap()).has(&["ro"]);
    }
}

#[test]
fn the_cgroup_mount_shows_the_containers_own_cgroup() {
    let bundle = Bundle::new(&["sh", "-c", "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null"]);
    let bundle = bundle.with(|c| c["linux"]["resources"]["memory"] = serde_json::json!({"limit": 64 << 20}));
    let said = bundle.run();
    assert_eq!(said.out, format!("{}\n", 64 << 20), "{said:?}");
}

/// fsconfig(2) takes 255 bytes; BuildKit mounts overlays of many layers, and not at the root.
#[test]
fn options_may_take_a_page() {
    let bundle = Bundle::new(&["sh", "-c", "ls /data; touch /data/new || echo refused; cat /proc/self/mountinfo"]);
    let layer = |number: u32| {
        let dir = bundle.dir.join(format!("layers/snapshot-with-a-long-name-as-buildkit-gives-them-{number}/fs"));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join(format!("file{number}")), "").unwrap();
        dir.to_str().unwrap().to_owned()
    };
    let layers = (0..6).map(layer).collect::<Vec<_>>().join(":");
    let bundle = bundle.with(|c| add(c, "/data", "overlay", "overlay", &["ro", "nosuid", "noatime", &format!("lowerdir={layers}")]));
    let said = bundle.run().ok();
    assert!(said.starts_with("file0\nfile1\nfile2\nfile3\nfile4\nfile5\nrefused\n"), "{said}");
    let info = said.split_once("refused\n").unwrap().1;
    find(info, "/data").has(&["ro", "nosuid", "noatime"]);
    // A link of the image leads nowhere but into the container.
    let bundle = mountinfo().with(|c| add(c, "/link", "overlay", "overlay", &[&format!("lowerdir={layers}")]));
    std::os::unix::fs::symlink("/../../inside", bundle.rootfs().join("link")).unwrap();
    assert_eq!(find(&bundle.run().ok(), "/inside").kind, "overlay");
    let long = format!("lowerdir=/{}", "x".repeat(5000));
    let bundle = Bundle::new(&["true"]).with(|c| add(c, "/data", "overlay", "overlay", &[&long]));
    bundle.run().fails(1, &["more than a page", "mounts["]);
}

/// mount(2), which takes the long ones, would end an option at its comma and take what follows for another.
#[test]
fn a_long_option_with_a_comma_is_refused() {
    let long = "x".repeat(300);
    for (kind, option) in [("tmpfs", format!("size={long},mode=777")), ("overlay", format!("lowerdir=/{long},upperdir=/tmp"))] {
        let bundle = Bundle::new(&["true"]).with(|c| add(c, "/data", kind, kind, &[&option]));
        bundle.run().fails(1, &[kind, "has a comma", "mounts["]);
    }
    // At the root, which always comes by mount(2), also short ones.
    let bundle = Bundle::new(&["true"]).with(|c| {
        c["mounts"] =
            serde_json::json!([{"destination": "/", "type": "overlay", "source": "overlay", "options": ["lowerdir=/a,upperdir=/tmp"]}]);
    });
    bundle.run().fails(1, &["lowerdir of the overlay has a comma", "mounts[0].options"]);
    let bundle = Bundle::new(&["true"]).with(|c| {
        c["mounts"] = serde_json::json!([{"destination": "/", "type": "tmpfs", "source": "tmpfs", "options": ["inode64,size=1m"]}]);
    });
    bundle.run().fails(1, &["of the tmpfs has a comma", "mounts[0].options"]);
    // A comma after a backslash is the path's own.
    let bundle = Bundle::new(&["ls", "/data"]);
    let layers = ["first", "second"].map(|name| {
        let layer = bundle.dir.join(format!("{},{name}", "y".repeat(150)));
        std::fs::create_dir_all(layer.join(name)).unwrap();
        layer.to_str().unwrap().replace(',', r"\,")
    });
    let bundle = bundle.with(|c| add(c, "/data", "overlay", "overlay", &["ro", &format!("lowerdir={}", layers.join(":"))]));
    assert_eq!(bundle.run().ok(), "first\nsecond\n");
}

/// It tells by the descriptor of fsopen(2) what its errno does not.
#[test]
fn what_the_kernel_says_about_a_file_system_is_told() {
    let bundle = Bundle::new(&["true"]).with(|c| add(c, "/data", "tmpfs", "tmpfs", &["size=many"]));
    bundle.run().fails(1, &["Bad value for 'size'", "mounts["]);
    let bundle = Bundle::new(&["true"]).with(|c| add(c, "/data", "tmpfs", "tmpfs", &["colour=red"]));
    bundle.run().fails(1, &["Unknown parameter 'colour'", "mounts["]);
}

#[test]
fn every_flag_of_a_mount_is_seen_in_mountinfo() {
    let flags = ["ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime", "relatime", "nosymfollow"];
    for flag in flags {
        let info = mountinfo().with(|c| add(c, "/m", "tmpfs", "tmpfs", &[flag])).run().ok();
        find(&info, "/m").has(&[flag]);
    }
    let info = mountinfo().with(|c| add(c, "/m", "tmpfs", "tmpfs", &["strictatime"])).run().ok();
    let options = find(&info, "/m").options;
    assert!(!options.contains(&"relatime".into()) && !options.contains(&"noatime".into()), "{options:?}");
    let info = mountinfo().with(|c| add(c, "/m", "tmpfs", "tmpfs", &["nosuid", "suid", "ro", "rw", "noexec"])).run().ok();
    assert_eq!(find(&info, "/m").options, ["rw", "noexec", "relatime"], "the last word counts");
}

#[test]
fn a_tmpfs_takes_its_data_and_inherits_the_mode_it_covers() {
    let bundle = Bundle::new(&[
        "sh",
        "-c",
        "stat -c %a /sized /covered /fresh; df -k /sized 2>/dev/null; dd if=/dev/zero of=/sized/x bs=1k count=80 2>&1 | tail -1",
    ]);
    let bundle = bundle.with(|c| {
        add(c, "/sized", "tmpfs", "tmpfs", &["mode=1770", "size=64k"]);
        add(c, "/covered", "tmpfs", "tmpfs", &[]);
        add(c, "/fresh", "tmpfs", "tmpfs", &[]);
    });
    let covered = bundle.rootfs().join("covered");
    std::fs::create_dir(&covered).unwrap();
    rustix::fs::chmod(&covered, rustix::fs::Mode::from_raw_mode(0o2751)).unwrap();
    let said = bundle.run().out;
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[..3], ["1770", "2751", "1777"], "{said}");
    assert!(said.ends_with("64+0 records out\n"), "64 KiB and no more: {said}");
}

#[test]
fn the_container_has_a_pid_namespace_view_of_proc() {
    let bundle = Bundle::new(&["sh", "-c", "echo $$; echo /proc/[0-9]*"]);
    assert_eq!(bundle.run().ok(), "1\n/proc/1\n");
}

#[test]
fn a_message_queue_and_a_terminal_multiplexer_work() {
    let bundle = Bundle::new(&[
        "sh",
        "-c",
        "touch /dev/mqueue/q && stat -c %s /dev/mqueue/q; stat -c %t:%T /dev/ptmx /dev/pts/ptmx -L; readlink /dev/ptmx",
    ]);
    let said = bundle.run().ok();
    assert!(said.ends_with("5:2\n5:2\npts/ptmx\n"), "{said}");
}

#[test]
fn a_file_system_unknown_to_the_kernel_is_named() {
    let bundle = mountinfo().with(|c| add(c, "/m", "nonesuchfs", "x", &[]));
    let index = bundle.config["mounts"].as_array().unwrap().len() - 1;
    bundle.run().fails(1, &["nonesuchfs", &format!("mounts[{index}]"), "no such device"]);
    let bundle = mountinfo().with(|c| add(c, "/m", "tmpfs", "x", &["size=nonsense"]));
    bundle.run().fails(1, &[&format!("mounts[{index}]")]);
}

#[test]
fn a_remount_changes_flags() {
    let bundle = mountinfo().with(|c| {
        add(c, "/m", "tmpfs", "tmpfs", &["nosuid"]);
        add(c, "/m", "tmpfs", "tmpfs", &["remount", "ro", "nosuid"]);
    });
    let info = bundle.run().ok();
    find(&info, "/m").has(&["ro", "nosuid"]);
}

#[test]
fn a_read_only_tmpfs_holds_what_is_made_in_it_before() {
    let bundle = Bundle::new(&["sh", "-c", "test -c /dev/null && ls /t && ! touch /dev/x /t/x 2>/dev/null && cat /proc/self/mountinfo"])
        .with(|c| {
            let dev = c["mounts"].as_array_mut().unwrap().iter_mut().find(|m| m["destination"] == "/dev").unwrap();
            dev["options"].as_array_mut().unwrap().push("ro".into());
            add(c, "/t", "tmpfs", "tmpfs", &["ro"]);
            add(c, "/t/inner", "tmpfs", "tmpfs", &[]);
        });
    let said = bundle.run().ok();
    assert!(said.starts_with("inner\n"), "{said}");
    for at in ["/dev", "/t"] {
        find(&said, at).has(&["ro"]);
    }
    find(&said, "/t/inner").has(&["rw"]);
}
