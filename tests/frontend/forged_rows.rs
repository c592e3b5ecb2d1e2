//! What an image, a container or a registry writes about itself is shown as docker quotes it: the end of a
//! line forges no row, and an escape sequence gives the terminal no orders.

use crate::host::{Host, tarball};
use std::process::Stdio;

/// A row of `ps` that is not there, and a sequence that clears the screen.
const FORGED: &str = "x\n0123456789ab   busybox   \"sh\"   now   Up   forged\u{1b}[2J\u{9b}2J\u{202e}";

/// No control character but the ends of lines.
#[track_caller]
fn is_plain(text: &str, what: &[&str]) {
    let found = text.chars().find(|c| c.is_control() && *c != '\n' || *c == '\u{202e}');
    assert!(found.is_none(), "{what:?} prints {found:?}: {text:?}");
    assert!(!text.lines().any(|line| line.starts_with("0123456789ab")), "{what:?} shows a forged row: {text}");
}

/// An image whose command, labels, variables, author and history are hostile, and a container of it.
fn hostile(host: &Host) {
    let json = serde_json::to_string(FORGED).unwrap();
    let changes = [format!("CMD [\"sleep\", \"1000\", {json}]"), format!("ENTRYPOINT [\"sh\", \"-c\", \"sleep 1000\", {json}]")];
    let flags: Vec<&str> = changes.iter().flat_map(|change| ["-c", change]).collect();
    host.fed(&[&["import", "-m", FORGED], &flags[..], &["-", "hostile"]].concat(), tarball()).ok();
    let label = format!("evil={FORGED}");
    let env = format!("EVIL={FORGED}");
    host.detached(&["--name", "up", "--label", &label, "-e", &env, "hostile"]);
    host.ok(&["commit", "-m", FORGED, "-a", FORGED, "up", "made"]);
}

#[test]
fn lists_templates_and_streams_show_what_is_hostile_escaped() {
    let host = Host::new();
    hostile(&host);
    let word = serde_json::to_string(FORGED).unwrap();
    let all: &[&[&str]] = &[
        &["ps"],
        &["ps", "-a", "--no-trunc"],
        &["ps", "--format", "{{.Command}}"],
        &["ps", "--no-trunc", "--format", "{{.Command}} {{.Labels}}"],
        &["ps", "--format", "table {{.ID}}\t{{.Labels}}\t{{.Label \"evil\"}}"],
        &["ps", "--no-trunc", "--format", "{{println .Labels}}{{printf \"%s %v\" .Command .Labels}}{{upper .Labels}}"],
        &["ps", "--no-trunc", "--format", "json"],
        &["images"],
        &["images", "--format", "{{json .}}"],
        &["history", "hostile"],
        &["history", "--no-trunc", "--format", "{{.CreatedBy}} {{.Comment}}", "made"],
        &["inspect", "up"],
        &["inspect", "-f", "{{.Config.Cmd}} {{.Config.Labels}} {{.Args}} {{index .Config.Labels \"evil\"}}", "up"],
        &["inspect", "-f", "{{range .Config.Env}}{{println .}}{{end}}{{join .Config.Cmd \"\\n\"}}", "up"],
        &["inspect", "-f", "{{range $k, $v := .Config.Labels}}{{$k}}={{$v}}{{end}}{{with .Args}}{{.}}{{end}}", "up"],
        &["inspect", "-f", "{{json .Config}}", "up"],
        &["image", "inspect", "made"],
        &["image", "inspect", "-f", "{{.Comment}} {{.Author}} {{.Config.Labels}}", "made"],
        &["system", "df", "-v"],
        &["system", "df", "-v", "--format", "{{.Containers}}"],
        &["top", "up"],
        &["container", "inspect", "--format", "{{.Path}} {{.Args}}", "up"],
    ];
    for args in all {
        let said = host.my(args);
        is_plain(&said.out, args);
        is_plain(&said.err, args);
        assert_eq!(said.code, 0, "{args:?}: {said:?}");
    }
    host.ok(&["exec", "up", "true", FORGED]);
    for format in [&[][..], &["--format", "{{.Action}} {{.Actor.Attributes}}"], &["--format", "json"]] {
        let args = [&["events", "--since", "1h", "--until", "0s"], format].concat();
        let said = host.my(&args).ok();
        is_plain(&said, &args);
        assert!(said.contains("forged"), "{said}");
    }
    // JSON still means what was written, and a template's own lines and separators are lines.
    let config: serde_json::Value = serde_json::from_str(&host.ok(&["inspect", "-f", "{{json .Config}}", "up"])).unwrap();
    assert_eq!(config["Labels"]["evil"], FORGED, "{word}");
    assert_eq!(host.ok(&["inspect", "-f", "{{.Name}}{{\"\\n\"}}{{join .Config.Entrypoint \"\\n\"}}", "up"]).lines().count(), 5);
    assert_eq!(host.ok(&["ps", "--format", "{{.Names}}\\n{{println}}end"]), "up\n\nend");
    host.clear();
}

#[test]
fn a_command_is_quoted_as_docker_quotes_it() {
    let host = Host::new();
    host.detached(&["--name", "up", "busybox", "sh", "-c", "sleep 1000 # \"a\\b\"\n\u{1b}"]);
    let command = host.ok(&["ps", "--no-trunc", "--format", "{{.Command}}"]);
    assert_eq!(command, r#""sh -c 'sleep 1000 # \"a\\b\"\n\x1b'""#);
    host.clear();
}

#[test]
fn names_of_files_forge_no_change() {
    let host = Host::new();
    host.running(
        "up",
        &[],
        "touch \"/$(printf 'a\\nA forged')\" \"/$(printf 'b\\033[2J')\"; mkdir /d; mknod \"/d/$(printf 'dev\\033[2J')\" c 1 3",
    );
    let said = host.ok(&["diff", "up"]);
    is_plain(&said, &["diff"]);
    assert!(said.lines().any(|line| line == "A /a\\nA forged") && said.lines().any(|line| line == "A /b\\x1b[2J"), "{said}");
    let said = host.command(&["cp", "up:/d", "got"]).stderr(Stdio::piped()).output().unwrap();
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    is_plain(&said, &["cp"]);
    assert!(said.contains("dev\\x1b[2J was not copied"), "{said}");
    host.clear();
}
