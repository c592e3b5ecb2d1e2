//! `keel validate`: everything wrong with a bundle at once, each with its place, and nothing touched.

mod common;

use common::{Bundle, Census};
use serde_json::{Value, json};
use std::fs;

fn validate(bundle: &Bundle) -> common::Said {
    bundle.write();
    bundle.keel(&["validate", "--bundle", "."])
}

#[test]
fn a_good_bundle_has_no_findings() {
    for args in [&["sh"][..], &["/bin/busybox"], &["bin/sh"]] {
        let bundle = Bundle::new(args);
        assert_eq!(validate(&bundle).ok(), "", "{args:?}");
        assert!(!bundle.state_root().exists());
        Census::of(&bundle).nothing_left(&bundle);
    }
}

/// What keel ignores is a warning: the container would start.
#[test]
fn unknown_keys_are_warnings() {
    let bundle = Bundle::new(&["true"]).with(|c| {
        c["linux"]["speed"] = json!(1);
        c["process"]["capabilities"]["bounding"] = json!(["CAP_FLY"]);
        c["process"]["capabilities"]["effective"] = json!([]);
        c["process"]["capabilities"]["permitted"] = json!([]);
    });
    let said = validate(&bundle);
    let lines: Vec<&str> = said.out.lines().collect();
    assert_eq!((said.code, lines.len()), (0, 2), "{said:?}");
    assert!(lines.iter().all(|line| line.starts_with("warning: ")), "{said:?}");
    for place in ["linux.speed is not in runtime-spec", "process.capabilities.bounding[0]"] {
        assert!(said.out.contains(place), "{said:?}");
    }
}

#[test]
fn faults_of_the_document_and_of_the_host_are_told_together() {
    let bundle = Bundle::new(&["no-such-program"]).with(|c| {
        c["process"]["env"] = json!(["PATH=/bin", "broken"]);
        c["hooks"] = json!({
            "createRuntime": [{"path": "/bin/true"}, {"path": "/no/such/hook"}], "startContainer": [{"path": "/only/inside"}]
        });
        let mounts = c["mounts"].as_array_mut().unwrap();
        mounts.push(json!({"destination": "/data", "type": "bind", "source": "no-such-volume", "options": ["bind"]}));
        let namespaces = c["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.push(json!({"type": "cgroup", "path": "/no/such/namespace"}));
        c["linux"]["netDevices"] = json!({"nodev0": {}});
        c["linux"]["resources"]["rdma"] = json!({"mlx5_1": {"hcaHandles": 3}});
        c["linux"]["intelRdt"] = json!({"closID": "x"});
    });
    let said = validate(&bundle);
    assert_eq!(said.code, 1, "{said:?}");
    let last = bundle.config["linux"]["namespaces"].as_array().unwrap().len() - 1;
    let mount = bundle.config["mounts"].as_array().unwrap().len() - 1;
    let mut places = vec![
        "missing '=' (config.json: process.env[1])".to_owned(),
        "\"no-such-program\": executable file not found in $PATH (config.json: process.args[0])".into(),
        "/no/such/hook (config.json: hooks.createRuntime[1].path): no such file or directory".into(),
        format!("no-such-volume (config.json: mounts[{mount}].source): no such file or directory"),
        format!("there is no namespace /no/such/namespace (config.json: linux.namespaces[{last}].path)"),
        "this host has no network device nodev0 (config.json: linux.netDevices.nodev0)".into(),
    ];
    if !std::path::Path::new("/sys/fs/resctrl/schemata").exists() {
        places.push("mounted at /sys/fs/resctrl, which this host does not have (config.json: linux.intelRdt)".into());
    }
    let controllers = fs::read_to_string("/proc/cgroups").unwrap();
    if !controllers.contains("rdma") {
        places.push("this host has no cgroup controller rdma (config.json: linux.resources.rdma".into());
    }
    for place in &places {
        assert!(said.out.lines().any(|line| line.starts_with("error: ") && line.contains(place.as_str())), "{place}: {}", said.out);
    }
    assert!(!said.out.contains("/only/inside"), "found in the container, which is not there yet: {}", said.out);
    assert!(!bundle.state_root().exists());
}

#[test]
fn a_security_module_that_is_not_there_is_an_error() {
    let mut bundle = Bundle::new(&["true"]);
    let enabled = fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with('Y'));
    let selinux = fs::exists("/sys/fs/selinux/enforce").unwrap();
    for (missing, field, words) in [
        (!enabled, "apparmorProfile", "AppArmor is not enabled on this host (config.json: process.apparmorProfile)"),
        (!selinux, "selinuxLabel", "SELinux is not enabled on this host (config.json: process.selinuxLabel)"),
    ] {
        if missing {
            bundle.config["process"][field] = json!("x");
            validate(&bundle).fails(1, &[]);
            assert!(validate(&bundle).out.contains(words));
            bundle.config["process"][field] = Value::Null;
        }
    }
}

