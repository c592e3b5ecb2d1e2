//! What keel does when the kernel refuses a call, and when somebody kills it: one sentence that names what failed, and
//! nothing left behind.
//!
//! No hooks in the product: a normal run is recorded under strace(1), then repeated once for each system call of it, with
//! exactly that call failing or that process killed at it.

mod common;
mod strace;

use common::{Bundle, Census, Said};
use serde_json::{Value, json};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use strace::{Call, can_fail, injected, injected_at, into, own, trace};

/// How many runs go on at once.
const WORKERS: usize = 6;

/// A container with an operation of nearly every kind.
fn full() -> Bundle {
    let bundle = Bundle::new(&["true"]).with(|c| {
        c["domainname"] = json!("domain");
        c["process"]["user"] = json!({"uid": 1000, "gid": 1000, "additionalGids": [4, 27], "umask": 18});
        c["process"]["oomScoreAdj"] = json!(100);
        c["process"]["noNewPrivileges"] = json!(false);
        c["process"]["capabilities"] = json!({
            "bounding": ["CAP_CHOWN", "CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"],
            "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL"],
        });
        c["root"]["readonly"] = json!(true);
        let mounts = c["mounts"].as_array_mut().unwrap();
        mounts.push(json!({"destination": "/data", "type": "bind", "source": "data", "options": ["rbind", "ro", "rprivate"]}));
        let linux = &mut c["linux"];
        linux["sysctl"] = json!({"kernel.msgmax": "9000"});
        linux["rootfsPropagation"] = json!("shared");
        linux["devices"] = json!([{"path": "/dev/fifo", "type": "p", "fileMode": 0o600}]);
        linux["resources"] = json!({"pids": {"limit": 100}, "memory": {"limit": 64 << 20}, "devices": [{"allow": false, "access": "rwm"}]});
        linux["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["getxattr"], "action": "SCMP_ACT_ERRNO"}]});
        let namespaces = linux["namespaces"].as_array_mut().unwrap();
        namespaces.push(json!({"type": "time"}));
        linux["timeOffsets"] = json!({"boottime": {"secs": 100}});
    });
    std::fs::create_dir(bundle.dir.join("data")).unwrap();
    bundle.write();
    bundle
}

/// The sentences of `keel plan`, in the order of the operations.
fn sentences(bundle: &Bundle) -> Vec<String> {
    let said = bundle.keel(&["plan", "--format", "json", "--bundle", ".", "ID"]);
    let plan: Value = serde_json::from_str(&said.ok()).unwrap();
    plan["ops"].as_array().unwrap().iter().map(|op| op["does"].as_str().unwrap().to_owned()).collect()
}

/// What came of one run in which `call` failed, or at which keel was killed.
struct Outcome {
    call: Call,
    said: Said,
    left: Vec<String>,
}

/// Repeats `keel run` for each of `calls` with `what` injected into that call, on a bundle for each worker. What is
/// left is written down, and then has to go with `delete --force`.
fn each(calls: &[Call], what: &str) -> Vec<Outcome> {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                let bundle = full();
                // The state root exists from the second run on, as in the run that was recorded.
                bundle.keel(&["run", "ID"]).ok();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(call) = calls.get(number) else { return };
                    let said = injected(&bundle, &into(call, what), &["run", "ID"]);
                    let mut left: Vec<String> = Census::of(&bundle).found().into_iter().collect();
                    left.extend(bundle.state_root().join(bundle.id()).exists().then(|| "state".into()));
                    if !left.is_empty() {
                        described(&bundle);
                        bundle.delete();
                        Census::of(&bundle).nothing_left(&bundle);
                    }
                    done.lock().unwrap().push((number, Outcome { call: call.clone(), said, left }));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap();
    done.sort_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, outcome)| outcome).collect()
}

/// `state` tells something whole, or that there is no such container.
fn described(bundle: &Bundle) {
    let said = bundle.keel(&["state", "ID"]);
    if said.code == 0 {
        let state: Value = serde_json::from_str(&said.out).unwrap();
        assert!(["creating", "created", "running", "stopped"].contains(&state["status"].as_str().unwrap()), "{state}");
    } else {
        said.fails(1, &["does not exist"]);
    }
}

