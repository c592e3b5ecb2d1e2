//! How the kernel schedules a container's processes: `process.scheduler`, `ioPriority`, `execCPUAffinity`,
//! `linux.memoryPolicy` and `linux.personality`, read back from the kernel.

mod common;

use common::{Bundle, Census, eventually};
use serde_json::{Value, json};
use std::fs;

/// Fields 41 (policy) and 40 (real-time priority) and 19 (nice) of proc_pid_stat(5).
fn scheduling(pid: i32) -> (u32, u32, i32) {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let number = |field: usize| fields[field - 3].parse::<i64>().unwrap();
    (number(41) as u32, number(40) as u32, number(19) as i32)
}

/// ionice(1) of util-linux reads ioprio_get(2).
fn io_priority(pid: i32) -> String {
    let output = std::process::Command::new("ionice").args(["-p", &pid.to_string()]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().into()
}

fn sleeping() -> Bundle {
    Bundle::new(&["sleep", "1000"])
}

/// pid of the last process of a container, in our pid namespace.
fn pids(bundle: &Bundle) -> Vec<i32> {
    serde_json::from_str(&bundle.keel(&["ps", "--format", "json", "ID"]).ok()).unwrap()
}

#[test]
fn the_scheduling_policy_is_set() {
    for (given, policy, priority, nice) in [
        (json!({"policy": "SCHED_BATCH", "nice": 7}), 3, 0, 7),
        // The nice value has no meaning for this policy and stays the caller's.
        (json!({"policy": "SCHED_IDLE"}), 5, 0, scheduling(std::process::id() as i32).2),
        (json!({"policy": "SCHED_OTHER", "nice": -5}), 0, 0, -5),
        (json!({"policy": "SCHED_OTHER", "nice": 3, "flags": ["SCHED_FLAG_RESET_ON_FORK"]}), 0, 0, 3),
    ] {
        let bundle = sleeping().with(|c| {
            c["process"]["scheduler"] = given.clone();
            c["process"]["user"] = json!({"uid": 1000, "gid": 1000});
        });
        bundle.start();
        assert_eq!(scheduling(bundle.pid()), (policy, priority, nice), "{given}");
        bundle.delete();
    }
}

/// Without a cgroup: with CONFIG_RT_GROUP_SCHED a v1 cpu cgroup has no real-time of its own.
#[test]
fn real_time_is_set_where_the_cgroup_allows_it() {
    let bundle = sleeping().with(|c| c["process"]["scheduler"] = json!({"policy": "SCHED_FIFO", "priority": 42}));
    bundle.write();
    bundle.detached(&["--cgroup-manager", "disabled", "run", "--detach", "--pid-file", "pid", "ID"]).ok();
    assert_eq!(scheduling(bundle.pid()).0, 1);
    assert_eq!(scheduling(bundle.pid()).1, 42);
    bundle.delete();
    Census::of(&bundle).nothing_left(&bundle);
}

/// The parent does it: root of the new namespace may not raise anything.
#[test]
fn priorities_are_kept_in_a_user_namespace() {
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    let user = |path: Option<String>| {
        let bundle = sleeping().with(|c| {
            let namespaces = c["linux"]["namespaces"].as_array_mut().unwrap();
            match path {
                None => {
                    namespaces.push(json!({"type": "user"}));
                    c["linux"]["uidMappings"] = map.clone();
                    c["linux"]["gidMappings"] = map.clone();
                }
                Some(path) => namespaces.push(json!({"type": "user", "path": path})),
            }
            c["process"]["scheduler"] = json!({"policy": "SCHED_BATCH", "nice": -3});
            c["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_RT", "priority": 6});
            c["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 333, "hard": 444}]);
        });
        let owner = (Some(rustix::fs::Uid::from_raw(100_000)), Some(rustix::fs::Gid::from_raw(100_000)));
        rustix::fs::chown(bundle.rootfs(), owner.0, owner.1).unwrap();
        bundle.start();
        assert_eq!(scheduling(bundle.pid()), (3, 0, -3));
        assert_eq!(io_priority(bundle.pid()), "realtime: prio 6");
        let limits = fs::read_to_string(format!("/proc/{}/limits", bundle.pid())).unwrap();
        let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap().split_whitespace().collect::<Vec<_>>();
        assert_eq!(files[3..5], ["333", "444"]);
        bundle
    };
    let first = user(None);
    user(Some(format!("/proc/{}/ns/user", first.pid())));
}

#[test]
fn the_io_priority_is_set_for_the_process_and_what_it_starts() {
    for (class, level, shown) in
        [("IOPRIO_CLASS_BE", 3, "best-effort: prio 3"), ("IOPRIO_CLASS_RT", 5, "realtime: prio 5"), ("IOPRIO_CLASS_IDLE", 0, "idle")]
    {
        let bundle = Bundle::new(&["sh", "-c", "sleep 1000 & exec sleep 1000"])
            .with(|c| c["process"]["ioPriority"] = json!({"class": class, "priority": level}));
        bundle.start();
        eventually("two processes", || pids(&bundle).len() == 2);
        for pid in pids(&bundle) {
            assert_eq!(io_priority(pid), shown);
        }
        bundle.delete();
    }
}

#[test]
fn an_exec_has_priorities_of_its_own() {
    let bundle = sleeping().with(|c| c["process"]["scheduler"] = json!({"policy": "SCHED_BATCH", "nice": 4}));
    bundle.start();
    // What the container was created with, but for what the document says.
    assert_eq!(bundle.sh("awk '{print $41, $19}' /proc/self/stat"), "3 4\n");
    let mut process = bundle.config["process"].clone();
    process["args"] = json!(["awk", "{print $41, $19}", "/proc/self/stat"]);
    process["scheduler"] = json!({"policy": "SCHED_OTHER", "nice": 9});
    fs::write(bundle.dir.join("process.json"), process.to_string()).unwrap();
    assert_eq!(bundle.keel(&["exec", "--process", "process.json", "ID"]).ok(), "0 9\n");
}

/// As in runc: who calls keel may be bound to a CPU, the container is not.
#[test]
fn the_callers_cpus_are_not_the_containers() {
    let all = fs::read_to_string("/proc/self/status").unwrap();
    let all = all.lines().find(|line| line.starts_with("Cpus_allowed_list:")).unwrap().to_owned() + "\n";
    let grep = ["grep", "Cpus_allowed_list:", "/proc/1/status", "-h", "/proc/self/status"];
    let bundle = sleeping();
    bundle.write();
    let bound = |args: &[&str]| {
        let keel = bundle.command(args);
        let mut command = std::process::Command::new("taskset");
        command.args(["-c", "0"]).arg(keel.get_program()).args(keel.get_args()).current_dir(&bundle.dir).stdin(std::process::Stdio::null());
        common::Said::of(command.output().unwrap())
    };
    let id = bundle.id();
    let started = std::process::Command::new("taskset")
        .args(["-c", "0", common::KEEL, "--root"])
        .arg(bundle.state_root())
        .args(["run", "--detach", &id])
        .current_dir(&bundle.dir)
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status();
    assert!(started.unwrap().success());
    let exec: Vec<&str> = ["exec", &id].into_iter().chain(grep).collect();
    assert_eq!(bound(&exec).ok(), format!("{all}{all}"));
}

fn exec_on(bundle: &Bundle, affinity: &Value) -> String {
    let mut process = bundle.config["process"].clone();
    process["args"] = json!(["sh", "-c", "grep Cpus_allowed_list /proc/self/status /proc/1/status | cut -f2"]);
    process["execCPUAffinity"] = affinity.clone();
    fs::write(bundle.dir.join("process.json"), process.to_string()).unwrap();
    bundle.keel(&["exec", "--process", "process.json", "ID"]).ok().replace('\n', " ")
}

fn before_6_2() -> bool {
    let uname = rustix::system::uname();
    let release = uname.release().to_str().unwrap();
    let mut numbers = release.split(['.', '-']).map(|n| n.parse::<u32>().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap()) < (6, 2)
}

/// The machine may have a single CPU: then the lists are equal and only the refusals tell something.
#[test]
fn an_exec_runs_on_the_final_cpus_and_the_first_process_does_not() {
    let all = fs::read_to_string("/proc/self/status").unwrap();
    let all = all.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:\t")).unwrap().to_owned();
    let bundle = sleeping().with(|c| c["process"]["execCPUAffinity"] = json!({"initial": "0", "final": "0"}));
    bundle.start();
    assert_eq!(exec_on(&bundle, &json!({"final": "0"})), format!("0 {all} "));
    assert_eq!(exec_on(&bundle, &json!({"initial": "0", "final": all})), format!("{all} {all} "));
    assert_eq!(exec_on(&bundle, &json!({})), format!("{all} {all} "), "those of the cpuset");
    let left = exec_on(&bundle, &json!({"initial": "0"}));
    // Before Linux 6.2 a cpuset of cgroup v1 gives whoever enters it all of its CPUs.
    assert!(left == format!("0 {all} ") || before_6_2() && left == format!("{all} {all} "), "{left}");
    let said = bundle.keel(&["--debug", "exec", "--process", "process.json", "ID"]).fails(0, &["affinity: 0x1"]);
    assert!(!said.contains("CPU of the cpuset"), "what the cgroup leaves is left: {said}");
    assert_eq!(
        bundle.sh("grep Cpus_allowed_list /proc/self/status | cut -f2"),
        "0\n",
        "an exec without a document takes the configuration's"
    );
    let mut process = bundle.config["process"].clone();
    process["args"] = json!(["true"]);
    process["execCPUAffinity"] = json!({"final": "900-1000"});
    fs::write(bundle.dir.join("process.json"), process.to_string()).unwrap();
    bundle
        .keel(&["exec", "--process", "process.json", "ID"])
        .fails(255, &["CPUs", "process.execCPUAffinity", "invalid argument", "cpuset"]);
    process["execCPUAffinity"] = json!({"initial": "1-0"});
    fs::write(bundle.dir.join("process.json"), process.to_string()).unwrap();
    bundle.keel(&["exec", "--process", "process.json", "ID"]).fails(255, &["range 1-0, which is empty", "process.execCPUAffinity.initial"]);
}

/// The initial CPUs are keel's own while it makes the process.
#[test]
fn keel_goes_to_the_initial_cpus() {
    let bundle = sleeping().with(|c| c["process"]["execCPUAffinity"] = json!({"initial": "0"}));
    bundle.start();
    let mut child = bundle.command(&["exec", &bundle.id(), "sleep", "1000"]).spawn().unwrap();
    eventually("the exec", || pids(&bundle).len() == 2);
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    assert!(status.contains("\nCpus_allowed_list:\t0\n"), "{status}");
    bundle.delete();
    child.wait().unwrap();
}

#[test]
fn the_memory_policy_is_that_of_every_process() {
    let policy = |given: Value| sleeping().with(|c| c["linux"]["memoryPolicy"] = given);
    let mapped = "grep -m1 -o 'bind:0\\|bind=static:0\\|interleave:0\\|default\\|local' /proc/self/numa_maps";
    for (given, shown) in [
        (json!({"mode": "MPOL_BIND", "nodes": "0"}), "bind:0\n"),
        (json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]}), "bind=static:0\n"),
        (json!({"mode": "MPOL_INTERLEAVE", "nodes": "0"}), "interleave:0\n"),
        (json!({"mode": "MPOL_LOCAL"}), "local\n"),
        (json!({"mode": "MPOL_DEFAULT"}), "default\n"),
    ] {
        let bundle = policy(given.clone());
        bundle.start();
        let own = fs::read_to_string(format!("/proc/{}/numa_maps", bundle.pid())).unwrap();
        assert!(own.contains(shown.trim()), "{given}: {own}");
        assert_eq!(bundle.sh(mapped), shown, "{given}");
        bundle.delete();
    }
    let bundle = policy(json!({"mode": "MPOL_BIND", "nodes": "1000"}));
    bundle.run().fails(1, &["memory policy MPOL_BIND", "linux.memoryPolicy", "invalid argument", "none of these nodes"]);
    Census::of(&bundle).nothing_left(&bundle);
}

