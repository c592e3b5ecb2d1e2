//! The document as a whole, mounts, and what is of Linux.

use crate::{accepted, base, pointers, refused, spec, verdict, with};
use keel::spec::{faults, validate};
use serde_json::{Value, json};

#[test]
fn the_sample_is_fine() {
    assert_eq!(verdict(&base()), Ok(String::new()));
}

#[test]
fn version() {
    for good in ["1.0.0", "1.0.0-rc5", "1.0.0-rc5-dev", "1.0.2-dev", "1.1.0+dev", "1.2.1", "1.3.0", "1.3.99"] {
        accepted(&[("/ociVersion", json!(good), "")]);
    }
    accepted(&[("/ociVersion", json!("1.4.0"), "ociVersion 1.4.0 is newer than 1.3.0: fields added since are ignored")]);
    let shape =
        |v: &str| format!("version {v:?} of the spec is not a semantic version; keel reads 1.0.0 to 1.3.0 (config.json: ociVersion)");
    for bad in ["1", "1.0", "v1.0.0", "1.0.0.0", "01.0.0", "1.00.0", "1.0.x", "1.0.0-", "1.0.0-a..b", "1..0", " 1.0.0", "1.0.99999999999"] {
        refused(&[("/ociVersion", json!(bad), &shape(bad))]);
    }
    for bad in ["0.9.0", "2.0.0"] {
        let words = format!("version {bad:?} of the spec is not supported; keel reads 1.0.0 to 1.3.0 (config.json: ociVersion)");
        refused(&[("/ociVersion", json!(bad), &words)]);
    }
    refused(&[("/ociVersion", Value::Null, "the version of the spec is missing (config.json: ociVersion)")]);
}

#[test]
fn root_process_and_annotations() {
    refused(&[
        ("/root", Value::Null, "root must be specified (config.json: root)"),
        ("/root/path", json!(""), "the path of the root file system is empty (config.json: root.path)"),
        ("/root/path", json!("a\0b"), "the text contains a NUL byte (config.json: root.path)"),
        ("/process", Value::Null, "there is no process to run (config.json: process)"),
        ("/annotations", json!({"": "x"}), "an annotation has an empty key (config.json: annotations)"),
    ]);
}

#[test]
fn mounts() {
    let mount = |m: Value| json!([m]);
    let refuse = |m: Value, words: &str| refused(&[("/mounts", mount(m), &format!("{words} (config.json: mounts[0])"))]);
    refuse(json!({"destination": "", "type": "proc"}), "the destination of the mount is empty");
    refuse(json!({"destination": "/a", "options": ["bind"]}), "the bind mount at /a has no source");
    refuse(json!({"destination": "/a", "type": "bind"}), "the bind mount at /a has no source");
    refuse(json!({"destination": "/a", "source": "tmpfs"}), "the mount at /a has no type and is no bind mount");
    refuse(json!({"destination": "/a\0b", "type": "tmpfs"}), "the text contains a NUL byte");
    refuse(json!({"destination": "/a", "type": "tmpfs", "options": ["size=1\0"]}), "the text contains a NUL byte");
    refuse(json!({"destination": "/a", "type": "tmpfs", "options": ["=x"]}), "an option of the mount at /a has no name");
    refuse(
        json!({"destination": "/a", "type": "bind", "source": "/s", "options": ["tmpcopyup"]}),
        "tmpcopyup is for mounts of type tmpfs, the one at /a is not",
    );
    for target in ["/proc", "proc", "//proc/./", "/x/../proc", "/../proc"] {
        let words = format!("{target} cannot be mounted because it is not of type proc");
        refuse(json!({"destination": target, "type": "tmpfs", "source": "x"}), &words);
    }
    for target in ["/proc/self", "/proc/self/attr", "/x/../proc/sys", "proc/1", "/proc/sys/kernel"] {
        let words = format!("{target} cannot be mounted because it is inside /proc");
        refuse(json!({"destination": target, "type": "bind", "source": "/s"}), &words);
        refuse(json!({"destination": target, "type": "tmpfs", "source": "x"}), &words);
    }
    accepted(&[
        ("/mounts", mount(json!({"destination": "/proc/uptime", "source": "/s", "options": ["bind"]})), ""),
        ("/mounts", mount(json!({"destination": "/proc", "source": "/proc", "options": ["rbind"]})), ""),
        ("/mounts", mount(json!({"destination": "/procs/x", "type": "tmpfs"})), ""),
        ("/mounts", mount(json!({"destination": "/a", "options": ["remount", "ro"]})), ""),
        ("/mounts", mount(json!({"destination": "/a", "type": "tmpfs", "options": [""]})), ""),
        (
            "/mounts",
            mount(json!({"destination": "a", "type": "tmpfs"})),
            "mounts[0]: the destination \"a\" is not absolute and is taken as relative to /",
        ),
        (
            "/mounts",
            mount(json!({"destination": "/a", "type": "bind", "source": "/s", "options": ["ro", "size=1", "x"]})),
            "mounts[0]: size, x has no effect on a bind mount",
        ),
    ]);
}