/// A normal run of `full`: the calls of the runtime and of the container's process that can fail.
fn recorded() -> (Vec<Call>, Vec<Call>) {
    let bundle = full();
    bundle.keel(&["run", "ID"]).ok();
    let recorded = trace(&bundle, &["run", "ID"], || ());
    assert_eq!((recorded.said.code, recorded.processes.len()), (0, 2), "{:?}", recorded.said);
    let mut both = recorded.processes.iter().map(|calls| own(calls).into_iter().filter(can_fail).collect());
    (both.next().unwrap(), both.next().unwrap())
}

/// The one line an error may be, without what every error starts with.
fn sentence(outcome: &Outcome) -> &str {
    let (call, said) = (&outcome.call, &outcome.said);
    assert_eq!(said.code, 1, "{call:?} {said:?}");
    let line = said.err.strip_prefix("keel: error: ").unwrap_or_else(|| panic!("{call:?} {said:?}"));
    assert_eq!(line.matches('\n').count(), 1, "not one line: {call:?} {said:?}");
    line.trim_end()
}

/// Calls of the runtime that keel can do without, and why.
const RUNTIME_TOLERATES: &[(&str, &str, &str)] = &[
    ("capget", "", "without capabilities that it can see keel acts as if it had none, and warns"),
    ("openat", "O_PATH|O_DIRECTORY) = 3", "our own cgroup out of sight: the hierarchy's root is where we are"),
    ("open", "/proc/self/uid_map", "keel then takes itself for root of the host, whose rights show soon enough"),
    ("read", "4294967295", "the same"),
    ("flock", "LOCK_UN", "an unlock of a lock that is held does not fail"),
    ("prlimit64", "", "a limit on the runtime's own memory or files is no limit of the container's"),
    ("clock_gettime", "", "a call only where the vDSO has no clock of the CPU's; the record's time of creation is then wrong"),
    ("madvise", "", "memory is given back as a courtesy"),
    ("open", "/proc/self/status", "every signal counts as ignored then"),
    ("read", "Name:\\tkeel", "the same"),
    ("readlinkat", "/exe\"", "only where it says that there is none, the program is taken for one that is ending"),
];

/// Of the many cgroup directories and files every third will do; the environment variable KEEL_FAULTS=all takes all.
fn alike(call: &Call, number: usize) -> bool {
    call.line.contains("/sys/fs/cgroup/") && !number.is_multiple_of(3) && std::env::var_os("KEEL_FAULTS").is_none_or(|value| value != "all")
}

#[test]
fn a_call_of_the_runtime_that_fails_is_told_in_one_line_and_leaves_nothing() {
    let (runtime, _) = recorded();
    // Once the program runs, what fails is the removal: it is told, the record stays, and `delete --force` finishes it.
    let runs = runtime.iter().rposition(|call| call.name == "recvmsg").unwrap();
    let runs = runs + 1 + runtime[runs + 1..].iter().take_while(|call| call.line.contains("WNOHANG")).count();
    let sampled: Vec<(usize, Call)> =
        runtime.into_iter().enumerate().filter(|(i, call)| *i < 16 || *i >= runs || !alike(call, *i)).collect();
    let calls: Vec<Call> = sampled.iter().map(|(_, call)| call.clone()).collect();
    for ((i, _), outcome) in sampled.iter().zip(each(&calls, "error=EIO")) {
        let (i, call) = (*i, &outcome.call);
        if outcome.said.code == 0 {
            let known = RUNTIME_TOLERATES.iter().any(|(name, part, _)| call.name == *name && call.line.contains(part));
            assert!(known, "nobody noticed that {call:?} failed: {:?}", outcome.said);
        } else {
            let sentence = sentence(&outcome);
            assert!(sentence.contains("input/output error"), "{call:?}: {sentence}");
            assert!(sentence.len() > "input/output error".len() + 10, "{call:?}: says too little: {sentence}");
        }
        assert!(i >= runs || outcome.left.is_empty(), "{call:?} left {:?}", outcome.left);
    }
}

/// Calls of the container's process that it can do without, and why.
const CHILD_TOLERATES: &[(&str, &str, &str)] = &[
    ("keyctl", "KEYCTL_SETPERM", "an exec that does not find the session keyring has one of its own"),
    ("fstat", "", "stdio of an unknown type is not given to the user; /etc/passwd of an unknown type is not read"),
    ("newfstatat", "/bin/true\"", "the next entry of PATH may have the program"),
    ("newfstatat", "/sbin/true\"", "the next entry of PATH may have the program"),
    ("chdir", "\"/\"", "the first try of the working directory, before the change of user"),
    ("openat", "O_RDWR|O_NOCTTY|O_NOFOLLOW", "without a /dev/null of its own the container keeps the host's"),
    ("dup3", "", "without a /dev/null of its own the container keeps the host's"),
    ("openat", "/etc/passwd", "HOME is / then"),
    ("read", "root:x:0:0", "HOME is / then"),
    ("madvise", "", "memory is given back as a courtesy"),
    ("fchown", "", "the program can do without its pipes"),
    ("sched_setaffinity", "", "the caller's CPUs are enough to run on"),
];

