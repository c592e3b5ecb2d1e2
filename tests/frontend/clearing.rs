//! `system prune`, `df` and `doctor`.

use crate::common::Said;
use crate::host::{Host, MYDOCKER, end};
use serde_json::Value;
use std::fs;
use std::process::{Command, Stdio};

#[test]
fn prune_removes_what_is_stopped_and_asks_first() {
    let host = Host::new();
    let running = host.idle("running", &["-v", "kept:/data"]);
    host.ok(&["run", "--name", "ended", "--network", "none", "-v", "/anonymous", "busybox", "sh", "-c", "echo 12345 >/file"]);
    let ended = host.inspect("ended", "{{.Id}}");
    host.my(&["system", "prune"]).fails(1, &["WARNING! This will remove:", "[y/N]", "cancelled"]);
    assert_eq!(host.ok(&["ps", "-a", "--format", "{{.Names}}"]), "ended\nrunning");
    assert_eq!(host.ok(&["container", "prune", "-f", "--filter", "until=1h"]), "Total reclaimed space: 0B");
    assert_eq!(host.ok(&["container", "prune", "-f"]), format!("Deleted Containers:\n{ended}\n\nTotal reclaimed space: 6B"));
    assert_eq!(host.ok(&["volume", "ls", "-q"]).lines().count(), 2, "volumes go with --volumes only");
    let said = host.ok(&["system", "prune", "-af", "--volumes"]);
    assert!(said.contains("Deleted Volumes:") && !said.contains("Deleted Images:"), "{said}");
    assert_eq!(host.ok(&["volume", "ls", "-q"]), "kept");
    host.ok(&["rm", "-f", &running]);
    let said = host.ok(&["system", "prune", "-af", "--volumes"]);
    assert!(said.contains("untagged: busybox:latest") && said.contains("deleted: sha256:"), "{said}");
    assert_eq!(host.ok(&["volume", "ls", "-q"]), "kept", "one that was named stays");
}

#[test]
fn disk_use_adds_up() {
    let host = Host::new();
    host.idle("running", &["-v", "data:/data"]);
    host.ok(&["exec", "running", "sh", "-c", "echo 12345 >/data/file; echo 1234567 >/file"]);
    host.ok(&["volume", "create", "empty"]);
    let rows = host.ok(&["system", "df", "--format", "{{.Type}}|{{.TotalCount}}|{{.Active}}|{{.Size}}|{{.Reclaimable}}"]);
    let rows: Vec<&str> = rows.lines().collect();
    assert!(rows[0].starts_with("Images|1|1|") && rows[0].ends_with("|0B (0%)"), "{rows:?}");
    assert!(rows[1].starts_with("Containers|1|1|8B|0B"), "{rows:?}");
    assert_eq!(rows[2], "Local Volumes|2|1|6B|0B (0%)");
    let verbose = host.ok(&["system", "df", "-v"]);
    for heading in ["Images space usage:", "Containers space usage:", "Local Volumes space usage:"] {
        assert!(verbose.contains(heading), "{verbose}");
    }
    let both = format!(
        "{} {}",
        host.ok(&["version", "--format", "{{.Client.Version}}"]),
        host.ok(&["info", "--format", "{{.ContainersRunning}}"])
    );
    assert_eq!(both, format!("{} 1", env!("CARGO_PKG_VERSION")));
    assert!(host.ok(&["info"]).contains("Storage Driver: overlay"));
}

#[test]
fn doctor_names_what_a_crash_left_and_mends_it() {
    let host = Host::new();
    assert_eq!(host.ok(&["system", "doctor"]), "Nothing is amiss.");
    let id = host.idle("crashed", &[]);
    let removed = host.idle("removed", &["--rm"]);
    for name in ["crashed", "removed"] {
        let (program, monitor) = (host.pid(name), host.monitor(name));
        end(monitor);
        let said = host.my(&["system", "doctor"]);
        assert!(said.code == 1 && said.out.contains("without its monitor") && said.out.contains(&format!("{program} (sleep)")), "{said:?}");
        end(program);
    }
    let half = host.root().join("containers").join(format!(".{}", "a".repeat(64)));
    fs::create_dir_all(half.join("upper")).unwrap();
    fs::write(host.root().join("names/ghost"), "b".repeat(64)).unwrap();
    fs::create_dir(host.root().join("volumes")).ok();
    fs::create_dir(host.root().join("volumes/.new.1")).unwrap();
    let living = host.idle("living", &[]);
    let rows = host.my(&["system", "doctor", "--format", "json"]);
    assert_eq!(rows.code, 1);
    let kinds: Vec<String> =
        rows.out.lines().map(|row| serde_json::from_str::<Value>(row).unwrap()["Kind"].as_str().unwrap().to_owned()).collect();
    for kind in ["state", "runtime", "cgroup", "files"] {
        assert!(kinds.iter().any(|found| found == kind), "{kind} in {rows:?}");
    }
    assert!(rows.out.contains(&id) && !rows.out.contains(&living), "{rows:?}");
    let said = host.my(&["system", "doctor", "--fix"]);
    assert!(said.code == 0 && !said.out.contains("not mended"), "{said:?}");
    assert_eq!(host.ok(&["system", "doctor", "--fix"]), "Nothing is amiss.", "once is enough");
    assert_eq!(host.ok(&["ps", "-a", "--no-trunc", "--format", "{{.ID}} {{.State}}"]), format!("{living} running\n{id} exited"));
    assert!(!half.exists() && !host.root().join("names/ghost").exists() && !host.root().join("volumes/.new.1").exists());
    for id in [&id, &removed] {
        let cgroups = Command::new("find").args(["/sys/fs/cgroup", "-name", id]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&cgroups.stdout), "");
    }
    host.ok(&["start", "crashed"]);
}

#[test]
fn a_container_whose_monitor_was_killed_ends_as_any() {
    let host = Host::new();
    host.idle("orphan", &[]);
    end(host.monitor("orphan"));
    assert_eq!(host.ok(&["stop", "-t", "0", "orphan"]), "orphan");
    assert_eq!(host.inspect("orphan", "{{.State.Status}} {{.State.ExitCode}}"), "exited 137");
    assert_eq!(host.actions("orphan"), ["create", "start", "kill", "kill", "die", "stop"]);
    assert_eq!(host.ok(&["system", "doctor"]), "Nothing is amiss.");
}

#[test]
fn a_mount_in_a_containers_directory_is_found_with_its_holder() {
    let host = Host::new();
    host.ok(&["create", "--name", "mounted", "--network", "none", "busybox", "true"]);
    let place = host.root().join("containers").join(host.inspect("mounted", "{{.Id}}")).join("rootfs");
    // The mount is this test's own: nobody else sees the namespace.
    let script = r#"
mount -t tmpfs none "$P"
(cd "$P" && exec sleep 1000) &
until [ "$(cat /proc/$!/comm)" = sleep ]; do sleep 0.01; done
$M system doctor; $M system doctor --fix; kill $!; $M system doctor; grep -c "$P" /proc/self/mountinfo"#;
    let program = format!("{MYDOCKER} --root {}", host.root().display());
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script]).env("M", program).env("P", &place).stdin(Stdio::null());
    let said = Said::of(command.output().unwrap());
    let lines: Vec<&str> = said.out.lines().collect();
    assert!(lines[0].contains("found: mount: the mount") && lines[0].contains(place.to_str().unwrap()), "{said:?}");
    assert!(lines[0].ends_with("(sleep)") && lines[2].starts_with("mended: mount"), "{said:?}");
    assert_eq!(lines[3..], ["1 of 1 mended.", "Nothing is amiss.", "0"], "{said:?}");
}
