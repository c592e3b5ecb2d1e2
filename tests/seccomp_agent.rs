//! `SCMP_ACT_NOTIFY`: a seccomp agent gets the listener and the state, answers, and the container sees its answers.

mod common;

use common::{Bundle, Census, eventually};
use libseccomp::{ScmpNotifReq, ScmpNotifResp, ScmpNotifRespFlags};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::{Value, json};
use std::fs;
use std::io::{IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::unix::net::UnixListener;
use std::thread::JoinHandle;

/// What the agent answers to mkdir(2): an errno that mkdir never gives of its own accord.
const ANSWER: i32 = libc::EXFULL;

/// One connection: exactly one state, the listener with its first bytes, then the end.
fn receive(socket: &UnixListener) -> (Value, OwnedFd) {
    let (mut stream, _) = socket.accept().unwrap();
    let mut bytes = [0; 64];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let length = recvmsg(&stream, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC).unwrap().bytes;
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            descriptors.extend(received);
        }
    }
    assert_eq!(descriptors.len(), 1);
    let mut text = bytes[..length].to_vec();
    stream.read_to_end(&mut text).unwrap();
    (serde_json::from_slice(&text).unwrap(), descriptors.remove(0))
}

/// Whether a request has come, and not the end of all who could make one.
fn somebody_waits(listener: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(listener, PollFlags::IN)];
    poll(&mut fds, None).unwrap();
    fds[0].revents().contains(PollFlags::IN)
}

/// Answers `mkdir` with [`ANSWER`] and lets everything else go on, until nobody is left under the filter.
fn answer(listener: &OwnedFd) -> usize {
    let fd = listener.as_raw_fd();
    let mut answered = 0;
    // Older kernels wait for a request though nobody is left who could make one (seen with Linux 6.1), so that is looked at first.
    while somebody_waits(listener)
        && let Ok(request) = ScmpNotifReq::receive(fd)
    {
        let mkdir = [libc::SYS_mkdir, libc::SYS_mkdirat].contains(&i64::from(i32::from(request.data.syscall)));
        let empty = ScmpNotifRespFlags::empty();
        let response =
            if mkdir { ScmpNotifResp::new_error(request.id, -ANSWER, empty) } else { ScmpNotifResp::new_continue(request.id, empty) };
        let _ = response.respond(fd);
        answered += 1;
    }
    answered
}

/// An agent for so many listeners: each one's state, and how many calls it answered.
fn agent(bundle: &Bundle, listeners: usize) -> JoinHandle<Vec<(Value, usize)>> {
    let socket = UnixListener::bind(bundle.dir.join("agent.sock")).unwrap();
    std::thread::spawn(move || {
        let answering: Vec<_> = (0..listeners)
            .map(|_| {
                let (state, listener) = receive(&socket);
                (state, std::thread::spawn(move || answer(&listener)))
            })
            .collect();
        answering.into_iter().map(|(state, thread)| (state, thread.join().unwrap())).collect()
    })
}

fn notified(args: &[&str], names: &[&str]) -> Bundle {
    let bundle = Bundle::new(args);
    let path = bundle.dir.join("agent.sock");
    bundle.with(|c| {
        c["annotations"] = json!({"key": "x".repeat(500)});
        c["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "listenerPath": path,
            "listenerMetadata": "mkdir says no",
            "syscalls": [{"names": names, "action": "SCMP_ACT_NOTIFY"}],
        });
    })
}

const MKDIR: &[&str] = &["mkdir", "mkdirat"];
const LINE: &str = "mkdir /x; test -d /x || echo missing; grep Seccomp: /proc/self/status; ls /proc/self/fd | wc -l";

