//! CVE-2026-115521: a read-only remount that was deferred went through the container's own /proc/self/fd, over which the
//! image had mounted something else, and the root stayed writable.

use super::{Guard, add_mount, common::Bundle, control};
use serde_json::json;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

const TRY: &str = "for f in /new /etc/passwd /bin/new /vol/../new; do touch $f 2>/dev/null && echo wrote $f; done; echo tried";

fn read_only() -> Bundle {
    Bundle::new(&["sh", "-c", TRY]).with(|config| config["root"]["readonly"] = json!(true))
}

#[test]
fn the_root_is_read_only_with_volumes_and_links_in_it() {
    let bundle = read_only();
    let guard = Guard::new(&bundle);
    let volume = bundle.dir.join("volume");
    fs::create_dir(&volume).unwrap();
    symlink("/", volume.join("root")).unwrap();
    let bundle = bundle.with(|config| {
        add_mount(config, "bind", &volume, "/vol");
        add_mount(config, "tmpfs", Path::new("tmpfs"), "/vol/root/tmp");
    });
    assert_eq!(bundle.run().ok(), "tried\n");
    guard.unchanged_and_empty(&bundle);
    control(&bundle, &guard, |said| said.out.contains("wrote"));
}

#[test]
fn nothing_is_mounted_over_the_descriptors_in_proc() {
    for (link, destination) in [(None, "/proc/self/fd"), (Some("/proc/self"), "/link/fd"), (Some("/proc/thread-self/fd"), "/link")] {
        let bundle = read_only();
        let guard = Guard::new(&bundle);
        if let Some(target) = link {
            symlink(target, bundle.rootfs().join("link")).unwrap();
        }
        let bundle = bundle.with(|config| add_mount(config, "bind", &guard.canary, destination));
        let said = bundle.run();
        assert_eq!(said.out, "", "{destination}: {said:?}");
        said.fails(1, &["/proc"]);
        guard.unchanged_and_empty(&bundle);
    }
}
