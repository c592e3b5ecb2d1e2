//! The cases: the feature as docs/kernel.md calls it, what an older kernel says in its place, and what keel makes of that.

use crate::common::Bundle;
use crate::hide::{Call, Hide};
use rustix::io::Errno;
use serde_json::{Value, json};
use std::os::unix::net::UnixListener;

pub struct Case {
    /// First column of the table.
    pub row: &'static str,
    /// What tells this case from others of the row.
    pub name: &'static str,
    pub hide: &'static [Hide],
    pub host: Host,
    /// Changes to the sample configuration.
    pub set: fn(&mut Bundle),
    /// The shell line that the container runs.
    pub program: &'static str,
    pub what: What,
    /// What is printed where nothing is hidden.
    pub prints: &'static str,
    pub expect: Expect,
}

/// Whose cgroups the case is about.
#[derive(PartialEq)]
pub enum Host {
    Any,
    /// Plain or hybrid.
    V1,
    V2,
}

/// The command on the older kernel.
pub enum What {
    /// `run`; whatever comes of it, nothing is left.
    Run,
    /// Another that makes the container.
    Start(&'static [&'static str]),
    /// This one, with a container that was made before.
    After(&'static [&'static str]),
}

#[derive(Debug)]
pub enum Expect {
    /// Exit code 0, and this on stdout.
    Works(&'static str),
    /// A failure, and one line on stderr with all of this.
    Says(&'static [&'static str]),
    /// The same, on every kernel.
    Anywhere(&'static [&'static str]),
}

use Expect::{Anywhere, Says, Works};
use Hide::{File, When};
use What::{After, Run, Start};

/// `clone3` flags, the first member of its structure.
const INTO_CGROUP: u64 = 0x2_0000_0000;
/// bpf(2) commands and flags.
const PROG_ATTACH: u64 = 8;
/// A command of fsconfig(2).
const FSCONFIG_SET_FD: u64 = 5;
const TIOCGPTPEER: u64 = 0x5441;

const SIMPLE: Case = Case {
    row: "",
    name: "",
    hide: &[],
    host: Host::Any,
    set: |_| {},
    program: "echo ran",
    what: Run,
    prints: "ran",
    expect: Works("ran"),
};
/// A container that stays, and a command.
const STAYS: Case = Case { program: "echo up; exec sleep 1000", ..SIMPLE };
const EXEC: Case = Case { what: After(&["exec", "ID", "echo", "ran"]), ..STAYS };
const PAUSE: Case = Case { what: After(&["pause", "ID"]), prints: "", ..STAYS };
/// Nobody else would end the children of the container's first process.
const KILL_ALL: Case = Case {
    set: |bundle| namespaces(bundle).retain(|namespace| namespace["type"] != "pid"),
    program: "sleep 1000 & sleep 1001 & echo up; exec sleep 1002",
    what: After(&["kill", "--all", "ID", "KILL"]),
    prints: "",
    expect: Works(""),
    ..STAYS
};
const KILL: Case = Case { what: After(&["kill", "ID", "KILL"]), prints: "", ..STAYS };

const fn lacks(name: &'static str) -> Hide {
    Hide::Call(name, Errno::NOSYS)
}

const fn refuses(name: &'static str, applies: fn(&Call) -> bool) -> Hide {
    When(name, Errno::INVAL, applies)
}

fn seccomp(bundle: &mut Bundle, flags: Value, action: &str) {
    bundle.config["linux"]["seccomp"] =
        json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": flags, "syscalls": [{"names": ["mkdirat"], "action": action}]});
}

/// An agent that takes the listener and lets every call wait until the container is gone: none is made.
fn agent(bundle: &mut Bundle, names: Value) {
    seccomp(bundle, json!([]), "SCMP_ACT_NOTIFY");
    bundle.config["linux"]["seccomp"]["syscalls"][0]["names"] = names;
    let path = bundle.dir.join("agent.sock");
    bundle.config["linux"]["seccomp"]["listenerPath"] = json!(path);
    let socket = UnixListener::bind(path).unwrap();
    std::thread::spawn(move || {
        let Ok((mut stream, _)) = socket.accept() else { return };
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
    });
}

