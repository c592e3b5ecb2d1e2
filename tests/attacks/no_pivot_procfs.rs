//! A container that was started with `--no-pivot` shares its mount namespace with what the host has
//! mounted, out of reach. A procfs or sysfs among it that nothing covers lets root of the container
//! mount one of his own in a nested user namespace, without the container's masks
//! (`mount_too_revealing` in the kernel's fs/namespace.c).
//!
//! The mounts are made in namespaces of child processes, which take them along when they end: this
//! process, which removes the bundle's directory, never sees them.

use super::{Guard, add_caps, as_caller, common::Bundle, common::Said, control_with};
use serde_json::json;

/// Prints what it could mount, and `tried` at the end.
const NESTED: &str = "busybox mount -t proc proc /tmp/p && echo proc; \
    busybox mount -t sysfs sysfs /tmp/s && echo sysfs; echo tried";

/// Shell lines in a folder of ours. Each leaves a procfs and a sysfs in the caller's mount
/// namespace.
const PLACES: [(&str, &str); 5] = [
    ("beside", "mkdir p s; mount -t proc proc p; mount -t sysfs sysfs s"),
    ("stacked", "mkdir p; mount -t proc proc $PWD/p; mount -t sysfs sysfs $PWD/p; mount -t proc proc $PWD/p; mount -t tmpfs tmpfs $PWD/p"),
    ("hidden", "mkdir -p a/p a/s; mount -t proc proc a/p; mount -t sysfs sysfs a/s; mount -t tmpfs tmpfs a"),
    ("nested", "mkdir t; mount -t tmpfs tmpfs t; mkdir t/p t/s; mount -t proc proc t/p; mount -t sysfs sysfs t/s"),
    ("named", r#"mkdir 'a b\c' '	x'; mount -t proc proc 'a b\c'; mount -t sysfs sysfs '	x'"#),
];

fn bundle() -> Bundle {
    let bundle = Bundle::new(&["busybox", "unshare", "-U", "-r", "-m", "-p", "-n", "-f", "sh", "-c", NESTED]);
    for dir in ["rootfs/tmp/p", "rootfs/tmp/s", "host"] {
        std::fs::create_dir_all(bundle.dir.join(dir)).unwrap();
    }
    // To map root, user_namespaces(7); engines give it by default.
    bundle.with(|config| add_caps(config, &["CAP_SETFCAP"]))
}

/// What stands before a command that is to have these mounts, in a tmpfs over `host` of the bundle.
fn with_mounts(bundle: &Bundle, lines: &str) -> Vec<String> {
    let host = bundle.dir.join("host");
    let script = format!("mount -t tmpfs tmpfs {0}; (cd {0}; {lines}); exec \"$@\"", host.display());
    let words = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", &script, "sh"];
    words.map(String::from).to_vec()
}

fn run(bundle: &Bundle, before: &[String]) -> Said {
    bundle.write();
    let before: Vec<&str> = before.iter().map(String::as_str).collect();
    as_caller(bundle, &before, &["run", "--no-pivot", "--bundle", bundle.dir.to_str().unwrap(), &bundle.id()])
}

#[test]
fn nothing_of_the_hosts_reveals_a_procfs() {
    for (name, lines) in PLACES {
        let bundle = bundle();
        let guard = Guard::new(&bundle);
        let before = with_mounts(&bundle, lines);
        let said = run(&bundle, &before);
        assert_eq!((said.code, said.out.as_str()), (0, "tried\n"), "{name}: {said:?}");
        let before: Vec<&str> = before.iter().map(String::as_str).collect();
        control_with(&bundle, &guard, |peer| {
            let said = peer.said(&before, &["run", "--no-pivot", "ID"]);
            said.out.contains("proc") || said.out.contains("sysfs")
        });
        guard.unchanged();
    }
}

/// Root of a user namespace cannot detach what it has inherited: it is covered.
#[test]
fn nothing_of_the_hosts_reveals_a_procfs_to_a_container_with_a_user_namespace() {
    for (name, lines) in PLACES {
        let bundle = bundle().with(|config| {
            let maps = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
            config["linux"]["uidMappings"] = maps.clone();
            config["linux"]["gidMappings"] = maps;
            config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        });
        let said = run(&bundle, &with_mounts(&bundle, lines));
        if ["hidden", "stacked"].contains(&name) {
            said.fails(1, &["a procfs or sysfs of the host's would stay"]);
        } else {
            assert_eq!((said.code, said.out.as_str()), (0, "tried\n"), "{name}: {said:?}");
        }
    }
}

/// The mounts outside of the caller's chroot are in the namespace, too, but a process in it is not
/// shown them.
#[test]
fn nothing_outside_of_a_callers_chroot_reveals_a_procfs() {
    let bundle = bundle();
    let keel = std::path::Path::new(super::KEEL).parent().unwrap();
    let lines = format!(
        "mkdir jail p; mount --bind jail jail; mount -t proc proc p; for link in /bin /sbin /lib /lib64; do [ ! -L $link ] || cp -d $link jail; done; \
         for dir in /proc /sys /dev /usr; do mkdir jail$dir; mount --rbind $dir jail$dir; done; \
         for dir in {} {}; do mkdir -p jail$dir; mount --bind $dir jail$dir; done",
        bundle.dir.display(),
        keel.display()
    );
    let mut before = with_mounts(&bundle, &lines);
    before.extend(["chroot".into(), bundle.dir.join("host/jail").display().to_string()]);
    let said = run(&bundle, &before);
    assert_eq!((said.code, said.out.as_str()), (0, "tried\n"), "{said:?}");
}

/// The container itself is whole: it has the mounts that it has after pivot_root, and none of the
/// host's.
#[test]
fn a_container_has_its_own_mounts_alone() {
    let bundle = Bundle::new(&["sh", "-c", "cat /proc/self/mountinfo; ls /proc/self/exe; ls -d /sys/fs /dev/null"]);
    bundle.write();
    let mounts = |said: String| -> Vec<String> {
        let lines = said.lines().map(|line| line.split(' ').nth(4).unwrap_or(line).to_owned());
        lines.collect()
    };
    let pivoted = mounts(bundle.keel(&["run", "ID"]).ok());
    assert!(pivoted.contains(&"/proc".to_owned()), "{pivoted:?}");
    assert_eq!(mounts(bundle.keel(&["run", "--no-pivot", "ID"]).ok()), pivoted);
}
