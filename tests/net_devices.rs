//! `linux.netDevices`: devices of the "host", here a network namespace of the test's own, in which keel runs.

mod common;

use common::{Bundle, Census, KEEL};
use serde_json::{Value, json};
use std::process::Command;

/// What the devices look like before, on the host.
const VETH: &str = "ip link add v0 type veth peer name v1 && ip link set v0 mtu 1400 address 02:00:00:00:00:07 && \
    ip address add 192.0.2.7/24 brd 192.0.2.255 dev v0 && ip address add 198.51.100.7/32 dev v0 && \
    ip address add 192.0.2.8/24 dev v0 valid_lft 5000 preferred_lft 5000 && \
    ip address add 2001:db8::7/64 nodad dev v0 && ip link set v0 up && ip link set v1 up";

/// Runs a shell line in a new network namespace; in it `$KEEL` is keel with the bundle's state root.
fn on_a_host(bundle: &Bundle, line: &str) -> common::Said {
    bundle.write();
    let keel = format!("{KEEL} --root {}", bundle.state_root().display());
    let mut command = Command::new("unshare");
    command.args(["--net", "sh", "-c", line]).env("KEEL", keel).env("ID", bundle.id()).current_dir(&bundle.dir);
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    common::Said { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
}

fn moved(args: &[&str], devices: Value) -> Bundle {
    Bundle::new(args).with(|c| c["linux"]["netDevices"] = devices)
}

/// `ip address` of busybox, one line for each fact.
const SHOW: &str = "ip address show";

#[test]
fn a_device_comes_with_its_name_mtu_hardware_address_and_addresses() {
    let bundle = moved(&["sh", "-c", SHOW], json!({"v0": {}}));
    let out = on_a_host(&bundle, &format!("{VETH} && $KEEL run $ID && ! ip link show v0 2>/dev/null")).ok();
    for fact in [
        ": v0@",
        "mtu 1400",
        "UP,",
        "02:00:00:00:00:07",
        "inet 192.0.2.7/24 brd 192.0.2.255 scope global v0",
        "inet 198.51.100.7/32 scope global v0",
        "inet6 2001:db8::7/64 scope global",
    ] {
        assert!(out.contains(fact), "{fact:?} is missing in {out}");
    }
    assert!(!out.contains("192.0.2.8"), "an address with a lifetime is not kept: {out}");
    assert!(!out.contains("v1"), "the other end stays: {out}");
    Census::of(&bundle).nothing_left(&bundle);
}

#[test]
fn a_device_takes_a_new_name() {
    let bundle = moved(&["sh", "-c", SHOW], json!({"v0": {"name": "eth0"}, "v1": {"name": "net%d"}}));
    let out = on_a_host(&bundle, &format!("{VETH} && $KEEL run $ID")).ok();
    assert!(out.contains(": eth0@") && out.contains("inet 192.0.2.7/24 brd 192.0.2.255 scope global eth0"), "{out}");
    assert!(out.contains(": net0@") && !out.contains("v0") && !out.contains("v1"), "{out}");
}

/// Also when another container's namespace is joined, and with a user namespace, in which nobody has rights over the host's.
#[test]
fn devices_go_where_the_container_goes() {
    let joined = moved(&["sh", "-c", SHOW], json!({"v0": {"name": "eth0"}}));
    let path = joined.dir.join("net");
    let joined = joined.with(|c| {
        let namespaces = c["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|n| n["type"] != "network");
        namespaces.push(json!({"type": "network", "path": path}));
    });
    let line = format!(
        "mount --bind {dir} {dir} && mount --make-private {dir} && touch {net} && unshare --net={net} true && {VETH} && $KEEL run $ID && \
         nsenter --net={net} ip address show eth0; code=$?; umount {net}; exit $code",
        dir = joined.dir.display(),
        net = path.display(),
    );
    joined.write();
    let said = on_a_host(&joined, &format!("exec unshare --mount sh -c '{line}'"));
    let out = said.ok();
    assert_eq!(out.matches("inet 192.0.2.7/24").count(), 2, "in the container, and in the namespace afterwards: {out}");

    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    let user = moved(&["sh", "-c", SHOW], json!({"v0": {"name": "eth0"}})).with(|c| {
        c["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        c["linux"]["uidMappings"] = map.clone();
        c["linux"]["gidMappings"] = map.clone();
    });
    let owner = (Some(rustix::fs::Uid::from_raw(100_000)), Some(rustix::fs::Gid::from_raw(100_000)));
    rustix::fs::chown(user.rootfs(), owner.0, owner.1).unwrap();
    let out = on_a_host(&user, &format!("{VETH} && $KEEL run $ID")).ok();
    assert!(out.contains("inet 192.0.2.7/24 brd 192.0.2.255 scope global eth0"), "{out}");
}

/// Refusals leave every device where it is.
#[test]
fn what_cannot_be_moved_is_refused_and_stays() {
    let refused = |devices: Value, words: &[&str]| {
        let bundle = moved(&["true"], devices);
        let line =
            format!("{VETH} && $KEEL run $ID; code=$?; ip link show v0 >/dev/null && ip link show v1 >/dev/null || exit 77; exit $code");
        let err = on_a_host(&bundle, &line).fails(1, words);
        assert_eq!(err.lines().count(), 1, "{err}");
        Census::of(&bundle).nothing_left(&bundle);
    };
    refused(json!({"v0": {}, "v9": {}}), &["find the network device v9", "linux.netDevices.v9", "no such device"]);
    refused(json!({"v0": {}, "v1": {"name": "lo"}}), &["has a device lo already", "linux.netDevices.v1"]);
    refused(json!({"lo": {"name": "lo2"}}), &["move the network device lo", "linux.netDevices.lo", "cannot leave its namespace"]);
    refused(json!({"v0": {"name": "a/b"}}), &["\"a/b\" cannot be the name", "linux.netDevices.v0"]);
    refused(json!({"v0": {"name": "sixteen-bytes-xx"}}), &["cannot be the name"]);
    refused(json!({"v0": {"name": "x%s"}}), &["is no template"]);
    refused(json!({"v%d": {}}), &["a template names no device of the host"]);
    refused(json!({"v0": {"name": "e"}, "v1": {"name": "e"}}), &["two devices are to have the name \"e\""]);
    let bundle = moved(&["true"], json!({"v0": {}})).with(|c| {
        c["linux"]["namespaces"].as_array_mut().unwrap().retain(|n| n["type"] != "network");
    });
    on_a_host(&bundle, "$KEEL run $ID").fails(1, &["no network namespace", "linux.netDevices"]);
}
