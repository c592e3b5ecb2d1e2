//! Trees deeper than a path can name: what containers and volumes hold is counted and removed all
//! the same, with 1024 descriptors.

use crate::common::{Said, eventually};
use crate::host::Host;
use rustix::fd::OwnedFd;
use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

const LEVELS: usize = 1200;

/// Bytes of the file at the bottom.
const BYTES: u64 = 50_000_000;

/// Makes a tree of so many levels below a directory, with a file of holes at its end. How a hundred
/// thousand levels go is in `tests/images/trees.rs`.
fn deep(dir: &Path) {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut at: OwnedFd = openat(CWD, dir, flags, Mode::empty()).unwrap();
    for _ in 0..LEVELS {
        mkdirat(&at, c"directory", Mode::RWXU).unwrap();
        at = openat(&at, c"directory", flags, Mode::empty()).unwrap();
    }
    let file = openat(&at, c"file", OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC, Mode::RUSR).unwrap();
    rustix::fs::ftruncate(file, BYTES).unwrap();
}

/// A command that may have 1024 open files, whatever the test may have.
fn limited(host: &Host, args: &[&str]) -> Said {
    let command = host.command(args);
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -Sn 1024 && ulimit -Hn 1024 && exec \"$@\"", "sh"]).arg(command.get_program()).args(command.get_args());
    Said::of(limited.stdin(Stdio::null()).output().unwrap())
}

#[test]
fn a_deep_container_is_counted_and_removed() {
    let host = Host::new();
    for name in ["one", "two"] {
        host.run(&["--name", name, "busybox", "true"]).ok();
        deep(&host.container(name).join("upper"));
        let said = limited(&host, &["ps", "-as", "--filter", &format!("name={name}"), "--format", "{{.Size}}"]).ok();
        assert!(said.starts_with("50MB"), "{said}");
        let said = limited(&host, &["system", "df", "--format", "{{.Type}}|{{.Size}}"]).ok();
        assert!(said.contains("Containers|50MB"), "{said}");
        // What goes into an archive has a limit, and a sentence that says so.
        for args in
            [&["export", "-o", "x.tar", name][..], &["commit", name, "x"], &["diff", name], &["cp", &format!("{name}:/directory"), "x"]]
        {
            limited(&host, args).fails(1, &["deeper than 256 directories"]);
        }
        limited(&host, &["rm", name]).ok();
        assert!(!host.root().join("containers").read_dir().unwrap().any(|_| true), "{name}");
    }
    host.my(&["system", "doctor"]).ok();
    host.nothing_left();
}

#[test]
fn deep_volumes_are_counted_and_removed() {
    let host = Host::new();
    let volume = |name: &str| {
        host.ok(&["volume", "create", name]);
        deep(&host.root().join("volumes").join(name).join("_data"));
    };
    let left = || host.names("root/volumes");
    volume("one");
    let said = limited(&host, &["system", "df", "--format", "{{.Type}}|{{.Size}}"]).ok();
    assert!(said.contains("Volumes|50MB"), "{said}");
    limited(&host, &["volume", "rm", "one"]).ok();
    assert!(left().is_empty(), "{:?}", left());
    volume("two");
    let said = limited(&host, &["volume", "prune", "-af"]).ok();
    assert!(said.contains("Total reclaimed space: 50MB"), "{said}");
    assert!(left().is_empty(), "{:?}", left());
    // An anonymous one goes with its container.
    host.run(&["--name", "user", "-v", "/data", "busybox", "true"]).ok();
    let anonymous = host.inspect("user", "{{(index .Mounts 0).Source}}");
    deep(Path::new(&anonymous));
    limited(&host, &["rm", "-v", "user"]).ok();
    assert!(left().is_empty(), "{:?}", left());
    host.nothing_left();
}

#[test]
fn what_a_killed_command_left_is_removed_however_deep() {
    let host = Host::new();
    host.run(&["--name", "stopped", "busybox", "true"]).ok();
    deep(&host.container("stopped").join("upper"));
    limited(&host, &["container", "prune", "-f"]).ok();
    host.ok(&["volume", "create", "data"]);
    let root = host.root();
    let hidden = [root.join("containers/.half"), root.join("volumes/.old.half"), root.join("layers/.half")];
    for path in &hidden {
        fs::create_dir(path).unwrap();
        deep(path);
    }
    let said = limited(&host, &["system", "doctor", "--fix"]).ok();
    assert!(said.contains("3 of 3 mended"), "{said}");
    assert!(hidden.iter().all(|path| !path.exists()));
    hidden.iter().for_each(|path| fs::create_dir(path).unwrap());
    hidden.iter().for_each(|path| deep(path));
    limited(&host, &["system", "prune", "-f", "--volumes"]).ok();
    assert!(hidden.iter().all(|path| !path.exists()));
    host.nothing_left();
}

#[test]
fn a_container_that_goes_with_its_end_takes_its_deep_tree_along() {
    let host = Host::new();
    let line =
        "mkdir -p /a && cd /a && i=0 && while [ $i -lt 3000 ]; do mkdir d && cd -P d || exit 1; i=$((i+1)); done 2>/dev/null; echo $i";
    let args = ["run", "--rm", "--network", "none", "busybox", "sh", "-c", line];
    assert_eq!(limited(&host, &args).ok(), "3000\n");
    eventually("its directory is gone", || host.names("root/containers").is_empty());
    host.nothing_left();
}
