//! `commit`, `diff`, `export`.

use crate::host::{Host, members};

#[test]
fn diff_tells_what_changed() {
    let host = Host::new();
    host.run(&["--name", "idle", "busybox", "true"]).ok();
    assert_eq!(host.my(&["diff", "idle"]).ok(), "", "what the runtime mounts is no change");
    let line = "echo x > /etc/passwd; rm /etc/group; mkdir -p '/a b/c'; ln -s x /root/link";
    host.run(&["--name", "busy", "busybox", "sh", "-c", line]).ok();
    let expected = "A /a b\nA /a b/c\nC /etc\nD /etc/group\nC /etc/passwd\nC /root\nA /root/link\n";
    assert_eq!(host.my(&["diff", "busy"]).ok(), expected);
    host.my(&["diff", "nope"]).fails(1, &["no such container: nope"]);
}

#[test]
fn a_committed_image_is_as_the_container_was() {
    let host = Host::new();
    let flags = ["-e", "A=1", "-w", "/root", "-u", "app", "--label", "l=v", "--expose", "80", "--entrypoint", "sh", "--stop-signal", "INT"];
    host.run(&[&["--name", "c1"], &flags[..], &["busybox", "-c", "exit 0"]].concat()).ok();
    let id =
        host.my(&["commit", "-a", "me", "-m", "why", "-c", "ENV B=2", "-c", "CMD [\"-c\", \"id -un; pwd; echo $A$B\"]", "c1", "x:1"]).ok();
    assert_eq!(host.my(&["image", "inspect", "-f", "{{.Id}}", "x:1"]).ok(), id);
    assert_eq!(host.run(&["--rm", "x:1"]).ok(), "app\n/root\n12\n");
    let config = |format: &str| host.my(&["image", "inspect", "-f", format, "x:1"]).ok().trim().to_owned();
    assert_eq!(config("{{.Author}} {{.Comment}} {{.Config.StopSignal}} {{.Config.Labels.l}}"), "me why INT v");
    assert_eq!(config("{{json .Config.ExposedPorts}}"), "{\"80/tcp\":{}}");
    // Without a name, and by a name that is no name.
    let id = host.my(&["commit", "c1"]).ok();
    assert_eq!(host.my(&["images", "-q", "--no-trunc", "-f", "dangling=true"]).ok(), id);
    host.my(&["commit", "c1", "No:Name:1"]).fails(1, &["is not the name of an image"]);
    host.my(&["commit", "-c", "FROM scratch", "c1"]).fails(1, &["FROM"]);
    host.my(&["commit", "nope"]).fails(1, &["no such container: nope"]);
}

#[test]
fn a_running_container_is_paused_and_goes_on() {
    let host = Host::new();
    host.running("c1", &[], "echo one > /file; dd if=/dev/urandom of=/big bs=1M count=32 2>/dev/null");
    let seen = std::thread::scope(|scope| {
        let commit = scope.spawn(|| host.my(&["commit", "c1", "paused"]).ok());
        let mut seen = false;
        while !commit.is_finished() {
            seen |= host.my(&["inspect", "-f", "{{.State.Status}}", "c1"]).ok() == "paused\n";
        }
        commit.join().unwrap();
        seen
    });
    assert!(seen, "nobody saw the container paused");
    assert_eq!(host.my(&["inspect", "-f", "{{.State.Status}}", "c1"]).ok(), "running\n");
    assert_eq!(host.exec("c1", "cat /file"), "one\n");
    assert_eq!(host.run(&["--rm", "paused", "cat", "/file"]).ok(), "one\n");
    host.my(&["commit", "--no-pause", "c1", "unpaused"]).ok();
    host.my(&["commit", "--pause=false", "c1", "unpaused"]).ok();
    // One that its user paused stays so.
    host.my(&["pause", "c1"]).ok();
    host.my(&["commit", "c1", "still"]).ok();
    assert_eq!(host.my(&["inspect", "-f", "{{.State.Status}}", "c1"]).ok(), "paused\n");
    host.my(&["unpause", "c1"]).ok();
}

#[test]
fn export_is_the_whole_tree_without_volumes() {
    let host = Host::new();
    host.running("c1", &["-v", "vol:/data"], "echo secret > /data/secret; echo x > /file; rm /etc/group");
    let live = host.bytes(&["export", "c1"]);
    let names = members(&live);
    assert!(names.iter().any(|name| name == "file") && names.iter().any(|name| name == "bin/sh"), "{names:?}");
    let below = |name: &str, dir: &str| name.strip_prefix(dir).is_some_and(|rest| !rest.is_empty());
    let bad = |name: &&String| name.contains("secret") || name.contains("group") || below(name, "proc/") || below(name, "dev/");
    assert_eq!(names.iter().find(bad), None);
    host.my(&["rm", "-f", "c1"]).ok();
    host.my(&["create", "--name", "d1", "--network", "none", "busybox"]).ok();
    host.my(&["export", "-o", "d.tar", "d1"]).ok();
    // What was exported can be imported, and runs.
    host.my(&["import", "d.tar", "again"]).ok();
    host.fed(&["import", "-", "live"], &live).ok();
    assert_eq!(host.run(&["--rm", "again", "cat", "/etc/group"]).ok(), "root:x:0:\napp:x:1000:\n");
    assert_eq!(host.run(&["--rm", "live", "cat", "/file"]).ok(), "x\n");
    host.my(&["export", "nope"]).fails(1, &["no such container: nope"]);
}
