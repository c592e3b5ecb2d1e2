//! What a container is, as facts: read from outside through its /proc, so that both runtimes are seen by the same eyes.

use procfs::process::{MountInfo, MountOptFields, Process};
use rustix::fs::{major, makedev, minor};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Facts by name: `init uids` → `0 0 0 0`.
pub type Facts = BTreeMap<String, String>;

/// Files of a container's cgroup that limits are written to, v1 and v2.
const LIMITS: &[&str] = &[
    "blkio.bfq.weight",
    "cpu.cfs_period_us",
    "cpu.cfs_quota_us",
    "cpu.max",
    "cpu.shares",
    "cpu.weight",
    "cpuset.cpus",
    "cpuset.mems",
    "devices.list",
    "io.bfq.weight",
    "memory.high",
    "memory.limit_in_bytes",
    "memory.low",
    "memory.max",
    "memory.memsw.limit_in_bytes",
    "memory.oom_control",
    "memory.soft_limit_in_bytes",
    "memory.swap.max",
    "memory.swappiness",
    "pids.max",
];

/// Everything that a process got from its runtime and keeps.
pub fn process(pid: i32) -> Facts {
    let process = Process::new(pid).unwrap();
    let status = process.status().unwrap();
    let stat = process.stat().unwrap();
    let text = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_else(|error| error.to_string());
    let mut facts = Facts::new();
    let mut fact = |name: &str, value: String| facts.insert(name.to_owned(), value);
    fact("uids", format!("{} {} {} {}", status.ruid, status.euid, status.suid, status.fuid));
    fact("gids", format!("{} {} {} {}", status.rgid, status.egid, status.sgid, status.fgid));
    fact("groups", format!("{:?}", status.groups));
    fact("umask", format!("{:04o}", status.umask.unwrap()));
    fact("capabilities inheritable", format!("{:x}", status.capinh));
    fact("capabilities permitted", format!("{:x}", status.capprm));
    fact("capabilities effective", format!("{:x}", status.capeff));
    fact("capabilities bounding", format!("{:x}", status.capbnd.unwrap()));
    fact("capabilities ambient", format!("{:x}", status.capamb.unwrap()));
    fact("no_new_privs", format!("{}", status.nonewprivs.unwrap()));
    fact("seccomp mode", format!("{}", status.seccomp.unwrap()));
    fact("speculative store bypass", status.speculation_store_bypass.unwrap_or_default());
    fact("signals blocked", format!("{:x}", status.sigblk));
    fact("signals ignored", format!("{:x}", status.sigign & STANDARD & !inherited_ignored()));
    fact("cpus", format!("{:?}", status.cpus_allowed_list));
    fact("pid namespaces", format!("{}", status.nspid.unwrap().len()));
    fact("session leader", format!("{}", stat.session == pid));
    fact("process group leader", format!("{}", stat.pgrp == pid));
    fact("terminal", format!("{}", stat.tty_nr));
    fact("nice", format!("{}", stat.nice));
    fact("scheduling policy", format!("{:?}", stat.policy));
    fact("arguments", process.cmdline().unwrap().join(" "));
    fact("executable", process.exe().unwrap().display().to_string());
    fact("cwd", process.cwd().unwrap().display().to_string());
    fact("oom_score_adj", format!("{}", process.oom_score_adj().unwrap()));
    fact("uid_map", words(&text("uid_map")));
    fact("gid_map", words(&text("gid_map")));
    fact("setgroups", words(&text("setgroups")));
    fact("personality", words(&text("personality")));
    for (name, value) in process.environ().unwrap() {
        fact(&format!("env {}", name.to_string_lossy()), value.to_string_lossy().into_owned());
    }
    for line in text("limits").lines().skip(1) {
        fact(&format!("limit {}", line[..26].trim()), words(&line[26..]));
    }
    for fd in process.fd().unwrap() {
        let fd = fd.unwrap();
        fact(&format!("fd {}", fd.fd), format!("{:?} {:?}", fd.target, fd.mode()));
    }
    let own = Process::myself().unwrap().namespaces().unwrap().0;
    for (name, namespace) in process.namespaces().unwrap().0 {
        let kind = if own.get(&name).is_some_and(|own| own.identifier == namespace.identifier) { "the host's" } else { "its own" };
        fact(&format!("namespace {}", name.to_string_lossy()), kind.to_owned());
    }
    for cgroup in process.cgroups().unwrap().0 {
        fact(&format!("cgroup {}", cgroup_name(&cgroup.controllers)), cgroup.pathname);
    }
    facts
}

/// Signals 1 to 31. Of the others the C library takes two for itself, in the tests' process and not in another's.
const STANDARD: u64 = (1 << 31) - 1;

