//! CVE-2022-36109: the primary group is one of the supplementary groups, as docker and containerd have it.
//! Else a program that leaves its primary group is one of the "others" to a file that denies this group.

use crate::host::Host;

/// The groups as the kernel has them.
const GROUPS: &str = "sed -n 's/^Groups:[[:space:]]*//p' /proc/self/status";

fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn the_primary_group_is_among_the_supplementary_ones() {
    let host = Host::new();
    for (flags, groups) in [
        (&[][..], "0"),
        (&["-u", "33"], "0"),
        (&["-u", "1:5"], "5"),
        (&["-u", "33:33", "--group-add", "44"], "33 44"),
        (&["-u", "1:5", "--group-add", "5"], "5"),
        (&["--group-add", "7", "--userns", "auto"], "0 7"),
    ] {
        assert_eq!(words(&host.sh(flags, GROUPS)), groups, "run {flags:?}");
    }
    let made = "echo svc:x:33:34::/:/bin/sh >> /etc/passwd; echo svcs:x:50:svc >> /etc/group";
    host.run(&["--name", "made", "busybox", "sh", "-c", made]).ok();
    host.ok(&["commit", "-c", "USER svc", "made", "accounts"]);
    assert_eq!(words(&host.run(&["--rm", "accounts", "sh", "-c", GROUPS]).ok()), "34 50", "an image's USER");
    host.detached(&["--name", "up", "--group-add", "44", "accounts", "sleep", "1000"]);
    for (flags, groups) in
        [(&[][..], "34 44 50"), (&["-u", "svc"], "34 44 50"), (&["-u", "1:5"], "5 44"), (&["-u", "svc:7"], "7 44"), (&["-u", "0"], "0 44")]
    {
        let said = host.my(&[&["exec"], flags, &["up", "sh", "-c", GROUPS]].concat()).ok();
        assert_eq!(words(&said), groups, "exec {flags:?}");
    }
    host.clear();
}