#[test]
fn namespaces_and_names() {
    refused(&[
        ("/linux/namespaces/5", json!({"type": "pid"}), "namespace \"pid\" is given twice (config.json: linux.namespaces[5])"),
        ("/linux/namespaces/5", json!({"type": "net"}), "namespace \"net\" does not exist (config.json: linux.namespaces[5])"),
        ("/linux/namespaces/5", json!({}), "namespace \"\" does not exist (config.json: linux.namespaces[5])"),
        (
            "/linux/namespaces/0",
            json!({"type": "pid", "path": "ns/pid"}),
            "the path of the namespace \"ns/pid\" is not absolute (config.json: linux.namespaces[0].path)",
        ),
        (
            "/linux/namespaces/3",
            json!({"type": "cgroup"}),
            "unable to set hostname without a private UTS namespace (config.json: hostname) (linux.namespaces needs one of type uts)",
        ),
        ("/hostname", json!("h".repeat(65)), "the name has 65 bytes; the kernel takes at most 64 (config.json: hostname)"),
        ("/domainname", json!("d".repeat(65)), "the name has 65 bytes; the kernel takes at most 64 (config.json: domainname)"),
        ("/domainname", json!("a\0"), "the text contains a NUL byte (config.json: domainname)"),
        ("/linux/cgroupsPath", json!("a\0"), "the text contains a NUL byte (config.json: linux.cgroupsPath)"),
        ("/linux/maskedPaths/0", json!("a\0"), "the text contains a NUL byte (config.json: linux.maskedPaths[0])"),
        ("/linux/readonlyPaths/1", json!(""), "the path is empty (config.json: linux.readonlyPaths[1])"),
        (
            "/linux/rootfsPropagation",
            json!("public"),
            "\"public\" is not a kind of mount propagation, mount_namespaces(7) (config.json: linux.rootfsPropagation)",
        ),
    ]);
    accepted(&[("/hostname", json!("h".repeat(64)), ""), ("/domainname", json!("example.org"), "")]);
    for good in ["private", "rprivate", "shared", "rshared", "slave", "rslave", "unbindable", "runbindable"] {
        accepted(&[("/linux/rootfsPropagation", json!(good), "")]);
    }
    let no_uts = with(with(base(), "/linux/namespaces/3", json!({"type": "cgroup"})), "/hostname", json!(""));
    assert_eq!(verdict(&no_uts), Ok(String::new()));
    let words =
        "unable to set domainname without a private UTS namespace (config.json: domainname) (linux.namespaces needs one of type uts)";
    assert_eq!(verdict(&with(no_uts, "/domainname", json!("d"))), Err(words.into()));
}

/// A document with a new user namespace, its maps of users and groups the same.
fn mapped(maps: &Value) -> Value {
    let user = with(base(), "/linux/namespaces/5", json!({"type": "user"}));
    with(with(user, "/linux/uidMappings", maps.clone()), "/linux/gidMappings", maps.clone())
}