#[test]
fn run_sends_state_and_listener_and_the_agents_answers_count() {
    for no_new_privileges in [true, false] {
        let bundle = notified(&["sh", "-c", LINE], MKDIR).with(|c| c["process"]["noNewPrivileges"] = json!(no_new_privileges));
        let agent = agent(&bundle, 1);
        let said = bundle.run();
        assert!(said.err.contains("Exchange full"), "{said:?}");
        assert_eq!(said.out, "missing\nSeccomp:\t2\n4\n", "no descriptor of ours is left");
        let (state, answered) = agent.join().unwrap().remove(0);
        assert_eq!(answered, 1);
        assert_eq!(state["ociVersion"], "1.3.0");
        assert_eq!((&state["fds"], &state["metadata"]), (&json!(["seccompFd"]), &json!("mkdir says no")));
        let inner = &state["state"];
        assert_eq!((inner["id"].as_str().unwrap(), &inner["status"]), (bundle.id().as_str(), &json!("creating")));
        assert_eq!((&inner["pid"], &inner["bundle"]), (&state["pid"], &json!(bundle.dir)));
        assert_eq!(inner["annotations"]["key"].as_str().unwrap().len(), 500);
        Census::of(&bundle).nothing_left(&bundle);
    }
}

/// The listener comes with `start`, which loads the filter, and one more with each exec.
#[test]
fn create_start_and_exec_each_send_theirs() {
    let bundle = notified(&["sh", "-c", "mkdir /x; exec sleep 1000"], MKDIR);
    let agent = agent(&bundle, 2);
    bundle.start();
    let pid = bundle.pid();
    eventually("the program's own answer", || fs::read_to_string(bundle.dir.join("err")).unwrap().contains("Exchange full"));
    let said = bundle.keel(&["exec", "ID", "sh", "-c", "mkdir /y"]);
    assert!(said.code == 1 && said.err.contains("Exchange full"), "{said:?}");
    bundle.delete();
    let heard = agent.join().unwrap();
    assert_eq!(heard.iter().map(|(_, answered)| *answered).collect::<Vec<_>>(), [1, 1]);
    assert_eq!((&heard[0].0["pid"], &heard[0].0["state"]["status"]), (&json!(pid), &json!("creating")));
    assert_ne!(heard[1].0["pid"], json!(pid), "that of the exec");
    assert_eq!((&heard[1].0["state"]["pid"], &heard[1].0["state"]["status"]), (&json!(pid), &json!("running")));
    Census::of(&bundle).nothing_left(&bundle);
}

/// As runc does; where the profile has no room for the wait, at `start`.
#[test]
fn create_hands_the_listener_over_where_the_container_may_wait_under_its_filter() {
    for (names, at_create) in [(MKDIR, true), (&["mkdir", "mkdirat", "accept4"], false)] {
        for privileges in [true, false] {
            let bundle = notified(&["sh", "-c", "mkdir /x; exec sleep 1000"], names);
            let bundle = bundle.with(|c| c["process"]["noNewPrivileges"] = json!(privileges));
            let agent = agent(&bundle, 1);
            bundle.create();
            let filtered = fs::read_to_string(format!("/proc/{}/status", bundle.pid())).unwrap().contains("Seccomp:\t2");
            assert_eq!((bundle.status().as_str(), filtered), ("created", at_create));
            bundle.keel(&["start", "ID"]).ok();
            eventually("the answer", || fs::read_to_string(bundle.dir.join("err")).unwrap().contains("Exchange full"));
            bundle.delete();
            let heard = agent.join().unwrap();
            assert_eq!((heard[0].1, heard[0].0["state"]["status"].as_str()), (1, Some("creating")));
            Census::of(&bundle).nothing_left(&bundle);
        }
    }
}

/// What keel does under the filter may be notified too: here everything that it calls but write(2), so that the listener
/// cannot be sent and is copied.
#[test]
fn keels_own_calls_may_be_notified() {
    let calls = ["mkdir", "mkdirat", "sendmsg", "sendto", "recvmsg", "recvfrom", "read", "close", "execve", "capset"];
    for names in [&calls[..], &["mkdir", "mkdirat", "write", "sendto"]] {
        let bundle = notified(&["sh", "-c", "mkdir /x; test -d /x || echo missing >&2"], names);
        let agent = agent(&bundle, 1);
        let said = bundle.run();
        assert!(said.err.contains("Exchange full") && said.err.contains("missing"), "{said:?}");
        assert!(agent.join().unwrap()[0].1 > 2);
    }
}