#[test]
fn files_of_the_image_are_found_as_the_container_would() {
    let bundle = Bundle::new(&["/app/run"]);
    validate(&bundle).fails(1, &[]);
    let app = bundle.rootfs().join("app");
    fs::create_dir(&app).unwrap();
    // A link out of the image leads to the image's own file, or nowhere.
    std::os::unix::fs::symlink("/bin/sh", app.join("run")).unwrap();
    assert_eq!(validate(&bundle).ok(), "");
    fs::remove_file(app.join("run")).unwrap();
    std::os::unix::fs::symlink(bundle.dir.join("config.json"), app.join("run")).unwrap();
    validate(&bundle).fails(1, &[]);
    fs::remove_file(app.join("run")).unwrap();
    fs::write(app.join("run"), "").unwrap();
    assert!(validate(&bundle).out.contains("or not executable"));
    // What a mount brings is not known.
    let bundle = bundle.with(|c| {
        let mount = json!({"destination": "/app", "type": "tmpfs", "source": "tmpfs"});
        c["mounts"].as_array_mut().unwrap().push(mount);
    });
    assert_eq!(validate(&bundle).ok(), "");
}

/// What only the plan finds, and a document that cannot be read.
#[test]
fn the_rest_is_told_one_by_one() {
    let bundle = Bundle::new(&["true"]).with(|c| c["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_NONE"}));
    assert!(validate(&bundle).out.contains("is not a seccomp action (config.json: linux.seccomp.defaultAction)"));
    fs::write(bundle.dir.join("config.json"), "{").unwrap();
    let said = bundle.keel(&["validate", "--bundle", "."]);
    assert!(said.code == 1 && said.out.starts_with("error: parse "), "{said:?}");
}

/// resctrl is there on few machines; without it, one sentence.
#[test]
fn intel_rdt_needs_its_file_system() {
    if std::path::Path::new("/sys/fs/resctrl/schemata").exists() {
        common::skipped("resctrl is mounted here, and the test is about none");
        return;
    }
    let bundle = Bundle::new(&["true"]).with(|c| c["linux"]["intelRdt"] = json!({"closID": "x", "l3CacheSchema": "L3:0=f"}));
    let err = bundle.run().fails(1, &["Intel RDT needs a resctrl file system mounted at /sys/fs/resctrl", "linux.intelRdt"]);
    assert_eq!(err.lines().count(), 1, "{err}");
    assert!(!bundle.state_root().exists());
    for (field, value, words) in [
        ("closID", json!("a/b"), "cannot be the name of a class of service (config.json: linux.intelRdt.closID)"),
        ("memBwSchema", json!("L3:0=1"), "starts with MB: (config.json: linux.intelRdt.memBwSchema)"),
        ("schemata", json!(["L3:0=1\nL2:0=1"]), "a line break in a line of the schemata (config.json: linux.intelRdt.schemata[0])"),
    ] {
        let bundle = Bundle::new(&["true"]).with(|c| c["linux"]["intelRdt"] = json!({field: value}));
        bundle.run().fails(1, &[words]);
    }
}
