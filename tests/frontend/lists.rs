//! `images`, `history`, `tag`, `rmi`, `image prune`, `image inspect`.

use crate::host::{Host, tarball};

#[test]
fn images_in_all_their_forms() {
    let host = Host::new();
    host.my(&["tag", "busybox", "someone/tool:v1"]).ok();
    host.fed(&["import", "-c", "LABEL kind=bare", "-"], tarball()).ok();
    let table = host.my(&["images"]).ok();
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("REPOSITORY") && lines[0].contains("TAG       IMAGE ID") && lines[0].ends_with("SIZE"), "{table}");
    assert_eq!(lines.len(), 4, "{table}");
    assert!(lines.iter().any(|line| line.starts_with("<none>") && line.contains("<none>    ")), "{table}");
    assert!(lines[1..].iter().all(|line| line.contains(" ago ") && line.ends_with("MB")), "{table}");

    let ids = host.my(&["image", "ls", "-q"]).ok();
    assert_eq!(ids.lines().count(), 2, "one image has two names: {ids}");
    assert!(ids.lines().all(|id| id.len() == 12));
    let long = host.my(&["images", "-q", "--no-trunc", "busybox"]).ok();
    assert!(long.starts_with("sha256:") && long.trim().len() == 71, "{long}");
    assert!(host.my(&["images", "--digests"]).ok().lines().next().unwrap().contains("TAG       DIGEST"));

    let named = |args: &[&str]| {
        let out = host.my(&[&["images", "--format", "{{.Repository}}:{{.Tag}}"], args].concat()).ok();
        let mut lines: Vec<String> = out.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(named(&["busybox"]), ["busybox:latest"]);
    assert_eq!(named(&["someone/*"]), ["someone/tool:v1"]);
    assert_eq!(named(&["-f", "reference=*:latest"]), ["busybox:latest"]);
    assert_eq!(named(&["-f", "dangling=true"]), ["<none>:<none>"]);
    assert_eq!(named(&["-f", "dangling=false"]), ["busybox:latest", "someone/tool:v1"]);
    assert_eq!(named(&["-f", "label=kind=bare"]), ["<none>:<none>"]);
    assert_eq!(named(&["-f", "since=busybox"]), ["<none>:<none>"]);
    assert_eq!(named(&["-f", "until=1h"]), [""; 0]);
    host.my(&["images", "-f", "colour=red"]).fails(1, &["invalid filter 'colour'"]);
    let json = host.my(&["images", "--format", "json", "busybox"]).ok();
    let row: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&row["Repository"], &row["Tag"]), (&"busybox".into(), &"latest".into()));
    assert!(row["CreatedAt"].as_str().unwrap().ends_with(" +0000 UTC"), "{row}");
}

#[test]
fn history_and_inspect() {
    let host = Host::new();
    host.run(&["--name", "c1", "busybox", "touch", "/new"]).ok();
    host.my(&["commit", "-m", "a message", "c1", "next"]).ok();
    let table = host.my(&["history", "next"]).ok();
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 3, "{table}");
    assert!(lines[0].starts_with("IMAGE") && lines[0].contains("CREATED BY"), "{table}");
    assert!(lines[1].contains("touch /new") && lines[1].ends_with("a message"), "{table}");
    assert!(lines[2].starts_with("<missing>") && lines[2].contains("MB"), "{table}");
    let ids = host.my(&["history", "-q", "--no-trunc", "next"]).ok();
    let id = host.my(&["image", "inspect", "-f", "{{.Id}}", "next"]).ok();
    assert_eq!(ids, format!("{id}<missing>\n"));
    assert_eq!(host.my(&["history", "--format", "{{.Comment}}", "next"]).ok().lines().next(), Some("a message"));
    assert_eq!(host.my(&["inspect", "-f", "{{json .RepoTags}}", "next"]).ok(), "[\"next:latest\"]\n");
    assert_eq!(host.my(&["image", "inspect", "-f", "{{len .RootFS.Layers}}", "next"]).ok(), "2\n");
    let said = host.my(&["image", "inspect", "nope"]);
    assert_eq!(said.out, "[]\n");
    said.fails(1, &["no such image: nope"]);
    host.my(&["history", "nope"]).fails(1, &["no such image: nope"]);
}

#[test]
fn names_come_and_go() {
    let host = Host::new();
    host.my(&["tag", "busybox", "two"]).ok();
    assert_eq!(host.my(&["rmi", "two"]).ok(), "Untagged: two:latest\n");
    let id = host.my(&["images", "-q", "--no-trunc"]).ok().trim().to_owned();
    host.my(&["tag", "nope", "x"]).fails(1, &["no such image: nope"]);
    host.my(&["tag", "busybox", "Upper"]).fails(1, &["lower case"]);
    host.my(&["rmi", "nope"]).fails(1, &["no such image: nope"]);
    let said = host.my(&["rmi", "-f", "nope"]);
    assert!(said.code == 0 && said.err.contains("no such image: nope"), "{said:?}");
    // By the beginning of its id.
    assert_eq!(host.my(&["rmi", &id[7..15]]).ok(), format!("Untagged: busybox:latest\nDeleted: {id}\n"));
    assert!(host.store().is_empty(), "{:?}", host.store());
}

#[test]
fn an_image_in_use_stays() {
    let host = Host::new();
    host.my(&["create", "--name", "c1", "--network", "none", "busybox", "true"]).ok();
    let said = host.my(&["rmi", "busybox", "nope"]).fails(1, &["is used by container", "no such image: nope"]);
    assert!(!said.contains("panicked"));
    // By force it loses its name, and the container still runs.
    assert_eq!(host.my(&["rmi", "-f", "busybox"]).ok(), "Untagged: busybox:latest\n");
    assert_eq!(host.my(&["image", "prune", "-a", "-f"]).ok(), "Total reclaimed space: 0B\n");
    host.my(&["start", "-a", "c1"]).ok();
    host.my(&["rm", "c1"]).ok();
    let said = host.my(&["image", "prune", "-f"]).ok();
    assert!(said.starts_with("Deleted Images:\ndeleted: sha256:") && said.contains("\nTotal reclaimed space: "), "{said}");
    assert!(host.store().is_empty(), "{:?}", host.store());
}

#[test]
fn prune_asks_and_filters() {
    let host = Host::new();
    host.fed(&["import", "-c", "LABEL keep=1", "-"], &archive_with("keep")).ok();
    host.fed(&["import", "-"], &archive_with("drop")).ok();
    let said = host.fed(&["image", "prune"], b"n\n");
    assert!(said.code == 0 && said.out.is_empty() && said.err.contains("[y/N]"), "{said:?}");
    host.my(&["image", "prune", "-f", "--filter", "until=1h"]).ok();
    assert_eq!(host.my(&["images", "-q"]).ok().lines().count(), 3);
    let said = host.fed(&["image", "prune", "--filter", "label!=keep"], b"y\n").ok();
    assert_eq!(said.matches("deleted: sha256:").count(), 1, "{said}");
    // All of them, but not what a container uses.
    host.my(&["create", "--network", "none", "busybox"]).ok();
    let said = host.my(&["image", "prune", "-a", "-f"]).ok();
    assert_eq!(said.matches("deleted: sha256:").count(), 1, "{said}");
    assert_eq!(host.my(&["images", "--format", "{{.Repository}}"]).ok(), "busybox\n");
    host.my(&["image", "prune", "-f", "--filter", "dangling=perhaps"]).fails(1, &["dangling=perhaps"]);
}

fn archive_with(name: &str) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(0);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    archive.append_data(&mut header, name, &b""[..]).unwrap();
    archive.into_inner().unwrap()
}