#[test]
fn id_mappings() {
    let map = |c: u32, h: u32, n: u32| json!({"containerID": c, "hostID": h, "size": n});
    let at = "(config.json: linux.uidMappings";
    for (maps, words) in [
        (json!([]), format!("a new user namespace needs mappings, and none are specified {at})")),
        (json!([map(0, 1000, 0)]), format!("the mapping is empty: size is 0 {at}[0])")),
        (json!([map(0, u32::MAX, 1)]), format!("the host ids 4294967295 to 4294967295 go beyond 4294967294 {at}[0])")),
        (json!([map(0, 4_294_000_000, 1_000_000)]), format!("the host ids 4294000000 to 4294999999 go beyond 4294967294 {at}[0])")),
        (json!([map(1, 1, u32::MAX)]), format!("the container ids 1 to 4294967295 go beyond 4294967294 {at}[0])")),
        (json!([map(0, 1000, 10), map(9, 5000, 1)]), format!("the container ids overlap those of linux.uidMappings[0] {at}[1])")),
        (json!([map(0, 1000, 10), map(10, 1009, 1)]), format!("the host ids overlap those of linux.uidMappings[0] {at}[1])")),
        (json!([map(5, 1, 1), map(0, 50, 6)]), format!("the container ids overlap those of linux.uidMappings[0] {at}[1])")),
        (
            json!([map(1, 1000, 10)]),
            "uid 0 is not mapped into the user namespace (config.json: process.user.uid) (linux.uidMappings has the ids there are)".into(),
        ),
    ] {
        assert_eq!(verdict(&mapped(&maps)), Err(words), "{maps}");
    }
    for maps in [json!([map(0, 0, u32::MAX)]), json!([map(1, 1000, 9), map(0, 999, 1)]), json!([map(0, 4_294_967_294, 1)])] {
        assert_eq!(verdict(&mapped(&maps)), Ok(String::new()), "{maps}");
    }
    let many = |n: u32| json!((0..n).map(|i| map(i, 2 * i, 1)).collect::<Vec<_>>());
    assert_eq!(verdict(&mapped(&many(340))), Ok(String::new()));
    let words = format!("70000 mappings; the kernel takes at most 340, user_namespaces(7) {at})");
    assert_eq!(verdict(&mapped(&many(70_000))), Err(words), "CVE-2021-43784");
    let words = "user namespace mappings are specified, but no user namespace (config.json: linux.gidMappings)";
    refused(&[("/linux/gidMappings", json!([map(0, 0, 1)]), words)]);
    let joined = with(mapped(&json!([map(0, 1, 1)])), "/linux/namespaces/5/path", json!("/proc/1/ns/user"));
    let warned = verdict(&joined).unwrap();
    assert_eq!(warned.lines().next(), Some("linux.uidMappings: the user namespace joined has mappings of its own; these are not applied"));
    let group = with(mapped(&json!([map(0, 1, 1)])), "/process/user/gid", json!(7));
    assert!(verdict(&group).unwrap_err().starts_with("gid 7 is not mapped into the user namespace (config.json: process.user.gid)"));
}

#[test]
fn time_offsets() {
    let timed = with(base(), "/linux/namespaces/5", json!({"type": "time"}));
    let offsets = |d: &Value, v: Value| verdict(&with(d.clone(), "/linux/timeOffsets", v));
    assert_eq!(offsets(&timed, json!({"monotonic": {"secs": -5}, "boottime": {"nanosecs": 999_999_999}})), Ok(String::new()));
    for (value, words) in [
        (
            json!({"realtime": {"secs": 1}}),
            "clock \"realtime\" has no offset; monotonic and boottime have (config.json: linux.timeOffsets.realtime)",
        ),
        (
            json!({"boottime": {"nanosecs": 1_000_000_000}}),
            "1000000000 nanoseconds are a second or more (config.json: linux.timeOffsets.boottime)",
        ),
    ] {
        assert_eq!(offsets(&timed, value), Err(words.into()));
    }
    let one = json!({"boottime": {"secs": 1}});
    let words = "time namespace offsets are specified, but no time namespace (config.json: linux.timeOffsets)";
    assert_eq!(offsets(&base(), one.clone()), Err(words.into()));
    let joined = with(timed, "/linux/namespaces/5/path", json!("/proc/1/ns/time"));
    let words = "the time namespace is joined; its offsets cannot be changed (config.json: linux.timeOffsets)";
    assert_eq!(offsets(&joined, one), Err(words.into()));
}

