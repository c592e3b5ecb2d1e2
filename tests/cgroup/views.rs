//! The same tests where the host looks different, and containers that get no cgroup.

use crate::place::{Place, as_nobody, in_plain_v1_view, in_v2_view, limits, shell};
use crate::{devices, layout, life};
use keel::cgroup::{Cgroup, Devices, Layout, Version};
use keel::plan::limits::Limits;
use rustix::process::Signal;
use serde_json::json;
use std::fs;
use std::os::unix::fs::MetadataExt;

#[test]
fn v2_view_of_it_all() {
    if !in_v2_view("views::v2_view_of_it_all") {
        return;
    }
    assert_eq!(Layout::detect().expect("layout").version, Version::V2);
    layout::the_layout_agrees_with_mountinfo();
    layout::paths_follow_runcs_rules();
    life::a_process_is_in_every_hierarchy_and_the_record_finds_it();
    life::freeze_and_thaw("v2freeze");
    life::kill_and_remove("v2kill");
    life::kill_forkers("v2forkers");
    devices::device_verdicts("v2devices");
    life::exec_enters_sub_cgroups_that_exist();
    a_delegated_cgroup_belongs_to_its_user();
    exec_finds_the_first_process();
}

#[test]
fn plain_v1_view_of_it_all() {
    if !in_plain_v1_view("views::plain_v1_view_of_it_all") {
        return;
    }
    let layout = Layout::detect().expect("layout");
    assert!(layout.version == Version::V1 && !layout.is_hybrid());
    layout::the_layout_agrees_with_mountinfo();
    life::a_process_is_in_every_hierarchy_and_the_record_finds_it();
    life::freeze_and_thaw("v1freeze");
    life::kill_and_remove("v1kill");
    life::kill_forkers("v1forkers");
    life::exec_enters_sub_cgroups_that_exist();
}

#[test]
fn who_may_make_none_stays_where_he_is_unless_he_asked() {
    if !as_nobody("views::who_may_make_none_stays_where_he_is_unless_he_asked") {
        return;
    }
    let layout = Layout::detect().expect("layout");
    let place = |path: &str| Cgroup::locate(&layout, path, "keeltest").expect("place");
    let devices = Devices::new(&[]).expect("defaults");
    let mut cgroup = place("");
    cgroup.create(&Limits::default(), Some(&devices), true).expect("tolerated");
    assert!(cgroup.is_none());
    let refused =
        |mut cgroup: Cgroup, limits: &Limits, rootless: bool| cgroup.create(limits, None, rootless).expect_err("refused").to_string();
    let error = refused(place("/keeltest"), &Limits::default(), true);
    assert!(error.contains("permission denied (an unprivileged user needs a cgroup that was delegated to him"), "{error}");
    let error = refused(place(""), &limits(json!({"pids": {"limit": 5}})), true);
    assert!(
        error.contains("set pids.max to 5: permission denied to make a cgroup for it (config.json: linux.resources.pids.limit)"),
        "{error}"
    );
    let error = refused(place(""), &Limits::default(), false);
    assert!(error.contains("make the cgroup /sys/fs/cgroup/"), "{error}");
}

#[test]
fn a_container_without_a_cgroup_is_nobodys() {
    let layout = Layout::detect().expect("layout");
    let mut cgroup = Cgroup::none(&layout);
    let entry = cgroup.create(&Limits::default(), None, false).expect("nothing to make");
    assert!(cgroup.is_none() && entry.into.is_none() && entry.tasks.is_empty() && cgroup.mounts().is_empty());
    assert_eq!(cgroup.procs().expect("nobody"), [0; 0]);
    cgroup.kill_all(Signal::KILL).expect("nobody");
    cgroup.remove().expect("nothing");
    let error = cgroup.create(&limits(json!({"pids": {"limit": 5}})), None, false).expect_err("a limit").to_string();
    assert!(error.contains("set pids.max to 5: the container has no cgroup of its own"), "{error}");
}

fn a_delegated_cgroup_belongs_to_its_user() {
    let mut place = Place::new("delegate");
    place.create();
    place.cgroup.delegate(12345).expect("delegate");
    let owner = |file: &str| fs::metadata(format!("{}/{file}", place.cgroup.dir("").expect("directory"))).expect(file).uid();
    assert_eq!(["", "cgroup.procs", "cgroup.subtree_control", "cgroup.freeze", "cgroup.kill"].map(owner), [12345, 12345, 12345, 0, 0]);
}

/// The container's systemd has moved itself and everybody into a child.
fn exec_finds_the_first_process() {
    let mut place = Place::new("moved");
    place.create();
    let dir = place.cgroup.dir("").expect("directory");
    shell(&format!("mkdir {dir}/init.scope"));
    let process = place.process("exec sleep 100");
    place.move_below("init.scope", process.pid());
    let entry = place.cgroup.entry_beside(process.pid()).expect("entry");
    let inode = rustix::fs::fstat(entry.into.expect("a cgroup2 directory")).expect("fstat").st_ino;
    assert_eq!(inode, fs::metadata(format!("{dir}/init.scope")).expect("metadata").ino());
}