/// Signals that the tests' own caller ignores, which every runtime hands on. Rust's start-up adds SIGPIPE to them in this
/// process, and takes it away in its children.
fn inherited_ignored() -> u64 {
    const SIGPIPE: u64 = 1 << (13 - 1);
    Process::myself().unwrap().status().unwrap().sigign & !SIGPIPE
}

fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn cgroup_name(controllers: &[String]) -> String {
    if controllers.is_empty() { "unified".into() } else { controllers.join(",") }
}

/// Every mount that the process sees; one that lies upon another is named with a plus.
pub fn mounts(pid: i32) -> Facts {
    let mut facts = Facts::new();
    for mount in Process::new(pid).unwrap().mountinfo().unwrap() {
        let point = mount.mount_point.display();
        let mut name = format!("mount {point}");
        while facts.contains_key(&name) {
            name.push('+');
        }
        let null = |metadata: fs::Metadata| metadata.file_type().is_char_device() && metadata.rdev() == makedev(1, 3);
        let masked = fs::symlink_metadata(format!("/proc/{pid}/root{point}")).is_ok_and(null);
        facts.insert(name, if masked { "the null device".to_owned() } else { sentence(&mount) });
    }
    facts
}

/// Options of a file system that a configuration asks for; the others are the kernel's or the host's business.
const ASKED: &[&str] = &["gid", "hidepid", "mode", "ptmxmode", "size", "uid"];

/// Type, source, what of it is shown, what may be done there, the file system's options, and the propagation.
fn sentence(mount: &MountInfo) -> String {
    let list = |options: &mut dyn Iterator<Item = (&String, &Option<String>)>| {
        let all: BTreeSet<String> = options.map(|(k, v)| v.as_ref().map_or(k.clone(), |v| format!("{k}={v}"))).collect();
        all.into_iter().collect::<Vec<_>>().join(",")
    };
    let mut flags: HashMap<String, Option<String>> = mount.mount_options.clone();
    if mount.super_options.contains_key("ro") {
        flags.remove("rw"); // read-only by the mount or by the file system is the same to a program
        flags.insert("ro".into(), None);
    }
    let mut said = format!("{} of {}", mount.fs_type, mount.mount_source.as_deref().unwrap_or_default());
    let asked = list(&mut mount.super_options.iter().filter(|(name, _)| ASKED.contains(&name.as_str())));
    write!(said, " at {}: {}; {asked}", mount.root, list(&mut flags.iter())).unwrap();
    for field in &mount.opt_fields {
        said.push_str(match field {
            MountOptFields::Shared(_) => " shared",
            MountOptFields::Master(_) | MountOptFields::PropagateFrom(_) => " slave",
            MountOptFields::Unbindable => " unbindable",
        });
    }
    said
}

/// The files of a tree, three levels deep: kind, mode, owner, and the device or the target. `/bin` is the test's own.
pub fn files(name: &str, root: &Path) -> Facts {
    let mut facts = Facts::new();
    let mut folders = vec![(root.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().flatten().filter(|entry| entry.file_name() != "bin") {
            let metadata = entry.path().symlink_metadata().unwrap();
            let kind = metadata.file_type();
            let mut said = format!("{:06o} {}:{}", metadata.mode(), metadata.uid(), metadata.gid());
            if kind.is_symlink() {
                write!(said, " → {}", fs::read_link(entry.path()).unwrap().display()).unwrap();
            } else if kind.is_char_device() || kind.is_block_device() {
                write!(said, " device {}:{}", major(metadata.rdev()), minor(metadata.rdev())).unwrap();
            } else if kind.is_dir() && depth < 2 {
                folders.push((entry.path(), depth + 1));
            }
            facts.insert(format!("{name} /{}", entry.path().strip_prefix(root).unwrap().display()), said);
        }
    }
    facts
}

/// What the kernel took into the files of the process's own cgroups; `mark` is part of the path of each of them.
pub fn limits(pid: i32, mark: &str) -> Facts {
    let hierarchies = Process::myself().unwrap().mountinfo().unwrap();
    let mut facts = Facts::new();
    for cgroup in Process::new(pid).unwrap().cgroups().unwrap().0.iter().filter(|cgroup| cgroup.pathname.contains(mark)) {
        let hierarchy = hierarchies.iter().find(|mount| match cgroup.controllers.first() {
            None => mount.fs_type == "cgroup2",
            Some(controller) => mount.fs_type == "cgroup" && mount.super_options.contains_key(controller.trim_start_matches("name=")),
        });
        let Some(hierarchy) = hierarchy else { continue };
        let folder: PathBuf = hierarchy.mount_point.join(cgroup.pathname.trim_start_matches('/'));
        for file in LIMITS {
            if let Ok(text) = fs::read_to_string(folder.join(file)) {
                let lines: BTreeSet<&str> = text.lines().collect(); // devices.list has no order of its own
                facts.insert(format!("cgroup file {file}"), lines.into_iter().collect::<Vec<_>>().join("; "));
            }
        }
    }
    facts
}
