//! keel under strace(1) (Debian package strace): what it asks of the kernel, and what it does when the kernel refuses.

#![allow(dead_code)] // each test binary uses its part

use crate::common::{Bundle, KEEL, Said};
use std::fs;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// One system call as strace prints it.
#[derive(Clone, Debug)]
pub struct Call {
    pub name: String,
    /// The whole line.
    pub line: String,
    /// Its number among the calls of this name in this process, from 1: what `inject=…:when=` counts.
    pub nth: usize,
}

/// What a command's processes called, each up to the moment it executed a program that is not keel.
pub struct Trace {
    pub said: Said,
    /// The runtime itself, then what it cloned, by pid.
    pub processes: Vec<Vec<Call>>,
    /// Calls by which processes were made.
    pub forks: usize,
}

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// `strace OPTIONS keel --root … ARGS`. stdout and stderr of the command are files, since strace waits for the
/// container and a container keeps its pipes open.
pub fn strace(bundle: &Bundle, options: &[&str], args: &[&str]) -> Command {
    // A run that hangs is a failure with exit code 124, not the end of the tests.
    let mut command = Command::new("timeout");
    command.args(["-k", "1", "15", "strace"]).args(options).arg(KEEL).arg("--root").arg(bundle.state_root());
    let id = bundle.id();
    command.args(args.iter().map(|arg| if *arg == "ID" { id.as_str() } else { arg }));
    command.stdin(Stdio::null()).current_dir(&bundle.dir);
    command
}

/// Runs such a command to its end.
pub fn injected(bundle: &Bundle, injections: &[String], args: &[&str]) -> Said {
    // The faster way of tracing loses signals.
    let kills = injections.iter().any(|injection| injection.contains("signal="));
    let mut options = vec!["-f", "-qqq", "-o", "/dev/null"];
    options.extend((!kills).then_some("--seccomp-bpf"));
    run(bundle, options, injections, args)
}

/// The same with calls counted, and failing, only if they are about this path.
pub fn injected_at(bundle: &Bundle, path: &str, injections: &[String], args: &[&str]) -> Said {
    run(bundle, vec!["-f", "-qqq", "-o", "/dev/null", "-P", path], injections, args)
}

fn run<'a>(bundle: &Bundle, mut options: Vec<&'a str>, injections: &'a [String], args: &[&str]) -> Said {
    for injection in injections {
        options.extend(["-e", injection]);
    }
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let (out, err) = (bundle.dir.join(format!("out.{number}")), bundle.dir.join(format!("err.{number}")));
    let file = |path| fs::File::create(path).unwrap();
    let status = strace(bundle, &options, args).stdout(file(&out)).stderr(file(&err)).status().expect("strace is installed");
    let read = |path| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
    use std::os::unix::process::ExitStatusExt;
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
    // strace itself says which file a path of -P is.
    let own_words = read(&err).lines().filter(|line| !line.starts_with("strace: ")).map(|line| format!("{line}\n")).collect();
    let said = Said { code, out: read(&out), err: own_words };
    let _ = (fs::remove_file(out), fs::remove_file(err));
    said
}

/// An injection of `what` (`error=EIO`, `signal=KILL`) into exactly this call.
pub fn into(call: &Call, what: &str) -> Vec<String> {
    vec![format!("trace={}", call.name), format!("inject={}:{what}:when={}", call.name, call.nth)]
}

