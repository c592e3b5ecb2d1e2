//! The class of CVE-2016-9962: a process on its way into a container's pid namespace is seen by who is there already, while it
//! has the host's root, descriptors, command line, environment or memory.
//!
//! Container A runs a thief (thief.c), which looks at every process it sees. Meanwhile others are started in its pid
//! namespace, and programs are executed in it. Canaries stand in the caller's arguments, its environment and memory, in host paths
//! of config.json, in a hook's environment, and in a file of the host.

use super::common::{Bundle, eventually};
use super::{CONTROL_ROUNDS, Guard, ROUNDS, add_caps, add_mount, control_with};
use keel::lifecycle::{self, CreateOptions, ExecOptions, Runtime};
use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// Who looks.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Thief {
    /// Root of the container without any capability.
    Powerless,
    /// Root with docker's capabilities.
    Default,
    /// Root that may trace, and open what it likes.
    Tracer,
    /// User 1000 without any capability.
    User,
}

const THIEVES: [Thief; 4] = [Thief::Powerless, Thief::Default, Thief::Tracer, Thief::User];

/// Rounds for each thief: a thousand starts and as many for execs for all tests together, or as many as a proof wants.
fn rounds() -> usize {
    let wanted = std::env::var("KEEL_THIEF_ROUNDS").ok().and_then(|rounds| rounds.parse().ok());
    wanted.unwrap_or(ROUNDS / 2 / THIEVES.len())
}

/// Docker's default set.
const DOCKERS: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// The thief's program, compiled once.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("thief");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/attacks/thief.c");
        let status = Command::new("cc").args(["-O2", "-static", "-o"]).arg(&program).arg(source).status().expect("gcc is installed");
        assert!(status.success());
        program
    })
}

/// One thief at a time: each keeps a CPU busy.
static ALONE: Mutex<()> = Mutex::new(());

/// Container A with its thief at work.
struct Watched {
    _alone: MutexGuard<'static, ()>,
    bundle: Bundle,
    guard: Guard,
    keel: Child,
}

impl Watched {
    fn new(thief: Thief) -> Self {
        // A test that failed has ended its thief.
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let bundle = Bundle::new(&["/thief"]).with(|config| {
            let none: Value = ["bounding", "effective", "permitted"].iter().map(|set| ((*set).to_owned(), json!([]))).collect();
            config["process"]["capabilities"] = none;
            match thief {
                Thief::Powerless => {}
                Thief::User => config["process"]["user"] = json!({"uid": 1000, "gid": 1000}),
                Thief::Default => add_caps(config, &DOCKERS),
                Thief::Tracer => {
                    add_caps(config, &DOCKERS);
                    add_caps(config, &["CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH"]);
                }
            }
        });
        super::common::copy_program(program(), &bundle.rootfs().join("thief"));
        bundle.write();
        let guard = Guard::new(&bundle);
        let file = |name: &str| fs::File::create(bundle.dir.join(name)).unwrap();
        let mut command = bundle.command(&["run", &bundle.id()]);
        let mut keel = command.stdin(Stdio::piped()).stdout(file("out")).stderr(file("err")).spawn().unwrap();
        let mut needles = keel.stdin.take().unwrap();
        writeln!(needles, "{}\n{}", canary(&bundle), guard.secret().display()).unwrap();
        drop(needles);
        eventually("the thief is at work", || bundle.out().starts_with("ready\n"));
        Self { _alone: alone, bundle, guard, keel }
    }

    /// The thief's pid, as the host sees it.
    fn pid(&self) -> i64 {
        let state: Value = serde_json::from_str(&self.bundle.keel(&["state", "ID"]).ok()).unwrap();
        state["pid"].as_i64().unwrap()
    }

    /// Ends the thief; what it has found.
    fn findings(mut self) -> Vec<String> {
        self.bundle.keel(&["kill", "ID", "TERM"]).ok();
        self.keel.wait().unwrap();
        let out = self.bundle.out();
        let (found, rest): (Vec<_>, Vec<_>) = out.lines().map(str::to_owned).partition(|line| line.starts_with("found "));
        println!("{}: {}", std::thread::current().name().unwrap_or_default(), rest.last().map_or("", String::as_str));
        assert!(rest.iter().any(|line| line.starts_with("looked ") && !line.contains(" at 0 ")), "it saw nobody: {out}");
        self.guard.unchanged();
        found
    }
}

/// What stands in so many places of the caller's, but in none of the container's.
fn canary(bundle: &Bundle) -> String {
    format!("canary-of-{}", bundle.id())
}

