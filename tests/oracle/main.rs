//! The same bundle through keel and through youki's libcontainer (`examples/libcontainer-runner.rs`): what the two containers
//! are, and what a second process in them is, must be the same fact by fact. Each fact that differs stands in
//! [`differences`] with both values and the reason; a difference that is not there fails, and so does one that is gone.

#[path = "../common/mod.rs"]
mod common;
mod differences;
mod seen;

use common::{Bundle, KEEL, eventually};
use differences::Difference;
use seen::Facts;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What the container tells of itself before it sleeps: what no file of its /proc says to the outside.
const REPORT: &str = "
    echo hostname: $(hostname)
    echo loopback flags: $(cat /sys/class/net/lo/flags)
    echo interfaces: $(ls /sys/class/net)
    echo ip_forward: $(cat /proc/sys/net/ipv4/ip_forward)
    echo domainname: $(cat /proc/sys/kernel/domainname)
    echo shm_rmid_forced: $(cat /proc/sys/kernel/shm_rmid_forced)
    echo cgroup as seen inside: $(sort /proc/self/cgroup)
    for path in / /dev /dev/shm /etc /proc/sys /sys /sys/fs/cgroup /tmp; do
        if touch $path/.try 2>/dev/null; then rm $path/.try; echo may write $path: yes; else echo may write $path: no; fi
    done
    echo sees kcore: $(head -c 1 /proc/kcore 2>&1 | wc -c)
    echo sees scsi: $(ls /proc/scsi 2>&1)
    echo end: of the report
    exec sleep 1000";

/// The example is built by `cargo test`, and lies beside the folder of the test executables. `KEEL_ORACLE` names another
/// runtime with runc's command line, to see who stands alone with a difference.
fn other() -> PathBuf {
    if let Some(path) = std::env::var_os("KEEL_ORACLE") {
        return path.into();
    }
    let deps = std::env::current_exe().unwrap();
    let path = deps.ancestors().nth(2).unwrap().join("examples/libcontainer-runner");
    assert!(path.exists(), "{} is not there: cargo build --example libcontainer-runner", path.display());
    path
}

/// Runs `program` with the bundle's state root; the output is in the bundle's file `name`.
fn call(program: &Path, bundle: &Bundle, name: &str, args: &[&str]) {
    let output = File::create(bundle.dir.join(name)).unwrap();
    let errors = File::create(bundle.dir.join("errors")).unwrap();
    let status = Command::new(program)
        .arg("--root")
        .arg(bundle.state_root())
        .args(args)
        .current_dir(&bundle.dir)
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .status()
        .unwrap();
    let said = fs::read_to_string(bundle.dir.join("errors")).unwrap();
    assert!(status.success(), "{} {args:?}: {status}: {said}", program.display());
}

/// create, start, exec, look, delete.
fn observe(program: &Path, bundle: &Bundle) -> Facts {
    let id = bundle.id();
    bundle.write();
    let said = |file: &str| fs::read_to_string(bundle.dir.join(file)).unwrap_or_default();
    let number = |file: &str| said(file).trim().parse::<i32>().unwrap();
    let sleeps = |pid: i32| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line == b"sleep\x001000\0");

    call(program, bundle, "report", &["create", "--bundle", ".", "--pid-file", "pid", &id]);
    call(program, bundle, "start", &["start", &id]);
    let pid = number("pid");
    eventually("the program", || sleeps(pid));
    call(program, bundle, "exec", &["exec", "--detach", "--pid-file", "exec.pid", &id, "sleep", "1000"]);
    let second = number("exec.pid");
    eventually("the second program", || sleeps(second));

    let mut facts = Facts::new();
    let mut take = |prefix: &str, more: Facts| facts.extend(more.into_iter().map(|(k, v)| (format!("{prefix}{k}"), v)));
    take("init ", seen::process(pid));
    take("exec ", seen::process(second));
    take("", seen::mounts(pid));
    take("", seen::limits(pid, &id));
    take("", seen::files("file /dev", &PathBuf::from(format!("/proc/{pid}/root/dev"))));
    take("says ", said("report").lines().filter_map(|line| line.split_once(": ")).map(|(k, v)| (k.to_owned(), v.to_owned())).collect());
    call(program, bundle, "delete", &["delete", "--force", &id]);
    take("", seen::files("left in rootfs", &bundle.rootfs()));
    assert_eq!(facts.get("says end").map(String::as_str), Some("of the report"), "{}", said("report"));

    // The two containers have folders and ids of their own.
    let dir = bundle.dir.display().to_string();
    let same = |text: String| text.replace(&dir, "BUNDLE").replace(&id, "ID");
    facts.into_iter().map(|(k, v)| (same(k), same(v))).collect()
}