/// Operations that no single failing call can make fail, or none that the runtime does not make as often (the words of
/// the stage for startContainer are seen where the runtime's own calls fail).
const CANNOT_FAIL: &[&str] = &[
    "set the umask",
    "run on every CPU of the cpuset",
    "try the working directory",
    "change to the working directory",
    "look up HOME",
    "give user 1000 its terminal and pipes",
    "wait for the hooks startContainer",
    "wait for the cgroup",
    "open the container's /dev/null",
];

#[test]
fn a_call_of_the_containers_process_that_fails_is_told_by_its_operation_and_leaves_nothing() {
    let (runtime, child) = recorded();
    // strace counts for each process by itself: a number that the runtime reaches too would fail there, and first.
    let alone = |call: &Call| runtime.iter().filter(|c| c.name == call.name).map(|c| c.nth).max().unwrap_or(0) < call.nth;
    let calls: Vec<Call> = child.into_iter().filter(alone).collect();
    assert!(calls.len() > 100, "only {} calls of the container's process could be made to fail", calls.len());
    let (mut at, mut named) = (0, vec![false; sentences_of_run().len()]);
    for outcome in each(&calls, "error=EIO") {
        let call = &outcome.call;
        assert!(outcome.left.is_empty(), "{call:?} left {:?}", outcome.left);
        if outcome.said.code == 0 {
            let known = CHILD_TOLERATES.iter().any(|(name, part, _)| call.name == *name && call.line.contains(part));
            assert!(known, "nobody noticed that {call:?} failed: {:?}", outcome.said);
            continue;
        }
        let words = generic(sentence(&outcome));
        let all = sentences_of_run();
        // Operations come in the order of the plan; one is never named again once a later one has been.
        let found = all.iter().enumerate().skip(at).find(|(_, known)| words.starts_with(known.as_str()));
        let (found, _) = found.unwrap_or_else(|| panic!("{call:?} says {words:?}, which is not operation {at} or a later one"));
        (at, named[found]) = (found, true);
    }
    by_path(&mut named);
    let silent: Vec<String> = sentences_of_run().into_iter().zip(&named).filter(|(_, named)| !**named).map(|(s, _)| s).collect();
    let wrong: Vec<&String> = silent.iter().filter(|s| !CANNOT_FAIL.iter().any(|known| s.starts_with(known))).collect();
    assert!(wrong.is_empty(), "no failing call was told in the words of {wrong:#?}");
}

/// Without the names that differ from one bundle to the next.
fn generic(text: &str) -> String {
    let mut words: Vec<String> = text.split(' ').map(str::to_owned).collect();
    for word in &mut words {
        if let Some(start) = word.find("keel-test-") {
            let end = word[start..].find(['/', ',', ')']).map_or(word.len(), |end| start + end);
            word.replace_range(start..end, "ID");
        }
    }
    words.join(" ")
}

/// The sentences of `run`, in which `keel plan` with the same id would speak.
fn sentences_of_run() -> Vec<String> {
    static ALL: std::sync::OnceLock<Vec<String>> = std::sync::OnceLock::new();
    let make = || {
        let bundle = full();
        let words = |s: String| match s.as_str() {
            "find the program true" => "exec: \"true\":".to_owned(),
            "wait for start" => "wait for the hooks startContainer".to_owned(),
            _ => generic(&s),
        };
        sentences(&bundle).into_iter().map(words).collect()
    };
    ALL.get_or_init(make).clone()
}