#[test]
fn sysctls() {
    let ask = |document: Value, key: &str| verdict(&with(document, "/linux/sysctl", json!({key: "1"})));
    let refusal = |key: &str, why: &str| Err(format!("sysctl {key:?} {why} (config.json: linux.sysctl)"));
    for good in ["kernel.msgmax", "kernel/shm_rmid_forced", "fs.mqueue.msg_max", "net.ipv4.ip_forward", "kernel.domainname"] {
        assert_eq!(ask(base(), good), Ok(String::new()), "{good}");
    }
    for bad in ["vm.swappiness", "kernel.core_pattern", "fs.mqueuex.y", "kernel.msgmax.x", "network.x", "user.max_user_namespaces"] {
        assert_eq!(ask(base(), bad), refusal(bad, "is not in a separate kernel namespace"), "{bad}");
    }
    for bad in ["", "net", "net.", "net/../kernel/core_pattern", "net./.kernel", "net/./x", "/net/x", "net.a\0", "net//x", "net.ipv4..x"] {
        assert_eq!(ask(base(), bad), refusal(bad, "is not the name of a kernel parameter"), "{bad}");
    }
    let mut mapped = base();
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 1}]);
    (mapped["linux"]["uidMappings"], mapped["linux"]["gidMappings"]) = (map.clone(), map);
    mapped["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
    assert_eq!(ask(mapped, "user.max_user_namespaces"), Ok(String::new()));
    assert_eq!(ask(base(), "kernel.hostname"), refusal("kernel.hostname", "is not allowed, as it conflicts with the field hostname"));
    let host = |kind: &str| {
        let mut document = base();
        document["linux"]["namespaces"].as_array_mut().unwrap().retain(|ns| ns["type"] != kind);
        document["hostname"] = json!("");
        document
    };
    for (kind, key, why) in [
        ("ipc", "kernel.sem", "is not allowed in the host's ipc namespace"),
        ("network", "net/core/somaxconn", "is not allowed in the host's network namespace"),
        ("uts", "kernel.domainname", "is not in a separate kernel namespace"),
        ("uts", "kernel.hostname", "is not in a separate kernel namespace"),
    ] {
        assert_eq!(ask(host(kind), key), refusal(key, why));
    }
    let named = |name: &str, value: &str| {
        verdict(&with(with(base(), "/domainname", json!(name)), "/linux/sysctl", json!({"kernel.domainname": value})))
    };
    assert_eq!(named("a", "b"), refusal("kernel.domainname", "is \"b\", and the field domainname says \"a\""));
    for (name, value) in [("a", "a"), ("a", "a\n"), ("", "b")] {
        assert_eq!(named(name, value), Ok(String::new()), "{name} {value:?}");
    }
    use keel::spec::sysctl::file;
    assert_eq!(file("net.ipv4.conf.eth0/100.rp_filter"), Some("net/ipv4/conf/eth0.100/rp_filter".into()));
    assert_eq!(file("net/ipv4/conf/eth0.100/rp_filter"), Some("net/ipv4/conf/eth0.100/rp_filter".into()));
}

#[test]
fn devices() {
    let device = |kind: &str, major: i64, minor: i64| json!({"path": "/dev/x", "type": kind, "major": major, "minor": minor});
    let at = "(config.json: linux.devices[0])";
    for (value, words) in [
        (device("x", 1, 3), format!("device /dev/x has the type \"x\"; b, c, u and p exist {at}")),
        (device("", 1, 3), format!("device /dev/x has the type \"\"; b, c, u and p exist {at}")),
        (device("c", -1, 3), format!("device /dev/x has the numbers -1:3, which no device has {at}")),
        (device("b", 4096, 0), format!("device /dev/x has the numbers 4096:0, which no device has {at}")),
        (device("b", 1, 1 << 20), format!("device /dev/x has the numbers 1:1048576, which no device has {at}")),
        (
            json!({"path": "dev/x", "type": "p"}),
            "the path of the device \"dev/x\" is not absolute (config.json: linux.devices[0].path)".into(),
        ),
        (json!({"path": "/x", "type": "p", "uid": u32::MAX}), format!("device /x has 4294967295 for an owner {at}")),
        (json!({"path": "/x", "type": "p", "fileMode": 1 << 16}), format!("device /x has a file mode with unknown bits {at}")),
    ] {
        refused(&[("/linux/devices", json!([value]), &words)]);
    }
    let twice = json!([device("c", 1, 3), device("c", 1, 5)]);
    refused(&[("/linux/devices", twice, "device /dev/x is given twice, and differently (config.json: linux.devices[1])")]);
    accepted(&[
        ("/linux/devices", json!([device("u", 4095, 1_048_575), device("u", 4095, 1_048_575)]), ""),
        ("/linux/devices", json!([{"path": "/x", "type": "p", "fileMode": 0o10_644}]), ""),
    ]);
}