/// Observes both and compares: `bundle` names the rows of the table that hold for it, beside those for all.
fn compare(name: &str, change: impl Fn(&mut Value)) {
    let make = || {
        let bundle = Bundle::new(&["sh", "-c", REPORT]);
        let path = format!("/{}", bundle.id());
        bundle.with(|config| {
            config["linux"]["cgroupsPath"] = json!(path);
            change(config);
        })
    };
    let (ours, theirs) = (make(), make());
    let (ours, theirs) = (observe(Path::new(KEEL), &ours), observe(&other(), &theirs));
    let mut wrong = String::new();
    let rows: Vec<&Difference> = differences::ALL.iter().filter(|row| row.holds(name)).collect();
    let mut used = vec![false; rows.len()];
    let all: std::collections::BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
    for fact in all {
        let pair = [&ours, &theirs].map(|facts| facts.get(fact).map_or("-", String::as_str));
        if pair[0] == pair[1] {
            continue;
        }
        match rows.iter().position(|row| row.is(fact, pair[0], pair[1])) {
            Some(row) => used[row] = true,
            None => wrong += &format!("{fact}\n    keel          {}\n    libcontainer  {}\n", pair[0], pair[1]),
        }
    }
    for (row, _) in rows.iter().zip(used).filter(|(_, used)| !used) {
        wrong += &format!("{}: listed as a difference, and is none ({})\n", row.fact, row.reason);
    }
    assert!(wrong.is_empty(), "{name}: {} facts compared, not as listed:\n{wrong}", ours.len());
    assert!(ours.len() > 150, "only {} facts", ours.len());
}

/// A bundle of the repository, with the report as its program and the test's own root file system.
fn sample(name: &str, config: &mut Value) {
    let text = fs::read_to_string(format!("{}/bundles/{name}/config.json", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let (args, path) = (config["process"]["args"].take(), config["linux"]["cgroupsPath"].take());
    *config = serde_json::from_str(&text).unwrap();
    config["process"]["args"] = args;
    config["linux"]["cgroupsPath"] = path;
    config["root"]["path"] = json!("rootfs");
}

#[test]
fn what_spec_writes() {
    compare("spec", |_| {});
}

#[test]
fn what_docker_would_ask_for() {
    compare("docker", |config| {
        sample("seccomp", config);
        let limits: Value =
            serde_json::from_str(&fs::read_to_string(format!("{}/bundles/limits/config.json", env!("CARGO_MANIFEST_DIR"))).unwrap())
                .unwrap();
        for field in ["rlimits", "oomScoreAdj"] {
            config["process"][field] = limits["process"][field].clone();
        }
        config["linux"]["resources"] = limits["linux"]["resources"].clone();
        config["hostname"] = json!("docker-like");
        config["process"]["user"] = json!({ "uid": 1000, "gid": 1000, "additionalGids": [4, 27], "umask": 0o27 });
        config["process"]["env"] = json!(["PATH=/bin", "HOME=/home/app", "EMPTY=", "SPACE=a b"]);
        config["process"]["cwd"] = json!("/tmp");
        config["process"]["noNewPrivileges"] = json!(true);
        config["linux"]["sysctl"] = json!({ "net.ipv4.ip_forward": "1", "kernel.shm_rmid_forced": "1" });
    });
}

#[test]
fn a_user_namespace() {
    compare("userns", |config| sample("userns", config));
}

#[test]
fn mounts_and_devices_of_every_sort() {
    compare("mounts", |config| {
        config["root"]["readonly"] = json!(true);
        let mounts = config["mounts"].as_array_mut().unwrap();
        let bind = |source: &str, destination: &str, options: &[&str]| json!({ "destination": destination, "type": "bind", "source": source, "options": options });
        mounts.extend([
            bind("rootfs/etc", "/mnt/rw", &["rbind"]),
            bind("rootfs/etc", "/mnt/ro", &["bind", "ro", "nosuid", "nodev", "noexec"]),
            bind("rootfs/etc/passwd", "/mnt/file", &["bind", "ro"]),
            bind("rootfs/etc", "/mnt/slave", &["rbind", "rslave"]),
            bind("rootfs/etc", "/mnt/shared", &["bind", "shared"]),
            json!({ "destination": "/tmp", "type": "tmpfs", "source": "scratch", "options": ["nosuid", "nodev", "mode=1770", "size=1m", "uid=7", "gid=8"] }),
            json!({ "destination": "/tmp/inner", "type": "tmpfs", "source": "inner", "options": ["ro"] }),
        ]);
        config["linux"]["devices"] = json!([
            { "path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o640, "uid": 3, "gid": 4 },
            { "path": "/dev/block", "type": "b", "major": 7, "minor": 0, "fileMode": 0o600 },
        ]);
        config["linux"]["maskedPaths"] = json!(["/proc/kcore", "/proc/scsi", "/sys/firmware", "/not/there"]);
        config["linux"]["readonlyPaths"] = json!(["/proc/sys", "/proc/irq", "/not/there"]);
        config["domainname"] = json!("example");
    });
}
