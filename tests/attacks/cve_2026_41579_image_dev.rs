//! CVE-2026-41579, CVE-2026-47766: default devices and links were made on the host where the image's /dev is a link.

use super::{Guard, add_mount, common::Bundle, control, without_mount};
use std::fs;
use std::path::Path;

/// Replaces the image's /dev by a link to `target`, a path that the image has too.
fn link_dev(bundle: &Bundle, target: &Path) {
    fs::remove_dir_all(bundle.rootfs().join("dev")).unwrap();
    fs::create_dir_all(bundle.rootfs().join(target.strip_prefix("/").unwrap())).unwrap();
    std::os::unix::fs::symlink(target, bundle.rootfs().join("dev")).unwrap();
}

#[test]
fn devices_are_made_in_the_image_and_not_where_its_link_points_on_the_host() {
    let bundle = Bundle::new(&["stat", "-c", "%F %t:%T", "/dev/null"]).with(|config| without_mount(config, "/dev"));
    let guard = Guard::new(&bundle);
    link_dev(&bundle, &guard.canary);
    let said = bundle.run();
    assert!(said.code != 0 || said.out == "character special file 1:3\n", "{said:?}");
    guard.unchanged_and_empty(&bundle);
    control(&bundle, &guard, |_| false);
}

#[test]
fn mounts_of_dev_stay_in_the_image_too() {
    let bundle = Bundle::new(&["stat", "-c", "%F %t:%T", "/dev/null"]);
    let guard = Guard::new(&bundle);
    link_dev(&bundle, &guard.canary);
    let said = bundle.run();
    assert!(said.code != 0 || said.out == "character special file 1:3\n", "{said:?}");
    guard.unchanged_and_empty(&bundle);
}

#[test]
fn a_link_that_climbs_out_of_the_image_stays_in_it() {
    let bundle = Bundle::new(&["true"]).with(|config| without_mount(config, "/dev"));
    let guard = Guard::new(&bundle);
    fs::remove_dir_all(bundle.rootfs().join("dev")).unwrap();
    std::os::unix::fs::symlink("../canary", bundle.rootfs().join("dev")).unwrap();
    bundle.run();
    guard.unchanged_and_empty(&bundle);
}

#[test]
fn devices_do_not_land_in_a_volume_that_the_link_points_to() {
    let bundle = Bundle::new(&["true"]);
    let guard = Guard::new(&bundle);
    link_dev(&bundle, Path::new("/data"));
    let bundle = bundle.with(|config| add_mount(config, "bind", &guard.canary, "/data"));
    bundle.run();
    guard.unchanged_and_empty(&bundle);
    control(&bundle, &guard, |_| false);
}