/// runc's suite writes it.
#[test]
fn an_access_may_have_a_letter_too_many() {
    let words = "linux.resources.devices[0].access: the letter a of \"rwa\" has no meaning";
    accepted(&[("/linux/resources", json!({"devices": [{"allow": false, "access": "rwa"}]}), words)]);
    let at = "config.json: linux.resources.devices[0].access";
    let alone = json!({"devices": [{"allow": false, "access": "a"}]});
    refused(&[("/linux/resources", alone, &format!("the access \"a\" is not made of r, w and m ({at})"))]);
}

#[test]
fn resources() {
    let at = "config.json: linux.resources";
    let rows = [
        ("/devices/0", json!({"access": ""}), format!("the access \"\" is not made of r, w and m ({at}.devices[0].access)")),
        ("/devices/0", json!({"access": "rx"}), format!("the access \"rx\" is not made of r, w and m ({at}.devices[0].access)")),
        (
            "/devices/0",
            json!({"access": "r", "type": "p"}),
            format!("the device type \"p\" does not exist; a, b and c do ({at}.devices[0].type)"),
        ),
        ("/devices/0", json!({"access": "r", "major": -2}), format!("-2 is no device number ({at}.devices[0].major)")),
        ("/unified", json!({"../x.y": "1"}), format!("\"../x.y\" is not the name of a cgroup v2 file ({at}.unified)")),
        ("/unified", json!({"child": "1"}), format!("\"child\" is not the name of a cgroup v2 file ({at}.unified)")),
        (
            "/unified",
            json!({"cgroup.procs": "1"}),
            format!("cgroup.procs is not a limit but moves, freezes or kills processes ({at}.unified)"),
        ),
        (
            "/unified",
            json!({"cgroup.freeze": "1"}),
            format!("cgroup.freeze is not a limit but moves, freezes or kills processes ({at}.unified)"),
        ),
        (
            "/hugepageLimits",
            json!([{"pageSize": "2M"}]),
            format!("\"2M\" is not a page size such as 64KB, 2MB or 1GB ({at}.hugepageLimits[0].pageSize)"),
        ),
        (
            "/hugepageLimits",
            json!([{"pageSize": "../MB"}]),
            format!("\"../MB\" is not a page size such as 64KB, 2MB or 1GB ({at}.hugepageLimits[0].pageSize)"),
        ),
        ("/blockIO/weight", json!(9), format!("weight 9 is outside of 10 to 1000 ({at}.blockIO.weight)")),
        ("/blockIO/leafWeight", json!(1001), format!("weight 1001 is outside of 10 to 1000 ({at}.blockIO.leafWeight)")),
        ("/cpu/idle", json!(2), format!("2 is neither 0 nor 1 ({at}.cpu.idle)")),
        ("/rdma", json!({"a b": {"hcaObjects": 1}}), format!("\"a b\" is not the name of a device ({at})")),
    ];
    for (pointer, value, words) in rows {
        refused(&[(&format!("/linux/resources{pointer}"), value, &words)]);
    }
    accepted(&[
        ("/linux/resources/devices/0", json!({"allow": true, "access": "m", "major": -1, "minor": -1}), ""),
        ("/linux/resources/unified", json!({"memory.high": "1"}), ""),
        ("/linux/resources/hugepageLimits", json!([{"pageSize": "1GB", "limit": 0}]), ""),
        ("/linux/resources/blockIO/weight", json!(0), ""),
        (
            "/linux/resources/memory",
            json!({"kernel": 1, "kernelTCP": -1}),
            "linux.resources.memory.kernel is deprecated, has no effect on current kernels and is ignored\n\
             linux.resources.memory.kernelTCP is deprecated, has no effect on current kernels and is ignored",
        ),
    ]);
}

