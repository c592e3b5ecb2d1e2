//! CVE-2025-52565, CVE-2026-88264: the terminal was bound to /dev/console through a link, or a link stood in its place.

use super::{Guard, ROUNDS, common::Bundle, control_with, without_mount};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde_json::json;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// A container with a terminal, in whose /dev only devpts is mounted.
fn bundle() -> Bundle {
    Bundle::new(&["sh", "-c", "tty; echo over > /dev/console"]).with(|config| {
        config["process"]["terminal"] = json!(true);
        without_mount(config, "/dev");
        let options = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"];
        let devpts = json!({ "destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": options });
        config["mounts"].as_array_mut().unwrap().push(devpts);
    })
}

#[test]
fn a_link_in_place_of_the_console_leads_nowhere() {
    let bundle = bundle();
    let guard = Guard::new(&bundle);
    for target in [guard.secret().as_path(), guard.canary.as_path(), Path::new("../../canary/secret"), Path::new("/proc/1/mem")] {
        let console = bundle.rootfs().join("dev/console");
        let _ = fs::remove_file(&console);
        symlink(target, &console).unwrap();
        let said = bundle.run();
        assert!(said.code != 0 || said.out.starts_with("/dev/pts/0") || said.out.starts_with("/dev/console"), "{said:?}");
        guard.unchanged_and_empty(&bundle);
    }
    let console = bundle.rootfs().join("dev/console");
    fs::remove_file(&console).unwrap();
    symlink(guard.secret(), &console).unwrap();
    control_with(&bundle, &guard, |peer| {
        peer.run_on_a_terminal();
        false
    });
}

#[test]
fn nor_does_one_in_place_of_the_multiplexer_or_its_directory() {
    for (path, devpts) in [("dev/ptmx", true), ("dev/pts/ptmx", false), ("dev/pts", false), ("dev/pts", true)] {
        let bundle = bundle().with(|config| {
            if !devpts {
                without_mount(config, "/dev");
            }
        });
        let guard = Guard::new(&bundle);
        let link = bundle.rootfs().join(path);
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        symlink(guard.secret(), &link).unwrap();
        let said = bundle.run();
        assert!(devpts && path == "dev/ptmx" && said.code == 0 || said.code == 1 && !said.err.is_empty(), "{path}: {said:?}");
        guard.unchanged_and_empty(&bundle);
    }
}

#[test]
fn the_hosts_multiplexer_is_not_taken_for_the_containers() {
    let bundle = bundle().with(|config| without_mount(config, "/dev"));
    let guard = Guard::new(&bundle);
    let ptmx = bundle.rootfs().join("dev/pts/ptmx");
    fs::create_dir_all(ptmx.parent().unwrap()).unwrap();
    // A device node of the image with the number of the multiplexer is on no devpts.
    rustix::fs::mknodat(rustix::fs::CWD, &ptmx, rustix::fs::FileType::CharacterDevice, 0o666.into(), rustix::fs::makedev(5, 2)).unwrap();
    bundle.run().fails(1, &["open a terminal"]);
    guard.unchanged_and_empty(&bundle);
}

/// Another container that shares the root swaps the console for a link while the terminal is bound to it.
#[test]
fn nor_one_that_takes_the_place_of_the_console_meanwhile() {
    let bundle = bundle();
    let guard = Guard::new(&bundle);
    let (console, link) = (bundle.rootfs().join("dev/console"), bundle.rootfs().join("dev/link"));
    fs::write(&console, "").unwrap();
    symlink(guard.canary.join("made"), &link).unwrap();
    let stop = AtomicBool::new(false);
    let mut ran = 0;
    std::thread::scope(|scope| {
        let swapping = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                renameat_with(CWD, &console, CWD, &link, RenameFlags::EXCHANGE).unwrap();
            }
        });
        let outcome = std::panic::catch_unwind(|| {
            let ran = (0..ROUNDS / 2).filter(|_| bundle.run().code == 0).count();
            guard.unchanged_and_empty(&bundle);
            ran
        });
        stop.store(true, Ordering::Relaxed);
        swapping.join().unwrap();
        ran = outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    assert!(ran > 0, "no container ran, so no console was bound");
}