/// Container B, which joins the pid namespace of A. Its configuration names the canary wherever a host has secrets.
fn joining(watched: &Watched, userns: bool, hooks: bool) -> Bundle {
    let canary = canary(&watched.bundle);
    // Its procfs is that of the namespace.
    let bundle = Bundle::new(if userns { &["true"] } else { &["sh", "-c", "[ $(cat /proc/1/comm) = thief ]"] });
    let place = bundle.dir.join(&canary);
    fs::create_dir_all(&place).unwrap();
    let pids = format!("/proc/{}/ns/pid", watched.pid());
    bundle.with(|config| {
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.iter_mut().find(|ns| ns["type"] == "pid").unwrap()["path"] = json!(pids);
        add_mount(config, "bind", &place, "/volume");
        if userns {
            namespaces_with_user(config);
        }
        if hooks {
            let hook = json!([{"path": "/bin/true", "env": [format!("SECRET={canary}")]}]);
            config["hooks"] = json!({"createRuntime": hook, "createContainer": hook, "poststart": hook});
            config["hooks"]["startContainer"] = json!([{"path": "/bin/true"}]);
        }
    })
}

/// A user namespace of its own; procfs and sysfs belong to others, so it has none.
fn namespaces_with_user(config: &mut Value) {
    config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
    config["linux"]["uidMappings"] = json!([{"containerID": 0, "hostID": 0, "size": 65536}]);
    config["linux"]["gidMappings"] = config["linux"]["uidMappings"].clone();
    config["linux"]["maskedPaths"] = json!([]);
    config["linux"]["readonlyPaths"] = json!([]);
    config["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/proc");
}

/// A command of the bundle, whose caller has the canary in its environment and its arguments.
fn keel(bundle: &Bundle, canary: &str, args: &[&str]) {
    let out = bundle.dir.join(canary);
    let pid_file = out.join("pid");
    let args: Vec<&str> = args.iter().map(|arg| if *arg == "PIDFILE" { pid_file.to_str().unwrap() } else { arg }).collect();
    // A created container would keep a pipe open.
    let errors = fs::File::create(bundle.dir.join("errors")).unwrap();
    let status = bundle.command(&args).env("CANARY", canary).stdout(Stdio::null()).stderr(errors).status().unwrap();
    assert!(status.success(), "{args:?}: {}", fs::read_to_string(bundle.dir.join("errors")).unwrap());
}

fn starts_show_nothing(userns: bool, hooks: bool) {
    for thief in THIEVES {
        let watched = Watched::new(thief);
        let canary = canary(&watched.bundle);
        let bundle = joining(&watched, userns, hooks);
        bundle.write();
        for round in 0..rounds() / if hooks { 4 } else { 1 } {
            match (hooks, round % 2) {
                (false, 0) => keel(&bundle, &canary, &["run", "--pid-file", "PIDFILE", &bundle.id()]),
                _ => {
                    keel(&bundle, &canary, &["create", "--pid-file", "PIDFILE", &bundle.id()]);
                    keel(&bundle, &canary, &["start", &bundle.id()]);
                    keel(&bundle, &canary, &["delete", "--force", &bundle.id()]);
                }
            }
        }
        assert_eq!(watched.findings(), Vec::<String>::new(), "{thief:?}");
    }
}

#[test]
fn a_container_that_joins_a_pid_namespace_shows_nothing_there() {
    starts_show_nothing(false, false);
}

#[test]
fn nor_does_one_with_a_user_namespace_of_its_own() {
    starts_show_nothing(true, false);
}

/// Before Linux 6.17 a process has to be in the namespace to open a procfs of it.
#[test]
fn nor_does_one_on_a_kernel_whose_procfs_cannot_name_a_namespace() {
    for thief in THIEVES {
        let watched = Watched::new(thief);
        let bundle = joining(&watched, false, false);
        bundle.write();
        let output = itself("starts_without_pidns", &watched, &bundle, rounds() / 2);
        assert!(output.status.success(), "{output:?}");
        assert_eq!(watched.findings(), Vec::<String>::new(), "{thief:?}");
    }
}