#[test]
fn a_user_namespace_changes_nothing() {
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    let bundle = notified(&["mkdir", "/x"], MKDIR).with(|c| {
        c["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        c["linux"]["uidMappings"] = map.clone();
        c["linux"]["gidMappings"] = map.clone();
    });
    let owner = (Some(rustix::fs::Uid::from_raw(100_000)), Some(rustix::fs::Gid::from_raw(100_000)));
    rustix::fs::chown(bundle.rootfs(), owner.0, owner.1).unwrap();
    let agent = agent(&bundle, 1);
    assert!(bundle.run().err.contains("Exchange full"));
    assert_eq!(agent.join().unwrap()[0].1, 1);
}

#[test]
fn flags_reach_the_kernel() {
    let bundle = notified(&["mkdir", "/x"], MKDIR).with(|c| {
        let flags = [
            "SECCOMP_FILTER_FLAG_TSYNC",
            "SECCOMP_FILTER_FLAG_LOG",
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
            "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
        ];
        c["linux"]["seccomp"]["flags"] = json!(flags);
    });
    let agent = agent(&bundle, 1);
    assert!(bundle.run().err.contains("Exchange full"));
    assert_eq!(agent.join().unwrap()[0].1, 1);
}

#[test]
fn without_an_agent_nothing_runs() {
    let bundle = notified(&["touch", "/ran"], MKDIR);
    bundle.run().fails(1, &["failed to connect with seccomp agent", "linux.seccomp.listenerPath", "no such file"]);
    assert!(!bundle.state_root().exists());
    std::fs::write(bundle.dir.join("agent.sock"), "").unwrap();
    bundle.run().fails(1, &["it is no socket", "linux.seccomp.listenerPath"]);
    std::fs::remove_file(bundle.dir.join("agent.sock")).unwrap();
    // A socket on which nobody listens any more.
    drop(UnixListener::bind(bundle.dir.join("agent.sock")).unwrap());
    let err = bundle.run().fails(1, &["connect to the seccomp agent", "linux.seccomp.listenerPath", "connection refused"]);
    assert_eq!(err.lines().count(), 1, "{err}");
    Census::of(&bundle).nothing_left(&bundle);
    bundle.keel(&["create", "ID"]).fails(1, &["connect to the seccomp agent", "connection refused"]);
    Census::of(&bundle).nothing_left(&bundle);
    // A container that cannot wait under its filter hears of it at its start.
    let bundle = bundle.with(|c| c["linux"]["seccomp"]["syscalls"][0]["names"] = json!(["mkdir", "accept4"]));
    bundle.create();
    bundle.keel(&["start", "ID"]).fails(1, &["connect to the seccomp agent", "connection refused"]);
    eventually("the end", || bundle.status() == "stopped");
    bundle.delete();
    assert!(!bundle.rootfs().join("ran").exists());
    Census::of(&bundle).nothing_left(&bundle);
}

#[test]
fn a_profile_that_leaves_no_way_for_its_listener_is_refused() {
    let bundle = notified(&["true"], &["sendmsg", "write"]);
    bundle.run().fails(1, &["has to permit sendmsg or write", "linux.seccomp.syscalls"]);
    let bundle = notified(&["true"], MKDIR).with(|c| c["linux"]["seccomp"]["defaultAction"] = json!("SCMP_ACT_NOTIFY"));
    bundle.run().fails(1, &["has to permit sendmsg or write"]);
    let bundle = notified(&["true"], MKDIR).with(|c| c["linux"]["seccomp"]["listenerPath"] = json!(""));
    bundle.run().fails(1, &["listenerPath"]);
    assert!(!bundle.state_root().exists());
}
