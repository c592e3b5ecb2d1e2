//! `--userns auto`: ids of its own for each container, by idmapped layers; nothing on the disk is shifted.

use crate::host::Host;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

const AUTO: [&str; 2] = ["--userns", "auto"];

fn first_id(host: &Host, container: &str) -> u32 {
    let map = fs::read_to_string(format!("/proc/{}/uid_map", host.pid(container))).unwrap();
    let words: Vec<u32> = map.split_whitespace().map(|word| word.parse().unwrap()).collect();
    assert_eq!((words.len(), words[0], words[2]), (3, 0, 65536), "{map}");
    assert_eq!(map, fs::read_to_string(format!("/proc/{}/gid_map", host.pid(container))).unwrap());
    assert_eq!(host.inspect(container, "{{index .HostConfig.IDMappings.UidMap 0}}"), format!("0:{}:65536", words[1]));
    words[1]
}

#[test]
fn each_container_has_ids_of_its_own_and_none_on_the_disk() {
    let host = Host::new();
    // So that no part of the way to the root is open to the container's ids.
    fs::set_permissions(&host.dir, fs::Permissions::from_mode(0o700)).unwrap();
    let script = "chown 33:44 /vol; touch /new /vol/file; chown 5:6 /new; rm /etc/group; echo out >/dev/stdout; exec sleep 1000";
    host.detached(&["--name", "one", AUTO[0], AUTO[1], "-v", "vol:/vol", "busybox", "sh", "-c", script]);
    host.detached(&["--name", "two", AUTO[0], AUTO[1], "-u", "7:8", "busybox", "sh", "-c", "echo two >/dev/stderr; exec sleep 1000"]);
    let (one, two) = (first_id(&host, "one"), first_id(&host, "two"));
    assert!(one.abs_diff(two) >= 65536 && one.min(two) >= 65536, "{one} {two}");
    let owner = |container: &str| fs::metadata(format!("/proc/{}", host.pid(container))).unwrap().uid();
    assert_eq!((owner("one"), owner("two")), (one, two + 7));
    crate::common::eventually("both have written", || {
        host.my(&["logs", "one"]).ok() == "out\n" && host.my(&["logs", "two"]).out.len() + host.my(&["logs", "two"]).err.len() == 4
    });
    // Inside all is as it would be without.
    assert_eq!(host.exec("one", "id -u; stat -c %u:%g /new /vol /etc/hosts /bin"), "0\n5:6\n33:44\n0:0\n0:0\n");
    assert_eq!(host.exec("two", "id -u; id -g"), "7\n8\n");
    // And on the disk.
    let on_disk = |path: std::path::PathBuf| fs::metadata(path).map(|meta| (meta.uid(), meta.gid())).unwrap();
    assert_eq!(on_disk(host.container("one").join("upper/new")), (5, 6));
    assert_eq!(on_disk(host.root().join("volumes/vol/_data")), (33, 44));
    let changes = host.my(&["diff", "one"]).ok();
    assert!(changes.contains("D /etc/group") && changes.contains("A /new"), "{changes}");

    // What goes in and out has the container's ids, while it runs and after.
    let file = host.dir.join("file");
    fs::write(&file, "text").unwrap();
    chown(&file, Some(8), Some(9)).unwrap();
    let listed = |host: &Host| {
        let output = host.command(&["export", "one"]).output().unwrap();
        let mut archive = tar::Archive::new(&output.stdout[..]);
        let find = |entry: tar::Entry<'_, &[u8]>| {
            let path = entry.path().unwrap().into_owned();
            (path == std::path::Path::new("new") || path == std::path::Path::new("put")).then(|| entry.header().uid().unwrap())
        };
        archive.entries().unwrap().filter_map(|entry| find(entry.unwrap())).collect::<Vec<_>>()
    };
    for round in 0..2 {
        host.my(&["cp", "-a", "file", "one:/put"]).ok();
        host.my(&["cp", "file", "one:/plain"]).ok();
        assert_eq!(on_disk(host.container("one").join("upper/put")), (8, 9));
        assert_eq!(on_disk(host.container("one").join("upper/plain")), (0, 0));
        host.my(&["cp", "-a", "one:/new", "got"]).ok();
        assert_eq!(on_disk(host.dir.join("got")), (5, 6));
        assert_eq!(listed(&host), [5, 8]);
        if round == 0 {
            assert_eq!(host.exec("one", "stat -c %u:%g /put /plain"), "8:9\n0:0\n");
            host.my(&["commit", "one", "image"]).ok();
            host.my(&["stop", "-t", "0", "one"]).ok();
        }
    }
    assert_eq!(host.run(&["--rm", AUTO[0], AUTO[1], "image", "stat", "-c", "%u:%g", "/new", "/put"]).ok(), "5:6\n8:9\n");
    assert_eq!(host.run(&["--rm", "image", "stat", "-c", "%u:%g", "/new"]).ok(), "5:6\n");
    // A second start has the same ids, and the volume too.
    host.my(&["start", "one"]).ok();
    assert_eq!(first_id(&host, "one"), one);
    assert_eq!(host.exec("one", "stat -c %u /vol/file /new"), "0\n5\n");
    host.my(&["rm", "-f", "one"]).ok();
    // Ids that are free are given again.
    host.detached(&["--name", "three", AUTO[0], AUTO[1], "busybox", "sleep", "1000"]);
    assert_eq!(first_id(&host, "three"), one);
    host.clear();
}

