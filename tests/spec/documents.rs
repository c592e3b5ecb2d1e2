//! The documents keel writes: `spec` and `features`.

use crate::{spec, verdict};
use keel::spec::{Spec, VERSIONS, features, sample};
use oci_spec::runtime::Features;
use serde_json::{Value, json};
use std::process::Command;

fn value(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn every_sample_validates() {
    for rootless in [None, Some((0, 0)), Some((1000, 1001))] {
        for unified in [false, true] {
            let text = sample(rootless, unified);
            let document = value(&text);
            assert_eq!(verdict(&document), Ok(String::new()));
            let kinds: Vec<_> = spec(&document).linux.namespaces.into_iter().map(|ns| ns.kind).collect();
            let mut expected = vec!["pid", "network", "ipc", "uts", "mount"];
            if unified {
                expected.push("cgroup");
            }
            if rootless.is_some() {
                expected.retain(|kind| *kind != "network");
                expected.push("user");
            }
            assert_eq!(kinds, expected);
            assert_eq!(document["ociVersion"], VERSIONS.1);
            assert_eq!(document["process"]["terminal"], true);
        }
    }
}

#[test]
fn a_rootless_sample_has_the_caller() {
    let document = value(&sample(Some((1000, 1001)), false));
    let maps = (&document["linux"]["uidMappings"], &document["linux"]["gidMappings"]);
    assert_eq!(maps.0, &json!([{"containerID": 0, "hostID": 1000, "size": 1}]));
    assert_eq!(maps.1, &json!([{"containerID": 0, "hostID": 1001, "size": 1}]));
    assert_eq!(document["linux"].get("resources"), None);
    let same_ids = value(&sample(Some((7, 7)), true));
    assert_eq!(same_ids["linux"]["uidMappings"], same_ids["linux"]["gidMappings"]);
}

/// Byte for byte what runc 1.1 wrote (tests/data/spec), but for what has changed since: the version, the tpm mask,
/// no ambient capabilities; and the name of the host.
#[test]
fn samples_have_runcs_shape() {
    for (file, rootless) in [("runc", None), ("runc-rootless", Some((0, 0)))] {
        let theirs = std::fs::read_to_string(format!("tests/data/spec/{file}.json")).unwrap();
        assert_eq!(as_old_runc(&sample(rootless, false)), theirs);
    }
}

fn as_old_runc(ours: &str) -> String {
    let caps = "[\n\t\t\t\t\"CAP_AUDIT_WRITE\",\n\t\t\t\t\"CAP_KILL\",\n\t\t\t\t\"CAP_NET_BIND_SERVICE\"\n\t\t\t]";
    ours.replace("\"1.3.0\"", "\"1.0.2-dev\"")
        .replace("\"keel\"", "\"runc\"")
        .replace(",\n\t\t\t\"/sys/devices/virtual/tpm\"", "")
        .replace(&format!("\"permitted\": {caps}"), &format!("\"permitted\": {caps},\n\t\t\t\"ambient\": {caps}"))
}

/// The same against the runc of this machine, where it is of that age.
#[test]
fn samples_have_the_shape_of_the_runc_here() {
    let version = Command::new("runc").arg("--version").output().map(|said| said.stdout).unwrap_or_default();
    if !String::from_utf8_lossy(&version).starts_with("runc version 1.1.") {
        crate::skip::skipped("runc 1.1 is not installed");
        return;
    }
    let dir = std::env::temp_dir().join(format!("keel-spec-{}-runc", std::process::id()));
    std::fs::create_dir(&dir).unwrap();
    let status = Command::new("runc").arg("spec").current_dir(&dir).status();
    let theirs = std::fs::read_to_string(dir.join("config.json"));
    std::fs::remove_dir_all(&dir).unwrap();
    assert!(status.unwrap().success());
    let unified = theirs.as_ref().unwrap().contains("\"type\": \"cgroup\"\n\t\t\t}");
    assert_eq!(as_old_runc(&sample(None, unified)), theirs.unwrap());
}

#[test]
fn features_parse_elsewhere() {
    let document = features();
    let parsed: Features = serde_json::from_value(document.clone()).unwrap();
    assert_eq!((parsed.oci_version_min().as_str(), parsed.oci_version_max().as_str()), VERSIONS);
    let linux = parsed.linux().as_ref().unwrap();
    assert_eq!(linux.namespaces().as_ref().unwrap().len(), 8);
    assert_eq!(linux.capabilities().as_ref().unwrap().len(), 41);
    assert!(linux.seccomp().as_ref().unwrap().actions().as_ref().unwrap().len() >= 8);
    // What is in ours and not in theirs would be a word that the spec does not have.
    let mut theirs = serde_json::to_value(&parsed).unwrap();
    drop_nulls(&mut theirs);
    assert_eq!(theirs, document);
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, v| !v.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        Value::Array(list) => list.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// containerd dereferences the idmap field and looks for rro; nothing says yes that is refused.
#[test]
fn features_tell_the_truth() {
    let document = features();
    let options: Vec<_> = document["mountOptions"].as_array().unwrap().iter().map(|o| o.as_str().unwrap()).collect();
    assert!(options.is_sorted());
    for name in ["ro", "rro", "rbind", "rslave", "tmpcopyup", "nosymfollow"] {
        assert!(options.contains(&name), "{name}");
    }
    let linux = &document["linux"];
    assert_eq!(linux["mountExtensions"]["idmap"]["enabled"], json!(true));
    assert!(options.contains(&"idmap") && options.contains(&"ridmap"));
    assert_eq!(linux["intelRdt"]["enabled"], json!(true));
    assert_eq!(linux["netDevices"]["enabled"], json!(true));
    assert_eq!(linux["memoryPolicy"]["modes"].as_array().unwrap().len(), 7);
    assert_eq!(linux["memoryPolicy"]["flags"].as_array().unwrap().len(), 3);
    assert!(linux["seccomp"]["actions"].as_array().unwrap().contains(&json!("SCMP_ACT_NOTIFY")));
    assert_eq!(linux["seccomp"]["knownFlags"], linux["seccomp"]["supportedFlags"]);
    assert_eq!(document["hooks"].as_array().unwrap().len(), 6);
    let spec = Spec { oci_version: document["ociVersionMax"].as_str().unwrap().into(), ..Spec::default() };
    assert!(!keel::spec::validate(&spec).unwrap_err().to_string().contains("version"));
}
