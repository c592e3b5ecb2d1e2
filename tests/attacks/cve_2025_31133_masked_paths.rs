//! CVE-2025-31133: the image's /dev/null was bound over masked paths: swapped for a link, it unmasked them.

use super::{CONTROL_ROUNDS, Guard, ROUNDS, common::Bundle, common::Said, control, control_with, without_mount};
use rustix::fs::{CWD, FileType, RenameFlags, makedev, mknodat, renameat_with};
use serde_json::json;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

const MASKED: [&str; 4] = ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/etc/shadow"];

/// A container that prints the type and device number of each masked file; `/dev` is the image's own.
fn bundle() -> Bundle {
    let bundle = Bundle::new(&["sh", "-c", "stat -c '%n %F %t:%T' $MASKED"]).with(|config| {
        without_mount(config, "/dev");
        config["linux"]["maskedPaths"] = json!(MASKED);
        let present = MASKED.iter().filter(|path| !path.starts_with("/proc") || Path::new(path).exists());
        let names = present.copied().collect::<Vec<_>>().join(" ");
        config["process"]["env"].as_array_mut().unwrap().push(json!(format!("MASKED={names}")));
    });
    fs::create_dir_all(bundle.rootfs().join("etc")).unwrap();
    fs::write(bundle.rootfs().join("etc/shadow"), "root:*\n").unwrap();
    bundle
}

/// Whether one of the masked files was another than the null device.
fn unmasked(said: &Said) -> bool {
    said.out.lines().any(|line| !line.ends_with(" character special file 1:3"))
}

/// Whether the container ran; then every masked file was the null device.
fn ran_with_masks(said: &Said) -> bool {
    let lines: Vec<_> = said.out.lines().collect();
    let masked = !unmasked(said);
    let all = lines.iter().any(|line| line.starts_with("/etc/shadow ")) && lines.len() >= 2;
    assert!(said.code != 0 && lines.is_empty() || said.code == 0 && all && masked, "{said:?}");
    said.code == 0
}

#[test]
fn masks_are_the_hosts_null_device_when_the_image_has_a_link() {
    let bundle = bundle();
    let guard = Guard::new(&bundle);
    for target in [guard.secret().as_path(), Path::new("/etc/passwd"), Path::new("../proc/sys/kernel/core_pattern")] {
        let null = bundle.rootfs().join("dev/null");
        let _ = fs::remove_file(&null);
        std::os::unix::fs::symlink(target, &null).unwrap();
        ran_with_masks(&bundle.run());
        guard.unchanged_and_empty(&bundle);
    }
    control(&bundle, &guard, |said| said.code == 0 && unmasked(said));
}

#[test]
fn or_a_file_or_another_device() {
    let bundle = bundle();
    let guard = Guard::new(&bundle);
    let null = bundle.rootfs().join("dev/null");
    fs::write(&null, "not a device\n").unwrap();
    ran_with_masks(&bundle.run());
    fs::remove_file(&null).unwrap();
    mknodat(CWD, &null, FileType::CharacterDevice, 0o666.into(), makedev(1, 5)).unwrap();
    ran_with_masks(&bundle.run());
    guard.unchanged_and_empty(&bundle);
}

#[test]
fn masks_hold_while_the_images_null_device_is_being_swapped() {
    let bundle = bundle();
    let guard = Guard::new(&bundle);
    let (null, link) = (bundle.rootfs().join("dev/null"), bundle.rootfs().join("dev/link"));
    mknodat(CWD, &null, FileType::CharacterDevice, 0o666.into(), makedev(1, 3)).unwrap();
    std::os::unix::fs::symlink(guard.secret(), &link).unwrap();
    let stop = AtomicBool::new(false);
    let mut ran = 0;
    std::thread::scope(|scope| {
        let swapping = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                renameat_with(CWD, &null, CWD, &link, RenameFlags::EXCHANGE).unwrap();
            }
        });
        // A failed assertion must not leave the other thread running.
        let outcome = std::panic::catch_unwind(|| {
            let ran = (0..ROUNDS).filter(|_| ran_with_masks(&bundle.run())).count();
            guard.unchanged_and_empty(&bundle);
            ran
        });
        control_with(&bundle, &guard, |peer| (0..CONTROL_ROUNDS).any(|_| unmasked(&peer.said(&[], &["run", "ID"]))));
        stop.store(true, Ordering::Relaxed);
        swapping.join().unwrap();
        ran = outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    assert!(ran > 0, "no container ran, so no mask was looked at");
}
