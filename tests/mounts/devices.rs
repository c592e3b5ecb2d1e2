//! The default devices and links, and devices of the configuration.

use crate::common::Bundle;
use serde_json::json;

#[test]
fn the_default_devices_and_links_are_there() {
    let line = "cd /dev; stat -c '%n %F %a %t:%T %u:%g' null zero full random urandom tty; for l in fd stdin stdout stderr ptmx; do readlink $l; done";
    let said = Bundle::new(&["sh", "-c", line]).run().ok();
    let node = |name: &str, numbers: &str| format!("{name} character special file 666 {numbers} 0:0\n");
    let nodes = [("null", "1:3"), ("zero", "1:5"), ("full", "1:7"), ("random", "1:8"), ("urandom", "1:9"), ("tty", "5:0")];
    let expected: String = nodes.iter().map(|(name, numbers)| node(name, numbers)).collect();
    assert_eq!(said, expected + "/proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\npts/ptmx\n");
}

#[test]
fn default_devices_work_and_others_are_denied() {
    let line = "head -c 4 /dev/zero | od -An -tx1; head -c 1 /dev/urandom | wc -c; echo x > /dev/full || echo full; mknod /dev/mem c 1 1 && cat /dev/mem || echo denied";
    let bundle = Bundle::new(&["sh", "-c", line]).with(|c| {
        for set in ["bounding", "effective", "permitted"] {
            c["process"]["capabilities"][set].as_array_mut().unwrap().push(json!("CAP_MKNOD"));
        }
    });
    let said = bundle.run();
    assert_eq!(said.out, " 00 00 00 00\n1\nfull\ndenied\n", "{said:?}");
}

#[test]
fn devices_of_the_configuration_have_their_numbers_modes_and_owners() {
    let bundle = Bundle::new(&["stat", "-c", "%n %F %a %t:%T %u:%g", "/dev/mine", "/dev/deep/block", "/dev/pipe", "/dev/null"]);
    let bundle = bundle.with(|c| {
        c["linux"]["devices"] = json!([
            {"path": "/dev/mine", "type": "c", "major": 10, "minor": 229, "fileMode": 0o640, "uid": 7, "gid": 8},
            {"path": "/dev/deep/block", "type": "b", "major": 7, "minor": 300, "fileMode": 0o600},
            {"path": "/dev/pipe", "type": "p", "fileMode": 0o622, "gid": 9},
            {"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o444, "uid": 1, "gid": 1},
        ]);
    });
    let expected = "/dev/mine character special file 640 a:e5 7:8\n\
                    /dev/deep/block block special file 600 7:12c 0:0\n\
                    /dev/pipe fifo 622 0:0 0:9\n\
                    /dev/null character special file 444 1:3 1:1\n";
    assert_eq!(bundle.run().ok(), expected);
}

#[test]
fn a_device_beyond_the_default_ones_opens_only_if_allowed() {
    for allow in [true, false] {
        let bundle = Bundle::new(&["sh", "-c", "true < /dev/myfuse && echo opened || echo refused"]).with(|c| {
            c["linux"]["devices"] = json!([{"path": "/dev/myfuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o666}]);
            if allow {
                let rule = json!({"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw"});
                c["linux"]["resources"]["devices"].as_array_mut().unwrap().push(rule);
            }
        });
        let said = bundle.run();
        assert_eq!(said.out, if allow { "opened\n" } else { "refused\n" }, "{said:?}");
    }
}
