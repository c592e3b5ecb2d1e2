//! CVE-2021-30465, CVE-2024-45310, CVE-2019-18837: a mount's destination was swapped for a link between the look-up and
//! the mount, by another container that shares a volume; the mount, or the directory made for it, was then the host's.

use super::{CONTROL_ROUNDS, Guard, ROUNDS, add_mount, common::Bundle, control_with};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde_json::json;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Starts of a container for each link; a swap takes microseconds, so that each start sees many.
const STARTS: usize = ROUNDS / 3 + 1;

/// A container with a volume at /vol and, below `/vol/d`, which is swapped with a link, mounts whose points have to be
/// made: a tmpfs, a directory and a file.
fn victim(volume: &Path, canary: &Path) -> Bundle {
    let mut bundle = Bundle::new(&["sh", "-c", "grep -e hostile -e canary /proc/self/mountinfo; ls / /proc/1 >/dev/null; echo ran"]);
    let config = &mut bundle.config;
    config["root"]["readonly"] = json!(false);
    add_mount(config, "bind", volume, "/vol");
    add_mount(config, "tmpfs", Path::new("hostile"), "/vol/d/a/b");
    add_mount(config, "bind", &canary.join("dir"), "/vol/d/dir");
    add_mount(config, "bind", &canary.join("secret"), "/vol/d/file");
    bundle
}

/// Mount points, in the container, of what was mounted; none may be below /proc.
fn check(out: &str) {
    for point in out.lines().filter_map(|line| line.split(' ').nth(4)) {
        assert!(!point.starts_with("/proc"), "a mount got into /proc: {out}");
    }
}

fn race(target: &str) {
    let shared = Bundle::new(&["true"]);
    let guard = Guard::new(&shared);
    let target = target.replace("CANARY", guard.canary.to_str().unwrap());
    let volume = shared.dir.join("volume");
    fs::create_dir_all(volume.join("d")).unwrap();
    symlink(&target, volume.join("link")).unwrap();
    let victim = victim(&volume, &guard.canary);
    let (stop, swaps) = (AtomicBool::new(false), AtomicU32::new(0));
    let mut ran = 0;
    std::thread::scope(|scope| {
        let (d, link) = (volume.join("d"), volume.join("link"));
        let (stop, swaps) = (&stop, &swaps);
        let swapping = scope.spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                renameat_with(CWD, &d, CWD, &link, RenameFlags::EXCHANGE).unwrap();
                swaps.fetch_add(1, Ordering::Relaxed);
                // The victim's whole start shall see both states.
                std::thread::yield_now();
            }
        });
        let outcome = std::panic::catch_unwind(|| {
            let starts = (0..STARTS).map(|_| victim.run());
            let ran = starts.filter(|said| said.code == 0).inspect(|said| check(&said.out)).count();
            // Nothing was made where the link leads on the host.
            guard.unchanged();
            ran
        });
        // Only this link leads where a peer that falls does no harm.
        if target.starts_with(guard.canary.to_str().unwrap()) {
            control_with(&victim, &guard, |peer| {
                (0..CONTROL_ROUNDS).any(|_| {
                    peer.said(&[], &["run", "ID"]);
                    guard.canary.join("a").exists()
                })
            });
        }
        stop.store(true, Ordering::Relaxed);
        swapping.join().unwrap();
        ran = outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    let swaps = swaps.into_inner();
    println!("link to {target}: {swaps} swaps, {ran} of {STARTS} containers ran");
    assert!(swaps >= 1000, "only {swaps} swaps: this was no race");
    for name in ["a", "dir", "file"] {
        assert!(!Path::new("/").join(name).exists(), "/{name} was made on the host");
    }
}

#[test]
fn a_destination_swapped_for_a_link_to_the_host_leads_nowhere() {
    race("CANARY");
}

#[test]
fn nor_one_that_climbs() {
    race("../../../../../../../..");
}

#[test]
fn nor_one_into_proc() {
    race("/proc/1");
}
