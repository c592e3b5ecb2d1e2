//! mydocker for an ordinary user: all in a user namespace of his, with ranges of ids or with one.

use crate::common::{Said, eventually, make_rootfs};
use crate::host::{MYDOCKER, kill};
use rustix::process::Signal;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Where the ranges of every test's user begin.
const FIRST: u32 = 700_000;

/// A user with a home, known to a mount namespace in which each of his commands runs.
struct User {
    uid: u32,
    dir: PathBuf,
}

/// Sees to the accounts, gives out /dev/net/tun as distributions do, and becomes the user.
const AS_USER: &str = "set -e; cd \"$1\"; \
    for file in passwd subuid subgid; do touch /etc/$file; mount --bind $file /etc/$file; done; \
    if [ -e /dev/net/tun ]; then [ -e tun ] || mknod -m 666 tun c 10 200; mount --bind tun /dev/net/tun; fi; \
    uid=$2; shift 2; exec setpriv --reuid $uid --regid $uid --clear-groups \"$@\"";

impl User {
    fn new(uid: u32, ranges: bool) -> Self {
        let dir = std::env::temp_dir().join(format!("mydocker-user-{}-{uid}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        fs::set_permissions(&dir, PermissionsExt::from_mode(0o755)).unwrap();
        let tree = dir.join("tree");
        make_rootfs(&tree);
        fs::create_dir_all(tree.join("etc")).unwrap();
        fs::write(tree.join("etc/group"), "root:x:0:root\nwheel:x:10:root\n").unwrap();
        fs::write(tree.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").unwrap();
        fs::write(tree.join("owned"), "").unwrap();
        chown(tree.join("owned"), Some(33), Some(44)).unwrap();
        let tar = Command::new("tar").arg("-C").arg(&tree).arg("-cf").arg(dir.join("busybox.tar")).arg(".").status();
        assert!(tar.unwrap().success());
        crate::common::copy_program(MYDOCKER.as_ref(), &dir.join("mydocker"));
        let passwd = fs::read_to_string("/etc/passwd").unwrap();
        fs::write(dir.join("passwd"), format!("{passwd}ann:x:{uid}:{uid}::/:/bin/sh\n")).unwrap();
        for file in ["subuid", "subgid"] {
            fs::write(dir.join(file), if ranges { format!("ann:{FIRST}:65536\n") } else { String::new() }).unwrap();
        }
        for name in ["home", "run"] {
            fs::create_dir(dir.join(name)).unwrap();
            chown(dir.join(name), Some(uid), Some(uid)).unwrap();
        }
        let user = Self { uid, dir };
        user.ok(&["import", "busybox.tar", "busybox"]);
        user
    }

    fn shell(&self, words: &[&str]) -> Command {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", AS_USER, "sh"]).arg(&self.dir).arg(self.uid.to_string());
        command.args(words).stdin(Stdio::null()).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("XDG_DATA_HOME", self.dir.join("home")).env("XDG_RUNTIME_DIR", self.dir.join("run"));
        command
    }

    fn my(&self, args: &[&str]) -> Said {
        Said::of(self.shell(&[&["./mydocker"], args].concat()).output().unwrap())
    }

    #[track_caller]
    fn ok(&self, args: &[&str]) -> String {
        self.my(args).ok().trim_end().to_owned()
    }

    #[track_caller]
    fn sh(&self, flags: &[&str], line: &str) -> String {
        self.ok(&[&["run", "--rm", "--network", "none"], flags, &["busybox", "sh", "-c", line]].concat())
    }

    /// In his data directory.
    fn data(&self, path: &str) -> PathBuf {
        self.dir.join("home/mydocker").join(path)
    }

    /// The pids and names of his processes, those with subordinate ids too; a zombie is nobody.
    fn processes(&self) -> Vec<(i32, String)> {
        let pids = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let name = |pid: i32| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let (head, rest) = stat.rsplit_once(") ")?;
            (!rest.starts_with('Z')).then(|| (pid, head.split_once('(').map_or("", |(_, name)| name).to_owned()))
        };
        let his = |pid: &i32| {
            let uid = fs::metadata(format!("/proc/{pid}")).map(|meta| meta.uid()).unwrap_or_default();
            uid == self.uid
                || (FIRST..FIRST + 65536).contains(&uid)
                    && fs::read_to_string(format!("/proc/{pid}/uid_map")).is_ok_and(|map| map.contains(&format!(" {} ", self.uid)))
        };
        pids.filter(his).filter_map(name).collect()
    }

    #[track_caller]
    fn nothing_left(&self) {
        assert_eq!(self.ok(&["ps", "-aq"]), "");
        eventually("all of the user's processes are gone", || self.processes().is_empty());
        assert_eq!(fs::read_dir(self.data("containers")).unwrap().count(), 0);
    }
}

impl Drop for User {
    fn drop(&mut self) {
        for id in self.my(&["ps", "-aq"]).out.lines() {
            self.my(&["rm", "-f", id]);
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn has(program: &str) -> bool {
    let found = ["/usr/bin", "/usr/sbin", "/bin"].iter().any(|dir| PathBuf::from(dir).join(program).exists());
    if !found {
        crate::common::skipped(&format!("{program} is not installed"));
    }
    found
}

#[test]
fn an_ordinary_user_has_containers_with_ranges_of_ids() {
    if !has("newuidmap") {
        return;
    }
    let user = User::new(12_721, true);
    let map =
        user.sh(&[], "id -u; id -G; cat /proc/self/uid_map; stat -c '%u %g' /owned; touch /made; chown 7 /made; ls /proc/self/fd | wc -l");
    let words: Vec<&str> = map.split_whitespace().collect();
    assert_eq!(words, ["0", "0", "10", "0", "12721", "1", "1", "700000", "65536", "33", "44", "4"]);
    // On the host the files of the image belong to the ranges.
    let layer = fs::read_dir(user.data("layers")).unwrap().flatten().map(|entry| entry.path()).find(|path| path.is_dir()).unwrap();
    let meta = fs::metadata(layer.join("owned")).unwrap();
    assert_eq!((meta.uid(), meta.gid()), (FIRST + 32, FIRST + 43));
    assert_eq!(user.sh(&["-u", "1000:1000"], "id -u; touch /dev/shm/x && echo wrote"), "1000\nwrote");

    // A whole life, each command of which enters the namespace that the first one made.
    let bind = user.dir.join("home/bind");
    let volumes = ["-v", "vol:/vol", "-v", &format!("{}:/bind", bind.display())];
    let script = "echo out; touch /bind/file /new; chown 5:6 /new; chown 9 /vol; rm /etc/group; exec sleep 1000";
    let run = [&["run", "-d", "--name", "box", "--network", "none", "-e", "A=b"], &volumes[..], &["busybox", "sh", "-c", script]].concat();
    let id = user.ok(&run);
    assert_eq!(user.ok(&["ps", "--format", "{{.Names}} {{.State}}"]), "box running");
    eventually("it has begun", || user.ok(&["exec", "box", "cat", "/proc/1/comm"]) == "sleep");
    assert_eq!(user.ok(&["exec", "box", "sh", "-c", "echo $A; id -u"]), "b\n0");
    assert_eq!(user.ok(&["exec", "-u", "3", "box", "id", "-u"]), "3");
    assert_eq!(user.ok(&["exec", "box", "sh", "-c", "ls /proc/self/fd | wc -l"]), "4", "nothing of ours is inherited");
    assert_eq!(user.ok(&["logs", "box"]), "out");
    assert_eq!(fs::metadata(bind.join("file")).unwrap().uid(), 12_721);
    let place = user.ok(&["inspect", "-f", "{{(index .Mounts 0).Source}}", "box"]);
    assert_eq!((place.as_str(), fs::metadata(&place).unwrap().uid()), (user.data("volumes/vol/_data").to_str().unwrap(), FIRST + 8));
    let changes = user.ok(&["diff", "box"]);
    assert!(changes.contains("D /etc/group") && changes.contains("A /new"), "{changes}");
    user.ok(&["cp", "box:/new", "home/copy"]);
    assert_eq!(fs::metadata(user.dir.join("home/copy")).unwrap().uid(), 12_721);
    user.my(&["commit", "box", "image"]).ok();
    assert_eq!(
        user.ok(&["run", "--rm", "--network", "none", "image", "sh", "-c", "stat -c %u:%g /new; ls /etc/group 2>&1 | wc -l"]),
        "5:6\n1"
    );
    let top = user.ok(&["top", "box"]);
    assert!(top.contains("sleep 1000"), "{top}");
    user.ok(&["stop", "-t", "0", "box"]);
    assert_eq!(user.ok(&["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "box"]), "exited 137");
    user.ok(&["cp", "home/copy", "box:/etc/put"]);
    user.ok(&["start", "box"]);
    assert_eq!(user.ok(&["exec", "box", "stat", "-c", "%u", "/etc/put", "/new"]), "0\n5");
    assert_eq!(user.ok(&["kill", "box"]), "box");
    user.ok(&["rm", "-f", "box"]);
    assert!(!user.data("containers").join(&id).exists(), "also what belongs to the ranges is gone");
    user.ok(&["volume", "rm", "vol"]);
    assert_eq!(user.ok(&["system", "doctor"]), "Nothing is amiss.");
    user.nothing_left();
}

#[test]
fn one_id_does_where_there_are_no_ranges() {
    let user = User::new(12_722, false);
    let said =
        user.my(&["run", "--rm", "--network", "none", "busybox", "sh", "-c", "id -u; id -G; cat /proc/self/uid_map; stat -c %u /owned"]);
    assert_eq!(said.out.split_whitespace().collect::<Vec<_>>(), ["0", "0", "0", "12722", "1", "0"], "{said:?}");
    let run = |flags: &[&str]| user.my(&[&["run", "--rm", "--network", "none"], flags, &["busybox", "true"]].concat());
    run(&["-u", "1000"]).fails(125, &["user 1000 does not exist", "/etc/subuid"]);
    run(&["--group-add", "5"]).fails(125, &["additional groups", "maps only its own id"]);
    let said =
        Said::of(user.shell(&["script", "-qec", "./mydocker run --rm -it --network none busybox tty", "/dev/null"]).output().unwrap());
    assert!(said.out.contains("/dev/pts/0") || said.out.contains("/dev/console"), "{said:?}");
    user.ok(&["run", "-d", "--name", "box", "--network", "host", "busybox", "sleep", "1000"]);
    assert_eq!(user.ok(&["exec", "box", "id", "-u"]), "0");
    user.ok(&["rm", "-f", "box"]);
    user.nothing_left();
}

#[test]
fn what_an_ordinary_user_cannot_have_is_refused_in_one_sentence() {
    let user = User::new(12_723, false);
    let refused = |flags: &[&str], words: &[&str]| {
        let said = user.my(&[&["run", "--rm"], flags, &["busybox", "true"]].concat());
        assert_eq!((said.code, said.err.lines().count()), (125, 1), "{said:?}");
        assert!(words.iter().all(|word| said.err.contains(word)), "{said:?}");
    };
    // The user's shell is in a cgroup of root's.
    refused(&["--network", "none", "-m", "32m"], &["permission denied", "delegate a cgroup"]);
    refused(&["--ip", "10.0.0.9"], &["--ip needs root"]);
    refused(&["--network", "lan"], &["network lan needs root"]);
    refused(&["--userns", "auto", "--network", "none"], &["--userns", "root"]);
    user.my(&["network", "create", "lan"]).fails(1, &["by root only"]);
    user.nothing_left();
}

#[test]
fn a_killed_keeper_costs_no_container() {
    let user = User::new(12_724, false);
    user.ok(&["run", "-d", "--name", "first", "--network", "none", "busybox", "sleep", "1000"]);
    let keeper: serde_json::Value = serde_json::from_slice(&fs::read(user.dir.join("run/mydocker/keeper.json")).unwrap()).unwrap();
    kill(keeper["pid"].as_i64().unwrap().try_into().unwrap(), Signal::KILL);
    assert_eq!(user.ok(&["exec", "first", "echo", "in"]), "in");
    user.ok(&["run", "-d", "--name", "second", "--network", "none", "busybox", "sleep", "1000"]);
    assert_eq!(user.ok(&["exec", "second", "echo", "in"]), "in");
    user.ok(&["rm", "-f", "first", "second"]);
    user.nothing_left();
}

#[test]
fn an_ordinary_user_has_a_network_and_published_ports() {
    if !has("slirp4netns") && !has("pasta") {
        return;
    }
    let user = User::new(12_725, false);
    let id = user.ok(&[
        "run",
        "-d",
        "--name",
        "web",
        "-p",
        "127.0.0.1::80",
        "busybox",
        "sh",
        "-c",
        "while :; do echo hello | nc -l -p 80; done",
    ]);
    let port = user.ok(&["port", "web", "80"]);
    eventually("the port answers", || {
        use std::io::Read;
        let mut text = String::new();
        let fetched = std::net::TcpStream::connect(&port).and_then(|mut stream| {
            stream.set_read_timeout(Some(std::time::Duration::from_secs(2)))?;
            stream.read_to_string(&mut text)
        });
        fetched.is_ok() && text == "hello\n"
    });
    assert!(user.ok(&["ps"]).contains(&format!("{port}->80/tcp")));
    assert!(user.ok(&["exec", "web", "cat", "/etc/resolv.conf"]).contains("nameserver 1"), "{id}");
    user.ok(&["rm", "-f", "web"]);
    user.nothing_left();
}