#[test]
fn seccomp_shape() {
    refused(&[
        ("/linux/seccomp", json!({}), "the default action is missing (config.json: linux.seccomp.defaultAction)"),
        (
            "/linux/seccomp",
            json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "x"}),
            "there is no listener to send this to: listenerPath is missing (config.json: linux.seccomp.listenerMetadata)",
        ),
        (
            "/linux/seccomp",
            json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"action": "SCMP_ACT_LOG"}]}),
            "the rule names no system call (config.json: linux.seccomp.syscalls[0].names)",
        ),
    ]);
    refused(&[(
        "/linux/seccomp",
        json!({"defaultAction": "SCMP_ACT_NOTIFY"}),
        "SCMP_ACT_NOTIFY needs the path of a seccomp agent's socket (config.json: linux.seccomp.listenerPath)",
    )]);
    // The path alone asks for nothing, config-linux.md says.
    accepted(&[("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/x"}), "")]);
}

/// mount_namespaces(7): whoever is in a user namespace may mount only in a mount namespace that belongs to it.
#[test]
fn a_user_namespace_needs_a_mount_namespace() {
    refused(&[(
        "/linux/namespaces/4",
        json!({"type": "user"}),
        "a user namespace has no rights over the mounts of the host (config.json: linux.namespaces) \
         (it needs a namespace of type mount too)",
    )]);
}

#[test]
fn replaced_words_of_intel_rdt_are_told() {
    for field in ["enableCMT", "enableMBM"] {
        let words = "linux.intelRdt: enableCMT and enableMBM have no effect; enableMonitoring makes a monitoring group";
        accepted(&[("/linux/intelRdt", json!({field: true}), words)]);
    }
    accepted(&[("/linux/intelRdt", json!({"closID": "gold", "schemata": ["L3:0=f"], "enableMonitoring": true}), "")]);
}

#[test]
fn faults_are_all_told_at_once() {
    let mut config = base();
    config["ociVersion"] = json!("7");
    config["process"]["cwd"] = json!("x");
    config["linux"]["resources"]["cpu"] = json!({"cpus": "x"});
    config["hooks"] = json!({"poststop": [{"path": "x"}]});
    let (errors, _) = faults(&spec(&config));
    let places = ["ociVersion", "process.cwd", "hooks.poststop[0].path"];
    assert!(errors.len() >= 3, "{errors:?}");
    for place in places {
        assert!(errors.iter().any(|e| e.to_string().contains(&format!("(config.json: {place})"))), "{place}: {errors:?}");
    }
    assert_eq!(errors[0].to_string(), validate(&spec(&config)).unwrap_err().to_string());
}

/// No document of any shape makes validation panic: each value of the sample is replaced by values of every type.
#[test]
fn nothing_panics() {
    let document = with(base(), "/linux/uidMappings", json!([{"containerID": 0, "hostID": u32::MAX, "size": u32::MAX}]));
    let pointers = pointers(&document);
    assert!(pointers.len() > 100);
    let odd = [
        Value::Null,
        json!(true),
        json!(-1),
        json!(u64::MAX),
        json!(1.5),
        json!(""),
        json!("\0"),
        json!([]),
        json!([null]),
        json!({}),
        json!({"": {}}),
    ];
    let mut refusals = 0;
    for pointer in &pointers {
        for value in &odd {
            let text = with(document.clone(), pointer, value.clone()).to_string();
            match keel::spec::parse(text.as_bytes()) {
                Err(e) => assert!(!e.to_string().is_empty()),
                Ok(loaded) => refusals += usize::from(validate(&loaded.spec).is_err()),
            }
        }
    }
    assert!(refusals > 100, "{refusals}");
}
