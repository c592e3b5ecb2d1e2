//! What a container wrote: kept, rotated, found again by time, followed.

use crate::common::{Said, eventually};
use crate::host::Host;
use std::process::Stdio;

#[test]
fn lines_are_chosen_by_number_and_time() {
    let host = Host::new();
    let id = host.detached(&["busybox", "sh", "-c", "for i in 1 2 3 4 5; do echo line $i; done; echo wrong >&2; printf unfinished"]);
    host.my(&["wait", &id]).ok();
    let all = host.my(&["logs", &id]);
    assert_eq!((all.out.as_str(), all.err.as_str()), ("line 1\nline 2\nline 3\nline 4\nline 5\nunfinished", "wrong\n"));
    assert_eq!(host.my(&["logs", "--tail", "2", &id]).err, "wrong\n");
    assert_eq!(host.my(&["logs", "-n", "0", &id]).ok(), "");
    let stamped = host.my(&["logs", "-t", &id]).ok();
    let first = stamped.lines().next().unwrap().split(' ').next().unwrap();
    assert!(first.len() == 30 && first.ends_with('Z'), "{first}");
    assert_eq!(host.my(&["logs", "--since", "1h", &id]).ok(), all.out);
    assert_eq!(host.my(&["logs", "--since", first, &id]).ok(), all.out);
    assert_eq!(host.my(&["logs", "--until", "1h", &id]).ok(), "");
    assert_eq!(host.my(&["logs", "--since", "2000-01-01T00:00:00", "--until", "2001-01-01", &id]).ok(), "");
    host.my(&["logs", "--since", "whenever", &id]).fails(1, &["whenever"]);
    host.my(&["logs", "--tail", "many", &id]).fails(1, &["many"]);
    host.clear();
}

#[test]
fn the_log_is_rotated_and_followed_to_the_end() {
    let host = Host::new();
    let line = "i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done; read go; echo last";
    let id = host.detached(&["-i", "--log-opt", "max-size=20k", "--log-opt", "max-file=3", "busybox", "sh", "-c", line]);
    eventually("all is written", || host.my(&["logs", "-n", "1", &id]).ok() == "line 1999\n");
    let dir = host.container(&id);
    let sizes: Vec<u64> =
        ["log.json", "log.json.1", "log.json.2"].iter().map(|name| std::fs::metadata(dir.join(name)).unwrap().len()).collect();
    // A chunk that comes at once is written at once.
    assert!(sizes.iter().all(|size| *size > 0) && sizes.iter().sum::<u64>() < 3 * (20 << 10) + 3 * (1 << 17), "{sizes:?}");
    assert!(!dir.join("log.json.3").exists());
    let follow = host.command(&["logs", "-f", "-n", "1", &id]).stdout(Stdio::piped()).spawn().unwrap();
    let mut go = host.command(&["attach", &id]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    std::io::Write::write_all(go.stdin.as_mut().unwrap(), b"go\n").unwrap();
    let said = Said::of(follow.wait_with_output().unwrap()).ok();
    assert!(said == "line 1999\nlast\n" || said == "last\n", "{said}");
    go.wait().unwrap();
    // One driver keeps nothing, and says so.
    let id = host.detached(&["--log-driver", "none", "busybox", "echo", "x"]);
    host.my(&["logs", &id]).fails(1, &["does not support reading"]);
    host.run(&["--log-opt", "nosuch=1", "busybox", "true"]).fails(125, &["nosuch"]);
    host.clear();
}