/// Records a command. `meanwhile` is called as soon as it has been started (a created container has to be let go, since
/// strace waits for it).
pub fn trace(bundle: &Bundle, args: &[&str], meanwhile: impl FnOnce()) -> Trace {
    let dir = bundle.dir.join(format!("trace.{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
    fs::create_dir(&dir).unwrap();
    let prefix = dir.join("log");
    let file = |name: &str| fs::File::create(dir.join(name)).unwrap();
    let mut child = strace(bundle, &["-ff", "-qqq", "-s", "256", "-o", prefix.to_str().unwrap()], args)
        .stdout(file("out"))
        .stderr(file("err"))
        .spawn()
        .expect("strace is installed");
    meanwhile();
    let status = child.wait().unwrap();
    let read = |name: &str| String::from_utf8_lossy(&fs::read(dir.join(name)).unwrap()).into_owned();
    let said = Said { code: status.code().unwrap_or(-1), out: read("out"), err: read("err") };
    let mut logs: Vec<(u32, String)> = Vec::new();
    for entry in fs::read_dir(&dir).unwrap().flatten() {
        if let Some(pid) = entry.file_name().to_str().and_then(|name| name.strip_prefix("log.")?.parse().ok()) {
            logs.push((pid, String::from_utf8_lossy(&fs::read(entry.path()).unwrap()).into_owned()));
        }
    }
    logs.sort();
    let mut forks = 0;
    let mut processes = Vec::new();
    for (_, log) in &logs {
        let calls = calls(log);
        let end = calls.iter().position(is_other_program);
        let own = &calls[..end.map_or(calls.len(), |end| end + 1)];
        forks += own.iter().filter(|c| ["clone", "clone3", "fork", "vfork"].contains(&c.name.as_str())).count();
        processes.push(own.to_vec());
    }
    fs::remove_dir_all(&dir).unwrap();
    Trace { said, processes, forks }
}

fn is_other_program(call: &Call) -> bool {
    let done = call.line.ends_with("= 0");
    done && call.name == "execve" && !call.line.contains(KEEL)
}

fn calls(log: &str) -> Vec<Call> {
    let mut seen = std::collections::BTreeMap::new();
    let lines = log.lines().filter(|line| !line.starts_with(['+', '-']));
    lines
        .filter_map(|line| line.split_once('(').map(|(name, _)| (name, line)))
        .map(|(name, line)| {
            let nth = seen.entry(name.to_owned()).and_modify(|n| *n += 1).or_insert(1usize);
            Call { name: name.to_owned(), line: line.to_owned(), nth: *nth }
        })
        .collect()
}

/// Calls by which the C library gets memory, or sets a process up: not ours to count or to break.
const LIBRARY: &[&str] = &[
    "brk",
    "mmap",
    "munmap",
    "mprotect",
    "mremap",
    "madvise",
    "arch_prctl",
    "set_tid_address",
    "set_robust_list",
    "rseq",
    "getrandom",
    "exit_group",
    "rt_sigreturn",
];

/// Whether a failure can be injected into the call: strace skips the call, and a close(2) that does not close, an id
/// that is none, are not what any kernel does. Of the 40 bounding capabilities three will do.
pub fn can_fail(call: &Call) -> bool {
    let never = ["close", "umask", "getpid", "geteuid", "getegid"].contains(&call.name.as_str());
    let alike = call.line.contains("PR_CAPBSET_DROP") && call.nth > 3;
    !(never || alike || call.line.starts_with("prctl(0x41555856"))
}

/// The calls that keel's sources ask for: without the dynamic loader's, which a static release does not have, without
/// the C library's, and without the look at a descriptor that a debug build takes before each close.
pub fn own(calls: &[Call]) -> Vec<Call> {
    let mut own = Vec::new();
    let mut loader: Option<&str> = None;
    for (i, call) in calls.iter().enumerate() {
        if call.line.contains("\"/etc/ld.so.preload\"") {
            loader = Some("");
        } else if loader == Some("") && calls[i.saturating_sub(2)].line.contains("/etc/ld.so.cache") && call.name == "mmap" {
            // The loader ends with the munmap of its cache.
            loader = call.line.rsplit_once("= ").map(|(_, address)| address);
        } else if let Some(address) = loader
            && !address.is_empty()
            && call.name == "munmap"
            && call.line.contains(address)
        {
            loader = None;
        }
        let library = LIBRARY.contains(&call.name.as_str()) || call.name == "fcntl" && call.line.contains("F_GETFD") || is_rlimit(call);
        if loader.is_none() && !library {
            own.push(call.clone());
        }
    }
    assert!(loader.is_none(), "the end of the dynamic loader was not recognised");
    own
}

/// The C library asks for the stack's limit at its start.
fn is_rlimit(call: &Call) -> bool {
    call.line.starts_with("prlimit64(0, RLIMIT_STACK, NULL")
}
