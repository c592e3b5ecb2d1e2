//! Where the hierarchies are, and where in them a container belongs.

use crate::place::Place;
use keel::cgroup::{Cgroup, Layout, Version};
use serde_json::json;
use std::fs;

#[test]
pub fn the_layout_agrees_with_mountinfo() {
    let layout = Layout::detect().expect("layout");
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let mut expected: Vec<String> = mountinfo
        .lines()
        .filter(|line| line.contains(" - cgroup ") || line.contains(" - cgroup2 "))
        .map(|line| line.split(' ').nth(4).expect("mount point").to_string())
        .collect();
    let mut found: Vec<_> = layout.hierarchies.iter().map(|h| h.mount.clone()).collect();
    expected.sort();
    expected.dedup();
    found.sort();
    assert!(!found.is_empty());
    assert_eq!(found, expected);
    assert_eq!(layout.is_hybrid(), expected.len() > 1 && expected.iter().any(|m| m.ends_with("/unified")));
}

#[test]
pub fn paths_follow_runcs_rules() {
    let layout = Layout::detect().expect("layout");
    let inner = |cgroups_path: &str| -> Vec<String> {
        let cgroup = Cgroup::locate(&layout, cgroups_path, "id").expect("place");
        cgroup
            .paths()
            .zip(&layout.hierarchies)
            .map(|((_, path), h)| path.strip_prefix(&h.mount).expect("below its mount").to_string())
            .collect()
    };
    for (given, clean) in [("/a/b", "/a/b"), ("//a/./b/", "/a/b"), ("/../../a", "/a"), ("/a/../../b", "/b"), ("/s:p:n", "/s:p:n")] {
        assert!(inner(given).iter().all(|path| path == clean), "{given}: {:?}", inner(given));
    }
    let own = |h: &keel::cgroup::Hierarchy| match layout.version {
        Version::V1 => h.path.trim_end_matches('/').to_string(),
        Version::V2 => h.path.rsplit_once('/').expect("absolute").0.to_string(),
    };
    for (given, below) in [("", "/id"), ("a", "/a"), ("../../a", "/a"), ("s.slice:p:n", "/s.slice:p:n")] {
        let expected: Vec<_> = layout.hierarchies.iter().map(|h| own(h) + below).collect();
        assert_eq!(inner(given), expected, "{given:?}");
    }
    for refused in ["/", "..", "/a/..", "/a\0b", "/a\nb"] {
        let error = Cgroup::locate(&layout, refused, "id").expect_err(refused).to_string();
        assert!(error.contains("linux.cgroupsPath"), "{error}");
    }
}

#[test]
fn mounts_name_every_hierarchy() {
    let place = Place::new("mounts");
    let mounts = place.cgroup.mounts();
    assert_eq!(mounts.len(), place.cgroup.paths().count());
    for (mount, (_, dir)) in mounts.iter().zip(place.cgroup.paths()) {
        assert_eq!(mount.source, dir);
        let expected = format!("/sys/fs/cgroup{}{}/keeltest", if mount.name.is_empty() { "" } else { "/" }, mount.name);
        assert!(dir.starts_with(&expected), "{mount:?}");
    }
}

#[test]
fn controllers_mounted_together_are_linked() {
    let record = json!({"version": "V1", "explicit": true, "trees": [
        {"controllers": ["cpu", "cpuacct"], "mount": "/sys/fs/cgroup/cpu,cpuacct", "path": "/x"},
        {"controllers": ["name=systemd"], "mount": "/sys/fs/cgroup/systemd", "path": "/x"}]});
    let cgroup: Cgroup = serde_json::from_value(record).expect("record");
    let mounts = cgroup.mounts();
    let links = [("cpu", "cpu,cpuacct"), ("cpuacct", "cpu,cpuacct")].map(|(a, b)| (a.to_string(), b.to_string()));
    assert_eq!((mounts[0].name.as_str(), mounts[0].links.as_slice()), ("cpu,cpuacct", links.as_slice()));
    assert_eq!((mounts[1].name.as_str(), mounts[1].links.len()), ("systemd", 0));
    assert_eq!(cgroup.dir("cpuacct").as_deref(), Some("/sys/fs/cgroup/cpu,cpuacct/x"));
}
