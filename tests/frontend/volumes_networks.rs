//! `volume` and `network`; what needs a network has a network namespace of its own.

use crate::common::Said;
use crate::host::{Host, MYDOCKER};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

#[test]
fn volumes_are_made_listed_used_and_removed() {
    let host = Host::new();
    assert_eq!(host.ok(&["volume", "create", "--label", "use=test", "data"]), "data");
    assert_eq!(host.ok(&["volume", "create", "data"]), "data", "docker makes it only once");
    let anonymous = host.ok(&["volume", "create"]);
    assert_eq!(anonymous.len(), 64);
    host.ok(&["run", "--name", "writer", "--network", "none", "-v", "data:/data", "busybox", "sh", "-c", "echo kept >/data/file"]);
    assert_eq!(host.ok(&["volume", "ls", "-q", "--filter", "dangling=true"]), anonymous);
    assert_eq!(host.ok(&["volume", "ls", "--filter", "label=use=test"]), "DRIVER    VOLUME NAME\nlocal     data");
    let place = host.ok(&["volume", "inspect", "-f", "{{.Mountpoint}}", "data"]);
    assert_eq!(fs::read_to_string(Path::new(&place).join("file")).unwrap(), "kept\n");
    host.my(&["volume", "rm", "data"]).fails(1, &["volume is in use", &host.inspect("writer", "{{.Id}}")]);
    host.ok(&["rm", "writer"]);
    assert_eq!(host.ok(&["volume", "rm", "data"]), "data");
    host.my(&["volume", "rm", "data"]).fails(1, &["no such volume"]);
    host.ok(&["volume", "rm", "-f", "data"]);
    assert!(host.ok(&["volume", "prune", "-f"]).contains(&anonymous));
    assert_eq!(host.ok(&["volume", "ls", "-q"]), "");
}

#[test]
fn bad_volumes_and_networks_leave_nothing() {
    let host = Host::new();
    for bad in ["../x", "a b", ".hidden", "x"] {
        host.my(&["volume", "create", bad]).fails(1, &["Invalid volume name"]);
    }
    host.my(&["volume", "create", "--opt", "type=nfs", "name"]).fails(1, &["not supported"]);
    host.my(&["volume", "create", "--driver", "nfs", "name"]).fails(125, &["nfs"]);
    host.my(&["volume", "ls", "--filter", "colour=red"]).fails(1, &["invalid filter 'colour'"]);
    host.my(&["volume", "inspect", "none"]).fails(1, &["no such volume"]);
    assert_eq!(host.ok(&["volume", "ls", "-q"]), "");
    host.my(&["network", "create", "--subnet", "10.0.0.1/24", "name"]).fails(1, &["invalid subnet"]);
    host.my(&["network", "create", "--driver", "overlay", "name"]).fails(1, &["overlay"]);
    host.my(&["network", "rm", "bridge"]).fails(1, &["pre-defined network"]);
    host.my(&["network", "rm", "name"]).fails(1, &["network name not found"]);
    assert_eq!(host.ok(&["network", "ls", "--format", "{{.Name}} {{.Driver}}"]), "bridge bridge\nhost host\nnone null");
}

#[test]
fn a_network_that_a_stopped_container_has_is_in_use() {
    let host = Host::new();
    let id = host.ok(&["network", "create", "--label", "a=b", "front"]);
    host.ok(&["network", "create", "back"]);
    host.ok(&["create", "--name", "later", "--network", "front", "busybox", "true"]);
    host.ok(&["network", "connect", "--alias", "db", "back", "later"]);
    host.my(&["network", "connect", "back", "later"]).fails(1, &["already exists in network back"]);
    assert_eq!(host.ok(&["ps", "-a", "--format", "{{.Networks}}"]), "front,back");
    assert_eq!(host.ok(&["network", "prune", "-f"]), "");
    host.ok(&["network", "disconnect", "front", "later"]);
    host.my(&["network", "disconnect", "front", "later"]).fails(1, &["is not connected to network front"]);
    assert_eq!(host.ok(&["network", "ls", "-q", "--filter", "dangling=true"]), id[..12]);
    assert_eq!(host.ok(&["network", "prune", "-f"]), "Deleted Networks:\nfront");
    host.ok(&["network", "disconnect", "back", "later"]);
    assert_eq!(host.inspect("later", "{{.HostConfig.NetworkMode}}"), "none");
    host.ok(&["create", "--name", "sharing", "--network", "host", "busybox", "true"]);
    host.my(&["network", "connect", "back", "sharing"]).fails(1, &["sharing network namespace"]);
}

/// The script runs in a network namespace of its own, which is the host here.
#[test]
fn a_running_container_is_connected_and_disconnected() {
    let host = Host::new();
    let script = r#"
set -e
ip link set lo up
$M network create --subnet 10.99.0.0/24 front >/dev/null
$M network create --subnet 10.98.0.0/24 back >/dev/null
$M run -d --name web --network front -p 127.0.0.1:8099:80 busybox sleep 1000 >/dev/null
$M network connect --ip 10.98.0.9 back web
$M exec web ip -4 addr | grep -o 'inet 10[^/]*'
$M inspect -f '{{range $name, $_ := .NetworkSettings.Networks}}{{$name}} {{end}}' web
$M network inspect -f '{{range .Containers}}{{.Name}} {{.IPv4Address}}{{end}}' back
$M network rm back && exit 9 || true
$M port web
$M port web 80/tcp
$M network disconnect back web
$M exec web ip -4 addr | grep -c 'inet 10'
$M system doctor
$M rm -f web >/dev/null
$M network rm back front
"#;
    let mut command = Command::new("unshare");
    let program = format!("{MYDOCKER} --root {}", host.root().display());
    let said = Said::of(command.args(["--net", "--mount", "sh", "-c", script]).env("M", program).stdin(Stdio::null()).output().unwrap());
    assert!(said.err.contains("active endpoints"), "{said:?}");
    let expected = [
        "inet 10.99.0.2",
        "inet 10.98.0.9",
        "back front ",
        "web 10.98.0.9/24",
        "80/tcp -> 127.0.0.1:8099",
        "127.0.0.1:8099",
        "1",
        "Nothing is amiss.",
        "back",
        "front",
    ];
    assert_eq!(said.ok().lines().collect::<Vec<_>>(), expected);
}
