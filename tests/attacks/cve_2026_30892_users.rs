//! CVE-2026-30892, CVE-2024-40635: `--user 1` became root, a number overflowed to root, a number was looked up as a name.

use super::{Guard, common::Bundle, control_with};
use serde_json::json;
use std::fs;

/// Image files that call the user and group of every number root.
fn hostile_accounts(bundle: &Bundle) {
    fs::write(bundle.rootfs().join("etc/passwd"), "root:x:0:0::/:/bin/sh\n1:x:0:0::/:/bin/sh\nname:x:0:0::/:/bin/sh\n").unwrap();
    fs::write(bundle.rootfs().join("etc/group"), "root:x:0:\n2:x:0:\nname:x:0:\n").unwrap();
}

#[test]
fn exec_user_is_numbers_in_range_or_refused() {
    let bundle = Bundle::new(&["sleep", "60"]);
    let guard = Guard::new(&bundle);
    hostile_accounts(&bundle);
    bundle.start();
    let exec = |user: &str| bundle.keel(&["exec", &format!("--user={user}"), "ID", "sh", "-c", "grep -h -e Uid -e Gid /proc/self/status"]);
    for (user, uid, gid) in [("1", "1", "0"), ("1:2", "1", "2"), ("0", "0", "0"), ("4294967294:7", "4294967294", "7")] {
        let out = exec(user).ok();
        let four = |name: &str, id: &str| format!("{name}:\t{id}\t{id}\t{id}\t{id}\n");
        assert_eq!(out, four("Uid", uid) + &four("Gid", gid), "--user {user}");
    }
    let refused = [
        "",
        ":",
        "1:",
        ":1",
        "01",
        "1:02",
        "-1",
        "1:-1",
        "+1",
        "4294967295",
        "1:4294967295",
        "4294967296",
        "1:4294967296",
        "name",
        "name:name",
        "1:name",
        "1 ",
        " 1",
        "0x1",
        "1:2:3",
        "18446744073709551616",
        "1.0",
        "\u{661}",
    ];
    for user in refused {
        let said = exec(user);
        assert_eq!(said.out, "", "--user {user:?} ran: {said:?}");
        let err = said.fails(255, &["--user", "id"]);
        assert_eq!(err.lines().count(), 1, "{err}");
    }
    guard.unchanged();
    control_with(&bundle, &guard, |peer| {
        peer.said(&[], &["run", "--detach", "ID"]);
        let root = |user: &&str| peer.said(&[], &["exec", &format!("--user={user}"), "ID", "id", "-u"]).out == "0\n";
        ["1", "4294967296", "01", "-1"].iter().filter(|user| root(user)).inspect(|user| println!("--user={user} is root")).count() > 0
    });
}

#[test]
fn the_configurations_user_too() {
    for user in [json!(-1), json!(4_294_967_295_u32), json!(4_294_967_296_u64), json!("1"), json!(1.5), json!("name")] {
        for field in ["uid", "gid"] {
            let bundle = Bundle::new(&["id", "-u"]).with(|config| config["process"]["user"][field] = user.clone());
            let said = bundle.run();
            assert_eq!(said.out, "", "{field} {user} ran: {said:?}");
            said.fails(1, &["process.user"]);
        }
    }
}