/// Its network namespace is its own too: it listens on low ports, pings, and is reached from outside. The script runs in a
/// network namespace of its own, which is the host here.
#[test]
fn the_network_belongs_to_the_containers_ids() {
    let host = Host::new();
    let script = r#"
set -e
ip link set lo up
$M network create --subnet 10.97.0.0/24 lan >/dev/null
$M run -d --name web --userns auto --network lan -p 127.0.0.1:8097:80 busybox sh -c 'while :; do echo hello | busybox nc -l -p 80; done' >/dev/null
$M exec web busybox ping -c 1 -W 2 127.0.0.1 | grep -o '1 packets received'
$M exec web busybox ip link set lo down 2>/dev/null || echo no capability
for i in 1 2 3 4 5 6 7 8 9 10; do said=$(busybox nc 127.0.0.1 8097 </dev/null || true); [ "$said" ] && break; sleep 0.1; done
echo $said
$M rm -f web >/dev/null
$M system doctor
$M network rm lan
"#;
    let mut command = std::process::Command::new("unshare");
    let program = format!("{} --root {}", crate::host::MYDOCKER, host.root().display());
    command.args(["--net", "--mount", "sh", "-c", script]).env("M", program).stdin(std::process::Stdio::null());
    let said = crate::common::Said::of(command.output().unwrap()).ok();
    assert_eq!(said.lines().collect::<Vec<_>>(), ["1 packets received", "no capability", "hello", "Nothing is amiss.", "lan"]);
}

#[test]
fn root_of_its_own_namespace_is_nobody_on_the_host() {
    let host = Host::new();
    let secret = host.dir.join("secret");
    fs::write(&secret, "secret").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let bind = format!("{}:/secret", secret.display());
    let said = host.run(&["--rm", AUTO[0], AUTO[1], "-v", &bind, "busybox", "sh", "-c", "stat -c %u /secret; cat /secret"]);
    assert!(said.code == 1 && said.out == "65534\n" && said.err.contains("ermission denied"), "{said:?}");
    let refused = |flags: &[&str], word: &str| {
        host.run(&[&["--rm"], &AUTO[..], flags, &["busybox", "true"]].concat()).fails(125, &[word]);
    };
    refused(&["--privileged"], "incompatible");
    refused(&["--pid", "container:x"], "conflicting options");
    refused(&["-u", "70000"], "70000");
    assert_eq!(host.sh(&[AUTO[0], AUTO[1], "--pid", "host"], "test -e /proc/1 && echo host"), "host\n");
    assert_eq!(host.sh(&["--userns", "host"], "cat /proc/self/uid_map").split_whitespace().next_back(), Some("4294967295"));
    host.nothing_left();
}