#[test]
#[ignore = "executed by nor_does_one_on_a_kernel_whose_procfs_cannot_name_a_namespace"]
fn starts_without_pidns() {
    let argument = json!([{"index": 1, "value": 5, "op": "SCMP_CMP_EQ"}]); // FSCONFIG_SET_FD
    let rule = json!({"names": ["fsconfig"], "action": "SCMP_ACT_ERRNO", "errnoRet": libc::EINVAL, "args": argument});
    let profile = serde_json::from_value(json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]})).unwrap();
    let filter = keel::plan::seccomp::compile(&profile).unwrap();
    keel::sys::seccomp(filter.flags, &filter.program).unwrap();
    let dir = PathBuf::from(std::env::var_os("KEEL_B").unwrap());
    for _ in 0..std::env::var("KEEL_ROUNDS").unwrap().parse().unwrap() {
        let mut command = Command::new(super::KEEL);
        let id = dir.file_name().unwrap();
        let status = command.arg("--root").arg(dir.join("state")).arg("run").arg("--bundle").arg(&dir).arg(id).status().unwrap();
        assert!(status.success());
    }
}

/// One of the ignored tests here in a process of its own, whose arguments and environment have the canary.
fn itself(test: &str, watched: &Watched, bundle: &Bundle, rounds: usize) -> std::process::Output {
    let canary = canary(&watched.bundle);
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", &format!("born_blind::{test}"), "--test-threads=1", &canary]);
    command.env("CANARY", &canary).env("KEEL_B", &bundle.dir).env("KEEL_A", &watched.bundle.dir);
    command.env("KEEL_ROUNDS", rounds.to_string()).output().unwrap()
}

#[test]
fn nor_do_its_hooks() {
    starts_show_nothing(false, true);
}

#[test]
fn an_exec_shows_nothing() {
    for thief in THIEVES {
        let watched = Watched::new(thief);
        let canary = canary(&watched.bundle);
        fs::create_dir_all(watched.bundle.dir.join(&canary)).unwrap();
        for _ in 0..rounds() {
            keel(&watched.bundle, &canary, &["exec", "--pid-file", "PIDFILE", &watched.bundle.id(), "/bin/true"]);
        }
        assert_eq!(watched.findings(), Vec::<String>::new(), "{thief:?}");
    }
}

/// A program that calls the library in its own process, with several threads, and never executes itself again: its arguments,
/// environment and heap are in each child that it clones.
#[test]
fn a_caller_of_the_library_shows_nothing() {
    for thief in THIEVES {
        let watched = Watched::new(thief);
        let bundle = joining(&watched, thief == Thief::Default, false);
        bundle.write();
        let output = itself("calls_the_library", &watched, &bundle, rounds() / 2);
        assert!(output.status.success(), "{output:?}");
        assert_eq!(watched.findings(), Vec::<String>::new(), "{thief:?}");
    }
}

#[test]
#[ignore = "executed by a_caller_of_the_library_shows_nothing"]
fn calls_the_library() {
    let heap = vec![std::env::var("CANARY").unwrap(); 4096];
    let place = |name: &str| PathBuf::from(std::env::var_os(name).unwrap());
    let id = |dir: &Path| keel::store::ContainerId::new(dir.file_name().unwrap().to_str().unwrap()).unwrap();
    let runtime = |dir: &Path| {
        let root = keel::store::Root::new(Some(&dir.join("state"))).unwrap();
        Runtime { root, manager: keel::cgroup::Manager::Cgroupfs }
    };
    let (a, b) = (place("KEEL_A"), place("KEEL_B"));
    let log = keel::sys::Log::open(None, false, false).unwrap();
    for _ in 0..std::env::var("KEEL_ROUNDS").unwrap().parse().unwrap() {
        let options = CreateOptions { bundle: b.clone(), stays: true, ..CreateOptions::default() };
        assert_eq!(lifecycle::run(&runtime(&b), &id(&b), &options, &log).unwrap(), 0);
        let process = |spec: &keel::spec::Spec| {
            let base = spec.process.clone().unwrap();
            Ok(keel::spec::Process { args: vec!["/bin/true".into()], ..base })
        };
        assert_eq!(lifecycle::exec(&runtime(&a), &id(&a), &ExecOptions::default(), process, &log).unwrap(), 0);
    }
    assert_eq!(heap.len(), 4096);
}

/// What runc and crun show a tracer, until they fall or for a few rounds.
#[test]
fn what_others_show() {
    let watched = Watched::new(Thief::Tracer);
    let bundle = joining(&watched, false, false);
    control_with(&bundle, &watched.guard, |peer| {
        (0..CONTROL_ROUNDS).any(|_| {
            peer.said(&[], &["run", "ID"]);
            watched.bundle.out().contains("found ")
        })
    });
    // The guard stays as it is; whether the thief found something is the peers' affair.
    drop(watched);
}

impl Drop for Watched {
    fn drop(&mut self) {
        // Where the test has asked for the findings, it has ended already.
        self.bundle.keel(&["kill", "ID", "TERM"]);
        let _ = self.keel.wait();
    }
}