/// Operations whose calls the runtime makes as often itself: here strace is told the path in place of the number.
fn by_path(named: &mut [bool]) {
    let bundle = full();
    bundle.keel(&["run", "ID"]).ok();
    let cgroups = std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|entry| entry.path().join(bundle.id()).join("tasks"));
    let mut paths: Vec<(String, &str)> = cgroups.map(|path| (path.display().to_string(), "write")).collect();
    paths.push((bundle.rootfs().display().to_string(), "open_tree"));
    paths.push(("/proc/self/oom_score_adj".into(), "open"));
    paths.push(("/proc/self/timens_offsets".into(), "open"));
    paths.push(("/bin/true".into(), "execve"));
    for (path, call) in paths {
        let injections = [format!("trace={call}"), format!("inject={call}:error=EIO:when=1")];
        let said = injected_at(&bundle, &path, &injections, &["run", "ID"]);
        if said.code != 0 {
            let words = generic(said.err.strip_prefix("keel: error: ").unwrap_or_else(|| panic!("{path} {said:?}")));
            let found = sentences_of_run().iter().position(|known| words.starts_with(known.as_str()));
            named[found.unwrap_or_else(|| panic!("{path} {said:?}"))] = true;
            assert_eq!(said.code, 1, "{said:?}");
        }
        Census::of(&bundle).nothing_left(&bundle);
    }
    // One failing hierarchy stands for all: which of them are mounted, and under which of their names, differs.
    let all = sentences_of_run();
    let joins = |s: &str| s.starts_with("join cgroup hierarchy");
    assert!(!all.iter().any(|s| joins(s)) || all.iter().zip(&*named).any(|(s, named)| *named && joins(s)));
    all.iter().zip(named).filter(|(s, _)| joins(s)).for_each(|(_, named)| *named = true);
}

#[test]
fn a_runtime_that_is_killed_leaves_what_delete_removes() {
    let (runtime, _) = recorded();
    let start = runtime.iter().position(|call| call.name == "mkdirat").unwrap();
    // Of neighbours that do the same, one will do.
    let sampled: Vec<Call> = runtime[start..].chunks(3).map(|pair| pair[0].clone()).collect();
    // `each` asks for the state and removes what is left.
    let outcomes = each(&sampled, "signal=KILL");
    assert!(outcomes.iter().filter(|outcome| !outcome.left.is_empty()).count() > 10, "hardly any kill left a container half made");
    for outcome in outcomes {
        // The container's process may make the same call as often: then it dies, and the runtime says so.
        let child = outcome.said.code == 1 && outcome.said.err.contains("was killed by signal 9");
        assert!(child || outcome.said.code == 128 + 9, "{:?} {:?}", outcome.call, outcome.said);
    }
}

#[test]
fn a_create_or_delete_that_is_killed_can_be_finished() {
    let make = || {
        let bundle = Bundle::new(&["sleep", "1000"]);
        bundle.create();
        bundle
    };
    let bundle = make();
    let recorded = own(&trace(&bundle, &["delete", "--force", "ID"], || ()).processes[0]);
    let calls: Vec<&Call> = recorded.iter().filter(|call| can_fail(call)).skip(2).step_by(3).collect();
    assert!(calls.len() > 5);
    for call in calls {
        let bundle = make();
        let said = injected(&bundle, &into(call, "signal=KILL"), &["delete", "--force", "ID"]);
        assert_eq!(said.code, 128 + 9, "{call:?} {said:?}");
        described(&bundle);
        bundle.delete();
        Census::of(&bundle).nothing_left(&bundle);
    }
}

/// The memory controller of cgroup v1 ends a write with EINTR while a signal is pending.
#[test]
fn an_interrupted_write_of_a_limit_is_made_again() {
    let (runtime, _) = recorded();
    let write = runtime.iter().find(|call| call.name == "write" && call.line.contains("\"67108864\"")).expect("a limit is written");
    let bundle = full();
    let refused = injected(&bundle, &into(write, "error=EIO"), &["run", "ID"]).err;
    let named = refused.split_once(" to 67108864 in ").and_then(|(file, rest)| {
        let (dir, _) = rest.split_once(" (config.json: linux.resources.memory.limit)")?;
        Some(format!("{dir}/{}", file.rsplit_once(' ')?.1))
    });
    let path = named.unwrap_or_else(|| panic!("no file in {refused}"));
    let interrupted = ["trace=write".to_owned(), "inject=write:error=EINTR:when=1".to_owned()];
    let said = injected_at(&bundle, &path, &interrupted, &["run", "ID"]);
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{path}");
    let broken = [interrupted[0].clone(), "inject=write:error=EIO:when=1".to_owned()];
    assert_eq!(injected_at(&bundle, &path, &broken, &["run", "ID"]).err, refused, "{path} is not what was written");
    Census::of(&bundle).nothing_left(&bundle);
}