#[test]
fn the_execution_domain_is_that_of_every_process() {
    let bundle = sleeping().with(|c| c["linux"]["personality"] = json!({"domain": "LINUX32"}));
    bundle.start();
    assert_eq!(fs::read_to_string(format!("/proc/{}/personality", bundle.pid())).unwrap().trim(), "00000008");
    assert_eq!(bundle.sh("cat /proc/self/personality"), "00000008\n");
    bundle.delete();
    let bundle = Bundle::new(&["cat", "/proc/self/personality"])
        .with(|c| c["linux"]["personality"] = json!({"domain": "LINUX", "flags": ["ADDR_NO_RANDOMIZE"]}));
    let (out, warnings) = bundle.run_with_log();
    assert!(warnings.iter().any(|warning| warning.contains("linux.personality.flags")), "{warnings:?}");
    assert_eq!(out, "00000000\n");
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_made() {
    for (pointer, value, words) in [
        ("/process/scheduler", json!({}), &["\"\" is not a scheduling policy", "process.scheduler.policy"][..]),
        ("/process/scheduler", json!({"policy": "SCHED_ISO"}), &["no kernel has it"]),
        ("/process/scheduler", json!({"policy": "SCHED_FIFO"}), &["1 to 99, not 0", "process.scheduler.priority"]),
        ("/process/scheduler", json!({"policy": "SCHED_OTHER", "priority": 1}), &["SCHED_OTHER has no priorities but 0"]),
        ("/process/scheduler", json!({"policy": "SCHED_OTHER", "nice": 20}), &["20 is outside of -20 to 19", "process.scheduler.nice"]),
        ("/process/scheduler", json!({"policy": "SCHED_RR", "priority": 1, "period": 5}), &["only SCHED_DEADLINE has a period"]),
        ("/process/scheduler", json!({"policy": "SCHED_RR", "priority": 1, "flags": ["X"]}), &["process.scheduler.flags[0]"]),
        ("/process/scheduler", json!({"policy": "SCHED_DEADLINE", "runtime": 5000}), &["needs a deadline", "process.scheduler.deadline"]),
        (
            "/process/scheduler",
            json!({"policy": "SCHED_DEADLINE", "deadline": 4000}),
            &["runtime of at least 1024 ns, not 0", "process.scheduler.runtime"],
        ),
        (
            "/process/scheduler",
            json!({"policy": "SCHED_DEADLINE", "runtime": 1023, "deadline": 4000}),
            &["runtime of at least 1024 ns, not 1023", "process.scheduler.runtime"],
        ),
        (
            "/process/scheduler",
            json!({"policy": "SCHED_DEADLINE", "runtime": 5000, "deadline": 4000, "period": 9000}),
            &["a runtime of 5000 ns is longer than the deadline of 4000 ns", "process.scheduler.runtime"],
        ),
        (
            "/process/scheduler",
            json!({"policy": "SCHED_DEADLINE", "runtime": 3000, "deadline": 9001, "period": 9000}),
            &["a deadline of 9001 ns is later than the end of the period of 9000 ns", "process.scheduler.deadline"],
        ),
        ("/process/ioPriority", json!({"class": "IOPRIO_CLASS_NONE"}), &["is not an I/O scheduling class", "process.ioPriority.class"]),
        ("/process/ioPriority", json!({"class": "IOPRIO_CLASS_BE", "priority": 8}), &["8 is outside of 0 to 7"]),
        ("/linux/memoryPolicy", json!({"mode": "MPOL_X"}), &["is not a memory policy", "linux.memoryPolicy.mode"]),
        ("/linux/memoryPolicy", json!({"mode": "MPOL_BIND"}), &["MPOL_BIND needs nodes"]),
        ("/linux/memoryPolicy", json!({"mode": "MPOL_LOCAL", "nodes": "0"}), &["MPOL_LOCAL takes no nodes"]),
        ("/linux/memoryPolicy", json!({"mode": "MPOL_BIND", "nodes": "x"}), &["\"x\", which is no number", "linux.memoryPolicy.nodes"]),
        (
            "/linux/memoryPolicy",
            json!({"mode": "MPOL_PREFERRED", "nodes": "0", "flags": ["MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES"]}),
            &["MPOL_F_STATIC_NODES and MPOL_F_RELATIVE_NODES exclude each other", "linux.memoryPolicy.flags"],
        ),
        (
            "/linux/memoryPolicy",
            json!({"mode": "MPOL_INTERLEAVE", "nodes": "0", "flags": ["MPOL_F_NUMA_BALANCING"]}),
            &["MPOL_F_NUMA_BALANCING is for MPOL_BIND and MPOL_PREFERRED_MANY, not for MPOL_INTERLEAVE", "linux.memoryPolicy.flags"],
        ),
        (
            "/linux/memoryPolicy",
            json!({"mode": "MPOL_LOCAL", "flags": ["MPOL_F_STATIC_NODES"]}),
            &["MPOL_F_STATIC_NODES is about nodes, and this MPOL_LOCAL has none", "linux.memoryPolicy.flags"],
        ),
        (
            "/linux/memoryPolicy",
            json!({"mode": "MPOL_PREFERRED", "flags": ["MPOL_F_RELATIVE_NODES"]}),
            &["MPOL_F_RELATIVE_NODES is about nodes, and this MPOL_PREFERRED has none"],
        ),
        ("/linux/personality", json!({"domain": "BSD"}), &["is not an execution domain", "linux.personality.domain"]),
    ] {
        let bundle = sleeping().with(|c| {
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            c.pointer_mut(parent).unwrap()[key] = value.clone();
        });
        bundle.run().fails(1, words);
        assert!(!bundle.state_root().exists(), "{value}");
    }
}

/// What only the machine can judge: the kernel's refusal has its place and a hint, and numbers are as they were given.
#[test]
fn the_kernels_refusal_is_told() {
    let bundle = sleeping().with(|c| {
        c["process"]["scheduler"] = json!({"policy": "SCHED_DEADLINE", "runtime": 2_000_000, "deadline": 4_000_000, "period": u64::MAX});
    });
    let said = bundle.run().fails(
        1,
        &[
            "set the scheduling policy SCHED_DEADLINE runtime 2000000 deadline 4000000 period 18446744073709551615 (config.json: process.scheduler)",
            "invalid argument (the host bounds the period: kernel.sched_deadline_period_min_us",
        ],
    );
    assert_eq!(said.lines().count(), 1, "{said}");
    Census::of(&bundle).nothing_left(&bundle);
}

/// What set_mempolicy(2) and sched_setattr(2) take is not refused.
#[test]
fn what_the_kernel_takes_is_taken() {
    for (pointer, value) in [
        ("/process/scheduler", json!({"policy": "SCHED_DEADLINE", "flags": ["SCHED_FLAG_KEEP_POLICY"]})),
        ("/linux/memoryPolicy", json!({"mode": "MPOL_DEFAULT", "flags": ["MPOL_F_STATIC_NODES"]})),
        ("/linux/memoryPolicy", json!({"mode": "MPOL_PREFERRED", "nodes": "0", "flags": ["MPOL_F_RELATIVE_NODES"]})),
        ("/linux/memoryPolicy", json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_NUMA_BALANCING"]})),
    ] {
        let bundle = Bundle::new(&["true"]).with(|c| {
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            c.pointer_mut(parent).unwrap()[key] = value.clone();
        });
        let said = bundle.run();
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{value}");
    }
}