fn namespaces(bundle: &mut Bundle) -> &mut Vec<Value> {
    bundle.config["linux"]["namespaces"].as_array_mut().unwrap()
}

fn own_cgroup_namespace(bundle: &mut Bundle) {
    namespaces(bundle).retain(|namespace| namespace["type"] != "cgroup");
    namespaces(bundle).push(json!({"type": "cgroup"}));
}

fn mounts(bundle: &mut Bundle) -> &mut Vec<Value> {
    bundle.config["mounts"].as_array_mut().unwrap()
}

/// A bind mount of a directory of the bundle at /data.
fn volume(bundle: &mut Bundle, more: Value) {
    std::fs::create_dir(bundle.dir.join("data")).unwrap();
    let mut mount = json!({"destination": "/data", "type": "bind", "source": "data", "options": ["bind"]});
    mount.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    mounts(bundle).push(mount);
}

pub const CASES: &[Case] = &[
    Case {
        row: "one clone with a pidfd",
        hide: &[lacks("clone3")],
        expect: Says(&["clone the container's process", "function not implemented"]),
        ..SIMPLE
    },
    Case {
        row: "born in the cgroup",
        hide: &[refuses("clone3", |call| call.word(0, 0) & INTO_CGROUP != 0)],
        expect: Says(&["clone the container's process", "invalid argument"]),
        host: Host::V2,
        ..SIMPLE
    },
    Case {
        row: "born in the cgroup",
        name: "exec into one with domain controllers",
        hide: &[When("clone3", Errno::BUSY, |call| {
            call.word(0, 0) & INTO_CGROUP != 0 && !call.opened(call.word(0, 10)).ends_with("below")
        })],
        set: |bundle| {
            let cgroup = mounts(bundle).iter_mut().find(|mount| mount["type"] == "cgroup").unwrap();
            cgroup["options"] = json!(["rw"]);
            own_cgroup_namespace(bundle);
        },
        program: "mkdir /sys/fs/cgroup/below && echo 1 > /sys/fs/cgroup/below/cgroup.procs && echo up && exec sleep 1000",
        host: Host::V2,
        ..EXEC
    },
    Case { row: "cgroup v1 entry", hide: &[File("tasks")], host: Host::V1, expect: Says(&["open the cgroup", "no such file"]), ..SIMPLE },
    Case { row: "paths inside the root", hide: &[lacks("openat2")], expect: Says(&["function not implemented"]), ..SIMPLE },
    Case {
        row: "mounts by descriptor",
        name: "open_tree",
        hide: &[lacks("open_tree")],
        expect: Says(&["function not implemented"]),
        ..SIMPLE
    },
    Case {
        row: "mounts by descriptor",
        name: "move_mount",
        hide: &[lacks("move_mount")],
        expect: Says(&["attach the root file system", "function not implemented"]),
        ..SIMPLE
    },
    Case {
        row: "mounts by descriptor",
        name: "fsopen",
        hide: &[lacks("fsopen")],
        expect: Says(&["mount ", "function not implemented"]),
        ..SIMPLE
    },
    Case {
        row: "mounts by descriptor",
        name: "fsconfig",
        hide: &[lacks("fsconfig")],
        expect: Says(&["mount ", "function not implemented"]),
        ..SIMPLE
    },
    Case {
        row: "mounts by descriptor",
        name: "fsmount",
        hide: &[lacks("fsmount")],
        expect: Says(&["mount ", "function not implemented"]),
        ..SIMPLE
    },
    Case {
        row: "mount attributes and propagation",
        hide: &[lacks("mount_setattr")],
        expect: Says(&["keep mounts from reaching the host: function not implemented"]),
        ..SIMPLE
    },
    Case {
        row: "`nosymfollow`",
        hide: &[refuses("mount_setattr", |call| call.word(3, 0) & libc::MOUNT_ATTR_NOSYMFOLLOW != 0)],
        set: |bundle| volume(bundle, json!({"options": ["bind", "nosymfollow"]})),
        expect: Says(&["/data", "invalid argument", "mounts["]),
        ..SIMPLE
    },
    Case {
        row: "sysfs without a network namespace of its own",
        hide: &[When("fsopen", Errno::PERM, |call| call.text(0) == "sysfs")],
        set: |bundle| namespaces(bundle).retain(|namespace| namespace["type"] != "network"),
        program: "test -d /sys/kernel && echo ran",
        ..SIMPLE
    },
    Case {
        row: "cgroup2 where a new one is refused",
        name: "EPERM",
        hide: &[When("fsopen", Errno::PERM, |call| call.text(0) == "cgroup2")],
        host: Host::V2,
        set: own_cgroup_namespace,
        program: "test -e /sys/fs/cgroup/cgroup.procs && echo ran",
        ..SIMPLE
    },
    Case {
        row: "procfs of a joined pid namespace",
        hide: &[refuses("fsconfig", |call| call.args[1] == FSCONFIG_SET_FD)],
        set: |bundle| {
            let pids = namespaces(bundle).iter_mut().find(|ns| ns["type"] == "pid").unwrap();
            pids["path"] = json!("/proc/self/ns/pid");
        },
        program: "test -e /proc/$$/stat && echo ran",
        ..SIMPLE
    },
    Case {
        row: "procfs for sysctls",
        hide: &[When("fsopen", Errno::PERM, |call| call.text(0) == "proc")],
        set: |bundle| {
            mounts(bundle).retain(|mount| mount["destination"] != "/proc");
            mounts(bundle).push(json!({"destination": "/proc", "type": "bind", "source": "/proc", "options": ["rbind"]}));
            namespaces(bundle).retain(|namespace| namespace["type"] != "pid");
            bundle.config["linux"]["sysctl"] = json!({"kernel.msgmax": "4321"});
        },
        program: "cat /proc/sys/kernel/msgmax",
        prints: "4321",
        expect: Works("4321"),
        ..SIMPLE
    },
    Case {
        row: "device nodes",
        hide: &[Hide::Call("mknodat", Errno::PERM)],
        program: "echo > /dev/null && test -c /dev/zero && echo ran",
        ..SIMPLE
    },
    Case {
        row: "our own executable, read-only",
        name: "ENOSYS",
        hide: &[When("open_tree", Errno::NOSYS, |call| call.text(1) == "/proc/self/exe")],
        ..SIMPLE
    },
    Case {
        row: "our own executable, read-only",
        name: "EPERM",
        hide: &[When("open_tree", Errno::PERM, |call| call.text(1) == "/proc/self/exe")],
        ..SIMPLE
    },
    Case {
        row: "nothing left open",
        hide: &[When("close_range", Errno::NOSYS, |call| call.args[2] == 0)],
        expect: Says(&["close", "function not implemented"]),
        ..SIMPLE
    },
    Case {
        row: "… and marked close-on-exec",
        hide: &[refuses("close_range", |call| call.args[2] != 0)],
        expect: Says(&["mark inherited descriptors close-on-exec", "invalid argument"]),
        ..SIMPLE
    },
    Case {
        row: "a process by descriptor",
        name: "pidfd_open",
        hide: &[lacks("pidfd_open")],
        expect: Says(&["container not running"]),
        ..KILL
    },
    Case {
        row: "a process by descriptor",
        name: "pidfd_send_signal",
        hide: &[lacks("pidfd_send_signal")],
        expect: Says(&["function not implemented"]),
        ..KILL
    },
    Case {
        row: "waiting for it",
        hide: &[refuses("waitid", |call| call.args[0] == 3)],
        expect: Says(&["ask for the child's state: invalid argument"]),
        ..SIMPLE
    },
    Case {
        row: "all namespaces of a process at once",
        hide: &[refuses("setns", |call| call.args[1].count_ones() > 1)],
        expect: Says(&["join", "invalid argument"]),
        ..EXEC
    },
    Case { row: "kill a cgroup", name: "v1 freezer", hide: &[File("cgroup.kill")], host: Host::V1, ..KILL_ALL },
    Case { row: "kill a cgroup", name: "v2 freezer", hide: &[File("cgroup.kill")], host: Host::V2, ..KILL_ALL },
    Case { row: "kill a cgroup", name: "no freezer", hide: &[File("cgroup.kill"), File("cgroup.freeze")], host: Host::V2, ..KILL_ALL },
    Case {
        row: "news of OOM kills",
        hide: &[File("memory.oom_control"), File("memory.events")],
        program: "echo up; exec sleep 2",
        what: After(&["events", "--interval", "1s", "ID"]),
        prints: "\"stats\"",
        expect: Works("\"stats\""),
        ..SIMPLE
    },
    Case {
        row: "freezer of v2",
        hide: &[File("cgroup.freeze")],
        host: Host::V2,
        expect: Says(&["write 1 to cgroup.freeze: no such file or directory"]),
        ..PAUSE
    },
    Case { row: "freezer of v1", hide: &[File("freezer.state")], host: Host::V1, expect: Says(&["freeze"]), ..PAUSE },
    Case {
        row: "device rules on v2",
        hide: &[Hide::Call("bpf", Errno::INVAL)],
        host: Host::V2,
        expect: Says(&["attach the device rules to"]),
        ..SIMPLE
    },
    Case {
        row: "… replaced without a gap",
        hide: &[refuses("bpf", |call| call.args[0] == PROG_ATTACH && call.word(1, 2) & 0xffff_ffff != 0)],
        host: Host::V2,
        // The cgroup of a stopped container keeps its program, and is taken over.
        set: |bundle| bundle.config["linux"]["cgroupsPath"] = json!(format!("/{}", bundle.id())),
        program: "echo up",
        what: After(&["run", "second"]),
        prints: "up",
        expect: Works("up"),
        ..SIMPLE
    },
    Case { row: "access as the program will have it", hide: &[lacks("faccessat2")], ..SIMPLE },
    Case {
        row: "time namespace",
        hide: &[refuses("unshare", |call| call.args[0] & 0x80 != 0)],
        set: |bundle| {
            namespaces(bundle).push(json!({"type": "time"}));
            bundle.config["linux"]["timeOffsets"] = json!({"boottime": {"secs": 1000}});
        },
        expect: Says(&["create the namespaces: time", "invalid argument"]),
        ..SIMPLE
    },
    Case {
        row: "cgroup namespace",
        hide: &[refuses("unshare", |call| call.args[0] & libc::CLONE_NEWCGROUP as u64 != 0)],
        set: own_cgroup_namespace,
        expect: Says(&["create the namespaces: cgroup", "invalid argument"]),
        ..SIMPLE
    },
    Case {
        row: "seccomp",
        hide: &[lacks("seccomp")],
        set: |bundle| seccomp(bundle, json!([]), "SCMP_ACT_ERRNO"),
        expect: Says(&["load the seccomp filter", "function not implemented"]),
        ..SIMPLE
    },
    Case {
        row: "… its flags and actions",
        hide: &[refuses("seccomp", |call| call.args[1] & libc::SECCOMP_FILTER_FLAG_LOG != 0)],
        set: |bundle| seccomp(bundle, json!(["SECCOMP_FILTER_FLAG_LOG"]), "SCMP_ACT_ERRNO"),
        expect: Says(&["load the seccomp filter", "invalid argument", "linux.seccomp"]),
        ..SIMPLE
    },
    Case {
        row: "… its listener",
        hide: &[Hide::Call("seccomp", Errno::INVAL)],
        set: |bundle| agent(bundle, json!(["mkdirat"])),
        expect: Says(&["invalid argument", "linux.seccomp"]),
        ..SIMPLE
    },
    // An older listener cannot be played: the container's would be the second of its filters. That calls cannot be answered is
    // shown by `seccomp_watch`.
    Case {
        row: "… answered by keel",
        name: "no listener at all",
        hide: &[Hide::Call("seccomp", Errno::INVAL)],
        set: |bundle| seccomp(bundle, json!([]), "SCMP_ACT_ERRNO"),
        what: Start(&["run", "--seccomp-log", "ID"]),
        expect: Says(&["invalid argument", "linux.seccomp"]),
        ..SIMPLE
    },
    Case {
        row: "… where the profile does not permit `sendmsg`",
        hide: &[lacks("pidfd_getfd")],
        set: |bundle| agent(bundle, json!(["sendmsg"])),
        expect: Says(&["function not implemented", "linux.seccomp.listenerPath"]),
        ..SIMPLE
    },
    Case {
        row: "idmapped mounts",
        hide: &[refuses("mount_setattr", |call| call.word(3, 0) & libc::MOUNT_ATTR_IDMAP != 0)],
        set: |bundle| {
            let map = json!([{"containerID": 0, "hostID": 100_000, "size": 10}]);
            volume(bundle, json!({"options": ["bind", "idmap"], "uidMappings": map, "gidMappings": map}));
        },
        expect: Says(&["open the mount source", "idmapped", "invalid argument"]),
        ..SIMPLE
    },
    Case {
        row: "scheduling",
        name: "scheduler",
        hide: &[lacks("sched_setattr")],
        set: |bundle| bundle.config["process"]["scheduler"] = json!({"policy": "SCHED_BATCH"}),
        expect: Says(&["function not implemented", "process.scheduler"]),
        ..SIMPLE
    },
    Case {
        row: "scheduling",
        name: "ioPriority",
        hide: &[lacks("ioprio_set")],
        set: |bundle| bundle.config["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_IDLE", "priority": 0}),
        expect: Says(&["function not implemented", "process.ioPriority"]),
        ..SIMPLE
    },
    Case {
        row: "scheduling",
        name: "affinity",
        hide: &[lacks("sched_setaffinity")],
        set: |bundle| bundle.config["process"]["execCPUAffinity"] = json!({"initial": "0"}),
        expect: Says(&["function not implemented", "process.execCPUAffinity"]),
        ..EXEC
    },
    Case {
        row: "memory policy",
        hide: &[Hide::Call("set_mempolicy", Errno::INVAL)],
        set: |bundle| bundle.config["linux"]["memoryPolicy"] = json!({"mode": "MPOL_PREFERRED_MANY", "nodes": "0"}),
        expect: Says(&["invalid argument", "linux.memoryPolicy"]),
        ..SIMPLE
    },
    Case {
        row: "network devices",
        hide: &[When("socket", Errno::AFNOSUPPORT, |call| call.args[0] == libc::AF_NETLINK as u64)],
        set: |bundle| bundle.config["linux"]["netDevices"] = json!({"nosuch0": {}}),
        expect: Anywhere(&["(config.json: linux.netDevices"]),
        ..SIMPLE
    },
    Case {
        row: "the terminal's other end",
        hide: &[When("ioctl", Errno::NOTTY, |call| call.args[1] == TIOCGPTPEER)],
        set: |bundle| {
            bundle.config["process"]["terminal"] = json!(true);
            let socket = UnixListener::bind(bundle.dir.join("console.sock")).unwrap();
            std::thread::spawn(move || std::io::copy(&mut socket.accept().unwrap().0, &mut std::io::sink()));
        },
        what: Start(&["run", "--detach", "--console-socket", "console.sock", "ID"]),
        prints: "",
        expect: Says(&["terminal"]),
        ..STAYS
    },
    Case {
        row: "ambient capabilities",
        hide: &[refuses("prctl", |call| call.args[0] == libc::PR_CAP_AMBIENT as u64)],
        set: |bundle| {
            for set in ["bounding", "effective", "permitted", "inheritable", "ambient"] {
                bundle.config["process"]["capabilities"][set] = json!(["CAP_KILL"]);
            }
        },
        expect: Says(&["ambient", "invalid argument"]),
        ..SIMPLE
    },
    Case { row: "session keyring", hide: &[lacks("keyctl")], ..SIMPLE },
    Case {
        row: "id maps of up to 340 lines",
        set: |bundle| {
            let map: Vec<_> = (0..341).map(|id| json!({"containerID": id, "hostID": 100_000 + id, "size": 1})).collect();
            namespaces(bundle).push(json!({"type": "user"}));
            bundle.config["linux"]["uidMappings"] = json!(map);
            bundle.config["linux"]["gidMappings"] = json!(map);
        },
        expect: Anywhere(&["340", "linux.uidMappings"]),
        ..SIMPLE
    },
];
